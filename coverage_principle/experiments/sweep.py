"""Many runs in one folder: what is known is not done again, whoever asks for it."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path

from coverage_principle.data import write_json
from coverage_principle.experiments.execution import NOTES, SETTINGS, Progress, Workplace, noted
from coverage_principle.experiments.ledger import Ledger
from coverage_principle.experiments.settings import RunSettings, StageCommand
from coverage_principle.experiments.stages import STAGES, Stage, dataset_in
from simpletransformers.seq2seq.run_folder import RunFolder


class Sweep:
    """Runs in ``root``, carried out by ``launcher``, their records in its ledger.

    A run that is done is not run again; one that failed is only with ``retry_failed``.
    """

    def __init__(self, root: Path, launcher, *, retry_failed: bool = False) -> None:
        self.root, self.launcher, self.retry_failed = Path(root), launcher, retry_failed
        self.ledger, self._place = Ledger(self.root), Workplace(self.root)
        self._guard = threading.Lock()
        self._asked: dict[str, Future] = {}
        self._lost: set[str] = set()  # runs that are done but for lost files

    def submit(self, run: RunSettings) -> Future:
        """The run's record, at once if it is known, else when it is done and in the ledger."""
        return self.submit_all([run])[0]

    def submit_all(self, runs: Sequence[RunSettings]) -> list[Future]:
        """The same for several, which a cluster gets as one job array."""
        with self._guard:
            fresh = []
            for run in {run.id: run for run in runs if run.id not in self._asked}.values():
                if (known := self._known(run)) is None:
                    fresh.append(run)
                else:
                    self._asked[run.id] = Future()
                    self._asked[run.id].set_result(known)
            for run in fresh:
                if not (self.folder(run) / SETTINGS).exists():
                    self._place.note(run)
            futures = self.launcher.submit_all(fresh) if fresh else []
            for run, future in zip(fresh, futures, strict=True):
                self._asked[run.id] = self._noted(future)
            return [self._asked[run.id] for run in runs]

    def run(self, settings: RunSettings) -> dict:
        """Carry out one run; its record. ``Interrupted`` if it was stopped from outside."""
        return self.submit(settings).result()

    def folder(self, run: RunSettings) -> Path:
        return self._place.run_folder(run)

    def dataset(self, run: RunSettings) -> Path:
        """A run's data set, once it has been generated."""
        return dataset_in(self._place.shared_folder(run))

    def outputs(self, run: RunSettings, stage: str) -> list[Path]:
        return STAGES[stage].outputs(self._folder_of(run, STAGES[stage]))

    def log(self, run: RunSettings, stage: str) -> Path:
        return self._folder_of(run, STAGES[stage]) / "logs" / f"{stage}.log"

    def history(self, run: RunSettings) -> list[dict]:
        """The evaluations of a run's training; ``InputError`` if there are none."""
        return RunFolder(self.folder(run) / "model").evaluations()

    def commands(self, run: RunSettings) -> Iterator[StageCommand]:
        return run.commands(self.folder(run), self._place.shared_folder(run))

    def forget_lost(self, runs: Sequence[RunSettings]) -> None:
        """Have stages carried out whose output is not there, done before or not, and only these."""
        for run in runs:
            for stage in run.stages():
                folder = self._folder_of(run, stage)
                if stage.outputs(folder):
                    continue
                self._lost.add(run.id)
                if (done := noted(folder)).pop(stage.name, None) is not None:
                    write_json(folder / NOTES, done)

    def tally(self) -> dict[str, int]:
        """How many of the runs asked for are ``done``, ``failed``, ``interrupted`` and ``open``."""
        counts = dict.fromkeys(("done", "failed", "interrupted", "open"), 0)
        for future in list(self._asked.values()):
            if not future.done():
                counts["open"] += 1
            elif future.cancelled() or future.exception() is not None:
                counts["interrupted"] += 1
            else:
                counts[future.result()["status"]] += 1
        return counts

    def progress(self) -> list[tuple[Progress, str]]:
        """The runs under way, each with how far its training is, in words."""
        return [(p, self._training(p.run)) for p in self.launcher.running()]

    def _folder_of(self, run: RunSettings, stage: Stage) -> Path:
        return self._place.shared_folder(run) if stage.shared else self.folder(run)

    def _training(self, run: RunSettings) -> str:
        events = RunFolder(self.folder(run) / "model").events()
        if not events:
            return ""
        total = run.train.get("max_steps")
        words = f"step {events[-1]['step']:,}" + (f" of {total:,}" if total else "")
        scores = next((e["eval"] for e in reversed(events) if "eval" in e), {})
        found = scores.get("type_0")
        return f"{words}, type_0 {found['answer_accuracy']:.2f}" if found else words

    def _known(self, run: RunSettings) -> dict | None:
        """A record that makes the run unnecessary."""
        record = self._place.record(run) or self.ledger.records.get(run.id)
        again = record is None or (record["status"] == "failed" and self.retry_failed)
        if again or run.id in self._lost:
            return None
        self.ledger.add(record)  # a runner may have died between the two files
        return record

    def _noted(self, future: Future) -> Future:
        """The same, done once the ledger has it: callbacks come after whoever waits is woken."""
        whole: Future = Future()

        def note(done: Future) -> None:
            try:
                record = done.result()
                self.ledger.add(record)
            except BaseException as stopped:
                whole.set_exception(stopped)
            else:
                whole.set_result(record)

        future.add_done_callback(note)
        return whole
