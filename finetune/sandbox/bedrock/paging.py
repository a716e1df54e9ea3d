"""Pages of Bedrock's lists."""

import re
from collections.abc import Sequence, Set
from typing import Any, Final, TypeVar

from finetune.sandbox.bedrock.words import invalid
from finetune.sandbox.service import Request

T = TypeVar("T")

_PAGE: Final = 100
_MOST: Final = 1000
_ALWAYS: Final = frozenset({"maxResults", "nextToken", "sortBy", "sortOrder"})


def paged(request: Request, rows: Sequence[T], known: Set[str]) -> tuple[Sequence[T], dict[str, Any]]:
    """The page that the request asks for of rows that are newest first, and the field that leads to the next.

    Raises Refusal for parameters beside these and the `known` ones.
    """
    if unknown := sorted(request.query.keys() - _ALWAYS - known):
        raise invalid(unknown[0], request.one(unknown[0]), "is no parameter of this list")
    if request.one("sortBy") not in (None, "CreationTime"):
        raise invalid("sortBy", request.one("sortBy"), "must be CreationTime")
    if request.one("sortOrder") not in (None, "Ascending", "Descending"):
        raise invalid("sortOrder", request.one("sortOrder"), "must be Ascending or Descending")
    ordered = rows[::-1] if request.one("sortOrder") == "Ascending" else rows
    most = request.one("maxResults") or str(_PAGE)
    if not most.isdigit() or not 1 <= int(most) <= _MOST:
        raise invalid("maxResults", most, f"must be from 1 to {_MOST}")
    # Counted from the end, where nothing is added to a list that has its newest first.
    token = request.one("nextToken") or f"left-{len(ordered)}"
    left = re.fullmatch(r"left-(\d+)", token)
    if left is None:
        raise invalid("nextToken", token, "is none that a list has given")
    begin = max(0, len(ordered) - int(left[1]))
    page = ordered[begin : begin + int(most)]
    rest = len(ordered) - begin - len(page)
    return page, {"nextToken": f"left-{rest}"} if rest > 0 else {}
