"""Prints requirements.lock for the environment it runs in: one pin for each installed distribution.

Pins of the present lock stay where only another Python or system needs them.
"""

import re
import sys
from importlib.metadata import distributions
from pathlib import Path

LOCK = Path(__file__).parents[2] / "requirements.lock"
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


def needed_elsewhere() -> set[str]:
    """Names that installed distributions ask for, but not here: on an older Python, on another system."""
    asked = (text for dist in distributions() for text in dist.requires or () if "extra ==" not in text)
    return {canonical(re.split(r"[^\w.-]", text, maxsplit=1)[0]) for text in asked} - installed().keys()


def locked() -> dict[str, str]:
    """The pins of the lock as it stands, by canonical name."""
    lines = LOCK.read_text().splitlines() if LOCK.exists() else []
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def pins() -> dict[str, str]:
    """What the lock should say: what is installed, and what it said of what is needed elsewhere."""
    elsewhere = needed_elsewhere()
    kept = {name: version for name, version in locked().items() if name in elsewhere}
    return dict(sorted((kept | installed()).items()))


if __name__ == "__main__":
    sys.stdout.write(HEADER + "".join(f"{name}=={version}\n" for name, version in pins().items()))
