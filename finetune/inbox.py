"""Takes in what hosted APIs call us for: a signed notice wakes its job at once. A hint; polling stays the truth."""

from collections.abc import Callable, Mapping

from finetune.abilities import Notifying
from finetune.errors import NotFound, Problem
from finetune.ports import Clock, JobStore, Provider, Queue
from finetune.tasks import ADVANCE


class Inbox:
    """Holds no state of its own."""

    def __init__(self, jobs: JobStore, provider: Callable[[str], Provider | None], queue: Queue, clock: Clock) -> None:
        """`provider` finds an installed one by name; None if there is none."""
        self._jobs, self._provider, self._queue, self._clock = jobs, provider, queue, clock

    def receive(self, name: str, headers: Mapping[str, str], body: bytes) -> str | None:
        """Wake the job that a call is about; returns its id, None for one that is not ours (yet). Idempotent.

        Raises AuthenticationFailed for a call that cannot be verified, NotFound for a provider without webhooks.
        """
        provider = self._provider(name)
        if not isinstance(provider, Notifying):
            raise NotFound(Problem(code="E708", what=f"no provider {name!r} sends notices", fix="see `ft providers`"))
        remote_id = provider.notice(headers, body)
        job_id = self._jobs.nudge(name, remote_id, self._clock.now()) if remote_id else None
        if job_id:
            self._queue.wake(ADVANCE, job_id)
        return job_id
