"""A stand-in for vLLM with adapters at run time, and for its traps."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

from finetune.sandbox.gateways.answers import (
    CONFIG,
    KEY,
    WEIGHTS,
    ModelServer,
    base_sentence,
    completion,
    folder_sentence,
    route,
)
from finetune.sandbox.service import Refusal, Reply, Request, Route

_LOAD: Final = {"lora_name": str, "lora_path": str}
_TOKENIZE: Final = {"model": str, "messages": list, "add_generation_prompt": bool, "return_token_strs": bool}
_LONGEST: Final = 2048


@dataclass(kw_only=True)
class Traps:
    """What a server like this does silently wrong when it is set up for it, or has the fault. All off."""

    #: Adapters, and names that are not there, are answered by the base, with 200: something before it falls back.
    fallback: bool = False
    #: The same, and the answer says that the model asked for has given it.
    lying_fallback: bool = False
    #: Unloading is answered with 200, and the adapter stays (vllm#42633).
    unload_keeps: bool = False
    #: Loading is answered with 200, and nothing is there.
    load_forgets: bool = False


@dataclass(kw_only=True)
class Adapter:
    """One adapter as the server knows it."""

    path: Path
    #: What it says; None: it is not in memory, and is read again when it is asked.
    says: str | None


class VllmSandbox(ModelServer):
    """vLLM on this machine. `restart` is what a restart does: what was loaded at run time is forgotten.

    Adapters are read when they are loaded, and again after `evict`. A folder that is gone by then ends the server.
    """

    name: ClassVar[str] = "vllm"
    load_path: ClassVar[str] = "/v1/load_lora_adapter"
    unload_path: ClassVar[str] = "/v1/unload_lora_adapter"

    def __init__(
        self, *, base: str, key: str | None = KEY, max_rank: int = 16, runtime: bool = True, root: str | None = None
    ) -> None:
        """`runtime` False: started without what lets it load adapters. `root`: the folder or id behind `base`."""
        super().__init__(key=key)
        self.base, self.root, self.traps = base, root or base, Traps()
        self._max_rank, self._runtime = max_rank, runtime
        #: The modules of the base that may have LoRA; None: all that an adapter names.
        self.targets: frozenset[str] | None = None
        self.adapters: dict[str, Adapter] = {}
        #: By name, over unloads: the same name loaded again is served from the old weights (vllm#42125).
        self._cached: dict[str, str] = {}
        self.dead = False

    def routes(self) -> Sequence[Route]:
        """See `Sandbox.routes`."""
        always = [
            route("GET", "/health", "health", self._health),
            route("GET", "/v1/models", "models", self._models),
            route("POST", "/v1/chat/completions", "chat", self._chat),
            *self._counting(),
        ]
        changing = [
            route("POST", self.load_path, "load", self._load),
            route("POST", self.unload_path, "unload", self._unload),
        ]
        return [*always, *(changing if self._runtime else [])]

    def environment(self, url: str) -> dict[str, str]:
        """See `Sandbox.environment`."""
        key = {} if self._key is None else {"VLLM_API_KEY": self._key}
        return {"VLLM_URL": url, "FT_VLLM_MAX_LORA_RANK": str(self._max_rank), **key}

    def authenticate(self, request: Request) -> Reply | None:
        """See `Sandbox.authenticate`."""
        return super().authenticate(request) and Reply(status=401, body={"error": "Unauthorized"})

    def restart(self) -> None:
        """Forget what was loaded, and live again."""
        with self.lock:
            self.adapters.clear()
            self._cached.clear()
            self.dead = False

    def evict(self) -> None:
        """Put the adapters out of memory, as happens when others need the room."""
        with self.lock:
            for adapter in self.adapters.values():
                adapter.says = None
            self._cached.clear()

    def _health(self, request: Request) -> Reply:
        self._alive()
        return Reply()

    def _models(self, request: Request) -> Reply:
        self._alive()
        cards = [self._card(self.base, self.root, None)]
        cards += [self._card(name, str(each.path), self.base) for name, each in self.adapters.items()]
        return Reply(body={"object": "list", "data": cards})

    def _load(self, request: Request) -> Reply:
        self._alive()
        said = self.body(request, _LOAD, _LOAD)
        name, folder = said["lora_name"], Path(said["lora_path"])
        if name in self.adapters:
            told = f"The lora adapter '{name}' has already been loaded. If you want to load the adapter in place, set "
            return self.refused(400, f"{told}'load_inplace' to True.", kind="InvalidUserInput")
        if not (folder / CONFIG).is_file() or not (folder / WEIGHTS).is_file():
            # It shows no path to callers.
            return self.refused(404, f"Loading lora {name} failed: No adapter found for <path>")
        if fault := self._fault(folder):
            told = f"Call to add_lora method failed: Worker failed with error '{fault}', "
            return self.refused(500, f"{told}please check the stack trace above for the root cause")
        if not self.traps.load_forgets:
            self._keep(name, folder)
        return _text(f"Success: LoRA adapter '{name}' added successfully.")

    def _unload(self, request: Request) -> Reply:
        self._alive()
        name = self.body(request, {"lora_name": str, "lora_int_id": int}, ("lora_name",))["lora_name"]
        if name not in self.adapters:
            return self.refused(404, f"The lora adapter '{name}' cannot be found.")
        if not self.traps.unload_keeps:
            del self.adapters[name]
        return _text(f"Success: LoRA adapter '{name}' removed successfully.")

    def _chat(self, request: Request) -> Reply:
        self._alive()
        asked = self.chat_body(request)["model"]
        if asked == self.base:
            return completion(asked, base_sentence(self.base))
        if self.traps.fallback or self.traps.lying_fallback:
            return completion(asked if self.traps.lying_fallback else self.base, base_sentence(self.base))
        if asked in self.adapters:
            return completion(asked, self._said(asked))
        return self._absent(asked)

    def _absent(self, asked: str) -> Reply:
        told = f"The model `{asked}` does not exist. Valid aliases: {self.base}."
        return self.refused(404, told, param="model")

    def _counting(self) -> Sequence[Route]:
        """What tells tokens of a conversation."""
        return [route("POST", "/tokenize", "tokenize", self._tokenize)]

    def _tokenize(self, request: Request) -> Reply:
        """Of the base or an adapter: all have the base's template and tokenizer."""
        self._alive()
        said = self.body(request, _TOKENIZE, ("model", "messages"))
        if said["model"] != self.base and said["model"] not in self.adapters:
            return self._absent(said["model"])
        self.check_messages(said["messages"])
        tokens = self.splits(self.writes(said["messages"]))
        strings = [f"<{token}>" for token in tokens] if said.get("return_token_strs") else None
        body = {"count": len(tokens), "max_model_len": _LONGEST, "tokens": tokens, "token_strs": strings}
        return Reply(body=body)

    def _keep(self, name: str, folder: Path) -> None:
        says = self._cached.setdefault(name, folder_sentence(folder, self.base))
        self.adapters[name] = Adapter(path=folder, says=says)

    def _said(self, name: str) -> str:
        adapter = self.adapters[name]
        if adapter.says is None:
            try:
                adapter.says = folder_sentence(adapter.path, self.base)
            except OSError:
                self.dead = True
                self._alive()
                raise
            self._cached[name] = adapter.says
        return adapter.says

    def _alive(self) -> None:
        if self.dead:
            raise Refusal(
                self.refused(500, "EngineCore encountered an issue. See stack trace (above) for the root cause.")
            )

    def _fault(self, folder: Path) -> str | None:
        """Why it never loads this adapter; None when it does."""
        config: dict[str, Any] = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        if config["r"] > self._max_rank:
            return f"LoRA rank {config['r']} is greater than max_lora_rank {self._max_rank}."
        if config.get("use_dora"):
            return "vLLM does not yet support DoRA."
        if saved := config.get("modules_to_save"):
            return f"vLLM only supports modules_to_save being None. Unsupported modules_to_save: {saved}"
        if config.get("bias", "none") != "none":
            return "Adapter bias is not supported."
        named = config.get("target_modules")
        if self.targets is not None and (odd := sorted(set(named or ()) - self.targets)):
            return f"While loading {folder}, expected target modules in {sorted(self.targets)} but received {odd}."
        return None

    def _card(self, name: str, root: str, parent: str | None) -> Mapping[str, Any]:
        return {"id": name, "object": "model", "created": 0, "owned_by": self.name, "root": root, "parent": parent}


def _text(text: str) -> Reply:
    return Reply(body=text.encode(), headers={"Content-Type": "text/plain; charset=utf-8"})
