"""Running a pipeline of commands: shows each, skips what is done, notices what became stale."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from coverage_principle.data import read_json, write_json
from coverage_principle.errors import InputError
from coverage_principle.paths import repository_root


@dataclass(frozen=True)
class Stage:
    """One command of the pipeline.

    ``command`` is a Python script and its arguments; ``output`` a file or folder that exists once
    it is done; ``after`` the names of the stages that it reads from.
    """

    name: str
    command: tuple[str, ...]
    output: Path
    after: tuple[str, ...] = ()

    def shown(self) -> str:
        return "python " + shlex.join(self.command)


class Pipeline:
    """Runs stages from the repository root and remembers in ``folder/stages.json`` what is done.

    A stage is done if its output exists and it was made by the same command, by the same stages
    before it. Anything else is run (again).
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._record = folder / "stages.json"
        self._done: dict[str, dict] = read_json(self._record) if self._record.exists() else {}
        self._keys: dict[str, str] = {}

    def run(self, stage: Stage) -> None:
        """Run one stage with its output on the terminal; ``InputError`` if it fails."""
        self.run_together([stage], {})

    def run_together(
        self,
        stages: Sequence[Stage],
        progress: Mapping[str, Callable[[], tuple[int, int, str]]],
    ) -> None:
        """Run stages side by side, sharing the cores; their output goes to log files.

        ``progress`` gives for a stage's name a function that returns (done, total, note), drawn as
        a live bar (on a terminal) or a line now and then. A single stage without progress writes
        to the terminal.
        """
        waiting = [stage for stage in stages if not self._is_done(stage)]
        for stage in stages:
            mark = "" if stage in waiting else "   (done before)"
            print(f"\n$ {stage.shown()}{mark}", flush=True)
        if not waiting:
            return
        threads = max(1, (os.cpu_count() or 1) // len(waiting))
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        started = time.monotonic()
        quiet = bool(progress)
        running = []
        for stage in waiting:
            log = self.folder / "logs" / f"{stage.name.replace(' ', '_')}.log"
            log.parent.mkdir(parents=True, exist_ok=True)
            with open(log, "w", encoding="utf-8") as file:
                process = subprocess.Popen(
                    [sys.executable, *stage.command],
                    cwd=repository_root(),
                    env=environment,
                    stdout=file if quiet else None,
                    stderr=file if quiet else None,
                )
            running.append((stage, process, log))
        try:
            if quiet:
                _watch(running, progress)
            failed = [(stage, log) for stage, process, log in running if process.wait() != 0]
        finally:
            for _, process, _ in running:
                if process.poll() is None:
                    process.terminate()  # a trainer saves its state on SIGTERM
                    process.wait()
        for stage, process, _ in running:
            if process.returncode == 0:
                seconds = round(time.monotonic() - started, 2)
                self._done[stage.name] = {"key": self._key(stage), "seconds": seconds}
        write_json(self._record, self._done)
        if failed:
            stage, log = failed[0]
            tail = log.read_text(encoding="utf-8").strip().splitlines()[-1:]
            raise InputError(
                f"the stage {stage.name!r} failed"
                + (f" (whole log: {log}): {tail[0]}" if tail else "; its message is above")
            )

    def seconds(self, name: str) -> float:
        """How long a stage took when it was run."""
        return self._done[name]["seconds"]

    def _key(self, stage: Stage) -> str:
        if stage.name not in self._keys:
            before = [self._keys[name] for name in stage.after]
            content = json.dumps([before, list(stage.command)])
            self._keys[stage.name] = hashlib.sha256(content.encode()).hexdigest()
        return self._keys[stage.name]

    def _is_done(self, stage: Stage) -> bool:
        key = self._key(stage)  # also makes the key known to the stages after this one
        return stage.output.exists() and self._done.get(stage.name, {}).get("key") == key


def _watch(running, progress) -> None:
    """Follow processes until all have ended."""
    terminal = sys.stderr.isatty()
    watched = [entry for entry in running if entry[0].name in progress]
    width = max(len(stage.name) for stage, _, _ in watched)
    bars = {
        stage.name: tqdm(
            total=progress[stage.name]()[1],
            desc=f"{stage.name:<{width}}",
            position=i,
            disable=not terminal,
            unit="step",
            dynamic_ncols=True,
        )
        for i, (stage, _, _) in enumerate(watched)
    }
    last_line = 0.0
    while True:
        active = any(process.poll() is None for _, process, _ in running)
        for name, bar in bars.items():
            done, _, note = progress[name]()
            bar.set_postfix_str(note, refresh=False)
            bar.update(done - bar.n)
        if not terminal and (time.monotonic() - last_line > 20 or not active):
            last_line = time.monotonic()
            print(
                "  "
                + "   ".join(
                    f"{name}: step {done}/{total} {note}"
                    for name, (done, total, note) in ((n, progress[n]()) for n in bars)
                ),
                flush=True,
            )
        if not active or any(process.poll() not in (None, 0) for _, process, _ in running):
            break
        time.sleep(0.5)
    for bar in bars.values():
        bar.close()
