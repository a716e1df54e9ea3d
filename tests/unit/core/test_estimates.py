"""What a recipe asks of memory, what is said where that is too little, and how an estimate is kept."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from finetune.errors import UsageError
from finetune.estimates import Estimate, Rows, by_card, from_row, needs, tight, to_row, weights_alone, work_of
from finetune.memory import Kind, Need, Unknown, read
from finetune.memory.speed import Fleet, Load, seconds
from finetune.placement import Device
from finetune.settings import from_environment
from finetune.spec import parse
from tests.unit.memory.test_shape import LLAMA, MIXTRAL

TEXT = """\
version: 1
name: bot
base_model: meta-llama/Llama-3.1-8B
dataset: {path: data.jsonl}
"""
NEED = Need(kind=Kind.LORA, weights=16 * 10**9, trained=10**9, least=3 * 10**9, most=20 * 10**9)
GB24, GB16 = 22_888, 15_258


def recipe(more=""):
    return parse(TEXT + more, Path("recipe.yaml"), ()).recipe


def test_what_the_trainer_does_by_a_recipe():
    plain = work_of(recipe(), 5000, cards=True)
    assert (plain.precision, plain.rank, plain.modules, plain.dropout) == ("bf16", 16, None, False)
    assert (plain.longest, plain.rows, plain.at_once, plain.sequences) == (2048, 8, None, 1)
    assert work_of(recipe(), 100, cards=False).precision == "fp32"
    assert work_of(recipe(), 100, cards=True).longest == 100
    said = work_of(
        recipe("method: dpo\nlora: {r: 4, dropout: 0.1, target_modules: [q_proj]}\n"
               "local: {micro_batch_size: 2, precision: fp32}\ntraining: {batch_size: 4}\n"),
        100,
        cards=True,
    )  # fmt: skip
    assert (said.precision, said.rank, said.modules, said.dropout) == ("fp32", 4, ("q_proj",), True)
    assert (said.rows, said.at_once, said.sequences) == (4, 2, 2)
    again = {"auto": None, "true": True, "false": False}
    for text, expected in again.items():
        asked = recipe(f"local: {{gradient_checkpointing: {text}}}\n")
        assert work_of(asked, 100, cards=True).recompute is expected


def test_each_kind_or_why_not():
    work = work_of(recipe(), 100, cards=True)
    assert {kind for kind, each in needs(read(LLAMA), work).items() if isinstance(each, Need)} == set(Kind)
    experts = needs(read(MIXTRAL), work)
    assert "4 bits" in experts[Kind.QLORA]
    assert isinstance(experts[Kind.LORA], Need)


def test_memory_that_is_too_little_is_told():
    assert tight(recipe("resources: {memory: 24GB}\n"), NEED, ()) is None
    asked = tight(recipe("resources: {memory: 16GB}\n"), NEED, ())
    assert (asked.code, asked.field, asked.level) == ("E321", "resources.memory", "warning")
    assert "about 20GB at least" in asked.what
    assert "memory: 37GB" in asked.fix
    # Nobody knows of a card: nothing is said.
    assert tight(recipe(), NEED, ()) is None
    assert tight(recipe(), NEED, (GB16, GB24)) is None
    small = tight(recipe(), NEED, (GB16, GB16))
    assert (small.field, "16GB" in small.what) == ("base_model", True)
    assert tight(recipe("resources: {gpus: 0}\n"), NEED, (GB16,)) is None, "on the processor"
    # Made again it would fit, or come nearer.
    kept = tight(recipe("local: {gradient_checkpointing: false}\n"), NEED, (GB16,))
    assert "gradient_checkpointing: auto" in kept.fix
    assert "gradient_checkpointing" not in small.fix
    assert tight(recipe(), replace(NEED, again=10**8), (GB16 + 3000,)) is None


def test_this_machine_is_held_against_what_its_processor_would_train():
    assert tight(recipe(), NEED, (), 20_000) is None
    small = tight(recipe(), NEED, (), GB16)
    assert (small.code, small.field) == ("E321", "base_model")
    assert "this machine has 16GB of memory" in small.what
    assert "about 20GB at least" in small.what
    assert "precision: bf16" in small.fix
    assert "on a card" in small.fix
    halved = tight(recipe("local: {precision: bf16}\n"), NEED, (), GB16)
    assert "precision: bf16" not in halved.fix


def test_without_layers_the_weights_are_the_least():
    count = 671 * 10**9
    assert weights_alone(recipe(), count, cards=True).low == 2 * count
    assert weights_alone(recipe(), count, cards=False).low == 4 * count
    assert weights_alone(recipe("local: {precision: bf16}\n"), count, cards=False).low == 2 * count


ROWS = Rows(train=100, held_back=10, tokens=lambda: (40_000, 50_000), longest=lambda: 900)
SPEEDS = {"fast": 1000.0, "slow": 100.0}
FAST, SLOW, OTHER = (Device(name, name, 81_559) for name in ("fast", "slow", "other"))


def foretold(more="", cards=(FAST,), rows=ROWS, layers=lambda: read(LLAMA)):
    return by_card(recipe(more), layers, cards, SPEEDS.get, rows)


def test_time_by_the_published_speed_of_a_card():
    """What goes into the arithmetic; the arithmetic itself stands in tests/unit/memory/test_speed.py."""
    found = foretold("training: {epochs: 2}\n")
    work = work_of(recipe(), 900, cards=True)
    load = Load(rows=100, held_back=10, epochs=2, tokens=(40_000, 50_000))
    assert found.seconds == seconds(read(LLAMA), work, load, Fleet(count=1, tflops=(1000.0, 1000.0)))
    assert found.by == "card"
    assert "by the published speed of fast, of which trainings reach 20% to 60%; what ends" in found.basis
    pairs = foretold("training: {epochs: 2}\nmethod: dpo\n").seconds
    assert pairs[0] - 4 > 1.4 * (found.seconds[0] - 4), "the base model is asked too"
    two = foretold("training: {epochs: 2}\nresources: {gpus: 2}\n", cards=(FAST, FAST))
    assert two.seconds[0] - 4 == pytest.approx((found.seconds[0] - 4) / 2)


@pytest.mark.parametrize(
    ("more", "gigabytes", "longer", "told"),
    [
        ("", 80, (False, False), ""),
        ("", 24, (False, True), ", at most with activations made again"),
        # Weights and adapter alone take 16.7 GB, and a row of mean length 4 more.
        ("", 17, (True, True), ", with activations made again, which takes about half as long again"),
        ("local: {gradient_checkpointing: true}\n", 80, (True, True), ", with activations made again, which takes"),
        ("local: {gradient_checkpointing: false}\n", 17, (False, False), ""),
    ],
)
def test_time_says_that_activations_are_made_again(more, gigabytes, longer, told):
    found = foretold(more, (Device("fast", "fast", gigabytes * 10**9 >> 20),))
    kept = foretold("local: {gradient_checkpointing: false}\n")
    assert tuple(one > other for one, other in zip(found.seconds, kept.seconds, strict=True)) == longer
    assert f"trainings reach 20% to 60%{told}" in found.basis
    assert ("made again" in found.basis) is bool(told)


def test_of_several_cards_the_range_has_the_fastest_and_the_slowest():
    fast, slow, both = (foretold(cards=cards).seconds for cards in ((FAST,), (SLOW,), (FAST, SLOW)))
    assert both == (fast[0], slow[1])
    small = Device("slow", "slow", 16_000)
    assert foretold("resources: {memory: 24GB}\n", cards=(FAST, small)).seconds == fast, "it cannot go there"


@pytest.mark.parametrize(
    ("more", "cards", "why"),
    [
        ("", (), "the speed of processors is not published"),
        ("resources: {gpus: 0}\n", (FAST,), "the speed of processors is not published"),
        ("resources: {gpus: 1}\n", (), "no such card is known here"),
        ("resources: {memory: 180GB}\n", (FAST,), "no such card is known here"),
        ("local: {precision: fp32}\n", (FAST,), "published speeds are those of bf16"),
        ("", (FAST, OTHER), "the speed of other in bf16 is not in the catalogue"),
    ],
)
def test_what_is_not_published_is_not_guessed_and_no_row_is_read_for_it(more, cards, why):
    def unread():
        raise AssertionError("rows are read in vain")

    found = foretold(more, cards, Rows(train=100, held_back=0, tokens=unread, longest=unread), layers=unread)
    assert (found.seconds, found.by) == (None, None)
    assert found.basis == f"{why}; a first training on few rows (`ft data split`) will tell"


def test_of_experts_no_share_is_published():
    found = foretold(layers=lambda: read(MIXTRAL))
    assert found.seconds is None
    assert "models with experts" in found.basis


def test_of_layers_that_nobody_knows_no_time_is_told():
    def unknown():
        raise Unknown("models of the kind bert are not known")

    found = foretold(layers=unknown)
    assert (found.seconds, found.basis) == (None, "its layers are not known: models of the kind bert are not known")


def test_it_is_kept_as_json():
    both = Estimate(seconds=(1.26, 2.0), seconds_by="card", memory=(10, 20))
    row = json.loads(json.dumps(to_row(both)))
    assert row == {"seconds": {"low": 1.3, "high": 2.0, "by": "card"}, "memory_bytes": {"low": 10, "high": 20}}
    assert from_row(row) == Estimate(seconds=(1.3, 2.0), seconds_by="card", memory=(10, 20))
    # As it was kept before anybody asked what told it.
    assert from_row({"seconds": {"low": 1.3, "high": 2.0}}) == Estimate(seconds=(1.3, 2.0))
    assert to_row(Estimate()) is None
    assert from_row(None) == from_row({}) == Estimate()


def hour(**variables):
    return from_environment({"FT_HOME": "ft", **variables}).card_hour_usd


def test_power_is_part_of_what_an_hour_costs():
    assert hour() is None
    assert hour(FT_GPU_HOUR_USD="2.5") == 2.5
    power = {"FT_GPU_WATTS": "700", "FT_KWH_USD": "0.30"}
    assert str(hour(**power)) == "0.21"
    assert str(hour(FT_GPU_HOUR_USD="2", **power)) == "2.21"


@pytest.mark.parametrize(
    ("variables", "what"),
    [
        ({"FT_GPU_WATTS": "700"}, "FT_GPU_WATTS is set, and FT_KWH_USD is not"),
        ({"FT_KWH_USD": "0.3"}, "FT_KWH_USD is set, and FT_GPU_WATTS is not"),
        ({"FT_KWH_USD": "cheap", "FT_GPU_WATTS": "7"}, "FT_KWH_USD is 'cheap'"),
        ({"FT_KWH_USD": "0.3", "FT_GPU_WATTS": "-7"}, "FT_GPU_WATTS is '-7'"),
        ({"FT_GPU_HOUR_USD": "1e9"}, "FT_GPU_HOUR_USD is '1e9'"),
    ],
)
def test_what_is_no_price_is_told(variables, what):
    with pytest.raises(UsageError) as told:
        hour(**variables)
    (problem,) = told.value.problems
    assert (problem.code, what in problem.what, bool(problem.why), bool(problem.fix)) == ("E902", True, True, True)
