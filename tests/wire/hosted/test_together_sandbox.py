"""Together's stand-in, by bare HTTP: what it takes, what it refuses, and what it bills."""

import hashlib
import io
import json
import tarfile
from decimal import Decimal

import httpx
import pytest
import zstandard

from finetune.sandbox.faults import Fault
from finetune.sandbox.server import Server
from finetune.sandbox.together.cost import nano, usd
from finetune.sandbox.together.jobs import Timing
from finetune.sandbox.together.rows import look
from tests.support.hosted import ROWS
from tests.wire.hosted.together_contract import Watched

MODEL = "Qwen/Qwen3.5-4B"
ROW = ROWS["together"].replace("%d", "7") + "\n"
PAIR = ROWS["together-preference"].replace("%d", "7") + "\n"
TIMING = Timing(validating_s=100, pending_s=10, queued_s=10, running_s=1000, packing_s=10)


class Bench:
    """The stand-in and a bare client."""

    def __init__(self, key="sandbox-key", **more):
        self.sandbox = Watched(**{"timing": TIMING, **more})
        self.server = Server(self.sandbox)
        self.server.start()
        # Certificates take a tenth of a second to load, and nothing here is encrypted.
        headers = {"Authorization": f"Bearer {key}"}
        self.http = httpx.Client(base_url=f"{self.server.url}/v1", headers=headers, verify=False)
        self.bare = httpx.Client(verify=False)

    def tell(self, content=ROW * 12, name="a.jsonl", **fields):
        checksum = hashlib.sha256(content.encode()).hexdigest()
        form = {"purpose": "fine-tune", "file_name": name, "file_type": "jsonl", "checksum": checksum, **fields}
        return self.http.post("/files", files={key: (None, value) for key, value in form.items()})

    def upload(self, content=ROW * 12, name="a.jsonl", *, wait_s=100):
        told = self.tell(content, name)
        assert self.bare.put(told.headers["location"], content=content.encode()).status_code == 200
        file_id = told.headers["x-together-file-id"]
        self.http.post(f"/files/{file_id}/preprocess")
        self.after(wait_s)
        return file_id

    def state(self, file_id):
        return self.http.get(f"/files/{file_id}").json()["processing_status"]

    def body(self, **more):
        body = {"model": MODEL, "suffix": "ft_x-a1", **more}
        return body if "training_file" in body else {**body, "training_file": self.file}

    def create(self, **more):
        return self.http.post("/fine-tunes", json=self.body(**more))

    def job(self, **more):
        return self.create(**more).json()["id"]

    def get(self, job_id, more=""):
        return self.http.get(f"/fine-tunes/{job_id}{more}").json()

    def status(self, job_id):
        return self.get(job_id)["status"]

    def after(self, seconds):
        self.sandbox.clock.advance(seconds)

    @property
    def file(self):
        if not hasattr(self, "_file"):
            self._file = self.upload()
        return self._file

    def stop(self):
        self.http.close()
        self.bare.close()
        self.server.stop()
        assert self.server.broken == []
        assert self.sandbox.violations == []


@pytest.fixture
def bench():
    made = Bench()
    yield made
    made.stop()


def message(reply):
    return reply.json()["error"]["message"]


# Files.


def test_a_file_is_told_of_sent_and_looked_at(bench):
    told = bench.tell()
    file_id, place = told.headers["x-together-file-id"], told.headers["location"]
    assert (told.status_code, told.content) == (302, b"")
    # Before its bytes are there it is not.
    assert bench.http.get(f"/files/{file_id}").status_code == 404
    assert bench.http.get("/files").json() == {"data": []}
    assert bench.bare.put(place, content=(ROW * 12).encode()).status_code == 200
    assert bench.state(file_id) == "PENDING"
    assert bench.http.post(f"/files/{file_id}/preprocess").json()["processing_status"] == "QUEUED"
    bench.after(60)
    assert bench.state(file_id) == "RUNNING"
    bench.after(60)
    done = bench.http.get(f"/files/{file_id}").json()
    assert (done["processing_status"], done["Processed"], done["bytes"]) == ("COMPLETED", True, len(ROW * 12))
    assert done["validation_report"] == {
        "valid": True,
        "file_id": file_id,
        "nlines": 12,
        "dataset_format": "CONVERSATION",
    }
    assert bench.http.get("/files").json()["data"] == [done]
    assert bench.http.get(f"/files/{file_id}/content").text == ROW * 12
    assert bench.http.delete(f"/files/{file_id}").json() == {"id": file_id, "deleted": True}
    assert bench.http.get(f"/files/{file_id}").status_code == 404


def test_the_same_content_is_there_once_whatever_its_name(bench):
    file_id = bench.upload()
    again = bench.tell(name="b.jsonl")
    assert (again.status_code, again.json()["file_id"]) == (409, file_id)
    bench.http.delete(f"/files/{file_id}")
    assert bench.tell().status_code == 302


def test_the_storage_is_another_host_with_other_permissions(bench):
    place = bench.tell().headers["location"]
    content = (ROW * 12).encode()
    # Whoever has the address needs no key, and none may be sent.
    assert bench.http.put(place, content=content).status_code == 400
    assert bench.bare.put(place.replace("/storage/", "/storage/0"), content=content).status_code == 403
    assert bench.bare.put(place, content=iter([content])).status_code == 411
    assert bench.bare.put(place, content=content[:-1]).status_code == 400
    assert bench.bare.put(place, content=content).status_code == 200


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"purpose": "train"}, "purpose"),
        ({"file_type": "txt"}, "file_type"),
        ({"checksum": "abc"}, "checksum"),
        ({"file_name": ""}, "file_name"),
        ({"file_name": "a.txt"}, "file_name"),
        ({"note": "x"}, "note"),
    ],
)
def test_every_field_of_an_upload_is_held_to_the_contract(bench, fields, words):
    reply = bench.tell(**fields)
    assert reply.status_code == 400
    assert words in message(reply)


def test_an_upload_is_a_form(bench):
    assert bench.http.post("/files", json={"purpose": "fine-tune"}).status_code == 400


def test_a_file_in_parts(bench):
    content = (ROW * 40).encode()
    half = len(content) // 2
    told = {
        "purpose": "fine-tune",
        "file_name": "a.jsonl",
        "file_type": "jsonl",
        "checksum": hashlib.sha256(content).hexdigest(),
        "file_size": len(content),
        "num_parts": 2,
    }
    begun = bench.http.post("/files/multipart/initiate", json=told).json()
    named = {"upload_id": begun["upload_id"], "file_id": begun["file_id"]}
    parts = []
    for place, piece in zip(begun["parts"], (content[:half], content[half:]), strict=True):
        etag = bench.bare.put(place["URL"], content=piece).headers["etag"].strip('"')
        parts.append({"part_number": place["PartNumber"], "etag": etag})
    wrong = [parts[0], {**parts[1], "etag": "0" * 32}]
    for given in (parts[:1], wrong):
        reply = bench.http.post("/files/multipart/complete", json={**named, "parts": given})
        assert reply.status_code == 400
    done = bench.http.post("/files/multipart/complete", json={**named, "parts": parts}).json()["file"]
    assert (done["id"], done["bytes"], done["processing_status"]) == (begun["file_id"], len(content), "QUEUED")
    assert bench.http.post("/files/multipart/initiate", json=told).status_code == 409
    # What is complete cannot be given up.
    assert bench.http.post("/files/multipart/abort", json=named).status_code == 400


def test_parts_that_are_given_up_are_gone(bench):
    told = {"purpose": "fine-tune", "file_name": "a.jsonl", "file_type": "jsonl", "checksum": "0" * 64}
    begun = bench.http.post("/files/multipart/initiate", json={**told, "file_size": 4, "num_parts": 1}).json()
    named = {"upload_id": begun["upload_id"], "file_id": begun["file_id"]}
    assert bench.http.post("/files/multipart/abort", json={**named, "upload_id": "x"}).status_code == 400
    assert bench.http.post("/files/multipart/abort", json=named).status_code == 200
    assert bench.bare.put(begun["parts"][0]["URL"], content=b"rows").status_code == 403


def turns(*roles):
    return json.dumps({"messages": [{"role": role, "content": "x"} for role in roles]})


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("", "The file is empty"),
        ("{", "Line 1: Invalid JSON"),
        ("[]", "must be a JSON object"),
        ("{}", "Unknown format"),
        ('{"messages": []}', "with something in it"),
        ('{"messages": [{"role": "robot", "content": "x"}]}', "role"),
        ('{"messages": [{"role": "user"}]}', "content"),
        ('{"messages": [{"role": "user", "content": "x", "mood": 1}]}', "mood"),
        (turns("assistant", "user"), "must be the user's"),
        (turns("user"), "message of the assistant"),
        (turns("user", "system", "assistant"), "come first"),
        (turns("user", "user", "assistant"), "take turns"),
        ('{"messages": [{"role": "user", "content": "x", "weight": 2}]}', "weight"),
        ('{"preferred_output": [], "non_preferred_output": []}', "must have messages"),
        (PAIR.replace('"non_preferred_output": [', '"non_preferred_output": [1, '), "one message"),
        ('{"text": 7}', "must be text"),
        (ROW + '{"text": "x"}', "one format"),
    ],
)
def test_what_a_look_at_the_rows_refuses(line, words):
    assert words in look(line.encode()).fault


@pytest.mark.parametrize(
    ("line", "format"),
    [
        (turns("system", "user", "assistant"), "CONVERSATION"),
        (turns("user", "assistant", "tool", "assistant"), "CONVERSATION"),
        (PAIR, "PREFERENCE_OPENAI"),
        ('{"prompt": "a", "completion": "b"}', "INSTRUCTION"),
        ('{"text": "a"}', "GENERAL"),
    ],
)
def test_what_a_look_at_the_rows_takes(line, format):
    found = look(line.encode())
    assert (found.fault, found.format, found.count) == (None, format, 1)


def test_bad_data_is_told_by_the_look_and_ends_a_job(bench):
    file_id = bench.upload(ROW * 12 + "sandbox\n")
    told = bench.http.get(f"/files/{file_id}").json()
    assert told["processing_status"] == "INVALID_FORMAT"
    assert told["validation_report"]["error_type"] == "INVALID_FORMAT"
    assert "Line 13" in told["validation_report"]["error"]
    price = bench.http.post("/fine-tunes/estimate-price", json={"training_file": file_id, "model": MODEL}).json()
    assert price == {"estimation_available": False, "unavailable_reason": "train_file_invalid"}


# Jobs.


def test_a_job_goes_through_its_life(bench):
    job = bench.job(n_epochs=2)
    made = bench.get(job)
    assert (made["status"], made["total_price"], made["token_count"]) == ("pending", 0, 0)
    for pause_s, status in (
        (11, "queued"),
        (10, "running"),
        (1000, "compressing"),
        (10, "uploading"),
        (10, "completed"),
    ):
        bench.after(pause_s)
        assert bench.status(job) == status
    ended = bench.get(job)
    tokens = 2 * 12 * -(-len(ROW.strip()) // 4)
    assert (ended["token_count"], ended["total_price"]) == (tokens, 480 * tokens)
    assert ended["model_output_name"] == f"sandbox_1a2b/Qwen3.5-4B-ft_x-a1-{job[3:11]}"
    assert ended["training_type"]["type"] == "Lora"
    assert [each["type"] for each in bench.get(job, "/events")["data"]][-1] == "job_complete"
    (checkpoint,) = bench.get(job, "/checkpoints")["data"]
    assert (checkpoint["step"], checkpoint["checkpoint"]) == (4, "adapter")


def test_the_list_has_the_suffix_and_a_look_at_the_job_has_not(bench):
    job = bench.job()
    (row,) = bench.http.get("/fine-tunes").json()["data"]
    assert (row["id"], row["suffix"]) == (job, "ft_x-a1")
    assert "suffix" not in bench.get(job)


def test_the_list_takes_no_filter(bench):
    assert bench.http.get("/fine-tunes", params={"suffix": "x"}).status_code == 400


@pytest.mark.parametrize(
    ("more", "place"),
    [
        ({"model": 7}, "model"),
        ({"model": "gpt-4o"}, "gpt-4o"),
        ({"model": None}, "Model None"),
        ({"training_file": "file-none"}, "training_file"),
        ({"validation_file": "file-none"}, "validation_file"),
        ({"suffix": "s" * 41}, "suffix"),
        ({"n_epochs": 0}, "n_epochs"),
        ({"n_epochs": 1.5}, "n_epochs"),
        ({"n_epochs": 101}, "n_epochs"),
        ({"n_evals": -1}, "n_evals"),
        ({"n_evals": 101}, "n_evals"),
        ({"n_checkpoints": 0}, "n_checkpoints"),
        ({"batch_size": "all"}, "batch_size"),
        ({"batch_size": 0}, "batch_size"),
        ({"learning_rate": 1.0}, "learning_rate"),
        ({"warmup_ratio": 1.5}, "warmup_ratio"),
        ({"weight_decay": -0.1}, "weight_decay"),
        ({"packing": "yes"}, "packing"),
        ({"training_method": {"method": "rl"}}, "training_method"),
        ({"training_method": {"method": "sft"}}, "train_on_inputs"),
        ({"training_method": {"method": "sft", "train_on_inputs": "auto", "dpo_beta": 1}}, "dpo_beta"),
        ({"training_method": {"method": "dpo"}}, "dataset format CONVERSATION"),
        ({"training_type": {"type": "Lora", "lora_r": 8}}, "lora_alpha"),
        ({"training_type": {"type": "Lora", "lora_r": 200, "lora_alpha": 8}}, "lora_r"),
        ({"training_type": {"type": "Lora", "lora_r": 8, "lora_alpha": 8, "lora_dropout": 1}}, "lora_dropout"),
        ({"training_type": {"type": "QLora"}}, "training_type"),
        ({"lr_scheduler": {"lr_scheduler_type": "constant"}}, "lr_scheduler"),
        ({"lr_scheduler": {"lr_scheduler_type": "cosine", "lr_scheduler_args": {"min_lr_ratio": 0}}}, "num_cycles"),
        ({"early_stopping_enabled": True}, "early_stopping_enabled"),
        ({"metadata": {}}, "metadata"),
    ],
)
def test_every_field_of_a_create_is_held_to_the_contract(bench, more, place):
    reply = bench.create(**more)
    assert reply.status_code == 400
    assert place in message(reply)
    assert bench.sandbox.ledger() == []


def test_what_is_no_json(bench):
    assert bench.http.post("/fine-tunes", content=b"{").status_code == 400


def test_preferences_are_for_dpo(bench):
    pairs = bench.upload(PAIR * 3)
    assert "PREFERENCE_OPENAI does not fit sft" in message(bench.create(training_file=pairs))
    assert bench.create(training_file=pairs, training_method={"method": "dpo"}).status_code == 200


def test_a_create_is_what_costs(bench):
    first, second = bench.job(suffix="one"), bench.job(suffix="two")
    bench.http.post(f"/fine-tunes/{first}/cancel")
    told = {entry.key: (entry.remote_id, entry.paid, entry.live) for entry in bench.sandbox.ledger()}
    assert told == {"one": (first, True, False), "two": (second, True, True)}


def test_prices_are_those_that_were_published():
    assert usd(1_000_000, "sft", 4_000_000_000) == Decimal("0.48")
    assert usd(1_000_000, "sft", 16_000_000_000) == Decimal("0.48")
    assert usd(1_000_000, "sft", 27_000_000_000) == Decimal("1.50")
    assert usd(2_000_000, "dpo", 9_000_000_000) == Decimal("2.40")
    assert usd(1_000_000, "dpo", None) == Decimal("3.75")
    assert nano(Decimal("1.5")) == 1_500_000_000


def test_an_estimate_counts_evaluations_and_creates_nothing(bench):
    held_out = bench.upload(ROW * 3, "b.jsonl")
    row = -(-len(ROW.strip()) // 4)
    asked = {"training_file": bench.file, "validation_file": held_out, "model": MODEL, "n_epochs": 2, "n_evals": 4}
    told = bench.http.post("/fine-tunes/estimate-price", json=asked).json()
    assert (told["estimated_train_token_count"], told["estimated_eval_token_count"]) == (24 * row, 12 * row)
    assert told["estimated_total_price"] == pytest.approx(0.48 * 36 * row / 1_000_000)
    assert told["allowed_to_proceed"] is True
    assert bench.sandbox.ledger() == []
    assert "suffix" in message(bench.http.post("/fine-tunes/estimate-price", json={**asked, "suffix": "x"}))


def test_there_is_no_estimate_before_the_look(bench):
    early = bench.upload(ROW * 5, wait_s=0)
    told = bench.http.post("/fine-tunes/estimate-price", json={"training_file": early, "model": MODEL}).json()
    assert told == {"estimation_available": False, "unavailable_reason": "train_file_not_validated"}
    asked = {"training_file": bench.file, "validation_file": bench.upload(ROW * 6, wait_s=0), "model": MODEL}
    told = bench.http.post("/fine-tunes/estimate-price", json=asked).json()
    assert told["unavailable_reason"] == "eval_file_not_validated"


def test_metrics_by_steps(bench):
    job = bench.job(training_file=bench.upload(ROW * 80), n_epochs=1)
    assert bench.get(job, "/metrics") == {"metrics": []}
    bench.after(20 + 505)
    rows = bench.get(job, "/metrics")["metrics"]
    assert [row["train/global_step"] for row in rows] == [1, 2, 3, 4, 5]
    assert bench.get(job, "/metrics?global_step_from=3&global_step_to=4")["metrics"] == rows[2:4]
    assert bench.http.get(f"/fine-tunes/{job}/metrics?step=3").status_code == 400


@pytest.mark.parametrize("when", ["waiting", "training"])
def test_a_cancel(bench, when):
    job = bench.job(training_file=bench.upload(ROW * 800))
    bench.after(5 if when == "waiting" else 270)
    told = bench.http.post(f"/fine-tunes/{job}/cancel").json()
    assert told["status"] == ("cancelled" if when == "waiting" else "cancel_requested")
    bench.after(1)
    ended = bench.get(job)
    assert ended["status"] == "cancelled"
    # As much as was trained is paid.
    whole = 480 * 800 * -(-len(ROW.strip()) // 4)
    assert ended["total_price"] == (0 if when == "waiting" else whole // 4)
    reply = bench.http.post(f"/fine-tunes/{job}/cancel")
    assert (reply.status_code, message(reply)) == (400, "The job cannot be cancelled: it is cancelled.")


def test_a_job_is_deleted_when_it_has_ended(bench):
    job = bench.job()
    assert bench.http.delete(f"/fine-tunes/{job}").status_code == 400
    bench.after(10_000)
    assert bench.http.delete(f"/fine-tunes/{job}?force=true").status_code == 200
    assert bench.http.get(f"/fine-tunes/{job}").status_code == 404
    assert bench.http.get("/fine-tunes").json() == {"data": []}
    assert [entry.remote_id for entry in bench.sandbox.ledger()] == [job]


@pytest.mark.parametrize(("wish", "status"), [("fail-data", "user_error"), ("fail-train", "error")])
def test_jobs_that_end_badly(bench, wish, status):
    job = bench.job(suffix=wish)
    bench.after(10_000)
    assert bench.status(job) == status
    last = bench.get(job, "/events")["data"][-1]
    assert (last["type"], last["level"]) == ("job_error", "error")
    assert wish in last["message"]


def test_wishes_in_the_data(bench):
    rows = {wish: ROW.replace("It is", f"sandbox:{wish}") for wish in ("quota", "fail-data", "fail-train")}
    assert bench.state(bench.upload(rows["fail-data"])) == "INVALID_FORMAT"
    broke = bench.upload(rows["quota"])
    reply = bench.create(training_file=broke)
    assert (reply.status_code, reply.json()["error"]["type"]) == (402, "payment_required")
    price = bench.http.post("/fine-tunes/estimate-price", json={"training_file": broke, "model": MODEL}).json()
    assert price["allowed_to_proceed"] is False
    job = bench.job(training_file=bench.upload(rows["fail-train"]))
    bench.after(10_000)
    assert bench.status(job) == "error"


# Weights.


def test_the_adapter_is_handed_out_when_the_job_is_complete(bench):
    job = bench.job(training_type={"type": "Lora", "lora_r": 4, "lora_alpha": 8})
    asked = {"ft_id": job, "checkpoint": "adapter"}
    assert bench.http.get("/finetune/download", params=asked).status_code == 400
    bench.after(10_000)
    reply = bench.http.get("/finetune/download", params=asked)
    packed = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(reply.content)).read()
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        names = {name.rpartition("/")[2]: name for name in tar.getnames()}
        config = json.load(tar.extractfile(names["adapter_config.json"]))
        weights = tar.extractfile(names["adapter_model.safetensors"]).read()
    assert (config["r"], config["lora_alpha"], config["base_model_name_or_path"]) == (4, 8, MODEL)
    from safetensors.numpy import load

    assert sorted(each.shape for each in load(weights).values()) == [(4, 8), (8, 4)]


@pytest.mark.parametrize(
    ("query", "status"),
    [({}, 400), ({"ft_id": "ft-none", "checkpoint": "adapter"}, 404), ({"ft_id": "x", "checkpoint": "all"}, 400)],
)
def test_downloads_that_are_none(bench, query, status):
    assert bench.http.get("/finetune/download", params=query).status_code == status


def test_a_full_training_has_no_adapter(bench):
    job = bench.job(training_type={"type": "Full"})
    bench.after(10_000)
    reply = bench.http.get("/finetune/download", params={"ft_id": job, "checkpoint": "adapter"})
    assert reply.status_code == 400


# The rest.


def test_models_and_their_limits(bench):
    models = bench.http.get("/fine-tunes/models/supported").json()["models"]
    assert MODEL in models
    told = bench.http.get("/fine-tunes/models/limits", params={"model_name": MODEL}).json()
    assert (told["model_name"], told["lora_training"]["default_rank"]) == (MODEL, 16)
    assert bench.http.get("/fine-tunes/models/limits", params={"model_name": "gpt-4o"}).status_code == 404


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Authorization": ""}, 401),
        ({"Authorization": "Bearer nobody"}, 401),
        ({"Authorization": "Basic sandbox-key"}, 401),
        ({"Authorization": "Bearer sandbox-no-access"}, 403),
    ],
)
def test_who_is_let_in(bench, headers, status):
    reply = bench.http.get("/fine-tunes", headers=headers)
    assert reply.status_code == status
    assert set(reply.json()["error"]) == {"message", "type", "param", "code"}


def test_unknown_paths_and_methods(bench):
    assert bench.http.get("/fine-tunes/a/b").status_code == 404
    assert bench.http.put("/fine-tunes").status_code == 405
    assert bench.http.get("/fine-tunes/ft-none").status_code == 404


def test_a_list_may_lag(bench):
    bench.sandbox.faults.list_lag_s = 30
    job = bench.job()
    assert bench.http.get("/fine-tunes").json() == {"data": []}
    bench.after(31)
    assert [row["id"] for row in bench.http.get("/fine-tunes").json()["data"]] == [job]


def test_faults_are_told_in_the_vendors_form(bench):
    bench.sandbox.faults.lay(Fault(kind="rate_limit", on="list", seconds=3))
    reply = bench.http.get("/fine-tunes")
    assert (reply.status_code, reply.headers["retry-after"]) == (429, "3")
    assert reply.json()["error"]["type"] == "rate_limit"
    bench.sandbox.faults.lay(Fault(kind="odd_state", on="retrieve"))
    assert bench.status(bench.job()) == "rebalancing"


def test_the_environment_points_here(bench):
    assert bench.server.environment == {"TOGETHER_BASE_URL": bench.server.url, "TOGETHER_API_KEY": "sandbox-key"}
