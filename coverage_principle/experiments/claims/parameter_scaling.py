"""Claim d: required data against |X| for models of several sizes (2-hop)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from coverage_principle.experiments.claims import scaling

TITLE = "Parameter scaling: does a larger model need less data? (2-hop)"
PUBLISHED = (
    "exponents 2.13, 2.26 and 2.28 for 68M, 96M and 1.5B parameters: 20 times the parameters bring "
    "no gain."
)

#: Models of a scale, from small to large; one of them is claim c's.
_MODELS: dict[str, dict[str, dict[str, object]]] = {
    "tiny": {"2 layers, 16": {}, "2 layers, 32": {"n_embd": 32}},
    "cpu": {"2 layers, 48": {"n_embd": 48}, "2 layers, 80": {"n_embd": 80}, "2 layers, 128": {}},
    "gpu": {
        "4 layers, 384": {"n_layer": 4, "n_head": 6, "n_embd": 384},
        "8 layers, 768": {},
        "12 layers, 1024": {"n_layer": 12, "n_head": 16, "n_embd": 1024},
    },
    "paper": {
        "4 layers, 768": {"n_layer": 4},
        "8 layers, 768": {},
        "48 layers, 1600": {"n_layer": 48, "n_head": 25, "n_embd": 1600},
    },
}


def series(scale: str) -> dict[str, scaling.Series]:
    """One for each model."""
    published = dict(zip(_MODELS["paper"], (2.13, 2.26, 2.28), strict=True))
    return {
        name: scaling.one_series("twohop", scale, train=changes, published=published.get(name))
        for name, changes in _MODELS[scale].items()
    }


def find(numbers: Mapping) -> list[str]:
    """What holds for each model, and whether a larger one needs less data."""
    sentences, every = scaling.find(numbers), list(numbers["series"].values())
    small, *_, large = numbers["series"]
    if all(one["fit"] for one in every):
        gain = every[-1]["fit"]["high"] < every[0]["fit"]["low"]
        verdict = "falls clearly" if gain else "does not fall clearly"
        left_out = any(s["required"] is None for one in every for s in scaling.searches(one))
        if gain and (scaling.cut_off(numbers) or left_out):
            verdict = "falls, but not clearly so: some trials were cut off or searches left out"
        sentences.append(f"From {small} to {large} the exponent {verdict}.")
    if ratios := scaling.ratios(numbers, large, small):
        sentences.append(
            f"At equal size and seed, the largest model needs {np.mean(ratios):.2f} times the data "
            f"of the smallest (range {min(ratios):.2f} to {max(ratios):.2f})."
        )
    return sentences


CLAIM = scaling.claim("d", "parameter_scaling", TITLE, PUBLISHED, series=series, find=find)
