"""Llama at Amazon Bedrock: rows as its models read them, from a recipe's data to the stand-in; what it refuses."""

import hashlib
import json
from dataclasses import replace

import pytest

from finetune.catalogue import load
from finetune.catalogue.weights import called
from finetune.data.preparing import prepare
from finetune.data.request import DataRequest
from finetune.errors import DataError, Problem, ProviderError
from finetune.ports import RemoteData
from finetune.providers.bedrock_wire import everywhere
from finetune.sandbox.bedrock.jobs import Timing
from finetune.sandbox.bedrock.rows import read, sized
from finetune.sandbox.bedrock.sandbox import BUCKET, ROLE, BedrockSandbox
from tests.support import hosted_bedrock
from tests.support.hosted import ROWS, data, recipe, served
from tests.support.hosted_bedrock import LLAMA, MODEL
from tests.wire.hosted.bedrock_contract import answered, asked

KEY = "ft_abcdefghij-a1"
NEWER = "meta.llama3-3-70b-instruct-v1:0:128k"
USER, ANSWER = {"role": "user", "content": "What is %d?"}, {"role": "assistant", "content": "It is %d."}


@pytest.fixture
def rig(tmp_path):
    rig = hosted_bedrock.llama(tmp_path)
    yield rig
    rig.server.stop()
    assert not rig.server.broken
    for operation, request, reply in rig.sandbox.seen:
        assert asked(operation, request) == [], operation
        assert answered(operation, reply) == [], operation


def rules(model):
    return load().provider("bedrock").rules("sft", model)


def written(folder, model, *messages, rows=100):
    """What ft writes of so many conversations for this model."""
    source = folder / "chats.jsonl"
    row = json.dumps({"messages": messages})
    source.write_text("".join(row.replace("%d", str(number)) + "\n" for number in range(rows)))
    return prepare(DataRequest(train=source.name, folder=folder, rules=rules(model)), folder / "prepared", processes=1)


def ended(rig, ids):
    """How a job with this data ends, and why."""
    job = rig.provider.create(rig.recipe, ids, KEY)
    rig.sandbox.clock.advance(60)
    seen = rig.provider.poll(job.remote_id, None)
    return seen.state, seen.problem.why if seen.problem else ""


# From the recipe's rows to a tuned model.


def test_what_amazons_page_says_of_llama():
    """Looked up by hand, apart from the sheet."""
    older, newer = rules(LLAMA), rules(NEWER)
    assert (older.format, newer.format) == ("completion", "bedrock")
    for each in (older, newer, rules("meta.llama3-1-70b-instruct-v1:0")):
        assert (each.min_rows_total, each.max_rows_total, each.max_row_tokens) == (100, 10_000, 16_000)
        assert (each.min_rows, each.max_rows) == (None, None)
    assert older.images is False
    assert load().provider("bedrock").model(LLAMA).context.value == 128_000


@pytest.mark.parametrize(
    ("model", "line"),
    [
        (LLAMA, {"prompt": "What is 0?", "completion": "It is 0."}),
        ("meta.llama3-1-70b-instruct-v1:0", {"prompt": "What is 0?", "completion": "It is 0."}),
        (
            NEWER,
            {
                "schemaVersion": "bedrock-conversation-2024",
                "messages": [
                    {"role": "user", "content": [{"text": "What is 0?"}]},
                    {"role": "assistant", "content": [{"text": "It is 0."}]},
                ],
            },
        ),
    ],
)
def test_what_ft_writes_is_what_the_model_is_tuned_on(rig, tmp_path, model, line):
    rig.recipe, rig.data = recipe("bedrock", model), written(tmp_path, model, USER, ANSWER)
    assert json.loads(rig.data.train.read_text().splitlines()[0]) == line
    assert ended(rig, rig.provider.upload(rig.data)) == ("succeeded", "")


def test_a_file_of_pairs_comes_through_as_it_is(tmp_path):
    source = tmp_path / "pairs.jsonl"
    text = "".join(ROWS["completion"].replace("%d", str(number)) + "\n" for number in range(100))
    source.write_text(text)
    made = prepare(
        DataRequest(train=source.name, folder=tmp_path, rules=rules(LLAMA)), tmp_path / "prepared", processes=1
    )
    assert [json.loads(line) for line in made.train.read_text().splitlines()] == [
        json.loads(line) for line in text.splitlines()
    ]


@pytest.mark.parametrize(
    ("messages", "lost"),
    [
        (({"role": "system", "content": "Be brief."}, USER, ANSWER), "system messages"),
        ((USER, ANSWER, USER, ANSWER), "earlier turns"),
    ],
)
def test_what_a_pair_cannot_say_stops_it(tmp_path, messages, lost):
    with pytest.raises(DataError) as caught:
        written(tmp_path, LLAMA, *messages)
    (found,) = caught.value.problems
    assert (found.code, lost in found.what) == ("E247", True)
    # Conversations say it.
    assert written(tmp_path, NEWER, *messages).train_rows == 100


@pytest.mark.parametrize("model", [LLAMA, NEWER])
def test_too_few_rows_are_told_before_anything_is_sent(tmp_path, model):
    with pytest.raises(DataError) as caught:
        written(tmp_path, model, USER, ANSWER, rows=99)
    assert [each.code for each in caught.value.problems] == ["E248"]


def test_the_request(rig):
    rig.create(KEY)
    (sent,) = rig.sandbox.bodies("create")
    name = f"train-{hashlib.sha256(rig.data.train.read_bytes()).hexdigest()[:16]}.jsonl"
    assert sent["baseModelIdentifier"] == LLAMA
    assert sent["trainingDataConfig"] == {"s3Uri": f"s3://{BUCKET}/ft/{'d' * 32}/{name}"}
    assert (sent["roleArn"], sent["hyperParameters"]) == (ROLE, {"epochCount": "3"})
    authorized = next(request.headers["authorization"] for name, request, _ in rig.sandbox.seen if name == "create")
    assert "/us-west-2/bedrock/" in authorized


@pytest.mark.parametrize(
    ("model", "format", "fits"),
    [
        (LLAMA, "completion", True),
        (LLAMA, "bedrock", False),
        (NEWER, "completion", False),
        (MODEL, "completion", False),
    ],
)
def test_rows_that_the_model_does_not_read_are_not_sent(rig, model, format, fits):
    rows = RemoteData(ids={**rig.provider.upload(rig.data).ids, "format": format})
    if fits:
        rig.provider.create(recipe("bedrock", model), rows, KEY)
    else:
        with pytest.raises(ProviderError) as caught:
            rig.provider.create(recipe("bedrock", model), rows, KEY)
        (found,) = caught.value.problems
        assert (found.code, model in found.why) == ("E414", True)
    assert (len(rig.sandbox.ledger()) == 1) is fits


def test_the_open_weights_are_the_same_model_there():
    assert called(load(), "bedrock", "meta-llama/Llama-3.3-70B-Instruct") == NEWER
    assert called(load(), "local", NEWER) == "meta-llama/Llama-3.3-70B-Instruct"


# What answers.


def test_llama_that_amazon_hosts_on_demand_is_deployed_and_the_other_is_not(rig, tmp_path):
    def tuned(model):
        format = "completion" if model == LLAMA else "bedrock"
        rig.recipe, rig.data = recipe("bedrock", model), data(tmp_path, format, rows=100, digest=format[0] * 64)
        job = rig.create(f"ft_{format}-a1")
        rig.sandbox.clock.advance(60)
        return rig.provider.poll(job.remote_id, None).artifact

    newer, older = tuned(NEWER), tuned(LLAMA)
    while (there := rig.provider.deploy("bot-v1", newer)) is None:
        pass
    (one,) = rig.sandbox.deployments.there()
    assert (there.kind, there.model) == ("bedrock", f"converse/{one.arn}")
    assert there.params == {"aws_region_name": "us-west-2"}
    with pytest.raises(ProviderError) as caught:
        rig.provider.deploy("bot-v2", older)
    assert "on-demand" in caught.value.problems[0].why
    assert rig.provider.hosting(LLAMA).usd_per_hour is None
    assert "Provisioned Throughput" in rig.provider.hosting(LLAMA).fix


# Processes of one home in different regions.


@pytest.fixture
def elsewhere(rig, tmp_path):
    """The same adapter in a process whose region is that of Nova, with a bucket of its own there."""
    rig.sandbox.storage.add("other-bucket")
    environ = {**rig.server.environment, "AWS_REGION": "us-east-1", "FT_BEDROCK_BUCKET": "other-bucket"}
    return hosted_bedrock.provider(tmp_path, environ)


def test_a_job_is_found_watched_and_read_from_another_region(rig, elsewhere, tmp_path):
    rig.sandbox.timing = Timing().scaled(1000)
    job = rig.create(KEY)
    assert [each.remote_id for each in elsewhere.find(KEY)] == [job.remote_id]
    assert elsewhere.poll(job.remote_id, None).state == "queued"
    rig.sandbox.clock.advance(60_000)
    seen = elsewhere.poll(job.remote_id, None)
    assert (seen.state, bool(seen.metrics)) == ("succeeded", True)
    (table,) = elsewhere.fetch_results(job.remote_id, tmp_path / "r")
    assert table.name == "step_wise_training_metrics.csv"
    # S3 sends who asks in another region away.
    read = [request.headers["authorization"] for name, request, _ in rig.sandbox.seen if name == "download"]
    assert read
    assert all("/us-west-2/s3/" in each for each in read)


def test_a_job_is_stopped_from_another_region(rig, elsewhere):
    job = rig.create(KEY)
    elsewhere.cancel(job.remote_id)
    assert rig.live(KEY) == []
    rig.sandbox.clock.advance(60)
    assert elsewhere.poll(job.remote_id, None).state == "cancelled"


def test_what_one_process_has_uploaded_another_submits_once(rig, elsewhere):
    ids = rig.provider.upload(rig.data)
    first = elsewhere.create(rig.recipe, ids, KEY)
    assert ":us-west-2:" in first.remote_id
    assert rig.provider.create(rig.recipe, ids, KEY).remote_id == first.remote_id
    assert len(rig.sandbox.ledger()) == 1


def test_rows_that_lie_where_the_model_is_not_tuned_are_not_submitted(rig, elsewhere):
    ids = elsewhere.upload(rig.data)
    with pytest.raises(ProviderError) as caught:
        rig.provider.create(rig.recipe, ids, KEY)
    (found,) = caught.value.problems
    assert (found.code, found.field) == ("E414", "base_model")
    assert "create" not in rig.sandbox.operations()


def test_a_model_is_deployed_in_its_own_region(rig, elsewhere, tmp_path):
    rig.recipe, rig.data = recipe("bedrock", NEWER), data(tmp_path, "bedrock", rows=100)
    job = rig.create(KEY)
    rig.sandbox.clock.advance(60)
    artifact = rig.provider.poll(job.remote_id, None).artifact
    while (there := elsewhere.deploy("bot-v1", artifact)) is None:
        pass
    (one,) = rig.sandbox.deployments.there()
    assert one.region == "us-west-2"
    assert there == elsewhere.hosted_at("bot-v1") == rig.provider.hosted_at("bot-v1")
    assert there.params == {"aws_region_name": "us-west-2"}
    assert [each.name for each in elsewhere.deployed()] == ["bot-v1"]
    elsewhere.undeploy("bot-v1")
    assert rig.sandbox.deployments.there() == []


def test_only_the_own_region_has_to_answer():
    def ask(where):
        if where in away:
            raise ProviderError(Problem(code="E405", what="no", why="it is forbidden", fix="allow it"))
        return [where]

    away = {"us-west-2"}
    assert list(everywhere("us-east-1", ask)) == ["us-east-1"]
    assert list(everywhere("eu-west-1", ask)) == ["eu-west-1", "us-east-1"]
    with pytest.raises(ProviderError):
        list(everywhere("us-west-2", ask))


# The stand-in's own checks.


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ("[]", "prompt and completion, nothing else"),
        ('{"prompt": "a"}', "prompt and completion, nothing else"),
        ('{"prompt": "a", "completion": "b", "system": "c"}', "prompt and completion, nothing else"),
        ('{"prompt": [], "completion": "b"}', "are texts"),
        ('{"prompt": "a", "completion": ""}', "not empty"),
        (json.dumps({"prompt": "a" * 50_000, "completion": "b" * 46_001}), "96,000"),
        (ROWS["bedrock"], "prompt and completion, nothing else"),
        ("{", "no JSON"),
    ],
)
def test_pairs_that_are_not_as_the_guide_has_them(row, fault):
    assert fault in "; ".join(read(row.encode(), LLAMA).faults)


def test_a_pair_as_the_guide_has_it():
    assert read(ROWS["completion"].encode(), LLAMA).faults == ()
    assert read(json.dumps({"prompt": "", "completion": "b" * 96_000}).encode(), LLAMA).faults == ()
    assert read(ROWS["completion"].encode(), NEWER).faults


@pytest.mark.parametrize(
    ("model", "train", "validation", "fits"),
    [
        (LLAMA, 99, 0, False),
        (LLAMA, 99, 1, True),
        (NEWER, 9_999, 1, True),
        (NEWER, 9_999, 2, False),
        (MODEL, 7, 100, False),
        (MODEL, 20_000, 100, True),
        ("amazon.nova-2-lite-v1:0:256k", 199, 0, False),
    ],
)
def test_how_many_rows_it_takes(model, train, validation, fits):
    assert (list(sized(model, train, validation)) == []) is fits


def test_rows_that_are_held_out_count_too(rig, tmp_path):
    rig.data = data(tmp_path, "completion", rows=99, held_out=1)
    assert ended(rig, rig.provider.upload(rig.data)) == ("succeeded", "")


def test_rows_of_the_wrong_layout_and_number_fail_the_job(rig, tmp_path):
    rig.data = replace(data(tmp_path, "bedrock", rows=99, held_out=2), format="completion")
    state, why = ended(rig, rig.provider.upload(rig.data))
    assert state == "failed"
    assert "line 1: a sample has prompt and completion" in why
    assert "validation data: line 1" in why


@pytest.mark.parametrize(
    ("region", "told"), [("us-west-2", "us-west-2"), ("eu-north-1", "us-east-1"), (None, "us-east-1")]
)
def test_the_stand_in_is_in_the_region_of_its_process(monkeypatch, region, told):
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    monkeypatch.delenv("AWS_REGION", raising=False)
    if region:
        monkeypatch.setenv("AWS_REGION", region)
    server = served(BedrockSandbox())
    try:
        assert server.environment["AWS_REGION"] == told
    finally:
        server.stop()
