"""Activation patching: run an input with one state replaced by that of another input.

*The idea.* Two inputs differ in one respect: the *original* gives the answer t, the *source* t'.
Run the original, replace its state at one (layer, position) by the source's, and let the rest of
the network go on from there. If the answer moves from t to t', that state carries the difference
between the two inputs in a form that later blocks read. If nothing moves, it does not carry it, or
nobody reads it there. The map over layers and positions shows where a value is held and how it
travels.

*What has to be kept in mind.*

- Patching a good run's state into a disturbed run (denoising) asks whether the state is enough to
  bring the answer back; the other way round (noising), whether the answer needs it. Here both runs
  are ordinary inputs, so a cell is read both ways: what happens to t' (``[..., 1]`` of a ``Trace``)
  is denoising, what happens to t (``[..., 0]``) is noising. A value that two states hold survives
  the noising of each.
- A source that differs in more than the value of interest moves the answer for other reasons too.
  What it shares with its original is what its family of ``counterfactuals`` says, and a result
  holds for that family. One source is drawn for an item, so a cell has the noise of that draw.
- Attention is causal. A patch at position p changes nothing before p, so only positions from p on
  are run again, and they read what the unpatched run left at the earlier ones. Up to the first
  token that differs both runs hold the same states: no effect there is no finding.
- Layer L is trivial. Nothing reads its states but the output at the last position, where patching
  gives the source's own output. It is there as a yardstick: how often the source is answered by t'.
- Blocks norm what they read, not the stream itself. States are those of the stream, before any
  norm, and a patched state is normed by its own statistics.
- Streams differ in what they replace: ``residual`` all that was written at a position so far, which
  finds where a value is held; ``post_mlp`` what one MLP adds, which finds where it is computed;
  ``embedding`` the token alone. ``post_attention`` replaces the stream between attention and MLP.
  As the MLP looks at one position at a time, it then makes of it the source's own state after the
  block: the numbers are those of ``residual``.
- In a looped model with ``inject_input`` the token comes in again before every loop. ``embedding``
  is the source's token in all of them, ``residual`` at layer 0 (only through ``patch_runs``) in the
  first alone.
- A patched run is a mixture that training never showed. A state that is merely unusual can destroy
  t as well; that the answer becomes t', and not just anything else, is the evidence.
- Ranks and probabilities tell different stories. A rank changes where a logit crosses others: it
  shows decisions and hides partial effects. A probability saturates near 0 and 1 and depends on
  every other output. Items that the model gets wrong unpatched blur both.
- Where several tokens are emitted (chain of thought), a patched run goes on with its own: a later
  effect may come through a written token instead of the state.

*How it is run.* All layers of a position travel up the blocks together: block l + 1 is run once, on
the states patched at layer 0..l stacked in the batch, and only on the positions from p on. So do
several patches of one layer (``Patch.copies``): the outputs of its heads, one at a time. Where a
type cannot be run from a position on (Mamba), whole sequences are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from coverage_principle.circuits.models import READOUTS, LoadedModel
from coverage_principle.errors import InputError

#: The streams that can be patched.
PATCHED = ("residual", "post_attention", "post_mlp", "embedding")
#: Numbers held for one state of all stacked rows; bounds memory whatever the batch size.
_ROOM = 1 << 24

#: States of some inputs by (stream, layer).
Run = Mapping[tuple[str, int], Tensor]


@dataclass(frozen=True)
class Patch:
    """What patched runs are given in the place of one of their own states.

    ``states(original, source, layer, position)`` is what the residual stream then holds there,
    (copies * n, width): the first of ``copies`` patches of each of the n items, then the second of
    each, and so on; None where no patch changes anything. ``original`` and ``source`` name the
    streams that it reads of both runs, at that layer. ``heads``: the copies are a layer's heads.
    ``is_input``: at layer 0, it is also what later loops are given again (``Layered.enter``).
    """

    states: Callable[[Run, Run, int, int], Tensor | None]
    original: tuple[str, ...] = ()
    source: tuple[str, ...] = ("residual",)
    copies: int = 1
    heads: bool = False
    is_input: bool = False


def _of_source(_original: Run, source: Run, layer: int, position: int) -> Tensor:
    return source["residual", layer][:, position]


def _of_mlp(original: Run, source: Run, layer: int, position: int) -> Tensor:
    middle = original["post_attention", layer][:, position]
    return middle + source["post_mlp", layer][:, position]


#: After attention, at the patched position, the rest of the block makes of the source's stream the
#: source's own residual state: that is patched in its place.
_STREAMS = dict.fromkeys(PATCHED, Patch(_of_source))
_STREAMS["embedding"] = Patch(_of_source, is_input=True)
_STREAMS["post_mlp"] = Patch(_of_mlp, ("post_attention",), ("post_mlp",))


@dataclass(frozen=True)
class Trace:
    """What patching did to n originals, for one checkpoint and one emitted value.

    ``before``, ``source`` and ``after`` map each readout to an array, (n, 2) for the first two and
    (layers, positions, n, 2) for ``after``. ``[..., 0]`` is about the original's value w (of the
    answer: t), ``[..., 1]`` about the counterfactual's w', in the original run, the source run, and
    the original run patched at (layer, position). ``READOUTS`` says what the readouts are and their
    types; probabilities are there if asked for. ``layers`` and ``positions`` name the first axes of
    ``after``; where heads were patched, its first axis are layers and ``heads``, pair by pair.
    It is empty where nothing was patched.
    """

    layers: tuple[int, ...]
    positions: tuple[int, ...]
    before: dict[str, np.ndarray]
    source: dict[str, np.ndarray]
    after: dict[str, np.ndarray]
    heads: tuple[int, ...] | None = None

    def __repr__(self) -> str:
        samples, rows = len(self.before["rank"]), f"{len(self.layers)} "
        rows += "layers" if self.heads is None else "heads"
        return f"<Trace of {samples:,} samples at {rows} and {len(self.positions)} positions>"

    @property
    def rows(self) -> list[dict[str, int]]:
        """What the rows of ``after`` are: ``{"layer": 2}``, or ``{"layer": 2, "head": 0}``."""
        if self.heads is None:
            return [{"layer": layer} for layer in self.layers]
        pairs = zip(self.layers, self.heads, strict=True)
        return [{"layer": layer, "head": head} for layer, head in pairs]

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
    stream: str | Patch = "residual",
    layers: Sequence[int] | None = None,
    positions: Sequence[int] | None = None,
    probabilities: bool = False,
    batch_size: int = 4096,
    progress: Callable[[int], object] = lambda _done: None,
) -> list[Trace]:
    """Patch layers and positions (all by default) of each original with its source's state.

    ``stream`` is the one whose state is replaced, or a ``Patch`` that says what is put there.

    ``originals`` and ``sources`` are ``(n, tokens)``; ``wanted`` is ``(n, values, 2)``: the values
    (w, w') that the model emits one after the other from the last position on, the answer last; all
    data-set ids. Returns a ``Trace`` for each value. Every run continues with what it emitted
    itself (its most probable data-set token). Positions up to which both inputs are the same hold
    the same states, so their result is the original's and no run is made for it. ``progress`` is
    called with the number of items of each finished batch. ``InputError`` for a stream that cannot
    be patched.
    """
    if isinstance(stream, Patch):
        patch = stream
    else:
        streams = [name for name in PATCHED if name in loaded.network.streams]
        if stream not in streams:
            raise InputError(f"`stream` {stream} cannot be patched; give {', '.join(streams)}")
        patch = _STREAMS[stream]
    count, tokens = originals.shape
    there = (0,) if stream == "embedding" else tuple(range(1, loaded.num_layers + 1))
    layers = there if layers is None else tuple(layers)
    rows = tuple(np.repeat(layers, patch.copies).tolist())
    heads = tuple(np.tile(range(patch.copies), len(layers)).tolist()) if patch.heads else None
    positions = tuple(range(tokens)) if positions is None else tuple(positions)
    names = [name for name in READOUTS if probabilities or name != "prob"]

    def room(*shape: int) -> dict[str, np.ndarray]:
        return {name: np.zeros((*shape, count, 2), READOUTS[name].dtype) for name in names}

    traces = [
        Trace(rows, positions, room(), room(), room(len(rows), len(positions)), heads)
        for _ in range(wanted.shape[1])
    ]
    longest = tokens + wanted.shape[1]
    step = max(1, min(batch_size, _ROOM // (loaded.network.width * longest * len(rows))))
    for begin in range(0, count, step):
        items = slice(begin, begin + step)
        batch = _Batch(loaded, originals[items], sources[items], patch, layers, positions)
        for number, trace in enumerate(traces):
            if number:
                batch.emit()
            values = torch.as_tensor(wanted[items, number], dtype=torch.int64, device=loaded.device)
            read = {run: loaded.read(state, values, names) for run, state in batch.final.items()}
            for name in names:
                trace.before[name][items] = read["original"][name]
                trace.source[name][items] = read["source"][name]
                for cell in np.ndindex(len(rows), len(positions)):
                    trace.after[name][(*cell, items)] = read.get(cell, read["original"])[name]
        progress(len(originals[items]))
    return traces


class _Batch:
    """The runs of some items: ``original``, ``source``, and one for each patched cell.

    ``final`` maps a run to its residual state (n, width) at the position that is read. A cell is
    (i, j), the i-th row of a ``Trace`` and j-th position of those asked for; it has no run of its
    own where the original's is the same. ``emit`` goes on to the next token.
    """

    def __init__(self, loaded, originals, sources, patch: Patch, layers, positions) -> None:
        self._loaded, self._network, self._is_input = loaded, loaded.network, patch.is_input
        top = loaded.num_layers
        every = range(top + 1)
        keep = [("residual", layer) for layer in every]
        if self._network.stepwise:
            keep += [("memory", layer) for layer in every[1:]]
        keep += [(stream, layer) for stream in patch.original for layer in layers]
        original = loaded.run(originals, keep)
        taken = {(stream, layer) for stream in patch.source for layer in layers}
        source = loaded.run(sources, taken | {("residual", top)})
        runs = {"original": original, "source": source}
        self.final = {run: states["residual", top][:, -1] for run, states in runs.items()}
        self._ids = {"original": loaded.encode(originals), "source": loaded.encode(sources)}
        #: Of each cell the layer and position, and the state (n, width) that is put there.
        self._patches: dict[tuple[int, int], tuple[int, int, Tensor]] = {}
        for j, position in enumerate(positions):
            if (originals[:, : position + 1] == sources[:, : position + 1]).all():
                continue
            found = {layer: patch.states(original, source, layer, position) for layer in layers}
            donors = {layer: states for layer, states in found.items() if states is not None}
            done = self._patched(original, donors, position) if donors else {}
            for i, layer in enumerate(layers):
                if layer not in donors:
                    continue
                parts = (states.chunk(patch.copies) for states in (donors[layer], done[layer]))
                for copy, (donor, final) in enumerate(zip(*parts, strict=True)):
                    cell = i * patch.copies + copy, j
                    self._patches[cell] = layer, position, donor
                    self._ids[cell], self.final[cell] = self._ids["original"], final

    def _patched(self, original, donors: dict[int, Tensor], position: int) -> dict[int, Tensor]:
        """The final states of the last position (copies * n, width), for each layer of ``donors``.

        ``donors[l]`` (copies * n, width), each in turn, takes the place of the residual state at
        (l, ``position``).
        """
        network, top, layers = self._network, self._network.layers, sorted(donors)
        first = position if network.stepwise else 0  # of the positions that are run again
        start, stack = original["residual", 0][:, first:], None
        for index in range(layers[0], top):
            if index in donors:
                mine = original["residual", index][:, first:]
                mine = mine.repeat(len(donors[index]) // len(mine), 1, 1)
                mine[:, position - first] = donors[index]
                stack = mine if stack is None else torch.cat([stack, mine])
                start = mine if self._is_input else start
            earlier = None
            if network.stepwise:
                earlier = network.before(original["memory", index + 1], position)
            last_only = [stack.shape[1] - 1] if index == top - 1 else None
            entered = network.enter(index, stack, start)
            stack = network.block(index, entered, earlier, last_only)["residual"]
        below = [layer for layer in layers if layer < top]
        done = {}
        if below:
            done = dict(zip(below, stack[:, -1].chunk(len(below)), strict=True))
        if top in donors:  # nothing comes after it: only the last position counts
            at_last = position == original["residual", top].shape[1] - 1
            unchanged = self.final["original"]
            copies = len(donors[top]) // len(unchanged)
            done[top] = donors[top] if at_last else unchanged.repeat(copies, 1)
        return done

    def emit(self) -> None:
        """Append to every run the token that it emits, and run it on."""
        for run, ids in self._ids.items():
            best = self._loaded.logits(self.final[run]).argmax(dim=-1)
            ids = self._ids[run] = torch.cat([ids, self._loaded.token_ids[best][:, None]], dim=1)
            if run not in self._patches:
                self.final[run] = self._network.finish(self._network.embed(ids), 0)
                continue
            layer, position, donor = self._patches[run]
            states = self._network.run(ids, [("residual", 0), ("residual", layer)])
            state = states["residual", layer].clone()
            state[:, position] = donor
            start = state if self._is_input else states["residual", 0]
            self.final[run] = self._network.finish(state, layer, start)
