"""What `ft doctor` makes of a broker, of workers and of clocks; tests/stack has it before real ones."""

from datetime import UTC, datetime

import pytest

from finetune.doctor import Broker, examine
from finetune.errors import Problem, StateError
from finetune.runs import Beat

NOW = datetime(2026, 11, 1, tzinfo=UTC)
REMOTE, GPU = "remote-1@here", "gpu-2@here"


def beat(name):
    queue, _, rest = name.partition("-")
    pid, _, host = rest.partition("@")
    return Beat(worker=name, queues=(queue,), host=host, pid=int(pid), seen_at=NOW)


def doctor(
    tmp_path,
    broker=None,
    *,
    alive=(REMOTE, GPU),
    ahead=None,
    database=lambda: "sqlite",
    artifacts=lambda: "s3://box/ft",
    lost=dict,
):
    checks = examine(
        tmp_path,
        database=database,
        broker=lambda: broker,
        alive=lambda: [beat(name) for name in alive],
        ahead=lambda: ahead,
        places={"adapters": artifacts, "catalogue": lambda: "15 sheets"},
        lost=lost,
    )
    return {check.name: check for check in checks}


def well(**fields):
    known = {"version": "7.0.15", "append_only": True, "snapshots": True, "policy": "noeviction"}
    listening = {"late": {REMOTE: False, GPU: False}}
    return Broker(**{"address": "redis://here:6379/0", **known, **listening, **fields})


def test_without_a_broker_there_is_nothing_to_say_of_one(tmp_path):
    checks = doctor(tmp_path)
    assert checks.keys() == {"python", "home", "database", "broker", "workers", "adapters", "catalogue", "training"}
    assert checks["broker"].said == "none: embedded, workers watch the database"


def test_a_good_broker(tmp_path):
    checks = doctor(tmp_path, well(), ahead=0.4)
    names = {"broker", "durability", "eviction", "redelivery", "workers", "clocks"}
    assert {name: checks[name].verdict for name in names} == dict.fromkeys(names, "ok")
    assert not any(checks[name].fix for name in names)
    assert checks["broker"].said == "redis://here:6379/0, Redis 7.0.15"


@pytest.mark.parametrize(
    ("version", "verdict"), [("6.0.16", "broken"), ("5.0", "broken"), ("6.2.0", "ok"), (None, "ok")]
)
def test_an_old_redis_lacks_a_command(tmp_path, version, verdict):
    check = doctor(tmp_path, well(version=version))["broker"]
    assert (check.verdict, "6.2" in check.fix) == (verdict, verdict == "broken")


@pytest.mark.parametrize(
    ("fields", "verdict", "said"),
    [
        ({"append_only": False}, "ok", "snapshots"),
        ({"append_only": False, "snapshots": False}, "note", "forgets the queue; no job is lost"),
        ({"append_only": False, "snapshots": None}, "ok", "does not tell"),
        ({"append_only": None, "snapshots": None}, "ok", "does not tell"),
        ({"disk_fails": True}, "note", "could not write"),
    ],
)
def test_what_a_restart_of_the_broker_costs(tmp_path, fields, verdict, said):
    check = doctor(tmp_path, well(**fields))["durability"]
    assert (check.verdict, bool(check.fix)) == (verdict, verdict == "note")
    assert said in check.said


@pytest.mark.parametrize(("policy", "verdict"), [("allkeys-lru", "note"), ("volatile-ttl", "note"), (None, "ok")])
def test_a_broker_that_may_drop_what_is_queued(tmp_path, policy, verdict):
    assert doctor(tmp_path, well(policy=policy))["eviction"].verdict == verdict


def test_a_worker_that_acknowledges_late_is_named(tmp_path):
    check = doctor(tmp_path, well(late={REMOTE: False, GPU: True}))["redelivery"]
    assert check.verdict == "note"
    assert GPU in check.said
    assert REMOTE not in check.said


def test_when_no_worker_listens_nothing_is_claimed_of_their_settings(tmp_path):
    assert "redelivery" not in doctor(tmp_path, well(late={}), alive=())


@pytest.mark.parametrize(
    ("alive", "late", "said"),
    [
        ((REMOTE,), {REMOTE: False}, "nobody serves gpu"),
        ((REMOTE, GPU), {REMOTE: False}, f"{GPU} works and does not answer at this broker"),
        ((REMOTE, GPU), {REMOTE: False, GPU: False, "gpu-7@there": False}, "gpu-7@there takes our messages"),
    ],
)
def test_workers_of_the_database_and_of_the_broker_are_the_same(tmp_path, alive, late, said):
    check = doctor(tmp_path, well(late=late), alive=alive)["workers"]
    assert (check.verdict, bool(check.fix)) == ("note", True)
    assert said in check.said


@pytest.mark.parametrize(
    ("broker", "database", "said"),
    [
        (2.5, 0.0, "the broker's is 2.5 s ahead"),
        (0.0, -3.0, "the database's is 3.0 s behind"),
        (2.0, -2.0, None),
        (-9.0, None, "the broker's is 9.0 s behind"),
    ],
)
def test_clocks_that_differ(tmp_path, broker, database, said):
    check = doctor(tmp_path, well(ahead_s=broker), ahead=database)["clocks"]
    assert check.verdict == ("note" if said else "ok")
    assert (said or "broker and database: within 2 s") in check.said


def test_a_broken_database_hides_nothing_of_the_broker(tmp_path):
    def broken():
        raise StateError(Problem(code="E502", what="the database server does not answer"))

    checks = doctor(tmp_path, well(), database=broken)
    assert checks["database"].verdict == "broken"
    assert checks["durability"].verdict == "ok"
    assert "workers" not in checks
    assert checks["clocks"].said == "broker: within 2 s of this machine's"


def test_a_gateway_of_our_books_that_is_not_set_up_is_told_with_what_mends_it(tmp_path):
    check = doctor(tmp_path, lost=lambda: {"acme": "there is no gateway 'acme'"})["gateways"]
    assert (check.verdict, check.said.partition(",")[0]) == ("note", "acme is in our books")
    assert "there is no gateway 'acme'" in check.said
    assert "`ft models sync --forget acme`" in check.fix


def test_books_in_a_database_that_is_away_are_not_asked(tmp_path):
    def away():
        raise StateError(Problem(code="E501", what="the database is away"))

    assert doctor(tmp_path, database=away, lost=away)["database"].verdict == "broken"
