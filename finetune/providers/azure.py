"""Azure OpenAI: OpenAI's protocol at an address of the user's own. A tuned model answers only once it is deployed."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Final

from finetune.abilities import BaseAt, Hosted, Hosting
from finetune.deployments import Upstream
from finetune.errors import Problem, ProviderError
from finetune.jobs import Json
from finetune.ports import Provider, ProviderKit, RemoteData
from finetune.providers.azure_deploy import Deployments
from finetune.providers.openai import READ_S, OpenAiProvider
from finetune.providers.openai_check import not_taken
from finetune.spec import Recipe

#: Where the API begins at an endpoint; the portal shows endpoints with and without it.
_ROOT: Final = "/openai/v1"


def build(kit: ProviderKit) -> Provider:
    """The entry point."""
    return AzureProvider(kit)


class AzureProvider(OpenAiProvider):
    """`ports.Provider` on `{AZURE_OPENAI_ENDPOINT}/openai/v1`, and `abilities.Deployable`.

    Its list is not known to filter by metadata, so that `find` goes through all jobs. No webhooks.
    """

    name = "azure"
    title = "Azure OpenAI"
    key_variable = "AZURE_OPENAI_API_KEY"
    address_variable = "AZURE_OPENAI_ENDPOINT"
    options: ClassVar[Mapping[str, type]] = {"suffix": str, "beta": float, "trainingType": str}
    notice = None  # type: ignore[assignment]
    #: A tuned model has to be deployed first (`deploy`), which bills by the hour.
    answers_at = None  # type: ignore[assignment]

    def __init__(self, kit: ProviderKit, *, read_s: float = READ_S) -> None:
        super().__init__(kit, read_s=read_s)
        self._deployments = Deployments(kit)

    def hosting(self, base_model: str) -> Hosting:
        """See `abilities.Deployable`."""
        return self._deployments.hosting(base_model)

    def undeployable(self) -> list[Problem]:
        """See `abilities.Deployable`."""
        return [*self.unconfigured(), *self._deployments.missing()]

    def deploy(self, name: str, artifact: Json) -> Upstream | None:
        """See `abilities.Deployable`."""
        return self.hosted_at(name) if self._deployments.deploy(name, str(artifact["model"])) else None

    def hosted_at(self, name: str) -> Upstream:
        """See `abilities.Deployable`. Its v1 API speaks OpenAI's protocol, with the deployment in place of a model."""
        if problems := self.unconfigured():
            raise ProviderError(*problems)
        return self._asked_as(self._deployments.named(name))

    def base_at(self, base_model: str) -> BaseAt:
        """See `abilities.Deployable`."""
        if problems := self.unconfigured():
            raise ProviderError(*problems)
        return self._deployments.base_at(base_model, self._asked_as(base_model))

    def deployed(self) -> list[Hosted]:
        """See `abilities.Deployable`."""
        return self._deployments.deployed()

    def undeploy(self, name: str) -> None:
        """See `abilities.Deployable`."""
        self._deployments.undeploy(name)

    def _asked_as(self, model: str) -> Upstream:
        return Upstream(kind="openai", model=model, api_base=self._address(), key_env=self.key_variable)

    def _needed(self) -> Sequence[str]:
        return (self.address_variable, self.key_variable)

    def _address(self) -> str | None:
        endpoint = super()._address()
        return endpoint and endpoint.rstrip("/").removesuffix(_ROOT) + _ROOT

    def _headers(self) -> Mapping[str, str]:
        """None: what is meant for OpenAI stays away from here."""
        return {}

    def _filter(self, run_key: str) -> dict[str, Any]:
        return {}

    def _body(self, recipe: Recipe, data: RemoteData, run_key: str) -> Json:
        body = super()._body(recipe, data, run_key)
        if "trainingType" in recipe.provider_options:
            body["extra_body"] = {"trainingType": recipe.provider_options["trainingType"]}
        return body

    def _of_region(self, recipe: Recipe) -> Iterator[Problem]:
        """The address does not say where a resource lies."""
        wanted = recipe.limits.data
        if isinstance(wanted, str) or "limits.data" in recipe.allow_ignored:
            return
        why = "where an Azure resource lies, and where a global training type computes, its address does not say"
        fix = "check the resource's region and accept that by allow_ignored: [limits.data]"
        yield not_taken("limits.data", f"region: {wanted.region}", why, fix)
