"""Azure OpenAI: OpenAI's protocol at an address of the user's own. A tuned model answers only once it is deployed."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Final

from finetune.errors import Problem
from finetune.jobs import Json
from finetune.ports import Provider, ProviderKit, RemoteData
from finetune.providers.openai import OpenAiProvider
from finetune.providers.openai_check import not_taken
from finetune.spec import Recipe

#: Where the API begins at an endpoint; the portal shows endpoints with and without it.
_ROOT: Final = "/openai/v1"


def build(kit: ProviderKit) -> Provider:
    """The entry point."""
    return AzureProvider(kit)


class AzureProvider(OpenAiProvider):
    """`ports.Provider` on `{AZURE_OPENAI_ENDPOINT}/openai/v1`.

    Its list is not known to filter by metadata, so that `find` goes through all jobs. No webhooks.
    """

    name = "azure"
    title = "Azure OpenAI"
    key_variable = "AZURE_OPENAI_API_KEY"
    address_variable = "AZURE_OPENAI_ENDPOINT"
    options: ClassVar[Mapping[str, type]] = {"suffix": str, "beta": float, "trainingType": str}
    notice = None  # type: ignore[assignment]
    #: A tuned model has to be deployed first, which bills by the hour.
    answers_at = None  # type: ignore[assignment]

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
