"""A secret is used and never shown: not on a terminal, not in a log, not in the database, not in a fault's record."""

from pathlib import Path

import pytest

from tests.cli.desk import CLOSED, Desk, Ran
from tests.support.process import ft_running, wait_until

#: Planted in the environment, each in the form in which it is told there.
_KEYS = {"OPENAI_API_KEY": "sk-plantedopenai123456", "FT_API_KEY": "plantedserverkey"}
_DATABASE, _BROKER = "planteddatabasepassword", "plantedbrokerpassword"
_SECRETS = (*_KEYS.values(), _DATABASE, _BROKER)


@pytest.fixture
def said(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was printed; in the end it, and every file on the desk and in FT_HOME, is searched for the secrets."""
    for name, value in _KEYS.items():
        monkeypatch.setenv(name, value)
    return []


def _search(desk: Desk, said: list[str]) -> None:
    places = {str(path): path.read_bytes() for root in (desk.home, desk.folder) for path in _files(root)}
    assert said
    assert any(place.endswith("ft.db") for place in places)
    places |= {f"output {number}": text.encode() for number, text in enumerate(said)}
    found = [(place, secret) for place, content in places.items() for secret in _SECRETS if secret.encode() in content]
    assert found == []


def _files(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file()]


def _said(ran: Ran) -> str:
    return f"{ran.out}\n{ran.err}"


def test_keys_in_the_environment_are_never_shown(desk: Desk, said: list[str]) -> None:
    job = desk.ended()
    for args in (
        ("submit", "recipe.yaml", "--force", "--json"),
        ("status", job.id, "--json"),
        ("logs", job.id, "--json"),
        ("models", "show", "bot@v1", "--json"),
        ("doctor", "--json"),
        ("up", "--port", "70000"),
        ("serve", "--host", "999.999.999.999", "--port", "0"),
    ):
        said.append(_said(desk.run(*args)))
    _search(desk, said)


def test_a_servers_password_is_never_shown(desk: Desk, said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    desk.submit()
    for url in (
        f"postgresql+psycopg://ft:{_DATABASE}@{CLOSED}/ft",
        f"postgres://ft:{_DATABASE}@{CLOSED}/ft",
        f"ft:{_DATABASE}@{CLOSED}",
    ):
        for args in (("status",), ("doctor",)):
            monkeypatch.setenv("FT_DATABASE_URL", url)
            ran = desk.call(*args)
            assert ran.code == 1
            said.append(_said(ran))
    monkeypatch.delenv("FT_DATABASE_URL")
    monkeypatch.setenv("FT_BROKER_URL", f"redis://ft:{_BROKER}@{CLOSED}/0")
    for args in (("submit", "recipe.yaml", "--force"), ("doctor", "--json")):
        said.append(_said(desk.call(*args)))
    _search(desk, said)


def test_a_worker_keeps_its_brokers_password(desk: Desk, said: list[str]) -> None:
    desk.submit()
    env = {"FT_BROKER_URL": f"redis://ft:{_BROKER}@{CLOSED}/0"}
    with ft_running("worker", "--queue", "remote", env=env, cwd=desk.folder) as (child, shown):
        wait_until(lambda: "onnect" in shown() or not child.alive, 60, "the worker to miss its broker")
        child.stop()
        said.append(shown())
    _search(desk, said)


def test_a_secret_in_a_recipe_is_refused_and_not_repeated(desk: Desk, said: list[str]) -> None:
    desk.submit()
    openai = _KEYS["OPENAI_API_KEY"]
    ran = desk.call("submit", "recipe.yaml", "--set", f"provider_options.api_key={openai}")
    assert "E132" in ran.codes
    said.append(_said(ran))
    for override in (f"notify=[{openai}]", f"name={openai}", f"seed={openai}", openai):
        ran = desk.call("validate", "recipe.yaml", "--json", "--set", override)
        assert ran.code == 2
        said.append(_said(ran))
    _search(desk, said)


def test_the_search_finds_what_is_planted(desk: Desk, said: list[str]) -> None:
    desk.submit()
    said.append("nothing")
    _search(desk, said)
    for place in (desk.folder / "x", desk.home / "logs" / "x"):
        place.parent.mkdir(exist_ok=True)
        place.write_text(f"... {_BROKER} ...")
        with pytest.raises(AssertionError):
            _search(desk, said)
        place.unlink()
    with pytest.raises(AssertionError):
        _search(desk, [f"... {_KEYS['FT_API_KEY']}"])
