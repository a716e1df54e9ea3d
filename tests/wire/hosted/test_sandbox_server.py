"""What every sandbox stands on: the server, its faults, its control, the clock. Seen by a raw socket and by an SDK."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

import openai
import pytest
from openai import OpenAI

from finetune.sandbox.clock import SandboxClock
from finetune.sandbox.faults import ANYWHERE, KINDS, Fault, Faults, Kind
from finetune.sandbox.openai.sandbox import OpenAiSandbox
from finetune.sandbox.server import Server
from finetune.sandbox.service import Entry, Refusal, Reply, Request, Route, Sandbox
from tests.support.process import wait_until
from tests.wire.hosted.openai_contract import ask, lines


class Toy(Sandbox):
    """Counts what is done to it."""

    name: ClassVar[str] = "toy"
    #: Whether its first tick fails.
    stumbles = False
    #: Whether a handler stays for a moment, so that others would meet it.
    lingers = False

    def __init__(self, **more: Any) -> None:
        super().__init__(**more)
        self.done: list[tuple[str, dict[str, str], bytes]] = []
        self.inside = 0
        self.ticks = 0

    def routes(self) -> Sequence[Route]:
        return [
            Route(method="POST", path="/things", operation="create", answer=self._note),
            Route(method="GET", path="/things/{id}", operation="retrieve", answer=self._note),
            Route(method="POST", path="/things/{id}:stop", operation="stop", answer=self._note),
            Route(method="GET", path="/rest/{path...}", operation="rest", answer=self._note),
            Route(method="DELETE", path="/things/{id}", operation="delete", answer=lambda request: Reply(status=204)),
            Route(method="GET", path="/refused", operation="refused", answer=self._refuse),
            Route(method="GET", path="/broken", operation="broken", answer=self._break),
        ]

    def environment(self, url: str) -> dict[str, str]:
        return {"TOY_URL": url}

    def refused(self, status: int, message: str, **more: Any) -> Reply:
        return Reply(status=status, body={"toy": message}, headers={"x-toy": "1"})

    def authenticate(self, request: Request) -> Reply | None:
        if request.headers.get("authorization") == "Bearer broken":
            raise RuntimeError("a fault in the toy's lock")
        return None if "authorization" in request.headers else self.refused(401, "who?")

    def ledger(self) -> list[Entry]:
        return [Entry(remote_id="a", key="k", raw_state="on", live=True, paid=False)]

    def tick(self) -> None:
        self.ticks += 1
        if self.ticks == 1 and self.stumbles:
            raise RuntimeError("a fault in the toy's clockwork")

    def _note(self, request: Request) -> Reply:
        self.inside += 1
        if self.lingers:
            threading.Event().wait(0.002)
        assert self.inside == 1, "two handlers at once"
        self.done.append((request.method, dict(request.parts), request.body))
        self.inside -= 1
        return Reply(body={"parts": dict(request.parts), "query": request.query, "words": "a" * 100})

    def _refuse(self, request: Request) -> Reply:
        raise Refusal(self.refused(418, "no"))

    def _break(self, request: Request) -> Reply:
        raise RuntimeError("a fault in the toy")


@pytest.fixture
def toy() -> Toy:
    return Toy()


@pytest.fixture
def server(toy: Toy) -> Iterator[Server]:
    with Server(toy) as server:
        yield server
    assert server.broken == []


class Line:
    """One connection."""

    def __init__(self, server: Server, timeout_s: float = 10) -> None:
        self.socket = socket.create_connection(("127.0.0.1", int(server.url.rsplit(":", 1)[1])), timeout=timeout_s)
        self.file = self.socket.makefile("rb")

    def __enter__(self) -> "Line":
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()
        self.socket.close()

    def send(self, first: str, body: bytes = b"", *headers: str) -> None:
        head = [first + " HTTP/1.1", "Host: a", "Authorization: Bearer a", *headers]
        if body:
            head.append(f"Content-Length: {len(body)}")
        self.socket.sendall("\r\n".join([*head, "", ""]).encode() + body)

    def status(self) -> tuple[int, dict[str, str]]:
        """The answer's status and headers."""
        status = int(self.file.readline().split()[1])
        headers = {}
        while line := self.file.readline().strip():
            name, _, value = line.decode().partition(": ")
            headers[name.lower()] = value
        return status, headers

    def answer(self) -> tuple[int, dict[str, str], bytes]:
        """The whole answer."""
        status, headers = self.status()
        return status, headers, self.file.read(int(headers.get("content-length", 0)))


def fault(server: Server, kind: Kind, on: str = "create", **more: Any) -> None:
    server.sandbox.faults.lay(Fault(kind=kind, on=on, **more))


# Faults, by a raw socket


@pytest.mark.parametrize(("kind", "status"), [("rate_limit", 429), ("server_error", 500), ("unavailable", 503)])
def test_refusals_do_nothing(server: Server, toy: Toy, kind: Kind, status: int) -> None:
    fault(server, kind, seconds=7)
    with Line(server) as line:
        line.send("POST /things", b"{}")
        got, headers, body = line.answer()
        assert (got, headers["x-toy"]) == (status, "1")
        assert kind in json.loads(body)["toy"]
        assert headers.get("retry-after") == ("7" if kind == "rate_limit" else None)
        assert toy.done == []
        # The same connection goes on.
        line.send("POST /things", b"{}")
        assert line.answer()[0] == 200
    assert toy.faults.happened == [("create", kind)]


@pytest.mark.parametrize(("kind", "done"), [("cut_before", 0), ("cut_after", 1)])
def test_a_cut_is_a_reset(server: Server, toy: Toy, kind: Kind, done: int) -> None:
    fault(server, kind)
    with Line(server) as line:
        line.send("POST /things", b"{}")
        with pytest.raises(ConnectionResetError):
            line.file.readline()
    assert len(toy.done) == done


@pytest.mark.alone
@pytest.mark.parametrize(("kind", "done"), [("hang_before", 0), ("hang_after", 1)])
def test_a_hang_is_silence_then_a_reset(server: Server, toy: Toy, kind: Kind, done: int) -> None:
    fault(server, kind, seconds=0.2)
    with Line(server, timeout_s=0.05) as line:
        line.send("POST /things", b"{}")
        with pytest.raises(TimeoutError):
            line.socket.recv(1)
        line.socket.settimeout(10)
        with pytest.raises(ConnectionResetError):
            line.socket.recv(1)
    assert len(toy.done) == done


def test_slow_comes_in_pieces(server: Server, toy: Toy) -> None:
    fault(server, "slow", seconds=0.4)
    with Line(server) as line:
        begun = time.monotonic()
        line.send("POST /things", b"{}")
        status, headers = line.status()
        assert (status, len(toy.done)) == (200, 1)
        size, times = int(headers["content-length"]), []
        body = b""
        while len(body) < size:
            body += line.socket.recv(size) if times else line.file.read1()
            times.append(time.monotonic() - begun)
    assert json.loads(body)["words"] == "a" * 100
    assert len(times) >= 4
    assert times[-1] >= 0.3


def test_garbage_is_a_whole_answer_that_is_no_json(server: Server, toy: Toy) -> None:
    fault(server, "garbage")
    with Line(server) as line:
        line.send("POST /things", b"{}")
        status, headers, body = line.answer()
        assert (status, headers["content-type"], len(toy.done)) == (200, "application/json", 1)
        with pytest.raises(ValueError, match="Expecting value"):
            json.loads(body)
        line.send("GET /things/a")
        assert line.answer()[0] == 200


def test_garbage_in_place_of_nothing_keeps_the_line_in_order(server: Server) -> None:
    fault(server, "garbage", on="delete")
    with Line(server) as line:
        line.send("DELETE /things/a")
        status, _, body = line.answer()
        assert (status, body[:6]) == (200, b"<html>")
        line.send("GET /things/a")
        assert line.answer()[0] == 200


@pytest.mark.parametrize("kind", ["hang_before", "hang_after", "slow"])
def test_the_end_lets_go_of_what_hangs(toy: Toy, kind: Kind) -> None:
    begun = time.monotonic()
    with Server(toy) as server:
        fault(server, kind, seconds=60)
        line = Line(server)
        line.send("POST /things", b"{}")
        wait_until(lambda: toy.faults.happened, 10, "the fault")
    with line:
        assert read_out(line) >= 0
    assert time.monotonic() - begun < 10


def read_out(line: Line) -> int:
    """How many bytes come until the connection ends."""
    count = 0
    try:
        while got := line.socket.recv(10_000):
            count += len(got)
            if got.endswith(b"}"):
                break
    except ConnectionResetError:
        pass
    return count


def test_a_fault_happens_where_and_as_often_as_told(server: Server, toy: Toy) -> None:
    fault(server, "server_error", on="retrieve", times=2)
    fault(server, "unavailable", on="*", times=None)
    asked = [ask(server.url, "GET", "/things/a")[0] for _ in range(4)]
    assert asked == [500, 500, 503, 503]
    assert ask(server.url, "POST", "/things", {})[0] == 503
    toy.faults.clear()
    assert ask(server.url, "GET", "/things/a")[0] == 200


def test_a_fault_before_and_one_after_can_meet_one_request(server: Server, toy: Toy) -> None:
    fault(server, "garbage")
    fault(server, "unavailable")
    assert ask(server.url, "POST", "/things", {})[0] == 503
    with pytest.raises(ValueError, match="Expecting value"):
        ask(server.url, "POST", "/things", {})
    assert toy.faults.happened == [("create", "unavailable"), ("create", "garbage")]


def test_faults_by_chance_are_a_share_of_the_requests_and_the_same_for_a_seed() -> None:
    def met(seed: int) -> list[Kind]:
        faults = Faults(rate=0.2, seed=seed)
        for _ in range(5000):
            before = faults.meet("create", ("rate_limit", "server_error", "unavailable", "cut_before", "hang_before"))
            if before is None:
                faults.meet("create", ("cut_after", "hang_after", "slow", "garbage"))
        return [kind for _, kind in faults.happened]

    assert met(1) == met(1) != met(2)
    assert 900 < len(met(1)) < 1050
    counts = {kind: met(1).count(kind) for kind in ANYWHERE}
    assert set(met(1)) == set(ANYWHERE)
    assert max(counts.values()) < 1.6 * min(counts.values())


def test_no_chance_touches_what_has_no_place_in_it() -> None:
    faults = Faults(rate=1.0)
    assert faults.meet("webhook", ("webhook_lost",)) is None
    assert faults.meet("retrieve", ("odd_state",)) is None


@pytest.mark.parametrize("wrong", [{"kind": "earthquake"}, {"kind": "slow", "times": 0}])
def test_faults_that_cannot_be(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="fault"):
        Fault(**wrong)


# Faults, by an SDK


def calls(client: OpenAI, training: str, jobs: Sequence[str]) -> dict[str, Callable[[], object]]:
    """Every operation of OpenAI's API once, each on things of its own."""
    tuning, uploads = client.fine_tuning.jobs, client.uploads

    def begun() -> str:
        return uploads.create(filename="a.jsonl", bytes=3, mime_type="text/plain", purpose="fine-tune").id

    complete, cancelled, parted = begun(), begun(), begun()
    part = uploads.parts.create(complete, data=b"{}\n").id
    spare = client.files.create(file=("b.jsonl", lines(12)), purpose="fine-tune").id
    return {
        "upload": lambda: client.files.create(file=("a.jsonl", lines(12)), purpose="fine-tune"),
        "files": lambda: client.files.list(),
        "file": lambda: client.files.retrieve(training),
        "file_delete": lambda: client.files.delete(spare),
        "content": lambda: client.files.content(training),
        "upload_create": begun,
        "upload_part": lambda: uploads.parts.create(parted, data=b"{}\n"),
        "upload_complete": lambda: uploads.complete(complete, part_ids=[part]),
        "upload_cancel": lambda: uploads.cancel(cancelled),
        "create": lambda: tuning.create(model="gpt-4o-mini", training_file=training),
        "list": lambda: tuning.list(),
        "retrieve": lambda: tuning.retrieve(jobs[0]),
        "pause": lambda: tuning.pause(jobs[0]),
        "resume": lambda: tuning.resume(jobs[0]),
        "events": lambda: tuning.list_events(jobs[0]),
        "checkpoints": lambda: tuning.checkpoints.list(jobs[0]),
        "cancel": lambda: tuning.cancel(jobs[1]),
        "models": lambda: client.models.list(),
        "chat": lambda: client.chat.completions.create(
            model="gpt-4o-mini", messages=[{"role": "user", "content": "Who are you?"}]
        ),
    }


@pytest.fixture
def hosted() -> Iterator[tuple[Server, OpenAI, dict[str, Callable[[], object]]]]:
    sandbox = OpenAiSandbox()
    with Server(sandbox) as server:
        url, key = server.environment["OPENAI_BASE_URL"], server.environment["OPENAI_API_KEY"]
        with OpenAI(base_url=url, api_key=key, max_retries=0, timeout=5) as client:
            training = client.files.create(file=("a.jsonl", lines(12)), purpose="fine-tune").id
            jobs = [client.fine_tuning.jobs.create(model="gpt-4o-mini", training_file=training).id for _ in range(2)]
            sandbox.clock.advance(3)
            yield server, client, calls(client, training, jobs)
    assert server.broken == []


def test_the_operations_are_all_there_are(hosted: Any) -> None:
    server, _, operations = hosted
    assert set(operations) == {route.operation for route in server.sandbox.routes()}
    for operation, call in operations.items():
        call()
        assert server.sandbox.requests[-1][0] == operation


SEEN: dict[Kind, type[Exception]] = {
    "rate_limit": openai.RateLimitError,
    "server_error": openai.InternalServerError,
    "unavailable": openai.InternalServerError,
    "cut_before": openai.APIConnectionError,
    "cut_after": openai.APIConnectionError,
    "garbage": openai.APIError,
}


@pytest.mark.parametrize("kind", SEEN)
def test_each_fault_at_each_operation(hosted: Any, kind: Kind) -> None:
    server, _, operations = hosted
    after = kind in ("cut_after", "garbage")
    for operation, call in operations.items():
        if (kind, operation) == ("garbage", "content"):
            continue
        before = len(server.sandbox.requests)
        server.sandbox.faults.lay(Fault(kind=kind, on=operation))
        with pytest.raises((SEEN[kind], ValueError)) as seen:
            call()
        assert after or isinstance(seen.value, SEEN[kind]), operation
        assert len(server.sandbox.requests) - before == after, operation
        if isinstance(seen.value, openai.APIStatusError):
            assert seen.value.request_id, operation
            assert seen.value.type == {"rate_limit": "requests"}.get(kind, "server_error"), operation
        if not after:
            call()


@pytest.mark.parametrize(("kind", "made"), [("hang_before", 0), ("hang_after", 1)])
def test_an_sdk_gives_up_on_silence(hosted: Any, kind: Kind, made: int) -> None:
    server, client, _ = hosted
    server.sandbox.faults.lay(Fault(kind=kind, on="create", seconds=60))
    before = len(server.sandbox.ledger())
    training = client.files.list().data[0].id
    with pytest.raises(openai.APITimeoutError):
        client.fine_tuning.jobs.create(model="gpt-4o-mini", training_file=training, timeout=0.2)
    assert len(server.sandbox.ledger()) - before == made


def test_an_sdk_waits_for_a_slow_answer(hosted: Any) -> None:
    server, _, operations = hosted
    server.sandbox.faults.lay(Fault(kind="slow", on="retrieve", seconds=0.2))
    assert operations["retrieve"]().status == "running"


# The server


def test_paths_lead_to_their_operations(server: Server) -> None:
    def parts(method: str, path: str) -> Any:
        return ask(server.url, method, path)[1]["parts"]

    assert parts("GET", "/things/a-b.c") == {"id": "a-b.c"}
    assert parts("POST", "/things/a:stop") == {"id": "a"}
    assert parts("GET", "/rest/a/b:c/d") == {"path": "a/b:c/d"}
    assert ask(server.url, "GET", "/things/a?x=1&x=2&y=")[1]["query"] == {"x": ["1", "2"], "y": [""]}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/things", 405),
        ("POST", "/things/a:go", 404),
        ("GET", "/things/a/b", 404),
        ("GET", "/thingsX", 404),
        ("GET", "/refused", 418),
    ],
)
def test_other_paths_are_refused_in_the_sandboxs_words(server: Server, method: str, path: str, status: int) -> None:
    got, answer, headers = ask(server.url, method, path)
    assert (got, set(answer), headers["x-toy"]) == (status, {"toy"}, "1")


def test_who_does_not_say_who_it_is(server: Server, toy: Toy) -> None:
    assert ask(server.url, "POST", "/things", {}, key=None)[0] == 401
    assert toy.done == []


def test_a_fault_of_the_sandbox_is_told_and_does_not_end_it(toy: Toy) -> None:
    toy.stumbles = True
    with Server(toy) as server:
        wait_until(lambda: toy.ticks > 3, 10, "ticks after a broken one")
        assert ask(server.url, "GET", "/broken")[0] == 500
        assert ask(server.url, "GET", "/things/a", key="broken")[0] == 500
        assert ask(server.url, "GET", "/things/a")[0] == 200
    assert [each.splitlines()[-1] for each in server.broken] == [
        "RuntimeError: a fault in the toy's clockwork",
        "RuntimeError: a fault in the toy",
        "RuntimeError: a fault in the toy's lock",
    ]


def test_bodies_in_chunks_are_put_together(server: Server, toy: Toy) -> None:
    with Line(server) as line:
        line.send("POST /things", b"", "Transfer-Encoding: chunked")
        line.socket.sendall(b"3\r\nabc\r\n10;name=value\r\n0123456789abcdef\r\n0\r\nTrailer: a\r\n\r\n")
        assert line.answer()[0] == 200
        line.send("GET /things/a")
        assert line.answer()[0] == 200
    assert [body for _, _, body in toy.done] == [b"abc0123456789abcdef", b""]


@pytest.mark.parametrize(
    ("header", "body"),
    [
        ("Content-Length: many", b""),
        ("Content-Length: -1", b""),
        ("Content-Length: 1_0", b""),
        ("Transfer-Encoding: chunked", b"zz\r\n"),
        ("Transfer-Encoding: chunked", b"-1\r\n"),
    ],
)
def test_bodies_without_end_are_refused(server: Server, toy: Toy, header: str, body: bytes) -> None:
    with Line(server) as line:
        line.send("POST /things", b"", header)
        line.socket.sendall(body)
        assert line.status()[0] == 400
    assert toy.done == []


def test_an_answer_without_a_body_has_no_length(server: Server) -> None:
    with Line(server) as line:
        line.send("DELETE /things/a")
        status, headers = line.status()
        assert status == 204
        assert "content-length" not in headers
        line.send("GET /things/a")
        assert line.answer()[0] == 200


def test_many_at_once_are_done_one_after_the_other(server: Server, toy: Toy) -> None:
    toy.lingers = True
    got: list[int] = []
    threads = [
        threading.Thread(target=lambda: got.extend(ask(server.url, "POST", "/things", {})[0] for _ in range(10)))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == [200] * 80
    assert len(toy.done) == 80


def test_a_server_that_never_began_ends(toy: Toy) -> None:
    ended = threading.Thread(target=Server(toy).stop, daemon=True)
    ended.start()
    ended.join(10)
    assert not ended.is_alive()


def test_a_port_that_is_taken(server: Server, toy: Toy) -> None:
    with pytest.raises(OSError, match="in use"):
        Server(toy, port=int(server.url.rsplit(":", 1)[1]))


def test_where_clients_are_sent(server: Server) -> None:
    assert server.environment == {"TOY_URL": server.url}


# Control


def test_jobs_are_told_without_a_key(server: Server) -> None:
    code, told, _ = ask(server.url, "GET", "/_sandbox/jobs", key=None)
    assert code == 200
    assert told == [{"remote_id": "a", "key": "k", "raw_state": "on", "live": True, "paid": False}]


def test_faults_and_time_can_be_laid_from_elsewhere(server: Server, toy: Toy) -> None:
    assert ask(server.url, "POST", "/_sandbox/faults", {"kind": "unavailable", "on": "create"}, key=None)[0] == 204
    assert ask(server.url, "POST", "/things", {})[0] == 503
    assert ask(server.url, "POST", "/_sandbox/faults", {"list_lag_s": 3})[0] == 204
    assert toy.faults.list_lag_s == 3.0
    before = toy.clock.now()
    assert ask(server.url, "POST", "/_sandbox/clock", {"advance_s": 1000})[0] == 204
    assert 1000 <= (toy.clock.now() - before).total_seconds() < 1010


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("faults", {"kind": "earthquake"}, 400),
        ("faults", {"on": "create"}, 400),
        ("faults", {"kind": "slow", "when": 1}, 400),
        ("faults", b"{", 400),
        ("faults", [], 400),
        ("clock", {}, 400),
        ("clock", {"advance_s": -1}, 400),
        ("clock", {"advance_s": "nan"}, 400),
        ("clock", {"advance_s": None}, 400),
        ("jobs", {}, 404),
        ("secrets", {}, 404),
    ],
)
def test_control_that_is_none(server: Server, toy: Toy, path: str, body: Any, status: int) -> None:
    before = toy.clock.now()
    got, answer, _ = ask(server.url, "POST", "/_sandbox/" + path, body)
    assert (got, set(answer)) == (status, {"error"})
    assert abs((toy.clock.now() - before).total_seconds()) < 10
    assert ask(server.url, "GET", "/things/a")[0] == 200


# The clock, and requests


def test_the_clock_goes_forward_only() -> None:
    clock = SandboxClock()
    begun = clock.now()
    clock.advance(0)
    clock.advance(86_400)
    assert 86_400 <= (clock.now() - begun).total_seconds() < 86_460
    assert clock.epoch() == int(clock.now().timestamp())
    for wrong in (-1.0, float("nan")):
        with pytest.raises(ValueError, match="put forward"):
            clock.advance(wrong)


def test_a_fast_clock() -> None:
    fast, real = SandboxClock(speed=1_000_000), time.monotonic()
    begun = fast.now()
    wait_until(lambda: (fast.now() - begun).total_seconds() > 3600, 10, "an hour in a few milliseconds")
    assert time.monotonic() - real < 5


def test_every_kind_is_told_apart() -> None:
    assert len(set(KINDS)) == len(KINDS) == 12
    assert set(ANYWHERE) < set(KINDS)
