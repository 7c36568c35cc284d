"""Training settings that belong together, by name: flags of ``main.py`` and their values.

One table for everybody: ``main.py --preset``, ``script/train.sh`` and ``script/train.slurm``
(``published``), the claims of ``script/reproduce/`` (those of ``SCALES``).
"""

from __future__ import annotations

_CONSTANT = {"scheduler": "constant_schedule_with_warmup"}
_SMALL = {**_CONSTANT, "n_layer": 2, "device": "cpu"}
_LARGE = {
    **_CONSTANT,
    **{"n_layer": 8, "n_head": 12, "n_embd": 768, "precision": "auto"},
    **{"learning_rate": 8e-4, "weight_decay": 0.1, "warmup_steps": 2000},
}

#: ``published``: what the published ``train.sh`` gives. ``tiny``: seconds, to see that everything
#: runs. ``cpu``: minutes on a core. ``night``: the same in half the time, on a processor that
#: multiplies bf16 numbers by itself (AVX-512 BF16 or AMX). ``gpu``: the published model on one
#: GPU, fewer steps. ``paper``: the batch of the published runs on four GPUs.
TRAINING: dict[str, dict[str, object]] = {
    "published": {
        **{"init_weights": True, "add_tokens": True, "do_train": True},
        **{"evaluate_during_training": True, "eval_steps": 25},
        **{**_LARGE, "train_batch_size": 4096, "max_steps": 62500},
        **{"save_step": 2500, "save_step_dense": 5000, "save_step_dense_interval": 250},
    },
    "tiny": {
        **{**_SMALL, "n_head": 2, "n_embd": 16, "train_batch_size": 64, "learning_rate": 2e-3},
        **{"weight_decay": 0.1, "warmup_steps": 10, "max_steps": 60, "eval_steps": 30},
    },
    "cpu": {
        **{**_SMALL, "n_head": 4, "n_embd": 128, "train_batch_size": 256, "learning_rate": 1.2e-3},
        **{"weight_decay": 0.3, "warmup_steps": 200, "max_steps": 2500, "eval_steps": 125},
    },
    "night": {},
    "gpu": {**_LARGE, "train_batch_size": 4096, "max_steps": 20000, "eval_steps": 250},
    "paper": {**_LARGE, "train_batch_size": 16384, "max_steps": 62500, "eval_steps": 250},
}
TRAINING["night"] = {**TRAINING["cpu"], "precision": "bf16"}

#: Scales at which a claim can be looked into.
SCALES = ("tiny", "cpu", "night", "gpu", "paper")
