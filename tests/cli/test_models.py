"""eval, promote, rollback and models, as a user meets them."""

from collections.abc import Iterator
from datetime import timedelta

import pytest

from finetune.cli import exits
from finetune.files import digest
from finetune.sandbox.gateways.vllm import VllmSandbox
from finetune.sandbox.server import Server
from finetune.store import SqlPromotions
from finetune.versions import Placed, PromotionState
from tests.cli.desk import Desk
from tests.support.gateways import make_adapter

RECIPE = """\
version: 1
name: bot
base_model: builtin:tiny-llama
dataset: {path: data.jsonl}
validation: {split: 0.2}
gate: {metric: exact_match}
register: {alias: production, gateways: [vllm]}
lora: {r: 8}
"""


@pytest.fixture
def versions(desk: Desk) -> Desk:
    """bot@v1 and bot@v2."""
    desk.ended()
    desk.ended(args=("--force",))
    return desk


@pytest.fixture
def vllm(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> Iterator[VllmSandbox]:
    """A stand-in for vLLM that serves the recipe's base."""
    sandbox = VllmSandbox(base="builtin:tiny-llama")
    with Server(sandbox) as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        yield sandbox


def test_an_alias_moves_and_comes_back(versions: Desk) -> None:
    for version in (1, 2):
        ran = versions.call("promote", f"bot@v{version}", "--to", "production")
        assert (ran.code, ran.out) == (0, f"bot@production is now bot@v{version}\n")
    back = versions.call("rollback", "bot", "-y")
    assert (back.code, back.out) == (0, "bot@production is now bot@v1\n")
    assert "undo: ft rollback bot\n" in back.err
    moves = versions.call("models", "history", "bot", "--json").json
    assert [(move["shares"], move["reason"]) for move in moves] == [
        ({"v1": 1.0}, "roll back to v1"),
        ({"v2": 1.0}, "promote v2"),
        ({"v1": 1.0}, "promote v1"),
    ]
    table = versions.call("models", "history", "bot").out.splitlines()
    assert table[0].split() == ["SINCE", "ALIAS", "CALLS", "WHY", "BY"]
    assert len(table) == 4
    assert versions.call("models", "history", "bot", "--alias", "staging").out == ""


def test_a_gate_compares_with_what_a_user_says(versions: Desk) -> None:
    to = ("promote", "bot@v2", "--to", "production")
    ungated = versions.call(*to, "--over", "v1")
    assert (ungated.code, ungated.codes) == (2, ["E901"])
    assert "the recipe of bot has no gate" in ungated.err
    versions.ended(args=("--set", "gate.metric=exact_match", "--set", "validation.split=0.2", "--force"))
    unknown = versions.call("promote", "bot@v3", "--to", "production", "--over", "v9")
    assert (unknown.code, unknown.codes) == (5, ["E702"])
    assert versions.call("models", "history", "bot").out == ""


def test_a_canary_says_what_comes_next_and_what_takes_it_back(versions: Desk) -> None:
    versions.call("promote", "bot@v1", "--to", "production")
    ran = versions.call("promote", "bot@v2", "--to", "production", "--canary", "10%", "--pause", "3600")
    assert (ran.code, ran.out) == (0, "bot@v2 has 10% of the calls of bot@production\n")
    assert "next: 50% at " in ran.err
    assert "back: ft rollback bot\n" in ran.err
    shown = versions.call("models", "show", "bot@v2").out
    assert "10% of production, since" in shown
    assert ": shifting\n" in shown
    assert versions.call("rollback", "bot", "-y").out == "bot@production is now bot@v1\n"
    states = [one["state"] for one in versions.call("models", "show", "bot@v2", "--json").json["promotions"]]
    assert states == ["superseded"]


def test_wait_stays_until_a_canary_has_all_calls(versions: Desk) -> None:
    versions.call("promote", "bot@v1", "--to", "production")
    ran = versions.call("promote", "bot@v2", "--to", "production", "--canary", "0.1", "--pause", "0.2", "--wait")
    assert (ran.code, ran.out) == (0, "bot@production is now bot@v2\n")
    assert [line for line in ran.err.splitlines() if "of the calls" in line] == [
        "10% of the calls of production go to bot@v2",
        "50% of the calls of production go to bot@v2",
    ]


@pytest.mark.parametrize("share", ["0", "1", "100%", "0%", "ten", "-0.1", "1.5", "", "nan"])
def test_a_share_that_is_none(versions: Desk, share: str) -> None:
    ran = versions.call("promote", "bot@v1", "--to", "production", f"--canary={share}")
    assert ran.code_and_fault == (exits.USAGE, "E901")
    assert versions.call("models", "show", "bot@v1", "--json").json["promotions"] == []


@pytest.mark.parametrize("gateway", ["nosuch", "litellm"])
def test_a_gateway_that_is_not_set_up_marks_no_version(versions: Desk, gateway: str) -> None:
    ran = versions.call("promote", "bot@v1", "--to", "production", "--gateway", gateway)
    assert ran.code_and_fault == (exits.FAILED, "E836")
    shown = versions.call("models", "show", "bot@v1", "--json").json
    assert (shown["status"], shown["promotions"]) == ("trained", [])


@pytest.fixture
def gated(desk: Desk) -> str:
    """A job whose promotion has begun, and waits for a worker."""
    desk.write("recipe.yaml", RECIPE.replace("gateways: [vllm]", "gateways: [embedded]"))
    job = desk.ended()
    desk.staff()
    return job.id


@pytest.mark.parametrize(
    ("goal", "state", "code"),
    [
        ("live", "live", exits.OK),
        ("verified", "shifting", exits.OK),
        ("live", "refused", exits.GATE_REFUSED),
        ("verified", "failed", exits.FAILED),
        ("live", "superseded", exits.FAILED),
    ],
)
def test_wait_can_wait_for_the_promotion_too(desk: Desk, gated: str, goal: str, state: str, code: int) -> None:
    with desk.world() as world:
        promotions = SqlPromotions(world.database)
        (one,) = promotions.recent("bot")
        now = one.created_at
        assert (one.state, one.gateways) == ("evaluating", ("embedded",))
        grip = promotions.hold(one.id, "w", now, timedelta(seconds=30))
        assert grip is not None
        error = {"code": "E840", "what": "closed", "why": "x", "fix": "y"} if state in ("refused", "failed") else None
        ended = now if state != "shifting" else None
        promotions.write(grip, {"state": PromotionState(state), "finished_at": ended, "error": error})
    ran = desk.call("wait", gated, "--for", goal, "--timeout", "5")
    assert ran.code == code
    assert ("error E840" in ran.err) is (error is not None)


def test_a_promotion_that_takes_too_long(desk: Desk, gated: str) -> None:
    ran = desk.call("wait", gated, "--for", "live", "--timeout", "0.3")
    assert (ran.code, ran.codes[-1]) == (exits.TIMEOUT, "E810")


def test_what_nothing_promotes_cannot_be_waited_for(desk: Desk) -> None:
    job = desk.ended()
    assert desk.call("wait", job.id, "--for", "live").code_and_fault == (exits.USAGE, "E901")
    assert desk.call("wait", job.id, "--for", "ever").code_and_fault == (exits.USAGE, "E901")


def test_there_may_be_nothing_to_roll_back_to(versions: Desk) -> None:
    assert versions.call("rollback", "bot").code_and_fault == (exits.NOT_FOUND, "E835")
    assert versions.call("rollback", "nobody").code_and_fault == (exits.NOT_FOUND, "E702")


def test_eval_of_what_held_nothing_out_says_what_to_do(desk: Desk) -> None:
    job = desk.ended()
    for name in ("bot@v1", job.id):
        assert desk.call("eval", name).code_and_fault == (exits.FAILED, "E850")
    unfinished = desk.submit("--set", "seed=99")
    assert desk.call("eval", unfinished).code_and_fault == (exits.NOT_FOUND, "E702")


def test_versions_are_compared(desk: Desk) -> None:
    desk.ended()
    desk.ended(args=("--set", "lora.r=4"))
    rows = {row["field"]: row for row in desk.call("models", "diff", "bot@v1", "bot@v2", "--json").json}
    assert rows["recipe.lora.r"] == {"field": "recipe.lora.r", "bot@v1": None, "bot@v2": 4}
    assert desk.call("models", "diff", "bot@v1", "bot@v2").out.split()[:3] == ["FIELD", "bot@v1", "bot@v2"]
    same = desk.call("models", "diff", "bot@v1", "bot@v1")
    assert (same.out, same.err) == ("", "bot@v1 and bot@v1 differ in nothing that is recorded\n")


def test_where_a_version_comes_from(desk: Desk) -> None:
    job = desk.ended()
    found = desk.call("models", "lineage", "bot@v1", "--json").json
    assert (found["job"], found["base_model"], found["recipe"]["seed"]) == (job.id, "builtin:tiny-llama", 7)
    lines = desk.call("models", "lineage", "bot@v1").out.splitlines()
    assert f"{'job':24}  {job.id}" in lines
    assert any(line.startswith("data.digest ") for line in lines)


@pytest.mark.parametrize(
    ("change", "code", "line"),
    [
        (("metric: exact_match", "metric: exactly"), "E851", 6),
        (("metric: exact_match", "metric: loss, guards: [nothing.yaml]"), "E850", 6),
        (("validation: {split: 0.2}\n", ""), "E850", 5),
        (("gateways: [vllm]", "gateways: [nosuch]"), "E836", 7),
        (("lora: {r: 8}", "lora: {r: 64}"), "E826", 7),
        (("base_model: builtin:tiny-llama", "base_model: HuggingFaceTB/SmolLM2-135M"), "E828", 7),
    ],
)
def test_what_cannot_work_is_told_before_anything_is_trained(
    desk: Desk, vllm: VllmSandbox, change: tuple[str, str], code: str, line: int
) -> None:
    assert change[0] in RECIPE
    desk.write("recipe.yaml", RECIPE.replace(*change))
    ran = desk.call("validate", "recipe.yaml", "--json")
    assert ran.code == exits.NOT_ELIGIBLE
    (problem,) = ran.json[0]["problems"]
    assert (problem["code"], problem["line"]) == (code, line)
    assert desk.call("submit", "recipe.yaml").code == exits.NOT_ELIGIBLE
    assert desk.call("status", "--json").json == []


def test_a_gateway_that_is_away_is_only_told(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be back when the training has ended."""
    monkeypatch.setenv("VLLM_URL", "http://127.0.0.1:1")
    desk.write("recipe.yaml", RECIPE)
    ran = desk.call("validate", "recipe.yaml", "--json")
    assert ran.code == exits.OK
    assert [(one["code"], one["level"]) for one in ran.json[0]["problems"]] == [("E820", "warning")]


def test_what_can_work_has_nothing_against_it(desk: Desk, vllm: VllmSandbox) -> None:
    """But a note: its chat template is known once the base has been built."""
    desk.write("recipe.yaml", RECIPE)
    ran = desk.call("validate", "recipe.yaml", "--json")
    assert ran.code == exits.OK
    (note,) = ran.json[0]["problems"]
    assert (note["code"], note["level"], note["field"]) == ("E842", "warning", "register.gateways")
    assert "builtin:tiny-llama is not built yet" in note["why"]
    assert note["fix"] == "ft builds it for its first training"


def test_a_version_whose_files_have_changed_is_not_promoted(desk: Desk) -> None:
    """Also where no gateway is told: the embedded server would have to load it."""
    folder = make_adapter(desk.folder / "adapter", "weights")
    with desk.world() as world:
        for number in range(2):
            artifact = {"path": str(folder), "digest": digest(folder) if number == 0 else "0" * 64}
            world.models.add_model(world.submit(f"ft_{number}", artifact=artifact), world.clock.now())
    assert desk.call("promote", "bot@v1", "--to", "production").code == exits.OK
    refused = desk.call("promote", "bot@v2", "--to", "production")
    assert (refused.code, refused.codes[-1:]) == (exits.FAILED, ["E838"])
    assert desk.call("models", "show", "bot").out.startswith(f"{'ref':24}  bot@v1\n")


@pytest.fixture
def lost(desk: Desk) -> Desk:
    """The books have something at a gateway that nobody has installed."""
    desk.ended()
    with desk.world() as world:
        placed = Placed(gateway="acme", id="d", name="bot", version=1, alias="a", listed_as="d", at=world.clock.now())
        SqlPromotions(world.database).place(placed)
    return desk


def test_a_gateway_that_is_no_more_can_be_forgotten(lost: Desk) -> None:
    told = lost.call("models", "sync", "--dry-run")
    assert told.code == 1
    assert told.out.startswith("acme: there is no gateway 'acme'; ")
    assert told.out.endswith("`ft models sync --forget acme`\n")
    assert lost.call("models", "sync", "--forget", "acme", "--gateway", "vllm").code_and_fault == (2, "E901")
    would = lost.call("models", "sync", "--forget", "acme", "--dry-run", "--json").json
    assert [(one["gateway"], one["kind"], one["mended"]) for one in would] == [("acme", "forgotten", False)]

    done = lost.call("models", "sync", "--forget", "acme")

    assert (done.code, done.err) == (0, "")
    assert done.out == "acme: bot@v1 is taken out of our books, and stays there if it is there (d)\n"
    again = lost.call("models", "sync", "--forget", "acme")
    assert (again.code, again.out, again.err) == (0, "", "acme: nothing of it is in our books\n")
    assert lost.call("models", "sync", "--dry-run").code == 0


def test_what_costs_by_the_hour_is_not_forgotten_in_silence(desk: Desk) -> None:
    desk.ended()
    with desk.world() as world:
        placed = Placed(gateway="azure", id="d", name="bot", version=1, alias="a", listed_as="d", at=world.clock.now())
        SqlPromotions(world.database).place(placed)
    done = desk.call("models", "sync", "--forget", "azure")
    assert done.code == 0
    assert done.err == "azure bills what is deployed there by the hour: see that it is gone, in its own console\n"
