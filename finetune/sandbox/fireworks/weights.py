"""What a training at Fireworks leaves: a LoRA adapter as PEFT keeps it, of small and always the same numbers."""

import hashlib
import json
import struct
from typing import Final

from finetune.sandbox.fireworks.jobs import Job

#: Base models that can be tuned here, and where each comes from.
BASES: Final = {
    "accounts/fireworks/models/qwen3-0p6b": "https://huggingface.co/Qwen/Qwen3-0.6B",
    "accounts/fireworks/models/qwen3-8b": "https://huggingface.co/Qwen/Qwen3-8B",
    "accounts/fireworks/models/llama-v3p1-8b-instruct": "https://huggingface.co/meta-llama/Llama-3.1-8B-Instruct",
}
RANK: Final = 8
_MODULES: Final = ("q_proj", "v_proj")
_WIDTH: Final = 4


def files(job: Job) -> dict[str, bytes]:
    """The adapter's files by name, in the folder that the vendor's storage has them in."""
    rank = job.training.loraRank or RANK
    config = {
        "base_model_name_or_path": job.training.baseModel,
        "bias": "none",
        "lora_alpha": 2 * rank,
        "lora_dropout": 0.0,
        "peft_type": "LORA",
        "r": rank,
        "target_modules": list(_MODULES),
        "task_type": "CAUSAL_LM",
    }
    return {
        "adapter_config.json": json.dumps(config, indent=2).encode(),
        "adapter_model.safetensors": _tensors(job.name, rank),
        "fireworks.json": b"{}",
    }


def _tensors(seed: str, rank: int) -> bytes:
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    body = b""
    for module in _MODULES:
        for side, shape in (("A", [rank, _WIDTH]), ("B", [_WIDTH, rank])):
            name = f"base_model.model.model.layers.0.self_attn.{module}.lora_{side}.weight"
            values = _numbers(seed + name, rank * _WIDTH)
            header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(body), len(body) + len(values)]}
            body += values
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    return struct.pack("<Q", len(head)) + head + body


def _numbers(seed: str, count: int) -> bytes:
    """Small numbers of 32 bits each."""
    drawn = hashlib.shake_256(seed.encode()).digest(count)
    return b"".join(struct.pack("<f", (byte - 128) / 12_800) for byte in drawn)
