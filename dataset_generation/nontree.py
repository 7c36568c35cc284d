"""Generate a non-tree data set: b = f1(x1, x2), t = f2(b, x2, x3); x2 reaches t by two paths."""

from __future__ import annotations

import argparse

from common import generate, generator_parser

from coverage_principle.cli import run


def build_parser() -> argparse.ArgumentParser:
    parser = generator_parser(__doc__, test_size=2000)
    add = parser.add_argument
    add("--cot", action="store_true", help="chain of thought: targets hold b, then t")
    add(
        "--same_f12",
        action="store_true",
        help="f2 is f1 applied twice: f2(b, x2, x3) = f1(f1(b, x2), x3), with seen facts of its "
        "own (the published f2(b, x2, x3) = f1(b, x2) does not depend on x3)",
    )
    return parser


def main(arguments: argparse.Namespace) -> None:
    from coverage_principle.tasks import TASKS

    form = "cot" if arguments.cot else "inf"
    same = "same" if arguments.same_f12 else "diff"
    name = f"nontree.{arguments.num_tokens}.{arguments.max_train_data_num}.{same}-f12.{form}"
    generate(arguments, TASKS["nontree"], name, form=form, same_function=arguments.same_f12)


if __name__ == "__main__":
    run(build_parser(), main)
