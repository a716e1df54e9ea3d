"""Preferences, trained as it is started in earnest: in a process, in two, killed, and started again."""

import signal
from pathlib import Path

import pytest

from tests.flow.training.test_trainer_process import Trainer, adapter
from tests.support import tiny

#: 7 pairs in steps of 3: the last step of an epoch has one pair, and leaves one of two processes with nothing to do.
ASKED = {
    "training__epochs": 12,
    "training__batch_size": 3,
    "training__learning_rate": 5e-3,
    "local__micro_batch_size": 2,
}
STEPS = 36


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def whole(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Trainer:
    """The uninterrupted run."""
    run_dir = tmp_path_factory.mktemp("whole")
    tiny.request_dpo(run_dir, base, **ASKED)
    trainer = Trainer(run_dir, hash_seed=1)
    assert trainer.wait() == 0, trainer.log.read_text()
    return trainer


def held_out(trainer: Trainer, name: str) -> list[float]:
    return [values[name] for values in trainer.losses().values() if name in values]


def test_the_margin_of_pairs_that_it_has_not_seen_rises(whole: Trainer) -> None:
    told = whole.losses()
    assert sorted(told) == list(range(1, STEPS + 1))
    assert [step for step, values in told.items() if "eval_loss" in values] == list(range(3, STEPS + 1, 3))
    assert told[1]["loss"] == pytest.approx(0.6931472, abs=1e-6)
    assert told[1]["rewards/margins"] == told[1]["rewards/accuracies"] == 0
    margins = held_out(whole, "eval_rewards/margins")
    assert len(margins) == 12
    assert margins[-1] > margins[0] + 0.3, margins
    assert held_out(whole, "eval_rewards/accuracies")[-1] == 1
    assert held_out(whole, "eval_loss")[-1] < 0.6
    assert told[STEPS]["rewards/margins"] > 0.5


def test_the_lineage_says_how_it_was_trained(whole: Trainer) -> None:
    lineage = whole.of("done")[0]["artifact"]["lineage"]
    assert (lineage["method"], lineage["beta"], lineage["steps"]) == ("dpo", 0.1, STEPS)


def test_killed_and_interrupted_it_ends_with_the_same_bytes(whole: Trainer, base: Path, tmp_path: Path) -> None:
    tiny.request_dpo(tmp_path, base, **ASKED, training__checkpoint_every=3)
    for number, (step, how) in enumerate([(7, signal.SIGKILL), (18, signal.SIGTERM)]):
        trainer = Trainer(tmp_path, hash_seed=number)
        trainer.wait_for_step(step)
        trainer.process.send_signal(how)
        assert trainer.wait() == (75 if how == signal.SIGTERM else -how)
        for at, values in trainer.losses().items():
            assert values.items() <= whole.losses()[at].items()
    last = Trainer(tmp_path)
    assert last.wait() == 0, last.log.read_text()
    assert min(last.losses()) >= 18
    assert adapter(last) == adapter(whole)


def test_two_processes_learn_what_one_learns(whole: Trainer, base: Path, tmp_path: Path) -> None:
    """Only the order of sums differs."""
    tiny.request_dpo(tmp_path, base, **ASKED)
    two = Trainer(tmp_path, processes=2)
    assert two.wait() == 0, two.log.read_text()
    assert two.losses().keys() == whole.losses().keys()
    for step, values in whole.losses().items():
        assert two.losses()[step] == pytest.approx(values, abs=1e-3)


def test_chats_are_refused(base: Path, tmp_path: Path) -> None:
    body = tiny.request_dpo(tmp_path, base, **ASKED)
    tiny.request(tmp_path, base, method="dpo", dpo=body["dpo"])
    trainer = Trainer(tmp_path)
    assert trainer.wait() == 1
    (failed,) = trainer.of("failed")
    assert (failed["error"]["code"], failed["retry"]) == ("E610", False)
    assert "chosen" in failed["error"]["what"]
    assert "Traceback" not in trainer.report.read_text()
