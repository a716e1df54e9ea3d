"""What `ft --help` says, word for word. After a wanted change: `REGENERATE_GOLDEN=1 pytest tests/cli/test_help.py`."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from finetune.cli.main import app
from tests.cli.desk import Desk, called

GOLDEN = Path(__file__).parents[1] / "golden" / "help"
_REGENERATE = "REGENERATE_GOLDEN" in os.environ


def _commands(command: Any, words: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield words, command
    for name, inner in getattr(command, "commands", {}).items():
        yield from _commands(inner, (*words, name))


COMMANDS = dict(_commands(typer.main.get_command(app), ()))


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: " ".join(words) or "ft")
def test_the_help_of_every_command_is_the_golden_one(words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    shown = called(lambda: app([*words, "--help"], prog_name="ft"))
    golden = GOLDEN / f"{'-'.join(words) or 'ft'}.txt"
    if _REGENERATE:
        golden.parent.mkdir(parents=True, exist_ok=True)
        golden.write_text(shown.out)
    assert (shown.code, shown.err) == (0, "")
    assert shown.out == golden.read_text(), "if that is meant: REGENERATE_GOLDEN=1 pytest tests/cli/test_help.py"


def test_no_golden_help_is_of_a_command_that_is_gone() -> None:
    expected = {f"{'-'.join(words) or 'ft'}.txt" for words in COMMANDS}
    assert {path.name for path in GOLDEN.iterdir()} == expected


def test_the_process_shows_the_same(desk: Desk) -> None:
    shown = desk.run("--help", COLUMNS="100")
    assert shown.out == (GOLDEN / "ft.txt").read_text()


@pytest.mark.parametrize("words", [words for words, one in COMMANDS.items() if not hasattr(one, "commands")])
def test_every_command_has_an_example(words: tuple[str, ...]) -> None:
    text = COMMANDS[words].help
    assert "Example: ft " in text or "Examples: ft " in text


@pytest.mark.parametrize("words", COMMANDS)
def test_every_option_and_argument_is_described(words: tuple[str, ...]) -> None:
    known = [one for one in COMMANDS[words].params if not getattr(one, "hidden", False)]
    assert [one.name for one in known if not (getattr(one, "help", None) or "").strip()] == []


@pytest.mark.parametrize("words", COMMANDS)
def test_short_and_long_help_are_the_same(words: tuple[str, ...]) -> None:
    short, long = (called(lambda flag=flag: app([*words, flag], prog_name="ft")) for flag in ("-h", "--help"))
    assert short == long
