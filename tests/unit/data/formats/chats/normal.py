"""The normal forms of round trips as the formats state them, done on the examples themselves."""

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec

from finetune.data.example import Chat, FunctionCall, Image, Message, Text, Tool, ToolCall
from finetune.data.formats import gemini_schema

Change = Callable[[Message], Message]
put = msgspec.structs.replace


def _texts(content: Any) -> list[str] | None:
    """The texts of a content in parts, if it has no others."""
    if not isinstance(content, list) or not all(isinstance(part, Text) for part in content):
        return None
    return [part.text for part in content]


def joined(message: Message) -> Message:
    texts = _texts(message.content)
    return message if texts is None else put(message, content="\n".join(texts))


def single(message: Message) -> Message:
    texts = _texts(message.content)
    return put(message, content=texts[0]) if texts is not None and len(texts) == 1 else message


def no_empty_beside_calls(message: Message) -> Message:
    return put(message, content=None) if message.tool_calls and message.content in ("", [Text("")]) else message


def no_weight_of_one(message: Message) -> Message:
    return put(message, weight=None) if message.weight == 1 else message


def no_name_of_the_call(chat: Chat) -> Chat:
    """A result that has the name of the function that was called says nothing by it."""
    called = {call.id: call.function.name for message in chat.messages for call in message.tool_calls or ()}
    messages = [
        put(each, name=None) if each.role == "tool" and each.name == called.get(each.tool_call_id or "") else each
        for each in chat.messages
    ]
    return Chat(messages, chat.tools, chat.parallel_tool_calls)


def results_joined(message: Message) -> Message:
    return joined(message) if message.role == "tool" else message


def _as_object(text: str) -> Any:
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def json_anew(message: Message) -> Message:
    """Arguments and results that are objects, written anew; but for one that looks like a result in `output`."""
    calls = [
        ToolCall(call.id, FunctionCall(call.function.name, _anew(call.function.arguments)))
        for call in message.tool_calls or ()
    ]
    content = message.content
    if message.role == "tool" and isinstance(content, str):
        value = _as_object(content)
        like_output = isinstance(value, dict) and list(value) == ["output"] and isinstance(value["output"], str)
        content = content if like_output else _anew(content)
    return put(message, content=content, tool_calls=calls or None)


def _anew(text: str) -> str:
    value = _as_object(text)
    try:
        anew = json.dumps(value, ensure_ascii=False)
        anew.encode()
        return text if value is None or _loses(text) else anew
    except UnicodeEncodeError:
        return text


def _loses(text: str) -> bool:
    # NaN as a number, not as a name or a text.
    constants: list[str] = []
    value = json.loads(text, parse_constant=constants.append)
    odd = any(each in text for each in ("1e999", "0000000000000055", '"a": 1, "a"'))
    return bool(constants) or odd or any(abs(each) > 2**53 - 1 for each in _integers(value))


def _integers(value: Any) -> Iterator[int]:
    if type(value) is int:
        yield value
    for each in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _integers(each)


def _each(chat: Chat, *changes: Change) -> Chat:
    messages = []
    for message in chat.messages:
        for change in changes:
            message = change(message)
        messages.append(message)
    return Chat(messages, chat.tools or None, chat.parallel_tool_calls)


def numbered(chat: Chat) -> Chat:
    """Ids made anew; a result answers the open call that has its id, and the ids of calls are their numbers."""
    messages, count, given = [], 0, []
    for message in chat.messages:
        if message.tool_calls:
            calls = [put(call, id=f"call_{count + place}") for place, call in enumerate(message.tool_calls, 1)]
            given = [(old.id, new.id) for old, new in zip(message.tool_calls, calls, strict=True)]
            count += len(calls)
            message = put(message, tool_calls=calls)
        elif message.role == "tool":
            found = next((pair for pair in given if pair[0] == message.tool_call_id), None)
            if found is not None:
                given.remove(found)
                message = put(message, tool_call_id=found[1])
        messages.append(message)
    return Chat(messages, chat.tools, chat.parallel_tool_calls)


def by_first_use(chat: Chat) -> Chat:
    """Ids renamed by the order in which they first occur."""
    names: dict[str | None, str] = {}
    messages = []
    for message in chat.messages:
        calls = [put(call, id=names.setdefault(call.id, f"{len(names)}")) for call in message.tool_calls or ()]
        answered = names.get(message.tool_call_id) if message.role == "tool" else None
        messages.append(put(message, tool_calls=calls or None, tool_call_id=answered))
    return Chat(messages, chat.tools, chat.parallel_tool_calls)


def _tools(chat: Chat, change: Callable[..., dict[str, Any]]) -> Chat:
    tools = [Tool(put(each.function, **change(each.function))) for each in chat.tools or ()]
    return Chat(chat.messages, tools or None, chat.parallel_tool_calls)


def _types_in_lower_case(function: Any) -> dict[str, Any]:
    schema = function.parameters
    return {"parameters": gemini_schema.lower(schema) if schema is not None and gemini_schema.fits(schema) else schema}


def _nothing_empty(function: Any) -> dict[str, Any]:
    return {"description": function.description or None, "parameters": function.parameters or None}


def _completion(chat: Chat) -> Chat:
    return _each(chat, joined, no_weight_of_one)


def _sharegpt(chat: Chat) -> Chat:
    return numbered(_each(no_name_of_the_call(chat), joined, no_empty_beside_calls))


def _gemini(chat: Chat) -> Chat:
    named = no_name_of_the_call(chat)
    out = _each(named, results_joined, single, no_empty_beside_calls, no_weight_of_one, json_anew)
    return numbered(_tools(out, _types_in_lower_case))


def _bedrock(chat: Chat) -> Chat:
    return _each(chat, single, no_weight_of_one)


def _mistral(chat: Chat) -> Chat:
    return by_first_use(_tools(_each(chat, no_empty_beside_calls), _nothing_empty))


def _together(chat: Chat) -> Chat:
    contents: Sequence[Any] = [each.content for each in chat.messages if isinstance(each.content, list)]
    seen = any(isinstance(part, Image) for content in contents for part in content)
    return _each(chat, single if seen else joined, no_empty_beside_calls)


def _fireworks(chat: Chat) -> Chat:
    return _each(chat)


#: By the name of the format.
NORMAL: dict[str, Callable[[Chat], Chat]] = {
    "openai": lambda chat: chat,
    "completion": _completion,
    "alpaca": _completion,
    "sharegpt": _sharegpt,
    "gemini": _gemini,
    "bedrock": _bedrock,
    "mistral": _mistral,
    "together": _together,
    "fireworks": _fireworks,
}
