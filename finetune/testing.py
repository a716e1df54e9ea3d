"""Stand-ins that ship with the product and pass the contract suites of the real ones. For tests, ours and yours."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

from finetune.deployments import Deployment, Registered, Said, Upstream
from finetune.errors import (
    GatewayError,
    GatewayUnavailable,
    OutcomeUnknown,
    Problem,
    ProviderError,
    ProviderUnavailable,
)
from finetune.jobs import Event, Json, Metric, ProviderState
from finetune.ports import Observation, PreparedData, RemoteData, RemoteJob
from finetune.spec import Recipe


class ManualClock:
    """`ports.Clock` that only moves when told; `sleep` moves it and returns at once."""

    def __init__(self, start: datetime = datetime(2027, 1, 1, tzinfo=UTC)) -> None:
        self._now = start

    def now(self) -> datetime:
        """The time it was turned to."""
        return self._now

    def sleep(self, seconds: float) -> None:
        """Turn it on by so much."""
        self._now += timedelta(seconds=seconds)


class ListQueue:
    """`ports.Queue` that keeps what was rung, for a test to look at or to run."""

    def __init__(self) -> None:
        self.rung: list[tuple[str, str]] = []

    def wake(self, task: str, key: str) -> None:
        """Keep it."""
        self.rung.append((task, key))


#: What `FakeProvider` says after each poll: the last word is repeated for ever.
STRAIGHT: tuple[ProviderState, ...] = ("queued", "running", "succeeded")


class FakeProvider:
    """`ports.Provider` in memory. Jobs go through `script`; faults are laid in the path by name.

    `faults` holds what the next calls raise, by method: `create_before` (nothing was done), `create_after` (the job is
    made, the answer is lost), `find`, `poll`, `upload`, `cancel`. Each fault happens once.
    """

    name = "fake"
    max_poll_s = 1.0
    honours = frozenset({"version", "name", "base_model", "provider", "dataset", "validation", "training", "lora"})

    def __init__(self, *, script: tuple[ProviderState, ...] = STRAIGHT, grace_s: float = 0.0) -> None:
        self.grace_s = grace_s
        self.script = script
        #: Jobs ever made, by run key: more than one for a key would have been paid twice.
        self.made: dict[str, list[str]] = {}
        self.faults: list[str] = []
        #: Called with the name of every method before it does anything; a test crashes here.
        self.on_call: Callable[[str], None] = lambda method: None
        self._polls: dict[str, int] = {}
        self._cancelled: set[str] = set()
        self._uploads: dict[str, Json] = {}

    def check(self, recipe: Recipe) -> list[Problem]:
        """Nothing stands against anything but a base model called `forbidden`."""
        if recipe.base_model != "forbidden":
            return []
        return [Problem(code="E304", what="this base model is not tunable here", field="base_model")]

    def upload(self, data: PreparedData) -> RemoteData:
        """See `ports.Provider.upload`."""
        self._enter("upload")
        ids = self._uploads.setdefault(data.digest, {"file": f"file-{len(self._uploads) + 1}"})
        return RemoteData(ids=ids)

    def find(self, run_key: str) -> list[RemoteJob]:
        """See `ports.Provider.find`."""
        self._enter("find")
        return [self._remote(remote_id) for remote_id in self.made.get(run_key, [])]

    def create(self, recipe: Recipe, data: RemoteData, run_key: str) -> RemoteJob:
        """See `ports.Provider.create`."""
        self._enter("create_before")
        mine = self.made.setdefault(run_key, [])
        remote_id = f"{run_key}-{len(mine) + 1}"
        mine.append(remote_id)
        self._polls[remote_id] = 0
        self._enter("create_after")
        return self._remote(remote_id)

    def poll(self, remote_id: str, cursor: str | None) -> Observation:
        """See `ports.Provider.poll`. Each poll is one more step of the script."""
        self._enter("poll")
        if remote_id not in self._polls:
            raise ProviderError(Problem(code="E402", what=f"no job {remote_id}"))
        step = self._polls[remote_id]
        state = self._state(remote_id, step)
        ended = state in ("succeeded", "failed", "cancelled")
        self._polls[remote_id] = step if ended else step + 1
        seen = int(cursor or 0)
        at = datetime(2027, 1, 1, tzinfo=UTC)
        new = range(seen, step + 1)
        return Observation(
            state=state,
            raw_state=f"FAKE_{state.upper()}",
            cursor=str(step + 1),
            events=tuple(Event(kind="provider", message=f"fake event {number}", at=at) for number in new),
            metrics=tuple(Metric(step=number, name="loss", value=1 / (1 + number)) for number in new),
            progress={"step": step, "total_steps": len(self.script), "loss": 1 / (1 + step)},
            artifact={"model": f"ft:{remote_id}"} if state == "succeeded" else None,
            problem=Problem(code="E401", what="the fake was told to fail") if state == "failed" else None,
        )

    def cancel(self, remote_id: str) -> None:
        """See `ports.Provider.cancel`."""
        self._enter("cancel")
        if self._state(remote_id, self._polls.get(remote_id, 0)) not in ("succeeded", "failed"):
            self._cancelled.add(remote_id)

    def _state(self, remote_id: str, step: int) -> ProviderState:
        return "cancelled" if remote_id in self._cancelled else self.script[min(step, len(self.script) - 1)]

    def _remote(self, remote_id: str) -> RemoteJob:
        state = self._state(remote_id, self._polls[remote_id])
        created = datetime(2027, 1, 1, tzinfo=UTC)
        ended = state in ("succeeded", "failed", "cancelled")
        return RemoteJob(remote_id=remote_id, raw_state=f"FAKE_{state.upper()}", created_at=created, ended=ended)

    def _enter(self, method: str) -> None:
        self.on_call(method)
        if method not in self.faults:
            return
        self.faults.remove(method)
        problem = Problem(code="E403", what=f"the fake was told to fail at {method}")
        raise OutcomeUnknown(problem) if method == "create_after" else ProviderUnavailable(problem)


class FakeServer:
    """`deployments.Gateway` in memory that holds weights and answers as bases too, as vLLM does.

    A deployment answers with its version's name. `faults` holds what the next calls meet, each once: `unavailable
    METHOD` or `refused METHOD`. `answers_as` and `says` are how it lies, by entry: who it names as who answered, and
    what is answered.
    """

    def __init__(self, name: str = "fake") -> None:
        self.name = name
        self.entries: dict[str, Deployment] = {}
        self.faults: list[str] = []
        self.problems: list[Problem] = []
        self.answers_as: dict[str, str | None] = {}
        self.says: dict[str, str] = {}
        #: Every call that changed something, in order.
        self.log: list[str] = []

    def preflight(self, deployment: Deployment) -> list[Problem]:
        """`problems`."""
        self._enter("preflight")
        return list(self.problems)

    def register(self, deployment: Deployment) -> Upstream | None:
        """See `Gateway.register`."""
        self._enter("register")
        entry = self.entry(deployment)
        there = self.entries.get(entry)
        if there is not None and there.digest != deployment.digest:
            raise GatewayError(Problem(code="E823", what=f"{entry} is taken"))
        if there is None:
            self.log.append(f"register {entry}")
            self.entries[entry] = deployment
        return Upstream(kind="hosted_vllm", model=entry, api_base="http://fake")

    def registered(self) -> list[Registered]:
        """See `Gateway.registered`."""
        self._enter("registered")
        return [Registered(id=entry) for entry in self.entries]

    def probe(self, deployment: Deployment, messages: Sequence[Json], *, max_tokens: int) -> Said:
        """See `Gateway.probe`."""
        self._enter("probe")
        entry = self.entry(deployment)
        if entry not in self.entries:
            raise GatewayError(Problem(code="E824", what=f"no model {entry}"))
        text = self.says.get(entry, f"I am {deployment.ref}")
        return Said(text=text, answered_by=self.answers_as.get(entry, entry), expected=entry)

    def probe_base(self, deployment: Deployment, messages: Sequence[Json], *, max_tokens: int) -> Said:
        """See `Bases.probe_base`."""
        self._enter("probe_base")
        base = deployment.base_model
        return Said(text=f"I am {base}", answered_by=base, expected=base)

    def unregister(self, name: str) -> None:
        """See `Gateway.unregister`."""
        self._enter("unregister")
        if self.entries.pop(name, None) is not None:
            self.log.append(f"unregister {name}")

    def entry(self, deployment: Deployment) -> str:
        """Under what name it has it."""
        return deployment.model

    def _enter(self, method: str) -> None:
        for fault in self.faults:
            kind, _, where = fault.partition(" ")
            if where == method:
                self.faults.remove(fault)
                problem = Problem(code="E820", what=f"{self.name} cannot be reached at {method}")
                raise GatewayUnavailable(problem) if kind == "unavailable" else GatewayError(problem)


class FakeGateway(FakeServer):
    """`deployments.Gateway` in memory that passes calls on and divides them, as LiteLLM does: also `Shares`."""

    def __init__(self, name: str = "fake") -> None:
        super().__init__(name)
        self.shares: dict[str, float] = {}

    def entry(self, deployment: Deployment) -> str:
        """Under what name it has it."""
        return deployment.id

    def register(self, deployment: Deployment) -> None:
        """See `Gateway.register`."""
        super().register(deployment)
        self.shares.setdefault(deployment.id, 0.0)

    def registered(self) -> list[Registered]:
        """See `Gateway.registered`."""
        return [Registered(id=each.id, share=self.shares[each.id]) for each in super().registered()]

    def unregister(self, name: str) -> None:
        """See `Gateway.unregister`."""
        super().unregister(name)
        self.shares.pop(name, None)

    def set_traffic(self, public: str, shares: Mapping[str, float]) -> None:
        """See `Shares.set_traffic`."""
        self._enter("set_traffic")
        if unknown := [one for one in shares if one not in self.entries]:
            raise GatewayError(Problem(code="E824", what=f"no model {unknown[0]}"))
        self.log.append(f"{public}: " + ", ".join(f"{one} {share:g}" for one, share in sorted(shares.items())))
        mine = [one for one, there in self.entries.items() if there.public == public]
        self.shares |= {one: shares.get(one, 0.0) for one in mine}

    def ask(self, public: str, messages: Sequence[Json], *, max_tokens: int) -> Said:
        """See `Shares.ask`."""
        self._enter("ask")
        live = [one for one, share in self.shares.items() if share and self.entries[one].public == public]
        if not live:
            raise GatewayError(Problem(code="E824", what=f"no model {public}"))
        return Said(text="hello", answered_by=live[0], expected="")
