"""Models of a user's own file (``own_model``): run by their forward, analysed by their parts."""

from __future__ import annotations

import torch

from simpletransformers.errors import InputError
from simpletransformers.seq2seq.architecture import Blueprint, pick
from simpletransformers.seq2seq.layered import Layered
from simpletransformers.seq2seq.own_model import CONTRACT, same


class ModelFile(Layered):
    """The residual stream is what ``embed`` gives and each of ``blocks`` makes of it."""

    has_attention = False

    @classmethod
    def config(cls, _plan: Blueprint):
        raise TypeError("a model file makes its model itself, see own_model.build")

    def logits_at(self, ids, columns):
        return pick(self.model.own(ids[:, : max(columns) + 1]), list(columns))

    def embedding(self, ids):
        return self.model.own.embed(ids)

    def through(self, index, state, wanted=None):
        state = self.model.own.blocks[index](state)
        return state if wanted is None else pick(state, wanted)

    def norm(self, state):
        return self.model.own.norm(state)

    def logits(self, state, tokens=None):
        logits = self.model.own.readout(self.norm(state))
        return logits if tokens is None else logits[..., tokens]

    @torch.no_grad()
    def check(self, ids):
        """``InputError`` if a part is missing, if they are not the model, or if they look ahead."""
        name, needed = self.model.source.name, ", ".join(CONTRACT)
        if missing := ", ".join(self.model.missing):
            raise InputError(
                f"the model of {name} has no {missing}; analyses need {needed} (docs/extending.md)"
            )
        keep = [("residual", layer) for layer in range(self.layers + 1)]
        with self.model.source.saying(f"{needed} cannot be run"):
            states = self.run(ids, keep)
            self.logits(states["residual", self.layers])
        for (_, layer), state in states.items():
            if state.shape != (*ids.shape, self.width):
                raise InputError(
                    f"{name}: states of layer {layer} are {tuple(state.shape)} of ids "
                    f"{tuple(ids.shape)}, those of embed {(*ids.shape, self.width)}"
                )
        try:
            super().check(ids)
        except RuntimeError as error:
            raise InputError(
                f"{name}: {needed}, run one by one, do not give the logits that the model gives"
            ) from error
        changed = ids.clone()
        changed[:, -1] = (ids[:, -1] + 1) % self.model.config.vocab_size
        for (_, layer), state in self.run(changed, keep).items():
            if not same(state[:, :-1], states["residual", layer][:, :-1]):
                raise InputError(
                    f"{name}: states of layer {layer} depend on later tokens; analyses need blocks "
                    "that look back only"
                )


ARCHITECTURE = ModelFile
