"""The door to files: one kind of refusal when they are read, whole or not at all when written."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coverage_principle.errors import InputError
from simpletransformers import files


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "not valid JSON"),
        (b"{", "not valid JSON"),
        (b"\xff\xfe[\x001\x00]\x00", "is not UTF-8 text"),
        (b"[" * 100_000 + b"]" * 100_000, "nested too deeply"),
        (b'{"a":' * 50_000 + b"1" + b"}" * 50_000, "nested too deeply"),
        (b"[" + b"9" * 5000 + b"]", "not valid JSON"),
        (b'{"a": 1, "b": 2, "a": 3}', "holds the key 'a' twice"),
        (b"[NaN]", "NaN is no JSON number"),
        (b"[1, -Infinity]", "-Infinity is no JSON number"),
        (b'["\\ud800"]', "half of a surrogate pair"),
        (b'{"\\uDFFF": 1}', "half of a surrogate pair"),
    ],
)
def test_what_json_parsers_raise_is_one_refusal_that_names_the_file(tmp_path, content, words):
    file = tmp_path / "a.json"
    file.write_bytes(content)
    with pytest.raises(InputError, match=rf"a\.json.*{words}"):
        files.read_json(file)


def test_files_that_are_no_files_are_refused(tmp_path):
    loop = tmp_path / "loop.json"
    loop.symlink_to(loop)
    for path, words in (
        (tmp_path, "Is a directory"),
        (tmp_path / "none.json", "does not exist"),
        (loop, "symbolic links"),
        (tmp_path / ("x" * 300), "too long"),
    ):
        with pytest.raises(InputError, match=words):
            files.read_json(path)


@pytest.mark.parametrize(
    ("content", "kind", "words"),
    [
        ("[1]", dict, "must be a JSON object, found a list"),
        ("{}", list, "must be a JSON list, found an object"),
        ("null", dict, "found null"),
        ("true", list, "found true or false"),
        ("2.5", list, "found a number"),
    ],
)
def test_another_kind_of_content_is_named(tmp_path, content, kind, words):
    file = tmp_path / "a.json"
    file.write_text(content)
    with pytest.raises(InputError, match=words):
        files.read_json(file, kind)


def test_a_byte_order_mark_and_other_line_ends_change_nothing(tmp_path):
    file, pair = tmp_path / "a.json", '{"a": [1, 2],\r\n "b": "\\ud83d\\ude00 ü"}\r\n'
    file.write_bytes(b"\xef\xbb\xbf" + pair.encode())
    assert files.read_json(file) == {"a": [1, 2], "b": "😀 ü"}


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner)
    ),
)


@given(JSON)
def test_what_is_written_is_read_again(tmp_path_factory, content):
    file = tmp_path_factory.mktemp("json") / "a.json"
    files.write_json(file, content)
    assert files.read_json(file) == json.loads(file.read_text(encoding="utf-8")) == content


def test_a_broken_line_costs_itself_and_no_other(tmp_path, caplog):
    file = tmp_path / "history.jsonl"
    assert files.read_lines(file) == []
    file.write_bytes(b'{"a": 1}\n{"a": 2]\n[3]\n\xff\n{"a": 5}\n{"a": ')
    assert files.read_lines(file) == [{"a": 1}, {"a": 5}]
    assert "lines 2, 3, 4 of" in caplog.text and "left out" in caplog.text
    file.write_bytes(b'{"a": 1}\n{"a": 2}')
    assert files.read_lines(file) == [{"a": 1}, {"a": 2}]


def test_a_new_file_has_the_rights_that_the_umask_gives_and_an_old_one_keeps_its_own(tmp_path):
    before = os.umask(0o027)
    try:
        files.write_text(tmp_path / "new.txt", "x")
        with files.replacing_folder(tmp_path / "folder"):
            pass
        (tmp_path / "mine.txt").touch()
        (tmp_path / "mine.txt").chmod(0o600)
        files.write_text(tmp_path / "mine.txt", "x")
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert modes == {"new.txt": 0o640, "folder": 0o750, "mine.txt": 0o600}


def test_what_a_link_points_to_is_replaced_and_the_link_stays(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "file.txt").write_text("old")
    (tmp_path / "disk" / "set").mkdir()
    (tmp_path / "file.txt").symlink_to("disk/file.txt")
    (tmp_path / "set").symlink_to("disk/set")
    files.write_text(tmp_path / "file.txt", "new")
    with files.replacing_folder(tmp_path / "set") as folder:
        (folder / "a").write_text("a")
    assert (tmp_path / "file.txt").is_symlink() and (tmp_path / "set").is_symlink()
    assert (tmp_path / "disk" / "file.txt").read_text() == "new"
    assert [path.name for path in (tmp_path / "disk" / "set").iterdir()] == ["a"]
    assert sorted(path.name for path in tmp_path.rglob(".*")) == []


def test_a_place_that_cannot_be_written_is_refused_before_the_work(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for path, words in (
        (tmp_path / ("ä" * 130) / "x", "is 260 bytes long"),
        (tmp_path / "file" / "x", "is a file, not a folder"),
        (tmp_path / "loop" / "x", "cannot be written"),
    ):
        with pytest.raises(InputError, match=words):
            files.check_place(path)
    longest = tmp_path / ("n" * 255)
    files.write_text(files.check_place(longest), "x")
    assert longest.read_text() == "x"


WRITER = """
import sys, time
from simpletransformers import files
what, path = sys.argv[1:]
with getattr(files, what)(path) as temporary:
    print(temporary, flush=True)
    (temporary / "half" if what == "replacing_folder" else temporary).write_text("half")
    time.sleep(60)
"""


@pytest.mark.parametrize("what", ["replacing", "replacing_folder"])
def test_the_next_writer_removes_what_a_killed_one_left_but_nothing_in_use(tmp_path, what):
    place = tmp_path / "result[1]"
    writers = []
    for _ in range(2):
        command = [sys.executable, "-c", WRITER, what, str(place)]
        writers.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        assert writers[-1].stdout.readline().strip()
    assert len(list(tmp_path.iterdir())) == 2  # each left the other's alone
    for writer in writers[:1]:
        writer.send_signal(signal.SIGKILL)
        writer.wait()
    with getattr(files, what)(place) as temporary:
        (temporary / "a" if temporary.is_dir() else temporary).write_text("whole")
    assert len(list(tmp_path.iterdir())) == 2  # the result, and what the living one is writing
    writers[1].kill()
    writers[1].wait()
    with getattr(files, what)(place) as temporary:
        (temporary / "a" if temporary.is_dir() else temporary).write_text("whole")
    assert [path.name for path in tmp_path.iterdir()] == ["result[1]"]


def test_a_replacement_that_was_cut_off_is_undone_or_finished(tmp_path):
    (tmp_path / ".set.old").mkdir()
    (tmp_path / ".set.old" / "a").write_text("old")
    files.recover(tmp_path / "set")
    assert (tmp_path / "set" / "a").read_text() == "old"
    (tmp_path / ".set.old").mkdir()
    with files.replacing_folder(tmp_path / "set") as folder:
        (folder / "a").write_text("new")
    assert (tmp_path / "set" / "a").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_a_second_writer_of_a_folder_is_told_who_the_first_is(tmp_path):
    probe = (
        "import sys\n"
        "from simpletransformers.files import one_writer\n"
        "with one_writer(sys.argv[1], 'training'):\n"
        "    print('in', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", probe, str(tmp_path / "run")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    other = subprocess.Popen(command, **pipes)
    assert other.stdout.readline() == "in\n"
    with pytest.raises(InputError, match=f"process {other.pid} is training in .*run"):  # noqa: SIM117
        with files.one_writer(tmp_path / "run", "training"):
            pass
    other.kill()
    other.communicate()
    with files.one_writer(tmp_path / "run", "training"):
        (tmp_path / "run" / "result").touch()
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["result"]
    with files.one_writer(tmp_path / "refused", "training"):
        pass
    assert not (tmp_path / "refused").exists()


def test_writers_that_come_and_go_are_never_two_at_a_time(tmp_path):
    """One holder's removal of the lock must not let two others in."""
    probe = (
        "import os, sys, time\n"
        "from simpletransformers.files import one_writer\n"
        "from simpletransformers.errors import InputError\n"
        "until, inside = time.monotonic() + 2, 0\n"
        "while time.monotonic() < until:\n"
        "    try:\n"
        "        with one_writer(sys.argv[1], 'counting'):\n"
        "            os.close(os.open(sys.argv[1] + '/in', os.O_CREAT | os.O_EXCL))\n"
        "            os.unlink(sys.argv[1] + '/in')\n"
        "            inside += 1\n"
        "    except InputError:\n"
        "        pass\n"
        "print(inside)\n"
    )
    (tmp_path / "run").mkdir()
    command = [sys.executable, "-c", probe, str(tmp_path / "run")]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    counts = [int(process.communicate()[0]) for process in both]
    assert min(counts) > 0, counts


def test_digests_know_the_content(tmp_path):
    (tmp_path / "a").write_text("1")
    before = files.digests([tmp_path / "a", tmp_path / "b"])
    assert list(before) == ["a"]
    (tmp_path / "a").write_text("2")
    assert files.digests([tmp_path / "a"]) != before
