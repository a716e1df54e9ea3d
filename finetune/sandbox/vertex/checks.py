"""What Vertex AI takes of a tuning job: values, models, regions. Sources stand beside what is not in the catalogue."""

import re
from collections.abc import Sequence
from datetime import date
from typing import TYPE_CHECKING, Any, Final

from finetune.catalogue import load
from finetune.sandbox.service import Request
from finetune.sandbox.vertex.bodies import (
    SPECS,
    PreferenceOptimizationHyperParameters,
    PreferenceOptimizationSpec,
    SupervisedHyperParameters,
    SupervisedTuningSpec,
    TuningJob,
)
from finetune.sandbox.vertex.words import google_refusal, invalid

if TYPE_CHECKING:
    from finetune.catalogue import ProviderSheet

#: Models and regions as https://docs.cloud.google.com/vertex-ai/generative-ai/docs/models/open-model-tuning named
#: them on 2026-11-24. That Google's own models are tuned in the same two regions is an assumption.
OPEN_MODELS: Final = (
    "google/gemma-3-27b-it",
    "meta/llama3_1@llama-3.1-8b",
    "meta/llama3_1@llama-3.1-8b-instruct",
    "meta/llama3-2@llama-3.2-1b-instruct",
    "meta/llama3-2@llama-3.2-3b-instruct",
    "meta/llama3-3@llama-3.3-70b-instruct",
    "meta/llama4@llama-4-scout-17b-16e-instruct",
    "qwen/qwen3@qwen3-32b",
)
REGIONS: Final = ("us-central1", "europe-west4")
Spec = SupervisedTuningSpec | PreferenceOptimizationSpec

_LABELS: Final = 64
_LABEL: Final = 64
_DISPLAY_NAME: Final = 128
_SMALL: Final = ("ADAPTER_SIZE_THIRTY_TWO",)
_TUNED: Final = re.compile(r"projects/[^/]+/locations/([^/]+)/models/[^/]+")
_KMS: Final = re.compile(r"projects/[^/]+/locations/([^/]+)/keyRings/[^/]+/cryptoKeys/[^/]+")
_URI: Final = re.compile(r"gs://([a-z0-9][a-z0-9._-]{1,220})/(.+)")
_ALWAYS: Final = frozenset({"alt", "fields", "prettyPrint", "key", "quotaUser", "$alt", "$.xgafv"})


class Models:
    """The models that can be tuned: Google's own by the catalogue, and open ones by name."""

    def __init__(self, open_models: Sequence[str]) -> None:
        self._open = frozenset(open_models)
        self._sheet: ProviderSheet | None = None

    def is_open(self, name: str) -> bool:
        """Whether the weights of this model are open."""
        return _plain(name) in self._open

    def refuse(self, name: str, method: str, today: date) -> None:
        """Raise Refusal unless the model is tuned by this method today."""
        if self.is_open(name):
            if method != "sft":
                raise invalid("tuning_job", f"{name} is tuned by supervised tuning only")
            return
        if self._sheet is None:
            self._sheet = load().provider("vertex")
        model = self._sheet.model(_plain(name)) if self._sheet else None
        flag = getattr(model.methods, method) if model else None
        # Whether a model that is tuned at all is tuned by preferences too, Google's pages do not say of each.
        if model is None or (flag is not None and not flag.value) or (flag is None and method == "sft"):
            raise invalid("tuning_job.base_model", f"{name} is no model that can be tuned by {method}")
        gone = [model.dates.create_until, model.dates.serve_until, model.dates.retired]
        if any(each is not None and not each.at_least and each.value <= today for each in gone):
            raise google_refusal(404, f"the model {name} is not available any more")


def check(asked: TuningJob, models: Models, location: str, today: date) -> tuple[Spec, str]:
    """The kind of tuning and its method, of a job that may be created. Raises Refusal."""
    spec, method = _spec(asked)
    _words(asked, location)
    if not spec.training_dataset_uri:
        raise invalid("training_dataset_uri", "is required")
    if (asked.base_model is None) == (asked.pre_tuned_model is None):
        raise invalid("tuning_job.source_model", "one of base_model and pre_tuned_model is required")
    if asked.pre_tuned_model is not None:
        found = _TUNED.fullmatch(asked.pre_tuned_model.tuned_model_name or "")
        if not found or found[1] != location:
            raise invalid("tuning_job.pre_tuned_model.tuned_model_name", f"is no model in {location}")
    else:
        models.refuse(str(asked.base_model), method, today)
    is_open = asked.base_model is not None and models.is_open(asked.base_model)
    _open_only(asked, spec, is_open)
    _hyper(spec.hyper_parameters, is_open)
    return spec, method


def layout(asked: TuningJob, method: str) -> str:
    """How the rows are laid out, as `vertex_rows.read` names it."""
    if method == "dpo":
        return "gemini-preference"
    return "open" if "/" in _plain(asked.base_model or "") else "gemini"


def gcs_uri(field: str, uri: str | None) -> tuple[str, str]:
    """Bucket and name of a `gs://` address. Raises Refusal."""
    found = _URI.fullmatch(uri or "")
    if found is None:
        raise invalid(field, f"{uri!r} is no gs:// address of an object in Cloud Storage")
    return found[1], found[2]


def parameters(request: Request, known: set[str]) -> None:
    """Raise Refusal for a parameter that the operation does not have."""
    if unknown := sorted(request.query.keys() - known - _ALWAYS):
        raise google_refusal(400, f"unknown parameters: {', '.join(unknown)}")


def whole(request: Request, name: str, otherwise: int) -> int:
    """A whole number, 0 or more, of the query. Raises Refusal."""
    value = request.one(name)
    if value is None or value == "":
        return otherwise
    if not value.isdigit():
        raise invalid(name, f"{value!r} is no such number")
    return int(value)


def _plain(model: str) -> str:
    return model.removeprefix("publishers/google/models/")


def _spec(asked: TuningJob) -> tuple[Spec, str]:
    said = [name for name in SPECS if getattr(asked, name) is not None]
    if len(said) != 1:
        raise invalid("tuning_job.tuning_spec", "exactly one kind of tuning is required")
    if asked.supervised_tuning_spec is not None:
        if asked.supervised_tuning_spec.evaluation_config is not None:
            raise google_refusal(501, "the sandbox evaluates nothing after a tuning")
        return asked.supervised_tuning_spec, "sft"
    if asked.preference_optimization_spec is not None:
        return asked.preference_optimization_spec, "dpo"
    raise invalid(f"tuning_job.{said[0]}", "the model is not tuned in this way")


def _words(asked: TuningJob, location: str) -> None:
    if len(asked.tuned_model_display_name or "") > _DISPLAY_NAME:
        raise invalid("tuning_job.tuned_model_display_name", f"has more than {_DISPLAY_NAME} characters")
    labels = asked.labels or {}
    if len(labels) > _LABELS:
        raise invalid("tuning_job.labels", f"are more than {_LABELS}")
    for key, value in labels.items():
        if not key or not key[0].isalpha() or not _is_label(key):
            raise invalid("tuning_job.labels", f"the key {key!r} is not in small letters, digits, - and _, at most 64")
        if not _is_label(value):
            raise invalid("tuning_job.labels", f"the value of {key!r} is not such a word")
    if asked.service_account is not None and not re.fullmatch(r"[^@\s]+@[^@\s]+", asked.service_account):
        raise invalid("tuning_job.service_account", "is no address of a service account")
    if asked.encryption_spec is not None:
        found = _KMS.fullmatch(asked.encryption_spec.kms_key_name or "")
        if not found or found[1] != location:
            raise invalid("tuning_job.encryption_spec.kms_key_name", f"is no key in {location}")


def _is_label(word: str) -> bool:
    """Letters of all scripts are taken, capitals of none."""
    return len(word) <= _LABEL and all(
        each in "-_" or each.isdigit() or (each.isalpha() and each == each.lower()) for each in word
    )


def _open_only(asked: TuningJob, spec: Spec, is_open: bool) -> None:
    mode = getattr(spec, "tuning_mode", None)
    only = {"custom_base_model": asked.custom_base_model, "output_uri": asked.output_uri}
    for field, value in only.items():
        if value is not None and not is_open:
            raise invalid(f"tuning_job.{field}", "is for open models only")
    if mode == "TUNING_MODE_FULL" and not is_open:
        raise invalid("tuning_job.supervised_tuning_spec.tuning_mode", "full tuning is for open models only")
    if is_open and asked.output_uri is None:
        raise invalid("tuning_job.output_uri", "is required for open models")
    if asked.custom_base_model is not None:
        gcs_uri("tuning_job.custom_base_model", asked.custom_base_model)


def _hyper(
    hyper: SupervisedHyperParameters | PreferenceOptimizationHyperParameters | None,
    is_open: bool,
) -> None:
    """Raise Refusal for a value that is out of range, or not for such a model."""
    if hyper is None:
        return
    said: dict[str, Any] = hyper.model_dump(exclude_none=True)
    for field in ("epoch_count", "batch_size", "learning_rate", "learning_rate_multiplier", "beta"):
        if said.get(field, 1) <= 0:
            raise invalid(f"hyper_parameters.{field}", "has to be greater than 0")
    if "learning_rate" in said and "learning_rate_multiplier" in said:
        raise invalid("hyper_parameters.learning_rate", "excludes learning_rate_multiplier")
    for field in ("learning_rate", "batch_size"):
        if field in said and not is_open:
            raise invalid(f"hyper_parameters.{field}", "is for open models only")
    if "learning_rate_multiplier" in said and is_open:
        raise invalid("hyper_parameters.learning_rate_multiplier", "is for Google's own models only")
    preference = isinstance(hyper, PreferenceOptimizationHyperParameters)
    # https://docs.cloud.google.com/vertex-ai/generative-ai/docs/models/gemini-preference-tuning: 1, 2, 4, 8 and 16.
    if preference and said.get("adapter_size") in _SMALL:
        raise invalid("hyper_parameters.adapter_size", "a tuning by preferences has at most 16")
