"""Mistral's chat completions, as far as the stand-in has them: whole answers, one each. Fields of July 2026."""

from typing import Annotated, Any, Literal

from pydantic import Field

from finetune.sandbox.chats import said, used
from finetune.sandbox.mistral.bodies import Body
from finetune.sandbox.mistral.words import not_now
from finetune.sandbox.service import Refusal

_Penalty = Annotated[float, Field(ge=-2, le=2)]


class Message(Body):
    """One turn. The calls of tools are taken and not looked at."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str | list[dict[str, Any]] | None = None
    name: str | None = None
    prefix: bool = False
    tool_calls: list[dict[str, Any]] | None = None
    tool_call_id: str | None = None


class ChatIn(Body):
    """What a chat is asked with. Most of it changes no answer here."""

    model: str
    messages: list[Message] = Field(min_length=1)
    temperature: float | None = Field(default=None, ge=0, le=1.5)
    top_p: float | None = Field(default=None, ge=0, le=1)
    max_tokens: int | None = Field(default=None, ge=0)
    stream: bool = False
    n: int | None = Field(default=None, ge=1)
    random_seed: int | None = Field(default=None, ge=0)
    presence_penalty: _Penalty | None = None
    frequency_penalty: _Penalty | None = None
    stop: str | list[str] | None = None
    metadata: dict[str, Any] | None = None
    response_format: dict[str, Any] | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    prediction: dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    reasoning_effort: str | None = None
    prompt_mode: str | None = None
    guardrails: list[dict[str, Any]] | None = None
    prompt_cache_key: str | None = None
    safe_prompt: bool | None = None


def beyond(asked: ChatIn) -> Refusal | None:
    """The refusal of what the vendor does and the stand-in does not; None: it does all of it."""
    if asked.stream:
        return not_now("The sandbox answers in one piece: leave stream out.")
    if (asked.n or 1) > 1:
        return not_now("The sandbox gives one answer: leave n out.")
    return None


def completion(chat_id: str, created: int, asked: ChatIn) -> dict[str, Any]:
    """What the model that was asked answers."""
    messages = [each.model_dump() for each in asked.messages]
    answer = said(asked.model, messages)
    message = {"role": "assistant", "content": answer, "tool_calls": None, "prefix": False}
    return {
        "id": chat_id,
        "object": "chat.completion",
        "model": asked.model,
        "created": created,
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": used(messages, answer),
    }
