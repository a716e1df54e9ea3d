"""The archive in which Together hands out an adapter: `.tar.zst`, or `.tar.gz` where no zstd is installed here."""

import gzip
import io
import json
import struct
import tarfile
from typing import Any

from finetune.sandbox.service import Reply


def archive(name: str, base: str, rank: int, alpha: int) -> Reply:
    """A LoRA of one layer, all zeros, in a folder called `name`: whole, and of no use to any model."""
    files = {
        "README.md": b"Made by the sandbox.\n",
        "adapter_config.json": json.dumps(_config(base, rank, alpha)).encode(),
        "adapter_model.safetensors": _weights(rank),
        "tokenizer_config.json": b"{}",
    }
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for file, content in files.items():
            member = tarfile.TarInfo(f"{name}/{file}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    try:
        import zstandard
    except ImportError:
        return Reply(body=gzip.compress(out.getvalue(), mtime=0), headers={"Content-Type": "application/x-tar"})
    packed = zstandard.ZstdCompressor().compress(out.getvalue())
    return Reply(body=packed, headers={"Content-Type": "application/octet-stream"})


def _config(base: str, rank: int, alpha: int) -> dict[str, Any]:
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": rank,
        "lora_alpha": alpha,
        "lora_dropout": 0.0,
        "target_modules": ["q_proj"],
        "bias": "none",
        "inference_mode": True,
    }


def _weights(rank: int, width: int = 8) -> bytes:
    place = "base_model.model.model.layers.0.self_attn.q_proj"
    shapes = {f"{place}.lora_A.weight": [rank, width], f"{place}.lora_B.weight": [width, rank]}
    size, head = 4 * rank * width, {}
    for number, (name, shape) in enumerate(shapes.items()):
        head[name] = {"dtype": "F32", "shape": shape, "data_offsets": [number * size, (number + 1) * size]}
    said = json.dumps(head).encode()
    return struct.pack("<Q", len(said)) + said + bytes(len(shapes) * size)
