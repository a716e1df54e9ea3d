"""A stand-in for a LiteLLM proxy with a database: its administration of models, its routing, and its traps.

Its answers are those of litellm 1.106.12 (proxy/management_endpoints/model_management_endpoints.py and proxy_server.py,
read there). Each worker has a router of its own: one that has not carried a change out sees it when it asks the
database, every 30 s.
"""

import random
import uuid
from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any, ClassVar, Final
from urllib.parse import unquote

import httpx

from finetune.sandbox.gateways.answers import KEY, ModelServer, completion, route
from finetune.sandbox.service import Refusal, Reply, Request, Route

_Fields = Mapping[str, type | tuple[type, ...]]
VERSION: Final = "1.106.12"
_POLL_S: Final = 30.0
_PROVIDERS: Final = frozenset({"openai", "hosted_vllm", "mistral", "vertex_ai", "fireworks_ai", "ollama_chat"})
_NEW: Final[_Fields] = {"model_name": str, "litellm_params": dict, "model_info": dict}
_CHAT: Final[_Fields] = {
    "model": str,
    "messages": list,
    "max_tokens": int,
    "temperature": (int, float),
    "disable_fallbacks": bool,
    "cache": dict,
    "stream": bool,
}
_NOT_LIVE: Final = (
    "Model {} was saved to the database, but the model id(s) ['{}'] are not live in this pod's router after the reload "
    "and are not being served by this pod. Other pods reload on their own interval. Check server logs for 'Error "
    "upserting deployment' or 'Error creating deployment' for the cause."
)
Row = dict[str, Any]


class LiteLlmSandbox(ModelServer):
    """LiteLLM's proxy on this machine. Calls go to the `api_base` of the chosen entry, or to `canned` by its model."""

    name: ClassVar[str] = "litellm"
    denial = "Authentication Error, Invalid proxy server token passed. Unable to find token in cache or `LiteLLM_Table`"

    def __init__(
        self,
        *,
        key: str | None = KEY,
        workers: int = 1,
        poll_s: float = _POLL_S,
        config: Sequence[Row] = (),
        settings: Mapping[str, Any] | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        """`config`: entries of its configuration file. `settings`: its router_settings, such as `fallbacks`.

        `environ`: what `os.environ/NAME` leads to. `database` False from outside: it has none.
        """
        super().__init__(key=key)
        #: Models to what they say, for entries without an `api_base`; one that is not here fails.
        self.canned: dict[str, str] = {}
        #: The rows of the database, by a key of its own: `model_id`.
        self.rows: dict[str, Row] = {}
        self.settings: Row = {"routing_strategy": "simple-shuffle", "fallbacks": None, "model_group_alias": {}}
        self.settings |= settings or {}
        self.database, self._environ = True, dict(environ or {})
        self._config = [
            {**row, "model_info": {"id": f"config-{n}", **row.get("model_info", {})}} for n, row in enumerate(config)
        ]
        self._poll_s, self._chance = poll_s, random.Random(0)
        self._routers: list[tuple[float, list[Row]]] = [(0.0, list(self._config)) for _ in range(workers)]
        self._turn = 0

    def routes(self) -> Sequence[Route]:
        """See `Sandbox.routes`."""
        return [
            route("POST", "/model/new", "model_new", self._new),
            route("PATCH", "/model/{id}/update", "model_update", self._update),
            route("POST", "/model/delete", "model_delete", self._delete),
            route("GET", "/model/info", "model_info", self._info),
            route("GET", "/get/config/callbacks", "settings", lambda _: Reply(body={"router_settings": self.settings})),
            route("GET", "/health/readiness/details", "health", lambda _: Reply(body={"litellm_version": VERSION})),
            route("POST", "/v1/chat/completions", "chat", self._chat),
        ]

    def environment(self, url: str) -> dict[str, str]:
        """See `Sandbox.environment`."""
        return {"LITELLM_URL": url, "LITELLM_MASTER_KEY": self._key or ""}

    def refused(self, status: int, message: str, **more: Any) -> Reply:
        """See `Sandbox.refused`. LiteLLM's codes are texts."""
        kind = more.get("kind") or ("auth_error" if status == 401 else "internal_server_error")
        error = {"message": message, "type": kind, "param": more.get("param"), "code": str(status)}
        return Reply(status=status, body={"error": error})

    def _new(self, request: Request) -> Reply:
        row = self.body(request, _NEW, _NEW)
        if not isinstance(row["litellm_params"].get("model"), str):
            raise Refusal(Reply(status=422, body={"detail": [{"loc": ["body", "litellm_params", "model"]}]}))
        self._guard_database()
        # Without an id one is made, so the same entry twice is two that share the calls.
        info = {**row["model_info"], "id": row["model_info"].get("id") or str(uuid.uuid4()), "db_model": True}
        if info["id"] in self.rows:
            told = {"error": "Failed to add model to db. Check your server logs for more details."}
            return self.refused(500, str(told), kind="auth_error", param="None")
        self.rows[info["id"]] = {**row, "model_info": info}
        self._reload()
        return self._written("create", info["id"])

    def _update(self, request: Request) -> Reply:
        patch = self.body(request, _NEW, ())
        self._guard_database()
        name = unquote(request.parts["id"])
        if name not in self.rows:
            if any(row["model_info"]["id"] == name for row in self._config):
                told = "Cannot edit config-based model. Store model in DB via /model/new first."
                return self.refused(400, told, kind="bad_request_error")
            return self.refused(404, f"Model {name} not found on proxy.", kind="not_found_error")
        row = self.rows[name]
        row["model_name"] = patch.get("model_name") or row["model_name"]
        for part in ("litellm_params", "model_info"):
            row[part].update({field: value for field, value in patch.get(part, {}).items() if value is not None})
        if "model_info" in patch and "id" not in patch["model_info"]:
            row["model_info"]["id"] = str(uuid.uuid4())
        self._reload()
        return self._written("update", name)

    def _delete(self, request: Request) -> Reply:
        name = self.body(request, {"id": str}, ("id",))["id"]
        self._guard_database()
        if self.rows.pop(name, None) is None:
            told = {"error": f"Model with id={name} not found in db"}
            return self.refused(400, str(told), kind="auth_error", param="None")
        self._reload()
        return Reply(body={"message": f"Model: {name} deleted successfully"})

    def _info(self, request: Request) -> Reply:
        rows = self._worker()
        if (name := request.one("litellm_model_id")) is not None:
            rows = [row for row in rows if row["model_info"]["id"] == name]
            if not rows:
                return Reply(status=400, body={"detail": {"error": f"Model id = {name} not found on litellm proxy"}})
        elif not rows:
            told = "LLM Model List not loaded in. Make sure you passed models in your config.yaml"
            return Reply(status=500, body={"detail": {"error": told}})
        return Reply(body={"data": [_shown(row) for row in rows]})

    def _chat(self, request: Request) -> Reply:
        said = self.body(request, _CHAT, ("model", "messages"))
        self.asked.append(said["model"])
        rows = self._worker()
        chain = self._fallbacks(said["model"])
        # It answers for an unknown name, whatever the request says of fallbacks: so did versions before 1.106.
        default = self._fallbacks("*")
        wanted = self._choose(rows, said["model"])
        if wanted is None and not default:
            told = f"/chat/completions: Invalid model name passed in model={said['model']}. Call `/v1/models` to view"
            return self.refused(400, told, kind="invalid_request_error")
        names = [said["model"]] if wanted else default
        names += [] if said.get("disable_fallbacks") else [*chain, *default]
        for name in names:
            row = wanted if name == said["model"] else self._choose(rows, name)
            if row is not None and (text := self._ask(row, said)) is not None:
                return _answered(said["model"], text, row["model_info"]["id"])
        return self.refused(500, f"litellm.InternalServerError: Received Model Group={said['model']}")

    def _choose(self, rows: Sequence[Row], model: str) -> Row | None:
        """By alias, then by public name and weight, then by id. All weights 0: any of them, by chance."""
        model = self.settings["model_group_alias"].get(model, model)
        group = [row for row in rows if row["model_name"] == model]
        group = group or [row for row in rows if row["model_info"]["id"] == model]
        if not group:
            return None
        weights = [row["litellm_params"].get("weight") or 0 for row in group]
        return self._chance.choices(group, weights=weights if any(weights) else None)[0]

    def _fallbacks(self, model: str) -> list[str]:
        return [name for row in self.settings["fallbacks"] or [] for name in row.get(model, [])]

    def _ask(self, row: Row, said: Row) -> str | None:
        params = row["litellm_params"]
        model = params["model"].partition("/")[2]
        if not params.get("api_base"):
            return self.canned.get(model)
        body = {name: said[name] for name in ("messages", "max_tokens", "temperature") if name in said}
        url = f"{params['api_base'].rstrip('/')}/chat/completions"
        name = str(params.get("api_key") or "").removeprefix("os.environ/")
        key = {"Authorization": f"Bearer {self._environ.get(name, name)}"} if name else {}
        try:
            answer = httpx.post(url, json={**body, "model": model}, headers=key, trust_env=False, timeout=20)
            return str(answer.raise_for_status().json()["choices"][0]["message"]["content"])
        except (httpx.HTTPError, ValueError, KeyError, IndexError):
            return None

    def _guard_database(self) -> None:
        if not self.database:
            told = {"error": "DB not connected. See https://docs.litellm.ai/docs/proxy/virtual_keys"}
            raise Refusal(Reply(status=500, body={"detail": told}))

    def _written(self, action: str, name: str) -> Reply:
        row = self.rows[name]
        if not _live(row):
            return self.refused(500, _NOT_LIVE.format(action, name))
        return Reply(body={"model_id": name, **deepcopy(row)})

    def _worker(self) -> list[Row]:
        """The router of the worker whose turn it is."""
        self._turn = (self._turn + 1) % len(self._routers)
        asked_at, _ = self._routers[self._turn]
        if self.clock.now().timestamp() - asked_at >= self._poll_s:
            self._reload(here=self._turn)
        return self._routers[self._turn][1]

    def _reload(self, here: int | None = None) -> None:
        """Have one worker see the database: the one whose turn it is."""
        live = [deepcopy(row) for row in self.rows.values() if _live(row)]
        self._routers[self._turn if here is None else here] = (self.clock.now().timestamp(), [*self._config, *live])


def _live(row: Row) -> bool:
    return row["litellm_params"]["model"].partition("/")[0] in _PROVIDERS


def _shown(row: Row) -> Row:
    """As it is listed: without the key, with what the price list says."""
    params = {name: value for name, value in row["litellm_params"].items() if name != "api_key"}
    info = {"db_model": False, **row["model_info"], "key": params["model"], "input_cost_per_token": None}
    return {**row, "litellm_params": {**params, "use_in_pass_through": False}, "model_info": info}


def _answered(model: str, text: str, by: str) -> Reply:
    """A chat's answer: `model` is what was asked for, whoever has answered; the header tells who did."""
    headers = {"x-litellm-model-id": by, "x-litellm-version": VERSION}
    return Reply(body=completion(model, text).body, headers=headers)
