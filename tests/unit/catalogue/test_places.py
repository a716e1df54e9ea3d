"""Where a sheet sends people: `served` and `ways` name other sheets, or our own server."""

from pathlib import Path

import pytest

from finetune.catalogue import load
from finetune.errors import StateError
from tests.unit.catalogue.test_faults import HEAD, problems, sheet


def test_a_likely_place_is_suggested(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, HEAD + "served:\n  - {at: embeded, source: guide}\n")
    assert (problem.value, problem.fix) == ("embeded", "did you mean `embedded`?")
    assert problem.why == "there are acme, embedded"


def test_places_are_sheets_of_the_folder_and_our_own_server(tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text(HEAD.replace("provider: acme", "provider: other"))
    text = "served:\n  - {at: other, source: guide}\n  - {at: embedded, source: guide}\n  - {at: acme, source: guide}\n"
    assert [each.at for each in sheet(tmp_path, text).served] == ["other", "embedded", "acme"]


def test_a_place_in_ones_own_file_may_be_any_sheet_of_both(tmp_path: Path) -> None:
    shipped, own = tmp_path / "shipped", tmp_path / "own"
    shipped.mkdir()
    own.mkdir()
    (shipped / "acme.yaml").write_text(HEAD)
    (own / "mine.yaml").write_text(HEAD.replace("provider: acme", "provider: mine"))
    laid = own / "laid.yaml"
    laid.write_text("provider: acme\nserved:\n  - {at: mine, source: guide}\n  - {at: nobody, source: guide}\n")
    with pytest.raises(StateError) as caught:
        load(shipped, own)
    (problem,) = caught.value.problems
    assert (problem.file, problem.line, problem.field, problem.value) == (str(laid), 4, "served[1].at", "nobody")
    assert problem.why == "there are acme, embedded, mine"


def test_ways_may_lead_elsewhere(tmp_path: Path) -> None:
    (way,) = sheet(tmp_path, "ways:\n  - {value: ask them, source: guide}\n").ways
    assert (way.value, way.at) == ("ask them", None)


def test_a_sheet_is_of_a_trainer_unless_it_says_otherwise(tmp_path: Path) -> None:
    assert sheet(tmp_path, "").kind == "trainer"
    assert sheet(tmp_path, "kind: server\n").kind == "server"
