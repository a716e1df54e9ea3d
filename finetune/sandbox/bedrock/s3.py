"""S3 as far as uploads for training need it, in memory: PutObject, GetObject, DeleteObject and ListObjectsV2.

After https://docs.aws.amazon.com/AmazonS3/latest/API. Buckets stand in the path. Not a stand-in of its own:
`sandbox.BedrockSandbox` serves it beside its own routes.
"""

import base64
import hashlib
import zlib
from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from urllib.parse import quote, unquote
from xml.sax.saxutils import escape

from finetune.sandbox.bedrock.words import stamp
from finetune.sandbox.bedrock.words import storage_refusal as refusal
from finetune.sandbox.clock import SandboxClock
from finetune.sandbox.service import Reply, Request, Route

_PAGE: Final = 1000
_LISTING: Final = frozenset({"list-type", "prefix", "max-keys", "continuation-token", "encoding-type"})
_XML: Final = {"Content-Type": "application/xml"}


@dataclass(frozen=True, kw_only=True)
class Stored:
    """One object as it lies in a bucket."""

    data: bytes
    content_type: str
    changed_at: datetime

    @property
    def etag(self) -> str:
        """As S3 tells it of an object that came in one request, in quotes."""
        return f'"{hashlib.md5(self.data, usedforsecurity=False).hexdigest()}"'


class Storage:
    """The buckets of one account. Handlers run under the stand-in's lock."""

    def __init__(self, clock: SandboxClock, buckets: Sequence[str]) -> None:
        self._clock = clock
        self._objects: dict[str, dict[str, Stored]] = {bucket: {} for bucket in buckets}
        #: The names of each bucket in order, so that a list needs no sorting.
        self._names: dict[str, list[str]] = {bucket: [] for bucket in buckets}

    def routes(self) -> list[Route]:
        """The operations, as faults name them."""
        one = "/{bucket}/{key...}"
        return [
            Route(method="GET", path="/{bucket}", operation="files", answer=self._list),
            Route(method="PUT", path=one, operation="upload", answer=self._put),
            Route(method="GET", path=one, operation="download", answer=self._get),
            Route(method="DELETE", path=one, operation="delete_file", answer=self._delete),
        ]

    def add(self, bucket: str) -> None:
        """Have one more, empty. Idempotent."""
        self._objects.setdefault(bucket, {})
        self._names.setdefault(bucket, [])

    def has(self, bucket: str) -> bool:
        """Whether there is a bucket of this name."""
        return bucket in self._objects

    def get(self, uri: str) -> Stored | None:
        """The object at `s3://bucket/key`; None when there is none, or no such bucket."""
        bucket, _, key = uri.removeprefix("s3://").partition("/")
        return self._objects.get(bucket, {}).get(key)

    def put(self, uri: str, data: bytes, content_type: str = "binary/octet-stream") -> None:
        """Write an object. Raises KeyError for an unknown bucket."""
        bucket, _, key = uri.removeprefix("s3://").partition("/")
        if key not in self._objects[bucket]:
            insort(self._names[bucket], key)
        self._objects[bucket][key] = Stored(data=data, content_type=content_type, changed_at=self._clock.now())

    def _put(self, request: Request) -> Reply:
        bucket, key = self._place(request)
        there = self._objects[bucket].get(key)
        if request.headers.get("if-none-match") not in (None, "*"):
            raise refusal(501, "NotImplemented", "If-None-Match has to be *", key)
        wanted = request.headers.get("if-match")
        if (there and "if-none-match" in request.headers) or (wanted and (there is None or there.etag != wanted)):
            raise refusal(
                412, "PreconditionFailed", "At least one of the pre-conditions you specified did not hold", key
            )
        if "aws-chunked" in request.headers.get("content-encoding", ""):
            raise refusal(501, "NotImplemented", "the sandbox takes no body in signed chunks", key)
        _check(request, key)
        self.put(f"s3://{bucket}/{key}", request.body, request.headers.get("content-type", "binary/octet-stream"))
        return Reply(body=b"", headers={"ETag": self._objects[bucket][key].etag})

    def _get(self, request: Request) -> Reply:
        bucket, key = self._place(request)
        stored = self._objects[bucket].get(key)
        if stored is None:
            raise refusal(404, "NoSuchKey", "The specified key does not exist.", key)
        at = f"{stored.changed_at:%a, %d %b %Y %H:%M:%S} GMT"
        headers = {"ETag": stored.etag, "Content-Type": stored.content_type, "Last-Modified": at}
        return Reply(body=stored.data, headers=headers)

    def _delete(self, request: Request) -> Reply:
        bucket, key = self._place(request)
        if self._objects[bucket].pop(key, None) is not None:
            self._names[bucket].remove(key)
        return Reply(status=204)

    def _list(self, request: Request) -> Reply:
        bucket, query = self._known(request), request.query
        if unknown := sorted(query.keys() - _LISTING):
            raise refusal(501, "NotImplemented", f"the sandbox knows no parameter {unknown[0]}", bucket)
        if request.one("list-type") != "2":
            raise refusal(501, "NotImplemented", "the sandbox lists by list-type=2 only", bucket)
        most, prefix = request.one("max-keys") or str(_PAGE), request.one("prefix") or ""
        if not most.isdigit():
            raise refusal(400, "InvalidArgument", "Provided max-keys not an integer", bucket)
        names, size = self._names[bucket], min(int(most), _PAGE)
        begin = bisect_left(names, prefix)
        if token := request.one("continuation-token"):
            # Behind a name, so objects that come and go meanwhile shift nothing.
            begin = bisect_left(names, _unpaged(token, bucket) + "\0")
        found: list[str] = []
        while begin < len(names) and names[begin].startswith(prefix) and len(found) <= size:
            found.append(names[begin])
            begin += 1
        return Reply(body=self._page(request, found, size, prefix), headers=_XML)

    def _page(self, request: Request, found: list[str], size: int, prefix: str) -> bytes:
        bucket, page = request.parts["bucket"], found[:size]
        encoded = request.one("encoding-type") == "url"
        more = len(found) > size and bool(page)
        rows = "".join(self._row(bucket, key, encoded) for key in page)
        token = base64.urlsafe_b64encode(page[-1].encode()).decode() if more else ""
        next_token = f"<NextContinuationToken>{token}</NextContinuationToken>" if more else ""
        head = f"<Name>{bucket}</Name><Prefix>{_told(prefix, encoded)}</Prefix><KeyCount>{len(page)}</KeyCount>"
        head += f"<MaxKeys>{size}</MaxKeys><IsTruncated>{str(more).lower()}</IsTruncated>{next_token}"
        head += "<EncodingType>url</EncodingType>" * encoded
        head = f'<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">{head}'
        return f'<?xml version="1.0" encoding="UTF-8"?>\n{head}{rows}</ListBucketResult>'.encode()

    def _row(self, bucket: str, key: str, encoded: bool) -> str:
        stored = self._objects[bucket][key]
        inside = f"<Key>{_told(key, encoded)}</Key><LastModified>{stamp(stored.changed_at)}</LastModified>"
        inside += f"<ETag>{escape(stored.etag)}</ETag><Size>{len(stored.data)}</Size>"
        return f"<Contents>{inside}<StorageClass>STANDARD</StorageClass></Contents>"

    def _place(self, request: Request) -> tuple[str, str]:
        return self._known(request), unquote(request.parts["key"])

    def _known(self, request: Request) -> str:
        bucket = request.parts["bucket"]
        if bucket not in self._objects:
            raise refusal(404, "NoSuchBucket", "The specified bucket does not exist", bucket)
        return bucket


def _told(text: str, encoded: bool) -> str:
    return quote(text, safe="/") if encoded else escape(text)


def _unpaged(token: str, bucket: str) -> str:
    try:
        return base64.b64decode(token.encode(), altchars=b"-_", validate=True).decode()
    except ValueError:
        raise refusal(400, "InvalidArgument", "The continuation token provided is incorrect", bucket) from None


def _check(request: Request, key: str) -> None:
    """Hold the body against the digests that came with it. Raises Refusal."""
    body = request.body
    sums = {
        "x-amz-checksum-crc32": base64.b64encode(zlib.crc32(body).to_bytes(4, "big")).decode(),
        "content-md5": base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode(),
        "x-amz-content-sha256": hashlib.sha256(body).hexdigest(),
    }
    for name, right in sums.items():
        said = request.headers.get(name)
        if said is not None and said != "UNSIGNED-PAYLOAD" and said != right:
            raise refusal(400, "BadDigest", f"The {name} you specified did not match what was received", key)
