"""Every error a user can meet, as one tree. Imports nothing of ours.

    FtError
    ├── RecipeError            E1xx  the recipe cannot be read or does not say a valid thing   exit 2
    ├── DataError              E2xx  a training file is missing, broken or does not fit        exit 2
    ├── NotEligible            E3xx  the target cannot or may not run this recipe              exit 6
    │   └── OverBudget               its cost is above limits.max_cost, or unknown             exit 7
    ├── ProviderError          E4xx  a provider said no, for good                              exit 1
    │   ├── ProviderUnavailable      nothing was done; the same call may succeed later         retried
    │   ├── OutcomeUnknown           the call may or may not have been carried out             looked up, then retried
    │   └── AuthenticationFailed     the provider does not accept the credential               exit 9
    ├── StateError             E5xx  the store, FT_HOME or the disk under it                   exit 1
    │   ├── StoreBusy                another process holds the store                           retried
    │   ├── LeaseLost                another worker took the job over; write nothing           dropped
    │   └── ShelfUnavailable         the bucket of adapters cannot be reached now              retried
    ├── TrainingError          E6xx  the local trainer ended without an adapter                exit 1
    ├── NotFound               E7xx  no such job, model, alias or code                         exit 5
    ├── ServingError           E75x  the embedded server or a model in it                      exit 1
    ├── WorkerError            E8xx  workers, the queue, a second `ft up`                      exit 1
    ├── WaitTimeout            E81x  a wait ended before the job did                           exit 4
    ├── GatewayError           E82x  a gateway said no, for good                               exit 1
    │   └── GatewayUnavailable       it cannot be reached; the same call may succeed later     retried
    ├── NotProved              E83x  a gateway answers, but not with the model that was meant  exit 1
    ├── GateClosed             E84x  a model version is not good enough to be promoted         exit 8
    ├── EvaluationError        E85x  a model version could not be measured                     exit 1
    ├── UsageError             E9xx  the command line asks for something that is not there     exit 2
    └── InternalError          E99x  a fault in ft itself                                      exit 1

An error carries one or more `Problem`s: what, why, fix, and where. Its class says whether to retry (`retry`)
and how the command line exits (`exit_code`). Errors are picklable: their only arguments are problems.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

Level = Literal["error", "warning"]


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One fault, said so that a user can mend it: what is wrong, why it matters, how to fix it."""

    #: Stable, `E` and three digits; `ft explain CODE` tells more.
    code: str
    #: One sentence without a full stop: what is wrong.
    what: str
    #: Why that is a fault. Empty when `what` says it all.
    why: str = ""
    #: What to do now, a command where there is one.
    fix: str = ""
    #: A warning is printed and does not stop anything.
    level: Level = "error"
    #: The file at fault, as the user named it; None when the fault is in no file.
    file: str | None = None
    #: 1-based; None when the fault is not at a line.
    line: int | None = None
    #: 1-based; None when the fault is not at a column.
    column: int | None = None
    #: Dotted name of the recipe or data field (`lora.r`); None when there is none.
    field: str | None = None
    #: The offending value as the user wrote it, shortened; None when there is none. Never a secret.
    value: str | None = None
    #: How often the fault is there in all.
    count: int = 1
    #: Other lines with the same fault, as far as they are kept.
    also: tuple[int, ...] = ()

    @property
    def where(self) -> str:
        """`file:line:column` as far as it is known, else empty."""
        parts = (self.file, self.line, self.column)
        return ":".join(str(part) for part in parts if part is not None)

    @property
    def brief(self) -> dict[str, str]:
        """code, what, why and fix: what a job's row keeps of it."""
        return {"code": self.code, "what": self.what, "why": self.why, "fix": self.fix}

    def lines(self) -> list[str]:
        """What a user reads: what (with code and place), where else, why, fix. Empty ones are left out."""
        place = f"{self.where}: " if self.where else ""
        out = [f"{place}{self.level} {self.code}: {self.what}"]
        if self.count > 1:
            out.append(f"  also: {self._elsewhere()}")
        if self.why:
            out.append(f"  why: {self.why}")
        if self.fix:
            out.append(f"  fix: {self.fix}")
        return out

    def _elsewhere(self) -> str:
        more = self.count - 1 - len(self.also)
        if not self.also:
            return f"{more} more of them"
        named = ("line " if len(self.also) == 1 else "lines ") + ", ".join(map(str, self.also))
        return f"{named} and {more} more" if more > 0 else named


class FtError(Exception):
    """Base of all our errors; its arguments are the problems found, at least one."""

    exit_code: ClassVar[int] = 1
    retry: ClassVar[bool] = False

    def __init__(self, *problems: Problem) -> None:
        super().__init__(*problems)
        self.problems = problems

    def __str__(self) -> str:
        return "\n".join(line for problem in self.problems for line in problem.lines())


class RecipeError(FtError):
    """The recipe cannot be read, or what it says is not valid."""

    exit_code = 2


class DataError(FtError):
    """A training file is missing, broken, or its rows do not fit the method."""

    exit_code = 2


class NotEligible(FtError):
    """The target cannot run this recipe: method, field, model, date or limit."""

    exit_code = 6


class OverBudget(NotEligible):
    """The cost is above the recipe's limit, or cannot be held against it."""

    exit_code = 7


class ProviderError(FtError):
    """The provider refused, for good: the same request would be refused again."""

    #: Seconds for which the provider asked to be left alone; None when it did not.
    after_s: float | None = None


class ProviderUnavailable(ProviderError):
    """Nothing was done at the provider; the same call may succeed later."""

    retry = True


class OutcomeUnknown(ProviderError):
    """The request may have been carried out: look the run key up before trying again."""

    retry = True


class AuthenticationFailed(ProviderError):
    """The credential is missing or was not accepted."""

    exit_code = 9


class StateError(FtError):
    """The database, FT_HOME or the disk under it cannot be used."""


class StoreBusy(StateError):
    """Another process holds the store for longer than we wait."""

    retry = True


class LeaseLost(StateError):
    """Another worker holds the lease now; whoever sees this must write nothing."""


class ShelfUnavailable(StateError):
    """The bucket that adapters are kept in cannot be reached, or not now; the same may succeed later."""

    retry = True


class TrainingError(FtError):
    """The local trainer ended without an adapter."""


class NotFound(FtError):
    """No such job, model, alias or code."""

    exit_code = 5


class ServingError(FtError):
    """The embedded server cannot load or run a model."""


class WorkerError(FtError):
    """A worker or the queue cannot do its work."""


class WaitTimeout(FtError):
    """The time given to a wait ended before the job did."""

    exit_code = 4


class GatewayError(FtError):
    """The gateway refused, for good: the same request would be refused again."""


class GatewayUnavailable(GatewayError):
    """The gateway cannot be reached, or not now; the same call may succeed later."""

    retry = True


class NotProved(FtError):
    """The gateway answers, but what answers is not the model version that was meant."""


class GateClosed(FtError):
    """The model version has not reached what its gate asks for."""

    exit_code = 8


class EvaluationError(FtError):
    """The model version could not be measured."""


class UsageError(FtError):
    """The command line asks for something that is not there."""

    exit_code = 2


class InternalError(FtError):
    """A fault in ft itself."""
