"""Jobs, models, queue, data and providers."""

from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Any

from finetune.errors import Problem
from finetune.jobs import Event, Job, Json, Metric
from finetune.placement import free_mb, from_row
from finetune.versions import ModelVersion, Promotion, Traffic

if TYPE_CHECKING:
    # Importing these would bring the recipe's whole schema, which `ft status` does without.
    from finetune.abilities import RemoteFile
    from finetune.board import Entry
    from finetune.data import DataReport
    from finetune.data.survey import Survey
    from finetune.importing import Imported
    from finetune.offers import Offer
    from finetune.placement import Taken
    from finetune.placing import Drift
    from finetune.plan import Plan
    from finetune.runs import Beat, Run


def job(one: Job) -> Json:
    """A job. Fields are only ever added."""
    return {
        "id": one.id,
        "name": one.name,
        "owner": one.owner,
        "target": one.target,
        "provider": one.provider,
        "base_model": one.base_model,
        "state": str(one.state),
        "provider_state": one.provider_state,
        "cancel_requested": one.cancel_requested,
        "priority": one.priority,
        "hold_requested": one.hold_requested,
        "held": one.held,
        "deadline_at": _time(one.deadline_at),
        "attempt": one.attempt,
        "remote_id": one.remote_id,
        "data": {key: one.data.get(key) for key in ("train_rows", "validation_rows", "digest")},
        "progress": one.progress,
        "cost": one.cost,
        "model": one.model,
        "error": one.error,
        "created_at": _time(one.created_at),
        "changed_at": _time(one.changed_at),
        "finished_at": _time(one.finished_at),
    }


def queued(one: "Entry") -> Json:
    """An unfinished job, with its place in the queue."""
    recipe = one.job.recipe.get("limits") or {}
    return {
        **job(one.job),
        "position": one.position,
        "waits_for": one.waits_for,
        "eta_s": one.eta_s,
        "max_cost": recipe.get("max_cost"),
    }


def worker(one: "Beat", runs: "list[Run]", measuring: "list[Taken]") -> Json:
    """A worker that lives, what it trains, and what is measured on its cards."""
    shares = [*(from_row(run.placed) for run in runs), *(each.share for each in measuring)]
    return {
        "worker": one.worker,
        "queues": list(one.queues),
        "host": one.host,
        "pid": one.pid,
        "seen_at": _time(one.seen_at),
        "trains": [run.run_key for run in runs],
        "measures": [each.key for each in measuring],
        "devices": [{**asdict(device), "free_mb": free_mb(device, shares)} for device in one.devices],
    }


def event(one: Event) -> Json:
    """A line of a job's history."""
    return {"seq": one.seq, "at": _time(one.at), "kind": one.kind, "message": one.message}


def metric(one: Metric) -> Json:
    """A measured value."""
    return {"step": one.step, "name": one.name, "value": one.value}


def model(one: ModelVersion) -> Json:
    """A model version."""
    return {
        "ref": one.ref,
        "name": one.name,
        "version": one.version,
        "aliases": list(one.aliases),
        "job_id": one.job_id,
        "provider": one.provider,
        "base_model": one.base_model,
        "artifact": one.artifact,
        "lineage": one.lineage,
        "status": str(one.status),
        "created_at": _time(one.created_at),
    }


def promotion(one: Promotion) -> Json:
    """A version on its way to an alias."""
    return {
        "id": one.id,
        "ref": one.ref,
        "alias": one.alias,
        "gateways": list(one.gateways),
        "state": str(one.state),
        "steps": list(one.steps),
        "step": one.step,
        "gate": one.gate,
        "max_hosting": one.max_hosting,
        "notes": list(one.notes),
        "evidence": one.evidence,
        "error": one.error,
        "by": one.by,
        "due_at": _time(one.due_at),
        "created_at": _time(one.created_at),
        "finished_at": _time(one.finished_at),
    }


def card(one: Json) -> Json:
    """What is known of a version beside itself (`releasing.Releasing.card`)."""
    return {
        "reports": one["reports"],
        "traffic": plain(one["traffic"]),
        "promotions": [promotion(each) for each in one["promotions"]],
        "gateways": one["gateways"],
    }


def plain(value: Any) -> Any:
    """JSON values of ours with times in them, with the times as texts."""
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return _time(value) if isinstance(value, datetime) else value


def traffic(one: Traffic) -> Json:
    """How the calls of an alias are, or were, divided."""
    shares = {f"v{version}": share for version, share in one.shares.items()}
    return {
        "name": one.name,
        "alias": one.alias,
        "shares": shares,
        "reason": one.reason,
        "by": one.by,
        "at": _time(one.at),
    }


def drift(one: "Drift") -> Json:
    """One difference between our books and a gateway."""
    return {"gateway": one.gateway, "id": one.id, "kind": one.kind, "what": one.what, "mended": one.mended}


def plan(one: "Plan") -> Json:
    """What would happen to a recipe."""
    return {
        "target": one.target,
        "train_rows": one.train_rows,
        "validation_rows": one.validation_rows,
        "steps": one.steps,
        "epochs": one.epochs,
    }


def imported(one: "Imported") -> Json:
    """What became of a job of an account."""
    return {
        "remote_id": one.remote_id,
        "model": one.ref,
        "tuned_model": one.model,
        "base_model": one.base_model,
        "rows": one.rows,
        "known": one.known,
        "added": one.added,
        "why": one.why,
    }


def data(one: "DataReport") -> Json:
    """What a look at training data found, without its problems."""
    return {
        "notes": list(one.notes),
        "files": [{key: value for key, value in asdict(file).items() if key != "title"} for file in one.files],
        "digest": one.digest,
        "unseen": one.unseen,
    }


def survey(one: "Survey") -> Json:
    """Statistics of training data. Tokens are ranges, `low` and `high`, where they are not counted."""
    from finetune.data.stats import Distribution

    tally, measured = one.report.tally, one.measured
    return {
        **data(one.report),
        "problems": [problem(each) for each in one.report.problems],
        "rows": tally.rows,
        "messages": dict(tally.roles),
        "turns": asdict(Distribution(tally.turns).summary()),
        "characters": asdict(Distribution(tally.lengths).summary()),
        "learned_characters": tally.learned,
        "tokens": {
            "counted_by": measured.tokens.name if tally.rows else None,
            "exact": measured.tokens.exact if tally.rows else None,
            "low": asdict(measured.low.summary()),
            "high": asdict(measured.high.summary()),
            "uncounted_rows": measured.uncounted,
            "learned_share": measured.share,
        },
    }


def offer(one: "Offer") -> Json:
    """A provider: whether it is set up and answers, its models, what holds for all of them."""
    return {
        "provider": one.name,
        "title": one.title,
        "hosted": one.hosted,
        "set_up": not one.missing,
        "missing": [problem(each) for each in one.missing],
        "answered": one.answered,
        "trouble": problem(one.trouble) if one.trouble else None,
        "open": one.open,
        "notes": [problem(each) for each in one.notes],
        "models": [
            {
                "name": each.name,
                "methods": list(each.methods),
                "open": each.open and one.open,
                "notes": list(each.notes),
                "usd_per_million_training_tokens": each.usd_per_million,
            }
            for each in one.models
        ],
    }


def remote_file(provider: str, one: "RemoteFile") -> Json:
    """A file of ours at a provider."""
    return {
        "provider": provider,
        "file": one.file_id,
        "name": one.name,
        "bytes": one.bytes,
        "uploaded_at": _time(one.uploaded_at),
    }


def problem(one: Problem) -> Json:
    """A fault or a warning."""
    return {**asdict(one), "also": list(one.also)}


def _time(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
