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
from itertools import combinations, compress
from typing import Self

from coverage_principle.errors import InputError
from simpletransformers.words import listed

#: The alphabet of slots and values that name none: the tokens ``<t_0>``, ``<t_1>`` ...
DEFAULT_ALPHABET = "token"
#: Names of nodes, functions and alphabets: letters and digits of any script, ``_`` and ``-``.
NODE_NAME = re.compile(r"[\w-]+")

#: The type of test items that are training items.
TRAIN_INFERRED = "train_inferred"
#: Types of test items that are single facts, all of them training facts: those that training
#: compositions use, and those that none does.
FACT_TYPES = FACT_SEEN, FACT_ONLY = "fact_seen", "fact_only"
#: Their words, and those of ``TRAIN_INFERRED``: the same in every task.
_SAME_WORDS = {
    TRAIN_INFERRED: "training items",
    FACT_SEEN: "single facts, used by training compositions",
    FACT_ONLY: "single facts, used by no training composition",
}


@dataclass(frozen=True)
class Function:
    """One primitive function of a task: ``output = name(*sources)``.

    ``shared`` names the table that it reads, if other functions read the same one.
    """

    name: str
    output: str
    sources: tuple[str, ...]
    shared: str | None = None

    @property
    def arity(self) -> int:
        return len(self.sources)

    @property
    def table(self) -> str:
        """Name of its table: its own, unless several functions share one."""
        return self.shared or self.name

    @property
    def nodes(self) -> tuple[str, ...]:
        """What it reads, then what it gives."""
        return *self.sources, self.output


@dataclass(frozen=True)
class TaskGraph:
    """A directed acyclic graph of primitive functions over input slots.

    ``functions`` are in evaluation order and the last one gives the answer. ``alphabets`` pairs
    slots and values with the alphabet that their tokens are from; those that it does not name are
    from ``DEFAULT_ALPHABET``. The constructor refuses (``InputError``) a graph in which a name is
    defined twice, a source is unknown or defined later, an input slot or an intermediate value is
    never read, functions share a table over other alphabets, or there is no function at all.
    """

    name: str
    inputs: tuple[str, ...]
    functions: tuple[Function, ...]
    alphabets: tuple[tuple[str, str], ...] = ()

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
        for node, alphabet in self.alphabets:
            if node not in known:
                yield f"alphabet {alphabet!r} is given for {node!r}, which is no slot and no value"
        tables: dict[str, Function] = {}
        for function in self.functions:
            first = tables.setdefault(function.table, function)
            if self.alphabets_of(first.nodes) != self.alphabets_of(function.nodes):
                both = f"functions {first.name!r} and {function.name!r} share a table"
                yield f"{both}, but not the alphabets of their arguments and results"

    def alphabet(self, node: str) -> str:
        """The alphabet of a slot or value."""
        return dict(self.alphabets).get(node, DEFAULT_ALPHABET)

    def alphabets_of(self, nodes: Sequence[str]) -> tuple[str, ...]:
        """The alphabet of each of ``nodes``."""
        named = dict(self.alphabets)
        return tuple(named.get(node, DEFAULT_ALPHABET) for node in nodes)

    @property
    def nodes(self) -> tuple[str, ...]:
        """Input slots, then values in evaluation order."""
        return *self.inputs, *self.bridges, self.answer

    @property
    def fact_signatures(self) -> dict[tuple[str, ...], list[Function]]:
        """The functions by the alphabets of their arguments: whose a fact may be, by its tokens."""
        found: dict[tuple[str, ...], list[Function]] = {}
        for function in self.functions:
            found.setdefault(self.alphabets_of(function.sources), []).append(function)
        return found

    @property
    def answer(self) -> str:
        """Name of the value that is the task's output."""
        return self.functions[-1].output

    @property
    def bridges(self) -> tuple[str, ...]:
        """Names of the intermediate values in evaluation order: the chain-of-thought order."""
        return tuple(function.output for function in self.functions[:-1])

    def require_bridges(self, what: str) -> None:
        """Raise ``InputError`` if the task has no intermediate values, which ``what`` is about."""
        if not self.bridges:
            raise InputError(
                f"{what} intermediate values, but task {self.name} has none: all that is known of "
                f"it is {self.equations}"
            )

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
        """``type_0`` ... ``type_{2^m - 1}``, the coverage types of m functions.

        Of a single function over all slots a call is an input, so an unseen item tells nothing of
        its calls; it is of ``type_0``, the only type that there is.
        """
        return tuple(f"type_{i}" for i in range(2 ** len(self.functions) if self.bridges else 1))

    @property
    def fact_type_labels(self) -> tuple[str, ...]:
        """Every type of a data set that trains single facts, in the order of ``type_labels``.

        An unseen call may be known as a fact only: ``type_2+f1`` is ``type_2`` (f1 unseen) with the
        call of f1 among the training facts.
        """
        found = []
        for label in self.type_labels:
            names = [
                f.name for f, s in zip(self.functions, self.type_seen(label), strict=True) if not s
            ]
            for size in range(len(names) + 1):
                found += ["+".join([label, *chosen]) for chosen in combinations(names, size)]
        return tuple(found)

    def type_label(self, seen: Sequence[bool], known: Sequence[bool] | None = None) -> str:
        """Coverage type of an item from "the call of function j is seen", j = 1..m.

        All seen is ``type_0``; otherwise ``type_{bits + 1}`` with the first function as the most
        significant bit, and the names of the functions whose call is unseen and ``known``.
        """
        if len(seen) != len(self.functions):
            raise ValueError(f"{len(self.functions)} flags are needed, got {len(seen)}")
        if all(seen) or not self.bridges:
            return "type_0"
        bits = int("".join("1" if flag else "0" for flag in seen), 2)
        flags = zip(self.functions, seen, known or [False] * len(seen), strict=True)
        facts = [f.name for f, is_seen, is_known in flags if is_known and not is_seen]
        return "+".join([f"type_{bits + 1}", *facts])

    def type_seen(self, label: str) -> tuple[bool, ...]:
        """Inverse of ``type_label``: which functions' calls are seen in items of this type."""
        count = len(self.functions)
        number = self.type_labels.index(base_type(label))
        bits = 2**count - 1 if number == 0 else number - 1
        return tuple(bool(bits >> (count - 1 - j) & 1) for j in range(count))

    def type_known(self, label: str) -> tuple[bool, ...]:
        """Which functions' calls are unseen but known as facts in items of this type."""
        names = label.split("+")[1:]
        return tuple(function.name in names for function in self.functions)

    def words(self, label: str) -> str | None:
        """What a type says of its items, in few words; None if it is no type of this task.

        A function is unseen where no training composition makes the item's call of it:
        ``f1 unseen`` for ``type_2`` of two functions.
        """
        if label in _SAME_WORDS:
            return _SAME_WORDS[label]
        if base_type(label) not in self.type_labels:
            return None
        if not self.bridges:
            return "not in training"
        names = [function.name for function in self.functions]
        known = list(compress(names, self.type_known(label)))
        seen = list(compress(names, self.type_seen(label)))
        if len(seen) == len(names):
            return "every call seen"
        if not (seen or known):
            return "both unseen" if len(names) == 2 else "all unseen"
        facts = "known as a fact only" if len(known) == 1 else "known as facts only"
        unseen = [name for name in names if name not in {*seen, *known}]
        parts = (unseen, "unseen"), (known, facts)
        return "; ".join(f"{listed(own)} {what}" for own, what in parts if own)

    def explained(self, label: str) -> str:
        """A type with its words, as a person reads it: ``type_2 (f1 unseen)``.

        What is no type of this task, as a group of items by k-cutoff, stays as it is.
        """
        words = self.words(label)
        return label if words is None else f"{label} ({words})"

    @property
    def equations(self) -> str:
        """The functions as text, such as ``b = f1(x1, x2), t = f2(b, x3)``."""
        return ", ".join(f"{f.output} = {f.name}({', '.join(f.sources)})" for f in self.functions)

    def to_dict(self) -> dict:
        """A JSON-ready description; ``from_dict`` reads it back."""
        functions = []
        for f in self.functions:
            own = {"name": f.name, "output": f.output, "sources": list(f.sources)}
            functions.append(own | ({"table": f.shared} if f.shared else {}))
        about = {"name": self.name, "inputs": list(self.inputs), "functions": functions}
        return about | ({"alphabets": dict(self.alphabets)} if self.alphabets else {})

    @classmethod
    def from_equations(cls, equations: str, name: str = "task", *, shared: bool = True) -> Self:
        """The graph of ``equations``; its input slots are in the order of first use.

        ``shared``: all slots and values are of one alphabet; otherwise each has its own.
        ``InputError`` if they are no equations, or for what the constructor refuses.

        >>> TaskGraph.from_equations("b = f1(x, y), t = f2(b, z)").inputs
        ('x', 'y', 'z')
        """
        parts = [part.strip(" ,;\n") for part in re.findall(r"[^()]*\([^()]*\)|[^()]+$", equations)]
        found = [_EQUATION.fullmatch(part) for part in parts if part]
        if not found or not all(found):
            wanted = "such as 'b = f1(x1, x2), t = f2(b, x3)'"
            raise InputError(f"{equations!r} must be equations, {wanted}")
        functions = [
            {"name": f[2], "output": f[1], "sources": [s.strip() for s in f[3].split(",")]}
            for f in found
        ]
        outputs = [f["output"] for f in functions]
        sources = dict.fromkeys(source for f in functions for source in f["sources"])
        inputs = [source for source in sources if source not in outputs]
        alphabets = {} if shared else {node: node for node in (*inputs, *outputs)}
        return cls.from_dict(
            {"name": name, "inputs": inputs, "functions": functions, "alphabets": alphabets}
        )

    @classmethod
    def from_dict(cls, description: Mapping) -> TaskGraph:
        """Build a graph from ``to_dict``'s form; functions may come in any order.

        ``InputError`` says which key is wrong, or which node: see the constructor. ``answer`` may
        be given; it must then be the one value that no function reads.
        """
        try:
            functions = tuple(
                Function(
                    str(f["name"]),
                    str(f["output"]),
                    _names(f["sources"]),
                    None if f.get("table") is None else str(f["table"]),
                )
                for f in description["functions"]
            )
            name, inputs = task_name(str(description["name"])), _names(description["inputs"])
            alphabets = {str(k): str(v) for k, v in description.get("alphabets", {}).items()}
        except (KeyError, TypeError, AttributeError) as error:
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
        own = (part for f in functions for part in (f.name, f.output, f.table))
        for node in (*inputs, *own, *alphabets.values()):
            if not NODE_NAME.fullmatch(node):
                which = f"task graph {name!r}: the name {node!r}"
                raise InputError(f"{which} may only hold letters, digits, _ and -")
        ordered = _in_evaluation_order(name, inputs, functions)
        graph = cls(name, inputs, ordered, tuple(alphabets.items()))
        answer = description.get("answer", graph.answer)
        if answer != graph.answer:
            told = f"task graph {name!r}: the answer is said to be {answer!r}"
            raise InputError(f"{told}, but the value that no function reads is {graph.answer!r}")
        return graph


_EQUATION = re.compile(r"([\w-]+) *= *([\w-]+) *\(([^()=]*)\)")


def base_type(label: str) -> str:
    """A type without what is known as facts only: ``type_2+f1`` is a ``type_2``."""
    return label.split("+")[0]


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


#: The one generator that goes by another name than its task; either names the task.
_TASK, _GENERATOR = "parallel2hop", "parallel-twohop"


def task_name(name: str) -> str:
    """The name by which code and files know a task: ``parallel-twohop`` is ``parallel2hop``."""
    return _TASK if name == _GENERATOR else name


def generator_name(name: str) -> str:
    """The name of a task's generator, ``dataset_generation/NAME.py``, by either of its names."""
    return _GENERATOR if name == _TASK else name


#: The tasks of the paper by name.
TASKS: dict[str, TaskGraph] = {
    name: TaskGraph.from_equations(equations, name)
    for name, equations in {
        "twohop": "b = f1(x1, x2), t = f2(b, x3)",
        "threehop": "b1 = f1(x1, x2), b2 = f2(b1, x3), t = f3(b2, x4)",
        "fivehop": "b1 = f1(x1, x2), b2 = f2(b1, x3), b3 = f3(b2, x4), b4 = f4(b3, x5), "
        "t = f5(b4, x6)",
        "parallel2hop": "b1 = f1(x1, x2), b2 = f2(x3, x4), t = f3(b1, b2)",
        "nontree": "b = f1(x1, x2), t = f2(b, x2, x3)",
    }.items()
}
