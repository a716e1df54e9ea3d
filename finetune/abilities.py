"""What only some providers can do, each a small protocol of its own: ask with `isinstance`.

A provider (`ports.Provider`) implements those that its API has. Faults are those of `ports.Provider`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from finetune.errors import Problem
from finetune.jobs import Json

if TYPE_CHECKING:
    from finetune.deployments import Upstream


@runtime_checkable
class Startable(Protocol):
    """Creates jobs that wait, and cost nothing, until they are started. `poll` tells of one with a `quote`."""

    def start(self, remote_id: str) -> None:
        """Start it: from here on it costs. Idempotent: silent if it was started before.

        Raises ProviderUnavailable, OutcomeUnknown (the next poll tells), ProviderError.
        """
        ...


@runtime_checkable
class Pausable(Protocol):
    """Can hold a running job and go on with it."""

    def pause(self, remote_id: str) -> None:
        """Ask for a pause; `poll` tells when it is reached. Idempotent."""
        ...

    def resume(self, remote_id: str) -> None:
        """Ask it to go on. Idempotent."""
        ...


@runtime_checkable
class Keyed(Protocol):
    """Needs credentials."""

    def unconfigured(self) -> list[Problem]:
        """What is missing before anything can be sent: one problem a variable. Sends nothing."""
        ...

    def reach(self) -> str:
        """Ask the API something that costs nothing; returns what it is that answered, for people.

        Blocks for at most ten seconds. Raises ProviderError: AuthenticationFailed, ProviderUnavailable.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class RemoteFile:
    """A file of ours at a provider."""

    #: What `delete_file` takes.
    file_id: str
    name: str
    bytes: int
    uploaded_at: datetime


@runtime_checkable
class Storing(Protocol):
    """Keeps what was uploaded until it is deleted."""

    def files(self) -> list[RemoteFile]:
        """The files that ft has uploaded, newest first; others of the account are not shown."""
        ...

    def delete_file(self, file_id: str) -> None:
        """Delete it for good. Idempotent: silent if it is not there."""
        ...

    def file_ids(self, data: Json) -> Sequence[str]:
        """The ids of the files in what `upload` returned (`RemoteData.ids`)."""
        ...


@runtime_checkable
class Reporting(Protocol):
    """Has files that tell of a finished training."""

    def fetch_results(self, remote_id: str, folder: Path) -> list[Path]:
        """Download them into the folder, which is made. Idempotent. Raises what `poll` raises, and StateError."""
        ...


@runtime_checkable
class Yielding(Protocol):
    """Gives the trained adapter away, so that it can be served elsewhere."""

    def fetch_adapter(self, artifact: Json, folder: Path) -> bool:
        """Download it into the folder, which is made, as PEFT keeps it (`adapter_config.json`, safetensors).

        `artifact` is what `poll` has told. False: the provider has none of this job. Idempotent; what is half there is
        fetched anew. Blocks for minutes. Raises ProviderError, StateError.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Past:
    """A job of an account that has ended well, whoever started it."""

    remote_id: str
    base_model: str
    #: `sft`, `dpo`; another word: a method that recipes do not have.
    method: str
    #: As `poll` would have told it.
    artifact: Json
    #: What the model was to be called; None: nobody said.
    label: str | None
    #: `training` in the words of recipes, as far as they were told.
    training: Json
    #: `dpo.beta`; None: nobody told, or the method has none.
    beta: float | None = None
    seed: int | None
    train_file: str
    validation_file: str | None
    #: The run key, when it is a job of ft's.
    run_key: str | None
    created_at: datetime
    finished_at: datetime


@runtime_checkable
class Importable(Protocol):
    """Tells of the jobs of an account, so that they can be kept and trained again elsewhere."""

    def past(self, export: Sequence[Json] | None = None) -> list[Past]:
        """All that have ended well, oldest first. `export`: jobs as the API lists them, instead of asking.

        Raises ProviderError, also for an export that is none.
        """
        ...

    def fetch_file(self, file_id: str, to: Path) -> bool:
        """Download an uploaded file, whole or not at all; False: it is not there any more. Raises ProviderError."""
        ...


@runtime_checkable
class Notifying(Protocol):
    """Calls us when a job has ended. A hint, like the queue: polling stays the truth."""

    def notice(self, headers: Mapping[str, str], body: bytes) -> str | None:
        """The remote id that a signed call is about; None: it is about no job. Sends nothing.

        Raises AuthenticationFailed when the signature is missing, wrong or too old.
        """
        ...


@runtime_checkable
class Answering(Protocol):
    """Its tuned models answer by a name of their own as soon as they are trained."""

    def answers_at(self, artifact: Json) -> "Upstream":
        """Where, and by which name. Sends nothing. Raises ProviderError E837: it answers nowhere yet."""
        ...


@dataclass(frozen=True, kw_only=True)
class Hosting:
    """What it costs to keep one tuned model deployed, whether anybody asks it or not."""

    #: US dollars an hour; None: no price is known.
    usd_per_hour: Decimal | None
    #: Who says so, and when it was read; why there is none.
    source: str
    #: How it is deployed, for people: `Standard, 50 units`.
    kind: str
    #: What sets the figure, or another one, for people.
    fix: str


@dataclass(frozen=True, kw_only=True)
class BaseAt:
    """Where a base answers untuned, to be compared with what was tuned from it."""

    #: None: nowhere.
    at: "Upstream | None"
    #: Who says so, for people.
    why: str
    #: What makes it answer, for people; empty: nothing does, or it does already.
    fix: str = ""
    #: False: nobody tells beforehand whether it answers there; the first question will.
    known: bool = True


@dataclass(frozen=True, kw_only=True)
class Hosted:
    """One of our deployments at a provider, as the provider lists it."""

    #: The name that `deploy` was given.
    name: str
    #: The provider's own word for how far it is.
    state: str
    #: It is kept, and answers nobody until it is deployed again: somebody has stopped it.
    stopped: bool = False


@runtime_checkable
class Deployable(Protocol):
    """Its tuned models have to be deployed before they answer, and cost by the hour from then on.

    Names are given by the caller, are made of the version's content, and are never used for anything else.
    """

    def hosting(self, base_model: str) -> Hosting:
        """What a deployment of a model tuned from this base costs. Sends nothing. Raises nothing."""
        ...

    def undeployable(self) -> list[Problem]:
        """What is missing before anything can be deployed: one problem a variable. Sends nothing."""
        ...

    def base_at(self, base_model: str) -> BaseAt:
        """Where the base itself answers: served to all, on a deployment that somebody has made of it, or nowhere.

        Asked before anything is deployed. Changes nothing and costs nothing; blocks for seconds. Raises ProviderError.
        """
        ...

    def deploy(self, name: str, artifact: Json) -> "Upstream | None":
        """Have the model deployed under this name; None: it is under way, ask again after some seconds.

        Idempotent: what is there is found again by its name. From the first call on it costs. Raises
        ProviderUnavailable (nothing is known to have been done), ProviderError: it has failed, or something else has
        this name.
        """
        ...

    def hosted_at(self, name: str) -> "Upstream":
        """Where a deployment of this name answers. Raises ProviderError: it is not there, or the address is not set."""
        ...

    def deployed(self) -> list[Hosted]:
        """Those that carry our marks, whoever has made them. Raises ProviderError."""
        ...

    def undeploy(self, name: str) -> None:
        """End it, and with it the cost. Idempotent: silent if it is not there, or is not ours. Raises ProviderError."""
        ...
