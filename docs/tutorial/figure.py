"""Final accuracy by k-cutoff for each weight decay, from a sweep's results.jsonl.

python docs/tutorial/figure.py results/sweeps/weight_decay/results.jsonl FIGURE.png
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from pathlib import Path

from coverage_principle.reporting.style import PALETTE, new_figure, save_figure
from coverage_principle.reporting.training_figures import accuracy_by_k


def main(results: str, target: str) -> None:
    right, total = defaultdict(float), defaultdict(int)
    for line in Path(results).read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        decay = record["settings"]["train"]["weight_decay"]
        for k, (accuracy, n) in accuracy_by_k(record["scores"]).items():
            right[decay, k] += accuracy * n
            total[decay, k] += n
    figure, axis = new_figure(5.5, 3.4)
    for colour, decay in zip(PALETTE, sorted({decay for decay, _ in total}), strict=False):
        ks = sorted(k for d, k in total if d == decay and total[d, k] >= 20)
        shares = [right[decay, k] / total[decay, k] for k in ks]
        axis.plot(ks, shares, "o-", color=colour, label=f"weight decay {decay:g}")
        for k, share in zip(ks, shares, strict=True):
            print(f"weight decay {decay:g}, k-cutoff {k}: {share:.2f} of {total[decay, k]}")
    axis.set_xlabel("k-cutoff (groups of at least 20 items)")
    axis.set_ylabel("final type_0 accuracy, seeds together")
    axis.set_ylim(0, 1.02)
    axis.legend()
    save_figure(figure, target, formats=("png",))


if __name__ == "__main__":
    main(*sys.argv[1:])
