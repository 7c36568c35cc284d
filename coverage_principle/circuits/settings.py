"""The settings of every analysis, each written once: its flag, help, default and check.

Commands make their parsers from these classes and hand the objects on whole; the standard library
is enough to read them, so that ``--help`` is instant.
"""

from __future__ import annotations

import argparse
import re
from dataclasses import dataclass
from pathlib import Path

from coverage_principle.circuits.metrics import LENS_READOUTS, METRICS, PROBE_READOUTS
from coverage_principle.cli import words
from coverage_principle.errors import InputError
from simpletransformers.settings import MOST_SEED, Settings, setting

#: How vectors are written: ``none`` for not at all.
VECTOR_FORMATS = ("npz", "safetensors", "none")
#: Subspaces of which an interchange is made, and where the random ones beside them come from.
SUBSPACES = ("means", "probe", "rotation")
DRAWN_FROM = ("space", "states")

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
    about = (
        'layers and positions. "[(3,1)]": layer 3, second token, counted from 0; layer 0 is the '
    )
    about += "embedding (default: all)"
    how = {"parse": parse, "metavar": "PAIRS", "group": "measured"}
    return setting(None, about, flag="layer_pos_pairs", **how)


@dataclass(frozen=True, kw_only=True)
class AnalysisSettings(Settings):
    """What every analysis of a trained model is given; ``task`` is the only one taken, if given.

    One of ``model_dir`` and ``ckpt`` names the model (``checkpoints.find_checkpoints``).
    """

    model_dir: Path | str | None = setting(
        None, "a run's folder: all of its checkpoints, or those of `step_list`", group="run"
    )
    ckpt: Path | str | None = setting(None, "one checkpoint's folder", metavar="DIR", group="run")
    step_list: tuple[str, ...] | None = setting(
        None,
        "checkpoints of the run: 250, checkpoint-250 or final_checkpoint (default: all)",
        parse=words,
        metavar="STEP",
        group="run",
    )
    eval_loops: int | None = setting(
        None,
        "run the stack of blocks so often, instead of as often as in training",
        at_least=1,
        at_most=1000,
        group="run",
    )
    trust_code: bool = setting(
        False,
        "run the model file that the checkpoint holds; read it first, as it can do anything",
        group="run",
    )
    data_dir: Path | str | None = setting(
        None,
        "the data set, or a folder that holds it or data/ (default: what the run was trained on)",
        group="items",
    )
    token_map: Path | str | None = setting(
        None,
        "of a checkpoint trained elsewhere: a JSON object from the data set's tokens to the "
        "model's, ids or texts",
        metavar="FILE",
        group="run",
    )
    device: str = setting(
        "auto", "auto (CUDA if there is one), cpu, cuda, cuda:1 ...", group="devices"
    )
    batch_size: int = setting(4096, "items at a time", at_least=1, group="devices")
    k_groups: str | None = setting(
        None,
        "look at id_test by k-cutoff (how firmly training covers an item) as well, in groups such "
        "as 1-2,3,4+; each: a group for every k; none: no groups (default: 0-2,3+ once "
        "determine_coverage.py --k_sweep has annotated the data set)",
        metavar="GROUPS",
        group="items",
    )
    max_items: int | None = setting(
        None, "at most so many items of each kind (default: all)", at_least=1, group="items"
    )
    seed: int = setting(
        0,
        "of all that is drawn at random: counterfactuals, folds, baselines, bootstrap samples",
        at_least=0,
        at_most=MOST_SEED,
        metavar="SEED",
        group="measured",
    )
    task: str | None = None


@dataclass(frozen=True, kw_only=True)
class SiteSettings(AnalysisSettings):
    """Analyses that look at any layer and position, of one item for each fragment or of all."""

    pairs: tuple[tuple[int | str, int], ...] | None = _pairs(numbered_pairs)
    every_item: bool = setting(
        False,
        "all items, not one for each fragment (the inputs that determine the value looked at)",
        flag="no_dedup",
        group="items",
    )


@dataclass(frozen=True, kw_only=True)
class RunAnalysisSettings(AnalysisSettings):
    """Analyses that write one file of all checkpoints."""

    save_dir: Path | str | None = setting(
        None, "where results go (default: a folder in circuit_analysis/)", group="written"
    )


@dataclass(frozen=True, kw_only=True)
class FamilySettings(RunAnalysisSettings, SiteSettings):
    """Analyses that move states of a counterfactual's run into an item's own."""

    metric: str = setting("rank", "what is measured", flag="metric_type", group="measured")
    family: str | None = setting(
        None,
        "which counterfactuals, such as diff_f2, whose f2 has another value; list: only show which "
        "there are (default: the first)",
        metavar="NAME",
        group="measured",
    )
    out_of_domain: bool = setting(
        False,
        "also trace items (ood) that need a fact, of the bridge's function, which training never "
        "shows",
        flag="ood",
        group="items",
    )

    def check(self) -> None:
        super().check()
        _refuse_unknown("metric", self.metric, METRICS)


@dataclass(frozen=True, kw_only=True)
class TraceSettings(FamilySettings):
    """Causal tracing; ``label`` stands for the family in the results' name, if given."""

    stream: str = setting(
        "residual",
        "which states are patched. residual: after a layer; post_attention: before its MLP; "
        "post_mlp: the MLP's output; embedding: the token's",
        flag="mode",
        metavar="STREAM",
        group="measured",
    )
    label: str | None = None


@dataclass(frozen=True, kw_only=True)
class HeadSettings(FamilySettings):
    """Patching of single heads, and its estimates from gradients."""

    metric: str = setting("logit", "what is measured", flag="metric_type", group="measured")
    attribution_only: bool = setting(
        False,
        "patch nothing: estimates from gradients alone, for models too large to patch every head",
        group="measured",
    )

    def check(self) -> None:
        super().check()
        if self.attribution_only and self.metric != "logit":
            held = f"`attribution_only` estimates logits, and `metric` is {self.metric}"
            raise InputError(f"{held}; leave it at logit")


@dataclass(frozen=True, kw_only=True)
class SubspaceSettings(FamilySettings):
    """Interchange of a subspace: which, and how it is learned."""

    subspace: str = setting(
        "means",
        "which directions are moved. means: in which the means of states with different values "
        "differ; probe: those that a linear probe of the value reads; rotation: learned so that "
        "moving them moves the answer (distributed alignment search), where moving the whole "
        "state does",
        choices=SUBSPACES,
        group="measured",
    )
    rank: int | None = setting(
        None,
        "at most so many directions (default: one less than there are values)",
        at_least=1,
        group="measured",
    )
    folds: int = setting(
        3,
        "parts of the fragments; the subspace that is tested in one is learned in the others",
        at_least=3,
        group="measured",
    )
    steps: int = setting(100, "of learning a rotation", at_least=1, group="measured")
    drawn_from: str = setting(
        "space",
        "the random subspaces beside it. space: of all directions alike; states: as the states are "
        "spread",
        choices=DRAWN_FROM,
        group="measured",
    )


@dataclass(frozen=True, kw_only=True)
class InterchangeSettings(RunAnalysisSettings):
    """Same-bridge interchange between the splits, which k-cutoff groups are no part of."""

    k_groups: str | None = setting(
        "none", "has no effect here: whole splits are paired", group="kept"
    )
    group_by: str = setting(
        "1",
        "the intermediate value that is kept, such as b, or its function's number",
        metavar="KEYS",
        group="measured",
    )


@dataclass(frozen=True, kw_only=True)
class LensSettings(RunAnalysisSettings, SiteSettings):
    """Logit lens, and beside it the tuned lens if asked for."""

    group_by: str = setting(
        "1",
        "one item is used for each fragment of this value, such as b; or a function's number",
        metavar="KEYS",
        group="items",
    )
    readout: str = setting(
        "reciprocal_rank", "what is printed and drawn; all are written", group="measured"
    )
    tuned: bool = setting(
        False,
        "also the tuned lens: before a state is read, an affine map of its layer, trained on the "
        "training items to make the model's own output of it",
        group="measured",
    )

    def check(self) -> None:
        super().check()
        _refuse_unknown("readout", self.readout, LENS_READOUTS)


@dataclass(frozen=True, kw_only=True)
class ProbeSettings(RunAnalysisSettings, SiteSettings):
    """Linear probes."""

    values: tuple[str, ...] | None = setting(
        None,
        "what is probed for: intermediate values, the answer or input slots, such as b,t,x1 "
        "(default: every intermediate value and the answer)",
        parse=words,
        metavar="VALUE",
        group="measured",
    )
    max_items: int | None = setting(
        5000, "at most so many items of each kind", at_least=1, group="items"
    )
    folds: int = setting(
        5,
        "parts of the training items. A probe is trained on all parts but one and tested on that "
        "one, which shares no fragment (the inputs that determine the value) with the others",
        at_least=3,
        at_most=100,
        group="measured",
    )
    permutations: int = setting(
        2,
        "probes of values dealt out at random, which accuracies are compared with",
        at_least=1,
        at_most=100,
        group="measured",
    )
    readout: str = setting(
        "accuracy", "what is printed and drawn; all are written", group="measured"
    )

    def check(self) -> None:
        super().check()
        _refuse_unknown("readout", self.readout, PROBE_READOUTS)


@dataclass(frozen=True, kw_only=True)
class ClusterSettings(SiteSettings):
    """Cosine clustering; ``label`` stands for the grouping in the results' folder, if given."""

    pairs: tuple[tuple[int | str, int], ...] | None = _pairs(layer_position_pairs)
    save_dir: Path | str = setting("results/cosine_analysis", "where results go", group="written")
    group_by: str = setting(
        "1",
        'values or slots, such as b or "b,x2", or the number of a function',
        metavar="KEYS",
        group="measured",
    )
    stream: str = setting(
        "residual",
        "which states. residual: after a layer; post_attention: before its MLP; post_mlp: the "
        "MLP's output; embedding: the token's; logit, prob: the model's output",
        flag="mode",
        metavar="STREAM",
        group="measured",
    )
    permutations: int = setting(
        200, "random groupings that the IICG is compared with", at_least=1, group="measured"
    )
    vectors: str = setting("npz", "format of the vectors", choices=VECTOR_FORMATS, group="written")
    published_files: bool = setting(
        False, "also write the published (layer,position)/step/*_dedup.json", group="written"
    )
    pca: bool = setting(
        False,
        "draw principal components, of each of the given layers and positions, or of the one with "
        "the largest IICG of id_test",
        group="drawn",
    )
    overwrite: bool = setting(False, "replace results that are there", group="written")
    label: str | None = None

    def check(self) -> None:
        super().check()
        if self.pca and self.vectors != "npz":
            raise InputError("`pca` needs the vectors in vectors.npz; leave `vectors` at npz")


@dataclass(frozen=True, kw_only=True)
class ComponentSettings(Settings):
    """How vectors are projected and which groups of them are coloured."""

    reduce_dim: int | None = setting(
        None, "2: PNG and PDF; 3: HTML (default: both)", choices=(2, 3), group="drawn"
    )
    reduce_method: str = setting(
        "pca",
        "how vectors are projected; tsne needs scikit-learn",
        choices=("pca", "tsne"),
        group="drawn",
    )
    pca_scope: str = setting(
        "global",
        "the projection is that of all vectors, or of only those drawn",
        choices=("global", "local"),
        group="drawn",
    )
    pca_m: int = setting(5, "groups to colour", at_least=1, group="drawn")
    pca_n: int = setting(20, "vectors that such a group has at least", at_least=1, group="drawn")
    seed: int = setting(
        0,
        "of intervals, baselines and sampled groups",
        at_least=0,
        at_most=MOST_SEED,
        metavar="SEED",
        group="measured",
    )


@dataclass(frozen=True, kw_only=True)
class MeasureSettings(ComponentSettings):
    """Measuring and drawing three files of vectors."""

    id_train_file: Path | str = setting(
        help="vectors of training items: a published *_dedup.json, or a vectors.npz of a "
        "clustering command",
        group="source",
    )
    id_test_file: Path | str = setting(
        help="the same of test items of type_0 (new compositions of facts that training shows)",
        group="source",
    )
    ood_file: Path | str = setting(
        help="the same of items with a fact that training never shows", group="source"
    )
    output_dir: Path | str = setting(
        help="where results go; the path must name layer and position, such as "
        '"results/(3,1)/5000"',
        group="written",
    )
    permutations: int = setting(
        200, "random groupings that the IICG is compared with", at_least=1, group="measured"
    )
    overwrite: bool = setting(False, "replace results that are there", group="written")
    by_cutoff: bool = setting(
        False,
        "ID test is a k-cutoff group: results go to a folder named by it",
        group="written",
    )
    range_samples: bool = setting(
        False, "also write pairs of items sampled by their cosine", group="written"
    )
    num_random_groups: int = setting(
        50, "groups to sample pairs from", at_least=1, group="measured"
    )
    save_plots: bool = setting(False, "draw histograms of cosines", group="drawn")
    pca_vis: bool = setting(False, "draw principal components", group="drawn")
    draw_only: bool = setting(
        False,
        "measure nothing: draw results that are there, with principal components",
        group="drawn",
    )


def _refuse_unknown(name: str, value: str, known) -> None:
    if value not in known:
        raise InputError(f"`{name}` {value} is not one of {', '.join(known)}")
