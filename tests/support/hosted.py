"""A hosted provider against its stand-in: the server, the adapter, a recipe that both take, and data."""

from pathlib import Path
from typing import Any

from finetune.clock import SystemClock
from finetune.ports import Clock, PreparedData, Provider, ProviderKit
from finetune.sandbox.server import Server
from finetune.sandbox.service import Sandbox
from finetune.spec import Recipe
from finetune.testing import ListQueue

_CHAT = '{"messages": [{"role": "user", "content": "What is %d?"}, {"role": "assistant", "content": "It is %d."}]}'
_PREFERENCE = (
    '{"input": {"messages": [{"role": "user", "content": "What is %d?"}]}, '
    '"preferred_output": [{"role": "assistant", "content": "It is %d."}], '
    '"non_preferred_output": [{"role": "assistant", "content": "No."}]}'
)
#: Rows by layout: one good row each, numbered.
ROWS = {
    "openai": _CHAT,
    "openai-dpo": _PREFERENCE,
    "mistral": _CHAT,
    "fireworks": _CHAT,
    "fireworks-dpo": _PREFERENCE,
    "together": _CHAT,
    "together-preference": _PREFERENCE,
    "completion": '{"prompt": "What is %d?", "completion": "It is %d."}',
    "bedrock": (
        '{"schemaVersion": "bedrock-conversation-2024", "messages": ['
        '{"role": "user", "content": [{"text": "What is %d?"}]}, '
        '{"role": "assistant", "content": [{"text": "It is %d."}]}]}'
    ),
    "gemini": (
        '{"contents": [{"role": "user", "parts": [{"text": "What is %d?"}]}, '
        '{"role": "model", "parts": [{"text": "It is %d."}]}]}'
    ),
    "gemini-preference": (
        '{"contents": [{"role": "user", "parts": [{"text": "What is %d?"}]}], "completions": ['
        '{"score": 1, "completion": {"role": "model", "parts": [{"text": "It is %d."}]}}, '
        '{"score": 0, "completion": {"role": "model", "parts": [{"text": "No."}]}}]}'
    ),
}


def kit(folder: Path, environ: dict[str, str], clock: Clock | None = None) -> ProviderKit:
    """What an adapter is built from, with this environment; real time unless a clock is handed in."""
    return ProviderKit(
        runs_dir=folder / "runs",
        cache_dir=folder / "cache",
        clock=clock or SystemClock(),
        queue=ListQueue(),
        runs=lambda: None,  # type: ignore[arg-type, return-value]
        read_report=lambda path, offset: ([], offset),
        environ=environ,
        uploads_dir=folder / "uploads",
    )


def recipe(provider: str, base_model: str, **more: Any) -> Recipe:
    """The smallest recipe for this target."""
    value = {"version": 1, "name": "bot", "base_model": base_model, "provider": provider}
    return Recipe.model_validate({**value, "dataset": {"path": "data.jsonl"}, **more})


def data(folder: Path, format: str, *, rows: int = 12, held_out: int = 0, digest: str = "d" * 64) -> PreparedData:
    """Prepared data in this layout."""
    paths = []
    for side, count in (("train", rows), ("validation", held_out)):
        path = folder / f"{side}.jsonl"
        path.write_text("".join(ROWS[format].replace("%d", str(number)) + "\n" for number in range(count)))
        paths.append(path)
    return PreparedData(
        train=paths[0],
        validation=paths[1] if held_out else None,
        train_rows=rows,
        validation_rows=held_out,
        digest=digest,
        format=format,
    )


class Rig:
    """What the contract suite takes: a provider, a recipe, data, and a way to let its jobs end."""

    def __init__(self, server: Server, provider: Provider, recipe: Recipe, data: PreparedData) -> None:
        self.server, self.sandbox = server, server.sandbox
        self.provider, self.recipe, self.data = provider, recipe, data

    def create(self, key: str = "ft_x-a1") -> Any:
        return self.provider.create(self.recipe, self.provider.upload(self.data), key)

    def work(self, key: str) -> None:
        """Let all jobs come to their end."""
        self.sandbox.clock.advance(3600)

    def live(self, key: str = "ft_x-a1") -> list[str]:
        """The jobs of this key that somebody pays for."""
        return [entry.remote_id for entry in self.sandbox.ledger() if entry.key == key and entry.live]


def served(sandbox: Sandbox) -> Server:
    """The stand-in behind a socket; the caller stops it."""
    server = Server(sandbox)
    server.start()
    return server
