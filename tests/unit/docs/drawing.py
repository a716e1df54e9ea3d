"""The parts of the docs that are drawn from the code: the lifecycle, the error codes, what is said of broken data."""

import inspect
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

from finetune.codes import CODES
from finetune.data.privacy import KINDS, NOT_LOOKED_FOR
from finetune.jobs import FINAL, TRANSITIONS, JobState
from tests.support.broken import CORPUS, Broken, run

#: Headings of docs/errors.md by the first code under each; they follow the tree in finetune/errors.py.
_ROOMS = {
    "E100": "Recipes",
    "E200": "Data",
    "E300": "Targets",
    "E400": "Providers",
    "E500": "Store, FT_HOME, disk",
    "E600": "The local trainer",
    "E700": "Names",
    "E750": "The embedded server",
    "E800": "Workers, queue, waiting",
    "E900": "The command line",
    "E990": "Faults in ft",
}


def diagram() -> str:
    """The transitions as a Mermaid state diagram."""
    steps = [f"    {state} --> {after}" for state, found in TRANSITIONS.items() for after in _ordered(found)]
    ends = [f"    {state} --> [*]" for state in JobState if state in FINAL]
    return "\n".join(["```mermaid", "stateDiagram-v2", "    [*] --> queued", *steps, *ends, "```"])


def states() -> str:
    """What each state means and what can follow it."""
    meanings = _comments(JobState)
    rows = []
    for state in JobState:
        after = ", ".join(f"`{one}`" for one in _ordered(TRANSITIONS[state]))
        rows.append(f"| `{state}` | {_cell(meanings[state.name])} | {after} |")
    return "\n".join(["| State | Meaning | Next |", "| --- | --- | --- |", *rows])


def codes() -> str:
    """All error codes under their headings, with their titles."""
    firsts = [*_ROOMS, "F"]
    parts = []
    for first, after in pairwise(firsts):
        rows = [f"| `{code}` | {_cell(text.title)} |" for code, text in sorted(CODES.items()) if first <= code < after]
        if rows:
            parts.append("\n".join([f"## {_ROOMS[first]}", "", "| Code | Means |", "| --- | --- |", *rows]))
    return "\n\n".join(parts)


def data_codes() -> str:
    """All codes of data with what a user sees of one fault of each: the first of the corpus is made and looked at."""
    first: dict[str, Broken] = {}
    for broken in CORPUS:
        first.setdefault(broken.code, broken)
    rows = [
        f"| `{code}` | {_cell(text.title)} | {_cell(_code(_seen(first[code])))} |"
        for code, text in sorted(CODES.items())
        if code.startswith("E2")
    ]
    return "\n".join(["| Code | Means | Example |", "| --- | --- | --- |", *rows])


def _seen(broken: Broken) -> str:
    """The first line of what a user sees of it."""
    with TemporaryDirectory() as folder:
        problem = next(each for each in run(broken, Path(folder)) if each.code == broken.code)
    # The port of a server of ours is another one each time.
    return re.sub(r"(?<=127\.0\.0\.1):\d+", ":8000", problem.lines()[0])


def _code(text: str) -> str:
    """Text as code, whatever single backticks stand in it."""
    return f"`` {text} ``" if "`" in text else f"`{text}`"


def privacy() -> str:
    """The kinds of personal data: how each is found, and what is missed."""
    rows = [f"| {_cell(kind.title)} | {_cell(kind.how)} | {_cell(kind.misses)} |" for kind in KINDS.values()]
    never = "\n".join(f"- {each}" for each in NOT_LOOKED_FOR)
    head = ["| What | How it is found | What is missed |", "| --- | --- | --- |"]
    return "\n".join([*head, *rows, "", "Never looked for:", "", never])


#: File in docs, name of the part, and what draws it.
PARTS: list[tuple[str, str, Callable[[], str]]] = [
    ("lifecycle.md", "diagram", diagram),
    ("lifecycle.md", "states", states),
    ("errors.md", "codes", codes),
    ("data.md", "privacy", privacy),
    ("data.md", "codes", data_codes),
]


def put(text: str, name: str, part: str) -> str:
    """`text` with `part` between the markers of this name. Raises ValueError unless they are there once."""
    begin, end = f"<!-- drawn: {name} -->", f"<!-- end: {name} -->"
    if text.count(begin) != 1 or text.count(end) != 1:
        raise ValueError(f"the markers {begin} and {end} must be there once")
    head, _, rest = text.partition(begin)
    _, _, tail = rest.partition(end)
    return f"{head}{begin}\n\n{part}\n\n{end}{tail}"


def _comments(enum: type) -> dict[str, str]:
    """The `#:` comment above each member."""
    found = re.findall(r"((?:^ +#: .*\n)+) +(\w+) = ", inspect.getsource(enum), re.M)
    return {name: " ".join(re.findall(r"#: (.*)", comment)) for comment, name in found}


def _ordered(states: frozenset[JobState]) -> list[JobState]:
    return [state for state in JobState if state in states]


def _cell(text: str) -> str:
    return text.replace("|", r"\|")
