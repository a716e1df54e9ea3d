"""docker/compose.yaml and what it mounts: valid, complete, and without a secret of its own."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from finetune.tasks import QUEUES
from tests.support.compose import DOCKER, Missing, Service, filled, raw, services

ROOT = DOCKER.parent
#: What the file cannot do without.
SECRETS = ("POSTGRES_PASSWORD", "REDIS_PASSWORD", "FT_API_KEY", "LITELLM_MASTER_KEY")
ENV = {name: f"planted-{name.lower()}" for name in SECRETS}


@pytest.fixture(scope="module")
def all_services() -> dict[str, Service]:
    return services(ENV)


def started(profile: str) -> dict[str, Service]:
    return {name: one for name, one in services(ENV).items() if not one.profiles or profile in one.profiles}


def dotenv() -> dict[str, str]:
    lines = (DOCKER / ".env.example").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def documented(page: str) -> set[str]:
    """The variables in tables and text of a page."""
    return set(re.findall(r"`([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+)`", (ROOT / "docs" / page).read_text()))


def check(path: Path) -> subprocess.CompletedProcess[str]:
    """What the JSON Schema of the Compose specification says, which the validator brings along."""
    argv = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(path)]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60)


def test_it_is_what_the_specification_allows() -> None:
    done = check(DOCKER / "compose.yaml")
    assert done.returncode == 0, done.stdout


def test_the_validator_finds_a_fault(tmp_path: Path) -> None:
    wrong = tmp_path / "compose.yaml"
    wrong.write_text((DOCKER / "compose.yaml").read_text().replace("stop_grace_period:", "stop_grace:", 1))
    assert "stop_grace" in check(wrong).stdout


@pytest.mark.parametrize("profile", ["cpu", "gpu"])
def test_one_command_starts_all_that_is_needed(profile: str) -> None:
    running = started(profile)
    assert {"redis", "postgres", "remote-worker", "server", "litellm", "prometheus"} < running.keys()
    served = [one.command[-1] for one in running.values() if "workers" in one.command]
    assert sorted(served) == sorted(QUEUES)
    assert dotenv()["COMPOSE_PROFILES"] == "cpu"


def test_the_gpu_worker_differs_in_its_image_and_its_device_only(all_services: dict[str, Service]) -> None:
    cpu, cuda = all_services["gpu-worker"], all_services["gpu-worker-cuda"]
    assert (cuda.command, cuda.environment) == (cpu.command, cpu.environment)
    (device,) = cuda.entry["deploy"]["resources"]["reservations"]["devices"]
    assert (device["driver"], device["capabilities"]) == ("nvidia", ["gpu"])
    differing = {key for key in cpu.entry | cuda.entry if cpu.entry.get(key) != cuda.entry.get(key)}
    assert differing == {"profiles", "image", "build", "deploy"}
    targets = set(re.findall(r"^FROM base AS (\w+)$", (DOCKER / "Dockerfile").read_text(), re.M))
    assert {one.entry["build"]["target"] for one in all_services.values() if one.ours} == targets


@pytest.mark.parametrize("name", SECRETS)
def test_without_a_secret_nothing_starts(name: str) -> None:
    for value in ({}, {name: ""}):
        with pytest.raises(Missing, match=name):
            services({key: text for key, text in ENV.items() if key != name} | value)


def test_no_secret_is_in_a_file(all_services: dict[str, Service]) -> None:
    assert {name for name in SECRETS if dotenv()[name]} == set()
    secret = re.compile(r"PASSWORD|_KEY\b|TOKEN|SECRET")
    for entry in raw()["services"].values():
        for name, value in entry.get("environment", {}).items():
            assert not secret.search(name) or value is None or value.startswith("${"), name


def test_who_gets_which_secret(all_services: dict[str, Service]) -> None:
    hosted = {"OPENAI_API_KEY", "AZURE_OPENAI_API_KEY", "MISTRAL_API_KEY", "CLOUDSDK_AUTH_ACCESS_TOKEN"}
    holders = {name for name, entry in raw()["services"].items() if hosted & entry.get("environment", {}).keys()}
    assert holders == {"remote-worker", "ft"}


#: What the clients of S3 and of Google Cloud Storage read.
BUCKET = {
    "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL",
    "GOOGLE_APPLICATION_CREDENTIALS",
}  # fmt: skip


def test_whoever_has_the_bucket_of_adapters_has_its_credentials() -> None:
    example = (DOCKER / ".env.example").read_text()
    key = "/run/secrets/google_key"
    assert f"# GOOGLE_APPLICATION_CREDENTIALS={key}\n" in example
    mine = {"FT_ARTIFACTS": "s3://box/ft", "GOOGLE_KEY_FILE": "/etc/key.json", **dict.fromkeys(BUCKET, "planted")}
    for one in services({**ENV, **mine}).values():
        assert ("FT_ARTIFACTS" in one.environment) is one.ours, one.name
        assert (one.environment.keys() & BUCKET) == (BUCKET if one.ours else set()), one.name
        assert ("google_key" in one.entry.get("secrets", ())) is one.ours, one.name
    assert raw()["secrets"]["google_key"] == {"file": "${GOOGLE_KEY_FILE:-/dev/null}"}
    assert filled(raw()["secrets"]["google_key"]["file"], mine) == "/etc/key.json"
    assert "# GOOGLE_KEY_FILE=" in example


def test_without_a_bucket_nothing_of_it_is_set() -> None:
    for one in services(ENV).values():
        assert one.environment.keys() & {*BUCKET, "FT_ARTIFACTS"} == set(), one.name


def test_every_variable_of_the_documents_gets_in() -> None:
    wanted = documented("providers.md") | {name for name in documented("cli.md") if name.startswith("FT_")}
    inside = {name for entry in raw()["services"].values() for name in entry.get("environment", {})}
    assert wanted - inside == set()


def test_ours_wait_for_the_servers_and_are_looked_after(all_services: dict[str, Service]) -> None:
    ours = [one for one in all_services.values() if one.ours]
    assert len(ours) >= 4
    for one in ours:
        waited = {name: how["condition"] for name, how in one.entry["depends_on"].items()}
        assert waited == {"redis": "service_healthy", "postgres": "service_healthy"}, one.name
        assert f"home:{one.environment['FT_HOME']}" in one.entry["volumes"], one.name
        assert one.grace_s >= 60, one.name
        assert (one.entry["read_only"], one.entry["cap_drop"]) == (True, ["ALL"]), one.name
    for one in all_services.values():
        if "tools" not in one.profiles:
            assert one.entry["restart"] == "unless-stopped", one.name
            assert one.entry["healthcheck"]["test"], one.name


def test_nothing_can_be_reached_from_other_machines(all_services: dict[str, Service]) -> None:
    ports = [port for one in all_services.values() for port in one.entry.get("ports", ())]
    assert ports
    assert [port for port in ports if not port.startswith("127.0.0.1:")] == []


def test_everything_named_is_there(all_services: dict[str, Service]) -> None:
    named = [volume.split(":")[0] for one in all_services.values() for volume in one.entry.get("volumes", ())]
    files = [DOCKER / name for name in named if name.startswith("./")]
    assert {path.name for path in files} == {"litellm.yaml", "prometheus.yml"}
    assert [str(path) for path in files if not path.is_file()] == []
    assert {name for name in named if name[0] not in "./"} == raw()["volumes"].keys()


def address(service: Service) -> str:
    return f"{service.name}:{service.environment['FT_PORT']}"


def test_prometheus_asks_the_server_and_shows_its_key(all_services: dict[str, Service]) -> None:
    ours, itself = yaml.safe_load((DOCKER / "prometheus.yml").read_text())["scrape_configs"]
    assert (ours["metrics_path"], ours["static_configs"]) == (
        "/metrics",
        [{"targets": [address(all_services["server"])]}],
    )
    (secret,) = all_services["prometheus"].entry["secrets"]
    assert ours["authorization"]["credentials_file"] == f"/run/secrets/{secret}"
    assert raw()["secrets"][secret] == {"environment": "FT_API_KEY"}
    assert itself["static_configs"] == [{"targets": ["127.0.0.1:9090"]}]


def test_litellm_hands_every_name_to_the_server(all_services: dict[str, Service]) -> None:
    config = yaml.safe_load((DOCKER / "litellm.yaml").read_text())
    (route,) = config["model_list"]
    assert (route["model_name"], route["litellm_params"]["model"]) == ("*", "openai/*")
    assert route["litellm_params"]["api_base"] == f"http://{address(all_services['server'])}/v1"
    keys = [route["litellm_params"]["api_key"], config["general_settings"]["master_key"]]
    assert [key.removeprefix("os.environ/") for key in keys] == ["FT_API_KEY", "LITELLM_MASTER_KEY"]
    assert {"FT_API_KEY", "LITELLM_MASTER_KEY"} <= all_services["litellm"].environment.keys()


def test_the_image_is_not_root_and_installs_what_was_tested() -> None:
    lines = (DOCKER / "Dockerfile").read_text()
    assert re.search(r"^ARG PYTHON=3\.11\.\d+-slim", lines, re.M), "a pinned base"
    assert re.search(r"^USER 10001:10001$", lines, re.M)
    installs = re.findall(r"pip install .*", lines)
    assert installs
    assert [line for line in installs if "-c /requirements.lock" not in line] == []
    extras = set(re.findall(r"EXTRAS=(\S+)", lines))
    assert extras == set(re.findall(r"EXTRAS := (\S+),dev", (ROOT / "Makefile").read_text())), "what the tests ran with"


def test_the_document_names_what_is_there(all_services: dict[str, Service]) -> None:
    text = (ROOT / "docs" / "deploy.md").read_text()
    named = set(re.findall(r"\b(?:docker|recipes)/[\w./-]*\w", text)) - {"docker/.env"}
    assert len(named) > 5
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []
    asked = set(re.findall(r"compose\.yaml run --rm (\S+)", text)) | set(re.findall(r"--scale ([\w-]+)=", text))
    assert asked
    assert asked <= all_services.keys()
    described = set(re.findall(r"`([A-Z][A-Z_]+)`", text)) - {"SIGTERM", "FT_HOME"}
    known = dotenv().keys() | set(re.findall(r"\$\{(\w+)", (DOCKER / "compose.yaml").read_text()))
    passed = {name for entry in raw()["services"].values() for name in entry.get("environment", {})}
    assert described <= known | passed


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a ${X} b", "a 1 b"),
        ("$X", "1"),
        ("${Y}|${E}", "|"),
        ("${Y:-2}${E:-3}${X:-4}", "231"),
        ("${X:?must be}", "1"),
        ("$$X", "$X"),
    ],
)
def test_variables_are_put_in_as_docker_does(text: str, value: str) -> None:
    assert filled(text, {"X": "1", "E": ""}) == value


def test_a_variable_that_docker_would_refuse_is_refused() -> None:
    with pytest.raises(ValueError, match="no variable"):
        filled("${X-old form}", {"X": "1"})


def test_a_variable_without_a_value_is_the_hosts() -> None:
    with_key = services({**ENV, "OPENAI_API_KEY": "k"})["remote-worker"].environment
    assert with_key["OPENAI_API_KEY"] == "k"
    assert "OPENAI_API_KEY" not in services(ENV)["remote-worker"].environment
