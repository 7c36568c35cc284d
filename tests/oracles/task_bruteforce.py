"""Tasks evaluated one tuple at a time with dictionaries: an oracle written on its own."""

from __future__ import annotations

import itertools

from coverage_principle.tasks import Function, TaskGraph


def calls_of(graph: TaskGraph, tables, item):
    """``{function name: (arguments, result)}`` of one input tuple."""
    known = dict(zip(graph.inputs, item, strict=True))
    calls = {}
    for function in graph.functions:
        arguments = tuple(known[source] for source in function.sources)
        result = int(tables[function.name][arguments])
        known[function.output] = result
        calls[function.name] = (arguments, result)
    return calls


def answer_of(graph: TaskGraph, tables, item) -> int:
    return calls_of(graph, tables, item)[graph.functions[-1].name][1]


def all_items(graph: TaskGraph, num_tokens: int):
    return list(itertools.product(range(num_tokens), repeat=len(graph.inputs)))


def used_calls(graph: TaskGraph, tables, items):
    """``{function name: set of argument tuples that some item uses}``."""
    used = {function.name: set() for function in graph.functions}
    for item in items:
        for name, (arguments, _) in calls_of(graph, tables, item).items():
            used[name].add(arguments)
    return used


def type_of(graph: TaskGraph, tables, used, item) -> str:
    """The coverage type by the rule of the published table, spelt out as a string of bits."""
    bits = "".join(
        "1" if arguments in used[name] else "0"
        for name, (arguments, _) in calls_of(graph, tables, item).items()
    )
    return "type_0" if set(bits) == {"1"} else f"type_{int(bits, 2) + 1}"


def random_graph(rng, *, max_slots: int = 4, max_functions: int = 4) -> TaskGraph:
    """A random valid task graph: any arity up to 3, shared slots and shared values allowed."""
    while True:
        slots = [f"x{i + 1}" for i in range(rng.integers(1, max_slots + 1))]
        values, functions = list(slots), []
        for j in range(rng.integers(1, max_functions + 1)):
            arity = int(rng.integers(1, 4))
            sources = tuple(values[i] for i in rng.integers(0, len(values), arity))
            functions.append(Function(f"f{j + 1}", f"v{j + 1}", sources))
            values.append(f"v{j + 1}")
        try:
            return TaskGraph("random", tuple(slots), tuple(functions))
        except ValueError:  # an unused slot or value: draw another
            continue
