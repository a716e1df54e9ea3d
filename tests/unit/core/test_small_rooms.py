"""Rooms of a few lines: errors, settings, queue, evaluation, views, processes."""

import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from finetune import errors
from finetune.errors import FtError, Problem, UsageError
from finetune.evaluation.compare import compare, exact_match
from finetune.process import end_group, group_members, identity, same_process, spawn
from finetune.queue import CeleryQueue, ping
from finetune.settings import from_environment
from tests.support.process import wait_until

KINDS = [one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, FtError)]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_error_travels(kind):
    error = kind(Problem(code="E999", what="w", fix="f"), Problem(code="E999", what="v"))
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is kind
    assert copy.problems == error.problems
    assert kind.__name__ in (errors.__doc__ or ""), "the tree at the top of errors.py draws all of them"


def test_a_problem_is_three_lines_with_its_place():
    problem = Problem(code="E101", what="it is wrong", why="so", fix="do", file="r.yaml", line=3, column=5)
    assert problem.lines() == ["r.yaml:3:5: error E101: it is wrong", "  why: so", "  fix: do"]
    assert Problem(code="E101", what="w", level="warning").lines() == ["warning E101: w"]


def test_settings_from_the_environment(tmp_path):
    settings = from_environment({"FT_HOME": str(tmp_path), "FT_PORT": "0"})
    assert settings.embedded
    assert settings.database_url == f"sqlite:///{tmp_path}/ft.db"
    assert settings.port == 0
    assert from_environment({"FT_HOME": ""}).home.name == "ft"
    assert from_environment({"FT_HOME": "relative"}).home.is_absolute()


@pytest.mark.parametrize("name", ["q?x=1", "p%41", "h#1", "a b", "ü"])
def test_any_folder_can_be_home(tmp_path, name):
    from finetune.store import Database

    settings = from_environment({"FT_HOME": str(tmp_path / name)})
    Database.open(settings.database_url).close()
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name / "ft.db").is_file()


@pytest.mark.parametrize(
    ("variable", "value"), [("FT_HOME", "~nobody-here/x"), ("FT_BROKER_URL", "amqp://x"), ("FT_BROKER_URL", "x")]
)
def test_variables_that_cannot_be_used(variable, value):
    with pytest.raises(UsageError, match=f"E902: {variable}"):
        from_environment({variable: value})


@pytest.mark.parametrize(
    "url", ["mysql://u:hunter2@h/n", "host=db password=hunter2", "postgresql+psycopg://u:hunter2@h:bad/n", "x"]
)
def test_an_address_that_is_none_is_not_repeated(url):
    from finetune.store import Database

    with pytest.raises(errors.StateError, match="E507") as caught:
        Database.open(url)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("port", ["x", "-1", "65536", "1.5", " ", "²"])
def test_a_port_that_is_none(port):
    with pytest.raises(UsageError, match="E902"):
        from_environment({"FT_PORT": port})


def test_a_dead_broker_is_no_error_for_a_bell_and_one_for_the_doctor():
    dead = "redis://127.0.0.1:1/0"
    CeleryQueue(dead).wake("ft.advance", "ft_1")
    with pytest.raises(errors.WorkerError, match="E802"):
        ping(dead)


def test_tasks_that_are_woken_by_name_exist():
    from finetune.tasks import QUEUE_OF
    from workers.tasks import app

    assert set(QUEUE_OF) <= set(app.tasks)


def test_compare_counts_exact_matches():
    rows = [
        {"messages": [{"role": "user", "content": word}, {"role": "assistant", "content": word.upper()}]}
        for word in ("a", "b", "c")
    ]
    found = compare(rows, lambda chats: ["A", "x", "y"], lambda chats: [chat[-1]["content"].upper() for chat in chats])
    assert (found.base, found.tuned) == (pytest.approx(1 / 3), 1.0)
    assert (found.pairs[1].prompt, found.pairs[1].wanted, found.pairs[1].base) == ("b", "B", "x")
    assert exact_match(" a\n", "a")
    assert not exact_match("a b", "ab")
    with pytest.raises(ValueError, match="no rows"):
        compare([], lambda chats: [], lambda chats: [])


@pytest.mark.parametrize(
    ("start", "told"),
    [
        ("with importing():\n    off = not gc.isenabled()", "True True True 700"),
        ("off = settle()", "None True True 10000"),
    ],
)
def test_garbage_is_looked_for_again_after_the_imports(start, told):
    """Else a worker or a server would grow without end."""
    script = (
        f"import gc\nfrom finetune.process import importing, settle\n{start}\n"
        "print(off, gc.isenabled(), gc.get_freeze_count() > 1000, gc.get_threshold()[0])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == told


def test_a_group_is_ended_with_all_in_it(tmp_path):
    script = (
        "import subprocess,sys,time; subprocess.Popen([sys.executable,'-c','import time;time.sleep(60)']);"
        " time.sleep(60)"
    )
    child = spawn([sys.executable, "-c", script], log=tmp_path / "log")
    wait_until(lambda: len(group_members(child.pid)) == 2, 20, "the grandchild")
    assert end_group(child.pid, grace_s=5)
    assert group_members(child.pid) == []
    assert end_group(child.pid, grace_s=5)
    assert child.wait() == -signal.SIGTERM


def test_an_identity_is_of_one_process(tmp_path):
    child = spawn([sys.executable, "-c", "import time; time.sleep(60)"], log=tmp_path / "log")
    mark = identity(child.pid)
    assert same_process(mark) == child.pid
    host, pid, start = mark.rsplit(":", 2)
    assert same_process(f"elsewhere:{pid}:{start}") is None
    assert same_process(f"{host}:{pid}:{int(start) + 1}") is None
    end_group(child.pid, grace_s=0)
    child.wait()
    assert same_process(mark) is None


def test_a_child_dies_with_its_parent(tmp_path):
    """Also when the parent gets SIGKILL, which nobody can catch."""
    script = (
        "import subprocess, sys, time\n"
        "code = 'import os,sys; from finetune.process import die_with_parent; die_with_parent(int(sys.argv[1]));"
        " print(os.getpid(), flush=True); import time; time.sleep(60)'\n"
        "import os\n"
        "subprocess.Popen([sys.executable, '-c', code, str(os.getpid())], start_new_session=True)\n"
        "time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, cwd=Path.cwd())
    child = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    wait_until(lambda: not group_members(child), 10, "the child to die")


def test_a_child_whose_parent_is_gone_already_ends(tmp_path):
    code = "from finetune.process import die_with_parent; die_with_parent(1); print('still here')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ)
    assert (done.returncode, done.stdout) == (1, "")
