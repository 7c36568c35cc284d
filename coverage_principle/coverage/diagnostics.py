"""How far the classes behind a coverage number can be trusted.

Transitive closure can put fragments into one class that contradict each other, or that have
different true values: with little evidence everything hangs together by coincidence. These counts
show it for each slot set and k.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from coverage_principle.coverage.dataset import Coverage, SlotSet
from coverage_principle.coverage.evidence import Observations
from coverage_principle.coverage.pairing import disagreeing_pairs, run_lengths
from coverage_principle.data.space import MOST_CODES, distinct, opens, repeated
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
    if slot_set.counts is not None:
        return slot_set.counts
    return counted(slot_set, lowest_k, lambda: [slot_set.observations])


def counted(
    slot_set: SlotSet,
    lowest_k: int,
    blocks: Callable[[], Iterable[Observations]],
    shrink: int = 1,
) -> dict:
    """The counts of one slot set, JSON-ready.

    ``blocks`` gives its observations; they may come in several parts, of which each has all
    training items of its contexts. ``shrink`` is as for ``agreeing_pairs``.
    """
    equivalence = slot_set.equivalence
    disputed, rows, countable = _Disputed(len(equivalence.codes)), {}, {}
    for k, classes in equivalence.falling(lowest_k):
        # Classes only grow, and the work of counting pairs with them.
        counting, work = len(countable) == len(rows), 0
        disputed.grow(classes)
        for seen in blocks():
            disputed.look_at(seen)
            work += _work(seen, classes) if counting and work <= _MOST_WORK else 0
        rows[k] = _counts(slot_set, classes, disputed)
        if counting and work <= _MOST_WORK:
            countable[k] = classes
    if countable:
        first, second = _disagreeing(blocks(), countable[min(countable)], shrink)
    for k, classes in countable.items():
        rows[k]["contradicting_pairs"] = int((classes[first] == classes[second]).sum())
    return {
        "slots": list(slot_set.slots),
        "determines": list(slot_set.determined),
        "fragments": len(equivalence.codes),
        "contexts": sum(seen.num_contexts for seen in blocks()),
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
        "contradictory_classes": disputed.count(),
        "contradicting_pairs": None,
    }


class _Disputed:
    """Counts the classes with different labels in one context, from one level to the next.

    Classes only grow: one that holds a disputed one is, and one that has not grown is as before.
    """

    def __init__(self, fragments: int) -> None:
        self._classes = np.arange(fragments)
        self._disputed = np.zeros(fragments, dtype=bool)

    def grow(self, classes: np.ndarray) -> None:
        """The next level, whose blocks of observations are to be looked at."""
        sizes, disputed = np.bincount(classes), np.zeros(int(classes.max()) + 1, dtype=bool)
        disputed[classes[self._disputed[self._classes]]] = True
        self._grown = sizes[classes] > np.bincount(self._classes)[self._classes]
        self._classes, self._disputed = classes, disputed

    def look_at(self, seen: Observations) -> None:
        open_question = self._grown & ~self._disputed[self._classes]
        items = open_question[seen.fragment_of]
        groups = _contexts_of_classes(seen, self._classes)[items]
        found = _repeated(groups, seen.label_of[items]) // max(seen.num_contexts, 1)
        self._disputed[found] = True

    def count(self) -> int:
        return int(self._disputed.sum())


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


def _disagreeing(
    blocks: Iterable[Observations], classes: np.ndarray, shrink: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """The pairs of fragments of one class that disagree in some context: ``(first, second)``."""
    several, found = (np.bincount(classes) > 1)[classes], [np.empty(0, dtype=np.int64)]
    for seen in blocks:
        seen = seen.only(several[seen.fragment_of])
        if not len(seen.fragment_of):
            continue
        contexts = _contexts_of_classes(seen, classes)
        items = seen.fragment_of, contexts, seen.label_of
        first, second = disagreeing_pairs(*items, shrink)
        found.append(first.astype(np.int64) * len(classes) + second)
    return np.divmod(distinct(np.concatenate(found)), len(classes))


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
    return repeated(found)


def _histogram(counts: np.ndarray | None) -> dict[str, int] | None:
    """``{"value": counts[value]}`` of those that occur."""
    if counts is None:
        return None
    return {str(value): int(n) for value, n in enumerate(counts) if n}
