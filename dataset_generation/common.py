"""What all generators share: their flags, and the summary they print."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from coverage_principle.paths import relative_to_root, repository_root

_FAMILIES = {
    "random": "every output uniform and independent",
    "commutative": "random, but equal for all orders of the arguments",
    "modular": "sum of the arguments and a random constant, modulo |X|",
    "balanced": "random, but every output equally often",
}


def generator_parser(
    description: str, *, test_size: int, train_size: int = 382_000
) -> argparse.ArgumentParser:
    """A parser with the flags of every generator; a task adds its own."""
    parser = argparse.ArgumentParser(
        description=description,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--num_tokens", type=int, required=True, help="|X|, the number of tokens <t_0> ...")
    add("--max_train_data_num", type=int, default=train_size, help="N, training items")
    add(
        "--default_seen_ratio",
        type=float,
        default=0.7,
        help="share of each function's facts that training items may use",
    )
    add("--test_size_for_type", type=int, default=test_size, help="test items of each type")
    add(
        "--validation_size",
        type=int,
        default=0,
        help="items of each type in valid.json, apart from the test items; 0: no file",
    )
    add("--seed", type=int, default=42, help="0 or more; same arguments, same files")
    families = "; ".join(f"{name}: {about}" for name, about in _FAMILIES.items())
    add(
        "--function_family",
        choices=tuple(_FAMILIES),
        default="random",
        help=f"how the functions are drawn. {families}",
    )
    add(
        "--atomic_facts",
        choices=("full", "seen", "none"),
        default="full",
        help="facts written for each function: all, those used in training, or none",
    )
    add(
        "--atomic_format",
        choices=("auto", "json", "npz"),
        default="auto",
        help="auto: JSON up to a million facts a function, else a compressed array",
    )
    add(
        "--output_dir",
        default=None,
        help="where the data set's folder goes; data/ of the repository if not given",
    )
    add("--overwrite", action="store_true", help="replace a data set with other contents")
    return parser


def same_flags(parser: argparse.ArgumentParser, name: str, about: str) -> None:
    """Add the flag ``name`` that makes all functions one, and ``--separate_seen``."""
    parser.add_argument(name, action="store_true", help=about)
    parser.add_argument(
        "--separate_seen",
        action="store_true",
        help=f"with {name}: a seen split for each function, so that a fact may be seen at one "
        "place only",
    )


def target_flags(parser: argparse.ArgumentParser, bridges: str) -> None:
    """Add ``--cot`` and ``--fake_bridge``; ``bridges`` names what they are about."""
    parser.add_argument(
        "--cot", action="store_true", help=f"chain of thought: targets hold {bridges}, then t"
    )
    parser.add_argument(
        "--fake_bridge",
        action="store_true",
        help=f"targets hold the constant </b> in place of {bridges}, then t (a control; goes "
        "before --cot)",
    )


def target_format(arguments: argparse.Namespace) -> str:
    """``inf``, ``cot`` or ``fakebridge``, as the flags say."""
    if getattr(arguments, "fake_bridge", False):
        return "fakebridge"
    return "cot" if getattr(arguments, "cot", False) else "inf"


def generate(
    arguments: argparse.Namespace,
    graph,
    name: str,
    *,
    form: str,
    same_function: bool = False,
    include_atomic: bool = False,
) -> None:
    """Generate the data set ``name``, write it with its card, and print what it holds.

    ``graph`` is a ``TaskGraph``. A function family other than ``random``, and ``--separate_seen``,
    are added to the name.
    """
    from coverage_principle.data import (
        FormatSettings,
        WorldSettings,
        check_include_atomic,
        dataset_files,
        generate_world,
        write_dataset,
    )
    from coverage_principle.reporting.dataset_card import dataset_card

    check_include_atomic(graph, include_atomic, same_function)
    settings = WorldSettings(
        num_tokens=arguments.num_tokens,
        max_train_data_num=arguments.max_train_data_num,
        default_seen_ratio=arguments.default_seen_ratio,
        test_size_for_type=arguments.test_size_for_type,
        seed=arguments.seed,
        validation_size=arguments.validation_size,
        function_family=arguments.function_family,
        same_function=same_function,
        separate_seen=getattr(arguments, "separate_seen", False),
    )
    world = generate_world(graph, settings)
    files, metadata = dataset_files(
        world,
        FormatSettings(form, arguments.atomic_facts, arguments.atomic_format, include_atomic),
    )
    if settings.function_family != "random":
        name = f"{name}.{settings.function_family}"
    if settings.separate_seen:
        name = f"{name}.separate-seen"
    root = Path(arguments.output_dir) if arguments.output_dir else repository_root() / "data"
    folder = root / name
    card = dataset_card(world, metadata, name, _command(sys.argv))
    changed = write_dataset(folder, files, metadata, overwrite=arguments.overwrite, extras=card)
    print(f"{relative_to_root(folder)}: {'written' if changed else 'already there, unchanged'}")
    _print_summary(world)


def _command(argv: list[str]) -> str:
    """The command line, without the places and switches that the data does not depend on."""
    import shlex

    kept, rest = [], iter(argv[1:])
    for part in rest:
        if part == "--output_dir":
            next(rest, None)
        elif part not in ("--overwrite", "--debug") and not part.startswith("--output_dir="):
            kept.append(part)
    return shlex.join(["python", Path(argv[0]).name, *kept])


def _print_summary(world) -> None:
    from coverage_principle.data import domain_size

    print(f"  train           {len(world.train):>9,} of {world.trainable:,} trainable compositions")
    in_domain = len(world.train) + world.available["type_0"]
    everything = domain_size(world.settings.num_tokens, len(world.graph.inputs))
    print(f"  in the domain   {in_domain:>9,} of {everything:,} compositions")
    for label, rows in world.test.items():
        of = f" of {world.available[label]:,}" if label in world.available else ""
        print(f"  {label:<15} {len(rows):>9,}{of}")
    if world.validation:
        print(f"  validation      {sum(map(len, world.validation.values())):>9,} of all types")
    for function, table, seen in zip(world.graph.functions, world.tables, world.seen, strict=True):
        print(
            f"  {function.name}: {int(seen.sum()):,} of {table.values.size:,} facts seen in train"
        )
    for sentence in world.shortfalls():
        print(f"  note: {sentence}")
