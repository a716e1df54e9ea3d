"""Deployments: model versions as gateways know them, and the seam to gateways.

A gateway is where callers ask. Some hold the weights (the embedded server, vLLM, Ollama ...), some pass calls on to
where the weights are (LiteLLM). A deployment's names are made of its content and are never used for anything else, so
a name can never answer with other weights than the ones that it was made for.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

from finetune.errors import Problem
from finetune.jobs import Json
from finetune.ports import Clock


@dataclass(frozen=True, kw_only=True)
class Upstream:
    """Where a deployment's weights answer, for a gateway that passes calls on to them."""

    #: How it speaks, as LiteLLM names providers: `hosted_vllm` for what speaks OpenAI's protocol, `ollama_chat`.
    kind: str
    #: The name that answers there; SGLang wants `base:adapter`.
    model: str
    #: `http://127.0.0.1:8765/v1`; None for a hosted provider's own address.
    api_base: str | None = None
    #: The environment variable that holds its key, never the key itself; None: it asks for none.
    key_env: str | None = None
    #: Further parameters that the provider needs to be found, such as `vertex_project`.
    params: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Rendered:
    """One conversation as the training's chat template writes it, up to where the model is to answer."""

    messages: tuple[Json, ...]
    text: str
    #: Ids of the text's tokens, and how the vocabulary writes each.
    tokens: tuple[int, ...]
    pieces: tuple[str, ...]
    #: The token that stands for a beginning, and its id, whether the text has it or not; empty and None: there is none.
    bos: str = ""
    bos_id: int | None = None


@dataclass(frozen=True, kw_only=True)
class Template:
    """The chat template of a training, by what it makes of some fixed conversations. A server has to make the same."""

    #: Empty when `unknown` says why.
    chats: tuple[Rendered, ...] = ()
    #: Why nothing can be compared; empty when it can.
    unknown: str = ""
    #: What helps against that; empty: nothing does here.
    fix: str = ""
    #: It writes the day's date, so that a server in another time zone writes something else.
    dated: bool = False


#: Looks for the template on this machine, which may take a second. Raises nothing.
TemplateOf = Callable[[], Template]


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """One model version behind one public name."""

    #: The version: `support-bot@v3`.
    ref: str
    #: The name that callers use: `support-bot` for its production, `support-bot@staging` for another alias.
    public: str
    #: sha256 of the artifact, or of what stands for it at a hosted provider.
    digest: str
    base_model: str
    #: The adapter's folder, absolute; None where a hosted provider has the weights.
    adapter: Path | None = None
    #: Where the weights answer; None while no gateway has loaded them.
    upstream: Upstream | None = None
    #: What it was trained with; None: it is not to be compared.
    template: TemplateOf | None = field(default=None, repr=False, compare=False)
    #: The provider's own words for a tuned model that has to be deployed there first; None for all others.
    artifact: Json | None = field(default=None, repr=False, compare=False)

    @property
    def model(self) -> str:
        """What holds the weights calls them: `support-bot-v3-0a1b2c3d4e5f`. One name a content, whatever the alias."""
        return f"{self.ref.replace('@', '-')}-{self.digest[:12]}"

    @property
    def id(self) -> str:
        """Its name among those of a public name: `support-bot@staging--v3-0a1b2c3d4e5f`. Can be asked for by itself."""
        return f"{self.public}--{self.ref.partition('@')[2]}-{self.digest[:12]}"


@dataclass(frozen=True, kw_only=True)
class Registered:
    """A deployment as a gateway lists it. Only what carries our marks is listed; the rest is not ours."""

    #: `Deployment.id` where the gateway knows public names, else `Deployment.model`.
    id: str
    #: The share of its public name's calls, 0 to 1; None where the gateway has no shares.
    share: float | None = None
    #: It is kept there, and answers nobody until it is registered again.
    stopped: bool = False
    #: What the gateway says of it that tells contents apart: digest, folder, base. For finding drift.
    says: Json = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Said:
    """One answer, with what tells who gave it."""

    text: str
    #: Who answered, by the gateway's own account (a header or the answer's `model`); None when it does not say.
    answered_by: str | None
    #: What `answered_by` is when the right model answered.
    expected: str


class Gateway(Protocol):
    """Where callers ask. One file each, entry point group `ft.gateways`.

    Every call ends within a minute. Raises GatewayUnavailable (nothing is known to have been done; the same call may
    succeed later), GatewayError (it refuses, for good) with the gateway's own words in the problem. Every change is
    idempotent: done twice it is done once.
    """

    #: The word users write in `register.gateways`.
    name: str

    def preflight(self, deployment: Deployment) -> list[Problem]:
        """All that stands against serving it here: rank, modules, base, template, reachability. Changes nothing."""
        ...

    def register(self, deployment: Deployment) -> Upstream | None:
        """Make it answer under its own name (`id` or `model`), with no share of the public name's calls.

        Returns where the weights answer, if they are here; None from a gateway that only passes calls on. What is
        there under this name with another content is a GatewayError, never overwritten.
        """
        ...

    def registered(self) -> list[Registered]:
        """What is here of ours, as the gateway itself tells it now."""
        ...

    def probe(self, deployment: Deployment, messages: Sequence[Json], *, max_tokens: int) -> Said:
        """Ask exactly this deployment, greedily, fallbacks off, whatever its share."""
        ...

    def unregister(self, name: str) -> None:
        """Forget what `registered` lists under this id. Silent when it is not there."""
        ...


@runtime_checkable
class Shares(Protocol):
    """A gateway that knows public names and divides their calls."""

    def set_traffic(self, public: str, shares: Mapping[str, float]) -> None:
        """From now on the calls of `public` go to these deployments (by `id`), in these shares, which sum to 1.

        Its other deployments of that name get none. In force when it returns, at once for all shares.
        Raises GatewayError for a deployment that is not registered, and then changes nothing.
        """
        ...

    def ask(self, public: str, messages: Sequence[Json], *, max_tokens: int) -> Said:
        """Ask as callers do. `expected` is empty: any of the name's deployments may answer."""
        ...


@runtime_checkable
class Bases(Protocol):
    """A gateway that also answers as the base model under a deployment."""

    def probe_base(self, deployment: Deployment, messages: Sequence[Json], *, max_tokens: int) -> Said:
        """What the base says, asked as in `Gateway.probe`."""
        ...


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What a recipe will make, as far as it decides who can serve it."""

    base_model: str
    #: Of the LoRA.
    rank: int
    #: Names of modules, or `all-linear`.
    target_modules: str | tuple[str, ...]
    #: What it will be trained with; None: it is not to be compared.
    template: TemplateOf | None = field(default=None, repr=False, compare=False)


@runtime_checkable
class Foresees(Protocol):
    """A gateway that can tell before a training what it will not serve."""

    def foresee(self, shape: Shape) -> list[Problem]:
        """What will stand against serving it. Loads nothing there; a gateway that is away is a warning."""
        ...


@runtime_checkable
class FollowsBooks(Protocol):
    """A gateway that takes every version, and its share, from our own books: nothing is sent to it."""

    #: Always True.
    follows_books: bool


@runtime_checkable
class Hosts(Protocol):
    """A gateway that is a provider's own hosting: it holds what was trained there, and costs by the hour.

    What it has under our marks and is in none of our books may be another installation's: it is told, never taken away.
    """

    #: The provider whose versions it holds, and no others.
    hosts: str


@dataclass(frozen=True, kw_only=True)
class GatewayKit:
    """What a gateway is built from. An entry point of the group `ft.gateways` is a function of this to a Gateway.

    Building one sends nothing. Raises UsageError when the environment lacks what the gateway needs.
    """

    #: The environment: addresses and credentials.
    environ: Mapping[str, str] = field(default_factory=dict, repr=False)
    clock: Clock
    #: Where the embedded server listens.
    port: int
    #: The key that the embedded server asks for; None: it asks for none.
    api_key: str | None = field(default=None, repr=False)
