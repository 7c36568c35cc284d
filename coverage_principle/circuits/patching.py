"""Activation patching: run an input with one state replaced by that of another input.

The *original* run is patched at (layer l, position p) with the *source* run's state. All layers of
a position travel up the blocks together: block l + 1 is run once, on the states patched at layer
1..l stacked in the batch, and only on the positions from p on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from coverage_principle.circuits.blocks import Blocks, Forward
from coverage_principle.circuits.checkpoints import LoadedModel
from coverage_principle.errors import InputError

#: What is read off the scores of a token: its rank, its logit, or its probability.
READOUTS = ("rank", "logit", "prob")
#: The streams that can be patched.
PATCHED = ("residual", "post_attention", "post_mlp", "embedding")
#: Numbers held for one state of all stacked rows; bounds memory whatever the batch size.
_ROOM = 1 << 24


class Patcher:
    """Runs of a model that start from given residual states instead of tokens.

    ``RuntimeError`` if running the blocks by hand does not reproduce the model's own output.
    """

    def __init__(self, loaded: LoadedModel) -> None:
        self.loaded = loaded
        self.blocks = Blocks(loaded)
        self._check()

    @torch.no_grad()
    def states(self, rows: np.ndarray) -> list[Tensor]:
        """Residual states of inputs (n, tokens) of data-set ids: layer 0..L, (n, tokens, width).

        Layer L is the stream before the final layer norm.
        """
        return self.blocks.forward(self.loaded.encode(rows)).residual

    @torch.no_grad()
    def scores_from(self, state: Tensor, layer: int) -> Tensor:
        """Logits of the data set's vocabulary at the last position: ``(n, vocabulary)``.

        ``state`` is the residual stream after block ``layer``; the blocks above it are run.
        """
        return self.blocks.logits(self.finish(state, layer))

    def finish(self, state: Tensor, layer: int) -> Tensor:
        """The last position's final residual state (n, width), from the states at ``layer``."""
        last = self.loaded.num_layers - 1
        for index in range(layer, last + 1):
            state = self.blocks.block(index, state, last_only=index == last)
        return state[:, -1]

    def patched(
        self, original: Forward, donors: dict[int, Tensor], position: int
    ) -> dict[int, Tensor]:
        """The last position's final states (n, width), for each layer of ``donors``.

        ``donors[l]`` (n, width) takes the place of the residual state at (l, ``position``).
        """
        top, count = self.loaded.num_layers, len(original.residual[0])
        stack: Tensor | None = None
        layers = sorted(donors)
        for index in range(layers[0], top):
            if index in donors:
                mine = original.residual[index][:, position:].clone()
                mine[:, 0] = donors[index]
                stack = mine if stack is None else torch.cat([stack, mine])
            earlier = None
            if position:
                earlier = (
                    original.keys[index][:, :, :position],
                    original.values[index][:, :, :position],
                )
            stack = self.blocks.block(index, stack, earlier, last_only=index == top - 1)
        below = [layer for layer in layers if layer < top]
        done = dict(zip(below, stack[:, -1].split(count), strict=True)) if below else {}
        if top in donors:  # nothing comes after it: only the last position counts
            at_last = position == original.residual[top].shape[1] - 1
            done[top] = donors[top] if at_last else original.residual[top][:, -1]
        return done

    @torch.no_grad()
    def _check(self) -> None:
        """Running the blocks by hand must give what the model gives, in this transformers too."""
        slots = min(4, self.loaded.model.config.n_positions)
        rows = np.arange(2 * slots).reshape(2, slots) % len(self.loaded.token_ids)
        logits = self.loaded.model(self.loaded.encode(rows), use_cache=False).logits
        expected = logits[:, -1, self.loaded.token_ids]
        run = self.blocks.forward(self.loaded.encode(rows))
        cut = (run.keys, run.values)
        for layer in range(self.loaded.num_layers + 1):
            whole = self.scores_from(run.residual[layer], layer)
            part = run.residual[layer][:, slots - 1 :]
            for index in range(layer, self.loaded.num_layers):
                earlier = tuple(side[index][:, :, : slots - 1] for side in cut)
                part = self.blocks.block(index, part, earlier)
            for found in (whole, self.blocks.logits(part[:, -1])):
                if not torch.allclose(found, expected, 1e-3, 1e-3):
                    raise RuntimeError(
                        f"running the model from layer {layer} does not reproduce its output; "
                        "this version of transformers changed GPT-2's blocks"
                    )


def donors_of(stream: str, original: Forward, source: Forward, position: int) -> dict[int, Tensor]:
    """What patching ``stream`` with the source's state makes of the residual, by layer.

    Replacing the residual stream between attention and MLP (``post_attention``) is replacing what
    the MLP then makes of it, at that position: the source's own residual state.
    """
    layers = range(1, len(original.residual))
    if stream == "embedding":
        return {0: source.residual[0][:, position]}
    if stream == "post_mlp":
        return {
            layer: original.middle[layer - 1][:, position]
            + (source.residual[layer] - source.middle[layer - 1])[:, position]
            for layer in layers
        }
    return {layer: source.residual[layer][:, position] for layer in layers}


@dataclass(frozen=True)
class Trace:
    """What patching did to n originals, for one checkpoint and one emitted value.

    ``before``, ``source`` and ``after`` map each readout to an array, (n, 2) for the first two and
    (layers, positions, n, 2) for ``after``. ``[..., 0]`` is about the original's value w (of the
    answer: t), ``[..., 1]`` about the counterfactual's w', in the original run, the source run, and
    the original run patched at (layer, position). Ranks are int32, the number of data-set tokens
    with a strictly greater logit, so 0 is best; logits and probabilities (softmax over all outputs;
    only if asked for) are float32. ``layers`` and ``positions`` name the first axes of ``after``.
    """

    layers: tuple[int, ...]
    positions: tuple[int, ...]
    before: dict[str, np.ndarray]
    source: dict[str, np.ndarray]
    after: dict[str, np.ndarray]

    @property
    def answers_original(self) -> np.ndarray:
        """(n,) bool: the original run ranks its own value first."""
        return self.before["rank"][:, 0] == 0

    @property
    def answers_source(self) -> np.ndarray:
        """(n,) bool: the source run ranks its own value first."""
        return self.source["rank"][:, 1] == 0


@torch.no_grad()
def patch_runs(
    loaded: LoadedModel,
    originals: np.ndarray,
    sources: np.ndarray,
    wanted: np.ndarray,
    *,
    stream: str = "residual",
    layers: Sequence[int] | None = None,
    positions: Sequence[int] | None = None,
    probabilities: bool = False,
    batch_size: int = 4096,
    progress: Callable[[int], object] = lambda _done: None,
) -> list[Trace]:
    """Patch layers and positions (all by default) of each original with its source's state.

    Layer L is trivial and there as a yardstick: at the last position it gives the source's own
    answer, elsewhere the original's. Positions up to which both inputs are the same token by token
    hold the same states, so their result is the original's and no run is made for it.

    ``originals`` and ``sources`` are ``(n, tokens)``; ``wanted`` is ``(n, values, 2)``: the values
    (w, w') that the model emits one after the other from the last position on, the answer last; all
    data-set ids. Returns a ``Trace`` for each value. Every run continues with what it emitted
    itself (its most probable data-set token). ``progress`` is told of each finished batch how many
    items it held. ``InputError`` for a stream that cannot be patched.
    """
    if stream not in PATCHED:
        raise InputError(f"--mode {stream} cannot be patched; give {', '.join(PATCHED)}")
    patcher = Patcher(loaded)
    count, tokens = originals.shape
    there = (0,) if stream == "embedding" else tuple(range(1, loaded.num_layers + 1))
    layers = there if layers is None else tuple(layers)
    positions = tuple(range(tokens)) if positions is None else tuple(positions)
    names = READOUTS if probabilities else READOUTS[:2]
    kinds = {"rank": np.int32, "logit": np.float32, "prob": np.float32}

    def room(*shape: int) -> dict[str, np.ndarray]:
        return {name: np.zeros((*shape, count, 2), dtype=kinds[name]) for name in names}

    traces = [
        Trace(layers, positions, room(), room(), room(len(layers), len(positions)))
        for _ in range(wanted.shape[1])
    ]
    width = loaded.model.config.hidden_size
    step = max(1, min(batch_size, _ROOM // (width * (tokens + wanted.shape[1]) * len(layers))))
    for begin in range(0, count, step):
        rows = slice(begin, begin + step)
        batch = _Batch(patcher, originals[rows], sources[rows], stream, layers, positions)
        for number, found in enumerate(traces):
            pairs = torch.as_tensor(wanted[rows, number], dtype=torch.int64, device=loaded.device)
            read = batch.reader(pairs, names)
            for out, state in ((found.before, batch.before), (found.source, batch.source)):
                for name, values in read(state).items():
                    out[name][rows] = values
            for (i, j), state in batch.after.items():
                for name, values in read(state).items():
                    found.after[name][i, j, rows] = values
            if number + 1 < len(traces):
                batch.emit()
        progress(len(originals[rows]))
    return traces


class _Batch:
    """The runs of some items: final states at the position that is read, all (n, width).

    ``before`` and ``source`` are the unpatched runs'; ``after[i, j]`` that of layer i and position
    j of those asked for. ``emit`` goes on to the next token.
    """

    def __init__(self, patcher, originals, sources, stream, layers, positions) -> None:
        self._patcher, self._blocks = patcher, patcher.blocks
        self._layers, self._positions = layers, positions
        self._ids = patcher.loaded.encode(originals)
        self._source_ids = patcher.loaded.encode(sources)
        original = self._blocks.forward(self._ids)
        source = self._blocks.forward(self._source_ids)
        self.before, self.source = original.residual[-1][:, -1], source.residual[-1][:, -1]
        self._donors: dict[tuple[int, int], Tensor] = {}
        self.after: dict[tuple[int, int], Tensor] = {}
        for j, position in enumerate(positions):
            if (originals[:, : position + 1] == sources[:, : position + 1]).all():
                self.after |= {(i, j): self.before for i in range(len(layers))}
                continue
            every = donors_of(stream, original, source, position)
            donors = {layer: every[layer] for layer in layers}
            done = patcher.patched(original, donors, position)
            for i, layer in enumerate(layers):
                self._donors[i, j], self.after[i, j] = donors[layer], done[layer]
        self._written = {key: self._ids[:, :0] for key in (None, "source", *self._donors)}

    def reader(self, pairs: Tensor, names: Sequence[str]) -> Callable[[Tensor], dict]:
        """A function that reads the two tokens ``pairs`` (n, 2) off final states."""

        def read(state: Tensor) -> dict[str, np.ndarray]:
            logits = self._blocks.logits(state)
            own = logits.gather(1, pairs)
            # Counting is enough; no sort is needed.
            found = {"rank": (logits[:, None, :] > own[:, :, None]).sum(dim=-1), "logit": own}
            if "prob" in names:
                found["prob"] = (own - self._blocks.log_normaliser(state)[:, None]).exp()
            return {name: values.cpu().numpy() for name, values in found.items()}

        return read

    def emit(self) -> None:
        """Append to every run the token that it emits, and run it on."""
        loaded = self._patcher.loaded

        def write(key, state: Tensor) -> Tensor:
            best = loaded.token_ids[self._blocks.logits(state).argmax(dim=-1)]
            self._written[key] = torch.cat([self._written[key], best[:, None]], dim=1)
            return self._written[key]

        def run(prompt: Tensor, written: Tensor) -> Tensor:
            ids = torch.cat([prompt, written], dim=1)
            return self._patcher.finish(self._blocks.embed(ids), 0)

        before, source = self.before, self.source
        self.before = run(self._ids, write(None, before))
        self.source = run(self._source_ids, write("source", source))
        for key in self.after:
            if key not in self._donors:  # a position that holds the same states in both runs
                self.after[key] = self.before
                continue
            layer, position = self._layers[key[0]], self._positions[key[1]]
            ids = torch.cat([self._ids, write(key, self.after[key])], dim=1)
            state = self._blocks.embed(ids)
            for index in range(layer):
                state = self._blocks.block(index, state)
            state = state.clone()
            state[:, position] = self._donors[key]
            self.after[key] = self._patcher.finish(state, layer)
