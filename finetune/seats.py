"""A card for whoever measures a version, beside the trainings that have theirs."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any, Final

from finetune.errors import EvaluationError, Problem
from finetune.jobs import Json
from finetune.leases import held
from finetune.placement import Need, Share, need_of, suits
from finetune.ports import Clock
from finetune.runs import Seats
from finetune.versions import Promotion

#: Between two looks for a free card.
LOOK: Final = timedelta(seconds=3)
#: A turn, or a card, is lost after so long without a word.
LEASE: Final = timedelta(seconds=15)
_RENEW_S = 3.0


class AllTaken(EvaluationError):
    """No card is free for an evaluation now. No failure: its turn is kept, the same call finds one later."""

    retry = True


@contextmanager
def seated(seats: Seats, clock: Clock, ref: str, resources: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    """Hold a card while `ref` is measured; yields what its process has to be told, as environment variables.

    `resources` are those that its training had. Where there are no cards nothing is held. Raises AllTaken.
    """
    need = _need(seats, need_of(resources))
    if not seats.site.devices:
        yield {}
    elif need.gpus == 0:
        yield _visible(Share())
    else:
        seat = seats.sit(ref, need, clock.now(), LEASE)
        if seat is None:
            raise AllTaken(_all_taken(ref, need))
        try:
            with held(lambda: seats.stay(seat, clock.now(), LEASE), _RENEW_S):
                yield _visible(seat.share)
        finally:
            seats.leave(seat)


def waits(promotion: Promotion, error: AllTaken, now: datetime) -> Json:
    """What becomes of a promotion that waits for a card: looked at again soon, noted once."""
    note = error.problems[0].what
    known = bool(promotion.notes) and promotion.notes[-1]["text"] == note
    noted = () if known else ({"at": now.isoformat(), "text": note},)
    return {"due_at": now + LOOK, "notes": (*promotion.notes, *noted)}


def _need(seats: Seats, trained: Need) -> Need:
    """One card, with the memory that the training had; a whole one where no card here has so much."""
    if trained.gpus == 0:
        return trained
    need = Need(gpus=1, memory_mb=trained.memory_mb)
    return need if suits(need, seats.site) else Need(gpus=1)


def _visible(share: Share) -> dict[str, str]:
    return {"CUDA_VISIBLE_DEVICES": ",".join(share.devices)}


def _all_taken(ref: str, need: Need) -> Problem:
    return Problem(
        code="E860",
        what=f"{ref} waits for a card to be measured on ({need})",
        why="trainings and other evaluations have them all",
        fix="nothing: it goes next; `ft workers` shows who has them, `ft pause JOB` frees one",
    )
