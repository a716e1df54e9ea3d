"""The commands over the catalogue, with a sheet of one's own over it."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from finetune.cli import catalogue, exits
from finetune.jobs import Job
from tests.cli.desk import Desk
from tests.cli.terminal import terminal

OWN = """\
provider: {provider}
version: 1
title: Our host
sources:
  wiki: {{url: https://wiki.example/host, title: What we agreed, read: {read}}}
data: {{sft: {{format: openai}}}}
dates: {{create_until: {{value: {ends}, source: wiki}}, serve_until: {{value: {ends}, source: wiki}}}}
prices: [{{usd: "0.25", per: million training tokens, source: wiki, note: our contract}}]
models:
  - name: our-model
    context: {{value: 4096, source: wiki}}
    methods: {{sft: {{value: true, source: wiki}}}}
    open_weights: {{value: maker/our-model, source: wiki}}
"""


def days(count: int) -> str:
    """So many days from now, as the commands reckon them."""
    return (datetime.now(UTC).date() + timedelta(days=count)).isoformat()


@pytest.fixture
def ours(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A sheet of a provider that ships none; it was read today and ends in 30 days."""
    path = desk.write("ours.yaml", OWN.format(provider="ours", read=days(0), ends=days(30)))
    monkeypatch.setenv("FT_CATALOGUE", str(path))
    return path


@pytest.mark.usefixtures("ours")
def test_show_lists_all_providers_those_of_ones_own_too(desk: Desk) -> None:
    ran = desk.call("catalogue", "show")
    (row,) = [line for line in ran.out.splitlines() if line.startswith("ours ")]
    assert row.split() == ["ours", "Our", "host", "trainer", "sft", "1", days(30), days(0)]
    found = desk.call("catalogue", "show", "--json").json
    assert {"openai", "local", "ours"} <= {each["target"] for each in found}
    assert {each["target"]: each["models"] for each in found}["ours"] == ["our-model"]


@pytest.mark.usefixtures("ours")
@pytest.mark.parametrize("name", ["our-model", "maker/our-model"])
def test_show_tells_of_a_model_everywhere_with_its_sources(desk: Desk, name: str) -> None:
    ran = desk.call("catalogue", "show", name)
    for part in (
        "ours/our-model  Our host, trainer",
        "local/maker/our-model",
        "context  4,096 tokens [wiki]",
        f"no new jobs from {days(30)} [wiki]",
        "0.25 USD per million training tokens [wiki]; our contract",
        f"[wiki] What we agreed, read {days(0)}: https://wiki.example/host",
    ):
        assert part in ran.out
    by_target = {each["target"]: each for each in desk.call("catalogue", "show", name, "--json").json}
    assert set(by_target) == {"ours", "local"}
    found = by_target["ours"]
    assert (found["methods"], found["context"], found["stale"]) == (["sft"], 4096, False)
    assert found["prices"][0]["usd"] == "0.25"
    assert found["dates"] == [
        {"ends": name, "day": days(30), "at_least": False, "source": "wiki"} for name in ("create_until", "serve_until")
    ]


SAID = """\
provider: ours
version: 1
title: Our host
sources: {wiki: {url: https://wiki.example/host, title: What we agreed, read: 2026-11-29}}
served: [{at: ours, source: wiki, note: once it is deployed}]
data:
  all: {min_rows: {value: 10, source: wiki, note: of each file}, images: {value: false, source: wiki, note: but for m}}
  sft: {format: openai, max_turns: {value: 3, source: wiki, note: longer ones are cut}}
  dpo: {format: openai-dpo, max_answer_messages: {value: 1, source: wiki, note: of pairs alone}}
models:
  - name: m
    methods: {sft: {value: true, source: wiki, note: in preview}, dpo: {value: false, source: wiki, note: by hand only}}
    data: {all: {images: {value: true, source: wiki}}}
  - {name: n, methods: {sft: {value: true, source: wiki}}}
"""


def test_show_tells_what_is_noted_and_no_limits_of_a_method_that_is_not_trained(desk: Desk, ours: Path) -> None:
    ours.write_text(SAID)
    said = [line.strip() for line in desk.call("catalogue", "show", "m").out.splitlines()]
    for line in (
        "methods  sft yes [wiki]; in preview",
        "methods  dpo no [wiki]; by hand only",
        "limits   sft as openai: min_rows 10, images yes, max_turns 3",
        "limits   min_rows [wiki]; of each file",
        "limits   max_turns [wiki]; longer ones are cut",
        "served   ours [wiki]; once it is deployed",
    ):
        assert line in said
    assert not [line for line in said if "openai-dpo" in line or "of pairs alone" in line or "but for m" in line]
    (found,) = desk.call("catalogue", "show", "m", "--json").json
    assert (found["methods"], set(found["limits"])) == (["sft"], {"sft"})
    assert found["methods_said"]["dpo"] == {"trained": False, "source": "wiki", "note": "by hand only"}


def test_show_tells_a_method_of_which_nothing_is_published_from_one_that_there_is_not(desk: Desk, ours: Path) -> None:
    ours.write_text(SAID)
    said = [line.strip() for line in desk.call("catalogue", "show", "n").out.splitlines()]
    assert "methods  dpo: whether it is trained by that is not published" in said
    assert "limits   dpo max_answer_messages [wiki]; of pairs alone" in said
    (found,) = desk.call("catalogue", "show", "n", "--json").json
    assert (set(found["methods_said"]), set(found["limits"])) == ({"sft"}, {"sft", "dpo"})


def test_a_shipped_claim_is_overridden(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (
        "provider: openai\nsources: {wiki: {url: https://wiki.example/x, title: X, read: 2026-11-29}}\n"
        'models: [{name: gpt-4.1, prices: [{usd: "1.11", per: million training tokens, source: wiki}]}]\n'
    )
    desk.write("folder.yaml", text)
    monkeypatch.setenv("FT_CATALOGUE", str(desk.folder))
    desk.recipe.unlink()
    out = desk.call("catalogue", "show", "gpt-4.1").out
    assert "price    1.11 USD per million training tokens [wiki]" in out
    assert "12.00 USD per million output tokens" in out
    assert "25.00 USD" not in out


def test_what_was_read_long_ago_is_marked(desk: Desk, ours: Path) -> None:
    assert "long ago" not in desk.call("catalogue", "show", "ours").out
    ours.write_text(OWN.format(provider="ours", read=days(-91), ends=days(30)))
    assert "read long ago: look again" in desk.call("catalogue", "show", "ours").out
    assert f"{days(-91)} read long ago" in desk.call("catalogue", "show").out
    (found,) = desk.call("catalogue", "show", "ours", "--json").json
    assert (found["stale"], found["sources"]["wiki"]["stale"]) == (True, True)


def test_a_plan_says_when_its_target_was_read_long_ago(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (
        "provider: local\nsources: {{wiki: {{url: https://wiki.example/x, title: X, read: {}}}}}\n"
        "models: [{{name: 'builtin:tiny-llama', context: {{value: 512, source: wiki}}}}]\n"
    )
    path = desk.write("own.yaml", text.format(days(-91)))
    monkeypatch.setenv("FT_CATALOGUE", str(path))
    ran = desk.call("plan", "recipe.yaml", "--json")
    (local,) = [each for each in ran.json if each["target"] == "local"]
    assert (ran.code, local["verdict"], local["context"]) == (0, "chosen", 512)
    assert [each["code"] for each in local["reasons"]] == ["E320"]
    assert "read 91 days ago" in desk.call("plan", "recipe.yaml").out
    path.write_text(text.format(days(-90)))
    (local,) = [each for each in desk.call("plan", "recipe.yaml", "--json").json if each["target"] == "local"]
    assert local["reasons"] == []


@pytest.mark.parametrize("args", [("catalogue", "show"), ("plan", "recipe.yaml"), ("providers", "--offline")])
def test_a_fault_of_ones_own_sheet_is_told_at_its_line(desk: Desk, ours: Path, args: tuple[str, ...]) -> None:
    ours.write_text("provider: openai\ncolour: red\n")
    ran = desk.call(*args)
    assert ran.code_and_fault == (1, "E391")
    assert f"{ours}:2: error E391: `colour` is not known" in ran.err
    ours.unlink()
    assert desk.call(*args).code_and_fault == (1, "E390")


def test_a_name_that_nothing_has(desk: Desk) -> None:
    ran = desk.call("catalogue", "show", "gpt-4.1-mimi")
    assert ran.code_and_fault == (exits.NOT_FOUND, "E707")
    assert "did you mean gpt-4.1-mini" in ran.err


def test_what_many_targets_have_is_meant_once(desk: Desk) -> None:
    ran = desk.call("catalogue", "show", "gpt-4o-min")
    near = ran.err.partition("did you mean ")[2].partition("?")[0].split(" or ")
    assert "gpt-4o-mini" in near
    assert len(near) == len(set(near))


def test_a_target_is_shown_alone_as_recipes_write_it(desk: Desk) -> None:
    def shown(name: str) -> list[str]:
        found = desk.call("catalogue", "show", name, "--json").json
        return [f"{each['target']}/{each['base_model']}" for each in found]

    assert {"openai/gpt-4o-mini", "azure/gpt-4o-mini"} <= {*shown("gpt-4o-mini")}
    assert shown("openai/gpt-4o-mini") == ["openai/gpt-4o-mini"]
    assert shown("local/Qwen/Qwen3-32B") == ["local/Qwen/Qwen3-32B"]
    assert "together/openai/gpt-oss-20b" in shown("openai/gpt-oss-20b"), "a name of the hub goes before a target"
    assert desk.call("catalogue", "show", "anthropic/gpt-4o-mini").code_and_fault == (exits.NOT_FOUND, "E707")


@pytest.mark.parametrize(
    ("text", "code", "what", "why"),
    [
        ("# later\n", "E390", "the file says nothing", "one of them says whose it is"),
        (
            "provider: openai\nmodels: [{name: gpt-4.1, context: {value: many, source: x}}]\n",
            "E392",
            "`models[0].context.value` must be a whole number",
            "It is `many`",
        ),
    ],
)
def test_what_is_wrong_with_a_sheet_of_ones_own_has_a_why(
    desk: Desk, ours: Path, text: str, code: str, what: str, why: str
) -> None:
    ours.write_text(text)
    ran = desk.call("catalogue", "show")
    assert ran.code_and_fault == (exits.FAILED, code)
    assert what in ran.err
    assert why in ran.err


def test_a_place_of_sheets_that_is_not_there_is_told_from_one_without_any(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place, says in (("nowhere.yaml", "there is no file or folder"), ("none", "ends in .yaml")):
        (desk.folder / "none").mkdir(exist_ok=True)
        monkeypatch.setenv("FT_CATALOGUE", str(desk.folder / place))
        ran = desk.call("catalogue", "show")
        assert ran.code_and_fault == (exits.FAILED, "E390")
        assert says in ran.err
        assert "correct FT_CATALOGUE" in ran.err


@pytest.mark.parametrize("name", ["", "  "])
def test_an_empty_name_is_not_all_of_them(desk: Desk, name: str) -> None:
    ran = desk.call("catalogue", "show", name)
    assert (ran.code_and_fault, ran.out) == ((exits.USAGE, "E901"), "")


@pytest.mark.parametrize(("name", "says"), [("opnai", "did you mean openai"), ("nosuch", "write them too")])
def test_a_sheet_of_a_provider_that_there_is_not(desk: Desk, ours: Path, name: str, says: str) -> None:
    ours.write_text(f"provider: {name}\ntitle: Mine\n")
    ran = desk.call("catalogue", "show")
    assert ran.code_and_fault == (1, "E391")
    assert f"{ours}:1: error E391: no sheet of a provider '{name}' ships with ft" in ran.err
    assert "this one lacks version, sources\n" in ran.err
    assert says in ran.err


def test_doctor_looks_at_the_catalogue(desk: Desk, ours: Path) -> None:
    def looked() -> dict[str, str]:
        (check,) = [each for each in desk.call("doctor", "--json").json if each["name"] == "catalogue"]
        return {str(key): str(value) for key, value in check.items()}

    assert (looked()["verdict"], str(ours) in looked()["said"]) == ("ok", True)
    ours.write_text("provider: openai\ncolour: red\nsize: 3\n")
    broken = looked()
    assert broken["verdict"] == "broken"
    assert broken["said"].startswith(f"{ours}:2: E391 `colour` is not known: ")
    assert broken["said"].endswith(" (and 1 more)")
    assert broken["fix"]
    assert desk.call("doctor").code == exits.FAILED
    ours.unlink()
    assert "E390" in looked()["said"]


def test_scores_are_imported_listed_and_asked_for(desk: Desk) -> None:
    assert "no scores yet" in desk.call("catalogue", "scores").err
    assert desk.call("catalogue", "scores", "--json").json == []
    table = desk.write("table.csv", "Model,Elo\nbuiltin:tiny-llama,900.5\nother,1200\n")
    columns = ("--score-column", "elo")
    made = desk.call("catalogue", "scores", "import", table, "--name", "arena", *columns, "--json").json
    assert made == {"name": "arena", "models": 2, "place": str(desk.home / "scores" / "arena.csv")}
    assert desk.call("catalogue", "scores").out.split()[4:] == ["arena", "2", "900.5", "1200"]
    assert desk.call("catalogue", "scores", "--name", "arena").out.split()[2:] == [
        *("other", "1200"),
        *("builtin:tiny-llama", "900.5"),
    ]
    (found,) = desk.call("catalogue", "scores", "--json").json
    assert found == {"name": "arena", "scores": {"builtin:tiny-llama": 900.5, "other": 1200.0}}
    for least, codes in ((900, []), (901, ["E318"])):
        ran = desk.call("plan", "recipe.yaml", "--set", f"limits.quality=arena >= {least}", "--json")
        (local,) = [each for each in ran.json if each["target"] == "local"]
        assert [each["code"] for each in local["reasons"]] == codes


def test_faulty_scores_are_refused_and_those_before_stay(desk: Desk) -> None:
    good, bad = desk.write("good.csv", "model,score\na,1\n"), desk.write("bad.csv", "model,score\na,1\na,2\nb,x\n")
    assert desk.call("catalogue", "scores", "import", good, "--name", "arena").code == 0
    ran = desk.call("catalogue", "scores", "import", bad, "--name", "arena")
    assert (ran.code, ran.codes) == (exits.USAGE, ["E395", "E395"])
    assert f"{bad}:3: error E395: a is there twice" in ran.err
    assert f"{bad}:4: error E395: the score of b is no number" in ran.err
    assert desk.call("catalogue", "scores", "--json").json == [{"name": "arena", "scores": {"a": 1.0}}]
    assert desk.call("catalogue", "scores", "import", good, "--name", "a b").code_and_fault == (exits.USAGE, "E901")
    assert desk.call("catalogue", "scores", "--name", "other").code_and_fault == (exits.NOT_FOUND, "E707")


def of_ours(desk: Desk, job: Job) -> None:
    """A version that the provider `ours` has trained."""
    with desk.world() as world:
        trained = replace(job, provider="ours", base_model="our-model", artifact={"model": "ft:there"})
        world.models.add_model(trained, world.clock.now())


def test_expiring_tells_what_ends_and_what_to_do(desk: Desk, ours: Path) -> None:
    assert "nothing of ours ends" in desk.call("expiring").err
    job_id = desk.submit()
    with desk.world() as world:
        job = world.jobs.get(job_id)
    of_ours(desk, job)
    ran = desk.call("expiring")
    assert ran.code == 0
    rows = [line.split() for line in ran.out.splitlines() if line.startswith(days(30))]
    assert [row[:6] for row in rows] == [
        [days(30), "30", "days", "recipe", "bot", "ours/our-model"],
        [days(30), "30", "days", "version", "bot@v1", "ours/our-model"],
    ]
    assert "bot: `ft plan RECIPE --set provider=auto`" in ran.out
    assert "bot@v1: `ft retarget NAME@vN --to TARGET`" in ran.out
    assert "base_model: maker/our-model" in ran.out
    found = desk.call("expiring", "--within", "5w", "--json").json
    assert [(each["kind"], each["ends"], each["days"]) for each in found] == [
        ("recipe", "create_until", 30),
        ("version", "serve_until", 30),
    ]
    assert desk.call("expiring", "--within", "29d", "--json").json == []
    ours.write_text(OWN.format(provider="ours", read=days(0), ends=days(-1)))
    assert "over" in desk.call("expiring", "--within", "0d").out


@pytest.mark.parametrize("columns", [44, 60, 100])
def test_what_ends_can_be_read_at_every_width(desk: Desk, ours: Path, columns: int) -> None:
    job_id = desk.submit()
    with desk.world() as world:
        of_ours(desk, world.jobs.get(job_id))
    with terminal("expiring", cwd=desk.folder, columns=columns, NO_COLOR="1") as screen:
        assert screen.end() == exits.OK
    lines = screen.seen.splitlines()
    assert max(map(len, lines)) <= columns
    (row,) = [line for line in lines if line.startswith(days(30)) and "bot@v1" in line]
    assert ("ours/our-model" in row) is (columns >= 60)
    assert ("does not answer any more" in row) is (columns == 100)
    said = " ".join(screen.seen.split())
    assert ("TARGET ours/our-model" in said) is (columns == 44)
    assert ("ENDS does not answer any more" in said) is (columns < 100)
    assert "bot@v1: `ft retarget NAME@vN --to TARGET`" in said


@pytest.mark.usefixtures("ours")
def test_of_what_no_day_is_known_that_is_said(desk: Desk) -> None:
    job_id = desk.submit()
    with desk.world() as world:
        old = replace(world.jobs.get(job_id), name="old", provider="theirs")
        world.models.add_model(replace(old, artifact={"model": "ft:there"}), world.clock.now())
    assert "of old@v1 the catalogue has no last day" in desk.call("expiring").err
    assert catalogue.some([f"a@v{number}" for number in range(1, 8)]) == "a@v1, a@v2, a@v3, a@v4, a@v5 and 2 more"


@pytest.mark.usefixtures("ours")
def test_what_a_stand_in_has_trained_does_not_end(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    job_id = desk.submit()
    with desk.world() as world:
        job = world.jobs.get(job_id)
    of_ours(desk, job)
    monkeypatch.setenv("FT_SANDBOX", "ours")
    assert desk.call("expiring", "--json").json == []


@pytest.mark.parametrize("within", ["soon", "-1d", "3", "1.5d", "999999d", "99999999999d"])
def test_a_time_that_is_none(desk: Desk, within: str) -> None:
    ran = desk.call("expiring", "--within", within)
    assert ran.code_and_fault == (exits.USAGE, "E901")
    assert "a number of days or weeks, 99999 at most" in ran.err
