"""What a gateway must know of an adapter before it is asked to load it, and the names that are ours."""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from finetune.deployments import Deployment
from finetune.errors import GatewayError, Problem
from finetune.gateways.calling import Answer, Place
from finetune.jobs import Json

CONFIG: Final = "adapter_config.json"
WEIGHTS: Final = "adapter_model.safetensors"
#: `Deployment.model`.
_OURS: Final = re.compile(r".+-v[0-9]+-[0-9a-f]{12}")
#: Layers that servers keep as one, and so take together.
_FUSED: Final = {
    **dict.fromkeys(("q_proj", "k_proj", "v_proj"), "qkv_proj"),
    **dict.fromkeys(("gate_proj", "up_proj"), "gate_up_proj"),
}


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a server takes."""

    #: The highest rank; None: it is not known here, and the server says it when it loads.
    max_rank: int | None
    #: The variable that tells us of it.
    rank_name: str
    #: What the server is started with for another one: `--max-lora-rank`.
    rank_option: str
    #: The modules that it has room for; None: it is not known here, or all.
    targets: frozenset[str] | None = None


def is_ours(name: str) -> bool:
    """Whether this can be the `model` of a deployment."""
    return bool(_OURS.fullmatch(name))


def folder_faults(gateway: str, deployment: Deployment) -> list[Problem]:
    """What is missing of the adapter's files."""
    folder = deployment.adapter
    if folder is None:
        return [
            _fault(
                f"{deployment.ref} has no adapter on this machine",
                f"{gateway} loads adapters from a folder; this version's weights are at a hosted provider",
                "register it with a gateway that passes calls on, such as litellm",
            )
        ]
    missing = [name for name in (CONFIG, WEIGHTS) if not (folder / name).is_file()]
    if not missing:
        return []
    return [
        _fault(
            f"the adapter of {deployment.ref} is not whole: {' and '.join(missing)} missing",
            f"{gateway} reads them from {folder}",
            "`ft submit RECIPE --force` trains it again",
        )
    ]


def lora_faults(gateway: str, deployment: Deployment, limits: Limits) -> list[Problem]:
    """What stands against serving the adapter in a server that loads LoRA and nothing else. Reads its config."""
    if faults := folder_faults(gateway, deployment):
        return faults
    assert deployment.adapter is not None
    config = _config(deployment.adapter)
    if config is None:
        return [_fault(f"{deployment.adapter / CONFIG} cannot be read", "", "`ft submit RECIPE --force`")]
    ref, targets = deployment.ref, config.get("target_modules")
    fits = rank_faults(gateway, ref, _rank(config), limits)
    fits += target_faults(gateway, ref, targets if isinstance(targets, list) else (), limits)
    return fits + _not_lora(gateway, ref, config)


def not_lora_faults(gateway: str, deployment: Deployment) -> list[Problem]:
    """What the adapter has beside LoRA matrices, which a server leaves out in silence, or fails over, later.

    Reads its config; nothing where there is none.
    """
    config = _config(deployment.adapter) if deployment.adapter else None
    return _not_lora(gateway, deployment.ref, config) if config else []


def _not_lora(gateway: str, ref: str, config: Json) -> list[Problem]:
    faults = []
    for field, why, bad in (
        ("use_dora", "it has no code for DoRA's magnitudes", bool(config.get("use_dora"))),
        ("modules_to_save", "it loads LoRA matrices, no whole modules", bool(config.get("modules_to_save"))),
        ("bias", "it loads no trained biases", config.get("bias", "none") != "none"),
    ):
        if bad:
            what = f"{ref} was trained with {field}: {config[field]}, which {gateway} does not load"
            faults.append(_fault(what, why, f"train without {field}, or serve it with another gateway"))
    return faults


def rank_faults(gateway: str, what: str, rank: int, limits: Limits) -> list[Problem]:
    """What stands against a LoRA of this rank; `what` has it."""
    if limits.max_rank is None or rank <= limits.max_rank:
        return []
    return [
        _fault(
            f"{what} has rank {rank}, {gateway} takes {limits.max_rank} at most",
            "it refuses the adapter when it is to load it",
            f"start {gateway} with {limits.rank_option} {rank} or more and set {limits.rank_name} to the same",
        )
    ]


def target_faults(gateway: str, what: str, targets: Iterable[str], limits: Limits) -> list[Problem]:
    """What stands against a LoRA on modules of these names, of which the last parts count."""
    if limits.targets is None:
        return []
    room = {_FUSED.get(name, name) for name in limits.targets}
    names = sorted({str(target).rpartition(".")[2] for target in targets})
    if not (without := [name for name in names if _FUSED.get(name, name) not in room]):
        return []
    return [
        _fault(
            f"{what} has LoRA on {', '.join(without)}, for which {gateway} has no room",
            "it refuses the adapter when it is to load it",
            f"start {gateway} with --lora-target-modules all",
        )
    ]


def base_fault(gateway: str, deployment: Deployment, served: str, fix: str) -> Problem:
    """The server has another base model than the adapter was trained on."""
    return Problem(
        code="E828",
        what=f"{gateway} serves {served}, {deployment.ref} was trained on {deployment.base_model}",
        why=f"{gateway} does not compare the two: it would load the adapter and answer nonsense",
        fix=fix,
    )


def taken(place: Place, name: str, has: str, wanted: str) -> GatewayError:
    """Another content stands under the name."""
    return GatewayError(
        Problem(
            code="E827",
            what=f"{place.gateway} already has another model called {name}",
            why=f"it was made of {has}, this one of {wanted}",
            fix=f"remove {name} from {place.gateway}, then register again",
        )
    )


def absent(place: Place, deployment: Deployment) -> GatewayError:
    """Nothing of the name is there."""
    return GatewayError(
        Problem(
            code="E829",
            what=f"{place.gateway} has no model {deployment.model}",
            why="it was never loaded, was removed, or forgotten at a restart",
            fix=f"register {deployment.ref} again",
        )
    )


def not_there(place: Place, name: str, fix: str) -> GatewayError:
    """Loaded, it says, and its list does not show it."""
    return GatewayError(
        Problem(
            code="E829",
            what=f"{place.gateway} says that it has loaded {name}, and does not list it",
            why="what is not listed cannot be found again, nor be told from a model that is not there",
            fix=fix,
        )
    )


def still_there(place: Place, name: str) -> GatewayError:
    """Removed, it says, and its list still shows it."""
    return GatewayError(
        Problem(
            code="E829",
            what=f"{place.gateway} still lists {name} after it was told to remove it",
            why="its files may not be deleted while it is there",
            fix=f"look into {place.log}; restart {place.gateway}",
        )
    )


def refused(answer: Answer, fix: str = "") -> GatewayError:
    """A refusal for good, whatever the status says."""
    place = answer.place
    return GatewayError(
        Problem(
            code="E821",
            what=f"{place.gateway} refuses {answer.call} with status {answer.status}",
            why=f"it says: {answer.words}" if answer.words else "it gives no reason",
            fix=fix or f"look into {place.log}",
        )
    )


def _config(folder: Path) -> Json | None:
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return config if isinstance(config, dict) else None


def _rank(config: Json) -> int:
    """The highest of its ranks: single modules may have another one than the rest."""
    pattern = config.get("rank_pattern") or {}
    ranks = [config.get("r"), *(pattern.values() if isinstance(pattern, dict) else ())]
    return max((rank for rank in ranks if isinstance(rank, int)), default=0)


def _fault(what: str, why: str, fix: str) -> Problem:
    return Problem(code="E826", what=what, why=why, fix=fix)
