"""Redis and PostgreSQL for tests: servers of our own on a free loopback port, gone when the tests are.

A server that already runs on this machine is never touched.
"""

import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import psycopg
import redis

from tests.support.process import Child, remove_folder, scratch_folder, wait_until

HOST = "127.0.0.1"
START_S = 180
#: Not the shared generator: Hypothesis seeds that, and all processes of a run would draw the same.
_CHANCE = random.SystemRandom()


def free_port() -> int:
    """A loopback port that nobody listens on now; another process may take it before you do, a client never does."""
    while True:
        # Below those that the system gives to connections and to whoever asks for any port: there are many of these.
        port = _CHANCE.randrange(15_000, 32_000)
        with socket.socket() as listener:
            try:
                listener.bind((HOST, port))
            except OSError:
                continue
        return port


def find_program(name: str) -> str:
    """Its path, looked for also where Debian keeps PostgreSQL. Raises FileNotFoundError that says what to do."""
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", *map(str, debian)])
    if found := shutil.which(name, path=path):
        return found
    raise FileNotFoundError(f"{name} is not installed, and the tests need it: run tests/setup/servers.sh")


class _Server:
    """Start, readiness and end, the same for both. A subclass says what to run and when it answers."""

    name: str
    stop_signal: signal.Signals

    def __init__(self) -> None:
        self.port = 0
        self._folder = Path()
        self._child: Child | None = None

    def __enter__(self) -> Self:
        self._folder = scratch_folder(self.name)
        try:
            self._prepare()
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        remove_folder(self._folder)

    def stop(self) -> None:
        """End the server; `restart` brings it back at the same address."""
        if self._child:
            self._child.stop()

    def restart(self) -> None:
        """Start again where it was, after `stop`."""
        self._start(self.port)

    def _start(self, port: int | None = None, attempts: int = 3) -> None:
        # Somebody may take the port between our look and the server's: then it ends at once, and we look again.
        for _ in range(attempts):
            self.port = port or free_port()
            with (self._folder / "log").open("wb") as log:
                child = Child(
                    self._argv(),
                    stop_signal=self.stop_signal,
                    folder=self._folder,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    **self._popen(),
                )
            self._child = child
            try:
                wait_until(lambda: not child.alive or self._answers(), START_S, f"{self.name} to answer", 0.05)  # noqa: B023
            except TimeoutError as error:
                raise TimeoutError(f"{error}; its log:\n{self._log()}") from None
            if child.alive:
                return
            child.stop()
        raise RuntimeError(f"{self.name} does not start:\n{self._log()}")

    def _log(self) -> str:
        return (self._folder / "log").read_text(errors="replace")

    @property
    def pid(self) -> int:
        """Process id of the server."""
        assert self._child
        return self._child.pid

    def _prepare(self) -> None: ...

    def _popen(self) -> dict[str, Any]:
        return {"cwd": self._folder}

    def _argv(self) -> list[str]:
        raise NotImplementedError

    def _answers(self) -> bool:
        """True when it is this server, not another one on the same port, that answers."""
        raise NotImplementedError


class RedisServer(_Server):
    """A Redis that writes nothing to disk."""

    name = "redis"
    stop_signal = signal.SIGTERM

    @property
    def url(self) -> str:
        """`redis://...` of its first database."""
        return f"redis://{HOST}:{self.port}/0"

    def flush(self) -> None:
        """Empty all its databases."""
        self._ask(lambda client: client.flushall())

    def _argv(self) -> list[str]:
        options = {"port": str(self.port), "bind": HOST, "save": "", "appendonly": "no", "dir": str(self._folder)}
        return [find_program("redis-server"), *(word for key, value in options.items() for word in (f"--{key}", value))]

    def _answers(self) -> bool:
        try:
            return bool(self._ask(lambda client: client.info("server"))["process_id"] == self.pid)
        except redis.ConnectionError:
            return False

    def _ask(self, question: Callable[[Any], Any]) -> Any:
        with redis.Redis.from_url(self.url, socket_timeout=5) as client:
            return question(client)


class PostgresServer(_Server):
    """A PostgreSQL that trades safety after a power cut for speed."""

    name = "postgres"
    #: Fast shutdown: open sessions are ended, not waited for.
    stop_signal = signal.SIGINT

    def __init__(self) -> None:
        super().__init__()
        self._databases = 0

    def database(self) -> str:
        """Make an empty database; its URL for SQLAlchemy (`postgresql+psycopg://...`)."""
        self._databases += 1
        name = f"test_{self._databases}"
        self._run(f"CREATE DATABASE {name}")
        return f"postgresql+psycopg://postgres@{HOST}:{self.port}/{name}"

    def drop(self, url: str) -> None:
        """Remove a database that `database` made, ending its sessions."""
        self._run(f"DROP DATABASE {url.rpartition('/')[2]} WITH (FORCE)")

    def _prepare(self) -> None:
        account = self._account()
        if account:
            os.chown(self._folder, account.pw_uid, account.pw_gid)
        options = "--username=postgres --auth=trust --encoding=UTF8 --no-locale --no-sync --no-instructions"
        argv = [find_program("initdb"), "-D", str(self._data), *options.split()]
        made = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **self._popen())
        if made.returncode:
            raise RuntimeError(f"initdb failed:\n{made.stdout}")

    @property
    def _data(self) -> Path:
        return self._folder / "data"

    @staticmethod
    def _account() -> pwd.struct_passwd | None:
        """Whom to run as: PostgreSQL refuses to run as root. None: as we are."""
        if os.geteuid() != 0:
            return None
        names = {entry.pw_name: entry for entry in pwd.getpwall()}
        return names.get("postgres") or names["nobody"]

    def _popen(self) -> dict[str, Any]:
        options: dict[str, Any] = {
            "cwd": self._folder,
            "env": {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", "TZ": "UTC"},
        }
        if account := self._account():
            options |= {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": ()}
        return options

    def _argv(self) -> list[str]:
        settings = {
            "listen_addresses": HOST,
            "port": self.port,
            "unix_socket_directories": "",
            "fsync": "off",
            "synchronous_commit": "off",
            "full_page_writes": "off",
            "shared_buffers": "32MB",
            "max_connections": 60,
        }
        argv = [find_program("postgres"), "-D", str(self._data)]
        return argv + [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]

    def _answers(self) -> bool:
        try:
            return bool(self._run("SHOW data_directory") == str(self._data))
        except psycopg.OperationalError:
            return False

    def _run(self, statement: str) -> Any:
        address: dict[str, Any] = {"host": HOST, "port": self.port, "user": "postgres", "dbname": "postgres"}
        with psycopg.connect(**address, connect_timeout=5, autocommit=True) as connection:
            cursor = connection.execute(statement)
            row = cursor.fetchone() if cursor.description else None
            return row[0] if row else None
