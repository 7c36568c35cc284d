"""One self-contained HTML page of a training run, a sweep, or the claims of script/reproduce/."""

from __future__ import annotations

import argparse

from coverage_principle.cli import command_parser, group_of, run

EXAMPLES = (
    ("a claim of the paper", "python script/reproduce/accuracy_by_data.py --scale tiny"),
    (
        "all claims of that scale on a page",
        "python script/make_report.py results/reproduce/tiny",
    ),
    (
        "a sweep",
        "python script/run_sweep.py docs/tutorial/weight_decay.json --jobs 2",
    ),
    ("its page", "python script/make_report.py results/sweeps/weight_decay"),
)


def build_parser() -> argparse.ArgumentParser:
    parser = command_parser(__doc__, EXAMPLES)
    about = (
        "a run's folder, as in CKPT_DIR/trained_checkpoints, or a sweep's, or "
        "results/reproduce/SCALE"
    )
    group_of(parser, "job").add_argument("dir", metavar="DIR", help=about)
    return parser


def main(arguments: argparse.Namespace) -> None:
    from coverage_principle.experiments.report import make_report
    from coverage_principle.paths import find_folder, relative_to_root

    report = make_report(find_folder(arguments.dir, "DIR"))
    print(f"report: {relative_to_root(report)}")


if __name__ == "__main__":
    run(build_parser(), main)
