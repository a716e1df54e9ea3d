"""The servers that tests start, and the walls around a test."""

import os
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import psycopg
import pytest
import redis

from tests.support.process import wait_until
from tests.support.servers import PostgresServer, RedisServer, find_program


def connect(url: str) -> psycopg.Connection:
    return psycopg.connect(url.replace("+psycopg", ""))


@pytest.mark.parametrize("round_", [1, 2])
def test_each_test_gets_an_empty_redis(redis_url: str, round_: int) -> None:
    with redis.Redis.from_url(redis_url) as client:
        assert client.dbsize() == 0
        client.set("left", round_)


@pytest.mark.parametrize("round_", [1, 2])
def test_each_test_gets_an_empty_database(postgres_url: str, round_: int) -> None:
    with connect(postgres_url) as connection:
        connection.execute("CREATE TABLE left_over (round int)")
        assert connection.execute("SELECT count(*) FROM left_over").fetchone() == (0,)


def test_a_database_is_dropped_under_an_open_session(postgres_server: PostgresServer) -> None:
    url = postgres_server.database()
    with connect(url) as connection:
        postgres_server.drop(url)
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")


def test_two_servers_are_two(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as ours:
        ours.set("key", "value")
        with RedisServer() as other, redis.Redis.from_url(other.url) as theirs:
            assert theirs.dbsize() == 0
        assert ours.get("key") == b"value"


def gone(pid: int) -> bool:
    try:
        return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True


@pytest.mark.parametrize("server", ["RedisServer", "PostgresServer"])
def test_a_server_does_not_outlive_a_killed_test_run(server: str, tmp_path: Path) -> None:
    program = f"""
        import os, signal
        from tests.support.servers import {server}
        with {server}() as server:
            print(server.pid, server._folder, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
    """
    argv = [sys.executable, "-c", textwrap.dedent(program)]
    # Not a pipe: the server would hold it open.
    with (tmp_path / "out").open("w") as out:
        subprocess.run(argv, stdout=out, cwd=Path(__file__).parents[2], timeout=90)
    pid, folder = (tmp_path / "out").read_text().split()
    wait_until(lambda: gone(int(pid)), 20, f"the end of {server}")
    wait_until(lambda: not Path(folder).exists(), 20, "the end of its folder")


def test_a_missing_server_fails_and_says_what_to_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(FileNotFoundError, match=r"tests/setup/servers\.sh"):
        find_program("no-such-server")


def test_no_test_reaches_another_machine() -> None:
    # 192.0.2.0/24 is set aside for documentation: nothing is there to be reached.
    with socket.socket() as client, pytest.raises(Exception, match=r"192\.0\.2\.1"):
        client.connect(("192.0.2.1", 443))


def test_a_program_that_a_test_starts_finds_no_way_out() -> None:
    program = "import httpx2; httpx2.get('https://192.0.2.1', timeout=20)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert "Connection refused" in done.stderr


def test_nothing_of_the_user_is_in_the_environment(tmp_path: Path) -> None:
    ours = [name for name in os.environ if name.startswith(("FT_", "OPENAI_", "AWS_"))]
    assert ours == ["FT_HOME"]
    assert Path(os.environ["FT_HOME"]).is_relative_to(tmp_path)
