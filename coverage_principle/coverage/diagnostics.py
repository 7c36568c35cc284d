"""How far the classes behind a coverage number can be trusted.

Transitive closure can put fragments into one class that contradict each other, or that have
different true values: with little evidence everything hangs together by coincidence. These counts
show it for each slot set and k.
"""

from __future__ import annotations

import numpy as np

from coverage_principle.coverage.dataset import Coverage, SlotSet
from coverage_principle.coverage.evidence import Observations
from coverage_principle.coverage.pairing import disagreeing_pairs, opens, run_lengths
from coverage_principle.data.space import MOST_CODES
from coverage_principle.paths import relative_to_root

#: Contradicting pairs are not counted one by one where that takes more multiply-adds than this.
_MOST_WORK = 10**7


def diagnose(coverage: Coverage) -> dict:
    """JSON-ready counts for each slot set and k; ``docs/coverage.md`` says what each means."""
    noise = {"noise": coverage.noise.rate} if coverage.settings.noise else {}
    return {
        "dataset": coverage.dataset.name,
        "path": relative_to_root(coverage.dataset.path),
        "sha256": coverage.dataset.digests,
        "scope": coverage.scope.name,
        "ground_truth": coverage.settings.ground_truth,
        **noise,
        "training_items": len(coverage.dataset.train),
        "type_0_items": int(coverage.type_0.sum()),
        "by_chance": _by_chance(coverage),
        "by_type": _by_type(coverage),
        "whole_domain": _whole_domain(coverage),
        "slot_sets": [_diagnose(s, coverage.settings.lowest_k) for s in coverage.slot_sets],
    }


def _ks(coverage: Coverage) -> range:
    """Every k that covers anything but training items, from the lowest that was looked at."""
    return range(coverage.settings.lowest_k, coverage.largest_k + 1)


def _by_chance(coverage: Coverage) -> dict[str, int] | None:
    """``type_0`` items that would not be covered if only true equivalences counted, by k."""
    if coverage.true_cutoffs is None:
        return None
    own, true = (c[coverage.type_0] for c in (coverage.cutoffs, coverage.true_cutoffs))
    return {str(k): int(((own >= k) & (true < k)).sum()) for k in _ks(coverage)}


def _by_type(coverage: Coverage) -> dict[str, dict]:
    """Items and covered items of each type that has k-cutoffs in this scope, by k."""
    types = coverage.dataset.test.types[coverage.test_rows]
    return {
        str(label): {
            "items": int((types == label).sum()),
            "covered": {
                str(k): int((coverage.covered(k) & (types == label)).sum()) for k in _ks(coverage)
            },
        }
        for label in np.unique(types)
    }


def _whole_domain(coverage: Coverage) -> dict | None:
    """Inputs, training items among them, and covered inputs by k; None but in the domain scope."""
    if not coverage.scope.holds_domain:
        return None
    cutoffs = coverage.node_cutoffs
    return {
        "inputs": len(cutoffs),
        "covered": {str(k): int((cutoffs >= k).sum()) for k in _ks(coverage)},
    }


def _diagnose(slot_set: SlotSet, lowest_k: int) -> dict:
    equivalence, observations = slot_set.equivalence, slot_set.observations
    disputed, rows, countable = _Disputed(observations), {}, {}
    for k, classes in equivalence.falling(lowest_k):
        rows[k] = _counts(slot_set, classes, disputed)
        # Classes only grow, and the work with them.
        if len(countable) == len(rows) - 1 and _work(observations, classes) <= _MOST_WORK:
            countable[k] = classes
    if countable:
        first, second = _disagreeing(observations, countable[min(countable)])
    for k, classes in countable.items():
        rows[k]["contradicting_pairs"] = int((classes[first] == classes[second]).sum())
    return {
        "slots": list(slot_set.slots),
        "determines": list(slot_set.determined),
        "fragments": observations.num_fragments,
        "contexts": observations.num_contexts,
        "pairs_by_evidence": _histogram(equivalence.pairs),
        "false_pairs_by_evidence": _histogram(equivalence.false_pairs),
        "by_k": {str(k): rows[k] for k in sorted(rows)},
    }


def _counts(slot_set: SlotSet, classes: np.ndarray, disputed: _Disputed) -> dict:
    sizes, mixed = np.bincount(classes), None
    if slot_set.true_values is not None:
        mixed = len(_repeated(classes, slot_set.true_values))
    return {
        "classes": len(sizes),
        "largest_class": int(sizes.max()),
        "class_sizes": _histogram(np.bincount(sizes)),
        "mixed_classes": mixed,
        "contradictory_classes": disputed.count(classes),
        "contradicting_pairs": None,
    }


class _Disputed:
    """Counts the classes with different labels in one context, from one level to the next.

    Classes only grow: one that holds a disputed one is, and one that has not grown is as before.
    """

    def __init__(self, observations: Observations) -> None:
        self._observations = observations
        self._fragments = np.zeros(observations.num_fragments, dtype=bool)
        self._sizes = np.ones(observations.num_fragments, dtype=np.int64)

    def count(self, classes: np.ndarray) -> int:
        seen, sizes = self._observations, np.bincount(classes)
        disputed = np.zeros(len(sizes), dtype=bool)
        disputed[classes[self._fragments]] = True
        open_question = (sizes[classes] > self._sizes) & ~disputed[classes]
        items = open_question[seen.fragment_of]
        groups = _contexts_of_classes(seen, classes)[items]
        disputed[_repeated(groups, seen.label_of[items]) // seen.num_contexts] = True
        self._fragments, self._sizes = disputed[classes], sizes[classes]
        return int(disputed.sum())


def contradicting_pairs(observations: Observations, classes: np.ndarray) -> int | None:
    """Pairs of fragments of one class that disagree in some context; None if too many to count."""
    if _work(observations, classes) > _MOST_WORK:
        return None
    return len(_disagreeing(observations, classes)[0])


def _work(observations: Observations, classes: np.ndarray) -> int:
    """How many fragments of each class meet in each context, squared and summed up.

    Of a class with one fragment nothing is to be counted. Far too much is told by a lower bound.
    """
    items = np.bincount(classes, np.bincount(observations.fragment_of, minlength=len(classes)))
    sizes = np.bincount(classes)
    least = np.square(items[sizes > 1]).sum() / max(observations.num_contexts, 1)
    if least > _MOST_WORK:
        return int(least)
    seen = observations.only((sizes > 1)[classes][observations.fragment_of])
    return int(np.square(run_lengths(np.sort(_contexts_of_classes(seen, classes)))).sum())


def _disagreeing(observations: Observations, classes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The pairs of fragments of one class that disagree in some context: ``(first, second)``."""
    sizes = np.bincount(classes)
    seen = observations.only((sizes > 1)[classes][observations.fragment_of])
    return disagreeing_pairs(seen.fragment_of, _contexts_of_classes(seen, classes), seen.label_of)


def _contexts_of_classes(observations: Observations, classes: np.ndarray) -> np.ndarray:
    """An index of (class, context) for each training item."""
    class_of = classes[observations.fragment_of].astype(np.int64)
    return class_of * observations.num_contexts + observations.context_of


def _repeated(groups: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The groups that come with more than one distinct value."""
    base = int(values.max(initial=0)) + 1
    if (int(groups.max(initial=0)) + 1) * base >= MOST_CODES:
        distinct, number = np.unique(groups, return_inverse=True)
        return distinct[_repeated(number, values)]
    pairs = np.sort(groups.astype(np.int64) * base + values)
    found = pairs[opens(pairs)] // base
    return np.unique(found[1:][found[1:] == found[:-1]])


def _histogram(counts: np.ndarray | None) -> dict[str, int] | None:
    """``{"value": counts[value]}`` of those that occur."""
    if counts is None:
        return None
    return {str(value): int(n) for value, n in enumerate(counts) if n}
