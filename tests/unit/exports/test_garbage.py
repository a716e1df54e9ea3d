"""What may be thrown away goes, and nothing else."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from finetune.deployments import Deployment
from finetune.errors import StateError
from finetune.exports.garbage import Collector, Heap
from finetune.placing import Places
from finetune.releasing import Releasing
from finetune.shelf import Adapters
from finetune.store.kept import SqlKept
from finetune.versions import ModelStatus, ModelVersion, Placed, Promotion
from tests.support import tiny
from tests.support.exports import Shelf

MONTHS = timedelta(days=900)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save_base(tmp_path_factory.mktemp("bases") / "tiny")


@pytest.fixture
def shelf(tmp_path: Path, base: Path) -> Iterator[Shelf]:
    made = Shelf(tmp_path / "home", base)
    yield made
    made.close()


@dataclass
class Ahead:
    """A clock that is ahead of the files' time."""

    by: timedelta

    def now(self) -> datetime:
        return datetime.now(UTC) + self.by

    def sleep(self, seconds: float) -> None:
        raise AssertionError("nothing waits here")


def collector(shelf: Shelf, by: timedelta = MONTHS, home: Path | None = None, bucket: str | None = None) -> Collector:
    def undescribed(model: ModelVersion, alias: str) -> Deployment:
        raise AssertionError("no gateway is asked here")

    places = Places(shelf.models, shelf.promotions, undescribed, undescribed, shelf.world.clock)  # type: ignore[arg-type]
    releasing = Releasing(
        shelf.models,
        shelf.promotions,
        places,
        shelf.world.clock,
        version=lambda ref: shelf.models.models("bot")[0],
        job=shelf.world.jobs.get,
        new_id=lambda: "pr_x",
    )
    home = home or shelf.home
    books = SqlKept(shelf.world.database)
    folders = (home / "adapters", home / "runs")
    remote = Adapters(folders[0], bucket)
    back = releasing.back
    return Collector(shelf.models, shelf.promotions, books, Ahead(by), back=back, folders=folders, remote=remote)


def names(heap: Heap) -> list[str]:
    return sorted(each.path.name for each in heap.found)


def swept(shelf: Shelf, **how: bool) -> list[str]:
    made = collector(shelf)
    return sorted(each.path.name for each in made.remove(made.look(**how)))


def folder(one: ModelVersion) -> Path:
    return Path(one.artifact["path"])


def test_what_a_version_has_stays(shelf: Shelf) -> None:
    one = shelf.trained()
    assert collector(shelf).look(retired=True) == Heap(found=(), strange=())
    assert swept(shelf) == []
    assert folder(one).is_dir()


def test_what_no_version_has_goes_with_its_reason(shelf: Shelf) -> None:
    kept, lost = shelf.trained(seed=1), shelf.trained(seed=2, version=False)
    (found,) = collector(shelf).look().found
    assert found.path == folder(lost)
    assert found.bytes == sum(path.stat().st_size for path in folder(lost).iterdir())
    assert f"{lost.job_id}, which is failed" in found.why
    assert swept(shelf) == [folder(lost).name]
    assert list(shelf.adapters.iterdir()) == [folder(kept)]
    assert swept(shelf) == []


def test_what_a_worker_left_between_its_two_renames_goes(shelf: Shelf) -> None:
    lost = folder(shelf.trained(version=False))
    left = lost.with_name(f".{lost.name}-3")
    lost.rename(left)
    assert swept(shelf) == [left.name]


@pytest.mark.parametrize(("hours", "goes"), [(23, False), (25, True)])
def test_nothing_younger_than_a_day_goes(shelf: Shelf, hours: int, goes: bool) -> None:
    shelf.trained(version=False)
    shelf.failed()
    made = collector(shelf, timedelta(hours=hours))
    assert len(made.look(timedelta(0)).found) == (2 if goes else 0)
    assert made.look(timedelta(days=2)).found == ()


def test_what_the_books_cannot_account_for_stays(shelf: Shelf) -> None:
    lost = folder(shelf.trained(version=False))
    strange = [lost.with_name(name) for name in ("unknown", "silent", "broken")]
    for path in strange:
        path.mkdir()
        (path / "adapter_model.safetensors").write_bytes(b"x")
    (strange[0] / "lineage.json").write_text('{"run_key": "of-another-database"}')
    (strange[2] / "lineage.json").write_text("[]")
    (shelf.runs / "unknown" / "checkpoints").mkdir(parents=True)
    assert sorted(collector(shelf).look().strange) == sorted(strange)
    assert swept(shelf) == [lost.name]
    assert all(path.is_dir() for path in strange)


def test_an_adapter_that_is_not_recorded_yet_stays(shelf: Shelf) -> None:
    """The run has ended, and no worker has looked at its job since: for months."""
    job = shelf.unfinished()
    lost = shelf.trained(version=False)
    assert names(collector(shelf).look()) == [folder(lost).name]
    shelf._end_run(job, "succeeded", {"path": str(folder(lost))})
    assert collector(shelf).look().found == ()


def test_what_a_training_under_way_will_make_again_stays(shelf: Shelf) -> None:
    lost = shelf.trained(version=False)
    job = shelf.unfinished(makes=lost.job_id)
    assert collector(shelf).look().found == ()
    shelf._end_run(job, "cancelled", None)
    shelf.provider.script = ("cancelled",)
    shelf.world.run(job.id)
    assert folder(lost).name in names(collector(shelf).look())


def test_one_home_by_two_paths_is_one_home(shelf: Shelf, tmp_path: Path) -> None:
    shelf.trained()
    (tmp_path / "link").symlink_to(shelf.home)
    assert collector(shelf, home=tmp_path / "link").look().found == ()


def test_of_ended_runs_checkpoints_go_and_logs_stay(shelf: Shelf) -> None:
    ended, going_on = shelf.failed(), shelf.unfinished()
    run = shelf.runs / str(ended.run_key)
    assert swept(shelf) == ["checkpoints"]
    assert [path.name for path in run.iterdir()] == ["trainer.log"]
    assert (shelf.runs / str(going_on.run_key) / "checkpoints").is_dir()


def test_what_a_killed_sweep_left_goes(shelf: Shelf) -> None:
    lost = folder(shelf.trained(version=False))
    lost.rename(lost.with_name(f".going-{lost.name}-1"))
    (lost.with_name(f".going-{lost.name}-1") / "lineage.json").unlink()
    assert len(swept(shelf)) == 1
    assert list(shelf.adapters.iterdir()) == []


def test_who_comes_to_need_it_between_look_and_remove_keeps_it(shelf: Shelf) -> None:
    lost = folder(shelf.trained(seed=1, version=False))
    made = collector(shelf)
    heap = made.look()
    assert len(heap.found) == 1
    again = shelf.trained(seed=1)
    assert folder(again) == lost
    assert made.remove(heap) == []
    assert sorted(path.name for path in lost.iterdir())[-1] == "lineage.json"


def test_two_sweeps_at_once_remove_it_once(shelf: Shelf) -> None:
    shelf.trained(version=False)
    first, second = collector(shelf), collector(shelf)
    heaps = first.look(), second.look()
    assert [len(first.remove(heaps[0])), len(second.remove(heaps[1]))] == [1, 0]


def test_what_the_disk_keeps_is_told(shelf: Shelf) -> None:
    shelf.trained(version=False)
    made = collector(shelf)
    heap = made.look()
    # A folder in its way: nobody, not even root, renames onto that.
    going = heap.found[0].path
    (going.with_name(f".going-{going.name}-{os.getpid()}") / "x").mkdir(parents=True)
    with pytest.raises(StateError):
        made.remove(heap)
    assert going.is_dir()


def three(shelf: Shelf) -> list[ModelVersion]:
    """v1, v2 and v3, which had all calls one after the other, long ago. A roll back leads to v2."""
    made = [shelf.trained(seed=seed) for seed in (1, 2, 3)]
    for one in made:
        shelf.shift(one.version)
    return made


def statuses(shelf: Shelf) -> list[str]:
    return [str(one.status) for one in shelf.models.models("bot")]


def test_retired_files_go_but_not_where_a_roll_back_leads(shelf: Shelf) -> None:
    one, two, three_ = three(shelf)
    assert statuses(shelf) == ["retired", "retired", "live"]
    assert swept(shelf) == []
    assert swept(shelf, retired=True) == [folder(one).name]
    assert [folder(each).is_dir() for each in (one, two, three_)] == [False, True, True]
    gone, *others = shelf.models.models("bot")
    assert gone.status is ModelStatus.RETIRED
    assert gone.artifact.items() >= one.artifact.items()
    assert datetime.fromisoformat(gone.artifact["gone"]) > datetime.now(UTC)
    assert all("gone" not in each.artifact for each in others)
    assert swept(shelf, retired=True) == []


def test_retired_files_stay_while_their_last_call_is_young(shelf: Shelf) -> None:
    shelf.later(days=MONTHS.days)
    one, _, _ = three(shelf)
    lost = shelf.models.moves("bot")[1].at - datetime.now(UTC)
    assert collector(shelf, lost + timedelta(hours=23)).look(retired=True).found == ()
    assert names(collector(shelf, lost + timedelta(hours=25)).look(retired=True)) == [folder(one).name]


def _promoting(shelf: Shelf) -> None:
    now = shelf.world.clock.now()
    shelf.promotions.begin(
        Promotion(id="pr_1", name="bot", version=1, alias="staging", gateways=(), due_at=now, by="me", created_at=now)
    )


def _placed(shelf: Shelf) -> None:
    at = shelf.world.clock.now()
    shelf.promotions.place(
        Placed(gateway="vllm", id="a", name="bot", version=1, alias="production", listed_as="a", at=at)
    )


def _verified(shelf: Shelf) -> None:
    shelf.models.set_status("bot", 1, ModelStatus.VERIFIED)


def _shared(shelf: Shelf) -> None:
    assert folder(shelf.trained(seed=1)) == folder(shelf.models.models("bot")[0])


@pytest.mark.parametrize("hold", [_promoting, _placed, _verified, _shared])
def test_retired_files_that_somebody_may_need_stay(shelf: Shelf, hold: Callable[[Shelf], None]) -> None:
    one, _, _ = three(shelf)
    hold(shelf)
    assert folder(one).name not in names(collector(shelf).look(retired=True))
    assert folder(one).name not in swept(shelf, retired=True)
    assert folder(one).is_dir()


def test_a_version_that_comes_back_between_look_and_remove_keeps_its_files(shelf: Shelf) -> None:
    one, _, _ = three(shelf)
    made = collector(shelf)
    heap = made.look(retired=True)
    shelf.shift(1)
    before = folder(one).stat().st_ctime_ns
    assert made.remove(heap) == []
    # Not even for a moment: a server may be about to load it.
    assert folder(one).stat().st_ctime_ns == before
    assert "gone" not in shelf.models.models("bot")[0].artifact


def test_of_two_versions_that_share_a_folder_one_comes_back(shelf: Shelf) -> None:
    for seed in (1, 1, 2, 3):
        shelf.shift(shelf.trained(seed=seed).version)
    made = collector(shelf)
    heap = made.look(retired=True)
    shelf.shift(2)
    assert [each.path.name for each in made.remove(heap)] == ["adapter"]
    assert ["gone" in one.artifact for one in shelf.models.models("bot")] == [False] * 4


def test_two_retired_versions_of_one_folder_go_together(shelf: Shelf) -> None:
    made = [shelf.trained(seed=seed) for seed in (1, 1, 2, 3)]
    for one in made:
        shelf.shift(one.version)
    # The second one's own copy was never taken over: the folder was there.
    assert swept(shelf, retired=True) == sorted([folder(made[0]).name, "adapter"])
    assert ["gone" in one.artifact for one in shelf.models.models("bot")] == [True, True, False, False]
