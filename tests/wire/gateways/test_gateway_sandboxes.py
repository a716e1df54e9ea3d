"""The stand-ins are as strict as the servers are, and say what they say."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from finetune.sandbox.gateways.answers import KEY
from finetune.sandbox.gateways.llamacpp import LlamaCppSandbox
from finetune.sandbox.gateways.ollama import OllamaSandbox
from finetune.sandbox.gateways.sglang import SglangSandbox
from finetune.sandbox.gateways.vllm import VllmSandbox
from finetune.sandbox.server import Server
from tests.support.gateways import BASE, make_adapter, presets_file

MAKERS: dict[str, Callable[[Path], Any]] = {
    "vllm": lambda root: VllmSandbox(base=BASE),
    "sglang": lambda root: SglangSandbox(base=BASE),
    "llamacpp": lambda root: LlamaCppSandbox(presets=presets_file(root)),
    "ollama": lambda root: OllamaSandbox(bases={"llama3.2:1b": ("llama", BASE)}),
}
CHAT = {"model": "nobody", "messages": [{"role": "user", "content": "Hi"}]}


def client(server: Server, key: str | None = KEY) -> httpx.Client:
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    return httpx.Client(base_url=server.url, headers=headers, trust_env=False)


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize(
    "body",
    [
        {**CHAT, "top_logits": 1},
        {**CHAT, "messages": []},
        {**CHAT, "messages": "Hi"},
        {**CHAT, "messages": [{"role": "assistant", "content": "Hi"}]},
        {**CHAT, "messages": [{"role": "user", "text": "Hi"}]},
        {**CHAT, "max_tokens": "9"},
        {**CHAT, "max_tokens": True},
        {"messages": CHAT["messages"]},
        [],
        "no json",
    ],
)
def test_a_chat_has_its_fields_and_no_others(name: str, body: Any, tmp_path: Path) -> None:
    content = body if isinstance(body, str) else json.dumps(body)
    with Server(MAKERS[name](tmp_path)) as server, client(server) as calls:
        assert calls.post("/v1/chat/completions", content=content).status_code == 400
        assert server.broken == []


@pytest.mark.parametrize("name", MAKERS)
def test_a_name_that_is_not_there_is_not_answered(name: str, tmp_path: Path) -> None:
    asked = {**CHAT, "model": f"{BASE}:nobody"} if name == "sglang" else CHAT
    with Server(MAKERS[name](tmp_path)) as server, client(server) as calls:
        assert calls.post("/v1/chat/completions", json=asked).status_code in (400, 404)
        assert calls.get("/nowhere").status_code == 404


@pytest.mark.parametrize("name", sorted(MAKERS.keys() - {"ollama"}))
@pytest.mark.parametrize("key", [None, "sk-wrong", f"{KEY}x"])
def test_without_its_key_nothing_is_done(name: str, key: str | None, tmp_path: Path) -> None:
    with Server(MAKERS[name](tmp_path)) as server, client(server, key) as calls:
        assert calls.post("/v1/chat/completions", json=CHAT).status_code == 401


def test_what_vllm_says(tmp_path: Path) -> None:
    folder, high = make_adapter(tmp_path / "a", "a"), make_adapter(tmp_path / "b", "b", r=32)
    with Server(VllmSandbox(base=BASE)) as server, client(server) as calls:

        def load(name: str, path: Path) -> httpx.Response:
            return calls.post("/v1/load_lora_adapter", json={"lora_name": name, "lora_path": str(path)})

        def unload(name: str) -> httpx.Response:
            return calls.post("/v1/unload_lora_adapter", json={"lora_name": name})

        loaded = load("a", folder)
        assert (loaded.status_code, loaded.text) == (200, "Success: LoRA adapter 'a' added successfully.")
        assert loaded.headers["content-type"].startswith("text/plain")
        again = load("a", folder)
        assert again.status_code == 400
        assert again.json()["error"]["type"] == "InvalidUserInput"
        assert again.json()["error"]["message"].startswith("The lora adapter 'a' has already been loaded.")
        nothing = load("b", tmp_path / "no")
        assert nothing.status_code == 404
        assert "Loading lora b failed: No adapter found for <path>" in nothing.text
        assert "'LoRA rank 32 is greater than max_lora_rank 16.'" in load("b", high).json()["error"]["message"]
        assert load("b", high).status_code == 500
        assert calls.post("/v1/load_lora_adapter", json={"lora_name": "x"}).status_code == 400
        cards = calls.get("/v1/models").json()["data"]
        assert [(card["id"], card["root"], card["parent"]) for card in cards] == [
            (BASE, BASE, None),
            ("a", str(folder), BASE),
        ]
        assert unload("a").text == "Success: LoRA adapter 'a' removed successfully."
        gone = unload("a")
        assert (gone.status_code, gone.json()["error"]["message"]) == (404, "The lora adapter 'a' cannot be found.")


def test_what_vllm_makes_of_a_conversation(tmp_path: Path) -> None:
    asked = {"model": BASE, "messages": CHAT["messages"], "add_generation_prompt": True, "return_token_strs": True}
    with Server(VllmSandbox(base=BASE)) as server, client(server) as calls:
        said = calls.post("/tokenize", json=asked).json()
        assert said["tokens"] == list(b"<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n")
        assert said["count"] == len(said["tokens"]) == len(said["token_strs"])
        nobody = calls.post("/tokenize", json={**asked, "model": "nobody"})
        assert (nobody.status_code, "does not exist" in nobody.text) == (404, True)
        for odd in ({"messages": []}, {"messages": "Hi"}, {"content": "Hi"}, {"add_generation_prompt": 1}):
            assert calls.post("/tokenize", json={**asked, **odd}).status_code == 400
        calls.post("/v1/load_lora_adapter", json={"lora_name": "a", "lora_path": str(make_adapter(tmp_path, "a"))})
        assert calls.post("/tokenize", json={**asked, "model": "a"}).json() == said


def test_what_sglang_tells_of_itself() -> None:
    sandbox = SglangSandbox(base=BASE, max_rank=32)
    with Server(sandbox) as server, client(server) as calls:
        said = calls.get("/server_info").json()
        assert (said["max_lora_rank"], said["lora_target_modules"]) == (32, None)
        sandbox.targets = frozenset({"v_proj", "q_proj"})
        assert calls.get("/server_info").json()["lora_target_modules"] == ["q_proj", "v_proj"]
        # Its own tokenizer takes texts, not conversations; how many tokens one has is in the answer.
        assert calls.post("/tokenize", json=CHAT).status_code == 404
        answer = calls.post("/v1/chat/completions", json={**CHAT, "model": BASE}).json()
        assert answer["usage"]["prompt_tokens"] == len("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n")


def test_what_llama_server_makes_of_a_conversation(tmp_path: Path) -> None:
    sandbox = LlamaCppSandbox(presets=presets_file(tmp_path))
    sandbox.writes, sandbox.bos = lambda messages: f"<s>{messages[0]['content']}", "<s>"
    with Server(sandbox) as server, client(server) as calls:
        assert calls.post("/apply-template", json={**CHAT, "model": BASE}).json() == {"prompt": "Hi"}
        assert sandbox.running == {BASE}
        assert "not found" in calls.post("/apply-template", json=CHAT).json()["error"]["message"]
        for odd in ({"messages": []}, {"prompt": "Hi"}):
            assert calls.post("/apply-template", json={**CHAT, "model": BASE, **odd}).status_code == 400


def test_what_sglang_says(tmp_path: Path) -> None:
    folder = make_adapter(tmp_path / "a", "a")
    with Server(SglangSandbox(base=BASE)) as server, client(server) as calls:
        loaded = calls.post("/load_lora_adapter", json={"lora_name": "a", "lora_path": str(folder)})
        assert loaded.json() == {"success": True, "error_message": "", "loaded_adapters": {"a": str(folder)}}
        again = calls.post("/load_lora_adapter", json={"lora_name": "a", "lora_path": str(folder)})
        assert (again.status_code, again.json()["success"]) == (400, False)
        asked = {**CHAT, "model": f"{BASE}:b"}
        assert "not loaded: b" in calls.post("/v1/chat/completions", json=asked).json()["error"]["message"]
        gone = calls.post("/unload_lora_adapter", json={"lora_name": "b"})
        assert (gone.status_code, gone.json()["success"]) == (400, False)


def test_what_llama_server_says(tmp_path: Path) -> None:
    sandbox = LlamaCppSandbox(presets=presets_file(tmp_path))
    with Server(sandbox) as server, client(server) as calls, client(server, None) as stranger:
        assert calls.get("/props").json()["role"] == "router"
        assert stranger.get("/props").status_code == 401
        assert stranger.get("/models").status_code == 200
        assert [card["id"] for card in calls.get("/models").json()["data"]] == [BASE]
        with (tmp_path / "presets.ini").open("a") as file:
            file.write("\n[new]\nmodel = /no\n")
        assert [card["id"] for card in calls.get("/models").json()["data"]] == [BASE]
        cards = calls.get("/models", params={"reload": "1"}).json()["data"]
        assert [card["id"] for card in cards] == [BASE, "new"]
        assert "c = 2048" in cards[1]["status"]["preset"]
        failed = calls.post("/v1/chat/completions", json={**CHAT, "model": "new"})
        assert (failed.status_code, failed.json()["error"]["message"]) == (500, "model name=new failed to load")
        assert calls.get("/models").json()["data"][1]["status"]["failed"] is True
        assert calls.post("/models/unload", json={"model": "new"}).json()["error"]["message"] == "model is not running"
        assert calls.post("/models/unload", json={"model": "no"}).json()["error"]["message"] == "model is not found"
        assert calls.post("/v1/chat/completions", json=CHAT).json()["error"]["message"] == "model 'nobody' not found"


def test_llama_server_ends_over_an_option_that_there_is_not(tmp_path: Path) -> None:
    file = tmp_path / "presets.ini"
    file.write_text("[a]\nmodle = /x\n")
    with pytest.raises(ValueError, match="option 'modle' not recognized"):
        LlamaCppSandbox(presets=file)


def test_what_ollama_says(tmp_path: Path) -> None:
    content = b"weights"
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    sandbox = MAKERS["ollama"](tmp_path)
    with Server(sandbox) as server, client(server, None) as calls:
        assert calls.head(f"/api/blobs/{digest}").status_code == 404
        wrong = calls.post(f"/api/blobs/sha256:{'0' * 64}", content=content)
        assert (wrong.status_code, "digest mismatch" in wrong.text) == (400, True)
        assert calls.post(f"/api/blobs/{digest}", content=content).status_code == 201
        assert calls.head(f"/api/blobs/{digest}").status_code == 200
        base = {"model": "a", "from": "llama3.2:1b", "stream": False}
        nothing = calls.post("/api/create", json={**base, "adapters": {"x.safetensors": digest}})
        assert (nothing.status_code, nothing.json()["error"]) == (400, "no files provided to convert")
        absent = calls.post("/api/create", json={**base, "adapters": {"x": "sha256:1"}})
        assert absent.status_code == 400
        assert calls.post("/api/create", json={**base, "from": "nobody"}).status_code == 500
        assert calls.post("/api/create", json={**base, "modelfile": "FROM x"}).status_code == 400
        assert calls.post("/api/create", json=base).json() == {"status": "success"}
        assert [model["name"] for model in calls.get("/api/tags").json()["models"]] == ["llama3.2:1b", "a:latest"]
        assert calls.request("DELETE", "/api/delete", json={"model": "a"}).status_code == 200
        gone = calls.request("DELETE", "/api/delete", json={"model": "a"})
        assert (gone.status_code, gone.json()["error"]) == (404, "model 'a' not found")
        assert calls.post("/api/show", json={"model": "a"}).status_code == 404
