"""Together's fine-tuning jobs: what was asked for, and what has become of it by now."""

import math
import random
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal

from finetune.sandbox.together.bodies import Full, JobIn, Lora
from finetune.sandbox.together.cost import nano, usd

#: A model's name begins with the account's; each key belongs to the same.
ACCOUNT: Final = "sandbox_1a2b"
USER: Final = "user_sandbox"
#: What `max` means here, and the rank of a LoRA of which nothing is said. Ours: the vendor has one for each model.
BATCH: Final = 8
RANK: Final = 16
#: From the request to the end of a running job.
_STOPPING_S: Final = 0.2
ENDED: Final = frozenset({"completed", "error", "user_error", "cancelled"})
#: Before it trains.
IDLE: Final = frozenset({"pending", "queued"})
#: Rows of metrics of one training, about.
_MEASURED: Final = 20


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Seconds of each phase."""

    #: Of the look at an uploaded file.
    validating_s: float = 1.0
    pending_s: float = 0.5
    queued_s: float = 0.5
    running_s: float = 4.0
    #: Packing the weights, and again sending them away.
    packing_s: float = 0.25


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much there is to train and to evaluate: rows and tokens once through."""

    rows: int
    tokens: int
    held_out_tokens: int
    parameters: int | None


@dataclass(kw_only=True)
class Job:
    """One job. What it is at a moment follows from the moments at which somebody wanted something."""

    id: str
    asked: JobIn
    size: Size
    created: float
    timing: Timing
    #: How it ends badly.
    fails: Literal["fail-data", "fail-train"] | None = None
    #: When the end was asked for; None before.
    cancelled: float | None = None
    #: Nobody sees it any more, but the ledger.
    deleted: bool = False

    @property
    def batch(self) -> int:
        """Rows a step."""
        return BATCH if self.asked.batch_size == "max" else int(self.asked.batch_size)

    @property
    def steps(self) -> int:
        """Of the whole training."""
        return self.asked.n_epochs * math.ceil(self.size.rows / self.batch)

    @property
    def tokens(self) -> int:
        """That are billed when it is trained to its end."""
        return self.asked.n_epochs * self.size.tokens + self.asked.n_evals * self.size.held_out_tokens

    @property
    def begins(self) -> float:
        """When it trains, if nothing stops it."""
        return self.created + self.timing.pending_s + self.timing.queued_s

    def timeline(self, now: float) -> list[tuple[float, str]]:
        """States and when they began, oldest first, up to now."""
        told = self._undisturbed()
        if self.cancelled is not None:
            before = [each for each in told if each[0] <= self.cancelled]
            told = [*before, *_stopped(before[-1][1], self.cancelled)]
        return [each for each in told if each[0] <= now]

    def status(self, now: float) -> str:
        """The vendor's word for where it is."""
        return self.timeline(now)[-1][1]

    def trained(self, now: float) -> int:
        """Steps that are done."""
        told = self.timeline(now)
        last = next((at for at, status in told if status not in (*IDLE, "running")), now)
        if not any(status == "running" for _, status in told):
            return 0
        done = (last - self.begins) / self.timing.running_s if self.timing.running_s else 1.0
        return min(self.steps, math.floor(self.steps * done + 1e-9))

    def price(self, now: float) -> int:
        """In billionths of a US dollar: of all of it, or of the steps that were done when it was cancelled."""
        if self.status(now) in IDLE:
            return 0
        whole = nano(usd(self.tokens, self.asked.training_method.method, self.size.parameters))
        return whole * self.trained(now) // self.steps if self.status(now) == "cancelled" else whole

    def _undisturbed(self) -> list[tuple[float, str]]:
        begins, timing = self.begins, self.timing
        told = [(self.created, "pending"), (self.created + timing.pending_s, "queued"), (begins, "running")]
        if self.fails == "fail-data":
            return [*told[:2], (begins, "user_error")]
        if self.fails == "fail-train":
            return [*told, (begins + timing.running_s / 2, "error")]
        ends = begins + timing.running_s
        packed = [(ends, "compressing"), (ends + timing.packing_s, "uploading")]
        return [*told, *packed, (ends + 2 * timing.packing_s, "completed")]

    def short(self, now: float) -> dict[str, Any]:
        """As the list, the create and the cancel show it."""
        told = self.timeline(now)
        asked = self.asked.model_dump(exclude_none=True, include=_SHOWN)
        return {
            "id": self.id,
            "status": told[-1][1],
            "created_at": _iso(self.created),
            "updated_at": _iso(told[-1][0]),
            "started_at": _iso(told[-1][0]),
            "user_id": USER,
            "owner_address": "sandbox@example.com",
            "total_price": self.price(now),
            "token_count": 0 if told[-1][1] in IDLE else self.tokens,
            "events": [],
            "model_output_name": self.output,
            "training_type": self.training_type,
            "progress": self._progress(now),
            **asked,
            "batch_size": self.batch,
        }

    def detailed(self, now: float) -> dict[str, Any]:
        """As a look at one job shows it. The description has no suffix here."""
        told = {name: value for name, value in self.short(now).items() if name in _DETAILED}
        trained = self.trained(now)
        return {
            **told,
            "job_id": "",
            "param_count": self.size.parameters or 0,
            "queue_depth": 0,
            "epochs_completed": trained * self.asked.n_epochs // self.steps,
            "trainingfile_numlines": self.size.rows,
            "adapter_object_name": f"{self.output}-adapter" if told["status"] == "completed" else None,
            **(self._registry if told["status"] == "completed" else {}),
        }

    @property
    def registered(self) -> str:
        """The id of the weights in the registry, from which they can be deployed."""
        return f"ml_{self.id[3:].replace('-', '')}"

    @property
    def _registry(self) -> dict[str, str]:
        revision = {"model_object_revision_id": f"rv_{self.registered[3:]}"}
        return {"model_object_id": self.registered, **revision}

    @property
    def output(self) -> str:
        """The name of the model."""
        base = self.asked.model or "model"
        return "-".join(filter(None, [f"{ACCOUNT}/{base.rpartition('/')[2]}", self.asked.suffix, self.id[3:11]]))

    @property
    def training_type(self) -> dict[str, Any]:
        """What is trained, with what was left open filled in."""
        asked = self.asked.training_type
        kind = asked if isinstance(asked, Lora | Full) else Lora(type="Lora", lora_r=RANK, lora_alpha=2 * RANK)
        return dict(kind.model_dump())

    def events(self, now: float) -> list[dict[str, Any]]:
        """What has happened, oldest first."""
        told = [event for at, status in self.timeline(now) for event in self._of_state(at, status)]
        return sorted([*self._of_epochs(now), *told], key=lambda event: str(event["created_at"]))

    def metrics(self, now: float) -> list[dict[str, float]]:
        """What was measured, oldest first."""
        chance, out, done = random.Random(self.id), [], self.trained(now)
        every = max(1, self.steps // _MEASURED)
        evals = {math.ceil(self.steps * number / self.asked.n_evals) for number in range(1, self.asked.n_evals + 1)}
        for step in range(1, self.steps + 1):
            loss = 0.5 + 1.5 * math.exp(-3 * step / self.steps) + chance.uniform(-0.01, 0.01)
            at = {"train/global_step": step, "train/epoch": round(step * self.asked.n_epochs / self.steps, 4)}
            if step <= done and (step % every == 0 or step == self.steps):
                rate = self.asked.learning_rate * (1 - (step - 1) / self.steps)
                out.append({**at, "train/loss": round(loss, 6), "train/learning_rate": rate, "train/grad_norm": 1.0})
            if step <= done and step in evals and self.asked.validation_file:
                out.append({**at, "eval/loss": round(loss + 0.1, 6)})
        return out

    def _of_state(self, at: float, status: str) -> list[dict[str, Any]]:
        words = {
            "pending": [("job_pending", "Fine-tune request created")],
            "queued": [("job_start", "Job started")],
            "running": [
                ("training_data_download_complete", "Data downloaded"),
                ("training_start", f"Training started for model {self.asked.model}"),
            ],
            "compressing": [("training_complete", "Training completed"), ("model_compressing", "Compressing model")],
            "uploading": [("model_uploading", "Uploading output model")],
            "completed": [("model_upload_complete", "Model upload complete"), ("job_complete", "Job finished")],
            "error": [("job_error", "The training diverged: sandbox:fail-train was asked for.")],
            "user_error": [("job_error", "The dataset is not valid: sandbox:fail-data was asked for.")],
            "cancel_requested": [("cancel_requested", "Cancellation was requested")],
            "cancelled": [("job_stopped", "Job was cancelled")],
        }
        level = "error" if status in ("error", "user_error") else "info"
        return [self._event(at, kind, message, level=level) for kind, message in words[status]]

    def _of_epochs(self, now: float) -> list[dict[str, Any]]:
        out = []
        for epoch in range(1, self.asked.n_epochs + 1):
            step = self.steps * epoch // self.asked.n_epochs
            if step <= self.trained(now):
                at = self.begins + self.timing.running_s * step / self.steps
                out.append(self._event(at, "epoch_complete", f"Epoch completed, at step {step}", step=step))
        return out

    def _event(self, at: float, kind: str, message: str, *, level: str = "info", step: int = 0) -> dict[str, Any]:
        return {
            "object": "fine-tune-event",
            "created_at": _iso(at),
            "level": level,
            "message": message,
            "type": kind,
            "param_count": 0,
            "token_count": 0,
            "total_steps": self.steps,
            "wandb_url": "",
            "step": step,
            "checkpoint_path": "",
            "model_path": "",
            "training_offset": 0,
            "hash": "",
        }

    def _progress(self, now: float) -> dict[str, Any]:
        if self.status(now) != "running":
            return {"estimate_available": False, "seconds_remaining": 0}
        left_s = math.ceil(self.begins + self.timing.running_s - now)
        return {"estimate_available": True, "seconds_remaining": max(0, left_s)}


#: Fields of a create that are shown as they came.
_SHOWN: Final = {
    *("training_file", "validation_file", "model", "suffix", "n_epochs", "n_evals", "n_checkpoints", "packing"),
    *("max_seq_length", "learning_rate", "lr_scheduler", "warmup_ratio", "max_grad_norm", "weight_decay"),
    *("random_seed", "training_method"),
}
#: Of what a list shows, what a look at one job shows too.
_DETAILED: Final = {
    *("id", "status", "created_at", "updated_at", "started_at", "user_id", "total_price", "token_count", "events"),
    *("training_file", "validation_file", "model", "model_output_name", "n_epochs", "n_evals", "n_checkpoints"),
    *("batch_size", "training_type", "training_method", "learning_rate", "lr_scheduler", "warmup_ratio"),
    *("max_grad_norm", "weight_decay", "progress"),
}


def _stopped(status: str, at: float) -> list[tuple[float, str]]:
    if status in IDLE:
        return [(at, "cancelled")]
    return [(at, "cancel_requested"), (at + _STOPPING_S, "cancelled")]


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
