"""Prints requirements.lock for the environment it runs in: one pin for each installed distribution."""

import re
import sys
from importlib.metadata import distributions

HEADER = """\
# What the tests ran with, as pip constraints. `make lock` writes this file.
# To raise a pin, edit its line, run `make lock` and `make test`.
"""
#: pip comes with Python itself; ft-orchestrator is what we lock for.
NOT_OURS = {"pip", "ft-orchestrator"}
#: torch names these exactly where it is built for CUDA, and not at all elsewhere.
CUDA = ("nvidia-", "cuda-", "triton")


def canonical(name: str) -> str:
    """The spelling under which two names are the same distribution."""
    return re.sub(r"[-_.]+", "-", name).lower()


def installed() -> dict[str, str]:
    """Version by canonical name of all that belongs into the lock; a build's own suffix (`+cpu`) is left out."""
    found = {canonical(dist.name): dist.version.partition("+")[0] for dist in distributions()}
    return {
        name: version for name, version in sorted(found.items()) if name not in NOT_OURS and not name.startswith(CUDA)
    }


def locked(text: str) -> dict[str, str]:
    """The pins in the text of a lock file, by canonical name."""
    pins = (line.split("==") for line in text.splitlines() if line and not line.startswith("#"))
    return {canonical(name): version for name, version in pins}


if __name__ == "__main__":
    sys.stdout.write(HEADER + "".join(f"{name}=={version}\n" for name, version in installed().items()))
