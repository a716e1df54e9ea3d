"""Deployments of tuned models at Azure, through the Azure Resource Manager: the one API there that makes them.

Sources, read 2026-11-29: "Deploy a fine-tuned model" (MicrosoftDocs/azure-ai-docs, fine-tuning-deploy.md of 2026-02-11)
for the request, Microsoft.CognitiveServices 2024-10-01 for fields, tags and states. The price of an hour is the
catalogue's.
"""

import hashlib
import re
import weakref
from collections.abc import Iterator, Mapping
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlsplit

from finetune.abilities import BaseAt, Hosted, Hosting
from finetune.deployments import Upstream
from finetune.errors import AuthenticationFailed, Problem, ProviderError, ProviderUnavailable
from finetune.jobs import Json
from finetune.ports import ProviderKit
from finetune.providers.keyed import Opened, dollars, missing, variable
from finetune.providers.pace import Pace
from finetune.providers.troubles import Troubles

if TYPE_CHECKING:
    import httpx

    from finetune.catalogue import ProviderSheet

TITLE: Final = "Azure Resource Manager"
#: Variables. A token lasts for an hour or so; without one the package azure-identity is asked.
TOKEN: Final = "AZURE_MANAGEMENT_TOKEN"
SUBSCRIPTION: Final = "AZURE_SUBSCRIPTION_ID"
GROUP: Final = "AZURE_RESOURCE_GROUP"
ACCOUNT: Final = "AZURE_OPENAI_ACCOUNT"
ADDRESS: Final = "AZURE_MANAGEMENT_ENDPOINT"
SKU: Final = "AZURE_DEPLOYMENT_SKU"
CAPACITY: Final = "AZURE_DEPLOYMENT_CAPACITY"
PRICE: Final = "AZURE_HOSTING_USD"

_VENDOR: Final = "https://management.azure.com"
_VERSION: Final = "2024-10-01"
_SCOPE: Final = "https://management.azure.com/.default"
_LOG_IN: Final = (
    f"export {TOKEN}=$(az account get-access-token --resource {_VENDOR} --query accessToken -o tsv), or "
    "`pip install azure-identity` where the workers run, which finds a managed identity and renews it"
)
_ENDPOINT: Final = "AZURE_OPENAI_ENDPOINT"
#: Thousands of tokens a minute. It is quota, not money: only calls are paid by the token.
_UNITS: Final = "50"
#: A tag with the name that we gave, which may be longer than the one that Azure takes.
_MARK: Final = "ft_model"
_LONGEST_NAME: Final = 64
_READ_S: Final = 30.0
_READY: Final = "Succeeded"
#: The status of an answer to a DELETE that has only begun; how often and how long we look whether it has ended.
_UNDER_WAY: Final = 202
_LOOKS: Final = 10
_LOOK_S: Final = 2.0
#: States that no waiting mends.
_ENDED: Final = frozenset({"Failed", "Canceled", "Disabled"})


class Deployments:
    """What `abilities.Deployable` is, for one account. Safe for threads. Nothing is retried here."""

    def __init__(self, kit: ProviderKit) -> None:
        self._environ, self._clock, self._sheet = kit.environ, kit.clock, kit.sheet
        self._opened: Opened[httpx.Client] = Opened()
        self._pace = Pace(TITLE, kit.clock, kit.requests_per_s)

    def hosting(self, base_model: str) -> Hosting:
        """See `Deployable.hosting`."""
        sku, units = self._said(SKU) or "Standard", self._said(CAPACITY) or _UNITS
        told = {"kind": f"{sku}, {units} units", "fix": f"say what your contract has: export {PRICE}=1.70"}
        own = self._said(PRICE)
        if own is not None:
            usd = dollars(own)
            source = f"{PRICE}={own}" if usd is not None else f"{PRICE}={own[:40]} is no amount of US dollars"
            return Hosting(usd_per_hour=usd, source=source, **told)
        usd, source = _published(self._sheet("azure"), base_model, sku)
        return Hosting(usd_per_hour=usd, source=source, **told)

    def missing(self) -> list[Problem]:
        """See `Deployable.undeployable`."""
        found = [
            missing(f"{name} is not set", f"export {name}") for name in (SUBSCRIPTION, GROUP) if not self._said(name)
        ]
        if not self._account():
            found.append(missing(f"{ACCOUNT} is not set, and {_ENDPOINT} does not name it", f"export {ACCOUNT}"))
        address = self._said(ADDRESS)
        if address and not _is_address(address):
            found.append(missing(f"{ADDRESS} is no address", f"export {ADDRESS}={_VENDOR}, or leave it out"))
        units = self._said(CAPACITY)
        if units and not (units.isascii() and units.isdigit() and int(units) > 0):
            found.append(missing(f"{CAPACITY} is no whole number above 0", f"export {CAPACITY}={_UNITS}"))
        if not self._said(TOKEN) and not _has_identity():
            found.append(missing("there is no credential for the Azure Resource Manager", _LOG_IN))
        return found

    def deploy(self, name: str, model: str) -> bool:
        """Have it deployed; False: it is under way. Raises ProviderError."""
        there = self._look(name)
        if there is None:
            there = self._object("deploy the model", "PUT", _as_named(name), self._body(name, model))
        elif not _is_of(there, name, model):
            raise ProviderError(
                Problem(
                    code="E407",
                    what=f"a deployment {_as_named(name)} is there already, and is not the one that ft makes",
                    why="ft never changes what it has not made",
                    fix="delete or rename it in the Foundry portal",
                )
            )
        state = _state(there)
        if state in _ENDED:
            what = f"Azure has not deployed {model}: its deployment {_as_named(name)} is {state}"
            why = "its quota, its region and a base that has retired are frequent causes"
            raise ProviderError(
                Problem(code="E407", what=what, why=why, fix="see the deployment in the Foundry portal")
            )
        return state == _READY

    def base_at(self, base: str, address: Upstream) -> BaseAt:
        """See `Deployable.base_at`: a deployment of it, one with its own name first. `address` is the resource's."""
        if missing := self.missing():
            # To ask needs less than to deploy.
            return BaseAt(at=address, why=f"{missing[0].what}, so nobody tells what is deployed", known=False)
        there = [one for one in self._all() if base in _bases(one) and _state(one) == _READY]
        for one in sorted(there, key=lambda one: str(one.get("name")) != base):
            at = replace(address, model=str(one.get("name")))
            return BaseAt(at=at, why=f"the deployment {one.get('name')} has it")
        why = f"Azure answers as what is deployed only, and {self._account()} has no deployment of it"
        fix = f"deploy {base} in the Foundry portal while it is measured; its calls are paid by the token"
        return BaseAt(at=None, why=why, fix=fix)

    def deployed(self) -> list[Hosted]:
        """See `Deployable.deployed`."""
        return [Hosted(name=_mark(one), state=_state(one)) for one in self._all() if _mark(one)]

    def undeploy(self, name: str) -> None:
        """See `Deployable.undeploy`."""
        there = self._look(name)
        if there is None or _mark(there) != name:
            return
        if _state(there) != "Deleting":
            answer = self._ask("undo the deployment", "DELETE", self._path(_as_named(name)), absent=True)
            if answer is None or answer.status_code != _UNDER_WAY:
                return
        for _ in range(_LOOKS):
            self._clock.sleep(_LOOK_S)
            there = self._look(name)
            if there is None or _mark(there) != name:
                return
        what = f"Azure still has the deployment {_as_named(name)}, which it was told to delete: it is {_state(there)}"
        why, fix = "that takes a while, and may have failed there", "`ft models sync` goes on by itself"
        raise ProviderUnavailable(Problem(code="E844", what=what, why=why, fix=fix))

    @staticmethod
    def named(name: str) -> str:
        """What a deployment is called there."""
        return _as_named(name)

    def _body(self, name: str, model: str) -> Json:
        sku = {"name": self._said(SKU) or "Standard", "capacity": int(self._said(CAPACITY) or _UNITS)}
        model_of = {"format": "OpenAI", "name": model, "version": "1"}
        return {"sku": sku, "properties": {"model": model_of}, "tags": {_MARK: name}}

    def _look(self, name: str) -> Json | None:
        answer = self._ask("look at the deployment", "GET", self._path(_as_named(name)), absent=True)
        if answer is not None:
            return self._read("look at the deployment", answer)
        # A wrong account or group is a 404, too, and would pass for a deployment that is gone while it costs.
        return next((one for one in self._all() if one.get("name") == _as_named(name)), None)

    def _all(self) -> Iterator[Json]:
        doing, path, seen = "list the deployments", self._path(), set()
        while path not in seen:
            seen.add(path)
            page = self._read(doing, self._ask(doing, "GET", path))
            rows = page.get("value")
            if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
                raise self._troubles().nonsense(doing, "a list without rows")
            yield from rows
            if not page.get("nextLink"):
                return
            path = str(page["nextLink"])
            # The token goes nowhere else.
            if not path.startswith(f"{self._address()}/"):
                raise self._troubles().nonsense(doing, "the next page is at another host")

    def _object(self, doing: str, method: str, name: str, body: Json) -> Json:
        return self._read(doing, self._ask(doing, method, self._path(name), body))

    def _read(self, doing: str, answer: Any) -> Json:
        try:
            value = answer.json()
        except (ValueError, RecursionError) as error:
            raise self._troubles().nonsense(doing, f"no JSON: {error}") from None
        if not isinstance(value, dict):
            raise self._troubles().nonsense(doing, "JSON, but no object")
        return value

    def _ask(self, doing: str, method: str, url: str, body: Json | None = None, *, absent: bool = False) -> Any:
        """The good answer; None when it is not there and that is no fault (`absent`). Raises ProviderError."""
        import httpx

        client = self._opened.get(self.missing, self._open)
        token = self._token()
        troubles = self._troubles(token)
        self._pace.take()
        headers = {"Authorization": f"Bearer {token}"}
        try:
            answer = client.request(method, url, headers=headers, json=body)
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            # What a PUT of a fixed name did is found by the next look, so silence is no riddle.
            words = f"{type(error).__name__}: {error}"
            raise troubles.unreachable(doing, words, sent=not isinstance(error, httpx.ConnectError)) from None
        if answer.is_success:
            return answer
        if absent and answer.status_code == 404:
            return None
        if answer.status_code < 400:
            raise troubles.nonsense(doing, f"status {answer.status_code}")
        raise self._refused(troubles, doing, answer)

    def _open(self) -> "httpx.Client":
        import httpx

        # A redirect would carry the token to a host that nobody has named: none is followed.
        client = httpx.Client(timeout=httpx.Timeout(_READ_S, connect=10.0))
        weakref.finalize(self, client.close)
        return client

    def _refused(self, troubles: Troubles, doing: str, answer: Any) -> ProviderError:
        code, words = _words(answer)
        after_s = _number(answer.headers.get("retry-after"))
        if answer.status_code == 429 and after_s:
            self._pace.hush(after_s)
        if answer.status_code == 404:
            what = f"Azure has not the subscription, group or account in which ft wanted to {doing}"
            fix = f"correct {SUBSCRIPTION}, {GROUP} and {ACCOUNT}"
            return ProviderError(Problem(code="E407", what=what, why=f"it says: {troubles.clean(words)}", fix=fix))
        error = troubles.refused(
            doing,
            answer.status_code,
            f"{code}: {words}" if code else words,
            request_id=answer.headers.get("x-ms-request-id"),
            after_s=after_s,
            exhausted=code in ("InsufficientQuota", "QuotaExceeded"),
        )
        if isinstance(error, AuthenticationFailed):
            problem = error.problems[0]
            return AuthenticationFailed(
                Problem(code=problem.code, what=problem.what, why=problem.why, fix=f"renew it: {_LOG_IN}")
            )
        return error

    def _token(self) -> str:
        own = self._said(TOKEN)
        if own:
            return own
        from importlib import import_module

        try:
            return str(import_module("azure.identity").DefaultAzureCredential().get_token(_SCOPE).token)
        except Exception as error:  # noqa: BLE001 -- the package has faults of many kinds, and all mean the same
            what, why = "azure-identity has no credential for the Azure Resource Manager", type(error).__name__
            raise AuthenticationFailed(Problem(code="E405", what=what, why=why, fix=_LOG_IN)) from None

    def _troubles(self, token: str = "") -> Troubles:
        return Troubles(TITLE, (token,))

    def _path(self, name: str = "") -> str:
        parts = (self._said(SUBSCRIPTION) or "", self._said(GROUP) or "", self._account() or "")
        subscription, group, account = (quote(part, safe="") for part in parts)
        path = f"/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.CognitiveServices"
        one = f"/{quote(name, safe='')}" if name else ""
        return f"{self._address()}{path}/accounts/{account}/deployments{one}?api-version={_VERSION}"

    def _address(self) -> str:
        return (self._said(ADDRESS) or _VENDOR).rstrip("/")

    def _account(self) -> str | None:
        """The resource's name: as it is said, or the first word of the endpoint's host."""
        try:
            host = urlsplit(self._said(_ENDPOINT) or "").hostname or ""
        except ValueError:
            host = ""
        first, dot, rest = host.partition(".")
        return self._said(ACCOUNT) or (first if dot and re.search(r"(?:^|\.)azure\.(?:com|us|cn)$", rest) else None)

    def _said(self, name: str) -> str | None:
        return variable(self._environ, name)


def _as_named(name: str) -> str:
    if len(name) <= _LONGEST_NAME:
        return name
    return f"{name[: _LONGEST_NAME - 13]}-{hashlib.sha256(name.encode()).hexdigest()[:12]}"


def _properties(one: Json) -> Mapping[str, Any]:
    properties = one.get("properties")
    return properties if isinstance(properties, dict) else {}


def _state(one: Json) -> str:
    return str(_properties(one).get("provisioningState") or "unknown")


def _mark(one: Json) -> str:
    tags = one.get("tags")
    return str(tags.get(_MARK) or "") if isinstance(tags, dict) else ""


def _is_of(one: Json, name: str, model: str) -> bool:
    known = _properties(one).get("model")
    return _mark(one) == name and isinstance(known, dict) and known.get("name") == model


def _bases(one: Json) -> tuple[str, ...]:
    """What a recipe may call the base that a deployment has: by its name, and with its version."""
    model = _properties(one).get("model")
    known = model if isinstance(model, dict) else {}
    return (str(known.get("name")), f"{known.get('name')}-{known.get('version')}")


def _words(answer: Any) -> tuple[str, str]:
    """ARM's code and message; its text when it is no such body."""
    try:
        error = answer.json()["error"]
        return str(error.get("code") or ""), str(error.get("message") or "")
    except (ValueError, KeyError, TypeError, AttributeError):
        return "", str(answer.text)


def _number(text: str | None) -> float | None:
    return float(text) if text and re.fullmatch(r"\d{1,6}(\.\d+)?", text) else None


def _published(sheet: "ProviderSheet | None", base_model: str, sku: str) -> tuple[Decimal | None, str]:
    """The catalogue's price of an hour, and who says so; None, and why there is none."""
    from finetune.catalogue.costs import hosting

    price = hosting(sheet, base_model, sku) if sheet else None
    if sheet is None or price is None:
        return None, f"deployments of the kind {sku[:40]} have no price that was published"
    source = sheet.sources[price.source]
    told = [f"of {source.dated}"] if source.dated else []
    told += [f"read {source.read}", *([price.note] if price.note else [])]
    return price.usd, f'Microsoft\'s page "{source.title}", {", ".join(told)}'


def _is_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname)


def _has_identity() -> bool:
    from importlib.util import find_spec

    try:
        return find_spec("azure.identity") is not None
    except ModuleNotFoundError:
        return False
