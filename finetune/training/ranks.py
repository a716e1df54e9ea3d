"""The processes that train one adapter, as engine and loop see them; here the one that is alone.

Several of them hold the same adapter and the same optimiser state, bit for bit, and take the same steps. Each puts its
share of a step's examples through the model; the gradients are summed. `finetune.training.together` has that kind.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import torch
from torch import nn

from finetune.training import bases, disk


class Ranks:
    """One process by itself; also what the several have in common. All of them must make the same calls in turn."""

    #: Which of them this is, from 0.
    rank: int = 0
    #: How many there are.
    count: int = 1

    @property
    def first(self) -> bool:
        """True for the one that reports, and writes checkpoints and the adapter."""
        return self.rank == 0

    @property
    def label(self) -> tuple[int, ...]:
        """What tells this process's random numbers from the others'; empty when it is alone."""
        return ()

    @property
    def device(self) -> torch.device:
        """Where this process's model is."""
        return bases.device()

    def total(self, values: Sequence[float]) -> Sequence[float]:
        """The sums over all processes, float64, equal in each. Blocks until all have come here."""
        return values

    def gather(self, value: float) -> Sequence[float]:
        """Everyone's value, by rank. Blocks until all have come here."""
        return [value]

    def sum_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Make each gradient the sum of everyone's; one that nobody has stays None. Blocks until all have come here."""

    @contextmanager
    def first_before_others(self) -> Iterator[None]:
        """Rank 0 does what is inside while the others wait, then they do. Blocks."""
        yield

    @contextmanager
    def sole_owner(self, run_dir: Path) -> Iterator[None]:
        """Hold the run's folder against other trainers: one process for all, the one that writes in it.

        Raises FolderBusy (E601), without waiting.
        """
        if self.first:
            with disk.sole_owner(run_dir):
                yield
        else:
            yield


ALONE: Final = Ranks()
