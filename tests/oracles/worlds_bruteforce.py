"""Worlds with alphabets, partial and shared functions and single facts, by their definition.

Everything is a dictionary or a set of tuples, found by looking at every input. Of the project only
the task graph is used, as data.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from functools import cache, cached_property
from itertools import product
from math import ceil, prod

import numpy as np

from coverage_principle.errors import InputError
from coverage_principle.tasks import Function, TaskGraph
from tests.oracles.task_bruteforce import random_graph

#: Graphs as ``output = function/table(sources)``; None: any graph, drawn at random.
SHAPES = {
    "two hops": "b = f1(x1, x2); t = f2(b, x3)",
    "two hops in one table": "b = f1/link(h, r1); t = f2/link(b, r2)",
    "three hops": "b1 = f1(x1, x2); b2 = f2(b1, x3); t = f3(b2, x4)",
    "three hops in one table": "b1 = f1/link(h, r1); b2 = f2/link(b1, r2); t = f3/link(b2, r3)",
    "parallel": "b1 = f1(x1, x2); b2 = f2(x3, x4); t = f3(b1, b2)",
    "parallel in one table": "b1 = f1/link(x1, x2); b2 = f2/link(x3, x4); t = f3(b1, b2)",
    "ambiguous slot": "b = f1(x1, x2); t = f2(b, x2, x3)",
    "ambiguous value": "b = f1(x1, x2); c = f2(b, x3); t = f3(b, c)",
    "ambiguous value in one table": "b = f1/link(x1, x2); c = f2/link(b, x3); t = f3(b, c, x2)",
    "one function": "t = f1(x1, x2, x3)",
    "one function of one slot": "t = f1(x1)",
    "comparison": "v = f1/attribute(q, a); w = f2/attribute(q, b); t = f3(v, w)",
    "one argument": "b = f1(x1); t = f2(b, x2)",
    "a value read twice": "b = f1(x1, x2); t = f2(b, b)",
    "any": None,
}
_ALPHABETS = ("token", "entity", "relation")
_MOST_INPUTS = 150


@dataclass(frozen=True)
class PlainWorld:
    """A task with its tables as dictionaries, and what is asked of a sample of it.

    ``alphabets`` maps each alphabet to its tokens, ``tables`` each table's name to ``{call:
    result}``, ``expected`` each function's name to the calls that training items may use. The facts
    of the tables named in ``untold`` are no items.
    """

    graph: TaskGraph
    alphabets: dict[str, list[str]]
    tables: dict[str, dict[tuple[int, ...], int]]
    expected: dict[str, set[tuple[int, ...]]]
    untold: set[str]
    facts: str
    noise: float
    amount: int
    test_size: int
    validation_size: int

    def size(self, node: str) -> int:
        return len(self.alphabets[dict(self.graph.alphabets).get(node, "token")])

    def signature(self, function: Function) -> tuple[str, ...]:
        named = dict(self.graph.alphabets)
        return tuple(named.get(source, "token") for source in function.sources)

    def inputs(self) -> list[tuple[int, ...]]:
        return list(product(*(range(self.size(slot)) for slot in self.graph.inputs)))

    def run(self, item: tuple[int, ...]) -> tuple[dict[str, tuple[int, ...]], dict[str, int]]:
        """The calls of an input and every slot and value, up to the first undefined call."""
        known, calls = dict(zip(self.graph.inputs, item, strict=True)), {}
        for function in self.graph.functions:
            call = tuple(known[source] for source in function.sources)
            if call not in self.tables[function.table]:
                break
            calls[function.name] = call
            known[function.output] = self.tables[function.table][call]
        return calls, known

    @cached_property
    def compositions(self) -> dict[tuple[int, ...], dict[str, tuple[int, ...]]]:
        """The inputs whose every call is defined, with their calls."""
        found = {item: self.run(item)[0] for item in self.inputs()}
        return {item: c for item, c in found.items() if len(c) == len(self.graph.functions)}

    def answer(self, item: tuple[int, ...]) -> int:
        return self.run(item)[1][self.graph.functions[-1].output]

    @cached_property
    def trainable(self) -> set[tuple[int, ...]]:
        return {
            item
            for item, calls in self.compositions.items()
            if all(call in self.expected[name] for name, call in calls.items())
        }

    def seen(self, train) -> dict[str, set[tuple[int, ...]]]:
        """The calls that training items make, function by function."""
        return {
            f.name: {self.compositions[item][f.name] for item in train}
            for f in self.graph.functions
        }

    def training_facts(self, train) -> dict[tuple[str, ...], set[tuple[int, ...]]]:
        """The facts of the training file by the alphabets of their arguments."""
        seen, found = self.seen(train), {}
        for function in self.graph.functions:
            if function.table in self.untold:
                continue
            calls = {
                "none": set(),
                "seen": seen[function.name],
                "in_domain": self.expected[function.name],
                "all": set(self.tables[function.table]),
            }[self.facts]
            own = found.setdefault(self.signature(function), set())
            own |= calls & set(self.tables[function.table])
        return {signature: calls for signature, calls in found.items() if calls}

    def known(self, train) -> dict[str, set[tuple[int, ...]]]:
        facts = self.training_facts(train)
        return {f.name: facts.get(self.signature(f), set()) for f in self.graph.functions}

    def types(self, train) -> dict[str, set[tuple[int, ...]]]:
        """Each type's compositions, training items left out."""
        seen, known, found = self.seen(train), self.known(train), {}
        for item, calls in self.compositions.items():
            if item not in train:
                found.setdefault(self._type(calls, seen, known), set()).add(item)
        return found

    def _type(self, calls, seen, known) -> str:
        unseen = [name for name, call in calls.items() if call not in seen[name]]
        if len(calls) == 1 or not unseen:
            return "type_0"
        bits = "".join("0" if name in unseen else "1" for name in calls)
        facts = [f"+{name}" for name in unseen if calls[name] in known[name]]
        return f"type_{int(bits, 2) + 1}{''.join(facts)}"


def shape_of(seed: int) -> str:
    """The name in ``SHAPES`` of a world's graph; shapes take turns."""
    return list(SHAPES)[seed % len(SHAPES)]


@cache
def draw_world(seed: int) -> PlainWorld:
    """A random world of at most 150 inputs with something to train on."""
    draw = random.Random(seed)
    while True:
        graph = _graph(SHAPES[shape_of(seed)], draw)
        if not _takes_facts(graph) and draw.random() < 0.6:
            continue  # some take none, whatever the alphabets
        sizes = {
            name: draw.choice([1, 2, 3, 3, 4, 4, 5, 5])
            for name in draw.sample(_ALPHABETS, len(_ALPHABETS))
        }
        if prod(sizes[graph.alphabet(slot)] for slot in graph.inputs) > _MOST_INPUTS:
            continue
        used = [a for a in sizes if a in {*graph.alphabets_of(graph.nodes)} or draw.random() < 0.3]
        sizes = {name: sizes[name] for name in used}
        alphabets = {name: [f"<{name} {i}>" for i in range(n)] for name, n in sizes.items()}
        if [*sizes] == ["token"]:
            alphabets["token"] = [f"<t_{i}>" for i in range(sizes["token"])]
        tables = {}
        share = draw.choice([0.6, 0.9, 1.0])
        for f in graph.functions:
            if f.table not in tables:
                calls = product(*(range(sizes[graph.alphabet(s)]) for s in f.sources))
                answers = sizes[graph.alphabet(f.output)]
                tables[f.table] = {
                    call: draw.randrange(answers) for call in calls if draw.random() < share
                }
        ratio, expected = draw.choice([0.5, 0.8, 1.0]), {}
        together = draw.random() < 0.5  # functions of one table have one seen split
        for f in graph.functions:
            own = {call for call in tables[f.table] if draw.random() < ratio}
            first = next(other for other in graph.functions if other.table == f.table)
            expected[f.name] = expected.get(first.name, own) if together else own
        facts = draw.choice(["none", "seen", "in_domain", "all", "all"])
        untold = {name for name in [*tables][1:] if draw.random() < 0.2}
        world = PlainWorld(
            *(graph, alphabets, tables, expected, untold),
            facts=facts if _takes_facts(graph) else "none",
            noise=draw.choice([0, 0, 0.2, 1]) if sizes[graph.alphabet(graph.answer)] > 1 else 0,
            amount=0,
            test_size=draw.choice([2, 200, 200]),
            validation_size=draw.choice([0, 2]),
        )
        if len(world.trainable) > 5 or (world.trainable and draw.random() < 0.1):
            amount = ceil(len(world.trainable) * draw.choice([0.3, 0.5, 0.7, 1]))
            return replace(world, amount=amount)


def _takes_facts(graph: TaskGraph) -> bool:
    """Whether a fact says whose it is, and cannot be taken for a composition."""
    tables = {}
    for f in graph.functions:
        tables.setdefault(graph.alphabets_of(f.sources), set()).add(f.table)
    return all(len(own) == 1 and len(a) != len(graph.inputs) for a, own in tables.items())


def _graph(equations: str | None, draw: random.Random) -> TaskGraph:
    if equations is None:
        graph = random_graph(np.random.default_rng(draw.randrange(2**32)), max_slots=3)
        functions = graph.functions
    else:
        functions = []
        for equation in equations.split("; "):
            output, call = equation.split(" = ")
            name, sources = call.rstrip(")").split("(")
            name, _, table = name.partition("/")
            functions.append(Function(name, output, tuple(sources.split(", ")), table or None))
    outputs = [f.output for f in functions]
    inputs = dict.fromkeys(s for f in functions for s in f.sources if s not in outputs)
    pool = _ALPHABETS[: draw.randint(1, len(_ALPHABETS))]
    alphabets = {node: draw.choice(pool) for node in [*inputs, *outputs]}
    for _ in functions:  # those that share a table share its alphabets
        for f in functions:
            first = next(other for other in functions if other.table == f.table)
            for ours, theirs in zip(f.nodes, first.nodes, strict=True):
                alphabets[ours] = alphabets[theirs]
    named = tuple((n, a) for n, a in alphabets.items() if a != "token" or draw.random() < 0.5)
    try:
        return TaskGraph("open", tuple(inputs), tuple(functions), named)
    except InputError:  # the alphabets of shared tables go around in a circle
        return _graph(equations, draw)
