"""The seams to model versions, their traffic, and promotions."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Protocol

from finetune.jobs import Due, Job, Json
from finetune.versions import Grip, ModelStatus, ModelVersion, Placed, Promotion, Traffic


class ModelStore(Protocol):
    """Model versions, what was measured of them, and who gets an alias's calls."""

    def add_model(
        self, job: Job, now: datetime, *, alias: str | None = None, promotion: Promotion | None = None
    ) -> ModelVersion:
        """Record the job's artifact as the next version of its name, in one transaction with what follows from it.

        That is: `alias` gets its calls from it, which ends an unfinished promotion of the alias, or `promotion` (its
        version is filled in) begins. Idempotent by job: asked twice there is one version, one promotion, and an alias
        that has moved on since is left where it is.
        """
        ...

    def models(self, name: str | None = None) -> list[ModelVersion]:
        """All versions, by name and version."""
        ...

    def set_status(self, name: str, version: int, status: ModelStatus) -> None:
        """Note how far a version has come. One that has calls stays live: only `shift` changes that."""
        ...

    def note_uri(self, name: str, version: int, uri: str) -> bool:
        """Note in the version's artifact where its adapter lies in a bucket, unless an address is noted there.

        Idempotent. Returns whether `uri` is what is noted now; also False where there is no such version.
        """
        ...

    def note_adapter(self, name: str, version: int, artifact: Json, base_model: str) -> None:
        """Add to the version's artifact: it lies here from now on, as an adapter of these weights. Idempotent."""
        ...

    def shift(self, traffic: Traffic, grip: Grip | None = None) -> Traffic | None:
        """From now on the alias's calls are divided so; returns how they were before, None: nobody had them.

        Notes which versions of the name are live, and which are not any more. Raises LeaseLost when `grip`, under which
        it is done, is none any more, and then writes nothing.
        """
        ...

    def traffic(self, name: str, alias: str) -> Traffic | None:
        """Who gets the alias's calls now; None: nobody."""
        ...

    def all_traffic(self) -> list[Traffic]:
        """Who gets each alias's calls now."""
        ...

    def moves(self, name: str, alias: str | None = None) -> list[Traffic]:
        """How the calls were divided, newest first."""
        ...

    def add_report(self, name: str, version: int, report: Json, now: datetime) -> None:
        """Keep what was measured of a version; a later one of the same suite (`report["suite"]`) takes its place."""
        ...

    def reports(self, name: str, version: int) -> list[Json]:
        """What was measured of a version, by suite; each with `at`."""
        ...


class PromotionStore(Protocol):
    """Promotions, and what they have placed at gateways. Every write of a promotion goes through a grip."""

    def begin(self, promotion: Promotion) -> Promotion:
        """Insert it; returns it with `before`. An unfinished one of the alias ends as superseded, whoever holds it."""
        ...

    def get(self, promotion_id: str) -> Promotion:
        """Raises NotFound."""
        ...

    def recent(self, name: str | None = None, *, version: int | None = None, limit: int = 20) -> list[Promotion]:
        """Those of a name, or of one version, newest first."""
        ...

    def due(self, now: datetime, limit: int, *, measuring: bool | None = None) -> Sequence[Due]:
        """Those that are due and held by nobody, longest due first; `measuring`: only those that are, or are not."""
        ...

    def under_way(self) -> bool:
        """Whether any has not ended: due, held, or waiting for its time."""
        ...

    def hold(self, promotion_id: str, owner: str, now: datetime, ttl: timedelta) -> Grip | None:
        """Take it for `ttl` if it is due, unfinished and free; else None."""
        ...

    def write(self, grip: Grip, fields: Json, *, keep: bool = False) -> Promotion:
        """Set these fields by name; give it back unless `keep`. Raises LeaseLost when a later grip exists or it has
        ended meanwhile, and then writes nothing.
        """
        ...

    def renew(self, grip: Grip, until: datetime) -> None:
        """Hold it for longer. Raises LeaseLost."""
        ...

    def place(self, placed: Placed) -> None:
        """Note that a gateway is about to have this, before it is told. Idempotent by gateway and id."""
        ...

    def unplace(self, gateway: str, deployment_id: str) -> None:
        """Note that it has it no more; a version that no gateway has, and that has no calls, has retired.

        Silent if it is not noted.
        """
        ...

    def placed(self) -> list[Placed]:
        """All that gateways should have, oldest first."""
        ...
