"""Measures versions in a process of its own, and keeps what was found. No torch here."""

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from finetune.deployments import Upstream
from finetune.errors import EvaluationError, GatewayError, NotFound, Problem
from finetune.jobs import Job, Json
from finetune.names import beside, is_alias
from finetune.ports import Clock
from finetune.process import end_group, spawn
from finetune.releases import ModelStore
from finetune.report import read
from finetune.versions import ModelVersion

_LOOK_S = 0.2
#: Rows that are asked for a proof when there is no gate.
_FOR_PROOF = 50


class NotNow(EvaluationError):
    """A model could not be asked this time; the same evaluation may succeed later."""

    retry = True


@dataclass(frozen=True, kw_only=True)
class Address:
    """A model behind an address that speaks OpenAI's protocol."""

    #: `https://api.openai.com/v1`.
    url: str
    #: As it is called there.
    model: str
    #: The environment variable that holds its key; None: it asks for none.
    key_env: str | None = None

    def subject(self, name: str) -> Json:
        """As an evaluation's request has it (`evaluation.request.Served`)."""
        return {"kind": "endpoint", "name": name, "base_url": self.url, "model": self.model, "key_env": self.key_env}


def asked(at: Upstream, name: str, model: ModelVersion) -> Json:
    """How this version, or its base, is asked there, as a request has it. Raises EvaluationError E837: not by ft."""
    if at.api_base is None and at.kind != "openai":
        what, why = f"{name} cannot be measured at {model.provider}", "it does not speak OpenAI's protocol"
        fix = f"ask a gateway that does: `ft eval {model.ref} --at URL`"
        raise EvaluationError(Problem(code="E837", what=what, why=why, fix=fix))
    url = at.api_base or "https://api.openai.com/v1"
    return Address(url=url, model=at.model, key_env=at.key_env).subject(name)


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What shall be measured. Empty: the job's held-out rows, by the metrics that fit them."""

    #: Paths of YAML files, names in the folder of suites, or `lm-eval:TASK`.
    suites: tuple[str, ...] = ()
    #: Of the held-out rows; empty: those that fit them.
    metrics: tuple[str, ...] = ()
    #: Of the held-out rows, beside those.
    also: tuple[str, ...] = ()
    #: `base`, an alias or a version.
    over: str = "base"
    #: Rows of each suite, at most.
    sample_size: int = 200
    held_out: bool = True
    #: Ask the version there, instead of loading it; None: where its weights are.
    at: Address | None = None
    #: Who judges, for the metric `judge`; None: nobody.
    judge: Address | None = None

    def kept_as(self, suite: str) -> str:
        """The name under which a report is kept: one over another model, or asked elsewhere, replaces no other."""
        over = "" if self.over == "base" else f" over {self.over}"
        return suite + over + (f" at {self.at.url}" if self.at else "")

    @staticmethod
    def of_gate(gate: Json | None) -> "Wish":
        """What a gate needs; None: what a proof needs."""
        if gate is None:
            return Wish(sample_size=_FOR_PROOF)
        guards, also = tuple(gate.get("guards", ())), (str(gate["metric"]),)
        return Wish(suites=guards, also=also, over=gate.get("over", "base"), sample_size=gate.get("sample_size", 200))


class Measurer:
    """Starts evaluation processes and waits for them."""

    def __init__(
        self,
        models: ModelStore,
        clock: Clock,
        *,
        job: Callable[[str], Job],
        version: Callable[[str], ModelVersion],
        subjects: "Subjects",
        card: Callable[[str, Mapping[str, Any]], AbstractContextManager[Mapping[str, str]]],
        places: "Rooms",
    ) -> None:
        """`job` finds a job, `version` a version by name.

        `card` holds one for the version of this name, trained with these resources (`seats.seated`).
        """
        self._models, self._clock, self._card = models, clock, card
        self._job, self._version, self._places = job, version, places
        self._subject, self._base = subjects.version, subjects.base

    def measure(self, model: ModelVersion, wish: Wish, say: Callable[[str], None] = lambda line: None) -> list[Json]:
        """Measure and keep the reports, one a suite. Blocks for minutes.

        Raises NotFound, GatewayError, EvaluationError: of the last `seats.AllTaken`, when weights are to be loaded and
        no card is free for them, and NotNow, when a model behind an address cannot be asked.
        """
        wish = replace(wish, over=self._over(model, wish.over))
        request = self._request(model, wish)
        if _at_address(request["tuned"]) and _at_address(request["other"]):
            reports = self._asked(model, request, {}, say)
        else:
            with self._card(model.ref, self._job(model.job_id).recipe.get("resources") or {}) as seen:
                reports = self._asked(model, request, seen, say)
        for report in reports:
            kept = {**report, "suite": wish.kept_as(report["suite"]), "over": wish.over}
            self._models.add_report(model.name, model.version, kept, self._clock.now())
        return reports

    def foresee(self, model: ModelVersion, wish: Wish) -> None:
        """What will stand against measuring a hosted version so, once it answers itself. Starts and deploys nothing.

        Silent where nobody can tell. Raises NotFound, GatewayError, EvaluationError.
        """
        over = self._over(model, wish.over)
        self._suites(model, wish)
        if over == "base":
            self._base(model, False)
        elif "path" not in (other := self._version(beside(model.name, over))).artifact:
            self._subject(other)

    def _asked(
        self, model: ModelVersion, request: Json, seen: Mapping[str, str], say: Callable[[str], None]
    ) -> list[Json]:
        self._places.folder.mkdir(parents=True, exist_ok=True)
        # Workers in containers share the folder, and their numbers too.
        folder = Path(tempfile.mkdtemp(prefix=f"{model.ref.replace('@', '-')}-", dir=self._places.folder))
        try:
            (folder / "request.json").write_text(json.dumps(request))
            return self._run(folder, seen, say)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _suites(self, model: ModelVersion, wish: Wish) -> list[Json]:
        """What is asked (`evaluation.request`). Raises EvaluationError E850: nothing is."""
        asked: list[Json] = []
        held_out = self._job(model.job_id).data.get("validation")
        if held_out and wish.held_out:
            metrics = {"metrics": list(wish.metrics), "also": list(wish.also)}
            asked.append({"kind": "held_out", "path": str(held_out), **metrics})
        asked += [{"kind": "suite", "name": name, "label": name} for name in wish.suites]
        if not asked:
            raise EvaluationError(_nothing_to_ask(model))
        return asked

    def _request(self, model: ModelVersion, wish: Wish) -> Json:
        job, asked = self._job(model.job_id), self._suites(model, wish)
        tuned = wish.at.subject(model.ref) if wish.at else self._subject(model)
        other, base_model = self._other(model, tuned, wish)
        return {
            "base_model": base_model,
            "tuned": tuned,
            "other": other,
            "suites": asked,
            "seed": int(job.recipe.get("seed", 42)),
            "sample_size": wish.sample_size,
            "suites_dir": str(self._places.suites) if self._places.suites else None,
            "cache": str(self._places.cache),
            "judge": wish.judge.subject("judge") if wish.judge else None,
        }

    def _other(self, model: ModelVersion, tuned: Json, wish: Wish) -> tuple[Json, str]:
        """Who it is measured against, and the base whose weights are loaded here, if any are.

        On different bases answers can be compared, and at most one of the two has its weights loaded.
        """
        if wish.over == "base" and "path" in model.artifact:
            return {"kind": "base"}, model.base_model
        if wish.over == "base":
            return self._home(model, tuned, wish.at is not None), model.base_model
        other = self._version(beside(model.name, wish.over))
        subject = self._subject(other)
        if other.base_model == model.base_model or _at_address(subject):
            return subject, model.base_model
        if _at_address(tuned):
            return subject, other.base_model
        raise EvaluationError(
            Problem(
                code="E856",
                what=f"{model.ref} cannot be measured against {other.ref}: two bases would have to be loaded",
                why=f"their bases differ: {model.base_model} and {other.base_model}, both with weights here",
                fix="put `over: base` into the gate, retrain on the same base, or serve one of them and name its "
                "address: `ft eval MODEL --over ALIAS --at URL`",
            )
        )

    def _home(self, model: ModelVersion, tuned: Json, elsewhere: bool) -> Json:
        """Its base where the provider has it; where the version is asked now, if that is elsewhere and it has none."""
        try:
            return self._base(model, elsewhere)
        except (EvaluationError, GatewayError):
            if not elsewhere:
                raise
            return {**tuned, "name": model.base_model, "model": model.base_model}

    def _over(self, model: ModelVersion, over: str) -> str:
        """What it is measured against; the base in place of an alias that nobody has yet, and of itself."""
        if over == "base":
            return over
        ref = beside(model.name, over)
        name, _, label = ref.partition("@")
        try:
            return "base" if self._version(ref).ref == model.ref else over
        except NotFound:
            if name == model.name and is_alias(label):
                return "base"
            raise

    def _run(self, folder: Path, seen: Mapping[str, str], say: Callable[[str], None]) -> list[Json]:
        report, log = folder / "report.jsonl", self._places.logs / "evaluation.log"
        child = spawn(self._places.command(folder, report), log=log, env={**os.environ, **seen})
        told, read = _Told(report), 0
        try:
            while child.poll() is None:
                self._clock.sleep(_LOOK_S)
                read = told.on(say, read)
        finally:
            end_group(child.pid, grace_s=1)
            code = child.wait()
        told.on(say, read)
        if told.error is not None:
            raise (NotNow if told.retry else EvaluationError)(Problem(**told.error))
        if code != 0:
            raise EvaluationError(_died(code, log))
        found: list[Json] = json.loads((folder / "result.json").read_text(encoding="utf-8"))["reports"]
        return found


@dataclass(frozen=True, kw_only=True)
class Subjects:
    """How models are asked, as `evaluation.request` has it. Both raise EvaluationError and GatewayError."""

    version: Callable[[ModelVersion], Json]
    #: The base of a hosted version; with True only if it is sure to answer.
    base: Callable[[ModelVersion, bool], Json]


@dataclass(frozen=True, kw_only=True)
class Rooms:
    """Where evaluations find and leave things."""

    #: Theirs while they run.
    folder: Path
    #: Built-in base models.
    cache: Path
    logs: Path
    #: Suites by name; None: there are none.
    suites: Path | None
    #: The command line for (folder, report).
    command: Callable[[Path, Path], Sequence[str]]


class _Told:
    """What the process has said so far."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.error: Json | None = None
        #: Whether the same may succeed later, once there is an error.
        self.retry = False

    def on(self, say: Callable[[str], None], offset: int) -> int:
        """Say what is new; the next offset."""
        lines, offset = read(self._path, offset)
        for line in lines:
            if line["kind"] == "event":
                say(line["message"])
            elif line["kind"] == "failed":
                self.error, self.retry = line["error"], bool(line["retry"])
        return offset


def _at_address(subject: Json) -> bool:
    return bool(subject["kind"] == "endpoint")


def _nothing_to_ask(model: ModelVersion) -> Problem:
    return Problem(
        code="E850",
        what=f"there is nothing to measure {model.ref} by",
        why="its job held no rows out, and no suite was named",
        fix="name one: `ft eval MODEL --suite suites/mine.yaml`; or train with `validation: {split: 0.1}`",
    )


def _died(code: int, log: Path) -> Problem:
    how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
    return Problem(
        code="E859",
        what=f"the evaluation {how} without a result",
        why="signal 9 is most often the system's answer to a lack of memory",
        fix=f"{log} has its last words; fewer rows and shorter answers take less",
    )
