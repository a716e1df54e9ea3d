"""What a deployment at Together costs, what it needs, and how it is called there. Nothing is sent.

Sources, read 2026-11-29: "Pricing" and "Concepts" of dedicated model inference at docs.together.ai.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from finetune.abilities import Hosting
from finetune.errors import Problem
from finetune.providers.keyed import dollars, missing, of_address, variable

if TYPE_CHECKING:
    from finetune.catalogue import ProviderSheet

KEY: Final = "TOGETHER_API_KEY"
#: Variables: the hardware of a replica, which of several configurations for it, its price, and where endpoints answer.
HARDWARE: Final = "TOGETHER_INSTANCE_TYPE"
CONFIG: Final = "TOGETHER_DEPLOYMENT_CONFIG"
PRICE: Final = "TOGETHER_HOSTING_USD"
INFERENCE: Final = "TOGETHER_INFERENCE_URL"

SMALLEST: Final = "1xnvidia-h100-80gb"
_TYPE: Final = re.compile(r"([1-9][0-9]?)x([a-z0-9][a-z0-9-]*)")
#: The vendor's own; another address of the API serves both.
ANSWERS: Final = "https://api-inference.together.ai/v1"
#: Our names there. How long one may be is not published; a name of a host may have so many characters.
_PREFIX, SHORT, _LONGEST = "ft-", "ft", 63
_CUT: Final = 46
_CODED: Final = re.compile(r"--([0-9a-f]{2})-")


def hosting(environ: Mapping[str, str], sheet: "ProviderSheet | None", base_model: str) -> Hosting:
    """See `Deployable.hosting`. Sends nothing."""
    hardware, own = variable(environ, HARDWARE) or SMALLEST, variable(environ, PRICE)
    told = {"kind": f"1 replica on {hardware[:40]}", "fix": f"say what your contract has: export {PRICE}=5.49"}
    if own is not None:
        usd = dollars(own)
        source = f"{PRICE}={own}" if usd is not None else f"{PRICE}={own[:40]} is no amount of US dollars"
        return Hosting(usd_per_hour=usd, source=source, **told)
    usd, source = _published(sheet, base_model, hardware)
    return Hosting(usd_per_hour=usd, source=source, **told)


def missing_for(environ: Mapping[str, str]) -> list[Problem]:
    """What stands against deploying, beside the key: see `Deployable.undeployable`. Sends nothing."""
    found = list(of_address(INFERENCE, variable(environ, INFERENCE) or ANSWERS, ANSWERS))
    if not _TYPE.fullmatch(variable(environ, HARDWARE) or SMALLEST):
        found.append(missing(f"{HARDWARE} is no type of hardware", f"write it like {SMALLEST}, or unset it"))
    return found


@dataclass(frozen=True, kw_only=True)
class Names:
    """What the endpoint and the deployment of one name are called, without the project."""

    endpoint: str
    deployment: str


def named(name: str) -> Names:
    """What they are called there: small letters, digits and lone `-`, all else by its code. No two names share one."""
    coded = re.sub(r"[^a-z0-9-]|(?<=-)-", lambda sign: f"--{ord(sign[0]):02x}-", name)
    if len(_PREFIX + coded) <= _LONGEST:
        return Names(endpoint=_PREFIX + coded, deployment=SHORT)
    mark = hashlib.sha256(name.encode()).hexdigest()[:12]
    return Names(endpoint=f"{_PREFIX}{coded[:_CUT]}--{mark}", deployment=_PREFIX + coded[_CUT:])


def given(endpoint: str, deployment: str) -> str | None:
    """The name of which `named` makes these two; None: they are not ours."""
    coded = endpoint.removeprefix(_PREFIX)
    if deployment != SHORT:
        coded = coded[:_CUT] + deployment.removeprefix(_PREFIX)
    name = _CODED.sub(lambda code: chr(int(code[1], 16)), coded)
    return name if named(name) == Names(endpoint=endpoint, deployment=deployment) else None


def _published(sheet: "ProviderSheet | None", base_model: str, hardware: str) -> tuple[Decimal | None, str]:
    """The catalogue's price of an hour, and who says so; None, and why there is none."""
    from finetune.catalogue.costs import hosting as published

    found = _TYPE.fullmatch(hardware)
    # A configuration of several costs as many times one: the page says so.
    price = published(sheet, base_model, f"1x{found[2]}") if sheet and found else None
    if sheet is None or found is None or price is None:
        return None, f"replicas on {hardware[:40]} have no price that was published"
    source = sheet.sources[price.source]
    told = [f"read {source.read}", *([price.note] if price.note else [])]
    return price.usd * int(found[1]), f'Together\'s page "{source.title}", {", ".join(told)}'
