"""The stand-ins for gateways that `ft sandbox` starts, by the names that users write."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from finetune.sandbox.gateways.answers import KEY, ModelServer
from finetune.sandbox.gateways.hub import HubSandbox
from finetune.sandbox.gateways.litellm import LiteLlmSandbox
from finetune.sandbox.gateways.ollama import OllamaSandbox
from finetune.sandbox.gateways.sglang import SglangSandbox
from finetune.sandbox.gateways.vllm import VllmSandbox
from finetune.sandbox.openai.front import KEY as HOSTED_KEY

#: Messages, text and ids of tokens of a conversation as the base's own template writes it.
Chat = tuple[Sequence[Mapping[str, Any]], str, Sequence[int]]

_PULLED: Final = "sandbox-base"


class _Ollama(OllamaSandbox):
    """One with the base pulled; it says which it is."""

    def __init__(self, base: str) -> None:
        super().__init__(bases={_PULLED: ("llama", base)})
        self._base = base

    def environment(self, url: str) -> dict[str, str]:
        """See `Sandbox.environment`."""
        return {**super().environment(url), "FT_OLLAMA_BASES": f"{self._base}={_PULLED}"}


def made(name: str, base: str) -> ModelServer:
    """A new one that serves this base. `name` is one of `NAMES`. Raises ValueError for a base that it cannot have."""
    if name == "sglang" and ":" in base:
        raise ValueError("SGLang takes what follows a colon for an adapter's name")
    return _MAKERS[name](base)


def write_like(server: ModelServer, look: Callable[[], Sequence[Chat]]) -> None:
    """Have it write the conversations of `look` as they are there, and others as before. `look` is asked each time."""
    writes, splits = server.writes, server.splits

    def written(messages: Sequence[Mapping[str, Any]]) -> str:
        texts = {_key(known): text for known, text, _ in look()}
        return texts.get(_key(messages)) or writes(messages)

    def split(text: str) -> list[int]:
        return next((list(ids) for _, known, ids in look() if known == text), None) or splits(text)

    server.writes, server.splits = written, split


def _key(messages: Sequence[Mapping[str, Any]]) -> tuple[tuple[Any, Any], ...]:
    return tuple((each.get("role"), each.get("content")) for each in messages)


#: What a proxy passes calls on with: the keys that the other stand-ins take.
_KEYS: Final = {
    **dict.fromkeys(("VLLM_API_KEY", "SGLANG_API_KEY"), KEY),
    **dict.fromkeys(("OPENAI_API_KEY", "AZURE_OPENAI_API_KEY", "MISTRAL_API_KEY"), HOSTED_KEY),
}
_MAKERS: Final[Mapping[str, Callable[[str], ModelServer]]] = {
    "hub": lambda base: HubSandbox(),
    "litellm-api": lambda base: LiteLlmSandbox(environ=_KEYS),
    "ollama": lambda base: _Ollama(base),
    "sglang": lambda base: SglangSandbox(base=base),
    "vllm": lambda base: VllmSandbox(base=base),
}
#: As users write them, sorted.
NAMES: Final = tuple(sorted(_MAKERS))
