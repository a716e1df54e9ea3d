"""One suite for every provider: what the lifecycle relies on. A new provider is one more entry in PROVIDERS."""

import threading

import pytest

from finetune.errors import ProviderError
from finetune.ports import RemoteData
from finetune.testing import FakeProvider
from tests.support import (
    hosted,
    hosted_bedrock,
    hosted_fireworks,
    hosted_mistral,
    hosted_openai,
    hosted_together,
    hosted_vertex,
)
from tests.support.process import wait_until
from tests.support.runs import Shop

BASE = "builtin:tiny-llama"


class Rig:
    """A provider, a recipe that it takes, and a way to let its jobs end."""

    def __init__(self, provider, recipe, work, folder):
        self.provider, self.recipe, self.work = provider, recipe, work
        self.data = hosted.data(folder, "openai")

    def create(self, key="ft_x-a1"):
        return self.provider.create(self.recipe, self.provider.upload(self.data), key)


def fake(tmp_path):
    provider = FakeProvider()
    return Rig(provider, hosted.recipe("fake", BASE), lambda key: None, tmp_path)


def local(tmp_path):
    shop = Shop(tmp_path)
    build = shop.provider._request
    # The test trainer plays its part instead of training; all else is as shipped.
    shop.provider._request = lambda *args: {**build(*args), "play": "succeed"}

    def work(key):
        threading.Thread(target=shop.work, daemon=True).start()

    return Rig(shop.provider, hosted.recipe("local", BASE), work, tmp_path)


PROVIDERS = {
    "fake": fake,
    "local": local,
    "openai": hosted_openai.openai,
    "azure": hosted_openai.azure,
    "mistral": hosted_mistral.rig,
    "vertex": hosted_vertex.rig,
    "bedrock": hosted_bedrock.rig,
    "bedrock-llama": hosted_bedrock.llama,
    "fireworks": hosted_fireworks.rig,
    "together": hosted_together.rig,
}


@pytest.fixture(params=PROVIDERS)
def rig(request, tmp_path):
    rig = PROVIDERS[request.param](tmp_path)
    yield rig
    if isinstance(rig, hosted.Rig):
        rig.server.stop()
        assert rig.server.broken == []


def test_it_says_who_it_is(rig):
    assert rig.provider.name == rig.recipe.provider
    assert rig.provider.grace_s >= 0
    assert rig.provider.max_poll_s >= 1


def test_check_finds_nothing_against_its_own_recipe(rig):
    assert rig.provider.check(rig.recipe) == []


def test_upload_is_idempotent_and_plain_json(rig):
    import json

    first, second = rig.provider.upload(rig.data), rig.provider.upload(rig.data)
    assert first == second
    assert RemoteData(ids=json.loads(json.dumps(first.ids))) == first


def test_an_unknown_key_is_found_nowhere(rig):
    assert rig.provider.find("never") == []


def test_what_was_created_is_found_by_its_key(rig):
    made = rig.create()
    assert [job.remote_id for job in rig.provider.find("ft_x-a1")] == [made.remote_id]
    assert made.created_at.tzinfo is not None


def test_two_keys_are_two_jobs(rig):
    assert rig.create("ft_x-a1").remote_id != rig.create("ft_x-a2").remote_id


def test_it_ends_with_an_artifact_and_goes_on_saying_so(rig):
    made = rig.create()
    rig.work("ft_x-a1")
    states = []

    def ended():
        states.append(rig.provider.poll(made.remote_id, None).state)
        return states[-1] == "succeeded"

    wait_until(ended, 20, "the job to end")
    again = rig.provider.poll(made.remote_id, None)
    assert again.state == "succeeded"
    assert again.artifact
    assert again.raw_state


def test_the_cursor_gives_every_event_once(rig):
    made = rig.create()
    rig.work("ft_x-a1")
    cursor, events, metrics = None, [], []

    def ended():
        nonlocal cursor
        seen = rig.provider.poll(made.remote_id, cursor)
        cursor = seen.cursor
        events.extend(seen.events)
        metrics.extend(seen.metrics)
        return seen.state == "succeeded"

    wait_until(ended, 20, "the job to end")
    whole = rig.provider.poll(made.remote_id, None)
    assert tuple(events) == whole.events
    assert tuple(metrics) == whole.metrics
    assert events
    assert metrics
    assert rig.provider.poll(made.remote_id, cursor).events == ()


def test_cancel_ends_it_and_twice_is_silent(rig):
    made = rig.create()
    rig.provider.cancel(made.remote_id)
    rig.provider.cancel(made.remote_id)
    wait_until(lambda: rig.provider.poll(made.remote_id, None).state == "cancelled", 20, "the cancel")


def test_cancel_after_the_end_is_silent_and_changes_nothing(rig):
    made = rig.create()
    rig.work("ft_x-a1")
    wait_until(lambda: rig.provider.poll(made.remote_id, None).state == "succeeded", 20, "the job to end")
    rig.provider.cancel(made.remote_id)
    assert rig.provider.poll(made.remote_id, None).state == "succeeded"


def test_an_unknown_job_is_a_provider_error(rig):
    with pytest.raises(ProviderError):
        rig.provider.poll("never", None)
