"""How long a training takes on cards whose speed is published: its operations, over a share of that speed.

A multiplication and an addition are two operations. Per token and parameter of a matrix the forward pass needs 2, the
gradient of its input 2, its own gradient 2: a LoRA leaves the last out for all but itself. Attention needs 4 a feature
of the queries and token that is looked at, and twice that backwards (PaLM, arXiv 2204.02311, appendix B).

Where activations are made again, all layers, but not the head, go forwards once more (Korthikanti et al., arXiv
2205.05198: 4 for 3 where everything is learned). A LoRA's pass and back is 2 and 2 a parameter, so that it is 6 for 4,
less the head's part: 1.38 to 1.47 times for Qwen of 1.8B to 14B. Processors took 1.27 to 1.51 times as long
(`python -m tests.bench.memory recomputed`).
"""

import math
from dataclasses import dataclass, replace
from typing import Final

from finetune.memory.need import MOST_LOGITS, MOST_TOKENS, Kind, Work, need
from finetune.memory.shape import Layer, Shape

#: Of a card's published speed, the share that trainings reach that have enough to do at once; operations that are done
#: again count. LoRA of Qwen 7B and 14B on an A100: 23 to 55 % by these formulas (github.com/QwenLM/Qwen, README,
#: "Profiling of Memory and Speed"; the tests hold that table against them. finetune/finetune_lora_single_gpu.sh there
#: makes activations again, and the table's memory is that of it). Full training of 0.8B to 70B on H100 in bf16, made
#: again or not: 32 to 59 % (github.com/mosaicml/llm-foundry, scripts/train/benchmarking, HFU).
SHARE: Final = (0.2, 0.6)
#: What a row is reckoned to hold may be off by that share (`tests/flow/training/test_memory.py`).
OFF: Final = 0.1
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
    #: Bytes of the smallest and of the largest. None: enough.
    memory: tuple[int, int] | None = None


def seconds(shape: Shape, work: Work, load: Load, fleet: Fleet) -> tuple[float, float]:
    """At least and at most, from its start to its end. Of a model with experts no share is published: not for those."""
    low, high = (min(each, _sequences(work, load) * work.longest) for each in load.tokens)
    padded = high * max(1.0, min(PADDED, _sequences(work, load) * work.longest / max(1, high)))
    surely, perhaps = (replace(work, recompute=again) for again in recomputes(shape, work, load, fleet))
    # Causal attention looks at half of a sequence on average; a kernel may reckon all of the longest one.
    least = operations(shape, surely, load, low / _sequences(work, load) / 2) * low
    most = operations(shape, perhaps, load, work.longest) * padded
    slowest, fastest = (each * 1e12 * fleet.count for each in fleet.tflops)
    first, last = START_S
    passing = _passes(shape, work, load, padded / fleet.count) * PASS_S
    return least / (fastest * SHARE[1]) + first, most / (slowest * SHARE[0]) + passing + last


def recomputes(shape: Shape, work: Work, load: Load, fleet: Fleet) -> tuple[bool, bool]:
    """Whether activations are made again for the backward pass: surely, and perhaps.

    Surely where not even a row of mean length fits the largest card with all of them kept: of the longest one nobody
    knows when its turn comes. Perhaps where the longest may not fit the smallest.
    """
    if work.recompute is not None or fleet.memory is None:
        return bool(work.recompute), bool(work.recompute)
    mean = min(work.longest, load.tokens[0] // _sequences(work, load))
    smallest, largest = fleet.memory
    least, most = (need(shape, Kind.LORA, replace(work, longest=each)) for each in (mean, work.longest))
    return (
        least.weights + least.trained + least.least * (1 - OFF) > largest,
        most.weights + most.trained + most.least * (1 + OFF) > smallest,
    )


def operations(shape: Shape, work: Work, load: Load, looked_at: float) -> float:
    """Of a token in all epochs, its part of what is measured included, where it looks at so many others."""
    head = 2 * shape.hidden * shape.vocabulary
    matrices = 2 * multiplied(shape)
    attention = sum(4 * looked_at * _queries(layer) * count for layer, count in shape.layers)
    adapter = 2 * shape.lora(work.rank, work.modules)
    base = matrices + attention
    forward = base + adapter + (base if load.reference else 0)
    backward = matrices + 2 * attention + 2 * adapter
    if work.recompute:
        backward += base - head + adapter
    return load.epochs * (forward + backward + forward * load.held_back / max(1, load.rows))


def _sequences(work: Work, load: Load) -> int:
    """Of an epoch."""
    return max(1, load.rows * work.sequences)


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
