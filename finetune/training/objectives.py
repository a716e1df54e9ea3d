"""What training makes smaller, method by method: a loss that is a sum over units, and what is told beside it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from finetune.training.batches import MicroBatch
from finetune.training.examples import IGNORED, Unit


class Sums(NamedTuple):
    """Of one micro-batch."""

    #: fp32 scalar with a gradient, in nats.
    loss: Tensor
    #: One for each of the objective's `names`, without a gradient.
    more: Tensor


class Objective(Protocol):
    """A loss whose sums over micro-batches add up, divided by `size` of all of them."""

    #: What is told beside the loss: means, over the same size.
    names: tuple[str, ...]

    def size(self, units: Sequence[Unit]) -> int:
        """What the loss is the mean over."""
        ...

    def __call__(self, model: Any, batch: MicroBatch) -> Sums:
        """The sums over the batch, in the mode that the model is in."""
        ...


class Likelihood:
    """Supervised fine-tuning: the negative log-likelihood per supervised token."""

    names: tuple[str, ...] = ()

    def size(self, units: Sequence[Unit]) -> int:
        """Supervised tokens."""
        return sum(part.supervised for unit in units for part in unit.parts)

    def __call__(self, model: Any, batch: MicroBatch) -> Sums:
        """See Objective."""
        loss = _nll(model, batch, "sum")
        return Sums(loss, loss.new_zeros(0))


class Preference:
    """Direct preference optimisation (Rafailov et al. 2023, arXiv 2305.18290, equation 7), mean over pairs.

    With r = beta * (log-probability of the answer under the model - under the reference), both summed over the
    answer's tokens: -log sigmoid(r of the better answer - r of the worse one). The reference is the base model.

    It is asked anew for each micro-batch, just before the model with its adapter is. That costs a forward pass without
    gradients a step, over a quarter of the time, and no memory: its logits are gone when the others are made. Answers
    kept from before the training would save it from the second epoch on. But their last bits depend on the micro-batch,
    which a lack of memory makes smaller: a run that is resumed, and asks anew, would end with other bytes.
    """

    #: As TRL names them. A reward is r above; accuracy is the share of pairs in which the better answer has the higher.
    names: tuple[str, ...] = ("rewards/chosen", "rewards/rejected", "rewards/accuracies", "rewards/margins")

    def __init__(self, beta: float) -> None:
        self._beta = beta

    def size(self, units: Sequence[Unit]) -> int:
        """Pairs."""
        return len(units)

    def __call__(self, model: Any, batch: MicroBatch) -> Sums:
        """See Objective. The first half of the batch are the better answers, the second half the worse ones."""
        with torch.no_grad(), _as_base(model):
            reference = _nll(model, batch, "none")
        # Token by token: the difference of two long sums would lose digits.
        ratios = torch.split(reference - _nll(model, batch, "none"), batch.supervised)
        rewards = self._beta * torch.stack([ratio.sum() for ratio in ratios])
        chosen, rejected = rewards.chunk(2)
        margins = chosen - rejected
        told = torch.stack([chosen, rejected, (margins > 0).float(), margins]).detach()
        return Sums(-functional.logsigmoid(margins).sum(), told.sum(1))


def _nll(model: Any, batch: MicroBatch, reduction: str) -> Tensor:
    """Negative log-likelihoods of the batch's supervised tokens, row by row or their sum; fp32, in nats."""
    logits = model(input_ids=batch.ids, attention_mask=batch.mask, use_cache=False).logits  # [B, T, V]
    targets = batch.labels[:, 1:]
    supervised = targets != IGNORED
    return functional.cross_entropy(logits[:, :-1][supervised].float(), targets[supervised], reduction=reduction)


@contextmanager
def _as_base(model: Any) -> Iterator[None]:
    """The model without its adapter, and without the dropout that a base model may have of its own."""
    training = model.training
    model.eval()
    try:
        with model.disable_adapter():
            yield
    finally:
        model.train(training)
