"""LiteLLM in the contract suite: the real proxy with a file, and the stand-in of a proxy with a database."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from finetune.clock import SystemClock
from finetune.deployments import Deployment, Gateway, GatewayKit, Upstream
from finetune.gateways import litellm, litellm_api
from finetune.sandbox.gateways.litellm import LiteLlmSandbox
from finetune.sandbox.server import Server
from tests.support import gateways
from tests.support.litellm import KEY, Sayings, deployment, said_by
from tests.support.litellm import World as ProxyWorld


@dataclass(kw_only=True)
class LiteLlmWorld(gateways.World):
    """Entries are called by their ids, and hold no adapter of their own."""

    def name(self, deployment: Deployment) -> str:
        return deployment.id

    def other(self, deployment: Deployment) -> Deployment:
        return replace(deployment, base_model="another/base")


def file_gateway(kit: GatewayKit) -> Gateway:
    """The file route; the proxy that it waits for has a clock of its own."""
    return litellm.build(replace(kit, clock=SystemClock()))


def api_gateway(kit: GatewayKit) -> Gateway:
    """The route by the administration API."""
    return litellm_api.build(replace(kit, clock=SystemClock()))


@contextmanager
def litellm_world(proxy: ProxyWorld) -> Iterator[gateways.World]:
    """The real proxy with nothing of ours in it."""
    world = _world(proxy.upstream.url, proxy.server.environ, ("LITELLM_MASTER_KEY", KEY), file_gateway)
    for one in world.gateway.registered():
        world.gateway.unregister(one.id)
    yield world
    assert proxy.upstream.broken == []


@contextmanager
def litellm_api_world(
    config: Sequence[dict[str, Any]] = (), settings: Mapping[str, Any] | None = None, *, workers: int = 2
) -> Iterator[gateways.World]:
    """The stand-in, with workers that ask their database five times a second."""
    sandbox = LiteLlmSandbox(config=config, settings=settings, workers=workers, poll_s=0.2)
    with Server(Sayings()) as upstream, Server(sandbox) as server:
        variables = server.environment
        key = ("LITELLM_MASTER_KEY", variables["LITELLM_MASTER_KEY"])
        yield replace(_world(upstream.url, variables, key, api_gateway), sandbox=sandbox)
        assert upstream.broken + server.broken == []


def _world(upstream: str, environ: Mapping[str, str], key: tuple[str, str], maker: Any) -> LiteLlmWorld:
    a, b = (deployment(upstream, gateways.PUBLIC, version) for version in (1, 2))
    unknown = Upstream(kind="no_such_provider", model="m")
    return LiteLlmWorld(
        gateway=maker(gateways.kit(environ)),
        a=a,
        b=b,
        says={one.ref: said_by(one.upstream.model) for one in (a, b) if one.upstream},
        misfit=replace(deployment(upstream, gateways.PUBLIC, 3), upstream=unknown),
        environ=dict(environ),
        key=key,
        maker=maker,
    )
