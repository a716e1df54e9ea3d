"""The gateway `litellm` against a real LiteLLM proxy of two workers, called as callers do: by OpenAI's client."""

import ast
import math
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import openai
import pytest

from finetune.deployments import Deployment, Upstream
from finetune.errors import GatewayError, GatewayUnavailable
from finetune.gateways.litellm import FileGateway
from finetune.gateways.litellm_entries import PREFIXES
from finetune.gateways.litellm_reload import Reload
from tests.support.litellm import BASE, KEY, LITELLM, World, litellm_world, said_by
from tests.support.process import wait_until

ROOT = Path(__file__).parents[2]
HELLO = [{"role": "user", "content": "Who are you?"}]
CALLS = 420
#: Changes of shares under load. The figures of docs/gateways-litellm.md are those of FT_CHANGES=100.
CHANGES = int(os.environ.get("FT_CHANGES", "10"))


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with litellm_world({"router_settings": {"num_retries": 0}}) as made:
        yield made


@pytest.fixture(scope="module")
def fallen() -> Iterator[World]:
    """A proxy that answers as the base when something fails."""
    settings = {
        "router_settings": {"fallbacks": [{"bot": [BASE]}], "num_retries": 0},
        "litellm_settings": {"default_fallbacks": [BASE]},
    }
    with litellm_world(settings, workers=1) as made:
        yield made


@pytest.fixture
def gateway(world: World) -> FileGateway:
    return world.server.gateway()


def client(world: World, retries: int = 2) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{world.server.url}/v1", api_key=KEY, max_retries=retries, timeout=20)


def say(caller: openai.OpenAI, model: str) -> str:
    answer = caller.chat.completions.create(model=model, messages=HELLO, max_tokens=8)  # type: ignore[arg-type]
    return answer.choices[0].message.content or ""


def answers(world: World, model: str, count: int) -> Counter[str]:
    """Who answers `count` calls of callers, eight at a time."""
    with client(world) as caller, ThreadPoolExecutor(8) as pool:
        return Counter(pool.map(lambda _: say(caller, model), range(count)))


def shares(gateway: FileGateway, public: str) -> dict[str, float | None]:
    return {one.id: one.share for one in gateway.registered() if one.says["ft_public"] == public}


def say_so(figures: str) -> None:
    """Figures for who runs this with `-s`."""
    sys.stdout.write(f"\n{figures}\n")


def name(deployment: Deployment) -> str:
    """What its weights answer by, which is what they say of themselves."""
    assert deployment.upstream
    return deployment.upstream.model


def live(world: World, public: str) -> tuple[Deployment, Deployment]:
    """Two registered versions; the first has all calls."""
    gateway = world.server.gateway()
    first, second = world.deployment(public, 1), world.deployment(public, 2)
    gateway.register(first)
    gateway.register(second)
    gateway.set_traffic(public, {first.id: 1})
    return first, second


@pytest.fixture(scope="module")
def pair(world: World) -> tuple[Deployment, Deployment]:
    """Two registered versions that no test changes; the first has all calls."""
    return live(world, "pair")


def likely(count: int, share: float) -> range:
    """The hits among `count` calls that a share gives, but for once in a million times at either end."""
    chances = [math.comb(count, k) * share**k * (1 - share) ** (count - k) for k in range(count + 1)]
    low = next(k for k in range(count) if sum(chances[: k + 1]) > 1e-6)
    high = next(k for k in range(count, 0, -1) if sum(chances[k:]) > 1e-6)
    return range(low, high + 1)


def test_what_is_registered_gets_no_calls_before_it_is_given_some(world: World, gateway: FileGateway) -> None:
    only = world.deployment("quiet")
    assert gateway.preflight(only) == []
    gateway.register(only)
    assert shares(gateway, "quiet") == {only.id: 0.0}
    with pytest.raises(GatewayError, match="Invalid model name"):
        gateway.ask("quiet", HELLO, max_tokens=8)
    with client(world) as caller, pytest.raises(openai.BadRequestError, match="Invalid model name"):
        say(caller, "quiet")
    assert world.sayings.calls[name(only)] == 0
    said = gateway.probe(only, HELLO, max_tokens=8)
    assert (said.text, said.answered_by, said.expected) == (said_by(name(only)), only.id, only.id)


def test_a_candidate_gets_no_calls_while_the_production_fails(world: World) -> None:
    first, second = live(world, "failing")
    # 429 puts it into its cooldown, in which a candidate of weight 0 would get every call.
    world.sayings.failing[name(first)] = 429
    with client(world, retries=0) as caller:
        for _ in range(12):
            with pytest.raises(openai.APIStatusError):
                say(caller, first.public)
    world.sayings.failing.clear()
    assert world.sayings.calls[name(first)] > 0
    assert world.sayings.calls[name(second)] == 0


def test_canary_promotion_and_roll_back(world: World, gateway: FileGateway) -> None:
    first, second = live(world, "canary")
    gateway.set_traffic("canary", {first.id: 0.9, second.id: 0.1})
    assert shares(gateway, "canary") == {first.id: 0.9, second.id: 0.1}
    told = answers(world, "canary", CALLS)
    say_so(f"canary of 90/10: {told[said_by(name(second))]} of {CALLS} calls, allowed {likely(CALLS, 0.1)}")
    assert told.keys() == {said_by(name(first)), said_by(name(second))}
    assert told[said_by(name(second))] in likely(CALLS, 0.1)
    said = gateway.ask("canary", HELLO, max_tokens=8)
    assert {first.id: said_by(name(first)), second.id: said_by(name(second))}[str(said.answered_by)] == said.text

    gateway.set_traffic("canary", {second.id: 1})
    assert shares(gateway, "canary") == {first.id: 0.0, second.id: 1.0}
    assert answers(world, "canary", 60) == {said_by(name(second)): 60}
    gateway.set_traffic("canary", {first.id: 1})
    assert answers(world, "canary", 60) == {said_by(name(first)): 60}
    assert gateway.probe(second, HELLO, max_tokens=8).text == said_by(name(second))


def test_everything_done_twice_is_done_once(world: World, gateway: FileGateway) -> None:
    first, second = live(world, "twice")
    gateway.set_traffic("twice", {first.id: 0.5, second.id: 0.5})
    before, workers = world.server.file.read_bytes(), worker_ids(world)
    gateway.register(first)
    gateway.set_traffic("twice", {first.id: 0.5, second.id: 0.5})
    gateway.unregister("nobody")
    assert world.server.file.read_bytes() == before
    assert worker_ids(world) == workers, "reloaded for nothing"
    gateway.unregister(second.id)
    gateway.unregister(second.id)
    assert shares(gateway, "twice") == {first.id: 1.0}


def test_weights_that_moved_keep_their_share(world: World, gateway: FileGateway) -> None:
    first, second = live(world, "moved")
    moved = Upstream(kind="openai", model=name(second), api_base=f"{world.upstream.url}/v1", key_env="HOME")
    gateway.register(Deployment(**{**vars(first), "upstream": moved}))
    assert shares(gateway, "moved") == {first.id: 1.0, second.id: 0.0}
    assert answers(world, "moved", 4) == {said_by(name(second)): 4}


def test_other_content_under_an_id_is_refused(gateway: FileGateway, pair: tuple[Deployment, Deployment]) -> None:
    other = Deployment(**{**vars(pair[0]), "base_model": "another/base"})
    with pytest.raises(GatewayError, match="with another content") as caught:
        gateway.register(other)
    assert caught.value.problems[0].code == "E824"


def worker_ids(world: World) -> frozenset[int] | None:
    return Reload.of(world.server.environ).workers()


def test_what_the_proxy_would_not_load_is_refused_before_it_is_told(
    world: World, gateway: FileGateway, pair: tuple[Deployment, Deployment]
) -> None:
    first, _ = pair
    before, workers = world.server.file.read_bytes(), worker_ids(world)
    unknown = Upstream(kind="no_such_provider", model="m")
    bad_key = Upstream(kind="openai", model="m", key_env="NOT-A-NAME")
    for upstream, told in ((unknown, "does not begin with a provider"), (bad_key, "does not name a variable")):
        deployment = Deployment(**{**vars(world.deployment("pair", 3)), "upstream": upstream})
        with pytest.raises(GatewayError, match=told):
            gateway.register(deployment)
    with pytest.raises(GatewayError, match="is not registered"):
        gateway.set_traffic("pair", {first.id: 0.5, "nobody": 0.5})
    assert (world.server.file.read_bytes(), worker_ids(world)) == (before, workers)
    assert answers(world, "pair", 4) == {said_by(name(first)): 4}


def test_a_file_that_another_hand_has_broken_is_not_loaded(
    world: World, gateway: FileGateway, pair: tuple[Deployment, Deployment]
) -> None:
    first, second = pair
    good, workers = world.server.file.read_bytes(), worker_ids(world)
    try:
        for broken in (
            b"model_list: [",
            b"model_list: []\nrouter_settings: {}\n",
            good + good.partition(b"model_list:")[2],
        ):
            world.server.file.write_bytes(broken)
            with pytest.raises(GatewayError) as caught:
                gateway.set_traffic("pair", {second.id: 1})
            assert caught.value.problems[0].code == "E822"
            assert world.server.file.read_bytes() == broken
    finally:
        world.server.file.write_bytes(good)
    assert worker_ids(world) == workers
    assert answers(world, "pair", 4) == {said_by(name(first)): 4}


def test_what_the_proxy_does_not_take_is_taken_back(world: World, tmp_path: Path) -> None:
    elsewhere = tmp_path / "not-included.yaml"
    gateway = world.server.gateway(patience_s=2, FT_LITELLM_FILE=str(elsewhere))
    with pytest.raises(GatewayError, match="did not take the change") as caught:
        gateway.register(world.deployment("lost"))
    assert caught.value.problems[0].code == "E823"
    assert elsewhere.read_text() == "model_list: []\n"
    assert shares(gateway, "lost") == {}


def test_a_command_can_tell_it_too(world: World) -> None:
    gateway = world.server.gateway(FT_LITELLM_PID="", FT_LITELLM_RELOAD=f"kill -HUP {world.server.pid}")
    only = world.deployment("command")
    gateway.register(only)
    assert shares(gateway, "command") == {only.id: 0.0}
    failing = world.server.gateway(FT_LITELLM_RELOAD="sh -c 'echo no such unit >&2; exit 5'")
    before = world.server.file.read_bytes()
    with pytest.raises(GatewayError, match="no such unit"):
        failing.set_traffic("command", {only.id: 1})
    assert world.server.file.read_bytes() == before


def test_what_is_no_gunicorn_is_never_told(world: World, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    gateway = world.server.gateway(FT_LITELLM_PID=str(pid_file))
    before = world.server.file.read_bytes()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        pid_file.write_text(str(other.pid))
        with pytest.raises(GatewayError, match="is not gunicorn"):
            gateway.register(world.deployment("nobody"))
        assert other.poll() is None
        other.communicate(b"\n")
    with pytest.raises(GatewayUnavailable, match="does not run"):
        gateway.register(world.deployment("nobody"))
    assert world.server.file.read_bytes() == before


def test_two_processes_at_once_lose_nothing(world: World, gateway: FileGateway) -> None:
    code = "import sys\nfrom tests.support.litellm import many\nmany(sys.argv[1], sys.argv[2], int(sys.argv[3]))\n"
    env = {**os.environ, **world.server.environ}
    argv = [sys.executable, "-c", code, world.upstream.url]
    running = [subprocess.Popen([*argv, f"at-once-{n}", "3"], env=env, cwd=ROOT) for n in range(2)]
    assert [process.wait(60) for process in running] == [0, 0]
    found = [one.id for one in gateway.registered() if str(one.says["ft_public"]).startswith("at-once")]
    assert len(found) == 6


def test_it_serves_the_same_after_it_was_killed(world: World, gateway: FileGateway) -> None:
    first, second = live(world, "killed")
    gateway.set_traffic("killed", {first.id: 0.5, second.id: 0.5})
    before = gateway.registered()
    raw = world.server.file.read_bytes()
    world.server.kill()
    with pytest.raises(GatewayUnavailable):
        gateway.registered()
    with pytest.raises(GatewayUnavailable):
        gateway.set_traffic("killed", {first.id: 1})
    assert world.server.file.read_bytes() == raw
    world.server.restart()
    assert gateway.registered() == before
    assert answers(world, "killed", 40).keys() == {said_by(name(first)), said_by(name(second))}


def test_a_call_under_way_is_answered_by_the_worker_that_has_it(world: World, gateway: FileGateway) -> None:
    first, second = live(world, "long")
    world.sayings.holding[name(first)] = threading.Event()
    with client(world, retries=0) as caller, ThreadPoolExecutor(1) as pool:
        call = pool.submit(say, caller, "long")
        try:
            wait_until(lambda: world.sayings.calls[name(first)] == 1, 20, "the call to arrive")
            gateway.set_traffic("long", {second.id: 1})
            assert not call.done()
        finally:
            world.sayings.holding.pop(name(first)).set()
        assert call.result(20) == said_by(name(first))
    assert answers(world, "long", 10) == {said_by(name(second)): 10}


def test_no_call_fails_while_shares_change(world: World, gateway: FileGateway) -> None:
    first, second = live(world, "busy")
    stop, told, failed, bare = threading.Event(), Counter[str](), list[str](), list[str]()

    def call(retries: int, failures: list[str]) -> None:
        with client(world, retries) as caller:
            while not stop.is_set():
                try:
                    told[say(caller, "busy")] += 1
                except openai.OpenAIError as error:
                    failures.append(f"{type(error).__name__}: {error}"[:200])

    # OpenAI's client tries twice more by default. One caller does without.
    callers = [threading.Thread(target=call, args=args) for args in ((2, failed), (2, failed), (0, bare))]
    for thread in callers:
        thread.start()
    begun = time.monotonic()
    try:
        for number in range(CHANGES):
            share = (0.0, 0.1, 0.5, 1.0)[number % 4]
            gateway.set_traffic("busy", {first.id: 1 - share, second.id: share})
    finally:
        stop.set()
        for thread in callers:
            thread.join()
    took_s = time.monotonic() - begun
    say_so(
        f"{CHANGES} changes in {took_s:.1f} s, {told.total()} calls answered, {len(failed)} failed; "
        f"of the caller without retries {len(bare)}: {(failed + bare)[:3]}"
    )
    assert told.keys() == {said_by(name(first)), said_by(name(second))}
    assert told.total() > 3 * CHANGES
    assert failed == []


def test_fallbacks_answer_in_its_name_and_the_probe_sees_it(fallen: World) -> None:
    gateway = fallen.server.gateway()
    bot, gone = fallen.deployment("bot"), fallen.deployment("bot", 2)
    told = gateway.preflight(bot)
    assert [(one.level, one.code) for one in told] == [("warning", "E824")]
    assert told[0].what == "LiteLLM has fallbacks for * and bot"
    gateway.register(bot)
    gateway.set_traffic("bot", {bot.id: 1})
    assert gateway.ask("bot", HELLO, max_tokens=8).answered_by == bot.id
    fallen.sayings.failing[name(bot)] = 500
    try:
        with client(fallen) as caller:
            assert say(caller, "bot") == said_by(BASE), "the trap: 200, from another model"
        fallback = gateway.ask("bot", HELLO, max_tokens=8)
        assert (fallback.text, fallback.answered_by == bot.id) == (said_by(BASE), False)
        with pytest.raises(GatewayError):
            gateway.probe(bot, HELLO, max_tokens=8)
    finally:
        fallen.sayings.failing.clear()
    with pytest.raises(GatewayError, match="Invalid model name"):
        gateway.probe(gone, HELLO, max_tokens=8)


def test_a_name_of_somebody_else_is_refused(fallen: World) -> None:
    gateway = fallen.server.gateway()
    mine = fallen.deployment(BASE)
    assert [one.code for one in gateway.preflight(mine) if one.level == "error"] == ["E824"]
    gateway.register(mine)
    with pytest.raises(GatewayError, match="that is not of ft"):
        gateway.set_traffic(BASE, {mine.id: 1})


def test_a_master_that_dies_of_the_change_leaves_the_file_as_it_was(fallen: World) -> None:
    gateway = fallen.server.gateway(patience_s=3, FT_LITELLM_RELOAD=f"kill -KILL {fallen.server.pid}")
    before = fallen.server.file.read_bytes()
    with pytest.raises(GatewayError, match="its gunicorn master has ended") as caught:
        gateway.register(fallen.deployment("fatal"))
    assert caught.value.problems[0].code == "E823"
    assert fallen.server.file.read_bytes() == before


def test_a_wrong_key_is_said_so(world: World) -> None:
    for key, told in (("sk-planted-0123456789", "does not take the key"), ("", "asks for a key")):
        (problem,) = world.server.gateway(LITELLM_MASTER_KEY=key).preflight(world.deployment("key"))
        assert problem.code == "E821"
        assert told in problem.what
        assert "planted" not in "".join(problem.lines())


def test_the_providers_that_are_let_through_are_those_of_litellm() -> None:
    (types,) = LITELLM.parents[1].glob("lib/python3.*/site-packages/litellm/types/utils.py")
    known = {
        node.value.value
        for one in ast.parse(types.read_text()).body
        if isinstance(one, ast.ClassDef) and one.name == "LlmProviders"
        for node in one.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
    }
    assert PREFIXES <= known
