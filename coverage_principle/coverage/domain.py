"""Coverage of the whole domain (``--scope domain``): every input is a node, no answer is used.

Inputs that differ by a k-equivalent fragment are joined, whatever they give. As every input is a
node, a chain of equivalent fragments can be walked in any context, so joining whole classes is the
same as joining pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from coverage_principle.coverage.equivalence import Equivalence
from coverage_principle.coverage.grouping import components
from coverage_principle.coverage.substitution import EVERY_K
from coverage_principle.data.space import encode_rows
from coverage_principle.errors import InputError

#: Inputs that are held at once, and edges that are added at once.
MOST_INPUTS = 1 << 28
_EDGES = 1 << 23


def domain_cutoffs(
    observed: np.ndarray,
    equivalences: Sequence[Equivalence],
    num_tokens: int,
    *,
    lowest: int = 1,
    progress: Callable[[float], None] = lambda _: None,
) -> np.ndarray:
    """The k-cutoff of every input: ``(num_tokens ** slots,)`` int32, by ``encode_rows``.

    ``observed`` is ``(n, slots)``, the training inputs, with values below ``num_tokens``. 0 where
    no k from ``lowest`` up covers an input, ``EVERY_K`` for training inputs. ``InputError`` if
    there are more than ``MOST_INPUTS`` inputs.
    """
    slots = observed.shape[1]
    count = num_tokens**slots
    if count > MOST_INPUTS:
        raise InputError(
            f"--scope domain holds every input, but {num_tokens} tokens in {slots} slots make "
            f"{count:,} of them and {MOST_INPUTS:,} is the limit; use --scope dataset"
        )
    trained = encode_rows(observed, num_tokens)
    component = np.arange(count, dtype=np.int32)
    cutoffs = np.zeros(count, dtype=np.int32)
    cutoffs[trained] = EVERY_K
    levels = [equivalence.levels for equivalence in equivalences]
    every_level = np.unique(np.concatenate([*levels, np.empty(0, np.int32)]))[::-1]
    every_level = every_level[every_level >= lowest]
    for done, k in enumerate(every_level, start=1):
        for equivalence, own in zip(equivalences, levels, strict=True):
            if k in own:
                for first, second in _edges(equivalence, int(k), num_tokens, slots):
                    _merge(component, component[first], component[second])
        holds_trained = np.zeros(count, dtype=bool)
        holds_trained[component[trained]] = True
        newly = holds_trained[component] & (cutoffs == 0)
        cutoffs[newly] = k
        progress(done / len(every_level))
    return cutoffs


def _edges(
    equivalence: Equivalence, k: int, num_tokens: int, slots: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Inputs that the forest's edges with evidence ``k`` join, in every context."""
    strides = num_tokens ** np.arange(slots - 1, -1, -1, dtype=np.int64)
    inside = list(equivalence.positions)
    outside = [slot for slot in range(slots) if slot not in inside]
    fragments = equivalence.fragments() @ strides[inside]
    contexts = np.zeros(1, dtype=np.int64)
    for slot in outside:
        contexts = (contexts[:, None] + np.arange(num_tokens) * strides[slot]).ravel()
    new = equivalence.evidence == k
    first, second = fragments[equivalence.first[new]], fragments[equivalence.second[new]]
    step = max(1, _EDGES // len(contexts))
    for begin in range(0, len(first), step):
        part = slice(begin, begin + step)
        yield (
            (first[part, None] + contexts).ravel(),
            (second[part, None] + contexts).ravel(),
        )


def _merge(component: np.ndarray, first: np.ndarray, second: np.ndarray) -> None:
    """Join components ``first[i]`` and ``second[i]``, in place; only those touched are renamed."""
    touched, index = np.unique(np.concatenate([first, second]), return_inverse=True)
    joined = components(len(touched), index[: len(first)], index[len(first) :])
    representative = np.empty(int(joined.max()) + 1, dtype=component.dtype)
    representative[joined[::-1]] = touched[::-1]  # the smallest label of each
    renamed = np.arange(len(component), dtype=component.dtype)
    renamed[touched] = representative[joined]
    component[:] = renamed[component]
