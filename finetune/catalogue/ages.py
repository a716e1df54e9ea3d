"""How old what the catalogue says is: a page that was read long ago may say something else by now."""

from collections.abc import Iterator
from datetime import date, timedelta
from typing import Final

from finetune.catalogue.sheets import Model, ProviderSheet, claims
from finetune.catalogue.values import Claim, Source
from finetune.errors import Problem

#: What was read longer ago than this is told as old.
OLD: Final = timedelta(days=90)


def sources(sheet: ProviderSheet, model: Model | None = None) -> dict[str, Source]:
    """The documents behind what is said of the provider, and of this model of it; no other model's. By their keys."""
    used = {claim.source for claim in _claims(sheet, model)}
    return {key: source for key, source in sheet.sources.items() if key in used}


def old(source: Source, today: date) -> bool:
    """Whether it was read too long ago. A file of this project is as new as the project, whenever it was read."""
    return ":" in source.url and today - source.read > OLD


def aged(sheet: ProviderSheet, model: Model | None, today: date) -> Problem | None:
    """A warning that names the oldest page behind a target, where it is old; None: all were read lately."""
    found = [each for each in sources(sheet, model).values() if old(each, today)]
    if not found:
        return None
    first = min(found, key=lambda each: each.read)
    more = f", and {len(found) - 1} more" if len(found) > 1 else ""
    name = f"{sheet.title} {model.name}" if model else sheet.title
    return Problem(
        code="E320",
        what=f"what is known of {name} was read {(today - first.read).days} days ago",
        why=f'prices, dates and limits may have changed since: "{first.title}" was read on {first.read}{more}',
        fix=f"look at {first.url}; what has changed goes into a sheet of your own (FT_CATALOGUE, docs/catalogue.md)",
        level="warning",
        field="provider",
    )


def _claims(sheet: ProviderSheet, model: Model | None) -> Iterator[Claim]:
    yield from (claim for place, claim in claims(sheet) if not place.startswith("models["))
    if model is not None:
        yield from (claim for _, claim in claims(model))
