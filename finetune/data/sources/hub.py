"""Data sets of the Hugging Face hub, streamed by its library `datasets`."""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from tempfile import TemporaryDirectory
from typing import Any, Final
from urllib.parse import parse_qsl

from finetune.data.sources.columns import Columns
from finetune.data.sources.faults import BROKEN, NO_FILE, TO_BE_NAMED, Reading, library, printable
from finetune.data.sources.filling import gathered
from finetune.data.sources.place import Block, HubSplit, Place
from finetune.data.sources.tries import SILENCE_S, Guard

_PREFIX: Final = "hf:"
_SHAPE: Final = "hf:owner/name?config=...&split=...&revision=..."
_REPOSITORY: Final = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
_OPTIONS: Final = ("config", "split", "revision")
_PURPOSE: Final = "it reads data sets of the hub"
#: Rows taken at a time.
_BATCH_ROWS: Final = 256
#: Names shown of splits and configurations.
_SHOWN: Final = 20


def is_meant(spec: str) -> bool:
    """True for `hf:...`."""
    return spec.startswith(_PREFIX)


def check(spec: str, reading: Reading) -> None:
    """Raises Stopped when the name is not one that a data set can have. Asks nobody."""
    repository, _, query = spec.removeprefix(_PREFIX).partition("?")
    options = parse_qsl(query, keep_blank_values=True)
    known = {name for name, value in options if name in _OPTIONS and value}
    if not _REPOSITORY.fullmatch(repository) or len(known) < len(options):
        what, why = f"`{reading.file}` names no data set", "It is the owner and the name, and if need be, which part"
        raise reading.stop(NO_FILE, what, why, f"write {_SHAPE}")


def places(spec: str, reading: Reading) -> list[Place]:
    """The split that a spec which passed `check` means, at the commit that the hub has now. Raises Stopped.

    Asks the hub, and blocks until it answers or is given up.
    """
    repository, _, query = spec.removeprefix(_PREFIX).partition("?")
    options = dict(parse_qsl(query))
    with _datasets(reading) as (datasets, cache):
        guard = Guard("hf", False, reading)
        revision = _commit(repository, options.get("revision"), guard, reading)
        where = {"path": _path(repository), "revision": revision, "cache_dir": cache}
        # From here on the library tries several times itself, for half a minute.
        configs = guard.once(lambda: datasets.get_dataset_config_names(**where))
        config = _one("config", configs, options, reading)
        splits = guard.once(lambda: datasets.get_dataset_split_names(config_name=config, **where))
        split = _one("split", [str(each) for each in splits], options, reading)
    return [Place(reading.file, "hf", None, HubSplit(repository, config, split, revision))]


def blocks(split: HubSplit, reading: Reading) -> Iterator[Block]:
    """The rows of a split as JSON objects; the number of a row is its position. Raises Stopped.

    `datasets` gives each row all columns: a key that is missing from a row is null. `read` is the size of the rows.
    """
    yield from gathered(_numbered(split, reading), reading)


def _numbered(split: HubSplit, reading: Reading) -> Iterator[tuple[int, bytes]]:
    columns: Columns | None = None
    number = 0
    for table in _tables(split, reading):
        # Files of one split may differ in their columns.
        if columns is None or not columns.fit(table.schema):
            columns = Columns(table.schema, reading)
        for batch in table.to_batches():
            for row in columns.rows(batch, number + 1):
                number += 1
                yield number, row


def _tables(split: HubSplit, reading: Reading) -> Iterator[Any]:
    with _datasets(reading) as (datasets, cache):
        guard = Guard("hf", False, reading)
        where = {"path": _path(split.repository), "revision": split.revision, "cache_dir": cache}
        data = guard.once(lambda: datasets.load_dataset(name=split.config, split=split.split, streaming=True, **where))
        tables = iter(data.with_format("arrow").iter(batch_size=_BATCH_ROWS))
        errors = library("datasets.exceptions", _PURPOSE, reading)
        while True:
            try:
                table = guard.once(lambda: _next(tables, errors.DatasetsError))
            except _Unreadable as error:
                what, why = f"`datasets` cannot read the rows of `{reading.file}`", f"It ends with {error}"
                fix = "look at the data set on its page; another revision or the file itself may do"
                raise reading.stop(BROKEN, what, why, fix) from None
            if table is None:
                return
            yield table


class _Unreadable(Exception):
    """The library has the files, and cannot make rows of them; the argument is the name of its exception."""


def _next(tables: Iterator[Any], fault: type[Exception]) -> Any | None:
    try:
        return next(tables, None)
    except FileNotFoundError:
        raise
    except (fault, ValueError, TypeError) as error:
        raise _Unreadable(type(error).__name__) from error


def _path(repository: str) -> str:
    # The name alone could be a folder of this machine, which the library would take first.
    return f"hf://datasets/{repository}"


@contextmanager
def _datasets(reading: Reading) -> Iterator[tuple[Any, str]]:
    """The library, and a folder for what it wants to keep: it would fall back on what it kept earlier."""
    datasets = library("datasets", _PURPOSE, reading)
    # Its own are 20 tries with up to a minute between them; these are the variables it has for that.
    datasets.config.STREAMING_READ_MAX_RETRIES = datasets.config.STREAMING_OPEN_MAX_RETRIES = 3
    for name in ("READ_RETRY", "READ_SERVER_UNAVAILABLE_RETRY", "READ_RATE_LIMIT_RETRY", "OPEN_RETRY"):
        setattr(datasets.config, f"STREAMING_{name}_INTERVAL", 1)
    # It tells a third server of each load.
    datasets.config.HF_UPDATE_DOWNLOAD_COUNTS = False
    with TemporaryDirectory(prefix="ft-hub-") as cache:
        yield datasets, cache


def _commit(repository: str, revision: str | None, guard: Guard, reading: Reading) -> str:
    """The commit of a revision, once it is sure that its files may be read."""
    api = library("huggingface_hub", _PURPOSE, reading).HfApi()
    info = guard(lambda: api.dataset_info(repository, revision=revision, timeout=SILENCE_S))
    if info.gated:
        guard(lambda: api.auth_check(repository, repo_type="dataset"))
    return str(info.sha)


def _one(part: str, names: Iterable[str], options: dict[str, str], reading: Reading) -> str:
    """The split or configuration that is wanted. Raises Stopped that lists them when that is not clear."""
    names, wanted = list(names), options.get(part)
    if wanted in names:
        return str(wanted)
    if wanted is None and len(names) == 1:
        return names[0]
    shown = ", ".join(printable(name[:60]) for name in names[:_SHOWN])
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    noun = {"config": "configuration", "split": "split"}[part]
    what = (
        f"`{reading.file}` has no {noun} `{printable(wanted)}`" if wanted else f"`{reading.file}` has several {noun}s"
    )
    raise reading.stop(TO_BE_NAMED, what, f"There are: {shown}{more}", f"add {part}=..., as in {_SHAPE}")
