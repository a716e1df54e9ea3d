"""A stage with versions of `bot` that were tuned at Azure, its stand-in, and a gateway that passes calls on."""

from pathlib import Path
from typing import Any

from finetune.deployments import Deployment
from finetune.hosting import Host
from finetune.placing import Places, Sync
from finetune.providers.azure import AzureProvider
from finetune.releasing import Releasing
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


class HostedStage(Stage):
    """Of `gateways` there are `azure`, the hosting, and `litellm`."""

    def __init__(self, folder: Path, versions: int = 3, suffix: str = "", **environ: str) -> None:
        self.sandbox = AzureSandbox()
        self.server = hosted.served(self.sandbox)
        self.provider = AzureProvider(hosted.kit(folder, {**self.server.environment, **environ}))
        super().__init__(sqlite(folder), versions=0)
        self.gateways = {"azure": Host("azure", self.provider), "litellm": FakeGateway("litellm")}
        self.places = Places(
            self.models, self.promotions, self.gateway, self._describe, self.clock, host=lambda model: "azure"
        )
        self.sync = Sync(self.models, self.promotions, self.places)
        self.promoter = self.another("w1")
        self.releasing = Releasing(
            self.models,
            self.promotions,
            self.places,
            self.clock,
            version=self.registry.version,
            job=self.world.jobs.get,
            new_id=lambda: "pr_mine",
        )
        for number in range(1, versions + 1):
            name = tuned(number) + suffix
            self.sandbox._models.add(name, BASE, 0)
            job = self.world.submit(
                f"ft_{number}",
                provider="azure",
                base_model=BASE,
                artifact={"model": name},
                recipe={**RECIPE, "register": {"gateways": ["litellm"]}},
            )
            self.models.add_model(job, self.clock.now())
            self.clock.sleep(1)

    def _describe(self, model: ModelVersion, alias: str) -> Deployment:
        from dataclasses import replace

        return replace(describe(model, alias), artifact=model.artifact)

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
