"""What a training holds at its peak: weights, what is trained, and what the backward pass needs of the forward one.

Formulas follow the tensors that `training.engine` keeps with torch 2.13 and transformers 5.23. What the driver takes
for itself (some hundred MB), and what is lost between blocks, comes on top and is not reckoned.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Literal

from finetune.memory.shape import Layer, Shape, Unknown

#: Bytes of a trained number: itself, its gradient, and two moments of AdamW, all fp32. In mixed precision as many:
#: itself and its gradient in bf16, an fp32 copy, and the moments.
_TRAINED: Final = 16
#: Of a number in 4 bits: NF4 in blocks of 64 with an fp32 scale each, as bitsandbytes keeps it by default.
_NF4: Final = 0.5 + 4 / 64
#: Most padded tokens, and most logits, that go through a model at once where nobody says otherwise: 2^28 logits are
#: 1 GiB of fp32, which the backward pass needs a few times over.
MOST_TOKENS: Final = 8192
MOST_LOGITS: Final = 2**28
#: Bytes of a logit at the peak: its log-probability and that one's gradient in fp32, and its gradient as it came.
_LOGIT: Final = 12


class Kind(StrEnum):
    """What is trained."""

    #: An adapter on the base as it is: what ft trains.
    LORA = "lora"
    #: An adapter on the base in 4 bits.
    QLORA = "qlora"
    #: All parameters.
    FULL = "full"


@dataclass(frozen=True, kw_only=True)
class Work:
    """What is to be done with the model."""

    precision: Literal["fp32", "bf16"]
    #: Of the adapter.
    rank: int
    #: Names of its layers; None: all linear ones.
    modules: tuple[str, ...] | None
    dropout: bool
    #: Tokens of the longest row, and rows of a step.
    longest: int
    rows: int
    #: Rows at once; None: by their tokens.
    at_once: int | None = None
    #: Sequences of a row that go through the model together: 2 for preferences.
    sequences: int = 1
    #: Whether activations are made again for the backward pass instead of kept. None: when one row does not fit.
    recompute: bool | None = None


@dataclass(frozen=True, kw_only=True)
class Need:
    """Bytes of one card."""

    kind: Kind
    weights: int
    #: Adapter or copy of the weights in fp32, gradients, the optimiser's moments.
    trained: int
    #: Activations and logits of one row.
    least: int
    #: Of as many rows as go through the model at once where memory suffices.
    most: int
    #: Of one row whose activations are made again, which is done when one does not fit. None: `least` and `most` say
    #: it, as that is always done, or never.
    again: int | None = None

    @property
    def low(self) -> int:
        """What it cannot do without: when memory runs out the trainer takes fewer rows at once, and keeps less."""
        return self.weights + self.trained + (self.least if self.again is None else min(self.least, self.again))

    @property
    def high(self) -> int:
        """What it takes where there is enough."""
        return self.weights + self.trained + self.most


def need(shape: Shape, kind: Kind, work: Work) -> Need:
    """What this training needs. Raises Unknown where that is not known of the kind."""
    experts = any(layer.experts for layer, _ in shape.layers)
    if kind is Kind.QLORA and experts:
        raise Unknown("experts that are kept in one tensor are not loaded in 4 bits")
    wide = 4 if work.precision == "fp32" else 2
    if kind is Kind.FULL:
        weights = shape.parameters * wide
        trained = shape.parameters * _TRAINED - weights
    else:
        # Beside 4 bits stand bf16, and the widest layer as it is taken apart.
        small = shape.linear if kind is Kind.QLORA else 0
        widest = max(each.inputs * each.outputs for layer, _ in shape.layers for each in layer.linears)
        rest = (shape.parameters - small) * (wide if kind is Kind.LORA else 2)
        weights = rest + round(small * _NF4) + (2 * widest if kind is Kind.QLORA else 0)
        wide = wide if kind is Kind.LORA else 2
        trained = _TRAINED * shape.lora(work.rank, work.modules)
    one = work.longest * work.sequences
    if work.at_once is None:
        most = max(one, min(MOST_TOKENS, MOST_LOGITS // shape.vocabulary, one * work.rows))
    else:
        most = one * min(work.at_once, work.rows)
    kept, again = _kept(shape, kind, work, wide), _again(shape, kind, work, wide)
    held = again if work.recompute else kept
    spare = one * again if work.recompute is None else None
    return Need(kind=kind, weights=weights, trained=trained, least=one * held, most=most * held, again=spare)


def _kept(shape: Shape, kind: Kind, work: Work, wide: int) -> int:
    """Bytes a token, of all layers and the head."""
    held = sum(_held(layer, shape, kind, work, wide) * count for layer, count in shape.layers)
    return held + _last(shape, kind, wide) + _LOGIT * shape.vocabulary


def _again(shape: Shape, kind: Kind, work: Work, wide: int) -> int:
    """The same where each layer's activations are made again for its backward pass: what all layers have read, and
    what is there of the logits, or of one layer, whichever is more.
    """
    read = shape.hidden * wide * sum(count for _, count in shape.layers)
    layer = max(_held(each, shape, kind, work, wide) + _passing(each, kind, work, wide) for each, _ in shape.layers)
    return read + max(_last(shape, kind, wide) + _LOGIT * shape.vocabulary, layer)


def _last(shape: Shape, kind: Kind, wide: int) -> int:
    """A trained head needs what it has read, and the last norm what it has made."""
    return shape.hidden * (4 + 2 * wide) * (kind is Kind.FULL)


def _passing(layer: Layer, kind: Kind, work: Work, wide: int) -> int:
    """Bytes a token of the gradients that pass through a layer, at most at once.

    Those of the adapter's widest answer are there in the model's numbers, in fp32, and scaled; dropout makes two more.
    """
    narrow = kind is not Kind.FULL and wide == 2
    passing = max(each.outputs for each in layer.linears) * (10 if narrow else wide)
    if narrow and work.dropout:
        passing += 8 * max(each.inputs for each in layer.linears)
    if experts := layer.experts:
        # They add up in fp32: each token once for each expert that it goes through.
        passing = max(passing, 8 * experts.active * (experts.hidden + experts.width))
    return passing


def _held(layer: Layer, shape: Shape, kind: Kind, work: Work, wide: int) -> int:
    """Bytes a token that the backward pass needs of this layer."""
    full = kind is Kind.FULL
    # Norms reckon in fp32, and trained ones need their output too. Of the gate: both halves, and one activated.
    held = layer.norms * (4 + wide * full) + layer.attention * wide + 3 * layer.inner * wide
    # A capped score is kept in fp32 too, and what made it.
    held += (8 * layer.capped + wide * layer.sinks) * work.longest
    if experts := layer.experts:
        held += experts.active * ((experts.keeps + full) * experts.width + (1 + full) * shape.hidden) * wide
    adapted = () if full else layer.adapted(work.modules)
    held += 4 * work.rank * len(adapted)
    if full or wide == 4:
        # One tensor for all that read it; the answer of attention is there already.
        readers = {each.reads: each.inputs for each in (layer.linears if full else adapted) if each.reads != "answer"}
        held += sum(readers.values()) * wide
    else:
        # The adapter is fp32: each of its layers makes itself a copy.
        held += sum(each.inputs for each in adapted) * 4
    if work.dropout and not full:
        # What was left for each layer, and where.
        held += sum(each.inputs for each in adapted) * (5 if wide == 4 else 1)
    return held
