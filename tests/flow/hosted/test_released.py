"""Hosted versions from a recipe to callers: `ft` and its workers are processes, the APIs and the proxy stand-ins."""

import json
import re
import shlex
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from finetune.sandbox.azure_deployments import Deployed
from finetune.sandbox.fireworks.jobs import Timing as FireworksTiming
from finetune.sandbox.gateways.litellm import LiteLlmSandbox
from finetune.sandbox.mistral.jobs import Timing as MistralTiming
from finetune.sandbox.openai.jobs import Timing
from finetune.sandbox.server import Server
from finetune.sandbox.together.jobs import Timing as TogetherTiming
from tests.support.process import ft_running, run_ft, wait_until
from tests.wire.hosted import fireworks_contract, mistral_contract, openai_contract, together_contract

BASES = {
    "openai": "gpt-4o-mini",
    "azure": "gpt-4.1-mini",
    "mistral": "ministral-3b-latest",
    "fireworks": "accounts/fireworks/models/qwen3-0p6b",
    "together": "Qwen/Qwen3.5-4B",
}
GATE = "gate: {metric: contains, min_gain: 0.5}\n"
REGISTER = "register: {alias: production, gateways: [litellm-api]}\n"
ROWS = 60
#: Everybody at a provider says `I am NAME: ...`: this stands in the names of tuned models, and in none of a base's.
TUNED = {
    "openai": "sandbox-org",
    "azure": ".ft-",
    "mistral": "ft:",
    "fireworks": "accounts/sandbox/models/ft-",
    "together": "sandbox_1a2b",
}


class Market:
    """One provider, a proxy, and a user between them."""

    def __init__(self, folder: Path, name: str, stack: ExitStack) -> None:
        self.folder, self.name = folder, name
        # Both are held to the published contracts.
        quick = Timing(validating_s=0.1, queued_s=0.1, running_s=0.2, processing_s=0.1)
        self.api: Any = {
            "openai": lambda: openai_contract.Watched(timing=quick),
            "azure": lambda: openai_contract.WatchedAzure(timing=quick),
            "mistral": lambda: mistral_contract.Watched(
                timing=MistralTiming(queued_s=0.1, validating_s=0.1, running_s=0.2)
            ),
            "fireworks": lambda: fireworks_contract.Watched(
                timing=FireworksTiming(creating_s=0.1, validating_s=0.1, pending_s=0.1, running_s=0.2, writing_s=0.1)
            ),
            "together": lambda: together_contract.Watched(
                timing=TogetherTiming(validating_s=0.1, pending_s=0.1, queued_s=0.1, running_s=0.2, packing_s=0.1)
            ),
        }[name]()
        keyed = ("OPENAI_API_KEY", "AZURE_OPENAI_API_KEY", "MISTRAL_API_KEY", "FIREWORKS_API_KEY")
        keys = dict.fromkeys((*keyed, "TOGETHER_API_KEY"), "sandbox-key")
        self.proxy = LiteLlmSandbox(environ=keys)
        self.servers = [stack.enter_context(Server(each)) for each in (self.api, self.proxy)]
        self.env = {name: value for each in self.servers for name, value in each.environment.items()}
        self.env["FT_SANDBOX"] = name

    def write(self, wanted: str, more: str) -> None:
        """A recipe, and data whose wanted answers are these words."""
        rows = [
            [{"role": "user", "content": f"Question {number}?"}, {"role": "assistant", "content": wanted}]
            for number in range(ROWS)
        ]
        (self.folder / "data.jsonl").write_text("".join(json.dumps({"messages": row}) + "\n" for row in rows))
        (self.folder / "recipe.yaml").write_text(
            f"version: 1\nname: bot\nbase_model: {BASES[self.name]}\nprovider: {self.name}\n"
            f"dataset: {{path: data.jsonl}}\nvalidation: {{split: 0.5}}\n{more}"
        )

    def released(self, *, code: int = 0) -> str:
        """Submit the recipe and wait until its version has the calls, or `ft wait` ends with another code; stderr."""
        return self.ft("wait", self.submitted()[0], "--for", "live", "--timeout", "60", code=code)[2]

    def submitted(self) -> tuple[str, str]:
        """Submit the recipe and wait for its training: the job, and stderr."""
        _, job, said = self.ft("submit", "recipe.yaml", "--follow", "-q", "-y")
        return job.strip(), said

    def ft(self, *args: str, code: int = 0) -> tuple[int, str, str]:
        """A command that has to end with this code: code, stdout, stderr."""
        done = run_ft(*args, env=self.env, cwd=self.folder, timeout=120)
        assert done.returncode == code, f"{args}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.returncode, done.stdout, done.stderr

    def card(self, ref: str = "bot@v1") -> dict[str, Any]:
        """What `ft models show` knows of the version."""
        found: dict[str, Any] = json.loads(self.ft("models", "show", ref, "--json")[1])
        return found

    def evaluated(self) -> dict[str, Any]:
        """What `ft eval` finds."""
        found: dict[str, Any] = json.loads(self.ft("eval", "bot@v1", "--metric", "contains", "--json")[1])
        return found

    @property
    def chats(self) -> int:
        """How many chats the provider was asked for."""
        return [operation for operation, _ in self.api.requests].count("chat")

    def says(self) -> str:
        """What a caller of the proxy gets."""
        body = {"model": "bot", "messages": [{"role": "user", "content": "Who are you?"}]}
        key = {"Authorization": f"Bearer {self.env['LITELLM_MASTER_KEY']}"}
        url = f"{self.env['LITELLM_URL']}/v1/chat/completions"
        answer = httpx.post(url, json=body, headers=key, trust_env=False, timeout=20)
        return str(answer.raise_for_status().json()["choices"][0]["message"]["content"])


@pytest.fixture
def market(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Market]:
    """Of the provider that the test names."""
    with ExitStack() as stack:
        made = Market(tmp_path, request.param, stack)
        yield made
        assert [each.broken for each in made.servers] == [[], []]
        assert getattr(made.api, "breaches", []) + getattr(made.api, "violations", []) == []


def at(name: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("market", [name], indirect=True)


def is_live(market: Market, ref: str = "bot@v1", against: str = "golden answers") -> dict[str, Any]:
    """Assert that the version has the calls, by proof; its newest promotion."""
    card = market.card(ref)
    promotion = card["promotions"][0]
    assert (card["status"], promotion["state"]) == ("live", "live"), promotion
    evidence = promotion["evidence"]["litellm-api"]
    assert evidence["against"] == against
    assert {answer["said"] for answer in evidence["answers"]} == {answer["tuned"] for answer in evidence["answers"]}
    model = card["artifact"]["model"]
    assert TUNED[market.name] in model
    assert market.says() == f"I am {model}: Who are you?"
    return dict(promotion)


def is_measured_over_its_base(market: Market) -> None:
    """Assert that `ft eval` asks both at the provider, each once a row, and tells them apart."""
    before = market.chats
    (report,) = market.evaluated()["reports"]
    assert market.chats - before == 2 * report["n"] > 40
    assert (report["tuned"], report["other"], report["warnings"]) == ("bot@v1", BASES[market.name], [])
    (outcome,) = report["outcomes"]
    assert (outcome["metric"], outcome["tuned"]["value"], outcome["other"]["value"]) == ("contains", 1.0, 0.0)
    assert outcome["gain"]["value"] == 1.0
    assert report["tokens"] > 2 * report["n"]
    assert BASES[market.name] in report["golden"][0]["other"]


@at("openai")
def test_a_version_that_beats_its_base_comes_to_callers(market: Market) -> None:
    market.write(TUNED["openai"], GATE + REGISTER)
    market.released()
    notes = [note["text"] for note in is_live(market)["notes"]]
    assert notes[0].startswith("gate passed: contains 1.00")
    assert "gpt-4o-mini 0.00: gain 1.00" in notes[0]
    is_measured_over_its_base(market)


@at("openai")
def test_a_version_that_does_not_beat_its_base_stays_away(market: Market) -> None:
    market.write("What no model says.", GATE + REGISTER)
    said = market.released(code=8)
    assert "E840" in said
    assert "contains 0.00" in said
    (promotion,) = market.card()["promotions"]
    assert (promotion["state"], promotion["evidence"]) == ("refused", {})
    assert market.proxy.rows == {}
    assert market.chats > 40, "it was measured"
    assert json.loads(market.ft("status", "--json")[1])[0]["state"] == "succeeded"


@at("mistral")
def test_without_a_gate_a_version_is_measured_for_its_proof(market: Market) -> None:
    market.write(TUNED["mistral"], REGISTER)
    market.released()
    notes = [note["text"] for note in is_live(market)["notes"]]
    assert notes[0] == "measured, for questions that tell it from its base"
    is_measured_over_its_base(market)


@at("azure")
def test_where_models_are_deployed_first_the_base_must_be_too(market: Market) -> None:
    deployments = market.api.deployments
    deployments.looks = 0
    model = {"name": "gpt-4.1-mini", "version": "2025-04-14"}
    body = {"properties": {"model": model}, "sku": {}}
    base = Deployed(name="plain", model="gpt-4.1-mini", body=body, since=0.0)
    deployments.book.append(base)
    market.write(TUNED["azure"], GATE + REGISTER.replace("]}", "], max_hosting: 2 USD}"))
    market.released()
    is_live(market)
    is_measured_over_its_base(market)

    base.until = market.api.now()
    _, _, said = market.ft("eval", "bot@v1", code=1)
    assert "E861" in said
    assert "gpt-4.1-mini answers nowhere at azure" in said
    assert "deploy gpt-4.1-mini in the Foundry portal" in said


@at("fireworks")
def test_a_fireworks_version_is_deployed_with_consent_and_ends_with_its_version(market: Market) -> None:
    deployments = market.api.deployments
    deployments.looks = 0
    market.write(TUNED["fireworks"], GATE + REGISTER.replace("]}", "], max_hosting: 7.99 USD}"))
    _, _, refused = market.ft("submit", "recipe.yaml", "--follow", "-q", "-y", code=6)
    assert "E843" in refused
    assert "8.00 USD an hour" in refused
    assert market.api.ledger() == [], "before anything is paid for"

    market.write(TUNED["fireworks"], GATE + REGISTER.replace("]}", "], max_hosting: 8 USD}"))
    market.released()
    notes = " ".join(note["text"] for note in is_live(market)["notes"])
    assert "8.00 USD an hour, about 5840 USD a month, until the version retires" in notes
    (there,) = deployments.there()
    assert (there.asked.baseModel, there.gpu, there.gpus) == (market.card()["artifact"]["model"], "NVIDIA_H100_80GB", 1)
    (entry,) = market.proxy.rows.values()
    assert entry["litellm_params"]["model"] == f"fireworks_ai/{there.name}"
    is_measured_over_its_base(market)

    market.ft("models", "retire", "bot@v1", "-y")
    assert deployments.there() == []


@at("together")
def test_a_together_version_is_deployed_with_consent_and_ends_with_its_version(market: Market) -> None:
    endpoints = market.api.endpoints
    endpoints.starting_s = endpoints.stopping_s = 0.0
    market.write(TUNED["together"], GATE + REGISTER)
    _, _, refused = market.ft("submit", "recipe.yaml", "-y", code=6)
    assert "E843" in refused
    assert "5.49 USD an hour" in refused
    assert market.api.requests == deque(), "nothing was sent, and nothing trained"

    market.write(TUNED["together"], GATE + REGISTER.replace("]}", "], max_hosting: 6 USD}"))
    market.released()
    notes = [note["text"] for note in is_live(market)["notes"]]
    (endpoint,) = endpoints.there()
    assert endpoint.name.startswith("ft-bot-v1-")
    assert any(f"deployed at together as {endpoint.whole}: 5.49 USD an hour" in note for note in notes), notes
    (row,) = market.proxy.rows.values()
    assert row["litellm_params"]["model"] == f"openai/{endpoint.whole}"
    assert row["litellm_params"]["api_key"] == "os.environ/TOGETHER_API_KEY"
    is_measured_over_its_base(market)

    endpoints.serverless.clear()
    _, _, said = market.ft("eval", "bot@v1", code=1)
    assert "E854" in said
    assert "Unable to access non-serverless model Qwen/Qwen3.5-4B" in said

    assert endpoints.costing() == ["ft"]
    market.ft("models", "retire", "bot@v1", "-y")
    assert (endpoints.costing(), endpoints.there()) == ([], [])


class Hosting:
    """The hosting of Fireworks or Together, whatever its stand-in is made of."""

    def __init__(self, market: Market) -> None:
        self._made = market.api.deployments if market.name == "fireworks" else market.api.endpoints
        self._served = market.api.serverless if market.name == "fireworks" else self._made.serverless
        if market.name == "fireworks":
            self._made.looks = 0
        else:
            self._made.starting_s = self._made.stopping_s = 0.0
        self._base = BASES[market.name]

    def serve(self, on: bool) -> None:
        """Whether the base answers untuned."""
        (self._served.add if on else self._served.discard)(self._base)

    @property
    def costing(self) -> int:
        """How many are there."""
        return len(self._made.there())

    @property
    def ever(self) -> int:
        """How many there ever were."""
        return len(self._made.book)


PAID = REGISTER.replace("]}", "], max_hosting: 8 USD}")


@pytest.mark.parametrize("market", ["fireworks", "together"], indirect=True)
def test_where_the_base_answers_nowhere_nothing_is_deployed_that_cannot_be_measured(market: Market) -> None:
    hosting, base = Hosting(market), BASES[market.name]
    market.write(TUNED[market.name], GATE + PAID)
    market.released()
    first = market.says()

    # The base goes. A newer version is not deployed, and callers go on as they were.
    hosting.serve(False)
    chats = market.chats
    market.write(TUNED[market.name], GATE + PAID + "training: {epochs: 2}\n")
    job, said = market.submitted()
    assert re.search(rf"recipe.yaml:7:\d+: warning E861: {base} answers nowhere", said), "before it is paid for"
    assert "E861" in market.ft("wait", job, "--for", "live", "--timeout", "60", code=1)[2]
    assert (hosting.costing, hosting.ever, market.chats - chats) == (1, 1, 0)
    assert (len(market.proxy.rows), market.says()) == (1, first)

    # Over the version that callers have, no base is needed, for the gate or for the proof.
    market.write(TUNED[market.name], GATE.replace("0.5", "0, over: production") + PAID + "training: {epochs: 1}\n")
    job, said = market.submitted()
    assert "E861" not in said
    market.ft("wait", job, "--for", "live", "--timeout", "60")
    promotion = is_live(market, "bot@v3", "golden answers and another version's")
    assert {each["base"] for each in promotion["evidence"]["litellm-api"]["answers"]} == {None}


def test_what_users_try_without_a_key_comes_to_callers_too(tmp_path: Path) -> None:
    with ExitStack() as stack:
        # Its own stand-ins are gone before anything is asked.
        market = Market(tmp_path, "openai", stack)
    market.write(TUNED["openai"], GATE + REGISTER)
    with ft_running("sandbox", "openai", "litellm-api", "--speed", "20") as (_, said):
        wait_until(lambda: "Ctrl-C" in said(), 30, "the sandbox")
        lines = [line.removeprefix("export ") for line in said().splitlines() if line.startswith("export ")]
        market.env = dict(shlex.split(line)[0].split("=", 1) for line in lines)
        market.released()
        is_live(market)
