"""What a training at Fireworks leaves: its measured values, and the adapter as PEFT keeps it."""

import json
import posixpath
import re
from pathlib import Path
from typing import Any, Final

from finetune.errors import Problem, ProviderError, ProviderUnavailable, StateError
from finetune.files import ADAPTER_FILES, sync, unwritable, write_whole
from finetune.jobs import Json
from finetune.providers.fireworks_wire import TITLE, Ask, Wire
from finetune.providers.weights import MOST_WEIGHTS, fault_of

_CONFIG, _WEIGHTS = ADAPTER_FILES
_DOING: Final = "fetch the adapter"
_MEASURED: Final = "read the measured values"
_MOST_MEASURED: Final = 32 << 20
_MOST_CONFIG: Final = 1 << 20
_HUB: Final = re.compile(r"https://huggingface\.co/([\w.-]+/[\w.-]+)/?")
#: What can stand in a path. A name of a model comes from the API.
_MODEL: Final = re.compile(r"accounts/[\w.-]+/models/[\w.-]+")
_ON_HUB: Final = re.compile(r"(?!accounts/)[\w.-]+/[\w.-]+")


def measured(wire: Wire, job: Json) -> bytes | None:
    """The file of measured values as it is now; None: there is none (yet). Raises ProviderError."""
    url = job.get("metricsFileSignedUrl")
    if not url and "/dpoJobs/" in str(job["name"]):
        answer = wire.ask(_MEASURED, Ask(method="GET", path=f"/v1/{job['name']}:getMetricsFileEndpoint"))
        if answer.status in (400, 404):
            return None
        if not answer.good:
            raise wire.refusal(_MEASURED, answer)
        url = wire.read(_MEASURED, answer).get("signedUrl")
    return wire.get(_MEASURED, url, most=_MOST_MEASURED) if url else None


def fetched(wire: Wire, model: str, folder: Path) -> bool:
    """Bring the adapter into the folder, which is made; False: the model is none, or not in safetensors.

    The config is written last: where it lies, all lies. Raises ProviderError, StateError.
    """
    if not _MODEL.fullmatch(model):
        raise wire.troubles.refused(_DOING, 404, f"{model} is no name of a model")
    told = wire.call(_DOING, Ask(method="GET", path=f"/v1/{model}"))
    if told.get("kind") not in (None, "HF_PEFT_ADDON"):
        return False
    if told.get("state") not in (None, "READY"):
        why = f"it is {wire.troubles.clean(str(told.get('state')))}"
        raise ProviderUnavailable(
            Problem(code="E403", what=f"{TITLE} still writes the model", why=why, fix="ft tries again by itself")
        )
    urls = _urls(wire, model)
    if not urls:
        return False
    config = _config(wire, urls[_CONFIG], told)
    partly = folder / f".{_WEIGHTS}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / _CONFIG).unlink(missing_ok=True)
        wire.download(_DOING, urls[_WEIGHTS], partly, most=MOST_WEIGHTS)
        if fault := fault_of(partly):
            raise wire.troubles.nonsense(_DOING, f"{_WEIGHTS} {fault}")
        sync(partly)
        partly.replace(folder / _WEIGHTS)
    except OSError as error:
        raise StateError(unwritable(folder, error)) from None
    finally:
        partly.unlink(missing_ok=True)
    write_whole(folder / _CONFIG, json.dumps(config, indent=2) + "\n")
    return True


def _urls(wire: Wire, model: str) -> dict[str, object]:
    """Signed addresses of the adapter's two files; empty when one is missing.

    Names may have folders before them. They are compared and never used as paths.
    """
    told = wire.call(_DOING, Ask(method="GET", path=f"/v1/{model}:getDownloadEndpoint"))
    every = told.get("filenameToSignedUrls")
    if not isinstance(every, dict):
        raise wire.troubles.nonsense(_DOING, "no list of files")
    found: dict[str, object] = {}
    for name, url in every.items():
        own = posixpath.basename(name)
        if own in ADAPTER_FILES and found.setdefault(own, url) != url:
            raise wire.troubles.nonsense(_DOING, f"several files called {own}")
    return found if len(found) == len(ADAPTER_FILES) else {}


def _config(wire: Wire, url: object, model: Json) -> Json:
    """The adapter's config, its base named as others name it: Fireworks' own names mean nothing elsewhere."""
    content = wire.get(_DOING, url, most=_MOST_CONFIG)
    try:
        config: Any = json.loads(content or b"")
    except ValueError:
        config = None
    if not isinstance(config, dict) or config.get("peft_type") != "LORA" or not isinstance(config.get("r"), int):
        raise wire.troubles.nonsense(_DOING, f"{_CONFIG} is no config of a LoRA adapter")
    if _ON_HUB.fullmatch(str(config.get("base_model_name_or_path") or "")):
        return config
    named = _on_hub(wire, model)
    return {**config, "base_model_name_or_path": named} if named else config


def _on_hub(wire: Wire, model: Json) -> str | None:
    """The name on Hugging Face of the model that this one was tuned from; None: nobody says it."""
    peft = model.get("peftDetails")
    base = str(peft.get("baseModel")) if isinstance(peft, dict) else ""
    if not _MODEL.fullmatch(base):
        return None
    try:
        told = wire.known(_DOING, base) or {}
    except ProviderError as error:
        if error.retry:
            raise
        # The weights are worth more than a name.
        return None
    named = _HUB.fullmatch(str(told.get("huggingFaceUrl")))
    return named[1] if named else None
