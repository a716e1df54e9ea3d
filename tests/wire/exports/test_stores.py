"""Exports into buckets: moto's S3, and the stand-in for Google Cloud Storage that the Vertex sandbox serves."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from finetune.errors import FtError, StateError, UsageError
from finetune.exports.stores import publish
from finetune.sandbox.vertex.sandbox import BUCKET
from tests.support.gcs_writing import Gcs
from tests.support.servers import free_port

FILES = {"README.md": b"# bot", "model/weights.safetensors": b"w" * 100_000, "ft-export.json": b"{}"}

pytestmark = pytest.mark.usefixtures("account")


def fill(folder: Path) -> None:
    for name, content in FILES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)


def objects(client: Any) -> dict[str, bytes]:
    found = client.list_objects_v2(Bucket="box").get("Contents", [])
    return {each["Key"]: client.get_object(Bucket="box", Key=each["Key"])["Body"].read() for each in found}


def fault(out: str, aside: Path, filling: Callable[[Path], None] = fill) -> tuple[type[FtError], str]:
    with pytest.raises(FtError) as caught:
        publish(out, aside, filling)
    (problem,) = caught.value.problems
    assert problem.why
    assert problem.fix
    assert "topsecret" not in str(caught.value)
    assert not aside.exists()
    return type(caught.value), problem.code


@pytest.mark.parametrize("out", ["s3://box/models/bot-v1", "s3://box/models/bot-v1/"])
def test_all_files_arrive_and_nothing_stays_here(s3: Any, tmp_path: Path, out: str) -> None:
    s3.put_object(Bucket="box", Key="models/bot-v10/README.md", Body=b"a neighbour")
    publish(out, tmp_path / "aside", fill)
    expected = {f"models/bot-v1/{name}": content for name, content in FILES.items()}
    assert objects(s3) == {**expected, "models/bot-v10/README.md": b"a neighbour"}
    assert not (tmp_path / "aside").exists()


def test_a_prefix_in_use_is_left_alone(s3: Any, tmp_path: Path) -> None:
    s3.put_object(Bucket="box", Key="bot/mine", Body=b"mine")
    assert fault("s3://box/bot", tmp_path / "aside") == (UsageError, "E846")
    assert objects(s3) == {"bot/mine": b"mine"}


def test_what_cannot_be_written_here_uploads_nothing(s3: Any, tmp_path: Path) -> None:
    def broken(folder: Path) -> None:
        fill(folder)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        publish("s3://box/bot", tmp_path / "aside", broken)
    assert objects(s3) == {}
    assert not (tmp_path / "aside").exists()
    with pytest.raises(KeyboardInterrupt):
        publish(str(tmp_path / "here" / "bot"), tmp_path / "aside", broken)
    assert list((tmp_path / "here").iterdir()) == []


def stored(sandbox: Gcs) -> dict[str, bytes]:
    found = {name: sandbox.storage.get(BUCKET, f"models/bot/{name}") for name in FILES}
    return {name: one.data for name, one in found.items() if one is not None}


def test_google_cloud_storage(gcs: Gcs, tmp_path: Path) -> None:
    out = f"gs://{BUCKET}/models/bot"
    publish(out, tmp_path / "aside", fill)
    assert stored(gcs) == FILES
    assert fault(out, tmp_path / "aside") == (UsageError, "E846")
    assert fault("gs://nowhere/bot", tmp_path / "aside") == (StateError, "E848")


@pytest.mark.parametrize("name", ["ft-export.json", "weights.safetensors"])
def test_what_fails_half_way_leaves_nothing(
    gcs: Gcs, tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    gcs.refused = name
    out = f"gs://{BUCKET}/models/bot"
    assert fault(out, tmp_path / "aside") == (StateError, "E848")
    assert stored(gcs) == {}
    assert "Traceback" not in caplog.text
    gcs.refused = None
    publish(out, tmp_path / "aside", fill)
    assert stored(gcs) == FILES


def test_a_bucket_that_is_not_there(s3: Any, tmp_path: Path) -> None:
    assert fault("s3://nowhere/bot", tmp_path / "aside") == (StateError, "E848")


def test_nobody_listens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    assert fault("s3://box/bot", tmp_path / "aside") == (StateError, "E848")


@pytest.mark.parametrize("out", ["s3://box", "s3://box/", "s3:///x", "ftp://host/x", "s3://key:secret@box/x"])
def test_what_is_no_place_is_said(tmp_path: Path, out: str) -> None:
    with pytest.raises(UsageError) as caught:
        publish(out, tmp_path / "aside", fill)
    assert caught.value.problems[0].code == "E846"
    assert "secret" not in str(caught.value)
