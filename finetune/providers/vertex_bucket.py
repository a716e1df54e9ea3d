"""Training files in the user's bucket on Cloud Storage: each content once, large ones in chunks that are resumed."""

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from finetune.abilities import RemoteFile
from finetune.errors import Problem, ProviderError, ProviderUnavailable
from finetune.files import write_whole
from finetune.jobs import Json
from finetune.ports import PreparedData
from finetune.providers.vertex_wire import Wire

#: Below it lies what ft has uploaded, a folder a content.
_PREFIX: Final = "ft/"
_OURS: Final = re.compile(r"ft/[0-9a-f]{32}/(?:train|validation)\.jsonl")
_TYPE: Final = "application/jsonl"
_KEPT: Final = re.compile(r"bytes=0-(\d+)")


class Bucket:
    """One bucket of the user's."""

    def __init__(self, wire: Wire, name: str, uploads_dir: Path, *, part_bytes: int) -> None:
        """Files up to `part_bytes`, a multiple of 256 KiB, go in one request, larger ones in chunks of that size."""
        self._wire, self.name, self._dir, self._part = wire, name, uploads_dir, part_bytes
        self._bucket: Any = wire.storage.bucket(name)

    def upload(self, data: PreparedData) -> Json:
        """The addresses of both sides; what is there is not sent again. Raises ProviderError."""
        ids: Json = {"train": None, "validation": None, "format": data.format}
        for side, path in (("train", data.train), ("validation", data.validation)):
            if path is not None:
                ids[side] = self._place(f"{_PREFIX}{data.digest[:32]}/{side}.jsonl", path)
        return ids

    def ours(self) -> list[RemoteFile]:
        """See `abilities.Storing.files`."""
        found = [
            RemoteFile(
                file_id=self._address(blob.name),
                name=blob.name,
                bytes=int(blob.size or 0),
                uploaded_at=blob.updated or datetime.fromtimestamp(0, UTC),
            )
            for blob in self._listed()
            if _OURS.fullmatch(blob.name)
        ]
        return sorted(found, key=lambda file: file.uploaded_at, reverse=True)

    def delete(self, file_id: str) -> None:
        """See `abilities.Storing.delete_file`. Raises ProviderError for what ft has not uploaded."""
        # The bucket of the address: another one than today's may have been set when it was uploaded.
        bucket, _, name = file_id.removeprefix("gs://").partition("/")
        if not file_id.startswith("gs://") or not _OURS.fullmatch(name):
            why = "ft deletes what it has uploaded: gs://BUCKET/ft/DIGEST/train.jsonl and validation.jsonl"
            fix = "delete it with `gcloud storage rm` if it may go"
            raise ProviderError(Problem(code="E402", what=f"{file_id} is no file of ft's", why=why, fix=fix))
        blob = self._wire.storage.bucket(bucket).blob(name)
        try:
            self._ask("delete a file", lambda: blob.delete(retry=None, timeout=self._wire.short))
        except ProviderError as error:
            if error.problems[0].code != "E402":
                raise

    def look(self, timeout_s: float) -> None:
        """Ask for one name below ours: it tells whether the bucket is there and may be read. Raises ProviderError."""
        self._ask("look into the bucket", lambda: list(self._pages(timeout_s, most=1)))

    def _address(self, name: str) -> str:
        return f"gs://{self.name}/{name}"

    def _listed(self) -> Iterator[Any]:
        pages = self._pages(self._wire.short[1])
        while (page := self._ask("list the files", lambda: next(pages, None))) is not None:
            yield from page

    def _pages(self, read_s: float, most: int | None = None) -> Iterator[Any]:
        listing = {"prefix": _PREFIX, "max_results": most, "retry": None}
        found: Iterator[Any] = self._wire.storage.list_blobs(
            self._bucket, timeout=(min(self._wire.short[0], read_s), read_s), **listing
        ).pages
        return found

    def _place(self, name: str, path: Path) -> str:
        """The address of this content, which is there afterwards."""
        size, md5 = path.stat().st_size, _md5(path)
        there = self._there(name)
        if there is None and not self._send(name, path, md5, match=0):
            # Somebody else was faster: with the same content, as the name holds its digest.
            there = self._there(name)
        if there is not None and (there.size != size or there.md5_hash not in (None, md5)):
            # Of an ft that wrote the rows otherwise. Jobs read their file when they begin, so this one takes its place.
            self._send(name, path, md5, match=there.generation)
        return self._address(name)

    def _there(self, name: str) -> Any:
        timeout = self._wire.short
        return self._ask("look for a file", lambda: self._bucket.get_blob(name, retry=None, timeout=timeout))

    def _send(self, name: str, path: Path, md5: str, *, match: int) -> bool:
        """Write the object if its generation is `match` (0: it is not there); False when it is another."""
        try:
            if path.stat().st_size <= self._part:
                self._send_whole(name, path, match)
            else:
                self._send_parts(name, path, md5, match)
        except _Taken:
            return False
        return True

    def _send_whole(self, name: str, path: Path, match: int) -> None:
        with path.open("rb") as file:
            self._ask(
                "upload a file",
                lambda: self._bucket.blob(name).upload_from_file(
                    file,
                    # With the size, their package sends up to 8 MiB in one request, which `part_bytes` keeps to.
                    size=path.stat().st_size,
                    content_type=_TYPE,
                    if_generation_match=match,
                    checksum="md5",
                    retry=None,
                    timeout=self._wire.long,
                ),
            )

    def _send_parts(self, name: str, path: Path, md5: str, match: int) -> None:
        """Chunk by chunk; the address of the upload is on the disk, so that the next try goes on where this one ends.

        Whoever has that address may write this one object for a week: the file is for its owner alone.
        """
        size, state_file = path.stat().st_size, self._dir / f"{name.replace('/', '-')}.json"
        address = self._begun(state_file, md5)
        sent = self._kept(address, size) if address else None
        if address is None or sent is None:
            address, sent = self._begin(name, md5, size, match), 0
            write_whole(state_file, json.dumps({"address": address, "md5": md5}))
            state_file.chmod(0o600)
        try:
            with path.open("rb") as file:
                while sent < size:
                    file.seek(sent)
                    sent = self._part_sent(address, file.read(self._part), sent, size)
        except ProviderUnavailable:
            raise
        except (ProviderError, _Taken):
            state_file.unlink(missing_ok=True)
            raise
        state_file.unlink(missing_ok=True)

    def _begun(self, state_file: Path, md5: str) -> str | None:
        try:
            state: Json = json.loads(state_file.read_text())
            return str(state["address"]) if state["md5"] == md5 else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _begin(self, name: str, md5: str, size: int, match: int) -> str:
        blob = self._bucket.blob(name)
        blob.md5_hash = md5
        return str(
            self._ask(
                "begin an upload",
                lambda: blob.create_resumable_upload_session(
                    content_type=_TYPE,
                    size=size,
                    if_generation_match=match,
                    checksum=None,
                    retry=None,
                    timeout=self._wire.short,
                ),
            )
        )

    def _kept(self, address: str, size: int) -> int | None:
        """How many bytes of a begun upload are there; None when it has to be begun anew."""
        try:
            return self._put(address, b"", f"bytes */{size}", size)
        except ProviderUnavailable:
            raise
        except ProviderError:
            return None

    def _part_sent(self, address: str, piece: bytes, begin: int, size: int) -> int:
        kept = self._put(address, piece, f"bytes {begin}-{begin + len(piece) - 1}/{size}", size)
        if kept <= begin:
            raise self._wire.nonsense("upload a part of a file", f"of {len(piece)} bytes none was kept")
        return kept

    def _put(self, address: str, piece: bytes, span: str, size: int) -> int:
        """Send one request to a begun upload; returns how many bytes are there now."""
        response = self._ask("upload a part of a file", lambda: self._request(address, piece, span))
        if response.status_code in (200, 201):
            return size
        found = _KEPT.fullmatch(response.headers.get("range", ""))
        return int(found[1]) + 1 if found else 0

    def _request(self, address: str, piece: bytes, span: str) -> Any:
        response = self._wire.session.request(
            "PUT",
            address,
            data=piece,
            headers={"Content-Range": span},
            timeout=self._wire.long,
            # 308 says here that more is wanted.
            allow_redirects=False,
        )
        if response.status_code not in (200, 201, 308):
            error = import_module("google.api_core.exceptions")
            raise error.from_http_status(response.status_code, "the upload was refused", response=response)
        return response

    def _ask(self, doing: str, call: Any) -> Any:
        """As `Wire.ask`; raises _Taken for a condition that does not hold, and has words for a missing bucket."""
        exceptions = import_module("google.api_core.exceptions")

        def careful() -> Any:
            try:
                return call()
            except exceptions.PreconditionFailed:
                return _Taken()

        try:
            answer = self._wire.ask(doing, careful)
        except ProviderError as error:
            problem = error.problems[0]
            if problem.code == "E402" and doing in ("upload a file", "begin an upload", "look into the bucket"):
                raise ProviderError(self._no_bucket(problem.why)) from None
            raise
        if isinstance(answer, _Taken):
            raise answer
        return answer

    def _no_bucket(self, why: str) -> Problem:
        return Problem(
            code="E402",
            what=f"there is no bucket {self.name!r} on Cloud Storage",
            why=why,
            fix=f"`gcloud storage buckets create gs://{self.name} --location=$GOOGLE_CLOUD_LOCATION`, or correct "
            "FT_VERTEX_BUCKET",
        )


class _Taken(Exception):
    """The object has another generation than was expected."""


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return base64.b64encode(hashlib.file_digest(file, "md5").digest()).decode()
