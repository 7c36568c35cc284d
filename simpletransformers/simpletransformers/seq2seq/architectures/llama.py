"""Llama, by transformers' own forward."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simpletransformers.errors import InputError
from simpletransformers.seq2seq.architecture import Architecture, Blueprint

if TYPE_CHECKING:
    from transformers import PretrainedConfig


class Llama(Architecture):
    """Has no dropout but on attention."""

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


ARCHITECTURE = Llama
