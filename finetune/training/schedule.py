"""What happens at which optimiser step, as pure functions of the request: a resume needs no state of it. No torch."""

import hashlib
import math
from collections.abc import Sequence

from finetune.training.request import Training


def stream(seed: int, name: str, *numbers: int) -> int:
    """A 64-bit seed for the random numbers of one purpose; unrelated for every other purpose, step or seed."""
    text = ":".join(map(str, (seed, name, *numbers)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def order(count: int, seed: int, epoch: int) -> list[int]:
    """The order of `count` examples in this epoch (from 0); the same in every version of every library."""
    return sorted(range(count), key=lambda index: (stream(seed, "order", epoch, index), index))


class Steps:
    """Which examples and which rate each optimiser step has. Steps count from 0 here."""

    def __init__(self, examples: int, seed: int, training: Training) -> None:
        self._examples = examples
        self._seed = seed
        self._training = training
        #: Optimiser steps per pass over the data; the last one may have fewer examples.
        self.per_epoch = math.ceil(examples / training.batch_size)
        self.total = self.per_epoch * training.epochs
        self._warmup = math.ceil(self.total * training.warmup_ratio)
        self._order: tuple[int, Sequence[int]] = (-1, ())

    def examples(self, step: int) -> Sequence[int]:
        """Indices of the examples of `step`, 0 <= step < total."""
        epoch, within = divmod(step, self.per_epoch)
        if self._order[0] != epoch:
            self._order = (epoch, order(self._examples, self._seed, epoch))
        start = within * self._training.batch_size
        return self._order[1][start : start + self._training.batch_size]

    def learning_rate(self, step: int) -> float:
        """Linear warmup from 0, then constant, linear to 0, or a half cosine to 0: transformers' three schedules."""
        peak = self._training.learning_rate
        if step < self._warmup:
            return peak * step / self._warmup
        if self._training.lr_scheduler == "constant":
            return peak
        gone = (step - self._warmup) / max(1, self.total - self._warmup)
        return peak * (1 - gone if self._training.lr_scheduler == "linear" else (1 + math.cos(math.pi * gone)) / 2)

    def ends_epoch(self, done: int) -> bool:
        """True if `done` steps, at least one, are whole epochs."""
        return done > 0 and done % self.per_epoch == 0
