"""The library as a notebook uses it: text in, tables and figures out."""

from simpletransformers.lazy import exports

__getattr__, __dir__, __all__ = exports(
    __name__,
    {
        "explored": "Explained NotebookCoverage coverage",
        "run": "Run load_run",
        "probing": "Probing",
        "tracing": "Tracing",
    },
)
