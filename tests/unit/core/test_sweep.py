"""The sweep rings for what waits: at once, not twice, and again when nobody came."""

import pytest

from finetune.lifecycle import LEASE
from finetune.store import SqlRuns
from finetune.sweep import RING_AGAIN, TAKE, Sweep
from finetune.tasks import ADVANCE, ADVANCE_DUE, TRAIN
from tests.support.jobs import World, sqlite


@pytest.fixture
def world(tmp_path):
    world = World(sqlite(tmp_path))
    world.bells, world.runs, world.broken = [], SqlRuns(world.database), False
    yield world
    world.database.close()


def sweep(world, *tasks):
    def ring(task, key):
        if world.broken:
            raise OSError("no broker")
        world.bells.append((task, key))

    sources = {ADVANCE: world.jobs.due, TRAIN: world.placements().due_runs}
    return Sweep({task: sources[task] for task in tasks or sources}, world.clock, ring)


def test_it_rings_once_for_what_waits(world):
    world.submit()
    world.runs.add_run("k", {}, world.clock.now())
    one = sweep(world)
    assert (one.tick(), one.tick()) == (2, 0)
    assert world.bells == [(ADVANCE, "ft_1"), (TRAIN, "k")]


def test_the_next_step_rings_at_once(world):
    """No tick fell between the steps: the job was never seen not to wait."""
    world.submit()
    one = sweep(world)
    one.tick()
    world.lifecycle.advance("ft_1")
    assert one.tick() == 1


def test_a_bell_that_nobody_heard_rings_again(world):
    world.submit()
    one = sweep(world)
    one.tick()
    world.clock.sleep(RING_AGAIN.total_seconds() - 1)
    assert one.tick() == 0
    world.clock.sleep(1)
    assert one.tick() == 1


def test_what_is_leased_does_not_wait_until_its_lease_ends(world):
    world.submit()
    world.jobs.claim("ft_1", "w", world.clock.now(), LEASE)
    one = sweep(world)
    assert one.tick() == 0
    world.clock.sleep(LEASE.total_seconds())
    assert one.tick() == 1


def test_only_what_this_worker_can_do(world):
    world.submit()
    world.runs.add_run("k", {}, world.clock.now())
    sweep(world, TRAIN).tick()
    assert world.bells == [(TRAIN, "k")]


def test_a_bell_that_could_not_be_rung_rings_at_the_next_tick(world):
    world.submit()
    one, world.broken = sweep(world), True
    with pytest.raises(OSError, match="no broker"):
        one.tick()
    world.broken = False
    assert one.tick() == 1


def test_for_a_backlog_it_rings_once_for_several(world):
    for number in range(2 * TAKE + 1):
        world.submit(f"ft_{number}")
    world.runs.add_run("k", {}, world.clock.now())
    one = sweep(world)
    assert (one.tick(), one.tick()) == (4, 0)
    assert world.bells == [(ADVANCE_DUE, "")] * 3 + [(TRAIN, "k")]
    world.clock.sleep(RING_AGAIN.total_seconds())
    assert one.tick() == 4


def test_no_more_than_a_batch_has_a_bell_each(world):
    """So each can have a worker of its own."""
    for number in range(TAKE):
        world.submit(f"ft_{number}")
    assert sweep(world).tick() == TAKE
    assert {task for task, _ in world.bells} == {ADVANCE}
