"""The graphics cards of this machine, as NVIDIA's driver tells them. No CUDA is initialised: this process may fork."""

import csv
import socket
import subprocess
from collections.abc import Mapping, Sequence

from finetune.placement import Device, mebibytes

_ASK = ("nvidia-smi", "--query-gpu=uuid,name,memory.total", "--format=csv,noheader,nounits")
_PATIENCE_S = 20


def devices(said: str | None, environ: Mapping[str, str]) -> tuple[Device, ...]:
    """The cards that a worker may use, those that CUDA_VISIBLE_DEVICES leaves; empty where there are none.

    `said` is FT_GPUS, checked: `none`, or `[NAME:]2x80GB` to simulate; None: ask the driver. Blocks while the driver
    is asked, 20 s at most; one that does not answer has no cards.
    """
    if said == "none":
        return ()
    if said is not None:
        name, _, cards = said.rpartition(":")
        count, _, size = cards.partition("x")
        return tuple(_simulated(name or "simulated", number, mebibytes(size)) for number in range(int(count)))
    try:
        asked = subprocess.run(_ASK, capture_output=True, text=True, timeout=_PATIENCE_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ()
    return visible(read(asked.stdout), environ.get("CUDA_VISIBLE_DEVICES")) if asked.returncode == 0 else ()


def _simulated(name: str, number: int, memory_mb: int) -> Device:
    return Device(f"{name}-{number}@{socket.gethostname()}", name, memory_mb)


def read(answer: str) -> list[Device]:
    """The driver's answer: a line a card, `uuid, name, MiB`. A card that does not tell its memory is left out."""
    rows = csv.reader(answer.splitlines(), skipinitialspace=True)
    return [Device(row[0], row[1], int(row[2])) for row in rows if len(row) == 3 and row[2].isdecimal()]


def visible(found: Sequence[Device], listed: str | None) -> tuple[Device, ...]:
    """Those that CUDA_VISIBLE_DEVICES leaves, in its order: numbers or beginnings of ids, up to the first unknown."""
    if listed is None:
        return tuple(found)
    left: list[Device] = []
    for word in (each.strip() for each in listed.split(",")):
        if word.isdecimal():
            named = found[int(word) : int(word) + 1]
        else:
            named = [device for device in found if word and device.id.startswith(word)]
        # As CUDA has it: what stands behind an unknown or repeated one is not seen.
        if len(named) != 1 or named[0] in left:
            break
        left += named
    return tuple(left)
