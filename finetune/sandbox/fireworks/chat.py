"""Fireworks' chat completions, as far as the stand-in has them: whole answers, one each."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from finetune.sandbox.chats import said, used
from finetune.sandbox.service import Refusal, Reply

_Penalty = Annotated[float, Field(ge=-2, le=2)]


class _Body(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", hide_input_in_errors=True, allow_inf_nan=False)


class Message(_Body):
    """One turn. The calls of tools are taken and not looked at."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str | list[dict[str, Any]] | None = None
    name: str | None = None
    tool_calls: list[dict[str, Any]] | None = None
    tool_call_id: str | None = None


class ChatIn(_Body):
    """What a chat is asked with. Most of it changes no answer here."""

    model: str
    messages: list[Message] = Field(min_length=1)
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, ge=0, le=1)
    top_k: int | None = Field(default=None, ge=0, le=100)
    max_tokens: int | None = Field(default=None, ge=0)
    n: Literal[1] | None = None
    stream: Literal[False] = False
    stop: str | list[str] | None = None
    seed: int | None = None
    presence_penalty: _Penalty | None = None
    frequency_penalty: _Penalty | None = None
    response_format: dict[str, Any] | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    reasoning_effort: str | None = None
    user: str | None = None


def completion(chat_id: str, created: float, asked: ChatIn, model: str) -> Reply:
    """What `model` answers, which may be asked by another name."""
    messages = [each.model_dump() for each in asked.messages]
    answer = said(model, messages)
    choice = {"index": 0, "message": {"role": "assistant", "content": answer}, "finish_reason": "stop"}
    told: dict[str, Any] = {"id": chat_id, "object": "chat.completion", "created": int(created), "model": asked.model}
    return Reply(body={**told, "choices": [choice], "usage": used(messages, answer)})


def refusal(status: int, code: str, message: str) -> Refusal:
    """What is to be raised: its inference speaks OpenAI's form, and not the rest's."""
    error = {"object": "error", "type": "invalid_request_error", "code": code, "message": message}
    return Refusal(Reply(status=status, body={"error": error}))
