"""GPT-2's blocks run by hand, on any part of a sequence and from any layer.

A patch at position p leaves every earlier position as it was, because attention is causal. So only
positions from p on are run again, and they attend to the keys and values that the unpatched run
left at the earlier ones. Neither masks nor caches of transformers are used, whose form changes from
release to release; ``Patcher`` checks against the model's own output that both agree.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from coverage_principle.circuits.checkpoints import LoadedModel


@dataclass(frozen=True)
class Forward:
    """What one unpatched run of n sequences of T tokens leaves behind.

    ``residual[l]`` (n, T, width) is the residual stream at layer l = 0..L, before the final norm;
    ``middle[l - 1]`` that of block l after attention, before the MLP; ``keys[l - 1]`` and
    ``values[l - 1]`` (n, heads, T, width / heads) are block l's.
    """

    residual: list[Tensor]
    middle: list[Tensor]
    keys: list[Tensor]
    values: list[Tensor]


class Blocks:
    """The blocks of one loaded model."""

    def __init__(self, loaded: LoadedModel) -> None:
        self.loaded = loaded
        self._body = loaded.model.transformer
        config = loaded.model.config
        self._heads = config.num_attention_heads
        # GPT-2's own activation is the same function in seven passes over memory instead of one.
        self._fused = config.activation_function == "gelu_new"
        size = config.hidden_size // self._heads
        scale = size**-0.5 if config.scale_attn_weights else 1.0
        self._scales = [
            scale / (i + 1) if config.scale_attn_by_inverse_layer_idx else scale
            for i in range(config.num_hidden_layers)
        ]

    def embed(self, ids: Tensor) -> Tensor:
        """Layer 0 of sequences of the checkpoint's token ids (n, T): ``(n, T, width)``."""
        places = torch.arange(ids.shape[1], device=ids.device)
        return self._body.wte(ids) + self._body.wpe(places)

    def forward(self, ids: Tensor) -> Forward:
        """Run whole sequences and keep every layer."""
        run = Forward([self.embed(ids)], [], [], [])
        for index in range(len(self._scales)):
            state = run.residual[-1]
            query, key, value = self._project(index, state)
            middle = state + self._attend(index, query, key, value)
            run.keys.append(key)
            run.values.append(value)
            run.middle.append(middle)
            run.residual.append(self._mlp(index, middle))
        return run

    def block(
        self,
        index: int,
        state: Tensor,
        earlier: tuple[Tensor, Tensor] | None = None,
        *,
        last_only: bool = False,
    ) -> Tensor:
        """Block ``index`` (0-based) on the positions from some p on: (rows, T - p, width).

        ``earlier`` are keys and values (n, heads, p, size) of the positions before p; rows is a
        multiple of n, its first n rows belonging to the same sequences as the next n, and so on.
        ``last_only`` gives the last position only, (rows, 1, width): what the final layer needs.
        """
        query, key, value = self._project(index, state, last_only=last_only)
        if earlier is not None:
            copies = len(state) // len(earlier[0])
            key, value = (
                torch.cat([before.repeat(copies, 1, 1, 1), own], dim=2)
                for before, own in zip(earlier, (key, value), strict=True)
            )
        if last_only:
            state = state[:, -1:]
        return self._mlp(index, state + self._attend(index, query, key, value))

    def logits(self, state: Tensor) -> Tensor:
        """Logits of the data set's tokens (rows, vocabulary) for final residuals (rows, width)."""
        # Only the rows of the data set's tokens: with GPT-2's vocabulary that is 1 in 1000.
        return self._body.ln_f(state) @ self.loaded.model.lm_head.weight[self.loaded.token_ids].T

    def log_normaliser(self, state: Tensor) -> Tensor:
        """log of the softmax's denominator over ALL outputs, (rows,), for (rows, width)."""
        head = self.loaded.model.lm_head
        step = max(1, (1 << 25) // head.weight.shape[0])
        return torch.cat(
            [head(self._body.ln_f(part)).logsumexp(dim=-1) for part in state.split(step)]
        )

    def _project(
        self, index: int, state: Tensor, *, last_only: bool = False
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (of the last position only, if asked), keys and values, each by head."""
        block = self._body.h[index]
        if last_only and state.shape[1] > 1:
            normed, linear, width = block.ln_1(state), block.attn.c_attn, state.shape[-1]
            weight, bias = linear.weight, linear.bias
            query = normed[:, -1:] @ weight[:, :width] + bias[:width]
            pair = normed @ weight[:, width:] + bias[width:]
            parts = (query, *pair.split(width, dim=-1))
            heads = [part.unflatten(-1, (self._heads, -1)).transpose(1, 2) for part in parts]
            return heads[0], heads[1], heads[2]
        rows, tokens, width = state.shape
        mixed = block.attn.c_attn(block.ln_1(state))
        mixed = mixed.view(rows, tokens, 3, self._heads, width // self._heads)
        query, key, value = mixed.permute(2, 0, 3, 1, 4)
        return query, key, value

    def _attend(self, index: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """What attention adds; the queries are those of the last positions of the keys."""
        asked, there = query.shape[2], key.shape[2]
        mask = None
        if asked > 1:
            mask = torch.ones(asked, there, dtype=torch.bool, device=query.device)
            mask = mask.tril(there - asked)
        mixed = functional.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, scale=self._scales[index]
        )
        return self._body.h[index].attn.c_proj(mixed.transpose(1, 2).flatten(2))

    def _mlp(self, index: int, middle: Tensor) -> Tensor:
        block = self._body.h[index]
        if not self._fused:
            return middle + block.mlp(block.ln_2(middle))
        hidden = block.mlp.c_fc(block.ln_2(middle))
        return middle + block.mlp.c_proj(functional.gelu(hidden, approximate="tanh"))
