"""Settings as data: their checks, the flags made of them, and the sentences that name them."""

from __future__ import annotations

import argparse
import importlib
import logging
import sys
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coverage_principle.cli import (
    add_presets,
    add_settings,
    command_parser,
    run,
    settings_from,
    with_flags,
)
from coverage_principle.errors import InputError
from coverage_principle.experiments import settings as commands
from coverage_principle.presets import TRAINING
from simpletransformers.lazy import exports
from simpletransformers.seq2seq.args import Seq2SeqArgs
from simpletransformers.settings import Settings, fields_of, setting


@dataclass(frozen=True)
class Sample(Settings):
    size: int = setting(help="how many, 100 % needed", at_least=2, at_most=10)
    share: float = setting(0.5, "of `size`", at_least=0)
    kind: str = setting("a", "which", choices=("a", "b"), flag="sort")
    steps: tuple[int, ...] = setting((), "some of them")
    limit: int | None = setting(None, "none by default", at_least=1)
    loud: bool = setting(False, "or quiet")
    note: str = "no setting: it has no flag"


def parser_of(**changes):
    parser = command_parser("A command.")
    add_settings(parser, Sample, **changes)
    return parser


def test_flags_give_back_the_settings_that_they_say():
    words = [
        "--size",
        "3",
        "--share",
        "0.25",
        "--sort",
        "b",
        "--steps",
        "1",
        "2",
        "--limit",
        "4",
        "--loud",
    ]
    made = settings_from(Sample, parser_of().parse_args(words))
    assert made == Sample(3, 0.25, "b", (1, 2), 4, True)
    assert settings_from(Sample, parser_of(size=7).parse_args([])) == Sample(7)
    assert settings_from(Sample, parser_of().parse_args(["--size", "3"]), loud=True).loud


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"size": 1}, "`size` 1 is too small; it must be at least 2"),
        ({"size": 11}, "`size` 11 is too large; it must be at most 10"),
        ({"size": "3"}, "`size` '3' is not an integer"),
        ({"size": True}, "`size` True is not an integer"),
        ({"size": None}, "`size` must be given"),
        ({"size": 3, "share": float("nan")}, "`share` nan is not a finite number"),
        ({"size": 3, "share": float("inf")}, "`share` inf is not a finite number"),
        ({"size": 3, "kind": "c"}, "`kind` c is not one of a, b"),
        ({"size": 3, "steps": 4}, "`steps` 4 is not a list"),
        ({"size": 3, "steps": ["x"]}, "`steps` 'x' is not an integer"),
        ({"size": 3, "limit": 0}, "`limit` 0 is too small"),
        ({"size": 3, "loud": 1}, "`loud` 1 is not true or false"),
        ({"size": 3, "seize": 1}, "Sample has no setting 'seize'; it has"),
        ({}, "size"),
    ],
)
def test_a_wrong_setting_is_refused_in_one_sentence(values, sentence):
    wrong = TypeError if not values else InputError  # Python's own sentence for what is missing
    with pytest.raises(wrong) as refusal:
        Sample.from_mapping(values)
    assert sentence in str(refusal.value)


@given(st.integers(), st.floats(), st.one_of(st.none(), st.integers()))
def test_what_is_accepted_is_within_its_bounds(size, share, limit):
    try:
        made = Sample(size, share, limit=limit)
    except InputError:
        assert not (2 <= size <= 10 and 0 <= share < float("inf") and (limit is None or limit >= 1))
    else:
        assert 2 <= made.size <= 10 and 0 <= made.share < float("inf")


def test_help_shows_defaults_flags_of_other_settings_and_percent_signs():
    text = " ".join(parser_of(share={"help": "of `size` and `kind`"}).format_help().split())
    assert "how many, 100 % needed" in text and "(default: 0.5)" in text
    assert "of --size and --sort" in text and "--note" not in text
    assert parser_of(omit=("limit",)).parse_args(["--size", "3"]).__dict__.keys() == {
        *("size", "share", "kind", "steps", "loud")
    }


def test_a_missing_flag_is_a_usage_error():
    with pytest.raises(SystemExit) as left:
        parser_of().parse_args([])
    assert left.value.code == 2


def test_presets_set_flags_that_later_ones_override():
    parser = parser_of(size=2)
    add_presets(parser, {"big": {"size": 9, "sort": "b"}}, "some")
    assert settings_from(Sample, parser.parse_args(["--preset", "big"])) == Sample(9, kind="b")
    after = parser.parse_args(["--preset", "big", "--size", "4"])
    assert settings_from(Sample, after) == Sample(4, kind="b")


@pytest.mark.parametrize("name", TRAINING)
def test_every_training_preset_is_one_of_flags_that_main_knows(name):
    from main import build_parser

    arguments = build_parser().parse_args(["--preset", name, "--data_dir", "x"])
    made = settings_from(Seq2SeqArgs, arguments)
    assert made.train_batch_size == TRAINING[name]["train_batch_size"]
    assert made.evaluate_during_training_steps == TRAINING[name]["eval_steps"]


def test_a_setting_in_backticks_becomes_its_flag():
    parser = parser_of()
    assert with_flags("`kind` c, `size`, `other` and `a b`", parser) == (
        "--sort c, --size, other and `a b`"
    )


def test_refusals_and_log_lines_name_flags(capsys, monkeypatch):
    monkeypatch.setattr(logging.getLogger(), "handlers", [])

    def main(arguments):
        logging.getLogger("sample").warning("`kind` is %s", arguments.kind)
        Sample(arguments.size - 1)

    with pytest.raises(SystemExit) as left:
        run(parser_of(), main, ["--size", "2"])
    said = capsys.readouterr().err
    assert left.value.code == 1 and "--sort is a\n" in said and "error: --size 1 is too" in said


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--size", "1"], "--size: 1 is too small; it must be at least 2"),
        (["--size", "x"], "--size: invalid int value"),
        (["--size", "3", "--share", "nan"], "--share: nan is not a finite number"),
        (["--size", "3", "--note", ""], "--note: the value is empty"),
        (["--size", "3", "--note", "\udcff"], "is not UTF-8 text"),
    ],
)
def test_what_a_parser_can_refuse_is_a_usage_error(capsys, words, sentence):
    parser = parser_of()
    parser.add_argument("--note")
    with pytest.raises(SystemExit) as left:
        run(parser, pytest.fail, words)
    said = capsys.readouterr().err
    assert left.value.code == 2 and sentence in said.splitlines()[-1]


def test_a_continuation_shares_what_is_not_free():
    shared = Seq2SeqArgs().shared()
    assert {"learning_rate", "n_layer", "end_token", "manual_seed"} <= set(shared)
    assert not {"max_steps", "resume", "keep", "group_by", "generation_length"} & set(shared)


def test_every_setting_of_the_trainer_has_help():
    assert all(spec.help for _, spec in fields_of(Seq2SeqArgs).values())


def test_lazy_packages_import_on_first_use(tmp_path, monkeypatch):
    package = tmp_path / "lazy_sample"
    package.mkdir()
    (package / "__init__.py").write_text(
        "from simpletransformers.lazy import exports\n"
        "__getattr__, __dir__, __all__ = exports(__name__, {'part': 'first second'})\n"
    )
    (package / "part.py").write_text("first, second = 1, 2\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    module = importlib.import_module("lazy_sample")
    assert "lazy_sample.part" not in sys.modules
    assert module.second == 2 and dir(module) == ["first", "second"]
    with pytest.raises(AttributeError, match="third"):
        _ = module.third
    with pytest.raises(ValueError, match="part, which is also a module"):
        exports("lazy_sample", {"part": "part"})


def test_parsers_do_not_take_abbreviations():
    with pytest.raises(SystemExit):
        parser_of().parse_args(["--siz", "3"])
    assert isinstance(parser_of(), argparse.ArgumentParser)


_TRACE = "circuit_analysis/trace.py"


@pytest.mark.parametrize(
    ("script", "words", "name", "value"),
    [
        ("script/required_data.py", "--k 1,2 3 2", "k", (1, 2, 3)),
        ("script/predicted_data.py", "--by learner matcher", "by", ("learner", "matcher")),
        ("script/coverage_by_phi.py", "--phi 3.6,5 7", "phi", (3.6, 5.0, 7.0)),
        (
            "circuit_analysis/lens.py",
            "--ckpt x --step_list 5,10 20",
            "step_list",
            ("5", "10", "20"),
        ),
        (_TRACE, "--ckpt x --family a,b c", "family", ("a", "b", "c")),
        (_TRACE, "--ckpt x --layer_pos_pairs (1,2) [(3,4),(1,2)]", "pairs", ((1, 2), (3, 4))),
        (_TRACE, "--ckpt x --layer_pos_pairs (1,2) all", "pairs", None),
        ("circuit_analysis/cluster.py", "--ckpt x --group_by b b,x2", "group_by", ["b", "b,x2"]),
        (
            "script/import_dataset.py",
            "table --inputs a,b --answer c rows.csv",
            "inputs",
            ("a", "b"),
        ),
    ],
)
def test_lists_take_spaces_and_where_they_have_them_commas(script, words, name, value):
    assert getattr(commands.command_parser(script).parse_args(words.split()), name) == value


def test_a_list_of_nothing_is_refused_and_does_not_mean_all():
    with pytest.raises(InputError, match="--step_list: the value is empty"):
        commands.command_parser(_TRACE).parse_args(["--ckpt", "x", "--step_list", ""])
