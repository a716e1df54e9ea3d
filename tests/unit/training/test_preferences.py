"""Preference rows as the model sees them, token by token."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from finetune.data.example import Preference
from finetune.errors import TrainingError
from finetune.training import examples
from finetune.training.examples import IGNORED, ChatEncoder
from finetune.training.preferences import Pair, PairEncoder
from finetune.training.tokens import LocalTokens
from tests.support import tiny

PROMPT = [
    {"role": "system", "content": "be kind"},
    {"role": "user", "content": "hi"},
    {"role": "assistant", "content": "yo"},
    {"role": "user", "content": "ok?"},
]
ROW = {
    "prompt": PROMPT,
    "chosen": [{"role": "assistant", "content": "sure"}],
    "rejected": [{"role": "assistant", "content": "no"}],
}
TEMPLATES = {"marked": tiny.MARKED, "unmarked": tiny.UNMARKED}


def encode(row: dict[str, Any], template: str = tiny.MARKED) -> Pair:
    return PairEncoder(tiny.tokenizer(template)).encode(row)


def learned(example: examples.Example) -> str:
    on = example.labels != IGNORED
    assert (example.labels[on] == example.ids[on]).all()
    return tiny.tokenizer().decode(example.ids[on])


def load(tmp_path: Path, rows: list[Any], most: int = 200) -> tuple[examples.Examples, list[str]]:
    path = tmp_path / "d.jsonl"
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    warnings: list[str] = []
    return examples.load(path, PairEncoder(tiny.tokenizer()), most, warnings.append), warnings


@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES)
def test_each_answer_stands_behind_the_prompt_and_it_alone_is_learned(template: str) -> None:
    made = encode(ROW, template)
    for part, key in zip(made.parts, ("chosen", "rejected"), strict=True):
        alone = ChatEncoder(tiny.tokenizer(template)).encode({"messages": [*PROMPT, *ROW[key]]})
        assert part.ids.tolist() == alone.ids.tolist()
        assert learned(part) == ROW[key][0]["content"] + "<|im_end|>"
        assert part.supervised == len(ROW[key][0]["content"]) + 1
    assert made.longest == made.chosen.tokens > made.rejected.tokens
    assert made.tokens == made.chosen.tokens + made.rejected.tokens


def test_what_the_assistant_says_of_its_own_in_an_answer_of_several_messages_is_learned() -> None:
    called = [
        {"role": "assistant", "content": "let me look"},
        {"role": "tool", "content": "42"},
        {"role": "assistant", "content": "it is 42"},
    ]
    made = encode({**ROW, "chosen": called})
    assert learned(made.chosen) == "let me look<|im_end|>it is 42<|im_end|>"
    unweighed = [{**called[0], "weight": 0}, *called[1:]]
    assert learned(encode({**ROW, "chosen": unweighed}).chosen) == "it is 42<|im_end|>"


def test_tools_are_shown_with_both_answers() -> None:
    template = "{%- if tools %}{{- tools[0].function.name }}{%- endif %}" + tiny.MARKED
    made = encode({**ROW, "tools": [{"type": "function", "function": {"name": "look"}}]}, template)
    for part in made.parts:
        assert tiny.tokenizer().decode(part.ids).startswith("look<|im_start|>")


def test_what_a_plan_counts_as_learned_is_what_is_learned() -> None:
    row = msgspec.convert(ROW, Preference)
    tokenizer = tiny.tokenizer()
    counter = object.__new__(LocalTokens)
    counter.name, counter._tokenizer = "tiny", tokenizer.backend_tokenizer
    counter._template = ChatEncoder(tokenizer)._template
    made = encode(ROW)
    assert counter.learned([row])[0].low == sum(part.supervised for part in made.parts)
    (count,) = counter.count([row])
    assert (count.longest.low, count.total.low) == (made.longest, made.tokens)


def test_rows_are_cut_or_left_out_and_counted(tmp_path: Path) -> None:
    size = encode(ROW).rejected.tokens
    long_prompt = {**ROW, "prompt": [{"role": "user", "content": "x" * 300}]}
    made, warnings = load(tmp_path, [ROW, long_prompt, ROW], size)
    assert [unit.longest for unit in made.rows] == [size, size]
    assert learned(made.rows[0].parts[0]) == "sure"
    assert learned(made.rows[0].parts[1]) == "no<|im_end|>"
    assert [each.split(":")[0] for each in warnings] == [
        f"2 of 3 rows are longer than max_seq_length = {size} tokens and were cut at their end",
        "1 of 3 rows were left out",
    ]


def test_answers_that_nothing_tells_apart_teach_nothing(tmp_path: Path) -> None:
    made, warnings = load(tmp_path, [ROW, {**ROW, "rejected": ROW["chosen"]}])
    assert len(made.rows) == 1
    assert warnings == ["1 of 2 rows were left out: nothing to learn within 200 tokens"]
    start = encode(ROW).rejected.tokens - len("no") - 2
    with pytest.raises(TrainingError, match=r"(?s)E612.*none has two answers that differ within"):
        load(tmp_path, [ROW], start)


@pytest.mark.parametrize(
    "line",
    [
        "nonsense",
        {"messages": [*PROMPT, *ROW["chosen"]]},
        {**ROW, "prompt": []},
        {**ROW, "prompt": "hi"},
        {**ROW, "chosen": "yes"},
        {key: ROW[key] for key in ("prompt", "chosen")},
    ],
)
def test_lines_that_are_no_preferences_are_named(tmp_path: Path, line: Any) -> None:
    with pytest.raises(TrainingError, match=r"is not \{.prompt") as caught:
        load(tmp_path, [ROW, line])
    assert (caught.value.problems[0].code, caught.value.problems[0].line) == ("E610", 2)


def test_preferences_are_no_chats(tmp_path: Path) -> None:
    path = tiny.write_pairs(tmp_path / "d.jsonl", tiny.PAIRS)
    with pytest.raises(TrainingError, match=r"E610.*is not \{.messages"):
        examples.load(path, ChatEncoder(tiny.tokenizer()), 100, lambda _: None)


def test_a_row_whose_answer_cannot_be_placed_is_named(tmp_path: Path) -> None:
    bad = {**ROW, "chosen": [{"role": "assistant", "content": "no", "weight": 0.5}]}
    with pytest.raises(TrainingError, match=r"E611.*0\.5") as caught:
        load(tmp_path, [ROW, bad])
    assert caught.value.problems[0].line == 2


def test_the_digest_tells_the_better_from_the_worse(tmp_path: Path) -> None:
    turned = {**ROW, "chosen": ROW["rejected"], "rejected": ROW["chosen"]}
    assert load(tmp_path, [ROW])[0].digest != load(tmp_path, [turned])[0].digest
