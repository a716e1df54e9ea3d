"""Jobs of an account taken into the registry: once, with their files, and ready to be trained elsewhere."""

import json
from pathlib import Path

import pytest

from finetune.errors import DataError, ProviderError, ProviderUnavailable, StateError, UsageError
from finetune.importing import Files, Importer, exported, from_folder, listed
from finetune.providers.local import LocalProvider
from finetune.providers.openai_past import past
from finetune.retarget import retargeted
from finetune.spec import Recipe
from finetune.store.imported import SqlImports
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
    books = SqlImports(world.database)
    importer = Importer(world.jobs, world.models, books, world.clock, owner="me", new_id=lambda: next(ids))
    world.files = tmp_path / "files"

    def take(rows, fetch=fetch):
        return importer.take("openai", past(rows, "ft_run_key"), Files(world.files, fetch))

    world.take = take
    world.kept = lambda number=0: world.jobs.get(world.models.models()[number].job_id)
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


def test_a_file_that_is_gone_is_told(shop):
    del shop.there["file-2"]
    one, two = shop.take([job(1), job(2)])
    assert (one.rows, two.rows) == (12, None)
    assert shop.kept(1).recipe["dataset"]["path"] == str(shop.files / "file-2")


def test_a_file_is_kept_once_by_its_content_and_asked_for_once(shop):
    shop.there["file-3"] = shop.there["file-1"]
    shop.take([job(1), job(2, training_file="file-1"), job(3)])
    assert shop.asked == ["file-1", "file-3"]
    assert {shop.kept(number).data["train"] for number in range(3)} == {str(each) for each in shop.files.iterdir()}
    (kept,) = shop.files.iterdir()
    assert kept.read_text() == ROW * 12
    shop.take([job(4, training_file="file-1")])
    assert shop.asked == ["file-1", "file-3"], "one that is here is not asked for"


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "given"
    folder.mkdir()
    return folder


def test_files_of_a_folder_are_copied(shop, folder):
    for name, rows in (("file-1.jsonl", 12), ("file-2", 3), ("file-v.json", 2)):
        (folder / name).write_text(ROW * rows)
    found = shop.take([job(1), job(2, validation_file="file-v")], from_folder(folder))
    for each in folder.iterdir():
        each.unlink()
    folder.rmdir()
    assert [each.rows for each in found] == [12, 3]
    assert [Path(shop.kept(1).data[side]).read_text() for side in ("train", "validation")] == [ROW * 3, ROW * 2]
    assert shop.asked == []


def test_an_id_leads_out_of_no_folder(shop, folder):
    (folder.parent / "secret").write_text(ROW)
    (found,) = shop.take([job(1, training_file="../secret")], from_folder(folder))
    assert found.rows is None


def test_a_file_that_may_not_be_read_is_told(shop, folder):
    (folder / "file-1").write_text(ROW)

    def opened(*args):
        raise PermissionError(13, "Permission denied")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "open", opened)
        with pytest.raises(DataError, match="file-1 cannot be read") as fault:
            shop.take([job(1)], from_folder(folder))
    assert fault.value.problems[0].code == "E203"


def test_a_home_that_takes_no_files_is_told_and_nothing_is_taken(shop):
    shop.files.write_text("in the way")
    with pytest.raises(StateError, match="cannot write to"):
        shop.take([job(1)])
    assert shop.models.models() == []


def test_what_breaks_off_leaves_nothing_behind(shop):
    def broken(file_id, to):
        to.write_text(ROW)
        raise ProviderError

    with pytest.raises(ProviderError):
        shop.take([job(1)], broken)
    assert list(shop.files.iterdir()) == []


def test_rows_are_added_later_and_nothing_else_changes(shop):
    del shop.there["file-1"], shop.there["file-v"]
    shop.take([job(1, validation_file="file-v"), job(2)])
    before, other, events = shop.kept(), shop.kept(1), shop.jobs.events(shop.kept().id)
    (version, beside) = shop.models.models()
    shop.there |= {"file-1": ROW * 12, "file-v": ROW * 2}
    found, untouched = shop.take([job(1, validation_file="file-v"), job(2)])
    assert (found.ref, found.rows, found.known, found.added) == ("support-bot@v1", 12, True, True)
    assert (untouched.rows, untouched.added) == (3, False)
    after = shop.kept()
    changed = {name for name, value in vars(before).items() if getattr(after, name) != value}
    assert changed == {"recipe", "data"}
    assert Path(after.data["train"]).read_text() == ROW * 12
    assert (after.data["train_rows"], after.data["validation_rows"]) == (12, 2)
    assert after.recipe == {
        **before.recipe,
        "dataset": {"path": after.data["train"], "format": "openai"},
        "validation": {"path": after.data["validation"]},
    }
    assert shop.kept(1) == other
    now, same = shop.models.models()
    assert (now.lineage, same) == ({**version.lineage, "data": after.data["digest"]}, beside)
    *same_events, told = shop.jobs.events(before.id)
    assert same_events == events
    assert told.message == "imported: rows of file-1 and file-v"


def test_rows_are_added_once(shop):
    del shop.there["file-1"]
    shop.take([job(1)])
    shop.there["file-1"] = ROW
    shop.take([job(1)])
    before = (shop.kept(), shop.jobs.events(shop.kept().id))
    shop.asked.clear()
    (again,) = shop.take([job(1)])
    assert (again.rows, again.added, shop.asked) == (1, False, [])
    assert (shop.kept(), shop.jobs.events(shop.kept().id)) == before


def test_held_out_rows_are_added_to_a_job_that_has_the_others(shop):
    del shop.there["file-v"]
    shop.take([job(1, validation_file="file-v")])
    train = shop.kept().data["train"]
    assert "validation" not in shop.kept().recipe
    (still,) = shop.take([job(1, validation_file="file-v")])
    assert not still.added
    shop.there["file-v"] = ROW * 2
    (found,) = shop.take([job(1, validation_file="file-v")])
    assert (found.added, shop.kept().data["train"], shop.kept().data["validation_rows"]) == (True, train, 2)


def test_a_copy_that_somebody_has_removed_comes_back(shop):
    shop.take([job(1)])
    kept = Path(shop.kept().data["train"])
    kept.unlink()
    (gone,) = shop.take([job(1)], lambda file_id, to: False)
    assert gone.rows is None
    (found,) = shop.take([job(1)])
    assert (found.rows, kept.is_file()) == (12, True)


def test_a_job_of_our_own_is_left_as_it_is(shop):
    shop.submit("ft_own", provider="openai", remote_id="ftjob-1", state="succeeded", artifact={"model": "ft:b"})
    before = shop.jobs.get("ft_own")
    (found,) = shop.take([job(1)])
    assert (found.ref, found.known, found.added, shop.asked) == ("bot@v1", True, False, [])
    assert shop.jobs.get("ft_own").data == before.data


def test_what_did_not_end_well_is_left_and_a_method_that_recipes_lack_is_told(shop):
    reinforced = job(3, method={"type": "reinforcement", "reinforcement": {}})
    found = shop.take([job(1, status="failed", fine_tuned_model=None), job(2, status="cancelled"), reinforced])
    assert [(each.remote_id, each.ref, each.why) for each in found] == [
        ("ftjob-3", None, "recipes have no method 'reinforcement'")
    ]


@pytest.mark.parametrize("beta", [0.3, 1])
def test_a_preference_training_keeps_its_beta(shop, beta):
    numbers = {"n_epochs": 2, "batch_size": "auto", "beta": beta}
    shop.take([job(1, method={"type": "dpo", "dpo": {"hyperparameters": numbers}}, hyperparameters=None)])
    recipe = Recipe.model_validate(shop.kept().recipe)
    assert (recipe.method, recipe.dpo.beta, recipe.training.epochs) == ("dpo", beta, 2)
    assert shop.kept().recipe["dpo"] == {"beta": beta}


def test_a_beta_that_nobody_tells_is_nobodys(shop):
    shop.take([job(1, method={"type": "dpo", "dpo": {"hyperparameters": {"beta": "auto"}}})])
    assert "dpo" not in shop.kept().recipe


@pytest.mark.parametrize("told", ["inside", "outside"])
def test_what_the_vendor_chose_by_itself_is_kept_wherever_it_tells_it(shop, told):
    numbers = {"n_epochs": 3, "batch_size": 4, "learning_rate_multiplier": 1.8}
    auto = dict.fromkeys(numbers, "auto")
    inside, outside = (numbers, auto) if told == "inside" else (auto, numbers)
    shop.take(
        [job(1, method={"type": "supervised", "supervised": {"hyperparameters": inside}}, hyperparameters=outside)]
    )
    assert shop.kept().recipe["training"] == {"epochs": 3, "batch_size": 4, "learning_rate_multiplier": 1.8}


def test_a_model_without_a_name_is_called_after_its_base(shop):
    (found,) = shop.take([job(1, fine_tuned_model="ft:gpt-4.1-mini-2025-04-14:acme::1")])
    assert found.ref == "gpt-4.1-mini-2025-04-14@v1"


def test_it_can_be_trained_elsewhere(shop):
    shop.take([job(1, validation_file="file-v")])
    kept = shop.jobs.get(shop.models.models()[0].job_id)
    made = retargeted(kept, "local", "openai/gpt-oss-20b", honours=LocalProvider.honours)
    recipe = Recipe.model_validate(made.recipe)
    assert (recipe.dataset.path, recipe.dataset.format) == (kept.data["train"], "openai")
    assert recipe.validation.path == kept.data["validation"]
    assert Path(recipe.dataset.path).parent == shop.files
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
        ('{\n "data": [\n  {"id": }\n]}', "line 3 column 10"),
        ('{"id": "a"}\n{"id": }\n', "line 2 is no JSON"),
        ('{"data": 3}', "its `data` is no list"),
        ("\udcff", "UTF-8"),
        ('[{"id": 1}]', "no list of fine-tuning jobs"),
        ("[3]", "no list of fine-tuning jobs"),
        ('{"data": [], "has_more": true}', "after=LAST_ID`"),
        ('{"data": [{"id": "ftjob-2"}, {"id": "ftjob-1"}], "has_more": true}', "?limit=100&after=ftjob-1`"),
        ('{"data": [{"id": "a`\\nb"}], "has_more": true}', "after=LAST_ID`"),
        ("", "it is empty"),
        ("\ufeff \n\n", "it is empty"),
    ],
)
def test_what_is_no_export_is_told(tmp_path, text, says):
    path = tmp_path / "jobs.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(DataError) as fault:
        listed(Account(), exported(path))
    problem = fault.value.problems[0]
    assert problem.code == "E416"
    assert says in f"{problem.what} {problem.why} {problem.fix}"


class Account:
    """What OpenAI's adapter makes of jobs; asked itself, it is down."""

    def past(self, export=None):
        if export is None:
            raise ProviderUnavailable
        return past(export, "k")


def test_an_account_that_is_asked_has_faults_of_its_own(tmp_path):
    with pytest.raises(ProviderUnavailable):
        listed(Account(), None)
    (tmp_path / "jobs.json").write_text('{"data": [], "has_more": false}')
    assert listed(Account(), exported(tmp_path / "jobs.json")) == []


def test_an_export_that_is_not_there_is_told(tmp_path):
    for path in (tmp_path / "nowhere.json", tmp_path):
        with pytest.raises(UsageError, match="cannot be read"):
            exported(path)


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
