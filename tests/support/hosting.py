"""A stage with versions of `bot` that were tuned at Azure, its stand-in, and a gateway that passes calls on."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from finetune.deployments import Deployment
from finetune.hosting import Host
from finetune.providers.azure import AzureProvider
from finetune.sandbox.azure import AzureSandbox
from finetune.testing import FakeGateway
from finetune.versions import ModelVersion, Promotion
from tests.support import hosted
from tests.support.jobs import RECIPE, sqlite
from tests.support.promotions import Stage, describe, digest

BASE = "gpt-4.1-mini-2025-04-14"
AGREED = "2 USD"


def tuned(number: int) -> str:
    return f"{BASE}.ft-{number:032d}"


def _with_its_artifact(model: ModelVersion, alias: str) -> Deployment:
    return replace(describe(model, alias), artifact=model.artifact)


class HostedStage(Stage):
    """Of `gateways` there are `azure`, the hosting, and `litellm`."""

    def __init__(self, folder: Path, versions: int = 3, suffix: str = "", **environ: str) -> None:
        self.sandbox = AzureSandbox()
        self.server = hosted.served(self.sandbox)
        self.provider = AzureProvider(hosted.kit(folder, {**self.server.environment, **environ}))
        there = {"azure": Host("azure", self.provider), "litellm": FakeGateway("litellm")}
        super().__init__(
            sqlite(folder), versions=0, gateways=there, describe=_with_its_artifact, host=lambda model: "azure"
        )
        recipe = {**RECIPE, "register": {"gateways": ["litellm"]}}
        for number in range(1, versions + 1):
            name = tuned(number) + suffix
            self.sandbox._models.add(name, BASE, 0)
            self.trained(f"ft_{number}", provider="azure", base_model=BASE, artifact={"model": name}, recipe=recipe)

    def begin(self, version: int, **more: Any) -> Promotion:
        return super().begin(version, **{"gateways": ("litellm",), "max_hosting": AGREED, **more})

    def name(self, version: int) -> str:
        model = self.models.models("bot")[version - 1]
        return f"bot-v{version}-{digest(model)[:12]}"

    @property
    def costing(self) -> list[str]:
        """The names of the deployments that are billed now."""
        return [one.name for one in self.sandbox.deployments.there()]

    def close(self) -> None:
        self.server.stop()
        super().close()
        assert self.server.broken == []
