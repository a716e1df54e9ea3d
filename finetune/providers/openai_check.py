"""What an API of OpenAI's protocol takes of a recipe, and what the environment must hold. Sends nothing."""

import math
from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from finetune.errors import Problem
from finetune.jobs import Json
from finetune.providers.keyed import missing
from finetune.spec import Recipe, explicit

SUFFIX_MOST: Final = 64
_BETA_MOST: Final = 2
_INTEGRATIONS_MOST: Final = 5
#: Recipe fields and the most that the API takes of each; the least is the recipe's own.
_MOST: Final = {"training.epochs": 50, "training.batch_size": 256, "seed": 2**31 - 1, "dpo.beta": _BETA_MOST}
#: Sent even when the recipe does not set it: the price is counted from it.
_ALWAYS_SENT: Final = "training.epochs"
#: https://developers.openai.com/api/docs/guides/data-residency names a host for each, read 2026-11-29.
_REGIONS: Final = ("ae", "au", "ca", "eu", "gb", "in", "jp", "kr", "sg", "us")
_WANDB: Final[Mapping[str, type]] = {"project": str, "name": str, "entity": str, "tags": list}
_NAMED: Final[Mapping[type, str]] = {float: "a number", str: "a text", list: "a list"}


def numbers(title: str, recipe: Recipe) -> Iterator[Problem]:
    """Numbers above what the API takes."""
    wanted = {_ALWAYS_SENT: recipe.training.epochs, **explicit(recipe)}
    for field, most in _MOST.items():
        value = wanted.get(field)
        if isinstance(value, int | float) and value > most:
            yield not_taken(field, str(value), f"{title} takes at most {most:,}", f"write {most} or less")


def options(title: str, known: Mapping[str, type], recipe: Recipe) -> Iterator[Problem]:
    """`provider_options` that the API does not have, or has otherwise. `known`: each with its type."""
    for name, value in recipe.provider_options.items():
        place, kind = f"provider_options.{name}", known.get(name)
        if kind is None:
            # It may be a secret in the wrong place, so it is not shown.
            yield not_taken(place, None, f"{title} has {', '.join(sorted(known))}", "remove it")
        elif name == "beta" and "dpo.beta" in explicit(recipe):
            yield not_taken(place, str(value)[:40], "the recipe's `dpo.beta` says it", "remove one of the two")
        elif why := _fault(name, kind, value, recipe.method):
            yield not_taken(place, None if kind is list else str(value)[:40], why, "correct it")


def region(address: str | None, recipe: Recipe) -> Iterator[Problem]:
    """OpenAI's regions have a host each: `https://eu.api.openai.com/v1`. Of another host nobody knows where it is."""
    wanted = recipe.limits.data
    if isinstance(wanted, str) or "limits.data" in recipe.allow_ignored:
        return
    host, there = host_of(address) or "api.openai.com", f"{wanted.region}.api.openai.com"
    accept = "or accept where it goes by allow_ignored: [limits.data]"
    if wanted.region not in _REGIONS:
        # No address is made of a word that somebody has written: the key would go there.
        why, fix = f"OpenAI has no such region; it has {', '.join(_REGIONS)}", f"write one of these, {accept}"
        yield not_taken("limits.data", f"region: {wanted.region}", why, fix)
    elif host != there:
        why = f"data goes to {host}, and the recipe keeps it in {wanted.region}"
        fix = f"export OPENAI_BASE_URL=https://{there}/v1, with a key of a project in that region; {accept}"
        yield not_taken("limits.data", f"region: {wanted.region}", why, fix)


def environment(needed: Mapping[str, str | None], addresses: Mapping[str, str | None]) -> Iterator[Problem]:
    """What is missing or cannot be used among the variables; an address may be unset unless it is `needed`, too."""
    for name, value in needed.items():
        if not value:
            yield missing(f"{name} is not set", f"export {name}=..., or try without a bill: `ft submit --sandbox`")
        elif not (value.isascii() and value.isprintable()):
            yield missing(f"{name} has characters that no credential or address has", "copy it anew")
    for name, value in addresses.items():
        if value and host_of(value) is None:
            yield missing(
                f"{name} is no address", f"it begins with https:// and names a host: export {name}=https://..."
            )


def host_of(address: str | None) -> str | None:
    """The host of a URL; None when it is no address of the web."""
    try:
        parts = urlsplit(address or "")
        _ = parts.port
    except ValueError:
        return None
    return parts.hostname if parts.scheme in ("http", "https") else None


def not_taken(field: str, value: str | None, why: str, fix: str) -> Problem:
    """A value of the recipe that the provider does not take; None is not shown."""
    shown = field if value is None else f"{field}: {value}"
    return Problem(code="E414", what=f"`{shown}` is not taken here", why=why, fix=fix, field=field, value=value)


def _fault(name: str, kind: type, value: Any, method: str) -> str | None:
    """Why the option's value is not taken; None when it is."""
    kinds = (int, float) if kind is float else (kind,)
    # True is no number here.
    if type(value) not in kinds:
        return f"it is {_NAMED[kind]}"
    if name == "suffix" and not 1 <= len(value) <= SUFFIX_MOST:
        return f"a suffix has 1 to {SUFFIX_MOST} characters, and this one {len(value)}"
    if name == "beta" and method != "dpo":
        return "beta belongs to method: dpo"
    if name == "beta" and not (math.isfinite(value) and 0 < value <= _BETA_MOST):
        return f"beta is above 0 and at most {_BETA_MOST}"
    if name == "integrations" and not (len(value) <= _INTEGRATIONS_MOST and all(map(_is_integration, value))):
        return (
            f"at most {_INTEGRATIONS_MOST} of {{type: wandb, wandb: {{project, name, entity, tags}}}}, project needed"
        )
    return None if value else f"{name} is empty"


def _is_integration(value: Json) -> bool:
    """As the API's description has it: Weights and Biases, whose key is kept there and has no place here."""
    if not isinstance(value, dict) or value.keys() != {"type", "wandb"} or value["type"] != "wandb":
        return False
    inside = value["wandb"]
    if not isinstance(inside, dict) or "project" not in inside or not inside.keys() <= _WANDB.keys():
        return False
    return all(isinstance(each, _WANDB[name]) for name, each in inside.items())
