"""What the queue shows: order, positions, and what each job waits for."""

from datetime import UTC, datetime, timedelta

import pytest

from finetune.board import entries, moving
from finetune.jobs import Job, JobState
from finetune.placement import Device, Share, Taken
from finetune.runs import Beat, Run
from finetune.versions import Promotion, PromotionState

NOW = datetime(2027, 1, 1, tzinfo=UTC)
REMOTE = Beat(worker="r", queues=("remote",), host="h", pid=1, seen_at=NOW)
GPU = Beat(worker="g", queues=("gpu",), host="h", pid=2, seen_at=NOW)
BOTH = [REMOTE, GPU]


def job(number: int, **fields) -> Job:
    at = NOW - timedelta(seconds=100 - number)
    return Job(
        **{
            "id": f"ft_{number}",
            "name": "bot",
            "owner": "me",
            "provider": "openai",
            "base_model": "m",
            "recipe": {},
            "fingerprint": str(number),
            "state": JobState.QUEUED,
            "data": {},
            "created_at": at,
            "changed_at": at,
            **fields,
        }
    )


def running(number: int, **fields) -> Job:
    fields = {"state": JobState.RUNNING, "admitted_at": NOW, "due_at": NOW, "provider_state": "running", **fields}
    return job(number, **fields)


def local(number: int, state: str, **fields) -> Job:
    return running(number, provider="local", provider_state=state, **fields)


def run(key, worker, *devices) -> Run:
    placed = {"devices": list(devices), "memory_mb": None}
    return Run(run_key=key, state="running", request={}, worker=worker, placed=placed, created_at=NOW)


def shown(jobs, workers=BOTH, caps=None, **how):
    found = entries(jobs, workers, caps or {}, NOW, **how)
    return {entry.job.id: (entry.position, entry.waits_for) for entry in found}


def test_under_way_first_then_in_the_order_of_turns_then_the_paused():
    jobs = [
        job(1),
        job(2, priority=5),
        job(3, hold_requested=True),
        running(5),
        running(4),
        job(6, state=JobState.FAILED),
        job(7, owner="you"),
    ]
    # Two of mine are under way, none of yours.
    assert list(shown(jobs)) == ["ft_4", "ft_5", "ft_2", "ft_7", "ft_1", "ft_3"]
    assert [position for position, _ in shown(jobs).values()] == [None, None, 1, 2, 3, None]


def test_what_trains_waits_for_nothing():
    entry = entries([running(1, progress={"step": 3, "eta_s": 12.5})], BOTH, {}, NOW)[0]
    assert (entry.position, entry.waits_for, entry.eta_s) == (None, None, 12.5)


@pytest.mark.parametrize(
    ("one", "workers", "says"),
    [
        (job(1), BOTH, "its turn, at the next sweep"),
        (job(1, admitted_at=NOW, due_at=NOW), BOTH, "a free remote worker"),
        (job(1, admitted_at=NOW, due_at=NOW), [GPU], "a worker: none listens on remote, `ft up` starts them"),
        (job(1, hold_requested=True), BOTH, "`ft resume ft_1`: it is paused"),
        (running(1, hold_requested=True), BOTH, "its pause"),
        (running(1, hold_requested=True, held=True), BOTH, "`ft resume ft_1`: it is paused"),
        (running(1, hold_requested=True, cancel_requested=True), BOTH, "its end: cancel requested"),
        (local(1, "waiting for a worker"), BOTH, "a gpu worker"),
        (local(1, "queued"), [REMOTE], "a worker: none listens on gpu, `ft up` starts them"),
        (local(1, "waiting for a worker (the last one is gone)"), BOTH, "a gpu worker"),
        (running(1, failures=2, due_at=NOW + timedelta(seconds=40)), BOTH, "the next try, in 40 s"),
        (
            running(1, state=JobState.SUBMITTING, create_sent_at=NOW),
            BOTH,
            "the provider's list: whether it has the job",
        ),
        (running(1, state=JobState.SUBMITTING), BOTH, None),
    ],
)
def test_the_first_obstacle_is_told(one, workers, says):
    assert shown([one], workers)["ft_1"][1] == says


def test_a_cap_is_told_with_how_full_it_is():
    jobs = [running(1), running(2), job(3), job(4, owner="you")]
    assert shown(jobs, caps={"owner": 2})["ft_3"] == (2, "me has 2 of 2 under way")
    assert shown(jobs, caps={"owner": 2})["ft_4"] == (1, "its turn, at the next sweep")
    assert shown(jobs, caps={"openai/m": 2})["ft_4"][1] == "openai/m has 2 of 2 under way"


def test_who_holds_the_worker_is_told_with_how_far_it_is():
    jobs = [local(1, "running", run_key="k", progress={"step": 71, "total_steps": 100}), local(2, "queued")]
    assert shown(jobs, runs=[run("k", "g")])["ft_2"] == (1, "a gpu worker, held by ft_1 at 71%")
    assert shown(jobs, runs=[run("k", "another")])["ft_2"] == (1, "a gpu worker")


CARDS = (Device("gpu-a", "A100", 81_920), Device("gpu-b", "A100", 81_920))
SITE = Beat(worker="s", queues=("gpu",), host="h", pid=3, seen_at=NOW, devices=CARDS)


def asks(number, **resources):
    return local(number, "queued", recipe={"resources": resources})


def test_who_holds_the_cards_is_told():
    jobs = [
        local(1, "running", run_key="k", progress={"step": 71, "total_steps": 100}),
        local(2, "running", run_key="c"),
        asks(3, gpus=1, memory="80GB"),
        asks(4, gpus=0),
        asks(5),
    ]
    runs = [run("k", "s", "gpu-a", "gpu-b"), run("c", "s")]
    seen = {name: waits for name, (_, waits) in shown(jobs, [REMOTE, SITE], runs=runs).items()}
    assert seen["ft_3"] == "1x80GB, held by ft_1 at 71%"
    assert seen["ft_4"] == "a gpu worker, held by ft_1 at 71%, ft_2"
    assert seen["ft_5"] == "1 whole GPU, held by ft_1 at 71%"


def test_an_evaluation_holds_a_card_too():
    measuring = [Taken("bot@v3", "s", Share(("gpu-a",))), Taken("bot@v4", "s", Share(("elsewhere",)))]
    seen = shown([asks(1), asks(2, gpus=0)], [REMOTE, SITE], measuring=measuring)
    assert seen["ft_1"][1] == "1 whole GPU, held by the evaluation of bot@v3"
    assert seen["ft_2"][1] == "a gpu worker"


@pytest.mark.parametrize(
    ("resources", "workers", "says"),
    [
        ({"gpus": 3}, [SITE], "3 whole GPUs: no worker has that, they have 2x86GB A100"),
        ({"gpus": 1, "memory": "140GB"}, [SITE], "1x140GB: no worker has that, they have 2x86GB A100"),
        ({"gpus": 1}, [GPU], "1 whole GPU: no worker has that, they have no GPU"),
        ({"gpus": 2, "memory": "10GB"}, [SITE], "2x10GB"),
    ],
)
def test_what_no_worker_has_is_told(resources, workers, says):
    assert shown([asks(1, **resources)], [REMOTE, *workers])["ft_1"][1] == says


def test_why_the_last_try_failed_is_told():
    one = running(1, failures=1, due_at=NOW + timedelta(seconds=3))
    assert shown([one], said={"ft_1": "too many requests (E409)"})["ft_1"][1] == (
        "the next try, in 3 s: too many requests (E409)"
    )


def promotion(number: int, state: PromotionState, *notes: str) -> Promotion:
    at = NOW - timedelta(seconds=100 - number)
    told = tuple({"at": NOW.isoformat(), "text": note} for note in notes)
    known = {"name": "bot", "alias": "production", "gateways": (), "by": "me", "created_at": at, "due_at": NOW}
    return Promotion(id=f"pr_{number}", version=number, state=state, notes=told, **known)


def test_promotions_under_way_say_what_came_last():
    given = [
        promotion(3, PromotionState.SHIFTING, "registered", "10% of the calls go to bot@v3"),
        promotion(2, PromotionState.LIVE, "it has all calls"),
        promotion(1, PromotionState.EVALUATING, "bot@v1 waits for a card"),
    ]
    seen = [(each.promotion.id, each.waits_for) for each in moving(given, [])]
    assert seen == [("pr_1", "bot@v1 waits for a card"), ("pr_3", "10% of the calls go to bot@v3")]


@pytest.mark.parametrize(
    ("state", "workers", "waits"),
    [
        (PromotionState.EVALUATING, BOTH, "a gpu worker"),
        (PromotionState.EVALUATING, [REMOTE], "a worker: none listens on gpu, `ft up` starts them"),
        (PromotionState.SHIFTING, [REMOTE], "a remote worker"),
        (PromotionState.SHIFTING, [GPU], "a worker: none listens on remote, `ft up` starts them"),
    ],
)
def test_a_promotion_that_nobody_has_taken_up_waits_for_a_worker(state, workers, waits):
    assert [each.waits_for for each in moving([promotion(1, state)], workers)] == [waits]
