"""Whether a target takes a job today, by its sheet: models, methods, dates. Says what can stand in its place."""

from collections.abc import Iterator
from datetime import date, timedelta
from typing import Final

from finetune.catalogue.rules import METHODS, Method
from finetune.catalogue.sheets import Dates, Model, ProviderSheet
from finetune.catalogue.values import Day
from finetune.errors import Problem

#: An end that is nearer than this is warned about.
NEAR: Final = timedelta(days=90)
_NAMED: Final = 8


def against(sheet: ProviderSheet, method: Method, base_model: str, today: date) -> list[Problem]:
    """What stands against a job that is created on this day (UTC), errors before warnings.

    A date that the source only promises not to be earlier never refuses. Sends nothing.
    """
    model = sheet.model(base_model)
    found = list(_ended(sheet, model, today))
    if not found:
        found += _of_model(sheet, model, method, base_model)
    return found + [problem for problem in _conditions(sheet, model, today) if not found]


def _ended(sheet: ProviderSheet, model: Model | None, today: date) -> Iterator[Problem]:
    for dates, whose in _dates(sheet, model):
        for day, what in (
            (dates.retired, f"{whose} has ended fine-tuning"),
            (dates.create_until, f"{whose} takes no more fine-tuning jobs since {_text(dates.create_until)}"),
            (dates.serve_until, f"models tuned from {whose} do not answer any more since {_text(dates.serve_until)}"),
        ):
            if day is not None and day.value <= today and not day.at_least:
                yield Problem(
                    code="E307",
                    what=what,
                    why=f"the source is {sheet.sources[day.source].url}",
                    fix=instead(sheet, model),
                    field="base_model" if whose != sheet.title else "provider",
                )
                return


def _of_model(sheet: ProviderSheet, model: Model | None, method: Method, base_model: str) -> Iterator[Problem]:
    if model is None:
        if sheet.models:
            names = [each.name for each in sheet.models]
            more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
            yield Problem(
                code="E306",
                what=f"the catalogue knows no tunable model {base_model!r} at {sheet.title}",
                why=f"it knows {', '.join(names[:_NAMED])}{more}",
                fix="name one of these; if the provider has it by now, add it to the catalogue",
                field="base_model",
            )
        return
    said = model.methods.of(method)
    if sheet.data.of(method) is None or (said is not None and not said.value):
        yield _untrained(sheet, model, method, base_model)


def _untrained(sheet: ProviderSheet, model: Model, method: Method, base_model: str) -> Problem:
    """That the model is not trained by this method; or, which is less, that nobody publishes that it is."""
    flags = {each: flag for each in METHODS if (flag := model.methods.of(each)) is not None}
    can = [each for each, flag in flags.items() if flag.value and sheet.data.of(each)]
    others = f"; it trains it by {' and '.join(can)}" if can else ""
    said = flags.get(method)
    if said is not None and not said.value:
        what = f"{sheet.title} does not train {base_model} by {method}"
        note = f" ({said.note})" if said.note else ""
        neither = "".join(f"; nor by {each}" for each, flag in flags.items() if each != method and not flag.value)
        why = f"the source is {sheet.sources[said.source].url}{note}{others or neither}"
    else:
        what = f"nothing is published of training {base_model} by {method} at {sheet.title}"
        why = f"the catalogue has no layout of rows for {method} there{others}"
    fix = f"`method: {can[0]}`, or another model" if can else "choose another model"
    fix += f"; `ft catalogue show {sheet.provider}` lists those that the catalogue knows there"
    return Problem(code="E308", what=what, why=why, fix=fix, field="method" if can else "base_model")


def _conditions(sheet: ProviderSheet, model: Model | None, today: date) -> Iterator[Problem]:
    """Warnings: who may still create jobs, and what ends soon."""
    closed = [
        (day, who)
        for day, who in (
            (sheet.dates.closed_to_new, "organisations that have trained there before"),
            (sheet.dates.closed_to_inactive, "organisations that use a tuned model"),
        )
        if day is not None and day.value <= today
    ]
    if closed:
        day, _ = closed[-1]
        yield _warning(
            f"{sheet.title} takes jobs on conditions only: of {' and '.join(who for _, who in closed)}",
            f"the source is {sheet.sources[day.source].url}{f'; {day.note}' if day.note else ''}",
            "if it refuses yours, nothing is lost: " + instead(sheet, model),
        )
    for dates, whose in _dates(sheet, model):
        for end, *told in _ends(dates, whose):
            if end is not None and end.value - today <= NEAR:
                left = (end.value - today).days
                sure = " at least" if end.at_least else ""
                when = f"that is in {left} days{sure}" if left > 0 else "that day has come"
                what = told[0 if not end.at_least else 1 if left > 0 else 2]
                yield _warning(what, f"{when}; the source is {sheet.sources[end.source].url}", instead(sheet, model))


def _ends(dates: Dates, whose: str) -> Iterator[tuple[Day | None, str, str, str]]:
    """Each end, and what is told of it: where it is certain; where the source only promises that it is not earlier; and
    where that day has come.
    """
    end, day = dates.create_until, _text(dates.create_until)
    sure, promised = f"{whose} takes no more jobs from {day} on", f"{whose} takes jobs until {day} at least"
    yield end, sure, promised, f"{whose} may take no more jobs: it has promised to until {day} only"
    end, day, tuned = dates.serve_until, _text(dates.serve_until), f"models tuned from {whose}"
    sure = f"{tuned} answer until {day}"
    yield end, sure, f"{sure} at least", f"{tuned} may not answer any more: that was promised until {day} only"


def _dates(sheet: ProviderSheet, model: Model | None) -> list[tuple[Dates, str]]:
    return [(sheet.dates, sheet.title), *([(model.dates, f"{sheet.title} {model.name}")] if model else [])]


def instead(sheet: ProviderSheet, model: Model | None) -> str:
    """What to write, with open weights that can be trained on this machine first."""
    weights = [model.open_weights.value] if model and model.open_weights else []
    weights += [each.value for each in (*(model.stands_in if model else ()), *sheet.stands_in)]
    named = ", ".join(f"`provider: local` with `base_model: {each}`" for each in dict.fromkeys(weights))
    return f"train open weights here: {named}" if named else "choose another provider; `ft providers` lists them"


def _text(day: Day | None) -> str:
    return day.value.isoformat() if day else ""


def _warning(what: str, why: str, fix: str) -> Problem:
    return Problem(code="E309", what=what, why=why, fix=fix, level="warning", field="provider")
