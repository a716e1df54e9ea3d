"""Amazon Bedrock's adapter against its stand-in, which keeps what it was asked and what it answered."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from finetune.providers.bedrock import BedrockProvider
from finetune.sandbox.bedrock.sandbox import BedrockSandbox
from finetune.sandbox.service import Route
from tests.support.hosted import Rig, data, kit, recipe, served
from tests.support.watched import Remembering

MODEL = "amazon.nova-micro-v1:0:128k"
#: Another region, another layout, and another least number of rows.
LLAMA = "meta.llama3-1-8b-instruct-v1:0:128k"
LLAMA_REGION = "us-west-2"
JOBS = "/model-customization-jobs"


class Watched(Remembering, BedrockSandbox):
    """The stand-in with a memory."""

    def routes(self) -> list[Route]:
        return self.remembered(super().routes())


def rig(tmp_path: Path, **sandbox_arguments: Any) -> Rig:
    """The rig of the contract suite; the caller stops its server."""
    server = served(Watched(**sandbox_arguments))
    return Rig(server, provider(tmp_path, server.environment), recipe("bedrock", MODEL), data(tmp_path, "bedrock"))


def llama(tmp_path: Path, **sandbox_arguments: Any) -> Rig:
    """The same for a model of prompts and completions."""
    server = served(Watched(**sandbox_arguments))
    environ = {**server.environment, "AWS_REGION": LLAMA_REGION}
    rows = data(tmp_path, "completion", rows=100)
    return Rig(server, provider(tmp_path, environ), recipe("bedrock", LLAMA), rows)


def provider(tmp_path: Path, environ: dict[str, str], read_s: float = 10.0) -> BedrockProvider:
    """The adapter, not patient."""
    return BedrockProvider(replace(kit(tmp_path, environ), requests_per_s=1000.0), read_s=read_s)
