"""A recipe as Vertex AI's tuning takes it: what it cannot take, and the request that is made of it."""

import re
from collections.abc import Mapping
from typing import Any, Final

from finetune.errors import Problem
from finetune.jobs import Json
from finetune.providers.keyed import Options, Place, not_taken, of_options, of_region
from finetune.providers.vertex_wire import TITLE
from finetune.spec import Recipe, default, explicit

#: Labels of a job: our run key, and whose it is.
RUN_KEY: Final = "ft-run-key"
_OWNER: Final = {"managed-by": "ft"}
_METHODS: Final = {"sft": "SUPERVISED_FINE_TUNING", "dpo": "PREFERENCE_TUNING"}
_ADAPTERS: Final[Mapping[int, str]] = {
    1: "ADAPTER_SIZE_ONE",
    2: "ADAPTER_SIZE_TWO",
    4: "ADAPTER_SIZE_FOUR",
    8: "ADAPTER_SIZE_EIGHT",
    16: "ADAPTER_SIZE_SIXTEEN",
    32: "ADAPTER_SIZE_THIRTY_TWO",
}
#: https://docs.cloud.google.com/vertex-ai/generative-ai/docs/models/gemini-preference-tuning, read 2026-11-24.
_LARGEST_DPO: Final = 16
_NAME_MOST: Final = 128
_LABELS_MOST: Final = 64
_LABEL: Final = re.compile(r"[a-z][a-z0-9_-]{0,63}")
_LABEL_VALUE: Final = re.compile(r"[a-z0-9_-]{0,64}")
_KMS: Final = re.compile(r"projects/[^/]+/locations/[^/]+/keyRings/[^/]+/cryptoKeys/[^/]+")
#: Locations outside the European Union that begin as those inside do: London and Zurich.
_NOT_EU: Final = frozenset({"europe-west2", "europe-west6"})


def _is_labels(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and len(value) <= _LABELS_MOST - len(_OWNER) - 1
        and all(
            _LABEL.fullmatch(key) and isinstance(each, str) and _LABEL_VALUE.fullmatch(each)
            for key, each in value.items()
        )
        and not value.keys() & {RUN_KEY, *_OWNER}
    )


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and 1 <= len(value) <= _NAME_MOST


#: What `provider_options` may hold: what it has to be, in words, and the test of it.
_OPTIONS: Final[Options] = {
    "beta": (
        "a number above 0, for `method: dpo`",
        lambda value: isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0,
    ),
    "export_last_checkpoint_only": ("true or false", lambda value: isinstance(value, bool)),
    "tuned_model_display_name": (f"a text of 1 to {_NAME_MOST} characters", _is_name),
    "description": ("a text", lambda value: isinstance(value, str)),
    "labels": ("at most 62 words of small letters, digits, - and _, with values of the same; not ft's own", _is_labels),
    "kms_key_name": (
        "projects/P/locations/L/keyRings/R/cryptoKeys/K",
        lambda value: isinstance(value, str) and bool(_KMS.fullmatch(value)),
    ),
    "tuning_mode": (
        "TUNING_MODE_FULL or TUNING_MODE_PEFT_ADAPTER, for open models",
        lambda value: value in ("TUNING_MODE_FULL", "TUNING_MODE_PEFT_ADAPTER"),
    ),
    "output_uri": (
        "a folder at gs://, for open models",
        lambda value: isinstance(value, str) and value.startswith("gs://"),
    ),
}
_OF_OPEN: Final = ("tuning_mode", "output_uri")


def is_open(base_model: str) -> bool:
    """Whether it is a model with open weights: those have a publisher in their name (`meta/llama3_1@...`)."""
    own = base_model.startswith(("publishers/google/models/gemini", "projects/"))
    return "/" in base_model and not own


def problems(recipe: Recipe, location: str | None) -> list[Problem]:
    """All that Vertex AI cannot do of it. `location` None: it is not set."""
    return [
        *_of_numbers(recipe),
        *_of_rank(recipe),
        *of_options(TITLE, recipe, _OPTIONS, _elsewhere),
        *of_region(TITLE, recipe, Place("GOOGLE_CLOUD_LOCATION", location, _within)),
    ]


def request(recipe: Recipe, data: Json, run_key: str, bucket: str) -> Json:
    """The fields of `types.CreateTuningJobConfig`. What the recipe does not set is not there: a default holds."""
    said, options = explicit(recipe), recipe.provider_options
    open_model = is_open(recipe.base_model)
    out: Json = {
        "method": _METHODS[recipe.method],
        "tuned_model_display_name": recipe.name,
        "labels": {**_mapping(options.get("labels")), RUN_KEY: run_key, **_OWNER},
        # Always: it is what is billed.
        "epoch_count": recipe.training.epochs,
    }
    numbers = {"training.learning_rate_multiplier": "learning_rate_multiplier"}
    if open_model:
        numbers |= {"training.learning_rate": "learning_rate", "training.batch_size": "batch_size"}
        out["output_uri"] = f"gs://{bucket}/ft-output/{run_key}"
    out |= {theirs: said[ours] for ours, theirs in numbers.items() if ours in said}
    if "lora.r" in said:
        out["adapter_size"] = _ADAPTERS[recipe.lora.r]
    if data.get("validation"):
        out["validation_dataset"] = {"gcs_uri": data["validation"]}
    out |= {name: value for name, value in options.items() if name not in ("labels", "kms_key_name")}
    if "kms_key_name" in options:
        out["encryption_spec"] = {"kms_key_name": options["kms_key_name"]}
    return out


def unfit(recipe: Recipe, data: Json) -> Problem | None:
    """The data has a layout that the model cannot read: open models take messages, Google's own take contents."""
    gemini = str(data.get("format") or "").startswith("gemini")
    if gemini != is_open(recipe.base_model):
        return None
    return not_taken(
        TITLE,
        "base_model",
        recipe.base_model,
        f"its rows would have to be laid out otherwise than as {data.get('format')}",
        "choose a gemini model, or another provider for the open weights",
    )


def _of_numbers(recipe: Recipe) -> list[Problem]:
    """Fields that such a model does not have; not those that repeat their default, or that may be ignored."""
    open_model = is_open(recipe.base_model)
    fields = {
        "training.learning_rate": (not open_model, "Google's own models take a factor, never a rate of ours"),
        "training.batch_size": (not open_model, "for its own models Google chooses it"),
        "training.learning_rate_multiplier": (open_model, "open models take a rate, never a factor"),
    }
    said = explicit(recipe)
    return [
        not_taken(TITLE, field, str(said[field]), why, f"remove it, or accept that with `allow_ignored: [{field}]`")
        for field, (refused, why) in fields.items()
        if refused and field in said and said[field] != default(field) and field not in recipe.allow_ignored
    ]


def _of_rank(recipe: Recipe) -> list[Problem]:
    if "lora.r" not in explicit(recipe):
        return []
    sizes = [size for size in _ADAPTERS if recipe.method != "dpo" or size <= _LARGEST_DPO]
    if recipe.lora.r in sizes:
        return []
    why = f"adapters for `method: {recipe.method}` have the size {', '.join(map(str, sizes))}"
    return [not_taken(TITLE, "lora.r", str(recipe.lora.r), why, "write one of these")]


def _elsewhere(recipe: Recipe, name: str) -> bool:
    """Whether the option belongs to another method or to other models only."""
    return (name == "beta" and recipe.method != "dpo") or (name in _OF_OPEN and not is_open(recipe.base_model))


def _within(location: str, region: str) -> bool:
    if region == "eu":
        return location == "eu" or (location.startswith("europe-") and location not in _NOT_EU)
    return location == region or location.startswith(f"{region}-")


def _mapping(value: Any) -> dict[str, Any]:
    return dict(value) if isinstance(value, dict) else {}
