"""Coverage of compositional training sets, and what Transformers make of it.

    import coverage_principle as cp

    dataset = cp.load_dataset("data/twohop.20.1500.diff-f12.inf")
    coverage = cp.coverage(dataset)
    coverage.to_records(), coverage.explain("<t_3><t_9><t_1>"), coverage.plot()

Behind every command of this repository stands a wing of this package:

``tasks``        task graphs as data (twohop, threehop, ...): the single definition of each task
``data``         vocabulary, data-set files, exact uniform sampling of compositions, imports
``coverage``     functional k-equivalence, the substitution graph, k-cutoffs; and a function
``circuits``     hidden states, counterfactuals, activation patching, cosine clustering
``predictions``  the answers of any model, and what predicts them
``reporting``    figures and HTML; nothing below it draws
``experiments``  sweeps of runs, the paper's claims
``notebook``     what this door gives: text in and out, nothing on disk

Importing the package imports nothing else: what a name needs is loaded when it is first used, and
``data`` and ``coverage`` never load torch.
"""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING

from coverage_principle import coverage as _coverage
from simpletransformers.lazy import exports

if TYPE_CHECKING:
    from inspect import Signature

    from coverage_principle.data import Dataset as Dataset
    from coverage_principle.data import load_dataset as load_dataset
    from coverage_principle.experiments import read_results as read_results
    from coverage_principle.notebook import NotebookCoverage
    from coverage_principle.notebook import load_run as load_run
    from coverage_principle.notebook import notebook_coverage as coverage

__version__ = "0.1.0"

__getattr__, _names, __all__ = exports(
    __name__,
    {
        "data": "Dataset load_dataset",
        "experiments": "read_results",
        "notebook": "load_run",
    },
)
__all__ += ["coverage"]


def __dir__() -> list[str]:
    return sorted([*_names(), "__version__", "coverage"])


class _Wing(ModuleType):
    """A wing that is also a function: ``cp.coverage(dataset)``, of ``notebook/coverage.py``.

    The wing's name is the function's best name, and importing the one must not hide the other.
    """

    def __call__(self, *arguments: object, **settings: object) -> NotebookCoverage:
        from coverage_principle.notebook import notebook_coverage

        return notebook_coverage(*arguments, **settings)

    @property
    def __signature__(self) -> Signature:
        from inspect import signature

        from coverage_principle.notebook import notebook_coverage

        return signature(notebook_coverage)


_coverage.__class__ = _Wing
