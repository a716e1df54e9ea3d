"""From a recipe to a job: checked whole, planned, and the same only once."""

from pathlib import Path

import pytest

from finetune.data import inspect, prepare
from finetune.errors import DataError, NotEligible, RecipeError, WaitTimeout
from finetune.jobs import JobState
from finetune.plan import choose, ignored
from finetune.service import Service
from finetune.spec import parse
from finetune.submission import Submitter
from finetune.tasks import ADVANCE
from finetune.testing import FakeProvider
from tests.support.jobs import World, sqlite

ROW = '{"messages": [{"role": "user", "content": "%s"}, {"role": "assistant", "content": "a"}]}\n'
TEXT = "version: 1\nname: bot\nbase_model: some-model\nprovider: fake\ndataset: {path: data.jsonl}\n"


@pytest.fixture
def world(tmp_path):
    world = World(sqlite(tmp_path / "home"))
    (tmp_path / "data.jsonl").write_text("".join(ROW % number for number in range(10)))
    world.folder = tmp_path
    world.submitter = Submitter(
        world.jobs,
        world.queue,
        world.clock,
        inspect=inspect,
        prepare=lambda *data: prepare(*data, tmp_path / "prepared"),
        providers={"fake": world.provider},
        new_id=iter([f"ft_{n}" for n in range(9)]).__next__,
    )
    yield world
    world.database.close()


def send(world, file, **how):
    return world.submitter.submit(world.submitter.ready(file), **how)


def recipe(world, text=TEXT, *overrides) -> object:
    return parse(text, world.folder / "recipe.yaml", overrides)


def test_a_job_is_committed_and_rung_for(world):
    made = send(world, recipe(world))
    assert made.created
    assert world.queue.rung == [(ADVANCE, made.job.id)]
    job = world.jobs.get(made.job.id)
    assert job.recipe == {
        "version": 1,
        "name": "bot",
        "base_model": "some-model",
        "provider": "fake",
        "dataset": {"path": "data.jsonl"},
    }
    assert Path(job.data["train"]).read_text().count("\n") == 10
    assert made.plan.steps == 3 * 2


def test_the_same_again_answers_with_the_same_job_and_does_not_ring(world):
    first = send(world, recipe(world))
    second = send(world, recipe(world))
    assert (second.created, second.job.id) == (False, first.job.id)
    assert len(world.queue.rung) == 1


@pytest.mark.parametrize("override", ["lora.r=8", "name=other", "base_model=another", "training.epochs=5"])
def test_another_recipe_is_another_job(world, override):
    send(world, recipe(world))
    assert send(world, recipe(world, TEXT, override)).created


def test_other_data_is_another_job_and_another_place_for_the_same_is_not(world):
    send(world, recipe(world))
    (world.folder / "copy.jsonl").write_bytes((world.folder / "data.jsonl").read_bytes())
    assert not send(world, recipe(world, TEXT, "dataset.path=copy.jsonl")).created
    with (world.folder / "copy.jsonl").open("a") as file:
        file.write(ROW % "new")
    assert send(world, recipe(world, TEXT, "dataset.path=copy.jsonl")).created


def test_force_makes_another(world):
    first = send(world, recipe(world))
    assert send(world, recipe(world), force=True).job.id != first.job.id


def test_the_job_trains_what_was_submitted_not_what_the_file_became(world):
    job = send(world, recipe(world)).job
    (world.folder / "data.jsonl").write_text("")
    assert Path(job.data["train"]).read_text().count("\n") == 10


def test_everything_that_stands_against_it_is_said_at_once(world):
    (world.folder / "data.jsonl").write_text("{}\nnot json\n")
    bad = recipe(world, TEXT + "seed: 3\nprivacy: strict\n", "base_model=forbidden")
    with pytest.raises(DataError) as caught:
        world.submitter.check(bad)
    codes = [problem.code for problem in caught.value.problems if problem.level == "error"]
    assert len([code for code in codes if code.startswith("E2")]) == 2
    assert codes[-3:] == ["E301", "E301", "E304"]


def test_a_field_that_the_target_ignores_is_an_error_at_its_line(world):
    with pytest.raises(NotEligible) as caught:
        world.submitter.check(recipe(world, TEXT + "seed: 3\n"))
    (problem,) = caught.value.problems
    assert (problem.code, problem.field, problem.line) == ("E301", "seed", 6)
    assert caught.value.exit_code == 6


def test_unless_it_is_allowed_or_asks_for_nothing(world):
    file = recipe(world, TEXT + "seed: 3\nprivacy: 'off'\nallow_ignored: [seed, allow_ignored]\n")
    assert ignored(file.recipe, world.provider) == {}
    assert world.submitter.check(file)[0].provider == "fake"


def test_auto_takes_the_first_that_can_and_tells_what_it_considered(world):
    other = FakeProvider()
    other.honours = other.honours | {"seed"}
    file = recipe(world, TEXT.replace("provider: fake", "provider: auto") + "seed: 3\n")
    plan = choose(file, 10, 0, {"fake": world.provider, "other": other})
    assert plan.provider == "other"
    assert [(one.provider, len(one.problems)) for one in plan.considered] == [("fake", 1), ("other", 0)]


def test_an_unknown_provider_names_the_known(world):
    with pytest.raises(NotEligible, match="installed are fake"):
        world.submitter.check(recipe(world, TEXT, "provider=nowhere"))


def test_follow_tells_each_event_once_and_ends_with_the_job(world):
    job = send(world, recipe(world)).job
    service = Service(world.jobs, world.queue, world.clock)
    updates = list(service.follow(job.id, each=lambda: world.lifecycle.advance(job.id)))
    told = [event.message for update in updates for event in update.events]
    assert told == [event.message for event in world.jobs.events(job.id)]
    assert updates[-1].job.state is JobState.SUCCEEDED


def test_wait_ends_in_time(world):
    job = send(world, recipe(world)).job
    service = Service(world.jobs, world.queue, world.clock)
    from datetime import timedelta

    with pytest.raises(WaitTimeout) as caught:
        service.wait([job.id], timeout=timedelta(seconds=5))
    assert caught.value.exit_code == 4
    world.run(job.id)
    assert [one.state for one in service.wait([job.id, job.id])] == [JobState.SUCCEEDED] * 2


def test_a_base_model_by_a_relative_path_starts_at_the_recipe(world):
    file = recipe(world, TEXT, "base_model=./models/x")
    assert send(world, file).job.base_model == str(world.folder / "models" / "x")
    hub = recipe(world, TEXT, "base_model=owner/name")
    assert send(world, hub).job.base_model == "owner/name"


@pytest.mark.parametrize("alias", ["v2", "v99", "Production", "a b"])
def test_an_alias_in_a_recipe_cannot_hide_a_version(world, alias):
    with pytest.raises(RecipeError, match="cannot be an alias"):
        recipe(world, TEXT, f"register.alias={alias}")


def test_a_field_that_repeats_its_default_asks_for_nothing(world):
    file = recipe(world, TEXT + "seed: 42\nprivacy: off\nlimits: {data: any}\n")
    assert ignored(file.recipe, world.provider) == {}
    asked = recipe(world, TEXT + "register: {alias: production}\n")
    assert ignored(asked.recipe, world.provider) == {"register.alias": "production"}
