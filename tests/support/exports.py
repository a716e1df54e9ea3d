"""An FT_HOME with trainings, their adapters and their versions, over a tiny base in a folder."""

import json
import warnings
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from finetune import files
from finetune.jobs import Job, JobState
from finetune.ports import Observation
from finetune.store import SqlModels, SqlPromotions, SqlRuns
from finetune.testing import STRAIGHT, FakeProvider
from finetune.versions import ModelVersion, Traffic
from tests.support import tiny
from tests.support.jobs import World, sqlite

MODULES = ["q_proj", "v_proj", "down_proj"]


def write_adapter(folder: Path, base: Path, seed: int = 1, **lineage: Any) -> dict[str, Any]:
    """An adapter that changes what the tiny model says, as the trainer writes it; its artifact."""
    import torch
    from peft import LoraConfig, get_peft_model

    model = tiny.model()
    torch.manual_seed(seed)
    config = LoraConfig(
        r=4, lora_alpha=8, target_modules=MODULES, task_type="CAUSAL_LM", init_lora_weights=False, inference_mode=True
    )
    with warnings.catch_warnings():
        # PEFT 0.21 asks transformers 5 by an old name.
        warnings.filterwarnings("ignore", ".*is_gradient_checkpointing.*", FutureWarning)
        tuned = get_peft_model(model, config)
    tuned.save_pretrained(str(folder))
    (folder / "README.md").unlink(missing_ok=True)
    named = json.loads((folder / "adapter_config.json").read_text())
    named["base_model_name_or_path"] = str(base)
    (folder / "adapter_config.json").write_text(json.dumps(named, sort_keys=True))
    made = {"base_model": str(base), "seed": seed, "steps": 6, **lineage}
    (folder / "lineage.json").write_text(json.dumps(made))
    return {"path": str(folder), "digest": files.digest(folder), "lineage": made}


class _Trains(FakeProvider):
    """Leaves an adapter on this machine."""

    artifact: dict[str, Any] | None = None

    def poll(self, remote_id: str, cursor: str | None) -> Observation:
        seen = super().poll(remote_id, cursor)
        return replace(seen, artifact=self.artifact) if seen.artifact else seen


class Shelf:
    """What is in one FT_HOME. Versions are of `bot`."""

    def __init__(self, home: Path, base: Path) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self.home, self.base = home, base
        self.adapters, self.runs = home / "adapters", home / "runs"
        self.provider = _Trains()
        self.world = World(sqlite(home), self.provider)
        self.models: SqlModels = self.world.models
        self.promotions = SqlPromotions(self.world.database)
        self._runs, self._number = SqlRuns(self.world.database), 0
        #: Fields of the jobs to come, beside those that each has.
        self.fields: dict[str, Any] = {}

    def close(self) -> None:
        self.world.database.close()

    def trained(self, *, seed: int = 1, version: bool = True, **lineage: Any) -> ModelVersion:
        """A version, or with `version` false the files of one whose job came to nothing after its training."""
        job = self._begin()
        folder = self.runs / str(job.run_key)
        artifact = write_adapter(folder / "adapter", self.base, seed, run_key=job.run_key, **lineage)
        place = self.adapters / artifact["digest"][:32]
        place.parent.mkdir(exist_ok=True)
        if not place.exists():
            Path(artifact["path"]).rename(place)
        artifact["path"] = str(place)
        self._end_run(job, "succeeded", artifact)
        self.provider.artifact = artifact
        if not version:
            self.provider.script = ("failed",)
        self.world.run(job.id)
        self.provider.script = STRAIGHT
        found: Sequence[ModelVersion] = self.models.models("bot")
        return found[-1] if version else ModelVersion(**{**self._blank(job), "artifact": artifact})

    def unfinished(self, *, makes: str = "") -> Job:
        """A job that trains, and the run's folder with a checkpoint."""
        job = self._begin(makes)
        (self.runs / str(job.run_key) / "checkpoints").mkdir(parents=True)
        return job

    def failed(self) -> Job:
        """A job whose training failed, and left a checkpoint."""
        job = self.unfinished()
        self._end_run(job, "failed", None)
        (self.runs / str(job.run_key) / "checkpoints" / "5.safetensors").write_bytes(b"x" * 5000)
        (self.runs / str(job.run_key) / "trainer.log").write_text("out of memory")
        self.provider.script = ("failed",)
        ended = self.world.run(job.id)
        self.provider.script = STRAIGHT
        return ended

    def shift(self, version: int) -> None:
        """All calls of `bot` go to this version."""
        self.world.clock.sleep(60)
        now = self.world.clock.now()
        move = Traffic(name="bot", alias="production", shares={version: 1.0}, reason="test", by="me", at=now)
        self.models.shift(move)

    def later(self, **passed: float) -> None:
        self.world.clock.sleep(timedelta(**passed).total_seconds())

    def _begin(self, makes: str = "") -> Job:
        self._number += 1
        job_id = f"ft_{self._number}"
        self.world.submit(job_id, **{"base_model": str(self.base), **self.fields})
        job = self.world.run(job_id, until=lambda job: job.state is JobState.RUNNING)
        request = {"recipe_digest": makes or job_id, "data_digest": "d"}
        self._runs.add_run(str(job.run_key), request, self.world.clock.now())
        return job

    def _end_run(self, job: Job, state: str, artifact: dict[str, Any] | None) -> None:
        run = self._runs.get_run(str(job.run_key))
        assert run is not None
        self._runs.update_run(run, self.world.clock.now(), state=state, artifact=artifact)

    def _blank(self, job: Job) -> dict[str, Any]:
        now = self.world.clock.now()
        return {
            "name": "bot",
            "version": 0,
            "job_id": job.id,
            "provider": "fake",
            "base_model": str(self.base),
            "lineage": {},
            "created_at": now,
        }
