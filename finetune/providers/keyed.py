"""What providers with a credential share: what they take of a recipe, what is missing, a client made once."""

import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, Final, Generic, TypeVar
from urllib.parse import urlsplit

from finetune.errors import AuthenticationFailed, Problem
from finetune.spec import Recipe

Client = TypeVar("Client")

#: Of `ports.Provider.honours`, what holds for each.
HONOURED: Final = frozenset(
    {"base_model", "method", "provider_options", "limits.max_cost", "limits.data", "limits.deadline"}
)


#: `provider_options` by name: what the value has to be, in words, and the test of it.
Options = Mapping[str, tuple[str, Callable[[Any], bool]]]


@dataclass(frozen=True)
class Place:
    """Where jobs run."""

    #: The variable that says so.
    variable: str
    #: None: it is not set.
    value: str | None
    #: Whether the first lies in the second, which is a recipe's.
    within: Callable[[str, str], bool]


class Opened(Generic[Client]):
    """A client, made by the first request that needs it. Safe for threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._client: Client | None = None

    def get(self, unconfigured: Callable[[], list[Problem]], make: Callable[[], Client]) -> Client:
        """Always the same one. Raises AuthenticationFailed while something is missing."""
        with self._lock:
            if self._client is None:
                if problems := unconfigured():
                    raise AuthenticationFailed(*problems)
                self._client = make()
            return self._client


def missing(what: str, fix: str) -> Problem:
    """Something without which nothing can be sent."""
    return Problem(code="E412", what=what, why="nothing can be sent without it", fix=fix)


def of_key(variable: str, key: str) -> Iterator[Problem]:
    """What is wrong with a key that goes into a header."""
    if not key:
        yield missing(f"{variable} is not set", f"export {variable}=..., or try it: `ft submit --sandbox`")
    elif not key.isascii() or not key.isprintable() or " " in key:
        yield missing(f"{variable} holds something that no header can carry", "copy the key anew")


def of_address(variable: str, address: str, vendor: str) -> Iterator[Problem]:
    """What is wrong with the address of an API; `vendor` is the vendor's own."""
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        yield missing(f"{variable} is no address", f"write it like {vendor}, or unset it")


def host(address: str) -> str:
    """Without a name and password, which an address may have before its host."""
    return urlsplit(address).netloc.rpartition("@")[2]


def not_taken(title: str, field: str, value: str | None, why: str, fix: str) -> Problem:
    """A value of the recipe that this provider does not take; None is not shown."""
    what = f"`{field}`" if value is None else f"`{field}: {value}`"
    return Problem(code="E414", what=f"{what} is not taken by {title}", why=why, fix=fix, field=field, value=value)


def shown(value: object) -> str:
    """The value in a message, where a long one is cut."""
    return str(value)[:40]


def of_options(
    title: str, recipe: Recipe, known: Options, elsewhere: Callable[[Recipe, str], bool]
) -> Iterator[Problem]:
    """What of `provider_options` is not taken; `elsewhere` says of a name that it is for other recipes."""
    for name, value in recipe.provider_options.items():
        field = f"provider_options.{name}"
        if name not in known:
            # Somebody may have written a secret there.
            yield not_taken(title, field, None, f"{title} has {', '.join(sorted(known))}", "remove it")
            continue
        takes, fits = known[name]
        away = elsewhere(recipe, name)
        if away or not fits(value):
            yield not_taken(title, field, shown(value), f"it is {takes}", "remove it" if away else "correct it")


def of_region(title: str, recipe: Recipe, place: Place) -> Iterator[Problem]:
    """The recipe keeps its data in a region, and jobs run in another, or nobody has said where."""
    wanted = recipe.limits.data
    if isinstance(wanted, str) or (place.value is not None and place.within(place.value, wanted.region)):
        return
    keeps = f"the recipe keeps the data in {wanted.region}"
    if place.value is None:
        what, fix = f"where {title} shall run jobs is not set", f"export {place.variable}=..., a place in that region"
        yield Problem(code="E414", what=what, why=keeps, fix=fix, field="limits.data", value=f"region: {wanted.region}")
        return
    why = f"jobs run in {place.value} ({place.variable}), and {keeps}"
    fix = f"export {place.variable}=..., with a bucket in that region, or change limits.data"
    yield not_taken(title, "limits.data", f"region: {wanted.region}", why, fix)


def of_unknown_region(title: str, recipe: Recipe, why: str) -> Iterator[Problem]:
    """The recipe keeps its data in a region, and nobody knows where jobs run; `why` not."""
    wanted = recipe.limits.data
    if not isinstance(wanted, str) and "limits.data" not in recipe.allow_ignored:
        fix = "look it up in your contract, and accept that with allow_ignored: [limits.data]"
        yield not_taken(title, "limits.data", shown(f"region: {wanted.region}"), why, fix)


def variable(environ: Mapping[str, str], name: str) -> str | None:
    """A variable's value without what a file or a copy has left at its ends; None: it is not set, or empty."""
    return (environ.get(name) or "").strip() or None


def dollars(text: str) -> Decimal | None:
    """An amount of US dollars, 0 or more; None: it is none."""
    try:
        usd = Decimal(text)
    except InvalidOperation:
        return None
    return usd if usd.is_finite() and usd >= 0 else None
