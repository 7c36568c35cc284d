"""Generate a 3-hop data set: b1 = f1(x1, x2), b2 = f2(b1, x3), t = f3(b2, x4)."""

from __future__ import annotations

import argparse

from common import generate, generator_parser, same_flags, target_flags, target_format

from coverage_principle.cli import run


def build_parser() -> argparse.ArgumentParser:
    parser = generator_parser(__doc__, test_size=3000)
    target_flags(parser, "b1 and b2")
    same_flags(parser, "--same_f123", "f1, f2 and f3 are one function")
    return parser


def main(arguments: argparse.Namespace) -> None:
    from coverage_principle.tasks import TASKS

    form = target_format(arguments)
    same = "same" if arguments.same_f123 else "diff"
    name = f"threehop.{arguments.num_tokens}.{arguments.max_train_data_num}.{same}-f123.{form}"
    generate(arguments, TASKS["threehop"], name, form=form, same_function=arguments.same_f123)


if __name__ == "__main__":
    run(build_parser(), main)
