"""The words a recipe is made of: names, money, durations. Each says what it takes when it refuses.

The values stay the strings that the user wrote, so that a recipe is written back as it was read; the functions
here give their meaning.
"""

import re
from decimal import Decimal
from typing import Annotated, Any, Final, NoReturn

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WithJsonSchema,
    WrapValidator,
)
from pydantic_core import PydanticCustomError

from finetune.names import is_alias

_SLUG: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_PROVIDER: Final = re.compile(r"[a-z][a-z0-9_-]{0,31}")
_REF: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,127}")
_MONEY: Final = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,2})?) USD")
#: Other ways to write an amount of US dollars, in which nothing is open to doubt.
_DOLLARS: Final = re.compile(
    r"(?:USD|US\$|\$)? ?((?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]{1,9})(?:\.[0-9]{1,2})?|[0-9](?:\.[0-9]{1,8})?e\+?[0-9])"
    r" ?(?:USD|US\$|\$|(?:US )?dollars?)?",
    re.IGNORECASE,
)
_DURATION: Final = re.compile(r"(?:([0-9]{1,6})d)?(?:([0-9]{1,7})h)?(?:([0-9]{1,8})m)?(?:([0-9]{1,9})s)?")
_MEMORY: Final = re.compile(r"[0-9]{1,6}(?:\.[0-9]{1,3})?(?:MB|GB|TB)")
_SCORE: Final = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]{0,63}) >= (-?[0-9]{1,7}(?:\.[0-9]{1,4})?)")
_UNPRINTABLE: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")

_MAX_TEXT: Final = 1024
_SECONDS: Final = (86400, 3600, 60, 1)
_MAX_DURATION_S: Final = 366 * 86400

WRONG_TYPE: Final = "E122"
OUT_OF_RANGE: Final = "E123"
NOT_A_CHOICE: Final = "E124"
BAD_FORM: Final = "E125"
CONTRADICTION: Final = "E127"


def refuse(code: str, says: str, why: str = "", fix: str = "", field: str = "") -> NoReturn:
    """Raise what `finetune.spec.complaints` turns into a Problem.

    `says` follows the field's name: "`limits.deadline` {says}". `field` is the name of a field below the place
    where the validator stands; empty for that place itself.
    """
    told = {"code": code, "says": says, "why": why, "fix": fix, "field": field}
    raise PydanticCustomError("ft", "{says}", told)


def _text(value: str) -> str:
    if not value.strip():
        refuse(BAD_FORM, "is empty", fix="write a value, or remove the line to take the default")
    if len(value) > _MAX_TEXT:
        refuse(BAD_FORM, f"is longer than {_MAX_TEXT} characters", fix="write a shorter value")
    if value != value.strip():
        refuse(BAD_FORM, "begins or ends with a blank", "The blank would be part of the value", "remove the blank")
    if _UNPRINTABLE.search(value):
        refuse(BAD_FORM, "has a character that cannot be printed", fix="type the value anew, on one line")
    return value


def _word(value: str) -> str:
    if re.search(r"\s", _text(value)):
        refuse(BAD_FORM, "has a blank in it", "Model names have none", "write the name as its publisher does")
    return value


def _slug(value: str) -> str:
    if not _SLUG.fullmatch(value):
        neat = re.sub(r"[^A-Za-z0-9._-]+", "-", value).strip("-._")[:64]
        refuse(
            BAD_FORM,
            "cannot be used as a name",
            "It takes letters, digits and . _ - (64 at most, a letter or digit first); it becomes the name of "
            "folders, and `@` and `/` divide a name from its version",
            f"write it as {neat}" if neat else "choose a name such as support-bot",
        )
    return value


def _alias(value: str) -> str:
    if not is_alias(value):
        why = (
            "It takes lower case letters, digits and _ . - (64 at most, a letter first); v1, v2 and so on name versions"
        )
        refuse(BAD_FORM, "cannot be an alias", why, "write a name such as production")
    return value


def _provider(value: str) -> str:
    if not _PROVIDER.fullmatch(value):
        neat = re.sub(r"[^a-z0-9_-]+", "", value.lower())
        why = "Providers are named in lower case: letters, digits, _ and -"
        refuse(BAD_FORM, "is not the name of a provider", why, f"write it as {neat}" if neat else "write local")
    return value


def _reference(value: str) -> str:
    if not _REF.fullmatch(value):
        why = "It is `base`, an alias such as production, or a version such as support-bot@v3"
        refuse(BAD_FORM, "names no model", why, "write base")
    return value


def _money(value: Any) -> Any:
    if isinstance(value, str) and _MONEY.fullmatch(value):
        return value
    meant = _meant(value)
    refuse(
        BAD_FORM,
        "is not an amount of money",
        "It takes an amount and the currency, which is always US dollars because providers' prices are",
        f"write {meant}" if meant else "write 0 or more US dollars with at most two decimals, such as 25 USD",
    )


def _meant(value: Any) -> str | None:
    """The very amount that somebody has written in another way; None: that could only be guessed."""
    found = None if isinstance(value, bool) else _DOLLARS.fullmatch(str(value))
    if found is None:
        return None
    amount = Decimal(found[1].replace(",", ""))
    text = f"{int(amount) if amount == int(amount) else amount} USD"
    return text if _MONEY.fullmatch(text) else None


def _least(value: Any) -> Any:
    if isinstance(value, str) and _SCORE.fullmatch(value):
        return value
    refuse(
        BAD_FORM,
        "is not a least score",
        "It names the scores that were imported, and the least of them that will do",
        "write arena >= 1300",
    )


def _duration(value: Any) -> Any:
    if isinstance(value, str) and value and _DURATION.fullmatch(value):
        if not 0 < seconds(value) <= _MAX_DURATION_S:
            refuse(OUT_OF_RANGE, "must be longer than 0s and at most 366d", fix="write a duration such as 6h")
        return value
    refuse(
        BAD_FORM,
        "is not a duration",
        "It takes whole numbers with their units, the largest first: d, h, m, s",
        f"write {value}h, if hours are meant" if type(value) is int else "write a duration such as 6h or 1h30m",
    )


def _memory(value: Any) -> Any:
    if isinstance(value, str) and _MEMORY.fullmatch(value):
        return value
    refuse(BAD_FORM, "is not a size of memory", "It takes a number and MB, GB or TB", "write a size such as 24GB")


def _version(value: Any) -> Any:
    # A literal alone would take 1.0 and true for 1.
    if type(value) is not int or value != 1:
        refuse(
            NOT_A_CHOICE,
            "must be 1",
            "It is the version of this file's format, the only one so far",
            "write version: 1",
        )
    return value


def provider_name(text: str) -> bool:
    """True when a provider may be called so."""
    return bool(_PROVIDER.fullmatch(text))


def dollars(money: str) -> Decimal:
    """The amount of a valid `25 USD`, in US dollars."""
    return Decimal(money.removesuffix(" USD"))


def least_score(text: str) -> tuple[str, float]:
    """Name and least score of a valid `arena >= 1300`."""
    name, _, score = text.partition(" >= ")
    return name, float(score)


def seconds(duration: str) -> int:
    """The length of a valid duration (`6h`, `1h30m`), in seconds."""
    found = _DURATION.fullmatch(duration)
    parts = found.groups() if found else ()
    return sum(int(part) * unit for part, unit in zip(parts, _SECONDS, strict=False) if part)


def one_of(code: str, says: str, why: str, fix: str) -> WrapValidator:
    """Say one sentence for a choice between types, where pydantic would list what each of them refuses."""

    def check(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        try:
            return handler(value)
        except ValidationError:
            refuse(code, says, why, fix)

    return WrapValidator(check)


def _like(pattern: re.Pattern[str]) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": f"^(?:{pattern.pattern})$"})


#: One line of text, not empty.
Text = Annotated[str, AfterValidator(_text), WithJsonSchema({"type": "string", "minLength": 1, "maxLength": _MAX_TEXT})]
#: Text without blanks.
Word = Annotated[str, AfterValidator(_word), _like(re.compile(r"\S+"))]
#: The name of a recipe or a metric.
Slug = Annotated[str, AfterValidator(_slug), _like(_SLUG)]
#: The name of a region of the world, in small letters however it was written.
RegionName = Annotated[str, AfterValidator(_slug), AfterValidator(str.lower), _like(_SLUG)]
#: An alias of a tuned model.
Alias = Annotated[str, AfterValidator(_alias), _like(re.compile(r"[a-z][a-z0-9_.-]{0,63}"))]
#: The name of a provider; which ones there are is the catalogue's to say.
ProviderName = Annotated[str, AfterValidator(_provider), _like(_PROVIDER)]
#: A model to compare with: `base`, an alias or a version.
ModelRef = Annotated[str, AfterValidator(_reference), _like(_REF)]
#: `25 USD`; `dollars` reads it.
Money = Annotated[str, BeforeValidator(_money), _like(_MONEY)]
#: `6h`, `90m`, `1h30m`; `seconds` reads it.
Duration = Annotated[str, BeforeValidator(_duration), _like(_DURATION)]
#: `arena >= 1300`; `least_score` reads it.
LeastScore = Annotated[str, BeforeValidator(_least), _like(_SCORE)]
#: `24GB`.
Memory = Annotated[str, BeforeValidator(_memory), _like(_MEMORY)]
#: The marker that goes before `Literal[1]`.
EXACTLY_ONE: Final = BeforeValidator(_version)
