"""From what a recipe says to the places it means."""

import re
from pathlib import Path
from typing import Final

from finetune.data.sources import finding, hub, remote
from finetune.data.sources.faults import NOT_FETCHED, Reading, Report, Stopped, printable
from finetune.data.sources.place import Place

_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


def places(spec: str, folder: Path, *, fetch: bool, found: Report) -> list[Place]:
    """The files or objects that a recipe's `dataset.path` means, in the order in which they are read.

    `spec` is a file, a folder or a pattern, from `folder` on; `hf:owner/name`; or an `s3://`, `gs://` or `https://`
    address. Another machine is asked only with `fetch`; without it, such a spec gives a warning and no place. What is
    wrong goes to `found`; nothing is raised. Blocks for the network with `fetch`, for a bounded time.
    """
    if hub.is_meant(spec):
        ask, check, file = hub.places, hub.check, printable(spec)
    elif _SCHEME.match(spec):
        ask, check, file = remote.places, remote.check, remote.shown(spec)
    else:
        return finding.places(spec, folder, found)
    reading = Reading(file, found, 0)
    try:
        check(spec, reading)
        if fetch:
            return ask(spec, reading)
    except Stopped as stopped:
        found(stopped.problem)
        return []
    what, why = f"`{file}` was not looked at", "It is on another machine, and nothing is fetched unless you say so"
    reading.tell(NOT_FETCHED, what, why, "repeat the command with --fetch", level="warning")
    return []
