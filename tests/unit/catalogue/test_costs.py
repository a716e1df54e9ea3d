"""What a training costs, against figures reckoned by hand from the vendors' published prices."""

from decimal import Decimal

import pytest

from finetune.catalogue import load
from finetune.catalogue.costs import training

MILLION = 1_000_000


def cost(provider: str, model: str, low: int, high: int, epochs: int = 3):  # type: ignore[no-untyped-def]
    sheet = load().provider(provider)
    assert sheet is not None
    return training(sheet, "sft", model, tokens=(low, high), epochs=epochs)


@pytest.mark.parametrize(
    ("model", "tokens", "epochs", "usd"),
    [
        # OpenAI's example of gpt-4o-mini: 100,000 tokens in a file, 3 epochs, 3 dollars a million.
        ("gpt-4o-mini", 100_000, 3, "0.90"),
        ("gpt-4o", 2 * MILLION, 1, "50.00"),
        ("gpt-4.1-mini", MILLION, 4, "20.00"),
        ("gpt-4o-mini", 1, 1, "0.01"),
    ],
)
def test_tokens_times_epochs_times_the_price(model: str, tokens: int, epochs: int, usd: str) -> None:
    found = cost("openai", model, tokens, tokens, epochs)
    assert (found.low_usd, found.high_usd) == (Decimal(usd), Decimal(usd))
    assert found.source.startswith("https://")
    assert f"{tokens:,} tokens x {epochs} epochs" in found.basis


def test_a_range_of_tokens_is_a_range_of_dollars() -> None:
    found = cost("openai", "gpt-4o-mini", 100_000, 200_000)
    assert (found.low_usd, found.high_usd) == (Decimal("0.90"), Decimal("1.80"))
    assert "100,000 to 200,000" in found.basis


@pytest.mark.parametrize(("provider", "model"), [("vertex", "gemini-3.5-flash"), ("mistral", "open-mistral-7b")])
def test_a_price_that_nobody_publishes_is_not_guessed(provider: str, model: str) -> None:
    found = cost(provider, model, MILLION, MILLION)
    assert not found.known
    assert (found.low_usd, found.high_usd) == (None, None)
    assert found.basis


def test_a_least_price_is_told() -> None:
    assert "at least 4.00" in cost("mistral", "open-mistral-7b", 1, 1).basis


def test_a_price_for_sizes_is_found_by_the_size_of_the_model() -> None:
    found = cost("together", "nvidia/Nemotron-3-Nano-Omni-30B-A3B-Reasoning-BF16", 4 * MILLION, 4 * MILLION, 1)
    assert found.high_usd == Decimal("6.00")
    assert not cost("together", "Qwen/Qwen3.5-397B-A17B", 1, 1).known
