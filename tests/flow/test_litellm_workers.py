"""When the gateway `litellm` believes that all workers have a change, against workers that are told what to know."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import yaml

from finetune.clock import SystemClock
from finetune.errors import GatewayError
from finetune.gateways.calling import Calls, Place
from finetune.gateways.litellm import FileGateway
from finetune.gateways.litellm_file import ModelsFile
from finetune.gateways.litellm_proxy import Proxy
from finetune.gateways.litellm_reload import Reload
from finetune.sandbox.gateways.answers import ModelServer, route
from finetune.sandbox.server import Server
from finetune.sandbox.service import Reply, Request, Route
from tests.support.litellm import deployment

BOT = deployment("http://127.0.0.1:9", "bot")


class Workers(ModelServer):
    """Two workers that answer in turn. After a reload one knows the file at once, the other after `late` looks."""

    name = "workers"

    def __init__(self, file: Path) -> None:
        super().__init__(key=None)
        self.file, self.late, self.looks, self.reloads = file, 0, 0, 0
        self.known: list[list[dict[str, object]]] = [[], []]

    def routes(self) -> Sequence[Route]:
        return [route("GET", "/model/info", "info", self._info)]

    def reload(self) -> None:
        self.looks, self.reloads = 0, self.reloads + 1

    def up_to_date(self) -> bool:
        return self.known[1] == self._listed()

    def _info(self, _: Request) -> Reply:
        self.looks += 1
        if self.reloads:
            self.known[0] = self._listed()
            if self.looks > self.late:
                self.known[1] = self._listed()
        return Reply(body={"data": self.known[self.looks % 2]})

    def _listed(self) -> list[dict[str, object]]:
        return list(yaml.safe_load(self.file.read_text())["model_list"])


class Told(Reload):
    """A reload that these workers hear of. `seen`: the processes that answer, look by look; None: unseen."""

    def __init__(self, workers: Workers, seen: Sequence[frozenset[int]] | None) -> None:
        super().__init__(None, ("true",))
        self._workers, self._seen = workers, seen

    def send(self) -> None:
        self._workers.reload()

    def workers(self) -> frozenset[int] | None:
        if self._seen is None:
            return None
        return self._seen[min(self._workers.looks, len(self._seen) - 1)] if self._workers.reloads else self._seen[0]


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[tuple[Workers, Calls]]:
    sandbox = Workers(tmp_path / "models.yaml")
    with Server(sandbox) as server:
        yield sandbox, Calls(Place(gateway="litellm", url=server.url))
        assert server.broken == []


def gateway(
    sandbox: Workers, calls: Calls, seen: Sequence[frozenset[int]] | None, patience_s: float = 20
) -> FileGateway:
    clock = SystemClock()
    file = ModelsFile(sandbox.file, clock)
    return FileGateway(Proxy(calls, calls), file, Told(sandbox, seen), clock, patience_s=patience_s)


@pytest.mark.parametrize("late", [1, 3, 9])
def test_a_worker_that_cannot_be_seen_is_met_by_many_looks(workers: tuple[Workers, Calls], late: int) -> None:
    sandbox, calls = workers
    sandbox.late = late
    gateway(sandbox, calls, None).register(BOT)
    assert sandbox.up_to_date()
    assert sandbox.looks >= late + 16


def test_as_long_as_a_worker_of_before_is_there_the_change_is_not_done(workers: tuple[Workers, Calls]) -> None:
    sandbox, calls = workers
    old, mixed, new = frozenset({1, 2}), frozenset({2, 3}), frozenset({3, 4})
    gateway(
        sandbox, calls, [old, old, mixed, mixed, mixed, mixed, mixed, mixed, mixed, mixed, mixed, mixed, new]
    ).register(BOT)
    assert sandbox.looks >= 12
    assert sandbox.up_to_date()


def test_one_look_is_not_enough_even_with_new_workers(workers: tuple[Workers, Calls]) -> None:
    sandbox, calls = workers
    sandbox.late = 2
    gateway(sandbox, calls, [frozenset({1, 2}), frozenset({3, 4})]).register(BOT)
    assert sandbox.up_to_date()


def test_a_worker_that_never_learns_it_takes_the_change_back(workers: tuple[Workers, Calls]) -> None:
    sandbox, calls = workers
    sandbox.late = 10_000
    with pytest.raises(GatewayError, match="did not take the change"):
        gateway(sandbox, calls, [frozenset({1, 2}), frozenset({3, 4})], patience_s=1).register(BOT)
    assert sandbox.file.read_text() == "model_list: []\n"
    assert sandbox.reloads == 2, "once for the change, once to take it back"


def test_what_is_in_the_file_and_not_in_all_workers_is_told_again(workers: tuple[Workers, Calls]) -> None:
    sandbox, calls = workers
    seen = [frozenset({1, 2}), frozenset({3, 4})]
    gateway(sandbox, calls, seen).register(BOT)
    sandbox.known[1] = []
    sandbox.late, sandbox.looks = 10_000, 0
    before = sandbox.reloads
    with pytest.raises(GatewayError):
        gateway(sandbox, calls, seen, patience_s=0.5).register(BOT)
    assert sandbox.reloads > before
