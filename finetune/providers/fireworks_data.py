"""Fireworks' data sets: one for each side of prepared data, named by its digest, made and filled only once."""

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from finetune.abilities import RemoteFile
from finetune.errors import Problem, ProviderError, ProviderUnavailable
from finetune.jobs import Json
from finetune.ports import Clock, PreparedData
from finetune.providers.asking import Answer
from finetune.providers.fireworks_wire import TITLE, Ask, Wire

#: What ft calls the data sets that it makes.
_OURS: Final = re.compile(r"ft-[0-9a-f]{1,32}-(train|validation)")
_DOING: Final = "upload the data"
#: The one file of a data set.
_FILE: Final = "rows.jsonl"
#: Statuses of a refusal that is about the rows, or about what is not there yet.
_REFUSED: Final = frozenset({400, 404, 409, 412, 422})
#: States of encryption in which rows are sent as they are.
_PLAIN: Final = (None, "", "ENCRYPTION_STATE_UNSPECIFIED", "ENCRYPTION_STATE_PLAINTEXT")
#: How long the check of what was uploaded is waited for, seconds, and between two looks at most.
_PATIENCE_S: Final = 120.0
_PAUSE_S: Final = 8.0


class Datasets:
    """Of one account. Safe for threads."""

    def __init__(self, wire: Wire, account: str, clock: Clock) -> None:
        """`account` is its id alone."""
        self._wire, self._clock = wire, clock
        self._collection = f"accounts/{account}/datasets"

    def uploaded(self, data: PreparedData) -> Json:
        """Whole names by side. What is there is not sent again. Blocks until they are ready. Raises ProviderError."""
        train = self._ready(data.train, f"ft-{data.digest[:32]}-train", data.train_rows)
        # Preferences are tuned without: the API has no field for them.
        sent = data.validation if data.format != "fireworks-dpo" else None
        name = f"ft-{data.digest[:32]}-validation"
        return {"train": train, "validation": self._ready(sent, name, data.validation_rows) if sent else None}

    def ours(self) -> list[RemoteFile]:
        """Those that ft has made, newest first. The API tells no size. Raises ProviderError."""
        return sorted(self._files(), key=lambda file: file.uploaded_at, reverse=True)

    def delete(self, name: str) -> None:
        """By its whole name; silent if it is not there, or not ft's. Raises ProviderError."""
        doing = "delete the data set"
        collection, _, own = name.rpartition("/")
        if collection != self._collection or not _OURS.fullmatch(own):
            return
        answer = self._wire.ask(doing, Ask(method="DELETE", path=f"/v1/{name}"))
        if not answer.good and answer.status != 404:
            raise self._wire.refusal(doing, answer)

    def _files(self) -> Iterator[RemoteFile]:
        for row in self._wire.pages("list the data sets", f"/v1/{self._collection}", "datasets"):
            own = str(row["name"]).rpartition("/")[2]
            if _OURS.fullmatch(own):
                yield RemoteFile(file_id=row["name"], name=own, bytes=0, uploaded_at=_moment(row.get("createTime")))

    def _ready(self, path: Path, own: str, rows: int) -> str:
        name = f"{self._collection}/{own}"
        there = self._wire.known(_DOING, name)
        if there is not None and there.get("state") == "READY":
            return name
        if there is None:
            self._made(own, rows)
            there = self._wire.known(_DOING, name)
        elif self._validated(name).good and self._state(name) == "READY":
            # Another try had come as far as that.
            return name
        if there is None:
            raise self._wire.troubles.nonsense(_DOING, "the data set that was made is not shown yet")
        _check_plain(there, self._wire.troubles.clean)
        self._filled(name, path)
        answer = self._validated(name)
        if answer.status in _REFUSED:
            raise self._bad(self._wire.refusal(_DOING, answer).problems[0].why)
        if not answer.good:
            raise self._wire.refusal(_DOING, answer)
        self._wait(name)
        return name

    def _made(self, own: str, rows: int) -> None:
        wanted = {"displayName": own, "userUploaded": {}, "exampleCount": str(rows)}
        body = {"datasetId": own, "dataset": wanted}
        answer = self._wire.ask(_DOING, Ask(method="POST", path=f"/v1/{self._collection}", body=body))
        # Somebody else was faster: the name is the content's.
        if not answer.good and answer.status != 409:
            raise self._wire.refusal(_DOING, answer)

    def _filled(self, name: str, path: Path) -> None:
        body = {"filenameToSize": {_FILE: str(path.stat().st_size)}}
        told = self._wire.call(_DOING, Ask(method="POST", path=f"/v1/{name}:getUploadEndpoint", body=body))
        urls = told.get("filenameToSignedUrls")
        if not isinstance(urls, dict) or set(urls) != {_FILE}:
            raise self._wire.troubles.nonsense(_DOING, "not the one address that was asked for")
        self._wire.put(_DOING, urls[_FILE], path)

    def _validated(self, name: str) -> Answer:
        return self._wire.ask(_DOING, Ask(method="POST", path=f"/v1/{name}:validateUpload", body={}))

    def _state(self, name: str) -> str:
        """Raises ProviderError: E413 when its check has found a fault."""
        told = self._wire.known(_DOING, name) or {}
        status = told.get("status")
        code, said = (status.get("code"), status.get("message")) if isinstance(status, dict) else (None, None)
        if told.get("state") != "READY" and code not in (None, "OK"):
            raise self._bad(f"{TITLE} says: {self._wire.troubles.clean(str(said))}")
        return str(told.get("state"))

    def _wait(self, name: str) -> None:
        waited_s, pause_s = 0.0, 0.5
        while self._state(name) != "READY":
            if waited_s >= _PATIENCE_S:
                problem = Problem(
                    code="E403",
                    what=f"{TITLE} still checks the uploaded data",
                    why=f"{name} was not ready after {_PATIENCE_S:.0f} s",
                    fix="ft tries again by itself",
                )
                raise ProviderUnavailable(problem)
            self._clock.sleep(pause_s)
            waited_s, pause_s = waited_s + pause_s, min(_PAUSE_S, pause_s * 2)

    def _bad(self, why: str) -> ProviderError:
        fix = "`ft validate` shows what it can see of that; mend the data and submit again"
        return ProviderError(Problem(code="E413", what=f"{TITLE} refuses the training data", why=why, fix=fix))


def _check_plain(dataset: Json, clean: Callable[[str], str]) -> None:
    """Raises ProviderError when the account wants its data encrypted before it is sent, which only firectl does.

    As the vendor's own package does it (1.2): what it does not know counts as encrypted.
    """
    said = dataset.get("encryptionState")
    if said not in _PLAIN:
        what = f"{TITLE} wants the data encrypted with a key of your own ({clean(str(said))[:60]})"
        why, fix = "ft would send the rows as they are", "use an account without such keys, or another provider"
        raise ProviderError(Problem(code="E414", what=what, why=why, fix=fix))


def _moment(said: object) -> datetime:
    try:
        return datetime.fromisoformat(str(said))
    except ValueError:
        return datetime.fromtimestamp(0, UTC)
