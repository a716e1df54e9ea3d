"""What workers do, by name: the tasks, and the queue that each waits in. One queue a pool of workers."""

from typing import Final

#: One step of a job.
ADVANCE: Final = "ft.advance"
#: One training on this machine.
TRAIN: Final = "ft.train"
QUEUE_OF: Final[dict[str, str]] = {ADVANCE: "remote", TRAIN: "gpu"}
#: All queues; a job of the local provider needs a worker for each.
QUEUES: Final = tuple(QUEUE_OF.values())
