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
    "google/gemma-2-9b": (
        9_241_705_984,
        {
            **{"model_type": "gemma2", "hidden_size": 3584, "intermediate_size": 14336, "num_hidden_layers": 42},
            **{"num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 256, "vocab_size": 256000},
        },
    ),
    # Its config leaves out what is as the library has it.
    "google/gemma-3-4b-it": (
        4_300_079_472,
        {
            "model_type": "gemma3",
            "text_config": {"hidden_size": 2560, "intermediate_size": 10240, "num_hidden_layers": 34},
            "vision_config": {
                **{"hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27, "num_attention_heads": 16},
                **{"image_size": 896, "patch_size": 14, "vision_use_head": False},
            },
        },
    ),
    "openai/gpt-oss-20b": (
        20_914_757_184,
        {
            **{"model_type": "gpt_oss", "hidden_size": 2880, "intermediate_size": 2880, "num_hidden_layers": 24},
            **{"num_attention_heads": 64, "num_key_value_heads": 8, "head_dim": 64, "vocab_size": 201088},
            **{"num_local_experts": 32, "num_experts_per_tok": 4, "attention_bias": True},
            "tie_word_embeddings": False,
        },
    ),
    "zai-org/GLM-4-9B-0414": (
        9_400_279_040,
        {
            **{"model_type": "glm4", "hidden_size": 4096, "intermediate_size": 13696, "num_hidden_layers": 40},
            **{"num_attention_heads": 32, "num_key_value_heads": 2, "head_dim": 128, "vocab_size": 151552},
            **{"attention_bias": True, "tie_word_embeddings": False},
        },
    ),
    # Without the layer that predicts a second token.
    "zai-org/GLM-4.5-Air": (
        106_852_251_264,
        {
            **{"model_type": "glm4_moe", "hidden_size": 4096, "intermediate_size": 10944, "num_hidden_layers": 46},
            **{"num_attention_heads": 96, "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151552},
            **{"moe_intermediate_size": 1408, "n_routed_experts": 128, "n_shared_experts": 1, "num_experts_per_tok": 8},
            **{"first_k_dense_replace": 1, "use_qk_norm": False, "attention_bias": True, "tie_word_embeddings": False},
        },
    ),
    "allenai/OLMo-2-1124-7B": (
        7_298_617_344,
        {
            **{"model_type": "olmo2", "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32},
            **{"num_attention_heads": 32, "num_key_value_heads": 32, "vocab_size": 100352},
            "tie_word_embeddings": False,
        },
    ),
    "Qwen/Qwen1.5-MoE-A2.7B": (
        14_315_784_192,
        {
            **{"model_type": "qwen2_moe", "hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 24},
            **{"num_attention_heads": 16, "num_key_value_heads": 16, "vocab_size": 151936},
            **{"moe_intermediate_size": 1408, "shared_expert_intermediate_size": 5632},
            **{"num_experts": 60, "num_experts_per_tok": 4, "decoder_sparse_step": 1, "tie_word_embeddings": False},
        },
    ),
    "mistralai/Mistral-Small-3.1-24B-Instruct-2503": (
        24_011_361_280,
        {
            **{"model_type": "mistral3", "spatial_merge_size": 2, "multimodal_projector_bias": False},
            "text_config": {
                **{"model_type": "mistral", "hidden_size": 5120, "intermediate_size": 32768, "num_hidden_layers": 40},
                **{"num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 131072},
            },
            "vision_config": {
                **{"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16},
                **{"head_dim": 64, "image_size": 1540, "patch_size": 14, "num_channels": 3},
            },
        },
    ),
    # The sizes of its text stand among the rest.
    "Qwen/Qwen2.5-VL-7B-Instruct": (
        8_292_166_656,
        {
            **{"model_type": "qwen2_5_vl", "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28},
            **{"num_attention_heads": 28, "num_key_value_heads": 4, "vocab_size": 152064},
            "tie_word_embeddings": False,
            "vision_config": {
                **{"depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16},
                **{"out_hidden_size": 3584, "patch_size": 14, "spatial_merge_size": 2},
            },
        },
    ),
    "Qwen/Qwen3-VL-8B-Instruct": (
        8_767_123_696,
        {
            **{"model_type": "qwen3_vl", "tie_word_embeddings": False},
            "text_config": {
                **{"hidden_size": 4096, "intermediate_size": 12288, "num_hidden_layers": 36},
                **{"num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151936},
            },
            "vision_config": {
                **{"depth": 27, "hidden_size": 1152, "intermediate_size": 4304, "num_heads": 16},
                **{"deepstack_visual_indexes": [8, 16, 24], "num_position_embeddings": 2304, "out_hidden_size": 4096},
                **{"patch_size": 16, "spatial_merge_size": 2, "temporal_patch_size": 2},
            },
        },
    ),
    "meta-llama/Llama-4-Scout-17B-16E": (
        108_641_793_536,
        {
            "model_type": "llama4",
            "text_config": {
                **{"hidden_size": 5120, "intermediate_size": 8192, "intermediate_size_mlp": 16384},
                **{"num_hidden_layers": 48, "num_attention_heads": 40, "num_key_value_heads": 8, "head_dim": 128},
                **{"num_local_experts": 16, "num_experts_per_tok": 1, "interleave_moe_layer_step": 1},
                "vocab_size": 202048,
            },
            "vision_config": {
                **{"hidden_size": 1408, "intermediate_size": 5632, "num_hidden_layers": 34, "num_attention_heads": 16},
                **{"image_size": 336, "patch_size": 14, "vision_output_dim": 4096},
                **{"projector_input_dim": 4096, "projector_output_dim": 4096},
            },
        },
    ),
}
LLAMA = PUBLISHED["meta-llama/Llama-3.1-8B"][1]
MIXTRAL = PUBLISHED["mistralai/Mixtral-8x7B-v0.1"][1]
SEEING = PUBLISHED["mistralai/Mistral-Small-3.1-24B-Instruct-2503"][1]
MOE = PUBLISHED["Qwen/Qwen3-30B-A3B"][1]


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


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"text_config": {**SEEING["text_config"], "model_type": "mamba"}}, "kind mamba"),
        ({"text_config": None}, "text_config"),
        ({"vision_config": None}, "vision_config"),
        ({"vision_config": {**SEEING["vision_config"], "hidden_size": "1024"}}, "vision_config.hidden_size"),
        ({"vision_config": {}}, "patch_size|hidden_size"),
    ],
)
def test_nor_of_a_model_that_sees(change, why):
    with pytest.raises(Unknown, match=why):
        read({**SEEING, **change})


def test_parts_for_images_are_no_layers_of_the_text():
    shape, text = read(SEEING), read(SEEING["text_config"])
    assert shape.lora(16, None) == text.lora(16, None)
    assert shape.linear == text.linear
    assert shape.layers == text.layers


@pytest.mark.parametrize(
    ("change", "dense"),
    [
        ({}, 0),
        ({"decoder_sparse_step": 2}, 24),
        ({"decoder_sparse_step": 5}, 39),
        ({"decoder_sparse_step": 2, "mlp_only_layers": [0, 1, 3]}, 26),
        ({"first_k_dense_replace": 3}, 3),
        ({"first_k_dense_replace": 100}, 48),
    ],
)
def test_layers_without_experts(change, dense):
    layers = read({**MOE, **change}).layers
    assert sum(count for layer, count in layers if layer.experts is None) == dense
    assert sum(count for _, count in layers) == 48
