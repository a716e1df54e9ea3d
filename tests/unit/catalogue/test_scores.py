"""Tables of scores: what is taken, what is refused and at which line, and that what was kept is what comes back."""

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune.catalogue.scores import MAX_BYTES, Columns, keep, kept, one, parsed
from finetune.errors import NotFound, Problem, StateError, UsageError


def table(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "table.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def faults(tmp_path: Path, text: str | bytes) -> tuple[Problem, ...]:
    with pytest.raises(UsageError) as caught:
        parsed(table(tmp_path, text))
    assert {each.code for each in caught.value.problems} == {"E395"}
    assert all(each.file and each.fix for each in caught.value.problems)
    return caught.value.problems


@pytest.mark.parametrize(
    "text",
    [
        "model,score\na,1200\nb/c,-3.5\n",
        "\ufeffModel,Score\r\na,1200\r\nb/c,-3.5\r\n",
        'rank,SCORE,model,by\n1, 1200 ," a ",x\n\n2,"-3.5",b/c,y\n',
    ],
    ids=["plain", "as a spreadsheet saves it", "with other columns"],
)
def test_models_and_their_scores(tmp_path: Path, text: str) -> None:
    assert parsed(table(tmp_path, text)) == {"a": 1200.0, "b/c": -3.5}


def test_columns_are_named(tmp_path: Path) -> None:
    path = table(tmp_path, "Model Name,Arena Elo,score\na,1300,1\n")
    assert parsed(path, Columns("model name", "arena elo")) == {"a": 1300.0}


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("model,score\na,1\nb,2\na,3\n", 4, "a is there twice: line 2"),
        ("model,score\na,high\n", 2, "the score of a is no number: 'high'"),
        ("model,score\na,\n", 2, "no number"),
        ("model,score\na\n", 2, "no number"),
        ("model,score\na,nan\n", 2, "no number"),
        ("model,score\na,inf\n", 2, "no number"),
        ("model,score\na,1_000\n", 2, "no number"),
        ('model,score\na,"1,200"\n', 2, "no number"),
        ("model,score\n,5\n", 2, "names no model"),
        ("model,score\n", 1, "no rows"),
        ("", 1, "the column 'model' is not there"),
        ("name,score\na,1\n", 1, "the column 'model' is not there; the first line has name, score"),
        ("model,Score,score\na,1,2\n", 1, "'score' is there twice"),
        ('model,score\n"a,1\n', 2, "cannot be read as CSV"),
        (b"model,score\n\xff\xfe,1\n", None, "not UTF-8"),
        (b"model,score\n" + b"x" * MAX_BYTES, None, "larger than"),
    ],
)
def test_a_faulty_table_is_refused_at_its_line(tmp_path: Path, text: str | bytes, line: int | None, says: str) -> None:
    (found,) = faults(tmp_path, text)
    assert found.line == line
    assert says in found.what


def test_all_faults_are_told(tmp_path: Path) -> None:
    assert [each.line for each in faults(tmp_path, "model,score\na,x\n,1\nb,2\nb,3\n")] == [2, 3, 5]


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        parsed(tmp_path / "nothing.csv")


def test_kept_scores_replace_those_of_the_name(tmp_path: Path) -> None:
    folder = tmp_path / "scores"
    assert kept(folder) == {}
    keep(folder, "arena", {"a": 1.0, "b": 2.0})
    keep(folder, "arena", {"a": 3.0})
    keep(folder, "index", {"c": 0.1})
    assert kept(folder) == {"arena": {"a": 3.0}, "index": {"c": 0.1}}
    assert one(folder, "index") == {"c": 0.1}
    assert sorted(path.name for path in folder.iterdir()) == ["arena.csv", "index.csv"]


@pytest.mark.parametrize("name", ["", "a b", "../x", "-x", ".x", "x" * 65])
def test_a_name_that_no_recipe_could_write(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="no name for scores"):
        keep(tmp_path / "scores", name, {"a": 1.0})
    assert not (tmp_path / "scores").exists()


def test_a_name_that_was_not_imported(tmp_path: Path) -> None:
    keep(tmp_path, "arena", {"a": 1.0})
    with pytest.raises(NotFound, match="arena"):
        one(tmp_path, "index")


def test_a_kept_file_that_somebody_spoilt_is_told(tmp_path: Path) -> None:
    keep(tmp_path, "arena", {"a": 1.0}).write_text("model,score\na,much\n")
    with pytest.raises(StateError) as caught:
        kept(tmp_path)
    assert [(each.code, each.line) for each in caught.value.problems] == [("E395", 2)]


_MODELS = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Z")), min_size=1)


@given(scores=st.dictionaries(_MODELS, st.floats(allow_nan=False, allow_infinity=False), min_size=1))
def test_what_is_kept_comes_back(tmp_path_factory: pytest.TempPathFactory, scores: dict[str, float]) -> None:
    folder = tmp_path_factory.mktemp("scores")
    keep(folder, "x", scores)
    (found,) = kept(folder).values()
    assert found.keys() == {each.strip() for each in scores}
    assert all(math.isclose(found[each], scores[each], rel_tol=0, abs_tol=0) for each in scores)
