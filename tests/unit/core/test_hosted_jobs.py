"""What the lifecycle does for hosted jobs only: doubt, quotes, files that tell, uploads that go, spread retries."""

from datetime import timedelta

import pytest

from finetune.abilities import RemoteFile
from finetune.doubt import DOUBT
from finetune.errors import Problem, ProviderError, ProviderUnavailable, StoreBusy
from finetune.jobs import JobState
from finetune.lifecycle import Lifecycle, Ways
from finetune.ports import Observation
from finetune.testing import FakeProvider
from tests.support.jobs import RECIPE, World, sqlite


class HostedFake(FakeProvider):
    """With everything that only some providers can do; `hidden` are jobs that its lists do not show yet."""

    def __init__(self, **how):
        super().__init__(**how)
        self.hidden: set[str] = set()
        self.started: list[str] = []
        self.deleted: list[str] = []
        self.quote = None
        self.results: Exception | list[str] = []

    def find(self, run_key):
        return [job for job in super().find(run_key) if job.remote_id not in self.hidden]

    def poll(self, remote_id, cursor):
        if self.quote is None or remote_id in self.started or remote_id in self._cancelled:
            return super().poll(remote_id, cursor)
        return Observation(state="preparing", raw_state="VALIDATED", cursor=None, quote=self.quote)

    def unconfigured(self):
        return []

    def reach(self):
        return "here"

    def start(self, remote_id):
        self.started.append(remote_id)

    def files(self):
        return [
            RemoteFile(
                file_id="file-1", name="ft-1", bytes=1, uploaded_at=self._remote(next(iter(self._polls))).created_at
            )
        ]

    def delete_file(self, file_id):
        self.deleted.append(file_id)

    def file_ids(self, data):
        return list(data.values())

    def fetch_results(self, remote_id, folder):
        if isinstance(self.results, Exception):
            raise self.results
        return [folder / name for name in self.results]


class HostedWorld(World):
    """With ways of its own."""

    ways = Ways()

    def worker(self, owner):
        return Lifecycle(
            self.jobs, self.models, lambda name: self.provider, self.queue, self.clock, owner=owner, ways=self.ways
        )


@pytest.fixture
def world(tmp_path):
    return HostedWorld(sqlite(tmp_path), HostedFake(grace_s=30.0, script=("queued", *["running"] * 30, "succeeded")))


def events(world, job_id="ft_1"):
    return [event.message for event in world.jobs.events(job_id)]


def with_recipe(**more):
    return {"recipe": {**RECIPE, **more}}


def test_a_create_that_was_carried_out_late_is_found_and_the_newer_job_cancelled(world):
    world.provider.faults = ["create_after"]
    world.submit()
    world.run(until=lambda job: bool(world.provider.made.get("ft_1-a1")))
    world.provider.hidden = {"ft_1-a1-1"}
    job = world.run(until=lambda job: job.state is JobState.RUNNING)
    assert job.remote_id == "ft_1-a1-2"
    assert job.doubt_until is not None

    world.provider.hidden = set()
    job = world.run()

    assert job.state is JobState.SUCCEEDED
    assert job.remote_id == "ft_1-a1-1"
    assert world.provider._cancelled == {"ft_1-a1-2"}
    assert job.doubt_until is None
    assert any("kept ft_1-a1-1; cancelled ft_1-a1-2" in message for message in events(world))


def test_an_older_job_that_has_ended_is_not_adopted(world):
    world.submit()
    world.run(until=lambda job: job.state is JobState.SUBMITTING)
    for _ in range(2):
        world.provider.create(None, None, "ft_1-a1")
    world.provider.cancel("ft_1-a1-1")

    job = world.run()

    assert job.remote_id == "ft_1-a1-2"
    assert world.provider._cancelled == {"ft_1-a1-1"}


def in_doubt(world):
    """A running job whose create was sent twice; the first job of its key is in no list yet."""
    world.provider.faults, world.provider.hidden = ["create_after"], {"ft_1-a1-1"}
    world.submit()
    world.run(until=lambda job: job.state is JobState.RUNNING)
    world.provider.hidden = set()


def watched(world, steps=200):
    """To the end of the watch that follows the job's end; the looks that it took."""
    looks = []
    world.provider.on_call = lambda method: looks.append(world.clock.now()) if method == "find" else None
    world.run(until=lambda job: job.due_at is None, steps=steps)
    return looks


def test_a_job_cancelled_while_its_create_is_lost_is_looked_for_until_the_hour_is_over(world):
    world.provider.faults, world.provider.hidden = ["create_after"], {"ft_1-a1-1"}
    world.submit()
    world.run(until=lambda job: job.create_sent_at is not None)
    world.jobs.request_cancel("ft_1", world.clock.now())
    job = world.run()
    assert (job.state, job.remote_id, job.due_at) == (JobState.CANCELLED, None, world.clock.now())
    assert world.jobs.recent(unfinished=True) == []
    assert world.provider._cancelled == set()
    ended_at = job.finished_at

    world.clock.sleep(1200)
    world.provider.hidden = set()
    watched(world)

    job = world.jobs.get("ft_1")
    assert (job.state, job.doubt_until, job.finished_at) == (JobState.CANCELLED, None, ended_at)
    assert world.provider._cancelled == {"ft_1-a1-1"}
    assert sum("ft_1-a1-1: cancelled it" in message for message in events(world)) == 1


def test_what_ends_slowly_is_told_once_and_waited_for(world, monkeypatch):
    world.provider.faults, world.provider.hidden = ["create_after"], {"ft_1-a1-1"}
    world.submit()
    world.run(until=lambda job: job.create_sent_at is not None)
    world.jobs.request_cancel("ft_1", world.clock.now())
    world.run()
    world.provider.hidden, asked = set(), []
    # It is not cancelled at once.
    monkeypatch.setattr(world.provider, "cancel", asked.append)
    world.run(until=lambda job: len(asked) == 5)
    world.provider._cancelled = {"ft_1-a1-1"}

    watched(world)

    assert asked == ["ft_1-a1-1"] * 5
    assert sum("ft_1-a1-1: cancelled it" in message for message in events(world)) == 1


def test_nothing_that_turns_up_ends_the_watch_after_an_hour(world):
    world.provider.faults, world.provider.hidden = ["create_after"], {"ft_1-a1-1"}
    world.submit()
    world.run(until=lambda job: job.create_sent_at is not None)
    world.jobs.request_cancel("ft_1", world.clock.now())
    world.run()
    before = len(events(world))
    start = world.clock.now()

    looks = watched(world)

    assert DOUBT <= looks[-1] - start <= DOUBT + timedelta(minutes=1)
    assert len(looks) < 120
    assert len(events(world)) == before


def test_a_create_that_is_refused_the_second_time_leaves_the_first_in_doubt(world, monkeypatch):
    world.provider.faults, world.provider.hidden = ["create_after"], {"ft_1-a1-1"}
    world.submit()
    world.run(until=lambda job: job.create_sent_at is not None and job.failures > 0)

    def refuse(*args):
        raise ProviderError(Problem(code="E401", what="no"))

    monkeypatch.setattr(world.provider, "create", refuse)
    job = world.run()
    assert (job.state, job.error["code"]) == (JobState.FAILED, "E401")
    world.provider.hidden = set()

    watched(world)

    assert world.provider._cancelled == {"ft_1-a1-1"}
    assert world.jobs.get("ft_1").state is JobState.FAILED
    assert world.jobs.get("ft_1").error["code"] == "E401"


def test_a_job_that_ends_within_the_hour_leaves_the_watch_behind(world):
    world.provider.script = ("running", "succeeded")
    world.provider.faults, world.provider.hidden = ["create_after"], {"ft_1-a1-1"}
    world.submit()
    job = world.run()
    assert (job.state, job.remote_id) == (JobState.SUCCEEDED, "ft_1-a1-2")
    world.provider.hidden, world.provider.script = set(), ("running",) * 9

    watched(world)

    job = world.jobs.get("ft_1")
    assert (job.state, job.remote_id, job.model) == (JobState.SUCCEEDED, "ft_1-a1-2", "bot@v1")
    assert world.provider._cancelled == {"ft_1-a1-1"}


def test_one_that_had_ended_before_it_turned_up_is_told(world):
    world.provider.script = ("succeeded",)
    world.provider.faults, world.provider.hidden = ["create_after"], {"ft_1-a1-1"}
    world.submit()
    world.run()
    world.provider.hidden = set()
    world.provider.poll("ft_1-a1-1", None)
    # Its list tells what a poll would.
    world.provider._polls["ft_1-a1-1"] = 9

    watched(world)

    assert world.provider._cancelled == set()
    assert any("as ft_1-a1-1: it had ended there as" in message for message in events(world))


def test_a_provider_that_cannot_be_asked_is_asked_for_a_day(world, monkeypatch):
    world.provider.faults, world.provider.hidden = ["create_after"], {"ft_1-a1-1"}
    world.submit()
    world.run(until=lambda job: job.create_sent_at is not None)
    world.jobs.request_cancel("ft_1", world.clock.now())
    world.run()
    start, asked = world.clock.now(), []

    def fail(run_key):
        asked.append(world.clock.now())
        raise ProviderUnavailable(Problem(code="E402", what="nobody there"))

    monkeypatch.setattr(world.provider, "find", fail)
    world.run(until=lambda job: job.due_at is None, steps=2000)

    assert asked[-1] - start >= timedelta(hours=24)
    assert "no longer looking for a second job of ft_1-a1: nobody there" in events(world)[-1]


def test_an_end_without_doubt_is_the_end(world):
    world.submit()
    assert world.run().due_at is None


def test_of_two_that_have_ended_the_one_that_trained_is_kept(world):
    world.provider.script = ("succeeded",)
    in_doubt(world)
    world.provider._cancelled = {"ft_1-a1-1"}

    job = world.run()

    assert (job.state, job.remote_id) == (JobState.SUCCEEDED, "ft_1-a1-2")


def test_a_job_that_has_trained_is_kept_and_the_older_cancelled(world, monkeypatch):
    in_doubt(world)
    monkeypatch.setattr(
        world.provider, "_state", lambda remote_id, step: "succeeded" if remote_id.endswith("-2") else "running"
    )

    job = world.run()

    assert (job.state, job.remote_id) == (JobState.SUCCEEDED, "ft_1-a1-2")
    assert world.provider._cancelled == {"ft_1-a1-1"}


def test_of_two_that_have_failed_ours_tells_why(world):
    world.provider.script = ("failed",)
    in_doubt(world)
    assert (world.run().remote_id, world.jobs.get("ft_1").state) == ("ft_1-a1-2", JobState.FAILED)


def test_a_create_in_doubt_is_not_given_up_while_the_next_ones_cannot_be_sent(world):
    world.provider.faults, world.provider.hidden = ["create_after"], {"ft_1-a1-1"}
    world.submit()
    world.run(until=lambda job: bool(world.provider.made.get("ft_1-a1")))
    world.provider.faults = ["create_before"] * 20
    world.run(until=lambda job: job.failures > 15, steps=200)

    world.provider.hidden = set()

    job = world.run()
    assert (job.state, job.remote_id) == (JobState.SUCCEEDED, "ft_1-a1-1")


def test_doubt_ends_after_an_hour(world):
    world.provider.faults, world.provider.hidden = ["create_after"], {"ft_1-a1-1"}
    world.provider.max_poll_s, world.provider.script = 60.0, ("running",) * 500
    world.submit()
    world.run(until=lambda job: job.doubt_until is not None)
    start = world.clock.now()
    looks = []
    world.provider.on_call = lambda method: looks.append(world.clock.now()) if method == "find" else None

    world.run(until=lambda job: job.doubt_until is None, steps=500)

    assert max(looks) - start >= DOUBT
    assert len(looks) > 30


def test_a_quoted_price_is_told_before_the_start(world):
    world.provider.quote = {"usd": "4.00", "tokens": 100}
    world.submit()
    job = world.run(until=lambda job: job.cost is not None)
    assert job.cost == {"quote": {"usd": "4.00", "tokens": 100}}
    assert world.provider.started == []
    assert "the provider asks 4.00 US dollars; starting the training" in events(world)

    assert world.run().state is JobState.SUCCEEDED
    assert world.provider.started == ["ft_1-a1-1"]


@pytest.mark.parametrize("quote", [{"usd": "4.01"}, {"usd": None}])
def test_a_price_above_the_limit_or_unknown_is_not_started(world, quote):
    world.provider.quote = quote
    world.submit(**with_recipe(limits={"max_cost": "4 USD"}))

    job = world.run()

    assert job.state is JobState.FAILED
    assert job.error["code"] == "E311"
    assert world.provider.started == []
    assert world.provider._cancelled == {"ft_1-a1-1"}


@pytest.mark.parametrize(("quote", "state"), [({"usd": None}, JobState.SUCCEEDED), ({"usd": "9"}, JobState.FAILED)])
def test_an_unknown_price_can_be_accepted_and_one_above_the_limit_cannot(world, quote, state):
    world.provider.quote = quote
    world.submit(**with_recipe(limits={"max_cost": "4 USD"}, allow_ignored=["limits.max_cost"]))
    assert world.run().state is state


def test_a_price_at_the_limit_is_started(world):
    world.provider.quote = {"usd": "4.00"}
    world.submit(**with_recipe(limits={"max_cost": "4 USD"}))
    assert world.run().state is JobState.SUCCEEDED


def test_a_cancel_while_a_price_waits_starts_nothing(world):
    world.provider.quote = {"usd": "4.00"}
    world.submit()
    world.run(until=lambda job: job.state is JobState.RUNNING)
    world.jobs.request_cancel("ft_1", world.clock.now())

    assert world.run().state is JobState.CANCELLED
    assert world.provider.started == []


def test_a_cancel_that_takes_its_time_starts_nothing(world, monkeypatch):
    world.provider.quote = {"usd": "4.00"}
    world.submit()
    world.run(until=lambda job: job.cost is not None)
    world.jobs.request_cancel("ft_1", world.clock.now())
    with monkeypatch.context() as patch:
        patch.setattr(world.provider, "cancel", lambda remote_id: None)
        world.lifecycle.advance("ft_1")
    assert world.provider.started == []
    assert world.run().state is JobState.CANCELLED


def test_a_job_that_somebody_cancels_at_the_provider_says_so(world):
    world.submit()
    job = world.run(until=lambda job: job.state is JobState.RUNNING)
    world.provider.cancel(job.remote_id)

    assert world.run().state is JobState.CANCELLED
    assert any("cancelled at the provider, not through ft" in message for message in events(world))


def test_files_that_tell_of_the_training_are_fetched(world, tmp_path):
    world.ways = Ways(results_dir=tmp_path)
    world.lifecycle = world.worker("w1")
    world.provider.results = ["a.csv"]
    world.submit()

    job = world.run()

    assert job.artifact["results"] == [str(tmp_path / "ft_1-a1" / "a.csv")]
    assert world.models.models()[0].artifact["results"] == [str(tmp_path / "ft_1-a1" / "a.csv")]


@pytest.mark.parametrize("kind", [ProviderUnavailable, ProviderError, lambda problem: ValueError("no CSV")])
def test_a_model_is_worth_more_than_its_files(world, tmp_path, kind):
    world.ways = Ways(results_dir=tmp_path)
    world.lifecycle = world.worker("w1")
    world.provider.results = kind(Problem(code="E403", what="no"))
    world.submit()

    job = world.run()

    assert job.state is JobState.SUCCEEDED
    assert "results" not in job.artifact
    told = "a step failed unexpectedly: ValueError" if isinstance(world.provider.results, ValueError) else "no"
    assert any(f"result files were not fetched: {told}" in message for message in events(world))


@pytest.mark.parametrize(
    ("keeps", "wish", "gone"),
    [(True, None, False), (False, None, True), (True, False, True), (False, True, False)],
)
def test_uploads_are_deleted_as_recipe_or_settings_say(world, keeps, wish, gone):
    world.ways = Ways(keep_uploads=keeps)
    world.lifecycle = world.worker("w1")
    dataset = {"path": "data.jsonl", **({} if wish is None else {"keep_upload": wish})}
    world.submit(**with_recipe(dataset=dataset))

    world.run()

    assert world.provider.deleted == (["file-1"] if gone else [])


def test_an_upload_that_another_job_needs_stays(world):
    world.ways = Ways(keep_uploads=False)
    world.lifecycle = world.worker("w1")
    world.submit()
    world.submit("ft_2")
    world.run("ft_2", until=lambda job: job.state is JobState.RUNNING)

    world.run("ft_1")
    assert world.provider.deleted == []
    world.run("ft_2")
    assert world.provider.deleted == ["file-1"]


@pytest.mark.parametrize(("digest", "gone"), [("d", []), ("other", ["file-1"])])
def test_an_upload_that_another_job_is_about_to_find_stays(world, digest, gone):
    world.ways = Ways(keep_uploads=False)
    world.lifecycle = world.worker("w1")
    world.submit()
    job = world.submit("ft_2", data={**world.jobs.get("ft_1").data, "digest": digest})
    assert job.remote_data is None
    world.run("ft_1")
    assert world.provider.deleted == gone


def test_uploads_stay_for_the_next_look_when_our_own_store_is_at_fault(world, monkeypatch):
    world.ways = Ways(keep_uploads=False)
    world.lifecycle = world.worker("w1")
    world.submit()
    world.run(until=lambda job: job.state is JobState.REGISTERING)

    def busy(**wanted):
        raise StoreBusy(Problem(code="E503", what="busy"))

    with monkeypatch.context() as patch:
        patch.setattr(world.jobs, "recent", busy)
        with pytest.raises(StoreBusy):
            world.lifecycle.advance("ft_1")
    world.clock.sleep(60)
    assert world.run().state is JobState.SUCCEEDED
    assert world.provider.deleted == ["file-1"]


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ProviderUnavailable(Problem(code="E403", what="no answer")), "no answer"),
        (RuntimeError("closed"), "a step failed unexpectedly: RuntimeError"),
    ],
)
def test_an_upload_that_cannot_be_deleted_fails_no_job(world, monkeypatch, error, told):
    world.ways = Ways(keep_uploads=False)
    world.lifecycle = world.worker("w1")

    def refuse(file_id):
        raise error

    monkeypatch.setattr(world.provider, "delete_file", refuse)
    world.submit()

    assert world.run().state is JobState.SUCCEEDED
    assert any(f"were not deleted: {told}" in message for message in events(world))


def test_retries_are_spread_and_wait_as_long_as_they_are_told(world, monkeypatch):
    pauses = []
    for chance in (0.0, 1.0):
        world.ways = Ways(chance=lambda value=chance: value)
        world.lifecycle = world.worker("w1")
        world.provider.faults = ["upload"]
        job_id = f"ft_{chance:.0f}x"
        world.submit(job_id)
        job = world.run(job_id, until=lambda job: job.failures > 0)
        pauses.append((job.due_at - world.clock.now()).total_seconds())
    assert pauses == [1.5, 2.5]

    def busy(data):
        error = ProviderUnavailable(Problem(code="E410", what="slower"))
        error.after_s = 77.0
        raise error

    monkeypatch.setattr(world.provider, "upload", busy)
    world.submit("ft_3")
    job = world.run("ft_3", until=lambda job: job.failures > 0)
    assert (job.due_at - world.clock.now()).total_seconds() == 77.0


def test_the_longest_pause_between_looks_can_be_set(world):
    world.ways = Ways(max_poll_s=2.0)
    world.lifecycle = world.worker("w1")
    world.provider.max_poll_s = 60.0
    world.provider.script = ("running",) * 100
    world.submit()
    job = world.run(until=lambda job: job.state is JobState.RUNNING)
    world.clock.sleep(3600)
    world.lifecycle.advance("ft_1")
    job = world.jobs.get("ft_1")
    assert (job.due_at - world.clock.now()).total_seconds() == 2.0


def test_the_pause_that_is_set_is_for_hosted_jobs_only(tmp_path):
    world = HostedWorld(sqlite(tmp_path), FakeProvider(script=("running",) * 100))
    world.ways = Ways(max_poll_s=60.0)
    world.lifecycle = world.worker("w1")
    world.submit()
    world.run(until=lambda job: job.state is JobState.RUNNING)
    world.clock.sleep(3600)
    world.lifecycle.advance("ft_1")
    assert (world.jobs.get("ft_1").due_at - world.clock.now()).total_seconds() == FakeProvider.max_poll_s


def test_a_notice_makes_a_job_due_now(world):
    world.submit()
    job = world.run(until=lambda job: job.state is JobState.RUNNING and job.due_at > world.clock.now())
    assert world.jobs.nudge("fake", job.remote_id, world.clock.now()) == "ft_1"
    assert world.jobs.get("ft_1").due_at == world.clock.now()
    assert world.jobs.nudge("other", job.remote_id, world.clock.now()) is None
    assert world.jobs.nudge("fake", "unknown", world.clock.now()) is None
    world.run()
    assert world.jobs.nudge("fake", job.remote_id, world.clock.now()) is None
    assert world.jobs.get("ft_1").due_at is None
