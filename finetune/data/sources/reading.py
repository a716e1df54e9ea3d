"""From a place to its blocks: open it, see what it is, and hand it to the reader of its kind."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Final

from finetune.data.sources import hub, jsonlines, jsonvalues, opening, parquet, remote, separated
from finetune.data.sources.content import kind_of, packing_of, refuse_packed
from finetune.data.sources.faults import CHANGED, MISSING, REFUSED, UNREACHABLE, UNREADABLE, Reading, Report, Stopped
from finetune.data.sources.opening import Source
from finetune.data.sources.place import Block, HubSplit, Kind, LocalFile, Place, RemoteFile
from finetune.data.sources.streams import Stream, unpacked

_TEXT: Final[dict[Kind, Callable[[Stream, Reading], Iterator[Block]]]] = {
    "jsonl": jsonlines.blocks,
    "json": jsonvalues.blocks,
    "csv": separated.commas,
    "tsv": separated.tabs,
}
#: Nothing more can be learned of a place with one of these.
_OUT_OF_REACH: Final = (MISSING, REFUSED, UNREACHABLE, UNREADABLE)


def blocks(place: Place, found: Report, *, target_bytes: int = 4 << 20) -> Iterator[Block]:
    """The rows of a place in order, in blocks of at most `target_bytes` and one row.

    What is wrong goes to `found`: a row at fault is left out, and the reading ends where nothing more can be read.
    Nothing is raised for the content, nor for a file that is gone. Memory does not grow with the place. In the end
    it is told if somebody wrote to the place meanwhile; whoever stops earlier is not told.
    """
    reading = Reading(place.file, found, target_bytes)
    try:
        if isinstance(place.source, HubSplit):
            yield from hub.blocks(place.source, reading)
        else:
            yield from _of_a_file(place, reading)
    except Stopped as stopped:
        found(stopped.problem)


def _of_a_file(place: Place, reading: Reading) -> Iterator[Block]:
    with _opened(place, reading) as source:
        try:
            yield from _rows(source, place, reading)
        except Stopped as stopped:
            if stopped.problem.code in _OUT_OF_REACH:
                raise
            # A file that is still being written looks cut off: then that is the reason, and is told as well.
            reading.found(stopped.problem)
        if source.changed():
            what, why = "the file changed while it was read", "Its rows may be half of the old file and half of the new"
            reading.tell(CHANGED, what, why, "wait until nobody writes to it, then repeat the command")


def _opened(place: Place, reading: Reading) -> AbstractContextManager[Source]:
    if isinstance(place.source, LocalFile):
        return opening.opened(place.source, reading)
    assert isinstance(place.source, RemoteFile)
    return remote.opened(place.source, reading)


def _rows(source: Source, place: Place, reading: Reading) -> Iterator[Block]:
    stream = source.stream()
    if packing := packing_of(stream.peek(), place.packing, reading):
        stream = unpacked(stream, packing, reading)
        refuse_packed(stream.peek(), reading)
    kind = kind_of(stream.peek(), place.kind, reading)
    if kind == "parquet":
        yield from parquet.blocks(source.handle(), place.size, reading)
    else:
        yield from _TEXT[kind](stream, reading)
