"""A recipe for another target: what carries over, what is left out, and that each change is told with its reason."""

from itertools import count

import pytest

from finetune.catalogue import load
from finetune.catalogue.weights import stand_in
from finetune.plan import ignored
from finetune.providers.local import LocalProvider
from finetune.retarget import retargeted
from finetune.spec import Recipe
from tests.support.jobs import World, sqlite

OPENAI = {
    "version": 1,
    "name": "bot",
    "base_model": "gpt-4.1-mini-2025-04-14",
    "provider": "openai",
    "dataset": {"path": "chats.jsonl"},
    "validation": {"split": 0.1},
    "seed": 7,
    "training": {"epochs": 4, "batch_size": 8, "learning_rate_multiplier": 2.0},
    "limits": {"max_cost": "25 USD"},
    "gate": {"metric": "exact_match", "min_gain": 0.05, "guards": ["/s/manners.yaml"]},
    "register": {"alias": "production", "gateways": ["litellm"], "max_hosting": "3 USD"},
    "provider_options": {"suffix": "v1"},
    "allow_ignored": ["lora.r", "provider_options"],
}
WRITTEN = {"train": "/d/train.jsonl", "validation": "/d/validation.jsonl", "format": "openai", "digest": "d"}


@pytest.fixture
def job(tmp_path):
    world = World(sqlite(tmp_path))
    ids = (f"ft_{number}" for number in count(1))

    def submit(recipe=OPENAI, data=WRITTEN):
        job_id = next(ids)
        return world.submit(job_id, recipe=recipe, data=data, provider=recipe["provider"], fingerprint=job_id)

    yield submit
    world.database.close()


def here(job, **more):
    return retargeted(job, "local", "openai/gpt-oss-20b", honours=LocalProvider.honours, **more)


def told(made):
    return {each.field: (each.before, each.after, each.why) for each in made.changes}


def test_own_machines_take_all_of_it_that_is_left(job):
    made = here(job())
    recipe = Recipe.model_validate(made.recipe)

    class Local:
        honours = LocalProvider.honours

    assert ignored(recipe, Local()) == {}
    assert (recipe.provider, recipe.base_model) == ("local", "openai/gpt-oss-20b")
    assert (recipe.training.epochs, recipe.training.batch_size, recipe.seed) == (4, 8, 7)


def test_the_gate_and_the_rows_are_the_very_same(job):
    made = here(job())
    assert made.recipe["gate"] == OPENAI["gate"]
    assert made.recipe["dataset"] == {"path": "/d/train.jsonl", "format": "openai"}
    assert made.recipe["validation"] == {"path": "/d/validation.jsonl"}
    without = here(job({**OPENAI, "name": "b"}, {**WRITTEN, "validation": None, "format": "local"}))
    assert without.recipe["dataset"]["format"] == "auto"


def test_every_change_is_told_with_its_reason(job):
    changes = told(here(job()))
    assert changes["training.learning_rate_multiplier"] == (
        2.0,
        None,
        "a factor on one target's own rate says nothing of another's",
    )
    assert changes["provider"] == ("openai", "local", "the new target")
    assert changes["register.max_hosting"][:2] == ("3 USD", None)
    assert changes["provider_options"][:2] == ({"suffix": "v1"}, None)
    assert changes["allow_ignored"][:2] == (["lora.r", "provider_options"], ["lora.r"])
    assert changes["dataset.path"][:2] == ("chats.jsonl", "/d/train.jsonl")
    assert changes["validation.split"][:2] == (0.1, None)
    assert all(why for _, _, why in changes.values())
    same = {"name", "seed", "training.epochs", "gate.metric", "register.alias", "limits.max_cost"}
    assert not same & changes.keys()


def test_what_the_new_target_does_nothing_about_is_left_out(job):
    local = {**OPENAI, "provider": "local", "base_model": "Qwen/Qwen3-0.6B", "lora": {"r": 8}, "resources": {"gpus": 1}}
    local["training"] = {"learning_rate": 2e-4, "warmup_ratio": 0.1, "epochs": 1}
    honours = frozenset({"base_model", "method", "limits", "training.epochs", "training.learning_rate", "lora.r"})
    made = retargeted(job(local), "together", "Qwen/Qwen3-0.6B", honours=honours)
    assert made.recipe["training"] == {"learning_rate": 2e-4, "epochs": 1}
    assert made.recipe["lora"] == {"r": 8}
    assert "resources" not in made.recipe
    assert told(made)["training.warmup_ratio"] == (0.1, None, "together does nothing about it")


def test_a_factor_on_the_old_rate_goes_nowhere(job):
    """Azure would honour it."""
    honours = LocalProvider.honours | {"training.learning_rate_multiplier", "provider_options"}
    made = retargeted(job(), "azure", "gpt-4.1-mini", honours=honours)
    assert "learning_rate_multiplier" not in made.recipe["training"]
    assert "provider_options" not in made.recipe


def test_alias_and_gateways_can_be_others(job):
    made = here(job(), alias="staging", gateways=["embedded", "litellm"])
    assert made.recipe["register"] == {"alias": "staging", "gateways": ["embedded", "litellm"]}
    assert told(made)["register.gateways"][:2] == (["litellm"], ["embedded", "litellm"])
    plain = {key: value for key, value in OPENAI.items() if key not in ("register", "gate")}
    made = here(job({**plain, "name": "b"}), alias="production", gateways=["embedded"])
    assert made.recipe["register"] == {"alias": "production", "gateways": ["embedded"]}


def test_who_stands_in_for_whom():
    catalogue = load()
    assert stand_in(catalogue, "local", "gpt-4.1-mini-2025-04-14") == "openai/gpt-oss-20b"
    assert stand_in(catalogue, "together", "gpt-4.1-mini-2025-04-14") == "openai/gpt-oss-20b"
    assert stand_in(catalogue, "vertex", "gpt-4.1-mini-2025-04-14") is None
    assert stand_in(catalogue, "local", "nobody/knows") is None
