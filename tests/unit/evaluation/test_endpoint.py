"""Any OpenAI-compatible endpoint, by the real client, against a server on loopback."""

import threading
from typing import Any

import pytest

from finetune.errors import EvaluationError
from finetune.evaluation.endpoint import Address, Endpoint
from finetune.evaluation.faults import EvaluationUnavailable
from finetune.evaluation.models import Answer, Call, Question
from tests.unit.evaluation.chats import Rule, chats, completion, refusal

TOOL = {"type": "function", "function": {"name": "add", "parameters": {}}}
KEY = "sk-planted-0123456789"


def ask(text: str, *tools: Any) -> Question:
    return Question(messages=[{"role": "user", "content": text}], tools=tools)


def answers(rule: Rule, *texts: str, retries: int = 2, concurrency: int = 3) -> tuple[list[Answer], Any]:
    with chats(rule) as server:
        at = Address(base_url=server.url, model="m", key_env="THE_KEY")
        with Endpoint(at, environ={"THE_KEY": KEY}, retries=retries, concurrency=concurrency) as endpoint:
            return endpoint.answers([ask(text) for text in texts], 5), server


def echo(body: dict[str, Any]) -> tuple[int, Any]:
    return 200, completion(f"said {body['messages'][-1]['content']}")


def test_answers_come_in_order_and_greedy() -> None:
    texts = [str(number) for number in range(20)]
    found, server = answers(echo, *texts)
    assert [answer.text for answer in found] == [f"said {text}" for text in texts]
    assert {answer.tokens for answer in found} == {2}
    wanted = [
        {"model": "m", "max_tokens": 5, "temperature": 0, "messages": [{"role": "user", "content": t}]} for t in texts
    ]
    assert sorted(server.bodies, key=lambda body: int(body["messages"][0]["content"])) == wanted
    assert {headers["authorization"] for headers in server.headers} == {f"Bearer {KEY}"}


def test_a_key_is_sent_without_what_a_file_has_left_at_its_end() -> None:
    with chats(echo) as server:
        at = Address(base_url=server.url, model="m", key_env="THE_KEY")
        with Endpoint(at, environ={"THE_KEY": f" {KEY}\n"}, retries=0) as endpoint:
            assert endpoint.answers([ask("x")], 5)[0].text == "said x"
        assert [headers["authorization"] for headers in server.headers] == [f"Bearer {KEY}"]
        with pytest.raises(EvaluationError, match="THE_KEY is not set"):
            Endpoint(at, environ={"THE_KEY": " \n"})


OWN = {"OPENAI_ORG_ID": " org-1\n", "OPENAI_PROJECT_ID": "proj-1"}
OWN["OPENAI_CUSTOM_HEADERS"] = "x-gate: planted-gate-9\nnonsense"


def test_the_account_that_trained_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_ORG_ID", "ambient")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "x-ambient: 1")
    with chats(lambda body: (403, refusal("not for planted-gate-9"))) as server:
        environ = {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": f"{server.url}/ ", **OWN}
        at = Address(base_url=server.url, model="m", key_env="OPENAI_API_KEY")
        with (
            Endpoint(at, environ=environ, retries=0) as endpoint,
            pytest.raises(EvaluationError, match=r"not for \*\*\*") as refused,
        ):
            endpoint.answers([ask("x")], 5)
        (sent,) = server.headers
    assert (sent["openai-organization"], sent["openai-project"]) == ("org-1", "proj-1")
    assert sent["x-gate"] == "planted-gate-9"
    assert "x-ambient" not in sent
    assert "planted" not in str(refused.value)


@pytest.mark.parametrize("elsewhere", ["key", "address", "none"])
def test_no_other_address_hears_of_it(elsewhere: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in OWN.items():
        monkeypatch.setenv(name, value)
    with chats(echo) as server:
        base = "http://127.0.0.1:9/v1" if elsewhere == "address" else server.url
        environ = {"OPENAI_API_KEY": KEY, "AZURE_OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": base, **OWN}
        if elsewhere == "none":
            del environ["OPENAI_BASE_URL"]
        key_env = "AZURE_OPENAI_API_KEY" if elsewhere == "key" else "OPENAI_API_KEY"
        with Endpoint(Address(base_url=server.url, model="m", key_env=key_env), environ=environ) as endpoint:
            endpoint.answers([ask("x")], 5)
        (sent,) = server.headers
    assert not {"openai-organization", "openai-project", "x-gate"} & sent.keys()


def test_a_model_that_is_not_there_may_have_to_be_deployed_first() -> None:
    with pytest.raises(EvaluationError, match="E854") as refused:
        answers(lambda body: (404, refusal("The API deployment for this resource does not exist.")), "x")
    assert "The API deployment for this resource does not exist." in refused.value.problems[0].why
    assert "deploy it under this name" in refused.value.problems[0].fix


def test_no_more_are_under_way_than_it_may_have() -> None:
    meet = threading.Barrier(3)

    def rule(body: dict[str, Any]) -> tuple[int, Any]:
        meet.wait(20)
        return echo(body)

    _, server = answers(rule, *"abcdef", concurrency=3)
    assert server.most == 3


def test_calls_are_read_and_tools_are_sent() -> None:
    with chats(lambda body: (200, completion(None, [("add", '{"a": 1}'), ("add", "{}")]))) as server:
        with Endpoint(Address(base_url=server.url, model="m")) as endpoint:
            (found,) = endpoint.answers([ask("x", TOOL)], 5)
        assert server.bodies[0]["tools"] == [TOOL]
    assert found.calls == (Call(name="add", arguments='{"a": 1}'), Call(name="add", arguments="{}"))
    assert found.text == ""


@pytest.mark.parametrize("status", [429, 500, 503, 408])
def test_what_may_pass_is_tried_again(status: int) -> None:
    seen: list[int] = []

    def rule(body: dict[str, Any]) -> tuple[int, Any]:
        seen.append(1)
        return echo(body) if len(seen) > 2 else (status, refusal("busy"))

    found, _ = answers(rule, "x")
    assert (found[0].text, len(seen)) == ("said x", 3)


def test_what_does_not_pass_ends_it_and_may_be_tried_later() -> None:
    seen: list[int] = []

    def rule(body: dict[str, Any]) -> tuple[int, Any]:
        seen.append(1)
        return 503, refusal("busy")

    with pytest.raises(EvaluationUnavailable, match="E854"):
        answers(rule, "x", retries=1)
    assert len(seen) == 2


def test_nobody_there_may_be_tried_later() -> None:
    with chats(echo) as server:
        url = server.url
    with Endpoint(Address(base_url=url, model="m"), retries=0) as endpoint, pytest.raises(EvaluationUnavailable):
        endpoint.answers([ask("x")], 5)


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_refusal_of_us_ends_it_at_once_and_never_tells_the_key(status: int) -> None:
    with pytest.raises(EvaluationError, match="E854") as caught:
        answers(lambda body: (status, refusal(f"Incorrect API key provided: {KEY}")), *"abcdefghij", concurrency=1)
    assert not isinstance(caught.value, EvaluationUnavailable)
    assert KEY not in str(caught.value)
    assert "Incorrect API key provided: ***" in str(caught.value)


def test_after_a_refusal_the_rest_is_not_asked() -> None:
    seen: list[str] = []

    def rule(body: dict[str, Any]) -> tuple[int, Any]:
        seen.append(body["messages"][0]["content"])
        return 401, refusal("no")

    with pytest.raises(EvaluationError):
        answers(rule, *"abcdefghij", concurrency=1)
    assert seen == ["a"]


def test_one_question_that_is_refused_is_a_fault_of_its_answer() -> None:
    def rule(body: dict[str, Any]) -> tuple[int, Any]:
        return (400, refusal("too long")) if body["messages"][0]["content"] == "b" else echo(body)

    found, _ = answers(rule, "a", "b", "c")
    assert [answer.fault for answer in found] == [None, "too long", None]
    with pytest.raises(EvaluationError, match="too long") as caught:
        answers(rule, "b", "b")
    assert caught.value.problems[0].code == "E854"


def test_what_a_filter_holds_back_is_no_answer() -> None:
    def rule(body: dict[str, Any]) -> tuple[int, Any]:
        return 200, completion("half", finish="content_filter") if body["messages"][0]["content"] == "b" else echo(
            body
        )[1]

    found, _ = answers(rule, "a", "b")
    assert [answer.fault is None for answer in found] == [True, False]


def test_models_that_want_the_request_otherwise_get_it_so() -> None:
    """As OpenAI's reasoning models refuse it."""

    def rule(body: dict[str, Any]) -> tuple[int, Any]:
        if "max_tokens" in body:
            said = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens'."
            return 400, refusal(said, "max_tokens")
        if "temperature" in body:
            return 400, refusal("Unsupported value: 'temperature' does not support 0 with this model.", "temperature")
        return echo(body)

    found, server = answers(rule, *"abcdef", concurrency=2)
    assert [answer.text for answer in found] == [f"said {text}" for text in "abcdef"]
    assert server.bodies[-1].keys() == {"model", "messages", "max_completion_tokens"}
    assert len(server.bodies) <= 6 + 2 * 2 + 2, "the right form is kept"


@pytest.mark.parametrize("body", [b"<html>", {"choices": []}, {}, [], {"choices": [{"message": None}]}])
def test_what_is_no_completion_is_said(body: Any) -> None:
    with pytest.raises(EvaluationError, match="E855"):
        answers(lambda asked: (200, body), "x", retries=0)


def test_without_its_key_nothing_is_asked() -> None:
    at = Address(base_url="http://127.0.0.1:9/v1", model="m", key_env="THE_KEY")
    with pytest.raises(EvaluationError, match="THE_KEY is not set"):
        Endpoint(at, environ={})
    with pytest.raises(EvaluationError, match="no address"):
        Endpoint(Address(base_url="localhost:8000", model="m"))


def test_a_redirect_is_not_followed() -> None:
    with chats(echo) as elsewhere:
        there = f"{elsewhere.url}/chat/completions"
        with pytest.raises(EvaluationError, match="E854"):
            answers(lambda body: (307, {"location": there}), "x", retries=0)
        assert elsewhere.bodies == []
