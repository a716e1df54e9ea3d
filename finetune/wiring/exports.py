"""The parts that take versions elsewhere, and those that throw away what nobody needs."""

import json
import os
import shutil
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from finetune.errors import Problem, UsageError
from finetune.names import PRODUCTION
from finetune.wiring.releases import Releases

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from finetune.exports.card import Facts
    from finetune.exports.exporter import Exported, Exporter
    from finetune.exports.garbage import Collector
    from finetune.exports.merging import Merger
    from finetune.jobs import Json
    from finetune.versions import ModelVersion


class Exports(Releases):
    """The parts, with exports."""

    @cached_property
    def exporter(self) -> "Exporter":
        """What writes versions for use elsewhere."""
        from finetune.exports.exporter import Exporter

        return Exporter(
            facts=self._facts,
            checked=self._checked,
            merge=self._merge,
            template=self._template,
            aside=self._aside,
        )

    def push(self, model: "ModelVersion", repo: str) -> "Exported":
        """Push the adapter to `owner/name` on the Hugging Face Hub. Raises UsageError E825, GatewayError."""
        from finetune.deployments import GatewayKit
        from finetune.gateways import hub

        environ = {**os.environ, "FT_HUB_REPO": repo}
        built = hub.build(GatewayKit(environ=environ, clock=self.clock, port=self.settings.port))

        def send(folder: Path) -> tuple[str, str]:
            pushed = built.push(replace(self._described(model, PRODUCTION), adapter=folder))
            return pushed.repo, pushed.tag

        return self.exporter.push(model, repo, send)

    @cached_property
    def garbage(self) -> "Collector":
        """What throws away what nobody needs."""
        from finetune.exports.garbage import Collector
        from finetune.store.kept import SqlKept

        return Collector(
            self.models,
            self.promotions,
            SqlKept(self.database),
            self.clock,
            back=self.releasing.back,
            folders=(self.settings.adapters_dir, self.settings.runs_dir),
            remote=self.adapters,
        )

    def fetch_weights(self, ref: str) -> "ModelVersion":
        """Bring the adapter that a provider has trained to this machine: from then on the version is one of ours.

        Idempotent. Blocks for minutes. Raises NotFound, UsageError E845, ProviderError, StateError.
        """
        from finetune.abilities import Yielding
        from finetune.files import digest

        model = self.registry.version(ref)
        if "path" in model.artifact and self.adapters.place(model.artifact).is_dir():
            return model
        if self._host_of(model) and any(
            (each.name, each.version, each.gateway) == (model.name, model.version, model.provider)
            for each in self.promotions.placed()
        ):
            raise UsageError(_deployed_there(model))
        provider, folder = self.provider(model.provider), self.settings.adapters_dir
        aside = folder / f".{model.job_id}-{os.getpid()}"
        try:
            if not isinstance(provider, Yielding) or not provider.fetch_adapter(model.artifact, aside):
                raise UsageError(_kept_there(model))
            named = digest(aside)
            base = json.loads((aside / "adapter_config.json").read_text("utf-8")).get("base_model_name_or_path")
            there = folder / named[:32]
            with suppress(FileExistsError):
                # Somebody else may have brought the same bytes meanwhile.
                if not there.exists():
                    aside.rename(there)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        uri = self.adapters.shelve(there, named)
        artifact = {"path": str(there), "digest": named, **({"uri": uri} if uri else {})}
        self.models.note_adapter(model.name, model.version, artifact, self._weights_of(model, base))
        return self.registry.version(model.ref)

    def _weights_of(self, model: "ModelVersion", said: object) -> str:
        """The base as this machine calls it: by the catalogue, else as the adapter says."""
        sheet = self.catalogue.provider(model.provider)
        known = sheet.model(model.base_model) if sheet else None
        if known is not None and known.open_weights is not None:
            return known.open_weights.value
        return said if isinstance(said, str) and said else model.base_model

    def upload_late(self) -> "Iterator[tuple[str, str]]":
        """Put adapters that are here, and not whole in the bucket, there; each such version, and its address.

        The version's artifact says so from then on, so that machines with another FT_ARTIFACTS, or none, find it.
        Idempotent. Raises StateError E512, E513, E838.
        """
        there = self.adapters.copies()
        for one in self.models.models() if self.settings.artifacts else ():
            if self.adapters.is_late(one.artifact, there):
                uri = str(self.adapters.shelve(self.adapters.place(one.artifact), str(one.artifact["digest"])))
                self.models.note_uri(one.name, one.version, uri)
                yield one.ref, uri

    @property
    def _aside(self) -> Path:
        return self.settings.home / "exports" / str(os.getpid())

    @cached_property
    def _merger(self) -> "Merger":
        from finetune.exports.merging import Merger

        log = self.settings.logs_dir / "merge.log"
        return Merger(folder=self.settings.home / "exports", log=log, command=_merging, clock=self.clock)

    def _checked(self, model: "ModelVersion") -> Path:
        adapter = self._described(model, PRODUCTION).adapter
        assert adapter is not None
        return adapter

    def _facts(self, model: "ModelVersion") -> "Facts":
        from finetune.exports.card import Facts

        known = self.releasing.lineage(model)
        reports = self.models.reports(model.name, model.version)
        digest = str(model.artifact["digest"])
        return Facts(model=model, digest=digest, config={}, data=known["data"], reports=reports)

    def _merge(self, facts: "Facts", adapter: Path, weights: Path, tokenizer: Path) -> "Json":
        local = self.jobs.get(facts.model.job_id).recipe.get("local") or {}
        request = {
            "base_model": facts.model.base_model,
            "base_revision": facts.model.lineage.get("base_revision"),
            "adapter": str(adapter),
            "cache": str(self.settings.cache_dir),
            "weights": str(weights),
            "tokenizer": str(tokenizer),
            "trust_remote_code": bool(local.get("trust_remote_code")),
        }
        return self._merger.merge(request, self._say)

    def _template(self, base_model: str) -> str | None:
        from finetune.data.tokens import NotHere
        from finetune.training import stored

        try:
            return stored.find(base_model, cache=self.settings.cache_dir).template
        except NotHere:
            return None


def _kept_there(model: "ModelVersion") -> Problem:
    return Problem(
        code="E845",
        what=f"the weights of {model.ref} are not to be had",
        why=f"{model.provider} keeps what it trains, or has none of this job",
        fix=f"`ft retarget {model.ref} --to local` trains it on weights that stay here",
    )


def _deployed_there(model: "ModelVersion") -> Problem:
    return Problem(
        code="E845",
        what=f"{model.ref} answers from a deployment at {model.provider}",
        why="with its weights here it would be a version of this machine, and its gateways could not find it any more",
        fix=f"take it from its gateways first: promote another version, or `ft models retire {model.ref}`",
    )


def _merging(folder: Path) -> "Sequence[str]":
    from finetune.up import PYTHON

    return [*PYTHON, "-m", "finetune.training.merge", str(folder), "--parent", str(os.getpid())]
