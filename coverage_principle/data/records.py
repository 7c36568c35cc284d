"""Records as arrays: the compositions and single facts of one file, and tables of facts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import compress
from pathlib import Path

import numpy as np

from coverage_principle.data.checks import FactRecords, Split
from coverage_principle.data.files import read_arrays, read_json
from coverage_principle.data.lazy_records import LazyRecords, RecordPart, Texts
from coverage_principle.data.lines import Lines, read_layout
from coverage_principle.data.problems import Cause, Fault, Problem, Report
from coverage_principle.data.vocabulary import END, Codec
from coverage_principle.errors import InputError
from coverage_principle.tasks import Function, TaskGraph
from simpletransformers.memory import require
from simpletransformers.words import counted

#: Bytes of memory that reading takes for each byte of a file in our own layout, and in another,
#: where every record is an object of Python's.
IN_LAYOUT, RECORD_BY_RECORD = 1, 8
#: What training takes in proportion to reading alone: it holds the items' ids as well.
_TRAINED = 1.5

_RECORD = "correct or remove the records"
_FIELDS = Cause("records lack fields, or have other values than texts", _RECORD)
_TARGET = Cause(
    "records have a target that is none",
    f"write the input into the target, then what is asked for, then {END}",
)
_LENGTH = Cause(
    "records have another number of input tokens than the task has slots",
    f"{_RECORD}; if all are so, they are of another task than metadata.json or the folder's name "
    "says",
)
_TARGET_LENGTH = Cause("records have longer or shorter targets than most", _RECORD)
_SLOT = Cause(
    "records hold a token where another alphabet is wanted",
    f"{_RECORD}; if there are many, compare the order of vocab.json with alphabets in "
    "metadata.json",
)
_NO_CALL = Cause("facts are no call of a function of the task", _RECORD)
_TABLE_FACT = Cause("facts of tables are not of the form of their function", _RECORD)
_TABLE_TWICE = Cause(
    "facts of tables have another result than a fact before them",
    "find out which result is right, and remove the other fact",
)


def read_split(
    file: Path, graph: TaskGraph, codec: Codec, report: Report, *, with_facts: bool
) -> Split:
    """The records of one file; those with problems of their own are reported and left out.

    ``with_facts``: records of fewer tokens than the task has slots may be single facts. Raises
    ``InputError``, before reading, if memory does not hold what is read.
    """
    check_memory(f"reading {file}", {file: IN_LAYOUT})
    typed, slots = file.name != "train.json", len(graph.inputs)
    signatures = [a for a in graph.fact_signatures if len(a) != slots] if with_facts else []
    lengths = {len(alphabets) for alphabets in signatures}
    laid_out = _read_laid_out(file, graph, codec, report, signatures, typed=typed)
    if laid_out is not None:
        return laid_out
    check_memory(f"reading {file}", {file: RECORD_BY_RECORD})
    records = read_json(file)
    if not isinstance(records, list):
        raise InputError(f"{file} must be a JSON list of records, found {type(records).__name__}")
    kept, numbers, inputs, targets = [], [], [], []
    facts = FactRecords()
    for number, record in enumerate(records, start=1):
        try:
            given, answer = _parse(record, codec, typed)
            if len(given) in lengths and len(answer) == 1:
                _check_fact(record, given, answer[0], graph, signatures, codec)
                facts.records.append(record)
                facts.numbers.append(number)
                facts.calls.append(tuple(given))
                facts.results.append(answer[0])
                continue
            _check_length(record["input_text"], len(given), graph)
        except Fault as fault:
            report(_problem(file.name, number, fault))
            continue
        kept.append(record)
        numbers.append(number)
        inputs.append(given)
        targets.append(answer)
    width, right = _check_target_lengths(file.name, numbers, targets, report)
    if not all(right):
        kept, numbers, inputs, targets = (
            list(compress(values, right)) for values in (kept, numbers, inputs, targets)
        )
    ids = np.array(inputs, dtype=np.int32).reshape(-1, slots)
    ends = np.array(targets, dtype=np.int32).reshape(-1, width)
    types = np.array([record["type"] if typed else "" for record in kept], dtype=str)
    places = np.array(numbers, dtype=np.int64)
    good = _check_alphabets(file.name, ids, ends, kept, places, graph, codec, report)
    if not good.all():
        ids, ends, types, places = ids[good], ends[good], types[good], places[good]
        kept = [record for record, is_good in zip(kept, good, strict=True) if is_good]
    values, answers = _values(ids, ends, graph, codec)
    left_out = len(records) - len(kept) - len(facts)
    return Split(values, ends, answers, types, kept, places, facts, left_out)


def _values(
    ids: np.ndarray, targets: np.ndarray, graph: TaskGraph, codec: Codec
) -> tuple[np.ndarray, np.ndarray]:
    """Values of inputs ``(n, slots)`` and of answers ``(n,)``."""
    answers = codec.values(targets[:, -1:], [graph.alphabet(graph.answer)])[:, 0]
    return codec.values(ids, graph.alphabets_of(graph.inputs)), answers


def _read_laid_out(
    file: Path,
    graph: TaskGraph,
    codec: Codec,
    report: Report,
    signatures: Sequence[tuple[str, ...]],
    *,
    typed: bool,
) -> Split | None:
    """The same of a file that is laid out as ours are (``lines``); None if it is not."""
    slots, lengths = len(graph.inputs), {len(alphabets) for alphabets in signatures}
    lines, digest = read_layout(file, codec, slots, lengths) or ({}, "")
    whole = lines.pop(slots, None)
    if whole is None or typed and any(not isinstance(e.get("type"), str) for e in whole.endings):
        return None
    facts = _facts_of(lines, graph, codec, signatures)
    if facts is None:
        return None
    ids, ends, ending, places = whole.inputs, whole.targets, whole.ending, whole.numbers
    if typed:
        names = [
            e["type"] if used else "" for e, used in zip(whole.endings, whole.used, strict=True)
        ]
        types = np.array(names, dtype=str)[ending]
    else:
        types = np.broadcast_to("", len(ids))

    records = LazyRecords([RecordPart.of_lines(codec, whole)])
    given = file.name, ids, ends, records, places, graph, codec, report
    good, left_out = _check_alphabets(*given), 0
    if not good.all():
        left_out = len(good) - int(good.sum())
        ids, ends, ending, types = ids[good], ends[good], ending[good], types[good]
        places = places[good]
    values, answers = _values(ids, ends, graph, codec)
    texts = Texts.of_values(codec, values, ends, graph.alphabets_of(graph.inputs))
    records = LazyRecords([RecordPart(texts, whole.endings, ending)])
    return Split(values, ends, answers, types, records, places, facts, left_out, digest)


def _facts_of(
    lines: Mapping[int, Lines],
    graph: TaskGraph,
    codec: Codec,
    signatures: Sequence[tuple[str, ...]],
) -> FactRecords | None:
    """Single facts by the length of their calls; None if one is no call of a function."""
    found: list[tuple[int, tuple[int, ...], int]] = []
    for length, own in lines.items():
        called = np.zeros(len(own), dtype=bool)
        for alphabets in (a for a in signatures if len(a) == length):
            results = np.zeros(len(own), dtype=bool)
            for name in {graph.alphabet(f.output) for f in graph.fact_signatures[alphabets]}:
                results |= ~outside(codec, own.targets, [name])[:, 0]
            called |= results & ~outside(codec, own.inputs, alphabets).any(axis=1)
        if not called.all():
            return None
        calls, results = map(tuple, own.inputs.tolist()), own.targets[:, 0].tolist()
        found += zip(own.numbers.tolist(), calls, results, strict=True)
    records = LazyRecords([RecordPart.of_lines(codec, own) for own in lines.values()])
    numbers = [number for number, *_ in found]
    if numbers != sorted(numbers):
        order = sorted(range(len(found)), key=numbers.__getitem__)
        made = list(records)
        records, found = [made[i] for i in order], [found[i] for i in order]
    numbers, calls, results = map(list, zip(*found, strict=True)) if found else ([], [], [])
    return FactRecords(records, numbers, calls, results)


def _check_target_lengths(
    name: str, numbers: Sequence[int], targets: Sequence[Sequence[int]], report: Report
) -> tuple[int, list[bool]]:
    """The length that most targets have, and which have it; the others are reported."""
    found = list(map(len, targets))
    ((most, _),) = Counter(found).most_common(1) or [(1, 0)]
    for number, length in zip(numbers, found, strict=True):
        if length != most:
            reason = f"{counted(length, 'token')} between input and {END}, but most have {most}"
            report(_problem(name, number, Fault(reason, _TARGET_LENGTH, counted(length, "token"))))
    return most, [length == most for length in found]


def _problem(name: str, number: int, fault: Fault) -> Problem:
    return Problem(name, str(fault), (number,), cause=fault.cause, details=fault.details)


def encode_input(text: str, graph: TaskGraph, codec: Codec) -> np.ndarray:
    """The values ``(slots,)`` int32 of an input given as text; ``InputError`` if it is none."""
    if not isinstance(text, str):
        wanted = f"such as {codec.decode([0] * len(graph.inputs))}"
        raise InputError(f"an input must be text, {wanted}, not {text!r}")
    ids = np.array([codec.encode(text)], dtype=np.int32)
    _check_length(text, ids.shape[1], graph)
    slots = graph.alphabets_of(graph.inputs)
    if (wrong := outside(codec, ids, slots)).any():
        raise InputError(_outside_fault(text, ids[0], wrong[0], graph, codec))
    return codec.values(ids, slots)[0]


def _check_length(text: str, length: int, graph: TaskGraph) -> None:
    if length != len(graph.inputs):
        has = f"{text!r} has {counted(length, 'token')}"
        slots = f"task {graph.name} has {counted(len(graph.inputs), 'input slot')}"
        raise Fault(f"{has}, but {slots}", _LENGTH, counted(length, "token"))


def outside(codec: Codec, ids: np.ndarray, alphabets: Sequence[str]) -> np.ndarray:
    """Which of ``ids`` ``(n, columns)`` are no tokens of their column's alphabet."""
    ranges = [codec.alphabets[name] for name in alphabets]
    first = np.array([own.start for own in ranges], dtype=ids.dtype)
    end = np.array([own.stop for own in ranges], dtype=ids.dtype)
    return (ids < first) | (ids >= end)


def _outside_fault(
    text: str, ids: Sequence[int], wrong: Sequence[bool], graph: TaskGraph, codec: Codec
) -> str:
    """A sentence about the first token of an input that its slot's alphabet lacks."""
    place = int(np.argmax(wrong))
    slot, token = graph.inputs[place], codec.vocabulary[ids[place]]
    wanted = codec.expected(graph.alphabet(slot))
    if not graph.alphabets:
        return f"input {text!r} may only hold {wanted}"
    return f"input {text!r}: slot {slot} may only hold {wanted}, not {token}"


def _check_alphabets(
    name: str,
    ids: np.ndarray,
    targets: np.ndarray,
    records: Sequence[dict],
    numbers: np.ndarray,
    graph: TaskGraph,
    codec: Codec,
    report: Report,
) -> np.ndarray:
    """Which records hold tokens of the right alphabets, ``(n,)`` bool; the others are reported."""
    wrong = outside(codec, ids, graph.alphabets_of(graph.inputs))
    for row in np.flatnonzero(wrong.any(axis=1)):
        text = records[row]["input_text"]
        reason = _outside_fault(text, ids[row], wrong[row], graph, codec)
        token = codec.vocabulary[ids[row][np.argmax(wrong[row])]]
        fault = Fault(reason, _SLOT, token)
        report(_problem(name, int(numbers[row]), fault))
    bad = outside(codec, targets[:, -1:], [graph.alphabet(graph.answer)])[:, 0]
    for row in np.flatnonzero(bad & ~wrong.any(axis=1)):
        wanted = codec.expected(graph.alphabet(graph.answer))
        reason = f"target_text {records[row]['target_text']!r}: the answer may only be {wanted}"
        fault = Fault(reason, _SLOT, codec.vocabulary[targets[row, -1]])
        report(_problem(name, int(numbers[row]), fault))
    return ~(wrong.any(axis=1) | bad)


def _check_fact(
    record: Mapping,
    call: Sequence[int],
    result: int,
    graph: TaskGraph,
    signatures: Sequence[tuple[str, ...]],
    codec: Codec,
) -> None:
    """Raise a ``Fault`` if a single fact is a call of none of the task's functions."""
    for alphabets in signatures:
        if len(call) == len(alphabets) and all(
            token in codec.alphabets[name] for token, name in zip(call, alphabets, strict=True)
        ):
            outputs = {graph.alphabet(f.output) for f in graph.fact_signatures[alphabets]}
            if any(result in codec.alphabets[name] for name in outputs):
                return
    functions = ", ".join(f"{f.name}({', '.join(f.sources)})" for f in graph.functions)
    raise Fault(f"fact {record['target_text']!r} is no call of {functions}", _NO_CALL)


def _parse(record: object, codec: Codec, typed: bool) -> tuple[list[int], list[int]]:
    """Ids of the input, and of what the target holds between it and the end token."""
    try:
        prompt, full = record["input_text"], record["target_text"]
        if typed and not isinstance(record["type"], str):
            raise TypeError("type, which is no string")
        whole, given = codec.encode(full), codec.encode(prompt)  # full: it names all tokens
    except (KeyError, TypeError, AttributeError) as error:
        strings = f"input_text, target_text{' and type' if typed else ''}"
        reason = f"it must be an object with the strings {strings}; problem with {error}"
        raise Fault(reason, _FIELDS) from error
    if max(given) >= codec.num_tokens:  # an end or a filler, of no alphabet
        wanted = " and ".join(map(codec.expected, codec.alphabets))
        token = codec.vocabulary[max(given)]
        raise Fault(f"input {prompt!r} may only hold {wanted}", _SLOT, token)
    if whole[: len(given)] != given or whole[-1] != codec.end_id or len(whole) < len(given) + 2:
        raise Fault(
            f"target_text {full!r} must repeat the input, then hold at least one token, then {END}",
            _TARGET,
        )
    return given, whole[len(given) : -1]


def check_memory(work: str, files: Mapping[Path, float]) -> None:
    """Refuse ``work`` on files before it begins, if memory does not hold what is made of them.

    ``files`` has the bytes that it takes for each byte of a file, such as ``IN_LAYOUT``; one that
    is not there counts nothing. Raises ``InputError``.
    """
    needed = sum(times * file.stat().st_size for file, times in files.items() if file.is_file())
    advice = "take a data set of fewer items (--max_train_data_num of its generator)"
    require(needed, work, advice)


def check_training_memory(folder: Path, others: Sequence[Path]) -> None:
    """``check_memory`` for training on a data set and on files of others' records."""
    files = dict.fromkeys((folder / name for name in ("train.json", "test.json")), IN_LAYOUT)
    files |= dict.fromkeys(others, RECORD_BY_RECORD)
    trained = {file: _TRAINED * times for file, times in files.items()}
    check_memory(f"training on {folder.name}", trained)


def read_table(
    folder: Path, graph: TaskGraph, function: Function, codec: Codec, report: Report
) -> np.ndarray:
    """A function's table in a data set's folder; -1 for facts that are not listed."""
    arity = function.arity
    alphabets = graph.alphabets_of(function.nodes)
    *shape, outputs = codec.sizes(alphabets)
    binary = folder / f"atomic_facts_{function.table}.npz"
    if binary.exists():
        return _defined(function, binary, _table_from_npz(binary, tuple(shape), outputs))
    file = binary.with_suffix(".json")
    laid_out = _table_laid_out(file, alphabets, codec)
    if laid_out is not None:
        return _defined(function, file, laid_out)
    facts = read_json(file)
    if not isinstance(facts, list):
        raise InputError(f"{file} must be a JSON list of facts, found {type(facts).__name__}")
    table = np.full(shape, -1, dtype=np.int32)
    ranges = [codec.alphabets[name] for name in alphabets]
    for number, fact in enumerate(facts, start=1):
        try:
            call, result = _parse(fact, codec, typed=False)
            tokens = (*call, *result)
            if (
                len(call) != arity
                or len(result) != 1
                or not all(token in own for token, own in zip(tokens, ranges, strict=True))
            ):
                raise Fault(
                    f"{fact['target_text']!r} must be {counted(arity, 'argument token')}, the "
                    f"result and {END}",
                    _TABLE_FACT,
                )
            *call, value = (token - own.start for token, own in zip(tokens, ranges, strict=True))
            if table[tuple(call)] not in (-1, value):
                reason = f"call {fact['input_text']} has two different results"
                raise Fault(reason, _TABLE_TWICE)
        except Fault as fault:
            report(_problem(file.name, number, fault))
            continue
        table[tuple(call)] = value
    return _defined(function, file, table)


def _table_laid_out(file: Path, alphabets: Sequence[str], codec: Codec) -> np.ndarray | None:
    """The table of a file that is laid out as ours are (``lines``); None if it is not, or wrong.

    ``alphabets`` are those of the arguments and the result.
    """
    lines, _ = read_layout(file, codec, len(alphabets) - 1) or ({}, "")
    for own in lines.values():
        ids = np.concatenate([own.inputs, own.targets], axis=1)
        if ids.shape[1] != len(alphabets) or outside(codec, ids, alphabets).any():
            return None
        *call, results = codec.values(ids, alphabets).T
        table = np.full(codec.sizes(alphabets[:-1]), -1, dtype=np.int32)
        table[tuple(call)] = results
        return table if (table[tuple(call)] == results).all() else None
    return None


def _defined(function: Function, file: Path, table: np.ndarray) -> np.ndarray:
    """The table, if it has any value."""
    if table.max(initial=-1) < 0:
        raise InputError(f"{file} defines no call of {function.name}; at least one is needed")
    return table


def _table_from_npz(file: Path, shape: tuple[int, ...], outputs: int) -> np.ndarray:
    values = read_arrays(file).get("values")
    if values is None:
        raise InputError(f"{file} has no array 'values'")
    good = values.shape == shape and values.dtype.kind == "i"
    if not good or values.min() < -1 or values.max() >= outputs:
        raise InputError(
            f"{file} must hold an array 'values' of shape {shape} with integers from -1 to "
            f"{outputs - 1}, found shape {values.shape} of {values.dtype}"
        )
    return values.astype(np.int32)
