"""From units to padded tensors: which of them go through the model together, and what they weigh."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from finetune.memory import MOST_LOGITS, MOST_TOKENS
from finetune.training.examples import IGNORED, Unit


@dataclass(frozen=True)
class MicroBatch:
    """B conversations, padded on the right to T tokens: first the first ones of all units, then the second ones."""

    #: Token ids, int64 [B, T].
    ids: Tensor
    #: 1 for a token, 0 for padding; int64 [B, T].
    mask: Tensor
    #: The id where supervised, else IGNORED; int64 [B, T]. Not shifted.
    labels: Tensor
    #: Supervised tokens of each conversation.
    supervised: list[int]
    #: Real tokens in it, padding not counted.
    tokens: int


@dataclass(frozen=True)
class Limits:
    """How much goes through the model at once."""

    #: Units.
    rows: int
    #: Padded tokens; one unit may exceed it. None: no bound.
    tokens: int | None
    #: Whether activations are made again for the backward pass instead of kept (`training.recompute`); False: never.
    #: None: not yet, and as soon as one unit does not fit.
    recompute: bool | None = None


def limits(micro_batch_size: int | str, batch_size: int, vocabulary: int, recompute: bool | None = None) -> Limits:
    """The limits that a recipe's `micro_batch_size` stands for."""
    if isinstance(micro_batch_size, int):
        return Limits(min(micro_batch_size, batch_size), None, recompute)
    return Limits(batch_size, min(MOST_TOKENS, max(1, MOST_LOGITS // vocabulary)), recompute)


def split(units: Sequence[Unit], limits: Limits) -> list[list[Unit]]:
    """All units, longest first to pad little, in groups within the limits. Every group has at least one."""
    groups: list[list[Unit]] = []
    for unit in sorted(units, key=lambda unit: -unit.longest):
        group = groups[-1] if groups else []
        grown = (len(group) + 1) * len(unit.parts) * (group or [unit])[0].longest
        if not group or len(group) == limits.rows or (limits.tokens is not None and grown > limits.tokens):
            groups.append([unit])
        else:
            group.append(unit)
    return groups


def deal(units: Sequence[Unit], count: int) -> list[list[Unit]]:
    """All units in `count` shares of about as many tokens: longest first, back and forth. Some may be empty."""
    shares: list[list[Unit]] = [[] for _ in range(count)]
    for number, unit in enumerate(sorted(units, key=lambda unit: -unit.tokens)):
        turn, place = divmod(number, count)
        shares[place if turn % 2 == 0 else count - 1 - place].append(unit)
    return shares


def collate(group: Sequence[Unit], pad_id: int, device: torch.device) -> MicroBatch:
    """The group as tensors on `device`."""
    rows = [part for place in zip(*(unit.parts for unit in group), strict=True) for part in place]
    ids = torch.full((len(rows), max(row.tokens for row in rows)), pad_id, dtype=torch.int64)
    labels = torch.full_like(ids, IGNORED)
    mask = torch.zeros_like(ids)
    for number, row in enumerate(rows):
        ids[number, : row.tokens] = row.ids
        labels[number, : row.tokens] = row.labels
        mask[number, : row.tokens] = 1
    supervised, tokens = [row.supervised for row in rows], sum(row.tokens for row in rows)
    return MicroBatch(ids.to(device), mask.to(device), labels.to(device), supervised, tokens)
