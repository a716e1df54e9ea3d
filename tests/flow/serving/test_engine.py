import copy
import json
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import GPT2Config, GPT2LMHeadModel

from finetune.errors import ServingError
from finetune.serving.asks import Ask
from finetune.serving.engine import Engine
from tests.flow.serving.conftest import BASE, HELLO, SAYS, Loaded, build_model

LONG = [{"role": "user", "content": "Tell me about rivers, and do not stop before you are done."}]


def say(engine: Engine, adapter: str | None, **fields: Any) -> str:
    return "".join(engine.generate(Ask(**{"messages": HELLO, "max_tokens": 40, "temperature": 0, **fields}), adapter))


def logits(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        return model(input_ids=torch.arange(3, 40)[None]).logits


def code(caught: pytest.ExceptionInfo[ServingError]) -> str:
    return caught.value.problems[0].code


def test_each_adapter_says_its_own_sentence_and_the_base_neither(engine: Engine, folders: dict[str, Path]) -> None:
    base = say(engine, None)
    engine.load_adapter("bot@v1", folders["a"])
    engine.load_adapter("org/bot.x@v2", folders["b"])
    assert say(engine, "bot@v1") == SAYS["a"]
    assert say(engine, "org/bot.x@v2") == SAYS["b"]
    assert say(engine, None) == base
    assert not any(sentence in base for sentence in SAYS.values())


def test_the_base_is_bit_for_bit_unchanged_with_adapters_and_after_them(
    base_model: Any, tokenizer: Any, folders: dict[str, Path]
) -> None:
    model = copy.deepcopy(base_model)
    before, weights = logits(model), copy.deepcopy(model.state_dict())
    engine = Engine(BASE, Loaded(model, tokenizer))
    said = say(engine, None, max_tokens=60)
    for name, folder in folders.items():
        engine.load_adapter(name, folder)
        assert say(engine, name) == SAYS[name]
    assert say(engine, None, max_tokens=60) == said
    # The last forward pass was the base's, so the model is as it is when the base answers.
    assert torch.equal(logits(model), before)
    for name in folders:
        assert say(engine, name) == SAYS[name]
        assert engine.unload_adapter(name)
    assert torch.equal(logits(model), before)
    after = model.state_dict()
    assert after.keys() == weights.keys()
    assert all(torch.equal(after[key], weights[key]) for key in weights)


def test_an_adapter_can_go_and_come_back_under_the_same_name(engine: Engine, folders: dict[str, Path]) -> None:
    for key in ("a", "b", "a"):
        engine.load_adapter("bot", folders[key])
        assert say(engine, "bot") == SAYS[key]
        assert engine.unload_adapter("bot")
    assert not engine.unload_adapter("bot")


def test_a_name_stands_for_one_folder(engine: Engine, folders: dict[str, Path]) -> None:
    engine.load_adapter("bot", folders["a"])
    engine.load_adapter("bot", folders["a"])
    with pytest.raises(ServingError) as caught:
        engine.load_adapter("bot", folders["b"])
    assert code(caught) == "E752"
    assert engine.adapters == {"bot": folders["a"]}
    assert say(engine, "bot") == SAYS["a"]


def test_an_unknown_adapter_is_an_error_and_not_the_base(engine: Engine) -> None:
    with pytest.raises(ServingError) as caught:
        engine.generate(Ask(messages=HELLO), "nobody")
    assert code(caught) == "E753"
    with pytest.raises(ServingError):
        list(engine.chat("nobody").stream(HELLO, max_tokens=3, temperature=0, seed=None))
    with pytest.raises(ServingError):
        engine.answers([HELLO], "nobody", 3)


def test_threads_do_not_get_each_others_adapter(engine: Engine, folders: dict[str, Path]) -> None:
    base = say(engine, None)
    for name, folder in folders.items():
        engine.load_adapter(name, folder)
    asked: list[str | None] = ["a", "b", None] * 8
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda name: say(engine, name), asked))
    assert answers == [SAYS[name] if name else base for name in asked]


def test_answers_on_different_adapters_take_turns_token_by_token(engine: Engine, folders: dict[str, Path]) -> None:
    base = say(engine, None)
    for name, folder in folders.items():
        engine.load_adapter(name, folder)
    names: list[str | None] = ["a", None, "b", "a"]
    under_way = [engine.generate(Ask(messages=HELLO, max_tokens=40, temperature=0), name) for name in names]
    texts = [""] * len(names)
    while any(answer.finish_reason is None for answer in under_way):
        for index, answer in enumerate(under_way):
            texts[index] += next(answer, "")
    for index, answer in enumerate(under_way):
        texts[index] += "".join(answer)
    assert texts == [SAYS["a"], base, SAYS["b"], SAYS["a"]]


def test_unloading_lets_the_answer_under_way_end_and_refuses_new_ones(engine: Engine, folders: dict[str, Path]) -> None:
    for name, folder in folders.items():
        engine.load_adapter(name, folder)
    answer = engine.generate(Ask(messages=HELLO, temperature=0), "a")
    begun = next(answer)
    assert engine.unload_adapter("a")
    with pytest.raises(ServingError):
        engine.generate(Ask(messages=HELLO), "a")
    engine.load_adapter("a", folders["b"])
    assert say(engine, "a") == SAYS["b"]
    assert begun + "".join(answer) == SAYS["a"]


def test_counts_and_reasons(engine: Engine, folders: dict[str, Path], tokenizer: Any) -> None:
    engine.load_adapter("a", folders["a"])
    whole = engine.generate(Ask(messages=HELLO, temperature=0), "a")
    text = "".join(whole)
    prompt = tokenizer.apply_chat_template(HELLO, tokenize=False, add_generation_prompt=True)
    assert (
        whole.prompt_tokens == len(tokenizer(prompt)["input_ids"]) == len("user\nHello, who are you?\nassistant\n") + 3
    )
    # One byte is one token, and the end of the turn is one more.
    assert (whole.completion_tokens, whole.finish_reason) == (len(text) + 1, "stop")
    cut = engine.generate(Ask(messages=HELLO, temperature=0, max_tokens=4), "a")
    assert ("".join(cut), cut.completion_tokens, cut.finish_reason) == (text[:4], 4, "length")
    stopped = engine.generate(Ask(messages=HELLO, temperature=0, stop=("adapter", "tuned")), "a")
    assert ("".join(stopped), stopped.finish_reason) == ("I am ", "stop")


def test_the_same_seed_says_the_same_also_in_company(engine: Engine) -> None:
    ask = {"temperature": 1.5, "max_tokens": 30}
    once = say(engine, None, seed=7, **ask)
    with ThreadPoolExecutor(4) as threads:
        again = list(threads.map(lambda seed: say(engine, None, seed=seed, **ask), [7, 8, 7, 9]))
    assert again[0] == again[2] == once
    assert len({once, again[1], again[3]}) == 3


def test_a_narrow_top_p_and_a_low_temperature_are_greedy(engine: Engine) -> None:
    greedy = say(engine, None)
    assert say(engine, None, temperature=1.0, top_p=1e-9, seed=1) == greedy
    assert say(engine, None, temperature=1e-30, seed=1) == greedy


def test_greedy_is_what_transformers_generates(engine: Engine, base_model: Any, tokenizer: Any) -> None:
    prompt = tokenizer.apply_chat_template(LONG, tokenize=False, add_generation_prompt=True)
    ids = torch.tensor([tokenizer(prompt, add_special_tokens=False)["input_ids"]])
    made = base_model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=50, do_sample=False)
    expected = tokenizer.decode(made[0, ids.shape[1] :], skip_special_tokens=True)
    assert say(engine, None, messages=LONG, max_tokens=50) == expected


@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_batched_answers_equal_single_ones(engine: Engine, folders: dict[str, Path], batch_size: int) -> None:
    prompts = [[{"role": "user", "content": "word " * n + "?"}] for n in (9, 1, 30, 2, 14)]
    prompts += [HELLO, [{"role": "user", "content": "Hi"}]]
    engine.load_adapter("a", folders["a"])
    for adapter in ("a", None):
        single = [say(engine, adapter, messages=prompt) for prompt in prompts]
        assert engine.answers(prompts, adapter, 40, batch_size=batch_size) == single
    assert engine.answers([], None, 5) == []
    assert engine.answers([HELLO], "a", 40) == [SAYS["a"]]


def test_batched_answers_of_a_model_with_learned_positions(tokenizer: Any) -> None:
    """Rotary positions forgive a shift by the padding; these do not."""
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=259, n_embd=32, n_layer=2, n_head=2, n_positions=96, bos_token_id=2, eos_token_id=2,
        initializer_range=0.3,
    )  # fmt: skip
    engine = Engine(BASE, Loaded(GPT2LMHeadModel(config), tokenizer))
    prompts = [[{"role": "user", "content": "x" * n}] for n in (1, 40, 7)]
    assert engine.answers(prompts, None, 60) == [
        say(engine, None, messages=prompt, max_tokens=60) for prompt in prompts
    ]


def test_the_end_of_the_context_ends_an_answer(base_model: Any, tokenizer: Any) -> None:
    engine = Engine(BASE, Loaded(build_model(context=64), tokenizer))
    answer = engine.generate(Ask(messages=HELLO, temperature=0), None)
    list(answer)
    assert answer.finish_reason == "length"
    assert answer.prompt_tokens + answer.completion_tokens == 64
    with pytest.raises(ServingError) as caught:
        engine.generate(Ask(messages=LONG), None)
    assert code(caught) == "E754"
    assert "64" in caught.value.problems[0].what
    with pytest.raises(ServingError):
        engine.answers([HELLO, LONG], None, 5)
    assert not engine.fits(LONG, None, 1)
    left = 64 - answer.prompt_tokens
    assert [engine.fits(HELLO, None, tokens) for tokens in (1, left, left + 1)] == [True, True, False]
    with pytest.raises(ServingError):
        engine.fits(HELLO, "nobody", 1)


def test_an_adapter_of_another_base_is_refused_and_leaves_nothing(
    tokenizer: Any, folders: dict[str, Path], tmp_path: Path
) -> None:
    narrow = build_model(hidden=32)
    before = logits(narrow)
    engine = Engine(BASE, Loaded(narrow, tokenizer))
    with pytest.raises(ServingError) as caught:
        engine.load_adapter("a", folders["a"])
    assert code(caught) == "E750"
    assert engine.adapters == {}
    assert torch.equal(logits(narrow), before)


@pytest.mark.parametrize("first", [True, False])
def test_an_adapter_that_lacks_layers_is_refused_and_leaves_nothing(
    engine: Engine, folders: dict[str, Path], tmp_path: Path, first: bool
) -> None:
    said = say(engine, None)
    if not first:
        engine.load_adapter("b", folders["b"])
    broken = tmp_path / "broken"
    shutil.copytree(folders["a"], broken)
    weights = load_file(broken / "adapter_model.safetensors")
    save_file({k: v for k, v in weights.items() if "layers.1.mlp" not in k}, broken / "adapter_model.safetensors")
    with pytest.raises(ServingError) as caught:
        engine.load_adapter("a", broken)
    assert code(caught) == "E750"
    assert "a" not in engine.adapters
    assert say(engine, None) == said
    engine.load_adapter("a", folders["a"])
    assert say(engine, "a") == SAYS["a"]
    assert first or say(engine, "b") == SAYS["b"]


def test_an_adapter_of_the_wrong_rank_is_refused(engine: Engine, folders: dict[str, Path], tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(folders["a"], broken)
    config = json.loads((broken / "adapter_config.json").read_text())
    (broken / "adapter_config.json").write_text(json.dumps({**config, "r": 4}))
    with pytest.raises(ServingError) as caught:
        engine.load_adapter("a", broken)
    assert code(caught) == "E750"
    assert say(engine, None)


def test_an_adapter_answers_with_the_template_of_its_training(
    engine: Engine, folders: dict[str, Path], tmp_path: Path
) -> None:
    own = tmp_path / "own"
    shutil.copytree(folders["a"], own)
    (own / "chat_template.jinja").write_text("{{ raise_exception('only for a test') }}")
    engine.load_adapter("own", own)
    with pytest.raises(ServingError, match="only for a test") as caught:
        engine.generate(Ask(messages=HELLO), "own")
    assert code(caught) == "E759"
    assert say(engine, None)


def test_a_base_without_a_template_says_so(base_model: Any, tokenizer: Any) -> None:
    bare = copy.deepcopy(tokenizer)
    bare.chat_template = None
    with pytest.raises(ServingError) as caught:
        Engine(BASE, Loaded(copy.deepcopy(base_model), bare)).generate(Ask(messages=HELLO), None)
    assert code(caught) == "E759"


def test_broken_weights_are_an_error_and_not_an_answer(loaded: Loaded) -> None:
    with torch.no_grad():
        loaded.model.lm_head.weight.fill_(float("nan"))
    engine = Engine(BASE, loaded)
    for temperature in (0.0, 1.0):
        with pytest.raises(ServingError) as caught:
            list(engine.generate(Ask(messages=HELLO, temperature=temperature), None))
        assert code(caught) == "E758"
    assert engine.under_way == 0


def test_a_chat_that_is_dropped_ends_its_answer(engine: Engine) -> None:
    pieces = engine.chat(None).stream(LONG, max_tokens=400, temperature=0, seed=None)
    assert next(pieces)
    assert engine.under_way == 1
    pieces.close()  # type: ignore[attr-defined]
    assert engine.under_way == 0
    answer = engine.generate(Ask(messages=LONG), None)
    next(answer)
    del answer
    assert engine.under_way == 0


def test_text_that_no_byte_breaks(engine: Engine) -> None:
    """The random base babbles bytes; each piece is what it would be within the whole."""
    answer = engine.generate(Ask(messages=LONG, max_tokens=200, temperature=1.5, seed=3), None)
    pieces = list(answer)
    assert len(pieces) >= answer.completion_tokens
    assert "".join(pieces).encode()


def test_loading_while_others_answer(engine: Engine, folders: dict[str, Path]) -> None:
    """Adapters come and go while threads ask for one that stays."""
    base = say(engine, None)
    engine.load_adapter("a", folders["a"])
    done = threading.Event()

    def come_and_go() -> None:
        while not done.is_set():
            engine.load_adapter("b", folders["b"])
            engine.unload_adapter("b")

    thread = threading.Thread(target=come_and_go)
    thread.start()
    try:
        with ThreadPoolExecutor(4) as threads:
            answers = list(threads.map(lambda name: say(engine, name), ["a", None] * 4))
    finally:
        done.set()
        thread.join()
    assert answers == [SAYS["a"], base] * 4
