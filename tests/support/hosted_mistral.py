"""Mistral's adapter against its stand-in, for the suites that all providers share."""

from pathlib import Path
from typing import Any

from finetune.providers.mistral import MistralProvider
from finetune.sandbox.mistral.sandbox import MistralSandbox
from tests.support import hosted

MODEL = "ministral-3b-latest"
#: From the create to the end of the validation, generously.
VALIDATED_S = 60


class MistralRig(hosted.Rig):
    """Whose jobs have to be started, as the lifecycle does."""

    provider: MistralProvider
    sandbox: MistralSandbox

    def work(self, key: str) -> None:
        self.sandbox.clock.advance(VALIDATED_S)
        for job in self.provider.find(key):
            self.provider.start(job.remote_id)
        super().work(key)


def rig(tmp_path: Path, **sandbox_arguments: Any) -> MistralRig:
    """All of it. The caller stops `rig.server`."""
    server = hosted.served(MistralSandbox(**sandbox_arguments))
    provider = MistralProvider(hosted.kit(tmp_path, server.environment))
    recipe = hosted.recipe("mistral", MODEL)
    return MistralRig(server, provider, recipe, hosted.data(tmp_path, "mistral"))
