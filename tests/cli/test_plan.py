"""plan, retarget, import and costs from the command line: what is shown, which exit code, and what is refused."""

import json
from pathlib import Path

from finetune.catalogue import load
from tests.cli.desk import Desk, write_rows

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


def test_exit_codes_tell_what_is_in_the_way(desk: Desk) -> None:
    write_rows(desk.folder / "data.jsonl", 40)
    mini = ("--set", "provider=openai", "--set", "base_model=gpt-4o-mini")
    assert desk.call("plan", "recipe.yaml", *mini).code == 0
    dear = desk.call("plan", "recipe.yaml", *mini, "--set", "limits.max_cost=0 USD")
    assert (dear.code, "no target takes this recipe" in dear.out) == (7, True)
    assert "limits.max_cost is 0" in dear.out
    assert desk.call("plan", "recipe.yaml", "--set", "provider=anthropic").code == 6


def test_a_recipe_or_data_that_is_not_there_is_told(desk: Desk) -> None:
    assert desk.call("plan", "nowhere.yaml").code == 2
    assert desk.call("plan", "recipe.yaml", "--set", "provider=nope").code_and_fault == (5, "E708")
    (desk.folder / "data.jsonl").unlink()
    assert desk.call("plan", "recipe.yaml").code == 2


def test_what_cannot_be_imported_is_told(desk: Desk) -> None:
    assert desk.call("import", "mistral").code_and_fault == (2, "E901")
    assert desk.call("import", "nobody").code_and_fault == (5, "E708")
    (desk.folder / "jobs.json").write_text("[3]")
    assert desk.call("import", "openai", "--from", "jobs.json").code_and_fault == (1, "E416")
    assert desk.call("import", "openai").code == 9, "there is no key"
    (desk.folder / "jobs.json").write_text("[]")
    assert desk.call("import", "openai", "--from", "jobs.json", "--files", "typo").code_and_fault == (2, "E901")


def test_an_export_is_taken_in_without_a_key_and_trained_elsewhere(desk: Desk) -> None:
    files = desk.folder / "training"
    files.mkdir()
    write_rows(files / "file-1.jsonl", 12)
    job = {
        "id": "ftjob-1",
        "model": "gpt-4o-mini-2024-07-18",
        "status": "succeeded",
        "fine_tuned_model": "ft:gpt-4o-mini-2024-07-18:acme:helper:1",
        "training_file": "file-1",
        "created_at": 1_760_000_000,
        "finished_at": 1_760_000_100,
        "method": {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 2}}},
    }
    (desk.folder / "jobs.json").write_text(json.dumps([job]))
    took = desk.call("import", "openai", "--from", "jobs.json", "--files", "training")
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
    assert desk.call("retarget", "helper@v9", "--to", "local").code == 5


def test_costs_without_a_job(desk: Desk) -> None:
    assert "nothing to compare" in desk.call("costs").err
    assert desk.call("costs", "--json").json == []
