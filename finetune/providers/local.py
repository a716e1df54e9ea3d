"""This machine as a provider: trainings wait in our own books until a worker of the `gpu` queue takes them.

`create` writes a row and rings; `training.supervisor` runs the trainer and ends the row; `poll` reads the row and the
trainer's reports. Nothing here starts a process or imports torch.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Final, Literal

from finetune.errors import Problem, ProviderError
from finetune.jobs import Event, Json, Metric, ProviderState
from finetune.names import BUILTIN, BUILTINS, folder_of
from finetune.placement import need_of
from finetune.ports import Observation, PreparedData, Provider, ProviderKit, RemoteData, RemoteJob
from finetune.runs import Run
from finetune.spec import Recipe, canonical
from finetune.tasks import TRAIN

_METHODS: Final = ("sft", "dpo")
_STATES: dict[str, ProviderState] = {
    "queued": "queued",
    "running": "running",
    "succeeded": "succeeded",
    "failed": "failed",
    "cancelled": "cancelled",
}
_KINDS: dict[str, Literal["provider", "warning", "error"]] = {
    "info": "provider",
    "warning": "warning",
    "error": "error",
}


def build(kit: ProviderKit) -> Provider:
    """The entry point."""
    return LocalProvider(kit)


class LocalProvider:
    """`ports.Provider` over the run store. `find` is exact, so `grace_s` is zero."""

    name = "local"
    grace_s = 0.0
    max_poll_s = 1.0
    honours = frozenset(
        {
            *("base_model", "method", "seed", "lora", "dpo", "local", "resources"),
            *("training.epochs", "training.batch_size", "training.learning_rate", "training.max_seq_length"),
            *("training.warmup_ratio", "training.weight_decay", "training.lr_scheduler", "training.max_grad_norm"),
            # What training here costs is counted while it runs (FT_GPU_HOUR_USD), and the data stays here.
            *("limits.max_cost", "limits.data", "limits.deadline"),
        }
    )

    def __init__(self, kit: ProviderKit) -> None:
        self._kit = kit

    def check(self, recipe: Recipe) -> list[Problem]:
        """See `ports.Provider.check`."""
        found = []
        if recipe.method not in _METHODS:
            found.append(_method(recipe.method))
        if recipe.base_model.startswith(BUILTIN):
            if recipe.base_model.removeprefix(BUILTIN) not in BUILTINS:
                found.append(_no_builtin(recipe.base_model))
        elif (folder := folder_of(recipe.base_model)) and not (folder / "config.json").is_file():
            found.append(_no_folder(recipe.base_model))
        return found

    def upload(self, data: PreparedData) -> RemoteData:
        """See `ports.Provider.upload`: the files stay where they are."""
        validation = str(data.validation) if data.validation else None
        return RemoteData(ids={"train": str(data.train), "validation": validation, "digest": data.digest})

    def find(self, run_key: str) -> list[RemoteJob]:
        """See `ports.Provider.find`."""
        run = self._kit.runs().get_run(run_key)
        return [] if run is None else [_remote(run)]

    def create(self, recipe: Recipe, data: RemoteData, run_key: str) -> RemoteJob:
        """See `ports.Provider.create`. This one is idempotent by its run key."""
        need = {**asdict(need_of(recipe.resources.model_dump())), "base_model": recipe.base_model}
        request = self._request(recipe, data, run_key)
        run = self._kit.runs().add_run(run_key, request, self._kit.clock.now(), need)
        self._kit.queue.wake(TRAIN, run_key)
        return _remote(run)

    def poll(self, remote_id: str, cursor: str | None) -> Observation:
        """See `ports.Provider.poll`. The cursor is `start:byte`: which of the run's reports, and how far."""
        run = self._run(remote_id)
        # The row is read before the reports: whatever the row says has ended is then complete in the reports.
        lines, cursor = self._reports(run, cursor)
        events, metrics, progress = _news(lines)
        paused = run.hold_requested and run.state == "queued"
        return Observation(
            state="paused" if paused else _STATES[run.state],
            raw_state=self._raw_state(run),
            cursor=cursor,
            events=tuple(events),
            metrics=tuple(metrics),
            progress=progress,
            artifact=run.artifact,
            problem=Problem(**run.error) if run.error else None,
            spent_usd=self._spent(run),
        )

    def cancel(self, remote_id: str) -> None:
        """See `ports.Provider.cancel`. The supervisor ends the process group, then the row."""
        self._kit.runs().cancel_run(remote_id, self._kit.clock.now())

    def pause(self, remote_id: str) -> None:
        """See `abilities.Pausable.pause`: the trainer saves a checkpoint and ends."""
        self._kit.runs().hold_run(remote_id, True)

    def resume(self, remote_id: str) -> None:
        """See `abilities.Pausable.resume`: it goes on from that checkpoint."""
        self._kit.runs().hold_run(remote_id, False)
        self._kit.queue.wake(TRAIN, remote_id)

    def _request(self, recipe: Recipe, data: RemoteData, run_key: str) -> Json:
        training = recipe.training.model_dump(
            exclude={"packing", "learning_rate_multiplier"}, exclude_none=True, mode="json"
        )
        of_method = {"dpo": recipe.dpo.model_dump(mode="json")} if recipe.method == "dpo" else {}
        return {
            "run_key": run_key,
            "base_model": recipe.base_model,
            "train": data.ids["train"],
            "validation": data.ids["validation"],
            "data_digest": data.ids["digest"],
            "recipe_digest": hashlib.sha256(json.dumps(canonical(recipe), sort_keys=True).encode()).hexdigest(),
            "method": recipe.method,
            **of_method,
            "seed": recipe.seed,
            "training": {"learning_rate": 2e-4, **training},
            "lora": recipe.lora.model_dump(mode="json"),
            "local": recipe.local.model_dump(mode="json"),
            "cache": str(self._kit.cache_dir),
        }

    def _run(self, remote_id: str) -> Run:
        run = self._kit.runs().get_run(remote_id)
        if run is None:
            raise ProviderError(
                Problem(
                    code="E402",
                    what=f"the local provider has no run {remote_id}",
                    why="its books are in the same database; a backup may have been restored",
                    fix="`ft submit --force` trains again",
                )
            )
        return run

    def _spent(self, run: Run) -> Decimal | None:
        price = self._kit.gpu_hour_usd
        return None if price is None else (Decimal(run.card_s) / 3600 * price).quantize(Decimal("0.0001"))

    def _raw_state(self, run: Run) -> str:
        if run.state == "running" and (run.lease_until is None or run.lease_until <= self._kit.clock.now()):
            return "waiting for a worker (the last one is gone)"
        if run.state == "queued" and run.hold_requested:
            return "paused"
        if run.state == "queued":
            return "waiting for a worker" if run.starts == 0 else "waiting for a worker (interrupted)"
        return run.state

    def _reports(self, run: Run, cursor: str | None) -> tuple[list[Json], str | None]:
        start, _, offset = (cursor or "1:0").partition(":")
        number, byte = int(start), int(offset)
        lines: list[Json] = []
        for each in range(number, run.starts + 1):
            begin = byte if each == number else 0
            new, byte = self._kit.read_report(report_path(self._kit.runs_dir, run.run_key, each), begin)
            lines, number = lines + new, each
        return lines, f"{number}:{byte}"


def report_path(runs_dir: Path, run_key: str, start: int) -> Path:
    """Where the trainer's `start`-th process of this run writes its report."""
    return runs_dir / run_key / f"report-{start}.jsonl"


def _news(lines: Iterable[Json]) -> tuple[list[Event], list[Metric], Json | None]:
    events: list[Event] = []
    metrics: list[Metric] = []
    progress: Json | None = None
    for line in lines:
        if line["kind"] == "event":
            events.append(
                Event(kind=_KINDS[line["level"]], message=line["message"], at=datetime.fromisoformat(line["at"]))
            )
        elif line["kind"] == "metric":
            metrics += [Metric(step=line["step"], name=name, value=value) for name, value in line["values"].items()]
            progress = line["progress"] or progress
    return events, metrics, progress


def _remote(run: Run) -> RemoteJob:
    ended = run.state in ("succeeded", "failed", "cancelled")
    return RemoteJob(remote_id=run.run_key, raw_state=run.state, created_at=run.created_at, ended=ended)


def _method(method: str) -> Problem:
    return Problem(
        code="E303",
        what=f"the local provider cannot train by {method}",
        why=f"its trainer knows {' and '.join(_METHODS)}, with LoRA",
        fix="write one of these",
        field="method",
        value=method,
    )


def _no_builtin(base_model: str) -> Problem:
    return Problem(
        code="E304",
        what=f"there is no built-in base model {base_model!r}",
        why=f"built in are {', '.join(BUILTIN + name for name in sorted(BUILTINS))}",
        fix="name one of these, a folder, or an id on the Hugging Face hub",
        field="base_model",
        value=base_model,
    )


def _no_folder(base_model: str) -> Problem:
    return Problem(
        code="E305",
        what=f"{base_model!r} is not a folder with a model in it",
        why="it needs config.json, the weights as safetensors, and the tokenizer's files",
        fix="correct the path, or name an id on the Hugging Face hub",
        field="base_model",
        value=base_model,
    )
