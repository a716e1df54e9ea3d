"""The one Celery app. Each setting has its reason; measurements and issues behind them are in docs/adr/0003."""

from celery import Celery

from finetune.settings import from_environment
from finetune.tasks import QUEUE_OF

settings = from_environment()

app = Celery("ft", include=["workers.tasks"])

app.conf.update(
    # Without a broker address every worker process has a queue of its own in memory, filled by its own sweep.
    broker_url=settings.broker_url or "memory://",
    # The polling of the memory transport is what a step waits for; Redis blocks and ignores this.
    broker_transport_options={} if settings.broker_url else {"polling_interval": 0.02},
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
