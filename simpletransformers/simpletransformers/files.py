"""The one door to files: read with one kind of refusal, written whole or not at all.

Whatever is wrong with a file that is read, the exception is ``InputError``, which names the file.
What is written goes to a hidden neighbour first, ``.NAME.xxxxxxxx.tmp``, and takes its place by
rename, so a reader sees the old state or the new one. A writer holds a lock on its neighbour; what
a killed one left has none, and the next writer of the same name removes it. Where the place is a
symbolic link, its target is written. Only the standard library is needed here.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import logging
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from simpletransformers.errors import InputError

logger = logging.getLogger(__name__)

#: Bytes of a name that a temporary neighbour's own name repeats; file systems allow 255 in all.
_NAME_BYTES = 200
_MOST_NAME_BYTES = 255
#: What JSON may say that cannot be written again: half of a pair, a number beyond all floats.
_DOUBTFUL = re.compile(r"\\u[dD][89a-fA-F]|\d[eE]\+?\d{3}|\d{309}")
_MOST_DIGITS = re.compile(r"\d{4301}")


# ------------------------------------------------------------------------------------------ reading


def read_text(path: str | Path) -> str:
    """The text of a UTF-8 file, with or without a byte order mark.

    ``InputError`` if it does not exist, is no file, may not be read or is not UTF-8.
    """
    try:
        with _reading(path):
            return Path(path).read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text ({error}); save it as UTF-8") from error


def text_lines(path: str | Path) -> Iterator[str]:
    """The lines of a UTF-8 file with their ends, one at a time, for files too large to be held.

    ``InputError`` as ``read_text``, and it names the line that is not UTF-8.
    """
    with _reading(path), open(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                yield line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise InputError(
                    f"{path} line {number} is not UTF-8 text; save the file as UTF-8"
                ) from error


@contextlib.contextmanager
def _reading(path: str | Path) -> Iterator[None]:
    """Whatever keeps a file from being read, as a sentence."""
    try:
        yield
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error


def read_json(path: str | Path, kind: type | None = None) -> object:
    """The content of a JSON file: ``kind`` ``dict`` (an object) or ``list``, if given.

    ``InputError`` names the file and what is wrong with it; see ``parse_json``.
    """
    text = read_text(path)
    try:
        content = parse_json(text)
    except ValueError as error:
        raise InputError(f"{path} is not valid JSON: {error}") from error
    if kind is not None and not isinstance(content, kind):
        wanted = {dict: "object", list: "list"}[kind]
        raise InputError(f"{path} must be a JSON {wanted}, found {_kind(content)}")
    return content


def parse_json(text: str) -> object:
    """The content of JSON text; ``ValueError`` says what is wrong.

    Refused as well, because they would be read otherwise than they were meant, or could not be
    written again: a key that an object holds twice, NaN and infinite numbers, halves of a surrogate
    pair, numbers of thousands of digits, and nesting too deep for Python.
    """
    try:
        content = json.loads(text, object_pairs_hook=_object, parse_constant=_refuse)
        if _DOUBTFUL.search(text):
            json.dumps(content, ensure_ascii=False, allow_nan=False).encode("utf-8")
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except UnicodeEncodeError:
        raise ValueError("it holds half of a surrogate pair, which is no character") from None
    except ValueError:
        if _MOST_DIGITS.search(text):
            raise ValueError("it holds a number of thousands of digits") from None
        raise
    return content


@contextlib.contextmanager
def looking_into(path: str | Path, what: str) -> Iterator[None]:
    """``InputError`` if the content of a file turns out to be no ``what`` while it is looked into.

    That is what a missing key or another type than expected comes to.
    """
    try:
        yield
    except InputError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        why = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        raise InputError(f"{path} is not {what} as it is written here: {why}") from error


def read_lines(path: str | Path, check: Callable[[dict], object] = bool) -> list[dict]:
    """The JSON objects of a file of one a line; none if there is no such file.

    ``check`` is called with each, and raises what ``looking_into`` catches at another kind of
    object.

    What stands of a last line that is being written, or never was, is left out without a word. A
    warning says which others are left out because they are broken.
    """
    if not Path(path).exists():
        return []
    found, broken = [], []
    with _reading(path):
        lines = Path(path).read_bytes().split(b"\n")
    for number, line in enumerate(lines, start=1):
        try:
            content = parse_json(line.decode("utf-8"))
            if not isinstance(content, dict):
                raise ValueError(f"{_kind(content)} instead of an object")
            with looking_into(path, "a line"):
                check(content)
            found.append(content)
        except ValueError:  # an InputError is one
            if number < len(lines):
                broken.append(number)
    if broken:
        which = f"line{'s' * (len(broken) > 1)} {', '.join(map(str, broken))}"
        logger.warning("warning: %s of %s cannot be read and is left out", which, path)
    return found


def sha256(path: str | Path) -> str:
    """Hex digest of a file's bytes; ``InputError`` if it cannot be read."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error


def _object(pairs: list[tuple[str, object]]) -> dict:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"an object holds the key {twice!r} twice")
    return found


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON number")


def _kind(content: object) -> str:
    kinds = {dict: "an object", list: "a list", str: "a text", bool: "true or false"}
    return kinds.get(type(content), "null" if content is None else "a number")


# ------------------------------------------------------------------------------------------ writing


def dump_json(content: object, *, one_per_line: bool = False) -> str:
    """JSON text; with ``one_per_line``, the records of a list stand on a line each."""
    if not one_per_line:
        return json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    lines = ",\n".join(json.dumps(record, ensure_ascii=False) for record in content)
    return f"[\n{lines}\n]\n" if lines else "[]\n"


def write_json(path: str | Path, content: object, *, one_per_line: bool = False) -> None:
    """Write a JSON file whole or not at all."""
    write_text(path, dump_json(content, one_per_line=one_per_line))


def write_text(path: str | Path, text: str) -> None:
    """Write a text file whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def append_text(path: str | Path, text: str) -> None:
    """Add to the end of a text file."""
    with open(path, "a", encoding="utf-8", newline="") as file:
        file.write(text)


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A temporary file that takes the place of ``path`` if the block ends well."""
    path = _place(path, file=True)
    with _neighbour(path, folder=False) as temporary:
        try:
            yield temporary
        except OSError as error:  # a full disk: what is written to names no file
            if error.errno is not None:
                error.filename = error.filename or str(path)
            raise
        _keep_mode(path, temporary)
        temporary.replace(path)


def _keep_mode(path: Path, temporary: Path) -> None:
    with contextlib.suppress(FileNotFoundError):  # none yet
        shutil.copymode(path, temporary)


@contextlib.contextmanager
def replacing_together(*paths: str | Path) -> Iterator[list[Path]]:
    """Temporary files that take the places of ``paths`` if the block ends well.

    The last of them is what says that the others are there: a process that dies between the
    renames leaves none under its name, rather than an old one beside new ones.
    """
    with contextlib.ExitStack() as stack:
        temporary = [stack.enter_context(replacing(path)) for path in reversed(paths)]
        yield temporary[::-1]
        last = _place(paths[-1])
        _keep_mode(last, temporary[0])
        last.unlink(missing_ok=True)


@contextlib.contextmanager
def replacing_folder(path: str | Path) -> Iterator[Path]:
    """A temporary folder that takes the place of ``path`` if the block ends well.

    A block that removes the temporary folder leaves all as it was. The old folder stays whole until
    the end. A process that dies between the two renames leaves it as ``.NAME.old``, and ``recover``
    puts it back.
    """
    path = _place(path)
    recover(path)
    old = _old(path)
    with _neighbour(path, folder=True) as temporary:
        yield temporary
        if not temporary.exists():
            return  # the block thought better of it
        with _alone_beside(path):
            _recover(path)  # what another writer may have left meanwhile
            if path.exists():
                os.rename(path, old)
            try:
                os.rename(temporary, path)
            finally:
                _recover(path)


@contextlib.contextmanager
def scratch_folder(path: str | Path) -> Iterator[Path]:
    """A temporary folder beside ``path``, for work that ends there; it is gone at the end.

    What a killed process left of it is removed by the next that works on a ``path`` of this name.
    """
    with _neighbour(_place(path), folder=True) as temporary:
        yield temporary


def recover(path: str | Path) -> None:
    """Undo a folder's replacement that was cut off between its renames, or finish its clean-up."""
    path = Path(os.path.realpath(path))
    with _alone_beside(path):
        _recover(path)


@contextlib.contextmanager
def _alone_beside(path: Path) -> Iterator[None]:
    """Wait until no other process replaces a folder beside ``path``."""
    held = os.open(path.parent, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(held, fcntl.LOCK_EX)
        yield
    finally:
        os.close(held)


def _recover(path: Path) -> None:
    old = _old(path)
    if path.exists():
        shutil.rmtree(old, ignore_errors=True)
    elif old.exists():
        os.rename(old, path)


def discard(path: str | Path) -> None:
    """Remove a folder if it is there; under its own name it is whole or gone at any moment."""
    path = Path(os.path.realpath(path))
    if path.exists():
        with _neighbour(path, folder=True) as aside:
            os.rename(path, aside / path.name)


def check_place(path: str | Path, *, file: bool = False) -> Path:
    """Refuse a place that could not be written, before the work whose result is to go there.

    ``InputError`` if a part of its name is too long, a link leads in a circle, a file stands where
    a folder is needed (or, for a ``file``, a folder), or the folder may not be written. Returns
    ``path``.
    """
    path = Path(path)
    if file and path.is_dir():
        raise InputError(f"{path} cannot be written: it is a folder")
    for part in path.parts:
        if len(os.fsencode(part)) > _MOST_NAME_BYTES:
            raise InputError(
                f"the name {part[:40]}... is {len(os.fsencode(part))} bytes long, and a file or "
                f"folder may have {_MOST_NAME_BYTES}"
            )
    try:
        nearest = Path(os.path.realpath(path, strict=False))
        while not nearest.exists():
            if nearest.is_symlink():
                raise OSError(errno.ELOOP, "a symbolic link leads in a circle")
            nearest = nearest.parent
    except (OSError, RuntimeError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"{path} cannot be written: {why}") from error
    if nearest != Path(os.path.realpath(path)) and not nearest.is_dir():
        raise InputError(f"{path} cannot be written: {nearest} is a file, not a folder")
    # Asked twice: between its two renames another writer's folder is not there for a moment.
    if not any(os.access(nearest, os.W_OK) or not nearest.exists() for _ in range(2)):
        raise InputError(f"{path} cannot be written: {nearest} is write-protected")
    return path


def try_place(path: str | Path) -> None:
    """Make and remove a temporary neighbour of ``path``: what is refused later is refused now.

    For places that links lead to, of which rights alone do not tell whether they can be written.
    """
    with _neighbour(_place(path, file=True), folder=False):
        pass


def _place(path: str | Path, *, file: bool = False) -> Path:
    """Where ``path`` really is, with the folder above it made."""
    path = Path(os.path.realpath(check_place(path, file=file)))
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _old(path: Path) -> Path:
    return path.with_name(f"{_prefix(path)}old")


def _prefix(path: Path) -> str:
    name = os.fsencode(path.name)[:_NAME_BYTES].decode("utf-8", errors="ignore")
    return f".{name}."


@contextlib.contextmanager
def _neighbour(path: Path, *, folder: bool) -> Iterator[Path]:
    """A locked temporary file or folder beside ``path``, gone at the end unless it was renamed."""
    remove_leftovers(path.parent, path.name)
    temporary, held = _made(path, folder)
    try:
        yield temporary
    finally:
        os.close(held)
        _remove(temporary)


def _made(path: Path, folder: bool) -> tuple[Path, int]:
    """A new temporary neighbour of ``path``, and the descriptor that holds its lock."""
    while True:
        temporary = path.with_name(f"{_prefix(path)}{secrets.token_hex(4)}.tmp")
        if folder:
            temporary.mkdir()
        try:
            held = os.open(temporary, os.O_RDONLY if folder else os.O_RDWR | os.O_CREAT, 0o666)
        except FileNotFoundError:
            if not folder:
                raise  # no file can be made here
            continue  # taken for a leftover by another writer, as below
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(held, fcntl.LOCK_EX)
        if temporary.exists():
            return temporary, held
        os.close(held)


def remove_leftovers(folder: Path, name: str | None = None) -> None:
    """Remove what dead writers left in ``folder``, of the file or folder ``name`` or of any."""
    begin = ".*." if name is None else _escaped(_prefix(folder / name))
    for left in folder.glob(f"{begin}{'[0-9a-f]' * 8}.tmp"):
        with contextlib.suppress(OSError):  # gone meanwhile, in use, or no locks
            held = os.open(left, os.O_RDONLY)
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove(left)
            finally:
                os.close(held)


def _escaped(name: str) -> str:
    """``name`` as a pattern of ``glob`` that matches it alone."""
    return re.sub(r"([*?[])", r"[\1]", name)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()


# ------------------------------------------------------------------------------------------- locks


@contextlib.contextmanager
def one_writer(folder: str | Path, doing: str, setting: str = "output_dir") -> Iterator[None]:
    """Keep other processes that are ``doing`` the same out of ``folder`` meanwhile.

    ``InputError`` names the process that is in it already, and the ``setting`` that gives another
    folder. What is not there of the folder is made, and removed again if it is empty at the end. A
    file system without locks keeps nobody out.
    """
    folder = Path(os.path.realpath(check_place(folder)))
    made = [one for one in (folder, *folder.parents) if not one.exists()]
    file = folder / ".lock"
    held = _hold(file, folder, doing, setting)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            file.unlink()
        os.close(held)
        with contextlib.suppress(OSError):
            for one in made:
                one.rmdir()


def _hold(file: Path, folder: Path, doing: str, setting: str) -> int:
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            held = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
        except FileNotFoundError:
            continue  # its last holder has removed what it had made
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            who = os.read(held, 100).decode("utf-8", errors="replace").strip() or "another process"
            os.close(held)
            raise InputError(
                f"{who} is {doing} in {folder}; wait for its end, or give another `{setting}`"
            ) from None
        except OSError:
            return held
        # Between our opening and our locking it, its last holder may have removed the file.
        with contextlib.suppress(FileNotFoundError):
            if os.stat(file).st_ino == os.fstat(held).st_ino:
                os.ftruncate(held, 0)
                os.write(held, f"process {os.getpid()}".encode())
                return held
        os.close(held)


def digests(paths: Iterable[Path]) -> Mapping[str, str]:
    """``{name: sha256}`` of the files that are there."""
    return {path.name: sha256(path) for path in paths if path.is_file()}
