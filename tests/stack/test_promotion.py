"""Promotions with everything real: `ft` commands, workers, the embedded server, LiteLLM's proxy, OpenAI's client."""

import math
import os
import signal
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest

from tests.support.process import wait_until
from tests.support.stage import SAYS, STAND_IN, Callers, Stage, say, stage

A, B = SAYS[1], SAYS[2]
GATED = (
    "gate: {metric: exact_match, min_gain: 0.5, over: base}\n"
    "register: {alias: production, gateways: [embedded, litellm]}\n"
)
CALLS = 200
#: Of a caller's calls while calls move: 0.2 s in which nobody answers meet at least one.
EVERY_S = 0.1
#: A worker that was killed holds its promotion's lease for 30 s.
_TAKEN_UP_S = 90


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Version 1 was promoted by its recipe, version 2 is trained. Callers get A."""
    with stage(tmp_path_factory.mktemp("stage")) as made:
        made.train(1, GATED)
        made.train(2)
        wait_until(lambda: made.shares == {1: 1.0}, 90, f"version 1 to be promoted\n{made.log}", every_s=0.2)
        wait_until(lambda: made.card(1)["promotions"][0]["state"] == "live", 30, "its promotion to end", every_s=0.2)
        yield made


@pytest.fixture
def at_one(released: Stage) -> Stage:
    """The stage with all calls at version 1, whatever the test before has left."""
    if released.shares != {1: 1.0}:
        released.promoted(1, "--no-gate")
    return released


def answers(made: Stage, count: int) -> Counter[str]:
    """Who answers `count` callers of `bot`, eight at a time."""
    with made.client() as caller, ThreadPoolExecutor(8) as pool:
        return Counter(pool.map(lambda _: say(caller), range(count)))


def likely(count: int, share: float) -> range:
    """The hits among `count` calls that a share gives, but for once in a million times at either end."""
    chances = [math.comb(count, k) * share**k * (1 - share) ** (count - k) for k in range(count + 1)]
    low = next(k for k in range(count) if sum(chances[: k + 1]) > 1e-6)
    high = next(k for k in range(count, 0, -1) if sum(chances[k:]) > 1e-6)
    return range(low, high + 1)


def test_a_recipe_takes_its_version_to_callers_by_itself(released: Stage) -> None:
    card = released.card(1)
    (promotion,) = card["promotions"]
    assert (card["status"], promotion["state"]) == ("live", "live")
    told = " | ".join(note["text"] for note in promotion["notes"])
    assert "gate passed: exact_match" in told
    assert promotion["evidence"].keys() == {"embedded", "litellm"}
    for name, by in (("embedded", "bot@v1"), ("litellm", released.deployment(1))):
        evidence = promotion["evidence"][name]
        assert (evidence["answered_by"], evidence["against"]) == (by, "golden answers")
        assert {answer["said"] for answer in evidence["answers"]} == {A}
    assert answers(released, 40) == {A: 40}


def test_canary_all_calls_and_the_way_back(at_one: Stage) -> None:
    with Callers(at_one, 1, every_s=EVERY_S) as callers:
        at_one.promoted(2, "--canary", "10%", "--pause", "3600")
        assert at_one.shares == {1: 0.9, 2: 0.1}
        told = answers(at_one, CALLS)
        assert told.keys() == {A, B}
        assert told[B] in likely(CALLS, 0.1)

        at_one.promoted(2)
        assert answers(at_one, 40) == {B: 40}
        assert at_one.card(2)["status"] == "live"

        at_one.good("rollback", "bot", "-y")
        assert answers(at_one, 40) == {A: 40}
    assert callers.told.keys() == {A, B}
    assert callers.failed == []


def test_a_worker_killed_between_books_and_proxy_costs_no_call(at_one: Stage) -> None:
    with Callers(at_one, 1, every_s=EVERY_S) as callers:
        at_one.promoted(2, "--canary", "10%", "--pause", "2")
        # The books are written first: the worker is now telling the proxy, which takes it half a second.
        wait_until(lambda: at_one.shares == {1: 0.5, 2: 0.5}, 60, "the second share", every_s=0.005)
        (worker,) = at_one.processes("workers", "--queue", "remote")
        worker.kill()
        wait_until(lambda: set(at_one.entries().values()) == {5000}, _TAKEN_UP_S, "the proxy to follow", every_s=0.1)
        wait_until(lambda: at_one.shares == {2: 1.0}, _TAKEN_UP_S, f"another worker\n{at_one.log}", every_s=0.1)
        wait_until(lambda: at_one.card(2)["promotions"][0]["state"] == "live", 30, "the end", every_s=0.2)
        others = at_one.processes("workers", "--queue", "remote")
        assert worker.pid not in [other.pid for other in others]
        assert answers(at_one, 40) == {B: 40}
    assert callers.told.keys() == {A, B}
    assert callers.failed == []


def test_server_and_proxy_killed_and_started_again(at_one: Stage) -> None:
    (server,) = at_one.processes("finetune", "serve")
    server.kill()
    # `ft up` starts it again, and not before the dead one is gone.
    wait_until(lambda: not server.is_running() or server.status() == "zombie", 10, "its end")
    at_one.await_server()
    at_one.await_answer(1)

    entries = at_one.entries()
    at_one.front.kill()
    at_one.front.restart()
    assert at_one.entries() == entries
    assert answers(at_one, 20) == {A: 20}


def test_a_proxy_that_has_lost_its_entries_is_mended(at_one: Stage) -> None:
    entries = at_one.entries()
    (worker,) = at_one.processes("workers", "--queue", "remote")
    # Its own look at gateways, once a minute, must not come before ours.
    worker.suspend()
    try:
        at_one.front.swap_file("model_list: []\n")
        os.kill(at_one.front.pid, signal.SIGHUP)
        with at_one.client() as caller:
            wait_until(lambda: nobody_answers(caller), 30, "callers to get no answer", every_s=0.1)
        seen = at_one.ft("models", "sync", "--dry-run")
        assert seen.returncode == 1
        assert "bot@v1 is not there" in seen.stdout + seen.stderr
        assert at_one.entries() == {}
        at_one.good("models", "sync")
    finally:
        worker.resume()
    assert at_one.entries() == entries
    assert at_one.ft("models", "sync", "--dry-run").returncode == 0
    assert answers(at_one, 20) == {A: 20}


def nobody_answers(caller: openai.OpenAI) -> bool:
    """Whether the proxy does not know `bot` any more, four times in a row: each of its workers has been asked."""
    for _ in range(4):
        try:
            say(caller)
        except openai.BadRequestError:
            continue
        return False
    return True


def test_an_adapter_whose_files_have_changed_is_refused(at_one: Stage) -> None:
    weights = at_one.adapter(2) / "adapter_model.safetensors"
    good, entries = weights.read_bytes(), at_one.entries()
    weights.chmod(0o644)
    weights.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    try:
        refused = at_one.promote(2)
    finally:
        weights.write_bytes(good)
    assert refused.returncode != 0
    assert "E838" in refused.stderr
    assert at_one.shares == {1: 1.0}
    assert at_one.entries().get(at_one.deployment(1)) == entries[at_one.deployment(1)]
    assert answers(at_one, 20) == {A: 20}


@pytest.fixture
def trapped(at_one: Stage) -> Iterator[Stage]:
    """A proxy that answers as version 1 in place of version 2, with a 200, in two ways.

    It has not the key for the embedded server, and falls back to a model of its own: for `bot` and version 2 there.
    And somebody's own entry stands under the id of version 2 behind `bot@staging`.
    """
    front, key = at_one.front, at_one.front.upstream_key
    fallbacks = [{name: [STAND_IN]} for name in ("bot", at_one.deployment(2))]
    settings = {"router_settings": {"num_retries": 0, "fallbacks": fallbacks}}
    front.kill()
    front.configure(settings, [front.stand_in(), front.stand_in(at_one.deployment(2, "bot@staging"))])
    front.upstream_key = "another-key"
    front.restart()
    try:
        yield at_one
    finally:
        front.kill()
        front.configure()
        front.upstream_key = key
        front.restart()


def test_what_answers_in_a_versions_place_is_no_proof(trapped: Stage) -> None:
    # Version 2 may be the way back, which stays registered.
    entries = trapped.entries()
    refused = trapped.promote(2)
    assert undone(trapped, refused.returncode)["code"] in refused.stderr
    assert trapped.entries() == entries
    with trapped.client() as caller:
        assert say(caller) == A
        shadowed = trapped.deployment(2, "bot@staging")
        assert say(caller, shadowed) == A, "the trap: 200, from another version"
        refused = trapped.promote(2, "--gateway", "embedded", "--gateway", "litellm", to="staging")
        assert undone(trapped, refused.returncode)["code"] == "E830"
        assert trapped.entries() == entries
        assert say(caller) == A


def undone(made: Stage, code: int) -> dict[str, str]:
    """The error of the last promotion of version 2, which has to be undone."""
    promotion = made.card(2)["promotions"][0]
    assert (code != 0, promotion["state"]) == (True, "failed")
    assert made.shares == {1: 1.0}
    error: dict[str, str] = promotion["error"]
    return error
