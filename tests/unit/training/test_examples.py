import json
from pathlib import Path
from typing import Any

import pytest

from finetune.errors import TrainingError
from finetune.training import examples
from finetune.training.examples import IGNORED, ChatEncoder
from finetune.training.template import UnplacedRow
from tests.support import tiny

CHAT = [
    {"role": "system", "content": "be kind"},
    {"role": "user", "content": "hi"},
    {"role": "assistant", "content": "yo"},
    {"role": "user", "content": "ok?"},
    {"role": "assistant", "content": "no"},
]

TEMPLATES = {"marked": tiny.MARKED, "unmarked": tiny.UNMARKED}

#: Repeats the whole of an earlier turn differently, as templates do that drop earlier reasoning.
FORGETFUL = (
    "{%- for message in messages %}{{- '<|im_start|>' + message.role + '\\n' }}"
    "{%- if message.role == 'assistant' and loop.last %}{{- '<think></think>' }}{%- endif %}"
    "{{- message.content + '<|im_end|>\\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)


def encode(messages: list[dict[str, Any]], template: str) -> tuple[list[str], list[bool]]:
    """The tokens as text, and which of them are supervised."""
    tokenizer = tiny.tokenizer(template)
    made = ChatEncoder(tokenizer).encode({"messages": messages})
    on = made.labels != IGNORED
    assert (made.labels[on] == made.ids[on]).all()
    return [tokenizer.decode([token]) for token in made.ids], on.tolist()


def learned(messages: list[dict[str, Any]], template: str) -> str:
    """The supervised text, `|` between stretches."""
    tokens, on = encode(messages, template)
    return "".join(t if s else "|" for t, s in zip(tokens, on, strict=True)).strip("|").replace("||", "|")


@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES)
def test_the_mask_token_by_token(template: str) -> None:
    tokens, on = encode(CHAT, template)
    expected: list[tuple[str, bool]] = []
    for message in CHAT:
        answer = message["role"] == "assistant"
        expected.append(("<|im_start|>", False))
        expected += [(char, False) for char in message["role"] + "\n"]
        expected += [(char, answer) for char in message["content"]]
        expected += [("<|im_end|>", answer), ("\n", False)]
    assert list(zip(tokens, on, strict=True)) == expected


def test_marks_of_the_template_give_the_mask_that_transformers_gives() -> None:
    tokenizer = tiny.tokenizer()
    theirs = tokenizer.apply_chat_template(CHAT, return_dict=True, return_assistant_tokens_mask=True)
    made = ChatEncoder(tokenizer).encode({"messages": CHAT})
    assert made.ids.tolist() == theirs["input_ids"]
    assert (made.labels != IGNORED).int().tolist() == theirs["assistant_masks"]
    assert made.supervised == 6


@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES)
@pytest.mark.parametrize("answer", [2, 4])
def test_the_prompt_of_generation_is_a_token_prefix_and_all_of_it_unsupervised(template: str, answer: int) -> None:
    tokenizer = tiny.tokenizer(template)
    prompt = tokenizer.apply_chat_template(CHAT[:answer], add_generation_prompt=True)["input_ids"]
    made = ChatEncoder(tokenizer).encode({"messages": CHAT[: answer + 1]})
    assert made.ids[: len(prompt)].tolist() == prompt
    assert made.labels[len(prompt)] == made.ids[len(prompt)]
    assert made.labels[len(prompt) - 1] == IGNORED
    assert ChatEncoder(tokenizer).prompt_leads({"messages": CHAT[: answer + 1]})


@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES)
def test_weight_zero_takes_one_answer_out(template: str) -> None:
    first, second = ([{**m, "weight": 0} if i == out else m for i, m in enumerate(CHAT)] for out in (2, 4))
    assert encode(first, template)[0] == encode(CHAT, template)[0]
    assert "yo" not in learned(first, template)
    assert "no<|im_end|>" in learned(first, template)
    assert "no" not in learned(second, template)
    assert learned([{**m, "weight": 1} for m in CHAT], template) == learned(CHAT, template)


def test_what_the_user_writes_is_never_learned_even_if_it_looks_like_an_answer() -> None:
    chat = [{"role": "user", "content": "assistant\nyo"}, {"role": "assistant", "content": "yo"}]
    for template in TEMPLATES.values():
        assert learned(chat, template) == "yo<|im_end|>"


def test_characters_of_several_tokens_are_supervised_whole() -> None:
    chat = [{"role": "user", "content": "é☃"}, {"role": "assistant", "content": "☃é"}]
    for template in TEMPLATES.values():
        made = ChatEncoder(tiny.tokenizer(template)).encode({"messages": chat})
        assert made.supervised == len("☃é".encode()) + 1


def test_a_template_that_renders_earlier_answers_differently() -> None:
    tokens, on = encode(CHAT, FORGETFUL)
    text = "".join(token for token, s in zip(tokens, on, strict=True) if s)
    assert text == "yo<|im_end|><think></think>no<|im_end|>"


def test_a_template_without_an_end_mark_ends_the_turn_with_its_newline() -> None:
    plain = (
        "{%- for m in messages %}{{- m.role + ': ' + m.content + '\\n' }}{%- endfor %}"
        "{%- if add_generation_prompt %}{{- 'assistant: ' }}{%- endif %}"
    )
    assert "yo\n" in learned(CHAT, plain)


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("{{- messages | length }}{% for m in messages %}{{ m.content }}{% endfor %}", "is not how the whole"),
        ("{{ raise_exception('no system here') }}", "no system here"),
        (
            "{% for m in messages %}{% if m.role == 'assistant' and not loop.last %}{{ m.content | upper }}{% else %}"
            "{{ m.content }}{% endif %}{% endfor %}",
            "message 3",
        ),
    ],
)
def test_a_row_whose_answers_cannot_be_placed_says_why(template: str, says: str) -> None:
    with pytest.raises(UnplacedRow, match=says):
        ChatEncoder(tiny.tokenizer(template)).encode({"messages": CHAT})


def load(tmp_path: Path, rows: list[Any], most: int = 100, template: str = tiny.MARKED) -> tuple[Any, list[str]]:
    warnings: list[str] = []
    path = tiny.write_rows(tmp_path / "d.jsonl", rows)
    return examples.load(path, ChatEncoder(tiny.tokenizer(template)), most, warnings.append), warnings


def test_long_rows_are_cut_at_their_end_or_left_out_and_counted(tmp_path: Path) -> None:
    long_answer = tiny.messages(["", "hi", "x" * 90])
    long_prompt = tiny.messages(["", "x" * 90, "hi"])
    made, warnings = load(tmp_path, [CHAT[:3], long_answer, long_prompt], 60)
    assert [len(row.ids) for row in made.rows][1] == 60
    assert made.rows[1].labels[-1] != IGNORED
    assert len(made.rows) == 2
    assert len(warnings) == 2
    assert warnings[0].startswith("1 of 3 rows are longer")
    assert warnings[1].startswith("1 of 3 rows were left out")


def test_rows_that_fit_are_whole_and_no_one_is_warned(tmp_path: Path) -> None:
    made, warnings = load(tmp_path, [CHAT, CHAT[:3]])
    assert (len(made.rows), warnings) == (2, [])


@pytest.mark.parametrize("rows", [[CHAT[:2]], [[{**m, "weight": 0} for m in CHAT]], []])
def test_nothing_to_learn_is_an_error(tmp_path: Path, rows: list[Any]) -> None:
    with pytest.raises(TrainingError, match="E612"):
        load(tmp_path, rows)


def test_rows_at_fault_are_named_by_line(tmp_path: Path) -> None:
    bad = [*CHAT[:4], {"role": "assistant", "content": "no", "weight": 0.5}]
    with pytest.raises(TrainingError) as caught:
        load(tmp_path, [CHAT, bad, CHAT, bad])
    assert [problem.line for problem in caught.value.problems] == [2, 4]
    assert "0.5" in caught.value.problems[0].what


@pytest.mark.parametrize("line", ["nonsense", "[]", "{}", '{"messages": []}', '{"messages": [{"content": "x"}]}'])
def test_lines_that_are_no_chats_are_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "d.jsonl"
    path.write_text(json.dumps({"messages": CHAT}) + "\n\n" + line + "\n")
    with pytest.raises(TrainingError) as caught:
        examples.load(path, ChatEncoder(tiny.tokenizer()), 100, lambda _: None)
    assert (caught.value.problems[0].code, caught.value.problems[0].line) == ("E610", 3)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="E610"):
        examples.load(tmp_path / "no", ChatEncoder(tiny.tokenizer()), 100, lambda _: None)


def test_a_prompt_unlike_training_is_warned_of(tmp_path: Path) -> None:
    template = tiny.MARKED.replace("'<|im_start|>assistant\\n'", "'<|im_start|>bot\\n'")
    assert "generation" in load(tmp_path, [CHAT], template=template)[1][0]


def test_the_digest_is_of_the_tokens_and_their_mask(tmp_path: Path) -> None:
    same = [load(tmp_path, [CHAT, CHAT[:3]], template=template)[0].digest for template in TEMPLATES.values()]
    masked = load(tmp_path, [[*CHAT[:4], {**CHAT[4], "weight": 0}], CHAT[:3]])[0].digest
    swapped = load(tmp_path, [CHAT[:3], CHAT])[0].digest
    assert same[0] == same[1]
    assert len({same[0], masked, swapped}) == 3
