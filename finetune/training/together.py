"""Several processes on one machine that train together: nccl between CUDA devices, gloo between CPUs.

They meet through a file and talk over the loopback interface. Their own stores would listen on every interface, and
take orders from whoever connects.
"""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Final

import torch
from torch import Tensor, distributed, nn

from finetune.training.ranks import Ranks

#: While rank 0 fetches a base model the others wait, for hours if need be. Who dies is noticed without any timeout.
_PATIENCE: Final = timedelta(days=30)


class PeerLost(Exception):
    """Another process is gone. Never the cause of a failure: that one tells, or is seen to have been killed."""


class Together(Ranks):
    """One of `count` processes, each with a device of its own."""

    def __init__(self, rank: int, count: int) -> None:
        self.rank = rank
        self.count = count
        on_cuda = torch.cuda.is_available() and torch.cuda.device_count() >= count
        self._device = torch.device("cuda", rank) if on_cuda else torch.device("cpu")

    @property
    def label(self) -> tuple[int, ...]:
        """See Ranks."""
        return (self.rank,)

    @property
    def device(self) -> torch.device:
        """See Ranks."""
        return self._device

    def join(self, meeting: Path) -> None:
        """Meet the others through the file `meeting`, which is new for each start. Blocks until all are there."""
        loopback = "lo0" if sys.platform == "darwin" else "lo"
        for backend in ("GLOO", "NCCL"):
            os.environ.setdefault(f"{backend}_SOCKET_IFNAME", loopback)
        on_cuda = self._device.type == "cuda"
        if on_cuda:
            torch.cuda.set_device(self._device)
        distributed.init_process_group(
            "nccl" if on_cuda else "gloo",
            store=distributed.FileStore(str(meeting), self.count),  # type: ignore[attr-defined]
            rank=self.rank,
            world_size=self.count,
            timeout=_PATIENCE,
            device_id=self._device if on_cuda else None,
        )

    def total(self, values: Sequence[float]) -> Sequence[float]:
        """See Ranks."""
        sums = torch.tensor(values, dtype=torch.float64, device=self._device)
        return self._together(lambda: distributed.all_reduce(sums), sums)

    def gather(self, value: float) -> Sequence[float]:
        """See Ranks."""
        mine = torch.tensor([value], dtype=torch.float64, device=self._device)
        everyone = [torch.empty_like(mine) for _ in range(self.count)]
        self._together(lambda: distributed.all_gather(everyone, mine), mine)
        return [each.item() for each in everyone]

    def sum_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """See Ranks. One fp32 buffer: one message, and the same order of sums whatever the parameters are."""
        own = [parameter.grad for parameter in parameters]
        parts = [
            (torch.zeros_like(parameter) if grad is None else grad).float().reshape(-1)
            for parameter, grad in zip(parameters, own, strict=True)
        ]
        # An optimiser leaves alone what has no gradient, and moves what has one of zeros.
        have = torch.tensor([float(grad is not None) for grad in own], device=self._device)
        buffer = torch.cat([*parts, have])
        *sums, had = torch.split(buffer, [*(part.numel() for part in parts), len(own)])
        counts = self._together(lambda: distributed.all_reduce(buffer), had)
        for parameter, grad, count in zip(parameters, sums, counts, strict=True):
            parameter.grad = grad.view_as(parameter) if count else None

    @contextmanager
    def first_before_others(self) -> Iterator[None]:
        """See Ranks. When rank 0 fails inside, the others wait on, until they are ended."""
        if not self.first:
            self.total([0.0])
        yield
        if self.first:
            self.total([0.0])

    def leave(self) -> None:
        """Let go of the others, at the end of a training that all have ended."""
        distributed.destroy_process_group()

    def _together(self, call: Callable[[], object], result: Tensor) -> list[float]:
        try:
            call()
            # On CUDA the call has only been queued: its failure shows here.
            return [float(number) for number in result.tolist()]
        except RuntimeError as error:
            raise PeerLost(str(error)) from error
