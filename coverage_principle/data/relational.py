"""Task graphs of relational worlds: entities, relations between them, attributes that they have.

>>> composition_graph(2).equations
'b = f1(h, r1), t = f2(b, r2)'
>>> comparison_graph().equations
'v1 = f1(e1, a), v2 = f2(e2, a), t = f3(v1, v2)'
"""

from __future__ import annotations

from coverage_principle.errors import InputError
from coverage_principle.tasks import Function, TaskGraph

#: Relations that a composition may follow.
MOST_HOPS = 5


def composition_graph(hops: int) -> TaskGraph:
    """A composition ``(h, r1, ..., rk)``: from a head along relations, all hops by one table.

    It is named ``composition`` for two hops and ``composition-k`` for k. ``InputError`` unless
    ``hops`` is from 1 to ``MOST_HOPS``.
    """
    if not 1 <= hops <= MOST_HOPS:
        raise InputError(f"`hops` must be from 1 to {MOST_HOPS}, not {hops}")
    relations = [f"r{i}" for i in range(1, hops + 1)]
    bridges = ["b"] if hops == 2 else [f"b{i}" for i in range(1, hops)]
    entities = ["h", *bridges, "t"]
    functions = tuple(
        Function(f"f{i}", entities[i], (entities[i - 1], relation), "fact")
        for i, relation in enumerate(relations, start=1)
    )
    alphabets = dict.fromkeys(entities, "entity") | dict.fromkeys(relations, "relation")
    name = "composition" if hops == 2 else f"composition-{hops}"
    return TaskGraph(name, ("h", *relations), functions, tuple(alphabets.items()))


def comparison_graph() -> TaskGraph:
    """Which of two entities has more of an attribute: ``(a, e1, e2)``.

    Both values are from one table of (entity, attribute), which the slot ``a`` reads twice.
    """
    functions = (
        Function("f1", "v1", ("e1", "a"), "value"),
        Function("f2", "v2", ("e2", "a"), "value"),
        Function("f3", "t", ("v1", "v2"), "compare"),
    )
    alphabets = {"a": "attribute", "e1": "entity", "e2": "entity", "v1": "value", "v2": "value"}
    return TaskGraph(
        "comparison", ("a", "e1", "e2"), functions, (*alphabets.items(), ("t", "answer"))
    )
