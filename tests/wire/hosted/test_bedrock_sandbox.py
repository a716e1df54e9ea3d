"""The stand-in of Amazon Bedrock and S3: by Amazon's own package, and by hand where it would not send it."""

import json
import time
import urllib.error
import urllib.request

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from finetune.sandbox.bedrock.jobs import Timing
from finetune.sandbox.bedrock.rows import read
from finetune.sandbox.bedrock.sandbox import BUCKET, ROLE, BedrockSandbox
from finetune.sandbox.faults import Fault
from tests.support.hosted import ROWS, served
from tests.support.hosted_bedrock import JOBS, MODEL, Watched
from tests.wire.hosted.bedrock_contract import OPERATIONS, answered, asked, service

TRAIN = f"s3://{BUCKET}/train.jsonl"
ROW = ROWS["bedrock"].replace("%d", "1") + "\n"
SIGNED = (
    "AWS4-HMAC-SHA256 Credential={key}/20261129/{region}/{service}/aws4_request, "
    f"SignedHeaders=host;x-amz-date, Signature={'0' * 64}"
)


@pytest.fixture
def server():
    server = served(Watched())
    server.sandbox.storage.put(TRAIN, ROW.encode() * 12)
    yield server
    server.stop()
    assert not server.broken
    for operation, request, reply in server.sandbox.seen:
        if reply.status < 400:
            assert asked(operation, request) == [], operation
        assert answered(operation, reply) == [], operation


def client(server, name="bedrock", region="us-east-1"):
    config = Config(retries={"total_max_attempts": 1}, read_timeout=10)
    keys = {"aws_access_key_id": "AKIASANDBOX", "aws_secret_access_key": "x", "region_name": region}
    return boto3.session.Session(**keys).client(name, endpoint_url=server.url, config=config)


def wanted(number=0, **more):
    return {
        "jobName": f"job-{number}",
        "customModelName": f"model-{number}",
        "roleArn": ROLE,
        "baseModelIdentifier": MODEL,
        "trainingDataConfig": {"s3Uri": TRAIN},
        "outputDataConfig": {"s3Uri": f"s3://{BUCKET}/out"},
        "hyperParameters": {"epochCount": "2"},
        **more,
    }


def refused(of):
    with pytest.raises(ClientError) as caught:
        of()
    told = caught.value.response
    return told["Error"]["Code"], told["ResponseMetadata"]["HTTPStatusCode"], told["Error"]["Message"]


def send(server, method, path, body=b"", key="AKIASANDBOX", scope="bedrock", headers=None):
    """Status and body of an answer, asked by hand."""
    request = urllib.request.Request(server.url + path, body or None, method=method)
    if key:
        request.add_header("Authorization", SIGNED.format(key=key, region="us-east-1", service=scope))
        request.add_header("X-Amz-Date", "20261129T000000Z")
    for name, value in (headers or {}).items():
        request.add_header(name, value)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


# Jobs.


def test_a_job_from_its_beginning_to_its_end(server):
    bedrock = client(server)
    arn = bedrock.create_model_customization_job(**wanted())["jobArn"]
    seen = []
    for _ in range(14):
        job = bedrock.get_model_customization_job(jobIdentifier=arn)
        words = (job["status"], *(each["status"] for each in job["statusDetails"].values()))
        if words not in seen:
            seen.append(words)
        server.sandbox.clock.advance(0.5)
    assert seen == [
        ("InProgress", "NotStarted", "NotStarted", "NotStarted"),
        ("InProgress", "InProgress", "NotStarted", "NotStarted"),
        ("InProgress", "Completed", "InProgress", "NotStarted"),
        ("InProgress", "Completed", "Completed", "InProgress"),
        ("Completed", "Completed", "Completed", "Completed"),
    ]
    assert job["outputModelArn"].startswith("arn:aws:bedrock:us-east-1:123456789012:custom-model/amazon.nova-micro")
    assert bedrock.get_model_customization_job(jobIdentifier="job-0")["jobArn"] == arn


def test_the_tables_are_in_the_bucket_at_the_end_and_not_before(server):
    arn = client(server).create_model_customization_job(
        **wanted(validationDataConfig={"validators": [{"s3Uri": TRAIN}]})
    )["jobArn"]
    s3, prefix = client(server, "s3"), f"out/model-customization-job-{arn.rpartition('/')[2]}/"
    assert s3.list_objects_v2(Bucket=BUCKET, Prefix=prefix)["KeyCount"] == 0
    server.sandbox.clock.advance(60)
    keys = [each["Key"] for each in s3.list_objects_v2(Bucket=BUCKET, Prefix=prefix)["Contents"]]
    assert [key.removeprefix(prefix) for key in keys] == [
        "training_artifacts/step_wise_training_metrics.csv",
        "validation_artifacts/post_fine_tuning_validation/validation/validation_metrics.csv",
    ]
    table = s3.get_object(Bucket=BUCKET, Key=keys[0])["Body"].read().decode().splitlines()
    assert table[0] == "step_number,epoch_number,training_loss,perplexity"
    # Three steps an epoch, of four rows each.
    assert [line.split(",")[:2] for line in table[1:]] == [[str(step), str(step // 3)] for step in range(6)]


def test_a_token_makes_one_job_however_often_it_comes(server):
    bedrock = client(server)
    first = bedrock.create_model_customization_job(**wanted(clientRequestToken="a1"))
    server.sandbox.clock.advance(60)
    assert bedrock.create_model_customization_job(**wanted(clientRequestToken="a1"))["jobArn"] == first["jobArn"]
    changed = wanted(clientRequestToken="a1", hyperParameters={"epochCount": "3"})
    assert refused(lambda: bedrock.create_model_customization_job(**changed))[:2] == ("ConflictException", 400)
    assert len(server.sandbox.ledger()) == 1


def test_a_name_is_there_once(server):
    bedrock = client(server)
    bedrock.create_model_customization_job(**wanted())
    for twice in (wanted(customModelName="other"), wanted(jobName="other")):
        code, status, words = refused(lambda twice=twice: bedrock.create_model_customization_job(**twice))
        assert (code, status) == ("ValidationException", 400)
        assert "currently in use" in words
    assert len(server.sandbox.ledger()) == 1


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"roleArn": "arn:aws:iam::123456789012:role/other"}, "role"),
        ({"baseModelIdentifier": "amazon.titan-text-lite-v1"}, "model identifier"),
        # Its time is over by the catalogue.
        ({"baseModelIdentifier": "meta.llama3-2-1b-instruct-v1:0"}, "model identifier"),
        ({"customizationType": "DISTILLATION"}, "DISTILLATION"),
        ({"hyperParameters": {"epochCount": "6"}}, "from 1 to 5"),
        ({"hyperParameters": {"epochCount": "1.5"}}, "epochCount"),
        ({"hyperParameters": {"learningRate": "0.1"}}, "learningRate"),
        ({"hyperParameters": {"learningRate": "fast"}}, "learningRate"),
        ({"hyperParameters": {"batchSize": "1"}}, "not supported"),
        ({"trainingDataConfig": {"s3Uri": f"s3://{BUCKET}/other"}}, "does not exist"),
        ({"validationDataConfig": {"validators": [{"s3Uri": "s3://other/train.jsonl"}]}}, "does not exist"),
        ({"outputDataConfig": {"s3Uri": "s3://other-bucket"}}, "output bucket"),
    ],
)
def test_what_no_job_can_be_made_of_is_refused(server, more, words):
    code, status, said = refused(lambda: client(server).create_model_customization_job(**wanted(**more)))
    assert (code, status) == ("ValidationException", 400)
    assert words in said
    assert server.sandbox.ledger() == []


@pytest.mark.parametrize(
    "more",
    [
        {"jobName": "a_b"},
        {"jobName": "a" * 64},
        {"customModelName": "a b"},
        {"customModelName": "a--b"},
        {"clientRequestToken": "a_b"},
        {"hyperParameters": {"epochCount": 2}},
        {"trainingDataConfig": {"s3Uri": "s3://sandbox-bucket/a b"}},
        {"colour": "red"},
        {"jobTags": [{"key": "a"}]},
    ],
)
def test_a_body_that_is_not_as_it_is_described_is_refused(server, more):
    status, answer = send(server, "POST", JOBS, json.dumps(wanted(**more)).encode())
    assert status == 400
    assert "validation error" in json.loads(answer)["message"]
    assert server.sandbox.ledger() == []


def test_a_model_is_tuned_where_it_is_tuned(server):
    code, _, words = refused(lambda: client(server, region="us-west-2").create_model_customization_job(**wanted()))
    assert (code, "us-west-2" in words) == ("ValidationException", True)
    llama = wanted(baseModelIdentifier="meta.llama3-3-70b-instruct-v1:0:128k")
    assert client(server, region="us-west-2").create_model_customization_job(**llama)["jobArn"]
    # Of another region nobody hears.
    assert client(server).list_model_customization_jobs()["modelCustomizationJobSummaries"] == []


@pytest.mark.parametrize(
    ("name", "phase", "words"),
    [("bot-fail-data", "validationDetails", "validation"), ("bot-fail-train", "trainingDetails", "internal")],
)
def test_ends_to_try_by_the_name(server, name, phase, words):
    bedrock = client(server)
    arn = bedrock.create_model_customization_job(**wanted(customModelName=name))["jobArn"]
    server.sandbox.clock.advance(60)
    job = bedrock.get_model_customization_job(jobIdentifier=arn)
    assert (job["status"], job["statusDetails"][phase]["status"]) == ("Failed", "Failed")
    assert words in job["failureMessage"]
    assert "outputModelArn" not in job


def test_no_quota(server):
    quota = wanted(customModelName="quota")
    assert refused(lambda: client(server).create_model_customization_job(**quota))[:2] == (
        "ServiceQuotaExceededException",
        400,
    )
    assert server.sandbox.ledger() == []


def test_bad_rows_fail_the_job(server):
    server.sandbox.storage.put(TRAIN, ROW.encode() * 7 + b'{"messages": []}\n')
    arn = client(server).create_model_customization_job(**wanted())["jobArn"]
    server.sandbox.clock.advance(60)
    job = client(server).get_model_customization_job(jobIdentifier=arn)
    assert job["status"] == "Failed"
    assert "line 8: messages are at least two" in job["failureMessage"]


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ("[]", "object"),
        ('{"messages": [], "x": 1}', "unknown fields: x"),
        ('{"schemaVersion": "1", "messages": []}', "schemaVersion"),
        ('{"system": "x", "messages": []}', "system"),
        ('{"messages": [{"role": "assistant", "content": [{"text": "a"}]}, {}]}', "the user's"),
        ('{"messages": [{"role": "user", "content": "a"}, {}]}', "list of parts"),
        ('{"messages": [{"role": "user", "content": [{"text": ""}]}, {}]}', "not empty"),
        ('{"messages": [{"role": "user", "content": [{"audio": 1}]}, {}]}', "a part has one of"),
        ("{", "no JSON"),
    ],
)
def test_rows_that_are_not_as_the_guide_has_them(row, fault):
    assert fault in "; ".join(read(row.encode(), MODEL).faults)


def test_a_row_as_the_guide_has_it():
    assert read(ROW.encode() * 3, MODEL).faults == ()
    assert read(ROW.encode() * 3, MODEL).rows == 3


def test_an_odd_state_when_told_so(server):
    bedrock = client(server)
    arn = bedrock.create_model_customization_job(**wanted())["jobArn"]
    server.sandbox.faults.lay(Fault(kind="odd_state", on="retrieve"))
    assert bedrock.get_model_customization_job(jobIdentifier=arn)["status"] == "Dreaming"
    assert answered("retrieve", server.sandbox.seen.pop()[2]) != []
    assert bedrock.get_model_customization_job(jobIdentifier=arn)["status"] == "InProgress"


def test_a_stop_takes_a_moment_and_what_has_ended_cannot_be_stopped(server):
    server.sandbox.timing = Timing().scaled(10)
    bedrock = client(server)
    arn = bedrock.create_model_customization_job(**wanted())["jobArn"]
    server.sandbox.clock.advance(30)
    for _ in range(2):
        bedrock.stop_model_customization_job(jobIdentifier=arn)
        assert bedrock.get_model_customization_job(jobIdentifier=arn)["status"] == "Stopping"
        # The second wish puts nothing off.
        server.sandbox.clock.advance(3)
    assert not server.sandbox.ledger()[0].live
    job = bedrock.get_model_customization_job(jobIdentifier=arn)
    assert (job["status"], job["statusDetails"]["trainingDetails"]["status"]) == ("Stopped", "Stopped")
    assert refused(lambda: bedrock.stop_model_customization_job(jobIdentifier=arn))[0] == "ConflictException"
    server.sandbox.clock.advance(600)
    assert client(server, "s3").list_objects_v2(Bucket=BUCKET, Prefix="out/")["KeyCount"] == 0


def test_an_unknown_job(server):
    bedrock = client(server)
    for call in (bedrock.get_model_customization_job, bedrock.stop_model_customization_job):
        assert refused(lambda call=call: call(jobIdentifier="never"))[:2] == ("ResourceNotFoundException", 404)


def test_pages_come_newest_first_and_new_jobs_shift_nothing(server):
    bedrock = client(server)
    for number in range(5):
        bedrock.create_model_customization_job(**wanted(number))
    first = bedrock.list_model_customization_jobs(maxResults=2)
    bedrock.create_model_customization_job(**wanted(5))
    rest = bedrock.list_model_customization_jobs(maxResults=9, nextToken=first["nextToken"])
    rows = first["modelCustomizationJobSummaries"] + rest["modelCustomizationJobSummaries"]
    assert [row["jobName"] for row in rows] == ["job-4", "job-3", "job-2", "job-1", "job-0"]
    assert "nextToken" not in rest
    found = bedrock.list_model_customization_jobs(nameContains="b-3", sortBy="CreationTime", sortOrder="Ascending")
    assert [row["jobName"] for row in found["modelCustomizationJobSummaries"]] == ["job-3"]
    server.sandbox.clock.advance(60)
    done = bedrock.list_model_customization_jobs(statusEquals="Completed")["modelCustomizationJobSummaries"]
    assert len(done) == 6
    assert all(row["customModelArn"] for row in done)


@pytest.mark.parametrize("query", ["maxResults=0", "maxResults=x", "nextToken=x", "sortBy=Name", "colour=red"])
def test_odd_parameters_are_refused(server, query):
    status, answer = send(server, "GET", f"{JOBS}?{query}")
    assert status == 400
    assert "validation error" in json.loads(answer)["message"]


def test_lists_may_lag(server):
    bedrock = client(server)
    arn = bedrock.create_model_customization_job(**wanted())["jobArn"]
    server.sandbox.faults.list_lag_s = 5
    assert bedrock.list_model_customization_jobs()["modelCustomizationJobSummaries"] == []
    assert bedrock.get_model_customization_job(jobIdentifier=arn)["jobArn"] == arn
    server.sandbox.clock.advance(6)
    assert len(bedrock.list_model_customization_jobs()["modelCustomizationJobSummaries"]) == 1


def test_the_ledger_has_every_job(server):
    bedrock = client(server)
    bedrock.create_model_customization_job(**wanted(jobName="ft.x-a1"))
    bedrock.create_model_customization_job(**wanted(1))
    first, second = server.sandbox.ledger()
    assert (first.key, second.key) == ("ft_x-a1", None)
    assert first.live
    assert first.paid
    assert first.raw_state == "InProgress"


@pytest.mark.alone
def test_ten_thousand_jobs_are_no_burden():
    from finetune.sandbox.service import Request

    sandbox = BedrockSandbox()
    sandbox.storage.put(TRAIN, ROW.encode() * 12)
    routes = {route.operation: route for route in sandbox.routes()}
    headers = {"authorization": SIGNED.format(key="AKIASANDBOX", region="us-east-1", service="bedrock")}

    def ask(operation, body=b"", query="", **parts):
        request = Request(method="", path="", query_text=query, headers=headers, body=body, parts=parts)
        return routes[operation].answer(request).body

    for number in range(10_000):
        ask("create", json.dumps(wanted(number)).encode())
    sandbox.clock.advance(60)
    ask("retrieve", job="job-0")
    begun = time.perf_counter()
    for number in range(1000):
        ask("retrieve", job=f"job-{number}")
    retrieve_s = (time.perf_counter() - begun) / 1000
    begun = time.perf_counter()
    for _ in range(20):
        ask("list", query="nameContains=job-77&maxResults=10")
    list_s = (time.perf_counter() - begun) / 20
    # Far above what it takes, so that a busy machine does not matter.
    assert retrieve_s < 0.005
    assert list_s < 0.1


# Who asks.


@pytest.mark.parametrize(
    ("key", "scope", "path", "status", "word"),
    [
        (None, "bedrock", JOBS, 403, b"Missing Authentication Token"),
        ("AKIAOTHER", "bedrock", JOBS, 403, b"security token"),
        ("AKIASANDBOXNOACCESS", "bedrock", JOBS, 403, b"not authorized"),
        ("AKIASANDBOX", "s3", JOBS, 403, b"scoped"),
        (None, "s3", f"/{BUCKET}?list-type=2", 403, b"<Code>AccessDenied</Code>"),
        ("AKIAOTHER", "s3", f"/{BUCKET}?list-type=2", 403, b"<Code>InvalidAccessKeyId</Code>"),
        ("AKIASANDBOX", "bedrock", f"/{BUCKET}?list-type=2", 403, b"<Code>SignatureDoesNotMatch</Code>"),
    ],
)
def test_who_does_not_sign_is_refused(server, key, scope, path, status, word):
    got, answer = send(server, "GET", path, key=key, scope=scope)
    assert got == status
    assert word in answer


# Deployments.


def tuned(server, name="model-0"):
    arn = client(server).create_model_customization_job(**wanted(customModelName=name))["jobArn"]
    server.sandbox.clock.advance(60)
    return client(server).get_model_customization_job(jobIdentifier=arn)["outputModelArn"]


def test_a_deployment_from_its_beginning_to_its_end(server):
    bedrock, model = client(server), tuned(server)
    arn = bedrock.create_custom_model_deployment(modelDeploymentName="ft-bot", modelArn=model, description="x=y")[
        "customModelDeploymentArn"
    ]
    seen = [bedrock.get_custom_model_deployment(customModelDeploymentIdentifier=arn)["status"] for _ in range(3)]
    assert seen == ["Creating", "Active", "Active"]
    one = bedrock.get_custom_model_deployment(customModelDeploymentIdentifier="ft-bot")
    assert (one["modelArn"], one["description"], one["modelDeploymentName"]) == (model, "x=y", "ft-bot")
    (row,) = bedrock.list_custom_model_deployments(nameContains="ft-")["modelDeploymentSummaries"]
    assert (row["customModelDeploymentName"], row["status"]) == ("ft-bot", "Active")
    twice = {"modelDeploymentName": "ft-bot", "modelArn": model}
    assert "in use" in refused(lambda: bedrock.create_custom_model_deployment(**twice))[2]
    bedrock.delete_custom_model_deployment(customModelDeploymentIdentifier="ft-bot")
    assert bedrock.list_custom_model_deployments()["modelDeploymentSummaries"] == []
    gone = "ResourceNotFoundException", 404
    assert refused(lambda: bedrock.get_custom_model_deployment(customModelDeploymentIdentifier=arn))[:2] == gone
    assert refused(lambda: bedrock.delete_custom_model_deployment(customModelDeploymentIdentifier=arn))[:2] == gone


def test_a_token_that_was_used_deploys_nothing_anew(server):
    bedrock, model = client(server), tuned(server)
    said = {"modelDeploymentName": "ft-bot", "modelArn": model, "clientRequestToken": "t"}
    first = bedrock.create_custom_model_deployment(**said)
    for _ in range(2):
        bedrock.get_custom_model_deployment(customModelDeploymentIdentifier="ft-bot")
    bedrock.delete_custom_model_deployment(customModelDeploymentIdentifier="ft-bot")
    assert (
        bedrock.create_custom_model_deployment(**said)["customModelDeploymentArn"]
        == (first["customModelDeploymentArn"])
    )
    assert server.sandbox.deployments.there() == []


def test_only_a_model_that_is_tuned_is_deployed(server):
    arn = "arn:aws:bedrock:us-east-1:123456789012:custom-model/amazon.nova-micro-v1:0:128k/aaaaaaaaaaaa"
    said = {"modelDeploymentName": "ft-bot", "modelArn": arn}
    assert refused(lambda: client(server).create_custom_model_deployment(**said))[:2] == (
        "ResourceNotFoundException",
        404,
    )


def test_a_deployment_fails_by_the_models_name(server):
    bedrock, model = client(server), tuned(server, "bot-fail-deploy")
    bedrock.create_custom_model_deployment(modelDeploymentName="ft-bot", modelArn=model)
    seen = [bedrock.get_custom_model_deployment(customModelDeploymentIdentifier="ft-bot") for _ in range(2)]
    assert (seen[1]["status"], bool(seen[1]["failureMessage"])) == ("Failed", True)


# The storage.


def test_objects(server):
    s3 = client(server, "s3")
    s3.put_object(Bucket=BUCKET, Key="ft/a b/x.jsonl", Body=b"one", IfNoneMatch="*", ContentType="application/jsonl")
    taken = refused(lambda: s3.put_object(Bucket=BUCKET, Key="ft/a b/x.jsonl", Body=b"two", IfNoneMatch="*"))
    assert taken[:2] == ("PreconditionFailed", 412)
    got = s3.get_object(Bucket=BUCKET, Key="ft/a b/x.jsonl")
    assert (got["Body"].read(), got["ContentType"]) == (b"one", "application/jsonl")
    s3.put_object(Bucket=BUCKET, Key="ft/a b/x.jsonl", Body=b"two")
    assert s3.get_object(Bucket=BUCKET, Key="ft/a b/x.jsonl")["Body"].read() == b"two"
    for _ in range(2):
        s3.delete_object(Bucket=BUCKET, Key="ft/a b/x.jsonl")
    assert refused(lambda: s3.get_object(Bucket=BUCKET, Key="ft/a b/x.jsonl"))[:2] == ("NoSuchKey", 404)


def test_names_are_listed_in_order_page_by_page(server):
    s3 = client(server, "s3")
    for name in ("ft/b", "ft/a & b", "other", "ft/c"):
        s3.put_object(Bucket=BUCKET, Key=name, Body=b"x")
    pages = list(
        s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix="ft/", PaginationConfig={"PageSize": 1})
    )
    assert [each["Key"] for page in pages for each in page["Contents"]] == ["ft/a & b", "ft/b", "ft/c"]
    assert len(pages) == 3
    (one,) = pages[0]["Contents"]
    assert (one["Size"], one["ETag"].strip('"')) == (1, "9dd4e461268c8034f5c8564e155c67a6")


def test_an_unknown_bucket(server):
    s3 = client(server, "s3")
    for call in (
        lambda: s3.list_objects_v2(Bucket="other-bucket"),
        lambda: s3.put_object(Bucket="other-bucket", Key="x", Body=b"x"),
        lambda: s3.get_object(Bucket="other-bucket", Key="x"),
    ):
        assert refused(call)[:2] == ("NoSuchBucket", 404)


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("PUT", f"/{BUCKET}/x", {"x-amz-checksum-crc32": "AAAAAA=="}, 400),
        ("PUT", f"/{BUCKET}/x", {"If-None-Match": '"a"'}, 501),
        ("PUT", f"/{BUCKET}/x", {"Content-Encoding": "aws-chunked"}, 501),
        ("GET", f"/{BUCKET}", {}, 501),
        ("GET", f"/{BUCKET}?list-type=2&delimiter=/", {}, 501),
        ("GET", f"/{BUCKET}?list-type=2&max-keys=x", {}, 400),
        ("GET", f"/{BUCKET}?list-type=2&continuation-token=%C3%BC", {}, 400),
        ("HEAD", f"/{BUCKET}/x", {}, 405),
    ],
)
def test_odd_requests_of_the_storage_are_refused(server, method, path, headers, status):
    body = b"abc" if method == "PUT" else b""
    assert send(server, method, path, body, scope="s3", headers=headers)[0] == status
    assert server.sandbox.storage.get(f"s3://{BUCKET}/x") is None


# All of it.


def test_every_operation_of_the_stand_in_is_one_of_amazons(server):
    own = {route.operation for route in server.sandbox.routes()} - {"files", "upload", "download", "delete_file"}
    assert own == set(OPERATIONS)
    assert set(OPERATIONS.values()) <= set(service().operation_names)


def test_the_environment_leads_here(server):
    assert server.environment == {
        "AWS_ENDPOINT_URL_BEDROCK": server.url,
        "AWS_ENDPOINT_URL_S3": server.url,
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "AKIASANDBOX",
        "AWS_SECRET_ACCESS_KEY": "sandbox-secret",
        "FT_BEDROCK_BUCKET": BUCKET,
        "FT_BEDROCK_ROLE_ARN": ROLE,
    }
