"""The real vLLM on this machine's processors, from an environment of its own (tests/setup/apart.sh)."""

import signal
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import httpx

from tests.support.process import Child, ft_environment, wait_until
from tests.support.servers import free_port

PYTHON = Path(__file__).parents[2] / ".venv" / "vllm" / "bin" / "python"
KEY = "sk-of-the-vllm-tests"
_READY_S = 240
#: Of the model's memory for what was said; a tiny model needs next to nothing.
_SPACE_GB = "1"


class VllmServer:
    """vLLM with one base under a name, which takes adapters up to rank 16 while it runs. A context manager."""

    def __init__(self, base: Path, name: str, log: Path) -> None:
        self.port, self._log = free_port(), log
        self.url = f"http://127.0.0.1:{self.port}"
        options = {
            "--model": str(base),
            "--served-model-name": name,
            "--max-lora-rank": "16",
            "--max-loras": "2",
            "--max-model-len": "512",
            "--dtype": "float32",
            "--host": "127.0.0.1",
            "--port": str(self.port),
        }
        words = [word for pair in options.items() for word in pair]
        # Its console script asks for a package called vllm, which this build is not.
        self._argv = [PYTHON, "-m", "vllm.entrypoints.openai.api_server", *words, "--enable-lora", "--enforce-eager"]
        self._child: Child | None = None
        self._output: IO[bytes] | None = None

    def __enter__(self) -> Self:
        environment = {
            "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True",
            "VLLM_API_KEY": KEY,
            "VLLM_CPU_KVCACHE_SPACE": _SPACE_GB,
            "VLLM_NO_USAGE_STATS": "1",
            "HF_HUB_OFFLINE": "1",
        }
        self._output = self._log.open("wb")
        self._child = Child(
            self._argv,
            stop_signal=signal.SIGTERM,
            stdout=self._output,
            stderr=self._output,
            env=ft_environment(env=environment),
        )
        try:
            wait_until(self._ready, _READY_S, f"vLLM to answer; {self._log} says why it does not", every_s=0.5)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._child is not None:
            self._child.stop(timeout_s=30)
        if self._output is not None:
            self._output.close()

    def _ready(self) -> bool:
        assert self._child is not None
        if not self._child.alive:
            raise RuntimeError(f"vLLM ended:\n{self._log.read_text(errors='replace')[-3000:]}")
        try:
            return httpx.get(f"{self.url}/health", timeout=2, trust_env=False).status_code == 200
        except httpx.TransportError:
            return False
