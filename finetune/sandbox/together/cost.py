"""What a fine-tuning at Together costs, by the vendor's published figures of LoRA; ft's plan has no part in it.

There is no least price (docs.together.ai/docs/fine-tuning/pricing, read 2026-11-29). What is above 69 billion
parameters, or of an unknown size, costs as the largest published here.
"""

from decimal import Decimal
from typing import Final

#: USD a million tokens, up to 16 billion parameters and above. together.ai/pricing, read 2026-11-24.
PRICES: Final = {"sft": (Decimal("0.48"), Decimal("1.50")), "dpo": (Decimal("1.20"), Decimal("3.75"))}
_SMALL: Final = 16_000_000_000
NANO: Final = 1_000_000_000


def usd(tokens: int, method: str, parameters: int | None) -> Decimal:
    """Of so many tokens of training and evaluation together."""
    small, large = PRICES[method]
    return (small if parameters is not None and parameters <= _SMALL else large) * tokens / 1_000_000


def nano(dollars: Decimal) -> int:
    """As jobs carry a price: billionths of a US dollar."""
    return int(dollars * NANO)
