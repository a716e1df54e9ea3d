"""Paths, folders and patterns: which files they mean, in which order, and what is left out."""

import os
from pathlib import Path

import pytest

from tests.support.sources import Read, check_problem, read


def fill(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'{{"from": "{name}"}}\n')


def sources(got: Read) -> list[str]:
    return [row["from"] for row in got.rows]


def test_a_path_starts_at_the_folder(tmp_path: Path) -> None:
    fill(tmp_path, "data/a.jsonl")

    got = read("data/a.jsonl", tmp_path)

    assert got.files == ["data/a.jsonl"]
    assert sources(got) == ["data/a.jsonl"]
    assert got.blocks[0].file == "data/a.jsonl"


def test_an_absolute_path(tmp_path: Path) -> None:
    fill(tmp_path, "a.jsonl")

    assert read(str(tmp_path / "a.jsonl"), tmp_path / "elsewhere").files == [str(tmp_path / "a.jsonl")]


def test_a_folder_is_all_data_files_below_it_by_name(tmp_path: Path) -> None:
    fill(tmp_path, "d/b.jsonl", "d/a/z.ndjson", "d/a/c/x.jsonl", "d/c.json", "d/B.jsonl", "other.jsonl")

    got = read("d", tmp_path)

    assert got.files == ["d/B.jsonl", "d/a/c/x.jsonl", "d/a/z.ndjson", "d/b.jsonl", "d/c.json"]
    assert sources(got) == got.files
    assert got.problems == []


@pytest.mark.parametrize(("spec", "file"), [("d/", "d/a.jsonl"), (".", "./d/a.jsonl"), ("./d", "./d/a.jsonl")])
def test_files_of_a_folder_are_named_as_the_user_named_it(tmp_path: Path, spec: str, file: str) -> None:
    fill(tmp_path, "d/a.jsonl")

    assert read(spec, tmp_path).files == [file]


def test_a_folder_may_mix_kinds(tmp_path: Path) -> None:
    fill(tmp_path, "d/a.jsonl")
    (tmp_path / "d/b.csv").write_text("from\nb\n")
    (tmp_path / "d/c.json").write_text('[{"from": "c"}]')

    assert sources(read("d", tmp_path)) == ["d/a.jsonl", "b", "c"]


def test_hidden_and_other_files_are_left_out_and_said(tmp_path: Path) -> None:
    fill(
        tmp_path, "d/a.jsonl", "d/.a.jsonl", "d/.git/config.json", "d/README.md", "d/x/.hidden/b.jsonl", "d/x/_SUCCESS"
    )

    got = read("d", tmp_path)

    assert got.files == ["d/a.jsonl"]
    assert got.warnings == ["E230"]
    assert "`.a.jsonl`, `.git`, `README.md`, `x/.hidden`, `x/_SUCCESS`" in got.problems[0].what


def test_many_files_that_are_left_out_are_counted(tmp_path: Path) -> None:
    fill(tmp_path, "d/a.jsonl", *(f"d/{n:02}.txt" for n in range(30)))

    assert "`04.txt` and 25 more" in read("d", tmp_path).problems[0].what


@pytest.mark.parametrize("names", [[], ["d/README.md"], ["d/.a.jsonl"]])
def test_a_folder_without_data_is_an_error(tmp_path: Path, names: list[str]) -> None:
    (tmp_path / "d").mkdir()
    fill(tmp_path, *names)

    got = read("d", tmp_path)

    assert got.places == []
    assert got.fault.code == "E229"


@pytest.mark.parametrize(
    ("spec", "files"),
    [
        ("d/*.jsonl", ["d/a.jsonl", "d/b.jsonl"]),
        ("d/*", ["d/a.jsonl", "d/b.jsonl", "d/c.csv"]),
        ("d/[ab].jsonl", ["d/a.jsonl", "d/b.jsonl"]),
        ("d/?.csv", ["d/c.csv"]),
        ("*/x/*.jsonl", ["d/x/1.jsonl"]),
        ("d/**/*.jsonl", ["d/a.jsonl", "d/b.jsonl", "d/x/1.jsonl", "d/x/y/2.jsonl"]),
        ("**/2.jsonl", ["d/x/y/2.jsonl"]),
        ("d/**", ["d/a.jsonl", "d/b.jsonl", "d/c.csv", "d/x/1.jsonl", "d/x/y/2.jsonl"]),
        ("d/**/y/*", ["d/x/y/2.jsonl"]),
        ("d/x/../*.csv", ["d/x/../c.csv"]),
        ("d/.h*/*", ["d/.hidden/3.jsonl"]),
        ("d/.*.jsonl", ["d/.4.jsonl"]),
        ("./d/*.csv", ["d/c.csv"]),
    ],
)
def test_patterns(tmp_path: Path, spec: str, files: list[str]) -> None:
    fill(tmp_path, "d/a.jsonl", "d/b.jsonl", "d/x/1.jsonl", "d/x/y/2.jsonl", "d/.hidden/3.jsonl", "d/.4.jsonl")
    (tmp_path / "d/c.csv").write_text("from\nd/c.csv\n")

    got = read(spec, tmp_path)

    assert got.files == files
    assert got.problems == []


def test_an_absolute_pattern(tmp_path: Path) -> None:
    fill(tmp_path, "a.jsonl")

    assert read(f"{tmp_path}/*.jsonl", Path("nowhere")).files == [f"{tmp_path}/a.jsonl"]


@pytest.mark.parametrize("spec", ["*.jsonl", "d/*/a.jsonl", "nowhere/**", "d/*.md", "[", "a["])
def test_a_pattern_without_data_is_an_error(tmp_path: Path, spec: str) -> None:
    fill(tmp_path, "d/a.jsonl", "d/b.md")

    got = read(spec, tmp_path)

    assert got.places == []
    assert got.fault.code == "E229"


def test_a_file_whose_name_is_a_pattern(tmp_path: Path) -> None:
    fill(tmp_path, "[a]*.jsonl", "a.jsonl")

    assert read("[a]*.jsonl", tmp_path).files == ["[a]*.jsonl"]


def test_links_are_followed_once(tmp_path: Path) -> None:
    fill(tmp_path, "d/x/a.jsonl", "far/b.jsonl")
    (tmp_path / "d/x/back").symlink_to(tmp_path / "d")
    (tmp_path / "d/far").symlink_to(tmp_path / "far")
    (tmp_path / "d/link.jsonl").symlink_to(tmp_path / "d/x/a.jsonl")

    for spec in ("d", "d/**"):
        assert read(spec, tmp_path).files == ["d/far/b.jsonl", "d/link.jsonl", "d/x/a.jsonl"]


def test_a_link_to_itself(tmp_path: Path) -> None:
    fill(tmp_path, "d/a.jsonl")
    (tmp_path / "d/loop.jsonl").symlink_to("loop.jsonl")

    alone, with_others = read("d/loop.jsonl", tmp_path), read("d", tmp_path)

    assert alone.fault.code == with_others.fault.code == "E203"
    assert "symbolic links" in alone.fault.why
    assert with_others.files == ["d/a.jsonl"]


def test_a_link_that_leads_nowhere(tmp_path: Path) -> None:
    fill(tmp_path, "d/a.jsonl")
    (tmp_path / "d/gone.jsonl").symlink_to("nowhere.jsonl")

    got = read("d", tmp_path)

    assert got.files == ["d/a.jsonl"]
    assert (got.fault.code, got.fault.file) == ("E201", "d/gone.jsonl")


@pytest.mark.parametrize("spec", ["nowhere.jsonl", "nowhere/a.jsonl", "a.jsonl/b.jsonl"])
def test_a_file_that_is_missing(tmp_path: Path, spec: str) -> None:
    fill(tmp_path, "a.jsonl")

    got = read(spec, tmp_path)

    assert (got.fault.code, got.fault.file) == ("E201", spec)


@pytest.mark.parametrize("spec", ["x" * 300 + ".jsonl", "a\0b.jsonl", "a\0b*.jsonl", "\ud800.jsonl"])
def test_a_name_that_no_file_can_have(tmp_path: Path, spec: str) -> None:
    got = read(spec, tmp_path)

    assert got.places == []
    assert got.fault.code in ("E203", "E229")


@pytest.mark.parametrize("spec", ["d", "d/*", os.fsdecode(b"d/caf\xe9 \x1b[31m\n.jsonl")])
def test_a_name_that_is_not_utf8(tmp_path: Path, spec: str) -> None:
    (tmp_path / "d").mkdir()
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/d/caf\xe9 \x1b[31m\n.jsonl")).write_text("{}\nx\0\n")

    got = read(spec, tmp_path)

    assert got.files == [r"d/caf\xe9 \x1b[31m\n.jsonl"]
    assert got.fault.file == got.files[0]


def test_a_folder_that_may_not_be_looked_into(tmp_path: Path, as_nobody: None) -> None:
    fill(tmp_path, "d/a.jsonl", "d/x/b.jsonl")
    (tmp_path / "d/x").chmod(0)

    got = read("d", tmp_path)

    (tmp_path / "d/x").chmod(0o700)
    assert got.files == ["d/a.jsonl"]
    assert got.fault.code == "E203"
    check_problem(got.fault)
