"""Claim g's shared operator: worlds of entities, whose facts one table gives in both hops.

All facts are trained as single facts; compositions are trained of 90 % of them alone. A composition
of the others can be right if what looks facts up in single facts does so inside compositions too.
That operator is one and the same in the second hop only where blocks are run several times.
"""

from __future__ import annotations

from collections.abc import Mapping

from coverage_principle.experiments.claims import base
from coverage_principle.experiments.settings import RunSettings
from simpletransformers.words import counted

TASK = "grokked"
#: Blocks, and how often they are run, of each model.
MODELS = base.by_scale(
    ((2, 1), (1, 2)),
    ((4, 1), (2, 2), (1, 4)),
    ((8, 1), (4, 2), (2, 4), (1, 8)),
    ((8, 1), (4, 2), (2, 4), (1, 8)),
    night=((8, 1), (1, 8), (4, 1), (2, 2), (1, 4), (2, 1), (1, 2), (1, 1)),
)
#: Seeds of those that run more than two blocks; the others have those of the scale.
SEEDS = base.by_scale((42, 43), (42, 43, 44), (42, 43, 44), (42, 43, 44))
_PUBLISHED = {"num_entities": 2000, "num_relations": 200, "out_degree": 20, "phi": 12.6}
#: The world: phi leaves a fifth of the in-domain compositions for testing in the small ones.
WORLDS = base.by_scale(
    {"num_entities": 8, "num_relations": 4, "out_degree": 4, "phi": 2.5},
    {"num_entities": 30, "num_relations": 15, "out_degree": 15, "phi": 10.8},
    _PUBLISHED,
    _PUBLISHED,
    night={"num_entities": 40, "num_relations": 20, "out_degree": 20, "phi": 14.4},
)
OUTSIDE = base.by_scale(0.1, 0.1, 0.05, 0.05)
_SMALL = {"learning_rate": 1e-3, "max_steps": 2500}
TRAINING = base.by_scale(
    {},
    _SMALL,
    {},
    {},
    night={**_SMALL, "train_batch_size": 512, "max_steps": 6000, "eval_steps": 250},
)
#: The types of the groups: which facts no training composition uses.
GROUPS = {
    "neither": "type_0",
    "first": "type_2+f1",
    "second": "type_3+f2",
    "both": "type_1+f1+f2",
}


def name_of(blocks: int, loops: int) -> str:
    """``2 blocks, 4 times``, or ``8 blocks, unshared``."""
    return f"{counted(blocks, 'block')}, " + (f"{loops} times" if loops > 1 else "unshared")


def runs(scale: str) -> dict[tuple[str, str], RunSettings]:
    """The runs of each model and seed, the longest first."""
    data = {**WORLDS[scale], "ood_ratio": OUTSIDE[scale], "facts": "all"}
    data["test_size_for_type"] = base.TEST_SIZE[scale]
    found = {}
    for blocks, loops in MODELS[scale]:
        name, deep = name_of(blocks, loops), blocks * loops > 2
        looped = {"loops": loops} if loops > 1 else {}
        train = base.training(scale, **TRAINING[scale], n_layer=blocks, **looped)
        for seed in SEEDS[scale] if deep else base.SEEDS[scale]:
            settings = {"task": TASK, "seed": seed, "data": data, "train": train}
            found[name, str(seed)] = RunSettings.resolve(settings, f"{name} seed={seed}")
    return found
