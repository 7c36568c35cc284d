"""Data sets with alphabets, facts and noise: what is written is what is read; damage is found."""

from __future__ import annotations

import json
import random
import re
from collections import Counter

import numpy as np
import pytest

from coverage_principle.data import (
    Codec,
    Contents,
    Facts,
    Items,
    contents_files,
    load_dataset,
    name_of,
    table_files,
    token_of,
    validate,
    write_dataset,
)
from coverage_principle.data.relational import composition_graph
from coverage_principle.data.tables import seen_calls
from coverage_principle.errors import InputError
from coverage_principle.paths import find_folder
from coverage_principle.tasks import TaskGraph
from tests.open_worlds import WORLDS, both, rows, write


def form_of(seed: int) -> dict[str, object]:
    """How a world is written: its settings, of every kind."""
    draw = random.Random(seed)
    return {
        "cot": draw.random() < 0.4,
        "fake_bridge": draw.random() < 0.2,
        "atomic_facts": draw.choice(["full", "full", "seen", "none"]),
        "atomic_format": draw.choice(["json", "npz"]),
    }


def expected_records(plain, world, form):
    """The records of every file, put together from tokens one by one."""
    graph, functions = plain.graph, plain.graph.functions

    def token(node, value):
        return plain.alphabets[dict(graph.alphabets).get(node, "token")][value]

    def composition(item, label, wrong=None):
        values = plain.run(item)[1]
        prompt = "".join(token(slot, value) for slot, value in zip(graph.inputs, item, strict=True))
        bridges = [token(f.output, values[f.output]) for f in functions[:-1]]
        told = ["</b>"] * len(bridges) if form["fake_bridge"] else bridges if form["cot"] else []
        answer = token(functions[-1].output, plain.answer(item) if wrong is None else wrong)
        target = "".join([prompt, *told, answer, "</a>"])
        return {"input_text": prompt, "target_text": target} | ({"type": label} if label else {})

    def fact(number, call, label=None):
        function = functions[number]
        prompt = "".join(token(s, v) for s, v in zip(function.sources, call, strict=True))
        result = token(function.output, plain.tables[function.table][call])
        record = {"input_text": prompt, "target_text": f"{prompt}{result}</a>"}
        return record | ({"type": label} if label else {})

    train = [composition(x, None, world.noisy.get(i)) for i, x in enumerate(rows(world.train))]
    train += [fact(part.function, call) for part in world.facts for call in rows(part.calls)]
    held_out = {"test.json": world.test, "valid.json": world.validation}
    found = {
        name: [composition(x, label) for label, items in groups.items() for x in rows(items)]
        for name, groups in held_out.items()
        if groups
    }
    found["test.json"] += [
        fact(part.function, call, part.label)
        for part in world.test_facts
        for call in rows(part.calls)
    ]
    return {"train.json": train, **found}


@pytest.mark.parametrize("seed", WORLDS)
def test_what_is_written_is_what_is_read(tmp_path, seed):
    plain, world = both(seed)
    form, functions = form_of(seed), plain.graph.functions
    folder = tmp_path / "data"
    dataset = write(world, folder, **form)
    wanted = expected_records(plain, world, form)
    for name, records in wanted.items():
        text = (folder / name).read_text(encoding="utf-8")
        assert json.loads(text) == records
        assert {*dataset.splits} == {*wanted}
        assert dataset.splits[name].all_records == records
    assert (folder / "valid.json").exists() == bool(world.validation)

    assert dataset.graph == plain.graph
    assert dataset.slot_sizes == tuple(plain.size(slot) for slot in plain.graph.inputs)
    for split, groups in ((dataset.test, world.test), (dataset.valid, world.validation)):
        if groups:
            assert np.array_equal(split.inputs, np.concatenate([*groups.values()]))
            labels = [label for label, items in groups.items() for _ in items]
            assert split.types.tolist() == labels
            assert split.answers.tolist() == [plain.answer(item) for item in rows(split.inputs)]
    assert np.array_equal(dataset.train.inputs, world.train)
    answers = [world.noisy.get(i, plain.answer(item)) for i, item in enumerate(rows(world.train))]
    assert dataset.train.answers.tolist() == answers
    assert dataset.noisy == {row + 1 for row in world.noisy}
    told = dataset.metadata.get("label_noise", {})
    tokens = dataset.codec.vocabulary
    for row in world.noisy:
        target = dataset.train.records[row]["target_text"]
        right = told[str(row + 1)]
        assert right in tokens and not target.endswith(f"{right}</a>")
        true = plain.answer(tuple(world.train[row].tolist()))
        assert right == plain.alphabets[plain.graph.alphabet(plain.graph.answer)][true]
    assert all(
        np.array_equal(mine, theirs)
        for mine, theirs in zip(dataset.known, world.known, strict=True)
    )

    if form["atomic_facts"] != "none":
        seen = plain.seen(rows(world.train))
        for function, table in zip(functions, dataset.tables(), strict=True):
            listed = plain.tables[function.table]
            if form["atomic_facts"] == "seen":
                sharing = [f.name for f in functions if f.table == function.table]
                listed = {c: r for c, r in listed.items() if any(c in seen[n] for n in sharing)}
            found = {tuple(call): int(table[tuple(call)]) for call in np.argwhere(table >= 0)}
            assert found == listed
        assert dataset.lists_all_facts == (
            form["atomic_facts"] == "full"
            or all(
                len(plain.tables[f.table])
                == len(set().union(*(seen[g.name] for g in functions if g.table == f.table)))
                for f in functions
            )
        )
    _, problems = validate(folder)
    assert [problem for problem in problems if not problem.tolerable] == []
    assert len(problems) == (form["atomic_facts"] == "none" and bool(plain.graph.bridges))


@pytest.mark.parametrize("seed", WORLDS)
def test_counts_are_those_of_all_inputs(tmp_path, seed):
    plain, world = both(seed)
    metadata = write(world, tmp_path / "data").metadata
    train = rows(world.train)
    seen, types = plain.seen(train), plain.types({*train})
    counts, there = metadata["counts"], metadata["compositions"]
    assert counts["train"] == plain.amount
    of_facts = Counter()
    for part in world.test_facts:
        of_facts[part.label] += len(part)
    assert counts["test"] == {k: len(v) for k, v in world.test.items()} | of_facts
    assert counts.get("valid", {}) == {k: len(v) for k, v in world.validation.items()}
    facts = sum(map(len, plain.training_facts(train).values()))
    assert counts.get("atomic_facts_in_train", 0) == facts
    assert there["domain"] == len(plain.inputs())
    assert there["trainable"] == len(plain.trainable)
    assert there["in_domain"] == len(types.get("type_0", ())) + plain.amount
    assert sum(there["outside_train"].values()) == len(plain.compositions) - plain.amount
    for function, told in zip(plain.graph.functions, metadata["primitives"], strict=True):
        assert told["name"] == function.name
        assert told["facts"] == len(plain.tables[function.table])
        assert told["seen_in_train"] == len(seen[function.name])


# A world by hand, with names as they come: quotes, a backslash, spaces, escapes, other scripts.
PEOPLE = ["ann", "new york", "o'b\"rien\\", "müller", "a<b", "</a>"]
RELATIONS = ["mother of", "& child", "Ö €"]
KIN = {
    "name": "kin",
    "inputs": ["h", "r1", "r2"],
    "functions": [
        {"name": "f1", "output": "b", "sources": ["h", "r1"], "table": "knows"},
        {"name": "f2", "output": "t", "sources": ["b", "r2"], "table": "knows"},
    ],
    "alphabets": {"h": "person", "b": "person", "t": "person", "r1": "rel", "r2": "rel"},
}
KNOWS = {(0, 0): 1, (0, 1): 2, (1, 0): 3, (1, 1): 0, (2, 2): 4, (3, 0): 5, (5, 1): 0, (4, 0): 4}


def kin_contents(**changes) -> Contents:
    """Training items use f1(0, 0), f1(1, 1), f2(1, 0), f2(0, 1); its facts are others too."""
    table = np.full((6, 3), -1, dtype=np.int32)
    for call, result in KNOWS.items():
        table[call] = result
    splits = {
        "train": [
            Items(np.array([[0, 0, 0], [1, 1, 1]])),
            Facts(0, np.array([[2, 2], [0, 1], [1, 0], [4, 0]])),
        ],
        "test": [
            Items(np.array([[0, 0, 0]]), label="train_inferred"),
            Items(np.array([[0, 1, 2]]), label="type_1+f1+f2", source_type='odd "name"'),
            Items(np.array([[1, 0, 0]]), label="type_1+f1"),
            Facts(0, np.array([[0, 1], [1, 0]]), label="fact_seen"),
            Facts(0, np.array([[2, 2]]), label="fact_only"),
        ],
    }
    alphabets = {"person": list(map(token_of, PEOPLE)), "rel": list(map(token_of, RELATIONS))}
    given = {"alphabets": alphabets, "tables": [table, table], "splits": splits, **changes}
    return Contents(TaskGraph.from_dict(KIN), **given)


def write_kin(folder, contents=None, target_format="inf"):
    contents = contents or kin_contents()
    files = contents_files(contents, target_format) | table_files(contents)
    metadata = {
        "task": contents.graph.to_dict(),
        "counts": contents.counts(),
        **contents.alphabets_of_metadata(),
    }
    write_dataset(folder, files, metadata, overwrite=False)
    return folder


@pytest.fixture
def kin(tmp_path):
    return write_kin(tmp_path / "kin")


def test_any_name_is_a_token(kin):
    """In files, arrays and sentences; nothing in a name can be taken for the end or a bracket."""
    dataset, problems = validate(kin)
    assert problems == []
    people = list(map(token_of, PEOPLE))
    assert people[4] == "<a&lt;b>" and people[5] != "</a>"
    assert [*dataset.codec.vocabulary] == [*people, *map(token_of, RELATIONS), "</a>"]
    assert [name_of(token) for token in dataset.codec.vocabulary[:9]] == PEOPLE + RELATIONS
    assert dataset.codec.end_id == 9
    texts = [record["input_text"] for record in dataset.test.records]
    assert texts[1] == "<ann><&amp; child><Ö €>"
    for text, row in zip(texts, dataset.test.inputs, strict=True):
        assert dataset.text(row) == text
        assert np.array_equal(dataset.parse(text), row)
    assert dataset.short([0, 1, 2], ["h", "r1", "r2"]) == ["ann", "& child", "Ö €"]
    assert [record.get("source_type") for record in dataset.test.records] == [
        None,
        'odd "name"',
        None,
    ]
    assert dataset.train.facts.calls == [(2, 8), (0, 7), (1, 6), (4, 6)]
    assert dataset.train.facts.results == [4, 2, 3, 4]
    tables = dataset.tables()
    assert {tuple(c): int(tables[0][tuple(c)]) for c in np.argwhere(tables[0] >= 0)} == KNOWS
    assert [file.name for file in kin.glob("atomic_facts*")] == ["atomic_facts_knows.json"]


def test_bridges_of_a_chain_of_thought_are_of_their_alphabets(tmp_path):
    folder = write_kin(tmp_path / "kin", target_format="cot")
    dataset, problems = validate(folder)
    assert problems == []
    assert dataset.target_format == "cot"
    assert dataset.train.targets.tolist() == [[1, 3], [0, 2]]
    assert dataset.train.records[0]["target_text"].endswith("<new york><müller></a>")


@pytest.mark.parametrize(
    "name", [*PEOPLE, "</b>", "/a", "/b", "pad", "<t_0>", "><", "&lt;", "&#47;a"]
)
def test_a_name_survives_as_a_token(name):
    token = token_of(name)
    assert name_of(token) == name
    assert token not in ("</a>", "</b>", "<pad>")
    codec = Codec([token, "<other>", "</a>"], {"own": 2})
    assert codec.encode(f"{token}<other>{token}</a>") == [0, 1, 0, 2]


def edited(folder, file, change):
    """A file of a data set with its JSON changed in place."""
    content = json.loads((folder / file).read_text(encoding="utf-8"))
    changed = change(content)
    content = content if changed is None else changed
    (folder / file).write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


def record(file, number, **fields):
    """A change of one record, counted from 1."""
    return file, lambda records: records[number - 1].update(fields)


def metadata_of(**fields):
    return "metadata.json", lambda metadata: metadata.update(fields)


def swapped(first, second):
    def change(tokens):
        a, b = tokens.index(first), tokens.index(second)
        tokens[a], tokens[b] = tokens[b], tokens[a]

    return "vocab.json", change


def appended(file, **fields):
    return file, lambda records: records.append(fields)


DAMAGES = {
    "a trained fact that the table gives another result": (
        record("train.json", 6, target_text="<a&lt;b><mother of><ann></a>"),
        ("train.json record 6", "the fact gives <ann>, but the tables give <a&lt;b>"),
    ),
    "a tested fact with another result than in training": (
        record("test.json", 4, target_text="<ann><&amp; child><ann></a>"),
        ("test.json record 4", "<ann><&amp; child>", "train.json record 4"),
    ),
    "a type without what is known": (
        record("test.json", 3, type="type_1"),
        ("test.json record 3", "type is type_1", "it is type_1+f1"),
    ),
    "a type with more than is known": (
        record("test.json", 3, type="type_1+f1+f2"),
        ("test.json record 3", "type is type_1+f1+f2", "it is type_1+f1"),
    ),
    "a type of a function that there is not": (
        record("test.json", 3, type="type_1+f9"),
        ("test.json record 3", "type is type_1+f9"),
    ),
    "a fact of another type": (
        record("test.json", 6, type="fact_seen"),
        ("test.json record 6", "type is fact_seen", "fact_only"),
    ),
    "a relation for a person": (
        record(
            "train.json",
            1,
            input_text="<Ö €><mother of><mother of>",
            target_text="<Ö €><mother of><mother of><müller></a>",
        ),
        ("train.json record 1", "slot h may only hold person tokens (<ann> to ", "not <Ö €>"),
    ),
    "a person for a relation": (
        record(
            "test.json",
            2,
            input_text="<ann><&amp; child><ann>",
            target_text="<ann><&amp; child><ann><ann></a>",
        ),
        ("test.json record 2", "slot r2 may only hold rel tokens (<mother of> to ", "not <ann>"),
    ),
    "a relation for an answer": (
        record("train.json", 2, target_text="<new york><&amp; child><&amp; child><Ö €></a>"),
        ("train.json record 2", "the answer may only be person tokens"),
    ),
    "the alphabets are mixed": (
        swapped("<ann>", "<mother of>"),
        ("train.json record", "<ann>"),
    ),
    "a token that no alphabet has": (
        record("train.json", 1, input_text="<bob><mother of><mother of>"),
        ("train.json record 1", "token <bob>"),
    ),
    "a fact that no function can be asked": (
        appended(
            "train.json",
            input_text="<Ö €><ann>",
            target_text="<Ö €><ann><ann></a>",
        ),
        ("train.json record 7", "is no call of f1(h, r1), f2(b, r2)"),
    ),
    "a fact whose result is of another alphabet": (
        record("train.json", 5, target_text="<new york><mother of><Ö €></a>"),
        ("train.json record 5", "is no call of f1(h, r1), f2(b, r2)"),
    ),
    "a fact twice": (
        appended(
            "train.json",
            input_text="<ann><&amp; child>",
            target_text="<ann><&amp; child><o'b\"rien\\></a>",
        ),
        ("train.json records 4 and 7", "fact <ann><&amp; child> is there twice"),
    ),
    "a tested fact twice": (
        appended(
            "test.json",
            input_text="<ann><&amp; child>",
            target_text="<ann><&amp; child><o'b\"rien\\></a>",
            type="fact_seen",
        ),
        ("test.json records 4 and 7", "fact <ann><&amp; child> is there twice"),
    ),
    "more tokens than there are": (
        metadata_of(alphabets={"person": 6, "rel": 4}),
        ("vocab.json", "must begin with the 10 tokens of person, rel"),
    ),
    "many more tokens than there are": (
        metadata_of(alphabets={"person": 6, "rel": 10**30}),
        ("vocab.json", "must begin with the 1000000000000000000000000000006 tokens"),
    ),
    "fewer than no tokens": (
        metadata_of(alphabets={"person": -6, "rel": 3}),
        ("alphabet 'person' has -6 tokens; it must have at least one"),
    ),
    "a number that is none": (
        metadata_of(alphabets={"person": 6, "rel": "3"}),
        ("alphabet 'rel' has '3' tokens; it must have at least one"),
    ),
    "true for a number": (
        metadata_of(alphabets={"person": 6, "rel": True}),
        ("alphabet 'rel' has True tokens; it must have at least one"),
    ),
    "an alphabet is missing": (
        metadata_of(alphabets={"person": 6}),
        ("alphabet 'rel' has 0 tokens; it must have at least one",),
    ),
    "no alphabets are told": (
        ("metadata.json", lambda metadata: [metadata.pop("alphabets"), metadata][1]),
        ("alphabet 'person' has 0 tokens; it must have at least one",),
    ),
    "an alphabet is empty": (
        metadata_of(alphabets={"person": 9, "rel": 0}),
        ("alphabet 'rel' has 0 tokens; it must have at least one",),
    ),
    "alphabets are a list": (
        metadata_of(alphabets=["person", "rel"]),
        ("metadata.json", "'alphabets' must be a JSON object"),
    ),
    "a token is named twice": (
        ("vocab.json", lambda tokens: tokens.insert(0, "<Ö €>")),
        ("vocab.json lists a token twice",),
    ),
    "a token is two": (
        ("vocab.json", lambda tokens: ["<ann><bob>" if t == "<ann>" else t for t in tokens]),
        ("vocab.json", "the token '<ann><bob>' is not a name between < and >"),
    ),
}


#: What only the validation looks for.
TOLD_ONLY = {name for name in DAMAGES if " type" in name or "the table" in name}


def test_a_filler_is_no_token_of_an_alphabet(tmp_path):
    folder = write_kin(tmp_path / "kin", target_format="fakebridge")
    assert load_dataset(folder).target_format == "fakebridge"
    edited(folder, *metadata_of(alphabets={"person": 6, "rel": 4}))
    with pytest.raises(InputError, match="must begin with the 10 tokens of person, rel"):
        load_dataset(folder)


@pytest.mark.parametrize("damage", DAMAGES)
def test_every_damage_is_found_in_one_sentence(kin, damage):
    (file, change), words = DAMAGES[damage]
    edited(kin, file, change)
    _, problems = validate(kin)
    told = [str(problem) for problem in problems if "it was changed" not in str(problem)]
    assert any(all(word in sentence for word in words) for sentence in told), told


@pytest.mark.parametrize("damage", [name for name in DAMAGES if name not in TOLD_ONLY])
def test_damaged_data_are_not_used(kin, damage):
    """Whatever is damaged but these no stage reads."""
    (file, change), words = DAMAGES[damage]
    edited(kin, file, change)
    with pytest.raises(InputError) as refused:
        load_dataset(kin).tables()
    assert all(word in str(refused.value) for word in words)
    assert str(refused.value).startswith(str(kin)) and "\n" not in str(refused.value)


def test_calls_that_tables_do_not_tell_are_not_taken_for_the_last_token():
    """A table without all facts: values that it lacks are unknown, and no call is seen for them."""
    values = np.array([[1, 2], [2, 0], [0, 1]], dtype=np.int32)
    seen = seen_calls(
        composition_graph(2),
        [np.where(values == 2, -1, values)] * 2,
        np.array([[0, 1, 0], [2, 0, 0]]),
    )
    # (0, 1) gives the unknown value; (2, 0) gives 0, so (0, 0) is called.
    assert np.argwhere(seen[0]).tolist() == [[0, 1], [2, 0]]
    assert np.argwhere(seen[1]).tolist() == [[0, 0]]


@pytest.mark.parametrize("primitives", [None, 3, "x", [1], [{"x": 1}], [{"name": [], "facts": 1}]])
def test_odd_primitives_are_refused(kin, primitives):
    edited(kin, "metadata.json", lambda metadata: metadata.update(primitives=primitives))
    with pytest.raises(InputError, match="'primitives' must be a list of objects"):
        load_dataset(kin)


def test_a_table_without_any_call_is_refused_in_either_form(kin):
    table = np.full((len(PEOPLE), len(RELATIONS)), -1, dtype=np.int32)
    np.savez_compressed(kin / "atomic_facts_knows.npz", values=table)
    with pytest.raises(InputError, match="npz defines no call of f1"):
        load_dataset(kin).tables()


def test_names_are_shortened_only_where_they_are_numbers():
    codec = Codec(["<t_shirt>", "<shirt>", "</a>"], {"item": 2})
    assert [codec.short(0), codec.short(1)] == ["t_shirt", "shirt"]
    assert Codec(["<t_0>", "<t_1>", "</a>"]).short(1) == "1"


def test_facts_that_could_be_of_two_tables_are_refused(kin):
    def apart(metadata):
        for function in metadata["task"]["functions"]:
            del function["table"]

    edited(kin, "metadata.json", apart)
    with pytest.raises(InputError, match="those of f1 and f2 have the same alphabets; they must"):
        load_dataset(kin)


@pytest.mark.parametrize(
    ("names", "importer"),
    [
        (("train.json", "vocab.json"), "grokked {folder}"),
        (("people.tsv",), "triples FILE"),
        (("rows.csv",), "table FILE"),
        ((), "table FILE, triples FILE or grokked DIR"),
    ],
)
def test_a_folder_of_another_kind_names_its_importer(tmp_path, names, importer):
    for name in names:
        (tmp_path / name).write_text("[]", encoding="utf-8")
    command = f"script/import_dataset.py {importer.format(folder=tmp_path)}"
    with pytest.raises(InputError, match=re.escape(command) + "$"):
        load_dataset(tmp_path)
    for file in tmp_path.glob("*.csv"):
        with pytest.raises(InputError, match="is a file, .* table .*rows.csv$"):
            find_folder(file, "data_dir", also_in="data")
