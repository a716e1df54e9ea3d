"""Answers under way, taken through the model together: whoever needs a token makes one for all of them.

    row     one answer's tokens: made so far and not yet read, and how many may come
    group   rows that share one KV cache, padded on the left to one length
    round   one forward pass of a group: a token for each of its rows

No thread of its own: a reader that finds no token ready runs the next round itself, under the engine's lock. A row
whose reader is slow goes on only as far as `AHEAD`, then waits in a group of its own and holds up nobody. Rows join
after their prompt has been read, and leave when they end, in the middle of the others.
"""

import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

import torch
from torch.nn.functional import pad
from transformers.cache_utils import DynamicCache, DynamicLayer

from finetune.errors import ServingError

#: Tokens that may wait for the reader of a row.
AHEAD = 64
#: The part of a shared cache that may be padding.
_PADDING = 0.5

#: Chooses a token from logits [vocabulary]. Raises ServingError.
Pick = Callable[[torch.Tensor], int]


class Forward(Protocol):
    """One pass of the model under the lock."""

    def __call__(self, adapters: Sequence[str | None], inputs: dict[str, Any]) -> tuple[torch.Tensor, Any]:
        """Logits [rows, vocabulary] after the last token, in fp32 on the CPU, and the cache. Raises ServingError."""
        ...


class Row:
    """One answer's tokens. Read by one thread at a time, by `Rounds.token`."""

    def __init__(self, prompt: list[int], room: int, adapter: str | None, pick: Pick, *, kind: str = "") -> None:
        """At most `room` (>= 1) tokens. Only rows of one `kind` may be in one pass."""
        self.prompt, self.left, self.adapter, self.kind = prompt, room, adapter, kind
        self.ahead = AHEAD
        self.made: deque[int] = deque()
        self.last = 0
        self.group: Group | None = None
        #: No further tokens come.
        self.over = False
        self.failed: ServingError | None = None
        self._pick = pick

    def take(self, logits: torch.Tensor, stop_ids: frozenset[int]) -> None:
        """Choose the next token, and see whether it is the last."""
        try:
            self.last = self._pick(logits)
        except ServingError as error:
            self.fail(error)
            return
        self.made.append(self.last)
        self.left -= 1
        # Last: who reads without the lock must find the token first.
        self.over = self.over or self.left == 0 or self.last in stop_ids

    def fail(self, error: ServingError) -> None:
        """End with this error, after what was made."""
        self.failed = error
        self.over = True


class Group:
    """Rows that share a cache."""

    def __init__(self, rows: list[Row], lengths: list[int], cache: Any) -> None:
        """`lengths`: tokens of each row in the cache, which is padded on the left to the longest."""
        self.rows, self.lengths, self.cache = rows, lengths, cache
        for row in rows:
            row.group = self

    @property
    def loose(self) -> bool:
        """Whether rows can come and go. Caches of sliding windows and of recurrent layers stay as they are: there rows
        that are over ride along.
        """
        cache = self.cache
        return type(cache) is DynamicCache and all(type(layer) is DynamicLayer for layer in cache.layers)

    def inputs(self, device: Any, last: int) -> dict[str, Any]:
        """Of the next round; `last` is the model's last position. Without a mask where nothing is padding."""
        made: dict[str, Any] = {
            "input_ids": torch.tensor([[row.last] for row in self.rows], device=device),
            "past_key_values": self.cache,
        }
        if len(self.rows) > 1:
            lengths, width = torch.tensor(self.lengths)[:, None], max(self.lengths)
            made["attention_mask"] = (torch.arange(width + 1)[None] >= width - lengths).long().to(device)
            # Rows that are over ride along; their positions must not leave the model's tables.
            made["position_ids"] = lengths.clamp(max=last).to(device)
        return made

    def grow(self, cache: Any) -> None:
        """A round is done."""
        self.cache = cache
        self.lengths = [length + 1 for length in self.lengths]

    def takes(self, other: "Group") -> bool:
        """Whether both together are one pass, and not too much padding."""
        if not (self.loose and other.loose and self.rows[0].kind == other.rows[0].kind):
            return False
        lengths = self.lengths + other.lengths
        return sum(lengths) >= len(lengths) * max(lengths) * _PADDING

    def join(self, other: "Group") -> None:
        """Take the other's rows over. On an error both are as they were."""
        width = max(self.lengths + other.lengths)
        pairs = zip(self.cache.layers, other.cache.layers, strict=True)
        joined = [
            (_stacked(mine.keys, new.keys, width), _stacked(mine.values, new.values, width)) for mine, new in pairs
        ]
        for layer, (keys, values) in zip(self.cache.layers, joined, strict=True):
            layer.keys, layer.values = keys, values
        self.rows, self.lengths = self.rows + other.rows, self.lengths + other.lengths
        for row in other.rows:
            row.group = self

    def part(self, indices: Sequence[int]) -> "Group":
        """A group of these rows, with a cache of its own; this one is left as it is."""
        width, lengths = max(self.lengths), [self.lengths[index] for index in indices]
        cache, start = DynamicCache(), width - max(lengths)
        for place, layer in enumerate(self.cache.layers):
            chosen = torch.tensor(indices, device=layer.keys.device)
            cache.update(layer.keys[chosen][:, :, start:], layer.values[chosen][:, :, start:], place)
        return Group([self.rows[index] for index in indices], lengths, cache)


class Rounds:
    """All rows of one engine. Safe to use from several threads; everything happens under the lock that it is given."""

    def __init__(
        self,
        lock: AbstractContextManager[None],
        forward: Forward,
        stop_ids: frozenset[int],
        *,
        device: Any,
        context: int | None,
    ) -> None:
        """`context`: tokens that the model has positions for."""
        self._lock, self._forward, self._stop_ids = lock, forward, stop_ids
        self._device, self._last = device, (context or sys.maxsize) - 1
        self._groups: list[Group] = []
        #: The thread that is in a round, or 0.
        self._inside = 0

    def token(self, row: Row) -> int | None:
        """The row's next token; None when it has ended. Runs at most one pass. Raises ServingError."""
        if row.made:
            return row.made.popleft()
        with self._lock:
            if not row.made and not row.over:
                with self._busy():
                    self._advance(row)
            if row.made:
                return row.made.popleft()
        if row.failed is not None:
            raise row.failed
        return None

    def begin(self, rows: list[Row]) -> None:
        """Read these prompts in one pass, and choose their first tokens. None of them may have been read before."""
        with self._lock, self._busy():
            self._read(rows)

    def close(self, row: Row) -> None:
        """Make no further token of it. Idempotent."""
        row.over = True
        # A collected answer comes here in the middle of a round of the same thread: the round's end sees to it.
        if row.group is not None and self._inside != threading.get_ident():
            with self._lock, self._busy():
                pass

    @contextmanager
    def _busy(self) -> Iterator[None]:
        """While the block runs nothing leaves its group; then everything that is due does."""
        self._inside = threading.get_ident()
        try:
            with torch.inference_mode():
                yield
                self._tidy()
        finally:
            self._inside = 0

    def _advance(self, row: Row) -> None:
        if row.group is None:
            self._read([row])
            return
        group = self._joined(row.group)
        self._pass(group, group.inputs(self._device, self._last))

    def _read(self, rows: list[Row]) -> None:
        lengths = [len(row.prompt) for row in rows]
        width = max(lengths)
        ids = [[0] * (width - len(row.prompt)) + row.prompt for row in rows]
        inputs: dict[str, Any] = {"input_ids": torch.tensor(ids, device=self._device)}
        if len(rows) > 1:
            mask = (torch.arange(width)[None] >= width - torch.tensor(lengths)[:, None]).long().to(self._device)
            inputs |= {"attention_mask": mask, "position_ids": (mask.cumsum(-1) - 1).clamp(min=0)}
        group = Group(rows, [length - 1 for length in lengths], None)
        self._groups.append(group)
        self._pass(group, inputs)

    def _pass(self, group: Group, inputs: dict[str, Any]) -> None:
        try:
            logits, cache = self._forward([row.adapter for row in group.rows], inputs)
        except ServingError as error:
            # Its cache may be half written.
            for row in group.rows:
                row.fail(error)
            return
        group.grow(cache)
        for row, of_row in zip(group.rows, logits, strict=True):
            if not row.over:
                row.take(of_row, self._stop_ids)

    def _joined(self, group: Group) -> Group:
        """The group that this one can be part of, or itself. Groups that have company stay as they are."""
        if len(group.rows) > 1:
            return group
        for other in self._groups:
            waits = any(len(row.made) >= row.ahead for row in other.rows)
            if other is not group and not waits and other.takes(group):
                try:
                    other.join(group)
                except RuntimeError:
                    # No memory for a larger one.
                    return group
                self._groups.remove(group)
                return other
        return group

    def _tidy(self) -> None:
        """Take rows that are over out of their groups, and rows that are far ahead into groups of their own."""
        for group in list(self._groups):
            stay, wait = _sorted(group)
            if len(group.rows) in (len(stay), len(wait)) or (not group.loose and (stay or wait)):
                continue
            try:
                parts = [group.part(some) for some in (stay, *([index] for index in wait)) if some]
            except RuntimeError:
                # No memory for copies: those that are over ride along.
                for row in group.rows:
                    row.group = group
                continue
            self._groups.remove(group)
            self._groups += parts
            for row in group.rows:
                if row.over:
                    row.group = None


def _sorted(group: Group) -> tuple[list[int], list[int]]:
    """The indices of the rows that go on together, and of those that wait for their readers."""
    live = [index for index, row in enumerate(group.rows) if not row.over]
    wait = [index for index in live if len(group.rows[index].made) >= group.rows[index].ahead]
    return ([], live) if len(live) == 1 else ([index for index in live if index not in wait], wait)


def _stacked(mine: torch.Tensor, new: torch.Tensor, width: int) -> torch.Tensor:
    """Both, [rows, heads, tokens, size], padded on the left to `width` tokens, one under the other."""
    return torch.cat([pad(each, (0, 0, width - each.shape[-2], 0)) for each in (mine, new)])
