"""What tests of files need of the system."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

#: The user `nobody`, on every Linux.
NOBODY = 65534
#: Folders above `tmp_path` that pytest closes to others: of the user, of the run, of the worker if there is one.
CLOSED = 3 if "PYTEST_XDIST_WORKER" in os.environ else 2


@pytest.fixture
def as_nobody(tmp_path: Path) -> Iterator[None]:
    """Without root's right to read everything; `tmp_path` is ours all the same."""
    if os.geteuid() != 0:
        yield
        return
    for folder in (tmp_path, *tmp_path.parents[:CLOSED]):
        folder.chmod(0o755)
    os.chown(tmp_path, NOBODY, NOBODY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
