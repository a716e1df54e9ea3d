"""Faults of layouts: each with its code and its field, as the row names it, and all of a row at once."""

import json
from typing import Any

import pytest

from finetune.data.formats import FORMATS

#: A text of the user's, which no message may repeat.
Q = "what-the-user-wrote"


def found(name: str, row: Any) -> list[tuple[str, str, str]]:
    """Level, code and field of each fault."""
    shape = FORMATS[name].shape
    assert shape is not None
    faults = list(shape(row, ""))
    for fault in faults:
        assert Q not in json.dumps(fault._replace(field=""))
        assert fault.fix
        assert not fault.what.endswith(".")
        assert fault.what[0] == "`" or fault.what[0].islower()
        assert (
            fault.field == "" or f"`{fault.field}`" in fault.what or " has " in fault.what or fault.level == "warning"
        )
    return [(fault.level, fault.code, fault.field) for fault in faults]


def completion(**row: Any) -> Any:
    return {"prompt": Q, "completion": "a", **row}


ASKED = {"role": "user", "content": Q}
ANSWERED = {"role": "assistant", "content": "a"}
CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}

COMPLETION: list[tuple[Any, list[tuple[str, str]]]] = [
    (completion(), []),
    (completion(prompt=""), []),
    (completion(prompt=[ASKED], completion=[ANSWERED], tools=None, id=1), []),
    ({"prompt": Q}, [("E237", "completion")]),
    ({"completion": "a"}, [("E237", "prompt")]),
    (completion(completion=""), [("E237", "completion")]),
    (completion(completion=" \n"), [("E237", "completion")]),
    (completion(completion=None), [("E237", "completion")]),
    (completion(prompt=1), [("E237", "prompt")]),
    (completion(prompt={"role": "user"}, completion=2), [("E237", "prompt"), ("E237", "completion")]),
    (completion(system="s"), [("E209", "system")]),
    ({"prompt": Q, "response": "a"}, [("E209", "response"), ("E237", "completion")]),
    (completion(prompt=[ASKED]), [("E237", "completion")]),
    (completion(completion=[ANSWERED]), [("E237", "completion")]),
    (completion(prompt=[], completion=[ANSWERED]), [("E210", "prompt")]),
    (completion(prompt=[ASKED], completion=[ASKED, ANSWERED]), [("E239", "completion[0].role")]),
    (completion(prompt=[{"role": "human", "content": Q}], completion=[ANSWERED]), [("E211", "prompt[0].role")]),
    (completion(prompt=[ASKED], completion=[{"role": "assistant"}]), [("E212", "completion[0].content")]),
    (completion(prompt=[ASKED], completion=[{**ANSWERED, "weight": 1}]), []),
    (completion(prompt=[ASKED], completion=[{**ANSWERED, "weight": 0}]), [("E213", "completion[0].weight")]),
    (completion(prompt=[{**ANSWERED, "weight": 1}, ASKED], completion=[ANSWERED]), [("E213", "prompt[0].weight")]),
    ([], [("E237", "")]),
]


def alpaca(**row: Any) -> Any:
    return {"instruction": Q, "input": "", "output": "a", **row}


ALPACA: list[tuple[Any, list[tuple[str, str]]]] = [
    (alpaca(), []),
    (alpaca(input=None, system=None, history=None, text=Q), []),
    (alpaca(system="s", history=[["q", "a"]]), []),
    ({"instruction": Q}, [("E237", "output")]),
    ({"input": Q, "output": "a"}, [("E237", "instruction")]),
    (alpaca(output=""), [("E237", "output")]),
    (alpaca(output=["a"]), [("E237", "output")]),
    (alpaca(instruction=None), [("E237", "instruction")]),
    (alpaca(input=1, system=2), [("E237", "input"), ("E237", "system")]),
    (alpaca(history="q"), [("E237", "history")]),
    (alpaca(history=[["q"]]), [("E237", "history[0]")]),
    (alpaca(history=[["q", "a"], ["q", ""]]), [("E237", "history[1][1]")]),
    (alpaca(history=[[1, "a"], {"q": "a"}]), [("E237", "history[0][0]"), ("E237", "history[1]")]),
    (alpaca(topic=Q), [("E209", "topic")]),
    (alpaca(**{"\x1b[31m": 1}), [("E209", "\\u001b[31m")]),
    (alpaca(chosen="a", rejected="b"), [("E209", "chosen"), ("E209", "rejected")]),
    ("text", [("E237", "")]),
]

HUMAN = {"from": "human", "value": Q}
GPT = {"from": "gpt", "value": "a"}
FUNCTION_CALL = {"from": "function_call", "value": '{"name": "f", "arguments": {}}'}


def sharegpt(*turns: Any, **row: Any) -> Any:
    return {"conversations": list(turns), **row}


def value(of: str) -> Any:
    return sharegpt(HUMAN, {"from": "function_call", "value": of})


SHAREGPT: list[tuple[Any, list[tuple[str, str]]]] = [
    (sharegpt(HUMAN, GPT), []),
    (
        sharegpt(
            {"from": "system", "value": "s"}, HUMAN, {**GPT, "value": "", "weight": 0}, HUMAN, {**GPT, "weight": 1}
        ),
        [],
    ),
    (sharegpt(HUMAN, FUNCTION_CALL, {"from": "observation", "value": ""}, GPT, tools="", system=" "), []),
    (sharegpt(HUMAN, GPT, tools=[{"name": "f"}, {"type": "function", "function": {"name": "g"}}]), []),
    ({"system": "s"}, [("E210", "conversations")]),
    (sharegpt(), [("E210", "conversations")]),
    ({"conversations": Q}, [("E210", "conversations")]),
    (sharegpt(HUMAN, "a"), [("E210", "conversations[1]")]),
    (sharegpt(HUMAN, GPT, topic=Q), [("E209", "topic")]),
    (sharegpt({**HUMAN, "markdown": Q}, GPT), [("E209", "conversations[0].markdown")]),
    (sharegpt({"from": "Human", "value": Q}, GPT), [("E211", "conversations[0].from")]),
    (sharegpt(HUMAN, {"from": "model", "value": "a"}), [("E211", "conversations[1].from")]),
    (sharegpt({"value": Q}, GPT), [("E211", "conversations[0].from")]),
    (sharegpt({"from": None, "value": Q}, GPT), [("E211", "conversations[0].from")]),
    (sharegpt({"from": "human"}, GPT), [("E212", "conversations[0].value")]),
    (sharegpt(HUMAN, {"from": "gpt", "value": None}), [("E212", "conversations[1].value")]),
    (sharegpt(HUMAN, {"from": "gpt", "value": " "}), [("E212", "conversations[1].value")]),
    (sharegpt(HUMAN, {**GPT, "weight": True}), [("E213", "conversations[1].weight")]),
    (sharegpt({**HUMAN, "weight": 0}, GPT), [("E213", "conversations[0].weight")]),
    (value("no JSON"), [("E238", "conversations[1].value")]),
    (value('{"arguments": {}}'), [("E238", "conversations[1].value")]),
    (value('{"name": "f"}'), [("E238", "conversations[1].value")]),
    (value('{"name": "f", "arguments": [1]}'), [("E238", "conversations[1].value")]),
    (value('{"name": "f", "arguments": {}, "id": 1}'), [("E238", "conversations[1].value")]),
    (value('{"name": " ", "arguments": {}}'), [("E238", "conversations[1].value")]),
    (value("[]"), [("E238", "conversations[1].value")]),
    (value('[{"name": "f", "arguments": "{}"}]'), []),
    (sharegpt(HUMAN, {"from": "observation", "value": "1"}, GPT), [("E238", "conversations[1]")]),
    (
        sharegpt(HUMAN, FUNCTION_CALL, {"from": "tool", "value": "1"}, {"from": "tool", "value": "2"}, GPT),
        [("E238", "conversations[3]")],
    ),
    (sharegpt(HUMAN, GPT, tools="{"), [("E238", "tools")]),
    (sharegpt(HUMAN, GPT, tools={"name": "f"}), [("E238", "tools")]),
    (sharegpt(HUMAN, GPT, tools='[{"name": "f"}, {"name": ""}]'), [("E238", "tools[1].name")]),
    (sharegpt(HUMAN, GPT, tools=[{"type": "function", "function": {}}]), [("E238", "tools[0].function.name")]),
    (sharegpt(HUMAN, GPT, tools=[1]), [("E238", "tools[0]")]),
    (sharegpt({"from": "system", "value": "s"}, HUMAN, GPT, system="s"), [("E237", "system")]),
    (sharegpt(HUMAN, GPT, system=["s"]), [("E237", "system")]),
    (sharegpt(HUMAN, GPT, chosen=GPT), [("E209", "chosen")]),
]

USER = {"role": "user", "parts": [{"text": Q}]}
MODEL = {"role": "model", "parts": [{"text": "a"}]}
MAKES = {"role": "model", "parts": [{"functionCall": {"name": "f", "args": {}}}]}
GIVES = {"role": "user", "parts": [{"functionResponse": {"name": "f", "response": {}}}]}


def gemini(*contents: Any, **row: Any) -> Any:
    return {"contents": list(contents), **row}


def part(of: Any) -> Any:
    return gemini({"role": "user", "parts": [of]}, MODEL)


FILE = "contents[0].parts[0].fileData"
DATA = "contents[0].parts[0].inlineData"
GEMINI: list[tuple[Any, list[tuple[str, str]]]] = [
    (gemini(USER, MODEL), []),
    (gemini(USER, MODEL, systemInstruction={"role": "system", "parts": [{"text": "s"}]}, labels={}, tools=None), []),
    (gemini(USER, MAKES, {"parts": GIVES["parts"]}, MODEL), []),
    (gemini(USER, MAKES, {**GIVES, "role": "function"}, MODEL), []),
    (part({"inline_data": {"mime_type": "image/png", "data": "AAAA"}}), []),
    (part({"text": Q, "inlineData": None}), []),
    ({"systemInstruction": {"parts": [{"text": "s"}]}}, [("E210", "contents")]),
    (gemini(), [("E210", "contents")]),
    ({"contents": {"role": "user"}}, [("E210", "contents")]),
    (gemini(USER, Q), [("E210", "contents[1]")]),
    (gemini(USER, {"role": "model"}), [("E210", "contents[1].parts")]),
    (gemini(USER, {"role": "model", "parts": "a"}), [("E212", "contents[1].parts")]),
    (gemini(USER, {"role": "model", "parts": []}), [("E212", "contents[1].parts")]),
    (gemini(USER, {"role": "model", "parts": [{"text": " "}]}), [("E212", "contents[1].parts")]),
    (gemini(USER, {"role": "assistant", "parts": MODEL["parts"]}), [("E211", "contents[1].role")]),
    (gemini({"parts": USER["parts"]}, MODEL), [("E211", "contents[0].role")]),
    (gemini(USER, MODEL, generationConfig={}), [("E209", "generationConfig")]),
    (gemini(USER, MODEL, generation_config={}), [("E209", "generation_config")]),
    (gemini({**USER, "weight": 0}, MODEL), [("E209", "contents[0].weight")]),
    (
        gemini(USER, {"role": "model", "parts": [{"text": "a", "thought": True}]}),
        [("E209", "contents[1].parts[0].thought")],
    ),
    (part({}), [("E212", "contents[0].parts[0]")]),
    (
        part({"text": Q, "fileData": {"mimeType": "image/png", "fileUri": "gs://b/a.png"}}),
        [("E212", "contents[0].parts[0]")],
    ),
    (part({"text": 1}), [("E212", "contents[0].parts[0].text")]),
    (part(Q), [("E212", "contents[0].parts[0]")]),
    (part({"inlineData": {"mimeType": "application/pdf", "data": "AAAA"}}), [("E212", f"{DATA}.mimeType")]),
    (part({"inlineData": {"mimeType": "image/png", "data": "AA AA"}}), [("E212", f"{DATA}.data")]),
    (part({"inlineData": {"data": "AAAA"}}), [("E212", f"{DATA}.mimeType")]),
    (part({"fileData": {"mimeType": "image/png", "fileUri": "gs://b/a"}}), [("E212", f"{FILE}.mimeType")]),
    (part({"fileData": {"mimeType": "image/png", "fileUri": "gs://b/a.jpg"}}), [("E212", f"{FILE}.mimeType")]),
    (part({"fileData": {"mimeType": "video/mp4", "fileUri": "gs://b/a.mp4"}}), [("E212", f"{FILE}.mimeType")]),
    (
        part({"file_data": {"mime_type": "image/png", "file_uri": "s3://b/a.png"}}),
        [("E212", "contents[0].parts[0].file_data.file_uri")],
    ),
    (part({"functionCall": {"name": "f"}}), [("E238", "contents[0].parts[0].functionCall")]),
    (
        gemini(USER, {"role": "model", "parts": [{"fileData": {"mimeType": "image/png", "fileUri": "gs://b/a.png"}}]}),
        [("E212", "contents[1].parts[0].fileData")],
    ),
    (
        gemini(USER, {"role": "model", "parts": [{"functionCall": {"args": {}}}]}),
        [("E238", "contents[1].parts[0].functionCall.name")],
    ),
    (
        gemini(USER, {"role": "model", "parts": [{"function_call": {"name": "f", "args": "{}"}}]}),
        [("E238", "contents[1].parts[0].function_call.args")],
    ),
    (
        gemini(USER, {"role": "model", "parts": [MAKES["parts"][0], {"text": "a"}]}),
        [("E212", "contents[1].parts[1].text")],
    ),
    (gemini(USER, GIVES, MODEL), [("E238", "contents[1].parts[0].functionResponse")]),
    (
        gemini(USER, MAKES, {"role": "user", "parts": [{"functionResponse": {"name": "g", "response": {}}}]}, MODEL),
        [("E238", "contents[2].parts[0].functionResponse")],
    ),
    (
        gemini(USER, MAKES, {"role": "user", "parts": [{"functionResponse": {"name": "f", "response": "1"}}]}, MODEL),
        [("E238", "contents[2].parts[0].functionResponse.response")],
    ),
    (
        gemini(USER, MODEL, tools=[{"googleSearch": {}}]),
        [("E209", "tools[0].googleSearch"), ("E238", "tools[0].functionDeclarations")],
    ),
    (
        gemini(USER, MODEL, tools=[{"function_declarations": [{"parameters": {}}]}]),
        [("E238", "tools[0].function_declarations[0].name")],
    ),
    (
        gemini(
            USER, MODEL, tools=[{"functionDeclarations": [{"name": "f", "parameters": {}, "parametersJsonSchema": {}}]}]
        ),
        [("E238", "tools[0].functionDeclarations[0].parametersJsonSchema")],
    ),
    (gemini(USER, MODEL, tools={}), [("E238", "tools")]),
    (gemini(USER, MODEL, systemInstruction="s"), [("E237", "systemInstruction")]),
    (gemini(USER, MODEL, system_instruction={}), [("E237", "system_instruction.parts")]),
    (
        gemini(USER, MODEL, systemInstruction={"parts": [{"inlineData": {"mimeType": "image/png", "data": "AAAA"}}]}),
        [("E212", "systemInstruction.parts[0].inlineData")],
    ),
    (
        gemini(
            USER, MODEL, systemInstruction={"parts": [{"text": "s"}]}, system_instruction={"parts": [{"text": "s"}]}
        ),
        [("E210", "system_instruction")],
    ),
]


def bedrock(*messages: Any, **row: Any) -> Any:
    return {"schemaVersion": "bedrock-conversation-2024", "messages": list(messages), **row}


ASKS = {"role": "user", "content": [{"text": Q}]}
SAYS = {"role": "assistant", "content": [{"text": "a"}]}


def image(**of: Any) -> Any:
    source = {"s3Location": {"uri": "s3://bucket/a.png"}}
    return bedrock({"role": "user", "content": [{"image": {"format": "png", "source": source, **of}}]}, SAYS)


IMAGE = "messages[0].content[0].image"
BEDROCK: list[tuple[Any, list[tuple[str, str]]]] = [
    (bedrock(ASKS, SAYS), []),
    ({"messages": [ASKS, SAYS], "system": None}, []),
    (bedrock(ASKS, SAYS, system=[{"text": "s"}]), []),
    (image(), []),
    (image(format="jpeg", source={"bytes": "AAAA"}), []),
    ({"schemaVersion": "bedrock-conversation-2024"}, [("E210", "messages")]),
    (bedrock(), [("E210", "messages")]),
    (bedrock(ASKS, "a"), [("E210", "messages[1]")]),
    (bedrock(ASKS, SAYS, schemaVersion=2024), [("E237", "schemaVersion")]),
    (bedrock(ASKS, SAYS, system="s"), [("E237", "system")]),
    (bedrock(ASKS, SAYS, system=[{}]), [("E237", "system[0].text")]),
    (bedrock(ASKS, SAYS, toolConfig={}), [("E209", "toolConfig")]),
    (bedrock({**ASKS, "weight": 1}, SAYS), [("E209", "messages[0].weight")]),
    (bedrock({"role": "system", "content": [{"text": "s"}]}, SAYS), [("E211", "messages[0].role")]),
    (bedrock({"content": [{"text": Q}]}, SAYS), [("E211", "messages[0].role")]),
    (bedrock(SAYS), [("E211", "messages[0].role")]),
    (bedrock(ASKS, ASKS, SAYS), [("E211", "messages[1].role")]),
    (bedrock(ASKS, {"role": "assistant"}), [("E212", "messages[1].content")]),
    (bedrock({"role": "user", "content": Q}, SAYS), [("E212", "messages[0].content")]),
    (bedrock(ASKS, {"role": "assistant", "content": []}), [("E212", "messages[1].content")]),
    (bedrock(ASKS, {"role": "assistant", "content": [{"text": " "}]}), [("E212", "messages[1].content")]),
    (bedrock({"role": "user", "content": [{"text": ""}]}, SAYS), [("E212", "messages[0].content")]),
    (bedrock({"role": "user", "content": [{"text": 1}]}, SAYS), [("E212", "messages[0].content[0].text")]),
    (bedrock({"role": "user", "content": [{}]}, SAYS), [("E212", "messages[0].content[0]")]),
    (bedrock({"role": "user", "content": [{"video": {}}]}, SAYS), [("E209", "messages[0].content[0].video")]),
    (
        bedrock(ASKS, {"role": "assistant", "content": image()["messages"][0]["content"]}),
        [("E212", "messages[1].content")],
    ),
    (image(format="tiff"), [("E212", f"{IMAGE}.format")]),
    (image(format="gif"), [("E212", f"{IMAGE}.format")]),
    (image(source={"s3Location": {"uri": "https://a.example/a.png"}}), [("E212", f"{IMAGE}.source.s3Location.uri")]),
    (image(source={}), [("E212", f"{IMAGE}.source")]),
    (image(source={"bytes": "A A"}), [("E212", f"{IMAGE}.source.bytes")]),
    (
        image(source={"s3Location": {"uri": "s3://bucket/a.png", "bucketOwner": "1"}}),
        [("E209", f"{IMAGE}.source.s3Location.bucketOwner")],
    ),
]

TABLE = {"completion": COMPLETION, "alpaca": ALPACA, "sharegpt": SHAREGPT, "gemini": GEMINI, "bedrock": BEDROCK}
CASES = [(name, row, faults) for name, rows in TABLE.items() for row, faults in rows]


@pytest.mark.parametrize(("name", "row", "faults"), CASES, ids=[f"{n}-{json.dumps(r)[:70]}" for n, r, _ in CASES])
def test_each_fault_has_its_code_and_its_field(name: str, row: Any, faults: list[tuple[str, str]]) -> None:
    assert found(name, row) == [("error", *fault) for fault in faults]


def test_all_faults_of_a_row_are_told_at_once() -> None:
    row = {
        "conversations": [{"from": "Human", "value": 1}, {"from": "gpt", "value": "", "weight": 2}, 3],
        "tools": "{",
        "topic": Q,
    }
    assert found("sharegpt", row) == [
        ("error", "E211", "conversations[0].from"),
        ("error", "E212", "conversations[0].value"),
        ("error", "E213", "conversations[1].weight"),
        ("error", "E212", "conversations[1].value"),
        ("error", "E210", "conversations[2]"),
        ("error", "E209", "topic"),
        ("error", "E238", "tools"),
    ]


@pytest.mark.parametrize(
    ("turns", "fields"),
    [
        ([HUMAN, GPT, {"from": "user", "value": Q}, GPT], ["conversations[2].from"]),
        (
            [HUMAN, GPT, HUMAN, {"from": "chatgpt", "value": "a"}, HUMAN, {"from": "bing", "value": "a"}],
            ["conversations[3].from", "conversations[5].from"],
        ),
        ([HUMAN, GPT, {"from": "user", "value": Q}, GPT, {"from": "user", "value": Q}, GPT], ["conversations[2].from"]),
        ([HUMAN, GPT, HUMAN, FUNCTION_CALL], []),
    ],
)
def test_two_names_for_one_role_are_a_warning(turns: list[Any], fields: list[str]) -> None:
    assert found("sharegpt", {"conversations": turns}) == [("warning", "E244", field) for field in fields]
