"""`python -m workers --queue remote`: one worker process for one queue. `ft worker` and `ft up` start these."""

import argparse
import logging
import os
import sys
import warnings
from dataclasses import replace

from celery.signals import setup_logging, worker_ready, worker_shutting_down

from finetune import traces
from finetune.logs import to_json
from finetune.placement import summary
from finetune.process import die_with_parent, settle
from finetune.tasks import QUEUE_OF, QUEUES, TRAIN
from workers import tasks
from workers.app import POOL, app
from workers.loop import Loop

#: Steps at once: each waits for the network most of the time.
_STEPS = 4
#: Trainings at once on one card; each has a thread that watches its process.
_A_CARD = 4


def main() -> int:
    """Run until SIGTERM or SIGINT; with --until-idle until no job is unfinished. Blocks."""
    asked = _arguments()
    settle()
    if asked.parent:
        die_with_parent(asked.parent)
    _log(as_json=tasks.parts().settings.log_format == "json")
    concurrency, on = _STEPS, ""
    if asked.queue == QUEUE_OF[TRAIN]:
        concurrency, on = _site(asked.concurrency)
    loop = Loop(tasks.parts(), [asked.queue], until_idle=asked.until_idle)

    def on_ready(**_: object) -> None:
        logging.getLogger("ft.worker").info("%s: ready%s", asked.queue, on)
        loop.ready.set()

    worker_ready.connect(on_ready, weak=False)

    def on_stop(**_: object) -> None:
        tasks.stopping.set()
        loop.end()

    worker_shutting_down.connect(on_stop, weak=False)
    tasks.parts().database  # noqa: B018 -- a database that cannot be opened is said at once, and ends the worker
    # Before Celery has its broker: who waits for work should see that this worker lives.
    loop.start()
    with traces.running(logging.getLogger("ft.worker").warning, instance=tasks.parts().worker):
        app.worker_main(
            [
                "--quiet",
                "worker",
                "--loglevel=WARNING",
                f"--pool={POOL}",
                f"--concurrency={asked.concurrency or concurrency}",
                f"--queues={asked.queue}",
                f"--hostname={asked.queue}-{os.getpid()}@%h",
                "--without-gossip",
                "--without-mingle",
            ]
        )
    loop.stop()
    return 0


def _site(concurrency: int | None) -> tuple[int, str]:
    """How many trainings at once, and on what. Without cards all of them are on the processor."""
    parts = tasks.parts()
    if parts.site.devices:
        return _A_CARD * len(parts.site.devices), f", trains on {summary(parts.site.devices)}"
    parts.site = replace(parts.site, slots=concurrency or 1)
    return parts.site.slots, ""


def _log(*, as_json: bool) -> None:
    """Our own lines on stderr; of the libraries only what went wrong."""
    if as_json:
        handler = to_json()
        # Whoever listens to this signal tells Celery to leave the root logger as it is.
        setup_logging.connect(lambda **_: None, weak=False)
    else:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", datefmt="%H:%M:%S"))
    ours = logging.getLogger("ft.worker")
    ours.addHandler(handler)
    ours.setLevel(logging.INFO)
    # Celery sets up the root logger for itself; what it would print of ours a second time stays here.
    ours.propagate = False
    # It warns of root and of a missing mail host; neither is a fault here: messages are JSON, nothing is mailed.
    warnings.filterwarnings("ignore", module="celery")
    logging.getLogger("kombu").setLevel(logging.ERROR)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m workers", description=__doc__)
    parser.add_argument("--queue", choices=sorted(QUEUES), required=True)
    parser.add_argument("--concurrency", type=int, help="steps, or trainings, at once")
    parser.add_argument("--until-idle", action="store_true", help="end when no job is unfinished")
    parser.add_argument("--parent", type=int, help="end with this process")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
