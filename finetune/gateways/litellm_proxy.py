"""The LiteLLM proxy as callers and we meet it, whichever way its entries are written."""

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from http import HTTPStatus
from typing import Any, Final

from finetune.deployments import Deployment, Registered, Said
from finetune.errors import GatewayError, GatewayUnavailable, Problem
from finetune.gateways.calling import Answer, Calls, Place, said, shown
from finetune.gateways.litellm_entries import agrees, entry, guard, id_of, is_ours, registered
from finetune.jobs import Json
from finetune.ports import Clock

URL: Final = "LITELLM_URL"
KEY: Final = "LITELLM_MASTER_KEY"
_EVERY_S: Final = 0.05
#: The first version whose model information gives back fields of others.
_OLDEST: Final = (1, 60)
_ANSWERED: Final = "x-litellm-model-id"
#: How it divides calls by weight; its other strategies look at no weights.
_BY_WEIGHT: Final = "simple-shuffle"
_PARTS: Final = ("litellm_params", "model_info")
#: What it says instead of an empty list.
_EMPTY: Final = ("Model List not loaded in", "Router is not loaded in")


def place(environ: Mapping[str, str], name: str) -> Place:
    """Where the environment says that the proxy is."""
    return Place(
        gateway=name,
        url=environ.get(URL) or "http://127.0.0.1:4000",
        url_name=URL,
        key=environ.get(KEY) or None,
        key_name=KEY,
        log="the log of the LiteLLM proxy",
    )


class Proxy:
    """The calls that both ways have in common. None changes anything."""

    def __init__(self, calls: Calls, chats: Calls) -> None:
        """`chats` are the calls that models answer, and may take longer."""
        self.calls, self._chats = calls, chats

    def entries(self) -> list[Json]:
        """All entries of one of its workers, ours and others', as it lists them."""
        answer = self.calls.send("GET", "/model/info")
        if self.is_empty(answer):
            return []
        self.guard_key(answer)
        listed = answer.object().get("data")
        rows = listed if isinstance(listed, list) else []
        return [row for row in rows if isinstance(row, dict) and all(isinstance(row.get(n), dict) for n in _PARTS)]

    def is_empty(self, answer: Answer) -> bool:
        """Whether this says, as a failure, that the proxy has no model at all."""
        return answer.status == HTTPStatus.INTERNAL_SERVER_ERROR and any(words in answer.text for words in _EMPTY)

    def guard_key(self, answer: Answer) -> None:
        """Raises GatewayError when the proxy does not take the key.

        A proxy without a database answers a wrong key with 400 and "No connected db.", and none at all with a bare
        500, which would be taken for a failure that passes.
        """
        wrong = answer.status == HTTPStatus.BAD_REQUEST and "no_db_connection" in answer.text
        missing = answer.status == HTTPStatus.INTERNAL_SERVER_ERROR and not (self.calls.place.key or _said_why(answer))
        if wrong or missing:
            raise GatewayError(
                Problem(
                    code="E821",
                    what=f"LiteLLM does not take the key in {KEY}"
                    if wrong
                    else f"LiteLLM asks for a key, and {KEY} is empty",
                    why=f"it says: {answer.words}",
                    fix=f"set {KEY} to the master_key of the proxy's configuration",
                )
            )

    def differences(self, wanted: Mapping[str, Json | None]) -> list[str]:
        """Ids that one of the workers does not list as it should; None: it should not list it."""
        there = {id_of(one): one for one in self.entries() if is_ours(one)}
        out = []
        for name, one in wanted.items():
            listed = there.get(name)
            same = listed is one if listed is None or one is None else agrees(listed, one)
            out += [] if same else [name]
        return out

    def await_entries(
        self,
        wanted: Mapping[str, Json | None],
        clock: Clock,
        within_s: float,
        *,
        settled: Callable[[int], bool],
        dead: Callable[[], bool] = lambda: False,
    ) -> None:
        """Block until `settled` says that so many looks in a row without a difference are enough.

        Raises GatewayError after `within_s`, or as soon as the proxy is `dead`.
        """
        end = clock.now() + timedelta(seconds=within_s)
        looks, why = 0, "it was not asked in time"
        while not dead():
            try:
                different = self.differences(wanted)
                why = f"it does not list as it should: {', '.join(different[:3])}"
            except GatewayUnavailable as error:
                different, why = ["?"], error.problems[0].why
            looks = 0 if different else looks + 1
            if looks and settled(looks):
                return
            if clock.now() > end:
                break
            clock.sleep(_EVERY_S)
        else:
            why = "its gunicorn master has ended"
        raise GatewayError(_not_taken(self.calls.place, why, within_s))

    def registered(self) -> list[Registered]:
        """See `Gateway.registered`."""
        return registered(self.entries())

    def probe(self, deployment: Deployment, messages: Sequence[Json], *, max_tokens: int) -> Said:
        """See `Gateway.probe`. An answer that the proxy has kept from before proves nothing, so none is asked for."""
        more: dict[str, Any] = {"disable_fallbacks": True, "cache": {"no-cache": True}}
        answer = self._chats.ask(deployment.id, messages, max_tokens=max_tokens, **more)
        return self._said(deployment.id, answer, expected=deployment.id)

    def ask(self, public: str, messages: Sequence[Json], *, max_tokens: int) -> Said:
        """See `Shares.ask`."""
        return self._said(public, self._chats.ask(public, messages, max_tokens=max_tokens), expected="")

    def _said(self, model: str, answer: Answer, *, expected: str) -> Said:
        self.guard_key(answer)
        return Said(text=said(model, answer).text, answered_by=answer.headers.get(_ANSWERED), expected=expected)

    def preflight(self, deployment: Deployment) -> list[Problem]:
        """Reachability, version, key, routing, and who else stands under the public name."""
        try:
            entries = self.entries()
            settings = self._settings()
            version = self._version()
        except GatewayError as error:
            return list(error.problems)
        names = _of_names(deployment.public, entries)
        return [*_of_version(version), *_of_entry(deployment), *names, *_of_routing(deployment, settings)]

    def _settings(self) -> Json:
        """The router's settings as they are in force; empty from a version that does not tell them."""
        # `/router/settings` lacks the default fallbacks.
        answer = self.calls.send("GET", "/get/config/callbacks")
        values = answer.object().get("router_settings") if answer.good else None
        return values if isinstance(values, dict) else {}

    def _version(self) -> str | None:
        """The proxy's version; None when it does not tell it."""
        for path in ("/health/readiness/details", "/health/readiness"):
            answer = self.calls.send("GET", path)
            told = answer.object().get("litellm_version") if answer.good else None
            if isinstance(told, str):
                return told
        return None


def _said_why(answer: Answer) -> bool:
    """Whether a failure is one that the proxy has words for."""
    return answer.text.startswith("{")


def _not_taken(where: Place, why: str, within_s: float) -> Problem:
    return Problem(
        code="E823",
        what=f"the LiteLLM proxy at {shown(where.url)} did not take the change within {within_s:g} s",
        why=why,
        fix=f"look into {where.log}; see that its configuration includes ft's file, and that {URL} is the proxy that "
        "is told to reload",
    )


def guard_names(public: str, entries: Sequence[Json]) -> None:
    """Raises GatewayError when somebody else's entry stands under the public name."""
    if problems := _of_names(public, entries):
        raise GatewayError(*problems)


def _of_version(version: str | None) -> list[Problem]:
    numbers = tuple(int(part) for part in (version or "").split(".")[:2] if part.isdigit())
    if version is None or numbers >= _OLDEST:
        return []
    return [
        Problem(
            code="E825",
            what=f"the LiteLLM proxy is of version {version}",
            why="what ft relies on was not there yet",
            fix="install 1.106 or newer",
        )
    ]


def _of_entry(deployment: Deployment) -> list[Problem]:
    """What the proxy would not load. Nothing yet for a deployment whose upstream is not known yet."""
    try:
        if deployment.upstream is not None:
            guard([entry(deployment)])
    except GatewayError as error:
        return list(error.problems)
    return []


def _of_names(public: str, entries: Sequence[Json]) -> list[Problem]:
    """Entries of others under the public name: they would share its calls."""
    others = [one for one in entries if one.get("model_name") == public and not is_ours(one)]
    return [
        Problem(
            code="E824",
            what=f"LiteLLM has a model called {public} that is not of ft",
            why=f"it passes calls to {one['litellm_params'].get('model')} and would get a part of the name's calls",
            fix=f"rename it in the proxy's configuration, or give the recipe another name than {public}",
        )
        for one in others
    ]


def _of_routing(deployment: Deployment, settings: Json) -> list[Problem]:
    """Settings of the router under which a public name does not go where its weights say."""
    out = []
    strategy = settings.get("routing_strategy") or _BY_WEIGHT
    if strategy != _BY_WEIGHT:
        out.append(
            Problem(
                code="E825",
                what=f"LiteLLM's routing_strategy is {strategy}",
                why="it looks at no weights: a canary would get any share of the calls",
                fix=f"set router_settings.routing_strategy to {_BY_WEIGHT}",
            )
        )
    aliases = settings.get("model_group_alias") or {}
    if named := sorted({deployment.public, deployment.id} & set(aliases)):
        out.append(
            Problem(
                code="E824",
                what=f"LiteLLM has an alias {named[0]} (model_group_alias)",
                why="it goes before the model of that name, so what is registered would never be asked",
                fix="remove the alias from router_settings",
            )
        )
    if keys := _fallen_back(deployment, settings.get("fallbacks")):
        out.append(
            Problem(
                code="E824",
                level="warning",
                what=f"LiteLLM has fallbacks for {' and '.join(keys)}",
                why="when the tuned model fails, another one answers in its name with status 200; ft's own probes see "
                f"it by the header {_ANSWERED}, callers do not",
                fix="remove them, if callers must know who answers (`*` are the default_fallbacks)",
            )
        )
    return out


def _fallen_back(deployment: Deployment, fallbacks: Any) -> list[str]:
    rows = fallbacks if isinstance(fallbacks, list) else []
    keys = {name for row in rows if isinstance(row, dict) for name in row}
    return sorted(keys & {deployment.public, deployment.id, "*"})
