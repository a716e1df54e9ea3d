"""The body of `tuningJobs.create` as Google's published description of v1beta1 has it, and what it says of a wrong one.

Both spellings of a field are taken (`baseModel`, `base_model`), a 64-bit number may be text, null is unset, and what is
the service's own to write is dropped without a word: so do Google's APIs. An unknown field is refused.
"""

import json
import re
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, StrictStr, ValidationError
from pydantic.alias_generators import to_camel

from finetune.sandbox.vertex.words import google_refusal


def _int64(value: Any) -> Any:
    if isinstance(value, str) and re.fullmatch(r"-?\d{1,19}", value):
        return int(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError("must be a whole number (TYPE_INT64)")
    return value


def _number(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError("must be a number (TYPE_DOUBLE)")
    return float(value)


Int64 = Annotated[int, BeforeValidator(_int64)]
Number = Annotated[float, BeforeValidator(_number), Field(allow_inf_nan=False)]
AdapterSize = Literal[
    "ADAPTER_SIZE_UNSPECIFIED",
    "ADAPTER_SIZE_ONE",
    "ADAPTER_SIZE_TWO",
    "ADAPTER_SIZE_FOUR",
    "ADAPTER_SIZE_EIGHT",
    "ADAPTER_SIZE_SIXTEEN",
    "ADAPTER_SIZE_THIRTY_TWO",
]
TuningMode = Literal["TUNING_MODE_UNSPECIFIED", "TUNING_MODE_FULL", "TUNING_MODE_PEFT_ADAPTER"]
_Object = dict[str, Any]


class _Message(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid")


class SupervisedHyperParameters(_Message):
    """How a supervised tuning is done."""

    epoch_count: Int64 | None = None
    learning_rate_multiplier: Number | None = None
    learning_rate: Number | None = None
    adapter_size: AdapterSize | None = None
    batch_size: Int64 | None = None


class SupervisedTuningSpec(_Message):
    """Supervised tuning."""

    training_dataset_uri: StrictStr | None = None
    validation_dataset_uri: StrictStr | None = None
    hyper_parameters: SupervisedHyperParameters | None = None
    export_last_checkpoint_only: StrictBool | None = None
    evaluation_config: _Object | None = None
    tuning_mode: TuningMode | None = None


class PreferenceOptimizationHyperParameters(_Message):
    """How a tuning by preferences is done."""

    epoch_count: Int64 | None = None
    learning_rate_multiplier: Number | None = None
    adapter_size: AdapterSize | None = None
    beta: Number | None = None


class PreferenceOptimizationSpec(_Message):
    """Tuning by preferences."""

    training_dataset_uri: StrictStr | None = None
    validation_dataset_uri: StrictStr | None = None
    hyper_parameters: PreferenceOptimizationHyperParameters | None = None
    export_last_checkpoint_only: StrictBool | None = None


class PreTunedModel(_Message):
    """A tuned model to go on from; `base_model` is the service's own to write."""

    tuned_model_name: StrictStr | None = None
    checkpoint_id: StrictStr | None = None
    base_model: Any = None


class EncryptionSpec(_Message):
    """The customer's own key."""

    kms_key_name: StrictStr | None = None


class TuningJob(_Message):
    """The body of a create."""

    base_model: StrictStr | None = None
    pre_tuned_model: PreTunedModel | None = None
    custom_base_model: StrictStr | None = None
    description: StrictStr | None = None
    tuned_model_display_name: StrictStr | None = None
    labels: dict[str, StrictStr] | None = None
    encryption_spec: EncryptionSpec | None = None
    output_uri: StrictStr | None = None
    service_account: StrictStr | None = None
    supervised_tuning_spec: SupervisedTuningSpec | None = None
    preference_optimization_spec: PreferenceOptimizationSpec | None = None
    # Kinds of tuning that no model of the stand-in has.
    distillation_spec: _Object | None = None
    full_fine_tuning_spec: _Object | None = None
    partner_model_tuning_spec: _Object | None = None
    reinforcement_tuning_spec: _Object | None = None
    veo_tuning_spec: _Object | None = None
    veo_lora_tuning_spec: _Object | None = None
    # The service's own.
    name: Any = None
    state: Any = None
    tuning_job_state: Any = None
    tuning_job_metadata: Any = None
    create_time: Any = None
    start_time: Any = None
    end_time: Any = None
    update_time: Any = None
    error: Any = None
    experiment: Any = None
    gcs_metrics_uri: Any = None
    tuned_model: Any = None
    tuning_data_stats: Any = None
    pipeline_job: Any = None
    evaluate_dataset_runs: Any = None
    satisfies_pzs: Any = None
    satisfies_pzi: Any = None


#: What is dropped when a request says it.
OUTPUT_ONLY: Final = frozenset(
    {
        *("name", "state", "tuning_job_state", "tuning_job_metadata", "create_time", "start_time", "end_time"),
        *("update_time", "error", "experiment", "gcs_metrics_uri", "tuned_model", "tuning_data_stats"),
        *("pipeline_job", "evaluate_dataset_runs", "satisfies_pzs", "satisfies_pzi"),
    }
)
SPECS: Final = (
    *("supervised_tuning_spec", "preference_optimization_spec", "distillation_spec", "full_fine_tuning_spec"),
    *("partner_model_tuning_spec", "reinforcement_tuning_spec", "veo_tuning_spec", "veo_lora_tuning_spec"),
)


def read(raw: bytes) -> TuningJob:
    """The body, every type right and no field unknown. Raises Refusal (400) with each fault."""
    try:
        value = json.loads(raw or b"{}")
    except ValueError:
        raise google_refusal(400, "the payload is no JSON") from None
    if not isinstance(value, dict):
        raise google_refusal(400, "the payload is no JSON object")
    try:
        return TuningJob.model_validate(value)
    except ValidationError as error:
        raise _wrong(error) from None


def echoed(job: TuningJob) -> dict[str, Any]:
    """What the service says back of the request: set fields, 64-bit numbers as text."""
    kept = job.model_dump(by_alias=True, exclude_none=True, exclude=set(OUTPUT_ONLY))
    for spec in ("supervisedTuningSpec", "preferenceOptimizationSpec"):
        hyper = kept.get(spec, {}).get("hyperParameters", {})
        for count in ("epochCount", "batchSize"):
            if count in hyper:
                hyper[count] = str(hyper[count])
    return kept


def _wrong(error: ValidationError) -> Exception:
    violations = []
    for one in error.errors(include_url=False, include_input=False):
        path = [_snake(str(part)) for part in one["loc"]]
        if one["type"] == "extra_forbidden":
            where = ".".join(("tuning_job", *path[:-1]))
            told = f"unknown name {str(one['loc'][-1])!r} at {where!r}: there is no such field"
        else:
            where = ".".join(("tuning_job", *path))
            told = f"invalid value at {where!r}: {one['msg']}"
        violations.append({"field": where, "description": told})
    details = [{"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": violations}]
    return google_refusal(400, "\n".join(each["description"] for each in violations), details=details)


def _snake(name: str) -> str:
    return re.sub(r"[A-Z]", lambda found: "_" + found[0].lower(), name)
