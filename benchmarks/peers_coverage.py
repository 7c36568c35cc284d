"""The k-sweep written straightforwardly, with the connected components of one library or another.

Each k is looked at by itself, from the pairs of fragments up. Nothing of this repository is used:
files are read with the standard library, the rest is numpy, scipy and the library that is named.
"""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path

import numpy as np
import scipy.sparse as sparse


def cutoffs(folder: str, library: str) -> dict:
    """The k-cutoff of each ``type_0`` test item, in the order of ``test.json``."""
    components = {
        "scipy": scipy_components,
        "igraph": igraph_components,
        "rustworkx": rustworkx_components,
        "networkx": networkx_components,
    }[library]
    number: dict[str, int] = {}
    train, test = (read(Path(folder) / f"{name}.json", number) for name in ("train", "test"))
    items = np.concatenate([train, test])
    tokens = len(number)
    slot_sets = [SlotSet(train, items, tokens, p) for p in all_slot_sets(train.shape[1] - 1)]
    covered_up_to = np.zeros(len(test), np.int64)
    for k in range(1, max(int(one.evidence.max(initial=0)) for one in slot_sets) + 1):
        edges = [one.edges(k, components) for one in slot_sets]
        first, second = (np.concatenate(ends) for ends in zip(*edges, strict=True))
        of_item = components(len(items), first, second)
        covered = np.isin(of_item[len(train) :], of_item[: len(train)])
        if not covered.any():
            break
        covered_up_to[covered] = k
    return {"found": covered_up_to.tolist()}


def read(file: Path, number: dict[str, int]) -> np.ndarray:
    """Items (n, slots + 1) of a file, the answer last: training items, or those of ``type_0``."""
    rows = []
    for record in json.loads(file.read_text(encoding="utf-8")):
        if record.get("type", "type_0") == "type_0":
            words = re.findall(r"<t_\d+>", record["target_text"])
            rows.append([number.setdefault(word, len(number)) for word in words])
    return np.array(rows)


def all_slot_sets(slots: int) -> list[tuple[int, ...]]:
    return [p for n in range(1, slots) for p in itertools.combinations(range(slots), n)]


def code(rows: np.ndarray, tokens: int) -> np.ndarray:
    """One number for each row of token numbers."""
    found = np.zeros(len(rows), np.int64)
    for column in rows.T:
        found = found * tokens + column
    return found


class SlotSet:
    """The fragments at some slots: their pairs, with evidence, and the items that hold them."""

    def __init__(
        self, train: np.ndarray, items: np.ndarray, tokens: int, positions: tuple[int, ...]
    ) -> None:
        rest = [slot for slot in range(train.shape[1]) if slot not in positions]
        fragments, of_train = np.unique(code(train[:, positions], tokens), return_inverse=True)
        _, context = np.unique(code(train[:, rest[:-1]], tokens), return_inverse=True)
        _, meeting = np.unique(code(train[:, rest], tokens), return_inverse=True)
        count, ones = len(fragments), np.ones(len(train), np.int32)
        acts = sparse.csr_array((ones, (of_train, meeting)))
        agreeing = sparse.triu(acts @ acts.T, k=1, format="coo")
        self.first, self.second, self.evidence = agreeing.row, agreeing.col, agreeing.data.copy()
        stands = sparse.csr_array((ones, (of_train, context)))
        for begin in range(0, len(self.first), 1 << 18):  # pairs that ever differ are none
            part = slice(begin, begin + (1 << 18))
            shared = (stands[self.first[part]] * stands[self.second[part]]).sum(axis=1)
            self.evidence[part][shared != agreeing.data[part]] = 0
        self.count = count
        place = np.searchsorted(fragments, code(items[:, positions], tokens))
        place[place == count] = 0
        known = fragments[place] == code(items[:, positions], tokens)
        self.items, self.fragment = np.flatnonzero(known), place[known]
        self.beside = code(items[known][:, rest], tokens)

    def edges(self, k: int, components) -> tuple[np.ndarray, np.ndarray]:
        """Items of one class of fragment, context and answer, each joined to the first of them."""
        firm = self.evidence >= k
        of_fragment = components(self.count, self.first[firm], self.second[firm])
        classes = of_fragment[self.fragment]
        order = np.lexsort((self.items, classes, self.beside))
        beside, classes, items = self.beside[order], classes[order], self.items[order]
        opens = np.ones(len(order), bool)
        opens[1:] = (beside[1:] != beside[:-1]) | (classes[1:] != classes[:-1])
        return items[opens][np.cumsum(opens) - 1][~opens], items[~opens]


def scipy_components(count: int, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    from scipy.sparse.csgraph import connected_components

    ones = np.ones(len(first), np.int32)
    graph = sparse.coo_array((ones, (first, second)), shape=(count, count))
    return connected_components(graph, directed=False)[1]


def igraph_components(count: int, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    import igraph

    graph = igraph.Graph(n=count, edges=np.stack([first, second], axis=1))
    return np.array(graph.connected_components().membership)


def rustworkx_components(count: int, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    import rustworkx

    graph = rustworkx.PyGraph(multigraph=False)
    graph.add_nodes_from(range(count))
    graph.add_edges_from_no_data(list(zip(first.tolist(), second.tolist(), strict=True)))
    return labels(count, rustworkx.connected_components(graph))


def networkx_components(count: int, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    import networkx

    graph = networkx.Graph()
    graph.add_nodes_from(range(count))
    graph.add_edges_from(zip(first.tolist(), second.tolist(), strict=True))
    return labels(count, networkx.connected_components(graph))


def labels(count: int, sets) -> np.ndarray:
    """The number of each node's set."""
    found = np.empty(count, np.int64)
    for number, nodes in enumerate(sets):
        found[list(nodes)] = number
    return found
