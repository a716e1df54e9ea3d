"""Servers that load LoRA adapters while they run: vLLM's protocol, and how others differ from it.

A server is believed only in its list of models. It may answer that an adapter is loaded without listing it, and it
loads adapters of other bases without a word, so both are looked at here, before and after.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Final

from finetune.deployments import Deployment, Registered, Rendered, Said, Shape, Upstream
from finetune.errors import GatewayError, Problem
from finetune.gateways.adapters import (
    Limits,
    absent,
    base_fault,
    is_ours,
    lora_faults,
    not_there,
    rank_faults,
    refused,
    still_there,
    taken,
    target_faults,
)
from finetune.gateways.calling import Answer, Calls
from finetune.gateways.templates import Seen, template_faults
from finetune.jobs import Json

#: In the words of a server about an adapter that it has no code or no room for, now and later.
_NEVER: Final = re.compile(r"(?i)\b(rank|dora|modules_to_save|bias|supports?|compatible|target modules)\b")


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """How one server has it."""

    load: str
    unload: str
    #: The name that an adapter answers to, of the base's name and the adapter's.
    asked: Callable[[str, str], str]
    limits: Limits
    #: The limits as the server itself tells them, of those known here. Raises GatewayError.
    told: Callable[[Calls, Limits], Limits]
    #: Asks it, by the name of a model there, what it makes of a conversation.
    look: Callable[[Calls, str, Rendered], Seen]
    #: What to start it with so that it loads adapters while it runs.
    start: str
    #: What to start it with so that it serves a base under the base's own name; `{base}` stands for it.
    serve: str
    #: What helps when an adapter was loaded and is not listed.
    unlisted: str


class RuntimeLora:
    """One such server. Adapters are read from the folders where they lie, so the server has to see those folders.

    Also `Bases` and `Foresees`. A restart of the server forgets what was loaded: `registered` shows it, and `register`
    mends it.
    """

    def __init__(self, calls: Calls, dialect: Dialect) -> None:
        self.name = calls.place.gateway
        self._calls, self._dialect = calls, dialect

    def preflight(self, deployment: Deployment) -> list[Problem]:
        """See `Gateway.preflight`."""
        limits = self._dialect.limits
        try:
            limits = self._dialect.told(self._calls, limits)
            faults = self._served_faults(deployment, self._cards())
        except GatewayError as error:
            faults = list(error.problems)
        return lora_faults(self.name, deployment, limits) + faults

    def foresee(self, shape: Shape) -> list[Problem]:
        """See `Foresees.foresee`."""
        what, limits = "what the recipe trains", self._dialect.limits
        planned = Deployment(ref=what, public="", digest="", base_model=shape.base_model, template=shape.template)
        try:
            limits = self._dialect.told(self._calls, limits)
            faults = self._served_faults(planned, self._cards())
        except GatewayError as error:
            # It may be there by the time that the training has ended.
            faults = [replace(problem, level="warning") for problem in error.problems]
        # `all-linear` are modules that only the base's own code names.
        targets = () if isinstance(shape.target_modules, str) else shape.target_modules
        return [
            *rank_faults(self.name, what, shape.rank, limits),
            *target_faults(self.name, what, targets, limits),
            *faults,
        ]

    def register(self, deployment: Deployment) -> Upstream:
        """See `Gateway.register`."""
        cards = self._cards()
        limits = self._dialect.told(self._calls, self._dialect.limits)
        if faults := lora_faults(self.name, deployment, limits) + self._base_faults(deployment, cards):
            raise GatewayError(*faults)
        if deployment.model not in cards:
            # A restart may have given it another template, and forgotten what was loaded.
            if wrong := [each for each in self._template_faults(deployment, cards) if each.level == "error"]:
                raise GatewayError(*wrong)
            cards = self._load(deployment)
        self._check(deployment, cards)
        place = self._calls.place
        return Upstream(
            kind="hosted_vllm",
            model=self._asked(deployment, cards),
            api_base=f"{place.url.rstrip('/')}/v1",
            key_env=place.key_name if place.key else None,
        )

    def registered(self) -> list[Registered]:
        """See `Gateway.registered`."""
        return [
            Registered(id=name, says={"root": card.get("root"), "parent": card.get("parent")})
            for name, card in self._cards().items()
            if card.get("parent") and is_ours(name)
        ]

    def probe(self, deployment: Deployment, messages: Sequence[Json], *, max_tokens: int) -> Said:
        """See `Gateway.probe`."""
        cards = self._cards()
        self._check(deployment, cards)
        asked = self._asked(deployment, cards)
        said = self._calls.chat(asked, messages, max_tokens=max_tokens)
        return Said(text=said.text, answered_by=said.model, expected=asked)

    def probe_base(self, deployment: Deployment, messages: Sequence[Json], *, max_tokens: int) -> Said:
        """See `Bases.probe_base`."""
        base = self._base(deployment, self._cards())
        said = self._calls.chat(base, messages, max_tokens=max_tokens)
        return Said(text=said.text, answered_by=said.model, expected=base)

    def unregister(self, name: str) -> None:
        """See `Gateway.unregister`."""
        if not is_ours(name):
            return
        answer = self._calls.send("POST", self._dialect.unload, {"lora_name": name})
        # Its list decides: a refusal is no harm when there is nothing to remove, and a 200 is no proof.
        if name in self._cards():
            if answer.good:
                raise still_there(self._calls.place, name)
            answer.taken()

    def _cards(self) -> dict[str, Json]:
        """Models by id, as the server lists them now. Raises GatewayError."""
        listed = self._calls.send("GET", "/v1/models").object().get("data")
        cards = listed if isinstance(listed, list) else []
        return {str(card["id"]): card for card in cards if isinstance(card, dict) and "id" in card}

    def _load(self, deployment: Deployment) -> dict[str, Json]:
        body = {"lora_name": deployment.model, "lora_path": str(deployment.adapter)}
        answer = self._calls.send("POST", self._dialect.load, body)
        cards = self._cards()
        if deployment.model not in cards:
            if answer.good:
                raise not_there(self._calls.place, deployment.model, self._dialect.unlisted)
            self._refuse(deployment.model, answer)
        # Refused, and there all the same: somebody else loaded it between our two looks.
        return cards

    def _refuse(self, name: str, answer: Answer) -> None:
        # A server that has the call names the adapter; one without it says only that there is no such path.
        if answer.status in (HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED) and name not in answer.text:
            raise refused(answer, f"start {self.name} with {self._dialect.start}")
        # vLLM says 500 to what it will never load.
        if answer.status == HTTPStatus.INTERNAL_SERVER_ERROR and _NEVER.search(answer.words):
            raise refused(answer)
        answer.taken()

    def _check(self, deployment: Deployment, cards: Mapping[str, Json]) -> None:
        """Silent when the name stands for this very content. Raises GatewayError E827, or E829 when nothing does."""
        card = cards.get(deployment.model)
        if card is None:
            raise absent(self._calls.place, deployment)
        wanted = (str(deployment.adapter), self._base(deployment, cards))
        has = (str(card.get("root")), str(card.get("parent")))
        if has != wanted:
            raise taken(self._calls.place, deployment.model, " on ".join(has), " on ".join(wanted))

    def _asked(self, deployment: Deployment, cards: Mapping[str, Json]) -> str:
        return self._dialect.asked(self._base(deployment, cards), deployment.model)

    def _base(self, deployment: Deployment, cards: Mapping[str, Json]) -> str:
        """The name that the deployment's base model has there. Raises GatewayError E828."""
        for name, card in _bases(cards).items():
            if deployment.base_model in (name, card.get("root")):
                return name
        raise GatewayError(*self._base_faults(deployment, cards))

    def _served_faults(self, deployment: Deployment, cards: Mapping[str, Json]) -> list[Problem]:
        """What stands against it in what the server was started with."""
        return self._base_faults(deployment, cards) or self._template_faults(deployment, cards)

    def _template_faults(self, deployment: Deployment, cards: Mapping[str, Json]) -> list[Problem]:
        """Asked as the base: these servers take the base's template for all adapters, whatever lies beside those."""
        base = self._base(deployment, cards)
        # An adapter of its own may have brought a tokenizer along, in versions that looked for one.
        model = self._asked(deployment, cards) if deployment.model in cards else base
        fix = (
            f"start {self.name} without --chat-template, so that it takes the base model's own, or with "
            "--chat-template FILE, the one of the training"
        )
        look = self._dialect.look
        return template_faults(
            self.name, deployment.ref, deployment.template, lambda chat: look(self._calls, model, chat), fix
        )

    def _base_faults(self, deployment: Deployment, cards: Mapping[str, Json]) -> list[Problem]:
        bases = _bases(cards)
        if any(deployment.base_model in (name, card.get("root")) for name, card in bases.items()):
            return []
        fix = f"start it with {self._dialect.serve.format(base=deployment.base_model)}"
        return [base_fault(self.name, deployment, " and ".join(bases) or "no base model", fix)]


def _bases(cards: Mapping[str, Json]) -> dict[str, Json]:
    return {name: card for name, card in cards.items() if not card.get("parent")}
