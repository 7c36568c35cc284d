"""Generate a 2-hop data set: b = f1(x1, x2), t = f2(b, x3)."""

from __future__ import annotations

import argparse

from common import generate, generator_parser, same_flags, target_flags, target_format

from coverage_principle.cli import run


def build_parser() -> argparse.ArgumentParser:
    parser = generator_parser(__doc__, test_size=2000)
    target_flags(parser, "b")
    same_flags(parser, "--same_f12", "f2 is the same function as f1")
    return parser


def main(arguments: argparse.Namespace) -> None:
    from coverage_principle.tasks import TASKS

    form = target_format(arguments)
    same = "same" if arguments.same_f12 else "diff"
    name = f"twohop.{arguments.num_tokens}.{arguments.max_train_data_num}.{same}-f12.{form}"
    generate(arguments, TASKS["twohop"], name, form=form, same_function=arguments.same_f12)


if __name__ == "__main__":
    run(build_parser(), main)
