"""LiteLLM's proxy, by its administration API: for a proxy that keeps its models in PostgreSQL.

Proved against the stand-in (`finetune.sandbox.gateways.litellm`) only, whose answers are those of the real one's code.
A proxy of several workers, or of several machines, has a change in all of them when each has asked the database again,
which each does every 30 s: so long a change may take here.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from http import HTTPStatus
from typing import Final
from urllib.parse import quote

from finetune.deployments import Deployment, GatewayKit, Registered, Said
from finetune.errors import GatewayError, GatewayUnavailable, Problem
from finetune.gateways.calling import Answer, Calls
from finetune.gateways.litellm_entries import (
    agrees,
    entry,
    guard,
    id_of,
    is_ours,
    same_content,
    taken,
    weights,
    with_weight,
)
from finetune.gateways.litellm_proxy import Proxy, guard_names, place
from finetune.jobs import Json
from finetune.ports import Clock

_TAKEN_S: Final = 40.0
#: Looks in a row that have to agree: each meets one worker, and nobody can choose which.
_LOOKS: Final = 8
_NOT_LIVE: Final = "saved to the database, but"
#: Asked for to see whether the proxy has a database; nothing has this id.
_NOBODY: Final = "ft-preflight"


class ApiGateway:
    """A LiteLLM proxy with a database (see `finetune.deployments.Gateway` and `Shares`)."""

    name = "litellm-api"

    def __init__(self, proxy: Proxy, clock: Clock) -> None:
        self._proxy, self._calls, self._clock = proxy, proxy.calls, clock

    def preflight(self, deployment: Deployment) -> list[Problem]:
        """See `Gateway.preflight`."""
        return self._proxy.preflight(deployment) or self._no_database()

    def register(self, deployment: Deployment) -> None:
        """See `Gateway.register`. The same weights at another address are moved there and keep their share."""
        new = entry(deployment)
        guard([new])
        old = self._find(deployment.id)
        if old is None:
            self._create(new)
        else:
            if not is_ours(old) or not same_content(new, old):
                raise taken(new, old)
            new = with_weight(new, old["litellm_params"].get("weight") or 0)
            if not agrees(old, new):
                self._patch(deployment.id, new)
        self._await({id_of(new): new})

    def registered(self) -> list[Registered]:
        """See `Gateway.registered`."""
        return self._proxy.registered()

    def probe(self, deployment: Deployment, messages: Sequence[Json], *, max_tokens: int) -> Said:
        """See `Gateway.probe`."""
        return self._proxy.probe(deployment, messages, max_tokens=max_tokens)

    def unregister(self, name: str) -> None:
        """See `Gateway.unregister`."""
        old = self._find(name)
        if old is not None and not is_ours(old):
            return
        # It may be in the database without being served.
        self._delete(name)
        self._await({name: None})

    def set_traffic(self, public: str, shares: Mapping[str, float]) -> None:
        """See `Shares.set_traffic`. One call an entry, so there are moments between the old shares and the new ones.

        What gets more goes first: at every moment somebody answers. When one call fails, the entries are put back.
        """
        listing = self._proxy.entries()
        before = {id_of(one): one for one in listing if is_ours(one)}
        wanted = weights(public, shares, before.values())
        guard_names(public, listing)
        after = {name: with_weight(before[name], weight) for name, weight in wanted.items()}
        rising = sorted(after, key=lambda name: _weight(after[name]) <= _weight(before[name]))
        done: list[str] = []
        try:
            for name in rising:
                if not agrees(before[name], after[name]):
                    done.append(name)
                    self._patch(name, _traffic(after[name]))
            self._await(after)
        except GatewayError:
            for name in reversed(done):
                with suppress(GatewayError):
                    self._patch(name, _traffic(before[name]))
            raise

    def ask(self, public: str, messages: Sequence[Json], *, max_tokens: int) -> Said:
        """See `Shares.ask`."""
        return self._proxy.ask(public, messages, max_tokens=max_tokens)

    def _find(self, name: str) -> Json | None:
        """The entry of this id; None when the proxy serves none."""
        answer = self._calls.send("GET", "/model/info", params={"litellm_model_id": name})
        self._proxy.guard_key(answer)
        missing = answer.status in (HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND) and "not found" in answer.text
        # With no model at all it says that its list is not loaded.
        if missing or self._proxy.is_empty(answer):
            return None
        rows = answer.object().get("data") or [None]
        return rows[0] if isinstance(rows[0], dict) else None

    def _create(self, new: Json) -> None:
        """Make the entry. Never twice under one id, never without one: the proxy would divide calls between the two."""
        try:
            answer = self._calls.send("POST", "/model/new", new)
        except GatewayUnavailable:
            if self._has(new):
                return
            raise
        if answer.good or self._has(new):
            return
        self._guard_live(answer, id_of(new))
        if answer.status == HTTPStatus.INTERNAL_SERVER_ERROR:
            # It says no more than that of an id that it has in the database and does not serve.
            self._delete(id_of(new))
            answer = self._calls.send("POST", "/model/new", new)
            self._guard_live(answer, id_of(new))
        answer.taken()

    def _has(self, new: Json) -> bool:
        """Whether the entry is there after all. Raises GatewayError when it is another."""
        there = self._find(id_of(new))
        if there is not None and not agrees(there, new):
            raise taken(new, there)
        return there is not None

    def _guard_live(self, answer: Answer, name: str) -> None:
        """Raises GatewayError for what was kept and is not served, after removing it."""
        if answer.good or _NOT_LIVE not in answer.text:
            return
        self._delete(name)
        raise GatewayError(
            Problem(
                code="E823",
                what=f"LiteLLM does not serve {name}",
                why=f"it says: {answer.words}",
                fix=f"see that its provider and its parameters are right, and look into {answer.place.log}",
            )
        )

    def _patch(self, name: str, parts: Json) -> None:
        """Merge these parts into the entry of this id. A `model_info` without an id would give it another."""
        self._calls.send("PATCH", f"/model/{quote(name, safe='')}/update", parts).taken()

    def _delete(self, name: str) -> None:
        """Remove it from the database. Silent when it is not there."""
        answer = self._calls.send("POST", "/model/delete", {"id": name})
        if answer.status not in (HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND) or "not found" not in answer.text:
            answer.taken()

    def _await(self, wanted: Mapping[str, Json | None]) -> None:
        """Block until the workers agree. Raises GatewayError."""
        self._proxy.await_entries(wanted, self._clock, _TAKEN_S, settled=lambda looks: looks >= _LOOKS)

    def _no_database(self) -> list[Problem]:
        """Whether models can be changed there at all."""
        try:
            answer = self._calls.send("PATCH", f"/model/{_NOBODY}/update", {})
            if answer.status != HTTPStatus.NOT_FOUND:
                answer.taken()
        except GatewayError as error:
            first = error.problems[0]
            return [
                Problem(
                    code="E825",
                    what="the LiteLLM proxy keeps no models in a database",
                    why=first.why,
                    fix="give it DATABASE_URL and STORE_MODEL_IN_DB=True, or use the gateway litellm, which needs none",
                )
            ]
        return []


def build(kit: GatewayKit) -> ApiGateway:
    """The gateway of the entry point `litellm-api`. Sends nothing. Raises UsageError."""
    where = place(kit.environ, ApiGateway.name)
    return ApiGateway(Proxy(Calls(where, timeout_s=10.0), Calls(where, timeout_s=45.0)), kit.clock)


def _traffic(one: Json) -> Json:
    """What an entry's share is made of."""
    return {"model_name": one["model_name"], "litellm_params": {"weight": _weight(one)}}


def _weight(one: Json) -> int:
    return int(one["litellm_params"].get("weight") or 0)
