"""What the commands of the claims ask for; needs the standard library only."""

from __future__ import annotations

from dataclasses import dataclass

from coverage_principle.presets import SCALES
from simpletransformers.settings import Settings, setting


@dataclass(frozen=True)
class ClaimSettings(Settings):
    """At which scale a claim is looked into, and where."""

    scale: str = setting(
        "cpu",
        "tiny: only shows that it runs; cpu: minutes; gpu: hours on one GPU; paper: as published",
        choices=SCALES,
    )
    output_dir: str | None = setting(
        None,
        "where runs and results go (default: results/reproduce/SCALE); claims there share runs",
    )
