"""What the server says, in OpenAI's forms: completions, chunks, model cards and errors."""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from finetune.errors import FtError, Problem
from finetune.jobs import Json
from finetune.ports import Served
from finetune.serving.asks import FinishReason, Generation

#: HTTP status, OpenAI's type and code of the errors that are the caller's; all others are 500 and the server's.
_CALLERS: dict[str, tuple[int, str, str]] = {
    "E753": (404, "invalid_request_error", "model_not_found"),
    "E754": (400, "invalid_request_error", "context_length_exceeded"),
    "E755": (400, "invalid_request_error", "invalid_value"),
    "E756": (400, "invalid_request_error", "unsupported_parameter"),
    "E759": (400, "invalid_request_error", "invalid_messages"),
}
_SHOWN = 12


@dataclass(frozen=True, kw_only=True)
class Head:
    """What all parts of one answer share."""

    id: str
    #: The id of the model that answers, never the alias that was asked.
    model: str
    #: Seconds since 1970.
    created: int


def error(message: str, kind: str, *, param: str | None = None, code: str | int | None = None) -> Json:
    """OpenAI's error object."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def failure(exc: FtError) -> tuple[int, Json]:
    """Status and body for one of our errors."""
    problem = exc.problems[0]
    status, kind, code = _CALLERS.get(problem.code, (500, "server_error", problem.code))
    return status, error(sentence(problem), kind, param=problem.field, code=code)


def sentence(problem: Problem) -> str:
    """What, why and fix in one line, with the code that `ft explain` knows."""
    said = ". ".join(text[0].upper() + text[1:] for text in (problem.what, problem.why, problem.fix) if text)
    return f"{said} ({problem.code})"


def no_such_model(name: str, models: Iterable[Served]) -> Json:
    """The body of a 404: what was asked, what there is, and how to go on."""
    names = [alias for model in models for alias in (model.id, *model.aliases)]
    near = difflib.get_close_matches(name, names, n=1)
    shown = ", ".join(names[:_SHOWN]) or "none"
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    hint = f"Did you mean {near[0]}? " if near else ""
    return error(
        f"The model {name} does not exist here. {hint}Models: {shown}{more}. "
        "No other model answers in its place; GET /v1/models lists the names.",
        "invalid_request_error",
        param="model",
        code="model_not_found",
    )


def cards(models: Iterable[Served]) -> list[Json]:
    """A card for each name: models first, each followed by its aliases."""
    return [card for model in models for card in (_card(model), *(_alias(model, name) for name in model.aliases))]


def _card(model: Served) -> Json:
    adapter = model.adapter
    return {
        "id": model.id,
        "object": "model",
        "created": int(model.created_at.timestamp()),
        "owned_by": "ft",
        "root": model.id if adapter is None else str(adapter),
        "parent": None if adapter is None else model.base_model,
    }


def _alias(model: Served, name: str) -> Json:
    """An alias's root is the version that it points to now."""
    return {**_card(model), "id": name, "root": model.id, "parent": model.base_model}


def usage(generation: Generation) -> Json:
    """Token counts so far."""
    made, read = generation.completion_tokens, generation.prompt_tokens
    return {"prompt_tokens": read, "completion_tokens": made, "total_tokens": read + made}


def completion(head: Head, text: str, generation: Generation) -> Json:
    """A whole answer."""
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": text, "refusal": None},
        "logprobs": None,
        "finish_reason": generation.finish_reason,
    }
    return {
        "id": head.id,
        "object": "chat.completion",
        "created": head.created,
        "model": head.model,
        "choices": [choice],
        "usage": usage(generation),
    }


def chunk(head: Head, delta: Json, finish: FinishReason | None = None) -> Json:
    """A part of a streamed answer."""
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    return _chunk(head, [choice])


def usage_chunk(head: Head, generation: Generation) -> Json:
    """The event after the last part, when the caller asked for token counts."""
    return {**_chunk(head, []), "usage": usage(generation)}


def _chunk(head: Head, choices: list[Any]) -> Json:
    return {
        "id": head.id,
        "object": "chat.completion.chunk",
        "created": head.created,
        "model": head.model,
        "choices": choices,
    }
