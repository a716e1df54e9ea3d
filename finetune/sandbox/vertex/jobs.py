"""One tuning job of the stand-in: what it is at a moment follows from when it was created, and nothing else."""

import math
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any, Final

from finetune.sandbox.vertex.rows import Dataset
from finetune.sandbox.vertex.words import stamp

#: Rows a step of Google's own models, and epochs when a job does not say; the real ones depend on the data.
_BATCH: Final = 4
_EPOCHS: Final = 3
_CHARACTERS_A_TOKEN: Final = 4
_RUNNING: Final = "JOB_STATE_RUNNING"
_ENDED: Final = frozenset({"JOB_STATE_SUCCEEDED", "JOB_STATE_FAILED", "JOB_STATE_CANCELLED"})


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Seconds that each phase of a job lasts, by the stand-in's clock; six and a half in all."""

    pending: float = 0.5
    quota: float = 0.5
    dataset: float = 1.0
    capacity: float = 0.5
    tuning: float = 3.5
    finishing: float = 0.5
    #: From the wish to cancel to its fulfilment.
    cancelling: float = 0.5

    def scaled(self, factor: float) -> "Timing":
        """All of them longer, or shorter."""
        return Timing(**{each.name: getattr(self, each.name) * factor for each in fields(self)})


@dataclass(frozen=True, kw_only=True)
class Moment:
    """What a job is at one moment."""

    state: str
    #: The finer word while it runs; None else.
    detail: str | None
    #: Since when it is so.
    since: datetime
    #: Share of the tuning that is done.
    done: float


@dataclass(kw_only=True)
class Job:
    """A job. `cancelled_at` is all that ever changes."""

    number: int
    job_id: str
    #: `projects/NUMBER/locations/LOCATION`.
    parent: str
    #: What the request said, in the service's form.
    said: dict[str, Any]
    created_at: datetime
    timing: Timing
    train: Dataset
    #: How many rows a step takes.
    batch: int | None
    epochs: int | None
    method: str
    #: The dataset cannot be used, for these reasons; None: it can.
    bad_data: str | None
    #: The training breaks down in the middle.
    breaks: bool
    last_checkpoint_only: bool
    cancelled_at: datetime | None = field(default=None)

    @property
    def name(self) -> str:
        """The full resource name."""
        return f"{self.parent}/tuningJobs/{self.job_id}"

    @property
    def display_name(self) -> str:
        """What the tuned model is called."""
        return str(self.said.get("tunedModelDisplayName", ""))

    @property
    def total_steps(self) -> int:
        """Optimiser steps over all epochs."""
        return math.ceil(self.train.rows / (self.batch or _BATCH)) * (self.epochs or _EPOCHS)

    def ended(self, now: datetime) -> bool:
        """Whether nothing happens any more."""
        return self.at(now).state in _ENDED

    def cancel(self, now: datetime) -> None:
        """Wish for the end. Silent when that was wished before."""
        self.cancelled_at = self.cancelled_at or now

    def at(self, now: datetime) -> Moment:
        """What it is now."""
        if self.cancelled_at is None:
            return self._undisturbed(now)
        before = self._undisturbed(self.cancelled_at)
        gone_at = self.cancelled_at + timedelta(seconds=self.timing.cancelling)
        if now < gone_at:
            return Moment(state="JOB_STATE_CANCELLING", detail=None, since=self.cancelled_at, done=before.done)
        return Moment(state="JOB_STATE_CANCELLED", detail=None, since=gone_at, done=before.done)

    def _undisturbed(self, now: datetime) -> Moment:
        age = (now - self.created_at).total_seconds()
        begun, found = 0.0, Moment(state="", detail=None, since=self.created_at, done=0.0)
        for state, detail, length in self._phases():
            since = self.created_at + timedelta(seconds=begun)
            # What comes after the tuning has as much of it as was done.
            done = found.done
            if detail == "TUNING":
                share = (age - begun) / self.timing.tuning if self.timing.tuning else 1.0
                done = min(0.5 if self.breaks else 1.0, max(0.0, share))
            found = Moment(state=state, detail=detail and f"TUNING_JOB_STATE_{detail}", since=since, done=done)
            begun += length
            if age < begun:
                return found
        return found

    def _phases(self) -> list[tuple[str, str | None, float]]:
        time = self.timing
        known: list[tuple[str, str | None, float]] = [
            ("JOB_STATE_PENDING", None, time.pending),
            (_RUNNING, "WAITING_FOR_QUOTA", time.quota),
            (_RUNNING, "PROCESSING_DATASET", time.dataset),
        ]
        if self.bad_data:
            return [*known, ("JOB_STATE_FAILED", None, math.inf)]
        known.append((_RUNNING, "WAITING_FOR_CAPACITY", time.capacity))
        if self.breaks:
            return [*known, (_RUNNING, "TUNING", time.tuning / 2), ("JOB_STATE_FAILED", None, math.inf)]
        known += [(_RUNNING, "TUNING", time.tuning), (_RUNNING, "POST_PROCESSING", time.finishing)]
        return [*known, ("JOB_STATE_SUCCEEDED", None, math.inf)]

    def told(self, now: datetime, *, beta: bool) -> dict[str, Any]:
        """The resource; with `beta` the fields that only v1beta1 has."""
        moment = self.at(now)
        out: dict[str, Any] = {"name": self.name, **self.said, "createTime": stamp(self.created_at)}
        out |= {"state": moment.state, "updateTime": stamp(moment.since)}
        started_at = self.created_at + timedelta(seconds=self.timing.pending)
        if started_at <= min(now, self.cancelled_at or now):
            out["startTime"] = stamp(started_at)
            out["experiment"] = f"{self.parent}/metadataStores/default/contexts/tuning-experiment-{self.job_id}"
        if moment.state in _ENDED:
            out["endTime"] = stamp(moment.since)
        if error := self._error(moment):
            out["error"] = error
        if self._checked(now) and not self.bad_data:
            out["tuningDataStats"] = self.stats
        if moment.state == "JOB_STATE_SUCCEEDED":
            out["tunedModel"] = self.tuned
        if beta:
            out |= self._beta(moment)
        return out

    def _checked(self, now: datetime) -> bool:
        """Whether the dataset had been looked through before the end."""
        time = self.timing
        at = self.created_at + timedelta(seconds=time.pending + time.quota + time.dataset)
        return at <= min(now, self.cancelled_at or now)

    def _beta(self, moment: Moment) -> dict[str, Any]:
        out: dict[str, Any] = {"tuningJobState": moment.detail} if moment.detail else {}
        if moment.done:
            steps = int(self.total_steps * moment.done)
            epochs = int((self.epochs or _EPOCHS) * moment.done)
            out["tuningJobMetadata"] = {"completedEpochCount": str(epochs), "completedStepCount": str(steps)}
        return out

    def _error(self, moment: Moment) -> dict[str, Any] | None:
        if moment.state == "JOB_STATE_CANCELLED":
            return {"code": 1, "message": "CANCELED"}
        if moment.state != "JOB_STATE_FAILED":
            return None
        if self.bad_data:
            return {"code": 3, "message": f"The dataset cannot be used. {self.bad_data}"}
        return {"code": 13, "message": "The training stopped: internal error. Try again later."}

    @cached_property
    def stats(self) -> dict[str, Any]:
        """Figures about the dataset."""
        tokens = [max(1, size // _CHARACTERS_A_TOKEN) for size in self.train.sizes]
        total = sum(tokens) * (self.epochs or _EPOCHS)
        whole: dict[str, Any] = {"min": min(tokens), "max": max(tokens), "mean": sum(tokens) / len(tokens)}
        whole |= {"median": sorted(tokens)[len(tokens) // 2]}
        stats: dict[str, Any] = {
            "tuningDatasetExampleCount": str(self.train.rows),
            "totalBillableTokenCount": str(total),
            "tuningStepCount": str(self.total_steps),
            "userInputTokenDistribution": whole,
        }
        if self.method == "dpo":
            return {"preferenceOptimizationDataStats": stats}
        whole["sum"], whole["billableSum"] = str(sum(tokens)), str(sum(tokens))
        return {"supervisedTuningDataStats": stats}

    @cached_property
    def tuned(self) -> dict[str, Any]:
        """What comes out of it."""
        epochs, steps = self.epochs or _EPOCHS, self.total_steps
        number = int(self.job_id)
        out: dict[str, Any] = {
            "model": f"{self.parent}/models/{number ^ 0x5A5A5A5A}@1",
            "endpoint": f"{self.parent}/endpoints/{number ^ 0x3C3C3C3C}",
        }
        if not self.last_checkpoint_only:
            out["checkpoints"] = [
                {
                    "checkpointId": str(epoch),
                    "epoch": str(epoch),
                    "step": str(steps * epoch // epochs),
                    "endpoint": f"{self.parent}/endpoints/{(number ^ 0x3C3C3C3C) + epochs - epoch}",
                }
                for epoch in range(1, epochs + 1)
            ]
        return out
