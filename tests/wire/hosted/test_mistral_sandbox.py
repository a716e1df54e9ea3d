"""Mistral's stand-in, driven by the vendor's own package, and by bare HTTP for what that would not send."""

import json
import time
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from finetune.sandbox.faults import Fault
from finetune.sandbox.mistral.cost import by_tokens, cost, sized
from finetune.sandbox.mistral.jobs import Timing
from finetune.sandbox.mistral.sandbox import MODELS
from finetune.sandbox.server import Server
from tests.support.hosted import ROWS
from tests.wire.hosted.mistral_contract import Watched

SEVEN_B = "open-mistral-7b"
ROW = ROWS["mistral"].replace("%d", "7") + "\n"
TIMING = Timing(queued_s=10, validating_s=100, running_s=1000)


class Bench:
    """The stand-in, the vendor's package, and a bare client."""

    def __init__(self, key="sandbox-key", **more):
        self.sandbox = Watched(**{"timing": TIMING, **more})
        self.server = Server(self.sandbox)
        self.server.start()
        self.key = key
        # Certificates take a tenth of a second to load, and nothing here is encrypted.
        headers = {"Authorization": f"Bearer {key}"}
        self.http = httpx.Client(base_url=self.server.url, headers=headers, verify=False)

    def package(self, key=None):
        from mistralai.client import Mistral

        class NoClient:
            async def send(self, *args, **more): ...

            def build_request(self, *args, **more): ...

            async def aclose(self): ...

        return Mistral(api_key=key or self.key, server_url=self.server.url, client=self.http, async_client=NoClient())

    def upload(self, content=ROW * 12, name="a.jsonl", **fields):
        form = {"purpose": "fine-tune", **fields}
        return self.http.post("/v1/files", data=form, files={"file": (name, content, "application/jsonl")})

    def body(self, **more):
        body = {"model": "ministral-3b-latest", "hyperparameters": {}, "auto_start": False, **more}
        return body if "training_files" in body else {**body, "training_files": [{"file_id": self.file}]}

    def create(self, query="", **more):
        return self.http.post(f"/v1/fine_tuning/jobs{query}", json=self.body(**more))

    def job(self, **more):
        return self.create(**more).json()["id"]

    def get(self, job_id):
        return self.http.get(f"/v1/fine_tuning/jobs/{job_id}").json()

    def status(self, job_id):
        return self.get(job_id)["status"]

    def post(self, job_id, wish):
        return self.http.post(f"/v1/fine_tuning/jobs/{job_id}/{wish}")

    def listed(self, **query):
        return self.http.get("/v1/fine_tuning/jobs", params=query)

    def after(self, seconds):
        self.sandbox.clock.advance(seconds)

    @property
    def file(self):
        if not hasattr(self, "_file"):
            self._file = self.upload().json()["id"]
        return self._file


@pytest.fixture
def bench():
    made = Bench()
    yield made
    made.http.close()
    made.server.stop()
    assert made.server.broken == []
    assert made.sandbox.violations == []


def test_the_vendors_package_takes_a_job_through_its_life(bench):
    mistral = bench.package()
    jobs = mistral.fine_tuning.jobs
    file = mistral.files.upload(file={"file_name": "a.jsonl", "content": ROW.encode() * 12}, purpose="fine-tune")
    made = jobs.create(
        model=SEVEN_B,
        training_files=[{"file_id": file.id}],
        hyperparameters={"training_steps": 10},
        suffix="ft_abc-a1",
        auto_start=False,
    )
    assert (made.status, made.metadata.cost, made.suffix) == ("QUEUED", None, "ft_abc-a1")
    bench.after(11)
    assert jobs.get(job_id=made.id).status == "VALIDATING"
    bench.after(100)
    told = jobs.get(job_id=made.id)
    assert (told.status, told.metadata.cost, told.metadata.cost_currency) == ("VALIDATED", 4.0, "USD")
    assert told.metadata.train_tokens == 1_310_720
    bench.after(100_000)
    assert jobs.get(job_id=made.id).status == "VALIDATED"
    assert jobs.start(job_id=made.id).status == "STARTED"
    bench.after(11)
    assert jobs.get(job_id=made.id).status == "RUNNING"
    bench.after(1000)
    ended = jobs.get(job_id=made.id)
    assert ended.status == "SUCCESS"
    day = datetime.fromtimestamp(ended.modified_at, UTC).strftime("%Y%m%d")
    assert ended.fine_tuned_model == f"ft:open-mistral-7b:5a4db0c5:{day}:ft_abc-a1:{made.id[:8]}"
    assert ended.trained_tokens == 1_310_720
    told = [event.data["status"] for event in ended.events]
    assert told == ["SUCCESS", "RUNNING", "STARTED", "VALIDATED", "VALIDATING", "QUEUED"]
    assert mistral.files.delete(file_id=file.id).deleted is True


def test_what_the_vendor_published_of_a_price():
    # A job in its cookbook of July 2024: ten steps of open-mistral-7b over 30,344,845 tokens, 2.6214 USD.
    size = sized(30_344_845, steps=10, epochs=None)
    assert size.train_tokens == 1_310_720
    assert size.epochs == pytest.approx(0.0431941570306258, abs=1e-15)
    assert by_tokens(SEVEN_B, size.train_tokens) == 2.6214
    assert cost(SEVEN_B, size.train_tokens) == 4.0
    assert cost(SEVEN_B, 13_107_200) == 26.2144
    assert cost("mistral-large-latest", 13_107_200) == 4.0


@pytest.mark.parametrize(
    ("steps", "epochs", "wanted"),
    [(7, None, 7), (None, 3, 3), (None, 3.1, 4), (None, 1e-9, 1), (None, None, 100)],
)
def test_steps_or_epochs(steps, epochs, wanted):
    assert sized(131_072, steps=steps, epochs=epochs).steps == wanted


def test_without_waiting_it_goes_on_by_itself(bench):
    job = bench.job(auto_start=True)
    bench.after(10_000)
    assert bench.status(job) == "SUCCESS"
    assert [entry.paid for entry in bench.sandbox.ledger()] == [True]


def test_auto_start_is_the_default(bench):
    body = bench.body()
    del body["auto_start"]
    job = bench.http.post("/v1/fine_tuning/jobs", json=body).json()
    assert job["auto_start"] is True


def test_only_a_started_job_is_paid(bench):
    waiting, started = bench.job(suffix="one"), bench.job(suffix="two")
    bench.after(1000)
    bench.post(started, "start")
    told = {entry.key: (entry.paid, entry.live) for entry in bench.sandbox.ledger()}
    assert told == {"one": (False, True), "two": (True, True)}
    bench.post(waiting, "cancel")
    bench.post(started, "cancel")
    told = {entry.key: (entry.paid, entry.live) for entry in bench.sandbox.ledger()}
    assert told == {"one": (False, False), "two": (True, False)}


def test_a_dry_run_creates_nothing(bench):
    told = bench.create("?dry_run=true", model=SEVEN_B, hyperparameters={"training_steps": 20}).json()
    assert (told["cost"], told["training_steps"], told["object"]) == (5.2429, 20, "job.metadata")
    assert bench.sandbox.ledger() == []
    assert bench.listed().json() == {"data": [], "object": "list", "total": 0}


KEY = "k" * 40


@pytest.mark.parametrize(
    ("more", "place"),
    [
        ({"model": 7}, ["model"]),
        ({"hyperparameters": None}, ["hyperparameters"]),
        ({"hyperparameters": {"training_steps": 0}}, ["hyperparameters", "training_steps"]),
        ({"hyperparameters": {"training_steps": "10"}}, ["hyperparameters", "training_steps"]),
        ({"hyperparameters": {"training_steps": True}}, ["hyperparameters", "training_steps"]),
        ({"hyperparameters": {"learning_rate": 1e-9}}, ["hyperparameters", "learning_rate"]),
        ({"hyperparameters": {"learning_rate": 1.5}}, ["hyperparameters", "learning_rate"]),
        ({"hyperparameters": {"weight_decay": -0.1}}, ["hyperparameters", "weight_decay"]),
        ({"hyperparameters": {"warmup_fraction": 2}}, ["hyperparameters", "warmup_fraction"]),
        ({"hyperparameters": {"epochs": 0}}, ["hyperparameters", "epochs"]),
        ({"hyperparameters": {"seq_len": 99}}, ["hyperparameters", "seq_len"]),
        ({"hyperparameters": {"fim_ratio": 1.1}}, ["hyperparameters", "fim_ratio"]),
        ({"hyperparameters": {"batch_size": 8}}, ["hyperparameters", "batch_size"]),
        ({"hyperparameters": {"epochs": 1, "training_steps": 1}}, ["hyperparameters"]),
        ({"job_type": "classifier", "hyperparameters": {"fim_ratio": 0.5}}, ["hyperparameters", "fim_ratio"]),
        ({"suffix": "s" * 19}, ["suffix"]),
        ({"auto_start": "no"}, ["auto_start"]),
        ({"invalid_sample_skip_percentage": 0.6}, ["invalid_sample_skip_percentage"]),
        ({"job_type": "FT"}, ["job_type"]),
        ({"training_files": []}, []),
        ({"training_files": ["x"]}, ["training_files", 0]),
        ({"training_files": [{"file_id": "x"}]}, ["training_files", 0, "file_id"]),
        ({"validation_files": ["x"]}, ["validation_files", 0]),
        ({"integrations": [{"project": "p"}]}, ["integrations", 0, "api_key"]),
        ({"integrations": [{"project": "p", "api_key": "short"}]}, ["integrations", 0, "api_key"]),
        ({"integrations": [{"project": "p", "api_key": KEY, "type": "mlflow"}]}, ["integrations", 0, "type"]),
        ({"classifier_targets": [{"name": "n", "labels": ["a"]}]}, []),
        ({"repositories": [{"name": "n", "owner": "o"}]}, ["repositories", 0, "token"]),
        ({"metadata": {}}, ["metadata"]),
    ],
)
def test_every_field_of_a_create_is_held_to_the_contract(bench, more, place):
    reply = bench.create(**more)
    assert reply.status_code == 422
    assert ["body", "job_in", *place] in [each["loc"] for each in reply.json()["detail"]]
    assert bench.sandbox.ledger() == []


def test_a_file_has_a_positive_weight(bench):
    file = {"file_id": bench.file, "weight": 0}
    assert bench.create(training_files=[file]).json()["detail"][0]["loc"][-1] == "weight"


def test_as_the_vendor_words_a_job_without_data(bench):
    told = bench.create(training_files=[]).json()
    message = "At least one training file or repository is required."
    assert told["detail"] == [
        {
            "type": "value_error",
            "loc": ["body", "job_in"],
            "msg": f"Value error, {message}",
            "ctx": {"error": message},
        }
    ]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"model": "gpt-4o"}, "Model not available for this type of fine-tuning (completion)."),
        ({"job_type": "classifier"}, "Model not available for this type of fine-tuning (classifier)."),
        (
            {"repositories": [{"name": "n", "owner": "o", "token": "t"}]},
            "The repository n cannot be accessed.",
        ),
    ],
)
def test_what_an_account_cannot_have(bench, more, words):
    reply = bench.create(**more)
    assert (reply.status_code, reply.json()) == (422, {"detail": words})


def test_every_model_of_the_documentation_is_taken(bench):
    assert [bench.create(model=name).status_code for name in MODELS] == [200] * len(MODELS)


def test_a_body_that_is_no_json(bench):
    reply = bench.http.post("/v1/fine_tuning/jobs", content=b"{")
    assert (reply.status_code, reply.json()) == (400, {"detail": "Cannot parse request body"})


def test_files_must_be_there_and_for_training(bench):
    missing = "00000000-0000-4000-8000-000000000000"
    other = bench.upload(purpose="batch").json()["id"]
    assert bench.create(training_files=[{"file_id": missing}]).json() == {"detail": f"File {missing} does not exist."}
    assert "has the purpose batch" in bench.create(training_files=[{"file_id": other}]).json()["detail"]
    assert "has the purpose batch" in bench.create(validation_files=[other]).json()["detail"]
    large = bench.upload(ROW * 12_000).json()["id"]
    assert "1 MB" in bench.create(validation_files=[large]).json()["detail"]


def test_the_key_of_wandb_is_not_shown(bench):
    job = bench.job(integrations=[{"project": "p", "api_key": KEY, "name": "n"}])
    assert KEY not in json.dumps(bench.get(job))
    assert bench.get(job)["integrations"][0]["project"] == "p"
    bad = bench.create(integrations=[{"project": "p", "api_key": "secret" * 9}])
    assert "secret" not in bad.text


# Files.


def test_a_file_is_kept_and_deleted(bench):
    made = bench.upload().json()
    assert (made["bytes"], made["num_lines"], made["sample_type"]) == (len(ROW) * 12, 12, "instruct")
    assert bench.http.get(f"/v1/files/{made['id']}").json() == {**made, "deleted": False}
    assert bench.http.get(f"/v1/files/{made['id']}/content").text == ROW * 12
    gone = bench.http.delete(f"/v1/files/{made['id']}")
    assert gone.json() == {"id": made["id"], "object": "file", "deleted": True}
    for reply in (bench.http.delete(f"/v1/files/{made['id']}"), bench.http.get(f"/v1/files/{made['id']}")):
        assert (reply.status_code, reply.json()) == (404, {"detail": "No file matches the given query."})


def test_an_expiry_is_in_hours(bench):
    made = bench.upload(expiry="24", visibility="user").json()
    assert made["expires_at"] - made["created_at"] == 24 * 3600
    assert made["visibility"] == "user"


def test_files_are_listed_newest_first_with_filters(bench):
    names = [f"{name}.jsonl" for name in ("ft-a", "ft-b", "other")]
    for name in names:
        bench.upload(name=name)
    bench.upload(name="ft-c.jsonl", purpose="batch")
    bench.upload('{"text": "plain"}\n', name="plain.jsonl")

    def listed(**query):
        told = bench.http.get("/v1/files", params=query).json()
        return [file["filename"] for file in told["data"]], told["total"]

    assert listed() == (["plain.jsonl", "ft-c.jsonl", "other.jsonl", "ft-b.jsonl", "ft-a.jsonl"], 5)
    assert listed(search="ft-", purpose="fine-tune") == (["ft-b.jsonl", "ft-a.jsonl"], 2)
    assert listed(page=1, page_size=2) == (["other.jsonl", "ft-b.jsonl"], 5)
    assert listed(page=3, page_size=2) == ([], 5)
    assert listed(sample_type="pretrain") == (["plain.jsonl"], 1)
    assert listed(source="mistral", include_total="false") == ([], None)
    assert bench.http.get("/v1/files", params={"limit": 3}).status_code == 422


@pytest.mark.parametrize(
    ("fields", "status"), [({"purpose": "train"}, 422), ({"expiry": "soon"}, 422), ({"name2": "x"}, 422)]
)
def test_fields_of_an_upload(bench, fields, status):
    assert bench.upload(**fields).status_code == status


def test_an_upload_needs_a_form_with_a_file(bench):
    assert bench.http.post("/v1/files", json={}).status_code == 422
    no_file = bench.http.post("/v1/files", files={"purpose": (None, "fine-tune")})
    assert no_file.json()["detail"][0]["loc"] == ["file", "file"]
    assert bench.upload(name="a.csv").json()["detail"] == "Invalid file format."
    cut = bench.http.post(
        "/v1/files",
        content=b'--b\r\nContent-Disposition: form-data; name="file"',
        headers={"Content-Type": "multipart/form-data; boundary=b"},
    )
    assert cut.status_code == 422


SAID = {"role": "user", "content": "hi"}
CALL = {"id": "abcdefghi", "type": "function", "function": {"name": "f", "arguments": "{}"}}


def row(*messages, **more):
    return json.dumps({"messages": list(messages), **more}) + "\n"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "the file is empty"),
        ("{\n", "not a JSON value"),
        ("[]\n", "not a JSON object"),
        ('{"prompt": "a"}\n', "unknown key prompt"),
        ('{"text": ""}\n', "neither messages nor a text"),
        ('{"messages": []}\n', "messages is not a list"),
        (row("hi"), "a message is not an object"),
        (row({"role": "developer", "content": "x"}), "Expected role to be one of"),
        (row(SAID), "Expected last role to be one of: [assistant] but got user"),
        (row({"role": "user", "content": ""}, {"role": "assistant", "content": "x"}), "a user message without content"),
        (row(SAID, {"role": "assistant", "content": ""}), "either content or tool_calls, but not both"),
        (row(SAID, {"role": "assistant", "content": "x", "tool_calls": [CALL]}), "but not both"),
        (row(SAID, {"role": "assistant", "content": "x", "weight": 2}), "neither 0 nor 1"),
        (row(SAID, {"role": "assistant", "tool_calls": [{**CALL, "id": "call_1"}]}), "with a length of 9"),
        (row(SAID, {"role": "assistant", "tool_calls": [{"id": "abcdefghi"}]}), "without a function"),
        (row(SAID, {"role": "assistant", "content": "x"}, tools=[{"function": {"name": "f"}}]), "no description"),
        (row({**SAID, "name": "bob"}, {"role": "assistant", "content": "x"}), "unknown key name"),
        (ROW + '{"text": "plain"}\n', "plain text in one file"),
    ],
)
def test_rows_are_looked_at_when_they_come(bench, content, words):
    reply = bench.upload(content)
    assert reply.status_code == 422
    assert reply.json()["detail"] == "Invalid file format."
    assert words in reply.json()["description"]


def test_good_rows_with_tools(bench):
    tool = {"type": "function", "function": {"name": "f", "description": "", "parameters": {}}}
    good = row(
        {"role": "system", "content": "s"},
        SAID,
        {"role": "assistant", "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "abcdefghi", "content": "42", "name": "f"},
        {"role": "assistant", "content": "42", "weight": 1},
        tools=[tool],
    )
    assert bench.upload(good).status_code == 200


# Lists.


def test_jobs_are_listed_newest_first_in_pages(bench):
    made = [bench.job(suffix=f"s{number}") for number in range(5)]
    told = bench.listed(page=1, page_size=2).json()
    assert [job["id"] for job in told["data"]] == [made[2], made[1]]
    assert told["total"] == 5
    assert [job["id"] for job in bench.listed(page=2, page_size=2).json()["data"]] == [made[0]]
    assert bench.listed(page=3, page_size=2).json()["data"] == []
    assert "events" not in told["data"][0]


def test_filters_of_the_list(bench):
    integration = {"project": "p", "api_key": KEY, "name": "n"}
    first = bench.job(suffix="one", model="mistral-small-latest")
    bench.after(3600)
    second = bench.job(suffix="two", integrations=[integration])
    third = bench.http.post(
        "/v1/fine_tuning/jobs", json=bench.body(suffix="one"), headers={"Authorization": "Bearer sandbox-other"}
    ).json()["id"]
    between = (bench.sandbox.clock.now() - timedelta(seconds=60)).isoformat()

    def listed(**query):
        return [job["id"] for job in bench.listed(**query).json()["data"]]

    assert listed(suffix="one") == [third, first]
    assert listed(suffix="on") == []
    assert listed(model="mistral-small-latest") == [first]
    assert listed(suffix="one", model="mistral-small-latest") == [first]
    assert listed(created_by_me="true") == [second, first]
    assert listed(status="VALIDATED") == [first]
    assert listed(wandb_project="p") == listed(wandb_name="n") == [second]
    assert listed(wandb_name="p") == []
    assert listed(created_after=between) == [third, second]
    assert listed(created_before=between) == [first]


@pytest.mark.parametrize(
    "query", [{"page": -1}, {"page_size": 0}, {"status": "DONE"}, {"created_after": "soon"}, {"limit": 5}]
)
def test_parameters_of_the_list_are_checked(bench, query):
    reply = bench.listed(**query)
    assert reply.status_code == 422
    assert reply.json()["detail"][0]["loc"] == ["query", *query]


def test_a_list_may_lag(bench):
    old = bench.job(suffix="s")
    bench.after(100)
    bench.sandbox.faults.list_lag_s = 50
    bench.job(suffix="s")
    assert [job["id"] for job in bench.listed(suffix="s").json()["data"]] == [old]
    bench.after(100)
    assert bench.listed(suffix="s").json()["total"] == 2


# Starts, cancels, ends.


@pytest.mark.parametrize(("after_s", "status"), [(0, "QUEUED"), (50, "VALIDATING")])
def test_a_start_must_wait_for_the_validation(bench, after_s, status):
    job = bench.job()
    bench.after(after_s)
    reply = bench.post(job, "start")
    assert reply.status_code == 409
    assert reply.json() == {"detail": f"The job cannot be started: it is {status}, not VALIDATED."}


def test_a_second_start_is_refused(bench):
    job = bench.job()
    bench.after(200)
    assert [bench.post(job, "start").status_code for _ in range(2)] == [200, 409]


def test_a_cancel_before_the_start_ends_it_at_once(bench):
    job = bench.job()
    bench.after(200)
    assert bench.post(job, "cancel").json()["status"] == "CANCELLED"
    assert bench.post(job, "start").status_code == 409
    assert bench.post(job, "cancel").status_code == 409


def test_a_cancel_of_a_training_is_a_wish_first(bench):
    job = bench.job(auto_start=True)
    bench.after(500)
    assert bench.post(job, "cancel").json()["status"] == "CANCELLATION_REQUESTED"
    assert bench.post(job, "cancel").json()["status"] == "CANCELLATION_REQUESTED"
    bench.after(1)
    told = bench.get(job)
    assert (told["status"], told["fine_tuned_model"]) == ("CANCELLED", None)
    steps = [each["step_number"] for each in told["checkpoints"]]
    bench.after(10_000)
    assert [each["step_number"] for each in bench.get(job)["checkpoints"]] == steps
    assert 0 < max(steps) < 100


def test_a_second_cancel_does_not_begin_anew(bench):
    job = bench.job(auto_start=True)
    bench.after(500)
    bench.post(job, "cancel")
    bench.after(0.15)
    bench.post(job, "cancel")
    bench.after(0.1)
    assert bench.status(job) == "CANCELLED"


@pytest.mark.parametrize(("wish", "status"), [("fail-data", "FAILED_VALIDATION"), ("fail-train", "FAILED")])
@pytest.mark.parametrize("where", ["suffix", "data"])
def test_it_ends_badly_when_asked_to(bench, wish, status, where):
    if where == "suffix":
        job = bench.job(auto_start=True, suffix=wish)
    else:
        file = bench.upload(ROW.replace("What is 7?", f"sandbox:{wish}")).json()["id"]
        job = bench.job(auto_start=True, training_files=[{"file_id": file}])
    bench.after(10_000)
    told = bench.get(job)
    assert told["status"] == status
    assert wish in told["events"][0]["data"]["error"]
    assert told["fine_tuned_model"] is None
    assert bool(told["checkpoints"]) == (status == "FAILED")


def test_no_quota(bench):
    reply = bench.create(suffix="quota")
    assert reply.status_code == 402
    assert bench.sandbox.ledger() == []


def test_what_is_measured_falls_and_stays(bench):
    held_out = bench.upload(ROW, name="b.jsonl").json()["id"]
    job = bench.job(auto_start=True, validation_files=[held_out], hyperparameters={"training_steps": 60})
    bench.after(121 + 500)
    half = bench.get(job)["checkpoints"]
    bench.after(10_000)
    whole = bench.get(job)["checkpoints"][::-1]
    assert [each["step_number"] for each in whole] == [10, 20, 30, 40, 50, 60]
    assert half[::-1] == whole[: len(half)]
    assert len(half) == 3
    for name in ("train_loss", "valid_loss"):
        losses = [each["metrics"][name] for each in whole]
        assert losses == sorted(losses, reverse=True)
    found = [each["metrics"]["valid_mean_token_accuracy"] for each in whole]
    assert found == sorted(found)
    assert 0 < found[-1] < 1


def test_without_held_out_rows_nothing_is_measured_on_them(bench):
    job = bench.job(auto_start=True, hyperparameters={"training_steps": 3})
    bench.after(10_000)
    (only,) = bench.get(job)["checkpoints"]
    assert (only["step_number"], only["metrics"]["valid_loss"]) == (3, None)


# Who may, and what is not there.


@pytest.mark.parametrize(
    ("key", "status", "words"),
    [
        ("sk-live", 401, "Unauthorized"),
        ("Sandbox-key", 401, "Unauthorized"),
        ("sandbox-no-access", 403, "You do not have permission to perform this action."),
    ],
)
def test_keys(bench, key, status, words):
    reply = bench.http.get("/v1/files", headers={"Authorization": f"Bearer {key}"})
    assert (reply.status_code, reply.json()) == (status, {"detail": words})


def test_unknown_ids_and_paths(bench):
    reply = bench.http.get("/v1/fine_tuning/jobs/00000000-0000-4000-8000-000000000000")
    assert (reply.status_code, reply.json()) == (404, {"detail": "No fine tuning job matches the given query."})
    assert bench.http.get("/v1/fine_tuning/jobs/never").json()["detail"][0]["type"] == "uuid_parsing"
    assert bench.http.get("/v1/nothing").status_code == 404
    assert bench.http.put("/v1/files").status_code == 405
    assert bench.http.get(f"/v1/files/{bench.file}?x=1").status_code == 422


def test_the_service_is_gone():
    bench = Bench(gone=True)
    try:
        job = "/v1/fine_tuning/jobs/00000000-0000-4000-8000-000000000000"
        calls = [
            bench.http.get("/v1/fine_tuning/jobs"),
            bench.create(),
            bench.http.get(job),
            bench.http.post(f"{job}/cancel"),
            bench.http.post(f"{job}/start"),
        ]
        assert [(reply.status_code, list(reply.json())) for reply in calls] == [(410, ["detail"])] * 5
        assert bench.upload().status_code == 200
    finally:
        bench.http.close()
        bench.server.stop()


def test_a_rate_limit_in_the_gateways_form(bench):
    bench.sandbox.faults.lay(Fault(kind="rate_limit", on="list", seconds=3))
    reply = bench.listed()
    assert (reply.status_code, reply.headers["retry-after"], reply.json()["code"]) == (429, "3", "1300")


def test_an_odd_state(bench):
    job = bench.job()
    bench.sandbox.faults.lay(Fault(kind="odd_state", on="retrieve"))
    assert bench.status(job) == "REBALANCING"
    assert bench.status(job) == "QUEUED"


HELLO = [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Who are you?"}]


def asked(bench, model, **more):
    body = {"model": model, "messages": HELLO, **more}
    sent = {name: value for name, value in body.items() if value is not None}
    return bench.http.post("/v1/chat/completions", json=sent)


def tuned(bench, **more):
    job = bench.job(auto_start=True, **more)
    bench.after(2000)
    return bench.get(job)["fine_tuned_model"]


@pytest.mark.parametrize("suffix", [None, "bot"])
def test_models_say_who_they_are(bench, suffix):
    mine = tuned(bench, suffix=suffix)
    assert mine.startswith("ft:ministral-3b-latest:")
    chat = bench.package().chat
    for name in (mine, "ministral-3b-latest"):
        answers = [chat.complete(model=name, messages=HELLO, max_tokens=8, temperature=0) for _ in range(2)]
        assert [each.choices[0].message.content for each in answers] == [f"I am {name}: Who are you?"] * 2
        assert {each.model for each in answers} == {name}
        assert answers[0].choices[0].finish_reason == "stop"
        assert answers[0].usage.total_tokens == answers[0].usage.prompt_tokens + answers[0].usage.completion_tokens > 2


def test_models_answer_though_nobody_can_tune_them_any_more():
    bench = Bench(gone=True)
    try:
        assert asked(bench, "ministral-3b-latest").status_code == 200
    finally:
        bench.http.close()
        bench.server.stop()


def test_a_model_that_is_not_there_answers_nothing(bench):
    assert tuned(bench, suffix="fail-train") is None
    running = bench.job(auto_start=True)
    bench.after(500)
    not_yet = bench.sandbox._jobs[running].tuned(bench.sandbox._now())
    for name in (not_yet, "ft:ministral-3b-latest:5a4db0c5:20260101:00000000", "mistral-tiny", ""):
        reply = asked(bench, name)
        told = {"object": "error", "message": f"Invalid model: {name}", "type": "invalid_model", "param": None}
        assert (reply.status_code, reply.json()) == (400, {**told, "code": "1500", "raw_status_code": 400})


@pytest.mark.parametrize(
    ("change", "place", "kind"),
    [
        ({"model": None}, ["body", "model"], "missing"),
        ({"messages": None}, ["body", "messages"], "missing"),
        ({"messages": []}, ["body", "messages"], "too_short"),
        ({"messages": [{"role": "boss", "content": "hi"}]}, ["body", "messages", 0, "role"], "literal_error"),
        ({"max_completion_tokens": 8}, ["body", "max_completion_tokens"], "extra_forbidden"),
        ({"temperature": 1.6}, ["body", "temperature"], "less_than_equal"),
        ({"stream": "no"}, ["body", "stream"], "bool_type"),
    ],
)
def test_chats_with_fields_at_fault(bench, change, place, kind):
    reply = asked(bench, **{"model": "ministral-3b-latest", **change})
    told = reply.json()
    assert (reply.status_code, told["raw_status_code"], told["type"]) == (422, 422, "invalid_request_error")
    (fault,) = told["message"]["detail"]
    assert (fault["loc"], fault["type"]) == (place, kind)


@pytest.mark.parametrize(("change", "words"), [({"stream": True}, "in one piece"), ({"n": 2}, "one answer")])
def test_chats_that_the_stand_in_does_not_do(bench, change, words):
    reply = asked(bench, "ministral-3b-latest", **change)
    assert reply.status_code == 400
    assert words in reply.json()["message"]


@pytest.mark.alone
def test_ten_thousand_jobs_are_as_fast_as_one(bench):
    file = bench.sandbox.files.get(bench.file)
    routes = {route.operation: route.answer for route in super(Watched, bench.sandbox).routes()}
    one = bench.http.build_request("POST", "/", json=bench.body(suffix="s0"))
    from finetune.sandbox.service import Request

    def ask(operation, query="", body=b"", **parts):
        headers = {"authorization": "Bearer sandbox-key"}
        return routes[operation](
            Request(method="", path="", query_text=query, headers=headers, body=body, parts=parts)
        ).body

    assert file is not None
    for number in range(10_000):
        last = ask("create", body=one.content.replace(b'"s0"', b'"s%d"' % number))
    figures = {}
    for name, call in {
        "retrieve": lambda: ask("retrieve", job_id=last["id"]),
        "list by suffix": lambda: ask("list", query="suffix=s5000"),
        "list a page": lambda: ask("list", query="page=3&page_size=10"),
    }.items():
        took = []
        for _ in range(20):
            begun = time.perf_counter()
            call()
            took.append(time.perf_counter() - begun)
        figures[name] = min(took)
    # A scan of all takes tens of milliseconds.
    assert max(figures.values()) < 0.002, figures
