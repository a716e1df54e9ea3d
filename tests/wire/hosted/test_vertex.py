"""Vertex AI's adapter against the stand-in: what it sends, what it makes of answers, and of no answer."""

import base64
import hashlib
import json
import stat
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from finetune.abilities import Keyed, Storing
from finetune.errors import AuthenticationFailed, OutcomeUnknown, ProviderError, ProviderUnavailable
from finetune.ports import Provider, RemoteData
from finetune.providers import vertex_look
from finetune.providers.vertex import VertexProvider, build
from finetune.providers.vertex_recipe import is_open
from finetune.sandbox.faults import Fault
from finetune.sandbox.service import Reply, Route
from finetune.sandbox.vertex.jobs import Timing
from finetune.sandbox.vertex.words import google_error, reason
from tests.support import hosted_vertex
from tests.support.hosted import data, kit, recipe, served
from tests.support.hosted_vertex import CHUNK, JOBS, MODEL, OPEN_MODEL, PREFERRED, InOctober, Watched
from tests.wire.hosted.vertex_contract import CREATE, faults

FOLDER = "gs://sandbox-bucket/ft/" + "d" * 32
KEY = "ft_abcdefghij-a1"
#: Long enough for a busy machine, short enough to wait for.
IMPATIENT_S = 0.8


@pytest.fixture
def clock():
    """Of the stand-in; None: its own."""


@pytest.fixture
def rig(tmp_path, clock):
    rig = hosted_vertex.rig(tmp_path, clock=clock)
    yield rig
    rig.server.stop()
    assert not rig.server.broken
    assert all(faults(body, CREATE) == [] for body in rig.sandbox.bodies("create"))


def made(rig, base_model=MODEL, ids=None, **more):
    """Create a job of this recipe and answer with what was sent."""
    rig.recipe = recipe("vertex", base_model, **more)
    rig.provider.create(rig.recipe, RemoteData(ids=ids) if ids else rig.provider.upload(rig.data), KEY)
    return rig.sandbox.bodies("create")[-1]


def problem(of):
    with pytest.raises(ProviderError) as caught:
        of()
    return caught.value.problems[0]


def checked(provider="vertex", base_model=MODEL, **more):
    return build(kit_of()).check(recipe(provider, base_model, **more))


def kit_of(**environ):
    from pathlib import Path

    return kit(Path("unused"), {"GOOGLE_CLOUD_LOCATION": "europe-west4", **environ})


# What is sent.


def test_it_is_what_it_says(rig):
    assert isinstance(rig.provider, Keyed)
    assert isinstance(rig.provider, Storing)
    provider: Provider = rig.provider
    assert (provider.name, provider.grace_s, provider.max_poll_s) == ("vertex", 30.0, 60.0)


def test_a_small_recipe_leaves_all_but_the_epochs_to_google(rig):
    assert made(rig) == {
        "baseModel": MODEL,
        "supervisedTuningSpec": {
            "trainingDatasetUri": f"{FOLDER}/train.jsonl",
            "hyperParameters": {"epochCount": 3},
        },
        "tunedModelDisplayName": "bot",
        "labels": {"ft-run-key": KEY, "managed-by": "ft"},
    }


def test_a_whole_recipe(rig, tmp_path):
    rig.data = data(tmp_path, "gemini", held_out=3)
    options = {
        "export_last_checkpoint_only": True,
        "labels": {"team": "a"},
        "description": "for tests",
        "tuned_model_display_name": "Bot of ours",
        "kms_key_name": "projects/p/locations/us-central1/keyRings/r/cryptoKeys/k",
    }
    training = {"epochs": 4, "learning_rate_multiplier": 0.5}
    assert made(rig, training=training, lora={"r": 8}, provider_options=options) == {
        "baseModel": MODEL,
        "supervisedTuningSpec": {
            "trainingDatasetUri": f"{FOLDER}/train.jsonl",
            "validationDatasetUri": f"{FOLDER}/validation.jsonl",
            "hyperParameters": {
                "epochCount": 4,
                "learningRateMultiplier": 0.5,
                "adapterSize": "ADAPTER_SIZE_EIGHT",
            },
            "exportLastCheckpointOnly": True,
        },
        "tunedModelDisplayName": "Bot of ours",
        "description": "for tests",
        "labels": {"ft-run-key": KEY, "managed-by": "ft", "team": "a"},
        "encryptionSpec": {"kms_key_name": "projects/p/locations/us-central1/keyRings/r/cryptoKeys/k"},
    }


@pytest.mark.parametrize("clock", [InOctober()], ids=["2026-10-01"])
def test_preferences(rig, tmp_path):
    rig.data = data(tmp_path, "gemini-preference", held_out=2)
    assert made(rig, PREFERRED, method="dpo", training={"epochs": 1}, provider_options={"beta": 0.2}) == {
        "baseModel": PREFERRED,
        "preferenceOptimizationSpec": {
            "trainingDatasetUri": f"{FOLDER}/train.jsonl",
            "validationDatasetUri": f"{FOLDER}/validation.jsonl",
            "hyperParameters": {"epochCount": 1, "beta": 0.2},
        },
        "tunedModelDisplayName": "bot",
        "labels": {"ft-run-key": KEY, "managed-by": "ft"},
    }


def test_an_open_model(rig, tmp_path):
    rig.data = data(tmp_path, "openai")
    training = {"learning_rate": 1e-4, "batch_size": 8}
    options = {"tuning_mode": "TUNING_MODE_PEFT_ADAPTER"}
    assert made(rig, OPEN_MODEL, training=training, provider_options=options) == {
        "baseModel": OPEN_MODEL,
        "supervisedTuningSpec": {
            "trainingDatasetUri": f"{FOLDER}/train.jsonl",
            "hyperParameters": {"epochCount": 3, "learningRate": 1e-4, "batchSize": 8},
            "tuningMode": "TUNING_MODE_PEFT_ADAPTER",
        },
        "outputUri": f"gs://sandbox-bucket/ft-output/{KEY}",
        "tunedModelDisplayName": "bot",
        "labels": {"ft-run-key": KEY, "managed-by": "ft"},
    }


def test_rows_that_the_model_cannot_read_are_not_sent(rig, tmp_path):
    for base_model, layout in ((OPEN_MODEL, "gemini"), (MODEL, "openai")):
        ids = {"train": f"{FOLDER}/train.jsonl", "validation": None, "format": layout}
        assert problem(lambda of=base_model, ids=ids: made(rig, of, ids)).code == "E414"
    assert rig.sandbox.operations() == []


def test_every_request_of_a_job(rig):
    job = rig.create(KEY)
    rig.provider.poll(job.remote_id, None)
    rig.provider.find(KEY)
    rig.provider.cancel(job.remote_id)
    assert [(name, request.method, request.path) for name, request, _ in rig.sandbox.seen] == [
        ("file", "GET", "/storage/v1/b/sandbox-bucket/o/ft%2F" + "d" * 32 + "%2Ftrain.jsonl"),
        ("upload", "POST", "/upload/storage/v1/b/sandbox-bucket/o"),
        ("create", "POST", JOBS),
        ("retrieve", "GET", f"/v1beta1/{job.remote_id}"),
        ("list", "GET", JOBS),
        ("cancel", "POST", f"/v1beta1/{job.remote_id}:cancel"),
    ]
    seen = {name: request for name, request, _ in rig.sandbox.seen}
    assert {request.headers["authorization"] for request in seen.values()} == {"Bearer sandbox-key"}
    assert seen["upload"].query["ifGenerationMatch"] == ["0"]
    assert seen["list"].query == {"pageSize": ["100"]}
    assert seen["create"].headers["content-type"] == "application/json"


def test_nothing_of_the_environment_of_the_process_decides(rig, monkeypatch):
    for name in ("GOOGLE_API_KEY", "GEMINI_API_KEY"):
        monkeypatch.setenv(name, "another-secret")
    monkeypatch.setenv("GOOGLE_GENAI_API_VERSION", "v7")
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "other")
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://127.0.0.1:9")
    rig.create()
    request = dict((name, request) for name, request, _ in rig.sandbox.seen)["create"]
    assert "another-secret" not in str(request.headers)
    assert request.path == JOBS


def test_building_one_loads_no_package():
    code = (
        "import sys; from pathlib import Path; from tests.support.hosted import kit, recipe;"
        "from finetune.providers.vertex import VertexProvider, build; provider = build(kit(Path('x'), {}));"
        f"provider.check(recipe('vertex', '{MODEL}')); provider.unconfigured();"
        "print([name for name in ('google.genai', 'google.cloud.storage', 'google.auth', 'requests', 'httpx2')"
        " if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "[]\n", done.stderr


# What it cannot do.


def test_a_recipe_in_order_has_no_problems():
    assert checked() == []
    assert checked(base_model=OPEN_MODEL, training={"learning_rate": 1e-4, "batch_size": 4}) == []
    assert checked(method="dpo", provider_options={"beta": 0.1}, lora={"r": 16}) == []
    assert checked(lora={"r": 32}, training={"learning_rate_multiplier": 2.0}) == []


@pytest.mark.parametrize(
    ("field", "more"),
    [
        ("training.learning_rate", {"training": {"learning_rate": 1e-4}}),
        ("training.batch_size", {"training": {"batch_size": 4}}),
        (
            "training.learning_rate_multiplier",
            dict(base_model=OPEN_MODEL, training={"learning_rate_multiplier": 2.0}),
        ),
        ("lora.r", {"lora": {"r": 12}}),
        ("lora.r", {"lora": {"r": 64}}),
        ("lora.r", {"lora": {"r": 32}, "method": "dpo"}),
        ("provider_options.suffix", {"provider_options": {"suffix": "x"}}),
        ("provider_options.beta", {"provider_options": {"beta": 0.1}}),
        ("provider_options.beta", {"provider_options": {"beta": 0}, "method": "dpo"}),
        ("provider_options.beta", {"provider_options": {"beta": True}, "method": "dpo"}),
        ("provider_options.beta", {"provider_options": {"beta": "much"}, "method": "dpo"}),
        ("provider_options.export_last_checkpoint_only", {"provider_options": {"export_last_checkpoint_only": "yes"}}),
        ("provider_options.tuned_model_display_name", {"provider_options": {"tuned_model_display_name": "x" * 129}}),
        ("provider_options.description", {"provider_options": {"description": 5}}),
        ("provider_options.labels", {"provider_options": {"labels": {"Team": "a"}}}),
        ("provider_options.labels", {"provider_options": {"labels": {"team": 5}}}),
        ("provider_options.labels", {"provider_options": {"labels": {"ft-run-key": "a"}}}),
        ("provider_options.labels", {"provider_options": {"labels": {"managed-by": "a"}}}),
        ("provider_options.labels", {"provider_options": {"labels": {f"l{each}": "a" for each in range(63)}}}),
        ("provider_options.kms_key_name", {"provider_options": {"kms_key_name": "mine"}}),
        ("provider_options.tuning_mode", {"provider_options": {"tuning_mode": "TUNING_MODE_FULL"}}),
        ("provider_options.tuning_mode", {"base_model": OPEN_MODEL, "provider_options": {"tuning_mode": "full"}}),
        ("provider_options.output_uri", {"provider_options": {"output_uri": "gs://b/x"}}),
        ("provider_options.output_uri", {"base_model": OPEN_MODEL, "provider_options": {"output_uri": "/tmp/x"}}),
        ("limits.data", {"limits": {"data": {"region": "us"}}}),
    ],
)
def test_a_value_that_is_not_taken(field, more):
    (found,) = checked(**more)
    assert (found.code, found.field) == ("E414", field)
    assert found.why
    assert found.fix


def test_what_may_be_ignored_or_repeats_its_default_is_no_problem(rig):
    more = {"training": {"learning_rate": 1e-4, "batch_size": 4}}
    allowed = ["training.learning_rate", "training.batch_size"]
    assert checked(**more, allow_ignored=allowed) == []
    assert checked(training={"batch_size": 8}) == []
    spec = made(rig, **more, allow_ignored=allowed)["supervisedTuningSpec"]
    assert spec["hyperParameters"] == {"epochCount": 3}


@pytest.mark.parametrize(
    ("location", "region", "fits"),
    [
        ("europe-west4", "eu", True),
        ("europe-west2", "eu", False),
        ("europe-west6", "eu", False),
        ("europe-west2", "europe", True),
        ("eu", "eu", True),
        ("us-central1", "us", True),
        ("europe-west4", "EU", True),
        ("us-central1", "eu", False),
        ("us-central1", "us-central1", True),
        ("us-central1", "us-central2", False),
        ("global", "us", False),
        ("australia-southeast1", "au", False),
    ],
)
def test_the_region(location, region, fits):
    provider = build(kit_of(GOOGLE_CLOUD_LOCATION=location))
    found = provider.check(recipe("vertex", MODEL, limits={"data": {"region": region}}))
    assert [each.field for each in found] == ([] if fits else ["limits.data"])


def test_without_a_location_nobody_knows_where_the_data_goes():
    provider = build(kit_of(GOOGLE_CLOUD_LOCATION=""))
    (found,) = provider.check(recipe("vertex", MODEL, limits={"data": {"region": "us"}}))
    assert (found.code, found.field, found.value) == ("E414", "limits.data", "region: us")
    assert "shall run jobs is not set" in found.what
    assert "export GOOGLE_CLOUD_LOCATION=" in found.fix
    assert provider.check(recipe("vertex", MODEL)) == [], "who keeps the data nowhere need not say"


@pytest.mark.parametrize(
    ("name", "open_model"),
    [
        (MODEL, False),
        (f"publishers/google/models/{MODEL}", False),
        ("projects/1/locations/us-central1/models/5@1", False),
        (OPEN_MODEL, True),
        ("google/gemma-3-27b-it", True),
    ],
)
def test_which_models_are_open(name, open_model):
    assert is_open(name) is open_model


# The credential.


def test_what_is_missing_is_named():
    found = build(kit_of(GOOGLE_CLOUD_LOCATION="")).unconfigured()
    assert [each.code for each in found] == ["E412"] * 3
    told = " ".join(each.what for each in found)
    assert all(name in told for name in ("GOOGLE_CLOUD_PROJECT", "GOOGLE_CLOUD_LOCATION", "FT_VERTEX_BUCKET"))


def test_a_package_that_is_not_installed_is_named(rig, monkeypatch):
    monkeypatch.setitem(sys.modules, "google.genai", None)
    (found,) = rig.provider.unconfigured()
    assert found.code == "E412"
    assert "google-genai" in found.what
    assert "ft-orchestrator[vertex]" in found.fix


def test_nothing_is_sent_while_something_is_missing(tmp_path):
    provider = build(kit_of())
    ask = (
        lambda: provider.find(KEY),
        lambda: provider.upload(data(tmp_path, "gemini")),
        lambda: provider.poll("x", None),
        lambda: provider.cancel("x"),
        provider.reach,
        provider.files,
    )
    for each in ask:
        with pytest.raises(AuthenticationFailed):
            each()


@pytest.mark.parametrize("key", ["hunter2-hunter2", "sandbox-no-access"])
def test_a_bad_key_is_told_everywhere_and_never_shown(rig, tmp_path, key):
    job, environ = rig.create(), {**rig.server.environment, "CLOUDSDK_AUTH_ACCESS_TOKEN": key}
    provider = hosted_vertex.provider(tmp_path, environ)
    for ask in (
        lambda: provider.find(KEY),
        lambda: provider.upload(rig.data),
        lambda: provider.create(rig.recipe, RemoteData(ids={"train": "gs://a/b", "format": "gemini"}), KEY),
        lambda: provider.poll(job.remote_id, None),
        lambda: provider.cancel(job.remote_id),
        provider.files,
        provider.reach,
        lambda: provider.delete_file(f"{FOLDER}/train.jsonl"),
    ):
        with pytest.raises(AuthenticationFailed) as caught:
            ask()
        assert caught.value.problems[0].code == "E405"
        assert key not in str(caught.value)
        assert caught.value.__suppress_context__
    assert key not in repr(provider)


def test_a_key_in_the_services_own_words_is_not_shown(rig, tmp_path):
    class Telling(Watched):
        def authenticate(self, request):
            return google_error(400, f"what is {request.headers['authorization'].removeprefix('Bearer ')} to me")

    server = served(Telling())
    provider = hosted_vertex.provider(tmp_path, server.environment)
    told = problem(lambda: provider.find(KEY))
    server.stop()
    assert (told.code, "sandbox-key" in str(told), "***" in told.why) == ("E407", False, True)


class WithLogin(Watched):
    """The stand-in with the place where a service account gets its tokens."""

    answer = Reply(body={"access_token": "sandbox-of-an-account", "expires_in": 3600, "token_type": "Bearer"})

    def routes(self):
        return [*super().routes(), Route(method="POST", path="/token", operation="token", answer=lambda _: self.answer)]

    def authenticate(self, request):
        return None if request.path == "/token" else super().authenticate(request)


@pytest.fixture
def account(tmp_path, monkeypatch):
    """An installation whose login is a service account."""
    server = served(WithLogin())
    place = tmp_path / "account.json"
    key = rsa.generate_private_key(65537, 2048)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    told = {"client_email": "ft@sandbox-project.iam.gserviceaccount.com", "private_key": pem, "project_id": "p"}
    place.write_text(json.dumps({"type": "service_account", **told, "token_uri": f"{server.url}/token"}))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(place))
    environ = {name: value for name, value in server.environment.items() if name != "CLOUDSDK_AUTH_ACCESS_TOKEN"}
    yield server, hosted_vertex.provider(tmp_path, environ), place
    server.stop()


def test_without_a_token_googles_own_login_is_used(account, tmp_path):
    server, provider, _ = account
    ids = provider.upload(data(tmp_path, "gemini"))
    provider.create(recipe("vertex", MODEL), ids, KEY)
    assert len(provider.find(KEY)) == 1
    sent = {request.headers["authorization"] for _, request, _ in server.sandbox.seen}
    assert sent == {"Bearer sandbox-of-an-account"}


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, {"error": "invalid_grant", "error_description": "the account is gone"}, AuthenticationFailed),
        (503, {"error": "unavailable"}, ProviderUnavailable),
    ],
)
def test_a_login_that_gives_no_token(account, tmp_path, monkeypatch, status, body, kind):
    server, provider, _ = account
    monkeypatch.setattr("google.auth._exponential_backoff.time.sleep", lambda seconds: None)
    server.sandbox.answer = Reply(status=status, body=body)
    ids = RemoteData(ids={"train": "gs://a/b", "format": "gemini"})
    for ask in (
        lambda: provider.find(KEY),
        lambda: provider.upload(data(tmp_path, "gemini")),
        lambda: provider.create(recipe("vertex", MODEL), ids, KEY),
    ):
        with pytest.raises(kind) as caught:
            ask()
        # Without a token nothing was sent to the service.
        assert not isinstance(caught.value, OutcomeUnknown)


def test_a_login_that_cannot_be_reached(account, monkeypatch):
    _, provider, place = account
    monkeypatch.setattr("google.auth._exponential_backoff.time.sleep", lambda seconds: None)
    place.write_text(json.dumps({**json.loads(place.read_text()), "token_uri": "http://127.0.0.1:9/token"}))
    with pytest.raises(ProviderUnavailable) as caught:
        provider.find(KEY)
    assert caught.value.problems[0].code == "E403"


def test_a_login_that_is_not_there(account):
    _, provider, place = account
    place.unlink()
    told = problem(lambda: provider.find(KEY))
    assert told.code == "E405"
    assert "gcloud auth application-default login" in told.fix


def test_reach_tells_what_answers(rig):
    assert rig.provider.reach() == f"{rig.server.url} (sandbox-project, us-central1, gs://sandbox-bucket)"
    assert rig.sandbox.operations() == ["list", "files"]


def test_a_bucket_that_is_not_there(rig, tmp_path):
    provider = hosted_vertex.provider(tmp_path, {**rig.server.environment, "FT_VERTEX_BUCKET": "gs://elsewhere/"})
    for ask in (provider.reach, lambda: provider.upload(rig.data)):
        told = problem(ask)
        assert told.code == "E402"
        assert "elsewhere" in told.what
        assert "buckets create gs://elsewhere" in told.fix


# Files.


def test_what_is_there_is_not_sent_again(rig, tmp_path):
    rig.data = data(tmp_path, "gemini", held_out=2)
    first = rig.provider.upload(rig.data)
    assert first.ids == {
        "train": f"{FOLDER}/train.jsonl",
        "validation": f"{FOLDER}/validation.jsonl",
        "format": "gemini",
    }
    assert rig.provider.upload(rig.data) == first
    assert rig.sandbox.operations() == ["file", "upload", "file", "upload", "file", "file"]
    assert rig.provider.file_ids(first.ids) == [f"{FOLDER}/train.jsonl", f"{FOLDER}/validation.jsonl"]
    stored = rig.sandbox.storage.get("sandbox-bucket", f"ft/{'d' * 32}/train.jsonl")
    assert (stored.data, stored.content_type) == (rig.data.train.read_bytes(), "application/jsonl")


def test_who_comes_second_finds_it_there(tmp_path):
    place, content = ("sandbox-bucket", f"ft/{'d' * 32}/train.jsonl"), data(tmp_path, "gemini")

    class Contended(Watched):
        """Between a look and a write somebody else writes the same."""

        def authenticate(self, request):
            if request.path.startswith("/upload/"):
                self.storage.put(*place, content.train.read_bytes())
            return super().authenticate(request)

    server = served(Contended())
    for part_bytes in (CHUNK, 64):
        provider = VertexProvider(kit(tmp_path, server.environment), part_bytes=part_bytes)
        assert provider.upload(content).ids["train"] == f"{FOLDER}/train.jsonl"
        provider.delete_file(f"{FOLDER}/train.jsonl")
    server.stop()
    assert [reply.status for name, _, reply in server.sandbox.seen if name == "upload"] == [412, 412]


def test_another_content_under_the_name_is_replaced(rig):
    place = ("sandbox-bucket", f"ft/{'d' * 32}/train.jsonl")
    for before in (b"short", rig.data.train.read_bytes()[::-1]):
        rig.sandbox.storage.put(*place, before)
        rig.provider.upload(rig.data)
        assert rig.sandbox.storage.get(*place).data == rig.data.train.read_bytes()


def large(rig, chunks=2.5):
    """Data of so many chunks."""
    rows = rig.data.train.read_bytes()
    rig.data.train.write_bytes(rows * int(CHUNK * chunks / len(rows)))
    return rig.data.train.read_bytes()


def state_files(tmp_path):
    return list((tmp_path / "uploads" / "vertex").glob("*.json"))


def test_large_files_go_in_chunks(rig, tmp_path):
    content = large(rig)
    rig.provider.upload(rig.data)
    spans = [request.headers["content-range"] for name, request, _ in rig.sandbox.seen if name == "upload_part"]
    size = len(content)
    assert spans == [
        f"bytes 0-{CHUNK - 1}/{size}",
        f"bytes {CHUNK}-{2 * CHUNK - 1}/{size}",
        f"bytes {2 * CHUNK}-{size - 1}/{size}",
    ]
    assert rig.sandbox.storage.get("sandbox-bucket", f"ft/{'d' * 32}/train.jsonl").data == content
    (begun,) = rig.sandbox.bodies("upload")
    assert begun["md5Hash"] == base64.b64encode(hashlib.md5(content).digest()).decode()
    assert state_files(tmp_path) == []
    assert rig.provider.upload(rig.data).ids["train"] == f"{FOLDER}/train.jsonl"
    assert rig.sandbox.operations().count("upload") == 1


@pytest.mark.parametrize("kind", ["cut_before", "cut_after", "server_error"])
def test_an_upload_that_broke_off_goes_on_where_it_was(rig, tmp_path, kind):
    content = large(rig)
    # The first chunk goes well, the second does not.
    real, count = rig.sandbox.faults.meet, iter(range(100))

    def second_only(operation, among):
        if operation == "upload_part" and kind in among and next(count) == 0:
            return None
        return real(operation, among)

    rig.sandbox.faults.meet = second_only
    rig.sandbox.faults.lay(Fault(kind=kind, on="upload_part"))
    with pytest.raises(ProviderUnavailable):
        rig.provider.upload(rig.data)
    (state_file,) = state_files(tmp_path)
    assert stat.S_IMODE(state_file.stat().st_mode) == 0o600
    # Another process, later.
    rig.provider = hosted_vertex.provider(tmp_path, rig.server.environment)
    rig.provider.upload(rig.data)
    spans = [request.headers["content-range"] for name, request, _ in rig.sandbox.seen if name == "upload_part"]
    assert rig.sandbox.storage.get("sandbox-bucket", f"ft/{'d' * 32}/train.jsonl").data == content
    assert rig.sandbox.operations().count("upload") == 1
    assert spans.count(f"bytes 0-{CHUNK - 1}/{len(content)}") == 1
    assert f"bytes */{len(content)}" in spans
    assert state_files(tmp_path) == []


def test_an_upload_that_is_gone_begins_anew(rig, tmp_path):
    content = large(rig)
    rig.sandbox.faults.lay(Fault(kind="server_error", on="upload_part"))
    with pytest.raises(ProviderUnavailable):
        rig.provider.upload(rig.data)
    rig.sandbox.clock.advance(8 * 86400)
    rig.provider.upload(rig.data)
    assert rig.sandbox.operations().count("upload") == 2
    assert rig.sandbox.storage.get("sandbox-bucket", f"ft/{'d' * 32}/train.jsonl").data == content


def test_a_state_of_an_upload_that_cannot_be_read_is_none(rig, tmp_path):
    large(rig)
    folder = tmp_path / "uploads" / "vertex"
    folder.mkdir(parents=True)
    (folder / f"ft-{'d' * 32}-train.jsonl.json").write_text("{")
    rig.provider.upload(rig.data)
    assert state_files(tmp_path) == []


def test_the_address_of_an_upload_is_not_shown(rig):
    large(rig)
    rig.sandbox.faults.lay(Fault(kind="cut_before", on="upload_part"))
    with pytest.raises(ProviderUnavailable) as caught:
        rig.provider.upload(rig.data)
    (upload_id,) = rig.sandbox.storage._sessions
    assert upload_id not in str(caught.value)


def test_our_files_newest_first_and_no_others(rig, tmp_path):
    rig.provider.upload(rig.data)
    rig.sandbox.clock.advance(5)
    newer = data(tmp_path, "gemini", digest="e" * 64)
    rig.provider.upload(newer)
    for name in ("ft/notes.txt", "other.jsonl", "ft-output/x/train.jsonl"):
        rig.sandbox.storage.put("sandbox-bucket", name, b"x")
    found = rig.provider.files()
    assert [file.file_id for file in found] == [f"gs://sandbox-bucket/ft/{each * 32}/train.jsonl" for each in "ed"]
    assert found[0].bytes == newer.train.stat().st_size
    assert found[0].uploaded_at > found[1].uploaded_at
    for _ in range(2):
        rig.provider.delete_file(found[0].file_id)
    assert [file.file_id for file in rig.provider.files()] == [found[1].file_id]


@pytest.mark.parametrize("name", ["gs://sandbox-bucket/other.jsonl", "gs://b/ft/x", "x", f"ft/{'d' * 32}/train.jsonl"])
def test_what_is_not_ours_is_not_deleted(rig, name):
    rig.sandbox.storage.put("sandbox-bucket", "other.jsonl", b"x")
    with pytest.raises(ProviderError):
        rig.provider.delete_file(name)
    assert rig.sandbox.operations() == []


def test_a_file_in_a_bucket_of_before_is_deleted_there(rig, tmp_path):
    ids = rig.provider.upload(rig.data).ids
    now = hosted_vertex.provider(tmp_path, {**rig.server.environment, "FT_VERTEX_BUCKET": "newer-bucket"})
    for file_id in now.file_ids(ids):
        now.delete_file(file_id)
    assert rig.provider.files() == []


# Find and create.


def test_find_looks_through_all_pages_and_matches_exactly(rig):
    rig.sandbox.timing = Timing().scaled(100)
    rig.create("ft_x-a1")
    rig.sandbox.clock.advance(1)
    for number in range(120):
        rig.create(f"ft_x-a1{number}")
    rig.sandbox.clock.advance(1)
    rig.create("ft_x-a1")
    found = rig.provider.find("ft_x-a1")
    first, second = found
    assert first.created_at < second.created_at
    assert not found[0].ended
    assert rig.sandbox.operations().count("list") == 2
    rig.sandbox.clock.advance(1000)
    assert all(each.ended for each in rig.provider.find("ft_x-a1"))


def test_find_passes_by_jobs_of_others_that_nobody_of_us_has_seen_before(rig):
    rig.create()
    rig.sandbox._jobs[0].said["labels"] = {}
    rig.sandbox._jobs[0].said["newThing"] = {"a": [{"b": 1}]}
    rig.sandbox._jobs[0].said["supervisedTuningSpec"]["hyperParameters"] = {"adapterSize": "ADAPTER_SIZE_HUGE", "n": 1}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert rig.provider.find("ft_x-a1") == []


def test_find_may_miss_what_is_new(rig):
    rig.sandbox.faults.list_lag_s = 5
    rig.create(KEY)
    assert rig.provider.find(KEY) == []
    rig.sandbox.clock.advance(6)
    assert len(rig.provider.find(KEY)) == 1


UNKNOWN = {
    "server_error": 0,
    "unavailable": 0,
    "cut_before": 0,
    "cut_after": 1,
    "hang_before": 0,
    "hang_after": 1,
    "garbage": 1,
}


@pytest.mark.parametrize("kind", UNKNOWN)
def test_a_create_without_an_answer_is_unknown_and_never_sent_twice(rig, tmp_path, kind):
    rig.provider = hosted_vertex.provider(tmp_path, rig.server.environment, read_s=IMPATIENT_S)
    ids = rig.provider.upload(rig.data)
    rig.sandbox.faults.lay(Fault(kind=kind, on="create", times=None, seconds=5.0))
    with pytest.raises(OutcomeUnknown):
        rig.provider.create(rig.recipe, ids, KEY)
    assert len(rig.sandbox.faults.happened) == 1
    rig.sandbox.faults.clear()
    assert len(rig.provider.find(KEY)) == UNKNOWN[kind]


def test_a_slow_create_is_a_create(rig):
    rig.sandbox.faults.lay(Fault(kind="slow", on="create", seconds=0.2))
    assert rig.create(KEY).remote_id == rig.provider.find(KEY)[0].remote_id


def test_a_create_that_never_left_has_done_nothing(rig):
    ids = rig.provider.upload(rig.data)
    rig.server.stop()
    with pytest.raises(ProviderUnavailable) as caught:
        rig.provider.create(rig.recipe, ids, KEY)
    assert not isinstance(caught.value, OutcomeUnknown)


def test_too_many_requests_have_done_nothing_and_silence_is_kept(rig):
    ids = rig.provider.upload(rig.data)
    rig.sandbox.faults.lay(Fault(kind="rate_limit", on="create", seconds=30))
    with pytest.raises(ProviderUnavailable) as caught:
        rig.provider.create(rig.recipe, ids, KEY)
    assert (caught.value.problems[0].code, caught.value.after_s) == ("E410", 30.0)
    with pytest.raises(ProviderUnavailable):
        rig.provider.find(KEY)
    assert "list" not in rig.sandbox.operations()


def test_no_quota_is_for_good(rig):
    told = problem(lambda: made(rig, name="quota"))
    assert told.code == "E408"
    assert "concurrent tuning jobs" in told.why


def test_a_bill_that_is_not_paid_is_no_matter_of_the_key(tmp_path):
    class Broke(Watched):
        def authenticate(self, request):
            return google_error(403, "billing is off", details=reason("BILLING_DISABLED"))

    server = served(Broke())
    told = problem(lambda: hosted_vertex.provider(tmp_path, server.environment).find(KEY))
    server.stop()
    assert told.code == "E408"


def test_google_may_say_in_the_details_how_long_to_wait(tmp_path):
    class Busy(Watched):
        def authenticate(self, request):
            wait = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "7.5s"}
            return google_error(429, "slowly", details=[wait])

    server = served(Busy())
    with pytest.raises(ProviderUnavailable) as caught:
        hosted_vertex.provider(tmp_path, server.environment).find(KEY)
    server.stop()
    assert caught.value.after_s == 7.5


def test_a_refusal_has_googles_own_words(rig):
    told = problem(lambda: made(rig, "gemini-1.0-pro"))
    assert told.code == "E407"
    assert "INVALID_ARGUMENT" in told.why
    assert "gemini-1.0-pro" in told.why


READS = {
    "list": lambda rig, job: rig.provider.find("ft_x-a1"),
    "retrieve": lambda rig, job: rig.provider.poll(job.remote_id, None),
    "cancel": lambda rig, job: rig.provider.cancel(job.remote_id),
    "file": lambda rig, job: rig.provider.upload(rig.data),
    "files": lambda rig, job: rig.provider.files(),
    "delete_file": lambda rig, job: rig.provider.delete_file(f"{FOLDER}/train.jsonl"),
}


@pytest.mark.parametrize("operation", READS)
@pytest.mark.parametrize("kind", ["server_error", "unavailable", "cut_before", "cut_after", "hang_before", "garbage"])
def test_trouble_elsewhere_is_met_once_and_told_as_such(rig, tmp_path, operation, kind):
    job = rig.create()
    rig.provider = hosted_vertex.provider(tmp_path, rig.server.environment, read_s=IMPATIENT_S)
    rig.sandbox.faults.lay(Fault(kind=kind, on=operation, times=None, seconds=5.0))
    with pytest.raises(ProviderUnavailable) as caught:
        READS[operation](rig, job)
    assert not isinstance(caught.value, OutcomeUnknown)
    assert caught.value.problems[0].code == ("E411" if kind == "garbage" else "E403")
    assert len(rig.sandbox.faults.happened) == 1


@pytest.mark.parametrize("kind", ["server_error", "unavailable", "cut_before", "cut_after", "hang_after", "garbage"])
def test_trouble_of_an_upload_is_mended_by_the_next(rig, tmp_path, kind):
    rig.provider = hosted_vertex.provider(tmp_path, rig.server.environment, read_s=IMPATIENT_S)
    rig.sandbox.faults.lay(Fault(kind=kind, on="upload", seconds=0.3))
    with pytest.raises(ProviderUnavailable):
        rig.provider.upload(rig.data)
    assert rig.provider.upload(rig.data).ids["train"] == f"{FOLDER}/train.jsonl"


# Poll.


def watch(rig, job, seconds, times):
    """Poll, wait, poll ...: all events and metrics in their order, and every observation."""
    cursor, seen = None, []
    for _ in range(times):
        seen.append(rig.provider.poll(job.remote_id, cursor))
        cursor = seen[-1].cursor
        rig.sandbox.clock.advance(seconds)
    return seen


def test_every_phase_is_told_once(rig):
    rig.recipe = recipe("vertex", MODEL, training={"epochs": 4})
    job = rig.create()
    seen = watch(rig, job, 0.25, 40)
    told = [(event.kind, event.message) for each in seen for event in each.events]
    assert told == [
        ("provider", "Vertex AI has the job"),
        ("provider", "the job is JOB_STATE_PENDING"),
        ("provider", "Vertex AI has begun (JOB_STATE_RUNNING)"),
        ("provider", "it waits for quota (TUNING_JOB_STATE_WAITING_FOR_QUOTA)"),
        ("provider", "the dataset is being read (TUNING_JOB_STATE_PROCESSING_DATASET)"),
        ("provider", "it waits for machines (TUNING_JOB_STATE_WAITING_FOR_CAPACITY)"),
        ("provider", "the model is being tuned (TUNING_JOB_STATE_TUNING)"),
        ("provider", "the tuned model is being made ready (TUNING_JOB_STATE_POST_PROCESSING)"),
        ("provider", "the job is JOB_STATE_SUCCEEDED"),
    ]
    times = [event.at for each in seen for event in each.events]
    assert times == sorted(times)
    states = list(dict.fromkeys(each.state for each in seen))
    assert states == ["preparing", "running", "succeeded"]
    steps = [metric.step for each in seen for metric in each.metrics]
    assert steps == sorted(set(steps))
    assert seen[-1].progress == {"step": 12, "total_steps": 12}
    assert seen[0].progress is None
    assert "JOB_STATE_RUNNING, TUNING_JOB_STATE_TUNING" in {each.raw_state for each in seen}


def test_the_artifact(rig):
    rig.recipe = recipe("vertex", MODEL, training={"epochs": 2})
    job = rig.create()
    rig.work("")
    seen = rig.provider.poll(job.remote_id, None)
    model = seen.artifact["model"]
    assert model.startswith("projects/271828182845/locations/us-central1/models/")
    assert [each["step"] for each in seen.artifact["checkpoints"]] == [3, 6]
    assert seen.artifact["checkpoints"][-1]["endpoint"] == seen.artifact["endpoint"]


def test_an_open_models_artifact_names_its_weights_too(rig, tmp_path):
    rig.data = data(tmp_path, "openai")
    made(rig, OPEN_MODEL)
    rig.work("")
    (job,) = rig.provider.find(KEY)
    assert rig.provider.poll(job.remote_id, None).artifact["output_uri"] == f"gs://sandbox-bucket/ft-output/{KEY}"


def test_a_state_that_nobody_knows_keeps_the_last_and_warns_once(rig):
    job = rig.create()
    rig.sandbox.clock.advance(3)
    first = rig.provider.poll(job.remote_id, None)
    rig.sandbox.faults.lay(Fault(kind="odd_state", on="retrieve", times=3))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        odd = rig.provider.poll(job.remote_id, first.cursor)
        again = rig.provider.poll(job.remote_id, odd.cursor)
    assert (first.state, odd.state, again.state) == ("running", "running", "running")
    assert odd.raw_state.startswith("JOB_STATE_DREAMING")
    assert [event.kind for event in odd.events] == ["provider", "warning"]
    assert "'JOB_STATE_DREAMING'" in odd.events[1].message
    assert again.events == ()
    assert rig.provider.poll(job.remote_id, None).state == "queued"
    rig.work("")
    assert rig.provider.poll(job.remote_id, again.cursor).state == "succeeded"


@pytest.mark.parametrize(
    ("name", "code", "words"), [("bot-fail-data", "E413", "dataset"), ("bot-fail-train", "E401", "internal error")]
)
def test_a_failure_has_googles_own_words(rig, name, code, words):
    rig.recipe = recipe("vertex", MODEL, name=name)
    job = rig.create()
    rig.work("")
    seen = rig.provider.poll(job.remote_id, None)
    assert (seen.state, seen.problem.code, seen.artifact) == ("failed", code, None)
    assert words in seen.problem.why
    assert seen.events[-1].kind == "error"


def look(state, **more):
    """What is made of a job as the package hands it over."""
    from google.genai import types

    at = datetime(2026, 11, 24, 12, tzinfo=UTC)
    job = types.TuningJob(
        name="projects/1/locations/l/tuningJobs/1", state=state, create_time=at, update_time=at, **more
    )
    return vertex_look.observed(job, vertex_look.Cursor(created=True, state="running"), at, str)


def test_states_that_the_stand_in_does_not_play():
    assert look("JOB_STATE_QUEUED").state == "queued"
    assert look("JOB_STATE_UPDATING").state == "running"
    assert look("JOB_STATE_PAUSED").state == "paused"
    expired = look("JOB_STATE_EXPIRED")
    assert (expired.state, expired.problem.code) == ("failed", "E415")
    silent = look("JOB_STATE_FAILED")
    assert (silent.state, silent.problem) == ("failed", None)
    partial = look("JOB_STATE_PARTIALLY_SUCCEEDED", tuned_model={"model": "m"})
    assert (partial.state, partial.artifact) == ("succeeded", {"model": "m"})
    assert [event.kind for event in partial.events] == ["warning"]
    unspecified = look("JOB_STATE_UNSPECIFIED")
    assert unspecified.state == "running"


def test_every_state_of_the_package_is_known():
    from google.genai import types

    known = {each.value for each in types.JobState} - {"JOB_STATE_UNSPECIFIED"}
    assert known == set(vertex_look.STATES)
    details = {each.value for each in types.TuningJobState} - {"TUNING_JOB_STATE_UNSPECIFIED"}
    assert details == set(vertex_look._DETAILS)


def test_a_success_without_a_model_is_asked_for_again(rig):
    job = rig.create()
    rig.work("")
    rig.sandbox._jobs[0].tuned = {"endpoint": "projects/1/locations/l/endpoints/1"}
    with pytest.raises(ProviderUnavailable) as caught:
        rig.provider.poll(job.remote_id, None)
    assert caught.value.problems[0].code == "E411"


def test_an_unknown_job_is_not_there(rig):
    for name in (f"{JOBS.removeprefix('/v1beta1/')}/1", "never"):
        assert problem(lambda of=name: rig.provider.poll(of, None)).code == "E402"
        assert problem(lambda of=name: rig.provider.cancel(of)).code == "E402"


def test_many_threads_share_one_provider(rig):
    job = rig.create()
    with ThreadPoolExecutor(8) as threads:
        seen = list(threads.map(lambda _: rig.provider.poll(job.remote_id, None).state, range(64)))
    assert set(seen) <= {"preparing", "running"}
    assert rig.sandbox.operations().count("retrieve") == 64


# Cancel.


def test_cancel_is_followed_to_its_end(rig):
    job = rig.create()
    rig.sandbox.clock.advance(3)
    rig.provider.cancel(job.remote_id)
    seen = watch(rig, job, 0.3, 4)
    assert [each.state for each in seen] == ["running", "running", "cancelled", "cancelled"]
    assert seen[0].raw_state == "JOB_STATE_CANCELLING"
    assert rig.live() == []


def test_a_cancel_that_is_refused_while_it_runs_is_told(rig):
    job = rig.create()
    rig.sandbox._jobs[0].ended = lambda now: True
    assert problem(lambda: rig.provider.cancel(job.remote_id)).code == "E407"


def test_connections_that_are_not_taken_are_not_waited_for(rig, tmp_path):
    provider = hosted_vertex.provider(tmp_path, rig.server.environment, read_s=60.0)
    request = provider._wire.genai._api_client._httpx_client.build_request("GET", rig.server.url, timeout=60.0)
    for hook in provider._wire.genai._api_client._httpx_client.event_hooks["request"]:
        hook(request)
    assert request.extensions["timeout"] == {"connect": 10.0, "read": 60.0, "write": 60.0, "pool": 60.0}
