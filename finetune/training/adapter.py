"""The LoRA adapter: put onto a base model by PEFT, and written in PEFT's format, byte for byte the same every time."""

import re
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
    """Paths of all linear layers, in the model's order.

    Without the output head, what chooses among experts, and what text does not go through.
    """
    head, blind = model.get_output_embeddings(), blind_parts(model)
    return [
        path
        for path, module in model.named_modules()
        if _is_plain(module) and module is not head and not any(path.startswith(f"{part}.") for part in blind)
    ]


def _is_plain(module: nn.Module) -> bool:
    # What chooses among experts is a linear layer for some models, and answers with more than a tensor: PEFT fails.
    own = type(module).__module__.startswith("transformers.models.") and type(module).__name__.endswith("Router")
    return isinstance(module, nn.Linear | Conv1D) and not own


def blind_parts(model: Any) -> list[str]:
    """Paths of the parts that text does not go through: those for images and sounds, beside those for text. Sorted."""
    if model.config.get_text_config() is model.config:
        return []
    read = {id(model.get_input_embeddings()), id(model.get_output_embeddings())}
    decoder, *head = [path for path, module in model.named_modules() if id(module) in read]
    used = (decoder.rpartition(".")[0], *head)
    above = ["", *(path for path, _ in model.named_modules() if any(each.startswith(f"{path}.") for each in used))]
    beside = {f"{path}.{name}".lstrip(".") for path in above for name, _ in model.get_submodule(path).named_children()}
    return sorted(each for each in beside if not any(f"{path}.".startswith(f"{each}.") for path in used))


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
    blind = blind_parts(model)
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=target_modules(model, lora),
        # Layers there have the names of layers of the text.
        exclude_modules=rf"({'|'.join(map(re.escape, blind))})\..*" if blind else None,
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
