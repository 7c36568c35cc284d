"""Mamba: its sizes, and its residual stream.

Blocks are transformers' own, each run on whole sequences: what a position reads of earlier ones is
a state that is made anew for every sequence, and not a part of what they hold.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor
from torch.nn import functional

from simpletransformers.errors import InputError
from simpletransformers.seq2seq.architecture import Blueprint, pick
from simpletransformers.seq2seq.layered import Layered

if TYPE_CHECKING:
    from transformers import MambaForCausalLM, PretrainedConfig


class Mamba(Layered):
    """Has neither heads nor dropout; its inner width is ``n_inner`` or twice ``n_embd``."""

    has_attention = False

    def __init__(self, model: MambaForCausalLM) -> None:
        super().__init__(model)
        self._body = model.backbone

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

    def embedding(self, ids: Tensor) -> Tensor:
        return functional.embedding(ids, self._body.embeddings.weight)

    def through(self, index, state, wanted=None):
        state = self._body.layers[index](state)
        return state if wanted is None else pick(state, wanted)

    def norm(self, state: Tensor) -> Tensor:
        """In the output's type: the stream may be in float32 where the weights are in 16 bits."""
        return self._body.norm_f(state).to(self.model.get_output_embeddings().weight.dtype)


ARCHITECTURE = Mamba
