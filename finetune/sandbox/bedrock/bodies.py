"""The bodies of Bedrock's requests as its published description (2023-04-20) has them, and what it says of wrong ones.

Stricter than the service in one thing: a field that the description does not have is refused.
"""

import json
import re
from collections.abc import Mapping
from datetime import date
from functools import cache
from typing import TYPE_CHECKING, Annotated, Final, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StrictStr, ValidationError

from finetune.sandbox.bedrock.words import refusal

if TYPE_CHECKING:
    from finetune.catalogue import ProviderSheet

_NAME: Final = r"^[a-zA-Z0-9](-*[a-zA-Z0-9+\-.])*$"
_MODEL_NAME: Final = r"^([0-9a-zA-Z][_-]?){1,63}$"
_TOKEN: Final = r"^[a-zA-Z0-9]([-a-zA-Z0-9]{0,254}[a-zA-Z0-9])?$"
_ROLE: Final = r"^arn:aws(-[^:]+)?:iam::([0-9]{12})?:role/.+$"
_S3: Final = r"^s3://[a-z0-9][-.a-z0-9]{1,61}[a-z0-9](/[-!_*'().a-z0-9A-Z]+)*/?$"
_TAG: Final = r"^[a-zA-Z0-9\s._:/=+@-]*$"

Uri = Annotated[StrictStr, Field(pattern=_S3, min_length=1, max_length=1024)]
Token = Annotated[StrictStr, Field(pattern=_TOKEN, min_length=1, max_length=256)]
ModelName = Annotated[StrictStr, Field(pattern=_MODEL_NAME, min_length=1, max_length=63)]
Body = TypeVar("Body", bound=BaseModel)


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Tag(_Message):
    """A word with a text."""

    key: Annotated[StrictStr, Field(pattern=_TAG, min_length=1, max_length=128)]
    value: Annotated[StrictStr, Field(pattern=_TAG, max_length=256)]


Tags = Annotated[list[Tag], Field(max_length=200)]


class Place(_Message):
    """An address on S3."""

    s3Uri: Uri


class Validation(_Message):
    """Where the validation data is."""

    validators: Annotated[list[Place], Field(max_length=10)]


class Network(_Message):
    """The network that a job runs in."""

    subnetIds: Annotated[list[Annotated[StrictStr, Field(pattern=r"^[-0-9a-zA-Z]+$")]], Field(min_length=1)]
    securityGroupIds: Annotated[list[Annotated[StrictStr, Field(pattern=r"^[-0-9a-zA-Z]+$")]], Field(min_length=1)]


class CreateJob(_Message):
    """CreateModelCustomizationJob."""

    jobName: Annotated[StrictStr, Field(pattern=_NAME, min_length=1, max_length=63)]
    customModelName: ModelName
    roleArn: Annotated[StrictStr, Field(pattern=_ROLE, max_length=2048)]
    clientRequestToken: Token | None = None
    baseModelIdentifier: Annotated[StrictStr, Field(min_length=1, max_length=2048)]
    customizationType: StrictStr = "FINE_TUNING"
    customModelKmsKeyId: StrictStr | None = None
    jobTags: Tags = Field(default_factory=list)
    customModelTags: Tags = Field(default_factory=list)
    trainingDataConfig: Place
    validationDataConfig: Validation | None = None
    outputDataConfig: Place
    hyperParameters: dict[StrictStr, StrictStr] = Field(default_factory=dict)
    vpcConfig: Network | None = None


class CreateDeployment(_Message):
    """CreateCustomModelDeployment."""

    modelDeploymentName: ModelName
    modelArn: Annotated[StrictStr, Field(min_length=20, max_length=1011)]
    description: Annotated[StrictStr, Field(min_length=1, max_length=2048)] | None = None
    tags: Tags = Field(default_factory=list)
    clientRequestToken: Token | None = None


def read(raw: bytes, of: type[Body]) -> Body:
    """The body, every type right and no field unknown. Raises Refusal (400) with each fault."""
    try:
        value = json.loads(raw or b"{}")
    except ValueError:
        raise refusal("SerializationException", "the payload is no JSON") from None
    try:
        return of.model_validate(value)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_input=False)
        told = "; ".join(f"at '{'.'.join(map(str, each['loc']))}': {each['msg']}" for each in faults)
        raise refusal("ValidationException", f"{len(faults)} validation errors detected: {told}") from None


#: By the beginning of a model's name: regions that tune it, and its hyperparameters with their ranges. After
#: custom-model-fine-tuning.html and custom-models-hp.html of Amazon's guide, read 2026-11-29.
_NOVA: Final = {"epochCount": (1, 5), "learningRate": (1e-6, 1e-4), "learningRateWarmupSteps": (0, 100)}
_LLAMA: Final = {"epochCount": (1, 10), "batchSize": (1, 1), "learningRate": (5e-6, 0.1)}
_WHOLE: Final = frozenset({"epochCount", "batchSize", "learningRateWarmupSteps"})
_FAMILIES: Final[Mapping[str, tuple[tuple[str, ...], Mapping[str, tuple[float, float]]]]] = {
    "amazon.nova-": (("us-east-1",), _NOVA),
    "meta.llama3-": (("us-west-2",), _LLAMA),
}
REGIONS: Final = frozenset(region for regions, _ in _FAMILIES.values() for region in regions)


def base_model(identifier: str) -> str:
    """The model's own name, of a name or an ARN."""
    return re.sub(r"^arn:aws[^:]*:bedrock:[a-z0-9-]+::foundation-model/", "", identifier)


def check_model(model: str, region: str, hyper: Mapping[str, str], today: date) -> None:
    """Raises Refusal unless this model is tuned in this region today, with such hyperparameters."""
    family = next((each for start, each in _FAMILIES.items() if model.startswith(start)), None)
    if family is None or not _is_tuned(model, today):
        raise refusal("ValidationException", "The provided model identifier is invalid.")
    regions, known = family
    if region not in regions:
        raise refusal("ValidationException", f"The model {model} cannot be customized in {region}.")
    for name, text in hyper.items():
        if name not in known:
            raise refusal("ValidationException", f"The hyperparameter {name} is not supported for this model.")
        low, high = known[name]
        if (
            not re.fullmatch(r"\d+" if name in _WHOLE else r"\d*\.?\d+(e-?\d+)?", text)
            or not low <= float(text) <= high
        ):
            raise refusal("ValidationException", f"The hyperparameter {name} has to be from {low:g} to {high:g}.")


@cache
def sheet() -> "ProviderSheet | None":
    """What the catalogue has of Bedrock. Its files are read by the first call of a process, which takes a second."""
    from finetune.catalogue import load

    return load().provider("bedrock")


def _is_tuned(model: str, today: date) -> bool:
    there = sheet()
    known = there.model(model) if there else None
    if known is None or known.methods.sft is None or not known.methods.sft.value:
        return False
    gone = (known.dates.create_until, known.dates.serve_until, known.dates.retired)
    return not any(each is not None and not each.at_least and each.value <= today for each in gone)
