"""What a finished training run leaves for a reader: curves and a card, beside its checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from coverage_principle.data import write_text
from coverage_principle.reporting.html import as_markdown
from coverage_principle.reporting.scores import score_note, score_rows
from coverage_principle.reporting.training_figures import (
    accuracy_by_k,
    k_cutoff_curves,
    type_curves,
)
from simpletransformers.seq2seq import architectures
from simpletransformers.seq2seq.args import Seq2SeqArgs
from simpletransformers.seq2seq.run_folder import FINAL, RunFolder
from simpletransformers.settings import fields_of
from simpletransformers.words import counted

_CARD = Path(__file__).with_suffix(".txt")


def write_run_card(run: Path, ended: str, answers: int) -> list[Path]:
    """Write ``README.md``, ``curves.png`` and, with k-cutoffs, ``k_cutoff_curves.png`` into a run.

    ``ended`` says in words how the run ended; ``answers`` is how many tokens an answer can be,
    which sets the chance level of the curves.
    ``InputError`` if the run holds no evaluation.
    """
    history, config = RunFolder(run).evaluations(), RunFolder(run).settings()
    last = history[-1]
    types = [group for group in last["eval"] if "/" not in group]
    chance, name = 1 / answers, run.name
    options = {"chance": chance, "types": types, "names": type_names(config)}
    figures = type_curves({name: history}, run / "curves.png", **options)
    if accuracy_by_k(last["eval"]):
        figures += k_cutoff_curves({name: history}, run / "k_cutoff_curves.png", chance=chance)
    card = run / "README.md"
    write_text(
        card, _text(config, last, ended, answers, [f for f in figures if f.suffix == ".png"])
    )
    return [card, *figures]


def _text(config: Mapping, last: Mapping, ended: str, answers: int, figures: list[Path]) -> str:
    args, count = config["args"], config["processes"]
    shown = [n for n, (_, s) in fields_of(Seq2SeqArgs).items() if s.on_card and n in args]
    header, rows = score_rows(last["eval"], type_names(config))
    scores = [f"| {' | '.join(header)} |", "|---" * len(header) + "|"]
    scores += [f"| {' | '.join([as_markdown(group), *cells])} |" for group, *cells in rows]
    loading, code = _loading(config)
    steps = f"{counted(last['step'], 'step')} ({last['epoch']:g} epochs)"
    return _CARD.read_text(encoding="utf-8").format(
        name=as_markdown(config.get("dataset", {}).get("name", "A run")),
        size=f"{counted(config['parameters'], 'parameter')}, {steps}",
        ended=as_markdown(ended),
        place=f"{config['device']}, {counted(count, 'process', 'processes')}",
        versions=", ".join(f"{package} {v}" for package, v in config["versions"].items()),
        scores="\n".join([*scores, "", as_markdown(score_note(answers))]),
        settings="\n".join(f"| {name} | {as_markdown(args[name])} |" for name in shown),
        loading=loading,
        code=code,
        figures="\n".join(f"![{f.stem.replace('_', ' ')}]({f.name})" for f in figures),
    )


def type_names(config: Mapping) -> Mapping[str, str]:
    """What a run's types are called, with words, by what it recorded; runs of old recorded none."""
    return config.get("dataset", {}).get("types", {})


def _loading(config: Mapping) -> tuple[str, str]:
    """How the run's model is loaded, in words and in Python."""
    own, args = config.get("model_type") == architectures.OF_FILE, config["args"]
    switched = [name for name in architectures.switches() if args.get(name)]
    if args.get("loops", 1) > 1 and "add_recurrence" not in switched:
        switched.insert(0, "loops")
    if own or switched:
        names = " and ".join(f"`{name}`" for name in switched)
        words = f"transformers alone would load the model without {names}. Load it with this code"
        if own:
            words = f"Loading the model runs its own code, `{FINAL}/model_file.py`: use this"
        code = "from simpletransformers.seq2seq.architecture import load_model\n"
        code += "from transformers import AutoTokenizer\n\n"
        code += f'model = load_model("{FINAL}"{", trust_code=True" if own else ""})\n'
    else:
        words = "Load the model and its tokenizer with transformers alone"
        code = "from transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
        code += f'model = AutoModelForCausalLM.from_pretrained("{FINAL}")\n'
    return words, code + f'tokenizer = AutoTokenizer.from_pretrained("{FINAL}")'
