"""From a recipe to a job: checked whole, planned, and the same only once."""

import itertools
import json
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from finetune.catalogue import Cost, DataRules
from finetune.data.room import Room
from finetune.data.tokens import Guess
from finetune.errors import DataError, NotEligible, OverBudget, Problem, RecipeError, UsageError, WaitTimeout
from finetune.estimates import Estimate
from finetune.jobs import JobState
from finetune.plan import choose, ignored
from finetune.service import Service
from finetune.spec import parse
from finetune.store import SqlTurns
from finetune.submission import Conditions, Submitter
from finetune.tasks import ADVANCE
from finetune.testing import FakeProvider
from tests.support.jobs import World, sqlite

ROW = '{"messages": [{"role": "user", "content": "%s"}, {"role": "assistant", "content": "a"}]}\n'
TEXT = "version: 1\nname: bot\nbase_model: some-model\nprovider: fake\ndataset: {path: data.jsonl}\n"


@pytest.fixture
def world(tmp_path):
    world = World(sqlite(tmp_path / "home"))
    (tmp_path / "data.jsonl").write_text("".join(ROW % number for number in range(10)))
    world.folder, world.rules = tmp_path, None
    world.submitter = Submitter(
        world.jobs,
        world.queue,
        world.clock,
        data=Room(out=tmp_path / "prepared", tokens_of=lambda base_model: Guess(), progress=lambda read, total: None),
        conditions=Conditions(
            rules_of=lambda provider, method, base_model: world.rules,
            eligible=lambda provider, recipe: (),
            cost_of=lambda provider, recipe, tokens: Cost(basis="no price is published"),
        ),
        providers={"fake": world.provider},
        new_id=iter([f"ft_{n}" for n in range(9)]).__next__,
    )
    yield world
    world.database.close()


def service_of(world, pausable=lambda provider: False):
    return Service(world.jobs, SqlTurns(world.database, world.jobs), world.queue, world.clock, pausable=pausable)


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
    bad = recipe(world, TEXT + "seed: 3\nnotify: [ops]\n", "base_model=forbidden")
    with pytest.raises(DataError) as caught:
        world.submitter.check(bad)
    codes = [problem.code for problem in caught.value.problems if problem.level == "error"]
    assert len([code for code in codes if code.startswith("E2")]) == 2
    assert codes[-3:] == ["E301", "E301", "E304"]


def test_a_field_that_the_target_ignores_is_an_error_at_its_line(world):
    with pytest.raises(NotEligible) as caught:
        world.submitter.check(recipe(world, TEXT + "seed: 3\n"))
    (problem,) = (each for each in caught.value.problems if each.level == "error")
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
    choice = choose(file, {"fake": world.provider, "other": other})
    assert choice.provider == "other"
    assert [(one.provider, len(one.problems)) for one in choice.considered] == [("fake", 1), ("other", 0)]


class Hosted(FakeProvider):
    """A provider that bills; `set_up` says whether its key is there."""

    set_up = True

    def unconfigured(self):
        return [] if self.set_up else [Problem(code="E412", what="no key")]

    def reach(self):
        raise AssertionError("nothing is sent")


@pytest.fixture
def bazaar(world):
    """Three hosted providers: the prices of a training, and how each calls `some-model`."""
    world.prices = {"dear": "9.00", "cheap": "3.00", "silent": None}
    world.calls = {name: f"{name}/some-model" for name in world.prices}
    world.hosted = {name: Hosted() for name in world.prices}

    def cost_of(provider, recipe, tokens):
        assert recipe.base_model == world.calls[provider]
        usd = world.prices[provider] and Decimal(world.prices[provider])
        return Cost(low_usd=usd, high_usd=usd, basis=f"{tokens[1]} tokens")

    conditions = Conditions(
        rules_of=lambda provider, method, base_model: world.rules,
        eligible=lambda provider, recipe: (),
        cost_of=cost_of,
        called=lambda provider, base_model: world.calls.get(provider),
    )
    world.submitter = Submitter(
        world.jobs,
        world.queue,
        world.clock,
        data=Room(out=world.folder / "prepared", tokens_of=lambda base_model: Guess(), progress=lambda *_: None),
        conditions=conditions,
        providers=world.hosted,
        new_id=iter([f"ft_{n}" for n in range(9)]).__next__,
    )
    return world


AUTO = TEXT.replace("provider: fake", "provider: auto")


def test_auto_takes_the_cheapest_under_its_own_name(bazaar):
    ready = bazaar.submitter.ready(recipe(bazaar, AUTO))
    assert (ready.plan.target, str(ready.plan.cost.high_usd)) == ("cheap/cheap/some-model", "3.00")
    assert [one.provider for one in ready.plan.considered] == ["cheap", "dear", "silent"]
    made = bazaar.submitter.submit(ready)
    assert (made.job.provider, made.job.recipe["base_model"]) == ("cheap", "cheap/some-model")


@pytest.mark.parametrize("limit", ["", "limits: {max_cost: 9 USD}\nallow_ignored: [limits]\n"])
def test_one_that_is_named_gets_the_model_by_its_own_name_too(bazaar, limit):
    """As the table of targets shows it; a limit has its tokens counted by that name."""
    named = recipe(bazaar, TEXT.replace("provider: fake", "provider: dear") + limit)
    plan, _ = bazaar.submitter.check(named)
    made = bazaar.submitter.submit(bazaar.submitter.ready(named))
    assert plan.target == made.job.target == "dear/dear/some-model"
    assert made.job.recipe["base_model"] == "dear/some-model"


def test_auto_takes_one_that_is_set_up_before_a_cheaper_one(bazaar):
    bazaar.hosted["cheap"].set_up = False
    assert bazaar.submitter.ready(recipe(bazaar, AUTO)).plan.provider == "dear"


def test_a_check_of_auto_names_the_target_that_a_submission_takes_and_writes_nothing(bazaar):
    world, counted = bazaar, []
    # By the tokens of what is trained on, which each counts by its own name of the model.
    split = AUTO + "validation: {split: 0.3}\n"

    def cost_of(provider, recipe, tokens):
        counted.append((provider, recipe.base_model, tokens))
        usd = Decimal(tokens[1]) / (2 if provider == "silent" else 1)
        return Cost(low_usd=usd, high_usd=usd, basis="tokens")

    world.submitter._conditions = replace(world.submitter._conditions, cost_of=cost_of)
    plan, report = world.submitter.check(recipe(world, split))
    checked = counted[:]
    counted.clear()
    assert not (world.folder / "prepared").exists()
    ready = world.submitter.ready(recipe(world, split))
    assert checked == counted[:3]
    assert (plan.target, plan.train_rows, plan.validation_rows) == (
        *("silent/silent/some-model", ready.plan.train_rows),
        ready.plan.validation_rows,
    )
    assert (ready.plan.target, plan.considered, report.notes) == (plan.target, ready.plan.considered, ())


def test_a_check_of_auto_refuses_what_a_submission_does(bazaar):
    told = AUTO + "limits: {max_cost: 2 USD}\nallow_ignored: [limits]\n"
    for go in (bazaar.submitter.check, bazaar.submitter.ready):
        with pytest.raises(NotEligible, match=r"costs up to 3\.00 US dollars"):
            go(recipe(bazaar, told))
    (bazaar.folder / "data.jsonl").write_text("{}\n")
    with pytest.raises(DataError):
        bazaar.submitter.check(recipe(bazaar, told))


def test_a_check_of_auto_counts_nothing_that_is_elsewhere_and_says_so(bazaar):
    plan, report = bazaar.submitter.check(recipe(bazaar, AUTO, "dataset.path=https://example.com/rows.jsonl"))
    assert (plan.provider, report.unseen) == ("cheap", True)
    assert "`ft submit` may name another one" in report.notes[-1]


def test_a_check_counts_nothing_where_nothing_is_to_be_decided(bazaar):
    def cost_of(provider, recipe, tokens):
        raise AssertionError("not asked")

    bazaar.submitter._conditions = replace(bazaar.submitter._conditions, cost_of=cost_of)
    bazaar.submitter.check(recipe(bazaar, AUTO, "provider=dear"))
    bazaar.hosted["local"], bazaar.calls["local"] = FakeProvider(), "some-model"
    assert bazaar.submitter.check(recipe(bazaar, AUTO))[0].provider == "local"


def test_auto_takes_an_unknown_price_last_and_none_above_the_limit(bazaar):
    bazaar.hosted.pop("cheap")
    assert bazaar.submitter.ready(recipe(bazaar, AUTO)).plan.provider == "dear"
    with pytest.raises(NotEligible, match=r"costs up to 9\.00 US dollars"):
        bazaar.submitter.ready(recipe(bazaar, AUTO + "limits: {max_cost: 4 USD}\nallow_ignored: [limits]\n"))


def test_auto_takes_own_machines_before_any_price(bazaar):
    bazaar.hosted["local"] = FakeProvider()
    bazaar.calls["local"] = "some-model"
    ready = bazaar.submitter.ready(recipe(bazaar, AUTO))
    assert (ready.plan.target, ready.plan.cost) == ("local/some-model", None)


def errors(error):
    return [each.code for each in error.problems if each.level == "error"]


LIMIT = "limits: {max_cost: %s USD}\nallow_ignored: [limits]\n"


def test_a_check_prices_a_named_target_where_a_limit_is_set(bazaar):
    dear = TEXT.replace("provider: fake", "provider: dear").replace("some-model", "dear/some-model")
    for go in (bazaar.submitter.check, bazaar.submitter.ready):
        with pytest.raises(OverBudget, match=r"costs up to 9\.00 US dollars, and limits\.max_cost is 8"):
            go(recipe(bazaar, dear + LIMIT % 8))
        go(recipe(bazaar, dear + LIMIT % 9))
    assert not list(bazaar.queue.rung)
    elsewhere = recipe(bazaar, dear + LIMIT % 8, "dataset.path=https://example.com/rows.jsonl")
    plan, report = bazaar.submitter.check(elsewhere)
    assert (plan.provider, "held against the cost when the data is read" in report.notes[-1]) == ("dear", True)
    bazaar.rules = DataRules(target="Fake", format="openai", min_rows=11)
    with pytest.raises(DataError) as caught:
        bazaar.submitter.check(recipe(bazaar, dear + LIMIT % 9))
    assert errors(caught.value) == ["E248"], "told once"


def test_only_the_budget_in_the_way_of_one_is_told_without_the_others(bazaar):
    forbidden = Problem(code="E306", what="no such model", field="base_model")
    conditions = bazaar.submitter._conditions
    for others, kind, codes in (
        (["cheap"], OverBudget, ["E311", "E310"]),
        ([*bazaar.hosted], NotEligible, ["E306"] * 3),
    ):
        against = lambda provider, recipe, others=others: [forbidden] * (provider in others)  # noqa: E731
        bazaar.submitter._conditions = replace(conditions, eligible=against)
        for go in (bazaar.submitter.check, bazaar.submitter.ready):
            with pytest.raises(NotEligible) as caught:
                go(recipe(bazaar, AUTO + "limits: {max_cost: 4 USD}\nallow_ignored: [limits]\n"))
            assert (type(caught.value), errors(caught.value)) == (kind, codes)


def test_what_cannot_be_served_either_is_no_question_of_money(bazaar):
    unservable = Problem(code="E836", what="no gateway takes it", field="register")
    bazaar.submitter._conditions = replace(bazaar.submitter._conditions, servable=lambda recipe: [unservable])
    for go in (bazaar.submitter.check, bazaar.submitter.ready):
        with pytest.raises(NotEligible) as caught:
            go(recipe(bazaar, AUTO + LIMIT % 2))
        assert (caught.value.exit_code, errors(caught.value)) == (6, ["E836"])


@pytest.fixture
def mixed(bazaar):
    """With own machines whose training costs 5 dollars, by the tokens of the longest row too."""
    bazaar.hosted["local"], bazaar.calls["local"], bazaar.seen = FakeProvider(), "some-model", []
    bazaar.foreseen = Cost(low_usd=Decimal("1.00"), high_usd=Decimal("5.00"), basis="an hour")

    def foresee(recipe, size):
        if recipe.provider == "local":
            bazaar.seen.append((recipe.base_model, size.train_rows, size.longest(recipe.base_model)))
            return Estimate(cost=bazaar.foreseen)
        return Estimate()

    bazaar.submitter._conditions = replace(bazaar.submitter._conditions, foresee=foresee, own_priced=True)
    return bazaar


def test_own_machines_above_the_limit_leave_it_to_those_below(mixed):
    auto, named = recipe(mixed, AUTO + LIMIT % "4.99"), recipe(mixed, AUTO + LIMIT % "4.99", "provider=local")
    assert mixed.submitter.check(auto)[0].provider == "cheap"
    (checked,) = {*mixed.seen}
    assert mixed.submitter.ready(auto).plan.provider == "cheap"
    assert {*mixed.seen} == {checked}, "reckoned by the same rows"
    assert checked[:2] == ("some-model", 10)
    assert checked[2] > 0
    for go in (mixed.submitter.check, mixed.submitter.ready):
        with pytest.raises(OverBudget, match=r"local/some-model costs up to 5\.00 US dollars"):
            go(named)
    for limit in ("5.00", "9.00"):
        for overrides in ((), ("provider=local",)):
            file = recipe(mixed, AUTO + LIMIT % limit, *overrides)
            assert mixed.submitter.check(file)[0].provider == "local"
            ready = mixed.submitter.ready(file)
            assert (ready.plan.provider, ready.plan.cost) == ("local", None), "nothing is billed"


def test_own_machines_whose_cost_is_not_known_pass_any_limit(mixed):
    mixed.foreseen = None
    assert mixed.submitter.check(recipe(mixed, AUTO + LIMIT % 0))[0].provider == "local"
    assert mixed.submitter.ready(recipe(mixed, AUTO + LIMIT % 0)).plan.provider == "local"
    mixed.seen.clear()
    mixed.submitter._conditions = replace(mixed.submitter._conditions, own_priced=False)
    mixed.submitter.check(recipe(mixed, AUTO + LIMIT % 0))
    assert mixed.seen == [], "no row is read in vain"


def test_an_unknown_provider_names_the_known(world):
    with pytest.raises(NotEligible, match="installed are fake"):
        world.submitter.check(recipe(world, TEXT, "provider=nowhere"))


def test_follow_tells_each_event_once_and_ends_with_the_job(world):
    job = send(world, recipe(world)).job
    service = service_of(world)
    updates = list(service.follow(job.id, each=lambda: world.lifecycle.advance(job.id)))
    told = [event.message for update in updates for event in update.events]
    assert told == [event.message for event in world.jobs.events(job.id)]
    assert updates[-1].job.state is JobState.SUCCEEDED


def test_follow_tells_what_a_job_waits_for_once_nothing_else_is_new(world):
    job = send(world, recipe(world)).job
    looks, asked = itertools.count(), []

    def each():
        if next(looks) > 80:
            world.lifecycle.advance(job.id)

    def waits_for(job_id):
        asked.append(job_id)
        return "a worker" if len(asked) < 3 else "1x80GB"

    updates = list(service_of(world).follow(job.id, each=each, waits_for=waits_for))
    # Asked every five seconds; told when it is another thing than before.
    assert asked == [job.id] * 4
    assert [update.waits_for for update in updates[:4]] == [None, "a worker", "1x80GB", None]
    assert updates[-1].job.state is JobState.SUCCEEDED


def test_wait_ends_in_time(world):
    job = send(world, recipe(world)).job
    service = service_of(world)
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
    asked = recipe(world, TEXT + "register: {alias: production}\ngate: {metric: exact_match}\nresources: {gpus: 1}\n")
    assert ignored(asked.recipe, world.provider) == {"resources.gpus": 1}, "what is done after training is ours to do"


def test_the_rows_are_written_as_the_target_wants_them(world):
    world.rules = DataRules(target="Fake", format="gemini")
    data = send(world, recipe(world)).job.data
    assert data["format"] == "gemini"
    assert json.loads(Path(data["train"]).read_text().splitlines()[0]).keys() == {"contents"}


def test_what_the_target_does_not_take_is_refused_with_the_page_that_says_so(world):
    world.rules = DataRules(target="Fake", format="openai", min_rows=11, sources={"min_rows": "https://fake/limits"})
    with pytest.raises(DataError) as caught:
        world.submitter.ready(recipe(world))
    (problem,) = caught.value.problems
    assert (problem.code, "at least 11" in problem.what, "https://fake/limits" in problem.why) == ("E248", True, True)


def test_personal_data_is_looked_for_whoever_trains(world):
    with (world.folder / "data.jsonl").open("a") as file:
        file.write(ROW % "my card is 4242 4242 4242 4242")
    _, report = world.submitter.check(recipe(world, TEXT + "privacy: warn\n"))
    assert [(one.code, one.line) for one in report.problems if one.code == "E240"] == [("E240", 11)]
    with pytest.raises(DataError):
        world.submitter.ready(recipe(world, TEXT + "privacy: strict\n"))


def test_how_the_data_is_checked_makes_no_other_job(world):
    first = send(world, recipe(world))
    again = send(world, recipe(world, TEXT + "privacy: warn\n", "dataset.format=openai"))
    assert (again.created, again.job.id) == (False, first.job.id)


def failed(world, *overrides):
    job = send(world, recipe(world, TEXT, *overrides)).job
    world.provider.script = ("failed",)
    return world.run(job.id)


def test_again_is_a_new_job_of_the_same_work(world):
    old = failed(
        world, "limits.deadline=2h", "limits.max_cost=5 USD", "allow_ignored=[limits.deadline, limits.max_cost]"
    )
    world.clock.sleep(60)
    world.queue.rung.clear()

    new, created = world.submitter.again(old)

    assert created
    assert (new.recipe, new.data, new.fingerprint) == (old.recipe, old.data, old.fingerprint)
    assert (new.state, new.attempt, new.remote_id, new.error) == (JobState.QUEUED, 0, None, None)
    assert new.deadline_at == world.clock.now() + timedelta(hours=2)
    assert world.queue.rung == [(ADVANCE, new.id)]
    assert world.jobs.events(new.id)[0].message == f"queued: fake/some-model, again after {old.id}"
    world.provider.script = ("succeeded",)
    assert world.run(new.id).state is JobState.SUCCEEDED
    again, created = world.submitter.again(old)
    assert (again.id, created) == (new.id, False)


def test_what_goes_on_cannot_be_tried_again(world):
    job = send(world, recipe(world)).job
    with pytest.raises(UsageError, match="E811"):
        world.submitter.again(job)


def test_what_its_target_takes_no_more_is_not_tried_again(world):
    old = failed(world)
    world.submitter._conditions = replace(
        world.submitter._conditions, eligible=lambda provider, recipe: [Problem(code="E307", what="gone")]
    )
    with pytest.raises(NotEligible, match="gone"):
        world.submitter.again(old)


def test_with_caps_a_job_waits_for_its_turn(world):
    world.submitter._conditions = replace(world.submitter._conditions, caps={"owner": 1})
    job = send(world, recipe(world)).job
    assert (job.admitted_at, job.due_at) == (None, None)
    assert world.queue.rung == []
    assert SqlTurns(world.database, world.jobs).admit(world.clock.now(), {"owner": 1}) == [job.id]
    assert world.run(job.id).state is JobState.SUCCEEDED


def test_what_the_provider_has_is_paused_only_where_it_can(world):
    job = send(world, recipe(world)).job
    service = service_of(world)
    assert service.hold(job.id).hold_requested
    service.lift(job.id)
    world.run(job.id, until=lambda job: job.state is JobState.RUNNING)
    with pytest.raises(UsageError, match="E812"):
        service.hold(job.id)
    assert service_of(world, lambda provider: provider == "fake").hold(job.id).hold_requested
    world.jobs.request_cancel(job.id, world.clock.now())
    world.run(job.id)
    assert service.hold(job.id).final


@pytest.mark.parametrize("value", [-101, 101])
def test_a_priority_has_bounds(world, value):
    job = send(world, recipe(world)).job
    with pytest.raises(UsageError, match="from -100 to 100"):
        service_of(world).prioritise(job.id, value)
