"""Open families: a tiny model of each architecture is trained, saved, loaded anew by PEFT alone, and served."""

import json
from pathlib import Path

import pytest
import torch
import transformers
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers.quantizers.auto import AutoHfQuantizer

from finetune.report import Reporter
from finetune.serving.engine import Engine
from finetune.training import bases
from finetune.training.merge import Asked, merge
from finetune.training.request import read
from finetune.training.stop import Stop
from finetune.training.trainer import train
from tests.support import tiny

SMALL = {
    "vocab_size": 259,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "initializer_range": 0.2,
    "pad_token_id": 256,
    "bos_token_id": 257,
    "eos_token_id": 257,
}
HEADS = {"head_dim": 8}
#: One dense layer, then one with four experts and a shared one; latent attention.
EXPERTS = {
    "num_key_value_heads": 4,
    "moe_intermediate_size": 16,
    "n_routed_experts": 4,
    "n_shared_experts": 1,
    "num_experts_per_tok": 2,
    "n_group": 1,
    "topk_group": 1,
    "first_k_dense_replace": 1,
    "q_lora_rank": 16,
    "kv_lora_rank": 8,
    "qk_rope_head_dim": 4,
    "qk_nope_head_dim": 4,
    "v_head_dim": 8,
}
FAMILIES = {
    "Llama": {},
    "Mistral": {**HEADS, "sliding_window": None},
    "Qwen3": HEADS,
    "Gemma3Text": {**HEADS, "layer_types": ["sliding_attention", "full_attention"], "sliding_window": 64},
    "DeepseekV3": EXPERTS,
    "Cohere2": {
        "logit_scale": 1.0,
        **HEADS,
        "layer_types": ["sliding_attention", "full_attention"],
        "sliding_window": 64,
    },
}
SLIDING = {**HEADS, "layer_types": ["sliding_attention", "full_attention"], "sliding_window": 64}
ROPE = {"rope_type": "default", "rope_theta": 10000.0}
FAMILIES |= {
    "Gemma2": SLIDING,
    "Olmo2": {},
    "Glm4Moe": {**HEADS, **EXPERTS},
    "GptOss": {**SLIDING, "num_local_experts": 4, "num_experts_per_tok": 2, "rope_parameters": ROPE},
}
SIGHT = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "patch_size": 8}
BLOCKS = {"depth": 1, "hidden_size": 16, "intermediate_size": 32, "num_heads": 2, "out_hidden_size": 32}
LINEAR = {
    "layer_types": ["linear_attention", "full_attention"],
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
}
#: Models that see: what of text and of images is not as in SMALL, or in the library.
SEEING = {
    "Gemma3": (SLIDING, {**SIGHT, "image_size": 32}),
    "Mistral3": ({**HEADS, "model_type": "mistral"}, {**SIGHT, "model_type": "pixtral", "head_dim": 8}),
    "Qwen3VL": (
        {**HEADS, "rope_parameters": {**ROPE, "mrope_section": [1, 1, 2]}},
        {**BLOCKS, "deepstack_visual_indexes": [0]},
    ),
    "Qwen3_5": ({**HEADS, **LINEAR}, BLOCKS),
    "Llama4": (
        {**HEADS, "num_local_experts": 4, "intermediate_size_mlp": 64, "interleave_moe_layer_step": 2},
        {**SIGHT, "image_size": 32, "vision_output_dim": 16},
    ),
}
#: Those whose experts are kept in one tensor with a gate, and so not trained.
WITHOUT_GATE = {"DeepseekV3", "Glm4Moe", "GptOss"}
QUESTION = [{"role": "user", "content": "colour?"}]
SIGHT_FILE = "preprocessor_config.json"


def sizes(family):
    """Of a config of that family."""
    if family in FAMILIES:
        return {**SMALL, **FAMILIES[family]}
    text, sight = SEEING[family]
    # Some take this one from the whole.
    return {"text_config": {**SMALL, **text}, "vision_config": sight, "initializer_range": 0.2}


def save(family, folder):
    """A model of random weights, with a tokenizer and a chat template."""
    # By seed 3 this one says its last token again and again, tuned or not.
    torch.manual_seed(1 if family == "Gemma3" else 3)
    config = getattr(transformers, f"{family}Config")(**sizes(family))
    made = bases.model_class(config).from_config(config)
    made.save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    if family in SEEING:
        (folder / SIGHT_FILE).write_text("{}")
    return folder


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
@pytest.mark.parametrize("family", [*FAMILIES, *SEEING])
def test_it_is_trained_saved_loaded_and_served(family, tmp_path):
    base, run = save(family, tmp_path / "base"), tmp_path / "run"
    tiny.request(run, base, training__epochs=6, training__max_seq_length=2 * SMALL["max_position_embeddings"])
    reporter = Reporter(run / "report.jsonl")
    artifact = train(read(run / "request.json"), run, reporter, Stop())
    reporter.close()
    told = [json.loads(line) for line in (run / "report.jsonl").read_text().splitlines()]
    losses = [line["values"]["loss"] for line in told if line["kind"] == "metric" and "loss" in line["values"]]
    assert losses[-1] < losses[0] * 0.9, "it learns"
    assert "exceeds the base model's context; using 512" in str(told)
    config = json.loads((Path(artifact["path"]) / "adapter_config.json").read_text())
    assert not config.get("target_parameters"), "layers only: servers take nothing else"
    assert ("gate_proj" in config["target_modules"]) == (family not in WITHOUT_GATE)
    assert all(each.any() for each in load_file(Path(artifact["path"]) / "adapter_model.safetensors").values())

    # PEFT alone, in a base that was loaded by transformers alone.
    plain = bases.model_class(transformers.AutoConfig.from_pretrained(base)).from_pretrained(base).eval()
    ids = torch.tensor([list(range(40, 60))])
    with torch.no_grad():
        before = plain(ids).logits
        tuned = PeftModel.from_pretrained(plain, artifact["path"]).eval()
        after = tuned(ids).logits
    assert not torch.allclose(before, after, atol=1e-3), "the adapter says something"

    # The server answers as that model does, alone and beside the base in one pass.
    engine = Engine(str(base), bases.load(str(base), cache=tmp_path / "cache", report=lambda line: None))
    engine.load_adapter("bot@v1", Path(artifact["path"]))
    (served,) = engine.answers([QUESTION], "bot@v1", 12)
    (untuned,) = engine.answers([QUESTION], None, 12)
    assert served != untuned
    assert served == generated(tuned, base)

    # Its weights, put into those of the base and read from the disk, answer as the adapter does, or this raises.
    folder = str(tmp_path / "merged")
    known = {"base_revision": None, "cache": str(tmp_path / "cache"), "weights": folder, "tokenizer": folder}
    merged = merge(Asked(base_model=str(base), adapter=artifact["path"], **known), lambda line: None)
    assert merged["architecture"] == type(plain).__name__
    assert Path(folder, SIGHT_FILE).is_file() == (family in SEEING)


def generated(model, base):
    """What `transformers` itself says."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(base)
    ids = tokenizer.apply_chat_template(QUESTION, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    with torch.no_grad():
        made = model.generate(**ids, max_new_tokens=12, do_sample=False, pad_token_id=256)
    return tokenizer.decode(made[0][ids["input_ids"].shape[1] :], skip_special_tokens=True)


def test_small_floats_of_gpt_oss_are_made_wide_again_and_trained_beside(tmp_path):
    base, run = save("GptOss", tmp_path / "base"), tmp_path / "run"
    torch.manual_seed(5)
    weights = load_file(base / "model.safetensors")
    wide = {name: weights.pop(name) for name in list(weights) if name.endswith(("gate_up_proj", "down_proj"))}
    assert len(wide) == 4
    expected = {}
    for name, tensor in wide.items():
        experts, inputs, outputs = tensor.shape
        blocks = torch.randint(0, 256, (experts, outputs, inputs // 32, 16), dtype=torch.uint8)
        scales = torch.randint(122, 126, (experts, outputs, inputs // 32), dtype=torch.uint8)
        weights |= {f"{name}_blocks": blocks, f"{name}_scales": scales}
        expected[name] = made_wide(blocks, scales).transpose(1, 2)
    save_file(weights, base / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((base / "config.json").read_text())
    kept = ["model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"]
    config["quantization_config"] = {"quant_method": "mxfp4", "modules_to_not_convert": kept}
    (base / "config.json").write_text(json.dumps(config))

    loaded = dict(bases.load(str(base), cache=tmp_path, report=lambda line: None).model.named_parameters())
    for name, tensor in expected.items():
        assert torch.equal(loaded[name].float(), tensor), name
    tiny.request(run, base, training__epochs=1)
    reporter = Reporter(run / "report.jsonl")
    artifact = train(read(run / "request.json"), run, reporter, Stop())
    reporter.close()
    trained = load_file(Path(artifact["path"]) / "adapter_model.safetensors")
    assert trained
    assert all(each.any() for each in trained.values())


def made_wide(blocks, scales):
    """By the format's own words: two numbers a byte, the lower half first; 32 have a power of two together."""
    numbers = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6])
    numbers = torch.cat([numbers, -numbers])
    halves = torch.stack([numbers[(blocks & 15).long()], numbers[(blocks >> 4).long()]], dim=-1)
    return (halves.flatten(-2) * 2.0 ** (scales.float() - 127)[..., None]).flatten(-2)


@pytest.mark.parametrize("way", ["mxfp4", "fp8"])
def test_the_library_is_told_to_make_them_wide_whatever_the_machine_could_do(way):
    said = {"quant_method": way, "modules_to_not_convert": ["lm_head"]}
    config = bases.plain(transformers.LlamaConfig(quantization_config=said))
    asked = AutoHfQuantizer.from_config(config.quantization_config, pre_quantized=True).quantization_config
    assert asked.dequantize
    assert asked.modules_to_not_convert == ["lm_head"]


def test_other_ways_are_left_as_they_are():
    config = transformers.LlamaConfig(quantization_config={"quant_method": "gptq"})
    assert bases.plain(config).quantization_config == {"quant_method": "gptq"}
    assert not hasattr(bases.plain(transformers.LlamaConfig()), "quantization_config")
