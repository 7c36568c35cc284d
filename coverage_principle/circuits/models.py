"""The model that is analysed: a checkpoint, and the data set's tokens in its own ids."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from coverage_principle.circuits.token_map import TokenMap
from coverage_principle.data import Codec, read_json
from coverage_principle.errors import InputError
from simpletransformers import memory
from simpletransformers.seq2seq import architectures
from simpletransformers.seq2seq.architecture import architecture_of, fresh_model, load_model
from simpletransformers.seq2seq.distributed import choose_device
from simpletransformers.seq2seq.layered import Layered
from simpletransformers.seq2seq.tokenizer import load_tokenizer
from simpletransformers.words import counted, listed

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

    from simpletransformers.seq2seq.light import LightGPT2

Place = tuple[str, int]  # a stream and a layer


@dataclass(frozen=True)
class Readout:
    """A number that is read off the scores of a token.

    ``of(logits, own, log_normaliser)`` gives it for m tokens of n states, (n, m): ``logits`` are
    the data set's (n, vocabulary), ``own`` those of the tokens (n, m), and ``log_normaliser()`` is
    (n, 1), the log of the sum of exp(logit) over ALL outputs of the model.
    """

    dtype: type[np.generic]
    of: Callable[[Tensor, Tensor, Callable[[], Tensor]], Tensor]


#: ``rank``: the number of data-set tokens with a strictly greater logit, so 0 is best (counting is
#: enough, no sort is needed); ``logit``; ``prob``: a softmax over all outputs.
READOUTS: dict[str, Readout] = {
    "rank": Readout(
        np.int32, lambda logits, own, _: (logits[:, None, :] > own[:, :, None]).sum(dim=-1)
    ),
    "logit": Readout(np.float32, lambda _logits, own, _: own),
    "prob": Readout(np.float32, lambda _, own, log_normaliser: (own - log_normaliser()).exp()),
}


@dataclass(frozen=True)
class LoadedModel:
    """A model in evaluation mode, without gradients, that reads the data set's own ids.

    ``token_ids`` is ``(vocabulary,)`` int64 on the model's device: the checkpoint's id of each
    token of the data set's vocabulary, which need not be the data set's own id. ``unmapped`` are
    the places in it of tokens that stand in no item and that the checkpoint has none for: they have
    the id of another one, and are never the answer.
    """

    model: PreTrainedModel | LightGPT2
    token_ids: Tensor
    unmapped: tuple[int, ...] = ()

    def __repr__(self) -> str:
        config = self.model.config
        size = f"{config.model_type} of {self.num_layers} layers, width {config.hidden_size}"
        return f"<LoadedModel {size}, for {len(self.token_ids):,} tokens, on {self.device}>"

    @property
    def device(self) -> torch.device:
        return self.token_ids.device

    @property
    def num_layers(self) -> int:
        return self.model.config.num_hidden_layers

    @property
    def depth(self) -> dict[str, int]:
        """What result files say of the layers: ``num_layers``, and ``loops`` of a looped model."""
        loops = {"loops": self.network.loops} if self.network.loops > 1 else {}
        return {"num_layers": self.num_layers, **loops}

    @cached_property
    def network(self) -> Layered:
        """The model run part by part; ``RuntimeError`` if that does not give its own output."""
        network = architecture_of(self.model)
        slots = min(4, getattr(self.model.config, "max_position_embeddings", 4))
        network.check(self.encode(np.arange(2 * slots).reshape(2, slots) % len(self.token_ids)))
        return network

    def encode(self, rows) -> Tensor:
        """Data-set ids (integer array of any shape) as the checkpoint's ids, on its device."""
        return self.token_ids[torch.as_tensor(rows, dtype=torch.int64, device=self.device)]

    @torch.no_grad()
    def run(self, rows: np.ndarray, keep: Collection[Place]) -> dict[Place, Tensor]:
        """States of inputs (n, tokens) by (stream, layer), as ``Layered.run`` names them."""
        return self.network.run(self.encode(rows), keep)

    def logits(self, state: Tensor) -> Tensor:
        """Logits of the data set's tokens (..., vocabulary) from final residual states."""
        # Only the rows of the data set's tokens: with GPT-2's vocabulary that is 1 in 1000.
        return self._masked(self.network.logits(state, self.token_ids))

    def _masked(self, logits: Tensor) -> Tensor:
        """Logits of the data set's tokens (..., vocabulary), lowest where there is no token."""
        if not self.unmapped:
            return logits
        places = torch.tensor(self.unmapped, device=logits.device)
        return logits.index_fill(-1, places, torch.finfo(logits.dtype).min)

    @cached_property
    def mapped(self) -> Tensor:
        """``token_ids`` without those of ``unmapped`` tokens."""
        kept = torch.ones(len(self.token_ids), dtype=torch.bool)
        kept[list(self.unmapped)] = False
        return self.token_ids[kept.to(self.device)]

    @torch.no_grad()
    def read(
        self, state: Tensor, tokens: Tensor, names: Sequence[str], *, among: bool = False
    ) -> dict[str, np.ndarray]:
        """The named ``READOUTS`` of data-set ``tokens`` (n, m) off final states: each (n, m).

        With ``among`` probabilities are among the data set's tokens, and not all outputs.
        """
        logits = self.logits(state)

        def normaliser() -> Tensor:
            sums = logits.logsumexp(-1) if among else self.network.log_normaliser(state)
            return sums[:, None]

        scores = logits, logits.gather(1, tokens), normaliser
        return {name: READOUTS[name].of(*scores).cpu().numpy() for name in names}

    @torch.no_grad()
    def emit(
        self, rows: np.ndarray, count: int, *, batch_size: int = 4096
    ) -> tuple[np.ndarray, np.ndarray]:
        """The ``count`` tokens that the model emits after prompts (n, tokens), and how likely.

        Each is the most probable of the data set's tokens, and is read back before the next.
        Returns their data-set ids (n, count) int64 and probabilities (n, count) float32, a softmax
        over all outputs.
        """
        tokens = np.empty((len(rows), count), np.int64)
        chances = np.empty((len(rows), count), np.float32)
        for begin in range(0, len(rows), batch_size):
            batch = slice(begin, begin + batch_size)
            ids = self.encode(rows[batch])
            for place in range(count):
                if getattr(self.model, "missing", ()):  # a model file that has no parts
                    scores = architecture_of(self.model).logits_at(ids, [ids.shape[1] - 1])[:, 0]
                    best = self._masked(scores[:, self.token_ids]).argmax(dim=-1, keepdim=True)
                    chance = scores.softmax(dim=-1).gather(1, self.token_ids[best])
                    chances[batch, place] = chance[:, 0].cpu().numpy()
                else:
                    state = self.network.finish(self.network.embed(ids), 0)
                    best = self.logits(state).argmax(dim=-1, keepdim=True)
                    chances[batch, place] = self.read(state, best, ["prob"])["prob"][:, 0]
                tokens[batch, place] = best[:, 0].cpu()
                ids = torch.cat([ids, self.token_ids[best]], dim=1)
        return tokens, chances


def open_checkpoint(
    checkpoint: Path,
    codec: Codec,
    device: torch.device | str = "cpu",
    *,
    eval_loops: int | None = None,
    trust_code: bool = False,
    token_map: TokenMap | None = None,
) -> LoadedModel:
    """Load a checkpoint in float32 and translate the data set's vocabulary into its ids.

    With ``eval_loops`` its stack of blocks is run so often. ``device`` is auto, cpu, cuda, cuda:N
    or mps. ``trust_code`` lets a model file that the checkpoint holds be run. Without a
    ``token_map`` the checkpoint's tokenizer must have the data set's own tokens. ``InputError`` if
    the folder has no model in safetensors of a type that can be analysed (and looped, if asked
    for), or not the tokens.
    """
    memory.keep_freed()  # batch after batch needs blocks of the same sizes
    config, device = read_json(checkpoint / "config.json", dict), choose_device(str(device))
    types = architectures.names()
    analysed = [name for name in types if issubclass(architectures.find(name), Layered)]
    if (given := config.get("model_type")) not in (architectures.OF_FILE, *analysed):
        raise InputError(f"{checkpoint} holds a {given} model; analysed are {listed(analysed)}")
    options = {"eval_loops": eval_loops, "trust_code": trust_code}
    model = load_model(checkpoint, device, to_run=True, **options)
    model = model.eval().requires_grad_(False)
    if token_map is None:
        tokens = _token_ids(checkpoint, codec, model.config)
    else:
        tokens = token_map.ids(checkpoint, model.config.vocab_size)
    unmapped = tuple(place for place, own in enumerate(tokens) if own is None)
    other = next(own for own in tokens if own is not None)
    ids = torch.tensor([other if own is None else own for own in tokens], dtype=torch.int64)
    return LoadedModel(model, ids.to(device), unmapped)


def with_fresh_weights(loaded: LoadedModel, seed: int) -> LoadedModel:
    """A new model of the same configuration, its weights drawn by ``seed``."""
    model = fresh_model(loaded.model, seed).eval().requires_grad_(False)
    return LoadedModel(model, loaded.token_ids, loaded.unmapped)


def _token_ids(checkpoint: Path, codec: Codec, config: PretrainedConfig) -> list[int]:
    known, size = load_tokenizer(checkpoint, config, to_run=True).get_vocab(), config.vocab_size
    missing = [token for token in codec.vocabulary if known.get(token, size) >= size]
    if missing:
        lack = f"{len(missing)} of the data set's {counted(len(codec.vocabulary), 'token')}"
        raise InputError(
            f"the tokenizer of {checkpoint} lacks {lack} (such as {missing[0]}): it belongs to "
            "another data set, or its files are incomplete"
        )
    return [known[token] for token in codec.vocabulary]
