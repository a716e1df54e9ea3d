"""The names that other tools have for our fields (facts: their documentation, read 2026-11)."""

from collections.abc import Mapping
from typing import Final, NamedTuple


class Alias(NamedTuple):
    """Another name of a field, and whose it is."""

    field: str
    peers: str


_AXOLOTL, _FACTORY, _TRL = "Axolotl", "LLaMA-Factory", "TRL"
_TOGETHER, _OPENAI = "Together", "OpenAI"


def _alias(field: str, *peers: str) -> Alias:
    return Alias(field, " and ".join(filter(None, [", ".join(peers[:-1]), peers[-1]])))


#: Taken at the top of the file (their files are flat) and in the section of the field.
ALIASES: Final[Mapping[str, Alias]] = {
    "model_name_or_path": _alias("base_model", _FACTORY, _TRL),
    "model": _alias("base_model", _TOGETHER, _OPENAI),
    "training_file": _alias("dataset.path", _TOGETHER, _OPENAI),
    "validation_file": _alias("validation.path", _TOGETHER, _OPENAI),
    "val_set_size": _alias("validation.split", _AXOLOTL),
    "val_size": _alias("validation.split", _FACTORY),
    "test_split_size": _alias("validation.split", _TRL),
    "suffix": _alias("name", _TOGETHER, _OPENAI),
    "rl": _alias("method", _AXOLOTL),
    "stage": _alias("method", _FACTORY),
    "training_method": _alias("method", _TOGETHER),
    "random_seed": _alias("seed", _TOGETHER),
    "num_epochs": _alias("training.epochs", _AXOLOTL),
    "num_train_epochs": _alias("training.epochs", _FACTORY, _TRL),
    "n_epochs": _alias("training.epochs", _TOGETHER, _OPENAI),
    "batch_size": _alias("training.batch_size", _TOGETHER, _OPENAI),
    "learning_rate": _alias("training.learning_rate", _AXOLOTL, _FACTORY, _TRL, _TOGETHER),
    "learning_rate_multiplier": _alias("training.learning_rate_multiplier", _OPENAI),
    "sequence_len": _alias("training.max_seq_length", _AXOLOTL),
    "cutoff_len": _alias("training.max_seq_length", _FACTORY),
    "max_length": _alias("training.max_seq_length", _TRL),
    "max_seq_length": _alias("training.max_seq_length", _TOGETHER),
    "packing": _alias("training.packing", _FACTORY, _TRL),
    "sample_packing": _alias("training.packing", _AXOLOTL),
    "warmup_ratio": _alias("training.warmup_ratio", _AXOLOTL, _FACTORY, _TRL, _TOGETHER),
    "weight_decay": _alias("training.weight_decay", _AXOLOTL, _FACTORY, _TRL, _TOGETHER),
    "max_grad_norm": _alias("training.max_grad_norm", _AXOLOTL, _FACTORY, _TRL, _TOGETHER),
    "lr_scheduler": _alias("training.lr_scheduler", _AXOLOTL),
    "lr_scheduler_type": _alias("training.lr_scheduler", _FACTORY, _TRL, _TOGETHER),
    "lora_r": _alias("lora.r", _AXOLOTL, _TRL, _TOGETHER),
    "lora_rank": _alias("lora.r", _FACTORY),
    "lora_alpha": _alias("lora.alpha", _AXOLOTL, _FACTORY, _TRL, _TOGETHER),
    "lora_dropout": _alias("lora.dropout", _AXOLOTL, _FACTORY, _TRL, _TOGETHER),
    "lora_target_modules": _alias("lora.target_modules", _AXOLOTL, _TRL),
    "lora_target": _alias("lora.target_modules", _FACTORY),
    "lora_trainable_modules": _alias("lora.target_modules", _TOGETHER),
    "beta": _alias("dpo.beta", _TRL, _OPENAI),
    "dpo_beta": _alias("dpo.beta", _TOGETHER),
    "pref_beta": _alias("dpo.beta", _FACTORY),
    "rl_beta": _alias("dpo.beta", _AXOLOTL),
    "micro_batch_size": _alias("local.micro_batch_size", _AXOLOTL),
    "per_device_train_batch_size": _alias("local.micro_batch_size", _FACTORY, _TRL),
    "gradient_checkpointing": _alias("local.gradient_checkpointing", _AXOLOTL, _TRL),
}

#: Said beside the alias where the two names do not mean quite the same.
REMARKS: Final[Mapping[str, str]] = {
    "micro_batch_size": "It is the batch on one GPU; `training.batch_size` is the whole batch of one optimiser step",
    "per_device_train_batch_size": (
        "It is the batch on one GPU; `training.batch_size` is the whole batch of one optimiser step"
    ),
}


class Elsewhere(NamedTuple):
    """A key of another tool that no field of ours can take as it is."""

    why: str
    fix: str


_LORA_ALWAYS: Final = Elsewhere("ft trains a LoRA adapter, always", "remove it")
_OWN_TIMES: Final = Elsewhere("ft reports every step and keeps its own checkpoints", "remove it")
_QUANTISED: Final = Elsewhere("ft does not train on quantised weights", "remove it, or set local.precision: bf16")
_PRECISION: Final = Elsewhere("ft has one field for the number format", "write local: {precision: bf16}")
_TEMPLATE: Final = Elsewhere("ft trains and serves with the base model's own chat template", "remove it")
_A_FILE: Final = Elsewhere("ft reads one training file", "write dataset: {path: datasets/train.jsonl}")

ELSEWHERE: Final[Mapping[str, Elsewhere]] = {
    "output_dir": Elsewhere(
        "A folder is not a name: ft keeps what it trains in its own store, under the recipe's `name`",
        "write name: support-bot, and remove output_dir",
    ),
    "datasets": _A_FILE,
    "dataset_name": _A_FILE,
    "dataset_dir": _A_FILE,
    "gradient_accumulation_steps": Elsewhere(
        "ft works it out: training.batch_size / (local.micro_batch_size x GPUs)",
        "write training: {batch_size: ...}, the batch of one optimiser step",
    ),
    "warmup_steps": Elsewhere("ft counts the warm-up as a share of the steps", "write training: {warmup_ratio: 0.03}"),
    "max_steps": Elsewhere("ft counts in passes over the rows", "write training: {epochs: ...}"),
    "hyperparameters": Elsewhere("ft has them in its section `training`", "write training: {epochs: ...}"),
    "gradient_checkpointing_kwargs": Elsewhere("ft chooses how activations are made again", "remove it"),
    "disable_gradient_checkpointing": Elsewhere(
        "ft makes activations again only where memory needs it, and has a field for it",
        "remove it, or write local: {gradient_checkpointing: false}",
    ),
    "bf16": _PRECISION,
    "fp16": _PRECISION,
    "load_in_4bit": _QUANTISED,
    "load_in_8bit": _QUANTISED,
    "quantization_bit": _QUANTISED,
    "lora_target_linear": Elsewhere("ft has one field for the layers", "write lora: {target_modules: all-linear}"),
    "adapter": _LORA_ALWAYS,
    "finetuning_type": _LORA_ALWAYS,
    "use_peft": _LORA_ALWAYS,
    "template": _TEMPLATE,
    "chat_template": _TEMPLATE,
    "logging_steps": _OWN_TIMES,
    "save_steps": _OWN_TIMES,
    "eval_steps": _OWN_TIMES,
}
