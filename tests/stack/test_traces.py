"""Traces of real processes: a submit, its workers and its trainer in one trace; and no collector that does harm."""

import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.stack.test_workers import Site, running
from tests.support import recipes
from tests.support.collector import Collector, Seen
from tests.support.process import run_ft, wait_until

#: Each in an environment variable, or in a row; in no span.
_SECRETS = {"OPENAI_API_KEY": "sk-planted-openai-123456", "FT_API_KEY": "planted-server-key"}
_ROW = "planted row"
_STAGES = ["load base", "read data", "train", "write adapter"]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return recipes.base(tmp_path_factory.mktemp("base"))


@contextmanager
def traced_site(folder: Path) -> Iterator[tuple[Site, Collector]]:
    with Collector() as collector, running(folder, {**collector.env, **_SECRETS}) as site:
        yield site, collector


def planted(recipe: Path) -> Path:
    """With a prompt that must not be told."""
    rows = recipe.with_name("data.jsonl")
    rows.write_text(rows.read_text().replace("yes 7", _ROW))
    assert _ROW in rows.read_text()
    return recipe


def children(collector: Collector, span: Seen) -> list[str]:
    return [one.name for one in collector.spans if one.parent == span.id]


def test_a_job_is_one_trace_from_the_command_to_the_trainer(base: Path, tmp_path: Path) -> None:
    with traced_site(tmp_path) as (site, collector):
        site.start()
        job_id = site.submit(planted(recipes.write(tmp_path / "r", base)))
        job = site.ended(job_id)
        assert (job.state, job.error) == ("succeeded", None)
        root = collector.one("ft submit")
        collector.one("advance registering")
        training = collector.one(f"train {job_id}-a1")
        trainer = collector.one("trainer")
    assert {span.trace for span in collector.spans} == {root.trace}
    assert job.trace == f"00-{root.trace}-{root.id}-01"
    assert root.parent == ""
    assert children(collector, root)[:4] == ["read recipe", "check data", "commit", "wake"]
    assert root.attributes["ft.job.id"] == job_id
    assert (root.attributes["ft.target"], root.attributes["ft.method"]) == (job.target, "sft")
    assert root.attributes["ft.rows"] == job.data["train_rows"]
    assert {span.parent for span in collector.spans if span.name.startswith("advance")} == {root.id}
    assert children(collector, collector.one("advance submitting")) == ["local find", "local create"]
    assert (training.parent, trainer.parent) == (root.id, training.id)
    assert training.attributes["ft.run.state"] == "succeeded"
    assert children(collector, trainer) == _STAGES
    assert collector.one("train").attributes == {"ft.steps": 12}
    assert [span.error for span in collector.spans if span.error] == []
    instances = {span.name.partition(" ")[0]: span.resource.get("service.instance.id") for span in collector.spans}
    assert instances["ft"] is None
    assert instances["advance"]
    sent = b"".join(collector.bodies)
    assert [secret for secret in (*_SECRETS.values(), _ROW) if secret.encode() in sent] == []


def test_a_hosted_job_is_one_trace(tmp_path: Path) -> None:
    """Of a hosted API it is told which call it was; its vendor's package would tell of prompts."""
    recipe = planted(recipes.write(tmp_path / "r", Path("gpt-4.1-nano-2025-04-14")))
    text = recipe.read_text().partition("training:")[0]
    recipe.write_text(f"{text}provider: openai\n")
    with Collector() as collector:
        done = run_ft("submit", recipe, "--sandbox", "-y", home=tmp_path / "ft", env=collector.env, timeout=120)
        assert done.returncode == 0, done.stderr
        root = collector.one("ft submit")
        children_of = [children(collector, collector.one(f"advance {name}")) for name in ("preparing", "submitting")]
        assert children(collector, collector.one("advance registering")) == ["openai fetch_results"]
    assert children_of == [["openai upload"], ["openai find", "openai create"]]
    assert {span.trace for span in collector.spans} == {root.trace}
    assert {span.name.partition(" ")[0] for span in collector.spans if span.kind == 3} == {"openai"}
    assert _ROW.encode() not in b"".join(collector.bodies)


def test_a_recipe_that_is_refused_is_a_trace_too(base: Path, tmp_path: Path) -> None:
    recipe = recipes.write(tmp_path / "r", base)
    recipe.with_name("data.jsonl").write_text('{"messages": "planted row"}\n')
    with traced_site(tmp_path) as (site, collector):
        assert site.ft("submit", recipe).returncode == 2
        root, check = collector.one("ft submit"), collector.one("check data")
    assert root.error
    assert root.error.startswith("E2")
    assert (check.parent, check.error) == (root.id, root.error)
    assert _ROW.encode() not in b"".join(collector.bodies)


def test_several_recipes_are_a_trace_each(base: Path, tmp_path: Path) -> None:
    paths = [recipes.write(tmp_path / name, base, name=name) for name in ("a", "b")]
    with traced_site(tmp_path) as (site, collector):
        done = site.ft("submit", *paths, "--json")
        assert done.returncode == 0, done.stderr
        wait_until(lambda: len(collector.named("ft submit")) == 2, 15, "both traces")
        jobs = [site.job(view["id"]) for view in json.loads(done.stdout)]
    roots = {span.attributes["ft.job.id"]: span for span in collector.named("ft submit")}
    assert [job.trace for job in jobs] == [f"00-{roots[job.id].trace}-{roots[job.id].id}-01" for job in jobs]
    assert len({span.trace for span in roots.values()}) == 2
    for root in roots.values():
        assert children(collector, root) == ["read recipe", "check data", "commit", "wake"]


def test_the_usual_sampler_is_asked(base: Path, tmp_path: Path) -> None:
    """A trace that is not kept is nobody's, in no process."""
    with Collector() as collector:
        env = {**collector.env, "OTEL_TRACES_SAMPLER": "always_off"}
        with running(tmp_path, env) as site:
            job_id = site.submit(recipes.write(tmp_path / "r", base))
            assert site.job(job_id).trace.endswith("-00")
            site.env.pop("OTEL_TRACES_SAMPLER")
            site.start("remote")
            wait_until(lambda: site.job(job_id).state == "running", 60, "the job to be with the trainers")
        assert collector.spans == []


# Whatever is wrong with the traces, the command does its work.


def submitted(home: Path, recipe: Path, env: dict[str, str]) -> tuple[float, str]:
    """Submit anew; how long that took, seconds, and what was said of traces."""
    began = time.monotonic()
    done = run_ft("submit", recipe, "--force", "--json", home=home, env=env)
    took = time.monotonic() - began
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["state"] == "queued"
    assert "Traceback" not in done.stderr
    return took, "\n".join(line for line in done.stderr.splitlines() if "trace" in line.lower())


@contextmanager
def silent() -> Iterator[str]:
    """The address of a server that takes connections, and never answers."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


@contextmanager
def closed() -> Iterator[str]:
    """An address where nobody listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"


@pytest.mark.alone
@pytest.mark.parametrize(
    ("place", "said"),
    [
        (silent, "traces are lost: the collector does not answer"),
        (closed, "traces are lost: the collector cannot be reached (ConnectionError)"),
    ],
)
def test_a_dead_collector_holds_nobody_up(place, said, base: Path, tmp_path: Path) -> None:
    recipe, home = recipes.write(tmp_path / "r", base), tmp_path / "ft"
    submitted(home, recipe, {})
    plain = min(submitted(home, recipe, {})[0] for _ in range(3))
    with place() as url:
        runs = [submitted(home, recipe, {"OTEL_EXPORTER_OTLP_ENDPOINT": url}) for _ in range(3)]
    assert {told for _, told in runs} == {said}
    assert min(took for took, _ in runs) - plain < 2


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        (
            {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
            "traces are lost: OTEL_EXPORTER_OTLP_PROTOCOL is 'grpc', and ft speaks http/protobuf",
        ),
        ({"OTEL_EXPORTER_OTLP_TIMEOUT": "soon"}, "traces are lost: a variable OTEL_... cannot be used (ValueError)"),
        ({"OTEL_SDK_DISABLED": "true"}, ""),
    ],
)
def test_variables_that_cannot_be_used_are_told(variables, said, base: Path, tmp_path: Path) -> None:
    with Collector() as collector:
        env = {**collector.env, **variables}
        assert submitted(tmp_path / "ft", recipes.write(tmp_path / "r", base), env)[1] == said
    assert collector.bodies == []


def test_a_collector_that_refuses_is_told_of(base: Path, tmp_path: Path) -> None:
    with Collector(status=400) as collector:
        told = submitted(tmp_path / "ft", recipes.write(tmp_path / "r", base), collector.env)[1]
    assert told == "traces are lost: the collector does not take them"
    assert collector.bodies


def test_without_the_package_one_line_says_what_to_install(base: Path, tmp_path: Path) -> None:
    """Command and worker go on."""
    said = "traces are lost: OpenTelemetry is not installed here; pip install 'ft-orchestrator[otel]'"
    without = tmp_path / "without"
    without.mkdir()
    (without / "opentelemetry.py").write_text("raise ModuleNotFoundError(name='opentelemetry')")
    with Collector() as collector:
        env = {**collector.env, "PYTHONPATH": str(without)}
        recipe = recipes.write(tmp_path / "r", base)
        assert submitted(tmp_path / "ft", recipe, env)[1] == said
        with running(tmp_path, env) as site:
            site.start("remote")
            job_id = site.submit(recipe, "--force")
            wait_until(lambda: site.job(job_id).state == "running", 60, "the job to be with the trainers")
            assert site.log().count(said) == 1
    assert collector.bodies == []
