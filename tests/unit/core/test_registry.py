"""Names of models: a version, an alias, a bare name; never another model in its place."""

import pytest

from finetune.errors import NotFound, UsageError
from finetune.registry import Registry
from finetune.testing import ManualClock
from tests.support.jobs import World, sqlite


@pytest.fixture
def registry(tmp_path):
    world = World(sqlite(tmp_path))
    for number in range(3):
        job = world.submit(f"ft_{number}", artifact={"path": f"/adapters/{number}", "digest": str(number)})
        world.models.add_model(job, world.clock.now())
    hosted = world.submit("ft_h", name="other", base_model="gpt-x", artifact={"model": "ft:gpt-x:abc"})
    world.models.add_model(hosted, world.clock.now())
    yield Registry(world.models, ManualClock())
    world.database.close()


def test_a_version_and_an_alias(registry):
    assert registry.version("bot@v2").job_id == "ft_1"
    registry.promote("bot@v2", "production")
    for name in ("bot@production", "bot"):
        assert registry.version(name).ref == "bot@v2"


@pytest.mark.parametrize("name", ["bot", "bot@v4", "bot@staging", "nobody", "nobody@v1", "bot@", "", "bot@v02", "@v1"])
def test_what_is_not_there_is_not_found(registry, name):
    with pytest.raises(NotFound) as caught:
        registry.version(name)
    assert caught.value.exit_code == 5
    assert caught.value.problems[0].fix


def test_a_bare_name_without_production_says_what_to_do(registry):
    with pytest.raises(NotFound, match="ft promote bot@v3 --to production"):
        registry.version("bot")


def test_promote_tells_where_the_alias_was(registry):
    assert registry.promote("bot@v1", "production")[1] is None
    model, before = registry.promote("bot@v3", "production")
    assert (model.aliases, before) == (("production",), 1)
    assert registry.version("bot@v1").aliases == ()


def test_an_alias_can_be_promoted_to_another(registry):
    registry.promote("bot@v2", "staging")
    assert registry.promote("bot@staging", "production")[0].ref == "bot@v2"


@pytest.mark.parametrize("alias", ["v1", "v99", "Production", "", "a b", "-x", "x" * 65, "a@b"])
def test_what_cannot_be_an_alias(registry, alias):
    with pytest.raises(UsageError):
        registry.promote("bot@v1", alias)


def test_served_are_the_local_ones_and_their_bases(registry):
    registry.promote("bot@v2", "production")
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
    registry = Registry(world.models, world.clock)
    assert registry.resolve("gpt2").adapter is None
    registry.promote("gpt2@v1", "production")
    with pytest.raises(NotFound, match="E705"):
        registry.resolve("gpt2")
    assert registry.resolve("gpt2@v1").adapter is not None
    world.database.close()
