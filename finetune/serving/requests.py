"""Bodies of `POST /v1/chat/completions`, checked field by field.

A field that would change the answer and that we do not carry out is refused by name: an answer that ignores
half of the question looks right and is wrong. Null counts as absent throughout, as clients send it so.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from finetune.errors import ServingError
from finetune.jobs import Json
from finetune.serving.asks import Ask, fault

#: These do not change what is answered.
_HARMLESS = frozenset(
    {
        "metadata", "parallel_tool_calls", "prediction", "prompt_cache_key", "prompt_cache_retention",
        "safety_identifier", "service_tier", "store", "user",
    }
)  # fmt: skip
#: These ask for nothing at these values, and for something we do not do at any other.
_NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "n": (1,),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "tools": ([],),
    "functions": ([],),
    "tool_choice": ("none", "auto"),
    "function_call": ("none", "auto"),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "logit_bias": ({},),
}
_READ = frozenset(
    {
        "model", "messages", "stream", "stream_options", "max_tokens", "max_completion_tokens", "temperature",
        "top_p", "seed", "stop",
    }
)  # fmt: skip
#: OpenAI's newer name for the system role; chat templates of open models know only the older one.
_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
_MESSAGE_NEUTRAL: Mapping[str, tuple[Any, ...]] = {"annotations": ([],), "tool_calls": ([],)}
_SEED_LIMIT = 2**63


@dataclass(frozen=True, kw_only=True)
class ChatRequest:
    """A checked request."""

    #: As asked: a base model, a version or an alias.
    model: str
    ask: Ask
    stream: bool
    #: One more event with the token counts before the end of the stream.
    include_usage: bool


def read_chat(body: object) -> ChatRequest:
    """The request. Raises ServingError E755 (a value that is wrong) or E756 (a field we do not carry out)."""
    if not isinstance(body, dict):
        raise invalid("the body", "must be a JSON object", field=None)
    fields = {key: value for key, value in body.items() if value is not None}
    _refuse_unsupported(fields, _READ | _HARMLESS, _NEUTRAL)
    stream = _flag(fields, "stream")
    return ChatRequest(
        model=_model(fields),
        ask=Ask(
            messages=_messages(fields),
            max_tokens=_max_tokens(fields),
            temperature=_number(fields, "temperature", 1.0, high=2.0),
            top_p=_top_p(fields),
            seed=_seed(fields),
            stop=_stop(fields),
        ),
        stream=stream,
        include_usage=_include_usage(fields, stream),
    )


def invalid(name: str, why: str, *, field: str | None) -> ServingError:
    """The error for a wrong value."""
    return fault("E755", f"{name} {why}", field=field)


def _unsupported(field: str) -> ServingError:
    return fault(
        "E756",
        f"{field} is not supported by this server",
        "it would change the answer, so it is not passed over in silence",
        f"leave {field} out",
        field=field,
    )


def _refuse_unsupported(fields: Json, known: frozenset[str], neutral: Mapping[str, tuple[Any, ...]]) -> None:
    for key, value in fields.items():
        if key not in known and not any(_same(value, harmless) for harmless in neutral.get(key, ())):
            raise _unsupported(key)


def _same(value: object, other: object) -> bool:
    """Equal, but True is not 1 and False is not 0."""
    return value == other and isinstance(value, bool) == isinstance(other, bool)


def _model(fields: Json) -> str:
    model = fields.get("model")
    if not isinstance(model, str) or not model:
        raise invalid("model", "must be the name of a model", field="model")
    return model


def _messages(fields: Json) -> list[Json]:
    messages = fields.get("messages")
    if not isinstance(messages, list) or not messages:
        raise invalid("messages", "must be a list with at least one message", field="messages")
    return [_message(message, f"messages[{index}]") for index, message in enumerate(messages)]


def _message(message: object, at: str) -> Json:
    if not isinstance(message, dict):
        raise invalid(at, "must be an object with role and content", field=at)
    fields = {key: value for key, value in message.items() if value is not None}
    role = fields.get("role")
    if not isinstance(role, str) or role not in _ROLES:
        allowed = ", ".join(_ROLES)
        raise invalid(f"{at}.role", f"must be one of {allowed}", field=f"{at}.role")
    for key, value in fields.items():
        if key not in {"role", "content"} and value not in _MESSAGE_NEUTRAL.get(key, ()):
            raise _unsupported(f"{at}.{key}")
    return {"role": _ROLES[role], "content": _content(fields.get("content"), f"{at}.content")}


def _content(content: object, at: str) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise invalid(at, "must be a text or a list of text parts", field=at)
    texts = []
    for index, part in enumerate(content):
        if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
            raise invalid(f"{at}[{index}]", "must be a part of type text: this server reads no other", field=at)
        texts.append(part["text"])
    return "".join(texts)


def _max_tokens(fields: Json) -> int | None:
    given = [name for name in ("max_completion_tokens", "max_tokens") if name in fields]
    if len(given) == 2:
        raise invalid("max_tokens and max_completion_tokens", "mean the same: give one", field="max_tokens")
    for name in given:
        value = fields[name]
        if not _is_int(value) or value < 1:
            raise invalid(name, "must be a whole number, 1 or more", field=name)
        return int(value)
    return None


def _number(fields: Json, name: str, default: float, *, high: float) -> float:
    value = fields.get(name, default)
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= high:
        raise invalid(name, f"must be a number from 0 to {high:g}", field=name)
    return float(value)


def _top_p(fields: Json) -> float:
    value = _number(fields, "top_p", 1.0, high=1.0)
    if value == 0:
        raise invalid("top_p", "must be more than 0", field="top_p")
    return value


def _seed(fields: Json) -> int | None:
    seed = fields.get("seed")
    if seed is not None and (not _is_int(seed) or not -_SEED_LIMIT <= seed < _SEED_LIMIT):
        raise invalid("seed", "must be a whole number of 64 bits", field="seed")
    return seed


def _stop(fields: Json) -> tuple[str, ...]:
    stop = fields.get("stop", [])
    stops = [stop] if isinstance(stop, str) else stop
    if not isinstance(stops, list) or len(stops) > 4 or not all(isinstance(s, str) and s for s in stops):
        raise invalid("stop", "must be a text or a list of up to four, none empty", field="stop")
    return tuple(stops)


def _flag(fields: Json, name: str, at: str | None = None) -> bool:
    value = fields.get(name, False)
    if not isinstance(value, bool):
        raise invalid(at or name, "must be true or false", field=at or name)
    return value


def _include_usage(fields: Json, stream: bool) -> bool:
    options = fields.get("stream_options", {})
    if not isinstance(options, dict):
        raise invalid("stream_options", "must be an object", field="stream_options")
    if options and not stream:
        raise invalid("stream_options", "is for stream: true only", field="stream_options")
    for key in options.keys() - {"include_usage", "include_obfuscation"}:
        raise _unsupported(f"stream_options.{key}")
    return _flag(options, "include_usage", "stream_options.include_usage")


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
