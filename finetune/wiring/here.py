"""Which gateways are set up on this machine: each says itself what it reads, by reading it."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from importlib.metadata import EntryPoint
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from finetune.deployments import GatewayKit

#: It comes with ft and wants nothing set.
_ALWAYS: Final = "embedded"
#: Two ways to one proxy, which the catalogue knows by one name.
_WAY: Final = "-api"


def set_up(entries: Iterable[EntryPoint], kit: "GatewayKit") -> frozenset[str]:
    """Keys of the catalogue for the embedded gateway, and for those that find a variable of theirs and can be used.

    What has an address by default, and nothing set, may not be there at all. Sends nothing.
    """
    found = {_ALWAYS}
    for entry in entries:
        watched = _Watched(kit.environ)
        try:
            entry.load()(replace(kit, environ=watched))
        except Exception:  # noqa: BLE001 -- whoever names it in a recipe hears why
            continue
        if watched.found:
            found.add(entry.name.removesuffix(_WAY))
    return frozenset(found)


class _Watched(Mapping[str, str]):
    """An environment that notes which of its variables were asked for and hold something."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self.found = set[str]()

    def __getitem__(self, name: str) -> str:
        value = self._environ[name]
        if value.strip():
            self.found.add(name)
        return value

    def __iter__(self) -> Iterator[str]:
        return iter(self._environ)

    def __len__(self) -> int:
        return len(self._environ)
