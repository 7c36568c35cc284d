"""Claim g's shared operator: worlds of entities, whose facts one table gives in both hops.

All facts are trained as single facts; compositions are trained of 90 % of them alone. A composition
of the others can be right if what looks facts up in single facts does so inside compositions too.
That operator is one and the same in the second hop only where blocks are run several times.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from coverage_principle.data import load_dataset
from coverage_principle.experiments.claims import base
from coverage_principle.experiments.claims.mechanisms_states import PATCHES, bridge_states
from coverage_principle.experiments.settings import RunSettings
from coverage_principle.experiments.sweep import Sweep
from coverage_principle.reporting import plots
from coverage_principle.statistics import Rate, rate_difference, rate_over_seeds
from simpletransformers.words import counted

TASK = "grokked"
#: Blocks, and how often they are run, of each model.
MODELS = base.by_scale(
    ((2, 1), (1, 2)),
    ((4, 1), (1, 4)),
    ((8, 1), (4, 2), (2, 4), (1, 8)),
    ((8, 1), (4, 2), (2, 4), (1, 8)),
    night=((8, 1), (1, 8), (4, 1), (2, 2), (1, 4), (2, 1), (1, 2), (1, 1)),
)
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
#: The same, and single facts that no composition uses.
KINDS = {**GROUPS, "fact": "fact_only"}
#: What the groups are called.
LABELS = {
    "neither": "in-domain compositions",
    "first": "first known as a fact only",
    "second": "second known as a fact only",
    "both": "both known as facts only",
    "fact": "such facts by themselves",
}
#: What patches put at r1.
PATCH_LABELS = {
    "whole": "another composition's state",
    "subspace": "its part in b's subspace",
    "rest": "the rest of it",
    "entity": "token b' of a single fact",
}
#: What half of a curve has to be, in times of chance, to be told of.
_TWICE = 2
#: Published out-of-domain accuracies for 4 to 8 loops.
PUBLISHED_BOTH = 0.75, 0.8


def name_of(blocks: int, loops: int) -> str:
    """``2 blocks, 4 times``, or ``8 blocks, unshared``."""
    return f"{counted(blocks, 'block')}, " + (f"{loops} times" if loops > 1 else "unshared")


def runs(scale: str) -> dict[tuple[str, str], RunSettings]:
    """The runs of each model and seed, the longest first."""
    data = {**WORLDS[scale], "ood_ratio": OUTSIDE[scale], "facts": "all"}
    data["test_size_for_type"] = base.TEST_SIZE[scale]
    found = {}
    for blocks, loops in MODELS[scale]:
        name = name_of(blocks, loops)
        looped = {"loops": loops} if loops > 1 else {}
        train = base.training(scale, **TRAINING[scale], n_layer=blocks, **looped)
        for seed in SEEDS[scale]:
            settings = {"task": TASK, "seed": seed, "data": data, "train": train}
            found[name, str(seed)] = RunSettings.resolve(settings, f"{name} seed={seed}")
    return found


def measure(sweep: Sweep, run: RunSettings) -> dict:
    """A run's accuracy on each group over training, and at its end what b's state is."""
    from coverage_principle.circuits import open_checkpoint

    dataset = load_dataset(sweep.dataset(run))
    past, groups = base.over_training(sweep, run), {}
    for group, kind in KINDS.items():
        if kind in past["items"]:
            curve = [round(value, 4) for value in past["accuracy"][kind]]
            own = {"items": past["items"][kind], "accuracy": curve[-1], "curve": curve}
            groups[group] = own
    loaded = open_checkpoint(sweep.folder(run) / "model" / "final_checkpoint", dataset.codec)
    state = bridge_states(loaded, dataset, GROUPS, run.train["manual_seed"])
    return {"steps": past["steps"], "groups": groups, "state": state}


def summary(scale: str, found: Mapping[str, Mapping[str, dict]]) -> dict:
    """The panel's numbers, of the runs' by model and seed."""
    models = {
        name_of(*model): {"blocks": model[0], "loops": model[1], "seeds": found[name_of(*model)]}
        for model in MODELS[scale]
    }
    world = {**WORLDS[scale], "ood_ratio": OUTSIDE[scale]}
    return {"world": world, "chance": 1 / world["num_entities"], "models": models}


def rate(seeds: Mapping[str, Mapping], group: str) -> Rate | None:
    """The share of a group's items that are right at the end; None without items."""
    return _over_seeds([run["groups"][group] for run in seeds.values() if group in run["groups"]])


def _over_seeds(shares: Sequence[Mapping], key: str = "accuracy") -> Rate | None:
    """Of shares with their ``items``, one a seed."""
    known = [(one[key], one["items"]) for one in shares if one["items"]]
    return rate_over_seeds(*zip(*known, strict=True)) if known else None


def _layer(model: Mapping, patch: str) -> int:
    """After which layer a patch at r1 moves most in-domain compositions to the other answer."""
    found = [run["state"]["patch"]["neither"] for run in model["seeds"].values()]
    moved = np.sum([np.multiply(one[patch], one["items"]) for one in found if one["items"]], axis=0)
    return int(np.argmax(moved))


def moved_by(model: Mapping, patch: str, group: str = "neither") -> Rate | None:
    """The share of a group whose answer a patch moves, after the patch's ``_layer``."""
    layer, shares = _layer(model, patch), []
    for run in model["seeds"].values():
        if (one := run["state"]["patch"][group])["items"]:
            shares.append({"items": one["items"], "accuracy": one[patch][layer]})
    return _over_seeds(shares)


def probed(model: Mapping, of: str, layer: int) -> Rate | None:
    """The share of ``of`` whose entity the probes at r1 after a layer tell."""
    found = [run["state"]["probe"][of] for run in model["seeds"].values()]
    return _over_seeds([{"items": o["items"], "accuracy": o["rates"][layer]} for o in found])


def stays_above(model: Mapping, group: str, level: float) -> int | None:
    """The evaluated step from which a group's accuracy, over all seeds, is at least this."""
    steps = next(iter(model["seeds"].values()))["steps"]
    found = None
    for step, one in zip(steps, mean_curve(model, group), strict=True):
        found = (found or step) if one >= level else None
    return found


def mean_curve(model: Mapping, group: str) -> list[float]:
    """A group's accuracy over training, the mean over seeds that have such items."""
    runs = [run["groups"][group] for run in model["seeds"].values() if group in run["groups"]]
    return np.mean([one["curve"] for one in runs], axis=0).tolist() if runs else []


def compared(models: Mapping[str, Mapping]) -> tuple[str, str] | None:
    """The looped model that has most of ``second`` right, and the unshared one that is as deep.

    The deepest one if none is. None where no model of one kind has such items.
    """
    rates = {name: rate(model["seeds"], "second") for name, model in models.items()}
    looped = {n: one.mean for n, one in rates.items() if one and models[n]["loops"] > 1}
    plain = [name for name, one in rates.items() if one and models[name]["loops"] == 1]
    if not looped or not plain:
        return None
    best = max(looped, key=looped.get)
    depth = models[best]["blocks"] * models[best]["loops"]
    return best, max(plain, key=lambda n: (models[n]["blocks"] == depth, models[n]["blocks"]))


def find(panel: Mapping) -> list[str]:
    """Sentences; none where the seeds had no such compositions (tiny worlds)."""
    models = panel["models"]
    if (names := compared(models)) is None:
        return []
    second = [rate(models[name]["seeds"], "second") for name in names]
    gap = rate_difference(*second)
    begin = (
        "What a model was taught only by itself, it can use as the second step of a composition "
        "if the same blocks take both steps."
        if gap.above_zero
        else "That the same blocks take both steps gives no clear advantage."
    )
    counts = f"{counted(second[0].n, 'seed')} with {counted(second[0].items, 'item')}"
    looped = sum(model["loops"] > 1 for model in models.values())
    chosen = f"; of {looped} looped models the one that answers most of them" if looped > 1 else ""
    world = panel["world"]
    sentences = [
        f"{begin} In worlds of {world['num_entities']:,} entities and {world['num_relations']:,} "
        "relations all facts were trained singly, and compositions, "
        f"{world['phi']:g} for each fact that stands in any; {world['ood_ratio']:.0%} of the facts "
        "stand in none: they are known as facts only. Compositions whose second fact is such a one "
        f"are answered rightly in {second[0]} by {names[0]}, and in {second[1]} by as deep a model "
        f"that shares nothing ({names[1]}): a difference of {gap} ({counts} each; chance "
        f"{panel['chance']:.3f}{chosen}).",
    ]
    for group in ("first", "both"):
        told = {
            kind: [
                found
                for model in models.values()
                if (model["loops"] > 1) == looped
                and model["blocks"] * model["loops"] > 2
                and (found := rate(model["seeds"], group))
            ]
            for kind, looped in (("looped", True), ("unshared", False))
        }
        if all(told.values()):
            both = "; ".join(f"{kind} {_range(rates)}" for kind, rates in told.items())
            sentences.append(
                f"{LABELS[group].capitalize()}, models of more than two layers: {both}."
            )
    of_time = _when(models, names, panel["chance"])
    return sentences + _of_loops(models) + of_time + _of_states(models, names)


def _range(rates: Sequence[Rate]) -> str:
    """The smallest and largest of rates, and what all their intervals span."""
    means = sorted(f"{one.mean:.2f}" for one in rates)
    span = f"({min(one.low for one in rates):.2f} to {max(one.high for one in rates):.2f})"
    ends = means[0] if means[0] == means[-1] else f"{means[0]} to {means[-1]}"
    return f"{ends} {span}"


def _of_loops(models: Mapping[str, Mapping]) -> list[str]:
    """What more loops of one block give, and what was published."""
    told, both = [], []
    for model in sorted(models.values(), key=lambda model: model["loops"]):
        rates = [rate(model["seeds"], group) for group in ("neither", "second", "both")]
        if model["blocks"] != 1 or None in rates:
            continue
        words = f"{rates[0]} in domain, {rates[1]} second known as a fact only, {rates[2]} both"
        told.append(f"{counted(model['loops'], 'time')} {words}")
        both += [rates[2]] if model["loops"] >= 4 else []
    if not both:
        return []
    low, high = PUBLISHED_BOTH
    reach = sum(one.high >= low and one.low <= high for one in both)
    return [
        f"One block run so many times answers: {'; '.join(told)}. Published, in another setting "
        f"(arXiv 2604.07822): 0.01 out of domain with one pass, {low} to {high} with 4 to 8 loops. "
        f"Of the intervals of both with 4 loops or more, {reach} of {len(both)} reach that range."
    ]


def _when(models: Mapping[str, Mapping], names: Sequence[str], chance: float) -> list[str]:
    """From when on half of what is right at the end is so, of what is then well above chance."""
    sentences = []
    for name in names:
        model, told = models[name], []
        for group, words in LABELS.items():
            curve = mean_curve(model, group)
            if curve and curve[-1] / 2 >= _TWICE * chance:
                told.append(f"{words} {stays_above(model, group, curve[-1] / 2):,}")
        late = [
            f"from {curve[(len(curve) - 1) * 3 // 4]:.2f} to {curve[-1]:.2f} ({LABELS[group]})"
            for group in ("second", "both")
            if (curve := mean_curve(model, group))
        ]
        if told:
            sentences.append(
                f"{name}: half of what is right at the end is so from these steps on: "
                f"{'; '.join(told)}. In the last quarter of training the mean over seeds goes "
                f"{' and '.join(late)}."
            )
    return sentences


def _of_states(models: Mapping[str, Mapping], names: Sequence[str]) -> list[str]:
    """What stands at r1 after the first hop, and what stands for an entity there."""
    read, sentences = [], []
    for name in names:
        model = models[name]
        layer, depth = _layer(model, "whole"), model["blocks"] * model["loops"]
        known, only = (probed(model, of, layer) for of in ("used", "fact_only"))
        read.append(
            f"with {name}, for {known} of the facts in domain and {only} of the others after layer "
            f"{layer}, where patches act most, and for {probed(model, 'used', -1)} and "
            f"{probed(model, 'fact_only', -1)} after the last, layer {depth}"
        )
        of_token = _layer(model, "entity")
        tokens = probed(model, "entity", of_token)
        parts = [moved_by(model, patch) for patch in PATCHES]
        second = [moved_by(model, patch, "second") for patch in ("entity", "whole")]
        if None in (*parts, *second):
            continue
        whole, inside, rest, own = parts
        sentences.append(
            f"{name}: another composition's state, put at r1 after layer {layer} of {depth}, moves "
            f"{whole} of the in-domain answers to that of its own b'; its part in the subspace of "
            f"b does so to {inside}, the rest of it to {rest} ({whole.items:,} items). The mere "
            "token b', as a single fact begins with it and before any block has read it, does so "
            f"to {own} (after layer {of_token}). Where (b', r2) is known as a fact only, the token "
            f"moves {second[0]}, and another composition's state {second[1]} "
            f"({second[0].items:,} items). Probes of b at r1, after that layer {of_token}, tell "
            f"{tokens} of such tokens."
        )
    begin = "Linear probes at the first relation, r1, tell the first step's result b, of facts that"
    told = f"{begin} they have not learned from, {'; '.join(read)}."
    own = [moved_by(models[name], "entity") for name in names]
    if None not in own:
        gap = rate_difference(*own)
        clear = "clearly more often" if gap.above_zero else "not clearly more often"
        sentences.append(
            f"So, of in-domain compositions, {names[0]}, looks the second fact up from r1 as if an "
            f"entity's own token stood there {clear} than {names[1]}: by {gap}."
        )
    return [told, *sentences]


def tables(panel: Mapping) -> list[base.Table]:
    models, rows, states = panel["models"], [], []
    for name, model in models.items():
        seeds = model["seeds"]
        rows.append(
            [name, str(len(seeds)), *(base.rate_in_table(rate(seeds, group)) for group in KINDS)]
        )
        layer, own = (_layer(model, patch) for patch in ("whole", "entity"))
        told = [probed(model, of, layer) for of in ("used", "fact_only")]
        told.append(probed(model, "entity", own))
        moved = [moved_by(model, patch) for patch in PATCHES]
        moved += [moved_by(model, patch, "second") for patch in ("entity", "whole")]
        cells = [base.rate_in_table(one) for one in (*told, *moved)]
        states.append([name, f"{layer}, {own}", *cells])
    shown = "all facts trained singly, compositions of in-domain facts alone"
    probe = [f"probe tells b: {words}" for words in ("in-domain facts", "the others", "tokens b'")]
    patches = [f"moved by {words}" for words in PATCH_LABELS.values()]
    return [
        base.Table(
            f"Accuracy, shared operator: {shown} ({base.RATE_INTERVALS})",
            ["model", "seeds", *LABELS.values()],
            rows,
        ),
        base.Table(
            "The first hop's result b at r1: what a probe tells of it, and how often patches at r1 "
            "move the answer to that of (b', r2), of in-domain compositions; "
            f"{base.RATE_INTERVALS}",
            [
                "model",
                "after layers (states, tokens b')",
                *probe,
                *patches,
                "moved by b', second a fact only",
                "moved by another's state, second a fact only",
            ],
            states,
        ),
    ]


def draw(panel: Mapping, final, over_training, states) -> None:
    """Accuracy of each model, its course, and what patches at r1 do, on three axes.

    Without sharing by depth, then by blocks and loops; of patches, the rest of a state, which is a
    control that moves next to nothing, is in the table alone.
    """
    models = panel["models"]

    def place(name: str) -> tuple[bool, int, int]:
        blocks, loops = models[name]["blocks"], models[name]["loops"]
        return loops > 1, blocks, loops

    shown = sorted(models, key=place)
    series = {
        LABELS[group]: [rate(models[name]["seeds"], group) for name in shown] for group in GROUPS
    }
    plots.bars_of_rates(final, series, shown, span=0.85)
    title = "shared operator: accuracy by facts that no composition uses"
    plots.accuracy_axis(final, title, panel["chance"], over="")
    final.set_ylabel("accuracy (95 % interval)")
    for number, name in enumerate(shown):
        model = models[name]
        if not (curve := mean_curve(model, "second")):
            continue
        steps = next(iter(model["seeds"].values()))["steps"]
        line = "-" if model["loops"] > 1 else "--"
        over_training.plot(steps, curve, line, color=plots.look(number)["color"], label=name)
    title = "second known as a fact only: accuracy over training"
    plots.accuracy_axis(over_training, title, panel["chance"], over="training step")
    over_training.set_ylabel("accuracy (mean over seeds)")
    series = {
        label: [moved_by(models[name], patch) for name in shown]
        for patch, label in PATCH_LABELS.items()
        if patch != "rest"
    }
    for patch in ("entity", "whole"):
        label = f"{PATCH_LABELS[patch]}, second a fact only"
        series[label] = [moved_by(models[name], patch, "second") for name in shown]
    plots.bars_of_rates(states, series, shown, span=0.85)
    title = "another first result, b', put at r1, after the layer where it acts most"
    plots.accuracy_axis(states, title, panel["chance"], over="")
    states.set_ylabel("answers that become that of (b', r2)")
