"""`python -m finetune.evaluation REQUEST_DIR --parent PID [--report FILE] [--parts MODULE:FUNCTION]`: one evaluation.

Exit codes: 0 `REQUEST_DIR/result.json` is there and `done` is in the report; 1 it is not, and `failed` is. Anything
else is a death: neither line is there. Standard error is the log; nothing goes to standard output.

`--parts` names what joins the rooms that load and serve models (`child.run`), as an entry point is named: this room
knows none of them. Without it only endpoints can be evaluated.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from finetune.evaluation.child import run
from finetune.process import die_with_parent


def main(argv: Sequence[str] | None = None) -> int:
    """Run one evaluation; returns the exit code. Main thread only."""
    parser = argparse.ArgumentParser(prog="finetune.evaluation")
    parser.add_argument("folder", type=Path, metavar="REQUEST_DIR")
    parser.add_argument("--parent", type=int, required=True, help="pid of who starts this; it ends with that process")
    parser.add_argument("--report", type=Path, help="default: REQUEST_DIR/report.jsonl")
    parser.add_argument("--parts", help="MODULE:FUNCTION, which makes what loads models of the cache's folder")
    asked = parser.parse_args(argv)
    die_with_parent(asked.parent)
    # With threads that spin while they wait, a machine that has other work too is several times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    return run(asked.folder, asked.report or asked.folder / "report.jsonl", asked.parts)


if __name__ == "__main__":
    sys.exit(main())
