"""Training files at Together: each content once, first told of, then sent to a storage, then looked at there.

The steps and their names are those of the vendor's package (together 3.1.1, lib/resources/files.py): the description
has neither the storage nor the look.
"""

import hashlib
import re
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

from finetune.abilities import RemoteFile
from finetune.errors import Problem, ProviderError, ProviderUnavailable
from finetune.jobs import Json
from finetune.ports import PreparedData
from finetune.providers.asking import Answer
from finetune.providers.together_wire import Call, Slice, Wire, part

_PURPOSE: Final = "fine-tune"
#: The names of our files, which hold the content's digest.
_OURS: Final = re.compile(r"ft-[0-9a-f]{1,32}-(?:train|validation)\.jsonl")
_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
#: How far the API's look at a file is; PENDING may mean that nobody has asked for it.
_LOOKING: Final = frozenset({"PENDING", "QUEUED", "RUNNING"})
_USELESS: Final = frozenset({"FAILED", "INVALID_FORMAT"})
_FIX: Final = "`ft validate` shows what it can see of that; mend the data and submit again"


class Files:
    """The files of one account."""

    #: Above this a file goes in parts, and the size of a part, bytes. The storage takes no less a part than 5 MiB.
    whole_bytes = 5 * 2**30
    part_bytes = 256 * 2**20

    def __init__(self, wire: Wire, *, read_s: float, upload_s: float) -> None:
        self._wire, self._read_s, self._upload_s = wire, read_s, upload_s

    def upload(self, data: PreparedData) -> Json:
        """The ids of both sides, and which of them are somebody else's; what is there is not sent again.

        Raises ProviderError; ProviderUnavailable while the API still looks at a file.
        """
        sides = {"train": data.train, "validation": data.validation}
        there = {(row.get("filename"), row.get("bytes")): row for row in self._rows()}
        ids: Json = dict.fromkeys(sides)
        theirs: list[str] = []
        for side, path in sides.items():
            if path is None:
                continue
            name = f"ft-{data.digest[:32]}-{side}.jsonl"
            row = there.get((name, path.stat().st_size)) or self._send(name, path)
            ids[side] = self._ready(row)
            if row.get("filename") != name:
                theirs.append(ids[side])
        return {**ids, "theirs": theirs}

    def ours(self) -> list[RemoteFile]:
        """See `abilities.Storing.files`."""
        found = [_file(row) for row in self._rows() if _OURS.fullmatch(str(row.get("filename")))]
        return sorted(found, key=lambda file: file.uploaded_at, reverse=True)

    def delete(self, file_id: str) -> None:
        """See `abilities.Storing.delete_file`."""
        call = Call(doing="delete the file", method="DELETE", path=f"/v1/files/{part(file_id)}")
        answer = self._wire.ask(call, self._read_s)
        if not answer.good and answer.status != 404:
            raise self._wire.refusal(call.doing, answer, creating=call.creating)

    # Inside.

    def _rows(self) -> list[Json]:
        call = Call(doing="list the files", path="/v1/files")
        rows = self._wire.rows(call, self._read_s)
        if not all(isinstance(row.get("id"), str) for row in rows):
            raise self._wire.troubles.nonsense(call.doing, "a file without an id")
        # The newest first, so that of several the oldest stays.
        return sorted(rows, key=lambda row: _seconds(row.get("created_at")), reverse=True)

    def _send(self, name: str, path: Path) -> Json:
        """The file's row, after its bytes are there. Another of this content is taken in its place."""
        with path.open("rb") as file:
            checksum = hashlib.file_digest(file, "sha256").hexdigest()
        told = {"purpose": _PURPOSE, "file_name": name, "file_type": "jsonl", "checksum": checksum}
        send = self._send_parts if path.stat().st_size > self.whole_bytes else self._send_whole
        return send(told, path)

    def _send_whole(self, told: dict[str, str], path: Path) -> Json:
        call = Call(doing="upload the data", method="POST", path="/v1/files", form=told)
        answer = self._wire.ask(call, self._read_s)
        if answer.status == 409:
            return self._known(call, answer)
        place, file_id = answer.headers.get("location"), answer.headers.get("x-together-file-id", "")
        if answer.status >= 400:
            raise self._wire.refusal(call.doing, answer, creating=call.creating)
        if not place or not _ID.fullmatch(file_id):
            raise self._wire.troubles.nonsense(call.doing, "it does not say where the file goes")
        whole = Slice(path=path, start=0, size=path.stat().st_size)
        self._put(call, place, whole)
        return self._looked_at(file_id)

    def _send_parts(self, told: dict[str, str], path: Path) -> Json:
        size = path.stat().st_size
        count = -(-size // self.part_bytes)
        call = Call(
            doing="begin an upload in parts",
            method="POST",
            path="/v1/files/multipart/initiate",
            body={**told, "file_size": size, "num_parts": count},
        )
        answer = self._wire.ask(call, self._read_s)
        if answer.status == 409:
            return self._known(call, answer)
        if not answer.good:
            raise self._wire.refusal(call.doing, answer, creating=call.creating)
        begun = self._wire.read(call.doing, answer, creating=call.creating)
        named = {name: begun.get(name) for name in ("upload_id", "file_id")}
        places = begun.get("parts")
        if not all(isinstance(each, str) for each in named.values()) or not isinstance(places, list):
            raise self._wire.troubles.nonsense(call.doing, "it does not say where the parts go")
        try:
            done = [self._part(place, path, size) for place in places]
        except ProviderError:
            abort = Call(doing="end an upload", method="POST", path="/v1/files/multipart/abort", body=named)
            with suppress(ProviderError):
                self._wire.ask(abort, self._read_s)
            raise
        end = Call(
            doing="complete an upload",
            method="POST",
            path="/v1/files/multipart/complete",
            body={**named, "parts": done},
        )
        made = self._wire.call(end, self._read_s)
        return self._row(end, made.get("file", made))

    def _part(self, place: Any, path: Path, size: int) -> Json:
        """Send one part to its place: its number and the storage's word for it."""
        call = Call(doing="upload a part of the data", path="")
        said = place if isinstance(place, dict) else {}
        number, url = said.get("PartNumber", said.get("part_number")), said.get("URL", said.get("UploadURL"))
        start = (number - 1) * self.part_bytes if isinstance(number, int) else -1
        if not 0 <= start < size or not isinstance(url, str):
            raise self._wire.troubles.nonsense(call.doing, "it does not say where the part goes")
        headers = {str(name): str(value) for name, value in (said.get("Headers") or {}).items()}
        piece = Slice(path=path, start=start, size=min(self.part_bytes, size - start), headers=headers)
        answer = self._put(call, url, piece)
        return {"part_number": number, "etag": answer.headers.get("etag", "").strip('"')}

    def _put(self, call: Call, url: str, piece: Slice) -> Answer:
        answer = self._wire.put(call, url, piece, self._upload_s)
        if answer.good:
            return answer
        if answer.status < HTTPStatus.INTERNAL_SERVER_ERROR and answer.status != HTTPStatus.TOO_MANY_REQUESTS:
            # The address is the permission, and holds for a short time only: another try has another one. What the
            # storage says has parts of it.
            code = re.search(r"<Code>(\w{1,60})</Code>", answer.text)
            words = f"the storage answers {answer.status} {code[1] if code else ''}".rstrip()
            raise self._wire.troubles.unreachable(call.doing, words, sent=True)
        raise self._wire.troubles.refused(call.doing, answer.status, "its storage is in trouble")

    def _known(self, call: Call, answer: Answer) -> Json:
        """The file that has this content already, whoever has uploaded it."""
        file_id = self._wire.read(call.doing, answer, creating=call.creating).get("file_id")
        if not isinstance(file_id, str):
            raise self._wire.troubles.nonsense(call.doing, "it has the file, and does not say which")
        return self._get(file_id)

    def _get(self, file_id: str) -> Json:
        call = Call(doing="look at the file", path=f"/v1/files/{part(file_id)}")
        return self._row(call, self._wire.call(call, self._read_s))

    def _looked_at(self, file_id: str) -> Json:
        """Have the API look at the file: it is of no use before. One that it has looked at stays as it is."""
        call = Call(doing="have the data looked at", method="POST", path=f"/v1/files/{part(file_id)}/preprocess")
        answer = self._wire.ask(call, self._read_s)
        if answer.status in (400, 409):
            return self._get(file_id)
        if not answer.good:
            raise self._wire.refusal(call.doing, answer, creating=call.creating)
        return self._row(call, self._wire.read(call.doing, answer, creating=call.creating))

    def _row(self, call: Call, row: Any) -> Json:
        if not isinstance(row, dict) or not isinstance(row.get("id"), str):
            raise self._wire.troubles.nonsense(call.doing, "the file has no id")
        return row

    def _ready(self, row: Json) -> str:
        """The file's id. Raises ProviderUnavailable while the API still looks at it, ProviderError E413."""
        if row.get("processing_status") in (None, "PENDING"):
            # A worker may have died between the upload and this.
            row = self._looked_at(row["id"])
        status = row.get("processing_status")
        if status in _USELESS:
            report = row.get("validation_report") or {}
            why = f"it says: {report.get('error') or status}"
            fix = _FIX if status == "INVALID_FORMAT" else f"`ft files --delete {row['id']}`, then submit again"
            what = (
                "Together refuses the training data" if status == "INVALID_FORMAT" else "Together's look at it failed"
            )
            raise ProviderError(Problem(code="E413", what=what, why=self._wire.troubles.clean(why), fix=fix))
        if status in _LOOKING:
            raise not_ready(f"its state is {status}")
        return str(row["id"])


def not_ready(why: str) -> ProviderUnavailable:
    """The fault of a file that is there and cannot be used yet."""
    what, fix = "the uploaded file is still being looked at by Together", "ft looks again by itself"
    error = ProviderUnavailable(Problem(code="E403", what=what, why=why, fix=fix))
    error.after_s = 1.0
    return error


def kept(data: Json) -> Sequence[str]:
    """The ids of our own files in what `upload` has told: those of others are not ours to delete."""
    theirs = data.get("theirs") or ()
    return [str(each) for each in (data.get("train"), data.get("validation")) if each and each not in theirs]


def _seconds(value: object) -> int:
    return value if isinstance(value, int) else 0


def _file(row: Json) -> RemoteFile:
    return RemoteFile(
        file_id=row["id"],
        name=str(row["filename"]),
        bytes=_seconds(row.get("bytes")),
        uploaded_at=datetime.fromtimestamp(_seconds(row.get("created_at")), UTC),
    )
