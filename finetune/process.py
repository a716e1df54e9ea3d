"""Child processes that never outlive their purpose: own group, death with the parent, proof of the end."""

import ctypes
import gc
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

_PR_SET_PDEATHSIG = 1


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when the thread that started it ends; exit now if the parent is gone already.

    Linux only; elsewhere it does nothing, and `end_group` by the next owner cleans up.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        # The parent may have died between the fork and the call above; then nobody will send the signal.
        if os.getppid() != parent:
            os._exit(1)


@contextmanager
def importing() -> Iterator[None]:
    """In the block large libraries are imported a sixth faster: Python does not look for garbage meanwhile.

    Nor does it ever look at what is there at the end of the block, which stays anyway. For the start of a process.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def settle() -> None:
    """Have Python look for garbage seldom, and not in what is there now. For the start of a process.

    A tenth of the start-up time of a command is a search for garbage among what imports have made.
    """
    gc.freeze()
    gc.set_threshold(10_000, 50, 100)


def spawn(argv: Sequence[str], *, log: Path | None, env: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
    """Start a process in a session (and group) of its own. Raises OSError.

    Both outputs are appended to `log`; None: they go where ours go to.
    """
    if log is None:
        return subprocess.Popen(argv, stdin=subprocess.DEVNULL, env=env, start_new_session=True)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as out:
        return subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=env, start_new_session=True)


def identity(pid: int) -> str:
    """`host:pid:start` of a process; survives the reuse of its number. `start` is 0 where the system does not tell."""
    return f"{socket.gethostname()}:{pid}:{_start_ticks(pid)}"


def same_process(mark: str) -> int | None:
    """The pid of a living process on this host with this identity, else None."""
    host, pid, start = mark.rsplit(":", 2)
    if host != socket.gethostname() or not group_members(int(pid)):
        return None
    return int(pid) if _start_ticks(int(pid)) in (int(start), 0) else None


def group_members(group: int) -> list[int]:
    """Pids in the process group that run (a zombie does not), by /proc; elsewhere the group's number if it lives."""
    proc = Path("/proc")
    if not proc.is_dir():
        return [group] if _signal_group(group, 0) else []
    found = []
    for entry in proc.iterdir():
        fields = _stat(entry.name) if entry.name.isdigit() else []
        if len(fields) > 2 and int(fields[2]) == group and fields[0] != "Z":
            found.append(int(entry.name))
    return found


def end_group(group: int, *, grace_s: float) -> bool:
    """SIGTERM, up to `grace_s` of waiting, SIGKILL: True when no process of the group runs any more. Idempotent."""
    for sign, patience_s in ((signal.SIGTERM, grace_s), (signal.SIGKILL, 10.0)):
        _signal_group(group, sign)
        end = time.monotonic() + patience_s
        while time.monotonic() < end:
            if not group_members(group):
                return True
            time.sleep(0.02)
    return not group_members(group)


def _signal_group(group: int, sign: int) -> bool:
    try:
        os.killpg(group, sign)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def _stat(pid: str) -> list[str]:
    """Fields of /proc/PID/stat from the state on; empty when the process is gone."""
    try:
        text = Path("/proc", pid, "stat").read_text()
    except OSError:
        return []
    # The second field, the name, may hold blanks and brackets; the last bracket ends it.
    return text.rpartition(")")[2].split()


def _start_ticks(pid: int) -> int:
    fields = _stat(str(pid))
    return int(fields[19]) if len(fields) > 19 else 0
