"""Recipes and data with faults: three lines for each fault, the exit code of its kind, and nothing submitted."""

import os
from pathlib import Path

import pytest

from finetune.cli import exits
from tests.cli.desk import RECIPE, Desk

ROW = '{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}\n'


def _edit(old: str, new: str) -> str:
    assert old in RECIPE
    return RECIPE.replace(old, new)


RECIPES = {
    "binary": (b"\x80\x81\xff\xfe" * 40, "E104"),
    "zero byte": (RECIPE.encode() + b"\0", "E104"),
    "utf-16": (RECIPE.encode("utf-16"), "E104"),
    "empty": (b"", "E106"),
    "only comments": (b"# nothing\n\n", "E106"),
    "open bracket": (_edit("{path: data.jsonl}", "{path: data.jsonl"), "E107"),
    "no blank after a colon": (_edit("version: 1", "version:1"), "E107"),
    "tab": (RECIPE + "lora:\n\tr: 4\n", "E108"),
    "two documents": (RECIPE + "---\n" + RECIPE, "E109"),
    "list": ("- version: 1\n", "E110"),
    "key twice": (RECIPE + "seed: 8\n", "E111"),
    "merge key": (RECIPE + "lora: {<<: {r: 4}}\n", "E113"),
    "python object": (RECIPE + "notify: !!python/object/apply:os.system ['true']\n", "E113"),
    "infinity": (_edit("seed: 7", "seed: .inf"), "E114"),
    "unknown key": (_edit("seed: 7", "sead: 7"), "E120"),
    "missing field": (_edit("name: bot\n", ""), "E121"),
    "wrong type": (_edit("seed: 7", "seed: seven"), "E122"),
    "number in quotes": (_edit("seed: 7", 'seed: "7"'), "E122"),
    "out of range": (_edit("epochs: 2", "epochs: 0"), "E123"),
    "not a choice": (RECIPE + "privacy: maybe\n", "E124"),
    "wrong form": (_edit("name: bot", "name: my bot"), "E125"),
    "no value": (_edit("seed: 7", "seed:"), "E126"),
    "contradiction": (RECIPE + "validation: {split: 0.1, path: data.jsonl}\n", "E127"),
    "another tool's key": (RECIPE + "bf16: true\n", "E130"),
    "secret": (RECIPE + "provider_options: {api_key: sk-abcdefghijkl}\n", "E132"),
}

DATA = {
    "empty": (b"", "E204"),
    "blank lines": (b"\n\n  \n", "E204"),
    "another encoding": (ROW.encode("utf-16"), "E205"),
    "cut off": ((ROW + ROW[:40] + "\n").encode(), "E207"),
    "comma at the end": (ROW.replace("}\n", "},\n").encode(), "E207"),
    "not a number": (b'{"messages": NaN}\n', "E207"),
    "list": ((ROW + "5\n").encode(), "E208"),
    "other layout": ((ROW + '{"prompt": "q", "completion": "a"}\n').encode(), "E236"),
    "no messages": (b'{"messages": []}\n', "E210"),
    "wrong role": (ROW.replace("user", "robot").encode(), "E211"),
    "no text": (ROW.replace('"q"', "5").encode(), "E212"),
    "no answer": (b'{"messages": [{"role": "user", "content": "q"}]}\n', "E214"),
}


@pytest.mark.parametrize("verb", ["validate", "submit"])
@pytest.mark.parametrize(("text", "code"), RECIPES.values(), ids=RECIPES)
def test_a_recipe_with_a_fault(desk: Desk, verb: str, text: str | bytes, code: str) -> None:
    desk.recipe.write_bytes(text.encode() if isinstance(text, str) else text)
    ran = desk.call(verb, "recipe.yaml")
    assert (ran.code, ran.out) == (exits.USAGE, "")
    assert code in ran.codes
    assert all(line.startswith(("recipe.yaml:", "  ")) for line in ran.err.splitlines())
    assert desk.call("status", "--json").json == []


@pytest.mark.parametrize("verb", ["validate", "submit"])
@pytest.mark.parametrize(("content", "code"), DATA.values(), ids=DATA)
def test_data_with_a_fault(desk: Desk, verb: str, content: bytes, code: str) -> None:
    desk.data.write_bytes(content)
    ran = desk.call(verb, "recipe.yaml")
    assert (ran.code, ran.out) == (exits.USAGE, "")
    assert code in ran.codes
    assert all(line.startswith(("data.jsonl:", "  ")) for line in ran.err.splitlines())
    assert desk.call("status", "--json").json == []


@pytest.mark.parametrize("verb", ["validate", "submit"])
def test_files_that_are_not_there_or_are_no_files(desk: Desk, verb: str) -> None:
    (desk.folder / "folder").mkdir()
    for name, code in (
        ("nothing.yaml", "E101"),
        ("nowhere/recipe.yaml", "E101"),
        ("recipe.yaml/recipe.yaml", "E103"),
        ("folder", "E102"),
        ("/dev/null", "E102"),
        ("n" * 300, "E103"),
        ("", "E102"),
    ):
        assert desk.call(verb, name).code_and_fault == (exits.USAGE, code), name
    assert "did you mean `recipe.yaml`?" in desk.call(verb, "recipy.yaml").err


@pytest.mark.parametrize(("path", "code"), [("nothing.jsonl", "E201"), ("/dev/zero", "E202"), ("data.jsonl/x", "E201")])
def test_data_that_is_not_there_or_is_no_file(desk: Desk, path: str, code: str) -> None:
    for verb in ("validate", "submit"):
        ran = desk.call(verb, "recipe.yaml", "--set", f"dataset.path={path}")
        assert ran.code_and_fault == (exits.USAGE, code)


def test_an_unknown_key_gets_its_place_and_a_suggestion(desk: Desk) -> None:
    desk.write("recipe.yaml", _edit("seed: 7", "sead: 7"))
    what, _, fix = desk.call("validate", "recipe.yaml").err.splitlines()
    assert what == "recipe.yaml:5:1: error E120: unknown field `sead`"
    assert fix == "  fix: did you mean `seed`?"


def test_all_faults_are_told_at_once_in_the_order_of_the_file(desk: Desk) -> None:
    desk.write("recipe.yaml", RECIPE.replace("bot", "my bot").replace("seed: 7", "sead: 7") + "privacy: maybe\n")
    assert desk.call("validate", "recipe.yaml").codes == ["E125", "E120", "E124"]


def test_a_broken_line_is_named_by_its_number(desk: Desk) -> None:
    desk.data.write_text(ROW * 3 + '{"messages": [\n' + ROW)
    assert desk.call("submit", "recipe.yaml").err.startswith("data.jsonl:4:15: error E207: ")


def test_a_thousand_broken_lines_do_not_fill_the_screen(desk: Desk) -> None:
    desk.data.write_text('{"messages": nothing}\n' * 1000)
    ran = desk.call("validate", "recipe.yaml")
    assert ran.codes == ["E207"]
    assert "20, 21 and 979 more" in ran.err
    assert desk.call("validate", "recipe.yaml", "--all").codes == ["E207"] * 1000


@pytest.mark.parametrize(
    ("override", "code"),
    [
        ("lora.r", "E133"),
        ("=4", "E133"),
        ("lora.r=four", "E122"),
        ("lora.rr=4", "E120"),
        ("lora.r=[", "E107"),
        ("lora.r=", "E126"),
        ("dataset=x", "E122"),
        ("provider_options.api_key=sk-abcdefghijkl", "E132"),
    ],
)
def test_an_override_with_a_fault(desk: Desk, override: str, code: str) -> None:
    for verb in ("validate", "submit"):
        ran = desk.call(verb, "recipe.yaml", "--set", override)
        assert ran.code == exits.USAGE
        assert ran.err.startswith("--set: error ")
        assert code in ran.codes
        assert "sk-abc" not in ran.err


@pytest.mark.parametrize(
    ("override", "code"),
    [
        ("provider=nobody", "E302"),
        ("notify=[ops]", "E301"),
        ("base_model=builtin:nothing", "E304"),
    ],
)
def test_a_target_that_does_not_take_the_recipe(desk: Desk, override: str, code: str) -> None:
    for verb in ("validate", "submit"):
        assert desk.call(verb, "recipe.yaml", "--set", override).code_and_fault == (exits.NOT_ELIGIBLE, code)
    assert desk.call("status", "--json").json == []


def test_faults_of_data_and_target_are_told_together(desk: Desk) -> None:
    desk.data.write_text(ROW + "{\n")
    ran = desk.call("validate", "recipe.yaml", "--set", "notify=[ops]")
    assert (ran.code, ran.codes) == (exits.USAGE, ["E207", "E301"])
    dpo = desk.call("validate", "recipe.yaml", "--set", "method=dpo")
    assert (dpo.code, dpo.codes) == (exits.USAGE, ["E249"])


def test_validate_goes_through_all_recipes(desk: Desk) -> None:
    desk.write("bad.yaml", "version: 1\n")
    ran = desk.call("validate", "bad.yaml", "recipe.yaml", "nothing.yaml")
    assert ran.code == exits.USAGE
    assert ran.out.startswith("recipe.yaml: valid: bot on local/builtin:tiny-llama")
    assert "nothing.yaml: error E101" in ran.err
    assert "bad.yaml" in ran.err
    reports = desk.call("validate", "bad.yaml", "recipe.yaml", "nothing.yaml", "--json").json
    assert [report["valid"] for report in reports] == [False, True, False]


def test_a_fault_in_the_last_recipe_submits_none(desk: Desk) -> None:
    desk.write("late.yaml", _edit("data.jsonl", "nothing.jsonl"))
    desk.write("unfit.yaml", RECIPE + "notify: [ops]\n")
    for last, code in (("nothing.yaml", exits.USAGE), ("late.yaml", exits.USAGE), ("unfit.yaml", exits.NOT_ELIGIBLE)):
        assert desk.call("submit", "recipe.yaml", last).code == code
    assert desk.call("status", "--json").json == []


def test_data_is_looked_for_beside_the_recipe(desk: Desk, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert desk.call("validate", desk.recipe).code == exits.OK


def test_warnings_stop_nothing(desk: Desk) -> None:
    desk.data.write_text(ROW * 4)
    desk.write("recipe.yaml", RECIPE.replace("training: {epochs: 2, batch_size: 4}", "training: {num_train_epochs: 2}"))
    ran = desk.call("validate", "recipe.yaml")
    assert (ran.code, ran.codes) == (exits.OK, ["E129", "E215"])
    assert all("warning" in line for line in ran.err.splitlines() if line.startswith("recipe.yaml"))
    assert desk.call("submit", "recipe.yaml", "-q").code == exits.OK


def test_processes_end_the_same_way(desk: Desk) -> None:
    desk.write("broken.yaml", "version: [1\n")
    assert desk.run("submit", "nothing.yaml").code_and_fault == (exits.USAGE, "E101")
    assert desk.run("validate", "broken.yaml").code_and_fault == (exits.USAGE, "E107")
    assert desk.run("submit", "recipe.yaml", "--set", "dataset.path=no").code_and_fault == (exits.USAGE, "E201")
    assert desk.run("validate", "recipe.yaml", "--set", "notify=[ops]").code_and_fault == (exits.NOT_ELIGIBLE, "E301")
    assert desk.run("status", "ft_nothing").code_and_fault == (exits.NOT_FOUND, "E701")


def test_a_name_that_is_no_text(desk: Desk) -> None:
    name = os.fsdecode(b"odd\xff.yaml")
    os.rename(desk.recipe, desk.folder / name)
    for encoding in ("utf-8", "ascii"):
        ran = desk.shell("ft validate odd*.yaml >printed", PYTHONIOENCODING=encoding)
        assert (ran.code, ran.out, ran.codes) == (exits.OK, "", [])
        assert b"yaml: valid: bot" in (desk.folder / "printed").read_bytes()
    ran = desk.run("validate", "ünö.yaml", "--json", PYTHONIOENCODING="ascii")
    assert ran.code == exits.USAGE
    assert ran.json[0]["problems"][0]["code"] == "E101"
