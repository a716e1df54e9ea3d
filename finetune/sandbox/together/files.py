"""Together's files: told of first, then sent to a storage, then looked at. As the vendor's package has the steps."""

import hashlib
import uuid
from dataclasses import dataclass, field
from email import message_from_bytes
from email.policy import HTTP
from typing import Any, Final, Literal, get_args

from finetune.sandbox.service import Reply, Request
from finetune.sandbox.together.bodies import Complete, Initiate, Told
from finetune.sandbox.together.rows import Rows, look
from finetune.sandbox.together.words import answer, checked, denied, no_such, refuse

#: How a job can be made to end badly, by `sandbox:` and the word anywhere in its training data.
Wish = Literal["quota", "fail-data", "fail-train"]
WISHES: Final[tuple[Wish, ...]] = get_args(Wish)
_STORAGE: Final = "/storage"


@dataclass(kw_only=True)
class StoredFile:
    """One file. It is there once its bytes are."""

    id: str
    told: Told
    created: float
    content: bytes | None = None
    #: When somebody asked for the look at it; None before.
    asked: float | None = None
    rows: Rows | None = None
    #: Of an upload in parts: which, how many, and what came.
    upload_id: str | None = None
    count: int = 1
    parts: dict[int, bytes] = field(default_factory=dict)

    @property
    def wishes(self) -> frozenset[Wish]:
        """How jobs on this file shall end."""
        return frozenset(word for word in WISHES if f"sandbox:{word}".encode() in (self.content or b""))

    def status(self, now: float, validating_s: float) -> str:
        """How far the look at it is."""
        if self.asked is None or self.rows is None:
            return "PENDING"
        if now < self.asked + validating_s:
            return "QUEUED" if now < self.asked + validating_s / 2 else "RUNNING"
        return "INVALID_FORMAT" if self.fault else "COMPLETED"

    @property
    def fault(self) -> str | None:
        """What is wrong with it; None: nothing."""
        if "fail-data" in self.wishes:
            return "The dataset is not valid: sandbox:fail-data was asked for."
        return self.rows.fault if self.rows else None


class Files:
    """All files. The caller holds the lock."""

    def __init__(self, validating_s: float) -> None:
        self.validating_s = validating_s
        self._files: dict[str, StoredFile] = {}
        #: Where bytes may be sent: the file and the number of the part.
        self._places: dict[str, tuple[StoredFile, int]] = {}

    def get(self, file_id: str) -> StoredFile | None:
        """The file, once its bytes are there; None."""
        found = self._files.get(file_id)
        return found if found and found.content is not None else None

    def state(self, file: StoredFile, now: float) -> str:
        """How far the look at it is."""
        return file.status(now, self.validating_s)

    def tell(self, request: Request, now: float) -> Reply:
        """POST /v1/files: where its bytes go."""
        told = checked(Told, _form(request))
        if known := self._known(told):
            return known
        made = self._made(told, now)
        headers = {"Location": self._place(request, made, 1), "X-Together-File-Id": made.id}
        return Reply(status=302, headers=headers)

    def initiate(self, body: Any, request: Request, now: float) -> Reply:
        """POST /v1/files/multipart/initiate."""
        told = checked(Initiate, body)
        if known := self._known(told):
            return known
        made = self._made(told, now)
        made.upload_id, made.count = uuid.uuid4().hex, told.num_parts
        parts = [
            {"PartNumber": number, "URL": self._place(request, made, number), "Headers": {}}
            for number in range(1, told.num_parts + 1)
        ]
        return Reply(body={"upload_id": made.upload_id, "file_id": made.id, "parts": parts})

    def put(self, request: Request) -> Reply:
        """The storage takes bytes."""
        if "authorization" in request.headers:
            raise refuse(400, "Only one auth mechanism allowed")
        if "content-length" not in request.headers:
            raise refuse(411, "MissingContentLength")
        place = self._places.get(request.parts["place"])
        if place is None:
            raise denied("Request has expired")
        file, number = place
        if file.upload_id is None:
            self._store(file, request.body)
        else:
            file.parts[number] = request.body
        return Reply(status=200, headers={"ETag": f'"{hashlib.md5(request.body, usedforsecurity=False).hexdigest()}"'})

    def complete(self, body: Any, now: float) -> Reply:
        """POST /v1/files/multipart/complete: the look at it begins at once."""
        asked = checked(Complete, body)
        file = self._begun(asked.file_id, asked.upload_id)
        sent = {number: hashlib.md5(each, usedforsecurity=False).hexdigest() for number, each in file.parts.items()}
        if {part.part_number: part.etag for part in asked.parts} != sent or len(sent) != file.count:
            raise refuse(400, "One or more of the specified parts could not be found.")
        self._store(file, b"".join(file.parts[number] for number in sorted(file.parts)))
        self._ask(file, now)
        return Reply(body={"file": self.json(file, now)})

    def abort(self, file_id: str, upload_id: str) -> Reply:
        """POST /v1/files/multipart/abort."""
        file = self._begun(file_id, upload_id)
        self._places = {name: place for name, place in self._places.items() if place[0] is not file}
        del self._files[file.id]
        return Reply(body={})

    def preprocess(self, request: Request, now: float) -> Reply:
        """POST /v1/files/{id}/preprocess."""
        file = self._named(request)
        if file.asked is None:
            self._ask(file, now)
        return Reply(body=self.json(file, now))

    def list(self, now: float) -> Reply:
        """GET /v1/files, all of them."""
        there = [file for file in self._files.values() if file.content is not None]
        return Reply(body={"data": [self.json(file, now) for file in reversed(there)]})

    def retrieve(self, request: Request, now: float) -> Reply:
        """GET /v1/files/{id}."""
        return Reply(body=self.json(self._named(request), now))

    def delete(self, request: Request) -> Reply:
        """DELETE /v1/files/{id}."""
        file = self._named(request)
        del self._files[file.id]
        return Reply(body={"id": file.id, "deleted": True})

    def content(self, request: Request) -> Reply:
        """GET /v1/files/{id}/content."""
        return Reply(body=self._named(request).content, headers={"Content-Type": "application/octet-stream"})

    def json(self, file: StoredFile, now: float) -> dict[str, Any]:
        """As the API shows it."""
        status = self.state(file, now)
        told: dict[str, Any] = {
            "id": file.id,
            "object": "file",
            "created_at": int(file.created),
            "filename": file.told.file_name,
            "bytes": len(file.content or b""),
            "purpose": file.told.purpose,
            "FileType": file.told.file_type,
            "Processed": status == "COMPLETED",
            "processing_status": status,
        }
        if status in ("COMPLETED", "INVALID_FORMAT"):
            told["validation_report"] = _report(file)
        return told

    # Inside.

    def _known(self, told: Told) -> Reply | None:
        """The refusal of bytes that are there already."""
        there = (file for file in self._files.values() if file.content is not None)
        same = next((file for file in there if file.told.checksum == told.checksum), None)
        return answer(409, "File already exists", file_id=same.id) if same else None

    def _made(self, told: Told, now: float) -> StoredFile:
        if not told.file_name.endswith(f".{told.file_type}"):
            raise refuse(400, f"file_name: must end with .{told.file_type}", param="file_name")
        made = StoredFile(id=f"file-{uuid.uuid4()}", told=told, created=now)
        self._files[made.id] = made
        return made

    def _place(self, request: Request, file: StoredFile, number: int) -> str:
        name = uuid.uuid4().hex
        self._places[name] = (file, number)
        return f"{request.base}{_STORAGE}/{name}?X-Amz-Signature={uuid.uuid4().hex}"

    def _store(self, file: StoredFile, content: bytes) -> None:
        if hashlib.sha256(content).hexdigest() != file.told.checksum:
            raise refuse(400, "The checksum does not match the file.")
        file.content = content

    def _ask(self, file: StoredFile, now: float) -> None:
        file.asked, file.rows = now, look(file.content or b"")

    def _begun(self, file_id: str, upload_id: str) -> StoredFile:
        file = self._files.get(file_id)
        if file is None or file.upload_id != upload_id or file.content is not None:
            raise refuse(400, "The upload does not exist.")
        return file

    def _named(self, request: Request) -> StoredFile:
        file = self.get(request.parts["file_id"])
        if file is None:
            raise no_such("File")
        return file


def _report(file: StoredFile) -> dict[str, Any]:
    told: dict[str, Any] = {"valid": file.fault is None, "file_id": file.id}
    if file.rows:
        told |= {"nlines": file.rows.count, "dataset_format": file.rows.format}
    return told | ({"error": file.fault, "error_type": "INVALID_FORMAT"} if file.fault else {})


def _form(request: Request) -> dict[str, str]:
    """The fields of a `multipart/form-data` body, all of them text. Raises Refusal: 400."""
    kind = request.headers.get("content-type", "")
    whole = message_from_bytes(f"Content-Type: {kind}\r\n\r\n".encode() + request.body, policy=HTTP)
    if not kind.startswith("multipart/form-data") or not whole.is_multipart():
        raise refuse(400, "expected multipart/form-data")
    fields: dict[str, str] = {}
    for part in whole.iter_parts():
        name = part.get_param("name", header="content-disposition")
        content = part.get_payload(decode=True)
        if not isinstance(name, str) or name in fields or not isinstance(content, bytes):
            raise refuse(400, "a field of the form has no name, or is there twice")
        fields[name] = content.decode("utf-8", "replace")
    return fields
