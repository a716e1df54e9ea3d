"""What watches an installation from outside sees: JSON lines of a worker, the page of `ft serve`."""

import http.client
import json
import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from urllib.parse import urlsplit

import pytest

from finetune.clock import SystemClock
from finetune.jobs import JobState
from tests.support.jobs import World, sqlite
from tests.support.process import ft_environment, ft_running, wait_until

_READY_S = 60


@pytest.fixture
def world(tmp_path):
    """A database with the time of the wall, for processes."""
    world = World(sqlite(tmp_path))
    world.clock = SystemClock()
    yield world
    world.database.close()


def change(home, *statements):
    """Change the database behind the back of those who use it."""
    with closing(sqlite3.connect(home / "ft.db")) as books, books:
        for statement in statements:
            books.execute(statement)


def page(url, **headers):
    """Status, type and text of `/metrics`."""
    with closing(http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)) as connection:
        connection.request("GET", "/metrics", headers=headers)
        with connection.getresponse() as answer:
            return answer.status, answer.getheader("content-type"), answer.read().decode()


def worked(home, env):
    """What a worker says on stderr until there is no work left."""
    command = [sys.executable, "-m", "workers", "--queue", "remote", "--until-idle"]
    environment = ft_environment(home, env)
    done = subprocess.run(command, capture_output=True, text=True, timeout=90, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_a_worker_says_its_lines_as_json(world, tmp_path):
    world.submit("ft_1", cancel_requested=True)
    lines = [json.loads(line) for line in worked(tmp_path, {"FT_LOG_FORMAT": "json"}).splitlines()]
    assert all(line.keys() >= {"time", "level", "logger", "message"} for line in lines)
    assert [line["message"] for line in lines if line.get("job_id") == "ft_1"] == ["ft_1 is cancelled"]
    assert "remote: ready" in [line["message"] for line in lines if "job_id" not in line]


def test_a_step_that_breaks_the_store_is_told_with_its_job(world, tmp_path):
    """Then Celery has nothing to say: the worker itself says what, in one line."""
    world.submit("ft_1", cancel_requested=True)
    change(
        tmp_path,
        "CREATE TRIGGER once BEFORE INSERT ON events WHEN (SELECT lease_token FROM jobs WHERE id = 'ft_1') < 2 "
        "BEGIN SELECT RAISE(ABORT, 'not now'); END",
        # The lease of the first try must not hold the second up.
        "CREATE TRIGGER free AFTER UPDATE OF lease_until ON jobs WHEN NEW.lease_token = 1 AND NEW.lease_until > '2' "
        "BEGIN UPDATE jobs SET lease_until = NULL WHERE id = 'ft_1'; END",
    )
    lines = [json.loads(line) for line in worked(tmp_path, {"FT_LOG_FORMAT": "json"}).splitlines()]
    told = [(line["level"], line.get("job_id")) for line in lines if "not now" in line["message"]]
    assert told == [("ERROR", "ft_1")]
    assert world.jobs.get("ft_1").state is JobState.CANCELLED


def test_without_the_setting_lines_are_as_they_were(world, tmp_path):
    world.submit("ft_1", cancel_requested=True)
    said = worked(tmp_path, {})
    assert re.search(r"^\d\d:\d\d:\d\d INFO remote: ready$", said, re.M)
    assert re.search(r"^\d\d:\d\d:\d\d INFO ft_1 is cancelled$", said, re.M)


def test_prometheus_reads_ft_serve_with_the_key(world, tmp_path):
    world.submit("ft_1")
    env = {"FT_API_KEY": "sk-test", "FT_LOG_FORMAT": "json"}
    with ft_running("serve", "--port", "0", home=tmp_path, env=env) as (_, said):
        wait_until(lambda: re.search(r"serving on (\S+)/v1", said()), _READY_S, "the server")
        url = re.search(r"serving on (\S+)/v1", said())[1]
        status, kind, text = page(url, authorization="Bearer sk-test")
        assert (status, kind) == (200, "text/plain; version=0.0.4; charset=utf-8")
        assert 'ft_jobs{provider="fake",state="queued"} 1.0\n' in text
        assert page(url)[0] == 401
        change(tmp_path, "ALTER TABLE jobs RENAME TO gone")
        assert page(url, authorization="Bearer sk-test")[0] >= 500
        line = json.loads(next(each for each in said().splitlines() if each.startswith("{")))
    assert (line["level"], line["logger"]) == ("ERROR", "finetune.serving")
    assert "/metrics failed" in line["message"]
