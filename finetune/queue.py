"""How a worker is woken: by the name of a task. The only room of `finetune` that knows Celery."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any, TypedDict

from finetune.errors import Problem, WorkerError
from finetune.tasks import QUEUE_OF

#: A Redis that falls silent must hold nobody: seconds, and no second try.
_IMPATIENT = {"socket_connect_timeout": 2, "socket_timeout": 2, "max_retries": 0}
#: How long the workers' answers are waited for.
_ANSWERS_S = 1.0


class EmbeddedQueue:
    """No server: the committed row itself is the bell. Every embedded worker watches the database for changes."""

    def wake(self, task: str, key: str) -> None:
        """Do nothing: the worker's sweep sees the commit within 50 ms."""


class CeleryQueue:
    """Sends the task's name and key through a broker such as Redis."""

    def __init__(self, broker_url: str) -> None:
        self._url = broker_url
        self._lock = threading.Lock()

    def wake(self, task: str, key: str) -> None:
        """See `ports.Queue.wake`. Waits at most two seconds for a broker."""
        from kombu.exceptions import OperationalError  # Celery and its transport take long to import

        with self._lock:
            try:
                self._app.send_task(task, (key,), queue=QUEUE_OF[task], retry=False)
            except (OperationalError, OSError):
                # A hint that was not given: the row is committed, and the sweep finds it.
                return

    @cached_property
    def _app(self) -> Any:
        from celery import Celery

        app = Celery("ft-client", broker=self._url, set_as_current=False)
        app.conf.update(
            broker_transport_options=dict(_IMPATIENT),
            broker_connection_timeout=2,
            task_ignore_result=True,
        )
        return app


class BrokerFacts(TypedDict):
    """What a Redis says of itself, and the workers that listen there; `doctor.Broker` says what each means."""

    address: str
    version: str | None
    append_only: bool | None
    snapshots: bool | None
    disk_fails: bool
    policy: str | None
    ahead_s: float
    late: dict[str, bool]


def ping(broker_url: str) -> str:
    """Connect to the broker and say to what. Blocks for four seconds at most. Raises WorkerError (E802)."""
    with _connected(broker_url) as connection:
        return str(connection.as_uri())


def look(broker_url: str, now: Callable[[], datetime]) -> BrokerFacts:
    """Ask the broker and the workers about themselves. Blocks for some seconds at most. Raises WorkerError (E802)."""
    with _connected(broker_url) as connection:
        client = connection.default_channel.client
        asked = now()
        seconds, micros = client.time()
        said, answered = datetime.fromtimestamp(seconds, UTC) + timedelta(microseconds=micros), now()
        info = _told(client.info)
        save = _told(lambda: client.config_get("save")).get("save")
        return BrokerFacts(
            address=str(connection.as_uri()),
            version=info.get("redis_version"),
            append_only=None if "aof_enabled" not in info else bool(info["aof_enabled"]),
            snapshots=None if save is None else bool(save),
            disk_fails="err" in (info.get("rdb_last_bgsave_status"), info.get("aof_last_write_status")),
            policy=info.get("maxmemory_policy"),
            ahead_s=(said - (asked + (answered - asked) / 2)).total_seconds(),
            late=_listeners(connection),
        )


def _told(ask: Callable[[], Any]) -> dict[str, Any]:
    """The answer; empty where an access rule or the server's owner forbids the question, as managed ones do."""
    from redis.exceptions import ResponseError

    try:
        return dict(ask())
    except ResponseError:
        return {}


def _listeners(connection: Any) -> dict[str, bool]:
    """Our workers that answer at this broker: Celery's name of each, and whether it acknowledges late."""
    from celery import Celery

    app = Celery("ft-doctor", broker=connection.as_uri(include_password=True), set_as_current=False)
    answers = app.control.inspect(timeout=_ANSWERS_S, connection=connection).conf() or {}
    # Other programs may have workers of their own on the same Redis.
    ours = {name: conf for name, conf in answers.items() if set(QUEUE_OF) <= set(conf.get("task_routes") or ())}
    return {name: bool(conf.get("task_acks_late")) for name, conf in ours.items()}


@contextmanager
def _connected(broker_url: str) -> Iterator[Any]:
    from kombu.connection import Connection
    from kombu.exceptions import OperationalError
    from redis.exceptions import RedisError

    connection = Connection(broker_url, connect_timeout=2, transport_options=dict(_IMPATIENT))
    try:
        connection.ensure_connection(max_retries=0)
        yield connection
    except (OperationalError, RedisError, OSError) as error:
        raise WorkerError(
            Problem(
                code="E802",
                what="the broker does not answer",
                why=f"{error} ({connection.as_uri()})",
                fix="start it, or check FT_BROKER_URL; unset it to do without",
            )
        ) from None
    finally:
        connection.release()
