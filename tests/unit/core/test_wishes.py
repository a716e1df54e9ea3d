"""Pauses, deadlines and limits of cost, through the lifecycle."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from finetune.errors import AuthenticationFailed, Problem, ProviderError, ProviderUnavailable
from finetune.jobs import JobState
from finetune.testing import FakeProvider
from tests.support.jobs import RECIPE, World, sqlite


class PausableFake(FakeProvider):
    """One more step of its script a poll, but not while it is paused."""

    def __init__(self, **how):
        super().__init__(**how)
        self.paused, self.asked = False, []

    def pause(self, remote_id):
        self.asked.append("pause")
        self.paused = True

    def resume(self, remote_id):
        self.asked.append("resume")
        self.paused = False

    def _state(self, remote_id, step):
        state = super()._state(remote_id, step)
        return "paused" if self.paused and state == "running" else state


@pytest.fixture
def world(tmp_path):
    world = World(sqlite(tmp_path), PausableFake(script=("queued", *["running"] * 20, "succeeded")))
    yield world
    world.database.close()


def hold(world, wish=True):
    world.turns.request_hold("ft_1", wish, world.clock.now())


def steps(world, count):
    for _ in range(count):
        job = world.jobs.get("ft_1")
        if job.due_at and job.due_at > world.clock.now():
            world.clock.sleep((job.due_at - world.clock.now()).total_seconds())
        world.lifecycle.advance("ft_1")
    return world.jobs.get("ft_1")


def events(world):
    return [event.message for event in world.jobs.events("ft_1")]


def test_a_job_that_has_not_begun_gives_its_turn_back(world):
    world.submit(admitted_at=world.clock.now())
    hold(world)
    job = steps(world, 1)
    assert (job.state, job.held, job.admitted_at, job.due_at) == (JobState.QUEUED, True, None, None)
    hold(world, False)
    assert world.turns.admit(world.clock.now(), {}) == ["ft_1"]
    job = world.run()
    assert (job.state, job.held) == (JobState.SUCCEEDED, False)


def test_a_running_job_is_paused_at_the_provider_and_goes_on(world):
    world.submit(admitted_at=world.clock.now())
    world.run(until=lambda job: job.provider_state == "FAKE_RUNNING")
    hold(world)
    job = world.run(until=lambda job: job.held)
    assert (job.state, job.provider_state) == (JobState.RUNNING, "FAKE_PAUSED")
    assert steps(world, 3).held
    hold(world, False)
    job = world.run(until=lambda job: not job.held)
    assert world.provider.asked == ["pause", "resume"]
    assert world.run().state is JobState.SUCCEEDED
    told = [
        message for message in events(world) if message in ("pause requested", "paused", "resume requested", "goes on")
    ]
    assert told == ["pause requested", "paused", "resume requested", "goes on"]


def test_a_pause_that_is_lifted_before_it_shows_is_undone(world):
    world.submit(admitted_at=world.clock.now())
    world.run(until=lambda job: job.provider_state == "FAKE_RUNNING")
    hold(world)
    assert not steps(world, 1).held
    hold(world, False)
    assert world.run().state is JobState.SUCCEEDED
    assert world.provider.asked == ["pause", "resume"]


def test_a_pause_that_is_lifted_before_it_was_sent_costs_one_request_at_most(world, monkeypatch):
    """The provider refuses to resume what was never paused; it is not asked again."""
    world.submit(admitted_at=world.clock.now())
    world.run(until=lambda job: job.provider_state == "FAKE_RUNNING")
    refused = refusing(world, monkeypatch, "resume", ProviderError)
    hold(world)
    hold(world, False)
    job = world.run()
    assert (job.state, job.held) == (JobState.SUCCEEDED, False)
    assert len(refused) == 1


def refusing(world, monkeypatch, method, error):
    asked = []

    def refuse(remote_id):
        asked.append(method)
        raise error(Problem(code="E407", what="the fake refuses"))

    monkeypatch.setattr(world.provider, method, refuse)
    return asked


def test_a_pause_that_is_refused_before_it_trains_is_asked_again(world, monkeypatch):
    world.provider.script = (*["queued"] * 4, *["running"] * 5, "succeeded")
    world.submit(admitted_at=world.clock.now())
    world.run(until=lambda job: job.provider_state == "FAKE_QUEUED")
    with monkeypatch.context() as patch:
        asked = refusing(world, patch, "pause", ProviderError)
        hold(world)
        job = steps(world, 2)
        assert (job.state, job.hold_requested, asked) == (JobState.RUNNING, True, ["pause"] * 2)
    assert world.run(until=lambda job: job.held).provider_state == "FAKE_PAUSED"


def test_a_pause_that_is_refused_while_it_trains_is_told_and_the_training_goes_on(world, monkeypatch):
    world.submit(admitted_at=world.clock.now())
    world.run(until=lambda job: job.provider_state == "FAKE_RUNNING")
    asked = refusing(world, monkeypatch, "pause", ProviderError)
    hold(world)
    job = world.run()
    assert (job.state, job.hold_requested, job.held, asked) == (JobState.SUCCEEDED, False, False, ["pause"])
    assert events(world).count("the fake refuses; it stays as it is") == 1


def test_a_resume_that_is_refused_leaves_it_paused(world, monkeypatch):
    world.submit(admitted_at=world.clock.now())
    world.run(until=lambda job: job.provider_state == "FAKE_RUNNING")
    hold(world)
    world.run(until=lambda job: job.held)
    refusing(world, monkeypatch, "resume", ProviderError)
    hold(world, False)
    job = steps(world, 3)
    assert (job.state, job.hold_requested, job.held) == (JobState.RUNNING, True, True)


@pytest.mark.parametrize("error", [ProviderUnavailable, AuthenticationFailed])
def test_a_pause_that_cannot_be_asked_for_is_tried_again(world, monkeypatch, error):
    world.submit(admitted_at=world.clock.now())
    world.run(until=lambda job: job.provider_state == "FAKE_RUNNING")
    with monkeypatch.context() as patch:
        refusing(world, patch, "pause", error)
        hold(world)
        assert steps(world, 1).failures == 1
    assert world.run(until=lambda job: job.held).state is JobState.RUNNING


def test_what_was_paused_at_the_provider_is_left_alone(world):
    world.submit(admitted_at=world.clock.now())
    world.run(until=lambda job: job.provider_state == "FAKE_RUNNING")
    world.provider.paused = True
    steps(world, 5)
    assert world.provider.asked == []


def test_a_paused_job_can_be_cancelled(world):
    world.submit(admitted_at=world.clock.now())
    world.run(until=lambda job: job.provider_state == "FAKE_RUNNING")
    hold(world)
    world.run(until=lambda job: job.held)
    world.jobs.request_cancel("ft_1", world.clock.now())
    assert world.run().state is JobState.CANCELLED


def deadline(world, seconds, **fields):
    return world.submit(deadline_at=world.clock.now() + timedelta(seconds=seconds), **fields)


def test_what_has_not_trained_by_its_deadline_is_cancelled_there_and_has_failed(world):
    deadline(world, 5, admitted_at=world.clock.now())
    start = world.clock.now()
    job = world.run()
    assert (job.state, job.error["code"]) == (JobState.FAILED, "E314")
    assert world.provider._cancelled == {"ft_1-a1-1"}
    assert job.finished_at - start < timedelta(seconds=8)
    assert events(world)[-1].startswith("failed: not trained by 20")


def test_one_that_never_had_its_turn_fails_at_its_deadline_too(world):
    end = world.clock.now() + timedelta(hours=1)
    world.submit(deadline_at=end, due_at=end)
    job = world.run()
    assert (job.state, job.error["code"], job.finished_at) == (JobState.FAILED, "E314", end)
    assert world.provider.made == {}


def test_one_that_is_paused_before_its_start_fails_at_its_deadline(world):
    deadline(world, 60, admitted_at=world.clock.now())
    hold(world)
    assert steps(world, 1).due_at == world.jobs.get("ft_1").deadline_at
    assert world.run().state is JobState.FAILED


def test_a_training_that_ends_in_time_is_kept(world):
    deadline(world, 3600, admitted_at=world.clock.now())
    assert world.run().state is JobState.SUCCEEDED


def test_a_training_that_ends_before_the_cancel_reaches_it_is_kept(world, monkeypatch):
    monkeypatch.setattr(world.provider, "cancel", lambda remote_id: None)
    deadline(world, 5, admitted_at=world.clock.now())
    job = world.run()
    assert (job.state, job.error, job.model) == (JobState.SUCCEEDED, None, "bot@v1")


def test_a_user_who_cancels_before_the_deadline_has_cancelled(world):
    deadline(world, 600, admitted_at=world.clock.now())
    world.jobs.request_cancel("ft_1", world.clock.now())
    assert (world.run().state, world.jobs.get("ft_1").error) == (JobState.CANCELLED, None)


def test_a_deadline_is_seen_when_it_comes_however_rare_the_looks_are(world):
    world.provider.max_poll_s, world.provider.script = 60.0, ("running",) * 500
    end = deadline(world, 1000, admitted_at=world.clock.now()).deadline_at
    world.run(until=lambda job: job.cancel_requested, steps=200)
    assert world.clock.now() == end


def test_a_deadline_that_passes_while_the_model_is_recorded_changes_nothing(world):
    world.provider.script = ("succeeded",)
    deadline(world, 60, admitted_at=world.clock.now())
    world.run(until=lambda job: job.state is JobState.REGISTERING)
    world.clock.sleep(120)
    job = world.run()
    assert (job.state, job.cancel_requested) == (JobState.SUCCEEDED, False)
    assert not any("limits.deadline" in message for message in events(world))


class CountingFake(FakeProvider):
    """Costs a quarter of a dollar a poll."""

    spent = Decimal(0)

    def poll(self, remote_id, cursor):
        self.spent += Decimal("0.25")
        return replace(super().poll(remote_id, cursor), spent_usd=self.spent)


@pytest.fixture
def costly(tmp_path):
    world = World(sqlite(tmp_path), CountingFake(script=("queued", *["running"] * 6, "succeeded")))
    yield world
    world.database.close()


def limited(world, limit):
    world.submit(admitted_at=world.clock.now(), recipe={**RECIPE, "limits": {"max_cost": limit}})
    return steps(world, 12)


def test_what_a_training_costs_is_counted_and_its_limit_kept(costly):
    job = limited(costly, "0.5 USD")
    assert (job.state, job.error["code"]) == (JobState.FAILED, "E315")
    assert job.error["what"] == "the training has cost 0.75 US dollars, and limits.max_cost is 0.5"
    assert job.cost["spent"] == "1.00"
    assert "limits.max_cost is used up (0.75 of 0.5 USD): cancelling" in events(costly)


def test_up_to_its_limit_a_training_goes_on_and_what_has_trained_is_kept(costly):
    job = limited(costly, "1.75 USD")
    assert (job.state, job.error, job.cost) == (JobState.SUCCEEDED, None, {"spent": "2.00"})


def test_without_a_limit_it_is_counted_all_the_same(costly):
    costly.submit(admitted_at=costly.clock.now())
    assert steps(costly, 12).cost == {"spent": "2.00"}
