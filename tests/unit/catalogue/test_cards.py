"""The cards that ship: every speed has its source, drivers' names are found, others are not guessed at."""

import os
from pathlib import Path

import pytest

from finetune.catalogue.cards import Cards, load, plain
from finetune.gpus import read
from tests.unit.docs.drawing import put

PAGE = Path(__file__).parents[3] / "docs" / "planning.md"
#: Read here: the fixtures take all variables of ours out of the environment.
_UPDATE = "FT_UPDATE_DOCS" in os.environ

#: As drivers name cards, and what their makers print, dense.
SMI = """\
GPU-1, NVIDIA H100 80GB HBM3, 81559
GPU-2, NVIDIA H100 PCIe, 81559
GPU-3, NVIDIA H100 NVL, 95830
GPU-4, NVIDIA H200, 143771
GPU-5, NVIDIA A100-SXM4-80GB, 81920
GPU-6, A100-PCIE-40GB, 40960
GPU-7, NVIDIA A10G, 23028
GPU-8, NVIDIA L4, 23034
GPU-9, NVIDIA GeForce RTX 4090, 24564
GPU-10, NVIDIA RTX A6000, 49140
"""
TFLOPS = [989.5, 756.5, 835.5, 989.5, 312, 312, 70, 121, 165.2, 154.8]


@pytest.fixture(scope="module")
def cards() -> Cards:
    return load()


def test_every_source_is_there_and_used(cards: Cards) -> None:
    assert {each.source for each in cards.cards} == {*cards.sources}


def test_a_name_is_one_card(cards: Cards) -> None:
    names = [plain(name) for each in cards.cards for name in each.names]
    assert len(names) == len({*names}) > 20


def test_what_the_driver_says_is_found(cards: Cards) -> None:
    assert [cards.tflops(device.name) for device in read(SMI)] == TFLOPS


def test_what_ft_gpus_can_say_is_found(cards: Cards) -> None:
    assert cards.tflops("h100-sxm") == cards.tflops("H100_SXM") == 989.5
    assert cards.tflops("rtx-4090") == 165.2


@pytest.mark.parametrize(
    "name",
    [
        *("Tesla T4", "Tesla V100-SXM2-16GB", "NVIDIA H100", "NVIDIA A10-24Q", "simulated", ""),
        *("NVIDIA GeForce RTX 4090 Laptop GPU", "NVIDIA GeForce RTX 4090 D", "NVIDIA L40S-48Q"),
    ],
)
def test_what_is_another_card_is_not_guessed(cards: Cards, name: str) -> None:
    assert cards.tflops(name) is None


def test_the_docs_show_them(cards: Cards) -> None:
    rows = ["| Card | TFLOP/s | Published in |", "| --- | --- | --- |"]
    for each in cards.cards:
        source = cards.sources[each.source]
        note = f" ({each.note})" if each.note else ""
        names = ", ".join(f"`{name}`" for name in each.names)
        rows.append(f"| {names} | {each.bf16_tflops:g}{note} | [{source.title}]({source.url}) |")
    text = PAGE.read_text()
    drawn = put(text, "cards", "\n".join(rows))
    if _UPDATE:
        PAGE.write_text(drawn)
        text = drawn
    assert text == drawn, "after a change of cards.yaml: FT_UPDATE_DOCS=1 pytest tests/unit/catalogue"
