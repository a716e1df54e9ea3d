"""Counts tokens for local base models as the trainer will see them: same template, same tokenizer, same loss mask.

Needs neither torch nor the network. A base model whose tokenizer is not on this machine is `NotHere`.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import msgspec

from finetune.data.example import Chat, Example
from finetune.data.tokens import Count, NotHere, Range, Segment, Uncounted, combined, sequences
from finetune.training.stored import Stored, find
from finetune.training.template import Span, Template, UnplacedRow, within

#: Texts are handed to the tokenizer in batches of so many characters or rows: its tokens take about 100 bytes each.
_CHARACTERS: Final = 1 << 19
_ROWS: Final = 512
#: Batches that wait or are worked on, at most, before the next is rendered.
_WAITING: Final = 2
_LONGEST_WHY: Final = 200


class LocalTokens:
    """The counter of a local base model (`finetune.data.tokens.Tokens`). Several threads must not share one.

    A count is the length of the ids that `finetune.training.examples` makes of the row, before it is cut to
    max_seq_length. A row that the chat template refuses is Uncounted, with what the trainer would say.
    """

    exact: Final = True

    def __init__(self, name: str, stored: Stored) -> None:
        import tokenizers  # an extra; where there is a `Stored` it is there

        self.name = name
        self._tokenizer: Any = tokenizers.Tokenizer.from_buffer(stored.tokenizer)
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._tokenizer.encode_special_tokens = stored.split_special_tokens
        bare, with_tools = stored.template, stored.tools_template
        self._template = Template(lambda tools: bare if tools is None else with_tools, stored.special_tokens)

    @classmethod
    def open(
        cls, base_model: str, *, cache: Path, revision: str | None = None, trust_remote_code: bool = False
    ) -> "LocalTokens":
        """The counter for a base model as recipes name it: `builtin:NAME`, a folder, or an id on the hub.

        Blocks for one to five seconds the first time, then for about a second. Never downloads. Raises NotHere.
        """
        stored = find(base_model, cache=cache, revision=revision, trust_remote_code=trust_remote_code)
        try:
            return cls(f"the tokenizer of {base_model}", stored)
        except ModuleNotFoundError as error:
            raise NotHere(f"{error.name} is not installed", "pip install 'ft-orchestrator[local]'") from None

    def count(self, rows: Sequence[Example]) -> list[Count | Uncounted]:
        """The tokens of each row. `low` and `high` are equal. Rendering goes on while a batch is encoded."""
        parts = [sequences(row) for row in rows]
        flat = iter(self._counts([chat for part in parts for chat in part]))
        found = [[next(flat) for _ in part] for part in parts]
        return [_one(counts) for counts in found]

    def learned(self, rows: Sequence[Example]) -> list[Range | Uncounted]:
        """The tokens of each row that carry loss: of a preference those of both answers. `low` and `high` are equal.

        Slower than `count`, above all with templates that do not mark what the assistant generates.
        """
        found = []
        for row in rows:
            counts = [self._supervised(chat) for chat in sequences(row)]
            refused = [count for count in counts if isinstance(count, Uncounted)]
            total = sum(count for count in counts if not isinstance(count, Uncounted))
            found.append(refused[0] if refused else Range(total, total))
        return found

    def lengths(self, texts: Sequence[str]) -> list[int]:
        """The tokens of each text as it is, without a template. Both cores work; Python is free meanwhile."""
        # The fast one leaves out where each token stands.
        return [len(encoding) for encoding in self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)]

    def segments(self, row: Chat) -> list[Segment]:
        """The text that the model reads of a row, cut where the loss begins and ends. Joined it is that text.

        Its learned tokens are those with a label in training. Raises UnplacedRow.
        """
        out: list[Segment] = []
        for piece in self.pieces(row):
            if out and out[-1].learned == piece.learned:
                last = out.pop()
                piece = Segment(last.text + piece.text, piece.learned, last.tokens + piece.tokens)
            out.append(piece)
        return out

    def pieces(self, row: Chat) -> list[Segment]:
        """The same, token by token. Tokens that stand for parts of one character are one piece.

        White space that a tokenizer drops stands with the token after it; after the last, by itself with no token.
        Raises UnplacedRow.
        """
        text, spans = self._template.render(_plain(row))
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        out: list[Segment] = []
        at = 0
        for begin, end in encoding.offsets:
            learned = begin < end and any(start <= begin < stop for start, stop in spans)
            if out and end <= at and out[-1].learned == learned:
                out[-1] = out[-1]._replace(tokens=out[-1].tokens + 1)
            else:
                out.append(Segment(text[at:end], learned, 1))
            at = max(at, end)
        if at < len(text):
            out.append(Segment(text[at:], False, 0))
        return out

    def _counts(self, chats: Sequence[Chat]) -> Iterator[int | Uncounted]:
        """In order. While the tokenizer works on batches, which needs no Python, the next is rendered."""
        # Two at a time: a core that is done with one batch goes on with the other.
        with ThreadPoolExecutor(2, "tokens") as pool:
            waiting: deque[tuple[list[str | UnplacedRow], Future[list[int]]]] = deque()
            for texts in self._rendered(chats):
                waiting.append((texts, pool.submit(self.lengths, [text for text in texts if isinstance(text, str)])))
                if len(waiting) > _WAITING:
                    yield from _merged(*waiting.popleft())
            while waiting:
                yield from _merged(*waiting.popleft())

    def _rendered(self, chats: Sequence[Chat]) -> Iterator[list[str | UnplacedRow]]:
        batch: list[str | UnplacedRow] = []
        size = 0
        # Until the first batch is rendered the tokenizer waits: it is a small one, and each may have twice as many.
        enough = _ROWS // 16
        for start, stop in pairwise([*range(0, len(chats), _ROWS // 16), len(chats)]):
            texts = self._template.texts([_plain(chat) for chat in chats[start:stop]])
            batch += texts
            size += sum(len(text) for text in texts if isinstance(text, str))
            if len(batch) >= enough or size >= _CHARACTERS:
                yield batch
                batch, size, enough = [], 0, min(_ROWS, enough * 2)
        if batch:
            yield batch

    def _supervised(self, chat: Chat) -> int | Uncounted:
        try:
            text, spans = self._template.render(_plain(chat))
        except UnplacedRow as error:
            return _refused(error)
        offsets: list[Span] = self._tokenizer.encode(text, add_special_tokens=False).offsets
        # The first token of a row has no loss: nothing predicts it.
        return within(sorted(begin for begin, end in offsets[1:] if begin < end), spans)


def _plain(chat: Chat) -> dict[str, Any]:
    """The row as it stands in the prepared file."""
    row: dict[str, Any] = msgspec.to_builtins(chat, order="deterministic")
    return row


def _one(counts: Sequence[int | Uncounted]) -> Count | Uncounted:
    for count in counts:
        if isinstance(count, Uncounted):
            return count
    return combined([Range(count, count) for count in counts if not isinstance(count, Uncounted)])


def _merged(texts: Sequence[str | UnplacedRow], lengths: "Future[list[int]]") -> Iterator[int | Uncounted]:
    left = iter(lengths.result())
    for text in texts:
        yield next(left) if isinstance(text, str) else _refused(text)


def _refused(error: UnplacedRow) -> Uncounted:
    said = "".join(each if each.isprintable() else " " for each in str(error)[:_LONGEST_WHY])
    return Uncounted(said)
