"""`ft up`, as a user has it: one command that trains, serves, survives and leaves nothing behind."""

import json
import os
import re
import signal
import subprocess

import openai
import psutil
import pytest

from tests.support import recipes
from tests.support.process import ft_running, run_ft, wait_until

_READY_S = 60
_END_S = 180


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return recipes.base(tmp_path_factory.mktemp("base"))


def address(said):
    wait_until(lambda: re.search(r"serving on (\S+)", said()), _READY_S, "the server")
    return re.search(r"serving on (\S+)", said())[1]


def family(pid):
    return psutil.Process(pid).children(recursive=True)


def ask(client, model):
    answer = client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": "n 1?"}], max_tokens=8, temperature=0
    )
    return answer.model, answer.choices[0].message.content


def submit(recipe):
    done = run_ft("submit", recipe, "-q")
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_from_a_recipe_to_an_answer_and_to_a_clean_end(base, tmp_path):
    with ft_running("up", "--port", "0") as (up, said):
        url = address(said)
        first = submit(recipes.write(tmp_path / "a", base, epochs=3))
        assert run_ft("wait", first, "--timeout", str(_END_S), timeout=_END_S + 30).returncode == 0
        client = openai.OpenAI(base_url=url, api_key="none", max_retries=0, timeout=60)
        assert {model.id for model in client.models.list()} == {"bot@v1", str(base)}
        assert ask(client, "bot@v1")[0] == "bot@v1"
        with pytest.raises(openai.NotFoundError):
            ask(client, "bot")
        assert run_ft("promote", "bot@v1", "--to", "production").returncode == 0
        assert ask(client, "bot") == ask(client, "bot@v1")
        assert ask(client, str(base))[0] == str(base)

        second = submit(recipes.write(tmp_path / "b", base, epochs=4))
        assert run_ft("wait", second, "--timeout", str(_END_S), timeout=_END_S + 30).returncode == 0
        assert ask(client, "bot")[0] == "bot@v1", "a new version takes no traffic until it is promoted"
        moved = run_ft("promote", "bot@v2", "--to", "production")
        assert "undo: ft rollback bot" in moved.stderr
        assert ask(client, "bot")[0] == "bot@v2"

        ours = family(up.pid)
        assert len(ours) >= 3
        os.kill(up.pid, signal.SIGINT)
        wait_until(lambda: not up.alive, 40, "`ft up` to end")
        assert psutil.wait_procs(ours, timeout=5)[1] == []
        assert "Traceback" not in said()


def test_killed_in_mid_training_and_started_again(base, tmp_path):
    """kill -9 of `ft up`: everything dies with it; the next one ends the job, once."""
    recipe = recipes.write(tmp_path / "a", base, epochs=60)
    with ft_running("up", "--port", "0") as (up, said):
        address(said)
        job_id = submit(recipe)
        wait_until(lambda: (status(job_id)["progress"] or {}).get("step", 0) > 3, _END_S, "some steps", every_s=0.3)
        ours = family(up.pid)
        os.kill(up.pid, signal.SIGKILL)
        assert psutil.wait_procs(ours, timeout=10)[1] == [], "something outlived `ft up`"
    with ft_running("up", "--port", "0") as (up, said):
        address(said)
        assert run_ft("wait", job_id, "--timeout", str(_END_S), timeout=_END_S + 30).returncode == 0
    assert status(job_id)["state"] == "succeeded"
    models = json.loads(run_ft("models", "list", "--json").stdout)
    assert [model["ref"] for model in models] == ["bot@v1"]


def test_follow_brings_its_own_workers_and_they_leave(base, tmp_path):
    """No `ft up` anywhere: `submit --follow` does what was meant, and nothing stays behind."""
    recipe = recipes.write(tmp_path / "a", base)
    done = run_ft("submit", recipe, "--follow", "--json", timeout=_END_S)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["model"] == "bot@v1"
    wait_until(lambda: not workers_of(os.environ["FT_HOME"]), 30, "the workers to leave", every_s=0.3)


def workers_of(home):
    found = []
    for process in psutil.process_iter():
        try:
            mine = process.environ().get("FT_HOME") == home and process.status() != psutil.STATUS_ZOMBIE
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
        if mine:
            found.append(process)
    return found


@pytest.mark.alone
def test_detaching_leaves_the_job_going(base, tmp_path):
    """Ctrl-C in --follow: we stop looking, the workers it brought do not stop working."""
    recipe = recipes.write(tmp_path / "a", base, epochs=150)
    with ft_running("submit", recipe, "--follow") as (child, said):
        wait_until(lambda: "step" in said() and "trainer" in said(), _END_S, "the training", every_s=0.2)
        os.kill(child.pid, signal.SIGINT)
        wait_until(lambda: not child.alive, 10, "the command to end")
        assert child.process.returncode == 130
        assert "detached" in said()
    (job,) = json.loads(run_ft("status", "--json").stdout)
    assert run_ft("wait", job["id"], "--timeout", str(_END_S), timeout=_END_S + 30).returncode == 0
    wait_until(lambda: not workers_of(os.environ["FT_HOME"]), 30, "the workers to leave", every_s=0.3)


def status(job_id):
    return json.loads(run_ft("status", job_id, "--json").stdout)


def test_two_follows_at_once_share_the_workers(base, tmp_path):
    first = recipes.write(tmp_path / "a", base, name="one")
    second = recipes.write(tmp_path / "b", base, name="two")
    with ft_running("submit", first, "--follow") as (one, _):
        done = run_ft("submit", second, "--follow", "--json", timeout=_END_S)
        assert done.returncode == 0, done.stderr
        try:
            one.process.wait(_END_S)
        except subprocess.TimeoutExpired:
            pytest.fail("the first job did not end")
        assert one.process.returncode == 0
