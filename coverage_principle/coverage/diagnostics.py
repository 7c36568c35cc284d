"""How far the classes behind a coverage number can be trusted.

Transitive closure can put fragments into one class that contradict each other, or that have
different true values: with little evidence everything hangs together by coincidence. These counts
show it for each slot set and k.
"""

from __future__ import annotations

import numpy as np

from coverage_principle.coverage.dataset import Coverage, SlotSet
from coverage_principle.coverage.evidence import Observations, row_blocks
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
    equivalence = slot_set.equivalence
    rows = {}
    for k in equivalence.levels[::-1].tolist():
        if k >= lowest_k:
            rows[str(k)] = _counts(slot_set, equivalence.classes(k))
    return {
        "slots": list(slot_set.slots),
        "determines": list(slot_set.determined),
        "fragments": slot_set.observations.num_fragments,
        "contexts": slot_set.observations.num_contexts,
        "pairs_by_evidence": _histogram(equivalence.pairs),
        "false_pairs_by_evidence": _histogram(equivalence.false_pairs),
        "by_k": rows,
    }


def _counts(slot_set: SlotSet, classes: np.ndarray) -> dict:
    sizes = np.bincount(classes)
    observations = slot_set.observations
    observations = observations.only(sizes[classes[observations.fragment_of]] > 1)
    mixed = None
    if slot_set.true_values is not None:
        mixed = len(_repeated(classes, slot_set.true_values))
    contexts = _contexts_of_classes(observations, classes)
    disputed = _repeated(contexts, observations.label_of)
    return {
        "classes": len(sizes),
        "largest_class": int(sizes.max()),
        "class_sizes": _histogram(np.bincount(sizes)),
        "mixed_classes": mixed,
        "contradictory_classes": len(np.unique(disputed // observations.num_contexts)),
        "contradicting_pairs": contradicting_pairs(observations, classes),
    }


def contradicting_pairs(observations: Observations, classes: np.ndarray) -> int | None:
    """Pairs of fragments of one class that disagree in some context; None if too many to count."""
    contexts = _contexts_of_classes(observations, classes)
    together = observations.incidence(contexts)
    if np.square(np.bincount(together.indices).astype(np.int64)).sum() > _MOST_WORK:
        return None
    agreement = observations.incidence(observations.with_label(contexts))
    total = 0
    for begin, end in row_blocks(together):
        shared = together[begin:end] @ together.T
        disagreeing = shared - agreement[begin:end] @ agreement.T
        total += np.count_nonzero(disagreeing.data)
    return int(total) // 2  # every pair was seen from both sides, and none disagrees with itself


def _contexts_of_classes(observations: Observations, classes: np.ndarray) -> np.ndarray:
    """An index of (class, context) for each training item."""
    class_of = classes[observations.fragment_of].astype(np.int64)
    return class_of * observations.num_contexts + observations.context_of


def _repeated(groups: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The groups that come with more than one distinct value."""
    base = int(values.max(initial=0)) + 1
    pairs = np.unique(groups.astype(np.int64) * base + values)
    found, times = np.unique(pairs // base, return_counts=True)
    return found[times > 1]


def _histogram(counts: np.ndarray | None) -> dict[str, int] | None:
    """``{"value": counts[value]}`` of those that occur."""
    if counts is None:
        return None
    return {str(value): int(n) for value, n in enumerate(counts) if n}
