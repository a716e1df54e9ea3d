"""estimate: what is shown of memory, tokens and time; and cards that are too small, under `auto` too."""

import json

import pytest

from tests.cli.desk import Desk
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
    assert "none of this kind has trained here yet" in desk.call("estimate", "recipe.yaml").out
    desk.ended()
    monkeypatch.setenv("FT_GPU_WATTS", "500")
    monkeypatch.setenv("FT_KWH_USD", "0.2")
    found = desk.call("estimate", "recipe.yaml", "--json").json
    assert found["seconds"] is not None
    assert found["cost_usd"] is not None
    assert "0.1 an hour" in found["cost_basis"]
    assert " USD (" in desk.call("estimate", "recipe.yaml").out


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
