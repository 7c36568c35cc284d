"""The published commands: one table from their paths to an analysis and what they fix of it.

The files at those paths are stubs that call ``command``; their docstrings describe them.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from circuit_analysis.common import DATA, RUN, training_example, vectors_example
from coverage_principle.cli import group_of, positive, run
from coverage_principle.tasks import TASKS, generator_name

_TWO, _THREE = "hierarchical/2-hop", "hierarchical/3-hop"
#: The one task that the analyses of models in a folder take.
_TASKS = {_TWO: "twohop", _THREE: "threehop", "nontree": "nontree", "parallel": "parallel2hop"}
#: Data sets of the examples of help, as their generators name them.
_DATA = {
    "twohop": "twohop.20.1600.diff-f12",
    "threehop": "threehop.20.1600.diff-f123",
    "nontree": "nontree.20.1600.diff-f12",
    "parallel2hop": "parallel2hop.20.1600.diff-f123",
}
_COT = " --cot --validation_size 200"  # as an example of the generators
#: Settings of the general commands that the published ones do not have.
_WITHOUT = {
    "trace": ("family", "stream", "pairs", "out_of_domain", "every_item"),
    "lens": ("group_by", "pairs", "every_item", "tuned"),
    "cluster": ("group_by",),
    "interchange": (),
    "measure": ("by_cutoff", "range_samples", "draw_only"),
}
_PICTURES = ("save_plots", "num_random_groups", "pca_vis", "reduce_dim", "reduce_method")
_PICTURES += ("pca_scope", "pca_m", "pca_n")


@dataclass(frozen=True)
class Published:
    """A published command: the ``analysis`` (a module beside this one), and what is special to it.

    ``folder`` is that of its results. ``numbers`` are those of ``--atomic_idx``: families when
    tracing, which must be given; groupings when clustering, where any other number is that of a
    function. With ``grouping``, k-cutoff groups must be given. ``fixed`` are settings that the path
    decides, ``defaults`` those whose defaults differ, ``omit`` those that it does not have, and
    ``flags`` are flags that mean nothing any more.
    """

    analysis: str
    folder: str | None = None
    numbers: Mapping[int, str] | None = None
    grouping: bool = False
    fixed: Mapping[str, object] = field(default_factory=dict)
    defaults: Mapping[str, object] = field(default_factory=dict)
    omit: tuple[str, ...] = ()
    flags: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


_B1_B2 = {1: "diff_f1", 2: "diff_f2"}
_NONTREE = {1: "diff_f1", 4: "keep_b_change_x2", 5: "change_b_and_x2"}
_BX2, _BY_3_HOP = {4: "b,x2"}, {4: "x3,b2", 5: "b1,b2"}
_BY_NONTREE = {1: "b", 2: "t", 3: "x2", 4: "b,x2", 5: "b,x1"}
_BY_PARALLEL = {1: "b1", 2: "b2", 3: "t"}
_THREE_COT = Published("trace", "3-hop_cot", _B1_B2)
_SAME_B = Published("interchange", "2-hop")
_LENS_FLAGS = {"--metric_type": ("rank", "prob")}
_SAMPLED, _FEW = {"range_samples": True}, {"pca_m": 3, "pca_n": 3}

PUBLISHED: dict[str, Published] = {
    f"{_TWO}/causal_tracing_2-hop.py": Published("trace", "2-hop"),
    f"{_TWO}/causal_tracing_2-hop_coverage.py": Published("trace", "2-hop", grouping=True),
    f"{_TWO}/causal_tracing_2-hop_cot.py": Published("trace", "2-hop_cot"),
    f"{_THREE}/causal_tracing_3-hop.py": Published("trace", "3-hop", _B1_B2),
    f"{_THREE}/causal_tracing_diff_b_composition_3-hop_cot.py": _THREE_COT,
    "nontree/causal_tracing_nontree.py": Published("trace", "nontree", _NONTREE),
    "parallel/causal_tracing_parallel_2-hop.py": Published("trace", "parallel_2-hop", _B1_B2),
    f"{_TWO}/causal_tracing_same_b_composition_2-hop_residual.py": _SAME_B,
    f"{_TWO}/logit-lens_2-hop.py": Published("lens", "2-hop", flags=_LENS_FLAGS),
    f"{_TWO}/collapse_analysis_2-hop.py": Published("cluster", None, _BX2),
    f"{_TWO}/collapse_analysis_2-hop_coverage.py": Published("cluster", None, _BX2, grouping=True),
    f"{_THREE}/collapse_analysis_3-hop.py": Published("cluster", None, _BY_3_HOP),
    "nontree/collapse_analysis_nontree.py": Published("cluster", None, _BY_NONTREE),
    "parallel/collapse_analysis_parallel_2-hop.py": Published("cluster", None, _BY_PARALLEL),
    "measure_cossim.py": Published("measure", omit=_PICTURES),
    "measure_cossim_coverage.py": Published("measure", omit=_PICTURES, fixed={"by_cutoff": True}),
    "plotting_collapse.py": Published("measure", fixed={"draw_only": True}),
    f"{_THREE}/measure_metrics_3-hop.py": Published("measure", fixed=_SAMPLED),
    "nontree/measure_metrics.py": Published("measure", fixed=_SAMPLED, defaults=_FEW),
    "parallel/measure_metrics.py": Published("measure", fixed=_SAMPLED),
}


def command(file: str, about: str, *, start: bool) -> Callable:
    """``build_parser`` of the command whose stub is ``file``; with ``start`` it is also run."""
    path = Path(file).resolve().relative_to(Path(__file__).resolve().parent)
    published = PUBLISHED[path.as_posix()]
    module = importlib.import_module(f"circuit_analysis.{published.analysis}")
    named, prefix = ("family", "diff_f") if published.analysis == "trace" else ("group_by", "f")

    def build_parser():
        options = {"grouping": True} if published.grouping else {}
        omit = (*_WITHOUT[published.analysis], *published.omit)
        options |= {"omit": omit, "examples": _examples(path, published), **published.defaults}
        general = module.__doc__.partition("\n\n")[2]
        parser = module.build_parser(f"{about}\n\n{general}", **options)
        if published.numbers is not None:
            names = ", ".join(f"{number}: {name}" for number, name in published.numbers.items())
            if named == "family":
                number = {"type": int, "choices": tuple(published.numbers), "required": True}
                number["help"] = f"which counterfactuals. {names}"
            else:
                number = {"type": positive, "default": 1, "metavar": "N"}
                number["help"] = f"what states are grouped by. {names}; else a function's number"
            group_of(parser, "measured").add_argument("--atomic_idx", dest=named, **number)
        for flag, choices in published.flags.items():
            kept = group_of(parser, "kept")
            kept.add_argument(flag, choices=choices, help="all of these are measured")
        return parser

    def main(arguments) -> None:
        fixed = dict(published.fixed)
        if published.analysis != "measure":
            fixed["task"] = _TASKS[path.parent.as_posix()]
        if published.folder is not None:
            fixed["folder"] = published.folder
        if published.numbers is not None:
            given = getattr(arguments, named)
            fixed |= {named: published.numbers.get(given, str(given)), "label": f"{prefix}{given}"}
        module.main(arguments, **fixed)

    if start:
        run(build_parser(), main)
    return build_parser


def _examples(path: Path, published: Published) -> Iterator[tuple[str, str]]:
    """From a data set of the task and a model trained on it to the command at ``path``."""
    analysis, task = published.analysis, _TASKS.get(path.parent.as_posix(), "twohop")
    cot = str(published.folder).endswith("_cot")
    data, run = DATA, RUN
    if task != "twohop" or cot:
        command = f"python dataset_generation/{generator_name(task)}.py --num_tokens 20"
        yield "a data set", f"{command} --max_train_data_num 1600{_COT if cot else ''}"
        data = f"{_DATA[task]}.{'cot' if cot else 'inf'}"
        run = f"CKPT_DIR/trained_checkpoints/{data}"
    if published.grouping:
        command = f"python determine_coverage.py --data_dir data/{data} --k_sweep"
        yield "the k-cutoff of every test item: how firmly training covers it", command
    yield training_example(data, run)
    command = f"python circuit_analysis/{path.as_posix()}"
    if analysis == "measure":
        from circuit_analysis.measure import measuring_example

        example, file = vectors_example(data, run, TASKS[task].bridges[0])
        yield example
        more = "--overwrite"
        if published.fixed.get("draw_only"):
            yield measuring_example("python circuit_analysis/measure_cossim.py", file)
            more = "--pca_n 5"
        yield "this command", measuring_example(command, file, more)[1]
        return
    words = f"--model_dir {run} --step_list final_checkpoint"
    if analysis == "cluster":
        words = f'--ckpt {run}/final_checkpoint --layer_pos_pairs "[(1,1),(2,2)]" --overwrite'
    words += " --atomic_idx 1" if published.numbers else ""
    words += " --detailed_grouping 1" if published.grouping else ""
    yield "this command", f"{command} {words}"
