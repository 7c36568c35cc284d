"""Coverage of a data set's test items, in one of two scopes.

``dataset``, as published: the nodes of the substitution graph are the training items and the
``type_0`` test items; answers of test items take part, as an edge needs equal answers. Items of the
other types hold a call that no training item makes and are not nodes. ``domain``, the formal
definition: every input is a node and no answer is used, so test items of all types have a k-cutoff.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from coverage_principle.coverage.domain import domain_cutoffs
from coverage_principle.coverage.equivalence import Equivalence, functional_equivalence
from coverage_principle.coverage.evidence import Observations, observe, slot_sets
from coverage_principle.coverage.substitution import EVERY_K, Items, k_cutoffs
from coverage_principle.data import TRAIN_INFERRED, Dataset, evaluate
from coverage_principle.data.space import encode_rows
from coverage_principle.errors import InputError

logger = logging.getLogger(__name__)

#: Called with the share of the whole that is done, 0 to 1, and what is being done.
Progress = Callable[[float, str], None]

SCOPES = ("dataset", "domain")

#: A k-sweep has at least this many rows, as the published ones have.
_ROWS = 20


@dataclass(frozen=True)
class SlotSet:
    """One slot set of a data set: what was observed at it, and what follows.

    ``determined`` names the intermediate values whose fragment is just these slots, and
    ``true_values`` ``(fragments,)`` tells apart what they really are: an index of their
    combinations, None where there are no such values or the data set does not tell.
    """

    slots: tuple[str, ...]
    observations: Observations
    equivalence: Equivalence
    determined: tuple[str, ...]
    true_values: np.ndarray | None


@dataclass(frozen=True)
class Coverage:
    """The coverage of a data set's test items for every k from ``lowest_k`` up.

    ``test_rows`` are the places in ``test.json`` of the items that have a k-cutoff in this scope
    (``type_0``; in the domain scope all but ``train_inferred``), ``cutoffs`` their k-cutoffs (0:
    not covered at any such k; ``EVERY_K``: a training item). ``true_cutoffs`` are those that would
    be left if only fragments of intermediate values counted, and only pairs with equal true values;
    None if the tables do not tell. ``items`` are the nodes of the dataset scope: training items,
    then these test items. ``domain`` holds the k-cutoff of every input in the domain scope.
    """

    dataset: Dataset
    scope: str
    ground_truth: bool
    lowest_k: int
    slot_sets: list[SlotSet]
    test_rows: np.ndarray
    cutoffs: np.ndarray
    true_cutoffs: np.ndarray | None
    items: Items | None = None
    domain: np.ndarray | None = None
    restricted: bool = False  # not all slot sets were asked for

    @cached_property
    def type_0(self) -> np.ndarray:
        """Which of ``test_rows`` are of ``type_0``: ``(n,)`` bool. The k-sweep counts these."""
        return self.dataset.test.types[self.test_rows] == "type_0"

    def covered(self, k: int) -> np.ndarray:
        """Which of the items at ``test_rows`` are covered at ``k``: ``(n,)`` bool."""
        if k < self.lowest_k:
            raise ValueError(f"coverage was determined from k = {self.lowest_k} up, not at {k}")
        return self.cutoffs >= k

    @cached_property
    def largest_k(self) -> int:
        """The largest k at which an item that is not a training item is covered; 0 if none is."""
        return int(self.cutoffs.max(where=self.cutoffs != EVERY_K, initial=0))

    def last_row(self, max_k: int | None = None) -> int:
        """The last k of the sweep: ``max_k``, or else all that covers anything, 20 at least."""
        return max_k or max(_ROWS, self.largest_k)

    def sweep(self, max_k: int | None = None) -> dict[str, list]:
        """``{"1": [covered, percent], ...}`` of ``type_0`` items, up to ``last_row``."""
        total = int(self.type_0.sum())
        rows = {}
        for k in range(1, self.last_row(max_k) + 1):
            count = int(self.covered(k)[self.type_0].sum())
            rows[str(k)] = [count, round(100 * count / total, 2) if total else 0.0]
        return rows

    def annotated(
        self, min_evidence: int, *, k_cutoff: bool = False, max_k: int | None = None
    ) -> list[dict]:
        """Every test record plus ``"coverage"`` and, if asked for, ``"k_cutoff"``.

        ``train_inferred`` items are covered and have no k-cutoff (null). A ``type_0`` item that is
        also a training item is covered at every k: its k-cutoff is ``last_row``, the largest k of
        the sweep, which is also the most that any item gets. Items of other types are no nodes in
        the dataset scope: not covered, and no k-cutoff was determined (null).
        """
        covered = self.dataset.test.types == TRAIN_INFERRED
        covered[self.test_rows] = self.covered(min_evidence)
        cutoffs: list[int | None] = [None] * len(covered)
        known = np.minimum(self.cutoffs, self.last_row(max_k)).tolist()
        for row, cutoff in zip(self.test_rows.tolist(), known, strict=True):
            cutoffs[row] = cutoff
        records = []
        for record, is_covered, cutoff in zip(
            self.dataset.test.records, covered.tolist(), cutoffs, strict=True
        ):
            record = {**record, "coverage": is_covered}
            if k_cutoff:
                record["k_cutoff"] = cutoff
            records.append(record)
        return records


def dataset_coverage(
    dataset: Dataset,
    *,
    scope: str = "dataset",
    ground_truth: bool = False,
    fragments: Sequence[tuple[int, ...]] | None = None,
    lowest_k: int = 1,
    progress: Progress = lambda *_: None,
) -> Coverage:
    """Determine the coverage of a data set's test items.

    ``fragments`` are the slot sets (0-based) whose fragments may be substituted, all by default.
    With ``ground_truth`` only the fragment of the task's first function counts, and fragments with
    different true values of it are never equivalent; evidence is still counted on the training
    items. ``InputError`` if that is asked for and the first function reads all slots, or the tables
    are missing or lack a fact that a training item uses.
    """
    graph, train = dataset.graph, dataset.train
    values = _intermediate_values(dataset, required=ground_truth)
    positions = list(dict.fromkeys(fragments or slot_sets(len(graph.inputs))))
    equal: tuple[str, ...] = ()
    if ground_truth:
        positions, equal = _first_fragment(dataset, values), (graph.functions[0].output,)
    steps = _Steps(progress, len(positions) + 2)
    found = [_weigh(dataset, slots, values, steps, equal=equal) for slots in positions]
    test = dataset.test
    wanted = test.types == "type_0" if scope == "dataset" else test.types != TRAIN_INFERRED
    test_rows = np.flatnonzero(wanted)
    nodes = _dataset_nodes(dataset, test_rows) if scope == "dataset" else None

    def connect(chosen: list[SlotSet], what: str) -> tuple[np.ndarray, np.ndarray | None]:
        equivalences = [slot_set.equivalence for slot_set in chosen]
        if nodes is not None:
            cutoffs = k_cutoffs(nodes, equivalences, lowest=lowest_k, progress=steps.part(what))
            return cutoffs[len(train) :], None
        everywhere = domain_cutoffs(
            train.inputs,
            equivalences,
            dataset.num_tokens,
            lowest=lowest_k,
            progress=steps.part(what),
        )
        return everywhere[encode_rows(test.inputs[test_rows], dataset.num_tokens)], everywhere

    cutoffs, domain = connect(found, "substitution graph")
    true_cutoffs = None
    if not ground_truth and any(slot_set.true_values is not None for slot_set in found):
        known = [
            _weigh(
                dataset, slot_set.observations.positions, values, None, equal=slot_set.determined
            )
            for slot_set in found
            if slot_set.true_values is not None
        ]
        true_cutoffs, _ = connect(known, "the same with true values")
    return Coverage(
        dataset,
        scope,
        ground_truth,
        lowest_k,
        found,
        test_rows,
        cutoffs,
        true_cutoffs,
        nodes,
        domain,
        restricted=not ground_truth and len(positions) < len(slot_sets(len(graph.inputs))),
    )


class _Steps:
    """Turns the progress of parts into that of the whole."""

    def __init__(self, progress: Progress, parts: int) -> None:
        self._progress, self._parts, self._begun = progress, parts, 0

    def part(self, what: str) -> Callable[[float], None]:
        """The next part: a function of the share of it that is done."""
        number = min(self._begun, self._parts - 1)
        self._begun += 1
        return lambda share: self._progress((number + share) / self._parts, what)


def _dataset_nodes(dataset: Dataset, test_rows: np.ndarray) -> Items:
    train, test = dataset.train, dataset.test
    return Items(
        np.concatenate([train.inputs, test.inputs[test_rows]]),
        np.concatenate([train.answers, test.answers[test_rows]]),
        np.arange(len(train) + len(test_rows)) < len(train),
        len(dataset.codec.vocabulary),
    )


def _weigh(
    dataset: Dataset,
    positions: tuple[int, ...],
    values: Mapping[str, np.ndarray],
    steps: _Steps | None,
    *,
    equal: Sequence[str] = (),
) -> SlotSet:
    """Observe one slot set and weigh its pairs; ``equal`` names values in which they must agree."""
    graph, train = dataset.graph, dataset.train
    num_tokens = len(dataset.codec.vocabulary)
    slots = tuple(graph.inputs[i] for i in positions)
    determined = tuple(name for name in values if graph.fragment(name) == slots)
    labels, combination = train.answers, None
    if determined:
        columns = np.column_stack([values[name] for name in determined])
        _, combination = np.unique(columns, axis=0, return_inverse=True)
        combination = combination.reshape(-1)
    for name in equal:
        # As part of the label, a different true value contradicts wherever contexts meet.
        labels = labels.astype(np.int64) * num_tokens + values[name]
        _, labels = np.unique(labels, return_inverse=True)
    observations = observe(train.inputs, labels, positions, num_tokens)
    true_values = None
    if combination is not None:
        true_values = np.empty(observations.num_fragments, dtype=np.int32)
        true_values[observations.fragment_of] = combination
    progress = steps.part(f"evidence at ({', '.join(slots)})") if steps else lambda _: None
    equivalence = functional_equivalence(
        observations, num_tokens, true_values=true_values, progress=progress
    )
    return SlotSet(slots, observations, equivalence, determined, true_values)


def _intermediate_values(dataset: Dataset, *, required: bool) -> dict[str, np.ndarray]:
    """Those intermediate values of the training items that the data set's tables give in full."""
    try:
        tables = dataset.tables()
    except InputError as error:
        if required:
            raise
        logger.info("nothing is said of true values: %s", error)
        return {}
    values = evaluate(dataset.graph, tables, dataset.train.inputs)
    return {name: values[name] for name in dataset.graph.bridges if values[name].min() >= 0}


def _first_fragment(dataset: Dataset, values: Mapping[str, np.ndarray]) -> list[tuple[int, ...]]:
    """The one slot set of ``--ground_truth``: what the task's first function reads."""
    graph = dataset.graph
    function = graph.functions[0]
    positions = graph.fragment_positions(function.output)
    if len(positions) == len(graph.inputs):
        raise InputError(
            f"--ground_truth compares what {function.name} reads in different contexts, but in "
            f"task {graph.name} it reads all {len(positions)} slots, which leaves no context"
        )
    if function.output not in values:
        file = dataset.path / f"atomic_facts_{function.name}.json"
        raise InputError(
            f"{file} lacks facts that training items use; --ground_truth needs the whole table"
        )
    return [positions]
