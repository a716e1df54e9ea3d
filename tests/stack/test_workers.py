"""Real worker processes, embedded and with a real Redis: jobs end, whatever dies on the way."""

import json
import os
import signal
import sys
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta

import pytest

from finetune.process import group_members
from finetune.store import Database, SqlJobs, SqlModels, SqlRuns
from tests.support import recipes
from tests.support.process import Child, ft_environment, kill_group, run_ft, wait_until
from tests.support.servers import RedisServer

#: Picked up again: the lease of the run (15 s), a sweep, the start of a trainer on a busy machine.
_TAKEN_UP_S = 90
_END_S = 120


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return recipes.base(tmp_path_factory.mktemp("base"))


class Site:
    """One installation: FT_HOME, perhaps a broker and a database server, and its workers."""

    def __init__(self, folder, env):
        self.home, self.env, self.folder = folder / "ft", env, folder
        self.stack = ExitStack()
        self.workers = []

    @property
    def database(self):
        return Database.open(self.env.get("FT_DATABASE_URL") or f"sqlite:///{self.home / 'ft.db'}")

    def ft(self, *args, timeout=60):
        return run_ft(*args, home=self.home, env=self.env, timeout=timeout)

    def submit(self, recipe, *more):
        done = self.ft("submit", recipe, "--json", *more)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)["id"]

    def start(self, *queues):
        for queue in queues or ("remote", "gpu"):
            self.home.mkdir(exist_ok=True)
            log = self.stack.enter_context((self.home / f"{queue}.log").open("ab"))
            argv = [sys.executable, "-m", "workers", "--queue", queue]
            child = Child(
                argv, stop_signal=signal.SIGTERM, stdout=log, stderr=log, env=ft_environment(self.home, self.env)
            )
            self.stack.callback(child.stop, 20)
            self.workers.append(child)

    def kill(self):
        """SIGKILL to every worker, nothing to their trainers: the kernel must see to those."""
        for worker in self.workers:
            os.kill(worker.pid, signal.SIGKILL)
            worker.process.wait()
        self.workers.clear()

    def job(self, job_id):
        database = self.database
        try:
            return SqlJobs(database).get(job_id)
        finally:
            database.close()

    def run(self, job_id):
        database = self.database
        try:
            return SqlRuns(database).get_run(f"{job_id}-a1")
        finally:
            database.close()

    def models(self):
        database = self.database
        try:
            return [model.ref for model in SqlModels(database).models()]
        finally:
            database.close()

    def ended(self, job_id, timeout=_END_S):
        wait_until(lambda: self.job(job_id).final, timeout, f"{job_id} to end", every_s=0.2)
        return self.job(job_id)

    def training(self, job_id):
        """Wait for a step; the process id of the trainer."""
        wait_until(lambda: (self.job(job_id).progress or {}).get("step", 0) >= 2, _END_S, "steps", every_s=0.1)
        return int(self.run(job_id).process.split(":")[1])

    def log(self):
        return "".join(path.read_text() for path in self.home.glob("*.log"))


@pytest.fixture(params=["embedded", "redis and postgres"])
def site(request, tmp_path):
    env = {}
    if "redis" in request.param:
        env["FT_BROKER_URL"] = request.getfixturevalue("redis_url")
    if "postgres" in request.param:
        env["FT_DATABASE_URL"] = request.getfixturevalue("postgres_url")
    with running(tmp_path, env) as site:
        yield site


@pytest.fixture
def embedded(tmp_path):
    with running(tmp_path, {}) as site:
        yield site


@contextmanager
def running(folder, env):
    site = Site(folder, env)
    with site.stack:
        try:
            yield site
        except BaseException:
            print(site.log())  # noqa: T201 -- what the workers said explains the failure
            raise


def test_a_job_is_trained_by_worker_processes(site, base, tmp_path):
    site.start()
    job_id = site.submit(recipes.write(tmp_path / "r", base))
    job = site.ended(job_id)
    assert (job.state, job.error) == ("succeeded", None)
    assert job.model == "bot@v1"
    assert site.ft("wait", job_id).returncode == 0
    assert "adapter_model.safetensors" in os.listdir(job.artifact["path"])


def test_workers_killed_in_mid_training(site, base, tmp_path):
    """kill -9 of all workers: the trainer dies with its worker; new workers resume it, once, to one version."""
    site.start()
    job_id = site.submit(recipes.write(tmp_path / "r", base, epochs=60))
    trainer = site.training(job_id)
    site.kill()
    wait_until(lambda: not group_members(trainer), 10, "the trainer to die with its worker")
    site.start()
    wait_until(lambda: site.run(job_id).starts == 2, _TAKEN_UP_S, "the run to be taken up", every_s=0.2)
    job = site.ended(job_id)
    assert (job.state, job.error) == ("succeeded", None)
    assert site.models() == ["bot@v1"]
    assert site.run(job_id).starts == 2


def test_cancel_in_mid_training_ends_the_trainer(embedded, base, tmp_path):
    embedded.start()
    job_id = embedded.submit(recipes.write(tmp_path / "r", base, epochs=1000))
    trainer = embedded.training(job_id)
    assert embedded.ft("cancel", job_id, "-y").returncode == 0
    assert embedded.ft("wait", job_id, "--timeout", "40").returncode == 3
    assert group_members(trainer) == []
    assert f"process group {trainer} is gone" in embedded.ft("logs", job_id).stdout
    assert embedded.models() == []


def test_a_trainer_killed_alone_is_started_again(embedded, base, tmp_path):
    embedded.start()
    job_id = embedded.submit(recipes.write(tmp_path / "r", base, epochs=60))
    kill_group(embedded.training(job_id))
    job = embedded.ended(job_id)
    assert job.state == "succeeded"
    assert embedded.models() == ["bot@v1"]
    assert "killed by signal 9" in embedded.ft("logs", job_id).stdout


def test_a_worker_that_is_asked_to_stop_lets_the_training_be_saved(embedded, base, tmp_path):
    embedded.start()
    job_id = embedded.submit(recipes.write(tmp_path / "r", base, epochs=60))
    trainer = embedded.training(job_id)
    for worker in embedded.workers:
        worker.stop(20)
    embedded.workers.clear()
    assert group_members(trainer) == []
    run = embedded.run(job_id)
    assert (run.state, run.deaths, run.lease_until) == ("queued", 0, None)
    embedded.start()
    assert embedded.ended(job_id).state == "succeeded"
    assert embedded.run(job_id).starts == 2


def test_what_the_broker_forgets_the_sweep_finds(base, tmp_path, redis_server, redis_url):
    with running(tmp_path, {"FT_BROKER_URL": redis_url}) as site:
        job_id = site.submit(recipes.write(tmp_path / "r", base))
        redis_server.flush()
        site.start()
        assert site.ended(job_id).state == "succeeded"


def test_workers_are_seen_and_end_when_idle(embedded, base, tmp_path):
    embedded.home.mkdir()
    argv = [sys.executable, "-m", "workers", "--queue", "remote", "--until-idle"]
    child = Child(argv, stop_signal=signal.SIGTERM, env=ft_environment(embedded.home, {}))
    embedded.stack.callback(child.stop)

    def seen():
        from finetune.store import SqlBeats

        database = embedded.database
        beats = SqlBeats(database).workers(datetime.now(UTC) - timedelta(seconds=10))
        database.close()
        return [beat.queues for beat in beats]

    wait_until(lambda: seen() == [("remote",)], 20, "the worker to be seen", every_s=0.2)
    wait_until(lambda: not child.alive, 30, "the worker to end", every_s=0.2)
    assert child.process.returncode == 0
    assert seen() == []


def test_a_broker_that_goes_and_comes_back_leaves_no_worker_deaf(base, tmp_path):
    with RedisServer() as redis, running(tmp_path, {"FT_BROKER_URL": redis.url}) as site:
        site.start()
        assert site.ended(site.submit(recipes.write(tmp_path / "a", base, name="a"))).state == "succeeded"
        redis.stop()
        job_id = site.submit(recipes.write(tmp_path / "b", base, name="b"))
        wait_until(lambda: "Error" in site.log(), 30, "the workers to notice", every_s=0.2)
        redis.restart()
        assert site.ended(job_id).state == "succeeded"


def test_the_folder_that_the_user_stands_in_lends_nothing(base, tmp_path):
    """A `workers` package or a `celery.py` there must not be taken for ours, nor run."""
    here = tmp_path / "here"
    (here / "workers").mkdir(parents=True)
    for name in ("workers/__init__.py", "celery.py", "finetune.py"):
        (here / name).write_text("raise SystemExit('this is the code of the user')")
    recipe = recipes.write(tmp_path / "r", base)
    done = run_ft("submit", recipe, "--follow", "-q", cwd=here, timeout=_END_S)
    assert done.returncode == 0, done.stderr
