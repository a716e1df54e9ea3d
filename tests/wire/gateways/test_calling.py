"""What becomes of a gateway's answers, and that its key is nowhere to be read."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from finetune.errors import GatewayError, GatewayUnavailable, UsageError
from finetune.gateways.calling import Calls, Place, shown
from finetune.sandbox.faults import Fault, Kind
from finetune.sandbox.gateways.answers import ModelServer, route
from finetune.sandbox.server import Server
from finetune.sandbox.service import Reply, Request, Route
from tests.support.servers import free_port

SECRET = "sk-planted-0123456789"
HELLO = [{"role": "user", "content": "Hello"}]


class Parrot(ModelServer):
    """Answers with what it is told to."""

    name = "parrot"

    def __init__(self) -> None:
        super().__init__(key=None)
        self.reply = Reply(body={})
        self.seen: list[Request] = []

    def routes(self) -> Sequence[Route]:
        return [
            route("GET", "/thing", "get", self._answer),
            route("POST", "/v1/chat/completions", "chat", self._answer),
        ]

    def _answer(self, request: Request) -> Reply:
        self.seen.append(request)
        return self.reply


@pytest.fixture
def parrot() -> Iterator[tuple[Parrot, Calls]]:
    sandbox = Parrot()
    with Server(sandbox) as server:
        yield sandbox, calls(server.url)


def calls(url: str, key: str = SECRET) -> Calls:
    return Calls(Place(gateway="parrot", url=url, url_name="PARROT_URL", key=key, key_name="PARROT_KEY"), timeout_s=2)


@pytest.mark.parametrize(
    ("status", "body", "later", "told"),
    [
        (400, {"error": {"message": "bad thing"}}, False, "bad thing"),
        (404, {"detail": "no thing"}, False, "no thing"),
        (404, {"detail": {"error": "no thing"}}, False, "no thing"),
        (422, {"detail": [{"loc": ["body"]}]}, False, '[{"loc": ["body"]}]'),
        (401, {"message": "who are you"}, False, "set PARROT_KEY"),
        (403, b"plain words", False, "set PARROT_KEY"),
        (302, b"", False, "gives no reason"),
        (408, b"", True, "repeat it later"),
        (429, {"error": "slowly"}, True, "slowly"),
        (500, b"Internal Server Error", True, "Internal Server Error"),
        (503, b"x" * 5000, True, "x" * 400 + "..."),
    ],
)
def test_what_it_says_decides_what_we_do(
    parrot: tuple[Parrot, Calls], status: int, body: Any, later: bool, told: str
) -> None:
    sandbox, caller = parrot
    sandbox.reply = Reply(status=status, body=body, headers={"Location": "http://127.0.0.1:9/"})
    with pytest.raises(GatewayError) as caught:
        caller.get("/thing")
    assert isinstance(caught.value, GatewayUnavailable) is caught.value.retry is later
    (problem,) = caught.value.problems
    assert problem.code == ("E820" if later else "E821")
    assert told in "\n".join(problem.lines())
    assert len("\n".join(problem.lines())) < 1000
    assert len(sandbox.seen) == 1, "neither repeated nor led elsewhere"
    assert sandbox.seen[0].headers["authorization"] == f"Bearer {SECRET}"


def test_the_key_is_taken_out_of_what_it_says(parrot: tuple[Parrot, Calls]) -> None:
    sandbox, caller = parrot
    for status in (400, 500):
        sandbox.reply = Reply(status=status, body={"error": {"message": f"invalid key {SECRET}"}})
        with pytest.raises(GatewayError) as caught:
            caller.get("/thing")
        assert "invalid key ***" in str(caught.value)
        assert SECRET not in str(caught.value) + repr(caught.value)
    assert SECRET not in repr(caller.place)


@pytest.mark.parametrize("body", [b"<html>", b"", [1], b"null"])
def test_what_is_no_object_is_refused(parrot: tuple[Parrot, Calls], body: Any) -> None:
    sandbox, caller = parrot
    sandbox.reply = Reply(body=body)
    with pytest.raises(GatewayError) as caught:
        caller.send("GET", "/thing").object()
    assert (caught.value.retry, caught.value.problems[0].code) == (False, "E821")


@pytest.mark.parametrize("body", [{}, {"choices": []}, {"choices": [{"message": {"content": None}}]}, {"choices": 3}])
def test_a_chat_without_a_text_is_no_answer(parrot: tuple[Parrot, Calls], body: Any) -> None:
    sandbox, caller = parrot
    sandbox.reply = Reply(body=body)
    with pytest.raises(GatewayError, match="without a text"):
        caller.chat("m", HELLO, max_tokens=3)


def test_a_chat_is_asked_greedily_and_tells_who_answered(parrot: tuple[Parrot, Calls]) -> None:
    sandbox, caller = parrot
    body = {"model": "m-1", "choices": [{"message": {"content": "Hi."}}]}
    sandbox.reply = Reply(body=body, headers={"X-Who": "me"})
    chat = caller.chat("m", HELLO, max_tokens=3, disable_fallbacks=True)
    assert (chat.text, chat.model, chat.headers["x-who"]) == ("Hi.", "m-1", "me")
    sent = json.loads(sandbox.seen[0].body)
    assert sent == {"model": "m", "messages": HELLO, "max_tokens": 3, "temperature": 0, "disable_fallbacks": True}


def test_silence_means_later(parrot: tuple[Parrot, Calls]) -> None:
    sandbox, caller = parrot
    sandbox.faults.lay(Fault(kind="cut_before", times=2))
    sandbox.faults.lay(Fault(kind="hang_before", seconds=4))
    for _ in range(2):
        with pytest.raises(GatewayUnavailable) as caught:
            caller.get("/thing")
        assert "set PARROT_URL" in caught.value.problems[0].fix
    with pytest.raises(GatewayUnavailable, match="does not answer GET /thing"):
        calls(f"http://127.0.0.1:{free_port()}").get("/thing")


@pytest.mark.parametrize("kind", ["cut_before", "cut_after"])
def test_a_question_whose_connection_breaks_is_asked_once_more(parrot: tuple[Parrot, Calls], kind: Kind) -> None:
    sandbox, caller = parrot
    sandbox.reply = Reply(body={"one": 1})
    sandbox.faults.lay(Fault(kind=kind))
    assert caller.get("/thing") == {"one": 1}
    sandbox.faults.lay(Fault(kind=kind, times=2))
    with pytest.raises(GatewayUnavailable):
        caller.get("/thing")
    assert caller.get("/thing") == {"one": 1}, "no third time"


def test_what_is_no_question_is_sent_once(parrot: tuple[Parrot, Calls]) -> None:
    sandbox, caller = parrot
    sandbox.faults.lay(Fault(kind="cut_after"))
    with pytest.raises(GatewayUnavailable):
        caller.post("/v1/chat/completions", {"messages": HELLO})
    assert len(sandbox.seen) == 1


def test_a_gateway_that_is_silent_is_not_asked_again_at_once(parrot: tuple[Parrot, Calls]) -> None:
    sandbox, caller = parrot
    sandbox.faults.lay(Fault(kind="hang_after", seconds=4))
    with pytest.raises(GatewayUnavailable, match="no answer in time"):
        caller.get("/thing")
    assert len(sandbox.seen) == 1


@pytest.mark.parametrize("url", ["", "127.0.0.1:8000", "ftp://h", "http://", "http://[x", "http://h:x", "http://h:0"])
def test_an_address_that_is_none_is_named_by_its_variable(url: str) -> None:
    with pytest.raises(UsageError, match="PARROT_URL") as caught:
        calls(url)
    assert caught.value.problems[0].code == "E825"


@pytest.mark.parametrize("key", [f"{SECRET}\nX-Other: 1", f"{SECRET}\u00e9"])
def test_a_key_that_is_none_is_named_by_its_variable(key: str) -> None:
    with pytest.raises(UsageError, match="PARROT_KEY") as caught:
        calls("http://127.0.0.1:9", key)
    assert SECRET not in str(caught.value) + repr(caught.value)


def test_the_line_break_of_a_file_is_no_part_of_a_key(parrot: tuple[Parrot, Calls]) -> None:
    sandbox, caller = parrot
    calls(caller.place.url, f"{SECRET}\n").get("/thing")
    assert sandbox.seen[0].headers["authorization"] == f"Bearer {SECRET}"


def test_an_address_is_shown_without_its_password() -> None:
    assert shown("https://me:secret@host:8000/base/?key=1") == "https://host:8000/base"
    assert shown("http://[::1]:4000") == "http://[::1]:4000"
