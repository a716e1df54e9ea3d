"""Two versions on different bases: what can be measured, and with whose weights."""

import json
import sys
from contextlib import nullcontext
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from finetune.errors import EvaluationError, Problem
from finetune.measuring import Address, Measurer, Rooms, Subjects, Wish
from finetune.testing import ManualClock
from finetune.versions import ModelVersion

#: An evaluation that reports what it was asked.
ECHO = """
import json, pathlib, sys
asked = json.loads(pathlib.Path(sys.argv[1], "request.json").read_text())
pathlib.Path(sys.argv[2]).touch()
pathlib.Path(sys.argv[1], "result.json").write_text(json.dumps({"reports": [{"suite": "held-out", "asked": asked}]}))
"""


def version(number, base, **artifact):
    zeros = {"job_id": f"ft_{number}", "provider": "p", "lineage": {}, "created_at": datetime(2027, 1, 1, tzinfo=UTC)}
    return ModelVersion(name="bot", version=number, base_model=base, artifact=artifact, **zeros)


HERE, THERE, OLD = version(1, "base-a", path="a"), version(2, "hosted-b", id="b"), version(3, "base-c", path="c")
#: Its provider speaks another protocol.
MUTE = version(4, "hosted-d", mute=True)
ALONE, UNSURE = version(5, "hosted-e", alone=True), version(6, "hosted-f", unsure=True)
#: Where somebody serves a version beside its base.
ELSEWHERE = Address(url="http://127.0.0.1:2/v1", model="bot")


def subject(model):
    if "mute" in model.artifact:
        raise EvaluationError(Problem(code="E837", what="it does not speak that"))
    if "path" in model.artifact:
        return {"kind": "adapter", "name": model.ref, "path": model.artifact["path"]}
    return Address(url="http://127.0.0.1:1/v1", model="b").subject(model.ref)


def base(model, sure):
    """That of `ALONE` answers nowhere; of `UNSURE` nobody knows."""
    if "alone" in model.artifact or (sure and "unsure" in model.artifact):
        raise EvaluationError(Problem(code="E861", what="its base answers nowhere"))
    return {**subject(model), "name": model.base_model, "model": model.base_model}


@pytest.fixture
def asked(tmp_path):
    """Measures a version over another, and returns the request of it."""
    versions = {each.ref: each for each in (HERE, THERE, OLD, MUTE, ALONE, UNSURE)}
    kept, held = [], []
    measurer = Measurer(
        SimpleNamespace(add_report=lambda *told: kept.append(told)),
        ManualClock(),
        job=lambda _: SimpleNamespace(data={"validation": "rows.jsonl"}, recipe={}),
        version=versions.__getitem__,
        subjects=Subjects(version=subject, base=base),
        card=lambda ref, resources: held.append(ref) or nullcontext({}),
        places=Rooms(
            folder=tmp_path / "evaluations",
            cache=tmp_path,
            logs=tmp_path,
            suites=None,
            command=lambda folder, report: [sys.executable, "-c", ECHO, str(folder), str(report)],
        ),
    )

    def ask(model, over, **more):
        (report,) = measurer.measure(model, Wish(over=over if isinstance(over, str) else over.ref, **more))
        assert len(kept) == 1
        asked = json.loads(json.dumps(report["asked"]))
        weights = {asked["tuned"]["kind"], asked["other"]["kind"]} != {"endpoint"}
        assert held == [model.ref] * weights, "a card where weights are loaded, and there only"
        return asked

    ask.measurer = measurer
    return ask


def test_one_that_answers_at_an_address_is_compared_with_weights_of_another_base(asked):
    told = asked(HERE, THERE)
    assert (told["base_model"], told["tuned"]["kind"], told["other"]["kind"]) == ("base-a", "adapter", "endpoint")


def test_the_weights_that_are_loaded_are_those_of_the_other_when_only_it_has_some(asked):
    told = asked(THERE, HERE)
    assert (told["base_model"], told["tuned"]["kind"], told["other"]["kind"]) == ("base-a", "endpoint", "adapter")


def test_a_hosted_one_is_compared_with_its_base_where_both_answer(asked):
    told = asked(THERE, "base")
    assert told["tuned"] == {**told["other"], "name": "bot@v2", "model": "b"}
    assert (told["other"]["name"], told["other"]["model"]) == ("hosted-b", "hosted-b")


def test_the_base_of_a_hosted_one_is_asked_at_its_provider_wherever_that_is_asked(asked):
    told = asked(THERE, "base", at=Address(url="http://127.0.0.1:2/v1", model="bot@v2"))
    assert (told["tuned"]["base_url"], told["tuned"]["model"]) == ("http://127.0.0.1:2/v1", "bot@v2")
    assert (told["other"]["base_url"], told["other"]["model"]) == ("http://127.0.0.1:1/v1", "hosted-b")


def test_where_the_provider_cannot_be_asked_the_base_is_asked_beside_the_tuned_one(asked):
    told = asked(MUTE, "base", at=Address(url="http://127.0.0.1:2/v1", model="bot@v4"))
    assert told["other"] == {**told["tuned"], "name": "hosted-d", "model": "hosted-d"}
    with pytest.raises(EvaluationError, match="E837"):
        asked(MUTE, "base")


@pytest.mark.parametrize("model", [ALONE, UNSURE], ids=["nowhere", "nobody knows"])
def test_a_base_that_is_not_sure_to_answer_at_its_provider_is_asked_where_the_version_is_served(asked, model):
    told = asked(model, "base", at=ELSEWHERE)
    assert told["other"] == {**told["tuned"], "name": model.base_model, "model": model.base_model}


def test_a_base_of_which_nobody_knows_is_asked_at_its_provider_where_there_is_no_other_place(asked):
    assert asked(UNSURE, "base")["other"]["base_url"] == "http://127.0.0.1:1/v1"


def test_a_base_that_answers_nowhere_is_told_before_anything_is_asked(asked):
    with pytest.raises(EvaluationError, match="E861"):
        asked(ALONE, "base")


def test_what_will_stand_against_a_comparison_is_known_before_the_version_answers(asked):
    foresee = asked.measurer.foresee
    with pytest.raises(EvaluationError, match="E861"):
        foresee(ALONE, Wish())
    with pytest.raises(EvaluationError, match="E837"):
        foresee(ALONE, Wish(over=MUTE.ref))
    with pytest.raises(EvaluationError, match="E850"):
        foresee(ALONE, Wish(over=THERE.ref, held_out=False))
    for model, over in ((ALONE, THERE.ref), (ALONE, HERE.ref), (UNSURE, "base"), (THERE, "base")):
        foresee(model, Wish(over=over))


def test_one_with_weights_here_is_compared_with_its_base_here_wherever_it_is_asked(asked):
    told = asked(HERE, "base", at=Address(url="http://127.0.0.1:1/v1", model="a"))
    assert (told["base_model"], told["tuned"]["kind"], told["other"]) == ("base-a", "endpoint", {"kind": "base"})


def test_a_version_that_is_asked_where_it_is_served_is_compared_with_another_base(asked):
    told = asked(HERE, OLD, at=Address(url="http://127.0.0.1:1/v1", model="a"))
    assert (told["base_model"], told["other"]["path"]) == ("base-c", "c")


def test_two_bases_are_never_loaded_for_one_evaluation(asked):
    with pytest.raises(EvaluationError, match="base-a and base-c, both with weights here") as refused:
        asked(HERE, OLD)
    assert refused.value.problems[0].code == "E856"
