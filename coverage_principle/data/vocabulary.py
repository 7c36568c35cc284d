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


class Codec:
    """Translates between token text and id arrays for one vocabulary."""

    def __init__(self, vocabulary: Sequence[str]) -> None:
        self.vocabulary = tuple(vocabulary)
        self._ids = {token[1:-1]: i for i, token in enumerate(self.vocabulary)}
        #: |X|: how many of the tokens are values ``<t_i>``.
        self.num_tokens = sum(token.startswith("<t_") for token in self.vocabulary)

    @property
    def end_id(self) -> int:
        return self._ids[END[1:-1]]

    def encode(self, text: str) -> list[int]:
        """Ids of ``<...><...>``; ``InputError`` names a token outside the vocabulary."""
        if not (text[:1] == "<" and text[-1:] == ">"):
            raise InputError(f"{text!r} is not a sequence of <...> tokens")
        ids = self._ids
        try:
            return [ids[name] for name in text[1:-1].split("><")]
        except KeyError as error:
            raise InputError(
                f"token <{error.args[0]}> in {text!r} is not in the vocabulary of "
                f"{len(self.vocabulary)} tokens ({self.vocabulary[0]} ... {self.vocabulary[-1]})"
            ) from None

    def decode(self, ids: Sequence[int]) -> str:
        """The text of a sequence of ids."""
        return "".join(self.vocabulary[i] for i in ids)

    def decode_rows(self, rows: np.ndarray) -> list[str]:
        """``decode`` of every row of an ``(n, length)`` integer array."""
        tokens = np.array(self.vocabulary, dtype=object)
        return ["".join(row) for row in tokens[rows].tolist()]
