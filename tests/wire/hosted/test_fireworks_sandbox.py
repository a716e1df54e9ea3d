"""Fireworks' stand-in, driven by bare HTTP: what it takes, what it refuses, and what becomes of a job."""

import json
import time

import httpx
import pytest

from finetune.sandbox.faults import Fault
from finetune.sandbox.fireworks.jobs import Timing
from finetune.sandbox.fireworks.sandbox import FireworksSandbox
from finetune.sandbox.server import Server
from tests.support.hosted import ROWS
from tests.wire.hosted.fireworks_contract import Watched

BASE = "accounts/fireworks/models/qwen3-0p6b"
ACCOUNT = "/v1/accounts/sandbox"
SFT, DPO = "supervisedFineTuningJobs", "dpoJobs"
TIMING = Timing(creating_s=10, validating_s=50, pending_s=40, running_s=1000, writing_s=10)
NAMES = {"chat": "fireworks", "preference": "fireworks-dpo"}


class Bench:
    """The stand-in and a bare client."""

    def __init__(self, **more):
        self.sandbox = Watched(**{"timing": TIMING, **more})
        self.server = Server(self.sandbox)
        self.server.start()
        # Certificates take a tenth of a second to load, and nothing here is encrypted.
        self.bare = httpx.Client(verify=False)
        self.key = "sandbox-key"

    def ask(self, method, path, body=None, **query):
        headers = {"Authorization": f"Bearer {self.key}"}
        return self.bare.request(method, self.server.url + path, params=query or None, json=body, headers=headers)

    def made(self, name="rows", count="12", **dataset):
        body = {"datasetId": name, "dataset": {"userUploaded": {}, "exampleCount": count, **dataset}}
        return self.ask("POST", f"{ACCOUNT}/datasets", body)

    def place(self, size, name="rows", file="a.jsonl"):
        body = {"filenameToSize": {file: str(size)}}
        told = self.ask("POST", f"{ACCOUNT}/datasets/{name}:getUploadEndpoint", body)
        return told.json()["filenameToSignedUrls"][file] if told.status_code == 200 else told

    def put(self, url, content, size=None, **headers):
        sized = f"{len(content) if size is None else size}," * 2
        signed = {"Content-Type": "application/octet-stream", "X-Goog-Content-Length-Range": sized[:-1]}
        return self.bare.put(url, content=content, headers={**signed, **headers})

    def validate(self, name="rows", body=None):
        return self.ask("POST", f"{ACCOUNT}/datasets/{name}:validateUpload", {} if body is None else body)

    def dataset(self, name="rows"):
        return self.ask("GET", f"{ACCOUNT}/datasets/{name}").json()

    def filled(self, content, name="rows", count="12"):
        assert self.made(name, count).status_code == 200
        assert self.put(self.place(len(content), name), content).status_code == 200
        return self.validate(name)

    def ready(self, kind="chat", name="rows", count=12):
        row = ROWS[NAMES[kind]].replace("%d", "7") + "\n"
        assert self.filled(row.encode() * count, name, str(count)).status_code == 200
        return f"accounts/sandbox/datasets/{name}"

    def create(self, chosen="mine", kind=SFT, **more):
        body = {"dataset": "accounts/sandbox/datasets/rows", "baseModel": BASE, **more}
        body = {key: value for key, value in body.items() if value is not None}
        parameter = {SFT: "supervisedFineTuningJobId", DPO: "dpoJobId"}[kind]
        return self.ask("POST", f"{ACCOUNT}/{kind}", body, **({parameter: chosen} if chosen else {}))

    def job(self, chosen="mine", kind=SFT):
        return self.ask("GET", f"{ACCOUNT}/{kind}/{chosen}").json()

    def cancel(self, chosen="mine", kind=SFT, body=None):
        return self.ask("POST", f"{ACCOUNT}/{kind}/{chosen}:cancel", {} if body is None else body)

    def after(self, seconds):
        self.sandbox.clock.advance(seconds)

    def stop(self):
        self.bare.close()
        self.server.stop()
        assert self.server.broken == []
        assert self.sandbox.violations == []


@pytest.fixture
def benches():
    made = []

    def make(**more):
        made.append(Bench(**more))
        return made[-1]

    yield make
    for each in made:
        each.stop()


@pytest.fixture
def bench(benches):
    return benches()


def refused(answer, status, code, words):
    told = answer.json()
    assert (answer.status_code, told["code"]) == (status, code), told
    assert words in told["message"]


def test_a_job_through_its_life(bench):
    data = bench.ready()
    made = bench.create(epochs=2, batchSizeSamples=4, displayName="shown").json()
    assert (made["name"], made["state"]) == (f"accounts/sandbox/{SFT}/mine", "JOB_STATE_CREATING")
    assert (made["dataset"], made["outputModel"]) == (data, "accounts/sandbox/models/mine")
    assert made["estimatedCost"] == {"currencyCode": "USD", "units": "0", "nanos": 312_000}
    assert "metricsFileSignedUrl" not in made
    states = []
    for seconds in (11, 50, 40, 1000, 10):
        bench.after(seconds)
        states.append(bench.job()["state"].removeprefix("JOB_STATE_"))
    assert states == ["VALIDATING", "PENDING", "RUNNING", "WRITING_RESULTS", "COMPLETED"]
    ended = bench.job()
    assert ended["completedTime"] == ended["updateTime"] > ended["createTime"]
    assert ended["jobProgress"] == {"percent": 100, "epoch": 2}
    rows = [json.loads(line) for line in bench.bare.get(ended["metricsFileSignedUrl"]).text.splitlines()]
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert rows[-1]["train/total_tokens"] == 624
    assert rows[-1]["train/loss"] < rows[0]["train/loss"]


def test_measured_values_grow_with_the_training(bench):
    bench.ready()
    bench.create(batchSizeSamples=1)
    bench.after(101)
    url = bench.job()["metricsFileSignedUrl"]
    assert bench.bare.get(url).status_code == 404
    bench.after(500)
    assert len(bench.bare.get(url).text.splitlines()) == 6
    assert bench.job()["jobProgress"]["percent"] == 50


def test_a_preference_job(bench):
    bench.ready("preference")
    training = {"baseModel": BASE, "epochs": 1, "loraRank": 16}
    told = bench.create(
        kind=DPO, baseModel=None, trainingConfig=training, lossConfig={"method": "DPO", "dpo": {"beta": 0.1}}
    ).json()
    assert told["trainingConfig"] == {**training, "outputModel": "accounts/sandbox/models/mine"}
    path = f"{ACCOUNT}/{DPO}/mine:getMetricsFileEndpoint"
    refused(bench.ask("GET", path), 404, 5, "metrics file")
    bench.after(2000)
    told = bench.job(kind=DPO)
    assert (told["state"], "estimatedCost" in told) == ("JOB_STATE_COMPLETED", False)
    assert bench.bare.get(bench.ask("GET", path).json()["signedUrl"]).text.count("\n") == 2


@pytest.mark.parametrize(("kind", "other"), [(SFT, "preference"), (DPO, "chat")])
def test_rows_of_the_other_kind(bench, kind, other):
    bench.ready(other)
    more = {} if kind == SFT else {"baseModel": None, "trainingConfig": {"baseModel": BASE}}
    refused(bench.create(kind=kind, **more), 400, 3, "rows of another kind")


def test_an_id_is_taken_for_good(bench):
    bench.ready()
    assert bench.create().status_code == 200
    refused(bench.create(), 409, 6, "already exists")
    bench.cancel()
    bench.after(1)
    refused(bench.create(), 409, 6, "already exists")
    refused(bench.create("other", outputModel="mine"), 409, 6, "models/mine already exists")
    assert len(bench.sandbox.ledger()) == 1


def test_two_at_once_make_one(bench):
    import threading

    bench.ready()
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(bench.create().status_code)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [200] + [409] * 7
    assert len(bench.sandbox.ledger()) == 1


def test_without_a_chosen_id_each_is_another(bench):
    bench.ready()
    assert bench.create(None).json()["name"] != bench.create(None).json()["name"]


@pytest.mark.parametrize("chosen", ["Mine", "my_job", "-x", "x-", "1x", "a" * 64, "a/b"])
def test_ids_that_are_none(bench, chosen):
    bench.ready()
    refused(bench.create(chosen), 400, 3, "id: String should match pattern")


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"baseModel": "accounts/fireworks/models/other"}, "not found, or not tunable"),
        ({"baseModel": None}, "exactly one of baseModel and warmStartFrom"),
        ({"warmStartFrom": "accounts/sandbox/models/x"}, "exactly one of baseModel and warmStartFrom"),
        ({"baseModel": None, "warmStartFrom": "accounts/sandbox/models/x"}, "models/x not found"),
        ({"dataset": "rows"}, "dataset rows not found"),
        ({"evaluationDataset": "accounts/sandbox/datasets/none"}, "datasets/none not found"),
        ({"epochs": 0}, "epochs"),
        ({"epochs": "1"}, "epochs"),
        ({"loraRank": 3}, "loraRank"),
        ({"loraRank": 65}, "loraRank"),
        ({"learningRate": -1}, "learningRate"),
        ({"earlyStop": True}, "earlyStop: Extra inputs"),
        ({"jinjaTemplate": "x"}, "jinjaTemplate: Extra inputs"),
        ({"unknown": 1}, "unknown: Extra inputs"),
    ],
)
def test_bodies_that_are_refused(bench, more, words):
    bench.ready()
    refused(bench.create(**more), 400, 3, words)
    assert bench.sandbox.ledger() == []


@pytest.mark.parametrize("beta", [0, 0.5, "a"])
def test_a_beta_out_of_bounds(bench, beta):
    bench.ready("preference")
    training, loss = {"baseModel": BASE}, {"method": "DPO", "dpo": {"beta": beta}}
    refused(bench.create(kind=DPO, baseModel=None, trainingConfig=training, lossConfig=loss), 400, 3, "beta")


def test_a_model_that_was_tuned_may_be_tuned_on(bench):
    bench.ready()
    bench.create()
    bench.after(2000)
    assert bench.create("more", baseModel=None, warmStartFrom="accounts/sandbox/models/mine").status_code == 200


def test_a_secret_is_not_told_again(bench):
    bench.ready()
    wandb = {"enabled": True, "apiKey": "very-secret", "project": "p"}
    answer = bench.create(wandbConfig=wandb)
    assert answer.json()["wandbConfig"]["project"] == "p"
    assert "very-secret" not in answer.text + json.dumps(bench.job())
    assert "very-secret" not in bench.create("x", wandbConfig={**wandb, "enabled": "very-secret"}).text


@pytest.mark.parametrize("when_s", [0, 30, 500])
def test_a_cancel(bench, when_s):
    bench.ready()
    bench.create()
    bench.after(when_s)
    assert bench.cancel().json() == {}
    assert bench.job()["state"] == "JOB_STATE_CANCELLING"
    assert [entry.live for entry in bench.sandbox.ledger()] == [False]
    assert bench.cancel().status_code == 200
    bench.after(1)
    assert bench.job()["state"] == "JOB_STATE_CANCELLED"
    refused(bench.cancel(), 400, 9, "JOB_STATE_CANCELLED")
    refused(bench.cancel(body={"x": 1}), 400, 3, "x: Extra inputs")
    bench.after(3000)
    refused(bench.ask("GET", f"{ACCOUNT}/models/mine"), 404, 5, "models/mine not found")


@pytest.mark.parametrize(
    ("wish", "state", "code"),
    [("fail-data", "JOB_STATE_FAILED", "INVALID_ARGUMENT"), ("fail-train", "JOB_STATE_FAILED", "INTERNAL")],
)
@pytest.mark.parametrize("where", ["name", "data"])
def test_jobs_that_go_badly_when_told_to(bench, wish, state, code, where):
    if where == "name":
        bench.ready()
        bench.create(displayName=f"x-{wish}")
    else:
        row = ROWS["fireworks"].replace("%d", f"sandbox:{wish}") + "\n"
        bench.filled(row.encode() * 12)
        bench.create()
    bench.after(2000)
    told = bench.job()
    assert (told["state"], told["status"]["code"]) == (state, code)
    refused(bench.ask("GET", f"{ACCOUNT}/models/mine"), 404, 5, "not found")


def test_no_credit(bench):
    bench.ready()
    refused(bench.create(displayName="quota"), 429, 8, "spend limit")


# Data.


def test_data_is_ready_when_it_was_looked_at(bench):
    bench.made(displayName="shown")
    assert (bench.dataset()["state"], bench.dataset()["displayName"]) == ("UPLOADING", "shown")
    refused(bench.made(), 409, 6, "already exists")
    refused(bench.create(), 400, 9, "is not READY")
    refused(bench.validate(), 400, 9, "files that were not uploaded")
    content = (ROWS["fireworks"].replace("%d", "7") + "\n").encode() * 12
    bench.put(bench.place(len(content)), content)
    assert bench.dataset()["state"] == "UPLOADING"
    assert bench.validate().json() == {}
    told = bench.dataset()
    assert (told["state"], told["exampleCount"], told["estimatedTokenCount"]) == ("READY", "12", "312")
    assert bench.validate().status_code == 200
    refused(bench.place(9), 400, 9, "is READY")


def test_a_check_that_takes_its_time(benches):
    from dataclasses import replace

    bench = benches(timing=replace(TIMING, checking_s=30))
    bench.ready()
    assert bench.dataset()["state"] == "UPLOADING"
    bench.after(31)
    assert bench.dataset()["state"] == "READY"
    assert bench.filled(b"{}\n" * 12, "bad").status_code == 200
    bench.after(31)
    told = bench.dataset("bad")
    assert (told["state"], told["status"]["code"]) == ("UPLOADING", "INVALID_ARGUMENT")
    assert "line 1" in told["status"]["message"]


GOOD = json.loads(ROWS["fireworks"].replace("%d", "7"))
PAIR = json.loads(ROWS["fireworks-dpo"].replace("%d", "7"))
USER, ANSWER = {"role": "user", "content": "u"}, {"role": "assistant", "content": "a"}


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"messages": []}, "messages is not a list"),
        ({"messages": [USER]}, "the last message is not the assistant's"),
        ({"messages": [ANSWER]}, "the first message is not the user's"),
        ({"messages": [USER, USER, ANSWER]}, "two messages of the same side"),
        ({"messages": [USER, {"role": "system", "content": "s"}, ANSWER]}, "a system message that is not the first"),
        ({"messages": [{"role": "developer", "content": "s"}, USER, ANSWER]}, "a message without a role"),
        ({"messages": [USER, {"role": "assistant", "content": ""}]}, "a message without content"),
        ({"messages": [USER, {**ANSWER, "weight": 2}]}, "a weight that is neither"),
        ({**GOOD, "more": 1}, "the row has the unknown key more"),
        ({"text": "x"}, "the row has the unknown key text"),
        ({}, "neither messages nor an input"),
        ({**PAIR, "input": {"messages": [USER, USER]}}, "the input has not one question"),
        ({**PAIR, "preferred_output": [ANSWER, ANSWER]}, "preferred_output is not one message"),
        ({**PAIR, "non_preferred_output": []}, "messages is not a list"),
        ([], "not a JSON object"),
    ],
)
def test_rows_that_are_refused(bench, row, words):
    content = f"{json.dumps(GOOD)}\n{json.dumps(row)}\n{json.dumps(GOOD)}\n".encode()
    refused(bench.filled(content, count="3"), 400, 3, f"line 2: {words}")


@pytest.mark.parametrize(
    ("content", "count", "words"),
    [
        (f"{json.dumps(GOOD)}\n" * 2, "2", "2 examples"),
        (f"{json.dumps(GOOD)}\n" * 3, "4", "exampleCount is 4"),
        (f"{json.dumps(GOOD)}\n" * 3 + f"{json.dumps(PAIR)}\n", "4", "conversations and preferences"),
        (f"{json.dumps(GOOD)}\n" * 3 + "{\n", "4", "line 4: not a JSON value"),
    ],
)
def test_data_that_is_refused(bench, content, count, words):
    refused(bench.filled(content.encode(), count=count), 400, 3, words)


def test_signed_addresses(bench):
    bench.made()
    url = bench.place(5)
    assert bench.put(url, b"12345", Authorization="Bearer sandbox-key").status_code == 400
    assert bench.put(url, b"12345", size=6).status_code == 403
    assert bench.put(url, b"1234", size=5).status_code == 400
    assert bench.put(url, b"12345", **{"Content-Type": "text/plain"}).status_code == 403
    assert bench.put(url.partition("?")[0], b"12345").status_code == 403
    assert bench.put(url.replace("/storage/", "/storage/0"), b"12345").status_code == 403
    assert bench.bare.get(url).status_code == 403
    assert bench.put(url, b"12345").status_code == 200
    bench.after(3601)
    answer = bench.put(url, b"12345")
    assert (answer.status_code, answer.headers["content-type"]) == (400, "application/xml")
    assert "ExpiredToken" in answer.text


@pytest.mark.parametrize(("file", "size"), [("a.txt", 5), ("x/a.jsonl", 5), ("a.jsonl", 0)])
def test_files_that_are_refused(bench, file, size):
    bench.made()
    refused(bench.place(size, file=file), 400, 3, "ends with .jsonl")


def test_a_new_upload_endpoint_forgets_the_files_before(bench):
    bench.made()
    bench.put(bench.place(5), b"12345")
    bench.place(6, file="b.jsonl")
    refused(bench.validate(), 400, 9, "files that were not uploaded")


def test_a_deleted_dataset_is_gone(bench):
    bench.ready()
    assert bench.ask("DELETE", f"{ACCOUNT}/datasets/rows").json() == {}
    refused(bench.ask("DELETE", f"{ACCOUNT}/datasets/rows"), 404, 5, "datasets/rows not found")
    refused(bench.create(), 400, 3, "not found")


def test_lists_page_by_page(bench):
    bench.ready()
    for number in range(5):
        bench.create(f"j{number}")
    pages, token = [], ""
    while True:
        query = {"pageSize": "2", **({"pageToken": token} if token else {})}
        told = bench.ask("GET", f"{ACCOUNT}/{SFT}", **query).json()
        pages.append([row["name"].rpartition("/")[2] for row in told[SFT]])
        token = told.get("nextPageToken")
        if not token:
            break
    assert pages == [["j0", "j1"], ["j2", "j3"], ["j4"]]
    assert told["totalSize"] == 5
    assert bench.ask("GET", f"{ACCOUNT}/{DPO}").json() == {DPO: [], "totalSize": 0}
    refused(bench.ask("GET", f"{ACCOUNT}/{SFT}", unknown="1"), 400, 3, "unknown")


def test_a_young_job_is_not_shown_while_things_lag(bench):
    bench.ready()
    bench.sandbox.faults.list_lag_s = 30
    bench.create()
    refused(bench.ask("GET", f"{ACCOUNT}/{SFT}/mine"), 404, 5, "not found")
    refused(bench.create(), 409, 6, "already exists")
    bench.after(31)
    assert bench.job()["state"] == "JOB_STATE_VALIDATING"


# Weights.


def test_the_weights(bench):
    from safetensors.numpy import load

    bench.ready()
    bench.create(loraRank=4)
    bench.after(2000)
    told = bench.ask("GET", f"{ACCOUNT}/models/mine").json()
    assert (told["kind"], told["state"], told["peftDetails"]["r"]) == ("HF_PEFT_ADDON", "READY", 4)
    assert told["fineTuningJob"] == f"accounts/sandbox/{SFT}/mine"
    urls = bench.ask("GET", f"{ACCOUNT}/models/mine:getDownloadEndpoint").json()["filenameToSignedUrls"]
    config = bench.bare.get(urls["mine/adapter_config.json"]).json()
    assert (config["peft_type"], config["r"], config["base_model_name_or_path"]) == ("LORA", 4, BASE)
    tensors = load(bench.bare.get(urls["mine/adapter_model.safetensors"]).content)
    assert {tensor.shape for tensor in tensors.values()} == {(4, 4)}
    assert abs(next(iter(tensors.values()))).max() < 0.02


def test_base_models_are_told_and_not_given_away(bench):
    told = bench.ask("GET", f"/v1/{BASE}").json()
    assert told["huggingFaceUrl"] == "https://huggingface.co/Qwen/Qwen3-0.6B"
    refused(bench.ask("GET", f"/v1/{BASE}:getDownloadEndpoint"), 403, 7, "no access")


# Who may.


@pytest.mark.parametrize(("key", "status", "code"), [("x", 401, 16), ("sandbox-no-access", 403, 7)])
def test_keys(bench, key, status, code):
    bench.key = key
    refused(bench.ask("GET", f"{ACCOUNT}/datasets"), status, code, "API key")


def test_other_accounts(bench):
    assert bench.ask("GET", ACCOUNT).json()["suspendState"] == "UNSUSPENDED"
    refused(bench.ask("GET", "/v1/accounts/other/datasets"), 403, 7, "accounts/other")
    refused(bench.ask("GET", "/v1/accounts/fireworks"), 403, 7, "accounts/fireworks")


def test_paths_bodies_and_queries_that_are_none(bench):
    refused(bench.ask("GET", "/v1/nothing"), 404, 5, "unknown path")
    refused(bench.ask("PATCH", f"{ACCOUNT}/datasets/rows"), 405, 12, "not allowed")
    refused(bench.ask("GET", ACCOUNT, x="1"), 400, 3, "unknown query parameter x")
    url, headers = f"{bench.server.url}{ACCOUNT}/datasets", {"Authorization": "Bearer sandbox-key"}
    refused(bench.bare.post(url, content=b"{", headers=headers), 400, 3, "the body is no JSON")


def test_faults_speak_the_vendors_language(bench):
    bench.ready()
    for kind, status, code in (("rate_limit", 429, 8), ("server_error", 500, 13), ("unavailable", 503, 14)):
        bench.sandbox.faults.lay(Fault(kind=kind, on="create"))
        refused(bench.create(), status, code, "told to fail")
    assert bench.sandbox.ledger() == []


def test_where_clients_are_sent():
    assert FireworksSandbox().environment("http://x") == {
        "FIREWORKS_BASE_URL": "http://x",
        "FIREWORKS_API_KEY": "sandbox-key",
        "FIREWORKS_ACCOUNT_ID": "sandbox",
    }


def test_a_thousand_jobs_are_no_burden(bench):
    bench.ready()
    begun = time.monotonic()
    for number in range(1000):
        bench.sandbox._create(
            SFT, _request(f"j{number}"), {"dataset": "accounts/sandbox/datasets/rows", "baseModel": BASE}
        )
    assert time.monotonic() - begun < 5
    assert len(bench.sandbox.ledger()) == 1000


def _request(chosen):
    from finetune.sandbox.service import Request

    query = f"supervisedFineTuningJobId={chosen}"
    return Request(method="POST", path="", query_text=query, headers={}, body=b"", parts={"account": "sandbox"})
