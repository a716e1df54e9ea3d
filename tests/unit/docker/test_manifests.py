"""docker/k8s: valid, at one with each other and with docker/compose.yaml."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from finetune.settings import from_environment
from finetune.tasks import QUEUES
from tests.support.compose import DOCKER, Service, services

#: A release that many clusters are still on, and the newest in November 2026.
VERSIONS = ("1.33", "1.37")
FILES = sorted((DOCKER / "k8s").rglob("*.yaml"))
#: Our container by its compose service.
TWINS = {"remote-worker": "worker-remote", "gpu-worker-cuda": "worker-gpu", "server": "server"}
ENV = {"POSTGRES_PASSWORD": "p", "REDIS_PASSWORD": "$(REDIS_PASSWORD)", "FT_API_KEY": "k", "LITELLM_MASTER_KEY": "sk-l"}
ENV["OPENAI_WEBHOOK_SECRET"] = "whsec"
ENV["FT_ARTIFACTS"] = ""
Resource = dict[str, Any]


def resources(*folders: str) -> Iterator[tuple[Path, Resource]]:
    for path in FILES:
        if not folders or path.parent.name in folders:
            yield from ((path, one) for one in yaml.safe_load_all(path.read_text()))


def found(kind: str, name: str) -> Resource:
    (one,) = [one for _, one in resources() if (one["kind"], one["metadata"]["name"]) == (kind, name)]
    return one


def names(kind: str) -> set[str]:
    return {one["metadata"]["name"] for _, one in resources() if one["kind"] == kind}


def workloads() -> list[Resource]:
    return [one for _, one in resources() if one["kind"] in ("Deployment", "StatefulSet")]


def pod(workload: Resource) -> Any:
    return workload["spec"]["template"]["spec"]


def container(workload: Resource) -> Any:
    (only,) = pod(workload)["containers"]
    return only


@pytest.fixture(scope="module")
def compose() -> dict[str, Service]:
    return services(ENV)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_each_is_what_kubernetes_allows(path: Path, version: str) -> None:
    for one in yaml.safe_load_all(path.read_text()):
        if one["kind"] != "ScaledObject":
            kubernetes_validate.validate(one, version, strict=True)


@pytest.mark.parametrize(
    ("path", "value"),
    [(("spec", "replicas"), "one"), (("spec", "replica"), 1), (("spec", "template", "spec", "containers"), None)],
)
def test_the_validator_finds_a_fault(path: tuple[str, ...], value: object) -> None:
    one = place = found("Deployment", "server")
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(one, VERSIONS[-1], strict=True)


def test_none_is_bound_to_a_namespace_and_none_is_there_twice() -> None:
    assert [path.name for path, one in resources() if "namespace" in one["metadata"]] == []
    every = [(one["kind"], one["metadata"]["name"]) for _, one in resources()]
    assert len(every) == len(set(every))


def test_servers_secrets_and_what_needs_an_operator_are_examples_only() -> None:
    kinds = {one["kind"] for _, one in resources("k8s")}
    assert kinds == {"ConfigMap", "PersistentVolumeClaim", "Deployment", "Service"}
    assert names("StatefulSet") == {"redis", "postgres"}


@pytest.mark.parametrize("service", TWINS)
def test_ours_run_what_docker_runs(service: str, compose: dict[str, Service]) -> None:
    twin, mine = compose[service], found("Deployment", TWINS[service])
    box = container(mine)
    assert tuple(box["args"]) == twin.command
    assert "command" not in box, "it would replace the image's entrypoint"
    assert box["image"] == twin.entry["image"]
    assert pod(mine)["terminationGracePeriodSeconds"] >= twin.grace_s
    own = box.get("env", [])
    assert twin.environment.items() >= {each["name"]: each["value"] for each in own if "value" in each}.items()
    sources = [next(iter(each.values()))["name"] for each in box["envFrom"]]
    got = {each["name"] for each in own} | variables(sources)
    assert twin.environment.keys() <= got
    config = found("ConfigMap", "ft")["data"]
    assert {name: twin.environment[name] for name in config} == config


def variables(sources: list[str]) -> set[str]:
    holders = [one for _, one in resources() if one["kind"] in ("ConfigMap", "Secret")]
    return {
        key for one in holders if one["metadata"]["name"] in sources for key in one.get("data", one.get("stringData"))
    }


@pytest.mark.parametrize("workload", TWINS.values())
def test_whoever_has_the_bucket_of_adapters_has_its_credentials(workload: str) -> None:
    """All of ours: who trains writes there, who promotes or serves reads."""
    mine = found("Deployment", workload)
    box = container(mine)
    sources = {ref["name"]: ref for each in box["envFrom"] for ref in each.values()}
    assert "FT_ARTIFACTS" in variables(["ft"])
    assert from_environment({"FT_HOME": "ft", **found("ConfigMap", "ft")["data"]}).artifacts is None, "until it is set"
    assert sources["ft-bucket"]["optional"], "a cluster may know the pods by other means"
    credentials = found("Secret", "ft-bucket")["stringData"]
    assert credentials.keys() <= services({**ENV, **dict.fromkeys(credentials, "x")})["gpu-worker"].environment.keys()
    (volume,) = [each for each in pod(mine)["volumes"] if "secret" in each]
    (mount,) = [each for each in box["volumeMounts"] if each["name"] == volume["name"]]
    assert volume["secret"]["optional"]
    assert mount["readOnly"]
    (file,) = found("Secret", volume["secret"]["secretName"])["stringData"]
    assert f"{mount['mountPath']}/{file}" in (DOCKER / "k8s" / "examples" / "secret.yaml").read_text()


def test_the_example_servers_run_what_docker_runs(compose: dict[str, Service]) -> None:
    redis, postgres = found("StatefulSet", "redis"), found("StatefulSet", "postgres")
    assert tuple(container(redis)["args"]) == compose["redis"].command
    for mine, twin in ((redis, compose["redis"]), (postgres, compose["postgres"])):
        box = container(mine)
        assert box["image"] == twin.entry["image"]
        assert twin.environment.keys() <= {each["name"] for each in box["env"]}
        assert {claim["metadata"]["name"] for claim in mine["spec"]["volumeClaimTemplates"]} == {
            mount["name"] for mount in box["volumeMounts"]
        }


def test_whoever_is_named_is_there() -> None:
    for one in workloads():
        box = container(one)
        for source in box.get("envFrom", []):
            for kind, ref in source.items():
                assert ref["name"] in names("ConfigMap" if kind == "configMapRef" else "Secret")
        for each in box.get("env", []):
            if "valueFrom" in each:
                ref = each["valueFrom"]["secretKeyRef"]
                assert ref["key"] in found("Secret", ref["name"])["stringData"]
        for volume in pod(one).get("volumes", []):
            if "persistentVolumeClaim" in volume:
                assert volume["persistentVolumeClaim"]["claimName"] in names("PersistentVolumeClaim")
        labels = one["spec"]["template"]["metadata"]["labels"]
        assert one["spec"]["selector"]["matchLabels"].items() <= labels.items()
    for name in names("Service"):
        service = found("Service", name)
        (target,) = [
            one
            for one in workloads()
            if service["spec"]["selector"].items() <= one["spec"]["template"]["metadata"]["labels"].items()
        ]
        ports = {port["name"]: port["containerPort"] for port in container(target)["ports"]}
        for port in service["spec"]["ports"]:
            assert ports[port["targetPort"]] == port["port"]


def test_the_addresses_in_the_secret_are_those_of_the_examples(compose: dict[str, Service]) -> None:
    secret = found("Secret", "ft")["stringData"]
    for name in ("FT_DATABASE_URL", "FT_BROKER_URL"):
        without = re.sub(r"(?<=:)[^:/@]*(?=@)", "", compose["remote-worker"].environment[name])
        assert secret[name] == without


def test_secrets_hold_names_only() -> None:
    for name in names("Secret"):
        for key, value in found("Secret", name)["stringData"].items():
            assert not value or (key.endswith("_URL") and ":@" in value), f"{name}: {key}"


def test_the_home_is_shared() -> None:
    assert found("PersistentVolumeClaim", "ft-home")["spec"]["accessModes"] == ["ReadWriteMany"]
    home = found("ConfigMap", "ft")["data"]["FT_HOME"]
    for name in TWINS.values():
        mounts = {mount["name"]: mount["mountPath"] for mount in container(found("Deployment", name))["volumeMounts"]}
        assert mounts["home"] == home


@pytest.mark.parametrize("workload", workloads(), ids=lambda one: one["metadata"]["name"])
def test_each_is_probed_bounded_and_has_few_rights(workload: Resource) -> None:
    box, around = container(workload), pod(workload)
    assert "readinessProbe" in box
    assert {"cpu", "memory"} <= box["resources"]["requests"].keys()
    assert "memory" in box["resources"]["limits"]
    assert around["securityContext"]["runAsNonRoot"] is True
    assert around["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert around["automountServiceAccountToken"] is False
    assert box["securityContext"]["allowPrivilegeEscalation"] is False
    assert box["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    if workload["kind"] == "Deployment":
        assert box["securityContext"]["readOnlyRootFilesystem"] is True
        assert around["securityContext"]["runAsUser"] == 10001, "the user of the image"


def test_a_worker_is_never_killed_for_what_it_waits_for() -> None:
    for name in ("worker-remote", "worker-gpu"):
        assert container(found("Deployment", name)).keys() & {"livenessProbe", "startupProbe"} == set()


def test_the_gpu_worker_asks_for_a_gpu() -> None:
    workload = found("Deployment", "worker-gpu")
    wanted = container(workload)["resources"]
    assert wanted["limits"]["nvidia.com/gpu"] == wanted["requests"]["nvidia.com/gpu"] == 1
    assert workload["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}


#: What KEDA 2 reads of a ScaledObject and of its prometheus trigger, as keda.sh/docs has it; no validator has its CRD.
SPEC = {
    "scaleTargetRef", "pollingInterval", "cooldownPeriod", "initialCooldownPeriod", "idleReplicaCount",
    "minReplicaCount", "maxReplicaCount", "fallback", "advanced", "triggers",
}  # fmt: skip
TRIGGER = {"type", "metadata", "authenticationRef", "name", "metricType", "useCachedMetrics"}
PROMETHEUS = {
    "serverAddress", "query", "threshold", "activationThreshold", "namespace", "ignoreNullValues", "unsafeSsl",
    "customHeaders", "queryParameters", "authModes", "timeout",
}  # fmt: skip


def test_keda_scales_the_remote_workers_by_our_metric() -> None:
    scaled = found("ScaledObject", "worker-remote")
    assert scaled.keys() == {"apiVersion", "kind", "metadata", "spec"}
    assert scaled["apiVersion"] == "keda.sh/v1alpha1"
    spec = scaled["spec"]
    assert spec.keys() <= SPEC
    target = spec["scaleTargetRef"]
    assert target["name"] in names(target["kind"])
    assert found(target["kind"], target["name"])["apiVersion"] == target["apiVersion"]
    assert 1 <= spec["minReplicaCount"] < spec["maxReplicaCount"], "without a worker nobody sweeps"
    assert spec["fallback"].keys() == {"failureThreshold", "replicas"}
    (trigger,) = spec["triggers"]
    assert trigger["type"] == "prometheus"
    assert trigger.keys() <= TRIGGER
    asked = trigger["metadata"]
    assert {"serverAddress", "query", "threshold"} <= asked.keys() <= PROMETHEUS
    assert [key for key, value in asked.items() if not isinstance(value, str)] == [], "KEDA reads texts only"
    assert float(asked["threshold"]) > 0
    metric = re.fullmatch(r'max\((\w+)\{queue="(\w+)"\}\)', asked["query"])
    assert metric
    assert metric[2] in QUEUES
    assert metric[2] in container(found(target["kind"], target["name"]))["args"]
    assert f'"{metric[1]}"' in (DOCKER.parent / "finetune" / "metrics.py").read_text()
