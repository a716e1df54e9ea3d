"""The figures of a small installation, exact, on every database."""

from datetime import timedelta

import pytest
from sqlalchemy import event, insert

from finetune import up
from finetune.figures import Backlog, Coded, InState, Serving, Sharing, Spending
from finetune.jobs import JobState
from finetune.placement import Site
from finetune.runs import Beat
from finetune.store import Database, SqlBeats, SqlFigures, SqlJobs, SqlPlacements
from finetune.store.figures import Most
from finetune.store.schema import attempts, deployments, events, jobs, promotions, runs, traffic
from finetune.testing import ManualClock
from finetune.versions import PromotionState
from tests.support.jobs import RECIPE, World, sqlite

S = timedelta(seconds=1)
DAY = timedelta(days=1)
STARTED = "preparing: handing the data to the provider"


class Books:
    """Rows as they stand, written by hand."""

    def __init__(self, url):
        self.database = Database.open(url)
        self.clock = ManualClock()
        self.now = self.clock.now()

    def add(self, table, **values):
        with self.database.write() as connection:
            connection.execute(insert(table).values(**values))

    def job(self, job_id, provider, state, *, age=100, due=None, **columns):
        made = self.now - age * S
        times = {"due_at": None if due is None else self.now - due * S, "created_at": made, "changed_at": made}
        what = {"name": "bot", "owner": "me", "base_model": "m", "recipe": RECIPE, "fingerprint": job_id, "data": {}}
        zeros = {"cancel_requested": False, "attempt": 1, "failures": 0, "lease_token": 1}
        self.add(jobs, **{"id": job_id, "provider": provider, "state": state, **what, **times, **zeros, **columns})

    def ended(self, job_id, provider, state, *, age, ran=None, **columns):
        """A job that ended `age` seconds ago, after an attempt of `ran` seconds."""
        done = self.now - age * S
        self.job(job_id, provider, state, **{"age": age + 1000, "finished_at": done, **columns})
        if ran is not None:
            at = done - ran * S
            self.add(attempts, run_key=f"{job_id}-a1", job_id=job_id, number=1, created_at=at)

    def said(self, job_id, kind, message, age):
        self.add(events, job_id=job_id, kind=kind, message=message, at=self.now - age * S)

    def run(self, key, state, *, age=0, lease=None, **columns):
        zeros = {"request": {}, "cancel_requested": False, "starts": 1, "deaths": 0, "lease_token": 1}
        until = None if lease is None else self.now + lease * S
        values = {**zeros, "lease_until": until, "created_at": self.now - age * S, **columns}
        self.add(runs, run_key=key, state=state, **values)

    def promotion(self, key, state, *, alias=None, due=None, **columns):
        """One that is due since `due` seconds; unless it has ended, it moves `bot@` and its alias, or its key."""
        known = {"id": key, "name": "bot", "version": 2, "alias": alias or key, "state": state, "created_at": self.now}
        zeros = {"gateways": [], "steps": [1.0], "pause_s": 0.0, "step": 0, "notes": [], "evidence": {}, "failures": 0}
        ended = "finished_at" in columns
        due_at = None if due is None else self.now - due * S
        moves = {"moves": None if ended else f"bot@{alias or key}", "due_at": due_at, "by": "me", "lease_token": 0}
        self.add(promotions, **{**known, **zeros, **moves, **columns})

    def move(self, name, alias, **shares):
        shares = {version.removeprefix("v"): share for version, share in shares.items()}
        self.add(traffic, name=name, alias=alias, shares=shares, reason="promote", by="me", at=self.now)

    def look(self, **most):
        return SqlFigures(self.database, Most(**most)).look(self.now)


@pytest.fixture(params=["sqlite", "postgres"])
def url(request, tmp_path):
    return sqlite(tmp_path) if request.param == "sqlite" else request.getfixturevalue("postgres_url")


@pytest.fixture
def books(url):
    books = Books(url)
    yield books
    books.database.close()


def test_nothing_is_nothing(books):
    seen = books.look()
    assert seen.backlogs == {"remote": Backlog(depth=0, oldest_s=0.0), "gpu": Backlog(depth=0, oldest_s=0.0)}
    assert seen.workers == {"remote": 0, "gpu": 0}
    assert (seen.jobs, seen.waits_s, seen.runs_s, seen.errors, seen.failed, seen.spending) == ({}, {}, {}, {}, {}, {})
    assert (seen.events_reach_s, seen.spending_reach_s) == (3600.0, 86400.0)
    nobody = {"promotions": {}, "failed": {}, "aliases": 0, "shares": {}, "deployments": {}}
    assert seen.serving == Serving(retrying=0, oldest_s=0.0, **nobody)


def test_jobs_are_counted_by_provider_and_state(books):
    for number, state in enumerate(["queued", "running", "running", "succeeded"]):
        books.job(f"ft_{number}", "a", state)
    books.job("ft_9", "b", "failed")
    assert books.look().jobs == {
        InState("a", JobState.QUEUED): 1,
        InState("a", JobState.RUNNING): 2,
        InState("a", JobState.SUCCEEDED): 1,
        InState("b", JobState.FAILED): 1,
    }


def test_the_remote_queue_and_how_late_polls_are(books):
    books.job("ft_new", "a", "queued", due=30)
    books.job("ft_late", "a", "running", due=12)
    books.job("ft_later", "a", "running", due=5)
    books.job("ft_taken", "a", "running", due=90, lease_until=books.now + S)
    books.job("ft_lost", "b", "running", due=20, lease_until=books.now)
    books.job("ft_fine", "c", "running", due=-60)
    books.job("ft_over", "d", "succeeded")
    books.job("ft_watched", "d", "cancelled", due=3, finished_at=books.now)
    seen = books.look()
    assert seen.backlogs["remote"] == Backlog(depth=5, oldest_s=30.0)
    assert seen.backlogs["remote"].depth == len(SqlJobs(books.database).due(books.now, 100))
    assert seen.poll_lag_s == {"a": 12.0, "b": 20.0, "c": 0.0}
    assert books.look(due=2).backlogs["remote"] == Backlog(depth=2, oldest_s=30.0)


def test_the_gpu_queue(books):
    books.run("new", "queued", age=50)
    books.run("lost", "running", age=500, lease=-20)
    books.run("trains", "running", age=900, lease=9)
    books.run("pauses", "queued", age=900, lease=60)
    books.run("held", "queued", age=900, hold_requested=True)
    books.run("held and lost", "running", age=900, lease=-30, hold_requested=True)
    books.run("over", "succeeded", age=900)
    seen = books.look().backlogs["gpu"]
    assert seen == Backlog(depth=3, oldest_s=50.0)
    assert seen.depth == len(SqlPlacements(books.database, Site("w", slots=99)).due_runs(books.now, 100))


def test_living_workers_by_queue(books):
    beats = SqlBeats(books.database)
    for name, queues, age in [("one", ("remote",), 0), ("all", ("remote", "gpu"), 6), ("gone", ("gpu",), 8)]:
        beats.beat(Beat(worker=name, queues=queues, host="h", pid=1, seen_at=books.now - age * S))
    assert books.look().workers == {"remote": 2, "gpu": 1}
    assert {queue for queue, count in books.look().workers.items() if count} == up.living(beats, books.clock)


def test_how_long_jobs_waited_and_ran(books):
    books.ended("ft_1", "a", "succeeded", age=600, ran=1200)
    books.ended("ft_2", "a", "succeeded", age=60, ran=300)
    books.ended("ft_3", "a", "failed", age=60, ran=10)
    books.ended("ft_4", "a", "succeeded", age=3601, ran=7)
    books.ended("ft_5", "b", "cancelled", age=5)
    books.said("ft_1", "state", STARTED, 1500)
    books.said("ft_2", "state", STARTED, 1000)
    books.said("ft_3", "provider", STARTED, 1000)
    books.said("ft_3", "state", "cancel requested", 900)
    books.said("ft_4", "state", STARTED, 3700)
    seen = books.look()
    assert seen.runs_s == {InState("a", JobState.SUCCEEDED): [300.0, 1200.0], InState("a", JobState.FAILED): [10.0]}
    assert seen.waits_s == {"a": [100.0, 60.0]}
    assert books.look(ended=1).runs_s[InState("a", JobState.SUCCEEDED)] == [300.0]


def test_which_errors_there_were(books):
    books.job("ft_1", "a", "running", failures=2)
    books.job("ft_2", "b", "running")
    books.job("ft_3", "b", "preparing", failures=1)
    books.ended("ft_4", "a", "failed", age=10, failures=9, error={"code": "E401", "what": "w"})
    books.ended("ft_5", "a", "failed", age=20, error={"code": "E401", "what": "w"})
    books.ended("ft_6", "a", "failed", age=4000, error={"code": "E402", "what": "w"})
    books.ended("ft_7", "a", "cancelled", age=20, error={"code": "E407", "what": "w"})
    for age, text in [(3700, "E403"), (20, "E403"), (4, "E403"), (3, "E405")]:
        books.said("ft_1", "warning", f"no answer ({text}); trying again in 4 s", age)
    books.said("ft_2", "warning", "no answer (E403); trying again in 300 s", 2)
    books.said("ft_2", "warning", "the result files were not fetched: E403", 2)
    seen = books.look()
    assert seen.retrying == {"a": 1, "b": 1}
    assert seen.errors == {Coded("a", "E403"): 2, Coded("a", "E405"): 1, Coded("b", "E403"): 1}
    assert seen.failed == {Coded("a", "E401"): 2}


def test_what_jobs_cost(books):
    planned = {"low": "1.50", "high": "2.25", "basis": "tokens"}
    unknown = {"low": None, "high": None, "basis": "no price"}
    books.job("ft_1", "a", "running", cost=planned)
    books.ended("ft_2", "a", "succeeded", age=9, cost={**planned, "quote": {"usd": "2.00"}}, remote_id="r2")
    books.ended("ft_3", "a", "failed", age=9, cost=planned)
    books.job("ft_4", "a", "running", cost=planned, age=86_401)
    books.job("ft_5", "b", "running", cost={**unknown, "quote": {"usd": 4, "tokens": 7}})
    books.job("ft_6", "b", "running", cost={**unknown, "quote": {"eur": "4.00"}})
    books.job("ft_7", "b", "queued", cost=unknown)
    books.job("ft_8", "c", "running")
    assert books.look().spending == {
        "a": Spending(low=3.0, high=4.5, quote=2.0, unpriced=0),
        "b": Spending(low=0.0, high=0.0, quote=4.0, unpriced=2),
    }


def test_promotions_by_state_and_why_they_failed(books):
    ended = {"finished_at": books.now - 5 * S}
    books.promotion("pr_1", "shifting", due=-60)
    books.promotion("pr_2", "registering", due=40, failures=3)
    books.promotion("pr_3", "proving", due=90, lease_until=books.now + S)
    books.promotion("pr_4", "live", **ended)
    books.promotion("pr_5", "live", **ended, failures=2)
    books.promotion("pr_6", "failed", **ended, error={"code": "E811", "what": "w"})
    books.promotion("pr_7", "failed", finished_at=books.now - 4000 * S, error={"code": "E812", "what": "w"})
    books.promotion("pr_8", "refused", **ended, error={"code": "E860", "what": "w"})
    seen = books.look().serving
    assert seen.promotions == {
        PromotionState.SHIFTING: 1,
        PromotionState.REGISTERING: 1,
        PromotionState.PROVING: 1,
        PromotionState.LIVE: 2,
        PromotionState.FAILED: 2,
        PromotionState.REFUSED: 1,
    }
    assert (seen.retrying, seen.oldest_s, seen.failed) == (1, 40.0, {"E811": 1})


def test_who_gets_which_calls(books):
    books.move("bot", "production", v1=1.0)
    books.move("bot", "production", v1=0.9, v2=0.1)
    books.move("bot", "staging", v2=1.0, v1=0.0)
    books.move("cat", "production", v7=1.0)
    books.move("cat", "production")
    for name, gateway in [("a", "vllm"), ("b", "vllm"), ("a", "embedded")]:
        where = {"name": "bot", "version": 1, "alias": "production", "listed_as": name, "at": books.now}
        books.add(deployments, gateway=gateway, id=name, **where)
    seen = books.look().serving
    staging = {Sharing("bot", "staging", 2): 1.0}
    shared = {Sharing("bot", "production", 1): 0.9, Sharing("bot", "production", 2): 0.1}
    assert seen.shares == {**shared, **staging}
    assert seen.deployments == {"vllm": 2, "embedded": 1}
    assert seen.aliases == 3
    last = books.look(aliases=2).serving
    assert (last.shares, last.aliases) == (staging, 3)


def test_a_look_that_would_be_dear_reaches_less_far(books):
    for age in (50, 40, 30):
        books.job(f"ft_{age}", "a", "queued", age=age, cost={"low": "1", "high": "1", "basis": "b"})
        books.said(f"ft_{age}", "state", STARTED, age - 10)
        books.said(f"ft_{age}", "provider", "as it says", 9999)
    seen = books.look(events=4, priced=2)
    assert (seen.events_reach_s, seen.spending_reach_s) == (30.0, 40.0)
    assert seen.waits_s == {"a": [10.0, 10.0]}
    assert seen.spending["a"].high == 2.0


def test_what_a_real_job_writes_is_understood(url):
    world = World(url)
    world.provider.faults = ["upload", "poll"]
    world.submit()
    world.clock.sleep(7)
    world.run()
    seen = SqlFigures(world.database).look(world.clock.now())
    assert seen.jobs == {InState("fake", JobState.SUCCEEDED): 1}
    assert seen.waits_s == {"fake": [7.0]}
    assert seen.errors == {Coded("fake", "E403"): 2}
    (took,) = seen.runs_s[InState("fake", JobState.SUCCEEDED)]
    assert 0 < took < (world.clock.now() - world.jobs.get("ft_1").created_at).total_seconds() - 7
    world.database.close()


def test_no_statement_reads_the_whole_history(tmp_path):
    """SQLite says how it would go about each: along an index, or within a bound. Counting reads an index only."""
    books = Books(sqlite(tmp_path))
    books.ended("ft_1", "a", "failed", age=1)
    asked = []
    engine = books.database._engine
    event.listen(
        engine, "before_cursor_execute", lambda c, cursor, text, values, context, many: asked.append((text, values))
    )
    books.look()
    plans = []
    with books.database.read() as connection:
        for text, values in [each for each in asked if each[0].startswith("SELECT")]:
            plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}", values)
            plans += [(row.detail, text) for row in plan if row.detail.startswith("SCAN")]
    books.database.close()
    scans = {detail for detail, _ in plans} - {"SCAN workers", "SCAN anon_1", "SCAN (subquery-1)"}
    # What gateways should have now: it is no history.
    scans -= {"SCAN deployments USING COVERING INDEX sqlite_autoindex_deployments_1"}
    assert scans == {
        "SCAN jobs USING COVERING INDEX jobs_created",
        "SCAN jobs USING COVERING INDEX jobs_state",
        "SCAN promotions USING COVERING INDEX promotions_state",
        "SCAN traffic USING COVERING INDEX traffic_alias",
    }, plans
