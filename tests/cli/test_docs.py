"""docs/cli.md and docs/json.md say what the code does."""

import inspect
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import openai
import pytest
import typer.main

from finetune import settings, views
from finetune.cli import exits
from finetune.cli.main import app
from finetune.errors import Problem
from finetune.expiring import Ending
from finetune.importing import Imported
from finetune.jobs import Change
from finetune.promotions import Wanted, begun
from finetune.sandbox.openai.sandbox import OpenAiSandbox
from finetune.sandbox.server import Server
from finetune.spec import Recipe
from finetune.spending import Held, Spending
from finetune.store import SqlPromotions
from finetune.versions import Placed
from tests.cli.desk import CLOSED, RECIPE, Desk
from tests.support import tiny
from tests.support.jobs import RECIPE as RECIPE_OF
from tests.unit.memory.test_shape import LLAMA, MIXTRAL

#: A model whose context and dates are published, and one with open weights of a known size.
TUNED, SIZED = "gpt-4.1-mini-2025-04-14", "Qwen/Qwen3.5-9B"
DOCS = Path(__file__).parents[2] / "docs"
Row = dict[str, str]


def _tables(page: str) -> dict[str, list[Row]]:
    """The tables of a page, by the heading above them."""
    found: dict[str, list[Row]] = {}
    heading, head = "", None
    for line in (DOCS / page).read_text().splitlines():
        if line.startswith("#"):
            heading, head = line.lstrip("# "), None
        elif line.startswith("|"):
            cells = [cell.strip().strip("`") for cell in line.strip("|").split("|")]
            if head is None:
                head = cells
            elif set(line) - set("|-"):
                found.setdefault(heading, []).append(dict(zip(head, cells, strict=True)))
    return found


def test_exit_codes() -> None:
    documented = [int(row["code"]) for row in _tables("cli.md")["Exit codes"]]
    known = [value for name, value in vars(exits).items() if name.isupper() and isinstance(value, int)]
    assert documented == sorted(known)


def test_commands() -> None:
    documented = [" ".join(re.findall(r"(?<![\w[-])[a-z]+(?![\w\]])", row["command"])[1:]) for row in _commands()]
    assert documented == list(_known())


def _known() -> dict[str, Any]:
    """Commands by their words; a group that is one by itself comes before those in it."""

    def walk(words: tuple[str, ...], command: Any) -> Iterator[tuple[str, Any]]:
        inner = getattr(command, "commands", {})
        if words and (not inner or command.invoke_without_command):
            yield " ".join(words), command
        for name, each in inner.items():
            yield from walk((*words, name), each)

    return dict(walk((), typer.main.get_command(app)))


def _commands() -> list[Row]:
    return _tables("cli.md")["Commands"]


def test_environment_variables() -> None:
    documented = [row["variable"] for row in _tables("cli.md")["Environment"]]
    known = re.findall(r'env(?:\.get\(|\[)"(\w+)"', inspect.getsource(settings.from_environment))
    assert documented == [*dict.fromkeys(known), "NO_COLOR", "COLUMNS"]
    assert len(documented) > 5


def _samples(desk: Desk) -> dict[str, list[Any]]:
    """JSON of everything there is, in all its states."""
    ended, failed = desk.ended(), desk.ended("failed", args=("--force",))
    forced = desk.call("submit", "recipe.yaml", "--force", "--json").json
    limits = ("--set", "limits.deadline=6h", "--set", "limits.max_cost=5 USD")
    desk.say(ended_job := desk.submit("--set", "seed=9", *limits), "something")
    jobs = desk.call("status", "--json").json
    jobs[0]["cost"] = {"low": "1.00", "high": "2.00", "basis": "tokens"}
    jobs[0]["progress"] = {"step": 1, "total_steps": 2, "loss": None, "tokens_per_s": 1.5, "eta_s": 2.0}
    logs = [desk.call("logs", job_id, "--json").json for job_id in (ended.id, failed.id, ended_job)]
    desk.write("bad.yaml", RECIPE.replace("seed", "sead"))
    desk.write("odd.yaml", RECIPE.replace("data.jsonl", "nothing.jsonl"))
    reports = desk.call("validate", "recipe.yaml", "bad.yaml", "odd.yaml", "nothing.yaml", "--json").json
    desk.write("empty.jsonl", "")
    surveys = [desk.call("data", "stats", name, "--json").json for name in ("data.jsonl", "empty.jsonl")]
    counted = ("--target", f"local/{tiny.save_base(desk.folder / 'base')}")
    surveys.append(desk.call("data", "stats", "data.jsonl", *counted, "--json").json)
    desk.write("far.yaml", RECIPE.replace("data.jsonl", '"hf:a/b?split=train"'))
    reports += desk.call("validate", "far.yaml", "--json").json
    offers = desk.call("providers", "--offline", "--json").json
    with Server(OpenAiSandbox()) as server, pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment.items():
            patch.setenv(name, value)
        offers.append(desk.call("providers", "openai", "--json").json)
        row = b'{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n'
        with openai.OpenAI() as client:
            client.files.create(file=(f"ft-{'0' * 32}-train.jsonl", row), purpose="fine-tune")
        remote_files = desk.call("files", "--json").json
        patch.setenv("OPENAI_API_KEY", "wrong")
        offers.append(desk.call("providers", "openai", "--json").json)
    with desk.world() as world:
        now = world.clock.now()
        world.jobs.request_cancel(forced["id"], now)
        lease = world.jobs.claim(ended_job, "test", now, now - now)
        assert lease is not None
        change = Change(state=lease.job.state, due_at=now, fields={"progress": jobs[0]["progress"]})
        world.jobs.apply(lease, change, now)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FT_LIMITS", "owner=0")
        desk.submit("--set", "seed=10")
        queued = desk.call("queue", "--json").json
    desk.staff()
    workers = desk.call("workers", "--json").json
    promoted = [desk.call("promote", "bot@v1", "--to", "a", "--json").json for _ in range(2)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VLLM_URL", f"http://{CLOSED}")
        refused = desk.call("promote", "bot@v1", "--to", "a", "--gateway", "vllm", "--json")
    # A stand-in's model lies nowhere.
    assert (refused.code, refused.json["promotion"]["error"]["code"]) == (1, "E837")
    models = desk.call("models", "list", "--json").json
    with desk.world() as world:
        world.models.add_report("bot", 1, {"suite": "held-out", "outcomes": []}, world.clock.now())
    shown = [desk.call("models", "show", "bot@v1", "--json").json]
    with desk.world() as world, pytest.MonkeyPatch.context() as patch:
        now = world.clock.now()
        placed = Placed(gateway="vllm", id="d", name="bot", version=1, alias="a", listed_as="d", at=now)
        SqlPromotions(world.database).place(placed)
        patch.setenv("VLLM_URL", f"http://{CLOSED}")
        drifts = desk.call("models", "sync", "--dry-run", "--json").json
        gated = Recipe.model_validate({**RECIPE_OF, "gate": {"metric": "exact_match"}})
        under_way = begun(gated, Wanted(max_hosting="3 USD"), 1, promotion_id="pr_1", by="me", now=now)
    (desk.folder / "layers").mkdir()
    (desk.folder / "layers" / "config.json").write_text(json.dumps(LLAMA))
    mini = ("--set", "provider=openai", "--set", "base_model=gpt-4o-mini")
    layers = ("--set", "base_model=./layers")
    asked = ((), ("--set", f"base_model={TUNED}"), layers)
    planned = [desk.call("plan", "recipe.yaml", *more, "--json").json for more in asked]
    (desk.folder / "experts").mkdir()
    (desk.folder / "experts" / "config.json").write_text(json.dumps(MIXTRAL))
    changes = ((), layers, ("--set", "base_model=./experts"), mini)
    foreseen = [desk.call("estimate", "recipe.yaml", *more, "--json").json for more in changes]
    known = [desk.call("catalogue", "show", *more, "--json").json for more in ((), (TUNED,), (SIZED,))]
    day = {"what": "serve_until", "day": date(2027, 1, 14), "at_least": False, "days": 46}
    where = {"provider": "openai", "base_model": TUNED, "source": "https://example.org", "fix": "plan anew"}
    ending = Ending(kind="version", ref="bot@v1", **where, **day)  # type: ignore[arg-type]
    told = {"remote_id": "ftjob-1", "base_model": "b", "model": "ft:b"}
    imported = [Imported(**told, ref="bot@v1", rows=3), Imported(**told, ref=None, rows=None, why="no such method")]
    one, two = Decimal("1.00"), Decimal("2.00")
    spent = Spending(job_id="ft_1", provider="openai", low=one, high=two, actual=two, how="counted")
    held = replace(spent, seconds=Held(low=1.0, high=2.0, actual=1.5), memory=Held(low=1, high=2, actual=3))
    none = replace(spent, seconds=Held(low=0, high=1, actual=0), memory=Held(low=0, high=1, actual=0))
    there = ("--to", "local/builtin:tiny-llama", "--output", "new.yaml")
    retargeted = desk.call("retarget", "bot@v1", *there, "--json").json
    retargeted["changes"].append({**retargeted["changes"][0], "after": None})
    problems = [problem for report in reports for problem in report["problems"]]
    return {
        "Job": jobs,
        "Submit": [{key: forced[key] for key in forced.keys() - jobs[0].keys()}],
        "Queued job": [{key: one[key] for key in one.keys() - jobs[0].keys()} for one in queued],
        "Worker": workers,
        "Event": [event for log in logs for event in log["events"]],
        "Metric": [metric for log in logs for metric in log["metrics"]],
        "Model": models,
        "Card": [{key: one[key] for key in one.keys() - models[0].keys()} for one in shown],
        "Promote": [{key: one[key] for key in one.keys() - models[0].keys()} for one in promoted],
        "Promotion": [promoted[0]["promotion"], refused.json["promotion"], views.promotion(under_way)],
        "Traffic": desk.call("models", "history", "bot", "--json").json,
        "Drift": drifts,
        "Report": reports,
        "Target": [one for rows in planned for one in rows],
        "Entry": [one for rows in known for one in rows],
        "Ending": [views.ending(ending)],
        "Foreseen": [{key: one[key] for key in one.keys() - planned[0][0].keys()} for one in foreseen],
        "Need": [need for one in foreseen for need in one["needs"]],
        "Imported": [views.imported(each) for each in imported],
        "Retargeted": [retargeted],
        "Change": retargeted["changes"],
        "Spending": [*desk.call("costs", "--json").json, *map(views.spending, (spent, held, none))],
        "File": [file for survey in surveys for file in survey["files"]],
        "Survey": surveys,
        # Faults of recipes and data are always in a file.
        "Problem": [*problems, views.problem(Problem(code="E901", what="a fault that is nowhere"))],
        "Offer": offers,
        "Remote file": remote_files,
        "Check": desk.call("doctor", "--json").json,
    }


_TYPES: dict[str, Any] = {
    "string": lambda value: isinstance(value, str),
    "integer": lambda value: type(value) is int,
    "number": lambda value: type(value) in (int, float),
    "boolean": lambda value: isinstance(value, bool),
    "object": lambda value: isinstance(value, dict),
    "time": lambda value: re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", value),
    "day": lambda value: re.fullmatch(r"\d{4}-\d\d-\d\d", value),
    "list": lambda value: isinstance(value, list),
    "list of numbers": lambda value: isinstance(value, list) and all(type(one) in (int, float) for one in value),
    "list of evaluations": lambda value: isinstance(value, list) and all("outcomes" in one for one in value),
    "list of promotions": lambda value: isinstance(value, list) and all("evidence" in one for one in value),
    "list of strings": lambda value: isinstance(value, list) and all(isinstance(one, str) for one in value),
    "list of integers": lambda value: isinstance(value, list) and all(type(one) is int for one in value),
    "list of files": lambda value: isinstance(value, list) and all("seen" in one for one in value),
    "list of models": lambda value: isinstance(value, list) and all("methods" in one for one in value),
    "list of devices": lambda value: isinstance(value, list) and all({"id", "free_mb"} <= set(one) for one in value),
    "list of problems": lambda value: isinstance(value, list) and all("code" in one for one in value),
    "list of changes": lambda value: isinstance(value, list) and all({"before", "after"} <= set(one) for one in value),
    "list of needs": lambda value: isinstance(value, list) and all({"kind", "bytes"} <= set(one) for one in value),
    "anything": lambda value: value is not None,
}
#: Their content is not ours alone.
_OPEN = {
    "before",
    "after",
    "recipe",
    "gate",
    "evidence",
    "shares",
    "promotion",
    "artifact",
    "lineage",
    "limits",
    "methods_said",
    "sources",
    "cost",
    "trouble",
    "messages",
    "turns",
    "characters",
    "low",
    "high",
}


def test_json_fields(desk: Desk) -> None:
    tables = _tables("json.md")
    samples = _samples(desk)
    assert set(samples) == {heading for heading, rows in tables.items() if "field" in rows[0]}
    for heading, values in samples.items():
        documented = {row["field"]: row for row in tables[heading]}
        assert values, heading
        seen: dict[str, list[Any]] = {}
        for value in values:
            for name, each in _flat(value):
                seen.setdefault(name, []).append(each)
        assert seen.keys() == documented.keys(), heading
        for name, row in documented.items():
            told = [each for each in seen[name] if each is not None]
            assert told, f"{heading}: no sample of {name}"
            assert all(_TYPES[row["type"]](each) for each in told), f"{heading}.{name} is no {row['type']}: {told}"
            # Both ways: what is never null is not, and what may be null is so in some sample.
            assert (None in seen[name]) is (row["null"] != "-") or row["null"].startswith("where"), f"{heading}.{name}"


def _flat(value: dict[str, Any], prefix: str = "") -> Any:
    for key, each in value.items():
        yield prefix + key, each
        if isinstance(each, dict) and key not in _OPEN:
            yield from _flat(each, f"{prefix}{key}.")


def test_the_commands_with_json_are_those_of_the_page() -> None:
    page = _tables("json.md")["JSON"]
    documented = {" ".join(re.findall(r"(?<![\w[-])[a-z]+", row["command"])[1:]) for row in page}
    assert documented == {name for name, one in _known().items() if any("--json" in p.opts for p in one.params)}
