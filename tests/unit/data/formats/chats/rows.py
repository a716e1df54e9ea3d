"""What the tests of chat layouts share: writing and reading rows, and rows as OpenAI writes them."""

import json
from typing import Any

import msgspec
from hypothesis import HealthCheck, settings

from finetune.data.example import Chat, canonical
from finetune.data.formats import FORMATS

#: The machine that runs the tests may be slow, and that is no fault of a format.
PATIENT = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])

#: Keywords with which a format holds most of what `chats` makes.
FITTING: dict[str, dict[str, Any]] = {
    "openai": {},
    "completion": {
        "tools": False,
        "images": False,
        "media": False,
        "names": False,
        "refusals": False,
        "weights": False,
        "system": "none",
        "ordered": True,
        "turns": 0,
    },
    "alpaca": {
        "tools": False,
        "images": False,
        "media": False,
        "names": False,
        "refusals": False,
        "weights": False,
        "system": "first",
        "ordered": True,
    },
    "sharegpt": {"images": False, "media": False, "names": False, "refusals": False, "ordered": True},
    "gemini": {"media": False, "names": False, "refusals": False, "weights": False, "system": "first", "ordered": True},
    "bedrock": {
        "tools": False,
        "media": False,
        "names": False,
        "refusals": False,
        "weights": False,
        "system": "first",
        "ordered": True,
    },
    "mistral": {"media": False, "names": False, "refusals": False, "system": "first", "ordered": True},
    "together": {"media": False, "names": False, "refusals": False, "system": "first", "ordered": True},
    "fireworks": {"media": False, "names": False, "refusals": False, "system": "first", "ordered": True},
}
NAMES = tuple(FITTING)


def written(name: str, chat: Chat) -> dict[str, Any]:
    """The row as it comes back from a file; the conversation is left as it was."""
    write = FORMATS[name].write
    assert write is not None
    before = canonical(chat)
    row = msgspec.json.decode(msgspec.json.encode(write(chat)))
    assert canonical(chat) == before
    assert isinstance(row, dict)
    return row


def read(name: str, row: dict[str, Any]) -> Chat:
    shape, reader = FORMATS[name].shape, FORMATS[name].read
    assert shape is not None
    assert reader is not None
    assert list(shape(row, "")) == []
    before = json.dumps(row)
    chat = reader(row)
    assert json.dumps(row) == before
    assert isinstance(chat, Chat)
    # As typed as it says.
    assert msgspec.json.decode(canonical(chat), type=Chat) == chat
    return chat


ASKED = {"role": "user", "content": "q"}
ANSWERED = {"role": "assistant", "content": "a"}


def call(id: str, name: str = "f", arguments: Any = "{}") -> Any:
    return {"id": id, "function": {"name": name, "arguments": arguments}, "type": "function"}


def said(name: str, row: Any) -> Any:
    """The messages that a row is read as, as OpenAI writes them."""
    return msgspec.to_builtins(read(name, row).messages)


def told(chat: Any, name: str) -> Any:
    """A conversation as OpenAI writes it, in this layout."""
    return written(name, msgspec.convert(chat, Chat))
