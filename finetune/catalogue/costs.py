"""What a training will cost at most and at least, by a sheet's prices. A price that is not there is not guessed."""

from decimal import ROUND_UP, Decimal
from typing import Final

from finetune.catalogue.rules import Cost, Method
from finetune.catalogue.sheets import Price, ProviderSheet

_MILLION: Final = Decimal(1_000_000)
_CENT: Final = Decimal("0.01")


def training(
    sheet: ProviderSheet,
    method: Method,
    base_model: str,
    *,
    tokens: tuple[int, int],
    epochs: int,
    parameters: int | None = None,
) -> Cost:
    """The cost of a training on so many tokens (at least, at most; of one epoch).

    `parameters`: the model's size, for a sheet that does not tell it itself. Only prices a million training tokens can
    be reckoned before; an hour's price needs the hours, which nobody knows.
    """
    per_million = by_tokens(sheet, method, base_model, parameters)
    least = _find(_prices(sheet, base_model), "job, at least", method, None)
    if per_million is None:
        basis = f"at least {least.usd} a job; the rest is not published" if least else "no price is published"
        return Cost(basis=basis, source=_url(sheet, least))
    floor = least.usd if least else Decimal(0)
    low, high = (max(floor, Decimal(count) * epochs / _MILLION * per_million.usd) for count in tokens)
    counted = f"{tokens[1]:,}" if tokens[0] == tokens[1] else f"{tokens[0]:,} to {tokens[1]:,}"
    basis = f"{counted} tokens x {epochs} epochs at {per_million.usd} a million"
    return Cost(
        low_usd=low.quantize(_CENT, ROUND_UP),
        high_usd=high.quantize(_CENT, ROUND_UP),
        basis=f"{basis}, at least {least.usd} a job" if least else basis,
        source=_url(sheet, per_million),
    )


def by_tokens(sheet: ProviderSheet, method: Method, base_model: str, parameters: int | None = None) -> Price | None:
    """The price of a million training tokens; None: none is published for this model and size."""
    model = sheet.model(base_model)
    size = model.parameters.value if model and model.parameters else parameters
    return _find(_prices(sheet, base_model), "million training tokens", method, size)


def hosting(sheet: ProviderSheet, base_model: str, deployment: str) -> Price | None:
    """The price of an hour of hosting by this kind of deployment, whatever its case; None: none is published."""
    for price in _prices(sheet, base_model):
        kind = price.deployment
        if price.per == "hour of hosting" and (kind is None or kind.lower() == deployment.lower()):
            return price
    return None


def _prices(sheet: ProviderSheet, base_model: str) -> list[Price]:
    model = sheet.model(base_model)
    return [*(model.prices if model else ()), *sheet.prices]


def _find(prices: list[Price], per: str, method: Method, parameters: int | None) -> Price | None:
    """The first that fits; a LoRA's before one for full tuning."""
    for price in prices:
        if price.per != per or price.method not in (None, method) or price.tuning == "full":
            continue
        span = price.parameters
        if span is None:
            return price
        if parameters is None:
            continue
        above, up_to = span.above or 0, span.up_to or parameters
        if above < parameters <= up_to:
            return price
    return None


def _url(sheet: ProviderSheet, price: Price | None) -> str | None:
    return sheet.sources[price.source].url if price else None
