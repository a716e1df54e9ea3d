"""Whether a server writes conversations as the training did. With another chat template a model answers worse, unseen.

Templates themselves are not compared: servers have them in several languages, and with settings of their own. What
counts is what they make of the same conversations, as tokens, as text, or, where a server tells no more, in number.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final, TypeVar

from finetune.deployments import Rendered, TemplateOf
from finetune.errors import Level, Problem
from finetune.gateways.calling import Answer, Calls

#: How `allow_ignored` names what is accepted here.
FIELD: Final = "register.gateways"
#: Of a text around its first difference.
_SHOWN: Final = 24
_Kind = TypeVar("_Kind")


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What a server makes of a conversation, as far as it tells; the first that is not None is compared."""

    tokens: tuple[int, ...] | None = None
    #: How its vocabulary writes each token; empty when it does not say.
    pieces: tuple[str, ...] = ()
    #: Without the beginning's token, which such a server adds by itself.
    text: str | None = None
    #: How many tokens.
    count: int | None = None
    #: Its own words when it refuses the conversation.
    refusal: str | None = None
    #: Why it tells nothing.
    unknown: str | None = None


#: Asks a server, by the name of a model there. Raises GatewayError.
Look = Callable[[Calls, str, Rendered], Seen]


@dataclass(frozen=True, kw_only=True)
class _Difference:
    what: str
    #: It may be nothing but the token that stands for a beginning.
    bos: bool = False
    #: Both are of one length, as when they differ in a date.
    same_length: bool = False


def template_faults(
    gateway: str, what: str, template: TemplateOf | None, look: Callable[[Rendered], Seen], fix: str
) -> list[Problem]:
    """One problem at most: an error where the server writes something else than the training, a warning in doubt.

    `what` was, or will be, trained; `fix` gives the server another template. Raises what `look` raises.
    """
    known = template() if template else None
    if known is None:
        return []
    if known.unknown:
        return [not_compared(gateway, known.unknown, known.fix)]
    for chat in known.chats:
        seen = look(chat)
        if seen.unknown is not None:
            return [not_compared(gateway, seen.unknown)]
        found = _difference(chat, seen)
        if found is not None:
            doubtful = found.bos or (known.dated and found.same_length)
            return [_mismatch(gateway, what, found, "warning" if doubtful else "error", fix)]
    return []


def not_compared(gateway: str, why: str, fix: str = "") -> Problem:
    """Nothing is known to be wrong, and nothing to be right. `fix` makes it known; empty: nothing does."""
    return Problem(
        code="E842",
        level="warning",
        what=f"the chat template that {gateway} uses is not compared with that of the training",
        why=f"{why}; with another template the model answers worse, and nothing says so",
        fix=fix or f"see that {gateway} uses the base model's own chat template",
    )


def tokenized(calls: Calls, model: str, chat: Rendered) -> Seen:
    """By vLLM's `POST /tokenize`."""
    body = {"model": model, "messages": list(chat.messages), "add_generation_prompt": True, "return_token_strs": True}
    answer = calls.send("POST", "/tokenize", body)
    if early := _no_answer(answer):
        return early
    told = answer.object()
    tokens = _all(int, told.get("tokens"))
    if tokens is None:
        return Seen(unknown=f"{calls.place.gateway} answers POST /tokenize without tokens")
    return Seen(tokens=tokens, pieces=_all(str, told.get("token_strs")) or ())


def applied(calls: Calls, model: str, chat: Rendered) -> Seen:
    """By llama-server's `POST /apply-template`, which loads the model."""
    answer = calls.send("POST", "/apply-template", {"model": model, "messages": list(chat.messages)})
    if early := _no_answer(answer):
        return early
    text = answer.object().get("prompt")
    if not isinstance(text, str):
        return Seen(unknown=f"{calls.place.gateway} answers POST /apply-template without a prompt")
    return Seen(text=text)


def counted(calls: Calls, model: str, chat: Rendered) -> Seen:
    """By asking for one token of an answer: how many tokens the question had, by the answer's `usage`."""
    answer = calls.ask(model, chat.messages, max_tokens=1)
    if early := _no_answer(answer):
        return early
    usage = answer.object().get("usage")
    count = usage.get("prompt_tokens") if isinstance(usage, dict) else None
    if not isinstance(count, int):
        return Seen(unknown=f"{calls.place.gateway} does not tell how many tokens a question has")
    return Seen(count=count)


def _no_answer(answer: Answer) -> Seen | None:
    if answer.status in (HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.NOT_IMPLEMENTED):
        return Seen(unknown=f"{answer.place.gateway} answers {answer.call} with status {answer.status}")
    if answer.status == HTTPStatus.BAD_REQUEST:
        return Seen(refusal=answer.words)
    return None


def _all(kind: type[_Kind], values: Any) -> tuple[_Kind, ...] | None:
    """The list's values if all are of the kind."""
    if isinstance(values, list) and all(type(value) is kind for value in values):
        return tuple(values)
    return None


def _difference(chat: Rendered, seen: Seen) -> _Difference | None:
    if seen.refusal is not None:
        return _Difference(what=f"it refuses a conversation that the training's template writes: {seen.refusal}")
    if seen.tokens is not None:
        return _of_tokens(chat, seen.tokens, seen.pieces)
    if seen.text is not None:
        return _of_texts(chat.text.removeprefix(chat.bos), seen.text.removeprefix(chat.bos))
    return _of_counts(chat, seen.count)


def _of_tokens(chat: Rendered, there: tuple[int, ...], pieces: tuple[str, ...]) -> _Difference | None:
    here = chat.tokens
    if here == there:
        return None
    at = _first(here, there)
    ours, theirs = _token(here, chat.pieces, at), _token(there, pieces, at)
    what = f"token {at + 1} of a conversation is {ours} in the training, {theirs} there"
    bos = None if chat.bos_id is None else (chat.bos_id,)
    only_bos = bos is not None and (here == bos + there or there == bos + here)
    return _Difference(what=what, bos=only_bos, same_length=len(here) == len(there))


def _of_texts(here: str, there: str) -> _Difference | None:
    if here == there:
        return None
    at = _first(here, there)
    ours, theirs = _part(here, at), _part(there, at)
    what = f"from character {at + 1} on a conversation is {ours} in the training, {theirs} there"
    return _Difference(what=what, same_length=len(here) == len(there))


def _of_counts(chat: Rendered, there: int | None) -> _Difference | None:
    here = len(chat.tokens)
    if there is None or here == there:
        return None
    has_bos = chat.bos_id is not None and chat.tokens[:1] == (chat.bos_id,)
    only_bos = chat.bos_id is not None and there == (here - 1 if has_bos else here + 1)
    return _Difference(what=f"a conversation has {here} tokens in the training, {there} there", bos=only_bos)


def _first(here: Sequence[object], there: Sequence[object]) -> int:
    """Where they differ first; the length of the shorter when it is how the longer begins."""
    pairs = enumerate(zip(here, there, strict=False))
    return next((at for at, (one, other) in pairs if one != other), min(len(here), len(there)))


def _token(tokens: tuple[int, ...], pieces: tuple[str, ...], at: int) -> str:
    if at >= len(tokens):
        return "the end"
    return f"{pieces[at]!r} ({tokens[at]})" if len(pieces) == len(tokens) else str(tokens[at])


def _part(text: str, at: int) -> str:
    return repr(text[at : at + _SHOWN]) if at < len(text) else "the end"


def _mismatch(gateway: str, what: str, found: _Difference, level: Level, fix: str) -> Problem:
    why = "a model that is asked in another form than it has learned answers worse, and nothing says so"
    if found.bos:
        why = f"it may be the token for a beginning alone, which matters to some models; {why}"
    elif level == "warning":
        why = f"the template writes the date, which may be all that differs; {why}"
    return Problem(
        code="E841",
        level=level,
        what=f"{gateway} has another chat template than {what}: {found.what}",
        why=why,
        fix=f"{fix}; or accept it with `allow_ignored: [{FIELD}]`",
    )
