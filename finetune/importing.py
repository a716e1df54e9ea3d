"""Jobs of an account that ft did not start, taken into the registry: so that they can be trained again elsewhere."""

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from finetune.abilities import Past
from finetune.errors import Problem, ProviderError
from finetune.jobs import Event, Job, JobState, Json
from finetune.ports import Clock, JobStore
from finetune.releases import ModelStore
from finetune.spec import Recipe

_LAYOUTS: Final = {"sft": "openai", "dpo": "openai-dpo"}
_NAME: Final = 64
#: Files that a folder may have for a file's id.
_ENDINGS: Final = ("", ".jsonl", ".json")


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
    #: Why it was not taken.
    why: str | None = None


def exported(path: Path) -> list[Json]:
    """The jobs of a file: a JSON object with `data`, a JSON list, or one job a line. Raises ProviderError E416."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ProviderError(_unread(path, getattr(error, "strerror", None) or "it is not UTF-8 text")) from None
    try:
        found = json.loads(text)
    except ValueError:
        try:
            return [json.loads(line) for line in text.splitlines() if line.strip()]
        except ValueError as error:
            raise ProviderError(_unread(path, f"it is no JSON: {error}")) from None
    if isinstance(found, dict) and found.get("has_more") is True:
        raise ProviderError(_unread(path, "it is one page of several (`has_more`): the others have jobs too"))
    rows = found.get("data", [found]) if isinstance(found, dict) else found
    if not isinstance(rows, list):
        raise ProviderError(_unread(path, "its `data` is no list"))
    return rows


def _unread(path: Path, why: str) -> Problem:
    fix = "export what `GET /v1/fine_tuning/jobs` answers: its `data`, or one job a line"
    return Problem(code="E416", what=f"{path} has no list of fine-tuning jobs", why=why, fix=fix)


class Importer:
    """Takes jobs in. Idempotent by their ids at the provider."""

    def __init__(
        self,
        jobs: JobStore,
        models: ModelStore,
        clock: Clock,
        *,
        folder: Path,
        owner: str,
        new_id: Callable[[], str],
    ) -> None:
        """`folder` keeps the files that are fetched."""
        self._jobs, self._models, self._clock = jobs, models, clock
        self._folder, self._owner, self._new_id = folder, owner, new_id

    def take(self, provider: str, past: Sequence[Past], fetch: Callable[[str, Path], bool]) -> list[Imported]:
        """Keep each as a job that has succeeded, and its model as a version. Blocks while files are fetched.

        `fetch` downloads a file, False when it is gone (`abilities.Importable.fetch_file`); a file that is in the
        folder already is not asked for. Raises what it raises, and StateError.
        """
        here = {job.remote_id: job for job in self._jobs.recent() if job.provider == provider}
        return [self._one(provider, each, fetch, here.get(each.remote_id)) for each in past]

    def _one(self, provider: str, past: Past, fetch: Callable[[str, Path], bool], known: Job | None) -> Imported:
        told = partial(
            Imported, remote_id=past.remote_id, base_model=past.base_model, model=str(past.artifact["model"])
        )
        if known is not None:
            return told(ref=self._versioned(known), rows=_told_rows(known), known=True)
        if past.method not in _LAYOUTS:
            return told(ref=None, rows=None, why=f"recipes have no method {past.method!r}")
        train = self._file(past.train_file, fetch)
        held_out = self._file(past.validation_file, fetch) if past.validation_file else None
        job = self._job(provider, past, train, held_out)
        try:
            Recipe.model_validate(job.recipe)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(step) for step in first["loc"])
            return told(ref=None, rows=None, why=f"a recipe cannot have its {where}: {first['msg']}")
        job, _ = self._jobs.submit(job, self._said(past), force=False)
        return told(ref=self._versioned(job), rows=_told_rows(job))

    def _versioned(self, job: Job) -> str | None:
        """Its version, made where somebody was interrupted before it was."""
        if job.model is None and job.state is JobState.SUCCEEDED:
            version = self._models.add_model(job, self._clock.now())
            self._jobs.note_model(job.id, version.ref)
            return version.ref
        return job.model

    def _job(self, provider: str, past: Past, train: Path | None, held_out: Path | None) -> Job:
        name = _slug(past.label or past.base_model.rpartition("/")[2])
        recipe: Json = {"version": 1, "name": name, "base_model": past.base_model, "provider": provider}
        # The file's name stands where it is gone: whoever retargets it is told which is missing.
        recipe["dataset"] = {"path": str(train or self._folder / past.train_file), "format": _LAYOUTS[past.method]}
        recipe |= {"method": past.method} if past.method != "sft" else {}
        recipe |= {"validation": {"path": str(held_out)}} if held_out else {}
        recipe |= {"training": past.training} if past.training else {}
        recipe |= {"seed": past.seed} if past.seed is not None else {}
        return Job(
            id=self._new_id(),
            name=name,
            owner=self._owner,
            provider=provider,
            base_model=past.base_model,
            recipe=recipe,
            fingerprint=hashlib.sha256(f"{provider}/{past.remote_id}".encode()).hexdigest(),
            state=JobState.SUCCEEDED,
            provider_state="succeeded",
            attempt=1,
            run_key=past.run_key,
            remote_id=past.remote_id,
            data=_data(recipe, train, held_out),
            artifact=past.artifact,
            admitted_at=past.created_at,
            created_at=past.created_at,
            changed_at=past.finished_at,
            finished_at=past.finished_at,
        )

    def _file(self, file_id: str, fetch: Callable[[str, Path], bool]) -> Path | None:
        self._folder.mkdir(parents=True, exist_ok=True)
        plain = Path(file_id).name
        for ending in _ENDINGS:
            if (there := self._folder / f"{plain}{ending}").is_file():
                return there
        to = self._folder / f"{plain}.jsonl"
        return to if fetch(file_id, to) else None

    def _said(self, past: Past) -> Event:
        return Event(kind="state", message=f"imported: {past.remote_id}", at=self._clock.now())


def _data(recipe: Json, train: Path | None, held_out: Path | None) -> Json:
    rows, more = (_rows(path) if path else 0 for path in (train, held_out))
    digest = hashlib.sha256()
    for path in (train, held_out):
        digest.update(path.read_bytes() if path else b"")
    return {
        "train": recipe["dataset"]["path"],
        "validation": str(held_out) if held_out else None,
        "train_rows": rows,
        "validation_rows": more,
        "digest": digest.hexdigest(),
        "format": recipe["dataset"]["format"],
    }


def _told_rows(job: Job) -> int | None:
    """Rows of its training file; None: it was not to be had."""
    return job.data["train_rows"] if Path(job.data["train"]).is_file() else None


def _rows(path: Path) -> int:
    with path.open("rb") as lines:
        return sum(1 for line in lines if line.strip())


def _slug(text: str) -> str:
    """Made fit for a model's name."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-._")[:_NAME] or "imported"
