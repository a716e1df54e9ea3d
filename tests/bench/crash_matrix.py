"""The whole crash matrix: `make crash-matrix`. Prints a line a cell, writes docs/crash-matrix.md; 1 if one is wrong."""

import sys
import tempfile
import time
from pathlib import Path

from tests.support.matrix import CELLS, SANDBOXES, run, table

PAGE = Path(__file__).parents[2] / "docs" / "crash-matrix.md"
HEAD = f"""# The crash matrix

Everything that goes wrong around the submit of a hosted job, played against the stand-ins that ship with ft
(`ft sandbox`), and what is left at the provider afterwards: how many jobs somebody pays for, and how ours ended. Drawn
by `make crash-matrix` ({len(CELLS)} cells at {len(SANDBOXES)} providers); the tests play a sample of it.

- *SIGKILL ...* is a worker process that is killed there; another one goes on after its lease has ended.
- *KIND at OPERATION* is a fault that the next request meets: refused (429 with Retry-After, 500, 503), the connection
  cut or silent before anything was done or after all was done, a slow answer, one that is no JSON, an unknown state.
- *the list lags* hides a new job from lists: for 10 s, within the time that ft waits before it creates again, and for
  90 s, beyond it. Then a second job is created, found when the list catches up, and cancelled: the cell says so. Only
  an id or token that the client chooses prevents that: Fireworks and Bedrock take one.
- *start* is Mistral's second step, the one that costs.

"""


def main() -> int:
    """Play, print, write; 1 when a cell is wrong."""
    outcomes = []
    for cell in CELLS.values():
        start = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            outcome = run(cell, Path(folder))
        outcomes.append(outcome)
        print(f"{time.monotonic() - start:5.1f} s  {cell.id}: {outcome.text}", flush=True)
    wrong = [outcome for outcome in outcomes if not outcome.right]
    print(f"{len(outcomes)} cells, {len(wrong)} wrong")
    if not wrong:
        PAGE.write_text(HEAD + table(outcomes) + "\n")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
