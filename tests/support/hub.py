"""A stand-in for the Hugging Face hub: what `datasets` asks of it to stream a data set, and files of models."""

import hashlib
import json
import re
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, Self
from urllib.parse import unquote, urlsplit

#: The one commit that every data set here has.
SHA: Final = "1" * 40

_INFO = re.compile(r"/api/datasets/(?P<repo>[^/]+/[^/]+)(?:/revision/(?P<revision>[^/]+))?")
_AUTH = re.compile(r"/api/datasets/(?P<repo>[^/]+/[^/]+)/auth-check")
_PATHS = re.compile(r"/api/datasets/(?P<repo>[^/]+/[^/]+)/paths-info/(?P<revision>[^/]+)")
_TREE = re.compile(r"/api/datasets/(?P<repo>[^/]+/[^/]+)/tree/(?P<revision>[^/]+)(?:/(?P<path>.*))?")
_FILE = re.compile(r"(?:/datasets)?/(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>.+)")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "_Server"

    def do_HEAD(self) -> None:
        self._answered()

    def do_GET(self) -> None:
        self._answered()

    def do_POST(self) -> None:
        self._answered()

    def log_message(self, format: str, *args: Any) -> None: ...

    def _answered(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = unquote(urlsplit(self.path).path)
        self.server.hub.requests.append(f"{self.command} {path}")
        for pattern, answer in (
            (_AUTH, self._auth),
            (_PATHS, self._paths),
            (_TREE, self._tree),
            (_FILE, self._file),
            (_INFO, self._info),
        ):
            if match := pattern.fullmatch(path):
                self._of_repository(match.groupdict(), answer, body)
                return
        self._send(404, b"{}")

    def _of_repository(self, asked: Mapping[str, str | None], answer: Any, body: bytes) -> None:
        hub = self.server.hub
        repo = str(asked["repo"])
        if status := hub.failing.get(f"{self.command} {unquote(urlsplit(self.path).path)}") or hub.failing.get(repo):
            self._send(status, b"{}")
        elif repo not in hub.repositories:
            self._send(404, b"{}", {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"})
        elif asked.get("revision") not in (None, "main", SHA):
            self._send(404, b"{}", {"X-Error-Code": "RevisionNotFound", "X-Error-Message": "Invalid rev id"})
        else:
            answer(repo, asked, body)

    def _auth(self, repo: str, asked: Mapping[str, str | None], body: bytes) -> None:
        if repo in self.server.hub.gated:
            self._send(403, b"{}", {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access is restricted"})
        else:
            self._json({})

    def _info(self, repo: str, asked: Mapping[str, str | None], body: bytes) -> None:
        siblings = [{"rfilename": name} for name in self.server.hub.repositories[repo]]
        self._json(
            {
                "_id": "1",
                "id": repo,
                "sha": SHA,
                "siblings": siblings,
                "private": False,
                "gated": repo in self.server.hub.gated and "auto",
            }
        )

    def _tree(self, repo: str, asked: Mapping[str, str | None], body: bytes) -> None:
        self._json(self._entries(repo, (asked["path"] or "").strip("/")))

    def _paths(self, repo: str, asked: Mapping[str, str | None], body: bytes) -> None:
        wanted = [unquote(each.partition("=")[2].replace("+", " ")) for each in body.decode().split("&")]
        files = self.server.hub.repositories[repo]
        found = [_described(name, files[name]) for name in wanted if name in files]
        found += [{"type": "directory", "path": w, "oid": "0"} for w in wanted if w and self._entries(repo, w)]
        self._json(found)

    def _entries(self, repo: str, folder: str) -> list[dict[str, Any]]:
        prefix = f"{folder}/" if folder else ""
        files = self.server.hub.repositories[repo]
        below = {name: data for name, data in files.items() if name.startswith(prefix)}
        folders = {name[len(prefix) :].split("/")[0] for name in below if "/" in name[len(prefix) :]}
        entries = [{"type": "directory", "path": prefix + name, "oid": "0"} for name in sorted(folders)]
        if "recursive=True" in self.path or "recursive=true" in self.path:
            return entries + [_described(name, data) for name, data in below.items()]
        return entries + [_described(name, data) for name, data in below.items() if "/" not in name[len(prefix) :]]

    def _file(self, repo: str, asked: Mapping[str, str | None], body: bytes) -> None:
        data = self.server.hub.repositories[repo].get(str(asked["path"]))
        if data is None:
            self._send(404, b"", {"X-Error-Code": "EntryNotFound", "X-Error-Message": "Entry not found"})
            return
        headers = {"ETag": f'"{hashlib.sha1(data).hexdigest()}"', "X-Repo-Commit": SHA, "Accept-Ranges": "bytes"}
        if not (part := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")):
            self._send(200, data, headers)
            return
        begin, end = int(part[1]), min(int(part[2] or len(data)), len(data) - 1)
        self._send(206, data[begin : end + 1], {**headers, "Content-Range": f"bytes {begin}-{end}/{len(data)}"})

    def _json(self, value: object) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _described(name: str, data: bytes) -> dict[str, Any]:
    return {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    hub: "Hub"


class Hub:
    """Answers on a free port of this machine as long as the block lasts."""

    def __init__(self, repositories: Mapping[str, Mapping[str, bytes]]) -> None:
        """`repositories`: the files of each data set, or model, by their paths."""
        self.repositories = repositories
        #: Of a repository, or of one request (`GET /datasets/...`): the status it answers with.
        self.failing: dict[str, int] = {}
        #: Data sets whose owner lets in only some.
        self.gated: set[str] = set()
        #: Method and path of each request.
        self.requests: list[str] = []
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.hub = self

    @property
    def url(self) -> str:
        """For HF_ENDPOINT."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
