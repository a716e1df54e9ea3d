"""One suite for every database: SQLite and a real PostgreSQL."""

import multiprocessing
import os
import sqlite3
import threading
from dataclasses import replace
from datetime import timedelta

import pytest

from finetune.errors import InternalError, LeaseLost, NotFound, StateError
from finetune.jobs import Change, Event, JobState, Metric
from finetune.runs import Beat
from finetune.store import Database, SqlBeats, SqlJobs, SqlModels, SqlRuns
from finetune.store.schema import metadata
from tests.support.jobs import World, sqlite

TTL = timedelta(seconds=30)


@pytest.fixture(params=["sqlite", "postgres"])
def url(request, tmp_path):
    return sqlite(tmp_path) if request.param == "sqlite" else request.getfixturevalue("postgres_url")


@pytest.fixture
def world(url):
    world = World(url)
    yield world
    world.database.close()


def test_what_is_submitted_is_read_back(world):
    job = world.submit()
    assert world.jobs.get("ft_1") == job
    assert [e.message for e in world.jobs.events("ft_1")] == ["queued"]


def test_the_same_fingerprint_answers_with_the_same_job(world):
    world.submit("ft_1", fingerprint="same")
    assert world.submit("ft_2", fingerprint="same").id == "ft_1"
    with pytest.raises(NotFound):
        world.jobs.get("ft_2")


def test_force_makes_a_new_job_that_answers_from_then_on(world):
    first = world.submit("ft_1", fingerprint="same")
    now = world.clock.now()
    second = world.jobs.submit(
        type(first)(**{**vars(first), "id": "ft_2"}), Event(kind="state", message="q", at=now), force=True
    )
    assert second[1]
    assert world.submit("ft_3", fingerprint="same").id == "ft_2"


@pytest.mark.parametrize("end", [JobState.FAILED, JobState.CANCELLED])
def test_a_job_that_came_to_nothing_does_not_answer(world, end):
    world.submit("ft_1", fingerprint="same")
    lease = world.jobs.claim("ft_1", "w", world.clock.now(), TTL)
    world.jobs.apply(lease, Change(state=end, due_at=None, fields={}), world.clock.now())
    assert world.submit("ft_2", fingerprint="same").id == "ft_2"


def test_twenty_submits_at_once_make_one_job(world):
    ids, start = [], threading.Barrier(20)

    def submit(number):
        start.wait()
        ids.append(world.submit(f"ft_{number}", fingerprint="same").id)

    threads = [threading.Thread(target=submit, args=(n,)) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ids) == 20
    assert len(set(ids)) == 1
    assert len(world.jobs.recent()) == 1


def test_a_prefix_names_a_job_only_if_it_names_one(world):
    world.submit("ft_ab1")
    world.submit("ft_ac2")
    assert world.jobs.get("ft_ab").id == "ft_ab1"
    for wrong in ("ft_a", "ft_x", "", "ft_a%", "ft_ab1 "):
        with pytest.raises(NotFound) as caught:
            world.jobs.get(wrong)
        assert caught.value.exit_code == 5


def test_an_exact_id_wins_over_longer_ones(world):
    world.submit("ft_1")
    world.submit("ft_12")
    assert world.jobs.get("ft_1").id == "ft_1"


def test_one_of_many_claims_wins(world):
    world.submit()
    now, won, start = world.clock.now(), [], threading.Barrier(8)

    def claim(owner):
        start.wait()
        if world.jobs.claim("ft_1", owner, now, TTL):
            won.append(owner)

    threads = [threading.Thread(target=claim, args=(f"w{n}",)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1


def test_a_lease_that_ended_is_fenced_off(world):
    world.submit()
    old = world.jobs.claim("ft_1", "w1", world.clock.now(), TTL)
    world.clock.sleep(30)
    new = world.jobs.claim("ft_1", "w2", world.clock.now(), TTL)
    assert new.token == old.token + 1
    change = Change(state=JobState.PREPARING, due_at=world.clock.now(), fields={})
    for write in (
        lambda: world.jobs.apply(old, change, world.clock.now()),
        lambda: world.jobs.record(old, world.clock.now(), {"failures": 9}),
        lambda: world.jobs.renew(old, world.clock.now()),
    ):
        with pytest.raises(LeaseLost):
            write()
    assert world.jobs.get("ft_1").failures == 0
    assert world.jobs.apply(new, change, world.clock.now()).state is JobState.PREPARING
    with pytest.raises(LeaseLost):
        world.jobs.renew(old, world.clock.now() + TTL)


def test_renewing_keeps_others_out(world):
    world.submit()
    lease = world.jobs.claim("ft_1", "w1", world.clock.now(), TTL)
    world.clock.sleep(29)
    world.jobs.renew(lease, world.clock.now() + TTL)
    world.clock.sleep(29)
    assert world.jobs.claim("ft_1", "w2", world.clock.now(), TTL) is None


def test_a_transition_outside_the_table_is_refused(world):
    world.submit()
    lease = world.jobs.claim("ft_1", "w", world.clock.now(), TTL)
    with pytest.raises(InternalError):
        world.jobs.apply(lease, Change(state=JobState.SUCCEEDED, due_at=None, fields={}), world.clock.now())
    assert world.jobs.get("ft_1").state is JobState.QUEUED


def test_a_change_and_its_events_are_written_together_or_not_at_all(world):
    world.submit()
    lease = world.jobs.claim("ft_1", "w", world.clock.now(), TTL)
    now = world.clock.now()
    broken = Event(kind="state", message=None, at=now)  # the database refuses NULL here
    change = Change(state=JobState.PREPARING, due_at=now, fields={"failures": 3}, events=(broken,))
    with pytest.raises(StateError):
        world.jobs.apply(lease, change, now)
    job = world.jobs.get("ft_1")
    assert (job.state, job.failures) == (JobState.QUEUED, 0)
    assert len(world.jobs.events("ft_1")) == 1


def test_metrics_reported_twice_are_kept_once(world):
    world.submit()
    for values in ({1: 2.0, 2: 1.5}, {2: 1.4, 3: 1.0}):
        lease = world.jobs.claim("ft_1", "w", world.clock.now(), TTL)
        metrics = [Metric(step=step, name="loss", value=value) for step, value in values.items()]
        state = world.jobs.get("ft_1").state
        change = Change(
            state=state, due_at=world.clock.now(), fields={}, metrics=(*metrics, Metric(step=2, name="lr", value=1))
        )
        world.jobs.apply(lease, change, world.clock.now())
    found = [(m.step, m.name, m.value) for m in world.jobs.metrics("ft_1")]
    assert found == [(1, "loss", 2.0), (2, "loss", 1.4), (2, "lr", 1.0), (3, "loss", 1.0)]


def test_due_jobs_come_longest_due_first_and_without_the_leased(world):
    for number in range(4):
        world.submit(f"ft_{number}")
        world.clock.sleep(1)
    world.jobs.claim("ft_1", "w", world.clock.now(), TTL)
    assert world.jobs.due(world.clock.now(), 10) == [("ft_0", 0), ("ft_2", 0), ("ft_3", 0)]
    assert world.jobs.due(world.clock.now(), 1) == [("ft_0", 0)]
    world.clock.sleep(30)
    assert ("ft_1", 1) in world.jobs.due(world.clock.now(), 10)


def test_cancel_twice_is_one_wish(world):
    world.submit()
    for _ in range(2):
        assert world.jobs.request_cancel("ft_1", world.clock.now()).cancel_requested
    assert [e.message for e in world.jobs.events("ft_1")] == ["queued", "cancel requested"]


def test_a_run_is_with_one_worker_and_counts_deaths(world):
    runs, now = SqlRuns(world.database), world.clock.now
    assert runs.add_run("k", {"a": 1}, now()) == runs.add_run("k", {"a": 2}, now())
    first = world.placements("w1").claim_run(now(), TTL)
    assert (first.starts, first.deaths, first.state) == (1, 0, "running")
    assert world.placements("w2").claim_run(now(), TTL) is None
    world.clock.sleep(31)
    assert world.placements().due_runs(now(), 5) == [("k", 1)]
    second = world.placements("w2").claim_run(now(), TTL)
    assert (second.starts, second.deaths) == (2, 1)
    with pytest.raises(LeaseLost):
        runs.update_run(first, now(), state="succeeded")
    assert runs.update_run(second, now(), state="queued").lease_until is None
    assert world.placements("w3").claim_run(now(), TTL).deaths == 1


def test_cancelling_a_run(world):
    runs, now = SqlRuns(world.database), world.clock.now
    for key in ("waits", "runs"):
        runs.add_run(key, {}, now())
    mine = world.placements("w").claim_run(now(), TTL)
    for key in ("waits", "runs", "unknown"):
        runs.cancel_run(key, now())
    assert runs.get_run("waits").state == "cancelled"
    assert runs.get_run("runs").state == "running"
    assert runs.update_run(mine, now(), ttl=TTL).cancel_requested


def test_versions_count_up_by_name_and_once_a_job(world):
    models = SqlModels(world.database)
    jobs = [world.submit(f"ft_{n}", artifact={"path": "p", "lineage": {"seed": n}}) for n in range(3)]
    start, made = threading.Barrier(6), []

    def add(job):
        start.wait()
        made.append(models.add_model(job, world.clock.now()).ref)

    threads = [threading.Thread(target=add, args=(job,)) for job in jobs for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(set(made)) == ["bot@v1", "bot@v2", "bot@v3"]
    assert [m.ref for m in models.models("bot")] == ["bot@v1", "bot@v2", "bot@v3"]
    assert {m.lineage["seed"] for m in models.models()} == {0, 1, 2}


def test_a_version_of_a_job_that_is_in_no_book(world):
    lost = replace(world.submit(), id="ft_lost")
    with pytest.raises(StateError, match="E508"):
        SqlModels(world.database).add_model(lost, world.clock.now())
    assert SqlModels(world.database).models() == []


def test_workers_beat_and_leave(world):
    beats, now = SqlBeats(world.database), world.clock.now
    for _ in range(2):
        beats.beat(Beat(worker="w", queues=("gpu",), host="h", pid=1, seen_at=now()))
    assert [b.queues for b in beats.workers(now())] == [("gpu",)]
    world.clock.sleep(1)
    assert beats.workers(now()) == []
    beats.leave("w")
    beats.leave("w")


def test_workers_that_were_killed_are_forgotten_in_the_end(world):
    beats, now = SqlBeats(world.database), world.clock.now
    for name in ("old", "new"):
        beats.beat(Beat(worker=name, queues=("gpu",), host="h", pid=1, seen_at=now()))
        world.clock.sleep(25 * 3600)
    assert [b.worker for b in beats.workers(now() - timedelta(days=30))] == ["new"]


def test_the_migrations_make_the_tables_that_the_code_uses(url):
    from alembic.autogenerate import compare_metadata
    from alembic.runtime.migration import MigrationContext

    database = Database.open(url)
    with database.read() as connection:
        found = compare_metadata(MigrationContext.configure(connection), metadata)
    database.close()
    assert found == []


def test_opening_at_once_migrates_once(url):
    start, errors = threading.Barrier(12), []

    def open_it():
        start.wait()
        try:
            Database.open(url).close()
        except StateError as error:
            errors.append(error)

    threads = [threading.Thread(target=open_it) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def test_opening_waits_for_whoever_writes_a_new_file(tmp_path):
    """SQLite refuses the switch to WAL at once where it waits for everything else."""
    holder = sqlite3.connect(tmp_path / "ft.db", isolation_level=None, check_same_thread=False)
    holder.execute("CREATE TABLE other (x)")
    holder.execute("BEGIN IMMEDIATE")
    opened = threading.Thread(target=lambda: Database.open(sqlite(tmp_path)).close())
    opened.start()
    opened.join(timeout=0.3)
    assert opened.is_alive(), "it neither waits nor goes past a lock"
    holder.execute("ROLLBACK")
    holder.close()
    opened.join(timeout=10)
    assert not opened.is_alive()
    Database.open(sqlite(tmp_path)).close()


def test_a_forked_child_must_not_use_the_parents_database(world):
    pid = os.fork()
    if pid == 0:
        try:
            world.jobs.recent()
        except StateError as error:
            os._exit(42 if error.problems[0].code == "E506" else 1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 42


def test_four_processes_share_the_claims(url):
    """Each job is claimed by one process only."""
    world = World(url)
    for number in range(40):
        world.submit(f"ft_{number:02}")
    world.database.close()
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        won = pool.map(_claim_all, [url] * 4)
    ids = [job_id for each in won for job_id in each]
    assert sorted(ids) == [f"ft_{number:02}" for number in range(40)]


def _claim_all(url):
    from finetune.testing import ManualClock

    database, now = Database.open(url), ManualClock().now()
    jobs = SqlJobs(database)
    won = [f"ft_{n:02}" for n in range(40) if jobs.claim(f"ft_{n:02}", str(os.getpid()), now, TTL)]
    database.close()
    return won


def test_a_long_backlog_of_metrics_is_written_at_once(world):
    """A database takes only so many values in one statement; a worker that was away has many to tell."""
    world.submit()
    lease = world.jobs.claim("ft_1", "w", world.clock.now(), TTL)
    many = tuple(Metric(step=step, name="loss", value=1.0) for step in range(70_000))
    change = Change(state=JobState.QUEUED, due_at=world.clock.now(), fields={}, metrics=many)
    world.jobs.apply(lease, change, world.clock.now())
    assert len(world.jobs.metrics("ft_1")) == 70_000


def test_a_paused_run_waits_and_can_be_cancelled(world):
    runs, now = SqlRuns(world.database), world.clock.now
    runs.add_run("k", {}, now())
    mine = world.placements("w").claim_run(now(), TTL)
    runs.update_run(mine, now(), ttl=TTL, state="queued")
    assert world.placements("w").claim_run(now(), TTL) is None
    assert world.placements().due_runs(now(), 5) == []
    world.clock.sleep(30)
    assert world.placements("w").claim_run(now(), TTL).deaths == 0
    runs.add_run("j", {}, now())
    runs.update_run(world.placements("w").claim_run(now(), TTL), now(), ttl=TTL, state="queued")
    runs.cancel_run("j", now())
    assert runs.get_run("j").state == "cancelled"
