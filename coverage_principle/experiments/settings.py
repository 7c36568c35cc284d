"""One run as data: what is generated, covered, trained and analysed, and the commands that do it.

A run's identity is a hash of its resolved settings, so the same settings are the same run in every
sweep, and a changed setting is another run. Runs with the same world (task, data and coverage
settings) share its files.
"""

from __future__ import annotations

import hashlib
import json
import runpy
import shlex
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from coverage_principle.errors import InputError
from coverage_principle.paths import repository_root
from coverage_principle.tasks import generator_name

#: The sections of a run's settings, in the order in which they are run.
SECTIONS = ("data", "coverage", "train", "evaluate", "analyse")
#: Commands that ``analyse`` may name, in ``circuit_analysis/``.
ANALYSES = ("cluster", "lens", "trace")

#: What the runner itself sets, so a spec may not.
_OURS = {
    "data": {"output_dir", "overwrite"},
    "coverage": {"data_dir", "output_dir"},
    "train": {"data_dir", "output_dir", "do_train", "resume", "overwrite_output_dir"},
    "evaluate": {"data_dir", "model_name_or_path", "prediction_dir", "do_predict"},
    "analyse": {"ckpt", "model_dir", "step_list", "save_dir", "overwrite"},
}
_TRAIN_DEFAULTS = {
    "model_name_or_path": "gpt2",
    "init_weights": True,
    "add_tokens": True,
    "evaluate_during_training": True,
}
_CLUSTER_DEFAULTS = {"layer_pos_pairs": "all", "mode": "residual", "no_vectors": True}

Flags = Mapping[str, object]


@dataclass(frozen=True)
class StageCommand:
    """One command of a run: ``script`` below the repository root, and its arguments."""

    name: str
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
    output; ``analyse`` maps commands of ``ANALYSES`` to their flags. ``label`` names the run for a
    reader and is no part of its identity.
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
        if unknown := sorted(set(settings) - known):
            raise InputError(
                f"settings hold {', '.join(map(repr, unknown))}; known are "
                f"{', '.join(sorted(known))}"
            )
        task = generator_name(str(settings.get("task", "twohop")))
        generators = sorted(
            path.stem
            for path in (repository_root() / "dataset_generation").glob("*.py")
            if path.stem != "common"
        )
        if task not in generators:
            raise InputError(f"task {task!r} is not one of {', '.join(generators)}")
        sections = {name: settings.get(name) for name in SECTIONS}
        for name in ("data", "analyse"):
            sections[name] = sections[name] or {}
        for name, flags in sections.items():
            _check_section(name, flags)
        if sections["train"] is None and (sections["analyse"] or sections["evaluate"] is not None):
            raise InputError("evaluate and analyse need a model: give a train section")
        seed = settings.get("seed")
        if seed is not None:
            sections["data"] = {"seed": seed, **sections["data"]}
        if sections["train"] is not None:
            seed = sections["data"].get("seed", 42) if seed is None else seed
            sections["train"] = {**_TRAIN_DEFAULTS, "manual_seed": seed, **sections["train"]}
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
    def world(self) -> str:
        """The same for what runs can share: the data set and its coverage."""
        return _digest({"task": self.task, "data": self.data, "coverage": self.coverage})

    def world_commands(self, folder: Path) -> list[StageCommand]:
        """Generation and coverage of the world in ``folder``; see ``dataset_in``."""
        commands = [
            StageCommand(
                "generate",
                f"dataset_generation/{self.task}.py",
                (*flags(self.data), "--output_dir", str(folder / "data"), "--overwrite"),
            )
        ]
        if self.coverage is not None:
            commands.append(
                StageCommand(
                    "coverage",
                    "determine_coverage.py",
                    (
                        "--data_dir",
                        str(dataset_in(folder)),
                        *flags(self.coverage),
                        "--output_dir",
                        str(folder / "k_sweep_results"),
                    ),
                )
            )
        return commands

    def run_commands(self, folder: Path, world: Path) -> list[StageCommand]:
        """Training, evaluation and analysis in ``folder``, of the data set in ``world``."""
        if self.train is None:
            return []
        data, model = ("--data_dir", str(dataset_in(world))), folder / "model"
        final = str(model / "final_checkpoint")
        commands = [
            StageCommand(
                "train",
                "main.py",
                (
                    *data,
                    "--output_dir",
                    str(model),
                    "--do_train",
                    "--resume",
                    "--overwrite_output_dir",
                    *flags(self.train),
                ),
            )
        ]
        if self.evaluate is not None:
            device = {k: v for k, v in self.train.items() if k == "device"}
            commands.append(
                StageCommand(
                    "evaluate",
                    "main.py",
                    (
                        *data,
                        "--model_name_or_path",
                        final,
                        "--do_predict",
                        "--prediction_dir",
                        str(folder),
                        *flags({**device, **self.evaluate}),
                    ),
                )
            )
        for name in sorted(self.analyse):
            where = (
                ("--ckpt", final, "--overwrite")
                if name == "cluster"
                else ("--model_dir", str(model), "--step_list", "final_checkpoint")
            )
            defaults = _CLUSTER_DEFAULTS if name == "cluster" else {}
            commands.append(
                StageCommand(
                    name,
                    f"circuit_analysis/{name}.py",
                    (
                        *where,
                        *data,
                        "--save_dir",
                        str(folder / name),
                        *flags({**defaults, **self.analyse[name]}),
                    ),
                )
            )
        return commands

    def check(self) -> None:
        """Let every command parse its arguments; ``InputError`` says what it refuses."""
        # What a path holds does not matter to a parser.
        commands = self.world_commands(Path("folder")) + self.run_commands(Path("f"), Path("w"))
        for command in commands:
            try:
                command_parser(command.script).parse_args(command.arguments)
            except _Refused as refusal:
                raise InputError(
                    f"the settings of {command.name} are not those of {command.script}: {refusal}"
                ) from None


class _Refused(Exception):
    """What a command's parser says instead of printing it and leaving."""


_PARSERS: dict[str, object] = {}
_PARSERS_GUARD = threading.Lock()


def command_parser(script: str):
    """The ``argparse`` parser of a command (a path below the repository root), without a run.

    It raises an exception where the command itself would print a usage error and leave.
    """

    def refuse(message: str) -> None:
        raise _Refused(message)

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


def dataset_in(world: Path) -> Path:
    """The one data set of a world's folder; before it is there, the folder that will hold it."""
    found = sorted(path.parent for path in (world / "data").glob("*/metadata.json"))
    return found[0] if found else world / "data"


def flags(values: Flags) -> list[str]:
    """``{"n_layer": 2, "cot": True}`` as ``["--n_layer", "2", "--cot"]``.

    False and None leave a flag out; a list gives its values one after the other.
    """
    words: list[str] = []
    for name, value in values.items():
        if value is None or value is False:
            continue
        words.append(f"--{name}")
        if value is not True:
            many = isinstance(value, Sequence) and not isinstance(value, str)
            words += map(str, value if many else [value])
    return words


def _check_section(name: str, values: object) -> None:
    sections = {name: values} if name != "analyse" else values
    if not isinstance(sections, Mapping):
        raise InputError(f"{name} must be an object of commands, such as {{'cluster': {{}}}}")
    for where, wanted in sections.items():
        if name == "analyse" and where not in ANALYSES:
            raise InputError(f"analyse holds {where!r}; known are {', '.join(ANALYSES)}")
        if wanted is None:
            continue
        if not isinstance(wanted, Mapping):
            raise InputError(f"{where} must be an object of flags, such as {{'n_layer': 2}}")
        if taken := sorted(set(wanted) & _OURS[name]):
            raise InputError(f"{where} holds {', '.join(taken)}, which the runner sets itself")


def _digest(content: object) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]
