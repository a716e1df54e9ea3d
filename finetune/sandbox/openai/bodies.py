"""OpenAI's request bodies, field by field as its published description 2.3.0 has them: types, ranges, nothing further.

A check takes a value and its dotted name and raises Refused at the first fault, as the vendor does.
"""

import json
import math
from collections.abc import Callable, Mapping
from typing import Any, Final

from finetune.sandbox.openai.words import (
    Refused,
    missing_parameter,
    out_of_range,
    unknown_parameter,
    wrong_length,
    wrong_type,
    wrong_value,
)

Check = Callable[[Any, str], None]

MAX_SEED: Final = 2**31 - 1
PURPOSES: Final = ("assistants", "batch", "fine-tune", "vision", "user_data", "evals")
METHODS: Final = ("supervised", "dpo", "reinforcement")


def text(least: int = 0, most: int | None = None, choices: tuple[str, ...] = ()) -> Check:
    """A string of `least` to `most` characters, one of `choices` where there are any."""

    def check(value: Any, name: str) -> None:
        if not isinstance(value, str):
            raise wrong_type(name, "a string", value)
        if len(value) < least:
            raise wrong_length(name, len(value), least=least)
        if most is not None and len(value) > most:
            raise wrong_length(name, len(value), most=most)
        if choices and value not in choices:
            raise wrong_value(name, value, choices)

    return check


def whole(least: int, most: int | None = None) -> Check:
    """An integer in the range, both ends included."""

    def check(value: Any, name: str) -> None:
        if not isinstance(value, int) or isinstance(value, bool):
            raise wrong_type(name, "an integer", value)
        if value < least:
            raise out_of_range(name, value, below=least)
        if most is not None and value > most:
            raise out_of_range(name, value, above=most)

    return check


def number(above: float, most: float | None = None) -> Check:
    """A number that is more than `above` and at most `most`."""

    def check(value: Any, name: str) -> None:
        if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
            raise wrong_type(name, "a number", value)
        if not value > above:
            raise out_of_range(name, float(value), below=above)
        if most is not None and value > most:
            raise out_of_range(name, float(value), above=most)

    return check


def auto_or(inner: Check) -> Check:
    """The word `auto`, or what `inner` takes."""

    def check(value: Any, name: str) -> None:
        if isinstance(value, str):
            return text(choices=("auto",))(value, name)
        return inner(value, name)

    return check


def nullable(inner: Check) -> Check:
    """null, or what `inner` takes."""

    def check(value: Any, name: str) -> None:
        if value is not None:
            inner(value, name)

    return check


def listed(inner: Check, most: int | None = None) -> Check:
    """An array of what `inner` takes."""

    def check(value: Any, name: str) -> None:
        if not isinstance(value, list):
            raise wrong_type(name, "an array", value)
        if most is not None and len(value) > most:
            message = f"Invalid '{name}': array too long. Expected at most {most} items, but got {len(value)} instead."
            raise Refused(400, message, code="array_above_max_length", param=name)
        for place, each in enumerate(value):
            inner(each, f"{name}[{place}]")

    return check


def fields(needed: Mapping[str, Check], further: Mapping[str, Check]) -> Check:
    """An object with these fields and no others."""

    def check(value: Any, name: str) -> None:
        if not isinstance(value, dict):
            raise wrong_type(name or "body", "an object", value)
        known = {**needed, **further}
        for key in value:
            if key not in known:
                raise unknown_parameter(_inside(name, key))
        for key in needed:
            if key not in value:
                raise missing_parameter(_inside(name, key))
        for key, inner in value.items():
            known[key](inner, _inside(name, key))

    return check


def metadata(value: Any, name: str) -> None:
    """At most 16 strings of at most 512 characters under keys of at most 64."""
    if not isinstance(value, dict):
        raise wrong_type(name, "an object", value)
    if len(value) > 16:
        message = (
            f"Invalid '{name}': too many properties. Expected an object with at most 16 properties, "
            f"but got an object with {len(value)} properties instead."
        )
        raise Refused(400, message, code="object_above_max_properties", param=name)
    for key, inner in value.items():
        if len(key) > 64:
            raise wrong_length(f"{name} key", len(key), most=64)
        text(most=512)(inner, _inside(name, key))


def _inside(name: str, key: str) -> str:
    return f"{name}.{key}" if name else key


_COMMON: Final[Mapping[str, Check]] = {
    "batch_size": auto_or(whole(1, 256)),
    "learning_rate_multiplier": auto_or(number(0)),
    "n_epochs": auto_or(whole(1, 50)),
}
_SUPERVISED: Final = fields({}, {"hyperparameters": fields({}, _COMMON)})
_DPO: Final = fields({}, {"hyperparameters": fields({}, {**_COMMON, "beta": auto_or(number(0, 2))})})


def _reinforcement(value: Any, name: str) -> None:
    """Its body is not looked at: the sandbox refuses the method anyway."""


_METHOD: Final = fields(
    {"type": text(choices=METHODS)}, {"supervised": _SUPERVISED, "dpo": _DPO, "reinforcement": _reinforcement}
)
_WANDB: Final = fields(
    {"project": text()},
    {"name": nullable(text()), "entity": nullable(text()), "tags": listed(text())},
)
JOB: Final[Mapping[str, Check]] = {
    "hyperparameters": fields({}, _COMMON),
    "suffix": nullable(text(1, 64)),
    "validation_file": nullable(text()),
    "integrations": nullable(listed(fields({"type": text(choices=("wandb",)), "wandb": _WANDB}, {}), 5)),
    "seed": nullable(whole(0, MAX_SEED)),
    "method": _METHOD,
    "metadata": nullable(metadata),
}
JOB_NEEDED: Final[Mapping[str, Check]] = {"model": text(1), "training_file": text(1)}
EXPIRY: Final[Mapping[str, Check]] = {"anchor": text(choices=("created_at",)), "seconds": whole(3600, 2_592_000)}
UPLOAD: Final = fields(
    {
        "filename": text(1),
        "purpose": text(choices=("assistants", "batch", "fine-tune", "vision")),
        "bytes": whole(1),
        "mime_type": text(1),
    },
    {"expires_after": fields(EXPIRY, {})},
)
COMPLETION: Final = fields({"part_ids": listed(text(1))}, {"md5": text()})
NOTHING: Final = fields({}, {})


def method_of(body: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """`supervised` or `dpo`, and the hyperparameters that were set. Raises Refused where the parts contradict."""
    method = body.get("method")
    if method is None:
        return "supervised", dict(body.get("hyperparameters", {}))
    if "hyperparameters" in body:
        message = "'hyperparameters' cannot be used together with 'method'; pass them inside 'method'."
        raise Refused(400, message, code="invalid_request", param="hyperparameters")
    name = str(method["type"])
    if name == "reinforcement":
        message = "The sandbox does not train by reinforcement; use 'supervised' or 'dpo'."
        raise Refused(400, message, code="unsupported_value", param="method.type")
    for other in METHODS:
        if other != name and other in method:
            raise unknown_parameter(f"method.{other}")
    return name, dict(method.get(name, {}).get("hyperparameters", {}))


def json_body(raw: bytes, content_type: str, *, empty: bool = False) -> Any:
    """The body as JSON; {} for no body where `empty` allows it. Raises Refused."""
    if not raw and empty:
        return {}
    if content_type.partition(";")[0].strip().lower() != "application/json":
        message = (
            f"Unsupported content type: '{content_type}'. This API method only accepts 'application/json' requests."
        )
        raise Refused(400, message, code="unsupported_content_type")
    try:
        return json.loads(raw, parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise Refused(400, "We could not parse the JSON body of your request.") from None


def _no_number(word: str) -> None:
    raise ValueError(word)
