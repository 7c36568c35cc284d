"""Models run part by part: what a type says of its inside, and what analyses make of it.

Three classes, each of which asks for more and gives more:

``Layered``     a stack of blocks over one residual stream: embedding, blocks, final norm, output.
                The stream can be read and edited between blocks.
``Blockwise``   a block is first what it takes from other positions (``mix``), then what it does
                position by position (``mlp``); what it takes is kept as a memory, so that the
                positions from any one on can be run alone. Streams inside a block can be read.
``Attending``   it takes it by attention heads, which can be read and edited one by one.

States are ``(rows, positions, width)`` in the model's own dtype. Blocks are counted from 0 and
layers from 0 (what the first block reads) to L (what comes out of the last). A stack that is run
several times over counts on: with n blocks, layer n + 1 is block 0 in the second loop. The streams:

``embedding``       the token embedding alone, layer 0
``residual``        what block l leaves behind, l = 1..L; layer 0 is the first block's input
``post_attention``  the residual stream of block l after attention, before the MLP
``post_mlp``        what block l's MLP adds to the residual stream
``memory``          what later positions read of earlier ones in block l (keys and values)
``heads``           (rows, positions, heads, size): what each head of block l has gathered, before
                    the output matrix makes of it what the block adds
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from simpletransformers.seq2seq.architecture import Architecture, pick
from simpletransformers.seq2seq.architectures import loops_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel

#: What the positions of a block keep for later ones to read.
Memory = tuple[Tensor, ...]


class Layered(Architecture):
    """A type whose residual stream can be read and edited: write the first three methods.

    ``loops`` says how often the stack of blocks is run; ``layers`` counts all of its runs.
    """

    #: The streams that its models have.
    streams: tuple[str, ...] = ("embedding", "residual")
    #: Whether the positions from any one on can be run alone, on the memory of those before.
    stepwise = False

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__(model)
        self.layers: int = model.config.num_hidden_layers
        self.width: int = model.config.hidden_size
        self.loops: int = loops_of(model.config)

    @abstractmethod
    def embedding(self, ids: Tensor) -> Tensor:
        """The token embedding of ids (n, T)."""

    @abstractmethod
    def through(self, index: int, state: Tensor, wanted: list[int] | None = None) -> Tensor:
        """The ``residual`` stream that block ``index`` makes of whole sequences, at ``wanted``."""

    @abstractmethod
    def norm(self, state: Tensor) -> Tensor:
        """The final norm."""

    def place_of(self, layer: int) -> dict[str, int]:
        """The ``loop`` and ``block`` of a layer, from 1 (both 0 of layer 0), for a result's cell.

        Nothing where the stack is run once.
        """
        loop, block = divmod(layer - 1, self.layers // self.loops)
        place = {"loop": loop + 1, "block": block + 1} if layer else {"loop": 0, "block": 0}
        return place if self.loops > 1 else {}

    def embed(self, ids: Tensor) -> Tensor:
        """Layer 0 of ids (n, T): by default the token embedding."""
        return self.embedding(ids)

    def enter(self, _index: int, state: Tensor, _start: Tensor | None) -> Tensor:
        """What block ``index`` reads where the stream is ``state``: by default just that.

        ``start`` is layer 0 at the same positions, which a type may bring in again; rows are a
        multiple of its rows, its first n belonging to the same sequences as the next n.
        """
        return state

    def logits(self, state: Tensor, tokens: Tensor | None = None) -> Tensor:
        """Logits of final residual states, of all outputs or of ``tokens`` (m,) only."""
        weight = self.model.get_output_embeddings().weight
        return functional.linear(self.norm(state), weight if tokens is None else weight[tokens])

    def log_normaliser(self, state: Tensor) -> Tensor:
        """log of the softmax's denominator over ALL outputs, (rows,), for (rows, width)."""
        step = max(1, (1 << 25) // self.model.config.vocab_size)
        return torch.cat([self.logits(part).logsumexp(dim=-1) for part in state.split(step)])

    def block(
        self,
        index: int,
        state: Tensor,
        _earlier: Memory | None = None,
        wanted: list[int] | None = None,
    ) -> dict:
        """One block's streams by name, of whole sequences; ``wanted`` as in ``through``."""
        return {"residual": self.through(index, state, wanted)}

    def logits_at(self, ids: Tensor, columns: Sequence[int]) -> Tensor:
        """As ``Architecture`` says. Nothing is computed that nobody reads.

        In the last block only the wanted positions have queries and an MLP, as nothing comes after
        them that would read the others. With three tokens of which one carries loss that is almost
        half of a two-layer model's work.
        """
        columns = list(columns)
        ids = ids[:, : max(columns) + 1]  # nothing before reads what comes after
        state = self.embed(ids)
        return self.logits(self._upwards(state, 0, columns, state))

    def _upwards(
        self, state: Tensor, layer: int, columns: list[int], start: Tensor | None
    ) -> Tensor:
        """Final residual states at ``columns``, from whole states at ``layer``."""
        everything = columns == list(range(state.shape[1]))
        for index in range(layer, self.layers):
            wanted = None if everything or index < self.layers - 1 else columns
            state = self.through(index, self.enter(index, state, start), wanted)
        return state

    def run(self, ids: Tensor, keep: Collection[tuple[str, int]]) -> dict[tuple[str, int], Tensor]:
        """The states that ``keep`` names by (stream, layer), from whole sequences (n, T).

        Layers above the last one kept are not run, and what is not named is not held.
        ``ValueError`` for a stream or layer that does not exist.
        """
        state = start = self.embed(ids)
        found = {("residual", 0): state, ("embedding", 0): None}
        if ("embedding", 0) in keep:
            found["embedding", 0] = self.embedding(ids)
        for layer in range(1, min(self.layers, max(layer for _, layer in keep)) + 1):
            streams = self.block(layer - 1, self.enter(layer - 1, state, start))
            state = streams["residual"]
            found |= {(s, layer): value for s, value in streams.items() if (s, layer) in keep}
        if missing := set(keep) - set(found):
            raise ValueError(f"there is no state at {sorted(missing)}")
        return {place: found[place] for place in keep}

    def finish(self, state: Tensor, layer: int, start: Tensor | None = None) -> Tensor:
        """The last position's final residual state (n, width), from whole states at ``layer``.

        ``start`` is layer 0 (see ``enter``); at layer 0 it is the state itself unless given.
        """
        start = state if start is None and layer == 0 else start
        return self._upwards(state, layer, [state.shape[1] - 1], start)[:, -1]

    @torch.no_grad()
    def check(self, ids: Tensor) -> None:
        """Running ids (n, T) by hand must give what the model gives, in this transformers too.

        From every layer of the first and the last loop on, with the whole sequence, and where the
        type is stepwise with the last position alone. ``RuntimeError`` if it does not.
        """
        expected = self.model(ids, use_cache=False).logits[:, -1]
        layers, last = range(self.layers + 1), ids.shape[1] - 1
        keep = [("residual", layer) for layer in layers]
        if self.stepwise:
            keep += [("memory", layer) for layer in layers[1:]]
        run = self.run(ids, keep)
        start = run["residual", 0]
        size = self.layers // self.loops
        for layer in (layer for layer in layers if not size < layer < self.layers - size):
            ends = [self.finish(run["residual", layer], layer, start)]
            if self.stepwise:
                part = run["residual", layer][:, last:]
                for index in range(layer, self.layers):
                    earlier = self.before(run["memory", index + 1], last)
                    entered = self.enter(index, part, start[:, last:])
                    part = self.block(index, entered, earlier)["residual"]
                ends.append(part[:, -1])
            for state in ends:
                if not torch.allclose(self.logits(state), expected, 1e-3, 1e-3):
                    raise RuntimeError(
                        f"running the model from layer {layer} does not reproduce its output; this "
                        f"version of transformers changed {self.model.config.model_type}'s blocks"
                    )

    def before(self, memory: Memory, position: int) -> Memory | None:
        """The memory of the positions before ``position``, by default from its third axis."""
        return tuple(part[:, :, :position] for part in memory) if position else None


class Blockwise(Layered):
    """A type whose blocks can be run from any position on: also write ``mix`` and ``mlp``."""

    streams = ("embedding", "residual", "post_attention", "post_mlp")
    stepwise = True

    @abstractmethod
    def mix(
        self, index: int, state: Tensor, earlier: Memory | None, wanted: list[int] | None
    ) -> tuple[Tensor, Memory]:
        """What block ``index`` adds by looking at other positions, and its memory of ``state``.

        ``state`` holds the positions from some p on. ``earlier`` is the memory of n sequences at
        those before p (see ``before``); rows are then a multiple of n, its first n belonging to the
        same sequences as the next n, and so on. With ``wanted`` only these positions of ``state``
        come out.
        """

    @abstractmethod
    def mlp(self, index: int, middle: Tensor) -> Tensor:
        """What block ``index`` adds position by position to the stream after ``mix``."""

    def block(self, index, state, earlier=None, wanted=None) -> dict:
        """One block's streams by name; the arguments are those of ``mix``."""
        return self._streams(index, state, wanted, *self.mix(index, state, earlier, wanted))

    def _streams(self, index, state, wanted, added: Tensor, memory: Memory) -> dict:
        middle = (state if wanted is None else pick(state, wanted)) + added
        mlp = self.mlp(index, middle)
        streams = {"post_attention": middle, "post_mlp": mlp, "memory": memory}
        return {**streams, "residual": middle + mlp}

    def through(self, index, state, wanted=None):
        return self.block(index, state, wanted=wanted)["residual"]


class Attending(Blockwise):
    """A type that takes from other positions by attention heads: write these instead of ``mix``.

    ``heads`` is how many a block has.
    """

    streams = (*Blockwise.streams, "heads")

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__(model)
        self.heads: int = model.config.num_attention_heads

    @abstractmethod
    def attend(
        self, index: int, state: Tensor, earlier: Memory | None, wanted: list[int] | None
    ) -> tuple[Tensor, Memory]:
        """The stream ``heads`` of block ``index`` and its memory; the arguments are ``mix``'s."""

    @abstractmethod
    def project(self, index: int, gathered: Tensor) -> Tensor:
        """What block ``index`` adds for what its heads have gathered: ``heads`` to (..., width).

        A matrix and perhaps a bias, so that what one head adds does not hang on the others.
        """

    @abstractmethod
    def pattern(self, index: int, state: Tensor) -> Tensor:
        """Attention weights of whole sequences (n, T, width): (n, heads, queries T, keys T)."""

    def mix(self, index, state, earlier=None, wanted=None):
        gathered, memory = self.attend(index, state, earlier, wanted)
        return self.project(index, gathered), memory

    def block(self, index, state, earlier=None, wanted=None) -> dict:
        gathered, memory = self.attend(index, state, earlier, wanted)
        added = self.project(index, gathered)
        return {"heads": gathered, **self._streams(index, state, wanted, added, memory)}


def remembered(earlier: Memory | None, own: Memory) -> Memory:
    """The memory of whole sequences: that of earlier positions, then one's own.

    ``earlier`` is that of n sequences, and rows of ``own`` are a multiple of n (see ``mix``).
    """
    if earlier is None:
        return own
    copies = len(own[0]) // len(earlier[0])
    return tuple(
        torch.cat([past.repeat(copies, 1, 1, 1), new], dim=2)
        for past, new in zip(earlier, own, strict=True)
    )


def seen(table: Tensor, first: int, last: int, wanted: list[int] | None) -> Tensor | None:
    """Which keys before ``last`` the queries from ``first`` on see; None where each sees all.

    ``table`` (positions, positions) is true where a position sees another; ``wanted`` are the
    places of the queries among the positions from ``first`` to ``last``, or all.
    """
    if last - first == 1 or wanted == [last - first - 1]:
        return None
    mask = table[first:last, :last]
    return mask if wanted is None else pick(mask, wanted, dim=0)


def softmax_attention(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float, rate: float
) -> Tensor:
    """Softmax attention: ``(rows, heads, queries, size)``.

    ``mask`` (queries, keys) is true where a query sees a key, None where each sees all; ``rate`` is
    the probability with which a weight is dropped.
    """
    if query.is_cuda or not query.requires_grad:
        return functional.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, dropout_p=rate, scale=scale
        )
    # For derivatives on a handful of tokens on a CPU, plain products beat the fused kernel.
    scores = (query @ key.transpose(-1, -2)) * scale
    if mask is not None:
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    weights = scores.softmax(-1)
    return (functional.dropout(weights, rate) if rate else weights) @ value
