"""What a recipe asks for, in the words of Fireworks' fine-tuning; and what of it the API does not take."""

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from finetune.errors import Problem
from finetune.jobs import Json
from finetune.providers.keyed import not_taken, of_unknown_region, shown
from finetune.spec import Recipe, explicit

#: Recipe fields, by the names of the API's numbers.
NUMBERS: Final = {
    "epochs": "training.epochs",
    "learningRate": "training.learning_rate",
    "batchSizeSamples": "training.batch_size",
    "maxContextLength": "training.max_seq_length",
    "optimizerWeightDecay": "training.weight_decay",
    "loraRank": "lora.r",
}
#: The variable that holds the key of Weights and Biases; a recipe holds no secrets.
WANDB_KEY: Final = "WANDB_API_KEY"
#: By the vendor's package 1.2 (`PeftDetails.r`, `DpoConfig.beta`), as of 2026-11.
_RANKS: Final = (4, 64)
_BETA_BELOW: Final = 0.5
#: What the vendor's own models begin with.
_LIBRARY: Final = "accounts/fireworks/models/"
_MODEL: Final = re.compile(r"accounts/[a-z0-9-]+/models/[a-z0-9.-]+")
_NAME: Final = re.compile(r"[a-z0-9.-]+")
#: Names of models that people see have fewer characters than this.
_SHOWN: Final = 63
_PLAIN_KEY: Final = re.compile(r"ft_[a-z0-9]{1,40}-a[0-9]{1,9}")


@dataclass(frozen=True, kw_only=True)
class _Option:
    """A value of `provider_options`: its type, its bounds, and the methods that have it."""

    kind: type
    least: float = 0
    below: float | None = None
    methods: tuple[str, ...] = ("sft", "dpo")

    def fault(self, value: Any, method: str) -> str | None:
        """Why the value is not taken; None when it is."""
        if method not in self.methods:
            return f"it belongs to {' and '.join(self.methods)}"
        kinds = (int, float) if self.kind is float else (self.kind,)
        if type(value) not in kinds or value != value:
            return f"it is {_NAMED[self.kind]}"
        if self.kind is str:
            return None if value.strip() else "it is not empty"
        if self.below is not None:
            return None if self.least < value < self.below else f"it is between {self.least:g} and {self.below:g}"
        return f"it is {self.least:g} at least" if value < self.least else None


_NAMED: Final[Mapping[type, str]] = {int: "a whole number", float: "a number", str: "a text"}
OPTIONS: Final[Mapping[str, _Option]] = {
    "learning_rate_warmup_steps": _Option(kind=int),
    "beta": _Option(kind=float, below=_BETA_BELOW, methods=("dpo",)),
    "wandb_project": _Option(kind=str),
    "wandb_entity": _Option(kind=str),
}
#: What the API has and ft does not hand over, and why.
_NOT_HANDED_OVER: Final = {
    "output_model": "the model is named by the job, and the job by the key that ft finds it by",
    "early_stop": "managed training refuses it",
    "eval_auto_carveout": "the recipe says what is held back",
    "warm_start_from": "ft trains from base models",
    "is_turbo": "nobody publishes what it costs",
    "wandb_api_key": f"it is a secret; write wandb_project and set {WANDB_KEY}",
}


def job_id(run_key: str) -> str:
    """The job's id, made of the key alone: an id has no underscore. Never the same for two keys."""
    if _PLAIN_KEY.fullmatch(run_key):
        return run_key.replace("_", "-")
    return f"ft-{hashlib.sha256(run_key.encode()).hexdigest()[:40]}"


def base(recipe: Recipe) -> str:
    """The base model's whole name."""
    return whole(recipe.base_model)


def whole(written: str) -> str:
    """A model's whole name; one of the vendor's own may be written without where it is kept."""
    return written if written.startswith("accounts/") else _LIBRARY + written


def numbers(recipe: Recipe) -> Json:
    """What the recipe sets, by the API's names, and always how long to train: that is what is billed."""
    wanted, options = explicit(recipe), recipe.provider_options
    out: Json = {theirs: wanted[ours] for theirs, ours in NUMBERS.items() if wanted.get(ours) is not None}
    if "learning_rate_warmup_steps" in options:
        out["learningRateWarmupSteps"] = options["learning_rate_warmup_steps"]
    return {"baseModel": base(recipe), **out, "epochs": recipe.training.epochs}


def body(recipe: Recipe, train: str, validation: str | None, environ: Mapping[str, str]) -> Json:
    """What a create sends, with data sets by their whole names."""
    out: Json = {"dataset": train, "displayName": recipe.name[:_SHOWN]}
    if recipe.method == "dpo":
        beta = recipe.provider_options.get("beta")
        # Left out it is another method, by one of the vendor's two texts about that.
        loss = {"method": "DPO", **({} if beta is None else {"dpo": {"beta": beta}})}
        out |= {"trainingConfig": numbers(recipe), "lossConfig": loss}
    else:
        out |= {**numbers(recipe), **({"evaluationDataset": validation} if validation else {})}
    if wandb := _wandb(recipe, environ):
        out["wandbConfig"] = wandb
    return out


def faults(recipe: Recipe) -> list[Problem]:
    """Everything in the recipe that the API does not take. Sends nothing."""
    return [
        *_of_target(recipe),
        *_of_numbers(recipe),
        *_of_options(recipe),
        *of_unknown_region("Fireworks", recipe, "its API does not say where a training runs"),
    ]


def _wandb(recipe: Recipe, environ: Mapping[str, str]) -> Json | None:
    options = recipe.provider_options
    if "wandb_project" not in options:
        return None
    entity = {"entity": options["wandb_entity"]} if "wandb_entity" in options else {}
    return {
        "enabled": True,
        "apiKey": environ.get(WANDB_KEY, "").strip(),
        "project": options["wandb_project"],
        **entity,
    }


def _of_target(recipe: Recipe) -> Iterator[Problem]:
    written = recipe.base_model
    if not (_MODEL if "/" in written else _NAME).fullmatch(written):
        why = "its models are named like accounts/fireworks/models/qwen3-8b, or qwen3-8b for short"
        yield _not_taken("base_model", written, why, "take the name from Fireworks' model library")
    elif "/" not in written and recipe.register and recipe.register.gateways:
        # Better said before the training is paid for than when the version is measured over its base.
        why = "a version that is served is measured over its base, which answers by its whole name only"
        yield _not_taken("base_model", written, why, f"write {base(recipe)}")
    if recipe.method not in ("sft", "dpo"):
        yield _not_taken("method", recipe.method, "ft has sft and dpo there", "write one of these")


def _of_numbers(recipe: Recipe) -> Iterator[Problem]:
    rank = explicit(recipe).get("lora.r")
    least, most = _RANKS
    if rank is not None and not least <= rank <= most:
        yield _not_taken("lora.r", rank, f"an adapter there has {least} to {most}", f"write {least} to {most}")


def _of_options(recipe: Recipe) -> Iterator[Problem]:
    options = recipe.provider_options
    for name, value in options.items():
        place, option = f"provider_options.{name}", OPTIONS.get(name)
        if option is None:
            why = _NOT_HANDED_OVER.get(name, f"ft hands over {', '.join(OPTIONS)}")
            # It may be a secret in the wrong place, so it is not shown.
            yield _not_taken(place, None, why, "remove it")
        elif fault := option.fault(value, recipe.method):
            yield _not_taken(place, value, fault, "correct it")
    if "wandb_entity" in options and "wandb_project" not in options:
        place, value = "provider_options.wandb_entity", options["wandb_entity"]
        yield _not_taken(place, value, "there is no wandb_project", "add it, or remove this")


def _not_taken(place: str, value: Any, why: str, fix: str) -> Problem:
    return not_taken("Fireworks", place, None if value is None else shown(value), why, fix)
