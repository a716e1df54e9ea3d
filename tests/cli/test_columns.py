"""Tables at every width: what stands side by side, what goes below its row, and that nothing is left out."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune.cli.columns import Sheet, wrapped
from tests.cli.desk import Desk
from tests.cli.terminal import terminal

HEAD = ("TARGET", "VERDICT", "MODEL", "COST", "BECAUSE")
ROWS = (
    ("openai", "CHOSEN", "gpt-4o-mini", "0.10-0.58 USD", "it is open, and its credentials are set"),
    ("fireworks", "no", "accounts/fireworks/models/qwen3-32b", "?", "FIREWORKS_API_KEY is not set"),
)
WIDTHS = (48, 60, 80, 100, 140, 200)


def lines(width: int | None, under: tuple[str, ...] = ("MODEL",)) -> list[str]:
    return Sheet(head=HEAD, rows=ROWS, width=width, under=under).lines()


def test_without_a_terminal_a_row_is_a_line() -> None:
    found = lines(None)
    assert len(found) == 1 + len(ROWS)
    for line, row in zip(found[1:], ROWS, strict=True):
        assert [cell.strip() for cell in re.split(r" {2,}", line)] == list(row)


def test_what_fits_is_one_line_a_row_on_a_terminal_too() -> None:
    wide = max(map(len, lines(None)))
    assert lines(wide) == lines(None)
    assert lines(wide - 1) != lines(None)


@pytest.mark.parametrize("width", WIDTHS)
def test_no_line_is_wider_than_the_terminal_and_no_word_is_lost(width: int) -> None:
    found = lines(width)
    assert max(map(len, found)) <= width
    shown = " ".join(found).split()
    for row in ROWS:
        for cell in row:
            assert all(shown.count(word) >= cell.split().count(word) for word in cell.split()), cell


def test_what_may_go_below_goes_before_anything_is_wrapped() -> None:
    head, first, under, *_ = lines(max(map(len, lines(None))) - 1)
    assert head.split() == ["TARGET", "VERDICT", "COST", "BECAUSE"]
    assert first.endswith(ROWS[0][4])
    assert under == "    MODEL gpt-4o-mini"


def test_they_go_in_the_order_that_was_asked_for() -> None:
    under = ("COST", "MODEL")
    assert lines(110, under)[0].split() == ["TARGET", "VERDICT", "MODEL", "BECAUSE"]
    assert lines(70, under)[0].split() == ["TARGET", "VERDICT", "BECAUSE"]
    assert lines(70, under)[2] == "    MODEL gpt-4o-mini  COST 0.10-0.58 USD"


def test_what_still_does_not_fit_is_wrapped_below_its_own_column() -> None:
    found = Sheet(head=("NOT", "BECAUSE"), rows=[("groq", "it tunes no models; train a LoRA here")], width=28).lines()
    assert found == ["NOT   BECAUSE", "groq  it tunes no models;", "      train a LoRA here"]


def test_where_not_even_that_helps_a_row_is_a_block() -> None:
    rows = [("a", "x" * 30, "y" * 30)]
    assert Sheet(head=("A", "B", "C"), rows=rows, width=40).lines() == ["A  B", "a  " + "x" * 30, "    C " + "y" * 30]
    assert Sheet(head=("A", "B", "C"), rows=rows, width=20).lines()[0] == "A", "the first column stays"


def test_a_state_keeps_its_colour_and_its_padding() -> None:
    rows = [("a", "failed", "z"), ("b", "succeeded", "z")]
    found = Sheet(head=("A", "STATE", "C"), rows=rows, width=80, paint=lambda name, text: f"<{name}{text}>").lines()
    assert found[1] == "<Aa>  <STATEfailed   >  <Cz>"


def test_what_goes_on_in_the_next_line_stands_below_its_beginning() -> None:
    assert wrapped("  limits   one two three", 15, " " * 11) == ["  limits   one", " " * 11 + "two", " " * 11 + "three"]


def test_an_address_and_what_is_to_be_typed_stay_whole() -> None:
    text = "see https://example.org/a-very-long/address/that-has-many-parts and set `provider: local` there"
    for width in range(10, 90):
        found = wrapped(text, width, "  ")
        assert "https://example.org/a-very-long/address/that-has-many-parts" in " ".join(found).split()
        assert any("`provider: local`" in line for line in found)
    assert wrapped(text, None) == [text]


@given(
    st.lists(st.tuples(*[st.text("ab -`", max_size=30)] * 3), min_size=1, max_size=4),
    st.integers(1, 120),
    st.sampled_from([(), ("C",), ("C", "B")]),
)
def test_of_no_table_a_word_is_lost(rows: list[tuple[str, str, str]], width: int, under: tuple[str, ...]) -> None:
    sheet = Sheet(head=("A", "B", "C"), rows=rows, width=width, under=under)
    words = " ".join(" ".join(row) for row in rows).split()
    shown = " ".join(sheet.lines()).split()
    assert sorted(word for word in shown if word not in ("A", "B", "C")) == sorted(words)


def screen(desk: Desk, columns: int, *args: str, **env: str) -> list[str]:
    """What `ft ARGS` shows on a terminal of so many columns, without what it has wiped away."""
    with terminal(*args, cwd=desk.folder, columns=columns, NO_COLOR="1", **env) as shown:
        shown.end()
    return [line.rpartition("\x1b[K")[2].rpartition("\r")[2] for line in shown.seen.splitlines()]


@pytest.mark.parametrize("columns", [60, 80, 100, 140, 200])
def test_a_plan_can_be_read_at_every_width(desk: Desk, columns: int) -> None:
    found = screen(desk, columns, "plan", "recipe.yaml")
    head = next(line.split() for line in found if line.startswith("TARGET"))
    assert {"TARGET", "VERDICT", "COST", "TIME"} <= {*head}
    assert ("SERVED" in head) is (columns == 200)
    (local,) = [line for line in found if line.startswith("local ")]
    assert re.split(r" {2,}", local)[:2] == ["local", "CHOSEN"]
    assert "own machines" in local
    table = found[: next(at for at, line in enumerate(found) if line.startswith("next: "))]
    assert max(map(len, table)) <= columns
    said = " ".join(" ".join(found).split())
    for each in desk.call("plan", "recipe.yaml", "--json").json:
        assert any(line.startswith(each["target"]) for line in found)
        if each["verdict"] == "no":
            assert each["reasons"][0]["what"] in said
        else:
            assert set(each["served_by"]) <= {*re.split(r"[ ()]+", said)}


def test_a_plan_in_a_pipe_is_a_line_a_target_whatever_columns_says(desk: Desk) -> None:
    ran = desk.run("plan", "recipe.yaml", COLUMNS="40")
    targets = {each["target"] for each in desk.call("plan", "recipe.yaml", "--json").json}
    for name in targets:
        assert len([line for line in ran.out.splitlines() if line.startswith(f"{name} ")]) == 1
    assert max(map(len, ran.out.splitlines())) > 200


def test_columns_says_another_width_of_a_terminal(desk: Desk) -> None:
    found = screen(desk, 200, "plan", "recipe.yaml", COLUMNS="70")
    assert max(len(line) for line in found if not line.startswith("next: ")) <= 70
    assert screen(desk, 80, "plan", "recipe.yaml", COLUMNS="wide") == screen(desk, 80, "plan", "recipe.yaml")


@pytest.mark.parametrize("columns", [60, 80, 140])
def test_costs_can_be_read_at_every_width(desk: Desk, columns: int) -> None:
    desk.ended()
    head, row, *under = screen(desk, columns, "costs")
    assert max(map(len, (head, row, *under))) <= columns
    assert {"PROVIDER", "ESTIMATED", "ACTUAL", "WITHIN", "ERROR"} <= {*head.split()}
    assert ("OF MEMORY" in head) is (columns == 140)
    assert row.split()[0] == "local"
    below = " ".join(under)
    for name in ("OF MEMORY", "OF TIME", "COMPARED", "JOBS"):
        assert (name in head) is not (f"{name} " in below), name
