"""Imported only by the server that commands are forked from; it keeps the server alive.

SLURM, like a shell, sends a signal to every process of a job. A server that dies of it could no
longer tell how its commands ended, and a command would lose its state to a signal (SIGUSR2) that
was meant for the process that started it. ``start_command`` sets a command's own handlers.
"""

import os
import signal

_SERVER = os.getpid()


def _pass_over(number: int, _frame: object) -> None:
    if os.getpid() != _SERVER and number != signal.SIGUSR2:
        # A command that was forked a moment ago: it ends as it would without a handler.
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)


for _number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
    signal.signal(_number, _pass_over)
