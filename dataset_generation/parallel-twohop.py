"""Generate a parallel 2-hop data set: b1 = f1(x1, x2), b2 = f2(x3, x4), t = f3(b1, b2)."""

from __future__ import annotations

import argparse

from common import generate, generator_parser, same_flags

from coverage_principle.cli import run


def build_parser() -> argparse.ArgumentParser:
    parser = generator_parser(__doc__, test_size=3000)
    add = parser.add_argument
    add("--cot", action="store_true", help="chain of thought: targets hold b1 and b2, then t")
    same_flags(parser, "--same_f123", "f1, f2 and f3 are one function")
    add(
        "--include_atomic",
        action="store_true",
        help="add to train.json, as single facts, those that all functions use in training; needs "
        "--same_f123",
    )
    return parser


def main(arguments: argparse.Namespace) -> None:
    from coverage_principle.tasks import TASKS

    same = "same" if arguments.same_f123 else "diff"
    form = "cot" if arguments.cot else "inf"
    kind = "include-atomic" if arguments.include_atomic else form
    if arguments.include_atomic and arguments.cot:
        kind = "include-atomic-cot"
    name = f"parallel2hop.{arguments.num_tokens}.{arguments.max_train_data_num}.{same}-f123.{kind}"
    generate(
        arguments,
        TASKS["parallel2hop"],
        name,
        form=form,
        same_function=arguments.same_f123,
        include_atomic=arguments.include_atomic,
    )


if __name__ == "__main__":
    run(build_parser(), main)
