"""plan, retarget, import and costs from the command line: what is shown, which exit code, and what is refused."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from finetune.catalogue import load
from finetune.runs import Beat
from finetune.store import SqlBeats
from tests.cli.desk import Desk, write_rows
from tests.unit.memory.test_shape import LLAMA

#: What the catalogue has to have an answer for, by its keys.
EVERYBODY = {
    *("openai", "anthropic", "gemini", "meta", "mistral", "cohere", "deepseek"),
    *("together", "groq", "fireworks", "bedrock", "azure", "vertex", "local"),
    *("vllm", "tgi", "llamacpp", "sglang", "ollama", "litellm", "openrouter"),
}


def test_the_quickstart_has_a_verdict_for_everybody(desk: Desk) -> None:
    found = desk.call("plan", "recipe.yaml", "--json").json
    assert {each["target"] for each in found} == set(load().sheets)
    assert {each["target"] for each in found} >= EVERYBODY
    assert (found[0]["target"], found[0]["verdict"]) == ("local", "chosen")
    assert all(each["reasons"] for each in found[1:])
    ran = desk.call("plan", "recipe.yaml")
    assert ran.code == 0
    for name in EVERYBODY:
        assert any(line.startswith(f"{name} ") for line in ran.out.splitlines()), name


def test_what_is_set_up_here_stands_out_among_what_can_serve(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def local() -> tuple[list[str], list[str]]:
        row = next(each for each in desk.call("plan", "recipe.yaml", "--json").json if each["target"] == "local")
        line = next(each for each in desk.call("plan", "recipe.yaml").out.splitlines() if each.startswith("local "))
        cell = re.search(r"  ([^(]+?) \((.+)\)", line)
        assert cell
        here, others = cell[1].split("  ")[-1].split(), cell[2].split()
        assert here == row["served_here"]
        assert sorted([*here, *others]) == sorted(row["served_by"])
        return here, others

    here, others = local()
    assert here == ["embedded"]
    assert {"vllm", "litellm"} <= set(others)
    monkeypatch.setenv("LITELLM_URL", "http://127.0.0.1:9")
    here, others = local()
    assert here == ["embedded", "litellm"]
    assert "litellm" not in others


def test_exit_codes_tell_what_is_in_the_way(desk: Desk) -> None:
    write_rows(desk.folder / "data.jsonl", 40)
    mini = ("--set", "provider=openai", "--set", "base_model=gpt-4o-mini")
    assert desk.call("plan", "recipe.yaml", *mini).code == 0
    dear = desk.call("plan", "recipe.yaml", *mini, "--set", "limits.max_cost=0 USD")
    assert (dear.code, "no target takes this recipe" in dear.out) == (7, True)
    assert "limits.max_cost is 0" in dear.out
    assert desk.call("plan", "recipe.yaml", "--set", "provider=anthropic").code == 6


@pytest.mark.parametrize("target", ["together", "fireworks", "local"])
def test_what_the_table_shows_can_be_asked_for(desk: Desk, target: str) -> None:
    """The same weights under the target's own name, as `--set provider=NAME` promises."""
    changed = ("base_model=meta-llama/Llama-3.1-8B-Instruct", f"provider={target}", "allow_ignored=[seed]")
    asked = ("recipe.yaml", *(word for each in changed for word in ("--set", each)))
    write_rows(desk.folder / "data.jsonl", 40)
    rows = desk.call("plan", *asked, "--json").json
    (there,) = [each["base_model"] for each in rows if each["verdict"] == "chosen"]
    ran = desk.call("validate", *asked)
    assert ran.code == 0, ran.err
    assert f" on {target}/{there}, " in ran.out


def test_own_machines_are_not_chosen_for_what_they_cannot_hold(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """No config.json is here: the weights of so many parameters are too much for any machine that runs this."""
    large = ("recipe.yaml", "--set", "base_model=deepseek-ai/DeepSeek-V3.1", "--set", "provider=auto")
    for gpus, why in (("none", "this machine has"), ("H100:1x80GB", "the largest card here has 80GB")):
        monkeypatch.setenv("FT_GPUS", gpus)
        (local,) = [each for each in desk.call("plan", *large, "--json").json if each["target"] == "local"]
        (reason,) = [each for each in local["reasons"] if each["code"] == "E321"]
        assert (local["verdict"], why in reason["what"]) == ("no", True), reason
    # What another machine has that trains on its processor nobody here knows.
    monkeypatch.setenv("FT_GPUS", "none")
    with desk.world() as world:
        beat = Beat(worker="w", queues=("gpu",), host="another", pid=1, seen_at=world.clock.now())
        SqlBeats(world.database).beat(beat)
    (local,) = [each for each in desk.call("plan", *large, "--json").json if each["target"] == "local"]
    assert local["verdict"] != "no"


def test_the_files_of_a_model_tell_how_much_it_reads(desk: Desk) -> None:
    folder = desk.folder / "base"
    folder.mkdir()
    config = {**LLAMA, "max_position_embeddings": 131_072}
    (folder / "config.json").write_text(json.dumps(config))
    asked = ("recipe.yaml", "--set", "base_model=./base", "--set", "limits.min_context=100000")
    (local,) = [each for each in desk.call("plan", *asked, "--json").json if each["target"] == "local"]
    assert local["context"] == 131_072
    assert "E317" not in {each["code"] for each in local["reasons"]}
    (local,) = [
        each
        for each in desk.call("plan", *asked[:-1], "limits.min_context=200000", "--json").json
        if each["target"] == "local"
    ]
    assert "131,072" in next(each["what"] for each in local["reasons"] if each["code"] == "E317")


def test_a_recipe_or_data_that_is_not_there_is_told(desk: Desk) -> None:
    assert desk.call("plan", "nowhere.yaml").code == 2
    assert desk.call("plan", "recipe.yaml", "--set", "provider=nope").code_and_fault == (5, "E708")
    (desk.folder / "data.jsonl").unlink()
    assert desk.call("plan", "recipe.yaml").code == 2


def test_what_cannot_be_imported_is_told(desk: Desk) -> None:
    assert desk.call("import", "mistral").code_and_fault == (2, "E901")
    assert desk.call("import", "nobody").code_and_fault == (5, "E708")
    (desk.folder / "jobs.json").write_text("[3]")
    assert desk.call("import", "openai", "--from", "jobs.json").code_and_fault == (2, "E416")
    (desk.folder / "jobs.json").write_text("")
    assert desk.call("import", "openai", "--from", "jobs.json").code_and_fault == (2, "E416")
    assert desk.call("import", "openai", "--from", "nowhere.json").code_and_fault == (2, "E901")
    assert desk.call("import", "openai", "--from", ".").code_and_fault == (2, "E901")
    assert desk.call("import", "openai").code == 9, "there is no key"
    (desk.folder / "jobs.json").write_text("[]")
    assert desk.call("import", "openai", "--from", "jobs.json", "--files", "typo").code_and_fault == (2, "E901")


PAST: dict[str, Any] = {
    "id": "ftjob-1",
    "model": "gpt-4o-mini-2024-07-18",
    "status": "succeeded",
    "fine_tuned_model": "ft:gpt-4o-mini-2024-07-18:acme:helper:1",
    "training_file": "file-1",
    "created_at": 1_760_000_000,
    "finished_at": 1_760_000_100,
    "method": {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 2}}},
}
EXPORT = ("import", "openai", "--from", "jobs.json")
BUILT_IN = ("retarget", "helper@v1", "--to", "local/builtin:tiny-llama")


@pytest.fixture
def training(desk: Desk) -> Path:
    """A folder with the training file of a job that somebody has exported."""
    files = desk.folder / "training"
    files.mkdir()
    write_rows(files / "file-1.jsonl", 12)
    (desk.folder / "jobs.json").write_text(json.dumps([PAST]))
    return files


def test_training_files_can_be_given_later_and_the_folder_may_go(desk: Desk, training: Path) -> None:
    without = desk.call(*EXPORT)
    assert "gone" in without.out
    assert "`--files FOLDER` adds them" in without.err
    lost = desk.call(*BUILT_IN, "--output", "new.yaml")
    assert lost.code_and_fault == (2, "E201")
    assert "the rows that helper@v1 was trained on are gone" in lost.err
    assert "openai calls them file-1" in lost.err
    assert desk.call(*BUILT_IN).code_and_fault == (2, "E201")
    added = desk.call(*EXPORT, "--files", "training")
    assert "its rows were added" in added.out
    shutil.rmtree(training)
    (told,) = desk.call(*EXPORT, "--json").json
    assert (told["model"], told["rows"], told["known"]) == ("helper@v1", 12, True)
    assert len(desk.call("status", "--json").json) == 1
    assert desk.call(*BUILT_IN, "--output", "new.yaml").code == 0
    assert desk.call("validate", "new.yaml").code == 0


def test_other_rows_can_take_the_place_of_lost_ones(desk: Desk, training: Path) -> None:
    desk.call(*EXPORT)
    (desk.folder / "below").mkdir()
    write_rows(desk.folder / "below" / "mine.jsonl", 12)
    wrote = desk.call(*BUILT_IN, "--set", "dataset.path=mine.jsonl", "--output", "below/new.yaml")
    assert wrote.code == 0, wrote.err
    assert desk.call("validate", "below/new.yaml").code == 0


def test_a_recipe_is_checked_before_it_is_written(desk: Desk, training: Path) -> None:
    desk.call(*EXPORT, "--files", "training")
    before = sorted(desk.folder.iterdir())

    def refused(*more: str, to: str = "local/builtin:tiny-llama") -> tuple[int, list[str]]:
        ran = desk.call("retarget", "helper@v1", "--to", to, *more, "--output", "new.yaml")
        assert ran.out == ""
        assert "FIELD" in ran.err, "what changes is told all the same"
        assert "new.yaml" not in ran.err, "nothing is there to look at"
        return ran.code, re.findall(r"error (E\d{3}):", ran.err)

    assert refused(to="vertex/nonsense") == (6, ["E306"])
    assert refused("--set", "gate.metric=nonsense") == (6, ["E850", "E851"])
    write_rows(desk.folder / "few.jsonl", 2)
    few = ("--set", "dataset.path=few.jsonl", "--set", "limits.max_cost=5 USD")
    assert refused(*few, to="openai/gpt-4.1-mini-2025-04-14")[0] == 2
    (desk.folder / "few.jsonl").unlink()
    assert sorted(desk.folder.iterdir()) == before
    assert len(desk.call("status", "--json").json) == 1, "nothing was submitted"


def test_who_writes_a_recipe_needs_no_key_and_who_submits_it_does(desk: Desk, training: Path) -> None:
    desk.call(*EXPORT, "--files", "training")
    there = ("retarget", "helper@v1", "--to", "together")
    wrote = desk.call(*there, "--output", "new.yaml")
    assert (wrote.code, wrote.out.strip()) == (0, "new.yaml")
    assert "warning E412" in wrote.err
    assert desk.call(*there).code == 9


def test_a_dear_recipe_is_not_written(desk: Desk, training: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "nobody's")
    desk.call(*EXPORT, "--files", "training")
    dear = desk.call(
        "retarget", "helper@v1", "--to", "openai", "--set", "limits.max_cost=0 USD", "--output", "new.yaml"
    )
    assert (dear.code, dear.out, (desk.folder / "new.yaml").exists()) == (7, "", False)


def test_a_recipe_in_a_folder_that_is_not_there_is_told_first(desk: Desk, training: Path) -> None:
    desk.call(*EXPORT, "--files", "training")
    assert desk.call(*BUILT_IN, "--output", "nowhere/new.yaml").code_and_fault == (2, "E901")


def test_what_is_written_as_json(desk: Desk, training: Path) -> None:
    desk.call(*EXPORT, "--files", "training")
    wrote = desk.call(*BUILT_IN, "--set", "seed=9", "--output", "new.yaml", "--json")
    assert wrote.code == 0
    assert wrote.json["output"] == "new.yaml"
    assert wrote.json["recipe"] == yaml.safe_load((desk.folder / "new.yaml").read_text())
    assert wrote.json["recipe"]["seed"] == 9
    target = {each["field"]: (each["before"], each["after"]) for each in wrote.json["changes"]}["provider"]
    assert target == ("openai", "local")
    assert all(each["why"] for each in wrote.json["changes"])


def test_an_export_is_taken_in_without_a_key_and_trained_elsewhere(desk: Desk, training: Path) -> None:
    took = desk.call(*EXPORT, "--files", "training")
    assert took.code == 0
    assert "helper@v1" in took.out
    there = desk.call("retarget", "helper@v1", "--to", "local/builtin:tiny-llama", "--output", "new.yaml")
    assert (there.code, there.out.strip()) == (0, "new.yaml")
    assert "the new target" in there.err
    assert desk.call("validate", "new.yaml").code == 0
    again = desk.call("retarget", "helper@v1", "--to", "local/builtin:tiny-llama", "--output", "new.yaml")
    assert (again.code, "exists already" in again.err) == (2, True)
    stood = desk.call("retarget", "helper@v1", "--to", "local", "--output", "stand-in.yaml")
    assert "openai/gpt-oss-20b" in Path(desk.folder / "stand-in.yaml").read_text(), stood.err
    assert desk.call("retarget", "helper@v1", "--to", "vertex").code_and_fault == (6, "E306")
    assert desk.call("retarget", "helper@v1", "--to", "nobody").code_and_fault == (5, "E708")
    assert desk.call(*BUILT_IN, "--set", "provider=openai").code_and_fault == (2, "E901")
    changed = desk.call(*BUILT_IN, "--set", "training.epochs=9", "--output", "changed.yaml")
    assert re.search(r"training\.epochs +\S+ +9 +you say so", changed.err), changed.err
    assert desk.call("retarget", "helper@v9", "--to", "local").code == 5


def test_a_recipe_can_be_written_to_stdout(desk: Desk, training: Path) -> None:
    desk.call(*EXPORT, "--files", "training")
    before = sorted(desk.folder.iterdir())
    wrote = desk.call(*BUILT_IN, "--output", "-")
    assert wrote.code == 0, wrote.err
    assert sorted(desk.folder.iterdir()) == before
    assert yaml.safe_load(wrote.out)["base_model"] == "builtin:tiny-llama"
    assert desk.call(*BUILT_IN, "--output", "-", "--json").json["recipe"] == yaml.safe_load(wrote.out)
    (desk.folder / "new.yaml").write_text(wrote.out)
    assert desk.call("validate", "new.yaml").code == 0


def test_who_retargets_twice_is_told_what_this_command_has(desk: Desk, training: Path) -> None:
    desk.call(*EXPORT, "--files", "training")
    assert desk.call(*BUILT_IN, "-y").code == 0
    again = desk.call(*BUILT_IN, "-y")
    assert "is the same recipe, data and target (queued); `--output FILE`, then `ft submit FILE --force`" in again.err


def test_a_provider_that_has_ended_is_said_to_have(desk: Desk, training: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.call(*EXPORT, "--files", "training")
    ended = desk.call("retarget", "helper@v1", "--to", "mistral")
    assert ended.code_and_fault == (6, "E307")
    assert "Mistral" in ended.err
    assert "ended" in ended.err
    monkeypatch.setenv("FT_SANDBOX", "mistral")
    assert desk.call("retarget", "helper@v1", "--to", "mistral").code_and_fault == (6, "E306"), "a stand-in trains on"


def test_costs_without_a_job(desk: Desk) -> None:
    assert "nothing to compare" in desk.call("costs").err
    assert desk.call("costs", "--json").json == []
