"""What is counted while rows are checked: by row with a few bytes each, and it merges."""

from array import array
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from finetune.data.example import Chat, Example, Label, Message, lists, plain

#: Different answers that are counted; the rarest make room for others.
_ANSWERS: Final = 256


@dataclass
class Tally:
    """Counts of sound rows. Memory: 12 bytes a row, and what _ANSWERS answers take."""

    rows: int = 0
    #: Messages by role.
    roles: Counter[str] = field(default_factory=Counter)
    #: Characters of text in all messages, and in the answers that are learned.
    characters: int = 0
    learned: int = 0
    #: Of each row: bytes as canonical JSON; messages; characters.
    sizes: "array[int]" = field(default_factory=lambda: array("I"))
    turns: "array[int]" = field(default_factory=lambda: array("I"))
    lengths: "array[int]" = field(default_factory=lambda: array("I"))
    #: Rows with tools, with images, audio or files.
    tools: int = 0
    media: int = 0
    #: Labels by value.
    labels: Counter[bool] = field(default_factory=Counter)
    #: How often an answer was the last one of a row, by its hash in this process; about right for the frequent ones.
    answers: Counter[str] = field(default_factory=Counter)

    def add(self, example: Example, size: int) -> None:
        """Count one row of `size` bytes."""
        self.rows += 1
        before, turns = self.characters, 0
        roles, last = self.roles, ""
        for messages in lists(example):
            turns += len(messages)
            for message in messages:
                content = message.content
                text = content if type(content) is str else self._rare(message)
                roles[message.role] += 1
                self.characters += len(text)
                if message.role == "assistant" and message.weight != 0:
                    self.learned += len(text)
                    last = text
        self.sizes.append(size)
        self.turns.append(turns)
        self.lengths.append(self.characters - before)
        self.tools += example.tools is not None
        if type(example) is Chat:
            self._answer(last)
        elif isinstance(example, Label):
            self.labels[example.label] += 1

    def merge(self, later: "Tally") -> None:
        """Add the counts of other rows."""
        self.rows += later.rows
        self.roles.update(later.roles)
        self.characters += later.characters
        self.learned += later.learned
        self.sizes.extend(later.sizes)
        self.turns.extend(later.turns)
        self.lengths.extend(later.lengths)
        self.tools += later.tools
        self.media += later.media
        self.labels.update(later.labels)
        self.answers.update(later.answers)
        self._trim()

    def _rare(self, message: Message) -> str:
        """The text of a content in parts, or of an answer that calls tools."""
        if isinstance(message.content, list):
            self.media += any(part.__struct_config__.tag not in ("text", "refusal") for part in message.content)
        calls = (call.function.arguments for call in message.tool_calls or ())
        return "".join((plain(message.content), message.refusal or "", *calls))

    def _answer(self, text: str) -> None:
        self.answers[text[:200]] += 1
        if len(self.answers) > 2 * _ANSWERS:
            self._trim()

    def _trim(self) -> None:
        if len(self.answers) > _ANSWERS:
            # Lossy counting: an answer that half of the rows have is never among those that go.
            self.answers = Counter(dict(self.answers.most_common(_ANSWERS // 2)))
