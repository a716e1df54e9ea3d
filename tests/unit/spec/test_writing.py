"""The starter, the JSON schema, and sentences for all that pydantic can say."""

import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from pydantic_core import InitErrorDetails, PydanticKnownError, ValidationError
from pydantic_core._pydantic_core import list_all_errors

from finetune.errors import RecipeError
from finetune.spec import Recipe, canonical, explicit, json_schema, parse, starter
from finetune.spec.complaints import complaints
from finetune.spec.draft import Draft
from finetune.spec.fields import all_fields
from finetune.spec.scalars import flow, plain

FILE = Path("recipe.yaml")
OFF = re.compile(r"^(\s*)#(?=[a-z_]+:)", re.MULTILINE)
#: Fields that exclude another one: they stay off when all are turned on.
EXCLUDED = ("  #learning_rate_multiplier", "  #path: datasets/validation")


def test_the_starter_is_valid_and_says_how_to_use_it() -> None:
    text = starter("support-bot", "Qwen/Qwen3-0.6B", "datasets/support.jsonl")

    assert canonical(parse(text, FILE).recipe) == {
        "version": 1,
        "name": "support-bot",
        "base_model": "Qwen/Qwen3-0.6B",
        "dataset": {"path": "datasets/support.jsonl"},
        "provider": "local",
        "validation": {"split": 0.1},
    }
    assert text.startswith("# yaml-language-server: $schema=./recipe.schema.json\n")
    assert "ft submit recipe.yaml --set" in text
    assert max(len(line) for line in text.splitlines()) <= 120


def test_every_field_is_in_the_starter_one_hash_away() -> None:
    text = starter("a", "m", "p")
    for line in EXCLUDED:
        assert line in text
        text = text.replace(line, line.replace("#", "# "))

    on = explicit(parse(OFF.sub(r"\1", text), FILE).recipe)

    leaves = {name for name, field in all_fields().items() if field.section is None}
    assert leaves - set(on) == {"training.learning_rate_multiplier", "validation.path"}


def test_the_starter_takes_settings_and_awkward_words() -> None:
    settings = {"training.epochs": 5, "limits.data": {"region": "eu"}, "lora.target_modules": ["q"], "privacy": "off"}
    text = starter("1", "true", "a: b #c 'd' \"e\".jsonl", "openai", settings)

    on = explicit(parse(text, FILE).recipe)

    assert on["name"] == "1"
    assert on["base_model"] == "true"
    assert on["dataset.path"] == "a: b #c 'd' \"e\".jsonl"
    assert on["provider"] == "openai"
    assert {name: on[name] for name in settings} == settings
    assert "validation.split" not in on


def test_an_invalid_name_makes_an_invalid_starter() -> None:
    with pytest.raises(RecipeError):
        parse(starter("a b\nversion: 2", "m", "p"), FILE)


@pytest.mark.parametrize(
    "value",
    ["", "a", "on", "null", "~", "3", "3.", ".5", "1e5", ".inf", "-x", "a: b", "a #b", "[a", "é😀", "\x7f\x1b", "...",
     " a ", "9" * 500, "0x1", [1, 2.5e-7, None, True, {"a b": "c"}], {}, [], 1e22, -0.0],
)  # fmt: skip
def test_flow_reads_back_equal(value: Any) -> None:
    text = f"version: 1\nname: a\nbase_model: m\ndataset: {{path: p}}\nprovider_options: {{x: {flow(value)}}}"

    assert parse(text, FILE).recipe.provider_options == {"x": value}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("true", True),
        ("010", 10),
        ("0o10", 8),
        ("+3", 3),
        ("1e3", 1000.0),
        ("off", "off"),
        ("1:30", "1:30"),
    ],
)
def test_plain_text_is_yaml_1_2(text: str, value: object) -> None:
    assert plain(text) == value
    assert type(plain(text)) is type(value)


def test_the_schema_is_valid_closed_and_tells_of_every_field() -> None:
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)

    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["$id"] == "urn:ft-orchestrator:recipe:1"
    for section in (schema, *(each for each in schema["$defs"].values() if each)):
        assert section["additionalProperties"] is False
        for told in section["properties"].values():
            assert len(told["description"]) > 10
            assert "null" not in str(told.get("anyOf", told.get("type")))
    assert "Default: 3." in schema["$defs"]["Training"]["properties"]["epochs"]["description"]


@pytest.mark.parametrize(
    ("values", "valid"),
    [
        ({}, True),
        ({"lora": {"r": 3, "target_modules": ["q"]}, "limits": {"data": {"region": "eu"}, "deadline": "6h"}}, True),
        ({"register": {"gateways": ["embedded"]}, "gate": {"metric": "m"}, "provider_options": {"a": [1]}}, True),
        ({"base_model": None, "target": "local/x/y"}, True),
        ({"base_model": None}, False),
        ({"lora": {"rr": 3}}, False),
        ({"zzz": 3}, False),
        ({"lora": None}, False),
        ({"training": {"epochs": "3"}}, False),
        ({"training": {"epochs": 0}}, False),
        ({"training": {"learning_rate": 1e-4, "learning_rate_multiplier": 1.0}}, False),
        ({"validation": {"split": 0.1, "path": "x"}}, False),
        ({"validation": {}}, False),
        ({"name": "a b"}, False),
        ({"limits": {"deadline": "6"}}, False),
        ({"lora": {"target_modules": []}}, False),
    ],
)
def test_editors_and_ft_agree(values: dict[str, Any], valid: bool) -> None:
    recipe = {"version": 1, "name": "a", "base_model": "m", "dataset": {"path": "p"}, **values}
    if values.get("base_model", "") is None:
        del recipe["base_model"]

    assert jsonschema.Draft202012Validator(json_schema()).is_valid(recipe) is valid
    text = "".join(f"{key}: {flow(value)}\n" for key, value in recipe.items())
    try:
        parse(text, FILE)
    except RecipeError:
        assert not valid
    else:
        assert valid


def test_nothing_that_pydantic_says_gets_through() -> None:
    places: list[tuple[tuple[str | int, ...], Any]] = [
        (("training", "epochs"), "x"),
        (("training",), []),
        (("notify", 0), 3),
        (("provider_options", "a", "float"), 1.5),
        ((), 3),
        (("limits", "data", "Region", "region"), 4),
    ]
    for told in list_all_errors():
        kind = told["type"]
        for loc, value in places:
            known = PydanticKnownError(kind, told["example_context"])
            details = InitErrorDetails(type=kind, loc=loc, input=value, ctx=told["example_context"] or {})
            error = ValidationError.from_exception_data("Recipe", [details])
            values = {"training": {"epochs": "x"}, "notify": [3], "provider_options": {"a": 1.5}, "limits": {"data": 4}}

            (problem,) = complaints(error, Draft(values=values), "f")

            said = " ".join(problem.lines()).lower()
            assert problem.code.startswith("E12"), kind
            assert problem.fix, kind
            assert "input should" not in said, kind
            assert known.message().lower() not in said, kind


def test_a_recipe_is_built_in_code_too() -> None:
    recipe = Recipe.model_validate(
        {"version": 1, "name": "a", "base_model": "m", "dataset": {"path": "p"}, "notify": ["x"], "register": {}}
    )

    assert recipe.register is not None
    assert recipe.register.alias == "production"
    assert recipe.notify == ("x",)
    assert explicit(recipe) == {"version": 1, "name": "a", "base_model": "m", "dataset.path": "p", "notify": ["x"]}
