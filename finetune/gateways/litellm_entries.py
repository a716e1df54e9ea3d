"""A deployment as LiteLLM lists it: an entry of `model_list`, the marks that make it ours, and what may stand in it.

An entry without a share stands under its own id, not under the public name with weight 0. For weight 0 is no lock: the
proxy divides the calls of a name at random when all weights are 0, as they are before the first promotion, and gives
them all to weight 0 while the others are in their cooldown. One 429 of the production is enough for that: of 30 calls
29 went to the candidate (LiteLLM 1.106.12). Called by its id an entry answers either way.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

from finetune.deployments import Deployment, Registered, Upstream
from finetune.errors import GatewayError, Problem
from finetune.jobs import Json

#: LiteLLM's words for providers that tuned models answer at. It skips an entry with a word that it does not know.
PREFIXES: Final = frozenset(
    "azure baseten bedrock custom_openai databricks deepinfra fireworks_ai gemini groq hosted_vllm "
    "huggingface llamafile lm_studio mistral nebius novita ollama ollama_chat openai openai_like predibase replicate "
    "sagemaker sagemaker_chat text-completion-openai together_ai vertex_ai watsonx xinference".split()
)
#: What an entry says of its deployment, beside `id` and `base_model`. Without the first of them it is not ours.
MARK: Final = "ft_ref"
#: What must be the same as long as an id is the same.
_CONTENT: Final = (MARK, "ft_public", "ft_digest", "ft_model", "base_model")
#: What tells an entry of the proxy from the one that was written. The proxy hides the key.
_COMPARED: Final = ("model", "api_base", "weight")
_OWN: Final = frozenset({"model", "api_base", "api_key", "weight"})
_REFERENCE: Final = "os.environ/"
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
#: All calls of a public name, in weights: shares are kept to a ten thousandth.
WHOLE: Final = 10_000


def entry(deployment: Deployment) -> Json:
    """Its entry, without a share. Raises GatewayError for one that no upstream holds yet."""
    if deployment.upstream is None:
        raise GatewayError(
            Problem(
                code="E825",
                what=f"nothing that LiteLLM could pass calls to holds {deployment.ref}",
                why="LiteLLM holds no weights itself",
                fix="name a gateway that does before it: register.gateways: [vllm, litellm]",
            )
        )
    return {
        "model_name": deployment.id,
        "litellm_params": {**_params(deployment.upstream), "weight": 0},
        "model_info": {
            "id": deployment.id,
            "base_model": deployment.base_model,
            MARK: deployment.ref,
            "ft_public": deployment.public,
            "ft_digest": deployment.digest,
            "ft_model": deployment.model,
        },
    }


def with_weight(one: Json, weight: int) -> Json:
    """The entry with this weight, under the name that goes with it."""
    info = one["model_info"]
    return {
        **one,
        "model_name": info["ft_public"] if weight else info["id"],
        "litellm_params": {**one["litellm_params"], "weight": weight},
    }


def weights(public: str, shares: Mapping[str, float], entries: Iterable[Json]) -> dict[str, int]:
    """The weight of each of our entries of the public name. Raises GatewayError when a share is of none of them."""
    known = [id_of(one) for one in entries if one["model_info"]["ft_public"] == public]
    if unknown := sorted(shares.keys() - set(known)):
        raise GatewayError(
            Problem(
                code="E824",
                what=f"{unknown[0]} is not registered in LiteLLM, so it cannot get calls of {public}",
                why=f"registered there are {', '.join(known) or 'none'}",
                fix="register it again",
            )
        )
    if any(not 0 <= share <= 1 for share in shares.values()) or abs(sum(shares.values()) - 1) > 1e-6:
        raise GatewayError(
            Problem(
                code="E824",
                what=f"the shares of {public} are not between 0 and 1 with the sum 1",
                why="every call of a public name goes to exactly one of its deployments",
                fix="divide all calls",
                value=str(dict(shares))[:100],
            )
        )
    # A share that rounds to nothing would be another wish than the one that was uttered.
    return {name: max(1, round(shares[name] * WHOLE)) if shares.get(name) else 0 for name in known}


def id_of(one: Json) -> str:
    """The id of an entry that has one."""
    return str(one["model_info"]["id"])


def is_ours(one: Json) -> bool:
    """Whether it carries our marks, and stands under one of the two names that we give."""
    info = one.get("model_info") or {}
    # An alias of the router is listed as one more entry with the same id.
    return isinstance(info.get(MARK), str) and one.get("model_name") in (info.get("ft_public"), info.get("id"))


def same_content(one: Json, other: Json) -> bool:
    """Whether two entries of one id are of the same weights. Where they answer may differ."""
    return all(one["model_info"].get(name) == other["model_info"].get(name) for name in _CONTENT)


def is_another(one: Json, other: Json) -> bool:
    """Whether `other` has the id of `one` and stands in its way: other content, or kept elsewhere than in our file."""
    info = other["model_info"]
    return info.get("id") == id_of(one) and (info.get("db_model") is True or not same_content(one, other))


def agrees(listed: Json, written: Json) -> bool:
    """Whether an entry, as the proxy lists it, is the one that was written."""
    there, here = listed["litellm_params"], written["litellm_params"]
    return (
        listed["model_name"] == written["model_name"]
        and same_content(listed, written)
        and all(there.get(name) == here.get(name) for name in _COMPARED)
    )


def registered(listing: Sequence[Json]) -> list[Registered]:
    """Those of ours among all entries of the proxy, with their parts of the calls of their names, others' included."""
    total: dict[str, float] = {}
    for one in listing:
        total[one["model_name"]] = total.get(one["model_name"], 0.0) + _weight(one)
    out: dict[str, Registered] = {}
    for one in filter(is_ours, listing):
        info, weight = one["model_info"], _weight(one)
        under_public = one["model_name"] == info["ft_public"]
        share = weight / total[one["model_name"]] if under_public and weight else 0.0
        says = {name: info.get(name) for name in _CONTENT}
        says |= {name: one["litellm_params"].get(name) for name in ("model", "api_base")}
        out[id_of(one)] = Registered(id=id_of(one), share=share, says=says)
    return list(out.values())


def faults(content: Any) -> list[str]:
    """What is wrong with the content of our file, a sentence each; empty when the proxy can load it."""
    if not isinstance(content, dict) or set(content) != {"model_list"} or not isinstance(content["model_list"], list):
        return ["it has to hold model_list and nothing else"]
    out: list[str] = []
    seen: set[str] = set()
    for place, one in enumerate(content["model_list"], 1):
        shaped = isinstance(one, dict) and all(
            isinstance(one.get(name), dict) for name in ("litellm_params", "model_info")
        )
        if not shaped or not is_ours(one):
            out.append(f"entry {place} is not one that ft has written")
            continue
        out += [f"{id_of(one)}: {fault}" for fault in _faults(one)]
        if id_of(one) in seen:
            out.append(f"the id {id_of(one)} stands in it twice")
        seen.add(id_of(one))
    return out


def _faults(one: Json) -> list[str]:
    params, out = one["litellm_params"], []
    model = params.get("model")
    prefix, _, name = model.partition("/") if isinstance(model, str) else ("", "", "")
    if prefix not in PREFIXES or not name.strip():
        out.append(f"{model!r} does not begin with a provider that LiteLLM knows, such as hosted_vllm/")
    weight = params.get("weight")
    if not isinstance(weight, int) or isinstance(weight, bool) or weight < 0:
        out.append(f"its weight {weight!r} is not a whole number of 0 or more")
    key = params.get("api_key")
    if key is not None and not (isinstance(key, str) and key.startswith(_REFERENCE)):
        out.append(f"its key is not a reference to a variable ({_REFERENCE}NAME)")
    base = params.get("api_base")
    if base is not None and not (isinstance(base, str) and _is_address(base)):
        out.append(f"its address {str(base)[:100]!r} is none: it has to begin with http:// or https://")
    for field, value in params.items():
        reference = isinstance(value, str) and value.startswith(_REFERENCE)
        if reference and not _VARIABLE.fullmatch(value.removeprefix(_REFERENCE)):
            out.append(f"{field} does not name a variable: {value[:100]!r}")
    return out


def guard(entries: Sequence[Json], file: str | None = None) -> None:
    """Raises GatewayError for entries that the proxy would not load as they are meant."""
    if found := faults({"model_list": list(entries)}):
        raise GatewayError(*(_broken(fault, file) for fault in found))


def _broken(fault: str, file: str | None) -> Problem:
    return Problem(
        code="E822",
        what=f"LiteLLM would not serve this: {fault}",
        why="it skips an entry that it does not understand without a word, and a file that it cannot read ends it",
        fix="give the deployment an upstream that LiteLLM knows",
        file=file,
    )


def taken(one: Json, other: Json) -> GatewayError:
    """The error of an id that stands for something else: `other` in the proxy, `one` wanted."""
    ours = is_ours(other)
    told = {name: other["model_info"].get(name) for name in _CONTENT}
    return GatewayError(
        Problem(
            code="E824",
            what=f"LiteLLM has {id_of(one)} already, " + ("with another content" if ours else "and it is not of ft"),
            why=f"it says of itself: {json.dumps(told)}" if ours else "ft never changes what it has not made",
            fix=f"remove the entry with the id {id_of(one)} from the proxy, if it is not needed",
        )
    )


def _params(upstream: Upstream) -> Json:
    """What LiteLLM needs to reach it. Raises GatewayError for parameters that are not free."""
    if own := sorted(_OWN & upstream.params.keys()):
        raise GatewayError(
            Problem(
                code="E825",
                what=f"the upstream's parameters may not hold {own[0]}",
                why="ft sets it itself",
                fix="say it by the upstream's own field",
            )
        )
    params: Json = {"model": f"{upstream.kind}/{upstream.model}"}
    if upstream.api_base:
        params["api_base"] = upstream.api_base
    if upstream.key_env:
        params["api_key"] = f"{_REFERENCE}{upstream.key_env}"
    return {**params, **upstream.params}


def _weight(one: Json) -> float:
    weight = (one.get("litellm_params") or {}).get("weight")
    return float(weight) if isinstance(weight, int | float) else 0.0


def _is_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname)
