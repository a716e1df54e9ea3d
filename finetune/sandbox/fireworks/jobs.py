"""Fireworks' fine-tuning jobs: what was asked for, and what has become of it by now."""

import json
import math
from dataclasses import dataclass
from typing import Any, Final, Literal

from finetune.sandbox.fireworks.bodies import CreateDpo, CreateSft, Training
from finetune.sandbox.fireworks.rows import Rows
from finetune.sandbox.fireworks.times import moment

#: A gradient step of so many examples when nobody says; what the vendor does then is not published.
_BATCH: Final = 8
_EPOCHS: Final = 1
#: US dollars a million tokens up to 16B parameters, by the vendor's page of prices, October 2026; DPO is the double.
_USD: Final = 0.5
_STOPPING_S: Final = 0.2
_STATE: Final = "JOB_STATE_"
ENDED: Final = frozenset({"JOB_STATE_COMPLETED", "JOB_STATE_FAILED", "JOB_STATE_CANCELLED"})

_BAD_DATA: Final = "failed to validate the dataset: sandbox:fail-data was asked for"
_BAD_TRAINING: Final = "the training diverged: sandbox:fail-train was asked for"


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Seconds of each phase."""

    creating_s: float = 0.2
    validating_s: float = 0.5
    pending_s: float = 0.3
    running_s: float = 4.0
    writing_s: float = 0.5
    #: The check of an uploaded data set; 0: it is made while the request waits.
    checking_s: float = 0.0


@dataclass(kw_only=True)
class Job:
    """One job. What it is at a moment follows from the moments at which somebody wanted something."""

    name: str
    asked: CreateSft | CreateDpo
    rows: Rows
    model: str
    created: float
    timing: Timing
    #: How it ends badly.
    fails: Literal["fail-data", "fail-train"] | None = None
    #: When the end was asked for; None before.
    cancelled: float | None = None

    @property
    def training(self) -> Training:
        """The numbers, which stand elsewhere in each kind."""
        return self.asked.trainingConfig if isinstance(self.asked, CreateDpo) else self.asked

    @property
    def epochs(self) -> int:
        """Passes through the data."""
        return self.training.epochs or _EPOCHS

    @property
    def steps(self) -> int:
        """Gradient steps of the whole training."""
        return math.ceil(self.rows.count / (self.training.batchSizeSamples or _BATCH)) * self.epochs

    @property
    def running(self) -> float:
        """When the training begins."""
        return self.created + self.timing.creating_s + self.timing.validating_s + self.timing.pending_s

    def timeline(self, now: float) -> list[tuple[float, str]]:
        """States and when they began, oldest first, up to now."""
        told = self._undisturbed()
        if self.cancelled is not None:
            before = [each for each in told if each[0] <= self.cancelled]
            told = [*before, (self.cancelled, "CANCELLING"), (self.cancelled + _STOPPING_S, "CANCELLED")]
        return [(at, _STATE + word) for at, word in told if at <= now]

    def state(self, now: float) -> str:
        """The vendor's word for where it is."""
        return self.timeline(now)[-1][1]

    def json(self, now: float, metrics: str | None) -> dict[str, Any]:
        """As the API shows it; `metrics` is where its measured values can be got."""
        at, state = self.timeline(now)[-1]
        told: dict[str, Any] = {
            "name": self.name,
            "displayName": self.asked.displayName,
            "dataset": self.asked.dataset,
            "createTime": moment(self.created),
            "createdBy": "sandbox@example.com",
            "state": state,
            "status": self._status(state),
        }
        if state in ENDED:
            told["completedTime"] = moment(at)
        if self.asked.wandbConfig:
            told["wandbConfig"] = self.asked.wandbConfig.model_dump(exclude={"apiKey"})
        numbers = self.training.model_dump(include=set(Training.model_fields), exclude_none=True)
        numbers |= {"outputModel": self.model}
        if isinstance(self.asked, CreateDpo):
            loss = self.asked.lossConfig
            more = {"lossConfig": loss.model_dump(exclude_none=True)} if loss else {}
            return {**told, "trainingConfig": numbers, **more}
        told |= {**numbers, **self.asked.model_dump(include={"evaluationDataset"}, exclude_none=True)}
        told |= {"updateTime": moment(at), "estimatedCost": self.cost()}
        told["jobProgress"] = {
            "percent": self._percent(now),
            "epoch": self._steps_done(now) * self.epochs // self.steps,
        }
        return {**told, **({"metricsFileSignedUrl": metrics} if metrics and now >= self.running else {})}

    def cost(self) -> dict[str, Any]:
        """The whole job's, as money is written."""
        usd = _USD * (2 if isinstance(self.asked, CreateDpo) else 1) * self.rows.tokens * self.epochs / 1_000_000
        return {"currencyCode": "USD", "units": str(int(usd)), "nanos": round(usd % 1 * 1_000_000_000)}

    def metrics(self, now: float) -> bytes | None:
        """The file of measured values up to now: a line a step. None before the first."""
        lines = []
        for step in range(1, self._steps_done(now) + 1):
            loss = round(0.6 + 1.4 * math.exp(-3 * step / self.steps), 6)
            tokens = self.rows.tokens * self.epochs * step // self.steps
            rate = self.training.learningRate or 1e-4
            values = {"train/step": step, "train/loss": loss, "train/lr": rate, "train/total_tokens": tokens}
            lines.append(json.dumps({"step": step, **values}) + "\n")
        return "".join(lines).encode() or None

    def _undisturbed(self) -> list[tuple[float, str]]:
        validating = self.created + self.timing.creating_s
        told = [(self.created, "CREATING"), (validating, "VALIDATING")]
        pending = validating + self.timing.validating_s
        if self.fails == "fail-data":
            return [*told, (pending, "FAILED")]
        told += [(pending, "PENDING"), (self.running, "RUNNING")]
        if self.fails == "fail-train":
            return [*told, (self.running + self.timing.running_s / 2, "FAILED")]
        written = self.running + self.timing.running_s
        return [*told, (written, "WRITING_RESULTS"), (written + self.timing.writing_s, "COMPLETED")]

    def _status(self, state: str) -> dict[str, str]:
        if state != "JOB_STATE_FAILED":
            return {"code": "OK", "message": ""}
        code = "INVALID_ARGUMENT" if self.fails == "fail-data" else "INTERNAL"
        return {"code": code, "message": _BAD_DATA if self.fails == "fail-data" else _BAD_TRAINING}

    def _steps_done(self, now: float) -> int:
        trained = [at for at, state in self.timeline(now) if state == "JOB_STATE_RUNNING"]
        if not trained:
            return 0
        stopped = [at for at, state in self.timeline(now) if at > trained[0]]
        spent_s = min([now, *stopped]) - trained[0]
        return min(self.steps, int(spent_s / self.timing.running_s * self.steps))

    def _percent(self, now: float) -> int:
        return self._steps_done(now) * 100 // self.steps
