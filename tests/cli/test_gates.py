"""A gate that cannot be measured is refused before anything is trained."""

from dataclasses import replace

import pytest

from finetune.cli import exits
from finetune.versions import Traffic
from tests.cli.desk import Desk

GATED = ("--set", "validation.split=0.5", "--set", "gate.metric=exact_match")
OTHER = "Qwen/Qwen3-0.6B"
HERE = {"path": "/adapters/one", "digest": "1"}


def holds(desk: Desk, base_model: str, **artifact: str) -> None:
    """`bot@v1` of that base has all calls of production."""
    job_id = desk.submit()
    with desk.world() as world:
        job = replace(world.jobs.get(job_id), base_model=base_model, artifact=artifact)
        model = world.models.add_model(job, world.clock.now())
        name, now = model.name, world.clock.now()
        world.models.shift(Traffic(name=name, alias="production", shares={1: 1.0}, reason="r", by="me", at=now))


@pytest.mark.parametrize("over", ["production", "v1", "bot@production"])
@pytest.mark.parametrize("provider", ["local", "auto"])
def test_two_bases_with_weights_here_are_refused_at_planning(desk: Desk, over: str, provider: str) -> None:
    holds(desk, OTHER, **HERE)
    asked = (*GATED, "--set", f"gate.over={over}", "--set", f"provider={provider}")
    for command in (("validate",), ("submit", "-y")):
        ran = desk.call(*command, "recipe.yaml", *asked)
        assert ran.code_and_fault == (exits.NOT_ELIGIBLE, "E856")
        assert "bot over bot@v1: two bases would have to be loaded" in ran.err
        assert f"base_model: {OTHER}" in ran.err
    assert len(desk.call("status", "--json").json) == 1


@pytest.mark.parametrize(
    ("base_model", "artifact", "over"),
    [
        ("builtin:tiny-llama", HERE, "production"),
        (OTHER, {"model": "ft:there"}, "production"),
        (OTHER, HERE, "base"),
        (OTHER, HERE, "staging"),
        (OTHER, HERE, "v9"),
    ],
    ids=["same base", "answers elsewhere", "its base", "an alias of nobody", "a version to come"],
)
def test_what_can_be_measured_is_planned(desk: Desk, base_model: str, artifact: dict[str, str], over: str) -> None:
    holds(desk, base_model, **artifact)
    ran = desk.call("validate", "recipe.yaml", *GATED, "--set", f"gate.over={over}")
    assert (ran.code, ran.codes) == (0, [])


def test_a_hosted_one_is_measured_over_weights_here(desk: Desk) -> None:
    holds(desk, OTHER, **HERE)
    hosted = ("--set", "provider=openai", "--set", "base_model=gpt-4o-mini-2024-07-18")
    assert "E856" not in desk.call("validate", "recipe.yaml", *GATED, "--set", "gate.over=production", *hosted).err
