"""How Together says no: one object under `error`; and what it reads."""

import json
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError

from finetune.sandbox.service import Refusal, Reply

_TYPES: Final = {401: "authentication_error", 402: "payment_required", 404: "not_found", 429: "rate_limit"}

Model = TypeVar("Model", bound=BaseModel)


def answer(status: int, message: str, *, param: str | None = None, code: str | None = None, **more: Any) -> Reply:
    """An error as it goes out; `more` are further keys of its body."""
    kind = _TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    error = {"message": message, "type": kind, "param": param, "code": code}
    return Reply(status=status, body={"error": error, **more})


def refuse(status: int, message: str, **more: Any) -> Refusal:
    """The same, to be raised."""
    return Refusal(answer(status, message, **more))


def body(content: bytes) -> Any:
    """A request's JSON. Raises Refusal: 400."""
    try:
        return json.loads(content)
    except ValueError:
        raise refuse(400, "Could not parse the JSON body of the request.") from None


def checked(model: type[Model], value: Any) -> Model:
    """The value as `model`. Raises Refusal: 400 that names the first field at fault, without its value."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(each) for each in first["loc"])
        raise refuse(400, f"{place or 'body'}: {first['msg']}", param=place or None) from None


def no_such(kind: str) -> Refusal:
    """404; `kind` is `Fine-tune job` or `File`."""
    return refuse(404, f"{kind} not found")


def denied(message: str) -> Refusal:
    """How a storage says no, which is another service with other words."""
    text = f'<?xml version="1.0" encoding="UTF-8"?><Error><Code>AccessDenied</Code><Message>{message}</Message></Error>'
    return Refusal(Reply(status=403, body=text.encode(), headers={"Content-Type": "application/xml"}))
