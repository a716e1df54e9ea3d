"""Traces: what becomes a span and what does not, whose child it is, and that nothing private is in it."""

import inspect
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from finetune import abilities, traces
from finetune.errors import LeaseLost, Problem, ProviderUnavailable, StateError
from finetune.jobs import Change, Job, JobState
from finetune.lifecycle import LEASE, Lifecycle
from finetune.ports import Provider
from finetune.testing import FakeProvider
from finetune.traces.spans import asked
from finetune.traces.work import CALLS
from finetune.wiring import Parts
from tests.support.collector import Collector, Seen
from tests.support.jobs import World, sqlite

ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}
#: A trace and a span of another process.
TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = f"00-{TRACE}-{SPAN}-01"
SAMPLED_OUT = f"00-{TRACE}-{SPAN}-00"


def failed(line: str) -> None:
    raise AssertionError(line)


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    """A collector that this process and those that it starts are to send to."""
    with Collector() as found:
        for name, value in found.env.items():
            monkeypatch.setenv(name, value)
        yield found


@pytest.fixture
def tracing(collector: Collector) -> Callable[[], Any]:
    """A block that is traced."""
    return lambda: traces.running(failed, instance="w1")


@pytest.mark.parametrize(
    ("env", "wanted"),
    [
        ({}, False),
        (ENDPOINT, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:9/v1/traces"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, False),
        ({**ENDPOINT, "OTEL_SDK_DISABLED": "TRUE"}, False),
        ({**ENDPOINT, "OTEL_SDK_DISABLED": "false"}, True),
        ({**ENDPOINT, "OTEL_TRACES_EXPORTER": "none"}, False),
        ({**ENDPOINT, "OTEL_TRACES_EXPORTER": "console, otlp"}, True),
    ],
)
def test_the_standard_variables_ask(env: dict[str, str], wanted: bool) -> None:
    assert asked(env) is wanted


_LOADED = """
import sys
from finetune import traces
from finetune.cli.main import guarded, app
from finetune.wiring import Parts
sys.argv = ["ft", {command!r}]
with traces.running(print):
    try:
        guarded(app)
    except SystemExit:
        pass
    parts = Parts()
    with traces.advancing():
        parts.lifecycle.advance("ft_none")
    assert traces.steps(parts.jobs) is parts.jobs
    with traces.training("ft_none-a1", parts.jobs.get, parts.runs.get_run), traces.span("x"):
        assert (traces.header(), traces.environment()) == (None, {{}})
    assert traces.calls(parts.provider("local")) is parts.provider("local")
print("loaded:", *(name for name in sys.modules if name.partition(".")[0] in ("opentelemetry", "requests")))
"""


@pytest.mark.parametrize("command", ["--help", "status"])
@pytest.mark.parametrize(("more", "wanted"), [({}, False), ({**ENDPOINT, "OTEL_SDK_DISABLED": "true"}, False)])
def test_untraced_nothing_of_it_is_loaded(command: str, more: dict[str, str], wanted: bool) -> None:
    program, env = _LOADED.format(command=command), {**os.environ, **more}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, env=env)
    assert done.returncode == 0, done.stderr
    assert bool(done.stdout.partition("loaded:")[2].split()) is wanted


def test_traced_it_is_loaded(collector: Collector) -> None:
    """That the test above can fail."""
    program = (
        "import sys; from finetune import traces\nwith traces.running(print): print('opentelemetry' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.stdout == "True\n", done.stderr


def test_spans_are_children_of_the_one_around_them(collector: Collector, tracing: Callable[[], Any]) -> None:
    with tracing():
        root = traces.Scope("root")
        with traces.span("nowhere"):
            assert traces.header() is None
        with root, traces.span("first", {"ft.rows": 3, "ft.job.id": None}):
            header = traces.header()
        with root:
            traces.tell({"ft.target": "local/x"})
        root.end()
        root.end()
    first, top = collector.one("first"), collector.one("root")
    assert [span.name for span in collector.spans] == ["first", "root"]
    assert (first.parent, first.trace, top.parent) == (top.id, top.trace, "")
    assert header == f"00-{first.trace}-{first.id}-01"
    assert first.attributes == {"ft.rows": 3}
    assert top.attributes == {"ft.target": "local/x"}
    assert traces.header() is None


def test_who_sends_is_told(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    for variables, name in (({}, "ft"), ({"OTEL_SERVICE_NAME": "mine"}, "mine")):
        collector.bodies.clear()
        for key, value in variables.items():
            monkeypatch.setenv(key, value)
        with traces.running(failed, instance="host:1"), traces.Scope("x"):
            pass
        resource = collector.one("x").resource
        assert (resource["service.name"], resource["service.instance.id"]) == (name, "host:1")


def test_another_process_goes_on_with_a_trace(collector: Collector, tracing: Callable[[], Any]) -> None:
    with tracing():
        for parent in (PARENT, SAMPLED_OUT, "nonsense"):
            traces.Scope(parent, parent=parent).begin()
    assert (collector.one(PARENT).trace, collector.one(PARENT).parent) == (TRACE, SPAN)
    assert collector.one("nonsense").parent == ""
    assert collector.named(SAMPLED_OUT) == []


def test_an_error_is_told_by_its_code_only(collector: Collector, tracing: Callable[[], Any]) -> None:
    problem = Problem(code="E403", what="the row says planted-what", why="planted-why")
    errors = {"ours": ProviderUnavailable(problem), "theirs": ValueError("planted-text"), "asked": KeyboardInterrupt()}
    with tracing(), traces.Scope("root"):
        for name, error in errors.items():
            with pytest.raises(type(error)), traces.span(name):
                raise error
    assert [collector.one(name).error for name in errors] == ["E403", "ValueError", None]
    assert collector.one("ours").attributes == {"error.type": "E403"}
    assert collector.one("asked").attributes == {"ft.interrupted": True}
    assert collector.one("root").error is None
    assert b"planted" not in b"".join(collector.bodies)


def test_what_is_open_at_the_end_ends_with_what_ended_it(collector: Collector, tracing: Callable[[], Any]) -> None:
    error = StateError(Problem(code="E501", what="planted"))
    with pytest.raises(StateError), tracing():  # noqa: PT012 -- the block that ends is what is tested
        with traces.Scope("root"):
            pass
        raise error
    assert collector.one("root").error == "E501"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("local/https://me:planted@hub.example/a?token=planted", "local/https://hub.example/a"),
        ("local/https://planted@hub.example/a#planted", "local/https://hub.example/a"),
        ("local/Qwen/Qwen3-0.6B", "local/Qwen/Qwen3-0.6B"),
        ("x" * 500, "x" * 200),
    ],
)
def test_addresses_lose_what_is_private(collector: Collector, tracing: Callable[[], Any], text: str, told: str) -> None:
    with tracing(), traces.Scope("root"):
        traces.tell({"ft.target": text})
    assert collector.one("root").attributes == {"ft.target": told}
    assert b"planted" not in b"".join(collector.bodies)


def test_the_packages_of_vendors_find_no_tracer_of_ours(collector: Collector, tracing: Callable[[], Any]) -> None:
    """They put prompts and rows into spans, and would send our ids along."""
    from opentelemetry import propagate, trace

    with tracing(), traces.Scope("root"):
        with trace.get_tracer("vendor").start_as_current_span("chat planted"):
            carrier: dict[str, str] = {}
            propagate.inject(carrier)
    collector.one("root")
    assert [span.name for span in collector.spans] == ["root"]
    assert carrier == {}


def test_ids_do_not_follow_a_seed_of_the_training(collector: Collector, tracing: Callable[[], Any]) -> None:
    with tracing():
        for _ in range(2):
            random.seed(42)
            traces.Scope("seeded").begin()
        before = random.getrandbits(32)
    random.seed(42)
    assert random.getrandbits(32) == before
    assert len({span.id for span in collector.named("seeded")}) == 2


# The stand-in for a provider


def abilities_there() -> list[type]:
    found = [one for _, one in inspect.getmembers(abilities, inspect.isclass) if getattr(one, "_is_protocol", False)]
    return [one for one in found if one.__module__ == abilities.__name__]


def test_a_traced_provider_can_do_what_it_could(tracing: Callable[[], Any]) -> None:
    plain = {**Parts().providers, "fake": FakeProvider()}
    assert len(plain) > 4
    assert len(abilities_there()) > 4
    can: dict[bool, int] = {True: 0, False: 0}
    with tracing():
        for provider in plain.values():
            stand_in = traces.calls(provider)
            assert stand_in is not provider
            for ability in abilities_there():
                can[isinstance(provider, ability)] += 1
                assert isinstance(stand_in, ability) is isinstance(provider, ability)
            for name in (name for name in dir(provider) if name[0] != "_"):
                # From Python 3.12 on, this is how `isinstance` looks.
                theirs, ours = (inspect.getattr_static(one, name, None) for one in (provider, stand_in))
                assert (ours is None) is (theirs is None)
                assert name in CALLS or getattr(stand_in, name) == getattr(provider, name)
    assert min(can.values()) > 4


def test_every_call_that_sends_is_one_of_a_provider() -> None:
    known = {name for one in (Provider, *abilities_there()) for name in vars(one) if name[0] != "_"}
    assert known >= CALLS


# The steps of a job


class Traced(World):
    """A world whose worker is traced, as `wiring` and `workers` do it."""

    def traced(self) -> Lifecycle:
        def provider(name: str) -> Provider:
            return traces.calls(self.provider)

        return Lifecycle(traces.steps(self.jobs), self.models, provider, self.queue, self.clock, owner="w1")

    def step(self, job_id: str = "ft_1") -> Job | None:
        job = self.jobs.get(job_id)
        if job.due_at is not None and job.due_at > self.clock.now():
            self.clock.sleep((job.due_at - self.clock.now()).total_seconds())
        with traces.advancing():
            return self.traced().advance(job_id)

    def to_the_end(self, job_id: str = "ft_1") -> Job:
        for _ in range(60):
            if (job := self.step(job_id)) is not None and job.final:
                return job
        raise AssertionError("it does not end")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Traced]:
    world = Traced(sqlite(tmp_path))
    yield world
    world.database.close()


def children(collector: Collector, span: Seen) -> list[str]:
    return [one.name for one in collector.spans if one.parent == span.id]


def test_the_steps_of_a_job_are_in_its_trace(world: Traced, collector: Collector, tracing: Callable[[], Any]) -> None:
    world.submit(trace=PARENT)
    with tracing():
        job = world.to_the_end()
    assert job.state == "succeeded"
    steps = [span for span in collector.spans if span.name.startswith("advance")]
    assert {span.trace for span in collector.spans} == {TRACE}
    assert {span.parent for span in steps} == {SPAN}
    assert [(span.name, span.attributes["ft.state.after"]) for span in steps] == [
        ("advance queued", "preparing"),
        ("advance preparing", "submitting"),
        ("advance submitting", "running"),
        ("advance running", "running"),
        ("advance running", "registering"),
        ("advance registering", "succeeded"),
    ]
    assert children(collector, steps[1]) == ["fake upload"]
    assert children(collector, steps[2]) == ["fake find", "fake create"]
    assert children(collector, steps[4]) == ["fake poll"]
    assert collector.one("fake create").kind == 3
    assert steps[4].kind == 1
    assert steps[4].attributes == {
        "ft.job.id": "ft_1",
        "ft.provider": "fake",
        "ft.target": job.target,
        "ft.state.before": "running",
        "ft.state.after": "registering",
        "ft.attempt": 1,
        "ft.run_key": "ft_1-a1",
        "ft.remote_id": "ft_1-a1-1",
    }
    assert [span.error for span in collector.spans] == [None] * len(collector.spans)


def test_a_look_that_finds_nothing_new_is_no_span(
    world: Traced, collector: Collector, tracing: Callable[[], Any]
) -> None:
    world.provider.script = ("queued", *["running"] * 30, "succeeded")
    world.submit(trace=PARENT)
    with tracing():
        world.to_the_end()
    polls = [span for span in collector.spans if span.name == "advance running"]
    # Of 32 looks, the one that saw it begin and the one that saw it end.
    assert [span.attributes["ft.state.after"] for span in polls] == ["running", "registering"]
    assert len(collector.named("fake poll")) == 2


def test_a_step_in_vain_is_no_span(world: Traced, collector: Collector, tracing: Callable[[], Any]) -> None:
    job = world.submit(trace=PARENT)
    with tracing():
        assert world.jobs.claim(job.id, "another", world.clock.now(), LEASE) is not None
        with traces.advancing():
            assert world.traced().advance(job.id) is None
    assert collector.spans == []


def test_what_goes_wrong_is_an_error_of_its_step(
    world: Traced, collector: Collector, tracing: Callable[[], Any]
) -> None:
    world.provider.faults = ["upload", "poll"]
    world.provider.script = ("running", "failed")
    world.submit(trace=PARENT)
    with tracing():
        assert world.to_the_end().state == "failed"
    errors = [(span.name, span.error) for span in collector.spans if span.error]
    assert errors == [
        ("fake upload", "E403"),
        ("advance preparing", "to be tried again"),
        ("fake poll", "E403"),
        ("advance running", "to be tried again"),
        ("advance running", "E401"),
    ]
    assert b"was told" not in b"".join(collector.bodies)


def test_several_steps_under_one_lease_are_spans_each(
    world: Traced, collector: Collector, tracing: Callable[[], Any]
) -> None:
    world.submit(trace=PARENT)
    with tracing(), traces.advancing():
        jobs = traces.steps(world.jobs)
        lease = jobs.claim("ft_1", "w1", world.clock.now(), LEASE)
        assert lease is not None
        for state in (JobState.PREPARING, JobState.SUBMITTING):
            with traces.span(f"on the way to {state}"):
                pass
            change = Change(state=state, due_at=world.clock.now(), fields={})
            job = jobs.apply(lease, change, world.clock.now(), until=world.clock.now() + LEASE)
            lease = replace(lease, job=job)
    steps = [span for span in collector.spans if span.name.startswith("advance")]
    assert [(span.name, span.attributes["ft.state.after"], span.error) for span in steps] == [
        ("advance queued", "preparing", None),
        ("advance preparing", "submitting", None),
    ]
    assert [children(collector, span) for span in steps] == [["on the way to preparing"], ["on the way to submitting"]]


def test_the_jobs_of_a_batch_are_each_in_their_own_trace(
    world: Traced, collector: Collector, tracing: Callable[[], Any]
) -> None:
    other = TRACE[::-1]
    world.submit("ft_1", trace=PARENT)
    world.submit("ft_2", trace=PARENT.replace(TRACE, other))
    with tracing():
        for job, step in world.traced().advance_due(2, more=lambda: True):
            with traces.advancing(job):
                step()
    steps = [span for span in collector.spans if span.name == "advance queued"]
    assert [(span.trace, span.attributes["ft.job.id"]) for span in steps] == [
        (TRACE, "ft_1"),
        (other, "ft_2"),
    ]


def test_a_store_that_fails_and_a_lease_that_is_lost(
    world: Traced, collector: Collector, tracing: Callable[[], Any]
) -> None:
    job = world.submit(trace=PARENT)
    change = Change(state=JobState.PREPARING, due_at=world.clock.now(), fields={})
    with tracing():
        jobs = traces.steps(world.jobs)
        with traces.advancing():
            first = jobs.claim(job.id, "w1", world.clock.now(), LEASE)
        world.clock.sleep(LEASE.total_seconds() + 1)
        assert world.jobs.claim(job.id, "w2", world.clock.now(), LEASE) is not None
        assert first is not None
        world.clock.sleep(LEASE.total_seconds() + 1)
        with pytest.raises(LeaseLost), traces.advancing():  # noqa: PT012 -- the block that ends is what is tested
            jobs.claim(job.id, "w1", world.clock.now(), LEASE)
            jobs.apply(first, change, world.clock.now())
        world.clock.sleep(LEASE.total_seconds() + 1)
        with pytest.raises(StateError), traces.advancing():  # noqa: PT012
            jobs.claim(job.id, "w1", world.clock.now(), LEASE)
            raise StateError(Problem(code="E501", what="planted"))
    steps = collector.named("advance queued")
    assert [span.error for span in steps][0::2] == ["lease lost", "E501"]
    assert len(steps) == 3
    assert steps[1].error
    assert b"planted" not in b"".join(collector.bodies)


def test_a_job_that_was_submitted_untraced_has_a_trace_of_its_own(
    world: Traced, collector: Collector, tracing: Callable[[], Any]
) -> None:
    for number in (1, 2):
        world.submit(f"ft_{number}", fingerprint=f"{number}")
        # Each with a tracer of its own, as two workers have.
        for _ in range(3):
            with tracing():
                world.step(f"ft_{number}")
    steps = [span for span in collector.spans if span.name.startswith("advance")]
    assert {span.parent for span in steps} == {""}
    of_job = {span.attributes["ft.job.id"]: span.trace for span in steps}
    assert len(steps) == 6
    assert len(set(of_job.values())) == 2
    assert {(span.attributes["ft.job.id"], span.trace) for span in steps} == set(of_job.items())


# A training


def test_a_training_hands_its_trace_on(collector: Collector, tracing: Callable[[], Any], world: Traced) -> None:
    job = world.submit(trace=PARENT)
    runs = {"ft_1-a1": "failed", "ft_2-a1": "succeeded"}

    def run_of(key: str) -> Any:
        from finetune.runs import Run

        error = {"code": "E620"} if runs[key] == "failed" else None
        return Run(run_key=key, state=runs[key], request={}, starts=2, error=error, created_at=world.clock.now())

    def job_of(job_id: str) -> Job:
        if job_id != job.id:
            raise StateError(Problem(code="E501", what="planted"))
        return job

    handed = []
    with tracing():
        for key in runs:
            with traces.training(key, job_of, run_of):
                handed.append(traces.environment())
    first, second = collector.one("train ft_1-a1"), collector.one("train ft_2-a1")
    assert handed == [{"TRACEPARENT": f"00-{one.trace}-{one.id}-01"} for one in (first, second)]
    assert (first.trace, first.parent, first.error) == (TRACE, SPAN, "E620")
    assert first.attributes["ft.run.state"] == "failed"
    assert first.attributes["ft.job.id"] == "ft_1"
    assert (second.parent, second.error, second.attributes["ft.run.state"]) == ("", None, "succeeded")
