"""How much memory there is for this process, and one sentence where work needs more.

Work that may outgrow a machine states its need before it begins (``require``), so that it ends in
a sentence and not in a kill. Standard library only.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import resource
from pathlib import Path

from simpletransformers.errors import InputError

#: Suffixes of sizes: powers of 1,024, as ``ulimit``, Slurm and ``free`` count them.
UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_PROC = Path("/proc")
_GROUPS = Path("/sys/fs/cgroup")
#: A control group without a limit has a number near 2^63 for one.
_NO_LIMIT = 1 << 60
#: Options of glibc's ``mallopt`` (malloc.h).
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3


def parse_bytes(text: str) -> int:
    """The bytes that ``3G``, ``1500M``, ``0.5T`` or a plain number mean; ``1K`` is 1,024.

    Raises ``InputError``, from what was given on, for anything else and for less than one byte.
    """
    found = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+)\s*([KMGT]?)(?:I?B)?", text.strip().upper())
    number = int(float(found[1]) * UNITS[found[2]]) if found else 0
    if number < 1:
        raise InputError(f"{text!r} is not a size; write bytes, or a number with K, M, G or T: 24G")
    return number


def in_words(number: float) -> str:
    """A size as a person writes it: ``512 bytes``, ``1.5 MiB``, ``12 GiB``."""
    if number < 1 << 10:
        return f"{number:.0f} bytes"
    suffix = max((name for name in UNITS if name and UNITS[name] <= number), key=UNITS.__getitem__)
    amount = number / UNITS[suffix]
    return f"{amount:.0f} {suffix}iB" if amount >= 100 else f"{amount:.3g} {suffix}iB"


def available() -> int:
    """Bytes that this process may still take without the machine running out of them.

    The least of what the system says is available, and what the control groups of the process (a
    container, a Slurm job) leave. Files that the system keeps in memory count as available. Where
    the system does not say, all physical memory.
    """
    return max(min([_system(), *_groups()]), 0)


def held() -> int:
    """Bytes of memory that this process takes at the moment, what it shares with others included.

    Where the system does not say, the most that it has taken.
    """
    try:
        pages = int((_PROC / "self" / "statm").read_text().split()[1])
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    return pages * os.sysconf("SC_PAGE_SIZE")


def require(needed: float, work: str, advice: str) -> None:
    """Refuse work that needs more memory than there is, before it begins.

    ``needed`` bytes, ``work`` the start of the sentence (``the k-sweep of 10,000,000 items``) and
    ``advice`` its end, which says what helps (``give `memory` a budget``). Raises ``InputError``.
    """
    if needed > (left := available()):
        raise InputError(
            f"{work} needs about {in_words(needed)} of memory, and {in_words(left)} are available; "
            f"{advice}"
        )


def keep_freed() -> None:
    """Let this process keep memory that it frees, and use it again.

    By default the system takes every larger block back, and clears it page by page when it is asked
    for again: of small models that was a tenth to a quarter of the time of a training step, and a
    third of the time of reading states. Blocks of 64 MiB and more still go back, of 32 MiB where
    the C library takes no more for a threshold (older ones of glibc). Only where it is glibc;
    elsewhere nothing is changed.
    """
    with contextlib.suppress(AttributeError, OSError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        # The other option alone would leave the threshold where it is, which is at 128 KiB.
        if any(mallopt(_MMAP_THRESHOLD, size << 20) for size in (64, 32)):
            mallopt(_TRIM_THRESHOLD, (1 << 31) - 1)


def _system() -> int:
    try:
        found = re.search(r"MemAvailable:\s+(\d+) kB", (_PROC / "meminfo").read_text())
    except OSError:
        found = None
    if found:
        return int(found[1]) << 10
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _groups() -> list[int]:
    """What each control group over this process leaves, in bytes; of versions 1 and 2."""
    try:
        lines = (_PROC / "self" / "cgroup").read_text().splitlines()
    except OSError:
        return []
    left = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            left += _along(_GROUPS, path, "memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            left += _along(_GROUPS / "memory", path, *names)
    return left


def _along(top: Path, path: str, limit: str, usage: str, cache: str) -> list[int]:
    """For each group from the process's own up to the top: its limit less what it holds."""
    own = top / path.lstrip("/")
    left = []
    for folder in [own, *own.parents]:
        most, held = _number(folder / limit), _number(folder / usage)
        if most is not None and held is not None and most < _NO_LIMIT:
            left.append(most - held + _cached(folder / "memory.stat", cache))
        if folder == top:
            break
    return left


def _number(path: Path) -> int | None:
    """The number in a file; None where there is none (no file, or ``max``)."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _cached(path: Path, key: str) -> int:
    """Bytes of files that a group holds and that the system drops when it needs the room."""
    try:
        found = re.search(rf"^{key} (\d+)$", path.read_text(), re.MULTILINE)
    except OSError:
        found = None
    return int(found[1]) if found else 0
