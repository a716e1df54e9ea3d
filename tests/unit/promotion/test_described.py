"""How a version is described to gateways: by its digest, and by where a hosted one answers; not if it has changed."""

from pathlib import Path

import pytest

from finetune.errors import EvaluationError, GatewayError
from finetune.files import digest
from finetune.settings import from_environment
from finetune.versions import ModelVersion
from finetune.wiring import Releases
from tests.support.gateways import make_adapter

ENV = {
    "OPENAI_API_KEY": "sk-test",
    "MISTRAL_API_KEY": "m",
    "GOOGLE_CLOUD_PROJECT": "p",
    "GOOGLE_CLOUD_LOCATION": "europe-west4",
}
ENDPOINT = "projects/123/locations/europe-west4/endpoints/456789"


@pytest.fixture
def parts(tmp_path, monkeypatch):
    for name, value in ENV.items():
        monkeypatch.setenv(name, value)
    parts = Releases(from_environment({"FT_HOME": str(tmp_path)}))
    yield parts
    parts.close()


def version(provider, artifact, **more):
    from datetime import UTC, datetime

    known = {"name": "bot", "version": 3, "job_id": "ft_1", "base_model": "base", "lineage": {}}
    at = datetime(2027, 1, 1, tzinfo=UTC)
    return ModelVersion(**{**known, "provider": provider, "artifact": artifact, "created_at": at, **more})


def adapter(tmp_path):
    folder = make_adapter(tmp_path / "adapter", "weights")
    return folder, {"path": str(folder), "digest": digest(folder)}


def test_an_adapter_is_named_by_its_content(parts, tmp_path):
    folder, artifact = adapter(tmp_path)
    one = parts.places._describe(version("local", artifact), "production")
    other = parts.places._describe(version("local", artifact), "staging")
    short = artifact["digest"][:12]
    assert (one.public, one.id, one.model) == ("bot", f"bot--v3-{short}", f"bot-v3-{short}")
    assert (other.public, other.id) == ("bot@staging", f"bot@staging--v3-{short}")
    assert other.model == one.model, "the weights are one, whatever the alias"
    assert (one.adapter, one.upstream) == (Path(folder), None)


@pytest.mark.parametrize("how", ["changed", "gone"])
def test_an_adapter_that_is_not_what_was_registered_is_not_described(parts, tmp_path, how):
    folder, artifact = adapter(tmp_path)
    weights = folder / "adapter_model.safetensors"
    weights.write_bytes(b"other") if how == "changed" else weights.unlink()
    with pytest.raises(GatewayError, match="E838"):
        parts.places._describe(version("local", artifact), "production")


@pytest.mark.parametrize(
    ("provider", "artifact", "kind", "model"),
    [
        ("openai", {"model": "ft:gpt-4o-mini:acme::abc"}, "openai", "ft:gpt-4o-mini:acme::abc"),
        ("mistral", {"model": "ft:open-mistral-7b:x"}, "mistral", "ft:open-mistral-7b:x"),
        ("vertex", {"model": "projects/1/m", "endpoint": ENDPOINT}, "vertex_ai", "gemini/456789"),
    ],
)
def test_a_hosted_version_answers_at_its_provider(parts, provider, artifact, kind, model):
    said = parts.places._describe(version(provider, artifact), "production")
    assert (said.upstream.kind, said.upstream.model, said.adapter) == (kind, model, None)
    assert "sk-test" not in repr(said)
    if provider == "vertex":
        assert said.upstream.params == {"vertex_project": "123", "vertex_location": "europe-west4"}
    else:
        assert said.upstream.key_env == f"{provider.upper()}_API_KEY"
    # Another model of the same name and version is another deployment.
    changed = {**artifact, "model": "another"}
    assert parts.places._describe(version(provider, changed), "production").id != said.id


@pytest.mark.parametrize(
    ("provider", "artifact"),
    [("vertex", {"model": "gs://bucket/weights"}), ("openai", {})],
)
def test_what_answers_nowhere_yet_says_so(parts, provider, artifact):
    with pytest.raises(GatewayError, match="E837"):
        parts.places._describe(version(provider, artifact), "production")


def test_what_has_to_be_deployed_first_is_described_without_an_address_and_can_be_asked_nowhere(parts):
    one = version("azure", {"model": "gpt-4o-mini.ft-1"})
    said = parts.places._describe(one, "production")
    assert (said.upstream, said.adapter, said.artifact) == (None, None, {"model": "gpt-4o-mini.ft-1"})
    assert parts.places.host_of(one) == "azure"
    with pytest.raises(GatewayError, match="E837") as refused:
        parts._subject(one)
    assert "--max-hosting" in refused.value.problems[0].fix
    assert parts.places.host_of(version("openai", {"model": "ft:x"})) is None
    assert parts.places.host_of(version("azure", {"path": "/a", "digest": "d"})) is None


@pytest.mark.parametrize(
    ("provider", "model", "url"),
    [
        ("openai", "ft:gpt-4o-mini:acme::abc", "https://api.openai.com/v1"),
        ("mistral", "ft:open-mistral-7b:x", "https://api.mistral.ai/v1"),
    ],
)
def test_a_hosted_version_is_measured_where_it_answers(parts, provider, model, url):
    told = parts._subject(version(provider, {"model": model}))
    asked = {"kind": "endpoint", "name": "bot@v3", "base_url": url, "model": model}
    assert told == {**asked, "key_env": f"{provider.upper()}_API_KEY"}


def test_what_speaks_another_protocol_is_measured_behind_a_gateway(parts):
    with pytest.raises(EvaluationError, match="E837") as refused:
        parts._subject(version("vertex", {"model": "projects/1/m", "endpoint": ENDPOINT}))
    assert "ft eval bot@v3 --at URL" in refused.value.problems[0].fix
