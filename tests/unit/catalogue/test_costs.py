"""What a training costs, against figures reckoned by hand from the vendors' published prices."""

from decimal import Decimal

import pytest

from finetune.catalogue import Method, ProviderSheet, load
from finetune.catalogue.costs import hosting, training
from finetune.catalogue.sheets import Model

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


@pytest.mark.parametrize(
    ("provider", "method", "model", "tokens", "epochs", "usd"),
    [
        # developers.openai.com/api/docs/pricing: 25.00 a million for gpt-4.1. 1.2 million x 4 = 4.8 million; 4.8 x 25.
        ("openai", "sft", "gpt-4.1-2025-04-14", 1_200_000, 4, "120.00"),
        # The same page: 1.50 for gpt-4.1-nano. 0.25 million x 2 = 0.5 million; 0.5 x 1.50.
        ("openai", "sft", "gpt-4.1-nano-2025-04-14", 250_000, 2, "0.75"),
        # together.ai/pricing, to 16B by LoRA: 0.48. 10 million x 3 = 30 million; 30 x 0.48.
        ("together", "sft", "meta-llama/Meta-Llama-3.1-8B-Instruct-Reference", 10 * MILLION, 3, "14.40"),
        # The same row, by preferences: 1.20. 10 million x 1; 10 x 1.20.
        ("together", "dpo", "Qwen/Qwen3.5-4B", 10 * MILLION, 1, "12.00"),
        # Together's announcement of 2026-09-11 names five models, and goes before the rows by size: 0.34 and 0.84 for
        # Qwen3.5-9B, 0.40 for gpt-oss-20b, 6.25 by preferences for gpt-oss-120b, which no row has. 10 x 0.34 etc.
        ("together", "sft", "Qwen/Qwen3.5-9B", 10 * MILLION, 1, "3.40"),
        ("together", "dpo", "Qwen/Qwen3.5-9B", 10 * MILLION, 1, "8.40"),
        ("together", "sft", "openai/gpt-oss-20b", 10 * MILLION, 1, "4.00"),
        ("together", "dpo", "openai/gpt-oss-120b", 10 * MILLION, 1, "62.50"),
        # The row to 69B: 1.50, and 3.75 by preferences. 2 million x 2 = 4 million.
        ("together", "sft", "Qwen/Qwen3.5-27B", 2 * MILLION, 2, "6.00"),
        ("together", "dpo", "Qwen/Qwen3.5-27B", 2 * MILLION, 2, "15.00"),
        # cloud.google.com/gemini-enterprise-agent-platform/generative-ai/pricing: 0.01 a thousand for Gemini 3.5 Flash,
        # 0.003 for 3.1 Flash-Lite. 1.5 million x 2 = 3,000 thousand.
        ("vertex", "sft", "gemini-3.5-flash", 1_500_000, 2, "30.00"),
        ("vertex", "sft", "gemini-3.1-flash-lite", 1_500_000, 2, "9.00"),
        # Amazon's own sum for Nova Micro: 2,000 examples of 800 tokens, 5 epochs, 0.001 a thousand tokens: 8 dollars.
        ("bedrock", "sft", "amazon.nova-micro-v1:0:128k", 2_000 * 800, 5, "8.00"),
        # fireworks.ai/pricing: 0.50 to 16B, 3.00 to 80B. Its list has 9.4 and 77.3 billion. 8 million x 2 = 16 million.
        ("fireworks", "sft", "accounts/fireworks/models/qwen3p5-9b", 8 * MILLION, 2, "8.00"),
        ("fireworks", "sft", "llama-v3p3-70b-instruct", 8 * MILLION, 2, "48.00"),
    ],
)
def test_golden_figures(provider: str, method: Method, model: str, tokens: int, epochs: int, usd: str) -> None:
    sheet = load().provider(provider)
    assert sheet is not None
    found = training(sheet, method, model, tokens=(tokens, tokens), epochs=epochs)
    assert (found.low_usd, found.high_usd) == (Decimal(usd), Decimal(usd))


@pytest.mark.parametrize(
    ("size", "method", "usd"),
    [
        # fireworks.ai/pricing, by LoRA: to 16B 0.50, to 80B 3.00, to 300B 6.00, above 10.00, and twice that by
        # preferences. 8 million tokens x 2 epochs = 16 million.
        (8, "sft", "8.00"),
        (16, "sft", "8.00"),
        (16, "dpo", "16.00"),
        (70, "sft", "48.00"),
        (235, "sft", "96.00"),
        (671, "dpo", "320.00"),
    ],
)
def test_golden_figures_by_size(size: int, method: Method, usd: str) -> None:
    """Every row of the page, whatever models the sheet has: the size is given here."""
    found = training(fireworks(f"{size}B"), method, "m", tokens=(8 * MILLION, 8 * MILLION), epochs=2)
    assert found.high_usd == Decimal(usd)
    assert found.source == "https://fireworks.ai/pricing"


def fireworks(size: str) -> ProviderSheet:
    shipped = load().provider("fireworks")
    assert shipped is not None
    model = Model.model_validate({"name": "m", "parameters": {"value": size, "source": "pricing"}})
    return shipped.model_copy(update={"models": (model,)})


# What Azure and Bedrock ask for training is on pages that fill in their figures in the browser. What Vertex asks for
# open models, one reader of its page tells and nobody beside. Mistral publishes the least that a job costs.
@pytest.mark.parametrize(
    ("provider", "model"),
    [
        ("vertex", "gemini-3.5-flash-lite"),
        ("vertex", "qwen/qwen3@qwen3-32b"),
        ("mistral", "open-mistral-7b"),
        ("azure", "gpt-4.1-mini-2025-04-14"),
        ("azure", "gpt-oss-20b"),
        ("bedrock", "amazon.nova-lite-v1:0:300k"),
        ("bedrock", "meta.llama3-3-70b-instruct-v1:0:128k"),
        ("fireworks", "accounts/fireworks/models/some-model-of-an-unknown-size"),
        ("together", "moonshotai/Kimi-K2.6"),
    ],
)
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


@pytest.mark.parametrize(
    ("kind", "usd"), [("Standard", "1.70"), ("globalstandard", "1.70"), ("DeveloperTier", "0"), ("Provisioned", None)]
)
def test_an_hour_of_hosting_has_the_price_of_its_kind(kind: str, usd: str | None) -> None:
    sheet = load().provider("azure")
    assert sheet is not None
    found = hosting(sheet, "gpt-4.1-mini-2025-04-14", kind)
    assert (found.usd if found else None) == (None if usd is None else Decimal(usd))
    assert found is None or sheet.sources[found.source].url.startswith("https://")


def test_a_provider_without_prices_of_hosting_has_none() -> None:
    sheet = load().provider("openai")
    assert sheet is not None
    assert hosting(sheet, "gpt-4o", "Standard") is None
