"""Fireworks' datasets: made, uploaded to signed addresses, looked at, ready."""

import posixpath
from dataclasses import dataclass, field
from typing import Any, Final, Literal, get_args

from finetune.sandbox.fireworks.bodies import CreateDataset, Empty, Page, UploadEndpoint
from finetune.sandbox.fireworks.rows import BadRows, Rows, look
from finetune.sandbox.fireworks.signed import Signed
from finetune.sandbox.fireworks.times import moment
from finetune.sandbox.fireworks.words import checked, no_such, refuse
from finetune.sandbox.service import Reply, Request

#: How a job can be made to end badly, by `sandbox:` and the word anywhere in its training data.
Wish = Literal["quota", "fail-data", "fail-train"]
WISHES: Final[tuple[Wish, ...]] = get_args(Wish)


@dataclass(kw_only=True)
class Dataset:
    """One data set."""

    name: str
    asked: CreateDataset
    created: float
    #: Sizes by file name, as the last upload endpoint registered them.
    registered: dict[str, int] = field(default_factory=dict)
    uploaded: dict[str, bytes] = field(default_factory=dict)
    #: When the check of its files ends; None before it was asked for.
    ready: float | None = None
    #: Why the check fails, which its status tells; None when it does not.
    fault: str | None = None
    rows: Rows | None = None
    wishes: frozenset[Wish] = frozenset()

    def state(self, now: float) -> str:
        """The vendor's word for where it is."""
        return "READY" if self.ready is not None and now >= self.ready and self.fault is None else "UPLOADING"

    def json(self, now: float) -> dict[str, Any]:
        """As the API shows it."""
        failed = self.fault is not None and self.ready is not None and now >= self.ready
        asked = self.asked.dataset
        rows = {"estimatedTokenCount": str(self.rows.tokens)} if self.rows else {}
        return {
            "name": self.name,
            "displayName": asked.displayName,
            "createTime": moment(self.created),
            "updateTime": moment(now if self.ready is None else min(now, self.ready)),
            "state": self.state(now),
            "status": {"code": "INVALID_ARGUMENT" if failed else "OK", "message": str(self.fault) if failed else ""},
            **({"exampleCount": asked.exampleCount} if asked.exampleCount else {}),
            "userUploaded": {},
            "format": asked.format,
            "createdBy": "sandbox@example.com",
            **rows,
        }


class Datasets:
    """All data sets of one account. The caller holds the lock."""

    def __init__(self, account: str, signed: Signed, *, checking_s: float = 0.0) -> None:
        """The check of uploaded files takes `checking_s`; with 0 it is made while the request waits."""
        self._collection, self._signed, self._checking_s = f"accounts/{account}/datasets", signed, checking_s
        self._all: dict[str, Dataset] = {}

    def get(self, name: str) -> Dataset | None:
        """By its whole name, or None."""
        return self._all.get(name)

    def create(self, request: Request, body: Any, now: float) -> Reply:
        """POST datasets."""
        asked = checked(CreateDataset, body)
        name = f"{self._collection}/{asked.datasetId}"
        if name in self._all:
            raise refuse("ALREADY_EXISTS", f"dataset {name} already exists")
        self._all[name] = Dataset(name=name, asked=asked, created=now)
        return Reply(body=self._all[name].json(now))

    def list(self, request: Request, page: Page, now: float) -> Reply:
        """GET datasets, by name."""
        rows = [self._all[name].json(now) for name in sorted(self._all)]
        return Reply(body=page.of(rows, "datasets"))

    def retrieve(self, request: Request, body: Any, now: float) -> Reply:
        """GET datasets/ID."""
        return Reply(body=self._named(request).json(now))

    def delete(self, request: Request, body: Any, now: float) -> Reply:
        """DELETE datasets/ID."""
        del self._all[self._named(request).name]
        return Reply(body={})

    def endpoint(self, request: Request, body: Any, now: float) -> Reply:
        """POST datasets/ID:getUploadEndpoint: registers files, in place of those before."""
        dataset, asked = self._named(request), checked(UploadEndpoint, body)
        if dataset.state(now) == "READY":
            raise refuse("FAILED_PRECONDITION", f"dataset {dataset.name} is READY")
        sizes = {name: int(size) for name, size in asked.filenameToSize.items()}
        for name, size in sizes.items():
            if posixpath.basename(name) != name or not name.endswith(".jsonl") or not size:
                raise refuse(
                    "INVALID_ARGUMENT", f"{name}: a file ends with .jsonl, lies in no folder, and is not empty"
                )
        dataset.registered, dataset.uploaded = sizes, {}
        dataset.ready = dataset.fault = dataset.rows = None
        urls = {
            name: self._signed.to_put(request.base, self._taker(dataset, name), size) for name, size in sizes.items()
        }
        return Reply(body={"filenameToSignedUrls": urls})

    def validate(self, request: Request, body: Any, now: float) -> Reply:
        """POST datasets/ID:validateUpload."""
        checked(Empty, body)
        dataset = self._named(request)
        if dataset.ready is not None and dataset.fault is None:
            return Reply(body={})
        if not dataset.registered or set(dataset.registered) != set(dataset.uploaded):
            raise refuse("FAILED_PRECONDITION", f"dataset {dataset.name} has files that were not uploaded")
        fault = self._look(dataset)
        if fault and not self._checking_s:
            raise refuse("INVALID_ARGUMENT", fault)
        dataset.ready, dataset.fault = now + self._checking_s, fault
        return Reply(body={})

    def _look(self, dataset: Dataset) -> str | None:
        content = b"".join(dataset.uploaded[name] for name in sorted(dataset.uploaded))
        try:
            dataset.rows = look(content)
        except BadRows as bad:
            return str(bad)
        dataset.wishes = frozenset(word for word in WISHES if f"sandbox:{word}".encode() in content)
        told = dataset.asked.dataset.exampleCount
        if told is not None and int(told) != dataset.rows.count:
            return f"{dataset.rows.count} examples, and exampleCount is {told}"
        return None

    def _taker(self, dataset: Dataset, name: str) -> Any:
        def take(content: bytes) -> None:
            dataset.uploaded[name] = content

        return take

    def _named(self, request: Request) -> Dataset:
        name = f"{self._collection}/{request.parts['dataset']}"
        if name not in self._all:
            raise no_such(name)
        return self._all[name]
