"""Providers that deploy what they have tuned: the same promises, kept by each against its stand-in."""

from collections.abc import Callable
from dataclasses import dataclass

import httpx
import pytest

from finetune.abilities import Deployable, Hosting
from finetune.errors import ProviderError, ProviderUnavailable
from finetune.providers.azure import AzureProvider
from finetune.sandbox.azure import AzureSandbox
from finetune.sandbox.azure_deployments import Deployed
from finetune.sandbox.faults import Fault
from tests.support import hosted, hosted_bedrock, hosted_fireworks, hosted_together

NAME, OTHER = "bot-v3-0a1b2c3d4e5f", "bot-v4-5f4e3d2c1b0a"
#: How often a stand-in is asked until it has deployed something.
PATIENCE = 6


@dataclass
class Host:
    """A provider with two tuned models, and the names that its stand-in bills now."""

    provider: object
    sandbox: object
    server: object
    base: str
    artifacts: list
    #: The same provider where no variable is set.
    bare: object
    #: From now on the base answers untuned, or it does not. None: the API tells of neither.
    serve: Callable[[bool], None] | None = None
    #: What is asked for that.
    asks: str = ""

    def costing(self):
        return len(self.sandbox.deployments.there())

    def ever(self):
        return len(self.sandbox.deployments.book)

    def deployed(self, name=NAME, artifact=None):
        """Where it answers, once it is there."""
        for _ in range(PATIENCE):
            if at := self.provider.deploy(name, artifact or self.artifacts[0]):
                return at
        raise AssertionError("it never was there")

    def names(self):
        return sorted(one.name for one in self.provider.deployed())


def trained(rig):
    """What two jobs have left."""
    jobs = [rig.create(key) for key in ("ft_x-a1", "ft_x-a2")]
    rig.sandbox.clock.advance(3600)
    return [rig.provider.poll(job.remote_id, None).artifact for job in jobs]


def azure(folder):
    sandbox, base = AzureSandbox(), "gpt-4.1-mini-2025-04-14"
    server = hosted.served(sandbox)
    models = [f"{base}.ft-{number:032d}" for number in range(2)]
    for model in models:
        sandbox._models.add(model, base, 0)
    provider = AzureProvider(hosted.kit(folder, server.environment))
    artifacts = [{"model": model} for model in models]
    body = {"properties": {"model": {"name": "gpt-4.1-mini", "version": "2025-04-14"}}, "sku": {}}
    own = Deployed(name="plain", model=base, body=body, since=0.0)

    def serve(on):
        sandbox.deployments.book[:] = [own] if on else []

    bare = AzureProvider(hosted.kit(folder, {}))
    return Host(provider, sandbox, server, base, artifacts, bare, serve, "deployments")


def fireworks(folder):
    rig = hosted_fireworks.rig(folder)
    bare, base = type(rig.provider)(hosted.kit(folder, {})), hosted_fireworks.MODEL
    serve = switch(rig.sandbox.serverless, base)
    return Host(rig.provider, rig.sandbox, rig.server, base, trained(rig), bare, serve, "models")


def together(folder):
    rig = hosted_together.rig(folder)
    bare, base = type(rig.provider)(hosted.kit(folder, {})), hosted_together.MODEL
    serve = switch(rig.sandbox.endpoints.serverless, base)
    return Host(rig.provider, rig.sandbox, rig.server, base, [], bare, serve, "serverless")


def switch(served, base):
    """What puts the base among those that are served to all, and takes it away."""
    return lambda on: served.add(base) if on else served.discard(base)


def bedrock(folder):
    rig = hosted_bedrock.rig(folder)
    bare = type(rig.provider)(hosted.kit(folder, {}))
    return Host(rig.provider, rig.sandbox, rig.server, hosted_bedrock.MODEL, trained(rig), bare)


def started(request, tmp_path):
    made = request.param(tmp_path)
    yield made
    made.server.stop()
    assert made.server.broken == []


@pytest.fixture(params=[azure, bedrock, fireworks], ids=lambda make: make.__name__)
def host(request, tmp_path):
    yield from started(request, tmp_path)


@pytest.fixture(params=[azure, fireworks, together], ids=lambda make: make.__name__)
def asked(request, tmp_path):
    """One whose API tells where bases answer."""
    yield from started(request, tmp_path)


def test_what_it_costs_is_told_without_a_request(host):
    assert isinstance(host.provider, Deployable)
    before = host.server.requests
    for provider in (host.provider, host.bare):
        for base in (host.base, "never-heard-of", ""):
            told = provider.hosting(base)
            assert isinstance(told, Hosting)
            assert told.kind
            assert told.source
            assert told.fix or told.usd_per_hour is not None, "nobody is left without a way"
    known = host.provider.hosting(host.base).usd_per_hour
    assert known is not None
    assert known >= 0
    assert host.server.requests == before


def test_what_is_missing_is_named_before_anything_is_sent(host):
    before = host.server.requests
    assert host.provider.undeployable() == []
    missing = host.bare.undeployable()
    assert missing
    assert all(problem.code == "E412" and problem.what and problem.why and problem.fix for problem in missing)
    with pytest.raises(ProviderError):
        host.bare.deploy(NAME, host.artifacts[0])
    assert host.server.requests == before


def test_it_is_under_way_and_then_there_and_is_made_once(host):
    assert host.provider.deployed() == []
    assert host.provider.deploy(NAME, host.artifacts[0]) is None
    assert host.costing() == 1, "from the first call on it costs"
    assert host.names() == [NAME], "and is seen, whatever becomes of it"
    at = host.deployed()
    assert at.kind
    assert at.model
    assert host.deployed() == at == host.provider.hosted_at(NAME)
    assert (host.costing(), host.ever()) == (1, 1)
    assert all(one.state for one in host.provider.deployed())


def test_each_version_has_its_own(host):
    first, second = host.deployed(), host.deployed(OTHER, host.artifacts[1])
    assert first.model != second.model
    assert host.names() == sorted([NAME, OTHER])
    host.provider.undeploy(NAME)
    assert host.names() == [OTHER]
    assert host.costing() == 1
    assert host.provider.hosted_at(OTHER) == second


def test_a_name_never_answers_with_another_model(host):
    at = host.deployed()
    with pytest.raises(ProviderError) as refused:
        host.provider.deploy(NAME, host.artifacts[1])
    assert not isinstance(refused.value, ProviderUnavailable), "no waiting mends it"
    assert refused.value.problems[0].code == "E407"
    assert host.provider.hosted_at(NAME) == at
    assert (host.costing(), host.ever()) == (1, 1)


def test_undone_it_costs_nothing_and_can_be_had_again(host):
    host.provider.undeploy(NAME)
    host.deployed()
    for _ in range(2):
        host.provider.undeploy(NAME)
    assert host.costing() == 0
    assert host.names() == []
    host.deployed()
    assert host.names() == [NAME]


@pytest.mark.parametrize("name", ["a" * 80 + "-v3-0a1b2c3d4e5f", "my_Bot.x-v3-0a1b2c3d4e5f", "b-v1-0a1b2c3d4e5f"])
def test_any_name_is_told_and_undone_whole(host, name):
    host.deployed(name)
    assert host.names() == [name]
    host.provider.undeploy(name)
    assert host.costing() == 0


@pytest.mark.parametrize("kind", ["cut_after", "garbage"])
def test_an_answer_that_is_lost_makes_no_second_one(host, kind):
    host.sandbox.faults.lay(Fault(kind=kind, on="deploy"))
    with pytest.raises(ProviderUnavailable):
        host.provider.deploy(NAME, host.artifacts[0])
    host.deployed()
    assert (host.costing(), host.ever()) == (1, 1)


@pytest.mark.parametrize("kind", ["server_error", "unavailable", "cut_before"])
@pytest.mark.parametrize("on", ["deploy", "undeploy", "deployments"])
def test_what_passes_is_left_to_the_next_look(host, kind, on):
    calls = {
        "deploy": lambda: host.provider.deploy(NAME, host.artifacts[0]),
        "undeploy": lambda: host.provider.undeploy(NAME),
        "deployments": host.provider.deployed,
    }
    if on != "deploy":
        host.deployed()
    before = host.costing()
    host.sandbox.faults.lay(Fault(kind=kind, on=on))
    with pytest.raises(ProviderUnavailable):
        calls[on]()
    assert host.costing() == before
    calls[on]()


# Where the base answers.


def chat(host, at):
    """What the base is asked, as an evaluation asks it."""
    body = {"model": at.model, "messages": [{"role": "user", "content": "Who are you?"}]}
    headers = {"Authorization": f"Bearer {host.server.environment[at.key_env]}"}
    return httpx.post(f"{at.api_base}/chat/completions", json=body, headers=headers, trust_env=False)


def test_a_base_that_is_served_is_named_as_it_answers(asked):
    asked.serve(True)
    base = asked.provider.base_at(asked.base)
    assert base.known
    assert base.why
    said = chat(asked, base.at).raise_for_status().json()["choices"][0]["message"]["content"]
    assert said == f"I am {asked.base}: Who are you?"


def test_a_base_that_nothing_answers_as_is_nowhere_and_there_is_a_way_out(asked):
    asked.serve(True)
    was = asked.provider.base_at(asked.base).at
    asked.serve(False)
    assert chat(asked, was).is_client_error
    for name in (asked.base, "never-heard-of"):
        base = asked.provider.base_at(name)
        assert (base.at, base.known) == (None, True)
        assert base.why
        assert base.fix


def test_to_ask_where_the_base_answers_deploys_nothing(asked):
    for on in (True, False):
        asked.serve(on)
        before = asked.server.requests
        asked.provider.base_at(asked.base)
        assert 1 <= asked.server.requests - before <= 2
    assert asked.provider.deployed() == []


@pytest.mark.parametrize("kind", ["server_error", "unavailable", "cut_before"])
def test_that_it_cannot_be_asked_now_is_not_taken_for_nowhere(asked, kind):
    asked.sandbox.faults.lay(Fault(kind=kind, on=asked.asks))
    with pytest.raises(ProviderUnavailable):
        asked.provider.base_at(asked.base)
    asked.serve(True)
    assert asked.provider.base_at(asked.base).at is not None


def test_without_a_key_nobody_is_asked_where_the_base_answers(asked):
    before = asked.server.requests
    with pytest.raises(ProviderError) as refused:
        asked.bare.base_at(asked.base)
    assert refused.value.problems[0].code == "E412"
    assert asked.server.requests == before


def test_where_no_api_tells_the_first_question_will(tmp_path):
    made = bedrock(tmp_path)
    base = made.provider.base_at(made.base)
    made.server.stop()
    assert not base.known
    assert base.at.model == "converse/amazon.nova-micro-v1:0"
