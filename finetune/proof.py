"""Proof that a gateway answers with the model version that was meant. A 200 is none."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from difflib import SequenceMatcher
from typing import Any

from finetune.deployments import Bases, Deployment, Gateway, Said
from finetune.errors import NotProved, Problem
from finetune.jobs import Json

#: Asked where nobody has measured the version: what a base and a tuned model rarely answer alike.
PLAIN_QUESTIONS = (
    "Hello, who are you and what can you do for me?",
    "My order has not arrived yet. What should I do?",
    "Give me one short example of your work.",
)
_PLAIN_TOKENS = 48
#: Of the questions that have a golden answer, so many are asked.
_MOST = 4


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is asked, and what the version and its base are known to answer (None: not known)."""

    messages: Sequence[Json]
    max_tokens: int
    tuned: str | None = None
    base: str | None = None
    #: What other versions of the model answer, as far as they were asked the same.
    siblings: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What a gateway answered, kept with the promotion."""

    gateway: str
    #: The name that was asked for.
    asked: str
    #: Who answered, by the gateway's own account.
    answered_by: str
    #: Each with `question`, `said`, and `tuned` and `base` as far as they are known.
    answers: tuple[Json, ...]
    #: What the answers were held against: `golden answers`, those and `another version's`, where nothing answers as the
    #: base, or `the base at the gateway`.
    against: str
    #: UTC, ISO 8601.
    at: str

    def to_json(self) -> Json:
        """JSON values only."""
        return {**asdict(self), "answers": [dict(each) for each in self.answers]}


def golden_of(reports: Sequence[Mapping[str, Any]]) -> list[Json]:
    """The questions that a version and its base answer differently, out of what was measured."""
    # Another version's answers say nothing of the base's.
    own = [report for report in reports if report.get("over", "base") == "base"]
    return [each for report in own for each in report.get("golden", ())]


def questions(
    reports: Sequence[Mapping[str, Any]],
    siblings: Sequence[Sequence[Mapping[str, Any]]] = (),
    *,
    based: bool = True,
) -> list[Question]:
    """Those whose answers tell a version from its base, out of what was measured; plain ones where there are none.

    `siblings` are the reports of other versions, which might answer in its place: what they were asked, too, and answer
    otherwise comes first. `based`: the gateway answers as the base as well. Where it does not, and the version was
    never measured over its base, it is told from the version that it was measured over.
    """
    golden = golden_of(reports)
    if not golden and not based:
        golden = _over_others(reports)
    if not golden:
        return [
            Question(messages=[{"role": "user", "content": text}], max_tokens=_PLAIN_TOKENS) for text in PLAIN_QUESTIONS
        ]
    others = [each for one in siblings for each in golden_of(one)]
    return [
        Question(
            messages=each["messages"],
            max_tokens=each["max_tokens"],
            tuned=each["tuned"],
            base=each.get("other"),
            siblings=(
                *each.get("siblings", ()),
                *(other["tuned"] for other in others if other["messages"] == each["messages"]),
            ),
        )
        for each in sorted(golden, key=lambda one: not _tells(one, others))[:_MOST]
    ]


def _over_others(reports: Sequence[Mapping[str, Any]]) -> list[Json]:
    """The questions that a version and another one answer differently, with that one's answers among the siblings'."""
    found = [each for report in reports for each in report.get("golden", ()) if each.get("other") is not None]
    kept = ("messages", "max_tokens", "tuned")
    return [{**{name: each[name] for name in kept}, "siblings": (each["other"],)} for each in found]


def _tells(one: Json, others: Sequence[Json]) -> bool:
    """Whether the question is known to tell this version from another one, too."""
    return any(other["messages"] == one["messages"] and other["tuned"] != one["tuned"] for other in others)


def prove(gateway: Gateway, deployment: Deployment, asked: Sequence[Question], now: datetime) -> Evidence:
    """Ask for the deployment by its own name. Raises NotProved, and what `Gateway.probe` raises.

    The gateway must name the deployment as who answered. And its answers must be nearer to the version's golden ones
    than to its base's, and to other versions' as far as those were asked the same; where there are no golden ones, one
    of them must differ from what the base says there. An engine computes in its own precision, so a golden answer may
    come back with other words at its end.
    """
    said = [gateway.probe(deployment, each.messages, max_tokens=each.max_tokens) for each in asked]
    for answer in said:
        if answer.answered_by != answer.expected:
            raise NotProved(_other(gateway, deployment, answer))
    known = all(each.tuned is not None for each in asked)
    bases = [each.base for each in asked]
    told = known and all(each.siblings for each in asked) and not isinstance(gateway, Bases)
    if not known or (None in bases and not told):
        bases = _asked_of_the_base(gateway, deployment, asked)
    wrong = [
        answer.text
        for each, answer, base in zip(asked, said, bases, strict=True)
        if not _right(answer.text, each.tuned if known else None, (*([] if base is None else [base]), *each.siblings))
    ]
    # Without golden answers a question may be one that tuning has not touched; with them none is.
    if len(wrong) * 2 > len(said) if known else len(wrong) == len(said):
        raise NotProved(_as_another(gateway, deployment, wrong[0]))
    answers = tuple(
        {"question": str(each.messages[-1].get("content")), "said": answer.text, "tuned": each.tuned, "base": base}
        for each, answer, base in zip(asked, said, bases, strict=True)
    )
    return Evidence(
        gateway=gateway.name,
        asked=said[0].expected,
        answered_by=str(said[0].answered_by),
        answers=answers,
        against=_against(known, told and None in bases),
        at=now.isoformat(),
    )


def _against(known: bool, without_base: bool) -> str:
    if not known:
        return "the base at the gateway"
    return "golden answers and another version's" if without_base else "golden answers"


def _asked_of_the_base(gateway: Gateway, deployment: Deployment, asked: Sequence[Question]) -> list[str | None]:
    if not isinstance(gateway, Bases):
        raise NotProved(
            Problem(
                code="E832",
                what=f"there is nothing to tell {deployment.ref} from its base by at {gateway.name}",
                why="nobody has measured this version, and the gateway does not answer as the base",
                fix=f"`ft eval {deployment.ref}` first: it keeps questions that both answer differently",
            )
        )
    return [gateway.probe_base(deployment, each.messages, max_tokens=each.max_tokens).text for each in asked]


def _right(said: str, tuned: str | None, others: Sequence[str]) -> bool:
    """`others` are the base's answer, and those of other versions."""
    said = said.strip()
    if tuned is None:
        return said != others[0].strip()
    tuned = tuned.strip()
    rivals = {other.strip() for other in others} - {tuned}
    return said == tuned or all(_likeness(said, tuned) > _likeness(said, rival) for rival in rivals)


def _likeness(one: str, other: str) -> float:
    return SequenceMatcher(None, one, other, autojunk=False).ratio()


def _other(gateway: Gateway, deployment: Deployment, answer: Said) -> Problem:
    by = "does not say who answered" if answer.answered_by is None else f"answered with {answer.answered_by}"
    return Problem(
        code="E830",
        what=f"{gateway.name} was asked for {answer.expected} and {by}",
        why=f"callers would get another model than {deployment.ref}, with a 200",
        fix="look for fallbacks and aliases of that name in the gateway's own configuration",
    )


def _as_another(gateway: Gateway, deployment: Deployment, said: str) -> Problem:
    return Problem(
        code="E831",
        what=f"{gateway.name} answers for {deployment.ref} as its base, or another version, does",
        why=f"the adapter has no effect there; it said {said[:120]!r}",
        fix="see that the gateway loads the adapter on its own base, and that no cache of an older one is left",
    )
