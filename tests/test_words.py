"""What a person reads: counts agree with their nouns, and no phrase that made a reader stop."""

from __future__ import annotations

import re

import pytest

from simpletransformers.words import count_lines, counted, listed
from tests.conftest import ROOT

#: Phrases that took a first reader time, and what took their place.
PHRASES = {
    "by chance": "only by coincidence",
    "chance agreement": "coincidence",
    "mixing values": "mixing b",
    "every call is expected seen": "possible training compositions",
    "% moved to": "% of runs that rank the source run's answer above their own",
    "memorising dear": "memorising costly",
    "not in this scope": "not counted here, see --scope domain",
    "joined through others": "linked only by third fragments",
    "let these two look at": "the flags' names",
    "all 1 context": "the only context",
}
#: A count and a noun that do not agree; no longer number, share or name ends in this 1.
PLURALS = re.compile(
    r"(?<![\w.,=/-])(?<![-+] )1 (?:problems|notes|rows|records|items|contexts|steps|runs"
    r"|seeds|worlds|groups|vectors|samples|tokens|compositions|fragments|files|columns|minutes|cores|facts)\b"
)
TEXT = {
    ".py",
    ".md",
    ".toml",
    ".txt",
    ".sh",
    ".html",
    ".js",
    ".css",
    ".csv",
    ".json",
    ".ipynb",
    ".slurm",
}
FOLDERS = ("coverage_principle", "dataset_generation", "circuit_analysis", "script", "benchmarks")


def texts():
    """Every text of the repository that a person reads, by its path; CHANGELOG.md is history."""
    files = [*ROOT.glob("*.py"), ROOT / "README.md", ROOT / "data" / "README.md"]
    for folder in (*FOLDERS, "docs", "simpletransformers"):
        files += [path for path in (ROOT / folder).rglob("*") if path.suffix in TEXT]
    for file in sorted(files):
        name = file.relative_to(ROOT).as_posix()
        if "__pycache__" not in name:
            yield name, " ".join(file.read_text(encoding="utf-8").split())


def test_no_phrase_is_left_that_made_a_reader_stop():
    found = [
        f"{name}: {phrase!r}, better {better!r}"
        for name, text in texts()
        for phrase, better in PHRASES.items()
        if phrase in text
    ]
    found += [f"{name}: {match[0]!r}" for name, text in texts() for match in PLURALS.finditer(text)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("number", "nouns", "text"),
    [
        (0, ["item"], "0 items"),
        (1, ["item"], "1 item"),
        (2, ["more training item"], "2 more training items"),
        (1500, ["process", "processes"], "1,500 processes"),
        (1, ["entity", "entities"], "1 entity"),
    ],
)
def test_a_count_and_its_noun_agree(number, nouns, text):
    assert counted(number, *nouns) == text


def test_names_are_listed_as_in_a_sentence():
    lists = [["f1"], ["f1", "f2"], ["f1", "f2", "f3"]]
    assert list(map(listed, lists)) == ["f1", "f1 and f2", "f1, f2 and f3"]


def test_lines_of_counts_have_their_numbers_in_one_column():
    rows = [("train", 1500, "of 3,958"), ("type_0 (every call seen)", 7, ""), ("b", None, "of 2")]
    assert count_lines(rows) == [
        "train                     1,500 of 3,958",
        "type_0 (every call seen)      7",
        "b                             - of 2",
    ]
    assert count_lines([]) == []
