"""SGLang: adapters are loaded while it runs. `SGLANG_URL`, `SGLANG_API_KEY`, `FT_SGLANG_MAX_LORA_RANK`.

An adapter is asked for as `BASE:ADAPTER`: its bare name is answered by the base model, without a word.
Start it with `--enable-lora --max-lora-rank R --lora-target-modules all`.
"""

from dataclasses import replace
from http import HTTPStatus
from typing import Final

from finetune.deployments import GatewayKit
from finetune.errors import Problem, UsageError
from finetune.gateways.adapters import Limits
from finetune.gateways.calling import Calls, Place
from finetune.gateways.runtime import Dialect, RuntimeLora
from finetune.gateways.templates import counted

_URL: Final = "http://127.0.0.1:30000"
_RANK: Final = "FT_SGLANG_MAX_LORA_RANK"
_INFO: Final = ("/server_info", "/get_server_info")


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
        told=_told,
        # Its own /tokenize takes texts only.
        look=counted,
        start="--enable-lora",
        serve="--model-path {base} --enable-lora, or name the base with --served-model-name",
        unlisted="use a newer SGLang: older ones leave adapters out of GET /v1/models",
    )
    return RuntimeLora(Calls(place), dialect)


def _told(calls: Calls, limits: Limits) -> Limits:
    """With what it was started with, as it tells by a path that was called otherwise before."""
    for path in _INFO:
        answer = calls.send("GET", path)
        if answer.status != HTTPStatus.NOT_FOUND:
            break
    else:
        return limits
    info = answer.object()
    rank, targets = info.get("max_lora_rank"), info.get("lora_target_modules")
    if isinstance(targets, list) and targets and "all" not in targets:
        limits = replace(limits, targets=frozenset(map(str, targets)))
    return replace(limits, max_rank=rank) if isinstance(rank, int) else limits


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
