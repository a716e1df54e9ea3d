"""A tuned model's versions, who of them gets an alias's calls, and a promotion: the way from trained to live."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

Json = dict[str, Any]


class ModelStatus(StrEnum):
    """How far a version has come. Each promotion moves it; what it was trained from never changes."""

    #: Recorded; no gateway has it. The embedded server answers as it by `name@vN` all the same.
    TRAINED = "trained"
    #: Its weights answer under its own name where they are held; not every gateway of the promotion has it yet.
    LOADED = "loaded"
    #: Every gateway of the promotion has it, without calls.
    REGISTERED = "registered"
    #: Each of them was asked, and this version answered.
    VERIFIED = "verified"
    #: An alias sends calls to it.
    LIVE = "live"
    #: It had calls once; gateways have forgotten it.
    RETIRED = "retired"
    #: Its last promotion ended for the reason in its notes, and was undone.
    FAILED = "failed"


@dataclass(frozen=True, kw_only=True)
class ModelVersion:
    """A tuned model, `name@v1`, and what it was made from. All but status and aliases never changes."""

    name: str
    version: int
    job_id: str
    provider: str
    base_model: str
    #: adapter folder and digest (local), or the provider's model id (hosted)
    artifact: Json
    #: recipe digest, data digest, base revision, versions, seed
    lineage: Json
    created_at: datetime
    status: ModelStatus = ModelStatus.TRAINED
    #: The aliases that point here now, sorted.
    aliases: tuple[str, ...] = ()

    @property
    def ref(self) -> str:
        """`name@v3`."""
        return f"{self.name}@v{self.version}"


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """Which versions get the calls of `name@alias`, from one moment on. Appended, never changed."""

    name: str
    alias: str
    #: Share by version; they sum to 1. Empty: nobody gets them any more.
    shares: Mapping[int, float]
    #: `promote v4`, `canary 10% v4`, `roll back`, `back: 3 of 10 calls failed`.
    reason: str
    #: Who moved it.
    by: str
    at: datetime
    #: Grows with every move; None before the store has numbered it.
    seq: int | None = None

    @property
    def version(self) -> int | None:
        """The one with most calls, of equals the older, which has been tried for longer; None: nobody gets them."""
        return min(self.shares, key=lambda version: (-self.shares[version], version), default=None)

    @property
    def settled(self) -> bool:
        """One version has all calls."""
        return len([share for share in self.shares.values() if share > 0]) == 1


#: How the reason of a move begins that gives back what a promotion had moved.
BACK = "back: "


def lasting(moves: Iterable[Traffic]) -> Iterator[Traffic]:
    """Of an alias's moves, newest first, those that were not taken back."""
    taken_back_to: Mapping[int, float] | None = None
    for move in moves:
        if taken_back_to is not None and move.shares != taken_back_to:
            continue
        taken_back_to = move.shares if move.reason.startswith(BACK) else None
        yield move


def way_back(moves: Sequence[Traffic]) -> Traffic | None:
    """Of an alias's moves, newest first, the one that a roll back restores; None: there is none.

    It is the last that had settled on another version; a canary goes back to the version beside it.
    """
    for move in list(lasting(moves))[1:]:
        if move.settled and (move.version != moves[0].version or not moves[0].settled):
            return move
    return None


class PromotionState(StrEnum):
    """Where a promotion is. Every step can be repeated; what ends one badly undoes what it had done."""

    #: What the gate asks for is being measured.
    EVALUATING = "evaluating"
    #: Each gateway is told of the version, which gets no calls there.
    REGISTERING = "registering"
    #: Each gateway is asked for it by its own name.
    PROVING = "proving"
    #: Its share of the calls grows step by step, with a check before each.
    SHIFTING = "shifting"
    #: It has all calls. Final.
    LIVE = "live"
    #: The gate is not reached; nothing was changed. Final.
    REFUSED = "refused"
    #: It was undone for the reason in `error`. Final.
    FAILED = "failed"
    #: Another promotion or a roll back of this alias came after it. Final.
    SUPERSEDED = "superseded"


PROMOTED: frozenset[PromotionState] = frozenset(
    {PromotionState.LIVE, PromotionState.REFUSED, PromotionState.FAILED, PromotionState.SUPERSEDED}
)


@dataclass(frozen=True, kw_only=True)
class Promotion:
    """One version on its way to an alias, as it stands in the store. Changed only by `promoter.Promoter`."""

    #: `pr_` and ten letters or digits.
    id: str
    name: str
    version: int
    alias: str
    #: In the order in which they are told: those that hold weights before those that pass calls on.
    gateways: tuple[str, ...]
    #: The shares that it gets one after the other, the last is 1.
    steps: tuple[float, ...] = (1.0,)
    #: Seconds that each share but the last is kept and checked.
    pause_s: float = 300.0
    #: The recipe's gate; None: there is none, or it was left out by `--no-gate`.
    gate: Json | None = None
    #: What an hour of hosting may cost (`3 USD`), where the provider wants the version deployed; None: nothing is
    #: agreed to.
    max_hosting: str | None = None
    state: PromotionState = PromotionState.EVALUATING
    #: How many of `steps` are in force.
    step: int = 0
    #: The version that had all calls when it began, and gets them back; None: nobody had. The store fills it in.
    before: int | None = None
    #: It gives calls back to a version that had them, without gate and proof.
    rollback: bool = False
    #: What has happened, as plain lines with their time: `{"at", "text"}`.
    notes: tuple[Json, ...] = ()
    #: What each gateway answered when it was asked, by gateway (`proof.Evidence`).
    evidence: Json = field(default_factory=dict)
    #: code, what, why, fix of its end; None unless refused or failed.
    error: Json | None = None
    #: Failures of the present step in a row.
    failures: int = 0
    #: When to look again, UTC; None once it has ended.
    due_at: datetime | None
    #: Who asked for it.
    by: str
    created_at: datetime
    #: When it ended, UTC; None until then.
    finished_at: datetime | None = None

    @property
    def ref(self) -> str:
        """`name@v3`."""
        return f"{self.name}@v{self.version}"

    @property
    def final(self) -> bool:
        """It has ended."""
        return self.state in PROMOTED


@dataclass(frozen=True, kw_only=True)
class Placed:
    """A deployment that a gateway should have, as we know it: what `sync` compares with what the gateway says."""

    gateway: str
    #: `deployments.Deployment.id`.
    id: str
    name: str
    version: int
    alias: str
    #: The name that it is listed under there.
    listed_as: str
    at: datetime


@dataclass(frozen=True, kw_only=True)
class Grip:
    """The right to move one promotion until `until`; a later grip has a higher token, and an older writes nothing."""

    promotion: Promotion
    owner: str
    token: int
    until: datetime
