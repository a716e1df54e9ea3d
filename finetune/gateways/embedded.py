"""Our own server (`ft serve`, `ft up`). It takes versions and shares from the database, so nothing is sent to it.

To register is to look whether the server has the version: it reads the same database at every request. A version is
asked for by its own name (`support-bot@v3`), and the server says in a header which one answered.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from finetune.deployments import Deployment, GatewayKit, Registered, Said, Upstream
from finetune.errors import GatewayError, Problem, UsageError
from finetune.gateways.adapters import folder_faults, taken
from finetune.gateways.calling import Calls, Chat, Place, said
from finetune.jobs import Json

_VERSION: Final = re.compile(r"[^@]+@v[0-9]+")
#: Adapters lie in folders that are called by their digest's beginning.
_DIGEST: Final = re.compile(r"[0-9a-f]{12,64}")
#: Where the server is, when it is not on this machine.
_URL: Final = "FT_SERVER_URL"
#: What the server says, as `ft explain` knows it, of an adapter that does not fit, is gone, or has changed.
_LASTING: Final = re.compile(r"\bE(?:750|751|838)\b")
_ANSWERED_BY: Final = "x-ft-model"
#: The first answer of a base model waits for it to load.
_TIMEOUT_S: Final = 55.0


def build(kit: GatewayKit) -> "Embedded":
    """See `GatewayKit`. Raises UsageError where nobody has said where the server is."""
    if not (kit.environ.get(_URL) or kit.port):
        why, fix = "FT_PORT is 0: any free port", f"export {_URL}=..., as `ft up` says, or a port of its own by FT_PORT"
        raise UsageError(Problem(code="E825", what="the embedded server has no lasting address", why=why, fix=fix))
    place = Place(
        gateway="embedded",
        url=(kit.environ.get(_URL) or f"http://127.0.0.1:{kit.port}").rstrip("/"),
        url_name=_URL if kit.environ.get(_URL) else "FT_PORT",
        key=kit.api_key,
        key_name="FT_API_KEY",
        log="what `ft serve` or `ft up` prints",
    )
    return Embedded(Calls(place, timeout_s=_TIMEOUT_S))


class Embedded:
    """Also `Shares`, `Bases` and `FollowsBooks`. Keeps nothing and sends no change."""

    follows_books = True

    def __init__(self, calls: Calls) -> None:
        self.name = calls.place.gateway
        self._calls = calls

    def preflight(self, deployment: Deployment) -> list[Problem]:
        """See `Gateway.preflight`. What does not fit the base is refused by the server when it is first asked."""
        faults = folder_faults(self.name, deployment)
        try:
            self._cards()
        except GatewayError as error:
            return [*faults, *error.problems]
        return faults

    def register(self, deployment: Deployment) -> Upstream:
        """See `Gateway.register`. The version has to be in the database already."""
        if faults := folder_faults(self.name, deployment):
            raise GatewayError(*faults)
        self._check(deployment, self._cards())
        place = self._calls.place
        return Upstream(
            kind="hosted_vllm",
            model=deployment.ref,
            api_base=f"{place.url}/v1",
            key_env=place.key_name if place.key else None,
        )

    def registered(self) -> list[Registered]:
        """See `Gateway.registered`: every version of the database that the server can answer with."""
        return [
            Registered(id=_id(name, str(card["root"])), says={"root": card["root"], "parent": card["parent"]})
            for name, card in self._cards().items()
            if _VERSION.fullmatch(name) and card.get("parent") and card.get("root")
        ]

    def probe(self, deployment: Deployment, messages: Sequence[Json], *, max_tokens: int) -> Said:
        """See `Gateway.probe`."""
        self._check(deployment, self._cards())
        return _said(self._chat(deployment.ref, messages, max_tokens), deployment.ref)

    def probe_base(self, deployment: Deployment, messages: Sequence[Json], *, max_tokens: int) -> Said:
        """See `Bases.probe_base`."""
        base = deployment.base_model
        return _said(self._chat(base, messages, max_tokens), base)

    def unregister(self, name: str) -> None:
        """Silent: a version is served for as long as it is in the database, which is not changed here."""

    def set_traffic(self, public: str, shares: Mapping[str, float]) -> None:
        """See `Shares.set_traffic`; the database has the shares already, and nothing is sent.

        What is looked at: the server has every version with a share, and the name stands for one of them.
        """
        cards = self._cards()
        unknown = [name for name in shares if not _has(cards, public, name)]
        if unknown:
            raise self._absent(" and ".join(unknown))
        refs = {_ref(public, name): share for name, share in shares.items()}
        points_to = cards.get(public, {}).get("root")
        if not refs.get(str(points_to)):
            raise GatewayError(
                Problem(
                    code="E829",
                    what=f"{public} is answered by {points_to or 'nothing'} in the embedded server",
                    why=f"its calls were to go to {' and '.join(ref for ref, share in refs.items() if share)}",
                    fix="see that the server was started with the same FT_HOME and FT_DATABASE_URL as this command",
                )
            )

    def ask(self, public: str, messages: Sequence[Json], *, max_tokens: int) -> Said:
        """See `Shares.ask`. `answered_by` is the version: `support-bot@v3`."""
        return _said(self._chat(public, messages, max_tokens), "")

    def _chat(self, model: str, messages: Sequence[Json], max_tokens: int) -> Chat:
        """Its answer. A 5xx of the server's may pass by itself, but not one about the adapter's own files."""
        answer = self._calls.ask(model, messages, max_tokens=max_tokens)
        if not answer.good and _LASTING.search(answer.text):
            fix = "restore the adapter's folder, or train again with `ft submit RECIPE --force`"
            what = f"the embedded server cannot load {model}"
            raise GatewayError(Problem(code="E829", what=what, why=answer.words, fix=fix))
        return said(model, answer)

    def _cards(self) -> dict[str, Json]:
        listed = self._calls.send("GET", "/v1/models").object().get("data")
        cards = listed if isinstance(listed, list) else []
        return {str(card["id"]): card for card in cards if isinstance(card, dict) and "id" in card}

    def _check(self, deployment: Deployment, cards: Mapping[str, Json]) -> None:
        card = cards.get(deployment.ref)
        if card is None:
            raise self._absent(deployment.ref)
        wanted, has = (
            (str(deployment.adapter), deployment.base_model),
            (str(card.get("root")), str(card.get("parent"))),
        )
        if has != wanted:
            raise taken(self._calls.place, deployment.ref, " on ".join(has), " on ".join(wanted))

    def _absent(self, what: str) -> GatewayError:
        return GatewayError(
            Problem(
                code="E829",
                what=f"the embedded server does not have {what}",
                why="it serves the versions of its database, and this one is not in it",
                fix="see that the server was started with the same FT_HOME and FT_DATABASE_URL as this command",
            )
        )


def _id(ref: str, root: str) -> str:
    """`Deployment.model` of a version, whose folder's name is the beginning of its digest."""
    folder = Path(root).name
    name = ref.replace("@", "-")
    return f"{name}-{folder[:12]}" if _DIGEST.fullmatch(folder) else name


def _ref(public: str, deployment_id: str) -> str:
    """`support-bot@v3` of `support-bot@staging--v3-0a1b2c3d4e5f`."""
    version = deployment_id.removeprefix(f"{public}--").partition("-")[0]
    return f"{public.partition('@')[0]}@{version}"


def _has(cards: Mapping[str, Json], public: str, deployment_id: str) -> bool:
    """Whether this very content is served as the version that the id names."""
    card = cards.get(_ref(public, deployment_id))
    if card is None:
        return False
    folder = Path(str(card.get("root"))).name
    return not _DIGEST.fullmatch(folder) or deployment_id.endswith(f"-{folder[:12]}")


def _said(chat: Chat, expected: str) -> Said:
    return Said(text=chat.text, answered_by=chat.headers.get(_ANSWERED_BY), expected=expected)
