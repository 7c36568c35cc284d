"""Settings as data: frozen dataclasses whose fields carry their own help text and check.

A parameter is written down once, as a field of a ``Settings`` class:

    @dataclass(frozen=True)
    class WorldSettings(Settings):
        num_tokens: int = setting(help="|X|, the number of tokens", at_least=2)
        function_family: str = setting("random", "how functions are drawn", choices=FAMILIES)

Its flag, the flag's help, its check, its place in recorded runs all follow from that: commands
generate their parsers from these classes and pass the objects on whole. Nothing is imported here
but the standard library, so that a command can show its ``--help`` at once.
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Callable, Collection, Mapping
from dataclasses import MISSING, dataclass

from simpletransformers.errors import InputError

_SPEC = "setting"
#: The largest seed: torch takes it, also with a process's rank added.
MOST_SEED = 2**63 - 1


@dataclass(frozen=True)
class Spec:
    """What is known of a setting beside its name, type and default.

    ``flag`` is the flag's name where it is not the field's; ``parse`` makes a value of the flag's
    text where the type does not say how. ``group`` is a word for what it is about, by which help
    puts flags together (``coverage_principle/helptext.py``). ``may_differ`` means that a run may be
    continued with another value, ``on_card`` that a run's card shows the value.
    """

    help: str
    choices: Collection[object] | None = None
    at_least: float | None = None
    at_most: float | None = None
    flag: str | None = None
    metavar: str | None = None
    parse: Callable[[str], object] | None = None
    group: str | None = None
    may_differ: bool = False
    on_card: bool = False


def setting(default: object = MISSING, help: str = "", **details: typing.Any) -> typing.Any:
    """A field of a ``Settings`` class; without ``default`` it must be given. See ``Spec``."""
    return dataclasses.field(default=default, metadata={_SPEC: Spec(help, **details)})


@dataclass(frozen=True)
class Settings:
    """The base of all settings: checked when they are made, and refused with ``InputError``.

    A list given for a tuple becomes one. Subclasses that compare fields with each other extend
    ``check``.
    """

    def __post_init__(self) -> None:
        for name, (kind, _) in fields_of(type(self)).items():
            if kind.many and isinstance(getattr(self, name), list):
                object.__setattr__(self, name, tuple(getattr(self, name)))
        self.check()

    def check(self) -> None:
        """Raise ``InputError`` for a value of the wrong type or out of range, naming it."""
        for name, (kind, spec) in fields_of(type(self)).items():
            value = getattr(self, name)
            if value is None:
                if not kind.optional:
                    raise InputError(f"`{name}` must be given")
                continue
            if kind.many and not isinstance(value, tuple):
                raise InputError(f"`{name}` {value!r} is not a list")
            for one in value if kind.many else [value]:
                if fault := fault_of(one, kind.type, spec):
                    raise InputError(f"`{name}` {fault}")

    @classmethod
    def from_mapping(cls, values: Mapping[str, object]) -> typing.Self:
        """Settings from a dictionary; ``InputError`` names a key that does not exist."""
        known = fields_of(cls)
        for key in values:
            if key not in known:
                raise InputError(f"{cls.__name__} has no setting {key!r}; it has {sorted(known)}")
        return cls(**values)


@dataclass(frozen=True)
class Kind:
    """A field's type: ``type`` of one value, whether there are ``many``, whether None is one.

    ``type`` is ``object`` where values may be of several: the class checks these itself.
    """

    type: type
    many: bool
    optional: bool


def fields_of(cls: type[Settings]) -> dict[str, tuple[Kind, Spec]]:
    """The settings of a class by name, in order; a field that is no ``setting`` is left out."""
    hints = typing.get_type_hints(cls)
    return {
        field.name: (_kind(hints[field.name]), field.metadata[_SPEC])
        for field in dataclasses.fields(cls)
        if _SPEC in field.metadata
    }


def _kind(hint: object) -> Kind:
    """``int | None`` is an optional int, ``tuple[int, ...]`` many."""
    parts = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    own = [part for part in parts if part is not type(None)]
    many = typing.get_origin(own[0]) is tuple
    inner = typing.get_args(own[0])[0] if many else own[0]
    one_type = len(own) == 1 and isinstance(inner, type)
    return Kind(inner if one_type else object, many, len(own) < len(parts))


def fault_of(value: object, wanted: type, spec: Spec) -> str | None:
    """A sentence from ``value`` on that says what is wrong with it; None if nothing is."""
    words = {int: "an integer", float: "a number", str: "text", bool: "true or false"}
    accepted = (int, float) if wanted is float else wanted
    wrong_bool = isinstance(value, bool) and wanted in (int, float)
    if wanted in words and (not isinstance(value, accepted) or wrong_bool):
        return f"{value!r} is not {words[wanted]}"
    if spec.choices is not None and value not in spec.choices:
        return f"{value} is not one of {', '.join(map(str, spec.choices))}"
    if isinstance(value, float) and not math.isfinite(value):
        return f"{value} is not a finite number"
    low, high = spec.at_least, spec.at_most
    if low is not None and value < low:
        return f"{value} is too small; it must be at least {low}"
    if high is not None and value > high:
        return f"{value} is too large; it must be at most {high}"
    return None
