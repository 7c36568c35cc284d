"""Times determine_coverage.py, whole process, on generated data: one k, all k, the whole domain.

Each figure is the median of --repeats runs in a fresh process each, imports, reading, figures and
writing included; memory is the largest resident size of any run of the dataset scope. The domain
scope is left out where the domain has more inputs than it takes. "pair work"
is what the evidence costs: over slot sets and (context, answer) pairs, the squared number of
fragments that meet there, in millions of multiply-adds.
"""

from __future__ import annotations

import argparse

from common import Figures, measure, output_flag

from coverage_principle.cli import command_parser, run

DEFAULT = (
    "twohop:50:10000",
    "twohop:50:40000",
    "twohop:100:100000",
    "twohop:200:100000",
    "twohop:200:400000",
    "nontree:50:50000",
    "parallel2hop:50:60000",
    "threehop:50:200000",
    "fivehop:50:600000",
)
HEADER = (
    "data set",
    "items",
    "pair work (10^6)",
    "one k (s)",
    "k-sweep (s)",
    "ratio",
    "MiB",
    "domain scope (s)",
    "domain MiB",
)


def build_parser() -> argparse.ArgumentParser:
    parser = command_parser(__doc__)
    add = parser.add_argument
    add(
        "--worlds",
        nargs="+",
        default=DEFAULT,
        metavar="TASK:TOKENS:TRAIN",
        help=f"data sets to generate and time (default: {' '.join(DEFAULT)})",
    )
    add("--repeats", type=int, default=3, help="runs of each (default: 3)")
    output_flag(parser)
    add("--data", default=None, help="folder that keeps the data sets (default: a temporary one)")
    return parser


def main(arguments: argparse.Namespace) -> None:
    import contextlib
    import tempfile
    from pathlib import Path
    from statistics import median

    from coverage_principle.coverage.scopes import MOST_INPUTS
    from coverage_principle.data import load_dataset

    figures = Figures("docs/coverage.md")
    rows = []
    with contextlib.ExitStack() as stack:
        base = Path(arguments.data or stack.enter_context(tempfile.TemporaryDirectory()))
        for world in arguments.worlds:
            folder, size = generate(world, base)
            command = ["determine_coverage.py", "--data_dir", str(folder)]
            command += ["--output_dir", str(base / "results")]
            dataset = load_dataset(folder)
            kinds = {"one": [], "sweep": ["--k_sweep"]}
            if dataset.num_tokens ** len(dataset.graph.inputs) <= MOST_INPUTS:
                kinds["domain"] = ["--k_sweep", "--scope", "domain"]
            seconds, memory = {}, {}
            for name, flags in kinds.items():
                runs = [measure([*command, *flags]) for _ in range(arguments.repeats)]
                seconds[name] = median(s for s, _ in runs)
                memory[name] = max(peak for _, peak in runs)
            domain = ["-", "-"]
            if "domain" in kinds:
                domain = [f"{seconds['domain']:.2f}", f"{memory['domain']:,.0f}"]
            work = pair_work(dataset) / 1e6
            row = [world, f"{size:,}", f"{work:,.0f}" if work >= 1 else f"{work:.1f}"]
            row += [f"{seconds['one']:.2f}", f"{seconds['sweep']:.2f}"]
            row += [f"{seconds['sweep'] / seconds['one']:.2f}"]
            rows.append([*row, f"{max(memory['one'], memory['sweep']):,.0f}", *domain])
            print(f"{world} done", flush=True)
    figures.add(HEADER, rows)
    figures.write(arguments.output)


def generate(world: str, base):
    """The folder of a data set ``task:tokens:train``, made unless it is there, and its size."""
    from coverage_principle.data import (
        FormatSettings,
        WorldSettings,
        dataset_files,
        generate_world,
        write_dataset,
    )
    from coverage_principle.errors import InputError
    from coverage_principle.tasks import TASKS

    try:
        task, tokens, train = world.split(":")
        graph, settings = TASKS[task], WorldSettings(int(tokens), int(train))
    except (KeyError, ValueError) as error:
        raise InputError(
            f"`worlds` {world} is not TASK:TOKENS:TRAIN, such as {DEFAULT[0]}; tasks are "
            f"{', '.join(TASKS)}"
        ) from error
    folder = base / f"{task}.{tokens}.{train}.benchmark"
    if not folder.exists():
        files = dataset_files(generate_world(graph, settings), FormatSettings())
        write_dataset(folder, *files, overwrite=False)
    return folder, settings.max_train_data_num


def pair_work(dataset) -> int:
    """Multiply-adds of the evidence of all slot sets."""
    import numpy as np

    from coverage_principle.coverage import observe, slot_sets

    train, total = dataset.train, 0
    for positions in slot_sets(train.inputs.shape[1]):
        seen = observe(train.inputs, train.answers, positions, dataset.num_tokens)
        _, meets = np.unique(seen.with_label(seen.context_of), return_counts=True)
        total += int(np.square(meets.astype(np.int64)).sum())
    return total


if __name__ == "__main__":
    run(build_parser(), main)
