"""Promotions and traffic in both stores: one promotion an alias, grips, and who is live."""

import threading
from dataclasses import replace
from datetime import timedelta

import pytest

from finetune.errors import LeaseLost, NotFound
from finetune.store import SqlPromotions
from finetune.versions import ModelStatus, Placed, PromotionState, Traffic
from tests.support.jobs import World, sqlite
from tests.support.promotions import Stage

TTL = timedelta(seconds=30)


@pytest.fixture(params=["sqlite", "postgres"])
def stage(request, tmp_path):
    stage = Stage(sqlite(tmp_path) if request.param == "sqlite" else request.getfixturevalue("postgres_url"))
    yield stage
    stage.close()


def test_a_promotion_comes_back_as_it_went_in(stage):
    begun = stage.begin(2, steps=(0.1, 1.0), gate={"metric": "loss"}, notes=({"at": "now", "text": "x"},))
    assert stage.promotions.get(begun.id) == begun
    assert stage.promotions.recent("bot") == [begun]
    assert stage.promotions.recent("other") == []
    with pytest.raises(NotFound):
        stage.promotions.get("pr_none")


def test_the_whole_way_in_both_stores(stage):
    assert stage.promote(1).state is PromotionState.LIVE
    done = stage.promote(2, steps=(0.1, 0.5, 1.0))
    assert stage.promotions.get(done.id) == done
    assert [(move.shares, move.by) for move in stage.models.moves("bot", "production")] == [
        ({2: 1.0}, "me"),
        ({1: 0.5, 2: 0.5}, "me"),
        ({1: 0.9, 2: 0.1}, "me"),
        ({1: 1.0}, "me"),
    ]


def test_only_one_promotion_moves_an_alias(stage):
    stage.begin(1)
    begun, others = [], [World(stage.world.url) for _ in range(4)]
    start = threading.Barrier(4)

    def begin(number, other):
        mine = SqlPromotions(other.database)
        start.wait(10)
        for turn in range(5):
            begun.append(mine.begin(stage_promotion(stage, f"pr_{number}_{turn}")).id)

    threads = [threading.Thread(target=begin, args=each) for each in enumerate(others)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for other in others:
        other.database.close()
    states = [stage.promotions.get(one).state for one in begun]
    assert len(states) == 20
    assert sorted(states).count("evaluating") == 1
    assert states.count("superseded") == 19
    assert len(stage.promotions.due(stage.clock.now(), 99)) == 1


def stage_promotion(stage, promotion_id):
    known = stage.promotions.recent("bot") or [stage.begin(1)]
    return replace(
        known[0], id=promotion_id, state=PromotionState.EVALUATING, finished_at=None, due_at=known[0].created_at
    )


def test_what_is_held_is_not_due_and_an_old_grip_writes_nothing(stage):
    begun, now = stage.begin(1), stage.clock.now()
    grip = stage.promotions.hold(begun.id, "w1", now, TTL)
    assert grip.promotion == begun
    assert (stage.promotions.due(now, 9), stage.promotions.hold(begun.id, "w2", now, TTL)) == ([], None)
    stage.promotions.renew(grip, now + 2 * TTL)
    stage.clock.sleep(45)
    assert stage.promotions.hold(begun.id, "w2", stage.clock.now(), TTL) is None
    kept = stage.promotions.write(grip, {"step": 1}, keep=True)
    assert kept.step == 1
    stage.clock.sleep(15)
    later = stage.promotions.hold(begun.id, "w2", stage.clock.now(), TTL)
    assert later.token == grip.token + 1
    for write in (lambda: stage.promotions.write(grip, {"step": 2}), lambda: stage.promotions.renew(grip, now)):
        with pytest.raises(LeaseLost):
            write()
    ended = {"state": PromotionState.LIVE, "due_at": None, "finished_at": stage.clock.now()}
    assert stage.promotions.write(later, ended).final
    assert stage.promotions.due(stage.clock.now(), 9) == []
    # The alias is free for the next one, which does not touch what has ended.
    stage.clock.sleep(1)
    stage.begin(2)
    assert stage.promotions.get(begun.id).state is PromotionState.LIVE


def shift(stage, alias="production", **shares):
    by_version = {int(version[1:]): share for version, share in shares.items()}
    moved = Traffic(name="bot", alias=alias, shares=by_version, reason="r", by="me", at=stage.clock.now())
    return stage.models.shift(moved)


def placed(stage, version, alias="production", gateway="vllm"):
    now = stage.clock.now()
    one = Placed(
        gateway=gateway, id=f"bot--v{version}{alias}", name="bot", version=version, alias=alias, listed_as="l", at=now
    )
    stage.promotions.place(one)
    return one


def test_who_is_live_follows_the_traffic(stage):
    one = placed(stage, 1)
    assert shift(stage, v1=1.0) is None
    shift(stage, v1=0.9, v2=0.1)
    assert [stage.status(version) for version in (1, 2, 3)] == ["live", "live", "trained"]
    before = shift(stage, v2=1.0)
    assert before.shares == {1: 0.9, 2: 0.1}
    assert before.version == 1
    # A gateway still has the first.
    assert [stage.status(version) for version in (1, 2, 3)] == ["verified", "live", "trained"]
    stage.promotions.unplace(one.gateway, one.id)
    stage.promotions.unplace(one.gateway, one.id)
    assert stage.status(1) == "retired"
    # No gateway ever had the second.
    shift(stage, alias="staging", v2=1.0)
    shift(stage, v3=1.0)
    assert [stage.status(version) for version in (2, 3)] == ["live", "live"]
    shift(stage, alias="staging", v3=1.0)
    assert stage.status(2) == "retired"
    assert [model.aliases for model in stage.models.models("bot")] == [(), (), ("production", "staging")]
    shift(stage, alias="staging")
    assert stage.models.traffic("bot", "staging").version is None
    assert [model.aliases for model in stage.models.models("bot")] == [(), (), ("production",)]


def test_places_are_noted_once(stage):
    one, two = placed(stage, 1), placed(stage, 1, alias="staging")
    placed(stage, 1)
    assert stage.promotions.placed() == [one, two]
    stage.promotions.unplace("vllm", two.id)
    assert stage.promotions.placed() == [one]


def test_the_newest_report_of_a_suite_is_kept(stage):
    for value in (1, 2):
        stage.models.add_report("bot", 1, {"suite": "held-out", "n": value}, stage.clock.now())
    stage.models.add_report("bot", 1, {"suite": "guard", "n": 3}, stage.clock.now())
    stage.models.add_report("bot", 2, {"suite": "held-out", "n": 4}, stage.clock.now())
    at = stage.clock.now().isoformat()
    assert stage.models.reports("bot", 1) == [
        {"suite": "guard", "n": 3, "at": at},
        {"suite": "held-out", "n": 2, "at": at},
    ]
    assert stage.models.reports("bot", 3) == []


def test_a_version_begins_with_its_promotion(stage):
    job = stage.world.submit("ft_9", artifact={"path": "/a/9", "digest": "9"})
    promotion = stage_promotion(stage, "pr_9")
    for _ in range(2):
        model = stage.models.add_model(job, stage.clock.now(), promotion=promotion)
        assert model.ref == "bot@v4"
    assert [(one.id, one.version) for one in stage.promotions.recent("bot") if one.id == "pr_9"] == [("pr_9", 4)]


def test_a_move_is_written_under_its_lease_or_not_at_all(stage):
    begun = stage.begin(1)
    grip = stage.promotions.hold(begun.id, "w1", stage.clock.now(), TTL)
    moved = Traffic(name="bot", alias="production", shares={1: 1.0}, reason="r", by="me", at=stage.clock.now())
    assert stage.models.shift(moved, grip) is None
    stage.clock.sleep(1)
    stage.begin(2)
    with pytest.raises(LeaseLost):
        stage.models.shift(replace(moved, shares={2: 1.0}), grip)
    assert stage.models.traffic("bot", "production").shares == {1: 1.0}


def test_a_promotion_knows_who_had_all_calls_before_it(stage):
    assert stage.begin(1, id="pr_a").before is None
    shift(stage, v1=1.0)
    shift(stage, v1=0.2, v2=0.8)
    begun = stage.begin(3, id="pr_b")
    assert begun.before == 1
    assert stage.promotions.get("pr_b") == begun
    assert stage.begin(3, id="pr_c", alias="staging").before is None
    shift(stage)
    assert stage.begin(3, id="pr_d").before is None


def test_whether_any_is_under_way(stage):
    assert not stage.promotions.under_way()
    begun = stage.begin(1, steps=(0.5, 1.0))
    assert stage.promotions.under_way()
    grip = stage.promotions.hold(begun.id, "w1", stage.clock.now(), TTL)
    assert stage.promotions.under_way(), "held"
    stage.promotions.write(grip, {"due_at": stage.clock.now() + 10 * TTL})
    assert stage.promotions.under_way(), "waiting for its time"
    stage.run(begun)
    assert not stage.promotions.under_way()


def test_a_version_with_calls_stays_live(stage):
    shift(stage, v1=1.0)
    for status in (ModelStatus.REGISTERED, ModelStatus.FAILED):
        stage.models.set_status("bot", 1, status)
        stage.models.set_status("bot", 2, status)
        assert [stage.status(version) for version in (1, 2)] == ["live", status]


def test_an_alias_that_a_training_moves_has_no_promotion_any_more(stage):
    begun, other = stage.begin(1, id="pr_a"), stage.begin(1, id="pr_b", alias="staging")
    job = stage.world.submit("ft_9", artifact={"path": "/a/9", "digest": "9"})
    stage.models.add_model(job, stage.clock.now(), alias="production")
    assert stage.promotions.get(begun.id).state is PromotionState.SUPERSEDED
    assert stage.promotions.get(begun.id).finished_at == stage.clock.now()
    assert not stage.promotions.get(other.id).final


def test_the_newest_promotions_of_one_version(stage):
    for number in range(4):
        stage.clock.sleep(1)
        stage.begin(1 + number % 2, id=f"pr_{number}")
    assert [one.id for one in stage.promotions.recent("bot", version=1)] == ["pr_2", "pr_0"]
    assert [one.id for one in stage.promotions.recent("bot", version=1, limit=1)] == ["pr_2"]


def test_a_worker_that_took_it_twice_writes_by_its_later_grip_only(stage):
    begun = stage.begin(1)
    old = stage.promotions.hold(begun.id, "w1", stage.clock.now(), TTL)
    stage.clock.sleep(TTL.total_seconds())
    new = stage.promotions.hold(begun.id, "w1", stage.clock.now(), TTL)
    with pytest.raises(LeaseLost):
        stage.promotions.write(old, {"step": 1})
    assert stage.promotions.write(new, {"step": 2}).step == 2
