"""The tables are in order, their text can be printed, and what is missing is said."""

import importlib
import subprocess
import sys

import pytest

from finetune.data.privacy import KINDS, NOT_LOOKED_FOR, REGIONS, available, find
from finetune.data.privacy.phones import check_regions
from finetune.data.privacy.rules import RULES, Rule
from finetune.data.privacy.tokens import SHORTEST_RUN, TOKENS
from tests.unit.data.privacy.fakes import FAKES


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.detail)
def test_a_rule_can_be_followed(rule: Rule) -> None:
    assert not rule.check or callable(importlib.import_module(f"stdnum.{rule.check}").is_valid)
    assert rule.check or rule.also
    assert rule.shapes or rule.near
    assert set("".join((*rule.shapes, *rule.near))) <= set("9A ./-")
    assert not set(rule.shapes) & set(rule.near)
    assert bool(rule.near) <= bool(rule.words)
    assert all(word == word.lower() and not set("_-") & set(word) for word in rule.words)


def test_every_kind_is_told_in_whole_sentences() -> None:
    for kind in KINDS.values():
        assert kind.title
        assert kind.how.endswith(".")
        assert kind.misses.endswith(".")
    assert {rule.kind for rule in RULES} <= set(KINDS)
    assert all(rule.detail in KINDS["national_id"].how for rule in RULES if rule.kind == "national_id")
    assert all(row.detail in KINDS["secret"].how for row in TOKENS)
    assert NOT_LOOKED_FOR


def test_every_token_has_a_fake_and_is_long_enough_to_be_looked_at() -> None:
    assert {row.detail for row in TOKENS} == set(FAKES)
    begins = [begin for row in TOKENS for begin in row.begins]
    assert len(begins) == len(set(begins))
    assert all(find(begin + "1" * (SHORTEST_RUN - len(begin))) == [] for begin in begins)


def test_the_regions_are_known() -> None:
    check_regions(REGIONS)


def test_the_libraries_are_there() -> None:
    assert available() is None


WITHOUT = """
import sys
from importlib.machinery import PathFinder

class Without(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name.partition(".")[0] in ("stdnum", "phonenumbers"):
            return None
        return PathFinder.find_spec(name, path, target)

sys.meta_path[:] = [each for each in sys.meta_path if each is not PathFinder] + [Without]
from finetune.data.privacy import available, find
from finetune.errors import DataError

problem = available()
assert problem and problem.code == "E241" and "pip install 'ft-orchestrator[privacy]'" in problem.fix, problem
for text in ("4242424242424242", "+49 30 901820", "DE89370400440532013000"):
    try:
        find(text)
    except DataError as error:
        assert error.problems == (problem,)
    else:
        raise AssertionError(text)
"""


def test_without_the_libraries_the_user_is_told_what_to_install() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, timeout=60)

    assert done.returncode == 0, done.stderr


def test_importing_the_room_loads_neither_library() -> None:
    program = "import sys, finetune.data.privacy\nassert not {'stdnum', 'phonenumbers'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)

    assert done.returncode == 0, done.stderr
