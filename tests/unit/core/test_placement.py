"""Which training goes on which cards: fits, shares, order, head starts, and that nobody starves."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune import gpus
from finetune.placement import (
    FAIR_AFTER,
    HEAD_START,
    KEEP_AFTER,
    Device,
    Need,
    Scene,
    Share,
    Site,
    Taken,
    Waiting,
    choices,
    free_mb,
    mebibytes,
    need_of,
    place,
    suits,
    summary,
)
from finetune.spec.types import _MEMORY

NOW = datetime(2027, 1, 1, tzinfo=UTC)
A, B = Device("a", "A100", 80_000), Device("b", "A100", 80_000)
SITE = Site("w", (A, B))
CPU = Site("c", slots=2)


def has(worker, *devices, memory=None, key="x"):
    return Taken(key, worker, Share(devices, memory))


def wait(key, need=Need(), base="m", priority=0, age=timedelta(0)):  # noqa: B008 -- frozen
    return Waiting(key, need, base, priority, NOW - age)


def chosen(waiting, site=SITE, taken=(), sites=None, warm=None):
    scene = Scene(taken=list(taken), sites=sites or [site], warm=warm or {})
    return [(each.key, share.devices) for each, share in choices(waiting, site, scene, NOW)]


@pytest.mark.parametrize(
    ("need", "site", "taken", "share"),
    [
        (Need(), SITE, [], Share(("a",))),
        (Need(1), SITE, [has("w", "a")], Share(("b",))),
        (Need(2), SITE, [], Share(("a", "b"))),
        (Need(2), SITE, [has("w", "a", memory=1)], None),
        (Need(3), SITE, [], None),
        (Need(1, 30_000), SITE, [has("w", "b", memory=50_000)], Share(("b",), 30_000)),
        (Need(1, 30_001), SITE, [has("w", "b", memory=50_000)], Share(("a",), 30_001)),
        (Need(1, 80_001), SITE, [], None),
        # A card that someone has whole has no room, whichever worker gave it away.
        (Need(1, 1), Site("w", (A,)), [has("another", "a")], None),
        (Need(0), SITE, [], Share()),
        (Need(0), SITE, [has("w")], None),
        (Need(0), SITE, [has("another")], Share()),
        (Need(), CPU, [has("c")], Share()),
        (Need(), CPU, [has("c"), has("c", key="y")], None),
        (Need(1), CPU, [], None),
    ],
)
def test_a_place_is_found_where_it_fits(need, site, taken, share):
    assert place(need, site, taken) == share


def test_what_is_full_suits_as_well():
    assert suits(Need(2), SITE)
    assert not suits(Need(3), SITE)
    assert not suits(Need(1), CPU)


def test_each_could_take_a_place_by_itself():
    assert chosen([wait("k"), wait("l"), wait("m", Need(3))]) == [("k", ("a",)), ("l", ("a",))]


def test_priority_goes_first_then_the_base_model_that_was_run_last_then_the_order():
    waiting = [wait("k"), wait("l", base="n"), wait("m", base="n", priority=-1), wait("o", priority=1)]
    assert [key for key, _ in chosen(waiting, warm={"w": ["n"]})] == ["o", "l", "k", "m"]
    assert [key for key, _ in chosen(waiting)] == ["o", "k", "l", "m"]


def test_who_has_waited_for_long_goes_before_what_suits_better():
    waiting = [wait("k", age=FAIR_AFTER), wait("l", base="n")]
    assert [key for key, _ in chosen(waiting, warm={"w": ["n"]})] == ["k", "l"]


def test_a_worker_that_ran_the_base_model_last_has_a_head_start():
    other = Site("v", (Device("c", "A100", 80_000),))
    sites, warm = [SITE, other], {"v": ["m"]}
    assert chosen([wait("k")], sites=sites, warm=warm) == []
    assert chosen([wait("k")], site=other, sites=sites, warm=warm) == [("k", ("c",))]
    assert chosen([wait("k", age=HEAD_START)], sites=sites, warm=warm) == [("k", ("a",))]
    # Not when it has no room, nor before a worker that ran it too.
    assert chosen([wait("k")], taken=[has("v", "c")], sites=sites, warm=warm) == [("k", ("a",))]
    assert chosen([wait("k")], sites=sites, warm={**warm, "w": ["n", "m"]}) == [("k", ("a",))]
    # Another base model is nobody's.
    assert chosen([wait("k", base="n")], sites=sites, warm=warm) == [("k", ("a",))]


def test_an_evaluation_goes_next_and_its_place_is_kept_for_it():
    asks = replace(wait("e", Need(1, 30_000), base=""), measures=True)
    assert chosen([wait("k"), wait("l"), asks]) == [("e", ("a",)), ("k", ("b",)), ("l", ("b",))]
    assert chosen([wait("k"), asks], taken=[has("w", "b")]) == [("e", ("a",))]
    # Beside a training that leaves room, and not before one that is more urgent or has waited for longer.
    assert chosen([wait("k", Need(1, 50_000)), asks], taken=[has("w", "b")]) == [("e", ("a",)), ("k", ("a",))]
    for first in (wait("k", priority=1), wait("k", age=FAIR_AFTER)):
        assert chosen([asks, first], taken=[has("w", "b")]) == [("k", ("a",)), ("e", ("a",))]


def test_small_ones_do_not_starve_one_that_needs_all_cards():
    taken, small = [has("w", "a", memory=1)], wait("s", Need(1, 1))
    assert chosen([wait("big", Need(2), age=KEEP_AFTER / 2), small], taken=taken) == [("s", ("a",))]
    assert chosen([wait("big", Need(2), age=KEEP_AFTER), small], taken=taken) == []
    # The processor is kept for nobody, nor cards for who could never have them here.
    assert chosen([wait("big", Need(2), age=KEEP_AFTER), wait("cpu", Need(0))], taken=taken) == [("cpu", ())]
    assert chosen([wait("huge", Need(3), age=KEEP_AFTER), small], taken=taken) == [("s", ("a",))]
    # Nor from who is more urgent.
    urgent = wait("u", Need(1, 1), priority=1)
    assert chosen([wait("big", Need(2), age=KEEP_AFTER), urgent], taken=taken) == [("u", ("a",))]


def test_one_whose_worker_died_is_not_in_its_own_way():
    lost = Taken("k", "dead", Share(("a", "b")))
    assert chosen([wait("k", Need(2)), wait("l")], taken=[lost]) == [("k", ("a", "b"))]


_NEEDS = st.builds(Need, st.none() | st.integers(0, 3), st.none() | st.integers(1, 90_000))


@given(st.lists(_NEEDS, max_size=12), st.lists(st.integers(1_000, 90_000), max_size=3))
def test_no_card_is_given_away_twice(needs, sizes):
    site = Site("w", tuple(Device(str(number), "card", size) for number, size in enumerate(sizes)), slots=2)
    taken = []
    for number, need in enumerate(needs):
        share = place(need, site, taken)
        if share is None:
            continue
        assert len(share.devices) == (need.gpus if need.gpus is not None else min(1, len(sizes)))
        assert len(set(share.devices)) == len(share.devices)
        taken.append(Taken(str(number), "w", share))
    for device in site.devices:
        held = [each.share for each in taken if device.id in each.share.devices]
        assert free_mb(device, held) >= 0
        assert len(held) == 1 or all(share.memory_mb for share in held)
    assert sum(not each.share.devices for each in taken) <= site.slots


@pytest.mark.parametrize(
    ("size", "memory_mb"), [("80GB", 76_293), ("24GB", 22_888), ("0.5GB", 476), ("1TB", 953_674), ("1MB", 1)]
)
def test_a_size_is_read_as_vendors_mean_it(size, memory_mb):
    assert _MEMORY.fullmatch(size)
    assert mebibytes(size) == memory_mb


@pytest.mark.parametrize(
    ("resources", "words"),
    [
        ({}, "1 whole GPU"),
        ({"gpus": 2}, "2 whole GPUs"),
        ({"gpus": 2, "memory": "80GB"}, "2x80GB"),
        ({"memory": "24GB"}, "1x24GB"),
        ({"gpus": 0}, "the processor"),
    ],
)
def test_a_need_reads_as_it_was_written(resources, words):
    assert str(need_of(resources)) == words


def test_cards_are_summed_up():
    assert summary([A, Device("c", "T4", 15_360), B]) == "2x84GB A100, 1x16GB T4"
    assert summary([]) == ""


_ANSWER = """\
GPU-5f2c, NVIDIA H100 80GB HBM3, 81559
GPU-5f90, NVIDIA H100 80GB HBM3, 81559
GPU-aa11, NVIDIA A100-SXM4-80GB, [N/A]
GPU-bb22, "NVIDIA T4, small", 15360
"""


def test_the_drivers_answer_is_read():
    found = gpus.read(_ANSWER)
    assert [device.id for device in found] == ["GPU-5f2c", "GPU-5f90", "GPU-bb22"]
    assert found[2] == Device("GPU-bb22", "NVIDIA T4, small", 15_360)


@pytest.mark.parametrize(
    ("listed", "ids"),
    [
        (None, ["GPU-5f2c", "GPU-5f90", "GPU-bb22"]),
        ("", []),
        ("-1", []),
        ("1,0", ["GPU-5f90", "GPU-5f2c"]),
        ("GPU-bb", ["GPU-bb22"]),
        ("0, 7, 1", ["GPU-5f2c"]),
        # The beginning of two ids names neither, and what is named twice ends the list.
        ("GPU-5f", []),
        ("0,0,1", ["GPU-5f2c"]),
    ],
)
def test_cards_are_hidden_as_cuda_hides_them(listed, ids):
    assert [device.id for device in gpus.visible(gpus.read(_ANSWER), listed)] == ids


def test_cards_can_be_simulated_or_denied():
    found = gpus.devices("a100:2x80GB", {})
    assert [(device.name, device.memory_mb) for device in found] == [("a100", 76_293)] * 2
    assert len({device.id for device in found}) == 2
    assert gpus.devices("none", {}) == ()


def _driver(folder, script):
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


def test_the_driver_is_asked(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert gpus.devices(None, {"CUDA_VISIBLE_DEVICES": "0"}) == ()
    _driver(tmp_path, "echo 'GPU-1, NVIDIA T4, 15360'; echo 'GPU-2, NVIDIA T4, 15360'")
    assert [device.id for device in gpus.devices(None, {})] == ["GPU-1", "GPU-2"]
    assert [device.id for device in gpus.devices(None, {"CUDA_VISIBLE_DEVICES": "1"})] == ["GPU-2"]
    _driver(tmp_path, "echo 'NVIDIA-SMI has failed'; exit 9")
    assert gpus.devices(None, {}) == ()
