"""Every environment variable of the product, read once. Plain: pydantic-settings would double the start-up time."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Literal

from finetune.errors import Problem, UsageError

#: `[NAME:]COUNTxSIZE`.
_GPUS = re.compile(r"(?:[A-Za-z0-9_-]{1,32}:)?[0-9]{1,3}x[0-9]{1,6}(?:\.[0-9]{1,3})?(?:MB|GB|TB)")

#: A bucket, and a prefix of plain names. Also what a URL would take for a password is none of them.
_PREFIX = re.compile(r"(?:s3|gs)://[A-Za-z0-9][A-Za-z0-9._-]{1,253}(?:/[A-Za-z0-9=._-]+)+/?")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Where things are. Build it with `from_environment`; tests build it by hand."""

    #: FT_HOME: database, prepared data, runs, adapters, caches. Default: the user's data folder.
    home: Path
    #: FT_DATABASE_URL: `postgresql+psycopg://...`; default is a SQLite file in `home`.
    database_url: str
    #: FT_BROKER_URL: `redis://...`; None means embedded: no server, workers watch the database.
    broker_url: str | None
    #: FT_API_KEY: the key that the embedded server asks for; None: it asks for none.
    api_key: str | None
    #: FT_KEEP_UPLOADS: 0 deletes the files at a hosted provider when their job has ended, unless the recipe keeps them.
    keep_uploads: bool
    #: FT_MAX_POLL_S: the longest pause between two looks at a hosted job, seconds; None: each provider's own.
    max_poll_s: float | None
    #: FT_REQUESTS_PER_S: requests a second to each hosted provider from one process, in the long run.
    requests_per_s: float
    #: FT_SANDBOX: the providers that are stand-ins here, with commas (`ft sandbox` prints it): they bill nothing, their
    #: dates are no obstacle, and no other hosted API gets a job. Empty: all are real.
    sandbox: frozenset[str]
    #: FT_LIMITS: how many jobs may be under way at once: of each owner, at a provider, with one of its base models, as
    #: `owner=4,openai=10,openai/gpt-4o-mini=2`. Empty: no limit.
    limits: Mapping[str, int]
    #: FT_GPUS: cards that a worker says it has instead of asking the driver: `none`, or `2x80GB` to simulate some.
    gpus: str | None = None
    #: FT_GPU_HOUR_USD: what an hour of one of our own cards costs, held against limits.max_cost; None: nothing.
    gpu_hour_usd: str | None = None
    #: FT_GPU_WATTS and FT_KWH_USD: what one of our cards draws while it trains, and the price of a kilowatt hour, which
    #: add to that; None: power costs nothing.
    power: tuple[str, str] | None = None
    #: FT_ARTIFACTS: where adapters are kept beside this machine's disk, `s3://bucket/prefix` or `gs://bucket/prefix`;
    #: None: nowhere.
    artifacts: str | None = None
    #: FT_CATALOGUE: sheets of one's own over those that ship, a file or a folder of them; None: there are none.
    catalogue: Path | None = None
    #: FT_PORT: where `ft up` and `ft serve` listen.
    port: int
    #: FT_LOG_FORMAT: how workers and server write their log lines.
    log_format: Literal["text", "json"] = "text"

    @property
    def card_hour_usd(self) -> Decimal | None:
        """What an hour of one of our own cards costs, with its power; None: nobody has said."""
        if self.gpu_hour_usd is None and self.power is None:
            return None
        watts, kwh_usd = self.power or ("0", "0")
        return Decimal(self.gpu_hour_usd or 0) + Decimal(kwh_usd) * Decimal(watts) / 1000

    @property
    def embedded(self) -> bool:
        """True when no broker is configured."""
        return self.broker_url is None

    @property
    def data_dir(self) -> Path:
        """Prepared training data, a folder a digest."""
        return self.home / "data"

    @property
    def runs_dir(self) -> Path:
        """What local trainings write while they run, a folder a run key."""
        return self.home / "runs"

    @property
    def adapters_dir(self) -> Path:
        """Finished adapters, a folder a digest; never overwritten, never moved."""
        return self.home / "adapters"

    @property
    def cache_dir(self) -> Path:
        """Built-in base models; may be deleted at any time."""
        return self.home / "cache"

    @property
    def results_dir(self) -> Path:
        """Files that hosted providers keep of finished trainings, a folder a run key."""
        return self.home / "results"

    @property
    def scores_dir(self) -> Path:
        """Imported scores of base models, a file a name."""
        return self.home / "scores"

    @property
    def logs_dir(self) -> Path:
        """Logs of background processes and of unexpected errors."""
        return self.home / "logs"


def from_environment(env: Mapping[str, str] = os.environ) -> Settings:
    """Read the variables. Raises UsageError for a value that cannot be used."""
    home = _path("FT_HOME", env["FT_HOME"]) if env.get("FT_HOME") else _default_home()
    return Settings(
        home=home,
        database_url=env.get("FT_DATABASE_URL") or f"sqlite:///{_quoted(home / 'ft.db')}",
        broker_url=_broker(env.get("FT_BROKER_URL") or None),
        api_key=env.get("FT_API_KEY") or None,
        keep_uploads=_flag("FT_KEEP_UPLOADS", env.get("FT_KEEP_UPLOADS") or "1"),
        max_poll_s=_positive("FT_MAX_POLL_S", env["FT_MAX_POLL_S"]) if env.get("FT_MAX_POLL_S") else None,
        requests_per_s=_positive("FT_REQUESTS_PER_S", env.get("FT_REQUESTS_PER_S") or "10"),
        sandbox=frozenset(name for name in (env.get("FT_SANDBOX") or "").split(",") if name),
        limits=_limits(env.get("FT_LIMITS") or ""),
        gpus=_gpus(env.get("FT_GPUS") or None),
        gpu_hour_usd=_price("FT_GPU_HOUR_USD", env.get("FT_GPU_HOUR_USD") or None),
        power=_power(env.get("FT_GPU_WATTS") or None, env.get("FT_KWH_USD") or None),
        artifacts=_artifacts(env.get("FT_ARTIFACTS") or None),
        catalogue=_path("FT_CATALOGUE", env["FT_CATALOGUE"]) if env.get("FT_CATALOGUE") else None,
        port=_port(env.get("FT_PORT") or "8765"),
        log_format=_log_format(env.get("FT_LOG_FORMAT") or "text"),
    )


def _path(name: str, text: str) -> Path:
    try:
        return Path(text).expanduser().absolute()
    except RuntimeError as error:
        fix = "write the whole path"
        raise UsageError(Problem(code="E902", what=f"{name} is {text!r}", why=str(error), fix=fix)) from None


def _limits(text: str) -> dict[str, int]:
    found = {}
    for each in filter(None, (part.strip() for part in text.split(","))):
        name, _, number = each.rpartition("=")
        if not name.strip() or not number.strip().isdecimal():
            problem = Problem(
                code="E902",
                what=f"FT_LIMITS has {each!r}",
                why="each limit is a name and a whole number: owner, a provider, or provider/base_model",
                fix="write FT_LIMITS=owner=4,openai=10",
            )
            raise UsageError(problem)
        found[name.strip()] = int(number)
    return found


def _price(name: str, text: str | None, what: str = "a price in US dollars", example: str = "2.5") -> str | None:
    if text is None or re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,6})?", text):
        return text
    fix = f"write a number such as {example}"
    raise UsageError(Problem(code="E902", what=f"{name} is {text!r}", why=f"it is {what}", fix=fix))


def _power(watts: str | None, kwh_usd: str | None) -> tuple[str, str] | None:
    watts = _price("FT_GPU_WATTS", watts, "what a card draws, in watts", "350")
    kwh_usd = _price("FT_KWH_USD", kwh_usd, "the price of a kilowatt hour in US dollars", "0.3")
    if watts is not None and kwh_usd is not None:
        return watts, kwh_usd
    if watts is None and kwh_usd is None:
        return None
    here, missing = ("FT_KWH_USD", "FT_GPU_WATTS") if watts is None else ("FT_GPU_WATTS", "FT_KWH_USD")
    why = "power costs watts times the price of a kilowatt hour"
    fix = f"set {missing} too, or unset {here}"
    raise UsageError(Problem(code="E902", what=f"{here} is set, and {missing} is not", why=why, fix=fix))


def _gpus(text: str | None) -> str | None:
    if text is None or text == "none" or _GPUS.fullmatch(text):
        return text
    problem = Problem(
        code="E902",
        what=f"FT_GPUS is {text!r}",
        why="it is none, or cards to simulate: how many, and how much memory each has",
        fix="write FT_GPUS=2x80GB or FT_GPUS=a100:2x80GB; unset it to have the driver asked",
    )
    raise UsageError(problem)


def _artifacts(text: str | None) -> str | None:
    if text is None or _PREFIX.fullmatch(text):
        return text
    problem = Problem(
        code="E902",
        what="FT_ARTIFACTS is no prefix of a bucket",
        why="adapters are kept below s3://bucket/prefix or gs://bucket/prefix, and it holds no credentials",
        fix="export FT_ARTIFACTS=s3://models/ft, or unset it to keep them on this machine's disk alone",
    )
    raise UsageError(problem)


def _broker(url: str | None) -> str | None:
    if url is None or url.startswith(("redis://", "rediss://", "redis+socket://")):
        return url
    raise UsageError(
        Problem(
            code="E902",
            what=f"FT_BROKER_URL begins with {url.partition(':')[0]!r}",
            why="the broker is a Redis",
            fix="write redis://host:6379/0, of Sentinels the address of a proxy to the master; unset it to do without",
        )
    )


def _default_home() -> Path:
    from platformdirs import user_data_path  # only without FT_HOME, and `ft --help` needs neither

    return user_data_path("ft")


def _quoted(path: Path) -> str:
    """The path as a part of an address, where `?`, `#` and `%` would mean something."""
    from urllib.parse import quote  # not needed by `ft --help`

    return quote(str(path))


def _port(text: str) -> int:
    if text.isascii() and text.isdigit() and int(text) < 65536:
        return int(text)
    raise UsageError(
        Problem(
            code="E902",
            what=f"FT_PORT is {text!r}",
            why="a port is a whole number from 0 (any free one) to 65535",
            fix="export FT_PORT=8765, or unset it",
        )
    )


def _log_format(text: str) -> Literal["text", "json"]:
    if text == "text":
        return "text"
    if text == "json":
        return "json"
    what, fix = f"FT_LOG_FORMAT is {text!r}", "export FT_LOG_FORMAT=json, or unset it"
    raise UsageError(Problem(code="E902", what=what, why="it is text or json", fix=fix))


def _flag(name: str, text: str) -> bool:
    if text in ("0", "1"):
        return text == "1"
    fix = f"export {name}=0, or unset it"
    raise UsageError(Problem(code="E902", what=f"{name} is {text!r}", why="it is 0 or 1", fix=fix))


def _positive(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if 0 < value < 1e6:
        return value
    why = "it is a number above 0"
    raise UsageError(Problem(code="E902", what=f"{name} is {text!r}", why=why, fix=f"export {name}=10, or unset it"))
