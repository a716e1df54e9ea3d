"""OpenAI's and Azure's adapters against stand-ins that keep what arrived: for tests of what exactly is sent."""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from finetune.clock import SystemClock
from finetune.errors import FtError
from finetune.ports import Clock
from finetune.providers.azure import AzureProvider
from finetune.providers.openai import OpenAiProvider
from finetune.sandbox.faults import Fault, Faults
from finetune.sandbox.openai.jobs import Timing
from finetune.sandbox.server import Server
from finetune.sandbox.service import Reply, Request, Route
from tests.support import hosted
from tests.wire.hosted.openai_contract import Watched, WatchedAzure

KEY = "ft_abcdefghij-a1"
#: Long phases: no test meets the next one by being slow.
TIMING = Timing(validating_s=100, queued_s=100, running_s=1000, pausing_s=10)
#: Through all phases.
WHOLE_S = 3600


class CountingFaults(Faults):
    """Counts every request by its operation, also those that no handler sees."""

    def __init__(self) -> None:
        super().__init__()
        self.arrived: Counter[str] = Counter()

    def meet(self, operation: str, among: Sequence[Any]) -> Fault | None:
        if "cut_before" in among:
            self.arrived[operation] += 1
        return super().meet(operation, among)


class _Seen:
    """Keeps requests; `instead` answers an operation in the place of the `usual` handler."""

    def routes(self) -> Sequence[Route]:
        self.seen: list[tuple[str, Request]] = []
        self.instead: dict[str, Callable[[Request], Reply]] = {}
        self.usual: dict[str, Callable[[Request], Reply]] = {}
        return [replace(route, answer=self._kept(route)) for route in super().routes()]  # type: ignore[misc]

    def _kept(self, route: Route) -> Callable[[Request], Reply]:
        self.usual[route.operation] = route.answer

        def answer(request: Request) -> Reply:
            self.seen.append((route.operation, request))
            return self.instead.get(route.operation, route.answer)(request)

        return answer

    def asked(self, operation: str) -> list[Request]:
        """The requests for this operation."""
        return [request for name, request in self.seen if name == operation]

    def bodies(self, operation: str) -> list[Any]:
        """Their bodies."""
        return [json.loads(request.body) for request in self.asked(operation)]

    def told(self) -> list[tuple[str, str, str]]:
        """Method, path and query of all."""
        return [(request.method, request.path, request.query_text) for _, request in self.seen]


class SeenOpenAi(_Seen, Watched):
    """OpenAI's."""


class SeenAzure(_Seen, WatchedAzure):
    """Azure's."""


class Rig:
    """A stand-in, an adapter, data and a recipe."""

    def __init__(
        self,
        folder: Path,
        *,
        azure: bool = False,
        key: str | None = None,
        environ: dict[str, str] | None = None,
        clock: Clock | None = None,
        read_s: float = 5.0,
        per_s: float = 10_000.0,
        **how: Any,
    ) -> None:
        """`key` and `environ` go over the stand-in's own variables, `how` to the stand-in."""
        kinds = (SeenAzure, AzureProvider) if azure else (SeenOpenAi, OpenAiProvider)
        self.folder, self.clock, self._read_s, self._per_s = folder, clock or SystemClock(), read_s, per_s
        self.faults = CountingFaults()
        self.sandbox: Any = kinds[0](**{"timing": TIMING, "faults": self.faults, **how})
        self.server = Server(self.sandbox)
        self.server.start()
        self._kind = kinds[1]
        self.environ = {**self.server.environment, **(environ or {})}
        if key is not None:
            self.environ[self._kind.key_variable] = key
        self.provider = self.another()
        self.model = "gpt-4.1-mini" if azure else "gpt-4o-mini"
        self.data = hosted.data(folder, "openai")

    def another(self, **environ: str) -> OpenAiProvider:
        """One more adapter, as in another process."""
        kit = hosted.kit(self.folder, {**self.environ, **environ}, self.clock)
        return self._kind(replace(kit, requests_per_s=self._per_s), read_s=self._read_s)

    def recipe(self, **more: Any) -> Any:
        return hosted.recipe(self.provider.name, self.model, **more)

    def create(self, key: str = KEY, **more: Any) -> str:
        return self.provider.create(self.recipe(**more), self.provider.upload(self.data), key).remote_id

    def after(self, seconds: float) -> None:
        self.sandbox.clock.advance(seconds)

    def fault(self, kind: Any, on: str, **more: Any) -> None:
        self.faults.lay(Fault(kind=kind, on=on, **more))

    def jobs(self) -> int:
        return len(self.sandbox.ledger())

    def stop(self) -> None:
        self.server.stop()
        assert self.server.broken == []
        assert self.sandbox.breaches == []


def raised(call: Callable[[], Any]) -> FtError | None:
    """The error that the call ends with; None when it ends well."""
    try:
        call()
    except FtError as error:
        return error
    return None
