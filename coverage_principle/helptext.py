"""What ``--help`` looks like, for every command: groups, defaults, a short usage, examples.

A flag belongs to a group by one word of ``GROUPS``: ``group`` of a setting, or ``group_of`` for a
flag that is no setting. The standard library is enough here, so that help is instant.
"""

from __future__ import annotations

import argparse
import re
import shutil
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

#: The groups of flags: the word for them, and the heading. Help shows them in this order, which is
#: that in which a user decides; a command has those in which it has flags.
GROUPS = {
    "job": "what to do",
    "data": "the data set",
    "source": "what is read, and how",
    "task": "the task",
    "run": "the trained model",
    "items": "the items",
    "world": "the world that is drawn",
    "training": "training items",
    "test": "test items",
    "prompt": "the prompt",
    "shots": "the shots: training items that stand before it",
    "coverage": "what counts as coverage",
    "sweep": "all k at once",
    "item": "one item",
    "add": "training items to add",
    "search": "what is looked for",
    "graded": "more than a k-cutoff",
    "learner": "the learner's numbers",
    "measured": "what is measured",
    "shown": "what is shown",
    "drawn": "what is drawn, and how",
    "model": "the model",
    "optimisation": "optimisation",
    "length": "length of the training",
    "evaluation": "evaluation",
    "checkpoints": "checkpoints and resuming",
    "written": "what is written",
    "devices": "devices and speed",
    "logging": "logging and trackers",
    "prediction": "prediction",
    "launch": "where and how runs are carried out",
    "other": "other flags",
    "kept": "accepted for compatibility, without effect",
}
_ORDER = {title: place for place, title in enumerate(("positional arguments", *GROUPS.values()))}
#: Wider lines are hard to read.
_WIDEST = 100
_MORE = "[flags below]"
_NUMBERS = {"int": "N", "positive": "N", "float": "X"}
#: A word of a shell command: quoted parts keep their spaces.
_WORD = re.compile(r"""(?:"[^"]*"|'[^']*'|\S)+""")


class CommandParser(argparse.ArgumentParser):
    """A parser whose help is grouped, and whose refusals are one line, whatever the values hold.

    ``examples`` are pairs: what a command does, and the command as it is typed in the repository's
    root. The parsers of subcommands are of this class too.
    """

    def __init__(
        self, *args: Any, examples: Iterable[tuple[str, str]] = (), **options: Any
    ) -> None:
        options = {"formatter_class": _Help, "allow_abbrev": False, **options}
        super().__init__(*args, **options)
        self._optionals.title = GROUPS["other"]
        self.examples = tuple(examples)

    def format_help(self) -> str:
        unknown = _ORDER[GROUPS["other"]] - 0.5  # a heading of a newcomer
        self._action_groups.sort(key=lambda group: _ORDER.get(group.title, unknown))
        width = self._get_formatter()._width
        return super().format_help() + _examples(self.examples, width)

    def format_usage(self) -> str:
        return super().format_usage().replace(_MORE, "[flags: see --help]")

    def error(self, message: str) -> Any:
        super().error(one_line(message))


def group_of(parser: argparse.ArgumentParser, word: str) -> Any:
    """The group of ``parser`` that a word of ``GROUPS`` names; another word is its own heading."""
    title = GROUPS.get(word, word)
    for group in parser._action_groups:
        if group.title == title:
            return group
    return parser.add_argument_group(title)


def one_line(text: str) -> str:
    """Text without what a name of a file or a setting may hold, but a line should not."""
    return re.sub(r"[\0-\x1f\x7f]", lambda match: ascii(match[0])[1:-1], text)


class _Help(argparse.HelpFormatter):
    """Descriptions that fit the terminal, defaults, and a usage line of what must be given."""

    def __init__(self, prog: str, **options: Any) -> None:
        width = max(40, min(shutil.get_terminal_size().columns - 2, _WIDEST))
        super().__init__(prog, **{"max_help_position": 28, "width": width, **options})

    def _fill_text(self, text: str, width: int, _indent: str) -> str:
        """Paragraphs are filled; one that is indented stays as it is."""
        parts = re.split(r"\n\s*\n", text.rstrip())
        return "\n\n".join(
            part if part.startswith(" ") else "\n".join(self._split_lines(part, width))
            for part in parts
        )

    def _split_lines(self, text: str, width: int) -> list[str]:
        """Lines that break at spaces only, so that no flag or name is split."""
        return textwrap.wrap(" ".join(text.split()), width, break_on_hyphens=False)

    def _format_usage(self, usage: Any, actions: Any, groups: Any, prefix: Any) -> str:
        groups = [group for group in groups if group.required]
        needed = [action for group in groups for action in group._group_actions]
        kept = [a for a in actions if a.required or not a.option_strings or a in needed]
        width, self._width = self._width, 10**6  # one line, whose parts are wrapped here
        shown = super()._format_usage(usage, kept, groups, prefix).strip()
        self._width = width
        return "\n".join(_wrapped([*_parts(shown), _MORE], width, " " * 11)) + "\n\n"

    def _format_args(self, action: argparse.Action, default_metavar: str) -> str:
        """Several values as ``TYPE ...``; a metavar that says so itself stays."""
        if action.nargs != "+":
            return super()._format_args(action, default_metavar)
        (name,) = self._metavar_formatter(action, default_metavar)(1)
        return name if _says_more(name) else f"{name} ..."

    def _get_default_metavar_for_optional(self, action: argparse.Action) -> str:
        name = action.option_strings[0].lstrip("-")
        ending = name.rsplit("_", 1)[-1].upper()
        number = _NUMBERS.get(getattr(action.type, "__name__", ""))
        return number or (ending if ending in ("DIR", "FILE") else name.upper())

    def _get_help_string(self, action: argparse.Action) -> str:
        about = (action.help or "").replace(" (default: %(default)s)", "")  # added by argparse
        shown = default_text(action)
        if shown is None or "default:" in about:
            return about
        return f"{about} (default: {shown.replace('%', '%%')})"


def _says_more(metavar: object) -> bool:
    """Whether a metavar is a list by itself, such as N,N,..."""
    return isinstance(metavar, str) and metavar.endswith(",...")


def default_text(action: argparse.Action) -> str | None:
    """The value that a flag has if it is not given, as one would type it; None if it has none."""
    value = action.default
    if action.required or value is None or value is False or value == argparse.SUPPRESS:
        return None
    if value is True:
        return "on"
    if isinstance(value, (list, tuple)):
        apart = action.nargs is not None and not _says_more(action.metavar)
        value = (" " if apart else ",").join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value) or None


def _examples(examples: Sequence[tuple[str, str]], width: int) -> str:
    if not examples:
        return ""
    lines = ["", "examples, typed in the repository's root:"]
    for about, command in examples:
        lines += textwrap.wrap(about, width, initial_indent="  # ", subsequent_indent="  # ")
        lines += _shell_lines(command, width)
    return "\n".join(lines) + "\n"


def _shell_lines(command: str, width: int) -> list[str]:
    """A command in lines that a shell takes as one; a flag stays beside its values."""
    first, *others = _parts(command)
    *lines, last = _wrapped([f"  {first}", *others], width - 2, " " * 6)
    return [*(f"{line} \\" for line in lines), last]


def _parts(command: str) -> list[str]:
    """A command in parts that stay on a line: a flag and its values, or a group of flags."""
    parts: list[str] = []
    for word in _WORD.findall(command):
        if parts and (not word.startswith(("--", "(")) or parts[-1].endswith(" |")):
            parts[-1] += f" {word}"
        else:
            parts.append(word)
    return parts


def _wrapped(parts: Sequence[str], width: int, indent: str) -> list[str]:
    """Parts in lines of at most ``width``, but for longer parts; all but the first indented."""
    lines = [parts[0]]
    for part in parts[1:]:
        if len(lines[-1]) + 1 + len(part) > width:
            lines.append(f"{indent}{part}")
        else:
            lines[-1] += f" {part}"
    return lines
