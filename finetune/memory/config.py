"""A config.json as the shape of the model that `transformers` builds of it.

The families of `families.FAMILIES` are known; of others nothing is said.
"""

from collections.abc import Mapping
from typing import Any

from finetune.memory.families import FAMILIES, WRAPPERS, Family
from finetune.memory.shape import Experts, Layer, Linear, Shape, Unknown
from finetune.memory.towers import beside


def read(config: Mapping[str, Any]) -> Shape:
    """The shape of a model with this config.json. Raises Unknown."""
    name = str(config.get("model_type"))
    try:
        if name not in WRAPPERS:
            return _Reader(config, _known(name, config), name).shape()
        inner = _text(config)
        family = WRAPPERS[name] or str(inner["model_type"])
        if family == name:
            raise KeyError("text_config")
        reader = _Reader(inner, _known(family, inner), name)
        return reader.shape(beside(name, config, reader.hidden))
    except (KeyError, ValueError) as error:
        raise Unknown(f"its config.json has no usable {error.args[0]}") from None
    except TypeError:
        raise Unknown("its config.json has no usable sizes") from None


def _text(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the config of a model that sees says of its text: in a part of its own, or among the rest."""
    found = config.get("text_config")
    if not isinstance(found, Mapping):
        return {key: value for key, value in config.items() if key != "text_config"}
    own = config.get("tie_word_embeddings")
    return found if own is None else {**found, "tie_word_embeddings": own}


def _known(name: str, config: Mapping[str, Any]) -> Family:
    if name in FAMILIES:
        return FAMILIES[name]
    if isinstance(config.get("text_config"), Mapping):
        raise Unknown(f"{name} reads more than text, and its memory is not known")
    raise Unknown(f"the memory of models of the kind {name} is not known")


class _Reader:
    """One config."""

    def __init__(self, config: Mapping[str, Any], family: Family, name: str) -> None:
        said = {key: value for key, value in config.items() if value is not None}
        self._config, self._family, self._name = {**family.defaults, **said}, family, name
        self.hidden = self._int("hidden_size")
        self._inner = self._int("intermediate_size")
        self._heads = self._int("num_attention_heads")
        self._kv = self._int("num_key_value_heads", self._heads)
        self._head = self._int("head_dim", self.hidden // self._heads)

    def shape(self, seeing: int = 0) -> Shape:
        """The whole model, with `seeing` parameters that text does not go through."""
        return Shape(
            family=self._name,
            hidden=self.hidden,
            vocabulary=self._int("vocab_size"),
            layers=tuple(self._layers()),
            # Left out of a config, it is as the family has it.
            tied=bool(self._config.get("tie_word_embeddings", self._family.tied)),
            context=self._int("max_position_embeddings", 0) or None,
            rest=self.hidden + seeing,
        )

    def _layers(self) -> "list[tuple[Layer, int]]":
        total, experts = self._int("num_hidden_layers"), self._experts()
        if experts is None:
            return [(self._layer(self._inner, None), total)]
        dense = self._dense(total)
        inner = self._int("intermediate_size_mlp", self._inner)
        found = [(self._layer(inner, None), dense), (self._layer(self._shared(experts), experts), total - dense)]
        return [(layer, count) for layer, count in found if count]

    def _dense(self, total: int) -> int:
        """How many layers have no experts."""
        first, named = self._int("first_k_dense_replace", 0), self._config.get("mlp_only_layers")
        step = max(self._int(key, 1) for key in ("decoder_sparse_step", "interleave_moe_layer_step"))
        chosen = range(first, total)[(step - 1 - first) % step :: step] if first < total else range(0)
        return total - len(set(chosen) - set(named if isinstance(named, list) else ()))

    def _shared(self, experts: Experts) -> int:
        """Features of the expert that all tokens go through."""
        if self._family.shares_one:
            return experts.width
        return self._int("shared_expert_intermediate_size", self._int("n_shared_experts", 0) * experts.width)

    def _layer(self, inner: int, experts: Experts | None) -> Layer:
        latent = bool(self._config.get("kv_lora_rank"))
        linears, normed, weights, width = self._latent() if latent else self._attention()
        hidden, pairs = self.hidden * self._family.norms, self._family.pairs
        gate = (Linear("shared_expert_gate", self.hidden, 1, "mlp"),)
        return Layer(
            linears=(
                *linears,
                *(self._feed(inner) if inner else ()),
                *(gate if experts and self._family.shared_gate else ()),
            ),
            norms=hidden + normed,
            norm_weights=hidden + weights,
            attention=width,
            capped=self._heads * (pairs == "capped"),
            sinks=self._heads * (pairs == "sunk"),
            inner=inner,
            experts=experts,
        )

    def _attention(self) -> tuple[tuple[Linear, ...], int, int, int]:
        """Linear layers, features and weights of further norms, features."""
        queries, keys, hidden = self._heads * self._head, self._kv * self._head, self.hidden
        bias = self._has(self._family.qkv_bias)
        out = Linear("o_proj", queries, hidden, "answer", self._has(self._family.out_bias))
        # Where pairs are kept, keys and values are laid out for each query.
        width = 2 * queries + 2 * (queries if self._family.pairs else keys)
        if self._family.fused_attention:
            # The values stay a view of the whole.
            return (Linear("qkv_proj", hidden, queries + 2 * keys, "norm", bias), out), 0, 0, width + queries + keys
        names = (("q_proj", queries), ("k_proj", keys), ("v_proj", keys))
        three = tuple(Linear(name, hidden, size, "norm", bias) for name, size in names)
        norms = self._family.query_norms if self._config.get("use_qk_norm", True) else None
        # Heads share theirs.
        weights = {"head": 2 * self._head, "whole": queries + keys}.get(norms or "", 0)
        return (*three, out), (queries + keys) * (norms is not None), weights, width

    def _latent(self) -> tuple[tuple[Linear, ...], int, int, int]:
        """The same by DeepSeek: queries, keys and values from small vectors."""
        hidden, heads = self.hidden, self._heads
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
        return tuple(linears), small + query, small + query, 2 * heads * (plain + rope + value)

    def _feed(self, inner: int) -> tuple[Linear, ...]:
        hidden, bias = self.hidden, self._has(self._family.mlp_bias)
        adapts = self._experts() is None or self._family.adapts_shared
        down = Linear("down_proj", inner, hidden, "inner", bias, adapts)
        if self._family.fused_gate:
            return Linear("gate_up_proj", hidden, 2 * inner, "mlp", bias, adapts), down
        halves = (Linear(name, hidden, inner, "mlp", bias, adapts) for name in ("gate_proj", "up_proj"))
        return (*halves, down)

    def _experts(self) -> Experts | None:
        count = max(self._int(key, 0) for key in ("num_local_experts", "num_experts", "n_routed_experts"))
        if not count:
            return None
        return Experts(
            count=count,
            active=count if self._family.all_experts else self._int("num_experts_per_tok"),
            hidden=self.hidden,
            width=self._int("moe_intermediate_size", self._inner),
            biased=self._family.biased_choice,
            biases=self._family.biased_experts,
            keeps=self._family.expert_keeps,
        )

    def _has(self, bias: bool | str) -> bool:
        return bool(self._config.get(bias)) if isinstance(bias, str) else bias

    def _int(self, key: str, default: int | None = None) -> int:
        found = self._config.get(key)
        if found is None and default is not None:
            return default
        if not isinstance(found, int) or isinstance(found, bool) or found < 0 or (found == 0 and default is None):
            raise ValueError(key)
        return found
