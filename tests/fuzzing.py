"""Bad files at random, and what may come of a command that reads one."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

#: What a run does not have in common with the same run again: times, rates, processes.
_TIMES = re.compile(
    r"""(["']?(?:elapsed_s|items_per_s|tokens_per_s|seconds|ended|mfu)["']?\s*:\s*)"""
    r"""(\{[^}]*\}|"[^"]*"|[-\d.e+]+)"""
)
_POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize 12345\n"
_VALUES = (
    *(None, True, 0, -1, 1, 2**70, 1e308, 0.5, "", "x", "\u2028<b>", [], [1], {}, {"a": {}}),
    *([[]], "<t_0>", 10**30, -0.0, "NaN", [None]),
)


# ---------------------------------------------------------------------------------------- mutations


def _bytes(change: Callable[[bytes, random.Random], bytes]) -> Callable:
    def mutate(file: Path, rng: random.Random) -> None:
        content = change(file.read_bytes(), rng)
        file.unlink()  # it may be a hard link
        file.write_bytes(content)

    return mutate


def _text(change: Callable[[str, random.Random], str], encoding: str = "utf-8") -> Callable:
    def mutate(content: bytes, rng: random.Random) -> bytes:
        return change(content.decode("utf-8", errors="replace"), rng).encode(
            encoding, errors="surrogatepass" if encoding == "utf-8" else "replace"
        )

    return _bytes(mutate)


def _flip(content: bytes, rng: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 20))):
        if changed:
            changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _noise(content: bytes, rng: random.Random) -> bytes:
    begin = rng.randrange(len(content) + 1)
    return content[:begin] + rng.randbytes(16) + content[begin + 16 :]


def _places(content: object, found: list) -> list:
    """Every (container, key) of parsed JSON."""
    entries = content.items() if isinstance(content, dict) else enumerate(content)
    for key, value in entries:
        found.append((content, key))
        if isinstance(value, (dict, list)):
            _places(value, found)
    return found


def _parsed(change: Callable[[object, random.Random], object]) -> Callable:
    """A change of parsed JSON, or of one line of a file of one object a line."""

    def mutate(text: str, rng: random.Random) -> str:
        lines = [text]
        try:
            json.loads(text)
        except ValueError:
            lines = text.splitlines(keepends=True) or [""]
        number = rng.randrange(len(lines))
        try:
            content = json.loads(lines[number])
        except (ValueError, RecursionError):
            return text[: len(text) // 2]
        lines[number] = json.dumps(change(content, rng)) + "\n"
        return "".join(lines)

    return _text(mutate)


def _swap(content: object, rng: random.Random) -> object:
    places = _places(content, []) if isinstance(content, (dict, list)) else []
    if not places:
        return rng.choice(_VALUES)
    # Few are near the top, and these are what a reader looks at.
    container, key = rng.choice(places[: rng.choice((8, 60, len(places)))])
    container[key] = rng.choice(_VALUES)
    return content


def _drop(content: object, rng: random.Random) -> object:
    places = _places(content, []) if isinstance(content, (dict, list)) else []
    if places:
        container, key = rng.choice(places[: rng.choice((8, 60, len(places)))])
        del container[key]
    return content


def _raw(word: Callable[[random.Random], str]) -> Callable:
    """JSON text with a number or text in it replaced by ``word``."""

    def mutate(text: str, rng: random.Random) -> str:
        values = list(re.finditer(r'(?<=[:\[,])\s*(?:-?\d[\d.eE+-]*|"[^"]*")(?=\s*[,\]}])', text))
        if not values:
            return word(rng)
        chosen = rng.choice(values)
        return text[: chosen.start()] + word(rng) + text[chosen.end() :]

    return _text(mutate)


def _twice(text: str, rng: random.Random) -> str:
    pairs = list(re.finditer(r'"[^"]+":\s*(?:-?[\d.]+|"[^"]*"|true|false|null)', text))
    if not pairs:
        return text + text
    chosen = rng.choice(pairs)
    return text[: chosen.start()] + chosen[0] + ", " + text[chosen.start() :]


def _instead(make: Callable[[Path], None]) -> Callable:
    def mutate(file: Path, _rng: random.Random) -> None:
        file.unlink()
        make(file)

    return mutate


#: Every way to spoil a file by its name. ``another`` is not here: it depends on the file.
MUTATIONS: dict[str, Callable[[Path, random.Random], None]] = {
    "cut": _bytes(lambda content, rng: content[: rng.randrange(max(1, len(content)))]),
    "cut near the end": _bytes(lambda content, rng: content[: -rng.randint(1, 40)]),
    "flipped bits": _bytes(_flip),
    "noise": _bytes(_noise),
    "empty": _bytes(lambda _content, _rng: b""),
    "zeros": _bytes(lambda content, _rng: bytes(len(content))),
    "more behind": _bytes(lambda content, rng: content + rng.randbytes(rng.randint(1, 50))),
    "pointer": _text(lambda _text, rng: _POINTER.format(rng.randbytes(32).hex())),
    "byte order mark": _text(lambda text, _rng: "\ufeff" + text),
    "CRLF": _text(lambda text, _rng: text.replace("\n", "\r\n")),
    "UTF-16": _text(lambda text, _rng: text, "utf-16"),
    "Latin-1": _text(lambda text, _rng: text.replace("e", "é"), "latin-1"),
    "[1] at the top": _text(lambda _text, _rng: "[1]"),
    "{} at the top": _text(lambda _text, _rng: "{}"),
    "null at the top": _text(lambda _text, _rng: "null"),
    "a value swapped": _parsed(_swap),
    "another value swapped": _parsed(_swap),
    "a third value swapped": _parsed(_swap),
    "a key or item dropped": _parsed(_drop),
    "laid out anew": _parsed(lambda content, _rng: content),
    "thousands of digits": _raw(lambda rng: "9" * rng.choice((400, 5000))),
    "NaN": _raw(lambda rng: rng.choice(("NaN", "Infinity", "-Infinity", "1e999"))),
    "deep nesting": _raw(lambda rng: "[" * (depth := rng.choice((600, 100000))) + "]" * depth),
    "half a surrogate pair": _raw(lambda _rng: r'"\ud800"'),
    "a key twice": _text(_twice),
    "missing": _instead(lambda _file: None),
    "a folder": _instead(lambda file: file.mkdir()),
    "a link in a circle": _instead(lambda file: file.symlink_to(file.name)),
    "a link to nothing": _instead(lambda file: file.symlink_to("nothing")),
    "not to be read": _instead(lambda file: file.symlink_to("/proc/self/mem")),
}

#: Those after which JSON says the same as before.
SAME = ("byte order mark", "CRLF", "laid out anew")


# ------------------------------------------------------------------------------------------ judging


def copy_world(world: Path, place: Path, without: str = "") -> None:
    """A copy of ``world``, but for files of the patterns ``without``, in the place of the last."""
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(world, place, symlinks=True)
    for path in (path for pattern in without.split() for path in place.glob(pattern)):
        path.unlink()


def snapshot(folder: Path) -> dict[str, bytes]:
    """The files below ``folder`` by path, without times; locks, logs, kept states are left out."""
    found: dict[str, bytes] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.suffix in (".lock", ".log") or path.name in ("lock", ".lock", "state.pt"):
            continue
        if path.is_symlink():
            found[name] = os.fsencode(os.readlink(path))
        elif path.is_file():
            found[name] = timeless(path.read_bytes())
    return found


def timeless(content: bytes) -> bytes:
    """Bytes without the times and digests that text in them tells."""
    with contextlib.suppress(UnicodeDecodeError):
        text = _TIMES.sub(r"\1-", content.decode("utf-8"))
        return re.sub(r"\b[0-9a-f]{64}\b", "-", text).encode("utf-8")
    return content


def differing(one: Mapping[str, bytes], other: Mapping[str, bytes]) -> list[str]:
    """The names of the files that are not the same."""
    return sorted(name for name in {*one, *other} if one.get(name) != other.get(name))


def same_json(one: bytes, other: bytes) -> bool:
    """Whether two files hold JSON that says the same."""
    try:
        return json.loads(one.decode("utf-8-sig")) == json.loads(other.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return False
