"""What the circuit commands share: how parsers are made of settings, how results are shown."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping

from coverage_principle.cli import add_settings, command_parser, group_of, settings_from

#: A flag that takes values one after the other, each as it is written: ``b "b,x2"``.
SEVERAL = {"nargs": "+", "default": ["1"]}
#: The published ``--detailed_grouping``.
_DETAILED = {"1": "0-2,3+", "2": "0-2,3,4+", "3": "each"}


def training_example(data_set: str, run: str) -> tuple[str, str]:
    """An example of help that trains what the next ones look at."""
    command = "python main.py --preset cpu --init_weights --do_train --evaluate_during_training"
    about = "a model to look into, trained in a few minutes on a CPU"
    return about, f"{command} --data_dir data/{data_set} --output_dir {run}"


def vectors_example(data_set: str, run: str, value: str) -> tuple[tuple[str, str], str]:
    """An example that writes vectors of a run, grouped by a value, and the file of them."""
    command = f"python circuit_analysis/cluster.py --ckpt {run}/final_checkpoint --group_by {value}"
    file = f"results/vectors/residual/{data_set}/{value}/final_checkpoint/vectors.npz"
    return ("vectors of its states", f"{command} --save_dir results/vectors"), file


#: The run that the examples of help look at, and how it is made.
RUN = "CKPT_DIR/trained_checkpoints/first"
DATA = "twohop.20.1500.diff-f12.inf"
FIRST = (training_example(DATA, RUN),)
#: The words that the help of every analysis uses.
_WORDS = (
    "Layers are counted from 1 (0 is the embedding), positions are tokens counted from 0. b is an "
    "intermediate value, such as f1(x1, x2) of the 2-hop task, and t the answer. id_train are "
    "training items; id_test are test items of type_0, new compositions of facts that training "
    "shows."
)


def analysis_parser(
    description: str, settings, *, omit=(), grouping: bool = False, examples=(), **changes
) -> argparse.ArgumentParser:
    """The parser of an analysis of a trained model, with the published flags.

    ``grouping``: the published ``--detailed_grouping`` must be given, or ``--k_groups``.
    """
    parser = command_parser(f"{description}\n\n{_WORDS}", examples)
    model = ("model_dir", "ckpt")
    one_of = group_of(parser, "run").add_mutually_exclusive_group(required=True)
    add_settings(one_of, settings, only=model)
    add_settings(parser, settings, omit=("k_groups", "seed", *model, *omit), **changes)
    add_settings(parser, settings, only=("seed",))  # at the end of its group
    items = group_of(parser, "items")
    unset = {"default": argparse.SUPPRESS}
    items.add_argument("--base_dir", dest="data_dir", help="the same as --data_dir", **unset)
    if "k_groups" in omit:
        return parser
    groups = items.add_mutually_exclusive_group(required=grouping)
    add_settings(groups, settings, only=("k_groups",))
    numbered = {"dest": "k_groups", "type": _detailed_grouping, "metavar": "{1,2,3}", **unset}
    about = "as published: 1 is --k_groups 0-2,3+; 2 is 0-2,3,4+; 3 is each"
    groups.add_argument("--detailed_grouping", help=about, **numbered)
    return parser


def _detailed_grouping(text: str) -> str:
    """The published number as k-cutoff groups (for argparse)."""
    if text not in _DETAILED:
        raise argparse.ArgumentTypeError(f"{text!r} is not 1, 2 or 3")
    return _DETAILED[text]


def choice_of(entries: Mapping) -> dict[str, object]:
    """How a flag that names one of ``entries`` differs: its choices, and the help text of each."""
    about = "; ".join(f"{name}: {entry.help}" for name, entry in entries.items())
    return {"choices": tuple(entries), "help": about}


def each_of(settings, arguments: argparse.Namespace, name: str, check, **fixed) -> list:
    """The settings of an analysis for every value that was given of the setting ``name``.

    ``check(graph, value)`` refuses what the task does not have, before any work.
    """
    from coverage_principle.circuits import with_each

    values = fixed.get(name) or getattr(arguments, name, None)
    if values is None or isinstance(values, str):
        return [settings_from(settings, arguments, **fixed)]
    first = settings_from(settings, arguments, **fixed, **{name: values[0]})
    return with_each(first, name, values, check)


def run_analysis(analysis, settings, *, results: str):
    """Call an analysis of a run's checkpoints with a progress bar; returns what it returns.

    Where ``save_dir`` is not given, results go to the folder ``results`` of circuit_analysis/.
    """
    from dataclasses import replace

    from tqdm import tqdm

    from coverage_principle.paths import repository_root

    if settings.save_dir is None:
        settings = replace(settings, save_dir=repository_root() / "circuit_analysis" / results)
    with tqdm(disable=None, leave=False, unit="item") as bar:

        def progress(checkpoint: str, done: int, total: int) -> None:
            bar.set_description(checkpoint, refresh=False)
            bar.total = total
            bar.update(done - bar.n)

        return analysis(settings, progress=progress)


def print_grids(
    tables: Mapping[str, Iterable[Mapping]],
    shown,
    subset: str | None = None,
    *,
    empty: Iterable[str] = (),
    also: Iterable[str] = (),
) -> None:
    """Print a number of results' cells as small tables, by title, and what is to be known of them.

    ``shown`` is the entry (``circuits.Shown``) that says which number, and how; ``subset``, of
    which samples. ``empty`` names splits without items, ``also`` are further notes below.
    """
    from coverage_principle.reporting.grids import Grid, table_lines

    grids = {title: Grid.of(list(cells), shown, subset) for title, cells in tables.items()}
    print("\n".join([*table_lines(grids, list(empty)), *also]))


def last_checkpoint(results: Mapping) -> tuple[str, Mapping, list[str]]:
    """The name and content of a result's last checkpoint, and a note on the others."""
    *others, name = results["checkpoints"]
    note = f"the last of {len(others) + 1} checkpoints is shown; the file has all"
    return name, results["checkpoints"][name], [note] if others else []


def print_splits(splits: dict) -> None:
    """Say which types of test items each split holds."""
    from coverage_principle.reporting.grids import split_lines

    print("\n".join(split_lines(splits)))


def print_reasons(splits: dict) -> None:
    """Which items each split holds, how many of them are traced, and why others are not."""
    from coverage_principle.reporting.grids import split_lines, traced_lines

    print("\n".join([*split_lines(splits), *traced_lines(splits)]))


def print_files(folder) -> None:
    """Name a folder and the files in it."""
    from coverage_principle.paths import relative_to_root

    print(f"{relative_to_root(folder)}: {', '.join(sorted(p.name for p in folder.iterdir()))}")
