"""Files of this machine by a path, a folder or a pattern."""

import fnmatch
import os
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

from finetune.data.sources import opening
from finetune.data.sources.faults import LEFT_OUT, NO_MATCH, Reading, Report, Stopped, printable
from finetune.data.sources.place import SUFFIXES, LocalFile, Place, named

_PATTERN: Final = re.compile(r"[*?\[]")
#: Names shown of files that are left out.
_SHOWN: Final = 5


def is_pattern(spec: str) -> bool:
    """True for a path with wildcards."""
    return bool(_PATTERN.search(spec))


def places(spec: str, folder: Path, found: Report) -> list[Place]:
    """The file at `spec`, or the data files in the folder or of the pattern there, by name. Faults go to `found`."""
    reading = Reading(printable(spec), found, 0)
    if is_pattern(spec) and not os.path.lexists(folder / spec):
        below = _matching(spec, folder, reading)
        names = chosen(below, str, reading, hidden_too=True)
    elif os.path.isdir(folder / spec):
        prefix = spec if spec.endswith("/") else f"{spec}/"
        names = [prefix + name for name in chosen(_below(folder / spec, reading), str, reading)]
    else:
        names = [spec]
    return [place for name in names if (place := _place(name, folder, found))]


def chosen(
    names: Iterable[str], below: Callable[[str], str], reading: Reading, *, hidden_too: bool = False
) -> list[str]:
    """Those that are data files by their names, sorted; what is left out is told, and that nothing is left is an error.

    `below` gives the part of a path that the user did not write. `hidden_too`: a pattern chose the hidden ones.
    """
    data: list[str] = []
    left_out: list[str] = []
    for name in sorted(names, key=lambda name: name.split("/")):
        kind, _ = named(name.rpartition("/")[2])
        if kind and (hidden_too or not _is_hidden(below(name))):
            data.append(name)
        else:
            left_out.append(printable(below(name)))
    if left_out:
        more = f" and {len(left_out) - _SHOWN} more" if len(left_out) > _SHOWN else ""
        what = f"left out: {', '.join(f'`{name}`' for name in left_out[:_SHOWN])}{more}"
        why = f"Data files are {SUFFIXES}, and not hidden"
        reading.tell(LEFT_OUT, what, why, "rename what should be read", level="warning")
    if not data:
        what = f"`{reading.file}` leads to no data file"
        reading.tell(NO_MATCH, what, f"Data files are {SUFFIXES}, and not hidden", "check the path and the names")
    return data


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") for part in name.split("/"))


def _place(spec: str, folder: Path, found: Report) -> Place | None:
    reading, file = Reading(printable(spec), found, 0), LocalFile(folder / spec)
    kind, packing = named(file.path.name)
    try:
        return Place(reading.file, kind, opening.checked(file, reading), file, packing)
    except Stopped as stopped:
        found(stopped.problem)
        return None


def _below(root: Path, reading: Reading) -> Iterator[str]:
    """The files below a folder, relative to it; of a hidden folder, its own name. Links are followed, each once."""
    waiting, seen = [""], set[tuple[int, int]]()
    while waiting:
        folder = waiting.pop()
        if _is_new(root / folder, seen):
            for name, is_folder in _entries(root / folder, reading):
                if is_folder and not name.startswith("."):
                    waiting.append(f"{folder}{name}/")
                else:
                    yield folder + name


def _is_new(folder: Path, seen: set[tuple[int, int]]) -> bool:
    """False if it is among the folders seen; else it is from now on. True for one that cannot be asked."""
    try:
        at = os.stat(folder)
    except OSError:
        return True
    known = (at.st_dev, at.st_ino) in seen
    seen.add((at.st_dev, at.st_ino))
    return not known


def _entries(folder: Path, reading: Reading) -> list[tuple[str, bool]]:
    """What is in a folder: names, and whether they lead to a folder. One that cannot be looked into is told."""
    try:
        with os.scandir(folder) as entries:
            return [(entry.name, _is_folder(entry)) for entry in entries]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except (OSError, ValueError) as error:
        reading.found(opening.unreadable(reading, error).problem)
        return []


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        # A link to itself: whoever opens it is told.
        return False


def _matching(spec: str, folder: Path, reading: Reading) -> Iterator[str]:
    """The files that a pattern matches, written like it; `**` is any number of folders, each looked into once."""
    found = {"/" if spec.startswith("/") else ""}
    parts = [part for part in spec.split("/") if part not in ("", ".")]
    if parts[-1] == "**":
        parts.append("*")
    for part in parts[:-1]:
        seen = set[tuple[int, int]]()
        found = {each for prefix in found for each in _folders(prefix, part, folder, seen, reading)}
    for prefix in found:
        yield from (prefix + name for name, is_folder in _named(prefix, parts[-1], folder, reading) if not is_folder)


def _folders(prefix: str, part: str, folder: Path, seen: set[tuple[int, int]], reading: Reading) -> Iterator[str]:
    """The folders that a part of a pattern leads to from one; all end with `/`."""
    if part != "**":
        yield from (f"{prefix}{name}/" for name, is_folder in _named(prefix, part, folder, reading) if is_folder)
        return
    waiting = [prefix]
    while waiting:
        prefix = waiting.pop()
        if _is_new(folder / prefix, seen):
            yield prefix
            inner = _entries(folder / prefix, reading)
            waiting += [f"{prefix}{name}/" for name, is_folder in inner if is_folder and not name.startswith(".")]


def _named(prefix: str, part: str, folder: Path, reading: Reading) -> Iterator[tuple[str, bool]]:
    """What is in a folder and fits one part of a pattern; hidden names only if the part begins with a dot as well."""
    if not is_pattern(part):
        path = folder / prefix / part
        if os.path.lexists(path):
            yield part, path.is_dir()
        return
    fits = re.compile(fnmatch.translate(part)).match
    for name, is_folder in _entries(folder / prefix, reading):
        if fits(name) and name.startswith(".") <= part.startswith("."):
            yield name, is_folder
