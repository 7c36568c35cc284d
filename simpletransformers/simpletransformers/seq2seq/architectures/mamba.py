"""Mamba, by transformers' own forward."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simpletransformers.errors import InputError
from simpletransformers.seq2seq.architecture import Architecture, Blueprint

if TYPE_CHECKING:
    from transformers import PretrainedConfig


class Mamba(Architecture):
    """Has neither heads nor dropout; its inner width is ``n_inner`` or twice ``n_embd``."""

    has_attention = False

    @classmethod
    def config(cls, plan: Blueprint) -> PretrainedConfig:
        inner, width = plan.n_inner or 2 * plan.n_embd, plan.n_embd
        if inner % width:
            raise InputError(
                f"`n_inner` {inner} is not a multiple of `n_embd` {width}, as mamba needs it"
            )
        from transformers import AutoConfig

        return AutoConfig.for_model(
            "mamba",
            num_hidden_layers=plan.n_layer,
            hidden_size=width,
            expand=inner // width,
            tie_word_embeddings=True,
            **plan.tokens,
        )


ARCHITECTURE = Mamba
