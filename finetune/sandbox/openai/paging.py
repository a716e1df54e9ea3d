"""Lists: what may stand in a query, and which page it asks for."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from finetune.sandbox.openai.words import Refused, out_of_range, unknown_parameter, wrong_type, wrong_value

_FILTER = re.compile(r"metadata\[(.*)\]", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class Page:
    """Which part of a list is wanted."""

    #: None: from the beginning.
    after: str | None
    limit: int


def page_of(query: Mapping[str, list[str]], default: int, most: int) -> Page:
    """`after` and `limit` of a query. Raises Refused for a limit that is no number from 1 to `most`."""
    said = query.get("limit", [str(default)])[-1]
    if not re.fullmatch(r"-?[0-9]{1,9}", said):
        raise wrong_type("limit", "an integer", said)
    limit = int(said)
    if limit < 1:
        raise out_of_range("limit", limit, below=1)
    if limit > most:
        raise out_of_range("limit", limit, above=most)
    return Page(after=query.get("after", [""])[-1] or None, limit=limit)


def flag_of(query: Mapping[str, list[str]], name: str, choices: tuple[str, ...]) -> str | None:
    """The value of this parameter, one of `choices`; None when it is not there. Raises Refused."""
    value = query[name][-1] if name in query else None
    if value is not None and value not in choices:
        raise wrong_value(name, value, choices)
    return value


def metadata_filter(query: Mapping[str, list[str]]) -> dict[str, str] | None:
    """The pairs of `metadata[key]=value`, empty for no filter; None for `metadata=null`: jobs without metadata."""
    pairs = {found[1]: said[-1] for name, said in query.items() if (found := _FILTER.fullmatch(name))}
    if "metadata" not in query:
        return pairs
    if query["metadata"][-1] != "null" or pairs:
        raise Refused(400, "Invalid value for 'metadata'.", code="invalid_value", param="metadata")
    return None


def only(query: Mapping[str, list[str]], known: Sequence[str]) -> None:
    """Raise Refused for a parameter that is not `known`; `metadata` stands for its filters too."""
    for name in query:
        if name not in known and not ("metadata" in known and _FILTER.fullmatch(name)):
            raise unknown_parameter(name)


def listing(data: Sequence[Mapping[str, Any]], has_more: bool, *, ends: bool = False) -> dict[str, Any]:
    """A page as it goes out. `ends` adds the ids of its first and last item."""
    out: dict[str, Any] = {"object": "list", "data": list(data), "has_more": has_more}
    if ends:
        out |= {"first_id": data[0]["id"] if data else None, "last_id": data[-1]["id"] if data else None}
    return out


def newest_first(items: Sequence[dict[str, Any]], page: Page, missing: str) -> tuple[list[dict[str, Any]], bool]:
    """A page of a list that is kept oldest first. Raises Refused with 404 when `after` is not in it."""
    turned = items[::-1]
    begin = 0
    if page.after is not None:
        places = [place for place, item in enumerate(turned) if item["id"] == page.after]
        if not places:
            raise Refused(404, f"{missing}: {page.after}", param="after")
        begin = places[0] + 1
    return list(turned[begin : begin + page.limit]), len(turned) > begin + page.limit
