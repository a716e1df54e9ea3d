"""Jobs of an account that ft did not start, taken into the registry: so that they can be trained again elsewhere."""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol

from pydantic import ValidationError

from finetune.abilities import Importable, Past
from finetune.errors import DataError, Problem, ProviderError, StateError, UsageError
from finetune.files import sync, unwritable
from finetune.jobs import Event, Job, JobState, Json
from finetune.ports import Clock, JobStore
from finetune.releases import ModelStore
from finetune.spec import Recipe

_LAYOUTS: Final = {"sft": "openai", "dpo": "openai-dpo"}
_NAME: Final = 64
#: What may stand in an address as it is.
_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,80}")
#: Files that a folder may have for a file's id.
_ENDINGS: Final = ("", ".jsonl", ".json")
#: Brings a file to a place, whole or not at all; False: it is not to be had (`abilities.Importable.fetch_file`).
Fetch = Callable[[str, Path], bool]


class Books(Protocol):
    """What is written down of jobs that were taken in before."""

    def add_rows(self, job: Job, event: Event) -> bool:
        """Keep this `recipe` and `data` of the job, and their digest with its version, in one transaction.

        The event tells of it. False: they were kept so before, and nothing was written. Raises StateError.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Imported:
    """What became of one job."""

    remote_id: str
    #: `name@v1`; None: it was not taken.
    ref: str | None
    base_model: str
    model: str
    #: Rows of its training file; None: the file is not to be had.
    rows: int | None
    #: Whether it was here before.
    known: bool = False
    #: Whether it was, and has got rows now that it lacked.
    added: bool = False
    #: Why it was not taken.
    why: str | None = None


def exported(path: Path) -> list[Json]:
    """The jobs of a file: a JSON object with `data`, a JSON list, or one job a line.

    Raises DataError E416; UsageError for a file that cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(_unread(path, "it is not UTF-8 text")) from None
    except OSError as error:
        what, why = f"{path} cannot be read", error.strerror or str(error)
        fix = "name a file that has what `GET /v1/fine_tuning/jobs` answers, or leave --from out: then it is asked"
        raise UsageError(Problem(code="E901", what=what, why=why, fix=fix)) from None
    found = _parsed(path, text)
    rows = found.get("data", [found]) if isinstance(found, dict) else found
    if not isinstance(rows, list):
        raise DataError(_unread(path, "its `data` is no list"))
    if isinstance(found, dict) and found.get("has_more") is True:
        raise DataError(_one_page(path, rows))
    return rows


def listed(provider: Importable, rows: Sequence[Json] | None) -> list[Past]:
    """What the provider tells of its account, or of these jobs of a file. Raises what it does, and DataError E416."""
    try:
        return provider.past(rows)
    except ProviderError as error:
        if rows is None:
            raise
        raise DataError(*error.problems) from None


def _parsed(path: Path, text: str) -> Any:
    """One document, or a list of what its lines are."""
    if not text.strip():
        raise DataError(_unread(path, "it is empty"))
    try:
        return json.loads(text)
    except ValueError as error:
        whole = error
    rows = []
    for number, line in enumerate(text.splitlines(), 1):
        try:
            rows += [json.loads(line)] if line.strip() else []
        except ValueError as error:
            # Where not even the first line is a job, it was meant as one document.
            why = f"line {number} is no JSON: {error}" if rows else f"it is no JSON: {whole}"
            raise DataError(_unread(path, why)) from None
    return rows


def _one_page(path: Path, rows: Sequence[Any]) -> Problem:
    last = rows[-1].get("id") if rows and isinstance(rows[-1], dict) else None
    after = last if isinstance(last, str) and _ID.fullmatch(last) else "LAST_ID"
    why = "it is one page of several (`has_more`): the others have jobs too"
    fix = (
        f"the next page is `GET /v1/fine_tuning/jobs?limit=100&after={after}`, and so on until `has_more` is false; "
        "put the jobs of all pages into one list"
    )
    return replace(_unread(path, why), fix=fix)


def _unread(path: Path, why: str) -> Problem:
    fix = "export what `GET /v1/fine_tuning/jobs` answers: its `data`, or one job a line"
    return Problem(code="E416", what=f"{path} has no list of fine-tuning jobs", why=why, fix=fix)


def from_folder(folder: Path) -> Fetch:
    """Takes files out of a folder that has them by their ids. Raises DataError for one that it may not read."""

    def fetch(file_id: str, to: Path) -> bool:
        # An id comes from outside, and may lead nowhere else.
        named = (folder / f"{Path(file_id).name}{ending}" for ending in _ENDINGS)
        there = next((each for each in named if each.is_file()), None)
        if there is None:
            return False
        try:
            source = there.open("rb")
        except OSError as error:
            why, fix = error.strerror or str(error), "give read access to it"
            raise DataError(Problem(code="E203", what=f"{there} cannot be read", why=why, fix=fix)) from None
        with source, to.open("wb") as target:
            shutil.copyfileobj(source, target)
        return True

    return fetch


class Files:
    """Training files of an account, each kept once, under the digest of its content."""

    def __init__(self, folder: Path, fetch: Fetch) -> None:
        """`folder` keeps them."""
        self._folder, self._fetch = folder, fetch
        self._got: dict[str, Path | None] = {}

    def know(self, file_id: str, path: Path) -> None:
        """That this file is there already, and need not be fetched."""
        self._got[file_id] = path

    def get(self, file_id: str) -> Path | None:
        """Where it is kept; None: it is not to be had. Asked for once. Blocks. Raises what `fetch` does, StateError."""
        if file_id not in self._got:
            self._got[file_id] = self._kept(file_id)
        return self._got[file_id]

    def missing(self, file_id: str) -> Path:
        """The place that stands for one that is not to be had: nothing is there."""
        return self._folder / Path(file_id).name

    def _kept(self, file_id: str) -> Path | None:
        aside = self._folder / f".taking-{os.getpid()}"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            if not self._fetch(file_id, aside):
                return None
            sync(aside)
            with aside.open("rb") as content:
                name = hashlib.file_digest(content, "sha256").hexdigest()
            kept = aside.replace(self._folder / f"{name}.jsonl")
            sync(self._folder)
        except OSError as error:
            raise StateError(unwritable(self._folder, error)) from None
        finally:
            with suppress(OSError):
                aside.unlink(missing_ok=True)
        return kept


class Importer:
    """Takes jobs in. Idempotent by their ids at the provider."""

    def __init__(
        self,
        jobs: JobStore,
        models: ModelStore,
        books: Books,
        clock: Clock,
        *,
        owner: str,
        new_id: Callable[[], str],
    ) -> None:
        """`owner` is who they belong to from now on."""
        self._jobs, self._models, self._books, self._clock = jobs, models, books, clock
        self._owner, self._new_id = owner, new_id

    def take(self, provider: str, past: Sequence[Past], files: Files) -> list[Imported]:
        """Keep each as a job that has succeeded, and its model as a version. Blocks while files are fetched.

        One that was taken before without its rows gets those that are to be had now; nothing else of it changes.
        Raises what `Files.get` raises, and StateError.
        """
        here = {job.remote_id: job for job in self._jobs.recent() if job.provider == provider}
        for job in here.values():
            for side, path in _here(job).items():
                if path is not None and (file_id := job.data.get("files", {}).get(side)):
                    files.know(file_id, path)
        return [self._one(provider, each, files, here.get(each.remote_id)) for each in past]

    def _one(self, provider: str, past: Past, files: Files, known: Job | None) -> Imported:
        told = partial(
            Imported, remote_id=past.remote_id, base_model=past.base_model, model=str(past.artifact["model"])
        )
        if known is not None:
            job = self._with_rows(known, files)
            return told(ref=self._versioned(job), rows=_told_rows(job), known=True, added=job is not known)
        if past.method not in _LAYOUTS:
            return told(ref=None, rows=None, why=f"recipes have no method {past.method!r}")
        job = self._job(provider, past, files)
        try:
            Recipe.model_validate(job.recipe)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(step) for step in first["loc"])
            return told(ref=None, rows=None, why=f"a recipe cannot have its {where}: {first['msg']}")
        job, _ = self._jobs.submit(job, self._said(past.remote_id), force=False)
        return told(ref=self._versioned(job), rows=_told_rows(job))

    def _versioned(self, job: Job) -> str | None:
        """Its version, made where somebody was interrupted before it was."""
        if job.model is None and job.state is JobState.SUCCEEDED:
            version = self._models.add_model(job, self._clock.now())
            self._jobs.note_model(job.id, version.ref)
            return version.ref
        return job.model

    def _with_rows(self, job: Job, files: Files) -> Job:
        """The job with the rows that it lacked; itself where it lacks none, or none are to be had."""
        wanted, had = job.data.get("files", {}), _here(job)
        got = {side: had[side] or files.get(file_id) for side, file_id in wanted.items()}
        if all(got[side] == had[side] for side in wanted):
            return job
        new = replace(job, **_placed(job.recipe, wanted, got, files))
        found = dict.fromkeys(file_id for side, file_id in wanted.items() if got[side] != had[side])
        added = self._books.add_rows(new, self._said(f"rows of {' and '.join(found)}"))
        return new if added else self._jobs.get(job.id)

    def _job(self, provider: str, past: Past, files: Files) -> Job:
        name = _slug(past.label or past.base_model.rpartition("/")[2])
        recipe: Json = {"version": 1, "name": name, "base_model": past.base_model, "provider": provider}
        recipe["dataset"] = {"format": _LAYOUTS[past.method]}
        recipe |= {"method": past.method} if past.method != "sft" else {}
        recipe |= {"training": past.training} if past.training else {}
        recipe |= {"dpo": {"beta": past.beta}} if past.beta is not None else {}
        recipe |= {"seed": past.seed} if past.seed is not None else {}
        wanted = {"train": past.train_file}
        wanted |= {"validation": past.validation_file} if past.validation_file else {}
        got = {side: files.get(file_id) for side, file_id in wanted.items()}
        return Job(
            id=self._new_id(),
            name=name,
            owner=self._owner,
            provider=provider,
            base_model=past.base_model,
            **_placed(recipe, wanted, got, files),
            fingerprint=hashlib.sha256(f"{provider}/{past.remote_id}".encode()).hexdigest(),
            state=JobState.SUCCEEDED,
            provider_state="succeeded",
            attempt=1,
            run_key=past.run_key,
            remote_id=past.remote_id,
            artifact=past.artifact,
            admitted_at=past.created_at,
            created_at=past.created_at,
            changed_at=past.finished_at,
            finished_at=past.finished_at,
        )

    def _said(self, what: str) -> Event:
        return Event(kind="state", message=f"imported: {what}", at=self._clock.now())


def _placed(recipe: Json, wanted: Mapping[str, str], got: Mapping[str, Path | None], files: Files) -> Json:
    """`recipe` and `data` of a job whose files these are, by side."""
    # The file's name stands where it is gone: whoever retargets it is told which is missing.
    train, held_out = got["train"] or files.missing(wanted["train"]), got.get("validation")
    recipe = {**recipe, "dataset": {**recipe["dataset"], "path": str(train)}}
    recipe |= {"validation": {"path": str(held_out)}} if held_out else {}
    digest = hashlib.sha256()
    for path in filter(None, (got["train"], held_out)):
        digest.update(path.read_bytes())
    data = {
        "train": str(train),
        "validation": str(held_out) if held_out else None,
        "train_rows": _rows(got["train"]),
        "validation_rows": _rows(held_out),
        "digest": digest.hexdigest(),
        "format": recipe["dataset"]["format"],
        "files": dict(wanted),
    }
    return {"recipe": recipe, "data": data}


def _here(job: Job) -> dict[str, Path | None]:
    """The files of its rows, by side; None: it is not there."""
    paths = {side: job.data.get(side) for side in ("train", "validation")}
    return {side: Path(path) if path and Path(path).is_file() else None for side, path in paths.items()}


def _told_rows(job: Job) -> int | None:
    """Rows of its training file; None: it was not to be had."""
    return job.data["train_rows"] if _here(job)["train"] else None


def _rows(path: Path | None) -> int:
    if path is None:
        return 0
    with path.open("rb") as lines:
        return sum(1 for line in lines if line.strip())


def _slug(text: str) -> str:
    """Made fit for a model's name."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-._")[:_NAME] or "imported"
