"""The data room as a submission sees it: where it writes, how it counts tokens, whom it tells how far it is."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from finetune.data.measure import total
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

    def prepare(self, request: DataRequest, base_model: str) -> PreparedData:
        """Write the rows down for their target."""
        return prepare(request, self.out, partial(self.tokens_of, base_model), progress=self.progress)

    def tokens(self, data: PreparedData, base_model: str) -> Range:
        """Count what is trained on."""
        return total(data.train, data.format, self.tokens_of(base_model), self.progress)
