"""Compositional tasks as data: which primitive functions feed which.

A task graph names its input slots and its primitive functions in evaluation order, each with the
slots or earlier values that it reads. Everything else that the project needs to know of a task
(fragments, coverage types, chain-of-thought order, path ambiguity) is derived from that here, so
generators, coverage, evaluation and circuit analysis never mention a task by name.

>>> twohop = TASKS["twohop"]
>>> twohop.bridges, twohop.answer, twohop.fragment("b")
(('b',), 't', ('x1', 'x2'))
>>> TASKS["nontree"].ambiguous_slots
('x2',)
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from coverage_principle.errors import InputError


@dataclass(frozen=True)
class Function:
    """One primitive function of a task: ``output = name(*sources)``."""

    name: str
    output: str
    sources: tuple[str, ...]

    @property
    def arity(self) -> int:
        return len(self.sources)


@dataclass(frozen=True)
class TaskGraph:
    """A directed acyclic graph of primitive functions over input slots.

    ``functions`` are in evaluation order and the last one gives the answer. The constructor refuses
    (``InputError``) a graph in which a name is defined twice, a source is unknown or defined later,
    an input slot or an intermediate value is never read, or there is no function at all.
    """

    name: str
    inputs: tuple[str, ...]
    functions: tuple[Function, ...]

    def __post_init__(self) -> None:
        for fault in self._faults():
            raise InputError(f"task graph {self.name!r}: {fault}")

    def _faults(self) -> Iterator[str]:
        if not self.inputs:
            yield "it has no input slots; at least one is needed"
        if not self.functions:
            yield "it has no functions, so nothing gives the answer"
        yield from (f"input slot {s!r} is named twice" for s in _repeated(self.inputs))
        names = [function.name for function in self.functions]
        yield from (f"function {name!r} is defined twice" for name in _repeated(names))
        known = set(self.inputs)
        later = {function.output for function in self.functions}
        for function in self.functions:
            if not function.sources:
                yield f"function {function.name!r} has no sources"
            for source in function.sources:
                why = "neither an input slot nor the output of a function"
                if source in later:
                    why = "only computed later (a cycle, or functions out of order)"
                if source not in known:
                    yield f"function {function.name!r} reads {source!r}, which is {why}"
            if function.output in known:
                yield f"value {function.output!r} of function {function.name!r} already exists"
            known.add(function.output)
        used = {source for function in self.functions for source in function.sources}
        yield from (
            f"input slot {slot!r} is never used" for slot in self.inputs if slot not in used
        )
        for value in self.bridges:
            if value not in used:
                yield (
                    f"value {value!r} is never used, and neither is {self.answer!r}; exactly one "
                    "value, the answer, may be read by no function"
                )

    @property
    def answer(self) -> str:
        """Name of the value that is the task's output."""
        return self.functions[-1].output

    @property
    def bridges(self) -> tuple[str, ...]:
        """Names of the intermediate values in evaluation order: the chain-of-thought order."""
        return tuple(function.output for function in self.functions[:-1])

    def function_of(self, value: str) -> Function:
        """The function whose output is ``value``. ``KeyError`` if none is."""
        return {function.output: function for function in self.functions}[value]

    def fragment(self, value: str) -> tuple[str, ...]:
        """The input slots that determine ``value``, in slot order."""
        return tuple(slot for slot in self.inputs if slot in self._ancestors[value])

    def fragment_positions(self, value: str) -> tuple[int, ...]:
        """``fragment`` as 0-based positions in the input."""
        return tuple(self.inputs.index(slot) for slot in self.fragment(value))

    @cached_property
    def _ancestors(self) -> dict[str, frozenset[str]]:
        ancestors = {slot: frozenset([slot]) for slot in self.inputs}
        for f in self.functions:
            ancestors[f.output] = frozenset().union(*(ancestors[s] for s in f.sources))
        return ancestors

    @cached_property
    def ambiguous_slots(self) -> tuple[str, ...]:
        """Input slots that reach the answer by more than one path (path ambiguity)."""
        paths = dict.fromkeys((*self.inputs, *self.bridges, self.answer), 0)
        paths[self.answer] = 1
        for function in reversed(self.functions):
            for source in function.sources:
                paths[source] += paths[function.output]
        return tuple(slot for slot in self.inputs if paths[slot] > 1)

    @property
    def type_labels(self) -> tuple[str, ...]:
        """``type_0`` ... ``type_{2^m - 1}``, the coverage types of m functions."""
        return tuple(f"type_{i}" for i in range(2 ** len(self.functions)))

    def type_label(self, seen: Sequence[bool]) -> str:
        """Coverage type of an item from "the call of function j is seen", j = 1..m.

        All seen is ``type_0``; otherwise ``type_{bits + 1}`` with the first function as the most
        significant bit.
        """
        if len(seen) != len(self.functions):
            raise ValueError(f"{len(self.functions)} flags are needed, got {len(seen)}")
        bits = int("".join("1" if flag else "0" for flag in seen), 2)
        return "type_0" if all(seen) else f"type_{bits + 1}"

    def type_seen(self, label: str) -> tuple[bool, ...]:
        """Inverse of ``type_label``: which functions' calls are seen in items of this type."""
        count = len(self.functions)
        number = self.type_labels.index(label)
        bits = 2**count - 1 if number == 0 else number - 1
        return tuple(bool(bits >> (count - 1 - j) & 1) for j in range(count))

    @property
    def equations(self) -> str:
        """The functions as text, such as ``b = f1(x1, x2), t = f2(b, x3)``."""
        return ", ".join(f"{f.output} = {f.name}({', '.join(f.sources)})" for f in self.functions)

    def to_dict(self) -> dict:
        """A JSON-ready description; ``from_dict`` reads it back."""
        functions = [vars(f) | {"sources": list(f.sources)} for f in self.functions]
        return {"name": self.name, "inputs": list(self.inputs), "functions": functions}

    @classmethod
    def from_dict(cls, description: Mapping) -> TaskGraph:
        """Build a graph from ``to_dict``'s form; functions may come in any order.

        ``InputError`` says which key is wrong, or which node: see the constructor. ``answer`` may
        be given; it must then be the one value that no function reads.
        """
        try:
            functions = tuple(
                Function(str(f["name"]), str(f["output"]), _names(f["sources"]))
                for f in description["functions"]
            )
            name, inputs = task_name(str(description["name"])), _names(description["inputs"])
        except (KeyError, TypeError) as error:
            raise InputError(
                "a task graph needs 'name', 'inputs' and 'functions', each function 'name', "
                f"'output' and 'sources'; problem with {error}"
            ) from error
        if not re.fullmatch(r"[A-Za-z0-9-]+", name):
            raise InputError(
                f"the task's name {name!r} may only hold letters, digits and -, since it begins "
                "the names of data sets"
            )
        # Names of nodes become parts of file names, settings and titles.
        for node in (*inputs, *(f.name for f in functions), *(f.output for f in functions)):
            if not re.fullmatch(r"[A-Za-z0-9_-]+", node):
                which = f"task graph {name!r}: the name {node!r}"
                raise InputError(f"{which} may only hold letters, digits, _ and -")
        graph = cls(name, inputs, _in_evaluation_order(name, inputs, functions))
        answer = description.get("answer", graph.answer)
        if answer != graph.answer:
            told = f"task graph {name!r}: the answer is said to be {answer!r}"
            raise InputError(f"{told}, but the value that no function reads is {graph.answer!r}")
        return graph


def _repeated(names: Sequence[str]) -> list[str]:
    return [name for i, name in enumerate(names) if name in names[:i]]


def _names(value: object) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise TypeError(f"{value!r}, which must be a list of names")
    return tuple(map(str, value))


def _in_evaluation_order(
    name: str, inputs: tuple[str, ...], functions: tuple[Function, ...]
) -> tuple[Function, ...]:
    """The functions so that each comes after what it reads, else in the order given."""
    ordered: list[Function] = []
    waiting = list(functions)
    while waiting:
        missing = {function.output for function in waiting}.difference(inputs)
        ready = next((f for f in waiting if missing.isdisjoint(f.sources)), None)
        if ready is None:
            cycle = ", ".join(repr(f.name) for f in waiting)
            raise InputError(
                f"task graph {name!r}: the functions {cycle} wait for each other's outputs (a "
                "cycle, or one that hangs on it), so none of them can be evaluated"
            )
        waiting.remove(ready)
        ordered.append(ready)
    return tuple(ordered)


def _graph(name: str, equations: str) -> TaskGraph:
    """The graph whose ``equations`` are given; input slots are in the order of first use."""
    functions = tuple(
        Function(name, output, tuple(sources.split(", ")))
        for output, name, sources in re.findall(r"(\w+) = (\w+)\((.*?)\)", equations)
    )
    outputs = {function.output for function in functions}
    sources = dict.fromkeys(source for function in functions for source in function.sources)
    return TaskGraph(name, tuple(s for s in sources if s not in outputs), functions)


#: The tasks of the paper by name.
TASKS: dict[str, TaskGraph] = {
    name: _graph(name, equations)
    for name, equations in {
        "twohop": "b = f1(x1, x2), t = f2(b, x3)",
        "threehop": "b1 = f1(x1, x2), b2 = f2(b1, x3), t = f3(b2, x4)",
        "fivehop": "b1 = f1(x1, x2), b2 = f2(b1, x3), b3 = f3(b2, x4), b4 = f4(b3, x5), "
        "t = f5(b4, x6)",
        "parallel2hop": "b1 = f1(x1, x2), b2 = f2(x3, x4), t = f3(b1, b2)",
        "nontree": "b = f1(x1, x2), t = f2(b, x2, x3)",
    }.items()
}

#: The one generator that goes by another name than its task; either names the task.
_TASK, _GENERATOR = "parallel2hop", "parallel-twohop"


def task_name(name: str) -> str:
    """The name by which code and files know a task: ``parallel-twohop`` is ``parallel2hop``."""
    return _TASK if name == _GENERATOR else name


def generator_name(name: str) -> str:
    """The name of a task's generator, ``dataset_generation/NAME.py``, by either of its names."""
    return _GENERATOR if name == _TASK else name
