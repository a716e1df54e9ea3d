"""Whether a version can be measured and proved is asked before it is deployed and costs by the hour."""

import pytest

from finetune.errors import EvaluationError, GatewayUnavailable, Problem
from finetune.promoter import MAX_TRIES
from finetune.testing import FakeGateway
from finetune.versions import PromotionState
from tests.support.hosting import HostedStage

GATE = {"metric": "exact_match", "min_gain": 0.05}
OVER = {**GATE, "over": "production"}
NOWHERE = EvaluationError(Problem(code="E861", what="its base answers nowhere"))
AWAY = GatewayUnavailable(Problem(code="E404", what="the provider is away"))
GOLDEN = {"messages": [{"role": "user", "content": "q"}], "max_tokens": 8, "tuned": "I am bot@v1", "other": "I am it"}


class Plain(FakeGateway):
    """It does not answer as the base, as LiteLLM does not."""

    probe_base = None


@pytest.fixture
def stage(tmp_path):
    stage = HostedStage(tmp_path)
    stage.gateways["litellm"] = Plain("litellm")
    yield stage
    stage.close()


def report(**more):
    return {"suite": "held-out", "golden": [GOLDEN], "outcomes": [], **more}


@pytest.mark.parametrize("gate", [GATE, None], ids=["for its gate", "for its proof"])
def test_what_cannot_be_measured_is_not_deployed(stage, gate):
    stage.against = [NOWHERE]
    done = stage.promote(1, gate=gate)
    assert (done.state, done.error["code"], done.gateways) == (PromotionState.FAILED, "E861", ("litellm",))
    assert stage.foreseen == [("bot@v1", gate)]
    assert (stage.server.requests, stage.measured, stage.promotions.placed()) == (0, [], [])


def test_callers_go_on_as_they_were(stage):
    stage.reports = [report()]
    assert stage.promote(1).state is PromotionState.LIVE
    stage.against = [NOWHERE]
    assert stage.promote(2, gate=GATE).state is PromotionState.FAILED
    assert (stage.costing, stage.traffic.shares) == ([stage.name(1)], {1: 1.0})
    assert list(stage.gateways["litellm"].shares.values()) == [1.0]


def test_consent_comes_before_any_question(stage):
    assert stage.promote(1, gate=GATE, max_hosting="1 USD").error["code"] == "E843"
    assert stage.foreseen == []


def test_it_is_asked_once_however_long_the_deployment_takes(stage):
    stage.sandbox.deployments.looks, stage.reports = 5, [report()]
    assert stage.promote(1, gate=GATE).state is PromotionState.LIVE
    assert stage.foreseen == [("bot@v1", GATE)]


def test_one_that_was_measured_over_its_base_needs_nothing_more_for_its_proof(stage):
    stage.models.add_report("bot", 1, report(), stage.clock.now())
    assert stage.promote(1).state is PromotionState.LIVE
    assert (stage.foreseen, stage.measured) == ([], [])


def test_one_that_was_measured_over_another_does(stage):
    stage.models.add_report("bot", 1, report(over="production"), stage.clock.now())
    stage.against = [NOWHERE]
    assert stage.promote(1).error["code"] == "E861"


def test_a_gateway_that_answers_as_the_base_proves_without_a_measurement(stage):
    stage.gateways["litellm"] = FakeGateway("litellm")
    assert stage.promote(1).state is PromotionState.LIVE
    assert stage.foreseen == []


def test_a_provider_that_is_away_is_asked_again(stage):
    stage.against, stage.reports = [AWAY, AWAY], [report()]
    done = stage.promote(1, gate=GATE)
    assert (done.state, len(stage.foreseen)) == (PromotionState.LIVE, 3)
    stage.against = [AWAY] * MAX_TRIES
    assert stage.promote(2, gate=GATE).error["code"] == "E404"
    assert stage.costing == [stage.name(1)]


def test_over_another_version_the_proof_tells_it_from_that_one(stage):
    """Its base answers nowhere, so it cannot be told from that."""
    stage.reports = [report()]
    stage.promote(1)
    gate_only = []

    def measure(model, gate):
        gate_only.append(gate)
        if gate is None:
            raise NOWHERE
        made = report(over="production", golden=[{**GOLDEN, "tuned": "I am bot@v2", "other": "I am bot@v1"}])
        stage.models.add_report("bot", 2, made, stage.clock.now())
        return [made]

    stage._measure = measure
    stage.promoter = stage.another("w2")
    done = stage.promote(2, gate=OVER)
    assert (done.state, gate_only) == (PromotionState.LIVE, [OVER, None])
    assert "not measured: its base answers nowhere" in [note["text"] for note in done.notes]
    assert done.evidence["litellm"]["against"] == "golden answers and another version's"

    stage.clock.sleep(1)
    there = stage.gateways["litellm"]
    stage.run(stage.begin(2, gate=OVER, alias="staging"), until=PromotionState.PROVING)
    (entry,) = [one for one in there.entries if "staging" in one]
    there.says[entry] = "I am bot@v1"
    (promotion,) = stage.promotions.recent("bot", version=2)[:1]
    assert stage.run(promotion).error["code"] == "E831"
