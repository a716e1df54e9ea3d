"""One customization job of the stand-in: what it is at a moment follows from when it was created, and nothing else."""

import math
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Any, Final

from finetune.sandbox.bedrock.words import arn, number_id, stamp

_BATCH: Final = 4
_EPOCHS: Final = 2
_RUNS: Final = "InProgress"
ENDED: Final = frozenset({"Completed", "Failed", "Stopped"})
_PHASES: Final = ("validationDetails", "dataProcessingDetails", "trainingDetails")


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Seconds that each phase of a job lasts, by the stand-in's clock; six in all."""

    waiting: float = 0.5
    validation: float = 1.0
    processing: float = 1.0
    training: float = 3.5
    #: From the wish to stop to its fulfilment.
    stopping: float = 0.5

    def scaled(self, factor: float) -> "Timing":
        """All of them longer, or shorter."""
        return Timing(**{each.name: getattr(self, each.name) * factor for each in fields(self)})


@dataclass(kw_only=True)
class Job:
    """A job. `stopped_at` is all that ever changes."""

    number: int
    region: str
    #: What the request said.
    said: dict[str, Any]
    base_model: str
    created_at: datetime
    timing: Timing
    rows: int
    #: The dataset cannot be used, for these reasons; None: it can.
    bad_data: str | None
    #: The training breaks down in the middle.
    breaks: bool
    stopped_at: datetime | None = None

    @property
    def job_id(self) -> str:
        """The end of its ARN."""
        return number_id("job", self.number)

    @property
    def arn(self) -> str:
        """Its name."""
        return arn(self.region, "model-customization-job", f"{self.base_model}/{self.job_id}")

    @property
    def model_arn(self) -> str:
        """The tuned model's name."""
        return arn(self.region, "custom-model", f"{self.base_model}/{number_id('model', self.number)}")

    @property
    def steps(self) -> int:
        """Optimiser steps over all epochs."""
        return math.ceil(self.rows / _BATCH) * self.epochs

    @property
    def epochs(self) -> int:
        """As it was said, or by default."""
        return int(self.said.get("hyperParameters", {}).get("epochCount", _EPOCHS))

    def begins(self) -> list[datetime]:
        """When each phase begins; last, when all is done."""
        time, at = self.timing, self.created_at
        begins = []
        for length in (time.waiting, time.validation, time.processing, time.training):
            at += timedelta(seconds=length)
            begins.append(at)
        return begins

    def ends(self) -> tuple[str, datetime]:
        """How and when it will end."""
        begins = self.begins()
        if self.bad_data:
            end = "Failed", begins[1]
        elif self.breaks:
            end = "Failed", begins[2] + (begins[3] - begins[2]) / 2
        else:
            end = "Completed", begins[3]
        if self.stopped_at is None:
            return end
        return "Stopped", self.stopped_at + timedelta(seconds=self.timing.stopping)

    def status(self, now: datetime) -> str:
        """Its word now."""
        end, at = self.ends()
        if now >= at:
            return end
        return "Stopping" if self.stopped_at is not None else _RUNS

    def stop(self, now: datetime) -> None:
        """Wish for the end. Silent when that was wished before."""
        self.stopped_at = self.stopped_at or now

    def summary(self, now: datetime) -> dict[str, Any]:
        """ModelCustomizationJobSummary."""
        status = self.status(now)
        out = {
            **self._common(now, status),
            "customModelName": self.said["customModelName"],
            "customizationType": self.said["customizationType"],
        }
        return {**out, "customModelArn": self.model_arn} if status == "Completed" else out

    def told(self, now: datetime) -> dict[str, Any]:
        """GetModelCustomizationJobResponse."""
        status = self.status(now)
        same = ("roleArn", "customizationType", "trainingDataConfig", "outputDataConfig", "hyperParameters")
        more = ("clientRequestToken", "vpcConfig")
        out = {
            **self._common(now, status),
            **{name: self.said[name] for name in same},
            **{name: self.said[name] for name in more if self.said.get(name)},
            "outputModelName": self.said["customModelName"],
            "validationDataConfig": self.said.get("validationDataConfig") or {"validators": []},
        }
        if status == "Completed":
            out |= {"outputModelArn": self.model_arn, "trainingMetrics": {"trainingLoss": self.loss(self.steps - 1)}}
            validators = (self.said.get("validationDataConfig") or {}).get("validators", [])
            if validators:
                out["validationMetrics"] = [{"validationLoss": self.loss(self.steps - 1) + 0.1} for _ in validators]
        if status == "Failed":
            out["failureMessage"] = self._failure()
        return out

    def loss(self, step: int) -> float:
        """Of the training after this step."""
        return round(0.5 + 2.0 / (1 + step), 4)

    def tables(self) -> dict[str, str]:
        """The files that the job leaves, by name below its folder."""
        each = max(1, math.ceil(self.steps / self.epochs))
        rows = [
            f"{step},{step // each},{self.loss(step)},{math.exp(self.loss(step)):.4f}" for step in range(self.steps)
        ]
        out = {"training_artifacts/step_wise_training_metrics.csv": _table("training_loss", rows)}
        if self.said.get("validationDataConfig"):
            last = self.steps - 1
            row = f"{last},{self.epochs - 1},{self.loss(last) + 0.1:.4f},{math.exp(self.loss(last) + 0.1):.4f}"
            place = "validation_artifacts/post_fine_tuning_validation/validation/validation_metrics.csv"
            out[place] = _table("validation_loss", [row])
        return out

    def _failure(self) -> str:
        if self.bad_data:
            return f"Dataset validation failed. {self.bad_data}"
        return "An internal error occurred during training. Try again later."

    def _common(self, now: datetime, status: str) -> dict[str, Any]:
        out: dict[str, Any] = {
            "jobArn": self.arn,
            "jobName": self.said["jobName"],
            "baseModelArn": f"arn:aws:bedrock:{self.region}::foundation-model/{self.base_model}",
            "status": status,
            "statusDetails": self._details(now, status),
            "creationTime": stamp(self.created_at),
            "lastModifiedTime": stamp(min(now, self.ends()[1])),
        }
        return {**out, "endTime": stamp(self.ends()[1])} if status in ENDED else out

    def _details(self, now: datetime, status: str) -> dict[str, Any]:
        begins = self.begins()
        # What had begun when it was told to stop, is what stops.
        seen = min(now, self.stopped_at or now, self.ends()[1])
        out = {}
        for place, phase in enumerate(_PHASES):
            begun, done = begins[place], begins[place + 1]
            if seen < begun or (self.bad_data and place > 0):
                out[phase] = {"status": "NotStarted"}
                continue
            word = "Completed" if seen >= done else {"InProgress": _RUNS}.get(status, status)
            if status == "Failed" and place == (0 if self.bad_data else len(_PHASES) - 1):
                word = "Failed"
            out[phase] = {"status": word, "creationTime": stamp(begun), "lastModifiedTime": stamp(min(seen, done))}
        return out


def _table(column: str, rows: list[str]) -> str:
    return "\n".join([f"step_number,epoch_number,{column},perplexity", *rows]) + "\n"
