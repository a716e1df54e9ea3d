"""How much and for how long Together may send an adapter: a server that never ends holds nobody."""

import threading
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from finetune.errors import ProviderError, ProviderUnavailable
from finetune.providers.together import TogetherProvider
from finetune.providers.together_wire import Bounds
from finetune.testing import ManualClock
from tests.support import hosted

ARTIFACT = {"job": "ft-1", "model": "me/bot", "tuning": "Lora"}
MUCH = Bounds(bytes=10**12, seconds=3600.0)


class Passing(ManualClock):
    """Each look at it takes ten seconds."""

    def now(self):
        self.sleep(10)
        return super().now()


@contextmanager
def endless(status=200, pieces=None):
    """A server that never ends its answer: its address, what it was asked with, and how many bytes it has sent.

    It sends for as long as anybody listens, or so many pieces and then nothing more.
    """
    asked, sent, ended = [], [], threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append({name.lower(): value for name, value in self.headers.items()})
            self.send_response(status)
            self.end_headers()
            try:
                while pieces is None or len(sent) < pieces:
                    sent.append(self.wfile.write(b"x" * 10_000))
                ended.wait(60)
            except OSError:
                pass

        def log_message(self, format, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked, sent
    finally:
        ended.set()
        server.shutdown()
        server.server_close()
        thread.join(10)


def provider(folder, url, clock, download):
    environ = {"TOGETHER_BASE_URL": url, "TOGETHER_API_KEY": "key"}
    return TogetherProvider(hosted.kit(folder, environ, clock), download=download)


def test_too_many_bytes_are_refused_for_good(tmp_path):
    with endless() as (url, asked, sent):
        one = provider(tmp_path, url, ManualClock(), Bounds(bytes=100_000, seconds=3600.0))
        with pytest.raises(ProviderError) as refused:
            one.fetch_adapter(ARTIFACT, tmp_path / "adapter")
    problem = refused.value.problems[0]
    assert (type(refused.value), refused.value.retry, problem.code) == (ProviderError, False, "E411")
    assert "more than 100000 bytes" in problem.why
    assert list((tmp_path / "adapter").iterdir()) == []
    assert [each["accept-encoding"] for each in asked] == ["identity"]
    assert sum(sent) < 50_000_000, "what was on its way, and no more"


def test_what_takes_too_long_is_tried_another_time(tmp_path):
    clock = Passing()
    with endless() as (url, *_):
        one = provider(tmp_path, url, clock, Bounds(bytes=MUCH.bytes, seconds=60.0))
        begun = clock.now()
        with pytest.raises(ProviderUnavailable) as late:
            one.fetch_adapter(ARTIFACT, tmp_path / "adapter")
    assert "after 60 s it is not done" in late.value.problems[0].why
    assert clock.now() - begun < timedelta(seconds=300)
    assert list((tmp_path / "adapter").iterdir()) == []


def test_a_little_now_and_then_is_no_way_to_hold_us(tmp_path):
    """No piece of some size is waited for: each that comes is a look at the clock."""
    with endless(pieces=1) as (url, *_):
        one = provider(tmp_path, url, Passing(), Bounds(bytes=MUCH.bytes, seconds=5.0))
        with pytest.raises(ProviderUnavailable) as late:
            one.fetch_adapter(ARTIFACT, tmp_path / "adapter")
    assert "after 5 s it is not done" in late.value.problems[0].why


@pytest.mark.parametrize("clock", [ManualClock, Passing])
def test_a_refusal_without_an_end_is_read_in_part(tmp_path, clock):
    with endless(status=500) as (url, *_), pytest.raises(ProviderUnavailable, match="500"):
        provider(tmp_path, url, clock(), MUCH).fetch_adapter(ARTIFACT, tmp_path / "adapter")
