"""The items of a data set as prompts for language models, with shots inside or outside coverage.

``docs/prompts.md`` has the fields of a line.
"""

from __future__ import annotations

import json
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from coverage_principle.coverage.evidence import parse_slot_sets
from coverage_principle.coverage.shots import ShotDrawer
from coverage_principle.data import (
    ANNOTATED,
    Dataset,
    PromptSettings,
    Split,
    Template,
    alphabet_tokens,
    annotated_records,
    dump_json,
    item_tokens,
    token_names,
    write_together,
)
from coverage_principle.errors import InputError
from coverage_principle.reprs import one_line
from simpletransformers.words import counted


@dataclass(frozen=True)
class Prompts:
    """``lines`` of the file, ``names`` of the tokens, and how many items were ``left_out`` by type.

    Left out are items for which no shots were found that are inside or outside as asked for.
    """

    dataset: Dataset
    settings: PromptSettings
    lines: list[dict]
    names: dict[str, str]
    left_out: Counter[str]

    __repr__ = one_line


def make_prompts(dataset: Dataset, settings: PromptSettings) -> Prompts:
    """Turn the items of a split into prompts.

    An item's shots depend on the seed and on the item, not on what else is turned into prompts.
    ``InputError`` if template, names, split, types, fragments or the number of shots do not fit the
    data set, or no item is left.
    """
    graph, train = dataset.graph, dataset.train
    template = Template.parse(settings.template, graph, cot=settings.cot)
    split, types = _items(dataset, settings)
    names = token_names(alphabet_tokens(dataset), settings.names, settings.seed)
    cutoffs = _cutoffs(dataset, settings.split)
    queried, trained = (item_tokens(dataset, one, cot=settings.cot) for one in (split, train))
    drawer = _drawer(dataset, settings)

    def turn(tokens: dict[str, str]) -> tuple[str, str]:
        return template.fill({slot: names[token] for slot, token in tokens.items()})

    lines, made, left_out = [], Counter(), Counter()
    for row, kind in enumerate(split.types.tolist()):
        wanted = not types or kind in types
        if not wanted or made[kind] == settings.max_items:
            continue
        text = split.records[row]["input_text"].encode()
        rng = np.random.default_rng([settings.seed, zlib.crc32(text)])
        drawn = drawer.draw(split.inputs[row], int(split.answers[row]), rng)
        if drawn is None:
            left_out[kind] += 1
            continue
        made[kind] += 1
        (shots, shots_cutoff), tokens = drawn, queried(row)
        turns = [*(turn(trained(shot)) for shot in shots.tolist()), turn(tokens)]
        answer = tokens[graph.answer]
        line = {"id": int(split.numbers[row]), "type": kind or None, "k_cutoff": cutoffs[row]}
        line |= _layout(turns, chat=settings.chat)
        line |= {"tokens": tokens, "answer": answer, "answer_name": names[answer]}
        if settings.shots:
            line |= {"shots": train.numbers[shots].tolist(), "shots_k_cutoff": shots_cutoff}
        lines.append(line)
    if not lines:
        asked = f"`inside` {settings.inside}" if settings.inside else "`outside`"
        raise InputError(
            f"{asked}: no such shots were found for any of {counted(left_out.total(), 'item')} of "
            f"{settings.split}.json"
        )
    return Prompts(dataset, settings, lines, names, left_out)


def write_prompts(prompts: Prompts, path: Path) -> list[Path]:
    """Write the lines to ``path``, and beside it what they were made from; both or none."""
    about = about_file(path)
    settings = asdict(prompts.settings)
    del settings["output"]
    source = {
        "data_set": prompts.dataset.name,
        "sha256": prompts.dataset.digests,
        "settings": settings,
        "left_out": dict(prompts.left_out),
        "names": prompts.names,
    }
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in prompts.lines)
    write_together({about: dump_json(source), path: text})
    return [path, about]


def about_file(path: Path) -> Path:
    """Where ``write_prompts`` writes what the prompts at ``path`` were made from."""
    return path.with_suffix(".about.json")


def _items(dataset: Dataset, settings: PromptSettings) -> tuple[Split, Sequence[str]]:
    """The split whose items are asked for, and which types; none given: all."""
    name = f"{settings.split}.json"
    split = dataset.splits.get(name)
    if split is None or len(split) == 0:
        raise InputError(f"`split` {settings.split}: {dataset.path} has no compositions in {name}")
    present = sorted(set(split.types.tolist()))
    for kind in settings.test_types:
        if kind not in present:
            lack = f"{name} of {dataset.name} has no such type; it has {', '.join(present)}"
            raise InputError(f"`test_types` {kind}: {lack}")
    return split, settings.test_types


def _drawer(dataset: Dataset, settings: PromptSettings) -> ShotDrawer:
    train = dataset.train
    return ShotDrawer(
        *(train.inputs, train.answers, dataset.slot_sizes),
        parse_slot_sets(settings.fragments, dataset.graph.inputs),
        count=settings.shots,
        inside=settings.inside,
        outside=settings.outside,
    )


def _cutoffs(dataset: Dataset, split: str) -> list[int | None]:
    """The k-cutoffs of a split's items where the coverage stage has determined them."""
    if split != "test" or not (dataset.path / ANNOTATED).exists():
        return [None] * len(dataset.splits[f"{split}.json"])
    return [record.get("k_cutoff") for record in annotated_records(dataset)]


def _layout(turns: Sequence[tuple[str, str]], *, chat: bool) -> dict[str, object]:
    """Prompts and completions, the last the item's, as the fields of a line."""
    if chat:
        roles = ("user", "assistant")
        return {
            "messages": [
                {"role": role, "content": text.strip()}
                for turn in turns
                for role, text in zip(roles, turn, strict=True)
            ]
        }
    *shots, (prompt, completion) = turns
    before = "".join(f"{asked}{answered}\n" for asked, answered in shots)
    return {"prompt": before + prompt, "completion": completion}
