"""What a promotion is to do: the recipe's word, a user's word, what was there before."""

from datetime import UTC, datetime

import pytest

from finetune.errors import UsageError
from finetune.promotions import Wanted, begun, steps
from finetune.spec import Recipe
from tests.support.jobs import RECIPE

NOW = datetime(2027, 1, 1, tzinfo=UTC)
SAID = {"alias": "production", "gateways": ["embedded", "litellm"], "canary": 0.1, "canary_pause": "10m"}
GATE = {"metric": "exact_match", "min_gain": 0.05, "guards": ["manners.yaml"]}


def promotion(wanted=None, there=(), **more):
    recipe = Recipe.model_validate({**RECIPE, **more})
    return begun(recipe, wanted or Wanted(), 3, promotion_id="pr_1", by="me", now=NOW, there=there)


@pytest.mark.parametrize(
    ("canary", "shares"),
    [(None, (1.0,)), (1.0, (1.0,)), (0.1, (0.1, 0.5, 1.0)), (0.5, (0.5, 1.0)), (0.8, (0.8, 1.0))],
)
def test_shares_grow_to_all(canary, shares):
    assert steps(canary) == shares


def test_the_recipe_says_how():
    one = promotion(register=SAID, gate=GATE)
    assert (one.ref, one.alias, one.gateways) == ("bot@v3", "production", ("embedded", "litellm"))
    assert (one.steps, one.pause_s) == ((0.1, 0.5, 1.0), 600.0)
    assert one.gate["guards"] == ["manners.yaml"]
    assert one.gate["sample_size"] == 200
    assert one.due_at == NOW


def test_a_user_says_otherwise():
    wanted = Wanted(gateways=("vllm",), canary=0.5, pause_s=1, gate=False)
    one = promotion(wanted, register=SAID, gate=GATE)
    assert (one.gateways, one.steps, one.pause_s, one.gate) == (("vllm",), (0.5, 1.0), 1.0, None)


def test_a_user_compares_with_another_model():
    gate = promotion(Wanted(over="production"), gate={**GATE, "over": "base"}).gate
    assert gate == {**promotion(gate=GATE).gate, "over": "production"}


@pytest.mark.parametrize(
    ("wanted", "recipe", "why"),
    [
        (Wanted(over="base"), {}, "the recipe of bot has no gate"),
        (Wanted(over="base", gate=False), {"gate": GATE}, "--no-gate leaves the recipe's gate out"),
    ],
)
def test_without_a_gate_nothing_is_compared(wanted, recipe, why):
    with pytest.raises(UsageError, match="E901") as refused:
        promotion(wanted, **recipe)
    assert refused.value.problems[0].why == why


def test_of_another_alias_the_recipe_says_nothing():
    one = promotion(Wanted(alias="staging"), register=SAID, gate=GATE)
    assert (one.gateways, one.steps) == ((), (1.0,))
    assert one.gate is not None, "a gate is of the model, not of the alias"


def test_where_the_alias_is_served_already():
    assert promotion(there=("litellm",)).gateways == ("litellm",)
    assert promotion(there=("litellm",), register=SAID).gateways == ("embedded", "litellm")


@pytest.mark.parametrize("alias", ["v1", "v99", "Production", "", "a b", "-x", "x" * 65, "a@b"])
def test_what_cannot_be_an_alias(alias):
    with pytest.raises(UsageError, match="E703"):
        promotion(Wanted(alias=alias))
