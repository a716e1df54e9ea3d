"""The embedded gateway looks at the real server and at what it says; nothing is sent to be kept."""

import copy
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from finetune.deployments import Bases, FollowsBooks, Shares
from finetune.errors import GatewayError
from finetune.serving.pool import Pool
from finetune.serving.run import running
from finetune.serving.server import create_app
from tests.flow.serving.conftest import BASE, SAYS
from tests.support import gateways
from tests.support.gateways import HELLO, PUBLIC, EmbeddedWorld, Source

Tiny = tuple[dict[str, Path], Any]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tiny]:
    with gateways.trained(tmp_path_factory.mktemp("tiny")) as made:
        yield made


@pytest.fixture
def world(tiny: Tiny) -> Iterator[EmbeddedWorld]:
    folders, loaded = tiny
    with gateways.embedded_world(folders, BASE, SAYS, copy.deepcopy(loaded)) as world:
        assert isinstance(world, EmbeddedWorld)
        yield world


def test_it_can_do_all(world: EmbeddedWorld) -> None:
    assert isinstance(world.gateway, Bases)
    assert isinstance(world.gateway, Shares)
    assert isinstance(world.gateway, FollowsBooks)


def test_a_version_answers_by_its_own_name(world: EmbeddedWorld) -> None:
    upstream = world.gateway.register(world.a)
    assert upstream is not None
    assert (upstream.kind, upstream.model, upstream.key_env) == ("hosted_vllm", "support-bot@v1", "FT_API_KEY")
    assert upstream.api_base == f"http://127.0.0.1:{world.port}/v1"


def test_nothing_is_kept_of_what_is_registered(world: EmbeddedWorld) -> None:
    before = [each.id for each in world.gateway.registered()]
    world.gateway.register(world.a)
    world.gateway.unregister(world.a.model)
    assert [each.id for each in world.gateway.registered()] == before == [world.a.model, world.b.model]


def test_a_server_of_another_database_is_refused(world: EmbeddedWorld) -> None:
    del world.source.versions[world.a.ref]
    for call in (
        lambda: world.gateway.register(world.a),
        lambda: world.gateway.probe(world.a, HELLO, max_tokens=9),
    ):
        with pytest.raises(GatewayError, match="E829") as caught:
            call()
        assert not caught.value.retry
        assert "FT_DATABASE_URL" in caught.value.problems[0].fix


def test_aliases_and_bases_are_no_versions(world: EmbeddedWorld) -> None:
    world.source.shares["support-bot"] = {world.a.ref: 1.0}
    world.source.shares["support-bot@staging"] = {world.b.ref: 1.0}
    assert [each.id for each in world.gateway.registered()] == [world.a.model, world.b.model]


def test_shares_that_are_not_in_force_are_an_error(world: EmbeddedWorld) -> None:
    world.source.shares[PUBLIC] = {world.b.ref: 1.0}
    with pytest.raises(GatewayError, match="E829: support-bot is answered by support-bot@v2"):
        world.gateway.set_traffic(PUBLIC, {world.a.id: 1.0, world.b.id: 0.0})
    world.source.shares.clear()
    with pytest.raises(GatewayError, match="answered by nothing"):
        world.gateway.set_traffic(PUBLIC, {world.a.id: 1.0})
    world.source.shares[PUBLIC] = {world.a.ref: 1.0}
    world.gateway.set_traffic(PUBLIC, {world.a.id: 1.0, world.b.id: 0.0})


def test_a_share_is_for_a_content_and_not_for_a_version_number(world: EmbeddedWorld) -> None:
    world.source.shares[PUBLIC] = {world.a.ref: 1.0}
    with pytest.raises(GatewayError, match="does not have support-bot--v1-ffffffffffff"):
        world.gateway.set_traffic(PUBLIC, {replace(world.a, digest="f" * 64).id: 1.0})


def test_another_alias_has_shares_of_its_own(world: EmbeddedWorld) -> None:
    public = f"{PUBLIC}@staging"
    staged = replace(world.b, public=public)
    world.source.shares[public] = {world.b.ref: 1.0}
    world.gateway.set_traffic(public, {staged.id: 1.0})
    assert world.gateway.ask(public, HELLO, max_tokens=9).answered_by == world.b.ref


def test_who_answered_is_the_servers_word_not_what_was_asked(tiny: Tiny) -> None:
    folders, loaded = tiny

    class Confused(Source):
        """Resolves every name to the base, as a fallback would."""

        def resolve(self, name: str) -> Any:
            return self.served()[0]

    with gateways.embedded_world(folders, BASE, SAYS, copy.deepcopy(loaded)) as world:
        source = Confused(BASE, {world.a.ref: folders["a"]})
        app = create_app(source, Pool(lambda name, progress: copy.deepcopy(loaded)), api_key=None)
        with running(app) as url:
            world.port = int(url.rpartition(":")[2])
            said = world.built().probe(world.a, HELLO, max_tokens=40)
    assert (said.answered_by, said.expected) == (BASE, world.a.ref)
    assert said.text != world.says[world.a.ref]


def test_an_adapter_that_the_server_cannot_load_is_a_refusal_for_good(world: EmbeddedWorld, tmp_path: Path) -> None:
    """The server says 500 to it, as to what may pass by itself."""
    assert world.a.adapter is not None
    broken = shutil.copytree(world.a.adapter, tmp_path / world.a.adapter.name)
    (broken / "adapter_config.json").write_text("{}")
    world.source.versions[world.a.ref] = broken
    with pytest.raises(GatewayError, match="E829") as caught:
        world.gateway.probe(replace(world.a, adapter=broken), HELLO, max_tokens=9)
    assert not caught.value.retry
    assert "E751" in str(caught.value)
