"""`dpo.beta` at the hosted providers that have it: sent as the API names it, and said in one place only."""

from typing import Any

import pytest

from finetune.plan import ignored
from finetune.ports import RemoteData
from finetune.providers import together_terms
from finetune.providers.azure import AzureProvider
from finetune.providers.fireworks import FireworksProvider
from finetune.providers.openai import OpenAiProvider
from finetune.providers.together import TogetherProvider
from finetune.spec import Recipe
from tests.support import hosted

DATA = RemoteData(ids={"train": "file-1", "validation": None})


def recipe(provider: str, **more: Any) -> Recipe:
    return hosted.recipe(provider, "m", **{"method": "dpo", "dpo": {"beta": 0.4}, **more})


@pytest.mark.parametrize("adapter", [OpenAiProvider, AzureProvider])
def test_openai_s_protocol_has_it_among_the_numbers(tmp_path, adapter):
    made = adapter(hosted.kit(tmp_path, {}))
    assert ignored(recipe("openai"), made) == {}

    def sent(asked):
        method = made._body(asked, DATA, "key")["method"]
        return method[method["type"]]["hyperparameters"]

    assert sent(recipe("openai"))["beta"] == 0.4
    assert "beta" not in sent(recipe("openai", dpo={}))
    assert "beta" not in sent(recipe("openai", method="sft", dpo={"beta": 0.1}))


def test_together_has_it_in_the_method(tmp_path):
    assert ignored(recipe("together"), TogetherProvider(hosted.kit(tmp_path, {}))) == {}
    assert together_terms._method(recipe("together")) == {"method": "dpo", "dpo_beta": 0.4}
    assert together_terms._method(recipe("together", dpo={})) == {"method": "dpo"}


def test_it_is_said_once(tmp_path):
    twice = recipe("openai", provider_options={"beta": 0.4})
    (problem,) = OpenAiProvider(hosted.kit(tmp_path, {})).check(twice)
    assert (problem.code, problem.field) == ("E414", "provider_options.beta")
    twice = recipe("together", provider_options={"dpo_beta": 0.4})
    (problem,) = together_terms.faults(twice)
    assert (problem.code, problem.field) == ("E414", "provider_options.dpo_beta")


def test_openai_takes_no_more_than_two(tmp_path):
    provider = OpenAiProvider(hosted.kit(tmp_path, {}))
    assert provider.check(recipe("openai", dpo={"beta": 2.0})) == []
    (problem,) = provider.check(recipe("openai", dpo={"beta": 2.01}))
    assert (problem.code, problem.field, problem.value) == ("E414", "dpo.beta", "2.01")


def test_where_it_has_another_name_the_field_is_not_passed_over(tmp_path):
    assert ignored(recipe("fireworks"), FireworksProvider(hosted.kit(tmp_path, {}))) == {"dpo.beta": 0.4}
