"""Items as sentences: a template that has a place for every slot, and names for the tokens."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from string import Formatter

import numpy as np

from coverage_principle.data.checks import Split
from coverage_principle.data.files import read_json, read_text
from coverage_principle.data.reading import Dataset
from coverage_principle.data.space import distinct_integers
from coverage_principle.data.tables import evaluate
from coverage_principle.data.vocabulary import name_of
from coverage_principle.errors import InputError
from coverage_principle.tasks import TaskGraph

#: What ``names`` may say in place of a file: every token's name is its own text.
_OWN_NAMES = "tokens"

_SYLLABLES = [consonant + vowel for consonant in "bdfgklmnprstvz" for vowel in "aeiou"]
#: Made-up names are drawn from so many times more than are needed.
_CHOICE = 20

#: Literal text, and the slot or value whose name follows it, if one does.
Piece = tuple[str, str | None]


@dataclass(frozen=True)
class Template:
    """A sentence about an item: what a model is given, and how it is to go on."""

    prompt: tuple[Piece, ...]
    completion: tuple[Piece, ...]

    @classmethod
    def parse(cls, text: str, graph: TaskGraph, *, cot: bool = False) -> Template:
        """Read ``The {x2} of {x1} is {t}.``, a name of the graph in each pair of braces.

        The completion begins at the answer or, with ``cot``, at the first value of any function,
        and earlier if ``{}`` stands there. ``InputError`` for a name that the graph lacks, a slot
        that the prompt does not tell, a value that the completion does not, and braces that do not
        match.
        """
        values = (*(graph.bridges if cot else ()), graph.answer)
        prompt: list[Piece] = []
        completion: list[Piece] = []
        for literal, name in _pieces(text):
            if completion and name == "":
                first = _braced(values[:1])
                raise InputError(f"`template` {text!r}: {{}} must stand once, before {first}")
            if completion:
                completion.append((literal, name))
            elif name == "" or name in values:
                prompt.append((literal, None))
                completion.append(("", name or None))
            else:
                prompt.append((literal, name))
        template = cls(tuple(prompt), tuple(completion))
        for fault in template._faults(graph, values):
            has = f"its slots are {_braced(graph.inputs)}, its answer is {_braced([graph.answer])}"
            if graph.bridges:
                has += f", its intermediate values are {_braced(graph.bridges)}"
            raise InputError(f"`template` {fault}; task {graph.name}: {has}")
        return template

    def _faults(self, graph: TaskGraph, values: Sequence[str]) -> list[str]:
        told, found = (
            {name for _, name in pieces if name} for pieces in (self.prompt, self.completion)
        )
        unknown = sorted((told | found) - {*graph.inputs, *graph.bridges, graph.answer})
        early = [name for name in graph.bridges if name in told | found and name not in values]
        lacking = [slot for slot in graph.inputs if slot not in told]
        missing = [value for value in values if value not in found]
        faults = {
            "names {}, which the task does not have": unknown,
            "names {}, which is only written out with `cot`": early,
            "lacks {}, which the completion must name": missing,
            "lacks {} before the completion begins, so that the prompt would not tell it": lacking,
        }
        return [fault.format(_braced(names)) for fault, names in faults.items() if names]

    def fill(self, names: Mapping[str, str]) -> tuple[str, str]:
        """Prompt and completion for an item; ``names`` maps slots and values to text.

        Spaces between them are the completion's, since most tokenizers put them before a word.
        """
        prompt, completion = (
            "".join(literal + (names[name] if name else "") for literal, name in pieces)
            for pieces in (self.prompt, self.completion)
        )
        bare = prompt.rstrip(" ")
        return bare, prompt[len(bare) :] + completion


def _pieces(text: str) -> list[Piece]:
    """The template taken apart; a name is ``""`` for ``{}``."""
    try:
        pieces = list(Formatter().parse(text))
    except ValueError as error:
        raise InputError(
            f"`template` {text!r}: {error} (a brace as text is {{{{ or }}}})"
        ) from error
    for _, name, spec, conversion in pieces:
        if spec or conversion:
            raise InputError(f"`template` {text!r}: {{{name}}} must hold a name and nothing else")
    return [(literal, name) for literal, name, *_ in pieces]


def _braced(names: Sequence[str]) -> str:
    return ", ".join(f"{{{name}}}" for name in names)


# ------------------------------------------------------------------------------------ items, tokens


def item_tokens(
    dataset: Dataset, split: Split, *, cot: bool = False
) -> Callable[[int], dict[str, str]]:
    """A function of a row of ``split``: the tokens of its slots and its answer, by name.

    With ``cot`` intermediate values too, as targets hold them or else by the tables. ``InputError``
    for a task without any, and (by the function) for an item whose values the tables do not list.
    """
    graph = dataset.graph
    if cot:
        graph.require_bridges("`cot` writes")
    values = None
    if cot and dataset.target_format != "cot":
        values = evaluate(graph, dataset.tables(), split.inputs)

    def tokens_of(row: int) -> dict[str, str]:
        record = split.records[row]
        given, target = (_split(record[key]) for key in ("input_text", "target_text"))
        tokens = dict(zip(graph.inputs, given, strict=True))
        if values is not None:
            for bridge in graph.bridges:
                if values[bridge][row] < 0:
                    lack = f"the tables do not list {bridge} of {record['input_text']}"
                    raise InputError(f"{dataset.path}: {lack}; `cot` needs it")
                tokens[bridge] = dataset.text([values[bridge][row]], [bridge])
        elif cot:
            tokens |= zip(graph.bridges, target[len(given) : -2], strict=True)
        return tokens | {graph.answer: target[-2]}

    return tokens_of


def _split(text: str) -> list[str]:
    return [f"<{name}>" for name in text[1:-1].split("><")]


def alphabet_tokens(dataset: Dataset) -> dict[str, tuple[str, ...]]:
    """The tokens that slots and values may be, by alphabet."""
    codec = dataset.codec
    return {name: codec.vocabulary[ids.start : ids.stop] for name, ids in codec.alphabets.items()}


# -------------------------------------------------------------------------------------------- names


def token_names(
    alphabets: Mapping[str, Sequence[str]], given: str | None, seed: int
) -> dict[str, str]:
    """A name for every token of the alphabets, no two of one alphabet the same.

    ``given`` is None (made-up words), ``tokens`` (the token's own text) or a file: a ``.json`` with
    an object token -> name, an object alphabet -> list of names, or a list of names; or text, a
    name a line. Names of a list are drawn without replacement. ``InputError`` if the file holds
    something else, lacks a token or has too few names.
    """
    rng = np.random.default_rng(seed)
    if given == _OWN_NAMES:
        return {token: name_of(token) for token in chain(*alphabets.values())}
    if given is None:
        return _dealt(alphabets, _made_up(sum(map(len, alphabets.values())), rng))
    if Path(given).suffix != ".json":
        return _drawn(alphabets, read_text(given).splitlines(), given, rng)
    content = read_json(given)
    if isinstance(content, list):
        return _drawn(alphabets, content, given, rng)
    if isinstance(content, dict) and any(isinstance(value, list) for value in content.values()):
        if lacking := [name for name in alphabets if not isinstance(content.get(name), list)]:
            raise InputError(f"`names` {given} has no list for the alphabet {lacking[0]}")
        return {
            token: name
            for alphabet, tokens in alphabets.items()
            for token, name in _drawn({alphabet: tokens}, content[alphabet], given, rng).items()
        }
    if isinstance(content, dict):
        return _told(alphabets, content, given)
    raise InputError(f"`names` {given} must hold a JSON object or a list of names")


def _made_up(count: int, rng: np.random.Generator) -> list[str]:
    """Distinct words of two syllables or, where many are needed, more."""
    length, base = 2, len(_SYLLABLES)
    while base**length < _CHOICE * count:
        length += 1
    digits = distinct_integers(base**length, count, rng)[:, None] // base ** np.arange(length)
    return ["".join(_SYLLABLES[i] for i in word).capitalize() for word in (digits % base).tolist()]


def _dealt(alphabets: Mapping[str, Sequence[str]], names: Sequence[str]) -> dict[str, str]:
    return dict(zip(chain(*alphabets.values()), names, strict=True))


def _drawn(
    alphabets: Mapping[str, Sequence[str]], names: Sequence, given: str, rng: np.random.Generator
) -> dict[str, str]:
    """A name of a list for each token."""
    for name in names:
        if not isinstance(name, str):
            raise InputError(f"`names` {given}: the name {name!r} is not text")
    names = [name for name in dict.fromkeys(map(str.strip, names)) if name]
    needed = sum(map(len, alphabets.values()))
    if len(names) < needed:
        of = f"the {needed:,} tokens of {', '.join(alphabets)}"
        raise InputError(f"`names` {given} has {len(names):,} different names, too few for {of}")
    return _dealt(alphabets, [names[i] for i in distinct_integers(len(names), needed, rng)])


def _told(
    alphabets: Mapping[str, Sequence[str]], content: Mapping[str, object], given: str
) -> dict[str, str]:
    """The names that an object gives; it may hold more than these tokens."""
    names: dict[str, str] = {}
    for tokens in alphabets.values():
        for token in tokens:
            keys = [key for key in (token, token[1:-1], name_of(token)) if key in content]
            name = content[keys[0]] if keys else None
            if not isinstance(name, str) or not name.strip():
                lack = f"gives {name!r}, no text, as" if keys else "lacks"
                raise InputError(f"`names` {given} {lack} the name of {token}")
            names[token] = name.strip()
        name, times = Counter(names[token] for token in tokens).most_common(1)[0]
        if times > 1:
            both = [token for token in tokens if names[token] == name]
            raise InputError(f"`names` {given} calls both {both[0]} and {both[1]} {name!r}")
    return names
