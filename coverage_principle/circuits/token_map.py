"""A model trained elsewhere has its own tokens: a map says which of them the data set's are.

The file is a JSON object: for each token of the data set the model's, as an id or as a text that
the checkpoint's tokenizer makes one token of:

    {"<t_0>": 17, "<t_1>": " Paris"}
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from coverage_principle.data import END, Dataset, read_json, sha256
from coverage_principle.errors import InputError
from coverage_principle.paths import relative_to_root
from simpletransformers.seq2seq.tokenizer import read_tokenizer
from simpletransformers.words import counted


@dataclass(frozen=True)
class TokenMap:
    """What a file of this kind says of a data set's tokens (``given``); others in it are ignored.

    ``vocabulary`` is the data set's; tokens that stand in none of its items need not be given.
    """

    file: Path
    vocabulary: tuple[str, ...]
    given: Mapping[str, int | str]

    @classmethod
    def read(cls, file: str | Path, dataset: Dataset) -> TokenMap:
        """``InputError`` if a token that stands in an item is not given, or is no id or text."""
        file, vocabulary = Path(file), tuple(dataset.codec.vocabulary)
        content = read_json(file, dict)
        given = {token: content[token] for token in vocabulary if token in content}
        used = [vocabulary[i] for i in _used(dataset)]
        if missing := [token for token in used if token not in given]:
            lack = f"lacks {len(missing):,} of the {counted(len(used), 'token')}"
            where = f"that stand in the items of {dataset.name}, such as {missing[0]}"
            raise InputError(f"`token_map` {file} {lack} {where}")
        for token, own in given.items():
            if type(own) not in (int, str):
                told = f"`token_map` {file} gives {token} {own!r}"
                raise InputError(f"{told}; a token is given an id (a whole number) or a text")
        return cls(file, vocabulary, given)

    @property
    def about(self) -> dict[str, str]:
        """What a result file says of it."""
        return {"path": relative_to_root(self.file), "sha256": sha256(self.file)}

    def ids(self, checkpoint: Path, size: int) -> list[int | None]:
        """The model's id of each token of the vocabulary, None of one that is not given.

        ``size`` is how many ids the model has. ``InputError`` for a text that is not one token of
        the checkpoint's tokenizer, an id that the model does not have, and one given twice.
        """
        texts = [own for own in self.given.values() if isinstance(own, str)]
        found = self._of_texts(checkpoint, texts) if texts else {}
        owners: dict[int, str] = {}
        for token, own in self.given.items():
            own = found[own] if isinstance(own, str) else own
            told = f"`token_map` {self.file} gives {token}"
            if not 0 <= own < size:
                has = f"the model in {checkpoint} has ids from 0 to {size - 1:,}"
                raise InputError(f"{told} the id {own}, but {has}")
            if own in owners:
                twice = f"the same id as {owners[own]}, {own}"
                raise InputError(f"{told} {twice}; each token needs one of its own")
            owners[own] = token
        known = {token: own for own, token in owners.items()}
        return [known.get(token) for token in self.vocabulary]

    def with_end(self, checkpoint: Path, size: int | None = None) -> dict[str, int]:
        """The model's id of each token that is given, and of the one that ends a text.

        If that is not given, it is the end of the model's own texts, or else an id that no token of
        the data set has: nothing is asked of it but to stand behind the answer. ``size`` is how
        many ids the model has, if ``checkpoint`` is a file of weights, which does not say it.
        """
        config = read_json(checkpoint / "config.json", dict) if size is None else {}
        size = size or config["vocab_size"]
        known = dict(zip(self.vocabulary, self.ids(checkpoint, size), strict=True))
        found = {token: own for token, own in known.items() if own is not None}
        if END not in found:
            free = set(range(size)) - {*found.values()}
            if not free:
                raise InputError(f"`token_map` {self.file} leaves the model no id for {END}")
            end = config.get("eos_token_id")
            found[END] = end if type(end) is int and end in free else min(free)
        return found

    def _of_texts(self, checkpoint: Path, texts: list[str]) -> dict[str, int]:
        try:
            tokenizer = read_tokenizer(checkpoint)
        except InputError as error:
            needed = f"`token_map` {self.file} gives texts, such as {texts[0]!r}"
            raise InputError(f"{needed}, but {error}; give ids in their place") from error
        known, found = tokenizer.get_vocab(), {}
        for text in texts:
            made = [known[text]] if text in known else _encoded(tokenizer, text)
            if len(made) != 1:
                parts = f"the tokenizer of {checkpoint} makes {counted(len(made), 'token')} of it"
                raise InputError(f"`token_map` {self.file} gives the text {text!r}, but {parts}")
            found[text] = made[0]
        return found


def _encoded(tokenizer, text: str) -> list[int]:
    """The ids of a text; none if it holds what the tokenizer does not know."""
    try:
        ids = tokenizer([text], add_special_tokens=False)["input_ids"][0]
    except Exception:  # a tokenizer without a token for what is unknown raises of its own kinds
        return []
    return [] if tokenizer.unk_token_id in ids else list(ids)


def _used(dataset: Dataset) -> np.ndarray:
    """The ids of tokens that stand in training or test items, or in single facts, ascending."""
    seen = np.zeros(len(dataset.codec.vocabulary), dtype=bool)
    for split in (dataset.train, dataset.test):
        seen[dataset.ids(split.inputs, dataset.graph.inputs)] = True
        seen[split.targets] = True
        for call, result in zip(split.facts.calls, split.facts.results, strict=True):
            seen[[*call, result]] = True
    return np.flatnonzero(seen)
