"""Where the adapter of a version is: on this machine, or in the bucket, from where it comes when it is needed.

What speaks to buckets is imported when one is asked: most commands ask none.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from finetune.jobs import Json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from finetune.shelf.objects import Copy


class Adapters:
    """The adapters that this machine can have. Safe for threads and for any number of processes."""

    def __init__(self, folder: Path, prefix: str | None) -> None:
        """`folder`: of this machine's adapters. `prefix`: where they are kept beside it; None: nowhere."""
        self._folder, self._prefix = folder, prefix.rstrip("/") if prefix else None

    def place(self, artifact: Json) -> Path:
        """Where the folder of an artifact with a path is here, or would be. Asks no bucket."""
        path = Path(artifact["path"])
        here = self._folder / path.name
        # Another machine's FT_HOME may have been elsewhere.
        return here if not path.is_dir() and (here.is_dir() or self.address(artifact)) else path

    def here(self, artifact: Json) -> Path:
        """That folder, fetched where it is missing and the bucket has it; else it is the caller who misses it.

        The caller looks at the digest. Blocks for a download. Raises StateError as `objects.get` does.
        """
        path = self.place(artifact)
        if address := self.address(artifact):
            self.fetch(address, str(artifact["digest"]), path)
        return path

    def fetch(self, address: str, digest: str, path: Path) -> None:
        """See `objects.get`."""
        if path.exists():
            return
        from finetune.shelf import objects

        objects.get(address, digest, path)

    def address(self, artifact: Json) -> str | None:
        """Where the bucket has it, or would have it; None: it is kept on the disk alone, or is gone."""
        if "digest" not in artifact or "gone" in artifact:
            return None
        uri = artifact.get("uri")
        return str(uri) if uri else self.address_of(str(artifact["digest"])[:32])

    def address_of(self, name: str) -> str | None:
        """The same, of a folder's name."""
        return f"{self._prefix}/{name}" if self._prefix else None

    def shelve(self, folder: Path, digest: str) -> str | None:
        """Upload a folder of ours; its address, None where adapters are kept on the disk alone.

        Idempotent. Blocks. Raises StateError as `objects.put` does.
        """
        address = self.address_of(digest[:32])
        if address:
            from finetune.shelf import objects

            objects.put(folder, address, digest)
        return address

    def is_late(self, artifact: Json, there: "Mapping[str, Copy]") -> bool:
        """Whether an artifact's folder is here and ought to be uploaded; `there` is what `copies` said.

        Its address is not noted, or what is noted is not whole. An address that is not below the prefix is left alone:
        FT_ARTIFACTS has been another one since.
        """
        if "path" not in artifact or "gone" in artifact or not self.place(artifact).is_dir():
            return False
        name = str(artifact["digest"])[:32]
        known, copy = artifact.get("uri"), there.get(name)
        return not known or (known == self.address_of(name) and not (copy and copy.whole))

    def copies(self) -> "dict[str, Copy]":
        """See `objects.copies`; nothing where adapters are kept on the disk alone."""
        if self._prefix is None:
            return {}
        from finetune.shelf import objects

        return objects.copies(self._prefix)

    def lineage(self, address: str) -> bytes | None:
        """See `objects.lineage`."""
        from finetune.shelf import objects

        return objects.lineage(address)

    def is_used(self, address: str) -> bool:
        """See `objects.is_used`."""
        from finetune.shelf import objects

        return objects.is_used(address)

    def remove(self, address: str) -> None:
        """See `objects.remove`."""
        from finetune.shelf import objects

        objects.remove(address)

    def reach(self) -> str:
        """The prefix, once its bucket has answered; of none, a word for that. Raises StateError E512."""
        if self._prefix is None:
            return "on this machine's disk"
        from finetune.shelf import objects

        return objects.reach(self._prefix)
