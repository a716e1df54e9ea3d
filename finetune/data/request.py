"""What is asked of the data room: which rows, read how, checked for which target."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from finetune.catalogue import DataRules
from finetune.data.example import Kind

#: The kind of rows that a method learns from.
KIND_OF: Mapping[str, Kind] = {"sft": "chat", "dpo": "preference"}


@dataclass(frozen=True, kw_only=True)
class DataRequest:
    """Training rows, and how they are to be looked at. At most one of `validation` and `split` is given."""

    #: A file, a folder, a pattern, or a place elsewhere (`hf:owner/name`, `s3://...`).
    train: str
    #: Relative paths start here.
    folder: Path
    validation: str | None = None
    #: The share of rows held back for validation, between 0 and 1.
    split: float | None = None
    #: The key of a row, dotted, whose value keeps rows on one side of the split.
    group_by: str | None = None
    #: A name of `formats.FORMATS`, or auto.
    format: str = "auto"
    #: Ours to the file's names.
    field_map: Mapping[str, str] = field(default_factory=dict)
    #: The kind of rows that is needed; None takes any.
    kind: Kind | None = "chat"
    privacy: Literal["off", "warn", "strict"] = "off"
    #: Tokens of the longest row that is trained on whole; None: not looked at.
    max_tokens: int | None = None
    #: What the target takes; None: nothing is known of it.
    rules: DataRules | None = None
    #: Read what is not on this machine.
    fetch: bool = True
    #: Look for near duplicates, which takes longer than all the rest; None: if there are not too many rows.
    near: bool | None = False
    #: Tell each fault on its own instead of one for each kind.
    every: bool = False

    def __post_init__(self) -> None:
        """Raise ValueError for what contradicts itself."""
        if self.validation is not None and self.split is not None:
            raise ValueError("a validation file and a split exclude each other")
        if self.split is not None and not 0 < self.split < 1:
            raise ValueError("split must be above 0 and below 1")
