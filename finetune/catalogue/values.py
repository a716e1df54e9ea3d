"""The words of a sheet: amounts, sizes, days, and the claims that hold them with their source."""

import re
from datetime import date
from decimal import Decimal
from typing import Annotated, Any, Final, NoReturn

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from finetune.catalogue.rules import Method, Role

_SIZE: Final = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,3})?) (kB|MB|GB|TB|KiB|MiB|GiB|TiB)")
_FACTORS: Final = {
    **{"kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12},
    **{"KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40},
}
_PARAMETERS: Final = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,3})?)([MBT])")
_MANY: Final = {"M": 10**6, "B": 10**9, "T": 10**12}
_DOLLARS: Final = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,6})?")
#: A page on the web, or a file of this project.
_PLACE: Final = re.compile(r"https?://[^\s/]+\.[^\s/]+(?:/\S*)?|(?:docs|finetune|workers)/[\w./-]+")


def refuse(takes: str) -> NoReturn:
    """Raise what `finetune.catalogue.complaints` turns into a Problem: the field "must be {takes}"."""
    raise PydanticCustomError("catalogue", "{takes}", {"takes": takes})


def _bytes(value: Any) -> Any:
    if isinstance(value, str) and (found := _SIZE.fullmatch(value)):
        return int(Decimal(found[1]) * _FACTORS[found[2]])
    if type(value) is not int:
        refuse("a size such as 512 MB or 50.1 GiB, or a whole number of bytes")
    return value


def _parameters(value: Any) -> Any:
    if isinstance(value, str) and (found := _PARAMETERS.fullmatch(value)):
        return int(Decimal(found[1]) * _MANY[found[2]])
    refuse("a number of parameters such as 0.6B or 80B")


def _dollars(value: Any) -> Any:
    if isinstance(value, str) and _DOLLARS.fullmatch(value):
        return Decimal(value)
    refuse('an amount of US dollars in quotes, such as "25.00"')


def _day(value: Any) -> Any:
    try:
        if isinstance(value, str) and len(value) == len("2027-01-06"):
            return date.fromisoformat(value)
    except ValueError:
        pass
    refuse("a day such as 2027-01-06")


def _version(value: Any) -> Any:
    # A literal alone would take 1.0 and true for 1.
    if type(value) is int and value == 1:
        return value
    refuse("1, the version of this format")


def _place(value: Any) -> Any:
    if isinstance(value, str) and _PLACE.fullmatch(value):
        return value
    refuse("the URL of a page, beginning with https://")


Version = Annotated[int, BeforeValidator(_version)]
Size = Annotated[int, BeforeValidator(_bytes), Field(gt=0)]
Parameters = Annotated[int, BeforeValidator(_parameters), Field(gt=0)]
Dollars = Annotated[Decimal, BeforeValidator(_dollars)]
Date = Annotated[date, BeforeValidator(_day)]
Place = Annotated[str, BeforeValidator(_place)]
Text = Annotated[str, Field(min_length=1)]
Key = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")]
#: A base model as its provider names it; `*` stands for any run of characters.
Pattern = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/*@-]{0,127}$")]


class Section(BaseModel):
    """What all parts of a sheet have in common: frozen, strict, closed."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", hide_input_in_errors=True, defer_build=True)


class Source(Section):
    """A document, and when it was read."""

    url: Place
    title: Text
    #: The day on which it was read for this file.
    read: Date
    #: The day that the document itself bears; None: it bears none.
    dated: Date | None = None


class Claim(Section):
    """Something that a source says."""

    #: A key of `sources`.
    source: Key
    #: What a reader should know beside the value.
    note: Text | None = None


class Count(Claim):
    """A number of rows, messages, tokens or images."""

    value: int = Field(gt=0)


class Bytes(Claim):
    """A size; MB is 1,000,000 bytes, MiB is 1,048,576."""

    value: Size


class Flag(Claim):
    """Whether something is taken, or holds."""

    value: bool


class Roles(Claim):
    """The roles that a message may have, in the words of our own rows."""

    value: Annotated[tuple[Role, ...], Field(strict=False, min_length=1)]


class Name(Claim):
    """A model's name somewhere else."""

    value: Text


class Amount(Claim):
    """How many parameters a model has."""

    value: Parameters


class Day(Claim):
    """A day, in UTC. What ends, ends when the day begins."""

    value: Date
    #: The source promises only that it is not earlier.
    at_least: bool = False


class Methods(Section):
    """What a model can be trained by. Absent: not published."""

    sft: Flag | None = None
    dpo: Flag | None = None

    def of(self, method: Method) -> Flag | None:
        """What is said of this method; None when nothing is."""
        return {"sft": self.sft, "dpo": self.dpo}[method]
