"""How the LiteLLM proxy is told to read its configuration anew: SIGHUP to its gunicorn master, or a command."""

import os
import shlex
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from finetune.errors import GatewayError, GatewayUnavailable, Problem, UsageError

PID: Final = "FT_LITELLM_PID"
COMMAND: Final = "FT_LITELLM_RELOAD"
_COMMAND_S: Final = 15.0
_PROC: Final = Path("/proc")


class Reload:
    """Tells the proxy to reload. gunicorn starts new workers before it lets the old ones end what they are at."""

    def __init__(self, pid_file: Path | None, command: tuple[str, ...] = ()) -> None:
        """One of the two; the command goes first."""
        self._pid_file, self._command = pid_file, command

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> "Reload":
        """The one that the environment names. Raises UsageError when it names none."""
        try:
            command = tuple(shlex.split(environ.get(COMMAND, "")))
        except ValueError:
            command = ()
        pid_file = environ.get(PID)
        if not command and not pid_file:
            raise UsageError(
                Problem(
                    code="E825",
                    what=f"neither {PID} nor {COMMAND} is set, or the command cannot be read",
                    why="the LiteLLM proxy has to be told when its models have changed",
                    fix=f"set {PID} to the file that holds the process id of its gunicorn master, or {COMMAND} to a "
                    "command such as `systemctl reload litellm`",
                )
            )
        return cls(Path(pid_file).expanduser() if pid_file else None, command)

    def guard(self) -> None:
        """Raises GatewayUnavailable when there is nothing to tell it to, GatewayError when telling would end it."""
        if not self._command:
            self._pid()

    def workers(self) -> frozenset[int] | None:
        """The processes that answer now; None where that cannot be seen: no pid file, another kernel."""
        if self._pid_file is None:
            return None
        try:
            pid = self._pid()
            threads = list((_PROC / str(pid) / "task").iterdir())
            return frozenset(int(child) for one in threads for child in (one / "children").read_text().split())
        except (OSError, ValueError, GatewayError):
            return None

    def dead(self) -> bool:
        """Whether the master is known to have ended."""
        if self._pid_file is None:
            return False
        try:
            self._pid()
        except GatewayUnavailable:
            return True
        except GatewayError:
            return False
        return False

    def send(self) -> None:
        """Tell it. Returns before it has reloaded. Raises GatewayUnavailable, GatewayError."""
        if not self._command:
            os.kill(self._pid(), signal.SIGHUP)
            return
        try:
            done = subprocess.run(
                self._command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_COMMAND_S, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise GatewayError(self._failed(str(error))) from None
        if done.returncode:
            raise GatewayError(self._failed(done.stderr.decode(errors="replace").strip() or "without a word"))

    def _failed(self, told: str) -> Problem:
        return Problem(
            code="E823",
            what=f"the command in {COMMAND} failed",
            why=" ".join(told.split())[:300],
            fix="run it by hand to see why",
        )

    def _pid(self) -> int:
        """The master's process id. Raises GatewayUnavailable when it does not run, GatewayError when it is another."""
        assert self._pid_file is not None
        try:
            pid = int(self._pid_file.read_text().split()[0])
            if pid <= 1:
                raise ValueError(pid)
            os.kill(pid, 0)
            if _ended(pid):
                raise ProcessLookupError(0, "it has ended")
        except (ValueError, IndexError):
            raise GatewayError(self._no_master(f"{self._pid_file} holds no process id")) from None
        except PermissionError:
            raise GatewayError(self._no_master("the process belongs to another user")) from None
        except OSError as error:
            raise GatewayUnavailable(
                Problem(
                    code="E820",
                    what=f"the LiteLLM proxy of {PID} does not run",
                    why=f"{self._pid_file}: {error.strerror or error}",
                    fix="start it; what is registered is in its file, and it serves that again",
                )
            ) from None
        self._guard_gunicorn(pid)
        return pid

    def _guard_gunicorn(self, pid: int) -> None:
        """A process that is not gunicorn ends at SIGHUP: uvicorn, or one that has got the number of a dead master."""
        try:
            line = (_PROC / str(pid) / "cmdline").read_bytes()
        except OSError:
            return
        if line and b"gunicorn" not in line:
            raise GatewayError(self._no_master(f"process {pid} is not gunicorn, and SIGHUP would end it"))

    def _no_master(self, why: str) -> Problem:
        return Problem(
            code="E825",
            what=f"{PID} does not lead to the gunicorn master of the LiteLLM proxy",
            why=why,
            fix=f"start the proxy with --run_gunicorn and write its process id there, or set {COMMAND}",
            file=str(self._pid_file),
        )


def _ended(pid: int) -> bool:
    """Whether it has ended and only waits for its parent to notice. False where that cannot be seen."""
    try:
        stat = (_PROC / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return False
    # The name before it stands in brackets and may hold any character.
    return stat.rpartition(")")[2].split()[:1] == ["Z"]
