"""What a second process gives a training on this machine: `python -m tests.bench.parallel [ROUNDS]`.

The trainer as it is started in earnest, on random Llamas of two sizes: one process with one thread, one with two, and
two with one thread each. They take turns, so that a busy moment hits all of them. A figure is the median over all
rounds, as a ratio to one process with one thread; the steps count from the third, the start is told apart.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from finetune.report import read
from tests.support import tiny

STEPS = 24
#: Hidden size, layers, words in a row.
SIZES = {"small": (128, 4, 40), "larger": (256, 8, 40)}
#: Processes and threads of each.
KINDS = {"1 x 1": (1, 1), "1 x 2": (1, 2), "2 x 1": (2, 1)}


def base(folder: Path, hidden: int, layers: int) -> Path:
    """The folder of a random Llama."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=259,
        hidden_size=hidden,
        intermediate_size=4 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=8,
        num_key_value_heads=4,
        max_position_embeddings=1024,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    return folder


def train(run_dir: Path, model: Path, words: int, kind: tuple[int, int]) -> tuple[float, float]:
    """Seconds until the first step, and steps per second from the third on."""
    processes, threads = kind
    asked = {"training__epochs": STEPS // 3, "training__batch_size": 16, "local__micro_batch_size": "auto"}
    tiny.request(run_dir, model, validation=None, training__max_seq_length=1024, **asked)
    rows = [tiny.messages(("", f"question {number}", f"answer {number} " * words)) for number in range(48)]
    tiny.write_rows(run_dir / "train.jsonl", rows)
    told = run_dir / "report.jsonl"
    argv = [sys.executable, "-m", "finetune.training", str(run_dir), "--report", str(told)]
    env = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    with (run_dir / "log").open("wb") as log:
        began = time.time()
        subprocess.run(
            [*argv, "--parent", str(os.getpid()), "--processes", str(processes)], check=True, stderr=log, env=env
        )
    at = [datetime.fromisoformat(line["at"]).timestamp() for line in read(told, 0)[0] if line["kind"] == "metric"]
    assert len(at) == STEPS, "it has not done every step once"
    return at[0] - began, (STEPS - 2) / (at[-1] - at[1])


def main(argv: Sequence[str]) -> None:
    """Print a line for each size and kind."""
    rounds = int(argv[0]) if argv else 3
    with tempfile.TemporaryDirectory(prefix="ft-bench-") as place:
        for size, (hidden, layers, words) in SIZES.items():
            model = base(Path(place) / size, hidden, layers)
            found: dict[str, list[tuple[float, float]]] = {kind: [] for kind in KINDS}
            for number in range(rounds):
                for kind, shape in KINDS.items():
                    found[kind].append(train(Path(place) / f"{size}-{number}-{kind[0]}{kind[-1]}", model, words, shape))
            alone = statistics.median(rate for _, rate in found["1 x 1"])
            for kind, values in found.items():
                rate = statistics.median(rate for _, rate in values)
                ratios = sorted(one / other for (_, one), (_, other) in zip(values, found["1 x 1"], strict=True))
                start_s = statistics.median(start for start, _ in values)
                print(
                    f"{size:6} hidden {hidden} layers {layers}  {kind}: {rate:6.2f} steps/s, {rate / alone:4.2f} times"
                    f" 1 x 1 (rounds: {ratios[0]:4.2f} to {ratios[-1]:4.2f}), first step after {start_s:4.1f} s",
                    flush=True,
                )


if __name__ == "__main__":
    main(sys.argv[1:])
