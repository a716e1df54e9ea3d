"""What may be thrown away: adapters that no version has, checkpoints of ended trainings, and retired versions' files.

Only what our books account for is touched, here and in a bucket: an adapter says by which training it was made, and one
that this database knows nothing of may be another installation's. Nothing younger than a day goes: a worker may be
about to record it, or still be uploading it.
"""

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from finetune.errors import NotFound, StateError
from finetune.files import unwritable
from finetune.ports import Clock
from finetune.releases import ModelStore, PromotionStore
from finetune.remains import Books, Training
from finetune.shelf import Adapters
from finetune.versions import ModelStatus, ModelVersion, Traffic

if TYPE_CHECKING:
    from finetune.shelf.objects import Copy

#: Nothing younger goes.
LEAST: Final = timedelta(days=1)
#: A folder on its way out; a process that was killed may leave one.
_GOING: Final = ".going-"
#: A finished adapter.
_ADAPTER: Final = re.compile("[0-9a-f]{32}")
#: Of a run's folder, what nobody needs once it has ended; the request, the report and the log stay.
_OF_A_RUN: Final = ("checkpoints", "adapter", ".adapter.part")


@dataclass(frozen=True, kw_only=True)
class Found:
    """One folder that can go, or its copy in a bucket, or both."""

    #: Where it is on this machine, or would be: see `here`.
    path: Path
    bytes: int
    #: In words.
    why: str
    #: The retired versions that lose their files.
    versions: tuple[ModelVersion, ...] = ()
    #: Its copy in a bucket, which goes with it; None: there is none.
    remote: str | None = None
    #: False: it is in the bucket alone, as far as this machine sees.
    here: bool = True
    #: Of an adapter, what it is made of (`remains.Training.makes`); None: it is none, or that is not known.
    makes: tuple[str, str] | None = None


@dataclass(frozen=True, kw_only=True)
class Heap:
    """What a look around has found."""

    found: tuple[Found, ...]
    #: Folders of adapters that these books know nothing of; they stay.
    strange: tuple[Path, ...]
    #: Addresses of such in the bucket.
    strange_copies: tuple[str, ...] = ()


class Collector:
    """Looks for garbage below FT_HOME and in the bucket of adapters, and removes it. Any number may work at once."""

    def __init__(
        self,
        models: ModelStore,
        promotions: PromotionStore,
        books: Books,
        clock: Clock,
        *,
        back: Callable[[str, str], Traffic],
        folders: tuple[Path, Path],
        remote: Adapters,
    ) -> None:
        """`back`: what a roll back restores (`releasing.Releasing.back`). `folders`: of adapters, and of runs.

        `remote`: knows and removes their copies in a bucket.
        """
        self._models, self._promotions, self._books, self._clock = models, promotions, books, clock
        self._back = back
        (self._adapters, self._runs), self._remote = folders, remote

    def look(self, older_than: timedelta = LEAST, *, retired: bool = False) -> Heap:
        """What can go, `older_than` or a day old, whichever is more. `retired`: files of retired versions too.

        Raises StateError E512 when adapters are kept in a bucket, and it does not answer.
        """
        before = self._clock.now() - max(older_than, LEAST)
        copies = self._remote.copies()
        orphans, strange = self._orphans(before, copies)
        in_bucket, strange_copies = self._orphans_in_bucket(before, copies)
        found = [*orphans, *in_bucket, *self._leftovers(before)]
        if retired:
            found += [*self._retired(before), *self._copies_left()]
        return Heap(found=tuple(found), strange=tuple(strange), strange_copies=tuple(strange_copies))

    def remove(self, heap: Heap) -> list[Found]:
        """Remove what `look` found, unless somebody has come to need it since; what was removed.

        Raises StateError when the disk, or the bucket, does not let go of something; the next call goes on with it.
        """
        return [each for each in heap.found if self._remove(each)]

    def _remove(self, each: Found) -> bool:
        if each.makes in self._coming():
            # A training that makes it again would find its copy in the bucket, and upload none.
            return False
        losing = [(one.name, one.version) for one in each.versions]
        if losing and not self._books.note_gone(losing, self._clock.now()):
            return False
        if each.remote and not each.path.exists():
            # It is on another machine's disk, if on any.
            if each.path.name in self._needed():
                return False
            self._remote.remove(each.remote)
            return True
        going = each.path.with_name(f"{_GOING}{each.path.name.lstrip('.')}-{os.getpid()}")
        try:
            each.path.rename(going)
            # Whoever has come to need it found it up to now; from now on nobody can.
            if _named(each.path) in self._needed():
                going.rename(each.path)
                return False
            # First the copy: what is left here names it to the next one, should this one be killed.
            if each.remote:
                self._remote.remove(each.remote)
            shutil.rmtree(going)
        except FileNotFoundError:
            # Another one was faster.
            return False
        except OSError as error:
            raise StateError(unwritable(each.path, error)) from error
        return True

    # -- adapters ---------------------------------------------------------------------------------------------

    def _needed(self) -> set[str]:
        """Folders of adapters that a version has, or will have; by name, since FT_HOME may be reached by two paths."""
        paths = [str(one.artifact.get("path", "")) for one in self._models.models() if "gone" not in one.artifact]
        paths += [one.adapter for one in self._books.under_way() if one.adapter]
        return {Path(path).name for path in paths}

    def _coming(self) -> set[tuple[str, str]]:
        """What trainings under way make: they keep, and upload, an adapter before they say so."""
        return {one.makes for one in self._books.under_way()}

    def _orphans(self, before: datetime, copies: "Mapping[str, Copy]") -> tuple[list[Found], list[Path]]:
        needed = self._needed()
        there = [path for path in _folders(self._adapters) if path.name not in needed]
        makers, coming = self._makers(there), self._coming()
        found, strange = [], []
        for path in there:
            maker = makers.get(path)
            if path.name.startswith(_GOING):
                found.append(self._with_copy(path, "half removed before", needed, copies))
            elif maker is None:
                strange.append(path)
            # Those of a training that goes on are among what is coming.
            elif maker.makes not in coming and _age(path) < before:
                found.append(replace(self._with_copy(path, _unwanted(maker), needed, copies), makes=maker.makes))
        return found, strange

    def _with_copy(self, path: Path, why: str, needed: set[str], copies: "Mapping[str, Copy]") -> Found:
        """The folder, with its copy in the bucket where that is nobody's."""
        name = _named(path)
        mine = _ADAPTER.fullmatch(name) and name not in needed and name in copies
        return replace(_found(path, why), remote=self._remote.address_of(name) if mine else None)

    def _orphans_in_bucket(self, before: datetime, copies: "Mapping[str, Copy]") -> tuple[list[Found], list[str]]:
        """Copies that no version has, of folders that are not here: those that are decide on their copies."""
        here = {_named(path) for path in _folders(self._adapters)}
        left_alone = self._needed() | self._gone().keys() | here
        there = {
            name: str(self._remote.address_of(name))
            for name in sorted(copies)
            if _ADAPTER.fullmatch(name) and name not in left_alone
        }
        keys = {name: key for name, address in there.items() if (key := _run_key(self._remote.lineage(address)))}
        known, coming = self._books.trainings(list(keys.values())), self._coming()
        found, strange = [], []
        for name, address in there.items():
            maker = known.get(keys.get(name, ""))
            if maker is None:
                strange.append(address)
            elif maker.makes not in coming and copies[name].at < before:
                found.append(
                    Found(
                        path=self._adapters / name,
                        bytes=copies[name].bytes,
                        why=_unwanted(maker),
                        remote=address,
                        here=False,
                        makes=maker.makes,
                    )
                )
        return found, strange

    def _makers(self, folders: Sequence[Path]) -> dict[Path, Training]:
        """The trainings that made these adapters, as far as they are in the books."""
        keys = {path: key for path in folders if (key := _made_by(path))}
        known = self._books.trainings(list(keys.values()))
        return {path: known[key] for path, key in keys.items() if key in known}

    def _retired(self, before: datetime) -> Iterator[Found]:
        """Files of versions that had calls once, and to which nothing leads back."""
        sharing: dict[Path, list[ModelVersion]] = {}
        for one in self._models.models():
            if "path" in one.artifact and "gone" not in one.artifact:
                sharing.setdefault(self._adapters / Path(one.artifact["path"]).name, []).append(one)
        makers, kept, coming = self._makers_of(sharing), self._on_the_way(), self._coming()
        for folder, versions in sorted(sharing.items()):
            # What the books cannot account for was put there by somebody else.
            maker = makers.get(folder)
            remote = next(filter(None, (self._remote.address(one.artifact) for one in versions)), None)
            # Where it is in a bucket alone, the versions tell its age.
            age = _age(folder) if folder.exists() or not remote else max(one.created_at for one in versions)
            if maker is None or maker.makes in coming or age >= before:
                continue
            if all(self._left(one, before, kept) for one in versions):
                why = f"{', '.join(one.ref for one in versions)} retired"
                remote = remote if remote and self._remote.is_used(remote) else None
                if remote or folder.exists():
                    known = replace(_found(folder, why), versions=tuple(versions), makes=maker.makes)
                    yield replace(known, remote=remote, here=folder.exists())

    def _copies_left(self) -> Iterator[Found]:
        """Copies of versions whose files are gone: the bucket did not answer when they went."""
        needed, coming = self._needed(), self._coming()
        for name, (address, makes) in sorted(self._gone().items()):
            path = self._adapters / name
            if name in needed or makes in coming or path.exists() or not self._remote.is_used(address):
                continue
            yield Found(path=path, bytes=0, why="half removed before", remote=address, here=False, makes=makes)

    def _gone(self) -> dict[str, tuple[str, tuple[str, str] | None]]:
        """Folders of versions whose files are gone: by name, where its copy was, and what it is the outcome of."""
        gone = [one for one in self._models.models() if {"gone", "digest"} <= one.artifact.keys()]
        makers = self._books.trainings([str(one.lineage.get("run_key")) for one in gone])
        found = {}
        for one in gone:
            name = str(one.artifact["digest"])[:32]
            maker = makers.get(str(one.lineage.get("run_key")))
            if address := one.artifact.get("uri") or self._remote.address_of(name):
                found[name] = (str(address), maker.makes if maker else None)
        return found

    def _makers_of(self, sharing: Mapping[Path, Sequence[ModelVersion]]) -> dict[Path, Training]:
        """The same, also of folders that are not here: their versions know the training."""
        keys = {path: str(one.lineage.get("run_key")) for path, (one, *_) in sharing.items() if not path.exists()}
        known = self._books.trainings(list(keys.values()))
        elsewhere = {path: known[key] for path, key in keys.items() if key in known}
        return {**self._makers(list(sharing)), **elsewhere}

    def _on_the_way(self) -> set[tuple[str, int]]:
        """Versions that calls go to, or may soon: by an alias, a roll back, a gateway, or an unfinished promotion."""
        kept = {(one.name, one.version) for one in self._promotions.placed()}
        for traffic in self._models.all_traffic():
            kept |= {(traffic.name, version) for version, share in traffic.shares.items() if share > 0}
            with suppress(NotFound):
                kept.add((traffic.name, self._back(traffic.name, traffic.alias).version or 0))
        for name in {one.name for one in self._models.models()}:
            kept |= {(name, one.version) for one in self._promotions.recent(name) if not one.final}
        return kept

    def _left(self, one: ModelVersion, before: datetime, kept: set[tuple[str, int]]) -> bool:
        if one.status is not ModelStatus.RETIRED or (one.name, one.version) in kept:
            return False
        return _last_calls(self._models.moves(one.name), one.version) < before

    # -- runs -------------------------------------------------------------------------------------------------

    def _leftovers(self, before: datetime) -> Iterator[Found]:
        folders = list(_folders(self._runs))
        known = self._books.trainings([folder.name for folder in folders])
        for folder in folders:
            training = known.get(folder.name)
            if training is None or not training.ended:
                continue
            going = [path.name for path in _folders(folder) if path.name.startswith(_GOING)]
            for name in (*_OF_A_RUN, *going):
                path = folder / name
                if path.is_dir() and _age(path) < before:
                    yield _found(path, f"left by {training.job_id}, which is {training.state}")


def _last_calls(moves: Sequence[Traffic], version: int) -> datetime:
    """When it last had calls of any alias, from moves with the newest first."""
    last = datetime.min.replace(tzinfo=UTC)
    after: dict[str, datetime] = {}
    for move in moves:
        if move.shares.get(version, 0) > 0:
            last = max(last, after.get(move.alias, move.at))
        after[move.alias] = move.at
    return last


def _folders(folder: Path) -> list[Path]:
    with suppress(OSError):
        return sorted(path for path in folder.iterdir() if path.is_dir() and not path.is_symlink())
    return []


def _named(path: Path) -> str:
    """The name of the folder, also while it is on its way out."""
    going = re.fullmatch(rf"{re.escape(_GOING)}(.*)-\d+", path.name)
    return _named(path.with_name(going[1])) if going else path.name


def _made_by(folder: Path) -> str | None:
    """The run key of the training that made it; None where it does not say."""
    with suppress(OSError):
        return _run_key((folder / "lineage.json").read_bytes())
    return None


def _run_key(lineage: bytes | None) -> str | None:
    with suppress(ValueError):
        made = json.loads(lineage or b"null")
        key = made.get("run_key") if isinstance(made, dict) else None
        return key if isinstance(key, str) else None
    return None


def _unwanted(maker: Training) -> str:
    return f"no version has it; made for {maker.job_id}, which is {maker.state}"


def _age(folder: Path) -> datetime:
    """When it was last written to, or came to where it is."""
    with suppress(OSError):
        known = folder.stat()
        return datetime.fromtimestamp(max(known.st_mtime, known.st_ctime), UTC)
    return datetime.max.replace(tzinfo=UTC)


def _found(path: Path, why: str) -> Found:
    total = 0
    for each in path.rglob("*"):
        with suppress(OSError):
            total += each.lstat().st_size
    return Found(path=path, bytes=total, why=why)
