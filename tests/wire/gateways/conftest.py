"""A stand-in for each server that holds weights, with two versions that it could take."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.gateways import World, llamacpp_world, ollama_world, sglang_world, vllm_world


@pytest.fixture
def vllm(tmp_path: Path) -> Iterator[World]:
    with vllm_world(tmp_path) as world:
        yield world


@pytest.fixture
def sgl(tmp_path: Path) -> Iterator[World]:
    with sglang_world(tmp_path) as world:
        yield world


@pytest.fixture
def llama(tmp_path: Path) -> Iterator[World]:
    with llamacpp_world(tmp_path) as world:
        yield world


@pytest.fixture
def ollama(tmp_path: Path) -> Iterator[World]:
    with ollama_world(tmp_path) as world:
        yield world
