"""Activation patching: run an input with one state replaced by that of another input.

The *original* run is patched at (layer l, position p) with the *source* run's residual state, and
only the blocks above l are run again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from coverage_principle.circuits.checkpoints import LoadedModel
from coverage_principle.circuits.states import STREAMS, capture

#: What is read off the answer's scores: its rank, or its probability.
READOUTS = ("rank", "prob")


class Patcher:
    """Runs of a model that start from given residual states instead of tokens."""

    def __init__(self, loaded: LoadedModel) -> None:
        self.loaded = loaded
        tap = STREAMS["residual"].tap
        self._taps = {layer: tap(loaded.model, layer) for layer in range(loaded.num_layers + 1)}
        self._masks: dict[int, Tensor] = {}
        self._check()

    @torch.no_grad()
    def states(self, rows: np.ndarray) -> list[Tensor]:
        """Residual states of inputs (n, tokens) of data-set ids: layer 0..L, (n, tokens, width).

        Layer L is the stream before the final layer norm.
        """
        with capture(self._taps) as found:
            self.loaded.model.transformer(self.loaded.encode(rows), use_cache=False)
        return [found[layer] for layer in self._taps]

    @torch.no_grad()
    def scores_from(self, state: Tensor, layer: int, readout: str = "rank") -> Tensor:
        """Scores of the data set's vocabulary at the last position: ``(n, vocabulary)``.

        ``state`` is the residual stream after block ``layer``; the blocks above it are run.
        ``readout`` ``rank`` gives logits, ``prob`` probabilities (softmax over all outputs).
        """
        body, head = self.loaded.model.transformer, self.loaded.model.lm_head
        for block in body.h[layer:]:
            out = block(state, attention_mask=self._mask(state.shape[1]))
            state = out if isinstance(out, Tensor) else out[0]
        last = body.ln_f(state[:, -1])
        ids = self.loaded.token_ids
        if readout == "prob":
            return head(last).softmax(dim=-1)[:, ids]
        # Only the rows of the data set's tokens: with GPT-2's vocabulary that is 1 in 1000.
        return last @ head.weight[ids].T

    def _mask(self, tokens: int) -> Tensor:
        """A causal mask to add to attention scores; blocks that are run by hand need their own.

        Without it eager attention of transformers 5 would look ahead.
        """
        if tokens not in self._masks:
            full = torch.full((tokens, tokens), torch.finfo(torch.float32).min)
            self._masks[tokens] = full.triu(1)[None, None].to(self.loaded.device)
        return self._masks[tokens]

    def _check(self) -> None:
        """Running the blocks by hand must give what the model gives, in this transformers too."""
        slots = min(4, self.loaded.model.config.n_positions)
        rows = np.arange(2 * slots).reshape(2, slots) % len(self.loaded.token_ids)
        with torch.no_grad():
            logits = self.loaded.model(self.loaded.encode(rows), use_cache=False).logits
        expected = logits[:, -1, self.loaded.token_ids]
        states = self.states(rows)
        for layer in range(self.loaded.num_layers + 1):
            if not torch.allclose(self.scores_from(states[layer], layer), expected, 1e-3, 1e-3):
                raise RuntimeError(
                    f"running the model from layer {layer} does not reproduce its output; "
                    "this version of transformers changed GPT-2's blocks"
                )


@dataclass(frozen=True)
class Trace:
    """What patching did to n originals, for one checkpoint.

    Each of ``before``, ``source`` (n, 2) and ``after`` (layers, positions, n, 2) holds the readout
    of the original's answer t in ``[..., 0]`` and of the counterfactual's t' in ``[..., 1]``: in
    the original run, the source run, and the original run patched at (layer, position). Ranks are
    int32, the number of data-set tokens with a strictly greater logit, so 0 is best; probabilities
    float32. ``answers_original``, ``answers_source`` (n,) bool: the run itself ranks its own answer
    first. ``layers`` and ``positions`` name the first two axes of ``after``.
    """

    readout: str
    layers: tuple[int, ...]
    positions: tuple[int, ...]
    before: np.ndarray
    source: np.ndarray
    after: np.ndarray
    answers_original: np.ndarray
    answers_source: np.ndarray


@torch.no_grad()
def trace(
    loaded: LoadedModel,
    originals: np.ndarray,
    sources: np.ndarray,
    answers: np.ndarray,
    *,
    readout: str = "rank",
    batch_size: int = 4096,
    progress: Callable[[int], object] = lambda _done: None,
) -> Trace:
    """Patch every layer 1..L and position of each original with its source's state.

    Layer L is trivial and there as a yardstick: at the last position it gives the source's own
    answer, elsewhere the original's.

    ``originals`` and ``sources`` are ``(n, tokens)``, ``answers`` is ``(n, 2)`` (t, t'), all
    data-set ids. ``progress`` is told of each finished batch how many items it held.
    """
    patcher = Patcher(loaded)
    count, tokens = originals.shape
    layers = tuple(range(1, loaded.num_layers + 1))
    kind = np.int32 if readout == "rank" else np.float32
    before, source = (np.zeros((count, 2), dtype=kind) for _ in range(2))
    after = np.zeros((len(layers), tokens, count, 2), dtype=kind)
    correct = np.zeros((2, count), dtype=bool)
    for begin in range(0, count, batch_size):
        rows = slice(begin, begin + batch_size)
        wanted = torch.as_tensor(answers[rows], dtype=torch.int64, device=loaded.device)
        original_states = patcher.states(originals[rows])
        source_states = patcher.states(sources[rows])
        top = loaded.num_layers
        for side, (states, out) in enumerate(((original_states, before), (source_states, source))):
            scores = patcher.scores_from(states[top], top, readout)
            out[rows] = _read(scores, wanted, readout)
            correct[side, rows] = _read(scores, wanted, "rank")[:, side] == 0
        for i, layer in enumerate(layers):
            for position in range(tokens):
                patched = original_states[layer].clone()
                patched[:, position] = source_states[layer][:, position]
                scores = patcher.scores_from(patched, layer, readout)
                after[i, position, rows] = _read(scores, wanted, readout)
        progress(len(wanted))
    return Trace(
        readout, layers, tuple(range(tokens)), before, source, after, correct[0], correct[1]
    )


def _read(scores: Tensor, wanted: Tensor, readout: str) -> np.ndarray:
    """Ranks or values of two tokens of each row: scores (n, vocabulary), wanted (n, 2)."""
    own = scores.gather(1, wanted)
    if readout == "prob":
        return own.cpu().numpy()
    # Counting is enough; no sort is needed.
    return (scores[:, None, :] > own[:, :, None]).sum(dim=-1).cpu().numpy()
