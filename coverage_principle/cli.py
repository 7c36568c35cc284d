"""The frame around every command: flags made of settings, logging, refusals in one sentence.

A command file holds a parser and a ``main(arguments)``; it ends with ``run(build_parser(), main)``.
The library speaks of settings by their names, in backticks; here they become flags.
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import dataclasses
import gc
import itertools
import logging
import os
import re
import sys
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from math import nan
from typing import Any, TypeVar

from coverage_principle.errors import InputError
from coverage_principle.helptext import CommandParser, group_of, one_line
from simpletransformers.memory import parse_bytes
from simpletransformers.settings import Kind, Settings, Spec, fault_of, fields_of

#: Loggers of libraries whose notes help nobody who runs a command.
_CHATTER = ("matplotlib", "fontTools", "PIL", "urllib3", "filelock", "asyncio", "torch")

#: New objects between looks for cycles that nobody holds any more, where Python has 700: imports
#: and data sets are made of objects that stay, and each look goes through them.
_BETWEEN_LOOKS = 50_000

AnySettings = TypeVar("AnySettings", bound=Settings)


def command_parser(
    description: str, examples: Iterable[tuple[str, str]] = (), **options: Any
) -> CommandParser:
    """The parser of a command: its docstring, and examples of it (``CommandParser``)."""
    return CommandParser(description=description, examples=examples, **options)


def add_settings(
    parser: Any,
    settings: type[Settings],
    *,
    only: Collection[str] | None = None,
    omit: Collection[str] = (),
    **changes: object,
) -> None:
    """A flag for every setting, or for ``only`` some of them, or for all but those of ``omit``.

    ``changes`` maps a setting to another default than its own, or to a dictionary of what is to be
    other in ``add_argument`` (``default``, ``help``, ``choices``, ``required``) or to the name of
    its ``flag``. Every flag goes to the group of its setting; if ``parser`` is a group, all go to
    it. A setting without default is a flag that must be given.
    """
    defaults = {field.name: field.default for field in dataclasses.fields(settings)}
    flags, options_of = {}, {}
    for name, (kind, spec) in fields_of(settings).items():
        change = changes.get(name, {})
        options = _flag_options(kind, spec, defaults[name])
        options |= change if isinstance(change, Mapping) else {"default": change}
        flags[name] = f"--{options.pop('flag', spec.flag or name)}"
        if name not in omit and (only is None or name in only):
            options_of[name] = spec, options
    for name, (spec, options) in options_of.items():
        if options.get("default") is not None:
            options.pop("required", None)
        options["help"] = _named(options["help"], flags, "--").replace("%", "%%")
        whole = isinstance(parser, argparse.ArgumentParser)
        place = group_of(parser, spec.group or "other") if whole else parser
        place.add_argument(flags[name], dest=name, **options)


def _flag_options(kind: Kind, spec: Spec, default: object) -> dict[str, object]:
    options: dict[str, object] = {"help": spec.help}
    if kind.type is bool:
        return {**options, "action": "store_true", "default": bool(default)}
    if kind.many:
        options["nargs"] = "+"
    if kind.many and spec.parse:
        options["action"] = _Joined
    if spec.metavar:
        options["metavar"] = spec.metavar
    options["choices"] = spec.choices
    counts = kind.type is int and spec.at_least == 1 and spec.at_most is None
    number = positive if counts else _number(kind, spec)
    options["type"] = spec.parse or (number if kind.type in (int, float) else str)
    missing = default is dataclasses.MISSING
    return options | ({"required": True} if missing else {"default": default})


class _Joined(argparse.Action):
    """Values that each may be a list, ``3,4 5``, as one tuple; None, which is all, beats others."""

    def __call__(self, _parser, namespace, values, _option=None) -> None:
        joined = None if None in values else tuple(dict.fromkeys(itertools.chain(*values)))
        setattr(namespace, self.dest, joined)


def _number(kind: Kind, spec: Spec) -> Callable[[str], float]:
    """For ``type=``: a number that the setting's own check allows."""

    def parse(text: str) -> float:
        value = kind.type(text)
        if fault := fault_of(value, kind.type, spec):
            raise argparse.ArgumentTypeError(fault)
        return value

    parse.__name__ = kind.type.__name__  # as argparse names it
    return parse


def settings_from(
    settings: type[AnySettings], arguments: argparse.Namespace, **fixed: object
) -> AnySettings:
    """The settings that a command's flags give; ``fixed`` are those that it decides itself."""
    return settings(**{**given_settings(settings, arguments), **fixed})


def given_settings(settings: type[Settings], arguments: argparse.Namespace) -> dict[str, object]:
    """Those settings of a class that a command has flags for."""
    known = fields_of(settings)
    return {name: value for name, value in vars(arguments).items() if name in known}


def parsers(parser: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    """The parser of a command, and those of its subcommands."""
    found = [parser]
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            found += action.choices.values()
    return found


def flags_of(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """The flags and arguments of a command and of its subcommands."""
    return [action for one in parsers(parser) for action in one._actions]


def add_presets(parser: Any, presets: Mapping[str, Mapping[str, object]], about: str) -> None:
    """``--preset NAME``: sets the flags of a preset; flags that come after it override it."""

    class Preset(argparse.Action):
        def __call__(self, parser, namespace, value, _option=None) -> None:
            setattr(namespace, self.dest, value)
            for name, setting in presets[value].items():
                setattr(namespace, parser._option_string_actions[f"--{name}"].dest, setting)

    parser.add_argument("--preset", action=Preset, choices=tuple(presets), help=about)


def add_place(parser: argparse.ArgumentParser) -> None:
    """``--output_dir`` and ``--overwrite``, the place of a data set that is made."""
    add = group_of(parser, "written").add_argument
    add("--output_dir", help="where the data set's folder goes (default: data/)")
    about = "replace a data set of that name that has other contents"
    add("--overwrite", action="store_true", help=about)


def positive(text: str) -> int:
    """For ``type=``: an integer of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not an integer of at least 1")
    return int(text)


def words(text: str) -> tuple[str, ...]:
    """For ``type=``: words separated by commas."""
    found = tuple(part.strip() for part in text.split(",") if part.strip())
    if not found:
        raise argparse.ArgumentTypeError("the value is empty")
    return found


#: For ``add_argument``: one or several words, with spaces or commas between.
LIST = {"nargs": "+", "type": words, "action": _Joined}


def integers(low: int) -> Callable[[str], tuple[int, ...]]:
    """For ``type=``: integers of at least ``low``, separated by commas, each once."""

    def parse(text: str) -> tuple[int, ...]:
        parts = [part.strip() for part in text.split(",")]
        if not all(part.isdecimal() and int(part) >= low for part in parts):
            wanted = f"a list of integers of at least {low}, such as {low},{low + 1}"
            raise argparse.ArgumentTypeError(f"{text} is not {wanted}")
        return tuple(dict.fromkeys(map(int, parts)))

    return parse


def numbers(text: str) -> tuple[float, ...]:
    """For ``type=``: numbers separated by commas, each once."""
    try:
        return tuple(dict.fromkeys(float(part) for part in text.split(",")))
    except ValueError:
        wanted = "a list of numbers, such as 3.6,7.2"
        raise argparse.ArgumentTypeError(f"{text} is not {wanted}") from None


def bytes_of(text: str) -> int:
    """For ``type=``: a size of memory, such as 3G."""
    try:
        return parse_bytes(text)
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def share_or(word: str, *, below: float) -> Callable[[str], float | str]:
    """For ``type=``: a number from 0 to less than ``below``, or a word in its place."""

    def parse(text: str) -> float | str:
        if text == word:
            return word
        try:
            value = float(text)
        except ValueError:
            value = nan
        if not 0 <= value < below:
            raise argparse.ArgumentTypeError(not_a_share(text, word, below))
        return abs(value)  # -0 is 0

    return parse


def not_a_share(value: object, word: str, below: float) -> str:
    """What is said of a value that ``share_or`` refuses."""
    return f"{value} is neither {word} nor a number from 0 to less than {below:g}"


def run(
    parser: argparse.ArgumentParser,
    main: Callable[[argparse.Namespace], object],
    argv: Sequence[str] | None = None,
    *,
    refusals: Callable[[], tuple[type[Exception], ...]] = tuple,
) -> None:
    """Parse ``argv``, call ``main`` and leave the process with the right status.

    Usage errors exit with 2 (argparse). An ``InputError``, an ``OSError`` or ``MemoryError`` (or a
    GPU's; the machine's limits, no bug of ours) or one of the exception types that ``refusals()``
    returns (a function, so that a command can name a type of a package that it imports only after
    parsing) prints one sentence to stderr and exits with 1; with ``--debug`` the traceback is shown
    as well, and so are warnings of libraries, which are for those who write the code.
    Settings named in the sentence appear as the flags that set them. Ctrl-C exits with 130. Any
    other exception is a bug of ours and keeps its traceback.
    """
    for one in parsers(parser):
        if not any("--debug" in action.option_strings for action in one._actions):
            # A subcommand that is not told leaves what the command was told.
            default = {} if one is parser else {"default": argparse.SUPPRESS}
            about = "debug log and full tracebacks"
            one.add_argument("--debug", action="store_true", help=about, **default)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a console that lacks a character gets its number
            stream.reconfigure(errors="backslashreplace")
    arguments = parser.parse_args(argv)
    _refuse_no_text(parser, arguments)
    if not (arguments.debug or sys.warnoptions):
        warnings.simplefilter("ignore")  # libraries' own: ours are log lines
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Flags(parser, debug=arguments.debug))
    level = logging.DEBUG if arguments.debug else logging.INFO
    logging.basicConfig(level=level, handlers=[handler])
    for name in _CHATTER:
        logging.getLogger(name).setLevel(logging.WARNING)
    if not arguments.debug:
        # What its warnings are about (weights that a checkpoint lacks) we look at ourselves.
        os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # for when it is imported
        logging.getLogger("transformers").setLevel(logging.ERROR)
    gc.set_threshold(_BETWEEN_LOOKS)
    atexit.register(gc.freeze)  # the process ends: there is no need to look through all it holds
    try:
        main(arguments)
    except KeyboardInterrupt:
        parser.exit(130, "interrupted\n")
    except BrokenPipeError:
        # The reader of our output (head, less) has left: not an error, and nothing more to say.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        parser.exit(0)
    except (InputError, OSError, MemoryError, *_out_of_memory(), *refusals()) as error:
        if arguments.debug:
            raise
        parser.exit(1, f"{parser.prog}: error: {with_flags(_sentence(error), parser)}\n")


def _refuse_no_text(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    """A usage error for an empty value (an unset variable, for most) and for bytes of no text."""
    for action in flags_of(parser):
        given = getattr(arguments, action.dest, None)
        for value in given if isinstance(given, (list, tuple)) else [given]:
            if not isinstance(value, str) or value == action.default:
                continue
            if not value:
                parser.error(str(argparse.ArgumentError(action, "the value is empty")))
            if any("\ud800" <= letter <= "\udfff" for letter in value):
                parser.error(str(argparse.ArgumentError(action, f"{value!a} is not UTF-8 text")))


def _out_of_memory() -> tuple[type[Exception], ...]:
    """What a GPU without memory raises, if one can have been used at all."""
    torch = sys.modules.get("torch")
    return (torch.OutOfMemoryError,) if torch else ()


def with_flags(text: str, parser: argparse.ArgumentParser) -> str:
    """``text`` with each setting that it names in backticks written as the flag that sets it.

    A name that is no flag of this command stays, without its backticks.
    """
    flags: dict[str, str] = {}
    for action in flags_of(parser):
        for option in action.option_strings or filter(None, [action.metavar]):
            flags.setdefault(action.dest, option)
            flags.setdefault(option.lstrip("-"), option)
    return _named(text, flags)


def _named(text: str, flags: Mapping[str, str], otherwise: str = "") -> str:
    """``text`` with names in backticks replaced; ``otherwise`` goes before one that is no flag."""
    return re.sub(r"`(\w+)`", lambda match: flags.get(match[1], otherwise + match[1]), text)


class _Flags(logging.Formatter):
    """Log lines in which settings appear as flags."""

    def __init__(self, parser: argparse.ArgumentParser, *, debug: bool) -> None:
        super().__init__("%(levelname)s %(name)s: %(message)s" if debug else "%(message)s")
        self._parser = parser

    def format(self, record: logging.LogRecord) -> str:
        return with_flags(super().format(record), self._parser)


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    if isinstance(error, (MemoryError, *_out_of_memory())):
        details = str(error).partition(". ")[0] or "no details"
        return f"this does not fit into memory ({details}); ask for something smaller"
    return one_line(str(error))


class LiveLine:
    """The progress of a training, drawn from its first event on: nothing is refused after that."""

    def __init__(self) -> None:
        self._bar = None
        self._notes: dict[str, str] = {}

    def show(self, event: dict) -> None:
        from tqdm import tqdm

        if self._bar is None:
            every = {"dynamic_ncols": True, "mininterval": refresh_seconds()}
            self._bar = tqdm(total=event["total_steps"], desc="training", unit="step", **every)
        if event["train_loss"] is not None:  # an evaluation may come before the first log entry
            self._notes["loss"] = f"{event['train_loss']:.4f}"
        self._notes["items/s"] = f"{event['items_per_s']:,.0f}"
        if "mfu" in event:
            self._notes["MFU"] = f"{event['mfu']:.0%}"
        for group, scores in event.get("eval", {}).items():
            if "/" not in group:
                self._notes[group] = f"{scores['answer_accuracy']:.2f}"
        self._bar.set_postfix(self._notes, refresh=False)
        self._bar.update(event["step"] - self._bar.n)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()


def refresh_seconds() -> float:
    """How often a progress bar on stderr is drawn: seldom in a log file, where each is a line."""
    return 0.2 if sys.stderr.isatty() else 30.0


@contextlib.contextmanager
def progress_bar() -> Iterator[Callable[[float, str], None]]:
    """A function that draws on stderr what is done, and what share of it, once it took two seconds.

    It is called with the share, 0 to 1, and a few words.
    """
    from tqdm import tqdm

    layout = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining}"
    look = {"bar_format": layout, "leave": False, "dynamic_ncols": True}
    with tqdm(total=1.0, delay=2, mininterval=refresh_seconds(), **look) as bar:

        def show(share: float, what: str) -> None:
            bar.set_description_str(what, refresh=False)
            bar.update(share - bar.n)

        yield show


def over_worlds(worlds: Sequence[tuple], name: str, find: Callable[..., object], told: str) -> None:
    """Call ``find(*world, tell)`` for each world, with a progress bar on stderr.

    ``name`` is a format of a world's parts, ``told`` one of what ``find`` calls ``tell`` with.
    """
    from tqdm import tqdm

    live = sys.stderr.isatty()  # in a log file every refresh is a line
    with tqdm(worlds, unit="world", dynamic_ncols=True, mininterval=refresh_seconds()) as bar:

        def tell(*what: object) -> None:
            bar.set_postfix_str(told.format(*what), refresh=live)

        for world in bar:
            bar.set_description(name.format(*world), refresh=live)
            find(*world, tell)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Text in aligned columns, the first to the left and the others to the right."""
    columns = []
    for i, column in enumerate(zip(header, *rows, strict=True)):
        width = max(map(len, column))
        columns.append([cell.rjust(width) if i else cell.ljust(width) for cell in column])
    return "\n".join("  ".join(line) for line in zip(*columns, strict=True))
