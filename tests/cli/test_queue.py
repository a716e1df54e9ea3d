"""ft queue, workers, pause, resume, priority, retry."""

import pytest

from finetune.cli import exits
from finetune.jobs import JobState
from tests.cli.desk import Desk

HOSTED = """\
version: 1
name: bot
provider: openai
base_model: gpt-4o-mini-2024-07-18
dataset: {path: data.jsonl}
"""


def test_an_empty_queue_says_what_to_do(desk: Desk) -> None:
    ran = desk.call("queue")
    assert (ran.code, ran.out) == (0, "")
    assert "`ft status`" in ran.err
    assert desk.call("queue", "--json").json == []


def test_each_job_says_what_it_waits_for(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FT_LIMITS", "owner=1")
    first, second = desk.submit(), desk.submit("--set", "seed=8", "--set", "limits.max_cost=5 USD")
    desk.staff()
    with desk.world() as world:
        world.turns.admit(world.clock.now(), {"owner": 1})
    ran = desk.call("queue")
    lines = ran.out.splitlines()
    assert lines[0].split() == [
        "#",
        "STATE",
        "JOB",
        "NAME",
        "OWNER",
        "TARGET",
        "PRIORITY",
        "ETA",
        "COST",
        "WAITS",
        "FOR",
    ]
    assert lines[1].split()[:2] == ["queued", first]
    assert lines[1].endswith("a free remote worker")
    assert lines[2].split()[:3] == ["1", "queued", second]
    assert "5 USD" in lines[2]
    assert lines[2].endswith("has 1 of 1 under way")
    shown = desk.call("queue", "--json").json
    assert [(one["id"], one["position"]) for one in shown] == [(first, None), (second, 1)]
    assert shown[1]["max_cost"] == "5 USD"


def test_without_workers_the_queue_says_so(desk: Desk) -> None:
    desk.submit()
    assert "none listens on remote" in desk.call("queue").out


def test_watch_and_json_do_not_go_together(desk: Desk) -> None:
    assert desk.call("queue", "--watch", "--json").code_and_fault == (exits.USAGE, "E901")


def test_workers_are_listed_while_they_live(desk: Desk) -> None:
    ran = desk.call("workers")
    assert (ran.code, ran.out) == (0, "")
    assert "`ft up`" in ran.err
    desk.staff()
    assert desk.call("workers").out.splitlines()[1].split()[:5] == ["test", "remote", "gpu", "here", "1"]
    (one,) = desk.call("workers", "--json").json
    assert (one["worker"], one["queues"], one["trains"]) == ("test", ["remote", "gpu"], [])


def test_a_waiting_job_is_paused_and_resumed(desk: Desk) -> None:
    job_id = desk.submit()
    assert desk.call("pause", job_id).out == f"{job_id}: pause requested\n"
    assert desk.call("status", job_id, "--json").json["hold_requested"] is True
    assert "it is paused" in desk.call("queue").out
    assert desk.call("resume", job_id, "--json").json["hold_requested"] is False


def test_wishes_about_what_has_ended_say_so(desk: Desk) -> None:
    job = desk.ended("succeeded")
    for command in (["pause"], ["resume"], ["priority"]):
        ran = desk.call(*command, job.id, *(["3"] if command == ["priority"] else []))
        assert (ran.code, ran.out) == (0, f"{job.id} has ended already: succeeded\n")


def test_a_priority_is_kept(desk: Desk) -> None:
    job_id = desk.submit()
    assert desk.call("priority", job_id, "7").out == f"{job_id}: priority 7\n"
    assert desk.call("queue", "--json").json[0]["priority"] == 7
    assert desk.call("priority", job_id, "--", "-7").code == 0
    assert desk.call("priority", job_id, "101").code_and_fault == (exits.USAGE, "E901")


@pytest.mark.parametrize(
    "command", [["pause", "ft_none"], ["resume", "ft_none"], ["priority", "ft_none", "1"], ["retry", "ft_none"]]
)
def test_an_unknown_job_is_told(desk: Desk, command: list[str]) -> None:
    assert desk.call(*command).codes == ["E701"]


def test_a_failed_job_is_tried_again(desk: Desk) -> None:
    old = desk.ended("failed")
    desk.staff()
    ran = desk.call("retry", old.id, "--json")
    assert (ran.json["state"], ran.json["created"]) == ("queued", True)
    assert ran.json["id"] != old.id
    assert desk.call("retry", old.id, "--json").json["id"] == ran.json["id"]
    with desk.world("succeeded") as world:
        assert world.run(ran.json["id"]).state is JobState.SUCCEEDED


def test_what_succeeded_is_not_tried_again(desk: Desk) -> None:
    assert desk.call("retry", desk.ended("succeeded").id).code_and_fault == (exits.USAGE, "E811")


def test_a_retry_that_bills_wants_a_yes_as_a_submit_does(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-nothing-is-sent")
    desk.recipe.write_text(HOSTED)
    old = desk.ended("failed", args=("-y",))
    assert desk.call("retry", old.id).code_and_fault == (exits.NOT_ELIGIBLE, "E313")
    assert desk.call("retry", old.id, "-y", "--json").json["created"] is True
    # It answers already: nothing more would be billed.
    assert desk.call("retry", old.id, "--json").json["created"] is False
