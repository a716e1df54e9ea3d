"""The real server on a loopback port, asked with OpenAI's own client."""

import copy
import http.client
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import openai
import pytest

from finetune.errors import NotFound, Problem
from finetune.ports import Served
from finetune.serving.pool import Pool
from finetune.serving.run import running
from finetune.serving.server import create_app
from tests.flow.serving.conftest import BASE, HELLO, SAYS, Loaded

NOW = datetime(2026, 11, 1, tzinfo=UTC)
KEY = "sk-test-Ω"
A, B = "support-bot@v1", "support-bot@v2"
LIVE = "support-bot@production"
LOOPBACK = ["127.0.0.1", "localhost", "[::1]", "::1"]


class Source:
    """A registry whose alias can be moved."""

    def __init__(self, folders: dict[str, Path]) -> None:
        self.live = A
        self._folders = {A: folders["a"], B: folders["b"]}

    def served(self) -> list[Served]:
        tuned = [
            Served(
                id=name, base_model=BASE, adapter=folder, created_at=NOW, aliases=(LIVE,) if name == self.live else ()
            )
            for name, folder in self._folders.items()
        ]
        return [Served(id=BASE, base_model=BASE, adapter=None, created_at=NOW), *tuned]

    def resolve(self, name: str) -> Served:
        for model in self.served():
            if name in (model.id, *model.aliases):
                return model
        raise NotFound(Problem(code="E700", what=f"no model {name}"))


class Service:
    def __init__(self, url: str, source: Source, pool: Pool, key: str) -> None:
        self.url, self.source, self.pool = url, source, pool
        self.client = openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0, timeout=60)

    def ask(self, model: str, messages: Any = HELLO, **fields: Any) -> Any:
        return self.client.chat.completions.create(
            model=model, messages=messages, **{"temperature": 0, "max_tokens": 40, **fields}
        )

    def say(self, model: str, **fields: Any) -> str:
        return self.ask(model, **fields).choices[0].message.content

    def raw(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, str]:
        place = urlsplit(self.url)
        connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=60)
        try:
            data = json.dumps(body) if not isinstance(body, str | bytes | None) else body
            sent = {"content-type": "application/json", **{k.replace("_", "-"): v for k, v in headers.items()}}
            connection.request(method, path, data, sent)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def error(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        status, text = self.raw(method, path, body, **headers)
        made = json.loads(text)["error"]
        assert set(made) == {"message", "type", "param", "code"}
        return status, made

    @property
    def under_way(self) -> int:
        return self.pool.engine(BASE).under_way  # type: ignore[attr-defined]

    def wait_until_idle(self) -> None:
        pause = threading.Event()
        for _ in range(500):
            if self.under_way == 0:
                return
            pause.wait(0.02)
        raise AssertionError("an answer goes on that nobody waits for")


@contextmanager
def service(loaded: Loaded, folders: dict[str, Path], **options: Any) -> Iterator[Service]:
    source = Source(folders)
    pool = Pool(lambda base, progress: loaded)
    app = create_app(source, pool, **{"api_key": None, "runtime_adapters": True, **options})
    with running(app) as url:
        yield Service(url, source, pool, options.get("api_key") or "unused")


@pytest.fixture(scope="module")
def shared(base_model: Any, tokenizer: Any, folders: dict[str, Path]) -> Iterator[Service]:
    with service(Loaded(copy.deepcopy(base_model), tokenizer), folders) as made:
        yield made
        made.wait_until_idle()


@pytest.fixture
def server(shared: Service) -> Service:
    shared.source.live = A
    return shared


def test_the_right_model_answers_and_says_who_it_is(server: Service) -> None:
    assert server.say(A) == SAYS["a"]
    assert server.say(B) == SAYS["b"]
    base = server.say(BASE)
    assert not any(sentence in base for sentence in SAYS.values())
    answer = server.client.chat.completions.with_raw_response.create(
        model=LIVE, messages=HELLO, temperature=0, max_tokens=40
    )
    assert answer.headers["x-ft-model"] == A
    assert answer.headers["x-ft-requested-model"] == LIVE
    completion = answer.parse()
    assert (completion.model, completion.object, completion.choices[0].finish_reason) == (A, "chat.completion", "stop")
    assert completion.usage is not None
    assert completion.usage.completion_tokens == len(SAYS["a"]) + 1
    assert completion.usage.total_tokens == completion.usage.prompt_tokens + completion.usage.completion_tokens


def test_eight_threads_each_get_the_model_they_asked_for(server: Service) -> None:
    base = server.say(BASE)
    says = {A: SAYS["a"], B: SAYS["b"], LIVE: SAYS["a"], BASE: base}
    asked = [*says] * 6

    def streamed(name: str) -> str:
        return "".join(c.choices[0].delta.content or "" for c in server.ask(name, stream=True) if c.choices)

    def either(at: int) -> str:
        return streamed(asked[at]) if at % 3 else server.say(asked[at])

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(either, range(len(asked))))
    assert answers == [says[name] for name in asked]


def test_a_promotion_is_live_at_the_next_request(server: Service) -> None:
    assert server.say(LIVE) == SAYS["a"]
    server.source.live = B
    assert server.ask(LIVE).model == B
    assert server.say(LIVE) == SAYS["b"]
    server.source.live = A
    assert server.say(LIVE) == SAYS["a"]


@pytest.mark.parametrize("fields", [{}, {"temperature": 1.3, "seed": 11}, {"stop": "adapter"}])
@pytest.mark.parametrize("model", [A, BASE])
def test_a_stream_is_the_same_answer_in_pieces(server: Service, model: str, fields: dict[str, Any]) -> None:
    whole = server.ask(model, **fields)
    chunks = list(server.ask(model, stream=True, stream_options={"include_usage": True}, **fields))
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == whole.choices[0].message.content
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == whole.choices[0].finish_reason
    assert chunks[-1].usage == whole.usage
    assert {c.model for c in chunks} == {model}
    assert {c.object for c in chunks} == {"chat.completion.chunk"}
    assert len({c.id for c in chunks}) == 1


def test_the_wire_of_a_stream(server: Service) -> None:
    body = {"model": A, "messages": HELLO, "temperature": 0, "stream": True}
    status, text = server.raw("POST", "/v1/chat/completions", body)
    events = text.split("\n\n")
    assert (status, events[-2:]) == (200, ["data: [DONE]", ""])
    assert all(event.startswith("data: {") for event in events[:-2])
    assert "usage" not in text


def test_a_seed_repeats_and_another_does_not(server: Service) -> None:
    once = server.say(BASE, temperature=1.5, seed=5)
    assert server.say(BASE, temperature=1.5, seed=5) == once
    assert server.say(BASE, temperature=1.5, seed=6) != once


def test_models_are_listed_and_shown(server: Service, folders: dict[str, Path]) -> None:
    cards = {card.id: card.model_dump(exclude_unset=True) for card in server.client.models.list()}
    assert list(cards) == [BASE, A, LIVE, B]
    created = int(NOW.timestamp())
    common = {"object": "model", "created": created, "owned_by": "ft"}
    assert cards[BASE] == {"id": BASE, "root": BASE, "parent": None, **common}
    assert cards[B] == {"id": B, "root": str(folders["b"]), "parent": BASE, **common}
    assert cards[LIVE] == {"id": LIVE, "root": A, "parent": BASE, **common}
    for name, card in cards.items():
        assert server.client.models.retrieve(name).model_dump(exclude_unset=True) == card
    with pytest.raises(openai.NotFoundError):
        server.client.models.retrieve("org/nobody")


def test_an_unknown_model_is_a_404_that_helps(server: Service) -> None:
    for stream in (False, True):
        with pytest.raises(openai.NotFoundError) as caught:
            server.ask("support-bot@prodution", stream=stream)
        assert caught.value.code == "model_not_found"
        assert f"Did you mean {LIVE}?" in caught.value.message
        assert BASE in caught.value.message


def test_bad_requests_in_openais_form(server: Service) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        server.ask(A, temperature="hot")
    assert (caught.value.param, caught.value.code) == ("temperature", "invalid_value")
    with pytest.raises(openai.BadRequestError) as caught:
        server.ask(A, tools=[{"type": "function", "function": {"name": "f"}}])
    assert (caught.value.param, caught.value.code) == ("tools", "unsupported_parameter")
    with pytest.raises(openai.BadRequestError) as caught:
        server.ask(A, messages=[{"role": "user", "content": "long " * 200}], stream=True)
    assert (caught.value.param, caught.value.code) == ("messages", "context_length_exceeded")
    for broken in ("{", "", "[1]", b"\xff\xfe", "[" * 100_000):
        status, error = server.error("POST", "/v1/chat/completions", broken)
        assert (status, error["type"]) == (400, "invalid_request_error")
    assert server.error("GET", "/v1/nothing")[0] == 404
    assert server.error("GET", "/v1/chat/completions")[0] == 405


def test_adapters_come_and_go_by_vllms_calls(server: Service, folders: dict[str, Path], tmp_path: Path) -> None:
    def load(**body: Any) -> tuple[int, str]:
        return server.raw("POST", "/v1/load_lora_adapter", body)

    def unload(**body: Any) -> tuple[int, str]:
        return server.raw("POST", "/v1/unload_lora_adapter", body)

    path = str(folders["b"])
    # The test's adapters do not say what they were trained on.
    status, text = load(lora_name="late", lora_path=path)
    assert (status, json.loads(text)["error"]["param"]) == (400, "base_model")
    wanted = {"lora_name": "late", "lora_path": path, "base_model": BASE}
    assert load(**wanted) == (200, "Success: LoRA adapter 'late' added successfully.")
    assert server.say("late") == SAYS["b"]
    card = server.client.models.retrieve("late").model_dump()
    assert (card["root"], card["parent"]) == (path, BASE)
    status, text = load(**wanted)
    error = json.loads(text)["error"]
    assert (status, error["type"], error["code"]) == (400, "InvalidUserInput", 400)
    assert error["message"].startswith("The lora adapter 'late' has already been loaded.")
    assert load(**{**wanted, "lora_name": A})[0] == 400
    assert unload(lora_name="late") == (200, "Success: LoRA adapter 'late' removed successfully.")
    assert "late" not in server.pool.engine(BASE).adapters  # type: ignore[attr-defined]
    with pytest.raises(openai.NotFoundError):
        server.say("late")
    # The name is free again, and another model may have it.
    assert load(**{**wanted, "lora_path": str(folders["a"])})[0] == 200
    assert server.say("late") == SAYS["a"]
    assert unload(lora_name="late")[0] == 200
    status, text = unload(lora_name="late")
    assert status == 404
    assert json.loads(text)["error"]["message"] == "The lora adapter 'late' cannot be found."
    assert unload(lora_name=A)[0] == 404
    assert server.say(A) == SAYS["a"]


def test_adapter_calls_that_are_refused(server: Service, folders: dict[str, Path], tmp_path: Path) -> None:
    status, error = server.error("POST", "/v1/load_lora_adapter", {"lora_name": "x"})
    assert (status, error["message"]) == (400, "Both 'lora_name' and 'lora_path' must be provided.")
    assert server.error("POST", "/v1/unload_lora_adapter", {})[0] == 400
    nowhere = {"lora_name": "x", "lora_path": str(tmp_path)}
    for body in (nowhere, {**nowhere, "base_model": BASE}):
        status, error = server.error("POST", "/v1/load_lora_adapter", body)
        assert (status, error["type"]) == (404, "NotFoundError")
        assert error["message"] == f"Loading lora x failed: No adapter found for {tmp_path}"
    status, error = server.error("POST", "/v1/load_lora_adapter", {"lora_name": 3, "lora_path": "/x"})
    assert (status, error["param"]) == (400, "lora_name")
    misfit = tmp_path / "misfit"
    misfit.mkdir()
    for file in folders["a"].iterdir():
        (misfit / file.name).write_bytes(file.read_bytes())
    config = json.loads((misfit / "adapter_config.json").read_text())
    (misfit / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": "other/base"}))
    body = {"lora_name": "x", "lora_path": str(misfit), "base_model": BASE}
    status, error = server.error("POST", "/v1/load_lora_adapter", body)
    assert (status, "other/base" in error["message"]) == (400, True)
    # What a web page may send to a loopback server without asking.
    plain = server.error("POST", "/v1/load_lora_adapter", json.dumps(body), content_type="text/plain")
    assert plain[0] == 400
    assert "x" not in {card.id for card in server.client.models.list()}


def test_a_client_that_leaves_ends_its_stream(server: Service) -> None:
    stream = server.ask(BASE, max_tokens=None, stream=True, temperature=1.5, seed=1, stop=["never said"])
    next(iter(stream))
    stream.close()
    server.wait_until_idle()


class Slow:
    """A generation that waits until it is told to go on, and notes that it was closed."""

    prompt_tokens = completion_tokens = 1
    finish_reason = None

    def __init__(self) -> None:
        self.asked, self.go_on, self.closed = threading.Event(), threading.Event(), threading.Event()

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        self.asked.set()
        self.go_on.wait(30)
        return "x"

    def close(self) -> None:
        self.closed.set()


class SlowPool(Pool):
    def __init__(self) -> None:
        super().__init__(lambda base, progress: None)  # type: ignore[arg-type,return-value]
        self.made = Slow()

    def generate(self, served: Served, ask: Any) -> Any:
        return self.made


@pytest.mark.parametrize("stream", [False, True])
def test_others_are_answered_meanwhile_and_a_client_that_leaves_is_noticed(
    folders: dict[str, Path], stream: bool
) -> None:
    pool = SlowPool()
    with running(create_app(Source(folders), pool, api_key=None)) as url:
        server = Service(url, Source(folders), pool, "unused")
        place = urlsplit(url)
        asking = http.client.HTTPConnection(place.hostname or "", place.port, timeout=60)
        body = json.dumps({"model": A, "messages": HELLO, "stream": stream})
        asking.request("POST", "/v1/chat/completions", body)
        assert pool.made.asked.wait(30)
        # The one token of the one answer is not done, and the server answers all the same.
        assert server.raw("GET", "/health") == (200, '{"status":"ok"}')
        assert server.raw("GET", "/v1/models")[0] == 200
        assert not pool.made.closed.is_set()
        asking.close()
        pool.made.go_on.set()
        assert pool.made.closed.wait(30)


def test_failures_are_500_without_a_traceback(folders: dict[str, Path], caplog: pytest.LogCaptureFixture) -> None:
    def fails(base: str, progress: Any) -> Any:
        raise OSError("no such file: weights")

    class Breaks(Pool):
        def generate(self, served: Served, ask: Any) -> Any:
            raise ZeroDivisionError("secret detail")

    with running(create_app(Source(folders), Pool(fails), api_key=None)) as url:
        server = Service(url, Source(folders), Pool(fails), "unused")
        with pytest.raises(openai.InternalServerError) as caught:
            server.ask(A)
        assert "such file: weights" in caught.value.message
        assert "Traceback" not in caught.value.message
        # Whoever runs the server learns where it came from.
        assert "E758: the base model" in caplog.text
        assert "OSError: no such file: weights" in caplog.text
        caplog.clear()
        with pytest.raises(openai.NotFoundError):
            Service(url, Source(folders), Pool(fails), "unused").ask("nobody")
        assert caplog.text == ""
        # Off unless it was switched on.
        assert server.error("POST", "/v1/load_lora_adapter", {"lora_name": "a", "lora_path": "/x"})[0] == 404
    with running(create_app(Source(folders), Breaks(fails), api_key=None)) as url:
        with pytest.raises(openai.InternalServerError) as caught:
            Service(url, Source(folders), Pool(fails), "unused").ask(A)
        assert "secret" not in caught.value.message
        assert "Traceback" in caplog.text
        assert "ZeroDivisionError: secret detail" in caplog.text


@pytest.mark.parametrize(
    ("failure", "said"), [(RuntimeError("out of memory\nTraceback"), "Out of memory"), (KeyError("secret"), "failed")]
)
def test_an_error_in_the_middle_of_a_stream_reaches_the_client(
    base_model: Any,
    tokenizer: Any,
    folders: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    failure: Exception,
    said: str,
) -> None:
    def fail(**inputs: Any) -> Any:
        raise failure

    with service(Loaded(copy.deepcopy(base_model), tokenizer), folders) as server:
        stream = iter(server.ask(BASE, stream=True, max_tokens=None, stop=["never said"], temperature=1.5))
        engine: Any = server.pool.engine(BASE)
        next(stream)
        monkeypatch.setattr(engine._model, "forward", fail)
        with pytest.raises(openai.APIError, match=said) as caught:
            list(stream)
        assert "secret" not in caught.value.message
        assert "Traceback" not in caught.value.message
        assert "ERROR" in caplog.text
        assert f"{type(failure).__name__}: {failure.args[0]}" in caplog.text.replace('"', "").replace("'", "")
        server.wait_until_idle()


def test_the_key_opens_everything_but_health(base_model: Any, tokenizer: Any, folders: dict[str, Path]) -> None:
    loaded = Loaded(copy.deepcopy(base_model), tokenizer)
    with service(loaded, folders, api_key="sk-right", max_body_bytes=2000) as server:
        assert server.say(A) == SAYS["a"]
        wrong = openai.OpenAI(base_url=f"{server.url}/v1", api_key="sk-wrong", max_retries=0)
        with pytest.raises(openai.AuthenticationError) as caught:
            wrong.models.list()
        assert caught.value.code == "invalid_api_key"
        assert server.raw("GET", "/health")[0] == 200
        for method, path in [
            ("GET", "/v1/models"), ("GET", "/v1/models/x"), ("POST", "/v1/chat/completions"),
            ("POST", "/v1/load_lora_adapter"), ("POST", "/v1/unload_lora_adapter"),
        ]:  # fmt: skip
            assert server.error(method, path)[0] == 401
            assert server.error(method, path, authorization="sk-right")[0] == 401
            assert server.error(method, path, authorization="Bearer \xff")[0] == 401
        big = server.error("POST", "/v1/chat/completions", "x" * 2001, authorization="Bearer sk-right")
        assert big[0] == 413


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_a_web_page_with_a_name_of_its_own_gets_nothing(
    base_model: Any, tokenizer: Any, folders: dict[str, Path], address: str
) -> None:
    source, pool = Source(folders), Pool(lambda base, progress: Loaded(copy.deepcopy(base_model), tokenizer))
    app = create_app(source, pool, api_key=None, runtime_adapters=True, allowed_hosts=LOOPBACK)
    with running(app, host=address) as url:
        server = Service(url, source, pool, "unused")
        port = urlsplit(url).port
        chunks = server.ask(A, stream=True)
        assert "".join(c.choices[0].delta.content or "" for c in chunks) == SAYS["a"]
        asked = {"model": A, "messages": HELLO, "stream": True, "max_tokens": 1}
        for host in ("localhost", f"LOCALHOST:{port}", f"127.0.0.1:{port}", "[::1]", f"[::1]:{port}", "::1"):
            assert server.raw("POST", "/v1/chat/completions", asked, host=host)[0] == 200, host
        for host in (
            "evil.example",
            f"evil.example:{port}",
            "127.0.0.1.evil.example",
            "[::2]:80",
            "",
            "localhost@evil",
        ):
            for method, path in (("GET", "/health"), ("POST", "/v1/chat/completions"), ("GET", "/nothing")):
                status, error = server.error(method, path, asked if method == "POST" else None, host=host)
                assert (status, error["code"], error["type"]) == (400, "invalid_host", "invalid_request_error"), host
            assert host in error["message"]
        server.wait_until_idle()


def test_any_name_will_do_unless_some_are_named(server: Service) -> None:
    assert server.raw("GET", "/v1/models", host="gateway.example:80")[0] == 200


def test_a_name_that_stands_for_two_models_is_no_answer(
    base_model: Any, tokenizer: Any, folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with service(Loaded(copy.deepcopy(base_model), tokenizer), folders) as server:
        body = {"lora_name": "new@v1", "lora_path": str(folders["b"]), "base_model": BASE}
        assert server.raw("POST", "/v1/load_lora_adapter", body)[0] == 200
        clash = replace(server.source.served()[1], id="new@v1")
        monkeypatch.setattr(server.source, "resolve", lambda name: clash)
        with pytest.raises(openai.InternalServerError, match="two models"):
            server.ask("new@v1")


def test_an_evicted_base_comes_back_with_its_runtime_adapters(
    base_model: Any, tokenizer: Any, folders: dict[str, Path]
) -> None:
    source = Source(folders)
    loads: list[str] = []

    def load(base: str, progress: Any) -> Loaded:
        loads.append(base)
        return Loaded(copy.deepcopy(base_model), tokenizer)

    pool = Pool(load, max_bases=1)
    with running(create_app(source, pool, api_key=None, runtime_adapters=True)) as url:
        server = Service(url, source, pool, "unused")
        body = {"lora_name": "late", "lora_path": str(folders["b"]), "base_model": BASE}
        assert server.raw("POST", "/v1/load_lora_adapter", body)[0] == 200
        pool.engine("another/base")
        assert pool.bases == ["another/base"]
        assert server.say("late") == SAYS["b"]
        assert loads == [BASE, "another/base", BASE]
