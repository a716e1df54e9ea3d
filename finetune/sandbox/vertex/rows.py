"""What a dataset has to look like for Vertex AI: the rows of each kind of tuning, and figures about them."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

_PART: Final = ("text", "inlineData", "fileData", "functionCall", "functionResponse")
_BESIDE: Final = frozenset({"thought", "thoughtSignature", "videoMetadata", "mediaResolution"})
_ROW: Final = frozenset({"contents", "systemInstruction", "tools", "toolConfig", "generationConfig", "labels"})
#: Faults that are told of; more of them say nothing new.
_TOLD: Final = 5
#: Rows of a validation set: never more, and from the second on no more than this share of the training rows.
_VALIDATION: Final = 5_000
_SMALL: Final = 1_000
_SHARE: Final = 0.3


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A dataset as it was read."""

    rows: int
    #: Length of the rows' text in characters.
    sizes: tuple[int, ...]
    faults: tuple[str, ...]


def read(data: bytes, layout: str) -> Dataset:
    """Read all lines as rows of this layout: `gemini`, `gemini-preference` or `open`."""
    faults: list[str] = []
    sizes: list[int] = []
    for number, line in enumerate(data.split(b"\n"), 1):
        if not line.strip() and number > data.count(b"\n"):
            continue
        try:
            row = json.loads(line)
        except ValueError:
            faults.append(f"line {number} is no JSON")
            continue
        told = list(_row(row, layout))
        faults += [f"line {number}: {each}" for each in told]
        sizes.append(len(line))
    if not sizes and not faults:
        faults.append("there are no examples")
    return Dataset(rows=len(sizes), sizes=tuple(sizes), faults=tuple(faults[:_TOLD]))


def mismatched(train: Dataset, validation: Dataset) -> str | None:
    """What is wrong with the size of a validation set; None when nothing is."""
    if validation.rows > _VALIDATION:
        return f"the validation dataset has {validation.rows} examples, more than {_VALIDATION}"
    if validation.rows > _SMALL and validation.rows > _SHARE * train.rows:
        return f"the validation dataset has {validation.rows} examples, more than 30% of {train.rows}"
    return None


def _row(row: Any, layout: str) -> Iterator[str]:
    if not isinstance(row, dict):
        yield "an example is a JSON object"
        return
    yield from _LAYOUTS[layout](row)


def _supervised(row: dict[str, Any]) -> Iterator[str]:
    yield from _conversation(row, _ROW)
    contents = row.get("contents")
    if isinstance(contents, list) and contents and _role(contents[-1]) != "model":
        yield "the last content has to be the model's"


def _preference(row: dict[str, Any]) -> Iterator[str]:
    yield from _conversation(row, _ROW | {"completions"})
    contents = row.get("contents")
    if isinstance(contents, list) and contents and _role(contents[-1]) == "model":
        yield "the last content has to be the user's"
    completions = row.get("completions")
    if not isinstance(completions, list) or len(completions) != 2:
        yield "completions have to be two"
        return
    scores = []
    for each in completions:
        if not isinstance(each, dict) or each.keys() != {"score", "completion"}:
            yield "a completion has score and completion, nothing else"
            return
        scores.append(each["score"])
        yield from _content(each["completion"], ("model",))
    if sorted(scores, key=str) not in ([0, 1], [0.0, 1.0]) or any(isinstance(each, bool) for each in scores):
        yield "one completion has score 1, the other 0"


def _open(row: dict[str, Any]) -> Iterator[str]:
    if row.keys() == {"prompt", "completion"}:
        if not all(isinstance(each, str) and each for each in row.values()):
            yield "prompt and completion are texts"
        return
    messages = row.get("messages")
    if row.keys() != {"messages"} or not isinstance(messages, list) or not messages:
        yield "an example has messages, or prompt and completion"
        return
    for each in messages:
        if not isinstance(each, dict) or each.get("role") not in ("system", "user", "assistant"):
            yield "a message has the role system, user or assistant"
        elif not isinstance(each.get("content"), str):
            yield "a message has content"
    if isinstance(messages[-1], dict) and messages[-1].get("role") != "assistant":
        yield "the last message has to be the assistant's"


_LAYOUTS: Final[dict[str, Callable[[dict[str, Any]], Iterator[str]]]] = {
    "gemini": _supervised,
    "gemini-preference": _preference,
    "open": _open,
}


def _conversation(row: dict[str, Any], known: frozenset[str] | set[str]) -> Iterator[str]:
    spelled = {_camel(key): value for key, value in row.items()}
    if unknown := sorted(spelled.keys() - known):
        yield f"unknown fields: {', '.join(unknown)}"
    if (system := spelled.get("systemInstruction")) is not None:
        yield from _content({"role": "user", **system} if isinstance(system, dict) else system, ("user", "system"))
    contents = spelled.get("contents")
    if not isinstance(contents, list) or not contents:
        yield "contents are missing"
        return
    for each in contents:
        yield from _content(each, ("user", "model", "function"))
    if "user" not in map(_role, contents):
        yield "there is no content of the user's"


def _content(content: Any, roles: tuple[str, ...]) -> Iterator[str]:
    if not isinstance(content, dict) or content.keys() - {"role", "parts"}:
        yield "a content has role and parts, nothing else"
        return
    if _role(content) not in roles:
        yield f"a role here is {' or '.join(roles)}"
    parts = content.get("parts")
    if not isinstance(parts, list) or not parts:
        yield "a content has parts"
        return
    for part in parts:
        keys = {_camel(key) for key in part} if isinstance(part, dict) else set()
        kinds = keys & set(_PART)
        if len(kinds) != 1 or keys - kinds - _BESIDE:
            yield f"a part has one of {', '.join(_PART)}"
        elif "text" in kinds and not isinstance(part["text"], str):
            yield "text is a text"


def _role(content: Any) -> str:
    """Without a role a content is the user's."""
    return str(content.get("role", "user")) if isinstance(content, dict) else ""


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(part.capitalize() for part in rest)
