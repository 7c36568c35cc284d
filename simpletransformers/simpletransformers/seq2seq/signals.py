"""Signals that ask a run to stop at its next step."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

_ASK_TO_STOP = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT, signal.SIGHUP)


class StopSignals:
    """``name`` is that of the first signal that came while listening, such as ``SIGTERM``.

    A second Ctrl-C ends a single process (``alone``) at once. Any other repetition is ignored:
    torchrun and SLURM pass on to a process what it may have been sent already, and its state must
    not be lost to that.
    """

    def __init__(self, *, alone: bool) -> None:
        self.name: str | None = None
        self._alone = alone

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Note signals instead of dying of them; the old handlers come back afterwards."""
        old = {}

        def note(number, _frame) -> None:
            self.name = self.name or signal.Signals(number).name
            if self._alone and signal.SIGINT in old:
                signal.signal(signal.SIGINT, old[signal.SIGINT])

        try:
            for number in _ASK_TO_STOP:
                if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup has it
                    old[number] = signal.signal(number, note)
        except ValueError:  # not in the main thread: the caller's own handlers stay
            old.clear()
        try:
            yield
        finally:
            for number, handler in old.items():
                signal.signal(number, handler)
