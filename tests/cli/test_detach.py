"""Ctrl-C stops looking, never the job; what goes on is followed to its end."""

import signal
from pathlib import Path

import pytest

from finetune.cli import exits
from tests.cli.desk import Desk
from tests.support.process import ft_running, wait_until

_PATIENCE_S = 30


@pytest.mark.parametrize("verb", [("watch",), ("logs", "-f"), ("wait",)], ids=" ".join)
def test_sigint_detaches_from_a_job(desk: Desk, verb: tuple[str, ...]) -> None:
    job_id = desk.submit()
    with ft_running(*verb, job_id, cwd=desk.folder) as (child, shown):
        # `wait` prints nothing before the end: that it has the database open is the sign that it is there.
        ready = (lambda: _has_open(child.pid, "ft.db")) if verb == ("wait",) else (lambda: "queued" in shown())
        wait_until(ready, _PATIENCE_S, "the first look")
        child.process.send_signal(signal.SIGINT)
        assert child.process.wait(_PATIENCE_S) == exits.DETACHED
        assert (
            f"\ndetached: {job_id} goes on; `ft watch {job_id}` looks again, `ft cancel {job_id}` ends it\n" in shown()
        )
        assert "Traceback" not in shown()
    assert desk.call("status", job_id, "--json").json["cancel_requested"] is False


def test_sigint_detaches_from_a_followed_submit(desk: Desk) -> None:
    job_id = desk.submit()
    desk.staff()
    with ft_running("submit", "recipe.yaml", "--follow", cwd=desk.folder) as (child, shown):
        wait_until(lambda: "queued: " in shown(), _PATIENCE_S, "the first event")
        child.process.send_signal(signal.SIGINT)
        assert child.process.wait(_PATIENCE_S) == exits.DETACHED
        assert f"detached: {job_id} goes on; `ft watch {job_id}` looks again" in shown()
        assert "Traceback" not in shown()
    assert not list(desk.home.glob("logs/worker-*")), "a worker was started though both queues were served"


def test_a_followed_submit_ends_with_its_job(desk: Desk) -> None:
    job_id = desk.submit()
    desk.staff()
    with ft_running("submit", "recipe.yaml", "--follow", cwd=desk.folder) as (child, shown):
        wait_until(lambda: "queued: " in shown(), _PATIENCE_S, "the first event")
        with desk.world("running", "failed") as world:
            world.run(job_id)
        assert child.process.wait(_PATIENCE_S) == exits.FAILED
        assert f"{job_id}  failed\n" in shown()
        assert "error E401: the fake was told to fail\n" in shown()


def test_watch_prints_what_happens_while_it_looks(desk: Desk) -> None:
    job_id = desk.submit()
    with ft_running("watch", job_id, cwd=desk.folder) as (child, shown):
        wait_until(lambda: "queued: " in shown(), _PATIENCE_S, "the first event")
        with desk.world("queued", "running", "succeeded") as world:
            world.run(job_id)
        assert child.process.wait(_PATIENCE_S) == exits.OK
        assert "running: submitted as" in shown()
        assert shown().index("running: ") < shown().index("succeeded: registered as bot@v1")


def _has_open(pid: int, name: str) -> bool:
    return any(path.exists() and path.resolve().name == name for path in Path(f"/proc/{pid}/fd").iterdir())
