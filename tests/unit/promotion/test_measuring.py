"""Measuring in a process of its own: what is asked, what is kept, what a process that fails leaves."""

import json
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from finetune.clock import SystemClock
from finetune.errors import EvaluationError, NotFound
from finetune.evaluation.request import read
from finetune.measuring import Address, Measurer, Rooms, Subjects, Wish
from finetune.placement import Device, Need
from finetune.process import group_members
from finetune.registry import Registry
from finetune.seats import AllTaken, seated
from finetune.store import SqlRuns
from tests.support.jobs import sqlite
from tests.support.promotions import Stage

#: Writes what it was asked beside the result, says a line, and ends as told.
PROGRAM = """
import json, os, pathlib, sys, time
folder, report, how, aside = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3], pathlib.Path(sys.argv[4])
asked = json.loads((folder / "request.json").read_text())
sees = os.environ.get("CUDA_VISIBLE_DEVICES")
aside.write_text(json.dumps({**asked, "pid": os.getpid(), "folder": str(folder), "sees": sees}))
say = lambda **line: open(report, "a").write(json.dumps({"at": "now", **line}) + "\\n")
say(kind="event", level="info", message="asking bot@v1")
if how == "hang":
    time.sleep(600)
if how == "die":
    os.kill(os.getpid(), 9)
if how in ("refuse", "later"):
    say(kind="failed", error={"code": "E854", "what": "refused", "why": "a", "fix": "b"}, retry=how == "later")
    sys.exit(1)
reports = [{"suite": one.get("name", "held-out"), "golden": [], "outcomes": []} for one in asked["suites"]]
(folder / "result.json").write_text(json.dumps({"reports": reports}))
say(kind="done", result="x")
"""


@pytest.fixture
def stage(tmp_path):
    stage = Stage(sqlite(tmp_path))
    stage.how, stage.aside = "well", tmp_path / "aside.json"
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)

    def command(folder: Path, report: Path):
        return [sys.executable, str(program), str(folder), str(report), stage.how, str(stage.aside)]

    rooms = Rooms(
        folder=tmp_path / "evaluations",
        cache=tmp_path / "cache",
        logs=tmp_path / "logs",
        suites=tmp_path / "suites",
        command=command,
    )
    registry = Registry(stage.models)
    stage.rooms, stage.said, stage.seats = rooms, [], stage.world.placements()
    stage.runs = SqlRuns(stage.world.database)
    stage.measurer = Measurer(
        stage.models,
        SystemClock(),
        job=stage.world.jobs.get,
        version=registry.version,
        subjects=Subjects(
            version=lambda model: {"kind": "adapter", "name": model.ref, "path": model.artifact["path"]},
            base=lambda model, sure: {"kind": "base"},
        ),
        card=lambda ref, resources: seated(stage.seats, stage.clock, ref, resources),
        places=rooms,
    )
    yield stage
    stage.close()


def measure(stage, wish=None, version=1):
    model = stage.models.models("bot")[version - 1]
    return stage.measurer.measure(model, wish or Wish(suites=("manners",)), stage.said.append)


def test_what_is_asked_and_what_is_kept(stage):
    reports = measure(stage, Wish(suites=("manners", "/s/x.yaml"), sample_size=50))
    asked = json.loads(stage.aside.read_text())
    assert asked["tuned"] == {"kind": "adapter", "name": "bot@v1", "path": "/a/0"}
    assert asked["other"] == {"kind": "base"}
    assert [(each["name"], each["label"]) for each in asked["suites"]] == [("manners", "manners"), ("/s/x.yaml",) * 2]
    assert (asked["base_model"], asked["sample_size"], asked["seed"]) == ("builtin:tiny-llama", 50, 42)
    assert [report["suite"] for report in reports] == ["manners", "/s/x.yaml"]
    assert [report["suite"] for report in stage.models.reports("bot", 1)] == ["/s/x.yaml", "manners"]
    assert stage.said == ["asking bot@v1"]
    assert list(stage.rooms.folder.iterdir()) == [], "nothing is left behind"


def test_the_held_out_rows_are_asked_where_there_are_some(stage):
    data = {**stage.world.jobs.get("ft_1").data, "validation": "/data/validation.jsonl"}
    job = stage.world.submit("ft_9", artifact={"path": "/a/9", "digest": "9"}, data=data)
    stage.models.add_model(job, stage.clock.now())
    measure(stage, Wish.of_gate({"metric": "contains", "guards": ["g.yaml"], "sample_size": 30}), version=4)
    asked = json.loads(stage.aside.read_text())
    metrics = {"metrics": [], "also": ["contains"]}
    assert asked["suites"][0] == {"kind": "held_out", "path": "/data/validation.jsonl", **metrics}
    assert asked["suites"][1]["name"] == "g.yaml"
    assert asked["sample_size"] == 30


def test_it_can_be_asked_elsewhere_and_judged(stage):
    there = Address(url="http://h/v1", model="bot@v1", key_env="KEY")
    measure(stage, Wish(suites=("manners",), at=there, judge=Address(url="http://j/v1", model="big")))
    asked = json.loads(stage.aside.read_text())
    assert asked["tuned"] == {
        **{"kind": "endpoint", "name": "bot@v1", "base_url": "http://h/v1", "model": "bot@v1", "key_env": "KEY"}
    }
    assert (asked["judge"]["model"], asked["judge"]["key_env"]) == ("big", None)


def test_what_is_asked_is_what_an_evaluation_takes(stage):
    """The two sides are joined by a file: this holds them together."""
    at = Address(url="http://h/v1", model="m", key_env="KEY")
    for wish in (Wish(suites=("manners",)), Wish(suites=("manners",), at=at, judge=at, over="bot@v2")):
        measure(stage, wish)
        asked = json.loads(stage.aside.read_text())
        body = {key: value for key, value in asked.items() if key not in ("pid", "folder", "sees")}
        path = stage.aside.with_name("request.json")
        path.write_text(json.dumps(body))
        assert read(path).sample_size == wish.sample_size


def test_over_another_version(stage):
    measure(stage)
    measure(stage, Wish(suites=("manners",), over="bot@v2"))
    assert json.loads(stage.aside.read_text())["other"]["name"] == "bot@v2"
    kept = {report["suite"]: report["over"] for report in stage.models.reports("bot", 1)}
    assert kept == {"manners": "base", "manners over bot@v2": "bot@v2"}


def test_with_nothing_to_ask_no_process_is_started(stage):
    with pytest.raises(EvaluationError, match="E850"):
        measure(stage, Wish())
    assert not stage.aside.exists()


@pytest.mark.parametrize(
    ("how", "code", "retry"), [("refuse", "E854", False), ("later", "E854", True), ("die", "E859", False)]
)
def test_a_process_that_fails_says_why_and_keeps_nothing(stage, how, code, retry):
    stage.how = how
    with pytest.raises(EvaluationError, match=code) as failed:
        measure(stage)
    assert failed.value.retry is retry
    assert stage.models.reports("bot", 1) == []
    assert list(stage.rooms.folder.iterdir()) == []


def test_a_process_is_ended_with_who_waits_for_it(stage):
    """Ctrl-C in `ft eval`."""
    stage.how = "hang"

    def interrupted(line):
        raise KeyboardInterrupt

    stage.said = type("Said", (), {"append": staticmethod(interrupted)})
    with pytest.raises(KeyboardInterrupt):
        measure(stage)
    assert group_members(json.loads(stage.aside.read_text())["pid"]) == []


@pytest.mark.parametrize("production", [None, 1])
def test_where_nobody_can_be_beaten_it_is_the_base(stage, production):
    """The first version of all, and the one that has the calls already."""
    if production:
        stage.promote(production)
    measure(stage, Wish(suites=("manners",), over="production"))
    assert json.loads(stage.aside.read_text())["other"] == {"kind": "base"}
    assert [(report["suite"], report["over"]) for report in stage.models.reports("bot", 1)] == [("manners", "base")]


def test_the_version_that_has_the_calls_is_to_be_beaten(stage):
    stage.promote(2)
    measure(stage, Wish(suites=("manners",), over="production"))
    assert json.loads(stage.aside.read_text())["other"]["name"] == "bot@v2"


@pytest.mark.parametrize("over", ["bot@v9", "v9", "other@production"])
def test_a_version_that_is_not_there_is_not_replaced_by_the_base(stage, over):
    with pytest.raises(NotFound, match="E702"):
        measure(stage, Wish(suites=("manners",), over=over))
    assert not stage.aside.exists()


def test_two_evaluations_of_one_version_at_once_do_not_meet(stage):
    """Processes in two containers that share a folder may have the same number."""
    reports = []

    def meanwhile(line):
        if not reports:
            reports.append(None)
            reports.append(measure(stage))

    model = stage.models.models("bot")[0]
    reports.append(stage.measurer.measure(model, Wish(suites=("manners",)), meanwhile))
    assert reports[1] == reports[2]


CARDS = (Device("gpu-a", "A100", 80_000), Device("gpu-b", "A100", 80_000))


def sees(stage):
    measure(stage)
    return json.loads(stage.aside.read_text())["sees"]


def test_it_has_a_card_for_itself_while_it_runs(stage, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert sees(stage) is None, "there is none here"
    stage.seats = stage.world.placements("w", *CARDS)
    stage.world.placements("other", CARDS[0]).sit("bot@v2", Need(1), stage.clock.now(), timedelta(hours=1))
    assert sees(stage) == "gpu-b"
    assert [each.key for each in stage.runs.measuring(stage.clock.now())] == ["bot@v2"], "its own is given back"
    stage.world.placements("third", CARDS[1]).sit("bot@v3", Need(1), stage.clock.now(), timedelta(hours=1))
    with pytest.raises(AllTaken, match=r"bot@v1 waits for a card to be measured on \(1 whole GPU\)"):
        measure(stage)


@pytest.mark.parametrize(
    ("resources", "beside", "seen"),
    [
        ({"gpus": 4, "memory": "40GB"}, 30_000, "gpu-a"),
        ({"gpus": 4, "memory": "40GB"}, 50_000, None),
        ({"gpus": 0}, None, ""),
        # More than any card here has: it was trained elsewhere.
        ({"gpus": 1, "memory": "140GB"}, 1, None),
    ],
)
def test_it_takes_what_its_training_took_of_one_card(stage, resources, beside, seen):
    recipe = {**stage.world.jobs.get("ft_1").recipe, "resources": resources}
    job = stage.world.submit("ft_9", artifact={"path": "/a/9", "digest": "9"}, recipe=recipe)
    stage.models.add_model(job, stage.clock.now())
    stage.seats = stage.world.placements("w", CARDS[0])
    stage.world.placements("other", CARDS[0]).sit("bot@v2", Need(1, beside), stage.clock.now(), timedelta(hours=1))
    if seen is None:
        with pytest.raises(AllTaken):
            measure(stage, version=4)
    else:
        measure(stage, version=4)
        assert json.loads(stage.aside.read_text())["sees"] == seen


def test_one_that_fails_gives_its_card_back(stage):
    stage.seats, stage.how = stage.world.placements("w", CARDS[0]), "die"
    for _ in range(2):
        with pytest.raises(EvaluationError, match="was killed by signal 9"):
            measure(stage)
    assert stage.runs.measuring(stage.clock.now()) == []
