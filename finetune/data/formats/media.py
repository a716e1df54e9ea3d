"""Images and audio by address: data: URLs taken apart, and the type that the end of a name tells."""

import re
from typing import Final, NamedTuple

#: By the end of a name, without its dot.
IMAGE_TYPES: Final = {
    "png": "image/png",
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "webp": "image/webp",
    "gif": "image/gif",
    "heic": "image/heic",
    "heif": "image/heif",
}

_DATA: Final = re.compile(r"data:([\w.+-]+/[\w.+-]+);base64,(\S+)")


class Inline(NamedTuple):
    """What a data: URL holds."""

    type: str
    #: Base64.
    data: str


def inline(url: str) -> Inline | None:
    """The type and the data of a data: URL in base64; None for every other URL."""
    found = _DATA.fullmatch(url)
    return Inline(*found.groups()) if found else None


def data_url(type: str, data: str) -> str:
    """The URL of which `inline` gives these."""
    return f"data:{type};base64,{data}"


def scheme(url: str) -> str:
    """What stands before `://`, in lower case; empty if there is no such thing."""
    before, mark, _ = url.partition("://")
    return before.lower() if mark else ""


def ending(url: str) -> str:
    """The end of the name behind its last dot, in lower case; empty without one.

    Behind `?` and `#` stands no name in a URL of the web, and in a bucket it may be one.
    """
    path = re.split(r"[?#]", url)[0] if scheme(url) in ("http", "https") else url
    # Without the host, whose dots tell nothing.
    name = path.partition("://")[2].partition("/")[2].rpartition("/")[2]
    return name.rpartition(".")[2].lower() if "." in name else ""


def image_type(url: str) -> str | None:
    """The MIME type of an image by the end of its name; None if that does not tell."""
    return IMAGE_TYPES.get(ending(url))
