"""SGLang: adapters are loaded while it runs. `SGLANG_URL`, `SGLANG_API_KEY`, `FT_SGLANG_MAX_LORA_RANK`.

An adapter is asked for as `BASE:ADAPTER`: its bare name is answered by the base model, without a word.
Start it with `--enable-lora --max-lora-rank R --lora-target-modules all`.
"""

from typing import Final

from finetune.deployments import GatewayKit
from finetune.errors import Problem, UsageError
from finetune.gateways.adapters import Limits
from finetune.gateways.calling import Calls, Place
from finetune.gateways.runtime import Dialect, RuntimeLora

_URL: Final = "http://127.0.0.1:30000"
_RANK: Final = "FT_SGLANG_MAX_LORA_RANK"


def build(kit: GatewayKit) -> RuntimeLora:
    """See `GatewayKit`."""
    place = Place(
        gateway="sglang",
        url=kit.environ.get("SGLANG_URL") or _URL,
        url_name="SGLANG_URL",
        key=kit.environ.get("SGLANG_API_KEY") or None,
        key_name="SGLANG_API_KEY",
        log="the log of SGLang",
    )
    dialect = Dialect(
        load="/load_lora_adapter",
        unload="/unload_lora_adapter",
        asked=lambda base, name: f"{base}:{name}",
        limits=Limits(max_rank=_max_rank(kit), rank_name=_RANK, rank_option="--max-lora-rank"),
        start="--enable-lora",
        serve="--model-path {base} --enable-lora, or name the base with --served-model-name",
        unlisted="use a newer SGLang: older ones leave adapters out of GET /v1/models",
    )
    return RuntimeLora(Calls(place), dialect)


def _max_rank(kit: GatewayKit) -> int | None:
    text = kit.environ.get(_RANK)
    if not text:
        return None
    if text.isascii() and text.isdigit() and int(text) > 0:
        return int(text)
    raise UsageError(
        Problem(
            code="E825",
            what=f"{_RANK} cannot be {text}",
            why="it is the number that SGLang was started with as --max-lora-rank",
            fix="set it to that number, or unset it to let SGLang say what it does not take",
        )
    )
