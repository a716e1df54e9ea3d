"""What a conversation has that a layout may have no place for, in the words in which it is told.

Each format names the words for what it lacks. All are found in one pass over the messages.
"""

from collections.abc import Callable, Iterator
from typing import Final

from finetune.data.example import Audio, Chat, File, Image, Message, Refusal, Text

WEIGHTS: Final = "message weights"
NAMES: Final = "names of speakers"
IMAGES: Final = "images"
DETAILS: Final = "levels of detail of images"
AUDIO: Final = "audio"
FILES: Final = "files"
REFUSALS: Final = "refusals as such"
CALLS: Final = "tool calls and their results"
BESIDE_CALLS: Final = "texts beside tool calls"
TOOLS: Final = "tools"
STRICT: Final = "strict flags of tools"
PARALLEL: Final = "settings of parallel tool calls"
SYSTEM: Final = "system messages"
SEVERAL_SYSTEM: Final = "several system messages"
LATE_SYSTEM: Final = "system messages after the first turn"

_PARTS: Final = {Text: None, Image: IMAGES, Audio: AUDIO, File: FILES, Refusal: REFUSALS}


def features(chat: Chat) -> set[str]:
    """Those of the words above that say something about this conversation."""
    out: set[str] = set()
    systems = turns = 0
    for each in chat.messages:
        if each.role == "system":
            systems += 1
            if turns:
                out.add(LATE_SYSTEM)
        else:
            turns += 1
        if type(each.content) is not str or each.role != "user" or each.name is not None:
            _of_message(each, out)
    if systems:
        out.add(SYSTEM)
    if systems > 1:
        out.add(SEVERAL_SYSTEM)
    if chat.tools:
        out.add(TOOLS)
        if any(tool.function.strict is not None for tool in chat.tools):
            out.add(STRICT)
    if chat.parallel_tool_calls is not None:
        out.add(PARALLEL)
    return out


def _of_message(message: Message, out: set[str]) -> None:
    # The name in a tool's message is the function's, and no speaker's.
    if message.name is not None and message.role != "tool":
        out.add(NAMES)
    if message.weight == 0:
        out.add(WEIGHTS)
    if message.refusal is not None:
        out.add(REFUSALS)
    if message.tool_calls or message.role == "tool":
        out.add(CALLS)
        # One empty part says as little as no content.
        if message.tool_calls and message.content and message.content != [Text("")]:
            out.add(BESIDE_CALLS)
    if isinstance(message.content, list):
        for part in message.content:
            if (word := _PARTS[type(part)]) is not None:
                out.add(word)
            if isinstance(part, Image) and part.image_url.detail is not None:
                out.add(DETAILS)


def lacking(*words: str, more: Callable[[Chat], Iterator[str]] | None = None) -> Callable[[Chat], list[str]]:
    """`Format.losses` of a layout that has no place for these; `more` yields what it lacks beside them.

    The words come in this order, each once.
    """

    def lost(chat: Chat) -> list[str]:
        has = features(chat)
        found = [word for word in words if word in has]
        if more is not None:
            found += more(chat)
        return list(dict.fromkeys(found))

    return lost
