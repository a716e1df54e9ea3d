"""Where a base answers at Together: from its serverless models, by its own name, or nowhere without an endpoint.

Sources, read 2026-11-29: Together's OpenAPI description for `GET /v1/endpoints?type=serverless`; "Serverless models"
and "Deploy a checkpoint" at docs.together.ai for that not all models are, and that an adapter is merged into its base
when its deployment starts. `GET /v1/models` names those that want an endpoint, too, and does not tell them apart.
"""

from collections.abc import Mapping
from typing import Final

from finetune.abilities import BaseAt
from finetune.deployments import Upstream
from finetune.jobs import Json
from finetune.providers.keyed import variable
from finetune.providers.together_hosting import INFERENCE, KEY
from finetune.providers.together_wire import Call, Wire

_LIST: Final = Call(doing="list what is served to all", path="/v1/endpoints", query={"type": "serverless"})
#: How it is said that this list, which is older than deployments are, is there no more, or not for this key.
_GONE: Final = frozenset({400, 403, 404, 405, 410})
_STARTED: Final = "STARTED"


def base_at(wire: Wire, environ: Mapping[str, str], base_model: str, *, address: str, read_s: float) -> BaseAt:
    """See `Deployable.base_at`. `address` is the API's, without its version."""
    own = variable(environ, INFERENCE)
    at = Upstream(kind="openai", model=base_model, api_base=(own or f"{address}/v1").rstrip("/"), key_env=KEY)
    if own is not None:
        return BaseAt(at=at, why=f"{INFERENCE} names another address, and nobody tells what answers there", known=False)
    rows = _listed(wire, read_s)
    if not rows:
        return BaseAt(at=at, why="Together does not say whether it serves it to all", known=False)
    served = any(_model(row).casefold() == base_model.casefold() for row in rows if row.get("state") == _STARTED)
    if served:
        return BaseAt(at=at, why="Together lists it among its serverless endpoints")
    why = "Together does not serve it to all, and in the deployment of a tuned model it is merged"
    fix = f"set {INFERENCE} to an address that has endpoints and this base, by its own name"
    return BaseAt(at=None, why=why, fix=fix)


def _listed(wire: Wire, read_s: float) -> list[Json]:
    """What is served to all; none: the API does not say. Raises ProviderError."""
    answer = wire.ask(_LIST, read_s)
    if not answer.good:
        if answer.status in _GONE:
            return []
        raise wire.refusal(_LIST.doing, answer)
    rows = wire.read(_LIST.doing, answer).get("data")
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise wire.troubles.nonsense(_LIST.doing, "a list without rows")
    return [row for row in rows if row.get("type") == "serverless"]


def _model(row: Json) -> str:
    return str(row.get("model") or row.get("name") or "")
