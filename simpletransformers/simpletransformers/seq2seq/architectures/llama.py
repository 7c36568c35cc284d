"""Llama: its sizes, and its blocks run by hand.

The hand-written blocks compute what ``LlamaForCausalLM`` computes, from the same parameters, on any
part of a sequence. Its norms, its MLPs and the angles of its positions are asked of its own
modules; neither masks nor caches of transformers are used.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from simpletransformers.errors import InputError
from simpletransformers.seq2seq.architecture import Architecture, Blueprint, pick
from simpletransformers.seq2seq.layered import Attending, remembered, seen, softmax_attention

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PretrainedConfig

#: Ways of scaling in which a position's angles are the same in sequences of every length.
_FIXED_ANGLES = ("default", "linear", "llama3", "yarn")
#: So many positions have their tables made at once; longer sequences have them made anew.
_POSITIONS = 1024


class Llama(Attending):
    """Has no dropout but on attention. Several heads may share their keys and values."""

    def __init__(self, model: LlamaForCausalLM) -> None:
        super().__init__(model)
        self._body = model.model
        self._rope: str = self._body.rotary_emb.rope_type
        self._tables: tuple[Tensor, ...] | None = None
        if self._rope in _FIXED_ANGLES:
            self._tables = self._made(min(_POSITIONS, model.config.max_position_embeddings))

    @classmethod
    def config(cls, plan: Blueprint) -> PretrainedConfig:
        per_head = plan.n_embd // plan.n_head
        if per_head % 2:
            raise InputError(
                f"`n_embd` {plan.n_embd} over `n_head` {plan.n_head} makes heads of {per_head} "
                "dimensions; llama needs an even number, as it rotates them in pairs"
            )
        from transformers import AutoConfig

        return AutoConfig.for_model(
            "llama",
            num_hidden_layers=plan.n_layer,
            num_attention_heads=plan.n_head,
            hidden_size=plan.n_embd,
            intermediate_size=plan.n_inner or 4 * plan.n_embd,
            attention_dropout=plan.dropout,
            max_position_embeddings=1024,
            tie_word_embeddings=True,
            **plan.tokens,
        )

    def logits_at(self, ids: Tensor, columns: Sequence[int]) -> Tensor:
        """By transformers' own forward where the blocks cannot be run by hand."""
        kind = Architecture if self._tables is None else Attending
        return kind.logits_at(self, ids, columns)

    def embedding(self, ids: Tensor) -> Tensor:
        return functional.embedding(ids, self._body.embed_tokens.weight)

    def attend(self, index, state, earlier=None, wanted=None):
        own = self._body.layers[index].self_attn
        first = 0 if earlier is None else earlier[0].shape[2]
        query, *memory = self._parts(index, state, first, wanted)
        memory = remembered(earlier, tuple(memory))
        mask = seen(self._upto(0)[-1], first, memory[0].shape[2], wanted)
        rate = own.attention_dropout if self.model.training else 0.0
        mixed = softmax_attention(query, *map(self._shared, memory), mask, own.scaling, rate)
        return mixed.transpose(1, 2), memory

    def project(self, index: int, gathered: Tensor) -> Tensor:
        return self._body.layers[index].self_attn.o_proj(gathered.flatten(2))

    def pattern(self, index: int, state: Tensor) -> Tensor:
        query, key, _ = self._parts(index, state, 0, None)
        scores = query @ self._shared(key).transpose(-1, -2)
        later = ~self._upto(0)[-1][: state.shape[1], : state.shape[1]]
        scores *= self._body.layers[index].self_attn.scaling
        return scores.masked_fill(later, float("-inf")).softmax(-1)

    def mlp(self, index: int, middle: Tensor) -> Tensor:
        block = self._body.layers[index]
        return block.mlp(block.post_attention_layernorm(middle))

    def norm(self, state: Tensor) -> Tensor:
        return self._body.norm(state)

    def _parts(
        self, index: int, state: Tensor, first: int, wanted: list[int] | None
    ) -> list[Tensor]:
        """Queries, keys and values, (rows, heads, positions, size), the first two rotated.

        ``state`` begins at position ``first``; queries are those at ``wanted`` places of it.
        """
        block, last = self._body.layers[index], first + state.shape[1]
        own, normed = block.self_attn, block.input_layernorm(state)
        angles = asking = [table[first:last] for table in self._upto(last)[:2]]
        given = normed
        if wanted is not None:
            given, asking = pick(normed, wanted), [pick(table, wanted, dim=0) for table in angles]
        query, key, value = (
            layer(part).unflatten(-1, (-1, own.head_dim)).transpose(1, 2)
            for layer, part in ((own.q_proj, given), (own.k_proj, normed), (own.v_proj, normed))
        )
        return [_rotated(query, *asking), _rotated(key, *angles), value]

    def _shared(self, part: Tensor) -> Tensor:
        """Keys or values once for every head that reads them."""
        copies = self.heads // part.shape[1]
        return part if copies == 1 else part.repeat_interleave(copies, dim=1)

    def _upto(self, length: int) -> tuple[Tensor, ...]:
        """Cosines and sines (positions, size) and the mask (positions, positions)."""
        if self._tables is None:
            fixed = ", ".join(_FIXED_ANGLES)
            raise InputError(
                f"this llama has rope_type {self._rope}, whose angles depend on how long a "
                f"sequence is; one that is analysed has one of {fixed}"
            )
        if length > len(self._tables[0]):
            self._tables = self._made(2 * length)
        return self._tables

    def _made(self, length: int) -> tuple[Tensor, ...]:
        places = torch.arange(length, device=self.model.device)
        angles = self._body.rotary_emb(self._body.norm.weight, places[None])
        return *(table[0] for table in angles), places[:, None] >= places


def _rotated(part: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Dimensions i and i + size / 2 turned by their position's angle (Su et al., 2021)."""
    first, second = part.chunk(2, dim=-1)
    return part * cosines + torch.cat([-second, first], dim=-1) * sines


ARCHITECTURE = Llama
