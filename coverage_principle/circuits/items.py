"""Which test items an analysis looks at: splits, k-cutoff groups, one item for each fragment.

The same items serve cosine clustering and causal tracing.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from coverage_principle.circuits.grouping import Grouping
from coverage_principle.data import ANNOTATED, TRAIN_INFERRED, Dataset, annotated_records
from coverage_principle.data.space import encode_rows
from coverage_principle.errors import InputError

logger = logging.getLogger(__name__)

#: k-cutoff groups of the paper's figures, used when the data set has k-cutoffs.
PAPER_K_GROUPS = "0-2,3+"
#: One group for each k-cutoff that there is.
EACH = "each"


@dataclass(frozen=True)
class KGroup:
    """k-cutoffs from ``low`` to ``high``, both included; ``high`` is None for no upper bound."""

    name: str
    low: int
    high: int | None

    def holds(self, cutoffs: np.ndarray) -> np.ndarray:
        inside = cutoffs >= self.low
        return inside if self.high is None else inside & (cutoffs <= self.high)


def parse_k_groups(text: str) -> list[KGroup]:
    """``"1-2,3,4+"`` as groups. ``InputError`` for anything else, and for ``2-1``."""
    groups = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)(?:-(\d+)|(\+))?\s*", part)
        low = int(match[1]) if match else 0
        high = None if match and match[3] else int(match[2] or low) if match else -1
        if high is not None and high < low:
            raise InputError(f"{text!r} are no k-cutoff groups; write them like 1-2,3,4+")
        groups.append(KGroup(part.strip(), low, high))
    return groups


def read_k_cutoffs(dataset: Dataset) -> np.ndarray | None:
    """The k-cutoff of each test item, ``(n,)`` int64, -1 for items that have none.

    None if ``determine_coverage.py --k_sweep`` has not annotated the data set. ``InputError`` if
    the annotations are not those of its test items.
    """
    if not (dataset.path / ANNOTATED).exists():
        return None
    cutoffs = [record.get("k_cutoff") for record in annotated_records(dataset)]
    if all(cutoff is None for cutoff in cutoffs):  # annotated at one k only
        return None
    return np.array([-1 if cutoff is None else cutoff for cutoff in cutoffs], dtype=np.int64)


def k_groups_of(dataset: Dataset, wanted: str | None) -> tuple[list[KGroup], np.ndarray | None]:
    """The k-cutoff groups to use and every test item's k-cutoff.

    ``wanted`` is the text of ``--k_groups``: ``none``, ``each``, groups, or None for those of the
    paper if the data set has k-cutoffs. ``InputError`` if groups are asked for and it has none.
    """
    if wanted == "none":
        return [], None
    cutoffs = read_k_cutoffs(dataset)
    if cutoffs is None:
        if wanted is not None:
            raise InputError(
                f"--k_groups {wanted} needs k-cutoffs in {dataset.path / ANNOTATED}; "
                "run determine_coverage.py --k_sweep first"
            )
        return [], None
    if wanted == EACH:
        wanted = ",".join(str(k) for k in np.unique(cutoffs[cutoffs >= 0])) or "0+"
    groups = parse_k_groups(wanted or PAPER_K_GROUPS)
    if wanted is None:  # a default must not stand in anybody's way
        type_0 = cutoffs[dataset.test.types == "type_0"]
        groups = groups if any(group.holds(type_0).any() for group in groups) else []
    return groups, cutoffs


@dataclass(frozen=True)
class ItemSplit:
    """Some test items: ``rows`` into the test split, out of ``available`` before deduplication."""

    types: tuple[str, ...]
    rows: np.ndarray
    available: int


def item_splits(
    dataset: Dataset,
    grouping: Grouping,
    *,
    out_of_domain: bool,
    k_groups: Sequence[KGroup] = (),
    cutoffs: np.ndarray | None = None,
    max_items: int | None = None,
) -> dict[str, ItemSplit]:
    """Test items by split, one for each fragment of the grouping's key (the first in the file).

    Splits: ``id_train`` (``train_inferred``); ``id_test`` (``type_0``); with ``out_of_domain``,
    ``ood``: the types in which the calls behind the key are unseen; and
    ``id_test/k_cutoff=<group>`` for each k-cutoff group. A k-cutoff belongs to an item and not to
    its fragment, so a group keeps its own first item of each fragment. A group without items gives
    a warning; ``InputError`` if all of them are empty.
    """
    graph, test = dataset.graph, dataset.test
    id_test = test.types == "type_0"
    masks: dict[str, tuple[tuple[str, ...], np.ndarray]] = {
        "id_train": ((TRAIN_INFERRED,), test.types == TRAIN_INFERRED),
        "id_test": (("type_0",), id_test),
    }
    if out_of_domain:
        masks["ood"] = (grouping.unseen, np.isin(test.types, grouping.unseen))
    for group in k_groups:
        name = f"id_test/k_cutoff={group.name}"
        masks[name] = (("type_0",), id_test & group.holds(cutoffs))
    _refuse_empty(k_groups, cutoffs[id_test] if k_groups else None)
    columns = [graph.inputs.index(slot) for slot in grouping.fragment]
    codes = encode_rows(test.inputs[:, columns], dataset.num_tokens)
    splits = {}
    for name, (types, mask) in masks.items():
        rows = np.flatnonzero(mask)
        _, first = np.unique(codes[rows], return_index=True)
        splits[name] = ItemSplit(types, rows[np.sort(first)][:max_items], len(rows))
    return splits


def _refuse_empty(k_groups: Sequence[KGroup], cutoffs: np.ndarray | None) -> None:
    """Say which k-cutoff groups hold no type_0 item, and which k-cutoffs there are."""
    empty = [group.name for group in k_groups if not group.holds(cutoffs).any()]
    if not empty:
        return
    there = ", ".join(str(k) for k in np.unique(cutoffs[cutoffs >= 0])) or "none"
    say = f"no type_0 item has a k-cutoff in {' or '.join(empty)} (there are: {there})"
    if len(empty) == len(k_groups):
        raise InputError(f"--k_groups {','.join(empty)}: {say}")
    logger.warning("warning: %s; the group is left empty", say)


def union_of(splits: Mapping[str, ItemSplit]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """All rows that occur, ascending, and for each split its places among them."""
    rows = np.unique(np.concatenate([split.rows for split in splits.values()]))
    return rows, {name: np.searchsorted(rows, split.rows) for name, split in splits.items()}
