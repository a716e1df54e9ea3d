"""Deploying at Azure: what is sent to the Resource Manager, what its answers mean, and what is never touched."""

import json
from datetime import UTC, datetime
from decimal import Decimal

import httpx
import pytest

from finetune.abilities import Deployable
from finetune.errors import AuthenticationFailed, GatewayError, ProviderError, ProviderUnavailable
from finetune.evaluation.endpoint import Address as EndpointAddress
from finetune.evaluation.endpoint import Endpoint
from finetune.evaluation.models import Question
from finetune.providers.azure import AzureProvider
from finetune.sandbox.azure import AzureSandbox
from finetune.sandbox.azure_deployments import ACCOUNT, GROUP, SUBSCRIPTION, TOKEN, Deployed, Deployments
from finetune.sandbox.faults import Fault
from finetune.sandbox.service import Reply
from finetune.settings import from_environment
from finetune.testing import ManualClock
from finetune.versions import ModelVersion, Placed
from finetune.wiring import Releases
from tests.support import hosted

BASE = "gpt-4.1-mini-2025-04-14"
MODEL = f"{BASE}.ft-0123456789abcdef"
ARTIFACT = {"model": MODEL}
NAME = "bot-v3-0a1b2c3d4e5f"
WHERE = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}/providers/Microsoft.CognitiveServices"
PATH = f"{WHERE}/accounts/{ACCOUNT}/deployments/{NAME}"


class World:
    def __init__(self, folder, sandbox=None, clock=None):
        self.folder, self.clock = folder, clock
        self.sandbox = sandbox or AzureSandbox()
        self.sandbox._models.add(MODEL, BASE, 0)
        self.server = hosted.served(self.sandbox)
        self.provider = self.another()

    def another(self, **environ):
        return AzureProvider(hosted.kit(self.folder, {**self.server.environment, **environ}, self.clock))

    @property
    def book(self):
        return self.sandbox.deployments.book

    def deployed(self, **environ):
        """The address, once it is there."""
        provider = self.another(**environ)
        for _ in range(5):
            if at := provider.deploy(NAME, ARTIFACT):
                return at
        raise AssertionError("it never was there")

    def ask(self, method, path, token=TOKEN, **more):
        headers = {"Authorization": f"Bearer {token}"}
        return httpx.request(method, f"{self.server.url}{path}", headers=headers, **more)


@pytest.fixture
def world(tmp_path):
    world = World(tmp_path)
    yield world
    world.server.stop()
    assert world.server.broken == []


def test_it_can_be_deployed(world):
    assert isinstance(world.provider, Deployable)
    assert world.provider.undeployable() == []


def test_the_request_and_the_wait(world):
    assert world.provider.deploy(NAME, ARTIFACT) is None
    (one,) = world.book
    assert one.name == NAME
    assert one.body == {
        "sku": {"name": "Standard", "capacity": 50},
        "properties": {"model": {"format": "OpenAI", "name": MODEL, "version": "1"}},
        "tags": {"ft_model": NAME},
    }
    at = world.deployed()
    assert (at.kind, at.model, at.api_base) == ("openai", NAME, f"{world.server.url}/openai/v1")
    assert at == world.provider.hosted_at(NAME)
    assert len(world.book) == 1, "asked again it is found again"


def test_kind_and_capacity_are_the_users(world):
    world.deployed(AZURE_DEPLOYMENT_SKU="GlobalStandard", AZURE_DEPLOYMENT_CAPACITY="7")
    assert world.book[0].body["sku"] == {"name": "GlobalStandard", "capacity": 7}


def test_it_answers_under_the_deployments_name_until_it_is_undone(world):
    def asked():
        body = {"model": NAME, "messages": [{"role": "user", "content": "hi"}]}
        key = {"Authorization": "Bearer sandbox-key"}
        return httpx.post(f"{world.server.url}/openai/v1/chat/completions", headers=key, json=body)

    assert (asked().status_code, asked().json()["error"]["code"]) == (404, "DeploymentNotFound")
    world.deployed()
    assert asked().json()["choices"][0]["message"]["content"] == f"I am {MODEL}: hi"
    world.provider.undeploy(NAME)
    assert asked().status_code == 404


def test_a_deployed_version_is_measured_by_its_deployments_name(world, tmp_path, monkeypatch):
    """By a model's own name nothing answers there; `ft eval` of it: tests/flow/hosted."""
    for name, value in world.server.environment.items():
        monkeypatch.setenv(name, value)
    named = {"name": "bot", "version": 3, "job_id": "ft_1", "base_model": BASE, "provider": "azure", "lineage": {}}
    at = datetime(2027, 1, 1, tzinfo=UTC)
    version = ModelVersion(**named, artifact=ARTIFACT, created_at=at)
    parts = Releases(from_environment({"FT_HOME": str(tmp_path / "home")}))
    try:
        with pytest.raises(GatewayError, match="is not deployed at azure, so it answers nowhere"):
            parts._subject(version)
        there = {"gateway": "azure", "id": NAME, "name": "bot", "version": 3, "alias": "production"}
        parts.promotions.place(Placed(**there, listed_as=NAME, at=at))
        subject = parts._subject(version)
    finally:
        parts.close()
    assert subject == {
        "kind": "endpoint",
        "name": "bot@v3",
        "base_url": f"{world.server.url}/openai/v1",
        "model": NAME,
        "key_env": "AZURE_OPENAI_API_KEY",
    }
    world.deployed()
    with Endpoint(EndpointAddress(base_url=subject["base_url"], model=NAME, key_env=subject["key_env"])) as endpoint:
        (answer,) = endpoint.answers([Question(messages=[{"role": "user", "content": "hi"}])], 8)
    assert answer.text == f"I am {MODEL}: hi"


def test_undone_it_is_billed_no_more(world):
    world.deployed()
    world.sandbox.clock.advance(7200)
    assert world.sandbox.deployments.hours() == pytest.approx(2, abs=0.01)
    world.provider.undeploy(NAME)
    world.provider.undeploy(NAME)
    world.sandbox.clock.advance(7200)
    assert world.sandbox.deployments.hours() == pytest.approx(2, abs=0.01)
    assert world.provider.deployed() == []


def test_a_name_that_is_too_long_for_azure_is_found_again(world):
    long = "a" * 60 + "-v3-0a1b2c3d4e5f"
    for _ in range(4):
        at = world.provider.deploy(long, ARTIFACT)
    assert at is not None
    assert len(at.model) == 64
    assert [one.name for one in world.provider.deployed()] == [long]
    world.provider.undeploy(long)
    assert world.sandbox.deployments.there() == []


@pytest.mark.parametrize("tags", [{}, {"ft_model": "another"}])
def test_what_somebody_else_has_made_is_neither_taken_nor_undone(world, tags):
    body = {"properties": {"model": {"name": MODEL}}, "sku": {}, "tags": tags}
    world.book.append(Deployed(name=NAME, model=MODEL, body=body, since=0.0))
    with pytest.raises(ProviderError, match="is not the one that ft makes"):
        world.provider.deploy(NAME, ARTIFACT)
    world.provider.undeploy(NAME)
    assert len(world.sandbox.deployments.there()) == 1
    assert world.book[0].body == body


def test_a_failed_one_is_told_and_can_be_undone(world):
    world.deployed()
    world.book[0].model = f"{MODEL}-fail"
    with pytest.raises(ProviderError, match="is Failed"):
        world.provider.deploy(NAME, ARTIFACT)
    world.provider.undeploy(NAME)
    assert world.sandbox.deployments.there() == []


def test_what_was_sent_and_not_answered_is_found_again(world):
    world.sandbox.faults.lay(Fault(kind="cut_after", on="deploy"))
    with pytest.raises(ProviderUnavailable):
        world.provider.deploy(NAME, ARTIFACT)
    world.deployed()
    assert len(world.book) == 1


@pytest.mark.parametrize("on", ["deployment", "deployments"])
@pytest.mark.parametrize("kind", ["server_error", "unavailable", "rate_limit", "cut_before"])
def test_what_passes_is_tried_again_by_others(world, kind, on):
    world.sandbox.faults.lay(Fault(kind=kind, on=on, seconds=1))
    with pytest.raises(ProviderUnavailable):
        world.provider.deploy(NAME, ARTIFACT)
    assert world.book == []


def test_a_list_that_is_no_list_is_not_taken_for_an_empty_one(world):
    world.sandbox.faults.lay(Fault(kind="garbage", on="deployments"))
    with pytest.raises(ProviderUnavailable, match="E411"):
        world.provider.deploy(NAME, ARTIFACT)
    assert world.book == []


def test_a_token_that_has_ended_says_how_to_get_one_and_is_never_shown(world):
    secret = "eyJSECRETSECRET"
    with pytest.raises(AuthenticationFailed) as refused:
        world.another(AZURE_MANAGEMENT_TOKEN=secret).deploy(NAME, ARTIFACT)
    (problem,) = refused.value.problems
    assert problem.code == "E405"
    assert "az account get-access-token" in problem.fix
    assert secret not in str(refused.value)


@pytest.mark.parametrize(
    "variable", ["AZURE_SUBSCRIPTION_ID", "AZURE_RESOURCE_GROUP", "AZURE_OPENAI_ACCOUNT"], ids=lambda name: name[6:]
)
@pytest.mark.parametrize("call", ["deploy", "undeploy"])
def test_a_wrong_place_is_no_deployment_that_is_gone(world, variable, call):
    world.deployed()
    wrong = world.another(**{variable: "wrong"})
    with pytest.raises(ProviderError, match="has not the subscription, group or account"):
        wrong.deploy(NAME, ARTIFACT) if call == "deploy" else wrong.undeploy(NAME)
    assert len(world.sandbox.deployments.there()) == 1


def test_each_missing_variable_is_a_problem_of_its_own(world):
    names = ("AZURE_SUBSCRIPTION_ID", "AZURE_RESOURCE_GROUP", "AZURE_OPENAI_ACCOUNT", "AZURE_MANAGEMENT_TOKEN")
    found = world.another(**dict.fromkeys(names, "")).undeployable()
    assert [problem.code for problem in found] == ["E412"] * 4
    assert [name for name in names[:3] if not any(name in problem.what for problem in found)] == []
    assert all(problem.why and problem.fix for problem in found)
    wrong = world.another(AZURE_DEPLOYMENT_CAPACITY="many", AZURE_MANAGEMENT_ENDPOINT="here").undeployable()
    assert ["AZURE_MANAGEMENT_ENDPOINT" in wrong[0].what, "AZURE_DEPLOYMENT_CAPACITY" in wrong[1].what] == [True, True]


def test_the_account_is_the_first_word_of_azures_own_hosts(world):
    for endpoint, known in (
        ("https://mine.openai.azure.com/", True),
        ("https://mine.services.ai.azure.com/openai/v1", True),
        ("https://proxy.example.com", False),
        ("http://127.0.0.1:8000", False),
    ):
        provider = world.another(AZURE_OPENAI_ENDPOINT=endpoint, AZURE_OPENAI_ACCOUNT="")
        assert (provider.undeployable() == []) is known, endpoint
    assert "/accounts/mine/deployments" in world.another(
        AZURE_OPENAI_ENDPOINT="https://mine.openai.azure.com", AZURE_OPENAI_ACCOUNT=""
    )._deployments._path(NAME)


@pytest.mark.parametrize(
    ("environ", "usd"),
    [
        ({}, "1.70"),
        ({"AZURE_DEPLOYMENT_SKU": "globalstandard"}, "1.70"),
        ({"AZURE_DEPLOYMENT_SKU": "DeveloperTier"}, "0"),
        ({"AZURE_DEPLOYMENT_SKU": "ProvisionedManaged"}, None),
        ({"AZURE_DEPLOYMENT_SKU": "ProvisionedManaged", "AZURE_HOSTING_USD": "9.5"}, "9.5"),
        ({"AZURE_HOSTING_USD": "-1"}, None),
        ({"AZURE_HOSTING_USD": "NaN"}, None),
    ],
)
def test_what_an_hour_costs(world, environ, usd):
    hosting = world.another(**environ).hosting(BASE)
    assert hosting.usd_per_hour == (None if usd is None else Decimal(usd))
    assert world.server.requests == 0


def test_who_says_what_an_hour_costs(world):
    hosting = world.provider.hosting(BASE)
    assert hosting.source == (
        'Microsoft\'s page "Cost management for fine-tuning, the last that gave figures", of 2026-03-19, '
        "read 2026-11-29, an example of March 2026"
    )


class Reluctant(Deployments):
    """Takes its time to delete: 202, then so many looks at what is being deleted."""

    def __init__(self, is_tuned, now, looks):
        super().__init__(is_tuned, now)
        self.left, self.deletes, self.begun = looks, 0, False

    def _delete(self, request):
        self.deletes, self.begun = self.deletes + 1, True
        return Reply(status=202)

    def _get(self, request):
        one = self._found(request)
        if self.begun and self.left == 0:
            one.until = self._now()
        self.left -= self.begun
        return super()._get(request)

    def _shown(self, one):
        shown = super()._shown(one)
        return (
            {**shown, "properties": {**shown["properties"], "provisioningState": "Deleting"}} if self.begun else shown
        )


@pytest.fixture
def reluctant(tmp_path):
    """Worlds whose deletions take so many looks."""
    worlds = []

    def made(looks):
        sandbox = AzureSandbox()
        sandbox.deployments = Reluctant(sandbox._models.is_tuned, sandbox.now, looks)
        worlds.append(World(tmp_path, sandbox, ManualClock()))
        worlds[-1].deployed()
        return worlds[-1]

    yield made
    for world in worlds:
        world.server.stop()
        assert world.server.broken == []


def test_a_deletion_that_has_only_begun_is_followed_to_its_end(reluctant):
    world = reluctant(3)
    before = world.clock.now()
    world.provider.undeploy(NAME)
    assert world.sandbox.deployments.there() == []
    assert world.sandbox.deployments.deletes == 1
    assert (world.clock.now() - before).total_seconds() == 8


def test_a_deletion_that_does_not_end_is_left_to_the_next_look(reluctant):
    world = reluctant(14)
    with pytest.raises(ProviderUnavailable, match="it is Deleting") as left:
        world.provider.undeploy(NAME)
    assert "sync" in left.value.problems[0].fix
    assert world.sandbox.deployments.left == 4
    world.provider.undeploy(NAME)
    assert world.sandbox.deployments.there() == []
    assert world.sandbox.deployments.deletes == 1, "what is being deleted is not told so again"


# The stand-in is as strict as the description.

GOOD = {"sku": {"name": "Standard", "capacity": 1}, "properties": {"model": {"format": "OpenAI", "name": MODEL}}}
GOOD["properties"]["model"]["version"] = "1"
VERSION = "?api-version=2024-10-01"


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({}, 201),
        ({"location": "x"}, 400),
        ({"sku": {"name": "Standard"}}, 400),
        ({"sku": {"name": "Free", "capacity": 1}}, 400),
        ({"sku": {"name": "Standard", "capacity": 0}}, 400),
        ({"properties": {"model": {"format": "OpenAI", "name": "none", "version": "1"}}}, 400),
        ({"properties": {"model": GOOD["properties"]["model"], "x": 1}}, 400),
        ({"tags": {"a": 1}}, 400),
    ],
)
def test_the_stand_in_takes_what_the_api_has_and_nothing_else(world, change, status):
    answer = world.ask("PUT", PATH + VERSION, content=json.dumps({**GOOD, **change}))
    assert answer.status_code == status
    assert status == 201 or set(answer.json()["error"]) == {"code", "message"}


def test_the_stand_in_refuses_other_versions_tokens_and_changes_in_between(world):
    assert world.ask("GET", PATH).status_code == 400
    assert world.ask("GET", PATH + "?api-version=2020-01-01").status_code == 400
    assert world.ask("GET", PATH + VERSION, token="sandbox-key").status_code == 401
    assert world.ask("DELETE", PATH + VERSION).status_code == 204
    assert world.ask("PUT", PATH + VERSION, json=GOOD).status_code == 201
    again = world.ask("PUT", PATH + VERSION, json=GOOD)
    assert (again.status_code, again.json()["error"]["code"]) == (409, "RequestConflict")
