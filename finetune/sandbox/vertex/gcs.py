"""Google Cloud Storage as far as uploads for training need it: buckets and objects of its JSON API, in memory.

After https://cloud.google.com/storage/docs/json_api/v1: buckets.get; objects.insert (multipart, and resumable in
chunks), get, list and delete. Not a stand-in of its own: `vertex.VertexSandbox` serves it beside its own routes.
"""

import base64
import bisect
import email.parser
import email.policy
import hashlib
import json
import re
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice
from typing import Any, Final
from urllib.parse import quote, unquote

from finetune.sandbox.clock import SandboxClock
from finetune.sandbox.service import Reply, Request, Route
from finetune.sandbox.vertex.words import crc32c, stamp
from finetune.sandbox.vertex.words import storage_refusal as refusal

#: What every chunk but the last is a multiple of.
CHUNK: Final = 256 * 1024
_SESSION_LASTS: Final = timedelta(days=7)
_PAGE: Final = 1000
#: Sorts behind every other character.
_LAST: Final = "\U0010ffff"
_ALWAYS: Final = frozenset({"alt", "fields", "prettyPrint", "projection", "userProject", "quotaUser", "key"})
_CONDITIONS: Final = frozenset({"ifGenerationMatch", "ifGenerationNotMatch", "ifMetagenerationMatch", "generation"})
_SPAN: Final = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)")
_RANGE: Final = re.compile(r"bytes=(\d+)-(\d*)")
#: What a writer may say of a new object; all else of an object is the service's own.
_WRITABLE: Final = frozenset(
    {
        *("name", "contentType", "cacheControl", "contentDisposition", "contentEncoding", "contentLanguage"),
        *("metadata", "md5Hash", "crc32c", "storageClass", "customTime", "acl", "bucket"),
    }
)


@dataclass(frozen=True, kw_only=True)
class Stored:
    """One object as it lies in a bucket; a new content is a new generation."""

    bucket: str
    name: str
    data: bytes
    content_type: str
    generation: int
    created_at: datetime
    metadata: dict[str, str]
    md5: str
    crc: str


@dataclass(kw_only=True)
class _Session:
    """A resumable upload that has begun."""

    bucket: str
    told: dict[str, Any]
    content_type: str
    match: str | None
    until: datetime
    #: Bytes in all, if they were told at the start.
    size: int | None
    got: bytearray = field(default_factory=bytearray)
    done: Stored | None = None


class Storage:
    """The buckets of one project. Handlers run under the stand-in's lock."""

    def __init__(self, clock: SandboxClock, buckets: Sequence[str], location: str = "US-CENTRAL1") -> None:
        self._clock, self._location = clock, location
        self._objects: dict[str, dict[str, Stored]] = {bucket: {} for bucket in buckets}
        #: The names of each bucket in order, so that a list needs no sorting.
        self._names: dict[str, list[str]] = {bucket: [] for bucket in buckets}
        self._sessions: dict[str, _Session] = {}
        self._made_at, self._generation = clock.now(), 0

    def routes(self) -> list[Route]:
        """The operations, as faults name them."""
        bucket = "/storage/v1/b/{bucket}"
        objects, one = bucket + "/o", bucket + "/o/{name}"
        return [
            Route(method="GET", path=bucket, operation="bucket", answer=self._bucket),
            Route(method="GET", path=objects, operation="files", answer=self._list),
            Route(method="GET", path=one, operation="file", answer=self._get),
            Route(method="DELETE", path=one, operation="delete_file", answer=self._delete),
            Route(method="GET", path="/download" + one, operation="download", answer=self._get),
            Route(method="POST", path="/upload" + objects, operation="upload", answer=self._insert),
            Route(method="PUT", path="/upload" + objects, operation="upload_part", answer=self._part),
        ]

    def get(self, bucket: str, name: str) -> Stored | None:
        """The object; None when there is none, or no such bucket."""
        return self._objects.get(bucket, {}).get(name)

    def has(self, bucket: str) -> bool:
        """Whether there is a bucket of this name."""
        return bucket in self._objects

    def put(self, bucket: str, name: str, data: bytes, content_type: str = "application/octet-stream") -> Stored:
        """Write an object without a condition. Raises KeyError for an unknown bucket."""
        return self._write(bucket, {"name": name}, content_type, data)

    def _bucket(self, request: Request) -> Reply:
        bucket = self._known(request, set())
        at = stamp(self._made_at)
        body = {"kind": "storage#bucket", "id": bucket, "name": bucket, "projectNumber": "1"}
        body |= {"location": self._location, "locationType": "region", "storageClass": "STANDARD"}
        return Reply(body={**body, "timeCreated": at, "updated": at})

    def _list(self, request: Request) -> Reply:
        taken = {"prefix", "delimiter", "maxResults", "pageToken", "versions", "startOffset", "endOffset"}
        bucket = self._known(request, taken)
        most = min(self._number(request, "maxResults", _PAGE), _PAGE)
        prefix, names = request.one("prefix") or "", self._names[bucket]
        token = request.one("pageToken")
        # The page goes on behind a name, so objects that come and go meanwhile shift nothing.
        begin = bisect.bisect_right(names, _unpaged(token)) if token else bisect.bisect_left(names, prefix)
        found = list(islice(_entries(names, begin, prefix, request.one("delimiter")), most + 1))
        page = found[:most]
        told: dict[str, Any] = {
            "items": [self._told(request, self._objects[bucket][name]) for is_folder, name in page if not is_folder],
            "prefixes": [name for is_folder, name in page if is_folder],
        }
        if len(found) > most:
            is_folder, name = page[-1]
            # Behind a folder is behind all that lies in it.
            told["nextPageToken"] = base64.urlsafe_b64encode((name + _LAST * is_folder).encode()).decode()
        return Reply(body={"kind": "storage#objects", **{key: value for key, value in told.items() if value}})

    def _get(self, request: Request) -> Reply:
        stored = self._found(request)
        if request.one("alt") != "media":
            return Reply(body=self._told(request, stored))
        kind = {"Content-Type": stored.content_type, "X-Goog-Generation": str(stored.generation)}
        kind["X-Goog-Hash"] = f"crc32c={stored.crc},md5={stored.md5}"
        asked = _RANGE.fullmatch(request.headers.get("range", ""))
        if not asked:
            return Reply(body=stored.data, headers=kind)
        begin = int(asked[1])
        if begin >= len(stored.data):
            raise refusal(416, "requestedRangeNotSatisfiable", "the range begins behind the object's end")
        end = min(int(asked[2] or len(stored.data)), len(stored.data) - 1)
        span = {"Content-Range": f"bytes {begin}-{end}/{len(stored.data)}"}
        return Reply(status=206, body=stored.data[begin : end + 1], headers={**kind, **span})

    def _delete(self, request: Request) -> Reply:
        stored = self._found(request)
        del self._objects[stored.bucket][stored.name]
        names = self._names[stored.bucket]
        del names[bisect.bisect_left(names, stored.name)]
        return Reply(status=204)

    def _insert(self, request: Request) -> Reply:
        bucket = self._known(request, {"uploadType", "name", "predefinedAcl", *_CONDITIONS})
        kind = request.one("uploadType")
        begin: dict[str | None, Callable[[str, Request], Reply]] = {
            "multipart": self._insert_whole,
            "resumable": self._insert_begin,
        }
        if kind not in begin:
            raise refusal(400, "invalid", f"uploadType {kind!r} is neither multipart nor resumable")
        return begin[kind](bucket, request)

    def _insert_whole(self, bucket: str, request: Request) -> Reply:
        told, content_type, data = _parts(request)
        told = self._checked(told, request)
        self._condition(bucket, told["name"], request.one("ifGenerationMatch"))
        return Reply(body=self._told(request, self._write(bucket, told, content_type, data)))

    def _insert_begin(self, bucket: str, request: Request) -> Reply:
        told = self._checked(_object(request.body or b"{}"), request)
        match = request.one("ifGenerationMatch")
        self._condition(bucket, told["name"], match)
        size = request.headers.get("x-upload-content-length")
        upload_id = secrets.token_urlsafe(24)
        self._sessions[upload_id] = _Session(
            bucket=bucket,
            told=told,
            content_type=told.get("contentType") or request.headers.get("x-upload-content-type") or "",
            match=match,
            until=self._clock.now() + _SESSION_LASTS,
            size=int(size) if size and size.isdigit() else None,
        )
        place = f"{request.base}/upload/storage/v1/b/{quote(bucket)}/o?uploadType=resumable&upload_id={upload_id}"
        return Reply(body=b"", headers={"Location": place, "X-GUploader-UploadID": upload_id})

    def _part(self, request: Request) -> Reply:
        self._known(request, {"uploadType", "upload_id"})
        session = self._sessions.get(request.one("upload_id") or "")
        if session is None or session.bucket != unquote(request.parts["bucket"]):
            raise refusal(404, "notFound", "there is no such upload")
        if session.until < self._clock.now():
            raise refusal(410, "gone", "the upload is older than a week")
        span = _SPAN.fullmatch(request.headers.get("content-range", f"bytes 0-{len(request.body) - 1}/*"))
        if span is None:
            raise refusal(400, "invalid", "Content-Range is not understood")
        if session.done is None:
            self._take(session, request, span)
        if session.done is None:
            got = {"Range": f"bytes=0-{len(session.got) - 1}"} if session.got else {}
            return Reply(status=308, body=b"", headers=got)
        return Reply(body=self._told(request, session.done))

    def _take(self, session: _Session, request: Request, span: re.Match[str]) -> None:
        """Keep the bytes that are not there yet; with the last of them the object is written."""
        total = int(span[3]) if span[3] != "*" else None
        if span[1] is not None:
            begin, end = int(span[1]), int(span[2])
            if end - begin + 1 != len(request.body):
                raise refusal(400, "invalid", "Content-Range and the body are of different lengths")
            if begin > len(session.got):
                raise refusal(503, "backendError", f"bytes before {begin} are missing")
            if total is None and len(request.body) % CHUNK:
                raise refusal(400, "invalid", f"a chunk that is not the last is a multiple of {CHUNK} bytes")
            if total is not None and end + 1 < total and len(request.body) % CHUNK:
                raise refusal(400, "invalid", f"a chunk that is not the last is a multiple of {CHUNK} bytes")
            session.got += request.body[len(session.got) - begin :]
        if total is None:
            return
        if session.size not in (None, total) or total < len(session.got):
            raise refusal(400, "invalid", "the size is not the one that was told before")
        if total == len(session.got):
            self._condition(session.bucket, session.told["name"], session.match)
            session.done = self._write(session.bucket, session.told, session.content_type, bytes(session.got))
            session.got = bytearray()

    def _write(self, bucket: str, told: dict[str, Any], content_type: str, data: bytes) -> Stored:
        md5 = base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()
        crc = crc32c(data)
        if told.get("md5Hash") not in (None, md5) or told.get("crc32c") not in (None, crc):
            raise refusal(400, "invalid", "the checksum is not that of the bytes that came")
        name, now = told["name"], self._clock.now()
        self._generation = max(self._generation + 1, int(now.timestamp() * 1e6))
        if name not in self._objects[bucket]:
            bisect.insort(self._names[bucket], name)
        self._objects[bucket][name] = Stored(
            bucket=bucket,
            name=name,
            data=data,
            content_type=content_type or "application/octet-stream",
            generation=self._generation,
            created_at=now,
            metadata=told.get("metadata") or {},
            md5=md5,
            crc=crc,
        )
        return self._objects[bucket][name]

    def _told(self, request: Request, stored: Stored) -> dict[str, Any]:
        place = f"{request.base}/storage/v1/b/{quote(stored.bucket)}/o/{quote(stored.name, safe='')}"
        at = stamp(stored.created_at)
        told = {
            "kind": "storage#object",
            "id": f"{stored.bucket}/{stored.name}/{stored.generation}",
            "selfLink": place,
            "name": stored.name,
            "bucket": stored.bucket,
            "generation": str(stored.generation),
            "metageneration": "1",
            "contentType": stored.content_type,
            "storageClass": "STANDARD",
            "size": str(len(stored.data)),
            "md5Hash": stored.md5,
            "crc32c": stored.crc,
            "timeCreated": at,
            "updated": at,
        }
        return {**told, "metadata": stored.metadata} if stored.metadata else told

    def _known(self, request: Request, taken: set[str]) -> str:
        """The bucket of the path, which exists; and no parameter but those that the operation has."""
        if unknown := sorted(request.query.keys() - _ALWAYS - taken):
            raise refusal(400, "invalidParameter", f"unknown parameters: {', '.join(unknown)}")
        bucket = unquote(request.parts["bucket"])
        if bucket not in self._objects:
            raise refusal(404, "notFound", f"there is no bucket {bucket}")
        return bucket

    def _found(self, request: Request) -> Stored:
        bucket, name = self._known(request, set(_CONDITIONS)), unquote(request.parts["name"])
        stored = self._objects[bucket].get(name)
        asked = request.one("generation")
        if stored is None or asked not in (None, str(stored.generation)):
            raise refusal(404, "notFound", f"there is no object {bucket}/{name}")
        self._condition(bucket, name, request.one("ifGenerationMatch"))
        return stored

    def _condition(self, bucket: str, name: str, match: str | None) -> None:
        """Raise 412 unless the object has this generation; 0 stands for none at all."""
        if match is None:
            return
        stored = self._objects[bucket].get(name)
        if match != str(stored.generation if stored else 0):
            raise refusal(412, "conditionNotMet", "at least one condition of the request does not hold")

    @staticmethod
    def _checked(told: dict[str, Any], request: Request) -> dict[str, Any]:
        """What the writer says of the object, with its name from the query if it stands there."""
        if unknown := sorted(told.keys() - _WRITABLE):
            raise refusal(400, "invalid", f"unknown or not writable: {', '.join(unknown)}")
        name = told.get("name") or request.one("name")
        if not isinstance(name, str) or not name or len(name.encode()) > 1024 or re.search(r"[\r\n]", name):
            raise refusal(400, "invalid", "the object needs a name of at most 1024 bytes without line breaks")
        return {**told, "name": name}

    @staticmethod
    def _number(request: Request, name: str, otherwise: int) -> int:
        value = request.one(name)
        if value is None:
            return otherwise
        if not value.isdigit() or int(value) < 1:
            raise refusal(400, "invalid", f"{name} is no whole number above 0")
        return int(value)


def _entries(names: Sequence[str], begin: int, prefix: str, delimiter: str | None) -> Iterator[tuple[bool, str]]:
    """What a list shows, in order: folders (True), each once, and objects."""
    place = begin
    while place < len(names) and names[place].startswith(prefix):
        head, found, _ = names[place][len(prefix) :].partition(delimiter) if delimiter else ("", "", "")
        if found:
            folder = f"{prefix}{head}{found}"
            yield True, folder
            place = bisect.bisect_right(names, folder + _LAST)
        else:
            yield False, names[place]
            place += 1


def _unpaged(token: str) -> str:
    try:
        return base64.urlsafe_b64decode(token).decode()
    except ValueError:
        raise refusal(400, "invalid", "pageToken is none of ours") from None


def _object(raw: bytes) -> dict[str, Any]:
    try:
        value = json.loads(raw)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise refusal(400, "parseError", "the metadata is no JSON object")
    return value


def _parts(request: Request) -> tuple[dict[str, Any], str, bytes]:
    """Metadata, type and content of a body in two parts."""
    header = f"Content-Type: {request.headers.get('content-type', '')}\r\n\r\n".encode()
    if not header.lower().startswith(b"content-type: multipart/related"):
        raise refusal(400, "invalid", "the body is not multipart/related")
    # Only the headers of the parts are read as mail: a parser of mail would change line ends in the content.
    edge = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(header).get_boundary()
    pieces = request.body.split(f"--{edge}".encode()) if edge else []
    if len(pieces) != 4:
        raise refusal(400, "invalid", "the body has not the two parts of metadata and content")
    found = []
    for piece in pieces[1:3]:
        # Google takes bare line feeds, too, and one end for the whole body: the content's own are not touched.
        end = b"\r\n" if piece.startswith(b"\r\n") else b"\n"
        head, _, content = piece.removeprefix(end).partition(end * 2)
        kind = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + b"\r\n\r\n").get("content-type", "")
        found.append((str(kind), content.removesuffix(end)))
    (_, told), (content_type, data) = found
    return _object(told), content_type, data
