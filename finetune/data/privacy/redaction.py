"""Puts placeholders where findings stood."""

import re
from collections.abc import Callable, Iterable

from finetune.data.privacy.characters import plain
from finetune.data.privacy.finding import Finding

#: (kind, value) -> what is written in its place; has to match `PLACEHOLDER` for redaction to be idempotent.
Style = Callable[[str, str], str]

#: What the styles here write.
PLACEHOLDER = re.compile(r"\[(EMAIL|PHONE|CARD|IBAN|NATIONAL_ID|SECRET)(?:_([0-9]{1,9}))?\]")

_SEPARATORS = re.compile(r"[ ./()-]")


def unnumbered(kind: str, value: str) -> str:
    """`[EMAIL]`, whatever the value."""
    return f"[{kind.upper()}]"


class Numbered:
    """`[EMAIL_1]`, `[EMAIL_2]`: a style in which equal values get equal placeholders. One object for each row.

    Values are equal whatever their separators and, but for secrets, their case. `texts` are all texts of the row: the
    numbers of placeholders that already stand there are not given again.
    """

    def __init__(self, texts: Iterable[str] = ()) -> None:
        self._given: dict[tuple[str, str], str] = {}
        self._last: dict[str, int] = {}
        for text in texts:
            for kind, number in PLACEHOLDER.findall(text) if "[" in text else ():
                self._last[kind] = max(self._last.get(kind, 0), int(number or 0))

    def __call__(self, kind: str, value: str) -> str:
        """The placeholder for `value`, the same for each equal one."""
        key = (kind, value if kind == "secret" else _SEPARATORS.sub("", plain(value)).casefold())
        if key not in self._given:
            name = kind.upper()
            self._last[name] = self._last.get(name, 0) + 1
            self._given[key] = f"[{name}_{self._last[name]}]"
        return self._given[key]


def redact(text: str, findings: Iterable[Finding], style: Style) -> str:
    """`text` with `style`'s placeholder in the place of each finding; unchanged where there are none.

    With a style of this module idempotent: what it returns has no findings. The findings are those of `find` on the
    same text. Raises ValueError where they overlap or reach beyond it.
    """
    parts: list[str] = []
    at = 0
    for finding in sorted(findings, key=lambda each: each.start):
        if not at <= finding.start <= finding.end <= len(text):
            raise ValueError("the findings are not those of this text")
        parts += text[at : finding.start], style(finding.kind, text[finding.start : finding.end])
        at = finding.end
    return "".join((*parts, text[at:]))
