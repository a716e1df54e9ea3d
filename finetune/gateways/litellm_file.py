"""The file of models that the LiteLLM proxy includes and that only ft writes."""

import fcntl
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Final

import yaml

from finetune.errors import GatewayError, GatewayUnavailable, Problem, UsageError
from finetune.files import sync
from finetune.gateways.litellm_entries import faults, guard
from finetune.jobs import Json
from finetune.ports import Clock

FILE: Final = "FT_LITELLM_FILE"
_LOCK_S: Final = 25.0
_EVERY_S: Final = 0.05
#: The proxy may run as another user. The file holds names of variables, no keys.
_MODE: Final = 0o644
_HEAD: Final = (
    "# Written by ft; every change by hand is refused. The proxy's configuration names this file in `include:`.\n"
)


class ModelsFile:
    """Reads and replaces the file. Readers see the old content or the new one, also after a power cut."""

    def __init__(self, path: Path, clock: Clock) -> None:
        # A rename would replace a link, not what it leads to.
        self.path = path.resolve()
        self._clock = clock

    @classmethod
    def of(cls, environ: Mapping[str, str], clock: Clock) -> "ModelsFile":
        """The one that the environment names. Raises UsageError when it names none."""
        named = environ.get(FILE)
        if not named:
            raise UsageError(
                Problem(
                    code="E825",
                    what=f"{FILE} is not set",
                    why="the gateway litellm writes its models into a file that the proxy's configuration includes",
                    fix=f"set {FILE} to that file, as /etc/litellm/ft-models.yaml; docs/gateways-litellm.md says how",
                )
            )
        return cls(Path(named).expanduser(), clock)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold it against all other processes and threads. Raises GatewayUnavailable after 25 s, GatewayError."""
        end = self._clock.now() + timedelta(seconds=_LOCK_S)
        beside = self.path.with_name(f"{self.path.name}.lock")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(beside, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise GatewayError(self._unwritable(error)) from None
        try:
            while not _hold(handle):
                if self._clock.now() > end:
                    raise GatewayUnavailable(
                        Problem(
                            code="E820",
                            what=f"another process has been changing {self.path} for {_LOCK_S:g} s",
                            why="two changes at once would lose one of them",
                            fix="repeat it later",
                            file=str(self.path),
                        )
                    )
                self._clock.sleep(_EVERY_S)
            yield
        finally:
            os.close(handle)

    def raw(self) -> bytes | None:
        """Its bytes; None when it is not there. Raises GatewayError."""
        try:
            return self.path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise GatewayError(self._unwritable(error)) from None

    def entries(self) -> list[Json]:
        """Its entries, in order; none when it is missing or empty. Raises GatewayError for what ft has not written."""
        raw = self.raw()
        try:
            content = yaml.safe_load(raw.decode()) if raw and raw.strip() else None
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise GatewayError(self._broken([" ".join(str(error).split())[:200]])) from None
        if content is None:
            return []
        if found := faults(content):
            raise GatewayError(self._broken(found))
        return list(content["model_list"])

    def write(self, entries: Sequence[Json]) -> None:
        """Replace its content. Raises GatewayError, also for what the proxy could not load; it is then as it was."""
        guard(entries, str(self.path))
        text = _HEAD + yaml.safe_dump({"model_list": list(entries)}, sort_keys=False, allow_unicode=True, width=1000)
        self.put(text.encode())

    def put(self, raw: bytes | None) -> None:
        """Bring these bytes back; None: an empty list, because the proxy does not start without the file.

        Raises GatewayError.
        """
        beside = self.path.with_name(f".{self.path.name}.{os.getpid()}.{threading.get_ident()}")
        try:
            with suppress(FileNotFoundError):
                beside.unlink()
            beside.write_bytes(raw if raw is not None else b"model_list: []\n")
            beside.chmod(self.path.stat().st_mode & 0o777 if self.path.exists() else _MODE)
            sync(beside)
            beside.replace(self.path)
            sync(self.path.parent)
        except OSError as error:
            with suppress(OSError):
                beside.unlink()
            raise GatewayError(self._unwritable(error)) from None

    def problems(self) -> list[Problem]:
        """What stands against writing it. Changes nothing."""
        folder = self.path.parent
        if not os.access(folder, os.W_OK):
            return [
                self._unwritable(OSError(0, "no write access to its folder" if folder.is_dir() else "no such folder"))
            ]
        try:
            self.entries()
        except GatewayError as error:
            return list(error.problems)
        return []

    def _unwritable(self, error: OSError) -> Problem:
        return Problem(
            code="E822",
            what=f"{self.path} cannot be written",
            why=f"{error.strerror or error}; it is replaced as a whole, for which its folder has to take new files",
            fix=f"give write access to {self.path.parent}, or set {FILE}",
            file=str(self.path),
        )

    def _broken(self, found: Sequence[str]) -> Problem:
        return Problem(
            code="E822",
            what=f"{self.path} is not as ft writes it: {found[0]}",
            why="a file that the proxy cannot read ends it at the next reload, so nothing was changed",
            fix="mend it, or move own models to the proxy's main configuration",
            file=str(self.path),
            count=len(found),
        )


def _hold(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
