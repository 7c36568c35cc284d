"""What the commands that start many runs share: launcher flags, the live table, how they end."""

from __future__ import annotations

import argparse
import queue
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from contextlib import contextmanager
from pathlib import Path

from coverage_principle.cli import add_settings, settings_from
from coverage_principle.experiments import LauncherSettings
from simpletransformers.settings import fields_of
from simpletransformers.words import counted

#: Without a terminal, a summary line this often.
_LINE_S = 30


def launcher_flags(parser: argparse.ArgumentParser, kinds: tuple[str, ...]) -> None:
    """``--launcher``, with one of ``kinds``, and what belongs to it."""
    about = fields_of(LauncherSettings)["launcher"][1].help
    about += "; print: no run, only its commands" if "print" in kinds else ""
    slurm = {"action": "append", "nargs": None, "default": []}
    launcher = {"choices": kinds, "help": about}
    add_settings(parser, LauncherSettings, launcher=launcher, slurm=slurm)


@contextmanager
def sweeping(arguments: object, root: Path, report: Callable | None = None) -> Iterator:
    """A ``Sweep`` in ``root``; left in order: what runs is interrupted on an error or a signal.

    ``arguments`` are ``launcher_flags``'s or the settings; ``report`` is a local launcher's.
    """
    from coverage_principle.experiments import Sweep, make_launcher

    settings = settings_from(LauncherSettings, arguments)
    launcher = make_launcher(settings, root, report)
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield Sweep(root, launcher, retry_failed=settings.retry_failed)
    except BaseException:
        if launcher.running():
            print("\nstopping; what is trained so far is kept", file=sys.stderr, flush=True)
        launcher.close(cancel=True)
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
    launcher.close()


def report_trouble(sweep, runs: Sequence, futures: Sequence[Future]) -> None:
    """Name what failed or was interrupted, and leave with status 1 if anything did."""
    trouble = []
    for one, future in zip(runs, futures, strict=True):
        if (error := future.exception()) is not None:
            trouble.append(f"interrupted: {one.id}  {one.label}: {error}")
        elif (record := future.result())["status"] == "failed":
            words = f"{record['error']} (log: {sweep.log(one, record['stage'])})"
            trouble.append(f"failed: {one.id}  {one.label}, at {record['stage']}: {words}")
    if trouble:
        print(*trouble, sep="\n", file=sys.stderr)
        retry = "" if sweep.retry_failed else " to go on, with --retry_failed for those that failed"
        sys.exit(
            f"not done: {len(trouble):,} of {counted(len(runs), 'run')}; run the command "
            f"again{retry}"
        )


def watch(sweep, work: Callable[[], object], news: queue.SimpleQueue | None = None) -> object:
    """Do ``work`` beside a table of the runs, and return what it returns.

    Lines that are put into ``news`` are printed as they come.
    """
    outcome: Future = Future()
    news = news or queue.SimpleQueue()

    def carry_out() -> None:
        try:
            outcome.set_result(work())
        except BaseException as error:
            outcome.set_exception(error)

    # A daemon: after Ctrl-C nobody waits for work that waits for runs.
    threading.Thread(target=carry_out, daemon=True).start()
    started, screen, ended = time.monotonic(), Screen(), False
    while not ended:
        ended = outcome.done()  # before the news is read, so that none is missed
        if not news.empty():
            screen.draw([])
        while not news.empty():
            print(news.get(), flush=True)
        screen.draw([] if ended else table_lines(sweep, started))
        wait([outcome], 0.5)
    print(table_lines(sweep, started)[0], file=sys.stderr, flush=True)
    return outcome.result()


def table_lines(sweep, started: float) -> list[str]:
    """One line for the sweep, one for each run under way."""
    now, tally = time.monotonic(), sweep.tally()
    parts = [f"{count:,} {name}" for name, count in tally.items() if count or name == "done"]
    lines = [f"{', '.join(parts)}; {duration(now - started)}"]
    for at, training in sweep.progress():
        shown = training and at.stage.startswith(("train", "job "))  # a job may be at any stage
        words = f"{at.stage} {training}" if shown else at.stage
        lines.append(f"  {at.run.id}  {at.run.label}: {words} ({duration(now - at.started)})")
    return lines


def duration(seconds: float) -> str:
    """``75`` as ``1:15``, ``3675`` as ``1:01:15``."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


class Screen:
    """Lines at the bottom of a terminal, drawn over each other; elsewhere, one now and then."""

    def __init__(self) -> None:
        self._height, self._last = 0, 0.0

    def draw(self, lines: list[str]) -> None:
        if not sys.stderr.isatty():
            if lines and time.monotonic() - self._last > _LINE_S:
                self._last = time.monotonic()
                print(" | ".join(lines), file=sys.stderr, flush=True)
            return
        size = shutil.get_terminal_size()
        shown = [line[: size.columns - 1] for line in lines[: max(1, size.lines - 2)]]
        back = f"\x1b[{self._height}F" if self._height else ""
        sys.stderr.write(back + "\x1b[J" + "".join(f"{line}\n" for line in shown))
        sys.stderr.flush()
        self._height = len(shown)
