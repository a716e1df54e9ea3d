"""What Together calls otherwise than the hub does is found as the same weights."""

import pytest

from finetune.catalogue import load
from finetune.catalogue.weights import called

REFERENCES = {
    "meta-llama/Llama-3.3-70B-Instruct-Reference": "meta-llama/Llama-3.3-70B-Instruct",
    "meta-llama/Meta-Llama-3.1-8B-Instruct-Reference": "meta-llama/Llama-3.1-8B-Instruct",
}


@pytest.mark.parametrize(("name", "weights"), REFERENCES.items())
def test_a_reference_has_the_weights_of_the_hub(name: str, weights: str) -> None:
    catalogue = load()
    assert called(catalogue, "local", name) == weights
    assert called(catalogue, "together", weights) == name


def test_a_name_without_weights_is_said_to_have_none() -> None:
    """Nobody publishes what the models for images with a name of their own are made of."""
    sheet = load().sheets["together"]
    without = {model.name for model in sheet.models if model.open_weights is None}
    assert {name.rpartition("-")[2] for name in without} == {"VLM"}
