"""Jobs of an account taken into the registry: once, with their files, and ready to be trained elsewhere."""

import json

import pytest

from finetune.errors import ProviderError
from finetune.importing import Importer, exported
from finetune.providers.local import LocalProvider
from finetune.providers.openai_past import past
from finetune.retarget import retargeted
from finetune.spec import Recipe
from tests.support.jobs import World, sqlite

ROW = '{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}\n'


def job(number, **more):
    numbers = {"n_epochs": 3, "batch_size": "auto", "learning_rate_multiplier": 1.8}
    return {
        "id": f"ftjob-{number}",
        "object": "fine_tuning.job",
        "model": "gpt-4.1-mini-2025-04-14",
        "status": "succeeded",
        "fine_tuned_model": f"ft:gpt-4.1-mini-2025-04-14:acme:support-bot:{number}",
        "training_file": f"file-{number}",
        "validation_file": None,
        "created_at": 1_760_000_000 + number,
        "finished_at": 1_760_000_100 + number,
        "seed": 42,
        "trained_tokens": 1000,
        "method": {"type": "supervised", "supervised": {"hyperparameters": numbers}},
        **more,
    }


@pytest.fixture
def shop(tmp_path):
    world = World(sqlite(tmp_path / "home"))
    world.there = {"file-1": ROW * 12, "file-2": ROW * 3, "file-v": ROW * 2}
    world.asked = []

    def fetch(file_id, to):
        world.asked.append(file_id)
        if file_id in world.there:
            to.write_text(world.there[file_id])
        return file_id in world.there

    ids = (f"ft_i{number}" for number in range(99))
    importer = Importer(
        world.jobs, world.models, world.clock, folder=tmp_path / "files", owner="me", new_id=lambda: next(ids)
    )
    world.take = lambda rows, **how: importer.take("openai", past(rows, "ft_run_key"), how.get("fetch", fetch))
    world.files = tmp_path / "files"
    yield world
    world.database.close()


def test_versions_in_the_order_of_the_trainings(shop):
    found = shop.take([job(2, validation_file="file-v"), job(1)])
    assert [(each.remote_id, each.ref, each.rows) for each in found] == [
        ("ftjob-1", "support-bot@v1", 12),
        ("ftjob-2", "support-bot@v2", 3),
    ]
    first, second = shop.models.models("support-bot")
    assert first.artifact["model"] == "ft:gpt-4.1-mini-2025-04-14:acme:support-bot:1"
    kept = shop.jobs.get(second.job_id)
    assert (kept.state, kept.model, kept.remote_id, kept.due_at) == ("succeeded", second.ref, "ftjob-2", None)
    assert (kept.data["train_rows"], kept.data["validation_rows"]) == (3, 2)
    recipe = Recipe.model_validate(kept.recipe)
    assert (recipe.training.epochs, recipe.training.learning_rate_multiplier, recipe.seed) == (3, 1.8, 42)
    assert "batch_size" not in kept.recipe["training"], "the vendor's own choice stays nobody's"


def test_again_is_the_same_and_asks_for_no_file(shop):
    shop.take([job(1)])
    shop.asked.clear()
    (again,) = shop.take([job(1)])
    assert (again.known, again.ref, again.rows) == (True, "support-bot@v1", 12)
    assert shop.asked == []
    assert len(shop.models.models()) == 1


def test_a_file_that_is_gone_is_told_and_one_that_is_here_is_not_asked_for(shop):
    del shop.there["file-2"]
    shop.files.mkdir()
    (shop.files / "file-1").write_text(ROW)
    one, two = shop.take([job(1), job(2)])
    assert (one.rows, two.rows) == (1, None)
    assert shop.asked == ["file-2"]
    kept = shop.jobs.get(shop.models.models()[1].job_id)
    assert kept.recipe["dataset"]["path"] == str(shop.files / "file-2")


def test_what_did_not_end_well_is_left_and_a_method_that_recipes_lack_is_told(shop):
    reinforced = job(3, method={"type": "reinforcement", "reinforcement": {}})
    found = shop.take([job(1, status="failed", fine_tuned_model=None), job(2, status="cancelled"), reinforced])
    assert [(each.remote_id, each.ref, each.why) for each in found] == [
        ("ftjob-3", None, "recipes have no method 'reinforcement'")
    ]


def test_a_model_without_a_name_is_called_after_its_base(shop):
    (found,) = shop.take([job(1, fine_tuned_model="ft:gpt-4.1-mini-2025-04-14:acme::1")])
    assert found.ref == "gpt-4.1-mini-2025-04-14@v1"


def test_it_can_be_trained_elsewhere(shop):
    shop.take([job(1, validation_file="file-v")])
    kept = shop.jobs.get(shop.models.models()[0].job_id)
    made = retargeted(kept, "local", "openai/gpt-oss-20b", honours=LocalProvider.honours)
    recipe = Recipe.model_validate(made.recipe)
    assert (recipe.dataset.path, recipe.dataset.format) == (str(shop.files / "file-1.jsonl"), "openai")
    assert recipe.validation.path == str(shop.files / "file-v.jsonl")
    assert "training.learning_rate_multiplier" in {each.field for each in made.changes}


@pytest.mark.parametrize("write", ["object", "list", "lines"])
def test_exports_in_each_form(tmp_path, write):
    jobs = [job(1), job(2)]
    forms = {
        "object": json.dumps({"object": "list", "data": jobs, "has_more": False}),
        "list": json.dumps(jobs),
        "lines": "".join(json.dumps(each) + "\n" for each in jobs),
    }
    path = tmp_path / "jobs.json"
    path.write_text(forms[write])
    assert [each.remote_id for each in past(exported(path), "k")] == ["ftjob-1", "ftjob-2"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "it is no JSON"),
        ('{"data": 3}', "its `data` is no list"),
        ("\udcff", "UTF-8"),
        ('[{"id": 1}]', "no list of fine-tuning jobs"),
        ("[3]", "no list of fine-tuning jobs"),
        ('{"data": [], "has_more": true}', "one page of several"),
    ],
)
def test_what_is_no_export_is_told(tmp_path, text, says):
    path = tmp_path / "jobs.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ProviderError) as fault:
        past(exported(path), "k")
    problem = fault.value.problems[0]
    assert problem.code == "E416"
    assert says in f"{problem.what} {problem.why}"


def test_an_export_that_is_not_there_is_told(tmp_path):
    with pytest.raises(ProviderError, match="has no list of fine-tuning jobs"):
        exported(tmp_path / "nowhere.json")


@pytest.mark.parametrize(
    "more",
    [
        {"created_at": "yesterday"},
        {"created_at": 1e18},
        {"method": "supervised"},
        {"method": {"type": "supervised", "supervised": {"hyperparameters": "many"}}},
        {"metadata": "none"},
        {"training_file": None},
        {"training_file": "f" * 300},
        {"validation_file": 3},
        {"trained_tokens": "many"},
        {"seed": "42"},
        {"model": ""},
    ],
)
def test_an_odd_value_is_told_with_its_job_and_nothing_is_taken(shop, more):
    with pytest.raises(ProviderError, match="ftjob-1") as fault:
        shop.take([job(2), job(1, **more)])
    assert fault.value.problems[0].code == "E416"
    assert shop.models.models() == []


def test_what_no_recipe_can_say_is_left_with_the_reason(shop):
    odd = {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 0}}}
    (found,) = shop.take([job(1, method=odd)])
    assert (found.ref, found.why[:42]) == (None, "a recipe cannot have its training.epochs: ")
    assert shop.models.models() == []


def test_one_that_was_interrupted_before_its_version_gets_it_now(shop, monkeypatch):
    monkeypatch.setattr(shop.models, "add_model", lambda *args: (_ for _ in ()).throw(RuntimeError("killed")))
    with pytest.raises(RuntimeError):
        shop.take([job(1)])
    monkeypatch.undo()
    (found,) = shop.take([job(1)])
    assert (found.ref, found.known) == ("support-bot@v1", True)
    assert shop.jobs.get(shop.models.models()[0].job_id).model == "support-bot@v1"


def test_an_empty_file_is_no_missing_one(shop):
    shop.there["file-1"] = ""
    assert shop.take([job(1)])[0].rows == 0
