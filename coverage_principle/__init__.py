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
``notebook``     what this door gives: text in, tables and figures out

Importing the package imports nothing else: what a name needs is loaded when it is first used, and
``data`` and ``coverage`` never load torch.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING

from coverage_principle import coverage as _coverage
from simpletransformers.lazy import exports

if TYPE_CHECKING:
    from coverage_principle.data import Dataset as Dataset
    from coverage_principle.data import load_dataset as load_dataset
    from coverage_principle.errors import InputError as InputError
    from coverage_principle.experiments import read_results as read_results
    from coverage_principle.notebook import NotebookCoverage
    from coverage_principle.notebook import coverage as coverage
    from coverage_principle.notebook import load_run as load_run

__version__ = "0.1.0"

__getattr__, _names, __all__ = exports(
    __name__,
    {
        "data": "Dataset load_dataset",
        "errors": "InputError",
        "experiments": "read_results",
        "notebook": "load_run",
    },
)
__all__ += ["coverage"]


def __dir__() -> list[str]:
    return sorted([*_names(), "__version__", "coverage"])


class _Wing(ModuleType):
    # A wing that is also a function, ``cp.coverage(dataset)`` of ``notebook/explored.py``: its name
    # is the function's best name, and importing the one must not hide the other. help() shows the
    # function, in place of all that the wing holds.
    __all__ = property(lambda _: [])
    __signature__ = property(lambda _: inspect.signature(_function()))
    __doc__ = property(lambda wing: f"coverage{wing.__signature__}\n\n{_function().__doc__}")

    def __call__(self, *arguments: object, **settings: object) -> NotebookCoverage:
        return _function()(*arguments, **settings)


def _function() -> Callable[..., NotebookCoverage]:
    from coverage_principle.notebook import coverage

    return coverage


_coverage.__class__ = _Wing
