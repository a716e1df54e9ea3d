"""OpenAI's adapter against the stand-in: what it sends, what it makes of answers, and what goes wrong on the way."""

import base64
import json
import logging
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from finetune import abilities
from finetune.errors import AuthenticationFailed, OutcomeUnknown, ProviderError, ProviderUnavailable
from finetune.jobs import Metric
from finetune.ports import RemoteData
from finetune.providers.openai import OpenAiProvider, build
from finetune.providers.openai_files import Files
from finetune.providers.openai_look import STATES, Cursor, as_wished, observed
from finetune.providers.openai_results import plain
from finetune.sandbox.faults import KINDS
from finetune.sandbox.openai.jobs import Timing
from finetune.sandbox.openai.webhooks import sign
from finetune.sandbox.service import Reply
from finetune.testing import ManualClock
from tests.support import hosted
from tests.support.openai_seen import KEY, WHOLE_S, Rig, raised
from tests.support.process import wait_until
from tests.support.web import Web, status
from tests.wire.hosted.openai_contract import SCHEMAS

SECRET = "sandbox-SECRET0123456789abcdef"
WEBHOOK_SECRET = "whsec_" + base64.b64encode(b"what the calls are signed with").decode()
DIGEST = "d" * 32
NOW = datetime(2026, 11, 24, tzinfo=UTC)


@pytest.fixture
def rigs(tmp_path):
    made = []

    def make(**how):
        made.append(Rig(tmp_path, **how))
        return made[-1]

    yield make
    for each in made:
        each.stop()


@pytest.fixture
def rig(rigs):
    return rigs()


def fails(call):
    """The error and its problem."""
    error = raised(call)
    assert error is not None
    return error, error.problems[0]


# What is sent.


def test_a_create_sends_nothing_that_the_recipe_did_not_set_but_the_epochs(rig):
    file = rig.provider.upload(rig.data).ids["train"]
    made = rig.provider.create(rig.recipe(), RemoteData(ids={"train": file, "validation": None}), KEY)
    (sent,) = rig.sandbox.asked("create")
    assert (sent.method, sent.path, sent.query_text) == ("POST", "/v1/fine_tuning/jobs", "")
    assert json.loads(sent.body) == {
        "model": "gpt-4o-mini",
        "training_file": file,
        "method": {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 3}}},
        "suffix": "bot",
        "metadata": {"ft_run_key": KEY, "ft_recipe": "bot"},
    }
    assert made.raw_state == "validating_files"
    assert made.created_at.tzinfo is UTC
    assert not made.ended


INTEGRATION = {"type": "wandb", "wandb": {"project": "p", "name": "n", "entity": "e", "tags": ["t"]}}


def test_a_create_with_all_that_a_recipe_can_set(rig):
    rig.data = hosted.data(rig.folder, "openai", held_out=2)
    ids = rig.provider.upload(rig.data).ids
    recipe = rig.recipe(
        seed=7,
        training={"epochs": 4, "batch_size": 2, "learning_rate_multiplier": 0.5},
        provider_options={"suffix": "my-suffix", "integrations": [INTEGRATION]},
    )
    assert rig.provider.check(recipe) == []
    rig.provider.create(recipe, RemoteData(ids=ids), KEY)
    numbers = {"n_epochs": 4, "batch_size": 2, "learning_rate_multiplier": 0.5}
    assert rig.sandbox.bodies("create") == [
        {
            "model": "gpt-4o-mini",
            "training_file": ids["train"],
            "validation_file": ids["validation"],
            "method": {"type": "supervised", "supervised": {"hyperparameters": numbers}},
            "suffix": "my-suffix",
            "seed": 7,
            "metadata": {"ft_run_key": KEY, "ft_recipe": "bot"},
            "integrations": [INTEGRATION],
        }
    ]


def test_a_create_by_dpo(rig):
    rig.model = "gpt-4.1-mini"
    rig.data = hosted.data(rig.folder, "openai-dpo")
    rig.create(method="dpo", provider_options={"beta": 0.25}, training={"batch_size": 4})
    (sent,) = rig.sandbox.bodies("create")
    numbers = {"n_epochs": 3, "batch_size": 4, "beta": 0.25}
    assert sent["method"] == {"type": "dpo", "dpo": {"hyperparameters": numbers}}


def test_a_name_is_cut_to_what_a_suffix_may_have(rig):
    recipe = hosted.recipe("openai", "gpt-4o-mini", name="n" * 64)
    body = rig.provider._body(recipe, RemoteData(ids={"train": "f"}), KEY)
    assert body["suffix"] == "n" * 64
    assert body["metadata"]["ft_recipe"] == "n" * 64


def test_everything_else_that_is_sent(rig):
    job = rig.create()
    rig.provider.find(KEY)
    rig.provider.poll(job, None)
    rig.after(300)
    rig.provider.pause(job)
    rig.after(20)
    rig.provider.resume(job)
    rig.provider.cancel(job)
    rig.provider.reach()
    file = rig.provider.files()[0].file_id
    rig.provider.delete_file(file)
    jobs, files = "/v1/fine_tuning/jobs", "purpose=fine-tune"
    assert rig.sandbox.told() == [
        ("GET", "/v1/files", f"limit=100&{files}"),
        ("POST", "/v1/files", ""),
        ("POST", jobs, ""),
        ("GET", jobs, f"limit=100&metadata%5Bft_run_key%5D={KEY}"),
        ("GET", f"{jobs}/{job}", ""),
        ("GET", f"{jobs}/{job}/events", "limit=100"),
        ("POST", f"{jobs}/{job}/pause", ""),
        ("POST", f"{jobs}/{job}/resume", ""),
        ("POST", f"{jobs}/{job}/cancel", ""),
        ("GET", jobs, "limit=1"),
        ("GET", "/v1/files", f"limit=100&{files}"),
        ("DELETE", f"/v1/files/{file}", ""),
    ]
    upload = rig.sandbox.asked("upload")[0]
    assert f'filename="ft-{DIGEST}-train.jsonl"'.encode() in upload.body
    assert b"\r\n\r\nfine-tune\r\n" in upload.body
    assert rig.data.train.read_bytes() in upload.body


def test_headers_of_a_create(rig):
    rig.create()
    headers = rig.sandbox.asked("create")[0].headers
    assert headers["authorization"] == "Bearer sandbox-key"
    assert headers["x-stainless-retry-count"] == "0"
    assert headers["x-stainless-read-timeout"] == "5.0"
    assert headers["content-type"] == "application/json"
    assert "idempotency-key" not in headers
    assert not {name for name in headers if "retry" in name} - {"x-stainless-retry-count"}
    assert "openai-organization" not in headers
    assert "openai-project" not in headers


def test_organisation_project_and_further_headers_come_from_the_kit_alone(rigs, monkeypatch):
    for name in ("OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.setenv(name, "ambient")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "Authorization: Bearer ambient\nx-ambient: 1")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:1")
    rig = rigs()
    rig.provider.reach()
    headers = rig.sandbox.asked("list")[0].headers
    assert "ambient" not in str(headers)
    own = {"OPENAI_ORG_ID": " org-1\n", "OPENAI_PROJECT_ID": "proj-1", "OPENAI_CUSTOM_HEADERS": "x-gate: g:1\nnonsense"}
    rig.another(**own).reach()
    headers = rig.sandbox.asked("list")[1].headers
    sent = {name: headers[name] for name in ("openai-organization", "openai-project", "x-gate", "authorization")}
    assert sent == {
        "openai-organization": "org-1",
        "openai-project": "proj-1",
        "x-gate": "g:1",
        "authorization": "Bearer sandbox-key",
    }


def test_the_vendors_own_address_whatever_the_process_has(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:1")
    provider = OpenAiProvider(hosted.kit(tmp_path, {"OPENAI_API_KEY": "k"}))
    assert str(provider._wire.client.base_url) == "https://api.openai.com/v1/"


def test_a_redirect_is_not_followed(rigs):
    with Web() as web:
        web.answers["/v1/fine_tuning/jobs"] = status(307, Location=f"{web.url}/elsewhere")
        rig = rigs(environ={"OPENAI_BASE_URL": f"{web.url}/v1"})
        error, problem = fails(rig.provider.reach)
        assert (type(error), problem.code) == (ProviderError, "E407")
        assert len(web.requests) == 1


def test_what_it_is():
    provider = OpenAiProvider(hosted.kit(Path(), {}))
    for ability in ("Keyed", "Storing", "Pausable", "Reporting", "Notifying"):
        assert isinstance(provider, getattr(abilities, ability)), ability
    assert not isinstance(provider, abilities.Startable)
    assert isinstance(build(hosted.kit(Path(), {})), OpenAiProvider)


def test_nothing_loads_the_package_before_the_first_request(tmp_path):
    code = """
import sys
from pathlib import Path
from finetune.abilities import Keyed
from finetune.errors import AuthenticationFailed
from finetune.providers.azure import build as azure
from finetune.providers.openai import build
from finetune.ports import RemoteData
from tests.support import hosted
for make, name in ((build, "openai"), (azure, "azure")):
    provider = make(hosted.kit(Path(sys.argv[1]), {}))
    assert isinstance(provider, Keyed)
    assert provider.check(hosted.recipe(name, "gpt-4o-mini")) == []
    assert provider.unconfigured()
    try:
        provider.find("k")
    except AuthenticationFailed:
        pass
print(sorted(each for each in sys.modules if each.split(".")[0] in ("openai", "httpx2", "httpx")))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "[]\n"


# Files.


def test_a_file_is_sent_once(rig):
    rig.data = hosted.data(rig.folder, "openai", held_out=2)
    first = rig.provider.upload(rig.data)
    assert rig.another().upload(rig.data) == first
    assert rig.faults.arrived["upload"] == 2
    assert rig.provider.file_ids(first.ids) == [first.ids["train"], first.ids["validation"]]
    assert len(set(first.ids.values())) == 2
    names = sorted(file.name for file in rig.provider.files())
    assert names == [f"ft-{DIGEST}-train.jsonl", f"ft-{DIGEST}-validation.jsonl"]


def test_without_validation_there_is_one_file(rig):
    ids = rig.provider.upload(rig.data).ids
    assert ids["validation"] is None
    assert rig.provider.file_ids(ids) == [ids["train"]]


def test_other_content_is_another_file(rig):
    first = rig.provider.upload(rig.data)
    longer = hosted.data(rig.folder, "openai", rows=13)
    second = rig.provider.upload(longer)
    other = rig.provider.upload(hosted.data(rig.folder, "openai", rows=13, digest="e" * 64))
    assert len({first.ids["train"], second.ids["train"], other.ids["train"]}) == 3
    assert rig.faults.arrived["upload"] == 3


def files_with(rig, **fields):
    """The list of files, each with these fields changed."""

    def answer(request):
        rows = [{**rig.sandbox.file(file), **fields} for file in rig.sandbox.files._files.values()]
        return Reply(body={"object": "list", "data": rows, "has_more": False})

    return answer


@pytest.mark.parametrize("state", ["error", "deleted"])
def test_a_broken_file_is_sent_again_and_can_be_deleted(rig, state):
    first = rig.provider.upload(rig.data)
    rig.sandbox.instead["files"] = files_with(rig, status=state)
    assert rig.provider.upload(rig.data) != first
    assert first.ids["train"] in [file.file_id for file in rig.provider.files()]


def test_a_file_that_is_refused_as_it_comes(rig):
    def refuse(request):
        broken = {"id": "file-1", "status": "error", "status_details": "row 3 is no JSON"}
        return Reply(body={"object": "file", **broken})

    rig.sandbox.instead["upload"] = refuse
    error, problem = fails(lambda: rig.provider.upload(rig.data))
    assert (type(error), problem.code) == (ProviderError, "E413")
    assert "row 3 is no JSON" in problem.why


def test_of_two_copies_the_older_is_taken(rig):
    first = rig.provider._files._send(f"ft-{DIGEST}-train.jsonl", rig.data.train)
    rig.provider._files._send(f"ft-{DIGEST}-train.jsonl", rig.data.train)
    assert rig.provider.upload(rig.data).ids["train"] == first["id"]


def test_two_workers_at_once_may_both_send(rig):
    got = []
    threads = [threading.Thread(target=lambda: got.append(rig.another().upload(rig.data).ids)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 4
    for ids in got:
        rig.provider.create(rig.recipe(), RemoteData(ids=ids), KEY)


def test_files_of_others_are_not_ours(rig):
    rig.provider.upload(rig.data)
    client = rig.provider._wire.client
    for name in ("ft-notes.jsonl", f"ft-{DIGEST}-test.jsonl", f"x-ft-{DIGEST}-train.jsonl"):
        client.files.create(file=(name, rig.data.train.read_bytes()), purpose="fine-tune")
    client.files.create(file=(f"ft-{DIGEST}-train.jsonl", b"x"), purpose="assistants")
    (only,) = rig.provider.files()
    assert (only.name, only.bytes) == (f"ft-{DIGEST}-train.jsonl", rig.data.train.stat().st_size)
    assert only.uploaded_at.tzinfo is UTC


def test_more_files_than_a_page_newest_first(rig):
    for number in range(101):
        rig.provider._files._send(f"ft-{number:032x}-train.jsonl", rig.data.train)
        rig.after(1)
    found = rig.provider.files()
    assert [file.name for file in found] == [f"ft-{number:032x}-train.jsonl" for number in range(100, -1, -1)]
    assert rig.faults.arrived["files"] == 2


def test_a_delete_is_idempotent(rig):
    file = rig.provider.upload(rig.data).ids["train"]
    rig.provider.delete_file(file)
    rig.provider.delete_file(file)
    assert rig.provider.files() == []


# Large files, in parts.


@pytest.fixture
def small(monkeypatch, rig):
    """Whatever is larger than 100 bytes goes in parts of 400, which are four."""
    monkeypatch.setattr(Files, "whole_bytes", 100)
    monkeypatch.setattr(Files, "part_bytes", 400)
    assert -(-rig.data.train.stat().st_size // 400) == 4
    return rig


def content(rig, file_id):
    return rig.sandbox.files.get(file_id).content


def test_a_large_file_goes_in_parts(small):
    ids = small.provider.upload(small.data).ids
    assert content(small, ids["train"]) == small.data.train.read_bytes()
    assert small.sandbox.bodies("upload_create") == [
        {
            "bytes": small.data.train.stat().st_size,
            "filename": f"ft-{DIGEST}-train.jsonl",
            "mime_type": "application/jsonl",
            "purpose": "fine-tune",
        }
    ]
    assert small.faults.arrived["upload_part"] == 4
    assert small.faults.arrived["upload"] == 0
    assert small.provider.upload(small.data).ids == ids
    assert small.faults.arrived["upload_create"] == 1
    assert list((small.folder / "uploads").rglob("*.json")) == []


@pytest.mark.parametrize("kind", ["cut_before", "unavailable", "rate_limit"])
def test_what_was_cut_goes_on_where_it_stopped(small, kind):
    small.sandbox.instead["upload_part"] = stop_after(small, 2)
    small.fault("cut_before", "upload_part", times=1)
    error, _ = fails(lambda: small.provider.upload(small.data))
    assert type(error) is ProviderUnavailable
    assert small.faults.arrived["upload_part"] == 1
    error, _ = fails(lambda: small.provider.upload(small.data))
    assert type(error) is ProviderUnavailable
    assert len(small.sandbox.asked("upload_part")) == 3
    small.sandbox.instead.clear()
    small.fault(kind, "upload_complete", seconds=0.0)
    error, _ = fails(lambda: small.another().upload(small.data))
    assert type(error) is ProviderUnavailable
    ids = small.another().upload(small.data).ids
    assert content(small, ids["train"]) == small.data.train.read_bytes()
    # Two, one that was refused, and the two that were missing: none was sent again.
    assert len(small.sandbox.asked("upload_part")) == 5
    assert small.faults.arrived["upload_create"] == 1


def stop_after(rig, parts):
    """Takes so many parts, then says 503."""
    left = [rig.sandbox.usual["upload_part"]] * parts

    def answer(request):
        return left.pop()(request) if left else rig.sandbox.refused(503, "not now")

    return answer


def test_a_lost_answer_to_the_last_step_costs_nothing(small):
    small.fault("cut_after", "upload_complete")
    fails(lambda: small.provider.upload(small.data))
    ids = small.provider.upload(small.data).ids
    assert content(small, ids["train"]) == small.data.train.read_bytes()
    assert small.faults.arrived["upload_create"] == 1


def test_a_completed_upload_whose_file_was_deleted_begins_anew(small):
    small.fault("cut_after", "upload_complete")
    fails(lambda: small.provider.upload(small.data))
    (file,) = small.provider.files()
    small.provider.delete_file(file.file_id)
    ids = small.provider.upload(small.data).ids
    assert content(small, ids["train"]) == small.data.train.read_bytes()
    assert small.faults.arrived["upload_create"] == 2


@pytest.mark.parametrize("told", ["by the clock", "by the provider"])
def test_an_upload_that_has_expired_begins_anew(small, told):
    small.clock = ManualClock(small.sandbox.clock.now())
    small.fault("unavailable", "upload_complete")
    fails(lambda: small.another().upload(small.data))
    small.after(3600)
    if told == "by the clock":
        small.clock.sleep(3600)
    ids = small.another().upload(small.data).ids
    assert content(small, ids["train"]) == small.data.train.read_bytes()
    assert small.faults.arrived["upload_create"] == 2
    # The old one was asked for only where nobody here knew better.
    assert small.faults.arrived["upload_complete"] == (2 if told == "by the clock" else 3)


@pytest.mark.parametrize("left", ["", "{}", "[]", '{"upload": "upload_x", "size": 1, "part": 400, "expires_at": 9e9}'])
def test_what_is_left_on_the_disk_may_be_broken(small, left):
    place = small.folder / "uploads" / "openai" / f"ft-{DIGEST}-train.jsonl.json"
    place.parent.mkdir(parents=True)
    place.write_text(left)
    ids = small.provider.upload(small.data).ids
    assert content(small, ids["train"]) == small.data.train.read_bytes()


def test_a_key_that_was_refused_loses_no_parts(small):
    small.fault("unavailable", "upload_complete")
    fails(lambda: small.provider.upload(small.data))
    small.sandbox.instead["upload_complete"] = lambda request: small.sandbox.refused(401, "no")
    error, _ = fails(lambda: small.provider.upload(small.data))
    assert type(error) is AuthenticationFailed
    small.sandbox.instead.clear()
    small.provider.upload(small.data)
    assert small.faults.arrived["upload_part"] == 4


# Looking up.


def test_find_is_exact_and_oldest_first(rig):
    keys = ["ft_x-a1", "ft_x-a10", "ft_x-a1", "FT_X-A1", "ft_x-a1"]
    made = []
    for key in keys:
        made.append(rig.create(key))
        rig.after(1)
    assert [job.remote_id for job in rig.provider.find("ft_x-a1")] == [made[0], made[2], made[4]]
    assert rig.provider.find("ft_x") == []


def test_find_is_exact_also_when_the_list_ignores_the_filter(rig, monkeypatch):
    made = [rig.create(key) for key in ("k-a1", "k-a10", "k-a1")]
    rig.provider._wire.client.fine_tuning.jobs.create(
        model=rig.model, training_file=rig.provider.upload(rig.data).ids["train"]
    )
    monkeypatch.setattr(rig.sandbox, "filter_of", lambda request: {})
    assert sorted(job.remote_id for job in rig.provider.find("k-a1")) == sorted([made[0], made[2]])


def test_find_reads_all_pages(rig):
    made = []
    for _ in range(205):
        made.append(rig.create("k"))
    assert sorted(job.remote_id for job in rig.provider.find("k")) == sorted(made)
    asked = [request.one("after") for request in rig.sandbox.asked("list")]
    assert asked[0] is None
    assert len(asked) == 3
    assert len(set(asked)) == 3


def test_find_waits_for_a_list_that_lags(rig):
    rig.faults.list_lag_s = rig.provider.grace_s
    job = rig.create()
    assert rig.provider.find(KEY) == []
    rig.after(rig.provider.grace_s)
    assert [each.remote_id for each in rig.provider.find(KEY)] == [job]


def test_a_list_that_gives_the_same_page_for_ever_is_no_answer(rig):
    row = rig.sandbox.job(rig.sandbox._book.get(rig.create("other"), 0))
    rig.sandbox.instead["list"] = lambda request: Reply(body={"object": "list", "data": [row], "has_more": True})
    error, problem = fails(lambda: rig.provider.find(KEY))
    assert (type(error), problem.code) == (ProviderUnavailable, "E411")
    assert rig.faults.arrived["list"] == 2


@pytest.mark.parametrize("body", [{"data": None}, {"data": [{"status": "queued"}]}, {"data": [{"id": []}]}, [], "x"])
def test_a_list_that_is_none_is_no_answer(rig, body):
    rig.sandbox.instead["list"] = lambda request: Reply(body=body)
    error, problem = fails(lambda: rig.provider.find(KEY))
    assert (type(error), problem.code) == (ProviderUnavailable, "E411")


def test_a_found_job_tells_whether_it_has_ended(rig):
    rig.create()
    assert [job.ended for job in rig.provider.find(KEY)] == [False]
    rig.after(WHOLE_S)
    (job,) = rig.provider.find(KEY)
    assert (job.ended, job.raw_state) == (True, "succeeded")


# The life of a job.


def test_states_on_the_way(rig):
    job = rig.create()
    seen = [rig.provider.poll(job, None)]
    for pause_s in (100, 100, 500, WHOLE_S):
        rig.after(pause_s)
        seen.append(rig.provider.poll(job, seen[-1].cursor))
    assert [(each.state, each.raw_state) for each in seen] == [
        ("preparing", "validating_files"),
        ("queued", "queued"),
        ("running", "running"),
        ("running", "running"),
        ("succeeded", "succeeded"),
    ]
    assert [each.artifact is None for each in seen] == [True, True, True, True, False]
    assert {each.problem for each in seen} == {None}


def test_events_and_metrics_come_once_and_in_order_over_many_polls(rig):
    rig.data = hosted.data(rig.folder, "openai", rows=40, held_out=3)
    job = rig.create(training={"epochs": 5, "batch_size": 1})
    cursor, events, metrics, progress, news = None, [], [], [], []
    # In the fourth are more than a hundred events.
    for pause_s in (0, 100, 100, 600, 0, 7, 10, WHOLE_S, 0):
        rig.after(pause_s)
        seen = rig.provider.poll(job, cursor)
        cursor = seen.cursor
        events += seen.events
        metrics += seen.metrics
        progress.append(seen.progress)
        news.append(len(seen.events) + len(seen.metrics))
    assert [count > 0 for count in news] == [True, True, True, True, False, True, True, True, False]
    assert news[3] > 100
    assert any(request.one("after") for request in rig.sandbox.asked("events"))
    whole = rig.provider.poll(job, None)
    assert tuple(events) == whole.events
    assert tuple(metrics) == whole.metrics
    words = [event.message for event in events]
    assert words[0] == f"Created fine-tuning job: {job}"
    assert words[-1] == "The job has successfully completed"
    assert len(set(words)) == len(words)
    assert {event.kind for event in events} == {"provider"}
    assert [event.at for event in events] == sorted(event.at for event in events)
    losses = [metric for metric in metrics if metric.name == "loss"]
    assert [metric.step for metric in losses] == list(range(1, 201))
    assert losses[0].value > losses[-1].value
    assert {metric.name for metric in metrics} == {
        *("loss", "accuracy", "eval_loss", "eval_accuracy", "full_eval_loss", "full_eval_accuracy"),
    }
    told = progress[-2]
    assert (told["step"], told["total_steps"], told["loss"]) == (200, 200, losses[-1].value)
    assert "eta_s" not in told
    assert progress[-1] is None


def test_progress_on_the_way(rigs):
    rig = rigs(clock=ManualClock())
    rig.clock = ManualClock(rig.sandbox.clock.now())
    provider = rig.another()
    job = rig.create(training={"epochs": 10, "batch_size": 12})
    rig.after(200 + 510)
    rig.clock.sleep(200 + 510)
    told = provider.poll(job, None).progress
    assert (told["step"], told["total_steps"]) == (5, 10)
    assert told["eta_s"] == pytest.approx(490, abs=3)
    assert 0 < told["loss"] < 3


def test_a_job_that_waits_is_asked_for_no_events(rig):
    job = rig.create()
    rig.after(150)
    cursor = rig.provider.poll(job, None).cursor
    assert rig.faults.arrived["events"] == 1
    cursor = rig.provider.poll(job, cursor).cursor
    assert rig.faults.arrived["events"] == 1
    rig.after(100)
    assert [event.message for event in rig.provider.poll(job, cursor).events][-1] == "Fine-tuning job started"


def test_the_artifact_of_a_finished_job(rig):
    job = rig.create(training={"epochs": 4, "batch_size": 4})
    rig.after(WHOLE_S)
    artifact = rig.provider.poll(job, None).artifact
    assert artifact["model"].startswith("ft:gpt-4o-mini-2024-07-18:sandbox-org:bot:")
    assert artifact["trained_tokens"] > 0
    assert [each["step"] for each in artifact["checkpoints"]] == [12, 9, 6]
    assert artifact["checkpoints"][0]["model"] == artifact["model"]
    assert artifact["checkpoints"][1]["model"] == f"{artifact['model']}:ckpt-step-9"
    assert set(artifact["checkpoints"][0]["metrics"]) == {"loss", "accuracy"}
    assert len(artifact["result_files"]) == 1
    assert json.loads(json.dumps(artifact)) == artifact


def test_a_host_without_checkpoints_still_gives_its_model(rig):
    job = rig.create()
    rig.after(WHOLE_S)
    rig.sandbox.instead["checkpoints"] = lambda request: rig.sandbox.refused(404, "what?")
    artifact = rig.provider.poll(job, None).artifact
    assert artifact["model"].startswith("ft:")
    assert artifact["checkpoints"] == []


def test_success_without_a_model_is_looked_at_again(rig):
    job = rig.create()
    rig.after(WHOLE_S)
    row = {**rig.sandbox.job(rig.sandbox._book.get(job, rig.sandbox.now())), "fine_tuned_model": None}
    rig.sandbox.instead["retrieve"] = lambda request: Reply(body=row)
    error, problem = fails(lambda: rig.provider.poll(job, None))
    assert (type(error), problem.code) == (ProviderUnavailable, "E411")


@pytest.mark.parametrize(("after_s", "state"), [(0, "preparing"), (150, "queued"), (250, "running")])
def test_an_unknown_state_keeps_the_last_one_and_warns_once(rig, after_s, state):
    job = rig.create()
    rig.after(after_s)
    before = rig.provider.poll(job, None)
    rig.fault("odd_state", "retrieve", times=None)
    first = rig.provider.poll(job, before.cursor)
    assert (first.state, first.raw_state) == (state, "hibernating")
    (warning,) = [event for event in first.events if event.kind == "warning"]
    assert "'hibernating'" in warning.message
    second = rig.provider.poll(job, first.cursor)
    assert (second.state, second.events) == (state, ())
    rig.after(WHOLE_S)
    rig.faults.clear()
    last = rig.provider.poll(job, second.cursor)
    assert last.state == "succeeded"
    assert last.events
    # No document has that word, nor has our contract.
    assert len(rig.sandbox.breaches) == 2
    rig.sandbox.breaches.clear()


def test_pause_and_resume(rig):
    job = rig.create()
    rig.after(300)
    rig.provider.pause(job)
    rig.provider.pause(job)
    seen = rig.provider.poll(job, None)
    assert (seen.state, seen.raw_state) == ("running", "pausing")
    rig.after(20)
    seen = rig.provider.poll(job, seen.cursor)
    assert (seen.state, seen.raw_state) == ("paused", "paused")
    assert [event.message for event in seen.events] == ["Fine-tuning job paused"]
    rig.provider.pause(job)
    rig.after(WHOLE_S)
    assert rig.provider.poll(job, seen.cursor).state == "paused"
    rig.provider.resume(job)
    rig.provider.resume(job)
    seen = rig.provider.poll(job, seen.cursor)
    assert seen.state == "running"
    assert "Fine-tuning job resumed" in [event.message for event in seen.events]
    rig.after(WHOLE_S)
    for wish in (rig.provider.pause, rig.provider.resume, rig.provider.cancel):
        wish(job)
    assert rig.provider.poll(job, None).state == "succeeded"


def test_a_pause_that_cannot_be_is_told(rig):
    job = rig.create()
    error, problem = fails(lambda: rig.provider.pause(job))
    assert (type(error), problem.code) == (ProviderError, "E407")
    assert "cannot be paused" in problem.why


def test_a_cancel_is_idempotent_and_silent_after_the_end(rig):
    job = rig.create()
    rig.provider.cancel(job)
    assert rig.provider.poll(job, None).state == "cancelled"
    rig.provider.cancel(job)
    assert rig.provider.poll(job, None).state == "cancelled"


@pytest.mark.parametrize("refusal", [400, 409, 422, 500])
def test_a_cancel_after_the_end_is_silent_however_it_is_refused(rig, refusal):
    job = rig.create()
    rig.sandbox.instead["cancel"] = lambda request: rig.sandbox.refused(refusal, "it has ended")
    error, _ = fails(lambda: rig.provider.cancel(job))
    assert isinstance(error, ProviderError)
    rig.after(WHOLE_S)
    rig.provider.cancel(job)


def test_wishes_about_a_job_that_is_not_there(rig):
    for wish in (rig.provider.cancel, rig.provider.pause, rig.provider.resume):
        error, problem = fails(lambda wish=wish: wish("ftjob-never"))
        assert (type(error), problem.code) == (ProviderError, "E402")


def test_data_that_the_provider_refuses(rig):
    rig.data.train.write_text('{"messages": []}\n' * 12)
    job = rig.create()
    rig.after(WHOLE_S)
    seen = rig.provider.poll(job, None)
    assert (seen.state, seen.problem.code, seen.artifact) == ("failed", "E413", None)
    assert "invalid_training_file: The job failed due to an invalid training file" in seen.problem.why
    assert seen.events[-1].kind == "error"


def test_too_few_rows(rig):
    rig.data = hosted.data(rig.folder, "openai", rows=3)
    job = rig.create()
    rig.after(WHOLE_S)
    problem = rig.provider.poll(job, None).problem
    assert problem.code == "E413"
    assert "must have at least 10 examples" in problem.why


def test_a_training_that_fails(rig):
    job = rig.create(provider_options={"suffix": "fail-train"})
    rig.after(WHOLE_S)
    seen = rig.provider.poll(job, None)
    assert (seen.state, seen.raw_state, seen.problem.code) == ("failed", "failed", "E401")
    assert "server_error: The job failed due to an internal error." in seen.problem.why


def test_results_are_fetched(rig):
    job = rig.create(training={"epochs": 2, "batch_size": 4})
    folder = rig.folder / "results" / "deep"
    assert rig.provider.fetch_results(job, folder) == []
    assert folder.is_dir()
    rig.after(WHOLE_S)
    (path,) = rig.provider.fetch_results(job, folder)
    table = path.read_text().splitlines()
    assert table[0] == "step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy"
    assert len(table) == 7
    assert rig.provider.fetch_results(job, folder) == [path]
    # Another host hands the table out as it is.
    file = rig.sandbox.files.get(path.stem)
    rig.sandbox.instead["content"] = lambda request: Reply(body=base64.b64decode(file.content))
    assert rig.provider.fetch_results(job, rig.folder / "plain")[0].read_text().splitlines() == table


def test_a_name_of_a_result_file_does_not_leave_the_folder(rig):
    job = rig.create()
    row = {**rig.sandbox.job(rig.sandbox._book.get(job, 0)), "result_files": ["../../file-x"]}
    rig.sandbox.instead["retrieve"] = lambda request: Reply(body=row)
    rig.sandbox.instead["content"] = lambda request: Reply(body=b"step\n1\n")
    folder = rig.folder / "a" / "b"
    assert rig.provider.fetch_results(job, folder) == [folder / "file-x.csv"]


def test_a_table_may_be_wrapped():
    table = b"step,train_loss\n1,2.0\n" * 20
    assert plain(base64.encodebytes(table)) == table
    assert plain(table) == table
    assert plain(b"") == b""
    # Good base64, and no table.
    assert plain(b"abcd") == b"abcd"


# What a host may answer that no stand-in does.


def row(**more):
    return {"id": "ftjob-1", "status": "running", "created_at": 5, **more}


def looked(job, new=(), cursor=None):
    return observed(job, list(new), cursor or Cursor(), now=NOW, clean=lambda words: words)


def test_every_state_of_the_contract_is_known():
    assert set(SCHEMAS["FineTuningJob"]["properties"]["status"]["enum"]) <= set(STATES)


def test_numbers_that_are_none_are_left_out():
    data = {"step": 1, "train_loss": float("nan"), "valid_loss": float("inf"), "full_valid_loss": "x"}
    rows = [{"id": "e", "type": "metrics", "data": {**data, "train_mean_token_accuracy": 1}}]
    assert looked(row(), rows).metrics == (Metric(step=1, name="accuracy", value=1.0),)


@pytest.mark.parametrize("data", [None, [], {}, {"step": "1", "train_loss": 1.0}])
def test_metrics_without_a_step_are_none(data):
    seen = looked(row(), [{"id": "e", "type": "metrics", "data": data}])
    assert (seen.metrics, seen.progress) == ((), None)


def test_levels_of_events():
    rows = [{"id": level, "level": level, "message": level} for level in ("info", "warn", "error", "odd")]
    assert [event.kind for event in looked(row(), rows).events] == ["provider", "warning", "error", "provider"]


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (None, None, None),
        ({"code": None, "message": None, "param": None}, None, None),
        ({"code": None, "message": "broken", "param": None}, "E401", "it says: broken"),
        ({"code": "x", "message": "broken", "param": "validation_file"}, "E413", "it says: x: broken"),
        ({"code": "invalid_training_file", "message": "m", "param": "x"}, "E413", "it says: invalid_training_file: m"),
        ({"code": "invalid_n_examples", "message": "m"}, "E413", "it says: invalid_n_examples: m"),
        ({"code": "jsonlValidationFailed", "message": "m"}, "E413", "it says: jsonlValidationFailed: m"),
        ({"code": "fileImportFailed", "message": "m"}, "E413", "it says: fileImportFailed: m"),
    ],
)
def test_a_failure_in_its_own_words(error, code, words):
    problem = looked(row(status="failed", error=error)).problem
    assert (problem and problem.code, problem and problem.why) == (code, words)


def test_words_that_are_shown_are_cleaned():
    def clean(words):
        return words.replace("SECRET", "***")

    events = [{"id": "1", "message": "the SECRET"}]
    job = row(status="failed", error={"code": "SECRET", "message": "a SECRET"})
    seen = observed(job, events, Cursor(), now=NOW, clean=clean)
    assert "SECRET" not in repr(seen)
    assert "SECRET" not in repr(observed(row(status="SECRET"), [], Cursor(), now=NOW, clean=clean))


@pytest.mark.parametrize(
    ("wish", "silent"),
    [
        ("cancel", {"succeeded", "failed", "cancelled"}),
        ("pause", {"succeeded", "failed", "cancelled", "paused", "pausing"}),
        ("resume", {"succeeded", "failed", "cancelled", "validating_files", "queued", "running"}),
    ],
)
def test_when_a_refused_wish_is_no_fault(wish, silent):
    words = ("validating_files", "queued", "running", "pausing", "paused", "succeeded", "failed", "cancelled", "odd")
    assert {word for word in words if as_wished({"status": word}, wish)} == silent


# Webhooks.


@pytest.fixture
def hooked(rigs, monkeypatch):
    """A rig whose stand-in calls back, and the calls: headers and body."""
    from tests.support.web import Request as Got

    monkeypatch.setattr(Got, "do_POST", Got.do_GET, raising=False)
    calls = []

    def take(request):
        calls.append((dict(request.headers), request.rfile.read(int(request.headers["Content-Length"]))))
        request.send(200, b"")

    with Web() as web:
        web.answers["/hook"] = take
        yield rigs(webhook=(f"{web.url}/hook", WEBHOOK_SECRET)), calls


def test_a_call_of_the_stand_in_names_its_job(hooked):
    rig, calls = hooked
    job = rig.create()
    rig.after(WHOLE_S)
    wait_until(lambda: calls, 10, "the call")
    headers, body = calls[0]
    assert rig.provider.notice(headers, body) == job
    assert rig.provider.notice({name.lower(): value for name, value in headers.items()}, body) == job
    other = base64.b64encode(b"another").decode()
    for secret in (f"whsec_{other}", "plain text", "whsec_a"):
        error, problem = fails(lambda secret=secret: rig.another(OPENAI_WEBHOOK_SECRET=secret).notice(headers, body))
        assert (type(error), problem.code) == (AuthenticationFailed, "E405")
        assert secret not in str(error)
    error, _ = fails(lambda: rig.provider.notice(headers, body + b" "))
    assert type(error) is AuthenticationFailed
    # A hint needs no key of the API, and sends nothing.
    before = len(rig.sandbox.seen)
    assert rig.another(OPENAI_API_KEY="").notice(headers, body) == job
    assert len(rig.sandbox.seen) == before


@pytest.fixture
def listener(tmp_path):
    return OpenAiProvider(hosted.kit(tmp_path, {"OPENAI_WEBHOOK_SECRET": WEBHOOK_SECRET}))


def signed(body, *, at=None, secret=WEBHOOK_SECRET, **headers):
    when = str(int(time.time()) if at is None else at)
    value = {"webhook-id": "wh_1", "webhook-timestamp": when}
    return {**value, "webhook-signature": "v1," + sign(secret, "wh_1", when, body), **headers}, body


def event(kind="fine_tuning.job.succeeded", data=None):
    return json.dumps({"object": "event", "id": "evt_1", "type": kind, "data": data or {"id": "ftjob-1"}}).encode()


@pytest.mark.parametrize("kind", ["succeeded", "failed", "cancelled"])
def test_calls_about_jobs(listener, kind):
    assert listener.notice(*signed(event(f"fine_tuning.job.{kind}"))) == "ftjob-1"


@pytest.mark.parametrize(
    "body",
    [event("batch.completed"), event(data={"x": 1}), event(data=["x"]), event(data={"id": 7}), b"[]", b'"x"', b"{}"],
)
def test_calls_about_something_else(listener, body):
    assert listener.notice(*signed(body)) is None


@pytest.mark.parametrize(
    "call",
    [
        ({}, event()),
        ({"webhook-signature": "v1,x"}, event()),
        signed(event(), at=time.time() - 3600),
        signed(event(), at=time.time() + 3600),
        signed(event(), secret="other"),
        signed(event(), **{"webhook-signature": "v1,\u00e9"}),
        signed(event(), **{"webhook-timestamp": "yesterday"}),
        signed(event(), **{"webhook-id": "wh_2"}),
        (signed(event())[0], b"\xff\xfe"),
        signed(b"no JSON"),
    ],
    ids=["bare", "no time", "old", "new", "other secret", "not ASCII", "no time", "other id", "garbage", "no JSON"],
)
def test_calls_that_nobody_signed(listener, call):
    error, problem = fails(lambda: listener.notice(*call))
    assert (type(error), problem.code) == (AuthenticationFailed, "E405")
    assert WEBHOOK_SECRET not in str(error)


def test_without_a_secret_nothing_is_believed(tmp_path):
    error, problem = fails(lambda: OpenAiProvider(hosted.kit(tmp_path, {})).notice(*signed(event())))
    assert (type(error), problem.code) == (AuthenticationFailed, "E412")


# What goes wrong.

#: Kind of fault, what a create ends with, its code, and whether the job is there then.
AT_CREATE = {
    "rate_limit": (ProviderUnavailable, "E410", 0),
    "server_error": (OutcomeUnknown, "E403", 0),
    "unavailable": (OutcomeUnknown, "E403", 0),
    "cut_before": (OutcomeUnknown, "E409", 0),
    "cut_after": (OutcomeUnknown, "E409", 1),
    "hang_before": (OutcomeUnknown, "E409", 0),
    "hang_after": (OutcomeUnknown, "E409", 1),
    "slow": (None, None, 1),
    "garbage": (OutcomeUnknown, "E411", 1),
    "odd_state": (None, None, 1),
    "webhook_lost": (None, None, 1),
    "webhook_twice": (None, None, 1),
}


def patience(kind):
    """Seconds of a fault, and how long the adapter waits for an answer."""
    return (30.0, 0.5) if kind.startswith("hang") else (0.2, 10.0)


@pytest.mark.parametrize("kind", KINDS)
def test_every_fault_at_a_create(rigs, kind):
    lasts_s, read_s = patience(kind)
    rig = rigs(key=SECRET, read_s=read_s)
    data = rig.provider.upload(rig.data)
    rig.fault(kind, "create", seconds=lasts_s)
    error = raised(lambda: rig.provider.create(rig.recipe(), data, KEY))
    wanted, code, jobs = AT_CREATE[kind]
    assert (type(error) if error else None, error and error.problems[0].code) == (wanted, code)
    assert rig.jobs() == jobs
    # One request, come what may.
    assert rig.faults.arrived["create"] == 1
    assert SECRET not in f"{error} {error!r}"
    assert len(rig.another().find(KEY)) == jobs


#: Operations, how to meet them, and what they need.
READS = {
    "retrieve": lambda provider, job: provider.poll(job, None),
    "events": lambda provider, job: provider.poll(job, None),
    "list": lambda provider, job: provider.find(KEY),
    "files": lambda provider, job: provider.files(),
    "cancel": lambda provider, job: provider.cancel(job),
    "content": lambda provider, job: provider.fetch_results(job, provider._kit.runs_dir),
    "checkpoints": lambda provider, job: provider.poll(job, None),
    "file_delete": lambda provider, job: provider.delete_file(provider.files()[0].file_id),
}
AT_READS = {
    "rate_limit": "E410",
    "garbage": "E411",
    **dict.fromkeys(("server_error", "unavailable", "cut_before", "cut_after", "hang_before", "hang_after"), "E403"),
}


#: A cancel was carried out, which a look at the job shows; bytes of a file may be anything.
GOOD_ANYHOW = {("cancel", "cut_after"), ("cancel", "hang_after"), ("cancel", "garbage"), ("content", "garbage")}


@pytest.mark.parametrize("operation", READS)
@pytest.mark.parametrize("kind", [*AT_READS, "slow"])
def test_every_fault_at_all_else(rigs, operation, kind):
    lasts_s, read_s = patience(kind)
    rig = rigs(key=SECRET, read_s=read_s)
    job = rig.create()
    if operation in ("content", "checkpoints"):
        rig.after(WHOLE_S)
    rig.fault(kind, operation, seconds=lasts_s)
    error = raised(lambda: READS[operation](rig.provider, job))
    code = None if (operation, kind) in GOOD_ANYHOW else AT_READS.get(kind)
    assert (type(error) if error else None) is (ProviderUnavailable if code else None)
    assert (error and error.problems[0].code) == code
    assert SECRET not in f"{error} {error!r}"


@pytest.mark.parametrize("kind", [*AT_READS, "slow"])
def test_every_fault_at_an_upload(rigs, kind):
    lasts_s, read_s = patience(kind)
    rig = rigs(key=SECRET, read_s=read_s)
    rig.provider._wire.patience = read_s
    rig.fault(kind, "upload", seconds=lasts_s)
    error = raised(lambda: rig.provider.upload(rig.data))
    code = AT_READS.get(kind)
    assert (type(error) if error else None) is (ProviderUnavailable if code else None)
    assert (error and error.problems[0].code) == code
    assert rig.faults.arrived["upload"] == 1
    ids = rig.another().upload(rig.data).ids
    # What was taken in before the answer got lost is not sent again.
    assert rig.faults.arrived["upload"] == (1 if kind in ("cut_after", "hang_after", "garbage", "slow") else 2)
    assert rig.sandbox.files.get(ids["train"]).content == rig.data.train.read_bytes()


def test_nobody_listens(rigs):
    rig = rigs(environ={"OPENAI_BASE_URL": "http://127.0.0.1:9/v1"})
    data = RemoteData(ids={"train": "file-x", "validation": None})
    for call in (lambda: rig.provider.create(rig.recipe(), data, KEY), lambda: rig.provider.find(KEY)):
        error, problem = fails(call)
        assert (type(error), problem.code) == (ProviderUnavailable, "E403")


def test_a_rate_limit_hushes_all_requests(rigs):
    clock = ManualClock()
    rig = rigs(clock=clock)
    data = rig.provider.upload(rig.data)
    rig.fault("rate_limit", "create", seconds=30)
    error, problem = fails(lambda: rig.provider.create(rig.recipe(), data, KEY))
    assert (error.after_s, problem.code) == (30.0, "E410")
    before = rig.faults.arrived.total()
    clock.sleep(10)
    calls = (
        lambda: rig.provider.create(rig.recipe(), data, KEY),
        lambda: rig.provider.find(KEY),
        lambda: rig.provider.upload(rig.data),
        lambda: rig.provider.poll("ftjob-x", None),
    )
    for call in calls:
        error, problem = fails(call)
        assert (type(error), problem.code, error.after_s) == (ProviderUnavailable, "E410", 20.0)
    assert rig.faults.arrived.total() == before
    clock.sleep(20)
    rig.provider.create(rig.recipe(), data, KEY)
    assert rig.jobs() == 1


@pytest.mark.parametrize(
    ("said", "after_s"),
    [
        ({"Retry-After": "7"}, 7.0),
        ({"Retry-After": "0"}, 0.0),
        ({"Retry-After": "-3"}, 0.0),
        ({"Retry-After": "inf"}, 86_400.0),
        ({"Retry-After": "1e400"}, 86_400.0),
        ({"Retry-After": "nan"}, None),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "Fri, 01 Jan 2027 00:01:00 GMT"}, 60.0),
        ({"Retry-After": "Fri, 01 Jan 2027 00:01:00 -0000"}, 60.0),
        ({"Retry-After": "Thu, 31 Dec 2026 00:01:00 GMT"}, 0.0),
        ({"Retry-After": "9", "Retry-After-Ms": "2500"}, 2.5),
        ({"Retry-After": "9", "Retry-After-Ms": "x"}, 9.0),
        ({}, None),
    ],
)
def test_how_long_to_wait_is_said_in_many_ways(rigs, said, after_s):
    rig = rigs(clock=ManualClock())
    rig.sandbox.instead["list"] = lambda request: Reply(status=429, body={"error": {"message": "slow"}}, headers=said)
    error, problem = fails(lambda: rig.provider.find(KEY))
    assert (type(error), problem.code, error.after_s) == (ProviderUnavailable, "E410", after_s)


def test_a_used_up_quota_is_for_good(rig):
    data = rig.provider.upload(rig.data)
    recipe = rig.recipe(provider_options={"suffix": "quota"})
    error, problem = fails(lambda: rig.provider.create(recipe, data, KEY))
    assert (type(error), problem.code) == (ProviderError, "E408")
    assert "insufficient_quota: You exceeded your current quota" in problem.why
    assert "(request req_" in problem.why
    assert rig.jobs() == 0
    # It is not the pace: others go on.
    assert rig.provider.find(KEY) == []


@pytest.mark.parametrize("key", ["wrong-SECRET-0123456789", "sandbox-no-access"])
@pytest.mark.parametrize(
    "call",
    [
        lambda rig: rig.provider.create(rig.recipe(), RemoteData(ids={"train": "file-x"}), KEY),
        lambda rig: rig.provider.find(KEY),
        lambda rig: rig.provider.poll("ftjob-x", None),
        lambda rig: rig.provider.upload(rig.data),
        lambda rig: rig.provider.cancel("ftjob-x"),
        lambda rig: rig.provider.pause("ftjob-x"),
        lambda rig: rig.provider.reach(),
        lambda rig: rig.provider.files(),
        lambda rig: rig.provider.delete_file("file-x"),
        lambda rig: rig.provider.fetch_results("ftjob-x", rig.folder / "r"),
    ],
)
def test_a_key_that_is_not_taken(rigs, key, call):
    rig = rigs(key=key)
    error, problem = fails(lambda: call(rig))
    assert (type(error), problem.code) == (AuthenticationFailed, "E405")
    assert ("401" if key.startswith("wrong") else "403") in problem.what
    # Not even the ends that the vendor repeats.
    for piece in (key, "wrong-SE", "6789"):
        assert piece not in str(error).replace(problem.why.rpartition("(request ")[2], "")
    if key.startswith("wrong"):
        assert "Incorrect API key provided: ***" in problem.why


#: As it was seen on the wire in 2026.
CLOSED = {
    "message": "OpenAI is winding down the fine-tuning platform and your organization is no longer able to create new "
    "fine-tuning training jobs. Learn more https://developers.openai.com/api/docs/deprecations#"
    "update-to-openais-self-serve-fine-tuning",
    "type": "invalid_request_error",
    "param": None,
    "code": "training_not_available",
}


def test_an_organisation_that_can_create_no_jobs_any_more(rig):
    job = rig.create()
    rig.sandbox.instead["create"] = lambda request: Reply(status=403, body={"error": CLOSED})
    error, problem = fails(lambda: rig.provider.create(rig.recipe(), rig.provider.upload(rig.data), KEY))
    assert (type(error), problem.code, error.retry) == (ProviderError, "E406", False)
    assert problem.what == "OpenAI has ended this service (create the job, 403)"
    assert f"{CLOSED['code']}: {CLOSED['message']}" in problem.why
    assert "`provider: local`" in problem.fix
    # What it has goes on.
    assert rig.provider.poll(job, None).raw_state == "validating_files"


@pytest.mark.parametrize(
    "body",
    [
        {"code": "missing_scope", "message": "You have insufficient permissions. Missing scopes: model.request"},
        {"code": None, "message": "The project is archived and no longer able to create new fine-tuning jobs."},
        {"code": ["training_not_available"], "message": "m"},
    ],
)
def test_another_403_is_about_the_key(rig, body):
    rig.sandbox.instead["create"] = lambda request: Reply(status=403, body={"error": body})
    error, problem = fails(lambda: rig.provider.create(rig.recipe(), RemoteData(ids={"train": "file-x"}), KEY))
    assert (type(error), problem.code) == (AuthenticationFailed, "E405")


def test_an_unknown_job_is_not_there(rig):
    error, problem = fails(lambda: rig.provider.poll("ftjob-never", None))
    assert (type(error), problem.code) == (ProviderError, "E402")
    assert "Could not find fine tune: ftjob-never" in problem.why


def test_a_file_that_is_still_being_processed(rigs):
    rig = rigs(timing=Timing(processing_s=50))
    data = rig.provider.upload(rig.data)
    error, problem = fails(lambda: rig.provider.create(rig.recipe(), data, KEY))
    assert (type(error), problem.code, error.after_s) == (ProviderUnavailable, "E403", 1.0)
    assert "is still being processed" in problem.why
    assert rig.jobs() == 0
    rig.after(50)
    rig.provider.create(rig.recipe(), data, KEY)
    assert rig.jobs() == 1


def test_a_model_that_is_not_there_is_named(rig):
    data = rig.provider.upload(rig.data)
    error, problem = fails(lambda: rig.provider.create(hosted.recipe("openai", "gpt-9"), data, KEY))
    assert (type(error), problem.code) == (ProviderError, "E407")
    assert "gpt-9" in problem.why
    assert rig.jobs() == 0


@pytest.mark.parametrize("body", [b"<html>", [], "text", None, {}, {"id": None}, {"id": ""}])
def test_an_answer_to_a_create_that_is_no_job(rig, body):
    data = rig.provider.upload(rig.data)
    rig.sandbox.instead["create"] = lambda request: Reply(body=body)
    error, problem = fails(lambda: rig.provider.create(rig.recipe(), data, KEY))
    assert (type(error), problem.code) == (OutcomeUnknown, "E411")


@pytest.mark.parametrize("body", [b"<html>", [], "text", None, {}, {"id": "x"}, {"status": "running"}])
def test_an_answer_to_a_look_that_is_no_job(rig, body):
    job = rig.create()
    rig.sandbox.instead["retrieve"] = lambda request: Reply(body=body)
    error, problem = fails(lambda: rig.provider.poll(job, None))
    assert (type(error), problem.code) == (ProviderUnavailable, "E411")


@pytest.mark.parametrize(
    "error",
    [
        {"message": "m", "code": "insufficient_quota"},
        {"message": "m", "type": "insufficient_quota"},
        {"message": "m", "code": "billing_hard_limit_reached"},
    ],
)
def test_a_bill_is_no_pace(rigs, error):
    rig = rigs(clock=ManualClock())
    answer = Reply(status=429, body={"error": error}, headers={"Retry-After": "600"})
    rig.sandbox.instead["create"] = lambda request: answer
    got, problem = fails(lambda: rig.provider.create(rig.recipe(), RemoteData(ids={"train": "x"}), KEY))
    assert (type(got), problem.code) == (ProviderError, "E408")
    # Others are not kept waiting for it.
    assert rig.provider.find(KEY) == []


@pytest.mark.parametrize(
    "body",
    [{"error": {"message": 5, "code": 7, "type": {"a": 1}}}, {"error": "no"}, {"error": None}, [], b"", b"<html>"],
)
@pytest.mark.parametrize("status", [400, 429, 500])
def test_refusals_in_no_form_at_all(rig, status, body):
    rig.sandbox.instead["list"] = lambda request: Reply(status=status, body=body)
    _, problem = fails(lambda: rig.provider.find(KEY))
    assert problem.code == {400: "E407", 429: "E410", 500: "E403"}[status]
    assert problem.why.startswith("OpenAI says: ")


def test_the_key_is_nowhere(rigs, caplog):
    caplog.set_level(logging.DEBUG)
    rig = rigs(key=SECRET, environ={"OPENAI_CUSTOM_HEADERS": f"x-gate: {SECRET}-gate"})
    said = []

    def tell(call):
        try:
            said.append(repr(call()))
        except ProviderError as error:
            said.append(f"{error} {error!r} {error.__cause__!r} {error.__context__!r}")

    job = rig.create()
    echo = {"error": {"message": f"your key {SECRET} and Bearer {SECRET}", "code": SECRET, "type": "x", "param": None}}
    for operation in ("create", "retrieve", "list", "files", "upload", "cancel", "events"):
        for code in (400, 401, 403, 404, 410, 429, 500):
            rig.sandbox.instead[operation] = lambda request, code=code: Reply(status=code, body=echo)
            for call in (
                lambda: rig.provider.create(rig.recipe(), RemoteData(ids={"train": "x"}), KEY),
                lambda: rig.provider.poll(job, None),
                lambda: rig.provider.find(KEY),
                lambda: rig.provider.files(),
                lambda: rig.provider.cancel(job),
            ):
                tell(call)
        del rig.sandbox.instead[operation]
    tell(lambda: rig.provider.poll(job, None))
    said += [repr(rig.provider), repr(rig.provider._wire), repr(rig.provider._wire.troubles), repr(rig.provider._files)]
    assert len(said) > 200
    assert SECRET not in "\n".join(said)
    assert SECRET not in caplog.text
    assert not [path for path in rig.folder.rglob("*") if path.is_file() and SECRET in path.read_text()]


@pytest.mark.parametrize("key", ["sandbox-SECRET\u2026", "sandbox-SECRET\n2", "sandbox-\x07SECRET"])
def test_a_key_that_no_header_can_hold_is_never_sent_nor_shown(rigs, key):
    rig = rigs(key=key)
    error, problem = fails(lambda: rig.provider.find(KEY))
    assert (type(error), problem.code) == (AuthenticationFailed, "E412")
    assert "OPENAI_API_KEY" in problem.what
    assert "SECRET" not in str(error)


def test_a_key_with_a_line_end_from_a_file(rigs):
    assert rigs(key="sandbox-key\n").provider.find(KEY) == []


# Many polls.


def test_many_polls_are_few_requests(rigs):
    rig = rigs(clock=ManualClock())
    jobs = [rig.create(f"k-{number}") for number in range(20)]
    cursors = {job: rig.provider.poll(job, None).cursor for job in jobs}
    rig.after(150)
    rig.sandbox.seen.clear()
    first = {job: rig.provider.poll(job, cursors[job]) for job in jobs}
    assert {each.state for each in first.values()} <= {"preparing", "queued"}
    looked_at = len(rig.sandbox.asked("retrieve")) + len(rig.sandbox.asked("list"))
    assert looked_at < len(jobs) / 2


# Before anything is sent.


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"training": {"epochs": 50, "batch_size": 256, "learning_rate_multiplier": 3.0}, "seed": 2**31 - 1},
        {"method": "dpo", "provider_options": {"beta": 2}},
        {"provider_options": {"suffix": "s" * 64, "integrations": [INTEGRATION] * 5}},
        {"provider_options": {"integrations": [{"type": "wandb", "wandb": {"project": "p"}}]}},
        {"limits": {"data": "any", "max_cost": "5 USD"}},
        {"limits": {"data": {"region": "eu"}}, "allow_ignored": ["limits.data"]},
    ],
)
def test_recipes_that_can_be_done(tmp_path, more):
    assert OpenAiProvider(hosted.kit(tmp_path, {})).check(hosted.recipe("openai", "m", **more)) == []


def wandb(**inside):
    return {"provider_options": {"integrations": [{"type": "wandb", "wandb": inside}]}}


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"training": {"epochs": 51}}, "training.epochs"),
        ({"training": {"batch_size": 257}}, "training.batch_size"),
        ({"seed": 2**31}, "seed"),
        ({"provider_options": {"suffix": ""}}, "provider_options.suffix"),
        ({"provider_options": {"suffix": "s" * 65}}, "provider_options.suffix"),
        ({"provider_options": {"suffix": 7}}, "provider_options.suffix"),
        ({"provider_options": {"beta": 0.5}}, "provider_options.beta"),
        ({"method": "dpo", "provider_options": {"beta": 0}}, "provider_options.beta"),
        ({"method": "dpo", "provider_options": {"beta": 2.01}}, "provider_options.beta"),
        ({"method": "dpo", "provider_options": {"beta": True}}, "provider_options.beta"),
        ({"method": "dpo", "provider_options": {"beta": "auto"}}, "provider_options.beta"),
        ({"provider_options": {"integrations": []}}, "provider_options.integrations"),
        ({"provider_options": {"integrations": {}}}, "provider_options.integrations"),
        ({"provider_options": {"integrations": ["wandb"]}}, "provider_options.integrations"),
        ({"provider_options": {"integrations": [INTEGRATION] * 6}}, "provider_options.integrations"),
        (wandb(), "provider_options.integrations"),
        (wandb(project=1), "provider_options.integrations"),
        (wandb(project="p", api_key=SECRET), "provider_options.integrations"),
        ({"provider_options": {"api_key": SECRET}}, "provider_options.api_key"),
        ({"provider_options": {"trainingType": "Standard"}}, "provider_options.trainingType"),
        ({"limits": {"data": {"region": "eu"}}}, "limits.data"),
        ({"limits": {"data": {"region": "api"}}}, "limits.data"),
        ({"limits": {"data": {"region": "mars"}}}, "limits.data"),
    ],
)
def test_recipes_that_cannot(tmp_path, more, field):
    (problem,) = OpenAiProvider(hosted.kit(tmp_path, {})).check(hosted.recipe("openai", "m", **more))
    assert (problem.code, problem.field) == ("E414", field)
    assert problem.why
    assert problem.fix
    assert SECRET not in repr(problem)


def test_all_that_cannot_be_done_is_said_at_once(tmp_path):
    more = {"training": {"epochs": 51}, "provider_options": {"a": 1, "beta": 3.0}, "limits": {"data": {"region": "eu"}}}
    found = OpenAiProvider(hosted.kit(tmp_path, {})).check(hosted.recipe("openai", "m", **more))
    assert [problem.field for problem in found] == [
        *("training.epochs", "provider_options.a", "provider_options.beta", "limits.data"),
    ]


@pytest.mark.parametrize("word", ["mars", "api", "evil.example", "us-east-1"])
@pytest.mark.parametrize("address", ["", "https://{}.api.openai.com/v1"])
def test_no_key_is_sent_to_a_host_that_somebody_made_up(tmp_path, word, address):
    provider = OpenAiProvider(hosted.kit(tmp_path, {"OPENAI_BASE_URL": address.format(word)}))
    (found,) = provider.check(hosted.recipe("openai", "m", limits={"data": {"region": word}}))
    assert "OpenAI has no such region; it has ae, au, ca, eu" in found.why
    assert "http" not in found.fix


@pytest.mark.parametrize("word", ["eu", "EU", "us", "jp"])
def test_the_host_of_a_region_is_named(tmp_path, word):
    (found,) = OpenAiProvider(hosted.kit(tmp_path, {})).check(
        hosted.recipe("openai", "m", limits={"data": {"region": word}})
    )
    assert f"OPENAI_BASE_URL=https://{word.lower()}.api.openai.com/v1," in found.fix


@pytest.mark.parametrize(
    ("address", "fine"),
    [
        ("https://eu.api.openai.com/v1", True),
        ("https://EU.api.openai.com/v1", True),
        ("https://us.api.openai.com/v1", False),
        ("https://eu.elsewhere.com/v1", False),
        ("https://eu.api.openai.com.elsewhere.com/v1", False),
        ("http://[bad", False),
        ("", False),
    ],
)
def test_a_region_is_a_host(tmp_path, address, fine):
    provider = OpenAiProvider(hosted.kit(tmp_path, {"OPENAI_BASE_URL": address}))
    recipe = hosted.recipe("openai", "m", limits={"data": {"region": "eu"}})
    assert (provider.check(recipe) == []) is fine


def test_what_is_missing(tmp_path, monkeypatch):
    (problem,) = OpenAiProvider(hosted.kit(tmp_path, {"OPENAI_API_KEY": " \n"})).unconfigured()
    assert problem.code == "E412"
    assert "OPENAI_API_KEY is not set" in problem.what
    assert OpenAiProvider(hosted.kit(tmp_path, {"OPENAI_API_KEY": "k"})).unconfigured() == []
    environ = {"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": "api.openai.com/v1"}
    (problem,) = OpenAiProvider(hosted.kit(tmp_path, environ)).unconfigured()
    assert "OPENAI_BASE_URL is no address" in problem.what
    monkeypatch.setattr("finetune.providers.openai.find_spec", lambda name: None)
    (problem,) = OpenAiProvider(hosted.kit(tmp_path, {"OPENAI_API_KEY": "k"})).unconfigured()
    assert problem.fix == "pip install 'ft-orchestrator[openai]'"
    error, problem = fails(lambda: OpenAiProvider(hosted.kit(tmp_path, {})).find(KEY))
    assert (type(error), len(error.problems)) == (AuthenticationFailed, 2)


def test_reach_says_who_answered(rig):
    assert rig.provider.reach() == "127.0.0.1"
    assert rig.sandbox.asked("list")[0].headers["x-stainless-read-timeout"] == "4.0"
