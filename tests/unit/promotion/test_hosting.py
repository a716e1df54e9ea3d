"""Versions that cost by the hour once they are deployed: consent first, in the books first, and nothing left behind."""

from decimal import Decimal

import pytest

from finetune.abilities import Hosting
from finetune.errors import GatewayError, UsageError
from finetune.hosting import LONGEST, against
from finetune.promoter import LEASE
from finetune.promotions import Wanted
from finetune.sandbox.azure_deployments import Deployed
from finetune.versions import PromotionState
from tests.support.hosting import AGREED, HostedStage, tuned
from tests.support.promotions import Crash, Said, crash_at

GATE = {"metric": "exact_match", "min_gain": 0.05}


@pytest.fixture
def stage(tmp_path):
    stage = HostedStage(tmp_path)
    yield stage
    stage.close()


def notes(promotion):
    return [note["text"] for note in promotion.notes]


def test_the_whole_way(stage):
    when_measured = []
    measure = stage._measure
    stage._measure = lambda *args: (when_measured.append([*stage.sandbox.deployments.there()]), measure(*args))[1]
    stage.promoter = stage.another("w2")
    done = stage.promote(1, gate=GATE)
    assert (done.state, done.failures) == (PromotionState.LIVE, 0)
    assert done.gateways == ("azure", "litellm")
    assert stage.costing == [stage.name(1)]
    (there,) = stage.sandbox.deployments.there()
    assert (there.model, there.state) == (tuned(1), "Succeeded")
    assert when_measured == [[there]], "nobody can measure what is not deployed"
    (entry,) = stage.gateways["litellm"].entries.values()
    at = entry.upstream
    assert (at.kind, at.model, at.api_base) == ("openai", stage.name(1), f"{stage.server.url}/openai/v1")
    assert at.key_env == "AZURE_OPENAI_API_KEY"
    told = notes(done)
    assert told.count("bot@v1 is being deployed at azure") == 1
    assert any("1.70 USD an hour, about 1241 USD a month" in note for note in told)
    assert list(done.evidence) == ["litellm"]
    assert stage.sync.look() == []


def test_the_one_before_the_way_back_is_undone(stage):
    for version in (1, 2, 3):
        assert stage.promote(version).state is PromotionState.LIVE
    assert stage.costing == [stage.name(2), stage.name(3)]
    assert stage.status(1) == "retired"


@pytest.mark.parametrize("said", [None, "1.69 USD"])
def test_without_consent_nothing_is_sent(stage, said):
    done = stage.promote(1, max_hosting=said)
    assert (done.state, done.error["code"]) == (PromotionState.FAILED, "E843")
    assert "1.70 USD an hour, about 1241 USD a month" in done.error["what"]
    assert "2026-03-19" in done.error["why"]
    assert '--max-hosting "1.70 USD"' in done.error["fix"]
    assert stage.server.requests == 0
    assert stage.promotions.placed() == []


@pytest.mark.parametrize(
    "environ", [{"AZURE_DEPLOYMENT_SKU": "ProvisionedManaged"}, {"AZURE_HOSTING_USD": "much"}], ids=["sku", "own"]
)
def test_a_price_that_nobody_knows_is_never_agreed_to(tmp_path, environ):
    stage = HostedStage(tmp_path, **environ)
    done = stage.promote(1, max_hosting="999 USD")
    assert done.error["code"] == "E843"
    assert "AZURE_HOSTING_USD" in done.error["fix"]
    assert stage.server.requests == 0
    stage.close()


def test_the_command_is_refused_before_it_begins(stage):
    with pytest.raises(GatewayError, match="E843"):
        stage.releasing.promote("bot@v1", Wanted(), by="me")
    assert stage.promotions.recent("bot") == []
    begun = stage.releasing.promote("bot@v1", Wanted(max_hosting=AGREED), by="me")
    assert begun.max_hosting == AGREED
    assert stage.promotions.get(begun.id).max_hosting == AGREED


def test_what_is_missing_is_told_before_anything_is_sent(tmp_path):
    stage = HostedStage(tmp_path, AZURE_MANAGEMENT_TOKEN="", AZURE_RESOURCE_GROUP="")
    with pytest.raises(GatewayError) as refused:
        stage.releasing.promote("bot@v1", Wanted(max_hosting=AGREED), by="me")
    said = [problem.what for problem in refused.value.problems]
    assert said[0] == "AZURE_RESOURCE_GROUP is not set"
    assert "az account get-access-token" in refused.value.problems[1].fix
    assert stage.server.requests == 0
    stage.close()


def test_without_gateways_nothing_is_deployed(stage):
    assert stage.promote(1, gateways=(), max_hosting=None).state is PromotionState.LIVE
    assert stage.server.requests == 0


def test_a_closed_gate_undoes_the_deployment(stage):
    stage.verdict = Said(False)
    done = stage.promote(1, gate=GATE)
    assert done.state is PromotionState.REFUSED
    assert len(stage.sandbox.deployments.book) == 1
    assert stage.costing == []
    assert stage.promotions.placed() == []


def test_a_later_refusal_undoes_the_deployment(stage):
    stage.gateways["litellm"].faults = ["refused register"]
    assert stage.promote(1).state is PromotionState.FAILED
    assert len(stage.sandbox.deployments.book) == 1
    assert stage.costing == []


def test_a_deployment_that_fails_is_undone(tmp_path):
    stage = HostedStage(tmp_path, suffix="-fail")
    done = stage.promote(1)
    assert (done.state, done.error["code"]) == (PromotionState.FAILED, "E407")
    assert "Failed" in done.error["what"]
    assert len(stage.sandbox.deployments.book) == 1
    assert stage.costing == []
    stage.close()


def test_one_that_never_ends_is_undone_in_time_and_is_no_failure_till_then(stage):
    stage.sandbox.deployments.looks = 10**9
    begun = stage.begin(1)
    stage.promoter.advance(begun.id)
    waits = stage.promotions.get(begun.id)
    assert (waits.state, waits.failures) == (PromotionState.EVALUATING, 0)
    assert waits.due_at > stage.clock.now()
    stage.clock.sleep(LONGEST.total_seconds() - 60)
    stage.promoter.advance(begun.id)
    assert not stage.promotions.get(begun.id).final
    stage.clock.sleep(60)
    stage.promoter.advance(begun.id)
    done = stage.promotions.get(begun.id)
    assert (done.state, done.error["code"]) == (PromotionState.FAILED, "E844")
    assert stage.costing == []
    assert notes(done).count("bot@v1 is being deployed at azure") == 2


def test_what_another_promotion_has_overtaken_costs_nothing_for_long(stage):
    stage.promote(1)
    stage.run(stage.begin(3), until=PromotionState.PROVING)
    stage.clock.sleep(1)
    stage.begin(2, gate=GATE)
    assert stage.costing == [stage.name(1), stage.name(3)]
    drifts = stage.sync.look()
    assert [(drift.gateway, drift.kind) for drift in drifts] == [("azure", "idle"), ("litellm", "idle")]
    assert len(stage.sync.mend(drifts)) == 1, "all gateways of the alias forget it at once"
    assert stage.sync.mend(drifts) == []
    assert stage.costing == [stage.name(1)]
    assert {each.version for each in stage.promotions.placed()} == {1}
    assert [one for one in stage.gateways["litellm"].entries if "v3" in one] == []


def test_what_is_on_its_way_is_left_alone(stage):
    stage.run(stage.begin(1), until=PromotionState.PROVING)
    assert stage.sync.look() == []
    assert stage.sync.mend(stage.sync.look()) == []
    assert stage.costing == [stage.name(1)]


def test_one_that_azure_has_deleted_is_deployed_again_while_it_has_calls(stage):
    stage.promote(1)
    stage.sandbox.deployments.there()[0].until = stage.sandbox.now()
    (drift,) = stage.sync.look()
    assert (drift.gateway, drift.kind) == ("azure", "missing")
    with pytest.raises(GatewayError, match="E844"):
        stage.sync.mend([drift])
    stage.sandbox.deployments.there()[0].looks = 0
    assert stage.sync.mend(stage.sync.look()) == []
    assert stage.costing == [stage.name(1)]
    assert stage.sync.look() == []


def test_what_is_in_no_book_is_told_and_left_alone(stage):
    stage.promote(1)
    theirs = {"tags": {"ft_model": "other-v1-abc"}, "properties": {"model": {"name": "m"}}, "sku": {}}
    nobody = {"properties": {"model": {"name": "n"}}, "sku": {}}
    for name, body in (("other-v1-abc", theirs), ("plain", nobody)):
        stage.sandbox.deployments.book.append(Deployed(name=name, model="m", body=body, since=0.0))
    (drift,) = stage.sync.look()
    assert (drift.kind, drift.id) == ("foreign", "other-v1-abc")
    assert stage.sync.mend([drift]) == []
    assert len(stage.costing) == 3


def test_a_roll_back_finds_the_one_before_still_there(stage):
    stage.promote(1)
    stage.promote(2)
    made = len(stage.sandbox.deployments.book)
    stage.clock.sleep(1)
    assert stage.run(stage.releasing.roll_back("bot", by="me")).state is PromotionState.LIVE
    assert len(stage.sandbox.deployments.book) == made
    assert stage.traffic.shares == {1: 1.0}


def test_a_version_that_retires_costs_nothing_and_can_be_gone_back_to(stage):
    done = stage.promote(1)
    assert stage.releasing.undo(done) == "ft models retire bot@v1"
    assert stage.releasing.retire("bot@v1", by="me") == []
    assert (stage.costing, stage.promotions.placed()) == ([], [])
    assert stage.gateways["litellm"].entries == {}
    assert stage.traffic.shares == {}
    assert stage.status(1) == "retired"
    assert stage.sync.look() == []
    assert stage.releasing.retire("bot@v1", by="me") == []
    assert stage.promote(1).state is PromotionState.LIVE


def test_what_is_on_its_way_does_not_retire(stage):
    stage.begin(1)
    with pytest.raises(UsageError, match="E901"):
        stage.releasing.retire("bot@v1", by="me")


def test_a_local_version_is_not_told_to_the_hosting(stage):
    stage.promote(1)
    job = stage.world.submit("ft_9", provider="fake", artifact={"path": "/a", "digest": "9"})
    stage.models.add_model(job, stage.clock.now())
    stage.places.host_of = lambda model: "azure" if model.provider == "azure" else None
    assert stage.promote(4, max_hosting=None).state is PromotionState.LIVE
    assert stage.costing == [stage.name(1)]
    assert {each.gateway for each in stage.promotions.placed() if each.version == 4} == {"litellm"}


CALLS = [
    "litellm.register",
    "litellm.unregister",
    "provider.deploy",
    "provider.undeploy",
    "write",
    "place",
    "unplace",
]


#: What is refused never comes to the gateways that callers ask.
ENDS = [(what, ends) for what in CALLS for ends in ("live", "refused") if ends == "live" or "litellm" not in what]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(("what", "ends"), ENDS)
@pytest.mark.parametrize("nth", [1, 2])
def test_a_crash_anywhere_leaves_nothing_that_costs_and_is_in_no_book(tmp_path, what, when, nth, ends):
    stage = HostedStage(tmp_path)
    stage.sandbox.deployments.looks = 1
    kept = (2, 3) if ends == "live" else (1,)
    for version in (1, 2) if ends == "live" else (1,):
        stage.promote(version)
    place, _, method = what.rpartition(".")
    owner = {"provider": stage.provider, "": stage.promotions}.get(place) or stage.gateways[place]
    left = crash_at(owner, method, nth, when)
    stage.verdict = Said(ends == "live")
    promotion = stage.begin(3, gate=GATE)
    for _ in range(40):
        promotion = stage.promotions.get(promotion.id)
        books = {each.listed_as for each in stage.promotions.placed() if each.gateway == "azure"}
        assert set(stage.costing) <= books, "something costs that our books don't know"
        if promotion.final:
            break
        stage.clock.sleep(LEASE.total_seconds())
        try:
            stage.promoter.advance(promotion.id)
        except Crash:
            continue
    assert left[0] <= 0 or nth > 1, "it never came to that"
    assert str(promotion.state) == ends
    stage.sync.mend(stage.sync.look())
    assert sorted(stage.costing) == [stage.name(version) for version in kept]
    assert stage.sync.look() == []
    stage.close()


def test_where_only_use_is_paid_there_is_nothing_to_agree_to():
    def asked(usd):
        hosting = Hosting(usd_per_hour=usd and Decimal(usd), source="a page", kind="on demand", fix="look it up")
        problem = against("bot@v1", hosting, None)
        return problem and problem.code

    assert (asked("0"), asked("0.01"), asked(None)) == (None, "E843", "E843")
