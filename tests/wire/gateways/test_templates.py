"""A server that writes conversations otherwise than the training did is caught before a training, and after it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from finetune.deployments import Foresees, Rendered, Shape, Template
from finetune.errors import GatewayError, Problem
from finetune.gateways import vllm
from finetune.sandbox.faults import Fault
from finetune.sandbox.gateways.answers import Writes, chatml, in_bytes
from finetune.sandbox.gateways.vllm import VllmSandbox
from finetune.sandbox.server import Server
from finetune.sandbox.service import Refusal
from finetune.training.talks import TALKS
from tests.support.gateways import (
    BASE,
    HELLO,
    World,
    deployment,
    kit,
    llamacpp_world,
    ollama_world,
    sglang_world,
    vllm_world,
)

Messages = Sequence[Mapping[str, Any]]
Make = Callable[[Path], AbstractContextManager[World]]
MAKERS: Mapping[str, Make] = {"vllm": vllm_world, "sglang": sglang_world, "llamacpp": llamacpp_world}
#: What the message tells to start each with.
STARTED_WITH = {"vllm": "--chat-template", "sglang": "--chat-template", "llamacpp": "chat-template-file"}
BOS = "~"


def with_bos(messages: Messages) -> str:
    return BOS + chatml(messages)


def of_another_family(messages: Messages) -> str:
    said = "".join(f"<start_of_turn>{each['role']}\n{each['content']}<end_of_turn>\n" for each in messages)
    return f"{said}<start_of_turn>model\n"


def with_a_system_of_its_own(messages: Messages) -> str:
    if messages[0]["role"] == "system":
        return chatml(messages)
    return chatml([{"role": "system", "content": "You are helpful."}, *messages])


def without_system(messages: Messages) -> str:
    return chatml([each for each in messages if each["role"] != "system"])


def without_the_question(messages: Messages) -> str:
    return chatml(messages).removesuffix("<|im_start|>assistant\n")


def trained(writes: Writes = chatml, **more: Any) -> Template:
    """What a training has that writes so. `~` is the token for a beginning, whether it is used or not."""
    chats = []
    for talk in TALKS:
        text = writes(talk)
        tokens = tuple(in_bytes(text))
        pieces = tuple(f"<{token}>" for token in tokens)
        chats.append(Rendered(messages=talk, text=text, tokens=tokens, pieces=pieces, bos=BOS, bos_id=ord(BOS)))
    return Template(chats=tuple(chats), **more)


@pytest.fixture(params=MAKERS)
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    with MAKERS[request.param](tmp_path) as world:
        # llama-server has loaded the base from here on.
        world.gateway.probe_base(world.a, HELLO, max_tokens=1)
        yield world


def foreseen(world: World, template: Template | None) -> list[Problem]:
    assert isinstance(world.gateway, Foresees)
    of = (lambda: template) if template else None
    return world.gateway.foresee(Shape(base_model=BASE, rank=8, target_modules="all-linear", template=of))


def found(world: World, template: Template) -> list[Problem]:
    return world.gateway.preflight(replace(world.a, template=lambda: template))


def test_the_same_template_is_taken(world: World) -> None:
    assert foreseen(world, trained()) == []
    assert found(world, trained()) == []
    one = replace(world.a, template=trained)
    world.gateway.register(one)
    assert world.gateway.probe(one, HELLO, max_tokens=9).text == world.says[one.ref]
    # Asked by its own name, now that it has one there.
    assert found(world, trained()) == []


@pytest.mark.parametrize(
    "writes",
    [of_another_family, with_a_system_of_its_own, without_system, without_the_question],
    ids=lambda writes: writes.__name__,
)
def test_another_template_is_caught_before_training_and_before_serving(world: World, writes: Writes) -> None:
    world.sandbox.writes = writes
    (before,) = foreseen(world, trained())
    (after,) = found(world, trained())
    assert [(each.code, each.level) for each in (before, after)] == [("E841", "error")] * 2
    assert "what the recipe trains" in before.what
    assert world.a.ref in after.what
    assert STARTED_WITH[world.gateway.name] in before.fix
    assert "allow_ignored: [register.gateways]" in before.fix
    with pytest.raises(GatewayError, match="E841") as caught:
        world.gateway.register(replace(world.a, template=trained))
    assert not caught.value.retry
    assert world.gateway.registered() == []


def test_where_they_differ_first_is_said(tmp_path: Path) -> None:
    said = {}
    for name, make in MAKERS.items():
        with make(tmp_path) as world:
            world.sandbox.writes = of_another_family
            said[name] = found(world, trained())[0].what
    # `<|im_start|>` and `<start_of_turn>` part at their second character.
    assert "token 2 of a conversation is '<124>' (124) in the training, '<115>' (115) there" in said["vllm"]
    assert "from character 2 on a conversation is '|im_start|>user" in said["llamacpp"]
    assert "a conversation has" in said["sglang"]


def test_a_server_that_was_restarted_with_another_template_gets_nothing_again(tmp_path: Path) -> None:
    with vllm_world(tmp_path) as world:
        one = replace(world.a, template=trained)
        world.gateway.register(one)
        world.sandbox.restart()
        world.sandbox.writes = of_another_family
        with pytest.raises(GatewayError, match="E841"):
            world.gateway.register(one)
        assert world.sandbox.adapters == {}


@pytest.mark.parametrize("there", [chatml, with_bos])
def test_a_beginning_more_or_less_is_a_warning(world: World, there: Writes) -> None:
    world.sandbox.writes, world.sandbox.bos = there, BOS
    known = trained(with_bos if there is chatml else chatml)
    problems = foreseen(world, known)
    if world.gateway.name == "llamacpp":
        # It adds the beginning by itself, and tells texts without one.
        assert problems == []
        return
    assert [(each.code, each.level) for each in problems] == [("E841", "warning")]
    world.gateway.register(replace(world.a, template=lambda: known))


def test_a_date_of_one_length_is_a_warning_and_anything_else_is_not(world: World) -> None:
    world.sandbox.writes = lambda messages: chatml(messages).replace("twice", "tw1ce")
    known = trained(dated=True)
    if world.gateway.name != "sglang":
        assert [(each.code, each.level) for each in foreseen(world, known)] == [("E841", "warning")]
        assert [each.level for each in foreseen(world, trained())] == ["error"]
    world.sandbox.writes = with_a_system_of_its_own
    assert [each.level for each in foreseen(world, known)] == ["error"]


def test_a_conversation_that_the_server_refuses_is_another_template(world: World) -> None:
    def refuse(messages: Messages) -> str:
        if messages[0]["role"] == "system":
            raise Refusal(world.sandbox.refused(400, "System role not supported"))
        return chatml(messages)

    world.sandbox.writes = refuse
    (problem,) = foreseen(world, trained())
    assert (problem.code, problem.level) == ("E841", "error")
    assert "System role not supported" in problem.what


def test_what_is_not_known_here_is_a_warning_and_asks_nothing(world: World) -> None:
    def writes(messages: Messages) -> str:
        raise AssertionError("asked")

    world.sandbox.writes = writes
    unknown = Template(unknown="the tokenizer of X is not on this machine")
    for problems in (foreseen(world, unknown), found(world, unknown)):
        assert [(each.code, each.level) for each in problems] == [("E842", "warning")]
        assert "the tokenizer of X is not on this machine" in problems[0].why
    assert foreseen(world, None) == []


def test_a_server_that_ends_while_it_is_asked_is_away(world: World) -> None:
    operation = {"vllm": "tokenize", "sglang": "chat", "llamacpp": "apply"}[world.gateway.name]
    world.sandbox.faults.lay(Fault(kind="cut_before", on=operation, times=2))
    assert [(each.code, each.level) for each in foreseen(world, trained())] == [("E820", "warning")]
    assert [(each.code, each.level) for each in found(world, trained())] == [("E820", "error")]


class OldVllm(VllmSandbox):
    """One that cannot be asked for tokens."""

    def _counting(self) -> Sequence[Any]:
        return []


def test_a_server_that_cannot_tell_is_a_warning(tmp_path: Path) -> None:
    with Server(OldVllm(base=BASE)) as server:
        gateway = vllm.build(kit(server.environment))
        (problem,) = gateway.preflight(replace(deployment(tmp_path, 1), template=trained))
    assert (problem.code, problem.level) == ("E842", "warning")
    assert "POST /tokenize with status 404" in problem.why


def test_llama_server_loads_no_base_before_a_training(tmp_path: Path) -> None:
    with llamacpp_world(tmp_path) as world:
        world.sandbox.writes = of_another_family
        (problem,) = foreseen(world, trained())
        assert (problem.code, problem.level) == ("E842", "warning")
        assert world.sandbox.running == set()
        assert [each.code for each in found(world, trained())] == ["E841"]


def test_ollama_says_once_that_it_cannot_be_compared(tmp_path: Path) -> None:
    with ollama_world(tmp_path) as world:
        (problem,) = foreseen(world, trained())
        assert (problem.code, problem.level) == ("E842", "warning")
        assert found(world, trained()) == []
