"""Answers under way share passes of the model: who may be with whom, and that company changes no answer."""

import copy
import shutil
import threading
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import MistralConfig, MistralForCausalLM

from finetune.errors import ServingError
from finetune.serving.asks import Ask
from finetune.serving.batches import AHEAD
from finetune.serving.engine import Engine
from tests.flow.serving.conftest import BASE, HELLO, SAYS, Loaded

LONG = [{"role": "user", "content": "Tell me about rivers, and do not stop before you are done."}]


class Watched:
    """The model, and how many rows each of its passes had."""

    def __init__(self, model: Any) -> None:
        self.rows: list[int] = []
        #: The part of each that was padding.
        self.padding: list[float] = []
        #: Called before each pass.
        self.before: Callable[[], None] = lambda: None
        model.register_forward_pre_hook(self._seen, with_kwargs=True)

    def _seen(self, model: Any, args: Any, kwargs: Any) -> None:
        self.before()
        self.rows.append(len(kwargs["input_ids"]))
        if kwargs.get("attention_mask") is not None:
            self.padding.append(1 - float(kwargs["attention_mask"].float().mean()))


@pytest.fixture
def watched(loaded: Loaded) -> Watched:
    return Watched(loaded.model)


def start(engine: Engine, adapter: str | None, messages: Sequence[Any] = HELLO, **fields: Any) -> Any:
    return engine.generate(Ask(**{"messages": messages, "max_tokens": 40, "temperature": 0, **fields}), adapter)


def say(engine: Engine, adapter: str | None, messages: Sequence[Any] = HELLO, **fields: Any) -> str:
    return "".join(start(engine, adapter, messages, **fields))


def in_turn(answers: list[Any]) -> list[str]:
    """All to their ends, a token of each at a time."""
    texts, going = [""] * len(answers), set(range(len(answers)))
    while going:
        for index in sorted(going):
            piece = next(answers[index], None)
            if piece is None:
                going.discard(index)
            texts[index] += piece or ""
    return texts


def test_adapters_and_base_are_one_pass(engine: Engine, watched: Watched, folders: dict[str, Path]) -> None:
    for name, folder in folders.items():
        engine.load_adapter(name, folder)
    asked: list[str | None] = ["a", "b", None, "a"]
    alone = [say(engine, name) for name in asked]
    watched.rows.clear()
    assert in_turn([start(engine, name) for name in asked]) == alone
    assert alone[0] == SAYS["a"]
    assert alone[1] == SAYS["b"]
    # Each prompt by itself, then a token of each a pass, until the first has ended.
    assert watched.rows[:4] == [1] * 4
    assert watched.rows.count(4) >= len(SAYS["a"]) - 4
    assert len(watched.rows) < sum(map(len, alone)) / 2


def test_rows_come_and_go_in_the_middle(engine: Engine, watched: Watched, folders: dict[str, Path]) -> None:
    for name, folder in folders.items():
        engine.load_adapter(name, folder)
    prompts = [[{"role": "user", "content": "word " * n + "?"}] for n in (3, 9, 6, 14)]
    kinds: list[str | None] = ["a", None, "b", None]
    alone = [say(engine, kind, prompt) for kind, prompt in zip(kinds, prompts, strict=True)]
    watched.rows.clear()
    answers = [start(engine, kind, prompt) for kind, prompt in zip(kinds, prompts, strict=True)]
    texts = [""] * 4
    for begun in range(1, 5):
        for _ in range(5):
            for index in range(begun):
                texts[index] += next(answers[index], "")
    texts = [text + rest for text, rest in zip(texts, in_turn(answers), strict=True)]
    assert texts == alone
    assert max(watched.rows) == 4


def test_one_that_is_closed_leaves_and_the_others_go_on(engine: Engine, watched: Watched) -> None:
    alone = say(engine, None, LONG)
    kept, dropped = start(engine, None, LONG), start(engine, None, HELLO)
    begun = next(kept) + next(kept)
    next(dropped)
    begun += next(kept) + next(kept)
    assert watched.rows[-1] == 2
    dropped.close()
    assert begun + "".join(kept) == alone
    assert watched.rows[-1] == 1


def test_a_slow_reader_is_waited_for_by_itself(engine: Engine, watched: Watched) -> None:
    alone = say(engine, None, LONG, max_tokens=AHEAD * 2)
    slow, quick = start(engine, None, LONG, max_tokens=AHEAD * 2), start(engine, None, LONG, max_tokens=AHEAD * 2)
    begun = next(slow)
    assert "".join(quick) == alone
    # It went along, no further than its reader may be behind.
    assert watched.rows.count(2) == AHEAD
    assert begun + "".join(slow) == alone


def test_no_more_than_half_of_a_pass_is_padding(engine: Engine, watched: Watched) -> None:
    long = [{"role": "user", "content": "word " * 60}]
    asked = [long, HELLO, HELLO, HELLO, long]
    alone = [say(engine, None, messages) for messages in asked]
    watched.rows.clear()
    watched.padding.clear()
    assert in_turn([start(engine, None, messages) for messages in asked]) == alone
    assert max(watched.padding) <= 0.5
    assert max(watched.rows) < len(asked)


def test_dora_is_not_mixed_and_stays_exact(
    engine: Engine, watched: Watched, folders: dict[str, Path], base_model: Any, tmp_path: Path
) -> None:
    torch.manual_seed(5)
    config = LoraConfig(r=4, use_dora=True, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM")
    with warnings.catch_warnings():
        # PEFT 0.21 asks transformers 5 by an old name.
        warnings.filterwarnings("ignore", ".*is_gradient_checkpointing.*", FutureWarning)
        get_peft_model(copy.deepcopy(base_model), config).save_pretrained(str(tmp_path))
    engine.load_adapter("dora", tmp_path)
    engine.load_adapter("a", folders["a"])
    dora, base = say(engine, "dora"), say(engine, None)
    assert dora != base
    watched.rows.clear()
    asked: list[str | None] = ["dora", "a", "dora", None]
    assert in_turn([start(engine, name) for name in asked]) == [dora, SAYS["a"], dora, base]
    # Two of DoRA's together, and the other two together.
    assert max(watched.rows) == 2


def test_a_base_with_sliding_windows_takes_turns(tokenizer: Any) -> None:
    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=259, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=512, sliding_window=16, eos_token_id=2, initializer_range=0.3,
    )  # fmt: skip
    model = MistralForCausalLM(config).eval()
    watched = Watched(model)
    engine = Engine(BASE, Loaded(model, tokenizer))
    alone = [say(engine, None, LONG), say(engine, None)]
    assert in_turn([start(engine, None, LONG), start(engine, None)]) == alone
    assert set(watched.rows) == {1}
    assert engine.answers([LONG, HELLO], None, 40) == alone


def test_sampling_is_each_rows_own(engine: Engine) -> None:
    ask = {"temperature": 1.5, "max_tokens": 30}
    alone = [say(engine, None, seed=seed, **ask) for seed in (7, 8, 9)]
    assert in_turn([start(engine, None, seed=seed, **ask) for seed in (7, 8, 9)]) == alone


def test_a_broken_adapter_fails_its_own_answers_only(engine: Engine, folders: dict[str, Path], tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    broken = tmp_path / "broken"
    shutil.copytree(folders["a"], broken)
    weights = load_file(broken / "adapter_model.safetensors")
    save_file({key: value * float("nan") for key, value in weights.items()}, broken / "adapter_model.safetensors")
    engine.load_adapter("broken", broken)
    engine.load_adapter("b", folders["b"])
    well, ill = start(engine, "b"), start(engine, "broken")
    begun = next(well)
    with pytest.raises(ServingError, match="no numbers"):
        next(ill)
    assert begun + "".join(well) == SAYS["b"]


def test_a_pass_that_fails_fails_all_of_it_and_nothing_after(engine: Engine, watched: Watched) -> None:
    alone = say(engine, None)
    answers = [start(engine, None), start(engine, None)]
    begun = [next(answer) for answer in answers]
    assert len(begun) == 2

    def fail() -> None:
        raise RuntimeError("out of memory")

    watched.before = fail
    for answer in answers:
        with pytest.raises(ServingError, match="out of memory"):
            next(answer)
    watched.before = lambda: None
    assert engine.under_way == 0
    assert say(engine, None) == alone


def test_many_threads_many_lengths(engine: Engine, folders: dict[str, Path]) -> None:
    """Each says what it says alone, with adapters that come and go meanwhile."""
    for name, folder in folders.items():
        engine.load_adapter(name, folder)
    asked = [((None, "a", "b")[n % 3], [{"role": "user", "content": "so " * (n % 11)}], 5 + n) for n in range(24)]
    alone = [say(engine, name, messages, max_tokens=most) for name, messages, most in asked]
    done = threading.Event()

    def come_and_go() -> None:
        while not done.is_set():
            engine.load_adapter("c", folders["b"])
            engine.unload_adapter("c")

    thread = threading.Thread(target=come_and_go)
    thread.start()
    try:
        with ThreadPoolExecutor(8) as pool:
            together = list(pool.map(lambda each: say(engine, each[0], each[1], max_tokens=each[2]), asked))
    finally:
        done.set()
        thread.join()
    assert together == alone
    assert engine.under_way == 0
