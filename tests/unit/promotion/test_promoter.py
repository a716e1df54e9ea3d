"""Promotions: gate, register, prove, shift; every failure and every crash ends with the right model behind the name."""

import pytest

from finetune import seats
from finetune.errors import LeaseLost, Problem
from finetune.promoter import CHECKS, LEASE, MAX_TRIES
from finetune.versions import PromotionState
from tests.support.jobs import sqlite
from tests.support.promotions import Crash, Said, Stage, crash_at, describe

GATE = {"metric": "exact_match", "min_gain": 0.05}
CANARY = {"steps": (0.1, 0.5, 1.0)}


@pytest.fixture
def stage(tmp_path):
    stage = Stage(sqlite(tmp_path))
    yield stage
    stage.close()


def notes(promotion):
    return [note["text"] for note in promotion.notes]


def test_the_whole_way(stage):
    done = stage.promote(1, gate=GATE)
    assert done.state is PromotionState.LIVE
    assert done.error is None
    assert stage.measured == [("bot@v1", GATE)]
    assert stage.shares == {"v1": 1.0}
    assert stage.traffic.shares == {1: 1.0}
    assert stage.traffic.reason == "promote v1"
    assert stage.status(1) == "live"
    assert [model.aliases for model in stage.models.models()] == [("production",), (), ()]
    # What a gateway answered is kept, and what the other gateway passes calls on to is what holds the weights.
    assert {name: each["answered_by"] for name, each in done.evidence.items()} == {
        name: next(iter(there.entries)) for name, there in stage.gateways.items()
    }
    entry = next(iter(stage.gateways["litellm"].entries.values()))
    assert entry.upstream.model == entry.model
    assert notes(done)[0].startswith("gate passed: exact_match")


def test_the_next_version_takes_the_place_of_the_one_before(stage):
    stage.promote(1)
    stage.promote(2)
    assert stage.shares == {"v1": 0.0, "v2": 1.0}
    # The one before is kept for the way back, the one before that is not.
    stage.promote(3)
    assert stage.shares == {"v2": 0.0, "v3": 1.0}
    assert [stage.status(version) for version in (1, 2, 3)] == ["retired", "verified", "live"]


@pytest.mark.parametrize("gate", [GATE, None])
def test_it_waits_for_a_card_to_be_measured_on_for_as_long_as_it_takes(stage, gate):
    stage.taken, promotion = True, stage.begin(1, gate=gate)
    for _ in range(3 * MAX_TRIES):
        stage.clock.sleep(60)
        stage.promoter.advance(promotion.id)
    waiting = stage.promotions.get(promotion.id)
    assert (waiting.state, waiting.failures) == (PromotionState.EVALUATING, 0)
    assert notes(waiting) == ["bot@v1 waits for a card"], "told once"
    assert waiting.due_at - stage.clock.now() < seats.LEASE, "before its turn is lost"
    stage.taken = False
    assert stage.run(promotion).state is PromotionState.LIVE


def test_a_closed_gate_changes_nothing(stage):
    stage.promote(1)
    before = [there.log.copy() for there in stage.gateways.values()]
    stage.verdict = Said(False, ("exact_match 0.40, base 0.41: gain -0.01, wanted 0.05",))
    done = stage.promote(2, gate=GATE)
    assert done.state is PromotionState.REFUSED
    assert done.error["code"] == "E840"
    assert "gain -0.01" in done.error["why"]
    assert [there.log for there in stage.gateways.values()] == before
    assert stage.status(2) == "trained"
    assert stage.traffic.shares == {1: 1.0}


def test_a_preflight_that_fails_tells_nobody(stage):
    stage.gateways["litellm"].problems = [Problem(code="E821", what="the name is taken by somebody else's entry")]
    done = stage.promote(1)
    assert (done.state, done.error["code"]) == (PromotionState.FAILED, "E821")
    assert all(not there.entries for there in stage.gateways.values())
    assert stage.traffic is None
    assert stage.promotions.placed() == []
    assert stage.status(1) == "failed"


def test_what_a_later_gateway_refuses_is_undone_at_the_earlier_ones(stage):
    stage.gateways["litellm"].faults = ["refused register"]
    done = stage.promote(1)
    assert done.state is PromotionState.FAILED
    told, undone = stage.gateways["vllm"].log
    assert (told.split()[0], undone.split()[0]) == ("register", "unregister")
    assert told.split()[1] == undone.split()[1]
    assert stage.gateways["litellm"].log == []
    assert stage.promotions.placed() == []


@pytest.mark.parametrize("where", ["vllm", "litellm"])
@pytest.mark.parametrize("lie", ["another answers", "says nothing", "as its base"])
def test_a_wrong_answer_is_no_proof(stage, where, lie):
    stage.promote(1)
    there = stage.gateways[where]

    register = there.register

    def registering(deployment):
        upstream, name = register(deployment), there.entry(deployment)
        if deployment.ref == "bot@v2":
            if lie == "as its base":
                there.says[name] = f"I am {deployment.base_model}"
            else:
                there.answers_as[name] = "bot--fallback" if lie == "another answers" else None
        return upstream

    there.register = registering
    done = stage.promote(2)
    assert done.state is PromotionState.FAILED
    assert done.error["code"] == ("E831" if lie == "as its base" else "E830")
    assert stage.shares == {"v1": 1.0}
    assert stage.traffic.shares == {1: 1.0}
    assert [stage.status(version) for version in (1, 2)] == ["live", "failed"]
    assert all(each.version == 1 for each in stage.promotions.placed())


def test_golden_answers_are_what_counts(stage):
    """Nearer to the version's own answer than to its base's: an engine may end it with other words."""
    golden = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 8, "other": "I am a base model, hello"}
    stage.reports = [{"suite": "held-out", "golden": [{**golden, "tuned": "TICKET billing high"}]}]
    said = {"TICKET billing low": "live", "I am a base model, hullo": "failed", "TICKET billing high": "live"}
    for version, (text, ends) in enumerate(said.items(), 1):
        for there in stage.gateways.values():
            there.probe_base = None
            told = there.probe
            there.probe = lambda deployment, *args, text=text, told=told, **more: type(told(deployment, *args, **more))(
                text=text, answered_by="x", expected="x"
            )
        done = stage.promote(version)
        assert done.state == ends, (text, done.error)
        if ends == "live":
            assert done.evidence["vllm"]["against"] == "golden answers"


def test_a_gateway_that_is_away_is_tried_again(stage):
    stage.gateways["litellm"].faults = ["unavailable preflight", "unavailable register", "unavailable probe"] * 3
    done = stage.promote(1)
    assert done.state is PromotionState.LIVE
    assert sum("trying again" in note for note in notes(done)) == 9


def test_a_gateway_that_stays_away_is_given_up(stage):
    stage.promote(1)
    stage.gateways["litellm"].faults = ["unavailable register"] * MAX_TRIES
    done = stage.promote(2)
    assert done.state is PromotionState.FAILED
    assert stage.shares == {"v1": 1.0}
    assert [line for line in stage.gateways["vllm"].log if "v2" in line][1:] == [
        line for line in stage.gateways["vllm"].log if line.startswith("unregister") and "v2" in line
    ]


def test_a_canary_goes_step_by_step(stage):
    stage.promote(1)
    promotion = stage.begin(2, **CANARY)
    seen = []
    for _ in range(3):
        stage.promoter.advance(promotion.id)
        promotion = stage.promotions.get(promotion.id)
        seen.append((dict(sorted(stage.shares.items())), promotion.state))
        if promotion.due_at:
            assert stage.promoter.advance(promotion.id) is None, "before its time"
            assert (promotion.due_at - stage.clock.now()).total_seconds() == promotion.pause_s
            stage.clock.sleep(promotion.pause_s)
    assert seen == [
        ({"v1": 0.9, "v2": 0.1}, "shifting"),
        ({"v1": 0.5, "v2": 0.5}, "shifting"),
        ({"v1": 0.0, "v2": 1.0}, "live"),
    ]
    assert [move.reason for move in stage.models.moves("bot")] == [
        "promote v2",
        "canary 50% v2",
        "canary 10% v2",
        "promote v1",
    ]


def test_the_first_version_needs_no_canary(stage):
    """Nobody else could take the other calls."""
    assert stage.promote(1, **CANARY).state is PromotionState.LIVE
    assert [move.shares for move in stage.models.moves("bot")] == [{1: 1.0}]


@pytest.mark.parametrize("why", ["calls fail", "the proof fails", "is away for good"])
def test_a_canary_that_does_not_do_well_goes_back_by_itself(stage, why):
    stage.promote(1)
    promotion = stage.begin(2, **CANARY)
    stage.promoter.advance(promotion.id)
    assert stage.shares == {"v1": 0.9, "v2": 0.1}
    there = stage.gateways["litellm"]
    if why == "calls fail":
        there.faults = ["refused ask"] * 2
    elif why == "the proof fails":
        there.answers_as = {one: "bot--fallback" for one in there.entries if "--v2" in one}
    else:
        there.faults = ["unavailable probe"] * MAX_TRIES
    done = stage.run(promotion)
    assert done.state is PromotionState.FAILED
    assert done.error["code"] == {"calls fail": "E834", "the proof fails": "E830"}.get(why, "E820")
    assert stage.shares == {"v1": 1.0}
    assert stage.traffic.shares == {1: 1.0}
    assert stage.traffic.reason == f"back: {done.error['code']}"
    assert stage.status(2) == "failed"


def test_one_failed_call_of_twenty_is_no_reason(stage):
    assert CHECKS == 20
    stage.promote(1)
    promotion = stage.begin(2, **CANARY)
    stage.promoter.advance(promotion.id)
    stage.gateways["litellm"].faults = ["refused ask"]
    assert stage.run(promotion).state is PromotionState.LIVE


def test_the_next_promotion_of_the_alias_takes_over(stage):
    stage.promote(1)
    first = stage.begin(2, **CANARY)
    stage.promoter.advance(first.id)
    second = stage.begin(3)
    assert stage.promotions.get(first.id).state is PromotionState.SUPERSEDED
    assert stage.run(second).state is PromotionState.LIVE
    assert stage.shares["v3"] == 1.0
    assert sum(stage.shares.values()) == 1.0
    stage.clock.sleep(3600)
    assert stage.promoter.advance(first.id) is None


def test_one_that_was_superseded_in_mid_step_writes_nothing(stage):
    stage.promote(1)
    first = stage.begin(2)
    there = stage.gateways["vllm"]
    preflight = there.preflight

    def meanwhile(deployment):
        there.preflight = preflight
        stage.clock.sleep(1)
        stage.begin(3)
        return []

    there.preflight = meanwhile
    stage.promoter.advance(first.id)
    assert stage.promotions.get(first.id).state is PromotionState.SUPERSEDED
    assert stage.traffic.shares == {1: 1.0}


def test_two_workers_one_moves_it(stage):
    promotion = stage.begin(1)
    grip = stage.promotions.hold(promotion.id, "w2", stage.clock.now(), LEASE)
    assert stage.promoter.advance(promotion.id) is None
    stage.clock.sleep(LEASE.total_seconds())
    assert stage.promoter.advance(promotion.id).state is PromotionState.LIVE
    with pytest.raises(LeaseLost):
        stage.promotions.write(grip, {"failures": 1})


HOLDER = [f"vllm.{call}" for call in ("preflight", "register", "probe", "probe_base", "unregister")]
CALLS = [
    *HOLDER,
    *(f"litellm.{call}" for call in ("preflight", "register", "probe", "set_traffic", "ask", "unregister")),
]
WRITES = ("write", "place", "unplace", "shift", "set_status")


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("what", [*CALLS, *WRITES])
@pytest.mark.parametrize("nth", [1, 2, 4])
def test_a_crash_anywhere_ends_the_same(tmp_path, what, when, nth):
    stage = Stage(sqlite(tmp_path))
    stage.promote(1)
    stage.promote(2)
    gateway, _, method = what.rpartition(".")
    owner = stage.gateways[gateway] if gateway else stage.models if hasattr(stage.models, method) else stage.promotions
    left = crash_at(owner, method, nth, when)
    promotion = stage.begin(3, **CANARY)
    for _ in range(60):
        promotion = stage.promotions.get(promotion.id)
        if promotion.final:
            break
        stage.clock.sleep(LEASE.total_seconds())
        try:
            stage.promoter.advance(promotion.id)
        except Crash:
            # Its lease ends by itself.
            continue
    assert left[0] <= 0 or nth > 1, "it never came to that"
    assert promotion.state is PromotionState.LIVE
    assert stage.shares == {"v2": 0.0, "v3": 1.0}
    assert sorted({each.version for each in stage.promotions.placed()}) == [2, 3]
    assert [move.shares.get(3) for move in stage.models.moves("bot") if 3 in move.shares] == [1.0, 0.5, 0.1]
    assert stage.status(1) == "retired"
    assert stage.sync.look() == []
    stage.close()


def test_a_gateway_that_is_away_at_its_preflight_is_tried_again(stage):
    """It says so as a problem, beside what else stands against the version."""
    there = stage.gateways["litellm"]
    away = Problem(code="E820", what="it does not answer")
    there.problems = [away]
    promotion = stage.begin(1)
    stage.promoter.advance(promotion.id)
    assert stage.promotions.get(promotion.id).failures == 1
    there.problems = []
    assert stage.run(promotion).state is PromotionState.LIVE
    there.problems = [away, Problem(code="E826", what="its rank is too high")]
    assert stage.promote(2).error["code"] == "E820"


def test_a_gateway_that_answers_with_the_version_before_is_found_out(stage):
    """Old weights under a new name, by a gateway that names the new one."""
    asked = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 8, "other": "I am a base model"}
    for version in (1, 2):
        report = {"suite": "held-out", "golden": [{**asked, "tuned": f"I am bot@v{version}"}]}
        stage.models.add_report("bot", version, report, stage.clock.now())
    stage.promote(1)
    there = stage.gateways["vllm"]
    there.says = {there.entry(describe(stage.models.models("bot")[1], "production")): "I am bot@v1"}
    done = stage.promote(2)
    assert (done.state, done.error["code"]) == (PromotionState.FAILED, "E831")
    assert stage.shares == {"v1": 1.0}
