"""What an evaluation process is asked to do: `REQUEST_DIR/request.json`, read strictly. No torch here."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from finetune.errors import EvaluationError, Problem

_STRICT = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)

Positive = Annotated[int, Field(ge=1)]
Word = Annotated[str, Field(min_length=1)]


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class Base:
    """The base model itself, as `base_model` names it."""

    kind: Literal["base"]
    #: As people know it; None: the name of the base model.
    name: Word | None = None


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class Adapter:
    """A LoRA on the base model."""

    kind: Literal["adapter"]
    name: Word
    path: Path


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class Served:
    """A model behind an OpenAI-compatible address. See `endpoint.Address`."""

    kind: Literal["endpoint"]
    name: Word
    base_url: Word
    model: Word
    key_env: Word | None = None
    concurrency: Annotated[int, Field(ge=1, le=64)] = 4


Subject = Annotated[Base | Adapter | Served, Field(discriminator="kind")]


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class HeldOut:
    """The validation file of prepared data."""

    kind: Literal["held_out"]
    path: Path
    #: Empty: those that fit its rows, without what one of the models cannot have.
    metrics: tuple[Word, ...] = ()
    #: Beside those, such as the one that a gate asks for.
    also: tuple[Word, ...] = ()
    max_tokens: Positive = 256


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class Named:
    """A suite by the path of its YAML file, by its name in `suites_dir`, or `lm-eval:TASK`."""

    kind: Literal["suite"]
    name: Word
    #: What a recipe calls it, where that is a path relative to the recipe: the report's `source`. None: the name above.
    label: Word | None = None
    #: For `lm-eval:` only: a folder of one's own tasks, and whether prompts are written by the chat template.
    include: Path | None = None
    chat: bool = False


Asked = Annotated[HeldOut | Named, Field(discriminator="kind")]


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class Request:
    """One evaluation, whole: two models, and what to ask them."""

    #: As recipes name it; needed for models that are not endpoints.
    base_model: Word | None
    tuned: Subject
    other: Subject
    suites: Annotated[tuple[Asked, ...], Field(min_length=1)]
    seed: Annotated[int, Field(ge=0)]
    #: Rows of each suite, at most; None: all.
    sample_size: Positive | None = None
    #: Where suites that are named without a path are; None: nowhere.
    suites_dir: Path | None = None
    #: Where built-in bases are kept.
    cache: Path
    #: Who judges; None: nobody.
    judge: Served | None = None


_ADAPTER = TypeAdapter(Request)


def read(path: Path) -> Request:
    """The request in `path`. Raises EvaluationError (E856) that names every field at fault."""
    try:
        return _checked(_ADAPTER.validate_json(path.read_bytes()), path)
    except OSError as error:
        what = f"the evaluation's request cannot be read: {error.strerror}"
        raise EvaluationError(Problem(code="E856", what=what, file=str(path))) from error
    except ValidationError as error:
        raise EvaluationError(
            *(
                _malformed(path, fault["msg"], ".".join(str(part) for part in fault["loc"]) or None)
                for fault in error.errors(include_url=False, include_input=False)
            )
        ) from error


def _checked(asked: Request, path: Path) -> Request:
    if asked.base_model is None and not (isinstance(asked.tuned, Served) and isinstance(asked.other, Served)):
        raise EvaluationError(_malformed(path, "models that are no endpoints need it", "base_model"))
    return asked


def _malformed(path: Path, said: str, field: str | None) -> Problem:
    return Problem(
        code="E856",
        what=f"the evaluation's request is malformed: {said}",
        why="the evaluation and the part that started it do not agree on what to evaluate",
        fix="start it through `ft`, with the same version of ft on both sides",
        file=str(path),
        field=field,
    )
