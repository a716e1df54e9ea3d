"""Our books against what gateways have: what drifts is named, and mended; what is not ours is left alone."""

from dataclasses import replace

import pytest

from finetune.deployments import Registered
from finetune.errors import GatewayError
from finetune.placing import Drift
from finetune.testing import FakeGateway, FakeServer
from finetune.versions import PromotionState
from tests.support.jobs import sqlite
from tests.support.promotions import Stage


@pytest.fixture
def stage(tmp_path):
    stage = Stage(sqlite(tmp_path))
    stage.promote(1)
    stage.promote(2)
    assert stage.sync.look() == []
    yield stage
    stage.close()


def kinds(drifts):
    return sorted((drift.gateway, drift.kind) for drift in drifts)


def test_a_server_that_was_restarted_has_forgotten(stage):
    stage.gateways["vllm"].entries.clear()
    drifts = stage.sync.look()
    assert kinds(drifts) == [("vllm", "missing"), ("vllm", "missing")]
    assert kinds(stage.sync.mend(drifts)) == kinds(drifts)
    assert stage.sync.look() == []
    assert stage.shares == {"v1": 0.0, "v2": 1.0}


class Stoppable(FakeServer):
    """Keeps what somebody has stopped there, and starts it again when it is registered again."""

    def __init__(self, name):
        super().__init__(name)
        self.stopped = set()

    def registered(self):
        return [replace(each, stopped=each.id in self.stopped) for each in super().registered()]

    def register(self, deployment):
        self.stopped.clear()
        return super().register(deployment)


def test_what_somebody_has_stopped_there_is_started_again(tmp_path):
    server = Stoppable("vllm")
    stage = Stage(sqlite(tmp_path), gateways={"vllm": server, "litellm": FakeGateway("litellm")})
    stage.promote(1)
    server.stopped = {each.id for each in server.registered()}
    drifts = stage.sync.look()
    assert kinds(drifts) == [("vllm", "missing")]
    assert "bot@v1 has been stopped there" in drifts[0].what
    stage.sync.mend(drifts)
    assert stage.sync.look() == []
    stage.close()


def test_a_proxy_that_lost_all_gets_its_shares_back(stage):
    there = stage.gateways["litellm"]
    there.entries.clear()
    there.shares.clear()
    stage.sync.mend(stage.sync.look())
    assert stage.shares == {"v1": 0.0, "v2": 1.0}
    assert stage.sync.look() == []


def test_shares_that_somebody_has_changed(stage):
    there = stage.gateways["litellm"]
    there.shares = {entry: 0.5 for entry in there.shares}
    drifts = stage.sync.look()
    assert kinds(drifts) == [("litellm", "share"), ("litellm", "share")]
    assert "50% of the calls, not 100%" in " ".join(drift.what for drift in drifts)
    stage.sync.mend(drifts)
    assert stage.shares == {"v1": 0.0, "v2": 1.0}


@pytest.mark.parametrize(("share", "differs"), [(0.99, True), (0.996, False)])
def test_a_hundredth_of_the_calls_is_a_difference(stage, share, differs):
    """Gateways round weights; what is more than that was somebody."""
    there = stage.gateways["litellm"]
    there.shares = {one: share if had else had for one, had in there.shares.items()}
    assert [drift.kind for drift in stage.sync.look()] == ["share"] * differs


def test_what_carries_our_marks_and_is_in_no_book_goes(stage):
    entry = next(iter(stage.gateways["litellm"].entries.values()))
    left = "bot--v9-000000000000"
    stage.gateways["litellm"].entries[left] = entry
    stage.gateways["litellm"].shares[left] = 0.0
    drifts = stage.sync.look()
    assert kinds(drifts) == [("litellm", "unknown")]
    stage.sync.mend(drifts)
    assert left not in stage.gateways["litellm"].entries
    assert stage.sync.look() == []


def test_what_takes_our_books_for_its_own_has_nothing_unknown(stage):
    there = stage.gateways["vllm"]
    listed = there.registered()
    there.registered = lambda: [*listed, Registered(id="bot-v3-aaaaaaaaaaaa")]
    assert kinds(stage.sync.look()) == [("vllm", "unknown")]
    there.follows_books = True
    assert stage.sync.look() == []


def test_what_could_not_be_forgotten_when_it_was_undone_goes_later(stage):
    there = stage.gateways["litellm"]
    there.faults = ["refused probe", "refused unregister"]
    undone = stage.promote(3)
    assert undone.state is PromotionState.FAILED
    assert any("bot@v3 could not be forgotten at litellm" in note["text"] for note in undone.notes)
    assert sorted(stage.shares) == ["v1", "v2", "v3"]
    drifts = stage.sync.look()
    assert [(drift.gateway, drift.kind, drift.what) for drift in drifts] == [
        ("litellm", "idle", "bot@v3 is needed by nobody there")
    ]
    assert len(stage.sync.mend(drifts)) == 1
    assert sorted(stage.shares) == ["v1", "v2"]
    assert stage.sync.look() == []


def test_nobody_loses_calls_to_what_could_not_be_mended(stage):
    there = stage.gateways["litellm"]
    there.faults = ["refused probe", "refused unregister"]
    stage.promote(3)
    there.shares = {entry: float("v3" in entry) for entry in there.shares}
    there.faults = ["refused set_traffic"]
    with pytest.raises(GatewayError):
        stage.sync.mend(stage.sync.look())
    assert stage.shares["v3"] == 1.0
    stage.sync.mend(stage.sync.look())
    assert stage.shares == {"v1": 0.0, "v2": 1.0}


@pytest.mark.parametrize("seen", ["before", "meanwhile"])
def test_what_a_promotion_is_about_to_forget_is_not_restored(stage, seen):
    """The minute's comparison falls between what the gateway forgets and what our books do."""
    there = stage.gateways["litellm"]
    forget, looked = there.unregister, []

    def forgotten(name):
        looked.extend(stage.sync.look() if seen == "before" else [])
        forget(name)
        looked.extend(stage.sync.look() if seen == "meanwhile" else [])
        stage.sync.mend([*looked, Drift(gateway="litellm", id=name, kind="missing", what="it was so a moment ago")])

    there.unregister = forgotten
    there.faults = ["refused probe"]
    assert stage.promote(3).state is PromotionState.FAILED
    assert sorted(stage.shares) == ["v1", "v2"]
    assert {each.version for each in stage.promotions.placed()} == {1, 2}
    assert looked == []


def test_what_a_promotion_has_forgotten_since_our_books_were_read_is_not_restored(stage):
    """It ends between the look at the books and the question whether it is in hand."""
    stage.gateways["litellm"].faults = ["refused probe"]
    begun = stage.run(stage.begin(3), until=PromotionState.PROVING)
    read = stage.promotions.placed

    def read_then_ended():
        before = read()
        stage.promotions.placed = read
        stage.run(begun)
        return before

    stage.promotions.placed = read_then_ended
    mine = next(each for each in read() if (each.version, each.gateway) == (3, "litellm"))
    assert stage.sync.mend([Drift(gateway="litellm", id=mine.id, kind="missing", what="it was so before")]) == []
    assert sorted(stage.shares) == ["v1", "v2"]
    assert stage.promotions.get(begun.id).state is PromotionState.FAILED


def test_a_gateway_that_cannot_be_asked_is_told_and_nothing_done(stage):
    stage.gateways["vllm"].faults = ["unavailable registered"]
    drifts = stage.sync.look()
    assert kinds(drifts) == [("vllm", "unreachable")]
    before = stage.gateways["vllm"].log.copy()
    assert stage.sync.mend(drifts) == []
    assert stage.gateways["vllm"].log == before


def test_what_cannot_be_mended_is_an_error(stage):
    stage.gateways["vllm"].entries.clear()
    drifts = stage.sync.look()
    stage.gateways["vllm"].faults = ["refused register"]
    with pytest.raises(GatewayError):
        stage.sync.mend(drifts)


def test_gateways_can_be_named(stage):
    stage.gateways["other"] = type(stage.gateways["vllm"])("other")
    stage.gateways["other"].entries["bot-v1-bbbbbbbbbbbb"] = next(iter(stage.gateways["vllm"].entries.values()))
    assert stage.sync.look() == []
    assert kinds(stage.sync.look(["other"])) == [("other", "unknown")]


def test_the_weights_that_two_aliases_need_stay(stage):
    """One adapter in the server, two entries at the proxy."""
    stage.promote(2, alias="staging")
    for version in (3, 1):
        stage.promote(version, alias="staging")
    entries = {there.ref for there in stage.gateways["vllm"].entries.values()}
    assert entries == {"bot@v1", "bot@v2", "bot@v3"}
    assert stage.sync.look() == []
    assert stage.status(2) == "live"


def test_a_gateway_that_was_removed_is_told_with_what_mends_it(stage):
    del stage.gateways["litellm"]
    (drift,) = stage.sync.look()
    assert (drift.gateway, drift.kind) == ("litellm", "unreachable")
    assert "no gateway litellm" in drift.what
    assert "`ft models sync --forget litellm`" in drift.what
    assert stage.sync.lost() == {"litellm": "no gateway litellm"}
    assert stage.sync.mend([drift]) == []
    (typo,) = [each for each in stage.sync.look(["litelm"]) if each.gateway == "litelm"]
    assert "--forget" not in typo.what, "it is in no book"


def test_a_forgotten_gateway_leaves_the_books_and_nothing_is_sent(stage):
    there = stage.gateways.pop("litellm")
    before = dict(there.entries)
    would = stage.sync.drop("litellm", dry_run=True)
    assert [(each.kind, each.mended) for each in would] == [("forgotten", False)] * 2
    assert len(stage.sync.look()) == 1

    done = stage.sync.drop("litellm")

    assert [each.id for each in done] == [each.id for each in would]
    assert all(each.mended for each in done)
    assert there.entries == before
    assert {each.gateway for each in stage.promotions.placed()} == {"vllm"}
    assert (stage.sync.look(), stage.sync.lost(), stage.sync.drop("litellm")) == ([], {}, [])
    assert stage.promote(3, gateways=("vllm",)).gateways == ("vllm",)


def test_what_is_set_up_stays_where_it_is_when_it_is_forgotten(stage):
    stage.sync.drop("litellm")
    assert len(stage.gateways["litellm"].entries) == 2
    assert stage.sync.look() == []
