"""A recipe as a customization job of Amazon Bedrock takes it: what it cannot take, and the request that is made of it.

Of Amazon's guide (https://docs.aws.amazon.com/bedrock/latest/userguide/), read 2026-11-29: custom-models-hp.html for
ranges, custom-model-fine-tuning.html for regions, model-customization-prepare.html for layouts. A model of which a page
says nothing gets what the recipe says.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, Final

from finetune.errors import Problem
from finetune.jobs import Json
from finetune.providers.bedrock_wire import TITLE
from finetune.providers.keyed import Options, Place, not_taken, of_options, of_region
from finetune.spec import Recipe, explicit

_LONGEST: Final = 63
_ROLE: Final = re.compile(r"arn:aws(-[^:]+)?:iam::[0-9]{12}:role/.+")
_KMS: Final = re.compile(
    r"arn:aws(-[^:]+)?:kms:[a-zA-Z0-9-]*:[0-9]{12}:((key/[a-zA-Z0-9-]{36})|(alias/[a-zA-Z0-9-_/]+))"
    r"|[a-zA-Z0-9-]{36}|alias/[a-zA-Z0-9-_/]+"
)
_BUCKET: Final = re.compile(r"[a-z0-9][-.a-z0-9]{1,61}[a-z0-9]")
_TAG: Final = re.compile(r"[a-zA-Z0-9\s._:/=+@-]*")
_TAGS_MOST: Final = 200
_ID: Final = re.compile(r"[-0-9a-zA-Z]{1,32}")
#: Regions whose names begin as those inside the European Union do: London and Zurich.
_NOT_EU: Final = frozenset({"eu-west-2", "eu-central-2"})
_WARMUP: Final = "learningRateWarmupSteps"


@dataclass(frozen=True)
class _Family:
    """What one family of models takes. None: Amazon's page does not speak of it."""

    region: str
    #: Of its rows.
    layout: str = "bedrock"
    #: Both ends in.
    rate: tuple[float, float] | None = None
    most_epochs: int | None = None
    warmup: bool | None = None


_NOVA: Final = _Family(region="us-east-1", rate=(1e-6, 1e-4), most_epochs=5, warmup=True)
_LLAMA: Final = _Family(region="us-west-2", rate=(5e-6, 0.1), most_epochs=10, warmup=False)
#: By the beginning of a model's name.
_FAMILIES: Final[Mapping[str, _Family]] = {
    "amazon.nova-micro-": _NOVA,
    "amazon.nova-lite-": _NOVA,
    "amazon.nova-pro-": _NOVA,
    "amazon.nova-2-": _Family(region="us-east-1"),
    # Of prompts and completions: Amazon calls these two "non-conversational".
    "meta.llama3-1-": replace(_LLAMA, layout="completion"),
    "meta.llama3-2-": _LLAMA,
    "meta.llama3-3-": _Family(region="us-west-2"),
}


def _is_text(value: Any, least: int, most: int) -> bool:
    return isinstance(value, str) and least <= len(value) <= most and bool(_TAG.fullmatch(value))


def _is_tags(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and len(value) <= _TAGS_MOST
        and all(_is_text(key, 1, 128) and _is_text(each, 0, 256) for key, each in value.items())
    )


def _is_network(value: Any) -> bool:
    most = {"subnetIds": 16, "securityGroupIds": 5}
    return (
        isinstance(value, dict)
        and value.keys() == most.keys()
        and all(
            isinstance(ids, list)
            and 1 <= len(ids) <= most[key]
            and all(isinstance(each, str) and _ID.fullmatch(each) for each in ids)
            for key, ids in value.items()
        )
    )


#: What `provider_options` may hold: what it has to be, in words, and the test of it.
_OPTIONS: Final[Options] = {
    _WARMUP: (
        "a whole number from 0 to 100, for Nova Micro, Lite and Pro",
        lambda value: isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 100,
    ),
    "customModelKmsKeyId": (
        "the ARN, the id or the alias (alias/NAME) of a KMS key",
        lambda value: isinstance(value, str) and bool(_KMS.fullmatch(value)),
    ),
    "jobTags": (f"at most {_TAGS_MOST} words with a text each", _is_tags),
    "customModelTags": (f"at most {_TAGS_MOST} words with a text each", _is_tags),
    "vpcConfig": ("subnetIds (at most 16) and securityGroupIds (at most 5), lists of ids", _is_network),
}


def problems(recipe: Recipe, region: str | None) -> list[Problem]:
    """All that Bedrock cannot do of it. `region` None: it is not set."""
    where = Place("AWS_REGION", region, _within)
    return [
        *misplaced(recipe, region),
        *_of_numbers(recipe),
        *of_options(TITLE, recipe, _OPTIONS, _elsewhere),
        *of_region(TITLE, recipe, where),
    ]


def misplaced(recipe: Recipe, region: str | None) -> list[Problem]:
    """That its model is not tuned in this region, as far as Amazon's pages tell. None: it is not set."""
    family = _family(recipe.base_model)
    if family is None or region in (None, family.region):
        return []
    why = f"Amazon tunes it in {family.region} only, and jobs run in {region} (AWS_REGION)"
    fix = f"export AWS_REGION={family.region}, with a bucket in that region"
    return [not_taken(TITLE, "base_model", recipe.base_model, why, fix)]


def layout(base_model: str) -> str:
    """The layout of the rows that this model learns from; of a model that nobody knows, conversations."""
    family = _family(base_model)
    return family.layout if family else "bedrock"


def request(recipe: Recipe, data: Json, run_key: str, *, role: str, bucket: str) -> Json:
    """The arguments of CreateModelCustomizationJob. What the recipe does not set is not there: a default holds."""
    said, options = explicit(recipe), recipe.provider_options
    # Always: it is what is billed.
    hyper = {"epochCount": str(recipe.training.epochs)}
    if "training.learning_rate" in said:
        hyper["learningRate"] = f"{Decimal(str(said['training.learning_rate'])):f}"
    if _WARMUP in options:
        hyper[_WARMUP] = str(options[_WARMUP])
    out: Json = {
        "jobName": job_name(run_key),
        "customModelName": _model_name(recipe.name, run_key),
        "clientRequestToken": hashlib.sha256(run_key.encode()).hexdigest(),
        "roleArn": role,
        "baseModelIdentifier": recipe.base_model,
        "customizationType": "FINE_TUNING",
        "trainingDataConfig": {"s3Uri": data["train"]},
        "outputDataConfig": {"s3Uri": f"s3://{bucket}/ft-output/{job_name(run_key)}"},
        "hyperParameters": hyper,
    }
    if data.get("validation"):
        out["validationDataConfig"] = {"validators": [{"s3Uri": data["validation"]}]}
    for name in ("customModelKmsKeyId", "vpcConfig"):
        if name in options:
            out[name] = options[name]
    for name in ("jobTags", "customModelTags"):
        if name in options:
            out[name] = [{"key": key, "value": value} for key, value in _mapping(options[name]).items()]
    return out


def _mapping(value: Any) -> dict[str, Any]:
    return dict(value) if isinstance(value, dict) else {}


def job_name(run_key: str) -> str:
    """The name that a job of this key has there, of which the service has no second one; no two keys share it."""
    name = run_key.replace("_", ".")
    if re.fullmatch(r"[a-zA-Z0-9](-*[a-zA-Z0-9+.-])*", name) and len(name) <= _LONGEST and "." not in run_key:
        return name
    return f"ft-{hashlib.sha256(run_key.encode()).hexdigest()[:48]}"


def is_role(text: str) -> bool:
    """Whether it is the ARN of a role."""
    return bool(_ROLE.fullmatch(text))


def is_bucket(text: str) -> bool:
    """Whether a bucket can be called so."""
    return bool(_BUCKET.fullmatch(text))


def _model_name(name: str, run_key: str) -> str:
    """The tuned model's: that of the recipe as far as there is room, and the key, as no two may be called the same."""
    key = _joined(job_name(run_key))
    head = _joined(name)[: _LONGEST - 1 - len(key)].rstrip("-")
    return f"{head}-{key}" if head else key


def _joined(text: str) -> str:
    return re.sub(r"[^0-9a-zA-Z]+", "-", text).strip("-")


def _family(base_model: str) -> _Family | None:
    return next((family for start, family in _FAMILIES.items() if base_model.startswith(start)), None)


def _of_numbers(recipe: Recipe) -> list[Problem]:
    family, found = _family(recipe.base_model), []
    if family is None:
        return []
    epochs, rate = recipe.training.epochs, explicit(recipe).get("training.learning_rate")
    if family.most_epochs is not None and epochs > family.most_epochs:
        why = f"it trains this model for 1 to {family.most_epochs} epochs"
        fix = f"set training.epochs to {family.most_epochs} or less; rows that are there twice count twice"
        found.append(not_taken(TITLE, "training.epochs", str(epochs), why, fix))
    if rate is not None and family.rate is not None and not family.rate[0] <= rate <= family.rate[1]:
        why = "it takes rates from {:g} to {:g} for this model".format(*family.rate)
        found.append(not_taken(TITLE, "training.learning_rate", str(rate), why, "write one of these, or leave it out"))
    return found


def _elsewhere(recipe: Recipe, name: str) -> bool:
    """Whether the option belongs to other models only."""
    family = _family(recipe.base_model)
    return name == _WARMUP and family is not None and family.warmup is False


def _within(region: str, wanted: str) -> bool:
    if wanted == "eu":
        return region.startswith("eu-") and region not in _NOT_EU
    return region == wanted or region.startswith(f"{wanted}-")
