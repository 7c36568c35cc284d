"""What a generator is: its flags, the folder that it writes, and the summary that it prints."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from coverage_principle.cli import (
    add_place,
    add_settings,
    command_parser,
    group_of,
    run,
    settings_from,
)
from coverage_principle.data import FormatSettings, WorldSettings
from coverage_principle.paths import relative_to_root, repository_root
from coverage_principle.tasks import generator_name

if TYPE_CHECKING:
    from coverage_principle.data import World

#: Settings that are flags of those generators only whose task they make sense for.
_OPTIONAL = {
    "cot",
    "fake_bridge",
    "same_function",
    "separate_seen",
    "include_atomic",
    "alphabets",
    "facts",
}

#: The words that the help of every generator uses.
_WORDS = (
    "Functions are random tables over tokens. A fact is one call of a function, such as "
    "f1(<t_5>, <t_1>) = <t_9>. An item is an input x1, x2 ... and its answer t; the values in "
    "between (b, the bridges) are not shown."
)


@dataclass(frozen=True)
class Generator:
    """One task's generator: all that it has of its own.

    ``task`` is a name in ``TASKS``, or None where ``--task`` gives a file. ``optional`` names those
    of ``_OPTIONAL`` that are flags here, separated by spaces. ``same`` names the functions that
    ``same_function`` makes one: ``f12`` gives the flag ``--same_f12``, explained by ``same_help``,
    and ``same-f12`` or ``diff-f12`` in the folder's name. ``changes`` are defaults or help other
    than the settings' own (``cli.add_settings``).
    """

    about: str
    task: str | None
    optional: str
    same: str = ""
    same_help: str = ""
    changes: Mapping[str, object] = field(default_factory=dict)

    def build_parser(self) -> argparse.ArgumentParser:
        parser = command_parser(f"{self.about}\n\n{_WORDS}", self.examples())
        if self.task is None:
            file = {"required": True, "metavar": "FILE.json"}
            group_of(parser, "task").add_argument("--task", **file, help="the task graph")
        same = {"flag": f"same_{self.same}", "help": self.same_help} if self.same else {}
        changes = {"max_train_data_num": 382_000, "same_function": same, **self.changes}
        omit = _OPTIONAL - {*self.optional.split()}
        for settings in (WorldSettings, FormatSettings):
            add_settings(parser, settings, omit=omit, **changes)
        add_place(parser)
        return parser

    def examples(self) -> Iterator[tuple[str, str]]:
        """What its help shows at the end."""
        name = "custom" if self.task is None else generator_name(self.task)
        command = f"python dataset_generation/{name}.py"
        command += " --task docs/tasks/diamond.json" if self.task is None else ""
        small = f"{command} --num_tokens 20 --max_train_data_num 1600"
        size = "--num_tokens 50 --max_train_data_num 10000"
        cot, words = "--cot", "with chain of thought"
        if "cot" in self.changes:  # it is the default
            cot, words = "--no-cot", "with the answer alone as the target"
        yield "a small data set, with which all stages run on a laptop", small
        yield "of the size that README.md shows", f"{command} {size} --seed 42"
        more = f"{words}, and with a validation split for the stop rules of main.py"
        yield more, f"{small} {cot} --validation_size 200"

    def main(self, arguments: argparse.Namespace) -> None:
        """Generate the data set, write it with its card, and print what it holds."""
        from coverage_principle.data import generate_world, read_task
        from coverage_principle.tasks import TASKS

        graph = read_task(Path(arguments.task)) if self.task is None else TASKS[self.task]
        settings = settings_from(WorldSettings, arguments)
        form = settings_from(FormatSettings, arguments)
        form.check_task(graph, settings)  # before anything is drawn
        name = self._name(graph.name, settings, form)
        generate(name, arguments, lambda: generate_world(graph, settings), form)

    def run(self) -> None:
        """The command."""
        run(self.build_parser(), self.main)

    def _name(self, task: str, settings: WorldSettings, form: FormatSettings) -> str:
        """The folder's name, by the pattern in data/README.md."""
        parts = [task, str(settings.num_tokens), str(settings.max_train_data_num)]
        if "same_function" in self.optional:
            same = "same" if settings.same_function else "diff"
            parts.append(f"{same}-{self.same}" if self.same else same)
        kind = f"{'include-atomic-' if form.include_atomic else ''}{form.target_format}"
        if self.task is not None:  # the published name of the paper's tasks
            kind = kind.removesuffix("-inf")
        parts.append(kind)
        parts += [settings.function_family] if settings.function_family != "random" else []
        parts += ["separate-seen"] if settings.separate_seen else []
        parts += [f"facts-{settings.facts}"] if settings.facts != "none" else []
        parts += [f"noise-{settings.label_noise:g}"] if settings.label_noise else []
        return ".".join(parts)


def generate(
    name: str,
    arguments: argparse.Namespace,
    draw: Callable[[], World],
    form: FormatSettings,
    layout: Callable[[World], tuple[dict, dict]] | None = None,
) -> None:
    """Write the data set ``name`` with its card, and print what it holds.

    ``draw`` is called once there is a place for it. ``layout`` makes files and metadata in a format
    of others, which has no card.
    """
    from coverage_principle.data import check_place, dataset_files, write_dataset
    from coverage_principle.reporting.dataset_card import dataset_card, layout_lines, world_lines

    folder = check_place(Path(arguments.output_dir or repository_root() / "data") / name)
    world = draw()
    files, metadata = dataset_files(world, form)
    card = dataset_card(world, metadata, name, _command(sys.argv)) if layout is None else {}
    given = (files, metadata) if layout is None else layout(world)
    new = write_dataset(folder, *given, overwrite=arguments.overwrite, extras=card)
    print(f"{relative_to_root(folder)}: {'written' if new else 'already there, unchanged'}")
    lines = world_lines(world, metadata) if layout is None else layout_lines(world, given[1])
    print("  " + "\n  ".join(lines))


def _command(argv: list[str]) -> str:
    """The command line, without the places and switches that the data does not depend on."""
    import shlex

    kept, rest = [], iter(argv[1:])
    for part in rest:
        if part == "--output_dir":
            next(rest, None)
        elif part not in ("--overwrite", "--debug") and not part.startswith("--output_dir="):
            kept.append(part)
    return shlex.join(["python", relative_to_root(Path(argv[0])), *kept])
