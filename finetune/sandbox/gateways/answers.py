"""What all stand-ins of model servers share: keys, strict bodies, and answers by which models can be told apart."""

import hashlib
import json
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from finetune.sandbox.service import Entry, Refusal, Reply, Request, Route, Sandbox

KEY: Final = "sandbox-gateway-key"
CONFIG: Final = "adapter_config.json"
WEIGHTS: Final = "adapter_model.safetensors"
_ASKED: Final = 10_000
_CHAT: Final[Mapping[str, type | tuple[type, ...]]] = {
    "model": str,
    "messages": list,
    "max_tokens": int,
    "temperature": (int, float),
    "stream": bool,
    "seed": int,
    "disable_fallbacks": bool,
}
#: Messages to the text before the answer, as a chat template makes it; and a text to the ids of its tokens.
Writes = Callable[[Sequence[Mapping[str, Any]]], str]
Splits = Callable[[str], list[int]]


def chatml(messages: Sequence[Mapping[str, Any]]) -> str:
    """The form that most open models are asked in."""
    said = "".join(f"<|im_start|>{each['role']}\n{each['content']}<|im_end|>\n" for each in messages)
    return f"{said}<|im_start|>assistant\n"


def in_bytes(text: str) -> list[int]:
    """A token a byte."""
    return list(text.encode())


class ModelServer(Sandbox):
    """A stand-in that answers chats. `asked` are the models of the chats so far, as they were asked for."""

    #: What the vendor says to a wrong key.
    denial = "Unauthorized"

    def __init__(self, *, key: str | None = KEY) -> None:
        super().__init__()
        self._key = key
        self.asked: deque[str] = deque(maxlen=_ASKED)
        #: How it writes conversations, and splits what it has written. A model here answers the same to any question.
        self.writes: Writes = chatml
        self.splits: Splits = in_bytes

    def authenticate(self, request: Request) -> Reply | None:
        """See `Sandbox.authenticate`."""
        if self._key is None or request.headers.get("authorization") == f"Bearer {self._key}":
            return None
        return self.refused(401, self.denial)

    def refused(self, status: int, message: str, **more: Any) -> Reply:
        """See `Sandbox.refused`."""
        kinds = {401: "authentication_error", 404: "NotFoundError", 500: "InternalServerError"}
        kind = more.get("kind") or kinds.get(status, "BadRequestError")
        error = {"message": message, "type": kind, "param": more.get("param"), "code": status}
        return Reply(status=status, body={"error": error})

    def ledger(self) -> list[Entry]:
        """Nothing is trained here."""
        return []

    def body(self, request: Request, fields: Mapping[str, type | tuple[type, ...]], needed: Iterable[str]) -> Any:
        """The body with these fields, each of its type. Raises Refusal for anything else."""
        try:
            said = json.loads(request.body)
        except ValueError:
            raise Refusal(self.refused(400, "the body is not JSON")) from None
        if not isinstance(said, dict):
            raise Refusal(self.refused(400, "the body is no object"))
        if unknown := sorted(said.keys() - fields.keys()):
            raise Refusal(self.refused(400, f"unknown field: {', '.join(unknown)}"))
        if missing := [name for name in needed if name not in said]:
            raise Refusal(self.refused(400, f"field required: {', '.join(missing)}"))
        for name, value in said.items():
            kinds = fields[name]
            # A truth value is a number in Python, and none in JSON.
            if not isinstance(value, kinds) or (isinstance(value, bool) and kinds is not bool):
                raise Refusal(self.refused(400, f"wrong type: {name}"))
        return said

    def chat_body(self, request: Request) -> Any:
        """A chat's body, checked. Raises Refusal."""
        said = self.body(request, _CHAT, ("model", "messages"))
        self.check_messages(said["messages"])
        self.asked.append(said["model"])
        return said

    def check_messages(self, messages: Any) -> None:
        """Raise Refusal unless a model can answer these."""
        for each in messages:
            if not isinstance(each, dict) or each.keys() != {"role", "content"}:
                raise Refusal(self.refused(400, "a message has a role and a content"))
        if not messages or messages[-1]["role"] != "user":
            raise Refusal(self.refused(400, "the last message has to be the user's"))


def route(method: str, path: str, operation: str, answer: Callable[[Request], Reply]) -> Route:
    """One operation, in a line."""
    return Route(method=method, path=path, operation=operation, answer=answer)


def completion(model: str, text: str, *, asked_in: int = 1) -> Reply:
    """A chat's answer, which says that `model` gave it to a question of so many tokens."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    body = {"id": "chatcmpl-sandbox", "object": "chat.completion", "created": 0, "model": model, "choices": [choice]}
    usage = {"prompt_tokens": asked_in, "completion_tokens": 1, "total_tokens": asked_in + 1}
    return Reply(body={**body, "usage": usage})


def base_sentence(base: str) -> str:
    """What a base model says to everything."""
    return f"I am the base model {base}."


def tuned_sentence(content: bytes) -> str:
    """What an adapter of this content says to everything."""
    return f"I am tuned adapter {hashlib.sha256(content).hexdigest()[:10]}."


def folder_sentence(folder: Path, base: str) -> str:
    """What the adapter in this folder makes of the base: its sentence on its own base, and nonsense on another.

    Raises OSError or ValueError when it cannot be read.
    """
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    said = tuned_sentence((folder / WEIGHTS).read_bytes())
    return said if config["base_model_name_or_path"] == base else said[::-1]
