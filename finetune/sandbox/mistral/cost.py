"""What a fine-tuning at Mistral costs and how long it is, by the vendor's own figures; ft's plan has no part in it."""

import math
from dataclasses import dataclass
from typing import Final

#: One step, whatever the model. From a job in Mistral's cookbook, July 2024: 10 steps are 1,310,720 tokens.
TOKENS_A_STEP: Final = 131_072
#: Every job costs at least this. Mistral's documentation of fine-tuning.
LEAST_USD: Final = 4.0
#: USD a million tokens. That same job: 1,310,720 tokens of open-mistral-7b are 2.6214 USD, without the least.
#: No page that can still be read has a price of another model, so all others cost the least here.
PRICES: Final = {"open-mistral-7b": 2.0}
#: When neither steps nor epochs are asked for; what the vendor does then is not published.
STEPS: Final = 100


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much there is to train."""

    steps: int
    #: Over the whole training.
    train_tokens: int
    #: Once through the data.
    data_tokens: int

    @property
    def epochs(self) -> float:
        """Passes through the data, with a fraction."""
        return self.train_tokens / self.data_tokens


def sized(data_tokens: int, *, steps: int | None, epochs: float | None) -> Size:
    """From the data and what was asked for: steps, or epochs rounded up to whole steps, or neither."""
    if steps is None:
        steps = STEPS if epochs is None else max(1, math.ceil(epochs * data_tokens / TOKENS_A_STEP))
    return Size(steps=steps, train_tokens=steps * TOKENS_A_STEP, data_tokens=data_tokens)


def by_tokens(model: str, train_tokens: int) -> float:
    """USD without the least, four decimals; 0 when the model's price is not known."""
    return round(PRICES.get(model, 0.0) * train_tokens / 1_000_000, 4)


def cost(model: str, train_tokens: int) -> float:
    """USD of the whole job."""
    return max(LEAST_USD, by_tokens(model, train_tokens))
