import math
import subprocess
import sys
from typing import Any

import pytest
import torch
from transformers import get_scheduler

from finetune.training.request import Training
from finetune.training.schedule import Steps, order, stream


def training(**changes: Any) -> Training:
    values: dict[str, Any] = {
        "epochs": 3,
        "batch_size": 4,
        "learning_rate": 2e-4,
        "max_seq_length": 64,
        "warmup_ratio": 0.15,
        "weight_decay": 0.0,
        "lr_scheduler": "linear",
        "max_grad_norm": 1.0,
    }
    return Training(**{**values, **changes})


@pytest.mark.parametrize("name", ["linear", "cosine", "constant"])
@pytest.mark.parametrize("warmup_ratio", [0.0, 0.15])
def test_rates_are_those_of_transformers(name: str, warmup_ratio: float) -> None:
    steps = Steps(37, 0, training(lr_scheduler=name, warmup_ratio=warmup_ratio))
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=2e-4)
    theirs = get_scheduler(
        "constant_with_warmup" if name == "constant" else name,
        optimizer,
        num_warmup_steps=math.ceil(warmup_ratio * steps.total),
        num_training_steps=steps.total,
    )
    for step in range(steps.total):
        assert steps.learning_rate(step) == pytest.approx(theirs.get_last_lr()[0], rel=1e-12)
        optimizer.step()
        theirs.step()


def test_every_example_once_in_an_epoch_and_another_order_in_the_next() -> None:
    steps = Steps(10, 5, training(batch_size=4))
    assert (steps.per_epoch, steps.total) == (3, 9)
    epochs = [
        [index for step in range(3 * epoch, 3 * epoch + 3) for index in steps.examples(step)] for epoch in range(3)
    ]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    assert [len(steps.examples(step)) for step in range(3)] == [4, 4, 2]


def test_steps_can_be_asked_in_any_order() -> None:
    forward, backward = (Steps(10, 5, training()) for _ in range(2))
    assert [forward.examples(s) for s in range(9)] == [backward.examples(s) for s in reversed(range(9))][::-1]


def test_the_order_is_what_it_was_in_every_process() -> None:
    code = "from finetune.training.schedule import order; print(order(6, 7, 1))"
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert out.strip() == str(order(6, 7, 1)) == "[0, 1, 4, 5, 2, 3]"


def test_streams_differ_by_everything() -> None:
    assert len({stream(1, "a", 0), stream(1, "b", 0), stream(2, "a", 0), stream(1, "a", 1)}) == 4


def test_epochs_end_where_they_end() -> None:
    steps = Steps(10, 5, training(batch_size=4))
    assert [done for done in range(10) if steps.ends_epoch(done)] == [3, 6, 9]
