"""What workers do, by name: the tasks, and the queue that each waits in. One queue a pool of workers."""

from datetime import timedelta
from typing import Final

#: One step of a job.
ADVANCE: Final = "ft.advance"
#: One training on this machine.
TRAIN: Final = "ft.train"
QUEUE_OF: Final[dict[str, str]] = {ADVANCE: "remote", TRAIN: "gpu"}
#: All queues; a job of the local provider needs a worker for each.
QUEUES: Final = tuple(QUEUE_OF.values())
#: A worker beats every two seconds; one that missed three of them is not counted on.
ALIVE: Final = timedelta(seconds=7)
