"""Mistral's adapter against the stand-in: what it sends, what it makes of answers, and what goes wrong on the way."""

import json
import logging
import subprocess
import sys
import threading
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from importlib import metadata

import httpx
import pytest

from finetune import abilities
from finetune.errors import AuthenticationFailed, FtError, OutcomeUnknown, ProviderError, ProviderUnavailable
from finetune.jobs import Metric
from finetune.ports import RemoteData
from finetune.providers.mistral import MistralProvider, build
from finetune.providers.mistral_look import STATES, Cursor, observed
from finetune.providers.mistral_wire import VENDOR, _hurry
from finetune.providers.troubles import Troubles
from finetune.sandbox.faults import Fault
from finetune.sandbox.mistral.jobs import Timing
from finetune.sandbox.server import Server
from finetune.sandbox.service import Reply
from tests.support import hosted
from tests.support.jobs import RECIPE, World, sqlite
from tests.wire.hosted.mistral_contract import STATUSES, Watched, form_names

MODEL = "open-mistral-7b"
KEY = "ft_abcdefghij-a1"
TIMING = Timing(queued_s=10, validating_s=100, running_s=1000)


class Rig:
    def __init__(self, folder, key=None, environ=None, **more):
        self.folder = folder
        self.sandbox = Watched(**{"timing": TIMING, **more})
        self.server = Server(self.sandbox)
        self.server.start()
        self.environ = {**self.server.environment, **({"MISTRAL_API_KEY": key} if key else {}), **(environ or {})}
        self.provider = self.another()
        self.data = hosted.data(folder, "mistral")

    def another(self, **more):
        kit = replace(hosted.kit(self.folder, self.environ), requests_per_s=10_000.0)
        return MistralProvider(kit, **more)

    def recipe(self, **more):
        return hosted.recipe("mistral", MODEL, **more)

    def create(self, key=KEY, **more):
        return self.provider.create(self.recipe(**more), self.provider.upload(self.data), key).remote_id

    def after(self, seconds):
        self.sandbox.clock.advance(seconds)

    def fault(self, kind, on, **more):
        self.sandbox.faults.lay(Fault(kind=kind, on=on, **more))

    def paid(self):
        return sum(entry.paid for entry in self.sandbox.ledger())

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


# What is sent.


def test_what_a_create_sends_when_the_recipe_sets_nothing(rig):
    file = rig.provider.upload(rig.data).ids["train"]
    rig.create()
    (sent,) = rig.sandbox.asked("create")
    assert (sent.method, sent.path, sent.query_text) == ("POST", "/v1/fine_tuning/jobs", "")
    assert json.loads(sent.body) == {
        "model": MODEL,
        "hyperparameters": {"epochs": 3},
        "training_files": [{"file_id": file, "weight": 1.0}],
        "suffix": KEY,
        "auto_start": False,
        "job_type": "completion",
    }
    assert sent.headers["authorization"] == "Bearer sandbox-key"


def test_what_a_create_sends_when_the_recipe_sets_everything(rigs):
    wandb = "w" * 40
    rig = rigs(environ={"WANDB_API_KEY": wandb})
    rig.data = hosted.data(rig.folder, "mistral", held_out=2)
    ids = rig.provider.upload(rig.data).ids
    recipe = rig.recipe(
        training={
            "epochs": 4,
            "learning_rate": 2e-5,
            "weight_decay": 0.25,
            "warmup_ratio": 0.125,
            "max_seq_length": 4096,
        },
        provider_options={
            "fim_ratio": 0.5,
            "invalid_sample_skip_percentage": 0.01,
            "wandb_project": "p",
            "wandb_name": "n",
            "wandb_run_name": "r",
        },
    )
    assert rig.provider.check(recipe) == []
    rig.provider.create(recipe, RemoteData(ids=ids), KEY)
    (sent,) = rig.sandbox.asked("create")
    assert json.loads(sent.body) == {
        "model": MODEL,
        "hyperparameters": {
            "epochs": 4.0,
            "learning_rate": 2e-5,
            "weight_decay": 0.25,
            "warmup_fraction": 0.125,
            "seq_len": 4096,
            "fim_ratio": 0.5,
        },
        "training_files": [{"file_id": ids["train"], "weight": 1.0}],
        "validation_files": [ids["validation"]],
        "suffix": KEY,
        "auto_start": False,
        "job_type": "completion",
        "invalid_sample_skip_percentage": 0.01,
        "integrations": [{"type": "wandb", "project": "p", "api_key": wandb, "name": "n", "run_name": "r"}],
    }


def test_steps_instead_of_epochs(rig):
    rig.create(provider_options={"training_steps": 30})
    assert json.loads(rig.sandbox.asked("create")[0].body)["hyperparameters"] == {"training_steps": 30}


def test_everything_else_that_is_sent(rig):
    job = rig.create()
    rig.provider.find(KEY)
    rig.provider.poll(job, None)
    rig.after(200)
    rig.provider.start(job)
    rig.provider.cancel(job)
    rig.provider.reach()
    file = rig.provider.files()[0].file_id
    rig.provider.delete_file(file)
    told = [(each.method, each.path, each.query_text) for _, each in rig.sandbox.sent]
    jobs = "/v1/fine_tuning/jobs"
    name = f"ft-{'d' * 32}-train.jsonl"
    assert told == [
        ("GET", "/v1/files", f"page=0&page_size=100&include_total=true&search={name}&purpose=fine-tune"),
        ("POST", "/v1/files", ""),
        ("POST", jobs, ""),
        ("GET", jobs, f"page=0&page_size=100&created_by_me=false&suffix={KEY}"),
        ("GET", f"{jobs}/{job}", ""),
        ("POST", f"{jobs}/{job}/start", ""),
        ("POST", f"{jobs}/{job}/cancel", ""),
        ("GET", jobs, "page=0&page_size=1&created_by_me=false"),
        ("GET", "/v1/files", "page=0&page_size=100&include_total=true&search=ft-&purpose=fine-tune"),
        ("DELETE", f"/v1/files/{file}", ""),
    ]
    upload = rig.sandbox.asked("upload")[0].body
    assert sorted(form_names(upload)) == ["file", "purpose", "visibility"]
    assert f'filename="{name}"'.encode() in upload
    assert rig.data.train.read_bytes() in upload


# Files.


def test_a_file_is_uploaded_once(rig):
    rig.data = hosted.data(rig.folder, "mistral", held_out=2)
    first = rig.provider.upload(rig.data)
    assert rig.another().upload(rig.data) == first
    assert first.ids["train"] != first.ids["validation"]
    assert rig.provider.file_ids(first.ids) == [first.ids["train"], first.ids["validation"]]
    assert len(rig.sandbox.asked("upload")) == 2


def test_a_file_of_another_size_is_not_taken_for_ours(rig):
    first = rig.provider.upload(rig.data)
    longer = hosted.data(rig.folder, "mistral", rows=13)
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
        assert rig.provider.create(rig.recipe(), each, KEY).raw_state == "QUEUED"


def test_only_our_files_are_shown_and_a_delete_is_idempotent(rig):
    rig.provider.upload(rig.data)
    wire = rig.provider._wire
    for name in ("ft-notes.jsonl", "theirs-ft-1.jsonl"):
        file = {"file_name": name, "content": rig.data.train.read_bytes()}
        wire.client.files.upload(file=file, purpose="fine-tune")
    (only,) = rig.provider.files()
    assert (only.name, only.bytes) == (f"ft-{'d' * 32}-train.jsonl", rig.data.train.stat().st_size)
    assert only.uploaded_at.tzinfo is UTC
    rig.provider.delete_file(only.file_id)
    rig.provider.delete_file(only.file_id)
    assert rig.provider.files() == []


def test_more_files_than_a_page(rig):
    for number in range(101):
        rig.provider._uploaded(rig.data.train, f"ft-{number:032x}-train.jsonl")
    found = rig.provider.files()
    assert len({file.name for file in found}) == 101
    assert [file.uploaded_at for file in found] == sorted((file.uploaded_at for file in found), reverse=True)


def test_data_that_is_refused_at_the_upload(rig):
    rig.data.train.write_text('{"messages": []}\n')
    error, problem = fails(lambda: rig.provider.upload(rig.data))
    assert (type(error), problem.code) == (ProviderError, "E413")
    assert "messages is not a list" in problem.why


# Looking up.


def test_find_is_exact_and_oldest_first(rig):
    keys = ["ft_x-a1", "ft_x-a10", "ft_x-a1", "ft_x-a1", "FT_X-A1"]
    made = [rig.create(key) for key in keys]
    assert [job.remote_id for job in rig.provider.find("ft_x-a1")] == [made[0], made[2], made[3]]
    assert rig.provider.find("ft_x") == []
    # Even when the API ignores the filter.
    rig.sandbox._by_suffix["ft_x"] = rig.sandbox._all
    assert rig.provider.find("ft_x") == []


def test_find_reads_all_pages(rig):
    data = rig.provider.upload(rig.data)
    made = [rig.provider.create(rig.recipe(), data, "k").remote_id for _ in range(205)]
    assert [job.remote_id for job in rig.provider.find("k")] == made
    assert len(rig.sandbox.asked("list")) == 3


def test_find_is_patient_with_a_list_that_lags(rig):
    rig.sandbox.faults.list_lag_s = 20
    job = rig.create()
    assert rig.provider.find(KEY) == []
    rig.after(rig.provider.grace_s)
    assert [each.remote_id for each in rig.provider.find(KEY)] == [job]


# The life of a job.


def test_a_create_is_free_and_waits_with_its_price(rig):
    job = rig.create(provider_options={"training_steps": 100})
    seen = rig.provider.poll(job, None)
    assert (seen.state, seen.raw_state, seen.quote) == ("queued", "QUEUED", None)
    rig.after(50)
    seen = rig.provider.poll(job, seen.cursor)
    assert (seen.state, seen.raw_state, seen.quote) == ("preparing", "VALIDATING", None)
    rig.after(100_000)
    seen = rig.provider.poll(job, seen.cursor)
    assert (seen.state, seen.raw_state) == ("preparing", "VALIDATED")
    data_tokens = sum(-(-len(line) // 4) for line in rig.data.train.read_bytes().splitlines())
    assert seen.quote == {"usd": "26.22", "tokens": 13_107_200, "data_tokens": data_tokens}
    rig.after(1000)
    assert rig.provider.poll(job, seen.cursor).quote == seen.quote
    assert rig.paid() == 0


def test_the_least_price(rig):
    job = rig.create(training={"epochs": 3})
    rig.after(200)
    quote = rig.provider.poll(job, None).quote
    assert (quote["usd"], quote["tokens"]) == ("4.00", 131_072)


def test_a_started_job_is_paid_once_and_ends_with_its_model(rig):
    job = rig.create()
    rig.after(200)
    rig.provider.start(job)
    assert rig.paid() == 1
    seen = rig.provider.poll(job, None)
    assert (seen.state, seen.raw_state, seen.quote) == ("preparing", "STARTED", None)
    for pause_s, raw in ((500, "RUNNING"), (10_000, "SUCCESS")):
        rig.after(pause_s)
        rig.provider.start(job)
        seen = rig.provider.poll(job, None)
        assert seen.raw_state == raw
    assert seen.state == "succeeded"
    assert seen.artifact["model"].startswith(f"ft:{MODEL}:5a4db0c5:")
    assert seen.artifact["model"].endswith(f":{KEY}:{job[:8]}")
    assert seen.artifact == {"model": seen.artifact["model"], "job": job, "trained_tokens": 131_072}
    assert rig.paid() == 1


def test_events_and_metrics_come_once_and_in_order(rig):
    rig.data = hosted.data(rig.folder, "mistral", held_out=1)
    job = rig.create(provider_options={"training_steps": 40})
    cursor, events, metrics, progress = None, [], [], []
    for pause_s in (0, 5, 50, 100, 0, 3, 400, 0, 400, 400, 0):
        rig.after(pause_s)
        if pause_s == 3:
            rig.provider.start(job)
        seen = rig.provider.poll(job, cursor)
        cursor = seen.cursor
        events += seen.events
        metrics += seen.metrics
        progress.append(seen.progress)
    whole = rig.provider.poll(job, None)
    assert tuple(events) == whole.events
    assert tuple(metrics) == whole.metrics
    words = [event.message for event in events]
    assert words == [
        f"status-updated: {word}" for word in ("QUEUED", "VALIDATING", "VALIDATED", "STARTED", "RUNNING", "SUCCESS")
    ]
    assert {event.kind for event in events} == {"provider"}
    assert [metric.step for metric in metrics if metric.name == "loss"] == [10, 20, 30, 40]
    assert Counter(metric.name for metric in metrics) == {"loss": 4, "eval_loss": 4, "eval_accuracy": 4}
    assert metrics[0].value > metrics[-3].value
    assert (progress[0], progress[-1]) == (None, {**whole.progress, "step": 40, "total_steps": 40, "eta_s": 0.0})
    assert rig.provider.poll(job, cursor).events == ()
    assert rig.provider.poll(job, cursor).metrics == ()


def test_progress_on_the_way(rig):
    job = rig.create(provider_options={"training_steps": 40})
    rig.after(200)
    rig.provider.start(job)
    rig.after(10 + 510)
    told = rig.provider.poll(job, None).progress
    assert (told["step"], told["total_steps"], told["eta_s"]) == (20, 40, 505.0)
    assert 0 < told["loss"] < 2


def test_a_start_must_wait_for_the_validation_and_nothing_is_done(rig):
    job = rig.create()
    error, problem = fails(lambda: rig.provider.start(job))
    assert type(error) is ProviderUnavailable
    assert "it is QUEUED, not VALIDATED" in problem.why
    rig.after(10_000)
    assert rig.provider.poll(job, None).quote
    assert rig.paid() == 0


def test_a_start_of_a_cancelled_job_leaves_the_telling_to_the_poll(rig):
    job = rig.create()
    rig.provider.cancel(job)
    rig.provider.start(job)
    assert rig.provider.poll(job, None).state == "cancelled"
    assert rig.paid() == 0


@pytest.mark.parametrize("when", ["waiting", "training"])
def test_a_cancel_is_idempotent(rig, when):
    job = rig.create()
    rig.after(200)
    if when == "training":
        rig.provider.start(job)
        rig.after(100)
    rig.provider.cancel(job)
    rig.provider.cancel(job)
    asked = rig.provider.poll(job, None)
    assert asked.raw_state == ("CANCELLED" if when == "waiting" else "CANCELLATION_REQUESTED")
    assert asked.state == ("cancelled" if when == "waiting" else "running")
    rig.after(1)
    assert rig.provider.poll(job, asked.cursor).state == "cancelled"
    rig.provider.cancel(job)


def test_a_cancel_after_the_end_changes_nothing(rig):
    job = rig.create()
    rig.after(200)
    rig.provider.start(job)
    rig.after(10_000)
    rig.provider.cancel(job)
    assert rig.provider.poll(job, None).state == "succeeded"


def test_a_cancel_that_is_refused_is_silent_when_it_is_under_way(rig):
    job = rig.create()
    rig.after(200)
    answered(rig, "cancel", Reply(status=409, body={"detail": "not now"}))
    error, problem = fails(lambda: rig.provider.cancel(job))
    assert (type(error), problem.code) == (ProviderUnavailable, "E403")
    for status in ("CANCELLATION_REQUESTED", "CANCELLED", "FAILED"):
        answered(rig, "retrieve", Reply(body={"id": job, "status": status}))
        rig.provider.cancel(job)


def test_data_that_fails_the_validation(rig):
    job = rig.create("fail-data")
    rig.after(200)
    seen = rig.provider.poll(job, None)
    assert (seen.state, seen.raw_state, seen.problem.code, seen.quote) == ("failed", "FAILED_VALIDATION", "E413", None)
    assert "fail-data" in seen.problem.why
    assert seen.events[-1].kind == "error"


def test_a_training_that_fails(rig):
    job = rig.create("fail-train", provider_options={"training_steps": 30})
    rig.after(200)
    rig.provider.start(job)
    rig.after(10_000)
    seen = rig.provider.poll(job, None)
    assert (seen.state, seen.raw_state, seen.problem.code) == ("failed", "FAILED", "E401")
    assert "fail-train" in seen.problem.why
    assert seen.metrics


def test_an_unknown_state_breaks_nothing_and_is_told_once(rig):
    job = rig.create()
    rig.after(200)
    rig.provider.start(job)
    rig.after(100)
    cursor = rig.provider.poll(job, None).cursor
    rig.fault("odd_state", "retrieve", times=None)
    first = rig.provider.poll(job, cursor)
    assert (first.state, first.raw_state, first.quote) == ("running", "REBALANCING", None)
    (warning,) = first.events
    assert warning.kind == "warning"
    assert "'REBALANCING'" in warning.message
    assert rig.provider.poll(job, first.cursor).events == ()
    # From the start: the last state that is known is in the events.
    assert rig.provider.poll(job, None).state == "running"
    rig.after(10_000)
    rig.sandbox.faults.clear()
    assert rig.provider.poll(job, first.cursor).state == "succeeded"


# Answers that no stand-in gives, but an API may.


def job(**more):
    return {"id": "j", "status": "RUNNING", "auto_start": False, "created_at": 5, **more}


NOW = datetime(2026, 11, 24, tzinfo=UTC)


def looked(job):
    return observed(job, Cursor(), NOW, lambda words: words)


def test_every_status_of_the_contract_is_known():
    assert set(STATES) == set(STATUSES)


def test_a_price_in_euros_is_no_price_in_dollars():
    told = {"cost": 10, "cost_currency": "EUR", "train_tokens": 7, "data_tokens": None}
    assert looked(job(status="VALIDATED", metadata=told)).quote == {"eur": "10.00", "tokens": 7}


@pytest.mark.parametrize(("cost", "usd"), [(2.6214, "2.63"), (4, "4.00"), (0.001, "0.01"), ("3.5", "3.50")])
def test_a_price_is_rounded_up_to_cents(cost, usd):
    told = {"cost": cost, "cost_currency": "USD"}
    assert looked(job(status="VALIDATED", metadata=told)).quote == {"usd": usd}


@pytest.mark.parametrize("told", [None, {}, {"cost": None, "cost_currency": None}])
def test_a_job_without_a_price_still_waits(told):
    assert looked(job(status="VALIDATED", metadata=told)).quote == {}


def test_a_job_that_starts_itself_waits_for_nobody():
    assert looked(job(status="VALIDATED", auto_start=True, metadata={})).quote is None


def test_events_without_data_and_in_either_order():
    rows = [
        {"name": "status-updated", "created_at": at, "data": {"status": status}}
        for at, status in [(1, "QUEUED"), (2, "RUNNING")]
    ]
    bare = {"name": "note", "created_at": 3}
    for told in ([*rows, bare], [bare, *rows[::-1]]):
        seen = looked(job(events=told))
        assert [event.message for event in seen.events] == ["status-updated: QUEUED", "status-updated: RUNNING", "note"]


def test_events_of_one_second_are_told_as_they_happened():
    rows = [{"name": "status-updated", "created_at": 1, "data": {"status": each}} for each in ("VALIDATED", "QUEUED")]
    seen = looked(job(events=rows))
    assert [event.message for event in seen.events] == ["status-updated: QUEUED", "status-updated: VALIDATED"]


def test_a_job_that_failed_without_a_word():
    assert looked(job(status="FAILED", events=[])).problem is None
    assert looked(job(status="FAILED_VALIDATION", events=None)).problem.code == "E413"


@pytest.mark.parametrize("status", ["FAILED", "FAILED_VALIDATION", "SECRET"])
def test_words_that_are_shown_are_cleaned_and_cut(status):
    clean = Troubles("Vendor", ("SECRET",)).clean
    data = {"status": status, "error": "the SECRET\x00 of " + 9_999 * "x"}
    told = job(status=status, events=[{"name": "SECRET", "created_at": 1, "data": data}])
    seen = observed(told, Cursor(), NOW, clean)
    assert "SECRET" not in repr(seen)
    words = [*(event.message for event in seen.events), *([seen.problem.why] if seen.problem else [])]
    assert len(words) == 2
    assert all(len(each) < 600 and each.isprintable() for each in words)


def test_a_checkpoint_may_lack_anything():
    rows = [{"step_number": 3, "metrics": {"train_loss": 1, "valid_loss": None}}, {"metrics": {}}, {"step_number": 4}]
    seen = looked(job(checkpoints=rows))
    assert seen.metrics == (Metric(step=3, name="loss", value=1.0),)
    assert seen.progress == {"step": 4, "total_steps": None, "loss": None, "eta_s": None}


def answered(rig, operation, reply):
    """From now on this operation answers so, whatever is asked; `reply` may be a function of the request."""
    answer = reply if callable(reply) else lambda request: reply
    for place, (route, pattern) in enumerate(rig.server.table):
        if route.operation == operation:
            rig.server.table[place] = (replace(route, answer=answer), pattern)


@pytest.mark.parametrize(
    "body", [b"<html>", [], "text", None, {}, {"id": "other", "status": "RUNNING"}, {"id": 7}, {"status": 3}]
)
def test_an_answer_that_is_no_job(rig, body):
    made = rig.create()
    answered(rig, "retrieve", Reply(body=body))
    error, problem = fails(lambda: rig.provider.poll(made, None))
    assert (type(error), problem.code) == (ProviderUnavailable, "E411")


def test_a_success_without_a_model_is_looked_at_again(rig):
    made = rig.create()
    answered(rig, "retrieve", Reply(body=job(id=made, status="SUCCESS", fine_tuned_model=None)))
    error, problem = fails(lambda: rig.provider.poll(made, None))
    assert (type(error), problem.code) == (ProviderUnavailable, "E411")


@pytest.mark.parametrize("body", [{"data": "x"}, {"data": [3]}, {"data": [{}]}, []])
def test_a_list_that_is_none(rig, body):
    answered(rig, "list", Reply(body=body))
    error, problem = fails(lambda: rig.provider.find(KEY))
    assert (type(error), problem.code) == (ProviderUnavailable, "E411")


def test_a_list_without_a_total_ends(rig):
    answered(rig, "list", Reply(body={"data": []}))
    assert rig.provider.find(KEY) == []


def test_pages_may_be_smaller_than_asked_for_and_end_anyhow(rig):
    row = {"status": "QUEUED", "suffix": KEY, "created_at": 1}
    pages = {"0": [{**row, "id": "c"}, {**row, "id": "b"}], "1": [{**row, "id": "b"}, {**row, "id": "a"}]}

    def answer(request):
        return Reply(body={"data": pages.get(request.one("page"), pages["1"]), "object": "list", "total": 9})

    answered(rig, "list", answer)
    assert [job.remote_id for job in rig.provider.find(KEY)] == ["a", "b", "c"]


def test_a_call_without_an_answer_has_not_the_answer_of_the_last(rig):
    from mistralai.client.errors import NoResponseError

    def silent():
        raise NoResponseError

    rig.provider.files()
    error, problem = fails(lambda: rig.provider._wire.ask("try", silent, creating=True))
    assert (type(error), problem.code) == (OutcomeUnknown, "E409")


def test_a_redirect_is_not_followed(rig):
    answered(rig, "create", Reply(status=307, headers={"Location": rig.server.url + "/v1/files"}))
    error, problem = fails(rig.create)
    assert (type(error), problem.code) == (OutcomeUnknown, "E411")


@pytest.mark.parametrize(
    ("status", "body", "kind", "code"),
    [
        (400, {"detail": "bad"}, ProviderError, "E407"),
        (401, {"message": "Unauthorized", "request_id": "x"}, AuthenticationFailed, "E405"),
        (402, {"detail": "pay"}, ProviderError, "E408"),
        (404, {"detail": "no"}, ProviderError, "E407"),
        (410, {"detail": "The fine-tuning API has been retired."}, ProviderError, "E406"),
        (429, {"message": "Monthly usage limit reached"}, ProviderError, "E408"),
        (429, {"message": "Service tier capacity exceeded for this model."}, ProviderUnavailable, "E410"),
        (500, b"<html>oops", OutcomeUnknown, "E403"),
        (504, b"", OutcomeUnknown, "E403"),
    ],
)
def test_what_refusals_of_a_create_mean(rig, status, body, kind, code):
    answered(rig, "create", Reply(status=status, body=body, headers={"mistral-correlation-id": "req-7"}))
    error, problem = fails(rig.create)
    assert (type(error), problem.code) == (kind, code)
    assert "req-7" in problem.why
    if isinstance(body, dict):
        assert body.get("detail", body.get("message")) in problem.why


def test_faults_of_fields_are_told_by_name(rig):
    recipe = rig.recipe(provider_options={"training_steps": 0, "fim_ratio": 2})
    error, problem = fails(lambda: rig.provider.create(recipe, rig.provider.upload(rig.data), KEY))
    assert (type(error), problem.code) == (ProviderError, "E407")
    assert "job_in.hyperparameters.training_steps: Input should be greater than or equal to 1" in problem.why
    assert "job_in.hyperparameters.fim_ratio" in problem.why


def test_a_start_that_is_refused_while_the_job_waits_is_in_doubt(rig):
    made = rig.create()
    rig.after(200)
    answered(rig, "start", Reply(status=409, body={"detail": "already asked for"}))
    error, _ = fails(lambda: rig.provider.start(made))
    assert type(error) is OutcomeUnknown


def test_a_start_without_quota_is_refused_for_good(rig):
    made = rig.create()
    rig.after(200)
    answered(rig, "start", Reply(status=402, body={"detail": "pay"}))
    error, problem = fails(lambda: rig.provider.start(made))
    assert (type(error), problem.code) == (ProviderError, "E408")


def test_no_quota_at_the_create(rig):
    error, problem = fails(lambda: rig.create("quota"))
    assert (type(error), problem.code) == (ProviderError, "E408")


def test_a_job_that_is_not_there(rig):
    unknown = "00000000-0000-4000-8000-000000000000"
    for call in (rig.provider.start, rig.provider.cancel, lambda job: rig.provider.poll(job, None)):
        error, problem = fails(lambda: call(unknown))  # noqa: B023 -- called at once
        assert (type(error), problem.code) == (ProviderError, "E402")
        assert "No fine tuning job matches the given query." in problem.why


# With the lifecycle.


class Moved(World):
    """Whose clock moves the stand-in's."""

    def __init__(self, rig):
        super().__init__(sqlite(rig.folder), rig.provider)
        turn = self.clock.sleep
        self.clock.sleep = lambda seconds: (turn(seconds), rig.after(seconds))
        self.recipe = {**RECIPE, "provider": "mistral", "base_model": MODEL}
        self.data = {
            "train": str(rig.data.train),
            "validation": None,
            "train_rows": 12,
            "validation_rows": 0,
            "digest": rig.data.digest,
            "format": "mistral",
        }

    def through(self, **more):
        fields = {"provider": "mistral", "base_model": MODEL, "recipe": {**self.recipe, **more}, "data": self.data}
        self.submit("ft_abcdefghij", **fields)
        return self.run("ft_abcdefghij", steps=300)


@pytest.mark.parametrize("kind", [None, "cut_after", "cut_before", "server_error", "garbage"])
def test_the_lifecycle_pays_once_whatever_happens(rig, kind):
    for operation in ("upload", "list", "create", "retrieve", "start") if kind else ():
        rig.fault(kind, operation)
    job = Moved(rig).through()
    assert (job.state, job.model) == ("succeeded", "bot@v1")
    assert job.artifact["model"].endswith(f":{KEY}:{job.remote_id[:8]}")
    assert [(entry.key, entry.paid) for entry in rig.sandbox.ledger()] == [(KEY, True)]


def test_the_lifecycle_does_not_start_what_is_too_dear(rig):
    job = Moved(rig).through(limits={"max_cost": "26 USD"}, provider_options={"training_steps": 100})
    assert job.state == "failed"
    assert "26.22 US dollars" in job.error["what"]
    assert [(entry.raw_state, entry.paid) for entry in rig.sandbox.ledger()] == [("CANCELLED", False)]


# What goes wrong on the way.

CALLS = {
    "list_files": lambda rig, made: rig.provider.upload(replace(rig.data, digest="e" * 64)),
    "upload": lambda rig, made: rig.provider.upload(replace(rig.data, digest="f" * 64)),
    "create": lambda rig, made: rig.create("ft_new-a1"),
    "list": lambda rig, made: rig.provider.find(KEY),
    "retrieve": lambda rig, made: rig.provider.poll(made, None),
    "start": lambda rig, made: rig.provider.start(made),
    "cancel": lambda rig, made: rig.provider.cancel(made),
    "delete_file": lambda rig, made: rig.provider.delete_file(rig.provider.upload(rig.data).ids["train"]),
}
#: Where silence may have started something.
IN_DOUBT = {"create", "start"}


@pytest.mark.parametrize("kind", ["rate_limit", "server_error", "unavailable", "cut_before", "cut_after", "garbage"])
@pytest.mark.parametrize("operation", CALLS)
def test_every_fault_at_every_operation(rig, operation, kind):
    made = rig.create()
    rig.after(200)
    rig.fault(kind, operation, seconds=0)
    if operation in ("delete_file", "cancel", "start") and kind == "garbage":
        # Done, and the answer's text is not needed.
        CALLS[operation](rig, made)
        return
    error, problem = fails(lambda: CALLS[operation](rig, made))
    doubt = operation in IN_DOUBT and kind != "rate_limit"
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


def test_a_start_in_doubt_is_paid_once(rig):
    made = rig.create()
    rig.after(200)
    rig.fault("cut_after", "start")
    with pytest.raises(OutcomeUnknown):
        rig.provider.start(made)
    assert rig.paid() == 1
    rig.provider.start(made)
    assert rig.paid() == 1
    assert rig.provider.poll(made, None).quote is None


@pytest.mark.parametrize(("operation", "kind"), [("create", OutcomeUnknown), ("retrieve", ProviderUnavailable)])
def test_no_answer_in_time(rig, operation, kind):
    made = rig.create()
    rig.provider = rig.another(read_s=0.05)
    rig.fault("hang_after", operation, seconds=5)
    error, problem = fails(lambda: CALLS[operation](rig, made))
    assert type(error) is kind
    assert "ReadTimeout" in problem.why


def test_a_slow_answer_is_read_to_its_end(rig):
    made = rig.create()
    rig.fault("slow", "retrieve", seconds=0.05)
    assert rig.provider.poll(made, None).raw_state == "QUEUED"


def test_nobody_there_means_that_nothing_was_done(rig):
    rig.environ["MISTRAL_BASE_URL"] = "http://127.0.0.1:9"
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


def test_a_connection_is_there_within_ten_seconds_or_not_at_all():
    timeout = {"connect": 600.0, "read": 600.0, "write": 600.0, "pool": 600.0}
    request = httpx.Request("GET", "http://127.0.0.1", extensions={"timeout": timeout})
    _hurry(request)
    assert request.extensions["timeout"] == {"connect": 10.0, "read": 600.0, "write": 600.0, "pool": 600.0}


# The end of the service.


def test_the_service_is_gone(rigs):
    rig = rigs(gone=True)
    for call in (
        lambda: rig.provider.reach(),
        lambda: rig.provider.find(KEY),
        lambda: rig.create(),
        lambda: rig.provider.poll("00000000-0000-4000-8000-000000000000", None),
        lambda: rig.provider.start("00000000-0000-4000-8000-000000000000"),
        lambda: rig.provider.cancel("00000000-0000-4000-8000-000000000000"),
    ):
        error, problem = fails(call)
        assert (type(error), problem.code) == (ProviderError, "E406")
        assert not error.retry
    # Files are still there, so that they can be deleted.
    (file,) = rig.provider.files()
    rig.provider.delete_file(file.file_id)


# Credentials.


@pytest.mark.parametrize("key", ["sandbox-no-access", "wrong-key-of-somebody"])
def test_keys_that_are_not_taken(rigs, key):
    rig = rigs(key=key)
    for call in (
        rig.provider.reach,
        rig.create,
        rig.provider.files,
        lambda: rig.provider.find(KEY),
        lambda: rig.provider.poll("00000000-0000-4000-8000-000000000000", None),
        lambda: rig.provider.start("00000000-0000-4000-8000-000000000000"),
        lambda: rig.provider.cancel("00000000-0000-4000-8000-000000000000"),
    ):
        error, problem = fails(call)
        assert (type(error), problem.code) == (AuthenticationFailed, "E405")
        assert key not in str(error)


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({}, "MISTRAL_API_KEY is not set"),
        ({"MISTRAL_API_KEY": "  "}, "MISTRAL_API_KEY is not set"),
        ({"MISTRAL_API_KEY": "kéy"}, "no header can carry"),
        ({"MISTRAL_API_KEY": "a\nb"}, "no header can carry"),
        ({"MISTRAL_API_KEY": "k", "MISTRAL_BASE_URL": "api.mistral.ai"}, "MISTRAL_BASE_URL is no address"),
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


@pytest.mark.parametrize(
    ("said", "words"),
    [(None, "not installed"), ("2.5.2", "2.5.2 has no"), ("1.9.0", "has no"), ("3.0.0", "has no"), ("2.5.1", None)],
)
def test_the_package_must_have_the_jobs(tmp_path, monkeypatch, said, words):
    def version(name):
        if said is None:
            raise metadata.PackageNotFoundError(name)
        return said

    monkeypatch.setattr(metadata, "version", version)
    found = build(hosted.kit(tmp_path, {"MISTRAL_API_KEY": "k"})).unconfigured()
    assert [problem.code for problem in found] == ["E412"] * bool(words)
    if words:
        assert words in found[0].what
        assert found[0].fix == "pip install 'ft-orchestrator[mistral]'"


def test_the_environment_of_the_process_is_not_read(rig, monkeypatch):
    monkeypatch.setenv("MISTRAL_API_KEY", "of-the-process")
    rig.provider.files()
    assert rig.sandbox.sent[-1][1].headers["authorization"] == "Bearer sandbox-key"
    assert build(hosted.kit(rig.folder, {})).unconfigured()


@pytest.mark.parametrize("end", ["", "/", "/v1", "/v1/"])
def test_an_address_may_be_written_with_the_version(rigs, end):
    rig = rigs()
    rig.environ["MISTRAL_BASE_URL"] = f" {rig.server.url}{end} "
    assert rig.another().files() == []


def test_a_key_is_sent_without_the_blanks_around_it(rigs):
    assert rigs(key=" sandbox-mine\n").provider.files() == []


def test_secrets_are_never_shown(rigs, caplog, monkeypatch, capfd):
    key, wandb = "sandbox-of-somebody-1234567890", "w0" * 20
    monkeypatch.setenv("MISTRAL_DEBUG", "1")
    rig = rigs(key=key, environ={"WANDB_API_KEY": wandb})
    caplog.set_level(logging.DEBUG, "mistralai")
    reply = Reply(status=400, body={"detail": f"You sent Bearer {key} and {wandb}"})
    for operation in ("create", "retrieve", "list", "start", "cancel", "upload"):
        answered(rig, operation, reply)
    made = "00000000-0000-4000-8000-000000000000"
    recipe = rig.recipe(provider_options={"wandb_project": "p"})
    shown = []
    for call in (
        lambda: rig.provider.create(recipe, RemoteData(ids={"train": made}), KEY),
        lambda: rig.provider.poll(made, None),
        lambda: rig.provider.find(KEY),
        lambda: rig.provider.start(made),
        lambda: rig.provider.cancel(made),
        lambda: rig.provider.upload(rig.data),
    ):
        error, _ = fails(call)
        assert "***" in str(error)
        shown += [str(error), repr(error), repr(error.__cause__), repr(rig.provider)]
    shown += [repr(vars(rig.provider._wire)), repr(vars(rig.provider._wire.client))]
    text = "".join(shown) + caplog.text + "".join(capfd.readouterr())
    assert key not in text
    assert wandb not in text


def test_wandb_needs_its_key(rig):
    recipe = rig.recipe(provider_options={"wandb_project": "p"})
    error, problem = fails(lambda: rig.provider.create(recipe, RemoteData(ids={"train": "x"}), KEY))
    assert (type(error), problem.code) == (AuthenticationFailed, "E412")
    assert rig.sandbox.sent == []


def test_nothing_is_loaded_before_it_is_needed(tmp_path):
    code = (
        "import sys; from pathlib import Path; from finetune.providers.mistral import build; "
        "from tests.support import hosted; p = build(hosted.kit(Path('.'), {'MISTRAL_API_KEY': 'k'})); "
        "p.unconfigured(); p.check(hosted.recipe('mistral', 'm')); "
        "print(sorted({n.partition('.')[0] for n in sys.modules} & {'mistralai', 'httpx', 'openai', 'torch'}))"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert told.stdout.strip() == "[]"


# What is checked before.


def test_it_is_what_it_says(rig):
    for ability in (abilities.Keyed, abilities.Storing, abilities.Startable):
        assert isinstance(rig.provider, ability)
    for ability in (abilities.Pausable, abilities.Reporting, abilities.Notifying):
        assert not isinstance(rig.provider, ability)
    assert rig.provider.reach() == f"Mistral at {rig.server.url.removeprefix('http://')}"
    assert VENDOR == "https://api.mistral.ai"


@pytest.mark.parametrize(
    ("more", "place", "words"),
    [
        ({"training": {"learning_rate": 1e-9}}, "training.learning_rate", "1e-08 at least"),
        ({"training": {"max_seq_length": 64}}, "training.max_seq_length", "100 at least"),
        ({"provider_options": {"training_steps": 0}}, "provider_options.training_steps", "1 at least"),
        ({"provider_options": {"training_steps": 1.5}}, "provider_options.training_steps", "a whole number"),
        ({"provider_options": {"training_steps": True}}, "provider_options.training_steps", "a whole number"),
        ({"provider_options": {"fim_ratio": 1.5}}, "provider_options.fim_ratio", "1 at most"),
        ({"provider_options": {"fim_ratio": "a"}}, "provider_options.fim_ratio", "a number"),
        (
            {"provider_options": {"invalid_sample_skip_percentage": 0.6}},
            "provider_options.invalid_sample_skip_percentage",
            "0.5 at most",
        ),
        ({"provider_options": {"wandb_project": " "}}, "provider_options.wandb_project", "not empty"),
        ({"provider_options": {"wandb_name": "n"}}, "provider_options.wandb_name", "no wandb_project"),
        ({"provider_options": {"suffix": "mine"}}, "provider_options.suffix", "carries the key"),
        ({"provider_options": {"batch_size": 3}}, "provider_options.batch_size", "the API has training_steps"),
        (
            {"training": {"epochs": 2}, "provider_options": {"training_steps": 9}},
            "provider_options.training_steps",
            "training.epochs says the same",
        ),
    ],
)
def test_what_the_api_does_not_take(rig, more, place, words):
    (problem,) = rig.provider.check(rig.recipe(**more))
    assert (problem.code, problem.field) == ("E414", place)
    assert words in problem.why
    assert rig.sandbox.sent == []


def test_a_secret_in_the_wrong_place_is_not_shown(rig):
    options = {"integrations": ["very-secret"], "wandb_api_key": "very-secret"}
    found = rig.provider.check(rig.recipe(provider_options=options))
    assert [problem.field for problem in found] == [f"provider_options.{name}" for name in options]
    assert "very-secret" not in str(found)
    assert "WANDB_API_KEY" in found[0].why


def test_all_faults_at_once(rig):
    more = {"training": {"max_seq_length": 9}, "provider_options": {"x": 1, "fim_ratio": 3}}
    assert len(rig.provider.check(rig.recipe(**more))) == 3


def test_defaults_of_the_recipe_that_nobody_wrote_are_no_fault(rig):
    assert rig.provider.check(rig.recipe(provider_options={"training_steps": 5})) == []


def test_a_region_is_not_taken_for_granted(rig):
    asked = {"limits": {"data": {"region": "eu"}}}
    assert [problem.field for problem in rig.provider.check(rig.recipe(**asked))] == ["limits.data"]
    assert rig.provider.check(rig.recipe(**asked, allow_ignored=["limits.data"])) == []


def test_a_password_in_the_address_is_not_shown(rig):
    """The package sends it in the place of the key, so nothing works with it; but it is told to nobody."""
    rig.environ["MISTRAL_BASE_URL"] = rig.server.url.replace("http://", "http://me:SECRET@")
    with pytest.raises(AuthenticationFailed) as raised:
        rig.another().reach()
    assert "SECRET" not in f"{raised.value}{raised.value!r}"
