"""ft queue, workers, pause, resume, priority, retry."""

import pytest

from finetune.cli import exits
from finetune.jobs import JobState
from finetune.store import SqlPromotions
from finetune.versions import Promotion, PromotionState
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


def begin(desk: Desk, promotion_id: str, alias: str, **more: object) -> None:
    with desk.world() as world:
        now = world.clock.now()
        known = {"name": "bot", "version": 1, "gateways": (), "by": "me", "created_at": now, "due_at": now}
        SqlPromotions(world.database).begin(Promotion(id=promotion_id, alias=alias, **{**known, **more}))


def test_promotions_stand_under_the_jobs(desk: Desk) -> None:
    desk.ended()
    begin(desk, "pr_1", "staging")
    alone = desk.call("queue")
    assert (alone.err, alone.out.splitlines()[0].split()) == ("", ["ID", "VERSION", "ALIAS", "STATE", "WAITS", "FOR"])

    job_id = desk.submit("--set", "seed=8")
    note = {"at": "2027-01-01T00:00:00+00:00", "text": "10% of the calls of production go to bot@v1"}
    begin(desk, "pr_2", "production", state=PromotionState.SHIFTING, notes=(note,))
    over = {"state": PromotionState.LIVE, "due_at": None}
    begin(desk, "pr_3", "old", **over)

    jobs, promotions = desk.call("queue").out.split("\n\n")

    assert job_id in jobs
    assert [line.split()[:4] for line in promotions.splitlines()[1:]] == [
        ["pr_1", "bot@v1", "staging", "evaluating"],
        ["pr_2", "bot@v1", "production", "shifting"],
    ]
    assert promotions.splitlines()[1].endswith("a worker: none listens on gpu, `ft up` starts them")
    assert promotions.splitlines()[2].endswith("10% of the calls of production go to bot@v1")
    assert [one["id"] for one in desk.call("queue", "--json").json] == [job_id]


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
