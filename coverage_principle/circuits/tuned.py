"""Tuned lens: for each layer the affine map after which the model's output layer reads it best.

Belrose et al. (2023), "Eliciting Latent Predictions from Transformers with the Tuned Lens": a state
h of layer l becomes h + A h + c, and is then read by the model's own final norm and output. A and
c, which begin at zero (the logit lens), are trained so that what is read is the model's final
output at the same position. One map a layer serves all positions before the answer.

Trained on training items alone, those of some fragments held out. No label is used: the target is
what the model itself says, so that a value is read here only if the model would have said it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from coverage_principle.circuits.folds import fragment_folds
from coverage_principle.circuits.items import Grouping, sequences
from coverage_principle.circuits.models import LoadedModel
from coverage_principle.data import Dataset
from coverage_principle.errors import InputError

#: Steps of AdamW, and states of each layer in one of them.
STEPS, BATCH = 400, 512
#: The held-out states are looked at after so many steps.
EVERY = 10
#: The step size at the start, over the width; it falls to 0 in a straight line.
RATE = 0.4
#: AdamW's weight decay, which draws A to 0: to the logit lens.
DECAY = 1e-3
#: One of so many parts of the fragments is held out.
FOLDS = 10
#: At most so many training items are used, and so many numbers in their states (float32, 0.5 GiB).
_ITEMS, _ROOM = 10_000, 1 << 27
#: Held-out states of each layer that are read at once.
_PART = 1024


@dataclass(frozen=True)
class TunedLens:
    """The maps of layers 0..L-1: ``weights`` (L, width, width), ``biases`` (L, width), float32.

    ``about`` says how they were found: ``items`` and ``held_out``, how many training items; and for
    each layer the ``steps`` after which the held-out divergence was least (0: the logit lens is
    best), and that divergence ``before`` training and at this step, ``after``.
    """

    weights: Tensor
    biases: Tensor
    about: dict[str, object] = field(default_factory=dict)

    def __repr__(self) -> str:
        layers, width = self.biases.shape
        return f"<TunedLens of {layers} layers, width {width}>"

    def translate(self, layer: int, state: Tensor) -> Tensor:
        """States (n, width) of a layer as final ones; those of layer L are it already."""
        if layer == len(self.weights):
            return state
        return state + state @ self.weights[layer] + self.biases[layer]

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """The maps for a file of arrays: h + h @ ``weight`` + ``bias``."""
        return {"weight": self.weights.cpu().numpy(), "bias": self.biases.cpu().numpy()}


def divergence(loaded: LoadedModel, final: Tensor, state: Tensor) -> Tensor:
    """KL divergence in nats, (...), of what is read off ``state`` from what ``final`` says.

    ``state`` is (..., width), ``final`` the same or what goes with it by broadcasting.
    Distributions are over the data set's tokens: of a model with a vocabulary around these, most
    outputs are never asked for, and would take most of the time.
    """
    target, found = (loaded.logits(one).log_softmax(-1) for one in (final, state))
    return (target.exp() * (target - found)).sum(-1)


def tune_lens(
    loaded: LoadedModel, dataset: Dataset, grouping: Grouping, *, seed: int, batch_size: int = 4096
) -> TunedLens:
    """The tuned lens of a model by a data set's training items.

    Whole fragments of the grouping are held out: a state at x2 is that of (x1, x2) alone, so other
    items of the same fragment would hold the very states that were trained on. ``seed`` is of the
    items drawn (where they are too many), of the fragments held out and of the order.

    ``InputError`` if the training items have a single fragment.
    """
    train, slots = dataset.train, dataset.graph.inputs
    places, layers = len(slots) + train.targets.shape[1] - 1, loaded.num_layers + 1
    most = max(2, min(_ITEMS, _ROOM // (layers * places * loaded.network.width)))
    rows = np.sort(np.random.default_rng(seed).permutation(len(train))[:most])
    fragments = train.inputs[rows][:, [slots.index(slot) for slot in grouping.fragment]]
    kept = fragment_folds(fragments, FOLDS, seed) > 0
    if kept.all() or not kept.any():
        named = f"training items that differ in {','.join(grouping.fragment)}"
        raise InputError(f"`tuned` needs several {named}, of which some are held out")
    tokens = sequences(dataset, rows[np.argsort(kept, kind="stable")], train)[:, :places]
    states = torch.empty((layers, *tokens.shape, loaded.network.width), device=loaded.device)
    for begin in range(0, len(tokens), batch_size):
        part = slice(begin, begin + batch_size)
        run = loaded.run(tokens[part], [("residual", layer) for layer in range(layers)])
        for (_, layer), state in run.items():
            states[layer, part] = state
    return fit_lens(loaded, states, int((~kept).sum()), seed=seed)


def fit_lens(loaded: LoadedModel, states: Tensor, held: int, *, seed: int) -> TunedLens:
    """The tuned lens of ``states`` (layers + 1, n, positions, width), the first ``held`` held out.

    All layers are trained at once, by the same states. The maps of a layer are those with which the
    held-out states are read best at one of the steps looked at; they are zero if training does not
    help there.
    """
    given, final = states[:-1, held:].flatten(1, 2), states[-1, held:].flatten(0, 1)
    parts = states[:, :held].flatten(1, 2).split(_PART, dim=1)
    layers, count, width = given.shape
    size = given.square().mean((1, 2), keepdim=True).sqrt()  # so that c is in the states' own units
    weight = torch.zeros((layers, width, width), device=states.device, requires_grad=True)
    bias = torch.zeros((layers, 1, width), device=states.device, requires_grad=True)
    groups = [{"params": [weight], "weight_decay": DECAY}, {"params": [bias], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=RATE / width)
    falling = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / STEPS)

    def read(state: Tensor, target: Tensor) -> Tensor:
        """The divergence of every state (layers, n, width) from the final one: (layers, n)."""
        moved = torch.baddbmm(state + size * bias, state, weight)
        return divergence(loaded, target, moved)

    @torch.no_grad()
    def held_out() -> Tensor:
        return torch.cat([read(part[:-1], part[-1]) for part in parts], dim=1).mean(1)

    least = before = held_out()
    best = [weight.detach().clone(), bias.detach().clone()]
    steps, batches = torch.zeros(layers, dtype=torch.int64), _batches(count, seed)
    for step in range(1, STEPS + 1):
        batch = next(batches).to(states.device)
        optimizer.zero_grad()
        read(given[:, batch], final[batch]).mean(1).sum().backward()
        optimizer.step()
        falling.step()
        if step % EVERY == 0:
            now = held_out()
            better = now < least
            least, steps[better.cpu()] = torch.where(better, now, least), step
            for own, part in zip(best, (weight, bias), strict=True):
                own[better] = part.detach()[better]
    about = {"items": states.shape[1] - held, "held_out": held, "steps": steps.tolist()}
    about |= {"before": before.tolist(), "after": least.tolist()}
    return TunedLens(best[0], (size * best[1])[:, 0], about)


def _batches(count: int, seed: int) -> Iterator[Tensor]:
    """Places of at most ``BATCH`` of ``count`` states, in ever new orders."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        yield from torch.randperm(count, generator=generator).split(BATCH)
