"""What coverage, and the search for required data, are asked for; the flags follow from it."""

from __future__ import annotations

import argparse
import dataclasses
from dataclasses import dataclass

from coverage_principle.cli import bytes_of, integers, not_a_share, numbers, share_or
from coverage_principle.data.settings import (
    EntityWorldSettings,
    alphabets_setting,
    ood_ratio_setting,
)
from coverage_principle.errors import InputError
from simpletransformers.settings import MOST_SEED, Settings, setting

#: A setting, what it does, and the settings that would be ignored beside it.
_ALONE = (
    (
        "suggest",
        "chooses training items, counted as by `ground_truth`",
        (
            "scope",
            "noise",
            "k_sweep",
            "max_k",
            "visualise",
            "export_graph",
            "explain",
            "fragments",
            "graded",
        ),
    ),
    (
        "explain",
        "writes nothing and looks at every k",
        (
            *("k_sweep", "max_k", "visualise", "export_graph", "min_evidence", "graded"),
            "output_dir",
        ),
    ),
    (
        "cut",
        "looks for training items to remove",
        (
            *("noise", "k_sweep", "max_k", "visualise", "export_graph", "explain", "suggest"),
            *("graded", "output_dir"),
        ),
    ),
    ("ground_truth", "looks at one fragment only", ("fragments", "graded")),
    ("visualise", "draws the dataset scope", ("scope",)),
    ("export_graph", "writes the graph of the dataset scope", ("scope",)),
)


#: What ``noise`` may be beside a share below ``_MOST_NOISE``.
AUTO = "auto"
#: Where half of the labels are wrong, two answers would say nothing.
_MOST_NOISE = 0.5

_SCOPES = (
    "where swaps may lead. dataset: through training and type_0 test items, as published; domain: "
    "through every input that there is, so that items of all types have a k-cutoff"
)


@dataclass(frozen=True)
class CoverageSettings(Settings):
    """What is computed of a data set's coverage, and what is written of it.

    ``InputError`` for a value out of range, and for settings of which one would be ignored.
    """

    min_evidence: int = setting(
        1,
        "in how many shared contexts two fragments must act alike to be interchangeable",
        at_least=1,
        metavar="K",
        group="coverage",
    )
    k_sweep: bool = setting(
        False,
        "coverage at every k: the k-cutoff of each item, and counts and figures in `output_dir`",
        group="sweep",
    )
    max_k: int | None = setting(
        None,
        "last k of the sweep (default: the largest that covers anything, but at least 20)",
        at_least=1,
        metavar="K",
        group="sweep",
    )
    ground_truth: bool = setting(
        False,
        "count only pairs of fragments that are equal in truth (by the task's tables), and only "
        "those of the first function",
        group="coverage",
    )
    visualise: bool = setting(
        False,
        "draw the substitution graph (which swap leads from which item to which) at "
        "`min_evidence`: interactive HTML and PNG",
        group="written",
    )
    export_graph: str | None = setting(
        None,
        "write the substitution graph at `min_evidence`, with every edge, for Gephi or networkx",
        metavar="FILE.graphml",
        group="written",
    )
    scope: str = setting("dataset", _SCOPES, choices=("dataset", "domain"), group="coverage")
    fragments: str | None = setting(
        None,
        "which slots a fragment may consist of: 1,2 for x1 and x2 together; 1,2;2,3 for two such "
        "sets; contiguous for neighbours only (default: all sets)",
        metavar="SETS",
        group="coverage",
    )
    noise: float | str = setting(
        0.0,
        "share of the training answers that may be wrong. Above 0, a few disagreements between two "
        "fragments are outweighed by many agreements. auto: the share is estimated from the data",
        parse=share_or(AUTO, below=_MOST_NOISE),
        metavar="SHARE",
        group="coverage",
    )
    graded: bool = setting(
        False,
        "also how much training data speaks for each answer, and what an ideal pattern matcher and "
        "a learner answer, with probabilities; the learner is left out where training items times "
        "answers are more than 10^9 (docs/graded.md)",
        group="graded",
    )
    fit: str | None = setting(
        None,
        "with `graded`: find the learner's numbers under which a model's answers are likeliest, on "
        "half of the type_0 items, and test them on the others. FILE is as for "
        "script/evaluate_predictions.py",
        metavar="FILE",
        group="graded",
    )
    explain: str | None = setting(
        None,
        'why "<t_3><t_9><t_1>" is covered, step by step, or what is missing; writes nothing',
        metavar="ITEM",
        group="item",
    )
    suggest: int | None = setting(
        None,
        "choose M further training items that raise coverage at `min_evidence` most, counted over "
        "all unseen compositions of seen facts, with pairs as by `ground_truth`",
        at_least=1,
        metavar="M",
        group="add",
    )
    cut: str | None = setting(
        None,
        "find a few training items without which ITEM is no longer covered at `min_evidence`",
        metavar="ITEM",
        group="item",
    )
    cut_file: str | None = setting(
        None,
        "write to FILE.json the training items that `cut` leaves, and to FILE_control.json those "
        "that are left if as many others are removed and ITEM stays covered",
        metavar="FILE.json",
        group="item",
    )
    cut_seed: int = setting(
        0,
        "seed by which those others are drawn",
        at_least=0,
        at_most=MOST_SEED,
        metavar="SEED",
        group="item",
    )
    output_dir: str | None = setting(
        None,
        "for results and figures (default: k_sweep_results/ of the repository)",
        group="written",
    )

    @property
    def lowest_k(self) -> int:
        """The k from which coverage is determined: 1 where k-cutoffs are asked for."""
        every_k = self.k_sweep or self.explain is not None or self.export_graph is not None
        return 1 if every_k else self.min_evidence

    def check(self) -> None:
        super().check()
        defaults = {field.name: field.default for field in dataclasses.fields(self)}
        for name, does, ignored in _ALONE:
            given = [f"`{n}`" for n in ignored if getattr(self, n) != defaults[n]]
            if getattr(self, name) != defaults[name] and given:
                raise InputError(f"`{name}` {does}; omit {', '.join(given)}")
        is_number = isinstance(self.noise, (int, float)) and not isinstance(self.noise, bool)
        if self.noise != AUTO and not (is_number and 0 <= self.noise < _MOST_NOISE):
            raise InputError(f"`noise` {not_a_share(repr(self.noise), AUTO, _MOST_NOISE)}")
        if self.fit is not None and not self.graded:
            raise InputError("`fit` is about the learner; give `graded` with it")
        if self.max_k is not None and not self.k_sweep:
            raise InputError("`max_k` is the last k of a sweep; give `k_sweep` with it")
        if self.export_graph is not None and not self.export_graph.endswith(".graphml"):
            raise InputError(f"`export_graph` {self.export_graph} must end in .graphml")
        if self.cut_file is not None and self.cut is None:
            raise InputError("`cut_file` holds what a cut leaves; give `cut` with it")
        if self.cut_seed and self.cut_file is None:
            raise InputError("`cut_seed` draws the control; give `cut_file` with it")
        if self.cut_file is not None and not self.cut_file.endswith(".json"):
            raise InputError(f"`cut_file` {self.cut_file} must end in .json")


@dataclass(frozen=True)
class PartsSettings(Settings):
    """What coverage may take of the machine."""

    memory: int | None = setting(
        None,
        "the memory that coverage may take, all processes together (with `launcher` slurm: each "
        "job), such as 3G or 1500M. Slot sets are then looked at in parts that fit, the rest waits "
        "on disk (default: all at once)",
        parse=bytes_of,
        metavar="SIZE",
        group="launch",
    )


#: The learner computes with 32 bits: sums of larger numbers would lose what is small.
_MOST_NUMBER = 1e4

#: The defaults: the dataset scope at every k, all fragments.
EVERYTHING = CoverageSettings()


@dataclass(frozen=True)
class LearnerSettings(Settings):
    """The learner's kernel (``learner.py``); chosen on other worlds than it is reported on."""

    overlap: float = setting(
        1.0,
        "h: how alike two fragments with the same tokens are held to be, without evidence",
        at_least=0,
        at_most=_MOST_NUMBER,
        group="learner",
    )
    background: float = setting(
        0.5,
        "g: how alike any two fragments are held to be, without evidence",
        at_least=1e-3,
        at_most=_MOST_NUMBER,
        group="learner",
    )
    shrinkage: float = setting(
        8.0,
        "s: in how many shared contexts two fragments must act alike to be half believed alike",
        at_least=1e-3,
        at_most=_MOST_NUMBER,
        group="learner",
    )
    ridge: float = setting(
        1.0,
        "how strongly answers are smoothed; a small number fits every training item",
        at_least=1e-3,
        at_most=_MOST_NUMBER,
        group="learner",
    )


def _integers(
    group: str, default: tuple[int, ...], about: str, least: int, most: int | None = None
):
    bounds = {"at_least": least, "at_most": most}
    about += ", separated by commas"
    shape = {"parse": integers(least), "metavar": "N,N,...", "group": group}
    return setting(default, about, **bounds, **shape)


_SEEDS = "a world is drawn for each of these seeds"
_OF_FACTS = "share of each function's facts (its calls) that training items may use"
_WORLD = {"group": "world"}


def _seen_ratio():
    return setting(0.7, _OF_FACTS, at_least=0, at_most=1, metavar="SHARE", **_WORLD)


def _family():
    return setting(
        "random", "how functions are drawn, as for the generators", metavar="FAMILY", **_WORLD
    )


def _tolerance(default: float):
    about = "relative width at which the search stops"
    return setting(default, about, metavar="SHARE", group="search")


@dataclass(frozen=True)
class SearchSettings(Settings):
    """Worlds, and what of their unseen in-domain items must be covered."""

    num_tokens: tuple[int, ...] = _integers(
        "world", (30, 50, 70, 100), "|X|, the number of tokens; several sizes", 2
    )
    k: tuple[int, ...] = _integers(
        "search",
        (1, 2, 3, 4),
        "how firmly items must be covered: contexts in which two fragments must act alike",
        1,
    )
    seeds: tuple[int, ...] = _integers("world", (42, 43, 44), _SEEDS, 0, MOST_SEED)
    share: float = setting(
        0.99,
        "share of the unseen compositions of usable facts that must be covered",
        metavar="SHARE",
        group="search",
    )
    value: str | None = setting(
        None,
        "swap only fragments that make this intermediate value, such as b (default: those of all "
        "values)",
        metavar="NAME",
        group="search",
    )
    sample: int = setting(
        100_000,
        "how many of the unseen items are looked at, drawn at random. With `value` or `iterate` "
        "all are",
        at_least=2,
        metavar="M",
        group="search",
    )
    iterate: bool = setting(
        False,
        "let covered items serve as evidence in a next round, until nothing more is covered; needs "
        "memory for every item",
        group="search",
    )
    default_seen_ratio: float = _seen_ratio()
    function_family: str = _family()
    alphabets: tuple[str, ...] = alphabets_setting()
    tolerance: float = _tolerance(0.005)

    def check(self) -> None:
        super().check()
        for name in ("share", "tolerance"):
            if not 0 < getattr(self, name) < 1:
                raise InputError(f"`{name}` {getattr(self, name)} is not between 0 and 1")
        for name in ("value", "iterate"):
            if getattr(self, name) and self.sample != SearchSettings.sample:
                raise InputError(f"with `{name}` all items are counted; omit `sample`")


#: What can be asked how much data it needs.
PREDICTORS = ("matcher", "learner")


def _predictors(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",")))
    if not set(names) <= set(PREDICTORS):
        raise argparse.ArgumentTypeError(f"{text} is not of {', '.join(PREDICTORS)}")
    return names


@dataclass(frozen=True)
class PredictedSettings(Settings):
    """Worlds, and what share of their unseen in-domain items must be answered rightly."""

    num_tokens: tuple[int, ...] = _integers(
        "world", (16, 20, 28), "|X|, the number of tokens; several sizes", 2
    )
    by: tuple[str, ...] = setting(
        PREDICTORS,
        "who has to answer: matcher, learner, or both",
        parse=_predictors,
        metavar="NAME,...",
        group="search",
    )
    seeds: tuple[int, ...] = _integers("world", (42, 43, 44), _SEEDS, 0, MOST_SEED)
    accuracy: float = setting(
        0.99,
        "share of the unseen compositions of usable facts that must be answered rightly",
        metavar="SHARE",
        group="search",
    )
    sample: int = setting(
        2000,
        "how many of the unseen items are looked at, drawn at random",
        at_least=2,
        metavar="M",
        group="search",
    )
    default_seen_ratio: float = _seen_ratio()
    function_family: str = _family()
    alphabets: tuple[str, ...] = alphabets_setting()
    tolerance: float = _tolerance(0.03)

    def check(self) -> None:
        super().check()
        if not set(self.by) <= set(PREDICTORS):
            raise InputError(f"`by` {self.by} is not of {', '.join(PREDICTORS)}")
        for name in ("accuracy", "tolerance"):
            if not 0 < getattr(self, name) < 1:
                raise InputError(f"`{name}` {getattr(self, name)} is not between 0 and 1")


#: Settings of a search that its worlds of entities have too.
OF_ENTITIES = ("num_relations", "out_degree", "ood_ratio")


@dataclass(frozen=True)
class PhiSettings(Settings):
    """Worlds of entities, the amounts of training data, and the k that are shown."""

    num_entities: tuple[int, ...] = _integers(
        "world", (500, 1000, 2000, 4000), "entities; several sizes", 2
    )
    phi: tuple[float, ...] = setting(
        (3.6, 5.4, 7.2, 9.0),
        "training compositions for each fact that they may use; several, separated by commas",
        at_least=0,
        parse=numbers,
        metavar="X,X,...",
        group="training",
    )
    k: tuple[int, ...] = _integers(
        "search",
        (3,),
        "at which k coverage is shown: contexts in which two fragments must act alike; several",
        1,
    )
    seeds: tuple[int, ...] = _integers("world", (42,), _SEEDS, 0, MOST_SEED)
    num_relations: int = setting(200, "relations", at_least=1, **_WORLD)
    out_degree: int = setting(20, "facts of each entity", at_least=1, **_WORLD)
    ood_ratio: float = ood_ratio_setting(0.05)

    def check(self) -> None:
        super().check()
        for entities in self.num_entities:
            self.world(entities, self.phi[0], self.seeds[0])

    def world(self, num_entities: int, phi: float, seed: int) -> EntityWorldSettings:
        """The world of one size, amount and seed, as its generator takes it."""
        own = {name: getattr(self, name) for name in OF_ENTITIES}
        return EntityWorldSettings(num_entities=num_entities, phi=phi, seed=seed, **own)
