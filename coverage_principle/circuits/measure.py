"""Measuring files of vectors: the published statistics of three of them, and what figures show.

The published pipeline writes a JSON file of vectors (``*_dedup.json``) for every (layer, position)
and split, and a second command measures three such files. Ours measures while it extracts; these
files are for those who have some, or have tools that read them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from coverage_principle.circuits.settings import MeasureSettings
from coverage_principle.circuits.similarity import mean_cosine, measure_similarity, unit_vectors
from coverage_principle.circuits.states import Site
from coverage_principle.data import (
    Dataset,
    check_place,
    dump_json,
    looking_into,
    one_writer,
    read_arrays,
    read_json,
    sha256,
    write_json,
    write_together,
)
from coverage_principle.errors import InputError
from coverage_principle.reprs import one_line
from simpletransformers.words import counted

#: Edges of the histograms' bins.
BINS = np.linspace(-1, 1, 101)
#: Rows of cosines that are held at once.
_ROWS = 1024
_SITE = re.compile(r"\((\d+|logit|prob),\s*(\d+)\)")
#: The three files of a measurement, by the names of our splits.
THREE = {"id_train": "ID Train", "id_test": "ID Test", "ood": "OOD"}
#: Levels of the published detailed grouping by their number of groups.
_LEVELS = {2: ("low_cutoff", "high_cutoff"), 3: ("low_cutoff", "mid_cutoff", "high_cutoff")}


@dataclass(frozen=True)
class Vectors:
    """Grouped vectors of one split at one site: ``vectors`` (n, width), ``groups`` (n,) str,
    ``texts`` (n,) the inputs as text."""

    vectors: np.ndarray
    groups: np.ndarray
    texts: list[str]

    __repr__ = one_line


@dataclass(frozen=True)
class Measured:
    """Three files of vectors: the ``(layer, position)`` that they are of, where results go, the
    vectors by split, and the ``cosine_report``."""

    site: tuple[str, str]
    folder: Path
    parts: dict[str, Vectors]
    report: dict[str, dict]

    __repr__ = one_line


def run_measure(settings: MeasureSettings) -> Measured:
    """Measure three files of vectors and write ``metrics_results.json`` (last) and the text file.

    With ``range_samples`` also ``range_samples_layerL.json``; with ``draw_only`` nothing is
    measured or written, and the report is read. ``InputError`` for what does not exist, and for
    results that are there and not to be replaced.
    """
    site = site_in(settings.output_dir)
    files = {split: Path(getattr(settings, f"{split}_file")) for split in THREE}
    parts = read_three(files, site)
    made_from = {split: sha256(file) for split, file in files.items()}
    folder = Path(settings.output_dir)
    if settings.by_cutoff:  # low_cutoff of id_test_covered_low_cutoff_dedup.json
        stem = Path(settings.id_test_file).stem.removesuffix("_dedup")
        folder = folder / stem.removeprefix("id_test_covered_")
    target = check_place(folder / "metrics_results.json")
    if settings.pca_vis or settings.draw_only:
        check_groups(parts, settings.pca_n)
    if settings.draw_only:
        if not target.exists():
            advice = "run measure_cossim.py with the same files and folder first"
            raise InputError(f"`output_dir` {folder} has no metrics_results.json; {advice}")
        report = read_json(target, dict)
        if report.get("made_from", made_from) != made_from:
            advice = "measure again, with `overwrite` in place of `draw_only`"
            raise InputError(f"{target} was measured from other files; {advice}")
        return Measured(site, folder, parts, report)
    with one_writer(folder, "measuring"):
        if target.exists() and not settings.overwrite:
            raise InputError(f"{target} exists already; give `overwrite` or another `output_dir`")
        (layer, position), seed = site, settings.seed
        report = cosine_report(parts, permutations=settings.permutations, seed=seed)
        report["made_from"] = made_from
        measured = Measured(site, folder, parts, report)
        written = {folder / f"similarity_metrics_layer{layer}.txt": cosine_text(measured)}
        if settings.range_samples:
            meta = {"layer": layer, "position": position, "seed": seed}
            options = {"groups": settings.num_random_groups, "seed": seed}
            found = {name: range_samples(part, **options) for name, part in parts.items()}
            samples = dump_json({"meta": meta, "bridgings": found})
            written[folder / f"range_samples_layer{layer}.json"] = samples
        write_together({**written, target: dump_json(report)})
    return measured


def write_dedup_files(
    parent: Path,
    checkpoint: str,
    dataset: Dataset,
    sites: Sequence[Site],
    splits: Sequence[str],
    arrays: Mapping[str, np.ndarray],
) -> None:
    """Write ``<parent>/(<layer>,<position>)/<step>/<split>_dedup.json`` for sites and splits.

    ``arrays`` are those of ``cluster_states``. As published, layer L of the residual stream is the
    state after the final norm, and vectors stand under ``post_mlp`` whatever the stream.
    """
    normed = {(site.layer, site.position) for site in sites if site.after_ln_f}
    groups = [name for name in splits if "=" in name]
    for site in sites:
        if (site.layer, site.position) in normed and not site.after_ln_f:
            continue
        folder = parent / f"({site.layer},{site.position})" / checkpoint.removeprefix("checkpoint-")
        for name in splits:
            content: dict[str, list] = {}
            for row in np.flatnonzero(arrays[f"member/{name}"]):
                record = dataset.test.records[arrays["test_rows"][row]]
                key, vector = str(arrays["groups"][row]), arrays[f"state/{site.key}"][row].tolist()
                state = {"layer": site.layer, "position": site.position}
                state |= {"post_attention": None, "post_mlp": vector}
                texts = {text: record[text] for text in ("input_text", "target_text", "type")}
                entry = {**texts, "identified_target": key, "hidden_states": [state]}
                content.setdefault(key, []).append(entry)
            if name in groups:
                levels = _LEVELS.get(len(groups))
                level = levels[groups.index(name)] if levels else name.split("=")[1]
                name = f"id_test_covered_{level}"
            write_json(folder / f"{name}_dedup.json", content)


def as_bytes(texts: Sequence[str]) -> np.ndarray:
    """Texts as an array (n, longest) of UTF-8 bytes, zeros at the end: what any format can hold."""
    encoded = np.array([text.encode() for text in texts], dtype=bytes)
    return encoded.view(np.uint8).reshape(len(texts), -1)


def site_in(text: str | Path) -> tuple[str, str]:
    """The one ``(layer,position)`` that a path names; ``InputError`` for none or several."""
    found = _SITE.findall(str(text))
    if len(found) != 1:
        example = "results/(3,1)/final_checkpoint"
        raise InputError(f"`output_dir` {text} must name the site once, such as {example}")
    return found[0]


def read_vectors(file: str | Path, split: str, site: tuple[str, str], name: str) -> Vectors:
    """Vectors of a ``*_dedup.json``, or of ``split`` and ``site`` in a ``vectors.npz`` of ours.

    ``InputError`` names the setting ``name``, the file and what is missing in it.
    """
    file = Path(file)
    if not file.is_file():
        raise InputError(f"`{name}` {file} does not exist or is a folder")
    if file.suffix == ".npz":
        return _from_arrays(file, split, site, name)
    content = read_json(file)
    vectors, groups, texts = [], [], []
    with looking_into(file, "a file of vectors (groups of records with hidden_states)"):
        for group, record in ((group, r) for group, records in content.items() for r in records):
            state = next((s for s in record["hidden_states"] if s.get("post_mlp")), None)
            if state is not None:  # the published extractor left errors in the file
                vectors.append(state["post_mlp"])
                groups.append(group)
                texts.append(record["input_text"])
        stacked = np.array(vectors, dtype=np.float32).reshape(len(vectors), -1)
    return Vectors(stacked, np.array(groups, dtype=str), texts)


def shared_groups(parts: Mapping[str, Vectors], members: int) -> list[str]:
    """The groups that have at least ``members`` vectors in every part."""
    counted = [np.unique(part.groups, return_counts=True) for part in parts.values()]
    enough = [set(labels[sizes >= members].tolist()) for labels, sizes in counted]
    shared = set.intersection(*enough) if enough else ()
    return sorted(shared, key=lambda name: (len(name), name))


def check_groups(parts: Mapping[str, Vectors], members: int) -> None:
    """``InputError`` if no group has ``members`` vectors in every part that has vectors."""
    held = {name: part for name, part in parts.items() if len(part.vectors)}
    if not shared_groups(held, members):
        least = f"`pca_n` {members} vectors in each of {', '.join(held) or 'the files'}"
        raise InputError(f"there is no group to colour: none has at least {least}")


def read_three(files: Mapping[str, str | Path], site: tuple[str, str]) -> dict[str, Vectors]:
    """Vectors of the splits ``id_train``, ``id_test`` and ``ood``, from a file for each.

    One ``vectors.npz`` of ours may stand for all three.
    """
    parts = {
        split: read_vectors(file, split, site, f"{split}_file") for split, file in files.items()
    }
    for split, part in parts.items():
        if not np.isfinite(part.vectors).all():
            raise InputError(f"`{split}_file` {files[split]} holds vectors that are not finite")
    widths = {part.vectors.shape[1] for part in parts.values() if len(part.vectors)}
    if len(widths) > 1:
        raise InputError(
            f"the three files hold vectors of different widths ({', '.join(map(str, widths))}): "
            "they are not of one site of one model"
        )
    return parts


def _from_arrays(file: Path, split: str, site: tuple[str, str], name: str) -> Vectors:
    arrays, (layer, position) = read_arrays(file), site
    keys = [key for key in arrays if key.startswith("state/")]
    wanted = [f"state/layer{layer}_ln_f_pos{position}", f"state/layer{layer}_pos{position}"]
    if not layer.isdigit():
        wanted = [key for key in keys if key.endswith(f"_pos{position}")]
    key = next((key for key in wanted if key in keys), None)
    members = [name for name in arrays if name.startswith("member/")]
    if key is None or f"member/{split}" not in members:
        sites, splits = (", ".join(n.split("/", 1)[1] for n in ns) for ns in (keys, members))
        held = f"it has {sites} of {splits}"
        raise InputError(f"`{name}` {file} has no ({layer},{position}) of {split}; {held}")
    with looking_into(file, "a file of vectors"):
        chosen = np.flatnonzero(arrays[f"member/{split}"])
        groups = arrays["groups"][chosen].astype(str)
        vectors = arrays[key][chosen].astype(np.float32).reshape(len(chosen), -1)
        if "texts" in arrays:
            texts = [bytes(row).rstrip(b"\0").decode() for row in arrays["texts"][chosen]]
        else:  # of an earlier version, which knew these tokens only
            texts = ["".join(f"<t_{v}>" for v in row) for row in arrays["inputs"][chosen].tolist()]
        return Vectors(vectors, groups, texts)


def cosine_report(
    parts: Mapping[str, Vectors], *, permutations: int = 200, seed: int = 0
) -> dict[str, dict]:
    """The published statistics of ``id_train``, ``id_test`` and ``ood``, plus IICG.

    For each split ``within_sim``, ``between_sim`` (centroids), ``between_allvec_sim``,
    ``all_sim``, what ``measure_similarity`` returns, and ``histograms`` in place of the published
    lists of every pair; ``bins`` are their edges. ``cross_category``: mean cosine of the centroids
    of shared groups (``id_train_test_sim``), and of the OOD mean of centroids with each train or
    test centroid. None where there is nothing to compare.
    """
    report: dict[str, dict] = {}
    for name, part in parts.items():
        rng = np.random.default_rng(seed)
        found = measure_similarity(part.vectors, part.groups, rng=rng, permutations=permutations)
        counts = cosine_histograms(part.vectors, part.groups) if len(part.vectors) else {}
        report[name] = {
            "within_sim": found["within"],
            "between_sim": found["between_centroid"],
            "between_allvec_sim": found["between_all"],
            "all_sim": mean_cosine(part.vectors),
            **found,
            "histograms": {key: values.tolist() for key, values in counts.items()},
        }
    centres = {name: _centroids(part) for name, part in parts.items()}
    train, test, ood = (centres[name] for name in THREE)
    shared = [(train[group], test[group]) for group in train if group in test]
    outside = np.mean(list(ood.values()), axis=0) if ood else None
    cross = report["cross_category"] = {"id_train_test_sim": _mean(_cosines(shared))}
    for name, side in (("id_train", train), ("id_test", test)):
        pairs = [] if outside is None else [(centre, outside) for centre in side.values()]
        cross[f"{name}_ood_sims"] = _cosines(pairs)
        cross[f"{name}_ood_sim"] = _mean(cross[f"{name}_ood_sims"])
    report["bins"] = BINS.round(6).tolist()
    return report


def cosine_text(measured: Measured) -> str:
    """The published text file: four decimals, a section for each split."""
    report, (layer, position) = measured.report, measured.site

    def show(value: float | None) -> str:
        return "n/a" if value is None else f"{value:.4f}"

    lines = [f"Layer {layer}, position {position}"]
    names = {
        "within_sim": "Within-group similarity",
        "between_sim": "Between-group similarity (centroids)",
        "between_allvec_sim": "Between-group similarity (all vectors)",
        "all_sim": "All pairs",
        "iicg": "IICG (within - between all vectors)",
    }
    for split, heading in THREE.items():
        part = report[split]
        lines += [
            "",
            heading,
            f"  {counted(part['n_vectors'], 'vector')} in {counted(part['n_groups'], 'group')}",
        ]
        lines += [f"  {label}: {show(part.get(key))}" for key, label in names.items()]
        dealt = part.get("iicg_permuted") or {}
        for label, ends in (
            ("95 % interval, percentile bootstrap over groups", part.get("iicg_interval")),
            ("of random groups, the middle 95 %", dealt.get("interval")),
        ):
            if ends:
                lines.append(f"    {label}: {show(ends[0])} to {show(ends[1])}")
    lines += ["", "Cross-Category"]
    cross = report["cross_category"]
    lines += [f"  {key}: {show(cross[key])}" for key in cross if key.endswith("_sim")]
    return "\n".join(lines) + "\n"


#: Cosines that ``range_samples`` looks for, and how many mates it lists of each.
RANGES = ((-0.05, 0.05), (0.90, 1.00))
_LISTED = 30


def range_samples(part: Vectors, *, groups: int, seed: int = 0) -> list[dict]:
    """For up to ``groups`` random groups a reference and its mates by cosine, as published.

    Each entry has ``bridging_key``, ``reference_instance`` (its input as text) and ``samples``: for
    each of ``RANGES`` the ``count`` of mates with a cosine in it, and up to 30 ``items``.
    """
    rng = np.random.default_rng(seed)
    labels, counts = np.unique(part.groups, return_counts=True)
    labels = rng.permutation(labels[counts > 1])[:groups]
    found = []
    for label in sorted(labels.tolist()):
        rows = rng.permutation(np.flatnonzero(part.groups == label))
        unit = unit_vectors(part.vectors[rows])
        cosines = unit[1:] @ unit[0]
        samples = []
        for low, high in RANGES:
            inside = np.flatnonzero((cosines >= low) & (cosines <= high + 1e-6))
            mates = [(float(cosines[i]), part.texts[rows[1 + i]]) for i in inside[:_LISTED]]
            items = [{"cos": cosine, "input_text": text} for cosine, text in mates]
            samples.append({"range": [low, high], "count": len(inside), "items": items})
        reference = part.texts[rows[0]]
        found.append({"bridging_key": label, "reference_instance": reference, "samples": samples})
    return found


def _centroids(part: Vectors) -> dict[str, np.ndarray]:
    return {
        group: part.vectors[part.groups == group].mean(axis=0)
        for group in np.unique(part.groups).tolist()
    }


def _cosines(pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> list[float]:
    if not pairs:
        return []
    left, right = np.stack(pairs, axis=1).astype(np.float64)
    return (unit_vectors(left) * unit_vectors(right)).sum(axis=1).tolist()


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if len(values) else None


def principal_components(vectors: np.ndarray, count: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates ``(n, count)`` on the first principal components, and their variance shares.

    Components that the vectors do not have are zero. Signs are fixed: the largest loading of each
    component is positive, so the same vectors give the same picture everywhere.
    """
    vectors = np.asarray(vectors, dtype=np.float64)
    centred = vectors - vectors.mean(axis=0)
    variances, axes = np.linalg.eigh(centred.T @ centred)
    order = np.argsort(variances)[::-1][:count]
    axes = axes[:, order]
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])])
    coordinates, shares = np.zeros((len(vectors), count)), np.zeros(count)
    coordinates[:, : axes.shape[1]] = centred @ axes
    if (total := variances.sum()) > 0:
        shares[: len(order)] = np.clip(variances[order], 0, None) / total
    return coordinates, shares


def cosine_histograms(vectors: np.ndarray, groups: np.ndarray) -> Mapping[str, np.ndarray]:
    """How many pairs have a cosine in each bin of ``BINS``; (100,) int64 each.

    ``within`` (pairs inside a group), ``between_all`` (pairs of different groups) and
    ``between_centroid`` (pairs of group means). Every pair is counted.
    """
    labels, index = np.unique(groups, return_inverse=True)
    centroids = np.stack([vectors[index == i].mean(axis=0) for i in range(len(labels))])
    within, every = _histograms(vectors, index)
    _, centres = _histograms(centroids, np.arange(len(labels)))
    return {"within": within, "between_all": every - within, "between_centroid": centres}


def _histograms(vectors, index) -> tuple[np.ndarray, np.ndarray]:
    """Histograms over unordered pairs: of the same index, and of all."""
    unit = unit_vectors(np.asarray(vectors, dtype=np.float32))
    same, every = (np.zeros(len(BINS) - 1, dtype=np.int64) for _ in range(2))
    for begin in range(0, len(unit), _ROWS):
        block = unit[begin : begin + _ROWS]
        cosines = block @ unit[begin:].T
        upper = np.triu(np.ones(cosines.shape, dtype=bool), k=1)
        places = np.clip(((cosines + 1) * (len(every) / 2)).astype(np.int64), 0, len(every) - 1)
        every += np.bincount(places[upper], minlength=len(every))
        alike = upper & (index[begin : begin + _ROWS, None] == index[None, begin:])
        same += np.bincount(places[alike], minlength=len(every))
    return same, every
