"""Optimiser, schedule, precision, and how much fits in memory."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

import torch

from simpletransformers.errors import InputError
from simpletransformers.seq2seq.args import Seq2SeqArgs

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel


def build_optimizer(model: PreTrainedModel, args: Seq2SeqArgs) -> torch.optim.AdamW:
    """Fused AdamW; biases and layer-norm weights are not decayed, embeddings are, as published."""
    decayed, plain = [], []
    for name, parameter in model.named_parameters():
        kept = name.endswith("bias") or ".ln_" in name or "norm" in name
        (plain if kept else decayed).append(parameter)
    return torch.optim.AdamW(
        [{"params": decayed}, {"params": plain, "weight_decay": 0.0}],
        lr=args.learning_rate,
        weight_decay=args.weight_decay,
        betas=args.adam_betas,
        eps=args.adam_epsilon,
        fused=next(model.parameters()).device.type in {"cpu", "cuda"},
        capturable=args.cuda_graphs,
    )


def rates_on_device(optimizer: torch.optim.Optimizer) -> None:
    """Keep learning rates where a recorded step reads them anew; schedules write into them."""
    for group in optimizer.param_groups:
        device = group["params"][0].device
        group["lr"] = torch.tensor(float(group["lr"]), device=device)


def build_scheduler(optimizer: torch.optim.Optimizer, args: Seq2SeqArgs, total: int):
    """The learning-rate schedule ``args.scheduler`` over ``total`` steps."""
    import transformers

    steps = {} if args.scheduler == "constant_schedule" else {"num_warmup_steps": args.warmup_steps}
    if "constant" not in args.scheduler:
        steps["num_training_steps"] = total
    return getattr(transformers, f"get_{args.scheduler}")(optimizer, **steps)


def precision_of(args: Seq2SeqArgs, device: torch.device) -> str:
    """``args.precision`` with ``auto`` resolved. ``InputError`` for fp16 without a GPU."""
    if args.precision == "fp16" and device.type != "cuda":
        raise InputError(f"`precision` fp16 needs a GPU, not {device}; use bf16 or fp32")
    if args.precision != "auto":
        return args.precision
    if device.type != "cuda":
        return "fp32"
    return "bf16" if torch.cuda.is_bf16_supported() else "fp16"


def autocast(args: Seq2SeqArgs, device: torch.device) -> AbstractContextManager:
    """The context in which the model computes."""
    precision = precision_of(args, device)
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16 if precision == "bf16" else torch.float16)


#: Dense 16-bit peak of GPUs, in operations a second, by what their name holds (vendor's tables).
PEAKS = {"H200": 989e12, "H100 PCIe": 756e12, "H100": 989e12, "A100": 312e12}


def peak_of(device: torch.device, precision: str) -> float | None:
    """The device's peak in operations a second; None where it is not known: no guess is made."""
    if device.type != "cuda" or precision == "fp32":
        return None
    name = torch.cuda.get_device_name(device)
    return next((peak for part, peak in PEAKS.items() if part in name), None)


def rows_that_fit(config: PretrainedConfig, length: int, device: torch.device) -> int:
    """How many rows of ``length`` tokens one forward and backward pass holds in memory.

    Counted from what autograd keeps of a GPT-2 block: about 36 values for each token, layer and
    hidden dimension, of 4 bytes. The budget is half of a GPU's memory, or 2 GiB on a CPU.
    """
    budget = 2 << 30
    if device.type == "cuda":
        budget = torch.cuda.get_device_properties(device).total_memory // 2
    row = 36 * 4 * length * config.num_hidden_layers * config.hidden_size
    return max(1, budget // row)
