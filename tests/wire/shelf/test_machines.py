"""Two machines with one database and one bucket: what one has trained, the other serves, measures, exports, removes."""

import json
import shutil
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from finetune.clock import SystemClock
from finetune.errors import GatewayError, ServingError
from finetune.files import digest
from finetune.measuring import Wish
from finetune.settings import from_environment
from finetune.versions import ModelStatus, ModelVersion
from finetune.wiring import Desk
from tests.support import tiny
from tests.support.exports import Shelf
from tests.support.jobs import sqlite

# PEFT 0.21 asks transformers 5 by an old name.
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")

PREFIX = "s3://box/ft"


class Ahead(SystemClock):
    """A clock that is ahead of the files' time."""

    def now(self) -> datetime:
        return super().now() + timedelta(days=900)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save_base(tmp_path_factory.mktemp("bases") / "tiny")


@pytest.fixture
def shelf(tmp_path: Path, base: Path) -> Iterator[Shelf]:
    """The home of the machine that trains."""
    made = Shelf(tmp_path / "a", base)
    yield made
    made.close()


@pytest.fixture
def machine(tmp_path: Path, s3: Any) -> Iterator[Callable[[str], Desk]]:
    """A machine by its name. All have one database."""
    made: list[Desk] = []

    def start(name: str) -> Desk:
        env = {"FT_HOME": str(tmp_path / name), "FT_DATABASE_URL": sqlite(tmp_path / "a"), "FT_ARTIFACTS": PREFIX}
        made.append(Desk(from_environment(env)))
        return made[-1]

    yield start
    for desk in made:
        desk.close()


def keys(client: Any) -> set[str]:
    return {each["Key"] for each in client.list_objects_v2(Bucket="box").get("Contents", [])}


def kept(shelf: Shelf, desk: Desk, **how: Any) -> ModelVersion:
    """A version that was trained, and uploaded as `ft models sync` does it."""
    one = shelf.trained(**how)
    assert (one.ref, f"{PREFIX}/{one.artifact['digest'][:32]}") in list(desk.upload_late())
    return one


def answer(desk: Desk, ref: str) -> str:
    chat = desk.chat(ref)
    asked = [{"role": "user", "content": "colour?"}]
    return "".join(chat.stream(asked, max_tokens=12, temperature=0, seed=None))


def test_another_machine_serves_and_exports_it(
    shelf: Shelf, machine: Callable[[str], Desk], s3: Any, tmp_path: Path
) -> None:
    a, b = machine("a"), machine("b")
    one = kept(shelf, a)
    said = answer(a, one.ref)
    shutil.move(tmp_path / "a" / "adapters", tmp_path / "away")
    here = tmp_path / "b" / "adapters" / one.artifact["digest"][:32]
    assert {model.id: model.adapter for model in b.registry.served()}[one.ref] == here
    assert not here.exists()
    assert answer(b, one.ref) == said
    assert answer(b, one.base_model) != said
    assert digest(here) == one.artifact["digest"]
    shutil.rmtree(here)
    s3.delete_objects(Bucket="box", Delete={"Objects": [{"Key": key} for key in keys(s3)]})
    # In memory it needs neither.
    assert answer(b, one.ref) == said
    assert not here.exists()


def test_it_is_exported_and_measured_there(shelf: Shelf, machine: Callable[[str], Desk], tmp_path: Path) -> None:
    one = kept(shelf, machine("a"))
    shutil.rmtree(tmp_path / "a" / "adapters")
    b = machine("b")
    b.exporter.export(one, "hf", str(tmp_path / "out"))
    assert json.loads((tmp_path / "out" / "ft-export.json").read_text())
    here = tmp_path / "b" / "adapters" / one.artifact["digest"][:32]
    shutil.rmtree(here)
    row = {"messages": [{"role": "user", "content": "colour?"}, {"role": "assistant", "content": "red"}]}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n")
    (tmp_path / "suite.yaml").write_text("name: small\nmetrics: [exact_match]\nrows: rows.jsonl\n")
    suites = (str(tmp_path / "suite.yaml"),)
    _, (report,) = b.measure(one.ref, Wish(suites=suites, held_out=False), None)
    assert report["tuned"]
    assert digest(here) == one.artifact["digest"]


def test_a_home_whose_adapters_were_lost_gets_them_back(
    shelf: Shelf, machine: Callable[[str], Desk], tmp_path: Path
) -> None:
    a = machine("a")
    one = kept(shelf, a)
    shutil.rmtree(tmp_path / "a" / "adapters")
    assert answer(a, one.ref)
    assert digest(Path(one.artifact["path"])) == one.artifact["digest"]


def test_what_was_changed_in_the_bucket_answers_nowhere(
    shelf: Shelf, machine: Callable[[str], Desk], s3: Any, tmp_path: Path
) -> None:
    one = kept(shelf, machine("a"))
    shutil.rmtree(tmp_path / "a" / "adapters")
    s3.put_object(Bucket="box", Key=f"ft/{one.artifact['digest'][:32]}/adapter_model.safetensors", Body=b"changed")
    b = machine("b")
    with pytest.raises(ServingError, match="E838"):
        b.chat(one.ref)
    with pytest.raises(GatewayError, match="E838"):
        b.exporter.export(one, "hf", str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()
    assert list((tmp_path / "b" / "adapters").iterdir()) == []


def test_what_is_nowhere_is_said(shelf: Shelf, machine: Callable[[str], Desk], tmp_path: Path) -> None:
    one = shelf.trained()
    shutil.rmtree(tmp_path / "a" / "adapters")
    with pytest.raises(ServingError, match=r"E512.*\n.*no whole adapter.*\n.*ft models sync"):
        machine("b").chat(one.ref)
    assert list(machine("a").upload_late()) == []


def late(desk: Desk) -> Desk:
    desk.clock = Ahead()
    return desk


def test_garbage_goes_with_its_copy_and_what_is_registered_stays(
    shelf: Shelf, machine: Callable[[str], Desk], s3: Any
) -> None:
    a = machine("a")
    one, lost = kept(shelf, a), shelf.trained(seed=2, version=False)
    a.adapters.shelve(Path(lost.artifact["path"]), lost.artifact["digest"])
    names = {f"ft/{each.artifact['digest'][:32]}/adapter_model.safetensors" for each in (one, lost)}
    assert names <= keys(s3)
    late(a)
    (found,) = a.garbage.look().found
    assert found.remote == f"{PREFIX}/{lost.artifact['digest'][:32]}"
    assert names <= keys(s3)
    assert [each.path for each in a.garbage.remove(a.garbage.look())] == [Path(lost.artifact["path"])]
    assert {key.split("/")[1] for key in keys(s3)} == {one.artifact["digest"][:32]}


def test_what_was_half_removed_is_removed_with_its_copy(
    shelf: Shelf, machine: Callable[[str], Desk], s3: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = machine("a")
    lost = shelf.trained(seed=2, version=False)
    a.adapters.shelve(Path(lost.artifact["path"]), lost.artifact["digest"])
    late(a)
    heap = a.garbage.look()
    with monkeypatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        with pytest.raises(Exception, match="E512"):
            a.garbage.remove(heap)
    assert keys(s3)
    assert len(a.garbage.remove(a.garbage.look())) == 1
    assert keys(s3) == set()
    assert list(shelf.adapters.iterdir()) == []


def test_a_retired_version_goes_from_the_bucket_also_from_another_machine(
    shelf: Shelf, machine: Callable[[str], Desk], s3: Any
) -> None:
    one, *others = (kept(shelf, machine("a"), seed=seed) for seed in (1, 2, 3))
    for version in (1, 2, 3):
        shelf.shift(version)
    assert shelf.models.models("bot")[0].status is ModelStatus.RETIRED
    b = late(machine("b"))
    assert b.garbage.look().found == ()
    (found,) = b.garbage.look(retired=True).found
    assert (found.remote, found.versions[0].ref) == (f"{PREFIX}/{one.artifact['digest'][:32]}", one.ref)
    assert b.garbage.remove(b.garbage.look(retired=True))
    assert {key.split("/")[1] for key in keys(s3)} == {each.artifact["digest"][:32] for each in others}
    assert b.garbage.look(retired=True).found == ()
