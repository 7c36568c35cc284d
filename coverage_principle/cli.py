"""The frame around every command: ``--debug``, logging, and refusals in one sentence.

A command file holds a parser and a ``main(arguments)``; it ends with ``run(build_parser(), main)``.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable, Sequence

from coverage_principle.errors import InputError

#: Loggers of libraries whose notes help nobody who runs a command.
_CHATTER = ("matplotlib", "fontTools", "PIL", "urllib3", "filelock", "asyncio", "torch")


def run(
    parser: argparse.ArgumentParser,
    main: Callable[[argparse.Namespace], object],
    argv: Sequence[str] | None = None,
    *,
    refusals: Callable[[], tuple[type[Exception], ...]] = tuple,
) -> None:
    """Parse ``argv``, call ``main`` and leave the process with the right status.

    Usage errors exit with 2 (argparse). An ``InputError``, an ``OSError`` or ``MemoryError`` (the
    machine's limits, no bug of ours) or one of the exception types that ``refusals()`` returns (a
    function, so that a command can name a type of a package that it imports only after parsing)
    prints one sentence to stderr and exits with 1; with ``--debug`` the traceback is shown as well.
    Ctrl-C exits with 130. Any other exception is a bug of ours and keeps its traceback.
    """
    if not any("--debug" in action.option_strings for action in parser._actions):
        parser.add_argument("--debug", action="store_true", help="debug log and full tracebacks")
    arguments = parser.parse_args(argv)
    logging.basicConfig(
        level=logging.DEBUG if arguments.debug else logging.INFO,
        format="%(levelname)s %(name)s: %(message)s" if arguments.debug else "%(message)s",
        stream=sys.stderr,
    )
    for name in _CHATTER:
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        main(arguments)
    except KeyboardInterrupt:
        parser.exit(130, "interrupted\n")
    except BrokenPipeError:
        # The reader of our output (head, less) has left: not an error, and nothing more to say.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        parser.exit(0)
    except (InputError, OSError, MemoryError, *refusals()) as error:
        if arguments.debug:
            raise
        parser.exit(1, f"{parser.prog}: error: {_sentence(error)}\n")


def positive(text: str) -> int:
    """For ``type=``: an integer of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not an integer of at least 1")
    return int(text)


def integers(low: int) -> Callable[[str], list[int]]:
    """For ``type=``: integers of at least ``low``, separated by commas, each once."""

    def parse(text: str) -> list[int]:
        parts = [part.strip() for part in text.split(",")]
        if not all(part.isdecimal() and int(part) >= low for part in parts):
            raise argparse.ArgumentTypeError(
                f"{text} is not a list of integers of at least {low}, such as {low},{low + 1}"
            )
        return list(dict.fromkeys(map(int, parts)))

    return parse


def refresh_seconds() -> float:
    """How often a progress bar on stderr is drawn: now and then where that is a log file.

    There, every refresh is a line.
    """
    return 0.2 if sys.stderr.isatty() else 30.0


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Text in aligned columns, the first to the left and the others to the right."""
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in (header, *rows)
    )


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        where = f": {error.filename}" if error.filename else ""
        return f"{error.strerror}{where}"
    if isinstance(error, MemoryError):
        return f"this does not fit into memory ({error or 'no details'}); ask for something smaller"
    return str(error)
