"""Write the tables of docs/results/*_cpu.json into the pages that show them.

In a page, what stands between <!-- NAME_cpu 2 --> and <!-- end --> is the second table of
docs/results/NAME_cpu.json; without a number it is all tables of the file, and how they came about.
`tests/test_docs.py` compares the pages with the files.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from coverage_principle.cli import command_parser, run
from coverage_principle.data import write_text
from coverage_principle.errors import InputError
from coverage_principle.paths import repository_root
from simpletransformers.words import counted

_PLACE = re.compile(
    r"^(<!-- (\w+_cpu)(?: (\d+))? -->\n).*?^(<!-- end -->)$", re.DOTALL | re.MULTILINE
)


def main(_: argparse.Namespace) -> None:
    for page in pages():
        text = page.read_text(encoding="utf-8")
        found = filled(text)
        if found != text:
            write_text(page, found)
            print(f"{page.relative_to(repository_root())}: written")


def pages() -> list[Path]:
    root = repository_root()
    return sorted([*(root / "docs").rglob("*.md"), root / "README.md", root / "data" / "README.md"])


def filled(text: str) -> str:
    """A page's text with the tables as they are recorded; ``InputError`` where one is lacking."""

    def place(match: re.Match[str]) -> str:
        begin, name, number, end = match.groups()
        file = repository_root() / "docs" / "results" / f"{name}.json"
        if not file.is_file():
            return f"{begin}\nNot recorded yet.\n\n{end}"
        content = json.loads(file.read_text(encoding="utf-8"))
        tables = [table(one) for one in content["tables"]]
        if number and int(number) > len(tables):
            raise InputError(f"{file.name} has {len(tables)} tables, and a page asks for {number}")
        shown = [tables[int(number) - 1]] if number else [about(content), *tables]
        return begin + "".join(f"\n{one}\n" for one in shown) + f"\n{end}"

    return _PLACE.sub(place, text)


def table(content: Mapping[str, Any]) -> str:
    header, *rows = (f"| {' | '.join(row)} |" for row in (content["header"], *content["rows"]))
    return "\n".join([header, "|---" * len(content["header"]) + "|", *rows])


def about(content: Mapping[str, Any]) -> str:
    """How the figures came about, in a sentence."""
    return f"`{content['command']}`: {', '.join(parts_of(content))}."


def parts_of(content: Mapping[str, Any]) -> Iterator[str]:
    yield content["machine"]
    if "versions" in content:
        yield versions(content["versions"])
    if "threads" in content:
        yield f"{content['threads']} thread" + ("s" if content["threads"] > 1 else "")
        yield f"at most {counted(content['repeats'], 'round')}"
    if "commit" in content:
        yield f"commit {content['commit']}"
    if "before" in content:
        yield f"before: {content['before']}"
    if content.get("peers"):
        yield f"peers: {versions(content['peers'])}"
    if "note" in content:
        yield content["note"]


def versions(packages: Mapping[str, str]) -> str:
    return ", ".join(map(" ".join, packages.items()))


if __name__ == "__main__":
    run(command_parser(__doc__), main)
