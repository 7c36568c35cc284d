"""A model for docs/predictions.md: the training items that differ in one token vote on the answer.

    python docs/tasks/vote.py data/twohop.20.1500.diff-f12.inf 1 2 3

Writes results/vote_SEED.jsonl for each seed, by which equal votes are decided.
"""

import json
import random
import re
import sys
from collections import Counter
from pathlib import Path


def tokens(text: str) -> list[str]:
    return re.findall("<[^<>]+>", text)


def others(given: list[str]) -> list[tuple]:
    """An item without each of its tokens: items that differ in that alone have the same."""
    return [(slot, *given[:slot], *given[slot + 1 :]) for slot in range(len(given))]


folder, *seeds = sys.argv[1:]
votes: dict[tuple, Counter] = {}
for item in json.loads(Path(folder, "train.json").read_text()):
    *given, answer, _ = tokens(item["target_text"])
    for key in others(given):
        votes.setdefault(key, Counter())[answer] += 1

Path("results").mkdir(exist_ok=True)
for seed in seeds:
    rng, lines = random.Random(int(seed)), []
    for item in json.loads(Path(folder, "test.json").read_text()):
        keys = others(tokens(item["input_text"]))
        counted = sum((votes.get(key, Counter()) for key in keys), Counter())
        best = [answer for answer, count in counted.items() if count == max(counted.values())]
        record = {key: item[key] for key in ("input_text", "type")}
        answer = rng.choice(best) if best else None
        lines.append(json.dumps({**record, "model_output": answer}) + "\n")
    Path(f"results/vote_{seed}.jsonl").write_text("".join(lines))
    print(f"results/vote_{seed}.jsonl: {len(lines):,} predictions")
