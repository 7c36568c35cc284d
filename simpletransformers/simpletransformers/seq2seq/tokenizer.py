"""A tokenizer whose tokens are exactly the data's own: ``<t_5>`` is one id, and nothing else is."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tokenizers import Regex, Tokenizer, models, pre_tokenizers

from simpletransformers.errors import InputError
from simpletransformers.seq2seq import light

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerFast

PAD = "<pad>"
#: Texts that are encoded at once; bounds the memory of what stands between texts and ids.
_CHUNK = 1 << 16


def build_tokenizer(tokens: Sequence[str], end_token: str) -> PreTrainedTokenizerFast:
    """A word-level tokenizer: ids are positions in ``tokens``, then ``<pad>``.

    Text is cut into its ``<...>`` tokens; one outside the vocabulary is an error when encoding,
    since there is no unknown token to hide it.
    """
    if duplicates := sorted(token for token, count in Counter(tokens).items() if count > 1):
        raise InputError(f"new_tokens holds {duplicates[0]!r} more than once")
    for token in tokens:
        if not (len(token) > 2 and token[0] == "<" and token[-1] == ">" and ">" not in token[:-1]):
            raise InputError(f"new_tokens holds {token!r}; every token must look like <name>")
    if end_token not in tokens:
        raise InputError(f"new_tokens lacks the end token {end_token!r}")
    return _whole({token: i for i, token in enumerate([*tokens, PAD])}, end_token, PAD)


def tokenizer_of_rows(ids: Mapping[str, int], end_token: str, rows: int) -> PreTrainedTokenizerFast:
    """As ``mapped_tokenizer``, to be saved as well: the model's other rows are ``<row_3>``."""
    names = {i: token for token, i in ids.items()}
    return _whole({names.get(i, f"<row_{i}>"): i for i in range(rows)}, end_token, end_token)


def _whole(ids: dict[str, int], end_token: str, pad_token: str) -> PreTrainedTokenizerFast:
    from transformers import PreTrainedTokenizerFast

    special = {"eos_token": end_token, "pad_token": pad_token}
    return PreTrainedTokenizerFast(
        tokenizer_object=_backend(ids), clean_up_tokenization_spaces=False, **special
    )


def mapped_tokenizer(ids: Mapping[str, int], end_token: str) -> light.LightTokenizer:
    """A tokenizer of tokens ``<...>`` with ids of their own, to run a model trained elsewhere.

    Padding, which no loss or answer depends on, is made of the end token.
    """
    return light.LightTokenizer(_backend(dict(ids)), end_token, end_token)


def _backend(ids: dict[str, int]) -> Tokenizer:
    backend = Tokenizer(models.WordLevel(ids))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(light.TOKEN), behavior="isolated")
    return backend


def save_tokenizer(tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Save so that ``AutoTokenizer.from_pretrained`` of transformers 4.x and 5.x loads it."""
    tokenizer.save_pretrained(folder)
    file = folder / "tokenizer_config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    # transformers 5 writes the name of a class that 4.x does not have; both know this one.
    config["tokenizer_class"] = "PreTrainedTokenizerFast"
    file.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def read_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """The tokenizer saved in a folder; nothing is ever downloaded.

    ``InputError`` if there is none, or if it cannot be read.
    """
    if not any((folder / name).is_file() for name in ("tokenizer.json", "vocab.json")):
        raise InputError(f"{folder} has no tokenizer (tokenizer.json or vocab.json)")
    try:
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # transformers and tokenizers have no common base for this
        why = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(f"the tokenizer of {folder} cannot be loaded: {why}") from error


def load_tokenizer(
    folder: Path, config: PretrainedConfig, *, to_run: bool = False
) -> PreTrainedTokenizerFast | light.LightTokenizer:
    """The tokenizer saved in a checkpoint; ``to_run`` as in ``architecture.load_model``.

    ``InputError`` as ``read_tokenizer``, and if it is not that of the checkpoint's model.
    """
    tokenizer = (light.read_tokenizer(folder) if to_run else None) or read_tokenizer(folder)
    end = tokenizer.eos_token_id
    # A config that names no end was not written here; its tokenizer may have one all the same.
    if len(tokenizer) > config.vocab_size or config.eos_token_id not in (None, end):
        raise InputError(
            f"the tokenizer in {folder} is another model's: it has {len(tokenizer)} tokens, the "
            f"end {end}; the model has {config.vocab_size}, the end {config.eos_token_id}"
        )
    return tokenizer


def whole_tokens(tokenizer: PreTrainedTokenizerFast) -> dict[str, int]:
    """The ids of names ``<...>`` that are one token wherever they stand among others.

    None are told of a tokenizer of which this does not follow from its description: one that
    changes texts before it cuts them, or has tokens that could be found inside of names.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None or backend.encode_special_tokens:
        return {}
    about = json.loads(backend.to_str())
    model, cut, added = about["model"], about["pre_tokenizer"] or {}, about["added_tokens"]
    plain = all(not (one["single_word"] or one["lstrip"] or one["rstrip"]) for one in added)
    found = {one["content"]: one["id"] for one in added}
    if about["normalizer"] or about["truncation"] or not plain or not all(map(_is_name, found)):
        return {}
    if model.get("type") == "WordLevel" and cut == light.CUT:
        found = {name: i for name, i in model["vocab"].items() if _is_name(name)} | found
    return found


def _is_name(token: str) -> bool:
    inside = token[1:-1]
    return token[:1] + token[-1:] == "<>" and bool(inside) and not {"<", ">"} & set(inside)


def encode(
    tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Token ids of all texts, one text after the other, int32, and ``(n,)`` int64 their numbers.

    ``InputError`` names the first text that cannot be encoded.
    """
    ids, counts = _looked_up(tokenizer, texts) or _cut(tokenizer, texts)
    return np.concatenate([np.zeros(0, np.int32), *ids]), np.array(counts, dtype=np.int64)


def _looked_up(
    tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]
) -> tuple[list[np.ndarray], list[int]] | None:
    """The ids by chunks, and each text's number of them; None if texts are not of whole tokens.

    What the tokenizer's own library does, in a fiftieth of the time.
    """
    known = {name[1:-1]: i for name, i in whole_tokens(tokenizer).items()}
    ids, counts = [], []
    for chunk in _chunks(texts):
        if not all(text[:1] == "<" and text[-1:] == ">" for text in chunk):
            return None
        names = "".join(chunk)[1:-1].split("><")
        found = list(map(known.get, names))
        if None in found:
            return None
        ids.append(np.array(found, dtype=np.int32))
        counts += [text.count("><") + 1 for text in chunk]
    return ids, counts


def _cut(
    tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]
) -> tuple[list[np.ndarray], list[int]]:
    """As ``_looked_up``, for any texts and by the tokenizer's own library."""
    ids, counts = [], []
    try:
        for chunk in _chunks(texts):
            rows = tokenizer(chunk, add_special_tokens=False)["input_ids"]
            counts += map(len, rows)
            ids.append(np.fromiter(chain.from_iterable(rows), np.int32, sum(map(len, rows))))
    except Exception as error:  # the tokenizers package raises bare Exception
        known = tokenizer.get_vocab()
        vocabulary = f"the vocabulary of {len(known)} tokens"
        for text in texts:
            for token in text.replace("><", ">\n<").split("\n"):
                if token not in known:
                    raise InputError(f"{token!r} in {text!r} is not in {vocabulary}") from error
        raise InputError(f"the tokenizer cannot read the texts: {error}") from error
    return ids, counts


def _chunks(texts: Sequence[str]) -> Iterator[list[str]]:
    for begin in range(0, len(texts), _CHUNK):
        yield list(texts[begin : begin + _CHUNK])
