"""What there is to ask for: the source's models, and adapters that were loaded at run time."""

import json
import threading
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from finetune.errors import NotFound
from finetune.ports import ModelSource, Served
from finetune.serving.adapters import CONFIG
from finetune.serving.asks import fault
from finetune.serving.pool import Pool


@dataclass(frozen=True, kw_only=True)
class LoadRequest:
    """The body of `/v1/load_lora_adapter`, checked for its types."""

    name: str
    path: Path
    #: The body's `base_model`; None when it has none.
    base_model: str | None


class Models:
    """Names and what they stand for, asked anew each time. Safe to use from several threads.

    Runtime adapters live as long as this object: they are loaded again when their base had to make room.
    """

    def __init__(self, source: ModelSource, pool: Pool) -> None:
        self._source = source
        self._pool = pool
        self._runtime: dict[str, Served] = {}
        self._changing = threading.Lock()

    def served(self) -> list[Served]:
        """Everything that can be asked for."""
        return [*self._source.served(), *self._runtime.values()]

    def resolve(self, name: str) -> Served:
        """The model of this name. Raises NotFound, or ServingError E752 when the name stands for two models."""
        loaded = self._runtime.get(name)
        if loaded is None:
            return self._source.resolve(name)
        try:
            registered = self._source.resolve(name)
        except NotFound:
            return loaded
        raise fault(
            "E752",
            f"{name} stands for two models: {registered.id} and an adapter loaded at run time",
            "answering from either could be the wrong one",
            f"unload the runtime adapter: POST /v1/unload_lora_adapter with lora_name {name}",
        )

    def taken(self, name: str) -> bool:
        """True when something answers to this name."""
        if name in self._runtime:
            return True
        try:
            self._source.resolve(name)
        except NotFound:
            return False
        return True

    def load(self, request: LoadRequest, now: datetime) -> Served:
        """Load a runtime adapter into memory and answer to its name from now on.

        Raises ServingError: E751 (no adapter there), E752 (name taken), E755 (its base is not known), others of
        `Pool.ready`. On an error the name stays free.
        """
        with self._changing:
            if self.taken(request.name):
                raise fault("E752", f"{request.name} is taken", fix="choose another name, or unload it first")
            base = self._base_of(request)
            model = Served(id=request.name, base_model=base, adapter=request.path, created_at=now)
            # A question that overlapped with an unload may have brought the old weights of this name back.
            self._pool.unload(model)
            self._pool.ready(model)
            self._runtime[request.name] = model
            return model

    def unload(self, name: str) -> bool:
        """Forget a runtime adapter; False when there is none of this name. Registered models are not touched."""
        with self._changing:
            model = self._runtime.pop(name, None)
            if model is None:
                return False
            self._pool.unload(model)
            return True

    def _base_of(self, request: LoadRequest) -> str:
        known = {model.base_model for model in self._source.served()} | set(self._pool.bases)
        named = request.base_model
        if named is None:
            named = _trained_on(request.path)
        if named in known:
            return named
        raise fault(
            "E755",
            f"{named or 'an unknown model'} is no base model of this server",
            f"it serves {', '.join(sorted(known)) or 'none'}; an adapter answers rightly on its own base only",
            'name the base in the body: "base_model": "..."',
            field="base_model",
        )


def _trained_on(path: Path) -> str:
    try:
        config = json.loads((path / CONFIG).read_text(encoding="utf-8"))
        return str(config.get("base_model_name_or_path") or "")
    except (OSError, ValueError, AttributeError) as exc:
        raise fault("E751", f"No adapter found for {path}", f"its {CONFIG} cannot be read") from exc
