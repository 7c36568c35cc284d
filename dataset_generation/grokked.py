"""Generate a world of entities, as in "Grokked Transformers are Implicit Reasoners".

composition: every entity has facts, each a relation and another entity; a question names an entity
h and relations r1, r2 ..., and the answer t is the entity that they lead to. comparison: t says
which of two entities has more of an attribute. Some facts are out of domain: no training
composition uses them.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from coverage_principle.cli import (
    add_place,
    add_settings,
    command_parser,
    group_of,
    run,
    settings_from,
)
from coverage_principle.data import EntityWorldSettings, FormatSettings
from coverage_principle.errors import InputError
from dataset_generation.common import generate

_COMMAND = "python dataset_generation/grokked.py"
_SMALL = f"{_COMMAND} --num_entities 100 --num_relations 50 --out_degree 10"
EXAMPLES = (
    ("a small world, with which all stages run on a laptop", _SMALL),
    ("the published size: 2,000 entities, 200 relations", f"{_COMMAND} --phi 12.6"),
    ("comparisons of two entities", f"{_COMMAND} --task comparison --num_entities 200"),
    ("the files that GrokkedTransformer reads", f"{_SMALL} --layout grokked"),
)


def build_parser() -> argparse.ArgumentParser:
    parser = command_parser(__doc__, EXAMPLES)
    add_settings(parser, EntityWorldSettings)
    add_settings(parser, FormatSettings, omit={"fake_bridge", "include_atomic"})
    about = "own: as every generator; grokked: the files of GrokkedTransformer's own data sets"
    layout = {"choices": ("own", "grokked"), "default": "own", "help": about}
    group_of(parser, "written").add_argument("--layout", **layout)
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
