"""OpenAI's keys in the dialects of other providers: what they lack, and what they write otherwise.

A row of a dialect has the keys of OpenAI's layout at the same places, so OpenAI's shape finds its faults; a dialect
adds what the provider refuses beyond that. All of them stand behind OpenAI's layout in the table, so a row is never
taken for one of theirs unless the recipe says so.

Common to them: no names of speakers and no refusals, at most one system message and that first, images and text only,
images without `detail`. Written, a refusal becomes text, and several system messages become one at the beginning.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

import msgspec

from finetune.data.example import Chat, Image, ImageUrl, Message, Part, Refusal, Text, Tool, plain
from finetune.data.faults import BAD_CONTENT, BAD_ROLE, NO_MESSAGES, UNKNOWN_KEY, Fault, Object, anything, inside
from finetune.data.formats import losses, openai
from finetune.data.formats.base import Row

#: Looks at a message, or at the function of a tool.
Look = Callable[[dict[str, Any], str], Iterator[Fault]]

#: Keys of messages that OpenAI has and these lack: in whose messages, and why not.
_LACKS: Final = (
    ("name", ("system", "user", "assistant"), "does not tell speakers of one role apart"),
    ("refusal", ("assistant",), "knows no refusals; write it as `content`"),
)
#: Parts that OpenAI has and these lack, by the role in whose messages OpenAI has them.
_PARTS: Final = {"user": ("input_audio", "file"), "assistant": ("refusal",)}


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """How one provider's rows differ from OpenAI's. As a shape, it finds the faults of a row."""

    #: As in messages: "Mistral".
    title: str
    #: What the URL of an image begins with.
    images: re.Pattern[str]
    #: The same in words: "a data: URL of ...".
    images_named: str
    #: What to say of keys of a row that are known and not read.
    elsewhere: Mapping[str, str] = field(default_factory=dict)
    #: The row with OpenAI's way to write things in place of the provider's own. Also gets faulty rows.
    loosen: Callable[[Row], Row] = lambda row: row
    message: Look = anything
    function: Look = anything

    def __call__(self, value: Any, where: str) -> Iterator[Fault]:
        """Every fault of a row."""
        row = self.loosen(value) if isinstance(value, dict) else value
        yield from self._keys(row, where)
        if isinstance(row, dict):
            yield from self._beyond(row, where)

    def takes(self, url: str) -> bool:
        """True for the URL of an image that the provider accepts."""
        return self.images.match(url) is not None

    def reduced(self, chat: Chat) -> Chat:
        """The conversation without what none of the dialects has a place for."""
        return Chat(_one_system([self._reduced(each) for each in chat.messages]), bare(chat) or None)

    def refuses(self, chat: Chat) -> Iterator[str]:
        """A word for images that the provider does not accept."""
        for each in chat.messages:
            for part in each.content if isinstance(each.content, list) else ():
                if isinstance(part, Image) and not self.takes(part.image_url.url):
                    yield f"images other than {self.images_named}"

    @cached_property
    def _keys(self) -> Object:
        keys = {"messages": openai.MESSAGES, "tools": openai.TOOL_KEYS["tools"]}
        lacks = {"parallel_tool_calls": f"{self.title} has no such setting"}
        elsewhere = {**openai.ELSEWHERE, **lacks, **self.elsewhere}
        return Object(keys, ("messages",), openai.SAMPLE, NO_MESSAGES, openai.HARMLESS, elsewhere)

    def _beyond(self, row: Row, where: str) -> Iterator[Fault]:
        for position, (each, place) in enumerate(_objects(row.get("messages"), inside(where, "messages"))):
            if each.get("role") == "system" and position:
                role = inside(place, "role")
                what = f"`{place}` is a system message and not the first message"
                yield Fault(BAD_ROLE, role, what, f"{self.title} takes one, at the beginning", "move it there")
            yield from self._of_message(each, place)
        for each, place in _objects(row.get("tools"), inside(where, "tools")):
            if isinstance(each.get("function"), dict):
                yield from self._of_function(each["function"], inside(place, "function"))

    def _of_function(self, function: dict[str, Any], where: str) -> Iterator[Fault]:
        if function.get("strict") is not None:
            yield self._unknown(inside(where, "strict"), "has no strict functions")
        yield from self.function(function, where)

    def _of_message(self, message: dict[str, Any], where: str) -> Iterator[Fault]:
        role = message.get("role")
        for key, roles, why in _LACKS:
            if message.get(key) is not None and role in roles:
                yield self._unknown(inside(where, key), why)
        for part, place in _objects(message.get("content"), inside(where, "content")):
            kind = part.get("type")
            if kind in _PARTS.get(role if isinstance(role, str) else "", ()):
                of = inside(place, "type")
                why = f"{self.title} takes text, and images of the user"
                yield Fault(BAD_CONTENT, of, f"`{of}` is a part that is not taken", why, "remove the part", kind)
            elif kind == "image_url" and isinstance(part.get("image_url"), dict):
                yield from self._of_image(part["image_url"], inside(place, "image_url"))
        yield from self.message(message, where)

    def _of_image(self, image: dict[str, Any], where: str) -> Iterator[Fault]:
        if isinstance(image.get("url"), str) and not self.takes(image["url"]):
            place = inside(where, "url")
            why = f"{self.title} takes no other images"
            yield Fault(
                BAD_CONTENT, place, f"`{place}` is not {self.images_named}", why, "write the image into the row"
            )
        if image.get("detail") is not None:
            yield self._unknown(inside(where, "detail"), "has no levels of detail")

    def _unknown(self, where: str, why: str) -> Fault:
        return Fault(
            UNKNOWN_KEY, where, f"unknown key `{where}`", f"{self.title} {why}", "remove the key from the rows"
        )

    def _reduced(self, message: Message) -> Message:
        name = message.name if message.role == "tool" else None
        content = message.content
        if isinstance(content, list):
            content = list(self._parts(content)) or ""
        if message.refusal is not None:
            content = _with(content, message.refusal)
        return msgspec.structs.replace(message, content=content, name=name, refusal=None)

    def _parts(self, parts: list[Part]) -> Iterator[Part]:
        for part in parts:
            if isinstance(part, Text):
                yield part
            elif isinstance(part, Refusal):
                yield Text(part.refusal)
            elif isinstance(part, Image) and self.takes(part.image_url.url):
                yield Image(ImageUrl(part.image_url.url))


#: What none of the dialects has a place for, in the order in which it is told.
LACKING: Final = (
    losses.SEVERAL_SYSTEM,
    losses.LATE_SYSTEM,
    losses.NAMES,
    losses.DETAILS,
    losses.AUDIO,
    losses.FILES,
    losses.REFUSALS,
    losses.STRICT,
    losses.PARALLEL,
)


def bare(chat: Chat) -> list[Tool]:
    """The tools without their strict flags."""
    return [Tool(msgspec.structs.replace(each.function, strict=None)) for each in chat.tools or ()]


def _with(content: str | list[Part] | None, refusal: str) -> str | list[Part]:
    if isinstance(content, list):
        return [*content, Text(refusal)]
    return f"{content}\n{refusal}" if content else refusal


def _one_system(messages: list[Message]) -> list[Message]:
    systems = [each for each in messages if each.role == "system"]
    if not systems or (len(systems) == 1 and messages[0].role == "system"):
        return messages
    first = Message("system", "\n\n".join(plain(each.content) for each in systems))
    return [first, *(each for each in messages if each.role != "system")]


def _objects(value: Any, where: str) -> Iterator[tuple[dict[str, Any], str]]:
    for position, each in enumerate(value if isinstance(value, list) else ()):
        if isinstance(each, dict):
            yield each, f"{where}[{position}]"
