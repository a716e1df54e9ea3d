"""`ft doctor`: what this installation has, what is broken, and what would mend it."""

import os
import shutil
import sys
from collections.abc import Callable, Collection
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from finetune.errors import FtError
from finetune.tasks import QUEUES

#: Below this the first checkpoint of a small model may not fit.
_LITTLE_SPACE = 2 * 1024**3
_TRAINING = ("torch", "transformers", "peft", "safetensors")


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing looked at. `note` is worth knowing, `broken` stops something."""

    name: str
    verdict: Literal["ok", "note", "broken"]
    said: str
    #: What to do; empty when ok.
    fix: str = ""


def examine(
    home: Path, *, database: Callable[[], str], broker: Callable[[], str | None], served: Callable[[], Collection[str]]
) -> list[Check]:
    """Look at everything, also after something broken was found. Each callable may raise an FtError.

    `database` and `broker` connect and say to what (`broker`: None when there is none); `served` are the queues with a
    living worker.
    """
    checks = [_python(), _home(home), _attempt("database", database)]
    checks.append(_attempt("broker", lambda: broker() or "none: embedded, workers watch the database"))
    if checks[2].verdict == "ok":
        checks.append(_workers(served))
    checks.append(_training())
    return checks


def _python() -> Check:
    return Check(
        name="python", verdict="ok", said=f"{sys.version.split()[0]}, ft-orchestrator {_installed('ft-orchestrator')}"
    )


def _home(home: Path) -> Check:
    place = home
    while not place.exists():
        place = place.parent
    if not os.access(place, os.W_OK | os.X_OK):
        return Check(
            name="home", verdict="broken", said=f"{home} cannot be written", fix="give write access, or set FT_HOME"
        )
    free = shutil.disk_usage(place).free
    said = f"{home}, {free / 1024**3:.1f} GB free"
    if free < _LITTLE_SPACE:
        return Check(name="home", verdict="note", said=said, fix="make room: checkpoints and adapters are kept there")
    return Check(name="home", verdict="ok", said=said)


def _attempt(name: str, connect: Callable[[], str]) -> Check:
    try:
        return Check(name=name, verdict="ok", said=connect())
    except FtError as error:
        problem = error.problems[0]
        said = f"{problem.code} {problem.what}: {problem.why}"
        return Check(name=name, verdict="broken", said=said, fix=problem.fix)


def _workers(served: Callable[[], Collection[str]]) -> Check:
    missing = sorted(set(QUEUES) - set(served()))
    if missing:
        said = f"nobody serves {' and '.join(missing)}"
        return Check(name="workers", verdict="note", said=said, fix="`ft up`, or `ft submit --follow` brings its own")
    return Check(name="workers", verdict="ok", said="remote and gpu are served")


def _training() -> Check:
    found = {name: _installed(name) for name in _TRAINING}
    missing = [name for name, number in found.items() if number is None]
    if missing:
        said = f"{', '.join(missing)} not installed: no training or serving on this machine"
        return Check(name="training", verdict="note", said=said, fix="pip install 'ft-orchestrator[local]'")
    return Check(name="training", verdict="ok", said=", ".join(f"{name} {number}" for name, number in found.items()))


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
