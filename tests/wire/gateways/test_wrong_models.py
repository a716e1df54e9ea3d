"""Servers that answer 200 with the wrong model, each as it was seen, and what shows it."""

import shutil
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from finetune.deployments import Deployment, Said, Upstream
from finetune.errors import GatewayError, GatewayUnavailable
from finetune.gateways import llamacpp, sglang
from finetune.sandbox.gateways.answers import KEY, base_sentence
from finetune.sandbox.gateways.llamacpp import LlamaCppSandbox
from finetune.sandbox.gateways.sglang import SglangSandbox
from finetune.sandbox.server import Server
from tests.support.gateways import (
    BASE,
    HELLO,
    World,
    deployment,
    kit,
    make_adapter,
    presets_file,
)


def probed(world: World, what: Deployment) -> Said:
    return world.gateway.probe(what, HELLO, max_tokens=40)


def refused(world: World, what: Deployment, code: str) -> GatewayError:
    """The error with which registering is refused for good, all its problems of this code."""
    with pytest.raises(GatewayError) as caught:
        world.gateway.register(what)
    assert not caught.value.retry
    assert {problem.code for problem in caught.value.problems} == {code}
    return caught.value


def raw(upstream: Upstream, model: str) -> str:
    """What the server says to a name, asked past the gateway."""
    body = {"model": model, "messages": HELLO}
    headers = {"Authorization": f"Bearer {KEY}"}
    answer = httpx.post(f"{upstream.api_base}/chat/completions", json=body, headers=headers, trust_env=False)
    return str(answer.json()["choices"][0]["message"]["content"])


def test_a_fallback_that_answers_as_the_base_is_seen_by_who_answered(vllm: World) -> None:
    vllm.gateway.register(vllm.a)
    vllm.sandbox.traps.fallback = True
    said = probed(vllm, vllm.a)
    assert (said.answered_by, said.expected) == (BASE, vllm.a.model)


def test_a_fallback_that_lies_is_seen_by_what_it_says(vllm: World) -> None:
    vllm.gateway.register(vllm.a)
    vllm.sandbox.traps.lying_fallback = True
    said = probed(vllm, vllm.a)
    assert said.answered_by == said.expected
    assert said.text == vllm.gateway.probe_base(vllm.a, HELLO, max_tokens=40).text
    assert said.text != vllm.says[vllm.a.ref]


def test_sglang_answers_a_bare_name_as_the_base_so_ours_has_the_base_before_it(sgl: World) -> None:
    upstream = sgl.gateway.register(sgl.a)
    assert raw(upstream, sgl.a.model) == base_sentence(BASE)
    assert upstream.model == f"{BASE}:{sgl.a.model}"
    assert raw(upstream, upstream.model) == sgl.says[sgl.a.ref]
    assert sgl.sandbox.asked[-1] == upstream.model
    assert probed(sgl, sgl.a).expected == upstream.model


def test_llama_server_with_one_model_ignores_names_and_is_refused(tmp_path: Path) -> None:
    sandbox = LlamaCppSandbox(presets=presets_file(tmp_path), single=BASE)
    one = deployment(tmp_path, 1)
    before = (tmp_path / "presets.ini").read_text()
    with Server(sandbox) as server:
        gateway = llamacpp.build(kit(server.environment))
        assert raw(Upstream(kind="", model="", api_base=f"{server.url}/v1"), "any-name") == base_sentence(BASE)
        assert [problem.code for problem in gateway.preflight(one)] == ["E828"]
        for call in (
            lambda: gateway.register(one),
            lambda: gateway.probe(one, HELLO, max_tokens=40),
            lambda: gateway.probe_base(one, HELLO, max_tokens=40),
            lambda: gateway.unregister(one.model),
        ):
            with pytest.raises(GatewayError, match="E828: llama-server runs with a single model"):
                call()
    assert (tmp_path / "presets.ini").read_text() == before


@pytest.mark.parametrize("name", ["vllm", "sgl"])
def test_an_adapter_of_another_base_is_not_sent(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    world: World = request.getfixturevalue(name)
    alien = deployment(tmp_path / "alien", 7, base="Qwen/Qwen3-0.6B")
    upstream = world.gateway.register(world.a)
    # The server itself takes it, and answers nonsense.
    load = {"vllm": "/v1/load_lora_adapter", "sgl": "/load_lora_adapter"}[name]
    url = str(upstream.api_base).removesuffix("/v1")
    body = {"lora_name": "alien", "lora_path": str(alien.adapter)}
    sent = httpx.post(url + load, json=body, headers={"Authorization": f"Bearer {KEY}"}, trust_env=False)
    assert sent.status_code == 200
    assert raw(upstream, f"{BASE}:alien" if name == "sgl" else "alien").startswith(".")
    # Through the gateway it never gets there.
    error = refused(world, alien, "E828")
    assert BASE in str(error)
    assert "Qwen/Qwen3-0.6B" in str(error)
    assert alien.model not in world.sandbox.adapters


def test_llama_server_gets_no_adapter_whose_base_has_no_section(llama: World, tmp_path: Path) -> None:
    alien = deployment(tmp_path / "alien", 7, base="Qwen/Qwen3-0.6B")
    assert "[Qwen/Qwen3-0.6B]" in refused(llama, alien, "E828").problems[0].fix


def test_ollama_gets_no_adapter_whose_base_it_does_not_have(ollama: World, tmp_path: Path) -> None:
    unnamed = deployment(tmp_path / "alien", 7, base="google/gemma-2-2b-it", gguf=False)
    assert "FT_OLLAMA_BASES=google/gemma-2-2b-it=NAME" in refused(ollama, unnamed, "E828").problems[0].fix
    absent = ollama.built(FT_OLLAMA_BASES="google/gemma-2-2b-it=gemma2:2b")
    problems = absent.preflight(unnamed)
    assert [(problem.code, problem.fix) for problem in problems] == [("E828", "`ollama pull gemma2:2b`")]


def test_ollama_says_success_and_has_nothing(ollama: World) -> None:
    ollama.sandbox.create_forgets = True
    assert "does not list it" in str(refused(ollama, ollama.a, "E829"))


def test_the_newest_ollama_takes_no_adapters(ollama: World) -> None:
    ollama.sandbox.adapters_dropped = True
    error = refused(ollama, ollama.a, "E821")
    assert "LoRA adapters are no longer supported" in str(error)
    assert "llamacpp" in error.problems[0].fix


@pytest.mark.parametrize("name", ["vllm", "sgl"])
def test_a_load_that_is_said_and_not_done(name: str, request: pytest.FixtureRequest) -> None:
    world: World = request.getfixturevalue(name)
    world.sandbox.traps.load_forgets = True
    refused(world, world.a, "E829")


@pytest.mark.parametrize("name", ["vllm", "sgl"])
def test_an_unload_that_is_said_and_not_done(name: str, request: pytest.FixtureRequest) -> None:
    world: World = request.getfixturevalue(name)
    world.gateway.register(world.a)
    world.sandbox.traps.unload_keeps = True
    with pytest.raises(GatewayError, match=r"E829.*still lists"):
        world.gateway.unregister(world.a.model)


def test_a_delete_that_is_said_and_not_done(ollama: World) -> None:
    ollama.gateway.register(ollama.a)
    ollama.sandbox.delete_keeps = True
    with pytest.raises(GatewayError, match=r"E829.*still lists"):
        ollama.gateway.unregister(ollama.a.model)


def test_an_old_sglang_that_lists_no_adapters_is_refused(tmp_path: Path) -> None:
    one = deployment(tmp_path, 1)
    with Server(SglangSandbox(base=BASE, lists=False)) as server:
        gateway = sglang.build(kit(server.environment))
        with pytest.raises(GatewayError, match="use a newer SGLang"):
            gateway.register(one)


@pytest.mark.parametrize("name", ["vllm", "sgl"])
def test_a_restart_forgets_which_is_seen_and_mended(name: str, request: pytest.FixtureRequest) -> None:
    world: World = request.getfixturevalue(name)
    world.gateway.register(world.a)
    world.sandbox.restart()
    assert world.gateway.registered() == []
    with pytest.raises(GatewayError, match="forgotten at a restart"):
        probed(world, world.a)
    world.gateway.register(world.a)
    assert probed(world, world.a).text == world.says[world.a.ref]


def test_llama_server_and_ollama_remember(llama: World, tmp_path: Path) -> None:
    llama.gateway.register(llama.a)
    llama.sandbox.restart()
    assert [each.id for each in llama.gateway.registered()] == [llama.a.model]
    assert probed(llama, llama.a).text == llama.says[llama.a.ref]


def test_a_folder_that_went_after_loading_ends_vllm_which_is_no_refusal(vllm: World) -> None:
    vllm.gateway.register(vllm.a)
    vllm.gateway.register(vllm.b)
    shutil.rmtree(vllm.a.adapter)
    assert probed(vllm, vllm.a).text == vllm.says[vllm.a.ref]
    vllm.sandbox.evict()
    for each in (vllm.a, vllm.b):
        with pytest.raises(GatewayUnavailable):
            probed(vllm, each)


def test_weights_that_were_overwritten_in_place_are_answered_stale_so_names_hold_the_content(vllm: World) -> None:
    vllm.gateway.register(vllm.a)
    make_adapter(vllm.a.adapter, "new weights")
    assert probed(vllm, vllm.a).text == vllm.says[vllm.a.ref]
    # The same name loaded again has the old weights still.
    vllm.gateway.unregister(vllm.a.model)
    vllm.gateway.register(vllm.a)
    assert probed(vllm, vllm.a).text == vllm.says[vllm.a.ref]
    # A new content has a new name, and with it new weights.
    new = replace(vllm.a, digest="e" * 64)
    vllm.gateway.register(new)
    assert probed(vllm, new).text not in vllm.says.values()
