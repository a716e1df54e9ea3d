"""An adapter pushed to the Hugging Face Hub by `ft`, as a process, against the stand-in."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from finetune.sandbox.gateways.answers import KEY
from finetune.sandbox.gateways.hub import HubSandbox
from finetune.sandbox.server import Server
from tests.support import tiny
from tests.support.exports import Shelf
from tests.support.process import run_ft


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[Shelf]:
    made = Shelf(Path(os.environ["FT_HOME"]), tiny.save_base(tmp_path / "tiny-base"))
    yield made
    made.close()


def test_a_version_is_pushed_with_its_card_and_twice_is_once(shelf: Shelf, tmp_path: Path) -> None:
    one = shelf.trained()
    sandbox = HubSandbox()
    with Server(sandbox) as server:
        more = {"HF_HUB_DISABLE_XET": "1", "HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path / "hf")}
        env = {**server.environment, **more}
        for _ in range(2):
            args = ("models", "export", "bot@v1", "--push", "acme/support-bot")
            ran = run_ft(*args, env=env, cwd=tmp_path, timeout=120)
            assert ran.returncode == 0, ran.stderr
            tag = f"bot-v1-{one.artifact['digest'][:12]}"
            assert ran.stdout.startswith(f"bot@v1 as hf: acme/support-bot@{tag} (")
            assert KEY not in ran.stdout + ran.stderr
        assert server.broken == []
    (repository,) = sandbox.repositories.values()
    assert list(sandbox.repositories) == ["acme/support-bot"]
    assert repository.private
    assert len(repository.commits) == 2
    files = repository.commits[repository.tags[tag]]
    assert files["adapter_model.safetensors"] == (Path(one.artifact["path"]) / "adapter_model.safetensors").read_bytes()
    assert b'PeftModel.from_pretrained(base, "acme/support-bot")' in files["README.md"]
    assert [name for name, content in files.items() if str(tmp_path).encode() in content] == []
    assert not list((shelf.home / "exports").iterdir())


def test_without_a_token_nothing_is_sent(shelf: Shelf, tmp_path: Path) -> None:
    shelf.trained()
    ran = run_ft("models", "export", "bot@v1", "--push", "acme/bot", cwd=tmp_path, timeout=60)
    assert ran.returncode == 2
    assert "E825: HF_TOKEN not set" in ran.stderr
