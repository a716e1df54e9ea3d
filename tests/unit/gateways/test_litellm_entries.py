"""Entries of LiteLLM's model list: what stands in them, and what is not let through."""

import copy
from dataclasses import replace
from typing import Any

import pytest

from finetune.deployments import Deployment, Upstream
from finetune.errors import GatewayError
from finetune.gateways import litellm_entries
from finetune.gateways.litellm_entries import WHOLE, agrees, entry, faults, guard, is_ours, registered, weights

UPSTREAM = Upstream(kind="hosted_vllm", model="bot-v1", api_base="http://127.0.0.1:8000/v1", key_env="VLLM_API_KEY")
BOT = Deployment(ref="bot@v1", public="bot", digest="a" * 64, base_model="Qwen/Qwen3-0.6B", upstream=UPSTREAM)
TWO = replace(BOT, ref="bot@v2", digest="b" * 64)


def content(**params: Any) -> dict[str, Any]:
    """The file with one entry, some of whose parameters are others."""
    made = entry(BOT)
    made["litellm_params"] |= params
    return {"model_list": [made]}


def test_a_new_entry_stands_under_its_own_id_and_names_its_key() -> None:
    made = entry(BOT)
    assert made["model_name"] == made["model_info"]["id"] == BOT.id == "bot--v1-aaaaaaaaaaaa"
    assert made["litellm_params"] == {
        "model": "hosted_vllm/bot-v1",
        "api_base": "http://127.0.0.1:8000/v1",
        "api_key": "os.environ/VLLM_API_KEY",
        "weight": 0,
    }
    assert made["model_info"]["ft_digest"] == BOT.digest
    assert faults({"model_list": [made]}) == []


@pytest.mark.parametrize(
    ("upstream", "params"),
    [
        (
            Upstream(kind="openai", model="ft:gpt-4o:org::x", key_env="OPENAI_API_KEY"),
            {"model": "openai/ft:gpt-4o:org::x"},
        ),
        (Upstream(kind="mistral", model="ft:open-mistral-7b:1:2"), {"model": "mistral/ft:open-mistral-7b:1:2"}),
        (
            Upstream(kind="vertex_ai", model="gemini/5", params={"vertex_project": "p", "vertex_location": "l"}),
            {"model": "vertex_ai/gemini/5", "vertex_project": "p", "vertex_location": "l"},
        ),
        (
            Upstream(kind="hosted_vllm", model="base:adapter", api_base="http://h/v1"),
            {"model": "hosted_vllm/base:adapter"},
        ),
    ],
)
def test_providers_are_named_as_litellm_names_them(upstream: Upstream, params: dict[str, str]) -> None:
    made = entry(replace(BOT, upstream=upstream))
    assert made["litellm_params"].items() >= params.items()
    assert faults({"model_list": [made]}) == []


@pytest.mark.parametrize(
    ("params", "told"),
    [
        ({"model": "nobody/m"}, "does not begin with a provider"),
        ({"model": "hosted_vllm"}, "does not begin with a provider"),
        ({"model": "hosted_vllm/ "}, "does not begin with a provider"),
        ({"model": None}, "does not begin with a provider"),
        ({"weight": -1}, "whole number"),
        ({"weight": 0.5}, "whole number"),
        ({"weight": True}, "whole number"),
        ({"weight": "9"}, "whole number"),
        ({"api_key": "sk-in-the-clear"}, "not a reference"),
        ({"api_key": "os.environ/"}, "does not name a variable"),
        ({"api_key": "os.environ/A-B"}, "does not name a variable"),
        ({"vertex_project": "os.environ/1A"}, "does not name a variable"),
        ({"api_base": "127.0.0.1:8000"}, "has to begin with http"),
        ({"api_base": "http://"}, "has to begin with http"),
        ({"api_base": "http://[x"}, "has to begin with http"),
    ],
)
def test_what_the_proxy_would_not_load_is_found(params: dict[str, Any], told: str) -> None:
    (fault,) = faults(content(**params))
    assert told in fault
    assert "in-the-clear" not in fault
    with pytest.raises(GatewayError) as caught:
        guard(content(**params)["model_list"])
    assert caught.value.problems[0].code == "E822"


@pytest.mark.parametrize(
    "broken",
    [
        None,
        [],
        "x",
        {},
        {"model_list": {}},
        {"model_list": [], "general_settings": {}},
        {"model_list": [{}]},
        {"model_list": ["x"]},
    ],
)
def test_what_is_no_file_of_ours_is_found(broken: Any) -> None:
    assert len(faults(broken)) == 1


def test_an_id_that_stands_there_twice_is_found() -> None:
    assert faults({"model_list": [entry(BOT), entry(BOT)]}) == [f"the id {BOT.id} stands in it twice"]


def test_an_upstream_may_not_set_what_we_set() -> None:
    with pytest.raises(GatewayError, match="may not hold weight"):
        entry(replace(BOT, upstream=replace(UPSTREAM, params={"weight": "9"})))
    with pytest.raises(GatewayError, match="nothing that LiteLLM could pass calls to"):
        entry(replace(BOT, upstream=None))


def test_shares_become_weights() -> None:
    entries = [entry(BOT), entry(TWO), entry(replace(BOT, public="another"))]
    assert weights("bot", {BOT.id: 0.9, TWO.id: 0.1}, entries) == {BOT.id: 9000, TWO.id: 1000}
    assert weights("bot", {TWO.id: 1}, entries) == {BOT.id: 0, TWO.id: WHOLE}
    assert weights("bot", {BOT.id: 0.99999, TWO.id: 0.00001}, entries)[TWO.id] == 1, "a share is never rounded away"


@pytest.mark.parametrize("wrong", [{}, {BOT.id: 0.5}, {BOT.id: 1.5, TWO.id: -0.5}, {BOT.id: float("nan")}])
def test_shares_that_are_none_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(GatewayError, match="sum 1"):
        weights("bot", wrong, [entry(BOT), entry(TWO)])


def test_a_share_for_another_name_is_refused() -> None:
    other = replace(BOT, public="another")
    with pytest.raises(GatewayError, match="is not registered"):
        weights("bot", {other.id: 1}, [entry(BOT), entry(other)])


def test_what_is_registered_is_read_with_its_part_of_all_calls() -> None:
    first = litellm_entries.with_weight(entry(BOT), 6000)
    foreign = {"model_name": "bot", "litellm_params": {"model": "openai/x", "weight": 2000}, "model_info": {"id": "x"}}
    alias = {**copy.deepcopy(first), "model_name": "an-alias"}
    found = registered([foreign, first, alias, entry(TWO)])
    assert [(one.id, one.share) for one in found] == [(BOT.id, 0.75), (TWO.id, 0.0)]
    assert found[0].says["ft_digest"] == BOT.digest
    assert not is_ours(foreign)
    assert not is_ours(alias)


def test_the_proxys_listing_agrees_with_what_was_written_but_for_what_it_adds_and_hides() -> None:
    written = entry(BOT)
    listed = copy.deepcopy(written)
    del listed["litellm_params"]["api_key"]
    listed["litellm_params"]["use_in_pass_through"] = False
    listed["model_info"]["db_model"] = False
    assert agrees(listed, written)
    for part, name in (("litellm_params", "weight"), ("litellm_params", "api_base"), ("model_info", "ft_digest")):
        other = copy.deepcopy(listed)
        other[part][name] = "another"
        assert not agrees(other, written)
