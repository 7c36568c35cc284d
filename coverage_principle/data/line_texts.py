"""Many lines of JSON that are alike but for their tokens and endings, as bytes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import chain

import numpy as np

#: Bytes of the longest of some texts for which all are given as many.
_WIDEST = 128
#: What stands between lines.
BREAK = ",\n"


class TextTable:
    """Texts without zero bytes, such as those of JSON, to be looked up by number."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = np.array(texts, dtype=object)
        encoded = np.array([text.encode("utf-8") for text in texts])
        # Where few are long, texts of one width would be full of holes.
        self.encoded = encoded if encoded.itemsize <= _WIDEST else None

    @classmethod
    def of_tokens(cls, vocabulary: Sequence[str]) -> TextTable:
        """Tokens as a JSON string holds them; one that needs no escape is itself."""
        return cls([dump_text(token)[1:-1] for token in vocabulary])


def dump_text(text: str) -> str:
    """Text as a JSON string."""
    return json.dumps(text, ensure_ascii=False)


def join_rows(parts: Sequence[str | tuple[TextTable, np.ndarray]]) -> bytes:
    """The rows of some columns, one after the other, in UTF-8.

    A column is a text that all rows have, or a table and the numbers ``(n,)`` of what the rows have
    of it; there is at least one of these.
    """
    count = next(len(part[1]) for part in parts if not isinstance(part, str))
    if any(part[0].encoded is None for part in parts if not isinstance(part, str)):
        texts = [[p] * count if isinstance(p, str) else p[0].texts[p[1]].tolist() for p in parts]
        return "".join(chain.from_iterable(zip(*texts, strict=True))).encode("utf-8")
    columns = [p.encode("utf-8") if isinstance(p, str) else p[0].encoded[p[1]] for p in parts]
    kinds = [f"S{len(c)}" if isinstance(c, bytes) else c.dtype for c in columns]
    rows = np.empty(count, dtype=[(f"{i}", kind) for i, kind in enumerate(kinds)])
    for i, column in enumerate(columns):
        rows[f"{i}"] = column
    every = rows.view(np.uint8)
    return every[every != 0].tobytes()  # the zero bytes fill texts up to their column's width


def record_rows(
    tokens: TextTable,
    inputs: np.ndarray,
    targets: np.ndarray,
    endings: TextTable,
    ending: np.ndarray,
) -> bytes:
    """Records as lines with ``BREAK`` between them.

    ``inputs`` ``(n, given)`` and ``targets`` ``(n, m)`` are numbers of ``tokens``: the input, and
    what the target holds after it, the end token too. ``endings`` are what stands after the texts
    (``ending_text``), ``ending`` ``(n,)`` which of them a record has.
    """
    given, asked = ([(tokens, column) for column in ids.T] for ids in (inputs, targets))
    parts = '{"input_text": "', *given, '", "target_text": "', *given, *asked, (endings, ending)
    return join_rows(parts)[: -len(BREAK)]


def ending_text(further: dict) -> str:
    """What stands in a line after a record's texts: its further keys, and ``BREAK``."""
    keys = json.dumps(further, ensure_ascii=False)[1:]
    return f'"{", " if further else ""}{keys}{BREAK}'


def json_list(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """A JSON list with a record a line, of chunks of lines with ``BREAK`` between them."""
    before = b"[\n"
    for chunk in chunks:
        yield before
        yield chunk
        before = BREAK.encode()
    yield b"[]\n" if before == b"[\n" else b"\n]\n"
