"""What coverage, and the search for required data, are asked for; the flags follow from it."""

from __future__ import annotations

import argparse
import dataclasses
from dataclasses import dataclass

from coverage_principle.cli import integers, not_a_share, numbers, share_or
from coverage_principle.data.settings import EntityWorldSettings, alphabets_setting
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
    "dataset: training and type_0 items, with their answers, as published; domain: every input, no "
    "answers, so that all types have a k-cutoff"
)


@dataclass(frozen=True)
class CoverageSettings(Settings):
    """What is computed of a data set's coverage, and what is written of it.

    ``InputError`` for a value out of range, and for settings of which one would be ignored.
    """

    min_evidence: int = setting(
        1, "k: shared contexts that make two fragments equivalent", at_least=1, metavar="K"
    )
    k_sweep: bool = setting(
        False, "all k at once: k-cutoffs, and counts, diagnostics and figures in `output_dir`"
    )
    max_k: int | None = setting(
        None,
        "last k of the sweep (default: the largest that covers anything, 20 at least)",
        at_least=1,
        metavar="K",
    )
    ground_truth: bool = setting(
        False,
        "only fragments of the task's first function, and only pairs whose true values, by its "
        "table, are equal",
    )
    visualise: bool = setting(
        False, "draw the substitution graph at `min_evidence`: interactive HTML and PNG"
    )
    export_graph: str | None = setting(
        None,
        "write the substitution graph at `min_evidence`, with every edge, for Gephi or networkx",
        metavar="FILE.graphml",
    )
    scope: str = setting("dataset", _SCOPES, choices=("dataset", "domain"))
    fragments: str | None = setting(
        None,
        "slot sets whose fragments may be substituted: contiguous, or such as 1,2 or 1,2;2,3 "
        "(default: all)",
        metavar="SETS",
    )
    noise: float | str = setting(
        0.0,
        "share of the training answers that may be wrong: a disagreement then outweighs some "
        "agreements, not all of them; auto: estimated from the data",
        parse=share_or(AUTO, below=_MOST_NOISE),
        metavar="E",
    )
    graded: bool = setting(
        False,
        "also how much speaks for each answer: support, and the answers and probabilities of the "
        "pattern matcher and of the learner",
    )
    fit: str | None = setting(
        None,
        "with `graded`: fit the learner's numbers to the answers of a model (predictions as for "
        "script/evaluate_predictions.py) on half of the type_0 items, and test them on the others",
        metavar="PREDICTIONS",
    )
    explain: str | None = setting(
        None,
        'say why "<t_3><t_9><t_1>" is covered or what is missing; writes nothing',
        metavar="ITEM",
    )
    suggest: int | None = setting(
        None,
        "choose M further training items that raise coverage at `min_evidence` most, over all "
        "in-domain items, counted as by `ground_truth`; goes to `output_dir`",
        at_least=1,
        metavar="M",
    )
    cut: str | None = setting(
        None,
        "find a small set of training items without which ITEM is not covered at `min_evidence`",
        metavar="ITEM",
    )
    cut_file: str | None = setting(
        None,
        "write the training records that the `cut` leaves to FILE.json, and to FILE_control.json "
        "those without as many others, which leave it covered",
        metavar="FILE.json",
    )
    cut_seed: int = setting(
        0, "of the random items of the control", at_least=0, at_most=MOST_SEED, metavar="SEED"
    )
    output_dir: str | None = setting(
        None, "for results and figures (default: k_sweep_results in the repository)"
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


#: The learner computes with 32 bits: sums of larger numbers would lose what is small.
_MOST_NUMBER = 1e4

#: The defaults: the dataset scope at every k, all fragments.
EVERYTHING = CoverageSettings()


@dataclass(frozen=True)
class LearnerSettings(Settings):
    """The learner's kernel (``learner.py``); chosen on other worlds than it is reported on."""

    overlap: float = setting(
        1.0,
        "h: how alike equal tokens make two fragments that never met",
        at_least=0,
        at_most=_MOST_NUMBER,
    )
    background: float = setting(
        0.5, "g: how alike all fragments are", at_least=1e-3, at_most=_MOST_NUMBER
    )
    shrinkage: float = setting(
        8.0,
        "s: contexts it takes to half believe what fragments show",
        at_least=1e-3,
        at_most=_MOST_NUMBER,
    )
    ridge: float = setting(
        1.0,
        "how much is smoothed: small ones fit every training item",
        at_least=1e-3,
        at_most=_MOST_NUMBER,
    )


def _integers(default: tuple[int, ...], about: str, least: int, most: int | None = None):
    bounds = {"at_least": least, "at_most": most}
    return setting(default, about, **bounds, parse=integers(least), metavar="LIST")


@dataclass(frozen=True)
class SearchSettings(Settings):
    """Worlds, and what of their unseen in-domain items must be covered."""

    num_tokens: tuple[int, ...] = _integers(
        (30, 50, 70, 100), "|X|, several separated by commas", 2
    )
    k: tuple[int, ...] = _integers((1, 2, 3, 4), "evidence thresholds", 1)
    seeds: tuple[int, ...] = _integers((42, 43, 44), "a world for each", 0, MOST_SEED)
    share: float = setting(0.99, "of the unseen in-domain items that must be covered")
    value: str | None = setting(
        None,
        "the one intermediate value whose fragments may be substituted (default: all that leave a "
        "context, at once)",
    )
    sample: int = setting(
        100_000,
        "unseen in-domain items that are looked at, drawn uniformly; all, if there are no more. "
        "With the fragments of one value all are counted in any case",
        at_least=2,
        metavar="M",
    )
    iterate: bool = setting(
        False,
        "covered items are evidence in the next round, until nothing new is covered; every "
        "in-domain item is held",
    )
    default_seen_ratio: float = setting(
        0.7, "share of each function's facts that training may use", at_least=0, at_most=1
    )
    function_family: str = setting("random", "as for the generators")
    alphabets: tuple[str, ...] = alphabets_setting()
    tolerance: float = setting(0.005, "relative width at which the bisection stops")

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

    num_tokens: tuple[int, ...] = _integers((16, 20, 28), "|X|, several separated by commas", 2)
    by: tuple[str, ...] = setting(
        PREDICTORS, "matcher, learner, or both", parse=_predictors, metavar="LIST"
    )
    seeds: tuple[int, ...] = _integers((42, 43, 44), "a world for each", 0, MOST_SEED)
    accuracy: float = setting(0.99, "share of the unseen in-domain items that must be right")
    sample: int = setting(2000, "unseen in-domain items that are looked at", at_least=2)
    default_seen_ratio: float = setting(
        0.7, "share of each function's facts that training may use", at_least=0, at_most=1
    )
    function_family: str = setting("random", "as for the generators")
    alphabets: tuple[str, ...] = alphabets_setting()
    tolerance: float = setting(0.03, "relative width at which the bisection stops")

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
        (500, 1000, 2000, 4000), "entities, several separated by commas", 2
    )
    phi: tuple[float, ...] = setting(
        (3.6, 5.4, 7.2, 9.0),
        "training compositions for each in-domain fact",
        at_least=0,
        parse=numbers,
        metavar="LIST",
    )
    k: tuple[int, ...] = _integers((3,), "evidence thresholds that are shown", 1)
    seeds: tuple[int, ...] = _integers((42,), "a world for each", 0, MOST_SEED)
    num_relations: int = setting(200, "relations", at_least=1)
    out_degree: int = setting(20, "facts of each entity", at_least=1)
    ood_ratio: float = setting(
        0.05, "share of the facts that are out of domain", at_least=0, at_most=1
    )

    def check(self) -> None:
        super().check()
        for entities in self.num_entities:
            self.world(entities, self.phi[0], self.seeds[0])

    def world(self, num_entities: int, phi: float, seed: int) -> EntityWorldSettings:
        """The world of one size, amount and seed, as its generator takes it."""
        own = {name: getattr(self, name) for name in OF_ENTITIES}
        return EntityWorldSettings(num_entities=num_entities, phi=phi, seed=seed, **own)
