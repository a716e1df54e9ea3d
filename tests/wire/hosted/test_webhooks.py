"""A signed call of the vendor's wakes its job at once, over real HTTP; lost or doubled calls change nothing."""

import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from starlette.applications import Starlette

from finetune.inbox import Inbox
from finetune.jobs import JobState
from finetune.sandbox.faults import Fault
from finetune.sandbox.openai.jobs import Timing
from finetune.sandbox.openai.sandbox import OpenAiSandbox
from finetune.sandbox.server import Server
from finetune.serving.notices import route
from finetune.serving.run import running
from tests.support.hosted_world import JOB, HostedWorld
from tests.support.process import wait_until
from tests.support.travel import Traveller

SECRET = "whsec_c2FuZGJveC1zZWNyZXQtc2FuZGJveC1zZWNyZXQ="
PATH = "/webhooks/openai"


class Site:
    """A job that runs at a stand-in, whose notices come in at our server."""

    def __init__(self, folder: Path, faults: tuple[Fault, ...] = ()) -> None:
        self.inbox: Inbox | None = None
        self.seen: list[str | None] = []
        self._serving = running(Starlette(routes=[route(self.receive)]))
        self.url = self._serving.__enter__()
        # Long enough that nobody polls it by chance: only the notice can tell so soon.
        sandbox = OpenAiSandbox(webhook=(self.url + PATH, SECRET), timing=Timing(running_s=5000))
        for each in faults:
            sandbox.faults.lay(each)
        self.server = Server(sandbox)
        self.server.start()
        self.clock = Traveller(sandbox.clock.advance)
        environ = {**self.server.environment, "OPENAI_WEBHOOK_SECRET": SECRET}
        self.world = HostedWorld("openai", folder, environ, self.clock, read_s=5.0)
        find = {"openai": self.world.provider}.get
        self.inbox = Inbox(self.world.jobs, find, self.world.queue, self.clock)
        self.world.submit()
        self.job = self.world.run(until=lambda job: job.state is JobState.RUNNING)

    def receive(self, *call: Any) -> str | None:
        assert self.inbox is not None
        self.seen.append(self.inbox.receive(*call))
        return self.seen[-1]

    def post(self, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, Any]:
        place = urlsplit(self.url)
        connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=30)
        try:
            connection.request("POST", path, body, headers)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    def close(self) -> None:
        self.server.stop()
        assert self.server.broken == []
        self._serving.__exit__(None, None, None)
        self.world.close()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    made.close()


def test_a_notice_wakes_its_job_at_once(site: Site) -> None:
    site.world.lifecycle().advance(JOB)
    before = site.world.jobs.get(JOB)
    assert before.due_at is not None
    site.server.sandbox.clock.advance(6000)
    wait_until(lambda: site.seen, 20, "the notice")

    assert site.seen[0] == JOB
    job = site.world.jobs.get(JOB)
    assert job.due_at is not None
    assert job.due_at <= site.clock.now()
    assert ("ft.advance", JOB) in site.world.queue.rung
    assert site.world.run().state is JobState.SUCCEEDED


def test_a_notice_that_comes_twice_does_nothing_twice(tmp_path: Path) -> None:
    site = Site(tmp_path, (Fault(kind="webhook_twice", on="webhook"),))
    try:
        site.server.sandbox.clock.advance(6000)
        wait_until(lambda: len(site.seen) > 1, 20, "both notices")
        assert site.world.run().state is JobState.SUCCEEDED
        assert [model.ref for model in site.world.models.models()] == ["bot@v1"]
    finally:
        site.close()


def test_a_notice_that_is_lost_is_found_out_by_looking(tmp_path: Path) -> None:
    site = Site(tmp_path, (Fault(kind="webhook_lost", on="webhook", times=None),))
    try:
        site.server.sandbox.clock.advance(6000)
        assert site.world.run().state is JobState.SUCCEEDED
        assert site.seen == []
    finally:
        site.close()


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        (PATH, {}, 401),
        (PATH, {"webhook-id": "a", "webhook-timestamp": "1", "webhook-signature": "v1,AAAA"}, 401),
        ("/webhooks/nobody", {}, 404),
    ],
)
def test_what_is_not_signed_wakes_nobody(site: Site, path: str, headers: dict[str, str], status: int) -> None:
    body = json.dumps({"type": "fine_tuning.job.succeeded", "data": {"id": site.job.remote_id}}).encode()
    found, said = site.post(path, body, headers)
    assert found == status
    assert said["error"]["message"]
    assert SECRET not in json.dumps(said)
    assert site.seen == []


def test_a_body_that_is_too_large_is_not_read(site: Site) -> None:
    assert site.post(PATH, b"x" * 100_000, {})[0] == 413
