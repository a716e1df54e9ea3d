"""What is above limits.max_cost, hosted or on own machines, and what would help where nothing takes a recipe."""

import pytest

from finetune.catalogue import load
from tests.cli.desk import Desk, write_rows

MINI = ("--set", "base_model=gpt-4o-mini", "--set", "limits.max_cost=0.01 USD")


@pytest.fixture
def many(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """With rows enough that a training costs more than a cent, and a key."""
    write_rows(desk.folder / "data.jsonl", 400)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-nobody")
    return desk


@pytest.mark.parametrize("provider", ["auto", "openai"])
@pytest.mark.parametrize("verb", ["plan", "validate", "estimate", "submit"])
def test_every_command_says_that_only_the_budget_is_in_the_way(many: Desk, verb: str, provider: str) -> None:
    asked = (*MINI, "--set", f"provider={provider}")
    ran = many.call(verb, "recipe.yaml", *asked)
    assert ran.code == 7
    told = ran.out if verb == "plan" else ran.err
    assert "openai/gpt-4o-mini costs up to " in told
    assert "limits.max_cost is 0.01" in told
    if verb != "plan":
        assert "E306" not in ran.err, "what stands against others is no question of money"
    assert many.call("status", "--json").json == []
    enough = (*asked, "--set", "limits.max_cost=9 USD", "--set", "allow_ignored=[limits.max_cost]")
    assert many.call(verb, "recipe.yaml", *enough).code == 0


@pytest.mark.parametrize("provider", ["auto", "openai"])
@pytest.mark.parametrize("verb", ["plan", "validate", "estimate", "submit"])
def test_what_stands_in_the_way_beside_the_budget_is_another_code(many: Desk, verb: str, provider: str) -> None:
    asked = (*MINI, "--set", f"provider={provider}", "--set", "limits.quality=arena >= 1")
    assert many.call(verb, "recipe.yaml", *asked).code == 6


@pytest.mark.parametrize("provider", ["auto", "local"])
def test_own_machines_are_held_against_the_limit(desk: Desk, monkeypatch: pytest.MonkeyPatch, provider: str) -> None:
    monkeypatch.setenv("FT_GPU_HOUR_USD", "3")
    little = ("recipe.yaml", "--set", f"provider={provider}", "--set", "limits.max_cost=0.00 USD")
    assert desk.call("plan", *little).code == 0, "how long it takes is not known, so neither is the cost"
    assert desk.call("validate", *little).code == 0
    desk.ended()
    before = desk.call("status", "--json").json
    for verb in ("plan", "validate", "estimate", "submit"):
        ran = desk.call(verb, *little)
        assert ran.code == 7, verb
        told = ran.out if verb == "plan" else ran.err
        assert "local/builtin:tiny-llama costs up to " in told
        assert "limits.max_cost is 0" in told
        assert "1 x 3 an hour, by trainings that have run here" in told
    assert desk.call("status", "--json").json == before
    enough = (*little[:-1], "limits.max_cost=99999 USD")
    assert [desk.call(verb, *enough).code for verb in ("plan", "validate", "estimate", "submit")] == [0] * 4
    monkeypatch.delenv("FT_GPU_HOUR_USD")
    assert desk.call("validate", *little).code == 0, "nobody has said what an hour costs"


def test_below_the_table_stands_what_would_help_where_least_is_in_the_way(many: Desk) -> None:
    auto = ("plan", "recipe.yaml", "--set", "provider=auto", "--set", "base_model=gpt-4o-mini")
    ran = many.call(*auto, "--set", "limits.quality=areana >= 900", "--set", "limits.data=local_only")
    assert ran.code == 6
    _, _, below = ran.out.partition("what would help where least is in the way")
    assert "  azure, openai: no scores are called 'areana'" in below
    assert "    fix: `ft catalogue scores import FILE.csv --name areana` imports them" in below
    assert "  openai: openai gets the data, and the recipe keeps it here" in below, "all reasons, not the first"
    assert "fireworks" not in below, "it has not got the model"
    named = many.call("plan", "recipe.yaml", "--set", "provider=openai", "--set", "base_model=nonsense")
    _, _, below = named.out.partition("what would help")
    assert (named.code, "    why: it knows gpt-" in below, "azure" in below) == (6, True, False)
    assert "what would help" not in many.call("plan", "recipe.yaml").out
    none = many.call("plan", "recipe.yaml", "--set", "provider=anthropic")
    assert (none.code, "what would help" in none.out) == (6, False), "its way is in the table"
    assert many.call(*auto, "--set", "limits.data=local_only", "--json").json


def test_a_day_that_its_source_only_promises_is_shown_so(many: Desk) -> None:
    azure = load().provider("azure")
    assert azure is not None
    ends = ((each, each.dates.create_until) for each in azure.models)
    model, until = next((each, day) for each, day in ends if day and day.at_least)
    asked = ("plan", "recipe.yaml", "--set", "provider=azure", "--set", f"base_model={model.name}")
    row = next(each for each in many.call(*asked, "--json").json if each["target"] == "azure")
    assert (row["create_until"], row["create_at_least"]) == (str(until.value), True)
    line = next(each for each in many.call(*asked).out.splitlines() if each.startswith("azure "))
    assert line.split()[1] == "CHOSEN", "the verdict stands where a narrow terminal shows it"
    assert f"  {row['create_until']} or later  " in line


def test_scores_that_nobody_has_imported_are_told_by_name(many: Desk) -> None:
    (many.folder / "arena.csv").write_text("model,score\nbuiltin:tiny-llama,950\n")
    assert many.call("catalogue", "scores", "import", "arena.csv", "--name", "arena").code == 0
    ran = many.call("validate", "recipe.yaml", "--set", "limits.quality=areana >= 900")
    assert ran.code_and_fault == (6, "E318")
    assert "no scores are called 'areana'" in ran.err
    assert "why: imported are arena" in ran.err
    other = many.call("validate", "recipe.yaml", "--set", "limits.quality=arena >= 960")
    assert "has 950 in the scores 'arena', and 960 are wanted" in other.err
