"""A trainer for tests of what stands around it: real process, real reports, no torch. `request["play"]` is its part."""

import json
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from finetune.files import digest


def main() -> None:
    run_dir, report = Path(sys.argv[1]), Path(sys.argv[2])
    play = json.loads((run_dir / "request.json").read_text())["play"]

    def tell(**line: object) -> None:
        with report.open("a") as file:
            file.write(json.dumps({"at": datetime.now(UTC).isoformat(), **line}) + "\n")

    def metric(step: int) -> None:
        progress = {"step": step, "total_steps": 3, "loss": 1.0}
        tell(kind="metric", step=step, values={"loss": 1.0 / step}, progress=progress)

    tell(kind="event", level="info", message=f"process {os.getpid()}")
    # With "further" each start comes a step further than the one before.
    steps = run_dir / "steps"
    begun = len(steps.read_text()) if steps.exists() else 0
    steps.write_text("x" * (begun + 1))
    metric(begun + 1 if play == "further" else 1)
    first = not (run_dir / "seen").exists()
    (run_dir / "seen").touch()
    if play == "hang" or (play == "hang once" and first):
        # A grandchild that ignores SIGTERM, as a stuck data loader would.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        child = subprocess.Popen([sys.executable, "-c", "import signal,time;signal.signal(15,1);time.sleep(60)"])
        tell(kind="event", level="info", message=f"grandchild {child.pid}")
        time.sleep(60)
    if play == "cards":
        tell(kind="event", level="info", message=f"cards {os.environ.get('CUDA_VISIBLE_DEVICES')} for {sys.argv[3]}")
    if play == "polite" and first:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
        time.sleep(60)
    if play in ("die", "further") or (play == "die once" and first):
        os.kill(os.getpid(), signal.SIGKILL)
    if play == "fail":
        error = {"code": "E610", "what": "the loss is not a number", "why": "w", "fix": "f"}
        tell(kind="failed", error=error, retry=False)
        sys.exit(1)
    if play == "later":
        error = {"code": "E606", "what": "the hub is out of reach", "why": "w", "fix": "f"}
        tell(kind="failed", error=error, retry=True)
        sys.exit(1)
    metric(2)
    tell(kind="done", artifact=finish(run_dir / "adapter", swapped=play == "swap"))


def finish(adapter: Path, *, swapped: bool) -> dict[str, object]:
    """Write the adapter; `swapped`: another worker's trainer has written its own since."""
    adapter.mkdir(exist_ok=True)
    (adapter / "adapter_model.safetensors").write_bytes(b"weights")
    (adapter / "adapter_config.json").write_text("{}")
    told = digest(adapter)
    if swapped:
        (adapter / "adapter_model.safetensors").write_bytes(b"other weights")
    return {"path": str(adapter), "digest": told, "lineage": {"seed": 1}}


if __name__ == "__main__":
    main()
