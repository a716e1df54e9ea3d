"""How OpenAI says no: statuses, codes and words of its refusals."""

from typing import Any


class Refused(Exception):
    """Raised anywhere below a handler; the sandbox makes the answer of it, in the form of its vendor."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        type: str = "invalid_request_error",
    ) -> None:
        super().__init__(message)
        self.status, self.message = status, message
        self.code, self.param, self.type = code, param, type


def unknown_parameter(name: str) -> Refused:
    """A field that the operation does not have."""
    return Refused(400, f"Unknown parameter: '{name}'.", code="unknown_parameter", param=name)


def missing_parameter(name: str) -> Refused:
    """A field that must be there and is not."""
    message = f"Missing required parameter: '{name}'."
    return Refused(400, message, code="missing_required_parameter", param=name)


def wrong_type(name: str, wanted: str, got: Any) -> Refused:
    """A value of another JSON type than `wanted` (`an integer`)."""
    message = f"Invalid type for '{name}': expected {wanted}, but got {kind(got)} instead."
    return Refused(400, message, code="invalid_type", param=name)


def wrong_value(name: str, got: object, choices: tuple[str, ...]) -> Refused:
    """A value that is none of `choices`."""
    quoted = [f"'{each}'" for each in choices]
    listed = quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])}, and {quoted[-1]}"
    message = f"Invalid value: '{got}'. Supported values are: {listed}."
    return Refused(400, message, code="invalid_value", param=name)


def out_of_range(name: str, got: float, *, below: float | None = None, above: float | None = None) -> Refused:
    """A number under the least (`below`) or over the most (`above`) that is taken; a decimal one must be above it."""
    word, sign = ("integer", ">=") if isinstance(got, int) else ("decimal", ">")
    if below is not None:
        what, code, wanted = "below minimum value", f"{word}_below_min_value", f"{sign} {below}"
    else:
        what, code, wanted = "above maximum value", f"{word}_above_max_value", f"<= {above}"
    message = f"Invalid '{name}': {word} {what}. Expected a value {wanted}, but got {got} instead."
    return Refused(400, message, code=code, param=name)


def wrong_length(name: str, got: int, *, least: int | None = None, most: int | None = None) -> Refused:
    """A string that is shorter than `least` or longer than `most` characters."""
    if most is not None:
        what, code, limit = "string too long", "string_above_max_length", f"maximum length {most}"
    else:
        what, code, limit = "string too short", "string_below_min_length", f"minimum length {least}"
    message = f"Invalid '{name}': {what}. Expected a string with {limit}, but got a string with length {got} instead."
    return Refused(400, message, code=code, param=name)


def no_such_file(file_id: str) -> Refused:
    """A file id that nobody has."""
    return Refused(404, f"No such File object: {file_id}", param="id")


def no_such_upload(upload_id: str) -> Refused:
    """An upload id that nobody has."""
    return Refused(404, f"No such Upload object: {upload_id}", param="upload_id")


def no_such_job(job_id: str) -> Refused:
    """A job id that nobody has."""
    return Refused(404, f"Could not find fine tune: {job_id}", code="fine_tune_not_found", param="fine_tune_id")


def no_such_model(model: str) -> Refused:
    """A model id that nobody has."""
    message = f"The model '{model}' does not exist"
    return Refused(404, message, code="model_not_found", param="model")


def no_model_to_ask(model: str) -> Refused:
    """A model that nobody has, or that this key may not ask: one answer for both."""
    message = f"The model `{model}` does not exist or you do not have access to it."
    return Refused(404, message, code="model_not_found")


def not_tunable(model: str) -> Refused:
    """A base model that cannot be tuned, or not by this method."""
    message = f"Model {model} is not available for fine-tuning or does not exist."
    return Refused(400, message, code="model_not_available", param="model")


def no_quota() -> Refused:
    """The bill, not the pace: waiting does not help."""
    message = "You exceeded your current quota, please check your plan and billing details."
    return Refused(429, message, code="insufficient_quota", type="insufficient_quota")


def closed() -> Refused:
    """The service takes no new jobs any more."""
    message = (
        "OpenAI is winding down the fine-tuning platform and your organization is no longer able to create new "
        "fine-tuning training jobs."
    )
    return Refused(403, message, code="training_not_available")


def kind(value: Any) -> str:
    """The JSON type of a value, with its article."""
    return _KINDS[type(value)]


_KINDS = {
    type(None): "null",
    bool: "a boolean",
    int: "an integer",
    float: "a decimal number",
    str: "a string",
    list: "an array",
    dict: "an object",
}
