"""The stages of a run: a table of the commands that the engine runs, in their order.

All that the engine knows of a command follows from its entry here; docs/extending.md adds one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from coverage_principle.data import looking_into, read_json
from coverage_principle.paths import repository_root

#: The sections of a run's settings, in the order in which they are run.
SECTIONS = ("data", "coverage", "train", "evaluate", "analyse")


@dataclass(frozen=True)
class Stage:
    """One command of a run, for a section of its settings (``analyse``: the entry ``name``).

    ``script`` and ``words`` (arguments, with the section's own in the place of ``{flags}``) may
    name ``{task}``, and the folders ``{shared}`` (data set and coverage), ``{data}`` (the data set
    itself), ``{folder}`` (the run's), ``{model}`` and ``{final}`` (its last checkpoint).
    ``output`` is a pattern below the folder that the stage works in; what matches it is there once
    the stage is done. ``defaults`` are flags that a spec may change, ``omit`` those with which the
    command does something else than the stage's work, ``as_in_train`` those that it
    takes from the training. ``result`` reads what the run's record is to say of the stage, from the
    folder that it works in.
    """

    name: str
    section: str
    script: str
    words: str
    output: str
    defaults: Mapping[str, object] = field(default_factory=dict)
    as_in_train: tuple[str, ...] = ()
    omit: tuple[str, ...] = ()
    result: Callable[[Path], dict[str, object]] = lambda _: {}

    @property
    def shared(self) -> bool:
        """Whether runs with the same data and coverage share it: it is made once for all."""
        return self.section in ("data", "coverage")

    @property
    def taken(self) -> set[str]:
        """The flags that the engine sets, so that a spec may not."""
        return {word[2:] for word in self.words.split() if word.startswith("--")}

    def outputs(self, folder: Path) -> list[Path]:
        """What the stage has left in the folder that it works in, sorted."""
        return sorted(folder.glob(self.output))


def dataset_in(shared: Path) -> Path:
    """The data set in a shared folder; before it is there, the folder that will hold it."""
    found = sorted(path.parent for path in (shared / "data").glob("[!.]*/metadata.json"))
    return found[0] if found else shared / "data"


def _of_data(folder: Path) -> dict[str, object]:
    data = dataset_in(folder)
    file = data / "metadata.json"
    metadata = read_json(file, dict)
    with looking_into(file, "the metadata of a data set"):
        return {"dataset": data.name, **{key: metadata[key] for key in ("counts", "compositions")}}


def _of_coverage(folder: Path) -> dict[str, object]:
    from coverage_principle.data import ANNOTATED

    sweeps = sorted((folder / "k_sweep_results").glob("*.json"))
    annotated = (dataset_in(folder) / ANNOTATED).exists()
    if not sweeps:
        return {"k_sweep": None, "annotated": annotated}
    sweep = read_json(sweeps[0], dict)
    with looking_into(sweeps[0], "a k-sweep"):
        [int(k) + covered + not_covered for k, (covered, not_covered) in sweep.items()]
    return {"k_sweep": sweep, "annotated": annotated}


def _of_training(folder: Path) -> dict[str, object]:
    from simpletransformers.seq2seq.run_folder import SETTINGS, RunFolder

    run = RunFolder(folder / "model")
    last, settings = run.evaluations()[-1], run.settings()
    record = {"steps": last["step"], "epochs": last["epoch"], "train_loss": last["train_loss"]}
    record |= {"scores": last["eval"]}
    with looking_into(run.path / SETTINGS, "the record of a run"):
        record |= {key: settings[key] for key in ("parameters", "device", "versions")}
        record |= {"answers": settings["dataset"]["answers"]} if "dataset" in settings else {}
    return record | ({"valid": last["valid"]} if "valid" in last else {})


def _analysis(name: str, model: str, output: str = "*.json", **more: object) -> Stage:
    script = f"circuit_analysis/{name}.py"
    words = f"{model} --data_dir {{data}} --save_dir {{folder}}/{name} {{flags}}"
    return Stage(name, "analyse", script, words, f"{name}/**/{output}", **more)


_RUN = "--model_dir {model} --step_list final_checkpoint"
_ALL_STATES = {"layer_pos_pairs": "all", "mode": "residual", "no_vectors": True}
_NEW_GPT2 = {"model_name_or_path": "gpt2", "init_weights": True, "add_tokens": True}

#: Every stage by name, in the order in which they are run.
STAGES = {
    stage.name: stage
    for stage in (
        Stage(
            "generate",
            "data",
            "dataset_generation/{task}.py",
            "{flags} --output_dir {shared}/data --overwrite",
            "data/[!.]*/metadata.json",
            result=_of_data,
        ),
        Stage(
            "coverage",
            "coverage",
            "determine_coverage.py",
            "--data_dir {data} {flags} --output_dir {shared}/k_sweep_results",
            "data/[!.]*/test_annotated*.json",
            omit=("suggest", "explain", "cut"),
            result=_of_coverage,
        ),
        Stage(
            "train",
            "train",
            "main.py",
            "--data_dir {data} --output_dir {model} --do_train --resume --overwrite_output_dir "
            "{flags}",
            "model/final_checkpoint",
            {**_NEW_GPT2, "evaluate_during_training": True},
            result=_of_training,
        ),
        Stage(
            "evaluate",
            "evaluate",
            "main.py",
            "--data_dir {data} --model_name_or_path {final} --do_predict "
            "--prediction_dir {folder} {flags}",
            "all_items.json",
            as_in_train=("device",),
        ),
        _analysis("cluster", f"{_RUN} --overwrite", "metrics.json", defaults=_ALL_STATES),
        _analysis("heads", _RUN),
        _analysis("interchange", _RUN),
        _analysis("lens", _RUN),
        _analysis("probe", _RUN),
        _analysis("subspace", _RUN),
        _analysis("trace", _RUN),
    )
    if "{" in stage.script or (repository_root() / stage.script).exists()
}


def analyses() -> list[str]:
    """The stages that ``analyse`` may name."""
    return [stage.name for stage in STAGES.values() if stage.section == "analyse"]
