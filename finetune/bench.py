"""How versions are measured for a promotion, and what is asked of that before one costs by the hour."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from finetune.deployments import Bases
from finetune.jobs import Json
from finetune.versions import ModelVersion, Promotion

if TYPE_CHECKING:
    from finetune.placing import Places


class Verdict(Protocol):
    """What a gate says (`evaluation.gates.Verdict`)."""

    @property
    def passed(self) -> bool:
        """Whether the version may go on."""
        ...

    @property
    def reasons(self) -> Sequence[str]:
        """In sentences, what stands in the way first."""
        ...

    @property
    def warnings(self) -> Sequence[str]:
        """What should be known all the same."""
        ...


@dataclass(frozen=True, kw_only=True)
class Bench:
    """How versions are measured."""

    #: Measure a version for this gate (None: for its proof only) and keep the reports. Blocks for minutes.
    measure: Callable[[ModelVersion, Json | None], list[Json]]
    #: What the gate says to these reports.
    decide: Callable[[Json, Sequence[Json]], Verdict]
    #: What will stand against measuring a hosted one so, raised before it is deployed.
    foresee: Callable[[ModelVersion, Json | None], None] = lambda model, gate: None

    def foreseen(self, places: "Places", model: ModelVersion, promotion: Promotion, *, golden: bool) -> None:
        """Raise what will stand against measuring a version for its gate or its proof, once it is deployed.

        `golden`: it has been measured over its base, so its proof needs nothing more. Raises what `foresee` does.
        """
        if promotion.gate is not None:
            self.foresee(model, promotion.gate)
            return
        callers = [name for name in promotion.gateways if not places.hosts(name)]
        if not golden and not all(isinstance(places.gateway(name), Bases) for name in callers):
            self.foresee(model, None)
