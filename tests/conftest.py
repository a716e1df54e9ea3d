"""What every test gets: an environment with nothing of the user in it, and real servers for those that ask."""

import os
import re
from collections.abc import Generator, Iterator
from pathlib import Path

import hypothesis
import pytest
from hypothesis import HealthCheck

from finetune.process import importing
from tests.support.servers import PostgresServer, RedisServer

#: Variables that could lead a test to a paid account, a user's own FT_HOME, or other output than the tests expect.
_OF_THE_USER = re.compile(
    r"^(FT|OPENAI|AZURE|MISTRAL|GOOGLE|GEMINI|VERTEX|CLOUDSDK|TOGETHER|FIREWORKS|AWS|ANTHROPIC|LITELLM|CELERY|OTEL)_"
    r"|_(API_?KEY|TOKEN|SECRET|CREDENTIALS)$"
    r"|^(NO_COLOR|FORCE_COLOR|CLICOLOR_FORCE|COLUMNS|LINES|TRACEPARENT|TRACESTATE)$"
)
#: pytest-socket watches this process only. Programs that tests start find a proxy that nobody listens at instead.
_NO_WAY_OUT = "http://127.0.0.1:9"


def pytest_configure() -> None:
    """Before any import of torch and the Hugging Face libraries, which read these once."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    # Of every process that computes, here and below: while the cores are busy, two threads that wait for each other at
    # every small product burn up to twenty times the processor time of one.
    os.environ |= {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    # How long an example takes says how busy the machine is. What has to be fast is measured where nothing else runs.
    hypothesis.settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    hypothesis.settings.load_profile("busy")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Every process of a run imports all test files, and with them torch and what else there is."""
    with importing():
        return (yield)


@pytest.fixture(autouse=True)
def _environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if _OF_THE_USER.search(name):
            monkeypatch.delenv(name)
    monkeypatch.setenv("FT_HOME", str(tmp_path / "ft"))
    for scheme in ("http", "https", "all"):
        for name in (f"{scheme}_proxy", f"{scheme.upper()}_PROXY"):
            monkeypatch.setenv(name, _NO_WAY_OUT)
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "127.0.0.1,localhost,::1")


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """An empty Redis."""
    redis_server.flush()
    return redis_server.url


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    with PostgresServer() as server:
        yield server


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """An empty PostgreSQL database, as a URL for SQLAlchemy."""
    url = postgres_server.database()
    yield url
    postgres_server.drop(url)
