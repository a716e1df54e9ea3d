"""From preference rows to pairs of a better and a worse answer; only the answers' own tokens are supervised."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch

from finetune.training.examples import ChatEncoder, Example, is_talk

_ANSWERS: Final = ("chosen", "rejected")


@dataclass(frozen=True)
class Pair:
    """A prompt with the better and with the worse answer, as the model sees them: a Unit."""

    chosen: Example
    rejected: Example

    @property
    def parts(self) -> tuple[Example, Example]:
        """The better one, the worse one."""
        return self.chosen, self.rejected

    @property
    def tokens(self) -> int:
        """See Unit."""
        return self.chosen.tokens + self.rejected.tokens

    @property
    def longest(self) -> int:
        """See Unit."""
        return max(self.chosen.tokens, self.rejected.tokens)

    @property
    def learnable(self) -> bool:
        """False where an answer has no token, or nothing tells the two apart."""
        return all(part.learnable for part in self.parts) and not torch.equal(self.chosen.ids, self.rejected.ids)

    def cut(self, max_tokens: int) -> "Pair":
        """See Unit."""
        return Pair(self.chosen.cut(max_tokens), self.rejected.cut(max_tokens))


class PairEncoder:
    """Applies one tokenizer's chat template to rows `{"prompt": [...], "chosen": [...], "rejected": [...]}`.

    An Encoder; `tools`, if any, are for both answers. Answers within a prompt are read and not learned.
    """

    layout = '{"prompt": [messages], "chosen": [messages], "rejected": [messages]}'
    lacking = "two answers that differ"

    def __init__(self, tokenizer: Any) -> None:
        """Raises TrainingError (E611)."""
        self._chats = ChatEncoder(tokenizer)

    def is_row(self, row: Mapping[str, Any]) -> bool:
        """See Encoder."""
        return all(is_talk(row.get(key)) for key in ("prompt", *_ANSWERS))

    def encode(self, row: Mapping[str, Any]) -> Pair:
        """See Encoder."""
        return Pair(*map(self._chats.encode, _chats(row)))

    def prompt_leads(self, row: Mapping[str, Any]) -> bool:
        """See Encoder. Of the better answer."""
        return self._chats.prompt_leads(next(_chats(row)))


def _chats(row: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    prompt = [{**each, "weight": 0} if each["role"] == "assistant" else each for each in row["prompt"]]
    for key in _ANSWERS:
        yield {"messages": [*prompt, *row[key]], "tools": row.get("tools")}
