"""Data of others as data sets, against what plain Python makes of the same files."""

from __future__ import annotations

import csv
import html
import itertools
import json
import random
from collections import Counter

import pytest

from coverage_principle.data import validate
from coverage_principle.data.importing import (
    IMPORTERS,
    Imported,
    TableSettings,
    TriplesSettings,
    columns,
    import_source,
)
from coverage_principle.data.importing import triples as triples_module
from coverage_principle.errors import InputError


@pytest.fixture
def importing(run_command, tmp_path):
    """``importing(kind, source, ...)``: the command's result, and the folder that it names."""

    def run(kind, *arguments):
        out = tmp_path / "out"
        given = (kind, *arguments, "--output_dir", out)
        finished = run_command("script/import_dataset.py", *given)
        line = finished.stdout.partition("\n")[0]
        return finished, out / line.partition(":")[0].rpartition("/")[2]

    return run


def names(text):
    return tuple(html.unescape(token) for token in text[1:-1].split("><"))


def read(folder):
    """Train and test of a valid data set: ``[(input names, target names, type, source type)]``."""
    dataset, problems = validate(folder)
    assert dataset is not None and not problems, problems
    found = []
    for name in ("train", "test"):
        records = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
        found.append(
            [
                (
                    names(r["input_text"]),
                    names(r["target_text"][len(r["input_text"]) :])[:-1],
                    r.get("type"),
                    r.get("source_type"),
                )
                for r in records
            ]
        )
    metadata = json.loads((folder / "metadata.json").read_text(encoding="utf-8"))
    return *found, metadata


def label_of(seen, known, functions):
    """The type by the rule of the page, spelt out."""
    bits = "".join("1" if flag else "0" for flag in seen)
    if "0" not in bits:
        return "type_0"
    facts = [f for f, s, k in zip(functions, seen, known, strict=True) if k and not s]
    return "+".join([f"type_{int(bits, 2) + 1}", *facts])


def chain_calls(facts, item):
    """The calls (entity, relation) of a composition, and its values; None if one is unknown."""
    entity, *relations = item
    calls, values = [], []
    for relation in relations:
        calls.append((entity, relation))
        if calls[-1] not in facts:
            return None
        entity = facts[calls[-1]]
        values.append(entity)
    return calls, values


def chain_type(facts, train, known, item):
    """The type of a test composition over one table that all hops share."""
    if item in train:
        return "train_inferred"
    used = [set() for _ in item[1:]]
    for one in train:
        for place, call in enumerate(chain_calls(facts, one)[0]):
            used[place].add(call)
    calls, _ = chain_calls(facts, item)
    functions = [f"f{i}" for i in range(1, len(calls) + 1)]
    seen = [call in own for call, own in zip(calls, used, strict=True)]
    return label_of(seen, [call in known for call in calls], functions)


# ----------------------------------------------------------------------- GrokkedTransformer


def write_grokked(folder, vocabulary, train, test, valid=None):
    """Records are ``(input tokens, answer)`` or, in a test file, ``(input, answer, type)``."""
    folder.mkdir()
    files = {"train": train, "test": test, "valid": valid}
    for name, records in files.items():
        if records is None:
            continue
        shown = []
        for given, answer, *kind in records:
            text = "".join(given)
            record = {"input_text": text, "target_text": f"{text}{answer}</a>"}
            shown.append(record | ({"type": kind[0]} if kind else {}))
        (folder / f"{name}.json").write_text(json.dumps(shown), encoding="utf-8")
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    return folder


def composition_world(folder, hops, seed=0):
    """A small world in their schema, with what there is to leave out; facts, train, test."""
    rng = random.Random(seed)
    entities = [f"<e_{i}>" for i in range(9)]
    relations = [f"<r_{i}>" for i in range(5)]
    facts = {(e, r): rng.choice(entities) for e in entities for r in rng.sample(relations, 3)}
    held_out = set(rng.sample(sorted(facts), 4))
    items = []
    for item in itertools.product(entities, *[relations] * hops):
        found = chain_calls(facts, item)
        if found:
            items.append((item, found[1][-1], not held_out & set(found[0])))
    rng.shuffle(items)
    domain = [one[:2] for one in items if one[2]]
    train, iid = domain[: len(domain) // 2], domain[len(domain) // 2 :]
    ood = [one[:2] for one in items if not one[2]]
    only_test = sorted(held_out)[0]  # a fact that train does not list
    trained = [(call, value) for call, value in facts.items() if call != only_test]
    lost = next(e for e in entities if (e, "<r_0>") not in facts)
    test = [(*one, "Train-II") for one in train[:10]]
    test += [(*one, "Test-II") for one in iid] + [(*one, "Test-OO") for one in ood]
    test += [(*one, "ID Triples") for one in trained[:20]]
    test += [(only_test, facts[only_test], "OOD Triples")]
    test += [((lost, *["<r_0>"] * hops), "<e_0>", "Test-OO"), test[11]]
    vocabulary = [*entities, *relations, "<e_77>", "<mask>", "<sep>", "<a>", "</a>", "<q>", "</q>"]
    write_grokked(folder, vocabulary, [*trained, *train, train[0]], test, ood)
    return facts, dict(trained), train, test


@pytest.mark.parametrize("hops", [2, 3])
def test_a_composition_folder_agrees_with_plain_python(importing, tmp_path, hops):
    facts, known, train, test = composition_world(tmp_path / "source", hops)
    finished, folder = importing("grokked", tmp_path / "source")
    assert finished.returncode == 0, finished.stderr
    ours, theirs, metadata = read(folder)
    plain = {tuple(t[1:-1] for t in given): answer[1:-1] for given, answer in facts.items()}
    assert {given: target[0] for given, target, *_ in ours if len(given) == 2} == {
        tuple(t[1:-1] for t in given): answer[1:-1] for given, answer in known.items()
    }
    items = [tuple(t[1:-1] for t in given) for given, _ in train]
    assert [given for given, *_ in ours if len(given) > 2] == items
    calls = {tuple(t[1:-1] for t in given) for given in known}
    used = {call for item in items for call in chain_calls(plain, item)[0]}
    wanted = set()
    for given, _, kind in test:
        given = tuple(t[1:-1] for t in given)
        if len(given) == 2 and given in calls:
            wanted.add((given, "fact_seen" if given in used else "fact_only", kind))
        elif len(given) > 2 and chain_calls(plain, given):
            wanted.add((given, chain_type(plain, set(items), calls, given), kind))
    assert {(given, label, kind) for given, _, label, kind in theirs} == wanted
    assert len(theirs) == len(wanted)
    about = metadata["imported"]
    assert about["from"] == "grokked" and len(about["files"]) == 4
    assert about["dropped"] == {
        "tokens of vocab.json that no record uses": 1,
        "compositions that train has already": 1,
        "compositions of test with a call that no fact gives": 1,
        "compositions that test has already": 1,
        "facts of test that are no training facts": 1,
        "valid items that are test items": len([one for one in test if one[2] == "Test-OO"]) - 1,
    }
    counted = Counter((kind, label) for _, _, label, kind in theirs)
    told = {(k, t): n for k, own in about["source_types"].items() for t, n in own.items()}
    assert told == counted
    assert "no valid.json is written" in finished.stdout and not (folder / "valid.json").exists()
    finished, folder = importing("grokked", tmp_path / "source", "--cot", "--name", "with bridges")
    assert folder.name == "with bridges"
    for given, target, *_ in itertools.chain(*read(folder)[:2]):
        assert list(target) == chain_calls(plain, given)[1]


@pytest.mark.parametrize("turned", [False, True])
def test_a_comparison_folder_agrees_with_plain_python(importing, tmp_path, turned):
    rng = random.Random(1)
    entities, attributes = [f"<e_{i}>" for i in range(8)], [f"<attr_{i}>" for i in range(3)]
    numbers = [f"<{i}>" for i in range(4)]
    facts = {(e, a): rng.randrange(4) for e in entities for a in attributes}
    items = []
    for a, e, other in itertools.product(attributes, entities, entities):
        if e != other:
            v1, v2 = facts[e, a], facts[other, a]
            answer = f"{a[:-1]}_{(v1 > v2) + (v1 >= v2)}>"
            items.append(((a, "<q>", e, "<mask>", other), answer, "test_inferred_iid"))
    rng.shuffle(items)
    labels = [f"{a[:-1]}_{i}>" for a in attributes for i in range(3)]
    vocabulary = [*entities, *attributes, *numbers, "<mask>", "<sep>", "</a>", "<q>", *labels]
    singles = [(c[::-1] if turned else c, numbers[v], "id_atomic") for c, v in facts.items()]
    write_grokked(tmp_path / "source", vocabulary, singles + items[:60], items[60:])
    finished, folder = importing("grokked", tmp_path / "source")
    assert finished.returncode == 0, finished.stderr
    train, test, metadata = read(folder)
    assert metadata["alphabets"] == {"attribute": 3, "entity": 8, "value": 4, "answer": 3}
    used = [set(), set(), set()]

    def calls(item):
        a, e, other = (f"<{name}>" for name in item)
        return (e, a), (other, a), (facts[e, a], facts[other, a])

    compositions = [one for one in train if len(one[0]) == 3]
    assert len(compositions) == 60 and len(train) == 60 + len(facts)
    for given, target, *_ in compositions:
        v1, v2 = calls(given)[2]
        assert target == (f"answer_{(v1 > v2) + (v1 >= v2)}",)
        for own, call in zip(used, calls(given), strict=True):
            own.add(call)
    assert len(test) == len(items) - 60
    for given, _, label, kind in test:
        seen = [call in own for call, own in zip(calls(given), used, strict=True)]
        assert label == label_of(seen, [True, True, False], ["f1", "f2", "f3"])
        assert kind == "test_inferred_iid"


BROKEN = [
    (
        ("train", 3, "input_text", "<e_1>"),
        ("train.json record 4", "must hold one token as the answer"),
    ),
    (("train", 0, "target_text", "<e_1></a>"), ("train.json record 1", "must be the input")),
    (("train", 5, "target_text", "<x></a>"), ("train.json record 6", "must be the input")),
    (("test", 2, "input_text", None), ("test.json record 3", "input_text and target_text")),
    (("test", 1, "type", 7), ("test.json record 2", "type")),
]


@pytest.mark.parametrize(("change", "words"), BROKEN, ids=lambda part: str(part[0]))
def test_a_broken_record_is_named(importing, refused, tmp_path, change, words):
    composition_world(tmp_path / "source", 2)
    name, place, key, value = change
    file = tmp_path / "source" / f"{name}.json"
    records = json.loads(file.read_text(encoding="utf-8"))
    records[place][key] = value
    file.write_text(json.dumps(records), encoding="utf-8")
    refused(importing("grokked", tmp_path / "source")[0], *words)
    assert not (tmp_path / "out").exists()


def test_folders_that_contradict_themselves_are_refused(importing, refused, tmp_path):
    entities, relations = ["<e_0>", "<e_1>"], ["<r_0>", "<r_1>"]
    vocabulary = [*entities, *relations, "<a>", "</a>"]
    fact, other = (("<e_0>", "<r_0>"), "<e_1>"), (("<e_0>", "<r_0>"), "<e_0>")
    item = (("<e_0>", "<r_0>", "<r_0>"), "<e_0>")
    loop = (("<e_1>", "<r_0>"), "<e_1>")
    for number, (train, words) in enumerate(
        [
            ([fact, other, item], ("train.json record 2", "another result", "record 1")),
            ([fact, loop, item], ("record 3", "the answer is <e_0>, but the facts give <e_1>")),
            ([fact, loop], ("compositions of 2 to 5 relations", "--hops")),
            ([fact, (("<r_0>", "<e_0>", "<r_1>"), "<e_1>")], ("is also used as",)),
            ([fact, item], ("no training composition is left",)),
            ([], ("train.json has no records",)),
        ]
    ):
        source = write_grokked(tmp_path / str(number), vocabulary, train, [])
        refused(importing("grokked", source)[0], *words)
    refused(importing("grokked", tmp_path / "nothing")[0], "nothing", "does not exist")


# ----------------------------------------------------------------------- triples


def write_triples(path, triples, separator="\t"):
    path.write_text("".join(separator.join(t) + "\n" for t in triples), encoding="utf-8")
    return path


def knowledge(seed=0):
    """Triples of names that need care; a third of the (head, relation) have several tails."""
    rng = random.Random(seed)
    people = ["Ann", "Böb", "new york", "a<b", "c>d", "&amp;", "</a>", "Q42"]
    relations = ["knows", "lives in", "<of>"]
    found = set()
    for head, relation in itertools.product(people, relations):
        for tail in rng.sample(people, rng.choice([0, 1, 1, 2])):
            found.add((head, relation, tail))
    found = sorted(found)
    rng.shuffle(found)
    return found


def functional(triples):
    tails = {}
    for head, relation, tail in triples:
        tails.setdefault((head, relation), set()).add(tail)
    return {call: own.pop() for call, own in tails.items() if len(own) == 1}


def compositions(facts, hops):
    relations = sorted({relation for _, relation in facts})
    heads = sorted({head for head, _ in facts})
    every = itertools.product(heads, *[relations] * hops)
    return {item for item in every if chain_calls(facts, item)}


@pytest.mark.parametrize("facts", ["none", "in_domain", "all"])
def test_given_splits_of_triples_agree_with_plain_python(importing, tmp_path, facts):
    triples = knowledge()
    parts = {"train": triples[:-8], "valid": triples[-8:-4], "test": triples[-4:]}
    files = [write_triples(tmp_path / f"{name}.txt", own) for name, own in parts.items()]
    finished, folder = importing("triples", *files[::-1], "--facts", facts, "--test_ratio", 0)
    assert finished.returncode == 0, finished.stderr
    table = functional(triples)
    origin = {t[:2]: name for name, own in parts.items() for t in own if t[:2] in table}
    own = {call: tail for call, tail in table.items() if origin[call] == "train"}
    train, test, metadata = read(folder)
    trained = compositions(own, 2)
    assert {given for given, *_ in train if len(given) == 3} == trained
    known = {"none": {}, "in_domain": own, "all": table}[facts]
    assert {given: target[0] for given, target, *_ in train if len(given) == 2} == known
    every = compositions(table, 2)
    assert {given for given, *_ in test if len(given) == 3} == every
    used = {call for item in trained for call in chain_calls(table, item)[0]}
    ranks = {"train": 0, "valid": 1, "test": 2}
    for given, target, label, source in test:
        if len(given) == 2:
            assert label == ("fact_seen" if given in used else "fact_only")
            assert source == origin[given]
            continue
        calls, values = chain_calls(table, given)
        assert target == (values[-1],)
        assert label == chain_type(table, trained, known, given)
        assert ranks[source] == max(ranks[origin[call]] for call in calls)
    several = sum(t[:2] not in table for t in triples)
    reason = "triples whose (head, relation) has several tails"
    assert metadata["imported"]["dropped"] == {reason: several}
    paths = sum(a[2] == b[0] for a, b in itertools.product(triples, triples))
    assert f"{len(every)} of {paths} paths of 2 triples" in finished.stdout


@pytest.mark.parametrize("hops", [1, 2, 3])
def test_one_file_of_triples_is_split(importing, tmp_path, hops):
    triples = knowledge(3)
    given = [("head", "relation", "tail"), *triples, triples[0]]
    file = write_triples(tmp_path / "graph.csv", given, ",")
    more = ("--header", "--hops", hops, "--test_ratio", 0.25, "--ood_ratio", 0.2)
    finished, folder = importing("triples", file, *more)
    assert finished.returncode == 0, finished.stderr
    assert folder.name == f"graph.{hops}-hop"
    table = functional(triples)
    train, test, metadata = read(folder)
    items = {given for given, *_ in train if hops == 1 or len(given) > 2}
    facts = {given for given, *_ in train if len(given) == 2}
    in_domain = round(0.8 * len(table))
    if hops > 1:
        assert len(facts) == in_domain and facts <= {*table}
        allowed = compositions({call: table[call] for call in facts}, hops)
        assert items <= allowed and len(items) == len(allowed) - round(0.25 * len(allowed))
    else:
        assert len(items) == in_domain - round(0.25 * in_domain)
    every = compositions(table, hops)
    assert {given for given, *_ in test if len(given) == hops + 1} == every
    for given, _, label, source in test:
        assert source is None
        if len(given) == hops + 1 and hops > 1:
            assert label == chain_type(table, items, facts, given)
        elif hops == 1:
            assert label == ("train_inferred" if given in items else "type_0")
    assert metadata["imported"]["dropped"]["triples that are there already"] == 1


def test_triples_are_refused_with_their_line(importing, refused, tmp_path, monkeypatch):
    triples = knowledge()
    broken = write_triples(tmp_path / "train.txt", [*triples, ("Ann", "knows")])
    words = (f"train.txt line {len(triples) + 1}", "three fields", "Ann | knows")
    refused(importing("triples", broken)[0], *words)
    empty = write_triples(tmp_path / "empty.txt", [])
    refused(importing("triples", empty)[0], "empty.txt has no triples")
    odd = [write_triples(tmp_path / f"{name}.txt", triples) for name in "ab"]
    refused(importing("triples", *odd)[0], "train in its name", "a.txt, b.txt")
    refused(importing("triples", odd[0], "--hops", 1, "--facts", "all")[0], "--facts")
    several = write_triples(tmp_path / "s.txt", [("a", "r", "b"), ("a", "r", "c")])
    refused(importing("triples", several)[0], "no functional step")
    (tmp_path / "latin.txt").write_bytes(b"a\tr\tb\nc\tr\t\xe9\n")
    refused(importing("triples", tmp_path / "latin.txt")[0], "latin.txt line 2 is not UTF-8")
    short = write_triples(tmp_path / "short.txt", [("a", "r", "b")])
    refused(importing("triples", short)[0], "0 compositions of 2 training triples")
    monkeypatch.setattr(triples_module, "MOST_ROWS", 5)
    with pytest.raises(InputError, match="more than 5 triples"):
        import_source("triples", [odd[0]], TriplesSettings())
    monkeypatch.setattr(triples_module, "MOST_ROWS", 20)
    many = write_triples(tmp_path / "m.txt", [(f"{i}", "r", f"{(i + 1) % 20}") for i in range(20)])
    monkeypatch.setattr(triples_module, "MOST_ROWS", 20)
    assert import_source("triples", [many], TriplesSettings()).notes
    several = [(f"{i}", r, f"{i}") for i in range(4) for r in "abcd"]
    with pytest.raises(InputError, match="58 compositions .* at most 20; give `max_train_data_num"):
        import_source(
            "triples",
            [write_triples(tmp_path / "n.txt", several)],
            TriplesSettings(),
        )


# ----------------------------------------------------------------------- tables


def table_rows(seed=0):
    """Rows of three slots, a bridge and an answer, with names that need care."""
    rng = random.Random(seed)
    first = ["new york", "a<b", "é"]
    f1 = {(a, b): f"m{rng.randrange(4)}" for a in first for b in range(6)}
    f2 = {(f"m{m}", c): f"t{rng.randrange(3)}" for m in range(4) for c in range(5)}
    rows = []
    for a, b, c in itertools.product(first, range(6), range(5)):
        rows.append([a, f"{b}", f"w{c}", f1[a, b], f2[f1[a, b], c]])
    rng.shuffle(rows)
    return ["where", "b", "c", "m", "t"], rows


def write_table(path, header, rows):
    with open(path, "w", encoding="utf-8", newline="") as file:
        if path.suffix == ".jsonl":
            lines = (json.dumps(dict(zip(header, row, strict=True))) + "\n" for row in rows)
            file.writelines(lines)
        else:
            delimiter = "\t" if path.suffix == ".tsv" else ","
            csv.writer(file, delimiter=delimiter).writerows([header, *rows])
    return path


BRIDGES = ("--inputs", "where,b,c", "--answer", "t", "--bridges", "m(where,b)")


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl"])
def test_a_table_with_bridges_agrees_with_plain_python(importing, tmp_path, suffix):
    header, rows = table_rows()
    split = [["train", "test", "valid"][i % 5 % 3] for i in range(len(rows))]
    given = [[*row, s, f"kind {row[1]}"] for row, s in zip(rows, split, strict=True)]
    given.append(next(row for row in given if row[5] == "train"))
    file = write_table(tmp_path / f"cities{suffix}", [*header, "split", "kind"], given)
    more = ("--split", "split", "--type", "kind", "--cot")
    finished, folder = importing("table", file, *BRIDGES, *more)
    assert finished.returncode == 0, finished.stderr
    train, test, metadata = read(folder)
    by_split = {
        name: [row for row, s in zip(rows, split, strict=True) if s == name] for name in split
    }
    assert [one[:2] for one in train] == [(tuple(r[:3]), tuple(r[3:])) for r in by_split["train"]]
    used = [{(r[0], r[1]) for r in by_split["train"]}, {(r[3], r[2]) for r in by_split["train"]}]
    wanted = set()
    for a, b, c, m, t in by_split["test"]:
        label = label_of([(a, b) in used[0], (m, c) in used[1]], [0, 0], ["f1", "f2"])
        wanted.add(((a, b, c), (m, t), label, f"kind {b}"))
    assert set(test) == wanted and len(test) == len(by_split["test"])
    assert metadata["imported"]["dropped"] == {"compositions that train has already": 1}
    assert (folder / "valid.json").exists()
    assert metadata["counts"]["train"] == len(by_split["train"])
    first = {file.name: file.read_bytes() for file in folder.iterdir()}
    finished, folder = importing("table", file, *BRIDGES, *more)
    assert "already there, unchanged" in finished.stdout
    finished, folder = importing("table", file, *BRIDGES, *more, "--overwrite", "--seed", 1)
    again = {file.name: file.read_bytes() for file in folder.iterdir()}
    assert {n: b for n, b in again.items() if n != "metadata.json"} == {
        n: b for n, b in first.items() if n != "metadata.json"
    }


def test_a_table_is_split_at_random_and_each_input_is_on_one_side(importing, tmp_path):
    header, rows = table_rows()
    file = write_table(tmp_path / "cities.csv", header, [*rows, rows[0]])
    finished, folder = importing(
        "table", file, "--inputs", "where,b,c", "--answer", "t", "--test_ratio", 0.3, "--seed", 5
    )
    train, test, metadata = read(folder)
    inputs = [given for given, *_ in train]
    held_out = [one for one in test if one[2] == "type_0"]
    assert len(held_out) == round(0.3 * len(rows)) == len(test) - len(held_out)
    assert {tuple(r[:3]) for r in rows} == {*inputs, *(one[0] for one in held_out)}
    assert len(inputs) + len(held_out) == len(rows)
    assert all(one[0] in inputs for one in test if one[2] == "train_inferred")
    assert metadata["task"]["functions"] == [
        {"name": "f1", "output": "t", "sources": ["where", "b", "c"]}
    ]
    assert not [*folder.glob("atomic_facts_*")]


def test_alphabets_are_shared_or_told_apart(importing, tmp_path):
    rows = [[str(i % 4), str(i % 3), str(i % 5), "yes"] for i in range(60)]
    file = write_table(tmp_path / "numbers.csv", ["a", "b", "c d", "out"], rows)
    given = ("table", file, "--inputs", "a,b,c d", "--answer", "out")
    finished, folder = importing(*given)
    assert "name their alphabet" in finished.stdout and "c d is called c_d" in finished.stdout
    _, test, metadata = read(folder)
    assert metadata["alphabets"] == {"a": 4, "b": 3, "c_d": 5, "out": 1}
    assert all(item[0][2].startswith("c_d=") and item[1] == ("yes",) for item in test)
    finished, folder = importing(*given, "--alphabet", "a,b,c d", "--name", "shared")
    _, test, metadata = read(folder)
    assert metadata["alphabets"] == {"a": 5, "out": 1}
    assert all(name in "01234" for item in test for name in item[0])


@pytest.mark.parametrize("how", ["drop", "majority"])
def test_contradictions_are_refused_dropped_or_outvoted(importing, refused, tmp_path, how):
    rng = random.Random(2)
    rows = [
        [f"a{rng.randrange(4)}", f"b{rng.randrange(4)}", f"t{rng.randrange(2)}"] * 1
        for _ in range(60)
    ]
    rows += [["a9", "b9", "t0"], ["a9", "b8", "t1"], ["a8", "b9", "t1"]]
    file = write_table(tmp_path / "votes.csv", ["a", "b", "t"], rows)
    given = ("table", file, "--inputs", "a,b", "--answer", "t", "--test_ratio", 0)
    second = next(
        j
        for j in range(len(rows))
        for i in range(j)
        if rows[i][:2] == rows[j][:2] and rows[i][2] != rows[j][2]
    )
    words = (f"line {second + 2}", "another value, t0, than line", "--contradictions")
    refused(importing(*given)[0], *words)
    votes = {}
    for a, b, t in rows:
        votes.setdefault((a, b), []).append(t)
    wanted = {
        call: max(own, key=lambda t, own=own: (own.count(t), -own.index(t)))
        for call, own in votes.items()
        if how == "majority" or len({*own}) == 1
    }
    finished, folder = importing(*given, "--contradictions", how)
    train, test, metadata = read(folder)
    assert {given: target[0] for given, target, *_ in train} == wanted and not test
    kept = sum(wanted.get((a, b)) == t for a, b, t in rows)
    reason = "rows with another t than others of the same call"
    assert metadata["imported"]["dropped"][reason] == len(rows) - kept
    assert "there are no test items" in finished.stdout


def test_a_column_that_can_keep_its_name_does(importing, tmp_path):
    header = ["my col", "my_col", "3", "t"]
    rows = [[i, j, k, i + j + k] for i in range(3) for j in range(3) for k in range(3)]
    file = write_table(tmp_path / "cells.csv", header, rows)
    finished, folder = importing("table", file, "--inputs", ",".join(header[:3]), "--answer", "t")
    assert read(folder)[2]["task"]["inputs"] == ["my_col-2", "my_col", "c3"]
    assert "column 3 is called c3 here" in finished.stdout


def test_columns_keep_letters_of_any_script(importing, run_command, tmp_path):
    """And graphs, coverage and figures take them; an accent of its own is part of its letter."""
    header = ["Größe", "Sta\u0308dte", "価格 円"]
    rows = [[f"g{i}", f"s{j}", f"p{(i + j) % 3}"] for i in range(4) for j in range(4)]
    file = write_table(tmp_path / "cells.csv", header, rows)
    given = ("table", file, "--inputs", ",".join(header[:2]), "--answer", header[2])
    finished, folder = importing(*given, "--test_ratio", 0.3)
    task = read(folder)[2]["task"]
    assert task["inputs"] == ["Größe", "St\u00e4dte"]
    assert task["functions"][0]["output"] == "価格_円"
    assert "column 価格 円 is called 価格_円 here" in finished.stdout
    covered = ("--data_dir", folder, "--k_sweep", "--output_dir", tmp_path / "sweep")
    assert run_command("determine_coverage.py", *covered).returncode == 0


def test_white_space_around_values_is_removed_and_told(importing, tmp_path):
    rows = [[f"a{i}", f"b{j}", f"t{(i + j) % 3}"] for i in range(4) for j in range(4)]
    plain = write_table(tmp_path / "cells.csv", ["a", "b", "t"], rows)
    finished, folder = importing("table", plain, "--inputs", "a,b", "--answer", "t")
    wanted = read(folder)
    assert "white space" not in finished.stdout
    rows[3][0], rows[5][0], rows[7][1] = "  a0", "a1\t", " b3 "
    (tmp_path / "spaced").mkdir()
    spaced = write_table(tmp_path / "spaced" / "cells.csv", ["a ", " b", "t"], rows)
    given = ("--inputs", "a,b", "--answer", "t", "--overwrite")
    finished, folder = importing("table", spaced, *given)
    assert read(folder)[:2] == wanted[:2]
    assert "removed around the value of 2 cells of column a\n" in finished.stdout
    assert "removed around the value of 1 cell of column b\n" in finished.stdout


def test_what_is_left_out_is_counted_in_words(importing, tmp_path):
    rows = [[i, j, (i + j) % 3] for i in range(4) for j in range(4)]
    file = write_table(tmp_path / "cells.csv", ["a", "b", "t"], [*rows, rows[0]])
    finished, _ = importing("table", file, "--inputs", "a,b", "--answer", "t")
    assert "  left out: 1 row whose input is there already\n" in finished.stdout
    for reason, said in (
        ("rows with another t than others of the same call", "row with another t than others of"),
        ("valid items that are test items", "valid item that is a test item"),
        ("facts of test that are no training facts", "fact of test that is no training fact"),
        ("triples that are there already", "triple that is there already"),
    ):
        imported = Imported(None, {"imported": {"dropped": {reason: 1}}}, ())
        assert imported.left_out[0].startswith(f"1 {said}")
        imported = Imported(None, {"imported": {"dropped": {reason: 2000}}}, ())
        assert imported.left_out == [f"2,000 {reason}"]


def test_names_of_columns_are_no_triple(importing, refused, tmp_path):
    file = tmp_path / "family.csv"
    lines = ["Head,relation,tail", *(f"a{i},r{j},a{i * j % 5}" for i in range(5) for j in (1, 2))]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    refused(importing("triples", file)[0], "line 1 is Head, relation, tail", "--header")
    finished, folder = importing("triples", file, "--header")
    assert finished.returncode == 0 and read(folder)[2]["alphabets"] == {"entity": 5, "relation": 2}
    refused(importing("triples", file, "--header", "--ood_ratio", 1)[0], "lower --ood_ratio")


def test_a_folder_without_facts_is_refused(importing, refused, tmp_path):
    vocabulary = ["<e_0>", "<e_1>", "<attr_0>", "<attr_0_1>", "<r_0>", "<q>", "<mask>", "</a>"]
    for name, prompt, answer in (
        ("composition", "<e_0><r_0><r_0>", "<e_1>"),
        ("comparison", "<attr_0><q><e_0><mask><e_1>", "<attr_0_1>"),
    ):
        folder = tmp_path / name
        folder.mkdir()
        record = {"input_text": prompt, "target_text": f"{prompt}{answer}</a>"}
        for file, content in {"train": [record], "test": [], "vocab": vocabulary}.items():
            (folder / f"{file}.json").write_text(json.dumps(content), encoding="utf-8")
        refused(importing("grokked", folder)[0], "has no facts, records of two tokens")


def test_an_answer_about_another_attribute_is_named(importing, refused, tmp_path):
    values = {(e, a): (e + a) % 2 for e in range(2) for a in range(2)}
    facts = [(f"<e_{e}><attr_{a}>", f"<{v}>") for (e, a), v in values.items()]
    asked = [
        (f"<attr_{a}><q><e_{e}><mask><e_{f}>", f"<attr_{a}_{1 + values[e, a] - values[f, a]}>")
        for a in range(2)
        for e in range(2)
        for f in range(2)
    ]
    (prompt, _), *rest = asked
    tokens = {token + ">" for pair in [*facts, *asked] for token in "".join(pair).split(">")[:-1]}
    files = {"train": [*facts, *rest], "test": [(prompt, "<attr_1_1>")]}
    for name, pairs in files.items():
        records = [{"input_text": p, "target_text": f"{p}{t}</a>"} for p, t in pairs]
        (tmp_path / f"{name}.json").write_text(json.dumps(records), encoding="utf-8")
    (tmp_path / "vocab.json").write_text(json.dumps(sorted(tokens | {"</a>"})), encoding="utf-8")
    refused(importing("grokked", tmp_path)[0], "test.json record 1: <attr_1_1> is no answer about")


def test_sequences_of_one_length_become_slots(importing, refused, tmp_path):
    commands = ["jump", "run twice", "walk  twice", "look left", "run left", "jump left twice"]
    rows = [[text, text.upper()] for text in commands]
    file = write_table(tmp_path / "scan.csv", ["command", "actions"], rows)
    given = ("table", file, "--sequence", "command", "--answer", "actions", "--test_ratio", 0.25)
    words = ("1 (1 row), 2 (4 rows), 3 (1 row)", "--length")
    refused(importing(*given)[0], *words)
    refused(importing(*given, "--length", 7)[0], "no row has --length 7")
    finished, folder = importing(*given, "--length", 2)
    train, test, metadata = read(folder)
    found = {given: target[0] for given, target, *_ in [*train, *test]}
    assert found == {tuple(t.split()): t.upper() for t in commands if len(t.split()) == 2}
    assert metadata["imported"]["dropped"] == {"rows of another length": 2}
    assert metadata["alphabets"] == {"word": 5, "actions": 4}


REFUSED = {
    "no column": (["a,x", "t"], "a,b,t\n1,2,3\n", ("no column 'x'", "it has 'a', 'b', 't'")),
    "missing": (["a,b", "t"], "a,b,t\n1,2,3\n1,,3\n", ("line 3: column b has no value",)),
    "NaN": (["a,b", "t"], "a,b,t\nNaN,2,3\n", ("line 2: column a has no value",)),
    "fields": (["a,b", "t"], "a,b,t\n1,2,3\n1,2\n", ("line 3 has 2 fields", "3 columns")),
    "no rows": (["a,b", "t"], "a,b,t\n", ("has no rows",)),
    "nothing": (["a,b", "t"], "", ("has no rows",)),
    "twice": (["a,b", "t"], "a,b,b,t\n1,2,2,3\n", ("two columns with the name 'b'",)),
    "open quote": (["a,b", "t"], 'a,b,t\n1,"2,3\n', ("line 2: unexpected end of data",)),
    "all": (["a,b", "t", "--test_ratio", "0.9"], "a,b,t\n1,2,3\n", ("leaves none to train on",)),
    "split": (["a", "t", "--split", "s"], "a,t,s\n1,2,dev\n", ("line 2", "must say", "'dev'")),
    "cot": (["a,b", "t", "--cot"], "a,b,t\n1,2,3\n4,5,6\n", ("--cot", "has none")),
    "bridge": (["a,b", "t", "--bridges", "b"], "a,b,t\n1,2,3\n", ("--bridges b", "b1(a,b)")),
    "unread": (["a,b", "t(a)"], "a,b,t\n1,2,3\n", ("input slot 'b' is never used",)),
    "reads": (["a,b", "t(a,b,z)"], "a,b,t\n1,2,3\n", ("t reads 'z'", "a, b, t")),
    "semicolons": (["a,b", "t"], "a;b;t\n1;2;3\n", ("it has 'a;b;t'", "is --delimiter ';'")),
    "array": (["a,b", "t"], "[\n", ("rows.csv is JSON", "JSON lines")),
    "both": (["a", "t", "--split", "s", "--test_ratio", "0.3"], "a,t,s\n", ("omit --test_ratio",)),
    "alphabet": (["a,b", "t", "--alphabet", "a,y"], "a,b,t\n1,2,3\n", ("y is none of a, b, t",)),
}


@pytest.mark.parametrize("case", REFUSED)
def test_tables_are_refused_with_one_sentence(importing, refused, tmp_path, case):
    (inputs, answer, *more), text, words = REFUSED[case]
    file = tmp_path / "rows.csv"
    file.write_text(text, encoding="utf-8")
    finished, _ = importing("table", file, "--inputs", inputs, "--answer", answer, *more)
    refused(finished, *words)
    assert not (tmp_path / "out").exists()


def test_other_files_are_refused_with_one_sentence(importing, refused, tmp_path, monkeypatch):
    given = ("--inputs", "a,b", "--answer", "t")
    file = tmp_path / "rows.jsonl"
    for text, words in {
        '{"a": 1, "b": 2, "t": 3}\n{"a": 1,\n': ("line 2 is no JSON object",),
        '{"a": 1, "b": 2, "t": 3}\n{"a": 1, "t": 3}\n': ("line 2: column b has no value",),
        '{"a": 1, "b": [2], "t": 3}\n': ("line 1: column b holds [2]",),
        "[1]\n": ("line 1 is no JSON object",),
    }.items():
        file.write_text(text, encoding="utf-8")
        refused(importing("table", file, *given)[0], *words)
    refused(importing("table", tmp_path / "no.csv", *given)[0], "no.csv does not exist")
    (tmp_path / "latin.csv").write_bytes(b"a,b,t\n1,2,\xe9\n")
    refused(importing("table", tmp_path / "latin.csv", *given)[0], "line 2 is not UTF-8")
    refused(importing("table", file, "--answer", "t")[0], "--inputs or --sequence")
    refused(importing("table", file, *given, "--name", "a/b")[0], "--name")
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(InputError, match="pyarrow, which is not installed"):
        columns.read_columns(tmp_path / "rows.parquet", ["a"], None)
    monkeypatch.setattr(columns, "MOST_ROWS", 3)
    write_table(tmp_path / "long.csv", ["a", "b", "t"], [[i, i, i] for i in range(4)])
    few = TableSettings(inputs=("a", "b"), answer="t")
    with pytest.raises(InputError, match="more than"):
        import_source("table", [tmp_path / "long.csv"], few)


def test_parquet_is_read_where_pyarrow_is_there(importing, tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    header, rows = table_rows()
    arrays = dict(zip(header, map(list, zip(*rows, strict=True)), strict=True))
    parquet.write_table(pyarrow.table(arrays), tmp_path / "cities.parquet")
    write_table(tmp_path / "cities.csv", header, rows)
    one, two = (
        read(importing("table", tmp_path / f"cities.{kind}", *BRIDGES, "--name", kind)[1])[:2]
        for kind in ("parquet", "csv")
    )
    assert one == two


def test_a_dry_run_says_all_and_writes_nothing(importing, tmp_path):
    header, rows = table_rows()
    file = write_table(tmp_path / "cities.csv", header, rows)
    dry, _ = importing("table", file, *BRIDGES, "--dry_run")
    assert dry.returncode == 0 and not (tmp_path / "out").exists()
    real, folder = importing("table", file, *BRIDGES)
    assert dry.stdout.replace("not written (dry run)", "written") == real.stdout
    count = len(json.loads((folder / "train.json").read_text(encoding="utf-8")))
    assert f"train {count}" in " ".join(real.stdout.split())


def test_an_empty_test_set_beside_bridges_is_read(importing, tmp_path):
    file = write_table(tmp_path / "cities.csv", *table_rows())
    finished, folder = importing("table", file, *BRIDGES, "--cot", "--test_ratio", 0)
    train, test, _ = read(folder)
    assert len(train) == 90 and not test and "there are no test items" in finished.stdout


def test_every_importer_has_its_module_and_flags(run_command):
    for name in IMPORTERS:
        finished = run_command("script/import_dataset.py", name, "--help")
        assert finished.returncode == 0 and "--dry_run" in finished.stdout


def test_names_that_may_be_the_same_thing_are_told(run_command, tmp_path):
    """Counted by hand: one name in another Unicode form, one in capitals, one with more space."""
    names = ["\u00c5rhus", "A\u030arhus", "S\u00e3o Paulo", "S\u00e3o  paulo", "Oslo", "Bergen"]
    rows = "".join(f"{name},{n % 2},{n % 3}\n" for n, name in enumerate(names))
    (tmp_path / "rows.csv").write_text(f"city,weight,price\n{rows}", encoding="utf-8")
    finished = run_command(
        *("script/import_dataset.py", "table", tmp_path / "rows.csv", "--dry_run"),
        *("--inputs", "city,weight", "--answer", "price"),
    )
    assert finished.returncode == 0, finished.stderr
    (note,) = [
        line for line in finished.stdout.splitlines() if "taken for different things" in line
    ]
    told = f"{names[0]!r} and {names[1]!r}; {names[2]!r} and {names[3]!r}"
    assert note.endswith(told) and "Oslo" not in note
