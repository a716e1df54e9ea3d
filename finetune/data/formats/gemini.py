"""Gemini's layout as Vertex AI tunes it: `contents` of parts, with `systemInstruction` and `tools` beside them.

By Google's documentation of supervised tuning and the types of its API (v1beta1): keys may be in snake_case; results
of functions stand in a content of the user's, or of `function`, or without a role; roles of `systemInstruction` mean
nothing. Calls have no ids here: a result answers the first call of its function that has none yet, and ids are made
anew (see `calls`); where a row has ids, they are followed, and not written. That user and model take turns is not
demanded by this layout.

Normal form of a round trip: as above for ids; arguments of calls, and results that are a JSON object, are written anew
as JSON; content of one text part is that text, and results have one text; an empty content beside calls is none; a
tool's name in its result is left out where it is the call's; names of types in schemas are in lower case; no tools are
none, and weight 1 is left out. A result that is no object stands in one, as `output`.
"""

from collections.abc import Iterator
from typing import Any, Final

from finetune.data.example import Chat, Function, FunctionCall, Message, Part, Tool, ToolCall, content_of, plain
from finetune.data.formats import exchanges, gemini_parts, gemini_schema, losses
from finetune.data.formats.base import Format, Row
from finetune.data.formats.calls import (
    DISORDERED,
    MISNAMED,
    NO_OBJECT,
    SAFE,
    Open,
    as_object,
    as_text,
    disordered,
    misnamed,
    wrapped,
)
from finetune.data.formats.gemini_shape import HARMLESS, SAMPLE, recognises, shape
from finetune.data.formats.proto import take

#: The key under which a function's result stands that is no object, by Google's convention.
_OUTPUT: Final = "output"
#: The part of a content that has none.
_NOTHING: Final = {"text": ""}


def read(row: Row) -> Chat:
    """A row without faults."""
    messages = []
    if (system := take(row, "systemInstruction")) is not None:
        messages.append(Message("system", content_of([gemini_parts.read(each) for each in system["parts"]])))
    calls = Open()
    for each in row["contents"]:
        messages += _model(each, calls) if each.get("role") == "model" else _user(each, calls)
    return Chat(messages, [tool for each in row.get("tools") or () for tool in _tools(each)] or None)


def _model(content: dict[str, Any], calls: Open) -> list[Message]:
    made = [call for part in content["parts"] if (call := take(part, "functionCall")) is not None]
    said = [gemini_parts.read(part) for part in content["parts"] if take(part, "functionCall") is None]
    if made:
        calls.turn()
    found = [
        ToolCall(calls.call(each["name"], each.get("id")), FunctionCall(each["name"], as_text(each.get("args") or {})))
        for each in made
    ]
    return [Message("assistant", content_of(said) if said else None, tool_calls=found or None)]


def _user(content: dict[str, Any], calls: Open) -> Iterator[Message]:
    """The results and what is said beside them, each run of parts of one kind its own messages."""
    run: list[Part] = []
    for part in content["parts"]:
        result = take(part, "functionResponse")
        if result is None:
            run.append(gemini_parts.read(part))
            continue
        if run:
            yield Message("user", content_of(run))
            run = []
        answered = calls.answer(result["name"], result.get("id"))
        yield Message("tool", _said(result["response"]), tool_call_id=answered)
    if run:
        yield Message("user", content_of(run))


def _said(response: dict[str, Any]) -> str:
    output = response.get(_OUTPUT)
    return output if len(response) == 1 and isinstance(output, str) else as_text(response)


def _tools(tool: dict[str, Any]) -> Iterator[Tool]:
    for each in take(tool, "functionDeclarations"):
        own = each.get("parameters")
        parameters = take(each, "parametersJsonSchema") if own is None else gemini_schema.lower(own)
        yield Tool(Function(each["name"], each.get("description"), parameters))


def write(chat: Chat) -> dict[str, Any]:
    """The row, of a conversation without losses the whole."""
    row: dict[str, Any] = {}
    systems = [part for each in chat.messages if each.role == "system" for part in _texts(each)]
    if systems:
        row["systemInstruction"] = {"parts": systems}
    contents = list(_contents(chat))
    # A question whose answer says nothing and is not learned: without weights it asks for nothing.
    while contents[-1]["role"] != "model":
        contents.pop()
    row["contents"] = contents
    if chat.tools:
        row["tools"] = [{"functionDeclarations": [_declaration(each.function) for each in chat.tools]}]
    return row


def _contents(chat: Chat) -> Iterator[dict[str, Any]]:
    names: dict[str | None, str] = {}
    results: list[dict[str, Any]] = []
    for each in chat.messages:
        if each.role == "tool":
            # A call without a name was not made in this conversation; no sound one has such a result.
            results.append(_result(each, names.get(each.tool_call_id, "")))
            continue
        if results and each.role != "system":
            yield {"role": "user", "parts": results}
            results = []
        names.update((call.id, call.function.name) for call in each.tool_calls or ())
        if each.role == "user":
            yield {"role": "user", "parts": _texts(each)}
        elif each.role == "assistant" and not exchanges.idle(each):
            yield {"role": "model", "parts": [*_answer(each)]}


def _answer(message: Message) -> Iterator[dict[str, Any]]:
    texts = _texts(message)
    if texts != [_NOTHING] or not (message.tool_calls or message.refusal):
        yield from texts
    if message.refusal:
        yield {"text": message.refusal}
    for each in message.tool_calls or ():
        arguments = as_object(each.function.arguments, SAFE)
        yield {
            "functionCall": {
                "name": each.function.name,
                "args": wrapped(each.function.arguments) if arguments is None else arguments,
            }
        }


def _texts(message: Message) -> list[dict[str, Any]]:
    """The parts of a content; at least one."""
    if not isinstance(message.content, list):
        return [{"text": message.content}] if message.content else [_NOTHING]
    return [each for part in message.content if (each := gemini_parts.write(part))] or [_NOTHING]


def _result(message: Message, name: str) -> dict[str, Any]:
    text = plain(message.content)
    response = as_object(text, SAFE)
    # An object that looks like a result in `output` would be read as what stands in there.
    if response is None or _said(response) != as_text(response):
        response = {_OUTPUT: text}
    return {"functionResponse": {"name": name, "response": response}}


def _declaration(function: Function) -> dict[str, Any]:
    out: dict[str, Any] = {"name": function.name}
    if function.description is not None:
        out["description"] = function.description
    if function.parameters is not None:
        own = gemini_schema.fits(function.parameters)
        key = "parameters" if own else "parametersJsonSchema"
        out[key] = gemini_schema.capital(function.parameters) if own else function.parameters
    return out


def _more(chat: Chat) -> Iterator[str]:
    calls = [call.function.arguments for each in chat.messages for call in each.tool_calls or ()]
    if any(as_object(each, SAFE) is None for each in calls):
        yield NO_OBJECT
    if disordered(chat, named=True):
        yield DISORDERED
    elif misnamed(chat):
        yield MISNAMED
    yield from gemini_parts.refuses(chat)


FORMAT: Final = Format(
    name="gemini",
    title="Gemini contents",
    kind="chat",
    sample=SAMPLE,
    recognises=recognises,
    shape=shape,
    read=read,
    write=write,
    losses=losses.lacking(
        losses.SEVERAL_SYSTEM,
        losses.LATE_SYSTEM,
        losses.WEIGHTS,
        losses.NAMES,
        losses.DETAILS,
        losses.FILES,
        losses.REFUSALS,
        losses.STRICT,
        losses.PARALLEL,
        more=_more,
    ),
    harmless=HARMLESS,
)
