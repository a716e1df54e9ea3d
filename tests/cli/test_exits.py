"""How `ft` ends: one number for each kind of end, and three lines for whatever is wrong."""

import pytest

from finetune import __version__
from finetune.cli import exits
from finetune.errors import FtError
from tests.cli.desk import Desk, Ran

VERBS = ["status", "watch", "logs", "wait", "cancel"]


def test_no_number_has_two_meanings() -> None:
    numbers = [value for name, value in vars(exits).items() if name.isupper() and isinstance(value, int)]
    assert len(numbers) == len(set(numbers)) == 11


def test_every_error_ends_with_a_number_of_the_table() -> None:
    numbers = {value for name, value in vars(exits).items() if name.isupper() and isinstance(value, int)}
    classes = [FtError]
    for one in classes:
        classes += one.__subclasses__()
    assert len(classes) > 15
    assert {one.__name__: one.exit_code for one in classes if one.exit_code not in numbers} == {}
    assert exits.OK not in {one.exit_code for one in classes}


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--nope"], "--nope"),
        (["nope"], "'nope'"),
        (["statsu"], "Did you mean 'status'?"),
        (["submit"], "Missing argument"),
        (["status", "--nope"], "--nope"),
        (["status", "--limit", "many"], "'many'"),
        (["status", "--limit", "0"], "--limit"),
        (["status", "a", "b"], "b"),
        (["promote", "bot@v1"], "--to"),
        (["models", "nope"], "'nope'"),
        (["chat", "bot", "hi", "--temperature", "3"], "--temperature"),
        (["up", "--port", "70000"], "--port"),
        (["serve", "--port", "-1"], "--port"),
    ],
)
def test_a_wrong_command_line_is_a_usage_error(desk: Desk, args: list[str], said: str) -> None:
    ran = desk.call(*args)
    assert (ran.code, ran.out) == (exits.USAGE, "")
    *usage, last = ran.err.splitlines()
    assert usage[0].startswith("Usage: ft ")
    assert last.startswith("Error: ")
    assert said in last


def test_a_usage_error_of_the_process(desk: Desk) -> None:
    assert desk.run("nope").code == exits.USAGE


@pytest.mark.parametrize("verb", VERBS)
def test_a_job_that_is_not_there(desk: Desk, verb: str) -> None:
    assert desk.call(verb, "ft_nothing").code_and_fault == (exits.NOT_FOUND, "E701")


@pytest.mark.parametrize(
    "args",
    [
        ("models", "show", "bot"),
        ("models", "show", "bot@v1"),
        ("models", "show", "@"),
        ("promote", "bot@v1", "--to", "production"),
        ("promote", "bot@v1", "--to", "production", "-y", "--json"),
        ("chat", "bot@v1", "hello"),
    ],
    ids=" ".join,
)
def test_a_model_that_is_not_there(desk: Desk, args: tuple[str, ...]) -> None:
    assert desk.call(*args).code_and_fault == (exits.NOT_FOUND, "E702")


def test_a_version_that_is_not_there_is_never_answered_by_another(desk: Desk) -> None:
    desk.ended()
    for ref in ("bot@v2", "bot@v01", "bot@", "bot@staging", "bo@v1", "BOT@v1"):
        assert desk.call("models", "show", ref).code_and_fault == (exits.NOT_FOUND, "E702")
    assert "known are bot@v1" in desk.call("models", "show", "bot@v2").err


@pytest.mark.parametrize("alias", ["v1", "v22", "Big", "with space", "", "a@b", "a/b", "-x", "x" * 65])
def test_an_alias_that_cannot_be_one(desk: Desk, alias: str) -> None:
    desk.ended()
    ran = desk.call("promote", "bot@v1", f"--to={alias}")
    assert ran.code_and_fault == (exits.USAGE, "E703")
    assert desk.call("models", "show", "bot@v1", "--json").json["aliases"] == []


@pytest.mark.parametrize("code", ["E000", "E1011", "nonsense", ""])
def test_a_code_that_is_not_there(desk: Desk, code: str) -> None:
    assert desk.call("explain", code).code_and_fault == (exits.NOT_FOUND, "E704")


def test_explain_takes_any_case_and_lists_all(desk: Desk) -> None:
    ran = desk.call("explain", "e107")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith("E107  not valid YAML\n\n")
    listed = desk.call("explain").out.splitlines()
    assert "E107  not valid YAML" in listed
    assert listed == sorted(listed)


def test_the_beginning_of_an_id_is_enough_while_it_is_of_one_job(desk: Desk) -> None:
    first = desk.submit()
    assert desk.call("status", first[:6], "--json").json["id"] == first
    desk.submit("--force")
    ran = desk.call("status", "ft_")
    assert ran.code_and_fault == (exits.NOT_FOUND, "E701")
    assert "several jobs begin with 'ft_'" in ran.err


@pytest.mark.parametrize("wild", ["%", "ft_%", "_", "*", "", "ft_ ", "'; drop table jobs; --"])
def test_an_id_is_text_and_no_pattern(desk: Desk, wild: str) -> None:
    desk.submit()
    assert desk.call("status", wild).code_and_fault == (exits.NOT_FOUND, "E701")
    assert len(desk.call("status", "--json").json) == 1


@pytest.mark.parametrize(
    ("script", "code"),
    [
        (("queued", "running", "succeeded"), exits.OK),
        (("failed",), exits.FAILED),
        (("running", "cancelled"), exits.CANCELLED),
    ],
)
def test_wait_and_watch_end_as_the_job_did(desk: Desk, script: tuple[str, ...], code: int) -> None:
    job = desk.ended(*script)
    waited = desk.call("wait", job.id)
    assert waited.code == code
    assert waited.out == f"{job.id}  {job.state}" + (f"  {job.model}\n" if job.model else "\n")
    assert desk.call("watch", job.id).code == code
    assert desk.call("status", job.id).code == exits.OK
    assert desk.call("logs", job.id, "-f").code == exits.OK


def test_a_failed_job_says_why_in_three_lines(desk: Desk) -> None:
    job = desk.ended("failed")
    for verb in ("wait", "status"):
        what, why, fix = desk.call(verb, job.id).err.splitlines()
        assert what == "error E401: the fake was told to fail"
        assert why == f"  why: see `ft logs {job.id}`"
        assert fix == "  fix: `ft explain E401`"


def test_wait_succeeds_only_if_every_job_did(desk: Desk) -> None:
    good, bad = desk.ended(), desk.ended("failed", args=("--force",))
    gone = desk.cancelled("--force")
    assert desk.call("wait", good.id).code == exits.OK
    assert desk.call("wait", good.id, bad.id).code == exits.FAILED
    assert desk.call("wait", bad.id, good.id).code == exits.FAILED
    assert desk.call("wait", good.id, gone.id).code == exits.CANCELLED
    assert desk.call("wait", good.id, "ft_nothing").code == exits.NOT_FOUND


def test_a_wait_that_takes_too_long(desk: Desk) -> None:
    job_id = desk.submit()
    ran = desk.call("wait", job_id, "--timeout", "0")
    assert ran.code_and_fault == (exits.TIMEOUT, "E810")
    assert f"{job_id} (queued)" in ran.err
    ran = desk.call("wait", job_id, "--timeout", "0.3", "--json")
    assert (ran.code, ran.out) == (exits.TIMEOUT, "")
    hint, *fault = ran.err.splitlines()
    assert hint.startswith("no worker serves the gpu and remote queue: start one with `ft up`")
    assert fault[0].startswith("error E810: ")


@pytest.mark.parametrize("seconds", ["nan", "inf", "-1", "1e300", "-inf"])
def test_a_time_that_is_none(desk: Desk, seconds: str) -> None:
    assert desk.call("wait", desk.submit(), f"--timeout={seconds}").code_and_fault == (exits.USAGE, "E901")


def test_options_that_exclude_each_other(desk: Desk) -> None:
    assert desk.call("logs", desk.submit(), "-f", "--json").code_and_fault == (exits.USAGE, "E901")


def test_a_queue_that_is_not_there(desk: Desk) -> None:
    ran = desk.call("worker", "--queue", "cpu")
    assert ran.code == exits.USAGE
    assert ran.err.startswith("error E903: there is no queue 'cpu'\n")


@pytest.mark.parametrize("verb", ["serve", "up"])
def test_no_open_door_without_a_key(desk: Desk, verb: str) -> None:
    assert desk.call(verb, "--host", "0.0.0.0", "--port", "0").code_and_fault == (exits.USAGE, "E904")


def test_no_arguments_show_the_help(desk: Desk) -> None:
    for args in ((), ("models",)):
        ran = desk.call(*args)
        assert (ran.code, ran.out) == (exits.USAGE, "")
        assert ran.err == desk.call(*args, "--help").out


def test_the_version_is_shown_whatever_follows(desk: Desk) -> None:
    assert desk.call("--version") == desk.call("--version", "status") == Ran(0, f"ft {__version__}\n", "")
