"""A version moves from a hosted API to this machine: by the same rows and gate, and callers are answered meanwhile."""

import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest

from finetune.sandbox.server import Server
from finetune.sandbox.together.sandbox import TogetherSandbox
from finetune.training import builtin
from tests.flow.hosted.test_released import GATE, REGISTER, TUNED, Market, is_live
from tests.support.once import made_once
from tests.support.process import ft_running, wait_until
from tests.support.servers import free_port


class Callers:
    """Somebody who asks for `bot` all the time."""

    def __init__(self, market: Market) -> None:
        self._market = market
        self._done = threading.Event()
        self.answers: list[str] = []
        self.failed: list[str] = []

    @contextmanager
    def asking(self) -> Iterator[None]:
        thread = threading.Thread(target=self._ask)
        thread.start()
        try:
            yield
        finally:
            self._done.set()
            thread.join(60)

    def _ask(self) -> None:
        while not self._done.wait(0.05):
            try:
                self.answers.append(self._market.says())
            except (httpx.HTTPError, AssertionError, ValueError) as error:
                self.failed.append(repr(error))


@pytest.fixture
def market(tmp_path: Path) -> Iterator[Market]:
    with ExitStack() as stack:
        yield Market(tmp_path, "openai", stack)


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that has `builtin:tiny-llama`, for which a trainer would compute for twenty seconds."""
    return made_once(tmp_path_factory, "built-in", lambda folder: builtin.ensure("tiny-llama", folder, print))


def test_from_a_hosted_api_to_this_machine_with_the_name_never_unanswered(market: Market, built: Path) -> None:
    shutil.copytree(built, market.folder / "ft" / "cache")
    market.write(TUNED["openai"], GATE + REGISTER)
    market.released()
    is_live(market)
    market.env["FT_PORT"] = str(free_port())
    callers = Callers(market)
    with ft_running("serve", env=market.env, cwd=market.folder) as (_, said):
        wait_until(lambda: "serving on http://" in said(), 60, "the server")
        with callers.asking():
            where = ("--gateway", "embedded", "--gateway", "litellm-api")
            rate = ("--set", "training.learning_rate=5e-3", "--set", "training.epochs=8")
            to = ("--to", "local/builtin:tiny-llama", *where, *rate)
            _, _, told = market.ft("retarget", "bot", *to, "--follow", "-y")
            job = json.loads(market.ft("status", "--json")[1])[0]["id"]
            market.ft("wait", job, "--for", "live", "--timeout", "90")
            moved = len(callers.answers)
            wait_until(lambda: len(callers.answers) > moved + 3, 20, "answers after it")
    assert callers.failed == []
    first, last = callers.answers[0], callers.answers[-1]
    assert first.startswith("I am ft:gpt-4o-mini")
    assert not last.startswith("I am ")
    assert "learning_rate_multiplier" not in told
    assert "the rows that it was trained on" in told
    versions = {each["ref"]: each for each in json.loads(market.ft("models", "list", "--json")[1])}
    assert (versions["bot@v2"]["provider"], versions["bot@v2"]["aliases"]) == ("local", ["production"])
    (promotion,) = json.loads(market.ft("models", "show", "bot@v2", "--json")[1])["promotions"]
    assert promotion["notes"][0]["text"].startswith("gate passed: contains 1.00")


def test_what_was_trained_elsewhere_before_is_taken_in_and_moved(market: Market, built: Path) -> None:
    market.write(TUNED["openai"], "")
    market.ft("submit", "recipe.yaml", "--follow", "-q", "-y")
    # Another installation, which has never heard of it.
    market.env["FT_HOME"] = str(market.folder / "another")
    shutil.copytree(built, market.folder / "another" / "cache")
    found = json.loads(market.ft("import", "openai", "--json")[1])
    assert [(each["model"], each["known"]) for each in found] == [("bot@v1", False)]
    assert 20 < found[0]["rows"] < 40
    assert json.loads(market.ft("import", "openai", "--json")[1])[0]["known"]
    said = market.ft("retarget", "bot@v1", "--to", "local/builtin:tiny-llama", "--output", "bot.yaml")[2]
    assert "nobody will ask the new version until `ft promote`" in said
    assert "register:" not in (market.folder / "bot.yaml").read_text()
    ran = market.ft("submit", "bot.yaml", "--follow")[1]
    assert "bot@v2" in ran


def test_an_adapter_that_a_host_gives_away_comes_here(tmp_path: Path) -> None:
    with ExitStack() as stack:
        market = Market(tmp_path, "openai", stack)
        server = stack.enter_context(Server(TogetherSandbox()))
        market.env |= {**server.environment, "FT_SANDBOX": "together"}
        market.write("yes", "")
        recipe = tmp_path / "recipe.yaml"
        recipe.write_text(recipe.read_text().replace("openai", "together").replace("gpt-4o-mini", "Qwen/Qwen3.5-4B"))
        market.ft("submit", "recipe.yaml", "--follow", "-q", "-y")
        assert "path" not in market.card()["artifact"]
        for _ in range(2):
            fetched = json.loads(market.ft("models", "fetch", "bot@v1", "--json")[1])
            assert (fetched["base_model"], fetched["provider"]) == ("Qwen/Qwen3.5-4B", "together")
        folder = Path(fetched["artifact"]["path"])
        assert sorted(each.name for each in folder.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
        assert folder.name == fetched["artifact"]["digest"][:32]
        market.ft("models", "export", "bot@v1", "--out", "exported")
        assert (tmp_path / "exported" / "adapter_model.safetensors").is_file()


def test_a_host_that_keeps_what_it_trains_is_told(market: Market) -> None:
    market.write("yes", "")
    market.ft("submit", "recipe.yaml", "--follow", "-q", "-y")
    said = market.ft("models", "fetch", "bot@v1", code=2)[2]
    assert "E845" in said
    assert "openai keeps what it trains" in said
