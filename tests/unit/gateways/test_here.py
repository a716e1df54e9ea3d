"""Which gateways count as set up here."""

from dataclasses import replace
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from finetune.clock import SystemClock
from finetune.deployments import GatewayKit
from finetune.errors import UsageError
from finetune.gateways import embedded
from finetune.wiring.here import set_up


def here(**environ: str) -> set[str]:
    kit = GatewayKit(environ=environ, clock=SystemClock(), port=1)
    return set(set_up(entry_points(group="ft.gateways"), kit)) - {"embedded"}


def test_an_address_that_nobody_has_set_is_none() -> None:
    kit = GatewayKit(environ={"PATH": "/bin", "VLLM_URL": " "}, clock=SystemClock(), port=1)
    assert set_up(entry_points(group="ft.gateways"), kit) == {"embedded"}


@pytest.mark.parametrize(
    ("name", "environ"),
    [
        ("vllm", {"VLLM_URL": "http://gpu:8000"}),
        ("vllm", {"FT_VLLM_MAX_LORA_RANK": "32"}),
        ("sglang", {"SGLANG_API_KEY": "k"}),
        ("ollama", {"OLLAMA_HOST": "box"}),
        ("litellm", {"LITELLM_URL": "http://proxy:4000"}),
    ],
)
def test_a_variable_of_its_own_is_enough(name: str, environ: dict[str, str]) -> None:
    assert here(**environ) == {name}


def test_what_cannot_be_used_is_not_here(tmp_path: Path) -> None:
    assert here(LLAMACPP_URL="http://gpu:8080") == set(), "it needs its presets"
    assert here(LLAMACPP_URL="http://gpu:8080", FT_LLAMACPP_PRESETS=str(tmp_path / "presets.ini")) == {"llamacpp"}
    assert here(VLLM_URL="nonsense") == set()


def test_a_port_that_each_start_takes_anew_is_no_address() -> None:
    kit = GatewayKit(environ={}, clock=SystemClock(), port=0)
    with pytest.raises(UsageError, match="E825") as refused:
        embedded.build(kit)
    assert "FT_SERVER_URL" in refused.value.problems[0].fix
    there = replace(kit, environ={"FT_SERVER_URL": "http://127.0.0.1:9"})
    assert embedded.build(there).name == "embedded"
