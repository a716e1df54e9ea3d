"""Azure's sandbox: where it differs from OpenAI's. What is the same is tested there."""

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai import OpenAI

from finetune.sandbox.clock import SandboxClock
from finetune.sandbox.faults import Fault
from finetune.sandbox.openai.jobs import Timing
from finetune.sandbox.server import Server
from tests.wire.hosted.openai_contract import WatchedAzure, ask, lines

MODEL = "gpt-4o-mini-2024-07-18"


@pytest.fixture
def server() -> Iterator[Server]:
    sandbox = WatchedAzure(clock=SandboxClock(speed=0))
    with Server(sandbox) as server:
        yield server
    assert sandbox.breaches == []
    assert server.broken == []


@pytest.fixture
def client(server: Server) -> Iterator[OpenAI]:
    told = server.environment
    url = told["AZURE_OPENAI_ENDPOINT"] + "/openai/v1/"
    with OpenAI(base_url=url, api_key=told["AZURE_OPENAI_API_KEY"], max_retries=0) as client:
        yield client


@pytest.fixture
def training(server: Server, client: OpenAI) -> str:
    file = client.files.create(file=("rows.jsonl", lines(12)), purpose="fine-tune").id
    server.sandbox.clock.advance(1)
    return file


def test_the_whole_way(server: Server, client: OpenAI, training: str) -> None:
    job = client.fine_tuning.jobs.create(
        model="gpt-4o-mini", training_file=training, suffix="bot", extra_body={"trainingType": "GlobalStandard"}
    )
    words = [job.status]
    for _ in range(7):
        server.sandbox.clock.advance(1)
        job = client.fine_tuning.jobs.retrieve(job.id)
        words.append(job.status)

    assert list(dict.fromkeys(words)) == ["pending", "queued", "running", "succeeded"]
    assert job.fine_tuned_model == f"{MODEL}.ft-{job.id.removeprefix('ftjob-')}-bot"
    assert job.organization_id is None
    kept = client.fine_tuning.jobs.checkpoints.list(job.id).data
    assert [each.id[:8] for each in kept] == ["ftchkpt-"] * 3
    assert kept[0].fine_tuned_model_checkpoint == job.fine_tuned_model
    assert client.files.retrieve(job.result_files[0]).purpose == "fine-tune-results"
    assert client.fine_tuning.jobs.list_events(job.id).data[0].message == "The job has successfully completed"
    assert client.models.retrieve(job.fine_tuned_model).id == job.fine_tuned_model


def test_without_a_suffix_the_name_ends_with_the_job(server: Server, client: OpenAI, training: str) -> None:
    job = client.fine_tuning.jobs.create(model=MODEL, training_file=training)
    server.sandbox.clock.advance(6)
    assert client.fine_tuning.jobs.retrieve(job.id).fine_tuned_model == f"{MODEL}.ft-{job.id.removeprefix('ftjob-')}"


def test_nothing_is_there_yet(server: Server, training: str) -> None:
    code, job, _ = ask(server.url, "POST", "/openai/v1/fine_tuning/jobs", {"model": MODEL, "training_file": training})
    assert (code, job["status"], job["organization_id"], job["result_files"]) == (201, "pending", None, None)
    assert server.sandbox.ledger()[0].raw_state == "pending"


def test_a_file_must_be_processed_first(server: Server, client: OpenAI) -> None:
    file = client.files.create(file=("rows.jsonl", lines(12)), purpose="fine-tune")
    assert file.status == "pending"
    with pytest.raises(openai.BadRequestError, match="not ready to be used") as refusal:
        client.fine_tuning.jobs.create(model=MODEL, training_file=file.id)
    assert refusal.value.code == "invalidPayload"
    server.sandbox.clock.advance(1)
    assert client.files.retrieve(file.id).status == "processed"
    assert client.files.list().data[0].status == "processed"
    assert client.fine_tuning.jobs.create(model=MODEL, training_file=file.id).status == "pending"


def test_processing_takes_as_long_as_told() -> None:
    with Server(WatchedAzure(clock=SandboxClock(speed=0), timing=Timing(processing_s=100))) as server:
        body = b'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nfine-tune\r\n'
        body += b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.jsonl"\r\n\r\n{}\r\n--b--\r\n'
        code, file, _ = ask(
            server.url, "POST", "/openai/v1/files", body, Content_Type="multipart/form-data; boundary=b"
        )
        assert (code, file["status"]) == (201, "pending")
        server.sandbox.clock.advance(99)
        assert ask(server.url, "GET", f"/openai/v1/files/{file['id']}")[1]["status"] == "pending"
        server.sandbox.clock.advance(1)
        assert ask(server.url, "GET", f"/openai/v1/files/{file['id']}")[1]["status"] == "processed"


@pytest.mark.parametrize("kind", ["Standard", "GlobalStandard", "Developer"])
def test_kinds_of_training(client: OpenAI, training: str, kind: str) -> None:
    job = client.fine_tuning.jobs.create(model=MODEL, training_file=training, extra_body={"trainingType": kind})
    assert job.status == "pending"


def test_other_kinds_of_training_are_refused(client: OpenAI, training: str) -> None:
    with pytest.raises(openai.BadRequestError, match="'Standard', 'GlobalStandard', and 'Developer'"):
        client.fine_tuning.jobs.create(model=MODEL, training_file=training, extra_body={"trainingType": "Batch"})


def test_the_filter_of_lists_is_not_looked_at(client: OpenAI, training: str) -> None:
    jobs = client.fine_tuning.jobs
    made = [jobs.create(model=MODEL, training_file=training, metadata={"run_key": key}).id for key in ("a", "b")]
    assert [job.id for job in jobs.list(metadata={"run_key": "a"})] == made[::-1]
    assert [job.metadata for job in jobs.list()] == [{"run_key": "b"}, {"run_key": "a"}]


@pytest.mark.parametrize(
    ("model", "method", "taken"),
    [
        ("gpt-oss-20b", "supervised", True),
        ("Ministral-3B", "supervised", True),
        ("gpt-oss-20b", "dpo", False),
        ("gpt-4o", "dpo", True),
        ("gpt-3.5-turbo", "supervised", False),
    ],
)
def test_models_are_those_of_azure(client: OpenAI, training: str, model: str, method: Any, taken: bool) -> None:
    if taken:
        client.fine_tuning.jobs.create(model=model, training_file=training, method={"type": method})
        return
    with pytest.raises(openai.BadRequestError, match="not available for fine-tuning"):
        client.fine_tuning.jobs.create(model=model, training_file=training, method={"type": method})


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({"api_key": "sandbox-key"}, 200, None),
        ({"Authorization": "Bearer sandbox-key"}, 200, None),
        ({"api_key": "0123456789abcdef"}, 401, "401"),
        ({"Authorization": "Bearer 0123456789abcdef"}, 401, "401"),
        ({}, 401, "401"),
        ({"api_key": "sandbox-no-access"}, 403, "PermissionDenied"),
    ],
)
def test_keys(server: Server, headers: dict[str, str], status: int, code: str | None) -> None:
    got, answer, told = ask(server.url, "GET", "/openai/v1/fine_tuning/jobs?api-version=v1", key=None, **headers)
    assert got == status
    assert told["x-request-id"] == told["apim-request-id"]
    assert "openai-organization" not in told
    if code:
        assert (set(answer), set(answer["error"]), answer["error"]["code"]) == ({"error"}, {"code", "message"}, code)
        assert "0123456789" not in json.dumps(answer)


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/openai/v1/fine_tuning/jobs/ftjob-none", 404, "notFound"),
        ("GET", "/openai/v1/fine_tuning/jobs?limit=0", 400, "invalidPayload"),
        ("GET", "/openai/v1/files/file-none", 404, "notFound"),
        ("PATCH", "/openai/v1/files", 405, "methodNotAllowed"),
        ("GET", "/v1/files", 404, "notFound"),
    ],
)
def test_refusals(server: Server, method: str, path: str, status: int, code: str) -> None:
    got, answer, _ = ask(server.url, method, path)
    assert (got, answer["error"]["code"]) == (status, code)


def test_no_quota_and_too_many_requests(server: Server, client: OpenAI, training: str) -> None:
    with pytest.raises(openai.RateLimitError) as refusal:
        client.fine_tuning.jobs.create(model=MODEL, training_file=training, suffix="quota")
    assert refusal.value.code == "quotaExceeded"
    server.sandbox.faults.lay(Fault(kind="rate_limit", on="list", seconds=2))
    with pytest.raises(openai.RateLimitError) as refusal:
        client.fine_tuning.jobs.list()
    assert (refusal.value.code, refusal.value.response.headers["retry-after"]) == ("429", "2")


def test_it_has_no_webhooks(server: Server, client: OpenAI, training: str) -> None:
    client.fine_tuning.jobs.cancel(client.fine_tuning.jobs.create(model=MODEL, training_file=training).id)
    server.sandbox.tick()
    assert isinstance(server.sandbox, WatchedAzure)
    assert server.sandbox.webhooks is None
    assert set(server.environment) == {
        "AZURE_OPENAI_ENDPOINT",
        "AZURE_OPENAI_API_KEY",
        "AZURE_MANAGEMENT_ENDPOINT",
        "AZURE_MANAGEMENT_TOKEN",
        "AZURE_SUBSCRIPTION_ID",
        "AZURE_RESOURCE_GROUP",
        "AZURE_OPENAI_ACCOUNT",
    }


def test_the_vendors_own_azure_client_finds_it_too(server: Server) -> None:
    told = server.environment
    with openai.AzureOpenAI(
        base_url=told["AZURE_OPENAI_ENDPOINT"] + "/openai/v1/",
        api_key=told["AZURE_OPENAI_API_KEY"],
        api_version="preview",
        max_retries=0,
    ) as client:
        assert client.fine_tuning.jobs.list().data == []
