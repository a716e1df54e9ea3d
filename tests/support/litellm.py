"""A real LiteLLM proxy for tests, from an environment of its own (tests/setup/apart.sh), and what it passes calls to.

Two gunicorn workers on a free loopback port, no database, gone when the tests are.
"""

import hashlib
import json
import os
import signal
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import httpx
import yaml

from finetune.clock import SystemClock
from finetune.deployments import Deployment, GatewayKit, Upstream
from finetune.gateways.litellm import FileGateway, build
from finetune.sandbox.server import Server
from finetune.sandbox.service import Entry, Reply, Request, Route, Sandbox
from tests.support.process import kill_group
from tests.support.servers import HOST, _Server

LITELLM = Path(__file__).parents[2] / ".venv" / "litellm" / "bin" / "litellm"
KEY = "sk-of-the-tests"
#: What its command does, after the imports: a quarter of these is a search for garbage, of which there is none.
_START = """
import gc
gc.disable()
import litellm.proxy.proxy_server
gc.freeze()
gc.enable()
litellm.run_server()
"""
#: The name of the model that stands for an untuned one, in the proxy's own configuration.
BASE = "base"


class Sayings(Sandbox):
    """An upstream that speaks OpenAI's chat protocol: each model says its own name, but those that are to fail."""

    name: ClassVar[str] = "sayings"

    def __init__(self) -> None:
        super().__init__()
        #: Models that fail, with their statuses.
        self.failing: dict[str, int] = {}
        #: Models that answer when this is set; until then all others wait, too.
        self.holding: dict[str, threading.Event] = {}
        #: Calls so far, a model.
        self.calls: Counter[str] = Counter()

    def routes(self) -> Sequence[Route]:
        return [Route(method="POST", path="/v1/chat/completions", operation="chat", answer=self._chat)]

    def refused(self, status: int, message: str, **more: Any) -> Reply:
        return Reply(status=status, body={"error": {"message": message, "type": "x", "param": None, "code": None}})

    def authenticate(self, request: Request) -> Reply | None:
        return None

    def environment(self, url: str) -> dict[str, str]:
        return {}

    def ledger(self) -> list[Entry]:
        return []

    def _chat(self, request: Request) -> Reply:
        model = json.loads(request.body)["model"]
        self.calls[model] += 1
        if model in self.holding:
            self.holding[model].wait(30)
        if model in self.failing:
            return self.refused(self.failing[model], f"{model} is told to fail")
        message = {"role": "assistant", "content": said_by(model)}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        head = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": model}
        return Reply(body={**head, "choices": [choice], "usage": usage})


def said_by(model: str) -> str:
    """What `Sayings` answers as this model."""
    return f"I am {model}."


class LiteLlmServer(_Server):
    """The proxy, with the file of models that ft writes. `settings` are parts of its configuration, as in its docs."""

    name = "litellm"
    stop_signal = signal.SIGTERM

    def __init__(self, upstream: str, settings: Mapping[str, Any] | None = None, *, workers: int = 2) -> None:
        super().__init__()
        self._upstream, self._settings, self._workers = upstream, dict(settings or {}), workers

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    @property
    def file(self) -> Path:
        """The included file."""
        return self._folder / "ft-models.yaml"

    @property
    def environ(self) -> dict[str, str]:
        """What leads ft's gateway here."""
        return {
            "LITELLM_URL": self.url,
            "LITELLM_MASTER_KEY": KEY,
            "FT_LITELLM_FILE": str(self.file),
            "FT_LITELLM_PID": str(self._folder / "pid"),
        }

    @property
    def log(self) -> str:
        return (self._folder / "log").read_text(errors="replace")

    def stop(self) -> None:
        """See `_Server.stop`. gunicorn's workers outlive a master that was killed, and would keep the port."""
        super().stop()
        if self._child:
            kill_group(self._child.pid)

    def kill(self) -> None:
        """End all of it without a warning, as a machine does that goes down; `restart` brings it back."""
        kill_group(self.pid)
        self.stop()

    def gateway(self, patience_s: float = 20, **environ: str) -> FileGateway:
        """A gateway of ft for it."""
        kit = GatewayKit(environ={**self.environ, **environ}, clock=SystemClock(), port=0)
        return build(kit, patience_s=patience_s)

    def _prepare(self) -> None:
        base = {"model": f"openai/{BASE}", "api_base": f"{self._upstream}/v1", "api_key": "none"}
        config = {
            "include": [self.file.name],
            "model_list": [{"model_name": BASE, "litellm_params": base}],
            "general_settings": {"master_key": "os.environ/LITELLM_MASTER_KEY"},
            **self._settings,
        }
        (self._folder / "config.yaml").write_text(yaml.safe_dump(config))
        if not self.file.exists():
            self.file.write_text("model_list: []\n")

    def _start(self, port: int | None = None, attempts: int = 3) -> None:
        super()._start(port, attempts)
        (self._folder / "pid").write_text(f"{self.pid}\n")

    def _argv(self) -> list[str]:
        if not LITELLM.exists():
            raise FileNotFoundError("LiteLLM is not installed for the tests: run `make litellm`")
        words = f"--config config.yaml --host {HOST} --port {self.port} --num_workers {self._workers} --run_gunicorn"
        return [str(LITELLM.with_name("python")), "-c", _START, *words.split(), "--telemetry", "False"]

    def _popen(self) -> dict[str, Any]:
        nowhere = {f"{scheme}_proxy": "http://127.0.0.1:9" for scheme in ("http", "https", "all")}
        env = {
            "PATH": os.environ.get("PATH", ""),
            "HOME": str(self._folder),
            "LITELLM_MASTER_KEY": KEY,
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "LITELLM_LOG": "ERROR",
            **nowhere,
            "no_proxy": "127.0.0.1,localhost",
        }
        return {"cwd": self._folder, "env": env}

    def _answers(self) -> bool:
        try:
            answer = httpx.get(f"{self.url}/model/info", headers={"Authorization": f"Bearer {KEY}"}, trust_env=False)
        except httpx.TransportError:
            return False
        return answer.status_code == httpx.codes.OK


class World:
    """A proxy with upstreams behind it, and deployments for it."""

    def __init__(self, server: LiteLlmServer, upstream: Server, sayings: Sayings) -> None:
        self.server, self.upstream, self.sayings = server, upstream, sayings

    def deployment(self, public: str, version: int = 1) -> Deployment:
        """`public@vN`, which says "I am public-vN."."""
        return deployment(self.upstream.url, public, version)


def deployment(upstream: str, public: str, version: int = 1) -> Deployment:
    """A version whose weights answer at a `Sayings`."""
    digest = hashlib.sha256(f"{public} {version}".encode()).hexdigest()
    name = f"{public.partition('@')[0]}-v{version}"
    there = Upstream(kind="hosted_vllm", model=name, api_base=f"{upstream}/v1")
    ref = f"{public.partition('@')[0]}@v{version}"
    return Deployment(ref=ref, public=public, digest=digest, base_model="Qwen/Qwen3-0.6B", upstream=there)


def many(upstream: str, public: str, count: int) -> None:
    """Register so many versions at the proxy of the environment; for processes of their own."""
    gateway = build(GatewayKit(environ=os.environ, clock=SystemClock(), port=0))
    for version in range(1, count + 1):
        gateway.register(deployment(upstream, public, version))


@contextmanager
def litellm_world(settings: Mapping[str, Any] | None = None, *, workers: int = 2) -> Iterator[World]:
    """A running proxy in front of `Sayings`."""
    sayings = Sayings()
    with Server(sayings) as upstream, LiteLlmServer(upstream.url, settings, workers=workers) as server:
        yield World(server, upstream, sayings)
