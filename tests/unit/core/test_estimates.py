"""What a recipe asks of memory, what is said where that is too little, and how an estimate is kept."""

import json
from pathlib import Path

import pytest

from finetune.errors import UsageError
from finetune.estimates import Estimate, from_row, needs, tight, to_row, work_of
from finetune.memory import Kind, Need, read
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


def test_it_is_kept_as_json():
    both = Estimate(seconds=(1.26, 2.0), memory=(10, 20))
    row = json.loads(json.dumps(to_row(both)))
    assert row == {"seconds": {"low": 1.3, "high": 2.0}, "memory_bytes": {"low": 10, "high": 20}}
    assert from_row(row) == Estimate(seconds=(1.3, 2.0), memory=(10, 20))
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
