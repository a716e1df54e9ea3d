"""The stand-in of Vertex AI and Cloud Storage: by Google's own packages, and by hand where they would not send it."""

import io
import json
import time
import urllib.error
import urllib.parse
import urllib.request
import warnings
from datetime import UTC, datetime, timedelta

import pytest

from finetune.sandbox.faults import Fault
from finetune.sandbox.vertex.jobs import Timing
from finetune.sandbox.vertex.rows import read
from finetune.sandbox.vertex.sandbox import VertexSandbox
from finetune.sandbox.vertex.words import _TABLE, crc32c
from tests.support.hosted import ROWS, served
from tests.support.hosted_vertex import CHUNK, JOBS, MODEL, OPEN_MODEL, PREFERRED, InOctober, Watched
from tests.wire.hosted.vertex_contract import ANSWERS, ERROR, OBJECT, STORAGE_ERROR, TUNING_JOB, faults

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", message="You are using a Python version", category=FutureWarning)
    from google.api_core import exceptions
    from google.cloud import storage
from google import genai
from google.auth.credentials import AnonymousCredentials
from google.genai import errors, types
from google.oauth2.credentials import Credentials

TRAIN = "gs://sandbox-bucket/train.jsonl"
ROW = ROWS["gemini"].replace("%d", "1") + "\n"
PREFERENCE = ROWS["gemini-preference"].replace("%d", "1") + "\n"
OPEN_ROW = '{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]}\n'
UPLOADS = "/upload/storage/v1/b/sandbox-bucket/o"


@pytest.fixture
def clock():
    """Of the stand-in; None: its own."""


@pytest.fixture
def server(clock):
    server = served(Watched(clock=clock))
    for name, row in (("train", ROW), ("preference", PREFERENCE), ("open", OPEN_ROW)):
        server.sandbox.storage.put("sandbox-bucket", f"{name}.jsonl", row.encode() * 12)
    yield server
    server.stop()
    assert not server.broken
    for operation, _, reply in server.sandbox.seen:
        if reply.status == 200 and reply.body != b"" and ANSWERS[operation] is not None:
            assert faults(reply.body, ANSWERS[operation]) == [], operation


def send(server, method, path, body=None, headers=None, key="sandbox-key"):
    """Status, headers and body of an answer; the body as JSON if it is that."""
    raw = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(server.url + path, raw, {"Content-Type": "application/json"}, method=method)
    for name, value in {**({"Authorization": f"Bearer {key}"} if key else {}), **(headers or {})}.items():
        request.add_header(name, value)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            status, got, told = answer.status, answer.read(), answer.headers
    except urllib.error.HTTPError as error:
        status, got, told = error.code, error.read(), error.headers
        error.close()
    try:
        return status, told, json.loads(got)
    except ValueError:
        return status, told, got


def job(**more):
    return {"baseModel": MODEL, "supervisedTuningSpec": {"trainingDatasetUri": TRAIN}, **more}


def hyper(**values):
    return job(supervisedTuningSpec={"trainingDatasetUri": TRAIN, "hyperParameters": values})


def preference(**values):
    spec = {"trainingDatasetUri": "gs://sandbox-bucket/preference.jsonl", "hyperParameters": values}
    return {"baseModel": PREFERRED, "preferenceOptimizationSpec": spec}


def open_job(**more):
    spec = {"trainingDatasetUri": "gs://sandbox-bucket/open.jsonl", **more.pop("spec", {})}
    return {"baseModel": OPEN_MODEL, "outputUri": "gs://sandbox-bucket/out", "supervisedTuningSpec": spec, **more}


def create(server, **more):
    status, _, made = send(server, "POST", JOBS, job(**more))
    assert status == 200, made
    return made


def look(server, name, version="v1beta1"):
    return send(server, "GET", f"/{version}/{name}")[2]


def tuning(server, key="sandbox-key"):
    options = types.HttpOptions(base_url=server.url, timeout=5000)
    place = {"project": "sandbox-project", "location": "us-central1"}
    return genai.Client(enterprise=True, credentials=Credentials(key), http_options=options, **place)


def bucket(server, credentials=None):
    client = storage.Client(
        project="sandbox-project",
        credentials=credentials or Credentials("sandbox-key"),
        client_options={"api_endpoint": server.url},
    )
    return client.bucket("sandbox-bucket")


# The life of a job.


def test_googles_own_package_takes_a_job_from_its_creation_to_its_model(server):
    client = tuning(server)
    labels, size = {"ft-run-key": "ft_x-a1"}, types.AdapterSize.ADAPTER_SIZE_FOUR
    config = types.CreateTuningJobConfig(
        tuned_model_display_name="bot", labels=labels, epoch_count=2, adapter_size=size
    )
    with warnings.catch_warnings():
        # Once a process, whoever is first.
        warnings.simplefilter("ignore", errors.ExperimentalWarning)
        made = client.tunings.tune(base_model=MODEL, training_dataset={"gcs_uri": TRAIN}, config=config)
    assert made.state == types.JobState.JOB_STATE_PENDING
    server.sandbox.clock.advance(60)
    ended = client.tunings.get(name=made.name)
    assert ended.has_succeeded
    assert ended.supervised_tuning_spec.hyper_parameters.epoch_count == 2
    assert [each.step for each in ended.tuned_model.checkpoints] == [3, 6]
    assert [each.name for each in client.tunings.list()] == [made.name]


def test_a_job_goes_through_every_phase(server):
    timing = server.sandbox.timing
    name = create(server)["name"]
    seen = []
    for seconds in (0, timing.pending, timing.quota, timing.dataset, timing.capacity, timing.tuning, timing.finishing):
        server.sandbox.clock.advance(seconds)
        told = look(server, name)
        seen.append((told["state"], told.get("tuningJobState")))
    running = "JOB_STATE_RUNNING"
    assert seen == [
        ("JOB_STATE_PENDING", None),
        (running, "TUNING_JOB_STATE_WAITING_FOR_QUOTA"),
        (running, "TUNING_JOB_STATE_PROCESSING_DATASET"),
        (running, "TUNING_JOB_STATE_WAITING_FOR_CAPACITY"),
        (running, "TUNING_JOB_STATE_TUNING"),
        (running, "TUNING_JOB_STATE_POST_PROCESSING"),
        ("JOB_STATE_SUCCEEDED", None),
    ]


def test_it_lasts_less_than_ten_seconds():
    timing = Timing()
    assert 5 < sum(vars(timing).values()) < 10
    assert timing.scaled(2).tuning == timing.tuning * 2


def test_steps_grow_while_it_is_tuned(server):
    name = create(server, **hyper(epochCount=4))["name"]
    server.sandbox.clock.advance(2.5)
    steps = []
    for _ in range(4):
        server.sandbox.clock.advance(0.8)
        steps.append(int(look(server, name)["tuningJobMetadata"]["completedStepCount"]))
    assert steps == sorted(steps)
    assert steps[0] < steps[-1] <= 12
    assert look(server, name)["tuningDataStats"]["supervisedTuningDataStats"]["tuningStepCount"] == "12"


def test_v1_has_no_phases(server):
    name = create(server)["name"]
    server.sandbox.clock.advance(4)
    assert look(server, name)["tuningJobState"] == "TUNING_JOB_STATE_TUNING"
    assert look(server, name, "v1").keys().isdisjoint({"tuningJobState", "tuningJobMetadata"})
    assert send(server, "GET", f"/v2/{name}")[0] == 404


def test_what_the_service_writes_is_dropped_from_a_request(server):
    made = create(server, name="mine", state="JOB_STATE_SUCCEEDED", createTime="x", tunedModel={"model": "m"}, error=1)
    assert made["state"] == "JOB_STATE_PENDING"
    assert made["name"] != "mine"


def test_both_spellings_null_and_numbers_as_text_are_taken(server):
    spec = {"training_dataset_uri": TRAIN, "hyper_parameters": {"epoch_count": "3"}, "tuning_mode": None}
    status, _, made = send(server, "POST", JOBS, {"base_model": MODEL, "supervised_tuning_spec": spec})
    assert status == 200
    assert made["supervisedTuningSpec"] == {"trainingDatasetUri": TRAIN, "hyperParameters": {"epochCount": "3"}}


@pytest.mark.parametrize("model", [MODEL, f"publishers/google/models/{MODEL}"])
def test_googles_models_by_both_names(server, model):
    assert create(server, baseModel=model)["baseModel"] == model


def test_one_checkpoint_or_one_an_epoch(server):
    spec = {"trainingDatasetUri": TRAIN, "exportLastCheckpointOnly": True}
    names = [create(server, supervisedTuningSpec=spec)["name"], create(server, **hyper(epochCount=5))["name"]]
    server.sandbox.clock.advance(60)
    last, all_of_them = (look(server, name)["tunedModel"] for name in names)
    assert "checkpoints" not in last
    assert len(all_of_them["checkpoints"]) == 5
    assert all_of_them["checkpoints"][-1]["endpoint"] == all_of_them["endpoint"]


@pytest.mark.parametrize("clock", [InOctober()], ids=["2026-10-01"])
def test_preferences_with_beta(server):
    status, _, made = send(server, "POST", JOBS, preference(beta=0.1, epochCount=1, adapterSize="ADAPTER_SIZE_SIXTEEN"))
    assert status == 200
    server.sandbox.clock.advance(60)
    ended = look(server, made["name"])
    assert ended["state"] == "JOB_STATE_SUCCEEDED"
    assert ended["tuningDataStats"]["preferenceOptimizationDataStats"]["tuningDatasetExampleCount"] == "12"


def test_open_models_take_a_rate_and_a_batch(server):
    numbers = {"learningRate": 1e-4, "batchSize": "2", "epochCount": 1}
    spec = {"hyperParameters": numbers, "tuningMode": "TUNING_MODE_FULL"}
    status, _, made = send(server, "POST", JOBS, open_job(spec=spec))
    assert status == 200
    server.sandbox.clock.advance(60)
    assert look(server, made["name"])["tuningDataStats"]["supervisedTuningDataStats"]["tuningStepCount"] == "6"


# What is refused.

WRONG = {
    "an unknown field": (job(colour="red"), "colour"),
    "an unknown field inside": (hyper(epochs=3), "epochs"),
    "a number for a name": (job(baseModel=5), "base_model"),
    "a text for a flag": (
        job(supervisedTuningSpec={"trainingDatasetUri": TRAIN, "exportLastCheckpointOnly": "yes"}),
        "export_last_checkpoint_only",
    ),
    "half an epoch": (hyper(epochCount=0.5), "epoch_count"),
    "no epoch": (hyper(epochCount=0), "epoch_count"),
    "epochs in words": (hyper(epochCount="three"), "epoch_count"),
    "a true epoch": (hyper(epochCount=True), "epoch_count"),
    "a rate in words": (hyper(learningRateMultiplier="big"), "learning_rate_multiplier"),
    "no multiplier": (hyper(learningRateMultiplier=0), "learning_rate_multiplier"),
    "both rates": (hyper(learningRateMultiplier=1, learningRate=0.1), "learning_rate"),
    "a rate for Google's own": (hyper(learningRate=0.1), "learning_rate"),
    "a batch for Google's own": (hyper(batchSize=4), "batch_size"),
    "a factor for an open one": (open_job(spec={"hyperParameters": {"learningRateMultiplier": 1}}), "multiplier"),
    "an open one without output": ({**open_job(), "outputUri": None}, "output_uri"),
    "an output nowhere": (open_job(outputUri="gs://another-bucket/out"), "another-bucket"),
    "an output for Google's own": (job(outputUri="gs://sandbox-bucket/out"), "output_uri"),
    "weights for Google's own": (job(customBaseModel="gs://sandbox-bucket/w"), "custom_base_model"),
    "all weights of Google's own": (
        job(supervisedTuningSpec={"trainingDatasetUri": TRAIN, "tuningMode": "TUNING_MODE_FULL"}),
        "tuning_mode",
    ),
    "an adapter of three": (hyper(adapterSize="ADAPTER_SIZE_THREE"), "adapter_size"),
    "an adapter as a number": (hyper(adapterSize=4), "adapter_size"),
    "too large for preferences": (preference(adapterSize="ADAPTER_SIZE_THIRTY_TWO"), "adapter_size"),
    "beta without preferences": (hyper(beta=0.1), "beta"),
    "no beta": (preference(beta=0), "beta"),
    "a rate for preferences": (preference(learningRate=0.1), "learningRate"),
    "preferences of an open one": ({**preference(), "baseModel": OPEN_MODEL}, "supervised"),
    "no model": ({"supervisedTuningSpec": {"trainingDatasetUri": TRAIN}}, "base_model"),
    "two models": (job(preTunedModel={"tunedModelName": "projects/p/locations/us-central1/models/1"}), "source_model"),
    "a tuned model elsewhere": (
        {
            "preTunedModel": {"tunedModelName": "projects/p/locations/asia-east1/models/1"},
            "supervisedTuningSpec": {"trainingDatasetUri": TRAIN},
        },
        "us-central1",
    ),
    "a model that is not tuned": (job(baseModel="gemini-1.0-pro"), "gemini-1.0-pro"),
    "no kind": ({"baseModel": MODEL}, "tuning_spec"),
    "two kinds": (job(preferenceOptimizationSpec={"trainingDatasetUri": TRAIN}), "tuning_spec"),
    "another kind": ({"baseModel": MODEL, "distillationSpec": {}}, "distillation_spec"),
    "no data": (job(supervisedTuningSpec={}), "training_dataset_uri"),
    "data that is not there": (job(supervisedTuningSpec={"trainingDatasetUri": "gs://sandbox-bucket/x"}), "x"),
    "data in another bucket": (job(supervisedTuningSpec={"trainingDatasetUri": "gs://other-bucket/x"}), "other-bucket"),
    "data on the web": (job(supervisedTuningSpec={"trainingDatasetUri": "https://a/b.jsonl"}), "gs://"),
    "validation that is not there": (
        job(supervisedTuningSpec={"trainingDatasetUri": TRAIN, "validationDatasetUri": "gs://sandbox-bucket/y"}),
        "validation_dataset_uri",
    ),
    "a long name": (job(tunedModelDisplayName="x" * 129), "display_name"),
    "a label in capitals": (job(labels={"Team": "a"}), "labels"),
    "a label's value in capitals": (job(labels={"team": "A"}), "labels"),
    "a label that begins with a digit": (job(labels={"1st": "a"}), "labels"),
    "a long label": (job(labels={"a": "x" * 65}), "labels"),
    "a label with a dot": (job(labels={"a.b": "x"}), "labels"),
    "a label that is a number": (job(labels={"a": 1}), "labels"),
    "many labels": (job(labels={f"l{number}": "x" for number in range(65)}), "labels"),
    "a key elsewhere": (
        job(encryptionSpec={"kmsKeyName": "projects/p/locations/asia-east1/keyRings/r/cryptoKeys/k"}),
        "us-central1",
    ),
    "an odd account": (job(serviceAccount="me"), "service_account"),
    "a list": ([], "object"),
}


@pytest.mark.parametrize("clock", [InOctober()], ids=["2026-10-01"])
@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_refused_as_google_does(server, case):
    body, told = WRONG[case]
    status, _, answer = send(server, "POST", JOBS, body)
    assert (status, answer["error"]["status"]) == (400, "INVALID_ARGUMENT")
    assert faults(answer, ERROR) == []
    assert told in answer["error"]["message"]
    assert server.sandbox.ledger() == []


def test_a_field_that_is_wrong_is_named_in_the_details(server):
    answer = send(server, "POST", JOBS, hyper(epochs=3))[2]
    (detail,) = answer["error"]["details"]
    assert detail["@type"] == "type.googleapis.com/google.rpc.BadRequest"
    assert detail["fieldViolations"][0]["field"] == "tuning_job.supervised_tuning_spec.hyper_parameters"


def test_no_json_is_refused(server):
    status, _, answer = send(server, "POST", JOBS, b"{")
    assert (status, answer["error"]["status"]) == (400, "INVALID_ARGUMENT")


def test_a_model_whose_day_has_come_is_gone(server):
    status, _, answer = send(server, "POST", JOBS, job(baseModel="gemini-2.5-flash"))
    assert (status, answer["error"]["status"]) == (404, "NOT_FOUND")


def test_a_day_that_is_only_promised_not_to_be_earlier_ends_nothing(server):
    server.sandbox.clock.advance(timedelta(days=365).total_seconds())
    create(server)


@pytest.mark.parametrize("location", ["europe-north1", "global", "mars"])
def test_a_region_without_tuning(server, location):
    status, _, answer = send(server, "POST", JOBS.replace("us-central1", location), job())
    assert (status, answer["error"]["status"]) == (404, "NOT_FOUND")
    assert faults(answer, ERROR) == []


def test_jobs_of_another_region_are_not_seen(server):
    name = create(server)["name"]
    elsewhere = JOBS.replace("us-central1", "europe-west4")
    assert send(server, "GET", elsewhere)[2] == {}
    assert send(server, "GET", f"{elsewhere}/{name.rpartition('/')[2]}")[0] == 404


def test_another_project_is_not_ours(server):
    status, _, answer = send(server, "GET", JOBS.replace("sandbox-project", "other"))
    assert (status, answer["error"]["status"]) == (403, "PERMISSION_DENIED")


def test_limits_are_taken_at_their_edge(server):
    labels = {f"l{number}": "x" * 64 for number in range(64)}
    made = create(server, tunedModelDisplayName="ü" * 128, labels={**labels, "l0": "größe_1-a"})
    assert len(made["labels"]) == 64


@pytest.mark.parametrize(
    ("key", "status", "word"),
    [
        ("sandbox-no-access", 403, "PERMISSION_DENIED"),
        ("ya29.real", 401, "UNAUTHENTICATED"),
        (None, 401, "UNAUTHENTICATED"),
    ],
)
def test_bad_credentials(server, key, status, word):
    got, _, answer = send(server, "GET", JOBS, key=key)
    assert (got, answer["error"]["status"]) == (status, word)
    assert faults(answer, ERROR) == []


def test_any_key_of_the_sandbox_is_taken(server):
    assert send(server, "GET", JOBS, key="sandbox-of-mine")[0] == 200


# Bad ends.


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ("", "no examples"),
        ("{\n", "line 1 is no JSON"),
        ("[]\n", "object"),
        (ROW + '{"contents": []}\n', "line 2: contents"),
        (ROW + "\n" + ROW, "line 2 is no JSON"),
        ('{"messages": [{"role": "user", "content": "x"}]}\n', "unknown fields: messages"),
        ('{"contents": [{"role": "user", "parts": [{"text": "x"}]}]}\n', "the model's"),
        ('{"contents": [{"role": "model", "parts": [{"text": "x"}]}]}\n', "user's"),
        ('{"contents": [{"role": "boss", "parts": [{"text": "x"}]}]}\n', "role"),
        ('{"contents": [{"role": "user", "parts": []}, {"role": "model", "parts": [{"text": "x"}]}]}\n', "parts"),
        ('{"contents": [{"role": "user", "parts": [{"words": "x"}]}, {"role": "model", "parts": []}]}\n', "part"),
        ('{"contents": [{"role": "user", "parts": [{"text": 1}]}, {"role": "model", "parts": []}]}\n', "text"),
        (ROW.replace("{", '{"systemInstruction": "be kind", ', 1), "content has role and parts"),
    ],
)
def test_rows_in_another_layout_end_the_job_while_the_dataset_is_read(server, rows, told):
    server.sandbox.storage.put("sandbox-bucket", "train.jsonl", rows.encode())
    name = create(server)["name"]
    server.sandbox.clock.advance(1.5)
    assert look(server, name)["tuningJobState"] == "TUNING_JOB_STATE_PROCESSING_DATASET"
    server.sandbox.clock.advance(1)
    ended = look(server, name)
    assert (ended["state"], ended["error"]["code"]) == ("JOB_STATE_FAILED", 3)
    assert told in ended["error"]["message"]


@pytest.mark.parametrize(
    ("row", "told"),
    [
        (ROW, "completions"),
        (PREFERENCE.replace('"score": 0', '"score": 1'), "score 1"),
        (PREFERENCE.replace('"score": 0', '"weight": 0'), "score and completion"),
        (PREFERENCE.replace('"role": "user"', '"role": "model"'), "user's"),
        (PREFERENCE.replace('"role": "model", "parts": [{"text": "No."}]', '"role": "user", "parts": []'), "role"),
    ],
)
def test_rows_of_preferences(row, told):
    assert told in " ".join(read(row.encode(), "gemini-preference").faults)
    assert read(PREFERENCE.encode(), "gemini-preference").faults == ()


@pytest.mark.parametrize(
    "row",
    [
        '{"messages": []}',
        '{"messages": [{"role": "model", "content": "x"}]}',
        '{"messages": [{"role": "user", "content": "x"}]}',
        '{"messages": [{"role": "assistant", "content": 5}]}',
        '{"prompt": "x", "completion": 5}',
        '{"prompt": "x"}',
    ],
)
def test_rows_of_open_models(row):
    assert read(row.encode(), "open").faults
    assert read(b'{"prompt": "a", "completion": "b"}\n' + OPEN_ROW.encode(), "open").faults == ()


def test_rows_with_tools_system_and_both_spellings_are_good():
    row = {
        "system_instruction": {"parts": [{"text": "x"}]},
        "tools": [],
        "contents": [
            {"role": "user", "parts": [{"text": "x"}, {"inline_data": {}}]},
            {"role": "model", "parts": [{"functionCall": {}}]},
            {"parts": [{"functionResponse": {}}]},
            {"role": "model", "parts": [{"text": "x", "thought": False}]},
        ],
    }
    assert read(json.dumps(row).encode(), "gemini").faults == ()


def test_too_many_rows_to_validate_with(server):
    server.sandbox.storage.put("sandbox-bucket", "many.jsonl", ROW.encode() * 1001)
    spec = {"trainingDatasetUri": TRAIN, "validationDatasetUri": "gs://sandbox-bucket/many.jsonl"}
    name = create(server, supervisedTuningSpec=spec)["name"]
    server.sandbox.clock.advance(60)
    assert "30%" in look(server, name)["error"]["message"]


@pytest.mark.parametrize(("display", "code", "tuned"), [("bot-fail-data", 3, False), ("bot-fail-train", 13, True)])
def test_ends_to_try_by_the_name(server, display, code, tuned):
    name = create(server, tunedModelDisplayName=display)["name"]
    server.sandbox.clock.advance(60)
    ended = look(server, name)
    assert (ended["state"], ended["error"]["code"]) == ("JOB_STATE_FAILED", code)
    assert ("tuningDataStats" in ended) == tuned
    assert ("tuningJobMetadata" in ended) == tuned


def test_no_quota(server):
    status, _, answer = send(server, "POST", JOBS, job(tunedModelDisplayName="quota"))
    assert (status, answer["error"]["status"]) == (429, "RESOURCE_EXHAUSTED")
    assert answer["error"]["details"][0]["reason"] == "RESOURCE_QUOTA_EXCEEDED"
    assert server.sandbox.ledger() == []


def test_an_odd_state_when_told_so(server):
    name = create(server)["name"]
    server.sandbox.faults.lay(Fault(kind="odd_state", on="retrieve"))
    odd = look(server, name)
    assert faults(odd, TUNING_JOB)
    server.sandbox.seen.pop()
    assert odd["state"] == "JOB_STATE_DREAMING"
    assert look(server, name)["state"] == "JOB_STATE_PENDING"


# Cancel.


def test_cancel_takes_a_moment_and_twice_is_the_same(server):
    server.sandbox.timing = Timing().scaled(10)
    name = create(server)["name"]
    server.sandbox.clock.advance(30)
    for _ in range(2):
        assert send(server, "POST", f"/v1beta1/{name}:cancel", {})[::2] == (200, {})
        assert look(server, name)["state"] == "JOB_STATE_CANCELLING"
        # The second wish puts nothing off.
        server.sandbox.clock.advance(server.sandbox.timing.cancelling * 0.6)
    assert not server.sandbox.ledger()[0].live
    ended = look(server, name)
    assert (ended["state"], ended["error"]["code"]) == ("JOB_STATE_CANCELLED", 1)
    assert "tunedModel" not in ended


@pytest.mark.parametrize("display", ["bot", "bot-fail-data"])
def test_what_has_ended_cannot_be_cancelled(server, display):
    name = create(server, tunedModelDisplayName=display)["name"]
    server.sandbox.clock.advance(60)
    before = look(server, name)
    status, _, answer = send(server, "POST", f"/v1beta1/{name}:cancel")
    assert (status, answer["error"]["status"]) == (400, "FAILED_PRECONDITION")
    assert look(server, name) == before


def test_a_job_cancelled_while_it_waits_has_never_begun(server):
    name = create(server)["name"]
    send(server, "POST", f"/v1beta1/{name}:cancel", {})
    server.sandbox.clock.advance(60)
    assert "startTime" not in look(server, name)


def test_an_unknown_job(server):
    for method, path in (("GET", f"{JOBS}/12"), ("POST", f"{JOBS}/12:cancel")):
        status, _, answer = send(server, method, path)
        assert (status, answer["error"]["status"]) == (404, "NOT_FOUND")


# Lists.


def test_pages_come_newest_first_and_new_jobs_shift_nothing(server):
    names = [create(server)["name"] for _ in range(5)]
    first = send(server, "GET", f"{JOBS}?pageSize=2")[2]
    create(server)
    rest = send(server, "GET", f"{JOBS}?pageSize=9&pageToken={first['nextPageToken']}")[2]
    assert [each["name"] for each in first["tuningJobs"] + rest["tuningJobs"]] == names[::-1]
    assert "nextPageToken" not in rest


def test_a_filter_by_labels(server):
    for number in range(3):
        create(server, labels={"team": "a", "number": str(number)})
    create(server)

    def found(wanted):
        query = urllib.parse.urlencode({"filter": wanted, "pageSize": 2})
        return [each["labels"]["number"] for each in send(server, "GET", f"{JOBS}?{query}")[2].get("tuningJobs", ())]

    assert found("labels.number=1") == ["1"]
    assert found('labels.team="a" AND labels.number = 2') == ["2"]
    assert found("labels.team:*") == ["2", "1"]
    assert found("labels.team=b") == []
    assert send(server, "GET", f"{JOBS}?filter=name%3D1")[0] == 400


def test_lists_may_lag(server):
    name = create(server)["name"]
    server.sandbox.faults.list_lag_s = 5
    assert send(server, "GET", JOBS)[2] == {}
    assert look(server, name)["name"] == name
    server.sandbox.clock.advance(6)
    assert len(send(server, "GET", JOBS)[2]["tuningJobs"]) == 1


@pytest.mark.parametrize("query", ["pageSize=x", "pageSize=-1", "pageToken=x", "orderBy=name"])
def test_odd_parameters_are_refused(server, query):
    status, _, answer = send(server, "GET", f"{JOBS}?{query}")
    assert (status, answer["error"]["status"]) == (400, "INVALID_ARGUMENT")


def test_the_ledger_has_every_job(server):
    create(server, labels={"ft-run-key": "ft_x-a1"})
    create(server)
    first, second = server.sandbox.ledger()
    assert (first.key, second.key) == ("ft_x-a1", None)
    assert first.live
    assert first.paid
    assert first.raw_state == "JOB_STATE_PENDING"


@pytest.mark.alone
def test_ten_thousand_jobs_are_no_burden():
    sandbox = VertexSandbox()
    server = served(sandbox)
    try:
        sandbox.storage.put("sandbox-bucket", "train.jsonl", ROW.encode() * 100)
        routes = {route.operation: route for route in sandbox.routes()}
        ask = _asker(routes, server)
        parts = {"version": "v1beta1", "project": "sandbox-project", "location": "us-central1"}
        body = json.dumps(job(labels={"ft-run-key": "x"})).encode()
        made = [ask("create", parts, body=body).body["name"] for _ in range(10_000)]
        begun = time.perf_counter()
        for name in made[:1000]:
            ask("retrieve", {**parts, "job": name.rpartition("/")[2]})
        retrieve_s = (time.perf_counter() - begun) / 1000
        begun = time.perf_counter()
        for _ in range(100):
            ask("list", parts, query="pageSize=10&pageToken=5000")
        list_s = (time.perf_counter() - begun) / 100
    finally:
        server.stop()
    # Far above what it takes, so that a busy machine does not matter, and far below a walk through all jobs.
    assert retrieve_s < 0.005
    assert list_s < 0.02


def _asker(routes, server):
    from finetune.sandbox.service import Request

    def ask(operation, parts, body=b"", query=""):
        route = routes[operation]
        request = Request(method=route.method, path="", query_text=query, headers={}, body=body, parts=parts)
        return route.answer(request)

    return ask


# The storage.


def test_the_storage_by_googles_own_package(server):
    own = bucket(server)
    blob = own.blob("ft/a b/train.jsonl")
    blob.upload_from_string(ROW, content_type="application/jsonl", if_generation_match=0)
    found = own.get_blob("ft/a b/train.jsonl")
    assert (found.size, found.content_type, found.md5_hash) == (len(ROW), "application/jsonl", blob.md5_hash)
    assert found.download_as_bytes() == ROW.encode()
    assert found.download_as_bytes(start=2, end=5) == ROW.encode()[2:6]
    found.delete()
    assert own.get_blob("ft/a b/train.jsonl") is None
    with pytest.raises(exceptions.NotFound):
        own.blob("ft/a b/train.jsonl").delete()


def test_only_the_first_writes_where_nothing_may_be(server):
    bucket(server).blob("x").upload_from_string("one", if_generation_match=0)
    with pytest.raises(exceptions.PreconditionFailed):
        bucket(server).blob("x").upload_from_string("two", if_generation_match=0)
    assert server.sandbox.storage.get("sandbox-bucket", "x").data == b"one"
    generation = bucket(server).get_blob("x").generation
    bucket(server).blob("x").upload_from_string("three", if_generation_match=generation)
    assert bucket(server).get_blob("x").generation > generation


def test_large_objects_come_in_chunks(server):
    content = bytes(range(256)) * 4 * 2500
    blob = bucket(server).blob("big", chunk_size=CHUNK * 4)
    blob.upload_from_file(io.BytesIO(content))
    assert bucket(server).get_blob("big").download_as_bytes() == content
    assert server.sandbox.operations().count("upload_part") == 3


def test_content_is_kept_to_the_byte(server):
    content = b"\r\n--x\r\n\n\r\r\n\x00\xff--\r\n"
    bucket(server).blob("x").upload_from_string(content)
    assert server.sandbox.storage.get("sandbox-bucket", "x").data == content


def test_names_are_listed_in_order_page_by_page(server):
    own = bucket(server)
    for name in ("ft/b", "ft/a", "other", "ft/c"):
        own.blob(name).upload_from_string("x")
    before = server.sandbox.operations().count("files")
    assert [each.name for each in own.client.list_blobs(own, prefix="ft/", page_size=1)] == ["ft/a", "ft/b", "ft/c"]
    assert server.sandbox.operations().count("files") - before == 3


def test_folders_are_listed_as_such(server):
    own = bucket(server)
    for name in ("a/1", "a/2", "a/b/3", "b/4", "c"):
        own.blob(name).upload_from_string("x")

    def listed(**more):
        found = own.client.list_blobs(own, delimiter="/", page_size=1, **more)
        return [each.name for each in found], sorted(found.prefixes)

    fixed = ["c", "open.jsonl", "preference.jsonl", "train.jsonl"]
    assert listed() == (fixed, ["a/", "b/"])
    assert listed(prefix="a/") == (["a/1", "a/2"], ["a/b/"])


def test_an_emulator_asks_for_no_name(server):
    bucket(server, AnonymousCredentials()).blob("x").upload_from_string("x")
    assert bucket(server, AnonymousCredentials()).exists()


def test_a_wrong_token_is_no_anonymous_one(server):
    path = "/storage/v1/b/sandbox-bucket/o"
    assert send(server, "GET", path, key="other")[0] == 401
    assert send(server, "GET", path, key="sandbox-no-access")[0] == 403
    assert send(server, "GET", path, key=None)[0] == 200


def test_an_unknown_bucket(server):
    for path in ("/storage/v1/b/other", "/storage/v1/b/other/o", "/storage/v1/b/other/o/x"):
        status, _, answer = send(server, "GET", path)
        assert status == 404
        assert faults(answer, STORAGE_ERROR) == []


def _begin(server, size, name="big", **more):
    path = f"{UPLOADS}?uploadType=resumable&name={name}"
    headers = {"X-Upload-Content-Length": str(size)}
    status, told, answer = send(server, "POST", path, more or None, headers)
    assert status == 200, answer
    return told["Location"].removeprefix(server.url)


def _put(server, place, piece, span):
    return send(server, "PUT", place, piece, {"Content-Range": span}, key=None)


def test_a_resumable_upload_tells_how_far_it_is(server):
    place = _begin(server, CHUNK + 5)
    assert _put(server, place, b"", f"bytes */{CHUNK + 5}")[0] == 308
    status, told, _ = _put(server, place, b"a" * CHUNK, f"bytes 0-{CHUNK - 1}/{CHUNK + 5}")
    assert (status, told["Range"]) == (308, f"bytes=0-{CHUNK - 1}")
    assert _put(server, place, b"", f"bytes */{CHUNK + 5}")[1]["Range"] == f"bytes=0-{CHUNK - 1}"
    status, _, made = _put(server, place, b"b" * 5, f"bytes {CHUNK}-{CHUNK + 4}/{CHUNK + 5}")
    assert status == 200
    assert faults(made, OBJECT) == []
    # Asked again, the end is told again.
    assert _put(server, place, b"", f"bytes */{CHUNK + 5}")[2]["md5Hash"] == made["md5Hash"]


def test_what_came_twice_counts_once(server):
    place = _begin(server, CHUNK * 2)
    for _ in range(2):
        _put(server, place, b"a" * CHUNK, f"bytes 0-{CHUNK - 1}/{CHUNK * 2}")
    _put(server, place, b"b" * CHUNK, f"bytes {CHUNK}-{CHUNK * 2 - 1}/{CHUNK * 2}")
    assert server.sandbox.storage.get("sandbox-bucket", "big").data == b"a" * CHUNK + b"b" * CHUNK


@pytest.mark.parametrize(
    ("piece", "span", "status"),
    [
        (b"abc", "bytes 0-2/10", 400),
        (b"abc", "bytes 0-5/10", 400),
        (b"abc", "bytes 5-7/8", 503),
        (b"abc", "bytes 0-2/3", 400),
        (b"abc", "octets 0-2/3", 400),
    ],
)
def test_odd_chunks_are_refused(server, piece, span, status):
    place = _begin(server, 10)
    got, _, answer = _put(server, place, piece, span)
    assert got == status
    assert faults(answer, STORAGE_ERROR) == []
    assert server.sandbox.storage.get("sandbox-bucket", "big") is None


def test_the_condition_of_an_upload_in_chunks_holds_at_its_end_too(server):
    path = f"{UPLOADS}?uploadType=resumable&name=big&ifGenerationMatch=0"
    place = send(server, "POST", path, None, {"X-Upload-Content-Length": "3"})[1]["Location"].removeprefix(server.url)
    server.sandbox.storage.put("sandbox-bucket", "big", b"other")
    assert _put(server, place, b"abc", "bytes 0-2/3")[0] == 412
    assert send(server, "POST", path)[0] == 412
    assert server.sandbox.storage.get("sandbox-bucket", "big").data == b"other"


def test_an_upload_is_over_after_a_week_and_a_made_up_one_never_was(server):
    place = _begin(server, 3)
    server.sandbox.clock.advance(8 * 86400)
    assert _put(server, place, b"abc", "bytes 0-2/3")[0] == 410
    assert _put(server, f"{UPLOADS}?uploadType=resumable&upload_id=x", b"abc", "bytes 0-2/3")[0] == 404


def test_a_wrong_checksum_is_refused(server):
    place = _begin(server, 3, md5Hash="1B2M2Y8AsgTpgAmY7PhCfg==")
    assert _put(server, place, b"abc", "bytes 0-2/3")[0] == 400


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (f"{UPLOADS}?uploadType=media&name=x", b"x"),
        (f"{UPLOADS}?uploadType=resumable", b"{}"),
        (f"{UPLOADS}?uploadType=resumable&name=x&colour=red", b"{}"),
        (f"{UPLOADS}?uploadType=resumable", b'{"name": "x", "size": "3"}'),
        (f"{UPLOADS}?uploadType=resumable", b"x"),
        (f"{UPLOADS}?uploadType=multipart", b"x"),
    ],
)
def test_odd_inserts_are_refused(server, path, body):
    status, _, answer = send(server, "POST", path, body)
    assert status == 400
    assert faults(answer, STORAGE_ERROR) == []


@pytest.mark.parametrize("query", ["maxResults=0", "maxResults=x", "pageToken=%C3%BC", "colour=red"])
def test_odd_lists_are_refused(server, query):
    assert send(server, "GET", f"/storage/v1/b/sandbox-bucket/o?{query}")[0] == 400


def test_the_checksum_is_castagnolis_with_googles_package_and_without(monkeypatch):
    # RFC 3720, appendix B.4: 32 bytes of zeros give aa 36 91 8a, least significant byte first.
    known = "ipE2qg=="
    assert crc32c(bytes(32)) == known
    monkeypatch.setitem(__import__("sys").modules, "google_crc32c", None)
    assert crc32c(bytes(32)) == known
    assert len(set(_TABLE)) == 256


def test_times_are_the_stand_ins_own(server):
    made = create(server)
    assert datetime.fromisoformat(made["createTime"]) <= datetime.now(UTC) + timedelta(seconds=1)


def test_the_environment_leads_here(server):
    assert server.environment == {
        "GOOGLE_VERTEX_BASE_URL": server.url,
        "STORAGE_EMULATOR_HOST": server.url,
        "GOOGLE_CLOUD_PROJECT": "sandbox-project",
        "GOOGLE_CLOUD_LOCATION": "us-central1",
        "FT_VERTEX_BUCKET": "sandbox-bucket",
        "CLOUDSDK_AUTH_ACCESS_TOKEN": "sandbox-key",
    }
