"""Run one of the repository's commands in a process of its own, as ``python script arguments``.

The process is forked from a server that has imported the heavy packages already: a fresh
interpreter would spend more time on imports than many of these commands take.
"""

from __future__ import annotations

import fcntl
import gc
import multiprocessing
import os
import runpy
import signal
import sys
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from tqdm import tqdm

from coverage_principle.paths import repository_root

#: What commands import after parsing; modules and not packages, which load nothing by themselves.
PRELOADED = [
    "coverage_principle.experiments._server",
    *(f"transformers.models.auto.{name}_auto" for name in ("modeling", "tokenization")),
    "transformers.models.gpt2.modeling_gpt2",
    *(f"simpletransformers.seq2seq.{name}" for name in ("model", "training", "architectures.gpt2")),
    *(
        f"coverage_principle.circuits.{name}"
        for name in ("cluster", "interchange", "lens", "trace")
    ),
    *(f"coverage_principle.coverage.{name}" for name in ("diagnostics", "results", "summary")),
    *(f"coverage_principle.reporting.{name}" for name in ("cluster_figures", "run_card")),
    *(f"coverage_principle.reporting.{name}" for name in ("coverage_graph", "coverage_figures")),
    "coverage_principle.reporting.circuit_figures",
    "matplotlib.backends.backend_pdf",  # else loaded by the first figure, with its fonts' tools
]
#: A trainer that is asked to stop gets so long to keep its state.
_GRACE_S = 30.0
#: Held while statuses of processes are collected; see ``has_ended``.
_GUARD = threading.Lock()


def start_command(
    script: str,
    arguments: Sequence[str],
    *,
    out: Path,
    err: Path | None = None,
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
    threads: int | None = None,
    lock: Path | None = None,
) -> BaseProcess:
    """Start ``script`` (below the repository root); the started process, to be joined.

    Its output goes to the end of ``out``, and its errors to ``err`` if that is another file. With
    ``lock`` it first waits for the lock on that file, which it then holds as long as it lives: two
    processes never work in one folder. ``threads`` limits torch. If the process that started it
    dies, it is asked to stop (SIGTERM), and ended if it does not. It ignores SIGUSR2 (``_server``).
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    argv = [str(repository_root() / script), *map(str, arguments)]
    where = str(cwd or repository_root()), dict(environment or {}), threads, out, err or out, lock
    process = context.Process(target=_be_command, args=(argv, *where))
    with _GUARD:
        process.start()
    return process


def has_ended(process: BaseProcess, seconds: float = 0.0) -> bool:
    """Wait so long for a process's end, at most; whether it has ended.

    ``start`` and ``is_alive`` both collect statuses of ended processes, which can be done only
    once: of two threads that do so together, one makes it 255. So threads that start commands use
    this, and neither ``join`` nor ``is_alive``.
    """
    wait([process.sentinel], seconds)
    with _GUARD:
        return not process.is_alive()


def stop_command(process: BaseProcess) -> None:
    """Ask a process to stop, and end it if it does not within half a minute."""
    process.terminate()
    if not has_ended(process, _GRACE_S):
        process.kill()
        while not has_ended(process, _GRACE_S):
            pass


def _be_command(
    argv: list[str], cwd: str, environment: Mapping, threads: int | None, *files: Path | None
) -> None:
    gc.freeze()  # what the server imported is no garbage: no collection need go through it again
    out, err, lock = files
    for stream, file in ((sys.stdout, out), (sys.stderr, err)):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream.fileno())
    for number in (signal.SIGTERM, signal.SIGUSR1):  # not the server's any more
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    threading.Thread(target=end_with_parent, daemon=True).start()
    if lock is not None:
        held = open(lock, "w")  # noqa: SIM115 - held until the process ends
        fcntl.flock(held, fcntl.LOCK_EX)
    # Threads draw our bars, so tqdm needs no lock between processes, which would outlive this one.
    tqdm.set_lock(threading.RLock())
    os.chdir(cwd)
    os.environ.update(environment)
    if threads is not None:
        import torch

        torch.set_num_threads(threads)
    sys.argv = argv
    sys.path.insert(0, str(Path(argv[0]).parent))
    status = 1
    try:
        runpy.run_path(argv[0], run_name="__main__")
        status = 0
    except SystemExit as stop:
        if isinstance(stop.code, str):
            sys.stderr.write(f"{stop.code}\n")
        status = 1 if isinstance(stop.code, str) else int(stop.code or 0)
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # past the clean-up of the server that it was forked from


def end_with_parent() -> None:
    """Wait for the parent's death, then stop this process."""
    wait([multiprocessing.parent_process().sentinel])
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_GRACE_S)
    os._exit(1)
