"""A stand-in for SGLang with adapters at run time: they answer to `BASE:ADAPTER`, and the base to anything else."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Final

from finetune.sandbox.gateways.answers import CONFIG, KEY, WEIGHTS, base_sentence, completion, route
from finetune.sandbox.gateways.vllm import VllmSandbox
from finetune.sandbox.service import Reply, Request, Route

_LOAD: Final = {"lora_name": str, "lora_path": str, "pinned": bool}


class SglangSandbox(VllmSandbox):
    """SGLang on this machine. Its traps are vLLM's, and that a bare name is answered by the base."""

    name: ClassVar[str] = "sglang"
    load_path: ClassVar[str] = "/load_lora_adapter"
    unload_path: ClassVar[str] = "/unload_lora_adapter"
    #: `/get_server_info` in older ones.
    info_path: ClassVar[str] = "/server_info"

    def __init__(
        self, *, base: str, key: str | None = KEY, max_rank: int = 16, runtime: bool = True, lists: bool = True
    ) -> None:
        """`lists` False: an older one, whose list of models leaves adapters out."""
        super().__init__(base=base, key=key, max_rank=max_rank, runtime=runtime)
        self._lists = lists

    def environment(self, url: str) -> dict[str, str]:
        """See `Sandbox.environment`."""
        key = {} if self._key is None else {"SGLANG_API_KEY": self._key}
        return {"SGLANG_URL": url, **key}

    def _counting(self) -> Sequence[Route]:
        """None: its /tokenize takes texts, and leaves the template out. What it was started with it tells instead."""
        return [route("GET", self.info_path, "info", self._info)]

    def _info(self, request: Request) -> Reply:
        targets = None if self.targets is None else sorted(self.targets)
        known = {"model_path": self.root, "enable_lora": True, "max_lora_rank": self._max_rank}
        return Reply(body={**known, "lora_target_modules": targets, "chat_template": None, "version": "0.5.9"})

    def _models(self, request: Request) -> Reply:
        whole = super()._models(request)
        if self._lists:
            return whole
        return Reply(body={**whole.body, "data": [card for card in whole.body["data"] if card["parent"] is None]})

    def _load(self, request: Request) -> Reply:
        said = self.body(request, _LOAD, ("lora_name", "lora_path"))
        name, folder = said["lora_name"], Path(said["lora_path"])
        if name in self.adapters:
            return self._outcome(f"LoRA adapter with name {name} is already loaded.")
        if not (folder / CONFIG).is_file() or not (folder / WEIGHTS).is_file():
            return self._outcome(f"Failed to load LoRA adapter {name}: no such folder {folder}")
        if fault := self._fault(folder):
            return self._outcome(f"LoRA adapter {name} is not compatible with the current LoRA memory pool: {fault}")
        if not self.traps.load_forgets:
            self._keep(name, folder)
        return self._outcome("")

    def _unload(self, request: Request) -> Reply:
        name = self.body(request, {"lora_name": str}, ("lora_name",))["lora_name"]
        if name not in self.adapters:
            return self._outcome(f"LoRA adapter with name {name} is not loaded.")
        if not self.traps.unload_keeps:
            del self.adapters[name]
        return self._outcome("")

    def _chat(self, request: Request) -> Reply:
        said = self.chat_body(request)
        asked, length = said["model"], len(self.splits(self.writes(said["messages"])))
        # What stands before the colon is not looked at, and neither is a name without one.
        _, _, adapter = asked.partition(":")
        if not adapter:
            return completion(asked, base_sentence(self.base), asked_in=length)
        if adapter not in self.adapters:
            names = list(self.adapters)
            told = f"The following requested LoRA adapters are not loaded: {adapter}\nLoaded adapters: {names}."
            return self.refused(400, told)
        return completion(asked, self._said(adapter), asked_in=length)

    def _outcome(self, fault: str) -> Reply:
        loaded = {name: str(each.path) for name, each in self.adapters.items()}
        body: dict[str, Any] = {"success": not fault, "error_message": fault, "loaded_adapters": loaded}
        return Reply(status=400 if fault else 200, body=body)
