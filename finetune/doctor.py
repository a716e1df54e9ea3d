"""`ft doctor`: what this installation has, what is broken, and what would mend it."""

import os
import shutil
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from finetune.errors import FtError
from finetune.runs import Beat
from finetune.tasks import QUEUES

#: Below this the first checkpoint of a small model may not fit.
_LITTLE_SPACE = 2 * 1024**3
#: Since then it knows ZRANGE ... BYSCORE, which kombu 5.7 needs.
_OLDEST_REDIS = (6, 2)
#: Seconds that clocks may be apart; leases last 15 and 30.
_SKEW_S = 2.0
_TRAINING = ("torch", "transformers", "peft", "safetensors")


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing looked at. `note` is worth knowing, `broken` stops something."""

    name: str
    verdict: Literal["ok", "note", "broken"]
    said: str
    #: What to do; empty when ok.
    fix: str = ""


@dataclass(frozen=True, kw_only=True)
class Broker:
    """What a Redis says of itself. None where it does not tell: servers that others manage keep some to themselves."""

    #: Without a password.
    address: str
    version: str | None = None
    #: Every change is written to a file (AOF), or all of it now and then.
    append_only: bool | None = None
    snapshots: bool | None = None
    #: The last time that it wrote to its disk, it could not.
    disk_fails: bool = False
    #: `maxmemory-policy`: what it does when its memory is full.
    policy: str | None = None
    #: Its clock minus ours, seconds.
    ahead_s: float = 0.0
    #: Workers of ours that listen there, `QUEUE-PID@HOST`, and whether they acknowledge late.
    late: Mapping[str, bool] = field(default_factory=dict)


def examine(
    home: Path,
    *,
    database: Callable[[], str],
    broker: Callable[[], Broker | None],
    alive: Callable[[], Collection[Beat]],
    ahead: Callable[[], float | None],
    places: Mapping[str, Callable[[], str]],
    lost: Callable[[], Mapping[str, str]] = dict,
) -> list[Check]:
    """Look at everything, also after something broken was found. Each callable may raise an FtError.

    `database` and `broker` connect and say to what (`broker`: None when there is none); `alive` are the living workers;
    `ahead` is the database's clock minus ours in seconds, None when it has none of its own;
    `places` are others to look into, by the names of their checks, and say what is there; `lost` are the gateways of
    our books that are not set up here, and why.
    """
    checks = [_python(), _home(home), _attempt("database", database)]
    clocks: dict[str, float | None] = {}
    reached: list[Broker] = []

    def connect() -> str:
        found = broker()
        if found is None:
            return "none: embedded, workers watch the database"
        reached.append(found)
        return f"{found.address}, Redis {found.version or 'of unknown version'}"

    checks.append(_attempt("broker", connect))
    for one in reached:
        checks[-1] = _new_enough(checks[-1], one)
        checks += [_durability(one), _eviction(one), *_redelivery(one)]
        clocks["broker"] = one.ahead_s
    if checks[2].verdict == "ok":
        checks += _workers(alive(), reached[0].late if reached else None)
        clocks["database"] = ahead()
        checks += _gateways(lost())
    checks += _clocks(clocks)
    checks += [_attempt(name, look) for name, look in places.items()]
    checks.append(_training())
    return checks


def _python() -> Check:
    return Check(
        name="python", verdict="ok", said=f"{sys.version.split()[0]}, ft-orchestrator {_installed('ft-orchestrator')}"
    )


def _home(home: Path) -> Check:
    place = home
    while not place.exists():
        place = place.parent
    if not os.access(place, os.W_OK | os.X_OK):
        return Check(
            name="home", verdict="broken", said=f"{home} cannot be written", fix="give write access, or set FT_HOME"
        )
    free = shutil.disk_usage(place).free
    said = f"{home}, {free / 1024**3:.1f} GB free"
    if free < _LITTLE_SPACE:
        return Check(name="home", verdict="note", said=said, fix="make room: checkpoints and adapters are kept there")
    return Check(name="home", verdict="ok", said=said)


def _attempt(name: str, connect: Callable[[], str]) -> Check:
    try:
        return Check(name=name, verdict="ok", said=connect())
    except FtError as error:
        problem, more = error.problems[0], len(error.problems) - 1
        where, why = f"{problem.where}: " if problem.where else "", f": {problem.why}" if problem.why else ""
        said = f"{where}{problem.code} {problem.what}{why}{f' (and {more} more)' if more else ''}"
        return Check(name=name, verdict="broken", said=said, fix=problem.fix)


def _new_enough(check: Check, broker: Broker) -> Check:
    numbers = [int(part) for part in (broker.version or "").split(".")[:2] if part.isdigit()]
    if numbers and tuple(numbers) < _OLDEST_REDIS:
        fix = "use Redis 6.2 or later: Celery's transport asks in words that came with it"
        return Check(name=check.name, verdict="broken", said=check.said, fix=fix)
    return check


def _durability(broker: Broker) -> Check:
    name = "durability"
    if broker.disk_fails:
        said = "the broker could not write to its disk; it may refuse messages"
        return Check(name=name, verdict="note", said=said, fix="make room there, then `redis-cli BGSAVE`")
    if broker.append_only or broker.snapshots:
        said = "in a file that is appended to" if broker.append_only else "in snapshots, without the latest messages"
        return Check(name=name, verdict="ok", said=f"the queue outlives a restart of the broker {said}")
    if broker.append_only is None or broker.snapshots is None:
        return Check(name=name, verdict="ok", said="the broker does not tell; no job needs it, the database has them")
    said = "a restart of the broker forgets the queue; no job is lost, each waits for the sweep, 30 s at most"
    return Check(name=name, verdict="note", said=said, fix="`appendonly yes` in redis.conf")


def _eviction(broker: Broker) -> Check:
    if broker.policy in ("noeviction", None):
        said = "the broker does not tell" if broker.policy is None else "noeviction: nothing queued is dropped"
        return Check(name="eviction", verdict="ok", said=said)
    said = f"maxmemory-policy {broker.policy}: a broker whose memory is full drops what is queued without a word"
    return Check(name="eviction", verdict="note", said=said, fix="`maxmemory-policy noeviction` in redis.conf")


def _redelivery(broker: Broker) -> list[Check]:
    """Nothing when nobody listens: what counts is what the workers that run were started with."""
    late = sorted(worker for worker, acks_late in broker.late.items() if acks_late)
    if late:
        said = f"{', '.join(late)} acknowledges late: long trainings are delivered twice"
        fix = "stop it, and start the workers of this installation with `ft worker`"
        return [Check(name="redelivery", verdict="note", said=said, fix=fix)]
    said = "messages are acknowledged when taken: however long a training, it is delivered once"
    return [Check(name="redelivery", verdict="ok", said=said)] if broker.late else []


def _workers(alive: Collection[Beat], listening: Collection[str] | None) -> list[Check]:
    """`listening` are those that answered at the broker; None without one."""
    checks = []
    missing = sorted(set(QUEUES) - {queue for beat in alive for queue in beat.queues})
    if missing:
        said = f"nobody serves {' and '.join(missing)}"
        fix = "`ft up`, or `ft submit --follow` brings its own"
        checks.append(Check(name="workers", verdict="note", said=said, fix=fix))
    if listening is not None:
        beating = {f"{'-'.join(beat.queues)}-{beat.pid}@{beat.host}" for beat in alive}
        if deaf := sorted(beating - set(listening)):
            said = f"{', '.join(deaf)} works and does not answer at this broker"
            fix = "start it with the same FT_BROKER_URL; until then its own sweep finds the work"
            checks.append(Check(name="workers", verdict="note", said=said, fix=fix))
        if strange := sorted(set(listening) - beating):
            said = f"{', '.join(strange)} takes our messages and is not in our database"
            fix = "start it with the same FT_DATABASE_URL, or give it another database of Redis (redis://host:6379/1)"
            checks.append(Check(name="workers", verdict="note", said=said, fix=fix))
    return checks or [Check(name="workers", verdict="ok", said="remote and gpu are served")]


def _gateways(lost: Mapping[str, str]) -> list[Check]:
    """Nothing when all that have anything of ours are set up here."""
    return [
        Check(
            name="gateways",
            verdict="note",
            said=f"{name} is in our books, and cannot be used here: {why}",
            fix=f"set it up here too, or, if it is no more, `ft models sync --forget {name}`",
        )
        for name, why in lost.items()
    ]


def _clocks(ahead: Mapping[str, float | None]) -> list[Check]:
    """Nothing when all are this machine's own."""
    known = {name: seconds for name, seconds in ahead.items() if seconds is not None}
    wrong = {name: seconds for name, seconds in known.items() if abs(seconds) > _SKEW_S}
    if wrong:
        apart = [f"the {name}'s is {abs(s):.1f} s {'ahead' if s > 0 else 'behind'}" for name, s in wrong.items()]
        said = f"clocks differ from this machine's: {', '.join(apart)}"
        fix = "set all of them by NTP: machines compare leases with their own clocks"
        return [Check(name="clocks", verdict="note", said=said, fix=fix)]
    said = f"{' and '.join(sorted(known))}: within {_SKEW_S:g} s of this machine's"
    return [Check(name="clocks", verdict="ok", said=said)] if known else []


def _training() -> Check:
    found = {name: _installed(name) for name in _TRAINING}
    missing = [name for name, number in found.items() if number is None]
    if missing:
        said = f"{', '.join(missing)} not installed: no training or serving on this machine"
        return Check(name="training", verdict="note", said=said, fix="pip install 'ft-orchestrator[local]'")
    return Check(name="training", verdict="ok", said=", ".join(f"{name} {number}" for name, number in found.items()))


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
