"""The events of one job, kept small: a time and a step, or a time and words. Rows are made when somebody asks."""

import hashlib
import random
import string
from array import array
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from finetune.sandbox.openai.paging import Page
from finetune.sandbox.openai.words import Refused

#: Characters of an event's id that count the events of its job.
_COUNTING: Final = 6
_EVENT: Final = "ftevent-"


@dataclass(frozen=True, kw_only=True)
class Ids:
    """How a vendor makes ids: of which characters, how many, and what those of checkpoints begin with."""

    characters: str = string.ascii_letters + string.digits
    length: int = 24
    checkpoint: str = "ftckpt_"

    def make(self, chance: random.Random, prefix: str) -> str:
        """A new one."""
        return prefix + "".join(chance.choices(self.characters, k=self.length))

    def of(self, seed: str) -> str:
        """What comes behind the prefix; always the same for the same seed."""
        digest = hashlib.sha256(seed.encode()).digest()
        return "".join(self.characters[byte % len(self.characters)] for byte in digest[: self.length])

    def counted(self, seed: str, number: int) -> str:
        """As `of`, with a number in it that `count` finds again."""
        digits = ""
        for _ in range(_COUNTING):
            number, digit = divmod(number, len(self.characters))
            digits += self.characters[digit]
        return self.of(seed)[:-_COUNTING] + digits

    def count(self, text: str) -> int:
        """The number in what `counted` made; -1 when it made no such thing."""
        if len(text) != self.length or not set(text) <= set(self.characters):
            return -1
        number = 0
        for character in reversed(text[-_COUNTING:]):
            number = number * len(self.characters) + self.characters.index(character)
        return number


class Log:
    """Events in the order in which they happened."""

    def __init__(self, job_id: str, ids: Ids, of_step: Callable[[int], tuple[str, Mapping[str, float]]]) -> None:
        """`of_step` gives the words and the metrics of a step, always the same."""
        self._job_id, self._ids, self._of_step = job_id, ids, of_step
        self._times = array("q")
        #: Of each event its step, or minus its place in `_words`, less one.
        self._what = array("q")
        self._words: list[tuple[str, str]] = []

    def __len__(self) -> int:
        return len(self._times)

    def tell(self, at: float, message: str, level: str = "info") -> None:
        """A message."""
        self._times.append(int(at))
        self._words.append((message, level))
        self._what.append(-len(self._words))

    def step(self, at: float, step: int) -> None:
        """The metrics of a step, from 1 on."""
        self._times.append(int(at))
        self._what.append(step)

    @property
    def steps(self) -> list[int]:
        """All steps that were told."""
        return [what for what in self._what if what > 0]

    def page(self, page: Page) -> tuple[list[dict[str, Any]], bool]:
        """Rows from the newest on, and whether there are more. Raises Refused when `after` is no event of the job."""
        end = len(self)
        if page.after is not None:
            end = self._ids.count(page.after.removeprefix(_EVENT))
            if not 0 <= end < len(self) or page.after != self._id(end):
                raise Refused(404, f"Could not find event: {page.after}", param="after")
        begin = max(0, end - page.limit)
        return [self._row(number) for number in range(end - 1, begin - 1, -1)], begin > 0

    def _row(self, number: int) -> dict[str, Any]:
        what, level, data = self._what[number], "info", {}
        if what > 0:
            message, told = self._of_step(what)
            data = dict(told)
        else:
            message, level = self._words[-what - 1]
        return {
            "object": "fine_tuning.job.event",
            "id": self._id(number),
            "created_at": self._times[number],
            "level": level,
            "message": message,
            "data": data,
            "type": "metrics" if what > 0 else "message",
        }

    def _id(self, number: int) -> str:
        return _EVENT + self._ids.counted(self._job_id, number)
