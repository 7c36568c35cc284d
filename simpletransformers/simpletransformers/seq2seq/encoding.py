"""Text pairs as one integer tensor, cut to what the loss needs.

A row is a target: the prompt repeated, what the model has to produce, the end token. Loss falls on
what is produced (and, if asked for, the end token), so the model reads only up to the token before
the last one with loss, and its output layer is applied only at columns where some row has loss.
A 2-hop row ``x1 x2 x3 t </a>`` is thus three tokens in and one prediction out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from simpletransformers.errors import InputError
from simpletransformers.seq2seq.tokenizer import encode
from simpletransformers.words import counted

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

#: Label of a column at which a row carries no loss; ``torch.nn.functional.cross_entropy``'s own.
NO_LOSS = -100


@dataclass(frozen=True)
class EncodedPairs:
    """``table`` is ``(n, length + len(columns))`` int64: input ids, then labels.

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
        """Inputs and labels of rows of ``table``."""
        return rows[:, : self.length], rows[:, self.length :]


def as_records(data: object) -> list[Mapping[str, object]]:
    """A list of records from None, a list, or anything with pandas' ``to_dict("records")``.

    Of a data frame's cells the missing ones become None and whole floats integers, as they were
    before pandas made one column of both: a k-cutoff of 1 and one that is not there.
    """
    if not hasattr(data, "to_dict"):
        return list(data or [])
    return [{key: _cell(v) for key, v in row.items()} for row in data.to_dict("records")]


def _cell(value: object) -> object:
    if isinstance(value, float):
        return None if value != value else int(value) if value.is_integer() else value
    return None if type(value).__name__ in ("NAType", "NaTType") else value  # those of pandas


def encode_pairs(
    records: Sequence[Mapping], tokenizer: PreTrainedTokenizerFast, *, loss_on_end: bool = False
) -> EncodedPairs:
    """Encode records with ``input_text`` and ``target_text``.

    Rows may differ in length; shorter ones are padded on the right, where causal attention and
    ``NO_LOSS`` keep the padding from mattering. ``InputError`` names the first record that is
    incomplete, does not repeat its input, or leaves nothing to produce.
    """
    if not records:
        raise InputError("there are no records; at least one is needed")
    for number, record in enumerate(records, start=1):
        if not all(isinstance(record.get(key), str) for key in ("input_text", "target_text")):
            raise InputError(f"record {number} lacks input_text or target_text as text")
        if not record["target_text"].startswith(record["input_text"]):
            raise InputError(f"record {number}: target_text does not begin with input_text")
    prompts = encode(tokenizer, [record["input_text"] for record in records])
    targets = encode(tokenizer, [record["target_text"] for record in records])
    for number, (prompt, target) in enumerate(zip(prompts, targets, strict=True), start=1):
        if not prompt or len(target) < len(prompt) + 2 or target[-1] != tokenizer.eos_token_id:
            raise InputError(
                f"record {number}: target_text must hold at least one token after the input and "
                f"end in {tokenizer.eos_token}"
            )
    width, pad = max(map(len, targets)), tokenizer.pad_token_id
    ids = torch.tensor([[*target, *[pad] * (width - len(target))] for target in targets])
    begin = torch.tensor([len(prompt) for prompt in prompts])  # the first produced token
    stop = torch.tensor([len(target) - 1 for target in targets])  # the end token
    position = torch.arange(width)
    carries = (position >= begin[:, None]) & (position < (stop + int(loss_on_end))[:, None])
    predicted = torch.nonzero(carries.any(0)).flatten()  # tokens that some row has to predict
    labels = torch.where(carries, ids, NO_LOSS)[:, predicted]
    columns = tuple((predicted - 1).tolist())
    length = columns[-1] + 1
    table, answer = (
        torch.cat([ids[:, :length], labels], dim=1),
        torch.searchsorted(predicted, stop - 1),
    )
    return EncodedPairs(table, length, columns, answer, int((stop - begin).max()))
