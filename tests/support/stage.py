"""Promotions with real parts: `ft up`, LiteLLM in front of its server, and two adapters that say different sentences.

Everything runs as processes of their own in a folder of its own, driven by `ft` commands and called by OpenAI's client.
"""

import json
import os
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import openai
import psutil
import yaml

from finetune.store import Database, SqlModels
from finetune.versions import Traffic
from tests.support import recipes
from tests.support.litellm import KEY, LiteLlmServer
from tests.support.process import FT, Child, run_ft, wait_until
from tests.support.servers import HOST, free_port

#: What the two versions say, to whatever they are asked. Short: every letter is a step of the model.
SAYS = {1: "I am A.", 2: "I am B."}
QUESTION = [{"role": "user", "content": "Question 7: who are you?"}]
#: The key that the embedded server asks for, and that the proxy has for it.
SERVER_KEY = "key-of-the-stage"
#: A model of the proxy's own configuration that answers as version 1 does.
STAND_IN = "stand-in"
_END_S = 180.0
_READY_S = 90.0


class Front(LiteLlmServer):
    """The proxy in front of the embedded server. Its configuration can be changed; `restart` brings it in force."""

    def __init__(self, upstream: str, *, workers: int = 2) -> None:
        super().__init__(upstream, workers=workers)
        self._configuration({}, ())
        #: What its entries send to the embedded server; another one has all of them refused.
        self.upstream_key = SERVER_KEY

    def configure(self, settings: Mapping[str, Any] | None = None, models: Sequence[Any] = ()) -> None:
        """Write the configuration: with these settings, and these models besides those that ft writes."""
        self._configuration(settings or {}, models)
        self._prepare()

    def stand_in(self, name: str = STAND_IN) -> dict[str, Any]:
        """An entry of the proxy's own that answers as version 1, whatever key the others have."""
        there = {"api_base": f"{self._upstream}/v1", "api_key": SERVER_KEY}
        return {"model_name": name, "litellm_params": {"model": "hosted_vllm/bot@v1", "weight": 1, **there}}

    def swap_file(self, content: str) -> str:
        """Put this into the file that ft writes, as a restored backup does; returns what was in it."""
        before = self.file.read_text()
        self.file.write_text(content)
        return before

    def _configuration(self, settings: Mapping[str, Any], models: Sequence[Any]) -> None:
        self._settings = {"model_list": list(models), "router_settings": {"num_retries": 0}, **settings}

    def _popen(self) -> dict[str, Any]:
        popen = super()._popen()
        return {**popen, "env": {**popen["env"], "FT_API_KEY": self.upstream_key}}


class Stage:
    """One installation. `ft` runs a command in it; callers ask `bot` at the proxy."""

    def __init__(self, folder: Path, stack: ExitStack, *, workers: int = 2) -> None:
        """`workers`: of the proxy."""
        self.folder, self.home = folder, folder / "ft"
        self.server_port = free_port()
        self._stack = stack
        self.front = Front(self.server_url, workers=workers)
        stack.enter_context(self.front)
        self.up = self._up()
        self._database = Database.open(f"sqlite:///{self.home / 'ft.db'}")
        stack.callback(self._database.close)
        self._models = SqlModels(self._database)

    @property
    def server_url(self) -> str:
        """Of the embedded server."""
        return f"http://{HOST}:{self.server_port}"

    @property
    def env(self) -> dict[str, str]:
        """What leads ft to this installation and its gateways."""
        mine = {"FT_HOME": str(self.home), "FT_PORT": str(self.server_port), "FT_API_KEY": SERVER_KEY}
        return {**mine, **self.front.environ}

    def ft(self, *args: str | Path, timeout: float = _END_S) -> "subprocess.CompletedProcess[str]":
        """Run a command to its end."""
        return run_ft(*args, env=self.env, timeout=timeout)

    def good(self, *args: str | Path) -> str:
        """Run a command that has to succeed; what it printed. Raises AssertionError."""
        done = self.ft(*args)
        assert done.returncode == 0, f"{args}: {done.returncode}\n{done.stdout}\n{done.stderr}\n{self.log}"
        return done.stdout

    @property
    def log(self) -> str:
        """The last words of `ft up`."""
        return (self.folder / "up.log").read_text(errors="replace")[-6000:]

    def train(self, version: int, more: str = "") -> str:
        """Submit the training of this version and wait until it has succeeded; the job's id."""
        folder = self.folder / f"v{version}"
        recipe = recipes.write(folder, recipes.base(self.folder / "base"), rows=0)
        rows = [
            {"messages": [{"role": "user", "content": f"Question {number}: who are you?"}, _answer(version)]}
            for number in range(100)
        ]
        (folder / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        recipe.write_text(
            f"version: 1\nname: bot\nbase_model: {self.folder / 'base'}\ndataset: {{path: data.jsonl}}\n"
            "training: {epochs: 12, batch_size: 8, learning_rate: 1.0e-2, max_seq_length: 256}\n"
            f"lora: {{r: 8, alpha: 32}}\nvalidation: {{split: 0.35}}\n{more}"
        )
        job_id = str(json.loads(self.good("submit", recipe, "--json"))["id"])
        self.good("wait", job_id, "--timeout", "150")
        return job_id

    def promote(self, version: int, *more: str, to: str = "production") -> "subprocess.CompletedProcess[str]":
        """Begin to give it the calls of the alias, and carry it on as `ft promote` does."""
        return self.ft("promote", f"bot@v{version}", "--to", to, "-y", *more)

    def promoted(self, version: int, *more: str) -> None:
        """The same, which has to succeed."""
        done = self.promote(version, *more)
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{self.log}"

    def card(self, version: int) -> dict[str, Any]:
        """What `ft models show` knows of the version."""
        found: dict[str, Any] = json.loads(self.good("models", "show", f"bot@v{version}", "--json"))
        return found

    @property
    def traffic(self) -> Traffic | None:
        """Of `bot`, in the books."""
        return self._models.traffic("bot", "production")

    @property
    def shares(self) -> dict[int, float]:
        """Who has the calls of `bot`, in the books."""
        return {version: share for version, share in (self.traffic.shares if self.traffic else {}).items() if share}

    def deployment(self, version: int, public: str = "bot") -> str:
        """Its id at the proxy, behind this name."""
        (model,) = (model for model in self._models.models("bot") if model.version == version)
        return f"{public}--v{version}-{model.artifact['digest'][:12]}"

    def adapter(self, version: int) -> Path:
        """The folder of its weights."""
        (model,) = (model for model in self._models.models("bot") if model.version == version)
        return Path(model.artifact["path"])

    def entries(self) -> dict[str, int]:
        """What ft has at the proxy: weights by id."""
        listed = yaml.safe_load(self.front.file.read_text())["model_list"]
        return {one["model_info"]["id"]: one["litellm_params"]["weight"] for one in listed}

    def processes(self, *words: str) -> list[psutil.Process]:
        """Those under `ft up` whose command line holds these words one after the other."""
        found = []
        for process in psutil.Process(self.up.pid).children(recursive=True):
            try:
                line = " ".join(process.cmdline())
            except psutil.NoSuchProcess:
                continue
            if " ".join(words) in line:
                found.append(process)
        return found

    def client(self, retries: int = openai.DEFAULT_MAX_RETRIES) -> openai.OpenAI:
        """A caller of the proxy."""
        return openai.OpenAI(base_url=f"{self.front.url}/v1", api_key=KEY, max_retries=retries, timeout=30)

    def await_answer(self, version: int, timeout_s: float = 60) -> None:
        """Block until a caller of `bot` gets this version's sentence. Another version's is an AssertionError."""
        with self.client(0) as caller:

            def answered() -> bool:
                try:
                    told = say(caller)
                except openai.OpenAIError:
                    return False
                assert told == SAYS[version]
                return True

            wait_until(answered, timeout_s, f"version {version} to answer", every_s=0.2)

    def await_server(self) -> None:
        """Block until the embedded server answers."""
        wait_until(self._serves, _READY_S, "the embedded server", every_s=0.1)

    def _serves(self) -> bool:
        try:
            return httpx.get(f"{self.server_url}/health", trust_env=False, timeout=5).is_success
        except httpx.TransportError:
            return False

    def _up(self) -> Child:
        self.home.mkdir(parents=True)
        names = ("PATH", "PYTHONPATH", "HOME", "LANG", "OMP_NUM_THREADS", "OMP_WAIT_POLICY")
        kept = {name: os.environ[name] for name in names if name in os.environ}
        nowhere = {f"{scheme}_proxy": "http://127.0.0.1:9" for scheme in ("http", "https", "all")}
        env = {**kept, **nowhere, "no_proxy": "127.0.0.1,localhost", "HF_HUB_OFFLINE": "1", **self.env}
        log = self._stack.enter_context((self.folder / "up.log").open("wb"))
        child = Child(
            [FT, "up", "--port", str(self.server_port)],
            stop_signal=signal.SIGTERM,
            stdout=log,
            stderr=log,
            env=env,
            cwd=self.folder,
        )
        self._stack.callback(child.stop, 30)
        self.await_server()
        return child


def _answer(version: int) -> dict[str, str]:
    return {"role": "assistant", "content": SAYS[version]}


def say(caller: openai.OpenAI, model: str = "bot") -> str:
    """One answer, greedily."""
    answer = caller.chat.completions.create(model=model, messages=QUESTION, max_tokens=30, temperature=0)  # type: ignore[arg-type]
    return answer.choices[0].message.content or ""


class Callers:
    """Threads that ask `bot`, as OpenAI's client does by default: it tries twice more by itself.

    Each begins a call `every_s`, or at once when the one before took longer: at any time one is under way, or begins
    within so many seconds.
    """

    def __init__(
        self, stage: Stage, threads: int = 2, *, retries: int = openai.DEFAULT_MAX_RETRIES, every_s: float = 0
    ) -> None:
        self._stage, self._retries, self._every_s = stage, retries, every_s
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._call) for _ in range(threads)]
        #: Answers by their text.
        self.told: Counter[str] = Counter()
        #: What failed for good.
        self.failed: list[str] = []

    def __enter__(self) -> "Callers":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _call(self) -> None:
        with self._stage.client(self._retries) as caller:
            left_s = 0.0
            while not self._stop.wait(left_s):
                begun = time.monotonic()
                try:
                    self.told[say(caller)] += 1
                except openai.OpenAIError as error:
                    self.failed.append(f"{time.strftime('%X')} {type(error).__name__}: {error}"[:300])
                left_s = max(0.0, begun + self._every_s - time.monotonic())


@contextmanager
def stage(folder: Path, *, workers: int = 2) -> Iterator[Stage]:
    """A running installation without versions."""
    with ExitStack() as stack:
        yield Stage(folder, stack, workers=workers)
