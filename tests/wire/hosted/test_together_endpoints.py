"""Together's stand-in for dedicated model inference, by bare HTTP: what it takes and what it refuses."""

import httpx
import pytest

from finetune.sandbox.together.endpoints import PROJECT, SLUG
from finetune.sandbox.together.jobs import Timing
from tests.support import hosted, hosted_together
from tests.wire.hosted.together_contract import Watched

TIMING = Timing(validating_s=0, pending_s=0, queued_s=0, running_s=0, packing_s=0)
CONFIG = "projects/proj_platform/configs/cr_sandbox1"
ROOT = f"/v2/projects/{PROJECT}"
ONE, NONE = {"minReplicas": 1, "maxReplicas": 1}, {"minReplicas": 0, "maxReplicas": 0}


class Bench:
    def __init__(self, folder):
        self.sandbox = Watched(timing=TIMING)
        self.server = hosted.served(self.sandbox)
        self.sandbox.endpoints.starting_s = self.sandbox.endpoints.stopping_s = 100.0
        key = {"Authorization": "Bearer sandbox-key"}
        self.http = httpx.Client(base_url=self.server.url, headers=key, trust_env=False)
        self.provider = hosted_together.TogetherProvider(hosted.kit(folder, self.server.environment))
        self.data = self.provider.upload(hosted.data(folder, "together"))
        self.model = f"projects/{PROJECT}/models/{self.train('ft_abc-a1')['model_object_id']}"

    def train(self, key):
        """A new job, as a look at it shows it."""
        recipe = hosted.recipe("together", hosted_together.MODEL)
        job = self.provider.create(recipe, self.data, key).remote_id
        return self.http.get(f"/v1/fine-tunes/{job}").json()

    def made(self, name="bot"):
        """The path of a new endpoint."""
        answer = self.http.post(f"{ROOT}/endpoints", json={"name": name})
        return f"{ROOT}/endpoints/{answer.raise_for_status().json()['id']}"

    def deploy(self, endpoint, **more):
        body = {"name": "d", "model": self.model, "config": CONFIG, "autoscaling": ONE, **more}
        return self.http.post(f"{endpoint}/deployments", json=body)

    def deployed(self):
        """The paths of an endpoint and of its deployment, which has all calls and is ready."""
        endpoint = self.made()
        known = self.deploy(endpoint).raise_for_status().json()["id"]
        split = {"trafficSplit": [{"deploymentId": known, "weight": 1}]}
        self.http.patch(endpoint, params={"updateMask": "trafficSplit"}, json=split).raise_for_status()
        self.sandbox.clock.advance(100)
        return endpoint, f"{endpoint}/deployments/{known}"

    def chat(self, model):
        return self.http.post(
            "/v1/chat/completions", json={"model": model, "messages": [{"role": "user", "content": "hi"}]}
        )


@pytest.fixture
def bench(tmp_path):
    made = Bench(tmp_path)
    yield made
    made.http.close()
    made.server.stop()
    assert made.server.broken == []
    assert made.sandbox.violations == []


def words(answer, status=400):
    assert answer.status_code == status, answer.text
    return answer.json()["error"]["message"]


@pytest.mark.parametrize("name", ["", "Bot", "a_b", "-a", "a-", "a" * 64, "a/b"])
def test_names_are_those_of_hosts(bench, name):
    assert "name" in words(bench.http.post(f"{ROOT}/endpoints", json={"name": name}))


def test_a_name_is_had_once(bench):
    endpoint = bench.made()
    assert "already exists" in words(bench.http.post(f"{ROOT}/endpoints", json={"name": "bot"}), 409)
    bench.deploy(endpoint).raise_for_status()
    assert "already exists" in words(bench.deploy(endpoint), 409)
    bench.http.delete(bench.made("other")).raise_for_status()
    bench.made("other")


@pytest.mark.parametrize(
    ("more", "word"),
    [
        ({"model": f"projects/{PROJECT}/models/ml_none"}, "model"),
        ({"model": "Qwen/Qwen3.5-4B"}, "model"),
        ({"config": "projects/proj_platform/configs/cr_none"}, "config"),
        ({"autoscaling": {"minReplicas": -1}}, "autoscaling"),
        ({"hardware": "1xnvidia-h100-80gb"}, "hardware"),
    ],
)
def test_what_no_deployment_is_made_of(bench, more, word):
    assert word in words(bench.deploy(bench.made(), **more))
    assert bench.sandbox.endpoints.deployments == []


def test_a_model_is_there_when_its_job_is_complete(bench):
    bench.sandbox.timing = Timing(validating_s=0, running_s=1000)
    job = bench.train("ft_xyz-a1")
    assert "model_object_id" not in job
    known = f"projects/{PROJECT}/models/ml_{job['id'][3:].replace('-', '')}"
    assert "model" in words(bench.http.get(f"{ROOT}/configs", params={"referenceModel": known}))
    bench.sandbox.clock.advance(2000)
    assert bench.http.get(f"{ROOT}/configs", params={"referenceModel": known}).status_code == 200
    rows = bench.http.get(f"{ROOT}/configs", params={"referenceModel": bench.model}).json()["data"]
    assert [row["id"] for row in rows] == ["cr_sandbox1", "cr_sandbox2"]


def test_it_answers_when_it_is_ready_and_has_calls(bench):
    endpoint = bench.made()
    known = bench.deploy(endpoint).json()["id"]
    bench.sandbox.clock.advance(100)
    assert "traffic split" in words(bench.chat(f"{SLUG}/bot"))
    assert bench.chat(f"{SLUG}/bot/d").status_code == 200, "a deployment can be asked by itself"
    split = {"trafficSplit": [{"deploymentId": known, "weight": 1}]}
    bench.http.patch(endpoint, params={"updateMask": "trafficSplit"}, json=split).raise_for_status()
    said = bench.chat(f"{SLUG}/bot").json()
    assert (said["model"], said["choices"][0]["message"]["content"][:21]) == (f"{SLUG}/bot", "I am sandbox_1a2b/Qwe")
    assert "non-serverless" in words(bench.chat(f"{SLUG}/none"))


def test_what_runs_or_has_calls_is_not_deleted(bench):
    endpoint, deployment = bench.deployed()
    assert "still has deployments" in words(bench.http.delete(endpoint))
    assert "must be stopped" in words(bench.http.delete(deployment))
    mask = {"updateMask": "autoscaling"}
    bench.http.patch(deployment, params=mask, json={"autoscaling": NONE}).raise_for_status()
    assert "must be stopped" in words(bench.http.delete(deployment)), "its replica has not gone yet"
    restart = bench.http.patch(deployment, params=mask, json={"autoscaling": ONE})
    assert "must be stopped before it can be restarted" in words(restart)
    bench.sandbox.clock.advance(100)
    assert "traffic split weight to 0" in words(bench.http.delete(deployment))
    split = {"trafficSplit": [{"deploymentId": deployment.rpartition("/")[2], "weight": 0}]}
    bench.http.patch(endpoint, params={"updateMask": "trafficSplit"}, json=split).raise_for_status()
    for path in (deployment, endpoint):
        bench.http.delete(path).raise_for_status()
        assert "not found" in words(bench.http.delete(path), 404)


def test_what_has_failed_stays_so(bench):
    bench.sandbox.endpoints.failing = True
    _, deployment = bench.deployed()
    assert bench.http.get(deployment).json()["status"]["state"] == "DEPLOYMENT_STATE_FAILED"
    restart = bench.http.patch(deployment, params={"updateMask": "autoscaling"}, json={"autoscaling": ONE})
    assert "cannot be restarted" in words(restart)
    assert bench.sandbox.endpoints.hours() == 0


@pytest.mark.parametrize("path", ["/v2/projects/proj_other/endpoints", f"{ROOT}/endpoints/ep_none"])
def test_what_is_not_there(bench, path):
    assert "not found" in words(bench.http.get(path), 404)
    assert bench.http.get(path, headers={"Authorization": "Bearer wrong"}).status_code == 401


def test_lists_have_pages(bench):
    for name in ("a", "b", "c"):
        bench.made(name)
    first = bench.http.get(f"{ROOT}/endpoints", params={"limit": 2}).json()
    last = bench.http.get(f"{ROOT}/endpoints", params={"limit": 2, "after": first["next_cursor"]}).json()
    assert [row["name"] for page in (first, last) for row in page["data"]] == [f"{SLUG}/{name}" for name in "abc"]
    assert "next_cursor" not in last
