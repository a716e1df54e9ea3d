"""How a worker is woken: by the name of a task. The only room of `finetune` that knows Celery."""

import threading
from functools import cached_property
from typing import Any

from finetune.errors import Problem, WorkerError
from finetune.tasks import QUEUE_OF


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
            broker_transport_options={"socket_connect_timeout": 2, "socket_timeout": 2},
            broker_connection_timeout=2,
            task_ignore_result=True,
        )
        return app


def ping(broker_url: str) -> str:
    """Connect to the broker and say to what. Blocks for two seconds at most. Raises WorkerError (E802)."""
    from kombu.connection import Connection
    from kombu.exceptions import OperationalError

    connection = Connection(broker_url, connect_timeout=2, transport_options={"socket_connect_timeout": 2})
    try:
        connection.ensure_connection(max_retries=1, timeout=2)
    except (OperationalError, OSError) as error:
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
    return str(connection.as_uri())
