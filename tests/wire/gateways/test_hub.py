"""Adapters on the hub, by its own client against a stand-in. In a process of its own: the client is offline in ours."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from finetune.errors import UsageError
from finetune.gateways import hub
from finetune.sandbox.faults import Fault
from finetune.sandbox.gateways.answers import KEY
from finetune.sandbox.gateways.hub import HubSandbox
from finetune.sandbox.server import Server
from tests.support.gateways import deployment, kit
from tests.support.servers import free_port

#: `push FOLDER`, `untag FOLDER` ... one after another; each prints its result or its error as a line of JSON.
_CHILD = """
import dataclasses, json, os, sys
from pathlib import Path
from finetune.clock import SystemClock
from finetune.deployments import Deployment, GatewayKit
from finetune.errors import GatewayError
from finetune.gateways import hub

made = hub.build(GatewayKit(environ=dict(os.environ), clock=SystemClock(), port=1))
for words in sys.argv[1:]:
    what, ref, digest, folder = words.split()
    one = Deployment(ref=ref, public="x", digest=digest, base_model="b", adapter=Path(folder))
    try:
        result = getattr(made, what)(one)
        said = [dataclasses.asdict(each) if dataclasses.is_dataclass(each) else each
                for each in (result if isinstance(result, list) else [result])]
    except GatewayError as error:
        said = {"error": type(error).__name__, "code": error.problems[0].code, "text": str(error)}
    print(json.dumps(said))
"""


@dataclass
class World:
    sandbox: HubSandbox
    environ: dict[str, str]

    def run(self, *calls: tuple[str, Any], **environ: str) -> list[Any]:
        words = [f"{what} {one.ref} {one.digest} {one.adapter}" for what, one in calls]
        kept = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
        done = subprocess.run(
            [sys.executable, "-c", _CHILD, *words],
            env={**kept, "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", **self.environ, **environ},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        assert KEY not in done.stdout + done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    sandbox = HubSandbox()
    with Server(sandbox) as server:
        yield World(sandbox, {**server.environment, "HF_HOME": str(tmp_path / "hf")})
        assert server.broken == []


def test_a_version_is_pushed_once_privately_and_tagged(world: World, tmp_path: Path) -> None:
    a, b = deployment(tmp_path, 1), deployment(tmp_path, 2)
    assert a.adapter is not None
    (a.adapter / "chat_template.jinja").write_text("{{ messages }}")
    first, again, other, listed = world.run(("push", a), ("push", a), ("push", b), ("pushed", a))
    assert first == again
    assert first[0]["repo"] == "sandbox/support-bot"
    assert [each["tag"] for each in listed] == [a.model, b.model]
    assert other[0]["commit"] != first[0]["commit"]
    repository = world.sandbox.repositories["sandbox/support-bot"]
    assert repository.private
    # Nothing of the version before is left in the next one.
    files = repository.commits[other[0]["commit"]]
    assert b.adapter is not None
    assert {path: content for path, content in files.items() if path != ".gitattributes"} == {
        path.name: path.read_bytes() for path in b.adapter.iterdir()
    }


def test_what_arrived_is_compared_by_the_hubs_own_digests(world: World, tmp_path: Path) -> None:
    one = deployment(tmp_path, 1)
    world.sandbox.spoils = True
    (said,) = world.run(("push", one))
    assert said["code"] == "E827"
    assert "adapter.gguf, adapter_model.safetensors" in said["text"]


def test_another_content_under_the_tag_is_refused(world: World, tmp_path: Path) -> None:
    one = deployment(tmp_path, 1)
    world.run(("push", one))
    before = dict(world.sandbox.repositories["sandbox/support-bot"].commits)
    assert one.adapter is not None
    (one.adapter / "adapter_model.safetensors").write_bytes(b"other")
    said, differing = world.run(("push", one), ("differing", one))
    assert (said["error"], said["code"]) == ("GatewayError", "E827")
    assert differing == ["adapter_model.safetensors"]
    assert world.sandbox.repositories["sandbox/support-bot"].commits == before


def test_a_tag_is_taken_away_twice(world: World, tmp_path: Path) -> None:
    a, b = deployment(tmp_path, 1), deployment(tmp_path, 2)
    *_, listed = world.run(("push", a), ("push", b), ("untag", a), ("untag", a), ("pushed", a))
    assert [each["tag"] for each in listed] == [b.model]


def test_without_a_repository_there_is_nothing(world: World, tmp_path: Path) -> None:
    one = deployment(tmp_path, 1)
    assert world.run(("pushed", one), ("untag", one)) == [[], [None]]


def test_a_repository_that_all_can_read_is_refused(world: World, tmp_path: Path) -> None:
    one = deployment(tmp_path, 1)
    world.run(("push", one), ("untag", one))
    repository = world.sandbox.repositories["sandbox/support-bot"]
    repository.private = False
    before = len(repository.commits)
    (said,) = world.run(("push", one))
    assert said["code"] == "E828"
    assert (len(repository.commits), repository.tags) == (before, {})


def test_a_push_that_ended_before_its_tag_is_finished(world: World, tmp_path: Path) -> None:
    one = deployment(tmp_path, 1)
    world.sandbox.faults.lay(Fault(kind="server_error", on="tag"))
    failed, done = world.run(("push", one), ("push", one))
    assert (failed["error"], failed["code"]) == ("GatewayUnavailable", "E820")
    assert done[0]["tag"] == one.model


def test_a_wrong_token_and_nobody_there(world: World, tmp_path: Path) -> None:
    one = deployment(tmp_path, 1)
    (denied,) = world.run(("push", one), HF_TOKEN="hf_wrong_and_secret")
    assert (denied["error"], denied["code"]) == ("GatewayError", "E821")
    assert "HF_TOKEN" in denied["text"]
    assert "hf_wrong_and_secret" not in denied["text"]
    (gone,) = world.run(("push", one), HF_ENDPOINT=f"http://127.0.0.1:{free_port()}")
    assert (gone["error"], gone["code"]) == ("GatewayUnavailable", "E820")


def test_a_folder_that_is_not_whole_is_not_pushed(world: World, tmp_path: Path) -> None:
    one = deployment(tmp_path, 1)
    assert one.adapter is not None
    shutil.rmtree(one.adapter)
    (said,) = world.run(("push", one))
    assert said["code"] == "E826"
    assert world.sandbox.repositories == {}


@pytest.mark.parametrize("environ", [{}, {"HF_TOKEN": "x"}, {"FT_HUB_REPO": "x"}])
def test_what_is_missing_is_named(environ: dict[str, str]) -> None:
    with pytest.raises(UsageError) as caught:
        hub.build(kit(environ))
    for name in {"HF_TOKEN", "FT_HUB_REPO"} - environ.keys():
        assert name in caught.value.problems[0].what
