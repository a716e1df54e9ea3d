"""Preferences at the local provider: what it takes, and what its trainer is told."""

import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from finetune.catalogue import load
from finetune.catalogue.eligible import against
from finetune.ports import RemoteData
from finetune.spec import Recipe
from finetune.training.request import Request
from tests.support.runs import Shop

DATA = RemoteData(ids={"train": "/d/train.jsonl", "validation": None, "digest": "d"})


@pytest.fixture
def shop(tmp_path: Path) -> Any:
    made = Shop(tmp_path)
    yield made
    made.database.close()


def recipe(**changes: Any) -> Recipe:
    base = {"version": 1, "name": "bot", "base_model": "builtin:tiny-llama", "dataset": {"path": "p"}}
    return Recipe.model_validate({**base, "method": "dpo", **changes})


@pytest.mark.parametrize(("section", "beta"), [({}, 0.1), ({"dpo": {"beta": 0.25}}, 0.25)])
def test_the_trainer_is_asked_for_it(shop: Shop, section: Any, beta: float) -> None:
    asked = recipe(**section)
    assert shop.provider.check(asked) == []
    shop.provider.create(asked, DATA, "k")
    run = shop.runs.get_run("k")
    assert run is not None
    read = TypeAdapter(Request).validate_json(json.dumps(run.request))
    assert (read.method, read.dpo.beta if read.dpo else None) == ("dpo", beta)


def test_a_supervised_training_is_told_nothing_of_it(shop: Shop) -> None:
    shop.provider.create(recipe(method="sft"), DATA, "k")
    run = shop.runs.get_run("k")
    assert run is not None
    assert "dpo" not in run.request


def test_a_method_that_the_trainer_does_not_know_is_refused(shop: Shop) -> None:
    (problem,) = shop.provider.check(recipe().model_copy(update={"method": "kto"}))
    assert (problem.code, problem.field, problem.value) == ("E303", "method", "kto")


def test_the_catalogue_has_it_and_its_layout() -> None:
    sheet = load().provider("local")
    assert sheet is not None
    assert against(sheet, "dpo", "builtin:tiny-llama", date(2026, 11, 29)) == []
    rules = sheet.rules("dpo", "builtin:tiny-llama")
    assert rules is not None
    assert (rules.format, rules.images, rules.tools) == ("local-dpo", False, True)
