"""Machines with one database and one bucket."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from finetune.settings import from_environment
from finetune.wiring import Desk
from tests.support import tiny
from tests.support.exports import Shelf
from tests.support.jobs import sqlite
from tests.support.machines import PREFIX


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save_base(tmp_path_factory.mktemp("bases") / "tiny")


@pytest.fixture
def shelf(tmp_path: Path, base: Path) -> Iterator[Shelf]:
    """The home of the machine that trains, which is called `a`."""
    made = Shelf(tmp_path / "a", base)
    yield made
    made.close()


@pytest.fixture
def machine(tmp_path: Path, s3: Any) -> Iterator[Callable[..., Desk]]:
    """A machine by its name, and what it has as FT_ARTIFACTS. All have one database."""
    made: list[Desk] = []

    def start(name: str, artifacts: str = PREFIX) -> Desk:
        env = {"FT_HOME": str(tmp_path / name), "FT_DATABASE_URL": sqlite(tmp_path / "a"), "FT_ARTIFACTS": artifacts}
        made.append(Desk(from_environment(env)))
        return made[-1]

    yield start
    for desk in made:
        desk.close()
