"""The processes of docker/compose.yaml, started without Docker: its commands, its environment, other addresses."""

import json
import os
import re
import shlex
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
import redis

from finetune.sandbox.clock import SandboxClock
from finetune.sandbox.openai.sandbox import OpenAiSandbox
from finetune.sandbox.server import Server
from finetune.store import Database, SqlJobs, SqlRuns
from tests.support import recipes
from tests.support.compose import DOCKER, Service, services
from tests.support.process import FT, Child, wait_until
from tests.support.servers import HOST, PostgresServer, RedisServer, find_program, free_port

OURS = ("remote-worker", "gpu-worker", "server")
SECRETS = {name: f"{name.lower().replace('_', '')}7" for name in ("POSTGRES_PASSWORD", "REDIS_PASSWORD", "FT_API_KEY")}
SECRETS["LITELLM_MASTER_KEY"] = "sk-litellm"
#: The page with the same commands.
DEPLOY = (DOCKER.parent / "docs" / "deploy.md").read_text()
#: What keeps this process, and so those that it starts, from the network and from more than one core.
_WALL = re.compile(r"_proxy$|^OMP_", re.IGNORECASE)
#: Start, training and registration on a busy machine.
_END_S = 150
HOSTED = """\
version: 1
name: hosted
base_model: gpt-4o-mini
provider: openai
dataset: {path: data.jsonl}
"""


class ComposeRedis(RedisServer):
    """Redis as the file starts it, on a loopback port and in a folder of its own."""

    def __init__(self, service: Service, password: str) -> None:
        super().__init__()
        self._command, self._password = service.command, password

    @property
    def url(self) -> str:
        return f"redis://:{self._password}@{HOST}:{self.port}/0"

    def _argv(self) -> list[str]:
        program, *options = self._command
        place = ("--port", str(self.port), "--bind", HOST, "--dir", str(self._folder))
        return [find_program(program), *options, *place]


@contextmanager
def account(server: PostgresServer, service: Service) -> Iterator[None]:
    """The user and the database that the image of PostgreSQL makes when it starts for the first time."""
    user, name = service.environment["POSTGRES_USER"], service.environment["POSTGRES_DB"]
    with psycopg.connect(
        host=HOST, port=server.port, user="postgres", dbname="postgres", autocommit=True
    ) as connection:
        connection.execute(f"CREATE ROLE {user} LOGIN")
        connection.execute(f"CREATE DATABASE {name} OWNER {user}")
        try:
            yield
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
            connection.execute(f"DROP ROLE {user}")


@dataclass
class Installation:
    """The services of the file as processes of this machine."""

    services: Mapping[str, Service]
    #: What stands for what: addresses and the home.
    places: Mapping[str, str]
    home: Path
    stack: ExitStack
    children: dict[str, Child]

    def moved(self, text: str) -> str:
        for place, ours in self.places.items():
            text = text.replace(place, ours)
        return text

    def environment(self, name: str) -> dict[str, str]:
        """The service's own, with our addresses, and what the image brings along. Nothing of this process but walls."""
        walls = {name: value for name, value in os.environ.items() if _WALL.search(name)}
        image = {"PATH": f"{FT.parent}{os.pathsep}{os.environ['PATH']}", "HOME": str(self.home), "HF_HUB_OFFLINE": "1"}
        listed = self.services[name].environment
        return {**walls, **image, **{key: self.moved(value) for key, value in listed.items()}}

    def start(self, *names: str) -> None:
        for name in names:
            log = self.stack.enter_context((self.home / f"{name}.log").open("ab"))
            self.children[name] = Child(
                [self.moved(word) for word in self.services[name].command],
                stop_signal=signal.SIGTERM,
                stdout=log,
                stderr=log,
                env=self.environment(name),
                cwd=self.home,
            )
            self.stack.callback(self.children[name].stop)

    def run(self, name: str, argv: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
        """A command in the environment of a service, to its end."""
        return subprocess.run(
            [self.moved(word) for word in argv],
            env=self.environment(name),
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_END_S + 30,
        )

    def ft(self, *words: str | Path) -> str:
        """`docker compose run --rm ft WORDS`."""
        entrypoint = tuple(self.services["ft"].entry["entrypoint"])
        assert entrypoint == ("tini", "--", "ft")
        done = self.run("ft", (*entrypoint[2:], *map(str, words)))
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}{self.log()}"
        return done.stdout

    def healthy(self) -> bool:
        return all(self.run(name, self.services[name].check).returncode == 0 for name in self.children)

    def get(self, path: str, key: str | None = None) -> str:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        request = urllib.request.Request(self.moved(f"http://127.0.0.1:8765{path}"), headers=headers)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return str(answer.read().decode())

    def stop(self) -> None:
        """SIGTERM to all at once, as `docker compose stop`; each has to end well within its own grace."""
        for child in self.children.values():
            child.process.send_signal(signal.SIGTERM)
        for name, child in self.children.items():
            child.process.wait(self.services[name].grace_s / 2)
            assert child.process.returncode == 0, f"{name}: {self.log()}"
        self.children.clear()

    @contextmanager
    def explained(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            print(self.log())  # noqa: T201 -- what the processes said explains the failure
            raise

    def log(self) -> str:
        return "".join(f"\n--- {path.name}\n{path.read_text()}" for path in sorted(self.home.glob("*.log")))

    @contextmanager
    def database(self) -> Iterator[Database]:
        database = Database.open(self.environment("server")["FT_DATABASE_URL"])
        try:
            yield database
        finally:
            database.close()


@pytest.fixture
def installed(tmp_path: Path, postgres_server: PostgresServer) -> Iterator[Installation]:
    home = tmp_path / "home"
    home.mkdir()
    with ExitStack() as stack:
        hosted = stack.enter_context(Server(OpenAiSandbox(clock=SandboxClock(speed=60))))
        env = {**SECRETS, **hosted.environment, "FT_SANDBOX": "openai", "FT_MAX_POLL_S": "0.5"}
        found = services(env)
        broker = stack.enter_context(ComposeRedis(found["redis"], SECRETS["REDIS_PASSWORD"]))
        with redis.Redis(HOST, broker.port) as stranger, pytest.raises(redis.AuthenticationError):
            stranger.ping()
        stack.enter_context(account(postgres_server, found["postgres"]))
        places = {
            "redis:6379": f"{HOST}:{broker.port}",
            "postgres:5432": f"{HOST}:{postgres_server.port}",
            "8765": str(free_port()),
            # A container's loopback is its own; tests stay on theirs.
            "0.0.0.0": HOST,
            "/var/lib/ft": str(home),
        }
        installation = Installation(found, places, home, stack, {})
        yield installation
        assert hosted.broken == []


@pytest.mark.timeout(600)
def test_the_processes_of_the_file_do_the_work_and_end_when_asked(installed: Installation, tmp_path: Path) -> None:
    with installed.explained():
        everything_works(installed, tmp_path)


def everything_works(installed: Installation, tmp_path: Path) -> None:
    # All at once, on an empty database: one of them makes the tables.
    installed.start(*OURS)
    wait_until(installed.healthy, 90, "the health checks to pass", every_s=0.5)

    base = recipes.base(tmp_path / "base")
    local = recipes.write(tmp_path / "local", base, name="local")
    away = recipes.write(tmp_path / "away", base).parent
    (away / "recipe.yaml").write_text(HOSTED)
    jobs = [json.loads(installed.ft("submit", path, "--json"))["id"] for path in (local, away / "recipe.yaml")]
    installed.ft("wait", *jobs, "--timeout", str(_END_S))

    with pytest.raises(urllib.error.HTTPError, match="401"):
        installed.get("/v1/models")
    key = SECRETS["FT_API_KEY"]
    assert "local@v1" in {model["id"] for model in json.loads(installed.get("/v1/models", key))["data"]}
    assert {model["ref"] for model in json.loads(installed.ft("models", "list", "--json"))} == {"local@v1", "hosted@v1"}
    told = installed.get("/metrics", key)
    assert sorted(re.findall(r'^ft_queue_depth\{queue="(\w+)"\} 0\.0$', told, re.M)) == ["gpu", "remote"]

    long = recipes.write(tmp_path / "long", base, name="long", epochs=1000)
    job = json.loads(installed.ft("submit", long, "--json"))["id"]
    with installed.database() as database:
        rows = SqlJobs(database)
        wait_until(lambda: (rows.get(job).progress or {}).get("step", 0) >= 2, _END_S, "the training", every_s=0.1)
        installed.stop()
        run = SqlRuns(database).get_run(f"{job}-a1")
    assert (run.state, run.deaths) == ("queued", 0), "saved, and nobody's fault"
    log = installed.log()
    assert "Traceback" not in log
    assert [name for name, value in SECRETS.items() if value in log] == []


def test_a_process_without_its_servers_says_so(installed: Installation) -> None:
    """The health check of a worker is worth something: it fails when the database or the queue is gone."""
    check = installed.services["remote-worker"].check
    assert check
    for place in ("postgres:5432", "redis:6379"):
        broken = Installation(
            installed.services, {**installed.places, place: f"{HOST}:1"}, installed.home, installed.stack, {}
        )
        done = broken.run("remote-worker", check)
        assert done.returncode == 1, done.stdout + done.stderr


def without_docker() -> tuple[dict[str, str], list[list[str]]]:
    """Variables and commands of the document's section."""
    section = DEPLOY.partition("## Without Docker\n")[2].partition("\n## ")[0]
    lines = [line for block in re.findall(r"^```sh\n(.*?)^```$", section, re.M | re.S) for line in block.splitlines()]
    words = [shlex.split(line.replace("\\\n", ""), comments=True) for line in lines if not line.startswith("#")]
    exported = dict(each.split("=", 1) for line in words if line[:1] == ["export"] for each in line[1:])
    return exported, [line for line in words if line and line[0] != "export"]


def test_the_document_has_the_same_commands_and_variables() -> None:
    """What is proved of the file is proved of the document."""
    named = {name: f"${name}" for name in SECRETS}
    found = services(named)
    exported, commands = without_docker()
    wanted = [list(found[name].command) for name in ("redis", *OURS)]
    wanted[-1] = [word for word in wanted[-1] if word not in ("--host", "0.0.0.0")]
    assert commands == wanted
    inside = {name: value for service in OURS for name, value in found[service].environment.items()}
    at_home = {"redis:6379": "127.0.0.1:6379", "postgres:5432": "127.0.0.1:5432"}
    for name in ("FT_DATABASE_URL", "FT_BROKER_URL"):
        for place, ours in at_home.items():
            inside[name] = inside[name].replace(place, ours)
        assert exported[name] == inside[name]
    assert exported.keys() >= {"FT_HOME", "FT_API_KEY"}
    assert exported.keys() <= inside.keys() | SECRETS.keys()


def test_the_grace_is_longer_than_a_trainers() -> None:
    from finetune.training import supervisor

    grace = timedelta(seconds=services(SECRETS)["gpu-worker"].grace_s)
    assert grace >= timedelta(seconds=3 * supervisor._GRACE_S)
