"""What of ours ends, when, and what is told to do about it."""

from datetime import UTC, date, datetime, timedelta

import pytest

from finetune.catalogue import Catalogue
from finetune.catalogue.sheets import ProviderSheet
from finetune.expiring import Ending, Holdings, expiring, undated
from finetune.jobs import Job, JobState
from finetune.versions import ModelStatus, ModelVersion

TODAY = date(2026, 11, 29)
AT = datetime(2026, 11, 1, tzinfo=UTC)
PAGES = {"page": {"url": "https://example.org/page", "title": "A page", "read": "2026-11-24"}}


def day(value: str, **more: object) -> dict[str, object]:
    return {"value": value, "source": "page", **more}


def catalogue(dates: dict[str, object], of_model: dict[str, object] | None = None) -> Catalogue:
    model = {"name": "m", "dates": of_model or {}, "stands_in": [{"value": "maker/open", "source": "page"}]}
    value = {"version": 1, "provider": "host", "title": "Host", "sources": PAGES, "dates": dates, "models": [model]}
    return Catalogue({"host": ProviderSheet.model_validate(value)})


def version(number: int = 1, provider: str = "host", base: str = "m", **more: object) -> ModelVersion:
    known = {"job_id": "ft_1", "artifact": {"model": "ft:m"}, "lineage": {}, "created_at": AT, **more}
    return ModelVersion(name="bot", version=number, provider=provider, base_model=base, **known)  # type: ignore[arg-type]


def job(**more: object) -> Job:
    known = {"name": "new", "owner": "me", "recipe": {}, "fingerprint": "f", "data": {}, "state": JobState.QUEUED}
    target = {"id": "ft_2", "provider": "host", "base_model": "m", "created_at": AT, "changed_at": AT}
    return Job(**{**known, **target, **more})  # type: ignore[arg-type]


def found(books: Catalogue, *ours: ModelVersion | Job, within: int = 90) -> list[Ending]:
    versions = [each for each in ours if isinstance(each, ModelVersion)]
    jobs = [each for each in ours if isinstance(each, Job)]
    return expiring(books, Holdings(versions=versions, jobs=jobs), TODAY, timedelta(days=within))


def told(*args: object, **more: int) -> list[tuple[str, str, str, int]]:
    return [(each.kind, each.ref, each.what, each.days) for each in found(*args, **more)]  # type: ignore[arg-type]


def test_a_tuned_model_ends_with_its_provider_or_base_and_its_recipe_with_the_last_job() -> None:
    books = catalogue({"create_until": day("2027-01-06")}, {"serve_until": day("2027-01-14")})
    assert told(books, version()) == [("recipe", "bot", "create_until", 38), ("version", "bot@v1", "serve_until", 46)]
    (one, two) = found(books, version())
    assert (one.source, str(one.day), one.at_least) == ("https://example.org/page", "2027-01-06", False)
    assert "ft plan" in one.fix
    assert "ft retarget" in two.fix
    assert "base_model: maker/open" in two.fix


def test_the_earlier_of_two_days_counts() -> None:
    books = catalogue({"serve_until": day("2027-02-01")}, {"serve_until": day("2027-01-01")})
    assert told(books, version()) == [("version", "bot@v1", "serve_until", 33)]
    books = catalogue({"create_until": day("2027-02-01"), "retired": day("2026-12-01")})
    assert told(books, version()) == [("recipe", "bot", "retired", 2)]


@pytest.mark.parametrize(("within", "count"), [(37, 0), (38, 1), (39, 1), (0, 0)])
def test_only_what_ends_within_that_time(within: int, count: int) -> None:
    assert len(told(catalogue({"serve_until": day("2027-01-06")}), version(), within=within)) == count


@pytest.mark.parametrize("within", [0, 90])
def test_what_has_ended_is_told_too(within: int) -> None:
    books = catalogue({"serve_until": day("2026-08-21"), "retired": day("2026-08-21")})
    assert told(books, version(), within=within) == [
        ("recipe", "bot", "retired", -100),
        ("version", "bot@v1", "serve_until", -100),
    ]


def test_what_is_promised_only_not_to_be_earlier_is_said_so() -> None:
    (one,) = found(catalogue({"serve_until": day("2027-01-06", at_least=True)}), version())
    assert one.at_least


def test_retired_versions_and_own_weights_do_not_end() -> None:
    books = catalogue({"serve_until": day("2027-01-06"), "create_until": day("2027-01-06")})
    assert told(books, version(status=ModelStatus.RETIRED)) == []
    assert told(books, version(provider="local", base="maker/open")) == []
    here, bucket = version(artifact={"path": "/a", "digest": "d"}), version(2, artifact={"uri": "s3://b/a"})
    assert told(books, here, bucket) == [("recipe", "bot", "create_until", 38)]


def test_a_recipe_is_told_once_for_each_target() -> None:
    books = catalogue({"create_until": day("2027-01-06")})
    assert [each.ref for each in found(books, version(1), version(2))] == ["bot"]
    assert [each.base_model for each in found(books, version(1), version(2, base="other"))] == ["m", "other"]


def test_a_job_that_the_provider_has_not_yet_may_come_too_late() -> None:
    books = catalogue({"create_until": day("2027-01-06"), "serve_until": day("2027-01-14")})
    assert told(books, job()) == [("job", "ft_2", "create_until", 38), ("job", "ft_2", "serve_until", 46)]
    assert told(books, job(remote_id="r", state=JobState.RUNNING)) == [("job", "ft_2", "serve_until", 46)]


def test_of_what_the_catalogue_has_no_day_is_told_apart() -> None:
    here, gone = version(artifact={"path": "/a", "digest": "d"}), version(status=ModelStatus.RETIRED)
    ours = [version(1), version(2, provider="unknown"), here, gone]
    assert undated(catalogue({"create_until": day("2027-01-06")}), ours) == ["bot@v1", "bot@v2"]
    assert undated(catalogue({"serve_until": day("2027-01-06")}), ours) == ["bot@v2"]


def test_it_is_sorted_by_day() -> None:
    books = catalogue({"create_until": day("2027-01-20"), "serve_until": day("2027-01-10")})
    days = [each.days for each in found(books, version(2), job(), version(1))]
    assert days == sorted(days)
    assert [each.ref for each in found(books, version(2), version(1))][:2] == ["bot@v1", "bot@v2"]
