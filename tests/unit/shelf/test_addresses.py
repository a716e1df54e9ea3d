"""FT_ARTIFACTS and the addresses below it: what can be one, what is said of the others, and without the extra."""

import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from finetune.errors import ShelfUnavailable, StateError, UsageError
from finetune.settings import from_environment
from finetune.shelf import Adapters, objects

DIGEST = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    "value", ["s3://models/ft", "gs://my.bucket-1/a/b=c/d_e.f", "s3://models/ft/", "s3://" + "a" * 254 + "/ft"]
)
def test_a_prefix_of_a_bucket_is_taken_as_it_is(value: str) -> None:
    assert from_environment({"FT_HOME": "ft", "FT_ARTIFACTS": value}).artifacts == value


@pytest.mark.parametrize("env", [{}, {"FT_ARTIFACTS": ""}])
def test_without_one_adapters_are_on_this_disk_alone(env: dict[str, str]) -> None:
    assert from_environment({"FT_HOME": "ft", **env}).artifacts is None


@pytest.mark.parametrize(
    "value",
    [
        "models/ft",
        "/srv/adapters",
        "file:///srv/adapters",
        "https://models.example/ft",
        "S3://models/ft",
        "s3:/models/ft",
        "s3://models",
        "s3://models/",
        "s3:///ft",
        "s3://models//ft",
        "s3://models/f t",
        "s3://models/ft?version=1",
        "s3://models/ft#a",
        "s3://models/ft\n",
        "s3://AKIAKEY:topsecret@models/ft",
        "s3://models/ft,s3://others/ft",
        " s3://models/ft",
    ],
)
def test_what_is_none_is_refused_without_being_repeated(value: str) -> None:
    """It may hold a password."""
    with pytest.raises(UsageError) as caught:
        from_environment({"FT_HOME": "ft", "FT_ARTIFACTS": value})
    (problem,) = caught.value.problems
    assert (problem.code, problem.what) == ("E902", "FT_ARTIFACTS is no prefix of a bucket")
    assert "s3://bucket/prefix or gs://bucket/prefix" in (problem.why or "")
    assert "export FT_ARTIFACTS=" in (problem.fix or "")
    assert "topsecret" not in str(caught.value)


@pytest.mark.parametrize(("scheme", "library"), [("s3", "s3fs"), ("gs", "gcsfs.core")])
def test_without_the_extra_it_is_named(
    scheme: str, library: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    made = Adapters(tmp_path, f"{scheme}://models/ft")
    artifact = {"path": str(tmp_path / DIGEST[:32]), "digest": DIGEST}
    asked = {
        "reach": made.reach,
        "copies": made.copies,
        "shelve": lambda: made.shelve(tmp_path, DIGEST),
        "here": lambda: made.here(artifact),
        "remove": lambda: made.remove(f"{scheme}://models/ft/{DIGEST[:32]}"),
    }
    for name, ask in asked.items():
        with pytest.raises(StateError) as caught:
            ask()
        (problem,) = caught.value.problems
        assert problem.code == "E512", name
        assert (problem.what, problem.fix) == (
            f"{scheme}:// needs the extra `data`",
            "pip install 'ft-orchestrator[data]'",
        ), name
        assert not isinstance(caught.value, ShelfUnavailable), "it does not pass by itself"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("address", "what"),
    [
        ("file:///srv/ft", "ft does not write to file://"),
        ("s3://models", "s3://models is no prefix of a bucket"),
        ("s3:///ft", "s3:///ft is no prefix of a bucket"),
        ("s3://AKIAKEY:topsecret@models/ft", "s3://models/ft is no prefix of a bucket"),
    ],
)
def test_an_address_of_the_books_that_cannot_be_used_is_said(address: str, what: str) -> None:
    with pytest.raises(StateError) as caught:
        objects.reach(address)
    (problem,) = caught.value.problems
    assert (problem.code, problem.what) == ("E512", what)
    assert problem.fix
    assert "topsecret" not in str(caught.value)


def test_what_has_an_address_is_late_until_it_is_whole(tmp_path: Path) -> None:
    made, name, at = Adapters(tmp_path, "s3://models/ft/"), DIGEST[:32], datetime(2026, 11, 1, tzinfo=UTC)
    artifact = {"path": f"/elsewhere/{name}", "digest": DIGEST}
    noted = {**artifact, "uri": f"s3://models/ft/{name}"}
    whole, part = ({name: objects.Copy(bytes=1, at=at, whole=is_whole)} for is_whole in (True, False))
    assert not made.is_late(artifact, {}), "it is not here"
    (tmp_path / name).mkdir()
    assert made.is_late(artifact, {})
    assert made.is_late(artifact, whole), "the books don't know it"
    assert made.is_late(noted, {})
    assert made.is_late(noted, part)
    assert not made.is_late(noted, whole)
    assert not made.is_late({**noted, "uri": f"s3://before/ft/{name}"}, {})
    assert not made.is_late({**artifact, "gone": "2026-11-01"}, {})
    assert not made.is_late({"model": "ft:gpt"}, {})
