"""Every stage at a million items, or with --large at ten million, each a whole process.

A 2-hop data set of 1,000 tokens: generated, read, swept over all k, with --graded too, trained on
for 20 steps of 512 items (2 layers of 128 dimensions, one evaluation, a checkpoint), scored with
--do_eval, traced and clustered (2,000 items of each kind). A stage that needs a trained model takes
the one that is there where the code before has made none. With --large also the domain scope of 500
tokens. A command that takes longer than --minutes or more than --gib of memory is ended, and its
row says so. Takes about 8 minutes with --before, with --large about an hour.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator
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
        "--minutes": (10, "of a command at most"),
        "--gib": (20, "GiB of address space of a command at most"),
    }
    parser = benchmark_parser(__doc__, amounts)
    add = group_of(parser, "measured").add_argument
    add("--items", type=positive, help=f"training items (default: {ITEMS}, or {LARGE})")
    add("--large", action="store_true", help="ten million items in place of one million")
    add_data(parser)
    return parser


def main(arguments: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as folder, bench(arguments) as measured:
        base = Path(arguments.data or folder).resolve()
        items = arguments.items or (LARGE if arguments.large else ITEMS)
        tables = [Stages(arguments, measured, base, items).rows()]
        if arguments.large:
            tables.append(Stages(arguments, measured, base, ITEMS, tokens=500).scopes())
        show_tables(arguments, tables)


class Stages:
    """The stages of one data set, which each code makes and reads by itself."""

    def __init__(
        self,
        arguments: argparse.Namespace,
        measured: Bench,
        base: Path,
        items: int,
        tokens: int | None = None,
    ) -> None:
        self.measured, self.items, self.tokens = measured, items, tokens or arguments.tokens
        self.analysed, self.base = arguments.analysed, base / f"{self.tokens}.{items}"
        self.limits = {"seconds": 60 * arguments.minutes, "gib": arguments.gib}

    def rows(self) -> Iterator[dict]:
        yield self.row("generation", self.generate)
        yield self.row("reading", lambda code: ("-c", READ, self.dataset(code)))
        yield self.sweep("k-sweep")
        yield self.sweep("k-sweep --graded", "--graded")
        yield self.row(
            "20 steps of training",
            lambda code: ("main.py", *self.data(code), *TRAIN, "--output_dir", self.run(code)),
        )
        yield self.row(
            "--do_eval",
            lambda code: (
                *("main.py", *self.data(code), "--do_eval", "--device", "cpu"),
                *("--model_name_or_path", self.checkpoint(code)),
            ),
        )
        for name in ("trace", "cluster"):
            yield self.row(name, partial(self.analysis, name))

    def scopes(self) -> Iterator[dict]:
        yield self.row("generation", self.generate)
        yield self.sweep("k-sweep, dataset scope")
        yield self.sweep("k-sweep, domain scope", "--scope", "domain")

    def row(self, name: str, command: Callable[[str], tuple]) -> dict:
        """A row of a command, which may hang on the code."""
        ways = {code: partial(self.measure, command, code) for code in self.measured.codes}
        figures = self.measured.row(ways)
        about = f"{self.tokens:,} tokens, {self.items:,} items"
        return {about: name, **cells(figures, self.items), "figures": figures}

    def measure(self, command: Callable[[str], tuple], code: str) -> Usage:
        options = {"threads": self.measured.threads, **self.limits}
        return measure(*command(code), code=self.measured.codes[code], **options)

    def sweep(self, name: str, *flags: object) -> dict:
        command = ("--k_sweep", *flags, "--output_dir", OUT)
        return self.row(name, lambda code: ("determine_coverage.py", *self.data(code), *command))

    def generate(self, code: str, place: Path | None = None) -> tuple:
        """The command that makes the data set: where it is to stay, the first time."""
        stays = self.base / code
        place = OUT if list(stays.glob("*/train.json")) else stays
        sizes = ("--num_tokens", self.tokens, "--max_train_data_num", self.items)
        return "dataset_generation/twohop.py", *sizes, "--output_dir", place

    def dataset(self, code: str) -> Path:
        (file,) = (self.base / code).glob("*/train.json")
        return file.parent

    def data(self, code: str) -> tuple:
        return "--data_dir", self.dataset(code)

    def run(self, code: str) -> Path:
        return self.base / f"{code}.run"

    def checkpoint(self, code: str) -> Path:
        own = self.run(code) / "final_checkpoint"
        return own if own.exists() else self.run("now") / "final_checkpoint"

    def analysis(self, name: str, code: str) -> tuple:
        what = ("--max_items", self.analysed, "--device", "cpu", "--save_dir", OUT)
        script = f"circuit_analysis/{name}.py"
        return script, "--ckpt", self.checkpoint(code), *self.data(code), *what


if __name__ == "__main__":
    run(build_parser(), main)
