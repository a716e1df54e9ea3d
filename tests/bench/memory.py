"""What a training is reckoned to hold at its peak, beside what torch's allocator gives out.

`python -m tests.bench.memory`: models of some ten million parameters on the processor, weights and all. QLoRA is
measured where bitsandbytes is installed, and told only: on a processor it keeps each layer's weights in bf16 for the
backward pass, which its kernels for cards do not. Exits with 1 where another is off by more than a tenth.

Then LoRA with activations made again for the backward pass, beside LoRA that keeps them: the same for its peak, and the
processor's time of a step, both kinds by turns. With the argument `recomputed` that alone.
"""

import importlib.util
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers

from finetune.memory import Kind, Work, need, read
from finetune.training import batches
from finetune.training.engine import Engine
from tests.support.held import LORA, TRAINING, build, peak, row, with_lora

#: Measured over reckoned, at least and at most.
TARGET = (0.9, 1.1)
_HEADS = {"num_attention_heads": 8, "num_key_value_heads": 4, "max_position_embeddings": 4096}
_IDS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "Llama, 8 layers of 512": (
        "Llama",
        {"vocab_size": 8192, "hidden_size": 512, "intermediate_size": 1408, "num_hidden_layers": 8, **_HEADS, **_IDS},
    ),
    "Qwen3, 6 layers of 768": (
        "Qwen3",
        {
            **{"vocab_size": 16384, "hidden_size": 768, "intermediate_size": 2048, "num_hidden_layers": 6},
            **{"head_dim": 96, **_HEADS, **_IDS},
        },
    ),
}
ROWS = (256, 768)
#: Steps of each kind whose time is taken.
TURNS = 9


def main() -> int:
    """Measure and print; the exit code."""
    missed = _recomputations() if sys.argv[1:] == ["recomputed"] else _trainings() + _recomputations()
    return min(missed, 1)


def _trainings() -> int:
    print("| model | trained | numbers | tokens | reckoned MB | measured MB | measured / reckoned |")
    print("| --- | --- | --- | ---: | ---: | ---: | ---: |")
    missed = 0
    for title, (family, sizes) in MODELS.items():
        for kind, precision in ((Kind.LORA, "fp32"), (Kind.LORA, "bf16"), (Kind.FULL, "fp32"), (Kind.QLORA, "bf16")):
            if kind is Kind.QLORA and importlib.util.find_spec("bitsandbytes") is None:
                print(f"| {title} | {kind} | - | - | - | bitsandbytes is not installed | - |")
                continue
            for tokens in ROWS:
                missed += not _line(title, family, sizes, kind, precision, tokens)
    return missed


def _recomputations() -> int:
    head = ("model", "numbers", "tokens", "reckoned MB", "measured MB", "measured / reckoned", "of what is kept")
    head += ("step s, kept", "step s, recomputed", "recomputed / kept")
    print(f"\n| {' | '.join(head)} |\n| --- | --- |{' ---: |' * (len(head) - 2)}", flush=True)
    missed = 0
    for title, (family, sizes) in MODELS.items():
        for precision in ("fp32", "bf16"):
            for tokens in ROWS:
                missed += not _recomputed(title, family, sizes, precision, tokens)
    return missed


def _recomputed(title: str, family: str, sizes: dict[str, Any], precision: Any, tokens: int) -> bool:
    dtype = torch.float32 if precision == "fp32" else torch.bfloat16
    shape = read(getattr(transformers, f"{family}Config")(**sizes).to_dict())
    reckoned = need(shape, Kind.LORA, _work(precision, tokens, True)).low
    kept, measured = (peak(_training(family, sizes, Kind.LORA, dtype, tokens, again)) for again in (False, True))
    share = measured / reckoned
    one, other = _times(family, sizes, dtype, tokens)
    memory = f"{reckoned / 1e6:,.0f} | {measured / 1e6:,.0f} | {share:.2f} | {measured / kept:.2f}"
    print(
        f"| {title} | {precision} | {tokens:,} | {memory} | {one:.2f} | {other:.2f} | {other / one:.2f} |", flush=True
    )
    return TARGET[0] <= share <= TARGET[1]


def _times(family: str, sizes: dict[str, Any], dtype: torch.dtype, tokens: int) -> tuple[float, float]:
    """Seconds of a processor for a step of two rows, the median: activations kept, and made again."""
    torch.set_num_threads(1)
    unit = row(tokens, sizes["vocab_size"])
    engine = Engine(with_lora(build(family, sizes, dtype)), TRAINING, 1, 0, batches.Limits(1, None))
    took: dict[bool, list[float]] = {False: [], True: []}
    for turn in range(2 * TURNS):
        again = turn % 2 == 1
        engine.limits = batches.Limits(1, None, again)
        began = time.process_time()
        engine.step([unit, unit], turn, 1e-4, lambda: None, print)
        took[again].append(time.process_time() - began)
    # The first of each warms up.
    return statistics.median(took[False][1:]), statistics.median(took[True][1:])


def _work(precision: Any, tokens: int, recompute: bool) -> Work:
    return Work(
        **{"precision": precision, "rank": LORA.r, "modules": None, "dropout": False, "longest": tokens, "rows": 1},
        recompute=recompute,
    )


def _line(title: str, family: str, sizes: dict[str, Any], kind: Kind, precision: Any, tokens: int) -> bool:
    shape = read(getattr(transformers, f"{family}Config")(**sizes).to_dict())
    reckoned = need(shape, kind, _work(precision, tokens, False)).low
    dtype = torch.float32 if precision == "fp32" else torch.bfloat16
    measured = peak(_training(family, sizes, kind, dtype, tokens, False))
    share = measured / reckoned
    numbers = f"{precision} | {tokens:,} | {reckoned / 1e6:,.0f} | {measured / 1e6:,.0f} | {share:.2f}"
    print(f"| {title} | {kind} | {numbers} |", flush=True)
    return kind is Kind.QLORA or TARGET[0] <= share <= TARGET[1]


def _training(
    family: str, sizes: dict[str, Any], kind: Kind, dtype: torch.dtype, tokens: int, again: bool
) -> Callable[[], object]:
    """Three steps of two rows, one at a time, from the loading of the weights on."""
    unit = row(tokens, sizes["vocab_size"])

    def train() -> None:
        if kind is Kind.QLORA:
            model = with_lora(_in_four_bits(family, sizes))
        else:
            model = build(family, sizes, dtype).train()
            model = with_lora(model) if kind is Kind.LORA else model
        engine = Engine(model, TRAINING, 1, 0, batches.Limits(1, None, again))
        for step in range(3):
            engine.step([unit, unit], step, 1e-4, lambda: None, print)

    return train


def _in_four_bits(family: str, sizes: dict[str, Any]) -> Any:
    config = transformers.BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16
    )
    with tempfile.TemporaryDirectory() as folder:
        build(family, sizes, torch.bfloat16).save_pretrained(Path(folder))
        return transformers.AutoModelForCausalLM.from_pretrained(
            folder, quantization_config=config, dtype=torch.bfloat16, device_map="cpu"
        )


if __name__ == "__main__":
    sys.exit(main())
