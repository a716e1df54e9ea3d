"""A file of weights that a provider has handed out: whether it is whole."""

import json
import struct
from pathlib import Path
from typing import Any, Final

#: What comes before the tensors of a safetensors file, bytes at most.
_HEAD_BYTES: Final = 100_000_000
#: Of a file of an adapter's weights: one that is larger is no adapter.
MOST_WEIGHTS: Final = 64 * 2**30


def fault_of(path: Path) -> str | None:
    """What is wrong with a safetensors file; None: it is whole, as its head says where every tensor lies.

    To be read after the file's name. Raises OSError.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        first = file.read(8)
        length = struct.unpack("<Q", first)[0] if len(first) == 8 else size
        if length > min(_HEAD_BYTES, size - 8):
            return "is no safetensors file"
        tensors = _tensors(file.read(length))
    if not tensors:
        return "has no tensors"
    try:
        ends = max(int(each["data_offsets"][1]) for each in tensors.values())
    except (KeyError, IndexError, TypeError, ValueError):
        return "is no safetensors file"
    return None if 8 + length + ends == size else "breaks off, or has more bytes than tensors"


def _tensors(head: bytes) -> dict[str, Any]:
    try:
        value = json.loads(head)
    except (ValueError, RecursionError):
        return {}
    return {name: each for name, each in value.items() if name != "__metadata__"} if isinstance(value, dict) else {}
