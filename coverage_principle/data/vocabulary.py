"""Tokens as text, as ids, and as values.

A token's *id* is its place in ``vocab.json``, which begins with the alphabets of the task, one
after the other. All tokens of a slot are from one alphabet, and a *value* is a token's place in
that. Where ``<t_0>``, ``<t_1>`` ... are the only alphabet, values are ids.
``</a>`` ends a target; ``</b>`` is the filler of ``fake_bridge``.

>>> codec = Codec(["<ann>", "<bob>", "<aunt>", "</a>"], {"person": 2, "relation": 1})
>>> codec.encode("<bob><aunt>"), codec.values(np.array([[1, 2]]), ["person", "relation"]).tolist()
([1, 2], [[1, 0]])
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

import numpy as np

from coverage_principle.data.problems import Cause, Fault
from coverage_principle.tasks import DEFAULT_ALPHABET

END = "</a>"
FILLER = "</b>"
#: Names that no token of an alphabet may have: their tokens mean something else.
_RESERVED = (END, FILLER, "<pad>")

LACKING = Cause(
    "records hold tokens that vocab.json lacks",
    "put the right vocab.json back, or add the tokens to it; if the tokens are wrong, correct or "
    "remove the records",
)
_NO_TOKENS = Cause(
    "records hold texts that are no sequence of tokens",
    "write each token as a name between < and >, without anything between tokens",
)


def build_vocabulary(
    alphabets: Mapping[str, Sequence[str]] | int, *, filler: bool = False
) -> list[str]:
    """The tokens of the alphabets, ``</b>`` if there is a filler, and ``</a>``.

    A number stands for the one alphabet of tokens ``<t_i>``.
    """
    if isinstance(alphabets, int):
        alphabets = {DEFAULT_ALPHABET: default_tokens(alphabets)}
    values = [token for tokens in alphabets.values() for token in tokens]
    return [*values, *([FILLER] if filler else []), END]


def default_tokens(count: int) -> list[str]:
    """``<t_0>``, ``<t_1>`` ..., as published."""
    return [f"<t_{i}>" for i in range(count)]


def token_of(name: str) -> str:
    """A name as a token: ``new york`` is ``<new york>``, and ``<``, ``>`` and ``&`` are escaped.

    >>> token_of("a<b"), name_of("<a&lt;b>")
    ('<a&lt;b>', 'a<b')
    """
    token = f"<{html.escape(name, quote=False)}>"
    return f"<&#{ord(name[0])};{token[2:]}" if token in _RESERVED else token


def name_of(token: str) -> str:
    """The name that ``token_of`` made a token of."""
    return html.unescape(token[1:-1])


class Codec:
    """Translates between token text, ids and values for one vocabulary.

    ``alphabets`` maps the name of each alphabet to the number of its tokens, in the order of the
    vocabulary; without it, the one alphabet is that of the tokens ``<t_i>``.
    """

    def __init__(
        self, vocabulary: Sequence[str], alphabets: Mapping[str, int] | None = None
    ) -> None:
        self.vocabulary = tuple(vocabulary)
        self._ids = {token[1:-1]: i for i, token in enumerate(self.vocabulary)}
        if alphabets is None:
            alphabets = {DEFAULT_ALPHABET: sum(t.startswith("<t_") for t in self.vocabulary)}
        #: The ids of each alphabet.
        self.alphabets: dict[str, range] = {}
        begin = 0
        for name, size in alphabets.items():
            self.alphabets[name] = range(begin, begin + size)
            begin += size
        #: How many of the tokens are values of some alphabet; they come first.
        self.num_tokens = begin

    @property
    def end_id(self) -> int:
        return self._ids[END[1:-1]]

    def sizes(self, alphabets: Sequence[str]) -> tuple[int, ...]:
        """How many tokens each of these alphabets has."""
        return tuple(len(self.alphabets[name]) for name in alphabets)

    def values(self, ids: np.ndarray, alphabets: Sequence[str]) -> np.ndarray:
        """The values of ids, whose last axis goes through slots of these ``alphabets``."""
        return ids - self._first(alphabets, ids)

    def ids(self, values: np.ndarray, alphabets: Sequence[str]) -> np.ndarray:
        """Inverse of ``values``."""
        return values + self._first(alphabets, values)

    def _first(self, alphabets: Sequence[str], like: np.ndarray) -> np.ndarray:
        return np.array([self.alphabets[name].start for name in alphabets], dtype=like.dtype)

    def encode(self, text: str) -> list[int]:
        """Ids of ``<...><...>``; a ``Fault`` names a token outside the vocabulary."""
        if not (text[:1] == "<" and text[-1:] == ">"):
            raise Fault(f"{text!r} is not a sequence of <...> tokens", _NO_TOKENS)
        ids, names = self._ids, text[1:-1].split("><")
        try:
            return [ids[name] for name in names]
        except KeyError as error:
            raise Fault(
                f"token <{error.args[0]}> in {text!r} is not in the vocabulary of "
                f"{len(self.vocabulary)} tokens ({self.vocabulary[0]} ... {self.vocabulary[-1]})",
                LACKING,
                *dict.fromkeys(f"<{name}>" for name in names if name not in ids),
            ) from None

    def decode(self, ids: Sequence[int]) -> str:
        """The text of a sequence of ids."""
        return "".join(self.vocabulary[i] for i in ids)

    def decode_rows(self, rows: np.ndarray) -> list[str]:
        """``decode`` of every row of an ``(n, length)`` integer array."""
        tokens = np.array(self.vocabulary, dtype=object)
        return ["".join(row) for row in tokens[rows].tolist()]

    def short(self, token: int) -> str:
        """A token for a person: ``17`` for ``<t_17>``, ``new york`` for ``<new york>``."""
        text = self.vocabulary[token]
        plain = token in self.alphabets.get(DEFAULT_ALPHABET, ())
        return text[3:-1] if plain and text.startswith("<t_") else name_of(text)

    def expected(self, alphabet: str) -> str:
        """What tokens an alphabet has, in words."""
        ids = self.alphabets[alphabet]
        ends = f"{self.vocabulary[ids[0]]} to {self.vocabulary[ids[-1]]}"
        return ends if alphabet == DEFAULT_ALPHABET else f"{alphabet} tokens ({ends})"
