"""The paper's claims, each as runs, numbers, the sentences that these allow, and their figure.

A claim is a module of this folder with a ``CLAIM``; ``base`` says what that is.
"""

from simpletransformers.lazy import exports

__getattr__, __dir__, __all__ = exports(
    __name__,
    {
        "base": "SCALES Claim Table card write_result",
        "registry": "CLAIMS register",
    },
)
