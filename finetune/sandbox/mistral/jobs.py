"""Mistral's fine-tuning jobs: what was asked for, and what has become of it by now."""

import math
import random
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal

from finetune.sandbox.mistral.bodies import Completion, JobIn
from finetune.sandbox.mistral.cost import TOKENS_A_STEP, Size, cost

#: A model's name holds the workspace.
WORKSPACE: Final = "5a4db0c5"
#: A checkpoint every tenth of the way, and no closer than so many steps.
_APART: Final = 10
#: From the request to the end of a running job.
_STOPPING_S: Final = 0.2
ENDED: Final = frozenset({"SUCCESS", "FAILED", "FAILED_VALIDATION", "CANCELLED"})
#: Waits, and costs nothing.
WAITING: Final = frozenset({"QUEUED", "VALIDATING", "VALIDATED"})

_BAD_DATA: Final = "The training data did not pass validation: sandbox:fail-data was asked for."
_BAD_TRAINING: Final = "The training diverged: sandbox:fail-train was asked for."


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Seconds of each phase."""

    #: Before the validation, and again before the training.
    queued_s: float = 0.5
    validating_s: float = 1.0
    running_s: float = 4.0


@dataclass(kw_only=True)
class Job:
    """One job. What it is at a moment follows from the moments at which somebody wanted something."""

    id: str
    asked: JobIn
    numbers: Completion
    size: Size
    owner: str
    created: float
    timing: Timing
    #: How it ends badly.
    fails: Literal["fail-data", "fail-train"] | None = None
    #: When the start was asked for; None before.
    started: float | None = None
    #: When the end was asked for; None before.
    cancelled: float | None = None

    @property
    def validated(self) -> float:
        """When the validation ends."""
        return self.created + self.timing.queued_s + self.timing.validating_s

    def begin(self) -> float | None:
        """When the training was or will be asked for; None: somebody has to."""
        return self.validated if self.asked.auto_start else self.started

    def timeline(self, now: float) -> list[tuple[float, str]]:
        """States and when they began, oldest first, up to now."""
        told = self._undisturbed()
        if self.cancelled is not None:
            before = [each for each in told if each[0] <= self.cancelled]
            told = [*before, *self._stopped(before[-1][1], self.cancelled)]
        return [each for each in told if each[0] <= now]

    def status(self, now: float) -> str:
        """The vendor's word for where it is."""
        return self.timeline(now)[-1][1]

    def paid(self, now: float) -> bool:
        """Whether the training was started."""
        return any(status == "STARTED" for _, status in self.timeline(now))

    def _undisturbed(self) -> list[tuple[float, str]]:
        told = [(self.created, "QUEUED"), (self.created + self.timing.queued_s, "VALIDATING")]
        if self.fails == "fail-data":
            return [*told, (self.validated, "FAILED_VALIDATION")]
        told.append((self.validated, "VALIDATED"))
        begin = self.begin()
        if begin is None:
            return told
        running = begin + self.timing.queued_s
        end = (running + self.timing.running_s, "SUCCESS")
        if self.fails == "fail-train":
            end = (running + self.timing.running_s / 2, "FAILED")
        return [*told, (begin, "STARTED"), (running, "RUNNING"), end]

    def _stopped(self, status: str, at: float) -> list[tuple[float, str]]:
        if status in WAITING:
            return [(at, "CANCELLED")]
        return [(at, "CANCELLATION_REQUESTED"), (at + _STOPPING_S, "CANCELLED")]

    def short(self, now: float) -> dict[str, Any]:
        """As the list and the create show it."""
        told = self.timeline(now)
        status = told[-1][1]
        measured = any(name == "VALIDATED" for _, name in told)
        return {
            "id": self.id,
            "auto_start": self.asked.auto_start,
            "model": self.asked.model,
            "status": status,
            "created_at": int(self.created),
            "modified_at": int(told[-1][0]),
            "training_files": [str(each.file_id) for each in self.asked.training_files],
            "validation_files": [str(each) for each in self.asked.validation_files or ()],
            "object": "job",
            "fine_tuned_model": self.tuned(told[-1][0]) if status == "SUCCESS" else None,
            "suffix": self.asked.suffix,
            "integrations": [_shown(each.model_dump()) for each in self.asked.integrations or ()],
            "trained_tokens": self.size.train_tokens if status == "SUCCESS" else None,
            "metadata": self.metadata(known=measured),
            "job_type": "completion",
            "hyperparameters": self._numbers(known=measured),
            "repositories": [],
        }

    def detailed(self, now: float) -> dict[str, Any]:
        """As a look at one job shows it: with events and checkpoints, newest first."""
        events = [_event(at, status, self.fails) for at, status in self.timeline(now)]
        return {**self.short(now), "events": events[::-1], "checkpoints": self._checkpoints(now)[::-1]}

    def metadata(self, *, known: bool = True) -> dict[str, Any]:
        """Cost and size; empty before the validation has told them."""
        told = {
            "expected_duration_seconds": math.ceil(self.timing.queued_s + self.timing.running_s),
            "cost": cost(self.asked.model, self.size.train_tokens),
            "cost_currency": "USD",
            "train_tokens_per_step": TOKENS_A_STEP,
            "train_tokens": self.size.train_tokens,
            "data_tokens": self.size.data_tokens,
        }
        return {**(told if known else dict.fromkeys(told)), "estimated_start_time": None}

    def tuned(self, at: float) -> str:
        """The name of the model."""
        day = datetime.fromtimestamp(at, UTC).strftime("%Y%m%d")
        suffix = [self.asked.suffix] if self.asked.suffix else []
        return ":".join(["ft", self.asked.model, WORKSPACE, day, *suffix, self.id[:8]])

    def _numbers(self, *, known: bool) -> dict[str, Any]:
        told = self.numbers.model_dump()
        if known:
            told |= {"training_steps": self.size.steps, "epochs": self.size.epochs}
        return told

    def _checkpoints(self, now: float) -> list[dict[str, Any]]:
        begun = next((at for at, status in self.timeline(now) if status == "RUNNING"), None)
        if begun is None:
            return []
        # A wish to end it, or its failure, was the last that happened to it.
        last = next((at for at, status in self.timeline(now) if at > begun and status != "SUCCESS"), now)
        chance, out = random.Random(self.id), []
        for step in _steps(self.size.steps):
            metrics = self._measured(step, chance)
            at = begun + self.timing.running_s * step / self.size.steps
            if at <= last:
                out.append({"metrics": metrics, "step_number": step, "created_at": int(at)})
        return out

    def _measured(self, step: int, chance: random.Random) -> dict[str, float | None]:
        way = step / self.size.steps
        # Less than two checkpoints differ by at the end, so that what is measured never turns back.
        loss = 0.6 + 1.4 * math.exp(-3 * way) + chance.uniform(-0.008, 0.008)
        other = chance.uniform(-0.003, 0.003)
        held_out = bool(self.asked.validation_files)
        return {
            "train_loss": round(loss, 6),
            "valid_loss": round(loss + 0.08 + other, 6) if held_out else None,
            "valid_mean_token_accuracy": round(0.9 - 0.4 * math.exp(-3 * way) + other, 6) if held_out else None,
        }


def _steps(total: int) -> list[int]:
    """The steps with a checkpoint; always the last."""
    return [*range(every := max(_APART, total // 10), total - every // 2, every), total]


def _event(at: float, status: str, fails: str | None) -> dict[str, Any]:
    data = {"status": status}
    if status in ("FAILED_VALIDATION", "FAILED"):
        data["error"] = _BAD_DATA if fails == "fail-data" else _BAD_TRAINING
    return {"name": "status-updated", "data": data, "created_at": int(at)}


def _shown(integration: dict[str, Any]) -> dict[str, Any]:
    """Without its key."""
    return {**{key: value for key, value in integration.items() if key != "api_key"}, "url": None}
