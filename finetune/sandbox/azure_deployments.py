"""A stand-in for deployments at the Azure Resource Manager (Microsoft.CognitiveServices 2024-10-01), and their answers.

Strict: unknown fields, parameters and versions are refused. A deployment is being made for some looks, answers under
its name once it is there, and is billed from the request on until it is deleted. `fail` in a model's suffix fails it.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from finetune.sandbox.service import Refusal, Reply, Request, Route

#: Taken as the credential; all else is 401.
TOKEN: Final = "sandbox-management-token"
SUBSCRIPTION: Final = "00000000-0000-0000-0000-000000000001"
GROUP: Final = "sandbox-group"
ACCOUNT: Final = "sandbox-account"
#: Where the operations begin, and whose credential is another one.
ROOT: Final = "/subscriptions/"
VERSION: Final = "2024-10-01"

_PATH: Final = (
    ROOT + "{subscription}/resourceGroups/{group}/providers/Microsoft.CognitiveServices/accounts/{account}/deployments"
)
_SKUS: Final = ("Standard", "GlobalStandard", "DeveloperTier", "ProvisionedManaged")
#: A body's fields, by the place of the object that has them.
_FIELDS: Final[Mapping[str, tuple[str, ...]]] = {
    "": ("sku", "properties", "tags"),
    "sku": ("name", "capacity"),
    "properties": ("model",),
    "model": ("format", "name", "version", "source", "sourceAccount"),
}


@dataclass
class Deployed:
    """One deployment, there or gone."""

    name: str
    model: str
    body: dict[str, Any]
    #: Seconds since 1970 by the sandbox's clock; None: it is still there, and costs.
    since: float
    until: float | None = None
    #: Looks that it is still being made for.
    looks: int = 0

    @property
    def state(self) -> str:
        """As ARM says it."""
        if self.looks > 0:
            return "Creating"
        return "Failed" if "fail" in self.model.rpartition(".ft-")[2] else "Succeeded"


class Deployments:
    """The deployments of one account. Not safe for threads: the sandbox holds its lock."""

    def __init__(self, is_tuned: Callable[[str], bool], now: Callable[[], float]) -> None:
        """`is_tuned` says whether a tuned model of this name was made here, `now` is seconds since 1970."""
        self._is_tuned, self._now = is_tuned, now
        #: All that ever were, oldest first.
        self.book: list[Deployed] = []
        #: Looks that a new one is being made for.
        self.looks = 2

    def routes(self) -> list[Route]:
        """All operations."""
        one = _PATH + "/{name}"
        return [
            Route(method="GET", path=_PATH, operation="deployments", answer=self._list),
            Route(method="PUT", path=one, operation="deploy", answer=self._put),
            Route(method="GET", path=one, operation="deployment", answer=self._get),
            Route(method="DELETE", path=one, operation="undeploy", answer=self._delete),
        ]

    def there(self) -> list[Deployed]:
        """Those that cost now."""
        return [one for one in self.book if one.until is None]

    def hours(self) -> float:
        """For how many hours deployments have been there, all together: what is billed."""
        return sum(((one.until or self._now()) - one.since) / 3600 for one in self.book)

    def answering(self, name: str) -> Deployed | None:
        """The deployment that answers under this name; None: none does."""
        return next((one for one in self.there() if one.name == name and one.state == "Succeeded"), None)

    @staticmethod
    def unknown_token(request: Request) -> Reply | None:
        """The refusal of a credential that is none; None: it is taken."""
        if request.headers.get("authorization") == f"Bearer {TOKEN}":
            return None
        return refusal(401, "InvalidAuthenticationToken", "The access token is invalid.").reply

    def _list(self, request: Request) -> Reply:
        _in_place(request)
        return Reply(body={"value": [self._shown(one) for one in self.there()]})

    def _get(self, request: Request) -> Reply:
        one = self._found(request)
        one.looks = max(0, one.looks - 1)
        return Reply(body=self._shown(one))

    def _put(self, request: Request) -> Reply:
        _in_place(request)
        name, body = request.parts["name"], _body(request.body)
        model = body["properties"]["model"]["name"]
        there = next((one for one in self.there() if one.name == name), None)
        if there is not None:
            if there.looks:
                raise refusal(409, "RequestConflict", "Another operation is being performed on the parent resource.")
            there.body, there.model = body, model
            return Reply(body=self._shown(there))
        if not self._is_tuned(model):
            raise refusal(400, "DeploymentModelNotSupported", f"The model 'Format:OpenAI,Name:{model}' is not there.")
        made = Deployed(name=name, model=model, body=body, since=self._now(), looks=self.looks)
        self.book.append(made)
        return Reply(status=201, body=self._shown(made))

    def _delete(self, request: Request) -> Reply:
        _in_place(request)
        one = next((one for one in self.there() if one.name == request.parts["name"]), None)
        if one is None:
            return Reply(status=204)
        one.until = self._now()
        return Reply(status=200)

    def _found(self, request: Request) -> Deployed:
        _in_place(request)
        name = request.parts["name"]
        for one in self.there():
            if one.name == name:
                return one
        raise refusal(404, "ResourceNotFound", f"The resource '{ACCOUNT}/{name}' was not found.")

    def _shown(self, one: Deployed) -> dict[str, Any]:
        properties = {**one.body["properties"], "provisioningState": one.state}
        return {**one.body, "id": f"{ROOT}{SUBSCRIPTION}/{one.name}", "name": one.name, "properties": properties}


def refusal(status: int, code: str, message: str) -> Refusal:
    """What is to be raised, in ARM's form."""
    return Refusal(Reply(status=status, body={"error": {"code": code, "message": message}}))


def _in_place(request: Request) -> None:
    if request.query != {"api-version": [VERSION]}:
        message = f"The api-version query parameter has to be {VERSION}, and alone."
        raise refusal(400, "InvalidApiVersionParameter", message)
    if request.parts["subscription"] != SUBSCRIPTION:
        raise refusal(404, "SubscriptionNotFound", "The subscription could not be found.")
    if request.parts["group"] != GROUP:
        raise refusal(404, "ResourceGroupNotFound", "Resource group could not be found.")
    if request.parts["account"] != ACCOUNT:
        raise refusal(404, "ResourceNotFound", "The Resource 'Microsoft.CognitiveServices/accounts' was not found.")


def _body(content: bytes) -> dict[str, Any]:
    try:
        body = json.loads(content)
        places = {"": body, "sku": body["sku"], "properties": body["properties"], "model": body["properties"]["model"]}
        unknown = [f"{place}.{name}" for place, value in places.items() for name in value if name not in _FIELDS[place]]
        model, sku = places["model"], places["sku"]
        whole = isinstance(sku["capacity"], int) and sku["capacity"] > 0
        right = sku["name"] in _SKUS and whole and (model["format"], model["version"]) == ("OpenAI", "1")
        tags = all(isinstance(value, str) for value in (body.get("tags") or {}).values())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise refusal(400, "InvalidRequestContent", f"The request content was invalid: {error}") from None
    if unknown or not right or not tags or not isinstance(model["name"], str):
        raise refusal(
            400, "InvalidRequestContent", f"Could not find member on object, or wrong value: {unknown or sku}"
        )
    return dict(body)
