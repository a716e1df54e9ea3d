"""Deploying at Fireworks: what is sent, what its answers mean, what an hour costs, and what is never touched."""

import json
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import httpx
import pytest

from finetune.abilities import Answering, Deployable
from finetune.errors import AuthenticationFailed, FtError, ProviderError, ProviderUnavailable
from finetune.evaluation.endpoint import Address, Endpoint
from finetune.evaluation.models import Question
from finetune.providers.fireworks import FireworksProvider
from finetune.providers.fireworks_deploy import as_named
from finetune.sandbox.faults import Fault
from finetune.sandbox.fireworks.deployments import CreateDeployment, Deployed
from finetune.sandbox.server import Server
from finetune.sandbox.service import Reply
from tests.support import hosted
from tests.wire.hosted.fireworks_contract import Watched

BASE = "accounts/fireworks/models/qwen3-8b"
MODEL = "accounts/sandbox/models/ft-abcdefghij-a1"
ARTIFACT = {"model": MODEL, "job": "accounts/sandbox/supervisedFineTuningJobs/ft-abcdefghij-a1"}
NAME = "bot-v3-0a1b2c3d4e5f"
WHOLE = f"accounts/sandbox/deployments/ft-{NAME}"
GPU, GPUS, PRICE = "FIREWORKS_DEPLOYMENT_GPU", "FIREWORKS_DEPLOYMENT_GPUS", "FIREWORKS_HOSTING_USD"


class Turning:
    """A clock whose waits move the stand-in's, and cost no time."""

    def __init__(self, sandbox):
        self.sandbox = sandbox

    def now(self):
        return self.sandbox.clock.now()

    def sleep(self, seconds):
        self.sandbox.clock.advance(seconds)


class World:
    """The stand-in with one trained model, and a provider."""

    def __init__(self, folder):
        self.folder, self.sandbox = folder, Watched()
        self.server = Server(self.sandbox)
        self.server.start()
        self.provider = self.another()
        data = self.provider.upload(hosted.data(folder, "fireworks"))
        self.provider.create(hosted.recipe("fireworks", BASE), data, "ft_abcdefghij-a1")
        self.sandbox.clock.advance(1000)
        self.sandbox.sent.clear()

    def another(self, **environ):
        kit = hosted.kit(self.folder, {**self.server.environment, **environ}, Turning(self.sandbox))
        return FireworksProvider(kit)

    @property
    def book(self):
        return self.sandbox.deployments.book

    def deployed(self, **environ):
        """The address, once it is there."""
        provider = self.another(**environ)
        for _ in range(6):
            if at := provider.deploy(NAME, ARTIFACT):
                return at
        raise AssertionError("it never was there")

    def fault(self, kind, on, **more):
        self.sandbox.faults.lay(Fault(kind=kind, on=on, **more))

    def answers(self, operation, answer):
        """From now on, whatever is asked."""
        for place, (route, pattern) in enumerate(self.server.table):
            if route.operation == operation:
                self.server.table[place] = (replace(route, answer=answer), pattern)

    def placed(self, **more):
        """One that somebody else has made."""
        asked = {"baseModel": MODEL, "description": f"ft_model={NAME}", **more}
        made = {"name": WHOLE, "asked": CreateDeployment(**asked), "gpu": "NVIDIA_H100_80GB", "gpus": 1, "since": 0.0}
        self.book.append(Deployed(**made))
        return self.book[-1]

    def chat(self, model):
        body = {"model": model, "messages": [{"role": "user", "content": "hi"}]}
        headers = {"Authorization": "Bearer sandbox-key"}
        return httpx.post(f"{self.server.url}/inference/v1/chat/completions", headers=headers, json=body)

    def stop(self):
        self.server.stop()
        assert self.server.broken == []
        assert self.sandbox.violations == []


@pytest.fixture
def world(tmp_path):
    made = World(tmp_path)
    yield made
    made.stop()


def fails(call):
    with pytest.raises(FtError) as caught:
        call()
    return caught.value, caught.value.problems[0]


# What is sent, and when it is there.


def test_it_can_be_deployed_and_does_not_answer_before(world):
    assert isinstance(world.provider, Deployable)
    assert not isinstance(world.provider, Answering)
    assert world.provider.undeployable() == []


def test_the_request_and_the_wait(world):
    assert world.provider.deploy(NAME, ARTIFACT) is None
    (sent,) = world.sandbox.asked("deploy")
    assert sent.query_text == f"deploymentId=ft-{NAME}"
    assert json.loads(sent.body) == {
        "baseModel": MODEL,
        "displayName": f"ft-{NAME}",
        "description": f"ft_model={NAME}",
        "deploymentShape": "default",
        "acceleratorType": "NVIDIA_H100_80GB",
        "acceleratorCount": 1,
        "minReplicaCount": 1,
        "maxReplicaCount": 1,
    }
    at = world.deployed()
    assert (at.kind, at.model, at.key_env) == ("fireworks_ai", WHOLE, "FIREWORKS_API_KEY")
    assert at.api_base == f"{world.server.url}/inference/v1"
    assert at == world.provider.hosted_at(NAME)
    assert len(world.book) == 1, "asked again it is found again"
    assert [(one.name, one.state) for one in world.provider.deployed()] == [(NAME, "READY")]


def test_ready_with_a_replica_that_still_loads_is_not_there_yet(world):
    there = world.placed()
    there.loading = 3
    assert [world.provider.deploy(NAME, ARTIFACT) is None for _ in range(4)] == [True, True, False, False]


def test_gpus_are_the_users(world):
    world.deployed(**{GPU: "NVIDIA_B200_180GB", GPUS: "2"})
    assert (world.book[0].gpu, world.book[0].gpus) == ("NVIDIA_B200_180GB", 2)


def test_it_answers_by_the_deployments_name_until_it_is_undone(world):
    assert (world.chat(WHOLE).status_code, world.chat(WHOLE).json()["error"]["code"]) == (404, "NOT_FOUND")
    at = world.deployed()
    told = world.chat(at.model).json()["choices"][0]["message"]["content"]
    assert told == world.chat(f"{MODEL}#{at.model}").json()["choices"][0]["message"]["content"] == f"I am {MODEL}: hi"
    with Endpoint(
        Address(base_url=at.api_base, model=at.model, key_env=at.key_env), environ=world.server.environment
    ) as endpoint:
        (answer,) = endpoint.answers([Question(messages=[{"role": "user", "content": "hi"}])], 8)
    assert answer.text == f"I am {MODEL}: hi"
    world.provider.undeploy(NAME)
    assert world.chat(at.model).status_code == 404


# Never twice, never for nobody.


def test_undone_it_is_billed_no_more_and_can_be_deployed_again(world):
    world.deployed()
    world.sandbox.clock.advance(7200)
    assert world.sandbox.deployments.hours() == pytest.approx(2, abs=0.01)
    for _ in range(2):
        world.provider.undeploy(NAME)
    assert len(world.sandbox.asked("undeploy")) == 1
    world.sandbox.clock.advance(7200)
    assert world.sandbox.deployments.hours() == pytest.approx(2, abs=0.01)
    assert world.provider.deployed() == []
    assert world.deployed().model == WHOLE, "its id is free again"


def test_one_that_somebody_has_deleted_in_the_console_gives_its_id_back(world):
    world.deployed()
    world.book[0].until = world.sandbox.clock.now().timestamp()
    assert world.provider.deployed() == []
    world.provider.undeploy(NAME)
    assert world.sandbox.asked("undeploy") == [], "it costs nothing"
    assert world.deployed().model == WHOLE
    assert [one.state for one in world.book] == ["DELETED", "READY"]


def test_a_name_that_no_id_holds_is_found_again(world):
    for name in ("a" * 60 + "-v3-0a1b2c3d4e5f", "Größe_x.y-v1-0a1b2c3d4e5f", "-", "A"):
        for _ in range(4):
            at = world.provider.deploy(name, ARTIFACT)
        assert at is not None
        assert [one.name for one in world.provider.deployed()] == [name]
        world.provider.undeploy(name)
    assert world.sandbox.deployments.there() == []
    assert as_named("bot-v1") != as_named("Bot-v1")


@pytest.mark.parametrize("more", [{"description": ""}, {"description": "ft_model=another"}, {"baseModel": BASE}])
def test_what_somebody_else_has_made_is_not_taken(world, more):
    before = world.placed(**more).json()
    error, problem = fails(lambda: world.provider.deploy(NAME, ARTIFACT))
    assert (type(error), problem.code) == (ProviderError, "E407")
    assert "is not the one that ft makes" in problem.what
    assert world.book[0].json() == before
    assert len(world.book) == 1


@pytest.mark.parametrize("description", ["", "ft_model=another", "something else"])
def test_what_somebody_else_has_made_is_not_undone(world, description):
    world.placed(description=description)
    world.provider.undeploy(NAME)
    assert world.sandbox.asked("undeploy") == []
    assert len(world.sandbox.deployments.there()) == 1


def test_two_workers_at_once_make_one(world):
    other = world.another()
    looked = world.provider._deployments._look
    assert looked(NAME) is None
    other.deploy(NAME, ARTIFACT)
    # As if it had looked before the other one had made it.
    world.provider._deployments._create(NAME, MODEL)
    assert len(world.book) == 1
    assert world.deployed().model == WHOLE


@pytest.mark.parametrize("kind", ["cut_after", "hang_after", "garbage"])
def test_what_was_sent_and_not_answered_is_found_again(world, kind):
    world.provider = FireworksProvider(world.provider._kit, read_s=0.3)
    world.fault(kind, "deploy", seconds=1)
    with pytest.raises(ProviderUnavailable):
        world.provider.deploy(NAME, ARTIFACT)
    world.deployed()
    assert len(world.book) == 1


@pytest.mark.parametrize("on", ["deployment", "deployments", "deploy"])
@pytest.mark.parametrize("kind", ["server_error", "unavailable", "cut_before", "rate_limit"])
def test_what_passes_is_tried_again_by_others(world, kind, on):
    world.fault(kind, on, seconds=1)
    with pytest.raises(ProviderUnavailable):
        world.provider.deploy(NAME, ARTIFACT)
    assert world.book == []


@pytest.mark.parametrize("body", [{"deployments": "x"}, {"deployments": [1]}, []])
def test_a_list_that_is_no_list_is_not_taken_for_an_empty_one(world, body):
    world.answers("deployments", lambda request: Reply(body=body))
    with pytest.raises(ProviderUnavailable, match="E411"):
        world.provider.deploy(NAME, ARTIFACT)
    assert world.book == []


@pytest.mark.parametrize("call", ["deploy", "undeploy"])
def test_a_wrong_account_is_no_deployment_that_is_gone(world, call):
    world.deployed()
    wrong = world.another(FIREWORKS_ACCOUNT_ID="another")
    with pytest.raises(AuthenticationFailed):
        wrong.deploy(NAME, ARTIFACT) if call == "deploy" else wrong.undeploy(NAME)
    assert len(world.sandbox.deployments.there()) == 1


# What goes wrong there.


def test_a_failed_one_is_told_in_its_words_and_can_be_undone(world):
    world.placed().fails = True
    error, problem = fails(lambda: world.provider.deploy(NAME, ARTIFACT))
    assert (type(error), problem.code) == (ProviderError, "E407")
    assert problem.why == "it says: no quota for these GPUs"
    world.provider.undeploy(NAME)
    assert world.sandbox.deployments.there() == []


def test_gpus_that_do_not_fit_are_refused_with_what_does(world):
    error, problem = fails(lambda: world.another(**{GPUS: "3"}).deploy(NAME, ARTIFACT))
    assert (type(error), problem.code) == (ProviderError, "E407")
    assert "1 x NVIDIA_H100_80GB" in problem.why
    assert f"--model {MODEL}" in problem.fix
    assert GPU in problem.fix
    assert world.book == []


def test_other_gpus_than_are_agreed_to_are_no_deployment_of_ours(world):
    """The pages promise that it never happens; whoever pays for it reads no pages."""
    made, held = world.sandbox.deployments, world.sandbox.deployments.create

    def create(request, body, now):
        held(request, body, now)
        made.book[-1].gpu, made.book[-1].gpus = "NVIDIA_B200_180GB", 8
        return Reply(body=made.book[-1].json())

    world.answers("deploy", world.sandbox._kept("deploy", create))
    error, problem = fails(lambda: world.provider.deploy(NAME, ARTIFACT))
    assert (type(error), problem.code) == (ProviderError, "E407")
    assert "on 8 x NVIDIA_B200_180GB" in problem.what
    assert "1 x NVIDIA_H100_80GB" in problem.why
    world.provider.undeploy(NAME)
    assert world.sandbox.deployments.there() == []


def test_a_deletion_that_has_only_begun_is_followed_to_its_end(world):
    world.deployed()
    world.book[0].dying = 4
    before = world.sandbox.clock.now()
    world.provider.undeploy(NAME)
    assert world.sandbox.clock.now() - before >= timedelta(seconds=4)
    assert world.provider._deployments._look(NAME) is None


def test_a_deletion_that_does_not_end_is_left_to_the_next_look(world):
    world.deployed()
    world.book[0].dying = 14
    error, problem = fails(lambda: world.provider.undeploy(NAME))
    assert (type(error), problem.code) == (ProviderUnavailable, "E844")
    assert "it is DELETING" in problem.why
    assert [one.state for one in world.provider.deployed()] == ["DELETING"], "it may still cost"
    assert world.provider.deploy(NAME, ARTIFACT) is None, "nothing new while it goes"
    world.provider.undeploy(NAME)
    assert world.provider.deployed() == []
    assert len(world.sandbox.asked("undeploy")) == 1, "what is being deleted is not told so again"


def test_secrets_in_the_words_of_the_api_are_not_shown(world):
    world.placed().fails = True
    key = "sandbox-of-somebody-1234567890"
    told = {**world.book[0].json(), "status": {"code": "INTERNAL", "message": f"sent\nwith {key}"}}
    world.answers("deployment", lambda request: Reply(body=told))
    _, problem = fails(lambda: world.another(FIREWORKS_API_KEY=key).deploy(NAME, ARTIFACT))
    assert problem.why == "it says: sent with ***"


# What is missing, and what it costs.


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"FIREWORKS_API_KEY": ""}, ["FIREWORKS_API_KEY is not set"]),
        ({GPU: "an H100"}, [f"{GPU} is no name of a GPU"]),
        ({GPUS: "0"}, [f"{GPUS} is no whole number"]),
        ({GPUS: "many", GPU: "x"}, [f"{GPU} is no name", f"{GPUS} is no whole number"]),
    ],
)
def test_each_wrong_variable_is_a_problem_of_its_own_and_nothing_is_sent(world, environ, words):
    provider = world.another(**environ)
    found = provider.undeployable()
    assert [problem.code for problem in found] == ["E412"] * len(words)
    assert all(word in problem.what for word, problem in zip(words, found, strict=True))
    assert all(problem.why and problem.fix for problem in found)
    with pytest.raises(ProviderError, match="E412"):
        provider.deploy(NAME, ARTIFACT)
    assert world.sandbox.sent == []


@pytest.mark.parametrize(
    ("environ", "usd", "kind"),
    [
        ({}, "8.00", "1 x NVIDIA_H100_80GB"),
        ({GPU: "NVIDIA_B200_180GB", GPUS: "2"}, "26.00", "2 x NVIDIA_B200_180GB"),
        ({GPU: "AMD_MI350X_288GB"}, None, "1 x AMD_MI350X_288GB"),
        ({GPU: "AMD_MI350X_288GB", PRICE: "9.5"}, "9.5", "1 x AMD_MI350X_288GB"),
        ({GPUS: "0"}, None, "0 x NVIDIA_H100_80GB"),
        ({PRICE: "-1"}, None, "1 x NVIDIA_H100_80GB"),
        ({PRICE: "NaN"}, None, "1 x NVIDIA_H100_80GB"),
        ({PRICE: "1e3"}, None, "1 x NVIDIA_H100_80GB"),
    ],
)
def test_what_an_hour_costs(world, environ, usd, kind):
    hosting = world.another(**environ).hosting(BASE)
    assert hosting.usd_per_hour == (None if usd is None else Decimal(usd))
    assert hosting.kind == kind
    assert PRICE in hosting.fix
    assert world.sandbox.sent == []


def test_who_says_what_an_hour_costs(world):
    said = world.another(**{GPUS: "2"}).hosting(BASE).source
    page = "Fireworks' page 'Pricing, on-demand deployments, as quoted by its readers', of 2026-10-01, read 2026-11-29"
    assert said.startswith(f"{page}: 8.00 for")
    assert world.another(**{PRICE: "7"}).hosting(BASE).source == f"{PRICE}=7"


# The stand-in is as strict as the pages.

GOOD = {"baseModel": MODEL, "deploymentShape": "default"}


@pytest.mark.parametrize(
    ("change", "query", "status"),
    [
        ({}, {}, 200),
        ({"acceleratorType": "NVIDIA_B200_180GB", "acceleratorCount": 4}, {}, 200),
        ({"deploymentShape": None}, {"acceptShapelessRisk": "true"}, 200),
        ({"deploymentShape": None}, {}, 400),
        ({}, {"acceptShapelessRisk": "true"}, 400),
        ({}, {"deploymentId": "A_b"}, 400),
        ({}, {"other": "1"}, 400),
        ({"acceleratorCount": 3}, {}, 400),
        ({"baseModel": "accounts/sandbox/models/never"}, {}, 400),
        ({"minReplicaCount": 2}, {}, 400),
        ({"displayName": "x" * 64}, {}, 400),
        ({"expire": "x"}, {}, 400),
    ],
)
def test_the_stand_in_takes_what_the_api_has_and_nothing_else(world, change, query, status):
    body = {name: value for name, value in {**GOOD, **change}.items() if value is not None}
    url = f"{world.server.url}/v1/accounts/sandbox/deployments"
    headers = {"Authorization": "Bearer sandbox-key"}
    answer = httpx.post(url, json=body, params={"deploymentId": "mine", **query}, headers=headers)
    assert answer.status_code == status, answer.text


def test_the_stand_in_keeps_the_id_of_what_is_not_deleted_for_good(world):
    url, headers = f"{world.server.url}/v1/accounts/sandbox/deployments", {"Authorization": "Bearer sandbox-key"}

    def ask(method, end="", **more):
        return httpx.request(method, url + end, headers=headers, **more)

    assert ask("POST", json=GOOD, params={"deploymentId": "mine"}).status_code == 200
    assert [ask("GET", "/mine").json()["state"] for _ in range(2)] == ["CREATING", "READY"]
    assert ask("DELETE", "/mine").status_code == 400, "it was asked within the hour"
    assert ask("DELETE", "/mine", params={"ignoreChecks": "true"}).status_code == 200
    assert ask("GET", "/mine").json()["state"] == "DELETED"
    assert ask("GET").json()["deployments"] == []
    assert ask("POST", json=GOOD, params={"deploymentId": "mine"}).status_code == 409
    assert ask("DELETE", "/mine", params={"hard": "true"}).status_code == 200
    assert ask("GET", "/mine").status_code == 404
    assert ask("POST", json=GOOD, params={"deploymentId": "mine"}).status_code == 200
    assert ask("DELETE", "/mine", params={"hard": "perhaps"}).status_code == 400


def test_the_stand_in_answers_bases_and_refuses_what_is_no_chat(world):
    assert world.chat(BASE).json()["choices"][0]["message"]["content"] == f"I am {BASE}: hi"
    assert world.chat("qwen3-8b").status_code == 404, "it wants whole names"
    url, headers = f"{world.server.url}/inference/v1/chat/completions", {"Authorization": "Bearer sandbox-key"}
    for body in ({"model": BASE}, {"model": BASE, "messages": [], "x": 1}, []):
        assert httpx.post(url, json=body, headers=headers).status_code == 400
    assert httpx.post(url, json={}, headers={}).status_code == 401
