"""A database that dies, disks that fill up, while jobs go on: said as what it is, and what was accepted is done."""

import resource
import signal
import subprocess
import sys
from contextlib import contextmanager

import pytest

from tests.stack.test_workers import running
from tests.support import recipes
from tests.support.chaos import Postgres
from tests.support.process import Child, ft_environment, ft_running, wait_until
from tests.support.servers import RedisServer

#: A run that its worker has lost (15 s) or that waits for room (15 s), a sweep, a trainer on a busy machine.
_END_S = 120


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return recipes.base(tmp_path_factory.mktemp("base"))


def said(stderr):
    """The code of the only problem, which is told in three lines: what, why, fix."""
    what, why, fix = stderr.splitlines()
    assert why.startswith("  why: ")
    assert fix.startswith("  fix: ")
    return what.partition("error ")[2][:4]


def test_a_database_server_that_dies_in_mid_training_is_said_and_costs_no_job(base, tmp_path):
    with (
        Postgres() as postgres,
        RedisServer() as redis,
        running(tmp_path, {"FT_DATABASE_URL": postgres.database(), "FT_BROKER_URL": redis.url}) as site,
    ):
        site.start()
        first = site.submit(recipes.write(tmp_path / "a", base, name="a", epochs=20))
        site.training(first)
        with ft_running("wait", first, home=site.home, env=site.env) as (waiting, printed):
            postgres.crash()
            wait_until(lambda: not waiting.alive, 60, "the waiting command to give up", every_s=0.1)
            assert waiting.process.returncode == 1
            assert said(printed()) == "E502"
        second = recipes.write(tmp_path / "b", base, name="b")
        for args in (("submit", second), ("status",), ("cancel", first, "-y")):
            ran = site.ft(*args)
            assert (ran.returncode, said(ran.stderr), ran.stdout) == (1, "E502", ""), args
        wait_until(lambda: "E502" in site.log(), 30, "the workers to notice", every_s=0.2)
        assert all(worker.alive for worker in site.workers)
        postgres.restart()
        later = site.submit(second)
        assert [site.ended(each).state for each in (first, later)] == ["succeeded"] * 2
        assert sorted(site.models()) == ["a@v1", "b@v1"]
        assert all(worker.alive for worker in site.workers)
        assert "Traceback" not in site.log()


@contextmanager
def worker(site, queue):
    """A worker whose log goes through a pipe: a limit on its files does not hold for what it says."""
    with (site.home / f"{queue}.log").open("ab") as log:
        pen = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=log)
    argv = [sys.executable, "-m", "workers", "--queue", queue]
    env = ft_environment(site.home, site.env)
    child = Child(argv, stop_signal=signal.SIGTERM, stdout=pen.stdin, stderr=pen.stdin, env=env)
    try:
        yield child
    finally:
        child.stop(20)
        pen.communicate()


def room(child, most):
    """Let a process, and those that it starts, write no byte of a file beyond this one. As a full disk, and at once."""
    _, hard = resource.prlimit(child.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(child.pid, resource.RLIMIT_FSIZE, (most, hard))


def test_a_disk_that_takes_no_run_is_waited_for(base, tmp_path, postgres_url, redis_url):
    """Nothing can be started. The run stays queued, no death is counted, and it goes on when there is room.

    A limit of a process is told as E501; a disk without room as E504, by the same lines.
    """
    with running(tmp_path, {"FT_DATABASE_URL": postgres_url, "FT_BROKER_URL": redis_url}) as site:
        site.start("remote")
        with worker(site, "gpu") as gpu:
            wait_until(lambda: "gpu: ready" in site.log(), 60, "the worker", every_s=0.1)
            room(gpu, 1)
            job_id = site.submit(recipes.write(tmp_path / "a", base))
            wait_until(lambda: f"{job_id}-a1: error E501" in site.log(), 60, "the worker to say so", every_s=0.2)
            assert (site.run(job_id).state, site.run(job_id).deaths, site.job(job_id).state) == ("queued", 0, "running")
            assert gpu.alive
            room(gpu, resource.RLIM_INFINITY)
            # It looks again after a minute.
            job = site.ended(job_id, timeout=60 + _END_S)
        assert (job.state, site.models(), site.run(job_id).deaths) == ("succeeded", ["bot@v1"], 0)
        assert "Traceback" not in site.log()


def test_a_disk_that_is_full_under_the_database_stops_no_worker_and_costs_no_job(base, tmp_path):
    """Embedded: no step can be written, the row stays as it is, and the job goes on as soon as there is room."""
    with running(tmp_path, {}) as site:
        job_id = site.submit(recipes.write(tmp_path / "a", base))
        with worker(site, "remote") as remote:
            wait_until(lambda: "ready" in site.log(), 60, "the worker", every_s=0.1)
            wait_until(lambda: site.run(job_id), 60, "the run", every_s=0.1)
            room(remote, 1)
            site.start("gpu")
            # The training succeeds; only whoever writes that down has no room.
            wait_until(lambda: site.run(job_id).state == "succeeded", _END_S, "the run to end", every_s=0.2)
            wait_until(lambda: "error E504" in site.log(), 60, "the worker to say so", every_s=0.2)
            job = site.job(job_id)
            assert (job.state, job.failures, site.models()) == ("running", 0, [])
            assert remote.alive
            room(remote, resource.RLIM_INFINITY)
            job = site.ended(job_id)
        assert (job.state, site.models()) == ("succeeded", ["bot@v1"])
        assert "Traceback" not in site.log()
