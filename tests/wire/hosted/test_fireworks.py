"""Fireworks' adapter against the stand-in: what it sends, what it makes of answers, and what goes wrong on the way."""

import gzip
import json
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from finetune import abilities
from finetune.errors import AuthenticationFailed, FtError, OutcomeUnknown, ProviderError, ProviderUnavailable
from finetune.ports import RemoteData
from finetune.providers.fireworks import FireworksProvider, build
from finetune.providers.fireworks_look import STATES, Cursor, curve
from finetune.providers.fireworks_look import observed as seen_by
from finetune.providers.fireworks_terms import job_id
from finetune.sandbox.faults import Fault
from finetune.sandbox.fireworks.jobs import Timing
from finetune.sandbox.server import Server
from finetune.sandbox.service import Reply
from tests.support import hosted
from tests.support.jobs import RECIPE, World, sqlite
from tests.wire.hosted.fireworks_contract import STATES as PUBLISHED
from tests.wire.hosted.fireworks_contract import Watched

MODEL = "accounts/fireworks/models/qwen3-8b"
KEY = "ft_abcdefghij-a1"
NAME = "accounts/sandbox/supervisedFineTuningJobs/ft-abcdefghij-a1"
DATA = "accounts/sandbox/datasets/ft-" + "d" * 32
TIMING = Timing(creating_s=10, validating_s=50, pending_s=40, running_s=1000, writing_s=10)
#: From the create into the training, and to the end of it.
RUNS_S, ENDED_S = 200, 2000


class Rig:
    def __init__(self, folder, environ=None, **more):
        self.folder = folder
        self.sandbox = Watched(**{"timing": TIMING, **more})
        self.begun = self.sandbox.clock.now()
        self.server = Server(self.sandbox)
        self.server.start()
        self.environ = {**self.server.environment, **(environ or {})}
        self.provider = self.another()
        self.data = hosted.data(folder, "fireworks")

    def another(self, clock=None, **more):
        kit = replace(hosted.kit(self.folder, self.environ, clock), requests_per_s=10_000.0)
        return FireworksProvider(kit, **more)

    def recipe(self, **more):
        return hosted.recipe("fireworks", MODEL, **more)

    def create(self, key=KEY, **more):
        return self.provider.create(self.recipe(**more), self.provider.upload(self.data), key).remote_id

    def after(self, seconds):
        self.sandbox.clock.advance(seconds)

    def fault(self, kind, on, **more):
        self.sandbox.faults.lay(Fault(kind=kind, on=on, **more))

    def answers(self, operation, reply):
        """From now on, whatever is asked."""
        for place, (route, pattern) in enumerate(self.server.table):
            if route.operation == operation:
                self.server.table[place] = (replace(route, answer=lambda request: reply), pattern)

    def operations(self):
        return [operation for operation, _ in self.sandbox.sent]

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


def observed(job, measured, cursor, now):
    return seen_by(job, measured, cursor, now=now, clean=str)


# What is sent.


def test_what_a_create_sends_when_the_recipe_sets_nothing(rig):
    assert rig.create() == NAME
    (sent,) = rig.sandbox.asked("create")
    assert (sent.method, sent.path) == ("POST", "/v1/accounts/sandbox/supervisedFineTuningJobs")
    assert sent.query_text == "supervisedFineTuningJobId=ft-abcdefghij-a1"
    assert json.loads(sent.body) == {
        "dataset": f"{DATA}-train",
        "displayName": "bot",
        "baseModel": MODEL,
        "epochs": 3,
    }
    assert sent.headers["authorization"] == "Bearer sandbox-key"


def test_what_a_create_sends_when_the_recipe_sets_everything(rigs):
    rig = rigs(environ={"WANDB_API_KEY": "w" * 40})
    rig.data = hosted.data(rig.folder, "fireworks", held_out=3)
    rig.create(
        training={
            "epochs": 2,
            "learning_rate": 2e-5,
            "batch_size": 4,
            "max_seq_length": 4096,
            "weight_decay": 0.25,
        },
        lora={"r": 32},
        provider_options={"learning_rate_warmup_steps": 3, "wandb_project": "p", "wandb_entity": "e"},
    )
    assert json.loads(rig.sandbox.asked("create")[0].body) == {
        "dataset": f"{DATA}-train",
        "evaluationDataset": f"{DATA}-validation",
        "displayName": "bot",
        "baseModel": MODEL,
        "epochs": 2,
        "learningRate": 2e-5,
        "batchSizeSamples": 4,
        "maxContextLength": 4096,
        "optimizerWeightDecay": 0.25,
        "loraRank": 32,
        "learningRateWarmupSteps": 3,
        "wandbConfig": {"enabled": True, "apiKey": "w" * 40, "project": "p", "entity": "e"},
    }


def test_preferences(rig):
    rig.data = hosted.data(rig.folder, "fireworks-dpo", held_out=3)
    made = rig.create(method="dpo", training={"epochs": 1}, provider_options={"beta": 0.2})
    assert made == "accounts/sandbox/dpoJobs/ft-abcdefghij-a1"
    (sent,) = rig.sandbox.asked("create")
    assert sent.query_text == "dpoJobId=ft-abcdefghij-a1"
    assert json.loads(sent.body) == {
        "dataset": f"{DATA}-train",
        "displayName": "bot",
        "trainingConfig": {"baseModel": MODEL, "epochs": 1},
        "lossConfig": {"method": "DPO", "dpo": {"beta": 0.2}},
    }
    assert len(rig.sandbox.asked("create_dataset")) == 1, "the API has no place for rows that are held back"
    assert [job.remote_id for job in rig.provider.find(KEY)] == [made]
    rig.after(700)
    assert rig.provider.poll(made, None).metrics
    rig.after(ENDED_S)
    seen = rig.provider.poll(made, None)
    assert seen.artifact == {"model": "accounts/sandbox/models/ft-abcdefghij-a1", "job": made}
    assert seen.events[-1].message == "JOB_STATE_COMPLETED"


def test_the_models_of_the_vendor_may_be_written_in_short(rig):
    recipe = hosted.recipe("fireworks", "qwen3-8b")
    rig.provider.create(recipe, rig.provider.upload(rig.data), KEY)
    assert json.loads(rig.sandbox.asked("create")[0].body)["baseModel"] == MODEL


def test_ids_of_jobs_are_the_keys():
    keys = ["ft_abcdefghij-a1", "ft_abcdefghij-a12", "ft_x-a1", "ft-x-a1", "FT_x-a1", "ft_x_y-a1", "a" * 300, ""]
    ids = [job_id(key) for key in keys]
    assert ids[:3] == ["ft-abcdefghij-a1", "ft-abcdefghij-a12", "ft-x-a1"]
    assert len(set(ids)) == len(keys)
    for each in ids:
        assert len(each) <= 63
        assert each.replace("-", "").isalnum()
        assert each == each.lower()


# Data.


def test_how_data_is_sent(rig):
    rig.provider.upload(rig.data)
    assert rig.operations() == [
        *("retrieve_dataset", "create_dataset", "retrieve_dataset"),
        *("upload_endpoint", "upload", "validate", "retrieve_dataset"),
    ]
    size = rig.data.train.stat().st_size
    assert json.loads(rig.sandbox.asked("create_dataset")[0].body) == {
        "datasetId": f"ft-{'d' * 32}-train",
        "dataset": {"displayName": f"ft-{'d' * 32}-train", "userUploaded": {}, "exampleCount": "12"},
    }
    assert json.loads(rig.sandbox.asked("upload_endpoint")[0].body) == {"filenameToSize": {"rows.jsonl": str(size)}}
    (put,) = rig.sandbox.asked("upload")
    assert put.body == rig.data.train.read_bytes()
    assert put.headers["x-goog-content-length-range"] == f"{size},{size}"
    assert "authorization" not in put.headers, "the storage is not the API: the key is none of its business"


def test_data_is_sent_once(rig):
    first = rig.provider.upload(rig.data)
    assert first == RemoteData(ids={"train": f"{DATA}-train", "validation": None})
    rig.sandbox.sent.clear()
    assert rig.provider.upload(rig.data) == first
    assert rig.operations() == ["retrieve_dataset"]


@pytest.mark.parametrize("stopped", ["create_dataset", "upload_endpoint", "upload", "validate"])
def test_an_upload_that_stopped_on_the_way_goes_on(rig, stopped):
    rig.fault("cut_after", stopped)
    error, _ = fails(lambda: rig.provider.upload(rig.data))
    assert type(error) is ProviderUnavailable
    rig.sandbox.sent.clear()
    rig.provider.upload(rig.data)
    assert rig.sandbox.datasets.get(f"{DATA}-train").state(rig.sandbox.clock.now().timestamp()) == "READY"
    again = len(rig.sandbox.asked("upload"))
    assert again == (1 if stopped in ("create_dataset", "upload_endpoint") else 0)


class Turning:
    """A clock whose waits move the stand-in's."""

    def __init__(self, rig):
        self.rig, self.slept = rig, []

    def now(self):
        return self.rig.sandbox.clock.now()

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.rig.after(seconds)


def test_data_is_waited_for_until_it_is_ready(rigs):
    rig = rigs(timing=replace(TIMING, checking_s=20))
    clock = Turning(rig)
    rig.another(clock).upload(rig.data)
    assert 20 <= sum(clock.slept) < 35


def test_data_that_is_never_ready_is_no_endless_wait(rigs):
    rig = rigs(timing=replace(TIMING, checking_s=10_000))
    clock = Turning(rig)
    error, problem = fails(lambda: rig.another(clock).upload(rig.data))
    assert (type(error), problem.code) == (ProviderUnavailable, "E403")
    assert 100 < sum(clock.slept) < 140


@pytest.mark.parametrize("checking_s", [0, 20])
def test_data_that_is_refused(rigs, checking_s):
    rig = rigs(timing=replace(TIMING, checking_s=checking_s))
    rig.data.train.write_text('{"messages": []}\n' * 12)
    error, problem = fails(lambda: rig.another(Turning(rig)).upload(rig.data))
    assert (type(error), problem.code) == (ProviderError, "E413")
    assert "line 1: messages is not a list with something in it" in problem.why


@pytest.mark.parametrize(
    "body", [{}, {"filenameToSignedUrls": {"rows.jsonl": "http://elsewhere.example/x", "more.jsonl": "https://x/y"}}]
)
def test_addresses_that_were_not_asked_for(rig, body):
    rig.answers("upload_endpoint", Reply(body=body))
    error, problem = fails(lambda: rig.provider.upload(rig.data))
    assert (type(error), problem.code) == (ProviderUnavailable, "E411")


def test_the_storage_must_be_as_safe_as_the_api(rigs):
    rig = rigs(environ={"FIREWORKS_BASE_URL": "https://127.0.0.1:9"})
    wire = rig.provider._wire
    for url in ("http://127.0.0.1/x", "file:///etc/passwd", "https://a:b/x", "https://a/\x00", "", None, 3):
        error, problem = fails(lambda: wire.get("read", url, most=9))  # noqa: B023 -- called at once
        assert (type(error), problem.code) == (ProviderUnavailable, "E411")


def test_rows_are_not_sent_in_the_clear_where_a_key_of_the_account_is_wanted(rig):
    told = {"name": f"{DATA}-train", "state": "UPLOADING", "encryptionState": "ENCRYPTION_STATE_CMEK"}
    rig.answers("retrieve_dataset", Reply(body=told))
    error, problem = fails(lambda: rig.provider.upload(rig.data))
    assert (type(error), problem.code) == (ProviderError, "E414")
    assert rig.sandbox.asked("upload") == rig.sandbox.asked("upload_endpoint") == []


def test_only_our_data_is_shown_and_a_delete_is_idempotent(rig):
    rig.provider.upload(rig.data)
    rig.after(5)
    rig.provider.upload(hosted.data(rig.folder, "fireworks", digest="e" * 64, held_out=3))
    foreign = {"datasetId": "somebody", "dataset": {"userUploaded": {}}}
    rig.provider._wire.call("make", SimpleNamespace(method="POST", path=f"/v1/{DATA[:25]}", params=None, body=foreign))
    shown = rig.provider.files()
    assert {file.name for file in shown} == {
        f"ft-{'e' * 32}-train",
        f"ft-{'e' * 32}-validation",
        f"ft-{'d' * 32}-train",
    }
    assert shown[-1].file_id == f"{DATA}-train"
    assert abs(shown[-1].uploaded_at - datetime.now(UTC)) < timedelta(minutes=1)
    for _ in range(2):
        rig.provider.delete_file(f"{DATA}-train")
    for name in ("accounts/sandbox/datasets/somebody", NAME, f"accounts/other/datasets/ft-{'e' * 32}-train", "x"):
        rig.provider.delete_file(name)
    assert {request.path.rpartition("/")[2] for request in rig.sandbox.asked("delete_dataset")} == {
        f"ft-{'d' * 32}-train"
    }
    assert len(rig.provider.files()) == 2
    assert rig.provider.file_ids({"train": "a", "validation": None}) == ["a"]


def test_more_data_than_a_page(rig):
    for number in range(205):
        body = {"datasetId": f"ft-{number:032x}-train", "dataset": {"userUploaded": {}}}
        rig.sandbox.datasets.create(None, body, 0.0)
    assert len(rig.provider.files()) == 205
    assert len(rig.sandbox.asked("list_datasets")) == 2


# Never twice.


def test_a_second_create_of_a_key_is_the_first(rig):
    first, second = rig.create(), rig.create()
    assert first == second == NAME
    assert len(rig.sandbox.ledger()) == 1


@pytest.mark.parametrize("kind", ["unavailable", "cut_before", "garbage"])
def test_a_taken_id_that_cannot_be_looked_at_is_in_doubt(rig, kind):
    rig.create()
    rig.fault(kind, "retrieve")
    error, _ = fails(rig.create)
    assert type(error) is OutcomeUnknown


def test_a_taken_id_that_is_not_shown_yet_is_waited_for(rig):
    rig.create()
    rig.sandbox.faults.list_lag_s = 60
    assert rig.provider.find(KEY) == []
    rig.provider = rig.another(Turning(rig))
    assert rig.create() == NAME
    assert rig.sandbox.clock.now() >= rig.begun + timedelta(seconds=60)
    assert len(rig.sandbox.ledger()) == 1


def test_a_taken_id_that_is_never_shown_is_the_end_and_says_what_to_do(rig):
    rig.create()
    rig.sandbox.faults.list_lag_s = 3600
    rig.provider = rig.another(Turning(rig))
    error, problem = fails(rig.create)
    assert (type(error), problem.code) == (ProviderError, "E407")
    assert "ft-abcdefghij-a1" in problem.what
    assert "`ft submit --force`" in problem.fix
    waited_s = (rig.sandbox.clock.now() - rig.begun).total_seconds()
    assert waited_s == pytest.approx(120, abs=5)
    assert [operation for operation, _ in rig.sandbox.sent][-8:] == ["retrieve"] * 8


def test_a_create_in_doubt_is_found_by_its_key(rig):
    rig.fault("cut_after", "create")
    error, _ = fails(rig.create)
    assert type(error) is OutcomeUnknown
    assert [job.remote_id for job in rig.provider.find(KEY)] == [NAME]
    rig.fault("cut_before", "create")
    assert type(fails(lambda: rig.create("ft_other-a1"))[0]) is OutcomeUnknown
    assert rig.provider.find("ft_other-a1") == []


def test_404_of_somebody_else_is_no_answer(rig):
    rig.answers("retrieve", Reply(status=404, body=b"<html>not here</html>"))
    error, problem = fails(lambda: rig.provider.find(KEY))
    assert (type(error), problem.code) == (ProviderUnavailable, "E411")


def test_nothing_is_retried_below_us(rig):
    rig.fault("server_error", "create", times=None)
    assert type(fails(rig.create)[0]) is OutcomeUnknown
    assert [each for each, _ in rig.sandbox.faults.happened] == ["create"]


class Moved(World):
    """Whose clock moves the stand-in's."""

    def __init__(self, rig):
        super().__init__(sqlite(rig.folder), rig.provider)
        turn = self.clock.sleep
        self.clock.sleep = lambda seconds: (turn(seconds), rig.after(seconds))
        self.fields = {
            "provider": "fireworks",
            "base_model": MODEL,
            "recipe": {**RECIPE, "provider": "fireworks", "base_model": MODEL},
            "data": {
                "train": str(rig.data.train),
                "validation": None,
                "train_rows": 12,
                "validation_rows": 0,
                "digest": rig.data.digest,
                "format": "fireworks",
            },
        }

    def through(self):
        self.submit("ft_abcdefghij", **self.fields)
        return self.run("ft_abcdefghij", steps=300)


@pytest.mark.parametrize("shown", [True, False])
def test_a_job_that_is_taken_and_not_shown_fails_and_nothing_is_left_that_costs(rig, shown):
    """Whether it turns up within the hour, and is cancelled, or never, as somebody has deleted it."""
    rig.sandbox.faults.list_lag_s = 600 if shown else 100_000
    world = Moved(rig)
    world.provider = rig.another(clock=world.clock)
    rig.fault("cut_after", "create")
    job = world.through()
    assert (job.state, job.error["code"]) == ("failed", "E407")
    world.run("ft_abcdefghij", until=lambda job: job.due_at is None, steps=300)
    (entry,) = rig.sandbox.ledger()
    assert entry.remote_id == NAME
    assert entry.live is not shown
    told = [event.message for event in world.jobs.events("ft_abcdefghij")]
    assert any(f"carried out after all, as {NAME}: cancelled it" in line for line in told) is shown


@pytest.mark.parametrize("kind", [None, "cut_after", "cut_before", "server_error", "garbage"])
def test_the_lifecycle_pays_once_whatever_happens(rig, kind):
    operations = ("create_dataset", "upload_endpoint", "upload", "validate", "create", "retrieve", "content")
    for operation in operations if kind else ():
        rig.fault(kind, operation)
    job = Moved(rig).through()
    assert (job.state, job.model) == ("succeeded", "bot@v1")
    assert job.artifact["model"] == "accounts/sandbox/models/ft-abcdefghij-a1"
    assert [(entry.remote_id, entry.paid) for entry in rig.sandbox.ledger()] == [(NAME, True)]


# What a look tells.


def test_a_job_from_its_beginning_to_its_end(rig):
    made = rig.create()
    states, cursor, events, metrics = [], None, [], []
    for seconds in (1, 20, 60, 60, 400, 564, 400):
        rig.after(seconds)
        seen = rig.provider.poll(made, cursor)
        cursor = seen.cursor
        states.append((seen.state, seen.raw_state.removeprefix("JOB_STATE_")))
        events += seen.events
        metrics += seen.metrics
    assert states == [
        ("preparing", "CREATING"),
        ("preparing", "VALIDATING"),
        ("queued", "PENDING"),
        ("running", "RUNNING"),
        ("running", "RUNNING"),
        ("running", "WRITING_RESULTS"),
        ("succeeded", "COMPLETED"),
    ]
    assert [event.message for event in events] == [
        f"created {NAME}",
        "the provider expects it to cost 0.01 US dollars",
        "JOB_STATE_COMPLETED",
    ]
    assert [(each.step, each.name) for each in metrics] == [(step, "loss") for step in range(1, 7)]
    assert metrics[0].value > metrics[-1].value
    whole = rig.provider.poll(made, None)
    assert (whole.events, whole.metrics) == (tuple(events), tuple(metrics))
    assert whole.artifact == {"model": "accounts/sandbox/models/ft-abcdefghij-a1", "job": NAME}
    assert whole.progress == {"step": 6, "total_steps": None, "loss": metrics[-1].value, "eta_s": None, "percent": 100}
    again = rig.provider.poll(made, cursor)
    assert (again.events, again.metrics, again.state) == ((), (), "succeeded")


def test_no_key_goes_to_the_storage(rig):
    made = rig.create()
    rig.after(ENDED_S)
    rig.provider.poll(made, None)
    (got,) = rig.sandbox.asked("content")
    assert "authorization" not in got.headers


def test_a_job_goes_on_without_its_measured_values(rig):
    made = rig.create()
    rig.after(RUNS_S)
    rig.fault("server_error", "content", times=2)
    seen = rig.provider.poll(made, None)
    assert (seen.state, seen.metrics, [event.kind for event in seen.events]) == ("running", (), ["provider"] * 2)
    rig.after(ENDED_S)
    seen = rig.provider.poll(made, seen.cursor)
    assert seen.state == "succeeded"
    assert [event.kind for event in seen.events] == ["provider", "warning"]
    assert rig.provider.poll(made, None).metrics


@pytest.mark.parametrize(
    ("wish", "words"), [("fail-data", "failed to validate the dataset"), ("fail-train", "diverged")]
)
def test_a_job_that_fails(rig, wish, words):
    made = rig.provider.create(hosted.recipe("fireworks", MODEL, name=f"b-{wish}"), rig.provider.upload(rig.data), KEY)
    rig.after(ENDED_S)
    seen = rig.provider.poll(made.remote_id, None)
    assert (seen.state, seen.artifact, seen.problem.code) == ("failed", None, "E401")
    assert words in seen.problem.why
    assert seen.events[-1].kind == "error"
    assert words in seen.events[-1].message


def test_no_credit_at_the_create(rig):
    recipe = hosted.recipe("fireworks", MODEL, name="b-quota")
    error, problem = fails(lambda: rig.provider.create(recipe, rig.provider.upload(rig.data), KEY))
    assert (type(error), problem.code) == (ProviderError, "E408")


def test_words_of_the_api_are_cut_and_hold_no_secret(rigs):
    key = "sandbox-of-somebody-1234567890"
    rig = rigs(environ={"FIREWORKS_API_KEY": key})
    words = f"bad\nrow, sent with Bearer {key}, at https://x/y?X-Goog-Signature=SIGNED " + "z" * 9000
    told = {"name": NAME, "state": "JOB_STATE_FAILED", "dataset": "x", "status": {"code": "INTERNAL", "message": words}}
    rig.answers("retrieve", Reply(body=told))
    failed = rig.provider.poll(NAME, None)
    rig.answers("retrieve", Reply(body={**told, "state": words}))
    odd = rig.provider.poll(NAME, None)
    rig.answers("create", Reply(body={**told, "state": words}))
    found = rig.provider.create(rig.recipe(), RemoteData(ids={"train": "x"}), KEY)
    lines = [failed.problem.why, odd.raw_state, found.raw_state, *(e.message for e in (*failed.events, *odd.events))]
    assert sum("bad row" in line for line in lines) == 5
    for line in lines:
        assert len(line) < 600
        assert "\n" not in line
        assert key not in line
        assert "SIGNED" not in line


def test_an_unknown_state_breaks_nothing_and_is_told_once(rig):
    made = rig.create()
    rig.after(RUNS_S)
    seen = rig.provider.poll(made, None)
    rig.fault("odd_state", "retrieve", times=2)
    odd = rig.provider.poll(made, seen.cursor)
    assert (odd.state, odd.raw_state) == ("running", "JOB_STATE_REBALANCING")
    assert [event.kind for event in odd.events] == ["warning"]
    assert rig.provider.poll(made, odd.cursor).events == ()


def test_states_that_nobody_explains_are_left_out():
    unexplained = ("UNSPECIFIED", "IDLE", "DELETING", "DELETING_CLEANING_UP")
    assert set(PUBLISHED) - set(STATES) == {f"JOB_STATE_{word}" for word in unexplained}


@pytest.mark.parametrize(
    ("state", "ours", "code"),
    [("EARLY_STOPPED", "succeeded", None), ("PAUSED", "paused", None), ("EXPIRED", "failed", "E415")],
)
def test_states_that_the_stand_in_never_reaches(state, ours, code):
    job = {"name": NAME, "state": f"JOB_STATE_{state}", "outputModel": "mine"}
    seen = observed(job, (), Cursor(), datetime.now(UTC))
    assert seen.state == ours
    assert (seen.problem.code if seen.problem else None) == code
    assert seen.artifact == ({"model": "accounts/sandbox/models/mine", "job": NAME} if ours == "succeeded" else None)


def test_a_model_that_has_no_other_name_has_the_jobs():
    seen = observed({"name": NAME, "state": "JOB_STATE_COMPLETED"}, (), Cursor(), datetime.now(UTC))
    assert seen.artifact["model"] == "accounts/sandbox/models/ft-abcdefghij-a1"


def test_measured_values_of_either_form_and_half_a_line():
    lines = [
        {"step": 2, "train/loss": 1.5, "train/lr": 1e-4},
        {"timestamp": 1.5, "step": 1, "data": {"train/loss": 2.5, "train/epoch": 0}},
        {"step": 2, "eval/loss": 1.75},
        {"loss": 3},
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines) + '{"step": 3, "train/lo'
    seen = observed({"name": NAME, "state": "JOB_STATE_RUNNING"}, curve(text.encode()), Cursor(), datetime.now(UTC))
    told = [(each.step, each.name, each.value) for each in seen.metrics]
    assert told == [(1, "loss", 2.5), (2, "loss", 1.5), (2, "eval_loss", 1.75)]


@pytest.mark.parametrize(
    ("cost", "words"),
    [
        ({"currencyCode": "USD", "units": "2", "nanos": 500_000_001}, ["2.51"]),
        ({"currencyCode": "USD", "nanos": 1}, ["0.01"]),
        ({"currencyCode": "EUR", "units": "2"}, []),
        ({"currencyCode": "USD", "units": "-2"}, []),
        (None, []),
    ],
)
def test_a_cost_is_told_in_dollars_and_rounded_up(cost, words):
    job = {"name": NAME, "state": "JOB_STATE_RUNNING", "estimatedCost": cost}
    said = [event.message for event in observed(job, (), Cursor(), datetime.now(UTC)).events[1:]]
    assert said == [f"the provider expects it to cost {word} US dollars" for word in words]


@pytest.mark.parametrize("body", [{}, {"name": "another"}, {"name": NAME}, [], "x"])
def test_an_answer_that_is_no_job(rig, body):
    rig.answers("retrieve", Reply(body=body))
    error, problem = fails(lambda: rig.provider.poll(NAME, None))
    assert (type(error), problem.code) == (ProviderUnavailable, "E411")


def test_a_create_that_is_answered_by_another_job(rig):
    data = rig.provider.upload(rig.data)
    rig.answers("create", Reply(body={"name": "accounts/sandbox/supervisedFineTuningJobs/another"}))
    assert type(fails(lambda: rig.provider.create(rig.recipe(), data, KEY))[0]) is OutcomeUnknown


@pytest.mark.parametrize("remote_id", ["never", f"{NAME}/../../x", "accounts/sandbox/dpoJobs/never"])
def test_a_job_that_is_not_there(rig, remote_id):
    for call in (rig.provider.cancel, lambda name: rig.provider.poll(name, None)):
        error, problem = fails(lambda: call(remote_id))  # noqa: B023 -- called at once
        assert (type(error), problem.code) == (ProviderError, "E402")


@pytest.mark.parametrize("when_s", [0, 30, RUNS_S])
def test_a_cancel_is_idempotent(rig, when_s):
    made = rig.create()
    rig.after(when_s)
    rig.provider.cancel(made)
    assert rig.provider.poll(made, None).state == "running"
    rig.provider.cancel(made)
    rig.after(1)
    seen = rig.provider.poll(made, None)
    assert (seen.state, seen.raw_state) == ("cancelled", "JOB_STATE_CANCELLED")
    rig.provider.cancel(made)
    assert [entry.live for entry in rig.sandbox.ledger()] == [False]


def test_a_cancel_that_is_refused_while_the_job_runs(rig):
    made = rig.create()
    rig.after(RUNS_S)
    rig.answers("cancel", Reply(status=400, body={"code": 9, "message": "not now", "details": []}))
    error, problem = fails(lambda: rig.provider.cancel(made))
    assert (type(error), problem.code) == (ProviderError, "E407")
    assert "not now" in problem.why


# What a training leaves.


def test_the_adapter(rig, tmp_path):
    from safetensors.numpy import load_file

    made = rig.create(lora={"r": 4})
    rig.after(ENDED_S)
    artifact = rig.provider.poll(made, None).artifact
    folder = tmp_path / "adapters" / "one"
    for _ in range(2):
        assert rig.provider.fetch_adapter(artifact, folder) is True
    assert sorted(path.name for path in folder.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
    config = json.loads((folder / "adapter_config.json").read_text())
    assert (config["peft_type"], config["r"]) == ("LORA", 4)
    assert config["base_model_name_or_path"] == "Qwen/Qwen3-8B", "the vendor's own name means nothing elsewhere"
    tensors = load_file(folder / "adapter_model.safetensors")
    assert {name.rpartition(".lora_")[2] for name in tensors} == {"A.weight", "B.weight"}
    assert all("authorization" not in got.headers for got in rig.sandbox.asked("content"))


def offered(rig, files):
    """From now on the model has these files: content by name."""
    urls = {name: rig.sandbox.signed.to_get(rig.server.url, lambda content=content: content) for name, content in files}
    rig.answers("download_endpoint", Reply(body={"filenameToSignedUrls": urls}))


CONFIG = b'{"peft_type": "LORA", "r": 8, "base_model_name_or_path": "Qwen/Qwen3-8B"}'
TENSOR = b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}  '
WEIGHTS = len(TENSOR).to_bytes(8, "little") + TENSOR + b"\0\0\0\0"


@pytest.mark.parametrize(
    "weights",
    [b"", b"PK\x03\x04", WEIGHTS[:-1], WEIGHTS + b"\0", b"\xff" * 80, (4).to_bytes(8, "little") + b"[[]]"],
)
def test_weights_that_are_not_whole(rig, tmp_path, weights):
    made = rig.create()
    rig.after(ENDED_S)
    artifact = rig.provider.poll(made, None).artifact
    offered(rig, [("x/adapter_config.json", CONFIG), ("x/adapter_model.safetensors", WEIGHTS)])
    assert rig.provider.fetch_adapter(artifact, tmp_path / "a") is True
    offered(rig, [("x/adapter_config.json", CONFIG), ("x/adapter_model.safetensors", weights)])
    error, problem = fails(lambda: rig.provider.fetch_adapter(artifact, tmp_path / "a"))
    assert (type(error), problem.code) == (ProviderUnavailable, "E411")
    assert not (tmp_path / "a" / "adapter_config.json").exists(), "where it lies, all lies"
    assert not list((tmp_path / "a").glob("*.part")) + list((tmp_path / "a").glob(".*"))


class Hurrying:
    """A clock by which every look comes ten minutes after the one before."""

    def __init__(self):
        self.looks = 0

    def now(self):
        self.looks += 1
        return datetime(2027, 1, 1, tzinfo=UTC) + timedelta(minutes=10 * self.looks)

    def sleep(self, seconds):
        raise AssertionError("nothing is waited for")


def stored(rig, content):
    return rig.sandbox.signed.to_get(rig.server.url, lambda: content)


def test_a_download_has_its_time(rig, tmp_path):
    """Half an hour from the first byte to the last, whatever the pauses between them."""
    large, small = b"x" * 4_000_000, b"x"
    wire = rig.another(Hurrying())._wire
    wire.download("fetch it", stored(rig, small), tmp_path / "small", most=10)
    error, problem = fails(lambda: wire.download("fetch it", stored(rig, large), tmp_path / "large", most=10_000_000))
    assert (type(error), problem.code) == (ProviderUnavailable, "E403")
    assert "too slow: " in problem.why
    assert 0 < (tmp_path / "large").stat().st_size < len(large)
    rig.another()._wire.download("fetch it", stored(rig, large), tmp_path / "large", most=10_000_000)
    assert (tmp_path / "large").read_bytes() == large


def test_a_download_has_its_size(rig, tmp_path):
    wire = rig.provider._wire
    wire.download("fetch it", stored(rig, b"x" * 1000), tmp_path / "a", most=1000)
    error, problem = fails(lambda: wire.download("fetch it", stored(rig, b"x" * 1001), tmp_path / "b", most=1000))
    assert (type(error), problem.code) == (ProviderUnavailable, "E411")
    assert "more than 1000 bytes" in problem.why
    assert fails(lambda: wire.get("fetch it", stored(rig, b"x" * 1001), most=1000))[1].code == "E411"
    assert wire.get("fetch it", stored(rig, b"x" * 1000), most=1000) == b"x" * 1000


def test_nothing_comes_packed(rig, tmp_path):
    """What is packed could be a thousand times as large as what is counted on the way."""
    wire = rig.provider._wire
    wire.download("fetch it", stored(rig, b"x"), tmp_path / "a", most=1000)
    wire.get("fetch it", stored(rig, b"x"), most=1000)
    assert [got.headers["accept-encoding"] for got in rig.sandbox.asked("content")] == ["identity"] * 2
    rig.answers("content", Reply(body=gzip.compress(b"x" * 100), headers={"Content-Encoding": "gzip"}))
    for call in (
        lambda: wire.download("fetch it", stored(rig, b"x"), tmp_path / "b", most=1000),
        lambda: wire.get("fetch it", stored(rig, b"x"), most=1000),
    ):
        error, problem = fails(call)
        assert (type(error), problem.code) == (ProviderUnavailable, "E411")
        assert "packed as gzip" in problem.why


@pytest.mark.parametrize("config", [b"", b"[]", b'{"peft_type": "IA3", "r": 8}', b'{"peft_type": "LORA"}'])
def test_a_config_of_something_else(rig, tmp_path, config):
    made = rig.create()
    rig.after(ENDED_S)
    offered(rig, [("adapter_config.json", config), ("adapter_model.safetensors", WEIGHTS)])
    error, _ = fails(lambda: rig.provider.fetch_adapter(rig.provider.poll(made, None).artifact, tmp_path / "a"))
    assert type(error) is ProviderUnavailable


def test_names_of_files_are_no_paths(rig, tmp_path):
    made = rig.create()
    rig.after(ENDED_S)
    artifact = rig.provider.poll(made, None).artifact
    evil = [("../../evil.txt", b"x"), ("/etc/evil", b"x"), ("..\\adapter_config.json", b"x")]
    offered(rig, [*evil, ("../../up/adapter_config.json", CONFIG), ("/abs/adapter_model.safetensors", WEIGHTS)])
    assert rig.provider.fetch_adapter(artifact, tmp_path / "in" / "a") is True
    there = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert [name for name in there if "jsonl" not in name] == [
        "in/a/adapter_config.json",
        "in/a/adapter_model.safetensors",
    ]


def test_models_that_give_no_adapter(rig, tmp_path):
    made = rig.create()
    rig.after(ENDED_S)
    artifact = rig.provider.poll(made, None).artifact
    offered(rig, [("adapter_config.json", CONFIG), ("adapter_model.bin", b"x")])
    assert rig.provider.fetch_adapter(artifact, tmp_path / "a") is False, "no pickle is ever read"
    offered(rig, [("a/adapter_config.json", CONFIG), ("b/adapter_config.json", CONFIG)])
    assert type(fails(lambda: rig.provider.fetch_adapter(artifact, tmp_path / "a"))[0]) is ProviderUnavailable
    rig.answers(
        "retrieve_model", Reply(body={"name": artifact["model"], "kind": "HF_PEFT_ADDON", "state": "UPLOADING"})
    )
    assert type(fails(lambda: rig.provider.fetch_adapter(artifact, tmp_path / "a"))[0]) is ProviderUnavailable
    rig.answers("retrieve_model", Reply(body={"name": artifact["model"], "kind": "HF_BASE_MODEL"}))
    assert rig.provider.fetch_adapter(artifact, tmp_path / "a") is False
    assert not (tmp_path / "a").exists()


def test_an_adapter_whose_base_may_not_be_looked_at_keeps_its_name(rig, tmp_path):
    made = rig.create()
    rig.after(ENDED_S)
    artifact = rig.provider.poll(made, None).artifact
    offered(
        rig,
        [
            ("adapter_config.json", CONFIG.replace(b"Qwen/Qwen3-8B", MODEL.encode())),
            ("adapter_model.safetensors", WEIGHTS),
        ],
    )
    peft = {"baseModel": "accounts/other/models/private", "r": 8, "targetModules": []}
    told = {"name": artifact["model"], "kind": "HF_PEFT_ADDON", "state": "READY", "peftDetails": peft}
    held = rig.sandbox._model

    def model(request):
        return Reply(body=told) if request.parts["account"] == "sandbox" else held(request, None, 0.0)

    for place, (route, pattern) in enumerate(rig.server.table):
        if route.operation == "retrieve_model":
            rig.server.table[place] = (replace(route, answer=model), pattern)
    assert rig.provider.fetch_adapter(artifact, tmp_path / "a") is True
    assert json.loads((tmp_path / "a" / "adapter_config.json").read_text())["base_model_name_or_path"] == MODEL


@pytest.mark.parametrize("model", ["", "never", "accounts/sandbox/models/../../datasets/x", "accounts/a/models/b?c"])
def test_names_that_are_no_models_are_not_asked_for(rig, tmp_path, model):
    error, problem = fails(lambda: rig.provider.fetch_adapter({"model": model}, tmp_path / "a"))
    assert (type(error), problem.code) == (ProviderError, "E402")
    assert rig.sandbox.sent == []


def test_a_model_that_is_gone(rig, tmp_path):
    gone = {"model": "accounts/sandbox/models/gone", "job": NAME}
    error, problem = fails(lambda: rig.provider.fetch_adapter(gone, tmp_path / "a"))
    assert (type(error), problem.code) == (ProviderError, "E402")


def test_the_file_of_measured_values(rig, tmp_path):
    made = rig.create()
    assert rig.provider.fetch_results(made, tmp_path / "r") == []
    rig.after(ENDED_S)
    for _ in range(2):
        (path,) = rig.provider.fetch_results(made, tmp_path / "r")
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1, 2, 3, 4, 5, 6]


# What goes wrong on the way.

CALLS = {
    "account": lambda rig, made: rig.provider.reach(),
    "list_datasets": lambda rig, made: rig.provider.files(),
    "retrieve_dataset": lambda rig, made: rig.provider.upload(rig.data),
    "create_dataset": lambda rig, made: rig.provider.upload(replace(rig.data, digest="a" * 64)),
    "upload_endpoint": lambda rig, made: rig.provider.upload(replace(rig.data, digest="b" * 64)),
    "upload": lambda rig, made: rig.provider.upload(replace(rig.data, digest="c" * 64)),
    "validate": lambda rig, made: rig.provider.upload(replace(rig.data, digest="e" * 64)),
    "create": lambda rig, made: rig.create("ft_new-a1"),
    "retrieve": lambda rig, made: rig.provider.poll(made, None),
    "cancel": lambda rig, made: rig.provider.cancel(made),
    "delete_dataset": lambda rig, made: rig.provider.delete_file(f"{DATA}-train"),
}
#: Whose answer has nothing that is needed.
MUTE = {"create_dataset", "upload", "validate", "cancel", "delete_dataset"}


@pytest.mark.parametrize("kind", ["rate_limit", "server_error", "unavailable", "cut_before", "cut_after", "garbage"])
@pytest.mark.parametrize("operation", CALLS)
def test_every_fault_at_every_operation(rig, operation, kind):
    made = rig.create()
    rig.after(RUNS_S)
    rig.fault(kind, operation, seconds=0)
    if operation in MUTE and kind == "garbage":
        CALLS[operation](rig, made)
        return
    error, problem = fails(lambda: CALLS[operation](rig, made))
    doubt = operation == "create" and kind != "rate_limit"
    assert type(error) is (OutcomeUnknown if doubt else ProviderUnavailable), error
    wanted = {"rate_limit": "E410", "garbage": "E411"}.get(kind, "E403")
    assert problem.code == ("E409" if doubt and kind in ("cut_before", "cut_after") else wanted)
    # Once more goes well.
    CALLS[operation](rig, made)
    assert len(rig.sandbox.ledger()) == (2 if operation == "create" else 1)


@pytest.mark.parametrize(("operation", "kind"), [("create", OutcomeUnknown), ("retrieve", ProviderUnavailable)])
def test_no_answer_in_time(rig, operation, kind):
    made = rig.create()
    rig.provider = rig.another(read_s=0.2)
    rig.fault("hang_after", operation, seconds=5)
    error, problem = fails(lambda: CALLS[operation](rig, made))
    assert type(error) is kind
    assert "ReadTimeout" in problem.why


def test_nobody_there_means_that_nothing_was_done(rig):
    rig.environ["FIREWORKS_BASE_URL"] = "http://127.0.0.1:9"
    error, problem = fails(lambda: rig.another().create(rig.recipe(), RemoteData(ids={"train": "x"}), KEY))
    assert (type(error), problem.code) == (ProviderUnavailable, "E403")


def test_after_a_rate_limit_nothing_is_sent_for_as_long_as_was_asked(rig):
    made = rig.create()
    rig.fault("rate_limit", "retrieve", seconds=60)
    assert fails(lambda: rig.provider.poll(made, None))[0].after_s == 60
    before = len(rig.sandbox.sent)
    error, problem = fails(lambda: rig.provider.poll(made, None))
    assert (type(error), problem.code) == (ProviderUnavailable, "E410")
    assert 0 < error.after_s <= 60
    assert len(rig.sandbox.sent) == before


def test_a_redirect_is_not_followed(rig):
    data = rig.provider.upload(rig.data)
    rig.answers("create", Reply(status=307, headers={"Location": f"{rig.server.url}/elsewhere"}))
    assert type(fails(lambda: rig.provider.create(rig.recipe(), data, KEY))[0]) is OutcomeUnknown
    assert rig.server.requests == len(rig.sandbox.sent) + 1


@pytest.mark.parametrize(
    ("status", "body", "kind", "code"),
    [
        (400, {"code": 3, "message": "loraRank: too large"}, ProviderError, "E407"),
        (400, {"error": {"code": 3, "message": "loraRank: too large"}}, ProviderError, "E407"),
        (401, {"code": 16, "message": "no"}, AuthenticationFailed, "E405"),
        (402, {"code": 9, "message": "pay"}, ProviderError, "E408"),
        (403, {"code": 7, "message": "no"}, AuthenticationFailed, "E405"),
        (404, {"code": 5, "message": "no account"}, ProviderError, "E407"),
        (408, b"", OutcomeUnknown, "E403"),
        (410, {"error": "gone"}, ProviderError, "E406"),
        (429, {"code": 8, "message": "slow down"}, ProviderUnavailable, "E410"),
        (429, {"code": 8, "message": "quota of the account"}, ProviderError, "E408"),
        (504, {"code": 4, "message": "deadline"}, OutcomeUnknown, "E403"),
    ],
)
def test_what_refusals_of_a_create_mean(rig, status, body, kind, code):
    data = rig.provider.upload(rig.data)
    rig.answers("create", Reply(status=status, body=body))
    error, problem = fails(lambda: rig.provider.create(rig.recipe(), data, KEY))
    assert (type(error), problem.code) == (kind, code)
    if status == 400:
        assert problem.why == "Fireworks says: loraRank: too large"


# Credentials.


@pytest.mark.parametrize("key", ["sandbox-no-access", "wrong-key-of-somebody"])
def test_keys_that_are_not_taken(rigs, key):
    rig = rigs(environ={"FIREWORKS_API_KEY": key})
    for call in (
        rig.provider.reach,
        rig.create,
        rig.provider.files,
        lambda: rig.provider.find(KEY),
        lambda: rig.provider.poll(NAME, None),
        lambda: rig.provider.cancel(NAME),
    ):
        error, problem = fails(call)
        assert (type(error), problem.code) == (AuthenticationFailed, "E405")
        assert key not in str(error)


SET = {"FIREWORKS_API_KEY": "k", "FIREWORKS_ACCOUNT_ID": "me"}


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"FIREWORKS_API_KEY": " "}, "FIREWORKS_API_KEY is not set"),
        ({"FIREWORKS_API_KEY": "kéy"}, "no header can carry"),
        ({"FIREWORKS_API_KEY": "a\nb"}, "no header can carry"),
        ({"FIREWORKS_ACCOUNT_ID": ""}, "FIREWORKS_ACCOUNT_ID is not set"),
        ({"FIREWORKS_ACCOUNT_ID": "../me"}, "FIREWORKS_ACCOUNT_ID is no account id"),
        ({"FIREWORKS_BASE_URL": "api.fireworks.ai"}, "FIREWORKS_BASE_URL is no address"),
    ],
)
def test_what_is_missing_is_named_before_anything_is_sent(tmp_path, environ, words):
    provider = build(hosted.kit(tmp_path, {**SET, **environ}))
    (problem,) = provider.unconfigured()
    assert problem.code == "E412"
    assert words in problem.what
    for call in (provider.reach, provider.files, lambda: provider.find(KEY), lambda: provider.poll(NAME, None)):
        error, again = fails(call)
        assert (type(error), again) == (AuthenticationFailed, problem)


def test_all_that_is_missing_at_once(tmp_path):
    assert len(build(hosted.kit(tmp_path, {})).unconfigured()) == 2


@pytest.mark.parametrize("end", ["", "/", "/v1", "/inference/v1/"])
def test_an_address_and_an_account_may_be_written_in_full(rigs, end):
    rig = rigs()
    rig.environ |= {"FIREWORKS_BASE_URL": f" {rig.server.url}{end} ", "FIREWORKS_ACCOUNT_ID": "accounts/sandbox"}
    assert rig.another().files() == []


def test_an_account_that_is_not_there(rig):
    rig.answers("account", Reply(status=404, body={"code": 5, "message": "no", "details": []}))
    error, problem = fails(rig.provider.reach)
    assert (type(error), problem.code) == (AuthenticationFailed, "E412")


def test_an_account_that_is_suspended(rig):
    told = {"name": "accounts/sandbox", "email": "x@example.com", "suspendState": "CREDIT_DEPLETED"}
    rig.answers("account", Reply(body=told))
    error, problem = fails(rig.provider.reach)
    assert (type(error), problem.code) == (ProviderError, "E408")
    assert "CREDIT_DEPLETED" in problem.why


def test_secrets_are_never_shown(rigs):
    key, wandb = "sandbox-of-somebody-1234567890", "w0" * 20
    rig = rigs(environ={"FIREWORKS_API_KEY": key, "WANDB_API_KEY": wandb})
    reply = Reply(status=400, body={"code": 3, "message": f"You sent Bearer {key} and {wandb}"})
    for operation in ("create", "retrieve", "cancel", "create_dataset"):
        rig.answers(operation, reply)
    recipe = rig.recipe(provider_options={"wandb_project": "p"})
    shown = []
    for call in (
        lambda: rig.provider.create(recipe, RemoteData(ids={"train": "x"}), KEY),
        lambda: rig.provider.poll(NAME, None),
        lambda: rig.provider.find(KEY),
        lambda: rig.provider.cancel(NAME),
        lambda: rig.provider.upload(rig.data),
    ):
        error, _ = fails(call)
        assert "***" in str(error)
        shown += [str(error), repr(error), repr(error.__cause__), repr(rig.provider)]
    text = "".join(shown) + repr(vars(rig.provider._wire))
    assert key not in text
    assert wandb not in text


def test_a_password_in_the_address_is_not_shown(rig):
    rig.environ["FIREWORKS_BASE_URL"] = rig.server.url.replace("http://", "http://me:SECRET@")
    error, _ = fails(rig.another().reach)
    assert type(error) is AuthenticationFailed
    assert "SECRET" not in f"{error}{error!r}"


def test_wandb_needs_its_key(rig):
    recipe = rig.recipe(provider_options={"wandb_project": "p"})
    error, problem = fails(lambda: rig.provider.create(recipe, RemoteData(ids={"train": "x"}), KEY))
    assert (type(error), problem.code) == (AuthenticationFailed, "E412")
    assert rig.sandbox.sent == []


def test_the_environment_of_the_process_is_not_read(rig, monkeypatch):
    monkeypatch.setenv("FIREWORKS_API_KEY", "of-the-process")
    rig.provider.files()
    assert rig.sandbox.sent[-1][1].headers["authorization"] == "Bearer sandbox-key"
    assert build(hosted.kit(rig.folder, {})).unconfigured()


def test_nothing_is_loaded_before_it_is_needed():
    code = (
        "import sys; from pathlib import Path; from finetune.providers.fireworks import build; "
        "from tests.support import hosted; p = build(hosted.kit(Path('.'), {'FIREWORKS_API_KEY': 'k'})); "
        "p.unconfigured(); p.check(hosted.recipe('fireworks', 'm')); "
        "print(sorted({n.partition('.')[0] for n in sys.modules} & {'fireworks', 'httpx', 'openai', 'torch'}))"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert told.stdout.strip() == "[]"


# What is checked before.


def test_it_is_what_it_says(rig):
    for ability in (
        *(abilities.Keyed, abilities.Storing, abilities.Reporting, abilities.Yielding, abilities.Deployable),
    ):
        assert isinstance(rig.provider, ability)
    for ability in (abilities.Pausable, abilities.Startable, abilities.Notifying, abilities.Answering):
        assert not isinstance(rig.provider, ability)
    assert rig.provider.reach() == f"Fireworks at {rig.server.url.removeprefix('http://')}, account sandbox"


@pytest.mark.parametrize(
    ("more", "place", "words"),
    [
        ({"base_model": "Qwen/Qwen3-8B"}, "base_model", "accounts/fireworks/models/qwen3-8b"),
        ({"base_model": "accounts/x/deployments/y"}, "base_model", "accounts/fireworks/models/qwen3-8b"),
        ({"lora": {"r": 2}}, "lora.r", "4 to 64"),
        ({"lora": {"r": 128}}, "lora.r", "4 to 64"),
        (
            {"provider_options": {"learning_rate_warmup_steps": -1}},
            "provider_options.learning_rate_warmup_steps",
            "0 at least",
        ),
        (
            {"provider_options": {"learning_rate_warmup_steps": 1.5}},
            "provider_options.learning_rate_warmup_steps",
            "a whole number",
        ),
        ({"provider_options": {"beta": 0.1}}, "provider_options.beta", "belongs to dpo"),
        ({"method": "dpo", "provider_options": {"beta": 0.5}}, "provider_options.beta", "between 0 and 0.5"),
        ({"method": "dpo", "provider_options": {"beta": "a"}}, "provider_options.beta", "a number"),
        ({"provider_options": {"wandb_project": " "}}, "provider_options.wandb_project", "not empty"),
        ({"provider_options": {"wandb_entity": "e"}}, "provider_options.wandb_entity", "no wandb_project"),
        ({"provider_options": {"early_stop": True}}, "provider_options.early_stop", "refuses it"),
        ({"provider_options": {"nodes": 3}}, "provider_options.nodes", "ft hands over"),
    ],
)
def test_what_the_api_does_not_take(rig, more, place, words):
    recipe = hosted.recipe(
        "fireworks",
        more.get("base_model", MODEL),
        **{name: value for name, value in more.items() if name != "base_model"},
    )
    (problem,) = rig.provider.check(recipe)
    assert (problem.code, problem.field) == ("E414", place)
    assert words in problem.why
    assert rig.sandbox.sent == []


def test_a_base_that_will_be_asked_is_written_whole(rig):
    def told(name, **more):
        recipe = rig.recipe(**more).model_copy(update={"base_model": name})
        return [(problem.field, problem.fix) for problem in rig.provider.check(recipe)]

    served = {"register": {"gateways": ["litellm"]}}
    assert told("qwen3-8b", **served) == [("base_model", f"write {MODEL}")]
    assert told(MODEL, **served) == told("qwen3-8b") == told("qwen3-8b", register={"alias": "production"}) == []


def test_a_secret_in_the_wrong_place_is_not_shown(rig):
    found = rig.provider.check(rig.recipe(provider_options={"wandb_api_key": "very-secret", "x": "very-secret"}))
    assert len(found) == 2
    assert "very-secret" not in str(found)
    assert "WANDB_API_KEY" in found[0].why


def test_a_region_is_not_taken_for_granted(rig):
    asked = {"limits": {"data": {"region": "eu"}}}
    assert [problem.field for problem in rig.provider.check(rig.recipe(**asked))] == ["limits.data"]
    assert rig.provider.check(rig.recipe(**asked, allow_ignored=["limits.data"])) == []
