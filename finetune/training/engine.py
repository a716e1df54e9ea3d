"""One optimiser step, and one evaluation: the mathematics of training.

The loss of a step is a sum over its units, conversations or pairs of them, divided by what the objective counts,
tokens or pairs: the same value and the same gradients however the units are cut into micro-batches, and dealt to
processes.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from finetune.errors import Problem, TrainingError
from finetune.training import batches, recompute
from finetune.training.batches import Limits, MicroBatch
from finetune.training.examples import Unit
from finetune.training.objectives import Likelihood, Objective
from finetune.training.ranks import ALONE, Ranks
from finetune.training.request import Training
from finetune.training.schedule import stream
from finetune.training.stop import Interrupted


@dataclass(frozen=True)
class StepResult:
    """What one optimiser step measured."""

    #: The objective's mean, in nats, before the step's update.
    loss: float
    #: L2 norm of all gradients before clipping.
    grad_norm: float
    #: Real tokens of the units.
    tokens: int
    #: What the objective tells beside its loss, by its names, before the step's update.
    more: Mapping[str, float]


@dataclass(frozen=True)
class Measured:
    """The means over some units; of one process the part that the parts of all processes add up to."""

    #: In nats.
    loss: float
    #: As in StepResult.
    more: Mapping[str, float]
    #: Real tokens of the units.
    tokens: int


class Engine:
    """A model with an adapter and its optimiser. With `ranks` each process has one, and they take their steps together.

    Random numbers (dropout) are drawn from a seed of the step's own, so no generator's state outlives a step.
    `limits` may shrink when memory runs out, and belongs to a checkpoint like the optimiser's state.
    """

    def __init__(
        self,
        model: Any,
        training: Training,
        seed: int,
        pad_id: int,
        limits: Limits,
        *,
        objective: Objective | None = None,
        ranks: Ranks = ALONE,
    ) -> None:
        """`objective` None: supervised fine-tuning."""
        self.model = model
        # As the model comes it keeps its activations.
        self._limits = replace(limits, recompute=None)
        self._first = self.limits = limits
        #: Padded tokens that go through at once where nothing is learned; one unit may exceed it. None: as in a step.
        self._asked_at_once: int | None = None
        self._training = training
        self._seed = seed
        self._pad_id = pad_id
        self._objective: Objective = objective or Likelihood()
        self._ranks = ranks
        self._device = next(model.parameters()).device
        #: Trainable parameters by name, in the model's order.
        self.parameters: dict[str, nn.Parameter] = {
            name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad
        }
        self.optimizer = torch.optim.AdamW(
            self.parameters.values(), lr=training.learning_rate, weight_decay=training.weight_decay
        )

    @property
    def limits(self) -> Limits:
        """How much goes through the model at once, and what it keeps of it."""
        return self._limits

    @limits.setter
    def limits(self, limits: Limits) -> None:
        if bool(limits.recompute) != bool(self._limits.recompute):
            recompute.switch(self.model, bool(limits.recompute))
        self._limits = limits

    def step(
        self,
        units: Sequence[Unit],
        step: int,
        learning_rate: float,
        check: Callable[[], None],
        say: Callable[[str], None],
    ) -> StepResult:
        """Do optimiser step `step` (from 0) with all `units`, of which each process takes its share.

        Calls `check` after each micro-batch. If it raises Interrupted, in any process, that is raised in all of them,
        and nothing has changed. When memory runs out the step starts over with micro-batches half as large, and where
        one unit alone does not fit with activations made again instead of kept, if they may be; `say` is told.
        Raises TrainingError: E620 for a loss that is not finite, E621 when one unit alone does not fit even so.
        """
        self.model.train()
        while (measured := self._try_gradients(units, step, check, say)) is None:
            pass
        most = self._training.max_grad_norm or math.inf
        norm = nn.utils.clip_grad_norm_(list(self.parameters.values()), most).item()
        if not (math.isfinite(measured.loss) and math.isfinite(norm)):
            raise _diverged(step, measured.loss, norm)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.optimizer.step()
        self.optimizer.zero_grad()
        return StepResult(measured.loss, norm, measured.tokens, measured.more)

    def gradients(self, units: Sequence[Unit], step: int, check: Callable[[], None] = lambda: None) -> Measured:
        """Set the gradients of this process's share of the units' loss; returns its part of the means."""
        self.optimizer.zero_grad()
        torch.manual_seed(stream(self._seed, "dropout", step, *self._ranks.label))
        size = self._objective.size(units)
        total = self._nothing()
        tokens = 0
        for batch in self._share(units, check):
            loss, more = self._objective(self.model, batch)
            (loss / size).backward()  # type: ignore[no-untyped-call]
            total += torch.cat([loss.detach().reshape(1), more])
            tokens += batch.tokens
        return self._measured((total / size).tolist(), tokens)

    @torch.no_grad()
    def evaluate(
        self,
        units: Sequence[Unit],
        check: Callable[[], None] = lambda: None,
        say: Callable[[str], None] = lambda _: None,
    ) -> Measured:
        """The means over all units, without dropout. `check` as in `step`.

        When memory runs out a process goes on with half as many at once, here and in later evaluations, and `say` is
        told once. Steps stay as they are. Raises TrainingError (E621), in all processes, when one unit does not fit.
        """
        self.model.eval()
        at_once = self._asked_at_once
        total, tokens, stopped, too_long = self._nothing(), 0, False, False
        try:
            for sums, counted in self._asked(units, check):
                total += sums
                tokens += counted
        except Interrupted:
            stopped = True
        except _OneTooLong:
            too_long = True
        happened = (stopped, too_long, self._asked_at_once != at_once, tokens, *total.tolist())
        anyone_stopped, anyone_full, anyone_fewer, all_tokens, *means = self._ranks.total(happened)
        if anyone_stopped:
            raise Interrupted
        if anyone_full:
            raise _too_long_to_ask(max(unit.longest for unit in units))
        if anyone_fewer:
            say("out of memory with held-out rows: fewer of them at once from now on; the loss is the same")
        size = self._objective.size(units)
        return self._measured([each / size for each in means], int(all_tokens))

    def _asked(self, units: Sequence[Unit], check: Callable[[], None]) -> Iterator[tuple[Tensor, int]]:
        """Sums and tokens of this process's share, group by group; what did not fit comes in smaller ones.

        Calls `check` as `_share` does. Raises _OneTooLong.
        """
        left = batches.deal(units, self._ranks.count)[self._ranks.rank]
        if not left:
            check()
        while left:
            groups = batches.split(left, self._limits_of_asking())
            left = []
            for number, group in enumerate(groups):
                if (found := self._ask(group)) is None:
                    # Out here what the failed pass had made is freed.
                    self._ask_fewer(group)
                    left = [unit for rest in groups[number:] for unit in rest]
                    break
                yield found
                check()

    def _ask(self, group: Sequence[Unit]) -> tuple[Tensor, int] | None:
        """None: out of memory."""
        try:
            batch = batches.collate(group, self._pad_id, self._device)
            loss, more = self._objective(self.model, batch)
            return torch.cat([loss.reshape(1), more]), batch.tokens
        except RuntimeError as error:
            if not _is_out_of_memory(error):
                raise
            return None

    def _ask_fewer(self, group: Sequence[Unit]) -> None:
        if len(group) == 1:
            raise _OneTooLong
        # By tokens: short ones, of which more go together, may fit as they are.
        self._asked_at_once = max(len(unit.parts) * unit.longest for unit in group) * (len(group) // 2)
        self._free()

    def _limits_of_asking(self) -> Limits:
        bounds = [bound for bound in (self.limits.tokens, self._asked_at_once) if bound is not None]
        return replace(self.limits, tokens=min(bounds, default=None))

    def _nothing(self) -> Tensor:
        """Room for the sums of the loss and of what is told beside it."""
        return torch.zeros(1 + len(self._objective.names), dtype=torch.float64, device=self._device)

    def _measured(self, means: Sequence[float], tokens: int) -> Measured:
        return Measured(means[0], dict(zip(self._objective.names, means[1:], strict=True)), tokens)

    def _share(self, units: Sequence[Unit], check: Callable[[], None]) -> Iterator[MicroBatch]:
        """This process's share as micro-batches; calls `check` after each, or once when there is none."""
        groups = self._groups(units)[self._ranks.rank]
        for group in groups:
            yield batches.collate(group, self._pad_id, self._device)
            check()
        if not groups:
            check()

    def _groups(self, units: Sequence[Unit]) -> list[list[list[Unit]]]:
        return [batches.split(share, self.limits) for share in batches.deal(units, self._ranks.count)]

    def _try_gradients(
        self, units: Sequence[Unit], step: int, check: Callable[[], None], say: Callable[[str], None]
    ) -> Measured | None:
        """The means and gradients of the whole step.

        None when that failed for a reason that has been removed, so that another try may do.
        """
        part = self._measured(self._nothing().tolist(), 0)
        stopped = out_of_memory = unsteady = False
        try:
            part = self.gradients(units, step, check)
        except Interrupted:
            stopped = True
        except RuntimeError as error:  # torch.OutOfMemoryError is one
            out_of_memory = _is_out_of_memory(error)
            unsteady = "does not have a deterministic implementation" in str(error)
            if not (out_of_memory or unsteady):
                raise
        # Out here the failed pass, which the exception held, is freed.
        happened = (part.tokens, stopped, out_of_memory, unsteady, part.loss, *part.more.values())
        tokens, anyone_stopped, anyone_full, anyone_unsteady, *means = self._ranks.total(happened)
        if anyone_stopped:
            raise Interrupted
        if anyone_full:
            self._make_room(units, say)
        elif anyone_unsteady:
            torch.use_deterministic_algorithms(True, warn_only=True)
            say("the base model uses an operation that does not repeat exactly here: nor will this training")
        else:
            self._ranks.sum_gradients(list(self.parameters.values()))
            return self._measured(means, int(tokens))
        return None

    def _make_room(self, units: Sequence[Unit], say: Callable[[str], None]) -> None:
        rows = max(len(group) for groups in self._groups(units) for group in groups)
        if rows > 1:
            self.limits = replace(self.limits, rows=rows // 2)
            told = f"out of memory: micro-batches of at most {rows // 2} examples from now on"
        elif self.limits.recompute is None and recompute.possible(self.model):
            # With as many at once as at first: short ones go faster together, and that many may fit now.
            self.limits = replace(self._first, recompute=True)
            told = (
                "out of memory with a single example: from now on activations are made again for the backward pass "
                "instead of kept, and a step takes about half as long again"
            )
        else:
            raise _too_long(max(unit.longest for unit in units), self.limits)
        self.optimizer.zero_grad()
        self._free()
        say(f"{told}; the mathematics is the same")

    def _free(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.empty_cache()


class _OneTooLong(Exception):
    """Of one unit alone there is not memory enough to ask about it."""


def _is_out_of_memory(error: RuntimeError) -> bool:
    # The CPU's allocator has no exception class of its own.
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def _too_long(tokens: int, limits: Limits) -> TrainingError:
    made_again = {
        True: "activations are made again already",
        False: "local.gradient_checkpointing is false, so that activations are kept",
        None: "this base model has to keep its activations",
    }[limits.recompute]
    first = "write local: {gradient_checkpointing: auto}, " if limits.recompute is False else ""
    return TrainingError(
        Problem(
            code="E621",
            what=f"out of memory with a single example of up to {tokens} tokens",
            why=f"the micro-batch cannot be made smaller than one example, and {made_again}",
            fix=f"{first}lower training.max_seq_length or lora.r, use precision bf16, or a machine with more memory",
            field="training.max_seq_length",
        )
    )


def _too_long_to_ask(tokens: int) -> TrainingError:
    return TrainingError(
        Problem(
            code="E621",
            what=f"out of memory with a single held-out example of up to {tokens} tokens",
            why="held-out rows are measured one at a time already, and nothing is kept for a backward pass there",
            fix="lower training.max_seq_length or lora.r, use precision bf16, a machine with more memory, "
            "or shorter held-out rows",
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
