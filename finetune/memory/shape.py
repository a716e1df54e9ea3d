"""The layers of a model, by its config.json: their sizes, and which of them can have a LoRA.

The families of `_FAMILIES` are known; of others nothing is said. Sizes are numbers of parameters or of features.
Source: the modules that `transformers` 5.23 builds of such a config; the tests count them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple


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

    @property
    def parameters(self) -> int:
        """Of all of them, and of what chooses among them."""
        return self.count * (3 * self.hidden * self.width + self.hidden + self.biased)


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One of a model's layers."""

    linears: tuple[Linear, ...]
    #: Features that its norms go over, all together, and parameters that they have.
    norms: int
    norm_weights: int
    #: Features of a token's query, key, value and answer in attention, together.
    attention: int
    #: Features between the two halves of the dense feed-forward part, over all such parts; 0: there is none.
    inner: int
    experts: Experts | None = None

    @property
    def parameters(self) -> int:
        """All of the layer's."""
        dense = sum(each.parameters for each in self.linears) + self.norm_weights
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

    @property
    def parameters(self) -> int:
        """All there are."""
        inner = sum(layer.parameters * count for layer, count in self.layers)
        return inner + self.vocabulary * self.hidden * (1 if self.tied else 2) + self.hidden

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


@dataclass(frozen=True)
class _Family:
    """What a config does not say."""

    #: Norms over the hidden features in a layer.
    norms: int = 2
    #: Whether queries and keys have norms of their own, a head each.
    head_norms: bool = False
    #: Whether queries, keys and values have biases; None: as the config's `attention_bias` says.
    qkv_bias: bool | None = None
    #: One layer for all three, and one for both halves of the gate.
    fused: bool = False
    tied: bool = False
    #: Whether what chooses among experts has a bias for each.
    biased_choice: bool = False


_LLAMA: Final = _Family()
_QWEN3: Final = _Family(head_norms=True)
_FAMILIES: Final[Mapping[str, _Family]] = {
    "llama": _LLAMA,
    "mistral": _Family(qkv_bias=False),
    "qwen2": _Family(qkv_bias=True),
    "qwen3": _QWEN3,
    "phi3": _Family(fused=True, qkv_bias=False),
    "granite": _LLAMA,
    "smollm3": _LLAMA,
    "gemma3_text": _Family(norms=4, head_norms=True, tied=True),
    "cohere": _Family(norms=1, tied=True),
    "cohere2": _Family(norms=1, tied=True),
    "mixtral": _Family(qkv_bias=False),
    "qwen3_moe": _QWEN3,
    "deepseek_v3": _Family(biased_choice=True),
}


def read(config: Mapping[str, Any]) -> Shape:
    """The shape of a model with this config.json. Raises Unknown."""
    family = str(config.get("model_type"))
    if family not in _FAMILIES:
        inner = config.get("text_config")
        if isinstance(inner, Mapping):
            raise Unknown(f"{family} reads more than text, and its memory is not known")
        raise Unknown(f"the memory of models of the kind {family} is not known")
    try:
        return _Reader(config, family).shape()
    except (KeyError, TypeError, ValueError) as error:
        raise Unknown(f"its config.json has no usable {error.args[0] if error.args else 'sizes'}") from None


class _Reader:
    """One config."""

    def __init__(self, config: Mapping[str, Any], family: str) -> None:
        self._config, self._name, self._family = config, family, _FAMILIES[family]
        self._hidden = self._int("hidden_size")
        self._inner = self._int("intermediate_size")
        self._heads = self._int("num_attention_heads")
        self._kv = self._int("num_key_value_heads", self._heads)
        self._head = self._int("head_dim", self._hidden // self._heads)

    def shape(self) -> Shape:
        """The whole model."""
        # Left out of a config, they are as the family has it.
        tied = self._config.get("tie_word_embeddings")
        return Shape(
            family=self._name,
            hidden=self._hidden,
            vocabulary=self._int("vocab_size"),
            layers=tuple(self._layers()),
            tied=self._family.tied if tied is None else bool(tied),
            context=self._int("max_position_embeddings", 0) or None,
        )

    def _layers(self) -> "list[tuple[Layer, int]]":
        total, experts = self._int("num_hidden_layers"), self._experts()
        if experts is None:
            return [(self._layer(self._inner, None), total)]
        dense = min(total, self._int("first_k_dense_replace", 0))
        named = self._config.get("mlp_only_layers")
        dense += len(named) if isinstance(named, list) else 0
        shared = self._int("n_shared_experts", 0) * experts.width
        found = [(self._layer(self._inner, None), dense), (self._layer(shared, experts), total - dense)]
        return [(layer, count) for layer, count in found if count]

    def _layer(self, inner: int, experts: Experts | None) -> Layer:
        latent = bool(self._config.get("kv_lora_rank"))
        linears, norms, width = self._latent() if latent else self._attention()
        hidden = self._hidden * self._family.norms
        return Layer(
            linears=(*linears, *(self._feed(inner) if inner else ())),
            norms=hidden + norms,
            # Heads share theirs.
            norm_weights=hidden + (norms if latent else 2 * self._head * self._family.head_norms),
            attention=width,
            inner=inner,
            experts=experts,
        )

    def _attention(self) -> tuple[tuple[Linear, ...], int, int]:
        """Linear layers, features of further norms, features."""
        queries, keys, hidden = self._heads * self._head, self._kv * self._head, self._hidden
        said = bool(self._config.get("attention_bias"))
        bias = said if self._family.qkv_bias is None else self._family.qkv_bias
        out = Linear("o_proj", queries, hidden, "answer", said and self._family.qkv_bias is None)
        width = 2 * queries + 2 * keys
        if self._family.fused:
            # The values stay a view of the whole.
            return (Linear("qkv_proj", hidden, queries + 2 * keys, "norm", bias), out), 0, width + queries + keys
        names = (("q_proj", queries), ("k_proj", keys), ("v_proj", keys))
        three = tuple(Linear(name, hidden, size, "norm", bias) for name, size in names)
        return (*three, out), (queries + keys) * self._family.head_norms, width

    def _latent(self) -> tuple[tuple[Linear, ...], int, int]:
        """The same by DeepSeek: queries, keys and values from small vectors."""
        hidden, heads = self._hidden, self._heads
        rope, plain = self._int("qk_rope_head_dim"), self._int("qk_nope_head_dim")
        value, small = self._int("v_head_dim"), self._int("kv_lora_rank")
        query = self._int("q_lora_rank", 0)
        linears = [
            Linear("kv_a_proj_with_mqa", hidden, small + rope, "norm"),
            Linear("kv_b_proj", small, heads * (plain + value), "keys"),
            Linear("o_proj", heads * value, hidden, "answer"),
        ]
        if query:
            linears.append(Linear("q_a_proj", hidden, query, "norm"))
            linears.append(Linear("q_b_proj", query, heads * (plain + rope), "queries"))
        else:
            linears.append(Linear("q_proj", hidden, heads * (plain + rope), "norm"))
        return tuple(linears), small + query, 2 * heads * (plain + rope + value)

    def _feed(self, inner: int) -> tuple[Linear, ...]:
        hidden, bias, adapts = self._hidden, bool(self._config.get("mlp_bias")), self._experts() is None
        down = Linear("down_proj", inner, hidden, "inner", bias, adapts)
        if self._family.fused:
            return Linear("gate_up_proj", hidden, 2 * inner, "mlp", bias, adapts), down
        halves = (Linear(name, hidden, inner, "mlp", bias, adapts) for name in ("gate_proj", "up_proj"))
        return (*halves, down)

    def _experts(self) -> Experts | None:
        count = max(self._int(key, 0) for key in ("num_local_experts", "num_experts", "n_routed_experts"))
        if not count:
            return None
        width = self._int("moe_intermediate_size", self._inner)
        active = self._int("num_experts_per_tok")
        biased = self._family.biased_choice
        return Experts(count=count, active=active, hidden=self._hidden, width=width, biased=biased)

    def _int(self, key: str, default: int | None = None) -> int:
        found = self._config.get(key)
        if found is None and default is not None:
            return default
        if not isinstance(found, int) or isinstance(found, bool) or found < 0 or (found == 0 and default is None):
            raise ValueError(key)
        return found
