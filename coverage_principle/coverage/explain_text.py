"""An explanation in sentences, for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from coverage_principle.coverage.dataset import Coverage, SlotSet
from coverage_principle.coverage.explanation import Explanation, Pair, Step
from coverage_principle.coverage.substitution import EVERY_K


def explanation_lines(coverage: Coverage, explanation: Explanation) -> list[str]:
    """The explanation in sentences, for a terminal."""
    decode = coverage.dataset.codec.decode
    text = decode(explanation.item)
    if explanation.answer is not None:
        text += f" -> {decode([explanation.answer])}"
    if explanation.cutoff == EVERY_K:
        return [f"{text} is a training item: covered at every k."]
    k = explanation.cutoff
    lines = [f"{text} is covered up to k = {k}." if k else f"{text} is not covered at any k."]
    for number, step in enumerate(explanation.steps, start=1):
        lines += ["", *_step_lines(coverage, step, number, explanation)]
    lines += ["", *_lacking_lines(coverage, explanation)]
    return lines


def _step_lines(coverage: Coverage, step: Step, number: int, explanation: Explanation) -> list[str]:
    decode, names = coverage.dataset.codec.decode, coverage.dataset.graph.inputs
    last = number == len(explanation.steps)
    positions = step.slot_set.equivalence.positions
    old, new = (_values([item[i] for i in positions]) for item in (step.before, step.after))
    lines = [
        f"{number}. At {_values(step.slot_set.slots)}, {old} acts like {new}:",
        f"   {decode(step.before)} -> {decode(step.after)}"
        + (" (a training item)" if last else ""),
    ]
    rest = [name for i, name in enumerate(names) if i not in positions]
    for pair in step.pairs:
        lines.append(
            f"     {_values(pair.first)} ~ {_values(pair.second)}: equal answers in all "
            f"{_counted(pair.agreeing, 'context')} that they share ({_contexts(rest, pair)})"
            + _chance(step.slot_set, pair)
        )
    return lines


def _lacking_lines(coverage: Coverage, explanation: Explanation) -> list[str]:
    decode, k = coverage.dataset.codec.decode, explanation.cutoff + 1
    lines = [f"What is missing at k = {k}:"]
    for near in explanation.lacking:
        pair, where = near.pair, _values(near.slot_set.slots)
        if pair.disagreeing:
            state = (
                f"contradict each other in {pair.disagreeing} of "
                f"{pair.agreeing + pair.disagreeing} shared contexts: never equivalent"
            )
        else:
            state = (
                f"agree in {_counted(pair.agreeing, 'shared context')}, {k - pair.agreeing} more "
                "needed"
            )
        lines.append(
            f"   {where}: {_values(pair.first)} by {_values(pair.second)} would reach the training "
            f"item {decode(near.trained)}; they {state}"
        )
    if not explanation.lacking:
        lines.append("   no single substitution would reach a training item, whatever its evidence")
    unseen = [_values(s.slots) for s, count in explanation.seen_fragments if count == 0]
    if unseen:
        lines.append(f"   never seen in training: its fragments at {', '.join(unseen)}")
    return lines


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")


def _chance(slot_set: SlotSet, pair: Pair) -> str:
    if not pair.by_chance:
        return ""
    return f", by chance: their true {' and '.join(slot_set.determined)} differ"


def _contexts(names: Sequence[str], pair: Pair) -> str:
    return ", ".join(
        " ".join(f"{name}={value}" for name, value in zip(names, context, strict=True))
        + f" -> {answer}"
        for context, answer in pair.shared
    )


def _values(values: Sequence[object]) -> str:
    return f"({', '.join(map(str, values))})"
