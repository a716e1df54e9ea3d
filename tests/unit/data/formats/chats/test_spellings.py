"""The other ways in which people write the same rows."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from finetune.data.example import Chat
from finetune.data.formats.proto import snake
from tests.support.examples import chats
from tests.unit.data.formats.chats.rows import FITTING, PATIENT, read, written


def in_snake_case(value: Any) -> Any:
    """Gemini's keys in the other spelling; what stands in arguments, results and schemas stays."""
    if isinstance(value, list):
        return [in_snake_case(each) for each in value]
    if not isinstance(value, dict):
        return value
    as_it_is = ("args", "response", "parameters", "parametersJsonSchema")
    return {snake(key): each if key in as_it_is else in_snake_case(each) for key, each in value.items()}


@PATIENT
@given(chat=chats(**FITTING["gemini"]))
def test_gemini_in_snake_case_with_roles_and_ids_says_the_same(chat: Chat) -> None:
    row = written("gemini", chat)
    other = in_snake_case(row)
    if "system_instruction" in other:
        other["system_instruction"]["role"] = "system"
    for content in other["contents"]:
        if all("function_response" in part for part in content["parts"]):
            content["role"] = "function"
    assert read("gemini", {**other, "id": 7, "tools": other.get("tools")}) == read("gemini", row)


NAMES = {"human": "user", "gpt": "assistant", "observation": "tool"}


@PATIENT
@given(chat=chats(**FITTING["sharegpt"]), names=st.booleans(), apart=st.booleans())
def test_sharegpt_with_other_names_and_the_system_apart_says_the_same(chat: Chat, names: bool, apart: bool) -> None:
    row = written("sharegpt", chat)
    other = json.loads(json.dumps(row))
    for turn in other["conversations"] if names else ():
        turn["from"] = NAMES.get(turn["from"], turn["from"])
    first = other["conversations"][0]
    if apart and first["from"] == "system" and not any(each["from"] == "system" for each in other["conversations"][1:]):
        other["system"] = other["conversations"].pop(0)["value"]
    if "tools" in other:
        bare = json.loads(other["tools"])
        other["tools"] = [{"type": "function", "function": each} for each in bare] if apart else bare
    assert read("sharegpt", other) == read("sharegpt", row)
    assert written("sharegpt", read("sharegpt", other)) == row


@PATIENT
@given(chat=chats(**FITTING["alpaca"]))
def test_alpaca_with_the_question_in_two_says_the_same(chat: Chat) -> None:
    row = written("alpaca", chat)
    first, mark, more = row["instruction"].partition("\n\n")
    apart = mark and first.strip() and more.strip()
    other = {**row, "instruction": first, "input": more} if apart else {**row, "input": None}
    assert read("alpaca", {**other, "text": "Below is an instruction", "history": row.get("history")}) == read(
        "alpaca", row
    )


@PATIENT
@given(chat=chats(**FITTING["bedrock"]))
def test_bedrock_without_a_version_and_with_nulls_says_the_same(chat: Chat) -> None:
    row = written("bedrock", chat)
    messages = [
        {**each, "content": [{"text": None, "image": None, **item} for item in each["content"]]}
        for each in row["messages"]
    ]
    other = {"messages": messages, "system": row.get("system", [])}
    assert read("bedrock", other) == read("bedrock", row)
    assert written("bedrock", read("bedrock", other)) == row


@PATIENT
@given(chat=chats(**FITTING["mistral"]))
def test_mistral_with_objects_for_arguments_and_images_says_the_same(chat: Chat) -> None:
    row = written("mistral", chat)
    other = json.loads(json.dumps(row))
    for each in other["messages"]:
        for part in each["content"] if isinstance(each.get("content"), list) else ():
            if "image_url" in part:
                part["image_url"] = {"url": part["image_url"]}
        for made in each.get("tool_calls", ()):
            made["function"]["arguments"] = json.loads(made["function"]["arguments"])
            del made["type"]
    assert written("mistral", read("mistral", other)) == row


@PATIENT
@given(chat=chats(**FITTING["together"]))
def test_together_with_weights_of_0_on_questions_says_the_same(chat: Chat) -> None:
    row = written("together", chat)
    messages = [each if each["role"] == "assistant" else {**each, "weight": 0} for each in row["messages"]]
    assert read("together", {**row, "messages": messages}) == read("together", row)
