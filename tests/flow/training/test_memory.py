"""What a training is reckoned to hold, against what torch holds: parameters, adapter, what the backward pass needs."""

from dataclasses import replace

import pytest
import torch

from finetune.memory import Kind, Work, need, read
from finetune.training import batches
from finetune.training.engine import Engine
from tests.support.held import LORA, TRAINING, build, kept, peak, row, with_lora

SIZES = {
    **{"vocab_size": 1024, "hidden_size": 256, "intermediate_size": 640, "num_hidden_layers": 2},
    **{"num_attention_heads": 8, "num_key_value_heads": 4, "max_position_embeddings": 2048},
    **{"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2},
}
HEADS = {"head_dim": 32}
EXPERTS = {"num_experts_per_tok": 2, "moe_intermediate_size": 128}
LATENT = {
    **{"num_key_value_heads": 8, "n_routed_experts": 8, "n_shared_experts": 1, "n_group": 1, "topk_group": 1},
    **{"first_k_dense_replace": 1, "q_lora_rank": 64, "kv_lora_rank": 32},
    **{"qk_rope_head_dim": 16, "qk_nope_head_dim": 16, "v_head_dim": 32},
}
SLIDING = {**HEADS, "sliding_window": 2048}
ROPE = {"rope_type": "default", "rope_theta": 10000.0}
SECTIONS = {"rope_parameters": {**ROPE, "mrope_section": [4, 6, 6]}}
SIGHT = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2, "patch_size": 8}
BLOCKS = {"depth": 2, "hidden_size": 32, "intermediate_size": 48, "num_heads": 2, "out_hidden_size": 256}
WITH_SHARED = {**EXPERTS, "n_routed_experts": 8, "n_shared_experts": 1, "n_group": 1, "topk_group": 1}
FAMILIES = {
    "Llama": {},
    "Mistral": {**HEADS, "sliding_window": None},
    "Qwen2": {},
    "Qwen3": HEADS,
    "Phi3": {},
    "Granite": {},
    "SmolLM3": {},
    "Gemma3Text": {**HEADS, "sliding_window": 2048},
    "Cohere": HEADS,
    "Cohere2": {**HEADS, "sliding_window": 2048},
    "Mixtral": {"num_local_experts": 8, "num_experts_per_tok": 2, "intermediate_size": 128},
    "Qwen3Moe": {**HEADS, **EXPERTS, "num_experts": 8},
    "DeepseekV3": {**EXPERTS, **LATENT},
    "Gemma": HEADS,
    "Gemma2": SLIDING,
    "Ministral": SLIDING,
    "Ministral3": {
        **HEADS,
        "rope_parameters": {**ROPE, "llama_4_scaling_beta": 0.1, "original_max_position_embeddings": 512},
    },
    "Glm4": {**HEADS, "attention_bias": True},
    "Olmo2": {},
    "Olmo3": SLIDING,
    "Exaone4": SLIDING,
    "Qwen2Moe": {**EXPERTS, "num_experts": 8, "shared_expert_intermediate_size": 256},
    "Glm4Moe": {**HEADS, **WITH_SHARED, "first_k_dense_replace": 1, "use_qk_norm": True},
    "GptOss": {**SLIDING, "num_local_experts": 8, "num_experts_per_tok": 2, "intermediate_size": 128},
    # Of two layers the second has experts.
    "Llama4Text": {
        **{"num_local_experts": 8, "intermediate_size": 128, "intermediate_size_mlp": 640},
        **{**HEADS, "interleave_moe_layer_step": 2},
    },
}
#: The text's sizes, and those of the part for images.
SEEING = {
    "Gemma3": (SLIDING, {**SIGHT, "image_size": 32}),
    "Mistral3": ({**HEADS, "model_type": "mistral"}, {**SIGHT, "model_type": "pixtral", "head_dim": 16}),
    "Qwen2_5_VL": (SECTIONS, BLOCKS),
    "Qwen3VL": ({**HEADS, **SECTIONS}, {**BLOCKS, "deepstack_visual_indexes": [0]}),
    "Llama4": (FAMILIES["Llama4Text"], {**SIGHT, "image_size": 32, "vision_output_dim": 64}),
}
TOKENS = 128
WORK = Work(precision="fp32", rank=LORA.r, modules=None, dropout=False, longest=TOKENS, rows=1)
NUMBERS = {"fp32": torch.float32, "bf16": torch.bfloat16}
#: Of a logit at the peak a third is what the backward pass needs; the rest it makes.
LATER = 8


def sizes(family):
    """Of a config of that family."""
    if family in FAMILIES:
        return {**SIZES, **FAMILIES[family]}
    text, sight = SEEING[family]
    return {"text_config": {**SIZES, **text}, "vision_config": sight}


@pytest.mark.parametrize("precision", NUMBERS)
@pytest.mark.parametrize("family", [*FAMILIES, *SEEING])
def test_it_is_what_torch_holds(family, precision):
    model = build(family, sizes(family), NUMBERS[precision])
    shape = read(model.config.to_dict())
    assert shape.parameters == sum(each.numel() for each in model.parameters()) + _unlearned(model)
    work, later = replace(WORK, precision=precision), TOKENS * LATER * shape.vocabulary
    full = kept(model.train(), TOKENS, shape.vocabulary)
    assert need(shape, Kind.FULL, work).least - later == pytest.approx(full, rel=0.16)

    tuned = with_lora(model)
    trained = sum(each.numel() for each in tuned.parameters() if each.requires_grad)
    assert shape.lora(LORA.r, None) == trained
    assert need(shape, Kind.LORA, work).least - later == pytest.approx(kept(tuned, TOKENS, shape.vocabulary), rel=0.1)


def _unlearned(model):
    """Of DeepSeek and GLM: what chooses among experts keeps its biases beside the parameters."""
    return sum(each.numel() for name, each in model.named_buffers() if name.endswith("e_score_correction_bias"))


@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_a_step_at_its_peak(dropout):
    found, reckoned = _peak("Llama", "fp32", dropout, False)
    assert reckoned == pytest.approx(found, rel=0.1)


@pytest.mark.parametrize("precision", NUMBERS)
@pytest.mark.parametrize("family", ["Llama", "Qwen3", "Phi3", "Gemma3Text", "Mixtral", "DeepseekV3"])
def test_a_step_at_its_peak_with_activations_made_again(family, precision):
    found, reckoned = _peak(family, precision, 0.0, True)
    assert reckoned == pytest.approx(found, rel=0.12)


def test_what_dropout_needs_is_made_again_too():
    found, reckoned = _peak("Llama", "bf16", 0.1, True)
    assert reckoned == pytest.approx(found, rel=0.1)


def test_logits_are_what_is_most_where_the_vocabulary_is_large():
    found, reckoned = _peak("Llama", "fp32", 0.0, True, vocab_size=16384)
    assert reckoned == pytest.approx(found, rel=0.1)


def _peak(family, precision, dropout, again, **sizes):
    """Bytes of a step, measured and reckoned."""
    sizes = {**SIZES, **FAMILIES[family], "num_hidden_layers": 4, **sizes}
    model = with_lora(build(family, sizes, NUMBERS[precision]), replace(LORA, dropout=dropout))
    engine = Engine(model, TRAINING, 1, 0, batches.Limits(1, None, again))
    rows = [row(2 * TOKENS, sizes["vocab_size"])]
    engine.step(rows, 0, 1e-4, lambda: None, print)
    found = peak(lambda: engine.step(rows, 1, 1e-4, lambda: None, print))
    work = replace(WORK, longest=2 * TOKENS, precision=precision, dropout=dropout > 0, recompute=again)
    reckoned = need(read(model.config.to_dict()), Kind.LORA, work)
    # From the second step on all but the gradients is there before.
    return found, reckoned.least + reckoned.trained / 4
