"""What is known of each family of models beside its config.json, by the config's `model_type`.

Source: the modules that `transformers` 5.23 builds; the tests count them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal


@dataclass(frozen=True, kw_only=True)
class Family:
    """What a config does not say. A bias is there, or is not, or is as the config's field of that name says."""

    #: Norms over the hidden features in a layer.
    norms: int = 2
    #: Norms of queries and keys: one for all heads, a head at a time; one over all heads together; or one that has no
    #: weights.
    query_norms: Literal["head", "whole", "bare"] | None = None
    qkv_bias: bool | str = "attention_bias"
    out_bias: bool | str = "attention_bias"
    mlp_bias: bool | str = "mlp_bias"
    #: One layer for queries, keys and values.
    fused_attention: bool = False
    #: One for both halves of the gate.
    fused_gate: bool = False
    tied: bool = False
    #: Whether what chooses among experts has a bias for each, and whether their layers have.
    biased_choice: bool = False
    biased_experts: bool = False
    #: Features of an expert's width that are kept of a token.
    expert_keeps: int = 3
    #: Whether a layer's experts have one beside them that all tokens go through, as wide as they.
    shares_one: bool = False
    #: Whether a linear layer says how much of it is taken.
    shared_gate: bool = False
    #: Whether every expert reckons for every token, whatever is chosen.
    all_experts: bool = False
    #: Whether PEFT lays a LoRA on layers that have the names of an expert's.
    adapts_shared: bool = False
    #: What attention has that no kernel of torch reckons, so that a number for each pair of tokens is kept: a cap on
    #: its scores, or a weight a head that takes part of all attention.
    pairs: Literal["capped", "sunk"] | None = None
    #: What configs of its makers leave out.
    defaults: Mapping[str, Any] = field(default_factory=dict)


_LLAMA: Final = Family()
_NO_BIAS: Final = Family(qkv_bias=False, out_bias=False)
_QWEN3: Final = Family(query_norms="head")
_GEMMA3: Final[Mapping[str, Any]] = {
    **{"vocab_size": 262208, "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256},
    "max_position_embeddings": 131072,
}
FAMILIES: Final[Mapping[str, Family]] = {
    "llama": _LLAMA,
    "mistral": _NO_BIAS,
    "ministral": _NO_BIAS,
    "ministral3": _NO_BIAS,
    "qwen2": Family(qkv_bias=True, out_bias=False),
    "qwen3": _QWEN3,
    "phi3": Family(fused_attention=True, fused_gate=True, qkv_bias=False, out_bias=False),
    "granite": _LLAMA,
    "smollm3": _LLAMA,
    "gemma": Family(tied=True),
    "gemma2": Family(norms=4, tied=True, pairs="capped"),
    "gemma3_text": Family(norms=4, query_norms="head", tied=True, defaults=_GEMMA3),
    "cohere": Family(norms=1, tied=True),
    "cohere2": Family(norms=1, tied=True),
    "glm4": Family(norms=4, out_bias=False, fused_gate=True, defaults={"attention_bias": True}),
    "olmo2": Family(query_norms="whole"),
    "olmo3": Family(query_norms="whole"),
    "exaone4": Family(query_norms="head", qkv_bias=False, out_bias=False),
    "mixtral": _NO_BIAS,
    "qwen2_moe": Family(
        out_bias=False, qkv_bias="qkv_bias", adapts_shared=True, shared_gate=True, defaults={"qkv_bias": True}
    ),
    "qwen3_moe": _QWEN3,
    "deepseek_v3": Family(biased_choice=True),
    "glm4_moe": Family(query_norms="head", biased_choice=True, out_bias=False, defaults={"use_qk_norm": False}),
    "gpt_oss": Family(
        biased_choice=True, biased_experts=True, expert_keeps=6, pairs="sunk", defaults={"attention_bias": True}
    ),
    "llama4_text": Family(query_norms="bare", all_experts=True, shares_one=True, adapts_shared=True),
}
#: Of a config with parts for text and for images, by its `model_type`: the text's family. None: as its `text_config`
#: says.
WRAPPERS: Final[Mapping[str, str | None]] = {
    "gemma3": "gemma3_text",
    "mistral3": None,
    "qwen2_5_vl": "qwen2",
    "qwen3_vl": "qwen3",
    "llama4": "llama4_text",
}
