"""Tokens as text and as integers.

An input slot's value i is the token ``<t_i>``; ``</a>`` ends a target; ``</b>`` is the filler of
``fake_bridge``. Ids are positions in ``vocab.json``, so ``<t_i>`` has id i.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from coverage_principle.errors import InputError

END = "</a>"
FILLER = "</b>"


def build_vocabulary(num_tokens: int, *, filler: bool = False) -> list[str]:
    """``["<t_0>", ..., ("</b>",) "</a>"]``, as published."""
    return [*(f"<t_{i}>" for i in range(num_tokens)), *([FILLER] if filler else []), END]


def split_tokens(text: str) -> list[str]:
    """``"<t_1><t_2></a>"`` -> ``["<t_1>", "<t_2>", "</a>"]``. ``InputError`` if it is not that."""
    if not (text.startswith("<") and text.endswith(">")):
        raise InputError(f"{text!r} is not a sequence of <...> tokens")
    return [f"<{name}>" for name in text[1:-1].split("><")]


class Codec:
    """Translates between token text and id arrays for one vocabulary."""

    def __init__(self, vocabulary: Sequence[str]) -> None:
        self.vocabulary = tuple(vocabulary)
        self._ids = {token: i for i, token in enumerate(self.vocabulary)}
        self._names = {token[1:-1]: i for token, i in self._ids.items()}
        #: |X|: how many of the tokens are values ``<t_i>``.
        self.num_tokens = sum(token.startswith("<t_") for token in self.vocabulary)

    @property
    def end_id(self) -> int:
        return self._ids[END]

    def encode(self, text: str) -> list[int]:
        """Ids of a token sequence; ``InputError`` names a token outside the vocabulary."""
        names = self._names
        try:
            if text[0] == "<" and text[-1] == ">":
                return [names[name] for name in text[1:-1].split("><")]
        except (KeyError, IndexError):
            pass
        for token in split_tokens(text):
            if token not in self._ids:
                raise InputError(
                    f"token {token} in {text!r} is not in the vocabulary of "
                    f"{len(self.vocabulary)} tokens ({self.vocabulary[0]} ... "
                    f"{self.vocabulary[-1]})"
                )
        raise InputError(f"{text!r} cannot be read as tokens")

    def decode(self, ids: Sequence[int]) -> str:
        """The text of a sequence of ids."""
        return "".join(self.vocabulary[i] for i in ids)

    def decode_rows(self, rows: np.ndarray) -> list[str]:
        """``decode`` of every row of an ``(n, length)`` integer array."""
        tokens = np.array(self.vocabulary, dtype=object)
        return ["".join(row) for row in tokens[rows].tolist()]
