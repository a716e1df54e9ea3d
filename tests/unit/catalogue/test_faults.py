"""What is wrong with a sheet: which file, which line, which field, and what to do. And how limits are merged."""

import pickle
import re
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune.catalogue import DataRules, ProviderSheet, load
from finetune.errors import Problem, StateError

HEAD = """\
version: 1
provider: acme
title: Acme
sources:
  guide: {url: https://docs.acme.example/guide, title: Guide, read: 2026-11-24}
  prices: {url: https://acme.example/prices, title: Prices, read: 2026-11-24}
"""


def problems(folder: Path, text: str | bytes, name: str = "acme.yaml") -> tuple[Problem, ...]:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(StateError) as caught:
        load(folder)
    for problem in caught.value.problems:
        assert problem.file == str(path)
        assert problem.what[0] not in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
        assert not problem.what.endswith(".")
        assert problem.fix
    assert pickle.loads(pickle.dumps(caught.value)).problems == caught.value.problems
    return caught.value.problems


def sheet(folder: Path, text: str) -> ProviderSheet:
    (folder / "acme.yaml").write_text(HEAD + text)
    found = load(folder).provider("acme")
    assert found is not None
    return found


def rules(folder: Path, text: str, method: str = "sft", model: str = "") -> DataRules:
    found = sheet(folder, text).rules(method, model)  # type: ignore[arg-type]
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("text", "code", "line", "field", "says"),
    [
        ("color: red\n", "E391", 7, "color", "is not known"),
        ("data: {sft: {format: openai, min_row: {value: 1, source: guide}}}\n", "E391", 7, "data.sft.min_row", "known"),
        ("data: {sft: {min_rows: {value: 1, source: guide}}}\n", "E391", 7, "data.sft.format", "is missing"),
        ("models:\n  - {aliases: [b]}\n", "E391", 8, "models[0].name", "is missing"),
        (
            "data: {all: {min_rows: {value: ten, source: guide}}}\n",
            "E392",
            7,
            "data.all.min_rows.value",
            "whole number",
        ),
        (
            "data: {all: {min_rows: {value: 1.0, source: guide}}}\n",
            "E392",
            7,
            "data.all.min_rows.value",
            "whole number",
        ),
        (
            "data: {all: {min_rows: {value: true, source: guide}}}\n",
            "E392",
            7,
            "data.all.min_rows.value",
            "whole number",
        ),
        ("data: {all: {min_rows: {value: -1, source: guide}}}\n", "E392", 7, "data.all.min_rows.value", "above 0"),
        ("data: {all: {max_rows: {value: 0, source: guide}}}\n", "E392", 7, "data.all.max_rows.value", "above 0"),
        (
            "data: {all: {max_file_bytes: {value: 5 mb, source: guide}}}\n",
            "E392",
            7,
            "data.all.max_file_bytes.value",
            "MB",
        ),
        (
            "data: {all: {max_file_bytes: {value: -5, source: guide}}}\n",
            "E392",
            7,
            "data.all.max_file_bytes.value",
            "above",
        ),
        ("data: {all: {tools: {value: 1, source: guide}}}\n", "E392", 7, "data.all.tools.value", "true or false"),
        ("data: {all: {roles: {value: [model], source: guide}}}\n", "E392", 7, "data.all.roles.value[0]", "'system'"),
        ("data: {all: {roles: {value: [], source: guide}}}\n", "E392", 7, "data.all.roles.value", "something in it"),
        ("data: {all: {roles: {value: user, source: guide}}}\n", "E392", 7, "data.all.roles.value", "a list"),
        ("data: {sft: {format: alpaca}}\n", "E392", 7, "data.sft.format", "'openai'"),
        ("data: 5\n", "E392", 7, "data", "a mapping"),
        ("data:\n", "E392", 7, "data", "has no value"),
        ("models: {name: a}\n", "E392", 7, "models", "a list"),
        ("models:\n  - {name: a b}\n", "E392", 8, "models[0].name", "without blanks"),
        ("dates: {serve_until: {value: 2027-13-45, source: guide}}\n", "E392", 7, "dates.serve_until.value", "a day"),
        ("dates: {serve_until: {value: 2027, source: guide}}\n", "E392", 7, "dates.serve_until.value", "a day"),
        ("prices:\n  - {usd: 25.00, per: hour of hosting, source: prices}\n", "E392", 8, "prices[0].usd", "in quotes"),
        ('prices:\n  - {usd: "-1", per: hour of hosting, source: prices}\n', "E392", 8, "prices[0].usd", "in quotes"),
        ('prices:\n  - {usd: "1", per: hour, source: prices}\n', "E392", 8, "prices[0].per", "hour of hosting"),
        ('prices:\n  - {usd: "1", per: hour of hosting}\n', "E393", 8, "prices[0]", "has no source"),
        (
            'models:\n  - name: a\n    prices:\n      - usd: "1"\n        per: hour of hosting\n',
            "E393",
            10,
            "models[0].prices[0]",
            "no source",
        ),
        (
            'prices:\n  - {usd: "1", per: hour of hosting, source: a}\n',
            "E393",
            8,
            "prices[0].source",
            "names no source",
        ),
        ("data: {all: {min_rows: {value: 1}}}\n", "E393", 7, "data.all.min_rows", "has no source"),
        ("data:\n  all:\n    min_rows: 1\n", "E393", 9, "data.all.min_rows", "has no source"),
        ("data: {all: {min_rows: {value: 1, source: nothing}}}\n", "E393", 7, "data.all.min_rows.source", "no source"),
        ("dates: {serve_until: 2027-01-06}\n", "E393", 7, "dates.serve_until", "has no source"),
        ("models:\n  - {name: a, methods: {sft: true}}\n", "E393", 8, "models[0].methods.sft", "has no source"),
        ("models:\n  - {name: a}\n  - {name: a}\n", "E394", 9, "models[1].name", "a is there twice"),
        ("models:\n  - {name: a}\n  - {name: b, aliases: [a]}\n", "E394", 9, "models[1].name", "a is there twice"),
        ("title: Again\n", "E394", 3, "title", "is there twice"),
        ("data: {all: {}, all: {}}\n", "E394", 7, "data.all", "is there twice"),
        ("kind: shop\n", "E392", 7, "kind", "'trainer'"),
        ("access: {value: shop, source: guide}\n", "E392", 7, "access.value", "'open weights'"),
        ("access: api\n", "E393", 7, "access", "has no source"),
        ("tunes: {value: no!, source: guide}\n", "E392", 7, "tunes.value", "true or false"),
        ("tunes: {value: false}\n", "E393", 7, "tunes", "has no source"),
        ("ways:\n  - {at: acme, source: guide}\n", "E391", 8, "ways[0].value", "is missing"),
        ('ways:\n  - {value: "", source: guide}\n', "E392", 8, "ways[0].value", "not empty"),
        ("ways:\n  - {value: a, at: acme}\n", "E393", 8, "ways[0]", "has no source"),
        ("ways:\n  - {value: a, at: nobody, source: guide}\n", "E392", 8, "ways[0].at", "no sheet"),
        ("served: {at: acme, source: guide}\n", "E392", 7, "served", "a list"),
        ("served:\n  - {source: guide}\n", "E391", 8, "served[0].at", "is missing"),
        ("served:\n  - {at: acme}\n", "E393", 8, "served[0]", "has no source"),
        ("served:\n  - {at: acme, source: nothing}\n", "E393", 8, "served[0].source", "names no source"),
        (
            "served:\n  - {at: acme, source: guide}\n  - {at: vllm, source: guide}\n",
            "E392",
            9,
            "served[1].at",
            "no sheet",
        ),
        ("regions:\n  - eu\n", "E393", 8, "regions[0]", "has no source"),
        ("1: 2\n", "E390", 1, None, "is not text"),
        ("[a]: 2\n", "E390", 1, None, "is not text"),
        ("data: {\n", "E390", 8, None, "cannot be read as YAML"),
        ("data: *nowhere\n", "E390", 7, None, "cannot be read as YAML"),
        ("data: !!python/object:os.system {}\n", "E390", 7, None, "cannot be read as YAML"),
        ("data: " + "[" * 30 + "]" * 30 + "\n", "E390", 7, None, "nests too deep"),
    ],
)
def test_a_fault_is_told_with_its_file_line_and_field(
    tmp_path: Path, text: str, code: str, line: int, field: str | None, says: str
) -> None:
    (problem,) = problems(tmp_path, HEAD + text)
    assert (problem.code, problem.line, problem.field) == (code, line, field)
    assert says in problem.what
    if field is not None and code != "E390":
        assert f"`{field}`" in problem.what


@pytest.mark.parametrize(
    ("text", "code", "says"),
    [
        (b"", "E390", "says nothing"),
        (b"- a\n", "E390", "not a mapping"),
        (b"\xff\xfe", "E390", "cannot be read"),
        (b"a: \x00", "E390", "cannot be read as YAML"),
        (b"a: 1\n---\nb: 2\n", "E390", "cannot be read as YAML"),
        (b"#" * 1_000_001, "E390", "larger than"),
        (b"[" * 100_000, "E390", "nests too deep"),
        (b"- " * 100_000, "E390", "nests too deep"),
        (b"[{? " * 100_000, "E390", "nests too deep"),
        (b"a: &a [*a]\nversion: 1\n", "E391", "`provider` is missing"),
    ],
)
def test_what_is_no_sheet_at_all_is_told(tmp_path: Path, text: bytes, code: str, says: str) -> None:
    assert [one.what for one in problems(tmp_path, text) if one.code == code and says in one.what]


def test_anchors_that_grow_without_end_are_looked_at_once(tmp_path: Path) -> None:
    levels = [f"k{one}: &a{one} [{', '.join([f'*a{one - 1}'] * 10)}]" for one in range(1, 15)]
    text = "\n".join(["k0: &a0 [x, x]", *levels]) + "\n"
    assert {one.code for one in problems(tmp_path, HEAD + text)} == {"E391"}


@pytest.mark.parametrize("version", ["2", "1.0", "true", '"1"'])
def test_only_version_1_is_read(tmp_path: Path, version: str) -> None:
    (problem,) = problems(tmp_path, HEAD.replace("version: 1", f"version: {version}"))
    assert (problem.code, problem.field, problem.line) == ("E392", "version", 1)


@pytest.mark.parametrize("url", ["ftp://a.b/c", "https://nowhere", "/etc/passwd", "../docs/a.md", "facts"])
def test_a_source_is_a_page_or_a_file_of_ours(tmp_path: Path, url: str) -> None:
    (problem,) = problems(tmp_path, HEAD.replace("https://docs.acme.example/guide", url))
    assert (problem.code, problem.field) == ("E392", "sources.guide.url")


def test_a_source_says_when_it_was_read(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, HEAD.replace(", title: Guide, read: 2026-11-24", ", title: Guide"))
    assert (problem.code, problem.field, problem.line) == ("E391", "sources.guide.read", 5)


def test_a_likely_key_is_suggested(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, HEAD + "data: {all: {max_row: {value: 1, source: guide}}}\n")
    assert problem.fix == "did you mean `max_rows`?"


def test_a_likely_word_is_suggested(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, HEAD + "data: {sft: {format: open-ai}}\n")
    assert (problem.value, problem.fix) == ("open-ai", "did you mean `openai`?")


def test_a_comma_in_a_note_is_seen(tmp_path: Path) -> None:
    text = "data: {all: {tools: {value: true, source: guide, note: yes, if asked}}}\n"
    found = problems(tmp_path, HEAD + text)
    assert [one.field for one in found] == ["data.all.tools.if asked"]
    assert "quotes" in found[0].fix


def test_a_file_is_named_after_its_provider(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, HEAD, "other.yaml")
    assert (problem.code, problem.field, problem.value) == ("E394", "provider", "acme")
    assert problem.fix == "rename the file to acme.yaml"


def test_the_faults_of_all_files_are_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "acme.yaml").write_text(HEAD + "a: 1\nb: 2\n")
    (tmp_path / "other.yaml").write_text(HEAD)
    (tmp_path / "third.yaml").write_text("- \n")
    with pytest.raises(StateError) as caught:
        load(tmp_path)
    assert [problem.field for problem in caught.value.problems] == ["a", "b", "provider", None]


@pytest.mark.parametrize("name", ["", "nowhere"])
def test_a_folder_without_sheets_is_told(tmp_path: Path, name: str) -> None:
    with pytest.raises(StateError) as caught:
        load(tmp_path / name)
    assert caught.value.problems[0].code == "E390"


def test_a_bare_sheet_takes_nothing(tmp_path: Path) -> None:
    assert sheet(tmp_path, "").rules("sft") is None


LAYERS = """\
data:
  all: {min_rows: {value: 1, source: guide}, max_rows: {value: 1, source: guide}}
  sft: {format: openai, max_rows: {value: 2, source: guide}, tools: {value: true, source: guide}}
  dpo: {format: openai-dpo}
models:
  - name: exact
    aliases: [other]
    data:
      all: {max_rows: {value: 3, source: guide}, max_images: {value: 3, source: guide}}
      sft: {max_images: {value: 4, source: prices}, tools: {value: false, source: prices}}
  - {name: fam*, data: {all: {max_rows: {value: 5, source: guide}}}}
  - {name: family-*, data: {all: {max_rows: {value: 6, source: guide}}}}
"""


def test_a_model_wins_over_its_provider_and_a_method_over_all(tmp_path: Path) -> None:
    at_provider = rules(tmp_path, LAYERS)
    assert (at_provider.target, at_provider.format) == ("Acme", "openai")
    assert (at_provider.min_rows, at_provider.max_rows, at_provider.tools, at_provider.max_images) == (1, 2, True, None)
    model = rules(tmp_path, LAYERS, "sft", "exact")
    assert (model.min_rows, model.max_rows, model.max_images, model.tools) == (1, 3, 4, False)
    assert model.sources == {
        "min_rows": "https://docs.acme.example/guide",
        "max_rows": "https://docs.acme.example/guide",
        "max_images": "https://acme.example/prices",
        "tools": "https://acme.example/prices",
    }
    pairs = rules(tmp_path, LAYERS, "dpo", "exact")
    assert (pairs.format, pairs.max_rows, pairs.max_images, pairs.tools) == ("openai-dpo", 3, 3, None)


@pytest.mark.parametrize(
    ("name", "target", "max_rows"),
    [
        ("exact", "Acme exact", 3),
        ("other", "Acme other", 3),
        ("family-1", "Acme family-1", 6),
        ("famous", "Acme famous", 5),
        ("Family-1", "Acme", 2),
        ("exact-1", "Acme", 2),
        ("unknown", "Acme", 2),
        ("", "Acme", 2),
    ],
)
def test_the_nearest_name_is_taken_and_an_unknown_one_has_the_limits_of_its_provider(
    tmp_path: Path, name: str, target: str, max_rows: int
) -> None:
    found = rules(tmp_path, LAYERS, "sft", name)
    assert (found.target, found.max_rows) == (target, max_rows)


def test_values_are_what_people_write(tmp_path: Path) -> None:
    text = """\
data:
  sft:
    format: openai
    max_rows: {value: 3_000_000, source: guide}
    max_file_bytes: {value: 50.1 GiB, source: guide}
    max_row_bytes: {value: 4096, source: guide}
    roles: {value: [user, assistant], source: guide}
prices:
  - {usd: "0.10", per: million training tokens, parameters: {above: 0.6B, up_to: 1T}, source: prices}
"""
    found = rules(tmp_path, text)
    assert (found.max_rows, found.max_file_bytes, found.max_row_bytes) == (3_000_000, 53_794_465_382, 4096)
    assert found.roles == frozenset({"user", "assistant"})
    (price,) = sheet(tmp_path, text).prices
    assert (price.usd, str(price.usd)) == (Decimal("0.1"), "0.10")
    assert price.parameters is not None
    assert (price.parameters.above, price.parameters.up_to) == (600_000_000, 10**12)


def test_rules_go_to_another_process_without_pydantic(tmp_path: Path) -> None:
    found = rules(tmp_path, LAYERS, "sft", "exact")
    assert hash(found) == hash(pickle.loads(pickle.dumps(found)))
    program = f"""
import pickle, sys
found = pickle.loads(bytes.fromhex({pickle.dumps(found).hex()!r}))
print(found.target, found.max_rows, [name for name in ("pydantic", "yaml") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.stdout == "Acme exact 3 []\n", done.stderr


def test_a_catalogue_goes_to_another_process(tmp_path: Path) -> None:
    (tmp_path / "acme.yaml").write_text(HEAD + LAYERS)
    found = load(tmp_path)
    assert pickle.loads(pickle.dumps(found)) == found


@given(st.dates())
@settings(deadline=None)
def test_days_are_read_as_they_are_written(day: object) -> None:
    from finetune.catalogue.values import Day

    assert str(Day.model_validate({"value": str(day), "source": "guide"}).value) == str(day)


@given(st.text(alphabet=" -:#{}[]*&!|>'\"%@`,abc0159\n\t\x00\x1b\ud800\u2028é", max_size=60))
@settings(deadline=None, max_examples=300)
def test_no_text_brings_the_reader_down(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    folder = tmp_path_factory.mktemp("catalogue")
    (folder / "acme.yaml").write_bytes((HEAD + text).encode("utf-8", "surrogatepass"))
    try:
        load(folder)
    except StateError as error:
        for problem in error.problems:
            assert re.fullmatch(r"E39[0-4]", problem.code)
            assert problem.file
