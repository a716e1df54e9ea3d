"""How Fireworks says no: a code of gRPC, its words, and the HTTP status that gRPC's gateways give that code."""

from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError

from finetune.sandbox.service import Refusal, Reply

#: By the names that a resource's `status` has too: the number, and the HTTP status.
CODES: Final = {
    "INVALID_ARGUMENT": (3, 400),
    "NOT_FOUND": (5, 404),
    "ALREADY_EXISTS": (6, 409),
    "PERMISSION_DENIED": (7, 403),
    "RESOURCE_EXHAUSTED": (8, 429),
    "FAILED_PRECONDITION": (9, 400),
    "UNIMPLEMENTED": (12, 501),
    "INTERNAL": (13, 500),
    "UNAVAILABLE": (14, 503),
    "UNAUTHENTICATED": (16, 401),
}
_NUMBERS: Final = {status: number for number, status in reversed(CODES.values())} | {405: 12}

Body = TypeVar("Body", bound=BaseModel)


def answer(status: int, message: str, **more: Any) -> Reply:
    """An error as it goes out; `more` are further keys of its body."""
    return Reply(status=status, body={"code": _NUMBERS.get(status, 2), "message": message, "details": [], **more})


def refuse(code: str, message: str) -> Refusal:
    """One by its code's name, to be raised."""
    number, status = CODES[code]
    return Refusal(answer(status, message, code=number))


def checked(model: type[Body], value: Any) -> Body:
    """The value as `model`. Raises Refusal: 400 that names the first field at fault, and never repeats a value."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(each) for each in first["loc"]) or "the body"
        raise refuse("INVALID_ARGUMENT", f"{place}: {first['msg']}") from None


def no_such(name: str) -> Refusal:
    """404 for a resource, by its whole name."""
    return refuse("NOT_FOUND", f"{name} not found")
