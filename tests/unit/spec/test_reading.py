"""Files, aliases, overrides, and where things stand."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from finetune.errors import RecipeError
from finetune.spec import Recipe, canonical, explicit, parse, read
from finetune.spec.aliases import ALIASES, ELSEWHERE
from finetune.spec.fields import all_fields
from finetune.spec.scalars import flow

HEAD = "version: 1\nname: a\nbase_model: m\ndataset: {path: p}\n"
FILE = Path("recipe.yaml")
MINIMAL = {"version": 1, "name": "a", "base_model": "m", "dataset": {"path": "p"}}


def code(path: Path) -> tuple[str, str]:
    with pytest.raises(RecipeError) as caught:
        read(path)
    (problem,) = caught.value.problems
    assert problem.file == str(path)
    assert problem.what
    return problem.code, problem.fix


def test_a_recipe_is_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + HEAD.replace("\n", "\r\n").encode())

    file = read(path, ["seed=1"])

    assert canonical(file.recipe) == {**MINIMAL, "seed": 1}
    assert file.path == path
    assert file.where("version") == (1, 10)
    assert file.notes == ()


def test_a_missing_file_suggests_its_neighbour(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(HEAD)

    assert code(tmp_path / "recpie.yaml") == ("E101", f"did you mean `{tmp_path / 'recipe.yaml'}`?")
    assert code(tmp_path / "zzz.yml") == ("E101", f"did you mean `{tmp_path / 'recipe.yaml'}`?")
    assert code(tmp_path / "no" / "recipe.yaml") == ("E101", "check the path")
    assert code(tmp_path / "recipe.yaml" / "x")[0] == "E103"


def test_a_missing_file_in_an_empty_folder(tmp_path: Path) -> None:
    assert code(tmp_path / "recipe.yaml") == ("E101", "run `ft init` to write a recipe")


def test_what_is_no_file_or_no_text(tmp_path: Path) -> None:
    assert code(tmp_path)[0] == "E102"
    assert code(Path("/dev/null"))[0] == "E102"
    assert code(tmp_path / ("x" * 300))[0] == "E103"
    assert code(Path("a\0b"))[0] == "E103"

    loop = tmp_path / "loop.yaml"
    loop.symlink_to(loop)
    assert code(loop)[0] == "E103"

    big = tmp_path / "big.yaml"
    big.write_bytes(b"#" * 1_000_001)
    assert code(big)[0] == "E105"

    for raw in (b"version: 1\nname: \xff", "version: 1".encode("utf-16"), os.urandom(200) + b"\xff"):
        other = tmp_path / "other.yaml"
        other.write_bytes(raw)
        assert code(other)[0] == "E104"


def test_the_byte_at_fault_has_a_place(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_bytes("version: 1\nname: é".encode() + b"\xff")

    with pytest.raises(RecipeError) as caught:
        read(path)

    assert caught.value.problems[0].where == f"{path}:2:8"


@pytest.mark.parametrize("alias", sorted(ALIASES))
def test_an_alias_is_taken_and_noted(alias: str) -> None:
    field = all_fields()[ALIASES[alias].field]
    values = {"version": 1, "name": "a", "base_model": "m", "dataset": {"path": "p"}}
    values.pop(field.name.partition(".")[0], None)
    text = "".join(f"{key}: {flow(value)}\n" for key, value in values.items())

    file = parse(f"{text}{alias}: {flow(field.example)}\n", FILE)

    assert explicit(file.recipe)[field.name] == field.example
    (note,) = file.notes
    assert (note.code, note.level, note.field) == ("E129", "warning", field.name)
    assert (note.line, note.column) == (len(values) + 1, 1)
    assert f"`{field.name}`" in note.what
    assert file.where(field.name) == (len(values) + 1, len(alias) + 3)


@pytest.mark.parametrize("alias", sorted(name for name, to in ALIASES.items() if "." in to.field))
def test_an_alias_is_taken_in_its_section(alias: str) -> None:
    field = all_fields()[ALIASES[alias].field]
    head = HEAD.replace("dataset: {path: p}\n", "") if field.parent == "dataset" else HEAD

    file = parse(f"{head}{field.parent}: {{{alias}: {flow(field.example)}}}", FILE)

    assert explicit(file.recipe)[field.name] == field.example
    assert len(file.notes) == (0 if alias == field.key else 1)


def test_the_batch_of_one_gpu_is_not_the_whole_batch() -> None:
    file = parse(HEAD + "training: {micro_batch_size: 2, batch_size: 16}", FILE)

    assert explicit(file.recipe) | {} == {
        "version": 1, "name": "a", "base_model": "m", "dataset.path": "p",
        "training.batch_size": 16, "local.micro_batch_size": 2,
    }  # fmt: skip
    assert "one GPU" in file.notes[0].why


def test_aliases_lead_to_fields_and_are_none() -> None:
    assert {to.field for to in ALIASES.values()} <= set(all_fields())
    top = {name for name in all_fields() if "." not in name}
    assert not top & set(ALIASES)
    assert not (top | set(ALIASES)) & set(ELSEWHERE)


def test_a_target_is_split_at_the_first_slash() -> None:
    text = "version: 1\nname: a\ndataset: {path: p}\ntarget: local/Qwen/Qwen3-0.6B\n"

    file = parse(text, FILE)

    assert (file.recipe.provider, file.recipe.base_model) == ("local", "Qwen/Qwen3-0.6B")
    assert file.recipe.target == "local/Qwen/Qwen3-0.6B"
    assert file.where("base_model") == (4, 9)
    assert file.notes == ()
    assert parse(text + "provider: local", FILE).recipe == file.recipe


def test_overrides_come_on_top_and_the_last_wins() -> None:
    text = HEAD + "provider: local\nlora_r: 8\nlora: {alpha: 4}\nprovider_options: {a: {b: 1}, c: [2]}\n"
    overrides = [
        "lora.r=1",
        "lora_rank=32",
        "training.num_epochs = 2",
        'name="x-y"',
        "provider_options.a.d=off",
        "target=openai/gpt-4.1/x",
        "limits.data.region=eu",
        "notify=[a=b, c]",
    ]

    file = parse(text, FILE, overrides)

    assert canonical(file.recipe) == {
        "version": 1,
        "name": "x-y",
        "base_model": "gpt-4.1/x",
        "dataset": {"path": "p"},
        "provider": "openai",
        "training": {"epochs": 2},
        "lora": {"r": 32, "alpha": 4},
        "limits": {"data": {"region": "eu"}},
        "notify": ["a=b", "c"],
        "provider_options": {"a": {"b": 1, "d": "off"}, "c": [2]},
    }
    assert file.where("lora.r") is None
    assert file.where("lora.alpha") == (7, 15)


@pytest.mark.parametrize("word", ["eu", "EU", "Eu"])
def test_a_region_is_one_however_it_is_written(word: str) -> None:
    recipe = parse(HEAD + f"limits: {{data: {{region: {word}}}}}", FILE).recipe

    assert canonical(recipe) == {**MINIMAL, "limits": {"data": {"region": "eu"}}}


def test_an_override_of_a_section_replaces_it() -> None:
    text = HEAD + "validation: {split: 0.1}\nlora: {r: 3, alpha: 4}"

    recipe = parse(text, FILE, ["validation={path: v.jsonl}", "lora={}"]).recipe

    assert canonical(recipe) == {**MINIMAL, "validation": {"path": "v.jsonl"}, "lora": {}}


def test_places_of_lists_blocks_and_aliases() -> None:
    text = HEAD + "register:\n  gateways:\n    - a\n    - &x b\nnotify: [*x]\ntraining:\n  n_epochs: 3\n"

    file = parse(text, FILE)

    assert file.where("register") == (5, 1)
    assert file.where("register.gateways[1]") == (8, 7)
    assert file.where("notify") == (9, 9)
    assert file.where("training.epochs") == (11, 13)
    assert file.where("seed") is None
    assert file.where("no.such") is None


def test_a_problem_of_a_field_knows_its_place() -> None:
    file = parse(HEAD + "lora:\n  r: 3\n", FILE, ["seed=7"])

    set_one = file.problem("E301", "lora.r", "what", "why", "fix", "warning")
    assert (set_one.where, set_one.field, set_one.value, set_one.level) == ("recipe.yaml:6:6", "lora.r", "3", "warning")
    assert set_one.lines() == ["recipe.yaml:6:6: warning E301: what", "  why: why", "  fix: fix"]
    assert file.problem("E301", "lora.alpha", "what").where == "recipe.yaml:5:1"
    assert file.problem("E301", "gate.metric", "what").where == "recipe.yaml"
    assert file.problem("E301", "seed", "what").where == "--set"
    assert (file.problem("E301", "", "what").where, file.problem("E301", "", "what").field) == ("recipe.yaml", None)


def test_a_recipe_file_is_frozen_and_picklable() -> None:
    file = parse(HEAD + "lora_r: 3", FILE)

    again = pickle.loads(pickle.dumps(file))

    assert again == file
    assert again.where("lora.r") == (5, 9)
    with pytest.raises(ValueError, match="frozen"):
        file.recipe.name = "b"
    with pytest.raises(AttributeError):
        file.path = FILE  # type: ignore[misc]


def test_unset_is_told_from_default() -> None:
    unset, same = parse(HEAD, FILE).recipe, parse(HEAD + "training: {epochs: 3}", FILE).recipe

    assert unset.training.epochs == same.training.epochs == 3
    assert canonical(unset) == MINIMAL
    assert canonical(same) == {**MINIMAL, "training": {"epochs": 3}}
    assert "training.epochs" not in explicit(unset)
    assert explicit(same)["training.epochs"] == 3
    assert Recipe.model_validate(canonical(same)) == same


def test_the_import_brings_no_more_than_pydantic_and_yaml() -> None:
    script = (
        "import sys, pydantic, yaml; from pydantic import BaseModel, JsonValue, TypeAdapter; TypeAdapter(JsonValue)\n"
        "import decimal, difflib, json; before = set(sys.modules); import finetune.spec\n"
        "print(sorted(name for name in set(sys.modules) - before if not name.startswith(('finetune', 'pydantic'))))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
