"""What ``--help`` shows: every flag in a group, defaults, a short usage, examples that work."""

from __future__ import annotations

import argparse
import importlib
import re
import runpy
import shlex
import sys
from dataclasses import dataclass
from functools import cache

import pytest

from coverage_principle.cli import add_settings, command_parser, flags_of, parsers
from coverage_principle.helptext import GROUPS, group_of
from simpletransformers.settings import Settings, setting
from tests.conftest import ROOT
from tests.test_house import COMMANDS
from tests.typed import Repository, Step


@pytest.fixture(autouse=True)
def _terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")


@cache
def parser_at(script: str) -> argparse.ArgumentParser:
    """The parser of a command, as the command itself makes it."""
    path = ROOT / script
    sys.path.insert(0, str(path.parent))
    before = set(sys.modules)
    try:
        content = runpy.run_path(str(path))
        if "build_parser" in content:
            return content["build_parser"]()
        if path.parent.name == "reproduce":
            name = path.stem
            return importlib.import_module("claim_command").claim_parser(name, content["__doc__"])
        return command_parser(content["__doc__"])
    finally:
        sys.path.remove(str(path.parent))
        for name in {"common", "claim_command", "sweeping"} & set(sys.modules) - before:
            del sys.modules[name]  # of this folder; others have modules of the same name


SCRIPTS = [
    path.relative_to(ROOT).as_posix()
    for path in COMMANDS
    if "__main__" in path.read_text(encoding="utf-8") and path.parent.name != "benchmarks"
]


# ------------------------------------------------------------------------------- every command


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_flag_stands_in_a_group_with_a_sentence(script):
    for parser in parsers(parser_at(script)):
        for group in parser._action_groups:
            own = [action for action in group._group_actions if action.dest not in ("help", "kind")]
            assert not own or group.title in set(GROUPS.values()) - {GROUPS["other"]}, own
            for action in own:
                assert action.help, action.dest


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_is_short_where_it_can_be_and_names_what_is_needed(script):
    for parser in parsers(parser_at(script)):
        text = parser.format_help()
        usage = text.partition("\n\n")[0]
        assert len(usage.splitlines()) <= 3 and usage.endswith("[flags below]")
        for action in parser._actions:
            in_group = any(
                action in one._group_actions for one in parser._mutually_exclusive_groups
            )
            shown = not action.option_strings or any(
                f"{o} " in usage for o in action.option_strings
            )
            assert shown == (action.required or not action.option_strings) or in_group
        assert "None" not in text and "SUPPRESS" not in text
        for line in text.partition("\nexamples")[0].splitlines():
            assert len(line) <= 80 or len(max(line.split(), key=len)) > 40, line


@pytest.mark.parametrize("script", SCRIPTS)
def test_defaults_are_shown(script):
    """Every flag with a value of its own says it, in the words in which it would be typed."""
    for parser in parsers(parser_at(script)):
        text = " ".join(parser.format_help().split())
        for action in parser._actions:
            value = action.default
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                assert f"(default: {value:g})" in text or f"(default: {value})" in text
            elif isinstance(value, str) and value and value != argparse.SUPPRESS:
                assert f"(default: {value})" in text


def test_the_last_group_of_main_holds_what_has_no_effect():
    text = parser_at("main.py").format_help()
    last = text.split("\nexamples")[0].rsplit(GROUPS["kept"], 1)[1]
    from main import REFUSED, WITHOUT_EFFECT

    assert {*WITHOUT_EFFECT, *REFUSED, "--add_tokens"} == set(re.findall(r"--[\w-]+\w", last)) - {
        "--device"
    }


# ------------------------------------------------------------------------------------ examples


WITH_EXAMPLES = [
    pytest.param(parser, id=f"{script}{'-' * number}")
    for script in SCRIPTS
    for number, parser in enumerate(parsers(parser_at(script)))
    if parser.examples
]


def test_every_command_has_examples_that_call_it():
    for script in SCRIPTS:
        if script == "script/quickstart.py":
            continue  # it is started by quickstart.sh
        for parser in parsers(parser_at(script)):
            called = [shlex.split(command)[1] for _, command in parser.examples]
            assert script in called and len(called) <= 8, script


@pytest.mark.parametrize("parser", WITH_EXAMPLES)
def test_examples_parse_and_their_files_exist_or_are_made_before(parser):
    repository = Repository()
    for about, command in parser.examples:
        step = Step(tuple(shlex.split(command)), ROOT)
        script, given = step.target
        assert about and parser_at(script).parse_args(given)
        assert repository.lacks(step) == [], command
        repository.add(step)


@pytest.mark.parametrize("parser", WITH_EXAMPLES)
def test_a_shell_takes_the_lines_of_an_example_as_its_command(parser):
    shown = parser.format_help().replace(" \\\n", " ").splitlines()
    lines = [shlex.split(line) for line in shown if line.startswith("  python ")]
    assert lines == [shlex.split(command) for _, command in parser.examples]


# ---------------------------------------------------------------------------- a worked example


@dataclass(frozen=True)
class Sample(Settings):
    data_dir: str = setting(help="what is read", group="data")
    size: float = setting(0.5, "how much", group="length")
    many: tuple[int, ...] = setting((1, 2), "some of 100 %", group="length")
    place: str | None = setting(None, "where it goes (default: here)", group="written")
    loud: bool = setting(False, "or quiet", group="new words")


def test_a_setting_falls_into_its_group_by_one_word(monkeypatch):
    monkeypatch.setenv("COLUMNS", "62")
    examples = [("the shortest call", "python sample.py --data_dir somewhere/else --size 4 --loud")]
    parser = command_parser("A sample.\n\nIt is\nfilled.", examples, prog="sample.py")
    group_of(parser, "kept").add_argument("--old", help="always so")
    add_settings(parser, Sample)
    on = {"action": argparse.BooleanOptionalAction, "default": True, "help": "on or off"}
    group_of(parser, "written").add_argument("--files", **on)
    assert parser.format_help() == SHOWN
    assert parser.format_usage().startswith("usage: sample.py --data_dir DIR [flags: see --help]")


SHOWN = """\
usage: sample.py --data_dir DIR [flags below]

A sample.

It is filled.

the data set:
  --data_dir DIR       what is read

length of the training:
  --size X             how much (default: 0.5)
  --many N ...         some of 100 % (default: 1 2)

what is written:
  --place PLACE        where it goes (default: here)
  --files, --no-files  on or off (default: on)

new words:
  --loud               or quiet

other flags:
  -h, --help           show this help message and exit

accepted for compatibility, without effect:
  --old OLD            always so

examples, typed in the repository's root:
  # the shortest call
  python sample.py --data_dir somewhere/else --size 4 \\
      --loud
"""


def test_flags_of_a_command_are_found_in_its_groups():
    parser = command_parser("A sample.")
    add_settings(parser, Sample)
    assert {"--size", "--loud"} <= {o for action in flags_of(parser) for o in action.option_strings}
