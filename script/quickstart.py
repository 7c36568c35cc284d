"""All five stages on one CPU: two data sizes of a small 2-hop task, side by side.

A sweep of two runs, each made of the repository's own commands, which are shown as they begin; what
is done is skipped, what was interrupted goes on. At the end their numbers are gathered into
summary.json, a table and a self-contained report.html.
"""

from __future__ import annotations

import argparse

from sweeping import report_trouble, sweeping, watch

from coverage_principle.cli import add_settings, command_parser, group_of, run, table
from coverage_principle.data import WorldSettings
from coverage_principle.experiments import LauncherSettings
from simpletransformers.words import counted

_SMALL = {"eval_steps": 250}
_TINY = {"n_embd": 32, "learning_rate": 1.2e-3, "weight_decay": 0.3, "eval_steps": 20}
#: Sizes of the two training sets, flags of the data, and what differs from the claims' training
#: of the scale in front.
PRESETS = {
    "small": ("cpu", (1600, 2500), {"num_tokens": 20, "test_size_for_type": 2000}, _SMALL),
    "tiny": ("tiny", (100, 160), {"num_tokens": 8, "test_size_for_type": 200}, _TINY),
}
#: What is looked into in every run, and with which flags.
ANALYSES = {"cluster": {}, "lens": {}, "trace": {}}
ANALYSES |= {"probe": {"values": "b"}, "subspace": {"subspace": "probe"}}


def build_parser() -> argparse.ArgumentParser:
    parser = command_parser(__doc__, prog="quickstart.sh")
    about = "small: shows the effects, in a few minutes on 2 cores; tiny: only that everything runs"
    presets = {"choices": sorted(PRESETS), "default": "small", "help": about}
    group_of(parser, "job").add_argument("--preset", **presets)
    add_settings(
        parser, WorldSettings, only=("seed",), seed={"help": "of data, initial weights and order"}
    )
    where = "where everything goes (default: results/quickstart of the repository)"
    group_of(parser, "written").add_argument("--output_dir", help=where)
    return parser


def main(arguments: argparse.Namespace) -> None:
    import queue
    from concurrent.futures import wait

    from coverage_principle.data import check_place
    from coverage_principle.experiments import make_spec
    from coverage_principle.experiments.report import quickstart_report
    from coverage_principle.paths import relative_to_root, repository_root
    from coverage_principle.reporting.quickstart import summary_table

    default = repository_root() / "results" / "quickstart"
    folder = check_place(arguments.output_dir or default).resolve()
    runs = make_spec(content(arguments.preset, arguments.seed), "quickstart").runs
    news: queue.SimpleQueue[str] = queue.SimpleQueue()

    def report(_, command, done: bool) -> None:
        news.put(f"$ {command.shown()}{'   (done before)' if done else ''}")

    print(
        f"{counted(len(runs), 'run')} of data, coverage, training and circuit analysis, side "
        "by side"
    )
    settings = LauncherSettings(jobs=len(runs), retry_failed=True)
    with sweeping(settings, folder, report) as sweep:
        sweep.forget_lost(runs)
        futures = sweep.submit_all(runs)
        for one, future in zip(runs, futures, strict=True):
            if future.done() and not future.exception() and future.result()["status"] == "done":
                for command in sweep.commands(one):
                    report(one, command, True)
        watch(sweep, lambda: wait(futures), news)
        sweep.ledger.write_table()
        report_trouble(sweep, runs, futures)
    summary, page = quickstart_report(sweep, runs, arguments.preset)
    print(f"\n{table(*summary_table(summary))}\n")
    for sentence in summary["findings"]:
        print(f"- {sentence}")
    print(f"\nsummary: {relative_to_root(folder / 'summary.json')}")
    print(f"report:  {relative_to_root(page)}")


def content(preset: str, seed: int) -> dict[str, object]:
    """The sweep of a preset, as a spec file would hold it."""
    from coverage_principle.experiments.claims.base import training

    scale, sizes, data, changes = PRESETS[preset]
    base = {
        "task": "twohop",
        "seed": seed,
        "data": data,
        "coverage": {"min_evidence": 1, "k_sweep": True},
        "train": training(scale, **changes),
        "analyse": {name: {"device": "cpu", **flags} for name, flags in ANALYSES.items()},
    }
    return {"base": base, "grid": {"data.max_train_data_num": list(sizes)}}


if __name__ == "__main__":
    run(build_parser(), main)
