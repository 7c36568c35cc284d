"""Token ids: whatever way they are found, they are those that the tokenizer itself finds."""

from __future__ import annotations

import json
import random
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from coverage_principle.data import FormatSettings, WorldSettings, generate_world, load_dataset
from coverage_principle.tasks import TASKS
from simpletransformers.errors import InputError
from simpletransformers.seq2seq import Seq2SeqModel
from simpletransformers.seq2seq.encoding import NO_LOSS, EncodedPairs, as_records, encode_pairs
from simpletransformers.seq2seq.evaluation import group_items
from simpletransformers.seq2seq.tokenizer import build_tokenizer, encode, whole_tokens
from simpletransformers.token_rows import Labels, PairBlock, TokenRows
from tests.open_worlds import both, write

TOKENS = [*(f"<t_{i}>" for i in range(9)), "<new york>", "<a&lt;b>", "</b>", "</a>"]
END = len(TOKENS) - 1


def by_the_library(records, tokenizer, *, loss_on_end: bool = False) -> EncodedPairs:
    """The oracle: each text through the tokenizer's own call, each row by itself."""
    prompts, targets = (
        tokenizer([record[key] for record in records], add_special_tokens=False)["input_ids"]
        for key in ("input_text", "target_text")
    )
    width = max(map(len, targets))
    ids = torch.tensor([[*t, *[tokenizer.pad_token_id] * (width - len(t))] for t in targets])
    begin, stop = (torch.tensor([len(one) for one in many]) for many in (prompts, targets))
    stop = stop - 1
    position = torch.arange(width)
    carries = (position >= begin[:, None]) & (position < (stop + int(loss_on_end))[:, None])
    predicted = torch.nonzero(carries.any(0)).flatten()
    labels = torch.where(carries, ids, NO_LOSS)[:, predicted]
    columns = tuple((predicted - 1).tolist())
    table = torch.cat([ids[:, : columns[-1] + 1], labels], dim=1)
    answer = torch.searchsorted(predicted, stop - 1)
    return EncodedPairs(table, columns[-1] + 1, columns, answer, int((stop - begin).max()))


def assert_same(found: EncodedPairs, wanted: EncodedPairs) -> None:
    assert found.table.dtype == torch.int32 and torch.equal(found.table.long(), wanted.table)
    assert torch.equal(found.answer, wanted.answer)
    for name in ("length", "columns", "new_tokens"):
        assert getattr(found, name) == getattr(wanted, name)
    inputs, labels = found.split(found.table)
    assert inputs.dtype == labels.dtype == torch.int64
    assert torch.equal(torch.cat([inputs, labels], 1), wanted.table)
    assert torch.equal(found.loss_tokens, (wanted.table[:, wanted.length :] != NO_LOSS).sum(1))
    assert found.digest() == sha256(wanted.table.numpy().tobytes()).hexdigest()


def random_rows(seed: int, *, shapes: int = 3, size: int = 40) -> TokenRows:
    """Blocks of different shapes whose pairs lie between each other, with alphabets."""
    rng = np.random.default_rng(seed)
    shape_of = rng.integers(shapes, size=size)
    blocks = [PairBlock(np.zeros((0, 2), np.int32), np.zeros((0, 1), np.int32), range(0))]
    for number in range(shapes):
        places = np.flatnonzero(shape_of == number)
        width, rest = int(rng.integers(1, 4)), int(rng.integers(1, 4))
        first = tuple(rng.integers(6, size=width).tolist()) if number else ()
        inputs = rng.integers(5, size=(len(places), width)).astype(np.int32)
        targets = rng.integers(END, size=(len(places), rest)).astype(np.int32)
        blocks.append(PairBlock(inputs, targets, places, first))
    kinds = Labels.of([None if i % 7 == 0 else f"type_{i % 3}" for i in range(size)])
    return TokenRows(TOKENS, "</a>", blocks, {"type": kinds})


@pytest.mark.parametrize("loss_on_end", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_arrays_and_texts_are_encoded_as_the_library_does(seed, loss_on_end):
    rows, tokenizer = random_rows(seed), build_tokenizer(TOKENS, "</a>")
    records = list(rows.records())
    wanted = by_the_library(records, tokenizer, loss_on_end=loss_on_end)
    for given in (rows, records):
        assert_same(encode_pairs(given, tokenizer, loss_on_end=loss_on_end), wanted)


FORMS = ({}, {"cot": True}, {"fake_bridge": True}, {"include_atomic": True, "cot": True})


@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize("task", TASKS)
def test_items_of_every_task_are_encoded_as_the_library_does(task, form, tmp_path):
    graph = TASKS[task]
    one = len({alphabet for alphabet in graph.alphabets_of(graph.nodes)}) == 1
    small = {"num_tokens": 6, "max_train_data_num": 50, "test_size_for_type": 5}
    world, written = WorldSettings(**small, same_function=True), FormatSettings(**form)
    try:
        written.check_task(graph, world)
        dataset = write(generate_world(graph, world), tmp_path / f"{task}.6.50", **form)
    except InputError:
        assert "include_atomic" in form or not one
        return
    assert isinstance(as_records(dataset.train.all_records), TokenRows)
    assert_items_are_encoded(dataset)


@pytest.mark.parametrize("seed", range(0, 200, 8))
def test_items_of_any_world_are_encoded_as_the_library_does(seed, tmp_path):
    """Partial tables over several alphabets, single facts of any length, wrong answers."""
    assert_items_are_encoded(write(both(seed)[1], tmp_path / "world", cot=seed % 16 == 0))


def assert_items_are_encoded(dataset) -> None:
    tokenizer = build_tokenizer(dataset.codec.vocabulary, "</a>")
    for split in dataset.splits.values():
        records = list(split.all_records)
        given = as_records(split.all_records, ("type",))
        if records:
            assert_same(encode_pairs(given, tokenizer), by_the_library(records, tokenizer))
            found, wanted = (group_items(one, ("type",)) for one in (given, records))
            assert list(found) == list(wanted)
            assert all(np.array_equal(found[name], wanted[name]) for name in wanted)


def test_training_on_arrays_is_training_on_texts(small_dataset, tmp_path):
    """The same numbers, files and answers; a kept state goes on with either."""
    dataset, sizes = load_dataset(small_dataset), {"n_layer": 1, "n_head": 2, "n_embd": 16}
    args = {
        **sizes,
        "max_steps": 6,
        "logging_steps": 2,
        "scheduler": "constant_schedule",
        "train_batch_size": 32,
    }
    args |= {"evaluate_during_training": True, "evaluate_during_training_steps": 3}
    written = []
    for name, kind in (("arrays", lambda records: records), ("texts", list)):
        options = {"new_tokens": dataset.codec.vocabulary, "init_weights": True, "device": "cpu"}
        model = Seq2SeqModel("gpt2", "gpt2", args=args, **options)
        data = kind(dataset.train.all_records), kind(dataset.test.all_records)
        model.train_model(*data, tmp_path / name)
        answers = model.predict([record["input_text"] for record in dataset.test.records])
        events = (tmp_path / name / "metrics.jsonl").read_text().splitlines()
        events = [{**json.loads(line), "elapsed_s": 0, "items_per_s": 0} for line in events]
        final = tmp_path / name / "final_checkpoint"
        files = {file.name: file.read_bytes() for file in sorted(final.iterdir())}
        written.append((answers, events, files, model.eval_model(data[1])))
        again = {**args, "max_steps": 8, "resume": True}
        model = Seq2SeqModel("gpt2", "gpt2", args=again, **options)
        other = list if name == "arrays" else lambda records: records
        assert model.train_model(other(dataset.train.all_records), None, tmp_path / name).step == 8
    assert written[0] == written[1]


def test_a_block_that_follows_another_needs_no_list_of_places():
    inputs, targets = np.array([[0, 1], [2, 3]]), np.array([[4], [5]])
    rows = TokenRows(
        TOKENS,
        "</a>",
        [
            PairBlock(inputs, targets, range(2)),
            PairBlock(inputs[:1, :1], targets[:1], range(2, 3)),
        ],
    )
    texts = [record["target_text"] for record in rows.records()]
    assert texts == ["<t_0><t_1><t_4></a>", "<t_2><t_3><t_5></a>", "<t_0><t_4></a>"]
    tokenizer = build_tokenizer(TOKENS, "</a>")
    assert_same(encode_pairs(rows, tokenizer), by_the_library(list(rows.records()), tokenizer))


def test_a_tokenizer_with_other_ids_is_asked_for_its_own():
    rows = random_rows(3)
    other = build_tokenizer([*reversed(TOKENS[:-1]), "<more>", "</a>"], "</a>")
    assert_same(encode_pairs(rows, other), by_the_library(list(rows.records()), other))
    used = {t for r in rows.records() for t in r["target_text"].replace("><", ">\n<").split("\n")}
    lacking = [token for token in [*TOKENS, "<idle>"] if token in used]
    tokenizer = build_tokenizer(lacking, "</a>")  # of what is used all the same
    wider = TokenRows([*TOKENS, "<idle>"], rows.end, rows.blocks)
    assert_same(encode_pairs(wider, tokenizer), by_the_library(list(rows.records()), tokenizer))


def test_arrays_that_the_tokenizer_cannot_end_are_refused_as_their_texts_are():
    rows, tokenizer = random_rows(1), build_tokenizer(TOKENS, "</b>")
    sentences = []
    for given in (rows, list(rows.records())):
        with pytest.raises(InputError, match="end in </b>") as refusal:
            encode_pairs(given, tokenizer)
        sentences.append(str(refusal.value))
    assert sentences[0] == sentences[1]


def word_level(folder: Path, change) -> object:
    """Our tokenizer with its description changed."""
    build_tokenizer(TOKENS, "</a>").save_pretrained(folder)
    file = folder / "tokenizer.json"
    about = json.loads(file.read_text())
    change(about)
    file.write_text(json.dumps(about))
    return AutoTokenizer.from_pretrained(folder)


def _with_unknown(about: dict) -> None:
    about["model"]["unk_token"] = "<t_0>"


def _with_short_token(about: dict) -> None:
    about["added_tokens"].append({**about["added_tokens"][0], "id": 40, "content": "t_1"})


def _other_cut(about: dict) -> None:
    about["pre_tokenizer"]["pattern"]["Regex"] = "<t_[^<>]"


def _lower(about: dict) -> None:
    about["normalizer"] = {"type": "Replace", "pattern": {"String": "t_1"}, "content": "t_2"}


def _moved(about: dict) -> None:
    about["added_tokens"].append({**about["added_tokens"][0], "id": 40, "content": "<t_1>"})


@pytest.mark.parametrize(
    "change", [_with_unknown, _with_short_token, _other_cut, _lower, _moved, lambda _: None]
)
def test_texts_of_any_tokenizer_have_the_ids_that_it_finds(change, tmp_path):
    tokenizer, rng = word_level(tmp_path, change), random.Random(4)
    texts = ["".join(rng.choices(TOKENS, k=rng.randint(1, 6))) for _ in range(200)]
    texts += ["<t_1>", "<pad><t_1>"]
    for given in (texts, [*texts, ""], ["<t_3><t_4>"]):
        try:
            wanted = tokenizer(given, add_special_tokens=False)["input_ids"]
        except Exception:  # the tokenizers package raises bare Exception
            with pytest.raises(InputError):
                encode(tokenizer, given)
            continue
        ids, lengths = encode(tokenizer, given)
        assert ids.tolist() == [i for row in wanted for i in row] and ids.dtype == np.int32
        assert lengths.tolist() == list(map(len, wanted))


def test_only_what_is_one_token_everywhere_is_looked_up(tmp_path):
    known = whole_tokens(build_tokenizer([*TOKENS, "<x<y>"], "</a>"))
    assert known == {
        token: i for i, token in enumerate([*TOKENS, "<x<y>", "<pad>"]) if i != END + 1
    }
    for number, change in enumerate((_with_short_token, _lower)):
        assert whole_tokens(word_level(tmp_path / str(number), change)) == {}
    assert set(whole_tokens(word_level(tmp_path / "cut", _other_cut))) == {"</a>", "<pad>"}


@pytest.mark.parametrize("text", ["<t_1> <t_2>", "<t_1>x", "<t_99>", "<>", "<t_1", "><", "<<t_1>>"])
def test_texts_that_are_no_tokens_are_refused_by_name(text):
    for texts in ([text], ["<t_1>", text, "<t_2>"]):
        with pytest.raises(InputError, match="is not in the vocabulary of 14 tokens"):
            encode(build_tokenizer(TOKENS, "</a>"), texts)


@pytest.mark.parametrize("texts", [("", ""), ("", "</a>")])
def test_records_without_any_token_are_refused_by_number(texts):
    record = dict(zip(("input_text", "target_text"), texts, strict=True))
    with pytest.raises(InputError, match="record 1: target_text must"):
        encode_pairs([record], build_tokenizer(TOKENS, "</a>"))


def test_a_vocabulary_of_many_tokens_is_no_matter():
    tokens = [*(f"<t_{i}>" for i in range(50_000)), "</a>"]  # 20 s, were each looked for in all
    assert len(build_tokenizer(tokens, "</a>")) == len(tokens) + 1
    with pytest.raises(InputError, match="'<t_7>' more than once"):
        build_tokenizer([*tokens, "<t_7>", "<t_8>"], "</a>")


def test_groups_of_labels_are_those_of_records():
    rng = random.Random(2)
    values = [None, "all", "type_0", "type_1"], [None, 0, 3, 12, "3", True], [None, [1], {"a": 2}]
    keys = "type", "k_cutoff", "odd"
    records = [dict(zip(keys, map(rng.choice, values), strict=True)) for _ in range(300)]
    blank = PairBlock(np.zeros((300, 1), np.int32), np.zeros((300, 1), np.int32), range(300))
    labels = {key: Labels.of([record[key] for record in records]) for key in keys}
    rows = TokenRows(TOKENS, "</a>", [blank], labels)
    for group_by in ((), keys[:1], keys, ("nothing", "type"), ("k_cutoff", "none", "odd")):
        wanted = grouped_one_by_one(records, group_by)
        for given in (records, rows):
            found = group_items(given, group_by)
            assert list(found) == list(wanted)
            assert {name: own.tolist() for name, own in found.items()} == wanted
    assert group_items([], keys) == {}


@pytest.mark.parametrize("keys", [(), ("target_text", "type")])
def test_arrays_are_scored_in_the_groups_of_their_texts(small_dataset, keys):
    dataset = load_dataset(small_dataset)
    items = dataset.test.all_records[:30]
    args = {"n_layer": 1, "n_head": 2, "n_embd": 16, "group_by": keys}
    options = {"new_tokens": dataset.codec.vocabulary, "init_weights": True, "device": "cpu"}
    model = Seq2SeqModel("gpt2", "gpt2", args=args, **options)
    wanted = model.eval_model(list(items))
    assert "all" not in wanted and model.eval_model(items) == wanted


def grouped_one_by_one(records, group_by) -> dict[str, list[int]]:
    """The oracle: one record after the other."""
    first, *others = group_by or ["type"]
    main: dict[str, list[int]] = {}
    inner: dict[tuple, list[int]] = {}
    for i, record in enumerate(records):
        name = "all" if record.get(first) is None else str(record[first])
        main.setdefault(name, []).append(i)
        for key in others:
            if record.get(key) is not None:
                inner.setdefault((name, key, str(record[key])), []).append(i)
    groups = {name: main[name] for name in sorted(main)}
    for name, key, value in sorted(inner, key=lambda k: (k[0], k[1], k[2].zfill(12))):
        groups[f"{name}/{key}={value}"] = inner[name, key, value]
    return groups
