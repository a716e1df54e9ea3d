"""How long a training takes on cards whose speed is published: its operations, over a share of that speed.

A multiplication and an addition are two operations. Per token and parameter of a matrix the forward pass needs 2, the
gradient of its input 2, its own gradient 2: a LoRA leaves the last out for all but itself. Attention needs 4 a feature
of the queries and token that is looked at, and twice that backwards (PaLM, arXiv 2204.02311, appendix B). Activations
that are made again backwards are not counted: the shares below are of trainings that make them again, and of others.
"""

import math
from dataclasses import dataclass
from typing import Final

from finetune.memory.need import MOST_LOGITS, MOST_TOKENS, Work
from finetune.memory.shape import Layer, Shape

#: Of a card's published speed, the share that trainings reach that have enough to do at once. LoRA of Qwen 7B and 14B
#: on an A100: 16 to 38 % by these formulas (github.com/QwenLM/Qwen, README, "Profiling of Memory and Speed"; the tests
#: hold that table against them). Full training of 0.8B to 70B on H100 in bf16: 26 to 46 %
#: (github.com/mosaicml/llm-foundry, scripts/train/benchmarking).
SHARE: Final = (0.15, 0.5)
#: Seconds that one pass through a layer and back takes at most, however little there is to do: so long the table of
#: Qwen stays where it is below 1,024 tokens (1.8B: 1.0 s for 8 passes through 24 layers).
PASS_S: Final = 0.0055
#: Seconds until the first step: a small model that was just loaded, and a large one off a cold disk.
START_S: Final = (4.0, 60.0)
#: Padded tokens for each real one, at most: batches of 8 chats, unsorted, have 1.94.
PADDED: Final = 2.0


@dataclass(frozen=True, kw_only=True)
class Load:
    """What goes through the model."""

    #: Rows of an epoch, and rows that are measured after each.
    rows: int
    held_back: int
    epochs: int
    #: Of an epoch, all its sequences, at least and at most; before rows are cut.
    tokens: tuple[int, int]
    #: Whether the base model is asked for each row as well, to compare with.
    reference: bool = False


@dataclass(frozen=True, kw_only=True)
class Fleet:
    """The cards that take part, alike or not known which."""

    count: int
    #: 10^12 operations a second of the slowest and the fastest that it can be.
    tflops: tuple[float, float]


def seconds(shape: Shape, work: Work, load: Load, fleet: Fleet) -> tuple[float, float]:
    """At least and at most, from its start to its end. Of a model with experts no share is published: not for those."""
    sequences = max(1, load.rows * work.sequences)
    low, high = (min(each, sequences * work.longest) for each in load.tokens)
    padded = high * max(1.0, min(PADDED, sequences * work.longest / max(1, high)))
    # Causal attention looks at half of a sequence on average; a kernel may reckon all of the longest one.
    least = operations(shape, work, load, low / sequences / 2) * low
    most = operations(shape, work, load, work.longest) * padded
    slowest, fastest = (each * 1e12 * fleet.count for each in fleet.tflops)
    first, last = START_S
    passing = _passes(shape, work, load, padded / fleet.count) * PASS_S
    return least / (fastest * SHARE[1]) + first, most / (slowest * SHARE[0]) + passing + last


def operations(shape: Shape, work: Work, load: Load, looked_at: float) -> float:
    """Of a token in all epochs, its part of what is measured included, where it looks at so many others."""
    matrices = 2 * multiplied(shape)
    attention = sum(4 * looked_at * _queries(layer) * count for layer, count in shape.layers)
    adapter = 2 * shape.lora(work.rank, work.modules)
    base = matrices + attention
    forward = base + adapter + (base if load.reference else 0)
    backward = matrices + 2 * attention + 2 * adapter
    return load.epochs * (forward + backward + forward * load.held_back / max(1, load.rows))


def multiplied(shape: Shape) -> int:
    """Parameters of matrices that a token goes through, the head's included."""
    return shape.linear + shape.hidden * shape.vocabulary


def _queries(layer: Layer) -> int:
    """Features of the queries, which are those of the answer."""
    return sum(each.inputs for each in layer.linears if each.reads == "answer")


def _passes(shape: Shape, work: Work, load: Load, tokens: float) -> float:
    """Through a layer and back, all layers and epochs, at most; of so many padded tokens of an epoch."""
    batches = math.ceil(load.rows / work.rows)
    if work.at_once is None:
        at_once = max(work.longest * work.sequences, min(MOST_TOKENS, MOST_LOGITS // shape.vocabulary))
        groups = batches + tokens / at_once
    else:
        groups = batches * math.ceil(work.rows / work.at_once)
    # Forwards alone is a third.
    asked = 1 + load.reference / 3 + (1 + load.reference) / 3 * load.held_back / max(1, load.rows)
    return min(groups, load.rows) * asked * load.epochs * sum(count for _, count in shape.layers)
