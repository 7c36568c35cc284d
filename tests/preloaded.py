"""Loaded by the server that the commands of tests are forked from: they take less time with it.

Cutting a font down to the letters of a PDF takes longer than all else that a small command does,
and a command that forks others (a sweep) would import everything anew for a server of its own.
Commands that run in fresh interpreters (README, quickstart) do both as users see it.
"""

from multiprocessing import forkserver

import scipy.stats  # noqa: F401 - intervals, which many commands tell

from coverage_principle.reporting import style

style._STYLE |= {"pdf.fonttype": 3}

_ensure_running = forkserver.ForkServer.ensure_running


def _ensure_some_server(server: forkserver.ForkServer) -> None:
    """Take the server that this process was forked from, if it was."""
    if server._forkserver_pid is not None or not server._forkserver_address:
        _ensure_running(server)


forkserver.ForkServer.ensure_running = _ensure_some_server
