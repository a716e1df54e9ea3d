"""Every target side by side: what stands against each, what it costs by the published prices, and who is chosen."""

from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from functools import partial

import pytest

from finetune.catalogue import Catalogue, load
from finetune.catalogue.eligible import against
from finetune.catalogue.weights import called
from finetune.errors import Problem
from finetune.estimates import Time
from finetune.jobs import JobState
from finetune.spec import parse
from finetune.targets import Market, Size, compare, lacking, pace, reckoned, ungiven
from finetune.testing import FakeProvider
from tests.support.jobs import RECIPE, World, sqlite

CATALOGUE = load()
TEXT = "version: 1\nname: bot\nbase_model: {base}\nprovider: {provider}\ndataset: {{path: data.jsonl}}\n"
BEFORE, AFTER = date(2026, 11, 29), date(2027, 1, 7)
MINI, QWEN = "gpt-4.1-mini-2025-04-14", "Qwen/Qwen3.5-9B"


class Hosted(FakeProvider):
    """One that bills; `ready` says whether its key is set."""

    def __init__(self, name, ready=True):
        super().__init__()
        self.name, self.ready = name, ready
        self.honours = self.honours | {"limits", "training", "method", "lora"}

    def unconfigured(self):
        return [] if self.ready else [Problem(code="E412", what=f"{self.name} has no key")]

    def reach(self):
        raise AssertionError("nothing is sent")

    def __getattr__(self, name):
        raise AttributeError(name)


def market(today=BEFORE, hosted=("openai", "together"), ready=True, scores=None, here=(), catalogue=CATALOGUE):
    local = FakeProvider()
    local.honours = local.honours | {"limits", "resources"}
    providers = {"local": local, **{name: Hosted(name, ready) for name in hosted}}

    def eligible(name, recipe):
        sheet = None if name == "local" else catalogue.provider(name)
        found = against(sheet, recipe.method, recipe.base_model, today) if sheet else []
        if not any(each.level == "error" for each in found):
            found += [none] if (none := ungiven(catalogue, name, recipe.base_model)) else []
        return [*found, *lacking(catalogue, name, recipe, scores or {})]

    return Market(
        here=here,
        catalogue=catalogue,
        providers=providers,
        eligible=eligible,
        cost_of=partial(reckoned, catalogue),
        time_of=time_of,
    )


def time_of(recipe, size):
    """Of one model at one provider half a second to two a row."""
    if (recipe.provider, recipe.base_model) != ("openai", MINI):
        return Time(basis="none has ended")
    rows = size.train_rows * recipe.training.epochs
    return Time(seconds=(rows * 0.5, rows * 2.0), by="trainings", basis="as 2 trainings have taken")


def looked(tmp_path, base, provider="auto", more="", rows=1000, **how):
    file = parse(TEXT.format(base=base, provider=provider) + more, tmp_path / "recipe.yaml", ())
    size = Size(train_rows=rows, validation_rows=0, tokens=lambda base_model: (900_000, 1_000_000))
    found = compare(file, size, market(**how))
    return {each.name: each for each in found}


def why(target):
    return " / ".join(each.what for each in target.reasons)


def test_every_sheet_has_a_row_with_a_verdict_and_the_reason(tmp_path):
    found = looked(tmp_path, "builtin:tiny-llama")
    assert {*CATALOGUE.sheets} <= {*found}
    assert next(iter(found)) == "local", "the chosen one comes first"
    assert found["local"].verdict == "chosen"
    assert (found["local"].leaves, found["local"].cost.high_usd) == (False, None)
    assert all(each.reasons for each in found.values() if each.verdict == "no")


def test_what_can_answer_and_is_set_up_here_is_named(tmp_path):
    found = looked(tmp_path, QWEN, hosted=(), here={"embedded", "litellm"})
    assert found["local"].served_here == ("embedded", "litellm")
    assert {*found["local"].served} > {"embedded", "litellm"}
    assert looked(tmp_path, MINI, "openai", here=())["openai"].served_here == ("openai",)
    keyless = looked(tmp_path, MINI, "openai", ready=False, here={"litellm"})["openai"]
    assert (keyless.served, keyless.served_here) == (("openai", "litellm"), ("litellm",))


def test_the_last_day_of_a_vendor_turns_a_condition_into_a_refusal(tmp_path):
    before = looked(tmp_path, MINI, "openai", today=BEFORE)["openai"]
    assert before.verdict == "chosen"
    assert "takes jobs on conditions only" in why(before)
    assert "models tuned from OpenAI gpt-4.1-mini-2025-04-14 answer until 2027-01-14" in why(before)
    assert (before.create_until, before.serve_until) == (date(2027, 1, 6), date(2027, 1, 14))
    after = looked(tmp_path, MINI, "openai", today=AFTER)["openai"]
    assert after.verdict == "no"
    assert "takes no more fine-tuning jobs since 2027-01-06" in why(after)
    assert "provider: local" in after.reasons[0].fix


def test_costs_are_the_vendors_prices_times_tokens(tmp_path):
    """OpenAI's price page: 5.00 US dollars a million training tokens of gpt-4.1-mini; here 1 million, 3 epochs."""
    cost = looked(tmp_path, MINI, "openai", "training: {epochs: 3}\n")["openai"].cost
    assert (cost.low_usd, cost.high_usd) == (Decimal("13.50"), Decimal("15.00"))


def test_own_machines_cost_by_the_hour_what_trainings_have_taken_here(tmp_path):
    """1000 rows, 3 epochs: 0.5 to 2 seconds a row have been seen, so 1500 to 6000 s on two cards at 3.00 an hour."""
    more = "training: {epochs: 3}\nresources: {gpus: 2}\n"
    file = parse(TEXT.format(base=QWEN, provider="local") + more, tmp_path / "recipe.yaml", ())
    size = Size(train_rows=1000, validation_rows=0, tokens=lambda base_model: (1, 1))

    def cost(times, usd, by="trainings"):
        time = Time(seconds=times, by=by if times else None, basis="why")
        known = replace(market(), time_of=lambda recipe, size: time, card_hour_usd=usd)
        (found,) = [each for each in compare(file, size, known) if each.name == "local"]
        assert found.time == time
        return found.cost.low_usd, found.cost.high_usd, found.cost.basis

    assert cost((1500.0, 6000.0), Decimal("3.00")) == (
        *(Decimal("2.50"), Decimal("10.00")),
        "2 x 3.00 an hour, by trainings that have run here",
    )
    assert cost((1500.0, 6000.0), Decimal("3.00"), "card")[2] == "2 x 3.00 an hour, by the card's published speed"
    assert cost(None, Decimal("3.00")) == (None, None, "3.00 an hour of a card, and its time is not known: why")
    assert cost((1500.0, 6000.0), None)[:2] == (None, None)


def test_how_long_trainings_take_is_learned_from_those_that_ended_well(tmp_path):
    world = World(sqlite(tmp_path))
    for number, (state, took) in enumerate([("succeeded", 60), ("succeeded", 90), ("failed", 1)]):
        at = world.clock.now()
        times = {"admitted_at": at, "finished_at": at + timedelta(seconds=took), "state": JobState(state)}
        data = {"train_rows": 10, "train": "t", "validation": None}
        recipe = {**RECIPE, "training": {"epochs": 3}}
        world.submit(f"ft_{number}", recipe=recipe, data=data, fingerprint=str(number), **times)
    took = lambda job: (job.finished_at - job.admitted_at).total_seconds()  # noqa: E731
    measured = pace(world.jobs.recent(), took)
    assert pace(world.jobs.recent(), lambda job: None)("fake", RECIPE["base_model"], 100) is None
    found = measured("fake", RECIPE["base_model"], 100)
    # 30 rows in 60 and in 90 s: of 100 nobody knows how much of that comes once, before the first step.
    assert (found.seconds, found.by) == ((60.0, 300.0), "trainings")
    assert found.basis == "as 2 trainings of this model have taken"
    assert measured("fake", RECIPE["base_model"], 30).seconds == (60.0, 90.0)
    assert measured("fake", RECIPE["base_model"], 10).seconds == (20.0, 90.0)
    first = [job for job in world.jobs.recent() if job.id == "ft_0"]
    alone = pace(first, took)("fake", RECIPE["base_model"], 100)
    assert alone.basis == "as one of this model has taken"
    assert measured("fake", "another", 100) is None
    world.database.close()


def test_a_first_training_on_few_rows_does_not_rule_out_one_on_many(tmp_path):
    """10 rows in 20 s, nearly all of it to load the model, say little of 10,000; 9,000 rows say all of it."""
    world = World(sqlite(tmp_path))

    def ended(name, rows, seconds):
        at = world.clock.now()
        times = {"admitted_at": at, "finished_at": at + timedelta(seconds=seconds), "state": JobState.SUCCEEDED}
        recipe, data = {**RECIPE, "training": {"epochs": 1}}, {"train_rows": rows, "train": "t", "validation": None}
        world.submit(name, recipe=recipe, data=data, fingerprint=name, **times)

    def measured():
        took = lambda job: (job.finished_at - job.admitted_at).total_seconds()  # noqa: E731
        return pace(world.jobs.recent(), took)("fake", RECIPE["base_model"], 10_000)

    ended("ft_few", 10, 20)
    assert measured().seconds == (20.0, 20_000.0)
    ended("ft_many", 9_000, 900)
    assert (measured().seconds, measured().basis) == ((900.0, 1000.0), "as one of this model has taken")
    world.database.close()


def test_the_same_weights_are_found_under_each_targets_own_name(tmp_path):
    found = looked(tmp_path, QWEN)
    assert (found["local"].base_model, found["together"].base_model) == (QWEN, QWEN)
    assert found["openai"].verdict == "no"
    assert called(CATALOGUE, "openai", "openai/gpt-oss-20b") is None
    assert called(CATALOGUE, "local", "gpt-4.1-mini") is None, "nobody gives its weights away"
    assert called(CATALOGUE, "local", "some/model") == "some/model", "a hub has more than the catalogue"
    assert "`base_model: openai/gpt-oss-20b` stands in" in looked(tmp_path, MINI)["local"].reasons[0].fix


def test_this_machine_comes_first_and_then_who_is_set_up(tmp_path):
    assert looked(tmp_path, QWEN)["local"].verdict == "chosen"
    away = looked(tmp_path, QWEN, "together")
    assert (away["together"].verdict, away["local"].verdict) == ("chosen", "possible")
    unready = looked(tmp_path, QWEN, ready=False)["together"]
    assert (unready.verdict, why(unready)) == ("conditional", "together has no key")


@pytest.mark.parametrize(
    ("limits", "name", "says"),
    [
        ("{max_cost: 10 USD}", "openai", "costs up to 15.00 US dollars, and limits.max_cost is 10"),
        ("{deadline: 10m}", "openai", "such a training takes 25 min and more, and limits.deadline is 10m"),
        ("{deadline: 1s}", "openai", "such a training takes 25 min and more, and limits.deadline is 1s"),
        ("{data: local_only}", "openai", "openai gets the data, and the recipe keeps it here"),
        ("{min_context: 200000}", "openai", f"{MINI} at OpenAI reads 128,000 tokens in one request, and 200,000 are"),
        ("{quality: arena >= 1300}", "openai", "no scores are called 'arena'"),
    ],
)
def test_limits_of_the_recipe_rule_out(tmp_path, limits, name, says):
    more = f"training: {{epochs: 3}}\nlimits: {limits}\n"
    found = looked(tmp_path, MINI, name, more)[name]
    assert found.verdict == "no"
    assert says in why(found)


def test_imported_scores_are_found_by_any_name_of_the_model(tmp_path):
    more = "limits: {quality: arena >= 1300}\n"
    for score, verdict in ((1310, "chosen"), (1290, "no")):
        found = looked(tmp_path, MINI, "openai", more, scores={"arena": {"gpt-4.1-mini": score}})["openai"]
        assert found.verdict == verdict
    other = looked(tmp_path, MINI, "openai", more, scores={"arena": {"other": 1400}})["openai"]
    assert "is not in the scores 'arena', and 1300 are wanted" in why(other)
    assert "`ft catalogue scores --name arena` tells what each has" in other.reasons[0].fix


def test_a_context_that_nobody_tells_is_not_said_to_be_short(tmp_path):
    (reason,) = looked(tmp_path, QWEN, "together", "limits: {min_context: 9}\n")["together"].reasons
    assert reason.what.startswith(f"the catalogue does not say how much {QWEN} at Together reads in one request, and")
    assert "add it to the catalogue" in reason.fix
    (reason,) = looked(tmp_path, MINI, "openai", "limits: {min_context: 200000}\n")["openai"].reasons
    assert reason.fix.startswith("choose a model that reads more")


def test_scores_that_were_never_imported_are_not_the_models_fault(tmp_path):
    more = "limits: {quality: areana >= 1300}\n"
    (typo,) = looked(tmp_path, MINI, "openai", more, scores={"b": {}, "arena": {}})["openai"].reasons
    assert (typo.what, typo.why) == ("no scores are called 'areana'", "imported are arena, b")
    assert typo.fix == "write one of these, or `ft catalogue scores import FILE.csv --name areana` imports them"
    (none,) = looked(tmp_path, MINI, "openai", more)["openai"].reasons
    assert (none.why, "write one" in none.fix) == ("none were imported yet", False)


def test_own_machines_are_held_against_the_limit_where_their_cost_is_known(tmp_path):
    """1000 rows at half a second to two, on a card at 3 dollars an hour: 0.42 to 1.67."""
    size = Size(train_rows=1000, validation_rows=0, tokens=lambda base_model: (1, 1))

    def found(limit, usd="3.00", seconds=(500.0, 2000.0), provider="auto"):
        text = TEXT.format(base=QWEN, provider=provider) + f"limits: {{max_cost: {limit} USD}}\n"
        file = parse(text, tmp_path / "recipe.yaml", ())
        time = Time(seconds=seconds, by=seconds and "trainings", basis="why")
        known = replace(market(), time_of=lambda recipe, size: time, card_hour_usd=usd and Decimal(usd))
        return {each.name: each for each in compare(file, size, known)}

    assert found("1.67")["local"].verdict == "chosen"
    dear = found("1.66")
    assert (dear["local"].verdict, dear["together"].verdict) == ("no", "chosen")
    (problem,) = dear["local"].reasons
    assert problem.what == f"local/{QWEN} costs up to 1.67 US dollars, and limits.max_cost is 1.66"
    assert (problem.code, problem.line, problem.why) == ("E311", 6, "1 x 3.00 an hour, by trainings that have run here")
    assert found("1.66", provider="local")["local"].verdict == "no"
    # What nobody has priced, or timed, is no cost.
    assert found("0.00", usd=None)["local"].verdict == found("0.00", seconds=None)["local"].verdict == "chosen"


def test_a_day_that_is_only_promised_is_not_told_as_certain(tmp_path):
    azure = next(iter(CATALOGUE.provider("azure").models))
    assert azure.dates.create_until.at_least
    day = azure.dates.create_until.value
    for today, says in (
        (day - timedelta(days=1), f"takes jobs until {day} at least"),
        (day + timedelta(days=1), f"may take no more jobs: it has promised to until {day} only"),
    ):
        found = looked(tmp_path, azure.name, "azure", today=today, hosted=("azure",))["azure"]
        assert (found.verdict, found.create_until, found.create_at_least) == ("chosen", day, True)
        assert says in why(found)
        assert f"from {day} on" not in why(found)
    sure = looked(tmp_path, MINI, "openai")["openai"]
    assert (sure.create_at_least, sure.serve_at_least) == (False, False)


def test_a_host_that_names_no_models_has_not_those_that_nobody_gives_away(tmp_path):
    shipped = CATALOGUE.provider("fireworks")
    bare = Catalogue({**CATALOGUE.sheets, "fireworks": shipped.model_copy(update={"models": ()})})
    found = looked(tmp_path, MINI, hosted=("openai", "fireworks"), catalogue=bare)
    assert (found["openai"].verdict, found["fireworks"].verdict) == ("chosen", "no")
    assert "the catalogue knows no weights" in why(found["fireworks"])
    assert looked(tmp_path, QWEN, hosted=("fireworks",), catalogue=bare)["fireworks"].base_model == QWEN


def test_a_host_has_weights_of_the_hub_under_its_own_name_and_asks_its_own_price_for_them(tmp_path):
    found = looked(tmp_path, QWEN, hosted=("fireworks",))["fireworks"]
    assert found.base_model == "accounts/fireworks/models/qwen3p5-9b"
    # 0.50 dollars a million by its page, of a million tokens; the recipe says nothing of epochs.
    assert found.cost.high_usd == Decimal("0.50") * 3


def test_what_cannot_be_served_is_not_chosen(tmp_path):
    file = parse(TEXT.format(base=QWEN, provider="auto"), tmp_path / "recipe.yaml", ())
    size = Size(train_rows=100, validation_rows=0, tokens=lambda base_model: (1, 1))

    def servable(recipe):
        return [Problem(code="E836", what="no gateway takes it", field="register")] * (recipe.provider == "local")

    found = {each.name: each for each in compare(file, size, replace(market(), servable=servable))}
    assert (found["local"].verdict, why(found["local"])) == ("no", "no gateway takes it")
    assert found["together"].verdict == "chosen"


def test_too_few_rows_rule_out(tmp_path):
    assert "takes at least 10 training rows, and there are 9" in why(looked(tmp_path, MINI, "openai", rows=9)["openai"])


def test_who_has_no_adapter_here_says_so(tmp_path):
    found = looked(tmp_path, QWEN, hosted=())
    assert "no adapter for Together" in why(found["together"])


def test_memory_is_shown_and_cards_that_are_too_small_are_a_condition(tmp_path):
    small = Problem(code="E321", what="too small", field="base_model", level="warning")
    asked = []

    def memory_of(recipe, longest):
        asked.append((recipe.base_model, longest))
        return (10, 20), [small]

    file = parse(TEXT.format(base=QWEN, provider="local"), tmp_path / "recipe.yaml", ())
    tokens = {"tokens": lambda base_model: (1, 2), "longest": lambda base_model: 77}
    size = Size(train_rows=10, validation_rows=0, **tokens)
    known = replace(market(), memory_of=memory_of)
    local = next(each for each in compare(file, size, known) if each.name == "local")
    assert (asked, local.memory) == ([(QWEN, 77)], (10, 20))
    # Chosen, for it was asked for; the reason stands there.
    assert (local.verdict, why(local)) == ("chosen", "too small")
    assert local.reasons[0].line is not None, "at its line of the recipe"


def test_a_slip_of_a_model_that_somebody_has_is_no_model_of_ours(tmp_path):
    found = looked(tmp_path, "gpt-4o-mni", hosted=("openai",))
    assert found["local"].verdict == "no"
    assert "close to gpt-4o-mini" in found["local"].reasons[0].why
    # The hub has old names without a maker, and folders have any.
    assert all(looked(tmp_path, name)["local"].verdict == "chosen" for name in ("gpt2", "./gpt-4o-mni"))


@pytest.mark.parametrize("name", ["mistral-large-latest", "magistral-small-latest", "claude-sonnet-latest"])
def test_a_name_that_its_maker_moves_is_told_as_that_and_not_as_closed(tmp_path, name):
    (reason,) = looked(tmp_path, name)["local"].reasons
    assert (reason.code, reason.field) == ("E306", "base_model")
    assert reason.what == f"{name} names no weights: its maker moves the name from version to version"
    assert "under a name of their own" in reason.why
    assert f"(./{name})" in reason.fix
    stands_in = "`base_model: mistralai/Ministral-3-3B-Instruct-2512` stands in"
    assert (stands_in in reason.fix) is (name == "mistral-large-latest"), "only of what a sheet has it is known"


def test_weights_may_be_called_the_latest_by_who_owns_them(tmp_path):
    assert looked(tmp_path, "acme/large-latest")["local"].verdict == "chosen"
    assert called(CATALOGUE, "a-host-without-a-sheet", "large-latest") == "large-latest", "names of APIs may move"
    assert called(CATALOGUE, "a-host-without-a-sheet", "large:8b") == "large:8b"


def test_a_tag_of_ollama_is_no_name_of_the_hub(tmp_path):
    (reason,) = looked(tmp_path, "llama3:8b")["local"].reasons
    assert reason.what == "llama3:8b names no weights on the hub"
    assert "(./llama3:8b)" in reason.fix
    assert looked(tmp_path, "builtin:tiny-llama")["local"].verdict == "chosen"


def test_an_api_s_name_is_not_said_to_have_no_weights_anywhere(tmp_path):
    (reason,) = looked(tmp_path, "amazon.nova-micro-v1:0:128k")["local"].reasons
    assert reason.what == "the catalogue knows no weights of amazon.nova-micro-v1:0:128k on the hub"
