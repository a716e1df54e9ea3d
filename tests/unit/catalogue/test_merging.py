"""A sheet of one's own over the one that ships: what wins, what stays, and where a fault is told."""

import re
from decimal import Decimal
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune.catalogue import ProviderSheet, load
from finetune.catalogue.costs import training
from finetune.catalogue.reading import SHIPPED
from finetune.errors import Problem, StateError

SHEET = """\
version: 1
provider: acme
title: Acme
sources:
  guide: {url: https://docs.acme.example/guide, title: Guide, read: 2026-11-24}
  prices: {url: https://acme.example/prices, title: Prices, read: 2026-11-24}
dates:
  create_until: {value: 2027-06-01, source: guide, note: for everybody}
data:
  all: {min_rows: {value: 10, source: guide}, max_rows: {value: 100, source: guide, note: lines}}
  sft: {format: openai}
prices:
  - {usd: "3.00", per: million training tokens, method: sft, source: prices}
  - {usd: "9.00", per: million training tokens, method: dpo, source: prices}
stands_in:
  - {value: acme/open, source: guide}
models:
  - name: large-2026
    aliases: [large]
    context: {value: 8000, source: guide}
    methods: {sft: {value: true, source: guide}}
  - name: small-*
"""
MINE = "provider: acme\nsources: {mine: {url: https://wiki.example/deal, title: Our contract, read: 2026-11-29}}\n"


def sheet(tmp_path: Path, own: str, provider: str = "acme") -> ProviderSheet:
    found = load(*places(tmp_path, own)).provider(provider)
    assert found is not None
    return found


def places(tmp_path: Path, *own: str) -> tuple[Path, Path]:
    shipped, mine = tmp_path / "shipped", tmp_path / "mine"
    for folder in (shipped, mine):
        folder.mkdir(exist_ok=True)
    (shipped / "acme.yaml").write_text(SHEET)
    for number, text in enumerate(own):
        (mine / f"own-{number}.yaml").write_text(text)
    return shipped, mine


def faults(tmp_path: Path, *own: str) -> tuple[Problem, ...]:
    with pytest.raises(StateError) as caught:
        load(*places(tmp_path, *own))
    assert all(Path(each.file or "").parent.name == "mine" for each in caught.value.problems)
    return caught.value.problems


def test_what_is_not_said_stays_and_nothing_said_changes_nothing(tmp_path: Path) -> None:
    shipped, _ = places(tmp_path)
    assert sheet(tmp_path, "provider: acme\n") == load(shipped).provider("acme")


def test_mappings_are_merged_and_a_claim_is_replaced_whole(tmp_path: Path) -> None:
    found = sheet(tmp_path, MINE + "data: {all: {max_rows: {value: 500, source: mine}}}\ntitle: Acme for us\n")
    assert found.title == "Acme for us"
    assert found.data.all.max_rows is not None
    assert (found.data.all.max_rows.value, found.data.all.max_rows.source) == (500, "mine")
    # Its note was about the other value.
    assert found.data.all.max_rows.note is None
    rules = found.rules("sft")
    assert rules is not None
    assert (rules.min_rows, rules.max_rows) == (10, 500)
    assert rules.sources["max_rows"] == "https://wiki.example/deal"
    assert set(found.sources) == {"guide", "prices", "mine"}


def test_a_claim_may_name_a_source_that_ships(tmp_path: Path) -> None:
    found = sheet(tmp_path, "provider: acme\ndates: {create_until: {value: 2027-01-01, source: guide}}\n")
    assert found.dates.create_until is not None
    assert (str(found.dates.create_until.value), found.dates.create_until.note) == ("2027-01-01", None)


def test_a_price_for_the_same_thing_replaces_and_others_come_first(tmp_path: Path) -> None:
    own = (
        'prices:\n  - {usd: "2.00", per: million training tokens, method: sft, source: mine}\n'
        '  - {usd: "4.00", per: "job, at least", source: mine}\n'
    )
    found = sheet(tmp_path, MINE + own)
    told = [(str(each.usd), each.per, each.method) for each in found.prices]
    assert told == [
        ("2.00", "million training tokens", "sft"),
        ("4.00", "job, at least", None),
        ("9.00", "million training tokens", "dpo"),
    ]
    cost = training(found, "sft", "large", tokens=(10_000_000, 10_000_000), epochs=1)
    assert (cost.high_usd, cost.source) == (Decimal("20.00"), "https://wiki.example/deal")


def test_a_price_for_more_goes_before_one_for_less(tmp_path: Path) -> None:
    found = sheet(tmp_path, MINE + 'prices: [{usd: "1", per: million training tokens, source: mine}]\n')
    cost = training(found, "dpo", "large", tokens=(1_000_000, 1_000_000), epochs=1)
    assert (cost.high_usd, len(found.prices)) == (Decimal("1.00"), 3)


@pytest.mark.parametrize("name", ["large-2026", "large"])
def test_a_model_is_merged_by_its_name_or_an_alias_of_it(tmp_path: Path, name: str) -> None:
    own = f"models: [{{name: {name}, aliases: [big], context: {{value: 16000, source: mine}}}}]\n"
    found = sheet(tmp_path, MINE + own)
    assert [each.name for each in found.models] == ["large-2026", "small-*"]
    model = found.model("big")
    assert model is not None
    assert model.context is not None
    assert model.context.value == 16_000
    assert model.methods.sft is not None
    assert (model.name, set(model.aliases)) == ("large-2026", {"big", "large"})


def test_new_models_and_lists_are_added(tmp_path: Path) -> None:
    own = (
        "stands_in: [{value: ours/open, source: mine}]\nserved: [{at: acme, source: mine}]\n"
        "models: [{name: huge}, {name: small-7}]\n"
    )
    found = sheet(tmp_path, MINE + own)
    assert [each.name for each in found.models] == ["large-2026", "small-*", "huge", "small-7"]
    assert [each.value for each in found.stands_in] == ["ours/open", "acme/open"]
    assert [each.at for each in found.served] == ["acme"]
    assert found.model("small-7") is found.models[3]


def test_a_provider_without_a_sheet_gets_one_and_a_file_may_be_called_anything(tmp_path: Path) -> None:
    shipped, mine = places(tmp_path)
    path = mine / "any name.yml"
    path.write_text(SHEET.replace("provider: acme", "provider: bravo"))
    found = load(shipped, path)
    assert list(found.sheets) == ["acme", "bravo"]
    assert [each.name for each in found.sheets["bravo"].models] == ["large-2026", "small-*"]


def test_a_new_one_must_be_whole(tmp_path: Path) -> None:
    (found,) = faults(tmp_path, "provider: bravo\ntitle: Bravo\n")
    assert (found.code, found.field) == ("E391", "provider")
    assert found.what.endswith("lacks version, sources")
    assert "version, sources" in found.fix


@pytest.mark.parametrize(
    ("text", "code", "line", "field", "says"),
    [
        ("colour: red\n", "E391", 3, "colour", "not known"),
        ("data: {all: {max_rows: {value: 5}}}\n", "E393", 3, "data.all.max_rows", "no source"),
        ("data:\n  all:\n    max_rows: 5\n", "E393", 5, "data.all.max_rows", "no source"),
        ("data:\n  all:\n    max_rows: {value: x, source: mine}\n", "E392", 5, "data.all.max_rows.value", "number"),
        ("dates: {serve_until: {value: 2027-01-01, source: nil}}\n", "E393", 3, "dates.serve_until.source", "no sour"),
        # The places are those of one's own file, wherever they come to stand.
        ("models:\n  - name: new\n    colour: red\n", "E391", 5, "models[0].colour", "models[0].colour"),
        ("models:\n  - name: small-*\n    colour: red\n", "E391", 5, "models[0].colour", "models[0].colour"),
        ('prices:\n  - {usd: "x", per: hour of hosting, source: mine}\n', "E392", 4, "prices[0].usd", "in quotes"),
        ("served:\n  - {at: nowhere, source: mine}\n", "E392", 4, "served[0].at", "no sheet"),
        ("models:\n  - name: a\n  - name: a\n", "E394", 5, "models[1].name", "twice"),
        ("models:\n  - name: large\n  - name: large-2026\n", "E394", 5, "models[1].name", "twice"),
        ("models:\n  - {name: new, aliases: [large]}\n", "E394", 4, "models[0].name", "twice"),
        ("models:\n  - {name: large, aliases: [small-*]}\n", "E394", 4, "models[0].name", "twice"),
        ("title: a\ntitle: b\n", "E394", 3, "title", "twice"),
        ("version: 2\n", "E392", 3, "version", "must be 1"),
        ("title:\n", "E392", 3, "title", "no value"),
        ("models: [\n", "E390", 4, None, "YAML"),
        ("title: !!python/object:os.system {}\n", "E390", 3, None, "YAML"),
    ],
)
def test_a_fault_is_told_at_ones_own_file_line_and_field(
    tmp_path: Path, text: str, code: str, line: int, field: str | None, says: str
) -> None:
    (found,) = faults(tmp_path, MINE + text)
    assert (found.code, found.line, found.field) == (code, line, field)
    assert says in found.what


def test_a_source_key_that_is_taken_by_another_document_is_refused(tmp_path: Path) -> None:
    other = "provider: acme\nsources:\n  guide: {url: https://wiki.example/x, title: X, read: 2026-11-29}\n"
    (found,) = faults(tmp_path, other)
    assert (found.code, found.line, found.field) == ("E394", 3, "sources.guide.url")
    again = "provider: acme\nsources:\n  guide: {url: https://docs.acme.example/guide, title: G, read: 2027-02-01}\n"
    fresh = sheet(tmp_path, again)
    assert str(fresh.sources["guide"].read) == "2027-02-01"


def test_all_faults_of_all_files_are_told_at_once(tmp_path: Path) -> None:
    found = faults(tmp_path, "title: Nameless\n", MINE + "colour: red\n", "provider: acme\n", "provider: [a]\n")
    told = {(Path(each.file or "").name, each.code) for each in found}
    assert told == {("own-0.yaml", "E391"), ("own-1.yaml", "E391"), ("own-2.yaml", "E394"), ("own-3.yaml", "E391")}


def test_a_place_with_nothing_in_it_is_told(tmp_path: Path) -> None:
    shipped, mine = places(tmp_path)
    for place in (mine, mine / "nothing.yaml"):
        with pytest.raises(StateError) as caught:
            load(shipped, place)
        assert [each.code for each in caught.value.problems] == ["E390"]


def test_anchors_that_go_on_for_ever_end(tmp_path: Path) -> None:
    own = "prices:\n  - &a {usd: '1', per: hour of hosting, source: mine, parameters: *a}\n"
    assert faults(tmp_path, MINE + own)


def test_the_sheets_that_ship_laid_over_themselves_are_themselves() -> None:
    assert load(own=SHIPPED) == load()


_KEYS = st.sampled_from(["provider", "sources", "data", "all", "models", "prices", "name", "value", "source", "dates"])
_VALUES = st.recursive(
    st.sampled_from(["acme", "guide", "large", "x", "1", "2027-01-01"]),
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(_KEYS, inside, max_size=3),
    max_leaves=12,
)


@settings(max_examples=60, deadline=None)
@given(value=st.dictionaries(_KEYS, _VALUES, max_size=5))
def test_whatever_is_laid_over_it_is_merged_or_told_at_a_line(tmp_path_factory, value) -> None:  # type: ignore[no-untyped-def]
    folder = tmp_path_factory.mktemp("fuzz")
    text = yaml.safe_dump({"provider": "acme", **value})
    try:
        load(*places(folder, text))
    except StateError as error:
        for each in error.problems:
            assert re.search(r"mine/own-0\.yaml$", each.file or "")
            assert each.line is None or each.line <= text.count("\n") + 1


def test_a_sheet_without_another_below_it_says_what_it_lacks_and_whose_it_may_be(tmp_path: Path) -> None:
    lacking, wrong = faults(tmp_path, "provider: acmee\nversion: 1\ncolour: red\n")
    assert (lacking.code, lacking.line, lacking.field, lacking.value) == ("E391", 1, "provider", "acmee")
    assert lacking.what.endswith("ships with ft, and this one lacks title, sources")
    assert lacking.fix.startswith("did you mean acme?")
    assert (wrong.field, wrong.line) == ("colour", 3)
    (other,) = faults(tmp_path, "provider: quite-another\n" + MINE.partition("\n")[2])
    assert other.what.endswith("lacks version, title")
    assert "did you mean" not in other.fix
    assert "version, title" in other.fix


def test_a_whole_sheet_is_a_provider_however_near_its_name(tmp_path: Path) -> None:
    assert sheet(tmp_path, SHEET.replace("provider: acme", "provider: acmee"), "acmee").title == "Acme"
