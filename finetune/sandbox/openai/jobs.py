"""A fine-tuning job as time passes: a script of what happens when, played as far as the clock has come."""

import math
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from finetune.sandbox.openai.log import Ids, Log
from finetune.sandbox.openai.rows import Rows

ENDED: Final = ("succeeded", "failed", "cancelled")
#: Metrics of at most so many steps are told, the last one always among them.
_TOLD_STEPS: Final = 500
#: The weights of the last epochs are kept.
_KEPT_EPOCHS: Final = 3
#: Why a job fails that was asked to fail while training.
_BROKE: Final[dict[str, Any]] = {
    "code": "server_error",
    "message": "The job failed due to an internal error.",
    "param": None,
}
_AUTO: Final[Mapping[str, float]] = {"learning_rate_multiplier": 1.8, "beta": 0.1}


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Seconds of the sandbox's clock that each phase takes."""

    validating_s: float = 1
    queued_s: float = 1
    running_s: float = 4
    #: From the wish to pause until it is paused.
    pausing_s: float = 0.5
    #: Until a new file can be used; None: as long as the vendor needs.
    processing_s: float | None = None


@dataclass(frozen=True, kw_only=True)
class Order:
    """What a create asked for, checked."""

    model: str
    #: The snapshot that the model is or was tuned from.
    snapshot: str
    method: str
    #: As they were set; what is absent is `auto`.
    hyperparameters: Mapping[str, Any]
    training_file: str
    validation_file: str | None
    rows: Rows
    #: None when there is no validation file.
    held_out: Rows | None
    suffix: str | None
    seed: int
    metadata: Mapping[str, str] | None
    integrations: list[Any]


class Beat(NamedTuple):
    """One thing that happens in a job."""

    #: Seconds of work after the create; pauses do not count.
    at_s: float
    #: Empty where a step is told.
    message: str = ""
    level: str = "info"
    step: int = 0
    #: What changes with it.
    then: Callable[[], None] | None = None


@dataclass(kw_only=True)
class Job:
    """One job. `look` brings it up to a time; all else is as of then."""

    id: str
    number: int
    order: Order
    created: float
    timing: Timing
    ids: Ids
    #: The name of the tuned model.
    tuned: str
    #: Called once, when it has ended.
    ended: Callable[["Job"], None]
    status: str = "validating_files"
    checkpoints: list[dict[str, Any]] = field(default_factory=list)
    result_files: list[str] = field(default_factory=list)
    error: dict[str, Any] | None = None
    finished: float | None = None
    started: bool = False
    _stood_s: float = 0.0
    _paused_at: float | None = None

    def __post_init__(self) -> None:
        self._now = self.created
        self.log = Log(self.id, self.ids, self._told)
        self.hyperparameters = {
            name: self.order.hyperparameters.get(name, "auto")
            for name in ("batch_size", "beta", "learning_rate_multiplier", "n_epochs")
            if name != "beta" or self.order.method == "dpo"
        }
        self._resolved = _resolve(self.hyperparameters, self.order.rows.count)
        self.total_steps = math.ceil(max(1, self.order.rows.count) / self._resolved["batch_size"])
        self.total_steps *= self._resolved["n_epochs"]
        self._script: Iterator[Beat] = self._play()
        self._next: Beat | None = next(self._script)

    @property
    def end(self) -> float:
        """When it will have ended if nothing stops it."""
        return self.created + self._stood_s + self._length_s

    @property
    def paused(self) -> bool:
        """Whether it waits for `resume`."""
        return self._paused_at is not None

    @property
    def is_over(self) -> bool:
        """Whether nothing can happen to it any more."""
        return self.status in ENDED

    @property
    def tokens(self) -> int:
        """What a whole training of it counts, estimated."""
        return int(self.order.rows.tokens * self._resolved["n_epochs"])

    def look(self, now: float) -> None:
        """Let happen what is due."""
        while not self.is_over and self._paused_at is None and self._next is not None:
            due = self.created + self._stood_s + self._next.at_s
            if due > now:
                return
            self._now = due
            self._happen(self._next)
            self._next = next(self._script, None)
        if self._paused_at is not None and self.status == "pausing":
            if now >= self._paused_at + self.timing.pausing_s:
                self._now = self._paused_at + self.timing.pausing_s
                self.status = "paused"
                self.log.tell(self._now, "Fine-tuning job paused")

    def cancel(self, now: float) -> None:
        """End it now."""
        self._now = now
        self._paused_at = None
        self.log.tell(self._now, "Fine-tuning job cancelled")
        self._end("cancelled")

    def pause(self, now: float) -> None:
        """Stand still from now on."""
        self._paused_at, self.status = now, "pausing"

    def resume(self, now: float) -> None:
        """Go on from where it stood."""
        assert self._paused_at is not None
        self._stood_s += now - self._paused_at
        self._paused_at, self.status, self._now = None, "running", now
        self.log.tell(self._now, "Fine-tuning job resumed")

    def metrics(self, step: int) -> dict[str, float]:
        """Loss that falls from about 2.3 to about 0.3 with noise, accuracy that rises with it; made of the job's id."""
        noise = zlib.crc32(f"{self.id}:{step}".encode()) / 2**32 / 5 + 0.9
        loss = 0.3 + 2.0 * math.exp(-4 * step / self.total_steps) * noise
        data: dict[str, float] = {"step": step, "train_loss": loss, "total_steps": self.total_steps}
        data["train_mean_token_accuracy"] = _accuracy(loss)
        ends_epoch = self._ends_epoch(step)
        if self.order.held_out is not None and (ends_epoch or step % 10 == 0):
            data["valid_loss"] = loss * 1.1
            data["valid_mean_token_accuracy"] = _accuracy(loss * 1.1)
            if ends_epoch:
                data["full_valid_loss"] = loss * 1.15
                data["full_valid_mean_token_accuracy"] = _accuracy(loss * 1.15)
        return data

    @property
    def _length_s(self) -> float:
        timing = self.timing
        if self._fault() is not None:
            return timing.validating_s
        share = 0.5 if self._fails_training else 1.0
        return timing.validating_s + timing.queued_s + timing.running_s * share

    @property
    def _fails_training(self) -> bool:
        return "fail-train" in (self.order.suffix or "")

    def _happen(self, beat: Beat) -> None:
        if beat.step:
            self.log.step(self._now, beat.step)
        else:
            self.log.tell(self._now, beat.message, beat.level)
        if beat.then:
            beat.then()

    def _play(self) -> Iterator[Beat]:
        order, timing = self.order, self.timing
        yield Beat(at_s=0, message=f"Created fine-tuning job: {self.id}")
        held_out = f" and validation file: {order.validation_file}" if order.validation_file else ""
        yield Beat(at_s=0, message=f"Validating training file: {order.training_file}{held_out}")
        at_s = timing.validating_s
        if fault := self._fault():
            yield Beat(at_s=at_s, message=fault["message"], level="error", then=lambda: self._fail(fault))
            return
        yield Beat(at_s=at_s, message="Files validated, moving job to queued state", then=self._queue)
        at_s += timing.queued_s
        yield Beat(at_s=at_s, message="Fine-tuning job started", then=self._start)
        yield from self._train(at_s)

    def _train(self, at_s: float) -> Iterator[Beat]:
        last = self.total_steps // 2 if self._fails_training else self.total_steps
        stride = math.ceil(self.total_steps / _TOLD_STEPS)
        for step in range(1, last + 1):
            if step % stride == 0 or self._ends_epoch(step):
                # The last step's metrics and the end are one moment: they come in this order.
                yield Beat(at_s=at_s + self.timing.running_s * step / self.total_steps, step=step)
        if self._fails_training:
            moment = at_s + self.timing.running_s / 2
            yield Beat(at_s=moment, message=_BROKE["message"], level="error", then=lambda: self._fail(_BROKE))
            return
        yield from self._finish(at_s + self.timing.running_s)

    def _finish(self, at_s: float) -> Iterator[Beat]:
        kept = min(_KEPT_EPOCHS, self._resolved["n_epochs"])
        a_epoch = self.total_steps // self._resolved["n_epochs"]
        for back in range(kept - 1, 0, -1):
            step = self.total_steps - back * a_epoch
            name = f"{self.tuned}:ckpt-step-{step}"
            yield Beat(
                at_s=at_s,
                message=f"Checkpoint created at step {step} with Snapshot ID: {name}",
                then=lambda step=step, name=name: self._keep(step, name),  # type: ignore[misc]
            )
        yield Beat(
            at_s=at_s,
            message=f"New fine-tuned model created: {self.tuned}",
            then=lambda: self._keep(self.total_steps, self.tuned),
        )
        yield Beat(at_s=at_s, message="The job has successfully completed", then=lambda: self._end("succeeded"))

    def _fault(self) -> dict[str, Any] | None:
        if "fail-data" in (self.order.suffix or ""):
            message = "The job failed due to an invalid training file. Invalid file format. Example 1 was made to fail."
            return {"code": "invalid_training_file", "message": message, "param": "training_file"}
        for rows, param in ((self.order.rows, "training_file"), (self.order.held_out, "validation_file")):
            if rows is not None and rows.fault:
                return {"code": rows.fault[0], "message": rows.fault[1], "param": param}
        return None

    def _ends_epoch(self, step: int) -> bool:
        return bool(step * self._resolved["n_epochs"] % self.total_steps == 0)

    def _told(self, step: int) -> tuple[str, dict[str, float]]:
        data = self.metrics(step)
        return _words(data), data

    def _queue(self) -> None:
        self.status = "queued"
        self.hyperparameters = dict(self._resolved)

    def _start(self) -> None:
        self.status, self.started = "running", True

    def _fail(self, fault: dict[str, Any]) -> None:
        self.error = fault
        self._end("failed")

    def _end(self, status: str) -> None:
        self.status, self.finished = status, self._now
        # What cannot be played any more is not kept.
        self._script, self._next = iter(()), None
        self.ended(self)

    def _keep(self, step: int, name: str) -> None:
        share = 1 - step / self.total_steps
        self.checkpoints.append(
            {
                "object": "fine_tuning.job.checkpoint",
                "id": self.ids.checkpoint + self.ids.of(f"{self.id}:{step}"),
                "created_at": int(self._now - share * self.timing.running_s),
                "fine_tuned_model_checkpoint": name,
                "fine_tuning_job_id": self.id,
                "metrics": {key: value for key, value in self.metrics(step).items() if key != "total_steps"},
                "step_number": step,
            }
        )


def result_csv(job: Job) -> bytes:
    """The result file: a line a step. Steps without a value leave its column empty."""
    columns = {
        "step": "step",
        "train_loss": "train_loss",
        "train_accuracy": "train_mean_token_accuracy",
        "valid_loss": "valid_loss",
        "valid_mean_token_accuracy": "valid_mean_token_accuracy",
    }
    lines = [",".join(columns)]
    for step in map(job.metrics, job.log.steps):
        lines.append(",".join(_cell(step.get(key)) for key in columns.values()))
    return ("\n".join(lines) + "\n").encode()


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.5f}".rstrip("0").rstrip(".")


def _accuracy(loss: float) -> float:
    return max(0.0, min(1.0, math.exp(-loss / 3)))


def _words(data: Mapping[str, float]) -> str:
    said = f"Step {data['step']}/{data['total_steps']}: training loss={data['train_loss']:.2f}"
    for key, word in (("valid_loss", "validation loss"), ("full_valid_loss", "full validation loss")):
        if key in data:
            said += f", {word}={data[key]:.2f}"
    return said


def _resolve(asked: Mapping[str, Any], rows: int) -> dict[str, Any]:
    """What `auto` comes to: as many epochs as see about a hundred examples, three for more, fewer for very many."""
    rows = max(1, rows)
    epochs = 3
    if rows * epochs < 100:
        epochs = min(25, 100 // rows)
    elif rows * epochs > 25_000:
        epochs = max(1, 25_000 // rows)
    auto = {**_AUTO, "n_epochs": epochs, "batch_size": min(256, max(1, rows // 500))}
    return {name: auto[name] if value == "auto" else value for name, value in asked.items()}
