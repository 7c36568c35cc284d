"""Make a data set of data of others: a table, triples, or a folder of GrokkedTransformer's files.

    python script/import_dataset.py table rows.csv --inputs a,b,c --answer d
    python script/import_dataset.py triples train.txt test.txt --hops 2
    python script/import_dataset.py grokked composition.2000.200.7.2

Each has a --help of its own; docs/own_data.md goes from such a source to a figure.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from coverage_principle.cli import (
    add_place,
    add_settings,
    command_parser,
    run,
    settings_from,
    table,
    with_flags,
)
from coverage_principle.data.importing import IMPORTERS, import_source
from coverage_principle.paths import relative_to_root, repository_root

if TYPE_CHECKING:
    from coverage_principle.data.importing import Imported


def build_parser() -> argparse.ArgumentParser:
    parser = command_parser(__doc__)
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="KIND")
    for name, importer in IMPORTERS.items():
        about = importer.about
        one = kinds.add_parser(name, help=about, description=f"Import {about}.", allow_abbrev=False)
        add = one.add_argument
        many = {"nargs": "+"} if importer.many else {"nargs": 1}
        add("sources", metavar=importer.source, help="what is imported", **many)
        listed = {"nargs": None, "action": "store"}  # no spaces, as a FILE may come after it
        add_settings(one, importer.settings, inputs=listed)
        add("--name", help="name of the data set's folder (default: after the source)")
        add_place(one)
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
    print(f"  train           {counts['train']:>9,}")
    if facts := counts.get("atomic_facts_in_train"):
        print(f"  training facts  {facts:>9,}")
    for split, prefix in (("test", ""), ("valid", "valid ")):
        for label, count in counts.get(split, {}).items():
            print(f"  {prefix + label:<15} {count:>9,}")
    for one in metadata["primitives"]:
        print(f"  {one['name']}: {one['seen_in_train']:,} of {one['facts']:,} facts seen in train")
    for reason, count in about["dropped"].items():
        print(f"  left out: {count:,} {reason}")
    if types := about["source_types"]:
        rows = [[theirs, label, f"{n:,}"] for theirs in types for label, n in types[theirs].items()]
        lines = table(("type in the source", "type here", "items"), rows).splitlines()
        print("", *lines, sep="\n  ")
    for note in imported.notes:
        print(f"  note: {with_flags(note, build_parser())}")


if __name__ == "__main__":
    run(build_parser(), main)
