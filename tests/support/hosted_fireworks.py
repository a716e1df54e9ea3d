"""Fireworks' adapter against its stand-in, for the suites that all providers share."""

from pathlib import Path
from typing import Any

from finetune.providers.fireworks import FireworksProvider
from finetune.sandbox.fireworks.sandbox import FireworksSandbox
from tests.support import hosted

MODEL = "accounts/fireworks/models/qwen3-0p6b"


def rig(tmp_path: Path, **sandbox_arguments: Any) -> hosted.Rig:
    """All of it. The caller stops `rig.server`."""
    server = hosted.served(FireworksSandbox(**sandbox_arguments))
    provider = FireworksProvider(hosted.kit(tmp_path, server.environment))
    recipe = hosted.recipe("fireworks", MODEL)
    return hosted.Rig(server, provider, recipe, hosted.data(tmp_path, "fireworks"))
