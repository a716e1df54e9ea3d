"""Checkpoints: everything that a later step depends on, so that a resumed run ends with the same bytes.

`checkpoints/step-00000012/` holds adapter.safetensors, optimizer.safetensors and manifest.json. The order of
examples, rates and dropout are functions of seed and step (`finetune.training.schedule`), so no sampler's,
scheduler's or generator's state is kept. The manifest's `identity` says what the run is; a checkpoint of another
identity is not resumed.
"""

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import load_file, save_file

from finetune import files
from finetune.training import disk
from finetune.training.batches import Limits
from finetune.training.engine import Engine

_KEPT: Final = 2
_TENSORS: Final = ("adapter.safetensors", "optimizer.safetensors")
_MOMENTS: Final = ("exp_avg", "exp_avg_sq", "step")


class Checkpoints:
    """The checkpoints of one run. `identity` is compared field by field: JSON values.

    Of several processes of a run one is the `keeper`: the others read checkpoints and leave the folder as it is.
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any], *, keeper: bool = True) -> None:
        self._folder = folder
        self._identity = dict(identity)
        self._keeper = keeper

    def save(self, engine: Engine, step: int) -> None:
        """Keep the state after `step` optimiser steps; drops all but the newest two. Raises TrainingError (E622)."""
        if not self._keeper:
            return
        folder = self._folder / f"step-{step:08d}"
        disk.publish(folder, lambda aside: self._fill(aside, engine, step))
        for old in self._newest_first()[_KEPT:]:
            shutil.rmtree(old, ignore_errors=True)

    def resume(self, engine: Engine, warn: Callable[[str], None]) -> int:
        """Put the newest complete checkpoint into `engine`; returns its step, or 0 when there is none to use.

        Sets the number of CPU threads to the checkpoint's: sums depend on it. Checkpoints of another identity are
        removed, and `warn` is told which fields differ.
        """
        if self._keeper:
            for half in self._folder.glob(".*.part"):
                shutil.rmtree(half, ignore_errors=True)
        for folder in self._newest_first():
            manifest = _manifest(folder)
            if manifest is None:
                warn(f"{folder.name} is damaged and was left aside")
                continue
            theirs = manifest["identity"]
            keys = sorted(theirs.keys() | self._identity.keys())
            if differs := [key for key in keys if theirs.get(key) != self._identity.get(key)]:
                warn(f"the checkpoints belong to another run ({', '.join(differs)} differ): starting from step 0")
                if self._keeper:
                    shutil.rmtree(self._folder)
                return 0
            torch.set_num_threads(manifest["threads"])
            engine.limits = Limits(**manifest["limits"])
            _restore(folder, engine)
            return int(manifest["step"])
        return 0

    def _fill(self, folder: Path, engine: Engine, step: int) -> None:
        adapter = {name: parameter.detach().contiguous() for name, parameter in engine.parameters.items()}
        moments = {
            f"{moment}.{name}": engine.optimizer.state[parameter][moment]
            for name, parameter in engine.parameters.items()
            if parameter in engine.optimizer.state
            for moment in _MOMENTS
        }
        for name, tensors in zip(_TENSORS, (adapter, moments), strict=True):
            save_file(tensors, folder / name)
        manifest = {
            "step": step,
            "identity": self._identity,
            "threads": torch.get_num_threads(),
            "limits": asdict(engine.limits),
            "digest": files.digest(folder, _TENSORS),
        }
        disk.write_json(folder / "manifest.json", manifest)

    def _newest_first(self) -> list[Path]:
        return sorted(self._folder.glob("step-*"), reverse=True)


def _manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest of a checkpoint whose tensors are as they were written, else None."""
    try:
        manifest = json.loads((folder / "manifest.json").read_bytes())
        whole = manifest["digest"] == files.digest(folder, _TENSORS)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return manifest if whole else None


def _restore(folder: Path, engine: Engine) -> None:
    adapter, moments = (load_file(folder / name) for name in _TENSORS)
    with torch.no_grad():
        for name, parameter in engine.parameters.items():
            parameter.copy_(adapter[name])
    state = engine.optimizer.state_dict()
    state["state"] = {
        index: {moment: moments[f"{moment}.{name}"] for moment in _MOMENTS}
        for index, name in enumerate(engine.parameters)
        if f"step.{name}" in moments
    }
    engine.optimizer.load_state_dict(state)
