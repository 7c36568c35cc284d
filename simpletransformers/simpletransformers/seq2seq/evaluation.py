"""Accuracy by group of items, and greedy generation; exact counts on any number of ranks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from simpletransformers.seq2seq.architecture import Architecture, architecture_of
from simpletransformers.seq2seq.args import Seq2SeqArgs
from simpletransformers.seq2seq.distributed import Ranks
from simpletransformers.seq2seq.encoding import NO_LOSS, EncodedPairs, Records
from simpletransformers.seq2seq.optimisation import autocast
from simpletransformers.token_rows import Labels, TokenRows

if TYPE_CHECKING:
    from transformers import PreTrainedModel

#: The keys that make groups where none are asked for.
GROUP_BY = ("type",)


@dataclass(frozen=True)
class GroupedItems:
    """Items to score, and which of them are scored together, by the group's name."""

    data: EncodedPairs
    groups: Mapping[str, np.ndarray]


def group_items(records: Records, group_by: Sequence[str]) -> dict[str, np.ndarray]:
    """Item numbers of each group, ascending int64.

    The first key of ``group_by`` makes the main groups (``type_0``); each further key that records
    hold makes groups within them (``type_0/k_cutoff=3``), for records where it is not null.
    Records without the first key are in the one group ``all``. Groups are sorted by name, inner
    ones by value.
    """
    first, *others = group_by or GROUP_BY
    main = _labels(records, first)
    of_name = {"all" if i < 0 else main.names[i]: rows for i, rows in _parts(main.codes)}
    if (main.codes < 0).any() and "all" in main.names:
        of_name["all"] = np.flatnonzero((main.codes < 0) | (main.codes == main.names.index("all")))
    groups = {name: of_name[name] for name in sorted(of_name)}
    inner = {}
    for key in others:
        labels = _labels(records, key)
        for name, rows in of_name.items():
            for code, places in _parts(labels.codes[rows]):
                if code >= 0:
                    inner[name, key, labels.names[code]] = rows[places]
    for name, key, value in sorted(inner, key=lambda k: (k[0], k[1], k[2].zfill(12))):
        groups[f"{name}/{key}={value}"] = inner[name, key, value]
    return groups


def _labels(records: Records, key: str) -> Labels:
    if isinstance(records, TokenRows):
        return records.labels.get(key) or Labels(np.full(len(records), -1), ())
    return Labels.of([record.get(key) for record in records])


def _parts(codes: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Each code that there is, with the places where it stands, ascending."""
    order = np.argsort(codes, kind="stable")
    found, begins = np.unique(codes[order], return_index=True)
    return zip(found.tolist(), np.split(order, begins)[1:], strict=True)


@torch.inference_mode()
def evaluate(
    model: PreTrainedModel, items: GroupedItems, args: Seq2SeqArgs, ranks: Ranks
) -> dict[str, dict[str, float]]:
    """Scores of each group, the same on every rank: ``{group: {"n", "loss", ...}}``.

    ``loss`` is the mean over items of an item's mean cross entropy (nats) over its loss tokens.
    ``answer_accuracy`` is the share of items whose last produced token before the end is right;
    ``exact_match``, all produced tokens right. Both are teacher-forced: the model reads the true
    tokens before each. Where more than one token is produced (chain of thought), ``free_*`` are the
    same of greedy generation, in which the model reads what it produced itself.
    """
    was_training, architecture, data = model.training, architecture_of(model), items.data
    model.eval()
    # float32 holds them as they are; means are taken in float64.
    scores = torch.zeros(len(data), 5, device=ranks.device)
    mine = torch.arange(ranks.rank, len(data), ranks.world, device=ranks.device)
    names = ["loss", "answer_accuracy", "exact_match"]
    # Rows of different lengths have their one token at different columns.
    if several := bool((data.loss_tokens > 1).any()):
        names += ["free_answer_accuracy", "free_exact_match"]
    for rows in mine.split(args.eval_batch_size):
        inputs, labels = data.split(data.table[rows])
        with autocast(args, ranks.device):
            logits = architecture.logits_at(inputs, data.columns).float()
        options = {"ignore_index": NO_LOSS, "reduction": "none"}
        losses = functional.cross_entropy(logits.transpose(1, 2), labels, **options)
        scores[rows, 0] = (losses.sum(1) / (labels != NO_LOSS).sum(1)).float()
        answer = data.answer[rows, None]
        _score(scores[:, 1:3], rows, logits.argmax(-1), labels, answer)
        if several:
            with autocast(args, ranks.device):
                produced = produce(architecture, inputs, labels, data.columns)
            _score(scores[:, 3:5], rows, produced, labels, answer)
    scores = ranks.sum(scores).cpu()  # a row that is not mine is zero
    model.train(was_training)
    return {
        group: {"n": len(rows), **dict(zip(names, _means(scores, rows), strict=False))}
        for group, rows in items.groups.items()
    }


def _means(scores: Tensor, rows: np.ndarray) -> list[float]:
    return scores[torch.as_tensor(rows)].double().mean(0).tolist()


def produce(architecture: Architecture, inputs: Tensor, labels: Tensor, columns: Sequence[int]):
    """Greedy tokens at the loss columns, each read back in place of the true one.

    Sequences are a few tokens long, so running the whole prefix again for each token costs less
    than keeping a cache of keys and values would.
    """
    inputs = inputs.clone()
    produced = torch.empty_like(labels)
    for j, column in enumerate(columns):
        logits = architecture.logits_at(inputs[:, : column + 1], [column])
        produced[:, j] = logits[:, 0].argmax(-1)
        if column + 1 < inputs.shape[1]:
            own = labels[:, j] != NO_LOSS  # elsewhere the next token is still given
            inputs[own, column + 1] = produced[own, j]
    return produced


def _score(into: Tensor, rows: Tensor, produced: Tensor, labels: Tensor, answer: Tensor) -> None:
    """Write (answer right, everything right) of each row as 0 or 1."""
    right = produced == labels
    into[rows, 0] = right.gather(1, answer)[:, 0].float()
    into[rows, 1] = (right | (labels == NO_LOSS)).all(1).float()


@torch.inference_mode()
def generate(model: PreTrainedModel, prompts: Tensor, new_tokens: int, end: int) -> Tensor:
    """``(n, new_tokens)`` greedy continuations; everything from the end token on is ``end``."""
    architecture, sequence = architecture_of(model.eval()), prompts
    finished = torch.zeros(len(prompts), dtype=torch.bool, device=prompts.device)
    for _ in range(new_tokens):
        logits = architecture.logits_at(sequence, [sequence.shape[1] - 1])
        token = logits[:, 0].argmax(-1).masked_fill(finished, end)
        finished |= token == end
        sequence = torch.cat([sequence, token[:, None]], dim=1)
    return sequence[:, prompts.shape[1] :]
