"""What a finished training run leaves for a reader: curves and a card, beside its checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from coverage_principle.data import write_text
from coverage_principle.reporting.training_figures import (
    accuracy_by_k,
    k_cutoff_curves,
    type_curves,
)
from simpletransformers.seq2seq.args import Seq2SeqArgs
from simpletransformers.seq2seq.run_folder import RunFolder
from simpletransformers.settings import fields_of


def write_run_card(run: Path, ended: str, num_tokens: int) -> list[Path]:
    """Write ``README.md``, ``curves.png`` and, with k-cutoffs, ``k_cutoff_curves.png`` into a run.

    ``ended`` says in words how the run ended; ``num_tokens`` sets the chance level of the curves.
    ``InputError`` if the run holds no evaluation.
    """
    history, config = RunFolder(run).evaluations(), RunFolder(run).settings()
    last = history[-1]
    types = [group for group in last["eval"] if "/" not in group]
    chance, name = 1 / num_tokens, run.name
    figures = type_curves({name: history}, run / "curves.png", chance=chance, types=types)
    if accuracy_by_k(last["eval"]):
        figures += k_cutoff_curves({name: history}, run / "k_cutoff_curves.png", chance=chance)
    card = run / "README.md"
    write_text(card, _text(config, last, ended, [f for f in figures if f.suffix == ".png"]))
    return [card, *figures]


def _text(config: Mapping, last: Mapping, ended: str, figures: list[Path]) -> str:
    dataset, versions = config.get("dataset", {}), config["versions"]
    shown = [name for name, (_, s) in fields_of(Seq2SeqArgs).items() if s.on_card]
    names = [n for n in next(iter(last["eval"].values())) if n != "n"]
    lines = [
        f"# {dataset.get('name', 'A run')}",
        "",
        f"{config['parameters']:,} parameters, {last['step']:,} steps ({last['epoch']:g} epochs); "
        f"{ended}. On {config['device']}, {config['processes']} process"
        f"{'es' if config['processes'] > 1 else ''}; "
        + ", ".join(f"{package} {version}" for package, version in versions.items())
        + ".",
        "",
        f"| group | n | {' | '.join(names)} |",
        "|---" * (len(names) + 2) + "|",
        *(
            f"| {group} | {scores['n']:,} | {' | '.join(f'{scores[n]:.4f}' for n in names)} |"
            for group, scores in last["eval"].items()
        ),
        "",
        "| setting | value |",
        "|---|---|",
        *(f"| {key} | {config['args'][key]} |" for key in shown if key in config["args"]),
        "",
        *(f"![{figure.stem.replace('_', ' ')}]({figure.name})" for figure in figures),
        "",
        "Load with `GPT2LMHeadModel.from_pretrained` and `AutoTokenizer.from_pretrained` from",
        "`final_checkpoint/`; every event of the run is in `metrics.jsonl`, the data set's hashes",
        "in `run_config.json`.",
    ]
    return "\n".join(lines) + "\n"
