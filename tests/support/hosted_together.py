"""Together's adapter against its stand-in, for the suites that all providers share."""

from pathlib import Path
from typing import Any

from finetune.providers.together import TogetherProvider
from finetune.sandbox.together.jobs import Timing
from finetune.sandbox.together.sandbox import TogetherSandbox
from tests.support import hosted

MODEL = "Qwen/Qwen3.5-4B"
#: Files are looked at at once.
QUICK = Timing(validating_s=0)


def rig(tmp_path: Path, **sandbox_arguments: Any) -> hosted.Rig:
    """All of it. The caller stops `rig.server`."""
    server = hosted.served(TogetherSandbox(**{"timing": QUICK, **sandbox_arguments}))
    provider = TogetherProvider(hosted.kit(tmp_path, server.environment))
    recipe = hosted.recipe("together", MODEL)
    return hosted.Rig(server, provider, recipe, hosted.data(tmp_path, "together"))
