"""Folders, disks, databases and servers that fail: said in three lines, nothing half written, nothing lost."""

import os
import resource
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from finetune.cli import exits
from tests.cli.desk import CLOSED, RECIPE, Desk, write_rows
from tests.support.process import Child, ft_running, wait_until

#: Commands that need the store, each with arguments for which it would otherwise do its work.
NEED_STORE = [
    ("submit", "recipe.yaml"),
    ("status",),
    ("status", "ft_x"),
    ("watch", "ft_x"),
    ("logs", "ft_x"),
    ("wait", "ft_x"),
    ("cancel", "ft_x"),
    ("models", "list"),
    ("promote", "bot@v1", "--to", "x"),
    ("chat", "bot", "hello"),
    ("worker",),
    ("up", "--port", "0"),
]
#: Commands that need none.
NEED_NONE = [("explain", "E101"), ("schema",), ("init", "new.yaml"), ("--help",), ("--version",)]


def _id(args: tuple[str, ...]) -> str:
    return " ".join(args)


@pytest.fixture
def no_home(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """FT_HOME is a folder that nobody can make, not even root: below a file."""
    monkeypatch.setenv("FT_HOME", str(desk.write("file", "") / "home"))


@pytest.mark.usefixtures("no_home")
@pytest.mark.parametrize("args", NEED_STORE, ids=_id)
def test_a_home_that_cannot_be_made(desk: Desk, args: tuple[str, ...]) -> None:
    assert desk.call(*args).code_and_fault == (exits.FAILED, "E501")


@pytest.mark.usefixtures("no_home")
@pytest.mark.parametrize("args", NEED_NONE, ids=_id)
def test_what_needs_no_home_goes_on(desk: Desk, args: tuple[str, ...]) -> None:
    assert desk.call(*args).code == exits.OK


@pytest.mark.parametrize("home", ["/proc/ft", "/dev/null", "/dev/null/ft"])
def test_a_home_in_a_place_without_files(desk: Desk, home: str) -> None:
    assert desk.run("submit", "recipe.yaml", FT_HOME=home).code_and_fault == (exits.FAILED, "E501")
    ran = desk.run("doctor", "--json", FT_HOME=home)
    assert ran.code == exits.FAILED
    verdicts = {check["name"]: check["verdict"] for check in ran.json}
    assert verdicts["database"] == "broken"


@pytest.mark.usefixtures("no_home")
def test_doctor_names_the_broken_home(desk: Desk) -> None:
    ran = desk.call("doctor", "--json")
    assert (ran.code, ran.err) == (exits.FAILED, "")
    broken = {check["name"]: check["fix"] for check in ran.json if check["verdict"] == "broken"}
    assert broken.keys() == {"home", "database"}
    assert all(broken.values())


def _garbage(path: Path) -> None:
    path.write_bytes(os.urandom(20000))


def _only_the_head(path: Path) -> None:
    os.truncate(path, 6000)


def _cut_off(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("damage", [_garbage, _only_the_head, _cut_off, _a_folder])
def test_a_damaged_database(desk: Desk, damage: Callable[[Path], None]) -> None:
    # Processes only: a connection of ours would still have what the file has lost.
    job_id = desk.run("submit", "recipe.yaml", "-q").out.strip()
    database = desk.home / "ft.db"
    assert not (desk.home / "ft.db-wal").exists()
    whole = database.read_bytes()
    damage(database)
    expected = (exits.FAILED, "E501" if damage is _a_folder else "E503")
    for args in (("submit", "recipe.yaml"), ("status",), ("up", "--port", "0")):
        assert desk.run(*args).code_and_fault == expected, args
    doctor = desk.run("doctor", "--json")
    assert doctor.code == exits.FAILED
    assert [check["name"] for check in doctor.json if check["verdict"] == "broken"] == ["database"]
    for path in desk.home.glob("ft.db*"):
        path.rmdir() if path.is_dir() else path.unlink()
    database.write_bytes(whole)
    assert [job["id"] for job in desk.run("status", "--json").json] == [job_id]


def _files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.mark.parametrize("kilobytes", [0, 20, 100])
def test_a_disk_that_is_full_before_the_database_is_made(desk: Desk, kilobytes: int) -> None:
    ran = desk.limited(_no_file_above(kilobytes), "submit", "recipe.yaml")
    assert ran.code_and_fault == (exits.FAILED, "E504")
    again = desk.run("submit", "recipe.yaml", "-q")
    assert again.code == exits.OK
    assert [job["id"] for job in desk.call("status", "--json").json] == [again.out.strip()]


def test_a_disk_that_is_full_while_data_is_written(desk: Desk) -> None:
    desk.submit()
    before = _files(desk.home / "data")
    size = _largest(desk.home)
    write_rows(desk.data, 3000, words="and so on " * 30)
    assert desk.data.stat().st_size > 4 * 1024 * size
    ran = desk.limited(_no_file_above(2 * size), "submit", "recipe.yaml")
    assert ran.code == exits.FAILED
    assert ran.codes[0] in ("E501", "E504")
    assert str(desk.home / "data") in ran.err
    assert _files(desk.home / "data") == before
    assert len(desk.call("status", "--json").json) == 1
    assert desk.run("submit", "recipe.yaml", "-q").code == exits.OK
    assert len(desk.call("status", "--json").json) == 2


def test_a_disk_that_is_full_when_the_job_is_written(desk: Desk) -> None:
    desk.submit()
    before = desk.call("status", "--json").json
    big = ", ".join(f"word{number}: {'x' * 200}" for number in range(2000))
    desk.write("big.yaml", RECIPE + "allow_ignored: [provider_options]\nprovider_options: {" + big + "}\n")
    ran = desk.limited(_no_file_above(_largest(desk.home) + 8), "submit", "big.yaml")
    assert ran.code_and_fault == (exits.FAILED, "E504")
    assert desk.call("status", "--json").json == before
    assert desk.run("submit", "big.yaml", "-q").code == exits.OK


@pytest.mark.parametrize("kilobytes", [0, 4])
def test_a_disk_that_is_full_when_a_recipe_is_begun(desk: Desk, kilobytes: int) -> None:
    before = _files(desk.folder)
    ran = desk.limited(_no_file_above(kilobytes), "init", "new.yaml")
    assert ran.code_and_fault == (exits.FAILED, "E510")
    assert _files(desk.folder) == before
    assert desk.run("init", "new.yaml").code == exits.OK


def test_output_that_cannot_be_written(desk: Desk) -> None:
    assert desk.shell("ft schema > /dev/full").code_and_fault == (exits.FAILED, "E510")
    assert desk.shell("ft status --json > /dev/full").code_and_fault == (exits.FAILED, "E510")


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", "<&- >&- 2>&-"])
def test_streams_that_the_shell_has_closed(desk: Desk, closed: str) -> None:
    assert desk.shell(f"ft submit recipe.yaml {closed}").code == exits.OK
    (job,) = desk.call("status", "--json").json
    assert desk.shell(f"ft cancel {job['id']} {closed}").code == exits.OK
    assert desk.call("status", job["id"], "--json").json["cancel_requested"] is True


@pytest.mark.parametrize("url", ["postgresql+psycopg", "postgresql"])
def test_a_database_server_that_is_not_there(desk: Desk, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FT_DATABASE_URL", f"{url}://ft@{CLOSED}/ft")
    assert desk.run("submit", "recipe.yaml").code_and_fault == (exits.FAILED, "E502")
    for args in (("status",), ("wait", "ft_x"), ("models", "list"), ("worker",), ("up", "--port", "0")):
        assert desk.call(*args).code_and_fault == (exits.FAILED, "E502"), args
    doctor = desk.call("doctor", "--json")
    assert doctor.code == exits.FAILED
    assert [check["name"] for check in doctor.json if check["verdict"] == "broken"] == ["database"]


@pytest.mark.parametrize("url", ["nonsense", "postgres://ft@host/ft", "http://host", "://", "sqlite:/ft.db"])
def test_a_database_address_that_is_none(desk: Desk, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FT_DATABASE_URL", url)
    assert desk.call("status").code_and_fault == (exits.FAILED, "E507")
    assert [check["name"] for check in desk.call("doctor", "--json").json if check["verdict"] == "broken"] == [
        "database"
    ]


@pytest.mark.parametrize("port", ["abc", "-1", "65536", "80.5", "8765 ", "0x10"])
def test_a_port_that_is_none(desk: Desk, port: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FT_PORT", port)
    for args in (("status",), ("up",), ("doctor",)):
        assert desk.call(*args).code_and_fault == (exits.USAGE, "E902")


def test_a_broker_that_is_not_there_costs_a_submit_nothing(desk: Desk) -> None:
    ran = desk.run("submit", "recipe.yaml", "-q", timeout=15, FT_BROKER_URL=f"redis://{CLOSED}/0")
    assert (ran.code, ran.err) == (exits.OK, "")
    assert desk.call("status", "--json").json[0]["id"] == ran.out.strip()


def test_doctor_names_the_broker_that_is_not_there(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FT_BROKER_URL", f"redis://{CLOSED}/0")
    doctor = desk.call("doctor", "--json")
    assert doctor.code == exits.FAILED
    (broken,) = (check for check in doctor.json if check["verdict"] == "broken")
    assert (broken["name"], broken["said"].split()[0]) == ("broker", "E802")
    assert broken["fix"]


def test_one_up_for_one_home(desk: Desk) -> None:
    with ft_running("up", "--port", "0", cwd=desk.folder) as (first, shown):
        _wait_for(first, shown, "serving on http://127.0.0.1:")
        second = desk.run("up", "--port", "0")
        assert second.code_and_fault == (exits.FAILED, "E801")
        assert f"process {first.pid})" in second.err
        assert str(desk.home) in second.err
        assert first.stop() == exits.OK
        assert "Traceback" not in shown()
    with ft_running("up", "--port", "0", cwd=desk.folder) as (third, shown):
        _wait_for(third, shown, "serving on http://127.0.0.1:")


def test_a_port_that_is_taken(desk: Desk) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert desk.run("serve", "--port", port).code_and_fault == (exits.FAILED, "E757")


def _largest(folder: Path) -> int:
    """Kilobytes of the largest file: a limit below it would stop what is there already."""
    return max(path.stat().st_size for path in folder.rglob("*") if path.is_file()) // 1024 + 1


def _no_file_above(kilobytes: int) -> Callable[[], None]:
    """A full disk, as far as one process can have it to itself: no file may grow beyond so many bytes."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (kilobytes * 1024, kilobytes * 1024))


def _wait_for(child: Child, shown: Callable[[], str], text: str) -> None:
    wait_until(lambda: text in shown() or not child.alive, 60, f"{text!r}")
    assert text in shown(), shown()
