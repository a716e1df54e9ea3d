"""`ft doctor` before real servers: what is well, what is not, and no password in either."""

import json

from tests.support.process import run_ft
from tests.support.servers import RedisServer

SECRET = "hunter2-planted"


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
