"""Make a data set of data of others: a table, triples, or a folder of GrokkedTransformer's files.

Each kind has a --help of its own. docs/own_data.md goes from such a source to a figure.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from coverage_principle.cli import (
    add_place,
    add_settings,
    command_parser,
    group_of,
    run,
    settings_from,
    table,
    with_flags,
)
from coverage_principle.data.importing import IMPORTERS, import_source
from coverage_principle.helptext import GROUPS
from coverage_principle.paths import relative_to_root, repository_root
from simpletransformers.words import count_lines, counted

if TYPE_CHECKING:
    from coverage_principle.data.importing import Imported


_COMMAND = "python script/import_dataset.py"
_TABLE = f"{_COMMAND} table docs/tasks/deliveries.csv --inputs city,carrier,weight --answer price"
_BRIDGE = f'{_TABLE} --bridges "zone(city,carrier)"'
_TRIPLES = f"{_COMMAND} triples docs/tasks/grid.tsv"
_WORLD = (
    "python dataset_generation/grokked.py --num_entities 100 --num_relations 50 --out_degree 10 "
    "--layout grokked --output_dir results"
)
_GROKKED = f"{_COMMAND} grokked results/composition.100.50.10.phi-7.2.grokked --name theirs"
#: What help shows at the end, for each kind.
EXAMPLES = {
    "grokked": (
        ("a folder of such files, if there is none at hand", _WORLD),
        ("make it a data set: data/theirs", _GROKKED),
    ),
    "triples": (
        ("a file of triples: data/grid.2-hop", _TRIPLES),
        ("with facts that no training composition uses", f"{_TRIPLES} --ood_ratio 0.05 --name far"),
    ),
    "table": (
        ("look at what would be imported", f"{_BRIDGE} --dry_run"),
        ("import it, with the column zone as an intermediate value: data/deliveries", _BRIDGE),
        ("the same rows without it", f"{_TABLE} --name no-zone"),
    ),
}


def build_parser() -> argparse.ArgumentParser:
    every = [example for kind in ("table", "triples", "grokked") for example in EXAMPLES[kind]]
    parser = command_parser(__doc__, every)
    kinds = {"dest": "kind", "metavar": "KIND", "required": True}
    kinds = parser.add_subparsers(title=GROUPS["source"], prog=parser.prog, **kinds)
    for name, importer in IMPORTERS.items():
        about = importer.about
        words = {"help": about, "description": f"Import {about}.", "examples": EXAMPLES[name]}
        one = kinds.add_parser(name, **words)
        many = {"nargs": "+"} if importer.many else {"nargs": 1}
        source = {"metavar": importer.source, "help": "what is imported", **many}
        group_of(one, "source").add_argument("sources", **source)
        listed = {"nargs": None, "action": "store"}  # no spaces, as a FILE may come after it
        add_settings(one, importer.settings, inputs=listed)
        add_place(one)
        add = group_of(one, "written").add_argument
        about = "name of the data set's folder (default: after the source)"
        add("--name", help=about)
        add("--dry_run", action="store_true", help="print the summary and write nothing")
    return parser


def main(arguments: argparse.Namespace) -> None:
    from coverage_principle.data import check_place, contents_files, table_files, write_dataset
    from coverage_principle.data.importing import folder_name

    sources = [Path(source) for source in arguments.sources]
    settings = settings_from(IMPORTERS[arguments.kind].settings, arguments)
    name = folder_name(sources, settings, arguments.name)
    folder = check_place(Path(arguments.output_dir or repository_root() / "data") / name)
    imported = import_source(arguments.kind, sources, settings)
    state = "not written (dry run)"
    if not arguments.dry_run:
        contents, metadata = imported.contents, imported.metadata
        files = contents_files(contents, metadata["target_format"])
        files |= table_files(contents) if contents.tables is not None else {}
        new = write_dataset(folder, files, metadata, overwrite=arguments.overwrite)
        state = "written" if new else "already there, unchanged"
    print(f"{relative_to_root(folder)}: {state}")
    print_summary(imported)


def print_summary(imported: Imported) -> None:
    metadata, graph = imported.metadata, imported.contents.graph
    about, counts = metadata["imported"], metadata["counts"]
    print(f"  task            {graph.name}: {graph.equations}")
    sizes = ", ".join(f"{n} {size:,}" for n, size in imported.contents.sizes().items())
    print(f"  alphabets       {sizes}")
    items = [("train", counts["train"], "")]
    if facts := counts.get("atomic_facts_in_train"):
        items.append(("training facts", facts, ""))
    for split, prefix in (("test", ""), ("valid", "valid ")):
        for label, count in counts.get(split, {}).items():
            items.append((prefix + graph.explained(label), count, ""))
    print("  " + "\n  ".join(count_lines(items)))
    for one in metadata["primitives"]:
        facts = counted(one["facts"], "fact")
        print(f"  {one['name']}: {one['seen_in_train']:,} of {facts} seen in train")
    for what in imported.left_out:
        print(f"  left out: {what}")
    if types := about["source_types"]:
        rows = [
            [theirs, graph.explained(label), f"{n:,}"]
            for theirs in types
            for label, n in types[theirs].items()
        ]
        lines = table(("type in the source", "type here", "items"), rows).splitlines()
        print("", *lines, sep="\n  ")
    for note in imported.notes:
        print(f"  note: {with_flags(note, build_parser())}")


if __name__ == "__main__":
    run(build_parser(), main)
