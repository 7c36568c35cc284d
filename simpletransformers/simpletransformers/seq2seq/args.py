"""Settings of a model and its training, each written down once: flag, check and record follow.

Sizes count items, steps are optimiser steps, 0 switches an interval off. Names are those of Simple
Transformers where it has them.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from simpletransformers import files
from simpletransformers.errors import InputError
from simpletransformers.settings import MOST_SEED, Settings, fields_of, setting

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


@dataclass(frozen=True)
class ArchitectureSettings(Settings):
    """What a new model looks like; None is the value of the size that is asked for."""

    n_layer: int | None = setting(
        None, "layers (default: those of the size)", at_least=1, on_card=True, group="model"
    )
    n_head: int | None = setting(
        None,
        "attention heads of a layer (default: those of the size)",
        at_least=1,
        on_card=True,
        group="model",
    )
    n_embd: int | None = setting(
        None,
        "dimensions of a hidden state (default: those of the size)",
        at_least=1,
        on_card=True,
        group="model",
    )
    n_inner: int | None = setting(
        None,
        "dimensions inside an MLP (default: 4 times those of a hidden state)",
        at_least=1,
        on_card=True,
        group="model",
    )
    no_dropout: bool = setting(False, "dropout 0 instead of 0.1", on_card=True, group="model")
    no_ln: bool = setting(False, "no layer norms at all", on_card=True, group="model")
    no_mlp: bool = setting(False, "blocks of attention alone", on_card=True, group="model")
    share_mlp: bool = setting(
        False, "one MLP, with its norm, for all blocks", on_card=True, group="model"
    )
    add_recurrence: bool = setting(
        False, "the whole stack of blocks twice, with the same weights", on_card=True, group="model"
    )
    loops: int | None = setting(
        None,
        "so many times the whole stack of blocks, with the same weights (default: once)",
        at_least=1,
        at_most=1000,
        on_card=True,
        group="model",
    )
    inject_input: bool = setting(
        False,
        "add the stack's input, token and position, to the stream before every loop but the first",
        on_card=True,
        group="model",
    )
    pad_vocab_to: int | None = setting(
        None,
        "rows of the embedding, published: 50312 (default: the vocabulary, up to a multiple of 8)",
        at_least=1,
        group="model",
    )

    def check(self) -> None:
        super().check()
        if self.add_recurrence and self.loops not in (None, 2):
            raise InputError(f"`add_recurrence` is `loops` 2, not {self.loops}; omit one of them")


@dataclass(frozen=True)
class TrainingSettings(Settings):
    """How weights are changed.

    One step uses ``train_batch_size * gradient_accumulation_steps`` items over all processes
    together, or the whole training set if that is smaller.
    """

    train_batch_size: int = setting(
        16, "items of a step, over all processes", at_least=1, on_card=True, group="optimisation"
    )
    gradient_accumulation_steps: int = setting(
        1,
        "so many batches make one step: multiplies the items of a step",
        at_least=1,
        on_card=True,
        group="optimisation",
    )
    micro_batch_size: int | None = setting(
        None,
        "items of one forward pass of a process (default: as many as fit in memory)",
        at_least=1,
        group="devices",
    )
    learning_rate: float = setting(
        4e-5, "peak of the schedule", at_least=0, on_card=True, group="optimisation"
    )
    weight_decay: float = setting(
        0.01,
        "AdamW's; biases and norms have none",
        at_least=0,
        on_card=True,
        group="optimisation",
    )
    scheduler: str = setting(
        "linear_schedule_with_warmup",
        f"learning-rate schedule: {', '.join(SCHEDULERS)}",
        choices=SCHEDULERS,
        metavar="NAME",
        on_card=True,
        group="optimisation",
    )
    warmup_steps: int = setting(
        2000,
        "steps in which the learning rate rises to its peak; 0: none",
        at_least=0,
        on_card=True,
        group="optimisation",
    )
    precision: str = setting(
        "fp32",
        "of computation; auto: bf16 on a GPU that has it, fp16 on another, fp32 on a CPU",
        choices=PRECISIONS,
        on_card=True,
        group="devices",
    )
    max_steps: int = setting(
        0,
        "optimiser steps, exactly; 0: `num_train_epochs` decides",
        at_least=0,
        may_differ=True,
        group="length",
    )
    num_train_epochs: float = setting(
        20,
        "passes over the training set, if `max_steps` is 0",
        at_least=0,
        at_most=10**9,
        may_differ=True,
        group="length",
    )
    compile: bool = setting(
        False, "torch.compile: a slow start, faster steps", may_differ=True, group="devices"
    )
    cuda_graphs: bool = setting(
        False,
        "record a step once and replay it: faster for small models on one GPU",
        group="devices",
    )
    train_on_end_token: bool = setting(
        False, "loss on the end token </a> too, and not on the answer alone", group="optimisation"
    )
    manual_seed: int = setting(
        42,
        "of initial weights, order of the items and dropout",
        at_least=0,
        at_most=MOST_SEED,
        on_card=True,
        metavar="SEED",
        group="optimisation",
    )

    def check(self) -> None:
        super().check()
        if self.max_steps == 0 and self.num_train_epochs == 0:
            raise InputError("`max_steps` and `num_train_epochs` are both 0; give one of them")


@dataclass(frozen=True)
class RecordSettings(Settings):
    """When a run is evaluated, what it writes down and keeps, and when it ends early.

    Checkpoints are weights and tokenizer only; what a continuation needs lies in ``resume_state/``.
    A run may be continued with other values of all of these.
    """

    evaluate_during_training: bool = setting(
        False,
        "score the test set by type and k-cutoff, every `evaluate_during_training_steps` steps",
        group="evaluation",
    )
    evaluate_during_training_steps: int = setting(
        25, "steps between evaluations", flag="eval_steps", at_least=0, group="evaluation"
    )
    eval_batch_size: int = setting(
        4096, "items of one forward pass, without gradients", at_least=1, group="evaluation"
    )
    logging_steps: int = setting(
        10, "steps between entries of the log", at_least=1, group="logging"
    )
    save_steps: int = setting(
        0,
        "a checkpoint every so many steps; 0: only the final one",
        flag="save_step",
        at_least=0,
        group="checkpoints",
    )
    save_step_dense: int = setting(
        0,
        "up to this step, checkpoints every `save_step_dense_interval` steps; 0: none",
        group="checkpoints",
    )
    save_step_dense_interval: int = setting(
        2000, "steps between these", at_least=1, group="checkpoints"
    )
    save_fine_step_list: tuple[int, ...] = setting(
        (),
        "a checkpoint at every step of the 1,000 from each of these steps on (default: none)",
        metavar="STEP",
        group="checkpoints",
    )
    save_log_spaced: int = setting(
        0,
        "so many checkpoints for each factor of ten in steps; 0: none",
        at_least=0,
        group="checkpoints",
    )
    keep: int = setting(
        0,
        "keep only the last so many of the checkpoints of `save_steps`; 0: all",
        at_least=0,
        group="checkpoints",
    )
    stop_when: str | None = setting(
        None,
        'stop once an evaluation of the validation split reaches a score, such as "type_0>=0.99"',
        metavar="RULE",
        group="length",
    )
    patience_epochs_after_fit: float = setting(
        0,
        "stop so many epochs after 0.99 of the training items are answered rightly (published: "
        "100); 0: never",
        at_least=0,
        group="length",
    )
    resume_state_minutes: float = setting(
        10, "minutes between savings of what `resume` needs", at_least=0, group="checkpoints"
    )
    resume: bool = setting(
        False, "go on where the run in `output_dir` stopped, if there is one", group="checkpoints"
    )
    overwrite_output_dir: bool = setting(
        False,
        "replace a run that is there; with `resume`, only if it has other settings",
        group="checkpoints",
    )


@dataclass(frozen=True)
class Seq2SeqArgs(RecordSettings, TrainingSettings, ArchitectureSettings):
    """All arguments of ``Seq2SeqModel``; those below have no flag.

    ``generation_length`` is learned from the training data: how far ``predict`` goes.
    """

    max_grad_norm: float = setting(1.0, "gradients are clipped at this norm", at_least=0)
    adam_betas: tuple[float, ...] = setting((0.9, 0.999), "decay of AdamW's two averages")
    adam_epsilon: float = setting(1e-8, "added to AdamW's denominator", at_least=0)
    end_token: str = setting("</a>", "the token that ends every target")
    group_by: tuple[str, ...] = setting(
        ("type", "k_cutoff", "source_type"),
        "keys of the records by which scores are grouped",
        may_differ=True,
    )
    generation_length: int | None = setting(None, "tokens that targets hold", may_differ=True)

    @classmethod
    def load(cls, checkpoint: Path) -> Self:
        """The arguments saved beside a checkpoint's weights, or the defaults if there are none."""
        file = checkpoint / "model_args.json"
        if not file.exists():
            return cls()
        saved = files.read_json(file, dict)
        try:
            return cls(**{key: value for key, value in saved.items() if key in fields_of(cls)})
        except InputError as error:
            raise InputError(f"{file}: {error}") from error

    def save(self, folder: Path) -> None:
        """Write ``model_args.json``, with the SHA-256 of the files that are in ``folder``."""
        saved = {**asdict(self), "sha256": files.digests(sorted(folder.iterdir()))}
        files.write_json(folder / "model_args.json", saved)

    @staticmethod
    def saved_files(checkpoint: Path, *only: str) -> dict[str, bool]:
        """The files of a checkpoint that ``save`` noted, and whether each is what it was then.

        With ``only``, just those of these names.
        """
        file = checkpoint / "model_args.json"
        saved = files.read_json(file, dict).get("sha256", {}) if file.exists() else {}
        if not isinstance(saved, dict):
            raise InputError(f"{file}: sha256 must be an object, found {saved!r}")
        names = sorted(set(saved).intersection(only or saved))
        now = files.digests(checkpoint / name for name in names)
        return {name: saved[name] == now.get(name) for name in names}

    def shared(self) -> dict[str, object]:
        """What a continuation of a run must have in common with it."""
        free = fields_of(RecordSettings)
        bound = {n: spec for n, (_, spec) in fields_of(type(self)).items() if n not in free}
        return {name: getattr(self, name) for name, spec in bound.items() if not spec.may_differ}
