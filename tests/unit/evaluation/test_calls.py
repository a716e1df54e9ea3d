"""Calls in the words of local models."""

import pytest

from finetune.evaluation.calls import split
from finetune.evaluation.models import Call

ADD = Call(name="add", arguments='{"a": 1}')
ONE = '{"name": "add", "arguments": {"a": 1}}'


@pytest.mark.parametrize(
    ("text", "left", "calls"),
    [
        ("just words", "just words", ()),
        (f"<tool_call>\n{ONE}\n</tool_call>", "", (ADD,)),
        (f"first\n<tool_call>{ONE}</tool_call>\n<tool_call>{ONE}</tool_call>", "first", (ADD, ADD)),
        (f"<tool_call>{ONE}", "", (ADD,)),
        ("<tool_call>{broken</tool_call>", "<tool_call>{broken</tool_call>", ()),
        (f"[TOOL_CALLS][{ONE}, {ONE}]", "", (ADD, ADD)),
        ("[TOOL_CALLS]nothing", "[TOOL_CALLS]nothing", ()),
        ('{"name": "add", "parameters": {"a": 1}}', "", (ADD,)),
        ('{"name": "Ada", "age": 36}', '{"name": "Ada", "age": 36}', ()),
        ('{"name": "add", "arguments": "{\\"a\\": 1}"}', "", (ADD,)),
        (f"[{ONE}]", f"[{ONE}]", ()),
    ],
)
def test_calls_are_taken_out_of_the_text(text: str, left: str, calls: tuple[Call, ...]) -> None:
    assert split(text) == (left, calls)
