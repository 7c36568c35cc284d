"""Coverage straight from its definitions: loops over pairs, networkx for what is connected.

``train`` and ``test`` map input tuples to answers; fragments and contexts are tuples of values.
``noise`` is None, or the share of wrong labels and the number of answers.
"""

from __future__ import annotations

from itertools import combinations, product
from math import floor, log

import networkx as nx


def part(item, positions):
    return tuple(item[i] for i in positions)


def rest(item, positions):
    return tuple(value for i, value in enumerate(item) if i not in positions)


def all_slot_sets(slots):
    return [c for size in range(1, slots) for c in combinations(range(slots), size)]


def behaviours(train, positions):
    """``{fragment: {context: answer}}``."""
    found = {}
    for item, answer in train.items():
        found.setdefault(part(item, positions), {})[rest(item, positions)] = answer
    return found


def penalty(rate, answers):
    """How many agreements a disagreement outweighs: a ratio of log likelihood ratios.

    Two labels of one true answer, each right, or one of the other answers with equal probability.
    """
    shown = [1 - rate] + [rate / (answers - 1)] * (answers - 1)
    agree_if_equal = sum(p * p for p in shown)
    agree_if_not = 1 / answers
    for_agreement = log(agree_if_equal / agree_if_not)
    for_disagreement = log((1 - agree_if_equal) / (1 - agree_if_not))
    return -for_disagreement / for_agreement


def pair_evidence(train, positions, true_value=None, noise=None):
    """``{(fragment, fragment): evidence}`` of all pairs that may be equivalent.

    Evidence is the number of shared contexts; with ``noise`` agreements less the penalty for each
    disagreement, rounded down.
    """
    behaviour = behaviours(train, positions)
    found = {}
    for a, b in combinations(sorted(behaviour), 2):
        shared = set(behaviour[a]) & set(behaviour[b])
        agreeing = sum(behaviour[a][context] == behaviour[b][context] for context in shared)
        same = true_value is None or true_value[a] == true_value[b]
        evidence = agreeing if agreeing == len(shared) else 0
        if noise is not None:
            evidence = floor(agreeing - penalty(*noise) * (len(shared) - agreeing) + 1e-9)
        if evidence > 0 and same:
            found[a, b] = evidence
    return found


def contradicting(train, positions):
    """All pairs of fragments that give different answers in some shared context."""
    behaviour = behaviours(train, positions)
    return {
        (a, b)
        for a, b in combinations(sorted(behaviour), 2)
        if any(behaviour[b].get(c, answer) != answer for c, answer in behaviour[a].items())
    }


def class_partition(train, positions, k, true_value=None, noise=None):
    """Classes at k as a set of frozensets of fragments."""
    graph = nx.Graph()
    graph.add_nodes_from(behaviours(train, positions))
    evidence = pair_evidence(train, positions, true_value, noise)
    graph.add_edges_from(pair for pair, n in evidence.items() if n >= k)
    return {frozenset(component) for component in nx.connected_components(graph)}


def substitution_graph(train, test, slot_sets, k, true_value=None, noise=None):
    """The graph of all items at k, an edge for each substitution of fragments of one class."""
    items = {**train, **test}
    graph = nx.Graph()
    graph.add_nodes_from(items)
    for positions in slot_sets:
        classes = class_partition(train, positions, k, true_value, noise)
        class_of = {fragment: c for c in classes for fragment in c}
        meeting = {}  # those of equal context and answer
        for item, answer in items.items():
            meeting.setdefault((rest(item, positions), answer), []).append(item)
        for x, y in (pair for together in meeting.values() for pair in combinations(together, 2)):
            a, b = part(x, positions), part(y, positions)
            if a in class_of and class_of[a] == class_of.get(b):
                graph.add_edge(x, y)
    return graph


def covered_at(train, test, slot_sets, k, true_value=None, noise=None):
    """The items of ``test`` that are connected to a training item."""
    covered = set()
    graph = substitution_graph(train, test, slot_sets, k, true_value, noise)
    for component in nx.connected_components(graph):
        if component & set(train):
            covered |= component
    return covered & set(test)


def cutoffs(train, test, slot_sets, true_value=None, noise=None):
    """``{test item: largest k that covers it, 0 if none}``; k can be no more than the contexts."""
    found = dict.fromkeys(test, 0)
    for k in range(1, len(train) + 1):
        covered = covered_at(train, test, slot_sets, k, true_value, noise)
        if not covered - set(train):
            break
        for item in covered:
            found[item] = k
    return found


def domain_cutoffs(train, sizes, slot_sets, true_value=None, noise=None):
    """``{input: largest k that covers it, 0 if none}`` over all inputs, by the formal definition.

    ``sizes`` are the tokens of each slot, or one number for all of them. An edge joins two inputs
    that differ by ONE pair of k-equivalent fragments, not by a class, and answers play no part.
    Training inputs get None: they are covered at every k.
    """
    slots = len(next(iter(train)))
    sizes = [sizes] * slots if isinstance(sizes, int) else sizes
    inputs = list(product(*map(range, sizes)))
    evidence = {p: pair_evidence(train, p, true_value, noise) for p in slot_sets}
    found = dict.fromkeys(inputs, 0)
    for k in range(1, len(train) + 1):
        graph = nx.Graph()
        graph.add_nodes_from(inputs)
        for positions in slot_sets:
            holding = {}
            for x in inputs:
                holding.setdefault(part(x, positions), []).append(x)
            for (a, b), count in evidence[positions].items():
                if count >= k:
                    for x in holding[a]:
                        y = list(x)
                        for position, value in zip(positions, b, strict=True):
                            y[position] = value
                        graph.add_edge(x, tuple(y))
        covered = set()
        for component in nx.connected_components(graph):
            if component & set(train):
                covered |= component
        if not covered - set(train):
            break
        for x in covered:
            found[x] = k
    return {x: None if x in train else k for x, k in found.items()}
