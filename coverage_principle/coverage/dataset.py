"""Coverage of a data set's test items: every k-cutoff, and what follows from them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from coverage_principle.coverage.equivalence import Equivalence, functional_equivalence
from coverage_principle.coverage.evidence import Observations, Observer, parse_slot_sets, slot_sets
from coverage_principle.coverage.in_parts import budget
from coverage_principle.coverage.linking import components
from coverage_principle.coverage.noise import NO_NOISE, PairNoise
from coverage_principle.coverage.scopes import EVERY_K, SCOPES, Scope
from coverage_principle.coverage.settings import AUTO, EVERYTHING, CoverageSettings
from coverage_principle.data import Dataset, evaluate, records_with
from coverage_principle.data.space import numbered
from coverage_principle.errors import InputError
from coverage_principle.reprs import one_line
from coverage_principle.tasks import TRAIN_INFERRED
from simpletransformers.memory import require
from simpletransformers.words import counted

if TYPE_CHECKING:
    import networkx

logger = logging.getLogger(__name__)

#: Called with the share of the whole that is done, 0 to 1, and what is being done.
Progress = Callable[[float, str], None]

#: A k-sweep has at least this many rows, as the published ones have.
_ROWS = 20


@dataclass(frozen=True)
class SlotSet:
    """One slot set of a data set: what was observed at it, and what follows.

    ``determined`` names the intermediate values whose fragment is just these slots, and
    ``true_values`` ``(fragments,)`` tells apart what they really are: an index of their
    combinations, None where there are no such values or the data set does not tell. ``required``
    ``(fragments,)`` tells apart those that are never equivalent, whatever their evidence; None
    where evidence alone counts. ``observations`` is None where the slot set was weighed in parts;
    ``counts`` then is what ``diagnose`` says of it.
    """

    slots: tuple[str, ...]
    observations: Observations | None
    equivalence: Equivalence
    determined: tuple[str, ...]
    true_values: np.ndarray | None
    required: np.ndarray | None
    counts: dict | None = None

    __repr__ = one_line


@dataclass(frozen=True)
class Coverage:
    """The coverage of a data set's test items for every k from ``settings.lowest_k`` up.

    ``node_cutoffs`` are the k-cutoffs of the scope's nodes (0: not covered at any such k;
    ``EVERY_K``: a training item). ``true_cutoffs`` are those of the items at ``test_rows`` that
    would be left if only fragments of intermediate values counted, and only pairs with equal true
    values; None if the tables do not tell. ``noise`` has the rate of wrong labels that was assumed,
    and what a disagreement costs.
    """

    dataset: Dataset
    settings: CoverageSettings
    scope: Scope
    slot_sets: list[SlotSet]
    node_cutoffs: np.ndarray
    true_cutoffs: np.ndarray | None
    noise: PairNoise = NO_NOISE

    def __repr__(self) -> str:
        first, total = self.settings.lowest_k, int(self.type_0.sum())
        counts = {k: int(self.covered(k)[self.type_0].sum()) for k in range(first, first + 3)}
        covered = ", ".join(f"{count:,} covered at k = {k}" for k, count in counts.items())
        of = f"{self.dataset.name}, {self.scope.name} scope"
        return f"<Coverage of {of}: {total:,} type_0 items, {covered}>"

    @property
    def test_rows(self) -> np.ndarray:
        """Places in ``test.json`` of the items that have a k-cutoff in this scope."""
        return self.scope.test_rows

    @cached_property
    def cutoffs(self) -> np.ndarray:
        """The k-cutoffs of the items at ``test_rows``: ``(n,)`` int32."""
        return self.node_cutoffs[self.scope.test_nodes]

    @cached_property
    def type_0(self) -> np.ndarray:
        """Which of ``test_rows`` are of ``type_0``: ``(n,)`` bool. The k-sweep counts these."""
        return self.dataset.test.types[self.test_rows] == "type_0"

    @property
    def restricted(self) -> bool:
        """Whether the setting ``fragments`` leaves slot sets out."""
        every = slot_sets(len(self.dataset.graph.inputs))
        return not self.settings.ground_truth and len(self.slot_sets) < len(every)

    def covered(self, k: int) -> np.ndarray:
        """Which of the items at ``test_rows`` are covered at ``k``: ``(n,)`` bool."""
        return self.covered_nodes(k)[self.scope.test_nodes]

    def covered_nodes(self, k: int) -> np.ndarray:
        """Which of the scope's nodes are covered at ``k``, training items among them: bool."""
        lowest = self.settings.lowest_k
        if not isinstance(k, int | np.integer) or k < lowest:
            raise InputError(
                f"`k` {k!r} must be a whole number of at least {lowest}, from which on "
                "coverage was determined"
            )
        return self.node_cutoffs >= k

    @cached_property
    def largest_k(self) -> int:
        """The largest k at which an item that is not a training item is covered; 0 if none is."""
        return int(self.cutoffs.max(where=self.cutoffs != EVERY_K, initial=0))

    @property
    def last_row(self) -> int:
        """The last k of the sweep: ``max_k``, or else all that covers anything, 20 at least."""
        return self.settings.max_k or max(_ROWS, self.largest_k)

    def sweep(self) -> dict[str, list]:
        """``{"1": [covered, percent], ...}`` of ``type_0`` items, up to ``last_row``."""
        total = int(self.type_0.sum())
        rows = {}
        for k in range(1, self.last_row + 1):
            count = int(self.covered(k)[self.type_0].sum())
            rows[str(k)] = [count, round(100 * count / total, 2) if total else 0.0]
        return rows

    def annotated(self) -> Sequence[dict]:
        """Every test record plus ``"coverage"`` and, after a k-sweep, ``"k_cutoff"``.

        ``train_inferred`` items are covered and have no k-cutoff (null). A ``type_0`` item that is
        also a training item is covered at every k: its k-cutoff is ``last_row``, the largest k of
        the sweep, which is also the most that any item gets. Items of other types are not nodes
        in the dataset scope: not covered, and no k-cutoff was determined (null). Single facts come
        last; they are covered if they are training facts, and have no k-cutoff.
        """
        test = self.dataset.test
        # Single facts are of another length than compositions: nothing is substituted in them.
        trained = set(self.dataset.train.facts.calls)
        facts = [call in trained for call in test.facts.calls]
        covered = test.types == TRAIN_INFERRED
        covered[self.test_rows] = self.covered(self.settings.min_evidence)
        found = np.concatenate([covered, np.array(facts, dtype=bool)]).astype(np.int64)
        columns: dict[str, tuple[list, np.ndarray]] = {"coverage": ([False, True], found)}
        if self.settings.k_sweep:
            cutoffs = np.full(len(found), -1, dtype=np.int64)
            cutoffs[self.test_rows] = np.minimum(self.cutoffs, self.last_row)
            distinct, numbers = np.unique(cutoffs, return_inverse=True)
            columns["k_cutoff"] = [None if k < 0 else k for k in distinct.tolist()], numbers
        return records_with(test.all_records, columns)

    def graph(self, k: int) -> networkx.Graph:
        """The substitution graph of the dataset scope at ``k``, with every edge.

        Nodes are input texts, with ``answer`` (text), ``split`` ("train", or the type of a test
        item), ``covered``, ``k_cutoff`` (as in ``annotated``) and ``component`` (a number). An edge
        carries ``slots``, the slot set at which a fragment is substituted, and ``evidence``, the
        largest k at which the two fragments are in one class; where several slot sets join the same
        items, those of the firmest evidence, of equal ones the first. ``InputError`` in another
        scope, or if there are too many edges.
        """
        import networkx

        scope, dataset, covered = self.scope, self.dataset, self.covered_nodes(k)
        inputs, answers = scope.items()
        found = [scope.pairs(slot_set.equivalence, k) for slot_set in self.slot_sets]
        first, second, evidence = (
            np.concatenate([np.empty(0, np.int64), *(edges[i] for edges in found)])
            for i in range(3)
        )
        names = [",".join(slot_set.slots) for slot_set in self.slot_sets]
        slots = np.repeat(np.arange(len(found)), [len(edges[0]) for edges in found])
        split = np.full(scope.count, "train", dtype=object)
        split[scope.test_nodes] = self.dataset.test.types[scope.test_rows]
        split[scope.trained] = "train"
        columns = {
            "answer": [dataset.text([a], [dataset.graph.answer]) for a in answers.tolist()],
            "split": split.tolist(),
            "covered": covered.tolist(),
            "k_cutoff": np.minimum(self.node_cutoffs, self.last_row).tolist(),
            "component": components(scope.count, first, second).tolist(),
        }
        texts = dataset.codec.decode_rows(dataset.ids(inputs, dataset.graph.inputs))
        graph = networkx.Graph()
        for text, *values in zip(texts, *columns.values(), strict=True):
            graph.add_node(text, **dict(zip(columns, values, strict=True)))
        for i in np.lexsort((-slots, evidence)).tolist():  # the firmest is added last, and stays
            a, b = texts[first[i]], texts[second[i]]
            graph.add_edge(a, b, slots=names[slots[i]], evidence=int(evidence[i]))
        return graph


class Way:
    """How the slot sets of a data set are weighed: whole, one after the other."""

    def known(self, dataset: Dataset, *, required: bool) -> Collection[str]:
        """The intermediate values that the tables tell of every training item.

        With ``required``, ``InputError`` says why there are no tables.
        """
        self._values = _intermediate_values(dataset, required=required)
        return self._values

    def weigh(self, wanted: Wanted, steps: Steps) -> list[SlotSet]:
        """The slot sets that are wanted; ``InputError`` if they need more memory than there is."""
        dataset, values = wanted.dataset, self._values
        require(
            budget.whole(len(dataset.train), dataset.slot_sizes, wanted.positions),
            f"coverage of {counted(len(dataset.train), 'training item')}",
            "give `memory` less than that, and it is found in parts",
        )
        labels, required = dataset.train.answers, _combinations(values, wanted.equal)
        if required is not None:
            # As part of the label, a different true value contradicts wherever contexts meet. With
            # noise a contradiction is only a cost, but such a pair disagrees in every context:
            # without an agreement there is no evidence.
            labels = labels.astype(np.int64) * (int(required.max(initial=0)) + 1) + required
        observer = Observer(dataset.train.inputs, labels, dataset.slot_sizes)
        return [
            _weigh(dataset, observer.at(slots), values, required, wanted.noise, steps)
            for slots in wanted.positions
        ]


@dataclass(frozen=True)
class Wanted:
    """Slot sets that are to be weighed, at ``positions``.

    ``equal`` names values in which equivalent fragments must agree. ``lowest`` is the least k that
    is looked at.
    """

    dataset: Dataset
    positions: Sequence[tuple[int, ...]]
    noise: PairNoise
    equal: tuple[str, ...]
    lowest: int


def dataset_coverage(
    dataset: Dataset,
    settings: CoverageSettings = EVERYTHING,
    progress: Progress = lambda *_: None,
    way: Way | None = None,
) -> Coverage:
    """Determine the coverage of a data set's test items.

    With ``ground_truth`` only the fragment of the task's first function counts, and fragments with
    different true values of it are never equivalent; evidence is still counted on the training
    items. ``way`` says how the slot sets are weighed (``in_parts`` has another one).
    ``InputError`` if that is asked for and the first function reads all slots, or the tables
    are missing or lack a fact that a training item uses; if ``fragments`` names no slot sets of the
    task; if the scope is too large; or if there is but one answer and ``noise`` says that some are
    wrong.
    """
    graph, way = dataset.graph, way or Way()
    if settings.ground_truth:
        graph.require_bridges("`ground_truth` compares true")
    known = way.known(dataset, required=settings.ground_truth)
    positions, equal = parse_slot_sets(settings.fragments, graph.inputs), ()
    if settings.ground_truth:
        positions, equal = _first_fragment(dataset, known), (graph.functions[0].output,)
    scope = SCOPES[settings.scope](dataset)
    noise = _pair_noise(dataset, settings, positions)
    steps = Steps(progress, len(positions) + 2)
    found = way.weigh(Wanted(dataset, positions, noise, equal, settings.lowest_k), steps)

    def connect(chosen: Sequence[Equivalence], what: str) -> np.ndarray:
        how = {"lowest": settings.lowest_k, "progress": steps.part(what)}
        return scope.k_cutoffs(chosen, **how)

    cutoffs, true_cutoffs = connect([s.equivalence for s in found], "substitution graph"), None
    true = [s.equivalence.of_true_pairs for s in found if s.true_values is not None]
    if true and not settings.ground_truth:
        true_cutoffs = connect(true, "the same with true values")[scope.test_nodes]
    return Coverage(dataset, settings, scope, found, cutoffs, true_cutoffs, noise)


def _pair_noise(
    dataset: Dataset, settings: CoverageSettings, positions: list[tuple[int, ...]]
) -> PairNoise:
    """What a disagreement costs by the setting ``noise``; ``auto`` looks at these slot sets."""
    rate = settings.noise
    if rate == AUTO:
        from coverage_principle.coverage.graded import estimated_noise

        rate = estimated_noise(dataset, positions)
    if not rate:
        return NO_NOISE
    (answers,) = dataset.sizes([dataset.graph.answer])
    return PairNoise(float(rate), answers)


class Steps:
    """Turns the progress of parts into that of the whole."""

    def __init__(self, progress: Progress, parts: int) -> None:
        self._progress, self._parts, self._begun = progress, parts, 0

    def part(self, what: str) -> Callable[[float], None]:
        """The next part: a function of the share of it that is done."""
        number = min(self._begun, self._parts - 1)
        self._begun += 1
        return lambda share: self._progress((number + share) / self._parts, what)

    def parts(self, count: int) -> Callable[[float, str], None]:
        """The next parts: a function of the share of them that is done, and of what is told."""
        number = self._begun
        self._begun += count
        return lambda share, what: self._progress((number + share * count) / self._parts, what)


def _weigh(
    dataset: Dataset,
    observations: Observations,
    values: Mapping[str, np.ndarray],
    required: np.ndarray | None,
    noise: PairNoise,
    steps: Steps,
) -> SlotSet:
    """Weigh the pairs of one slot set; ``required`` are values in which they must agree."""
    graph = dataset.graph
    slots = tuple(graph.inputs[i] for i in observations.positions)
    determined = tuple(name for name in values if graph.fragment(name) == slots)

    def by_fragment(of_items: np.ndarray | None) -> np.ndarray | None:
        if of_items is None:
            return None
        found = np.empty(observations.num_fragments, dtype=np.int32)
        found[observations.fragment_of] = of_items
        return found

    true_values = by_fragment(_combinations(values, determined))
    equivalence = functional_equivalence(
        observations,
        dataset.slot_sizes,
        true_values=true_values,
        noise=noise,
        progress=steps.part(evidence_at(slots)),
    )
    return SlotSet(slots, observations, equivalence, determined, true_values, by_fragment(required))


def evidence_at(slots: Sequence[str]) -> str:
    """What is told of a slot set while it is weighed."""
    return f"evidence at ({', '.join(slots)})"


def _combinations(values: Mapping[str, np.ndarray], names: Sequence[str]) -> np.ndarray | None:
    """An index of the combination of these values of each training item; None without names."""
    if not names:
        return None
    found = np.zeros(1, dtype=np.int64)
    for name in names:
        column, count = values[name], int(values[name].max(initial=0)) + 1
        found = numbered(found * count + column, (int(found.max(initial=0)) + 1) * count)[1]
        found = found.astype(np.int64, copy=False)
    return found


def _intermediate_values(dataset: Dataset, *, required: bool) -> dict[str, np.ndarray]:
    """Those intermediate values of the training items that the data set's tables give in full."""
    if (tables := known_tables(dataset, required=required)) is None:
        return {}
    values = evaluate(dataset.graph, tables, dataset.train.inputs)
    return {name: values[name] for name in dataset.graph.bridges if values[name].min() >= 0}


def known_tables(dataset: Dataset, *, required: bool) -> Sequence[np.ndarray] | None:
    """The functions' tables, None where the task has no intermediate values or there are none.

    With ``required``, ``InputError`` says why there are none.
    """
    if not dataset.graph.bridges:
        return None
    try:
        return dataset.tables()
    except InputError as error:
        if required:
            raise
        logger.info("nothing is said of true values: %s", error)
        return None


def _first_fragment(dataset: Dataset, known: Collection[str]) -> list[tuple[int, ...]]:
    """The one slot set of ``ground_truth``: what the task's first function reads."""
    graph = dataset.graph
    function = graph.functions[0]
    positions = graph.fragment_positions(function.output)
    if len(positions) == len(graph.inputs):
        raise InputError(
            f"`ground_truth` compares what {function.name} reads in different contexts, but in "
            f"task {graph.name} it reads every slot, which leaves no context"
        )
    if function.output not in known:
        file = dataset.path / f"atomic_facts_{function.name}.json"
        raise InputError(
            f"{file} lacks facts that training items use; `ground_truth` needs the whole table"
        )
    return [positions]
