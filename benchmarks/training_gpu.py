"""Training on one GPU, everything in one call: time of a step, steps a second, MFU, and curves.

Steps: the published configuration (8 layers, 12 heads, 768 dimensions, dropout 0.1, 2-hop rows of
50 tokens) at a global batch of 4,096 and 16,384 in bf16 and fp32, with and without torch.compile,
with the data's vocabulary and with 50,312 rows; and the 2-layer model of 128 dimensions at 4,096,
also as a CUDA graph. MFU counts what is really multiplied (``flops``) against the device's
dense 16-bit peak; it is left out where that is not known.

Curves: accuracy against steps of the 2-hop task with 50 tokens and 20,000 items, bf16 against fp32
and the data's vocabulary against 50,312 rows, with a second seed for the noise. Their model is
smaller than the published one, for which 10,000 steps in fp32 alone take longer than --minutes.
A curve that runs out of its share of the time ends there, and the table says at which step.
"""

from __future__ import annotations

import argparse
import contextlib
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from common import benchmark_parser, measure, this_machine, timed, versions, write_figures
from training import SMALL, new_model, our_step

from coverage_principle.cli import group_of, positive, run, table

PUBLISHED, TINY = (8, 12, 768), (1, 2, 16)

#: name, sizes, batch, precision, what else is asked for
CASES = (
    ("published, batch 4,096, bf16", PUBLISHED, 4096, "bf16", {}),
    ("the same, compiled", PUBLISHED, 4096, "bf16", {"compile": True}),
    ("the same, 50,312 rows", PUBLISHED, 4096, "bf16", {"pad_vocab_to": 50_312}),
    ("published, batch 4,096, fp32", PUBLISHED, 4096, "fp32", {}),
    ("published, batch 16,384, bf16", PUBLISHED, 16_384, "bf16", {}),
    ("the same, compiled", PUBLISHED, 16_384, "bf16", {"compile": True}),
    ("small, batch 4,096, bf16", SMALL, 4096, "bf16", {}),
    ("small, batch 4,096, bf16, compiled", SMALL, 4096, "bf16", {"compile": True}),
    ("small, batch 4,096, fp32", SMALL, 4096, "fp32", {}),
)
#: Last of all, as a recording that fails can leave the device unusable for what comes after it.
RECORDED = (
    ("small, batch 4,096, bf16, CUDA graph", SMALL, 4096, "bf16", {"cuda_graphs": True}),
    ("published, batch 4,096, bf16, CUDA graph", PUBLISHED, 4096, "bf16", {"cuda_graphs": True}),
)
CURVES = {
    "bf16": {"precision": "bf16", "manual_seed": 42},
    "bf16, another seed": {"precision": "bf16", "manual_seed": 43},
    "bf16, 50,312 rows": {"precision": "bf16", "manual_seed": 42, "pad_vocab_to": 50_312},
    "fp32": {"precision": "fp32", "manual_seed": 42},
}
AMOUNTS = {
    "--steps": (100, "steps of a measurement"),
    "--curve_steps": (10_000, "steps of a curve"),
}


def build_parser() -> argparse.ArgumentParser:
    parser = benchmark_parser(
        __doc__, AMOUNTS, "and the curves to .png and .pdf beside it", paired=False
    )
    add = group_of(parser, "measured").add_argument
    add("--device", default="cuda", help="cuda, cuda:N, or cpu to try the command out")
    sizes = {"type": positive, "nargs": 3, "metavar": ("LAYERS", "HEADS", "DIMS")}
    about = "the curves' model"
    add("--curve_sizes", default=(4, 6, 384), help=about, **sizes)
    about = "of all together; curves are cut to keep to it"
    add("--minutes", type=float, default=8.5, help=about)
    add("--quick", action="store_true", help="tiny models and batches, not worth reading")
    return parser


def main(arguments: argparse.Namespace) -> None:
    import torch

    end = time.monotonic() + 60 * arguments.minutes
    torch.manual_seed(0)
    cuda = torch.device(arguments.device).type == "cuda"
    name = torch.cuda.get_device_name(arguments.device) if cuda else "CPU"
    content: dict = {"machine": f"{name}; {this_machine()}", "versions": versions()}
    print(content["machine"])
    cases = [step_figures(*case, arguments) for case in CASES]
    curves = accuracy_curves(arguments, end)
    cases += [step_figures(*case, arguments) for case in RECORDED]
    print(table(["case", "ms a step", "steps/s", "MFU"], [shown(figure) for figure in cases]))
    last = {name: points[-1] for name, points in curves.items()}
    groups = list(last["bf16"]["eval"])
    rows = [
        [name, f"{point['step']:,}", *(f"{point['eval'][group]:.4f}" for group in groups)]
        for name, point in last.items()
    ]
    print(table(["curve", "steps", *groups], rows))
    if arguments.output:
        content |= {"cases": cases, "curves": curves, "curve_sizes": list(arguments.curve_sizes)}
        write_figures(arguments.output, content)
        draw(curves, Path(arguments.output))


def step_figures(
    case: str, sizes: tuple, batch: int, precision: str, options: dict, arguments
) -> dict:
    """Seconds of a step and MFU; ``failed`` says why there are none."""
    import torch

    from simpletransformers.seq2seq.optimisation import peak_of

    device, items, warm_up = arguments.device, 40_000, 10
    if arguments.quick:
        sizes, batch, items, warm_up = TINY, 16, 64, 1
        options = {key: value for key, value in options.items() if key != "compile"}
    data = torch.randint(0, 50, (items, 4))
    settings = {"sizes": sizes, "train_batch_size": batch, "precision": precision, **options}
    found = {"case": case, "batch": batch, "seconds_per_step": None, "mfu": None}
    try:
        with tempfile.TemporaryDirectory() as folder:
            step, flops = our_step(data, Path(folder), device=device, tokens=50, **settings)
            seconds_of(step, warm_up, device)  # compiles and records, too
            found["seconds_per_step"] = seconds = seconds_of(step, arguments.steps, device)
    except (RuntimeError, ValueError) as error:  # one case that cannot be must not cost the others
        return found | {"failed": (str(error).splitlines() or [type(error).__name__])[0]}
    peak = peak_of(torch.device(device), precision)
    return found | {"mfu": flops / seconds / peak if peak else None}


def seconds_of(step: Callable, count: int, device: str) -> float:
    """Seconds a step, over so many; waits for the device at both ends."""
    import torch

    def steps() -> None:
        for _ in range(count):
            step()
        wait()

    wait = torch.cuda.synchronize if torch.device(device).type == "cuda" else lambda: None
    wait()
    return timed(steps)[1]["wall_s"] / count


def shown(figure: dict) -> list[str]:
    seconds, mfu = figure["seconds_per_step"], figure["mfu"]
    if seconds is None:
        return [figure["case"], figure["failed"], "", ""]
    share = "" if mfu is None else f"{mfu:.1%}"
    return [figure["case"], f"{1e3 * seconds:.2f}", f"{1 / seconds:,.0f}", share]


class TimeIsOver(Exception):
    """Raised out of a run's report: its share of the minutes is used up."""


def accuracy_curves(arguments: argparse.Namespace, end: float) -> dict[str, list[dict]]:
    """``{curve: [{"step", "eval": {type: accuracy}}]}``; ``end`` is on the monotonic clock."""
    from coverage_principle.data import load_dataset

    tokens, items = (10, 200) if arguments.quick else (50, 20_000)
    sizes = ("--num_tokens", tokens, "--max_train_data_num", items)
    curves: dict[str, list[dict]] = {}
    with tempfile.TemporaryDirectory() as folder:
        measure("dataset_generation/twohop.py", *sizes, "--output_dir", folder)
        dataset = load_dataset(next(Path(folder).iterdir()))
        for number, (name, settings) in enumerate(CURVES.items()):
            # The last curve, in fp32, is several times slower than the others.
            share = (end - time.monotonic()) * (0.2 if number < len(CURVES) - 1 else 0.9)
            run_folder = Path(folder) / f"run{number}"
            curves[name] = curve(dataset, run_folder, arguments, share, settings)
    return curves


def curve(dataset, folder: Path, arguments, seconds: float, settings: dict) -> list[dict]:
    settings = {
        "train_batch_size": 4096,
        "warmup_steps": 2000,
        "scheduler": "constant_schedule_with_warmup",
        "max_steps": arguments.curve_steps,
        "evaluate_during_training": True,
        "logging_steps": 50,
        "group_by": ("type",),
        "evaluate_during_training_steps": 1 if arguments.quick else 100,
        "sizes": TINY if arguments.quick else arguments.curve_sizes,
        **settings,
    }
    model = new_model(dataset.codec.vocabulary, arguments.device, **settings)
    points, end = [], time.monotonic() + seconds

    def report(event: dict) -> None:
        if "eval" in event:
            accuracies = {g: s["answer_accuracy"] for g, s in event["eval"].items()}
            counts = {g: s["n"] for g, s in event["eval"].items()}
            points.append({"step": event["step"], "eval": accuracies, "n": counts})
            if time.monotonic() > end:
                raise TimeIsOver

    with contextlib.suppress(TimeIsOver):
        model.train_model(dataset.train.records, dataset.test.records, folder, report=report)
    return points


def draw(curves: dict[str, list[dict]], file: Path) -> None:
    """A panel for each of seen and unseen compositions of seen facts, a line for each curve."""
    from coverage_principle.reporting.training_figures import type_curves

    panels: dict[str, list[dict]] = {"train_inferred": [], "type_0": []}
    for group, events in panels.items():
        for name, points in curves.items():
            for point in points:
                scores = {name: {"answer_accuracy": point["eval"][group], "n": point["n"][group]}}
                events.append({"step": point["step"], "eval": scores})
    type_curves(panels, file, chance=1 / 50, types=list(curves))


if __name__ == "__main__":
    run(build_parser(), main)
