"""Names of models: a version, an alias, a bare name; never another model in its place."""

import pytest

from finetune.errors import NotFound
from finetune.registry import Registry
from finetune.versions import Traffic
from tests.support.jobs import World, sqlite


@pytest.fixture
def world(tmp_path):
    world = World(sqlite(tmp_path))
    for number in range(3):
        job = world.submit(f"ft_{number}", artifact={"path": f"/adapters/{number}", "digest": str(number)})
        world.models.add_model(job, world.clock.now())
    hosted = world.submit("ft_h", name="other", base_model="gpt-x", artifact={"model": "ft:gpt-x:abc"})
    world.models.add_model(hosted, world.clock.now())
    world.drawn = 0.0
    world.registry = Registry(world.models, chance=lambda: world.drawn)
    yield world
    world.database.close()


@pytest.fixture
def registry(world):
    return world.registry


def point(world, alias="production", name="bot", **shares):
    by_version = {int(version[1:]): share for version, share in shares.items()}
    moved = Traffic(name=name, alias=alias, shares=by_version, reason="r", by="me", at=world.clock.now())
    return world.models.shift(moved)


def test_a_version_and_an_alias(world):
    assert world.registry.version("bot@v2").job_id == "ft_1"
    point(world, v2=1.0)
    for name in ("bot@production", "bot"):
        assert world.registry.version(name).ref == "bot@v2"
    assert world.registry.version("bot@v1").aliases == ()


@pytest.mark.parametrize("name", ["bot", "bot@v4", "bot@staging", "nobody", "nobody@v1", "bot@", "", "bot@v02", "@v1"])
def test_what_is_not_there_is_not_found(registry, name):
    with pytest.raises(NotFound) as caught:
        registry.version(name)
    assert caught.value.exit_code == 5
    assert caught.value.problems[0].fix


def test_a_bare_name_without_production_says_what_to_do(registry):
    with pytest.raises(NotFound, match="ft promote bot@v3 --to production"):
        registry.version("bot")


def test_the_calls_of_an_alias_are_drawn_by_their_shares(world):
    """An answer carries the version's own name, and a version is never drawn for its own name's sake."""
    point(world, v2=0.9, v3=0.1)
    drawn = []
    for number in range(100):
        world.drawn = number / 100
        drawn.append(world.registry.resolve("bot").id)
        assert world.registry.resolve("bot@v1").id == "bot@v1"
    assert {name: drawn.count(name) for name in drawn} == {"bot@v2": 90, "bot@v3": 10}
    assert world.registry.version("bot").ref == "bot@v2", "the one with most calls stands for the alias"
    world.drawn = 1.0 - 1e-12
    assert world.registry.resolve("bot@production").id == "bot@v3"


def test_an_alias_that_lost_its_calls_answers_nobody(world):
    point(world, v2=1.0)
    point(world)
    with pytest.raises(NotFound):
        world.registry.resolve("bot")


def test_served_are_the_local_ones_and_their_bases(world, registry):
    point(world, v2=1.0)
    served = {model.id: model for model in registry.served()}
    assert sorted(served) == ["bot@v1", "bot@v2", "bot@v3", "builtin:tiny-llama"]
    assert served["bot@v2"].aliases == ("bot@production", "bot")
    assert served["builtin:tiny-llama"].adapter is None
    assert registry.resolve("bot").id == "bot@v2"
    assert registry.resolve("builtin:tiny-llama").adapter is None
    for name in ("bot@v9", "gpt-x", "other@v1", "BOT@v1"):
        with pytest.raises(NotFound):
            registry.resolve(name)


def test_a_base_model_of_the_same_name_does_not_answer_for_a_tuned_one(tmp_path):
    world = World(sqlite(tmp_path))
    world.models.add_model(world.submit(name="gpt2", base_model="gpt2", artifact={"path": "/a"}), world.clock.now())
    registry = Registry(world.models)
    assert registry.resolve("gpt2").adapter is None
    point(world, name="gpt2", v1=1.0)
    with pytest.raises(NotFound, match="E705"):
        registry.resolve("gpt2")
    assert registry.resolve("gpt2@v1").adapter is not None
    world.database.close()
