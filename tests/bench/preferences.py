"""What a step over preferences costs beside a supervised one over the same tokens: `python -m tests.bench.preferences`.

The built-in base on the processor, 32 pairs of datasets/preferences.jsonl, by turns in one process; the best of each.
"""

import sys
import tempfile
import time
from pathlib import Path

from finetune.training import bases, examples
from finetune.training.batches import Limits
from finetune.training.engine import Engine
from finetune.training.objectives import Likelihood, Preference
from finetune.training.preferences import PairEncoder
from tests.support.held import TRAINING, with_lora

ROWS = Path(__file__).parents[2] / "datasets" / "preferences.jsonl"
ROUNDS = 12


def main() -> int:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as cache:
        loaded = bases.load("builtin:tiny-llama", cache=Path(cache), report=lambda line: None)
    pairs = examples.load(ROWS, PairEncoder(loaded.tokenizer), 256, print).rows[:32]
    model = with_lora(loaded.model)
    engines = [
        Engine(model, TRAINING, 1, 0, Limits(16, None), objective=each) for each in (Likelihood(), Preference(0.1))
    ]
    best = [float("inf")] * len(engines)
    for _ in range(ROUNDS):
        for number, engine in enumerate(engines):
            began = time.perf_counter()
            engine.gradients(pairs, 0)
            best[number] = min(best[number], time.perf_counter() - began)
    print(
        f"a step over preferences takes {best[1] / best[0]:.2f} times as long as a supervised one over the same tokens"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
