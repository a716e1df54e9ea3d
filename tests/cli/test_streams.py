"""stdout is data, stderr is chatter; JSON is JSON; no escape codes in a pipe."""

import json
import re
from typing import Any

import jsonschema
import pytest

from finetune.spec import json_schema
from tests.cli.desk import Desk

_ID = re.compile(r"ft_[a-z0-9]{10}")


def test_submit_prints_the_job_and_chats_beside_it(desk: Desk) -> None:
    ran = desk.run("submit", "recipe.yaml")
    job_id = ran.out.split()[0]
    assert _ID.fullmatch(job_id)
    assert ran.out == f"{job_id}  queued  bot  local/builtin:tiny-llama\n"
    plan, idle, after = ran.err.splitlines()
    assert plan == "plan: bot on local/builtin:tiny-llama, 12 rows, 6 steps"
    assert idle.startswith("no worker serves the gpu and remote queue: start one with `ft up`")
    assert after == f"next: `ft watch {job_id}`"


def test_nothing_is_said_about_workers_when_some_live(desk: Desk) -> None:
    desk.submit()
    desk.staff()
    for args in (("submit", "recipe.yaml"), ("status", "ft_"), ("cancel", "ft_")):
        assert "no worker" not in desk.call(*args).err


def test_quiet_prints_ids_and_nothing_else(desk: Desk) -> None:
    desk.write("second.yaml", desk.recipe.read_text().replace("bot", "second"))
    ran = desk.call("submit", "recipe.yaml", "second.yaml", "-q")
    assert (ran.code, ran.err) == (0, "")
    first, second = ran.out.splitlines()
    assert _ID.fullmatch(first)
    assert _ID.fullmatch(second)
    listed = desk.call("status", "-q")
    assert (sorted(listed.out.splitlines()), listed.err) == (sorted([first, second]), "")
    assert desk.call("status", first, "-q").out == f"{first}\n"
    assert desk.call("status", "--limit", "1", "-q").out.count("\n") == 1


def test_json_is_one_document_on_stdout(desk: Desk) -> None:
    job_id = desk.submit()
    ended = desk.ended(args=("--force",))
    desk.write("second.yaml", desk.recipe.read_text().replace("bot", "second"))
    for args, kind in [
        (("submit", "recipe.yaml", "--json"), dict),
        (("submit", "recipe.yaml", "second.yaml", "--json"), list),
        (("submit", "recipe.yaml", "second.yaml", "--json", "-q"), list),
        (("submit", "recipe.yaml", "--force", "--json"), dict),
        (("status", "--json"), list),
        (("status", ended.id, "--json"), dict),
        (("validate", "recipe.yaml", "--json"), list),
        (("logs", ended.id, "--json"), dict),
        (("wait", ended.id, "--json"), list),
        (("cancel", job_id, "--json"), dict),
        (("models", "list", "--json"), list),
        (("models", "show", "bot@v1", "--json"), dict),
        (("promote", "bot@v1", "--to", "production", "--json"), dict),
        (("doctor", "--json"), list),
    ]:
        ran = desk.call(*args)
        assert ran.code == 0, args
        assert isinstance(ran.json, kind), args
        assert "\x1b" not in ran.out + ran.err


def test_json_of_a_followed_submit_is_one_document(desk: Desk) -> None:
    desk.write("second.yaml", desk.recipe.read_text().replace("bot", "second"))
    for recipe in ("recipe.yaml", "second.yaml"):
        job_id = desk.call("submit", recipe, "-q").out.strip()
        with desk.world() as world:
            world.run(job_id)
    ran = desk.call("submit", "recipe.yaml", "second.yaml", "--follow", "--json")
    assert ran.code == 0
    assert [(job["state"], job["created"]) for job in ran.json] == [("succeeded", False)] * 2
    one = desk.call("submit", "recipe.yaml", "--follow", "--json").json
    assert one == ran.json[0]


def test_what_json_says_of_a_job_from_its_submission_to_its_end(desk: Desk) -> None:
    made = desk.call("submit", "recipe.yaml", "--json").json
    assert made.pop("created") is True
    job_id = made["id"]
    assert desk.call("status", job_id, "--json").json == made == desk.call("status", "--json").json[0]
    assert (made["state"], made["model"], made["finished_at"], made["progress"]) == ("queued", None, None, None)
    assert made["data"]["train_rows"] == 12
    with desk.world() as world:
        world.run(job_id)
    ended = desk.call("status", job_id, "--json").json
    assert (ended["state"], ended["model"], ended["attempt"]) == ("succeeded", "bot@v1", 1)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", ended["finished_at"])
    assert desk.call("wait", job_id, "--json").json == [ended]
    assert desk.call("cancel", job_id, "--json").json == ended
    (listed,) = desk.call("models", "list", "--json").json
    shown = desk.call("models", "show", "bot@v1", "--json").json
    assert {key: shown[key] for key in listed} == listed
    assert desk.call("models", "show", "bot@v1", "--json").json["job_id"] == job_id
    logs = desk.call("logs", job_id, "--json").json
    assert logs["events"][0]["message"].startswith("queued: ")
    assert logs["events"][-1]["message"].startswith("succeeded: ")
    assert {metric["name"] for metric in logs["metrics"]} == {"loss"}


def test_a_failed_job_has_its_error_in_json(desk: Desk) -> None:
    job = desk.ended("failed")
    ran = desk.call("wait", job.id, "--json")
    assert (ran.code, ran.err) == (1, "")
    assert ran.json[0]["error"] == {"code": "E401", "what": "the fake was told to fail", "why": "", "fix": ""}


def test_the_state_of_an_empty_home(desk: Desk) -> None:
    for args in (("status",), ("models", "list")):
        ran = desk.call(*args)
        assert (ran.code, ran.out) == (0, "")
        assert ran.err.startswith("no ")
        assert desk.call(*args, "--json").out == "[]\n"


def test_a_promotion_and_its_way_back(desk: Desk) -> None:
    desk.ended()
    desk.ended(args=("--force",))
    first = desk.call("promote", "bot@v1", "--to", "production")
    assert (first.code, first.out, first.err) == (0, "bot@production is now bot@v1\n", "")
    second = desk.call("promote", "bot@v2", "--to", "production", "-y")
    assert second.err == "undo: ft rollback bot\n"
    third = desk.call("promote", "bot", "--to", "staging", "--json").json
    assert (third["ref"], third["alias"], third["before"]) == ("bot@v2", "staging", None)
    table = desk.call("models", "list").out.splitlines()
    assert table[0].split() == ["MODEL", "STATUS", "ALIASES", "MEASURED", "TARGET", "JOB", "DATE"]
    assert table[1].split()[:2] == ["bot@v1", "retired"]
    assert re.search(r"bot@v2 +live +production, staging", table[2])
    shown = desk.call("models", "show", "bot@production").out
    assert "ref                       bot@v2\n" in shown
    assert "artifact.model" in shown


def test_the_schema_is_the_recipes(desk: Desk) -> None:
    ran = desk.run("schema")
    assert (ran.code, ran.err) == (0, "")
    assert ran.json == json_schema()
    jsonschema.Draft202012Validator.check_schema(ran.json)


@pytest.mark.parametrize("colour", [{}, {"NO_COLOR": "1"}, {"FORCE_COLOR": "1", "TERM": "xterm-256color"}])
def test_no_escape_code_in_a_pipe(desk: Desk, colour: dict[str, str]) -> None:
    job = desk.ended("failed")
    for args in (("status",), ("watch", job.id)):
        ran = desk.run(*args, **colour)
        assert "\x1b" not in ran.out + ran.err


def test_a_reader_that_has_seen_enough_is_no_fault(desk: Desk) -> None:
    job_id = desk.submit()
    desk.say(job_id, *(f"step {number} " + "x" * 60 for number in range(3000)))
    ran = desk.shell(f"{{ ft logs {job_id}; echo $? >&2; }} | head -1")
    assert ran.out.count("\n") == 1
    assert ran.err == "0\n"
    assert desk.shell("{ ft status --json; echo $? >&2; } | true").err == "0\n"
    assert desk.shell("{ ft explain; echo $? >&2; } | head -1").err == "0\n"


def test_logs_have_every_event_once_and_in_order(desk: Desk) -> None:
    job = desk.ended()
    lines = desk.call("logs", job.id).out.splitlines()
    assert lines == desk.call("logs", job.id, "-f").out.splitlines()
    messages = [line.split(" ", 1)[1] for line in lines]
    assert messages == [event["message"] for event in desk.call("logs", job.id, "--json").json["events"]]
    assert all(re.match(r"\d\d:\d\d:\d\d ", line) for line in lines)
    # What watch adds are lines of progress.
    watched = desk.call("watch", job.id).out.splitlines()
    assert [line for line in watched if line in lines] == lines
    assert any(line.startswith("step ") for line in watched)


def test_events_in_any_script_reach_any_terminal(desk: Desk) -> None:
    job_id = desk.submit()
    desk.say(job_id, "größer → 模型 \U0001f600")
    assert "größer → 模型 \U0001f600" in desk.run("logs", job_id).out
    plain = desk.run("logs", job_id, PYTHONIOENCODING="ascii")
    assert (plain.code, plain.err) == (0, "")
    assert "gr\\xf6\\xdfer" in plain.out
    escaped = desk.run("logs", job_id, "--json", PYTHONIOENCODING="latin-1")
    assert escaped.json["events"][-1]["message"] == "größer → 模型 \U0001f600"


def test_doctor_says_the_same_twice(desk: Desk) -> None:
    checks: list[dict[str, Any]] = desk.call("doctor", "--json").json
    text = desk.call("doctor")
    assert [check["name"] for check in checks] == [
        "python", "home", "database", "broker", "workers", "adapters", "catalogue", "training",
    ]  # fmt: skip
    for check in checks:
        assert re.search(rf"^{check['verdict']} +{check['name']} ", text.out, re.MULTILINE)
        assert (check["verdict"] == "ok") == (check["fix"] == "")
    assert text.out.count("fix: ") == sum(check["verdict"] != "ok" for check in checks)
    assert text.err == ""


def test_json_escapes_nothing_that_a_person_could_read(desk: Desk) -> None:
    desk.write("recipe.yaml", desk.recipe.read_text().replace("data.jsonl", "dätä.jsonl"))
    ran = desk.call("validate", "recipe.yaml", "--json")
    assert json.loads(ran.out)[0]["problems"][0]["file"] == "dätä.jsonl"
    assert "dätä.jsonl" in ran.out
