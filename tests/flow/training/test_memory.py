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
}
TOKENS = 128
WORK = Work(precision="fp32", rank=LORA.r, modules=None, dropout=False, longest=TOKENS, rows=1)
NUMBERS = {"fp32": torch.float32, "bf16": torch.bfloat16}
#: Of a logit at the peak a third is what the backward pass needs; the rest it makes.
LATER = 8


@pytest.mark.parametrize("precision", NUMBERS)
@pytest.mark.parametrize("family", FAMILIES)
def test_it_is_what_torch_holds(family, precision):
    model = build(family, {**SIZES, **FAMILIES[family]}, NUMBERS[precision])
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
    """Of DeepSeek: what chooses among experts keeps its biases beside the parameters."""
    return sum(each.numel() for name, each in model.named_buffers() if name.endswith("e_score_correction_bias"))


@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_a_step_at_its_peak(dropout):
    model = with_lora(build("Llama", SIZES, torch.float32), replace(LORA, dropout=dropout))
    engine = Engine(model, TRAINING, 1, 0, batches.Limits(1, None))
    rows = [row(TOKENS, SIZES["vocab_size"])]
    engine.step(rows, 0, 1e-4, lambda: None, print)
    found = peak(lambda: engine.step(rows, 1, 1e-4, lambda: None, print))
    # From the second step on all but the gradients is there before.
    reckoned = need(read(model.config.to_dict()), Kind.LORA, replace(WORK, dropout=dropout > 0))
    assert reckoned.least + reckoned.trained / 4 == pytest.approx(found, rel=0.1)
