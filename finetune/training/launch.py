"""One training in several processes on this machine, which torchrun's launcher starts and watches.

The launcher never touches a device and imports no more than torch. Each process is a fresh one in the launcher's
process group, and ends with it. Rank 0 writes the report; a failure, wherever it was, is written by the launcher when
all have ended. A process that dies takes the others with it.
"""

import json
import os
import sys
import tempfile
import threading
import traceback
from contextlib import closing, nullcontext
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any, Final

from finetune import report
from finetune.errors import FtError
from finetune.process import die_with_parent, importing
from finetune.report import Reporter
from finetune.training import request, start
from finetune.training.stop import ENDED, INTERRUPTED, Interrupted, Stop, hold_back, pass_on

#: Exit code when a process ended without a word, and by no signal (EX_SOFTWARE).
_SILENT: Final = 70
#: The launcher ends those whose peer is gone; should it not, they end by themselves.
_TO_BE_ENDED_S: Final = 60.0


def launch(run_dir: Path, told: Path, count: int) -> int:
    """Train in `count` processes; returns the exit code, see `finetune.training.__main__`. Main thread only.

    Blocks until all have ended.
    """
    # It unblocks these signals where it is started, and `hold_back` must last.
    resource_tracker.ensure_running()
    hold_back()
    with closing(Reporter(told)) as reporter:
        try:
            reporter.event(f"trainer started with {count} processes")
            request.read(run_dir / "request.json")
            with tempfile.TemporaryDirectory(prefix="ft-ranks-", ignore_cleanup_errors=True) as name:
                room = Path(name)
                pass_on(lambda: _pid_of_first(room))
                ended = start.with_libraries(lambda: _start(room, run_dir, told, count))
                return _outcome(ended, room, reporter)
        except Exception as error:  # noqa: BLE001 - the last line of defence: no traceback reaches a user
            if not isinstance(error, FtError):
                traceback.print_exc()
            reporter.failed(start.told(error, run_dir))
            return 1


def _start(room: Path, run_dir: Path, told: Path, count: int) -> dict[int, int]:
    """Exit codes by rank: of all that returned one, else of the one that ended first."""
    # torchrun asks how many devices there are; so it asks the driver's library, and sets up nothing.
    os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
    # A shared store would listen on every interface.
    os.environ["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"
    with importing():
        import torch
        from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
        from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
        from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, torch.get_num_threads() // count)))
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=count,
        run_id="training",
        role="trainer",
        rdzv_backend="c10d",
        rdzv_endpoint=str(room / "rendezvous"),
        # One launcher has nobody to show that it lives: each sign would make the file longer.
        rdzv_configs={"store_type": "file", "keep_alive_interval": 86_400},
        local_addr="127.0.0.1",
        max_restarts=0,
        # Held back, so torchrun never hears it: we do, and what it would do is to end all at once.
        signals_to_handle="SIGTERM",
        logs_specs=DefaultLogsSpecs(log_dir=str(room / "logs")),
    )
    try:
        returned: dict[int, int] = elastic_launch(config, work)(str(run_dir), str(told), str(room), os.getpid())
    except ChildFailedError as error:
        return {rank: failure.exitcode for rank, failure in error.failures.items()}
    return returned


def _outcome(ended: dict[int, int], room: Path, reporter: Reporter) -> int:
    """The exit code. Tells of a failure or a death."""
    codes = set(ended.values())
    # Whoever dies while it leaves has not spoilt the adapter, and `done` must stay the report's last line.
    if codes == {0} or (room / "done").exists():
        return 0
    if INTERRUPTED in codes:
        return INTERRUPTED
    for path in sorted(room.glob("failed-*.jsonl")):
        for line in report.read(path, 0)[0]:
            reporter.repeat(line)
            return 1
    (rank, code), *_ = ended.items()
    how = f"killed by signal {-code}" if code < 0 else f"ended without a word, exit code {code}"
    reporter.event(f"process {rank} of the training was {how}; the others were ended with it", "warning")
    return 128 - code if code < 0 else _SILENT


def _pid_of_first(room: Path) -> int | None:
    try:
        return int(json.loads((room / "first").read_text()))
    except (OSError, ValueError):
        return None


def work(run_dir: str, told: str, room: str, launcher: int) -> int:
    """What each process does; returns the exit code, or ends with one. Called by torchrun."""
    die_with_parent(launcher)
    hold_back()
    stop = Stop()
    stop.listen(launcher)
    rank, count = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    if rank == 0:
        (Path(room) / "first").write_text(str(os.getpid()))
    try:
        with closing(Reporter(Path(told) if rank == 0 else Path(os.devnull))) as reporter:
            with start.traced() if rank == 0 else nullcontext():
                made = _train(Path(run_dir), Path(room), reporter, (stop, rank, count))
            if rank == 0:
                reporter.done(artifact=made)
                (Path(room) / "done").touch()
    except Interrupted:
        return INTERRUPTED
    except Exception as error:  # noqa: BLE001 - the last line of defence: no traceback reaches a user
        _fail(error, rank, Path(run_dir), Path(room))
    return 0


def _train(run_dir: Path, room: Path, reporter: Reporter, who: tuple[Stop, int, int]) -> dict[str, Any]:
    with importing():
        from finetune.training import trainer
        from finetune.training.together import Together

    stop, rank, count = who
    ranks = Together(rank, count)
    ranks.join(room / "meeting")
    made = trainer.train(request.read(run_dir / "request.json"), run_dir, reporter, stop, ranks)
    ranks.leave()
    return made


def _fail(error: Exception, rank: int, run_dir: Path, room: Path) -> None:
    """Put the failure down for the launcher and end at once, so that it ends the others. Does not return."""
    from finetune.training.together import PeerLost

    traceback.print_exception(error)
    sys.stderr.flush()
    if isinstance(error, PeerLost):
        # To end now could look like the cause.
        threading.Event().wait(_TO_BE_ENDED_S)
        os._exit(ENDED)
    with closing(Reporter(room / f"failed-{rank:04d}.jsonl")) as reporter:
        reporter.failed(start.told(error, run_dir))
    os._exit(1)
