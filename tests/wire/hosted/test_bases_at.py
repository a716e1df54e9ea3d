"""Where a base answers untuned, by each provider's own words: what is asked, and what its answers mean."""

import httpx
import pytest

from finetune.errors import AuthenticationFailed, ProviderError, ProviderUnavailable
from finetune.providers.azure import AzureProvider
from finetune.providers.fireworks import FireworksProvider
from finetune.providers.together import TogetherProvider
from finetune.sandbox.azure import AzureSandbox
from finetune.sandbox.azure_deployments import Deployed as AtAzure
from finetune.sandbox.fireworks.deployments import CreateDeployment
from finetune.sandbox.fireworks.deployments import Deployed as AtFireworks
from finetune.sandbox.service import Reply
from tests.support import hosted
from tests.wire.hosted import fireworks_contract, together_contract
from tests.wire.hosted.test_together import answered


class World:
    """One stand-in, held to its contract where one is published."""

    def __init__(self, folder, sandbox, provider):
        self.folder, self.sandbox, self._provider = folder, sandbox, provider
        self.server = hosted.served(sandbox)

    def base_at(self, name, **environ):
        environ = {**self.server.environment, **environ}
        return self._provider(hosted.kit(self.folder, environ)).base_at(name)

    def close(self):
        self.server.stop()
        assert self.server.broken == []
        assert getattr(self.sandbox, "violations", []) == []


@pytest.fixture
def together(tmp_path):
    world = World(tmp_path, together_contract.Watched(), TogetherProvider)
    yield world
    world.close()


@pytest.fixture
def fireworks(tmp_path):
    world = World(tmp_path, fireworks_contract.Watched(), FireworksProvider)
    yield world
    world.close()


@pytest.fixture
def azure(tmp_path):
    world = World(tmp_path, AzureSandbox(), AzureProvider)
    yield world
    world.close()


# Together.

AT_TOGETHER = "Qwen/Qwen3.5-4B"


def test_together_is_asked_for_what_is_served_to_all_and_that_at_the_apis_own_address(together):
    base = together.base_at(AT_TOGETHER)
    (sent,) = together.sandbox.asked("serverless")
    assert sent.query == {"type": ["serverless"]}
    at = base.at
    assert (at.kind, at.model, at.api_base) == ("openai", AT_TOGETHER, f"{together.server.url}/v1")
    assert at.key_env == "TOGETHER_API_KEY"
    assert together.base_at(AT_TOGETHER.upper()).at is not None, "names there are no matter of case"


@pytest.mark.parametrize("more", [{"state": "STOPPED"}, {"type": "dedicated"}], ids=lambda more: next(iter(more)))
def test_what_does_not_run_or_is_somebodys_own_is_not_served_to_all(together, more):
    told = {"object": "endpoint", "type": "serverless", "owner": "together", "state": "STARTED"}
    told |= {"created_at": "2026-11-29T00:00:00Z"}
    rows = [{**told, "id": "e", "name": name, "model": name} for name in (AT_TOGETHER, "other")]
    rows[0] |= more
    answered(together, "serverless", Reply(body={"object": "list", "data": rows}))
    base = together.base_at(AT_TOGETHER)
    assert (base.at, base.known) == (None, True)
    assert "TOGETHER_INFERENCE_URL" in base.fix


@pytest.mark.parametrize("status", [400, 403, 404, 410])
def test_where_together_has_no_such_list_any_more_the_first_question_tells(together, status):
    """The list is older than deployments are, and its other operations are gone."""
    answered(together, "serverless", Reply(status=status, body={"error": {"message": "gone", "type": "x"}}))
    base = together.base_at(AT_TOGETHER)
    assert not base.known
    assert base.at.model == AT_TOGETHER


def test_an_empty_list_tells_nothing(together):
    together.sandbox.endpoints.serverless.clear()
    assert not together.base_at(AT_TOGETHER).known


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (Reply(status=401, body={"error": {"message": "Invalid API key", "type": "x"}}), AuthenticationFailed),
        (Reply(status=503, body={"error": {"message": "busy", "type": "x"}}), ProviderUnavailable),
        (Reply(body={"data": "none"}), ProviderError),
        (Reply(body={}), ProviderError),
    ],
)
def test_a_list_that_is_none_is_told(together, reply, error):
    answered(together, "serverless", reply)
    with pytest.raises(error):
        together.base_at(AT_TOGETHER)


def test_at_an_address_of_the_users_own_nobody_tells_what_answers(together):
    base = together.base_at(AT_TOGETHER, TOGETHER_INFERENCE_URL="https://proxy.example/v1/")
    assert (base.at.api_base, base.known) == ("https://proxy.example/v1", False)
    assert together.server.requests == 0


# Fireworks.

AT_FIREWORKS = "accounts/fireworks/models/qwen3-8b"
OWN = "accounts/sandbox/deployments/mine"


def deployed(world, model=AT_FIREWORKS, **more):
    """A deployment that somebody has made."""
    made = {"name": OWN, "asked": CreateDeployment(baseModel=model), "gpu": "NVIDIA_H100_80GB", "gpus": 1, "since": 0.0}
    world.sandbox.deployments.book.append(AtFireworks(**{**made, **more}))


def test_fireworks_is_asked_for_what_is_served_to_all_by_whole_names(fireworks):
    base = fireworks.base_at("qwen3-8b")
    (sent,) = fireworks.sandbox.asked("models")
    assert (sent.path, sent.query["filter"]) == ("/v1/accounts/fireworks/models", ["supports_serverless=true"])
    assert (base.at.model, base.at.api_base) == (AT_FIREWORKS, f"{fireworks.server.url}/inference/v1")
    assert base.at.key_env == "FIREWORKS_API_KEY"


def test_a_base_that_somebody_has_deployed_answers_there(fireworks):
    fireworks.sandbox.serverless.discard(AT_FIREWORKS)
    deployed(fireworks)
    base = fireworks.base_at(AT_FIREWORKS)
    assert (base.at.model, base.known) == (f"{AT_FIREWORKS}#{OWN}", True)
    body = {"model": base.at.model, "messages": [{"role": "user", "content": "hi"}]}
    headers = {"Authorization": "Bearer sandbox-key"}
    answer = httpx.post(f"{base.at.api_base}/chat/completions", json=body, headers=headers, trust_env=False)
    assert answer.raise_for_status().json()["choices"][0]["message"]["content"] == f"I am {AT_FIREWORKS}: hi"


@pytest.mark.parametrize(
    "more",
    [{"looks": 3}, {"loading": 3}, {"until": 1.0}, {"fails": True}, {"model": "accounts/sandbox/models/tuned"}],
    ids=["being made", "no replica", "gone", "failed", "a tuned one"],
)
def test_what_does_not_answer_as_the_base_is_not_asked(fireworks, more):
    fireworks.sandbox.serverless.discard(AT_FIREWORKS)
    deployed(fireworks, **more)
    base = fireworks.base_at(AT_FIREWORKS)
    assert (base.at, base.known) == (None, True)
    assert f"firectl deployment create {AT_FIREWORKS}" in base.fix


def test_a_base_of_the_account_itself_is_served_to_nobody_else(fireworks):
    assert fireworks.base_at("accounts/sandbox/models/own").at is None
    assert fireworks.sandbox.asked("models") == []


def test_a_list_that_was_not_filtered_is_read_all_the_same(fireworks):
    fireworks.sandbox.serverless.discard(AT_FIREWORKS)
    rows = [{"name": AT_FIREWORKS, "supportsServerless": False}, {"name": "accounts/fireworks/models/x"}]
    answered(fireworks, "models", Reply(body={"models": rows}))
    assert fireworks.base_at(AT_FIREWORKS).at is None
    assert fireworks.base_at("x").known


@pytest.mark.parametrize(
    "reply",
    [Reply(status=400, body={"code": 3, "message": "unknown filter"}), Reply(body={"models": []}), Reply(body={})],
)
def test_where_fireworks_does_not_say_the_first_question_tells(fireworks, reply):
    answered(fireworks, "models", reply)
    base = fireworks.base_at(AT_FIREWORKS)
    assert (base.at.model, base.known) == (AT_FIREWORKS, False)


@pytest.mark.parametrize(("status", "error"), [(403, AuthenticationFailed), (500, ProviderUnavailable)])
def test_what_stands_against_the_list_is_told(fireworks, status, error):
    answered(fireworks, "models", Reply(status=status, body={"code": 7, "message": "no"}))
    with pytest.raises(error):
        fireworks.base_at(AT_FIREWORKS)


# Azure.

MINI = {"name": "gpt-4.1-mini", "version": "2025-04-14", "format": "OpenAI"}


def placed(world, name="plain", model=None, **more):
    body = {"properties": {"model": model or MINI}, "sku": {"name": "Standard", "capacity": 50}}
    world.sandbox.deployments.book.append(AtAzure(name=name, model=name, body=body, since=0.0, **more))


@pytest.mark.parametrize("written", ["gpt-4.1-mini", "gpt-4.1-mini-2025-04-14"])
def test_a_base_answers_at_azure_as_the_deployment_that_has_it(azure, written):
    placed(azure, "gpt-4o", {**MINI, "name": "gpt-4o"})
    placed(azure)
    base = azure.base_at(written)
    assert (base.at.model, base.at.api_base) == ("plain", f"{azure.server.url}/openai/v1")
    assert base.known
    assert "plain" in base.why
    placed(azure, written)
    assert azure.base_at(written).at.model == written, "the one that has its name comes first"


@pytest.mark.parametrize(
    "more",
    [
        {"looks": 2},
        {"until": 1.0},
        {"model": {**MINI, "version": "2026-01-01", "name": "gpt-4.1"}},
        {"model": {**MINI, "version": "1", "name": "gpt-4.1-mini-2025-04-14.ft-1"}},
    ],
    ids=["being made", "gone", "another", "a tuned one"],
)
def test_what_is_not_there_or_is_another_model_is_not_the_base(azure, more):
    placed(azure, "gpt-4.1-mini-2025-04-14", **more)
    base = azure.base_at("gpt-4.1-mini-2025-04-14")
    assert (base.at, base.known) == (None, True)
    assert "deploy gpt-4.1-mini-2025-04-14" in base.fix


def test_where_the_resource_manager_cannot_be_asked_the_bases_name_is_as_good(azure):
    base = azure.base_at("gpt-4.1-mini", AZURE_SUBSCRIPTION_ID="")
    assert (base.at.model, base.known) == ("gpt-4.1-mini", False)
    assert azure.server.requests == 0
