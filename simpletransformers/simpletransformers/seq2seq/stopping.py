"""At which steps a run saves, and when it ends before its last: rules that are off by default."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from simpletransformers.errors import InputError
from simpletransformers.seq2seq.args import Seq2SeqArgs

#: A group's name may hold ``=`` (``type_0/k_cutoff=2``); what comes after the last ``>=`` counts.
_CONDITION = re.compile(r"([^<>:\s]+)(?::(\w+))?\s*>=\s*(\d+\.?\d*|\.\d+)$")
_SCORES = ("loss", "answer_accuracy", "exact_match", "free_answer_accuracy", "free_exact_match")

#: The published rule counts from the first evaluation at which this group is this accurate.
FIT_GROUP, FIT_ACCURACY = "train_inferred", 0.99

Scores = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class StopRules:
    """``conditions`` are (group, score, value), all to be reached; ``patience`` counts epochs."""

    conditions: tuple[tuple[str, str, float], ...]
    patience: float

    @classmethod
    def parse(cls, text: str | None, patience: float) -> StopRules:
        """From ``"type_0>=0.99"``, or several with commas. ``InputError`` if it is not that.

        ``"type_0:free_exact_match>=0.99"`` looks at another score than ``answer_accuracy``.
        """
        found = []
        for part in text.split(",") if text else ():
            match = _CONDITION.match(part.strip())
            if match is None or not 0 <= float(match[3]) <= 1:
                raise InputError(
                    f"`stop_when` {text!r} is not of the form GROUP>=ACCURACY or "
                    "GROUP:SCORE>=ACCURACY with an accuracy of 0 to 1, such as type_0>=0.99; "
                    "several are separated by commas"
                )
            found.append((match[1], match[2] or "answer_accuracy", float(match[3])))
        return cls(tuple(found), patience)

    def __bool__(self) -> bool:
        return bool(self.conditions) or self.patience > 0

    def check(self, groups: Mapping[str, object], *, several: bool) -> None:
        """``InputError`` if a rule is about a group that is not evaluated, or a score.

        ``several``: more than one token is produced, so that there are scores of free generation.
        """
        scores = [name for name in _SCORES[1:] if several or not name.startswith("free")]
        for _, score, _ in self.conditions:
            if score not in scores:
                raise InputError(
                    f"`stop_when` looks at {score}, but the scores are {', '.join(scores)}"
                )
        wanted = [("`stop_when`", group) for group, _, _ in self.conditions]
        wanted += [("`patience_epochs_after_fit`", FIT_GROUP)] if self.patience > 0 else []
        for rule, group in wanted:
            if group not in groups:
                raise InputError(
                    f"{rule} needs the accuracy of {group}, but the evaluated groups are "
                    f"{', '.join(groups) or 'none'}"
                )

    def fits(self, scores: Scores) -> bool:
        """Whether the training items are learned, from which on patience counts."""
        return self.patience > 0 and scores[FIT_GROUP]["answer_accuracy"] >= FIT_ACCURACY

    def reason(self, scores: Scores, epochs_since_fit: float | None) -> str | None:
        """Why to stop now, in words; None to go on."""
        met = []
        for group, score, value in self.conditions:
            if scores[group][score] >= value:
                name = "" if score == "answer_accuracy" else f"{score} "
                met.append(f"{group} {name}>= {value:g}")
        if met and len(met) == len(self.conditions):
            return " and ".join(met)
        if epochs_since_fit is None or epochs_since_fit <= self.patience:
            return None
        fit = f"{FIT_GROUP} reached {FIT_ACCURACY:g}"
        return f"{self.patience:g} epochs since {fit} without a stop condition met"


class SaveSteps:
    """Which steps of a run of ``total`` steps leave a checkpoint."""

    def __init__(self, args: Seq2SeqArgs, total: int) -> None:
        self._args, n = args, args.save_log_spaced
        # 10^(i / n), rounded: n for each factor of ten.
        powers = range(math.ceil(n * math.log10(max(total, 1))) + 1) if n else ()
        self._log_spaced = {round(10 ** (i / n)) for i in powers}

    def at(self, step: int) -> bool:
        """Whether to save after ``step`` steps."""
        return self._regular(step) or self._special(step)

    def outdated(self, step: int) -> int | None:
        """With ``keep``: the regular checkpoint that the one of ``step`` replaces, if any."""
        old = step - self._args.keep * self._args.save_steps
        replaces = self._args.keep and self._regular(step) and old > 0 and not self._special(old)
        return old if replaces else None

    def _regular(self, step: int) -> bool:
        return self._args.save_steps > 0 and step % self._args.save_steps == 0

    def _special(self, step: int) -> bool:
        args = self._args
        dense = step <= args.save_step_dense and step % args.save_step_dense_interval == 0
        fine = any(start <= step < start + 1000 for start in args.save_fine_step_list)
        return dense or fine or step in self._log_spaced
