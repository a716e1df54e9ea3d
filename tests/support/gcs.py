"""A stand-in for Google Cloud Storage: the reading half of its JSON API, strict about what it is asked.

After https://cloud.google.com/storage/docs/json_api/v1: objects.list, objects.get and buckets.get.
"""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qsl, unquote, urlsplit

_BUCKET = re.compile(r"/storage/v1/b/(?P<bucket>[^/]+)")
_LIST = re.compile(r"/storage/v1/b/(?P<bucket>[^/]+)/o/?")
_OBJECT = re.compile(r"/storage/v1/b/(?P<bucket>[^/]+)/o/(?P<name>[^/]+)")
_MEDIA = re.compile(r"/download/storage/v1/b/(?P<bucket>[^/]+)/o/(?P<name>[^/]+)")
#: The parameters that are known; any other is refused.
_PARAMETERS = {
    "prefix",
    "delimiter",
    "pageToken",
    "maxResults",
    "alt",
    "projection",
    "fields",
    "generation",
    "versions",
}
#: Objects in one answer, small enough that lists take several.
_PAGE = 3


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "_Server"

    def do_GET(self) -> None:
        store = self.server.store
        parts = urlsplit(self.path)
        query = dict(parse_qsl(parts.query))
        store.requests.append((parts.path, dict(self.headers)))
        if store.down or store.failing:
            self._fail(store.down or store.failing.pop(0))
        elif unknown := query.keys() - _PARAMETERS:
            self._fail(400, f"Unknown parameters {sorted(unknown)}")
        else:
            self._route(parts.path, query)

    def log_message(self, format: str, *args: Any) -> None: ...

    def _route(self, path: str, query: Mapping[str, str]) -> None:
        buckets = self.server.store.buckets
        for pattern, answer in (
            (_MEDIA, self._media),
            (_OBJECT, self._get),
            (_LIST, self._list),
            (_BUCKET, self._bucket),
        ):
            if match := pattern.fullmatch(path):
                bucket = unquote(match["bucket"])
                if bucket not in buckets:
                    self._fail(404, "The specified bucket does not exist.")
                else:
                    answer(bucket, unquote(match.groupdict().get("name") or ""), query)
                return
        self._fail(400, "No such method")

    def _bucket(self, bucket: str, name: str, query: Mapping[str, str]) -> None:
        self._json({"kind": "storage#bucket", "name": bucket})

    def _list(self, bucket: str, name: str, query: Mapping[str, str]) -> None:
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter")
        items: list[str] = []
        prefixes: list[str] = []
        for each in sorted(self.server.store.buckets[bucket]):
            rest = each.removeprefix(prefix)
            if not each.startswith(prefix):
                continue
            if delimiter and delimiter in rest:
                prefixes.append(prefix + rest.partition(delimiter)[0] + delimiter)
            else:
                items.append(each)
        begin = int(query.get("pageToken", "0"))
        end = begin + min(_PAGE, int(query.get("maxResults", _PAGE)))
        page = [self._described(bucket, each) for each in items[begin:end]]
        answer: dict[str, Any] = {"kind": "storage#objects", "items": page, "prefixes": sorted(set(prefixes))}
        if end < len(items):
            answer["nextPageToken"] = str(end)
        self._json({key: value for key, value in answer.items() if value})

    def _get(self, bucket: str, name: str, query: Mapping[str, str]) -> None:
        if name not in self.server.store.buckets[bucket]:
            self._fail(404, f"No such object: {bucket}/{name}")
        elif query.get("alt") == "media":
            self._media(bucket, name, query)
        else:
            self._json(self._described(bucket, name))

    def _media(self, bucket: str, name: str, query: Mapping[str, str]) -> None:
        data = self.server.store.buckets[bucket].get(name)
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range") or "")
        if data is None:
            self._fail(404, f"No such object: {bucket}/{name}")
        elif query.get("alt") != "media":
            self._fail(400, "alt=media is missing")
        elif not asked:
            self._send(200, data, {})
        elif int(asked[1]) >= len(data):
            self._fail(416, "Requested range not satisfiable")
        else:
            begin, end = int(asked[1]), min(int(asked[2]), len(data) - 1)
            self._send(206, data[begin : end + 1], {"Content-Range": f"bytes {begin}-{end}/{len(data)}"})

    def _described(self, bucket: str, name: str) -> dict[str, Any]:
        data = self.server.store.buckets[bucket][name]
        digest = base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()
        at = "2026-11-24T12:00:00.000Z"
        generation = str(int.from_bytes(base64.b64decode(digest)[:6], "big"))
        described = {"kind": "storage#object", "bucket": bucket, "name": name, "size": str(len(data))}
        return {**described, "md5Hash": digest, "generation": generation, "updated": at, "timeCreated": at}

    def _fail(self, status: int, message: str = "") -> None:
        body = {"error": {"code": status, "message": message, "errors": [{"message": message}]}}
        self._send(status, json.dumps(body).encode(), {"Content-Type": "application/json"})

    def _json(self, value: object) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    store: "Gcs"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that go away are no fault."""


class Gcs:
    """Answers on a free port of this machine as long as the block lasts."""

    def __init__(self) -> None:
        #: The objects of each bucket by their names.
        self.buckets: dict[str, dict[str, bytes]] = {}
        #: The status of every answer; None: it works.
        self.down: int | None = None
        #: The statuses of the next answers, before it works again.
        self.failing: list[int] = []
        #: Path and headers of each request.
        self.requests: list[tuple[str, dict[str, str]]] = []
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.store = self

    @property
    def url(self) -> str:
        """For STORAGE_EMULATOR_HOST."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
