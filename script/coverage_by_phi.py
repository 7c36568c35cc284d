"""Coverage of worlds of entities against phi, before any training.

phi is the number of training compositions for each fact that they may use, as in "Grokked
Transformers are Implicit Reasoners". For each number of entities, phi and seed, a training set is
drawn as by dataset_generation/grokked.py, and it is counted what share of ALL other compositions of
the same facts it covers at every k: those that a training composition becomes if (h, r1), an entity
and its first relation, is swapped for another that acts alike in at least k shared contexts. Every
measurement is kept in the result file, so that an interrupted run goes on where it stopped.
"""

from __future__ import annotations

import argparse

from coverage_principle.cli import (
    add_settings,
    command_parser,
    group_of,
    over_worlds,
    run,
    settings_from,
    table,
)
from coverage_principle.coverage import PhiSettings
from simpletransformers.words import counted

_COMMAND = "python script/coverage_by_phi.py"
EXAMPLES = (
    ("one small world, in seconds", f"{_COMMAND} --num_entities 500 --phi 3.6,7.2 --k 1,2,3"),
    ("the figure of docs/coverage_by_phi.md", f"{_COMMAND} --phi 3.6,5.4,7.2,9,12.6,18 --k 3,4,5"),
)


def build_parser() -> argparse.ArgumentParser:
    parser = command_parser(__doc__, EXAMPLES)
    add_settings(parser, PhiSettings)
    about = "for results and figure (default: results/coverage_by_phi in the repository)"
    group_of(parser, "written").add_argument("--output_dir", help=about)
    return parser


def main(arguments: argparse.Namespace) -> None:
    from pathlib import Path

    from coverage_principle.coverage import CoverageByPhi, phi_name
    from coverage_principle.data import check_place, write_json
    from coverage_principle.paths import relative_to_root, repository_root
    from coverage_principle.reporting.phi import draw_phi, summarise_phi

    settings = settings_from(PhiSettings, arguments)
    folder = Path(arguments.output_dir or repository_root() / "results" / "coverage_by_phi")
    stem = folder / f"coverage_by_phi_{phi_name(settings)}"
    # Joined, not a suffix: the name holds a point.
    kept, written = Path(f"{stem}_measured.json"), Path(f"{stem}.json")
    check_place(kept)
    found = CoverageByPhi(settings, kept)
    worlds = [(size, seed) for size in sorted(settings.num_entities) for seed in settings.seeds]
    over_worlds(worlds, "{:,} entities, seed {}", found.find, "phi = {:g}")
    summary = summarise_phi(found)
    write_json(written, summary)
    report(summary)
    files = [written, kept, *draw_phi(summary, stem)]
    print("written: " + "\n         ".join(map(relative_to_root, files)))


def report(summary: dict) -> None:
    """Print the covered shares at each k, and median k-cutoffs, by phi and number of entities."""
    coverage = summary["coverage"]
    seeds = counted(len(summary["seeds"]), "seed")
    seeds = f"mean over {seeds}" if len(summary["seeds"]) > 1 else seeds
    print(
        "\nheld-out compositions of in-domain facts, all of them, covered by the fragment (h, r1)\n"
        f"({counted(summary['num_relations'], 'relation')}, out-degree {summary['out_degree']}, "
        f"{summary['ood_ratio']:.0%} of the facts out of domain; {seeds})\n"
    )
    shown = {
        f"covered at k = {k}": lambda one, k=k: f"{one['mean'][str(k)]:.3f}" for k in summary["k"]
    }
    shown["median k-cutoff"] = lambda one: f"{one['median_k_cutoff']:g}"
    for title, cell in shown.items():
        phis = dict.fromkeys(phi for by_phi in coverage.values() for phi in by_phi)
        rows = [[phi, *(cell(by_phi[phi]) for by_phi in coverage.values())] for phi in phis]
        header = [
            "phi",
            *(counted(int(entities), "entity", "entities") for entities in coverage),
        ]
        print(f"{title}\n{table(header, rows)}\n")


if __name__ == "__main__":
    run(build_parser(), main)
