"""Gateways with what stands behind them: our server or a stand-in, two versions, and a third that is refused."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from finetune.deployments import Deployment, Gateway, GatewayKit
from finetune.errors import NotFound, Problem
from finetune.files import digest
from finetune.gateways import embedded, llamacpp, ollama, sglang, vllm
from finetune.ports import Served
from finetune.sandbox.gateways.answers import KEY, base_sentence, folder_sentence, tuned_sentence
from finetune.sandbox.gateways.llamacpp import LlamaCppSandbox
from finetune.sandbox.gateways.ollama import OllamaSandbox
from finetune.sandbox.gateways.sglang import SglangSandbox
from finetune.sandbox.gateways.vllm import VllmSandbox
from finetune.sandbox.server import Server
from finetune.serving.pool import Pool
from finetune.serving.run import running
from finetune.serving.server import create_app
from finetune.testing import ManualClock
from tests.support.servers import free_port

BASE = "meta-llama/Llama-3.2-1B-Instruct"
PUBLIC = "support-bot"
HELLO = [{"role": "user", "content": "Hello, who are you?"}]
_WEIGHTS = "adapter_model.safetensors"
_CONFIG = "adapter_config.json"


@dataclass(kw_only=True)
class World:
    """One gateway. `a` and `b` are two versions of one name, neither registered; the server has nothing of ours."""

    gateway: Gateway
    a: Deployment
    b: Deployment
    #: What each version says to HELLO, by `Deployment.ref`.
    says: Mapping[str, str]
    #: Preflight refuses it.
    misfit: Deployment
    #: What the gateway was built from, and the module or function that builds it.
    environ: dict[str, str]
    #: The variable with the key, and the key; None where there is none.
    key: tuple[str, str] | None = None
    port: int = 0
    maker: Any = None
    #: The stand-in, where there is one.
    sandbox: Any = None

    def built(self, **environ: str) -> Gateway:
        """The gateway with other variables."""
        return self.maker(kit({**self.environ, **environ}, self.port))

    def unreachable(self) -> Gateway:
        """The gateway with an address at which nobody listens."""
        nowhere = f"http://127.0.0.1:{free_port()}"
        return self.built(**{name: nowhere for name in self.environ if name.endswith(("_URL", "_HOST"))})

    def denied(self) -> Gateway:
        """The gateway with a key that is not accepted."""
        assert self.key is not None
        return self.built(**{self.key[0]: "sk-wrong-and-secret"})

    def name(self, deployment: Deployment) -> str:
        """What `registered` lists it as."""
        return deployment.model

    def other(self, deployment: Deployment) -> Deployment:
        """Another content under the names of this one."""
        assert deployment.adapter is not None
        place = make_adapter(deployment.adapter.parent / "elsewhere", "other weights")
        return replace(deployment, adapter=place)

    def forget(self, deployment: Deployment) -> None:
        """Have the gateway forget it."""
        self.gateway.unregister(self.name(deployment))

    def share(self, public: str, shares: Mapping[str, float]) -> None:
        """Divide the name's calls."""
        self.gateway.set_traffic(public, shares)


def kit(environ: Mapping[str, str], port: int = 1, api_key: str | None = None) -> GatewayKit:
    """A kit with these variables."""
    return GatewayKit(environ=environ, clock=ManualClock(), port=port, api_key=api_key)


def make_adapter(folder: Path, weights: str, *, base: str = BASE, gguf: bool = True, **config: Any) -> Path:
    """An adapter's folder, such as a stand-in reads it."""
    folder.mkdir(parents=True, exist_ok=True)
    said = {"peft_type": "LORA", "base_model_name_or_path": base, "r": 8, "bias": "none", "use_dora": False, **config}
    (folder / _CONFIG).write_text(json.dumps(said))
    (folder / _WEIGHTS).write_bytes(weights.encode())
    if gguf:
        (folder / "adapter.gguf").write_bytes(b"GGUF" + weights.encode())
    return folder


def deployment(root: Path, version: int, *, base: str = BASE, **config: Any) -> Deployment:
    """A version with an adapter of its own below `root`."""
    weights = f"weights of version {version}"
    made_of = hashlib.sha256(weights.encode()).hexdigest()
    folder = make_adapter(root / made_of[:32], weights, base=base, **config)
    return Deployment(ref=f"{PUBLIC}@v{version}", public=PUBLIC, digest=made_of, base_model=base, adapter=folder)


@contextmanager
def vllm_world(root: Path) -> Iterator[World]:
    """The stand-in for vLLM."""
    with _served(VllmSandbox(base=BASE), vllm.build, root) as world:
        yield world


@contextmanager
def sglang_world(root: Path) -> Iterator[World]:
    """The stand-in for SGLang."""
    with _served(SglangSandbox(base=BASE), sglang.build, root, FT_SGLANG_MAX_LORA_RANK="16") as world:
        yield world


@contextmanager
def llamacpp_world(root: Path) -> Iterator[World]:
    """The stand-in for llama-server, in router mode."""
    presets = presets_file(root)
    with _served(LlamaCppSandbox(presets=presets), llamacpp.build, root) as world:
        a, b = world.a, world.b
        says = {each.ref: tuned_sentence((each.adapter / "adapter.gguf").read_bytes()) for each in (a, b)}
        yield replace(world, says=says, misfit=deployment(root / "misfits", 4, gguf=False))


@contextmanager
def ollama_world(root: Path) -> Iterator[World]:
    """The stand-in for Ollama."""
    names = f"{BASE}=llama3.2:1b, Qwen/Qwen3-0.6B=qwen3"
    sandbox = OllamaSandbox(bases={"llama3.2:1b": ("llama", BASE), "qwen3": ("qwen3", "Qwen/Qwen3-0.6B")})
    with _served(sandbox, ollama.build, root, gguf=False, FT_OLLAMA_BASES=names) as world:
        misfit = deployment(root / "misfits", 4, base="Qwen/Qwen3-0.6B", gguf=False)
        yield replace(world, key=None, misfit=misfit)


def presets_file(root: Path) -> Path:
    """A user's presets file with the base in it."""
    weights = root / "base.gguf"
    weights.write_text(BASE)
    path = root / "presets.ini"
    path.write_text(f"version = 1\n\n; mine\n[*]\nc = 2048\n\n[{BASE}]\nmodel = {weights}\n")
    return path


@contextmanager
def _served(sandbox: Any, maker: Any, root: Path, *, gguf: bool = True, **environ: str) -> Iterator[World]:
    a, b = (deployment(root, version, gguf=gguf) for version in (1, 2))
    with Server(sandbox) as server:
        variables = {**server.environment, **environ}
        yield World(
            gateway=maker(kit(variables)),
            a=a,
            b=b,
            says={each.ref: folder_sentence(each.adapter, BASE) for each in (a, b)},
            misfit=deployment(root / "misfits", 3, r=64),
            environ=variables,
            key=next(((name, KEY) for name in variables if name.endswith("_API_KEY")), None),
            maker=maker,
            sandbox=sandbox,
        )
        assert server.broken == []


@dataclass
class Source:
    """A registry: versions, and the shares of public names in order, so that they are exact."""

    base: str
    versions: dict[str, Path] = field(default_factory=dict)
    shares: dict[str, dict[str, float]] = field(default_factory=dict)
    _given: Counter[str] = field(default_factory=Counter)

    def served(self) -> list[Served]:
        now = datetime(2026, 11, 1, tzinfo=UTC)
        tuned = [
            Served(id=ref, base_model=self.base, adapter=path, created_at=now, aliases=self._aliases(ref))
            for ref, path in self.versions.items()
        ]
        return [Served(id=self.base, base_model=self.base, adapter=None, created_at=now), *tuned]

    def resolve(self, name: str) -> Served:
        if name in self.shares:
            name = self._next(name)
        for model in self.served():
            if model.id == name:
                return model
        raise NotFound(Problem(code="E702", what=f"there is no model {name!r}"))

    def _aliases(self, ref: str) -> tuple[str, ...]:
        return tuple(name for name, shares in self.shares.items() if max(shares, key=shares.__getitem__) == ref)

    def _next(self, name: str) -> str:
        """The version that lags behind its share the most."""
        shares, total = self.shares[name], sum(self._given.values()) + 1
        ref = max(shares, key=lambda each: shares[each] * total - self._given[each])
        self._given[ref] += 1
        return ref


@dataclass(kw_only=True)
class EmbeddedWorld(World):
    """Versions are in the database, so they are put there and taken out; the gateway only looks."""

    source: Source

    def built(self, **environ: str) -> Gateway:
        return embedded.build(kit({}, self.port, environ.get("FT_API_KEY", KEY)))

    def unreachable(self) -> Gateway:
        return embedded.build(kit({}, free_port(), KEY))

    def forget(self, deployment: Deployment) -> None:
        self.gateway.unregister(self.name(deployment))
        self.source.versions.pop(deployment.ref, None)

    def share(self, public: str, shares: Mapping[str, float]) -> None:
        known = {each.id: each.ref for each in (self.a, self.b)}
        if shares.keys() <= known.keys():
            self.source.shares[public] = {known[name]: share for name, share in shares.items()}
            self.source._given.clear()
        self.gateway.set_traffic(public, shares)


@contextmanager
def trained(root: Path, hidden: int = 64) -> Iterator[tuple[dict[str, Path], Any]]:
    """Two adapters that say a sentence each, in folders called by their digests, and their base in memory.

    torch keeps to one thread meanwhile: matrices this small are faster so, and much so when the cores are busy.
    """
    # Brings torch, which most users of this module do not need.
    import torch

    from tests.flow.serving.conftest import SAYS, Loaded, build_model, build_tokenizer, train

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    model, tokenizer = build_model(hidden=hidden), build_tokenizer()
    folders = {}
    for seed, (key, says) in enumerate(SAYS.items()):
        made = train(model, tokenizer, says, root / key, seed)
        folders[key] = made.rename(root / digest(made, (_CONFIG, _WEIGHTS))[:32])
    try:
        yield folders, Loaded(model, tokenizer)
    finally:
        torch.set_num_threads(before)


@contextmanager
def embedded_world(folders: Mapping[str, Path], base: str, says: Mapping[str, str], loaded: Any) -> Iterator[World]:
    """The real server with real weights: `folders` and `says` of the adapters a and b, trained on `loaded`."""
    source = Source(base)
    versions = []
    for version, key in enumerate("ab", 1):
        path = folders[key]
        ref = f"{PUBLIC}@v{version}"
        versions.append(Deployment(ref=ref, public=PUBLIC, digest=path.name, base_model=base, adapter=path))
        source.versions[ref] = path
    a, b = versions
    app = create_app(source, Pool(lambda name, progress: loaded), api_key=KEY, runtime_adapters=True)
    with running(app) as url:
        port = int(url.rpartition(":")[2])
        yield EmbeddedWorld(
            gateway=embedded.build(kit({}, port, KEY)),
            a=a,
            b=b,
            says={each.ref: says[key] for key, each in zip("ab", versions, strict=True)},
            misfit=replace(a, ref=f"{PUBLIC}@v3", adapter=a.adapter / "gone"),
            environ={},
            key=("FT_API_KEY", KEY),
            port=port,
            maker=None,
            source=source,
        )


__all__ = ["BASE", "HELLO", "PUBLIC", "Source", "World", "base_sentence", "deployment", "kit", "make_adapter"]
