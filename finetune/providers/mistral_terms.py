"""What a recipe asks for, in the words of Mistral's fine-tuning; and what of it the API does not take."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from finetune.errors import Problem
from finetune.jobs import Json
from finetune.providers.keyed import not_taken, of_unknown_region, shown
from finetune.spec import Recipe, explicit

#: Recipe fields, by the names of the API's hyperparameters.
HYPERPARAMETERS: Final = {
    "epochs": "training.epochs",
    "learning_rate": "training.learning_rate",
    "weight_decay": "training.weight_decay",
    "warmup_fraction": "training.warmup_ratio",
    "seq_len": "training.max_seq_length",
}
#: The variable that holds the key of Weights and Biases; a recipe holds no secrets.
WANDB_KEY: Final = "WANDB_API_KEY"
_LEAST_RATE: Final = 1e-8
_LEAST_LENGTH: Final = 100


@dataclass(frozen=True, kw_only=True)
class _Option:
    """A value of `provider_options`: its type and, of a number, its bounds."""

    kind: type
    least: float = 0
    most: float | None = None

    def fault(self, value: Any) -> str | None:
        """Why the value is not taken; None when it is."""
        kinds = (int, float) if self.kind is float else (self.kind,)
        if type(value) not in kinds or value != value:
            return f"it is {_NAMED[self.kind]}"
        if self.kind is str:
            return None if value.strip() else "it is not empty"
        if value < self.least:
            return f"it is {self.least:g} at least"
        return f"it is {self.most:g} at most" if self.most is not None and value > self.most else None


_NAMED: Final[Mapping[type, str]] = {int: "a whole number", float: "a number", str: "a text"}
OPTIONS: Final[Mapping[str, _Option]] = {
    "training_steps": _Option(kind=int, least=1),
    "fim_ratio": _Option(kind=float, most=1),
    "invalid_sample_skip_percentage": _Option(kind=float, most=0.5),
    "wandb_project": _Option(kind=str),
    "wandb_name": _Option(kind=str),
    "wandb_run_name": _Option(kind=str),
}
#: What the API has and ft does not hand over, and why.
_NOT_HANDED_OVER: Final = {
    "suffix": "the suffix carries the key by which ft finds its jobs again",
    "auto_start": "ft starts a job when its cost is known and allowed",
    "integrations": f"it holds a secret; write wandb_project and set {WANDB_KEY}",
    "repositories": "training data comes from the recipe's dataset",
    "job_type": "ft trains models that complete, and no classifiers here",
    "classifier_targets": "ft trains models that complete, and no classifiers here",
}


def faults(recipe: Recipe) -> list[Problem]:
    """Everything in the recipe that the API does not take. Sends nothing."""
    return [
        *_of_training(recipe),
        *_of_options(recipe),
        *of_unknown_region("Mistral", recipe, "the address does not say where Mistral computes"),
    ]


def hyperparameters(recipe: Recipe) -> Json:
    """What the recipe sets, by the API's names, and always how long to train: that is what is billed.

    All else that it does not set is left to the API.
    """
    wanted, options = explicit(recipe), recipe.provider_options
    out: Json = {theirs: wanted[ours] for theirs, ours in HYPERPARAMETERS.items() if wanted.get(ours) is not None}
    if "training_steps" not in options:
        out["epochs"] = recipe.training.epochs
    return out | {name: options[name] for name in ("training_steps", "fim_ratio") if name in options}


def wandb(recipe: Recipe, environ: Mapping[str, str]) -> Json | None:
    """The integration with Weights and Biases, with its key; None when the recipe wants none."""
    options = recipe.provider_options
    if "wandb_project" not in options:
        return None
    named = {"name": options.get("wandb_name"), "run_name": options.get("wandb_run_name")}
    known = {name: value for name, value in named.items() if value is not None}
    return {"project": options["wandb_project"], "api_key": environ.get(WANDB_KEY, ""), **known}


def _of_training(recipe: Recipe) -> Iterator[Problem]:
    wanted = explicit(recipe)
    least = {"training.learning_rate": _LEAST_RATE, "training.max_seq_length": _LEAST_LENGTH}
    for place, bound in least.items():
        value = wanted.get(place)
        if value is not None and value < bound:
            yield _not_taken(place, value, f"Mistral takes {bound:g} at least", f"write {bound:g} or more")
    if "training.epochs" in wanted and "training_steps" in recipe.provider_options:
        why = "training.epochs says the same in other words, and both may not stand together"
        value = recipe.provider_options["training_steps"]
        yield _not_taken("provider_options.training_steps", value, why, "remove one of the two")


def _of_options(recipe: Recipe) -> Iterator[Problem]:
    for name, value in recipe.provider_options.items():
        place, option = f"provider_options.{name}", OPTIONS.get(name)
        if option is None:
            why = _NOT_HANDED_OVER.get(name, f"the API has {', '.join(OPTIONS)}")
            # It may be a secret in the wrong place, so it is not shown.
            yield _not_taken(place, None, why, "remove it")
        elif fault := option.fault(value):
            yield _not_taken(place, value, fault, "correct it")
    for name in ("wandb_name", "wandb_run_name"):
        if name in recipe.provider_options and "wandb_project" not in recipe.provider_options:
            value = recipe.provider_options[name]
            yield _not_taken(f"provider_options.{name}", value, "there is no wandb_project", "add it, or remove this")


def _not_taken(place: str, value: Any, why: str, fix: str) -> Problem:
    return not_taken("Mistral", place, None if value is None else shown(value), why, fix)
