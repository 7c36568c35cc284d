"""Training speed on one GPU: milliseconds a step, steps a second, MFU; all rows in one call.

The published configuration (8 layers, 12 heads, 768 dimensions, dropout 0.1, 2-hop rows of 50
tokens) at a global batch of 4,096 and 16,384 in bf16 and fp32, with and without torch.compile, with
the data's vocabulary and with 50,312 rows; and the 2-layer model of 128 dimensions at 4,096. MFU
counts what is really multiplied (``lean.flops``) against the device's dense 16-bit peak; it is left
away where that is not known.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from common import describe_machine
from training import our_trainer

from coverage_principle.cli import positive, run, table

PUBLISHED, SMALL = (8, 12, 768), (2, 4, 128)

#: name, sizes, batch, precision, compiled, rows of vocabulary (None: the data's)
CASES = (
    ("published, batch 4,096, bf16", PUBLISHED, 4096, "bf16", False, None),
    ("the same, compiled", PUBLISHED, 4096, "bf16", True, None),
    ("the same, 50,312 rows", PUBLISHED, 4096, "bf16", False, 50_312),
    ("published, batch 4,096, fp32", PUBLISHED, 4096, "fp32", False, None),
    ("published, batch 16,384, bf16", PUBLISHED, 16_384, "bf16", False, None),
    ("the same, compiled", PUBLISHED, 16_384, "bf16", True, None),
    ("small, batch 4,096, bf16", SMALL, 4096, "bf16", False, None),
    ("small, batch 4,096, bf16, compiled", SMALL, 4096, "bf16", True, None),
    ("small, batch 4,096, fp32", SMALL, 4096, "fp32", False, None),
)


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add = parser.add_argument
    add("--device", default="cuda", help="cuda, cuda:N, or cpu to try the command out")
    add("--steps", type=positive, default=100, help="steps of a measurement (default: 100)")
    add("--quick", action="store_true", help="tiny models and batches, not worth reading")
    add("--output", default=None, help="write the figures to this JSON file")
    return parser


def main(arguments: argparse.Namespace) -> None:
    import torch

    from simpletransformers.seq2seq.optimisation import peak_of

    torch.manual_seed(0)
    data = torch.randint(0, 50, (64 if arguments.quick else 40_000, 4))
    figures, rows = [], []
    for name, sizes, batch, precision, compiled, vocabulary in CASES:
        if arguments.quick:
            sizes, batch, compiled = (1, 2, 16), 16, False
        with tempfile.TemporaryDirectory() as folder:
            ours = our_trainer(
                data, batch, precision, Path(folder), device=arguments.device, sizes=sizes,
                tokens=50, compiled=compiled, pad_vocab_to=vocabulary,
            )  # fmt: skip
            ours.seconds(1 if arguments.quick else 10)  # warm up, compile
            seconds = ours.seconds(arguments.steps)
        peak = peak_of(torch.device(arguments.device), precision)
        mfu = ours.flops / seconds / peak if peak else None
        figures.append({"case": name, "batch": batch, "seconds_per_step": seconds, "mfu": mfu})
        rows.append([name, f"{1e3 * seconds:.2f}", f"{1 / seconds:,.0f}",
                     "" if mfu is None else f"{mfu:.1%}"])  # fmt: skip
        del ours
    name = torch.cuda.get_device_name(arguments.device) if arguments.device != "cpu" else "CPU"
    machine = f"{name}; {describe_machine()}, torch {torch.__version__}"
    print(machine)
    print(table(["case", "ms a step", "steps/s", "MFU"], rows))
    if arguments.output:
        content = {"machine": machine, "cases": figures}
        Path(arguments.output).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    run(build_parser(), main)
