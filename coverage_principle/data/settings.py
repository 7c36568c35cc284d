"""Settings of a data set: what is drawn, and how it is written down.

The generators' flags are made of these. The standard library is enough here, so that a generator
shows its help at once.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from math import prod

from coverage_principle.data.relational import MOST_HOPS
from coverage_principle.errors import InputError
from coverage_principle.tasks import TaskGraph
from simpletransformers.settings import MOST_SEED, Settings, setting
from simpletransformers.words import counted

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

#: Which facts stand in the training file as single facts, and what each means.
TRAINED_FACTS = {
    "none": "none",
    "seen": "those that training compositions use",
    "in_domain": "those that training compositions may use",
    "all": "all, so that those which no composition uses are known as facts only",
}

_FACTS_HELP = "which single facts (function calls) train.json holds beside items. " + "; ".join(
    f"{name}: {about}" for name, about in TRAINED_FACTS.items()
)


def facts_setting(default: str | None, more: str = "") -> str:
    """The setting `facts`."""
    return setting(default, _FACTS_HELP + more, choices=TRAINED_FACTS, group="training")


def label_noise_setting() -> float:
    """The setting `label_noise`."""
    about = "share of the training items whose answer is a wrong one, drawn at random"
    return setting(0.0, about, at_least=0, at_most=1, metavar="SHARE", group="training")


def seed_setting() -> int:
    """The setting `seed`."""
    about = "of everything that is drawn; same arguments, same files"
    return setting(42, about, at_least=0, at_most=MOST_SEED, metavar="SEED", group="world")


def validation_size_setting() -> int:
    """The setting `validation_size`."""
    about = "items of each type in valid.json, which are no test items; 0: no file"
    return setting(0, about, at_least=0, group="test")


def ood_ratio_setting(default: float, more: str = "") -> float:
    """The setting `ood_ratio`."""
    about = f"share of the facts that no training composition may use{more}"
    return setting(default, about, at_least=0, at_most=1, metavar="SHARE", group="training")


def test_size_setting(default: int) -> int:
    """The setting `test_size_for_type`."""
    about = "test items of each type (type_0: new compositions of facts that training shows; the "
    about += "others use facts that it never shows)"
    return setting(default, about, at_least=1, group="test")


def chain_of_thought_setting() -> bool:
    """The setting `cot`."""
    about = "chain of thought: targets hold the intermediate values, then the answer"
    return setting(False, about, group="written")


def alphabet_sizes(text: str) -> tuple[str, ...]:
    """For ``type=``: ``entity=60,relation=12`` as parts."""
    return tuple(part.strip() for part in text.split(","))


def alphabets_setting() -> tuple[str, ...]:
    """The setting `alphabets`."""
    about = "tokens of the task's own alphabets, such as entity=60,relation=12; those not named "
    about += "have `num_tokens`"
    how = {"parse": alphabet_sizes, "metavar": "NAME=SIZE,...", "group": "world"}
    return setting((), about, **how)


@dataclass(frozen=True)
class WorldSettings(Settings):
    """What a world is drawn from, beside its task.

    With ``same_function`` all functions are one: those of equal arity share a table and its seen
    split, and wider ones are the left fold of the narrowest (``f2(b, x2, x3) = f1(f1(b, x2), x3)``)
    with a seen split of their own; with ``separate_seen`` each function has a seen split of its
    own, so that a fact may be seen at one place only.
    """

    num_tokens: int = setting(
        help="|X|, the number of tokens <t_0>, <t_1> ...", at_least=2, group="world"
    )
    max_train_data_num: int = setting(
        help="N, the number of training items", at_least=1, group="training"
    )
    default_seen_ratio: float = setting(
        0.7,
        "share of each function's facts (its calls) that training items may use",
        at_least=0,
        at_most=1,
        metavar="SHARE",
        group="training",
    )
    test_size_for_type: int = test_size_setting(2000)
    seed: int = seed_setting()
    validation_size: int = validation_size_setting()
    function_family: str = setting(
        "random",
        "how the functions are drawn. "
        + "; ".join(f"{name}: {about}" for name, about in FUNCTION_FAMILIES.items()),
        choices=FUNCTION_FAMILIES,
        metavar="FAMILY",
        group="world",
    )
    same_function: bool = setting(
        False,
        "functions with the same number of arguments are one function; wider ones apply the "
        "narrowest several times",
        group="world",
    )
    separate_seen: bool = setting(
        False,
        "with `same_function`: each place has facts of its own that training items may use, so "
        "that a fact may be shown at one place only",
        group="training",
    )
    facts: str = facts_setting("none")
    label_noise: float = label_noise_setting()
    alphabets: tuple[str, ...] = alphabets_setting()

    def check(self) -> None:
        super().check()
        for part in self.alphabets:
            name, _, size = part.partition("=")
            if not (name and size.isdecimal() and int(size) >= 1):
                raise InputError(
                    f"`alphabets` {part} is not NAME=SIZE with a size of at least 1, such as "
                    "entity=60"
                )
        if self.separate_seen and not self.same_function:
            raise InputError(
                "`separate_seen` is about one function at several places (`same_function`); "
                "different functions have separate seen splits anyway"
            )

    def sizes(self, graph: TaskGraph) -> dict[str, int]:
        """The number of tokens of each alphabet of a task, in the order of its slots and values.

        ``InputError`` for a size of an alphabet that the task does not have.
        """
        given = dict(part.split("=") for part in self.alphabets)
        names = tuple(dict.fromkeys(graph.alphabets_of(graph.nodes)))
        for name in given:
            if name not in names:
                lack = f"task {graph.name} has no alphabet {name}; it has {', '.join(names)}"
                raise InputError(f"`alphabets` {name}={given[name]}: {lack}")
        return {name: int(given.get(name, self.num_tokens)) for name in names}

    def arguments(self) -> dict[str, object]:
        """The settings as a data set's metadata keep them: newer ones only where they are used."""
        newer = {"facts": "none", "label_noise": 0.0, "alphabets": ()}
        own = asdict(self)
        return {name: own[name] for name in own if own[name] != newer.get(name, ...)}

    def check_task(self, graph: TaskGraph) -> None:
        """Raise ``InputError`` for a value that does not fit the task."""
        sizes = self.sizes(graph)
        calls = {
            f: prod(sizes[alphabet] for alphabet in graph.alphabets_of(f.sources))
            for f in graph.functions
        }
        widest = max(graph.functions, key=calls.get)
        if calls[widest] > MOST_FACTS:
            raise InputError(
                f"`num_tokens` {self.num_tokens} gives function {widest.name} of task {graph.name} "
                f"{calls[widest]:,} facts, and a table may have {MOST_FACTS:,}; give at most "
                f"{_largest_base(MOST_FACTS, widest.arity)}"
            )
        arities = {function.arity for function in graph.functions}
        if self.same_function and len(arities) > 1 and min(arities) != 2:
            shown = ", ".join(f"{f.name}: {f.arity}" for f in graph.functions)
            raise InputError(
                f"task {graph.name}: functions of different arity ({shown}) can only be the same "
                "function if the narrowest has two arguments, which the others then fold"
            )
        if self.same_function and len(sizes) > 1:
            raise InputError(
                f"task {graph.name}: functions over different alphabets ({', '.join(sizes)}) "
                "cannot be one by `same_function`; name a table that some share in the task's file"
            )
        if self.facts != "none":
            check_facts(graph, same=self.same_function)


def check_facts(graph: TaskGraph, *, same: bool) -> None:
    """Raise ``InputError`` if single facts cannot stand beside a task's compositions.

    ``same``: functions of equal arity are one. A fact must tell whose it is: by its length, and by
    the alphabets of its tokens.
    """
    for alphabets, functions in graph.fact_signatures.items():
        names = " and ".join(function.name for function in functions)
        if len(alphabets) == len(graph.inputs):
            raise InputError(
                f"`facts` cannot be used with task {graph.name}: facts of {names} are as long as "
                f"its compositions ({counted(len(alphabets), 'token')}) and would contradict them"
            )
        if not same and len({function.table for function in functions}) > 1:
            raise InputError(
                f"`facts`: the facts of {names} have the same arguments and would contradict each "
                "other; make the functions one (`same_function`), or give them alphabets of their "
                "own or a table that they share, in the task's file"
            )


#: Tasks of entities, each with the settings that it has alone; the first counts what an entity is
#: asked for.
ENTITY_TASKS = {
    "composition": ("num_relations", "out_degree", "hops"),
    "comparison": ("num_attributes", "num_values"),
}


@dataclass(frozen=True)
class EntityWorldSettings(Settings):
    """What a world of entities is drawn from (``grokked.py``).

    ``InputError`` for values that do not fit each other, and for a setting of the other task.
    """

    task: str = setting(
        "composition",
        "composition: from an entity along relations to another; comparison: which of two entities "
        "has more of an attribute",
        choices=tuple(ENTITY_TASKS),
        group="task",
    )
    num_entities: int = setting(2000, "entities <e_0>, <e_1> ...", at_least=2, group="world")
    num_relations: int = setting(
        200, "composition: relations <r_0>, <r_1> ...", at_least=1, group="world"
    )
    out_degree: int = setting(
        20,
        "composition: facts of each entity, with as many different relations",
        at_least=1,
        group="world",
    )
    hops: int = setting(
        2,
        f"composition: relations to follow, 2 to {MOST_HOPS}",
        at_least=2,
        at_most=MOST_HOPS,
        group="task",
    )
    num_attributes: int = setting(
        20, "comparison: attributes <attr_0>, <attr_1> ...", at_least=1, group="world"
    )
    num_values: int = setting(
        20, "comparison: values <0>, <1> ... of each attribute", at_least=2, group="world"
    )
    phi: float = setting(
        7.2,
        "training compositions for each fact that they may use",
        at_least=0,
        group="training",
    )
    ood_ratio: float = ood_ratio_setting(0.05, " (the published comparison has 0.1)")
    test_size_for_type: int = test_size_setting(3000)
    validation_size: int = validation_size_setting()
    seed: int = seed_setting()
    facts: str = facts_setting("all")
    label_noise: float = label_noise_setting()

    @property
    def sizes(self) -> tuple[int, ...]:
        """The settings that tell the world's size, in the order of a data set's name."""
        own = (name for name in ENTITY_TASKS[self.task] if name != "hops")
        return self.num_entities, *(getattr(self, name) for name in own)

    def check(self) -> None:
        super().check()
        defaults = {field.name: field.default for field in fields(self)}
        for task, names in ENTITY_TASKS.items():
            given = [f"`{name}`" for name in names if getattr(self, name) != defaults[name]]
            if task != self.task and given:
                raise InputError(f"`task` {self.task} has no {', '.join(given)}; that is {task}'s")
        if self.task == "composition" and self.out_degree > self.num_relations:
            raise InputError(
                f"`out_degree` {self.out_degree} is more than the {self.num_relations} relations "
                "(`num_relations`), and those of an entity are all different"
            )
        if self.largest > MOST_FACTS or self.domain >= 2**62:
            own = (name for name in ENTITY_TASKS[self.task] if name != "out_degree")
            named = ", ".join(f"`{name}`" for name in ("num_entities", *own))
            raise InputError(
                f"{named}: they make tables of {self.largest:,} entries, {self.domain:,} inputs; "
                f"the limits are {MOST_FACTS:,} and 2^62"
            )

    @property
    def largest(self) -> int:
        """The entries of the largest table."""
        facts = self.num_entities * getattr(self, ENTITY_TASKS[self.task][0])
        compared = self.num_attributes * self.num_values**2  # one for each attribute, to be counted
        return facts if self.task == "composition" else max(facts, compared)

    @property
    def domain(self) -> int:
        """The inputs that there are."""
        if self.task == "composition":
            return self.num_entities * self.num_relations**self.hops
        return self.num_attributes * self.num_entities**2

    def arguments(self) -> dict[str, object]:
        """The settings as a data set's metadata keep them: those of its task."""
        other = {
            name for task, names in ENTITY_TASKS.items() if task != self.task for name in names
        }
        return {name: value for name, value in asdict(self).items() if name not in other}


@dataclass(frozen=True)
class FormatSettings(Settings):
    """How a world is written down.

    ``include_atomic`` adds single facts to the training file, as records of their own: those that
    every function uses in training, so that no type changes its meaning.
    """

    cot: bool = chain_of_thought_setting()
    fake_bridge: bool = setting(
        False,
        "targets hold the constant </b> in place of each intermediate value, then the answer: a "
        "control for `cot`, which it overrides",
        group="written",
    )
    atomic_facts: str = setting(
        "full",
        "which facts of each function are written to atomic_facts_*.json: all, those that training "
        "shows, or none",
        choices=("full", "seen", "none"),
        group="written",
    )
    atomic_format: str = setting(
        "auto",
        "file format of these; auto: JSON up to a million facts a function, else a compressed "
        "array",
        choices=("auto", "json", "npz"),
        group="written",
    )
    include_atomic: bool = setting(
        False,
        "add to train.json, as single facts, those that all functions use in training; all "
        "functions must be one, of one number of arguments",
        group="training",
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
        if world.facts != "none":
            raise InputError(
                "`include_atomic` and `facts` both say which facts train.json holds; omit one"
            )
        arities = {function.arity for function in graph.functions}
        if not world.same_function or len(arities) > 1:
            raise InputError(
                "`include_atomic` needs one function for all hops (`same_function`): the facts of "
                "different functions with the same arguments contradict each other"
            )
        if len(graph.inputs) in arities:
            facts = (
                f"its facts are as long as its compositions ({counted(len(graph.inputs), 'token')})"
            )
            refused = f"`include_atomic` cannot be used with task {graph.name}"
            raise InputError(f"{refused}: {facts} and would contradict them")


def _largest_base(most: int, exponent: int) -> int:
    """The largest n with n ** exponent <= most."""
    base = round(most ** (1 / exponent))
    return base if base**exponent <= most else base - 1
