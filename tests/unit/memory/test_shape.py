"""What a config.json says of a model's size, against what makers publish, and against nonsense."""

import pytest

from finetune.memory import Unknown, read

#: Sizes of config.json as the makers publish it, and the number of parameters that the hub shows for the weights.
PUBLISHED = {
    "meta-llama/Llama-3.1-8B": (
        8_030_261_248,
        {
            **{"model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32},
            **{"num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256},
            "tie_word_embeddings": False,
        },
    ),
    "meta-llama/Llama-3.2-1B": (
        1_235_814_400,
        {
            **{"model_type": "llama", "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16},
            **{"num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 64, "vocab_size": 128256},
            "tie_word_embeddings": True,
        },
    ),
    "Qwen/Qwen3-0.6B": (
        596_049_920,
        {
            **{"model_type": "qwen3", "hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28},
            **{"num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151936},
            "tie_word_embeddings": True,
        },
    ),
    "Qwen/Qwen2.5-7B": (
        7_615_616_512,
        {
            **{"model_type": "qwen2", "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28},
            **{"num_attention_heads": 28, "num_key_value_heads": 4, "vocab_size": 152064},
            "tie_word_embeddings": False,
        },
    ),
    "mistralai/Mistral-7B-v0.1": (
        7_241_732_096,
        {
            **{"model_type": "mistral", "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32},
            **{"num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 32000},
        },
    ),
    "microsoft/Phi-3-mini-4k-instruct": (
        3_821_079_552,
        {
            **{"model_type": "phi3", "hidden_size": 3072, "intermediate_size": 8192, "num_hidden_layers": 32},
            **{"num_attention_heads": 32, "num_key_value_heads": 32, "vocab_size": 32064},
            "tie_word_embeddings": False,
        },
    ),
    "google/gemma-3-1b-it": (
        999_885_952,
        {
            **{"model_type": "gemma3_text", "hidden_size": 1152, "intermediate_size": 6912, "num_hidden_layers": 26},
            **{"num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 256, "vocab_size": 262144},
        },
    ),
    "mistralai/Mixtral-8x7B-v0.1": (
        46_702_792_704,
        {
            **{"model_type": "mixtral", "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32},
            **{"num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 32000},
            **{"num_local_experts": 8, "num_experts_per_tok": 2},
        },
    ),
    "Qwen/Qwen3-30B-A3B": (
        30_532_122_624,
        {
            **{"model_type": "qwen3_moe", "hidden_size": 2048, "intermediate_size": 6144, "num_hidden_layers": 48},
            **{"num_attention_heads": 32, "num_key_value_heads": 4, "head_dim": 128, "vocab_size": 151936},
            **{"moe_intermediate_size": 768, "num_experts": 128, "num_experts_per_tok": 8},
            "tie_word_embeddings": False,
        },
    ),
    # Without the layer that predicts a second token.
    "deepseek-ai/DeepSeek-V3": (
        671_026_419_200,
        {
            **{"model_type": "deepseek_v3", "hidden_size": 7168, "intermediate_size": 18432, "num_hidden_layers": 61},
            **{"num_attention_heads": 128, "num_key_value_heads": 128, "vocab_size": 129280},
            **{"moe_intermediate_size": 2048, "n_routed_experts": 256, "n_shared_experts": 1, "num_experts_per_tok": 8},
            **{"first_k_dense_replace": 3, "q_lora_rank": 1536, "kv_lora_rank": 512, "qk_rope_head_dim": 64},
            **{"qk_nope_head_dim": 128, "v_head_dim": 128, "tie_word_embeddings": False},
        },
    ),
}
LLAMA = PUBLISHED["meta-llama/Llama-3.1-8B"][1]
MIXTRAL = PUBLISHED["mistralai/Mixtral-8x7B-v0.1"][1]


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_are_those_that_are_published(name):
    parameters, config = PUBLISHED[name]
    assert read(config).parameters == parameters


def test_a_lora_by_hand():
    shape = read(LLAMA)
    # q and o 4096 x 4096, k and v 4096 x 1024, gate, up and down 4096 x 14336, in each of 32 layers.
    every = 16 * 32 * (2 * (4096 + 4096) + 2 * (4096 + 1024) + 3 * (4096 + 14336))
    assert shape.lora(16, None) == every == 41_943_040
    assert shape.lora(8, ("q_proj", "v_proj")) == 8 * 32 * (4096 + 4096 + 4096 + 1024)
    assert shape.lora(8, ("no_such",)) == 0


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"model_type": "mamba"}, "kind mamba"),
        ({"model_type": None}, "kind None"),
        ({"model_type": "llava", "text_config": {}}, "more than text"),
        ({"hidden_size": None}, "hidden_size"),
        ({"hidden_size": "4096"}, "hidden_size"),
        ({"num_hidden_layers": 0}, "num_hidden_layers"),
        ({"vocab_size": -1}, "vocab_size"),
        ({"num_attention_heads": True}, "num_attention_heads"),
    ],
)
def test_of_what_cannot_be_told_nothing_is(change, why):
    with pytest.raises(Unknown, match=why):
        read({**LLAMA, **change})
