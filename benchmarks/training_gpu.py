"""Training on one GPU, everything in one call: time of a step, steps a second, MFU, and curves.

Steps: the published configuration (8 layers, 12 heads, 768 dimensions, dropout 0.1, 2-hop rows of
50 tokens) at a global batch of 4,096 and 16,384 in bf16 and fp32, with and without torch.compile,
with the data's vocabulary and with 50,312 rows; and the 2-layer model of 128 dimensions at 4,096,
also as a CUDA graph. MFU counts what is really multiplied (``flops``) against the device's
dense 16-bit peak; it is omitted where that is not known.

Curves: accuracy against steps of the 2-hop task with 50 tokens and 20,000 items, bf16 against fp32
and the data's vocabulary against 50,312 rows, with a second seed for the noise. Their model is
smaller than the published one, for which 10,000 steps in fp32 alone take longer than --minutes.
A curve that runs out of its share of the time ends there, and the table says at which step.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import tempfile
import time
from pathlib import Path

from common import describe_machine, measure
from training import new_model, our_trainer

from coverage_principle.cli import command_parser, positive, run, table

PUBLISHED, SMALL = (8, 12, 768), (2, 4, 128)

#: name, sizes, batch, precision, rows of vocabulary (None: the data's), what else is asked for
CASES = (
    ("published, batch 4,096, bf16", PUBLISHED, 4096, "bf16", None, {}),
    ("the same, compiled", PUBLISHED, 4096, "bf16", None, {"compile": True}),
    ("the same, 50,312 rows", PUBLISHED, 4096, "bf16", 50_312, {}),
    ("published, batch 4,096, fp32", PUBLISHED, 4096, "fp32", None, {}),
    ("published, batch 16,384, bf16", PUBLISHED, 16_384, "bf16", None, {}),
    ("the same, compiled", PUBLISHED, 16_384, "bf16", None, {"compile": True}),
    ("small, batch 4,096, bf16", SMALL, 4096, "bf16", None, {}),
    ("small, batch 4,096, bf16, compiled", SMALL, 4096, "bf16", None, {"compile": True}),
    ("small, batch 4,096, fp32", SMALL, 4096, "fp32", None, {}),
)
#: Last of all, as a recording that fails can leave the device unusable for what comes after it.
RECORDED = (
    ("small, batch 4,096, bf16, CUDA graph", SMALL, 4096, "bf16", None, {"cuda_graphs": True}),
    ("published, 4,096, bf16, CUDA graph", PUBLISHED, 4096, "bf16", None, {"cuda_graphs": True}),
)

#: name, precision, rows of vocabulary, seed
CURVES = (
    ("bf16", "bf16", None, 42),
    ("bf16, another seed", "bf16", None, 43),
    ("bf16, 50,312 rows", "bf16", 50_312, 42),
    ("fp32", "fp32", None, 42),
)


def build_parser() -> argparse.ArgumentParser:
    parser = command_parser(__doc__)
    add = parser.add_argument
    add("--device", default="cuda", help="cuda, cuda:N, or cpu to try the command out")
    add("--steps", type=positive, default=100, help="steps of a measurement (default: 100)")
    add("--curve_steps", type=positive, default=10_000, help="steps of a curve (default: 10000)")
    add(
        "--curve_sizes",
        type=positive,
        nargs=3,
        default=(4, 6, 384),
        metavar=("LAYERS", "HEADS", "DIMS"),
        help="the curves' model (default: 4 6 384)",
    )
    about = "of all together; curves are cut to keep to it (default: 8.5)"
    add("--minutes", type=float, default=8.5, help=about)
    add("--quick", action="store_true", help="tiny models and batches, not worth reading")
    about = "write the figures to this JSON file, and the curves to .png and .pdf beside it"
    add("--output", default=None, help=about)
    return parser


def main(arguments: argparse.Namespace) -> None:
    import torch

    end = time.monotonic() + 60 * arguments.minutes
    torch.manual_seed(0)
    cuda = torch.device(arguments.device).type == "cuda"
    name = torch.cuda.get_device_name(arguments.device) if cuda else "CPU"
    machine = f"{name}; {describe_machine()}, torch {torch.__version__}"
    print(machine)
    figures = [step_figures(case, arguments) for case in CASES]
    curves = accuracy_curves(arguments, end)
    figures += [step_figures(case, arguments) for case in RECORDED]
    print(table(["case", "ms a step", "steps/s", "MFU"], [shown(figure) for figure in figures]))
    rows = [
        [name, f"{points[-1]['step']:,}", *(f"{points[-1]['eval'][g]:.4f}" for g in groups(points))]
        for name, points in curves.items()
    ]
    print(table(["curve", "steps", *groups(next(iter(curves.values())))], rows))
    if arguments.output:
        file = Path(arguments.output)
        content = {"machine": machine, "cases": figures, "curves": curves}
        content["curve_sizes"] = list(arguments.curve_sizes)
        file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        draw(curves, file)


def step_figures(case: tuple, arguments: argparse.Namespace) -> dict:
    """Seconds of a step and MFU; ``failed`` says why there are none."""
    import torch

    from simpletransformers.seq2seq.optimisation import peak_of

    name, sizes, batch, precision, vocabulary, options = case
    if arguments.quick:
        sizes, batch = (1, 2, 16), 16
        options = {key: value for key, value in options.items() if key != "compile"}
    data = torch.randint(0, 50, (64 if arguments.quick else 40_000, 4))
    found = {"case": name, "batch": batch, "seconds_per_step": None, "mfu": None}
    try:
        with tempfile.TemporaryDirectory() as folder:
            options = {"pad_vocab_to": vocabulary, **options}
            where = (Path(folder), sizes, arguments.device)
            ours = our_trainer(data, batch, precision, *where, **options)
            ours.seconds(1 if arguments.quick else 10)  # warm up, compile, record
            found["seconds_per_step"] = seconds = ours.seconds(arguments.steps)
    except (RuntimeError, ValueError) as error:  # one case that cannot be must not cost the others
        return found | {"failed": (str(error).splitlines() or [type(error).__name__])[0]}
    peak = peak_of(torch.device(arguments.device), precision)
    return found | {"mfu": ours.flops / seconds / peak if peak else None}


def shown(figure: dict) -> list[str]:
    if "failed" in figure:
        return [figure["case"], figure["failed"], "", ""]
    seconds, mfu = figure["seconds_per_step"], figure["mfu"]
    share = "" if mfu is None else f"{mfu:.1%}"
    return [figure["case"], f"{1e3 * seconds:.2f}", f"{1 / seconds:,.0f}", share]


class TimeIsOver(Exception):
    """Raised out of a run's report: its share of the minutes is used up."""


def accuracy_curves(arguments: argparse.Namespace, end: float) -> dict[str, list[dict]]:
    """``{curve: [{"step", "eval": {type: accuracy}}]}``; ``end`` is on the monotonic clock."""
    from coverage_principle.data import load_dataset

    tokens, items = (10, 200) if arguments.quick else (50, 20_000)
    curves: dict[str, list[dict]] = {}
    with tempfile.TemporaryDirectory() as folder:
        command = f"dataset_generation/twohop.py --num_tokens {tokens} --max_train_data_num {items}"
        measure([*command.split(), "--output_dir", folder])
        dataset = load_dataset(next(Path(folder).iterdir()))
        for number, (name, precision, vocabulary, seed) in enumerate(CURVES):
            left = end - time.monotonic()
            # The last curve, in fp32, is several times slower than the others.
            share = left * (0.2 if number < len(CURVES) - 1 else 0.9)
            settings = {"precision": precision, "pad_vocab_to": vocabulary, "manual_seed": seed}
            run_folder = Path(folder) / f"run{number}"
            curves[name] = curve(dataset, run_folder, arguments, share, settings)
    return curves


def curve(dataset, folder: Path, arguments, seconds: float, settings: dict) -> list[dict]:
    every = 1 if arguments.quick else 100
    args = {"train_batch_size": 4096, "max_steps": arguments.curve_steps, "warmup_steps": 2000}
    args |= {"scheduler": "constant_schedule_with_warmup", "group_by": ("type",)}
    args |= {"evaluate_during_training": True, "evaluate_during_training_steps": every}
    sizes = (1, 2, 16) if arguments.quick else tuple(arguments.curve_sizes)
    args |= {"logging_steps": 50, **settings}
    model = new_model(dataset.codec.vocabulary, sizes, arguments.device, **args)
    points, end = [], time.monotonic() + seconds

    def report(event: dict) -> None:
        if "eval" in event:
            accuracies = {g: s["answer_accuracy"] for g, s in event["eval"].items()}
            points.append({"step": event["step"], "eval": accuracies})
            if time.monotonic() > end:
                raise TimeIsOver

    with contextlib.suppress(TimeIsOver):
        model.train_model(dataset.train.records, dataset.test.records, folder, report=report)
    return points


def groups(points: list[dict]) -> list[str]:
    return list(points[-1]["eval"])


def draw(curves: dict[str, list[dict]], file: Path) -> None:
    """A panel for each of seen and unseen compositions of seen facts, a line for each curve."""
    from coverage_principle.reporting.training_figures import type_curves

    panels = {
        group: [
            {"step": point["step"], "eval": {name: {"answer_accuracy": point["eval"][group]}}}
            for name, points in curves.items()
            for point in points
        ]
        for group in ("train_inferred", "type_0")
    }
    type_curves(panels, file, chance=1 / 50, types=list(curves))


if __name__ == "__main__":
    run(build_parser(), main)
