"""The state machine: every step, every crash, every cancel ends as it should, and nothing is paid twice."""

from contextlib import nullcontext
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from finetune.errors import LeaseLost, Problem, StateError
from finetune.jobs import FINAL, TRANSITIONS, Change, JobState
from finetune.lifecycle import LEASE
from finetune.setbacks import MAX_FAILURES
from finetune.testing import FakeProvider
from tests.support.jobs import World, sqlite


@pytest.fixture
def world(tmp_path):
    world = World(sqlite(tmp_path))
    yield world
    world.database.close()


def states(world, job_id="ft_1"):
    return [e.message.split(":")[0] for e in world.jobs.events(job_id) if e.kind == "state"]


def test_a_job_goes_all_the_way(world):
    world.submit()
    job = world.run()
    assert job.state is JobState.SUCCEEDED
    assert job.model == "bot@v1"
    assert states(world) == ["queued", "preparing", "submitting", "running", "registering", "succeeded"]
    assert job.provider_state == "FAKE_SUCCEEDED"
    assert job.finished_at == world.clock.now()
    assert [m.value for m in world.jobs.metrics("ft_1")] == [1.0, 0.5, 1 / 3]
    assert [e.message for e in world.jobs.events("ft_1") if e.kind == "provider"] == [
        "fake event 0",
        "fake event 1",
        "fake event 2",
    ]


def test_a_failed_training_says_why(world):
    world.provider.script = ("running", "failed")
    world.submit()
    job = world.run()
    assert job.state is JobState.FAILED
    assert job.error["code"] == "E401"
    assert world.models.models() == []


def test_registering_with_an_alias_points_it_there(world):
    recipe = {**world.submit("ft_0").recipe, "register": {"alias": "production"}}
    world.submit("ft_1", recipe=recipe)
    world.run("ft_1")
    (model,) = world.models.models("bot")
    assert model.aliases == ("production",)


#: How often a job passes each boundary when nothing goes wrong.
PASSED = {
    "claim": 7,
    "upload": 1,
    "find": 1,
    "create_before": 1,
    "create_after": 1,
    "poll": 3,
    "add_model": 1,
    "apply": 7,
    "applied": 7,
}
#: With all due steps under one lease there are three of those: before the first wait, and one after each.
AT_ONCE = {**PASSED, "claim": 3}


@pytest.mark.parametrize(
    ("boundary", "nth", "at_once"),
    [
        (boundary, nth, passed is AT_ONCE)
        for passed in (PASSED, AT_ONCE)
        for boundary, times in passed.items()
        for nth in range(1, times + 1)
    ],
)
def test_a_crash_at_any_boundary_ends_the_same(world, boundary, nth, at_once):
    """The process dies there: nothing after it runs, its lease runs out, another worker goes on."""
    world.provider.grace_s = 5.0
    world.at_once = at_once
    crash_at(world, boundary, nth)
    world.submit()
    crashes = 0
    for _ in range(60):
        try:
            job = world.run(steps=40)
            break
        except Crash:
            crashes += 1
            world.clock.sleep(LEASE.total_seconds())
            world.lifecycle = world.worker(f"w{crashes + 1}")
    assert crashes == 1
    assert job.state is JobState.SUCCEEDED
    assert states(world) == ["queued", "preparing", "submitting", "running", "registering", "succeeded"]
    assert [len(made) for made in world.provider.made.values()] == [1], "paid twice"
    assert [m.ref for m in world.models.models()] == ["bot@v1"]
    assert [e.message for e in world.jobs.events("ft_1") if e.kind == "provider"] == sorted(
        {e.message for e in world.jobs.events("ft_1") if e.kind == "provider"}
    ), "an event was recorded twice"


class Crash(BaseException):
    """Not an Exception: no handler of ours may see it."""


def crash_at(world, boundary, nth):
    left = [nth]

    def strike(name):
        if name == boundary:
            left[0] -= 1
            if left[0] == 0:
                raise Crash

    world.provider.on_call = strike
    claim, apply = world.jobs.claim, world.jobs.apply

    def claiming(*args):
        lease = claim(*args)
        strike("claim")
        return lease

    def applying(*args, **kept):
        # Before the write: the step was done at the provider, and nobody knows.
        strike("apply")
        job = apply(*args, **kept)
        strike("applied")
        return job

    def adding(*args, **how):
        model = add_model(*args, **how)
        strike("add_model")
        return model

    add_model = world.models.add_model
    world.jobs.claim, world.jobs.apply, world.models.add_model = claiming, applying, adding


def test_a_crash_after_the_commit_and_before_the_bell_loses_nothing(world):
    world.submit()
    world.queue.wake = lambda task, key: (_ for _ in ()).throw(Crash())
    with pytest.raises(Crash):
        world.lifecycle.advance("ft_1")
    assert world.jobs.get("ft_1").state is JobState.PREPARING
    world.queue.wake = lambda task, key: None
    assert world.run().state is JobState.SUCCEEDED


def test_a_lost_answer_to_create_is_looked_up_and_adopted(world):
    world.provider.grace_s = 30.0
    world.provider.faults = ["create_after"]
    world.submit()
    job = world.run()
    assert job.state is JobState.SUCCEEDED
    assert list(world.provider.made.values()) == [["ft_1-a1-1"]]
    assert any("found ft_1-a1-1" in e.message for e in world.jobs.events("ft_1"))


def test_after_an_unknown_outcome_it_waits_for_the_grace_period(world):
    """The provider's list may lag: no second create before the grace period has passed."""
    world.provider.grace_s = 1000.0
    world.submit()
    world.run(until=lambda job: job.state is JobState.SUBMITTING)
    real = world.provider.create
    world.provider.create = lambda *a: (_ for _ in ()).throw(Crash())
    with pytest.raises(Crash):
        world.lifecycle.advance("ft_1")
    world.provider.create = real
    sent = world.jobs.get("ft_1").create_sent_at
    world.clock.sleep(LEASE.total_seconds())
    looks = []
    while world.provider.made == {}:
        world.lifecycle.advance("ft_1")
        looks.append(world.clock.now() - sent)
        world.clock.sleep((world.jobs.get("ft_1").due_at - world.clock.now()).total_seconds())
    assert looks[-1] == timedelta(seconds=1000)
    # Sooner at first, and not often.
    assert looks[1] == 2 * looks[0] == timedelta(seconds=60)
    assert len(looks) < 10
    assert world.run().state is JobState.SUCCEEDED


def test_the_oldest_of_several_is_adopted_and_the_rest_cancelled(world):
    world.submit()
    world.run(until=lambda job: job.state is JobState.SUBMITTING)
    for _ in range(3):
        world.provider.create(None, None, "ft_1-a1")
    job = world.run()
    assert job.remote_id == "ft_1-a1-1"
    assert world.provider._cancelled == {"ft_1-a1-2", "ft_1-a1-3"}
    assert job.state is JobState.SUCCEEDED


def test_a_refused_create_is_final(world):
    from finetune.errors import Problem, ProviderError

    def refuse(*args):
        raise ProviderError(Problem(code="E401", what="no"))

    world.provider.create = refuse
    world.submit()
    assert world.run().state is JobState.FAILED


def test_an_unreachable_provider_is_given_up_before_anything_was_paid(world):
    world.provider.faults = ["find"] * 100
    world.submit()
    job = world.run()
    assert job.state is JobState.FAILED
    assert len([e for e in world.jobs.events("ft_1") if e.kind == "warning"]) == MAX_FAILURES - 1


def test_an_unreachable_provider_is_waited_for_while_it_trains(world):
    world.submit()
    world.run(until=lambda job: job.state is JobState.RUNNING)
    world.provider.faults = ["poll"] * 40
    job = world.run(steps=100)
    assert job.state is JobState.SUCCEEDED
    assert job.failures == 0


def test_a_fault_in_an_adapter_does_not_lose_the_job(world):
    poll, calls = world.provider.poll, []

    def broken(*args):
        calls.append(args)
        if len(calls) == 1:
            raise KeyError("status")
        return poll(*args)

    world.provider.poll = broken
    world.submit()
    assert world.run().state is JobState.SUCCEEDED
    assert any("E991" in e.message for e in world.jobs.events("ft_1"))


@pytest.mark.parametrize("state", [JobState.QUEUED, JobState.PREPARING, JobState.SUBMITTING, JobState.RUNNING])
def test_cancel_in_any_state(world, state):
    world.provider.script = ("running",)
    world.submit()
    world.run(until=lambda job: job.state is state)
    world.jobs.request_cancel("ft_1", world.clock.now())
    job = world.run()
    assert job.state is JobState.CANCELLED
    assert world.provider._cancelled == {made for all_made in world.provider.made.values() for made in all_made}


def test_cancel_during_an_unknown_create_is_kept_and_applied_after_the_lookup(world):
    world.provider.script = ("running",)
    world.provider.grace_s = 10.0
    world.provider.faults = ["create_after"]
    world.submit()
    world.run(until=lambda job: job.create_sent_at is not None)
    world.jobs.request_cancel("ft_1", world.clock.now())
    job = world.run()
    assert job.state is JobState.CANCELLED
    assert world.provider._cancelled == {"ft_1-a1-1"}


def test_a_cancel_that_comes_too_late_does_not_lose_the_model(world):
    world.provider.script = ("succeeded",)
    world.submit()
    world.run(until=lambda job: job.state is JobState.RUNNING)
    world.provider.cancel = lambda remote_id: None
    world.jobs.request_cancel("ft_1", world.clock.now())
    job = world.run()
    assert job.state is JobState.SUCCEEDED
    assert job.model == "bot@v1"


def test_a_cancel_during_a_step_makes_the_job_due_at_once(world):
    world.provider.script = ("running",)
    world.submit()
    world.run(until=lambda job: job.state is JobState.RUNNING)
    world.provider.on_call = lambda method: method == "poll" and world.jobs.request_cancel("ft_1", world.clock.now())
    job = world.lifecycle.advance("ft_1")
    assert job.due_at == world.clock.now()


def test_two_workers_at_once_one_step(world):
    world.submit()
    lease = world.jobs.claim("ft_1", "other", world.clock.now(), LEASE)
    assert world.lifecycle.advance("ft_1") is None
    world.clock.sleep(LEASE.total_seconds())
    assert world.lifecycle.advance("ft_1").state is JobState.PREPARING
    with pytest.raises(LeaseLost):
        world.jobs.apply(lease, Change(state=JobState.PREPARING, due_at=None, fields={}), world.clock.now())


def test_polls_slow_down_as_a_job_ages(world):
    world.provider.script = ("running",)
    world.provider.max_poll_s = 60.0
    world.submit()
    world.run(until=lambda job: job.state is JobState.RUNNING)
    pauses = []
    for _ in range(200):
        job = world.lifecycle.advance("ft_1")
        pauses.append((job.due_at - world.clock.now()).total_seconds())
        world.clock.sleep(pauses[-1])
    assert pauses[0] == 1.0
    assert pauses == sorted(pauses)
    assert pauses[-1] == 60.0


@given(data=st.data())
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
def test_random_walks_only_use_the_table(tmp_path_factory, data):
    """Whatever fails, whenever it is cancelled, whoever crashes: only transitions of the table, and always an end."""
    script = data.draw(st.lists(st.sampled_from(["queued", "running", "paused"]), max_size=3))
    end = data.draw(st.sampled_from(["succeeded", "failed", "cancelled"]))
    faults = st.lists(
        st.sampled_from(["create_before", "create_after", "find", "poll", "upload", "cancel"]), max_size=6
    )
    provider = FakeProvider(script=(*script, end), grace_s=data.draw(st.sampled_from([0.0, 7.0])))
    provider.faults = data.draw(faults)
    world = World(sqlite(tmp_path_factory.mktemp("walk")), provider)
    world.submit()
    crashes = data.draw(st.lists(st.integers(1, 25), max_size=4))
    calls = [0]

    def crash(method):
        calls[0] += 1
        if calls[0] in crashes:
            raise Crash

    provider.on_call = crash
    cancel_at = data.draw(st.one_of(st.none(), st.integers(0, 12)))
    before = JobState.QUEUED
    for step in range(120):
        if step == cancel_at:
            world.jobs.request_cancel("ft_1", world.clock.now())
        job = world.jobs.get("ft_1")
        assert job.state == before or job.state in TRANSITIONS[before]
        before = job.state
        if job.final:
            break
        world.clock.sleep(max(0.0, (job.due_at - world.clock.now()).total_seconds()))
        try:
            world.lifecycle.advance("ft_1")
        except Crash:
            world.clock.sleep(LEASE.total_seconds())
            world.lifecycle = world.worker(f"w{step}")
    world.database.close()
    assert before in FINAL
    assert all(len(made) == 1 for made in provider.made.values()), "paid twice"
    if before is JobState.SUCCEEDED:
        assert [m.job_id for m in world.models.models()] == ["ft_1"]


def test_a_key_that_expired_does_not_abandon_a_training_that_is_paid_for(world):
    from finetune.errors import AuthenticationFailed, Problem

    world.submit(fingerprint="same")
    world.run(until=lambda job: job.state is JobState.RUNNING)
    poll, left = world.provider.poll, [25]

    def refused(*args):
        left[0] -= 1
        if left[0] >= 0:
            raise AuthenticationFailed(Problem(code="E403", what="the key has expired"))
        return poll(*args)

    world.provider.poll = refused
    job = world.run(until=lambda job: job.failures > MAX_FAILURES + 2, steps=80)
    assert job.state is JobState.RUNNING
    assert world.submit("ft_2", fingerprint="same").id == "ft_1", "the same recipe would be paid for twice"
    assert world.run(steps=100).state is JobState.SUCCEEDED


def test_a_key_that_is_wrong_from_the_start_ends_the_job(world):
    from finetune.errors import AuthenticationFailed, Problem

    def refused(*args):
        raise AuthenticationFailed(Problem(code="E403", what="no key"))

    world.provider.upload = refused
    world.submit()
    assert world.run().state is JobState.FAILED


def test_registering_again_after_a_crash_does_not_undo_a_promotion(world):
    recipe = {**world.submit("ft_0").recipe, "register": {}}
    world.submit("ft_1", recipe=recipe)
    world.run("ft_1", until=lambda job: job.state is JobState.REGISTERING)
    apply = world.jobs.apply
    world.jobs.apply = lambda *args, **kept: (_ for _ in ()).throw(Crash())
    with pytest.raises(Crash):
        world.lifecycle.advance("ft_1")
    world.jobs.apply = apply
    assert [m.aliases for m in world.models.models()] == [("production",)], "`register: {}` means production"
    other = world.submit("ft_2", artifact={})
    world.models.add_model(other, world.clock.now(), alias="production")
    world.clock.sleep(LEASE.total_seconds())
    assert world.run("ft_1").model == "bot@v1"
    assert [m.aliases for m in world.models.models()] == [(), ("production",)]


def always():
    return True


def test_due_steps_are_done_under_one_lease(world):
    world.submit()
    job = world.lifecycle.advance("ft_1", more=always)
    assert states(world) == ["queued", "preparing", "submitting", "running"]
    assert job.due_at > world.clock.now(), "after the first poll it waits"
    assert world.queue.rung == []
    assert world.jobs.due(job.due_at, 1) == [("ft_1", 1)], "one claim, given back"


def test_a_worker_that_should_stop_gives_the_job_back_after_its_step(world):
    world.submit()
    left = iter([True, False])
    assert world.lifecycle.advance("ft_1", more=lambda: next(left)).state is JobState.SUBMITTING
    assert world.queue.rung == [("ft.advance", "ft_1")]
    assert world.worker("w2").advance("ft_1").state is JobState.RUNNING


def test_no_step_is_begun_when_the_lease_is_a_third_old(world):
    """A long upload: others wait for this worker too."""
    world.submit()
    world.provider.on_call = lambda method: method == "upload" and world.clock.sleep(LEASE.total_seconds() / 3)
    assert world.lifecycle.advance("ft_1", more=always).state is JobState.SUBMITTING
    assert world.queue.rung == [("ft.advance", "ft_1")]


def test_a_job_that_is_always_due_does_not_keep_its_worker(tmp_path):
    class Haggler(FakeProvider):
        """Names another price at every poll, which is committed before the next look."""

        def poll(self, remote_id, cursor):
            seen = super().poll(remote_id, cursor)
            return replace(seen, quote={"usd": len(seen.events) + int(cursor or 0), "tokens": 1})

    world = World(sqlite(tmp_path), Haggler(script=("queued",)))
    world.submit()
    applied, apply = [], world.jobs.apply
    world.jobs.apply = lambda *args, **kept: applied.append(args) or apply(*args, **kept)
    assert world.lifecycle.advance("ft_1", more=always).state is JobState.RUNNING
    assert len(applied) == 8
    assert world.queue.rung == [("ft.advance", "ft_1")]
    assert world.worker("w2").advance("ft_1"), "the lease was given back"
    world.database.close()


def test_a_cancel_during_the_upload_ends_it_before_it_costs_anything(world):
    world.submit()
    world.provider.on_call = lambda name: name == "upload" and world.jobs.request_cancel("ft_1", world.clock.now())
    assert world.lifecycle.advance("ft_1", more=always).state is JobState.CANCELLED
    assert world.provider.made == {}


def test_a_worker_that_was_cut_off_between_its_steps_writes_nothing(world):
    """The other one has taken the job over, and done all of it, while this one asked the provider."""
    world.submit()
    other = world.worker("w2")

    def cut_off(method):
        if method == "find":
            world.provider.on_call = lambda method: None
            world.clock.sleep(LEASE.total_seconds())
            other.advance("ft_1", more=always)

    world.provider.on_call = cut_off
    world.lifecycle.advance("ft_1", more=always)
    assert states(world) == ["queued", "preparing", "submitting", "running"]
    assert [len(made) for made in world.provider.made.values()] == [1], "paid twice"
    assert world.queue.rung == []


def test_a_backlog_is_taken_longest_due_first(world):
    for number in range(5):
        world.submit(f"ft_{number}", due_at=world.clock.now() - timedelta(seconds=number))
    moved = [(job.id, step().state) for job, step in world.lifecycle.advance_due(3, more=always)]
    assert moved == [("ft_4", "running"), ("ft_3", "running"), ("ft_2", "running")]
    assert [due.key for due in world.jobs.due(world.clock.now(), 9)] == ["ft_1", "ft_0"]
    # Each was given back after its own steps.
    assert {world.jobs.get(f"ft_{number}").state for number in range(2, 5)} == {JobState.RUNNING}


@pytest.mark.parametrize("why", ["stops", "is slow", "leaves", "fails"])
def test_what_is_left_of_a_batch_is_given_back(world, why):
    for number in range(4):
        world.submit(f"ft_{number}", due_at=world.clock.now() - timedelta(seconds=number))
    before = [world.jobs.get(f"ft_{number}") for number in range(3)]
    going = [True]
    batch = world.lifecycle.advance_due(4, more=lambda: going[0])
    with pytest.raises(StateError) if why == "fails" else nullcontext():
        for job, step in batch:
            assert job.id == "ft_3", "a second one was begun"
            if why == "fails":
                world.provider.on_call = broken_disk
            step()
            going[0] = why != "stops"
            world.clock.sleep(LEASE.total_seconds() / 3 if why == "is slow" else 1)
            if why == "leaves":
                break
    batch.close()
    assert [world.jobs.get(f"ft_{number}") for number in range(3)] == before
    assert [due.key for due in world.jobs.due(world.clock.now(), 9)][:3] == ["ft_2", "ft_1", "ft_0"]


def broken_disk(method):
    raise StateError(Problem(code="E501", what="no disk"))


def test_of_a_batch_another_worker_takes_what_its_lease_ends_for(world):
    """The worker of the batch is cut off in its first job, and writes nothing into the second one either."""
    for number in range(2):
        world.submit(f"ft_{number}", due_at=world.clock.now() - timedelta(seconds=number))
    other = world.worker("w2")
    for _, step in world.lifecycle.advance_due(2, more=always):
        world.clock.sleep(LEASE.total_seconds())
        assert other.advance("ft_0", more=always).state is JobState.RUNNING
        step()
    assert world.jobs.get("ft_0").state is JobState.RUNNING
    assert [len(made) for made in world.provider.made.values()] == [1, 1]
