"""What nobody needs goes from the bucket too, and nothing else."""

import logging
import re
import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from moto.core import DEFAULT_ACCOUNT_ID
from moto.s3.models import s3_backends

from finetune.errors import StateError
from finetune.exports.garbage import Heap
from finetune.jobs import Job
from finetune.shelf.objects import MANIFEST
from finetune.testing import STRAIGHT
from finetune.versions import ModelStatus, ModelVersion
from finetune.wiring import Desk
from tests.cli.desk import Desk as Commands
from tests.support.exports import Shelf
from tests.support.jobs import sqlite
from tests.support.machines import PREFIX, answer, folders, kept, keys, late, name, upload

# PEFT 0.21 asks transformers 5 by an old name.
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")


def test_garbage_goes_with_its_copy_and_what_is_registered_stays(
    shelf: Shelf, machine: Callable[..., Desk], s3: Any
) -> None:
    a = machine("a")
    one, lost = kept(shelf, a), shelf.trained(seed=2, version=False)
    upload(a, lost)
    names = {f"ft/{name(each)}/adapter_model.safetensors" for each in (one, lost)}
    assert names <= keys(s3)
    late(a)
    (found,) = a.garbage.look().found
    assert found.remote == f"{PREFIX}/{name(lost)}"
    assert names <= keys(s3)
    assert [each.path for each in a.garbage.remove(a.garbage.look())] == [Path(lost.artifact["path"])]
    assert folders(s3) == {name(one)}


def test_what_was_half_removed_is_removed_with_its_copy(
    shelf: Shelf, machine: Callable[..., Desk], s3: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = machine("a")
    lost = shelf.trained(seed=2, version=False)
    upload(a, lost)
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
    shelf: Shelf, machine: Callable[..., Desk], s3: Any
) -> None:
    one, *others = (kept(shelf, machine("a"), seed=seed) for seed in (1, 2, 3))
    for version in (1, 2, 3):
        shelf.shift(version)
    assert shelf.models.models("bot")[0].status is ModelStatus.RETIRED
    b = late(machine("b"))
    assert b.garbage.look().found == ()
    (found,) = b.garbage.look(retired=True).found
    assert (found.remote, found.versions[0].ref) == (f"{PREFIX}/{name(one)}", one.ref)
    assert b.garbage.remove(b.garbage.look(retired=True))
    assert folders(s3) == {name(each) for each in others}
    assert b.garbage.look(retired=True).found == ()


HOURS_23, HOURS_25 = timedelta(hours=23), timedelta(hours=25)


def lost_upload(shelf: Shelf, desk: Desk, **how: Any) -> ModelVersion:
    """Uploaded, and then its job came to nothing; the machine that trained it is gone."""
    lost = shelf.trained(**{"seed": 2, **how}, version=False)
    upload(desk, lost)
    shutil.rmtree(lost.artifact["path"])
    return lost


def cancelled(shelf: Shelf, job: Job) -> None:
    shelf._end_run(job, "cancelled", None)
    shelf.provider.script = ("cancelled",)
    shelf.world.run(job.id)
    shelf.provider.script = STRAIGHT


def addresses(heap: Heap) -> list[str | None]:
    assert [each for each in heap.found if each.here] == []
    return sorted(each.remote or "" for each in heap.found)


def test_an_upload_that_no_version_has_goes_after_a_day(
    shelf: Shelf, machine: Callable[..., Desk], s3: Any, tmp_path: Path
) -> None:
    a, b = machine("a"), machine("b")
    one, lost = kept(shelf, a), lost_upload(shelf, a)
    shutil.rmtree(one.artifact["path"])
    assert late(b, HOURS_23).garbage.look(timedelta(0)).found == ()
    c = late(machine("c"), HOURS_25)
    assert c.garbage.look(timedelta(days=2)).found == ()
    (found,) = c.garbage.look().found
    assert (found.remote, found.here) == (f"{PREFIX}/{name(lost)}", False)
    there = s3.list_objects_v2(Bucket="box", Prefix=f"ft/{name(lost)}/")["Contents"]
    assert found.bytes == sum(each["Size"] for each in there)
    assert found.why == f"no version has it; made for {lost.job_id}, which is failed"
    assert folders(s3) == {name(one), name(lost)}
    assert c.garbage.remove(c.garbage.look()) == [found]
    assert folders(s3) == {name(one)}
    assert c.garbage.look().found == ()
    assert answer(c, one.ref)


@pytest.mark.parametrize("left", [["lineage.json"], ["lineage.json", "adapter_config.json"]])
def test_an_upload_that_broke_off_goes_too(
    shelf: Shelf, machine: Callable[..., Desk], s3: Any, left: list[str]
) -> None:
    lost = lost_upload(shelf, machine("a"))
    for key in keys(s3) - {f"ft/{name(lost)}/{each}" for each in left}:
        s3.delete_object(Bucket="box", Key=key)
    b = late(machine("b"))
    assert len(b.garbage.remove(b.garbage.look())) == 1
    assert keys(s3) == set()


def test_at_every_moment_of_an_upload_and_a_removal_it_says_who_made_it(
    shelf: Shelf, machine: Callable[..., Desk], s3: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "werkzeug")
    a = machine("a")
    lost = lost_upload(shelf, a)
    a.adapters.remove(f"{PREFIX}/{name(lost)}")
    assert keys(s3) == set()
    for done, (first, last) in {"PUT": ("lineage.json", MANIFEST), "DELETE": (MANIFEST, "lineage.json")}.items():
        names = re.findall(rf"{done} /box/ft/{name(lost)}/(\S+)", caplog.text)
        assert (names[0], names[-1], len(names)) == (first, last, 4), done


def test_what_the_books_cannot_account_for_stays_in_the_bucket(
    shelf: Shelf, machine: Callable[..., Desk], s3: Any
) -> None:
    kept(shelf, machine("a"))
    strange = {
        "a" * 32: b'{"run_key": "of-another-database"}',
        "b" * 32: b"{",
        "c" * 32: b"[]",
        "d" * 32: b'{"run_key": 7}',
    }
    for folder, lineage in strange.items():
        s3.put_object(Bucket="box", Key=f"ft/{folder}/lineage.json", Body=lineage)
    s3.put_object(Bucket="box", Key=f"ft/{'e' * 32}/adapter_model.safetensors", Body=b"x")
    # None of ours by their names.
    for key in ("ft/README", "ft/exports/bot/README.md", f"ft/{'f' * 32}", f"ft-other/{'f' * 32}/lineage.json"):
        s3.put_object(Bucket="box", Key=key, Body=b"x")
    before, b = keys(s3), late(machine("b"))
    heap = b.garbage.look(retired=True)
    assert (heap.found, heap.strange) == ((), ())
    assert heap.strange_copies == tuple(f"{PREFIX}/{letter * 32}" for letter in "abcde")
    assert b.garbage.remove(heap) == []
    assert keys(s3) == before


def test_what_is_here_decides_on_its_copy(shelf: Shelf, machine: Callable[..., Desk], s3: Any) -> None:
    a = machine("a")
    lost = shelf.trained(version=False)
    upload(a, lost)
    (shelf.adapters / name(lost) / "lineage.json").write_text('{"run_key": "of-another-database"}')
    heap = late(a).garbage.look()
    assert (heap.found, [path.name for path in heap.strange], heap.strange_copies) == ((), [name(lost)], ())


def test_what_a_training_under_way_makes_again_stays_in_the_bucket(
    shelf: Shelf, machine: Callable[..., Desk], s3: Any
) -> None:
    """It would find the upload, and make none of its own."""
    lost, b = lost_upload(shelf, machine("a")), late(machine("b"))
    heap = b.garbage.look()
    assert addresses(heap) == [f"{PREFIX}/{name(lost)}"]
    job = shelf.unfinished(makes=lost.job_id)
    assert b.garbage.look().found == ()
    assert b.garbage.remove(heap) == []
    assert folders(s3) == {name(lost)}
    cancelled(shelf, job)
    assert len(b.garbage.remove(b.garbage.look())) == 1


def test_who_comes_to_need_it_between_look_and_remove_keeps_it_in_the_bucket(
    shelf: Shelf, machine: Callable[..., Desk], s3: Any
) -> None:
    lost, b = lost_upload(shelf, machine("a")), late(machine("b"))
    heap = b.garbage.look()
    job = shelf.unfinished()
    shelf._end_run(job, "succeeded", {"path": lost.artifact["path"], "digest": lost.artifact["digest"]})
    assert b.garbage.remove(heap) == []
    assert folders(s3) == {name(lost)}


def three(shelf: Shelf, machine: Callable[..., Desk]) -> ModelVersion:
    """Of three versions the first, which has retired, and lies in the bucket alone."""
    one, *_ = (kept(shelf, machine("a"), seed=seed) for seed in (1, 2, 3))
    for version in (1, 2, 3):
        shelf.shift(version)
    shutil.rmtree(one.artifact["path"])
    return one


def gone_with_its_copy_left(shelf: Shelf, machine: Callable[..., Desk], patch: pytest.MonkeyPatch) -> ModelVersion:
    """The same, marked as gone by a sweep to which the bucket did not answer in the end."""
    one, b = three(shelf, machine), late(machine("b"))
    heap = b.garbage.look(retired=True)
    with patch.context() as away:
        away.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        with pytest.raises(StateError, match="E512"):
            b.garbage.remove(heap)
    (after,) = [each for each in shelf.models.models("bot") if each.ref == one.ref]
    assert after.artifact["gone"]
    return one


def test_a_copy_that_a_broken_off_sweep_left_goes_with_the_next(
    shelf: Shelf, machine: Callable[..., Desk], s3: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, b = gone_with_its_copy_left(shelf, machine, monkeypatch), late(machine("b"))
    assert b.garbage.look().found == ()
    (found,) = b.garbage.look(retired=True).found
    assert (found.remote, found.why, found.here) == (f"{PREFIX}/{name(one)}", "half removed before", False)
    assert b.garbage.remove(b.garbage.look(retired=True)) == [found]
    assert name(one) not in folders(s3)
    assert b.garbage.look(retired=True).found == ()


def test_a_copy_that_was_left_is_no_garbage_once_it_is_made_again(
    shelf: Shelf, machine: Callable[..., Desk], s3: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, b = gone_with_its_copy_left(shelf, machine, monkeypatch), late(machine("b"))
    heap = b.garbage.look(retired=True)
    assert addresses(heap) == [f"{PREFIX}/{name(one)}"]
    job = shelf.unfinished(makes=one.job_id)
    assert b.garbage.look(retired=True).found == ()
    assert b.garbage.remove(heap) == []
    cancelled(shelf, job)
    again = shelf.trained(seed=1)
    assert name(again) == name(one)
    assert b.garbage.look(retired=True).found == ()
    assert name(one) in folders(s3)


def test_the_command_says_what_is_in_the_bucket_alone(
    shelf: Shelf, machine: Callable[..., Desk], s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = lost_upload(shelf, machine("a"))
    # The command has the system's clock.
    for key in s3_backends[DEFAULT_ACCOUNT_ID]["aws"].buckets["box"].keys.values():
        key.last_modified -= timedelta(days=2)
    s3.put_object(Bucket="box", Key=f"ft/{'a' * 32}/lineage.json", Body=b"{}")
    for variable, value in {"FT_HOME": str(tmp_path / "b"), "FT_DATABASE_URL": sqlite(tmp_path / "a")}.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setenv("FT_ARTIFACTS", PREFIX)
    commands = Commands(tmp_path)
    shown = commands.call("models", "gc", "--dry-run")
    assert f"{PREFIX}/{name(lost)}  no version has it; made for {lost.job_id}" in shown.out
    assert "1 adapters were left alone" in shown.err
    found = commands.call("models", "gc", "--dry-run", "--json").json
    (one,) = found["found"]
    assert (one["path"], one["uri"], found["strange"]) == (None, f"{PREFIX}/{name(lost)}", 1)
    assert folders(s3) == {name(lost), "a" * 32}
    assert commands.call("models", "gc", "-y", "--json").json == {"removed": [one], "found": [], "strange": 1}
    assert folders(s3) == {"a" * 32}
