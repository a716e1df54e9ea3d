"""What workers do, by name: the tasks, and the queue that each waits in. One queue a pool of workers."""

from datetime import timedelta
from typing import Final

#: One step of a job.
ADVANCE: Final = "ft.advance"
#: Steps of several jobs, those that are longest due.
ADVANCE_DUE: Final = "ft.advance_due"
#: One training on this machine.
TRAIN: Final = "ft.train"
#: What the gate of a promotion asks for: it takes the machine on which trainings run.
MEASURE: Final = "ft.measure"
#: The next steps of a promotion.
PROMOTE: Final = "ft.promote"
#: A look whether gateways have what they should.
SYNC: Final = "ft.sync"
QUEUE_OF: Final[dict[str, str]] = {
    ADVANCE: "remote",
    ADVANCE_DUE: "remote",
    PROMOTE: "remote",
    SYNC: "remote",
    TRAIN: "gpu",
    MEASURE: "gpu",
}
#: All queues; a job of the local provider needs a worker for each.
QUEUES: Final = tuple(dict.fromkeys(QUEUE_OF.values()))
#: A worker beats every two seconds; one that missed three of them is not counted on.
ALIVE: Final = timedelta(seconds=7)
