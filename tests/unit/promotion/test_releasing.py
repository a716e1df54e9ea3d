"""What users ask of versions: the way back, where one comes from, what differs."""

from dataclasses import replace

import pytest

from finetune.errors import NotFound
from finetune.promotions import Wanted
from finetune.versions import PromotionState
from tests.support.jobs import RECIPE, sqlite
from tests.support.promotions import Stage

GATED = {**RECIPE, "gate": {"metric": "exact_match"}}


@pytest.fixture
def stage(tmp_path):
    stage = Stage(sqlite(tmp_path))
    yield stage
    stage.close()


def rolled_back(stage, alias="production"):
    stage.clock.sleep(1)
    return stage.run(stage.releasing.roll_back("bot", alias, by="me"))


def test_a_roll_back_restores_what_was(stage):
    stage.promote(1)
    stage.promote(2)
    log = stage.gateways["litellm"].log
    before = len(log)
    done = rolled_back(stage)
    assert done.state is PromotionState.LIVE
    assert done.ref == "bot@v1"
    assert stage.shares == {"v1": 1.0, "v2": 0.0}
    assert stage.traffic.shares == {1: 1.0}
    assert [stage.status(version) for version in (1, 2)] == ["live", "verified"]
    # One change at the gateway: the version had been kept there.
    assert len(log) == before + 1


def test_rolled_back_twice_it_is_where_it_was(stage):
    for version in (1, 2):
        stage.promote(version)
    rolled_back(stage)
    assert stage.releasing.back("bot").version == 2
    rolled_back(stage)
    assert stage.traffic.shares == {2: 1.0}


def test_a_canary_goes_back_to_the_version_beside_it(stage):
    stage.promote(1)
    stage.promote(2)
    canary = stage.begin(3, steps=(0.1, 0.5, 1.0))
    stage.promoter.advance(canary.id)
    assert stage.shares["v3"] == 0.1
    assert rolled_back(stage).ref == "bot@v2"
    assert stage.shares["v2"] == 1.0
    assert stage.promotions.get(canary.id).state is PromotionState.SUPERSEDED
    # A canary that was taken back is no earlier state of the alias.
    assert stage.releasing.back("bot").version == 1


def test_what_gateways_have_forgotten_is_registered_again(stage):
    stage.promote(1)
    stage.promote(2)
    for there in stage.gateways.values():
        for entry in [entry for entry in there.entries if "v1" in entry]:
            there.unregister(entry)
    assert rolled_back(stage).state is PromotionState.LIVE
    assert stage.shares["v1"] == 1.0


@pytest.mark.parametrize("promoted", [0, 1])
def test_there_may_be_nothing_to_go_back_to(stage, promoted):
    if promoted:
        stage.promote(1)
    with pytest.raises(NotFound, match="E835"):
        stage.releasing.roll_back("bot", "production", by="me")


def test_the_undo_is_told_only_where_there_is_one(stage):
    assert stage.releasing.undo(stage.promote(1)) is None
    assert stage.releasing.undo(stage.promote(2)) == "ft rollback bot"
    assert stage.releasing.undo(stage.promote(1, alias="staging")) is None
    assert stage.releasing.undo(stage.promote(2, alias="staging")) == "ft rollback bot --alias staging"


@pytest.mark.parametrize("over", ["base", "production", "bot@v1"])
def test_what_a_user_compares_with_goes_with_the_promotion(stage, over):
    stage.promote(1)
    stage.trained("ft_4", recipe=GATED)
    promotion = stage.releasing.promote("bot@v4", Wanted(over=over), by="me")
    assert (promotion.gate["over"], promotion.gate["metric"]) == (over, "exact_match")


def test_what_is_compared_with_has_to_be_there(stage):
    stage.trained("ft_4", recipe=GATED)
    with pytest.raises(NotFound, match="bot@v9"):
        stage.releasing.promote("bot@v4", Wanted(over="v9"), by="me")
    assert stage.releasing.promotions("bot@v4") == []


def test_promote_goes_where_the_alias_is_served(stage):
    stage.promote(1)
    promotion = stage.releasing.promote("bot@v2", Wanted(), by="me")
    assert promotion.gateways == ("vllm", "litellm")
    assert stage.run(promotion).state is PromotionState.LIVE
    assert stage.releasing.promote("bot@v2", Wanted(alias="staging"), by="me").gateways == ()


def report(value, suite="held-out"):
    return {"suite": suite, "outcomes": [{"metric": "exact_match", "tuned": {"value": value}, "gain": {"value": 0.2}}]}


def test_what_differs(stage):
    stage.models.add_report("bot", 1, report(0.5), stage.clock.now())
    stage.models.add_report("bot", 2, report(0.6), stage.clock.now())
    one, two = (stage.registry.version(f"bot@v{version}") for version in (1, 2))
    found = {field: (was, now) for field, was, now in stage.releasing.diff(one, two)}
    assert found["held-out.exact_match"] == (0.5, 0.6)
    assert found["artifact.digest"] == ("0", "1")
    assert "recipe.base_model" not in found
    assert stage.releasing.diff(one, one) == []
    assert stage.releasing.headlines([one, two]) == {
        "bot@v1": "exact_match 0.50 (+0.20)",
        "bot@v2": "exact_match 0.60 (+0.20)",
    }


def test_where_a_version_comes_from(stage):
    found = stage.releasing.lineage(stage.registry.version("bot@v1"))
    assert (found["job"], found["target"], found["data"]["digest"]) == ("ft_1", "fake/builtin:tiny-llama", "d")
    assert found["recipe"]["dataset"] == {"path": "data.jsonl"}


def test_where_a_version_lies_is_told_and_nothing_else_of_its_artifact(stage):
    one = stage.registry.version("bot@v1")
    known = {"path": "/a", "digest": "0", "uri": "s3://box/ft/0", "gone": "2027-01-01", "model": "m"}
    found = stage.releasing.lineage(replace(one, artifact={**known, "endpoint": "e"}))
    assert found["artifact"] == known
    assert "uri" not in stage.releasing.lineage(one)["artifact"]


def test_the_card_of_a_version(stage):
    stage.promote(1)
    stage.promote(2, steps=(0.1, 1.0))
    card = stage.releasing.card(stage.registry.version("bot@v2"))
    assert [(each["alias"], each["share"]) for each in card["traffic"]] == [("production", 1.0)]
    assert card["gateways"] == ["litellm", "vllm"]
    assert [one.state for one in card["promotions"]] == ["live"]
