"""Deploying at Together: what is made there, once, what it may cost, and what is never touched."""

import json
from dataclasses import replace
from decimal import Decimal

import httpx
import pytest
from hypothesis import given as given_names
from hypothesis import settings
from hypothesis import strategies as st

from finetune.abilities import Deployable, Hosted
from finetune.errors import AuthenticationFailed, ProviderError, ProviderUnavailable
from finetune.providers.together import TogetherProvider
from finetune.providers.together_hosting import given, named
from finetune.sandbox.faults import Fault
from finetune.sandbox.service import Reply
from finetune.sandbox.together.endpoints import PROJECT, SLUG
from finetune.sandbox.together.jobs import Timing
from finetune.testing import ManualClock
from tests.support import hosted
from tests.wire.hosted.test_together import answered
from tests.wire.hosted.together_contract import Watched

BASE = "Qwen/Qwen3.5-4B"
NAME = "bot-v3-0a1b2c3d4e5f"
ENDPOINT = f"{SLUG}/ft-{NAME}"
TIMING = Timing(validating_s=0, pending_s=0, queued_s=0, running_s=0, packing_s=0)


class Ticking(ManualClock):
    """Time passes at the stand-in as well while we sleep."""

    def __init__(self, sandbox):
        super().__init__()
        self._sandbox = sandbox

    def sleep(self, seconds):
        super().sleep(seconds)
        self._sandbox.clock.advance(seconds)


class World:
    def __init__(self, folder):
        self.folder, self.sandbox = folder, Watched(timing=TIMING)
        self.server = hosted.served(self.sandbox)
        self.clock = Ticking(self.sandbox)
        self.endpoints = self.sandbox.endpoints
        self.endpoints.starting_s = 600.0
        self.provider = self.another()
        data = self.provider.upload(hosted.data(folder, "together"))
        job = self.provider.create(hosted.recipe("together", BASE), data, "ft_abc-a1").remote_id
        self.artifact = self.provider.poll(job, None).artifact
        self.sandbox.sent.clear()

    def another(self, **environ):
        kit = hosted.kit(self.folder, {**self.server.environment, **environ}, self.clock)
        return TogetherProvider(replace(kit, requests_per_s=10_000.0))

    def deploy(self, name=NAME, **environ):
        return self.another(**environ).deploy(name, self.artifact)

    def deployed(self):
        """The address, once it is there."""
        self.deploy()
        self.sandbox.clock.advance(700)
        at = self.deploy()
        assert at is not None
        return at

    def ask(self, model):
        body = {"model": model, "messages": [{"role": "user", "content": "hi"}]}
        key = {"Authorization": "Bearer sandbox-key"}
        return httpx.post(f"{self.server.url}/v1/chat/completions", headers=key, json=body, trust_env=False)

    def sent(self, operation):
        return [json.loads(request.body) for request in self.sandbox.asked(operation)]

    def operations(self):
        return [operation for operation, _ in self.sandbox.sent]


@pytest.fixture
def world(tmp_path):
    world = World(tmp_path)
    yield world
    world.server.stop()
    assert world.server.broken == []
    assert world.sandbox.violations == []


def refused(call):
    with pytest.raises(ProviderError) as caught:
        call()
    return caught.value, caught.value.problems[0]


# The way there.


def test_it_can_be_deployed(world):
    assert isinstance(world.provider, Deployable)
    assert world.provider.undeployable() == []


def test_what_is_made_and_the_wait(world):
    assert world.deploy() is None
    assert world.sent("make_endpoint") == [{"name": f"ft-{NAME}"}]
    model = f"projects/{PROJECT}/models/{world.artifact['object']}"
    assert world.sent("deploy") == [
        {
            "name": "ft",
            "model": model,
            "config": "projects/proj_platform/configs/cr_sandbox1",
            "autoscaling": {"minReplicas": 1, "maxReplicas": 1},
        }
    ]
    (routed,) = world.sent("route")
    assert [each["weight"] for each in routed["trafficSplit"]] == [1]
    assert world.ask(ENDPOINT).status_code == 503, "nothing is ready"
    at = world.deployed()
    assert (at.kind, at.model, at.key_env) == ("openai", ENDPOINT, "TOGETHER_API_KEY")
    assert at.api_base == f"{world.server.url}/v1"
    assert world.provider.hosted_at(NAME) == at
    assert [len(world.sent(each)) for each in ("make_endpoint", "deploy", "route")] == [1, 1, 1], "found again"
    assert world.ask(ENDPOINT).json()["choices"][0]["message"]["content"] == f"I am {world.artifact['model']}: hi"


def test_only_ready_replicas_are_billed_until_it_is_undone(world):
    world.deployed()
    world.sandbox.clock.advance(3600 - 100)
    world.provider.undeploy(NAME)
    assert world.endpoints.hours() == pytest.approx(1, abs=0.01)
    world.sandbox.clock.advance(3600)
    assert world.endpoints.hours() == pytest.approx(1, abs=0.01)
    assert (world.endpoints.there(), world.endpoints.costing()) == ([], [])
    assert world.ask(ENDPOINT).status_code == 400
    _, problem = refused(lambda: world.provider.hosted_at(NAME))
    assert problem.code == "E402"
    world.sandbox.sent.clear()
    world.provider.undeploy(NAME)
    assert world.operations() == ["whoami", "endpoints"], "nothing is undone twice"


def test_the_weights_of_an_older_artifact_are_looked_up_with_its_job(world):
    known = world.artifact.pop("object")
    world.deploy()
    assert world.sent("deploy")[0]["model"].endswith(f"/{known}")


def test_weights_that_are_not_in_the_registry_are_told(world):
    world.artifact.pop("object")
    answered(world, "retrieve", Reply(body={"id": world.artifact["job"], "status": "completed"}))
    _, problem = refused(world.deploy)
    assert (problem.code, "model_object_id" in problem.why) == ("E837", True)
    assert world.endpoints.book == []
    world.sandbox.violations.clear()


@pytest.mark.parametrize("operation", ["make_endpoint", "deploy", "route"])
def test_what_was_sent_and_not_answered_is_found_again(world, operation):
    world.sandbox.faults.lay(Fault(kind="cut_after", on=operation))
    with pytest.raises(ProviderUnavailable):
        world.deploy()
    world.deployed()
    assert len(world.endpoints.book) == len(world.endpoints.deployments) == 1


@pytest.mark.parametrize("stale", ["nothing", "an endpoint alone"])
def test_who_comes_second_makes_no_other(world, stale):
    """It was shown a list of before the first had made anything."""
    world.deploy()
    real = next(route.answer for route, _ in world.server.table if route.operation == "endpoints")
    shown = []

    def late(request):
        reply = real(request)
        shown.append(request)
        if len(shown) > 1:
            return reply
        rows = [{**row, "deployments": []} for row in reply.body["data"]]
        return Reply(body={"data": [] if stale == "nothing" else rows})

    answered(world, "endpoints", late)
    world.deploy()
    assert len(world.endpoints.book) == len(world.endpoints.deployments) == 1
    assert len(world.sent("make_endpoint" if stale == "nothing" else "deploy")) == 2, "it has tried"


@pytest.mark.parametrize("on", ["whoami", "endpoints", "configs", "hardware", "make_endpoint"])
@pytest.mark.parametrize("kind", ["server_error", "rate_limit", "garbage"])
def test_what_passes_is_tried_again_by_others(world, kind, on):
    world.sandbox.faults.lay(Fault(kind=kind, on=on, seconds=1))
    with pytest.raises(ProviderUnavailable):
        world.deploy()
    assert world.endpoints.deployments == []


def test_lists_are_read_to_their_end(world):
    world.endpoints.page = 1
    for number in range(3):
        world.deploy(f"other-v{number}")
    world.deployed()
    assert len(world.endpoints.book) == 4
    assert {each.name for each in world.provider.deployed()} == {NAME, "other-v0", "other-v1", "other-v2"}


def test_a_failed_one_is_told_with_its_words_and_can_be_undone(world):
    world.endpoints.failing = True
    world.deploy()
    world.sandbox.clock.advance(700)
    error, problem = refused(world.deploy)
    assert (type(error), problem.code, problem.why) == (
        ProviderError,
        "E407",
        "it says: Cannot place replicas: sandbox",
    )
    assert world.provider.deployed() == [Hosted(name=NAME, state="FAILED")]
    world.provider.undeploy(NAME)
    assert (world.endpoints.there(), world.endpoints.hours()) == ([], 0)


# The way back.


def test_one_whose_replica_takes_its_time_is_left_to_the_next_look(world):
    world.deployed()
    world.endpoints.stopping_s = 300.0
    with pytest.raises(ProviderUnavailable, match="E844"):
        world.provider.undeploy(NAME)
    assert world.provider.deployed() == [Hosted(name=NAME, state="STOPPING")]
    world.sandbox.clock.advance(300)
    world.provider.undeploy(NAME)
    assert (world.endpoints.there(), len(world.sent("scale"))) == ([], 1)


def test_one_that_was_stopped_is_started_again(world):
    world.deployed()
    world.endpoints.stopping_s = 100.0
    with pytest.raises(ProviderUnavailable):
        world.provider.undeploy(NAME)
    assert world.deploy() is None, "it is still stopping"
    assert [each.stopped for each in world.provider.deployed()] == [False]
    world.sandbox.clock.advance(100)
    assert [each.stopped for each in world.provider.deployed()] == [True]
    assert world.deploy() is None, "it starts again"
    world.sandbox.clock.advance(700)
    assert world.deploy() is not None
    assert len(world.endpoints.deployments) == 1


@pytest.mark.parametrize("operation", ["scale", "deployment", "route", "undeploy", "delete_endpoint"])
@pytest.mark.parametrize("kind", ["server_error", "cut_after"])
def test_an_end_that_breaks_off_is_taken_up_again(world, kind, operation):
    world.deployed()
    world.sandbox.faults.lay(Fault(kind=kind, on=operation))
    with pytest.raises(ProviderUnavailable):
        world.provider.undeploy(NAME)
    world.provider.undeploy(NAME)
    assert world.endpoints.there() == []


# What is others'.


def test_what_somebody_else_has_made_is_neither_taken_nor_undone(world):
    there = world.another()._deployments
    for name in ("mine", f"ft-{NAME}"):
        endpoint = there._post("x", f"/v2/projects/{PROJECT}/endpoints", {"name": name})
        path = f"/v2/projects/{PROJECT}/endpoints/{endpoint['id']}/deployments"
        model = f"projects/{PROJECT}/models/{world.artifact['object']}"
        body = {"name": "prod", "model": model, "config": "projects/proj_platform/configs/cr_sandbox1"}
        there._post("x", path, {**body, "autoscaling": {"minReplicas": 1, "maxReplicas": 1}})
    _, problem = refused(world.deploy)
    assert (problem.code, "ft has not made" in problem.why) == ("E407", True)
    assert world.provider.deployed() == []
    world.provider.undeploy(NAME)
    assert world.endpoints.costing() == ["prod", "prod"]


def test_another_model_under_our_name_is_not_taken(world):
    world.deploy()
    world.artifact["object"] = "ml_other"
    _, problem = refused(world.deploy)
    assert (problem.code, "another model" in problem.why) == ("E407", True)


def test_ours_ends_and_what_stands_beside_it_stays(world):
    world.deployed()
    (endpoint,) = world.endpoints.there()
    path = f"/v2/projects/{PROJECT}/endpoints/{endpoint.id}"
    body = {**world.sent("deploy")[0], "name": "theirs"}
    there = world.another()._deployments
    theirs = there._post("x", f"{path}/deployments", body)["id"]
    endpoint.split[theirs] = 3.0
    world.provider.undeploy(NAME)
    assert ([each.name for each in endpoint.deployments], endpoint.split) == (["theirs"], {theirs: 3.0})


# What it costs.


@pytest.mark.parametrize(
    ("environ", "usd"),
    [
        ({}, "5.49"),
        ({"TOGETHER_INSTANCE_TYPE": "4xnvidia-h100-80gb"}, "21.96"),
        ({"TOGETHER_INSTANCE_TYPE": "1xnvidia-b200-180gb"}, "8.99"),
        ({"TOGETHER_INSTANCE_TYPE": "1xnvidia-h200-141gb"}, None),
        ({"TOGETHER_INSTANCE_TYPE": "a card"}, None),
        ({"TOGETHER_HOSTING_USD": "3.5"}, "3.5"),
        ({"TOGETHER_HOSTING_USD": "-1"}, None),
        ({"TOGETHER_HOSTING_USD": "much"}, None),
    ],
)
def test_what_an_hour_costs(world, environ, usd):
    hosting = world.another(**environ).hosting(BASE)
    assert hosting.usd_per_hour == (None if usd is None else Decimal(usd))
    assert world.sandbox.sent == []


def test_who_says_what_an_hour_costs(world):
    source = world.provider.hosting(BASE).source
    assert source.startswith('Together\'s page "Pricing of dedicated model inference", read 2026-11-29')


def test_a_price_that_has_risen_is_not_paid(world):
    world.endpoints.cents["1xnvidia-h100-80gb"] = 550
    _, problem = refused(world.deploy)
    assert (problem.code, "5.5 USD an hour" in problem.what, "5.49" in problem.what) == ("E843", True, True)
    assert "TOGETHER_HOSTING_USD=5.5" in problem.fix
    assert world.endpoints.book == []
    # By a contract of one's own nobody asks.
    world.deploy(TOGETHER_HOSTING_USD="5.50")
    assert len(world.endpoints.deployments) == 1


def test_a_price_that_nobody_tells_is_not_paid(world):
    del world.endpoints.cents["1xnvidia-h100-80gb"]
    _, problem = refused(world.deploy)
    assert (problem.code, "not known" in problem.what) == ("E843", True)
    assert world.endpoints.book == []


def test_no_other_hardware_is_taken_than_was_agreed_to(world):
    _, problem = refused(lambda: world.deploy(TOGETHER_INSTANCE_TYPE="1xnvidia-b200-180gb"))
    assert problem.code == "E837"
    assert "cr_sandbox1 on 1xnvidia-h100-80gb, cr_sandbox2 on 4xnvidia-h100-80gb" in problem.why
    assert "TOGETHER_INSTANCE_TYPE" in problem.fix
    world.deploy(TOGETHER_INSTANCE_TYPE="4xnvidia-h100-80gb")
    assert world.sent("deploy")[0]["config"].endswith("/cr_sandbox2")


def test_of_several_configurations_the_user_says_which(world):
    world.endpoints.configs += [{**world.endpoints.configs[0], "id": "cr_sandbox3"}]
    _, problem = refused(world.deploy)
    assert (problem.code, "2 configurations" in problem.what) == ("E837", True)
    assert world.endpoints.book == []
    world.deploy(TOGETHER_DEPLOYMENT_CONFIG="cr_sandbox3")
    assert world.sent("deploy")[0]["config"].endswith("/cr_sandbox3")
    _, problem = refused(lambda: world.deploy("x", TOGETHER_DEPLOYMENT_CONFIG="cr_none"))
    assert "no configuration cr_none" in problem.what


def test_a_base_that_cannot_be_deployed_is_told(world):
    world.endpoints.configs = []
    _, problem = refused(world.deploy)
    assert (problem.code, "cannot be deployed" in problem.why, problem.fix) == (
        "E837",
        True,
        "serve its adapter yourself",
    )


# What has to be there.


def test_what_is_missing_is_told_at_once(world):
    found = world.another(TOGETHER_API_KEY="", TOGETHER_INSTANCE_TYPE="h100", TOGETHER_INFERENCE_URL="here")
    problems = found.undeployable()
    assert [problem.code for problem in problems] == ["E412"] * 3
    for name, problem in zip(("API_KEY", "INFERENCE_URL", "INSTANCE_TYPE"), problems, strict=True):
        assert f"TOGETHER_{name}" in problem.what
    with pytest.raises(AuthenticationFailed):
        found.deploy(NAME, world.artifact)
    assert world.sandbox.sent == []


@pytest.mark.parametrize(
    ("environ", "base"),
    [
        ({"TOGETHER_BASE_URL": ""}, "https://api-inference.together.ai/v1"),
        ({"TOGETHER_BASE_URL": "https://api.together.xyz/v1"}, "https://api-inference.together.ai/v1"),
        ({"TOGETHER_INFERENCE_URL": "https://api.together.ai/v1/"}, "https://api.together.ai/v1"),
        ({"TOGETHER_BASE_URL": "http://proxy.example/v1"}, "http://proxy.example/v1"),
    ],
)
def test_where_it_answers(world, environ, base):
    world.deploy()
    there = world.provider._deployments._look(world.provider._deployments._project(), NAME)
    assert world.another(**environ)._deployments._upstream(there).api_base == base


def test_the_older_api_makes_nothing_any_more(world):
    key = {"Authorization": "Bearer sandbox-key"}
    answer = httpx.post(f"{world.server.url}/v1/endpoints", headers=key, json={}, trust_env=False)
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "endpoints_v1_create_access_disabled")


# Names.

NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}-v[0-9]{1,3}-[0-9a-f]{12}", fullmatch=True)


@settings(deadline=None, max_examples=200)
@given_names(st.lists(NAMES | st.sampled_from(["a--41-b-v1-0", "aAb-v1-0", "a-b", "a--b"]), max_size=4, unique=True))
def test_each_name_has_a_pair_of_its_own_that_leads_back(names):
    pairs = [named(name) for name in names]
    assert len(set(pairs)) == len({pair.endpoint for pair in pairs}) == len(names)
    for name, pair in zip(names, pairs, strict=True):
        assert given(pair.endpoint, pair.deployment) == name
        assert len(pair.endpoint) <= 63
        assert pair.endpoint.strip("abcdefghijklmnopqrstuvwxyz0123456789-") == ""


@pytest.mark.parametrize("pair", [("bot", "ft"), ("ft-bot", "prod"), ("ft-Bot", "ft"), ("ft-b--6f-t", "ft"), ("", "")])
def test_names_that_are_not_ours(pair):
    assert given(*pair) is None
