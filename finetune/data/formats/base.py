"""What a format is: how its rows look, how they become examples, and how examples become its rows."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from finetune.data.example import Example, Kind
from finetune.data.faults import Shape

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Format:
    """A layout of training rows. One file each; what it cannot carry it says before it is written."""

    #: The word for `dataset.format` and `ft data convert --to`.
    name: str
    #: As people call it: "ShareGPT".
    title: str
    kind: Kind
    #: A row as a user writes it, JSON.
    sample: str
    #: True for a row that looks like one of this layout, sound or not. Gets parsed JSON objects only.
    recognises: Callable[[Row], bool]
    #: Every fault of a row's layout. None if the format is only written.
    shape: Shape | None = None
    #: A row without faults as an example. None if the format is only written.
    read: Callable[[Row], Example] | None = None
    #: An example of this kind as a row. None if the format is only read.
    write: Callable[[Any], Mapping[str, Any]] | None = None
    #: What `write` would lose of this example, each in a few words in the plural ("message weights"). Empty: nothing.
    losses: Callable[[Any], list[str]] = lambda example: []
    #: The key of the list whose positions are those of the example's messages; None where they differ.
    turns: str | None = None
    #: Keys of a row that say nothing to a model and are left out with a warning.
    harmless: frozenset[str] = frozenset({"id", "metadata", "source"})
