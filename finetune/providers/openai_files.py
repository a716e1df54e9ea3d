"""Training files at an API that speaks OpenAI's protocol: each content once, large ones in parts that are resumed."""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from finetune.abilities import RemoteFile
from finetune.errors import AuthenticationFailed, Problem, ProviderError, ProviderUnavailable
from finetune.files import write_whole
from finetune.jobs import Json
from finetune.ports import Clock, PreparedData
from finetune.providers.openai_wire import Wire

_PURPOSE: Final = "fine-tune"
#: The names of our files, which hold the content's digest.
_OURS: Final = re.compile(r"ft-[0-9a-f]{32}-(?:train|validation)\.jsonl")
#: States of a file that the provider has not looked at yet, and of one that is of no use; half of them are Azure's.
_WAITING: Final = frozenset({"pending", "running", "notRunning"})
_USELESS: Final = frozenset({"error", "failed", "canceled", "deleting", "deleted"})
#: An upload that ends so soon is not begun again.
_LEFT_S: Final = 60


class Files:
    """The files of one account."""

    #: What goes into one request, and the size of a part of what is larger, bytes.
    whole_bytes = 512_000_000
    part_bytes = 64_000_000

    def __init__(self, wire: Wire, clock: Clock, uploads_dir: Path) -> None:
        self._wire, self._clock, self._dir = wire, clock, uploads_dir

    def upload(self, data: PreparedData) -> Json:
        """The ids of both sides; what is there is not sent again. Raises ProviderError."""
        sides = {"train": data.train, "validation": data.validation}
        names = {side: f"ft-{data.digest[:32]}-{side}.jsonl" for side in sides}
        # The newest first, so that of several the oldest stays.
        rows = (row for row in self._rows() if row.get("status") not in _USELESS)
        there = {(str(row.get("filename")), row.get("bytes")): row for row in rows}
        ids: Json = {}
        for side, path in sides.items():
            if path is None:
                ids[side] = None
                continue
            row = there.get((names[side], path.stat().st_size)) or self._send(names[side], path)
            ids[side] = self._ready(row)
        return ids

    def ours(self) -> list[RemoteFile]:
        """See `abilities.Storing.files`."""
        found = [
            RemoteFile(
                file_id=row["id"],
                name=str(row.get("filename")),
                bytes=int(row.get("bytes") or 0),
                uploaded_at=datetime.fromtimestamp(row.get("created_at") or 0, UTC),
            )
            for row in self._rows()
        ]
        return sorted(found, key=lambda file: file.uploaded_at, reverse=True)

    def delete(self, file_id: str) -> None:
        """See `abilities.Storing.delete_file`."""
        try:
            self._wire.call("delete a file", lambda: self._wire.client.files.with_raw_response.delete(file_id))
        except ProviderError as error:
            if error.problems[0].code != "E402":
                raise

    def content(self, file_id: str) -> bytes:
        """The bytes of a file."""
        found = self._wire.raw("fetch a file", lambda: self._wire.client.files.with_raw_response.content(file_id))
        return bytes(found.content)

    def _rows(self) -> Iterator[Json]:
        listing = self._wire.client.files.with_raw_response
        rows = self._wire.pages("list the files", lambda where: listing.list(purpose=_PURPOSE, **where))
        return (row for row in rows if _OURS.fullmatch(str(row.get("filename"))))

    def _ready(self, row: Json) -> str:
        """The file's id. Raises ProviderUnavailable while the provider still looks at it."""
        if row.get("status") in _USELESS:
            raise ProviderError(
                Problem(
                    code="E413",
                    what="the provider refused the training data",
                    why=self._wire.troubles.clean(f"it says: {row.get('status_details') or row['status']}"),
                    fix="`ft validate` shows what it can see of that; mend the data and submit again",
                )
            )
        if row.get("status") in _WAITING:
            raise not_ready(f"its state is {row['status']!r}")
        return str(row["id"])

    def _send(self, name: str, path: Path) -> Json:
        if path.stat().st_size > self.whole_bytes:
            return self._send_parts(name, path)
        api, patience = self._wire.client.files.with_raw_response, self._wire.patience
        with path.open("rb") as file:
            return self._wire.call(
                "upload a file",
                lambda: api.create(file=(name, file), purpose=_PURPOSE, timeout=patience),
                needs=("id",),
            )

    def _send_parts(self, name: str, path: Path) -> Json:
        """Goes on with what an earlier try has begun, if the provider still knows of it."""
        state_file, size = self._dir / f"{name}.json", path.stat().st_size
        if begun := self._begun(state_file, size):
            try:
                return self._go_on(begun, state_file, path)
            except (ProviderUnavailable, AuthenticationFailed):
                raise
            except ProviderError:
                # Expired, cancelled or completed there: anew.
                pass
        state = self._begin(name, size)
        write_whole(state_file, json.dumps(state))
        return self._go_on(state, state_file, path)

    def _go_on(self, state: Json, state_file: Path, path: Path) -> Json:
        """Sends what is missing; after each part the state is on the disk, so that the next try goes on there."""
        uploads, patience = self._wire.client.uploads, self._wire.patience
        parts, api = uploads.parts.with_raw_response, uploads.with_raw_response
        with path.open("rb") as file:
            file.seek(len(state["parts"]) * self.part_bytes)
            while piece := file.read(self.part_bytes):
                made = self._wire.call(
                    "upload a part of a file",
                    lambda: parts.create(state["upload"], data=piece, timeout=patience),
                    needs=("id",),
                )
                state["parts"].append(made["id"])
                write_whole(state_file, json.dumps(state))
        done = self._wire.call(
            "complete an upload", lambda: api.complete(state["upload"], part_ids=state["parts"]), needs=("file",)
        )
        state_file.unlink(missing_ok=True)
        return dict(done["file"])

    def _begun(self, state_file: Path, size: int) -> Json | None:
        try:
            state: Json = json.loads(state_file.read_text())
            fresh = state["expires_at"] > self._clock.now().timestamp() + _LEFT_S
            same = (state["size"], state["part"]) == (size, self.part_bytes)
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return state if fresh and same else None

    def _begin(self, name: str, size: int) -> Json:
        api = self._wire.client.uploads.with_raw_response
        made = self._wire.call(
            "begin an upload in parts",
            lambda: api.create(bytes=size, filename=name, mime_type="application/jsonl", purpose=_PURPOSE),
            needs=("id", "expires_at"),
        )
        return {
            "upload": made["id"],
            "size": size,
            "part": self.part_bytes,
            "expires_at": made["expires_at"],
            "parts": [],
        }


def not_ready(why: str) -> ProviderUnavailable:
    """The fault of a file that is there and cannot be used yet."""
    error = ProviderUnavailable(
        Problem(
            code="E403",
            what="the uploaded file is still being taken in by the provider",
            why=why,
            fix="ft looks again by itself",
        )
    )
    error.after_s = 1.0
    return error
