"""OpenAI's sandbox: by the vendor's SDK, and by requests that the SDK would not send; all held to the contract."""

import base64
import csv
import hashlib
import io
import json
import time
from collections.abc import Iterator
from datetime import date
from itertools import islice
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import OpenAI

from finetune.sandbox.clock import SandboxClock
from finetune.sandbox.faults import Fault
from finetune.sandbox.openai.jobs import ENDED, Timing
from finetune.sandbox.openai.rows import look
from finetune.sandbox.openai.sandbox import OpenAiSandbox
from finetune.sandbox.server import Server
from finetune.sandbox.service import Refusal, Request
from tests.support.mutants import every_change
from tests.support.openai_lines import refused, rich
from tests.support.process import wait_until
from tests.support.web import Request as Got
from tests.support.web import Web, in_turn, status
from tests.wire.hosted.openai_contract import SCHEMAS, Watched, ask, faults, lines

MODEL = "gpt-4o-mini-2024-07-18"
SECRET = "whsec_" + base64.b64encode(b"a secret of the sandbox").decode()


@pytest.fixture
def server() -> Iterator[Server]:
    yield from serving(still())


def still(**more: Any) -> Watched:
    """A sandbox whose time passes only when a test says so."""
    return Watched(clock=SandboxClock(speed=0), **more)


def serving(sandbox: Watched) -> Iterator[Server]:
    with Server(sandbox) as server:
        yield server
    assert sandbox.breaches == []
    assert server.broken == []


def client_of(server: Server, key: str = "sandbox-key") -> OpenAI:
    return OpenAI(base_url=server.environment["OPENAI_BASE_URL"], api_key=key, max_retries=0)


@pytest.fixture
def client(server: Server) -> Iterator[OpenAI]:
    with client_of(server) as client:
        yield client


@pytest.fixture
def training(client: OpenAI) -> str:
    return upload(client)


def upload(client: OpenAI, content: bytes | None = None, name: str = "rows.jsonl") -> str:
    return client.files.create(file=(name, content or lines(12)), purpose="fine-tune").id


def later(server: Server, seconds: float) -> None:
    server.sandbox.clock.advance(seconds)


# A job's life


def test_a_job_goes_through_its_states(server: Server, client: OpenAI, training: str) -> None:
    job = client.fine_tuning.jobs.create(model="gpt-4o-mini", training_file=training, suffix="bot")
    seen = [job]
    for _ in range(7):
        later(server, 1)
        seen.append(client.fine_tuning.jobs.retrieve(job.id))

    words = [each.status for each in seen]
    assert list(dict.fromkeys(words)) == ["validating_files", "queued", "running", "succeeded"]
    assert {each.estimated_finish is not None for each in seen if each.status == "running"} == {True}
    assert {each.estimated_finish for each in seen if each.status != "running"} == {None}
    assert [each.fine_tuned_model is not None for each in seen] == [word == "succeeded" for word in words]
    assert [each.trained_tokens is not None for each in seen] == [word == "succeeded" for word in words]
    assert [each.finished_at is not None for each in seen] == [word == "succeeded" for word in words]


def test_what_a_new_job_looks_like(server: Server, training: str) -> None:
    body = {"model": MODEL, "training_file": training, "suffix": "bot", "seed": 7, "metadata": {"run_key": "k"}}
    code, job, _ = ask(server.url, "POST", "/v1/fine_tuning/jobs", body)

    assert code == 200
    assert {**job, "id": 0, "created_at": 0} == {
        "object": "fine_tuning.job",
        "id": 0,
        "model": MODEL,
        "created_at": 0,
        "finished_at": None,
        "fine_tuned_model": None,
        "organization_id": "org-sandbox",
        "result_files": [],
        "status": "validating_files",
        "validation_file": None,
        "training_file": training,
        "hyperparameters": {"batch_size": "auto", "learning_rate_multiplier": "auto", "n_epochs": "auto"},
        "trained_tokens": None,
        "error": None,
        "seed": 7,
        "estimated_finish": None,
        "integrations": [],
        "metadata": {"run_key": "k"},
        "method": {
            "type": "supervised",
            "supervised": {
                "hyperparameters": {"batch_size": "auto", "learning_rate_multiplier": "auto", "n_epochs": "auto"}
            },
        },
    }
    assert job["id"].startswith("ftjob-")


def test_auto_is_resolved_when_the_files_are_validated(server: Server, client: OpenAI, training: str) -> None:
    method: Any = {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 5}}}
    job = client.fine_tuning.jobs.create(model=MODEL, training_file=training, method=method)
    assert (job.hyperparameters.n_epochs, job.hyperparameters.batch_size) == (5, "auto")
    later(server, 1)
    job = client.fine_tuning.jobs.retrieve(job.id)
    assert (job.hyperparameters.n_epochs, job.hyperparameters.batch_size) == (5, 1)


def test_the_end_leaves_a_model_results_and_checkpoints(server: Server, client: OpenAI, training: str) -> None:
    held_out = upload(client, lines(4))
    method: Any = {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 4, "batch_size": 5}}}
    job = client.fine_tuning.jobs.create(
        model=MODEL, training_file=training, validation_file=held_out, suffix="bot", method=method
    )
    later(server, 6)
    job = client.fine_tuning.jobs.retrieve(job.id)

    assert job.fine_tuned_model is not None
    assert job.fine_tuned_model.startswith(f"ft:{MODEL}:sandbox-org:bot:")
    assert client.models.retrieve(job.fine_tuned_model).id == job.fine_tuned_model
    assert job.fine_tuned_model in [model.id for model in client.models.list()]

    kept = client.fine_tuning.jobs.checkpoints.list(job.id).data
    assert [each.step_number for each in kept] == [12, 9, 6]
    assert [each.fine_tuned_model_checkpoint for each in kept] == [
        job.fine_tuned_model,
        f"{job.fine_tuned_model}:ckpt-step-9",
        f"{job.fine_tuned_model}:ckpt-step-6",
    ]
    assert kept[0].metrics.full_valid_loss is not None

    result = client.files.retrieve(job.result_files[0])
    assert (result.purpose, result.filename) == ("fine-tune-results", "step_metrics.csv")
    text = base64.b64decode(client.files.content(result.id).read()).decode()
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [int(row["step"]) for row in rows] == list(range(1, 13))
    assert [bool(row["valid_loss"]) for row in rows] == [step % 3 == 0 or step == 10 for step in range(1, 13)]
    assert float(rows[-1]["train_loss"]) < float(rows[0]["train_loss"])

    client.models.delete(job.fine_tuned_model)
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve(job.fine_tuned_model)
    with pytest.raises(openai.NotFoundError):
        client.models.delete(MODEL)


def test_tokens_are_those_of_the_rows_times_the_epochs(server: Server, client: OpenAI) -> None:
    small, large = upload(client, lines(10)), upload(client, lines(30))
    told = {}
    for file, epochs in ((small, 1), (small, 3), (large, 1)):
        method: Any = {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": epochs}}}
        told[file, epochs] = client.fine_tuning.jobs.create(model=MODEL, training_file=file, method=method).id
    later(server, 10)
    tokens = {each: client.fine_tuning.jobs.retrieve(job).trained_tokens or 0 for each, job in told.items()}

    assert tokens[small, 1] > 100
    assert tokens[small, 3] == 3 * tokens[small, 1]
    assert tokens[large, 1] > 2.9 * tokens[small, 1]


def test_events_tell_the_whole_story_newest_first(server: Server, client: OpenAI, training: str) -> None:
    method: Any = {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 2, "batch_size": 6}}}
    job = client.fine_tuning.jobs.create(model=MODEL, training_file=training, method=method, suffix="bot")
    later(server, 6)
    events = client.fine_tuning.jobs.list_events(job.id, limit=100).data[::-1]
    tuned = client.fine_tuning.jobs.retrieve(job.id).fine_tuned_model

    losses = [each.data["train_loss"] for each in events if each.type == "metrics" and isinstance(each.data, dict)]
    assert [each.message for each in events] == [
        f"Created fine-tuning job: {job.id}",
        f"Validating training file: {training}",
        "Files validated, moving job to queued state",
        "Fine-tuning job started",
        *[f"Step {step}/4: training loss={losses[step - 1]:.2f}" for step in range(1, 5)],
        f"Checkpoint created at step 2 with Snapshot ID: {tuned}:ckpt-step-2",
        f"New fine-tuned model created: {tuned}",
        "The job has successfully completed",
    ]
    assert [each.created_at - job.created_at for each in events] == sorted(
        each.created_at - job.created_at for each in events
    )
    assert losses[0] > losses[-1]
    metrics = next(each for each in events if each.type == "metrics")
    assert set(metrics.data or ()) == {"step", "train_loss", "total_steps", "train_mean_token_accuracy"}


def test_events_page_by_page_are_all_events(server: Server, client: OpenAI, training: str) -> None:
    job = client.fine_tuning.jobs.create(model=MODEL, training_file=training)
    later(server, 6)
    whole = client.fine_tuning.jobs.list_events(job.id, limit=1000)
    paged = [each.id for each in client.fine_tuning.jobs.list_events(job.id, limit=7)]

    assert not whole.has_more
    assert paged == [each.id for each in whole.data]
    assert len(set(paged)) == len(paged) == 104
    assert len(client.fine_tuning.jobs.list_events(job.id, limit=7).data) == 7
    losses = [each.data["train_loss"] for each in whole.data[::-1] if isinstance(each.data, dict) and each.data]
    assert len(losses) == 96
    assert all(0.3 < loss < 2.6 for loss in losses)
    assert sum(losses[-24:]) < 0.5 * sum(losses[:24])

    other = client.fine_tuning.jobs.create(model=MODEL, training_file=training)
    strange = client.fine_tuning.jobs.list_events(other.id).data[0].id
    for after in ("ftevent-none", strange, "ftevent-" + "9" * 24, job.id):
        with pytest.raises(openai.NotFoundError):
            client.fine_tuning.jobs.list_events(job.id, after=after)


def test_a_job_that_is_seldom_looked_at_ends_as_one_that_is_watched(
    server: Server, client: OpenAI, training: str
) -> None:
    watched = client.fine_tuning.jobs.create(model=MODEL, training_file=training)
    seldom = client.fine_tuning.jobs.create(model=MODEL, training_file=training)
    for _ in range(30):
        later(server, 0.25)
        client.fine_tuning.jobs.retrieve(watched.id)

    def story(job: str) -> list[tuple[str, int]]:
        return [
            (each.message.split(":")[0].partition(" loss")[0], each.created_at)
            for each in client.fine_tuning.jobs.list_events(job, limit=1000)
        ]

    assert story(watched.id) == story(seldom.id)


def test_long_trainings_tell_a_part_of_their_steps(server: Server, client: OpenAI) -> None:
    file = upload(client, lines(2000))
    method: Any = {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 2, "batch_size": 1}}}
    job = client.fine_tuning.jobs.create(model=MODEL, training_file=file, method=method)
    later(server, 10)
    events = [each for each in client.fine_tuning.jobs.list_events(job.id, limit=1000) if each.type == "metrics"]

    assert len(events) == 500
    assert isinstance(events[0].data, dict)
    assert events[0].data["step"] == events[0].data["total_steps"] == 4000


# Ends that nobody wants


@pytest.mark.parametrize(
    ("content", "method", "code", "words"),
    [
        (lines(9), "supervised", "invalid_n_examples", "Training file has 9 example(s), but must have at least 10"),
        (b"[]\n" * 12, "supervised", "invalid_training_file", "Example 1 is not an object"),
        (lines(11) + b"{", "supervised", "invalid_training_file", "Example 12 cannot be parsed"),
        (lines(6) + b"\n" + lines(6), "supervised", "invalid_training_file", "Example 7 cannot be parsed"),
        (b'{"prompt": "a"}\n' * 12, "supervised", "invalid_training_file", "Example 1 is missing key 'messages'"),
        (lines(12, "openai-dpo"), "supervised", "invalid_training_file", "not using 'dpo' as the training method"),
        (lines(12), "dpo", "invalid_training_file", "is in the fine-tune-chat format"),
        (b"[" * 100_000, "supervised", "invalid_training_file", "Example 1 cannot be parsed"),
    ],
)
def test_bad_data_fails_in_validation(
    server: Server, client: OpenAI, content: bytes, method: Any, code: str, words: str
) -> None:
    job = client.fine_tuning.jobs.create(
        model="gpt-4.1-mini", training_file=upload(client, content), method={"type": method}
    )
    assert job.status == "validating_files"
    later(server, 1)
    job = client.fine_tuning.jobs.retrieve(job.id)

    assert (job.status, job.finished_at) == ("failed", job.created_at + 1)
    assert job.error is not None
    assert (job.error.code, job.error.param) == (code, "training_file")
    assert words in job.error.message
    newest = client.fine_tuning.jobs.list_events(job.id, limit=1).data[0]
    assert (newest.level, newest.message) == ("error", job.error.message)


def test_bad_validation_data_is_told_apart(server: Server, client: OpenAI, training: str) -> None:
    held_out = upload(client, b'{"messages": []}\n')
    job = client.fine_tuning.jobs.create(model=MODEL, training_file=training, validation_file=held_out)
    later(server, 1)
    error = client.fine_tuning.jobs.retrieve(job.id).error
    assert error is not None
    assert (error.code, error.param) == ("invalid_validation_file", "validation_file")


def test_good_preference_data_trains(server: Server, client: OpenAI) -> None:
    file = upload(client, lines(12, "openai-dpo"))
    method: Any = {"type": "dpo", "dpo": {"hyperparameters": {"beta": 0.2}}}
    job = client.fine_tuning.jobs.create(model="gpt-4.1", training_file=file, method=method)
    later(server, 6)
    job = client.fine_tuning.jobs.retrieve(job.id)
    assert job.status == "succeeded"
    assert job.model == "gpt-4.1-2025-04-14"
    assert job.method is not None
    assert job.method.dpo is not None
    assert job.method.dpo.hyperparameters is not None
    assert (job.method.dpo.hyperparameters.beta, job.method.dpo.hyperparameters.n_epochs) == (0.2, 8)


@pytest.mark.parametrize(
    ("suffix", "after_s", "code", "tuned_steps"),
    [("a-fail-data", 1, "invalid_training_file", 0), ("fail-train-b", 4, "server_error", 48)],
)
def test_a_suffix_makes_it_fail(
    server: Server, client: OpenAI, training: str, suffix: str, after_s: int, code: str, tuned_steps: int
) -> None:
    job = client.fine_tuning.jobs.create(model=MODEL, training_file=training, suffix=suffix)
    later(server, 100)
    job = client.fine_tuning.jobs.retrieve(job.id)
    assert job.status == "failed"
    assert job.finished_at == job.created_at + after_s
    assert job.error is not None
    assert job.error.code == code
    events = client.fine_tuning.jobs.list_events(job.id, limit=100).data
    assert sum(each.type == "metrics" for each in events) == tuned_steps
    assert client.fine_tuning.jobs.checkpoints.list(job.id).data == []
    assert job.result_files == []


def test_no_quota(client: OpenAI, training: str, server: Server) -> None:
    with pytest.raises(openai.RateLimitError) as refusal:
        client.fine_tuning.jobs.create(model=MODEL, training_file=training, suffix="no-quota")
    assert (refusal.value.code, refusal.value.type) == ("insufficient_quota", "insufficient_quota")
    assert server.sandbox.ledger() == []


@pytest.mark.parametrize("after_s", [0, 1, 3])
def test_cancel_at_any_time(server: Server, client: OpenAI, training: str, after_s: float) -> None:
    job = client.fine_tuning.jobs.create(model=MODEL, training_file=training, metadata={"ft_run_key": "k"})
    later(server, after_s)
    assert client.fine_tuning.jobs.cancel(job.id).status == "cancelled"
    later(server, 100)

    assert client.fine_tuning.jobs.retrieve(job.id).status == "cancelled"
    entry = server.sandbox.ledger()[0]
    assert (entry.key, entry.live, entry.paid) == ("k", False, after_s == 3)
    with pytest.raises(openai.BadRequestError, match="already completed"):
        client.fine_tuning.jobs.cancel(job.id)


def test_cancel_of_a_job_that_has_ended(server: Server, client: OpenAI, training: str) -> None:
    job = client.fine_tuning.jobs.create(model=MODEL, training_file=training)
    later(server, 100)
    with pytest.raises(openai.BadRequestError, match="already completed"):
        client.fine_tuning.jobs.cancel(job.id)
    assert [entry.live for entry in server.sandbox.ledger()] == [True]


def test_pause_and_resume(server: Server, client: OpenAI, training: str) -> None:
    jobs = client.fine_tuning.jobs
    job = jobs.create(model=MODEL, training_file=training)
    with pytest.raises(openai.BadRequestError, match="cannot be paused"):
        jobs.pause(job.id)
    later(server, 3)
    assert jobs.pause(job.id).status == "pausing"
    later(server, 1)
    assert jobs.retrieve(job.id).status == "paused"
    later(server, 1000)
    assert jobs.retrieve(job.id).status == "paused"
    steps = sum(each.type == "metrics" for each in jobs.list_events(job.id, limit=1000).data)
    assert 20 < steps < 60

    assert jobs.resume(job.id).status == "running"
    with pytest.raises(openai.BadRequestError, match="cannot be resumed"):
        jobs.resume(job.id)
    later(server, 2)
    assert jobs.retrieve(job.id).status == "running"
    later(server, 2)
    ended = jobs.retrieve(job.id)
    assert ended.status == "succeeded"
    assert ended.finished_at is not None
    # Six seconds of work, and the pause between.
    assert ended.finished_at - ended.created_at == 6 + 1001


def test_a_job_that_was_paused_ends_though_nobody_looks(server: Server, client: OpenAI, training: str) -> None:
    job = client.fine_tuning.jobs.create(model=MODEL, training_file=training)
    later(server, 3)
    client.fine_tuning.jobs.pause(job.id)
    later(server, 100)
    server.sandbox.tick()
    client.fine_tuning.jobs.resume(job.id)
    later(server, 2)
    server.sandbox.tick()
    assert client.files.list(purpose="fine-tune-results").data == []
    later(server, 1)
    server.sandbox.tick()
    assert len(client.files.list(purpose="fine-tune-results").data) == 1


# What is refused


def rich_create(training: str, held_out: str) -> dict[str, Any]:
    return {
        "model": "gpt-4.1-mini-2025-04-14",
        "training_file": training,
        "validation_file": held_out,
        "suffix": "bot",
        "seed": 42,
        "metadata": {"run_key": "k", "other": ""},
        "integrations": [{"type": "wandb", "wandb": {"project": "p", "name": None, "entity": "e", "tags": ["t"]}}],
        "method": {
            "type": "supervised",
            "supervised": {
                "hyperparameters": {"batch_size": 4, "learning_rate_multiplier": 0.5, "n_epochs": "auto"},
            },
        },
    }


#: Sound by the contract; what stands there is not.
MEANT: tuple[str, ...] = (
    "model_not_available",
    "invalid_training_file",
    "invalid_validation_file",
    "unsupported_value",
)


def test_every_change_of_a_create_is_taken_exactly_when_the_contract_takes_it(
    server: Server, client: OpenAI, training: str
) -> None:
    body = rich_create(training, upload(client, lines(3)))
    answer = next(route for route in server.sandbox.routes() if route.operation == "create").answer
    headers = {"content-type": "application/json"}
    taken, refusals = 0, 0
    for changed in (body, *every_change(body)):
        found = faults(changed, SCHEMAS["CreateFineTuningJobRequest"])
        reply = told(answer, json.dumps(changed).encode(), headers)
        error = reply.body.get("error", {})
        if found:
            assert reply.status == 400, (changed, found)
            assert error["code"] not in MEANT or error["param"] in ("method.type",), (changed, found)
            assert error["param"], changed
            refusals += 1
        elif reply.status != 200:
            # Empty names and a method whose parts contradict are refused, too.
            assert error["code"] in (*MEANT, "string_below_min_length", "unknown_parameter"), (changed, reply.body)
        else:
            taken += 1
    assert taken > 100
    assert refusals > 1000


def told(answer: Any, body: bytes, headers: dict[str, str]) -> Any:
    try:
        return answer(Request(method="POST", path="", query_text="", headers=headers, body=body))
    except Refusal as refusal:
        return refusal.reply


def deep(**hyperparameters: Any) -> dict[str, Any]:
    return {"method": {"type": "supervised", "supervised": {"hyperparameters": hyperparameters}}}


@pytest.mark.parametrize(
    ("change", "code", "param", "words"),
    [
        ({"epochs": 3}, "unknown_parameter", "epochs", "Unknown parameter: 'epochs'."),
        (
            deep(epochs=3),
            "unknown_parameter",
            "method.supervised.hyperparameters.epochs",
            "Unknown parameter: 'method.supervised.hyperparameters.epochs'.",
        ),
        ({"model": None}, "invalid_type", "model", "expected a string, but got null"),
        ({"model": "gpt-9"}, "model_not_available", "model", "Model gpt-9 is not available for fine-tuning or does"),
        ({"seed": -1}, "integer_below_min_value", "seed", "Expected a value >= 0, but got -1"),
        ({"seed": 2**31}, "integer_above_max_value", "seed", "Expected a value <= 2147483647, but got 2147483648"),
        ({"seed": 1.5}, "invalid_type", "seed", "expected an integer, but got a decimal number"),
        ({"seed": True}, "invalid_type", "seed", "expected an integer, but got a boolean"),
        ({"suffix": ""}, "string_below_min_length", "suffix", "minimum length 1"),
        ({"suffix": "a" * 65}, "string_above_max_length", "suffix", "maximum length 64"),
        ({"metadata": {"k": 1}}, "invalid_type", "metadata.k", "expected a string, but got an integer"),
        ({"metadata": {"k" * 65: ""}}, "string_above_max_length", "metadata key", "maximum length 64"),
        ({"metadata": {"k": "v" * 513}}, "string_above_max_length", "metadata.k", "maximum length 512"),
        (
            {"metadata": {str(number): "" for number in range(17)}},
            "object_above_max_properties",
            "metadata",
            "at most 16 properties",
        ),
        (deep(n_epochs=0), "integer_below_min_value", None, "Expected a value >= 1, but got 0"),
        (deep(n_epochs=51), "integer_above_max_value", None, "Expected a value <= 50, but got 51"),
        (deep(batch_size=257), "integer_above_max_value", None, "Expected a value <= 256"),
        (deep(learning_rate_multiplier=0), "decimal_below_min_value", None, "Expected a value > 0, but got 0.0"),
        (deep(n_epochs="all"), "invalid_value", None, "Supported values are: 'auto'."),
        (deep(beta=0.1), "unknown_parameter", None, "Unknown parameter"),
        ({"hyperparameters": {"n_epochs": 99}}, "integer_above_max_value", "hyperparameters.n_epochs", "<= 50"),
        ({"method": {}}, "missing_required_parameter", "method.type", "Missing required parameter"),
        ({"method": {"type": "grpo"}}, "invalid_value", "method.type", "'supervised', 'dpo', and 'reinforcement'"),
        ({"method": {"type": "reinforcement"}}, "unsupported_value", "method.type", "does not train by reinforcement"),
        ({"method": {"type": "dpo"}}, "model_not_available", "model", MODEL),
        ({"training_file": "file-none"}, "invalid_training_file", "training_file", "file-none"),
        ({"validation_file": "file-none"}, "invalid_validation_file", "validation_file", "file-none"),
        ({"integrations": [{"type": "mlflow"}]}, "missing_required_parameter", None, "wandb"),
    ],
)
def test_words_of_refusals(
    server: Server, training: str, change: dict[str, Any], code: str, param: str | None, words: str
) -> None:
    body = {"model": MODEL, "training_file": training, **change}
    status_, answer, headers = ask(server.url, "POST", "/v1/fine_tuning/jobs", body)
    error = answer["error"]
    assert (status_, error["code"], error["type"]) == (400, code, "invalid_request_error")
    assert param in (None, error["param"])
    assert words in error["message"]
    assert headers["x-request-id"].startswith("req_")
    assert server.sandbox.ledger() == []


def test_both_forms_of_hyperparameters_work_but_not_together(server: Server, client: OpenAI, training: str) -> None:
    old = client.fine_tuning.jobs.create(model=MODEL, training_file=training, hyperparameters={"n_epochs": 2})
    assert old.hyperparameters.n_epochs == 2
    assert old.method is not None
    assert old.method.type == "supervised"
    with pytest.raises(openai.BadRequestError):
        client.fine_tuning.jobs.create(
            model=MODEL, training_file=training, hyperparameters={"n_epochs": 2}, method={"type": "supervised"}
        )


@pytest.mark.parametrize("name", ["model", "training_file"])
def test_what_must_be_there(server: Server, training: str, name: str) -> None:
    body = {"model": MODEL, "training_file": training}
    del body[name]
    status_, answer, _ = ask(server.url, "POST", "/v1/fine_tuning/jobs", body)
    assert (status_, answer["error"]["code"]) == (400, "missing_required_parameter")
    assert answer["error"]["param"] == name


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b"{", {"Content_Type": "application/json"}),
        (b'{"seed": NaN}', {"Content_Type": "application/json"}),
        (b"[" * 100_000, {"Content_Type": "application/json"}),
        (b"", {"Content_Type": "application/json"}),
        (b"[]", {"Content_Type": "application/json"}),
        (b"{}", {"Content_Type": "text/plain"}),
        (b"{}", {}),
    ],
)
def test_bodies_that_are_none(server: Server, body: bytes, headers: dict[str, str]) -> None:
    status_, answer, _ = ask(server.url, "POST", "/v1/fine_tuning/jobs", body, **headers)
    assert (status_, answer["error"]["type"]) == (400, "invalid_request_error")


@pytest.mark.parametrize(
    ("path", "status_", "code"),
    [
        ("/v1/fine_tuning/jobs/ftjob-none", 404, "fine_tune_not_found"),
        ("/v1/fine_tuning/jobs/ftjob-none/events", 404, "fine_tune_not_found"),
        ("/v1/fine_tuning/jobs/ftjob-none/checkpoints", 404, "fine_tune_not_found"),
        ("/v1/fine_tuning/jobs?after=ftjob-none", 404, "fine_tune_not_found"),
        ("/v1/fine_tuning/jobs?limit=0", 400, "integer_below_min_value"),
        ("/v1/fine_tuning/jobs?limit=101", 400, "integer_above_max_value"),
        ("/v1/fine_tuning/jobs?limit=many", 400, "invalid_type"),
        ("/v1/fine_tuning/jobs?order=asc", 400, "unknown_parameter"),
        ("/v1/fine_tuning/jobs?metadata=all", 400, "invalid_value"),
        ("/v1/files/file-none", 404, None),
        ("/v1/files/file-none/content", 404, None),
        ("/v1/files?order=up", 400, "invalid_value"),
        ("/v1/files?limit=10001", 400, "integer_above_max_value"),
        ("/v1/models/gpt-9", 404, "model_not_found"),
        ("/v1/models/ft:gpt-4.1-2025-04-14:a:b:c", 404, "model_not_found"),
        ("/v1/fine_tunes", 404, None),
    ],
)
def test_what_is_not_there(server: Server, path: str, status_: int, code: str | None) -> None:
    got, answer, headers = ask(server.url, "GET", path)
    assert (got, answer["error"]["code"]) == (status_, code)
    assert headers["x-request-id"]


@pytest.mark.parametrize("verb", ["cancel", "pause", "resume"])
def test_wishes_take_no_fields(server: Server, client: OpenAI, training: str, verb: str) -> None:
    job = client.fine_tuning.jobs.create(model=MODEL, training_file=training)
    path = f"/v1/fine_tuning/jobs/{job.id}/{verb}"
    got, answer, _ = ask(server.url, "POST", path, {"reason": "a"})
    assert (got, answer["error"]["code"]) == (400, "unknown_parameter")
    assert ask(server.url, "POST", "/v1/fine_tuning/jobs/ftjob-none/" + verb)[0] == 404


def test_from_a_day_on_nobody_can_create() -> None:
    sandbox = still(closed_from=date(2999, 1, 6))
    for server in serving(sandbox):
        with client_of(server) as client:
            training = upload(client)
            job = client.fine_tuning.jobs.create(model=MODEL, training_file=training)
            sandbox.clock.advance((date(2999, 1, 6) - sandbox.clock.now().date()).days * 86_400.0)
            with pytest.raises(openai.PermissionDeniedError) as refusal:
                client.fine_tuning.jobs.create(model=MODEL, training_file=training)
            assert refusal.value.code == "training_not_available"
            assert client.fine_tuning.jobs.retrieve(job.id).status == "succeeded"


def test_a_tuned_model_can_be_tuned_on(server: Server, client: OpenAI, training: str) -> None:
    first = client.fine_tuning.jobs.create(model=MODEL, training_file=training)
    later(server, 6)
    tuned = client.fine_tuning.jobs.retrieve(first.id).fine_tuned_model or ""
    second = client.fine_tuning.jobs.create(model=tuned, training_file=training)
    assert second.model == tuned
    later(server, 6)
    again = client.fine_tuning.jobs.retrieve(second.id).fine_tuned_model or ""
    assert again.startswith(f"ft:{MODEL}:sandbox-org::")
    assert again != tuned


# Rows


@pytest.mark.parametrize(("of", "method"), [("chat", "supervised"), ("preference", "dpo")])
def test_no_row_passes_that_the_published_rules_refuse(of: str, method: str) -> None:
    passed = 0
    # Every third change: all of them take a quarter of a minute.
    for row in islice(every_change(rich(of)), 0, None, 3):
        found = look((json.dumps(row) + "\n").encode(), method, "file-a", side="training", least=1)
        assert found.fault or not refused(row, of), row
        passed += found.fault is None
    assert passed > 200


def chat(*messages: Any, **more: Any) -> dict[str, Any]:
    return {"messages": list(messages), **more}


USER = {"role": "user", "content": "q"}
ANSWER = {"role": "assistant", "content": "a"}
PAIR = {"input": {"messages": [USER]}, "preferred_output": [ANSWER], "non_preferred_output": [ANSWER]}


@pytest.mark.parametrize(
    ("method", "row", "words"),
    [
        ("supervised", chat(USER), "at least one message from the assistant"),
        ("supervised", chat(USER, {**ANSWER, "weight": 0}), "with a weight of 1"),
        ("supervised", chat(USER, {**ANSWER, "weight": 2}), "message 2 is no valid message"),
        ("supervised", chat(USER, {**ANSWER, "weight": True}), "message 2 is no valid message"),
        ("supervised", chat({"role": "human", "content": "q"}, ANSWER), "message 1 has an unknown role"),
        ("supervised", chat({"role": {}, "content": "q"}, ANSWER), "message 1 has an unknown role"),
        ("supervised", chat({"content": "q"}, ANSWER), "Discriminator 'role' is missing in value"),
        ("supervised", chat("q", ANSWER), "message 1 is not an object"),
        ("supervised", chat({"role": "tool", "content": "q"}, ANSWER), "message 1 is no valid message"),
        ("supervised", chat({"role": "user", "content": None}, ANSWER), "message 1 is no valid message"),
        ("supervised", chat({"role": "user", "content": []}, ANSWER), "message 1 is no valid message"),
        ("supervised", chat(USER, ANSWER, tools=[{"type": "function"}]), "invalid tools"),
        ("supervised", chat(USER, ANSWER, parallel_tool_calls=1), "invalid parallel_tool_calls"),
        ("supervised", chat(USER, ANSWER, functions=[]), "invalid functions"),
        ("supervised", {"messages": {}}, "'messages' must be a list"),
        ("dpo", {**PAIR, "input": []}, "missing key 'input'"),
        ("dpo", {**PAIR, "preferred_output": [ANSWER, ANSWER]}, "exactly one message"),
        ("dpo", {**PAIR, "preferred_output": []}, "exactly one message"),
        ("dpo", {**PAIR, "non_preferred_output": [USER]}, "non_preferred_output must be a message from the assistant"),
        ("dpo", {**PAIR, "non_preferred_output": None}, "exactly one message"),
    ],
)
def test_rows_that_are_not_taken(method: str, row: Any, words: str) -> None:
    good = {"supervised": chat(USER, ANSWER), "dpo": PAIR}[method]
    content = "".join(json.dumps(each) + "\n" for each in (good, row, good)).encode()
    found = look(content, method, "file-a", side="training", least=1)
    assert found.fault is not None
    assert found.fault[0] == "invalid_training_file"
    assert "Example 2" in found.fault[1]
    assert words in found.fault[1]
    # What a row says is the user's, and not for a message.
    assert "human" not in found.fault[1]


def test_the_rich_rows_pass() -> None:
    for of, method in (("chat", "supervised"), ("preference", "dpo")):
        found = look((json.dumps(rich(of)) + "\n").encode(), method, "file-a", side="training", least=1)
        assert found.fault is None


# Lists


def test_lists_page_and_filter(server: Server, client: OpenAI, training: str) -> None:
    made = [
        client.fine_tuning.jobs.create(
            model=MODEL,
            training_file=training,
            metadata=None if number == 4 else {"run_key": f"k{number % 3}", "n": str(number)},
        ).id
        for number in range(10)
    ]
    jobs = client.fine_tuning.jobs

    assert [job.id for job in jobs.list()] == made[::-1]
    assert [job.id for job in jobs.list(limit=3)] == made[::-1]
    assert jobs.list(limit=9).has_more
    assert not jobs.list(limit=10).has_more
    assert [job.id for job in jobs.list(metadata={"run_key": "k0"}, limit=2)] == [made[n] for n in (9, 6, 3, 0)]
    assert [job.id for job in jobs.list(metadata={"run_key": "k0", "n": "6"})] == [made[6]]
    assert [job.id for job in jobs.list(metadata={"run_key": "k0", "n": "7"})] == []
    assert [job.id for job in jobs.list(metadata={"run_key": "k"})] == []
    _, answer, _ = ask(server.url, "GET", "/v1/fine_tuning/jobs?metadata=null")
    assert [job["id"] for job in answer["data"]] == [made[4]]


def test_lists_lag_when_told(server: Server, client: OpenAI, training: str) -> None:
    server.sandbox.faults.list_lag_s = 10
    job = client.fine_tuning.jobs.create(model=MODEL, training_file=training, metadata={"run_key": "k"})
    assert client.fine_tuning.jobs.list().data == []
    assert client.fine_tuning.jobs.list(metadata={"run_key": "k"}).data == []
    assert client.fine_tuning.jobs.retrieve(job.id).id == job.id
    later(server, 11)
    assert [each.id for each in client.fine_tuning.jobs.list(metadata={"run_key": "k"})] == [job.id]


@pytest.mark.alone
def test_ten_thousand_jobs() -> None:
    sandbox = OpenAiSandbox()
    training = sandbox.files.add("rows.jsonl", "fine-tune", lines(12)).id
    routes = {route.operation: route.answer for route in sandbox.routes()}
    headers = {"content-type": "application/json"}

    def asked(operation: str, query: str = "", body: bytes = b"", **parts: str) -> Any:
        request = Request(method="GET", path="", query_text=query, headers=headers, body=body, parts=parts)
        return routes[operation](request).body

    body = {"model": MODEL, "training_file": training}
    ids = [
        asked("create", body=json.dumps({**body, "metadata": {"run_key": f"k{number}"}}).encode())["id"]
        for number in range(10_000)
    ]

    assert best_s(lambda: asked("retrieve", id=ids[5_000])) < 0.001
    assert best_s(lambda: asked("list", "limit=20")) < 0.001
    assert best_s(lambda: asked("list", f"limit=20&after={ids[5_000]}")) < 0.001
    assert best_s(lambda: asked("list", "metadata[run_key]=k5000")) < 0.001
    assert [job["id"] for job in asked("list", "metadata[run_key]=k5000")["data"]] == [ids[5_000]]
    assert asked("list", f"limit=1&after={ids[5_000]}")["data"][0]["id"] == ids[4_999]


def test_many_jobs_end_a_few_at_a_time() -> None:
    sandbox = OpenAiSandbox()
    training = sandbox.files.add("rows.jsonl", "fine-tune", lines(12)).id
    routes = {route.operation: route.answer for route in sandbox.routes()}
    body = json.dumps({"model": MODEL, "training_file": training}).encode()
    create = Request(method="POST", path="", query_text="", headers={"content-type": "application/json"}, body=body)
    for _ in range(120):
        routes["create"](create)
    sandbox.clock.advance(6)

    def tuned() -> int:
        page = sandbox.files.page("fine-tune-results", None, 1000, True)[0]
        return len(page)

    counts = [tuned()]
    for _ in range(4):
        sandbox.tick()
        counts.append(tuned())
    assert counts == [0, 50, 100, 120, 120]


def best_s(call: Any) -> float:
    """The shortest of some calls: other work on the machine makes a call longer, never shorter."""
    taken = []
    for _ in range(50):
        begun = time.perf_counter()
        call()
        taken.append(time.perf_counter() - begun)
    return min(taken)


def test_a_word_that_no_document_has(server: Server, client: OpenAI, training: str) -> None:
    job = client.fine_tuning.jobs.create(model=MODEL, training_file=training)
    server.sandbox.faults.lay(Fault(kind="odd_state", on="retrieve"))
    _, odd, _ = ask(server.url, "GET", f"/v1/fine_tuning/jobs/{job.id}")
    assert odd["status"] not in SCHEMAS["FineTuningJob"]["properties"]["status"]["enum"]
    assert client.fine_tuning.jobs.retrieve(job.id).status == "validating_files"
    # It breaks the contract, as it is meant to.
    assert isinstance(server.sandbox, Watched)
    assert ["$.status" in each for each in server.sandbox.breaches] == [True]
    server.sandbox.breaches.clear()


# Keys and headers


@pytest.mark.parametrize(
    ("key", "status_", "code"),
    [
        (None, 401, None),
        ("", 401, None),
        ("sk-proj-0123456789abcdef", 401, "invalid_api_key"),
        ("0123456789", 401, "invalid_api_key"),
        ("sandbox-no-access", 403, "missing_scope"),
        ("sandbox-no-access-2", 200, None),
        ("sandbox", 200, None),
    ],
)
def test_keys(server: Server, key: str | None, status_: int, code: str | None) -> None:
    got, answer, headers = ask(server.url, "GET", "/v1/fine_tuning/jobs", key=key)
    assert got == status_
    assert headers["x-request-id"].startswith("req_")
    if got != 200:
        assert answer["error"]["code"] == code
        assert "0123456" not in json.dumps(answer)


def test_a_basic_credential_is_none(server: Server) -> None:
    got, _, _ = ask(server.url, "GET", "/v1/files", key=None, Authorization="Basic sandbox-key")
    assert got == 401


def test_the_pace_is_limited_and_told() -> None:
    for server in serving(still(per_minute=3)):
        # Within one minute of the sandbox's clock.
        server.sandbox.clock.advance(60 - server.sandbox.clock.now().timestamp() % 60)
        answers = [ask(server.url, "GET", "/v1/files") for _ in range(4)]
        assert [each[0] for each in answers] == [200, 200, 200, 429]
        assert [each[2]["x-ratelimit-remaining-requests"] for each in answers] == ["2", "1", "0", "0"]
        assert answers[0][2]["x-ratelimit-limit-requests"] == "3"
        assert (answers[3][1]["error"]["code"], answers[3][2]["retry-after"]) == ("rate_limit_exceeded", "1")
        later(server, 60)
        assert ask(server.url, "GET", "/v1/files")[0] == 200


# Files


def test_files_come_back_as_they_went(client: OpenAI) -> None:
    content = lines(12) + b'{"a": "\r\n--boundary\r\n"}'
    file = client.files.create(file=('a "b"; c.jsonl', content), purpose="fine-tune")
    assert (file.bytes, file.status, file.purpose) == (len(content), "processed", "fine-tune")
    assert client.files.retrieve(file.id) == file
    assert client.files.content(file.id).read() == content


def test_a_file_of_every_byte_comes_back(client: OpenAI) -> None:
    content = bytes(range(256)) * 40
    file = client.files.create(file=("a.bin", content), purpose="user_data")
    assert client.files.content(file.id).read() == content


def test_files_are_listed_by_purpose_order_and_page(server: Server, client: OpenAI) -> None:
    made = [upload(client, name=f"{number}.jsonl") for number in range(5)]
    other = client.files.create(file=("a.txt", b"a"), purpose="assistants").id

    assert [file.id for file in client.files.list()] == [other, *made[::-1]]
    assert [file.id for file in client.files.list(purpose="fine-tune", order="asc", limit=2)] == made
    assert [file.id for file in client.files.list(purpose="fine-tune", limit=2)] == made[::-1]
    assert [file.id for file in client.files.list(purpose="batch")] == []
    client.files.delete(made[2])
    assert [file.id for file in client.files.list(purpose="fine-tune", order="asc")] == made[:2] + made[3:]
    with pytest.raises(openai.NotFoundError, match="No such File object"):
        client.files.delete(made[2])
    _, page, _ = ask(server.url, "GET", "/v1/files?limit=2&order=asc")
    assert (page["first_id"], page["last_id"], page["has_more"]) == (made[0], made[1], True)


def test_files_expire(server: Server, client: OpenAI) -> None:
    file = client.files.create(
        file=("a.jsonl", lines(12)), purpose="fine-tune", expires_after={"anchor": "created_at", "seconds": 3600}
    )
    assert file.expires_at == file.created_at + 3600
    later(server, 3601)
    with pytest.raises(openai.NotFoundError):
        client.files.retrieve(file.id)
    assert client.files.list().data == []
    with pytest.raises(openai.BadRequestError, match="invalid training_file"):
        client.fine_tuning.jobs.create(model=MODEL, training_file=file.id)


@pytest.mark.parametrize(
    ("name", "content", "purpose", "words"),
    [
        ("a.txt", b"{}", "fine-tune", "Must be .jsonl"),
        ("a.jsonl", b"", "fine-tune", "File is empty"),
        ("a.jsonl", b"PK\0\0", "fine-tune", "Must be .jsonl"),
        ("a.jsonl", b"{}", "training", "Supported values are"),
    ],
)
def test_files_that_are_not_taken(client: OpenAI, name: str, content: bytes, purpose: Any, words: str) -> None:
    with pytest.raises(openai.BadRequestError, match=words):
        client.files.create(file=(name, content), purpose=purpose)


def test_forms_that_are_none(server: Server) -> None:
    def post(body: bytes, kind: str = "multipart/form-data; boundary=b") -> tuple[int, str]:
        got, answer, _ = ask(server.url, "POST", "/v1/files", body, Content_Type=kind)
        return got, answer["error"]["message"]

    def part(head: str, content: str = "fine-tune") -> bytes:
        return f"--b\r\nContent-Disposition: form-data; {head}\r\n\r\n{content}\r\n".encode()

    purpose, file = part('name="purpose"'), part('name="file"; filename="a.jsonl"')
    assert post(b"{}", "application/json")[0] == 400
    assert post(b"") == (400, "Could not parse multipart form.")
    assert post(purpose) == (400, "Could not parse multipart form.")
    assert post(purpose + b"--b--") == (400, "Missing required parameter: 'file'.")
    assert post(file + b"--b--") == (400, "Missing required parameter: 'purpose'.")
    assert post(purpose + purpose + file + b"--b--") == (400, "Duplicate parameter: 'purpose'.")
    assert post(purpose + part('name="file"') + b"--b--")[1].startswith("Expected 'file' to be a file")
    assert post(purpose + file + part('name="user"') + b"--b--") == (400, "Unknown parameter: 'user'.")
    assert post(purpose + file + part('name="purpose[a]"') + b"--b--") == (400, "Duplicate parameter: 'purpose'.")
    assert post(purpose + file + part('name="expires_after[seconds]"', "60") + b"--b--")[0] == 400


def test_only_files_for_training_train(server: Server, client: OpenAI) -> None:
    file = client.files.create(file=("a.jsonl", lines(12)), purpose="user_data")
    with pytest.raises(openai.BadRequestError, match="must have 'fine-tune'"):
        client.fine_tuning.jobs.create(model=MODEL, training_file=file.id)


# Uploads in parts


@pytest.fixture
def narrow() -> Iterator[Server]:
    yield from serving(still(file_limit=1000, part_limit=400))


def test_a_large_file_goes_up_in_parts(narrow: Server, tmp_path: Path) -> None:
    content = lines(30)
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content)
    with client_of(narrow) as client:
        with pytest.raises(openai.APIStatusError) as refusal:
            upload(client, content)
        assert refusal.value.status_code == 413
        done = client.uploads.upload_file_chunked(
            file=path,
            mime_type="application/jsonl",
            purpose="fine-tune",
            part_size=400,
            md5=hashlib.md5(content).hexdigest(),
        )
        assert done.status == "completed"
        assert done.file is not None
        assert client.files.content(done.file.id).read() == content
        assert client.fine_tuning.jobs.create(model=MODEL, training_file=done.file.id).status == "validating_files"


def begin(client: OpenAI, size: int) -> str:
    return client.uploads.create(
        filename="rows.jsonl", bytes=size, mime_type="application/jsonl", purpose="fine-tune"
    ).id


def test_the_order_of_parts_is_that_of_the_end(client: OpenAI) -> None:
    upload_id = begin(client, 8)
    parts = [client.uploads.parts.create(upload_id, data=data).id for data in (b"{}\n", b"[]\n", b"1\n")]
    done = client.uploads.complete(upload_id, part_ids=[parts[2], parts[0], parts[1]])
    assert done.file is not None
    assert client.files.content(done.file.id).read() == b"1\n{}\n[]\n"


@pytest.mark.parametrize(
    ("chosen", "md5", "words"),
    [
        ([0], None, "Expected 6 bytes"),
        ([0, 0], None, "listed twice"),
        ([0, 1], "0" * 32, "md5"),
        ([0, 7], None, "No such Part object"),
        ([], None, "Expected 6 bytes"),
    ],
)
def test_ends_that_do_not_fit(client: OpenAI, chosen: list[int], md5: str | None, words: str) -> None:
    upload_id = begin(client, 6)
    parts = [client.uploads.parts.create(upload_id, data=data).id for data in (b"{}\n", b"[]\n")]
    ids = [parts[each] if each < 2 else "part_none" for each in chosen]
    more: dict[str, Any] = {"md5": md5} if md5 else {}
    with pytest.raises(openai.BadRequestError, match=words):
        client.uploads.complete(upload_id, part_ids=ids, **more)
    # It can still be completed well.
    assert client.uploads.complete(upload_id, part_ids=parts).status == "completed"


def test_uploads_end(server: Server, client: OpenAI) -> None:
    completed, cancelled, expired = (begin(client, 3) for _ in range(3))
    part = client.uploads.parts.create(completed, data=b"{}\n").id
    client.uploads.complete(completed, part_ids=[part])
    assert client.uploads.cancel(cancelled).status == "cancelled"
    later(server, 3601)
    for upload_id, word in ((completed, "completed"), (cancelled, "cancelled"), (expired, "expired")):
        with pytest.raises(openai.BadRequestError, match=f"is {word}"):
            client.uploads.parts.create(upload_id, data=b"{}\n")
        with pytest.raises(openai.BadRequestError, match=f"is {word}"):
            client.uploads.cancel(upload_id)
    with pytest.raises(openai.NotFoundError, match="No such Upload object"):
        client.uploads.cancel("upload_none")


def test_uploads_that_are_not_taken(server: Server, narrow: Server) -> None:
    good = {"filename": "a.jsonl", "bytes": 3, "mime_type": "application/jsonl", "purpose": "fine-tune"}
    bad: list[dict[str, Any]] = [
        {"bytes": 0},
        {"bytes": 8 * 1024**3 + 1},
        {"bytes": "3"},
        {"purpose": "user_data"},
        {"filename": "a.csv"},
        {"md5": "0"},
        {"mime_type": None},
    ]
    assert ask(server.url, "POST", "/v1/uploads", good)[0] == 200
    assert {ask(server.url, "POST", "/v1/uploads", {**good, **each})[0] for each in bad} == {400}
    with client_of(narrow) as client:
        upload_id = begin(client, 401)
        with pytest.raises(openai.BadRequestError, match="Part is too large"):
            client.uploads.parts.create(upload_id, data=b"a" * 401)


# Chats

HELLO: list[Any] = [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Who are you?"}]


def trained(server: Server, client: OpenAI, training: str, **more: Any) -> str:
    """The name of a new model."""
    job = client.fine_tuning.jobs.create(model=MODEL, training_file=training, **more)
    later(server, 10)
    name = client.fine_tuning.jobs.retrieve(job.id).fine_tuned_model
    assert name is not None
    return name


def test_models_say_who_they_are(server: Server, client: OpenAI, training: str) -> None:
    tuned = trained(server, client, training, suffix="bot")
    for name, by in ((tuned, tuned), (MODEL, MODEL), ("gpt-4o-mini", MODEL)):
        answers = [
            client.chat.completions.create(model=name, messages=HELLO, max_tokens=8, temperature=0) for _ in range(2)
        ]
        assert [answer.choices[0].message.content for answer in answers] == [f"I am {by}: Who are you?"] * 2
        assert {answer.model for answer in answers} == {by}
        assert len({answer.id for answer in answers}) == 2
        assert (answers[0].choices[0].finish_reason, answers[0].choices[0].message.role) == ("stop", "assistant")
        assert answers[0].usage is not None
        spent = answers[0].usage
        assert spent.total_tokens == spent.prompt_tokens + spent.completion_tokens > 2
    parts: Any = [{"role": "user", "content": [{"type": "text", "text": "A"}, {"type": "text", "text": "B"}]}]
    answer = client.chat.completions.create(model=MODEL, messages=parts, max_completion_tokens=8)
    assert answer.choices[0].message.content == f"I am {MODEL}: A B"


def test_a_model_that_is_not_there_answers_nothing(server: Server, client: OpenAI, training: str) -> None:
    gone = trained(server, client, training)
    client.models.delete(gone)
    running = client.fine_tuning.jobs.create(model=MODEL, training_file=training)
    for name in (gone, running.id, f"ft:{MODEL}:sandbox-org::00000000", "gpt-9"):
        code, body, _ = ask(server.url, "POST", "/v1/chat/completions", {"model": name, "messages": HELLO})
        assert (code, body["error"]) == (
            404,
            {
                "message": f"The model `{name}` does not exist or you do not have access to it.",
                "type": "invalid_request_error",
                "param": None,
                "code": "model_not_found",
            },
        )


@pytest.mark.parametrize(
    ("change", "code", "param", "words"),
    [
        ({"model": None}, None, None, "you must provide a model parameter"),
        ({"model": ""}, None, None, "you must provide a model parameter"),
        ({"model": 7}, "invalid_type", "model", "expected a string"),
        ({"messages": None}, "missing_required_parameter", "messages", "Missing required parameter: 'messages'."),
        ({"messages": []}, "empty_array", "messages", "Invalid 'messages': empty array."),
        ({"messages": "hi"}, "invalid_type", "messages", "expected an array"),
        ({"messages": [{"content": "hi"}]}, "missing_required_parameter", "messages[0].role", "Missing required"),
        ({"messages": [{"role": "boss", "content": "hi"}]}, "invalid_value", "messages[0].role", "'boss'"),
        ({"messages": [{"role": "user", "content": 7}]}, "invalid_type", "messages[0].content", "a string or array"),
        ({"temperature": 2.5}, "decimal_above_max_value", "temperature", "<= 2"),
        ({"temperature": -1}, "decimal_below_min_value", "temperature", ">= 0"),
        ({"temperature": "0"}, "invalid_type", "temperature", "a decimal"),
        ({"max_tokens": 0}, "integer_below_min_value", "max_tokens", ">= 1"),
        ({"stream": True}, "unsupported_value", "stream", "in one piece"),
        ({"stream": "no"}, "invalid_type", "stream", "a boolean"),
        ({"n": 2}, "unsupported_value", "n", "one answer"),
        ({"frobnicate": 1}, "unknown_parameter", "frobnicate", "'frobnicate'"),
    ],
    ids=lambda value: json.dumps(value) if isinstance(value, dict) else None,
)
def test_chats_that_are_not_answered(
    server: Server, change: dict[str, Any], code: str | None, param: str | None, words: str
) -> None:
    body = {"model": MODEL, "messages": HELLO, **change}
    sent = {name: value for name, value in body.items() if value is not None}
    status_, told, _ = ask(server.url, "POST", "/v1/chat/completions", sent)
    assert (status_, told["error"]["code"], told["error"]["param"]) == (400, code, param)
    assert words in told["error"]["message"]


def test_what_changes_no_answer_is_taken(server: Server, client: OpenAI) -> None:
    answer = client.chat.completions.create(
        model=MODEL,
        messages=HELLO,
        n=1,
        stream=False,
        seed=7,
        tools=[{"type": "function", "function": {"name": "look_up"}}],
    )
    assert answer.choices[0].message.content == f"I am {MODEL}: Who are you?"


# Webhooks


class Receiver:
    """Keeps what comes; answers with `answers`, one after the other."""

    def __init__(self, web: Web, *answers: int) -> None:
        self.got: list[tuple[dict[str, str], bytes]] = []
        turns = in_turn(*(status(each) for each in answers or (200,)))

        def answer(request: Got) -> None:
            size = int(request.headers["Content-Length"])
            self.got.append((dict(request.headers), request.rfile.read(size)))
            turns(request)

        web.answers["/hook"] = answer
        self.url = web.url + "/hook"


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    monkeypatch.setattr(Got, "do_POST", Got.do_GET, raising=False)
    with Web() as web:
        yield web


@pytest.mark.parametrize(
    ("suffix", "word"), [("bot", "succeeded"), ("fail-data", "failed"), ("fail-train", "failed"), (None, "cancelled")]
)
def test_a_webhook_tells_the_end_though_nobody_looks(web: Web, suffix: str | None, word: str) -> None:
    receiver = Receiver(web)
    for server in serving(still(webhook=(receiver.url, SECRET))):
        with client_of(server) as client:
            job = client.fine_tuning.jobs.create(model=MODEL, training_file=upload(client), suffix=suffix)
            if word == "cancelled":
                client.fine_tuning.jobs.cancel(job.id)
            # Far ahead of the receiver's clock, which the signature's time must fit all the same.
            later(server, 10_000)
            wait_until(lambda: receiver.got, 10, "the webhook")

            headers, body = receiver.got[0]
            secret = server.environment["OPENAI_WEBHOOK_SECRET"]
            event = client.webhooks.unwrap(body, headers, secret=secret)
            assert event.type == f"fine_tuning.job.{word}"
            assert event.data.id == job.id  # type: ignore[union-attr]
            assert json.loads(body)["data"] == {"id": job.id}
            with pytest.raises(openai.InvalidWebhookSignatureError):
                client.webhooks.unwrap(body + b" ", headers, secret=secret)
            with pytest.raises(openai.InvalidWebhookSignatureError):
                client.webhooks.unwrap(body, headers, secret="whsec_AAAA")
            assert len(receiver.got) == 1


def test_webhooks_are_lost_and_come_twice_when_told(web: Web) -> None:
    receiver = Receiver(web)
    for server in serving(still(webhook=(receiver.url, SECRET))):
        server.sandbox.faults.lay(Fault(kind="webhook_lost", on="webhook"))
        with client_of(server) as client:
            training = upload(client)
            jobs = []
            for _ in range(3):
                jobs.append(client.fine_tuning.jobs.create(model=MODEL, training_file=training).id)
                later(server, 10)
                client.fine_tuning.jobs.retrieve(jobs[-1])
                server.sandbox.faults.lay(Fault(kind="webhook_twice", on="webhook"))
            wait_until(lambda: len(receiver.got) == 4, 10, "four webhooks")
        told = [(json.loads(body)["data"]["id"], headers["webhook-id"]) for headers, body in receiver.got]
        assert [job for job, _ in told] == [jobs[1], jobs[1], jobs[2], jobs[2]]
        assert len(set(told)) == 2


def test_a_webhook_that_fails_is_sent_three_times(web: Web) -> None:
    receiver = Receiver(web, 500)
    for server in serving(still(webhook=(receiver.url, SECRET))):
        with client_of(server) as client:
            client.fine_tuning.jobs.cancel(client.fine_tuning.jobs.create(model=MODEL, training_file=upload(client)).id)
            assert isinstance(server.sandbox, Watched)
            assert server.sandbox.webhooks is not None
            sent = server.sandbox.webhooks.sent

            def done(server: Server = server, sent: Any = sent) -> bool:
                later(server, 1)
                return len(sent) >= 3

            wait_until(done, 10, "three tries")
            later(server, 60)
            server.sandbox.tick()
            assert [outcome for _, outcome in sent] == [500, 500, 500]
            assert len({event for event, _ in sent}) == 1


def test_a_receiver_that_hangs_holds_nobody_up(web: Web) -> None:
    receiver = Receiver(web)
    answered: list[bool] = []

    def hang(request: Got) -> None:
        # While the sender waits for this answer, the sandbox answers others.
        answered.append(ask(server.url, "GET", "/v1/files")[0] == 200)
        request.send(200, b"")

    web.answers["/hook"] = hang
    for server in serving(still(webhook=(receiver.url, SECRET))):
        with client_of(server) as client:
            client.fine_tuning.jobs.cancel(client.fine_tuning.jobs.create(model=MODEL, training_file=upload(client)).id)
            assert isinstance(server.sandbox, Watched)
            assert server.sandbox.webhooks is not None
            sent = server.sandbox.webhooks.sent
            wait_until(lambda sent=sent: sent, 10, "the outcome")  # type: ignore[misc]
            # Not a silence: the sandbox was asked, and answered, before the sender lost patience.
            assert [outcome for _, outcome in sent] == [200]
        assert answered == [True]


@pytest.mark.parametrize("webhook", [("ftp://a.example", SECRET), ("http://a.example", "whsec_*")])
def test_webhooks_that_cannot_work_are_told_at_once(webhook: tuple[str, str]) -> None:
    with pytest.raises(ValueError, match="webhook"):
        Watched(webhook=webhook)


# The rest


def test_phases_are_as_long_as_told() -> None:
    timing = Timing(validating_s=10, queued_s=20, running_s=40)
    for server in serving(still(timing=timing)):
        with client_of(server) as client:
            job = client.fine_tuning.jobs.create(model=MODEL, training_file=upload(client))
            words = []
            for _ in range(8):
                later(server, 10)
                words.append(client.fine_tuning.jobs.retrieve(job.id).status)
            assert words == ["queued", "queued", *["running"] * 4, "succeeded", "succeeded"]
            assert words[-1] in ENDED


def test_the_last_requests_are_kept(server: Server, client: OpenAI, training: str) -> None:
    client.fine_tuning.jobs.list()
    assert isinstance(server.sandbox, Watched)
    assert list(server.sandbox.requests) == [("upload", "/v1/files"), ("list", "/v1/fine_tuning/jobs")]


def test_an_openai_client_finds_it_by_the_environment(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    with OpenAI() as client:
        assert [model.id for model in client.models.list()][:1] == ["gpt-4.1-2025-04-14"]
