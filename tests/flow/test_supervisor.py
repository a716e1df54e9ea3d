"""A trainer process under its supervisor: ends, deaths, cancels, lost leases."""

import os
import threading
from datetime import timedelta
from decimal import Decimal

import pytest

from finetune.clock import SystemClock
from finetune.errors import Problem, ShelfUnavailable, StateError
from finetune.files import digest
from finetune.placement import Device, Site
from finetune.process import group_members
from finetune.store import SqlPlacements
from finetune.training import supervisor as supervision
from finetune.training.supervisor import MAX_DEATHS
from tests.support.process import wait_until
from tests.support.runs import Shop


@pytest.fixture
def shop(tmp_path):
    shop = Shop(tmp_path)
    yield shop
    shop.database.close()


def never():
    return False


def alive(pid):
    return bool(group_members(pid)) or (os.path.exists(f"/proc/{pid}") and not _zombie(pid))


def _zombie(pid):
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0] == "Z"


def test_a_training_ends_with_its_adapter_where_it_stays(shop):
    shop.add("succeed")
    shop.work()
    run = shop.runs.get_run("k")
    assert run.state == "succeeded"
    assert run.process is None
    (kept,) = (shop.folder / "adapters").iterdir()
    assert run.artifact == {"path": str(kept), "digest": digest(kept), "lineage": {"seed": 1}}
    assert kept.name == digest(kept)[:32]
    assert (kept / "adapter_model.safetensors").read_bytes() == b"weights"


class Quick(SystemClock):
    """Its pauses take no time, and are remembered."""

    def __init__(self):
        self.ahead, self.paused = timedelta(0), 0.0

    def now(self):
        return super().now() + self.ahead

    def sleep(self, seconds):
        if seconds >= 1:
            self.ahead += timedelta(seconds=seconds)
            self.paused += seconds
        else:
            super().sleep(seconds)


class Bucket:
    """Takes adapters after so many failures."""

    def __init__(self, failures=0, kind=ShelfUnavailable):
        self.failures, self.kind, self.asked = failures, kind, []

    def __call__(self, folder, known):
        assert digest(folder) == known
        self.asked.append(folder)
        if len(self.asked) <= self.failures:
            raise self.kind(Problem(code="E512", what="the adapter cannot be written", why="nobody answers", fix="x"))
        return f"s3://box/{known[:32]}"


def test_an_adapter_is_put_where_it_is_kept_beside_this_disk(shop):
    bucket = Bucket()
    shop.add("succeed")
    shop.work(supervisor=shop.supervisor(shelve=bucket))
    run = shop.runs.get_run("k")
    (kept,) = (shop.folder / "adapters").iterdir()
    assert (run.state, run.artifact["path"]) == ("succeeded", str(kept))
    assert run.artifact["uri"] == f"s3://box/{kept.name}"
    assert shop.said("the adapter is at") == [f"the adapter is at s3://box/{kept.name}"]


def test_a_bucket_that_is_away_for_a_while_is_waited_for_and_said(shop):
    bucket, clock = Bucket(failures=2), Quick()
    shop.add("succeed")
    shop.work(supervisor=shop.supervisor(shelve=bucket, clock=clock))
    assert shop.runs.get_run("k").artifact["uri"]
    said = shop.said("the adapter cannot be written (E512): nobody answers")
    assert [each.rpartition("; ")[2] for each in said] == ["trying again in 15 s", "trying again in 30 s"]
    assert clock.paused == 45


@pytest.mark.parametrize(("kind", "tries"), [(ShelfUnavailable, supervision.UPLOADS), (StateError, 1)])
def test_a_bucket_that_takes_nothing_loses_no_training(shop, kind, tries):
    bucket = Bucket(failures=99, kind=kind)
    shop.add("succeed")
    shop.work(supervisor=shop.supervisor(shelve=bucket, clock=Quick()))
    run = shop.runs.get_run("k")
    assert run.state == "succeeded"
    assert run.artifact.keys() == {"path", "digest", "lineage"}
    assert len(bucket.asked) == tries
    assert "ft models sync" in shop.said("the adapter cannot be written")[-1]


def test_a_worker_that_stops_does_not_wait_for_a_bucket(shop):
    bucket, clock, stop = Bucket(failures=99), Quick(), []

    def asked(folder, known):
        stop.append(True)
        return bucket(folder, known)

    shop.add("succeed")
    shop.work(lambda: bool(stop), shop.supervisor(shelve=asked, clock=clock))
    assert shop.runs.get_run("k").state == "succeeded"
    assert (len(bucket.asked), clock.paused) == (1, 0)


def test_the_lease_is_kept_while_an_upload_takes_long(shop):
    """Another worker that looks long after the lease would have ended finds nothing to take over."""

    def slow(folder, known):
        begun = shop.runs.get_run("k").lease_until
        wait_until(lambda: shop.runs.get_run("k").lease_until > begun, 10, "the lease to be renewed")

    shop.add("succeed")
    shop.work(supervisor=shop.supervisor(shelve=slow))
    assert shop.runs.get_run("k").state == "succeeded"


def test_an_adapter_that_is_not_what_was_reported_is_not_kept(shop):
    """A worker that was away finds another trainer's there: it leaves it, and nothing is named by another's digest."""
    shop.add("swap")
    with pytest.raises(StateError, match="E623"):
        shop.work()
    assert list((shop.folder / "adapters").iterdir()) == []
    assert (shop.folder / "runs" / "k" / "adapter" / "adapter_model.safetensors").read_bytes() == b"other weights"
    assert shop.runs.get_run("k").state == "running"


def test_a_trainer_that_fails_is_not_started_again(shop):
    shop.add("fail")
    shop.work()
    run = shop.runs.get_run("k")
    assert (run.state, run.starts) == ("failed", 1)
    assert run.error["what"] == "the loss is not a number"


def test_a_killed_trainer_goes_on(shop):
    shop.add("die once")
    shop.work()
    assert shop.runs.get_run("k").state == "queued"
    assert any("killed by signal 9" in m for m in shop.said("the trainer ended"))
    shop.work()
    assert shop.runs.get_run("k").state == "succeeded"


def test_a_trainer_that_always_dies_is_given_up_and_says_why(shop):
    shop.add("die")
    for _ in range(MAX_DEATHS):
        shop.work()
    run = shop.runs.get_run("k")
    assert (run.state, run.starts) == ("failed", MAX_DEATHS)
    assert "signal 9" in run.error["what"]
    assert "memory" in run.error["why"]


def test_deaths_are_forgiven_while_a_training_gets_further(shop):
    """A training of days outlives any number of restarts, as long as it gets on in between."""
    shop.add("further")
    for _ in range(MAX_DEATHS + 2):
        shop.work()
    run = shop.runs.get_run("k")
    assert (run.state, run.deaths, run.furthest) == ("queued", 1, MAX_DEATHS + 2)


def test_a_worker_that_stops_leaves_the_run_for_another_and_no_death_is_counted(shop):
    shop.add("polite")
    stop = []
    thread = shop.start(lambda: bool(stop))
    shop.wait_for("process")
    stop.append(True)
    thread.join(timeout=20)
    run = shop.runs.get_run("k")
    assert (run.state, run.deaths, run.lease_until) == ("queued", 0, None)
    shop.work()
    assert shop.runs.get_run("k").state == "succeeded"


def test_cancel_ends_the_whole_process_group(shop, monkeypatch):
    """The trainer and its child ignore SIGTERM; both are gone, and that is looked at, before it says cancelled."""
    monkeypatch.setattr(supervision, "_GRACE_S", 0.3)
    shop.add("hang")
    thread = shop.start()
    grandchild = int(shop.wait_for("grandchild").split()[-1])
    trainer = int(shop.wait_for("process").split()[-1])
    assert alive(grandchild)
    shop.provider.cancel("k")
    thread.join(timeout=20)
    assert shop.runs.get_run("k").state == "cancelled"
    assert group_members(trainer) == []
    assert not alive(grandchild)
    assert shop.said("process group") == [f"process group {trainer} is gone"]


def test_a_run_cancelled_while_its_worker_was_dead_ends_without_a_trainer(shop):
    shop.add("hang")
    SqlPlacements(shop.database, Site("dead")).claim_run(shop.clock.now() - timedelta(hours=1), timedelta(seconds=1))
    shop.provider.cancel("k")
    shop.work()
    run = shop.runs.get_run("k")
    assert run.state == "cancelled"
    assert not (shop.folder / "runs" / "k" / "report-2.jsonl").exists()


def test_a_supervisor_that_lost_its_lease_ends_its_trainer_and_writes_nothing(shop, monkeypatch):
    monkeypatch.setattr(supervision, "_GRACE_S", 0.3)
    shop.add("hang")
    thread = shop.start()
    trainer = int(shop.wait_for("process").split()[-1])
    later = shop.clock.now() + timedelta(hours=1)
    wait_until(lambda: shop.runs.get_run("k").process, 10, "the process to be recorded")
    taken = SqlPlacements(shop.database, Site("other")).claim_run(later, timedelta(hours=1))
    assert taken is not None
    thread.join(timeout=20)
    assert group_members(trainer) == []
    assert shop.runs.get_run("k") == taken


def test_a_trainer_left_behind_by_a_dead_worker_is_ended_first(shop, monkeypatch):
    """Where the system does not end it with its worker, the next worker does, before it starts its own."""
    monkeypatch.setattr(supervision, "_GRACE_S", 0.3)
    shop.add("hang once")
    thread = shop.start()
    trainer = int(shop.wait_for("grandchild") and shop.wait_for("process").split()[-1])
    wait_until(lambda: shop.runs.get_run("k").process, 10, "the process to be recorded")
    shop.clock = _Later()
    shop.work(supervisor=shop.supervisor("w2"))
    thread.join(timeout=20)
    assert group_members(trainer) == []
    assert shop.runs.get_run("k").state == "succeeded"
    assert shop.runs.get_run("k").starts == 2


class _Later:
    """An hour from now: every lease has ended."""

    def __init__(self):
        from finetune.clock import SystemClock

        self._real = SystemClock()

    def now(self):
        return self._real.now() + timedelta(hours=1)

    def sleep(self, seconds):
        self._real.sleep(seconds)


def test_the_report_is_polled_piece_by_piece(shop):
    shop.add("die once")
    shop.work()
    first = shop.provider.poll("k", None)
    assert [m.step for m in first.metrics] == [1]
    assert first.raw_state == "waiting for a worker (interrupted)"
    assert shop.provider.poll("k", first.cursor).metrics == ()
    shop.work()
    second = shop.provider.poll("k", first.cursor)
    assert [m.step for m in second.metrics] == [1, 2]
    assert second.state == "succeeded"
    assert second.progress == {"step": 2, "total_steps": 3, "loss": 1.0}


def test_an_error_that_may_pass_is_tried_again_after_pauses_and_is_told_in_the_end(shop, monkeypatch):
    monkeypatch.setattr(supervision, "PAUSE", timedelta(0))
    shop.add("later")
    for _ in range(MAX_DEATHS):
        shop.work()
    run = shop.runs.get_run("k")
    assert (run.state, run.starts, run.error["code"]) == ("failed", MAX_DEATHS, "E606")
    assert len(shop.said("the hub is out of reach (E606); trying again")) == MAX_DEATHS - 1


def test_the_pause_before_another_try_grows(shop):
    shop.add("later")
    shop.work()
    run = shop.runs.get_run("k")
    assert (run.state, run.deaths) == ("queued", 1)
    assert 10 < (run.lease_until - shop.clock.now()).total_seconds() <= 15
    assert shop.supervisor().claim(never) is None


def test_a_folder_that_takes_no_files_is_waited_for_and_no_death_is_counted(shop):
    shop.add("succeed")
    (shop.folder / "runs").write_text("a file stands where the folder should be")
    with pytest.raises(StateError, match="E501"):
        shop.work()
    run = shop.runs.get_run("k")
    assert (run.state, run.deaths) == ("queued", 0)
    (shop.folder / "runs").unlink()
    shop.clock = _Later()
    shop.work()
    assert shop.runs.get_run("k").state == "succeeded"
    assert shop.runs.get_run("k").deaths == 0


def test_checkpoints_stay_until_the_end_is_committed(shop):
    shop.add("succeed")
    update, checkpoints = shop.runs.update_run, shop.folder / "runs" / "k" / "checkpoints"

    def failing(run, now, **how):
        if how.get("state") == "succeeded":
            raise StateError(Problem(code="E504", what="full"))
        return update(run, now, **how)

    checkpoints.mkdir(parents=True)
    shop.runs.update_run = failing
    with pytest.raises(StateError):
        shop.work()
    assert checkpoints.is_dir()
    shop.runs.update_run = update
    shop.clock = _Later()
    shop.work()
    assert shop.runs.get_run("k").state == "succeeded"
    assert not checkpoints.exists()


def test_a_cancel_that_comes_after_the_end_does_not_lose_the_adapter(shop):
    shop.add("succeed")
    update = shop.runs.update_run

    def cancelling(run, now, **how):
        shop.provider.cancel("k")
        return update(run, now, **how)

    shop.runs.update_run = cancelling
    supervisor = shop.supervisor()
    # The trainer ends within the first look; the wish to cancel is seen after it.
    supervisor._watch = lambda run, child, told, stopping: (child.wait(), run)[1]
    shop.work(supervisor=supervisor)
    assert shop.runs.get_run("k").state == "succeeded"


def test_a_worker_that_stops_takes_no_further_run(shop):
    shop.add("succeed")
    shop.work(lambda: True)
    run = shop.runs.get_run("k")
    assert (run.state, run.starts, run.deaths) == ("queued", 0, 0)


def test_a_trainer_that_is_stopped_as_it_begins_is_no_death(shop):
    """The signal comes before the trainer listens to it: it dies of it, and that was asked for."""
    shop.add("hang once")
    answers = iter([False])
    shop.work(lambda: next(answers, True))
    run = shop.runs.get_run("k")
    assert (run.state, run.starts, run.deaths) == ("queued", 1, 0)


def test_a_paused_training_ends_its_trainer_and_goes_on_when_lifted(shop):
    shop.add("polite")
    thread = shop.start()
    shop.wait_for("process")
    shop.provider.pause("k")
    thread.join(timeout=20)
    run = shop.runs.get_run("k")
    assert (run.state, run.deaths, run.process) == ("queued", 0, None)
    assert shop.provider.poll("k", None).state == "paused"
    shop.work()
    assert shop.runs.get_run("k").starts == 1
    shop.provider.resume("k")
    shop.work()
    assert (shop.runs.get_run("k").state, shop.runs.get_run("k").starts) == ("succeeded", 2)


def test_the_most_urgent_is_taken(shop):
    shop.add("succeed", "first")
    shop.add("succeed", "second")
    shop.work()
    assert [shop.runs.get_run(key).state for key in ("first", "second")] == ["succeeded", "queued"]


@pytest.mark.parametrize(
    ("site", "gpus", "says"),
    [
        ([], None, "cards None for 1"),
        ([Device("GPU-a", "A100", 80_000), Device("GPU-b", "A100", 80_000)], 2, "cards GPU-a,GPU-b for 2"),
        ([Device("GPU-a", "A100", 80_000)], None, "cards GPU-a for 1"),
        ([Device("GPU-a", "A100", 80_000)], 0, "cards  for 1"),
    ],
)
def test_a_trainer_sees_the_cards_that_it_has_and_no_others(shop, site, gpus, says):
    shop.runs.add_run("k", {"play": "cards"}, shop.clock.now(), {"gpus": gpus})
    shop.work(supervisor=shop.supervisor("w", *site))
    assert shop.said("cards") == [says]
    assert shop.runs.get_run("k").state == "succeeded"


def test_the_time_on_cards_is_counted_also_over_several_starts(shop, monkeypatch):
    """Two cards for a training of some seconds, and a price of a dollar a second of one card."""
    monkeypatch.setattr(supervision, "_RENEW_S", 0.1)
    shop.runs.add_run("k", {"play": "polite"}, shop.clock.now(), {"gpus": 2})
    cards, stop = [Device(name, "A100", 80_000) for name in "ab"], []
    begun = shop.clock.now()
    thread = threading.Thread(
        target=shop.work, args=(lambda: bool(stop),), kwargs={"supervisor": shop.supervisor("w", *cards)}
    )
    thread.start()
    wait_until(lambda: shop.runs.get_run("k").card_s > 1, 20, "some time on the cards")
    stop.append(True)
    thread.join(timeout=20)
    passed_s = (shop.clock.now() - begun).total_seconds()
    first = shop.runs.get_run("k").card_s
    assert 1 < first <= 2 * passed_s
    shop.work(supervisor=shop.supervisor("w", *cards))
    run = shop.runs.get_run("k")
    assert run.state == "succeeded"
    assert run.card_s >= first
    assert shop.provider.poll("k", None).spent_usd is None
    assert shop.priced(Decimal(3600)).poll("k", None).spent_usd == Decimal(run.card_s).quantize(Decimal("0.0001"))
