"""`ft models export` and `ft models gc`, as a user meets them."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from finetune.cli import exits
from finetune.store.kept import SqlKept
from tests.cli.desk import Desk
from tests.support import tiny
from tests.support.exports import Shelf


@pytest.fixture
def shelf(desk: Desk, tmp_path: Path) -> Iterator[Shelf]:
    made = Shelf(desk.home, tiny.save_base(tmp_path / "tiny-base"))
    yield made
    made.close()


def test_the_adapter_goes_beside_one(desk: Desk, shelf: Shelf) -> None:
    shelf.trained()
    ran = desk.call("models", "export", "bot@v1")
    assert ran.code == 0
    assert ran.out.startswith("bot@v1 as hf: bot-v1-hf (")
    assert (desk.folder / "bot-v1-hf" / "adapter_model.safetensors").is_file()
    assert "  ft-export.json\n" in ran.err
    assert desk.call("models", "export", "bot@v1").code_and_fault == (exits.USAGE, "E846")


def test_as_json(desk: Desk, shelf: Shelf) -> None:
    shelf.trained()
    said = desk.call("models", "export", "bot@v1", "--out", "there/bot", "--json").json
    assert set(said) == {"ref", "kind", "place", "files", "bytes", "notes"}
    assert (said["ref"], said["kind"], said["place"]) == ("bot@v1", "hf", "there/bot")
    there = desk.folder / "there" / "bot"
    assert said["files"] == sorted(path.name for path in there.iterdir())
    assert said["bytes"] == sum(path.stat().st_size for path in there.iterdir())


def test_a_process_merges(desk: Desk, shelf: Shelf) -> None:
    shelf.trained()
    ran = desk.run("models", "export", "bot@v1", "--to", "merged", "--out", "merged", timeout=180)
    assert ran.code == 0, ran.err
    assert ran.out.startswith("bot@v1 as merged: merged (")
    assert "comparing its answers with the adapter's\n" in ran.err
    assert json.loads((desk.folder / "merged" / "ft-export.json").read_text())["merged"]["equal"] == 3


_LIGHT = """
import sys
from finetune.wiring import Desk
desk = Desk()
for kind in ("hf", "merged"):
    desk.exporter.export(desk.registry.version("bot@v1"), kind, kind)
    assert not {"torch", "transformers", "peft", "celery"} & sys.modules.keys()
"""


def test_neither_torch_nor_celery_is_loaded_in_the_command(desk: Desk, shelf: Shelf) -> None:
    shelf.trained()
    done = subprocess.run([sys.executable, "-c", _LIGHT], cwd=desk.folder, capture_output=True, text=True, timeout=180)
    assert (done.returncode, done.stderr) == (0, "")
    assert (desk.folder / "merged" / "model.safetensors").is_file()


@pytest.mark.parametrize(
    "args",
    [
        ("--to", "gguf"),
        ("--push", "no-owner"),
        ("--push", "a/b", "--to", "merged"),
        ("--push", "a/b", "--out", "x"),
    ],
)
def test_what_does_not_go_together_is_said(desk: Desk, args: tuple[str, ...]) -> None:
    assert desk.call("models", "export", "bot@v1", *args).code_and_fault == (exits.USAGE, "E901")


def test_there_is_no_such_version(desk: Desk) -> None:
    assert desk.call("models", "export", "bot@v9").code_and_fault == (exits.NOT_FOUND, "E702")


def test_files_that_were_removed_are_told(desk: Desk, shelf: Shelf) -> None:
    for seed in (1, 2, 3):
        shelf.shift(shelf.trained(seed=seed).version)
    shutil.rmtree(shelf.models.models("bot")[0].artifact["path"])
    assert SqlKept(shelf.world.database).note_gone([("bot", 1)], shelf.world.clock.now())
    ran = desk.call("models", "export", "bot@v1")
    assert ran.code_and_fault == (exits.NOT_FOUND, "E845")
    assert "removed its files on 2027-01-01" in ran.err
    chat = desk.run("chat", "bot@v1", "hello")
    assert (chat.code, chat.out, chat.err.splitlines()[1][:11]) == (exits.FAILED, "", "error E751:")


def test_nothing_young_goes(desk: Desk, shelf: Shelf) -> None:
    shelf.trained(version=False)
    shelf.failed()
    ran = desk.call("models", "gc", "-y")
    assert (ran.code, ran.out, ran.err) == (0, "", "nothing to remove\n")


@pytest.fixture
def half_removed(shelf: Shelf) -> Path:
    """What a sweep that was killed has left; it need not be old."""
    lost = Path(shelf.trained(version=False).artifact["path"])
    going = lost.with_name(f".going-{lost.name}-1")
    lost.rename(going)
    return going


def test_garbage_is_shown_asked_for_and_removed(desk: Desk, half_removed: Path) -> None:
    shown = desk.call("models", "gc", "--dry-run")
    assert (shown.code, shown.out.split()[:2]) == (0, ["would", "go"])
    assert str(half_removed) in shown.out
    # Nobody can be asked here.
    assert desk.call("models", "gc").code_and_fault == (exits.USAGE, "E901")
    assert half_removed.is_dir()
    ran = desk.call("models", "gc", "-y")
    assert (ran.code, ran.out.split()[0]) == (0, "removed")
    assert not half_removed.exists()


def test_garbage_as_json(desk: Desk, half_removed: Path) -> None:
    found = desk.call("models", "gc", "--dry-run", "--json").json
    (one,) = found["found"]
    assert (found["removed"], found["strange"]) == ([], 0)
    assert {name: one[name] for name in ("path", "why", "models")} == {
        "path": str(half_removed),
        "why": "half removed before",
        "models": [],
    }
    assert desk.call("models", "gc", "-y", "--json").json == {"removed": [one], "found": [], "strange": 0}


def test_what_is_not_ours_is_counted(desk: Desk) -> None:
    (desk.home / "adapters" / "somebodys").mkdir(parents=True)
    ran = desk.call("models", "gc", "-y")
    assert ran.code == 0
    assert ran.err.splitlines()[0].startswith("1 adapters were left alone")


@pytest.mark.parametrize("age", ["30", "0d", "1h", "d", "-1d", "1.5d", "d1"])
def test_an_age_that_is_none(desk: Desk, age: str) -> None:
    assert desk.call("models", "gc", f"--older-than={age}").code_and_fault == (exits.USAGE, "E901")
    assert not os.path.exists(desk.home / "adapters")
