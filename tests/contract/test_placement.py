"""Places on devices, in both databases: workers that ask at once, what is taken, who ran a base model last."""

import threading
from datetime import timedelta

import pytest
from sqlalchemy import event, insert

from finetune.errors import LeaseLost
from finetune.placement import Device, Need, Share, Site, from_row
from finetune.runs import Beat
from finetune.store import Database, SqlBeats, SqlPlacements, SqlRuns
from finetune.store.schema import runs
from tests.support.jobs import World, sqlite

TTL = timedelta(seconds=15)
CARDS = tuple(Device(name, "A100", 80_000) for name in "abcd")


@pytest.fixture(params=["sqlite", "postgres"])
def world(request, tmp_path):
    url = sqlite(tmp_path) if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    world = World(url)
    world.runs = SqlRuns(world.database)
    yield world
    world.database.close()


def add(world, key, gpus=None, memory_mb=None, base_model="m"):
    need = {"gpus": gpus, "memory_mb": memory_mb, "base_model": base_model}
    world.runs.add_run(key, {}, world.clock.now(), need)
    world.clock.sleep(0.001)


def claim(world, worker, *devices, **how):
    run = world.placements(worker, *devices, **how).claim_run(world.clock.now(), TTL)
    return run and (run.run_key, from_row(run.placed).devices)


def live(world, worker, *devices):
    beat = Beat(worker=worker, queues=("gpu",), host="h", pid=1, seen_at=world.clock.now(), devices=devices)
    SqlBeats(world.database).beat(beat)


def test_several_get_cards_of_their_own_and_all_of_them_at_once(world):
    add(world, "three", gpus=3)
    add(world, "two", gpus=2)
    add(world, "one")
    assert claim(world, "w", *CARDS) == ("three", ("a", "b", "c"))
    assert [due.key for due in world.placements("w", *CARDS).due_runs(world.clock.now(), 9)] == ["one"]
    assert claim(world, "w", *CARDS) == ("one", ("d",))
    assert claim(world, "w", *CARDS) is None
    three = world.runs.get_run("three")
    assert (three.worker, three.placed) == ("w", {"devices": ["a", "b", "c"], "memory_mb": None})
    world.runs.update_run(three, world.clock.now(), state="succeeded")
    assert claim(world, "w", *CARDS) == ("two", ("a", "b"))


def test_small_ones_share_a_card(world):
    for key, memory_mb in (("k", 30_000), ("l", 30_000), ("m", 30_000), ("n", 20_000)):
        add(world, key, 1, memory_mb)
    assert [claim(world, "w", CARDS[0]) for _ in range(4)] == [("k", ("a",)), ("l", ("a",)), ("n", ("a",)), None]
    assert from_row(world.runs.get_run("n").placed) == Share(("a",), 20_000)


def test_what_a_dead_worker_had_is_taken_until_its_run_is_taken_over(world):
    """Its trainer may still be there: who takes the run over ends it first."""
    add(world, "k", 1)
    add(world, "l", 1)
    assert claim(world, "dead", CARDS[0]) == ("k", ("a",))
    assert claim(world, "w", CARDS[0]) is None
    world.clock.sleep(TTL.total_seconds())
    assert claim(world, "w", CARDS[0]) == ("k", ("a",))
    assert world.runs.get_run("k").deaths == 1
    assert claim(world, "w", CARDS[0]) is None


def test_a_job_goes_to_the_worker_that_ran_its_base_model_last(world):
    live(world, "v", CARDS[0])
    live(world, "w", CARDS[1])
    add(world, "k")
    assert claim(world, "v", CARDS[0]) == ("k", ("a",))
    world.runs.update_run(world.runs.get_run("k"), world.clock.now(), state="succeeded")
    add(world, "l")
    add(world, "other", base_model="n")
    live(world, "v", CARDS[0])
    assert claim(world, "w", CARDS[1]) == ("other", ("b",))
    assert claim(world, "v", CARDS[0]) == ("l", ("a",))
    # Full, it has no head start.
    world.runs.update_run(world.runs.get_run("other"), world.clock.now(), state="succeeded")
    add(world, "m")
    assert claim(world, "w", CARDS[1]) == ("m", ("b",))


def test_a_head_start_ends_and_is_nothing_for_the_dead(world):
    live(world, "v", CARDS[0])
    add(world, "k")
    claim(world, "v", CARDS[0])
    world.runs.update_run(world.runs.get_run("k"), world.clock.now(), state="succeeded")
    add(world, "l")
    assert claim(world, "w", CARDS[1]) is None
    world.clock.sleep(3)
    assert world.placements("w", CARDS[1]).due_runs(world.clock.now(), 9)
    world.clock.sleep(5)
    add(world, "m")
    assert claim(world, "w", CARDS[1]) == ("l", ("b",))
    world.runs.update_run(world.runs.get_run("l"), world.clock.now(), state="succeeded")
    assert claim(world, "w", CARDS[1]) == ("m", ("b",))


def test_the_last_four_base_models_are_known_and_a_beat_forgets_none(world):
    live(world, "v", *CARDS)
    for number, base in enumerate("pqprst"):
        add(world, f"k{number}", base_model=base)
        run = world.placements("v", *CARDS).claim_run(world.clock.now(), TTL)
        world.runs.update_run(run, world.clock.now(), state="succeeded")
        live(world, "v", *CARDS)
    for base in "tsrp":
        add(world, f"old-{base}", base_model=base)
    add(world, "new", base_model="q")
    assert claim(world, "w", CARDS[0]) == ("new", ("a",))
    assert claim(world, "w", CARDS[1]) is None


def sit(world, worker, *devices, need=Need(gpus=1), ref="bot@v1"):  # noqa: B008 -- frozen
    seat = seat_of(world, worker, *devices, need=need, ref=ref)
    return seat and seat.share.devices


def seat_of(world, worker, *devices, need=Need(gpus=1), ref="bot@v1"):  # noqa: B008 -- frozen
    return world.placements(worker, *devices).sit(ref, need, world.clock.now(), TTL)


def test_an_evaluation_has_a_card_until_it_leaves_or_is_not_heard_of(world):
    add(world, "k")
    seat = seat_of(world, "e", CARDS[0])
    assert seat.share == Share(("a",))
    assert claim(world, "w", CARDS[0]) is None
    assert [(each.key, each.share.devices) for each in world.runs.measuring(world.clock.now())] == [("bot@v1", ("a",))]
    seats = world.placements("e", CARDS[0])
    world.clock.sleep(TTL.total_seconds() - 1)
    seats.stay(seat, world.clock.now(), TTL)
    world.clock.sleep(TTL.total_seconds() - 1)
    assert claim(world, "w", CARDS[0]) is None
    seats.leave(seat)
    assert claim(world, "w", CARDS[0]) == ("k", ("a",))
    with pytest.raises(LeaseLost):
        seats.stay(seat, world.clock.now(), TTL)


def test_who_was_away_for_too_long_keeps_and_frees_nobodys_card(world):
    """Two threads of one worker measure one version; the first is not heard of for longer than its lease."""
    seats, first = world.placements("e", CARDS[0]), seat_of(world, "e", CARDS[0])
    world.clock.sleep(TTL.total_seconds())
    second = seat_of(world, "e", CARDS[0])
    assert second.share == first.share
    world.clock.sleep(TTL.total_seconds() - 1)
    with pytest.raises(LeaseLost):
        seats.stay(first, world.clock.now(), TTL)
    seats.leave(first)
    seats.stay(second, world.clock.now(), TTL)
    world.clock.sleep(TTL.total_seconds() - 1)
    assert [each.key for each in world.runs.measuring(world.clock.now())] == ["bot@v1"]


def test_who_was_away_for_too_long_does_not_take_a_card_back_from_a_training(world):
    seats, seat = world.placements("e", CARDS[0]), seat_of(world, "e", CARDS[0])
    add(world, "k")
    world.clock.sleep(TTL.total_seconds())
    assert claim(world, "w", CARDS[0]) == ("k", ("a",))
    with pytest.raises(LeaseLost):
        seats.stay(seat, world.clock.now(), TTL)
    assert world.runs.measuring(world.clock.now()) == []


def test_who_asks_for_a_card_reads_no_more_runs_than_it_must(world):
    now = world.clock.now()
    need = {"gpus": 0, "memory_mb": None, "base_model": "m"}
    row = {"state": "queued", "request": {}, "need": need, "created_at": now, "lease_token": 0}
    row |= dict.fromkeys(("cancel_requested", "hold_requested"), False) | dict.fromkeys(("starts", "deaths"), 0)
    with world.database.write() as connection:
        connection.execute(insert(runs), [{"run_key": f"k{number:04}", **row} for number in range(2_100)])
    asked = []
    event.listen(
        world.database._engine,
        "before_cursor_execute",
        lambda c, cursor, text, values, *more: asked.append((text, values)),
    )
    assert sit(world, "e", CARDS[0]) == ("a",)
    read = [each for each in asked if each[0].startswith("SELECT runs.")]
    with world.database.read() as connection:
        counts = [len(connection.exec_driver_sql(text, values).all()) for text, values in read]
    assert max(counts) == 2_000


def test_the_card_of_one_that_is_gone_is_free(world):
    sit(world, "gone", CARDS[0])
    world.clock.sleep(TTL.total_seconds())
    assert world.runs.measuring(world.clock.now()) == []
    assert sit(world, "e", CARDS[0]) == ("a",)


def test_an_evaluation_that_waits_has_the_next_card_while_it_asks(world):
    for key in "kl":
        add(world, key)
    assert claim(world, "w", CARDS[0]) == ("k", ("a",))
    assert sit(world, "e", CARDS[0]) is None
    world.runs.update_run(world.runs.get_run("k"), world.clock.now(), state="succeeded")
    assert claim(world, "w", CARDS[0]) is None, "kept for the evaluation"
    assert claim(world, "w", CARDS[1]) == ("l", ("b",)), "not where it does not wait"
    mine = seat_of(world, "e", CARDS[0])
    assert mine.share.devices == ("a",)
    assert sit(world, "e", CARDS[0]) is None, "once a version"
    assert sit(world, "another", *CARDS) == ("c",), "any number of processes"
    add(world, "m")
    assert sit(world, "late", CARDS[0]) is None
    world.placements("e", CARDS[0]).leave(mine)
    world.runs.update_run(world.runs.get_run("l"), world.clock.now(), state="succeeded")
    world.clock.sleep(TTL.total_seconds())
    assert claim(world, "w", CARDS[0]) == ("m", ("a",)), "it does not ask any more"


def test_evaluations_and_trainings_share_a_card_by_memory(world):
    add(world, "k", 1, 50_000)
    assert claim(world, "w", CARDS[0]) == ("k", ("a",))
    assert sit(world, "e", CARDS[0], need=Need(1, 30_000)) == ("a",)
    assert sit(world, "f", CARDS[0], need=Need(1, 1)) is None


def test_workers_that_ask_at_once_give_no_card_away_twice(world):
    """Eight threads, two to a machine of two cards, each with connections of its own."""
    for number in range(40):
        add(world, f"k{number:02}", 1, 40_000)
    now, taken, failed = world.clock.now(), [], []

    def ask(machine):
        database = Database.open(world.url)
        try:
            cards = (Device(f"{machine}-0", "A100", 80_000), Device(f"{machine}-1", "A100", 80_000))
            places = SqlPlacements(database, Site(f"{machine}-{threading.get_ident()}", cards))
            while run := places.claim_run(now, TTL):
                taken.append((run.run_key, run.placed["devices"][0]))
        except BaseException as error:
            failed.append(error)
            raise
        finally:
            database.close()

    threads = [threading.Thread(target=ask, args=(f"m{number % 4}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failed
    cards = [card for _, card in taken]
    assert len({key for key, _ in taken}) == len(taken) == 16
    assert {card: cards.count(card) for card in cards} == {
        f"m{machine}-{card}": 2 for machine in range(4) for card in (0, 1)
    }
