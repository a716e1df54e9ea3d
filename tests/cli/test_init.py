"""`ft init`: a recipe that is valid as soon as there is data, its schema, and nobody's work overwritten."""

from pathlib import Path

import jsonschema
import pytest
import yaml

from finetune.cli import exits
from tests.cli.desk import Desk, write_rows


def test_the_recipe_is_valid_once_there_is_data(desk: Desk) -> None:
    desk.data.unlink()
    ran = desk.run("init", "new.yaml")
    assert (ran.code, ran.out) == (exits.OK, "new.yaml\n")
    assert ran.err == "next: put your chats into data.jsonl, then `ft validate new.yaml`\n"
    assert desk.call("validate", "new.yaml").code_and_fault == (exits.USAGE, "E201")
    write_rows(desk.data, 40)
    ran = desk.call("validate", "new.yaml")
    assert (ran.code, ran.err) == (exits.OK, "data.jsonl: 40 rows, read as OpenAI chat (found out from the rows)\n")
    assert ran.out.startswith("new.yaml: valid: desk on local/builtin:tiny-llama, ")
    assert desk.call("submit", "new.yaml").code == exits.OK


def test_editors_find_the_schema_and_it_accepts_the_recipe(desk: Desk) -> None:
    assert desk.call("init", "sub/new.yaml").code == exits.OK
    text = (desk.folder / "sub" / "new.yaml").read_text()
    prefix = "# yaml-language-server: $schema="
    first = text.splitlines()[0]
    assert first.startswith(prefix)
    schema_path = desk.folder / "sub" / first.removeprefix(prefix)
    validator = jsonschema.Draft202012Validator(yaml.safe_load(schema_path.read_text()))
    assert list(validator.iter_errors(yaml.safe_load(text))) == []
    assert list(validator.iter_errors({**yaml.safe_load(text), "sead": 7})) != []
    assert schema_path.read_text() == desk.call("schema").out


def test_options_are_in_the_recipe(desk: Desk) -> None:
    data = "chats/my data.jsonl"
    ran = desk.call("init", "new.yaml", "--name", "Support-Bot", "--base-model", "Qwen/Qwen3-0.6B", "--data", data)
    assert (ran.code, ran.out) == (exits.OK, "new.yaml\n")
    assert f"put your chats into {data}," in ran.err
    recipe = yaml.safe_load((desk.folder / "new.yaml").read_text())
    assert (recipe["name"], recipe["base_model"], recipe["dataset"]["path"]) == ("Support-Bot", "Qwen/Qwen3-0.6B", data)


@pytest.mark.parametrize("folder", ["My Project", "ünï", "...", "_x-", "a" * 100])
def test_the_folders_name_becomes_a_models_name(desk: Desk, folder: str) -> None:
    assert desk.call("init", f"{folder}/new.yaml", "--data", str(desk.data)).code == exits.OK
    assert desk.call("validate", f"{folder}/new.yaml").code == exits.OK


@pytest.mark.parametrize(
    "option", ["--name=my bot", "--name=a/b", "--name=x@v1", "--data=", "--data= ", "--base-model=", "--base-model=a b"]
)
def test_an_option_that_would_make_a_wrong_recipe(desk: Desk, option: str) -> None:
    ran = desk.call("init", "sub/new.yaml", option)
    assert (ran.code, ran.out) == (exits.USAGE, "")
    assert ran.err.startswith("error E1")
    assert "new.yaml" not in ran.err
    assert not (desk.folder / "sub").exists()


def test_nothing_is_overwritten_without_being_asked_to(desk: Desk) -> None:
    before = desk.recipe.read_text()
    assert desk.run("init").code_and_fault == (exits.USAGE, "E901")
    assert desk.recipe.read_text() == before
    assert desk.run("init", "-y").code == exits.OK
    assert desk.recipe.read_text() != before


@pytest.mark.parametrize("path", [".", "..", "folder", "/", ""])
def test_a_folder_is_no_recipe(desk: Desk, path: str) -> None:
    (desk.folder / "folder").mkdir()
    for yes in ((), ("-y",)):
        ran = desk.call("init", path, *yes)
        assert ran.code_and_fault == (exits.USAGE, "E901")
        assert "recipe.yaml" in ran.err


@pytest.mark.parametrize("path", ["recipe.yaml/new.yaml", "/proc/nowhere/new.yaml", "n" * 300])
def test_a_place_where_no_file_can_be(desk: Desk, path: str) -> None:
    assert desk.call("init", path).code_and_fault == (exits.FAILED, "E510")


def test_nothing_is_left_beside_the_recipe(desk: Desk) -> None:
    desk.call("init", "new.yaml")
    assert {path.name for path in Path().iterdir()} == {"data.jsonl", "new.yaml", "recipe.schema.json", "recipe.yaml"}
