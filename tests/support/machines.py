"""Several machines with one database and one bucket, and what is asked of them."""

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from finetune.clock import SystemClock
from finetune.versions import ModelVersion
from finetune.wiring import Desk
from tests.support.exports import Shelf

#: What all machines have as FT_ARTIFACTS.
PREFIX = "s3://box/ft"


class Ahead(SystemClock):
    """A clock that is ahead of the files' time."""

    def __init__(self, by: timedelta = timedelta(days=900)) -> None:
        self._by = by

    def now(self) -> datetime:
        return super().now() + self._by


def keys(client: Any) -> set[str]:
    """All that is in the bucket."""
    return {each["Key"] for each in client.list_objects_v2(Bucket="box").get("Contents", [])}


def folders(client: Any) -> set[str]:
    """Names of adapters of which anything is in the bucket."""
    return {key.split("/")[1] for key in keys(client)}


def empty(client: Any) -> None:
    """Remove all that is in the bucket."""
    client.delete_objects(Bucket="box", Delete={"Objects": [{"Key": key} for key in keys(client)]})


def name(one: ModelVersion) -> str:
    """Of the version's folder, here and in the bucket."""
    return str(one.artifact["digest"])[:32]


def kept(shelf: Shelf, desk: Desk, **how: Any) -> ModelVersion:
    """A version that was trained, and uploaded as `ft models sync` does it."""
    one = shelf.trained(**how)
    assert (one.ref, f"{PREFIX}/{name(one)}") in list(desk.upload_late())
    return desk.registry.version(one.ref)


def answer(desk: Desk, ref: str) -> str:
    """What the version says on this machine."""
    chat = desk.chat(ref)
    asked = [{"role": "user", "content": "colour?"}]
    return "".join(chat.stream(asked, max_tokens=12, temperature=0, seed=None))


def late(desk: Desk, by: timedelta = timedelta(days=900)) -> Desk:
    """The machine, when so much time has passed."""
    desk.clock = Ahead(by)
    return desk


def upload(desk: Desk, one: ModelVersion) -> None:
    """As the worker of a training does it, before it has recorded anything."""
    desk.adapters.shelve(Path(one.artifact["path"]), one.artifact["digest"])
