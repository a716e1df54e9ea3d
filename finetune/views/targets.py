"""What targets offer, cost and take."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from finetune.jobs import Json

if TYPE_CHECKING:
    from finetune.catalogue import DataRules
    from finetune.catalogue.entries import Entry as CatalogueEntry
    from finetune.catalogue.sheets import Price
    from finetune.expiring import Ending
    from finetune.memory import Kind, Need
    from finetune.spending import Held, Spending
    from finetune.targets import Target
    from finetune.wiring.foresight import Foreseen


def spending(one: "Spending") -> Json:
    """What a job was reckoned to cost, and has cost."""
    low, high, actual = (None if each is None else str(each) for each in (one.low, one.high, one.actual))
    return {
        "job": one.job_id,
        "provider": one.provider,
        "estimate_usd": {"low": low, "high": high} if low is not None else None,
        "actual_usd": actual,
        "how": one.how,
        "within": one.within,
        "error": None if one.error is None else round(one.error, 4),
        "seconds": _held(one.seconds),
        "memory_bytes": _held(one.memory),
    }


def _held(one: "Held | None") -> Json | None:
    """A range that was foreseen, and what has come of it."""
    if one is None:
        return None
    error = None if one.error is None else round(one.error, 4)
    return {"low": one.low, "high": one.high, "actual": one.actual, "error": error}


def foreseen(one: "Foreseen") -> Json:
    """What a recipe takes at its target."""
    needs = one.needs if isinstance(one.needs, Mapping) else {}
    return {
        **target(one.target),
        "rows": {"train": one.size.train_rows, "validation": one.size.validation_rows},
        "steps": one.steps,
        "tokens": {"low": one.tokens[0], "high": one.tokens[1], "longest_row": one.longest},
        "needs": [_need(kind, each) for kind, each in needs.items()],
        "needs_unknown": None if isinstance(one.needs, Mapping) else one.needs,
        "cards_mb": list(one.cards_mb),
    }


def _need(kind: "Kind", one: "Need | str") -> Json:
    """Memory of a card for one kind of training."""
    parts = ("weights", "trained", "least", "most", "again", "low", "high")
    known = None if isinstance(one, str) else {name: getattr(one, name) for name in parts}
    return {"kind": str(kind), "bytes": known, "unknown": one if isinstance(one, str) else None}


def target(one: "Target") -> Json:
    """One target of a comparison."""
    cost, time = one.cost, one.time
    seconds = time.seconds if time else None
    return {
        "target": one.name,
        "kind": one.kind,
        "base_model": one.base_model,
        "verdict": str(one.verdict),
        "cost_usd": {"low": str(cost.low_usd), "high": str(cost.high_usd)} if cost and cost.known else None,
        "cost_basis": cost.basis if cost else None,
        "seconds": None if seconds is None else {"low": round(seconds[0]), "high": round(seconds[1])},
        "seconds_by": time.by if time else None,
        "seconds_basis": time.basis if time else None,
        "memory_bytes": None if one.memory is None else {"low": one.memory[0], "high": one.memory[1]},
        "data_leaves": one.leaves,
        "context": one.context,
        "served_by": list(one.served),
        "served_here": list(one.served_here),
        "create_until": one.create_until.isoformat() if one.create_until else None,
        "serve_until": one.serve_until.isoformat() if one.serve_until else None,
        "create_at_least": one.create_at_least,
        "serve_at_least": one.serve_at_least,
        "reasons": [problem.brief for problem in one.reasons],
    }


def entry(one: "CatalogueEntry") -> Json:
    """What the catalogue says of a provider, or of a model there."""
    sheet, model = one.sheet, one.model
    return {
        "target": sheet.provider,
        "title": sheet.title,
        "kind": sheet.kind,
        "base_model": one.base_model,
        "access": sheet.access.value if sheet.access else None,
        "tunes": sheet.tunes.value if sheet.tunes else None,
        "methods": list(one.methods),
        "methods_said": {
            method: {"trained": flag.value, "source": flag.source, "note": flag.note}
            for method, flag in one.method_claims.items()
        },
        "context": model.context.value if model and model.context else None,
        "parameters": model.parameters.value if model and model.parameters else None,
        "open_weights": model.open_weights.value if model and model.open_weights else None,
        "stands_in": [each.value for each in (*(model.stands_in if model else ()), *sheet.stands_in)],
        "ways": [{"text": each.value, "at": each.at, "source": each.source} for each in sheet.ways],
        "served_by": [each.at for each in sheet.served],
        "regions": [each.value for each in sheet.regions],
        "dates": [
            {"ends": name, "day": day.value.isoformat(), "at_least": day.at_least, "source": day.source}
            for name, day in one.ends
        ],
        "prices": [_price(each) for each in one.prices],
        "limits": {method: _limits(rules) for method, rules in one.limits.items()},
        "models": [] if one.base_model else [each.name for each in sheet.models],
        "sources": {
            key: {
                "url": each.url,
                "title": each.title,
                "read": each.read.isoformat(),
                "dated": each.dated.isoformat() if each.dated else None,
                "stale": key in one.stale,
            }
            for key, each in one.sources.items()
        },
        "stale": bool(one.stale),
    }


def _price(one: "Price") -> Json:
    span = one.parameters
    return {
        "usd": str(one.usd),
        "per": one.per,
        "method": one.method,
        "tuning": one.tuning,
        "deployment": one.deployment,
        "parameters": {"above": span.above, "up_to": span.up_to} if span else None,
        "source": one.source,
        "note": one.note,
    }


def _limits(rules: "DataRules") -> Json:
    found = {name: getattr(rules, name) for name in rules.sources}
    lists = {name: sorted(each) if isinstance(each, frozenset) else each for name, each in found.items()}
    return {"format": rules.format, **lists}


def ending(one: "Ending") -> Json:
    """Something of ours that ends."""
    return {
        "kind": one.kind,
        "ref": one.ref,
        "target": f"{one.provider}/{one.base_model}",
        "ends": one.what,
        "day": one.day.isoformat(),
        "at_least": one.at_least,
        "days": one.days,
        "source": one.source,
        "fix": one.fix,
    }
