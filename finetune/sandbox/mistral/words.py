"""How Mistral says no. What is wrong stands under `detail`, as words or field by field."""

from collections.abc import Sequence
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError

from finetune.sandbox.service import Refusal, Reply

#: What the gateway in front of the API says of a request too many.
_RATE: Final = {"object": "error", "type": "rate_limited", "param": None, "code": "1300", "raw_status_code": 429}

#: What the inference API says, which is another service than fine-tuning.
_CHAT: Final = {"object": "error", "param": None}

Model = TypeVar("Model", bound=BaseModel)


def answer(status: int, message: str, **more: Any) -> Reply:
    """An error as it goes out; `more` are further keys of its body."""
    body = {"message": "Rate limit exceeded", **_RATE} if status == 429 else {"detail": message}
    return Reply(status=status, body={**body, **more})


def refuse(status: int, message: str, **more: Any) -> Refusal:
    """The same, to be raised."""
    return Refusal(answer(status, message, **more))


def unprocessable(place: Sequence[str | int], message: str, kind: str = "value_error") -> Refusal:
    """422 for one field; `place` leads to it from `body`, `query` or `path`."""
    told: dict[str, Any] = {"type": kind, "loc": list(place), "msg": message}
    if kind == "value_error":
        told |= {"msg": f"Value error, {message}", "ctx": {"error": message}}
    return Refusal(Reply(status=422, body={"detail": [told]}))


def checked(model: type[Model], value: Any, place: Sequence[str | int]) -> Model:
    """The value as `model`. Raises Refusal: 422 that names every field at fault."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise Refusal(Reply(status=422, body={"detail": [_fault(each, place) for each in _faults(error)]})) from None


def no_such(kind: str) -> Refusal:
    """404; `kind` is `fine tuning job` or `file`."""
    return refuse(404, f"No {kind} matches the given query.")


def unknown_model(name: str) -> Refusal:
    """400, not 404: a model that cannot be asked."""
    told = {"message": f"Invalid model: {name}", "type": "invalid_model", "code": "1500", "raw_status_code": 400}
    return Refusal(Reply(status=400, body={**_CHAT, **told}))


def not_now(message: str) -> Refusal:
    """400: what is written rightly, and not done."""
    told = {"message": message, "type": "invalid_request_error", "code": None, "raw_status_code": 400}
    return Refusal(Reply(status=400, body={**_CHAT, **told}))


def asked_rightly(model: type[Model], value: Any) -> Model:
    """As `checked`, of a chat's body: the fields at fault stand under `message`."""
    try:
        return checked(model, value, ("body",))
    except Refusal as refusal:
        told = {"message": refusal.reply.body, "type": "invalid_request_error", "code": None, "raw_status_code": 422}
        raise Refusal(Reply(status=422, body={**_CHAT, **told})) from None


def _faults(error: ValidationError) -> list[Any]:
    # A value may be a token of somebody's, so none is repeated.
    return list(error.errors(include_url=False, include_input=False))


def _fault(told: Any, place: Sequence[str | int]) -> dict[str, Any]:
    out = {**told, "loc": [*place, *told["loc"]]}
    if "ctx" in told:
        out["ctx"] = {
            name: value if isinstance(value, int | float) else str(value) for name, value in out["ctx"].items()
        }
    return out
