"""Open families: a tiny model of each architecture is trained, saved, loaded anew by PEFT alone, and served."""

import json
from pathlib import Path

import pytest
import torch
import transformers
from peft import PeftModel

from finetune.report import Reporter
from finetune.serving.engine import Engine
from finetune.training import bases
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
QUESTION = [{"role": "user", "content": "colour?"}]


def save(family, folder):
    """A model of random weights, with a tokenizer and a chat template."""
    torch.manual_seed(3)
    config = getattr(transformers, f"{family}Config")(**{**SMALL, **FAMILIES[family]})
    made = transformers.AutoModelForCausalLM.from_config(config)
    made.save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    return folder


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
@pytest.mark.parametrize("family", FAMILIES)
def test_it_is_trained_saved_loaded_and_served(family, tmp_path):
    base, run = save(family, tmp_path / "base"), tmp_path / "run"
    tiny.request(run, base, training__epochs=6)
    reporter = Reporter(run / "report.jsonl")
    artifact = train(read(run / "request.json"), run, reporter, Stop())
    reporter.close()
    told = [json.loads(line) for line in (run / "report.jsonl").read_text().splitlines()]
    losses = [line["values"]["loss"] for line in told if line["kind"] == "metric" and "loss" in line["values"]]
    assert losses[-1] < losses[0] * 0.9, "it learns"
    config = json.loads((Path(artifact["path"]) / "adapter_config.json").read_text())
    assert not config.get("target_parameters"), "layers only: servers take nothing else"
    assert ("gate_proj" in config["target_modules"]) == (family != "DeepseekV3")

    # PEFT alone, in a base that was loaded by transformers alone.
    plain = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
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


def generated(model, base):
    """What `transformers` itself says."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(base)
    ids = tokenizer.apply_chat_template(QUESTION, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    with torch.no_grad():
        made = model.generate(**ids, max_new_tokens=12, do_sample=False, pad_token_id=256)
    return tokenizer.decode(made[0][ids["input_ids"].shape[1] :], skip_special_tokens=True)
