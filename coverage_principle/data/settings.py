"""Settings of a data set: what is drawn, and how it is written down.

The generators' flags are made of these. The standard library is enough here, so that a generator
shows its help at once.
"""

from __future__ import annotations

from dataclasses import dataclass

from coverage_principle.errors import InputError
from coverage_principle.tasks import TaskGraph
from simpletransformers.settings import MOST_SEED, Settings, setting

#: How a function's table is drawn: the name of a family, and what it means. ``tables.py`` has the
#: function that draws each.
FUNCTION_FAMILIES = {
    "random": "every output uniform and independent",
    "commutative": "random, but equal for all orders of the arguments",
    "modular": "sum of the arguments and a random constant, modulo |X|",
    "balanced": "random, but every output equally often",
}

#: Facts that one table may have. Tables are held whole, and a generator needs about 90 bytes a fact
#: at its peak, so this is 24 GiB: beyond it a refusal is better than a machine that swaps.
MOST_FACTS = 2**28


@dataclass(frozen=True)
class WorldSettings(Settings):
    """What a world is drawn from, beside its task.

    With ``same_function`` all functions are one: those of equal arity share a table and its seen
    split, and wider ones are the left fold of the narrowest (``f2(b, x2, x3) = f1(f1(b, x2), x3)``)
    with a seen split of their own; with ``separate_seen`` each function has a seen split of its
    own, so that a fact may be seen at one place only.
    """

    num_tokens: int = setting(help="|X|, the number of tokens <t_0> ...", at_least=2)
    max_train_data_num: int = setting(help="N, training items", at_least=1)
    default_seen_ratio: float = setting(
        0.7, "share of each function's facts that training items may use", at_least=0, at_most=1
    )
    test_size_for_type: int = setting(2000, "test items of each type", at_least=1)
    seed: int = setting(42, "0 or more; same arguments, same files", at_least=0, at_most=MOST_SEED)
    validation_size: int = setting(
        0, "items of each type in valid.json, apart from the test items; 0: no file", at_least=0
    )
    function_family: str = setting(
        "random",
        "how the functions are drawn. "
        + "; ".join(f"{name}: {about}" for name, about in FUNCTION_FAMILIES.items()),
        choices=FUNCTION_FAMILIES,
    )
    same_function: bool = setting(
        False, "functions of equal arity are one; wider ones fold the narrowest"
    )
    separate_seen: bool = setting(
        False,
        "where all functions are one: a seen split for each, so that a fact may be seen at one "
        "place only",
    )

    def check(self) -> None:
        super().check()
        if self.separate_seen and not self.same_function:
            raise InputError(
                "`separate_seen` is about one function at several places (`same_function`); "
                "different functions have separate seen splits anyway"
            )

    def check_task(self, graph: TaskGraph) -> None:
        """Raise ``InputError`` for a value that does not fit the task."""
        widest = max(graph.functions, key=lambda function: function.arity)
        facts = self.num_tokens**widest.arity
        if facts > MOST_FACTS:
            raise InputError(
                f"`num_tokens` {self.num_tokens} gives function {widest.name} of task {graph.name} "
                f"{facts:,} facts, and a table may have {MOST_FACTS:,}; give at most "
                f"{_largest_base(MOST_FACTS, widest.arity)}"
            )
        arities = {function.arity for function in graph.functions}
        if self.same_function and len(arities) > 1 and min(arities) != 2:
            shown = ", ".join(f"{f.name}: {f.arity}" for f in graph.functions)
            raise InputError(
                f"task {graph.name}: functions of different arity ({shown}) can only be the same "
                "function if the narrowest has two arguments, which the others then fold"
            )


@dataclass(frozen=True)
class FormatSettings(Settings):
    """How a world is written down.

    ``include_atomic`` adds single facts to the training file, as records of their own: those that
    every function uses in training, so that no type changes its meaning.
    """

    cot: bool = setting(
        False, "chain of thought: targets hold the intermediate values, then the answer"
    )
    fake_bridge: bool = setting(
        False,
        "targets hold the constant </b> in place of each intermediate value, then the answer (a "
        "control; goes before chain of thought)",
    )
    atomic_facts: str = setting(
        "full",
        "facts written for each function: all, those used in training, or none",
        choices=("full", "seen", "none"),
    )
    atomic_format: str = setting(
        "auto",
        "auto: JSON up to a million facts a function, else a compressed array",
        choices=("auto", "json", "npz"),
    )
    include_atomic: bool = setting(
        False,
        "add to train.json, as single facts, those that all functions use in training; all "
        "functions must be one, of one arity",
    )

    @property
    def target_format(self) -> str:
        """What a target holds: ``inf`` (the answer), ``cot`` or ``fakebridge``."""
        return "fakebridge" if self.fake_bridge else "cot" if self.cot else "inf"

    def check_task(self, graph: TaskGraph, world: WorldSettings) -> None:
        """Raise ``InputError`` if single facts cannot stand beside the task's compositions.

        They can where all functions are one table and no fact could be taken for a composition.
        """
        if not self.include_atomic:
            return
        arities = {function.arity for function in graph.functions}
        if not world.same_function or len(arities) > 1:
            raise InputError(
                "`include_atomic` needs one function for all hops (`same_function`): the facts of "
                "different functions with the same arguments contradict each other"
            )
        if len(graph.inputs) in arities:
            facts = f"its facts are as long as its compositions ({len(graph.inputs)} tokens)"
            refused = f"`include_atomic` cannot be used with task {graph.name}"
            raise InputError(f"{refused}: {facts} and would contradict them")


def _largest_base(most: int, exponent: int) -> int:
    """The largest n with n ** exponent <= most."""
    base = round(most ** (1 / exponent))
    return base if base**exponent <= most else base - 1
