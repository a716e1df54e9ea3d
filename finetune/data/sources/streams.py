"""Bytes of a source, one after another: with a look at how they begin, a count, and without compression."""

import zlib
from collections.abc import Callable
from typing import Final, Protocol

from finetune.data.sources.faults import BROKEN, Reading, Stopped, library
from finetune.data.sources.place import Packing

#: Enough to tell a kind of file by how it begins.
HEAD_BYTES: Final = 64 * 1024

#: Compressed bytes taken at a time. A zstd block of 4 bytes can stand for 128 KiB and is unpacked whole, so these
#: are at most 32 MiB in memory (RFC 8878, 3.1.1.2: Block_Maximum_Size).
_ZSTD_STEP_BYTES: Final = 1024
#: What `zstd` takes without `--long`; a frame that asks for more memory is refused.
_ZSTD_WINDOW_BYTES: Final = 128 * 1024 * 1024

_DAMAGED: Final = "It was damaged on its way, or something else is behind it"
_LONG: Final = "It was made with a `--long` above 27, and asks for more memory than ft gives"


class Bytes(Protocol):
    """What a stream is made from: like a raw file, may return fewer bytes than asked; none at the end."""

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes, empty at the end. Raises Stopped."""


class Stream:
    """Reads a source from its start to its end."""

    def __init__(self, source: Bytes, taken: Callable[[], int] | None = None) -> None:
        """`taken` says how much was read of what lies below; without it, the stream counts its own bytes."""
        self._source = source
        self._head = b""
        self._read = 0
        self._taken = taken
        self._fault: Stopped | None = None

    @property
    def taken(self) -> int:
        """Bytes of the source, compressed as it is, that were read so far."""
        return self._taken() if self._taken else self._read

    def peek(self) -> bytes:
        """The next HEAD_BYTES, fewer only at the end; they are read again by `read`. Raises Stopped."""
        if len(self._head) < HEAD_BYTES:
            self._head = self._filled(HEAD_BYTES)
        return self._head

    def read(self, size: int, /) -> bytes:
        """The next `size` bytes, fewer only at the end. Raises Stopped."""
        return self._filled(size)

    def _filled(self, size: int) -> bytes:
        parts, have = [self._head[:size]], min(size, len(self._head))
        self._head = self._head[size:]
        while have < size and (part := self._next(size - have, keep=have > 0)):
            parts.append(part)
            have += len(part)
            self._read += len(part)
        return parts[-1] if len(parts) == 2 and not parts[0] else b"".join(parts)

    def _next(self, size: int, *, keep: bool) -> bytes:
        """More of the source. A fault behind bytes that are not handed out yet is kept until they are."""
        if self._fault:
            raise self._fault
        try:
            return self._source.read(size)
        except Stopped as stopped:
            self._fault = stopped
            if keep:
                return b""
            raise


def unpacked(stream: Stream, packing: Packing, reading: Reading) -> Stream:
    """What is in a compressed stream. Its `read` raises Stopped where the compression is broken or ends too early."""
    return Stream(_UNPACKERS[packing](stream, reading), lambda: stream.taken)


class _Gzip:
    """The members of a gzip file, one after another; memory does not depend on what they unpack to."""

    _STEP_BYTES: Final = 256 * 1024

    def __init__(self, stream: Stream, reading: Reading) -> None:
        self._stream = stream
        self._reading = reading
        self._member = zlib.decompressobj(wbits=31)
        self._input = b""

    def read(self, size: int, /) -> bytes:
        while True:
            self._input = self._input or self._stream.read(self._STEP_BYTES)
            if not self._input:
                if not self._member.eof:
                    raise _cut_off(self._reading, "gzip")
                return b""
            if self._member.eof and not self._next_member():
                continue
            try:
                out = self._member.decompress(self._input, size)
            except zlib.error:
                raise _corrupt(self._reading, "gzip", _DAMAGED) from None
            self._input = self._member.unused_data if self._member.eof else self._member.unconsumed_tail
            if out:
                return out

    def _next_member(self) -> bool:
        # Tapes and some writers fill up with zeros behind the last member; gzip passes over them as well.
        self._input = self._input.lstrip(b"\0")
        if self._input:
            self._member = zlib.decompressobj(wbits=31)
        return bool(self._input)


class _Zstd:
    """The frames of a zstd file, one after another; memory is bounded by the window and one step."""

    def __init__(self, stream: Stream, reading: Reading) -> None:
        self._stream = stream
        self._reading = reading
        self._zstd = library("zstandard", "it unpacks .zst files", reading)
        self._frame = self._new()
        self._input = b""
        self._output = b""
        self._at = 0

    def _new(self) -> "_Frame":
        frame: _Frame = self._zstd.ZstdDecompressor(max_window_size=_ZSTD_WINDOW_BYTES).decompressobj()
        return frame

    def read(self, size: int, /) -> bytes:
        while self._at >= len(self._output):
            self._input = self._input or self._stream.read(_ZSTD_STEP_BYTES)
            if not self._input:
                if not self._frame.eof:
                    raise _cut_off(self._reading, "zstd")
                return b""
            self._output, self._at = self._step(), 0
        out = self._output[self._at : self._at + size]
        self._at += len(out)
        return out

    def _step(self) -> bytes:
        if self._frame.eof:
            self._frame = self._new()
        try:
            out = self._frame.decompress(self._input)
        except self._zstd.ZstdError as error:
            large = "memory" in str(error) or "window" in str(error).lower()
            raise _corrupt(self._reading, "zstd", _LONG if large else _DAMAGED) from None
        self._input = self._frame.unused_data if self._frame.eof else b""
        return out


class _Frame(Protocol):
    """A decompressor of one frame, as the library `zstandard` has it."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, /) -> bytes: ...


def _cut_off(reading: Reading, packing: str) -> Stopped:
    what = f"the {packing} file ends before its content does"
    return reading.stop(BROKEN, what, "It was not written or copied to its end; rows are missing", "copy it again")


def _corrupt(reading: Reading, packing: str, why: str) -> Stopped:
    what = f"the {packing} compression is broken"
    return reading.stop(BROKEN, what, why, f"test it with `{packing} -t`, and copy it again")


class _Unpacker(Protocol):
    def __call__(self, stream: Stream, reading: Reading) -> Bytes: ...


_UNPACKERS: Final[dict[Packing, _Unpacker]] = {"gzip": _Gzip, "zstd": _Zstd}
