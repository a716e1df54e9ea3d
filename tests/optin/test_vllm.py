"""The gateway `vllm` against the real vLLM: `make test-vllm`. Not part of `make test`: it installs 3.4 GB.

The contract of all gateways, with weights that say sentences; then what the stand-in claims of the real one.
"""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from finetune.deployments import Deployment
from finetune.errors import GatewayError, GatewayUnavailable
from finetune.files import digest
from finetune.gateways import vllm
from finetune.sandbox.gateways.vllm import VllmSandbox
from finetune.sandbox.server import Server
from finetune.training.talks import TALKS, template_of
from tests.contract import test_gateways as contract
from tests.flow.serving.conftest import SAYS
from tests.support.gateways import HELLO, PUBLIC, World, kit, trained
from tests.support.vllm import KEY, VllmServer

BASE = "tiny/llama"
FILES = ("adapter_config.json", "adapter_model.safetensors")


@pytest.fixture(scope="session")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    """The base's folder, and those of two adapters, called by their digests. Heads of 32, which its kernels have."""
    root = tmp_path_factory.mktemp("vllm")
    with trained(root, hidden=128) as (folders, loaded):
        loaded.model.save_pretrained(root / "base")
        loaded.tokenizer.save_pretrained(root / "base")
        yield {**folders, "base": root / "base"}


@pytest.fixture(scope="session")
def server(adapters: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[VllmServer]:
    with VllmServer(adapters["base"], BASE, tmp_path_factory.mktemp("log") / "vllm.log") as server:
        yield server


def version(number: int, folder: Path) -> Deployment:
    ref, name = f"{PUBLIC}@v{number}", digest(folder, FILES)
    return Deployment(ref=ref, public=PUBLIC, digest=name, base_model=BASE, adapter=folder)


def changed(folder: Path, to: Path, **config: Any) -> Path:
    """A copy of the adapter whose config says something else."""
    shutil.copytree(folder, to)
    said = json.loads((to / FILES[0]).read_text())
    (to / FILES[0]).write_text(json.dumps({**said, **config}))
    return to


@pytest.fixture
def kind() -> str:
    return "vllm"


@pytest.fixture
def world(server: VllmServer, adapters: dict[str, Path], tmp_path: Path) -> Iterator[World]:
    environ = {"VLLM_URL": server.url, "VLLM_API_KEY": KEY}
    gateway = vllm.build(kit(environ))
    a, b = version(1, adapters["a"]), version(2, adapters["b"])
    yield World(
        gateway=gateway,
        a=a,
        b=b,
        says={a.ref: SAYS["a"], b.ref: SAYS["b"]},
        misfit=version(3, changed(adapters["a"], tmp_path / "misfit", r=64)),
        environ=environ,
        key=("VLLM_API_KEY", KEY),
        maker=vllm.build,
    )
    for each in gateway.registered():
        gateway.unregister(each.id)


globals().update(
    {
        name: test
        for name, test in vars(contract).items()
        if name.startswith("test_") and "vllm" in getattr(test, "kinds", ["vllm"])
    }
)


@pytest.mark.parametrize(
    "config", [{"r": 32}, {"use_dora": True}, {"modules_to_save": ["lm_head"]}, {"bias": "all"}], ids=str
)
def test_what_only_the_server_refuses_is_a_refusal_for_good(world: World, tmp_path: Path, config: Any) -> None:
    assert world.a.adapter is not None
    odd = version(4, changed(world.a.adapter, tmp_path / "odd", **config))
    assert [problem.code for problem in world.gateway.preflight(odd)] == ["E826"]
    # Sent all the same, as another client would.
    sent = _post(world.environ["VLLM_URL"], "/v1/load_lora_adapter", lora_name=odd.model, lora_path=str(odd.adapter))
    assert sent.status_code == 500
    if "r" in config:
        bold = vllm.build(kit({**world.environ, "FT_VLLM_MAX_LORA_RANK": "32"}))
        with pytest.raises(GatewayError, match="LoRA rank 32 is greater than max_lora_rank 16") as caught:
            bold.register(odd)
        assert not isinstance(caught.value, GatewayUnavailable)


def test_it_takes_an_adapter_of_another_base_and_we_do_not(world: World) -> None:
    alien = replace(world.a, base_model="someone/else")
    assert [problem.code for problem in world.gateway.preflight(alien)] == ["E828"]
    with pytest.raises(GatewayError, match="E828"):
        world.gateway.register(alien)


def test_its_template_is_compared_as_the_base_and_as_an_adapter(
    world: World, adapters: dict[str, Path], tmp_path: Path
) -> None:
    same = template_of(str(adapters["base"]), cache=tmp_path / "cache")
    assert len(same.chats) == len(TALKS)
    one = replace(world.a, template=lambda: same)
    assert world.gateway.preflight(one) == []
    world.gateway.register(one)
    assert world.gateway.preflight(one) == []
    shutil.copytree(adapters["base"], tmp_path / "other")
    file = tmp_path / "other" / "chat_template.jinja"
    file.write_text(file.read_text().replace("assistant", "model"))
    other = template_of(str(tmp_path / "other"), cache=tmp_path / "cache")
    for deployment in (world.a, world.b):
        (problem,) = world.gateway.preflight(replace(deployment, template=lambda: other))
        assert (problem.code, problem.level) == ("E841", "error")
        # Both vocabularies are the same, and so are the words for their tokens.
        assert "'m' (" in problem.what
        assert "'a' (" in problem.what


def test_an_adapters_own_template_changes_nothing(world: World, adapters: dict[str, Path], tmp_path: Path) -> None:
    """All adapters are asked by the base's template, so that is what has to be compared."""
    assert world.a.adapter is not None
    folder = changed(world.a.adapter, tmp_path / "own")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(adapters["base"] / name, folder / name)
    (folder / "chat_template.jinja").write_text("{% for m in messages %}{{ m.content }}{% endfor %}")
    own = version(5, folder)
    world.gateway.register(own)
    body = {"messages": HELLO, "add_generation_prompt": True}
    said = [_post(world.environ["VLLM_URL"], "/tokenize", model=name, **body).json() for name in (BASE, own.model)]
    assert said[0]["tokens"] == said[1]["tokens"]


def test_the_stand_in_makes_of_a_conversation_what_vllm_makes(world: World, adapters: dict[str, Path]) -> None:
    from transformers import AutoTokenizer

    own = AutoTokenizer.from_pretrained(adapters["base"])
    url, odd = world.environ["VLLM_URL"], {"model": "nobody", "messages": HELLO}
    with Server(VllmSandbox(base=BASE, key=KEY, root=str(adapters["base"]))) as double:
        double.sandbox.writes = lambda messages: own.apply_chat_template(
            [dict(each) for each in messages], tokenize=False, add_generation_prompt=True
        )
        double.sandbox.splits = lambda text: own(text, add_special_tokens=False)["input_ids"]
        for strings in (True, False):
            body = {"model": BASE, "messages": HELLO, "add_generation_prompt": True, "return_token_strs": strings}
            real, ours = (_post(each, "/tokenize", **body).json() for each in (url, double.url))
            assert real.keys() == ours.keys()
            assert (real["tokens"], real["count"]) == (ours["tokens"], ours["count"])
            assert (real["token_strs"] is None) == (ours["token_strs"] is None) == (not strings)
        assert _said(_post(double.url, "/tokenize", **odd)) == _said(_post(url, "/tokenize", **odd))


def _post(url: str, path: str, **body: Any) -> httpx.Response:
    headers = {"Authorization": f"Bearer {KEY}"}
    return httpx.post(url + path, json=body, headers=headers, timeout=60, trust_env=False)


def test_the_stand_in_says_what_vllm_says(world: World, adapters: dict[str, Path], tmp_path: Path) -> None:
    """Status and words of each call, in order, at both."""
    folder, none = str(adapters["a"]), str(tmp_path / "none")
    wide = str(changed(adapters["a"], tmp_path / "wide", r=32))
    dora = str(changed(adapters["a"], tmp_path / "dora", use_dora=True))
    biased = str(changed(adapters["a"], tmp_path / "biased", bias="all"))
    load, unload, chat = "/v1/load_lora_adapter", "/v1/unload_lora_adapter", "/v1/chat/completions"
    calls: list[tuple[str, dict[str, Any]]] = [
        (load, {"lora_name": "one", "lora_path": folder}),
        (load, {"lora_name": "one", "lora_path": folder}),
        (load, {"lora_name": "two", "lora_path": none}),
        (load, {"lora_name": "two", "lora_path": wide}),
        (load, {"lora_name": "two", "lora_path": dora}),
        (load, {"lora_name": "two", "lora_path": biased}),
        (chat, {"model": "nobody", "messages": HELLO}),
        (unload, {"lora_name": "nobody"}),
        (unload, {"lora_name": "one"}),
        (unload, {"lora_name": "one"}),
        (chat, {"model": "one", "messages": HELLO}),
    ]
    url = world.environ["VLLM_URL"]
    with Server(VllmSandbox(base=BASE, key=KEY, root=str(adapters["base"]))) as double:
        for path, body in calls:
            real, ours = _post(url, path, **body), _post(double.url, path, **body)
            assert _said(ours) == _said(real)
            assert _cards(double.url) == _cards(url)
        denied = [httpx.get(f"{each}/v1/models", trust_env=False) for each in (url, double.url)]
        assert [(each.status_code, each.json()) for each in denied] == [(401, {"error": "Unauthorized"})] * 2


def _cards(url: str) -> list[Any]:
    listed = httpx.get(f"{url}/v1/models", headers={"Authorization": f"Bearer {KEY}"}, trust_env=False).json()["data"]
    return [[card[key] for key in ("id", "object", "owned_by", "root", "parent")] for card in listed]


def _said(answer: httpx.Response) -> tuple[int, Any]:
    """Status, and the error or the text."""
    return answer.status_code, answer.text if answer.is_success else answer.json()["error"]
