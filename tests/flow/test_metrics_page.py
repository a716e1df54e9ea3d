"""`/metrics` over HTTP: what Prometheus reads there, and who may."""

import http.client
import json
from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest
from prometheus_client.parser import text_string_to_metric_families

from finetune.errors import Problem, StoreBusy
from finetune.jobs import Change, JobState
from finetune.runs import Beat
from finetune.serving.pool import Pool
from finetune.serving.run import running
from finetune.serving.server import Sides, create_app
from finetune.settings import from_environment
from finetune.store import SqlBeats
from finetune.wiring import Parts
from tests.support.jobs import World, sqlite

KEY = "sk-test"


class Nothing:
    """A registry without a model."""

    def served(self):
        return []


@contextmanager
def server(figures, key=None):
    """Asks the page; answers with status, type and text."""

    def load(name, report):
        raise AssertionError("no model is asked for")

    with running(create_app(Nothing(), Pool(load), api_key=key, sides=Sides(figures=figures))) as url:

        def ask(**headers):
            connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
            try:
                connection.request("GET", "/metrics", headers=headers)
                answer = connection.getresponse()
                return answer.status, answer.getheader("content-type"), answer.read().decode()
            finally:
                connection.close()

        yield ask


def samples(text):
    """`{(name, labels): value}`, labels in the order of their names."""
    return {
        (one.name, tuple(one.labels[key] for key in sorted(one.labels))): one.value
        for family in text_string_to_metric_families(text)
        for one in family.samples
    }


@pytest.fixture
def world(tmp_path):
    world = World(sqlite(tmp_path))
    yield world
    world.database.close()


@pytest.fixture
def page(world, tmp_path):
    """The page as a process of the product has it, with the hour set by hand."""
    parts = Parts(from_environment({"FT_HOME": str(tmp_path), "FT_DATABASE_URL": world.url}))
    vars(parts)["clock"] = world.clock
    yield parts.metrics.page
    parts.close()


def test_what_prometheus_reads(world, page):
    world.submit("ft_1")
    lease = world.jobs.claim("ft_1", "w", world.clock.now(), world.clock.now() - world.clock.now())
    end = Change(state=JobState.FAILED, due_at=None, fields={"error": {"code": "E401", "what": "it broke"}})
    world.jobs.apply(lease, end, world.clock.now())
    world.submit("ft_2", cost={"low": "1.25", "high": "2.5", "basis": "tokens"})
    SqlBeats(world.database).beat(Beat(worker="w", queues=("remote",), host="h", pid=1, seen_at=world.clock.now()))
    world.clock.sleep(3)
    with server(page) as ask:
        status, kind, text = ask()
    assert (status, kind) == (200, "text/plain; version=0.0.4; charset=utf-8")
    seen = samples(text)
    assert seen["ft_queue_depth", ("remote",)] == 1
    assert seen["ft_queue_oldest_age_seconds", ("remote",)] == 3
    assert seen["ft_queue_depth", ("gpu",)] == 0
    assert seen["ft_workers", ("remote",)] == 1
    assert seen["ft_workers", ("gpu",)] == 0
    assert {labels: value for (name, labels), value in seen.items() if name == "ft_jobs" and value} == {
        ("fake", "failed"): 1,
        ("fake", "queued"): 1,
    }
    assert len([name for name, _ in seen if name == "ft_jobs"]) == len(JobState)
    assert seen["ft_jobs_finished_total", ("fake", "failed")] == 1
    assert seen["ft_jobs_finished_total", ("fake", "succeeded")] == 0
    assert seen["ft_jobs_submitted_total", ("fake",)] == 2
    assert seen["ft_failed_jobs", ("E401", "fake")] == 1
    assert seen["ft_cost_usd", ("high", "fake")] == 2.5
    assert seen["ft_reach_seconds", ("events",)] == 3600


def test_a_job_from_submit_to_success(world, page):
    world.submit()
    world.clock.sleep(5)
    world.run()
    seen = samples(page().decode())
    assert {labels: value for (name, labels), value in seen.items() if name == "ft_job_wait_seconds"} == {
        ("fake", quantile): 5 for quantile in ("0.5", "0.9", "0.99", "1")
    }
    assert seen["ft_job_run_seconds", ("fake", "1", "succeeded")] > 0
    assert seen["ft_jobs", ("fake", "succeeded")] == 1
    assert ("ft_poll_lag_seconds", ("fake",)) not in seen


def test_the_key_is_asked_for(page):
    with server(page, KEY) as ask:
        assert ask()[0] == 401
        assert ask(authorization="Bearer wrong")[0] == 401
        assert ask(authorization=f"Bearer {KEY}")[0] == 200


def test_a_database_that_is_away_is_no_empty_page():
    def fails():
        raise StoreBusy(Problem(code="E502", what="the database server does not answer", why="refused", fix="start it"))

    with server(fails) as ask:
        status, _, text = ask()
    assert status == 500
    assert "does not answer" in json.loads(text)["error"]["message"]


def test_a_server_without_figures_has_no_page():
    with server(None) as ask:
        assert ask()[0] == 404
