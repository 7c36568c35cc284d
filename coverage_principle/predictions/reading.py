"""Any model's predictions as one array: which answer it gave to each test item.

``docs/predictions.md`` has the formats. An answer is the id of its token; what is none is a
negative number, so that nothing is guessed and nothing is lost sight of.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from coverage_principle.coverage import about_file
from coverage_principle.data import (
    END,
    Dataset,
    Template,
    alphabet_tokens,
    looking_into,
    name_of,
    read_json,
    sha256,
)
from coverage_principle.data.files import text_lines
from coverage_principle.errors import InputError
from coverage_principle.reprs import one_line
from simpletransformers.files import parse_json
from simpletransformers.words import counted

logger = logging.getLogger(__name__)

#: What a record may call the text that the model wrote; the first of these that it has counts.
OUTPUTS = ("model_output", "prediction", "output", "text")

#: In place of an answer: no record, no answer in the text, records that differ.
MISSING, UNPARSABLE, CONTRADICTING = -1, -2, -3


@dataclass(frozen=True)
class Predictions:
    """What models answered to the items of ``test.json``, compositions before single facts.

    ``outputs`` is ``(files, items)`` int64: the id of the answer's token, or ``MISSING``,
    ``UNPARSABLE`` or ``CONTRADICTING``. ``files`` says of each file what was counted in it:
    ``file``, ``sha256``, ``records``, ``unknown`` (records of no test item) and numbers of items:
    ``double`` (with several records), ``contradicting`` (those of them whose records differ),
    ``missing`` and ``unparsable``; ``prompts`` of those that the texts were read by, if any:
    ``file`` and the ``sha256`` of what says of them how they were made.
    """

    outputs: np.ndarray
    files: list[dict]
    prompts: dict | None = None

    __repr__ = one_line


def read_predictions(
    dataset: Dataset, files: Sequence[str | Path], prompts: str | Path | None = None
) -> Predictions:
    """Read a file for each model or seed.

    ``prompts`` is the file of ``script/export_prompts.py`` whose names and template the texts are
    read by; without it names are the tokens' own. ``InputError`` for a file that is broken, is
    given twice or has no record of a test item; for a record that names no item or holds no text;
    for prompts of other data.
    """
    files = [Path(file) for file in files]
    for number, file in enumerate(files):
        if any(file.resolve() == before.resolve() for before in files[:number]):
            raise InputError(f"`predictions` {file} is given twice; give a file for each model")
    places, reader = _Places(dataset), _AnswerReader(dataset, prompts and Path(prompts))
    read = [_read_file(file, dataset, places, reader) for file in files]
    names = {"file": str(prompts), "sha256": sha256(about_file(Path(prompts)))} if prompts else None
    outputs, about = zip(*read, strict=True)
    return Predictions(np.stack(outputs), list(about), names)


def answer_values(dataset: Dataset, outputs: np.ndarray) -> np.ndarray:
    """The values ``(n,)`` of ids of answers ``(n,)``; what is negative stays as it is."""
    alphabet = [dataset.graph.alphabet(dataset.graph.answer)]
    values = dataset.codec.values(outputs[:, None], alphabet)[:, 0]
    return np.where(outputs >= 0, values, outputs)


def prediction_records(dataset: Dataset, answers: Sequence[str | None]) -> list[dict]:
    """Records like those of ``main.py --do_predict`` for ``answers``, a token's text or None each.

    One for each test item, compositions before single facts. None becomes a ``model_output`` of
    null.
    """
    return [
        {**record, "model_output": answer and f"{record['input_text']}{answer}{END}"}
        for record, answer in zip(dataset.test.all_records, answers, strict=True)
    ]


# ---------------------------------------------------------------------------------------- the items


class _Places:
    """Which rows of the test items a record is about."""

    def __init__(self, dataset: Dataset) -> None:
        test = dataset.test
        numbers = [*test.numbers.tolist(), *test.facts.numbers]
        self._by_number = {number: [row] for row, number in enumerate(numbers)}
        self._by_text: dict[str, dict[str, int]] = {}
        for row, record in enumerate(test.all_records):
            self._by_text.setdefault(record["input_text"], {})[record["type"]] = row

    def rows(self, record: Mapping) -> Sequence[int]:
        """None for an item that the test set lacks; ``ValueError`` if the record names no item."""
        text, number, kind = (record.get(key) for key in ("input_text", "id", "type"))
        if not (kind is None or isinstance(kind, str)):
            raise ValueError(f"has the type {kind!r}, which is no text")
        if isinstance(text, str):
            by_type = self._by_text.get(text, {})
            # Without a type it is about the input, whatever types that is listed under.
            chosen = by_type if kind is None else by_type.keys() & {kind}
            return [by_type[one] for one in chosen]
        if text is None and isinstance(number, int) and not isinstance(number, bool):
            return self._by_number.get(number, [])
        raise ValueError("has neither input_text, a text, nor id, the item's place in test.json")


def _read_file(
    file: Path, dataset: Dataset, places: _Places, reader: _AnswerReader
) -> tuple[np.ndarray, dict]:
    """The answers ``(items,)`` of one file, and what was counted."""
    outputs = np.full(len(dataset.test.all_records), MISSING, dtype=np.int64)
    records, unknown, double, first = 0, 0, set(), None
    for where, record in _records(file):
        try:
            rows, text = places.rows(record), _text(record)
        except ValueError as error:
            raise InputError(f"{file} {where} {error}") from error
        records += 1
        unknown += not rows
        for row in rows:
            answer = UNPARSABLE if text is None else reader.answer(row, text)
            if answer == UNPARSABLE and first is None:
                first = f"{where}: {text!r}"
            if outputs[row] != MISSING:
                double.add(row)
                answer = answer if answer == outputs[row] else CONTRADICTING
            outputs[row] = answer
    if (outputs == MISSING).all():
        raise InputError(
            f"{file}: of its {counted(records, 'record')} none is about an item of test.json"
        )
    counts = {"records": records, "unknown": unknown, "double": len(double)}
    for name, code in (
        ("contradicting", CONTRADICTING),
        ("missing", MISSING),
        ("unparsable", UNPARSABLE),
    ):
        counts[name] = int((outputs == code).sum())
    if (outputs < 0).sum() - counts["missing"] > (outputs >= 0).sum() and first:
        hint = "" if reader.named else "; give `prompts`, if names are those of exported prompts"
        logger.warning("warning: %s: most outputs name no answer, such as %s%s", file, first, hint)
    return outputs, {"file": str(file), "sha256": sha256(file), **counts}


def _records(file: Path) -> Iterator[tuple[str, dict]]:
    """The objects of a JSON list or of JSON lines, and where each stands."""
    lines = text_lines(file)
    first = next((line for line in lines if line.strip()), "")
    if first.lstrip().startswith("["):
        content = enumerate(read_json(file, list), start=1)
        found = ((f"record {number}", record) for number, record in content)
    else:
        found = _json_lines(file)
    for where, record in found:
        if not isinstance(record, dict):
            raise InputError(f"{file} {where} is no JSON object")
        yield where, record


def _json_lines(file: Path) -> Iterator[tuple[str, object]]:
    for number, line in enumerate(text_lines(file), start=1):
        if line.strip():
            try:
                yield f"line {number}", parse_json(line)
            except ValueError as error:
                raise InputError(f"{file} line {number} is not valid JSON: {error}") from error


def _text(record: Mapping) -> str | None:
    """What the model wrote; None if it wrote nothing (null). ``ValueError`` if there is no place.

    ``completion`` is none: in a line of exported prompts that is the right answer.
    """
    for key in OUTPUTS:
        if key in record:
            if record[key] is None or isinstance(record[key], str):
                return record[key]
            raise ValueError(f"holds {record[key]!r} under {key}, which must be a text or null")
    raise ValueError(f"lacks what the model wrote, under one of {', '.join(OUTPUTS)}")


# -------------------------------------------------------------------------------------- the answers


class _AnswerReader:
    """Reads the answer off what a model wrote about an item: tokens, or a text with names."""

    def __init__(self, dataset: Dataset, prompts: Path | None) -> None:
        self._dataset, self._graph = dataset, dataset.graph
        self.named = prompts is not None
        self._names, self._completion = _own_names(dataset), None
        if prompts is not None:
            self._names, self._completion = _names_of_prompts(dataset, prompts)
        self._inputs = [record["input_text"] for record in dataset.test.all_records]
        self._answers = answer_ids(dataset)
        self._patterns: dict[str, re.Pattern] = {}

    def answer(self, row: int, text: str) -> int:
        """The id of the answer's token; ``UNPARSABLE`` if the text does not say one."""
        text = text.strip()
        # An answer alone may begin as the input does.
        for one in dict.fromkeys((text.removeprefix(self._inputs[row]), text)):
            if (found := self._read(row, one.partition(END)[0].strip())) != UNPARSABLE:
                return found
        return UNPARSABLE

    def _read(self, row: int, text: str) -> int:
        alphabet = self._alphabet[self._answers[row]]
        if text.startswith("<"):
            return self._of_tokens(text, alphabet, fact=row >= len(self._dataset.test))
        if alphabet not in self._patterns:
            self._patterns[alphabet] = self._pattern(alphabet)
        found = self._patterns[alphabet].match(text)
        return self._ids[alphabet][found["answer"]] if found else UNPARSABLE

    def _of_tokens(self, text: str, alphabet: str, *, fact: bool) -> int:
        """The answer after ``<...>`` tokens: it alone, or the whole chain of thought before it."""
        try:
            ids = self._dataset.codec.encode(text)
        except InputError:
            return UNPARSABLE
        whole = 1 if fact else self._dataset.test.targets.shape[1]
        good = len(ids) in (1, whole) and ids[-1] in self._dataset.codec.alphabets[alphabet]
        return ids[-1] if good else UNPARSABLE

    @cached_property
    def _alphabet(self) -> dict[int, str]:
        """The alphabet of each id."""
        alphabets = self._dataset.codec.alphabets
        return {token: name for name, ids in alphabets.items() for token in ids}

    @cached_property
    def _ids(self) -> dict[str, dict[str, int]]:
        """The id of each name, by alphabet."""
        alphabets, vocabulary = self._dataset.codec.alphabets, self._dataset.codec.vocabulary
        return {
            name: {self._names[vocabulary[token]]: token for token in ids}
            for name, ids in alphabets.items()
        }

    def _pattern(self, alphabet: str) -> re.Pattern:
        """What a text with an answer of this alphabet begins with.

        The answer's name, before it what the prompts' template has there; that may be left out
        unless it holds other values, with which the answer could be confused.
        """
        before, values = "", False
        if self._completion and alphabet == self._graph.alphabet(self._graph.answer):
            for literal, name in self._completion:
                before += r"\s*".join(["", *map(re.escape, literal.split()), ""])
                if name == self._graph.answer:
                    break
                if name:
                    values = True
                    before += self._any_name(self._graph.alphabet(name))
        before = before if values else f"(?:{before})?"
        return re.compile(rf"{before}(?P<answer>{self._any_name(alphabet)})(?!\w)")

    def _any_name(self, alphabet: str) -> str:
        names = sorted(self._ids[alphabet], key=len, reverse=True)
        return f"(?:{'|'.join(map(re.escape, names))})"


def answer_ids(dataset: Dataset) -> np.ndarray:
    """Ids of the right answers of the test items, compositions before single facts: ``(n,)``."""
    test = dataset.test
    return np.array([*test.targets[:, -1].tolist(), *test.facts.results], dtype=np.int64)


def _own_names(dataset: Dataset) -> dict[str, str]:
    tokens = alphabet_tokens(dataset).values()
    return {token: name_of(token) for alphabet in tokens for token in alphabet}


def _names_of_prompts(dataset: Dataset, prompts: Path) -> tuple[dict[str, str], list]:
    """Names of tokens and the completion of the template that exported prompts were made with."""
    file = about_file(prompts)
    if not file.exists():
        raise InputError(f"`prompts` {prompts}: what they were made from is not beside it, {file}")
    about = read_json(file, dict)
    with looking_into(file, "what prompts were made from"):
        settings, names = about["settings"], about["names"]
        if about["sha256"].get("test.json") != dataset.digests["test.json"]:
            raise InputError(f"`prompts` {prompts} are of other items than {dataset.path}")
        if settings["split"] != "test":
            raise InputError(f"`prompts` {prompts} are of {settings['split']}.json, not test.json")
        template = Template.parse(settings["template"], dataset.graph, cot=settings["cot"])
        names = {token: names[token] for token in _own_names(dataset)}
        if not all(isinstance(name, str) for name in names.values()):
            raise TypeError("a name is no text")
    return names, list(template.completion)
