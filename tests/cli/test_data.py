"""`ft data`: statistics, previews and copies of rows, as a user calls them."""

import json
from pathlib import Path

import pytest

from finetune.cli import exits
from tests.cli.desk import RECIPE, Desk, write_rows

SHAREGPT = {
    "conversations": [
        {"from": "human", "value": "Where is order 7?"},
        {"from": "gpt", "value": "At stop 49. Write to ann.lee@mail.acme.org."},
    ]
}


def rows(path: Path) -> list[object]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def sharegpt(desk: Desk) -> Path:
    path = desk.folder / "sharegpt.json"
    path.write_text(json.dumps([SHAREGPT] * 3, indent=1))
    return path


def test_statistics_say_what_was_read_and_draw_the_lengths(desk: Desk, sharegpt: Path) -> None:
    ran = desk.call("data", "stats", "sharegpt.json")
    assert ran.code == exits.OK
    assert "sharegpt.json: 3 rows, read as ShareGPT (found out from the rows)" in ran.out
    assert "3 user, 3 assistant" in ran.out
    assert "ranges, not counts" in ran.out
    assert "█" in ran.out
    assert ran.codes == ["E215"]


def test_statistics_as_json(desk: Desk, sharegpt: Path) -> None:
    found = desk.call("data", "stats", "sharegpt.json", "--json").json
    assert (found["rows"], found["messages"]) == (3, {"user": 3, "assistant": 3})
    assert found["files"][0]["format"] == "sharegpt"
    assert found["tokens"]["exact"] is False
    assert 0 < found["tokens"]["low"]["total"] < found["tokens"]["high"]["total"]
    assert found["turns"]["max"] == 2


def test_statistics_of_broken_rows_end_with_the_exit_code_of_data(desk: Desk) -> None:
    desk.write("broken.jsonl", '{"messages": []}\n[]\n')
    ran = desk.call("data", "stats", "broken.jsonl")
    assert (ran.code, ran.out, ran.codes) == (exits.USAGE, "", ["E210", "E208"])


def test_a_preview_shows_the_row_of_the_target_and_what_is_learned(desk: Desk, sharegpt: Path) -> None:
    ran = desk.call("data", "preview", "sharegpt.json", "-n", "1", "--target", "vertex/gemini-2.5-flash")
    assert ran.code == exits.OK
    head, row, *spoken = ran.out.splitlines()
    assert head.startswith("sharegpt.json:2")
    assert json.loads(row)["contents"][0] == {"role": "user", "parts": [{"text": "Where is order 7?"}]}
    assert "[At stop 49. Write to ann.lee@mail.acme.org.]" in "\n".join(spoken)
    assert "[Where" not in ran.out


def test_a_preview_of_a_recipe_is_of_its_target(desk: Desk) -> None:
    ran = desk.call("data", "preview", "recipe.yaml", "-n", "2")
    assert ran.code == exits.OK
    assert ran.out.count('{"messages":') == 2


def test_conversion_to_stdout_is_data_only(desk: Desk, sharegpt: Path) -> None:
    ran = desk.run("data", "convert", "sharegpt.json", "--to", "openai")
    assert ran.code == exits.OK
    assert [json.loads(line)["messages"][0]["role"] for line in ran.out.splitlines()] == ["user"] * 3
    assert "3 rows written" in ran.err


def test_nothing_is_lost_silently(desk: Desk) -> None:
    message = {"role": "assistant", "content": "a", "weight": 0}
    row = {
        "messages": [
            {"role": "user", "content": "q"},
            message,
            {"role": "user", "content": "r"},
            {**message, "weight": 1},
        ]
    }
    desk.write("weights.jsonl", json.dumps(row) + "\n")
    ran = desk.call("data", "convert", "weights.jsonl", "--to", "bedrock", "-o", "out.jsonl")
    assert (ran.code, ran.codes) == (exits.USAGE, ["E247"])
    assert "weights" in ran.err
    assert not (desk.folder / "out.jsonl").exists()
    lossy = desk.call("data", "convert", "weights.jsonl", "--to", "bedrock", "-o", "out.jsonl", "--lossy")
    assert lossy.code == exits.OK
    assert "warning E247" in lossy.err
    assert len(rows(desk.folder / "out.jsonl")) == 1


def test_redaction_writes_a_copy_in_the_same_layout(desk: Desk, sharegpt: Path) -> None:
    ran = desk.call("data", "redact", "sharegpt.json", "-o", "clean.jsonl")
    assert ran.code == exits.OK
    text = (desk.folder / "clean.jsonl").read_text()
    assert "ann.lee" not in text
    assert text.count("[EMAIL_1]") == 3
    assert json.loads(text.splitlines()[0]).keys() == {"conversations"}
    assert "ann.lee" not in ran.err


def test_a_split_keeps_old_rows_where_they_were(desk: Desk) -> None:
    write_rows(desk.folder / "some.jsonl", 60)
    write_rows(desk.folder / "more.jsonl", 120)
    for name in ("some", "more"):
        assert desk.call("data", "split", f"{name}.jsonl", "--split", "0.3", "-o", name).code == exits.OK
    for side in ("train", "validation"):
        before, after = (rows(desk.folder / name / f"{side}.jsonl") for name in ("some", "more"))
        assert before
        assert all(row in after for row in before)


def test_a_group_stays_together(desk: Desk) -> None:
    made = []
    for number in range(200):
        chat = [{"role": "user", "content": f"q{number}"}, {"role": "assistant", "content": f"a{number}"}]
        made.append(json.dumps({"messages": chat, "customer": number % 20}))
    desk.write("rows.jsonl", "\n".join(made))
    ran = desk.call("data", "split", "rows.jsonl", "--split", "0.4", "--group-by", "customer", "-o", "parts")
    assert ran.code == exits.OK
    sides = [
        {int(row["messages"][0]["content"][1:]) % 20 for row in rows(desk.folder / "parts" / f"{side}.jsonl")}  # type: ignore[index]
        for side in ("train", "validation")
    ]
    assert sides[0] and sides[1]  # noqa: PT018
    assert not sides[0] & sides[1]


@pytest.mark.parametrize(
    "argv",
    [
        ("convert", "data.jsonl", "--to", "nothing"),
        ("stats", "data.jsonl", "--format", "local"),
        ("preview", "data.jsonl", "--target", "nowhere/model"),
        ("split", "data.jsonl", "--split", "1"),
    ],
)
def test_wrong_usage(desk: Desk, argv: tuple[str, ...]) -> None:
    assert desk.call("data", *argv).code_and_fault == (exits.USAGE, "E901")


def test_data_elsewhere_is_not_looked_at_unless_asked(desk: Desk) -> None:
    desk.write("recipe.yaml", RECIPE.replace("data.jsonl", '"hf:owner/name?split=train"'))
    ran = desk.call("validate", "recipe.yaml")
    assert ran.code == exits.OK
    assert "--fetch" in ran.err
    assert desk.call("validate", "recipe.yaml", "--json").json[0]["unseen"] is True


def test_validate_tells_what_it_found_and_how_it_read(desk: Desk, sharegpt: Path) -> None:
    desk.write("recipe.yaml", RECIPE.replace("data.jsonl", "sharegpt.json"))
    (report,) = desk.call("validate", "recipe.yaml", "--json").json
    assert report["files"] == [
        {"name": "sharegpt.json", "format": "sharegpt", "detected": True, "seen": 3, "rows": 3},
    ]
    assert report["digest"]
    ran = desk.call("validate", "recipe.yaml")
    assert "sharegpt.json: 3 rows, read as ShareGPT (found out from the rows)" in ran.err
