"""What an explanation is."""

from typing import NamedTuple


class CodeText(NamedTuple):
    """A code's title (a few words) and its explanation (cause, consequence, remedy)."""

    title: str
    text: str
