"""What every gateway does, whatever stands behind it. A new one is one more world below."""

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest

from finetune.deployments import Bases, FollowsBooks, Foresees, Gateway, Rendered, Shape, Shares, Template
from finetune.errors import GatewayError, GatewayUnavailable
from tests.flow.serving.conftest import BASE as TINY
from tests.flow.serving.conftest import SAYS
from tests.support import gateways, litellm, litellm_worlds
from tests.support.gateways import HELLO, PUBLIC, World

TOKENS = 40


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[dict[str, Path], Any]]:
    """Two adapters that say something, and their base."""
    with gateways.trained(tmp_path_factory.mktemp("tiny")) as made:
        yield made


@pytest.fixture(scope="session")
def proxy() -> Iterator[litellm.World]:
    """A real LiteLLM proxy."""
    with litellm.litellm_world({"router_settings": {"num_retries": 0}}) as world:
        yield world


def embedded(request: pytest.FixtureRequest, root: Path) -> AbstractContextManager[World]:
    folders, loaded = request.getfixturevalue("tiny")
    # An engine changes the model that it is given.
    return gateways.embedded_world(folders, TINY, SAYS, copy.deepcopy(loaded))


Test = TypeVar("Test", bound=Callable[..., None])
Maker = Callable[[pytest.FixtureRequest, Path], AbstractContextManager[World]]
WORLDS: Mapping[str, Maker] = {
    "embedded": embedded,
    "vllm": lambda request, root: gateways.vllm_world(root),
    "sglang": lambda request, root: gateways.sglang_world(root),
    "llamacpp": lambda request, root: gateways.llamacpp_world(root),
    "ollama": lambda request, root: gateways.ollama_world(root),
    "litellm": lambda request, root: litellm_worlds.litellm_world(request.getfixturevalue("proxy")),
    "litellm-api": lambda request, root: litellm_worlds.litellm_api_world(),
}
#: Ollama asks for no key.
KEYED = sorted(WORLDS.keys() - {"ollama"})
#: Those that know public names.
SHARING = ["embedded", "litellm", "litellm-api"]
#: Versions come from its database: there is nothing to register.
REGISTERING = sorted(WORLDS.keys() - {"embedded"})


def only(kinds: Iterable[str]) -> Callable[[Test], Test]:
    """This test is for gateways of these kinds."""

    def mark(test: Test) -> Test:
        test.kinds = list(kinds)  # type: ignore[attr-defined]
        return test

    return mark


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A hook of this module alone: tests/optin takes these tests with a world of its own."""
    if "kind" in metafunc.fixturenames:
        metafunc.parametrize("kind", getattr(metafunc.function, "kinds", list(WORLDS)))


@pytest.fixture
def world(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    with WORLDS[kind](request, tmp_path) as world:
        yield world


def listed(gateway: Gateway) -> list[str]:
    return sorted(each.id for each in gateway.registered())


def state(world: World) -> list[tuple[str, object]]:
    return sorted((each.id, str(each.says)) for each in world.gateway.registered())


def test_the_name_is_the_one_users_write(world: World, kind: str) -> None:
    assert world.gateway.name == kind


def test_what_fits_has_nothing_against_it(world: World) -> None:
    assert world.gateway.preflight(world.a) == []


def test_what_will_not_be_served_is_foreseen(world: World) -> None:
    if not isinstance(world.gateway, Foresees):
        return
    fits = Shape(base_model=world.a.base_model, rank=8, target_modules="all-linear")
    assert world.gateway.foresee(fits) == []
    (problem,) = world.gateway.foresee(replace(fits, base_model="other/base"))
    assert problem.level == "error"
    assert problem.fix
    away = world.unreachable()
    assert isinstance(away, Foresees)
    assert [problem.level for problem in away.foresee(fits)] == ["warning"]


def test_a_template_of_another_model_is_not_passed_over(world: World) -> None:
    """Found at the latest when the version is there; who cannot tell says that before the training."""
    alien = Rendered(messages=tuple(HELLO), text="?!.", tokens=(3, 1, 2), pieces=("?", "!", "."))
    shape = Shape(base_model=world.a.base_model, rank=8, target_modules="all-linear")
    after = world.gateway.preflight(replace(world.a, template=lambda: Template(chats=(alien,))))
    if not isinstance(world.gateway, Foresees):
        assert after == []
        return
    (before,) = world.gateway.foresee(replace(shape, template=lambda: Template(chats=(alien,))))
    assert (before.code, before.level) in {("E841", "error"), ("E842", "warning")}
    assert before.code == "E841" or world.gateway.name in ("llamacpp", "ollama")
    assert [each.code for each in after] == ([] if world.gateway.name == "ollama" else ["E841"])
    (unknown,) = world.gateway.foresee(replace(shape, template=lambda: Template(unknown="it is not here")))
    assert (unknown.code, unknown.level) == ("E842", "warning")


def test_registering_twice_is_registering_once(world: World) -> None:
    first = world.gateway.register(world.a)
    before = state(world)
    assert world.gateway.register(world.a) == first
    assert state(world) == before
    assert listed(world.gateway).count(world.name(world.a)) == 1


def test_where_the_weights_answer_is_said_without_the_key(world: World) -> None:
    upstream = world.gateway.register(world.a)
    if upstream is not None:
        assert upstream.api_base is not None
        assert upstream.model
        assert upstream.key_env == (world.key[0] if world.key else None)
    if world.key:
        assert world.key[1] not in repr(upstream)


def test_what_is_registered_is_listed_beside_the_others(world: World) -> None:
    world.gateway.register(world.a)
    world.gateway.register(world.b)
    assert listed(world.gateway) == sorted([world.name(world.a), world.name(world.b)])
    assert all(each.says for each in world.gateway.registered())


def test_another_content_under_the_same_name_is_refused_and_not_overwritten(world: World) -> None:
    world.gateway.register(world.a)
    before = state(world)
    with pytest.raises(GatewayError) as caught:
        world.gateway.register(world.other(world.a))
    assert not caught.value.retry
    assert state(world) == before
    assert world.gateway.probe(world.a, HELLO, max_tokens=TOKENS).text == world.says[world.a.ref]


def test_each_version_answers_as_itself(world: World) -> None:
    world.gateway.register(world.a)
    world.gateway.register(world.b)
    for each in (world.a, world.b):
        said = world.gateway.probe(each, HELLO, max_tokens=TOKENS)
        assert (said.text, said.answered_by) == (world.says[each.ref], said.expected)
        assert said.expected
    assert world.says[world.a.ref] != world.says[world.b.ref]


def test_the_base_answers_as_itself_where_it_can_be_asked(world: World) -> None:
    world.gateway.register(world.a)
    if isinstance(world.gateway, Bases):
        said = world.gateway.probe_base(world.a, HELLO, max_tokens=TOKENS)
        assert said.answered_by == said.expected
        assert said.text not in world.says.values()


def test_what_is_forgotten_is_not_listed_and_does_not_answer(world: World) -> None:
    world.gateway.register(world.a)
    world.gateway.register(world.b)
    world.forget(world.a)
    world.forget(world.a)
    assert listed(world.gateway) == [world.name(world.b)]
    with pytest.raises(GatewayError):
        world.gateway.probe(world.a, HELLO, max_tokens=TOKENS)
    assert world.gateway.probe(world.b, HELLO, max_tokens=TOKENS).text == world.says[world.b.ref]


def test_what_was_never_there_is_forgotten_in_silence(world: World) -> None:
    before = state(world)
    world.gateway.unregister("nobody-v9-0123456789ab")
    world.gateway.unregister("nobody--v9-0123456789ab")
    world.gateway.unregister("not of ours")
    assert state(world) == before


@only(REGISTERING)
def test_what_was_forgotten_can_be_registered_again(world: World) -> None:
    world.gateway.register(world.a)
    world.forget(world.a)
    world.gateway.register(world.a)
    assert world.gateway.probe(world.a, HELLO, max_tokens=TOKENS).text == world.says[world.a.ref]


def test_nobody_there_means_later(world: World) -> None:
    gone = world.unreachable()
    calls: list[Callable[[], object]] = [
        lambda: gone.register(world.a),
        gone.registered,
        lambda: gone.probe(world.a, HELLO, max_tokens=TOKENS),
        lambda: gone.unregister(world.name(world.a)),
    ]
    # The embedded server has nothing to forget.
    for call in calls[: 3 if gone.name == "embedded" else 4]:
        with pytest.raises(GatewayUnavailable) as caught:
            call()
        assert caught.value.retry
        assert caught.value.problems[0].fix
    assert [problem.code for problem in gone.preflight(world.a)] == ["E820"]


@only(KEYED)
def test_a_wrong_key_is_named_by_its_variable_only(world: World) -> None:
    assert world.key is not None
    denied = world.denied()
    for call in (
        lambda: denied.register(world.a),
        lambda: denied.probe(world.a, HELLO, max_tokens=TOKENS),
        lambda: raised(denied, world),
    ):
        with pytest.raises(GatewayError) as caught:
            call()
        assert not isinstance(caught.value, GatewayUnavailable)
        assert world.key[0] in str(caught.value)
        assert "sk-wrong-and-secret" not in str(caught.value) + repr(caught.value)


def raised(gateway: Gateway, world: World) -> None:
    """What preflight says, as an error."""
    raise GatewayError(*gateway.preflight(world.a))


def test_what_preflight_refuses_is_not_registered(world: World) -> None:
    before = state(world)
    problems = world.gateway.preflight(world.misfit)
    assert problems
    assert all(problem.what and problem.fix for problem in problems)
    with pytest.raises(GatewayError) as caught:
        world.gateway.register(world.misfit)
    assert not caught.value.retry
    assert state(world) == before


def test_shares_are_for_those_that_know_public_names(world: World, kind: str) -> None:
    assert isinstance(world.gateway, Shares) == (kind in SHARING)
    assert isinstance(world.gateway, FollowsBooks) == (kind not in REGISTERING)


def answers(world: World, count: int) -> set[str | None]:
    gateway = world.gateway
    assert isinstance(gateway, Shares)
    said = [gateway.ask(PUBLIC, HELLO, max_tokens=TOKENS) for _ in range(count)]
    assert {each.expected for each in said} == {""}
    return {each.text for each in said}


@only(SHARING)
def test_shares_are_in_force_at_once(world: World) -> None:
    world.gateway.register(world.a)
    world.gateway.register(world.b)
    one, two = world.says[world.a.ref], world.says[world.b.ref]
    world.share(PUBLIC, {world.a.id: 1.0})
    assert answers(world, 12) == {one}
    world.share(PUBLIC, {world.a.id: 0.0, world.b.id: 1.0})
    assert answers(world, 12) == {two}
    world.share(PUBLIC, {world.a.id: 0.5, world.b.id: 0.5})
    # By chance one of two is left out of sixty once in 10^17 runs.
    assert answers(world, 60) == {one, two}
    world.share(PUBLIC, {world.a.id: 1.0, world.b.id: 0.0})
    assert answers(world, 12) == {one}


@only(SHARING)
def test_a_share_for_what_is_not_there_changes_nothing(world: World) -> None:
    world.gateway.register(world.a)
    world.share(PUBLIC, {world.a.id: 1.0})
    unknown = replace(world.b, digest="f" * 64)
    with pytest.raises(GatewayError):
        world.share(PUBLIC, {world.a.id: 0.5, unknown.id: 0.5})
    assert answers(world, 12) == {world.says[world.a.ref]}
