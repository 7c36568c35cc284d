"""The learner: kernel ridge regression in which fragments that act alike make items alike.

Nothing is known of any model; trained on the items alone, it makes many of the mistakes that a
Transformer makes, because it also has a Transformer's weakness: items that merely look alike.

The kernel. The slots are parted in two in every possible way, I and J, and two items are as alike
as both of their parts are, summed over these bipartitions with weights w:

    K(x, x') = sum over {I, J} of  w(I, J) S_I(x_I, x'_I) S_J(x_J, x'_J) / (h + g)^2
    S_I(a, a') = R_I(a, a') + h * share of equal tokens(a, a') + g
    R_I(a, a') = agreements(a, a') / sqrt((n(a)^2 / C + s) (n(a')^2 / C + s))

Here n(a) is in how many of the slot set's C contexts a fragment was seen, so that n(a) n(a') / C is
how many contexts two of them may be expected to share, and R_I is about the rate at which they
agree, shrunk towards 0 by s further contexts. R_I is left out where the training set shows no equal
fragments (``Equality.nats`` below 1). The weights w go with the square root of what it does show at
I and J together; bipartitions where that is nothing have none, unless all are such.

Every factor is a product of sparse feature vectors, so K = F F' with an explicit sparse matrix F of
items and features, K is positive semi-definite by construction, and (K + ridge) alpha = Y (one-hot
answers) is solved by conjugate gradients without any matrix of items by items.

An example: with two slots there is one bipartition. If two fragments of the first slot were seen in
one context each, of two in all, the same one and with the same answer, then R between them is
1 / (1^2 / 2 + s).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sparse
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from coverage_principle.coverage.equality import SHOWN, count_pairs, fit_equality
from coverage_principle.coverage.evidence import Agreements, Observations, observe, slot_sets
from coverage_principle.coverage.noise import PairNoise
from coverage_principle.coverage.settings import LearnerSettings
from coverage_principle.data.space import distinct, encode_rows, sizes_at
from coverage_principle.reprs import one_line

#: Entries of one block of features, of behaviours at both parts or at one of them: more, and the
#: contexts of behaviours are thinned out.
_MOST_ENTRIES, _MOST_ALONE = 1 << 22, 1 << 25
#: Numbers of one block of feature sums (features x answers that are solved together).
_MOST_NUMBERS = 1 << 27
_ROUNDS, _RESIDUAL = 200, 5e-3
#: Training items that say how sure the learner may be.
_HELD_OUT = 2000
#: What was chosen by worlds that results are not reported on.
DEFAULT = LearnerSettings()


@dataclass(frozen=True)
class _Rows:
    """Sparse rows: entry e is ``value[e]`` of feature ``code[e]`` in ``row[e]``; rows sorted."""

    row: np.ndarray
    code: np.ndarray
    value: np.ndarray
    codes: int

    def begins(self, rows: int) -> np.ndarray:
        return np.searchsorted(self.row, np.arange(rows + 1))

    def times(self, other: _Rows, rows: int) -> _Rows:
        """All products of an entry of this and one of ``other`` in the same row."""
        begins = other.begins(rows)
        counts = np.diff(begins)[self.row]
        mine = np.repeat(np.arange(len(self.row)), counts)
        within = np.arange(len(mine)) - np.repeat(np.cumsum(counts) - counts, counts)
        theirs = begins[self.row[mine]] + within
        return _Rows(
            self.row[mine],
            self.code[mine].astype(np.int64) * other.codes + other.code[theirs],
            self.value[mine] * other.value[theirs],
            self.codes * other.codes,
        )


class _Side:
    """One slot set: its base features (equal tokens, anything), and its fragments' behaviours."""

    def __init__(
        self,
        observations: Observations,
        sizes: tuple[int, ...],
        settings: LearnerSettings,
        nats: float,
    ) -> None:
        self.observations, self._sizes = observations, sizes
        self._settings, self.nats = settings, nats
        seen = observations
        self._contexts = seen.num_contexts
        self.behaviour = seen.incidence(seen.with_label(seen.context_of)).astype(np.float32)
        self.behaviour_context = self._context_of_columns()
        contexts_of = np.bincount(seen.fragment_of, minlength=seen.num_fragments)
        expected = contexts_of**2 / max(self._contexts, 1)
        self._scale = (1 / np.sqrt(expected + settings.shrinkage)).astype(np.float32)

    @property
    def shows(self) -> bool:
        """Whether the training set shows equal fragments here."""
        return self.nats >= SHOWN

    def _context_of_columns(self) -> np.ndarray:
        """The context of each column of ``behaviour``."""
        seen = self.observations
        columns, first = np.unique(seen.with_label(seen.context_of), return_index=True)
        return seen.context_of[first] if len(columns) else np.empty(0, np.int32)

    def base(self, inputs: np.ndarray) -> _Rows:
        """A feature for the token of each slot, and one that every item has."""
        settings, slots = self._settings, list(self.observations.positions)
        width = len(slots) + 1
        offsets = np.cumsum([0, *(self._sizes[slot] for slot in slots)])
        codes = np.full((len(inputs), width), offsets[-1], dtype=np.int64)
        codes[:, :-1] = inputs[:, slots] + offsets[:-1]
        values = np.full((len(inputs), width), np.sqrt(settings.overlap / len(slots)), np.float32)
        values[:, -1] = np.sqrt(settings.background)
        row = np.repeat(np.arange(len(inputs)), width)
        return _Rows(row, codes.reshape(-1), values.reshape(-1), int(offsets[-1]) + 1)

    def behaviours(self, inputs: np.ndarray, share: float = 1.0) -> _Rows:
        """A feature for each (context, answer) of each item's fragment, in a share of contexts."""
        seen, behaviour = self.observations, self.behaviour
        values = behaviour.data * np.repeat(self._scale, np.diff(behaviour.indptr))
        behaviour = sparse.csr_array((values, behaviour.indices, behaviour.indptr), behaviour.shape)
        if share < 1:
            kept = self._some_contexts(share)[self.behaviour_context].astype(np.float32)
            behaviour = (behaviour @ sparse.diags_array(kept)).tocsr()
            behaviour = behaviour * np.float32(1 / np.sqrt(share))
            behaviour.eliminate_zeros()
        positions = list(seen.positions)
        codes = encode_rows(inputs[:, positions], sizes_at(self._sizes, positions))
        found = np.searchsorted(seen.codes, codes)
        found[found == len(seen.codes)] = 0
        known = np.flatnonzero(seen.codes[found] == codes)
        chosen = behaviour[found[known]].tocoo()
        order = np.argsort(chosen.row, kind="stable")
        return _Rows(
            known[chosen.row[order]],
            chosen.col[order].astype(np.int64),
            chosen.data[order],
            behaviour.shape[1],
        )

    def _some_contexts(self, share: float) -> np.ndarray:
        """A mask of about a share of the contexts, independent of that of another slot set."""
        return np.random.default_rng(self.observations.positions).random(self._contexts) < share

    @property
    def entries(self) -> float:
        """Behaviour features of a training item, on average."""
        sizes = np.bincount(self.observations.fragment_of)
        return float((sizes.astype(float) ** 2).sum() / max(sizes.sum(), 1))


class _Features:
    """Items as sparse vectors: those of the items that it was made with, and those of others."""

    def __init__(self, parted: Sequence[tuple[float, _Side, _Side]], inputs: np.ndarray) -> None:
        self._parted = parted
        count = len(inputs)
        self._thin = [
            (self._alone(a, b, count), self._alone(b, a, count), self._share(a, b, count))
            for _, a, b in parted
        ]
        self._known: list[np.ndarray] = []
        self.own = self._matrix(inputs)

    @staticmethod
    def _share(first: _Side, second: _Side, count: int) -> float:
        entries = count * first.entries * second.entries
        return min(1.0, (_MOST_ENTRIES / max(entries, 1)) ** 0.5)

    @staticmethod
    def _alone(side: _Side, rest: _Side, count: int) -> float:
        entries = count * side.entries * (len(rest.observations.positions) + 1)
        return min(1.0, _MOST_ALONE / max(entries, 1))

    def of(self, inputs: np.ndarray) -> sparse.csr_array:
        """Items x features; what no training item has is left out."""
        return self._matrix(inputs)

    def _matrix(self, inputs: np.ndarray) -> sparse.csr_array:
        blocks, number, fresh = [], 0, not self._known
        for (weight, *sides), shares in zip(self._parted, self._thin, strict=True):
            for rows in self._products(*sides, shares, inputs):
                if fresh:
                    known, column = np.unique(rows.code, return_inverse=True)
                    self._known.append(known)
                    kept = np.ones(len(column), dtype=bool)
                else:
                    known = self._known[number]
                    column = np.searchsorted(known, rows.code)
                    column[column == len(known)] = 0
                    kept = known[column] == rows.code if len(known) else column < 0
                values = rows.value[kept] * np.float32(np.sqrt(weight))
                shape = (len(inputs), len(known))
                entries = (values, (rows.row[kept], column[kept]))
                blocks.append(sparse.csr_array(entries, shape=shape))
                number += 1
        if not blocks:  # a single slot cannot be parted: all items are alike
            return sparse.csr_array(np.ones((len(inputs), 1), dtype=np.float32))
        return sparse.hstack(blocks, format="csr")

    @staticmethod
    def _products(
        first: _Side, second: _Side, shares: tuple[float, float, float], inputs: np.ndarray
    ) -> Iterator[_Rows]:
        count = len(inputs)
        base = first.base(inputs), second.base(inputs)
        yield base[0].times(base[1], count)
        # Codes begin with the base: items of one context lie together (``_nearby``), and so do
        # their features, which is what the solver's speed hangs on.
        if first.shows:
            yield base[1].times(first.behaviours(inputs, shares[0]), count)
        if second.shows:
            yield base[0].times(second.behaviours(inputs, shares[1]), count)
        if first.shows and second.shows:
            one, other = (side.behaviours(inputs, shares[2]) for side in (first, second))
            yield one.times(other, count)


@dataclass(frozen=True)
class Learned:
    """What the learner makes of queries: ``scores`` and ``probability``, both ``(n, answers)``.

    The probabilities are a softmax of ``sharpness`` times the scores.
    """

    scores: np.ndarray
    sharpness: float

    __repr__ = one_line

    @property
    def probability(self) -> np.ndarray:
        return softmax(self.sharpness * self.scores, axis=1)

    @property
    def answer(self) -> np.ndarray:
        """The answers with the highest score, ``(n,)``; of equal ones the first."""
        return self.scores.argmax(axis=1)


class Learner:
    """The learner, trained on ``inputs`` ``(n, slots)``, distinct, with ``answers`` ``(n,)``.

    ``num_answers`` is how many there can be, ``sizes`` those of the slots' alphabets, ``positions``
    the slot sets whose fragments may be alike (None: all). ``noise`` is the rate of wrong labels,
    for the weights of bipartitions alone: the ridge takes wrong labels in its stride.
    """

    def __init__(
        self,
        inputs: np.ndarray,
        answers: np.ndarray,
        *,
        num_answers: int,
        sizes: Sequence[int],
        positions: Sequence[tuple[int, ...]] | None = None,
        noise: float = 0.0,
        settings: LearnerSettings = DEFAULT,
        progress: Callable[[float], None] = lambda _: None,
    ) -> None:
        sizes = tuple(sizes)
        sides: dict[tuple[int, ...], _Side] = {}
        for own in slot_sets(len(sizes)):
            seen = observe(inputs, answers, own, sizes)
            nats = 0.0
            if positions is None or own in positions:
                nats = fit_equality(
                    count_pairs(Agreements(seen)), PairNoise(noise, num_answers)
                ).nats
            sides[own] = _Side(seen, sizes, settings, nats)
        bipartitions = _bipartitions(sides, settings)
        order = _nearby(bipartitions, inputs)
        self._features = _Features(bipartitions, inputs[order])
        about = answers[order], num_answers, settings.ridge
        self._alpha = _solve(self._features.own, *about, progress)

    def scores(self, queries: np.ndarray) -> np.ndarray:
        """The scores of every answer: ``(n, answers)``."""
        asked = self._features.of(queries)
        used = distinct(asked.indices)  # sums of all features may not fit into memory
        return asked[:, used] @ (self._features.own[:, used].T @ self._alpha)


def learn(
    inputs: np.ndarray,
    answers: np.ndarray,
    queries: np.ndarray,
    *,
    progress: Callable[[float], None] = lambda _: None,
    **options: object,
) -> Learned:
    """What a learner trained on ``inputs`` makes of ``queries`` ``(n, slots)``.

    ``options`` are those of ``Learner``. Its probabilities are as sharp as is likeliest for every
    tenth training item (at most 2,000), which a first learner is trained without. Where these are
    less than 1 % of the items, the first learner is the only one.
    """
    count = min(_HELD_OUT, len(inputs) // 10)
    if count == 0:
        return Learned(Learner(inputs, answers, progress=progress, **options).scores(queries), 1.0)
    held = np.zeros(len(inputs), dtype=bool)
    held[np.linspace(0, len(inputs) - 1, count).astype(np.int64)] = True
    again = count > len(inputs) / 100
    first = Learner(
        *(inputs[~held], answers[~held]),
        progress=lambda share: progress(share / (2 if again else 1)),
        **options,
    )
    sharpness = likeliest_sharpness(first.scores(inputs[held]), answers[held])
    if again:
        halfway = {"progress": lambda share: progress((1 + share) / 2)}
        first = Learner(inputs, answers, **halfway, **options)
    return Learned(first.scores(queries), sharpness)


def likeliest_sharpness(scores: np.ndarray, answers: np.ndarray) -> float:
    """The factor of scores under whose softmax the answers are likeliest."""
    rows = np.arange(len(answers))

    def loss(log_factor: float) -> float:
        return -log_softmax(np.exp(log_factor) * scores, axis=1)[rows, answers].sum()

    return float(np.exp(minimize_scalar(loss, bounds=(-2, 6), method="bounded").x))


def _bipartitions(
    sides: dict[tuple[int, ...], _Side], settings: LearnerSettings
) -> list[tuple[float, _Side, _Side]]:
    """The bipartitions of the slots that have a weight: ``(weight, one part, the other)``."""
    slots = range(max(map(len, sides), default=0) + 1)
    found = []
    for positions, side in sides.items():
        if 0 in positions:
            rest = sides[tuple(slot for slot in slots if slot not in positions)]
            shown = max(side.nats, rest.nats) >= SHOWN
            found.append((np.sqrt(side.nats + rest.nats) if shown else 0.0, side, rest))
    total = sum(weight for weight, _, _ in found)
    if total == 0:
        found, total = [(1.0, side, rest) for _, side, rest in found], len(found)
    norm = total * (settings.overlap + settings.background) ** 2
    return [(weight / norm, side, rest) for weight, side, rest in found if weight > 0]


def _nearby(bipartitions: Sequence[tuple[float, _Side, _Side]], inputs: np.ndarray) -> np.ndarray:
    """An order of items in which those with most in common are near each other.

    By their context in the bipartition of the largest weight.
    """
    if not bipartitions:
        return np.arange(len(inputs))
    _, *sides = max(bipartitions, key=lambda one: one[0])
    context = min(sides, key=lambda side: side.nats)
    return np.argsort(context.observations.fragment_of, kind="stable")


def _solve(
    features: sparse.csr_array,
    answers: np.ndarray,
    num_answers: int,
    ridge: float,
    progress: Callable[[float], None],
) -> np.ndarray:
    """``(items, num_answers)`` alpha with (F F' + ridge) alpha = Y, the one-hot ``answers``.

    By conjugate gradients, a block of answers at a time, each answer with its own step.
    """
    turned = features.T.tocsr()
    block = max(1, min(num_answers, _MOST_NUMBERS // max(*features.shape, 1)))
    found = np.zeros((len(answers), num_answers), dtype=np.float32)
    for begin in range(0, num_answers, block):
        own = np.arange(begin, min(begin + block, num_answers))
        part = (answers[:, None] == own).astype(np.float32)
        alpha, residual = np.zeros_like(part), part.copy()
        direction = residual.copy()
        size = first = (residual**2).sum(axis=0)
        for _ in range(_ROUNDS):
            if np.all(size <= _RESIDUAL**2 * np.maximum(first, 1e-30)):
                break
            image = features @ (turned @ direction) + ridge * direction
            step = size / np.maximum((direction * image).sum(axis=0), 1e-30)
            alpha += step * direction
            residual -= step * image
            before, size = size, (residual**2).sum(axis=0)
            direction = residual + size / np.maximum(before, 1e-30) * direction
        found[:, begin : begin + block] = alpha
        progress((begin + part.shape[1]) / num_answers)
    return found
