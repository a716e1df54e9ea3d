"""estimate: what is shown of memory, tokens and time; and cards that are too small, under `auto` too."""

import json
from datetime import timedelta
from typing import Any

import pytest

from finetune.placement import Site
from finetune.store import SqlPlacements, SqlRuns
from tests.cli.desk import Desk
from tests.support.hub import Hub
from tests.unit.memory.test_shape import LLAMA

LAYERS = ("--set", "base_model=./layers")


@pytest.fixture
def layers(desk: Desk) -> Desk:
    """With a folder that says what Llama 3.1 8B is like, and no weights."""
    (desk.folder / "layers").mkdir()
    (desk.folder / "layers" / "config.json").write_text(json.dumps(LLAMA))
    return desk


def test_memory_is_shown_by_part_and_by_kind(layers: Desk) -> None:
    ran = layers.call("estimate", "recipe.yaml", *LAYERS, "--set", "resources.gpus=1")
    assert ran.code == 0
    lora, qlora, full = (next(line for line in ran.out.splitlines() if line.startswith(f"{kind} "))
                         for kind in ("lora", "qlora", "full"))  # fmt: skip
    assert "16.1 GB" in lora
    assert "671.1 MB" not in lora
    assert "0.7 GB" in lora
    assert "a card of 24GB" in lora
    assert "RECOMPUTED" in ran.out
    assert "local.gradient_checkpointing" in ran.err
    always = layers.call(
        *("estimate", "recipe.yaml", *LAYERS, "--set", "resources.gpus=1"),
        *("--set", "local.gradient_checkpointing=true", "--json"),
    ).json
    both = layers.call("estimate", "recipe.yaml", *LAYERS, "--set", "resources.gpus=1", "--json").json
    made_again, kept = (found["needs"][0]["bytes"] for found in (always, both))
    assert made_again["again"] is None
    assert made_again["least"] == kept["again"] < kept["least"]
    assert made_again["low"] == kept["low"] == kept["weights"] + kept["trained"] + kept["again"]
    assert "a card of 12GB" in qlora or "a card of 8GB" in qlora
    assert "a card of 141GB" in full or "a card of 180GB" in full
    wide = layers.call("estimate", "recipe.yaml", *LAYERS, "--set", "resources.gpus=0", "--json").json
    lora = wide["needs"][0]
    assert (lora["kind"], lora["bytes"]["weights"]) == ("lora", 4 * 8_030_261_248)
    assert wide["memory_bytes"] == {"low": lora["bytes"]["low"], "high": lora["bytes"]["high"]}
    assert wide["tokens"]["longest_row"] > 0


def test_a_model_that_nobody_has_looked_at_is_not_guessed(desk: Desk) -> None:
    found = desk.call("estimate", "recipe.yaml", "--set", "base_model=meta/unheard-of", "--json").json
    assert found["needs"] == []
    assert "meta/unheard-of" in found["needs_unknown"]
    ran = desk.call("estimate", "recipe.yaml", "--set", "base_model=meta/unheard-of")
    assert (ran.code, "not known" in ran.out) == (0, True)


def test_a_model_that_nobody_gives_away_has_no_memory_of_ours_to_fit(desk: Desk) -> None:
    closed = ("--set", "provider=openai", "--set", "base_model=gpt-4o-mini")
    found = desk.call("estimate", "recipe.yaml", *closed, "--json").json
    assert found["needs_unknown"] == "the catalogue knows no weights of gpt-4o-mini on the hub"


def test_memory_that_is_too_little_is_a_warning(layers: Desk) -> None:
    little = ("--set", "resources.gpus=1", "--set", "resources.memory=8GB")
    ran = layers.call("estimate", "recipe.yaml", *LAYERS, *little)
    assert (ran.code, "E321" in ran.err) == (0, True)
    assert "resources.memory is 8GB" in ran.err
    planned = layers.call("plan", "recipe.yaml", *LAYERS, *little, "--json").json
    local = next(each for each in planned if each["target"] == "local")
    assert (local["verdict"], [each["code"] for each in local["reasons"]]) == ("chosen", ["E321"])


def test_auto_does_not_choose_cards_that_cannot_hold_the_weights(layers: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    auto = (*LAYERS, "--set", "provider=auto")

    def local() -> dict[str, object]:
        planned = layers.call("plan", "recipe.yaml", *auto, "--json").json
        return next(each for each in planned if each["target"] == "local")

    monkeypatch.setenv("FT_GPUS", "1x80GB")
    assert local()["verdict"] == "chosen"
    monkeypatch.setenv("FT_GPUS", "2x16GB")
    refused = local()
    assert refused["verdict"] == "no"
    assert "the largest card here has 16GB" in json.dumps(refused["reasons"])
    # What was asked for by its name is the user's own.
    named = layers.call("plan", "recipe.yaml", *LAYERS, "--json").json
    assert next(each for each in named if each["target"] == "local")["verdict"] == "chosen"


def test_time_and_cost_come_from_what_has_run_here(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    before = desk.call("estimate", "recipe.yaml").out
    assert "time    not known: the speed of processors is not published; a first training on few rows" in before
    desk.ended()
    monkeypatch.setenv("FT_GPU_WATTS", "500")
    monkeypatch.setenv("FT_KWH_USD", "0.2")
    found = desk.call("estimate", "recipe.yaml", "--json").json
    assert (found["seconds_by"], found["seconds"] is not None) == ("trainings", True)
    assert found["seconds_basis"] == "as one of this model has taken"
    assert found["cost_usd"] is not None
    assert "0.1 an hour" in found["cost_basis"]
    assert " USD (" in desk.call("estimate", "recipe.yaml").out


def test_time_on_a_card_is_told_before_anything_has_trained(layers: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def local(*more: str) -> dict[str, Any]:
        planned = layers.call("plan", "recipe.yaml", *LAYERS, *more, "--json").json
        return next(each for each in planned if each["target"] == "local")

    monkeypatch.setenv("FT_GPUS", "H100-SXM:1x80GB")
    monkeypatch.setenv("FT_GPU_HOUR_USD", "2")
    found = local()
    assert found["seconds_by"] == "card"
    # No more than its start, to a minute; the 12 rows take no time.
    assert 4 <= found["seconds"]["low"] < 6 < 60 < found["seconds"]["high"] < 80
    assert found["cost_basis"] == "1 x 2 an hour, by the card's published speed"
    assert found["cost_usd"] == {"low": "0.01", "high": "0.04"}
    # One pass through 32 layers and back for each of 3 steps, and what the tokens take: half a second an epoch or more.
    assert local("--set", "training.epochs=102")["seconds"]["high"] > found["seconds"]["high"] + 50
    shown = layers.call("plan", "recipe.yaml", *LAYERS).out
    assert "local: time by the published speed of H100-SXM, of which trainings reach 20% to 60%" in shown
    assert "(by the published speed of H100-SXM" in layers.call("estimate", "recipe.yaml", *LAYERS).out

    monkeypatch.setenv("FT_GPUS", "T4:1x16GB")
    unknown = local()
    assert (unknown["seconds"], unknown["seconds_by"], unknown["cost_usd"]) == (None, None, None)
    assert unknown["seconds_basis"].startswith("the speed of T4 in bf16 is not in the catalogue; ")
    assert "local: its time is not known: the speed of T4" in layers.call("plan", "recipe.yaml", *LAYERS).out


def test_a_training_that_has_ended_goes_before_what_the_maker_says(
    layers: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FT_GPUS", "H100-SXM:1x80GB")
    first = layers.ended(args=LAYERS)
    assert first.estimate is not None
    assert first.estimate["seconds"]["by"] == "card"
    second = layers.submit(*LAYERS, "--force")
    with layers.world() as world:
        kept = world.jobs.get(second).estimate
    assert kept is not None
    assert kept["seconds"]["by"] == "trainings"
    held = next(each for each in layers.call("costs", "--json").json if each["job"] == first.id)
    assert held["seconds"]["low"] == first.estimate["seconds"]["low"]
    assert held["seconds"]["actual"] > 0


def test_a_processor_tells_nothing_of_cards(layers: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    job = layers.ended(args=LAYERS)
    with layers.world() as world:
        now, runs, minute = world.clock.now(), SqlRuns(world.database), timedelta(minutes=1)
        runs.add_run(str(job.run_key), {}, now)
        run = SqlPlacements(world.database, Site("without cards")).claim_run(now, minute)
        assert run is not None
        runs.update_run(run, now, card_s=720.0, state="succeeded")

    def told() -> tuple[str, dict[str, int]]:
        found = layers.call("estimate", "recipe.yaml", *LAYERS, "--json").json
        return found["seconds_by"], found["seconds"]

    assert told() == ("trainings", {"low": 720, "high": 720})
    monkeypatch.setenv("FT_GPUS", "H100-SXM:1x80GB")
    by, seconds = told()
    assert (by, seconds["high"] < 100) == ("card", True)


def test_a_model_that_is_not_here_is_told_by_its_config_on_the_hub(desk: Desk) -> None:
    name = ("--set", "base_model=maker/model")
    with Hub({"maker/model": {"config.json": json.dumps(LLAMA).encode()}}) as hub:
        there = {"HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0", "HF_HOME": str(desk.folder / "hub")}
        there["FT_GPUS"] = "H100-SXM:1x80GB"
        without = desk.run("estimate", "recipe.yaml", *name, "--json", **there).json
        assert (without["seconds"], hub.requests) == (None, [])
        assert without["seconds_basis"].startswith("its layers are not known: ")
        found = desk.run("estimate", "recipe.yaml", *name, "--fetch", "--json", **there).json
    assert (found["seconds_by"], found["needs_unknown"]) == ("card", None)
    assert found["memory_bytes"] == {
        "low": found["needs"][0]["bytes"]["low"],
        "high": found["needs"][0]["bytes"]["high"],
    }


def test_what_is_not_there_is_told(desk: Desk) -> None:
    assert desk.call("estimate", "nowhere.yaml").code == 2
    assert desk.call("estimate", "recipe.yaml", "--set", "provider=nope").code_and_fault == (5, "E708")
    assert desk.call("estimate", "recipe.yaml", "--set", "provider=anthropic").code == 6


def test_a_job_keeps_what_was_foreseen(layers: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    first = layers.submit(*LAYERS)
    layers.ended()
    monkeypatch.setenv("FT_GPU_HOUR_USD", "2")
    second = layers.submit("--force")
    with layers.world() as world:
        kept = world.jobs.get(first).estimate
        assert kept is not None
        assert kept["memory_bytes"]["low"] > 4 * 8_030_261_248
        assert "seconds" not in kept, "none had trained"
        job = world.jobs.get(second)
    assert job.estimate is not None
    assert job.estimate["seconds"]["low"] > 0
    assert job.cost is not None
    assert job.cost["high"] is not None
