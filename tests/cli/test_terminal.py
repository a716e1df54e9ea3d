"""On a terminal: colours, questions, a moving bar, and Ctrl-C."""

import re

import pytest

from finetune.cli import exits
from tests.cli.desk import Desk
from tests.cli.terminal import Terminal, terminal

_COLOUR = re.compile(r"\x1b\[\d+m")


def test_colours_on_a_terminal_and_never_against_no_color(desk: Desk) -> None:
    job = desk.ended()
    with terminal("status", cwd=desk.folder) as screen:
        assert screen.end() == exits.OK
        assert f"{job.id}  \x1b[32msucceeded" in screen.seen
    with terminal("status", cwd=desk.folder, NO_COLOR="1") as screen:
        assert screen.end() == exits.OK
        assert job.id in screen.seen
        assert "\x1b" not in screen.seen


def test_faults_are_red(desk: Desk) -> None:
    with terminal("status", "ft_nothing", cwd=desk.folder) as screen:
        assert screen.end() == exits.NOT_FOUND
        assert screen.seen.startswith("\x1b[31merror E701: there is no job 'ft_nothing'\x1b[0m\n  why: ")


@pytest.mark.parametrize(("answer", "wished"), [("y", True), ("YES", True), ("n", False), ("", False), ("x", False)])
def test_cancel_asks(desk: Desk, answer: str, wished: bool) -> None:
    job_id = desk.submit()
    with terminal("cancel", job_id, cwd=desk.folder) as screen:
        screen.expect(f"cancel {job_id} (bot, queued)? [y/N] ")
        screen.type(f"{answer}\n")
        assert screen.end() == exits.OK
    assert ("cancel requested" in screen.seen) is wished
    assert desk.call("status", job_id, "--json").json["cancel_requested"] is wished


def test_dash_y_answers(desk: Desk) -> None:
    job_id = desk.submit()
    with terminal("cancel", job_id, "-y", cwd=desk.folder) as screen:
        assert screen.end() == exits.OK
    assert "?" not in screen.seen
    assert desk.call("status", job_id, "--json").json["cancel_requested"] is True


def test_promote_asks_and_a_no_changes_nothing(desk: Desk) -> None:
    desk.ended()
    with terminal("promote", "bot@v1", "--to", "production", cwd=desk.folder) as screen:
        screen.expect("point bot@production to bot@v1? [y/N] ")
        screen.type("n\n")
        assert screen.end() == exits.USAGE
    assert "error E901: not promoted" in screen.seen
    assert desk.call("models", "show", "bot@v1", "--json").json["aliases"] == []
    with terminal("promote", "bot@v1", "--to", "production", cwd=desk.folder) as screen:
        screen.expect("[y/N] ")
        screen.type("y\n")
        assert screen.end() == exits.OK
    assert desk.call("models", "show", "bot@v1", "--json").json["aliases"] == ["production"]


def test_init_asks_before_it_overwrites(desk: Desk) -> None:
    before = desk.recipe.read_text()
    for answer, code in (("n", exits.USAGE), ("y", exits.OK)):
        assert desk.recipe.read_text() == before
        with terminal("init", cwd=desk.folder) as screen:
            screen.expect("recipe.yaml exists; overwrite it? [y/N] ")
            screen.type(f"{answer}\n")
            assert screen.end() == code
    assert desk.recipe.read_text() != before


def test_watch_shows_a_bar_until_the_job_ends(desk: Desk) -> None:
    job_id = desk.submit()
    with terminal("watch", job_id, cwd=desk.folder) as screen:
        screen.expect("queued")
        with desk.world("queued", "running", "running", "succeeded") as world:
            world.run(job_id)
        assert screen.end() == exits.OK
    assert "registered as bot@v1" in screen.seen
    _left_in_order(screen)


def test_ctrl_c_in_watch_detaches_and_leaves_the_terminal_in_order(desk: Desk) -> None:
    job_id = desk.submit()
    with terminal("watch", job_id, cwd=desk.folder) as screen:
        screen.expect("waiting" if "waiting" in screen.seen else "queued")
        screen.type("\x03")
        assert screen.end() == exits.DETACHED
    assert f"detached: {job_id} goes on; `ft watch {job_id}` looks again" in _COLOUR.sub("", screen.seen)
    assert "Traceback" not in screen.seen
    _left_in_order(screen)
    assert desk.call("status", job_id, "--json").json["state"] == "queued"


def test_ctrl_c_at_a_question_answers_nothing(desk: Desk) -> None:
    job_id = desk.submit()
    with terminal("cancel", job_id, cwd=desk.folder) as screen:
        screen.expect("[y/N] ")
        screen.type("\x03")
        assert screen.end() == exits.DETACHED
    assert "Traceback" not in screen.seen
    assert desk.call("status", job_id, "--json").json["cancel_requested"] is False


def _left_in_order(screen: Terminal) -> None:
    """The cursor was hidden by the bar; it must be back."""
    assert screen.seen.rfind("\x1b[?25h") > screen.seen.rfind("\x1b[?25l") > -1
