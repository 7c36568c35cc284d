"""script/export_prompts.py: sentences, names, and shots inside or outside coverage."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from coverage_principle.coverage import ShotDrawer, dataset_coverage, make_prompts, shots_cutoff
from coverage_principle.data import (
    PromptSettings,
    Template,
    load_dataset,
    token_names,
)
from coverage_principle.errors import InputError
from coverage_principle.tasks import TASKS, TaskGraph
from tests.oracles.coverage_bruteforce import all_slot_sets, cutoffs, part, rest

COMMAND = "script/export_prompts.py"
TEMPLATE = "The child of {x1} and {x2} married {x3}. Their child is {t}."
TWOHOP = TASKS["twohop"]


@pytest.fixture
def export(run_command, small_dataset, tmp_path):
    """Run the command on the small data set: ``(finished, lines, about)``."""

    def run(*flags, template=TEMPLATE, data=small_dataset):
        output = tmp_path / "out" / "p.jsonl"
        output.unlink(missing_ok=True)
        words = ("--template", template, "--output", output, *flags)
        finished = run_command(COMMAND, data, *words)
        if not output.exists():
            return finished, None, None
        lines = [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]
        return finished, lines, json.loads((tmp_path / "out/p.about.json").read_text())

    return run


def records(folder, name="test.json"):
    return json.loads((folder / name).read_text(encoding="utf-8"))


def tokens(text):
    return re.findall("<[^<>]*>", text)


# ------------------------------------------------------------------------------------ the sentences


def test_the_prompt_ends_before_the_answer_and_a_space_goes_to_the_completion():
    template = Template.parse("{x2} of {x1}, {x3}: it is {t}, {t}!", TWOHOP)
    filled = template.fill({"x1": "A", "x2": "B", "x3": "C", "t": "D"})
    assert filled == ("B of A, C: it is", " D, D!")


def test_a_chain_of_thought_begins_at_the_first_intermediate_value_or_where_it_is_told_to():
    names = {"x1": "A", "x2": "B", "x3": "C", "b": "D", "t": "E"}
    template = Template.parse("{{{x1}{x2}{x3}}} gives {b}, {x1}, {t}", TWOHOP, cot=True)
    assert template.fill(names) == ("{ABC} gives", " D, A, E")
    template = Template.parse("{x1}{x2}{x3}? {}First {b}, so {t}", TWOHOP, cot=True)
    assert template.fill(names) == ("ABC?", " First D, so E")


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{x1} {x2} {x4} {t}", ["names {x4}", "slots are {x1}, {x2}, {x3}", "answer is {t}"]),
        ("{x1} {x2} {0} {t}", ["names {0}"]),
        ("{x1} {x2} {t}", ["lacks {x3} before the completion"]),
        ("{x1} {t} {x2} {x3}", ["lacks {x2}, {x3} before the completion"]),
        ("{x1} {} {x2} {x3} {t}", ["lacks {x2}, {x3} before the completion"]),
        ("{x1} {x2} {x3}", ["lacks {t}, which the completion must name"]),
        ("{x1} {x2} {x3} {b} {t}", ["names {b}", "--cot"]),
        ("{x1} {x2} {x3} {t} {}", ["{} must stand once, before {t}"]),
        ("{x1} {x2} {x3} {t:>9}", ["{t} must hold a name and nothing else"]),
        ("{x1} {x2} {x3} {t!r}", ["{t} must hold a name and nothing else"]),
        ("{x1} {x2} {x3} {t", ["expected '}'", "a brace as text is {{ or }}"]),
        ("{x1} {x2} {x3} } {t}", ["Single '}'"]),
    ],
)
def test_a_template_that_does_not_fit_the_task_is_refused(export, refused, template, words):
    finished, lines, _ = export(template=template)
    refused(finished, "--template", *words)
    assert lines is None


def test_a_chain_of_thought_needs_all_intermediate_values(export, refused, small_dataset):
    finished, *_ = export("--cot")
    refused(finished, "--template lacks {b}, which the completion must name")
    one = TaskGraph.from_dict(
        {
            "name": "one",
            "inputs": ["a", "c"],
            "functions": [{"name": "f", "output": "t", "sources": ["a", "c"]}],
        }
    )
    dataset = replace(load_dataset(small_dataset), graph=one)
    with pytest.raises(InputError, match="`cot` writes intermediate values, but task one has none"):
        make_prompts(dataset, PromptSettings("{a} {c} {t}", cot=True))


# ------------------------------------------------------------------------------------ whole prompts


def test_every_item_becomes_a_line_in_the_words_of_its_tokens(export, small_dataset):
    finished, lines, about = export()
    assert finished.returncode == 0, finished.stderr
    assert [line["id"] for line in lines] == list(range(1, 301))
    names = about["names"]
    assert len(set(names.values())) == len(names) == 10
    assert all(re.fullmatch("[A-Z][a-z]+", name) for name in names.values())
    for line, record in zip(lines, records(small_dataset), strict=True):
        *slots, answer, _ = tokens(record["target_text"])
        a, b, c, d = (names[token] for token in (*slots, answer))
        assert line == {
            "id": line["id"],
            "type": record["type"],
            "k_cutoff": None,
            "prompt": f"The child of {a} and {b} married {c}. Their child is",
            "completion": f" {d}.",
            "tokens": dict(zip(("x1", "x2", "x3", "t"), (*slots, answer), strict=True)),
            "answer": answer,
            "answer_name": d,
        }
    assert about["settings"]["template"] == TEMPLATE and "train.json" in about["sha256"]
    assert re.search(r"^type_3 \(f2 unseen\) +60$", finished.stdout, re.MULTILINE)


def test_types_and_numbers_of_items_can_be_chosen(export, refused):
    _, every, _ = export("--shots", 5)
    _, lines, _ = export("--shots", 5, "--test_types", "type_2", "type_0", "--max_items", 7)
    assert [line["type"] for line in lines] == ["type_0"] * 7 + ["type_2"] * 7
    assert all(line in every for line in lines)  # shots depend on the item, not on the others
    refused(export("--test_types", "type_9")[0], "--test_types type_9", "type_0, type_1")
    refused(export("--split", "valid")[0], "--split valid", "no compositions in valid.json")
    refused(export("--split", "train", "--test_types", "type_0")[0], "--test_types")
    _, lines, _ = export("--split", "train", "--shots", 199, "--max_items", 20)
    assert len(lines) == 20
    for line in lines:  # all the others
        assert {*line["shots"], line["id"]} == set(range(1, 201))
        assert line["type"] is line["k_cutoff"] is None


def test_shots_are_training_items_in_the_same_words(export, small_dataset):
    _, lines, about = export("--shots", 4, "--names", "tokens")
    train = records(small_dataset, "train.json")
    for line in lines:
        assert len(set(line["shots"])) == 4
        sentences = line["prompt"].split("\n")
        for number, sentence in zip(line["shots"], sentences, strict=False):
            a, b, c, d, _ = (name[1:-1] for name in tokens(train[number - 1]["target_text"]))
            assert sentence == f"The child of {a} and {b} married {c}. Their child is {d}."
    assert about["names"]["<t_3>"] == "t_3"
    orders = {tuple(line["shots"]) for line in lines}
    assert len(orders) > 200


def test_chat_messages_say_the_same(export):
    template = TEMPLATE.replace("Their", "{}Their")
    _, plain, _ = export("--shots", 3, template=template)
    _, chat, _ = export("--shots", 3, "--chat", template=template)
    for one, other in zip(plain, chat, strict=True):
        messages = other.pop("messages")
        assert [message["role"] for message in messages] == ["user", "assistant"] * 4
        said = [message["content"] for message in messages]
        turns = [f"{asked} {told}" for asked, told in zip(said[::2], said[1::2], strict=True)]
        assert "\n".join(turns) == one.pop("prompt") + one.pop("completion")
        assert all(told.startswith("Their child is ") for told in said[1::2])
        assert one == other


def test_thoughts_are_those_of_the_tables_or_of_the_targets(export, run_command, small_dataset):
    """The same world with chains of thought in its targets gives the same prompts."""
    flags = ("--cot", "--names", "tokens", "--shots", 2)
    template = "{x1} {x2} {x3}: {b} {t}"
    _, lines, _ = export(*flags, template=template)
    words = ("--num_tokens", 10, "--max_train_data_num", 200, "--test_size_for_type", 60, "--cot")
    folder = small_dataset.parent / "thoughts"
    made = run_command("dataset_generation/twohop.py", *words, "--output_dir", folder)
    assert made.returncode == 0, made.stderr
    thoughtful = folder / "twohop.10.200.diff-f12.cot"
    assert lines == export(*flags, template=template, data=thoughtful)[1]
    for line, record in zip(lines, records(thoughtful), strict=True):
        bridge, answer = tokens(record["target_text"])[3:5]
        assert line["completion"] == f" {bridge[1:-1]} {answer[1:-1]}"
        assert line["tokens"]["b"] == bridge


def test_a_thought_that_no_table_lists_is_refused(export, refused, small_dataset, tmp_path):
    folder = tmp_path / small_dataset.name
    shutil.copytree(small_dataset, folder)
    used = {tuple(tokens(record["input_text"])[:2]) for record in records(folder, "train.json")}
    facts = records(folder, "atomic_facts_f1.json")
    seen = [fact for fact in facts if tuple(tokens(fact["input_text"])) in used]
    (folder / "atomic_facts_f1.json").write_text(json.dumps(seen))
    finished, *_ = export("--cot", template="{x1} {x2} {x3}: {b} {t}", data=folder)
    refused(finished, "the tables do not list b of <t_", "--cot needs it")


def test_lines_carry_the_k_cutoffs_of_the_annotations(
    export, refused, run_command, small_dataset, tmp_path
):
    folder = tmp_path / small_dataset.name
    shutil.copytree(small_dataset, folder)
    words = ("--data_dir", folder, "--k_sweep", "--output_dir", tmp_path)
    assert run_command("determine_coverage.py", *words).returncode == 0
    _, lines, _ = export(data=folder)
    annotated = records(folder, "test_annotated.json")
    assert [line["k_cutoff"] for line in lines] == [record["k_cutoff"] for record in annotated]
    assert any(line["k_cutoff"] for line in lines)
    (folder / "train.json").write_text((folder / "train.json").read_text() + " ")
    refused(export(data=folder)[0], "out of date")


def test_the_same_command_writes_the_same_bytes_and_another_seed_others(export, tmp_path):
    def content(*flags):
        export("--shots", 6, "--inside", 1, *flags)
        return [(tmp_path / "out" / f"p.{end}").read_bytes() for end in ("jsonl", "about.json")]

    first = content()
    assert first == content() and first[0] != content("--seed", 7)[0]


def test_prompts_lie_in_the_data_sets_folder_by_default(run_command, small_dataset, tmp_path):
    folder = tmp_path / small_dataset.name
    shutil.copytree(small_dataset, folder)
    assert run_command(COMMAND, folder, "--template", TEMPLATE).returncode == 0
    assert len((folder / "prompts.jsonl").read_text().splitlines()) == 300
    assert load_dataset(folder).name == folder.name


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--inside", 2, "--shots", 4], ["--inside 2 takes 5 --shots or more, not 4"]),
        (["--inside", 1], ["--inside 1 takes 3 --shots or more, not 0"]),
        (["--outside"], ["--outside", "--shots"]),
        (["--fragments", "1,2"], ["--fragments", "--shots"]),
        (["--fragments", "1,4", "--shots", 3], ["--fragments '1,4'", "x1, x2, x3"]),
        (["--inside", 1, "--outside", "--shots", 9], ["exclude each other"]),
        (["--shots", 200], ["--shots 200 is too many", "200 compositions"]),
        (["--output", "train.json"], ["--output train.json must end in .jsonl"]),
        (
            ["--shots", 150, "--inside", 70],
            ["--inside 70: no such shots", "300 items of test.json"],
        ),
    ],
)
def test_what_cannot_be_asked_for_is_refused(export, refused, flags, words):
    refused(export(*flags)[0], *words)


# -------------------------------------------------------------------------------------------- names

ALPHABETS = {"person": ["<ann>", "<bob>", "<a&lt;b>"], "place": ["<new york>", "<Q42>"]}


def written(tmp_path, content):
    if isinstance(content, str):
        path = tmp_path / "names.txt"
        path.write_text(content, encoding="utf-8")
    else:
        path = tmp_path / "names.json"
        path.write_text(json.dumps(content), encoding="utf-8")
    return str(path)


def test_names_may_be_told_for_each_token_with_or_without_brackets(tmp_path):
    told = {"<ann>": "Anna", "bob": " Bob ", "a<b": "Arb", "new york": "Nuuk", "<Q42>": "Anna"}
    names = token_names(ALPHABETS, written(tmp_path, {**told, "Q43": "not needed"}), 1)
    assert list(names) == ["<ann>", "<bob>", "<a&lt;b>", "<new york>", "<Q42>"]
    assert list(names.values()) == ["Anna", "Bob", "Arb", "Nuuk", "Anna"]
    own = token_names(ALPHABETS, "tokens", 1)
    assert list(own.values()) == ["ann", "bob", "a<b", "new york", "Q42"]


@pytest.mark.parametrize("form", ["text", "list"])
def test_names_are_drawn_from_a_list_without_replacement(tmp_path, form):
    pool = [f"Näme {i}" for i in range(9)]
    given = written(tmp_path, "\n".join([*pool, "", pool[0]]) if form == "text" else pool)
    drawn = {tuple(token_names(ALPHABETS, given, seed).values()) for seed in range(20)}
    assert len(drawn) == 20 and all(len(set(names)) == 5 for names in drawn)
    assert set().union(*drawn) == set(pool)
    assert token_names(ALPHABETS, given, 3) == token_names(ALPHABETS, given, 3)


def test_each_alphabet_may_have_a_list_of_its_own(tmp_path):
    lists = {"place": ["Oslo", "Rome"], "person": ["A", "B", "C", "D"]}
    names = token_names(ALPHABETS, written(tmp_path, lists), 0)
    assert {names["<new york>"], names["<Q42>"]} == {"Oslo", "Rome"}
    assert len({names[t] for t in ALPHABETS["person"]} & set("ABCD")) == 3


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"<ann>": "A"}, "lacks the name of <bob>"),
        ({"ann": "A", "bob": 3}, "gives 3, no text, as the name of <bob>"),
        ({"ann": "A", "bob": "A", "a<b": "C"}, "calls both <ann> and <bob> 'A'"),
        (["A", "B", "C", "C"], "has 3 different names, too few for the 5 tokens of person, place"),
        ("A\n\nB\n", "has 2 different names, too few for the 5 tokens"),
        ({"place": ["P", "Q"]}, "has no list for the alphabet person"),
        ({"place": ["P"], "person": ["A", "B", "C"]}, "1 different names, .* 2 tokens of place"),
        (["A", None], "the name None is not text"),
        (5, "must hold a JSON object or a list"),
    ],
)
def test_names_that_do_not_fit_are_refused(tmp_path, content, words):
    with pytest.raises(InputError, match=words):
        token_names(ALPHABETS, written(tmp_path, content), 0)


def test_many_names_can_be_made_up():
    many = {"token": [f"<t_{i}>" for i in range(3000)]}
    names = token_names(many, None, 5)
    assert len(set(names.values())) == 3000 and names != token_names(many, None, 6)


def test_a_list_of_names_and_a_missing_file(export, refused, tmp_path):
    given = tmp_path / "names.txt"
    refused(export("--names", given)[0], str(given), "does not exist")
    given.write_text("\n".join("abcdefghij"))
    _, lines, _ = export("--names", given)
    assert {line["answer_name"] for line in lines} <= set("abcdefghij")


# ---------------------------------------------------------------------------------------- the shots


def random_set(rng, slots, size, count, answers):
    """``count`` distinct inputs of ``size`` tokens with random answers, in random order."""
    codes = rng.permutation(size**slots)[:count]
    inputs = np.stack(np.unravel_index(codes, (size,) * slots), axis=1).astype(np.int32)
    return inputs, rng.integers(0, answers, size=count).astype(np.int32)


def as_dict(inputs, answers):
    return dict(zip(map(tuple, inputs.tolist()), answers.tolist(), strict=True))


@pytest.mark.parametrize("seed", range(6))
def test_the_coverage_by_shots_is_that_of_the_definition(seed):
    rng = np.random.default_rng(seed)
    found = set()
    for _ in range(30):
        slots, size = [(2, 5), (3, 3), (3, 4), (4, 2)][rng.integers(4)]
        inputs, answers = random_set(rng, slots, size, 2 + rng.integers(12), 1 + rng.integers(3))
        item, answer = inputs[0], int(answers[0])
        shots = inputs[1:], answers[1:]
        sets = all_slot_sets(slots)
        sets = [sets[i] for i in rng.permutation(len(sets))[: rng.integers(1, len(sets) + 1)]]
        truth = cutoffs(as_dict(*shots), {tuple(item.tolist()): answer}, sets)
        assert shots_cutoff(*shots, item, answer, size, sets) == truth[tuple(item.tolist())]
        found.add(truth[tuple(item.tolist())])
    assert len(found) > 1


def test_the_coverage_by_shots_is_what_the_coverage_stage_finds(small_dataset):
    """The shots as the whole training set, the item as its one ``type_0`` test item."""
    dataset = load_dataset(small_dataset)
    settings = PromptSettings(TEMPLATE, shots=40, test_types=("type_0",), max_items=12)
    found = set()
    for choice in ({}, {"inside": 1}, {"inside": 2}, {"outside": True}):
        for line in make_prompts(dataset, replace(settings, **choice)).lines:
            item, rows = line["id"] - 1, np.array(line["shots"]) - 1
            tiny = replace(dataset, train=taken(dataset.train, rows))
            tiny = replace(tiny, test=taken(dataset.test, np.array([item])))
            assert dataset_coverage(tiny).cutoffs.tolist() == [line["shots_k_cutoff"]]
            found.add(line["shots_k_cutoff"])
    assert {0, 1, 2} <= found


def taken(split, rows):
    arrays = {name: value[rows] for name, value in vars(split).items() if hasattr(value, "shape")}
    return replace(split, **arrays, records=[split.records[i] for i in rows])


def by_hand(train, item, answer, k):
    """Whether 2k + 1 training items cover an item: one that it may become, and k agreements."""
    for positions in all_slot_sets(len(item)):
        context = rest(item, positions)
        for other, told in train.items():
            if other == item or told != answer or rest(other, positions) != context:
                continue
            behaviour = [
                {
                    rest(x, positions): y
                    for x, y in train.items()
                    if part(x, positions) == part(one, positions) and x != item
                }
                for one in (item, other)
            ]
            agreed = [c for c in behaviour[0] if behaviour[0][c] == behaviour[1].get(c)]
            if len(agreed) >= k:
                return True
    return False


def test_shots_inside_are_found_just_where_there_are_any():
    """With as few as possible; three of a small training set: all of them are tried as well."""
    rng, found = np.random.default_rng(0), []
    for number in range(60):
        k = 1 + number % 2
        inputs, answers = random_set(rng, 3, 3, 8 + 5 * k, 3)
        own = int(rng.integers(2))  # the item may be a training item itself
        train = as_dict(inputs[own:], answers[own:])
        item, answer = tuple(inputs[0].tolist()), int(answers[0])
        if not own:
            train[item] = answer
        given = inputs[own:], answers[own:], 3, all_slot_sets(3)
        drawer = ShotDrawer(*given, count=2 * k + 1, inside=k)
        drawn = drawer.draw(inputs[0], answer, rng)
        found.append(drawn is not None)
        assert found[-1] == by_hand(train, item, answer, k)
        if drawn:
            shots = as_dict(inputs[own:][drawn[0]], answers[own:][drawn[0]])
            assert len(shots) == 2 * k + 1 and item not in shots
            assert cutoffs(shots, {item: answer}, all_slot_sets(3))[item] == drawn[1] >= k
        elif k == 1:
            others = [pair for pair in train.items() if pair[0] != item]
            for three in combinations(others, 3):
                assert cutoffs(dict(three), {item: answer}, all_slot_sets(3))[item] == 0
    assert 15 < sum(found) < 45


def test_shots_outside_cover_nothing():
    rng, given_up = np.random.default_rng(1), 0
    for count in [4, 8, 15] * 8:
        inputs, answers = random_set(rng, 3, 3, 17, 2)
        train, item, answer = as_dict(inputs[1:], answers[1:]), inputs[0], int(answers[0])
        given = inputs[1:], answers[1:], 3, all_slot_sets(3)
        drawer = ShotDrawer(*given, count=count, outside=True)
        drawn = drawer.draw(item, answer, rng)
        key = tuple(item.tolist())
        if drawn is None:
            given_up += 1
            assert count == 15  # almost all of them: each set but a few may cover the item
            assert cutoffs(train, {key: answer}, all_slot_sets(3))[key] > 0
            continue
        shots = as_dict(inputs[1:][drawn[0]], answers[1:][drawn[0]])
        assert len(shots) == count and drawn[1] == 0
        assert cutoffs(shots, {key: answer}, all_slot_sets(3))[key] == 0
    assert 0 < given_up < 8


def test_items_without_shots_inside_are_left_out_and_counted(export):
    finished, lines, about = export("--shots", 12, "--inside", 3)
    assert 0 < len(lines) == 300 - sum(about["left_out"].values()) < 300
    assert all(line["shots_k_cutoff"] >= 3 for line in lines)
    for kind, count in about["left_out"].items():
        made = sum(line["type"] == kind for line in lines)
        assert made + count == 60
        assert re.search(rf"^{kind} \(.*\) +{made} +{made} +{count}$", finished.stdout, re.M)
    _, lines, about = export("--shots", 12, "--outside")
    assert len(lines) == 300 and not about["left_out"]
    assert all(line["shots_k_cutoff"] == 0 for line in lines)


def test_coverage_by_shots_may_be_that_of_some_fragments(export, small_dataset):
    _, lines, _ = export("--shots", 3, "--inside", 1, "--fragments", "x1,x2")
    train, found = records(small_dataset, "train.json"), 0
    for line in lines:
        shots = {}
        for number in line["shots"]:
            *item, answer, _ = tokens(train[number - 1]["target_text"])
            shots[tuple(item)] = answer
        item = tuple(line["tokens"][slot] for slot in ("x1", "x2", "x3"))
        assert cutoffs(shots, {item: line["answer"]}, [(0, 1)])[item] == line["shots_k_cutoff"] == 1
        found += 1
    assert found > 20
