"""Where the base of a hosted version is asked, what is said when it is nowhere, and when that is said."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from finetune.errors import EvaluationError, GatewayError
from finetune.sandbox.together.sandbox import TogetherSandbox
from finetune.settings import from_environment
from finetune.spec import RecipeFile
from finetune.wiring import Releases
from tests.support import hosted
from tests.unit.promotion.test_described import version

BASE = "Qwen/Qwen3.5-4B"
REGISTER = {"gateways": ["litellm"], "max_hosting": "8 USD"}


@pytest.fixture
def world(tmp_path, monkeypatch):
    """Parts, with Together's stand-in behind them."""
    sandbox = TogetherSandbox()
    server = hosted.served(sandbox)
    for name, value in {**server.environment, "OPENAI_API_KEY": "sk-test", "AWS_REGION": "us-east-1"}.items():
        monkeypatch.setenv(name, value)
    parts = Releases(from_environment({"FT_HOME": str(tmp_path)}))
    yield SimpleNamespace(parts=parts, server=server, served=sandbox.endpoints.serverless, drop=monkeypatch.delenv)
    parts.close()
    server.stop()
    assert server.broken == []


def tuned(provider="together", base_model=BASE):
    return version(provider, {"model": "tuned"}, base_model=base_model)


def told(world, provider="together", register=REGISTER, **more):
    """What is said when a recipe is submitted."""
    recipe = hosted.recipe("auto", BASE, register=register, **more)
    plan = SimpleNamespace(provider=provider)
    return world.parts.untold(SimpleNamespace(file=RecipeFile(recipe=recipe, path=Path("r.yaml")), plan=plan))


@pytest.mark.parametrize("sure", [True, False])
def test_a_base_that_is_served_is_asked_at_its_provider(world, sure):
    asked = {"kind": "endpoint", "name": BASE, "base_url": f"{world.server.url}/v1", "model": BASE}
    assert world.parts._base(tuned(), sure) == {**asked, "key_env": "TOGETHER_API_KEY"}


def test_one_that_answers_nowhere_is_told_with_all_ways_out(world):
    world.served.discard(BASE)
    with pytest.raises(EvaluationError) as refused:
        world.parts._base(tuned(), False)
    (problem,) = refused.value.problems
    assert (problem.code, refused.value.retry) == ("E861", False)
    assert f"{BASE} answers nowhere at together" in problem.what
    for way in ("TOGETHER_INFERENCE_URL", "gate: {over: ALIAS}", "ft eval MODEL --at URL", "--no-gate"):
        assert way in problem.fix


def test_one_of_which_nobody_knows_is_asked_unless_it_has_to_be_sure(world):
    world.served.clear()
    assert world.parts._base(tuned(), False)["model"] == BASE
    with pytest.raises(EvaluationError, match="E861"):
        world.parts._base(tuned(), True)


def test_where_versions_answer_by_themselves_bases_do_too(world):
    told = world.parts._base(tuned("openai", "gpt-4o-mini"), False)
    assert (told["name"], told["model"], told["base_url"]) == (
        "gpt-4o-mini",
        "gpt-4o-mini",
        "https://api.openai.com/v1",
    )
    with pytest.raises(EvaluationError, match="E837"):
        world.parts._base(tuned("bedrock", "amazon.nova-micro-v1:0:128k"), False)
    assert world.server.requests == 0


def test_a_provider_that_is_away_is_asked_again_and_one_without_a_key_is_not(world):
    world.drop("TOGETHER_API_KEY")
    with pytest.raises(GatewayError, match="E412") as refused:
        world.parts._base(tuned(), False)
    assert not refused.value.retry
    world.parts.__dict__.pop("providers")
    world.server.stop()
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("TOGETHER_API_KEY", "sandbox-key")
        with pytest.raises(GatewayError) as away:
            world.parts._base(tuned(), False)
    assert away.value.retry


@pytest.mark.parametrize(
    ("more", "warned"),
    [
        ({}, True),
        ({"gate": {"metric": "contains"}}, True),
        ({"gate": {"metric": "contains", "over": "production"}}, True),
        ({"register": {}}, False),
        ({"register": None, "gate": {"metric": "contains"}}, False),
        ({"provider": "openai"}, False),
    ],
    ids=["for its proof", "for its gate", "over an alias that nobody has", "no gateway", "no register", "not deployed"],
)
def test_who_submits_a_recipe_hears_of_it_where_the_base_will_be_asked(world, more, warned):
    world.served.discard(BASE)
    said = told(world, **more)
    assert [(each.code, each.level, each.file) for each in said] == [("E861", "warning", "r.yaml")] * warned
    assert world.server.requests == warned
    world.served.add(BASE)
    assert told(world, **more) == []


def test_over_an_alias_that_has_a_version_no_base_is_asked(world):
    world.served.discard(BASE)
    world.parts.__dict__["registry"] = SimpleNamespace(version=lambda ref: {"bot@production": tuned()}[ref])
    assert told(world, gate={"metric": "contains", "over": "production"}) == []
    assert world.server.requests == 0


def test_who_submits_is_not_kept_from_it_by_a_provider_that_cannot_be_asked(world):
    world.served.discard(BASE)
    world.drop("TOGETHER_API_KEY")
    assert told(world) == []
