"""The two tasks. Each calls one thing; what it did is in the database."""

import logging
import threading
from collections.abc import Callable
from functools import cache

from finetune import traces
from finetune.errors import FtError
from finetune.jobs import Job
from finetune.logs import about
from finetune.sweep import TAKE
from finetune.tasks import ADVANCE, ADVANCE_DUE, MEASURE, PROMOTE, SYNC, TRAIN
from finetune.wiring import Releases
from workers.app import app
from workers.loop import NOTHING

log = logging.getLogger("ft.worker")

#: Set when the worker is asked to end: trainings save and stop.
stopping = threading.Event()


@cache
def parts() -> Releases:
    """The parts of this worker process, opened on first use: after any fork, never before."""
    return Releases()


@app.task(name=NOTHING)
def nothing() -> None:
    """Wakes a worker that should look up from its queue."""


@app.task(name=ADVANCE)
def advance(job_id: str) -> None:
    """The due steps of one job. Twice, late or in vain does no harm."""
    _move(job_id, lambda: parts().lifecycle.advance(job_id, more=_more))


@app.task(name=ADVANCE_DUE)
def advance_due(_: str) -> None:
    """The due steps of the jobs that are longest due. Twice, late or in vain does no harm."""
    try:
        for job, step in parts().lifecycle.advance_due(TAKE, more=_more):
            _move(job.id, step, claimed=job)
    except FtError as error:
        log.error("%s", error)


def _more() -> bool:
    return not stopping.is_set()


def _move(job_id: str, step: Callable[[], Job | None], claimed: Job | None = None) -> None:
    with about(job_id=job_id):
        try:
            with traces.advancing(claimed):
                job = step()
        except FtError as error:
            # The store: the row is as it was, and the sweep rings again.
            log.error("%s: %s", job_id, error)
        else:
            if job is not None:
                log.info("%s is %s", job.id, job.state, extra={"run_key": job.run_key})


@app.task(name=TRAIN)
def train(run_key: str) -> None:
    """One local training, to its end or the worker's: the one whose turn it is, whichever the bell rang for."""
    try:
        if run := parts().supervisor.claim(stopping.is_set):
            run_key = run.run_key
            with about(run_key=run_key), traces.training(run_key, parts().jobs.get, parts().runs.get_run):
                log.info("%s: training", run_key)
                parts().supervisor.run(run, stopping.is_set)
    except FtError as error:
        log.error("%s: %s", run_key, error, extra={"run_key": run_key})


@app.task(name=MEASURE)
def measure(promotion_id: str) -> None:
    """What a promotion's gate asks for, in a process of its own. Twice, late or in vain does no harm."""
    _promote(promotion_id)


@app.task(name=PROMOTE)
def promote(promotion_id: str) -> None:
    """The due steps of a promotion. Twice, late or in vain does no harm."""
    _promote(promotion_id)


@app.task(name=SYNC)
def sync(_: str) -> None:
    """Mend what differs between our books and gateways. Twice, late or in vain does no harm."""
    try:
        found = parts().sync.look()
        for drift in found:
            log.warning("%s: %s", drift.gateway, drift.what)
        for drift in parts().sync.mend(found):
            log.info("%s: %s, mended", drift.gateway, drift.what)
    except FtError as error:
        log.error("%s", error)


def _promote(promotion_id: str) -> None:
    try:
        say = lambda line: log.info("%s: %s", promotion_id, line)  # noqa: E731
        promoter = parts().promoter(say, measuring=say)
        if promotion := promoter.advance(promotion_id, more=_more):
            log.info("%s of %s to %s is %s", promotion.id, promotion.ref, promotion.alias, promotion.state)
    except FtError as error:
        log.error("%s: %s", promotion_id, error)
