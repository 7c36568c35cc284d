"""How many bytes a slot set takes, and in how many parts it fits what there is.

The numbers of bytes are upper bounds, found by measuring (docs/coverage.md has the arithmetic).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from coverage_principle.errors import InputError
from simpletransformers.memory import in_words

#: Bytes for each fragment and each context of a slot set, however few items are held.
FRAGMENT, CONTEXT = 130, 40
#: Bytes for each item of the two blocks of fragments that are compared, and of a block of contexts.
COMPARED, BESIDE = 110, 160
#: What tables and blocks of pairs take at their full size, and how small they may be made.
TABLES, MOST_SHRINK = 576 << 20, 32
#: Bytes for each item of a chunk that is read, and the items of one.
READ, CHUNK = 160, 1 << 17
#: One part in so many of the memory is left free: what is given back is not always usable at once.
SPARE = 8
#: Bytes of a process that has imported what it needs.
PROCESS = 110 << 20
#: Bytes for each fragment of a result, which is kept to the end.
KEPT = 48
#: On disk: an item of a slot set that is at work, and a number of an item that processes share.
SPILLED, SHARED = 12, 4
#: Items that are held at a time at least.
_FEWEST = 1 << 12


@dataclass(frozen=True)
class Parts:
    """How a slot set is taken apart.

    ``compared`` items are in memory when blocks of fragments are, and ``beside`` items when a block
    of contexts is; tables are ``shrink`` times as small as they would be.
    """

    compared: int
    beside: int
    shrink: int


def split_up(memory: int, items: int, fragments: int, contexts: int) -> Parts | None:
    """How a slot set of so many items, fragments and contexts fits ``memory`` bytes.

    None if it does not, however it is taken apart.
    """
    left = memory - memory // SPARE - _fixed(fragments, contexts)
    if left < TABLES // MOST_SHRINK + _FEWEST * BESIDE:
        return None
    if (whole := items * COMPARED + TABLES) <= left and items * BESIDE <= left:
        return Parts(items, items, 1)
    tables = max(TABLES // MOST_SHRINK, min(TABLES, left * TABLES // (2 * whole), left // 2))
    shrink = -(-TABLES // tables)
    held = left - TABLES // shrink
    return Parts(max(held // COMPARED, 2), max(held // BESIDE, 1), shrink)


def least(items: int, sizes: Sequence[int], positions: Sequence[int]) -> int:
    """Bytes without which a slot set cannot be weighed, of at most so many items."""
    fragments, contexts = bounds(items, sizes, positions)
    needed = _fixed(fragments, contexts) + TABLES // MOST_SHRINK + _FEWEST * BESIDE
    return needed * SPARE // (SPARE - 1) + SPARE


def whole(items: int, sizes: Sequence[int], slot_sets: Sequence[Sequence[int]]) -> int:
    """Bytes that coverage takes beside the data set if nothing is taken apart."""
    needs = []
    for positions in slot_sets:
        fragments, contexts = bounds(items, sizes, positions)
        needs.append(_fixed(fragments, contexts) + items * COMPARED)
    # The numbers of fragments stay, which are those of contexts elsewhere, and the label's.
    seen = min(2 * len(slot_sets), 2 ** len(sizes) - 2) + 1
    return max(needs, default=0) + min(TABLES, 256 * items) + 4 * items * seen


def kept(items: int, sizes: Sequence[int], slot_sets: Sequence[Sequence[int]]) -> int:
    """Bytes of the results of all slot sets, at most."""
    return sum(KEPT * bounds(items, sizes, positions)[0] for positions in slot_sets)


def bounds(items: int, sizes: Sequence[int], positions: Sequence[int]) -> tuple[int, int]:
    """How many fragments and contexts a slot set has at most."""
    inside = prod(sizes[i] for i in positions)
    return min(items, inside), min(items, prod(sizes) // inside)


def too_small(memory: int, need: int, slots: Sequence[str]) -> InputError:
    """The refusal of a budget in which not even the smallest parts fit."""
    return InputError(
        f"`memory` leaves {in_words(max(memory, 0))} for slot set {', '.join(slots)}, which needs "
        f"{in_words(need)} however it is taken apart; give more, or fewer `jobs`"
    )


def _fixed(fragments: int, contexts: int) -> int:
    return FRAGMENT * fragments + CONTEXT * contexts + READ * CHUNK
