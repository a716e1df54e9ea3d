"""Flower before our workers: Celery's events stay on for it, and it needs nothing of ours but the app's name."""

import json
import signal
import sys
import urllib.error
import urllib.request
from contextlib import contextmanager

import pytest

from tests.stack.test_workers import running
from tests.support import recipes
from tests.support.process import Child, ft_environment, wait_until
from tests.support.servers import RedisServer, free_port

_WAIT_S = 60


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return recipes.base(tmp_path_factory.mktemp("base"))


def ask(port, path):
    """The JSON there; None while nobody answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return json.load(answer)
    except (urllib.error.URLError, TimeoutError, ConnectionError):
        return None


@contextmanager
def flower(broker_url, log_file):
    port = free_port()
    argv = [sys.executable, "-P", "-m", "celery", "--quiet", "-A", "workers.app", "flower"]
    env = {"FT_BROKER_URL": broker_url, "FLOWER_UNAUTHENTICATED_API": "true"}
    with log_file.open("ab") as log:
        child = Child(
            # Left to itself it would turn the events on by remote control; ours are on.
            [*argv, "--address=127.0.0.1", f"--port={port}", "--enable_events=False"],
            stop_signal=signal.SIGTERM,
            stdout=log,
            stderr=log,
            env=ft_environment(env=env),
            cwd=log_file.parent,
        )
    try:
        wait_until(lambda: not child.alive or ask(port, "/api/workers") is not None, _WAIT_S, "Flower", every_s=0.2)
        assert child.alive
        yield port
    except BaseException:
        print(log_file.read_text())  # noqa: T201 -- what Flower said explains the failure
        raise
    finally:
        child.stop()


def test_flower_shows_the_steps_of_a_job(base, tmp_path):
    with RedisServer() as broker, running(tmp_path, {"FT_BROKER_URL": broker.url}) as site:
        site.start("remote")
        wait_until(lambda: "remote: ready" in site.log(), _WAIT_S, "the worker", every_s=0.2)
        with flower(broker.url, tmp_path / "flower.log") as port:
            job_id = site.submit(recipes.write(tmp_path / "r", base))

            def steps():
                """The tasks that Flower saw end, of this job."""
                seen = (ask(port, "/api/tasks") or {}).values()
                mine = [one for one in seen if one["name"] == "ft.advance" and job_id in one["args"]]
                return [one for one in mine if one["state"] == "SUCCESS"]

            wait_until(steps, _WAIT_S, "Flower to see a step", every_s=0.3)
            (worker,) = {one["worker"] for one in steps()}
            assert worker.startswith(f"remote-{site.workers[0].pid}@")
            assert list(ask(port, "/api/workers?refresh=1")) == [worker]
