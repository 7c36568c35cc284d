"""The published commands: one table from their paths to an analysis and what they fix of it.

The files at those paths are stubs that call ``command``.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from coverage_principle.cli import positive, run

_HERE = Path(__file__).resolve().parent
#: Settings of the general commands that the published commands do not have.
_WITHOUT = {
    "trace": ("family", "stream", "pairs", "out_of_domain", "every_item"),
    "lens": ("group_by", "pairs", "every_item"),
    "cluster": ("group_by",),
    "interchange": (),
    "measure": ("by_cutoff", "range_samples", "draw_only"),
}
_PICTURES = ("save_plots", "num_random_groups", "pca_vis")
_COMPONENTS = ("reduce_dim", "reduce_method", "pca_scope", "pca_m", "pca_n")


@dataclass(frozen=True)
class Published:
    """A published command: the ``analysis`` (a module beside this one), and what is special to it.

    ``task`` is the only one that it takes, ``folder`` that of its results. ``numbers`` are those of
    ``--atomic_idx``: families when tracing, which must be given; groupings when clustering, where
    any other number is that of a function. ``fixed`` are further settings that the path decides,
    ``parser`` options of the analysis's parser, ``flags`` further flags.
    """

    analysis: str
    about: str
    task: str | None = None
    folder: str | None = None
    numbers: Mapping[int, str] | None = None
    number_help: str | None = None
    fixed: Mapping[str, object] = field(default_factory=dict)
    parser: Mapping[str, object] = field(default_factory=dict)
    flags: Mapping[str, Mapping[str, object]] = field(default_factory=dict)

    def build_parser(self):
        module, options = _module(self.analysis), dict(self.parser)
        omit = (*_WITHOUT[self.analysis], *options.pop("omit", ()))
        parser = module.build_parser(self.about, omit=omit, **options)
        if self.numbers is not None:
            number = (
                {"dest": "family", "type": int, "choices": tuple(self.numbers), "required": True}
                if self.analysis == "trace"
                else {"dest": "group_by", "type": positive, "default": 1, "metavar": "N"}
            )
            about = self.number_help or f"group by: {self.numbers} (default: 1)"
            parser.add_argument("--atomic_idx", help=about, **number)
        for flag, about in self.flags.items():
            parser.add_argument(flag, **about)
        return parser

    def main(self, arguments) -> None:
        fixed = dict(self.fixed)
        if self.task is not None:
            fixed["task"] = self.task
        if self.folder is not None:
            fixed["folder"] = self.folder
        if self.numbers is not None and self.analysis == "trace":
            number = arguments.family
            fixed |= {"family": self.numbers[number], "label": f"diff_f{number}"}
        elif self.numbers is not None:
            number = arguments.group_by
            fixed |= {"group_by": self.numbers.get(number, str(number)), "label": f"f{number}"}
        _module(self.analysis).main(arguments, **fixed)


def _module(analysis: str):
    return importlib.import_module(f"circuit_analysis.{analysis}")


def command(file: str) -> tuple[Callable, Callable]:
    """``build_parser`` and a function that runs the command, for the stub at ``file``."""
    published = PUBLISHED[Path(file).resolve().relative_to(_HERE).as_posix()]
    return published.build_parser, lambda: run(published.build_parser(), published.main)


_TWO, _THREE = "hierarchical/2-hop", "hierarchical/3-hop"
_B1_B2 = {1: "diff_f1", 2: "diff_f2"}, "1 changes b1, 2 changes b2"
_SAMPLED = {"fixed": {"range_samples": True}}
_PLAIN = {"omit": (*_PICTURES, *_COMPONENTS)}

PUBLISHED: dict[str, Published] = {
    f"{_TWO}/causal_tracing_2-hop.py": Published(
        "trace",
        "Causal tracing of the bridge: patch the residual stream with that of a run with another "
        "b.",
        "twohop",
        "2-hop",
    ),
    f"{_TWO}/causal_tracing_2-hop_coverage.py": Published(
        "trace",
        "Causal tracing of the bridge for groups of test items by k-cutoff.",
        "twohop",
        "2-hop",
        parser={"grouping": True},
    ),
    f"{_TWO}/causal_tracing_2-hop_cot.py": Published(
        "trace",
        "Causal tracing of a model that writes the bridge: b and t are read where it emits them.",
        "twohop",
        "2-hop_cot",
    ),
    f"{_THREE}/causal_tracing_3-hop.py": Published(
        "trace", "Causal tracing of b1 or b2 in the 3-hop task.", "threehop", "3-hop", *_B1_B2
    ),
    f"{_THREE}/causal_tracing_diff_b_composition_3-hop_cot.py": Published(
        "trace",
        "Causal tracing of a 3-hop model that writes its bridges: b1, b2 and t where it emits "
        "them.",
        "threehop",
        "3-hop_cot",
        *_B1_B2,
    ),
    "nontree/causal_tracing_nontree.py": Published(
        "trace",
        "Causal tracing in the non-tree task, where x2 reaches the answer by two paths.",
        "nontree",
        "nontree",
        {1: "diff_f1", 4: "keep_b_change_x2", 5: "change_b_and_x2"},
        "1 changes b by x1, (b'); 4 keeps b and changes x2, (b, x2'); 5 changes both, (b', x2')",
    ),
    "parallel/causal_tracing_parallel_2-hop.py": Published(
        "trace",
        "Causal tracing of b1 or b2 in the parallel 2-hop task.",
        "parallel2hop",
        "parallel_2-hop",
        *_B1_B2,
    ),
    f"{_TWO}/causal_tracing_same_b_composition_2-hop_residual.py": Published(
        "interchange",
        "Same-bridge interchange: patch in the state of another (x1, x2) with the same b.",
        "twohop",
        "2-hop",
    ),
    f"{_TWO}/logit-lens_2-hop.py": Published(
        "lens",
        "Logit lens: rank and probability of the bridge and the answer at every layer and "
        "position.",
        "twohop",
        "2-hop",
        flags={
            "--metric_type": {
                "choices": ("rank", "prob"),
                "default": "rank",
                "help": "kept from the published command; both are always measured",
            }
        },
    ),
    f"{_TWO}/collapse_analysis_2-hop.py": Published(
        "cluster",
        "Cosine clustering of a model's hidden states by a primitive function's value (IICG).",
        "twohop",
        numbers={4: "b,x2"},
    ),
    f"{_TWO}/collapse_analysis_2-hop_coverage.py": Published(
        "cluster",
        "Cosine clustering of a model's hidden states for groups of test items by k-cutoff.",
        "twohop",
        numbers={4: "b,x2"},
        parser={"grouping": True},
    ),
    f"{_THREE}/collapse_analysis_3-hop.py": Published(
        "cluster",
        "Cosine clustering of hidden states in the 3-hop task (IICG).",
        "threehop",
        numbers={4: "x3,b2", 5: "b1,b2"},
    ),
    "nontree/collapse_analysis_nontree.py": Published(
        "cluster",
        "Cosine clustering of hidden states in the non-tree task: by b, or by b and x2 (IICG).",
        "nontree",
        numbers={1: "b", 2: "t", 3: "x2", 4: "b,x2", 5: "b,x1"},
    ),
    "parallel/collapse_analysis_parallel_2-hop.py": Published(
        "cluster",
        "Cosine clustering of hidden states in the parallel 2-hop task (IICG).",
        "parallel2hop",
        numbers={1: "b1", 2: "b2", 3: "t"},
    ),
    "measure_cossim.py": Published(
        "measure",
        "Cosine statistics and IICG of three files of vectors (ID train, ID test, OOD).",
        parser=_PLAIN,
    ),
    "measure_cossim_coverage.py": Published(
        "measure",
        "Cosine statistics and IICG of three files of vectors, ID test being a k-cutoff group.",
        fixed={"by_cutoff": True},
        parser=_PLAIN,
    ),
    "plotting_collapse.py": Published(
        "measure",
        "Histograms of cosines and principal components of three files of vectors.",
        fixed={"draw_only": True},
    ),
    f"{_THREE}/measure_metrics_3-hop.py": Published(
        "measure",
        "Cosine statistics of three files of vectors of the 3-hop task, as text, with sampled "
        "pairs.",
        **_SAMPLED,
    ),
    "nontree/measure_metrics.py": Published(
        "measure",
        "Cosine statistics of three files of vectors of the non-tree task, as text, with sampled "
        "pairs.",
        parser={"pca_m": 3, "pca_n": 3},
        **_SAMPLED,
    ),
    "parallel/measure_metrics.py": Published(
        "measure",
        "Cosine statistics of three files of vectors of the parallel task, as text, with sampled "
        "pairs.",
        **_SAMPLED,
    ),
}
