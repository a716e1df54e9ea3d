"""Training files in the user's bucket on S3, each content once, and the files that Bedrock writes of a training."""

import csv
import hashlib
import io
import math
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from finetune.abilities import RemoteFile
from finetune.errors import Problem, ProviderError
from finetune.files import write_whole
from finetune.jobs import Json, Metric
from finetune.ports import PreparedData
from finetune.providers.bedrock_wire import Wire, code_of

#: Below it lies what ft has uploaded, a folder a content.
_PREFIX: Final = "ft/"
_OURS: Final = re.compile(r"ft/[0-9a-f]{32}/(?:train|validation)-[0-9a-f]{16}\.jsonl")
_TYPE: Final = "application/jsonl"
#: What S3 takes in one request. 20,000 rows, the most that Bedrock trains on, are less.
LARGEST: Final = 5 * 1024**3
#: Tables of measured values are kilobytes.
_LARGEST_RESULT: Final = 64 * 1024**2
_RESULT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,100}\.csv")
#: Columns of the tables, and what we call them.
_MEASURED: Final = {"training_loss": "loss", "validation_loss": "eval_loss"}


class Bucket:
    """One bucket of the user's."""

    def __init__(self, wire: Wire, name: str) -> None:
        """Sends nothing."""
        self._wire, self.name = wire, name

    def upload(self, data: PreparedData) -> Json:
        """The addresses of both sides; what is there is not sent again. Raises ProviderError."""
        ids: Json = {"train": None, "validation": None, "format": data.format}
        for side, path in (("train", data.train), ("validation", data.validation)):
            if path is not None:
                _check(path)
                ids[side] = self._place(f"{_PREFIX}{data.digest[:32]}/{side}-{_sha256(path)[:16]}.jsonl", path)
        return ids

    def ours(self) -> list[RemoteFile]:
        """See `abilities.Storing.files`."""
        found = [
            RemoteFile(
                file_id=f"s3://{self.name}/{each['Key']}",
                name=each["Key"],
                bytes=int(each.get("Size") or 0),
                uploaded_at=each.get("LastModified") or datetime.fromtimestamp(0, UTC),
            )
            for each in self._listed(self.name, _PREFIX)
            if _OURS.fullmatch(each["Key"])
        ]
        return sorted(found, key=lambda file: file.uploaded_at, reverse=True)

    def delete(self, file_id: str) -> None:
        """See `abilities.Storing.delete_file`. Raises ProviderError for what ft has not uploaded."""
        # The bucket of the address: another one than today's may have been set when it was uploaded.
        bucket, _, key = file_id.removeprefix("s3://").partition("/")
        if not file_id.startswith("s3://") or not _OURS.fullmatch(key):
            why = "ft deletes what it has uploaded: s3://BUCKET/ft/DIGEST/train-....jsonl and validation-....jsonl"
            fix = "delete it with `aws s3 rm` if it may go"
            raise ProviderError(Problem(code="E402", what=f"{file_id} is no file of ft's", why=why, fix=fix))
        try:
            self._wire.ask("delete a file", lambda: self._wire.objects.delete_object(Bucket=bucket, Key=key))
        except ProviderError as error:
            if code_of(error) != "E402":
                raise

    def look(self) -> None:
        """Ask for one name below ours: it tells whether the bucket is there and may be read. Raises ProviderError."""
        self._page("look into the bucket", self.name, {"Prefix": _PREFIX, "MaxKeys": 1})

    def measured(self, folder: str, job_id: str) -> tuple[Metric, ...]:
        """The losses by step that Bedrock has written; none when there are none. Raises ProviderError."""
        found: dict[tuple[int, str], float] = {}
        for _, content in self._results(folder, job_id):
            found |= _losses(content)
        return tuple(Metric(step=step, name=name, value=value) for (step, name), value in sorted(found.items()))

    def fetch(self, folder: str, job_id: str, into: Path) -> list[Path]:
        """Download those tables. Idempotent. Raises ProviderError, StateError."""
        paths = []
        for name, content in self._results(folder, job_id):
            write_whole(into / name, content)
            paths.append(into / name)
        return paths

    def _place(self, key: str, path: Path) -> str:
        """The address of this content, which is there afterwards: the name holds its digest."""
        size = path.stat().st_size
        there = self._page("look for a file", self.name, {"Prefix": key, "MaxKeys": 1}).get("Contents") or []
        if not any(each["Key"] == key and each.get("Size") == size for each in there):
            self._send(key, path)
        return f"s3://{self.name}/{key}"

    def _send(self, key: str, path: Path) -> None:
        client_error = import_module("botocore.exceptions").ClientError

        def put() -> None:
            try:
                with path.open("rb") as file:
                    self._wire.uploads.put_object(
                        Bucket=self.name, Key=key, Body=file, ContentType=_TYPE, IfNoneMatch="*"
                    )
            except client_error as error:
                # Somebody else was faster, with the same content.
                if error.response["Error"]["Code"] not in ("PreconditionFailed", "412"):
                    raise

        self._ask("upload a file", put)

    def _results(self, folder: str, job_id: str) -> Iterator[tuple[str, bytes]]:
        """Name and content of the tables of this job. `folder` is where Bedrock was told to write."""
        bucket, _, path = folder.removeprefix("s3://").partition("/")
        prefix = f"{path.rstrip('/')}/" if path else ""
        for each in self._listed(bucket, f"{prefix}model-customization-job-{job_id}/"):
            name = each["Key"].rpartition("/")[2]
            if _RESULT.fullmatch(name) and int(each.get("Size") or 0) <= _LARGEST_RESULT:
                yield name, self._read(bucket, each["Key"])

    def _read(self, bucket: str, key: str) -> bytes:
        def get() -> bytes:
            with self._wire.objects.get_object(Bucket=bucket, Key=key)["Body"] as body:
                return bytes(body.read())

        content: bytes = self._ask("download a file", get)
        return content

    def _listed(self, bucket: str, prefix: str) -> Iterator[Json]:
        more: Json = {}
        while True:
            page = self._page("list the files", bucket, {"Prefix": prefix, **more})
            yield from page.get("Contents") or ()
            if not page.get("IsTruncated") or not page.get("NextContinuationToken"):
                return
            more = {"ContinuationToken": page["NextContinuationToken"]}

    def _page(self, doing: str, bucket: str, arguments: Json) -> Json:
        page: Json = self._ask(doing, lambda: self._wire.objects.list_objects_v2(Bucket=bucket, **arguments))
        return page

    def _ask(self, doing: str, call: Any) -> Any:
        """As `Wire.ask`, with words for a missing bucket."""
        try:
            return self._wire.ask(doing, call)
        except ProviderError as error:
            problem = error.problems[0]
            if problem.code != "E402" or "NoSuchBucket" not in problem.why:
                raise
            what = f"there is no bucket {self.name!r} on S3"
            fix = f"`aws s3 mb s3://{self.name} --region $AWS_REGION`, or correct FT_BEDROCK_BUCKET"
            raise ProviderError(Problem(code="E402", what=what, why=problem.why, fix=fix)) from None


def _check(path: Path) -> None:
    size = path.stat().st_size
    if size > LARGEST:
        what = f"{path.name} is too large to upload"
        why = f"it has {size / 1024**3:.1f} GiB, and S3 takes 5 GiB in one request"
        raise ProviderError(Problem(code="E414", what=what, why=why, fix="train on less"))


def _losses(content: bytes) -> dict[tuple[int, str], float]:
    """By step and name; lines that are no numbers are passed over."""
    found = {}
    for row in csv.DictReader(io.StringIO(content.decode("utf-8", "replace"))):
        for column, name in _MEASURED.items():
            try:
                step, value = int(row["step_number"]), float(row[column])
            except (KeyError, ValueError, TypeError):
                continue
            if math.isfinite(value) and step >= 0:
                found[step, name] = value
    return found


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
