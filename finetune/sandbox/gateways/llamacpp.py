"""A stand-in for llama-server: router mode with a presets file, and the mode with one model."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from finetune.sandbox.gateways.answers import KEY, ModelServer, base_sentence, completion, route, tuned_sentence
from finetune.sandbox.service import Refusal, Reply, Request, Route

#: Keys that a section may have here; the real one takes any of its options.
_OPTIONS = frozenset({"model", "lora", "c", "ctx-size", "n-gpu-layers", "temp", "jinja", "chat-template-file"})
_OPEN = frozenset({"/health", "/models", "/v1/models"})


class LlamaCppSandbox(ModelServer):
    """llama-server on this machine. In router mode it reads its file at the start, and when it is told to."""

    name: ClassVar[str] = "llamacpp"
    denial = "Invalid API Key"

    def __init__(self, *, presets: Path, key: str | None = KEY, single: str | None = None) -> None:
        """`single`: the base that it was started with; it then answers to any name with that."""
        super().__init__(key=key)
        self._file, self._single = presets, single
        self._sections: dict[str, dict[str, str]] = {}
        self.running: set[str] = set()
        self.failed: set[str] = set()
        #: A fault of some versions: what runs stays when it has left the file.
        self.keeps_running = False
        #: The token for a beginning, as its template may write it.
        self.bos = ""
        self.restart()

    def routes(self) -> Sequence[Route]:
        """See `Sandbox.routes`."""
        routes = [
            route("GET", "/health", "health", lambda request: Reply(body={"status": "ok"})),
            route("GET", "/props", "props", self._props),
            route("GET", "/models", "models", self._models),
            route("GET", "/v1/models", "models", self._models),
            route("POST", "/v1/chat/completions", "chat", self._chat),
            route("POST", "/apply-template", "apply", self._apply),
        ]
        return [*routes, *([] if self._single else [route("POST", "/models/unload", "unload", self._unload)])]

    def environment(self, url: str) -> dict[str, str]:
        """See `Sandbox.environment`."""
        key = {} if self._key is None else {"LLAMACPP_API_KEY": self._key}
        return {"LLAMACPP_URL": url, "FT_LLAMACPP_PRESETS": str(self._file), **key}

    def authenticate(self, request: Request) -> Reply | None:
        """See `Sandbox.authenticate`. Lists are open to all, as they are there."""
        return None if request.path in _OPEN else super().authenticate(request)

    def refused(self, status: int, message: str, **more: Any) -> Reply:
        """See `Sandbox.refused`."""
        kinds = {401: "authentication_error", 404: "not_found_error", 500: "server_error"}
        error = {"code": status, "message": message, "type": kinds.get(status, "invalid_request_error")}
        return Reply(status=status, body={"error": error})

    def restart(self) -> None:
        """Read the file anew; nothing runs."""
        with self.lock:
            self.running.clear()
            self.failed.clear()
            self._sections.clear()
            self._reload()

    def _props(self, request: Request) -> Reply:
        if self._single:
            return Reply(body={"total_slots": 4, "model_path": self._single, "chat_template": "", "build_info": "b0"})
        return Reply(body={"role": "router", "max_instances": 4, "models_autoload": True, "model_path": "none"})

    def _models(self, request: Request) -> Reply:
        if self._single:
            return Reply(body={"object": "list", "data": [{"id": self._single, "object": "model"}]})
        if request.one("reload"):
            self._reload()
        cards = [{"id": name, "object": "model", "status": self._status(name)} for name in self._sections]
        return Reply(body={"object": "list", "data": cards})

    def _unload(self, request: Request) -> Reply:
        name = self.body(request, {"model": str}, ("model",))["model"]
        if name not in self._sections:
            return self.refused(400, "model is not found")
        if name not in self.running:
            return self.refused(400, "model is not running")
        self.running.discard(name)
        return Reply(body={"success": True})

    def _chat(self, request: Request) -> Reply:
        asked = self.chat_body(request)["model"]
        return completion(asked, self._loaded(asked))

    def _apply(self, request: Request) -> Reply:
        said = self.body(request, {"model": str, "messages": list}, ("model", "messages"))
        self.check_messages(said["messages"])
        self._loaded(said["model"])
        # It adds the token for a beginning when it splits the text.
        return Reply(body={"prompt": self.writes(said["messages"]).removeprefix(self.bos)})

    def _loaded(self, asked: str) -> str:
        """What the model says, which runs from now on. Raises Refusal."""
        if self._single:
            return base_sentence(self._single)
        if asked not in self._sections:
            raise Refusal(self.refused(400, f"model '{asked}' not found"))
        section = self._sections[asked]
        try:
            base = Path(section["model"]).read_bytes()
            says = base_sentence(base.decode()) if "lora" not in section else _tuned(Path(section["lora"]))
        except (KeyError, OSError, ValueError):
            self.failed.add(asked)
            raise Refusal(self.refused(500, f"model name={asked} failed to load")) from None
        self.running.add(asked)
        return says

    def _status(self, name: str) -> dict[str, Any]:
        lines = "".join(f"{key} = {value}\n" for key, value in sorted(self._sections[name].items()))
        status: dict[str, Any] = {"value": "loaded" if name in self.running else "unloaded", "args": ["llama-server"]}
        status["preset"] = f"[{name}]\n{lines}\n"
        return {**status, "exit_code": 1, "failed": True} if name in self.failed else status

    def _reload(self) -> None:
        new = _read(self._file)
        kept = {name: each for name, each in self._sections.items() if self.keeps_running and name in self.running}
        changed = {name for name, each in self._sections.items() if new.get(name) != each}
        self.running -= changed - kept.keys()
        self._sections = {**kept, **new}


def _read(path: Path) -> dict[str, dict[str, str]]:
    """The sections of the file. Raises ValueError for an option that there is not: the real one ends."""
    sections: dict[str, dict[str, str]] = {}
    section: dict[str, str] = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        text = line.strip()
        if text.startswith("["):
            section = sections.setdefault(text[1:-1], {})
        elif text and not text.startswith((";", "#")) and sections:
            key, _, value = (part.strip() for part in text.partition("="))
            if key not in _OPTIONS:
                raise ValueError(f"option '{key}' not recognized in preset")
            section[key] = value
    shared = sections.pop("*", {})
    return {name: {**shared, **own} for name, own in sections.items()}


def _tuned(path: Path) -> str:
    """What the adapter in this file says. Raises ValueError for a file of another format."""
    content = path.read_bytes()
    if not content.startswith(b"GGUF"):
        raise ValueError(f"{path} has no GGUF magic")
    return tuned_sentence(content)
