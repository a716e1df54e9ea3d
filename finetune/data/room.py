"""The data room as a submission sees it: where it writes, how it counts tokens, whom it tells how far it is."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from finetune.data.measure import counted, longest, total
from finetune.data.parts import Progress
from finetune.data.preparing import inspect, prepare
from finetune.data.report import DataReport
from finetune.data.request import DataRequest
from finetune.data.tokens import Range, Tokens
from finetune.ports import PreparedData


@dataclass(frozen=True, kw_only=True)
class Room:
    """See `submission.Data`."""

    #: Prepared data goes below it.
    out: Path
    #: Opens what counts the tokens of a base model.
    tokens_of: Callable[[str], Tokens]
    progress: Progress

    def inspect(self, request: DataRequest, base_model: str) -> DataReport:
        """Look at the rows."""
        return inspect(request, partial(self.tokens_of, base_model), progress=self.progress)

    def count(
        self, request: DataRequest, base_models: Sequence[str]
    ) -> tuple[DataReport, Mapping[str, Range], Callable[[str], int]]:
        """Count what `prepare` would write, for each of these."""
        return counted(request, {name: self.tokens_of(name) for name in base_models}, self.progress)

    def prepare(self, request: DataRequest, base_model: str) -> PreparedData:
        """Write the rows down for their target."""
        return prepare(request, self.out, partial(self.tokens_of, base_model), progress=self.progress)

    def tokens(self, data: PreparedData, base_model: str) -> Range:
        """Count what is trained on."""
        return total(data.train, data.format, self.tokens_of(base_model), self.progress)

    def longest(self, data: PreparedData, base_model: str) -> int:
        """Tokens of the longest row that is trained on, at most."""
        return longest(data.train, data.format, self.tokens_of(base_model))
