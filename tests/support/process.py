"""Runs programs the way a user does, and lets none of them outlive the tests."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

#: The console script, as installed beside the Python that runs the tests.
FT = Path(sys.executable).parent / "ft"

#: Reads its standard input. A line: all was stopped in order, nothing to do. End of file: the tests were killed, so
#: ends the process group $1 with signal $2 (by force after ten seconds) and removes the folder $3.
_GUARD = """
read -r _ && exit
kill -s "$2" -- "-$1"
tries=0
while kill -s 0 -- "-$1" && [ $tries -lt 100 ]; do sleep 0.1; tries=$((tries + 1)); done
kill -s KILL -- "-$1"
[ -z "$3" ] || rm -rf -- "$3"
"""


def wait_until(predicate: Callable[[], object], timeout_s: float, what: str, every_s: float = 0.02) -> None:
    """Block until `predicate()` is true. Raises TimeoutError that names `what` after `timeout_s`."""
    end = time.monotonic() + timeout_s
    while not predicate():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {timeout_s:g} s for {what}")
        time.sleep(every_s)


class Child:
    """A process in a group of its own that ends when told, or when the process that started it dies in any way."""

    def __init__(
        self, argv: Sequence[str | Path], *, stop_signal: signal.Signals, folder: Path | None = None, **popen: Any
    ) -> None:
        """Start `argv`. `folder` is removed if we are killed; when we end in order, that is the caller's business."""
        self._stop_signal = stop_signal
        self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, start_new_session=True, **popen)
        self._guard = subprocess.Popen(
            ["/bin/sh", "-c", _GUARD, "guard", str(self.pid), stop_signal.name[3:], str(folder or "")],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        """Process id, and the id of its group."""
        return self.process.pid

    @property
    def alive(self) -> bool:
        """True until it has ended."""
        return self.process.poll() is None

    def stop(self, timeout_s: float = 10) -> int:
        """Ask it to end, by force after `timeout_s`; returns its exit status. Idempotent."""
        if self.alive:
            self.process.send_signal(self._stop_signal)
            try:
                self.process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                kill_group(self.pid)
        if self._guard.poll() is None:
            self._guard.communicate(b"\n")
        return self.process.wait()


def kill_group(pid: int) -> None:
    """End the process group of `pid` at once. Silent if it is gone."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def ft_environment(home: Path | None = None, env: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment (the fixtures have cleaned it) with FT_HOME and `env` on top."""
    return {**os.environ, **({"FT_HOME": str(home)} if home else {}), **(env or {})}


def run_ft(
    *args: str | Path,
    home: Path | None = None,
    env: Mapping[str, str] | None = None,
    timeout: float = 60,
    stdin: str | None = None,
    cwd: Path | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run `ft ARGS` to its end, without a terminal.

    Raises TimeoutExpired after `timeout` seconds, when all that it started in its group has been ended.
    """
    with subprocess.Popen(
        [FT, *args],
        stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        env=ft_environment(home, env),
        cwd=cwd,
        start_new_session=True,
    ) as process:
        try:
            out, err = process.communicate(stdin, timeout)
        except BaseException:
            kill_group(process.pid)
            raise
    return subprocess.CompletedProcess([FT, *args], process.returncode, out, err)


@contextmanager
def ft_running(
    *args: str | Path, home: Path | None = None, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> Iterator[tuple[Child, Callable[[], str]]]:
    """Run `ft ARGS` in the background; yields the child and a function that returns what it has printed so far."""
    with tempfile.TemporaryFile() as output:
        child = Child(
            [FT, *args],
            stop_signal=signal.SIGTERM,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=ft_environment(home, env),
            cwd=cwd,
        )
        try:
            yield child, lambda: _text(output)
        finally:
            child.stop()


def _text(file: IO[bytes]) -> str:
    # The child writes at the offset we share with it: read without moving it.
    size = os.fstat(file.fileno()).st_size
    return os.pread(file.fileno(), size, 0).decode(errors="replace")


def scratch_folder(name: str) -> Path:
    """A new folder that short socket paths fit into and that other users may be given."""
    return Path(tempfile.mkdtemp(prefix=f"ft-test-{name}-"))


def remove_folder(folder: Path) -> None:
    """Remove it with all it holds. Silent if it is gone."""
    shutil.rmtree(folder, ignore_errors=True)
