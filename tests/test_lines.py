"""Files read by arithmetic on their bytes hold what the general way finds, and lines are JSON."""

from __future__ import annotations

import json
import shutil
from contextlib import contextmanager, nullcontext
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given as given_by
from hypothesis import settings
from hypothesis import strategies as st

from coverage_principle.coverage import dataset_coverage, write_annotated
from coverage_principle.coverage.settings import CoverageSettings
from coverage_principle.data import (
    Codec,
    FormatSettings,
    LazyRecords,
    WorldSettings,
    annotated_records,
    annotations,
    dataset_files,
    generate_world,
    lines,
    load_dataset,
    reading,
    record_column,
    record_list,
    records,
    records_at,
    records_with,
    sha256,
    test_records,
    write_dataset,
)
from coverage_principle.data.lazy_records import joined_records
from coverage_principle.data.line_texts import TextTable, join_rows
from coverage_principle.data.space import distinct_integers, repeated, rows_among
from coverage_principle.errors import InputError
from coverage_principle.tasks import TASKS, TaskGraph
from simpletransformers import memory
from tests.open_worlds import WORLDS, both, write
from tests.test_open_files import form_of

test_records.__test__ = False  # a function of the library, not a test


@contextmanager
def general_way():
    """All files are read as if they were laid out otherwise."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (records, annotations):
            patch.setattr(module, "read_layout", lambda *_: None)
        yield


def read(folder):
    """A data set and the problems of its files, or the sentence that refuses it."""
    problems = []
    try:
        dataset = reading.read_dataset(folder, problems.append)
    except InputError as error:
        return None, [*map(str, problems), str(error)], problems
    return dataset, [*map(str, problems)], problems


def same_arrays(mine, theirs):
    return mine.dtype == theirs.dtype and np.array_equal(mine, theirs)


def assert_same(folder):
    """Both ways read the same of a folder, or refuse it with the same sentences."""
    mine, told, problems = read(folder)
    with general_way():
        theirs, wanted, wanted_problems = read(folder)
    assert told == wanted and problems == wanted_problems
    assert (mine is None) == (theirs is None)
    if mine is None:
        return
    assert {*mine.splits} == {*theirs.splits}
    for name, split in mine.splits.items():
        other = theirs.splits[name]
        for field in ("inputs", "targets", "answers", "types", "numbers"):
            assert same_arrays(getattr(split, field), getattr(other, field)), (name, field)
        assert split.left_out == other.left_out
        assert json.dumps([*split.all_records]) == json.dumps([*other.all_records])
        for field in ("records", "numbers", "calls", "results"):
            assert getattr(split.facts, field) == getattr(other.facts, field)
        assert split.sha256 in (None, sha256(folder / name))
    assert mine.digests == theirs.digests
    assert all(map(np.array_equal, mine.known, theirs.known))
    assert read_tables(mine) == read_tables(theirs, general_way())


def read_tables(dataset, way=None):
    """Each function's table and the problems of its file, or the sentence that refuses it."""
    found = []
    with way or nullcontext():
        for function in dataset.graph.functions:
            problems = []
            given = dataset.path, dataset.graph, function, dataset.codec, problems.append
            try:
                table = records.read_table(*given)
                found.append((table.tolist(), table.dtype, problems))
            except InputError as error:
                found.append((str(error), problems))
    return found


def is_lazy(dataset):
    return [isinstance(split.records, LazyRecords) for split in dataset.splits.values()]


@pytest.mark.parametrize("seed", WORLDS[:100])
def test_random_worlds_are_read_alike(tmp_path, seed):
    _, world = both(seed)
    write(world, tmp_path / "data", **form_of(seed))
    assert_same(tmp_path / "data")


@pytest.mark.parametrize("task", sorted(TASKS))
@pytest.mark.parametrize("form", [{}, {"cot": True}, {"fake_bridge": True}])
def test_every_task_is_read_by_its_bytes(tmp_path, task, form):
    asked = {"num_tokens": 12, "max_train_data_num": 300, "test_size_for_type": 20}
    world = generate_world(TASKS[task], WorldSettings(**asked, validation_size=5))
    files = dataset_files(world, FormatSettings(**form))
    write_dataset(tmp_path / task, *files, overwrite=False)
    assert is_lazy(load_dataset(tmp_path / task)) == [True] * 3
    assert_same(tmp_path / task)


@pytest.mark.parametrize("size", [250, 333, 1000])
def test_blocks_may_end_anywhere(small, monkeypatch, size):
    monkeypatch.setattr(lines, "_BLOCK", size)
    assert is_lazy(load_dataset(small)) == [True, True]
    assert_same(small)
    monkeypatch.setattr(lines, "_BLOCK", 50)  # shorter than any line
    assert is_lazy(load_dataset(small)) == [False, False]


# ---------------------------------------------------------------------------- other files than ours


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A data set with facts of two lengths, types, and tokens of several alphabets."""
    description = {
        "name": "three",
        "inputs": ["x1", "x2", "x3"],
        "functions": [
            {"name": "f1", "output": "b", "sources": ["x1", "x2"]},
            {"name": "f2", "output": "t", "sources": ["b", "x3"]},
        ],
        "alphabets": {"x2": "é", "x3": "relation"},
    }
    world = generate_world(
        TaskGraph.from_dict(description),
        WorldSettings(
            num_tokens=6, max_train_data_num=40, test_size_for_type=6, facts="all", seed=3
        ),
    )
    folder = tmp_path_factory.mktemp("lines") / "three"
    write_dataset(folder, *dataset_files(world, FormatSettings(cot=True)), overwrite=False)
    assert is_lazy(load_dataset(folder)) == [True, True]
    return folder


REWRITTEN = {
    "CRLF": lambda text: text.replace(b"\n", b"\r\n"),
    "no line break at the end": lambda text: text[:-1],
    "two line breaks at the end": lambda text: text + b"\n",
    "a byte order mark": lambda text: b"\xef\xbb\xbf" + text,
    "escapes": lambda text: json.dumps(json.loads(text), ensure_ascii=True).encode(),
    "one line": lambda text: json.dumps(json.loads(text), ensure_ascii=False).encode(),
    "indented": lambda text: json.dumps(json.loads(text), indent=1, ensure_ascii=False).encode(),
    "no space": lambda text: text.replace(b": ", b":"),
    "an empty line": lambda text: text.replace(b"},\n", b"},\n\n", 3),
    "a zero byte": lambda text: text.replace(b"t_1>", b"t_1\0>", 1),
    "an unknown token": lambda text: text.replace(b"<t_1>", b"<t_9>", 1),
    "a token of another alphabet": lambda text: text.replace(b"<t_1>", b"<relation_1>"),
    "a leading zero": lambda text: text.replace(b"<t_1>", b"<t_01>"),
    "an end in the input": lambda text: text.replace(b'"<t_1>', b'"</a>', 1),
    "no end": lambda text: text.replace(b"</a>", b"", 1),
    "a long target": lambda text: text.replace(b"</a>", b"<t_1></a>", 1),
    "more text after the end": lambda text: text.replace(b'</a>"', b'</a>,"', 1),
    "a further key": lambda text: text.replace(b'</a>"', b'</a>", "more": 1.5'),
    "a key that is a list": lambda text: text.replace(b'</a>"', b'</a>", "more": [1, {}]', 2),
    "a key twice": lambda text: text.replace(b'</a>"', b'</a>", "input_text": ""', 1),
    "a number without end": lambda text: text.replace(b'</a>"', b'</a>", "more": 1e999', 1),
    "half a pair": lambda text: text.replace(b'</a>"', b'</a>", "more": "\\ud800"', 1),
    "other types": lambda text: text.replace(b'"type_0"', b"null", 1),
    "an item twice": lambda text: text.replace(b"\n]", b",\n" + text.split(b"\n")[1][:-1] + b"\n]"),
    "no records": lambda text: text[:1] + b"]\n",
    "nothing": lambda text: text[:0],
    "only facts": lambda text: b"\n".join(
        [b"[", *(line for line in text.split(b"\n") if line.count(b"<") < 9 and b"<" in line), b"]"]
    ).replace(b"},\n]", b"}\n]"),
    "a quote in a token": lambda text: text.replace(b"<t_1>", b'<t"1>'),
    "brackets astray": lambda text: text.replace(b"<t_1>", b"<t_1<", 1),
    "no commas": lambda text: text.replace(b"},\n", b"}\n"),
    "facts among compositions": lambda text: (
        b"[\n%b\n]\n"
        % b",\n".join(line.rstrip(b",") for line in sorted(text.split(b"\n"))[:-3] if b"<" in line)
    ),
}


@pytest.mark.parametrize("name", ["train.json", "test.json", "atomic_facts_f2.json"])
@pytest.mark.parametrize("change", REWRITTEN.values(), ids=REWRITTEN)
def test_files_of_others_are_read_as_before(small, tmp_path, name, change):
    folder = tmp_path / "three"
    shutil.copytree(small, folder)
    (folder / name).write_bytes(change((small / name).read_bytes()))
    assert_same(folder)


PIECES = [
    b"",
    b"<",
    b">",
    b'"',
    b",",
    b"\n",
    b" ",
    b"\\",
    b"0",
    b"}",
    b"<t_1>",
    b"</a>",
    b"\0",
    b"\xe9",
]


@settings(max_examples=150, deadline=None)
@given_by(data=st.data())
def test_damaged_files_are_read_as_before(small, tmp_path_factory, data):
    name = data.draw(st.sampled_from(["train.json", "test.json", "atomic_facts_f1.json"]))
    text = (small / name).read_bytes()
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(text)))
        piece = data.draw(st.sampled_from(PIECES) | st.binary(max_size=3))
        text = text[:at] + piece + text[at + data.draw(st.integers(0, 8)) :]
    folder = tmp_path_factory.mktemp("damaged") / "three"
    shutil.copytree(small, folder)
    (folder / name).write_bytes(text)
    assert_same(folder)


def test_long_names_and_names_that_json_escapes_go_the_general_way(tmp_path):
    world = generate_world(TASKS["twohop"], WorldSettings(num_tokens=5, max_train_data_num=20))
    for number, name in enumerate(
        ["eight123", "nine12345", "x" * 32, "x" * 33, 'a"b', "a\\b", "a\x7fb", "日本", "日本語の"]
    ):
        tokens = [f"<{name}>", *world.alphabets["token"][1:]]
        changed = replace(world, alphabets={"token": tokens})
        folder = tmp_path / str(number)
        write_dataset(folder, *dataset_files(changed, FormatSettings()), overwrite=False)
        assert_same(folder)
        plain = len(name.encode()) <= 32 and not {'"', "\\"} & {*name}
        assert is_lazy(load_dataset(folder)) == [plain] * 2


def test_names_that_share_a_place_in_the_table_are_told_apart():
    """More names than places: each is found, and nothing else is."""
    names = [f"<t_{i}>" for i in range(3000)]
    codec = Codec([*names, "</a>"], {"token": 3000})
    known = lines._Names(codec)
    known._table = np.zeros(2, dtype=np.int32)
    known._shift = np.uint64(63)
    words = [[int.from_bytes(name[1:-1].encode(), "little")] for name in names]
    words = np.array(words, dtype=np.uint64)
    assert known.ids(words).tolist() == list(range(3000))
    for word in (0, 1, 2**64 - 1):
        with pytest.raises(lines._Other):
            known.ids(np.array([[word]], dtype=np.uint64))


# ------------------------------------------------------------------------------------- lazy records


def test_lazy_records_are_a_list_of_dicts(small):
    lazy = load_dataset(small).train.all_records
    with general_way():
        plain = load_dataset(small).train.all_records
    assert isinstance(plain, list) and isinstance(lazy, LazyRecords)
    assert lazy == plain and plain == lazy and lazy != plain[1:] and lazy != "records"
    assert [lazy[i] for i in range(-len(plain), len(plain))] == plain * 2
    assert lazy[3:50:7] == plain[3:50:7] and [*reversed(lazy)] == plain[::-1]
    assert lazy[::-1] == plain[::-1] and lazy[9:2:-3] == plain[9:2:-3]
    for beyond in (len(plain), -len(plain) - 1):
        with pytest.raises(IndexError):
            lazy[beyond]
    rows = np.arange(0, len(plain), 3)
    assert records_at(lazy, rows) == records_at(plain, rows)
    with pytest.raises(ValueError, match="ascending"):
        lazy.take(np.array([1, 0]))
    assert joined_records(lazy, []) == plain and joined_records([], plain) == plain
    assert joined_records(lazy, plain) == plain + plain


def test_columns_are_those_of_the_records(small):
    lazy = load_dataset(small).test.all_records
    plain = [*lazy]
    for key in ("type", "absent", "input_text", "target_text"):
        for one in (lazy, plain, lazy[5:9], lazy[:0]):
            values, numbers = record_column(one, key, "none")
            assert [values[i] for i in numbers] == [r.get(key, "none") for r in one]
            assert {*numbers.tolist()} == {*range(len(values))}
    numbers = np.arange(len(plain)) % 3
    columns = {"mark": ([1, True, None], numbers), "type": (["a", "b", "c"], numbers)}
    assert json.dumps([*records_with(lazy, columns)]) == json.dumps(records_with(plain, columns))


def test_token_blocks_are_the_texts(small):
    dataset = load_dataset(small)
    for split in dataset.splits.values():
        found = [
            (block.given, row) for block in split.all_records.token_blocks(7) for row in block.ids
        ]
        for (given, ids), record in zip(found, split.all_records, strict=True):
            assert dataset.codec.decode(ids) == record["target_text"]
            assert dataset.codec.decode(ids[:given]) == record["input_text"]


# ------------------------------------------------------------------------------------------ writing


def test_lines_are_those_of_json(small):
    for split in load_dataset(small).splits.values():
        plain = [*split.all_records]
        lines_of = ",\n".join(json.dumps(record, ensure_ascii=False) for record in plain)
        for one in (plain, split.all_records):
            assert b"".join(record_list(one)).decode() == f"[\n{lines_of}\n]\n"
    assert b"".join(record_list([])) == b"[]\n"


@pytest.mark.parametrize("long", [0, 500])
def test_rows_are_joined_whatever_the_lengths(long):
    texts = ["", "<é>", 'a"', "日本語", "x" * long]
    table, rng = TextTable(texts), np.random.default_rng(1)
    first, second = rng.integers(0, len(texts), (2, 50))
    rows = [f"begin {texts[a]}{texts[b]}, {texts[a]}\n" for a, b in zip(first, second, strict=True)]
    parts = ["begin ", (table, first), (table, second), ", ", (table, first), "\n"]
    assert join_rows(parts).decode() == "".join(rows)


@pytest.mark.parametrize("k_sweep", [False, True])
def test_annotations_are_read_by_their_bytes(small, tmp_path, k_sweep):
    folder = tmp_path / "three"
    shutil.copytree(small, folder)
    dataset = load_dataset(folder)
    coverage = dataset_coverage(dataset, CoverageSettings(k_sweep=k_sweep))
    file = write_annotated(coverage)
    found = annotated_records(dataset)
    assert isinstance(found, LazyRecords)
    assert found == json.loads(file.read_text()) == [*coverage.annotated()]
    assert test_records(dataset, ("type_0",)) == [r for r in found if r["type"] == "type_0"]
    with general_way():
        plain = load_dataset(folder)
        file.unlink()
        write_annotated(dataset_coverage(plain, CoverageSettings(k_sweep=k_sweep)))
        assert annotated_records(plain) == found
        assert isinstance(annotated_records(plain), list)
    before = file.read_bytes()
    (folder / f"{file.name}.source").unlink()
    for old, new in (
        (b'"coverage": ', b'"coverage": 1'),
        (b'"type_0"', b'"type_1"'),
        (b"<t_1>", b"<t_2>"),
    ):
        file.write_bytes(before.replace(old, new))
        told = []
        for one in (dataset, plain):
            with pytest.raises(InputError) as error:
                annotated_records(one)
            told.append(str(error.value))
        assert told[0] == told[1]


# ------------------------------------------------------------------------------------------ numbers


@given_by(st.lists(st.integers(0, 60), max_size=60), st.lists(st.integers(0, 60), max_size=10))
def test_rows_of_some_codes(codes, wanted):
    codes, wanted = np.array(codes, dtype=np.int64), np.unique(np.array(wanted, dtype=np.int64))
    rows = [row for row, code in enumerate(codes) if code in wanted]
    assert rows_among(codes, wanted).tolist() == rows
    twice = sorted({code for code in codes.tolist() if codes.tolist().count(code) > 1})
    assert repeated(np.sort(codes)).tolist() == twice


@pytest.mark.parametrize("population, count", [(10**6, 200_000), (10**9, 1000), (50, 50)])
def test_distinct_integers_are_the_first_of_a_stream(population, count):
    """As they were always drawn: first occurrences, in the order of the stream."""
    found = distinct_integers(population, count, np.random.default_rng(5))
    assert len(found) == count == len(np.unique(found))
    if count * 4 < population:
        rng, seen = np.random.default_rng(5), {}
        while len(seen) < count:
            for one in rng.integers(0, population, size=int((count - len(seen)) * 1.3) + 16):
                seen.setdefault(int(one))
        assert found.tolist() == [*seen][:count]


def test_endings_that_all_differ_are_told_apart(small, monkeypatch):
    """More of them than are looked for together; and too many, which go the general way."""
    records = [{**record, "place": i} for i, record in enumerate(load_dataset(small).test.records)]
    file = small.parent / "numbered.json"
    file.write_bytes(b"".join(record_list(records)))
    codec = load_dataset(small).codec
    read_lines, _ = lines.read_layout(file, codec, 3)
    own = read_lines[3]
    assert len(own) > lines._OFTEN
    assert [own.endings[i]["place"] for i in own.ending] == [*range(len(records))]
    monkeypatch.setattr(lines, "_MOST_ENDINGS", len(own) - 1)
    assert lines.read_layout(file, codec, 3) is None


def test_what_memory_does_not_hold_is_refused_before_it_is_read(small, tmp_path, monkeypatch):
    """Another layout takes several times its length."""
    spaced = tmp_path / small.name
    shutil.copytree(small, spaced)
    text = (small / "train.json").read_text(encoding="utf-8")
    (spaced / "train.json").write_text(text.replace(": ", ":  "), encoding="utf-8")
    monkeypatch.setattr(memory, "available", lambda: 2 * len(text))
    load_dataset(small)
    for folder, there in ((spaced, 2 * len(text)), (small, len(text) // 2)):
        monkeypatch.setattr(memory, "available", lambda there=there: there)
        with pytest.raises(InputError, match=r"reading .*train.json needs about .*; take a data"):
            load_dataset(folder)
