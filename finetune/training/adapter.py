"""The LoRA adapter: put onto a base model by PEFT, and written in PEFT's format, byte for byte the same every time."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from safetensors.torch import save_file
from torch import nn
from transformers.pytorch_utils import Conv1D

from finetune import files
from finetune.errors import Problem, TrainingError
from finetune.training import disk
from finetune.training.request import Lora, Request


def linear_paths(model: Any) -> list[str]:
    """Paths of all linear layers but the output head, in the model's order."""
    head = model.get_output_embeddings()
    return [
        path for path, module in model.named_modules() if isinstance(module, nn.Linear | Conv1D) and module is not head
    ]


def target_modules(model: Any, lora: Lora) -> list[str]:
    """The modules' names as the adapter's config carries them, sorted: last parts of paths, which all tools read.

    Where a model keeps its experts in one tensor, the names of their layers are left out, whoever else has them: PEFT
    would train the experts by them, and not the layers. Raises TrainingError (E613) for a name that no layer has.
    """
    names = {path.rpartition(".")[2] for path in linear_paths(model)}
    fused = names - _kept(model, names)
    paths = [path for path in linear_paths(model) if path.rpartition(".")[2] not in fused]
    names -= fused
    if lora.target_modules == "all-linear":
        return sorted(names)
    for name in lora.target_modules:
        if not any(path == name or path.endswith(f".{name}") for path in paths):
            raise TrainingError(
                Problem(
                    code="E613",
                    what=f"the base model has no linear layer named {name}",
                    fix=f"use some of: {', '.join(sorted(names))}; or all-linear",
                    field="lora.target_modules",
                    value=name,
                )
            )
    return sorted(set(lora.target_modules))


def _kept(model: Any, names: set[str]) -> set[str]:
    """Those of these names that PEFT takes as they are."""
    from peft.utils.transformers_weight_conversion import convert_peft_config_for_transformers

    probe = LoraConfig(task_type="CAUSAL_LM", target_modules=sorted(names))
    convert_peft_config_for_transformers(probe, model=model, conversions=None)
    return set(probe.target_modules or ())


def attach(model: Any, lora: Lora, seed: int) -> PeftModel:
    """`model` with a fresh fp32 adapter from `seed`; base weights frozen. Changes `model` in place."""
    torch.manual_seed(seed)
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=target_modules(model, lora),
        bias="none",
    )
    with warnings.catch_warnings():
        # PEFT 0.21 asks transformers 5.23 by a name that is on its way out.
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing", category=FutureWarning)
        return get_peft_model(model, config)


def write(model: PeftModel, request: Request, lineage: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Write adapter and lineage.json to `folder`, whole or not at all; returns path, digest and lineage.

    The digest is of the adapter alone: it does not change with the run, the machine's paths or the hash seed.
    Raises TrainingError (E622).
    """
    state = get_peft_model_state_dict(model, save_embedding_layers=False)
    config = model.peft_config["default"].to_dict()
    config["target_modules"] = sorted(config["target_modules"])
    # An empty set for models with experts, which is no JSON.
    config["target_parameters"] = None
    config["base_model_name_or_path"] = request.base_model
    config["revision"] = request.revision
    config["inference_mode"] = True

    def fill(aside: Path) -> None:
        tensors = {name: state[name].detach().cpu().contiguous() for name in sorted(state)}
        save_file(tensors, aside / "adapter_model.safetensors", metadata={"format": "pt"})
        disk.write_json(aside / "adapter_config.json", config)
        disk.write_json(aside / "lineage.json", dict(lineage))

    disk.publish(folder, fill)
    return {"path": str(folder), "digest": files.digest(folder), "lineage": dict(lineage)}
