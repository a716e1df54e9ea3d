"""What a promotion and an answer cost: `python -m tests.bench.promotion [PROMOTIONS [ROUNDS]]`.

100 and 20 if not told; with 0 rounds (a) and (b) only, with 0 promotions (c) and (d).

With everything real and on this machine: `ft up`, LiteLLM with two workers in front of its server, OpenAI's client as
it comes. Seconds depend on the machine; both sides of a ratio take turns, so that a busy moment hits both.

(a) from `promote` to the first right answer at the proxy, and the part of it that is LiteLLM's reload
(b) calls that failed while promotions to and fro were made without a pause
(c) an answer of 32 tokens of the embedded server beside plain `generate` of transformers, same adapter, same question
(d) eight adapters asked at once beside the same questions one after the other; and what PEFT's mixed batches would give
"""

import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.bench.promotion_answers import answers
from tests.support.process import wait_until
from tests.support.stage import SAYS, Callers, Stage, say, stage

GATED = (
    "gate: {metric: exact_match, min_gain: 0.5, over: base}\n"
    "register: {alias: production, gateways: [embedded, litellm]}\n"
)
#: Promotions of a version that the gateways have forgotten.
FRESH = 5


class Timed:
    """Adds up the seconds that calls of a function take."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function, self.total_s = function, 0.0

    def __call__(self, *args: Any, **more: Any) -> Any:
        begun = time.perf_counter()
        try:
            return self._function(*args, **more)
        finally:
            self.total_s += time.perf_counter() - begun


class Moves:
    """Promotions in this process, as `ft promote` makes them."""

    def __init__(self, made: Stage) -> None:
        from finetune.wiring import Desk

        os.environ.update(made.env)
        self._stage = made
        self._desk = Desk(say=lambda line: None)
        proxy: Any = self._desk.gateway("litellm")
        # What a reload costs is the wait for it: from the signal until every worker serves the new file.
        self.reload = proxy._await = Timed(proxy._await)

    def promote(self, version: int) -> None:
        """All calls of `bot` to this version, by register, proof and shift. Raises AssertionError."""
        from finetune.promotions import Wanted

        wanted = Wanted(gateways=("embedded", "litellm"), gate=False)
        ended = self._desk.carry(self._desk.promote(f"bot@v{version}", wanted), wait=True)
        assert ended.state == "live", ended.error

    def forget(self, version: int) -> None:
        """Take it from the gateways."""
        places = self._desk.places
        places.forget([each for each in places.of("bot", "production") if each.version == version])

    def seconds(self, version: int) -> tuple[float, float]:
        """Until a caller gets the version's sentence, and how many of them LiteLLM's reloads took."""
        first = threading.Event()
        stop = threading.Event()

        def ask() -> None:
            with self._stage.client() as caller:
                while not stop.is_set():
                    if say(caller) == SAYS[version]:
                        return first.set()

        thread = threading.Thread(target=ask)
        begun, reload_s = time.perf_counter(), self.reload.total_s
        thread.start()
        try:
            self.promote(version)
            assert first.wait(30), "the promotion is live, and nobody has got its answer"
            return time.perf_counter() - begun, self.reload.total_s - reload_s
        finally:
            stop.set()
            thread.join()


def to_the_first_answer(moves: Moves) -> None:
    """(a)."""
    taken: dict[str, list[tuple[float, float]]] = {"not at the gateways": [], "at them already": []}
    for _ in range(FRESH):
        moves.forget(2)
        taken["not at the gateways"].append(moves.seconds(2))
        moves.promote(1)
        taken["at them already"].append(moves.seconds(2))
        moves.promote(1)
    for kind, values in taken.items():
        seconds, shares = [one for one, _ in values], [reload_s / one for one, reload_s in values]
        print(
            f"(a) promote to the first right answer, {kind}: at most {max(seconds):.1f} s of {len(values)}, median"
            f" {statistics.median(seconds):.1f} s, of which LiteLLM's reload {statistics.median(shares):.0%}",
            flush=True,
        )


def under_load(made: Stage, moves: Moves, promotions: int) -> None:
    """(b)."""
    begun = time.perf_counter()
    with Callers(made, 2) as callers, Callers(made, 1, retries=0) as bare:
        for number in range(promotions):
            moves.promote(1 + (number + 1) % 2)
    took_s = time.perf_counter() - begun
    strays = sum(count for text, count in callers.told.items() if text not in SAYS.values())
    print(
        f"(b) {promotions} promotions to and fro in {took_s:.0f} s: {len(callers.failed)} of"
        f" {callers.told.total() + len(callers.failed)} calls failed (two callers, OpenAI's client as it comes),"
        f" {strays} answers of neither version; a caller that never tries again: {len(bare.failed)} of"
        f" {bare.told.total() + len(bare.failed)}",
        flush=True,
    )
    for line in callers.failed[:5]:
        print(f"    {line}")


def main(argv: Sequence[str]) -> None:
    """Print the figures."""
    promotions, rounds = (int(word) for word in [*argv, *("100", "20")[len(argv) :]])
    with tempfile.TemporaryDirectory(prefix="ft-bench-") as place:
        if rounds:
            answers(Path(place), rounds)
        if not promotions:
            return
        with stage(Path(place)) as made:
            made.train(1, GATED)
            made.train(2)
            wait_until(lambda: made.shares == {1: 1.0}, 90, "version 1 to be promoted", every_s=0.2)
            moves = Moves(made)
            # Measures version 2, once.
            moves.promote(2)
            moves.promote(1)
            to_the_first_answer(moves)
            under_load(made, moves, promotions)


if __name__ == "__main__":
    main(sys.argv[1:])
