"""llama-server in router mode: one process a model, from a presets file. `LLAMACPP_URL`, `LLAMACPP_API_KEY`.

`FT_LLAMACPP_PRESETS` is the file that it was started with (`llama-server --models-preset FILE`). The base model has a
section of its own there, called as recipes call it; a version gets that section's lines and its adapter's:

    [Qwen/Qwen3-0.6B]
    model = /models/qwen3-0.6b-q8_0.gguf

Adapters have to be GGUF files; `convert_lora_to_gguf.py` of llama.cpp makes them. A server that was started with one
model answers to any name with that model, so it is refused.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from finetune.deployments import Deployment, GatewayKit, Registered, Said, Shape, Upstream
from finetune.errors import GatewayError, GatewayUnavailable, Problem, UsageError
from finetune.gateways.adapters import is_ours, not_lora_faults, not_there, still_there, taken
from finetune.gateways.calling import Calls, Chat, Place
from finetune.gateways.presets import Presets, parse
from finetune.gateways.templates import applied, not_compared, template_faults
from finetune.jobs import Json

_URL: Final = "http://127.0.0.1:8080"
_PRESETS: Final = "FT_LLAMACPP_PRESETS"
#: The first answer of a model waits for its process to start.
_TIMEOUT_S: Final = 55.0
_MAGIC: Final = b"GGUF"
#: Where a section may say which weights it means.
_WEIGHTS: Final = ("model", "m", "hf-repo", "hf", "hfr", "LLAMA_ARG_MODEL", "LLAMA_ARG_HF_REPO")


def build(kit: GatewayKit) -> "LlamaCpp":
    """See `GatewayKit`."""
    presets = kit.environ.get(_PRESETS)
    if not presets:
        raise UsageError(
            Problem(
                code="E825",
                what=f"{_PRESETS} is not set",
                why="versions are added to the presets file of llama-server",
                fix=f"start `llama-server --models-preset FILE` without a model, and set {_PRESETS}=FILE",
            )
        )
    place = Place(
        gateway="llamacpp",
        url=kit.environ.get("LLAMACPP_URL") or _URL,
        url_name="LLAMACPP_URL",
        key=kit.environ.get("LLAMACPP_API_KEY") or None,
        key_name="LLAMACPP_API_KEY",
        log="the log of llama-server",
    )
    return LlamaCpp(Calls(place, timeout_s=_TIMEOUT_S), Presets(Path(presets).expanduser().absolute()))


class LlamaCpp:
    """Also `Bases` and `Foresees`. The file outlives a restart of the server, and so do the versions."""

    def __init__(self, calls: Calls, presets: Presets) -> None:
        self.name = calls.place.gateway
        self._calls, self._presets = calls, presets

    def preflight(self, deployment: Deployment) -> list[Problem]:
        """See `Gateway.preflight`."""
        faults = _file_faults(deployment)
        try:
            faults += self._base_faults(deployment)
            self._must_route()
            return faults or self._template_faults(deployment)
        except GatewayError as error:
            return [*faults, *error.problems]

    def foresee(self, shape: Shape) -> list[Problem]:
        """See `Foresees.foresee`. The template is compared where the base runs: a base that is loaded takes memory."""
        what, faults = "what the recipe trains", []
        planned = Deployment(ref=what, public="", digest="", base_model=shape.base_model, template=shape.template)
        try:
            faults += self._base_faults(planned)
            self._must_route()
            if faults or planned.template is None:
                return faults
            if not self._runs(shape.base_model):
                return [not_compared(self.name, f"{shape.base_model} is not loaded there; it is when it is registered")]
            return self._template_faults(planned)
        except GatewayError as error:
            later = [replace(each, level="warning") if each.code == "E820" else each for each in error.problems]
            return [*faults, *later]

    def register(self, deployment: Deployment) -> Upstream:
        """See `Gateway.register`. Its weights are read when it is first asked."""
        self._must_route()
        if faults := _file_faults(deployment) + self._base_faults(deployment):
            raise GatewayError(*faults)
        name, wanted = deployment.model, self._section(deployment)
        has = self._presets.sections().get(name)
        if has is not None and has != wanted:
            raise taken(self._calls.place, name, _weights(has), _weights(wanted))
        if has is None:
            self._must_fit_template(deployment)
        self._presets.put(name, wanted)
        if name not in self._cards(reload=True):
            if has is None:
                self._presets.drop(name)
            fix = (
                f"start llama-server with --models-preset {self._presets.path}, or set {_PRESETS} to the file it reads"
            )
            raise not_there(self._calls.place, name, fix)
        place = self._calls.place
        return Upstream(
            kind="hosted_vllm",
            model=name,
            api_base=f"{place.url.rstrip('/')}/v1",
            key_env=place.key_name if place.key else None,
        )

    def registered(self) -> list[Registered]:
        """See `Gateway.registered`."""
        return [
            Registered(id=name, says={key: says.get(key) for key in ("model", "lora")})
            for name, says in self._cards().items()
            if is_ours(name)
        ]

    def probe(self, deployment: Deployment, messages: Sequence[Json], *, max_tokens: int) -> Said:
        """See `Gateway.probe`."""
        self._must_route()
        name, wanted = deployment.model, self._section(deployment)
        has = self._presets.sections().get(name)
        if has is not None and has != wanted:
            raise taken(self._calls.place, name, _weights(has), _weights(wanted))
        said = self._ask(name, messages, max_tokens)
        return Said(text=said.text, answered_by=said.model, expected=name)

    def probe_base(self, deployment: Deployment, messages: Sequence[Json], *, max_tokens: int) -> Said:
        """See `Bases.probe_base`."""
        self._must_route()
        said = self._ask(deployment.base_model, messages, max_tokens)
        return Said(text=said.text, answered_by=said.model, expected=deployment.base_model)

    def unregister(self, name: str) -> None:
        """See `Gateway.unregister`."""
        if not is_ours(name):
            return
        self._must_route()
        self._presets.drop(name)
        if name in self._cards(reload=True):
            # Some versions keep what still runs.
            self._calls.send("POST", "/models/unload", {"model": name})
            if name in self._cards(reload=True):
                raise still_there(self._calls.place, name)

    def _must_route(self) -> None:
        """Raise GatewayError E828 when the server has one model for whatever name."""
        if self._calls.send("GET", "/props").object().get("role") != "router":
            raise GatewayError(
                Problem(
                    code="E828",
                    what="llama-server runs with a single model",
                    why="it answers to any name with that model, so no version can be told from another",
                    fix=f"start it without -m and -hf: llama-server --models-preset {self._presets.path}",
                )
            )

    def _cards(self, *, reload: bool = False) -> dict[str, dict[str, str]]:
        """What each model's preset says, by the model's name; `reload` has it read its file first."""
        params = {"reload": "1"} if reload else None
        listed = self._calls.send("GET", "/models", params=params).object().get("data")
        cards = listed if isinstance(listed, list) else []
        return {str(card["id"]): _preset(card) for card in cards if isinstance(card, dict) and "id" in card}

    def _ask(self, name: str, messages: Sequence[Json], max_tokens: int) -> Chat:
        try:
            return self._calls.chat(name, messages, max_tokens=max_tokens)
        except GatewayUnavailable as error:
            if self._failed(name):
                # The router says 500 to what will never load, too.
                raise GatewayError(*error.problems) from None
            raise

    def _failed(self, name: str) -> bool:
        return bool(self._status(name).get("failed"))

    def _runs(self, name: str) -> bool:
        return self._status(name).get("value") == "loaded"

    def _status(self, name: str) -> Json:
        listed = self._calls.send("GET", "/models").object().get("data") or []
        return next((card.get("status") or {} for card in listed if card.get("id") == name), {})

    def _template_faults(self, deployment: Deployment) -> list[Problem]:
        """Asked as the base, whose lines the version's section repeats. Loads the base."""
        base = deployment.base_model
        fix = (
            f"add to [{base}] in {self._presets.path}: chat-template-file = FILE, the base model's own "
            "chat_template.jinja, and jinja = true"
        )
        return template_faults(
            self.name, deployment.ref, deployment.template, lambda chat: applied(self._calls, base, chat), fix
        )

    def _must_fit_template(self, deployment: Deployment) -> None:
        """Raise GatewayError E841 when it would be asked in another form than it has learned."""
        if wrong := [each for each in self._template_faults(deployment) if each.level == "error"]:
            raise GatewayError(*wrong)

    def _section(self, deployment: Deployment) -> dict[str, str]:
        """The base's own lines with the adapter added: context, cache and the like are as for the base."""
        base = self._presets.sections().get(deployment.base_model, {})
        return {**base, "lora": str(_gguf(deployment))}

    def _base_faults(self, deployment: Deployment) -> list[Problem]:
        section = self._presets.sections().get(deployment.base_model, {})
        if any(key in section for key in _WEIGHTS):
            return []
        return [
            Problem(
                code="E828",
                what=f"the presets file has no section [{deployment.base_model}] that names a model",
                why=f"{deployment.ref} was trained on it; llama-server loads adapters of other bases, too",
                fix=f"add to {self._presets.path}: [{deployment.base_model}] and below it model = /path/to/base.gguf",
            )
        ]


def _gguf(deployment: Deployment) -> Path | None:
    """The adapter as llama.cpp reads it; None when there is none, or more than one."""
    found = sorted(deployment.adapter.glob("*.gguf")) if deployment.adapter else []
    return found[0] if len(found) == 1 else None


def _file_faults(deployment: Deployment) -> list[Problem]:
    path = _gguf(deployment)
    if path is None:
        what = f"{deployment.ref} has no adapter in GGUF, or more than one"
        why = f"llama-server reads no other format; looked for one *.gguf in {deployment.adapter}"
    elif not _begins(path, _MAGIC):
        what, why = f"{path} is no GGUF file", "llama-server reads no other format"
    else:
        return not_lora_faults("llamacpp", deployment)
    folder = deployment.adapter or "ADAPTER"
    fix = f"`python convert_lora_to_gguf.py {folder} --outfile {folder}/adapter.gguf` (llama.cpp)"
    return [Problem(code="E826", what=what, why=why, fix=fix)]


def _begins(path: Path, magic: bytes) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(magic)) == magic
    except OSError:
        return False


def _preset(card: Mapping[str, Any]) -> dict[str, str]:
    """The lines of the preset that a card carries; empty when it carries none."""
    text = (card.get("status") or {}).get("preset")
    sections = parse(text) if isinstance(text, str) else {}
    return next(iter(sections.values()), {})


def _weights(section: Mapping[str, str]) -> str:
    base = next((section[key] for key in _WEIGHTS if key in section), "no base")
    return f"{section.get('lora', 'no adapter')} on {base}"
