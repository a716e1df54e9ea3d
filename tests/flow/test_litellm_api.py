"""The gateway `litellm-api` against the stand-in: what the contract suite does not ask for."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest

from finetune.deployments import Shares, Upstream
from finetune.errors import GatewayError, GatewayUnavailable
from finetune.sandbox.faults import Fault
from finetune.sandbox.gateways.litellm import LiteLlmSandbox
from tests.support.gateways import HELLO, PUBLIC, World
from tests.support.litellm_worlds import litellm_api_world

MODEL = {"model": "openai/base"}


@pytest.fixture
def world() -> Iterator[World]:
    with litellm_api_world() as made:
        yield made


def rows(world: World) -> list[str]:
    return sorted(world.sandbox.rows)


def post(world: World, path: str, body: dict[str, Any], method: str = "POST") -> httpx.Response:
    head = {"Authorization": f"Bearer {world.environ['LITELLM_MASTER_KEY']}"}
    return httpx.request(method, world.environ["LITELLM_URL"] + path, json=body, headers=head, trust_env=False)


def shares(world: World) -> dict[str, float | None]:
    return {one.id: one.share for one in world.gateway.registered()}


def traffic(world: World, wanted: dict[str, float]) -> None:
    assert isinstance(world.gateway, Shares)
    world.gateway.set_traffic(PUBLIC, wanted)


def test_the_stand_in_has_the_traps_of_the_real_one(world: World) -> None:
    new = {"model_name": "m", "litellm_params": MODEL, "model_info": {}}
    assert [post(world, "/model/new", new).status_code for _ in range(2)] == [200, 200]
    assert len(rows(world)) == 2, "without an id, the same twice is two that share the calls"
    named = {**new, "model_info": {"id": "m-1", "mine": 1}}
    assert post(world, "/model/new", named).status_code == 200
    again = post(world, "/model/new", named)
    assert (again.status_code, "Failed to add model to db" in again.text) == (500, True)
    patched = post(world, "/model/m-1/update", {"litellm_params": {"weight": 3, "model": None}}, "PATCH").json()
    assert (patched["litellm_params"], patched["model_info"]["mine"]) == ({**MODEL, "weight": 3}, 1)
    lost = post(world, "/model/m-1/update", {"model_info": {"mine": 2}}, "PATCH").json()
    assert lost["model_info"]["id"] != "m-1", "a model_info without an id gets a new one"
    unknown = {**named, "litellm_params": {"model": "nobody/m"}, "model_info": {"id": "m-2"}}
    assert "saved to the database, but" in post(world, "/model/new", unknown).text
    assert "m-2" in rows(world)
    gone = post(world, "/model/delete", {"id": "nobody"})
    assert (gone.status_code, "not found in db" in gone.text) == (400, True)


def test_a_lost_answer_makes_no_second_entry(world: World) -> None:
    world.sandbox.faults.lay(Fault(kind="cut_after", on="model_new"))
    world.gateway.register(world.a)
    world.gateway.register(world.a)
    assert rows(world) == [world.a.id]
    world.sandbox.faults.lay(Fault(kind="cut_before", on="model_new"))
    with pytest.raises(GatewayUnavailable):
        world.gateway.register(world.b)
    assert rows(world) == [world.a.id]


def test_what_is_in_the_database_and_not_served_is_made_anew(world: World) -> None:
    left = {"model_name": "x", "litellm_params": {"model": "nobody/m"}, "model_info": {"id": world.a.id}}
    post(world, "/model/new", left)
    world.gateway.register(world.a)
    assert world.gateway.probe(world.a, HELLO, max_tokens=8).text == world.says[world.a.ref]
    post(world, "/model/new", {**left, "model_info": {"id": world.b.id}})
    world.gateway.unregister(world.b.id)
    assert rows(world) == [world.a.id]


def test_what_it_keeps_and_does_not_serve_is_removed(world: World) -> None:
    elsewhere = replace(world.a, upstream=Upstream(kind="watsonx", model="m"))
    with pytest.raises(GatewayError, match="does not serve") as caught:
        world.gateway.register(elsewhere)
    assert caught.value.problems[0].code == "E823"
    assert rows(world) == []


def test_an_entry_of_the_configuration_is_not_touched() -> None:
    mine: list[dict[str, Any]] = [{"model_name": PUBLIC, "litellm_params": MODEL}]
    with litellm_api_world(mine) as world:
        assert [one.code for one in world.gateway.preflight(world.a)] == ["E824"]
        world.gateway.register(world.a)
        with pytest.raises(GatewayError, match="not of ft"):
            traffic(world, {world.a.id: 1})
        world.gateway.unregister("config-0")
        assert post(world, "/model/info", {}, "GET").json()["data"][0]["model_info"]["id"] == "config-0"


def test_moved_weights_keep_id_and_share(world: World) -> None:
    world.gateway.register(world.a)
    traffic(world, {world.a.id: 1})
    assert world.a.upstream
    moved = replace(world.a, upstream=replace(world.a.upstream, kind="openai", params={"api_version": "2"}))
    world.gateway.register(moved)
    assert shares(world) == {world.a.id: 1.0}
    assert world.sandbox.rows[world.a.id]["litellm_params"]["api_version"] == "2"
    assert world.sandbox.rows[world.a.id]["model_info"]["ft_digest"] == world.a.digest


class Watched(LiteLlmSandbox):
    """Notes the weights of the public name after every change, and fails one update when told."""

    def __init__(self, **more: Any) -> None:
        super().__init__(**more)
        self.seen: list[Counter[str]] = []
        self.fails_at = -1

    def _update(self, request: Any) -> Any:
        if len(self.seen) == self.fails_at:
            self.fails_at = -1
            return self.refused(503, "for a moment")
        done = super()._update(request)
        under = [row for row in self.rows.values() if row["model_name"] == PUBLIC]
        self.seen.append(Counter({row["model_info"]["id"]: row["litellm_params"]["weight"] for row in under}))
        return done


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setattr("tests.support.litellm_worlds.LiteLlmSandbox", Watched)
    with litellm_api_world() as made:
        yield made


def test_somebody_answers_at_every_moment_of_a_change(watched: World) -> None:
    watched.gateway.register(watched.a)
    watched.gateway.register(watched.b)
    for wanted in (
        {watched.a.id: 1.0},
        {watched.b.id: 1.0},
        {watched.a.id: 0.9, watched.b.id: 0.1},
        {watched.a.id: 1.0},
    ):
        traffic(watched, wanted)
        assert {name: share for name, share in shares(watched).items() if share} == wanted
    assert all(weights.total() > 0 for weights in watched.sandbox.seen)


def test_a_change_that_fails_on_its_way_is_taken_back(watched: World) -> None:
    watched.gateway.register(watched.a)
    watched.gateway.register(watched.b)
    traffic(watched, {watched.a.id: 1.0})
    before = shares(watched)
    watched.sandbox.fails_at = len(watched.sandbox.seen) + 1
    with pytest.raises(GatewayUnavailable):
        traffic(watched, {watched.b.id: 1.0})
    assert watched.sandbox.rows[watched.a.id]["model_name"] == PUBLIC
    assert watched.sandbox.rows[watched.b.id]["model_name"] == watched.b.id
    watched.gateway.register(watched.b)
    assert shares(watched) == before


def test_without_a_database_it_says_so(world: World) -> None:
    world.sandbox.database = False
    (problem,) = world.gateway.preflight(world.a)
    assert (problem.code, "no models in a database" in problem.what) == ("E825", True)


@pytest.mark.parametrize(
    ("settings", "level", "told"),
    [
        ({"routing_strategy": "latency-based-routing"}, "error", "looks at no weights"),
        ({"model_group_alias": {PUBLIC: "base"}}, "error", "goes before the model of that name"),
        ({"fallbacks": [{"*": ["base"]}]}, "warning", "status 200"),
        ({"fallbacks": [{PUBLIC: ["base"]}]}, "warning", "status 200"),
        ({"fallbacks": [{"another": ["base"]}]}, "", ""),
    ],
)
def test_routing_that_would_not_do_is_found_before(settings: dict[str, Any], level: str, told: str) -> None:
    with litellm_api_world(settings=settings) as world:
        found = world.gateway.preflight(world.a)
        assert [problem.level for problem in found] == ([level] if level else [])
        assert all(told in problem.why for problem in found)


def test_an_answer_of_the_fallback_is_seen_by_its_id() -> None:
    base: list[dict[str, Any]] = [{"model_name": "base", "litellm_params": MODEL}]
    with litellm_api_world(base, {"fallbacks": [{"*": ["base"]}]}) as world:
        world.sandbox.canned["base"] = "I am the base."
        said = world.gateway.probe(world.a, HELLO, max_tokens=8)
        assert (said.text, said.answered_by, said.expected) == ("I am the base.", "config-0", world.a.id)
