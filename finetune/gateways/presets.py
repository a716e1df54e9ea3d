"""llama-server's presets file: sections of `key = value` lines. What others wrote in it stays as it is."""

import fcntl
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from finetune.errors import GatewayError, Problem, StateError
from finetune.files import write_whole

_HEADER: Final = re.compile(r"^\s*\[(?P<name>[^\]]*)\]\s*$")
_PAIR: Final = re.compile(r"^\s*(?P<key>[^;#=\s][^=]*?)\s*=\s*(?P<value>.*?)\s*$")


class Presets:
    """One such file. Safe for several processes that all use this class."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def sections(self) -> dict[str, dict[str, str]]:
        """All sections by name. Raises GatewayError when the file cannot be read."""
        return parse(self._text())

    def put(self, name: str, values: Mapping[str, str]) -> None:
        """Append a section, unless it is there with these values. Raises GatewayError."""
        block = "".join(f"{key} = {value}\n" for key, value in values.items())
        with self._changing() as text:
            if parse(text).get(name) == dict(values):
                return
            gap = "" if not text or text.endswith("\n\n") else "\n" if text.endswith("\n") else "\n\n"
            self._write(f"{text}{gap}[{name}]\n{block}")

    def drop(self, name: str) -> bool:
        """Take a section out; False when it is not there. Raises GatewayError."""
        with self._changing() as text:
            kept, inside = [], False
            for line in text.splitlines(keepends=True):
                if header := _HEADER.match(line):
                    inside = header["name"] == name
                if not inside:
                    kept.append(line)
            left = "".join(kept)
            if left == text:
                return False
            self._write(left.rstrip("\n") + "\n")
            return True

    @contextmanager
    def _changing(self) -> Iterator[str]:
        """The text, while no other process changes it."""
        try:
            lock = os.open(self.path.with_name(f".{self.path.name}.lock"), os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise self._fault("written", error) from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield self._text()
        finally:
            os.close(lock)

    def _text(self) -> str:
        try:
            return self.path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return ""
        except (OSError, ValueError) as error:
            raise self._fault("read", error) from None

    def _write(self, text: str) -> None:
        try:
            write_whole(self.path, text)
        except StateError as error:
            raise self._fault("written", error) from None

    def _fault(self, what: str, error: Exception) -> GatewayError:
        reason = error.strerror if isinstance(error, OSError) else "it is no text in UTF-8"
        if isinstance(error, StateError):
            reason = error.problems[0].why
        return GatewayError(
            Problem(
                code="E825",
                what=f"the presets file {self.path} cannot be {what}",
                why=str(reason),
                fix="set FT_LLAMACPP_PRESETS to the file that llama-server was started with as --models-preset",
            )
        )


def parse(text: str) -> dict[str, dict[str, str]]:
    """Sections of such a text by name; what stands before the first one is left out."""
    found: dict[str, dict[str, str]] = {}
    section: dict[str, str] = {}
    for line in text.splitlines():
        if header := _HEADER.match(line):
            section = found.setdefault(header["name"], {})
        elif pair := _PAIR.match(line):
            section[pair["key"]] = pair["value"]
    return found
