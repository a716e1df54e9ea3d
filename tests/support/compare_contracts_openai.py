"""Hold our contract of OpenAI's API against the published description: `compare_contracts_openai.py FOLDER`.

The folder has `openai-finetuning-pruned.yaml`. Compared are fields, which of them must be there, words, ranges and
lengths, at every depth. Prints each difference that is not in `KNOWN`; exits with 1 when there is one.
"""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from tests.wire.hosted.openai_contract import SCHEMAS

#: Differences on purpose: the end of the place, and the reason.
KNOWN: Final[Mapping[str, str]] = {
    "_at: minimum": "ours wants times to be seconds since 1970, not zero or milliseconds",
    "_finish: minimum": "as above",
    ".status: enum": "pausing and paused are in the guides only",
    ".model: enum": "names of the past, beside any other string",
    "ListFilesResponse.object: enum": "the description says it for every other list",
}
_LIMITS: Final = ("minimum", "maximum", "exclusiveMinimum", "minLength", "maxLength", "maxItems", "enum", "required")
#: Below these, ft has nothing to say.
_DEEP: Final = ("reinforcement",)


def facts(schema: Any, root: Mapping[str, Any], place: str) -> Iterator[tuple[str, Any]]:
    """Every field and limit below, with its place; alternatives are one."""
    if "$ref" in schema:
        schema = root[schema["$ref"].rsplit("/", 1)[1]]
    for each in (*schema.get("anyOf", ()), *schema.get("oneOf", ()), *schema.get("allOf", ())):
        yield from facts(each, root, place)
    for limit in _LIMITS:
        if schema.get(limit) not in (None, []):
            value = schema[limit]
            yield f"{place}: {limit}", tuple(sorted(value)) if isinstance(value, list) else value
    for name, inner in schema.get("properties", {}).items():
        yield f"{place}.{name}", True
        if name not in _DEEP:
            yield from facts(inner, root, f"{place}.{name}")
    if isinstance(schema.get("items"), dict):
        yield from facts(schema["items"], root, f"{place}[]")


def differing(folder: Path) -> list[str]:
    """Where the two differ, in words."""
    text = (folder / "openai-finetuning-pruned.yaml").read_text()
    published = yaml.safe_load(text)["components"]["schemas"]
    out = []
    for name, schema in SCHEMAS.items():
        ours = set(facts(schema, {}, name))
        theirs = set(facts(published[name], published, name))
        for whose, left in (("only ours", ours - theirs), ("only theirs", theirs - ours)):
            unknown = [fact for fact in sorted(left, key=str) if not fact[0].endswith(tuple(KNOWN))]
            out += [f"{whose}: {place} {value}" for place, value in unknown]
    return out


def main(folder: str) -> int:
    """Compare, and tell."""
    found = differing(Path(folder))
    sys.stdout.write("".join(f"{each}\n" for each in found) + f"{len(SCHEMAS)} schemas, {len(found)} differences\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
