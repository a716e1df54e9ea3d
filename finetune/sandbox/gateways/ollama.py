"""A stand-in for Ollama: blobs, models made of a base and an adapter, and what it silently or loudly does wrong."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final

from finetune.sandbox.gateways.answers import CONFIG, ModelServer, base_sentence, completion, route, tuned_sentence
from finetune.sandbox.service import Refusal, Reply, Request, Route

_LATEST: Final = ":latest"
_CONVERTED: Final[tuple[str, ...]] = ("llama", "gemma2")
_CREATE: Final[Mapping[str, type | tuple[type, ...]]] = {
    "model": str,
    "from": str,
    "adapters": dict,
    "license": (str, list),
    "template": str,
    "system": str,
    "parameters": dict,
    "stream": bool,
}


@dataclass(frozen=True, kw_only=True)
class Model:
    """One model as Ollama keeps it."""

    family: str
    #: The base that adapters for it are trained on.
    origin: str
    says: str
    license: str = ""


class OllamaSandbox(ModelServer):
    """Ollama on this machine. It asks for no key, and keeps what it has over a restart."""

    name: ClassVar[str] = "ollama"

    def __init__(self, *, bases: Mapping[str, tuple[str, str]]) -> None:
        """`bases`: what was pulled, by its name: its family and where it comes from (`meta-llama/...`)."""
        super().__init__(key=None)
        self.models = {
            _full(name): Model(family=family, origin=origin, says=base_sentence(name))
            for name, (family, origin) in bases.items()
        }
        self._blobs: dict[str, bytes] = {}
        #: Creating is answered with success, and nothing is there (ollama#7781).
        self.create_forgets = False
        #: The newest versions: adapters are no longer taken.
        self.adapters_dropped = False
        #: Deleting is answered with success, and the model stays.
        self.delete_keeps = False
        #: Families for which adapters of safetensors are converted.
        self.converted = _CONVERTED

    def routes(self) -> Sequence[Route]:
        """See `Sandbox.routes`."""
        return [
            route("HEAD", "/api/blobs/{digest...}", "look", self._look),
            route("POST", "/api/blobs/{digest...}", "upload", self._upload),
            route("POST", "/api/create", "create", self._create),
            route("GET", "/api/tags", "tags", self._tags),
            route("POST", "/api/show", "show", self._show),
            route("DELETE", "/api/delete", "delete", self._delete),
            route("POST", "/v1/chat/completions", "chat", self._chat),
        ]

    def environment(self, url: str) -> dict[str, str]:
        """See `Sandbox.environment`."""
        return {"OLLAMA_HOST": url}

    def refused(self, status: int, message: str, **more: Any) -> Reply:
        """See `Sandbox.refused`."""
        return Reply(status=status, body={"error": message})

    def _look(self, request: Request) -> Reply:
        return Reply(status=200 if request.parts["digest"] in self._blobs else 404)

    def _upload(self, request: Request) -> Reply:
        digest, got = request.parts["digest"], f"sha256:{hashlib.sha256(request.body).hexdigest()}"
        if digest != got:
            return self.refused(400, f"digest mismatch, expected {digest!r}, got {got!r}")
        self._blobs[digest] = request.body
        return Reply(status=201)

    def _create(self, request: Request) -> Reply:
        said = self.body(request, _CREATE, ("model",))
        if self.adapters_dropped and said.get("adapters"):
            return self.refused(400, "LoRA adapters are no longer supported")
        if "from" not in said:
            return self.refused(400, "neither 'from' or 'files' was specified")
        base = self.models.get(_full(said["from"]))
        if base is None:
            return self.refused(500, "pull model manifest: file does not exist")
        files = {name: self._blob(digest) for name, digest in said.get("adapters", {}).items()}
        says = self._adapted(files, base) if files else base.says
        licenses = said.get("license", "")
        text = licenses if isinstance(licenses, str) else "\n".join(licenses)
        if not self.create_forgets:
            made = replace(base, says=says, license=text)
            self.models[_full(said["model"])] = made
        return Reply(body={"status": "success"})

    def _adapted(self, files: Mapping[str, bytes], base: Model) -> str:
        """What the base says with this adapter. Raises Refusal."""
        if len(files) == 1 and next(iter(files.values())).startswith(b"GGUF"):
            return tuned_sentence(next(iter(files.values())))
        if CONFIG not in files or not any(each.endswith(".safetensors") for each in files):
            raise Refusal(self.refused(400, "no files provided to convert"))
        if base.family not in self.converted:
            raise Refusal(self.refused(500, "unsupported architecture"))
        said = tuned_sentence(next(content for each, content in files.items() if each.endswith(".safetensors")))
        # Nobody compares the adapter's base with this one.
        return said if json.loads(files[CONFIG])["base_model_name_or_path"] == base.origin else said[::-1]

    def _blob(self, digest: str) -> bytes:
        if digest not in self._blobs:
            raise Refusal(self.refused(400, f"blob {digest} does not exist"))
        return self._blobs[digest]

    def _tags(self, request: Request) -> Reply:
        listed = [
            {
                "name": name,
                "model": name,
                "size": 1,
                "digest": hashlib.sha256(f"{name}{each.says}".encode()).hexdigest(),
                "details": {"format": "gguf", "family": each.family, "families": [each.family]},
            }
            for name, each in self.models.items()
        ]
        return Reply(body={"models": listed})

    def _show(self, request: Request) -> Reply:
        name = self.body(request, {"model": str}, ("model",))["model"]
        model = self.models.get(_full(name))
        if model is None:
            return self.refused(404, f"model '{name}' not found")
        return Reply(body={"license": model.license, "details": {"family": model.family}, "model_info": {}})

    def _delete(self, request: Request) -> Reply:
        name = self.body(request, {"model": str}, ("model",))["model"]
        if _full(name) not in self.models:
            return self.refused(404, f"model '{name}' not found")
        if not self.delete_keeps:
            del self.models[_full(name)]
        return Reply()

    def _chat(self, request: Request) -> Reply:
        asked = self.chat_body(request)["model"]
        model = self.models.get(_full(asked))
        if model is not None:
            return completion(asked, model.says)
        error = {"message": f"model '{asked}' not found", "type": "not_found_error", "param": None, "code": None}
        return Reply(status=404, body={"error": error})


def _full(name: str) -> str:
    return name if ":" in name else f"{name}{_LATEST}"
