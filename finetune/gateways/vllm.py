"""vLLM: adapters are loaded while it runs. `VLLM_URL`, `VLLM_API_KEY`, `FT_VLLM_MAX_LORA_RANK`.

Start it with `VLLM_ALLOW_RUNTIME_LORA_UPDATING=True vllm serve BASE --enable-lora`. It does not tell its highest rank.
"""

from typing import Final

from finetune.deployments import GatewayKit
from finetune.errors import Problem, UsageError
from finetune.gateways.adapters import Limits
from finetune.gateways.calling import Calls, Place
from finetune.gateways.runtime import Dialect, RuntimeLora
from finetune.gateways.templates import tokenized

_URL: Final = "http://127.0.0.1:8000"
_RANK: Final = "FT_VLLM_MAX_LORA_RANK"
#: What `--max-lora-rank` may be.
_RANKS: Final = (1, 8, 16, 32, 64, 128, 256, 320, 512)
_DEFAULT_RANK: Final = 16


def build(kit: GatewayKit) -> RuntimeLora:
    """See `GatewayKit`."""
    place = Place(
        gateway="vllm",
        url=kit.environ.get("VLLM_URL") or _URL,
        url_name="VLLM_URL",
        key=kit.environ.get("VLLM_API_KEY") or None,
        key_name="VLLM_API_KEY",
        log="the log of vLLM",
    )
    dialect = Dialect(
        load="/v1/load_lora_adapter",
        unload="/v1/unload_lora_adapter",
        asked=lambda base, name: name,
        limits=Limits(max_rank=_max_rank(kit), rank_name=_RANK, rank_option="--max-lora-rank"),
        # It tells none.
        told=lambda calls, limits: limits,
        look=tokenized,
        start="VLLM_ALLOW_RUNTIME_LORA_UPDATING=True and --enable-lora",
        serve="`vllm serve {base} --enable-lora`, or name the base with --served-model-name",
        unlisted="look into the log of vLLM",
    )
    return RuntimeLora(Calls(place), dialect)


def _max_rank(kit: GatewayKit) -> int:
    text = kit.environ.get(_RANK) or str(_DEFAULT_RANK)
    if text in map(str, _RANKS):
        return int(text)
    raise UsageError(
        Problem(
            code="E825",
            what=f"{_RANK} cannot be {text}",
            why=f"vLLM's --max-lora-rank is one of {', '.join(map(str, _RANKS))}",
            fix=f"set it to what vLLM was started with, or unset it for {_DEFAULT_RANK}",
        )
    )
