"""LiteLLM's proxy, by a file of models that its configuration includes. Needs no database.

Proved against the real proxy by tests/stack/test_litellm.py.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Final

from finetune.deployments import Deployment, GatewayKit, Registered, Said
from finetune.errors import GatewayError, Problem
from finetune.gateways.calling import Calls
from finetune.gateways.litellm_entries import entry, guard, id_of, is_another, taken, weights, with_weight
from finetune.gateways.litellm_file import FILE, ModelsFile
from finetune.gateways.litellm_proxy import Proxy, guard_names, place
from finetune.gateways.litellm_reload import PID, Reload
from finetune.jobs import Json
from finetune.ports import Clock

_TAKEN_S: Final = 20.0
#: Looks in a row that have to agree: each meets one worker, and nobody can choose which.
_LOOKS: Final = 4
_LOOKS_BLIND: Final = 16
#: A worker that ends what it is at takes no new calls. That may last as long as the longest answer.
_OLD_WORKERS_S: Final = 5.0


class FileGateway:
    """A LiteLLM proxy that is told of its models by a file (see `finetune.deployments.Gateway` and `Shares`)."""

    name = "litellm"

    def __init__(
        self, proxy: Proxy, file: ModelsFile, reload: Reload, clock: Clock, *, patience_s: float = _TAKEN_S
    ) -> None:
        """`patience_s`: how long the proxy may take to serve a change; half as long to come back to what was."""
        self._proxy, self._file, self._reload, self._clock = proxy, file, reload, clock
        self._patience_s = patience_s

    def preflight(self, deployment: Deployment) -> list[Problem]:
        """See `Gateway.preflight`."""
        problems = [*self._proxy.preflight(deployment), *self._file.problems()]
        try:
            self._reload.guard()
        except GatewayError as error:
            problems += error.problems
        return problems or self._not_included()

    def register(self, deployment: Deployment) -> None:
        """See `Gateway.register`. The same weights at another address are moved there and keep their share."""
        new = entry(deployment)
        guard([new])

        def change(before: list[Json], listing: list[Json]) -> list[Json]:
            for other in (*before, *listing):
                if is_another(new, other):
                    raise taken(new, other)
            places = {id_of(one): place for place, one in enumerate(before)}
            if deployment.id not in places:
                return [*before, new]
            old = before[places[deployment.id]]
            return [with_weight(new, old["litellm_params"]["weight"]) if one is old else one for one in before]

        self._change(change)

    def registered(self) -> list[Registered]:
        """See `Gateway.registered`."""
        return self._proxy.registered()

    def probe(self, deployment: Deployment, messages: Sequence[Json], *, max_tokens: int) -> Said:
        """See `Gateway.probe`."""
        return self._proxy.probe(deployment, messages, max_tokens=max_tokens)

    def unregister(self, name: str) -> None:
        """See `Gateway.unregister`."""
        self._change(lambda before, _: [one for one in before if id_of(one) != name])

    def set_traffic(self, public: str, shares: Mapping[str, float]) -> None:
        """See `Shares.set_traffic`. One reload for all weights of the name."""

        def change(before: list[Json], listing: list[Json]) -> list[Json]:
            wanted = weights(public, shares, before)
            guard_names(public, listing)
            return [with_weight(one, wanted[id_of(one)]) if id_of(one) in wanted else one for one in before]

        self._change(change)

    def ask(self, public: str, messages: Sequence[Json], *, max_tokens: int) -> Said:
        """See `Shares.ask`."""
        return self._proxy.ask(public, messages, max_tokens=max_tokens)

    def _change(self, change: Callable[[list[Json], list[Json]], list[Json]]) -> None:
        """Write what `change` makes of the file's entries (and of the proxy's), and have the proxy take it.

        Raises GatewayError when it does not; file and proxy are then as they were.
        """
        with self._file.locked():
            raw, before = self._file.raw(), self._file.entries()
            after = change(before, self._proxy.entries())
            wanted: dict[str, Json | None] = {id_of(one): None for one in before}
            wanted |= {id_of(one): one for one in after}
            # The file may be ahead of the proxy: somebody was killed between the two.
            if after == before and not any(self._proxy.differences(wanted) for _ in range(_LOOKS)):
                return
            self._reload.guard()
            workers = self._reload.workers()
            self._file.write(after)
            try:
                self._reload.send()
                self._await(wanted, workers, self._patience_s)
            except GatewayError:
                self._restore(raw, before, after)
                raise

    def _await(self, wanted: Mapping[str, Json | None], old: frozenset[int] | None, within_s: float) -> None:
        """Block until all workers serve this. Raises GatewayError."""
        begun = self._clock.now()

        def settled(looks: int) -> bool:
            """Every worker has been started after the reload, or so many looks agree that it is as good as that."""
            now = self._reload.workers() if old is not None else None
            if old is None or now is None:
                return looks >= _LOOKS_BLIND
            new_ones = bool(now) and not now & old
            draining = (self._clock.now() - begun).total_seconds() > _OLD_WORKERS_S
            return (new_ones and looks >= _LOOKS) or (draining and looks >= _LOOKS_BLIND)

        self._proxy.await_entries(wanted, self._clock, within_s, settled=settled, dead=self._reload.dead)

    def _restore(self, raw: bytes | None, before: Sequence[Json], after: Sequence[Json]) -> None:
        """Bring file and, as far as it lives, proxy back to where they were. Raises GatewayError for the file only."""
        workers = self._reload.workers()
        self._file.put(raw)
        wanted: dict[str, Json | None] = {id_of(one): None for one in after}
        wanted |= {id_of(one): one for one in before}
        # The caller is told of the first failure; that the proxy does not come back is a part of it.
        with suppress(GatewayError):
            self._reload.send()
            self._await(wanted, workers, self._patience_s / 2)

    def _not_included(self) -> list[Problem]:
        """Whether the proxy serves what stands in the file. Seen only when something stands there."""
        try:
            missing = self._proxy.differences({id_of(one): one for one in self._file.entries()})
        except GatewayError as error:
            return list(error.problems)
        if not missing:
            return []
        return [
            Problem(
                code="E823",
                level="warning",
                what=f"the LiteLLM proxy does not serve what is in {self._file.path}: {', '.join(missing[:3])}",
                why="its configuration does not include the file, or it has not read it since it was changed",
                fix=f"add the file to `include:` of the proxy's configuration and restart it; see {FILE} and {PID}",
            )
        ]


def build(kit: GatewayKit, *, patience_s: float = _TAKEN_S) -> FileGateway:
    """The gateway of the entry point `litellm`. Sends nothing. Raises UsageError."""
    where = place(kit.environ, FileGateway.name)
    proxy = Proxy(Calls(where, timeout_s=10.0), Calls(where, timeout_s=45.0))
    file, reload = ModelsFile.of(kit.environ, kit.clock), Reload.of(kit.environ)
    return FileGateway(proxy, file, reload, kit.clock, patience_s=patience_s)
