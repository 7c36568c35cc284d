"""Claim h: does coverage, counted before training, explain the critical ratio phi?

phi is the number of training compositions for each in-domain fact. Worlds of entities of several
sizes and phi are trained on, and what the models answer of held-out in-domain items is laid beside
the share of all such items that is covered at each k (``coverage.by_phi``).
"""

from __future__ import annotations

from dataclasses import dataclass

from coverage_principle.coverage import CoverageByPhi, PhiSettings, phi_name
from coverage_principle.coverage.measured import Counts
from coverage_principle.data import load_dataset
from coverage_principle.experiments.claims import base
from coverage_principle.experiments.claims.critical_ratio_words import draw, find, tables
from coverage_principle.experiments.settings import RunSettings
from coverage_principle.experiments.sweep import Sweep
from coverage_principle.reporting.training_figures import accuracy_by_k

TITLE = "Coverage and the critical ratio of training compositions to facts"
PUBLISHED = (
    '"Grokked Transformers are Implicit Reasoners" (arXiv 2405.15071), 2,000 entities: phi decides '
    "whether and how soon held-out compositions are answered, and the number of entities does not. "
    "phi 3.6 does not come to it in their budget; at phi 7.2 accuracy is at most 0.092 when the "
    "training items are fitted and about 1 after 50 times as many steps; at phi 18 it is 0.967 "
    "before they are fitted."
)


@dataclass(frozen=True)
class Worlds:
    """Worlds of one size that are trained on: at each phi, with the first ``seeds`` seeds."""

    entities: int
    phi: tuple[float, ...]
    seeds: int
    dimensions: int | None = None  # of the model, where they are not the scale's

    @property
    def name(self) -> str:
        size = f"{self.entities:,} entities"
        return size if self.dimensions is None else f"{size}, {self.dimensions} dimensions"


_PUBLISHED_PHI = (3.6, 5.4, 7.2, 9.0, 12.6, 18.0)
_LARGE = (Worlds(1000, _PUBLISHED_PHI, 2), Worlds(2000, _PUBLISHED_PHI, 2))
#: The worlds that are trained on, the smallest first: its budget of steps grows with the entities.
WORLDS = base.by_scale(
    (Worlds(20, (2.0, 4.0), 2), Worlds(40, (4.0,), 2)),
    (Worlds(50, (5.4, 9.0), 3), Worlds(100, (9.0,), 3)),
    *2 * [_LARGE],
    night=(
        Worlds(100, (1.8, 3.6, 5.4, 7.2, 9.0, 12.6, 18.0), 3),
        Worlds(200, (3.6, 5.4, 7.2, 9.0, 12.6), 3),
        Worlds(300, (7.2,), 3),
        Worlds(200, (7.2,), 3, dimensions=256),
    ),
)
#: Relations and facts of each entity, as published but for the tiny scale.
SHAPE = {scale: {"num_relations": 200, "out_degree": 20} for scale in base.SCALES}
SHAPE["tiny"] = {"num_relations": 20, "out_degree": 5}
_OOD_RATIO = 0.05
#: Items of each type that are scored.
_TEST_SIZE = base.by_scale(100, 1000, 3000, 3000, night=2000)
#: The published world, counted alone: entities, seeds, and phi beside those that are trained on.
COUNTED = base.by_scale((60, 1, ()), *3 * [(2000, 3, _PUBLISHED_PHI)])
_SMALL = {"learning_rate": 1e-3, "weight_decay": 0.1}
_TRAIN = base.by_scale(
    {},
    {**_SMALL, "max_steps": 1600},
    *({}, {}),
    night={**_SMALL, "train_batch_size": 512, "max_steps": 5000},
)
#: Evaluations of a run: at equal epochs whatever the number of entities.
_EVALUATIONS = base.by_scale(2, 20, 20, 20)


def collect(sweep: Sweep, scale: str) -> dict:
    """Every world's accuracy over training, and coverage at every k of its held-out items."""
    runs = {
        (worlds.name, worlds.entities, phi, seed): _run(scale, worlds, phi, seed)
        for worlds in WORLDS[scale]
        for phi in worlds.phi
        for seed in base.SEEDS[scale][: worlds.seeds]
    }
    futures = sweep.submit_all(list(runs.values()))
    counted = _counted(sweep, scale)
    found: dict[str, dict] = {}
    for (place, run), future in zip(runs.items(), futures, strict=True):
        name, entities, phi, seed = place
        base.finished(future, run.label)
        world = {"entities": entities, "dimensions": run.train["n_embd"], "phi": {}}
        seeds = found.setdefault(name, world)["phi"].setdefault(f"{phi:g}", {})
        seeds[str(seed)] = {
            "run": run.id,
            **_measure(sweep, run),
            "counted": shares(counted.counts[entities, phi][seed]),
        }
    entities, seeds, _ = COUNTED[scale]
    published = {
        f"{phi:g}": {
            str(seed): shares(counted.counts[entities, phi][seed])
            for seed in base.SEEDS[scale][:seeds]
        }
        for phi in counted.settings.phi
    }
    train = base.training(scale, **_TRAIN[scale])
    return {
        **SHAPE[scale],
        "ood_ratio": _OOD_RATIO,
        "batch": train["train_batch_size"],
        "worlds": found,
        "published": {"entities": entities, "counted": published},
    }


def _run(scale: str, worlds: Worlds, phi: float, seed: int) -> RunSettings:
    train = base.training(scale, **_TRAIN[scale])
    steps = train["max_steps"] * worlds.entities // WORLDS[scale][0].entities
    train |= {"max_steps": steps, "eval_steps": steps // _EVALUATIONS[scale]}
    if worlds.dimensions is not None:
        train["n_embd"] = worlds.dimensions
    data = {"num_entities": worlds.entities, **SHAPE[scale], "phi": phi, "ood_ratio": _OOD_RATIO}
    data["test_size_for_type"] = _TEST_SIZE[scale]
    settings = {"task": "grokked", "seed": seed, "data": data, "train": train}
    settings["coverage"] = {"k_sweep": True}  # so that training scores items by k-cutoff
    return RunSettings.resolve(settings, f"{worlds.name}, phi {phi:g} seed={seed}")


def _counted(sweep: Sweep, scale: str) -> CoverageByPhi:
    """Coverage of every world and of the published one, over all held-out in-domain items."""
    entities, seeds, more = COUNTED[scale]
    wanted = {(entities, seed) for seed in base.SEEDS[scale][:seeds]}
    for worlds in WORLDS[scale]:
        wanted |= {(worlds.entities, seed) for seed in base.SEEDS[scale][: worlds.seeds]}
    phi = sorted({*more, *(phi for worlds in WORLDS[scale] for phi in worlds.phi)})
    sizes = tuple(sorted({size for size, _ in wanted}))
    settings = PhiSettings(num_entities=sizes, phi=tuple(phi), ood_ratio=_OOD_RATIO, **SHAPE[scale])
    file = f"coverage_by_phi_{phi_name(settings)}_measured.json"
    counted = CoverageByPhi(settings, sweep.root / file)
    for place in sorted(wanted):
        counted.find(*place)
    return counted


def shares(counts: Counts) -> dict[str, float]:
    """The share that is covered, by k, up to the last k that covers anything."""
    found = {str(k): round(counts.share(k), 4) for k in counts.covered}
    return {k: share for k, share in found.items() if share}


def _measure(sweep: Sweep, run: RunSettings) -> dict:
    """Accuracy over training, at the end of every type and k-cutoff, and without composing."""
    scores = sweep.history(run)[-1]["eval"]
    by_k = {
        str(k): {"n": n, "accuracy": round(accuracy, 4)}
        for k, (accuracy, n) in accuracy_by_k(scores).items()
    }
    final = {
        name: {"n": own["n"], "accuracy": round(own["answer_accuracy"], 4)}
        for name, own in scores.items()
        if "/" not in name
    }
    found = base.over_training(sweep, run, "train_inferred", "type_0")
    floor = round(base.guessed(load_dataset(sweep.dataset(run)), "type_0"), 4)
    return {**found, "final": final, "by_k": by_k, "floor": floor}


CLAIM = base.Claim("h", "critical_ratio", TITLE, PUBLISHED, collect, find, tables, draw)
