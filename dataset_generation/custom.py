"""Generate a data set of a task of your own, a graph in a JSON file (docs/custom_tasks.md)."""

from __future__ import annotations

import argparse

from common import generate, generator_parser, same_flags, target_flags, target_format

from coverage_principle.cli import run


def build_parser() -> argparse.ArgumentParser:
    parser = generator_parser(__doc__, test_size=2000)
    add = parser.add_argument
    add("--task", required=True, metavar="FILE.json", help="the task graph")
    target_flags(parser, "the intermediate values, in the file's order")
    same_flags(
        parser,
        "--same_function",
        "functions of equal arity are one; wider ones fold the narrowest",
    )
    add(
        "--include_atomic",
        action="store_true",
        help="add to train.json, as single facts, those that all functions use in training; needs "
        "--same_function and one arity",
    )
    return parser


def main(arguments: argparse.Namespace) -> None:
    from pathlib import Path

    from coverage_principle.data import read_task

    graph = read_task(Path(arguments.task))
    form = target_format(arguments)
    same = "same" if arguments.same_function else "diff"
    kind = f"include-atomic-{form}" if arguments.include_atomic else form
    name = f"{graph.name}.{arguments.num_tokens}.{arguments.max_train_data_num}.{same}.{kind}"
    generate(
        arguments,
        graph,
        name,
        form=form,
        same_function=arguments.same_function,
        include_atomic=arguments.include_atomic,
    )


if __name__ == "__main__":
    run(build_parser(), main)
