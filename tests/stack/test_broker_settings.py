"""What the settings of `workers/app.py` are for, seen on a real Redis: each test fails without its setting."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress

import pytest
import redis

from finetune import up
from finetune.clock import SystemClock
from finetune.store import SqlBeats
from tests.stack.test_workers import running
from tests.support import recipes
from tests.support.process import ft_environment, wait_until
from tests.support.servers import RedisServer

_END_S = 120
#: Longer than a worker counts as living without a sign.
_SILENT_S = 12
#: Says which names of ours the libraries do not read, and what the app makes of two that matter.
_READ = """
import json
from celery.app.defaults import NAMESPACES, flatten
from workers.app import app
settings = {name for name, _ in flatten(NAMESPACES)} | {"deprecated_settings"}
# The first is the memory transport's own, the second kombu's for a connection that a publisher opens.
options = {*app.connection().transport.Channel.from_transport_options, "polling_interval", "max_retries"}
found = {
    "settings": sorted(set(app.conf.changes) - settings),
    "options": sorted(set(app.conf.broker_transport_options) - options),
    "late": [name for name, task in app.tasks.items() if task.acks_late],
    "tries": app.conf.broker_connection_max_retries,
}
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return recipes.base(tmp_path_factory.mktemp("base"))


@pytest.fixture
def broker():
    with RedisServer() as server:
        yield server


@pytest.fixture
def site(broker, tmp_path):
    with running(tmp_path, {"FT_BROKER_URL": broker.url}) as site:
        yield site


def client(broker):
    return redis.Redis.from_url(broker.url, socket_timeout=5)


def living(site):
    """The queues that a worker serves, as `ft up` and `ft doctor` see it."""
    database = site.database
    try:
        return up.living(SqlBeats(database), SystemClock())
    finally:
        database.close()


class Line:
    """A way to a server on which every connection can be cut without a word: both ends stay open, nothing arrives."""

    def __init__(self, port):
        self._to, self._cuts = port, 0
        self._ends = []
        self._door = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://127.0.0.1:{self._door.getsockname()[1]}/0"
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self):
        """Those that are open now; new ones work."""
        self._cuts += 1

    def __enter__(self):
        return self

    def __exit__(self, *_):
        # A thread that waits in a socket looks up when it is shut down, not when it is closed.
        for end in (self._door, *self._ends):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _accept(self):
        while True:
            try:
                near, _ = self._door.accept()
                far = socket.create_connection(("127.0.0.1", self._to))
            except OSError:
                return
            self._ends += [near, far]
            for one, other in ((near, far), (far, near)):
                threading.Thread(target=self._pump, args=(one, other, self._cuts), daemon=True).start()

    def _pump(self, one, other, cuts):
        try:
            while data := one.recv(65536):
                if cuts == self._cuts:
                    other.sendall(data)
            if cuts == self._cuts:
                other.shutdown(socket.SHUT_WR)
        except OSError:
            pass


@pytest.mark.parametrize("url", ["", "redis://127.0.0.1:1/0"])
def test_every_setting_is_one_that_is_read(url):
    """Both libraries drop a name that they do not know without a word."""
    done = subprocess.run(
        [sys.executable, "-c", _READ],
        env=ft_environment(env={"FT_BROKER_URL": url} if url else {}),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"settings": [], "options": [], "late": [], "tries": None}


def test_a_silent_redis_holds_no_worker(site, base, broker, tmp_path):
    """A machine that is gone without a word answers nothing, as this stopped process. Beats go on, and so do jobs."""
    site.start()
    assert site.ended(site.submit(recipes.write(tmp_path / "a", base, name="a"))).state == "succeeded"
    os.kill(broker.pid, signal.SIGSTOP)
    try:
        job_id = site.submit(recipes.write(tmp_path / "b", base, name="b"))
        wait_until(lambda: "Timeout" in site.log(), 30, "the workers to notice", every_s=0.2)
        # The time that passes is what is tested: that no beat is missed in it.
        with pytest.raises(TimeoutError, match="seem dead"):
            wait_until(lambda: living(site) != {"remote", "gpu"}, _SILENT_S, "a worker to seem dead", every_s=0.3)
    finally:
        os.kill(broker.pid, signal.SIGCONT)
    assert site.ended(job_id).state == "succeeded"


def test_a_redis_that_refuses_to_write_ends_no_worker(site, base, broker, tmp_path):
    """As while it fails over, or when its disk is full: an error of the command, not of the connection."""
    site.start()
    assert site.ended(site.submit(recipes.write(tmp_path / "a", base, name="a"))).state == "succeeded"
    with client(broker) as redis_:
        redis_.config_set("min-replicas-to-write", 1)
        job_id = site.submit(recipes.write(tmp_path / "b", base, name="b"))
        since = time.monotonic()
        wait_until(lambda: time.monotonic() - since > 5, 10, "some refusals", every_s=0.5)
        assert all(worker.alive for worker in site.workers)
        redis_.config_set("min-replicas-to-write", 0)
    assert site.ended(job_id).state == "succeeded"


def test_connections_that_are_cut_without_a_word_leave_no_worker_deaf(base, broker, tmp_path):
    """As by a firewall that forgets them. Nobody sends an end: only a time limit tells."""
    with Line(broker.port) as line, running(tmp_path, {"FT_BROKER_URL": line.url}) as site:
        site.start("remote")
        wait_until(lambda: "remote: ready" in site.log(), 60, "the worker", every_s=0.2)
        line.cut()
        job_id = site.submit(recipes.write(tmp_path / "a", base))
        # 21 s at most; with kombu's own interval it would be 26 to 51.
        wait_until(lambda: site.job(job_id).state == "running", 40, "the worker to hear", every_s=0.2)


def test_jobs_outlive_a_flush_and_a_restart_of_redis(site, base, broker, tmp_path):
    """One trains, one waits, and Redis forgets everything, twice. The training is not disturbed, the other is found."""
    site.start()
    first = site.submit(recipes.write(tmp_path / "a", base, name="a", epochs=200))
    site.training(first)
    second = site.submit(recipes.write(tmp_path / "b", base, name="b"))
    with client(broker) as redis_:
        wait_until(lambda: redis_.llen("gpu"), 60, "the second to wait in the queue", every_s=0.1)
        assert redis_.hlen("ft.unacked") == 0, "the message of a training that runs is acknowledged"
        redis_.flushall()
    broker.stop()
    wait_until(lambda: "Error" in site.log(), 30, "the workers to notice", every_s=0.2)
    broker.restart()
    assert [site.ended(each).state for each in (first, second)] == ["succeeded"] * 2
    assert (site.run(first).starts, site.run(first).deaths) == (1, 0)
    assert site.models() == ["a@v1", "b@v1"]
    assert all(worker.alive for worker in site.workers)


def test_what_other_programs_on_the_same_redis_hold_is_left_to_them(site, broker):
    """A message that another program's worker has held for long is back in its queue only when that program says so."""
    held = json.dumps([{"body": "", "properties": {}}, "", "theirs"])
    with client(broker) as redis_:
        for keys in ("", "ft."):
            redis_.hset(f"{keys}unacked", "tag", held)
            redis_.zadd(f"{keys}unacked_index", {"tag": 1})
        site.start("remote")
        # A worker looks through its own when it starts.
        wait_until(lambda: not redis_.exists("ft.unacked"), 60, "the worker to look", every_s=0.2)
        assert redis_.hgetall("unacked") == {b"tag": held.encode()}
