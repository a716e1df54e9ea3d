"""Mistral's files: uploaded as a form, kept until deleted."""

import hashlib
import uuid
from dataclasses import dataclass
from email.message import Message
from typing import Any, Final, Literal, get_args

from finetune.sandbox.mistral.bodies import FilesQuery, Upload
from finetune.sandbox.mistral.rows import Rows, look
from finetune.sandbox.mistral.words import checked, no_such, refuse, unprocessable
from finetune.sandbox.service import Reply, Request

#: The vendor's limit for one file.
MAX_BYTES: Final = 512 * 1024 * 1024
#: How a job can be made to end badly, by `sandbox:` and the word anywhere in its training data.
Wish = Literal["quota", "fail-data", "fail-train"]
WISHES: Final[tuple[Wish, ...]] = get_args(Wish)
_FIELDS: Final = ("file", "purpose", "expiry", "visibility")


@dataclass(frozen=True, kw_only=True)
class StoredFile:
    """One file."""

    id: str
    name: str
    content: bytes
    purpose: str
    visibility: str
    created: float
    #: Hours; None: it stays.
    expiry: int | None
    #: What is in it; None unless it is for training.
    rows: Rows | None
    wishes: frozenset[Wish]
    signature: str

    @property
    def sample_type(self) -> str:
        """As the list filters."""
        return self.rows.sample_type if self.rows else "batch_request"

    def json(self) -> dict[str, Any]:
        """As the API shows it."""
        return {
            "id": self.id,
            "object": "file",
            "bytes": len(self.content),
            "created_at": int(self.created),
            "filename": self.name,
            "purpose": self.purpose,
            "sample_type": self.sample_type,
            "num_lines": self.rows.count if self.rows else None,
            "mimetype": MIMETYPE,
            "source": "upload",
            "signature": self.signature,
            "expires_at": None if self.expiry is None else int(self.created) + self.expiry * 3600,
            "visibility": self.visibility,
        }


MIMETYPE: Final = "application/jsonl"


class Files:
    """All files. The caller holds the lock."""

    def __init__(self) -> None:
        self._files: dict[str, StoredFile] = {}

    def get(self, file_id: str) -> StoredFile | None:
        """The file, or None."""
        return self._files.get(file_id)

    def upload(self, request: Request, now: float) -> Reply:
        """POST /v1/files."""
        form = parts(request.headers.get("content-type", ""), request.body)
        for name in form:
            if name not in _FIELDS:
                raise unprocessable(("body", name), "Extra inputs are not permitted", "extra_forbidden")
        if "file" not in form or form["file"].filename is None:
            raise unprocessable(("file", "file"), "Field required", "missing")
        fields = {name: part.content.decode("utf-8", "replace") for name, part in form.items() if name != "file"}
        made = self._made(form["file"], checked(Upload, fields, ("body",)), now)
        self._files[made.id] = made
        return Reply(body=made.json())

    def _made(self, file: "Part", asked: Upload, now: float) -> StoredFile:
        name = str(file.filename)
        if len(file.content) > MAX_BYTES:
            raise refuse(413, f"File size exceeds the limit of {MAX_BYTES} bytes.")
        if asked.purpose == "fine-tune" and not name.endswith(".jsonl"):
            raise refuse(422, "Invalid file format.", description="Only .jsonl files can be used for fine-tuning.")
        return StoredFile(
            id=str(uuid.uuid4()),
            name=name,
            content=file.content,
            purpose=asked.purpose,
            visibility=asked.visibility,
            created=now,
            expiry=asked.expiry,
            rows=look(file.content) if asked.purpose == "fine-tune" else None,
            wishes=frozenset(word for word in WISHES if f"sandbox:{word}".encode() in file.content),
            signature=hashlib.sha256(file.content).hexdigest()[:16],
        )

    def list(self, request: Request) -> Reply:
        """GET /v1/files, newest first."""
        several = ("sample_type", "source", "mimetypes")
        query = {name: each if name in several else each[-1] for name, each in request.query.items()}
        asked = checked(FilesQuery, query, ("query",))
        found = [file for file in reversed(self._files.values()) if _fits(file, asked)]
        begin = asked.page * asked.page_size
        rows = [file.json() for file in found[begin : begin + asked.page_size]]
        return Reply(body={"data": rows, "object": "list", "total": len(found) if asked.include_total else None})

    def retrieve(self, request: Request) -> Reply:
        """GET /v1/files/{file_id}."""
        return Reply(body={**self._named(request).json(), "deleted": False})

    def delete(self, request: Request) -> Reply:
        """DELETE /v1/files/{file_id}."""
        file = self._named(request)
        del self._files[file.id]
        return Reply(body={"id": file.id, "object": "file", "deleted": True})

    def content(self, request: Request) -> Reply:
        """GET /v1/files/{file_id}/content."""
        return Reply(body=self._named(request).content, headers={"Content-Type": "application/octet-stream"})

    def _named(self, request: Request) -> StoredFile:
        file = self.get(identified(request, "file_id"))
        if file is None:
            raise no_such("file")
        return file


def identified(request: Request, name: str) -> str:
    """The UUID in the path. Raises Refusal: 422 when it is none."""
    try:
        return str(uuid.UUID(request.parts[name]))
    except ValueError:
        message = "Input should be a valid UUID, unable to parse string as a UUID"
        raise unprocessable(("path", name), message, "uuid_parsing") from None


def _fits(file: StoredFile, asked: FilesQuery) -> bool:
    return (
        (asked.purpose is None or file.purpose == asked.purpose)
        and (asked.search is None or asked.search in file.name)
        and (asked.source is None or "upload" in asked.source)
        and (asked.sample_type is None or file.sample_type in asked.sample_type)
        and (asked.mimetypes is None or MIMETYPE in asked.mimetypes)
    )


@dataclass(frozen=True)
class Part:
    """One field of a form."""

    #: None for a plain field.
    filename: str | None
    content: bytes


def parts(content_type: str, body: bytes) -> dict[str, Part]:
    """The fields of a `multipart/form-data` body. Raises Refusal: 422."""
    head = Message()
    head["Content-Type"] = content_type
    boundary = head.get_boundary()
    if head.get_content_type() != "multipart/form-data" or not boundary:
        raise unprocessable(("body",), "expected multipart/form-data")
    pieces = (b"\r\n" + body).split(b"\r\n--" + boundary.encode())
    if len(pieces) < 2 or not pieces[-1].startswith(b"--"):
        raise unprocessable(("body",), "the form does not end")
    out: dict[str, Part] = {}
    for piece in pieces[1:-1]:
        name, part = _part(piece)
        if name in out:
            raise unprocessable(("body", name), "the field is there twice")
        out[name] = part
    return out


def _part(piece: bytes) -> tuple[str, Part]:
    lines, gap, content = piece.removeprefix(b"\r\n").partition(b"\r\n\r\n")
    head = Message()
    for line in lines.decode("utf-8", "replace").split("\r\n"):
        key, _, value = line.partition(":")
        head[key] = value.strip()
    name = head.get_param("name", header="content-disposition")
    if not gap or not isinstance(name, str):
        raise unprocessable(("body",), "a part of the form has no name")
    filename = head.get_param("filename", header="content-disposition")
    return name, Part(filename=filename if isinstance(filename, str) else None, content=content)
