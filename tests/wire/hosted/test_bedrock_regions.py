"""Workers of one home that stand in different regions of Amazon's: each paid job once, whoever takes the next step."""

from itertools import cycle

import pytest

from finetune.jobs import JobState
from finetune.sandbox.bedrock.jobs import Timing
from finetune.sandbox.faults import Fault
from tests.support.hosted import served
from tests.support.hosted_bedrock import Watched
from tests.support.hosted_world import JOB, HostedWorld
from tests.support.travel import Traveller


@pytest.fixture
def workers(tmp_path):
    """One where Nova is tuned, one where it is not, over one database; and the stand-in."""
    server = served(Watched(timing=Timing(training=900)))
    server.sandbox.storage.add("other-bucket")
    clock = Traveller(server.sandbox.clock.advance)
    away = {"AWS_REGION": "us-west-2", "FT_BEDROCK_BUCKET": "other-bucket"}
    worlds = [
        HostedWorld("bedrock", tmp_path, environ, clock, read_s=1.0)
        for environ in (server.environment, {**server.environment, **away})
    ]
    yield *worlds, server.sandbox
    for world in worlds:
        world.close()
    server.stop()
    assert not server.broken


def in_turn(worlds, until, steps=400):
    """Let them step one after the other until the condition holds."""
    for world, _ in zip(cycle(worlds), range(steps), strict=False):
        job = world.jobs.get(JOB)
        if until(job):
            return job
        if world.lifecycle(str(id(world))).advance(JOB) is None:
            world._travel(job)
    raise AssertionError(f"{JOB} is {worlds[0].jobs.get(JOB)} after {steps} steps")


@pytest.mark.parametrize("kind", [None, "cut_before", "cut_after", "hang_after", "garbage", "server_error"])
def test_a_job_that_goes_from_hand_to_hand_is_paid_once(workers, kind):
    here, there, sandbox = workers
    here.submit()
    here.run(until=lambda job: job.state is JobState.SUBMITTING)
    if kind:
        sandbox.faults.lay(Fault(kind=kind, on="create", seconds=3.0))
    job = in_turn([there, here], until=lambda job: job.final)
    assert job.state is JobState.SUCCEEDED
    (entry,) = sandbox.ledger()
    assert (job.remote_id, ":us-east-1:" in job.remote_id) == (entry.remote_id, True)
    assert here.jobs.metrics(JOB)


def test_a_wish_to_cancel_reaches_the_job_where_it_is(workers):
    here, there, sandbox = workers
    here.submit()
    here.run(until=lambda job: job.state is JobState.SUBMITTING)
    sandbox.faults.lay(Fault(kind="cut_after", on="create"))
    there.lifecycle("w1").advance(JOB)
    here.jobs.request_cancel(JOB, here.clock.now())
    job = in_turn([there, here], until=lambda job: job.final)
    assert job.state is JobState.CANCELLED
    assert [entry.live for entry in sandbox.ledger()] == [False]
