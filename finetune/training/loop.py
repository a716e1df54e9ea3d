"""The training loop: steps, checkpoints, evaluations, and what is told of them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from finetune.report import Json, Reporter
from finetune.training.checkpoint import Checkpoints
from finetune.training.engine import Engine, StepResult
from finetune.training.examples import Examples
from finetune.training.ranks import ALONE, Ranks
from finetune.training.schedule import Steps
from finetune.training.stop import Interrupted, Stop

#: A checkpoint is due this long after the last one, so that a kill loses no more than this and the present step.
CHECKPOINT_AFTER_S: Final = 20.0


@dataclass(frozen=True, kw_only=True)
class Loop:
    """One training from wherever its checkpoints stand to its last step."""

    engine: Engine
    checkpoints: Checkpoints
    steps: Steps
    train: Examples
    #: None: nothing is evaluated.
    validation: Examples | None
    #: Optimiser steps between checkpoints; None: by time.
    checkpoint_every: int | None
    reporter: Reporter
    stop: Stop
    #: Seconds, monotonic.
    clock: Callable[[], float]
    #: The processes that train; each has a loop.
    ranks: Ranks = ALONE

    def run(self) -> None:
        """Train to the end. Raises Interrupted after saving the last whole step, and TrainingError."""
        done = saved = self._resume()
        began = saved_at = self.clock()
        first = done
        self.stop.defer()
        if done:
            self.reporter.event(f"resumed after step {done} of {self.steps.total}")
        try:
            # A run that ended between an epoch's last step and its evaluation owes the evaluation.
            self._evaluate(done)
            while done < self.steps.total:
                rate = self.steps.learning_rate(done)
                started = self.clock()
                result = self._step(done, rate)
                done += 1
                now = self.clock()
                per_step_s = (now - began) / (done - first)
                self._tell(done, rate, result, now - started, per_step_s)
                if self._due(done, now - saved_at):
                    self.checkpoints.save(self.engine, done)
                    saved, saved_at = done, self.clock()
                self._evaluate(done)
        except Interrupted:
            if done > saved:
                self.checkpoints.save(self.engine, done)
            self.reporter.event(f"interrupted after step {done} of {self.steps.total}; it can be resumed")
            raise

    def _resume(self) -> int:
        with self.ranks.first_before_others():
            done = self.checkpoints.resume(self.engine, self._warn)
        if len(everywhere := set(self.ranks.gather(done))) > 1:
            raise RuntimeError(f"the processes have resumed after different steps: {sorted(everywhere)}")
        return done

    def _step(self, done: int, rate: float) -> StepResult:
        units = [self.train.rows[index] for index in self.steps.examples(done)]
        return self.engine.step(units, done, rate, self.stop.check, self._warn)

    def _due(self, done: int, since_s: float) -> bool:
        if self.steps.ends_epoch(done):
            return True
        if self.checkpoint_every is not None:
            return done % self.checkpoint_every == 0
        return since_s >= CHECKPOINT_AFTER_S

    def _evaluate(self, done: int) -> None:
        if self.validation is not None and self.steps.ends_epoch(done):
            measured = self.engine.evaluate(self.validation.rows, self.stop.check, self._warn)
            values = {"loss": measured.loss, **measured.more}
            self.reporter.metric(done, {f"eval_{name}": value for name, value in values.items()}, None)

    def _tell(self, done: int, rate: float, result: StepResult, took_s: float, per_step_s: float) -> None:
        tokens_per_s = result.tokens / max(took_s, 1e-9)
        values = {
            "loss": result.loss,
            "learning_rate": rate,
            "grad_norm": result.grad_norm,
            "tokens_per_s": tokens_per_s,
            **result.more,
        }
        progress: Json = {
            "step": done,
            "total_steps": self.steps.total,
            "loss": result.loss,
            "tokens_per_s": tokens_per_s,
            "eta_s": per_step_s * (self.steps.total - done),
        }
        self.reporter.metric(done, values, progress)

    def _warn(self, message: str) -> None:
        self.reporter.event(message, "warning")
