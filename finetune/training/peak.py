"""The most memory that this process has held for its training: what an estimate is held against."""

import resource
from pathlib import Path

import torch

_KIB = 1024


class Peak:
    """Counts from its making on, in bytes.

    On a card what the allocator has reserved. On the processor what the whole process has had in memory beyond what it
    had at first, which the libraries' own first steps are part of.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        self._before = 0 if device.type == "cuda" else _resident()

    def bytes(self) -> int:
        """So far."""
        if self._device.type == "cuda":
            return torch.cuda.max_memory_reserved(self._device)
        return max(0, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _KIB - self._before)


def _resident() -> int:
    """Of this process now, bytes."""
    pages = Path("/proc/self/statm")
    if pages.exists():
        return int(pages.read_text().split()[1]) * resource.getpagesize()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _KIB
