"""E-mail addresses: from each `@` to both sides, a bounded number of characters."""

import re
from collections.abc import Iterator

from finetune.data.privacy.finding import EMAIL, Finding, Hit

#: Latin, Greek and Cyrillic. Scripts without spaces are left out: the sentence before would be taken for a name.
_LETTER = "A-Za-z0-9\u00c0-\u024f\u0370-\u03ff\u0400-\u04ff"
#: Read backwards from the `@`. RFC 5321 allows 64 characters, RFC 5322 more signs than anyone uses.
_LOCAL = re.compile(f"[{_LETTER}._%+'&~-]{{1,64}}")
_DOMAIN = re.compile(
    f"(?:[{_LETTER}](?:[{_LETTER}-]{{0,62}}[{_LETTER}])?\\.){{1,8}}"
    r"(?:xn--[A-Za-z0-9-]{2,59}|[A-Za-z]{2,24}|[^\W\d_A-Za-z]{2,24})(?![A-Za-z0-9_(])"
)
_ESCAPE = re.compile(r"\\(?:[nrtbf]|u[0-9a-fA-F]{4})")
#: RFC 2606 and RFC 6762: nobody has an address there.
_RESERVED = re.compile(r"(?:^|\.)(?:example\.(?:com|net|org)|example|test|invalid|localhost|local)$", re.IGNORECASE)
#: `icon@2x.png`, `pkg@4.17.x`, `a@self.weight`: files, versions and products of matrices.
_NO_DOMAIN = re.compile(
    r"(?:.*\.(?:png|jpe?g|gif|svg|webp|ico|bmp|pdf|css|scss|less|js|mjs|jsx|ts|tsx|json|ya?ml|toml|lock|xml|html?|txt"
    r"|csv|tsv|whl|tgz|gz|jar|exe|dll)|\d+\.\d.*|(?:self|this)\..*)",
    re.IGNORECASE,
)


def emails(text: str) -> Iterator[Hit]:
    """The addresses in `text`, at least as many characters apart as they are long."""
    at, free = text.find("@"), 0
    while at >= 0:
        start = _start(text, at, free)
        domain = _DOMAIN.match(text, at + 1) if start < at else None
        if domain and not _RESERVED.search(domain.group()) and not _NO_DOMAIN.fullmatch(domain.group()):
            free = domain.end()
            yield Hit(EMAIL, Finding("email", "e-mail address", start, free))
        at = text.find("@", at + 1)


def _start(text: str, at: int, free: int) -> int:
    """Where the name before the `@` begins; `at` where there is none."""
    low = max(free, at - 64)
    local = _LOCAL.match(text[low:at][::-1])
    if local is None:
        return at
    start = at - local.end()
    escape = _ESCAPE.match(text, start - 1, at) if start else None
    if escape:
        start = escape.end()
    while start < at and text[start] in "'.-+%&~":
        start += 1
    # `@ada@social.net` is a handle, `//ada@host.net` the user of an address, `git@` no person.
    before = text[max(0, start - 2) : start]
    no_person = before.endswith("@") or before == "//" or text[start:at] == "git"
    return at if no_person else start
