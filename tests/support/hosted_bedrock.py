"""Amazon Bedrock's adapter against its stand-in, which keeps what it was asked and what it answered."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from finetune.providers.bedrock import BedrockProvider
from finetune.sandbox.bedrock.sandbox import BedrockSandbox
from finetune.sandbox.service import Refusal, Reply, Request, Route
from tests.support.hosted import Rig, data, kit, recipe, served

MODEL = "amazon.nova-micro-v1:0:128k"
JOBS = "/model-customization-jobs"


class Watched(BedrockSandbox):
    """The stand-in with a memory."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.seen: list[tuple[str, Request, Reply]] = []

    def routes(self) -> Sequence[Route]:
        return [replace(route, answer=self._watched(route)) for route in super().routes()]

    def _watched(self, route: Route) -> Callable[[Request], Reply]:
        def answer(request: Request) -> Reply:
            try:
                reply = route.answer(request)
            except Refusal as refusal:
                reply = refusal.reply
            self.seen.append((route.operation, request, reply))
            return reply

        return answer

    def operations(self) -> list[str]:
        """What was asked for so far."""
        return [operation for operation, _, _ in self.seen]

    def bodies(self, operation: str) -> list[Any]:
        """The JSON bodies of these requests."""
        return [json.loads(request.body) for name, request, _ in self.seen if name == operation]


def rig(tmp_path: Path, **sandbox_arguments: Any) -> Rig:
    """The rig of the contract suite; the caller stops its server."""
    server = served(Watched(**sandbox_arguments))
    return Rig(server, provider(tmp_path, server.environment), recipe("bedrock", MODEL), data(tmp_path, "bedrock"))


def provider(tmp_path: Path, environ: dict[str, str], read_s: float = 10.0) -> BedrockProvider:
    """The adapter, not patient."""
    return BedrockProvider(replace(kit(tmp_path, environ), requests_per_s=1000.0), read_s=read_s)
