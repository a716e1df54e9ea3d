"""Together's adapter against the stand-in: what it sends, what it makes of answers, and what goes wrong on the way."""

import json
import subprocess
import sys
import threading
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from finetune import abilities
from finetune.errors import AuthenticationFailed, FtError, OutcomeUnknown, ProviderError, ProviderUnavailable
from finetune.jobs import Metric
from finetune.ports import RemoteData
from finetune.providers.together import TogetherProvider, build
from finetune.providers.together_files import Files
from finetune.providers.together_look import STATES, Cursor, Seen, observed
from finetune.providers.together_wire import VENDOR
from finetune.providers.troubles import Troubles
from finetune.sandbox.faults import Fault
from finetune.sandbox.server import Server
from finetune.sandbox.service import Reply
from finetune.sandbox.together.jobs import Timing
from tests.support import hosted
from tests.support.jobs import RECIPE, World, sqlite
from tests.wire.hosted.together_contract import STATUSES, Watched, form_names

MODEL = "Qwen/Qwen3.5-4B"
KEY = "ft_abcdefghij-a1"
TIMING = Timing(validating_s=0, pending_s=10, queued_s=10, running_s=1000, packing_s=10)
UNKNOWN = "ft-00000000-0000-4000-8000-000000000000"


class Rig:
    def __init__(self, folder, key=None, environ=None, **more):
        self.folder = folder
        self.sandbox = Watched(**{"timing": TIMING, **more})
        self.server = Server(self.sandbox)
        self.server.start()
        self.environ = {**self.server.environment, **({"TOGETHER_API_KEY": key} if key else {}), **(environ or {})}
        self.provider = self.another()
        self.data = hosted.data(folder, "together")

    def another(self, **more):
        kit = replace(hosted.kit(self.folder, self.environ), requests_per_s=10_000.0)
        return TogetherProvider(kit, **more)

    def recipe(self, **more):
        return hosted.recipe("together", MODEL, **more)

    def create(self, key=KEY, **more):
        return self.provider.create(self.recipe(**more), self.provider.upload(self.data), key).remote_id

    def sent(self, **more):
        """The body of a create of this recipe."""
        recipe = self.recipe(**more)
        assert self.provider.check(recipe) == []
        self.provider.create(recipe, self.provider.upload(self.data), KEY)
        return json.loads(self.sandbox.asked("create")[-1].body)

    def after(self, seconds):
        self.sandbox.clock.advance(seconds)

    def fault(self, kind, on, **more):
        self.sandbox.faults.lay(Fault(kind=kind, on=on, **more))

    def stop(self):
        self.server.stop()
        assert self.server.broken == []
        assert self.sandbox.violations == []


@pytest.fixture
def rig(tmp_path):
    made = Rig(tmp_path)
    yield made
    made.stop()


@pytest.fixture
def rigs(tmp_path):
    made = []

    def make(**more):
        made.append(Rig(tmp_path, **more))
        return made[-1]

    yield make
    for each in made:
        each.stop()


def fails(call):
    """The error and its problem."""
    with pytest.raises(FtError) as caught:
        call()
    return caught.value, caught.value.problems[0]


def answered(rig, operation, reply):
    """From now on this operation answers so, whatever is asked; `reply` may be a function of the request."""
    answer = reply if callable(reply) else lambda request: reply
    for place, (route, pattern) in enumerate(rig.server.table):
        if route.operation == operation:
            rig.server.table[place] = (replace(route, answer=answer), pattern)


# What is sent.


def test_what_a_create_sends_when_the_recipe_sets_nothing(rig):
    file = rig.provider.upload(rig.data).ids["train"]
    assert rig.sent() == {
        "training_file": file,
        "model": MODEL,
        "suffix": KEY,
        "training_method": {"method": "sft", "train_on_inputs": "auto"},
        "n_epochs": 3,
    }
    (sent,) = rig.sandbox.asked("create")
    assert (sent.method, sent.path, sent.query_text) == ("POST", "/v1/fine-tunes", "")
    assert sent.headers["authorization"] == "Bearer sandbox-key"


def test_what_a_create_sends_when_the_recipe_sets_everything(rig):
    rig.data = hosted.data(rig.folder, "together", held_out=2)
    ids = rig.provider.upload(rig.data).ids
    told = rig.sent(
        seed=7,
        validation={"split": 0.1},
        training={
            "epochs": 4,
            "batch_size": 16,
            "learning_rate": 2e-5,
            "weight_decay": 0.25,
            "warmup_ratio": 0.125,
            "max_seq_length": 4096,
            "max_grad_norm": 0.5,
            "packing": True,
            "lr_scheduler": "cosine",
        },
        lora={"r": 8, "alpha": 24, "dropout": 0.25, "target_modules": ["q_proj", "v_proj"]},
        provider_options={
            "n_checkpoints": 2,
            "n_evals": 5,
            "gradient_accumulation_steps": 2,
            "min_lr_ratio": 0.5,
            "num_cycles": 0.25,
            "train_on_inputs": True,
            "train_vision": False,
            "early_stopping_enabled": True,
            "early_stopping_patience": 3,
            "early_stopping_min_delta": 0.5,
            "early_stopping_warmup_evals": 1,
        },
    )
    assert told == {
        "training_file": ids["train"],
        "validation_file": ids["validation"],
        "model": MODEL,
        "suffix": KEY,
        "training_method": {"method": "sft", "train_on_inputs": True},
        "n_epochs": 4,
        "batch_size": 16,
        "learning_rate": 2e-5,
        "weight_decay": 0.25,
        "warmup_ratio": 0.125,
        "max_seq_length": 4096,
        "max_grad_norm": 0.5,
        "packing": True,
        "random_seed": 7,
        "lr_scheduler": {
            "lr_scheduler_type": "cosine",
            "lr_scheduler_args": {"min_lr_ratio": 0.5, "num_cycles": 0.25},
        },
        "training_type": {
            "type": "Lora",
            "lora_r": 8,
            "lora_alpha": 24,
            "lora_dropout": 0.25,
            "lora_trainable_modules": "q_proj,v_proj",
        },
        "n_checkpoints": 2,
        "n_evals": 5,
        "gradient_accumulation_steps": 2,
        "multimodal_params": {"train_vision": False},
        "early_stopping_enabled": True,
        "early_stopping_patience": 3,
        "early_stopping_min_delta": 0.5,
        "early_stopping_warmup_evals": 1,
    }


def test_what_of_an_adapter_is_not_set_is_as_the_recipe_has_it(rig):
    assert rig.sent(lora={"r": 64})["training_type"] == {
        "type": "Lora",
        "lora_r": 64,
        "lora_alpha": 32,
        "lora_dropout": 0.0,
        "lora_trainable_modules": "all-linear",
    }


def test_a_linear_schedule(rig):
    told = rig.sent(training={"lr_scheduler": "linear"})["lr_scheduler"]
    assert told == {"lr_scheduler_type": "linear", "lr_scheduler_args": {"min_lr_ratio": 0.0}}


@pytest.mark.parametrize(
    ("options", "method"),
    [
        ({}, {"method": "dpo"}),
        ({"dpo_beta": 0.5, "rpo_alpha": 1}, {"method": "dpo", "dpo_beta": 0.5, "rpo_alpha": 1}),
        (
            {"simpo_gamma": 0.5},
            {
                "method": "dpo",
                "simpo_gamma": 0.5,
                "dpo_reference_free": True,
                "dpo_normalize_logratios_by_length": True,
            },
        ),
    ],
)
def test_preferences(rig, options, method):
    rig.data = hosted.data(rig.folder, "together-preference")
    assert rig.sent(method="dpo", provider_options=options)["training_method"] == method


def test_held_out_rows_are_evaluated_once_unless_the_recipe_says_how_often(rig):
    rig.data = hosted.data(rig.folder, "together", held_out=2)
    assert rig.sent()["n_evals"] == 1
    assert rig.sent(validation={"split": 0.1}, provider_options={"n_evals": 4})["n_evals"] == 4


def test_everything_else_that_is_sent(rig):
    job = rig.create()
    rig.provider.find(KEY)
    rig.provider.poll(job, None)
    rig.after(500)
    rig.provider.poll(job, rig.provider.poll(job, None).cursor)
    rig.provider.cancel(job)
    rig.provider.reach()
    file = rig.provider.files()[0].file_id
    rig.provider.delete_file(file)
    place = rig.sandbox.asked("put")[0]
    told = [(each.method, each.path, each.query_text) for _, each in rig.sandbox.sent]
    jobs = "/v1/fine-tunes"
    step = json.loads(rig.provider.poll(job, None).cursor)["step"]
    assert told == [
        ("GET", "/v1/files", ""),
        ("POST", "/v1/files", ""),
        ("PUT", place.path, place.query_text),
        ("POST", f"/v1/files/{file}/preprocess", ""),
        ("POST", f"{jobs}/estimate-price", ""),
        ("POST", jobs, ""),
        ("GET", jobs, ""),
        ("GET", f"{jobs}/{job}", ""),
        ("GET", f"{jobs}/{job}/events", ""),
        ("GET", f"{jobs}/{job}", ""),
        ("GET", f"{jobs}/{job}/events", ""),
        ("GET", f"{jobs}/{job}/metrics", ""),
        ("GET", f"{jobs}/{job}", ""),
        ("GET", f"{jobs}/{job}/events", ""),
        ("GET", f"{jobs}/{job}/metrics", f"global_step_from={step}"),
        ("POST", f"{jobs}/{job}/cancel", ""),
        ("GET", jobs, ""),
        ("GET", "/v1/files", ""),
        ("DELETE", f"/v1/files/{file}", ""),
    ]
    # The address of the storage is the permission; the key goes nowhere else.
    assert "authorization" not in place.headers
    assert place.body == rig.data.train.read_bytes()
    assert place.headers["content-length"] == str(len(place.body))
    assert form_names(rig.sandbox.asked("upload")[0].body) == ["purpose", "file_name", "file_type", "checksum"]
    estimate = json.loads(rig.sandbox.asked("estimate")[0].body)
    assert sorted(estimate) == ["model", "n_epochs", "training_file", "training_method"]


# Files.


def test_a_file_is_uploaded_once(rig):
    rig.data = hosted.data(rig.folder, "together", held_out=2)
    first = rig.provider.upload(rig.data)
    assert rig.another().upload(rig.data) == first
    assert first.ids["train"] != first.ids["validation"]
    assert rig.provider.file_ids(first.ids) == [first.ids["train"], first.ids["validation"]]
    assert len(rig.sandbox.asked("upload")) == len(rig.sandbox.asked("put")) == 2


def test_a_content_that_somebody_else_has_uploaded_is_taken_and_never_deleted(rig):
    theirs = replace(rig.data, digest="e" * 64)
    there = rig.provider.upload(theirs)
    mine = rig.provider.upload(rig.data)
    assert mine.ids["train"] == there.ids["train"]
    assert rig.provider.file_ids(there.ids) == [there.ids["train"]]
    assert rig.provider.file_ids(mine.ids) == []
    assert rig.provider.upload(rig.data) == mine


def test_a_file_of_another_size_is_not_taken_for_ours(rig):
    first = rig.provider.upload(rig.data)
    longer = hosted.data(rig.folder, "together", rows=13)
    assert rig.provider.upload(longer) != first


def test_two_at_once_may_both_upload(rig):
    got = []
    threads = [threading.Thread(target=lambda: got.append(rig.another().upload(rig.data))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 4
    for each in got:
        assert rig.provider.create(rig.recipe(), each, KEY).raw_state == "pending"


def test_only_our_files_are_shown_and_a_delete_is_idempotent(rig):
    rig.provider.upload(rig.data)
    rig.sandbox.files.get(rig.provider.files()[0].file_id)
    files = Files(rig.provider._wire, read_s=5, upload_s=5)
    for name in ("ft-notes.jsonl", "theirs-ft-1.jsonl"):
        other = rig.folder / name
        other.write_text(hosted.ROWS["together"].replace("%d", name) + "\n")
        files._send(name, other)
    (only,) = rig.provider.files()
    assert (only.name, only.bytes) == (f"ft-{'d' * 32}-train.jsonl", rig.data.train.stat().st_size)
    assert only.uploaded_at.tzinfo is UTC
    rig.provider.delete_file(only.file_id)
    rig.provider.delete_file(only.file_id)
    assert rig.provider.files() == []


def test_data_that_its_look_refuses(rig):
    rig.data.train.write_text('{"messages": []}\n')
    for _ in range(2):
        error, problem = fails(lambda: rig.provider.upload(rig.data))
        assert (type(error), problem.code) == (ProviderError, "E413")
        assert "must be a list with something in it" in problem.why


def test_a_look_that_has_failed_is_no_fault_of_the_data(rig):
    row = {"id": "file-1", "filename": "x", "bytes": 1, "processing_status": "FAILED"}
    answered(rig, "preprocess", Reply(body=row))
    error, problem = fails(lambda: rig.provider.upload(rig.data))
    assert (type(error), problem.code) == (ProviderError, "E413")
    assert "ft files --delete file-1" in problem.fix


def test_a_file_is_waited_for_without_holding_a_worker(rigs):
    rig = rigs(timing=replace(TIMING, validating_s=100))
    for pause_s in (0, 60):
        rig.after(pause_s)
        error, problem = fails(lambda: rig.provider.upload(rig.data))
        assert (type(error), problem.code, error.after_s) == (ProviderUnavailable, "E403", 1.0)
    rig.after(60)
    assert rig.provider.upload(rig.data).ids["train"]
    assert len(rig.sandbox.asked("put")) == 1


def test_a_file_at_which_nobody_has_asked_to_look_is_looked_at(rig):
    rig.fault("cut_before", "preprocess")
    with pytest.raises(ProviderUnavailable):
        rig.provider.upload(rig.data)
    assert rig.provider.upload(rig.data).ids["train"]
    assert len(rig.sandbox.asked("put")) == 1


def test_a_look_that_was_asked_for_before_may_be_refused(rig):
    rig.fault("cut_before", "preprocess")
    with pytest.raises(ProviderUnavailable):
        rig.provider.upload(rig.data)
    asked = {"id": "", "filename": "", "processing_status": "COMPLETED"}
    answered(rig, "preprocess", Reply(status=409, body={"error": {"message": "was asked for", "type": "x"}}))
    answered(rig, "retrieve_file", lambda request: Reply(body={**asked, "id": request.parts["file_id"]}))
    assert rig.provider.upload(rig.data).ids["train"]


def test_an_api_without_looks_is_enough(rig):
    def bare(request):
        return Reply(body={"id": request.parts["file_id"], "filename": f"ft-{'d' * 32}-train.jsonl", "bytes": 1})

    answered(rig, "preprocess", bare)
    assert rig.provider.upload(rig.data).ids["theirs"] == []


@pytest.mark.parametrize(
    "headers",
    [{}, {"Location": "/storage/x"}, {"X-Together-File-Id": "file-1"}, {"Location": "/x", "X-Together-File-Id": "a/b"}],
)
def test_an_upload_that_does_not_say_where(rig, headers):
    answered(rig, "upload", Reply(status=302, headers=headers))
    error, problem = fails(lambda: rig.provider.upload(rig.data))
    assert (type(error), problem.code) == (ProviderUnavailable, "E411")


@pytest.mark.parametrize("place", ["ftp://127.0.0.1/x", "file:///etc/passwd", "nowhere", "http://"])
def test_a_file_goes_to_no_place_that_is_none(rig, place):
    answered(rig, "upload", Reply(status=302, headers={"Location": place, "X-Together-File-Id": "file-1"}))
    error, problem = fails(lambda: rig.provider.upload(rig.data))
    assert (type(error), problem.code) == (ProviderUnavailable, "E411")


def test_the_storage_may_send_the_file_on(rig):
    real = {}

    def told(request):
        reply = rig.sandbox.files.tell(request, 0.0)
        real["place"] = reply.headers["Location"]
        return replace(reply, headers={**reply.headers, "Location": f"{rig.server.url}/storage/elsewhere"})

    def put(request):
        if request.parts["place"] == "elsewhere":
            return Reply(status=307, headers={"Location": real["place"]})
        return rig.sandbox.files.put(request)

    answered(rig, "upload", told)
    answered(rig, "put", put)
    assert rig.provider.upload(rig.data).ids["train"]
    answered(rig, "put", lambda request: Reply(status=307, headers={"Location": request.path}))
    error, problem = fails(lambda: rig.provider.upload(hosted.data(rig.folder, "together", rows=5)))
    assert (type(error), problem.code) == (ProviderUnavailable, "E411")
    assert "from place to place" in problem.why


def test_a_permission_that_has_run_out_is_asked_for_anew(rig):
    said = b"<Error><Code>AccessDenied</Code><StringToSign>AWS4 secret</StringToSign></Error>"
    for status in (400, 403):
        answered(rig, "put", Reply(status=status, body=said))
        error, problem = fails(lambda: rig.provider.upload(rig.data))
        assert (type(error), problem.code) == (ProviderUnavailable, "E403")
        assert problem.why == f"the storage answers {status} AccessDenied", "the rest has parts of the permission"


def in_parts(rig):
    """Files of which no more than a few rows go into one request."""
    files = Files(rig.provider._wire, read_s=5, upload_s=5)
    files.whole_bytes, files.part_bytes = 100, 256
    return files


def test_a_large_file_goes_in_parts(rig):
    files = in_parts(rig)
    first = files.upload(rig.data)
    size = rig.data.train.stat().st_size
    puts = rig.sandbox.asked("put")
    assert [len(each.body) for each in puts] == [256] * (size // 256) + [size % 256]
    assert b"".join(each.body for each in puts) == rig.data.train.read_bytes()
    assert rig.sandbox.files.get(first["train"]).content == rig.data.train.read_bytes()
    assert files.upload(rig.data) == first
    # Of this content, but under another name: known at once.
    assert files.upload(replace(rig.data, digest="a" * 64))["train"] == first["train"]
    assert len(rig.sandbox.asked("put")) == len(puts)


def test_parts_that_break_off_are_given_up(rig):
    files = in_parts(rig)
    rig.fault("server_error", "put")
    error, _ = fails(lambda: files.upload(rig.data))
    assert type(error) is ProviderUnavailable
    assert len(rig.sandbox.asked("abort")) == 1
    assert files.upload(rig.data)["train"]


@pytest.mark.parametrize(
    "begun",
    [
        {"upload_id": "u", "file_id": "file-1"},
        {"upload_id": "u", "parts": []},
        {"upload_id": "u", "file_id": "file-1", "parts": [{"PartNumber": 1}]},
        {"upload_id": "u", "file_id": "file-1", "parts": [{"PartNumber": 99, "URL": "http://127.0.0.1/x"}]},
        {"upload_id": "u", "file_id": "file-1", "parts": [7]},
    ],
)
def test_an_upload_in_parts_that_does_not_say_where(rig, begun):
    answered(rig, "initiate", Reply(body=begun))
    answered(rig, "abort", Reply(body={}))
    error, problem = fails(lambda: in_parts(rig).upload(rig.data))
    assert (type(error), problem.code) == (ProviderUnavailable, "E411")
    assert rig.sandbox.asked("put") == []


# Looking up.


def test_find_is_exact_and_oldest_first(rig):
    keys = ["ft_x-a1", "ft_x-a10", "ft_x-a1", "ft_x-a1", "FT_X-A1"]
    made = [rig.create(key) for key in keys]
    assert [job.remote_id for job in rig.provider.find("ft_x-a1")] == [made[0], made[2], made[3]]
    assert rig.provider.find("ft_x") == []


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("me/Qwen3.5-4B-ft_x-a1-0a1b2c3d", True),
        ("me/Qwen3.5-4B:ft_x-a1:ft-0a1b", True),
        ("me/Qwen3.5-4B-ft_x-a1", True),
        ("me/Qwen3.5-4B-ft_x-a10-0a1b2c3d", False),
        ("me/Qwen3.5-4B-2ft_x-a1-0a1b2c3d", False),
        ("me/Qwen3.5-4B-0a1b2c3d", False),
        (None, False),
    ],
)
def test_a_list_without_suffixes_shows_the_key_in_the_models_name(rig, name, found):
    row = {"id": "ft-1", "status": "pending", "created_at": "2026-11-29T00:00:00Z", "model_output_name": name}
    answered(rig, "list", Reply(body={"data": [row]}))
    assert [job.remote_id for job in rig.provider.find("ft_x-a1")] == ["ft-1"] * found
    # A suffix of its own counts for more than any name.
    answered(rig, "list", Reply(body={"data": [{**row, "suffix": "other"}]}))
    assert rig.provider.find("ft_x-a1") == []


def test_find_is_patient_with_a_list_that_lags(rig):
    rig.sandbox.faults.list_lag_s = 20
    job = rig.create()
    assert rig.provider.find(KEY) == []
    rig.after(rig.provider.grace_s)
    assert [each.remote_id for each in rig.provider.find(KEY)] == [job]


# What it costs.


def test_the_apis_own_price_is_held_against_the_limit(rig):
    tokens = sum(-(-len(line) // 4) for line in rig.data.train.read_bytes().splitlines())
    price = Decimal("0.48") * tokens * 100 / 1_000_000
    dear = {"training": {"epochs": 100}, "limits": {"max_cost": "0.01 USD"}}
    assert Decimal("0.01") < price <= Decimal("0.02")
    error, problem = fails(lambda: rig.create(**dear))
    assert (type(error), problem.code) == (ProviderError, "E311")
    assert "asks 0.02 US dollars" in problem.what
    assert rig.sandbox.ledger() == []
    rig.create(training={"epochs": 100}, limits={"max_cost": "1 USD"})
    assert len(rig.sandbox.ledger()) == 1


def test_without_credit_nothing_is_created(rig):
    told = {"estimation_available": True, "allowed_to_proceed": False, "estimated_total_price": 1234.5, "user_limit": 1}
    answered(rig, "estimate", Reply(body=told))
    error, problem = fails(rig.create)
    assert (type(error), problem.code) == (ProviderError, "E408")
    assert "1234.50 US dollars" in problem.why
    assert rig.sandbox.ledger() == []


@pytest.mark.parametrize(
    ("reason", "kind", "code"),
    [
        ("train_file_not_validated", ProviderUnavailable, "E403"),
        ("eval_file_not_validated", ProviderUnavailable, "E403"),
        ("train_file_invalid", ProviderError, "E413"),
        ("eval_file_invalid", ProviderError, "E413"),
    ],
)
def test_there_is_no_price_of_files_that_are_no_good(rig, reason, kind, code):
    answered(rig, "estimate", Reply(body={"estimation_available": False, "unavailable_reason": reason}))
    error, problem = fails(rig.create)
    assert (type(error), problem.code) == (kind, code)
    assert rig.sandbox.ledger() == []


def test_an_estimate_without_a_price_starts_nothing_that_has_a_limit(rig):
    answered(rig, "estimate", Reply(body={"estimation_available": True, "allowed_to_proceed": True}))
    error, _ = fails(lambda: rig.create(limits={"max_cost": "1 USD"}))
    assert type(error) is ProviderUnavailable
    assert rig.sandbox.ledger() == []
    assert rig.create()


@pytest.mark.parametrize("told", [{"message": "maintenance"}, {"jobs": []}])
def test_what_is_no_list_does_not_say_that_the_job_is_not_there(rig, told):
    answered(rig, "list", Reply(body=told))
    error, _ = fails(lambda: rig.provider.find("ft_x-a1"))
    assert type(error) is ProviderUnavailable


@pytest.mark.parametrize(
    "told",
    [
        {"estimation_available": False, "unavailable_reason": "multimodal_dataset"},
        # As the description of 2026-04 has it.
        {"estimated_total_price": 0.5, "allowed_to_proceed": True},
        {},
    ],
)
def test_where_there_is_no_price_the_plans_holds(rig, told):
    answered(rig, "estimate", Reply(body=told))
    assert rig.create(limits={"max_cost": "1 USD"})


# The life of a job.


def test_a_job_runs_to_its_model(rig):
    job = rig.create()
    for pause_s, raw, state in (
        (0, "pending", "queued"),
        (11, "queued", "queued"),
        (10, "running", "running"),
        (1000, "compressing", "running"),
        (10, "uploading", "running"),
        (10, "completed", "succeeded"),
    ):
        rig.after(pause_s)
        seen = rig.provider.poll(job, None)
        assert (seen.raw_state, seen.state, seen.quote) == (raw, state, None)
        assert (seen.artifact is None) is (state != "succeeded")
    tokens = 3 * sum(-(-len(line) // 4) for line in rig.data.train.read_bytes().splitlines())
    assert seen.artifact == {
        "model": f"sandbox_1a2b/Qwen3.5-4B-{KEY}-{job[3:11]}",
        "job": job,
        "trained_tokens": tokens,
        "tuning": "Lora",
        "object": f"ml_{job[3:].replace('-', '')}",
    }
    assert seen.spent_usd == (Decimal("0.48") * tokens / 1_000_000).quantize(Decimal("0.0001"))


def test_events_and_metrics_come_once_and_in_order(rig):
    rig.data = hosted.data(rig.folder, "together", rows=80, held_out=4)
    job = rig.create(provider_options={"n_evals": 3}, validation={"split": 0.1}, training={"batch_size": 8})
    cursor, events, metrics, progress = None, [], [], []
    for pause_s in (0, 15, 6, 100, 0, 3, 400, 0, 400, 400, 0):
        rig.after(pause_s)
        seen = rig.provider.poll(job, cursor)
        cursor = seen.cursor
        events += seen.events
        metrics += seen.metrics
        progress.append(seen.progress)
    whole = rig.provider.poll(job, None)
    assert tuple(events) == whole.events
    assert tuple(metrics) == whole.metrics
    words = [event.message for event in events]
    assert words[:2] == ["Fine-tune request created", "Job started"]
    assert [each for each in words if each.startswith("Epoch")] == [
        f"Epoch completed, at step {step}" for step in (10, 20, 30)
    ]
    assert words[-1] == "Job finished"
    assert {event.kind for event in events} == {"provider"}
    assert [metric.step for metric in metrics if metric.name == "loss"] == list(range(1, 31))
    assert Counter(metric.name for metric in metrics) == {
        "loss": 30,
        "learning_rate": 30,
        "grad_norm": 30,
        "eval_loss": 3,
    }
    losses = [metric.value for metric in metrics if metric.name == "loss"]
    assert losses[0] > losses[-1]
    assert (progress[0]["step"], progress[-1]) == (
        0,
        {"step": 30, "total_steps": 30, "loss": losses[-1], "eta_s": None},
    )
    again = rig.provider.poll(job, cursor)
    assert (again.events, again.metrics) == ((), ())


def test_progress_on_the_way(rig):
    rig.data = hosted.data(rig.folder, "together", rows=80)
    job = rig.create(training={"epochs": 4})
    rig.after(20 + 510)
    told = rig.provider.poll(job, None).progress
    assert (told["step"], told["total_steps"]) == (20, 40)
    assert told["eta_s"] == pytest.approx(490, abs=2)
    assert 0 < told["loss"] < 2.1


@pytest.mark.parametrize("when", ["waiting", "training"])
def test_a_cancel_is_idempotent(rig, when):
    rig.data = hosted.data(rig.folder, "together", rows=800)
    job = rig.create()
    rig.after(5 if when == "waiting" else 520)
    rig.provider.cancel(job)
    rig.provider.cancel(job)
    asked = rig.provider.poll(job, None)
    assert asked.raw_state == ("cancelled" if when == "waiting" else "cancel_requested")
    assert asked.state == ("cancelled" if when == "waiting" else "running")
    rig.after(1)
    seen = rig.provider.poll(job, asked.cursor)
    assert seen.state == "cancelled"
    # The half that was trained is paid.
    whole = Decimal("0.48") * 3 * sum(-(-len(line) // 4) for line in rig.data.train.read_bytes().splitlines())
    assert seen.spent_usd == pytest.approx(0 if when == "waiting" else whole / 2 / 1_000_000, abs=Decimal("0.0002"))
    rig.provider.cancel(job)


def test_a_cancel_after_the_end_changes_nothing(rig):
    job = rig.create()
    rig.after(10_000)
    rig.provider.cancel(job)
    assert rig.provider.poll(job, None).state == "succeeded"


@pytest.mark.parametrize("status", [400, 409, 422])
def test_a_cancel_that_is_refused_is_silent_only_when_it_is_under_way(rig, status):
    job = rig.create()
    answered(rig, "cancel", Reply(status=status, body={"error": {"message": "not now", "type": "x"}}))
    error, problem = fails(lambda: rig.provider.cancel(job))
    assert isinstance(error, ProviderError)
    assert "not now" in problem.why
    for raw in ("cancel_requested", "cancelled", "error", "completed"):
        answered(rig, "retrieve", Reply(body={"id": job, "status": raw}))
        rig.provider.cancel(job)


def test_data_that_fails_on_the_way(rig):
    job = rig.create("fail-data")
    rig.after(200)
    seen = rig.provider.poll(job, None)
    assert (seen.state, seen.raw_state, seen.problem.code) == ("failed", "user_error", "E401")
    assert "fail-data" in seen.problem.why
    assert seen.events[-1].kind == "error"
    # Whether a failure is billed is not published.
    assert seen.spent_usd is None


def test_a_training_that_fails(rig):
    job = rig.create("fail-train")
    rig.after(10_000)
    seen = rig.provider.poll(job, None)
    assert (seen.state, seen.raw_state, seen.problem.code) == ("failed", "error", "E401")
    assert "fail-train" in seen.problem.why
    assert seen.metrics


def test_an_unknown_state_breaks_nothing_and_is_told_once(rig):
    job = rig.create()
    rig.after(100)
    cursor = rig.provider.poll(job, None).cursor
    rig.fault("odd_state", "retrieve", times=None)
    first = rig.provider.poll(job, cursor)
    assert (first.state, first.raw_state) == ("running", "rebalancing")
    assert [event.kind for event in first.events] == ["warning"]
    assert "'rebalancing'" in first.events[0].message
    assert rig.provider.poll(job, first.cursor).events == ()
    # From the start: what has happened tells that it runs.
    assert rig.provider.poll(job, None).state == "running"
    rig.after(10_000)
    rig.sandbox.faults.clear()
    assert rig.provider.poll(job, first.cursor).state == "succeeded"


# Answers that no stand-in gives, but an API may.


def job(**more):
    return {"id": "ft-1", "status": "running", "created_at": "2026-11-24T00:00:00Z", **more}


def look(told=None, events=(), metrics=(), cursor=None):
    seen = Seen(job=told or job(), events=events, metrics=metrics)
    return observed(seen, cursor or Cursor(), now=NOW, clean=Troubles("Together", ("very-secret-key",)).clean)


NOW = datetime(2026, 11, 24, tzinfo=UTC)


def test_every_status_of_the_contract_is_known():
    assert set(STATES) == set(STATUSES)


@pytest.mark.parametrize(
    ("level", "kind"),
    [
        (None, "provider"),
        ("info", "provider"),
        ("Info", "provider"),
        ("legacy_info", "provider"),
        ("Warning", "warning"),
        ("legacy_iwarning", "warning"),
        ("Error", "error"),
        ("legacy_ierror", "error"),
    ],
)
def test_levels_in_every_spelling(level, kind):
    row = {"level": level, "message": "m", "type": "warning", "created_at": "2026-11-24T00:00:00.5Z"}
    (event,) = look(events=[row]).events
    assert (event.kind, event.message, event.at) == (kind, "m", datetime(2026, 11, 24, 0, 0, 0, 500_000, UTC))


def test_events_in_either_order_without_words_and_without_a_time():
    rows = [{"message": str(at), "created_at": f"2026-11-24T00:00:0{at}Z"} for at in range(3)]
    for told in (rows, rows[::-1]):
        assert [event.message for event in look(events=told).events] == ["0", "1", "2"]
    (event,) = look(events=[{"type": "job_start", "created_at": "soon"}]).events
    assert (event.message, event.at) == ("job_start", NOW)


def test_words_of_the_api_are_cut_and_without_secrets():
    said = f"bad\nkey very-secret-key at https://s3?X-Amz-Signature=abc {'x' * 5000}"
    row = {"level": "error", "type": "job_error", "message": said, "created_at": "2026-11-24T00:00:00Z"}
    seen = look(told=job(status="error"), events=[row])
    odd = look(told=job(status=said))
    words = [seen.events[0].message, seen.problem.why, odd.raw_state, odd.events[-1].message, odd.cursor]
    for each in words:
        assert ("very-secret-key" in each, "Signature" in each, "\n" in each) == (False, False, False)
        assert "***" in each
        assert len(each) < 800


def test_rows_of_one_step_that_come_later_are_not_lost():
    first = {"train/global_step": 7, "train/loss": 0.5}
    seen = look(metrics=[first])
    late = {"train/global_step": 7.0, "eval/loss": 0.25, "eval/epoch": 1, "note": True, "bad": float("nan")}
    again = look(metrics=[first, late], cursor=Cursor.of(seen.cursor))
    assert again.metrics == (Metric(step=7, name="eval_loss", value=0.25),)
    assert look(metrics=[first, late], cursor=Cursor.of(again.cursor)).metrics == ()
    # The loss stays what it was.
    assert again.progress == {"step": 7, "total_steps": None, "loss": 0.5, "eta_s": None}


def test_a_row_without_a_step_is_left_out():
    assert look(metrics=[{"train/loss": 0.5}]).metrics == ()


def test_what_the_package_knows_of_steps():
    told = job(total_steps=40, steps_completed=10, progress={"estimate_available": True, "seconds_remaining": 30})
    assert look(told).progress == {"step": 10, "total_steps": 40, "loss": None, "eta_s": 30.0}
    assert look(job(progress={"estimate_available": False, "seconds_remaining": 0})).progress is None


@pytest.mark.parametrize(
    ("events", "why"),
    [
        ([], None),
        ([{"type": "job_error", "message": "disk"}], "it says: disk"),
        ([{"type": "JOB_USER_ERROR", "message": "a"}, {"level": "info", "message": "b"}], "it says: a"),
        ([{"level": "Error", "message": "c"}, {"level": "error", "message": "d"}], "it says: d"),
    ],
)
def test_why_a_job_has_failed(events, why):
    problem = look(job(status="error"), events).problem
    assert (problem.why if problem else None) == why


def test_prices_come_in_billionths():
    assert look(job(status="completed", total_price=1_234_500_000)).spent_usd == Decimal("1.2345")
    assert look(job(status="completed", total_price=None)).spent_usd is None
    # As long as it trains, what it says is what all of it will cost.
    assert look(job(total_price=1_234_500_000)).spent_usd is None


@pytest.mark.parametrize(
    "body", [b"<html>", [], "text", None, {}, {"id": "other", "status": "running"}, {"id": 7}, {"status": 3}]
)
def test_an_answer_that_is_no_job(rig, body):
    made = rig.create()
    answered(rig, "retrieve", Reply(body=body))
    error, problem = fails(lambda: rig.provider.poll(made, None))
    assert (type(error), problem.code) == (ProviderUnavailable, "E411")


@pytest.mark.parametrize(
    ("operation", "body"), [("events", {"data": [3]}), ("metrics", {"metrics": {}}), ("metrics", {"metrics": [[]]})]
)
def test_news_that_are_none(rig, operation, body):
    made = rig.create()
    rig.after(100)
    answered(rig, operation, Reply(body=body))
    if operation == "metrics" and body == {"metrics": {}}:
        assert rig.provider.poll(made, None).metrics == ()
        return
    error, problem = fails(lambda: rig.provider.poll(made, None))
    assert (type(error), problem.code) == (ProviderUnavailable, "E411")


def test_a_success_without_a_model_is_looked_at_again(rig):
    made = rig.create()
    answered(rig, "retrieve", Reply(body=job(id=made, status="completed", model_output_name=None)))
    error, problem = fails(lambda: rig.provider.poll(made, None))
    assert (type(error), problem.code) == (ProviderUnavailable, "E411")


@pytest.mark.parametrize("body", [{"data": "x"}, {"data": [3]}, {"data": [{}]}, []])
def test_a_list_that_is_none(rig, body):
    answered(rig, "list", Reply(body=body))
    error, problem = fails(lambda: rig.provider.find(KEY))
    assert (type(error), problem.code) == (ProviderUnavailable, "E411")


@pytest.mark.parametrize("body", [{"data": []}, {"data": None}, {}])
def test_a_list_without_jobs(rig, body):
    answered(rig, "list", Reply(body=body))
    assert rig.provider.find(KEY) == []


@pytest.mark.parametrize("body", [{}, {"id": 7}, b"<html>"])
def test_a_create_that_does_not_say_what_it_made(rig, body):
    answered(rig, "create", Reply(body=body))
    error, problem = fails(rig.create)
    assert (type(error), problem.code) == (OutcomeUnknown, "E411")


def test_a_redirect_is_not_followed(rig):
    answered(rig, "create", Reply(status=307, headers={"Location": rig.server.url + "/v1/files"}))
    error, problem = fails(rig.create)
    assert (type(error), problem.code) == (OutcomeUnknown, "E411")


@pytest.mark.parametrize(
    ("status", "body", "kind", "code"),
    [
        (400, {"error": {"message": "bad", "type": "x"}}, ProviderError, "E407"),
        (401, {"error": {"message": "who are you", "type": "x"}}, AuthenticationFailed, "E405"),
        (402, {"error": {"message": "pay", "type": "x"}}, ProviderError, "E408"),
        (404, {"message": "no"}, ProviderError, "E407"),
        (408, {"error": "late"}, OutcomeUnknown, "E403"),
        (409, {"error": {"message": "twice", "type": "x"}}, OutcomeUnknown, "E403"),
        (410, {"error": {"message": "gone", "type": "x"}}, ProviderError, "E406"),
        (429, {"error": {"message": "Your spending limit is reached", "type": "x"}}, ProviderError, "E408"),
        (429, {"error": {"message": "Too many requests", "type": "x"}}, ProviderUnavailable, "E410"),
        (500, b"<html>oops", OutcomeUnknown, "E403"),
        (524, b"", OutcomeUnknown, "E403"),
    ],
)
def test_what_refusals_of_a_create_mean(rig, status, body, kind, code):
    answered(rig, "create", Reply(status=status, body=body, headers={"x-request-id": "req-7"}))
    error, problem = fails(rig.create)
    assert (type(error), problem.code) == (kind, code)
    assert "req-7" in problem.why
    if isinstance(body, dict):
        told = body.get("error", body)
        assert (told if isinstance(told, str) else told["message"]) in problem.why


def test_faults_of_fields_are_told_by_name(rig):
    recipe = rig.recipe(training={"batch_size": 60000})
    error, problem = fails(lambda: rig.provider.create(recipe, rig.provider.upload(rig.data), KEY))
    assert (type(error), problem.code) == (ProviderError, "E407")
    assert "batch_size" in problem.why


def test_no_quota_at_the_create(rig):
    error, problem = fails(lambda: rig.create("quota"))
    assert (type(error), problem.code) == (ProviderError, "E408")


def test_a_job_that_is_not_there(rig):
    for call in (rig.provider.cancel, lambda job: rig.provider.poll(job, None)):
        error, problem = fails(lambda: call(UNKNOWN))  # noqa: B023 -- called at once
        assert (type(error), problem.code) == (ProviderError, "E402")
        assert "Fine-tune job not found" in problem.why


def test_an_id_cannot_ask_for_something_else(rig):
    error, _ = fails(lambda: rig.provider.poll("../files", None))
    assert type(error) is ProviderError
    assert rig.sandbox.asked("list_files") == []


# With the lifecycle.


class Moved(World):
    """Whose clock moves the stand-in's."""

    def __init__(self, rig):
        super().__init__(sqlite(rig.folder), rig.provider)
        turn = self.clock.sleep
        self.clock.sleep = lambda seconds: (turn(seconds), rig.after(seconds))
        self.recipe = {**RECIPE, "provider": "together", "base_model": MODEL}
        self.data = {
            "train": str(rig.data.train),
            "validation": None,
            "train_rows": 12,
            "validation_rows": 0,
            "digest": rig.data.digest,
            "format": "together",
        }

    def through(self, **more):
        fields = {"provider": "together", "base_model": MODEL, "recipe": {**self.recipe, **more}, "data": self.data}
        self.submit("ft_abcdefghij", **fields)
        return self.run("ft_abcdefghij", steps=300)


OPERATIONS = (
    "list_files",
    "upload",
    "put",
    "preprocess",
    "estimate",
    "create",
    "list",
    "retrieve",
    "events",
    "metrics",
)


@pytest.mark.parametrize("kind", [None, "cut_after", "cut_before", "server_error", "garbage"])
def test_the_lifecycle_pays_once_whatever_happens(rig, kind):
    for operation in OPERATIONS if kind else ():
        rig.fault(kind, operation)
    job = Moved(rig).through()
    assert (job.state, job.model) == ("succeeded", "bot@v1")
    assert job.artifact["model"].endswith(f"-{KEY}-{job.remote_id[3:11]}")
    assert [(entry.key, entry.live) for entry in rig.sandbox.ledger()] == [(KEY, True)]


def test_the_lifecycle_does_not_create_what_is_too_dear(rig):
    job = Moved(rig).through(limits={"max_cost": "0.01 USD"}, training={"epochs": 100})
    assert job.state == "failed"
    assert "asks 0.02 US dollars" in job.error["what"]
    assert rig.sandbox.ledger() == []


# What goes wrong on the way.

CALLS = {
    "list_files": lambda rig, made: rig.provider.upload(rig.other("e")),
    "upload": lambda rig, made: rig.provider.upload(rig.other("f")),
    "put": lambda rig, made: rig.provider.upload(rig.other("a")),
    "preprocess": lambda rig, made: rig.provider.upload(rig.other("b")),
    "estimate": lambda rig, made: rig.create("ft_new-a1"),
    "create": lambda rig, made: rig.create("ft_new-a1"),
    "list": lambda rig, made: rig.provider.find(KEY),
    "retrieve": lambda rig, made: rig.provider.poll(made, None),
    "events": lambda rig, made: rig.provider.poll(made, None),
    "metrics": lambda rig, made: rig.provider.poll(made, None),
    "cancel": lambda rig, made: rig.provider.cancel(made),
    "delete_file": lambda rig, made: rig.provider.delete_file(rig.provider.upload(rig.data).ids["train"]),
}
#: Where the answer's text is not needed.
WORDLESS = {"upload", "put", "delete_file", "cancel"}


def other(rig, sign):
    """Data of another content."""
    place = rig.folder / sign
    place.mkdir(exist_ok=True)
    return hosted.data(place, "together", rows=20 + ord(sign), digest=sign * 64)


Rig.other = other


@pytest.mark.parametrize("kind", ["rate_limit", "server_error", "unavailable", "cut_before", "cut_after", "garbage"])
@pytest.mark.parametrize("operation", CALLS)
def test_every_fault_at_every_operation(rig, operation, kind):
    made = rig.create()
    rig.after(200)
    rig.fault(kind, operation, seconds=0)
    if operation in WORDLESS and kind == "garbage":
        CALLS[operation](rig, made)
        return
    error, problem = fails(lambda: CALLS[operation](rig, made))
    doubt = operation == "create" and kind != "rate_limit"
    assert type(error) is (OutcomeUnknown if doubt else ProviderUnavailable), error
    wanted = {"rate_limit": "E410", "garbage": "E411"}.get(kind, "E403")
    if doubt and kind in ("cut_before", "cut_after"):
        wanted = "E409"
    assert problem.code == wanted
    # Once more goes well.
    CALLS[operation](rig, made)


def test_a_create_in_doubt_is_found_by_its_key(rig):
    rig.fault("cut_after", "create")
    with pytest.raises(OutcomeUnknown):
        rig.create()
    assert len(rig.provider.find(KEY)) == 1
    rig.fault("cut_before", "create")
    with pytest.raises(OutcomeUnknown):
        rig.create("ft_other-a1")
    assert rig.provider.find("ft_other-a1") == []


@pytest.mark.parametrize(("operation", "kind"), [("create", OutcomeUnknown), ("retrieve", ProviderUnavailable)])
def test_no_answer_in_time(rig, operation, kind):
    made = rig.create()
    rig.provider = rig.another(read_s=0.2)
    rig.fault("hang_after", operation, seconds=5)
    error, problem = fails(lambda: CALLS[operation](rig, made))
    assert type(error) is kind
    assert "ReadTimeout" in problem.why


def test_a_slow_answer_is_read_to_its_end(rig):
    made = rig.create()
    rig.fault("slow", "retrieve", seconds=0.05)
    assert rig.provider.poll(made, None).raw_state == "pending"


def test_nobody_there_means_that_nothing_was_done(rig):
    rig.environ["TOGETHER_BASE_URL"] = "http://127.0.0.1:9"
    rig.provider = rig.another()
    error, problem = fails(lambda: rig.provider.create(rig.recipe(), RemoteData(ids={"train": "x"}), KEY))
    assert (type(error), problem.code) == (ProviderUnavailable, "E403")


def test_after_a_rate_limit_nothing_is_sent_for_as_long_as_was_asked(rig):
    made = rig.create()
    rig.fault("rate_limit", "retrieve", seconds=60)
    error, _ = fails(lambda: rig.provider.poll(made, None))
    assert error.after_s == 60
    before = len(rig.sandbox.sent)
    error, problem = fails(lambda: rig.provider.poll(made, None))
    assert (type(error), problem.code) == (ProviderUnavailable, "E410")
    assert 0 < error.after_s <= 60
    assert len(rig.sandbox.sent) == before


def test_nothing_is_retried_below_us(rig):
    rig.fault("server_error", "create", times=None)
    with pytest.raises(OutcomeUnknown):
        rig.create()
    assert [each for each, _ in rig.sandbox.faults.happened] == ["create"]


# Credentials.


@pytest.mark.parametrize("key", ["sandbox-no-access", "wrong-key-of-somebody"])
def test_keys_that_are_not_taken(rigs, key):
    rig = rigs(key=key)
    for call in (
        rig.provider.reach,
        rig.create,
        rig.provider.files,
        lambda: rig.provider.find(KEY),
        lambda: rig.provider.poll(UNKNOWN, None),
        lambda: rig.provider.cancel(UNKNOWN),
        lambda: rig.provider.fetch_adapter({"job": UNKNOWN}, rig.folder / "adapter"),
    ):
        error, problem = fails(call)
        assert (type(error), problem.code) == (AuthenticationFailed, "E405")
        assert key not in str(error)


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({}, "TOGETHER_API_KEY is not set"),
        ({"TOGETHER_API_KEY": "  "}, "TOGETHER_API_KEY is not set"),
        ({"TOGETHER_API_KEY": "kéy"}, "no header can carry"),
        ({"TOGETHER_API_KEY": "a\nb"}, "no header can carry"),
        ({"TOGETHER_API_KEY": "k", "TOGETHER_BASE_URL": "api.together.ai"}, "TOGETHER_BASE_URL is no address"),
    ],
)
def test_what_is_missing_is_named_before_anything_is_sent(tmp_path, environ, words):
    provider = build(hosted.kit(tmp_path, environ))
    (problem,) = provider.unconfigured()
    assert problem.code == "E412"
    assert words in problem.what
    for call in (provider.reach, provider.files, lambda: provider.find(KEY), lambda: provider.poll("x", None)):
        error, again = fails(call)
        assert (type(error), again) == (AuthenticationFailed, problem)


def test_the_environment_of_the_process_is_not_read(rig, monkeypatch):
    monkeypatch.setenv("TOGETHER_API_KEY", "of-the-process")
    rig.provider.files()
    assert rig.sandbox.sent[-1][1].headers["authorization"] == "Bearer sandbox-key"
    assert build(hosted.kit(rig.folder, {})).unconfigured()


@pytest.mark.parametrize("end", ["", "/", "/v1", "/v1/"])
def test_an_address_may_be_written_with_the_version(rigs, end):
    rig = rigs()
    rig.environ["TOGETHER_BASE_URL"] = f" {rig.server.url}{end} "
    assert rig.another().files() == []


def test_a_key_is_sent_without_the_blanks_around_it(rigs):
    assert rigs(key=" sandbox-mine\n").provider.files() == []


def test_secrets_are_never_shown(rigs, caplog, capfd):
    key = "sandbox-of-somebody-1234567890"
    rig = rigs(key=key)
    caplog.set_level("DEBUG")
    reply = Reply(status=400, body={"error": {"message": f"You sent Bearer {key}", "type": "x"}})
    data = rig.provider.upload(rig.data)
    for operation in ("create", "retrieve", "list", "cancel", "upload", "download"):
        answered(rig, operation, reply)
    shown = []
    for call in (
        lambda: rig.provider.create(rig.recipe(), data, KEY),
        lambda: rig.provider.poll(UNKNOWN, None),
        lambda: rig.provider.find(KEY),
        lambda: rig.provider.cancel(UNKNOWN),
        lambda: rig.provider.upload(rig.other("c")),
        lambda: rig.provider.fetch_adapter({"job": UNKNOWN}, rig.folder / "adapter"),
    ):
        error, _ = fails(call)
        shown += [str(error), repr(error), repr(error.__cause__), repr(rig.provider)]
    assert "***" in "".join(shown)
    text = "".join(shown) + caplog.text + "".join(capfd.readouterr())
    assert key not in text
    # What permits to write to the storage is a secret too.
    assert "X-Amz-Signature" not in "".join(shown)


def test_nothing_is_loaded_before_it_is_needed(tmp_path):
    code = (
        "import sys; from pathlib import Path; from finetune.providers.together import build; "
        "from tests.support import hosted; p = build(hosted.kit(Path('.'), {'TOGETHER_API_KEY': 'k'})); "
        "p.unconfigured(); p.check(hosted.recipe('together', 'm')); "
        "print(sorted({n.partition('.')[0] for n in sys.modules} & {'zstandard', 'httpx', 'openai', 'torch'}))"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert told.stdout.strip() == "[]"


# What is checked before.


def test_it_is_what_it_says(rig):
    for ability in (abilities.Keyed, abilities.Storing, abilities.Deployable, abilities.Yielding):
        assert isinstance(rig.provider, ability)
    for ability in (abilities.Pausable, abilities.Startable, abilities.Notifying, abilities.Answering):
        assert not isinstance(rig.provider, ability)
    assert rig.provider.reach() == f"Together at {rig.server.url.removeprefix('http://')}"
    assert VENDOR == "https://api.together.ai"


@pytest.mark.parametrize(
    ("more", "place", "words"),
    [
        ({"training": {"lr_scheduler": "constant"}}, "training.lr_scheduler", "linear and cosine"),
        ({"training": {"packing": False}}, "training.packing", "as long as max_seq_length"),
        ({"provider_options": {"n_checkpoints": 0}}, "provider_options.n_checkpoints", "at least 1"),
        ({"provider_options": {"n_checkpoints": 1.5}}, "provider_options.n_checkpoints", "a whole number"),
        ({"provider_options": {"n_checkpoints": True}}, "provider_options.n_checkpoints", "a whole number"),
        ({"provider_options": {"train_on_inputs": "auto"}}, "provider_options.train_on_inputs", "true or false"),
        ({"provider_options": {"min_lr_ratio": 0.5}}, "provider_options.min_lr_ratio", "does not set that"),
        (
            {"training": {"lr_scheduler": "linear"}, "provider_options": {"num_cycles": 0.5}},
            "provider_options.num_cycles",
            "belongs to training.lr_scheduler cosine",
        ),
        (
            {"training": {"lr_scheduler": "cosine"}, "provider_options": {"num_cycles": 0}},
            "provider_options.num_cycles",
            "above 0",
        ),
        (
            {"training": {"lr_scheduler": "cosine"}, "provider_options": {"min_lr_ratio": 1.5}},
            "provider_options.min_lr_ratio",
            "1 at most",
        ),
        ({"provider_options": {"dpo_beta": 0.1}}, "provider_options.dpo_beta", "method dpo only"),
        (
            {"method": "dpo", "provider_options": {"train_on_inputs": True}},
            "provider_options.train_on_inputs",
            "method sft only",
        ),
        ({"method": "dpo", "provider_options": {"dpo_beta": 0}}, "provider_options.dpo_beta", "above 0"),
        ({"method": "dpo", "provider_options": {"rpo_alpha": -1}}, "provider_options.rpo_alpha", "at least 0"),
        ({"provider_options": {"n_evals": 2}}, "provider_options.n_evals", "no rows to evaluate"),
        (
            {"provider_options": {"early_stopping_enabled": True}},
            "provider_options.early_stopping_enabled",
            "no rows to evaluate",
        ),
        (
            {"validation": {"split": 0.1}, "provider_options": {"early_stopping_enabled": True, "n_evals": 3}},
            "provider_options.early_stopping_enabled",
            "4 evaluations",
        ),
        ({"provider_options": {"suffix": "mine"}}, "provider_options.suffix", "carries the key"),
        ({"provider_options": {"beta": 3}}, "provider_options.beta", "the API has n_checkpoints"),
    ],
)
def test_what_the_api_does_not_take(rig, more, place, words):
    (problem,) = rig.provider.check(rig.recipe(**more))
    assert (problem.code, problem.field) == ("E414", place)
    assert words in problem.why
    assert rig.sandbox.sent == []


def test_a_secret_in_the_wrong_place_is_not_shown(rig):
    options = {"hf_api_token": "very-secret", "wandb_api_key": "very-secret"}
    found = rig.provider.check(rig.recipe(provider_options=options))
    assert [problem.field for problem in found] == [f"provider_options.{name}" for name in options]
    assert "very-secret" not in str(found)


def test_all_faults_at_once(rig):
    more = {"training": {"packing": False}, "provider_options": {"x": 1, "n_checkpoints": 0}}
    assert len(rig.provider.check(rig.recipe(**more))) == 3


def test_defaults_of_the_recipe_that_nobody_wrote_are_no_fault(rig):
    assert rig.provider.check(rig.recipe(training={"packing": True}, provider_options={"n_checkpoints": 2})) == []


def test_a_region_is_not_taken_for_granted(rig):
    asked = {"limits": {"data": {"region": "eu"}}}
    assert [problem.field for problem in rig.provider.check(rig.recipe(**asked))] == ["limits.data"]
    assert rig.provider.check(rig.recipe(**asked, allow_ignored=["limits.data"])) == []


def test_a_password_in_the_address_is_not_shown(rig):
    """It is sent in the place of the key, so nothing works with it; but it is told to nobody."""
    rig.environ["TOGETHER_BASE_URL"] = rig.server.url.replace("http://", "http://me:SECRET@")
    with pytest.raises(AuthenticationFailed) as raised:
        rig.another().reach()
    assert "SECRET" not in f"{raised.value}{raised.value!r}"
