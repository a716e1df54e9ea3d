"""A conversation as questions and answers, for layouts that know nothing else.

Between two answers of the assistant stands one question. Several messages of one side become one; a call becomes the
JSON that the model would write, and its result a question: what such a layout cannot say is told by `order` and by
the losses of its format, and still nothing of the conversation is dropped but answers that say nothing.
"""

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from finetune.data.example import Chat, Message, ToolCall, plain
from finetune.data.formats.calls import as_text, object_or_text

RUNS: Final = "several messages of one side in a row"
UNASKED: Final = "answers without a question"

_BETWEEN: Final = "\n\n"


class Exchange(NamedTuple):
    """A question and its answer."""

    #: Messages of the user and of tools. Empty if the assistant speaks first.
    asked: list[Message]
    #: Messages of the assistant, at least one; none is idle.
    answered: list[Message]

    @property
    def learned(self) -> bool:
        """True if any of the answer counts."""
        return any(each.weight != 0 for each in self.answered)


def exchanges(chat: Chat) -> list[Exchange]:
    """The exchanges of a conversation, in order; at least one, since something of a sound one is learned."""
    out: list[Exchange] = []
    asked: list[Message] = []
    for each in chat.messages:
        if each.role == "assistant":
            if idle(each):
                continue
            if out and not asked:
                out[-1].answered.append(each)
            else:
                out.append(Exchange(asked, [each]))
                asked = []
        elif each.role != "system":
            asked.append(each)
    return out


def idle(answer: Message) -> bool:
    """True for an answer that says nothing and is not learned; where no weights are, it would be."""
    return answer.weight == 0 and not said(answer).strip()


def order(chat: Chat) -> Iterator[str]:
    """What questions and answers in turn cannot say of the order of a conversation."""
    for position, each in enumerate(exchanges(chat)):
        if not each.asked and not position:
            yield UNASKED
        if len(each.asked) > 1 or len(each.answered) > 1:
            yield RUNS


def systems(chat: Chat) -> list[Message]:
    """The system messages."""
    return [each for each in chat.messages if each.role == "system"]


def text(messages: Sequence[Message]) -> str:
    """What messages say, with an empty line between them."""
    return _BETWEEN.join(map(said, messages))


def said(message: Message) -> str:
    """All that a message says as one text: its content, its refusal, its calls as JSON."""
    pieces = [plain(message.content), message.refusal or "", *map(written, message.tool_calls or ())]
    return "\n".join(piece for piece in pieces if piece)


def written(call: ToolCall) -> str:
    """A call as JSON: name and arguments, these as an object where they are one."""
    return as_text({"name": call.function.name, "arguments": object_or_text(call.function.arguments)})
