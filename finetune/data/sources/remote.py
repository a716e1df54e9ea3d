"""Objects behind fsspec: S3, Google Cloud Storage, the web. Three tries, time-outs, and no secret in a message."""

import importlib
import ipaddress
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from types import MethodType
from typing import Any, Final, NamedTuple
from urllib.parse import unquote, urlsplit

from finetune.data.sources.faults import NO_FILE, Reading, library, printable
from finetune.data.sources.finding import chosen, is_pattern
from finetune.data.sources.opening import Source
from finetune.data.sources.place import Place, RemoteFile, named
from finetune.data.sources.tries import CONNECT_S, SILENCE_S, Guard

#: Read ahead in one request.
_BLOCK_BYTES: Final = 8 * 1024 * 1024
#: What of an object's description tells whether it was written anew; the names differ from service to service.
_STATE: Final = ("size", "ETag", "LastModified", "VersionId", "generation", "md5Hash", "updated", "Last-Modified")


class _Service(NamedTuple):
    """What answers to a scheme."""

    #: The module with its file system.
    library: str
    #: Makes the file system from that module; the second is true when it does not sign its requests.
    build: Callable[[Any], tuple[Any, bool]]
    #: It has folders and patterns.
    listed: bool


def shown(spec: str) -> str:
    """An address for messages: without user, password, query and fragment."""
    scheme, _, rest = spec.partition("://")
    try:
        urlsplit(spec).port  # noqa: B018 - a password with a slash in it makes the rest look like a port
    except ValueError:
        return f"{scheme}://..."
    if scheme.lower() in ("http", "https"):
        rest = rest.partition("?")[0].partition("#")[0]
    host, slash, path = rest.partition("/")
    return printable(f"{scheme}://{host.rpartition('@')[2]}{slash}{path}")


def check(spec: str, reading: Reading) -> None:
    """Raises Stopped when the address is not one that ft reads. Asks nobody."""
    fault = _fault(spec, reading.file)
    if fault:
        raise reading.stop(NO_FILE, *fault)


def _fault(spec: str, file: str) -> tuple[str, str, str] | None:
    scheme = spec.partition("://")[0].lower()
    if scheme == "file":
        return f"`{file}` is an address", "Files of this machine are named by their path", "write the path alone"
    if scheme not in _SERVICES:
        known = ", ".join(f"{each}://" for each in _SERVICES if each != "http")
        return f"ft does not read from {scheme}://", f"It reads {known}", "copy the file to this machine"
    try:
        parts = urlsplit(spec)
        host = parts.hostname
    except ValueError:
        host = None
    if not host:
        return f"`{file}` is no address", "There is no server or bucket in it", "check it"
    if scheme == "http" and not _is_loopback(host):
        return f"`{file}` is not read over http://", "Anybody between could read and change the rows", "write https://"
    if _SERVICES[scheme].listed and "@" in parts.netloc:
        what, why = f"credentials stand in the address of `{file}`", "A recipe is no place for secrets"
        return what, why, "remove them; ft uses those of the environment"
    return None


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def places(spec: str, reading: Reading) -> list[Place]:
    """The object at an address that passed `check`, or the data files of the folder or pattern there. Raises Stopped.

    Asks the server, and blocks until it answers or is given up.
    """
    scheme = urlsplit(spec).scheme
    spec, service = f"{scheme}://{spec.partition('://')[2]}", _SERVICES[scheme]
    file = _connected(RemoteFile(scheme, spec, None), reading)
    system, guard = file.system, Guard(scheme, file.anonymous, reading)
    if service.listed and is_pattern(spec):
        return _several(guard(lambda: system.glob(spec, detail=True)), None, file, reading)
    info = guard(lambda: system.info(spec.rstrip("/") if service.listed else spec))
    if info["type"] == "directory":
        above = spec.partition("://")[2].rstrip("/") + "/"
        return _several(guard(lambda: system.find(spec, detail=True)), above, file, reading)
    if "url" in info:
        # Where a web server sent us: the same rules hold there.
        check(info["url"], Reading(shown(info["url"]), reading.found, 0))
    path = spec if service.listed else unquote(urlsplit(spec).path)
    kind, packing = named(path.rpartition("/")[2])
    return [Place(reading.file, kind, info["size"], file, packing)]


def _several(
    infos: Mapping[str, Mapping[str, Any]], above: str | None, file: RemoteFile, reading: Reading
) -> list[Place]:
    """The data files among the objects found: those below the folder `above`, or, if None, those of a pattern."""
    out = []
    names = [name for name, info in infos.items() if info["type"] == "file"]
    for name in chosen(names, lambda name: name.removeprefix(above or ""), reading, hidden_too=above is None):
        kind, packing = named(name.rpartition("/")[2])
        address = f"{file.scheme}://{name}"
        out.append(Place(printable(address), kind, infos[name]["size"], replace(file, address=address), packing))
    return out


@contextmanager
def opened(file: RemoteFile, reading: Reading) -> Iterator[Source]:
    """An object, open to be read from its start. Raises Stopped."""
    file = _connected(file, reading)
    system, guard = file.system, Guard(file.scheme, file.anonymous, reading)

    def state() -> list[str]:
        info = guard(lambda: system.info(file.address))
        return [str(info.get(key)) for key in _STATE]

    def seekable() -> Any:
        return system.open(file.address, "rb", block_size=_BLOCK_BYTES, cache_type="readahead")

    # A web server need not hand out parts of a file: what is read from its start comes in one answer.
    is_stream = not _SERVICES[file.scheme].listed
    before = state()
    handle = guard(lambda: system.open(file.address, "rb", block_size=0)) if is_stream else guard(seekable)
    with handle:
        yield Source(handle, guard, lambda: state() != before, seekable if is_stream else None)


def _connected(file: RemoteFile, reading: Reading) -> RemoteFile:
    """The same with its file system. Raises Stopped when its library or the credentials it names are missing."""
    if file.system is not None:
        return file
    service = _SERVICES[file.scheme]
    module = library(service.library, f"it reads {file.scheme}:// addresses", reading)
    system, anonymous = Guard(file.scheme, False, reading)(lambda: service.build(module))
    return replace(file, system=system, anonymous=anonymous)


def _s3(module: Any) -> tuple[Any, bool]:
    # Without credentials, open buckets can be read all the same, if the requests are not signed.
    session = importlib.import_module("botocore.session").get_session()
    anonymous = session.get_credentials() is None
    # The retries are ours.
    config = {"connect_timeout": CONNECT_S, "read_timeout": SILENCE_S, "retries": {"total_max_attempts": 1}}
    system = module.S3FileSystem(
        anon=anonymous, config_kwargs=config, skip_instance_cache=True, use_listings_cache=False
    )
    system.retries = 1
    return system, anonymous


def _gcs(module: Any) -> tuple[Any, bool]:
    credentials: Any = "anon"
    # An emulator knows no credentials; the same variable makes Google's own library go without.
    if not os.environ.get("STORAGE_EMULATOR_HOST"):
        auth = importlib.import_module("google.auth")
        with suppress(auth.exceptions.DefaultCredentialsError):
            credentials, _ = auth.default(scopes=["https://www.googleapis.com/auth/devstorage.read_only"])
    system = module.GCSFileSystem(
        token=credentials,
        access="read_only",
        requests_timeout=_timeout(),
        skip_instance_cache=True,
        use_listings_cache=False,
    )
    # Six tries over half a minute, each logged with a traceback: fixed in the library by a decorator.
    plain = getattr(type(system)._request, "__wrapped__", None)
    if plain is not None:
        system._request = MethodType(plain, system)
    return system, credentials == "anon"


def _web(module: Any) -> tuple[Any, bool]:
    # As it lies there: a server that marks a .gz file as an encoding would have it unpacked on the way.
    options = {"auto_decompress": False, "headers": {"Accept-Encoding": "identity"}}
    client = {"timeout": _timeout(), "trust_env": True, **options}
    return module.HTTPFileSystem(client_kwargs=client, skip_instance_cache=True), False


def _timeout() -> Any:
    aiohttp = importlib.import_module("aiohttp")
    return aiohttp.ClientTimeout(total=None, connect=CONNECT_S, sock_connect=CONNECT_S, sock_read=SILENCE_S)


_SERVICES: Final = {
    "s3": _Service("s3fs", _s3, True),
    # Not `gcsfs` itself, whose class asks for the kind of each bucket by gRPC first, which takes a minute to fail.
    "gs": _Service("gcsfs.core", _gcs, True),
    "https": _Service("fsspec.implementations.http", _web, False),
    "http": _Service("fsspec.implementations.http", _web, False),
}
