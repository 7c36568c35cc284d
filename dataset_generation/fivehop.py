"""Generate a 5-hop data set: a chain of five functions over x1 ... x6."""

from __future__ import annotations

import argparse

from common import generate, generator_parser

from coverage_principle.cli import run


def build_parser() -> argparse.ArgumentParser:
    parser = generator_parser(__doc__, test_size=2000, train_size=600_000)
    parser.add_argument(
        "--cot",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="chain of thought: targets hold b1 to b4, then t; --no-cot: t alone",
    )
    return parser


def main(arguments: argparse.Namespace) -> None:
    from coverage_principle.tasks import TASKS

    form = "cot" if arguments.cot else "inf"
    name = f"fivehop.{arguments.num_tokens}.{arguments.max_train_data_num}.{form}"
    generate(arguments, TASKS["fivehop"], name, form=form)


if __name__ == "__main__":
    run(build_parser(), main)
