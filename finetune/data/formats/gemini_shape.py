"""What a row of Gemini's contents looks like, and every fault of one."""

import re
from collections.abc import Iterator
from typing import Any, Final

from finetune.data.faults import (
    BAD_CONTENT,
    BAD_ROLE,
    BAD_TOOLS,
    NO_MESSAGES,
    Fault,
    ListOf,
    OneOf,
    Shape,
    TypeOf,
    Words,
    anything,
    inside,
)
from finetune.data.formats import gemini_parts, media, openai
from finetune.data.formats.base import Row
from finetune.data.formats.calls import Open
from finetune.data.formats.proto import Proto, spelled, take

SAMPLE: Final = (
    '{"contents": [{"role": "user", "parts": [{"text": "..."}]}, {"role": "model", "parts": [{"text": "..."}]}]}'
)
#: `labels` are Google's name for metadata.
HARMLESS: Final = openai.HARMLESS | {"labels"}

_IMAGE: Final = re.compile(r"image/[\w.+-]+")
_CALL: Final = '{"functionCall": {"name": "...", "args": {...}}}'
_RESULT: Final = '{"functionResponse": {"name": "...", "response": {...}}}'
_DECLARATION: Final = '{"name": "...", "description": "...", "parameters": {...}}'
_KINDS: Final = ("text", "inlineData", "fileData", "functionCall", "functionResponse")
#: What may stand in a content of this role; `function` is the old one of results.
_KINDS_OF: Final = {
    "user": ("text", "inlineData", "fileData", "functionResponse"),
    "function": ("functionResponse",),
    "model": ("text", "functionCall"),
}


def _mime(value: Any, where: str) -> Iterator[Fault]:
    if not isinstance(value, str) or not (_IMAGE.fullmatch(value) or value in gemini_parts.SOUNDS):
        why = f"Read are images, and {', '.join(gemini_parts.SOUNDS)}"
        yield Fault(BAD_CONTENT, where, f"`{where}` is no type that is read", why, 'write "image/png" or the like')


def _data(value: Any, where: str) -> Iterator[Fault]:
    if not isinstance(value, str) or not re.fullmatch(r"\S+", value):
        why = "Data stands in the row as one text without blanks"
        yield Fault(BAD_CONTENT, where, f"`{where}` is not base64", why, "encode the file as base64")


_FILE: Final = Proto(
    {"mimeType": Words(code=BAD_CONTENT), "fileUri": Words(filled=True, code=BAD_CONTENT)},
    ("mimeType", "fileUri"),
    '{"mimeType": "image/png", "fileUri": "gs://bucket/name.png"}',
    BAD_CONTENT,
)


def _file(value: Any, where: str) -> Iterator[Fault]:
    """Faults of an image at a URL: its type has to be told by its name, since no other layout says it."""
    yield from _FILE(value, where)
    uri, type = (take(value, key) if isinstance(value, dict) else None for key in ("fileUri", "mimeType"))
    if not isinstance(uri, str) or not isinstance(type, str):
        return
    place, of = inside(where, spelled(value, "fileUri")), inside(where, spelled(value, "mimeType"))
    if not type.startswith("image/"):
        yield Fault(
            BAD_CONTENT,
            of,
            f"`{of}` is not the type of an image",
            "Only images are read by address",
            "remove the part",
            type[:60],
        )
    elif media.scheme(uri) not in ("gs", "https", "http"):
        yield Fault(BAD_CONTENT, place, f"`{place}` is not at gs:// or https://", "Google reads no others", "move it")
    elif media.image_type(uri) != type:
        why = "Other layouts say only where an image is, so the end of its name has to tell the type"
        fix = f"give the file an ending that says {type}" if _IMAGE.fullmatch(type) else 'write "image/png" or the like'
        yield Fault(BAD_CONTENT, of, f"`{of}` is not what the end of the name tells", why, fix, type[:60])


_ID: Final = Words(code=BAD_TOOLS)
_NAME: Final = Words(filled=True, code=BAD_TOOLS)
_ARGUMENTS: Final = TypeOf(dict, "an object", BAD_TOOLS)
_PART: Final = Proto(
    {
        "text": Words(code=BAD_CONTENT),
        "inlineData": Proto(
            {"mimeType": _mime, "data": _data},
            ("mimeType", "data"),
            '{"mimeType": "image/png", "data": "..."}',
            BAD_CONTENT,
        ),
        "fileData": _file,
        "functionCall": Proto({"name": _NAME, "args": _ARGUMENTS, "id": _ID}, ("name",), _CALL, BAD_TOOLS),
        "functionResponse": Proto(
            {"name": _NAME, "response": _ARGUMENTS, "id": _ID}, ("name", "response"), _RESULT, BAD_TOOLS
        ),
    },
    (),
    '{"text": "..."}',
    BAD_CONTENT,
    elsewhere=dict.fromkeys(
        ("thought", "thoughtSignature"), "Thoughts of the model are not read, and no other target has a place for them"
    ),
)


def _part(kinds: tuple[str, ...], named: str) -> Shape:
    """The shape of a part that holds one of these kinds."""

    def shape(value: Any, where: str) -> Iterator[Fault]:
        yield from _PART(value, where)
        held = _held(value)
        if isinstance(value, dict) and len(held) != 1:
            what = f"`{where}` holds {'more than one thing' if held else 'nothing'}"
            yield Fault(BAD_CONTENT, where, what, f"A part is one of {', '.join(kinds)}", 'write {"text": "..."}')
        elif held and held[0] not in kinds:
            place = inside(where, spelled(value, held[0]))
            code = BAD_TOOLS if held[0].startswith("function") else BAD_CONTENT
            what = f"`{place}` cannot stand {named}"
            yield Fault(code, place, what, f"There stand {', '.join(kinds)}", "move or remove it")

    return shape


def _held(part: Any) -> list[str]:
    return [kind for kind in _KINDS if isinstance(part, dict) and take(part, kind) is not None]


_PARTS: Final[dict[str, Shape]] = {
    role: ListOf(_part(kinds, f"in a content of the role {role}"), 1, '[{"text": "..."}]', BAD_CONTENT)
    for role, kinds in _KINDS_OF.items()
}
_CONTENT: Final = Proto(
    {
        "role": OneOf(
            ("user", "model", "function"),
            BAD_ROLE,
            "Each content says who speaks",
            elsewhere={"assistant": "model", "human": "user", "gpt": "model", "tool": "function", "bot": "model"},
        ),
        "parts": anything,
    },
    ("parts",),
    '{"role": "user", "parts": [{"text": "..."}]}',
    NO_MESSAGES,
)


def _content(value: Any, where: str) -> Iterator[Fault]:
    yield from _CONTENT(value, where)
    if not isinstance(value, dict):
        return
    role, parts = value.get("role"), value.get("parts")
    listed = parts if isinstance(parts, list) else []
    if role is None:
        if not listed or any(_held(part) != ["functionResponse"] for part in listed):
            place = inside(where, "role")
            why = "Only results of functions stand in a content without one"
            yield Fault(BAD_ROLE, place, f"`{where}` has no role", why, 'write "role": "user"')
        role = "user"
    if parts is not None:
        # The parts of an unknown role are looked at as the user's, which may hold most.
        of = role if isinstance(role, str) and role in _PARTS else "user"
        yield from _PARTS[of](parts, inside(where, "parts"))
    if role == "model":
        yield from _answer(listed, inside(where, "parts"))


def _answer(parts: list[Any], where: str) -> Iterator[Fault]:
    held = [kind for part in parts for kind in _held(part)]
    texts = [part["text"] for part in parts if _held(part) == ["text"]]
    if texts and len(held) == len(texts) and not any(not isinstance(text, str) or text.strip() for text in texts):
        yield Fault(BAD_CONTENT, where, f"`{where}` is empty", "The model would learn to say nothing", "fill it")
    called = False
    for position, part in enumerate(parts):
        kinds = _held(part)
        called = called or "functionCall" in kinds
        if called and "text" in kinds:
            place = f"{where}[{position}].text"
            why = "In other layouts the text of an answer stands before its calls"
            yield Fault(BAD_CONTENT, place, f"`{place}` stands behind a functionCall", why, "move it before the calls")


def _results(contents: list[Any], where: str) -> Iterator[Fault]:
    """Results that answer no call."""
    calls = Open()
    for position, content in enumerate(contents):
        parts = content.get("parts") if isinstance(content, dict) else None
        listed = [each for each in parts if isinstance(each, dict)] if isinstance(parts, list) else []
        if any(isinstance(take(part, "functionCall"), dict) for part in listed):
            calls.turn()
        for place, part in enumerate(listed):
            if (call := _named(part, "functionCall")) is not None:
                calls.call(*call)
            elif (result := _named(part, "functionResponse")) is not None and calls.answer(*result) is None:
                at = f"{where}[{position}].parts[{place}].{spelled(part, 'functionResponse')}"
                why = "A result follows the functionCall of its name, one for each call"
                fix = "add the call, or remove the result"
                yield Fault(BAD_TOOLS, at, f"`{at}` is the result of no call", why, fix)


def _named(part: dict[str, Any], kind: str) -> tuple[str, str | None] | None:
    """Name and id of a call or result; None if the part holds none with a name."""
    held = take(part, kind)
    if not isinstance(held, dict) or not isinstance(held.get("name"), str):
        return None
    return held["name"], held["id"] if isinstance(held.get("id"), str) else None


_FUNCTION: Final = Proto(
    {
        "name": _NAME,
        "description": Words(code=BAD_TOOLS),
        "parameters": _ARGUMENTS,
        "parametersJsonSchema": _ARGUMENTS,
    },
    ("name",),
    _DECLARATION,
    BAD_TOOLS,
)


def _function(value: Any, where: str) -> Iterator[Fault]:
    yield from _FUNCTION(value, where)
    if isinstance(value, dict) and value.get("parameters") is not None:
        if take(value, "parametersJsonSchema") is not None:
            place = inside(where, spelled(value, "parametersJsonSchema"))
            what = f"`{place}` stands beside `parameters`"
            yield Fault(BAD_TOOLS, place, what, "Google takes one of the two", "remove one of them")


_ROW: Final = Proto(
    {
        "systemInstruction": Proto(
            {"role": Words(), "parts": ListOf(_part(("text",), "in the system's instruction"), 1, '[{"text": "..."}]')},
            ("parts",),
            '{"parts": [{"text": "..."}]}',
        ),
        "contents": ListOf(_content, 1, SAMPLE, NO_MESSAGES),
        "tools": ListOf(
            Proto(
                {"functionDeclarations": ListOf(_function, code=BAD_TOOLS)},
                ("functionDeclarations",),
                f'{{"functionDeclarations": [{_DECLARATION}]}}',
                BAD_TOOLS,
                elsewhere=dict.fromkeys(
                    ("googleSearch", "googleSearchRetrieval", "codeExecution", "retrieval", "urlContext"),
                    "Only functions are read; no other target has this tool",
                ),
            ),
            code=BAD_TOOLS,
        ),
    },
    ("contents",),
    SAMPLE,
    NO_MESSAGES,
    HARMLESS,
    {
        **dict.fromkeys(("generationConfig", "toolConfig", "safetySettings"), "It is a setting of requests, not data"),
        "completions": "These are preferences, for dpo",
    },
)


def shape(value: Any, where: str) -> Iterator[Fault]:
    """Faults of a row."""
    yield from _ROW(value, where)
    contents = value.get("contents") if isinstance(value, dict) else None
    if isinstance(contents, list):
        yield from _results(contents, inside(where, "contents"))


def recognises(row: Row) -> bool:
    """A row with contents, or with Gemini's key for the system prompt, and without completions."""
    keys = ("contents", "systemInstruction", "system_instruction")
    return any(key in row for key in keys) and "completions" not in row
