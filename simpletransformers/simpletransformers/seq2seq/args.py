"""Arguments of a model and its training: one dataclass, checked before anything runs."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from simpletransformers.errors import InputError

#: Learning-rate schedules, by the names of ``transformers.get_<name>``.
SCHEDULERS = (
    "constant_schedule",
    "constant_schedule_with_warmup",
    "linear_schedule_with_warmup",
    "cosine_schedule_with_warmup",
    "cosine_with_hard_restarts_schedule_with_warmup",
    "polynomial_decay_schedule_with_warmup",
)

#: ``auto`` is bf16 on a GPU that has it, fp16 on any other GPU, fp32 on a CPU.
PRECISIONS = ("auto", "fp32", "bf16", "fp16")


@dataclass
class Seq2SeqArgs:
    """Arguments of ``Seq2SeqModel``; names as in Simple Transformers where it has them.

    Sizes count items, steps are optimiser steps, 0 switches an interval off.
    """

    # Model, used with ``init_weights``; None is the preset's own value.
    n_layer: int | None = None
    n_head: int | None = None
    n_embd: int | None = None
    n_inner: int | None = None
    no_dropout: bool = False
    no_ln: bool = False  # these four: architectures/gpt2.py
    no_mlp: bool = False
    share_mlp: bool = False
    add_recurrence: bool = False
    pad_vocab_to: int | None = None  # rows of the embedding; default: the next multiple of 8

    # Optimisation. One step uses train_batch_size * gradient_accumulation_steps items over all
    # ranks together, or the whole training set if that is smaller.
    train_batch_size: int = 16
    gradient_accumulation_steps: int = 1
    micro_batch_size: int | None = None  # items of one rank in one forward pass; None: what fits
    learning_rate: float = 4e-5
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0
    adam_betas: tuple[float, float] = (0.9, 0.999)
    adam_epsilon: float = 1e-8
    scheduler: str = "linear_schedule_with_warmup"
    warmup_steps: int = 2000
    max_steps: int = 0  # exact; 0: num_train_epochs decides
    num_train_epochs: float = 20
    precision: str = "fp32"
    compile: bool = False
    cuda_graphs: bool = False  # record a step once, then replay it; one GPU, bf16 or fp32
    train_on_end_token: bool = False  # loss on the end token too
    end_token: str = "</a>"
    manual_seed: int = 42

    # Evaluation and records.
    evaluate_during_training: bool = False
    evaluate_during_training_steps: int = 25
    eval_batch_size: int = 4096
    group_by: tuple[str, ...] = ("type", "k_cutoff")
    logging_steps: int = 10
    stop_when: str | None = None  # "type_0>=0.99": stop at an evaluation that reaches this
    patience_epochs_after_fit: float = 0  # or so many epochs after train_inferred >= 0.99

    # Checkpoints: weights and tokenizer only. What --resume needs lies in resume_state/.
    save_steps: int = 0
    save_step_dense: int = 0  # up to this step ...
    save_step_dense_interval: int = 2000  # ... save every so many steps
    save_fine_step_list: tuple[int, ...] = ()  # from each of these, 1,000 steps are all saved
    save_log_spaced: int = 0  # so many for each factor of ten in steps
    keep: int = 0  # only the last so many of the save_steps checkpoints; 0: all
    resume_state_minutes: float = 10.0
    resume: bool = False  # go on with what is there, if anything is
    overwrite_output_dir: bool = False  # with resume: only if it has other settings

    # Learned from the training data; kept so that predict knows how far to go.
    generation_length: int | None = field(default=None)

    def __post_init__(self) -> None:
        self.adam_betas = tuple(self.adam_betas)
        self.group_by = tuple(self.group_by)
        self.save_fine_step_list = tuple(self.save_fine_step_list)

    @classmethod
    def from_mapping(cls, values: Mapping[str, object]) -> Seq2SeqArgs:
        """Arguments from a dictionary; ``InputError`` names a key that does not exist."""
        known = {f.name for f in dataclasses.fields(cls)}
        for key in values:
            if key not in known:
                raise InputError(f"Seq2SeqArgs has no argument {key!r}; it has {sorted(known)}")
        return cls(**values)

    @classmethod
    def load(cls, checkpoint: Path) -> Seq2SeqArgs:
        """The arguments saved beside a checkpoint's weights, or the defaults if there are none."""
        file = Path(checkpoint) / "model_args.json"
        if not file.exists():
            return cls()
        known = {f.name for f in dataclasses.fields(cls)}
        saved = json.loads(file.read_text(encoding="utf-8"))
        return cls(**{key: value for key, value in saved.items() if key in known})

    def save(self, folder: Path) -> None:
        """Write ``model_args.json``."""
        text = json.dumps(dataclasses.asdict(self), indent=2) + "\n"
        (Path(folder) / "model_args.json").write_text(text, encoding="utf-8")

    def check(self) -> None:
        """Raise ``InputError`` for a value out of range, naming it."""
        at_least = {
            "train_batch_size": 1,
            "gradient_accumulation_steps": 1,
            "eval_batch_size": 1,
            "logging_steps": 1,
            "warmup_steps": 0,
            "max_steps": 0,
            "num_train_epochs": 0,
            "learning_rate": 0,
            "weight_decay": 0,
            "save_steps": 0,
            "manual_seed": 0,
            "evaluate_during_training_steps": 0,
            "resume_state_minutes": 0,
            "save_log_spaced": 0,
            "keep": 0,
            "patience_epochs_after_fit": 0,
            "save_step_dense_interval": 1,
            "micro_batch_size": 1,
            "n_layer": 1,
            "n_head": 1,
            "n_embd": 1,
            "n_inner": 1,
            "pad_vocab_to": 1,
        }
        for name, low in at_least.items():
            value = getattr(self, name)
            if value is not None and not low <= value < math.inf:  # nan is neither
                raise InputError(f"{name} is {value}; it must be at least {low} and finite")
        if self.max_steps == 0 and self.num_train_epochs == 0:
            raise InputError("max_steps and num_train_epochs are both 0; give one of them")
        for name, allowed in (("scheduler", SCHEDULERS), ("precision", PRECISIONS)):
            if getattr(self, name) not in allowed:
                raise InputError(
                    f"{name} {getattr(self, name)!r} is not one of {', '.join(allowed)}"
                )
