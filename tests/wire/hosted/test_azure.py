"""Azure's adapter against its stand-in: where it differs from OpenAI's. What is the same is tested there."""

import json
from pathlib import Path

import pytest

from finetune import abilities
from finetune.errors import AuthenticationFailed, OutcomeUnknown, ProviderError, ProviderUnavailable
from finetune.ports import RemoteData
from finetune.providers.azure import AzureProvider, build
from finetune.sandbox.service import Reply
from tests.support import hosted
from tests.support.openai_seen import KEY, WHOLE_S, Rig, raised

SECRET = "sandbox-SECRET0123456789abcdef"


@pytest.fixture
def rigs(tmp_path):
    made = []

    def make(**how):
        made.append(Rig(tmp_path, azure=True, **how))
        return made[-1]

    yield make
    for each in made:
        each.stop()


@pytest.fixture
def rig(rigs):
    return rigs()


def uploaded(rig):
    """The data, taken in."""
    while isinstance(raised(lambda: rig.provider.upload(rig.data)), ProviderUnavailable):
        rig.after(1)
    return rig.provider.upload(rig.data)


def create(rig, key=KEY, **more):
    return rig.provider.create(rig.recipe(**more), uploaded(rig), key).remote_id


def fails(call):
    error = raised(call)
    assert error is not None
    return error, error.problems[0]


def test_what_a_create_sends(rig):
    made = create(rig)
    (sent,) = rig.sandbox.asked("create")
    assert (sent.method, sent.path, sent.query_text) == ("POST", "/openai/v1/fine_tuning/jobs", "")
    assert json.loads(sent.body) == {
        "model": "gpt-4.1-mini",
        "training_file": uploaded(rig).ids["train"],
        "method": {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 3}}},
        "suffix": "bot",
        "metadata": {"ft_run_key": KEY, "ft_recipe": "bot"},
    }
    assert sent.headers["authorization"] == "Bearer sandbox-key"
    assert rig.faults.arrived["create"] == 1
    seen = rig.provider.poll(made, None)
    assert (seen.state, seen.raw_state) == ("queued", "pending")


def test_the_training_type_stands_beside_the_rest(rig):
    recipe = rig.recipe(provider_options={"trainingType": "GlobalStandard", "suffix": "s"}, seed=3)
    assert rig.provider.check(recipe) == []
    rig.provider.create(recipe, uploaded(rig), KEY)
    (sent,) = rig.sandbox.bodies("create")
    assert (sent["trainingType"], sent["suffix"], sent["seed"]) == ("GlobalStandard", "s", 3)
    assert "extra_body" not in sent


@pytest.mark.parametrize("ending", ["", "/", "/openai/v1", "/openai/v1/"])
def test_an_endpoint_as_it_is_copied(rigs, ending):
    rig = rigs()
    rig.another(AZURE_OPENAI_ENDPOINT=f" {rig.server.url}{ending}\n").find(KEY)
    assert rig.sandbox.told() == [("GET", "/openai/v1/fine_tuning/jobs", "limit=100")]


def test_nothing_of_openais_goes_there(rigs, monkeypatch):
    own = {"OPENAI_ORG_ID": "org-1", "OPENAI_PROJECT_ID": "p", "OPENAI_CUSTOM_HEADERS": "x-gate: 1"}
    own |= {"OPENAI_BASE_URL": "http://127.0.0.1:1", "OPENAI_API_KEY": "sk-other"}
    for name, value in own.items():
        monkeypatch.setenv(name, value)
    rig = rigs(environ=own)
    rig.provider.find(KEY)
    headers = rig.sandbox.asked("list")[0].headers
    assert not {"openai-organization", "openai-project", "x-gate"} & set(headers)
    assert "sk-other" not in str(headers)


def test_a_file_waits_until_it_is_taken_in_and_is_sent_once(rig):
    rig.data = hosted.data(rig.folder, "openai", held_out=2)
    for side in ("train", "validation"):
        error, problem = fails(lambda: rig.provider.upload(rig.data))
        assert (type(error), problem.code, error.after_s) == (ProviderUnavailable, "E403", 1.0)
        assert "'pending'" in problem.why, side
        # It is there already, and is asked for again, not sent again.
        assert type(fails(lambda: rig.provider.upload(rig.data))[0]) is ProviderUnavailable
        rig.after(1)
    ids = rig.provider.upload(rig.data).ids
    assert rig.faults.arrived["upload"] == 2
    assert len(set(ids.values())) == 2
    rig.provider.create(rig.recipe(), RemoteData(ids=ids), KEY)


def test_find_goes_through_all_jobs_and_matches_itself(rig):
    for number in range(101):
        create(rig, f"other-{number}")
    mine = [create(rig), create(rig)]
    for number in range(101):
        create(rig, f"another-{number}")
    assert sorted(job.remote_id for job in rig.provider.find(KEY)) == sorted(mine)
    assert [sorted(request.query) for request in rig.sandbox.asked("list")] == [["limit"], *([["after", "limit"]] * 2)]
    assert rig.provider.find("ft_abcdefghij-a") == []


def test_what_it_is():
    provider = AzureProvider(hosted.kit(Path(), {}))
    for ability in ("Keyed", "Storing", "Pausable", "Reporting"):
        assert isinstance(provider, getattr(abilities, ability)), ability
    assert not isinstance(provider, abilities.Notifying)
    assert isinstance(build(hosted.kit(Path(), {})), AzureProvider)
    assert provider.name == "azure"


def test_a_whole_job(rig):
    job = create(rig, training={"epochs": 2, "batch_size": 4})
    rig.after(WHOLE_S)
    seen = rig.provider.poll(job, None)
    assert seen.state == "succeeded"
    assert seen.artifact["model"].startswith("gpt-4.1-mini-2025-04-14.ft-")
    assert [each["step"] for each in seen.artifact["checkpoints"]] == [6, 3]
    (path,) = rig.provider.fetch_results(job, rig.folder / "results")
    assert path.read_text().startswith("step,")
    rig.provider.cancel(job)


def test_a_job_without_result_files(rig):
    job = create(rig)
    assert rig.provider.fetch_results(job, rig.folder / "results") == []
    rig.provider.cancel(job)
    rig.provider.cancel(job)
    assert rig.provider.poll(job, None).state == "cancelled"


def test_errors_in_azures_form(rig):
    error, problem = fails(lambda: rig.provider.poll("ftjob-never", None))
    assert (type(error), problem.code) == (ProviderError, "E402")
    assert "notFound: Could not find fine tune: ftjob-never" in problem.why
    assert problem.why.startswith("Azure OpenAI says: ")
    assert "(request " in problem.why
    data = uploaded(rig)
    error, problem = fails(lambda: rig.provider.create(hosted.recipe("azure", "gpt-9"), data, KEY))
    assert (type(error), problem.code) == (ProviderError, "E407")
    assert "invalidPayload: Model gpt-9" in problem.why
    recipe = rig.recipe(provider_options={"suffix": "quota"})
    error, problem = fails(lambda: rig.provider.create(recipe, data, KEY))
    assert (type(error), problem.code) == (ProviderError, "E408")
    assert "quotaExceeded" in problem.why
    assert rig.jobs() == 0


def test_the_request_id_of_the_gateway_alone(rig):
    rig.sandbox.instead["list"] = lambda request: Reply(status=400, body=b"no", headers={"apim-request-id": "apim-7"})
    _, problem = fails(lambda: rig.provider.find(KEY))
    assert problem.why == "Azure OpenAI says: no (request apim-7)"


@pytest.mark.parametrize(("key", "status"), [("wrong-SECRET", "401"), ("sandbox-no-access", "403")])
def test_a_key_that_is_not_taken(rigs, key, status):
    rig = rigs(key=key)
    for call in (rig.provider.reach, lambda: rig.provider.find(KEY), lambda: rig.provider.upload(rig.data)):
        error, problem = fails(call)
        assert (type(error), problem.code) == (AuthenticationFailed, "E405")
        assert status in problem.what
        assert key not in str(error)


@pytest.mark.parametrize(
    ("kind", "wanted", "jobs"),
    [
        ("rate_limit", ProviderUnavailable, 0),
        ("server_error", OutcomeUnknown, 0),
        ("unavailable", OutcomeUnknown, 0),
        ("cut_before", OutcomeUnknown, 0),
        ("cut_after", OutcomeUnknown, 1),
        ("hang_after", OutcomeUnknown, 1),
        ("garbage", OutcomeUnknown, 1),
        ("slow", None, 1),
    ],
)
def test_faults_at_a_create(rigs, kind, wanted, jobs):
    rig = rigs(key=SECRET, read_s=0.5 if kind == "hang_after" else 10.0)
    data = uploaded(rig)
    rig.fault(kind, "create", seconds=30.0 if kind == "hang_after" else 0.2)
    error = raised(lambda: rig.provider.create(rig.recipe(), data, KEY))
    assert (type(error) if error else None) is wanted
    assert (rig.jobs(), rig.faults.arrived["create"]) == (jobs, 1)
    assert SECRET not in f"{error} {error!r}"
    assert len(rig.another().find(KEY)) == jobs


def test_what_is_missing(tmp_path):
    found = AzureProvider(hosted.kit(tmp_path, {})).unconfigured()
    assert [problem.what for problem in found] == [
        "AZURE_OPENAI_ENDPOINT is not set",
        "AZURE_OPENAI_API_KEY is not set",
    ]
    environ = {"AZURE_OPENAI_ENDPOINT": "mine.openai.azure.com", "AZURE_OPENAI_API_KEY": "k"}
    (problem,) = AzureProvider(hosted.kit(tmp_path, environ)).unconfigured()
    assert (problem.code, "AZURE_OPENAI_ENDPOINT is no address" in problem.what) == ("E412", True)
    environ = {**environ, "AZURE_OPENAI_ENDPOINT": "https://mine.openai.azure.com/"}
    provider = AzureProvider(hosted.kit(tmp_path, environ))
    assert provider.unconfigured() == []
    assert str(provider._wire.client.base_url) == "https://mine.openai.azure.com/openai/v1/"


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"training": {"epochs": 51}}, "training.epochs"),
        ({"provider_options": {"integrations": []}}, "provider_options.integrations"),
        ({"provider_options": {"trainingType": ""}}, "provider_options.trainingType"),
        ({"provider_options": {"trainingType": 1}}, "provider_options.trainingType"),
        ({"limits": {"data": {"region": "eu"}}}, "limits.data"),
    ],
)
def test_recipes_that_cannot(tmp_path, more, field):
    (problem,) = AzureProvider(hosted.kit(tmp_path, {})).check(hosted.recipe("azure", "m", **more))
    assert (problem.code, problem.field) == ("E414", field)


def test_a_region_that_somebody_looked_up(tmp_path):
    more = {"limits": {"data": {"region": "eu"}}, "allow_ignored": ["limits.data"]}
    assert AzureProvider(hosted.kit(tmp_path, {})).check(hosted.recipe("azure", "m", **more)) == []
