"""A terminal with a user in front of it."""

import os
import select
import subprocess
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.process import FT, ft_environment, kill_group

_PATIENCE_S = 30.0


class Terminal:
    """`ft ARGS` on a pseudo-terminal: both outputs are what a user sees, in one."""

    def __init__(self, master: int, process: "subprocess.Popen[bytes]") -> None:
        self._master, self._process = master, process
        #: Everything shown so far.
        self.seen = ""

    def expect(self, text: str) -> None:
        """Read on until `text` is shown. Raises AssertionError with what is shown instead."""
        self._read(until=text)
        assert text in self.seen, self.seen

    def type(self, text: str) -> None:
        """Press these keys; \\x03 is Ctrl-C."""
        os.write(self._master, text.encode())

    def end(self) -> int:
        """Read to the end; the exit code."""
        self._read(until=None)
        return self._process.wait(_PATIENCE_S)

    def _read(self, until: str | None) -> None:
        end = time.monotonic() + _PATIENCE_S
        while until is None or until not in self.seen:
            ready, _, _ = select.select([self._master], [], [], max(0.0, end - time.monotonic()))
            assert ready, f"nothing more after: {self.seen}"
            try:
                new = os.read(self._master, 65536)
            except OSError:
                # Linux says EIO when the last process has closed the terminal.
                return
            if not new:
                return
            self.seen += new.decode(errors="replace").replace("\r\n", "\n")


@contextmanager
def terminal(*args: str | Path, cwd: Path, columns: int = 100, **env: str) -> Iterator[Terminal]:
    """Start `ft ARGS` on a terminal; it has ended afterwards."""
    master, slave = os.openpty()
    termios.tcsetwinsize(slave, (24, columns))
    process = subprocess.Popen(
        [FT, *args],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env=ft_environment(env={"TERM": "xterm-256color", "COLUMNS": "", **env}),
        cwd=cwd,
        preexec_fn=lambda: os.login_tty(slave),
    )
    os.close(slave)
    try:
        yield Terminal(master, process)
    finally:
        kill_group(process.pid)
        process.wait()
        os.close(master)
