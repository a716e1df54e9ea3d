"""Adapters in buckets: whole or not there, never overwritten, looked at when they come back."""

import json
import threading
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import pytest

from finetune.errors import ShelfUnavailable, StateError
from finetune.files import digest
from finetune.sandbox.vertex.sandbox import BUCKET
from finetune.shelf import bucket, objects
from tests.support.gcs_writing import Gcs
from tests.support.servers import free_port

FILES = {
    "adapter_config.json": b'{"r": 4}',
    "adapter_model.safetensors": b"w" * 300_000,
    "lineage.json": b'{"run_key": "k"}',
}

pytestmark = pytest.mark.usefixtures("account")


class Place(Protocol):
    """A bucket as its owner sees it; names are relative to `prefix`."""

    prefix: str

    def all(self) -> dict[str, bytes]: ...

    def write(self, name: str, data: bytes) -> None: ...

    def drop(self, name: str) -> None: ...


@dataclass
class InS3:
    client: Any
    prefix: str = "s3://box/ft"

    def all(self) -> dict[str, bytes]:
        found = self.client.list_objects_v2(Bucket="box", Prefix="ft/").get("Contents", [])
        read = {each["Key"]: self.client.get_object(Bucket="box", Key=each["Key"])["Body"].read() for each in found}
        return {key.removeprefix("ft/"): data for key, data in read.items()}

    def write(self, name: str, data: bytes) -> None:
        self.client.put_object(Bucket="box", Key=f"ft/{name}", Body=data)

    def drop(self, name: str) -> None:
        self.client.delete_object(Bucket="box", Key=f"ft/{name}")


@dataclass
class InGcs:
    sandbox: Gcs
    prefix: str = f"gs://{BUCKET}/ft"

    def all(self) -> dict[str, bytes]:
        there = self.sandbox.storage._objects[BUCKET]
        return {name.removeprefix("ft/"): one.data for name, one in there.items() if name.startswith("ft/")}

    def write(self, name: str, data: bytes) -> None:
        self.sandbox.storage.put(BUCKET, f"ft/{name}", data)

    def drop(self, name: str) -> None:
        self.sandbox.storage._objects[BUCKET].pop(f"ft/{name}")
        self.sandbox.storage._names[BUCKET].remove(f"ft/{name}")


@pytest.fixture(params=["s3", "gcs"])
def place(request: pytest.FixtureRequest) -> Place:
    made: Place = InS3(request.getfixturevalue("s3"))
    if request.param == "gcs":
        made = InGcs(request.getfixturevalue("gcs"))
    return made


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    folder = tmp_path / "made"
    folder.mkdir()
    for name, content in FILES.items():
        (folder / name).write_bytes(content)
    return folder


def address(place: Place, adapter: Path) -> str:
    return f"{place.prefix}/{digest(adapter)[:32]}"


def put(place: Place, adapter: Path) -> str:
    where = address(place, adapter)
    objects.put(adapter, where, digest(adapter))
    return where


def read(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_it_comes_back_as_it_went(place: Place, adapter: Path, tmp_path: Path) -> None:
    place.write(digest(adapter)[:31] + "/neighbour", b"x")
    where, name = put(place, adapter), digest(adapter)[:32]
    there = place.all()
    assert there.keys() == {f"{name}/{each}" for each in (*FILES, objects.MANIFEST)} | {f"{name[:31]}/neighbour"}
    target = tmp_path / "adapters" / name
    objects.get(where, digest(adapter), target)
    assert read(target) == FILES
    assert [path.name for path in target.parent.iterdir()] == [name]
    objects.remove(where)
    assert place.all().keys() == {f"{name[:31]}/neighbour"}
    assert not objects.is_used(where)
    objects.remove(where)


def test_what_is_there_is_listed_by_folder(place: Place, adapter: Path) -> None:
    assert objects.copies(place.prefix) == {}
    where, name = put(place, adapter), digest(adapter)[:32]
    place.write("other/half/a", b"123")
    place.write("other/b", b"45")
    place.write("beside", b"x")
    found = objects.copies(f"{place.prefix}/")
    manifest = len(place.all()[f"{name}/{objects.MANIFEST}"])
    told = {name: (sum(map(len, FILES.values())) + manifest, True), "other": (5, False)}
    assert {key: (each.bytes, each.whole) for key, each in found.items()} == told
    assert all(abs(datetime.now(UTC) - each.at) < timedelta(hours=1) for each in found.values())
    assert objects.lineage(where) == FILES["lineage.json"]
    assert objects.lineage(f"{place.prefix}/other") is None


def test_the_age_of_a_copy_is_that_of_its_newest_file(gcs: Gcs) -> None:
    place = InGcs(gcs)
    for name, passed in (("x/a", 3), ("x/b", 1), ("x/c", 2)):
        place.write(name, b"x")
        stored = gcs.storage._objects[BUCKET]
        at = datetime(2026, 11, 1, tzinfo=UTC) - timedelta(days=passed)
        stored[f"ft/{name}"] = replace(stored[f"ft/{name}"], created_at=at)
    assert objects.copies(place.prefix)["x"].at == datetime(2026, 10, 31, tzinfo=UTC)


def test_what_is_there_is_not_written_again(place: Place, adapter: Path) -> None:
    put(place, adapter)
    mark = f"{digest(adapter)[:32]}/lineage.json"
    place.write(mark, b"as the first one left it")
    put(place, adapter)
    assert place.all()[mark] == b"as the first one left it"


def test_another_adapter_is_never_overwritten(place: Place, adapter: Path, tmp_path: Path) -> None:
    manifest = f"{digest(adapter)[:32]}/{objects.MANIFEST}"
    for content in (json.dumps({"digest": "0" * 64}).encode(), b"[]", b"{"):
        place.write(manifest, content)
        with pytest.raises(StateError, match="E513"):
            put(place, adapter)
        assert place.all() == {manifest: content}
        with pytest.raises(StateError, match="E513"):
            objects.get(address(place, adapter), digest(adapter), tmp_path / "target")
    assert not (tmp_path / "target").exists()


def test_what_is_not_whole_is_not_taken_and_is_made_whole(place: Place, adapter: Path, tmp_path: Path) -> None:
    where, target = put(place, adapter), tmp_path / "target"
    place.drop(f"{digest(adapter)[:32]}/{objects.MANIFEST}")
    place.write(f"{digest(adapter)[:32]}/adapter_model.safetensors", b"a part")
    with pytest.raises(StateError, match=r"E512.*\n.*no whole adapter"):
        objects.get(where, digest(adapter), target)
    put(place, adapter)
    objects.get(where, digest(adapter), target)
    assert read(target) == FILES


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "adapter_config.json"])
def test_what_has_changed_there_is_refused(place: Place, adapter: Path, tmp_path: Path, name: str) -> None:
    where, target = put(place, adapter), tmp_path / "adapters" / "one"
    place.write(f"{digest(adapter)[:32]}/{name}", b"v" * len(FILES[name]))
    with pytest.raises(StateError, match="E838"):
        objects.get(where, digest(adapter), target)
    assert list(target.parent.iterdir()) == []


def test_what_is_lost_there_is_said(place: Place, adapter: Path, tmp_path: Path) -> None:
    where, target = put(place, adapter), tmp_path / "adapters" / "one"
    place.drop(f"{digest(adapter)[:32]}/adapter_model.safetensors")
    with pytest.raises(StateError, match="E512"):
        objects.get(where, digest(adapter), target)
    assert list(target.parent.iterdir()) == []


def test_a_folder_that_is_not_what_it_is_called_is_not_uploaded(place: Place, adapter: Path) -> None:
    known = digest(adapter)
    (adapter / "adapter_model.safetensors").write_bytes(b"another")
    with pytest.raises(StateError, match="E838"):
        objects.put(adapter, f"{place.prefix}/{known[:32]}", known)
    assert place.all() == {}


def test_no_name_in_a_manifest_leads_out_of_the_folder(place: Place, adapter: Path, tmp_path: Path) -> None:
    where, name, known = put(place, adapter), digest(adapter)[:32], digest(adapter)
    listed = ["../escaped", "/escaped", "a/b", "..", ".", 7, *FILES]
    place.write(f"{name}/{objects.MANIFEST}", json.dumps({"digest": known, "files": listed}).encode())
    place.write("escaped", b"x")
    objects.get(where, known, tmp_path / "adapters" / "one")
    assert read(tmp_path / "adapters" / "one") == FILES
    assert [path.name for path in (tmp_path / "adapters").iterdir()] == ["one"]


def test_several_at_once(place: Place, adapter: Path, tmp_path: Path) -> None:
    where, known, target = address(place, adapter), digest(adapter), tmp_path / "adapters" / "one"
    failed: list[BaseException] = []

    def both() -> None:
        try:
            objects.put(adapter, where, known)
            objects.get(where, known, target)
        except (StateError, OSError) as error:
            failed.append(error)

    threads = [threading.Thread(target=both) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert failed == []
    assert read(target) == FILES
    assert [path.name for path in target.parent.iterdir()] == ["one"]


def test_what_is_here_is_used_without_asking(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    objects.get("s3://nowhere/ft/one", "0" * 64, tmp_path / "one")


@pytest.mark.parametrize("name", [objects.MANIFEST, "adapter_model.safetensors"])
def test_an_upload_that_breaks_off_counts_for_nothing(gcs: Gcs, adapter: Path, tmp_path: Path, name: str) -> None:
    place = InGcs(gcs)
    gcs.refused = name
    with pytest.raises(StateError, match="E512") as caught:
        put(place, adapter)
    assert caught.value.problems[0].fix
    gcs.refused = None
    with pytest.raises(StateError, match="no whole adapter"):
        objects.get(address(place, adapter), digest(adapter), tmp_path / "target")
    objects.get(put(place, adapter), digest(adapter), tmp_path / "target")
    assert read(tmp_path / "target") == FILES


def test_a_bucket_that_is_not_there(s3: Any, gcs: Gcs, adapter: Path) -> None:
    for prefix in ("s3://nowhere/ft", "gs://nowhere/ft"):
        with pytest.raises(StateError, match="E512"):
            objects.put(adapter, f"{prefix}/x", digest(adapter))
        with pytest.raises(StateError, match="E512"):
            objects.reach(prefix)
        with pytest.raises(StateError, match="E512"):
            objects.copies(prefix)


def test_a_bucket_that_answers(place: Place) -> None:
    assert objects.reach(place.prefix) == place.prefix


def test_nobody_listens(adapter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    with pytest.raises(ShelfUnavailable, match="E512") as caught:
        objects.put(adapter, "s3://box/ft/x", digest(adapter))
    assert caught.value.retry
    assert "topsecret" not in str(caught.value)


def test_a_full_disk_is_not_taken_for_a_fault_of_the_bucket(place: Place, adapter: Path, tmp_path: Path) -> None:
    # By a link: what could not be written is removed.
    full = tmp_path / "full"
    full.symlink_to("/dev/full")
    there = bucket.Bucket(put(place, adapter))
    with pytest.raises(bucket.DiskRefused, match="No space left"):
        there.download("adapter_model.safetensors", full)
