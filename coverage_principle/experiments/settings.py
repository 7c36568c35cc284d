"""One run as data: what is generated, covered, trained and analysed, and the commands that do it.

A run's identity is a hash of its resolved settings, so it is the same run in every sweep. Runs with
the same task, data and coverage settings share a data set and its coverage, in a folder of its own.
"""

from __future__ import annotations

import hashlib
import json
import os
import runpy
import shlex
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from coverage_principle.data import sha256
from coverage_principle.errors import InputError
from coverage_principle.experiments.stages import SECTIONS, STAGES, Stage, analyses, dataset_in
from coverage_principle.paths import repository_root
from coverage_principle.presets import SCALES
from coverage_principle.tasks import generator_name
from simpletransformers.settings import Settings, setting

Flags = Mapping[str, object]


@dataclass(frozen=True)
class LauncherSettings(Settings):
    """How the runs of a sweep are carried out."""

    launcher: str = setting(
        "local",
        "local: processes on this machine; slurm: job arrays of a cluster (needs submitit)",
        choices=("local", "slurm", "print"),
        group="launch",
    )
    jobs: int | None = setting(
        None,
        "runs at a time (default: local, one for each GPU or core; slurm, 16)",
        at_least=1,
        group="launch",
    )
    gpus: str = setting(
        "",
        "local: GPUs that runs are given, such as 0,1; with more `jobs`, runs share a GPU",
        metavar="N,N,...",
        group="launch",
    )
    slurm: tuple[str, ...] = setting(
        (),
        "option of submitit for the jobs, such as slurm_partition=gpu, timeout_min=120, "
        "slurm_gres=gpu:1; may be given several times",
        metavar="KEY=VALUE",
        group="launch",
    )
    cluster: str = setting(
        "slurm",
        "with `launcher` slurm: local runs its jobs as processes here, to try it out",
        choices=("slurm", "local"),
        group="launch",
    )
    retry_failed: bool = setting(False, "also run what failed before", group="launch")


@dataclass(frozen=True)
class ClaimSettings(Settings):
    """At which scale a claim is looked into, and where."""

    scale: str = setting(
        "cpu",
        "how large models and data are. tiny: only shows that it runs; cpu: minutes on a laptop; "
        "night: larger worlds, one to three hours on two cores; gpu: hours on one GPU; paper: as "
        "published",
        choices=SCALES,
        group="job",
    )
    output_dir: str | None = setting(
        None,
        "where runs and results go; claims in one folder share their runs (default: "
        "results/reproduce/SCALE of the repository)",
        group="written",
    )


@dataclass(frozen=True)
class OwnModelSettings(Settings):
    """Models of a user's own, which a claim compares with its architectures."""

    model_file: tuple[str, ...] = setting(
        (),
        "Python files that each make a model (docs/extending.md says how): a row of the table for "
        "each, by the name of the file. What is there of the other rows is not trained again",
        metavar="FILE",
        group="model",
    )
    learning_rate: float | None = setting(
        None,
        "of the models of these files (default: that of the scale)",
        at_least=0,
        group="model",
    )


@dataclass(frozen=True)
class PlotSettings(Settings):
    """What a figure of a sweep shows."""

    x: str | None = setting(
        None,
        "what is on x: a setting (train.n_embd, or n_embd), k_cutoff, step (over training), group, "
        "a score, or a number that runs have: loss, type_1.loss, parameters, seconds (default: the "
        "setting with the most values)",
        metavar="WHAT",
        group="shown",
    )
    vary: tuple[str, ...] = setting(
        (),
        "settings that make a line for each of their values (default: all that differ between "
        "runs, beside seeds and x); none: one line",
        metavar="SETTING",
        group="shown",
    )
    y: str = setting(
        "answer_accuracy",
        "what is on y: a score, or a number that runs have, such as seconds or train_loss",
        metavar="WHAT",
        group="shown",
    )
    group: tuple[str, ...] = setting(
        ("type_0",),
        "groups of test items, such as type_0 (new compositions of facts that training shows); "
        "several make a line each",
        metavar="GROUP",
        group="shown",
    )
    panels: str | None = setting(
        None,
        "a setting that makes a panel for each of its values (default: one panel)",
        metavar="SETTING",
        group="shown",
    )
    where: tuple[str, ...] = setting(
        (),
        "only runs with this value of a setting, or one of several: train.weight_decay=0.1,1 "
        "(default: all runs)",
        metavar="SETTING=VALUE",
        group="shown",
    )
    kind: str = setting(
        "auto",
        "auto: bars where x is no amount, such as a seed or a word",
        choices=("auto", "lines", "bars"),
        group="drawn",
    )
    log_x: str = setting(
        "auto",
        "a logarithmic x axis; auto: for values over a factor of 10 or more",
        choices=("auto", "yes", "no"),
        group="drawn",
    )
    min_items: int = setting(
        20,
        "points of fewer items, all runs together, are in the table and the numbers, but not "
        "drawn, unless all are of fewer",
        at_least=0,
        group="drawn",
    )


@dataclass(frozen=True)
class StageCommand:
    """One command of a run: its stage, ``script`` below the repository root, its arguments."""

    stage: Stage
    script: str
    arguments: tuple[str, ...]

    def shown(self) -> str:
        """The command as a user would type it in the repository root."""
        return shlex.join(["python", self.script, *self.arguments])


@dataclass(frozen=True)
class RunSettings:
    """The resolved settings of one run; each section maps flags of its command to values.

    ``task`` is a generator in ``dataset_generation/`` (``twohop``). ``coverage``, ``train`` and
    ``evaluate`` may be None, which leaves the stage out; ``evaluate`` writes every test item's
    output; ``analyse`` maps stages of ``analyses()`` to their flags. ``label`` names the run for
    a reader and is no part of its identity.
    """

    task: str
    data: Flags
    coverage: Flags | None = None
    train: Flags | None = None
    evaluate: Flags | None = None
    analyse: Mapping[str, Flags] = field(default_factory=dict)
    label: str = field(default="", compare=False)

    @classmethod
    def resolve(cls, settings: Mapping[str, object], label: str = "") -> RunSettings:
        """From the sections of a spec, with ``seed`` for data and training alike.

        ``InputError`` names what is missing, unknown, or not for a spec to set.
        """
        known = {"task", "seed", *SECTIONS}
        if unknown := ", ".join(map(repr, sorted(set(settings) - known))):
            raise InputError(f"settings hold {unknown}; known are {', '.join(sorted(known))}")
        task = generator_name(str(settings.get("task", "twohop")))
        scripts = (repository_root() / "dataset_generation").glob("*.py")
        generators = sorted(path.stem for path in scripts if path.stem != "common")
        if task not in generators:
            raise InputError(f"task {task!r} is not one of {', '.join(generators)}")
        sections = {name: settings.get(name) for name in SECTIONS}
        sections |= {name: sections[name] or {} for name in ("data", "analyse")}
        if not isinstance(sections["analyse"], Mapping):
            raise InputError("analyse must be an object of commands, such as {'cluster': {}}")
        for name in sections["analyse"]:
            if name not in analyses():
                raise InputError(f"analyse holds {name!r}; known are {', '.join(analyses())}")
        for stage in STAGES.values():
            where = stage.name if stage.section == "analyse" else stage.section
            wanted = _section(sections, stage)
            if wanted is not None and not isinstance(wanted, Mapping):
                raise InputError(f"{where} must be an object of flags, such as {{'n_layer': 2}}")
            if taken := sorted(set(wanted or ()) & stage.taken):
                raise InputError(f"{where} holds {', '.join(taken)}, which the runner sets itself")
            _check_flags(where, wanted or {}, stage.omit)
        if sections["train"] is None and (sections["analyse"] or sections["evaluate"] is not None):
            raise InputError("evaluate and analyse need a model: give a train section")
        if (seed := settings.get("seed")) is not None:
            sections["data"] = {"seed": seed, **sections["data"]}
        if sections["train"] is not None:
            seed = sections["data"].get("seed", 42) if seed is None else seed
            defaults = {**STAGES["train"].defaults, "manual_seed": seed}
            sections["train"] = {**defaults, **sections["train"]}
        run = cls(task, **sections, label=label)
        run.check()
        return run

    def as_dict(self) -> dict[str, object]:
        """JSON-ready, without the label."""
        return {"task": self.task, **{name: getattr(self, name) for name in SECTIONS}}

    @cached_property
    def id(self) -> str:
        """12 hexadecimal digits that tell this run from every other."""
        return _digest(self.as_dict())

    @cached_property
    def shared_id(self) -> str:
        """The same for what runs can share: the data set and its coverage."""
        return _digest({"task": self.task, "data": self.data, "coverage": self.coverage})

    @property
    def has_model_file(self) -> bool:
        """Whether its model is made by a file that these settings name, which is to trust it."""
        return bool((self.train or {}).get("model_file"))

    def stages(self, *, shared: bool | None = None) -> list[Stage]:
        """The stages that the run has, in their order; only those that are ``shared``, or not."""
        sections = self.as_dict()
        return [
            stage
            for stage in STAGES.values()
            if shared in (None, stage.shared)
            and _section(sections, stage) is not None
            and (stage.shared or self.train is not None)
        ]

    def command(self, stage: Stage, folder: Path, shared: Path) -> StageCommand:
        """The command of a stage for the run in ``folder``, of the data set in ``shared``."""
        sections, model = self.as_dict(), folder / "model"
        same = {k: v for k, v in (self.train or {}).items() if k in stage.as_in_train}
        if self.has_model_file and stage.section in ("evaluate", "analyse"):
            same["trust_code"] = True
        own = flags({**stage.defaults, **same, **_section(sections, stage)})
        places = {"task": self.task, "shared": shared, "data": dataset_in(shared), "folder": folder}
        places |= {"model": model, "final": model / "final_checkpoint"}
        words: list[str] = []
        for word in stage.words.split():
            words += own if word == "{flags}" else [word.format_map(places)]
        return StageCommand(stage, stage.script.format_map(places), tuple(words))

    def commands(self, folder: Path, shared: Path) -> Iterator[StageCommand]:
        """All commands, each made when it is asked for: the first makes the folder of the data."""
        return (self.command(stage, folder, shared) for stage in self.stages())

    def check(self) -> None:
        """Let every command parse its arguments; ``InputError`` says what it refuses."""
        for command in self.commands(Path("f"), Path("w")):  # any paths will do for a parser
            try:
                command_parser(command.script).parse_args(command.arguments)
            except InputError as refusal:
                where = f"{command.stage.name} are not those of {command.script}"
                raise InputError(f"the settings of {where}: {refusal}") from None


_PARSERS: dict[str, object] = {}
_PARSERS_GUARD = threading.Lock()


def command_parser(script: str):
    """The ``argparse`` parser of a command (a path below the repository root), without a run.

    It raises an ``InputError`` where the command itself would print a usage error and leave.
    """

    def refuse(message: str) -> None:
        raise InputError(message)

    with _PARSERS_GUARD:  # searches make settings in several threads
        if script not in _PARSERS:
            path = repository_root() / script
            sys.path.insert(0, str(path.parent))  # where its own imports look
            try:
                parser = runpy.run_path(str(path))["build_parser"]()
            finally:
                sys.path.remove(str(path.parent))
            parser.error = refuse
            _PARSERS[script] = parser
    return _PARSERS[script]


def flags(values: Flags) -> list[str]:
    """``{"n_layer": 2, "cot": True}`` as ``["--n_layer", "2", "--cot"]``.

    False and None leave a flag out; a list gives its values one after the other.
    """
    words: list[str] = []
    for name, value in values.items():
        if value is None or value is False:
            continue
        many = isinstance(value, Sequence) and not isinstance(value, str)
        words += [f"--{name}", *([] if value is True else map(str, value if many else [value]))]
    return words


def _section(sections: Mapping[str, object], stage: Stage) -> object:
    """What settings say of a stage; None if it is left out."""
    content = sections[stage.section]
    return content.get(stage.name) if stage.section == "analyse" else content


def _check_flags(where: str, wanted: Mapping, omit: tuple[str, ...]) -> None:
    """``InputError`` for what would not come out as the flags that it names."""
    for name, value in wanted.items():
        if not name.isidentifier() or name in ("help", "debug", *omit):
            raise InputError(f"{where} holds {name!r}, which is no flag that a sweep can set")
        many = value if isinstance(value, list) else [value]
        if not all(one is None or isinstance(one, (str, int, float)) for one in many):
            raise InputError(f"{where}: {name} must be a value or a list of values")


def _digest(content: Mapping[str, object]) -> str:
    """12 hexadecimal digits of settings, and of the contents of files that they name."""
    named = dict(_files_in(content))
    content = {**content, "files": named} if named else content
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _files_in(value: object) -> Iterator[tuple[str, str]]:
    """The files that settings name, each with its SHA-256; commands run in the repository."""
    if isinstance(value, Mapping | list | tuple):
        for one in value.values() if isinstance(value, Mapping) else value:
            yield from _files_in(one)
    # Path.is_file raises OSError where a text is too long for a name.
    elif isinstance(value, str) and os.path.isfile(file := repository_root() / value):
        yield value, sha256(file)
