"""docker/compose.yaml as Docker reads it: variables put in, and what each service is started with."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

DOCKER = Path(__file__).parents[2] / "docker"
#: `$$`, `$NAME`, `${NAME}`, `${NAME:-otherwise}`, `${NAME:?complaint}`; what else Compose knows, the file does not use.
_VARIABLE = re.compile(r"\$(?:(?P<dollar>\$)|(?P<bare>\w+)|\{(?P<name>\w+)(?:(?P<how>:[-?])(?P<text>[^}]*))?\})")


class Missing(Exception):
    """A variable that the file requires is not set."""


@dataclass(frozen=True, kw_only=True)
class Service:
    """What a container is started with."""

    name: str
    #: Without the entrypoint of the image, which hands over to it.
    command: tuple[str, ...]
    #: All of it: a container has nothing of the host's.
    environment: Mapping[str, str]
    #: Empty: it is always started.
    profiles: frozenset[str]
    #: Seconds from SIGTERM to SIGKILL.
    grace_s: float
    #: The whole entry, variables put in.
    entry: Mapping[str, Any]

    @property
    def ours(self) -> bool:
        """It runs an image of ours."""
        return "build" in self.entry

    @property
    def check(self) -> tuple[str, ...]:
        """The command of its health check, without the shell; () where there is none or it wants a shell."""
        kind, *words = self.entry.get("healthcheck", {}).get("test", ["NONE"])
        return tuple(words) if kind == "CMD" else ()


def raw() -> dict[str, Any]:
    """The file as YAML, its variables as they are written."""
    return dict(yaml.safe_load((DOCKER / "compose.yaml").read_text()))


def services(env: Mapping[str, str]) -> dict[str, Service]:
    """All services, also those of profiles. `env` is what .env and shell hold. Raises Missing."""
    return {name: _service(name, _filled(entry, env), env) for name, entry in raw()["services"].items()}


def _service(name: str, entry: Mapping[str, Any], env: Mapping[str, str]) -> Service:
    # A variable without a value is the host's, and is not set where the host has none.
    listed = entry.get("environment", {}).items()
    passed = {key: env.get(key) if value is None else str(value) for key, value in listed}
    return Service(
        name=name,
        command=tuple(entry.get("command", ())),
        environment={key: value for key, value in passed.items() if value is not None},
        profiles=frozenset(entry.get("profiles", ())),
        grace_s=_seconds(entry.get("stop_grace_period", "10s")),
        entry=entry,
    )


def filled(text: str, env: Mapping[str, str]) -> str:
    """The text with its variables put in. Raises Missing, and ValueError for a `$` that Compose would refuse."""

    def value(match: re.Match[str]) -> str:
        if match["dollar"]:
            return "$"
        name = match["name"] or match["bare"]
        # The colon: empty counts as unset.
        if match["how"] and not env.get(name):
            if match["how"] == ":?":
                raise Missing(f"{name}: {match['text']}")
            return str(match["text"])
        return env.get(name, "")

    if "$" in _VARIABLE.sub("", text):
        raise ValueError(f"no variable: {text}")
    return _VARIABLE.sub(value, text)


def _filled(value: Any, env: Mapping[str, str]) -> Any:
    match value:
        case str():
            return filled(value, env)
        case dict():
            return {key: _filled(each, env) for key, each in value.items()}
        case list():
            return [_filled(each, env) for each in value]
    return value


def _seconds(text: str) -> float:
    match = re.fullmatch(r"(?:(\d+)m)?(?:(\d+)s)?", text)
    assert match, text
    return float(match[1] or 0) * 60 + float(match[2] or 0)
