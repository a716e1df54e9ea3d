"""What the catalogue says of a model at a target, gathered: the provider's claims and the model's, with their ages."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from typing import Final

from finetune.catalogue.ages import old, sources
from finetune.catalogue.rules import METHODS, DataRules, Method
from finetune.catalogue.sheets import Catalogue, Limits, Model, Price, ProviderSheet, limits
from finetune.catalogue.values import Claim, Day, Flag, Source

ENDS: Final = ("closed_to_new", "closed_to_inactive", "create_until", "serve_until", "retired")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A provider's sheet, or one model of it."""

    sheet: ProviderSheet
    #: As this target calls it; None: the entry is about the provider.
    base_model: str | None = None
    #: None where the sheet has no entry of its own for it, or `base_model` is None.
    model: Model | None = None
    today: date

    @property
    def methods(self) -> tuple[Method, ...]:
        """By which it is trained, as far as is published."""
        if self.model is None:
            return tuple(each for each in METHODS if self.sheet.data.of(each))
        flags = ((each, self.model.methods.of(each)) for each in METHODS)
        return tuple(each for each, flag in flags if flag is not None and flag.value)

    @property
    def method_claims(self) -> dict[Method, Flag]:
        """What is said of each method of the model, that it is not trained by it too. Empty for a provider."""
        flags = ((each, self.model.methods.of(each)) for each in METHODS) if self.model else ()
        return {each: flag for each, flag in flags if flag is not None}

    @property
    def prices(self) -> tuple[Price, ...]:
        """Those that may hold: the model's own, then the provider's for all or for its size."""
        size = self.model.parameters.value if self.model and self.model.parameters else None
        everybody = [each for each in self.sheet.prices if self.base_model is None or _for_size(each, size)]
        return (*(self.model.prices if self.model else ()), *everybody)

    @property
    def ends(self) -> tuple[tuple[str, Day], ...]:
        """Days by the name of what they end, the provider's and the model's; the earlier of each."""
        return tuple(each for name in ENDS if (each := first(self.sheet, self.model, name)) is not None)

    @property
    def limits(self) -> dict[Method, DataRules]:
        """What is taken of training data, by method; without those by which the model is not trained."""
        found = ((method, self.sheet.rules(method, self.base_model or "")) for method in self._open)
        return {method: rules for method, rules in found if rules is not None}

    @property
    def noted_limits(self) -> tuple[tuple[str, Claim], ...]:
        """Limits that have a note, by name; behind the method where not all have it."""
        model = self.model.data if self.model else None
        whose: dict[tuple[str, Claim], list[Method]] = {}
        for method in self.limits:
            sections: list[Limits | None] = [self.sheet.data.all, self.sheet.data.of(method)]
            sections += [model.all, model.of(method)] if model else []
            holds = {name: claim for each in sections if each for name, claim in limits(each)}
            for name, claim in holds.items():
                if claim.note:
                    whose.setdefault((name, claim), []).append(method)
        every = [*self.limits]
        return tuple(
            (name if methods == every else f"{' '.join(methods)} {name}", claim)
            for (name, claim), methods in whose.items()
        )

    @property
    def _open(self) -> list[Method]:
        return [each for each in METHODS if (flag := self.method_claims.get(each)) is None or flag.value]

    @property
    def sources(self) -> dict[str, Source]:
        """The documents behind it."""
        return sources(self.sheet, self.model)

    @property
    def stale(self) -> tuple[str, ...]:
        """Keys of those that were read too long ago."""
        return tuple(key for key, source in self.sources.items() if old(source, self.today))


def first(sheet: ProviderSheet, model: Model | None, name: str) -> tuple[str, Day] | None:
    """The earlier of the provider's and the model's day of this name, with the name; None: neither has one."""
    days = [day for each in (sheet, model) if each is not None and (day := getattr(each.dates, name)) is not None]
    return (name, min(days, key=lambda day: day.value)) if days else None


def entries(catalogue: Catalogue, called: Callable[[str], str | None], today: date) -> Iterator[Entry]:
    """A model, or the same weights, at each target that has them. `called` says how a target calls it.

    Nothing comes where no sheet has it.
    """
    found = []
    for name, sheet in catalogue.sheets.items():
        there = called(name)
        model = sheet.model(there) if there is not None else None
        found.append(Entry(sheet=sheet, base_model=there, model=model, today=today))
    if any(each.model is not None for each in found):
        # A trainer of open weights names few of them in its sheet, and trains all.
        weights = {each.model.open_weights.value for each in found if each.model and each.model.open_weights}
        yield from (each for each in found if each.model is not None or _trained(each, weights))


def _trained(entry: Entry, weights: set[str]) -> bool:
    sheet = entry.sheet
    open_ones = sheet.kind == "trainer" and sheet.access is not None and sheet.access.value == "open weights"
    return open_ones and entry.base_model in weights


def _for_size(price: Price, size: int | None) -> bool:
    span = price.parameters
    if span is None:
        return True
    return size is not None and (span.above or 0) < size <= (span.up_to or size)
