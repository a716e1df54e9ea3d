"""How fast graphics cards are by their maker's word: `cards.yaml`, every figure with its source.

A card that is not there is not guessed at. Matching is by whole names: `RTX 4090 Laptop GPU` is no `RTX 4090`.
"""

import re
from functools import cache
from pathlib import Path
from typing import Annotated, Final

import yaml
from pydantic import Field

from finetune.catalogue.values import Claim, Key, Section, Source, Text, Version

SHIPPED: Final = Path(__file__).parent / "cards.yaml"
_BETWEEN: Final = re.compile(r"[\s_-]+")


class Card(Claim):
    """A card, or several that are as fast."""

    #: As the driver names it, without its maker; then short ones. Case, blanks, dashes and underscores make no odds.
    names: Annotated[tuple[Text, ...], Field(strict=False, min_length=1)]
    #: Dense bf16 matrices with sums in fp32, 10^12 operations a second; a multiplication and an addition are two.
    bf16_tflops: float = Field(gt=0)


class Cards(Section):
    """The file."""

    version: Version
    sources: dict[Key, Source]
    cards: Annotated[tuple[Card, ...], Field(strict=False)]

    def tflops(self, name: str) -> float | None:
        """Of the card that a driver, or FT_GPUS, names so, see `Card.bf16_tflops`; None: nobody knows."""
        wanted = plain(name)
        return next((each.bf16_tflops for each in self.cards if wanted in map(plain, each.names)), None)


def plain(name: str) -> str:
    """A name without its maker, in one way of writing."""
    return _BETWEEN.sub("-", name.strip().lower()).removeprefix("nvidia-")


@cache
def load(path: Path = SHIPPED) -> Cards:
    """The cards of this file, read once. Raises pydantic's ValidationError: it ships, and tests read it."""
    return Cards.model_validate(yaml.safe_load(path.read_text("utf-8")))
