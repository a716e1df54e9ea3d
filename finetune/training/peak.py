"""The most memory that this process has held for its training: what an estimate is held against."""

import re
import resource
from pathlib import Path

import torch

_KIB = 1024
_STATUS = Path("/proc/self/status")


class Peak:
    """Counts from its making on, in bytes.

    On a card what the allocator has reserved. On the processor what the whole process has had in memory beyond what it
    had at first, which the libraries' own first steps are part of.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            self._before = self._highest = 0
        else:
            self._before, self._highest = _resident("VmRSS"), _resident("VmHWM")

    def bytes(self) -> int | None:
        """So far. None: this process has held more before, so that nothing tells what came since."""
        if self._device.type == "cuda":
            return torch.cuda.max_memory_reserved(self._device)
        most = _resident("VmHWM")
        return most - self._before if most > self._highest else None


def _resident(which: str) -> int:
    """Of this process, bytes: VmRSS, now; VmHWM, at most.

    The kernel's own books, for getrusage counts what the process that started this one had.
    """
    try:
        found = re.search(rf"^{which}:\s+(\d+) kB", _STATUS.read_text(), re.MULTILINE)
    except OSError:
        found = None
    return (int(found[1]) if found else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) * _KIB
