"""What trainings leave on the disk, and the seam to what the database knows of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, kw_only=True)
class Training:
    """A local training, as far as what it left on the disk is concerned."""

    run_key: str
    job_id: str
    #: The job's.
    state: str
    #: Neither it nor its job goes on.
    ended: bool
    #: Where its adapter is; None: it has none.
    adapter: str | None
    #: Digests of recipe and data. Trainings that share both make the same bytes, hence the same folder.
    makes: tuple[str, str]


class Books(Protocol):
    """What the database knows of trainings, and where it notes that files are gone."""

    def under_way(self) -> list[Training]:
        """Those that have not ended."""
        ...

    def trainings(self, run_keys: Sequence[str]) -> dict[str, Training]:
        """Those of these keys that it knows."""
        ...

    def note_gone(self, versions: Sequence[tuple[str, int]], at: datetime) -> bool:
        """Note in the artifacts of these (name, version) that their files are gone, if all are still retired.

        Returns whether it was noted; of all or of none.
        """
        ...
