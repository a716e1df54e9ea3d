"""One optimiser step, and one evaluation: the mathematics of training.

The loss of a step is the sum of the negative log-likelihoods of all supervised tokens of its examples, divided by their
number: the same value and the same gradients however the examples are cut into micro-batches, and dealt to processes.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from finetune.errors import Problem, TrainingError
from finetune.training import batches
from finetune.training.batches import Limits, MicroBatch
from finetune.training.examples import IGNORED, Example
from finetune.training.ranks import ALONE, Ranks
from finetune.training.request import Training
from finetune.training.schedule import stream
from finetune.training.stop import Interrupted


@dataclass(frozen=True)
class StepResult:
    """What one optimiser step measured."""

    #: Mean negative log-likelihood per supervised token, in nats, before the step's update.
    loss: float
    #: L2 norm of all gradients before clipping.
    grad_norm: float
    #: Real tokens that went through the model.
    tokens: int


def nll_sum(model: Any, batch: MicroBatch) -> Tensor:
    """Sum of the negative log-likelihoods of the batch's supervised tokens, fp32 scalar, in nats."""
    logits = model(input_ids=batch.ids, attention_mask=batch.mask, use_cache=False).logits  # [B, T, V]
    targets = batch.labels[:, 1:]
    supervised = targets != IGNORED
    return functional.cross_entropy(logits[:, :-1][supervised].float(), targets[supervised], reduction="sum")


class Engine:
    """A model with an adapter and its optimiser. With `ranks` each process has one, and they take their steps together.

    Random numbers (dropout) are drawn from a seed of the step's own, so no generator's state outlives a step.
    `limits` may shrink when memory runs out, and belongs to a checkpoint like the optimiser's state.
    """

    def __init__(
        self, model: Any, training: Training, seed: int, pad_id: int, limits: Limits, *, ranks: Ranks = ALONE
    ) -> None:
        self.model = model
        self.limits = limits
        self._training = training
        self._seed = seed
        self._pad_id = pad_id
        self._ranks = ranks
        self._device = next(model.parameters()).device
        #: Trainable parameters by name, in the model's order.
        self.parameters: dict[str, nn.Parameter] = {
            name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad
        }
        self.optimizer = torch.optim.AdamW(
            self.parameters.values(), lr=training.learning_rate, weight_decay=training.weight_decay
        )

    def step(
        self,
        examples: Sequence[Example],
        step: int,
        learning_rate: float,
        check: Callable[[], None],
        say: Callable[[str], None],
    ) -> StepResult:
        """Do optimiser step `step` (from 0) with all `examples`, of which each process takes its share.

        Calls `check` after each micro-batch. If it raises Interrupted, in any process, that is raised in all of them,
        and nothing has changed. When memory runs out the step starts over with micro-batches half as large, and `say`
        is told.
        Raises TrainingError: E620 for a loss that is not finite, E621 when one example alone does not fit.
        """
        self.model.train()
        while (measured := self._try_gradients(examples, step, check, say)) is None:
            pass
        loss, tokens = measured
        most = self._training.max_grad_norm or math.inf
        norm = nn.utils.clip_grad_norm_(list(self.parameters.values()), most).item()
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise _diverged(step, loss, norm)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.optimizer.step()
        self.optimizer.zero_grad()
        return StepResult(loss, norm, tokens)

    def gradients(
        self, examples: Sequence[Example], step: int, check: Callable[[], None] = lambda: None
    ) -> tuple[float, int]:
        """Set the gradients of this process's share of the examples' loss.

        Returns its part of the loss, which the parts of all processes add up to, and its number of real tokens.
        """
        self.optimizer.zero_grad()
        torch.manual_seed(stream(self._seed, "dropout", step, *self._ranks.label))
        supervised = sum(example.supervised for example in examples)
        total = torch.zeros((), dtype=torch.float64, device=self._device)
        tokens = 0
        for batch in self._share(examples, check):
            nll = nll_sum(self.model, batch)
            (nll / supervised).backward()  # type: ignore[no-untyped-call]
            total += nll.detach()
            tokens += batch.tokens
        return total.item() / supervised, tokens

    @torch.no_grad()
    def evaluate(self, examples: Sequence[Example], check: Callable[[], None] = lambda: None) -> float:
        """Mean negative log-likelihood per supervised token, in nats, without dropout. `check` as in `step`."""
        self.model.eval()
        total, stopped = 0.0, False
        try:
            for batch in self._share(examples, check):
                total += nll_sum(self.model, batch).item()
        except Interrupted:
            stopped = True
        total, anyone_stopped = self._ranks.total((total, stopped))
        if anyone_stopped:
            raise Interrupted
        return total / sum(example.supervised for example in examples)

    def _share(self, examples: Sequence[Example], check: Callable[[], None]) -> Iterator[MicroBatch]:
        """This process's share as micro-batches; calls `check` after each, or once when there is none."""
        groups = self._groups(examples)[self._ranks.rank]
        for group in groups:
            yield batches.collate(group, self._pad_id, self._device)
            check()
        if not groups:
            check()

    def _groups(self, examples: Sequence[Example]) -> list[list[list[Example]]]:
        return [batches.split(share, self.limits) for share in batches.deal(examples, self._ranks.count)]

    def _try_gradients(
        self, examples: Sequence[Example], step: int, check: Callable[[], None], say: Callable[[str], None]
    ) -> tuple[float, int] | None:
        """Loss, tokens and gradients of the whole step.

        None when that failed for a reason that has been removed, so that another try may do.
        """
        loss, tokens = 0.0, 0.0
        stopped = out_of_memory = unsteady = False
        try:
            loss, tokens = self.gradients(examples, step, check)
        except Interrupted:
            stopped = True
        except RuntimeError as error:  # torch.OutOfMemoryError is one
            out_of_memory = _is_out_of_memory(error)
            unsteady = "does not have a deterministic implementation" in str(error)
            if not (out_of_memory or unsteady):
                raise
        # Out here the failed pass, which the exception held, is freed.
        happened = self._ranks.total((loss, tokens, stopped, out_of_memory, unsteady))
        loss, tokens, anyone_stopped, anyone_full, anyone_unsteady = happened
        if anyone_stopped:
            raise Interrupted
        if anyone_full:
            self._halve(examples, say)
        elif anyone_unsteady:
            torch.use_deterministic_algorithms(True, warn_only=True)
            say("the base model uses an operation that does not repeat exactly here: nor will this training")
        else:
            self._ranks.sum_gradients(list(self.parameters.values()))
            return loss, int(tokens)
        return None

    def _halve(self, examples: Sequence[Example], say: Callable[[str], None]) -> None:
        rows = max(len(group) for groups in self._groups(examples) for group in groups)
        if rows == 1:
            raise _too_long(max(len(example.ids) for example in examples))
        self.limits = replace(self.limits, rows=rows // 2)
        self.optimizer.zero_grad()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        say(f"out of memory: micro-batches of at most {rows // 2} examples from now on; the mathematics is the same")


def _is_out_of_memory(error: RuntimeError) -> bool:
    # The CPU's allocator has no exception class of its own.
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def _too_long(tokens: int) -> TrainingError:
    return TrainingError(
        Problem(
            code="E621",
            what=f"out of memory with a single example of up to {tokens} tokens",
            why="the micro-batch cannot be made smaller than one example",
            fix="lower training.max_seq_length or lora.r, use precision bf16, or a machine with more memory",
            field="training.max_seq_length",
        )
    )


def _diverged(step: int, loss: float, norm: float) -> TrainingError:
    return TrainingError(
        Problem(
            code="E620",
            what=f"training diverged at step {step + 1}: loss {loss:g}, gradient norm {norm:g}",
            why="the adapter would be useless from here on",
            fix="lower training.learning_rate (a tenth is a good next try), raise training.warmup_ratio, "
            "or use precision fp32",
            field="training.learning_rate",
        )
    )
