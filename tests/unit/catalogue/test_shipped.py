"""The files that ship: they load, every claim can be looked up, and the docs show what they say."""

import os
import re
import tomllib
from datetime import date
from importlib.resources import files
from pathlib import Path
from typing import get_args

import pytest
import yaml

from finetune.catalogue import METHODS, Catalogue, DataRules, Layout, ProviderSheet, load
from finetune.catalogue.eligible import against
from finetune.catalogue.reading import SHIPPED
from finetune.catalogue.sheets import LIMITS, Limits, Model, claims
from finetune.catalogue.weights import called
from tests.unit.catalogue import drawing
from tests.unit.docs.drawing import put

ROOT = Path(__file__).parents[3]
#: Read here: the fixtures take all variables of ours out of the environment.
_UPDATE = "FT_UPDATE_DOCS" in os.environ
TRAINERS = {"azure", "bedrock", "fireworks", "local", "mistral", "openai", "together", "vertex"}
#: Whom users ask for, and the kind of their sheets.
OTHERS = {
    "anthropic": "maker",
    "cohere": "maker",
    "deepseek": "maker",
    "gemini": "maker",
    "groq": "host",
    "litellm": "gateway",
    "llamacpp": "server",
    "meta": "maker",
    "ollama": "server",
    "openrouter": "gateway",
    "sglang": "server",
    "tgi": "server",
    "vllm": "server",
}
PROVIDERS = sorted({*TRAINERS, *OTHERS})
TITLES = {
    *("OpenAI", "Anthropic", "Google Gemini", "Meta Llama", "Mistral", "Cohere", "DeepSeek", "Together", "Groq"),
    *("Fireworks", "Amazon Bedrock", "Azure OpenAI", "vLLM", "TGI", "llama.cpp", "SGLang", "Ollama", "LiteLLM"),
    *("OpenRouter", "Vertex AI", "the local trainer"),
}


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return load()


def sheet(catalogue: Catalogue, provider: str) -> ProviderSheet:
    found = catalogue.provider(provider)
    assert found is not None
    return found


def test_every_provider_has_a_sheet(catalogue: Catalogue) -> None:
    assert list(catalogue.sheets) == PROVIDERS
    assert {one.title for one in catalogue.sheets.values()} == TITLES
    assert {name: one.kind for name, one in catalogue.sheets.items()} == OTHERS | dict.fromkeys(TRAINERS, "trainer")
    assert catalogue.provider("nobody") is None


@pytest.mark.parametrize("provider", sorted(OTHERS))
def test_where_nothing_is_tuned_there_is_a_way(catalogue: Catalogue, provider: str) -> None:
    one = sheet(catalogue, provider)
    assert one.access is not None
    assert one.ways
    assert not one.served
    # `ft plan` shows them as `provider: ...`, so a recipe can say it.
    assert {each.at for each in one.ways} <= TRAINERS
    # Of Meta alone nobody has published it where we looked.
    assert (one.tunes is None) == (provider == "meta")
    assert one.tunes is None or not one.tunes.value


@pytest.mark.parametrize("provider", sorted(TRAINERS))
def test_a_trainer_says_how_its_models_can_be_had(catalogue: Catalogue, provider: str) -> None:
    one = sheet(catalogue, provider)
    assert one.access is not None
    assert not one.ways
    # Whether models tuned by Mistral still answer is not published.
    assert bool(one.served) == (provider != "mistral")


def test_what_is_trained_here_can_answer_from_every_server_that_we_have_a_gateway_to(catalogue: Catalogue) -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["ft.gateways"]
    # litellm-api is another door to LiteLLM.
    assert declared.keys() - {"litellm-api"} <= {each.at for each in sheet(catalogue, "local").served}
    assert declared.keys() - {"litellm-api", "embedded"} <= catalogue.sheets.keys()


@pytest.mark.parametrize("provider", PROVIDERS)
def test_every_source_is_there_and_used(catalogue: Catalogue, provider: str) -> None:
    one = sheet(catalogue, provider)
    assert {claim.source for _, claim in claims(one)} == set(one.sources)
    for key, source in one.sources.items():
        assert source.dated is None or source.dated <= source.read, key
        if ":" not in source.url:
            assert (ROOT / source.url).is_file(), source.url


@pytest.mark.parametrize("provider", PROVIDERS)
def test_no_claim_of_the_file_is_lost(catalogue: Catalogue, provider: str) -> None:
    def sources(value: object) -> list[str]:
        if isinstance(value, list):
            return [each for one in value for each in sources(one)]
        if not isinstance(value, dict):
            return []
        below = [each for key, one in value.items() if key != "sources" for each in sources(one)]
        return [*([value["source"]] if "source" in value else []), *below]

    raw = yaml.safe_load((SHIPPED / f"{provider}.yaml").read_text())
    assert sorted(claim.source for _, claim in claims(sheet(catalogue, provider))) == sorted(sources(raw))


@pytest.mark.parametrize("provider", PROVIDERS)
def test_rules_name_where_each_of_their_limits_is_published(catalogue: Catalogue, provider: str) -> None:
    one = sheet(catalogue, provider)
    for method in METHODS:
        for name in ("", *(model.name for model in one.models)):
            if rules := one.rules(method, name):
                assert rules.format in get_args(Layout)
                assert {each for each in LIMITS if getattr(rules, each) is not None} == set(rules.sources)
                assert set(rules.sources.values()) <= {source.url for source in one.sources.values()}


@pytest.mark.parametrize("provider", PROVIDERS)
def test_the_smallest_is_not_above_the_largest(catalogue: Catalogue, provider: str) -> None:
    one = sheet(catalogue, provider)
    every = [one.rules(method, name) for method in METHODS for name in ("", *(model.name for model in one.models))]
    for rules in filter(None, every):
        for smallest in (each for each in LIMITS if each.startswith("min_")):
            largest = getattr(rules, smallest.replace("min_", "max_", 1))
            assert largest is None or (getattr(rules, smallest) or 0) <= largest


def test_the_file_has_the_limits_of_the_rules() -> None:
    assert tuple(Limits.model_fields) == LIMITS
    assert set(DataRules.__dataclass_fields__) - set(LIMITS) == {"target", "format", "sources"}


def test_what_providers_have_announced(catalogue: Catalogue) -> None:
    openai = sheet(catalogue, "openai")
    assert openai.dates.create_until is not None
    assert openai.dates.create_until.value == date(2027, 1, 6)
    assert not openai.dates.create_until.at_least
    model = openai.model("ft:gpt-4.1-mini-2025-04-14:acme::abc")
    assert model is not None
    assert model.dates.serve_until is not None
    assert model.dates.serve_until.value == date(2027, 1, 14)
    assert sheet(catalogue, "mistral").dates.retired is not None
    cohere = sheet(catalogue, "cohere").dates.retired
    assert cohere is not None
    assert cohere.value == date(2025, 9, 15)
    llama = sheet(catalogue, "bedrock").model("meta.llama3-2-3b-instruct-v1:0:128k")
    assert llama is not None
    assert llama.dates.create_until is not None
    assert llama.dates.create_until.value == date(2026, 7, 7)


def test_what_targets_are_known_to_take(catalogue: Catalogue) -> None:
    """Looked up by hand, apart from the files."""
    openai, vertex, together = (sheet(catalogue, name) for name in ("openai", "vertex", "together"))
    chat = openai.rules("sft", "gpt-4.1-mini")
    assert chat is not None
    assert (chat.target, chat.format, chat.min_rows, chat.max_row_tokens) == (
        "OpenAI gpt-4.1-mini",
        "openai",
        10,
        65536,
    )
    assert (chat.max_file_bytes, chat.max_upload_bytes, chat.images) == (8_000_000_000, 512_000_000, None)
    pairs = vertex.rules("dpo")
    assert pairs is not None
    assert (pairs.max_row_tokens, pairs.max_file_bytes, pairs.images) == (131_072, 10**9, False)
    assert pairs.roles is None
    qwen = together.rules("dpo", "Qwen/Qwen3.5-9B")
    assert qwen is not None
    assert (qwen.max_row_tokens, qwen.images, qwen.weights, qwen.max_answer_messages) == (49_152, True, False, 1)
    assert sheet(catalogue, "mistral").rules("dpo") is None


def test_open_models_at_vertex_have_their_own_limits_and_not_those_of_gemini(catalogue: Catalogue) -> None:
    """Google's table of 2026-09-25: 8,192 tokens and text alone, with three exceptions."""
    vertex = sheet(catalogue, "vertex")
    named = [model.name for model in vertex.models if "/" in model.name]
    rules = {name: vertex.rules("sft", name) for name in named}
    assert len(named) == 23
    lengths = {name: each.max_row_tokens for name, each in rules.items() if each and each.max_row_tokens != 8_192}
    assert lengths == {
        "qwen/qwen3-6@qwen3.6-27b": 12_288,
        "qwen/qwen3-6@qwen3.6-35b-a3b": 12_288,
        "meta/llama4@llama-4-scout-17b-16e-instruct": 2_048,
    }
    assert [name for name, each in rules.items() if each and each.images] == [
        "meta/llama4@llama-4-scout-17b-16e-instruct"
    ]
    assert not any(each is None or each.audio or each.video or each.files for each in rules.values())


@pytest.mark.parametrize(
    "name",
    ["claude-sonnet-5", "gemini-3.8-flash", "gpt-5", "gpt-6-luna", "gpt-3.5-turbo", "o3-mini", "deepseek-chat"],
)
def test_a_name_of_an_api_alone_is_never_taken_for_weights_to_be_had(catalogue: Catalogue, name: str) -> None:
    assert called(catalogue, "local", name) is None


@pytest.mark.parametrize(
    ("name", "weights"),
    [
        ("gpt-oss-20b", "openai/gpt-oss-20b"),
        ("Llama-3.3-70B-Instruct", "meta-llama/Llama-3.3-70B-Instruct"),
        ("accounts/fireworks/models/qwen3p5-9b", "Qwen/Qwen3.5-9B"),
        ("qwen/qwen3@qwen3-8b", "Qwen/Qwen3-8B"),
        ("command-a-plus-05-2026", "CohereLabs/command-a-plus-05-2026-bf16"),
        ("some/weights-of-their-own", "some/weights-of-their-own"),
    ],
)
def test_names_of_weights_that_are_given_away_are_found_on_the_hub(
    catalogue: Catalogue, name: str, weights: str
) -> None:
    assert called(catalogue, "local", name) == weights


def test_weights_are_found_under_the_names_of_all_who_tune_them(catalogue: Catalogue) -> None:
    there = {name: called(catalogue, name, "Qwen/Qwen3.5-9B") for name in TRAINERS}
    assert {name: each for name, each in there.items() if each} == {
        "fireworks": "accounts/fireworks/models/qwen3p5-9b",
        "local": "Qwen/Qwen3.5-9B",
        "together": "Qwen/Qwen3.5-9B",
        "vertex": "qwen/qwen3-5@qwen3.5-9b",
    }


def test_a_model_that_fireworks_has_since_its_list_is_not_refused(catalogue: Catalogue) -> None:
    fireworks = sheet(catalogue, "fireworks")
    assert against(fireworks, "sft", "accounts/fireworks/models/of-tomorrow", date(2026, 11, 29)) == []
    assert [each.code for each in against(fireworks, "sft", "of-tomorrow", date(2026, 11, 29))] == ["E306"]


def test_the_files_go_into_the_wheel() -> None:
    """hatchling takes everything below a package that git does not ignore."""
    names = sorted(each.name for each in files("finetune.catalogue").joinpath("providers").iterdir())
    assert names == [f"{provider}.yaml" for provider in PROVIDERS]
    built = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    assert "finetune" in built["targets"]["wheel"]["packages"]
    assert not {"exclude", "only-include", "only-packages"} & (built.keys() | built["targets"]["wheel"].keys())
    assert not re.search(r"ya?ml|providers", (ROOT / ".gitignore").read_text())


@pytest.mark.parametrize("name", [name for name, _ in drawing.PARTS])
def test_the_docs_show_what_the_files_say(catalogue: Catalogue, name: str) -> None:
    page = ROOT / "docs" / "catalogue.md"
    text = page.read_text()
    drawn = put(text, name, dict(drawing.PARTS)[name](catalogue))
    if _UPDATE:
        page.write_text(drawn)
        text = drawn
    assert text == drawn, "after a change of the files: FT_UPDATE_DOCS=1 pytest tests/unit/catalogue"


def test_the_docs_explain_every_key() -> None:
    page = (ROOT / "docs" / "catalogue.md").read_text()
    told = set(re.findall(r"`([a-z_]+)`", page))
    assert {*LIMITS, *ProviderSheet.model_fields, *Model.model_fields} <= told
    assert {str(word) for word in get_args(Layout)} <= set(re.findall(r"`([a-z-]+)`", page))


def test_the_example_of_the_docs_is_a_sheet(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "catalogue.md").read_text()
    (example,) = re.findall(r"^```yaml\n(.*?)^```$", page, re.M | re.S)
    (tmp_path / "example.yaml").write_text(example)
    rules = sheet(load(tmp_path), "example").rules("sft", "example-large-2")
    assert rules is not None
    assert (rules.target, rules.min_rows, rules.max_row_tokens) == ("Example example-large-2", 10, 65_536)


@pytest.mark.parametrize(
    ("count", "text"), [(512_000_000, "512 MB"), (2**30, "1 GiB"), (53_794_465_382, "50.1 GiB"), (999, "999 bytes")]
)
def test_sizes_are_drawn_as_people_write_them(count: int, text: str) -> None:
    assert drawing.size(count) == text
