"""A recipe for another target: what carries over, what is left out, and that each change is told with its reason."""

from itertools import count

import pytest

from finetune.catalogue import load
from finetune.catalogue.weights import stand_in
from finetune.errors import DataError
from finetune.plan import ignored
from finetune.providers.local import LocalProvider
from finetune.retarget import must_have_rows, overridden, retargeted
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


def test_what_a_user_changes_beside_is_told_as_it_will_be(job):
    made = here(job())
    recipe = Recipe.model_validate({**made.recipe, "base_model": "me/mine", "seed": 8})
    changes = told(overridden(made, recipe))
    assert changes["base_model"] == ("gpt-4.1-mini-2025-04-14", "me/mine", "you say so")
    assert changes["seed"] == (7, 8, "you say so")
    others = {field: change for field, change in told(made).items() if field != "base_model"}
    assert {field: changes[field] for field in others} == others
    assert told(overridden(made, Recipe.model_validate(made.recipe))) == told(made)


def test_alias_and_gateways_can_be_others(job):
    made = here(job(), alias="staging", gateways=["embedded", "litellm"])
    assert made.recipe["register"] == {"alias": "staging", "gateways": ["embedded", "litellm"]}
    assert told(made)["register.gateways"][:2] == (["litellm"], ["embedded", "litellm"])
    plain = {key: value for key, value in OPENAI.items() if key not in ("register", "gate")}
    made = here(job({**plain, "name": "b"}), alias="production", gateways=["embedded"])
    assert made.recipe["register"] == {"alias": "production", "gateways": ["embedded"]}


def test_rows_that_it_was_trained_on_measure_nothing(job):
    made = here(job(data={**WRITTEN, "validation": WRITTEN["train"]}))
    assert "validation" not in made.recipe
    assert told(made)["validation.path"] == ("/d/train.jsonl", None, "it was trained on these very rows")


def test_held_out_rows_that_an_import_lacks_are_told(job):
    plain = {key: value for key, value in OPENAI.items() if key != "validation"}
    made = here(job(plain, {**WRITTEN, "validation": None, "files": {"train": "file-1", "validation": "file-v"}}))
    assert "validation" not in made.recipe
    before, after, why = told(made)["validation.path"]
    assert (before, after) == ("file-v", None)
    assert "ft import openai --files" in why


def test_the_beta_of_a_preference_training_goes_along_where_it_is_honoured(job):
    one = job({**OPENAI, "method": "dpo", "dpo": {"beta": 0.3}})
    assert here(one).recipe["dpo"] == {"beta": 0.3}
    made = retargeted(one, "together", "Qwen/Qwen3-0.6B", honours=frozenset({"base_model", "method"}))
    assert "dpo" not in made.recipe
    assert told(made)["dpo.beta"] == (0.3, None, "together does nothing about it")


def lost(job, **data):
    recipe = Recipe.model_validate(here(one := job(data={**WRITTEN, **data})).recipe)
    with pytest.raises(DataError) as fault:
        must_have_rows(one, "bot@v1", recipe)
    assert {each.code for each in fault.value.problems} == {"E201"}
    return fault.value.problems


def test_rows_that_are_gone_are_told_with_the_place_where_they_were(job, tmp_path):
    train, held_out = lost(job)
    assert train.what == "the rows that bot@v1 was trained on are gone"
    assert train.why == "they were in /d/train.jsonl, written there from chats.jsonl, and were removed"
    assert "--set dataset.path=FILE" in train.fix
    assert held_out.what == "the rows that bot@v1 was measured by are gone"
    assert "--set validation.path=FILE" in held_out.fix


def test_rows_of_an_import_that_are_gone_can_be_imported(job, tmp_path):
    (tmp_path / "v.jsonl").touch()
    held_out = str(tmp_path / "v.jsonl")
    files = {"train": "file-1", "validation": "file-v"}
    (train,) = lost(job, validation=held_out, files=files, train_rows=0)
    assert train.why == "openai calls them file-1; the import got no such file"
    assert "`ft import openai` asks for them again" in train.fix
    assert "--files FOLDER" in train.fix
    assert "--set dataset.path=FILE" in train.fix
    (train,) = lost(job, validation=held_out, files=files, train_rows=3)
    assert train.why == "openai calls them file-1; they were in /d/train.jsonl, and were removed"


def test_other_rows_than_the_lost_ones_are_nobodys_loss(job):
    one = job()
    made = here(one).recipe
    must_have_rows(
        one, "bot@v1", Recipe.model_validate({**made, "dataset": {"path": "mine.jsonl"}, "validation": None})
    )


OWN = """\
version: 1
provider: acme
title: Acme
sources:
  page: {url: "https://acme.example", title: Models, read: 2026-11-24}
stands_in:
  - {value: large-2026, source: page}
  - {value: acme/large, source: page}
  - {value: acme/small, source: page}
models:
  - {name: large-2026, aliases: [large], open_weights: {value: acme/large, source: page}}
  - {name: small-2026, open_weights: {value: acme/small, source: page}}
  - {name: closed-2026, aliases: [closed], stands_in: [{value: closed-2026, source: page}]}
"""


@pytest.mark.parametrize(
    ("model", "target", "found"),
    [
        ("large-2026", "acme", "small-2026"),
        ("large", "acme", "small-2026"),
        ("acme/large", "acme", None),
        ("large", "local", "acme/small"),
        ("small-2026", "acme", "large-2026"),
        ("closed", "acme", "large-2026"),
    ],
)
def test_nothing_stands_in_for_itself(tmp_path, model, target, found):
    own = tmp_path / "acme.yaml"
    own.write_text(OWN)
    assert stand_in(load(own=own), target, model) == found


def test_who_stands_in_for_whom():
    catalogue = load()
    assert stand_in(catalogue, "local", "gpt-4.1-mini-2025-04-14") == "openai/gpt-oss-20b"
    assert stand_in(catalogue, "together", "gpt-4.1-mini-2025-04-14") == "openai/gpt-oss-20b"
    assert stand_in(catalogue, "vertex", "gpt-4.1-mini-2025-04-14") is None
    assert stand_in(catalogue, "local", "nobody/knows") is None
