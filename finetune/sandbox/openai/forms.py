"""multipart/form-data, as clients send files."""

import re
from dataclasses import dataclass
from typing import Any, Final

from finetune.sandbox.openai.words import Refused

_BOUNDARY: Final = re.compile(r'boundary=(?:"([^"]+)"|([^;\s]+))', re.IGNORECASE)
_ATTRIBUTE: Final = re.compile(r'(?<![\w*])(name|filename)="((?:[^"\\]|\\.)*)"')
_WHOLE: Final = re.compile(r"[0-9]{1,12}")
_INSIDE: Final = re.compile(r"(\w+)\[(\w+)\]")


@dataclass(frozen=True, kw_only=True)
class Part:
    """One field of a form."""

    #: None when the field is no file.
    filename: str | None
    content: bytes


def form(body: bytes, content_type: str) -> dict[str, Part]:
    """The fields by name. Raises Refused for another content type, a broken body, and a field that comes twice."""
    found = _BOUNDARY.search(content_type)
    if content_type.partition(";")[0].strip().lower() != "multipart/form-data" or found is None:
        message = (
            f"Unsupported content type: '{content_type}'. This API method only accepts 'multipart/form-data' requests."
        )
        raise Refused(400, message, code="unsupported_content_type")
    mark = b"\r\n--" + (found[1] or found[2]).encode()
    pieces = (b"\r\n" + body).split(mark)
    if len(pieces) < 2 or pieces[0].strip() or not pieces[-1].startswith(b"--"):
        raise Refused(400, "Could not parse multipart form.")
    out: dict[str, Part] = {}
    for piece in pieces[1:-1]:
        name, part = _part(piece)
        if name in out:
            raise Refused(400, f"Duplicate parameter: '{name}'.", param=name, code="duplicate_parameter")
        out[name] = part
    return out


def values(parts: dict[str, Part], files: tuple[str, ...]) -> dict[str, Any]:
    """The fields that are no files, as a JSON object would have them: `a[b]` is inside `a`, digits are a number.

    Raises Refused where a file stands for a value or a value for a file.
    """
    out: dict[str, Any] = {}
    for name, part in parts.items():
        if name in files:
            if part.filename is None:
                raise Refused(400, f"Expected '{name}' to be a file, but got a value instead.", param=name)
            continue
        text = part.content.decode(errors="replace")
        inside = _INSIDE.fullmatch(name)
        if inside:
            group = out.setdefault(inside[1], {})
            if not isinstance(group, dict):
                raise Refused(400, f"Duplicate parameter: '{inside[1]}'.", param=inside[1], code="duplicate_parameter")
            group[inside[2]] = int(text) if _WHOLE.fullmatch(text) else text
        else:
            out[name] = text
    return out


def _part(piece: bytes) -> tuple[str, Part]:
    head, gap, content = piece.partition(b"\r\n\r\n")
    for line in head.decode(errors="replace").split("\r\n"):
        key, _, value = line.partition(":")
        if key.strip().lower() == "content-disposition":
            said = dict(_ATTRIBUTE.findall(value))
            if gap and "name" in said:
                return said["name"], Part(filename=said.get("filename"), content=content)
    raise Refused(400, "Could not parse multipart form.")
