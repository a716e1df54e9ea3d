"""A lack of memory in earnest: the kernel gives no more, and the training goes on by making activations again."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.flow.training.test_trainer_process import LONG, Trainer, adapter
from tests.support import tiny

#: Has room for half of what one row needs and a little more.
SCRIPT = """
import json, resource, sys
from pathlib import Path
import torch
from finetune.memory import Kind, Work, need, read
from finetune.training.batches import Limits
from finetune.training.engine import Engine
from tests.support.held import LORA, TRAINING, build, row, with_lora

torch.set_num_threads(1)
SIZES = {
    **{"vocab_size": 512, "hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 8},
    **{"num_attention_heads": 4, "num_key_value_heads": 4, "max_position_embeddings": 2048},
    **{"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2},
}
TOKENS, said = 1024, []
engine = Engine(with_lora(build("Llama", SIZES, torch.float32)), TRAINING, 1, 0, Limits(1, None))
# What is made once, and the threads of the backward pass, come before the edge.
engine.step([row(64, SIZES["vocab_size"])], 0, 1e-4, lambda: None, said.append)
work = Work(precision="fp32", rank=LORA.r, modules=None, dropout=False, longest=TOKENS, rows=1)
found = need(read(engine.model.config.to_dict()), Kind.LORA, work)
has = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
most = has + (found.least + found.again) // 2
resource.setrlimit(resource.RLIMIT_AS, (most, most))
losses = [
    engine.step([row(TOKENS, SIZES["vocab_size"])], step, 1e-2, lambda: None, said.append).loss for step in (1, 2)
]
told = {"said": said, "losses": losses, "again": engine.limits.recompute, "need": [found.again, found.least]}
print(json.dumps(told))
"""


def test_what_the_kernel_refuses_is_made_again() -> None:
    # Else what was freed lies in pieces too small for others: glibc keeps it, up to 32 MB each.
    env = {**os.environ, "MALLOC_MMAP_THRESHOLD_": str(2**18), "MALLOC_TRIM_THRESHOLD_": str(2**18)}
    argv = [sys.executable, "-c", SCRIPT]
    ran = subprocess.run(argv, capture_output=True, text=True, timeout=240, check=False, env=env)
    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout)
    assert told["again"] is True
    assert len(told["said"]) == 1
    assert "out of memory with a single example" in told["said"][0]
    assert told["losses"][1] < told["losses"][0]
    again, kept = told["need"]
    assert again < kept / 3


@pytest.mark.parametrize("processes", [1, 2])
def test_asked_for_it_changes_no_byte_of_the_adapter(tmp_path: Path, processes: int) -> None:
    """With dropout, whose random numbers are drawn a second time."""
    base = tiny.save_base(tmp_path / "base")
    short = {**LONG, "training__epochs": 3}
    made = []
    for wanted in (False, True):
        run_dir = tmp_path / str(wanted)
        tiny.request(run_dir, base, **short, local__gradient_checkpointing=wanted)
        made.append(Trainer(run_dir, processes=processes))
    for trainer in made:
        assert trainer.wait() == 0, trainer.log.read_text()
    assert adapter(made[0]) == adapter(made[1])
    assert made[0].losses() == made[1].losses()
