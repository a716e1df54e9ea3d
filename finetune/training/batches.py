"""From examples to padded tensors: which examples go through the model together, and what they weigh."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from finetune.training.examples import IGNORED, Example

#: Most padded tokens in an automatic micro-batch, where the vocabulary does not set a tighter bound.
_MOST_TOKENS = 8192
#: Most logits in an automatic micro-batch: 1 GiB of fp32, which the backward pass needs a few times over.
_MOST_LOGITS = 2**28


@dataclass(frozen=True)
class MicroBatch:
    """B examples, padded on the right to T tokens."""

    #: Token ids, int64 [B, T].
    ids: Tensor
    #: 1 for a token, 0 for padding; int64 [B, T].
    mask: Tensor
    #: The id where supervised, else IGNORED; int64 [B, T]. Not shifted.
    labels: Tensor
    #: Real tokens in it, padding not counted.
    tokens: int


@dataclass(frozen=True)
class Limits:
    """How much goes through the model at once."""

    #: Examples.
    rows: int
    #: Padded tokens; one example may exceed it. None: no bound.
    tokens: int | None


def limits(micro_batch_size: int | str, batch_size: int, vocabulary: int) -> Limits:
    """The limits that a recipe's `micro_batch_size` stands for."""
    if isinstance(micro_batch_size, int):
        return Limits(min(micro_batch_size, batch_size), None)
    return Limits(batch_size, min(_MOST_TOKENS, max(1, _MOST_LOGITS // vocabulary)))


def split(examples: Sequence[Example], limits: Limits) -> list[list[Example]]:
    """All examples, longest first to pad little, in groups within the limits. Every group has at least one."""
    groups: list[list[Example]] = []
    for example in sorted(examples, key=lambda example: -len(example.ids)):
        group = groups[-1] if groups else []
        grown = (len(group) + 1) * len((group or [example])[0].ids)
        if not group or len(group) == limits.rows or (limits.tokens is not None and grown > limits.tokens):
            groups.append([example])
        else:
            group.append(example)
    return groups


def deal(examples: Sequence[Example], count: int) -> list[list[Example]]:
    """All examples in `count` shares of about as many tokens: longest first, back and forth. Some may be empty."""
    shares: list[list[Example]] = [[] for _ in range(count)]
    for number, example in enumerate(sorted(examples, key=lambda example: -len(example.ids))):
        turn, place = divmod(number, count)
        shares[place if turn % 2 == 0 else count - 1 - place].append(example)
    return shares


def collate(group: Sequence[Example], pad_id: int, device: torch.device) -> MicroBatch:
    """The group as tensors on `device`."""
    lengths = [len(example.ids) for example in group]
    ids = torch.full((len(group), max(lengths)), pad_id, dtype=torch.int64)
    labels = torch.full_like(ids, IGNORED)
    mask = torch.zeros_like(ids)
    for row, (example, length) in enumerate(zip(group, lengths, strict=True)):
        ids[row, :length] = example.ids
        labels[row, :length] = example.labels
        mask[row, :length] = 1
    return MicroBatch(ids.to(device), mask.to(device), labels.to(device), sum(lengths))
