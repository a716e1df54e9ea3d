"""Jobs that wait for their turn, in every database: SQLite and a real PostgreSQL."""

import threading
from datetime import timedelta

import pytest

from finetune.errors import NotFound
from finetune.jobs import Change, JobState
from finetune.store import SqlRuns
from tests.support.jobs import World, sqlite

TTL = timedelta(seconds=30)


@pytest.fixture(params=["sqlite", "postgres"])
def world(request, tmp_path):
    url = sqlite(tmp_path) if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    world = World(url)
    world.runs = SqlRuns(world.database)
    yield world
    world.database.close()


def waiting(world, count, owner="me", **fields):
    """So many jobs that wait for their turn, a second apart."""
    made = []
    for _ in range(count):
        number = len(world.jobs.recent())
        made.append(world.submit(f"ft_{number:03}", owner=owner, due_at=None, **fields).id)
        world.clock.sleep(1)
    return made


def end(world, job_id):
    lease = world.jobs.claim(job_id, "w", world.clock.now(), TTL)
    world.jobs.apply(lease, Change(state=JobState.FAILED, due_at=None, fields={}), world.clock.now())


def test_those_whose_turn_it_is_become_due(world):
    ids = waiting(world, 3)
    assert world.jobs.due(world.clock.now(), 10) == []
    assert world.turns.admit(world.clock.now(), {"owner": 2}) == ids[:2]
    assert [due.key for due in world.jobs.due(world.clock.now(), 10)] == ids[:2]
    assert world.jobs.get(ids[0]).admitted_at == world.clock.now()
    assert world.jobs.get(ids[2]).admitted_at is None
    assert world.turns.admit(world.clock.now(), {"owner": 2}) == []
    end(world, ids[0])
    assert world.turns.admit(world.clock.now(), {"owner": 2}) == ids[2:]


def test_without_caps_all_start(world):
    ids = waiting(world, 3)
    assert world.turns.admit(world.clock.now(), {}) == ids


def test_many_that_admit_at_once_exceed_no_cap(world):
    waiting(world, 30)
    start, admitted = threading.Barrier(8), []

    def admit():
        start.wait()
        for _ in range(3):
            admitted.extend(world.turns.admit(world.clock.now(), {"fake": 5}))

    threads = [threading.Thread(target=admit) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(admitted) == len(set(admitted)) == 5
    assert sum(job.admitted_at is not None for job in world.jobs.recent()) == 5


def test_one_that_is_held_is_passed_over_until_it_is_lifted(world):
    first, second = waiting(world, 2)
    world.turns.request_hold(first, True, world.clock.now())
    assert world.turns.request_hold(first, True, world.clock.now()).hold_requested
    assert world.turns.admit(world.clock.now(), {"owner": 1}) == [second]
    lifted = world.turns.request_hold(first, False, world.clock.now())
    assert (lifted.hold_requested, lifted.due_at) == (False, None)
    assert world.turns.admit(world.clock.now(), {"owner": 2}) == [first]
    assert [e.message for e in world.jobs.events(first)] == ["queued", "pause requested", "resume requested"]


def test_a_wish_makes_what_is_under_way_due(world):
    (job_id,) = waiting(world, 1)
    world.turns.admit(world.clock.now(), {})
    lease = world.jobs.claim(job_id, "w", world.clock.now(), TTL)
    later = world.clock.now() + timedelta(seconds=60)
    world.jobs.apply(lease, Change(state=JobState.PREPARING, due_at=later, fields={}), world.clock.now())
    assert world.turns.request_hold(job_id, True, world.clock.now()).due_at == world.clock.now()


def test_what_has_ended_takes_no_wish(world):
    (job_id,) = waiting(world, 1)
    world.turns.admit(world.clock.now(), {})
    end(world, job_id)
    before = world.jobs.get(job_id)
    assert world.turns.request_hold(job_id, True, world.clock.now()) == before
    assert world.turns.prioritise(job_id, 5, world.clock.now()) == before
    with pytest.raises(NotFound):
        world.turns.prioritise("ft_none", 5, world.clock.now())


def test_a_priority_changes_the_order_and_is_told(world):
    ids = waiting(world, 3)
    assert world.turns.prioritise(ids[2], 9, world.clock.now()).priority == 9
    world.turns.prioritise(ids[2], 9, world.clock.now())
    assert world.turns.admit(world.clock.now(), {}) == [ids[2], *ids[:2]]
    assert [e.message for e in world.jobs.events(ids[2])] == ["queued", "priority 9"]


def test_a_cancel_of_one_that_waits_is_due_at_once(world):
    first, _ = waiting(world, 2)
    world.jobs.request_cancel(first, world.clock.now())
    assert world.run(first).state is JobState.CANCELLED


def training(world, job_id, **fields):
    """A job whose run waits for a worker."""
    world.submit(job_id, run_key=f"{job_id}-a1", **fields)
    world.runs.add_run(f"{job_id}-a1", {}, world.clock.now())
    world.clock.sleep(1)


def next_run(world):
    return world.placements().due_runs(world.clock.now(), 9)[0].key


def test_runs_are_taken_by_priority_then_fair_share_then_age(world):
    training(world, "ft_a", owner="ann")
    training(world, "ft_b", owner="ann")
    training(world, "ft_c", owner="bob")
    training(world, "ft_d", owner="ann", priority=3)
    taken = []
    for _ in range(4):
        taken.append(next_run(world))
        assert world.placements().claim_run(world.clock.now(), TTL).run_key == taken[-1]
    # Ann trains d when the next is looked for: Bob has none.
    assert taken == ["ft_d-a1", "ft_c-a1", "ft_a-a1", "ft_b-a1"]
    assert [run.run_key for run in world.runs.training(world.clock.now())] == [f"ft_{n}-a1" for n in "abcd"]


def test_a_paused_run_waits_for_nobody(world):
    training(world, "ft_a")
    world.runs.hold_run("ft_a-a1", True)
    assert world.placements().due_runs(world.clock.now(), 9) == []
    assert world.placements().claim_run(world.clock.now(), TTL) is None
    world.runs.hold_run("ft_a-a1", False)
    assert next_run(world) == "ft_a-a1"
    run = world.placements().claim_run(world.clock.now(), TTL)
    world.runs.hold_run("ft_a-a1", True)
    assert world.placements().due_runs(world.clock.now(), 9) == []
    # Its worker died before it had paused it: another one does.
    world.clock.sleep(60)
    assert next_run(world) == run.run_key
    run = world.placements().claim_run(world.clock.now(), TTL)
    world.runs.update_run(run, world.clock.now(), state="queued")
    assert world.placements().due_runs(world.clock.now(), 9) == []
    world.runs.cancel_run("ft_a-a1", world.clock.now())
    assert world.runs.get_run("ft_a-a1").state == "cancelled"
