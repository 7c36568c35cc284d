"""A training step as others would write it: a small loop of its own, and transformers' Trainer."""

from __future__ import annotations

import time

import torch
from torch import nn
from torch.nn import functional
from torch.optim.optimizer import register_optimizer_step_post_hook

TOKENS, LAYERS, HEADS, WIDTH, LENGTH = 24, 2, 4, 128, 3


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norms = nn.ModuleList([nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)])
        self.attend, self.project = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.widen, self.narrow = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)
        self.drop = nn.Dropout(0.1)

    def forward(self, state: torch.Tensor) -> torch.Tensor:
        rows, length, _ = state.shape
        parts = self.attend(self.norms[0](state)).split(WIDTH, dim=2)
        heads = (one.view(rows, length, HEADS, WIDTH // HEADS).transpose(1, 2) for one in parts)
        options = {"is_causal": True, "dropout_p": 0.1 if self.training else 0.0}
        mixed = functional.scaled_dot_product_attention(*heads, **options)
        mixed = mixed.transpose(1, 2).reshape(rows, length, WIDTH)
        state = state + self.drop(self.project(mixed))
        inner = functional.gelu(self.widen(self.norms[1](state)), approximate="tanh")
        return state + self.drop(self.narrow(inner))


class Model(nn.Module):
    """A GPT whose answer stands at the last position, where alone logits are made."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(TOKENS, WIDTH), nn.Embedding(LENGTH, WIDTH)
        self.blocks = nn.Sequential(*(Block() for _ in range(LAYERS)))
        self.norm, self.drop = nn.LayerNorm(WIDTH), nn.Dropout(0.1)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        state = self.drop(self.tokens(ids) + self.places.weight)
        return self.norm(self.blocks(state)[:, -1]) @ self.tokens.weight.T


def items(batch: int) -> torch.Tensor:
    """Rows (n, 4) of tokens, the answer last."""
    torch.manual_seed(0)
    return torch.randint(0, TOKENS, (4 * batch, LENGTH + 1))


def small_loop(batch: int, count: int) -> dict[str, float]:
    """CPU and wall seconds of a step."""
    data, model = items(batch), Model().train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=8e-4, weight_decay=0.1, fused=True)
    clock = Clock()
    for _ in range(count + 1):
        rows = data[torch.randint(0, len(data), (batch,))]
        functional.cross_entropy(model(rows[:, :-1]), rows[:, -1]).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return clock.of_step()


def hf_trainer(batch: int, count: int) -> dict[str, float]:
    """The same of transformers' Trainer and its own GPT-2, whose loss is that of the answer."""
    import tempfile

    from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments

    config = GPT2Config(vocab_size=TOKENS, n_layer=LAYERS, n_head=HEADS, n_embd=WIDTH)
    config.bos_token_id = config.eos_token_id = TOKENS - 1
    rows = items(batch)
    answers = rows.clone()
    answers[:, :-1] = -100
    pairs = zip(rows, answers, strict=True)
    data = [{"input_ids": row, "labels": answer} for row, answer in pairs]
    with tempfile.TemporaryDirectory() as folder:
        settings = TrainingArguments(
            **{"output_dir": folder, "max_steps": count + 1, "use_cpu": True, "report_to": []},
            **{"per_device_train_batch_size": batch, "learning_rate": 8e-4, "weight_decay": 0.1},
            **{"logging_strategy": "no", "save_strategy": "no", "disable_tqdm": True},
        )
        clock = Clock()
        Trainer(GPT2LMHeadModel(config), settings, train_dataset=data).train()
    return clock.of_step()


class Clock:
    """Reads the time after each step of any optimiser."""

    def __init__(self) -> None:
        self._ends: list[tuple[float, float]] = []
        register_optimizer_step_post_hook(
            lambda *_: self._ends.append((time.process_time(), time.perf_counter()))
        )

    def of_step(self) -> dict[str, float]:
        """CPU and wall seconds of a step but the first; ``RuntimeError`` if there was but one."""
        if len(self._ends) < 2:
            raise RuntimeError(f"{len(self._ends)} optimiser steps are too few")
        ends = zip(self._ends[0], self._ends[-1], strict=True)
        cpu, wall = ((last - first) / (len(self._ends) - 1) for first, last in ends)
        return {"cpu_s": cpu, "wall_s": wall}
