"""Who takes a job on which day, by the sheets that ship; and by one that says each thing once."""

from datetime import date, timedelta

import pytest

from finetune.catalogue import load
from finetune.catalogue.eligible import NEAR, against
from finetune.catalogue.sheets import ProviderSheet

TODAY = date(2026, 11, 24)
SOURCES = {"page": {"url": "https://example.org/page", "title": "A page", "read": "2026-11-24"}}


def day(value: str, **more: object) -> dict[str, object]:
    return {"value": value, "source": "page", **more}


def sheet(**more: object) -> ProviderSheet:
    value = {
        "version": 1,
        "provider": "host",
        "title": "Host",
        "sources": SOURCES,
        "data": {"sft": {"format": "openai"}},
        "models": [{"name": "m", "methods": {"sft": {"value": True, "source": "page"}}}],
        **more,
    }
    return ProviderSheet.model_validate(value)


def codes(found: ProviderSheet, on: date = TODAY, method: str = "sft", model: str = "m") -> list[tuple[str, str]]:
    return [(each.code, each.level) for each in against(found, method, model, on)]  # type: ignore[arg-type]


def test_nothing_stands_against_an_open_model() -> None:
    assert codes(sheet()) == []


def test_an_unknown_model_and_a_method_that_it_lacks_are_refused() -> None:
    assert codes(sheet(), model="other") == [("E306", "error")]
    assert codes(sheet(), method="dpo") == [("E308", "error")]
    assert codes(sheet(models=[]), model="whatever") == []


YES, NO = {"value": True, "source": "page"}, {"value": False, "source": "page", "note": "by hand only"}
BOTH = {"sft": {"format": "openai"}, "dpo": {"format": "openai-dpo"}}


@pytest.mark.parametrize(
    ("methods", "data", "what", "why", "fix", "field"),
    [
        (
            {"sft": YES, "dpo": NO},
            BOTH,
            "Host does not train m by dpo",
            "the source is https://example.org/page (by hand only); it trains it by sft",
            "`method: sft`, or another model",
            "method",
        ),
        (
            {"sft": NO, "dpo": NO},
            BOTH,
            "Host does not train m by dpo",
            "the source is https://example.org/page (by hand only); nor by sft",
            "choose another model",
            "base_model",
        ),
        (
            {"sft": YES},
            {"sft": {"format": "openai"}},
            "nothing is published of training m by dpo at Host",
            "the catalogue has no layout of rows for dpo there; it trains it by sft",
            "`method: sft`, or another model",
            "method",
        ),
        (
            {},
            {"sft": {"format": "openai"}},
            "nothing is published of training m by dpo at Host",
            "the catalogue has no layout of rows for dpo there",
            "choose another model",
            "base_model",
        ),
    ],
)
def test_that_a_method_is_not_trained_is_not_that_nobody_publishes_it(
    methods: dict[str, object], data: dict[str, object], what: str, why: str, fix: str, field: str
) -> None:
    (found,) = against(sheet(data=data, models=[{"name": "m", "methods": methods}]), "dpo", "m", TODAY)
    assert (found.what, found.why, found.field) == (what, why, field)
    assert found.fix == f"{fix}; `ft catalogue show host` lists those that the catalogue knows there"


def test_a_method_of_which_nothing_is_said_is_not_refused_where_its_rows_are_known() -> None:
    assert codes(sheet(data=BOTH, models=[{"name": "m", "methods": {"sft": YES}}]), method="dpo") == []


@pytest.mark.parametrize("key", ["retired", "create_until", "serve_until"])
@pytest.mark.parametrize("where", ["provider", "model"])
def test_an_end_refuses_from_its_day_on(key: str, where: str) -> None:
    dates = {key: day("2027-01-06")}
    made = (
        sheet(dates=dates)
        if where == "provider"
        else sheet(models=[{"name": "m", "methods": {"sft": {"value": True, "source": "page"}}, "dates": dates}])
    )
    assert [code for code, level in codes(made, date(2027, 1, 5)) if level == "error"] == []
    assert codes(made, date(2027, 1, 6)) == [("E307", "error")]


def test_an_end_that_is_only_promised_not_to_be_earlier_refuses_nobody() -> None:
    made = sheet(dates={"create_until": day("2026-01-01", at_least=True)})
    assert codes(made) == [("E309", "warning")]


@pytest.mark.parametrize(
    ("key", "on", "says", "when"),
    [
        ("create_until", 1, "Host takes jobs until 2027-01-06 at least", "that is in 1 days at least"),
        (
            "create_until",
            0,
            "Host may take no more jobs: it has promised to until 2027-01-06 only",
            "that day has come",
        ),
        ("serve_until", 1, "models tuned from Host answer until 2027-01-06 at least", "that is in 1 days at least"),
        ("serve_until", -1, "models tuned from Host may not answer any more", "that day has come"),
    ],
)
def test_a_day_that_is_only_promised_is_told_so(key: str, on: int, says: str, when: str) -> None:
    made = sheet(dates={key: day("2027-01-06", at_least=True)})
    (found,) = against(made, "sft", "m", date(2027, 1, 6) - timedelta(days=on))
    assert found.what.startswith(says)
    assert found.why.startswith(when)


def test_a_day_that_is_certain_is_told_so() -> None:
    made = sheet(dates={"create_until": day("2027-01-06"), "serve_until": day("2027-01-08")})
    told = [each.what for each in against(made, "sft", "m", date(2027, 1, 5))]
    assert told == ["Host takes no more jobs from 2027-01-06 on", "models tuned from Host answer until 2027-01-08"]


@pytest.mark.parametrize(("left", "warned"), [(NEAR, True), (NEAR + timedelta(days=1), False)])
def test_what_ends_soon_is_warned_about(left: timedelta, warned: bool) -> None:
    made = sheet(dates={"create_until": day((TODAY + left).isoformat())})
    assert codes(made) == ([("E309", "warning")] if warned else [])


def test_a_refusal_names_open_weights_of_the_model_before_those_of_the_maker() -> None:
    made = sheet(
        dates={"retired": day("2026-01-01")},
        stands_in=[{"value": "maker/other", "source": "page"}],
        models=[
            {
                "name": "m",
                "open_weights": {"value": "maker/m", "source": "page"},
                "stands_in": [{"value": "maker/near", "source": "page"}],
            }
        ],
    )
    (found,) = against(made, "sft", "m", TODAY)
    places = [found.fix.index(name) for name in ("maker/m`", "maker/near`", "maker/other`")]
    assert places == sorted(places)
    assert "https://example.org/page" in found.why


@pytest.mark.parametrize(
    ("provider", "model", "on", "expected"),
    [
        ("openai", "gpt-4o-mini", TODAY, {("E309", "warning")}),
        ("openai", "gpt-4o-mini", date(2026, 5, 6), set()),
        ("openai", "gpt-4o-mini", date(2027, 1, 6), {("E307", "error")}),
        ("openai", "gpt-4.1-nano", TODAY, {("E307", "error")}),
        ("mistral", "open-mistral-7b", TODAY, {("E307", "error")}),
        ("vertex", "gemini-2.5-flash", TODAY, {("E307", "error")}),
        ("vertex", "gemini-3.5-flash", TODAY, set()),
    ],
)
def test_the_sheets_that_ship_know_their_dates(
    provider: str, model: str, on: date, expected: set[tuple[str, str]]
) -> None:
    found = load().provider(provider)
    assert found is not None
    assert set(codes(found, on, model=model)) == expected
