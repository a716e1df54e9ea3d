"""The shapes inside a row of OpenAI's training data, as its published schemas have them. Further keys are allowed."""

from collections.abc import Callable, Mapping
from typing import Any, Final

#: Whether a value has the shape.
Shape = Callable[[Any], bool]


def is_text(value: Any) -> bool:
    """A string."""
    return isinstance(value, str)


def is_flag(value: Any) -> bool:
    """true or false."""
    return isinstance(value, bool)


def is_object(value: Any) -> bool:
    """Any object."""
    return isinstance(value, dict)


def one_of(*values: str | int) -> Shape:
    """One of these, of their own type: true is not 1, nor is 1.0."""
    return lambda value: any(type(value) is type(each) and value == each for each in values)


def either(*shapes: Shape) -> Shape:
    """What has one of the shapes."""
    return lambda value: any(shape(value) for shape in shapes)


def or_null(shape: Shape) -> Shape:
    """null, or what has the shape."""
    return lambda value: value is None or shape(value)


def listing(shape: Shape, least: int = 0, most: int | None = None) -> Shape:
    """An array of `least` to `most` values of this shape."""
    return lambda value: (
        isinstance(value, list)
        and least <= len(value)
        and (most is None or len(value) <= most)
        and all(map(shape, value))
    )


def record(needed: Mapping[str, Shape], **further: Shape) -> Shape:
    """An object that has all `needed` keys, and whose known keys have their shapes."""

    def shaped(value: Any) -> bool:
        if not isinstance(value, dict) or not needed.keys() <= value.keys():
            return False
        return all(shape(value[key]) for key, shape in {**needed, **further}.items() if key in value)

    return shaped


def _part(kind: str, inside: Shape) -> Shape:
    return record({"type": one_of(kind), kind: inside})


_PARTS: Final[Mapping[str, Shape]] = {
    "text": _part("text", is_text),
    "refusal": _part("refusal", is_text),
    "image_url": _part("image_url", record({"url": is_text}, detail=one_of("auto", "low", "high"))),
    "input_audio": _part("input_audio", record({"data": is_text, "format": one_of("wav", "mp3")})),
    "file": _part("file", record({}, filename=is_text, file_data=is_text, file_id=is_text)),
}


def _content(*kinds: str) -> Shape:
    return either(is_text, listing(either(*(_PARTS[kind] for kind in kinds)), 1))


_CALL: Final = record(
    {"id": is_text, "type": one_of("function"), "function": record({"name": is_text, "arguments": is_text})}
)
FUNCTION: Final = record({"name": is_text}, description=is_text, parameters=is_object)
TOOL: Final = record(
    {
        "type": one_of("function"),
        "function": lambda value: FUNCTION(value) and record({}, strict=or_null(is_flag))(value),
    }
)
#: A message of the assistant.
ANSWER: Final = record(
    {"role": one_of("assistant")},
    content=or_null(_content("text", "refusal")),
    refusal=or_null(is_text),
    name=is_text,
    audio=or_null(record({"id": is_text})),
    tool_calls=listing(_CALL),
    function_call=or_null(record({"arguments": is_text, "name": is_text})),
)
_WEIGHED: Final = record({}, weight=one_of(0, 1))
#: Messages by role.
MESSAGES: Final[Mapping[str, Shape]] = {
    "system": record({"content": _content("text")}, name=is_text),
    "user": record({"content": _content("text", "image_url", "input_audio", "file")}, name=is_text),
    "assistant": lambda value: ANSWER(value) and _WEIGHED(value),
    "tool": record({"content": _content("text"), "tool_call_id": is_text}),
    "function": record({"content": or_null(is_text), "name": is_text}),
}
