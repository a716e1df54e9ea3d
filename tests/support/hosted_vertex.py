"""Vertex AI's adapter against its stand-in, which keeps what it was asked and what it answered."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from finetune.providers.vertex import VertexProvider
from finetune.sandbox.clock import SandboxClock
from finetune.sandbox.service import Route
from finetune.sandbox.vertex.sandbox import VertexSandbox
from tests.support.hosted import Rig, data, kit, recipe, served
from tests.support.watched import Remembering

MODEL = "gemini-3.5-flash"
OPEN_MODEL = "meta/llama3_1@llama-3.1-8b-instruct"
#: The last that was tuned by preferences; it ended on 2026-10-20.
PREFERRED = "gemini-2.5-flash"
JOBS = "/v1beta1/projects/sandbox-project/locations/us-central1/tuningJobs"
CHUNK = 256 * 1024


class InOctober(SandboxClock):
    """Starts on 2026-10-01."""

    def __init__(self) -> None:
        super().__init__()
        self._since = super().now() - datetime(2026, 10, 1, tzinfo=UTC)

    def now(self) -> datetime:
        """Aware, UTC."""
        return super().now() - self._since


class Watched(Remembering, VertexSandbox):
    """The stand-in with a memory."""

    def routes(self) -> list[Route]:
        return self.remembered(super().routes())


def rig(tmp_path: Path, **sandbox_arguments: Any) -> Rig:
    """The rig of the contract suite; the caller stops its server."""
    server = served(Watched(**sandbox_arguments))
    return Rig(server, provider(tmp_path, server.environment), recipe("vertex", MODEL), data(tmp_path, "gemini"))


def provider(tmp_path: Path, environ: dict[str, str], read_s: float = 10.0) -> VertexProvider:
    """The adapter, not patient, with chunks as small as the storage has them."""
    own = replace(kit(tmp_path, environ), requests_per_s=1000.0)
    return VertexProvider(own, read_s=read_s, part_bytes=CHUNK)
