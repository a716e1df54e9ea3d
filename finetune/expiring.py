"""What ends by the catalogue's dates: tuned models that will not answer, jobs and recipes whose target closes."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final, Literal

from finetune.catalogue import Catalogue
from finetune.catalogue.eligible import instead
from finetune.catalogue.entries import first
from finetune.jobs import Job
from finetune.versions import ModelStatus, ModelVersion

What = Literal["serve_until", "create_until", "retired"]
_CREATE: Final[tuple[What, ...]] = ("create_until", "retired")
_SERVE: Final[tuple[What, ...]] = ("serve_until",)
_COMPARE: Final = "`ft plan RECIPE --set provider=auto` compares what there is instead"
_WAYS: Final = {
    "version": "`ft retarget NAME@vN --to TARGET` trains its rows elsewhere, behind the same gate",
    "job": _COMPARE,
    "recipe": _COMPARE,
}


@dataclass(frozen=True, kw_only=True)
class Ending:
    """Something of ours, and the day that ends it."""

    #: `version`: a tuned model. `job`: one that has not ended. `recipe`: what versions of this name are trained by.
    kind: Literal["version", "job", "recipe"]
    #: `bot@v3`, the job's id, or the name.
    ref: str
    provider: str
    base_model: str
    what: What
    #: In UTC; what ends, ends when the day begins.
    day: date
    #: The source promises only that it is not earlier.
    at_least: bool
    #: Till then; 0 or less: it has ended.
    days: int
    #: URL of the page that says so.
    source: str
    #: What to do.
    fix: str


@dataclass(frozen=True, kw_only=True)
class Holdings:
    """What there is of ours."""

    versions: Iterable[ModelVersion]
    #: Those that have not ended.
    jobs: Iterable[Job]


def expiring(catalogue: Catalogue, ours: Holdings, today: date, within: timedelta) -> list[Ending]:
    """What ends within that time from this day (UTC) on, or has ended, sorted by day. Sends nothing."""
    books = _Books(catalogue, today)
    versions = [each for each in ours.versions if each.status is not ModelStatus.RETIRED]
    found: list[Ending] = []
    for version in versions:
        if _answers_there(version):
            found += books.of("version", version.ref, (version.provider, version.base_model), _SERVE)
    for job in ours.jobs:
        found += books.of("job", job.id, (job.provider, job.base_model), _SERVE)
        if job.remote_id is None:
            found += books.of("job", job.id, (job.provider, job.base_model), _CREATE)
    for name, provider, base_model in sorted({(each.name, each.provider, each.base_model) for each in versions}):
        found += books.of("recipe", name, (provider, base_model), _CREATE)
    return sorted(
        (each for each in found if each.days <= within.days), key=lambda each: (each.day, each.kind, each.ref)
    )


def undated(catalogue: Catalogue, versions: Iterable[ModelVersion]) -> list[str]:
    """Versions that answer at their provider only, where the catalogue has no day that ends them."""
    books = _Books(catalogue, date.min)
    return [
        each.ref
        for each in versions
        if _answers_there(each) and not list(books.of("version", each.ref, (each.provider, each.base_model), _SERVE))
    ]


def _answers_there(version: ModelVersion) -> bool:
    """Weights that are ours answer wherever we have them served; what is retired answers nobody, and nobody will miss
    it.
    """
    mine = "path" in version.artifact or "uri" in version.artifact
    return version.status is not ModelStatus.RETIRED and not mine


class _Books:
    """The catalogue on a day."""

    def __init__(self, catalogue: Catalogue, today: date) -> None:
        self._catalogue, self._today = catalogue, today

    def of(
        self, kind: Literal["version", "job", "recipe"], ref: str, target: tuple[str, str], names: tuple[What, ...]
    ) -> Iterator[Ending]:
        """The first of these ends; nothing where the catalogue has none."""
        provider, base_model = target
        sheet = self._catalogue.provider(provider)
        if sheet is None:
            return
        model = sheet.model(base_model)
        days = [(name, found[1]) for name in names if (found := first(sheet, model, name)) is not None]
        if not days:
            return
        name, day = min(days, key=lambda each: each[1].value)
        yield Ending(
            kind=kind,
            ref=ref,
            provider=provider,
            base_model=base_model,
            what=name,
            day=day.value,
            at_least=day.at_least,
            days=(day.value - self._today).days,
            source=sheet.sources[day.source].url,
            fix=f"{_WAYS[kind]}; or {instead(sheet, model)}",
        )
