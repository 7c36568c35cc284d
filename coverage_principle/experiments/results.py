"""What came of a sweep as flat records, for tables, figures and notebooks."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from coverage_principle.data import looking_into, read_json
from coverage_principle.errors import InputError
from coverage_principle.experiments.execution import RESULT, SETTINGS
from coverage_principle.experiments.ledger import LEDGER, check_record, read_ledger
from coverage_principle.experiments.settings import RunSettings, command_parser
from coverage_principle.experiments.spec import dotted
from coverage_principle.experiments.stages import SECTIONS
from coverage_principle.frames import frame_of
from coverage_principle.paths import find_folder
from coverage_principle.reporting.sweep_text import as_text
from simpletransformers.words import counted

if TYPE_CHECKING:
    import pandas

#: Settings that only repeat a run: what differs in nothing else is averaged.
SEEDS = ("seed", "data.seed", "train.manual_seed")

_NUMBERS = ("steps", "epochs", "train_loss", "parameters")


class Results(list):
    """The finished runs of a sweep, each a flat dictionary, in the order in which they ended.

    A record has ``run``, ``world``, ``label``, ``status`` as in ``results.jsonl`` (of a failed run
    also ``stage`` and ``error``), and

    - settings: ``task``, ``seed``, ``train.n_embd``, ...; one that only other runs name has the
      value that the commands give it
    - scores of each group of the last evaluation: ``type_0.answer_accuracy``, ``type_0.n``, ...,
      on the validation split ``valid:type_0.loss``
    - numbers of the run: ``steps``, ``epochs``, ``train_loss``, ``parameters``; ``covered.3``, the
      items covered at k = 3; ``seconds.train``, ..., ``seconds`` of each stage and of all
    - ``chance``, the accuracy of a guess, 0 to 1, where the number of answers is known

    ``file`` is the ``results.jsonl`` that was read, ``whole`` its records as they stand there, and
    ``unfinished`` maps the runs that were asked for and have not ended to their labels.
    """

    def __init__(
        self,
        records: Iterable[Mapping],
        file: Path,
        unfinished: Mapping[str, str] | None = None,
        whole: Iterable[Mapping] = (),
    ) -> None:
        super().__init__(dict(record) for record in records)
        self.file, self.unfinished, self.whole = file, dict(unfinished or {}), list(whole)

    def __repr__(self) -> str:
        counts = [f"{counted(len(self.done), 'run')} done"]
        if failed := len(self) - len(self.done):
            counts.append(f"{failed} failed")
        if self.unfinished:
            counts.append(f"{len(self.unfinished)} not finished")
        differ = ", ".join(self.varying()) or "nothing"
        return f"<Results of {self.name}: {', '.join(counts)}; they differ in {differ}>"

    @property
    def name(self) -> str:
        return self.file.resolve().parent.name

    @property
    def done(self) -> list[dict]:
        """The runs that did not fail."""
        return [record for record in self if record["status"] == "done"]

    @property
    def settings(self) -> list[str]:
        """The names of all settings that a run has."""
        return [name for name in self._keys() if is_setting(name)]

    @property
    def groups(self) -> list[str]:
        """The groups of items that any run was scored on."""
        return [name.removesuffix(".n") for name in self._keys() if name.endswith(".n")]

    @property
    def scores(self) -> list[str]:
        """The scores of these groups."""
        groups, pairs = {*self.groups}, (name.rpartition(".") for name in self._keys())
        return list(dict.fromkeys(s for group, _, s in pairs if group in groups and s != "n"))

    @property
    def numbers(self) -> list[str]:
        """The numbers that a run has one of, and that are neither settings nor scores."""
        whole = (*_NUMBERS, "seconds")
        return [n for n in self._keys() if n in whole or n.startswith(("seconds.", "covered."))]

    def varying(self) -> list[str]:
        """The settings that differ between runs; ``seed`` stands for those of data and training."""
        values = {name: {as_text(r.get(name)) for r in self} for name in self.settings}
        return [name for name, found in values.items() if len(found) > 1 and name not in SEEDS[1:]]

    def to_records(self) -> list[dict]:
        """The runs as plain dictionaries."""
        return [dict(record) for record in self]

    def to_frame(self) -> pandas.DataFrame:
        """A row for each run. ``InputError`` if pandas is not installed."""
        return frame_of(self.to_records())

    def _keys(self) -> list[str]:
        return list(dict.fromkeys(name for record in self for name in record))


def read_results(sweep: str | Path) -> Results:
    """The finished runs of a sweep's folder, or of its ``results.jsonl``; a run's last line counts.

    A sweep may still be under way. ``InputError`` if there are no results.
    """
    file = Path(sweep)
    if file.is_file() and file.suffix != ".jsonl":
        raise InputError(f"`sweep` {sweep} is no {LEDGER}; give the sweep's folder, or that file")
    if not file.is_file():
        file = find_folder(sweep, "sweep") / LEDGER
    if not file.is_file():
        raise InputError(f"`sweep` {sweep} holds no {LEDGER}: it is not the folder of a sweep")
    records, unfinished = read_ledger(file), {}
    for settings in sorted((file.parent / "runs").glob(f"*/{SETTINGS}")):
        run = settings.parent.name
        if run in records:
            continue
        # A runner that was killed may have left a run's own record only.
        own = settings.with_name(RESULT)
        if own.exists():
            records[run] = read_json(own, dict)
            with looking_into(own, "a run's record"):
                check_record(records[run])
        else:
            unfinished[run] = str(read_json(settings, dict).get("label", run))
    if not records:
        waiting = f"; not finished: {counted(len(unfinished), 'run')}" if unfinished else ""
        raise InputError(f"{file} holds no finished run yet{waiting}")
    whole = list(records.values())
    with looking_into(file, "the results of a sweep"):
        return Results(_complete(whole), file, unfinished, whole)


def is_setting(name: str) -> bool:
    """Whether a key of a flat record is a setting of the run."""
    return name in ("task", "seed") or name.partition(".")[0] in SECTIONS and "." in name


def chance_of(about: Mapping[str, object]) -> float:
    """The chance level of a run's answers, by what it records of its data set; 0: not known.

    ``about`` has ``answers``, how many there are, or the ``name`` of the data set: runs of earlier
    versions record no number, but the name of a generated set tells it.
    """
    answers = about.get("answers")
    if answers is None:
        answers = next(iter(re.findall(r"^[^.]+\.(\d+)\.", str(about.get("name")))), 0)
    return 1 / int(answers) if str(answers).isdecimal() and int(answers) else 0.0


def _complete(records: list[Mapping]) -> list[dict]:
    """Flat records, with the defaults of settings that only some runs name."""
    rows = [_flat(record) for record in records]
    names = dict.fromkeys(name for row in rows for name in row if is_setting(name))
    for row, record in zip(rows, records, strict=True):
        if missing := names.keys() - row.keys():
            given = _as_commands_take_it(record["settings"])
            row |= {name: given[name] for name in names if name in missing and name in given}
    return rows


def _flat(record: Mapping) -> dict[str, object]:
    settings, about = record["settings"], ("run", "world", "label", "status", "stage", "error")
    row = {key: record[key] for key in about if key in record}
    row["task"], row["seed"] = settings["task"], _seed(settings)
    row |= {name: value for name, value in dotted(settings).items() if "." in name}
    row |= {name: record[name] for name in ("dataset", *_NUMBERS) if record.get(name) is not None}
    if chance := chance_of({"name": record.get("dataset"), "answers": record.get("answers")}):
        row["chance"] = chance
    for mark, kind in (("", "scores"), ("valid:", "valid")):
        for group, scores in record.get(kind, {}).items():
            row |= {f"{mark}{group}.{name}": value for name, value in scores.items()}
    row |= {f"covered.{k}": covered for k, (covered, _) in (record.get("k_sweep") or {}).items()}
    row |= {f"seconds.{stage}": taken for stage, taken in record["seconds"].items()}
    return row | {"seconds": sum(record["seconds"].values()), "ended": record.get("ended")}


def _seed(settings: Mapping) -> object:
    """The seed of data and training; both as ``42/7`` where they differ."""
    of_data = settings["data"].get("seed", 42)
    of_training = (settings["train"] or {}).get("manual_seed", of_data)
    return of_data if of_data == of_training else f"{of_data}/{of_training}"


def _as_commands_take_it(settings: Mapping) -> dict[str, object]:
    """Every flag of a run's commands, as ``train.n_embd``, with its value; none if they refuse."""
    found = {}
    try:
        for command in RunSettings(**settings).commands(Path("f"), Path("w")):
            stage, parser = command.stage, command_parser(command.script)
            where = f"analyse.{stage.name}" if stage.section == "analyse" else stage.section
            values = vars(parser.parse_args(command.arguments))
            for action in parser._actions:
                for flag in action.option_strings:
                    found[f"{where}.{flag.lstrip('-')}"] = values.get(action.dest)
    except (InputError, TypeError):  # a record of another version
        return {}
    return found
