"""A provider's sheet as its file says it, typed; and what is merged from it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from fnmatch import fnmatchcase
from typing import Annotated, Any, Final, Literal

from pydantic import Field

from finetune.catalogue.rules import DataRules, Layout, Method
from finetune.catalogue.values import (
    Amount,
    Bytes,
    Claim,
    Count,
    Day,
    Dollars,
    Flag,
    Key,
    Methods,
    Name,
    Parameters,
    Pattern,
    Roles,
    Section,
    Source,
    Text,
    Version,
)

#: Names of the limits, in the order of DataRules.
LIMITS: Final = tuple(each.name for each in fields(DataRules) if each.name not in ("target", "format", "sources"))


class Limits(Section):
    """Data limits: the fields of DataRules, each with its source."""

    min_rows: Count | None = None
    max_rows: Count | None = None
    min_rows_total: Count | None = None
    max_rows_total: Count | None = None
    max_media_rows: Count | None = None
    max_validation_rows: Count | None = None
    max_file_bytes: Bytes | None = None
    max_upload_bytes: Bytes | None = None
    max_validation_bytes: Bytes | None = None
    max_trained_tokens: Count | None = None
    min_messages: Count | None = None
    max_messages: Count | None = None
    max_turns: Count | None = None
    max_answer_messages: Count | None = None
    max_row_tokens: Count | None = None
    max_row_bytes: Bytes | None = None
    max_images: Count | None = None
    max_image_bytes: Bytes | None = None
    roles: Roles | None = None
    system_first: Flag | None = None
    starts_with_user: Flag | None = None
    alternates: Flag | None = None
    ends_with_assistant: Flag | None = None
    tools: Flag | None = None
    parallel_tool_calls: Flag | None = None
    images: Flag | None = None
    audio: Flag | None = None
    video: Flag | None = None
    files: Flag | None = None
    weights: Flag | None = None
    row_weights: Flag | None = None


class MethodData(Limits):
    """The rows of one method: their layout and limits."""

    format: Layout


class ProviderData(Section):
    """What a provider takes. `all` holds for every method; a method without a section is none of the provider's."""

    all: Limits = Limits()
    sft: MethodData | None = None
    dpo: MethodData | None = None

    def of(self, method: Method) -> MethodData | None:
        """The section of this method."""
        return {"sft": self.sft, "dpo": self.dpo}[method]


class ModelMethodData(Limits):
    """The rows of one method for one model."""

    #: None: as the provider's other models take them.
    format: Layout | None = None


class ModelData(Section):
    """Where a model differs from its provider, or says more."""

    all: Limits = Limits()
    sft: ModelMethodData = ModelMethodData()
    dpo: ModelMethodData = ModelMethodData()

    def of(self, method: Method) -> ModelMethodData:
        """The section of this method."""
        return {"sft": self.sft, "dpo": self.dpo}[method]


class Dates(Section):
    """Until when, in UTC. Absent: no end is published."""

    #: From this day on, only who has trained here before can create jobs.
    closed_to_new: Day | None = None
    #: From this day on, only who uses a tuned model can create jobs.
    closed_to_inactive: Day | None = None
    #: From this day on, nobody can create jobs.
    create_until: Day | None = None
    #: From this day on, tuned models do not answer.
    serve_until: Day | None = None
    #: On this day, at the latest, creating jobs was already gone; since when is not published.
    retired: Day | None = None


class Span(Section):
    """Sizes of models that a price is for: above the one, up to and with the other."""

    above: Parameters | None = None
    up_to: Parameters | None = None


class Price(Claim):
    """An amount of US dollars."""

    usd: Dollars
    per: Literal[
        "million training tokens",
        "hour of training",
        "hour of hosting",
        "month of storage",
        "million input tokens",
        "million cached input tokens",
        "million output tokens",
        "job, at least",
    ]
    #: None: for every method.
    method: Method | None = None
    #: None: however it is tuned.
    tuning: Literal["lora", "full"] | None = None
    #: None: whatever the model's size.
    parameters: Span | None = None
    #: The kind of deployment, as the provider names it; None: however it is deployed.
    deployment: Text | None = None


Prices = Annotated[tuple[Price, ...], Field(strict=False)]


StandsIn = Annotated[tuple[Name, ...], Field(strict=False)]


class Access(Claim):
    """How its models can be had."""

    value: Literal["api", "open weights", "both"]


class Way(Claim):
    """What can be done where nothing is tuned: one sentence, and the sheet where it is done."""

    value: Text
    #: A key of the catalogue (`bedrock`, `local`); None: elsewhere.
    at: Key | None = None


class Served(Claim):
    """Where what was tuned can answer: a key of the catalogue, its own included."""

    at: Key


class Model(Section):
    """A base model, or a family of them (`*` in the name)."""

    name: Pattern
    aliases: Annotated[tuple[Pattern, ...], Field(strict=False)] = ()
    methods: Methods = Methods()
    #: Tokens that the tuned model can read and write in one request.
    context: Count | None = None
    parameters: Amount | None = None
    #: The same weights on the Hugging Face hub.
    open_weights: Name | None = None
    #: Open weights of the same family there, which can be trained in its place.
    stands_in: StandsIn = ()
    data: ModelData = ModelData()
    dates: Dates = Dates()
    prices: Prices = ()

    def matches(self, base_model: str) -> int | None:
        """How well a name or alias fits: None not at all, else more for more that is said in letters."""
        found = [len(each) if "*" in each else 1000 for each in (self.name, *self.aliases) if _fits(base_model, each)]
        return max(found, default=None)


class ProviderSheet(Section):
    """What one provider can take, costs, and until when."""

    version: Version
    provider: Key
    title: Text
    #: `trainer`: models are tuned there. `maker`: of models. `host`: runs models of others. `server`: runs weights on
    #: own machines. `gateway`: passes calls on.
    kind: Literal["trainer", "maker", "host", "server", "gateway"] = "trainer"
    sources: dict[Key, Source]
    access: Access | None = None
    #: Whether anybody can have a model tuned there; None: the models say it.
    tunes: Flag | None = None
    #: The ways that there are in place of tuning there.
    ways: Annotated[tuple[Way, ...], Field(strict=False)] = ()
    served: Annotated[tuple[Served, ...], Field(strict=False)] = ()
    #: Regions of the world where the data can be kept: `eu`, `us`.
    regions: StandsIn = ()
    dates: Dates = Dates()
    data: ProviderData = ProviderData()
    #: For every model that has no price of its own for the same thing.
    prices: Prices = ()
    #: Open weights by the same maker on the Hugging Face hub, which can be trained in the place of its models.
    stands_in: StandsIn = ()
    models: Annotated[tuple[Model, ...], Field(strict=False)] = ()

    def model(self, base_model: str) -> Model | None:
        """The entry for this name: an exact one before a family, a long family before a short one."""
        found = [(fit, each) for each in self.models if (fit := each.matches(base_model)) is not None]
        return max(found, key=lambda one: one[0])[1] if found else None

    def rules(self, method: Method, base_model: str = "") -> DataRules | None:
        """What this target takes of data; None when the provider does not train by this method.

        A model that the sheet does not name has the provider's limits. Where two sections say the same, a model's
        wins over its provider's, and a method's over the one for all. Whether the model can be trained by the method
        is another question: `Model.methods`.
        """
        at_provider = self.data.of(method)
        if at_provider is None:
            return None
        model = self.model(base_model)
        sections = [self.data.all, at_provider, *([model.data.all, model.data.of(method)] if model else [])]
        merged: dict[str, Any] = {}
        sources: dict[str, str] = {}
        for name, claim in (each for section in sections for each in limits(section)):
            merged[name] = frozenset(claim.value) if isinstance(claim, Roles) else claim.value
            sources[name] = self.sources[claim.source].url
        target = f"{self.title} {base_model}" if model else self.title
        layout = (model.data.of(method).format if model else None) or at_provider.format
        return DataRules(target=target, format=layout, sources=sources, **merged)


@dataclass(frozen=True)
class Catalogue:
    """All sheets by provider. Picklable."""

    sheets: Mapping[str, ProviderSheet]

    def provider(self, name: str) -> ProviderSheet | None:
        """The sheet of this provider; None when there is none."""
        return self.sheets.get(name)


def limits(section: Limits) -> Iterator[tuple[str, Count | Bytes | Flag | Roles]]:
    """The limits that a section sets, by name, in the order of DataRules."""
    for name in LIMITS:
        if (claim := getattr(section, name)) is not None:
            yield name, claim


def claims(section: Section, path: str = "") -> Iterator[tuple[str, Claim]]:
    """Every claim below, with its dotted place (`models[2].prices[0]`)."""
    if isinstance(section, Claim):
        yield path, section
    for name in type(section).model_fields:
        inside = getattr(section, name)
        place = f"{path}.{name}" if path else name
        if isinstance(inside, Section):
            yield from claims(inside, place)
        elif isinstance(inside, tuple):
            for position, each in enumerate(inside):
                if isinstance(each, Section):
                    yield from claims(each, f"{place}[{position}]")


def _fits(base_model: str, pattern: str) -> bool:
    return base_model == pattern or ("*" in pattern and fnmatchcase(base_model, pattern))
