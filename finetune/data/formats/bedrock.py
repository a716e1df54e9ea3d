"""Amazon Bedrock's conversations (`bedrock-conversation-2024`), as its documentation and AWS's own check have them.

User and assistant take turns, the user begins; contents are lists of texts and images, images of the user's only and
by their place in S3; no tools (AWS's pages disagree on those, and one says that such jobs may fail), no weights. An
image has the format that the end of its name tells: other layouts have no place for it, and none for `bucketOwner`.
Images as `bytes` are read; AWS's check refuses them, so they are not written.

Normal form of a round trip: content of one text is that text; weight 1 is left out. A question of nothing is written
as a blank, because Bedrock refuses an empty one, and told as lost.
"""

from collections.abc import Iterator
from typing import Any, Final

from finetune.data.example import Chat, Image, ImageUrl, Message, Part, Text, content_of, plain
from finetune.data.faults import (
    BAD_CONTENT,
    BAD_ROLE,
    NO_MESSAGES,
    Fault,
    ListOf,
    Object,
    OneOf,
    Words,
    inside,
)
from finetune.data.formats import exchanges, losses, media, openai
from finetune.data.formats.base import Format, Row

EMPTY: Final = "questions of nothing"
ELSEWHERE_IMAGES: Final = "images that are not, with a known ending, at s3://"

VERSION: Final = "bedrock-conversation-2024"
SAMPLE: Final = (
    f'{{"schemaVersion": "{VERSION}", "messages": [{{"role": "user", "content": [{{"text": "..."}}]}}, '
    '{"role": "assistant", "content": [{"text": "..."}]}]}'
)
#: The formats of images, by the end of a name.
_FORMATS: Final = {"png": "png", "jpg": "jpeg", "jpeg": "jpeg", "gif": "gif", "webp": "webp"}
_TEXT: Final = '{"text": "..."}'
_IMAGE_SAMPLE: Final = '{"image": {"format": "png", "source": {"s3Location": {"uri": "s3://bucket/name.png"}}}}'
_KEYS_ELSEWHERE: Final = "Texts and images are read; no other target has a place for this"


def _bytes(value: Any, where: str) -> Iterator[Fault]:
    if not isinstance(value, str) or media.inline(media.data_url("image/png", value)) is None:
        yield Fault(BAD_CONTENT, where, f"`{where}` is not base64", "", "write the image as one text in base64")


_IMAGE: Final = Object(
    {
        "format": OneOf(tuple(dict.fromkeys(_FORMATS.values())), BAD_CONTENT, elsewhere={"jpg": "jpeg"}),
        "source": Object(
            {
                "s3Location": Object(
                    {"uri": Words(filled=True, code=BAD_CONTENT)},
                    ("uri",),
                    '{"uri": "s3://bucket/name.png"}',
                    BAD_CONTENT,
                    elsewhere={"bucketOwner": "Other layouts have no place for it, so it would be dropped"},
                ),
                "bytes": _bytes,
            },
            (),
            '{"s3Location": {"uri": "s3://bucket/name.png"}}',
            BAD_CONTENT,
        ),
    },
    ("format", "source"),
    _IMAGE_SAMPLE,
    BAD_CONTENT,
)


def _image(value: Any, where: str) -> Iterator[Fault]:
    found = list(_IMAGE(value, where))
    yield from found
    if found:
        return
    source, place = value["source"], inside(where, "source")
    if len(source) != 1:
        yield Fault(
            BAD_CONTENT, place, f"`{place}` has not exactly one of s3Location and bytes", "", f"write {_IMAGE_SAMPLE}"
        )
    elif (uri := _uri(source)) is not None and media.scheme(uri) != "s3":
        at = f"{place}.s3Location.uri"
        yield Fault(BAD_CONTENT, at, f"`{at}` is not at s3://", "", "move the image into a bucket")
    elif uri is not None and _FORMATS.get(media.ending(uri)) != value["format"]:
        at = inside(where, "format")
        why = "Other layouts say only where an image is, so the end of its name has to tell the format"
        fix = f"give the image an ending that says {value['format']}"
        yield Fault(BAD_CONTENT, at, f"`{at}` is not what the end of the name tells", why, fix, value["format"])


def _uri(source: dict[str, Any]) -> str | None:
    return source["s3Location"]["uri"] if "s3Location" in source else None


_ITEM: Final = Object(
    {"text": Words(code=BAD_CONTENT), "image": _image},
    (),
    _TEXT,
    BAD_CONTENT,
    elsewhere=dict.fromkeys(
        ("video", "document", "toolUse", "toolResult", "reasoningContent", "cachePoint", "guardContent"),
        _KEYS_ELSEWHERE,
    ),
)


def _item(value: Any, where: str) -> Iterator[Fault]:
    there = _there(value)
    found = list(_ITEM(there, where))
    yield from found
    if not found and len(there) != 1:
        yield Fault(BAD_CONTENT, where, f"`{where}` has not exactly one of text and image", "", f"write {_TEXT}")


def _there(value: Any) -> Any:
    """An object without keys that say nothing, as tables have them."""
    return {key: each for key, each in value.items() if each is not None} if isinstance(value, dict) else value


_MESSAGE: Final = Object(
    {
        "role": OneOf(
            ("user", "assistant"),
            BAD_ROLE,
            "Each message says who speaks",
            elsewhere={"human": "user", "model": "assistant", "gpt": "assistant", "bot": "assistant"},
        ),
        "content": ListOf(_item, 1, f"[{_TEXT}]", BAD_CONTENT),
    },
    (),
    f'{{"role": "user", "content": [{_TEXT}]}}',
    NO_MESSAGES,
)
#: Keys that each message has, with their codes.
_REQUIRED: Final = (("role", BAD_ROLE), ("content", BAD_CONTENT))


def _message(value: Any, where: str) -> Iterator[Fault]:
    found = list(_MESSAGE(value, where))
    yield from found
    if not isinstance(value, dict):
        return
    for key, code in _REQUIRED:
        if key not in value:
            place = inside(where, key)
            yield Fault(code, place, f"`{where}` has no `{key}`", "", f"write {_MESSAGE.example}")
    content = value.get("content")
    if found or not isinstance(content, list):
        return
    items = [_there(each) for each in content]
    texts = [each["text"] for each in items if "text" in each]
    place = inside(where, "content")
    if value.get("role") == "assistant" and len(texts) < len(items):
        yield Fault(BAD_CONTENT, place, f"`{place}` of an answer has an image", "Answers are texts", "remove it")
    elif value.get("role") == "assistant" and not "".join(texts).strip():
        yield Fault(BAD_CONTENT, place, f"`{place}` is empty", "The model would learn to say nothing", "fill it")
    elif len(texts) == len(items) and not "".join(texts):
        yield Fault(BAD_CONTENT, place, f"`{place}` is empty", "Bedrock refuses messages of nothing", "fill it")


_MESSAGES: Final = ListOf(_message, 1, SAMPLE, NO_MESSAGES)


def _messages(value: Any, where: str) -> Iterator[Fault]:
    yield from _MESSAGES(value, where)
    for position, each in enumerate(value if isinstance(value, list) else ()):
        role = each.get("role") if isinstance(each, dict) else None
        wanted = ("user", "assistant")[position % 2]
        if role in ("user", "assistant") and role != wanted:
            place = f"{where}[{position}].role"
            what = f"`{place}` is {role}, and it is the {wanted}'s turn"
            yield Fault(BAD_ROLE, place, what, "User and assistant take turns, the user begins", "mend the order", role)
            return


def _system(value: Any, where: str) -> Iterator[Fault]:
    if value is not None:
        text = Object({"text": Words()}, ("text",), _TEXT)
        yield from ListOf(text, example=f"[{_TEXT}]")(value, where)


SHAPE: Final = Object(
    {"schemaVersion": Words(nullable=True), "system": _system, "messages": _messages},
    ("messages",),
    SAMPLE,
    NO_MESSAGES,
    openai.HARMLESS,
    {
        "toolConfig": "Tools of Bedrock are not read: AWS's pages disagree on whether they can be tuned",
        "inferenceConfig": "It is a setting of requests, not data",
    },
)


def recognises(row: Row) -> bool:
    """A row that says so, or whose contents are parts without a type."""
    if "schemaVersion" in row or isinstance(row.get("system"), list):
        return True
    messages = row.get("messages")
    first = messages[0] if isinstance(messages, list) and messages else None
    content = first.get("content") if isinstance(first, dict) else None
    part = content[0] if isinstance(content, list) and content else None
    return isinstance(part, dict) and "type" not in part and any(key in part for key in ("text", "image", "video"))


def read(row: Row) -> Chat:
    """A row without faults."""
    system = [Text(each["text"]) for each in row.get("system") or ()]
    messages = [Message("system", content_of(system))] if system else []
    for each in row["messages"]:
        messages.append(Message(each["role"], content_of([_part(_there(item)) for item in each["content"]])))
    return Chat(messages)


def _part(item: dict[str, Any]) -> Part:
    if "text" in item:
        return Text(item["text"])
    image = item["image"]
    uri = _uri(image["source"])
    return Image(ImageUrl(media.data_url(f"image/{image['format']}", image["source"]["bytes"]) if uri is None else uri))


def write(chat: Chat) -> dict[str, Any]:
    """The row, of a conversation without losses the whole."""
    row: dict[str, Any] = {"schemaVersion": VERSION}
    if systems := [item for each in exchanges.systems(chat) for item in _items(each)]:
        row["system"] = systems
    row["messages"] = []
    for asked, answered in exchanges.exchanges(chat):
        question = [item for each in asked for item in _items(each)]
        # A blank in place of nothing: AWS's check refuses a content whose texts are empty.
        told = question if any(item != {"text": ""} for item in question) else [{"text": " "}]
        answer = [item for each in answered for item in _items(each)]
        row["messages"] += [{"role": "user", "content": told}, {"role": "assistant", "content": answer}]
    return row


def _items(message: Message) -> list[dict[str, Any]]:
    """What a message says as items of a content; at least one."""
    content = message.content
    if not isinstance(content, list) or message.tool_calls or message.refusal:
        return [{"text": exchanges.said(message)}]
    return [item for part in content if (item := _item_of(part))] or [{"text": ""}]


def _item_of(part: Part) -> dict[str, Any] | None:
    if isinstance(part, Image):
        url = part.image_url.url
        format = _FORMATS.get(media.ending(url)) if media.scheme(url) == "s3" else None
        return {"image": {"format": format, "source": {"s3Location": {"uri": url}}}} if format else None
    text = plain([part])
    return {"text": text} if text or isinstance(part, Text) else None


def _more(chat: Chat) -> Iterator[str]:
    yield from exchanges.order(chat)
    for each in chat.messages:
        parts = each.content if isinstance(each.content, list) else [Text(each.content or "")]
        if any(isinstance(part, Image) and _item_of(part) is None for part in parts):
            yield ELSEWHERE_IMAGES
        if each.role == "user" and all(part == Text("") for part in parts):
            yield EMPTY


FORMAT: Final = Format(
    name="bedrock",
    title="Amazon Bedrock conversations",
    kind="chat",
    sample=SAMPLE,
    recognises=recognises,
    shape=SHAPE,
    read=read,
    write=write,
    losses=losses.lacking(
        losses.SEVERAL_SYSTEM,
        losses.LATE_SYSTEM,
        losses.WEIGHTS,
        losses.NAMES,
        losses.DETAILS,
        losses.AUDIO,
        losses.FILES,
        losses.REFUSALS,
        losses.CALLS,
        losses.TOOLS,
        losses.PARALLEL,
        more=_more,
    ),
    harmless=openai.HARMLESS,
)
