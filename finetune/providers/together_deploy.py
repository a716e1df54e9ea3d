"""Deployments of tuned models at Together: dedicated model inference, whose replicas are billed by the minute.

Sources, read 2026-11-29: "Deploy a fine-tuned model", "Manage endpoints and deployments" and "Pricing" at
docs.together.ai for the steps, states and what is billed; together 3.1.1, resources/beta, for paths and fields. The
older `POST /v1/endpoints` makes nothing any more (403 endpoints_v1_create_access_disabled).

An endpoint and a deployment have no place for marks, so that their names are ours whole: each name that is given makes
one pair of them, and a pair leads back to its name.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

from finetune.abilities import Hosted
from finetune.deployments import Upstream
from finetune.errors import Problem, ProviderError, ProviderUnavailable
from finetune.jobs import Json
from finetune.ports import ProviderKit
from finetune.providers.keyed import variable
from finetune.providers.together_hosting import (
    ANSWERS,
    CONFIG,
    HARDWARE,
    INFERENCE,
    KEY,
    PRICE,
    SHORT,
    SMALLEST,
    given,
    hosting,
    named,
)
from finetune.providers.together_wire import Call, Wire, part

_VENDORS: Final = (".together.ai", ".together.xyz")
#: One replica, always: it answers as long as it costs, and costs no more than was agreed to.
_RUNNING: Final[Json] = {"minReplicas": 1, "maxReplicas": 1}
_STOPPED: Final[Json] = {"minReplicas": 0, "maxReplicas": 0}
_STATE: Final = "DEPLOYMENT_STATE_"
_OFF: Final = "STOPPED"
_IDLE: Final = frozenset({_OFF, "FAILED"})
#: How often and how long one that was told to stop is looked at: its replicas finish their calls first.
_LOOKS, _LOOK_S = 10, 2.0


@dataclass(frozen=True, kw_only=True)
class _Project:
    """What a key belongs to."""

    id: str
    #: What the names of its endpoints begin with.
    slug: str

    @property
    def path(self) -> str:
        return f"/v2/projects/{part(self.id)}"


@dataclass(frozen=True, kw_only=True)
class _Endpoint:
    """An endpoint that is there."""

    id: str
    #: The name that answers: `PROJECT/ENDPOINT`.
    name: str
    #: The deployment that is ours, as a summary; None: there is none.
    mine: Json | None
    #: Others that somebody has put there.
    others: int
    split: Sequence[Json]


class Deployments:
    """What `abilities.Deployable` is, for one project. Nothing is retried here."""

    def __init__(self, wire: Wire, kit: ProviderKit, *, address: str, read_s: float) -> None:
        """`address` is the API's, without its version. Sends nothing."""
        self._wire, self._environ, self._sheet, self._clock = wire, kit.environ, kit.sheet, kit.clock
        self._address, self._read_s = address, read_s

    def deploy(self, name: str, artifact: Json) -> Upstream | None:
        """Do the next thing that is missing; None: it is under way. Raises ProviderError."""
        project = self._project()
        there = self._look(project, name)
        if there is not None and there.others:
            raise self._taken(there, "it has deployments that ft has not made")
        if there is None or there.mine is None:
            self._make(project, there, name, artifact)
            there = self._look(project, name)
            if there is None or there.mine is None:
                # A list may miss what was made a moment ago.
                return None
        weights = self._weights(project, artifact)
        if str(there.mine.get("model")).partition("/revisions/")[0] != weights:
            raise self._taken(there, "it serves another model")
        if not any(each.get("deploymentId") == there.mine["id"] and each.get("weight") for each in there.split):
            self._route(project, there, 1)
        return self._upstream(there) if self._runs(project, there, there.mine) else None

    def hosted_at(self, name: str) -> Upstream:
        """Where it answers: the project's name is a part of that, so it is asked. Raises ProviderError."""
        there = self._look(self._project(), name)
        if there is None or there.mine is None:
            what, fix = (
                f"Together has no endpoint {named(name).endpoint}",
                "promote the version again, which deploys it",
            )
            raise ProviderError(Problem(code="E402", what=what, why="it was deleted there", fix=fix))
        return self._upstream(there)

    def deployed(self) -> list[Hosted]:
        """See `Deployable.deployed`. An endpoint without a deployment costs nothing, and is told as well."""
        found = []
        for row in self._rows("list the endpoints", f"{self._project().path}/endpoints"):
            summaries = _objects(row.get("deployments"))
            for each in summaries or [{"name": f"{row.get('name')}/{SHORT}", "state": "no deployment"}]:
                known = given(str(each.get("name")).rpartition("/")[0].rpartition("/")[2], _last(each))
                if known is not None:
                    state = _state(each.get("state"))
                    found.append(Hosted(name=known, state=state, stopped=state == _OFF))
        return found

    def undeploy(self, name: str) -> None:
        """See `Deployable.undeploy`. The cost ends with the replica, which is stopped first."""
        project = self._project()
        there = self._look(project, name)
        if there is None:
            return
        if there.mine is not None:
            self._stop(project, there, there.mine)
            if there.split:
                self._route(project, there, 0)
            self._delete(f"{self._of(project, there)}/deployments/{part(there.mine['id'])}")
        if not there.others:
            self._delete(self._of(project, there))

    # What is there.

    def _project(self) -> _Project:
        call = Call(doing="look up the project", path="/v1/whoami")
        told = self._wire.call(call, self._read_s)
        found, slug = told.get("project_id"), told.get("project_slug")
        if not isinstance(found, str) or not isinstance(slug, str) or not found or not slug:
            raise self._wire.troubles.nonsense(call.doing, "the key belongs to no project")
        return _Project(id=found, slug=slug)

    def _look(self, project: _Project, name: str) -> _Endpoint | None:
        """The endpoint of this name. It is looked for among all: what a filter finds is not published exactly."""
        names = named(name)
        whole = f"{project.slug}/{names.endpoint}"
        for row in self._rows("look for the endpoint", f"{project.path}/endpoints"):
            if row.get("name") == whole:
                summaries = _objects(row.get("deployments"))
                mine = [each for each in summaries if _last(each) == names.deployment]
                split = _objects(row.get("trafficSplit"))
                others = len(summaries) - len(mine)
                return _Endpoint(id=row["id"], name=whole, mine=next(iter(mine), None), others=others, split=split)
        return None

    def _rows(self, doing: str, path: str, query: Mapping[str, str] | None = None) -> Iterator[Json]:
        """All rows of a list, page by page. Raises ProviderError; a row without an id is none."""
        after: str | None = None
        seen: set[str] = set()
        while True:
            asked = {**(query or {}), **({"after": after} if after else {})}
            told = self._wire.call(Call(doing=doing, path=path, query=asked or None), self._read_s)
            rows = told.get("data")
            if not isinstance(rows, list) or not all(isinstance(_id(row), str) for row in rows):
                raise self._wire.troubles.nonsense(doing, "a list without rows")
            yield from rows
            after = told.get("next_cursor")
            if not after or after in seen:
                return
            seen.add(after)

    def _weights(self, project: _Project, artifact: Json) -> str:
        """What the model is called in the registry. Raises ProviderError E837: it is not there."""
        found = artifact.get("object")
        if not isinstance(found, str):
            call = Call(doing="look at the job", path=f"/v1/fine-tunes/{part(str(artifact.get('job')))}")
            found = self._wire.call(call, self._read_s).get("model_object_id")
        if not isinstance(found, str):
            raise _refused(
                f"Together has not put {artifact.get('model')} where its deployments are made from",
                "the job has no model_object_id, as when that upload has failed there",
                "serve its adapter yourself, or ask Together's support about the job",
            )
        return f"projects/{project.id}/models/{found}"

    # What is done.

    def _make(self, project: _Project, there: _Endpoint | None, name: str, artifact: Json) -> None:
        """Make the endpoint if it is not there, and the deployment in it. A name is had once: the second gets 409."""
        names, weights = named(name), self._weights(project, artifact)
        config = self._config(project, weights)
        self._weigh()
        if there is None:
            made = self._post("make the endpoint", f"{project.path}/endpoints", {"name": names.endpoint})
            if made is None:
                return
            there = _Endpoint(id=made["id"], name=f"{project.slug}/{names.endpoint}", mine=None, others=0, split=())
        body = {"name": names.deployment, "model": weights, "config": config, "autoscaling": _RUNNING}
        self._post("deploy the model", f"{self._of(project, there)}/deployments", body)

    def _config(self, project: _Project, weights: str) -> str:
        """The one configuration for the hardware that was agreed to. Raises ProviderError E837."""
        hardware, wanted = variable(self._environ, HARDWARE) or SMALLEST, variable(self._environ, CONFIG)
        rows = list(self._rows("list the configurations", f"{project.path}/configs", {"referenceModel": weights}))
        fits = [row for row in rows if _hardware(row) == hardware and wanted in (None, row["id"])]
        if len(fits) > 1:
            fits = [row for row in fits if _selected(row, "optimization") == "balanced"] or fits
        if len(fits) == 1:
            return f"projects/{fits[0].get('projectId')}/configs/{fits[0]['id']}"
        there = ", ".join(f"{row['id']} on {_hardware(row) or 'unknown hardware'}" for row in rows[:8])
        what = (
            f"Together has no configuration for this model on {hardware}"
            if not fits
            else (f"Together has {len(fits)} configurations for this model on {hardware}")
        )
        if wanted and not fits:
            what = f"Together has no configuration {wanted[:40]} for this model on {hardware}"
        why = f"it has {self._wire.troubles.clean(there)}" if there else "it has none: its base cannot be deployed"
        fix = f"export {HARDWARE}=... and {CONFIG}=cr_... as it names them, and agree to the price of that"
        raise _refused(what, why, fix if there else "serve its adapter yourself")

    def _weigh(self) -> None:
        """Hold Together's own price against the one that was agreed to. Raises ProviderError E843."""
        if variable(self._environ, PRICE) is not None:
            return
        hardware = variable(self._environ, HARDWARE) or SMALLEST
        known = hosting(self._environ, self._sheet("together"), "").usd_per_hour
        doing, path = "ask for the price of an hour", "/v2/public/inference-instance-types"
        row = next((each for each in self._rows(doing, path) if hardware in (each.get("name"), each["id"])), {})
        cents = row.get("priceCentsPerHour")
        asked = Decimal(cents) / 100 if isinstance(cents, int) and not isinstance(cents, bool) else None
        if asked is None or known is None:
            what, why = (
                f"what an hour of {hardware} costs at Together is not known",
                "its list of hardware has no price",
            )
        elif asked > known:
            what = f"Together asks {asked} USD an hour for {hardware}, and agreed to were {known}"
            why = "its price has changed since the catalogue's page was read; nothing was deployed"
        else:
            return
        fix = f"export {PRICE}={asked if asked is not None else '...'} and promote with --max-hosting to agree to it"
        raise ProviderError(Problem(code="E843", what=what, why=why, fix=fix))

    def _runs(self, project: _Project, there: _Endpoint, mine: Json) -> bool:
        """Whether it answers. One that somebody has stopped is started again. Raises ProviderError: it has failed."""
        state = _state(mine.get("state"))
        if state == _OFF:
            self._scale(project, there, mine, _RUNNING)
        if state != "FAILED":
            return state == "READY"
        status = self._deployment(project, there, mine)
        words = self._wire.troubles.clean(str((status.get("status") or {}).get("message") or "nothing"))
        what = f"Together has not deployed {mine.get('model')}: its deployment in {there.name} has failed"
        fix = "see the endpoint in Together's console; promote again to try anew"
        raise ProviderError(Problem(code="E407", what=what, why=f"it says: {words}", fix=fix))

    def _stop(self, project: _Project, there: _Endpoint, mine: Json) -> None:
        """Raises ProviderUnavailable E844 while its replicas are still there."""
        state = _state(mine.get("state"))
        if state in _IDLE:
            return
        self._scale(project, there, mine, _STOPPED)
        for _ in range(_LOOKS):
            self._clock.sleep(_LOOK_S)
            status = self._deployment(project, there, mine).get("status")
            state = _state(status.get("state") if isinstance(status, dict) else None)
            if state in _IDLE:
                return
        what = f"Together still has the deployment in {there.name}, which it was told to stop: it is {state}"
        why, fix = (
            "its replicas finish their calls first, and are billed until then",
            "`ft models sync` goes on by itself",
        )
        raise ProviderUnavailable(Problem(code="E844", what=what, why=why, fix=fix))

    def _route(self, project: _Project, there: _Endpoint, weight: int) -> None:
        """Give our deployment this weight; those of others stay as they are."""
        assert there.mine is not None
        ours = there.mine["id"]
        split = [each for each in there.split if each.get("deploymentId") != ours]
        body = {"trafficSplit": [*split, {"deploymentId": ours, "weight": weight}]}
        query = {"updateMask": "trafficSplit"}
        path = self._of(project, there)
        self._wire.call(Call(doing="route calls", method="PATCH", path=path, query=query, body=body), self._read_s)

    def _scale(self, project: _Project, there: _Endpoint, mine: Json, replicas: Json) -> None:
        doing = "stop the deployment" if replicas is _STOPPED else "start the deployment"
        path, query = f"{self._of(project, there)}/deployments/{part(mine['id'])}", {"updateMask": "autoscaling"}
        call = Call(doing=doing, method="PATCH", path=path, query=query, body={"autoscaling": replicas})
        self._wire.call(call, self._read_s)

    def _deployment(self, project: _Project, there: _Endpoint, mine: Json) -> Json:
        path = f"{self._of(project, there)}/deployments/{part(mine['id'])}"
        return self._wire.call(Call(doing="look at the deployment", path=path), self._read_s)

    def _post(self, doing: str, path: str, body: Json) -> Json | None:
        """What was made; None: something has this name already, made a moment ago. Raises ProviderError."""
        call = Call(doing=doing, method="POST", path=path, body=body)
        answer = self._wire.ask(call, self._read_s)
        if answer.status == HTTPStatus.CONFLICT:
            return None
        if not answer.good:
            raise self._wire.refusal(doing, answer)
        made = self._wire.read(doing, answer)
        if not isinstance(_id(made), str):
            raise self._wire.troubles.nonsense(doing, "it has no id")
        return made

    def _delete(self, path: str) -> None:
        call = Call(doing="undo the deployment", method="DELETE", path=path)
        answer = self._wire.ask(call, self._read_s)
        if not answer.good and answer.status != HTTPStatus.NOT_FOUND:
            raise self._wire.refusal(call.doing, answer)

    def _of(self, project: _Project, there: _Endpoint) -> str:
        return f"{project.path}/endpoints/{part(there.id)}"

    def _upstream(self, there: _Endpoint) -> Upstream:
        """As OpenAI's protocol: LiteLLM's own word for Together drops tools for models that it has no entry of."""
        host = urlsplit(self._address).hostname or ""
        vendors = f".{host}".endswith(_VENDORS)
        base = variable(self._environ, INFERENCE) or (ANSWERS if vendors else f"{self._address}/v1")
        return Upstream(kind="openai", model=there.name, api_base=base.rstrip("/"), key_env=KEY)

    def _taken(self, there: _Endpoint, why: str) -> ProviderError:
        what = f"an endpoint {there.name} is there already, and is not the one that ft makes"
        fix = "delete or rename it in Together's console"
        return ProviderError(Problem(code="E407", what=what, why=f"{why}, and ft never changes that", fix=fix))


def _refused(what: str, why: str, fix: str) -> ProviderError:
    return ProviderError(Problem(code="E837", what=what, why=why, fix=fix))


def _hardware(config: Json) -> str | None:
    """`1xnvidia-h100-80gb`; None: it does not say."""
    count, kind = _selected(config, "accelerator_count"), _selected(config, "accelerator_type")
    return f"{count}x{kind}" if count and kind else None


def _selected(config: Json, key: str) -> str | None:
    return next((str(each.get("value")) for each in _objects(config.get("selectors")) if each.get("key") == key), None)


def _objects(rows: object) -> list[Json]:
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def _id(row: object) -> object:
    return row.get("id") if isinstance(row, dict) else None


def _last(summary: Json) -> str:
    """A deployment's own name, of `PROJECT/ENDPOINT/DEPLOYMENT`."""
    return str(summary.get("name")).rpartition("/")[2]


def _state(word: object) -> str:
    return str(word or "unknown").removeprefix(_STATE)
