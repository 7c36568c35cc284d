"""Which unseen test items a training set covers, and how firmly.

A fragment is a part of an input, such as x1 and x2; its context is the rest. Two fragments are
interchangeable at k if training shows them giving equal answers in at least k shared contexts and
never different ones. An item is covered at k if such swaps turn it into a training item; its
k-cutoff is the largest k at which it is. Test items of type_0 are new compositions of facts that
training shows; those of the other types need a fact that it never shows.

Writes DATA_DIR/test_annotated.json: every test record, and what was found of it. The numbers that
are printed are explained in docs/coverage.md.
"""

from __future__ import annotations

import argparse
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path

from coverage_principle.cli import (
    add_settings,
    command_parser,
    group_of,
    progress_bar,
    run,
    settings_from,
    table,
    with_flags,
)
from coverage_principle.coverage import CoverageSettings, LearnerSettings, PartsSettings
from coverage_principle.errors import InputError
from coverage_principle.experiments import LauncherSettings
from simpletransformers.words import counted

_DATA = "python determine_coverage.py --data_dir data/twohop.20.1500.diff-f12.inf"
EXAMPLES = (
    ("every k at once, on the data set of this repository", f"{_DATA} --k_sweep"),
    ("why is this item covered?", f'{_DATA} --explain "<t_5><t_1><t_19>"'),
    ("which 100 items would cover most at k = 2?", f"{_DATA} --min_evidence 2 --suggest 100"),
    ("more items than memory holds, in 3 GiB", f"{_DATA} --k_sweep --memory 3G"),
    ("what an ideal pattern matcher answers, and how sure it is", f"{_DATA} --graded"),
)


def build_parser() -> argparse.ArgumentParser:
    parser = command_parser(__doc__, EXAMPLES)
    about = "the data set's folder, or the name of one in data/"
    group_of(parser, "data").add_argument("--data_dir", required=True, help=about)
    add_settings(parser, CoverageSettings)
    add_settings(parser, LearnerSettings)
    about = "as --fragments, for one set of slots, counted from 0: 0 1 for x1 and x2"
    slots = {"type": int, "nargs": "+", "metavar": "SLOT", "help": about}
    group_of(parser, "coverage").add_argument("--target_indices", **slots)
    add_settings(parser, PartsSettings)
    about = "local: processes on this machine; slurm: jobs of a cluster (needs submitit), as sweeps"
    jobs = "slot sets at a time, each in a process or job of its own (default: 1; slurm, 16)"
    add_settings(
        parser,
        LauncherSettings,
        only=("launcher", "jobs", "slurm", "cluster"),
        launcher={"choices": ("local", "slurm"), "help": about},
        jobs={"help": jobs},
        slurm={"action": "append", "nargs": None, "default": []},
    )
    return parser


def main(arguments: argparse.Namespace) -> None:
    from coverage_principle import coverage as wing
    from coverage_principle.data import check_place, load_dataset
    from coverage_principle.paths import find_folder, repository_root

    settings = settings_from(CoverageSettings, arguments)
    if arguments.target_indices and settings.fragments is not None:
        raise InputError("`target_indices` is another spelling of `fragments`; give one of them")
    learner = settings_from(LearnerSettings, arguments)
    if learner != LearnerSettings() and not settings.graded:
        raise InputError("the learner's numbers are used by `graded` alone; give it with them")
    dataset = load_dataset(find_folder(arguments.data_dir, "data_dir", also_in="data"))
    if settings.fit is not None:
        wing.require_learner(dataset, "fit")
    if arguments.target_indices:
        named = wing.fragments_of(arguments.target_indices, dataset.graph.inputs)
        settings = replace(settings, fragments=named)
    folder = Path(settings.output_dir or repository_root() / "k_sweep_results")
    for place in filter(None, (folder, settings.export_graph)):
        check_place(place)
    left = cut_files(dataset, settings.cut_file)
    for place in left:
        check_place(place, file=True)
    with weighing(dataset, settings, arguments, folder) as way:
        determine(dataset, settings, learner, folder, left, way)


def weighing(dataset, settings: CoverageSettings, arguments: argparse.Namespace, folder: Path):
    """A context with the way in which slot sets are weighed; None in it: all of each at once."""
    launcher = settings_from(LauncherSettings, arguments)
    memory = settings_from(PartsSettings, arguments).memory
    if launcher == LauncherSettings() and memory is None:
        return nullcontext()
    from coverage_principle.experiments import way_in_parts

    return way_in_parts(dataset, settings, launcher, memory, folder)


def determine(dataset, settings, learner, folder: Path, left: list[Path], way) -> None:
    """Do what the settings ask for; ``left`` are the files of a cut."""
    from coverage_principle import coverage as wing
    from coverage_principle.data import check_place

    if settings.suggest:
        suggest(dataset, settings, folder)
        return
    model = model_answers(dataset, settings.fit)
    with progress_bar() as progress:
        coverage = wing.dataset_coverage(dataset, settings, progress, way)
        graded = fitted = None
        if settings.graded:
            slot_sets = wing.parse_slot_sets(settings.fragments, dataset.graph.inputs)
            how = {"noise": coverage.noise.rate, "progress": progress}
            graded = wing.graded_coverage(dataset, slot_sets, settings=learner, **how)
            if model:
                how["progress"] = lambda share: progress(share, "fitting the learner")
                fitted = wing.fit_dataset(dataset, slot_sets, model[0], **how)
    if settings.explain is not None:
        item = given_item(dataset, settings.explain, "explain")
        print("\n".join(wing.explanation_lines(coverage, wing.explain(coverage, item))))
    elif settings.cut is not None:
        cut(coverage, given_item(dataset, settings.cut, "cut"), left)
    else:
        # What may be refused comes first.
        wing.refuse_others(coverage, folder)
        check_place(wing.annotated_file(coverage), file=True)
        file = wing.write_fit(coverage, fitted, model[1], folder) if fitted else None
        write_and_report(coverage, graded, folder)
        if fitted:
            report_fit(fitted, settings.fit, file)


def given_item(dataset, text: str, setting: str):
    """The values of the item that a setting names."""
    try:
        return dataset.parse(text)
    except InputError as error:
        raise InputError(f"`{setting}`: {error}") from error


def cut_files(dataset, given: str | None) -> list[Path]:
    """Where the training records go that a cut and its control leave, and what they are about."""
    if given is None:
        return []
    folder = Path(given).resolve().parent
    if folder == dataset.path or (folder / "metadata.json").exists():
        whose = "the data set's own folder" if folder == dataset.path else "a data set's folder"
        raise InputError(f"`cut_file` {given} lies in {whose}; give another")
    names = (Path(given).name, f"{Path(given).stem}_control.json", f"{Path(given).stem}.about.json")
    return [Path(given).with_name(name) for name in names]


def cut(coverage, item, files: list[Path]) -> None:
    """Print a cut of an item; write what it and its control leave of the training records."""
    from coverage_principle import coverage as wing
    from coverage_principle.data import dump_json, record_list, write_together
    from coverage_principle.paths import relative_to_root

    found = wing.find_cut(coverage, item)
    control = wing.matched_control(coverage, [found], coverage.settings.cut_seed) if files else None
    print("\n".join(wing.cut_lines(coverage, found)))
    if control is None:
        return
    left = [wing.without(coverage.dataset, one.rows).train.all_records for one in (found, control)]
    about = wing.about_cut(coverage, item, found, control)
    texts = [*map(record_list, left), dump_json(about)]
    write_together(dict(zip(files, texts, strict=True)))
    records, others = counted(len(left[0]), "training record"), counted(len(control.rows), "other")
    print(
        f"\nwritten: {relative_to_root(files[0])}, the {records} left\n"
        f"         {relative_to_root(files[1])}, without {others}, "
        f"{control.matched:,} of the same fragments: still covered"
    )


def write_and_report(coverage, graded, folder: Path) -> None:
    """Write annotations, counts and figures; print what a person wants to know of them."""
    from coverage_principle import coverage as wing
    from coverage_principle.paths import relative_to_root

    settings, k = coverage.settings, coverage.settings.min_evidence
    diagnostics, name = wing.diagnose(coverage), wing.result_name(coverage)
    sweep = wing.write_sweep(coverage, diagnostics, folder) if settings.k_sweep else ()
    own = [wing.write_graded(coverage, graded, folder)] if graded else []
    written = [wing.write_annotated(coverage, graded), *sweep, *own]
    if settings.k_sweep:
        from coverage_principle.reporting.coverage_figures import draw_sweep

        written += draw_sweep(coverage, folder / name)
    if graded:
        from coverage_principle.reporting.coverage_figures import draw_calibration

        written += draw_calibration(graded.summary(), folder / f"{name}_calibration")
    if settings.visualise:
        from coverage_principle.reporting.coverage_graph import draw_coverage_graph

        written += draw_coverage_graph(coverage, k, folder / f"{name}_graph_k-{k}")
    if settings.export_graph is not None:
        written.append(wing.write_graph(coverage, Path(settings.export_graph)))

    print(
        f"{name}: {counted(len(coverage.dataset.train), 'training item')}, "
        f"{counted(diagnostics['type_0_items'], 'type_0 item')}"
        + (f", noise {coverage.noise.rate:.3g}" if settings.noise else "")
    )
    if settings.k_sweep:
        print("\nk-sweep\n  " + "\n  ".join(wing.sweep_lines(coverage, diagnostics)))
    lines = with_flags("\n  ".join(wing.type_lines(coverage, k)), build_parser())
    print(f"\ncovered at k = {k}\n  {lines}")
    if graded:
        header, *rows = wing.graded_rows(graded.summary(), coverage.dataset.graph)
        print(f"\ngraded coverage\n{table(header, rows)}")
        header, *rows = wing.calibration_rows(graded.summary())
        about = "answers to type_0 items by their probability, and how many of them are right"
        print(f"\n{about}\n{table(header, rows)}")
    for sentence in wing.warnings(coverage, diagnostics, graded):
        print(f"\nwarning: {sentence}")
    print("\nwritten: " + "\n         ".join(map(relative_to_root, written)))


def model_answers(dataset, file: str | None) -> tuple | None:
    """A model's answers to the test compositions, as values, and what was counted in its file."""
    from coverage_principle.predictions import answer_values, read_predictions

    if file is None:
        return None
    read = read_predictions(dataset, [file])
    return answer_values(dataset, read.outputs[0, : len(dataset.test)]), read.files[0]


def report_fit(found, model: str, file: Path) -> None:
    """Print the numbers fitted to a model's answers, and what they are worth on other items."""
    from coverage_principle import coverage as wing
    from coverage_principle.paths import relative_to_root

    header, *rows = wing.fit_rows(found)
    chosen, others = found.items
    print(
        f"\nthe learner's numbers, fitted to {model}: chosen by {counted(chosen, 'type_0 item')}, "
        f"tested on {counted(others, 'other')}\n{table(header, rows)}"
    )
    flags = (f"--{name} {value:g}" for name, value in asdict(found.settings).items())
    print(f"\nas flags: {' '.join(flags)}\nwritten: {relative_to_root(file)}")


def suggest(dataset, settings: CoverageSettings, folder: Path) -> None:
    """Write the items that would raise coverage most, as records for ``train.json``."""
    from coverage_principle import coverage as wing
    from coverage_principle.data import check_place, write_json
    from coverage_principle.paths import relative_to_root

    k = settings.min_evidence
    file = check_place(folder / f"{dataset.name}_suggested_{settings.suggest}_k-{k}.json")
    with progress_bar() as progress:
        found = wing.suggest(dataset, settings.suggest, k=k, progress=progress)
    write_json(file, dataset.records(found.items), one_per_line=True)
    print("\n  ".join(wing.suggestion_lines(dataset, found, settings.suggest, k=k)))
    print(f"written: {relative_to_root(file)}")


if __name__ == "__main__":
    run(build_parser(), main)
