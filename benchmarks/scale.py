"""Every stage at a million items, or with --large at ten million, each a whole process.

A 2-hop data set of 1,000 tokens: generated, read, swept over all k, with --graded too, trained on
for 20 steps of 512 items (2 layers of 128 dimensions, one evaluation, a checkpoint), scored with
--do_eval, traced and clustered (2,000 items of each kind). Where the code before could not train,
it takes the model of the code now. With --large also the domain scope of 500 tokens, 1,000,000
items. A command that takes longer than --minutes or more than --gib of memory is ended, and its row
says so. Takes about 8 minutes with --before, with --large about an hour.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

from common import (
    OUT,
    Bench,
    Usage,
    add_data,
    bench,
    benchmark_parser,
    cells,
    measure,
    show_tables,
)
from training import SMALL

from coverage_principle.cli import group_of, positive, run
from data import READ

#: Items, and those of --large.
ITEMS, LARGE = 1_000_000, 10_000_000
#: Flags of determine_coverage.py.
SWEEPS = {
    "k-sweep": (),
    "graded": ("--graded",),
    "domain": ("--scope", "domain"),
}
STAGES = (
    *("generation", "reading", "k-sweep", "graded", "training", "do_eval", "trace", "cluster"),
    "domain",
)
TRAIN = (
    *("--init_weights", "--do_train", "--evaluate_during_training", "--eval_steps", 20),
    *("--max_steps", 20, "--train_batch_size", 512, "--device", "cpu", "--overwrite_output_dir"),
    *(
        word
        for name, n in zip(("layer", "head", "embd"), SMALL, strict=True)
        for word in (f"--n_{name}", n)
    ),
)


def build_parser() -> argparse.ArgumentParser:
    amounts = {
        "--tokens": (1000, "|X|"),
        "--analysed": (2000, "items of each kind that are traced and clustered"),
        "--gib": (20, "GiB of address space of a command at most"),
    }
    parser = benchmark_parser(__doc__, amounts)
    add = group_of(parser, "measured").add_argument
    add("--items", type=positive, help=f"training items (default: {ITEMS}, or {LARGE})")
    about = "of a command at most (default: 3, or 30)"
    add("--minutes", type=positive, help=about)
    about = "stages to measure; what they need is made (default: all but domain)"
    add("--stages", nargs="+", metavar="STAGE", choices=STAGES, default=STAGES[:-1], help=about)
    add("--large", action="store_true", help="ten million items in place of one million")
    add_data(parser)
    return parser


def main(arguments: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as folder, bench(arguments) as measured:
        base = Path(arguments.data or folder).resolve()
        items = arguments.items or (LARGE if arguments.large else ITEMS)
        tables = [Stages(arguments, measured, base, arguments.tokens, items).rows(arguments.stages)]
        if arguments.large:
            tables.append(Stages(arguments, measured, base, 500, ITEMS).rows(list(SWEEPS)[::2]))
        show_tables(arguments, tables)


class Stages:
    """The stages of one data set, which each code makes and reads by itself."""

    def __init__(
        self, arguments: argparse.Namespace, measured: Bench, base: Path, tokens: int, items: int
    ) -> None:
        self._measured, self._tokens, self._items = measured, tokens, items
        self._analysed, self._base = arguments.analysed, base / f"{tokens}.{items}"
        minutes = arguments.minutes or (30 if arguments.large else 3)
        self._limits = {"threads": measured.threads, "seconds": 60 * minutes, "gib": arguments.gib}

    def rows(self, stages: Iterable[str]) -> Iterator[dict]:
        for stage in stages:
            ways = {code: partial(self._run, stage, code) for code in self._measured.codes}
            figures = self._measured.row(ways, may_fail=True)
            about = f"{self._tokens:,} tokens, {self._items:,} items"
            yield {about: stage, **cells(figures, self._items), "figures": figures}

    def _run(self, stage: str, code: str) -> Usage:
        return measure(*self._command(stage, code), code=self._measured.codes[code], **self._limits)

    def _command(self, stage: str, code: str) -> tuple:
        if stage == "generation":
            return self._generate(code)
        data = self._data(code)
        if stage == "reading":
            return "-c", READ, data
        if stage in SWEEPS:
            flags = ("--data_dir", data, "--k_sweep", *SWEEPS[stage], "--output_dir", OUT)
            return "determine_coverage.py", *flags
        if stage == "training":
            return "main.py", "--data_dir", data, *TRAIN, "--output_dir", self._model(code)
        where = ("--data_dir", data, "--device", "cpu")
        if stage == "do_eval":
            return "main.py", *where, "--do_eval", "--model_name_or_path", self._checkpoint(code)
        what = ("--ckpt", self._checkpoint(code), "--max_items", self._analysed, "--save_dir", OUT)
        return f"circuit_analysis/{stage}.py", *where, *what

    def _generate(self, code: str) -> tuple:
        """The command that makes the data set: where it is to stay, the first time."""
        stays = self._base / code
        place = OUT if list(stays.glob("*/train.json")) else stays
        sizes = ("--num_tokens", self._tokens, "--max_train_data_num", self._items)
        return "dataset_generation/twohop.py", *sizes, "--output_dir", place

    def _data(self, code: str) -> Path:
        if not list((self._base / code).glob("*/train.json")):
            self._make(self._generate(code), code)
        (file,) = (self._base / code).glob("*/train.json")
        return file.parent

    def _model(self, code: str) -> Path:
        return self._base / f"{code}.run"

    def _checkpoint(self, code: str) -> Path:
        """The code's own, if its training has ended, or else that of the code now."""
        own, ours = (self._model(name) / "final_checkpoint" for name in (code, "now"))
        if not own.exists() and not ours.exists():
            self._make(self._command("training", "now"), "now")
        return own if own.exists() else ours

    def _make(self, command: tuple, code: str) -> None:
        """Run what a stage needs that is not measured itself."""
        used = measure(*command, code=self._measured.codes[code])
        if used.failed:
            raise RuntimeError(f"{' '.join(map(str, command))}: {used.failed}")


if __name__ == "__main__":
    run(build_parser(), main)
