"""The files of an organisation, and uploads in parts that become files."""

import hashlib
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from finetune.sandbox.openai.words import Refused, no_such_file, no_such_upload, wrong_type

#: An upload that is not completed by then is gone.
UPLOAD_LIVES_S: Final = 3600
_PARTS_AT_MOST: Final = 10_000


@dataclass(frozen=True, kw_only=True)
class File:
    """One file."""

    id: str
    number: int
    filename: str
    purpose: str
    content: bytes
    created_at: int
    #: None: it stays until somebody deletes it.
    expires_at: int | None
    #: From then on its status is `processed`, seconds since 1970.
    ready_at: float


@dataclass(kw_only=True)
class Upload:
    """A file that comes in parts."""

    id: str
    filename: str
    purpose: str
    size: int
    created_at: int
    expires_after_s: int | None
    #: pending, completed, cancelled; `expired` is told from the time.
    status: str = "pending"
    parts: dict[str, bytes] = field(default_factory=dict)
    file: File | None = None

    @property
    def expires_at(self) -> int:
        """When it is too late to complete it, seconds since 1970."""
        return self.created_at + UPLOAD_LIVES_S

    def state(self, now: float) -> str:
        """The status at this time."""
        expired = self.status == "pending" and now >= self.expires_at
        return "expired" if expired else self.status


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Bytes that one request, one part, and all parts of an upload may have."""

    file: int = 512 * 1024 * 1024
    part: int = 64 * 1024 * 1024
    upload: int = 8 * 1024 * 1024 * 1024


class Files:
    """All files and uploads. Not safe for threads: the sandbox holds its lock."""

    def __init__(self, name: Callable[[str], str], now: Callable[[], float], limits: Limits, process_s: float) -> None:
        """`name` makes an id of a prefix; `process_s` is how long a new file is not `processed` yet."""
        self._name, self._now, self._limits, self._process_s = name, now, limits, process_s
        self._files: dict[str, File] = {}
        #: Numbers in the order of creation; None has those of every purpose.
        self._by_purpose: dict[str | None, list[int]] = {None: []}
        self._by_number: dict[int, File] = {}
        self._uploads: dict[str, Upload] = {}
        self._count = 0

    def add(self, filename: str, purpose: str, content: bytes, expires_after_s: int | None = None) -> File:
        """Keep a file. Raises Refused for one that this purpose does not take."""
        if purpose == "fine-tune":
            _trainable(filename, content)
        if not content:
            raise Refused(400, "File is empty.", param="file", code="empty_file")
        self._count += 1
        now = self._now()
        file = File(
            id=self._name("file-"),
            number=self._count,
            filename=filename,
            purpose=purpose,
            content=content,
            created_at=int(now),
            expires_at=int(now) + expires_after_s if expires_after_s is not None else None,
            ready_at=now + self._process_s,
        )
        self._files[file.id] = self._by_number[file.number] = file
        for key in (None, purpose):
            self._by_purpose.setdefault(key, []).append(file.number)
        return file

    def upload(self, filename: str, purpose: str, content: bytes, expires_after_s: int | None) -> File:
        """Like `add`, for a file that comes in one request."""
        if len(content) > self._limits.file:
            message = f"File is too large: at most {self._limits.file} bytes are taken, but got {len(content)}."
            raise Refused(413, message, param="file", code="file_too_large")
        return self.add(filename, purpose, content, expires_after_s)

    def get(self, file_id: str) -> File:
        """The file. Raises Refused."""
        file = self._files.get(file_id)
        if file is None or (file.expires_at is not None and self._now() >= file.expires_at):
            raise no_such_file(file_id)
        return file

    def delete(self, file_id: str) -> None:
        """Forget the file. Raises Refused when there is none."""
        file = self.get(file_id)
        del self._files[file_id], self._by_number[file.number]
        for key in (None, file.purpose):
            numbers = self._by_purpose[key]
            del numbers[bisect_left(numbers, file.number)]

    def page(self, purpose: str | None, after: str | None, limit: int, descending: bool) -> tuple[list[File], bool]:
        """Up to `limit` files behind `after`, and whether there are more. Raises Refused for an unknown `after`."""
        numbers: Sequence[int] = self._by_purpose.get(purpose, ())
        start = self.get(after).number if after else None
        if descending:
            end = len(numbers) if start is None else bisect_left(numbers, start)
            chosen = numbers[max(0, end - limit) : end][::-1]
            return self._present(chosen), end > limit
        begin = 0 if start is None else bisect_right(numbers, start)
        return self._present(numbers[begin : begin + limit]), len(numbers) > begin + limit

    def begin(self, said: Mapping[str, Any]) -> Upload:
        """An upload for what a checked body says. Raises Refused when it would be too large."""
        if said["bytes"] > self._limits.upload:
            message = f"Upload is too large: at most {self._limits.upload} bytes are taken, but got {said['bytes']}."
            raise Refused(400, message, param="bytes", code="upload_too_large")
        if said["purpose"] == "fine-tune":
            _jsonl(said["filename"])
        upload = Upload(
            id=self._name("upload_"),
            filename=said["filename"],
            purpose=said["purpose"],
            size=said["bytes"],
            created_at=int(self._now()),
            expires_after_s=said.get("expires_after", {}).get("seconds"),
        )
        self._uploads[upload.id] = upload
        return upload

    def add_part(self, upload_id: str, content: bytes) -> str:
        """The new part's id. Raises Refused."""
        upload = self._pending(upload_id)
        if len(content) > self._limits.part:
            message = f"Part is too large: at most {self._limits.part} bytes are taken, but got {len(content)}."
            raise Refused(400, message, param="data", code="part_too_large")
        if sum(map(len, upload.parts.values())) + len(content) > self._limits.upload:
            raise Refused(400, "Upload is too large.", param="data", code="upload_too_large")
        if len(upload.parts) >= _PARTS_AT_MOST:
            raise Refused(400, f"Upload has {_PARTS_AT_MOST} parts already.", param="data", code="too_many_parts")
        part_id = self._name("part_")
        upload.parts[part_id] = content
        return part_id

    def complete(self, upload_id: str, part_ids: list[str], md5: str | None) -> Upload:
        """Make the file of the parts in this order. Raises Refused; then the upload stays as it is."""
        upload = self._pending(upload_id)
        for part_id in part_ids:
            if part_id not in upload.parts:
                raise Refused(400, f"No such Part object: {part_id}", param="part_ids", code="part_not_found")
        if len(set(part_ids)) != len(part_ids):
            raise Refused(400, "A part is listed twice.", param="part_ids", code="duplicate_part")
        content = b"".join(upload.parts[part_id] for part_id in part_ids)
        if len(content) != upload.size:
            message = f"Expected {upload.size} bytes as the upload was created with, but the parts have {len(content)}."
            raise Refused(400, message, param="part_ids", code="size_mismatch")
        if md5 is not None and hashlib.md5(content, usedforsecurity=False).hexdigest() != md5.lower():
            raise Refused(400, "The md5 checksum does not match the uploaded bytes.", param="md5", code="md5_mismatch")
        upload.file = self.add(upload.filename, upload.purpose, content, upload.expires_after_s)
        upload.status = "completed"
        upload.parts.clear()
        return upload

    def cancel(self, upload_id: str) -> Upload:
        """Give the upload up. Raises Refused when it has ended."""
        upload = self._pending(upload_id)
        upload.status = "cancelled"
        upload.parts.clear()
        return upload

    def _pending(self, upload_id: str) -> Upload:
        upload = self._uploads.get(upload_id)
        if upload is None:
            raise no_such_upload(upload_id)
        state = upload.state(self._now())
        if state != "pending":
            raise Refused(400, f"Upload {upload_id} is {state}.", param="upload_id", code=f"upload_{state}")
        return upload

    def _present(self, numbers: Sequence[int]) -> list[File]:
        now = self._now()
        files = [self._by_number[number] for number in numbers]
        return [file for file in files if file.expires_at is None or now < file.expires_at]


def checked_file(part: Any) -> tuple[str, bytes]:
    """Name and content of the form's file. Raises Refused when it has no name."""
    if not part.filename:
        raise wrong_type("file", "a file with a name", None)
    return part.filename, part.content


def _jsonl(filename: str) -> None:
    if not filename.lower().endswith(".jsonl"):
        message = "Invalid file format for Fine-Tuning API. Must be .jsonl"
        raise Refused(400, message, param="file", code="invalid_file_format")


def _trainable(filename: str, content: bytes) -> None:
    _jsonl(filename)
    if content and b"\0" in content[:4096]:
        raise Refused(
            400, "Invalid file format for Fine-Tuning API. Must be .jsonl", param="file", code="invalid_file_format"
        )
