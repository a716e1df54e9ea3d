"""OpenAI and Azure OpenAI against their stand-ins."""

from pathlib import Path
from typing import Any

from finetune.providers.azure import AzureProvider
from finetune.providers.openai import OpenAiProvider
from finetune.sandbox.azure import AzureSandbox
from finetune.sandbox.openai.sandbox import OpenAiSandbox
from tests.support import hosted
from tests.support.hosted import Rig


def openai(folder: Path, *, read_s: float = 5.0, environ: dict[str, str] | None = None, **how: Any) -> Rig:
    """`environ` goes over the sandbox's own; `how` to the sandbox."""
    server = hosted.served(OpenAiSandbox(**how))
    provider = OpenAiProvider(hosted.kit(folder, {**server.environment, **(environ or {})}), read_s=read_s)
    return Rig(server, provider, hosted.recipe("openai", "gpt-4o-mini"), hosted.data(folder, "openai"))


class QuickAzure(AzureSandbox):
    """Which takes files in at once."""

    processing_s = 0.0


def azure(folder: Path, *, read_s: float = 5.0, environ: dict[str, str] | None = None, **how: Any) -> Rig:
    """The same for Azure."""
    server = hosted.served(QuickAzure(**how))
    provider = AzureProvider(hosted.kit(folder, {**server.environment, **(environ or {})}), read_s=read_s)
    return Rig(server, provider, hosted.recipe("azure", "gpt-4.1-mini"), hosted.data(folder, "openai"))
