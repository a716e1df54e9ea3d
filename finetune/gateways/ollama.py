"""Ollama: a version is a model made of a base and an adapter. `OLLAMA_HOST`, `FT_OLLAMA_BASES`.

`FT_OLLAMA_BASES` says how Ollama calls the bases: `meta-llama/Llama-3.2-1B-Instruct=llama3.2:1b`, several by commas.
Adapters in safetensors are converted for llama and gemma2 only; one GGUF file in the adapter's folder is taken as it
is. The newest versions of Ollama take no adapters at all, and say so when they are asked to.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from http import HTTPStatus
from pathlib import Path
from typing import Final

from finetune.deployments import Deployment, GatewayKit, Registered, Said, Shape, Upstream
from finetune.errors import GatewayError, Problem, UsageError
from finetune.gateways.adapters import (
    CONFIG,
    WEIGHTS,
    absent,
    folder_faults,
    is_ours,
    not_lora_faults,
    not_there,
    refused,
    still_there,
    taken,
)
from finetune.gateways.calling import Calls, Place
from finetune.gateways.templates import not_compared
from finetune.jobs import Json

_HOST: Final = "OLLAMA_HOST"
_BASES: Final = "FT_OLLAMA_BASES"
_PORT: Final = "11434"
#: What it converts adapters of safetensors for.
_CONVERTED: Final = ("llama", "gemma2")
_LATEST: Final = ":latest"
#: Stands in the model's licence, which no answer depends on: what its name was made from.
_MARK: Final = "ft adapter "
#: An adapter is converted, and a base loaded, while we wait.
_TIMEOUT_S: Final = 55.0


def build(kit: GatewayKit) -> "Ollama":
    """See `GatewayKit`."""
    url = address(kit.environ.get(_HOST) or f"127.0.0.1:{_PORT}")
    place = Place(gateway="ollama", url=url, url_name=_HOST, log="the log of `ollama serve`")
    return Ollama(Calls(place, timeout_s=_TIMEOUT_S), _bases(kit.environ.get(_BASES) or ""))


class Ollama:
    """Also `Bases` and `Foresees`. Ollama copies what it is given, and keeps it over a restart."""

    def __init__(self, calls: Calls, bases: Mapping[str, str]) -> None:
        """`bases`: what Ollama calls each base model."""
        self.name = calls.place.gateway
        self._calls, self._bases = calls, bases

    def preflight(self, deployment: Deployment) -> list[Problem]:
        """See `Gateway.preflight`."""
        faults = _file_faults(deployment)
        try:
            return faults + self._base_faults(deployment, self._tags())
        except GatewayError as error:
            return [*faults, *error.problems]

    def foresee(self, shape: Shape) -> list[Problem]:
        """See `Foresees.foresee`. That templates cannot be compared is said here, and at no promotion again."""
        what = "what the recipe trains"
        planned = Deployment(ref=what, public="", digest="", base_model=shape.base_model)
        try:
            faults = self._base_faults(planned, self._tags())
        except GatewayError as error:
            # It may be there by the time that the training has ended.
            return [replace(problem, level="warning") for problem in error.problems]
        # What has no converter here can still come as GGUF once it is trained.
        faults = [replace(each, level="warning") if each.code == "E826" else each for each in faults]
        if faults or shape.template is None:
            return faults
        return [not_compared(self.name, "Ollama's templates are written in Go's language, not in Jinja")]

    def register(self, deployment: Deployment) -> Upstream:
        """See `Gateway.register`."""
        tags = self._tags()
        if faults := _file_faults(deployment) + self._base_faults(deployment, tags):
            raise GatewayError(*faults)
        if deployment.model not in tags:
            self._create(deployment)
            if deployment.model not in self._tags():
                fix = "look into the log of `ollama serve`; create it again"
                raise not_there(self._calls.place, deployment.model, fix)
        self._check(deployment)
        return Upstream(kind="ollama_chat", model=deployment.model, api_base=self._calls.place.url)

    def registered(self) -> list[Registered]:
        """See `Gateway.registered`."""
        return [
            Registered(id=name, says={"digest": tag.get("digest")})
            for name, tag in self._tags().items()
            if is_ours(name)
        ]

    def probe(self, deployment: Deployment, messages: Sequence[Json], *, max_tokens: int) -> Said:
        """See `Gateway.probe`."""
        self._must_fit(deployment)
        self._check(deployment)
        said = self._calls.chat(deployment.model, messages, max_tokens=max_tokens)
        return Said(text=said.text, answered_by=said.model, expected=deployment.model)

    def probe_base(self, deployment: Deployment, messages: Sequence[Json], *, max_tokens: int) -> Said:
        """See `Bases.probe_base`."""
        self._must_fit(deployment)
        base = self._bases[deployment.base_model]
        said = self._calls.chat(base, messages, max_tokens=max_tokens)
        return Said(text=said.text, answered_by=said.model, expected=base)

    def unregister(self, name: str) -> None:
        """See `Gateway.unregister`."""
        if not is_ours(name):
            return
        answer = self._calls.send("DELETE", "/api/delete", {"model": name})
        if name in self._tags():
            if answer.good:
                raise still_there(self._calls.place, name)
            answer.taken()

    def _tags(self) -> dict[str, Json]:
        """Models by name, without `:latest`."""
        listed = self._calls.send("GET", "/api/tags").object().get("models")
        models = listed if isinstance(listed, list) else []
        return {str(each["name"]).removesuffix(_LATEST): each for each in models if isinstance(each, dict)}

    def _must_fit(self, deployment: Deployment) -> None:
        if faults := _file_faults(deployment) + self._base_faults(deployment, self._tags()):
            raise GatewayError(*faults)

    def _create(self, deployment: Deployment) -> None:
        files = _digests(deployment)
        for path in _files(deployment):
            self._upload(path, files[path.name])
        body = {
            "model": deployment.model,
            "from": self._bases[deployment.base_model],
            "adapters": files,
            "license": self._mark(deployment),
            "stream": False,
        }
        answer = self._calls.send("POST", "/api/create", body)
        if "adapters are no longer supported" in answer.words:
            raise refused(answer, "use an older Ollama, or serve it with llama-server (gateway llamacpp)")
        # It says 500 to an architecture that it has no code for.
        if answer.status == HTTPStatus.INTERNAL_SERVER_ERROR and "unsupported" in answer.words:
            raise refused(answer, "put the adapter as GGUF into its folder, or use another gateway")
        answer.taken()

    def _upload(self, path: Path, digest: str) -> None:
        place = f"/api/blobs/{digest}"
        if self._calls.send("HEAD", place).status == HTTPStatus.NOT_FOUND:
            self._calls.upload(place, path).taken()

    def _check(self, deployment: Deployment) -> None:
        """Silent when the name stands for this content: it carries its mark. Raises GatewayError E829 without one."""
        name, mark = deployment.model, self._mark(deployment)
        answer = self._calls.send("POST", "/api/show", {"model": name})
        if answer.status == HTTPStatus.NOT_FOUND:
            raise absent(self._calls.place, deployment)
        licence = str(answer.object().get("license") or "")
        if mark not in licence.splitlines():
            has = next((line for line in licence.splitlines() if line.startswith(_MARK)), "something that is not ft's")
            raise taken(self._calls.place, name, has, mark)

    def _mark(self, deployment: Deployment) -> str:
        whole = " ".join(f"{name}={digest}" for name, digest in _digests(deployment).items())
        total = hashlib.sha256(whole.encode()).hexdigest()
        return f"{_MARK}{total} on {self._bases[deployment.base_model]}"

    def _base_faults(self, deployment: Deployment, tags: Mapping[str, Json]) -> list[Problem]:
        base = self._bases.get(deployment.base_model)
        if base is None:
            what = f"nothing says what Ollama calls {deployment.base_model}"
            fix = f"set {_BASES}={deployment.base_model}=NAME, with the name from `ollama list`"
            return [_misfit(what, f"{deployment.ref} was trained on it", fix)]
        tag = tags.get(base.removesuffix(_LATEST))
        if tag is None:
            what, why = f"Ollama does not have {base}", f"{_BASES} names it for {deployment.base_model}"
            return [_misfit(what, why, f"`ollama pull {base}`")]
        family = (tag.get("details") or {}).get("family")
        if family in _CONVERTED or _gguf(deployment):
            return []
        return [
            Problem(
                code="E826",
                what=f"Ollama converts no adapters for {family or 'an unknown family'}, the family of {base}",
                why=f"it has code for {' and '.join(_CONVERTED)}",
                fix=f"put the adapter as GGUF into {deployment.adapter or 'its folder'}, or use another gateway",
            )
        ]


def _files(deployment: Deployment) -> list[Path]:
    """What is given to Ollama: one GGUF file where there is one, else PEFT's two."""
    assert deployment.adapter is not None
    gguf = _gguf(deployment)
    return [gguf] if gguf else [deployment.adapter / name for name in (CONFIG, WEIGHTS)]


def _gguf(deployment: Deployment) -> Path | None:
    found = sorted(deployment.adapter.glob("*.gguf")) if deployment.adapter else []
    return found[0] if len(found) == 1 else None


def _file_faults(deployment: Deployment) -> list[Problem]:
    missing = [] if _gguf(deployment) else folder_faults("ollama", deployment)
    return missing or not_lora_faults("ollama", deployment)


def _digests(deployment: Deployment) -> dict[str, str]:
    """`sha256:...` of each file, by its name."""
    found = {}
    for path in _files(deployment):
        with path.open("rb") as file:
            found[path.name] = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
    return found


def address(host: str) -> str:
    """An address of what Ollama's own variable may hold: `HOST`, `HOST:PORT` or a URL. It listens on 0.0.0.0 there."""
    scheme, there, rest = host.rpartition("://")
    rest = rest.rstrip("/").replace("0.0.0.0", "127.0.0.1")
    if "/" not in rest and ":" not in rest.rpartition("]")[2] and not there:
        rest = f"{rest}:{_PORT}"
    return f"{scheme or 'http'}://{rest}"


def _bases(text: str) -> dict[str, str]:
    """`BASE=NAME,BASE=NAME`. Raises UsageError."""
    pairs = [pair.strip().partition("=") for pair in text.split(",") if pair.strip()]
    if all(base.strip() and name.strip() for base, _, name in pairs):
        return {base.strip(): name.strip() for base, _, name in pairs}
    raise UsageError(
        Problem(
            code="E825",
            what=f"{_BASES} cannot be {text!r}",
            why="it says what Ollama calls each base model",
            fix=f"for example {_BASES}=meta-llama/Llama-3.2-1B-Instruct=llama3.2:1b",
        )
    )


def _misfit(what: str, why: str, fix: str) -> Problem:
    return Problem(code="E828", what=what, why=why, fix=fix)
