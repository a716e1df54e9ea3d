"""The house rules that no linter knows: sizes, codes, forbidden words, the lock."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from importlib.metadata import version
from pathlib import Path

import pytest

from finetune.codes import CODES
from tests.setup.lock import locked, pins

ROOT = Path(__file__).parents[2]
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 50
PROVIDERS = {"openai", "azure", "mistral", "vertex", "together", "fireworks", "bedrock", "local"}


@cache
def files() -> list[Path]:
    """All files of the repository, relative: what git tracks or would track; without git, what is not hidden."""
    argv = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listing = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True)
    if listing.returncode == 0 and listing.stdout:
        found = [Path(name) for name in listing.stdout.split("\0") if name]
    else:
        found = [path.relative_to(ROOT) for path in ROOT.rglob("*")]
        found = [path for path in found if not any(part[0] == "." or part == "__pycache__" for part in path.parts)]
    return [path for path in found if (ROOT / path).is_file()]


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse((ROOT / path).read_text(), filename=str(path))


def python(*tops: str) -> list[Path]:
    return [path for path in files() if path.suffix == ".py" and path.parts[0] in tops]


def nodes(*tops: str) -> Iterator[tuple[Path, ast.AST]]:
    for path in python(*tops):
        for node in ast.walk(parsed(path)):
            yield path, node


def tail(rows: list[tuple[int, str]]) -> str:
    return "\n".join(f"{count:5} {what}" for count, what in sorted(rows, reverse=True))


def test_no_file_is_too_long() -> None:
    sizes = [(len((ROOT / path).read_text().splitlines()), str(path)) for path in python("finetune", "workers")]
    assert not (too_long := [row for row in sizes if row[0] > MAX_FILE_LINES]), tail(too_long)


def test_no_function_is_too_long() -> None:
    sizes = [
        ((node.end_lineno or 0) - node.lineno + 1, f"{path}:{node.lineno} {node.name}")
        for path, node in nodes("finetune", "workers")
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    assert not (too_long := [row for row in sizes if row[0] > MAX_FUNCTION_LINES]), tail(too_long)


def test_folders_of_data_hold_no_python() -> None:
    assert python("datasets", "recipes", "docker") == []


def test_no_test_is_left_out_and_none_waits_for_the_clock() -> None:
    left_out = {"skip", "skipif", "xfail", "importorskip"}
    found = [
        f"{path}:{node.lineno} {ast.unparse(node)}"
        for path, node in nodes("tests")
        if path.parts[1] != "support"
        if (isinstance(node, ast.Attribute) and node.attr in left_out)
        or (isinstance(node, ast.Attribute) and ast.unparse(node) == "time.sleep")
        or (isinstance(node, ast.ImportFrom) and node.module == "time" and "sleep" in ast.unparse(node))
    ]
    assert found == []


def test_every_code_is_explained_and_every_explanation_is_of_a_code_in_use() -> None:
    used = {
        node.value: str(path)
        for path, node in nodes("finetune", "workers")
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and path.parts[:2] != ("finetune", "codes")
        if re.fullmatch(r"E\d{3}", node.value)
    }
    unexplained = [f"{code} {used[code]}" for code in sorted(used.keys() - CODES)]
    assert not unexplained, "not in finetune.codes.CODES:\n" + "\n".join(unexplained)
    assert sorted(CODES.keys() - used.keys()) == [], "in finetune.codes.CODES, raised nowhere"


def names_the_provider(node: ast.AST) -> bool:
    """True for `provider`, `job.provider`, `job["provider"]` and the like."""
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name) | ast.Subscript(slice=ast.Constant(value=str(name))):
            return name.lower().endswith("provider")
    return False


def constants(*within: ast.AST) -> set[object]:
    return {node.value for root in within for node in ast.walk(root) if isinstance(node, ast.Constant)}


def chooses_by_provider(node: ast.AST) -> bool:
    """True for a comparison or a match of a provider with the name of one."""
    match node:
        case ast.Compare(left=left, comparators=right):
            sides = [left, *right]
            return any(map(names_the_provider, sides)) and bool(PROVIDERS & constants(*sides))
        case ast.Match(subject=subject, cases=cases):
            return names_the_provider(subject) and bool(PROVIDERS & constants(*(case.pattern for case in cases)))
    return False


def test_nobody_but_an_adapter_asks_which_provider_it_is() -> None:
    found = [
        f"{path}:{node.lineno} {ast.unparse(node).splitlines()[0]}"
        for path, node in nodes("finetune", "workers")
        if path.parts[:2] != ("finetune", "providers")
        if isinstance(node, ast.Compare | ast.Match) and chooses_by_provider(node)
    ]
    assert found == []


@pytest.mark.parametrize(
    ("code", "caught"),
    [
        ('job.provider == "local"', True),
        ('"openai" != row["provider"]', True),
        ('remote_provider in ("vertex", "azure")', True),
        ('match recipe.provider:\n    case "mistral": pass', True),
        ('job.provider == "auto"', False),
        ("job.provider in known", False),
        ('scope == "local"', False),
    ],
)
def test_the_check_for_provider_names_sees_what_it_should(code: str, caught: bool) -> None:
    assert any(map(chooses_by_provider, ast.walk(ast.parse(code)))) is caught


def test_no_file_names_a_place_of_one_machine() -> None:
    # Images have their own file system, which is the same everywhere.
    paths = r"(?<![\w.~}/-])/(work|root|home)\b(?!\()"
    registries = r"pypi\.org|pythonhosted\.org|download\.pytorch\.org|deb\.debian\.org"
    found = []
    for path in files():
        pattern = registries if path.parts[0] == "docker" else f"{paths}|{registries}"
        try:
            lines = (ROOT / path).read_text().splitlines()
        except UnicodeDecodeError:
            continue
        found += [f"{path}:{number} {line.strip()}" for number, line in enumerate(lines, 1) if re.search(pattern, line)]
    assert found == []


def test_what_is_installed_is_what_is_locked() -> None:
    have, want = locked(), pins()
    differing = [name for name in sorted(have.keys() | want) if have.get(name) != want.get(name)]
    rows = [f"{name}: locked {have.get(name)}, installed {want.get(name)}" for name in differing]
    assert rows == [], "after a change of dependencies: make lock"


def test_no_test_with_strategies_draws_from_the_shared_generator() -> None:
    """What Hypothesis draws must repeat. Generators of our own, with a seed, do."""
    asked = re.compile(r"^import random$.*(?<!\.)\brandom\.[a-z]|^from random import (?!Random\b)", re.M | re.S)
    texts = {path: (ROOT / path).read_text() for path in files() if path.parts[0] == "tests" and path.suffix == ".py"}
    strategies = {path: text for path, text in texts.items() if re.search(r"^(from|import) hypothesis", text, re.M)}
    assert len(strategies) > 20
    assert [str(path) for path, text in strategies.items() if asked.search(text)] == []


def test_no_script_hides_a_module_of_python() -> None:
    """`python tests/bench/tokens.py` puts its folder first: a `queue.py` beside it would be Python's own to all."""
    scripts = {("tests", "bench"), ("tests", "setup")}
    names = {path.stem for path in files() if path.parts[:2] in scripts and path.suffix == ".py"}
    assert "tokens" in names
    assert names & sys.stdlib_module_names == set()


def test_the_version_is_the_same_everywhere() -> None:
    import finetune

    assert finetune.__version__ == version("ft-orchestrator")


def test_help_loads_no_heavy_library() -> None:
    heavy = ["alembic", "celery", "openai", "pydantic", "rich", "sqlalchemy", "torch", "transformers"]
    program = """
import sys
from finetune.cli.main import run
sys.argv = ["ft", "--help"]
try:
    run()
finally:
    print("loaded:", *sys.modules, file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    loaded = done.stderr.partition("loaded:")[2].split()
    assert [name for name in heavy if name in loaded] == []
