"""Cards that a real worker says it has: trainings share one, wait for one, and are told why."""

import json

import pytest

from tests.stack.test_workers import running
from tests.support import recipes
from tests.support.process import wait_until

_SHARE = "resources: {gpus: 1, memory: 35GB}\n"


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return recipes.base(tmp_path_factory.mktemp("base"))


@pytest.fixture
def site(tmp_path):
    with running(tmp_path, {"FT_GPUS": "a100:1x80GB"}) as site:
        site.start()
        yield site


def submit(site, folder, base, name, more, epochs=400):
    return site.submit(recipes.write(folder / name, base, name=name, epochs=epochs, more=more))


def waits(site):
    return {entry["id"]: entry["waits_for"] for entry in json.loads(site.ft("queue", "--json").stdout)}


def test_trainings_share_a_card_and_the_queue_says_who_holds_it(site, base, tmp_path):
    small = [submit(site, tmp_path, base, name, _SHARE) for name in ("one", "two")]
    for job_id in small:
        site.training(job_id)
    whole = submit(site, tmp_path, base, "whole", "resources: {gpus: 1}\n", epochs=2)
    never = submit(site, tmp_path, base, "never", "resources: {gpus: 2, memory: 24GB}\n")
    wait_until(lambda: "held by" in (waits(site)[whole] or ""), 30, "the queue to say who holds the card", 0.3)
    told = waits(site)
    assert told[whole].startswith("1 whole GPU, held by ")
    assert all(job_id in told[whole] for job_id in small)
    wait_until(lambda: "no worker" in (waits(site)[never] or ""), 30, "the queue to say that nobody has two", 0.3)
    assert waits(site)[never] == "2x24GB: no worker has that, they have 1x80GB a100"
    workers = json.loads(site.ft("workers", "--json").stdout)
    (device,) = [device for worker in workers for device in worker["devices"]]
    assert (device["name"], device["memory_mb"], device["free_mb"]) == ("a100", 76_293, 76_293 - 2 * 33_378)
    assert "1x80GB a100" in site.ft("workers").stdout
    # At the same time, each in a process of its own.
    assert len({site.training(job_id) for job_id in small}) == 2
    site.ft("cancel", small[0])
    site.ft("cancel", small[1])
    assert site.ended(whole).state == "succeeded"
    assert site.job(never).state == "running"
