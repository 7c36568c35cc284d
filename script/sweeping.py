"""What the commands that start many runs share: launcher flags, the live table, how they end."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path

from coverage_principle.cli import positive

#: Without a terminal, a summary line this often.
_LINE_S = 30


def launcher_flags(parser: argparse.ArgumentParser, kinds: tuple[str, ...]) -> None:
    """``--launcher`` and what belongs to it."""
    add = parser.add_argument
    add(
        "--launcher",
        choices=kinds,
        default="local",
        help="local: processes on this machine; slurm: job arrays of a cluster (needs submitit)"
        + ("; print: only show the commands" if "print" in kinds else ""),
    )
    add(
        "--jobs",
        type=positive,
        default=None,
        help="runs at a time (default, local: one a GPU or core; slurm: 16)",
    )
    add(
        "--gpus",
        default="",
        metavar="LIST",
        help="local: GPUs to deal out, such as 0,1; with more --jobs, runs share a GPU",
    )
    add(
        "--slurm",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="option of submitit for the jobs, such as slurm_partition=gpu, timeout_min=120, "
        "slurm_gres=gpu:1; may be given several times",
    )
    add(
        "--cluster",
        choices=("slurm", "local"),
        default="slurm",
        help="with --launcher slurm: local runs its jobs as processes here, to try it out",
    )
    add("--retry_failed", action="store_true", help="also run what failed before")


def make_launcher(arguments: argparse.Namespace, root: Path):
    """The launcher that the flags ask for, working in ``root``."""
    import os

    from coverage_principle.errors import InputError
    from coverage_principle.experiments import LocalLauncher, SlurmLauncher

    gpus = [gpu.strip() for gpu in arguments.gpus.split(",") if gpu.strip()]
    if arguments.launcher == "local":
        jobs = arguments.jobs or len(gpus) or os.cpu_count() or 1
        return LocalLauncher(root, jobs, gpus=gpus)
    options = {}
    for text in arguments.slurm:
        key, equals, value = text.partition("=")
        if not (key and equals):
            raise InputError(f"--slurm {text} is not of the form KEY=VALUE")
        options[key] = int(value) if value.isdecimal() else value
    return SlurmLauncher(root, arguments.jobs or 16, options=options, cluster=arguments.cluster)


@contextmanager
def sweeping(arguments: argparse.Namespace, root: Path) -> Iterator:
    """A ``Sweep`` in ``root``; left in order: what runs is interrupted on an error or a signal."""
    from coverage_principle.experiments import Sweep

    def interrupt(*_) -> None:
        raise KeyboardInterrupt

    launcher = make_launcher(arguments, root)
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield Sweep(root, launcher, retry_failed=arguments.retry_failed)
    except BaseException:
        if launcher.running():
            print("\nstopping; what is trained so far is kept", file=sys.stderr, flush=True)
        launcher.close(cancel=True)
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
    launcher.close()


def interruptions() -> tuple[type[Exception], ...]:
    """For ``cli.run``: a run that was stopped from outside is said in a sentence."""
    from concurrent.futures import CancelledError

    from coverage_principle.experiments import Interrupted

    return (Interrupted, CancelledError)


def watch(sweep, work: Callable[[], object]) -> object:
    """Do ``work`` beside a table of the runs, and return what it returns.

    The table is redrawn on a terminal; elsewhere there is a line now and then.
    """
    outcome: Future = Future()

    def carry_out() -> None:
        try:
            outcome.set_result(work())
        except BaseException as error:
            outcome.set_exception(error)

    # A daemon: after Ctrl-C nobody waits for work that waits for runs.
    threading.Thread(target=carry_out, daemon=True).start()
    started = time.monotonic()
    screen = Screen() if sys.stderr.isatty() else None
    last = 0.0
    while not outcome.done():
        if screen:
            screen.draw(table_lines(sweep, started))
        elif time.monotonic() - last > _LINE_S:
            last = time.monotonic()
            print(" | ".join(table_lines(sweep, started)), file=sys.stderr, flush=True)
        time.sleep(0.5)
    if screen:
        screen.draw([])
    print(table_lines(sweep, started)[0], file=sys.stderr, flush=True)
    return outcome.result()


def table_lines(sweep, started: float) -> list[str]:
    """One line for the sweep, one for each run under way."""
    now = time.monotonic()
    tally = sweep.tally()
    parts = [f"{count:,} {name}" for name, count in tally.items() if count or name == "done"]
    lines = [f"{', '.join(parts)}; {duration(now - started)}"]
    for progress, training in sweep.progress():
        shown = progress.stage.startswith(("train", "job "))  # a job may be at any stage
        words = progress.stage + (f" {training}" if training and shown else "")
        run, since = progress.run, duration(now - progress.started)
        lines.append(f"  {run.id}  {run.label}: {words} ({since})")
    return lines


def duration(seconds: float) -> str:
    """``75`` as ``1:15``, ``3675`` as ``1:01:15``."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


class Screen:
    """Lines at the bottom of a terminal, drawn over each other."""

    def __init__(self) -> None:
        self._height = 0

    def draw(self, lines: list[str]) -> None:
        import shutil

        size = shutil.get_terminal_size()
        shown = [line[: size.columns - 1] for line in lines[: max(1, size.lines - 2)]]
        back = f"\x1b[{self._height}F" if self._height else ""
        sys.stderr.write(back + "\x1b[J" + "".join(f"{line}\n" for line in shown))
        sys.stderr.flush()
        self._height = len(shown)
