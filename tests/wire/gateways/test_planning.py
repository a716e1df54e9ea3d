"""What a gateway does not serve is said before a training, by the recipe, and again before a version is told there."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from finetune.deployments import Foresees, Shape
from finetune.errors import GatewayError, GatewayUnavailable, Problem
from finetune.files import digest
from finetune.gateways import sglang
from finetune.jobs import Event, Job, JobState
from finetune.sandbox.gateways.sglang import SglangSandbox
from finetune.sandbox.gateways.vllm import VllmSandbox
from finetune.sandbox.server import Server
from finetune.settings import from_environment
from finetune.spec import Recipe, canonical
from finetune.training import stored
from finetune.training.talks import digest_of, template_of
from finetune.versions import ModelVersion
from finetune.wiring import Releases
from tests.support import tiny
from tests.support.gateways import (
    BASE,
    deployment,
    kit,
    llamacpp_world,
    make_adapter,
    ollama_world,
    sglang_world,
    vllm_world,
)

SHAPE = Shape(base_model=BASE, rank=8, target_modules=("q_proj", "v_proj"))


def foreseen(gateway: Any, shape: Shape) -> list[Problem]:
    assert isinstance(gateway, Foresees)
    return gateway.foresee(shape)


class OldSglang(SglangSandbox):
    info_path = "/get_server_info"


class OldestSglang(SglangSandbox):
    info_path = "/info_of_another_name"


@pytest.mark.parametrize("kind", [SglangSandbox, OldSglang])
def test_sglang_tells_its_limits_itself(kind: type[SglangSandbox], tmp_path: Path) -> None:
    sandbox = kind(base=BASE, max_rank=32)
    sandbox.targets = frozenset({"q_proj", "o_proj"})
    with Server(sandbox) as server:
        # Its word counts, not the variable's.
        gateway = sglang.build(kit({**server.environment, "FT_SGLANG_MAX_LORA_RANK": "64"}))
        # It keeps q, k and v as one.
        assert foreseen(gateway, replace(SHAPE, rank=32, target_modules=("q_proj", "k_proj", "o_proj"))) == []
        rank, target = foreseen(gateway, replace(SHAPE, rank=64, target_modules=("down_proj", "q_proj")))
        assert "rank 64, sglang takes 32" in rank.what
        assert "LoRA on down_proj, for which sglang has no room" in target.what
        assert "--lora-target-modules all" in target.fix
        made = deployment(tmp_path, 1, r=64, target_modules=["mlp.down_proj", "q_proj"])
        assert [each.what.partition(" ")[2] for each in gateway.preflight(made)] == [
            each.what.partition("what the recipe trains ")[2] for each in (rank, target)
        ]
        with pytest.raises(GatewayError, match="E826"):
            gateway.register(made)
        assert sandbox.adapters == {}
        assert foreseen(gateway, replace(SHAPE, target_modules="all-linear")) == []


def test_a_sglang_that_tells_no_limits_is_taken_by_the_variable(tmp_path: Path) -> None:
    with Server(OldestSglang(base=BASE)) as server:
        gateway = sglang.build(kit({**server.environment, "FT_SGLANG_MAX_LORA_RANK": "16"}))
        assert foreseen(gateway, SHAPE) == []
        assert [each.code for each in foreseen(gateway, replace(SHAPE, rank=32))] == ["E826"]
        assert gateway.preflight(deployment(tmp_path, 1)) == []


def test_modules_that_vllm_has_no_room_for_are_a_refusal_for_good(tmp_path: Path) -> None:
    with vllm_world(tmp_path) as world:
        world.sandbox.targets = frozenset({"q_proj"})
        odd = deployment(tmp_path / "odd", 5, target_modules=["q_proj", "router"])
        with pytest.raises(GatewayError, match="expected target modules") as caught:
            world.gateway.register(odd)
        # It says 500, which elsewhere means: later.
        assert not isinstance(caught.value, GatewayUnavailable)


ODD = [{"use_dora": True}, {"modules_to_save": ["lm_head"]}, {"bias": "all"}]


@pytest.mark.parametrize("odd", ODD, ids=str)
@pytest.mark.parametrize("make", [vllm_world, sglang_world, llamacpp_world, ollama_world])
def test_what_is_no_lora_is_refused_everywhere(make: Any, odd: dict[str, Any], tmp_path: Path) -> None:
    with make(tmp_path) as world:
        one = deployment(tmp_path / "odd", 5, **odd)
        (problem,) = world.gateway.preflight(one)
        assert problem.code == "E826"
        assert f"{next(iter(odd))}: " in problem.what
        assert world.gateway.name in problem.what
        with pytest.raises(GatewayError, match="E826"):
            world.gateway.register(one)


def test_llama_server_and_ollama_are_asked_before_a_training_too(tmp_path: Path) -> None:
    (tmp_path / "llama").mkdir()
    with llamacpp_world(tmp_path / "llama") as llama, ollama_world(tmp_path / "ollama") as oll:
        for world in (llama, oll):
            assert foreseen(world.gateway, SHAPE) == []
            (problem,) = foreseen(world.gateway, replace(SHAPE, base_model="other/base"))
            assert (problem.code, problem.level) == ("E828", "error")
        # What has no converter there may still come as GGUF.
        (problem,) = foreseen(oll.gateway, replace(SHAPE, base_model="Qwen/Qwen3-0.6B"))
        assert (problem.code, problem.level) == ("E826", "warning")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save_base(tmp_path_factory.mktemp("base"))


@pytest.fixture
def parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Releases]:
    monkeypatch.setenv("FT_LITELLM_FILE", str(tmp_path / "tuned.yaml"))
    parts = Releases(from_environment({"FT_HOME": str(tmp_path / "home")}))
    yield parts
    parts.close()


@pytest.fixture
def served(base: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[VllmSandbox]:
    """A stand-in for vLLM with the base's own template and tokenizer."""
    own = tiny.tokenizer()
    sandbox = VllmSandbox(base=str(base))
    sandbox.writes = lambda messages: own.apply_chat_template(
        [dict(each) for each in messages], tokenize=False, add_generation_prompt=True
    )
    sandbox.splits = lambda text: own(text, add_special_tokens=False)["input_ids"]
    with Server(sandbox) as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        yield sandbox
        assert server.broken == []


def recipe(base: Path, **more: Any) -> Recipe:
    told = {"version": 1, "name": "bot", "base_model": str(base), "dataset": {"path": "x.jsonl"}}
    return Recipe.model_validate({**told, "register": {"gateways": ["vllm"]}, **more})


def spoil(sandbox: VllmSandbox) -> None:
    """Start it with another template."""
    own = sandbox.writes
    sandbox.writes = lambda messages: own(messages).replace("<|im_start|>assistant", "<|im_start|>model")


def version(tmp_path: Path, base: Path, **lineage: Any) -> ModelVersion:
    folder = make_adapter(tmp_path / "adapter", "weights", base=str(base))
    return ModelVersion(
        name="bot",
        version=1,
        job_id="ft_1",
        provider="local",
        base_model=str(base),
        artifact={"path": str(folder), "digest": digest(folder)},
        lineage=lineage,
        created_at=datetime(2026, 11, 1, tzinfo=UTC),
    )


def test_a_recipe_is_compared_with_the_server_that_is_to_serve_it(
    parts: Releases, served: VllmSandbox, base: Path
) -> None:
    assert parts._servable(recipe(base)) == []
    spoil(served)
    (problem,) = parts._servable(recipe(base))
    assert (problem.code, problem.level, problem.field) == ("E841", "error", "register.gateways")
    # In the tokenizer's own words.
    assert "'a' (" in problem.what
    assert parts._servable(recipe(base, allow_ignored=["register.gateways"])) == []


def test_a_base_whose_tokenizer_is_not_here_is_a_note(
    parts: Releases, served: VllmSandbox, base: Path, tmp_path: Path
) -> None:
    served.root = str(tmp_path / "elsewhere")
    (problem,) = parts._servable(recipe(tmp_path / "elsewhere"))
    assert (problem.code, problem.level) == ("E842", "warning")
    assert "there is no folder" in problem.why
    assert problem.fix == "check the path in `base_model`"


def test_a_version_is_compared_before_it_is_told(
    parts: Releases, served: VllmSandbox, base: Path, tmp_path: Path
) -> None:
    known = digest_of(stored.find(str(base), cache=parts.settings.cache_dir))
    model = version(tmp_path, base, chat_template_digest=known)
    assert parts.places.against(model, "production", ["vllm"]) == []
    # Another base than the one that was trained on, as far as its template goes.
    older = version(tmp_path, base, chat_template_digest="0" * 64)
    (problem,) = parts.places.against(older, "production", ["vllm"])
    assert (problem.code, problem.level) == ("E842", "warning")
    assert "another chat template here now" in problem.why
    spoil(served)
    (problem,) = parts.places.against(model, "production", ["vllm"])
    assert (problem.code, problem.level) == ("E841", "error")
    with pytest.raises(GatewayError, match="E841"):
        parts.places.register(model, "production", ["vllm"])
    assert served.adapters == {}


@pytest.mark.parametrize("accepted", [True, False])
def test_another_template_can_be_accepted_by_the_recipe(
    accepted: bool, parts: Releases, served: VllmSandbox, base: Path, tmp_path: Path
) -> None:
    now = datetime(2026, 11, 1, tzinfo=UTC)
    told = recipe(base, **({"allow_ignored": ["register.gateways"]} if accepted else {}))
    job = Job(
        id="ft_1",
        name="bot",
        owner="me",
        provider="local",
        base_model=str(base),
        recipe=canonical(told),
        fingerprint="f",
        state=JobState.QUEUED,
        due_at=now,
        data={},
        created_at=now,
        changed_at=now,
    )
    parts.jobs.submit(job, Event(kind="state", message="queued", at=now), force=False)
    spoil(served)
    found = parts.places.against(version(tmp_path, base), "production", ["vllm"])
    assert [each.code for each in found] == ([] if accepted else ["E841"])


def test_what_is_compared_is_what_the_trainer_would_write(base: Path, tmp_path: Path) -> None:
    """The prompt of the last answer, and the digest that the lineage has."""
    own = tiny.tokenizer()
    found = template_of(str(base), cache=tmp_path)
    assert found.chats
    assert not found.dated
    for chat in found.chats:
        text = own.apply_chat_template([*chat.messages], tokenize=False, add_generation_prompt=True)
        ids = own(text, add_special_tokens=False)["input_ids"]
        assert (chat.text, list(chat.tokens)) == (text, ids)
        assert own.convert_ids_to_tokens(ids) == list(chat.pieces)
    assert {each["role"] for each in found.chats[1].messages} == {"system", "user", "assistant"}


def test_a_template_that_writes_the_date_or_takes_no_system_is_known_for_it(base: Path, tmp_path: Path) -> None:
    folder = tmp_path / "base"
    folder.mkdir()
    for path in base.iterdir():
        if path.suffix != ".safetensors":
            (folder / path.name).write_bytes(path.read_bytes())
    picky = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    (folder / "chat_template.jinja").write_text(f"{picky}{{{{ strftime_now('%d %b') }}}}{tiny.UNMARKED}")
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, "bos_token": "<|im_start|>"}))
    found = template_of(str(folder), cache=tmp_path)
    assert found.dated
    assert [chat.messages[0]["role"] for chat in found.chats] == ["user"]
    assert found.chats[0].bos == "<|im_start|>"
    assert found.chats[0].bos_id == tiny.tokenizer().convert_tokens_to_ids("<|im_start|>")
