"""The layers of a model: their sizes, and which of them can have a LoRA.

Sizes are numbers of parameters or of features. `config` reads them from a config.json.
"""

from dataclasses import dataclass
from typing import NamedTuple


class Unknown(Exception):
    """Of this model nothing can be said; why, in a few words for people."""


class Linear(NamedTuple):
    """A linear layer. A LoRA of rank r on it has r * (inputs + outputs) parameters."""

    #: As the last part of its path.
    name: str
    inputs: int
    outputs: int
    #: Numbers that its input shares with another layer's need not be held twice: the input that it shares.
    reads: str
    bias: bool = False
    #: Whether it can have a LoRA. Experts in one tensor cannot, nor can a layer that has the name of one of theirs
    #: (`training.adapter.target_modules`).
    adapts: bool = True

    @property
    def parameters(self) -> int:
        """Weight and bias."""
        return self.inputs * self.outputs + self.outputs * self.bias


@dataclass(frozen=True, kw_only=True)
class Experts:
    """Those of one layer, all in one tensor: no LoRA is laid on them."""

    count: int
    #: How many a token goes through.
    active: int
    hidden: int
    width: int
    #: Whether what chooses among them has a bias for each.
    biased: bool = False
    #: Whether their layers have.
    biases: bool = False
    #: Features of their width that are kept of a token.
    keeps: int = 3

    @property
    def parameters(self) -> int:
        """Of all of them, and of what chooses among them."""
        biases = (2 * self.width + self.hidden) * self.biases
        return self.count * (3 * self.hidden * self.width + biases + self.hidden + self.biased)


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One of a model's layers."""

    linears: tuple[Linear, ...]
    #: Features that its norms go over, all together, and parameters that they have.
    norms: int
    norm_weights: int
    #: Features of a token's query, key, value and answer in attention, together.
    attention: int
    #: Heads that keep a number for each pair of tokens: the score before and after its cap; and the score alone, of
    #: heads with a weight that takes part of it.
    capped: int
    sinks: int
    #: Features between the two halves of the dense feed-forward part, over all such parts; 0: there is none.
    inner: int
    experts: Experts | None = None

    @property
    def parameters(self) -> int:
        """All of the layer's."""
        dense = sum(each.parameters for each in self.linears) + self.norm_weights + self.sinks
        return dense + (self.experts.parameters if self.experts else 0)

    def adapted(self, wanted: "tuple[str, ...] | None") -> tuple[Linear, ...]:
        """Those that get a LoRA, of these names or of all."""
        return tuple(each for each in self.linears if each.adapts and (wanted is None or each.name in wanted))


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A model."""

    family: str
    hidden: int
    vocabulary: int
    #: Kinds of layers, and how many there are of each.
    layers: tuple[tuple[Layer, int], ...]
    #: Whether input and output of the vocabulary are one tensor.
    tied: bool
    #: Tokens of one sequence; None: the config does not say.
    context: int | None
    #: Parameters beside layers and vocabulary: the last norm, and what only images go through.
    rest: int

    @property
    def parameters(self) -> int:
        """All there are."""
        inner = sum(layer.parameters * count for layer, count in self.layers)
        return inner + self.vocabulary * self.hidden * (1 if self.tied else 2) + self.rest

    @property
    def linear(self) -> int:
        """Those in linear layers, without the head: what 4-bit loading makes small."""
        return sum(each.inputs * each.outputs * count for layer, count in self.layers for each in layer.linears)

    def lora(self, rank: int, wanted: tuple[str, ...] | None) -> int:
        """Parameters of a LoRA of this rank on the layers of these names; None: on all."""
        return sum(
            rank * (each.inputs + each.outputs) * count
            for layer, count in self.layers
            for each in layer.adapted(wanted)
        )
