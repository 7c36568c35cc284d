"""Text pairs as one integer tensor, cut to what the loss needs.

A row is a target: the prompt repeated, what the model has to produce, the end token. Loss falls on
what is produced (and, if asked for, the end token), so the model reads only up to the token before
the last one with loss, and its output layer is applied only at columns where some row has loss.
A 2-hop row ``x1 x2 x3 t </a>`` is thus three tokens in and one prediction out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from simpletransformers.errors import InputError
from simpletransformers.seq2seq.tokenizer import encode, whole_tokens
from simpletransformers.token_rows import PairBlock, TokenRows
from simpletransformers.words import counted

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

#: Label of a column at which a row carries no loss; ``torch.nn.functional.cross_entropy``'s own.
NO_LOSS = -100
#: Rows that are looked through at once; bounds memory.
_CHUNK = 1 << 20

Records = Sequence[Mapping[str, object]] | TokenRows


@dataclass(frozen=True)
class EncodedPairs:
    """``table`` is ``(n, length + len(columns))`` int32: input ids, then labels.

    ``labels[:, j]`` is what the model has to predict at column ``columns[j]`` of the inputs, or
    ``NO_LOSS``. ``answer`` is ``(n,)``: the label column that holds the last produced token, the
    end token left aside. ``new_tokens`` is the largest number of tokens to produce before the end.
    """

    table: torch.Tensor
    length: int
    columns: tuple[int, ...]
    answer: torch.Tensor
    new_tokens: int

    def __repr__(self) -> str:
        return f"<EncodedPairs: {counted(len(self), 'row')} of {counted(self.length, 'token')}>"

    def __len__(self) -> int:
        return len(self.table)

    def to(self, device: torch.device) -> EncodedPairs:
        return replace(self, table=self.table.to(device), answer=self.answer.to(device))

    def split(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Inputs and labels of rows of ``table``, int64."""
        return rows[:, : self.length].long(), rows[:, self.length :].long()

    def digest(self) -> str:
        """The SHA-256 of the table as int64, by which a run knows its data again."""
        found = hashlib.sha256()
        for part in self.table.split(_CHUNK):
            found.update(part.long().cpu().numpy().tobytes())
        return found.hexdigest()

    @property
    def loss_tokens(self) -> torch.Tensor:
        """How many tokens of each row carry loss, ``(n,)`` int64."""
        return (self.table[:, self.length :] != NO_LOSS).sum(1)


def as_records(data: object, keys: Sequence[str] = ()) -> Records:
    """A list of records from None, a list, or anything with pandas' ``to_dict("records")``.

    Of a data frame's cells the missing ones become None and whole floats integers, as they were
    before pandas made one column of both: a k-cutoff of 1 and one that is not there.

    What has a method ``token_rows(keys)`` knows the tokens of its texts: it gives them as
    ``TokenRows``, with labels of the keys that are asked for.
    """
    if hasattr(data, "token_rows"):
        return data.token_rows(keys)
    if isinstance(data, TokenRows):
        return data
    if not hasattr(data, "to_dict"):
        return list(data or [])
    return [{key: _cell(v) for key, v in row.items()} for row in data.to_dict("records")]


def _cell(value: object) -> object:
    if isinstance(value, float):
        return None if value != value else int(value) if value.is_integer() else value
    return None if type(value).__name__ in ("NAType", "NaTType") else value  # those of pandas


def encode_pairs(
    records: Records, tokenizer: PreTrainedTokenizerFast, *, loss_on_end: bool = False
) -> EncodedPairs:
    """Encode records with ``input_text`` and ``target_text``, or pairs whose tokens are known.

    Rows may differ in length; shorter ones are padded on the right, where causal attention and
    ``NO_LOSS`` keep the padding from mattering. ``InputError`` names the first record that is
    incomplete, does not repeat its input, or leaves nothing to produce.
    """
    if not len(records):
        raise InputError("there are no records; at least one is needed")
    if isinstance(records, TokenRows):
        ids = ids_of(records.vocabulary, tokenizer)
        if ids is not None and ids[records.vocabulary.index(records.end)] == tokenizer.eos_token_id:
            return _table(records.blocks, ids, tokenizer, loss_on_end)
        records = list(records.records())  # the tokenizer is of other tokens
    return _table(_blocks(records, tokenizer), None, tokenizer, loss_on_end)


def ids_of(vocabulary: Sequence[str], tokenizer: PreTrainedTokenizerFast) -> np.ndarray | None:
    """The tokenizer's id of each token, ``(n,)`` int32; None if it does not have each as one."""
    known = whole_tokens(tokenizer)
    if not all(token in known for token in vocabulary):
        return None
    return np.array([known[token] for token in vocabulary], dtype=np.int32)


def _blocks(records: Sequence[Mapping], tokenizer: PreTrainedTokenizerFast) -> list[PairBlock]:
    """The records' ids, those of one shape together."""
    for number, record in enumerate(records, start=1):
        if not all(isinstance(record.get(key), str) for key in ("input_text", "target_text")):
            raise InputError(f"record {number} lacks input_text or target_text as text")
        if not record["target_text"].startswith(record["input_text"]):
            raise InputError(f"record {number}: target_text does not begin with input_text")
    _, prompts = encode(tokenizer, [record["input_text"] for record in records])
    ids, lengths = encode(tokenizer, [record["target_text"] for record in records])
    stops = np.cumsum(lengths)
    whole = (prompts > 0) & (lengths >= prompts + 2)
    whole[whole] = ids[stops[whole] - 1] == tokenizer.eos_token_id
    if not whole.all():
        raise InputError(
            f"record {int(whole.argmin()) + 1}: target_text must hold at least one token after the "
            f"input and end in {tokenizer.eos_token}"
        )
    shapes, shape = np.unique(np.stack([prompts, lengths], axis=1), axis=0, return_inverse=True)
    blocks = []
    for number, (prompt, length) in enumerate(shapes.tolist()):
        places = np.flatnonzero(shape.ravel() == number)
        tokens = ids[(stops - lengths)[places, None] + np.arange(length - 1)]
        blocks.append(PairBlock(tokens[:, :prompt], tokens[:, prompt:], places))
    return blocks


def _table(
    blocks: Sequence[PairBlock],
    ids: np.ndarray | None,
    tokenizer: PreTrainedTokenizerFast,
    loss_on_end: bool,
) -> EncodedPairs:
    """The table of blocks of places in a vocabulary; ``ids`` are the model's ids of these."""
    blocks = [block for block in blocks if len(block)]
    spans = [(block.inputs.shape[1], block.width) for block in blocks]
    predicted = sorted({p for begin, end in spans for p in range(begin, end + int(loss_on_end))})
    columns = tuple(position - 1 for position in predicted)
    length, count = columns[-1] + 1, sum(map(len, blocks))
    table = np.empty((count, length + len(columns)), dtype=np.int32)
    answer = np.empty(count, dtype=np.int64)
    same = ids is None or np.array_equal(ids, np.arange(len(ids)))
    for block, (begin, end) in zip(blocks, spans, strict=True):
        rows = block.rows
        answer[rows] = predicted.index(end - 1)
        for place, position in enumerate([*range(length), *predicted]):
            if position < end and (place < length or position >= begin):
                own = block.column(position)
                table[rows, place] = own if same else ids[own]
            elif place < length:
                table[rows, place] = (
                    tokenizer.eos_token_id if position == end else tokenizer.pad_token_id
                )
            else:
                ends = loss_on_end and position == end
                table[rows, place] = tokenizer.eos_token_id if ends else NO_LOSS
    most = max(end - begin for begin, end in spans)
    tensors = torch.from_numpy(table), torch.from_numpy(answer)
    return EncodedPairs(tensors[0], length, columns, tensors[1], most)
