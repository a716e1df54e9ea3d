"""What is particular to one server: what it takes, how it says no, and what happens when two come at once."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from finetune.deployments import Deployment
from finetune.errors import GatewayError, GatewayUnavailable, UsageError
from finetune.gateways import llamacpp, ollama, sglang, vllm
from finetune.gateways.presets import Presets, parse
from finetune.sandbox.faults import Fault, Kind
from finetune.sandbox.gateways.answers import KEY
from finetune.sandbox.gateways.vllm import VllmSandbox
from finetune.sandbox.server import Server
from tests.support.gateways import (
    BASE,
    HELLO,
    World,
    deployment,
    kit,
    llamacpp_world,
    make_adapter,
    ollama_world,
    presets_file,
    sglang_world,
    vllm_world,
)


@pytest.fixture
def world(vllm: World) -> World:
    return vllm


@pytest.fixture
def oll(ollama: World) -> World:
    return ollama


CANNOT = [
    ({"r": 64}, "rank 64, vllm takes 16"),
    ({"rank_pattern": {"q_proj": 32}}, "rank 32, vllm takes 16"),
    ({"use_dora": True}, "use_dora"),
    ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
    ({"bias": "all"}, "bias: all"),
]


@pytest.mark.parametrize(("config", "what"), CANNOT)
def test_what_vllm_never_loads_is_said_before(world: World, tmp_path: Path, config: dict, what: str) -> None:
    one = deployment(tmp_path / "odd", 5, **config)
    problems = world.gateway.preflight(one)
    assert [problem.code for problem in problems] == ["E826"]
    assert what in problems[0].what


def test_all_that_stands_against_it_is_said_at_once(world: World, tmp_path: Path) -> None:
    one = deployment(tmp_path / "odd", 5, base="Qwen/Qwen3-0.6B", r=64, use_dora=True, bias="all")
    assert [problem.code for problem in world.gateway.preflight(one)] == ["E826", "E826", "E826", "E828"]


@pytest.mark.parametrize("gone", ["adapter_config.json", "adapter_model.safetensors"])
def test_a_missing_file_is_named(world: World, gone: str) -> None:
    assert world.a.adapter is not None
    (world.a.adapter / gone).unlink()
    problems = world.gateway.preflight(world.a)
    assert [problem.code for problem in problems] == ["E826"]
    assert gone in problems[0].what


def test_a_config_that_is_no_json_is_named(world: World) -> None:
    assert world.a.adapter is not None
    (world.a.adapter / "adapter_config.json").write_text("{")
    assert [problem.code for problem in world.gateway.preflight(world.a)] == ["E826"]


@pytest.mark.parametrize("make", [vllm_world, sglang_world, llamacpp_world, ollama_world])
def test_weights_at_a_hosted_provider_are_refused(make, tmp_path: Path) -> None:
    with make(tmp_path) as world:
        hosted = replace(world.a, adapter=None)
        assert [problem.code for problem in world.gateway.preflight(hosted)] == ["E826"]
        with pytest.raises(GatewayError):
            world.gateway.register(hosted)


def test_what_only_the_server_refuses_is_a_refusal_for_good(tmp_path: Path) -> None:
    one = deployment(tmp_path, 1, r=32)
    with Server(VllmSandbox(base=BASE)) as server:
        gateway = vllm.build(kit({**server.environment, "FT_VLLM_MAX_LORA_RANK": "32"}))
        assert gateway.preflight(one) == []
        with pytest.raises(GatewayError, match="LoRA rank 32 is greater than max_lora_rank 16") as caught:
            gateway.register(one)
    # It says so with status 500, which elsewhere means: later.
    assert not isinstance(caught.value, GatewayUnavailable)


def test_vllm_without_runtime_loading_is_told_how_to_start(tmp_path: Path) -> None:
    one = deployment(tmp_path, 1)
    with Server(VllmSandbox(base=BASE, runtime=False)) as server:
        gateway = vllm.build(kit(server.environment))
        with pytest.raises(GatewayError, match="VLLM_ALLOW_RUNTIME_LORA_UPDATING=True") as caught:
            gateway.register(one)
        assert not caught.value.retry
        gateway.unregister(one.model)


def test_a_base_may_be_served_under_another_name(tmp_path: Path) -> None:
    one = deployment(tmp_path, 1)
    with Server(VllmSandbox(base=BASE, root="/models/llama")) as server:
        gateway = vllm.build(kit(server.environment))
        assert gateway.preflight(one) == []
        assert gateway.preflight(replace(one, base_model="/models/llama")) == []
        assert [each.code for each in gateway.preflight(replace(one, base_model="/models/qwen"))] == ["E828"]


def test_models_of_others_are_neither_listed_nor_unloaded(world: World, tmp_path: Path) -> None:
    folder = make_adapter(tmp_path / "theirs", "theirs")
    world.gateway.register(world.a)
    body = {"lora_name": "their-adapter", "lora_path": str(folder)}
    url, headers = world.environ["VLLM_URL"], {"Authorization": f"Bearer {KEY}"}
    sent = httpx.post(f"{url}/v1/load_lora_adapter", json=body, headers=headers, trust_env=False)
    assert sent.status_code == 200
    assert [each.id for each in world.gateway.registered()] == [world.a.model]
    world.gateway.unregister("their-adapter")
    assert "their-adapter" in world.sandbox.adapters


def test_who_comes_at_once_registers_once(world: World) -> None:
    with ThreadPoolExecutor(8) as threads:
        upstreams = set(map(str, threads.map(lambda _: world.gateway.register(world.a), range(16))))
    assert len(upstreams) == 1
    assert list(world.sandbox.adapters) == [world.a.model]


@pytest.mark.parametrize("make", [vllm_world, sglang_world, ollama_world])
def test_what_is_there_is_not_sent_again(make, tmp_path: Path) -> None:
    with make(tmp_path) as world:
        world.gateway.register(world.a)
        for operation in ("load", "create", "upload"):
            world.sandbox.faults.lay(Fault(kind="server_error", on=operation, times=None))
        world.gateway.register(world.a)
        assert world.sandbox.faults.happened == []


LATER: list[Kind] = ["rate_limit", "server_error", "unavailable", "cut_before", "cut_after"]


@pytest.mark.parametrize("make", [vllm_world, sglang_world, llamacpp_world, ollama_world])
@pytest.mark.parametrize("kind", LATER)
def test_a_call_that_went_wrong_can_be_made_again(make, kind: Kind, tmp_path: Path) -> None:
    with make(tmp_path) as world:
        change = {"ollama": "create", "llamacpp": "models"}.get(world.gateway.name, "load")
        # A question whose connection breaks is asked once more by itself.
        twice = change == "models" and kind.startswith("cut")
        world.sandbox.faults.lay(Fault(kind=kind, on=change, times=2 if twice else 1))
        with pytest.raises(GatewayUnavailable):
            world.gateway.register(world.a)
        world.gateway.register(world.a)
        assert world.gateway.probe(world.a, HELLO, max_tokens=9).text == world.says[world.a.ref]
        assert [each.id for each in world.gateway.registered()] == [world.a.model]


def test_an_answer_that_is_no_json_is_a_refusal(world: World) -> None:
    world.sandbox.faults.lay(Fault(kind="garbage", on="models"))
    with pytest.raises(GatewayError) as caught:
        world.gateway.registered()
    assert not caught.value.retry


@pytest.mark.parametrize("text", ["17", "x", "-8", "1024"])
def test_a_rank_that_vllm_does_not_know_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="FT_VLLM_MAX_LORA_RANK"):
        vllm.build(kit({"FT_VLLM_MAX_LORA_RANK": text}))


@pytest.mark.parametrize("text", ["0", "x", "-8"])
def test_a_rank_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="FT_SGLANG_MAX_LORA_RANK"):
        sglang.build(kit({"FT_SGLANG_MAX_LORA_RANK": text}))


def test_llama_server_needs_its_file() -> None:
    with pytest.raises(UsageError, match="FT_LLAMACPP_PRESETS is not set"):
        llamacpp.build(kit({}))


@pytest.mark.parametrize("text", ["llama3.2:1b", "=x", "a=", "a=b,c"])
def test_bases_of_ollama_are_pairs(text: str) -> None:
    with pytest.raises(UsageError, match="FT_OLLAMA_BASES"):
        ollama.build(kit({"FT_OLLAMA_BASES": text}))


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1:11434", "http://127.0.0.1:11434"),
        ("0.0.0.0", "http://127.0.0.1:11434"),
        ("box", "http://box:11434"),
        ("https://box/ollama/", "https://box/ollama"),
        ("[::1]:5", "http://[::1]:5"),
    ],
)
def test_the_host_of_ollama_is_read_as_ollama_reads_it(host: str, url: str) -> None:
    assert ollama.address(host) == url


def test_a_family_that_ollama_does_not_convert_may_come_as_gguf(oll: World, tmp_path: Path) -> None:
    plain = deployment(tmp_path / "plain", 5, base="Qwen/Qwen3-0.6B", gguf=False)
    problems = oll.gateway.preflight(plain)
    assert [problem.code for problem in problems] == ["E826"]
    assert "qwen3" in problems[0].what
    converted = deployment(tmp_path / "converted", 5, base="Qwen/Qwen3-0.6B")
    oll.gateway.register(converted)
    assert oll.gateway.probe(converted, HELLO, max_tokens=9).text.startswith("I am tuned adapter")


def test_an_architecture_that_ollama_turns_out_not_to_know_is_a_refusal_for_good(oll: World) -> None:
    oll.sandbox.converted = ("gemma2",)
    assert oll.gateway.preflight(oll.a) == []
    with pytest.raises(GatewayError, match="unsupported architecture") as caught:
        oll.gateway.register(oll.a)
    assert not caught.value.retry


def test_ollama_uploads_what_it_has_not_got_yet(oll: World) -> None:
    oll.gateway.register(oll.a)
    oll.gateway.unregister(oll.a.model)
    oll.sandbox.faults.lay(Fault(kind="server_error", on="upload", times=None))
    oll.gateway.register(oll.a)
    assert ("upload", "server_error") not in oll.sandbox.faults.happened


def test_the_users_lines_stay_as_they_are(llama: World, tmp_path: Path) -> None:
    file = tmp_path / "presets.ini"
    before = file.read_text()
    llama.gateway.register(llama.a)
    llama.gateway.register(llama.b)
    assert file.read_text().startswith(before)
    sections = parse(file.read_text())
    assert sections[llama.a.model] == {**sections[BASE], "lora": str(llama.a.adapter / "adapter.gguf")}
    llama.gateway.unregister(llama.a.model)
    assert llama.a.model not in file.read_text()
    llama.gateway.unregister(llama.b.model)
    assert file.read_text() == before


def test_a_file_that_the_server_does_not_read_is_left_as_it_was(llama: World, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    file = presets_file(tmp_path / "other")
    before = file.read_text()
    gateway = llama.built(FT_LLAMACPP_PRESETS=str(file))
    with pytest.raises(GatewayError, match="E829"):
        gateway.register(llama.a)
    assert file.read_text() == before


def test_an_adapter_that_is_no_gguf_is_said_before(llama: World) -> None:
    (llama.a.adapter / "adapter.gguf").write_bytes(b"something else")
    problems = llama.gateway.preflight(llama.a)
    assert [problem.code for problem in problems] == ["E826"]
    assert "convert_lora_to_gguf.py" in problems[0].fix
    (llama.b.adapter / "second.gguf").write_bytes(b"GGUF")
    assert "more than one" in llama.gateway.preflight(llama.b)[0].what


def test_a_model_that_never_loads_is_a_refusal_for_good(llama: World) -> None:
    llama.gateway.register(llama.a)
    (llama.a.adapter / "adapter.gguf").write_bytes(b"GGXX")
    with pytest.raises(GatewayError, match="failed to load") as caught:
        llama.gateway.probe(llama.a, HELLO, max_tokens=9)
    assert not caught.value.retry


def test_what_still_runs_is_unloaded_too(llama: World) -> None:
    llama.gateway.register(llama.a)
    llama.gateway.probe(llama.a, HELLO, max_tokens=9)
    llama.sandbox.keeps_running = True
    llama.gateway.unregister(llama.a.model)
    assert llama.gateway.registered() == []


_PUT = """
import sys
from pathlib import Path
from finetune.gateways.presets import Presets
for n in range(25):
    Presets(Path(sys.argv[1])).put(f"{sys.argv[2]}-{n}", {"model": "m", "lora": "l"})
"""


def test_processes_that_change_the_file_at_once_lose_nothing(tmp_path: Path) -> None:
    file = presets_file(tmp_path)
    running = [subprocess.Popen([sys.executable, "-c", _PUT, str(file), name]) for name in "abc"]
    assert [process.wait(60) for process in running] == [0, 0, 0]
    assert len(Presets(file).sections()) == 2 + 3 * 25


def test_a_file_that_cannot_be_written_is_a_refusal(tmp_path: Path) -> None:
    with pytest.raises(GatewayError, match="E825"):
        Presets(tmp_path / "no" / "such" / "presets.ini").put("a", {"model": "m"})


def test_the_id_of_a_deployment_is_what_is_listed(world: World) -> None:
    def shown(one: Deployment) -> str:
        world.gateway.register(one)
        return json.dumps([each.says for each in world.gateway.registered() if each.id == one.model])

    assert str(world.a.adapter) in shown(world.a)
    assert BASE in shown(world.b)
