"""The settings of every analysis, each written once: its flag, help, default and check.

Commands make their parsers from these classes and hand the objects on whole; the standard library
is enough to read them, so that ``--help`` is instant.
"""

from __future__ import annotations

import argparse
import re
from dataclasses import dataclass
from pathlib import Path

from coverage_principle.circuits.metrics import LENS_READOUTS, METRICS
from coverage_principle.errors import InputError
from simpletransformers.settings import MOST_SEED, Settings, setting

#: How vectors are written: ``none`` for not at all.
VECTOR_FORMATS = ("npz", "safetensors", "none")

_PAIR = r"""\(\s*['"]?(\d+|logit|prob)['"]?\s*,\s*(\d+)\s*\)"""
_PAIRS = re.compile(rf"\[\s*{_PAIR}(?:\s*,\s*{_PAIR})*\s*,?\s*\]|{_PAIR}")


def layer_position_pairs(text: str) -> tuple[tuple[int | str, int], ...] | None:
    """``"[(3,1),(4,2)]"`` or ``"(3,1)"`` as pairs, ``"all"`` as None (for argparse).

    A layer is a number, ``logit`` or ``prob``. The text is matched, never evaluated.
    """
    if text.strip() == "all":
        return None
    if not _PAIRS.fullmatch(text.strip()):
        raise argparse.ArgumentTypeError(
            f'{text!r} is neither all nor a list of (layer,position) such as "[(3,1),(4,2)]"'
        )
    found = re.findall(_PAIR, text)
    return tuple((int(layer) if layer.isdigit() else layer, int(place)) for layer, place in found)


def numbered_pairs(text: str) -> tuple[tuple[int, int], ...] | None:
    """``layer_position_pairs`` whose layers are all numbers (for argparse)."""
    pairs = layer_position_pairs(text)
    if any(isinstance(layer, str) for layer, _ in pairs or ()):
        raise argparse.ArgumentTypeError(f"{text!r}: a (layer,position) here is two numbers")
    return pairs


def _pairs(parse):
    about = '"[(3,1)]": layer 3, second token; or all (default: all)'
    return setting(None, about, flag="layer_pos_pairs", parse=parse)


@dataclass(frozen=True, kw_only=True)
class AnalysisSettings(Settings):
    """What every analysis of a trained model is given; ``task`` is the only one taken, if given."""

    data_dir: Path | str | None = setting(
        None, "the data set, or a folder that holds it or data/; the run's own if not given"
    )
    device: str = setting("auto", "auto (CUDA if there is one), cpu, cuda, cuda:1 ...")
    batch_size: int = setting(4096, "items at a time", at_least=1)
    k_groups: str | None = setting(
        None,
        "k-cutoff groups of id_test, such as 1-2,3,4+; each for one group a k; none for none; if "
        "not given, 0-2,3+ where determine_coverage.py --k_sweep has annotated the data set",
    )
    max_items: int | None = setting(None, "at most so many items of each split", at_least=1)
    seed: int = setting(
        0, "of counterfactuals and bootstrap intervals", at_least=0, at_most=MOST_SEED
    )
    task: str | None = None


@dataclass(frozen=True, kw_only=True)
class SiteSettings(AnalysisSettings):
    """Analyses that look at any layer and position, of one item for each fragment or of all."""

    pairs: tuple[tuple[int | str, int], ...] | None = _pairs(numbered_pairs)
    every_item: bool = setting(False, "all items, not one for each fragment", flag="no_dedup")


@dataclass(frozen=True, kw_only=True)
class RunAnalysisSettings(AnalysisSettings):
    """Analyses of checkpoints of a run."""

    model_dir: Path | str = setting(help="a run folder, which holds checkpoints")
    step_list: tuple[str, ...] | None = setting(
        None, "checkpoints: 250, checkpoint-250 or final_checkpoint; all if not given"
    )
    save_dir: Path | str | None = setting(
        None, "where results go; a folder in circuit_analysis/ if not given"
    )


@dataclass(frozen=True, kw_only=True)
class TraceSettings(RunAnalysisSettings, SiteSettings):
    """Causal tracing; ``label`` stands for the family in the results' name, if given."""

    metric: str = setting("rank", "what is measured", flag="metric_type")
    family: str | None = setting(
        None, "which counterfactuals, such as diff_f2; list shows them; the first if not given"
    )
    stream: str = setting(
        "residual", "stream to patch: residual, post_attention, post_mlp or embedding", flag="mode"
    )
    out_of_domain: bool = setting(
        False, "also trace items whose own bridge call is unseen", flag="ood"
    )
    label: str | None = None

    def check(self) -> None:
        super().check()
        _refuse_unknown("metric", self.metric, METRICS)


@dataclass(frozen=True, kw_only=True)
class InterchangeSettings(RunAnalysisSettings):
    """Same-bridge interchange between the splits, which k-cutoff groups are no part of."""

    k_groups: str | None = setting("none", "has no effect here: whole splits are paired")
    group_by: str = setting("1", "the intermediate value that is kept, or its function's number")


@dataclass(frozen=True, kw_only=True)
class LensSettings(RunAnalysisSettings, SiteSettings):
    """Logit lens."""

    group_by: str = setting(
        "1", "one item is used for each fragment of this value; a name or a function's number"
    )
    readout: str = setting("reciprocal_rank", "what is printed and drawn; all are written")

    def check(self) -> None:
        super().check()
        _refuse_unknown("readout", self.readout, LENS_READOUTS)


@dataclass(frozen=True, kw_only=True)
class ClusterSettings(SiteSettings):
    """Cosine clustering; ``label`` stands for the grouping in the results' folder, if given."""

    ckpt: Path | str = setting(help="a checkpoint folder")
    pairs: tuple[tuple[int | str, int], ...] | None = _pairs(layer_position_pairs)
    save_dir: Path | str = setting("results/cosine_analysis", "where results go")
    group_by: str = setting(
        "1", 'values or slots, such as b or "b,x2", or the number of a function', metavar="KEYS"
    )
    stream: str = setting(
        "residual",
        "stream: residual, post_attention, post_mlp, embedding, logit or prob",
        flag="mode",
    )
    permutations: int = setting(200, "random labelings of the baseline", at_least=1)
    vectors: str = setting("npz", "format of the vectors", choices=VECTOR_FORMATS)
    published_files: bool = setting(
        False, "also write the published (layer,position)/step/*_dedup.json"
    )
    pca: bool = setting(
        False, "draw principal components of each of the given pairs, or of id_test's IICG peak"
    )
    overwrite: bool = setting(False, "replace results that are there")
    label: str | None = None

    def check(self) -> None:
        super().check()
        if self.pca and self.vectors != "npz":
            raise InputError("`pca` needs the vectors in vectors.npz; leave `vectors` at npz")


@dataclass(frozen=True, kw_only=True)
class ComponentSettings(Settings):
    """How vectors are projected and which groups of them are coloured."""

    reduce_dim: int | None = setting(
        None, "2: PNG and PDF; 3: HTML; both if not given", choices=(2, 3)
    )
    reduce_method: str = setting(
        "pca", "how vectors are projected; tsne needs scikit-learn", choices=("pca", "tsne")
    )
    pca_scope: str = setting(
        "global", "project all vectors, or only those drawn", choices=("global", "local")
    )
    pca_m: int = setting(5, "groups to colour", at_least=1)
    pca_n: int = setting(20, "smallest group to colour", at_least=1)
    seed: int = setting(
        0, "of intervals, baselines and sampled groups", at_least=0, at_most=MOST_SEED
    )


@dataclass(frozen=True, kw_only=True)
class MeasureSettings(ComponentSettings):
    """Measuring and drawing three files of vectors."""

    id_train_file: Path | str = setting(
        help="ID train: a published *_dedup.json, or a vectors.npz of a clustering command"
    )
    id_test_file: Path | str = setting(help="ID test: the same")
    ood_file: Path | str = setting(help="OOD: the same")
    output_dir: Path | str = setting(
        help='where results go; the path must name the site, such as "results/(3,1)/5000"'
    )
    permutations: int = setting(200, "random labelings of the baseline", at_least=1)
    overwrite: bool = setting(False, "replace results that are there")
    by_cutoff: bool = setting(
        False, "ID test is a k-cutoff group: results go to a folder named by it"
    )
    range_samples: bool = setting(False, "also write pairs of items sampled by their cosine")
    num_random_groups: int = setting(50, "groups to sample pairs from", at_least=1)
    save_plots: bool = setting(False, "draw histograms of cosines")
    pca_vis: bool = setting(False, "draw principal components")
    draw_only: bool = setting(
        False, "measure nothing: draw results that are there, with principal components"
    )


def _refuse_unknown(name: str, value: str, known) -> None:
    if value not in known:
        raise InputError(f"`{name}` {value} is not one of {', '.join(known)}")
