"""OpenAI's chat completions, as far as the stand-in has them: whole answers, one each. Fields as in 2.3.0."""

from collections.abc import Mapping
from typing import Any, Final

from finetune.sandbox.chats import said, used
from finetune.sandbox.openai.bodies import Check, fields, listed, nullable, text, whole
from finetune.sandbox.openai.words import Refused, wrong_type

_ROLES: Final = ("developer", "system", "user", "assistant", "tool", "function")
#: What of a request and of a message is taken and not looked at: it changes no answer here.
_UNSEEN: Final = (
    *("audio", "frequency_penalty", "function_call", "functions", "logit_bias", "logprobs", "metadata", "modalities"),
    *("moderation", "parallel_tool_calls", "prediction", "presence_penalty", "prompt_cache_key"),
    *("prompt_cache_options", "prompt_cache_retention", "reasoning_effort", "response_format", "safety_identifier"),
    *("seed", "service_tier", "stop", "store", "stream_options", "tool_choice", "tools", "top_logprobs", "top_p"),
    *("user", "verbosity", "web_search_options"),
)
_OF_A_MESSAGE: Final = ("name", "tool_calls", "tool_call_id", "function_call", "refusal", "audio")


def check(body: Any) -> None:
    """Raise Refused for what is no request for a chat completion, or for more than the stand-in does."""
    if isinstance(body, dict) and not body.get("model"):
        raise Refused(400, "you must provide a model parameter")
    _CHAT(body, "")
    if not body["messages"]:
        what = "Expected an array with minimum length 1, but got an empty array instead."
        raise Refused(400, f"Invalid 'messages': empty array. {what}", code="empty_array", param="messages")
    if body.get("stream"):
        raise _beyond("stream", "The sandbox answers in one piece; leave 'stream' out.")
    if (body.get("n") or 1) > 1:
        raise _beyond("n", "The sandbox gives one answer; leave 'n' out.")


def completion(made: Mapping[str, Any], model: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """What `model` answers to a checked request; `made` has its `id` and when it was `created`."""
    answer = said(model, body["messages"])
    message = {"role": "assistant", "content": answer, "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    usage = used(body["messages"], answer)
    return {**made, "object": "chat.completion", "model": model, "choices": [choice], "usage": usage}


def _beyond(param: str, message: str) -> Refused:
    return Refused(400, message, code="unsupported_value", param=param)


def _anything(value: Any, name: str) -> None:
    """Whatever it is."""


def _content(value: Any, name: str) -> None:
    """A text, or parts; null stands beside calls of tools."""
    if not isinstance(value, str | list | None):
        raise wrong_type(name, "one of a string or array of objects", value)


def _flag(value: Any, name: str) -> None:
    if not isinstance(value, bool):
        raise wrong_type(name, "a boolean", value)


def _temperature(value: Any, name: str) -> None:
    """From 0 to 2, both included."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise wrong_type(name, "a decimal", value)
    if not 0 <= value <= 2:
        low = value < 0
        what, sign = ("below minimum value", ">= 0") if low else ("above maximum value", "<= 2")
        message = f"Invalid '{name}': decimal {what}. Expected a value {sign}, but got {value} instead."
        raise Refused(400, message, code=f"decimal_{'below_min' if low else 'above_max'}_value", param=name)


_MESSAGE: Final = fields(
    {"role": text(choices=_ROLES)}, {"content": _content, **dict.fromkeys(_OF_A_MESSAGE, _anything)}
)
_SEEN: Final[Mapping[str, Check]] = {
    "max_tokens": nullable(whole(1)),
    "max_completion_tokens": nullable(whole(1)),
    "n": nullable(whole(1, 128)),
    "stream": nullable(_flag),
    "temperature": nullable(_temperature),
}
_CHAT: Final = fields({"model": text(), "messages": listed(_MESSAGE)}, {**_SEEN, **dict.fromkeys(_UNSEEN, _anything)})
