"""Reading data sets: the published layout is accepted, malformed files are named and refused."""

import json
import shutil

import numpy as np
import pytest

from coverage_principle.data import load_dataset, write_arrays, write_dataset, write_text
from coverage_principle.errors import InputError


@pytest.fixture
def folder(small_dataset, tmp_path):
    copy = tmp_path / small_dataset.name
    shutil.copytree(small_dataset, copy)
    return copy


def edit(folder, file, change):
    content = json.loads((folder / file).read_text())
    change(content)
    (folder / file).write_text(json.dumps(content))


def test_a_data_set_without_metadata_is_read_by_its_name(folder):
    (folder / "metadata.json").unlink()
    assert load_dataset(folder).graph.name == "twohop"
    nameless = folder.rename(folder.with_name("mine"))
    with pytest.raises(InputError, match="task graph is unknown"):
        load_dataset(nameless)


def test_a_data_set_without_metadata_may_have_the_name_of_its_generator(run_command, tmp_path):
    size = ("--num_tokens", 4, "--max_train_data_num", 20, "--test_size_for_type", 9)
    run_command("dataset_generation/parallel-twohop.py", *size, "--output_dir", tmp_path)
    made = next(tmp_path.iterdir())
    (made / "metadata.json").unlink()
    renamed = made.rename(tmp_path / made.name.replace("parallel2hop", "parallel-twohop"))
    assert load_dataset(renamed).graph.name == "parallel2hop"


def set_record(index, **values):
    return lambda records: records[index].update(values)


@pytest.mark.parametrize(
    ("file", "change", "words"),
    [
        (
            "train.json",
            set_record(4, input_text="<t_99><t_0><t_0>"),
            r"train\.json record 5: token <t_99>",
        ),
        ("train.json", set_record(4, target_text="<t_0><t_0><t_0><t_1></b>"), "record 5"),
        ("train.json", lambda r: r[2].pop("input_text"), "record 3.*input_text"),
        ("train.json", set_record(0, input_text="<t_0><t_0>"), "record 1.*2 tokens.*3 input"),
        ("train.json", lambda r: r.append(dict(r[0])), "records 1 and 201.*there twice"),
        (
            "train.json",
            lambda r: r.append(
                {
                    **r[0],
                    "target_text": r[0]["input_text"]
                    + ("<t_1>" if not r[0]["target_text"].endswith("<t_1></a>") else "<t_2>")
                    + "</a>",
                }
            ),
            "records 1 and 201.*two different targets",
        ),
        ("train.json", lambda r: r.clear(), "no records"),
        ("train.json", set_record(1, input_text=7), "record 2"),
        ("train.json", set_record(1, input_text="<t_0></a><t_0>"), "record 2.*only hold <t_0> to"),
        ("test.json", lambda r: r[3].pop("type"), r"test\.json record 4.*type"),
        ("test.json", lambda r: r.append(dict(r[-1])), "there twice with type type_3"),
        ("test.json", set_record(1, target_text="<t_0><t_0><t_0></a>"), "record 2"),
        ("vocab.json", lambda v: v.remove("</a>"), "lacks the end token"),
        ("vocab.json", lambda v: v.reverse(), "must begin with <t_0>.*token 1 is </a>"),
        ("vocab.json", lambda v: v.insert(2, "<t_1>"), "in order, but token 3 is <t_1>"),
        ("vocab.json", lambda v: v.append("</a>"), "lists a token twice"),
        ("metadata.json", lambda m: m.update(task=5), r"metadata\.json: 'task' must be"),
        ("metadata.json", lambda m: m.update(arguments=None), "'arguments'.*found NoneType"),
        ("metadata.json", lambda m: m["task"].pop("inputs"), r"metadata\.json: a task graph needs"),
    ],
)
def test_a_malformed_record_is_named(folder, file, change, words):
    edit(folder, file, change)
    with pytest.raises(InputError, match=words):
        load_dataset(folder)


@pytest.mark.parametrize("text", ["{", "[1,", "\x00", '{"a": 1}'])
def test_a_malformed_file_is_named(folder, text):
    (folder / "train.json").write_text(text)
    with pytest.raises(InputError, match=r"train\.json"):
        load_dataset(folder)


def test_a_missing_file_is_named(folder):
    (folder / "train.json").unlink()
    with pytest.raises(InputError, match=r"train\.json does not exist"):
        load_dataset(folder)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"junk", "is not a readable .npz file"),
        (b"PK\x03\x04junk", "is not a readable .npz file"),
        (b"", "is not a readable .npz file"),
        ({"other": np.zeros((10, 10), dtype=np.int32)}, "has no array 'values'"),
        ({"values": np.zeros((9, 10), dtype=np.int32)}, r"\(10, 10\).*found shape \(9, 10\)"),
        ({"values": np.full((10, 10), 10, dtype=np.int32)}, "integers from -1 to 9"),
    ],
)
def test_a_malformed_array_of_facts_is_named(folder, content, words):
    file = folder / "atomic_facts_f1.npz"
    if isinstance(content, bytes):
        file.write_bytes(content)
    else:
        np.savez(file, **content)
    with pytest.raises(InputError, match=rf"atomic_facts_f1\.npz .*{words}"):
        load_dataset(folder).tables()


def test_missing_tables_matter_only_when_asked_for(folder):
    (folder / "atomic_facts_f2.json").unlink()
    dataset = load_dataset(folder)
    with pytest.raises(InputError, match=r"atomic_facts_f2\.json does not exist"):
        dataset.tables()


def test_a_partial_table_marks_what_is_unknown(folder):
    edit(folder, "atomic_facts_f1.json", lambda facts: facts.pop(0))
    table = load_dataset(folder).tables()[0]
    assert table[0, 0] == -1
    assert (table.reshape(-1)[1:] >= 0).all()


def test_a_contradiction_between_train_and_test_is_refused(folder):
    def contradict(records):
        record = next(r for r in records if r["type"] == "train_inferred")
        prompt = record["input_text"]
        other = "<t_0></a>" if not record["target_text"].endswith("<t_0></a>") else "<t_1></a>"
        record["target_text"] = prompt + other

    edit(folder, "test.json", contradict)
    with pytest.raises(InputError, match="has another target than in"):
        load_dataset(folder)


def test_a_leak_is_a_warning_with_its_count(folder, caplog):
    train = json.loads((folder / "train.json").read_text())
    edit(folder, "test.json", lambda r: r.extend({**t, "type": "type_0"} for t in train[:3]))
    load_dataset(folder)
    assert "3 of 243 items that should be unseen" in caplog.text


@pytest.mark.parametrize("name", ["a.npz", "a.safetensors"])
def test_arrays_are_written_whole_or_not_at_all(tmp_path, name):
    from safetensors.numpy import load_file

    file = tmp_path / "folder" / name
    arrays = {"x": np.arange(6, dtype=np.float32).reshape(2, 3), "y": np.array([1, 2])[::-1]}
    write_arrays(file, arrays)
    read = load_file(file) if file.suffix == ".safetensors" else dict(np.load(file))
    assert sorted(read) == ["x", "y"]
    for key, values in arrays.items():
        assert np.array_equal(read[key], values)
        assert read[key].dtype == values.dtype
    before = file.read_bytes()

    class Broken:
        def __array__(self, *_, **__):
            raise OSError("no such array")

    with pytest.raises(OSError, match="no such array"):
        write_arrays(file, {"x": Broken()})
    assert file.read_bytes() == before
    assert file.stat().st_mode & 0o777 == 0o644
    assert [p.name for p in file.parent.iterdir()] == [name]


def test_a_text_that_cannot_be_written_leaves_the_old_one(tmp_path):
    file = tmp_path / "a.txt"
    write_text(file, "old")
    with pytest.raises(UnicodeEncodeError):
        write_text(file, "new\udc00")
    assert file.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_failed_write_leaves_the_old_folder_and_no_traces(tmp_path):
    target = tmp_path / "set"
    write_dataset(target, {"a.json": "1"}, {}, overwrite=False)

    def broken():
        yield b"2"
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_dataset(target, {"a.json": broken()}, {}, overwrite=True)
    assert (target / "a.json").read_text() == "1"
    assert [p.name for p in tmp_path.iterdir()] == ["set"]


def test_a_changed_card_is_not_a_changed_data_set(tmp_path):
    target = tmp_path / "set"
    assert write_dataset(target, {"a.json": "1"}, {}, overwrite=False, extras={"c.md": "old"})
    assert not write_dataset(target, {"a.json": "1"}, {}, overwrite=False, extras={"c.md": "new"})
    assert (target / "c.md").read_text() == "old"
