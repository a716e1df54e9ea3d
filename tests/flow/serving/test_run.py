import http.client
import signal
import socket
import subprocess
import sys
import threading
from urllib.parse import urlsplit

import pytest
from starlette.applications import Starlette

from finetune.errors import ServingError
from finetune.serving.run import running, serve

PROGRAM = """
import asyncio, sys
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from finetune.serving.run import serve

async def slow(request):
    print("asked", flush=True)
    await asyncio.sleep(0.3)
    return PlainTextResponse("done")

serve(Starlette(routes=[Route("/", slow)]), "127.0.0.1", 0, lambda url: print(url, flush=True))
print("ended", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_the_answer_under_way_finish_and_returns(number: signal.Signals) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        place = urlsplit(process.stdout.readline().strip())
        connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=30)
        connection.request("GET", "/")
        assert process.stdout.readline() == "asked\n"
        process.send_signal(number)
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (200, b"done")
        connection.close()
        out, err = process.communicate(timeout=30)
        # Quiet: no words but the program's own.
        assert (out, err, process.returncode) == ("ended\n", "", 0)
    finally:
        process.kill()
        process.communicate()


FAILS = """
import logging
from datetime import UTC, datetime
from finetune.ports import Served
from finetune.serving.pool import Pool
from finetune.serving.run import serve
from finetune.serving.server import create_app

class Source:
    def served(self):
        return [self.resolve("m")]

    def resolve(self, name):
        return Served(id="m", base_model="m", adapter=None, created_at=datetime.now(UTC))

def load(base, progress):
    raise ZeroDivisionError("deep down")

# As libraries do: with any handler on the root, Python itself prints nothing any more.
logging.getLogger().addHandler(logging.NullHandler())
app = create_app(Source(), Pool(load), api_key=None)
serve(app, "127.0.0.1", 0, lambda url: print(url, flush=True))
"""


def test_what_fails_is_in_the_servers_log_and_not_in_the_answer() -> None:
    process = subprocess.Popen([sys.executable, "-c", FAILS], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        place = urlsplit(process.stdout.readline().strip())
        connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=30)
        connection.request(
            "POST", "/v1/chat/completions", '{"model": "m", "messages": [{"role": "user", "content": "hi"}]}'
        )
        answer = connection.getresponse()
        said = answer.read().decode()
        connection.close()
        assert answer.status == 500
        assert "its log says more" in said
        assert "deep down" not in said
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=30)
        assert "ERROR POST /v1/chat/completions failed\nTraceback" in log
        assert log.count("ZeroDivisionError: deep down") == 1
    finally:
        process.kill()
        process.communicate()


def test_a_port_in_use_is_three_lines() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        for start in (lambda: serve(Starlette(), "127.0.0.1", port, print), lambda: enter(port)):
            with pytest.raises(ServingError) as caught:
                start()
            what, why, fix = str(caught.value).splitlines()
            assert what == f"error E757: port {port} on 127.0.0.1 is in use"
            assert why.startswith("  why: another program")
            assert "--port" in fix


def enter(port: int) -> None:
    with running(Starlette(), port=port):
        pass


def test_an_address_of_another_machine() -> None:
    with pytest.raises(ServingError) as caught:
        serve(Starlette(), "192.0.2.1", 0, print)
    assert caught.value.problems[0].code == "E757"


def test_it_runs_in_a_thread_and_stops_with_the_block() -> None:
    before = threading.active_count()
    with running(Starlette()) as url:
        place = urlsplit(url)
        connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=30)
        connection.request("GET", "/")
        assert connection.getresponse().status == 404
        connection.close()
    assert threading.active_count() == before
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((place.hostname, place.port), timeout=5)


def test_all_interfaces_are_reached_by_loopback() -> None:
    with running(Starlette(), host="0.0.0.0") as url:
        assert url.startswith("http://127.0.0.1:")
    with running(Starlette(), host="::1") as url:
        assert url.startswith("http://[::1]:")
