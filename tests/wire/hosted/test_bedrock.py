"""Amazon Bedrock's adapter against the stand-in: what it sends, what it makes of answers, and of no answer."""

import hashlib
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from finetune.abilities import Answering, Deployable, Keyed, Reporting, Storing, Yielding
from finetune.deployments import Deployment
from finetune.errors import AuthenticationFailed, OutcomeUnknown, ProviderError, ProviderUnavailable
from finetune.gateways import litellm_entries
from finetune.hosting import Host, UnderWay, against
from finetune.jobs import Metric
from finetune.ports import RemoteData
from finetune.providers import bedrock_deploy, bedrock_look
from finetune.providers.bedrock import BedrockProvider, build
from finetune.providers.bedrock_bucket import LARGEST
from finetune.providers.bedrock_recipe import job_name
from finetune.sandbox.bedrock.jobs import Timing
from finetune.sandbox.bedrock.sandbox import BUCKET, ROLE
from finetune.sandbox.bedrock.words import aws_error, storage_error
from finetune.sandbox.faults import Fault
from finetune.sandbox.service import Reply
from tests.support import hosted_bedrock
from tests.support.hosted import data, kit, recipe, served
from tests.support.hosted_bedrock import JOBS, LLAMA, MODEL, Watched
from tests.support.process import wait_until
from tests.wire.hosted.bedrock_contract import answered, asked

KEY = "ft_abcdefghij-a1"
NAME = "ft.abcdefghij-a1"
#: Long enough for a busy machine, short enough to wait for.
IMPATIENT_S = 0.8
DEPLOYMENT = "bot-v1-0a1b2c3d4e5f"


@pytest.fixture
def rig(tmp_path):
    rig = hosted_bedrock.rig(tmp_path)
    yield rig
    rig.server.stop()
    assert not rig.server.broken
    for operation, request, reply in rig.sandbox.seen:
        # What the stand-in refuses may be wrong on purpose; what is odd is told so.
        assert asked(operation, request) == [], operation
        if "Dreaming" not in str(reply.body):
            assert answered(operation, reply) == [], operation


@pytest.fixture
def impatient(rig, tmp_path):
    rig.provider = hosted_bedrock.provider(tmp_path, rig.server.environment, read_s=IMPATIENT_S)
    return rig


def made(rig, base_model=MODEL, **more):
    """Create a job of this recipe and answer with what was sent."""
    rig.recipe = recipe("bedrock", base_model, **more)
    rig.provider.create(rig.recipe, rig.provider.upload(rig.data), KEY)
    return rig.sandbox.bodies("create")[-1]


def uri(rig, side="train"):
    content = getattr(rig.data, side).read_bytes()
    return f"s3://{BUCKET}/ft/{'d' * 32}/{side}-{hashlib.sha256(content).hexdigest()[:16]}.jsonl"


def problem(of):
    with pytest.raises(ProviderError) as caught:
        of()
    return caught.value.problems[0]


def kit_of(**environ):
    return kit(Path("unused"), {"AWS_REGION": "us-east-1", **environ})


def checked(base_model=MODEL, region="us-east-1", **more):
    return build(kit_of(AWS_REGION=region)).check(recipe("bedrock", base_model, **more))


# What is sent.


def test_it_is_what_it_says(rig):
    for ability in (Keyed, Storing, Reporting, Deployable):
        assert isinstance(rig.provider, ability)
    for ability in (Answering, Yielding):
        assert not isinstance(rig.provider, ability)
    assert (rig.provider.name, rig.provider.grace_s, rig.provider.max_poll_s) == ("bedrock", 30.0, 60.0)


def test_a_small_recipe_leaves_all_but_the_epochs_to_amazon(rig):
    assert made(rig) == {
        "jobName": NAME,
        "customModelName": "bot-ft-abcdefghij-a1",
        "clientRequestToken": hashlib.sha256(KEY.encode()).hexdigest(),
        "roleArn": ROLE,
        "baseModelIdentifier": MODEL,
        "customizationType": "FINE_TUNING",
        "trainingDataConfig": {"s3Uri": uri(rig)},
        "outputDataConfig": {"s3Uri": f"s3://{BUCKET}/ft-output/{NAME}"},
        "hyperParameters": {"epochCount": "3"},
    }


def test_a_whole_recipe(rig, tmp_path):
    rig.data = data(tmp_path, "bedrock", held_out=3)
    options = {
        "learningRateWarmupSteps": 10,
        "customModelKmsKeyId": "alias/ours",
        "jobTags": {"team": "a"},
        "customModelTags": {"team": "b"},
        "vpcConfig": {"subnetIds": ["subnet-1"], "securityGroupIds": ["sg-1"]},
    }
    sent = made(rig, training={"epochs": 2, "learning_rate": 1e-5}, provider_options=options)
    assert sent["hyperParameters"] == {"epochCount": "2", "learningRate": "0.00001", "learningRateWarmupSteps": "10"}
    assert sent["validationDataConfig"] == {"validators": [{"s3Uri": uri(rig, "validation")}]}
    assert sent["customModelKmsKeyId"] == "alias/ours"
    assert sent["jobTags"] == [{"key": "team", "value": "a"}]
    assert sent["customModelTags"] == [{"key": "team", "value": "b"}]
    assert sent["vpcConfig"] == {"subnetIds": ["subnet-1"], "securityGroupIds": ["sg-1"]}


def test_names_that_amazon_takes_are_made_of_any_key_and_recipe(rig):
    names = {job_name(key) for key in ("ft_x-a1", "ft.x-a1", "ft-x-a1", "ft_x-a11", "x" * 64, "y" * 64, "-", "a b")}
    assert len(names) == 8
    assert all(len(name) <= 63 for name in names)
    rig.recipe = recipe("bedrock", MODEL, name="a." + "very-long_name." * 4 + "x")
    rig.create(KEY)
    # That it is as it is described, the fixture holds against Amazon's description.
    sent = rig.sandbox.bodies("create")[-1]["customModelName"]
    assert sent.startswith("a-very-long-name-")
    assert sent.endswith("-ft-abcdefghij-a1")


def test_rows_of_another_layout_are_not_sent(rig, tmp_path):
    ids = {"train": uri(rig), "validation": None, "format": "openai"}
    assert problem(lambda: rig.provider.create(rig.recipe, RemoteData(ids=ids), KEY)).code == "E414"
    assert rig.sandbox.operations() == []


def test_every_request_of_a_job(rig):
    job = rig.create(KEY)
    rig.provider.poll(job.remote_id, None)
    rig.provider.find(KEY)
    rig.provider.cancel(job.remote_id)
    assert [(name, request.method) for name, request, _ in rig.sandbox.seen] == [
        ("files", "GET"),
        ("upload", "PUT"),
        ("create", "POST"),
        ("retrieve", "GET"),
        # Here, and in the other region that tunes models.
        ("list", "GET"),
        ("list", "GET"),
        ("cancel", "POST"),
    ]
    assert rig.sandbox.seen[2][1].path == JOBS
    assert rig.sandbox.seen[4][1].one("nameContains") == NAME
    assert rig.sandbox.seen[1][1].headers["if-none-match"] == "*"


def test_nothing_of_the_environment_of_the_process_decides(rig, monkeypatch):
    monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", "another-secret")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAOTHER")
    monkeypatch.setenv("AWS_REGION", "eu-north-1")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-north-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL_BEDROCK", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    rig.create()
    for _, request, _ in rig.sandbox.seen:
        assert "another-secret" not in str(request.headers)
        assert "Credential=AKIASANDBOX/" in request.headers["authorization"]
        assert "/us-east-1/" in request.headers["authorization"]


def test_building_one_loads_no_package():
    code = (
        "import sys; from pathlib import Path; from tests.support.hosted import kit, recipe;"
        "from finetune.providers.bedrock import build; provider = build(kit(Path('x'), {}));"
        f"provider.check(recipe('bedrock', '{MODEL}')); provider.unconfigured();"
        "print([name for name in ('boto3', 'botocore', 'urllib3') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "[]\n", done.stderr


# What it cannot do.


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"training": {"epochs": 5, "learning_rate": 1e-4}},
        {"limits": {"data": {"region": "us"}}},
        {"provider_options": {"learningRateWarmupSteps": 0}},
        # Of what Amazon's page does not speak, Amazon judges.
        {"base_model": "amazon.nova-2-lite-v1:0:256k", "training": {"epochs": 9, "learning_rate": 0.5}},
        {"base_model": "amazon.nova-2-lite-v1:0:256k", "provider_options": {"learningRateWarmupSteps": 1}},
        {"base_model": LLAMA, "region": "us-west-2", "training": {"epochs": 10, "learning_rate": 0.1}},
        {
            "base_model": "meta.llama3-3-70b-instruct-v1:0:128k",
            "region": "us-west-2",
            "training": {"epochs": 11, "learning_rate": 0.5},
        },
        {"base_model": "meta.llama3-3-70b-instruct-v1:0:128k", "region": ""},
        {"base_model": "somebody.else-v1:0", "region": "eu-north-1"},
    ],
)
def test_a_recipe_in_order_has_no_problems(more):
    assert checked(**more) == []


@pytest.mark.parametrize(
    ("field", "more"),
    [
        ("training.epochs", {"training": {"epochs": 6}}),
        ("training.learning_rate", {"training": {"epochs": 1, "learning_rate": 2e-4}}),
        ("training.learning_rate", {"training": {"epochs": 1, "learning_rate": 5e-7}}),
        ("training.epochs", {"base_model": LLAMA, "region": "us-west-2", "training": {"epochs": 11}}),
        (
            "training.learning_rate",
            {"base_model": LLAMA, "region": "us-west-2", "training": {"epochs": 1, "learning_rate": 1e-6}},
        ),
        ("base_model", {"base_model": LLAMA}),
        ("base_model", {"base_model": "meta.llama3-3-70b-instruct-v1:0:128k", "region": "us-east-2"}),
        ("base_model", {"region": "us-west-2"}),
        ("base_model", {"base_model": "amazon.nova-2-lite-v1:0:256k", "region": "eu-west-1"}),
        ("provider_options.colour", {"provider_options": {"colour": "red"}}),
        ("provider_options.learningRateWarmupSteps", {"provider_options": {"learningRateWarmupSteps": 101}}),
        ("provider_options.learningRateWarmupSteps", {"provider_options": {"learningRateWarmupSteps": True}}),
        (
            "provider_options.learningRateWarmupSteps",
            {"base_model": LLAMA, "region": "us-west-2", "provider_options": {"learningRateWarmupSteps": 1}},
        ),
        ("provider_options.customModelKmsKeyId", {"provider_options": {"customModelKmsKeyId": "x y"}}),
        ("provider_options.jobTags", {"provider_options": {"jobTags": {"a": 1}}}),
        ("provider_options.jobTags", {"provider_options": {"jobTags": {"a,": "b"}}}),
        ("provider_options.customModelTags", {"provider_options": {"customModelTags": ["a"]}}),
        ("provider_options.vpcConfig", {"provider_options": {"vpcConfig": {"subnetIds": ["a"]}}}),
        (
            "provider_options.vpcConfig",
            {"provider_options": {"vpcConfig": {"subnetIds": ["a"], "securityGroupIds": []}}},
        ),
    ],
)
def test_a_value_that_is_not_taken(field, more):
    (found,) = checked(**more)
    assert (found.code, found.field) == ("E414", field)
    assert found.why
    assert found.fix


@pytest.mark.parametrize(
    ("region", "wanted", "fits"),
    [
        ("eu-central-1", "eu", True),
        ("eu-west-2", "eu", False),
        ("eu-central-2", "eu", False),
        ("us-east-1", "eu", False),
        ("us-east-1", "us", True),
        ("us-east-1", "us-east-1", True),
        ("us-east-1", "us-west-2", False),
        ("", "eu", False),
        ("us-east-1", "US", True),
    ],
)
def test_the_region(region, wanted, fits):
    # Of a model that may be tuned anywhere.
    assert (checked("somebody.else-v1:0", region, limits={"data": {"region": wanted}}) == []) is fits


def test_without_a_region_nobody_knows_where_the_data_goes():
    (found,) = checked("somebody.else-v1:0", "", limits={"data": {"region": "eu"}})
    assert (found.code, found.field, found.value) == ("E414", "limits.data", "region: eu")
    assert "shall run jobs is not set" in found.what
    assert "export AWS_REGION=" in found.fix


def test_fields_that_it_does_nothing_about_are_not_honoured():
    honoured = BedrockProvider.honours
    assert {"training.epochs", "training.learning_rate"} <= honoured
    assert not honoured & {"training.batch_size", "lora.r", "seed", "training.warmup_ratio"}


# The credential.


def test_what_is_missing_is_named():
    found = build(kit(Path("unused"), {})).unconfigured()
    assert [each.code for each in found] == ["E412"] * 3
    told = " ".join(each.what for each in found)
    assert all(name in told for name in ("AWS_REGION", "FT_BEDROCK_BUCKET", "FT_BEDROCK_ROLE_ARN"))
    wrong = {"AWS_DEFAULT_REGION": "us-east-1", "FT_BEDROCK_BUCKET": "A b", "FT_BEDROCK_ROLE_ARN": "me"}
    told = [each.what for each in build(kit(Path("unused"), wrong)).unconfigured()]
    assert told == ["FT_BEDROCK_BUCKET is no name of a bucket", "FT_BEDROCK_ROLE_ARN is no ARN of a role"]


def test_a_package_that_is_not_installed_is_named(rig, monkeypatch):
    monkeypatch.setitem(sys.modules, "botocore", None)
    (found,) = rig.provider.unconfigured()
    assert found.code == "E412"
    assert "ft-orchestrator[bedrock]" in found.fix


def test_nothing_is_sent_while_something_is_missing(tmp_path):
    provider = build(kit_of())
    for ask in (
        lambda: provider.find(KEY),
        lambda: provider.upload(data(tmp_path, "bedrock")),
        lambda: provider.poll("x", None),
        lambda: provider.cancel("x"),
        lambda: provider.deploy(DEPLOYMENT, {"model": "arn"}),
        provider.reach,
        provider.files,
    ):
        with pytest.raises(AuthenticationFailed):
            ask()


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        ({"AWS_ACCESS_KEY_ID": "AKIAWRONG", "AWS_SECRET_ACCESS_KEY": "hunter2-hunter2"}, "security token"),
        ({"AWS_ACCESS_KEY_ID": "AKIASANDBOXNOACCESS", "AWS_SECRET_ACCESS_KEY": "hunter2-hunter2"}, "not authorized"),
    ],
)
def test_a_bad_key_is_told_everywhere_and_never_shown(rig, tmp_path, changed, word):
    job = rig.create()
    provider = hosted_bedrock.provider(tmp_path, {**rig.server.environment, **changed})
    for ask in (
        lambda: provider.find(KEY),
        lambda: provider.upload(rig.data),
        lambda: provider.create(rig.recipe, RemoteData(ids={"train": uri(rig), "format": "bedrock"}), KEY),
        lambda: provider.poll(job.remote_id, None),
        lambda: provider.cancel(job.remote_id),
        lambda: provider.delete_file(uri(rig)),
        lambda: provider.hosted_at(DEPLOYMENT),
        provider.deployed,
        provider.files,
        provider.reach,
    ):
        with pytest.raises(AuthenticationFailed) as caught:
            ask()
        assert caught.value.problems[0].code == "E405"
        assert "hunter2" not in str(caught.value)
        assert caught.value.__suppress_context__
        assert ("IAM" in caught.value.problems[0].fix) == (word == "not authorized")
    assert word in problem(lambda: provider.find(KEY)).why
    assert "hunter2" not in repr(provider)


def test_without_a_credential_amazons_package_looks_for_one(rig, tmp_path, monkeypatch):
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    without = {name: value for name, value in rig.server.environment.items() if "KEY" not in name}
    told = problem(lambda: hosted_bedrock.provider(tmp_path, without).find(KEY))
    assert (told.code, "aws configure" in told.fix) == ("E405", True)
    (tmp_path / "credentials").write_text("[mine]\naws_access_key_id = AKIASANDBOX\naws_secret_access_key = x\n")
    named = {**without, "AWS_PROFILE": "mine"}
    assert hosted_bedrock.provider(tmp_path, named).find(KEY) == []
    told = problem(lambda: hosted_bedrock.provider(tmp_path, {**without, "AWS_PROFILE": "nobody"}).find(KEY))
    assert (told.code, "nobody" in told.why) == ("E405", True)


def test_reach_tells_what_answers(rig):
    assert rig.provider.reach() == f"{rig.server.url} (us-east-1, s3://{BUCKET})"
    assert rig.sandbox.operations() == ["list", "files"]


def test_a_bucket_that_is_not_there(rig, tmp_path):
    other = hosted_bedrock.provider(tmp_path, {**rig.server.environment, "FT_BEDROCK_BUCKET": "other-bucket"})
    for ask in (other.reach, lambda: other.upload(rig.data)):
        told = problem(ask)
        assert told.code == "E402"
        assert "other-bucket" in told.what
        assert "aws s3 mb" in told.fix


# Files.


def test_what_is_there_is_not_sent_again(rig, tmp_path):
    rig.data = data(tmp_path, "bedrock", held_out=2)
    first = rig.provider.upload(rig.data)
    there = {"train": uri(rig), "validation": uri(rig, "validation"), "format": "bedrock", "region": "us-east-1"}
    assert first.ids == there
    assert rig.provider.upload(rig.data) == first
    assert rig.sandbox.operations().count("upload") == 2
    assert rig.sandbox.storage.get(uri(rig)).data == rig.data.train.read_bytes()


def test_who_comes_second_finds_it_there(rig, tmp_path):
    rig.provider.upload(rig.data)
    # The list was read before the other's upload.
    page = rig.provider._bucket.__class__._page
    rig.provider._bucket.__class__._page = lambda self, doing, bucket, arguments: {}
    try:
        assert rig.provider.upload(rig.data).ids["train"] == uri(rig)
    finally:
        rig.provider._bucket.__class__._page = page
    assert [reply.status for name, _, reply in rig.sandbox.seen if name == "upload"] == [200, 412]


def test_another_content_has_another_name(rig):
    before = rig.provider.upload(rig.data)
    rig.data.train.write_text(rig.data.train.read_text().replace("What is 1?", "What is one?"))
    after = rig.provider.upload(rig.data)
    assert before.ids["train"] != after.ids["train"]
    assert rig.sandbox.storage.get(after.ids["train"]).data == rig.data.train.read_bytes()


def test_what_s3_does_not_take_in_one_request_is_refused(rig):
    with rig.data.train.open("r+b") as file:
        file.truncate(LARGEST + 1)
    assert problem(lambda: rig.provider.upload(rig.data)).code == "E414"
    assert rig.sandbox.operations() == []


def test_our_files_newest_first_and_no_others(rig, tmp_path):
    rig.provider.upload(rig.data)
    for name in ("mine/x.jsonl", "ft/x.jsonl", f"ft/{'e' * 32}/train.jsonl"):
        rig.sandbox.storage.put(f"s3://{BUCKET}/{name}", b"x")
    rig.sandbox.clock.advance(60)
    later = replace(rig.data, digest="e" * 64)
    ids = rig.provider.upload(later).ids
    found = rig.provider.files()
    assert [each.file_id for each in found] == [ids["train"], uri(rig)]
    assert found[1].bytes == rig.data.train.stat().st_size
    assert found[0].uploaded_at > found[1].uploaded_at
    assert rig.provider.file_ids(ids) == [ids["train"]]
    for _ in range(2):
        rig.provider.delete_file(ids["train"])
    assert [each.file_id for each in rig.provider.files()] == [uri(rig)]


@pytest.mark.parametrize("name", [f"s3://{BUCKET}/x", "gs://a/b", f"s3://{BUCKET}/ft/{'d' * 32}/train.jsonl", ""])
def test_what_is_not_ours_is_not_deleted(rig, name):
    assert problem(lambda: rig.provider.delete_file(name)).code == "E402"
    assert rig.sandbox.operations() == []


# Find and create.


def test_find_looks_through_all_pages_and_matches_exactly(rig, monkeypatch):
    monkeypatch.setattr("finetune.providers.bedrock_wire._PAGE", 2)
    ids = rig.provider.upload(rig.data)
    job = rig.provider.create(rig.recipe, ids, "ft_x-a1")
    for number in range(5):
        rig.provider.create(rig.recipe, ids, f"ft_x-a1{number}")
    (found,) = rig.provider.find("ft_x-a1")
    assert (found.remote_id, found.raw_state, found.ended) == (job.remote_id, "InProgress", False)
    # Three pages, and an empty one of the other region.
    assert rig.sandbox.operations().count("list") == 4
    rig.sandbox.clock.advance(60)
    assert rig.provider.find("ft_x-a1")[0].ended


def test_find_may_miss_what_is_new_and_a_second_create_makes_no_second_job(rig):
    ids = rig.provider.upload(rig.data)
    rig.sandbox.faults.list_lag_s = 60
    job = rig.provider.create(rig.recipe, ids, KEY)
    assert rig.provider.find(KEY) == []
    assert rig.provider.create(rig.recipe, ids, KEY).remote_id == job.remote_id
    assert rig.live(KEY) == [job.remote_id]


def test_a_job_of_the_name_that_another_token_made_is_looked_up(rig):
    """As when the service has forgotten the token: then the name is what holds."""
    ids = rig.provider.upload(rig.data)
    job = rig.provider.create(rig.recipe, ids, KEY)
    rig.sandbox._by_token.clear()
    with pytest.raises(OutcomeUnknown) as caught:
        rig.provider.create(rig.recipe, ids, KEY)
    assert "currently in use" in caught.value.problems[0].why
    assert [each.remote_id for each in rig.provider.find(KEY)] == [job.remote_id]
    assert len(rig.sandbox.ledger()) == 1


#: Faults after which a create may have been carried out, and how many jobs there are then.
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
def test_a_create_without_an_answer_is_unknown_and_never_sent_twice(impatient, kind):
    rig = impatient
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
    rig.provider._wire.jobs._endpoint.http_session.close()
    with pytest.raises(ProviderUnavailable) as caught:
        rig.provider.create(rig.recipe, ids, KEY)
    assert not isinstance(caught.value, OutcomeUnknown)


def test_a_fault_of_tls_is_silence_and_no_refusal(rig, monkeypatch):
    """It may come while the answer is read: the job may be there."""
    from botocore.exceptions import SSLError
    from botocore.httpsession import URLLib3Session

    send = URLLib3Session.send

    def broken(self, request):
        if "model-customization" in request.url:
            raise SSLError(endpoint_url=request.url, error="bad record mac")
        return send(self, request)

    job = rig.create("ft_x-a1")
    monkeypatch.setattr(URLLib3Session, "send", broken)
    with pytest.raises(OutcomeUnknown):
        rig.create("ft_x-a2")
    with pytest.raises(ProviderUnavailable):
        rig.provider.poll(job.remote_id, None)


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
    assert "concurrent customization jobs" in told.why


def test_a_refusal_has_amazons_own_words(rig):
    told = problem(lambda: made(rig, "amazon.titan-text-express-v1"))
    assert told.code == "E407"
    assert "ValidationException: The provided model identifier is invalid." in told.why
    assert "request sandbox-" in told.why


@pytest.mark.parametrize(
    ("reply", "kind", "code"),
    [
        (aws_error(400, "slow down", "ThrottlingException"), ProviderUnavailable, "E410"),
        (aws_error(400, "it has expired", "ExpiredTokenException"), AuthenticationFailed, "E405"),
        (aws_error(400, "in use", "ResourceInUseException"), OutcomeUnknown, "E403"),
        (aws_error(408, "late", "RequestTimeoutException"), OutcomeUnknown, "E403"),
        (aws_error(404, "no such model", "ResourceNotFoundException"), ProviderError, "E407"),
        (Reply(status=502, body=b"<html>"), OutcomeUnknown, "E403"),
        (Reply(status=201, body=b""), OutcomeUnknown, "E411"),
        (Reply(status=201, body=[1]), OutcomeUnknown, "E411"),
        (Reply(status=201, body={"jobArn": ""}), OutcomeUnknown, "E411"),
    ],
)
def test_what_an_answer_to_a_create_means(tmp_path, reply, kind, code):
    class Odd(Watched):
        def _create(self, request):
            return reply

    server = served(Odd())
    provider = hosted_bedrock.provider(tmp_path, server.environment)
    try:
        ids = provider.upload(data(tmp_path, "bedrock"))
        with pytest.raises(kind) as caught:
            provider.create(recipe("bedrock", MODEL), ids, KEY)
    finally:
        server.stop()
    assert type(caught.value) is kind
    assert caught.value.problems[0].code == code


READS = {
    "list": lambda rig, job: rig.provider.find("ft_x-a1"),
    "retrieve": lambda rig, job: rig.provider.poll(job.remote_id, None),
    "cancel": lambda rig, job: rig.provider.cancel(job.remote_id),
    "files": lambda rig, job: rig.provider.files(),
    "deployments": lambda rig, job: rig.provider.deployed(),
    "deployment": lambda rig, job: rig.provider.hosted_at(DEPLOYMENT),
}


@pytest.mark.parametrize("operation", READS)
@pytest.mark.parametrize("kind", ["server_error", "unavailable", "cut_before", "cut_after", "hang_before", "garbage"])
def test_trouble_elsewhere_is_met_once_and_told_as_such(impatient, operation, kind):
    """Also a list that is no JSON: it never says that there is no job."""
    rig, job = impatient, impatient.create()
    if operation == "deployment":
        rig.provider.deploy(DEPLOYMENT, trained(rig))
    rig.sandbox.faults.lay(Fault(kind=kind, on=operation, times=None, seconds=5.0))
    if (operation, kind) == ("cancel", "cut_after"):
        # A look tells that it was carried out.
        READS[operation](rig, job)
        return
    with pytest.raises(ProviderError) as caught:
        READS[operation](rig, job)
    assert type(caught.value) is ProviderUnavailable
    # Of S3, the package itself says that such an answer is one of a server in trouble.
    assert caught.value.problems[0].code == ("E411" if kind == "garbage" and operation != "files" else "E403")
    assert len(rig.sandbox.faults.happened) == 1


@pytest.mark.parametrize("status", [400, 404, 410])
def test_a_page_of_something_between_takes_no_job_away(tmp_path, status):
    class Between(Watched):
        def _retrieve(self, request):
            return Reply(status=status, body=b"<html>Not here</html>")

    server = served(Between())
    try:
        with pytest.raises(ProviderUnavailable) as caught:
            hosted_bedrock.provider(tmp_path, server.environment).poll("any", None)
    finally:
        server.stop()
    assert caught.value.problems[0].code == "E411"


@pytest.mark.parametrize("kind", ["server_error", "unavailable", "cut_before", "cut_after", "rate_limit"])
def test_trouble_of_an_upload_is_mended_by_the_next(rig, kind):
    rig.sandbox.faults.lay(Fault(kind=kind, on="upload", seconds=0))
    with pytest.raises(ProviderUnavailable):
        rig.provider.upload(rig.data)
    assert rig.provider.upload(rig.data).ids["train"] == uri(rig)


# Poll.


def watch(rig, job, seconds, times):
    cursor, seen = None, []
    for _ in range(times):
        seen.append(rig.provider.poll(job.remote_id, cursor))
        cursor = seen[-1].cursor
        rig.sandbox.clock.advance(seconds)
    return seen


def test_every_phase_is_told_once(rig):
    seen = watch(rig, rig.create(), 1.0, 8)
    assert [each.state for each in seen] == [
        *("queued", "preparing", "preparing", "running", "running", "running", "succeeded", "succeeded"),
    ]
    assert [event.message for each in seen for event in each.events] == [
        "Amazon Bedrock has the job",
        "the data is being checked (validationDetails)",
        "the data is being made ready (dataProcessingDetails)",
        "the model is being trained (trainingDetails)",
        "the job is Completed",
    ]
    assert [each.raw_state for each in seen][1:4] == [
        "InProgress, validation",
        "InProgress, data processing",
        "InProgress, training",
    ]
    assert seen[-1].events == seen[-1].metrics == ()


def test_the_losses_are_told_at_the_end(rig, tmp_path):
    rig.data = data(tmp_path, "bedrock", held_out=2)
    seen = watch(rig, rig.create(), 3600, 3)
    # Three steps an epoch, and three epochs.
    losses = [Metric(step=step, name="loss", value=round(0.5 + 2 / (1 + step), 4)) for step in range(9)]
    assert list(seen[1].metrics) == sorted(
        [*losses, Metric(step=8, name="eval_loss", value=round(losses[-1].value + 0.1, 4))],
        key=lambda each: (each.step, each.name),
    )
    assert seen[2].metrics == ()


def test_the_artifact_and_its_tables(rig, tmp_path):
    job = rig.create(KEY)
    assert rig.provider.fetch_results(job.remote_id, tmp_path / "r") == []
    rig.sandbox.clock.advance(60)
    seen = rig.provider.poll(job.remote_id, None)
    assert seen.artifact["name"] == "bot-ft-abcdefghij-a1"
    assert ":custom-model/amazon.nova-micro-v1:0:128k/" in seen.artifact["model"]
    for _ in range(2):
        (path,) = rig.provider.fetch_results(job.remote_id, tmp_path / "r")
    assert path == tmp_path / "r" / "step_wise_training_metrics.csv"
    assert path.read_text().startswith("step_number,epoch_number,training_loss,perplexity\n0,0,2.5,")


def test_what_lies_beside_the_tables_is_left_there(rig, tmp_path):
    job = rig.create(KEY)
    rig.sandbox.clock.advance(60)
    folder = f"s3://{BUCKET}/ft-output/{NAME}/model-customization-job-{job.remote_id.rpartition('/')[2]}"
    for name in ("..", ".csv", "x.txt", "a b.csv"):
        rig.sandbox.storage.put(f"{folder}/{name}", b"step_number,training_loss\n1,x\nx,1\n-1,2\n5,nan\n")
    rig.sandbox.storage.put(f"{folder}/odd.csv", b"step_number,training_loss\n1,x\nx,1\n-1,2\n5,nan\n\xff\n70,0.25\n")
    found = rig.provider.fetch_results(job.remote_id, tmp_path / "r")
    assert sorted(path.name for path in found) == ["odd.csv", "step_wise_training_metrics.csv"]
    assert sorted(path.name for path in (tmp_path / "r").iterdir()) == ["odd.csv", "step_wise_training_metrics.csv"]
    steps = [each.step for each in rig.provider.poll(job.remote_id, None).metrics]
    assert steps == [*range(9), 70]


def test_a_bucket_that_refuses_to_be_read_takes_no_success_away(rig, monkeypatch):
    job = rig.create()
    rig.sandbox.clock.advance(60)
    refusing = storage_error(403, "AccessDenied", "no s3:GetObject")
    monkeypatch.setattr(rig.sandbox.storage, "get", rig.sandbox.storage.get)
    for place, (route, pattern) in enumerate(rig.server.table):
        if route.operation == "download":
            rig.server.table[place] = (replace(route, answer=lambda request: refusing), pattern)
    seen = rig.provider.poll(job.remote_id, None)
    assert (seen.state, seen.metrics) == ("succeeded", ())
    (warning,) = [event for event in seen.events if event.kind == "warning"]
    assert "s3:GetObject" in warning.message
    assert rig.provider.poll(job.remote_id, seen.cursor).events == ()


def test_a_bucket_that_is_away_is_asked_again(rig):
    job = rig.create()
    rig.sandbox.clock.advance(60)
    rig.sandbox.faults.lay(Fault(kind="unavailable", on="download"))
    with pytest.raises(ProviderUnavailable):
        rig.provider.poll(job.remote_id, None)
    assert rig.provider.poll(job.remote_id, None).metrics


def test_a_state_that_nobody_knows_keeps_the_last_and_warns_once(rig):
    job = rig.create()
    rig.sandbox.clock.advance(4)
    cursor = rig.provider.poll(job.remote_id, None).cursor
    rig.sandbox.faults.lay(Fault(kind="odd_state", on="retrieve", times=2))
    first = rig.provider.poll(job.remote_id, cursor)
    second = rig.provider.poll(job.remote_id, first.cursor)
    assert (first.state, first.raw_state, second.state) == ("running", "Dreaming", "running")
    assert [event.kind for event in first.events] == ["warning"]
    assert "'Dreaming'" in first.events[0].message
    assert second.events == ()
    assert rig.provider.poll(job.remote_id, second.cursor).raw_state == "InProgress, training"


@pytest.mark.parametrize(
    ("name", "code", "words"), [("fail-data", "E413", "a sample that"), ("fail-train", "E401", "internal error")]
)
def test_a_failure_has_amazons_own_words(rig, name, code, words):
    rig.recipe = recipe("bedrock", MODEL, name=name)
    job = rig.create()
    rig.sandbox.clock.advance(60)
    seen = rig.provider.poll(job.remote_id, None)
    assert (seen.state, seen.problem.code, seen.artifact) == ("failed", code, None)
    assert words in seen.problem.why
    assert seen.events[-1].kind == "error"


def look(status, before=None, **more):
    job = {"jobArn": "arn", "status": status, **more}
    now = datetime(2026, 11, 29, tzinfo=UTC)
    return bedrock_look.observed(job, before or bedrock_look.Cursor(), now, str, None)


def test_states_that_the_stand_in_does_not_play():
    # A job that tells no phases is one that runs.
    assert look("InProgress").state == "running"
    assert look("InProgress", statusDetails={}).state == "running"
    assert look("InProgress", statusDetails={"trainingDetails": {"status": "NotStarted"}}).state == "queued"
    assert look("Stopping").state == "running"
    assert look("Failed").problem is None
    assert look("Failed", failureMessage="x").problem.code == "E401"
    assert look("Completed", outputModelArn="a").artifact == {"model": "a", "name": ""}


def test_every_state_of_amazons_description_is_known():
    from tests.wire.hosted.bedrock_contract import service

    assert set(service().shape_for("ModelCustomizationJobStatus").enum) == set(bedrock_look.STATES)


def test_a_success_without_a_model_is_asked_for_again(rig):
    job = rig.create()
    rig.sandbox.clock.advance(60)
    told = rig.sandbox._jobs[0].told

    def without(now):
        return {key: value for key, value in told(now).items() if key != "outputModelArn"}

    rig.sandbox._jobs[0].told = without
    with pytest.raises(ProviderUnavailable):
        rig.provider.poll(job.remote_id, None)


def test_an_unknown_job_is_not_there(rig):
    arn = rig.create().remote_id[:-3] + "000"
    for name in ("never", arn):
        assert problem(lambda of=name: rig.provider.poll(of, None)).code == "E402"
        assert problem(lambda of=name: rig.provider.cancel(of)).code == "E402"


def test_many_threads_share_one_provider(rig):
    job = rig.create()
    with ThreadPoolExecutor(8) as threads:
        seen = list(threads.map(lambda _: rig.provider.poll(job.remote_id, None).state, range(40)))
    assert set(seen) <= {"queued", "preparing", "running", "succeeded"}
    assert rig.sandbox.operations().count("retrieve") == 40


# Cancel.


def test_cancel_is_followed_to_its_end(rig):
    rig.sandbox.timing = Timing().scaled(10)
    job = rig.create()
    rig.sandbox.clock.advance(30)
    rig.provider.cancel(job.remote_id)
    seen = watch(rig, job, 3, 4)
    assert [each.state for each in seen] == ["running", "running", "cancelled", "cancelled"]
    assert seen[0].raw_state == "Stopping"
    assert rig.live() == []


def test_a_cancel_that_is_refused_while_it_runs_is_told(rig, monkeypatch):
    job = rig.create()
    monkeypatch.setattr("finetune.sandbox.bedrock.sandbox.ENDED", frozenset({"InProgress"}))
    with pytest.raises(ProviderUnavailable):
        rig.provider.cancel(job.remote_id)


def test_a_stop_that_is_refused_because_it_stops_is_no_fault(rig, monkeypatch):
    rig.sandbox.timing = Timing().scaled(10)
    job = rig.create()
    rig.provider.cancel(job.remote_id)
    monkeypatch.setattr("finetune.sandbox.bedrock.sandbox.ENDED", frozenset({"Stopping"}))
    rig.provider.cancel(job.remote_id)
    assert [reply.status for name, _, reply in rig.sandbox.seen if name == "cancel"] == [200, 400]


# What answers.


def trained(rig):
    job = rig.create(KEY)
    rig.sandbox.clock.advance(60)
    return rig.provider.poll(job.remote_id, None).artifact


def test_a_deployment_from_its_beginning_to_its_end(rig):
    artifact = trained(rig)
    assert rig.provider.undeployable() == []
    answers = [rig.provider.deploy(DEPLOYMENT, artifact) for _ in range(4)]
    assert answers[:2] == [None, None]
    assert answers[2] == answers[3] == rig.provider.hosted_at(DEPLOYMENT)
    (there,) = rig.sandbox.deployments.there()
    assert (answers[3].kind, answers[3].model) == ("bedrock", f"nova/{there.arn}")
    assert answers[3].params == {"aws_region_name": "us-east-1"}
    assert (answers[3].api_base, answers[3].key_env) == (None, None)
    assert rig.sandbox.operations().count("deploy") == 1
    assert [(one.name, one.state) for one in rig.provider.deployed()] == [(DEPLOYMENT, "Active")]
    for _ in range(2):
        rig.provider.undeploy(DEPLOYMENT)
    assert rig.sandbox.deployments.there() == []
    assert rig.provider.deployed() == []
    assert problem(lambda: rig.provider.hosted_at(DEPLOYMENT)).code == "E402"


def test_what_was_undone_can_be_deployed_again(rig):
    artifact = trained(rig)
    for _ in range(2):
        for _ in range(3):
            rig.provider.deploy(DEPLOYMENT, artifact)
        assert [one.name for one in rig.sandbox.deployments.there()] == [f"ft-{DEPLOYMENT}"]
        rig.provider.undeploy(DEPLOYMENT)


@pytest.mark.parametrize("kind", ["cut_after", "hang_after", "garbage", "server_error"])
def test_a_deployment_without_an_answer_is_found_again(impatient, kind):
    rig, artifact = impatient, trained(impatient)
    rig.sandbox.faults.lay(Fault(kind=kind, on="deploy", seconds=2.0))
    with pytest.raises(ProviderUnavailable):
        rig.provider.deploy(DEPLOYMENT, artifact)
    while rig.provider.deploy(DEPLOYMENT, artifact) is None:
        pass
    assert len(rig.sandbox.deployments.book) == 1


def test_two_that_deploy_at_once_make_one(rig):
    """The second is told that the name is in use, and finds the first one's later."""
    artifact = trained(rig)

    def deploy(_):
        try:
            return rig.provider.deploy(DEPLOYMENT, artifact)
        except ProviderUnavailable as error:
            return error.problems[0].why

    with ThreadPoolExecutor(8) as threads:
        told = [each for each in threads.map(deploy, range(8)) if isinstance(each, str)]
    assert all("currently in use" in each for each in told)
    # Whoever has looked before the other's was there.
    with pytest.raises(ProviderUnavailable) as caught:
        rig.provider._deployments._create("us-east-1", DEPLOYMENT, artifact["model"])
    assert "currently in use" in caught.value.problems[0].why
    wait_until(lambda: rig.provider.deploy(DEPLOYMENT, artifact), 10, "the deployment")
    assert len(rig.sandbox.deployments.book) == 1


def test_what_is_still_being_made_is_undone_later(rig):
    artifact = trained(rig)
    rig.provider.deploy(DEPLOYMENT, artifact)
    rig.sandbox.deployments.book[0].looks = 5
    with pytest.raises(ProviderUnavailable) as caught:
        rig.provider.undeploy(DEPLOYMENT)
    assert "being created" in caught.value.problems[0].why
    rig.sandbox.deployments.book[0].looks = 0
    rig.provider.undeploy(DEPLOYMENT)
    assert rig.sandbox.deployments.there() == []


@pytest.mark.parametrize("kind", ["cut_before", "cut_after", "garbage", "unavailable", "rate_limit"])
def test_an_undoing_without_an_answer_is_done_again(rig, kind):
    artifact = trained(rig)
    while rig.provider.deploy(DEPLOYMENT, artifact) is None:
        pass
    rig.sandbox.faults.lay(Fault(kind=kind, on="undeploy", seconds=0))
    with pytest.raises(ProviderUnavailable):
        rig.provider.undeploy(DEPLOYMENT)
    rig.provider.undeploy(DEPLOYMENT)
    assert rig.sandbox.deployments.there() == []
    assert len(rig.sandbox.deployments.book) == 1


@pytest.mark.parametrize("name", ["a.b--c", "x" * 61, "a_-b"])
def test_any_name_can_be_deployed_and_is_told_whole(rig, name):
    artifact = trained(rig)
    rig.provider.deploy(name, artifact)
    assert [one.name for one in rig.provider.deployed()] == [name]


def test_what_is_not_ours_is_neither_changed_nor_told(rig):
    artifact = trained(rig)
    for name, description in ((f"ft-{DEPLOYMENT}", "mine"), ("ft-other", None), ("other", "ft_model=other")):
        more = {"description": description} if description else {}
        rig.provider._wire.jobs.create_custom_model_deployment(
            modelDeploymentName=name, modelArn=artifact["model"], **more
        )
    told = problem(lambda: rig.provider.deploy(DEPLOYMENT, artifact))
    assert (told.code, "never changes" in told.why) == ("E407", True)
    assert rig.provider.deployed() == []
    rig.provider.undeploy(DEPLOYMENT)
    rig.provider.undeploy("other")
    assert len(rig.sandbox.deployments.there()) == 3


def test_a_name_of_ours_with_another_model_is_not_taken_for_it(rig):
    first = trained(rig)
    second = rig.provider.create(rig.recipe, rig.provider.upload(rig.data), "ft_x-a2")
    rig.sandbox.clock.advance(60)
    other = rig.provider.poll(second.remote_id, None).artifact
    rig.provider.deploy(DEPLOYMENT, first)
    assert problem(lambda: rig.provider.deploy(DEPLOYMENT, other)).code == "E407"


def test_a_deployment_that_fails_says_why(rig):
    rig.recipe = recipe("bedrock", MODEL, name="fail-deploy")
    artifact = trained(rig)
    assert [rig.provider.deploy(DEPLOYMENT, artifact) for _ in range(2)] == [None, None]
    told = problem(lambda: rig.provider.deploy(DEPLOYMENT, artifact))
    assert (told.code, "could not be loaded" in told.why) == ("E407", True)


@pytest.mark.parametrize(
    ("base", "speaks"),
    [
        ("amazon.nova-pro-v1:0:300k", "nova"),
        ("amazon.nova-2-lite-v1:0:256k", "nova-2"),
        ("meta.llama3-3-70b-instruct-v1:0", "converse"),
    ],
)
def test_how_litellm_is_told_what_the_model_can_do(base, speaks):
    arn = "arn:aws:bedrock:us-east-1:123456789012:custom-model-deployment/aaaaaaaaaaaa"
    there = {"modelArn": f"arn:aws:bedrock:us-east-1:123456789012:custom-model/{base}/bbbbbbbbbbbb"}
    there |= {"customModelDeploymentArn": arn}
    assert bedrock_deploy._upstream(there).model == f"{speaks}/{arn}"


def test_what_an_hour_of_a_deployment_costs():
    provider = build(kit_of())
    for base in (
        *("amazon.nova-micro-v1:0:128k", "amazon.nova-lite-v1:0:300k", "amazon.nova-pro-v1:0"),
        *("amazon.nova-2-lite-v1:0:256k", "meta.llama3-3-70b-instruct-v1:0:128k"),
    ):
        said = provider.hosting(base)
        assert said.usd_per_hour == Decimal(0)
        assert "on-demand inference" in said.source
    for base in (LLAMA, "meta.llama3-2-1b-instruct-v1:0", "other"):
        said = provider.hosting(base)
        assert said.usd_per_hour is None
        assert base in said.source
        assert said.fix


def test_a_promotion_finds_it_at_litellm(rig):
    """The hosting among the gateways, and the entry that LiteLLM is given."""
    artifact = trained(rig)
    host = Host("bedrock", rig.provider)
    version = Deployment(
        ref="bot@v1", public="bot", digest="0a1b2c3d4e5f" + "0" * 52, base_model=MODEL, artifact=artifact
    )
    with pytest.raises(UnderWay):
        host.register(version)
    wait_until(lambda: rig.provider.deploy(version.model, artifact), 10, "the deployment")
    upstream = host.register(version)
    (there,) = rig.sandbox.deployments.there()
    assert there.name == "ft-bot-v1-0a1b2c3d4e5f"
    assert litellm_entries._params(upstream) == {
        "model": f"bedrock/nova/{there.arn}",
        "aws_region_name": "us-east-1",
    }
    assert [one.id for one in host.registered()] == [version.model]
    assert against("bot@v1", host.hosting(MODEL), Decimal(0)) is None
    host.unregister(version.model)
    assert rig.sandbox.deployments.there() == []
