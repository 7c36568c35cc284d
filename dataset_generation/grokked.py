"""Generate a world of entities, as in "Grokked Transformers are Implicit Reasoners".

composition: every entity has facts, each a relation and another entity, and t is reached from h by
the relations r1, r2 ...; comparison: t says which of two entities has more of an attribute. Some
facts are out of domain: no training composition uses them.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from coverage_principle.cli import add_place, add_settings, command_parser, run, settings_from
from coverage_principle.data import EntityWorldSettings, FormatSettings
from coverage_principle.errors import InputError
from dataset_generation.common import generate


def build_parser() -> argparse.ArgumentParser:
    parser = command_parser(__doc__)
    add_settings(parser, EntityWorldSettings)
    add_settings(parser, FormatSettings, omit={"fake_bridge", "include_atomic"})
    about = "own: as every generator; grokked: the files of GrokkedTransformer's own data sets"
    about += " (default: own)"
    parser.add_argument("--layout", choices=("own", "grokked"), default="own", help=about)
    add_place(parser)
    return parser


def main(arguments: argparse.Namespace) -> None:
    from coverage_principle.data import data_set_name, generate_entity_world, layout_dataset

    settings = settings_from(EntityWorldSettings, arguments)
    form = settings_from(FormatSettings, arguments)
    foreign = arguments.layout == "grokked"
    if foreign and form != FormatSettings():
        ignored = "omit `cot`, `atomic_facts` and `atomic_format`"
        raise InputError(f"`layout` grokked holds answers alone, and no tables; {ignored}")
    name = data_set_name(settings, arguments.layout if foreign else form.target_format)
    layout = layout_dataset if foreign else None
    generate(name, arguments, lambda: generate_entity_world(settings), form, layout)


if __name__ == "__main__":
    run(build_parser(), main)
