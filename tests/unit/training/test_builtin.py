"""The built-in base model and the texts of the quickstart."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from finetune.training import builtin, corpus

ROOT = Path(__file__).parents[3]
QUICK = replace(builtin.Recipe(), copying_steps=2, support_steps=6, batch_size=16, hidden_size=32, layers=1)


def quiet(_: str) -> None:
    pass


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    builtin.build(QUICK, folder, quiet)
    return folder


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> Any:
    return AutoTokenizer.from_pretrained(folder)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(builtin._RECIPES, "tiny-llama", QUICK)


def pretraining() -> list[corpus.Chat]:
    recipe = builtin.Recipe()
    return corpus.pretraining_chats(
        copying=recipe.copying_steps * recipe.batch_size, support=recipe.support_steps * recipe.batch_size
    )


def test_transformers_alone_loads_the_folder(folder: Path, tokenizer: Any) -> None:
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json"} <= {
        path.name for path in folder.iterdir()
    }
    assert model.config.vocab_size == len(tokenizer)
    assert model.dtype == torch.float32
    assert model.generation_config.eos_token_id == tokenizer.convert_tokens_to_ids(builtin.END)
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hello"}], add_generation_prompt=True, return_dict=True, return_tensors="pt"
    )
    answer = model.generate(**prompt, max_new_tokens=3)
    assert answer.shape[1] > prompt["input_ids"].shape[1]


@pytest.mark.parametrize(
    "text",
    [
        "My order is A-1042.",
        "Grüße aus Köln",
        "👩‍🚀 in 東京 \u0000\t\r\n  two  spaces ",
        "x = 3.14159; # 007",
        "نص عربي",
        "",
    ],
)
def test_the_tokenizer_gives_back_any_text(tokenizer: Any, text: str) -> None:
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(ids) == text


def test_numbers_are_read_in_pairs_of_digits(tokenizer: Any) -> None:
    ids = tokenizer("A-1042 777", add_special_tokens=False)["input_ids"]
    assert all(sum(char.isdigit() for char in tokenizer.decode([i])) <= 2 for i in ids)


def test_the_chat_template_marks_what_the_assistant_wrote_and_its_end(tokenizer: Any) -> None:
    chat = [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "two 👍"},
        {"role": "user", "content": "three"},
        {"role": "assistant", "content": "four"},
    ]
    ids, marks = builtin.encode(tokenizer, chat)
    marked = tokenizer.decode([i for i, mark in zip(ids, marks, strict=True) if mark])
    assert marked == "two 👍<|im_end|>four<|im_end|>"
    assert tokenizer.decode(ids).startswith("<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\none<|im_end|>\n")
    prompt = tokenizer.apply_chat_template(chat[:2], add_generation_prompt=True, tokenize=False)
    assert tokenizer.decode(ids).startswith(prompt + "two 👍")


def test_special_tokens_are_left_out_of_an_answer(tokenizer: Any) -> None:
    ids = tokenizer("<|im_start|>hi<|im_end|><|pad|>", add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(ids, skip_special_tokens=True) == "hi"


def test_a_build_gives_the_same_bytes_and_leaves_torch_as_it_was(folder: Path, tmp_path: Path) -> None:
    threads, state = torch.get_num_threads(), torch.random.get_rng_state()
    torch.set_num_threads(threads + 1)
    builtin.build(QUICK, tmp_path, quiet)
    assert torch.get_num_threads() == threads + 1
    torch.set_num_threads(threads)
    assert torch.equal(state, torch.random.get_rng_state())
    assert not torch.are_deterministic_algorithms_enabled()
    for path in folder.iterdir():
        assert path.read_bytes() == (tmp_path / path.name).read_bytes(), path.name


@pytest.mark.usefixtures("quick")
def test_ensure_builds_once(tmp_path: Path) -> None:
    lines: list[str] = []
    built = builtin.ensure("tiny-llama", tmp_path / "cache", lines.append)
    assert lines[-1].startswith("building tiny-llama: step 8/8, loss ")
    before = (built / "model.safetensors").stat().st_mtime_ns
    lines.clear()
    assert builtin.ensure("tiny-llama", tmp_path / "cache", lines.append) == built
    assert lines == []
    assert (built / "model.safetensors").stat().st_mtime_ns == before


@pytest.mark.usefixtures("quick")
def test_of_two_builders_the_first_to_finish_wins(tmp_path: Path) -> None:
    winners: list[Path] = []

    def overtaken(_: str) -> None:
        if not winners:
            winners.append(builtin.ensure("tiny-llama", tmp_path, quiet))
            (winners[0] / "mark").touch()

    assert builtin.ensure("tiny-llama", tmp_path, overtaken) == winners[0]
    assert (winners[0] / "mark").exists()
    assert list(tmp_path.iterdir()) == winners


@pytest.mark.usefixtures("quick")
def test_a_build_that_is_broken_off_leaves_nothing(tmp_path: Path) -> None:
    def stop(_: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        builtin.ensure("tiny-llama", tmp_path, stop)
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_builder_left_goes_after_a_day_and_nothing_else(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path\n"
        "from tests.unit.training.test_builtin import QUICK, builtin\n"
        "builtin._RECIPES['tiny-llama'] = QUICK\n"
        "builtin.ensure('tiny-llama', Path(sys.argv[1]), lambda _: os.kill(os.getpid(), signal.SIGKILL))"
    )
    assert subprocess.run([sys.executable, "-c", code, tmp_path], check=False, cwd=ROOT).returncode == -9
    (left,) = tmp_path.iterdir()
    half, filled, other = left / "half", tmp_path / f"{left.name}2", tmp_path / ".tiny-gpt-1"
    half.touch()
    for folder in (filled, other):
        folder.mkdir()
    (filled / "fresh").touch()
    long_ago = time.time() - 90_000
    (tmp_path / f"tiny-llama-{builtin.fingerprint(builtin.Recipe())}").mkdir()
    builtin.ensure("tiny-llama", tmp_path, quiet)
    assert left.exists()
    for path in (half, left, filled, other):
        os.utime(path, (long_ago, long_ago))
    builtin.ensure("tiny-llama", tmp_path, quiet)
    assert not left.exists()
    assert filled.exists()
    assert other.exists()


def test_an_unknown_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="tiny-llama"):
        builtin.ensure("huge-llama", tmp_path, quiet)


def test_another_recipe_is_another_folder() -> None:
    assert builtin.fingerprint(QUICK) != builtin.fingerprint(replace(QUICK, seed=QUICK.seed + 1))
    assert builtin.fingerprint(QUICK) == builtin.fingerprint(QUICK)


@pytest.mark.parametrize("made", [corpus.quickstart_rows, pretraining])
def test_the_texts_are_always_the_same(made: Callable[[], list[corpus.Chat]]) -> None:
    assert made() == made()


def test_the_data_set_is_what_the_generator_writes() -> None:
    file = ROOT / "datasets" / "quickstart.jsonl"
    assert file.read_text(encoding="utf-8") == corpus.dump(corpus.quickstart_rows()), (
        "write it anew: python -m finetune.training.corpus > datasets/quickstart.jsonl"
    )
    first = json.loads(file.read_text(encoding="utf-8").splitlines()[0])
    assert [turn["role"] for turn in first["messages"]] == ["user", "assistant"]


def test_no_two_rows_of_the_data_set_share_a_message_or_an_order() -> None:
    tickets = corpus.quickstart_tickets()
    orders = [ticket.order for ticket in tickets if ticket.order]
    assert len(tickets) == len({ticket.message for ticket in tickets}) == corpus.ROWS
    assert len(orders) == len(set(orders))
    assert {(t.queue, t.urgency) for t in tickets} == {(q, u) for q in corpus.QUEUES for u in corpus.URGENCIES}


def test_an_order_number_can_be_read_off_the_message() -> None:
    for ticket in corpus.quickstart_tickets():
        assert ticket.order is None or f"{ticket.order}" in ticket.message
        assert (ticket.order is None) == (not any(char.isdigit() for char in ticket.message))


def test_pretraining_shows_neither_the_messages_nor_the_format() -> None:
    seen = "\n".join(turn["content"] for chat in pretraining() for turn in chat)
    for field in ("queue:", "order:", "urgency:"):
        assert field not in seen
    for ticket in corpus.quickstart_tickets():
        assert ticket.message not in seen
        assert ticket.line not in seen
        assert ticket.order is None or ticket.order not in seen


def test_pretraining_states_no_problem_in_the_words_of_the_data_set() -> None:
    seen = "\n".join(turn["content"] for chat in pretraining() for turn in chat)
    for bank in corpus.PROBLEMS.values():
        for sentence in bank[corpus._Half.DATA_SET.value :: 2]:
            for goods in corpus.PRODUCTS + corpus.GADGETS:
                assert sentence.format(p=goods) not in seen
