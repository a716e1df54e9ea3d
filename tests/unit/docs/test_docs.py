"""The docs say what the code does. After a wanted change: `FT_UPDATE_DOCS=1 pytest tests/unit/docs`."""

import ast
import os
import re
import tomllib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer.main

from finetune.cli import exits
from finetune.cli.main import app
from finetune.codes import CODES
from finetune.jobs import TRANSITIONS, JobState
from tests.unit.docs import drawing

ROOT = Path(__file__).parents[3]
DOCS = ROOT / "docs"
#: Read here: the fixtures take all variables of ours out of the environment.
_UPDATE = "FT_UPDATE_DOCS" in os.environ
PAGES = sorted(
    path.relative_to(ROOT)
    for path in (*ROOT.glob("*.md"), *DOCS.rglob("*.md"), *ROOT.glob("datasets/*.md"), *ROOT.glob("recipes/*.md"))
)
#: Codes, ids and links inside these are not ours to check.
_FENCE = re.compile(r"^```.*?^```$", re.M | re.S)


def read(page: Path) -> str:
    return (ROOT / page).read_text()


@pytest.mark.parametrize(("page", "name", "draw"), drawing.PARTS, ids=lambda one: one if isinstance(one, str) else "")
def test_what_is_drawn_from_the_code_is_up_to_date(page: str, name: str, draw: Callable[[], str]) -> None:
    text = (DOCS / page).read_text()
    drawn = drawing.put(text, name, draw())
    if _UPDATE:
        (DOCS / page).write_text(drawn)
        text = drawn
    assert text == drawn, "after a change of the code: FT_UPDATE_DOCS=1 pytest tests/unit/docs"


def test_the_drawings_lack_nothing() -> None:
    picture, table, codes = drawing.diagram(), drawing.states(), drawing.codes()
    steps = set(re.findall(r"^ +(\w+) --> (\w+)$", picture, re.M))
    assert steps == {(str(state), str(one)) for state, after in TRANSITIONS.items() for one in after}
    assert re.findall(r"^\| `(\w+)` \| \w", table, re.M) == [str(state) for state in JobState]
    assert re.findall(r"^\| `(E\d+)` \| \w", codes, re.M) == sorted(CODES)


def test_a_part_goes_between_its_markers_and_nowhere_else() -> None:
    text = "a\n<!-- drawn: x -->\nold\n<!-- end: x -->\nb\n"
    once = drawing.put(text, "x", "new")
    assert once == "a\n<!-- drawn: x -->\n\nnew\n\n<!-- end: x -->\nb\n"
    assert drawing.put(once, "x", "new") == once
    with pytest.raises(ValueError, match="once"):
        drawing.put(text + text, "x", "new")


def test_the_readme_has_every_exit_code() -> None:
    section = read(Path("README.md")).partition("## Exit codes")[2].partition("\n## ")[0]
    known = [value for name, value in vars(exits).items() if name.isupper() and isinstance(value, int)]
    assert [int(code) for code in re.findall(r"^\| (\d+) \| \w", section, re.M)] == sorted(known)


def anchors(page: Path) -> set[str]:
    """Of the headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", _FENCE.sub("", read(page)), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(page: Path) -> Iterator[str]:
    for target in re.findall(r"\]\(([^)\s]+)\)", _FENCE.sub("", read(page))):
        if not re.match(r"\w+:", target):
            yield target


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in links(page):
        path, _, anchor = target.partition("#")
        place = Path(os.path.normpath(page.parent / path)) if path else page
        assert (ROOT / place).exists(), f"{page}: {target}"
        assert not anchor or anchor in anchors(place), f"{page}: {target}"


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_every_path_and_function_in_backticks_is_there(page: Path) -> None:
    for path, name in places(read(page)):
        file = ROOT / path
        assert file.exists(), f"{page}: {path}"
        assert not name or defines(file, name), f"{page}: {path} has no {name}"


def places(text: str) -> list[tuple[str, str]]:
    """`finetune/jobs.py` and `finetune/jobs.py::Job.target`: path and name."""
    return re.findall(r"`((?:finetune|workers|tests|recipes|datasets|docs)/[\w./-]*\w/?)(?:::([\w.]+))?`", text)


@cache
def defined(path: Path) -> frozenset[str]:
    def names(body: list[ast.stmt], prefix: str) -> Iterator[str]:
        for node in body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                yield prefix + node.name
            if isinstance(node, ast.ClassDef):
                yield from names(node.body, f"{prefix}{node.name}.")

    return frozenset(names(ast.parse(path.read_text()).body, ""))


def defines(path: Path, name: str) -> bool:
    return name in defined(path)


def test_places_are_seen() -> None:
    seen = places("`finetune/jobs.py::Job.target`, `finetune/jobs.py::Job.nothing`, `docs/adr/`, `ft up`")
    assert seen == [("finetune/jobs.py", "Job.target"), ("finetune/jobs.py", "Job.nothing"), ("docs/adr/", "")]
    assert [defines(ROOT / path, name) for path, name in seen[:2]] == [True, False]
    assert len(places(read(Path("docs/architecture.md")))) > 30


def test_every_room_is_in_the_table_of_rooms() -> None:
    table = read(Path("docs/architecture.md")).partition("## Rooms")[2].partition("## ")[0]
    rooms = {path.stem for path in (ROOT / "finetune").glob("*.py")} - {"__init__"}
    rooms |= {path.parent.name for path in (ROOT / "finetune").glob("*/__init__.py")}
    assert sorted(rooms - set(re.findall(r"`(\w+)`", table))) == []


def test_the_table_of_rooms_has_the_order_of_the_linter() -> None:
    table = read(Path("docs/architecture.md")).partition("## Rooms")[2].partition("## ")[0]
    rows = [re.findall(r"`(\w+)`", row) for row in re.findall(r"^\| (`.*?) \|", table, re.M)]
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (layers,) = [one["layers"] for one in contracts if one["id"] == "layers"]
    level = {room: number for number, layer in enumerate(layers) for room in re.findall(r"\w+", layer)}
    levels = [{level[room] for room in row if room not in ("workers", "__main__")} for row in rows]
    assert all(len(one) == 1 for one in levels), levels
    flat = [one.pop() for one in levels]
    assert flat == sorted(flat)


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_every_command_and_option_that_a_page_names_is_there(page: Path) -> None:
    for line in named(read(page)):
        command: Any = typer.main.get_command(app)
        for word in line.split()[1:]:
            inner = getattr(command, "commands", None)
            if inner is None or not re.fullmatch("[a-z]+", word):
                break
            assert word in inner, f"{page}: {line}"
            command = inner[word]
        options = {option for one in command.params for option in one.opts} | {"--help", "-h"}
        assert [word for word in re.findall(r"(?<=[\s\[])--?[a-z][a-z-]*", line) if word not in options] == [], line


def named(text: str) -> list[str]:
    """`ft ...` in backticks and in blocks of shell, without remarks; line breaks inside backticks are blanks."""
    inline = [" ".join(one.split()) for one in re.findall(r"(?<!`)`(ft\s[^`]+)`(?!`)", _FENCE.sub("", text))]
    fenced = [line for block in re.findall(r"^```sh\n(.*?)^```$", text, re.M | re.S) for line in block.splitlines()]
    return inline + [line.partition(" #")[0].strip() for line in fenced if line.startswith("ft ")]


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_every_code_that_a_page_names_is_known(page: Path) -> None:
    assert {code for code in re.findall(r"\bE\d{3}\b", read(page)) if code not in CODES} == set()


def test_every_decision_is_in_the_list() -> None:
    files = sorted(path.name for path in (DOCS / "adr").glob("0*.md"))
    assert re.findall(r"\]\((0[\w-]+\.md)\)", read(Path("docs/adr/README.md"))) == files
    for name in files:
        text = read(Path("docs/adr") / name)
        assert text.startswith(f"# {int(name[:4])}. "), name
        assert re.findall(r"^## (.*)$", text, re.M) == ["Context", "Decision", "Consequences"], name
