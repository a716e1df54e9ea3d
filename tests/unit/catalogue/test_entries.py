"""What is gathered of a model at a target, and whether it was read too long ago."""

from datetime import date, timedelta

import pytest

from finetune.catalogue import Catalogue, load
from finetune.catalogue.ages import OLD, aged, sources
from finetune.catalogue.entries import Entry, entries
from finetune.catalogue.sheets import ProviderSheet
from finetune.targets import called

READ = date(2026, 11, 24)
PAGES = {
    "page": {"url": "https://example.org/page", "title": "A page", "read": "2026-11-24"},
    "late": {"url": "https://example.org/late", "title": "A later page", "read": "2027-02-01"},
    "code": {"url": "finetune/training/examples.py", "title": "Ours", "read": "2020-01-01"},
    "unused": {"url": "https://example.org/unused", "title": "Nobody's", "read": "2020-01-01"},
}
MODELS = [
    {
        "name": "m",
        "aliases": ["m-latest"],
        "methods": {"sft": {"value": True, "source": "late"}, "dpo": {"value": False, "source": "late"}},
        "parameters": {"value": "8B", "source": "late"},
        "open_weights": {"value": "maker/m", "source": "late"},
        "prices": [{"usd": "7", "per": "million output tokens", "source": "late"}],
        "dates": {"create_until": {"value": "2027-01-01", "source": "late"}},
    },
    {"name": "n", "context": {"value": 5, "source": "page"}},
]
PRICES = [
    {"usd": str(usd), "per": "million training tokens", "source": "late", **({"parameters": span} if span else {})}
    for usd, span in ((1, {"up_to": "16B"}), (2, {"above": "16B"}), (3, None))
]


def sheet(provider: str = "host", **more: object) -> ProviderSheet:
    value = {
        "version": 1,
        "provider": provider,
        "title": provider.title(),
        "sources": PAGES,
        "data": {"sft": {"format": "openai", "min_rows": {"value": 10, "source": "code"}}},
        "dates": {"create_until": {"value": "2027-05-01", "source": "late"}},
        "prices": PRICES,
        "models": MODELS,
        **more,
    }
    return ProviderSheet.model_validate(value)


def test_only_what_was_read_more_than_90_days_ago_is_old() -> None:
    one, model = sheet(), sheet().model("n")
    assert aged(one, model, READ + OLD) is None
    found = aged(one, model, READ + OLD + timedelta(days=1))
    assert found is not None
    assert (found.code, found.level, found.field) == ("E320", "warning", "provider")
    assert "Host n" in found.what
    assert "91 days ago" in found.what
    assert '"A page" was read on 2026-11-24' in found.why
    assert "https://example.org/page" in found.fix


def test_another_models_pages_and_our_own_files_do_not_count() -> None:
    one = sheet()
    later = READ + timedelta(days=120)
    assert set(sources(one, one.model("m"))) == {"late", "code"}
    assert aged(one, one.model("m"), later) is None
    assert aged(one, None, later) is None
    assert aged(one, one.model("n"), later) is not None


def test_the_oldest_is_named_and_the_others_counted() -> None:
    found = aged(sheet(), sheet().model("n"), date(2028, 1, 1))
    assert found is not None
    assert "and 1 more" in found.why
    assert "2026-11-24" in found.why


def entry(base_model: str, today: date = READ) -> Entry:
    one = sheet()
    return Entry(sheet=one, base_model=base_model, model=one.model(base_model), today=today)


def test_what_is_said_of_a_model() -> None:
    found = entry("m-latest")
    assert found.methods == ("sft",)
    assert [str(each.usd) for each in found.prices] == ["7", "1", "3"]
    assert [(name, str(day.value)) for name, day in found.ends] == [("create_until", "2027-01-01")]
    assert found.limits["sft"].min_rows == 10
    assert set(found.limits) == {"sft"}


def test_a_price_for_a_size_is_no_price_of_a_model_whose_size_nobody_says() -> None:
    assert [str(each.usd) for each in entry("n").prices] == ["3"]


def test_a_provider_has_all_its_prices_and_its_own_dates() -> None:
    found = Entry(sheet=sheet(), today=READ)
    assert [str(each.usd) for each in found.prices] == ["1", "2", "3"]
    assert [str(day.value) for _, day in found.ends] == ["2027-05-01"]
    assert found.methods == ("sft",)


def test_stale_sources_are_marked_each() -> None:
    found = entry("n", READ + timedelta(days=100))
    assert found.stale == ("page",)
    assert entry("n").stale == ()


@pytest.mark.parametrize("name", ["m", "maker/m"])
def test_the_same_weights_are_the_same_model_wherever_they_are(name: str) -> None:
    there = {**MODELS[0], "name": "maker-m-turbo", "aliases": []}
    without = [{"name": "other"}]
    sheets = {
        "host": sheet(),
        "local": sheet("local", models=without, access={"value": "open weights", "source": "code"}),
        "none": sheet("none", models=without),
        "bare": sheet("bare", models=[]),
        "second": sheet("second", models=[there]),
    }
    catalogue = Catalogue(sheets)
    found = list(entries(catalogue, lambda target: called(catalogue, target, name), READ))
    assert {each.sheet.provider: each.base_model for each in found} == {
        "host": "m",
        "local": "maker/m",
        "second": "maker-m-turbo",
    }


def test_a_model_that_no_sheet_has_is_nowhere() -> None:
    catalogue = load()
    assert list(entries(catalogue, lambda target: called(catalogue, target, "nobody/nothing"), READ)) == []
