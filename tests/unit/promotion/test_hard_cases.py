"""Promotions that meet another: other hands at the same alias, gateways that are away or gone, files that are gone."""

import pytest

from finetune.errors import GatewayError, LeaseLost, NotFound, Problem
from finetune.promoter import MAX_TRIES
from finetune.testing import FakeServer
from finetune.versions import PromotionState, Traffic
from tests.support.jobs import sqlite
from tests.support.promotions import Said, Stage, digest

GATE = {"metric": "exact_match", "min_gain": 0.05}
CANARY = {"steps": (0.1, 0.5, 1.0)}


@pytest.fixture
def stage(tmp_path):
    stage = Stage(sqlite(tmp_path), versions=4)
    yield stage
    stage.close()


def notes(promotion):
    return [note["text"] for note in promotion.notes]


def roll_back(stage):
    stage.clock.sleep(1)
    return stage.releasing.roll_back("bot", by="me")


def canary_at(stage, version, step, **more):
    """A canary that has come so far."""
    stage.clock.sleep(1)
    promotion = stage.begin(version, **{**CANARY, **more})
    for _ in range(step):
        stage.promoter.advance(promotion.id)
        stage.clock.sleep(400)
    assert stage.promotions.get(promotion.id).step == step
    stage.clock.sleep(1)
    return promotion


def gone(stage, version):
    """Its adapter is not what was registered any more: it cannot be described to a gateway."""
    described = stage.places._describe

    def describe(model, alias):
        if model.version == version:
            raise GatewayError(Problem(code="E838", what=f"the adapter of {model.ref} is not what was registered"))
        return described(model, alias)

    stage.places._describe = describe


def entry(stage, version, alias=""):
    model = stage.models.models("bot")[version - 1]
    return f"bot{alias}--v{version}-{digest(model)[:12]}"


# Other hands at the same alias.


def test_a_roll_back_is_not_undone_by_a_worker_that_was_in_mid_check(stage):
    stage.promote(1)
    canary = canary_at(stage, 2, 1)
    stage.clock.sleep(400)
    there = stage.gateways["litellm"]
    ask = there.ask

    def meanwhile(*args, **more):
        there.ask = ask
        stage.run(roll_back(stage))
        assert stage.shares["v1"] == 1.0
        return ask(*args, **more)

    there.ask = meanwhile
    stage.promoter.advance(canary.id)
    assert stage.traffic.shares == {1: 1.0}
    assert stage.shares["v1"] == 1.0


def test_gateways_follow_the_books_that_changed_while_they_were_told(stage):
    for version in (1, 2, 1):
        stage.promote(version)
    canary = canary_at(stage, 2, 1)
    stage.clock.sleep(400)
    there = stage.gateways["litellm"]
    set_traffic = there.set_traffic

    def meanwhile(*args):
        there.set_traffic = set_traffic
        stage.run(roll_back(stage))
        return set_traffic(*args)

    there.set_traffic = meanwhile
    stage.promoter.advance(canary.id)
    assert stage.traffic.shares == {1: 1.0}
    assert (stage.shares["v1"], stage.shares.get("v2", 0.0)) == (1.0, 0.0)


def test_one_that_was_superseded_undoes_nothing_of_the_next(stage):
    """Both of the same version: what the first would take away is the second's."""
    stage.promote(1)
    stage.clock.sleep(1)
    first = stage.begin(2)
    there = stage.gateways["litellm"]
    probe = there.probe

    def meanwhile(*args, **more):
        there.probe = probe
        stage.clock.sleep(1)
        stage.run(stage.begin(2), until=PromotionState.SHIFTING)
        raise GatewayError(Problem(code="E820", what="refused"))

    there.probe = meanwhile
    stage.promoter.advance(first.id)
    assert stage.status(2) == "verified"
    assert {each.version for each in stage.promotions.placed()} == {1, 2}
    assert stage.promotions.get(first.id).state is PromotionState.SUPERSEDED


def test_a_move_under_a_lost_lease_is_not_written(stage):
    stage.promote(1)
    first = stage.begin(2)
    grip = stage.promotions.hold(first.id, "w2", stage.clock.now(), stage.clock.now() - stage.clock.now())
    stage.clock.sleep(1)
    stage.begin(3)
    with pytest.raises(LeaseLost):
        stage.models.shift(moved(stage, {2: 1.0}), grip)
    assert stage.traffic.shares == {1: 1.0}


def moved(stage, shares):
    return Traffic(name="bot", alias="production", shares=shares, reason="r", by="me", at=stage.clock.now())


@pytest.mark.parametrize("end", ["refused", "failed"])
def test_a_canary_that_nobody_goes_on_with_gets_no_calls(stage, end):
    """The next promotion ended it, and came to nothing itself."""
    stage.promote(1)
    canary_at(stage, 2, 1)
    if end == "refused":
        stage.verdict = Said(False)
    else:
        stage.gateways["litellm"].problems = [Problem(code="E821", what="taken")]
    done = stage.run(stage.begin(3, gate=GATE))
    assert done.state == end
    assert stage.traffic.shares == {1: 1.0}
    assert (stage.shares["v1"], stage.shares["v2"]) == (1.0, 0.0)
    assert any("given back to bot@v1" in note for note in notes(done))


def test_a_canary_that_was_ended_has_no_calls_while_the_next_is_measured(stage):
    stage.promote(1)
    canary_at(stage, 2, 2)
    assert stage.traffic.shares == {1: 0.5, 2: 0.5}
    stage.taken = True
    third = stage.begin(3, gate=GATE)

    for _ in range(2):
        stage.promoter.advance(third.id)
        stage.clock.sleep(60)

    third = stage.promotions.get(third.id)
    assert third.state is PromotionState.EVALUATING
    assert (stage.traffic.shares, stage.traffic.reason) == ({1: 1.0}, "back: for bot@v3")
    assert (stage.shares["v1"], stage.shares["v2"]) == (1.0, 0.0)
    assert notes(third) == ["all calls of production were given back to bot@v1", "bot@v3 waits for a card"]
    stage.taken = False
    assert stage.run(third).state is PromotionState.LIVE
    assert stage.releasing.back("bot").version == 1


def test_a_gateway_that_is_away_keeps_no_promotion_from_being_measured(stage):
    """What it still gives a canary that was ended is told, and left to sync."""
    stage.promote(1)
    canary_at(stage, 2, 1)
    stage.gateways["litellm"].faults = ["unavailable set_traffic"]
    third = stage.run(stage.begin(3, gate=GATE), until=PromotionState.REGISTERING)
    assert notes(third)[1].startswith("not all of it could be undone: ")
    assert (stage.traffic.shares, stage.shares["v2"]) == ({1: 1.0}, 0.1)
    given = []
    litellm = stage.gateways["litellm"]
    forget = litellm.unregister
    litellm.unregister = lambda name: (given.append(dict(stage.shares)), forget(name))
    stage.sync.mend(stage.sync.look())
    assert given == [{"v1": 1.0, "v2": 0.0}], "callers are somewhere else before it goes"
    assert stage.shares == {"v1": 1.0}


@pytest.mark.parametrize("share", [0.5, 0.8])
def test_the_version_before_is_the_last_that_had_all_calls(stage, share):
    """Not the one that had most of them in a canary which nobody has finished."""
    for version in (1, 3, 2):
        stage.promote(version)
    canary_at(stage, 1, 1, steps=(share, 1.0))
    third = canary_at(stage, 4, 1)
    assert stage.traffic.shares == {4: 0.1, 2: 0.9}
    stage.gateways["litellm"].faults = ["refused probe"]
    stage.clock.sleep(400)
    assert stage.run(third).state is PromotionState.FAILED
    assert stage.traffic.shares == {2: 1.0}


def test_a_canary_that_begins_anew_goes_step_by_step(stage):
    stage.promote(3)
    stage.promote(2)
    canary_at(stage, 1, 2)
    assert stage.traffic.shares == {1: 0.5, 2: 0.5}
    again = canary_at(stage, 1, 1)
    assert stage.traffic.shares == {1: 0.1, 2: 0.9}
    stage.gateways["litellm"].answers_as = {entry(stage, 1): "other"}
    stage.clock.sleep(400)
    assert stage.run(again).state is PromotionState.FAILED
    assert stage.traffic.shares == {2: 1.0}


def test_the_clocks_of_two_machines_differ(stage):
    """The promotion was asked for on a machine whose clock is ahead of the workers'."""
    stage.promote(2)
    now = stage.clock.now()
    promotion = stage.begin(1, steps=(0.5, 1.0), created_at=now.replace(year=now.year + 1))
    stage.promoter.advance(promotion.id)
    assert stage.traffic.shares == {1: 0.5, 2: 0.5}
    stage.gateways["litellm"].answers_as = {entry(stage, 1): "other"}
    assert stage.run(promotion).state is PromotionState.FAILED
    assert stage.traffic.shares == {2: 1.0}


@pytest.mark.parametrize("what", ["set_traffic", "register"])
def test_a_live_version_that_is_promoted_again_keeps_its_calls_whatever_happens(stage, what):
    stage.promote(1)
    stage.promote(2)
    stage.clock.sleep(1)
    again = stage.begin(2)
    there = stage.gateways["litellm"]
    there.faults = [f"refused {what}"]
    if what == "set_traffic":
        there.shares = dict.fromkeys(there.shares, 0.5)
    done = stage.run(again)
    assert done.state is PromotionState.FAILED
    assert stage.traffic.shares == {2: 1.0}
    assert stage.shares["v2"] == 1.0 or what == "register"
    assert stage.status(2) == "live"


def test_a_live_version_that_is_promoted_again_keeps_its_way_back(stage):
    stage.promote(1)
    stage.promote(2)
    moves = stage.models.moves("bot")
    stage.clock.sleep(1)
    # Its own canary would take calls from it.
    assert stage.run(stage.begin(2, **CANARY)).state is PromotionState.LIVE
    assert stage.models.moves("bot") == moves
    assert {each.version for each in stage.promotions.placed()} == {1, 2}
    assert stage.releasing.back("bot").version == 1


def test_the_way_back_stays_when_it_could_not_be_promoted(stage):
    stage.promote(1)
    stage.promote(2)
    stage.reports = None
    assert stage.promote(1, gate=GATE).error["code"] == "E852"
    assert {each.version for each in stage.promotions.placed()} == {1, 2}


def test_nobody_is_rolled_back_to_what_was_taken_back(stage):
    for version in (1, 2):
        stage.promote(version)
    stage.gateways["litellm"].faults = ["refused set_traffic"]
    assert stage.promote(3).state is PromotionState.FAILED
    assert [move.shares for move in stage.models.moves("bot")][:3] == [{2: 1.0}, {3: 1.0}, {2: 1.0}]
    assert stage.releasing.back("bot").version == 1


def test_nothing_that_was_taken_back_is_a_way_back_of_the_first(stage):
    stage.gateways["litellm"].faults = ["refused set_traffic"]
    assert stage.promote(1).state is PromotionState.FAILED
    assert stage.traffic.shares == {}
    assert stage.promote(2).state is PromotionState.LIVE
    with pytest.raises(NotFound, match="E835"):
        stage.releasing.back("bot")


def test_a_training_that_moves_the_alias_ends_a_canary(stage):
    """`register` without gateways and gate: the alias moves with the version's record."""
    stage.promote(1)
    canary = canary_at(stage, 2, 1)
    job = stage.world.submit("ft_9", artifact={"path": "/a/9", "digest": "9"})
    stage.models.add_model(job, stage.clock.now(), alias="production")
    assert stage.promotions.get(canary.id).state is PromotionState.SUPERSEDED
    stage.clock.sleep(4000)
    assert stage.promoter.advance(canary.id) is None
    assert stage.traffic.shares == {5: 1.0}


def test_a_version_with_calls_stays_live_whatever_another_alias_makes_of_it(stage):
    """Two promotions of one version at once."""
    stage.clock.sleep(1)
    other = stage.begin(1, alias="staging", id="pr_staging")
    there = stage.gateways["litellm"]
    probe = there.probe

    def meanwhile(deployment, *args, **more):
        there.probe = probe
        assert stage.promote(1).state is PromotionState.LIVE
        return probe(deployment, *args, **more)

    there.probe = meanwhile
    stage.promoter.advance(other.id, more=lambda: stage.traffic is None)
    assert stage.promotions.get(other.id).state is PromotionState.SHIFTING
    assert stage.status(1) == "live"


# Gateways that are away, or gone.


def test_a_roll_back_reaches_whom_it_can_and_stays_wanted(stage):
    stage.gateways["other"] = type(stage.gateways["litellm"])("other")
    where = {"gateways": ("vllm", "other", "litellm")}
    stage.promote(1, **where)
    stage.promote(2, **where)
    for method in ("register", "set_traffic"):
        stage.gateways["other"].faults += [f"unavailable {method}"] * 3 * MAX_TRIES
    done = stage.run(roll_back(stage))
    assert (done.state, done.error["code"]) == (PromotionState.FAILED, "E820")
    assert stage.traffic.shares == {1: 1.0}, "what is wanted now"
    assert (stage.shares["v1"], stage.shares["v2"]) == (1.0, 0.0)
    assert stage.status(1) == "live"
    stage.gateways["other"].faults = []
    stage.sync.mend(stage.sync.look())
    assert stage.gateways["other"].shares == stage.gateways["litellm"].shares


def test_a_roll_back_to_what_cannot_be_served_any_more_changes_nothing(stage):
    stage.promote(1)
    stage.promote(2)
    gone(stage, 1)
    done = stage.run(roll_back(stage))
    assert (done.state, done.error["code"]) == (PromotionState.FAILED, "E838")
    assert stage.traffic.shares == {2: 1.0}
    assert stage.shares["v2"] == 1.0
    assert stage.status(2) == "live"


def test_one_gateway_that_is_away_keeps_no_other_from_the_version_before(stage):
    stage.gateways["other"] = type(stage.gateways["litellm"])("other")
    where = {"gateways": ("vllm", "other", "litellm")}
    stage.promote(1, **where)
    canary = canary_at(stage, 2, 1, **where)
    stage.gateways["other"].faults = [
        f"unavailable {one}" for one in ("probe", "register", "set_traffic") for _ in range(2 * MAX_TRIES)
    ]
    done = stage.run(canary)
    assert done.state is PromotionState.FAILED
    assert any(note.startswith("not all of it could be undone") for note in notes(done))
    assert (stage.shares["v1"], stage.shares["v2"]) == (1.0, 0.0)
    assert stage.traffic.shares == {1: 1.0}


def test_a_canary_goes_back_to_a_version_whose_files_are_gone(stage):
    """The gateways have it still."""
    stage.promote(1)
    canary = canary_at(stage, 2, 1)
    gone(stage, 1)
    stage.gateways["litellm"].answers_as = {entry(stage, 2): "other"}
    done = stage.run(canary)
    assert done.error["code"] == "E830"
    assert stage.shares == {"v1": 1.0}
    assert stage.traffic.shares == {1: 1.0}


def test_a_canary_goes_on_beside_a_version_whose_files_are_gone(stage):
    stage.promote(1)
    canary = canary_at(stage, 2, 1)
    gone(stage, 1)
    assert stage.run(canary).state is PromotionState.LIVE
    assert stage.shares == {"v1": 0.0, "v2": 1.0}


def test_a_gateway_that_was_removed_stops_no_promotion(stage):
    stage.gateways["old"] = FakeServer("old")
    stage.promote(1, gateways=("old", "vllm", "litellm"))
    stage.promote(2)
    del stage.gateways["old"]
    done = stage.promote(3)
    assert (done.state, stage.traffic.shares) == (PromotionState.LIVE, {3: 1.0})
    assert "old is not set up here, and is left as it is" in notes(done)
    assert any("could not be forgotten" in note and "old" in note for note in notes(done))
    assert {each.version for each in stage.promotions.placed() if each.gateway != "old"} == {2, 3}
    assert stage.run(roll_back(stage)).state is PromotionState.LIVE
    assert stage.traffic.shares == {2: 1.0}


@pytest.mark.parametrize("kind", ["unavailable", "refused"])
def test_what_has_all_calls_is_not_undone_for_an_old_version_that_stays(stage, kind):
    stage.promote(1)
    stage.promote(2)
    stage.gateways["vllm"].faults = [f"{kind} unregister"] * MAX_TRIES
    done = stage.promote(3)
    assert (done.state, stage.traffic.shares) == (PromotionState.LIVE, {3: 1.0})
    assert stage.shares["v3"] == 1.0


def test_who_holds_weights_is_told_first_in_whatever_order_they_are_named(stage):
    done = stage.promote(1, gateways=("litellm", "vllm"))
    assert done.state is PromotionState.LIVE
    (there,) = stage.gateways["litellm"].entries.values()
    assert there.upstream is not None
    assert there.upstream.model == there.model


def test_all_gateways_of_an_alias_go_with_it(stage):
    """One name has one division of calls: a gateway that is not named would give them to the old version."""
    stage.promote(1)
    done = stage.promote(2, gateways=("vllm",))
    assert done.state is PromotionState.LIVE
    assert done.gateways == ("vllm", "litellm")
    assert set(done.evidence) == {"vllm", "litellm"}
    assert stage.shares == {"v1": 0.0, "v2": 1.0}


def test_a_gateway_that_refuses_is_not_asked_for_ever(stage):
    """A live version that should answer at one gateway more."""
    stage.promote(1, gateways=("vllm",))
    stage.promote(2, gateways=("vllm",))
    stage.gateways["litellm"].faults = ["refused register"]
    assert stage.promote(2).state is PromotionState.FAILED
    assert [(each.gateway, each.version) for each in stage.promotions.placed()] == [("vllm", 1), ("vllm", 2)]
    assert stage.promote(3, gateways=()).gateways == ("vllm",)


def test_a_canary_that_is_ended_is_no_reason_to_tell_a_gateway_of_others(stage):
    stage.promote(1, gateways=("vllm",))
    canary_at(stage, 2, 1, gateways=("vllm",))
    stage.verdict = Said(False)
    assert stage.run(stage.begin(3, gate=GATE)).state is PromotionState.REFUSED
    assert stage.traffic.shares == {1: 1.0}
    assert stage.gateways["litellm"].entries == {}


def test_a_fault_of_a_gateways_code_ends_a_promotion_and_undoes_it(stage):
    stage.promote(1)
    canary = canary_at(stage, 2, 1)

    def broken(*args, **more):
        raise TypeError("None is no list")

    stage.gateways["litellm"].probe = broken
    done = stage.run(canary)
    assert (done.state, done.error["code"]) == (PromotionState.FAILED, "E991")
    assert stage.traffic.shares == {1: 1.0}
    assert stage.shares["v1"] == 1.0


def test_a_fault_of_a_gateways_code_is_tried_again_first(stage):
    there = stage.gateways["litellm"]
    probe = there.probe

    def broken(*args, **more):
        there.probe = probe
        raise TypeError("None is no list")

    there.probe = broken
    done = stage.promote(1)
    assert done.state is PromotionState.LIVE
    assert any("TypeError; trying again" in note for note in notes(done))


def test_a_gate_over_another_version_leaves_no_proof_without_questions(stage):
    """Its reports say nothing of the base's answers, so the base is asked too."""
    gate = {**GATE, "over": "production"}
    stage.promote(1, gate=gate)
    assert stage.measured == [("bot@v1", gate), ("bot@v1", None)]
    stage.reports = [{"suite": "held-out", "golden": [{"messages": [{"content": "?"}], "max_tokens": 8, "tuned": "x"}]}]
    stage.models.add_report("bot", 2, {**stage.reports[0], "over": "base"}, stage.clock.now())
    stage.promote(2, gate=gate)
    assert stage.measured[2:] == [("bot@v2", gate)]


def test_all_promotions_of_a_version_are_found_after_many_of_others(stage):
    done = stage.promote(1)
    for _ in range(25):
        stage.clock.sleep(1)
        stage.begin(2)
    assert stage.releasing.promotions("bot@v1") == [done]


def test_each_share_has_tries_of_its_own(stage):
    stage.promote(1)
    canary = canary_at(stage, 2, 1)
    for step in (1, 2):
        stage.gateways["litellm"].faults = ["unavailable probe"] * (MAX_TRIES - 1)
        for _ in range(MAX_TRIES - 1):
            stage.clock.sleep(400)
            stage.promoter.advance(canary.id)
        assert (stage.promotions.get(canary.id).step, stage.gateways["litellm"].faults) == (step, [])
        if step == 1:
            stage.clock.sleep(400)
            stage.promoter.advance(canary.id)
    assert stage.run(canary).state is PromotionState.LIVE


# What sync makes of it.


def test_sync_takes_nothing_away_that_has_been_placed_since_it_looked(stage):
    stage.promote(1, gateways=("vllm",))
    vllm = stage.gateways["vllm"]
    registered = vllm.registered

    def meanwhile():
        vllm.registered = registered
        assert stage.promote(2, gateways=("vllm",)).state is PromotionState.LIVE
        return registered()

    vllm.registered = meanwhile
    drifts = stage.sync.look()
    assert "unknown" in [drift.kind for drift in drifts]
    stage.sync.mend(drifts)
    assert {there.ref for there in vllm.entries.values()} == {"bot@v1", "bot@v2"}


def test_sync_restores_nothing_that_was_forgotten_since_it_looked(stage):
    stage.promote(1)
    stage.promote(2)
    stage.gateways["vllm"].entries.clear()
    drifts = stage.sync.look()
    stage.promote(3)
    stage.sync.mend(drifts)
    assert {each.version for each in stage.promotions.placed()} == {2, 3}


def test_one_that_cannot_be_mended_keeps_no_other_from_it(stage):
    stage.promote(1)
    stage.promote(2, alias="staging")
    gone(stage, 1)
    stage.gateways["vllm"].entries.clear()
    with pytest.raises(GatewayError, match="E838"):
        stage.sync.mend(stage.sync.look())
    assert {there.ref for there in stage.gateways["vllm"].entries.values()} == {"bot@v2"}


def test_one_that_is_away_keeps_no_other_from_being_mended(stage):
    stage.gateways["away"] = FakeServer("away")
    stage.promote(1, gateways=("away", "vllm", "litellm"))
    stage.gateways["away"].faults = ["unavailable registered", *["unavailable register"] * 9]
    stage.gateways["vllm"].entries.clear()
    stage.gateways["litellm"].shares = dict.fromkeys(stage.gateways["litellm"].shares, 0.5)
    stage.sync.mend(stage.sync.look())
    assert {there.ref for there in stage.gateways["vllm"].entries.values()} == {"bot@v1"}
    assert stage.shares == {"v1": 1.0}


def test_what_has_calls_and_is_in_no_book_of_ours_is_told_and_left_alone(stage):
    """Another home of ft may use the same proxy."""
    stage.promote(1)
    there = stage.gateways["litellm"]
    other = "shop--v1-000000000000"
    there.entries[other] = next(iter(there.entries.values()))
    there.shares[other] = 1.0
    drifts = stage.sync.look()
    assert [(drift.kind, drift.id) for drift in drifts] == [("foreign", other)]
    assert stage.sync.mend(drifts) == []
    assert other in there.entries


# Workers.


def test_a_worker_for_the_work_at_hand_stays_while_a_promotion_is_under_way(stage):
    """Also one that this very worker is measuring, and a canary that waits for its time."""
    from types import SimpleNamespace

    from workers.loop import IDLE_S, Loop

    for number in range(1, 5):
        stage.world.run(f"ft_{number}")
    stage.promote(1)
    canary = canary_at(stage, 2, 1, pause_s=7200)
    loop = Loop(
        SimpleNamespace(jobs=stage.world.jobs, promotions=stage.promotions, clock=stage.clock),
        ("remote",),
        until_idle=True,
    )
    ended = []
    loop._end_worker = ended.append
    loop.ready.set()

    def looked():
        loop._end_if_idle()
        stage.clock.sleep(IDLE_S)
        loop._end_if_idle()
        return ended

    assert looked() == []
    stage.run(canary)
    assert set(looked()) == {"no work left"}
