"""A folder with a recipe, its data and an FT_HOME, and three ways to call `ft` there."""

import io
import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import typer.main

from finetune.cli.main import app, guarded
from finetune.jobs import Change, Event, Job
from finetune.placement import Device
from finetune.runs import Beat
from finetune.store import SqlBeats
from finetune.testing import STRAIGHT, FakeProvider
from tests.support.jobs import World, furnish, sqlite
from tests.support.process import FT, ft_environment, run_ft

RECIPE = """\
version: 1
name: bot
base_model: builtin:tiny-llama
dataset: {path: data.jsonl}
seed: 7
training: {epochs: 2, batch_size: 4}
"""
#: Nobody listens there.
CLOSED = "127.0.0.1:1"
_WHAT = re.compile(r"(?:.+: )?(?:error|warning) (E\d{3}): \S.*")
#: Of recipes and data, where the first line may say it all: nobody has to be told why a missing file is a fault.
_MAY_NEED_NO_WHY = ("E1", "E2")


@dataclass(frozen=True)
class Ran:
    """How a call ended and what it printed."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Stdout as one JSON document."""
        return json.loads(self.out)

    @property
    def codes(self) -> list[str]:
        """The codes of all problems on stderr, which must hold nothing else: three lines each, what, why, fix."""
        return [_code(lines) for lines in _problems(self.err)]

    @property
    def code_and_fault(self) -> tuple[int, str]:
        """Exit code, and the code of the only problem. Nothing may be on stdout."""
        assert self.out == ""
        (only,) = self.codes
        return self.code, only


def _problems(err: str) -> list[list[str]]:
    found: list[list[str]] = []
    for line in err.splitlines():
        if ", read as " in line:
            # The layout that was found out: said aloud, and no problem.
            continue
        if line.startswith("  "):
            found[-1].append(line)
        else:
            found.append([line])
    return found


def _code(lines: Sequence[str]) -> str:
    match = _WHAT.fullmatch(lines[0])
    assert match, lines
    labels = [line[:7] for line in lines[1:] if not line.startswith("  also: ")]
    assert labels == ["  why: ", "  fix: "] or (labels == ["  fix: "] and match[1].startswith(_MAY_NEED_NO_WHY)), lines
    assert all(line[8:].strip() for line in lines[1:]), lines
    return match[1]


def write_rows(path: Path, count: int = 12, words: str = "") -> None:
    """Chats as JSON lines."""
    chats = ([("user", f"question {n} {words}"), ("assistant", f"answer {n}")] for n in range(count))
    rows = [{"messages": [{"role": role, "content": text} for role, text in chat]} for chat in chats]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


class Desk:
    """A user's place. `home` is the FT_HOME of calls in this process too: the fixtures set it in the environment."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.home = folder, Path(os.environ["FT_HOME"])
        self.recipe, self.data = folder / "recipe.yaml", folder / "data.jsonl"
        self.recipe.write_text(RECIPE)
        write_rows(self.data)

    def write(self, name: str, text: str) -> Path:
        """A file on the desk."""
        path = self.folder / name
        path.write_text(text)
        return path

    def call(self, *args: str | Path) -> Ran:
        """`ft ARGS` in this process: everything but the start of Python and the shell's side of it."""
        return called(lambda: _command()([str(arg) for arg in args], prog_name="ft"))

    def run(self, *args: str | Path, timeout: float = 30, stdin: str | None = None, **env: str) -> Ran:
        """`ft ARGS` as a process. Whatever happens, no traceback is shown."""
        done = run_ft(*args, env=env, cwd=self.folder, timeout=timeout, stdin=stdin)
        return _ran(done)

    def limited(self, limit: Callable[[], object], *args: str | Path, **env: str) -> Ran:
        """`ft ARGS` as a process that calls `limit` before it becomes `ft`."""
        done = subprocess.run(
            [FT, *args],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            env=ft_environment(env=env),
            cwd=self.folder,
            timeout=30,
            preexec_fn=limit,
        )
        return _ran(done)

    def shell(self, script: str, **env: str) -> Ran:
        """A line of shell in which `ft` is ours."""
        path = f"{FT.parent}{os.pathsep}{os.environ['PATH']}"
        done = subprocess.run(
            ["/bin/sh", "-c", script],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            env=ft_environment(env={**env, "PATH": path}),
            cwd=self.folder,
            timeout=30,
        )
        return _ran(done)

    def submit(self, *args: str | Path) -> str:
        """The id of the job that answers for the recipe."""
        self.home.mkdir(parents=True, exist_ok=True)
        furnish(sqlite(self.home))
        ran = self.call("submit", self.recipe, "-q", *args)
        assert ran.code == 0, ran
        return ran.out.strip()

    @contextmanager
    def world(self, *script: Any) -> Iterator[World]:
        """A lifecycle over this FT_HOME's jobs that needs no trainer: whatever their provider, a fake answers."""
        world = World(sqlite(self.home), FakeProvider(script=script or STRAIGHT))
        # Never behind the clock of the `ft` that submitted.
        world.clock.sleep(max(0.0, (datetime.now(UTC) - world.clock.now()).total_seconds() + 3600))
        try:
            yield world
        finally:
            world.database.close()

    def ended(self, *script: Any, args: Sequence[str] = ()) -> Job:
        """A job that went through `script` and ended."""
        job_id = self.submit(*args)
        with self.world(*script) as world:
            return world.run(job_id)

    def cancelled(self, *args: str) -> Job:
        """A job that was cancelled before anything ran."""
        job_id = self.submit(*args)
        with self.world() as world:
            world.jobs.request_cancel(job_id, world.clock.now())
            return world.run(job_id)

    def say(self, job_id: str, *messages: str) -> None:
        """Events of a job, as a provider reports them."""
        with self.world() as world:
            now = world.clock.now()
            lease = world.jobs.claim(job_id, "test", now, now - now)
            assert lease is not None
            told = tuple(Event(kind="provider", message=message, at=now) for message in messages)
            change = Change(state=lease.job.state, due_at=now, fields={}, events=told)
            world.jobs.apply(lease, change, now)

    def staff(self) -> None:
        """Both queues look served, so that nothing starts a worker."""
        with self.world() as world:
            names = ("remote", "gpu")
            card = Device("GPU-1", "NVIDIA T4", 15_360)
            now = world.clock.now()
            beat = Beat(worker="test", queues=names, host="here", pid=1, seen_at=now, devices=(card,))
            SqlBeats(world.database).beat(beat)


@cache
def _command() -> Any:
    """The tree of commands, which `app` would build anew at every call; a process builds it once anyhow."""
    return typer.main.get_command(app)


def called(command: Callable[[], object]) -> Ran:
    """Run it as the entry point does, with streams as strict as real ones."""
    streams = [io.TextIOWrapper(io.BytesIO(), "utf-8", errors, write_through=True) for errors in _ERRORS]
    with redirect_stdout(streams[0]), redirect_stderr(streams[1]):
        try:
            code: Any = guarded(command)
        except SystemExit as end:
            code = end.code or 0
    out, err = (stream.buffer.getvalue().decode() for stream in streams)  # type: ignore[attr-defined]
    return Ran(code, out, err)


_ERRORS = ("strict", "backslashreplace")


def _ran(done: "subprocess.CompletedProcess[str]") -> Ran:
    for stream in (done.stdout, done.stderr):
        assert "Traceback" not in stream, stream
        assert "E999" not in stream, stream
    return Ran(done.returncode, done.stdout, done.stderr)
