"""Every fault of a preference or a label is told with its code and its field, by the names that the user wrote."""

import json
from typing import Any

import pytest

from finetune.data.formats import FORMATS

USER = {"role": "user", "content": "q"}
GOOD = {"role": "assistant", "content": "good"}
BAD = {"role": "assistant", "content": "bad"}
TOOL = {"role": "tool", "content": "r", "tool_call_id": "1"}
CALLS = {
    "role": "assistant",
    "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
}
IMAGE = {"type": "image_url", "image_url": {"url": "https://a.example/a.png"}}


def dpo(**more: Any) -> dict[str, Any]:
    row = {"input": {"messages": [USER]}, "preferred_output": [GOOD], "non_preferred_output": [BAD], **more}
    return {key: value for key, value in row.items() if value is not ...}


def pair(**more: Any) -> dict[str, Any]:
    row = {"prompt": [USER], "chosen": [GOOD], "rejected": [BAD], **more}
    return {key: value for key, value in row.items() if value is not ...}


def label(**more: Any) -> dict[str, Any]:
    row = {"prompt": "q", "completion": "a", "label": True, **more}
    return {key: value for key, value in row.items() if value is not ...}


def model(*texts: str, **more: Any) -> dict[str, Any]:
    return {"role": "model", "parts": [{"text": each} for each in texts], **more}


def scored(score: Any, completion: Any) -> dict[str, Any]:
    return {"score": score, "completion": completion}


ASKED = {"role": "user", "parts": [{"text": "q"}]}
TWO = [scored(1, model("good")), scored(0, model("bad"))]


def gemini(**more: Any) -> dict[str, Any]:
    row = {"contents": [ASKED], "completions": TWO, **more}
    return {key: value for key, value in row.items() if value is not ...}


def asked(*messages: Any, **more: Any) -> dict[str, Any]:
    return {"messages": list(messages), **more}


#: Those of all layouts with OpenAI's keys.
DPO = [
    (dpo(input=...), ["E237 input"]),
    (dpo(preferred_output=...), ["E237 preferred_output"]),
    (dpo(non_preferred_output=...), ["E237 non_preferred_output"]),
    ({}, ["E237 input", "E237 preferred_output", "E237 non_preferred_output"]),
    (dpo(input=[USER]), ["E210 input"]),
    (dpo(input={}), ["E210 input.messages"]),
    (dpo(input=asked()), ["E210 input.messages"]),
    (dpo(input=asked({"role": "human", "content": "q"})), ["E211 input.messages[0].role"]),
    (dpo(input=asked({"role": "user"})), ["E212 input.messages[0].content"]),
    (dpo(input=asked(USER, topic=1)), ["E209 input.topic"]),
    (dpo(messages=[USER]), ["E209 messages"]),
    (dpo(tools=[]), ["E209 tools"]),
    (dpo(input=asked(USER, tools=[{"type": "function"}])), ["E238 input.tools[0].function"]),
    (dpo(preferred_output=[]), ["E239 preferred_output"]),
    (dpo(preferred_output=[GOOD, GOOD]), ["E239 preferred_output"]),
    (dpo(preferred_output="good"), ["E237 preferred_output"]),
    (dpo(preferred_output=GOOD), ["E237 preferred_output"]),
    (dpo(non_preferred_output=["bad"]), ["E210 non_preferred_output[0]"]),
    (dpo(non_preferred_output=[USER]), ["E239 non_preferred_output[0].role"]),
    (dpo(non_preferred_output=[{"content": "a"}]), ["E211 non_preferred_output[0].role"]),
    (dpo(non_preferred_output=[{"role": "assistant"}]), ["E212 non_preferred_output[0].content"]),
    (
        dpo(input=asked({"role": "user", "content": 1}, topic=1), preferred_output=[], extra=1),
        ["E212 input.messages[0].content", "E209 input.topic", "E239 preferred_output", "E209 extra"],
    ),
]

TABLE: dict[str, list[tuple[dict[str, Any], list[str]]]] = {
    "openai-dpo": [
        *DPO,
        (dpo(input=asked(USER, functions=[])), ["E209 input.functions"]),
        (dpo(input=asked(USER, parallel_tool_calls="yes")), ["E237 input.parallel_tool_calls"]),
        (dpo(input=asked({**USER, "weight": 1})), ["E213 input.messages[0].weight"]),
        (dpo(preferred_output=[{**GOOD, "weight": 0}]), ["E213 preferred_output[0].weight"]),
        (dpo(preferred_output=[{**GOOD, "content": [IMAGE]}]), ["E212 preferred_output[0].content[0]"]),
    ],
    "fireworks-dpo": [
        *DPO,
        (dpo(input=asked(USER, GOOD, USER)), ["E237 input.messages"]),
        (dpo(input=asked(USER, USER)), ["E237 input.messages"]),
        (dpo(input=asked(USER, {"role": "system", "content": "s"})), ["E237 input.messages[1]"]),
        (dpo(input=asked(USER, parallel_tool_calls=True)), ["E209 input.parallel_tool_calls"]),
        (dpo(input=asked({**USER, "name": "n"})), ["E209 input.messages[0].name"]),
        (dpo(input=asked({"role": "user", "content": [IMAGE]})), ["E212 input.messages[0].content"]),
        (
            dpo(input=asked(TOOL)),
            ["E209 input.messages[0].tool_call_id", "E211 input.messages[0].role"],
        ),
        (
            dpo(preferred_output=[CALLS]),
            ["E212 preferred_output[0].content", "E209 preferred_output[0].tool_calls"],
        ),
    ],
    "together-preference": [
        *DPO,
        (dpo(input=asked(USER, parallel_tool_calls=True)), ["E209 input.parallel_tool_calls"]),
        (dpo(input=asked({**USER, "name": "n"})), ["E209 input.messages[0].name"]),
        (dpo(input=asked(USER, {"role": "system", "content": "s"})), ["E211 input.messages[1].role"]),
        (dpo(non_preferred_output=[{**BAD, "refusal": "no"}]), ["E209 non_preferred_output[0].refusal"]),
        (dpo(preferred_output=[{**GOOD, "weight": 0}]), ["E213 preferred_output[0].weight"]),
        (
            dpo(input=asked({"role": "user", "content": [IMAGE]})),
            [
                "E212 input.messages[0].content[0].image_url.url",
                "E212 preferred_output[0].content",
                "E212 non_preferred_output[0].content",
            ],
        ),
    ],
    "gemini-preference": [
        ({}, ["E237 contents", "E237 completions"]),
        (gemini(contents=...), ["E237 contents"]),
        (gemini(contents=[]), ["E210 contents"]),
        (gemini(contents="q"), ["E210 contents"]),
        (gemini(completions=...), ["E237 completions"]),
        (gemini(completions={}), ["E237 completions"]),
        (gemini(completions=[]), ["E239 completions"]),
        (gemini(completions=[*TWO, TWO[0]]), ["E239 completions"]),
        (gemini(completions=[TWO[0], TWO[0]]), ["E239 completions"]),
        (gemini(completions=[TWO[0], {"score": 0}]), ["E237 completions[1].completion"]),
        (gemini(completions=[TWO[0], model("bad")]),
            ["E209 completions[1].role", "E209 completions[1].parts", "E237 completions[1].score",
             "E237 completions[1].completion"]),
        (gemini(completions=[TWO[0], "bad"]), ["E237 completions[1]"]),
        (gemini(completions=[TWO[0], scored(0.5, model("bad"))]), ["E237 completions[1].score"]),
        (gemini(completions=[TWO[0], scored(False, model("bad"))]), ["E237 completions[1].score"]),
        (gemini(completions=[TWO[0], scored("0", model("bad"))]), ["E237 completions[1].score"]),
        (gemini(completions=[TWO[0], scored(0, model(" "))]), ["E212 completions[1].completion.parts"]),
        (gemini(completions=[TWO[0], scored(0, ASKED)]), ["E239 completions[1].completion.role"]),
        (gemini(completions=[TWO[0], scored(0, {"role": "assistant", "parts": [{"text": "a"}]})]),
            ["E211 completions[1].completion.role"]),
        (gemini(contents=[{"parts": [{"text": "q"}]}]), ["E211 contents[0].role"]),
        (gemini(contents=[{"role": "user", "parts": []}]), ["E212 contents[0].parts"]),
        (gemini(contents=[{"role": "user", "parts": [{"inlineData": {"mimeType": "image/png", "data": "AAAA"}}]}]),
            ["E212 contents[0].parts[0]"]),
        (gemini(contents=[ASKED, {"role": "model", "parts": [{"functionCall": {"name": "f"}}]}, ASKED]),
            ["E212 contents[1].parts[0]"]),
        (gemini(system_instruction={"parts": []}), ["E237 system_instruction.parts"]),
        (gemini(tools=[]), ["E209 tools"]),
    ],
    "preference": [
        ({"prompt": "q"}, ["E237 chosen", "E237 rejected"]),
        (pair(chosen=...), ["E237 chosen"]),
        (pair(rejected=None), ["E237 rejected"]),
        (pair(prompt=1), ["E237 prompt"]),
        (pair(prompt=" "), ["E237 prompt"]),
        (pair(prompt=[]), ["E210 prompt"]),
        (pair(prompt=[{"role": "human", "content": "q"}]), ["E211 prompt[0].role"]),
        (pair(chosen=""), ["E237 chosen"]),
        (pair(chosen={"content": "a"}), ["E237 chosen"]),
        (pair(rejected=[{"role": "assistant"}]), ["E212 rejected[0].content"]),
        (pair(rejected="bad"), ["E237 rejected"]),
        (pair(chosen=[USER, GOOD]), ["E239 chosen[0].role"]),
        (pair(chosen=[CALLS, TOOL]), ["E239 chosen[1]"]),
        (pair(chosen=[{**GOOD, "weight": 0}]), ["E213 chosen[0].weight"]),
        (pair(prompt=..., chosen="a b", rejected="c b"), ["E237 prompt"]),
        (pair(prompt=..., chosen=[GOOD], rejected=[BAD]), ["E237 prompt"]),
        (pair(prompt=..., chosen=[USER, GOOD], rejected=[USER]), ["E239 rejected"]),
        (pair(prompt=..., chosen=[USER, GOOD], rejected=[USER, GOOD]), ["E239 chosen", "E239 rejected"]),
        (
            pair(prompt=..., chosen=[USER, GOOD, USER, GOOD], rejected=[USER, BAD, USER, GOOD]),
            ["E239 chosen[2].role", "E239 rejected[2].role"],
        ),
        (pair(prompt="other", chosen=[USER, GOOD], rejected=[USER, BAD]), ["E237 prompt"]),
        (pair(prompt="q", chosen=[USER, GOOD], rejected=[BAD]), ["E237 prompt"]),
        (pair(messages=[USER, BAD]), ["E209 messages"]),
        (pair(margin=1.5), ["E209 margin"]),
        (pair(images=[]), ["E209 images"]),
        (pair(tools={}), ["E238 tools"]),
        (pair(tools="[}"), ["E238 tools"]),
        (pair(tools='[{"type": "function"}]'), ["E238 tools[0].function"]),
        (pair(tools='[], "x": 1'), ["E238 tools"]),
        (
            pair(chosen=[{**CALLS, "tool_calls": [{"function": {"name": "f", "arguments": 1}}]}, GOOD]),
            ["E238 chosen[0].tool_calls[0].function.arguments"],
        ),
        (pair(chosen=1, rejected=[{"role": 1}], extra=1),
            ["E209 extra", "E237 chosen", "E211 rejected[0].role", "E212 rejected[0].content"]),
    ],
    "kto": [
        ({}, ["E237 prompt", "E237 completion", "E237 label"]),
        (label(prompt=...), ["E237 prompt"]),
        (label(prompt=[]), ["E210 prompt"]),
        (label(prompt=None), ["E237 prompt"]),
        (label(completion=" "), ["E237 completion"]),
        (label(completion=[USER]), ["E239 completion[0].role"]),
        (label(completion=[USER, GOOD]), ["E239 completion[0].role"]),
        (label(completion=[CALLS, TOOL]), ["E239 completion[1]"]),
        (label(completion=[{**GOOD, "weight": 0}]), ["E213 completion[0].weight"]),
        (label(completion=[{"role": "bot", "content": "a"}]), ["E211 completion[0].role"]),
        (label(label=1), ["E237 label"]),
        (label(label="true"), ["E237 label"]),
        (label(label=None), ["E237 label"]),
        (label(tools=[1]), ["E238 tools[0]"]),
        (label(parallel_tool_calls=True), ["E209 parallel_tool_calls"]),
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "row", "expected"),
    [(name, row, expected) for name, rows in TABLE.items() for row, expected in rows],
)
def test_a_fault_is_told_with_its_code_and_field(name: str, row: dict[str, Any], expected: list[str]) -> None:
    format = FORMATS[name]
    assert format.shape is not None

    found = list(format.shape(row, ""))

    assert sorted(f"{each.code} {each.field}" for each in found) == sorted(expected)
    for each in found:
        assert each.what[0] in "`abcdefghijklmnopqrstuvwxyz"
        assert not each.what.endswith(".")
        assert each.fix
        assert json.dumps("secret text") not in "".join((each.what, each.why, each.fix))


def test_no_text_of_a_row_gets_into_a_message() -> None:
    secret = "what the user said"
    for name, row in (
        ("openai-dpo", dpo(preferred_output=secret, input=asked({"role": "user", "content": {"text": secret}}))),
        ("preference", pair(prompt=secret, chosen=[USER, GOOD], rejected=[USER, BAD])),
        ("kto", label(completion={"text": secret})),
    ):
        shape = FORMATS[name].shape
        assert shape is not None
        found = list(shape(row, ""))
        assert found
        assert secret not in json.dumps(found)


def test_all_layouts_have_a_table() -> None:
    assert {name: len(rows) >= 8 for name, rows in TABLE.items()} == dict.fromkeys(TABLE, True)
    assert set(TABLE) == {each.name for each in FORMATS.values() if each.kind != "chat" and each.shape}
