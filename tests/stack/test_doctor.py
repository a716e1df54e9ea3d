"""`ft doctor` before real servers: what is well, what is not, and no password in either."""

import json
import os
import signal
import sys

import pytest
import redis

from tests.stack.test_workers import running
from tests.support.process import Child, ft_environment, run_ft, wait_until
from tests.support.servers import RedisServer

SECRET = "hunter2-planted"
#: The worker as it is, but for one setting.
LATE = """
import sys
from workers.app import app
app.conf.task_acks_late = True
from workers.__main__ import main
sys.argv = ["workers", "--queue", "gpu"]
sys.exit(main())
"""


def checks(env, home=None):
    done = run_ft("doctor", "--json", env=env, home=home)
    assert SECRET not in done.stdout + done.stderr
    return {one["name"]: one for one in json.loads(done.stdout)}


@pytest.fixture
def broker():
    with RedisServer() as server:
        yield server


def test_everything_is_well_and_no_password_is_shown(postgres_url, redis_url):
    address = postgres_url.replace("://postgres@", f"://postgres:{SECRET}@")
    assert SECRET in address
    done = run_ft("doctor", "--json", env={"FT_DATABASE_URL": address, "FT_BROKER_URL": redis_url})
    assert done.returncode == 0, done.stdout + done.stderr
    checks = {one["name"]: one for one in json.loads(done.stdout)}
    assert checks["database"]["verdict"] == "ok"
    assert "postgres:***@" in checks["database"]["said"]
    assert checks["broker"]["verdict"] == "ok"
    assert SECRET not in done.stdout + done.stderr


def test_a_broker_that_has_gone_is_broken(postgres_url):
    with RedisServer() as redis:
        address = redis.url
    done = run_ft("doctor", env={"FT_DATABASE_URL": postgres_url, "FT_BROKER_URL": address})
    assert done.returncode == 1
    assert "E802 the broker does not answer" in done.stdout
    assert "fix: start it, or check FT_BROKER_URL" in done.stdout


def test_a_broker_that_is_silent_holds_nobody(broker):
    os.kill(broker.pid, signal.SIGSTOP)
    try:
        done = run_ft("doctor", env={"FT_BROKER_URL": broker.url}, timeout=30)
    finally:
        os.kill(broker.pid, signal.SIGCONT)
    assert done.returncode == 1
    assert "E802 the broker does not answer: Timeout" in done.stdout


def test_what_a_redis_keeps_and_drops(broker):
    env = {"FT_BROKER_URL": broker.url}
    found = checks(env)
    assert f"@127.0.0.1:{broker.port}/0, Redis " in found["broker"]["said"]
    assert (found["durability"]["verdict"], found["eviction"]["verdict"]) == ("note", "ok")
    with redis.Redis.from_url(broker.url) as client:
        client.config_set("save", "60 1000")
        assert "snapshots" in checks(env)["durability"]["said"]
        client.config_set("appendonly", "yes")
        client.config_set("maxmemory-policy", "allkeys-lru")
    found = checks(env)
    assert (found["durability"]["verdict"], found["eviction"]["verdict"]) == ("ok", "note")
    assert "allkeys-lru" in found["eviction"]["said"]


def test_a_redis_that_tells_little(broker):
    """As managed ones do: no CONFIG, no INFO."""
    with redis.Redis.from_url(broker.url) as client:
        client.acl_setuser(
            "ft", enabled=True, passwords=[f"+{SECRET}"], keys=["*"], channels=["*"], commands=["+@all", "-@dangerous"]
        )
    found = checks({"FT_BROKER_URL": broker.url.replace("://", f"://ft:{SECRET}@")})
    assert {found[name]["verdict"] for name in ("broker", "durability", "eviction", "clocks")} == {"ok"}
    assert "does not tell" in found["durability"]["said"]


def test_the_workers_that_run_are_asked(tmp_path, broker, postgres_url):
    env = {"FT_DATABASE_URL": postgres_url, "FT_BROKER_URL": broker.url}
    with running(tmp_path, env) as site:
        site.start()
        wait_until(lambda: site.log().count(": ready") == 2, 60, "the workers", every_s=0.2)
        found = checks(env, site.home)
        assert [found[name]["verdict"] for name in ("workers", "redelivery", "clocks")] == ["ok"] * 3
        assert "broker and database" in found["clocks"]["said"]

        elsewhere = checks({**env, "FT_BROKER_URL": broker.url.replace("/0", "/1")}, site.home)
        assert "does not answer at this broker" in elsewhere["workers"]["said"]
        assert "redelivery" not in elsewhere

        stranger = checks({"FT_BROKER_URL": broker.url}, tmp_path / "other")
        assert "takes our messages and is not in our database" in stranger["workers"]["said"]


def test_a_worker_with_late_acknowledgements_is_named(tmp_path, broker):
    env = {"FT_BROKER_URL": broker.url}
    home = tmp_path / "ft"
    with (tmp_path / "log").open("ab") as log:
        argv = [sys.executable, "-c", LATE]
        worker = Child(argv, stop_signal=signal.SIGTERM, stdout=log, stderr=log, env=ft_environment(home, env))
        try:
            wait_until(lambda: "ready" in (tmp_path / "log").read_text(), 60, "the worker", every_s=0.2)
            found = checks(env, home)
        finally:
            worker.stop(20)
    assert found["redelivery"]["verdict"] == "note"
    assert f"gpu-{worker.pid}@" in found["redelivery"]["said"]
