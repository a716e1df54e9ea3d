"""Tuned models by name: `bot@v3` (a version), `bot@production` (an alias), `bot` (its production)."""

import random
from collections.abc import Callable
from pathlib import Path

from finetune.errors import NotFound, Problem
from finetune.jobs import Json
from finetune.names import PRODUCTION
from finetune.ports import Served
from finetune.releases import ModelStore
from finetune.versions import ModelVersion


class Registry:
    """Finds model versions, by name. Also `ports.ModelSource`: what the embedded server may answer with."""

    def __init__(
        self,
        models: ModelStore,
        *,
        chance: Callable[[], float] = random.random,
        place: Callable[[Json], tuple[Path, str | None]] = lambda artifact: (Path(artifact["path"]), None),
    ) -> None:
        """`chance`, from 0 to 1, chooses among the versions that share an alias's calls.

        `place`: the folder of an artifact with a path, and the address that it can be fetched from; asks nobody.
        """
        self._models, self._chance, self._place = models, chance, place

    def versions(self, name: str | None = None) -> list[ModelVersion]:
        """All versions, by name and version; of one name if given. Raises NotFound for an unknown name."""
        found = self._models.models(name)
        if name is not None and not found:
            raise self._unknown(name)
        return found

    def version(self, ref: str) -> ModelVersion:
        """The version that `ref` names. Raises NotFound, never answers with another one in its place."""
        name, at, label = ref.partition("@")
        for model in self.versions(name):
            if label == f"v{model.version}" or (label if at else PRODUCTION) in model.aliases:
                return model
        raise self._unknown(ref)

    def served(self) -> list[Served]:
        """See `ports.ModelSource.served`: every local version and the base models under them."""
        local = [model for model in self._models.models() if "path" in model.artifact]
        bases = {model.base_model: model.created_at for model in reversed(local)}
        plain = [Served(id=base, base_model=base, adapter=None, created_at=at) for base, at in bases.items()]
        return plain + [_served(model, *self._place(model.artifact)) for model in local]

    def resolve(self, name: str) -> Served:
        """See `ports.ModelSource.resolve`. Of versions that share an alias's calls one is drawn by its share."""
        served = self.served()
        known = [model for model in served if name == model.id or name in model.aliases]
        if len({model.id for model in known}) > 1:
            raise self._ambiguous(name)
        if not known:
            raise self._unknown(name)
        drawn = known[0].id if name == known[0].id else self._drawn(name) or known[0].id
        for model in served:
            if model.id == drawn:
                return model
        raise self._unknown(drawn)

    def _drawn(self, name: str) -> str | None:
        """The version that this call of an alias goes to."""
        of, _, alias = name.partition("@")
        traffic = self._models.traffic(of, alias or PRODUCTION)
        if traffic is None or traffic.version is None:
            return None
        left = self._chance() * sum(traffic.shares.values())
        for version, share in sorted(traffic.shares.items()):
            left -= share
            if left < 0:
                return f"{of}@v{version}"
        return f"{of}@v{traffic.version}"

    def _ambiguous(self, name: str) -> NotFound:
        return NotFound(
            Problem(
                code="E705",
                what=f"{name!r} is a base model and the name of a tuned one",
                why="an answer must come from the model that was meant",
                fix=f"name the version, such as {name}@v1",
            )
        )

    def _unknown(self, ref: str) -> NotFound:
        name = ref.partition("@")[0]
        models = self._models.models()
        mine = [label for model in models if model.name == name for label in (model.ref, *_names(model))]
        if mine and ref == name:
            what, why = f"{name} has no {PRODUCTION} alias yet", "a bare name stands for its production version"
            fix = f"name a version ({mine[-1]}), or `ft promote {mine[-1]} --to {PRODUCTION}`"
        else:
            what = f"there is no model {ref!r}"
            why = f"known are {', '.join(mine)}" if mine else "no model of this name was ever registered"
            fix = "`ft models list` shows all of them"
        return NotFound(Problem(code="E702", what=what, why=why, fix=fix))


def _names(model: ModelVersion) -> tuple[str, ...]:
    names = tuple(f"{model.name}@{alias}" for alias in model.aliases)
    return (*names, model.name) if PRODUCTION in model.aliases else names


def _served(model: ModelVersion, adapter: Path, uri: str | None) -> Served:
    return Served(
        id=model.ref,
        base_model=model.base_model,
        adapter=adapter,
        digest=model.artifact.get("digest"),
        uri=uri,
        created_at=model.created_at,
        aliases=_names(model),
    )
