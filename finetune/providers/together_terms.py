"""What a recipe asks for, in the words of Together's fine-tuning; and what of it the API does not take."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from finetune.errors import Problem
from finetune.jobs import Json
from finetune.providers.keyed import not_taken, of_unknown_region, shown
from finetune.spec import Recipe, explicit

#: Recipe fields, by the API's names.
FIELDS: Final = {
    "n_epochs": "training.epochs",
    "batch_size": "training.batch_size",
    "learning_rate": "training.learning_rate",
    "max_seq_length": "training.max_seq_length",
    "packing": "training.packing",
    "warmup_ratio": "training.warmup_ratio",
    "weight_decay": "training.weight_decay",
    "max_grad_norm": "training.max_grad_norm",
    "random_seed": "seed",
}
#: Further recipe fields that it does something about.
SHAPED: Final = frozenset({"training.lr_scheduler", "lora", "dpo.beta"})
#: What an estimate of the price looks at.
_PRICED: Final = (
    *("training_file", "validation_file", "model", "n_epochs", "n_evals", "training_method", "training_type"),
)
#: Evaluations on the held-out rows when nobody says how many: each is billed as one pass over them.
_EVALS: Final = 1
#: What the API takes where nothing is said of it. together 3.1.1, resources/fine_tuning.py.
_PATIENCE, _WARMUP = 2, 1


@dataclass(frozen=True, kw_only=True)
class _Option:
    """A value of `provider_options`: its type, the bounds of a number, and the only method that it is for."""

    kind: type
    least: float = 0
    #: The bound itself is not taken.
    above: bool = False
    most: float | None = None
    method: str | None = None

    def fault(self, value: Any, method: str) -> str | None:
        """Why the value is not taken; None when it is."""
        kinds = (int, float) if self.kind is float else (self.kind,)
        if type(value) not in kinds or value != value:
            return f"it is {_NAMED[self.kind]}"
        if self.method not in (None, method):
            return f"it is for method {self.method} only"
        if self.kind is bool:
            return None
        if value < self.least or (self.above and value == self.least):
            return f"it is {'above' if self.above else 'at least'} {self.least:g}"
        return f"it is {self.most:g} at most" if self.most is not None and value > self.most else None


_NAMED: Final[Mapping[type, str]] = {int: "a whole number", float: "a number", bool: "true or false"}
_DPO: Final = {
    "dpo_beta": _Option(kind=float, above=True, method="dpo"),
    "rpo_alpha": _Option(kind=float, method="dpo"),
    "simpo_gamma": _Option(kind=float, method="dpo"),
    "dpo_normalize_logratios_by_length": _Option(kind=bool, method="dpo"),
}
_SCHEDULE: Final = {"min_lr_ratio": _Option(kind=float, most=1), "num_cycles": _Option(kind=float, above=True)}
_PLAIN: Final = {
    "n_checkpoints": _Option(kind=int, least=1),
    "n_evals": _Option(kind=int),
    "gradient_accumulation_steps": _Option(kind=int, least=1),
    "early_stopping_enabled": _Option(kind=bool),
    "early_stopping_patience": _Option(kind=int, least=1),
    "early_stopping_min_delta": _Option(kind=float),
    "early_stopping_warmup_evals": _Option(kind=int),
}
OPTIONS: Final[Mapping[str, _Option]] = {
    **_PLAIN,
    **_SCHEDULE,
    **_DPO,
    "train_on_inputs": _Option(kind=bool, method="sft"),
    "train_vision": _Option(kind=bool),
}
_KEY_NAMES: Final = "the description and the vendor's package name its key differently, so neither is sent"
#: What the API has and ft does not hand over, and why.
_NOT_HANDED_OVER: Final = {
    "suffix": "the suffix carries the key by which ft finds its jobs again",
    "training_type": "ft trains LoRA there, by the recipe's `lora`",
    "training_method": "the recipe's `method` says it",
    "lr_scheduler": "the recipe's training.lr_scheduler says it",
    "from_checkpoint": "ft begins with the recipe's base_model",
    "from_hf_model": "ft begins with the recipe's base_model",
    "hf_api_token": "a recipe holds no secrets",
    "hf_output_repo_name": "it needs a secret of another host",
    **dict.fromkeys(("wandb_api_key", "wandb_key", "wandb_project_name", "wandb_name", "wandb_entity"), _KEY_NAMES),
}


def faults(recipe: Recipe) -> list[Problem]:
    """Everything in the recipe that the API does not take. Sends nothing."""
    return [
        *_of_training(recipe),
        *_of_options(recipe),
        *_of_stopping(recipe),
        *of_unknown_region("Together", recipe, "the address does not say where Together computes"),
    ]


def wanted(recipe: Recipe, data: Json, run_key: str) -> Json:
    """The body of a create: what the recipe sets, and always how long to train. All else is left to the API."""
    said, options = explicit(recipe), recipe.provider_options
    out: Json = {
        "training_file": data["train"],
        "model": recipe.base_model,
        "suffix": run_key,
        "training_method": _method(recipe),
        **{theirs: said[ours] for theirs, ours in FIELDS.items() if said.get(ours) is not None},
        "n_epochs": recipe.training.epochs,
        **{name: options[name] for name in _PLAIN if name in options},
    }
    if data.get("validation"):
        # Without evaluations the held-out rows would not be looked at.
        out |= {"validation_file": data["validation"], "n_evals": options.get("n_evals", _EVALS)}
    if any(name.startswith("lora.") for name in said):
        out["training_type"] = _lora(recipe)
    if "training.lr_scheduler" in said:
        out["lr_scheduler"] = _schedule(recipe)
    if "train_vision" in options:
        out["multimodal_params"] = {"train_vision": options["train_vision"]}
    return out


def priced(body: Json) -> Json:
    """What of a create an estimate of its price takes."""
    return {name: body[name] for name in _PRICED if name in body}


def _method(recipe: Recipe) -> Json:
    options = recipe.provider_options
    if recipe.method == "sft":
        return {"method": "sft", "train_on_inputs": options.get("train_on_inputs", "auto")}
    beta = {"dpo_beta": recipe.dpo.beta} if "dpo.beta" in explicit(recipe) else {}
    out = {"method": "dpo", **beta, **{name: options[name] for name in _DPO if name in options}}
    if options.get("simpo_gamma"):
        # SimPO has no reference model and counts by length. together 3.1.1, lib/resources/fine_tuning.py.
        out |= {"dpo_reference_free": True, "dpo_normalize_logratios_by_length": True}
    return out


def _lora(recipe: Recipe) -> Json:
    """The adapter as the recipe has it: what it does not set has the recipe's own defaults."""
    modules = recipe.lora.target_modules
    return {
        "type": "Lora",
        "lora_r": recipe.lora.r,
        "lora_alpha": recipe.lora.alpha,
        "lora_dropout": recipe.lora.dropout,
        "lora_trainable_modules": modules if isinstance(modules, str) else ",".join(modules),
    }


def _schedule(recipe: Recipe) -> Json:
    options, kind = recipe.provider_options, recipe.training.lr_scheduler
    args: Json = {"min_lr_ratio": options.get("min_lr_ratio", 0.0)}
    if kind == "cosine":
        args["num_cycles"] = options.get("num_cycles", 0.5)
    return {"lr_scheduler_type": kind, "lr_scheduler_args": args}


def _of_training(recipe: Recipe) -> Iterator[Problem]:
    said, options = explicit(recipe), recipe.provider_options
    kind = said.get("training.lr_scheduler")
    if kind == "constant":
        yield _not_taken("training.lr_scheduler", kind, "Together has linear and cosine", "write one of them")
    if said.get("training.packing") is False:
        # The plan counts real tokens, and the API's own estimate is not told of packing.
        why = "without packing Together bills each row as long as max_seq_length, which no estimate shows"
        yield _not_taken("training.packing", False, why, "write true, or remove it")
    for name in _SCHEDULE:
        needed = ("linear", "cosine") if name == "min_lr_ratio" else ("cosine",)
        if name in options and kind not in needed:
            why = f"it belongs to training.lr_scheduler {' or '.join(needed)}, and the recipe does not set that"
            yield _not_taken(f"provider_options.{name}", options[name], why, "set it, or remove this")


def _of_options(recipe: Recipe) -> Iterator[Problem]:
    for name, value in recipe.provider_options.items():
        place, option = f"provider_options.{name}", OPTIONS.get(name)
        if option is None:
            why = _NOT_HANDED_OVER.get(name, f"the API has {', '.join(OPTIONS)}")
            # It may be a secret in the wrong place, so it is not shown.
            yield _not_taken(place, None, why, "remove it")
        elif name == "dpo_beta" and "dpo.beta" in explicit(recipe):
            yield _not_taken(place, value, "the recipe's `dpo.beta` says it", "remove one of the two")
        elif fault := option.fault(value, recipe.method):
            yield _not_taken(place, value, fault, "correct it")
        elif name == "n_evals" and value and recipe.validation is None:
            yield _not_taken(place, value, "there are no rows to evaluate on", "add `validation`, or remove this")


def _of_stopping(recipe: Recipe) -> Iterator[Problem]:
    """Ending early needs evaluations: so many that it could ever happen."""
    if recipe.provider_options.get("early_stopping_enabled") is not True:
        return
    place = "provider_options.early_stopping_enabled"
    if recipe.validation is None:
        yield _not_taken(place, True, "there are no rows to evaluate on", "add `validation`, or remove this")
        return
    patience = _counted(recipe, "early_stopping_patience", _PATIENCE)
    least = patience + _counted(recipe, "early_stopping_warmup_evals", _WARMUP) + 1
    if _counted(recipe, "n_evals", _EVALS) < least:
        why = f"with this patience and warm-up it needs {least} evaluations at least"
        yield _not_taken(place, True, why, f"write n_evals: {least} in provider_options")


def _counted(recipe: Recipe, name: str, otherwise: int) -> int:
    value = recipe.provider_options.get(name, otherwise)
    return value if isinstance(value, int) else otherwise


def _not_taken(place: str, value: Any, why: str, fix: str) -> Problem:
    return not_taken("Together", place, None if value is None else shown(value), why, fix)
