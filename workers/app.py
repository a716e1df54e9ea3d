"""The one Celery app. Each setting has its reason; measurements and issues behind them are in docs/adr/0003."""

from celery import Celery

from finetune.settings import from_environment
from finetune.tasks import QUEUE_OF

settings = from_environment()

#: kombu drops options that it does not know without a word; a test compares these with those that it reads.
_REDIS = {
    # Without these a Redis that falls silent (a machine gone, a firewall) holds the thread that sweeps and beats for
    # ever: nobody works, and nobody sees why. Longer than the second that a read of the queue blocks; short enough that
    # a worker that rings in vain still counts as living (7 s). For the same reason a ring connects once; kombu would
    # wait for two seconds and try again. The connection that reads the queue is not bound by `max_retries`.
    "socket_timeout": 2,
    "socket_connect_timeout": 2,
    "max_retries": 0,
    # A connection that is cut without a word is made anew when the read of the queue is this many seconds late, looked
    # at as often: 21 s at most, where kombu's 25 leave a worker deaf for up to 51. The event loop has no other limit;
    # TCP's keepalive would add nothing to a connection that has traffic each second.
    "health_check_interval": 10,
    # A message is unacknowledged for the moment between taking and starting it. A worker that dies then leaves it
    # behind, and others put it back after this long, in seconds; the sweep has rung again long before.
    "visibility_timeout": 300,
    # Keys of our own: under kombu's names a worker also puts back what other programs on this Redis hold for longer
    # than its own timeout, and their long tasks run twice.
    "unacked_key": "ft.unacked",
    "unacked_index_key": "ft.unacked_index",
    "unacked_mutex_key": "ft.unacked_mutex",
}
#: The polling is what a step waits for.
_MEMORY = {"polling_interval": 0.02}

app = Celery("ft", include=["workers.tasks"])

app.conf.update(
    # Without a broker address every worker process has a queue of its own in memory, filled by its own sweep.
    broker_url=settings.broker_url or "memory://",
    broker_transport_options=_REDIS if settings.broker_url else _MEMORY,
    # A message only says "look at job X"; the row says the rest. So it is acknowledged when it is taken: Celery 5.7
    # workers that hold late acknowledgements end when Redis restarts, and long tasks are delivered twice.
    task_acks_late=False,
    # Nobody reads results: the row has them.
    task_ignore_result=True,
    result_backend=None,
    # A waiting message must stay in the queue for a free worker, not in the memory of a busy one.
    worker_prefetch_multiplier=1,
    worker_disable_prefetch=settings.broker_url is not None,
    # JSON only: a pickle in the queue would be code.
    accept_content=["json"],
    task_serializer="json",
    task_routes={task: {"queue": queue} for task, queue in QUEUE_OF.items()},
    task_default_queue="remote",
    # A worker that starts before its broker waits for it.
    broker_connection_retry_on_startup=True,
    # However long it takes: after Celery's 100 tries, three quarters of an hour, a worker would end.
    broker_connection_max_retries=None,
    # A Redis that fails over, or whose disk is full, refuses commands over a good connection. That is an error of the
    # channel, which ends a worker unless it is told to try again.
    broker_channel_error_retry=True,
    # A task that runs when the connection breaks goes on: its lease, not its message, guards it.
    worker_cancel_long_running_tasks_on_connection_loss=False,
    # Flower and `celery events` see the tasks; in memory nobody could listen.
    worker_send_task_events=settings.broker_url is not None,
    worker_enable_remote_control=settings.broker_url is not None,
    # Our own log lines, on stderr.
    worker_hijack_root_logger=False,
    worker_redirect_stdouts=False,
    timezone="UTC",
)

#: Threads: steps wait for the network or for a child, and SQLite must not be open across a fork.
POOL = "threads"
