"""What the pages tell a reader to type, as one shell sees it: where it stands, and what is there.

A command is any line of a shell block, and any line of an indented block and any code within a
sentence that begins as a command does. Nothing is run here.
"""

from __future__ import annotations

import contextlib
import fnmatch
import re
import runpy
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from unittest import mock

from coverage_principle.experiments.settings import command_parser
from dataset_generation import common
from tests.conftest import ROOT

_PARTS = re.compile(r"^```(\w*)\n(.*?)^```|^    (\S[^\n]*)|`([^`\n]+)`", re.MULTILINE | re.DOTALL)
_BEGINNING = re.compile(r"(?:\$ |\()*(?:\w+=\S* )*(?:cd|python|bash|sbatch) ")
#: In a usage line, which shows what may be given and is not to be typed.
_USAGE = re.compile(r"^\[(-|more|flags|pytest)")

#: Words that stand for something of the reader's own, which the page has to explain.
OWN = {
    *("DATA_DIR", "MODEL_1.json", "MODEL_2.json", "MAP.json", "SPEC.json", "RUN", "answers.jsonl"),
    *("composition.2000.200.7.2", "data_fixed", "DIR", "my_model.py"),
}
#: Settings that name what a command reads, and what it writes.
READ = {
    *("data_dir", "model_dir", "ckpt", "predictions", "prompts", "fit", "custom_train", "sources"),
    *("spec", "sweep", "task", "dir", "model_name_or_path", "model_file", "annotated", "token_map"),
    *("id_train_file", "id_test_file", "ood_file", "run"),
}
WRITTEN = {"output_dir", "save_dir", "output", "cut_file", "export_graph", "prediction_dir"}
WRITTEN |= {"save_model"}
_RUNS = "CKPT_DIR/trained_checkpoints"
#: What training and prediction leave in their folder.
_LEFT = ("final_checkpoint", "all_items.json")
_FILE = re.compile(r"\.(json|jsonl|csv|tsv|graphml|png)$")


@dataclass(frozen=True)
class Step:
    """A command: the words that are typed, and the folder that the shell stands in."""

    words: tuple[str, ...]
    folder: Path

    def __str__(self) -> str:
        return f"{' '.join(self.words)} (in {self.folder.relative_to(ROOT)})"

    @property
    def script(self) -> Path | None:
        """The script that is started, if the command starts one of ours."""
        if self.words[0] in ("python", "bash", "sbatch") and not self.words[1].startswith("-"):
            return self.folder / self.words[1]
        return None

    @property
    def usage(self) -> bool:
        return any(_USAGE.match(word) for word in self.words)

    @property
    def target(self) -> tuple[str, tuple[str, ...]]:
        """The Python command that comes to run in the end, and its arguments."""
        name, given = self.script.resolve().relative_to(ROOT).as_posix(), self.words[2:]
        if name in ("script/train.sh", "script/train.slurm") and not self.usage:
            first = 6 if name.endswith(".sh") else 5
            return "main.py", ("--data_dir", f"data/{given[0]}", *given[first:])
        if name == "script/quickstart.sh":
            return "script/quickstart.py", tuple(word for word in given if word != "--no-install")
        return name, given

    def arguments(self):
        """What its parser makes of the arguments; None where it has none that can be had."""
        name, given = self.target
        if self.usage or not has_parser(name):
            return None
        parser = command_parser(name)
        return parser.parse_args([word for word in given if word != "--debug"])


@cache
def has_parser(name: str) -> bool:
    return name.endswith(".py") and "build_parser" in (ROOT / name).read_text(encoding="utf-8")


def lines_of(page: Path) -> Iterator[str]:
    """The lines of a page that a reader would type, in order.

    A script that a sentence names without arguments is not to be typed as it stands.
    """
    text = re.sub(r"\\\n\s*", " ", page.read_text(encoding="utf-8"))
    for language, block, indented, inside in _PARTS.findall(text):
        if language in ("bash", "sh"):
            yield from filter(None, map(str.strip, block.splitlines()))
        elif _BEGINNING.match(line := indented or inside) and (indented or line.count(" ") > 1):
            yield line.removeprefix("$ ")


def steps(page: Path) -> Iterator[Step]:
    """The commands of a page, as one shell that begins in the repository comes to them."""
    folder, outer = ROOT, []
    for line in lines_of(page):
        lexer = shlex.shlex(line, posix=True, punctuation_chars="();&|")
        lexer.whitespace_split = True
        words: list[str] = []
        for token in [*lexer, ";"]:
            if not set(token) <= set("();&|"):
                words.append(token)
                continue
            while words and re.match(r"\w+=", words[0]):
                del words[0]
            if words and words[0] == "cd":
                folder = (folder / words[1]).resolve()
                assert folder.is_dir(), f"{page.name}: {line}"
            elif words:
                yield Step(tuple(words), folder)
            words = []
            for sign in token:
                if sign == "(":
                    outer.append(folder)
                elif sign == ")":
                    folder = outer.pop()
    assert not outer, f"{page.name}: a subshell is not closed"


def is_file(name: str) -> bool:
    return bool(_FILE.search(name))


def is_path(value: str) -> bool:
    return "/" in value or is_file(value)


@cache
def kept() -> frozenset[str]:
    """The files that git keeps, and their folders."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    files = set(names.splitlines())
    return frozenset(files | {str(above) for file in files for above in Path(file).parents})


class Repository:
    """What lies in the repository after the commands so far.

    ``made`` maps names below the root, in which ``*`` stands for anything, to the words of the
    command that left them.
    """

    def __init__(self, made: dict[str, tuple[str, ...]] | None = None) -> None:
        self.made = dict(made or {})

    def holds(self, name: str) -> bool:
        return name in kept() or any(fnmatch.fnmatchcase(name, one) for one in self.made)

    def lacks(self, step: Step) -> list[str]:
        """What the command reads that is not there, and is not the reader's own."""
        arguments, lacking = step.arguments(), []
        for setting, value in values_of(arguments):
            if setting in WRITTEN or not (setting in READ or is_path(value)):
                continue
            assert setting in READ, f"{step}: is {value}, of {setting}, read or written?"
            bases = (step.folder, ROOT, ROOT / "data" if setting == "data_dir" else ROOT)
            names = {below_root(base / value) for base in bases}
            named = setting == "task" and not is_path(value) or value == "gpt2"
            if not (named or OWN & {*Path(value).parts} or any(map(self.holds, names))):
                lacking.append(value)
        return lacking

    def add(self, step: Step) -> None:
        """Note what the command leaves."""
        for name in written(step):
            before = self.made.setdefault(name, step.words[2:])
            same_data = not name.startswith("data/") or name.count("/") > 1
            assert same_data or before == step.words[2:], f"{step}: {name} holds other data already"


def values_of(arguments) -> Iterator[tuple[str, str]]:
    """Each text among the values of settings, with the setting's name."""
    for setting, value in vars(arguments).items() if arguments else ():
        for one in value if isinstance(value, (list, tuple)) else [value]:
            if isinstance(one, str):
                yield setting, one


def below_root(path: Path) -> str:
    path = path.resolve()
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else str(path)


def written(step: Step) -> list[str]:
    """Names below the root of what a command leaves, wherever it was told to or by itself."""
    name, given = step.target
    arguments = step.arguments()
    if name == "docs/tasks/vote.py":
        return [f"results/vote_{seed}.jsonl" for seed in given[1:]]
    if name == "docs/tutorial/figure.py":
        return [given[1]]
    if name.startswith("script/reproduce/"):
        return ["results/reproduce/*/README.md", "results/reproduce/*"]
    if arguments is None or getattr(arguments, "dry_run", False):
        return []
    found = [below_root(step.folder / v) for s, v in values_of(arguments) if s in WRITTEN]
    placed = getattr(arguments, "output_dir", None)
    if name.startswith("dataset_generation/"):
        return [below_root(step.folder / (placed or ROOT / "data") / data_set_name(step))]
    if name == "script/import_dataset.py":
        return [below_root(step.folder / (placed or ROOT / "data") / import_name(arguments))]
    if name == "script/quickstart.py":
        found = [placed or "results/quickstart"]
        return [*found, f"{found[0]}/runs/*/model"]
    if name == "script/run_sweep.py":
        folder = placed or f"results/sweeps/{Path(arguments.spec).stem}"
        return [folder, f"{folder}/results.jsonl"]
    if name == "circuit_analysis/cluster.py":
        return [*found, f"{found[0]}/*/vectors.npz"]
    data = Path(getattr(arguments, "data_dir", None) or "").name
    if name == "script/pattern_matcher.py":
        kind = "learner" if arguments.learner else "pattern_matcher"
        return found or [f"results/{kind}/{data}/all_items.json"]
    if name == "script/export_prompts.py":
        places = found or [f"data/{data}/prompts.jsonl"]
        return [*places, *(f"{Path(place).with_suffix('.about.json')}" for place in places)]
    if name.startswith("circuit_analysis/"):
        kinds = {"lens": "logit-lens", "probe": "probe"}
        kind = next((kind for word, kind in kinds.items() if word in name), "tracing")
        return found or [f"circuit_analysis/{kind}_results/x"]
    if name == "script/evaluate_predictions.py":
        return found or [f"results/predictions/{data}"]
    if name == "determine_coverage.py":
        return [*found, "k_sweep_results", f"data/{data}/test_annotated.json"]
    if name == "main.py":
        if step.words[0] != "python":
            run, weight_decay, layers, heads, *gpu, seed = step.words[2:8]
            if step.words[0] == "sbatch":
                run, weight_decay, layers, heads, seed = step.words[2:7]
            options = f"wd-{weight_decay}_layer-{layers}_head-{heads}_seed-{seed}"
            found = [f"{_RUNS}/{run}_{options}"]
        # Without a folder, scores are printed and nothing is left.
        return [*found, *(f"{run}/{name}" for run in found for name in _LEFT)]
    return found


def data_set_name(step: Step) -> str:
    """The name of the folder that a generator would write."""
    names: list[str] = []
    with (
        mock.patch.object(common, "generate", lambda name, *_: names.append(name)),
        contextlib.chdir(step.folder),
    ):
        scope = runpy.run_path(str(step.script))
        scope.get("main", scope.get("generator") and scope["generator"].main)(step.arguments())
    return names[0]


def import_name(arguments) -> str:
    from coverage_principle.cli import settings_from
    from coverage_principle.data.importing import IMPORTERS, folder_name

    settings = settings_from(IMPORTERS[arguments.kind].settings, arguments)
    return folder_name([ROOT / source for source in arguments.sources], settings, arguments.name)
