"""The names: what is exported, what docs/metrics.md explains, what the dashboard draws."""

import json
import re
from pathlib import Path

import pytest

from finetune.figures import Backlog, Coded, Figures, InState, Serving, Sharing, Spending
from finetune.jobs import FINAL, JobState
from finetune.metrics import QUANTILES, FiguresCollector
from finetune.versions import PROMOTED, PromotionState

ROOT = Path(__file__).parents[3]
BOARD = json.loads((ROOT / "docker/grafana-dashboard.json").read_text())
DONE = InState("a", JobState.SUCCEEDED)
FULL = Figures(
    backlogs={"remote": Backlog(depth=1, oldest_s=2.0), "gpu": Backlog(depth=0, oldest_s=0.0)},
    workers={"remote": 1, "gpu": 0},
    jobs={DONE: 3, InState("b", JobState.RUNNING): 1},
    retrying={"b": 1},
    poll_lag_s={"b": 0.5},
    waits_s={"a": [3.0, 1.0, 2.0]},
    runs_s={DONE: [float(number) for number in range(1, 201)]},
    errors={Coded("b", "E403"): 2},
    failed={Coded("a", "E401"): 1},
    spending={"a": Spending(low=1.0, high=2.0, quote=0.0, unpriced=1)},
    serving=Serving(
        promotions={PromotionState.SHIFTING: 1, PromotionState.LIVE: 4},
        retrying=1,
        oldest_s=5.0,
        failed={"E811": 2},
        aliases=1,
        shares={Sharing("bot", "production", 3): 0.9, Sharing("bot", "production", 4): 0.1},
        deployments={"vllm": 2},
    ),
    events_reach_s=3600.0,
    spending_reach_s=86400.0,
)


def families():
    return list(FiguresCollector(FULL).collect())


def exported():
    """Names as Prometheus stores them, with their labels."""
    return {sample.name: sorted(sample.labels) for family in families() for sample in family.samples}


def queries():
    return [target["expr"] for panel in panels() for target in panel["targets"]]


def panels():
    return [panel for panel in BOARD["panels"] if panel["type"] != "row"]


def value(name, /, **labels):
    return next(
        sample.value
        for family in families()
        for sample in family.samples
        if sample.name == name and sample.labels == labels
    )


def test_every_family_has_help_and_a_sample():
    for family in families():
        assert family.documentation.endswith("."), family.name
        assert family.samples, family.name
        assert re.fullmatch(r"ft_[a-z]+(_[a-z]+)*", family.name)


def test_only_what_never_shrinks_is_a_counter():
    assert {family.name: family.type for family in families() if family.type != "gauge"} == {
        "ft_jobs_finished": "counter",
        "ft_jobs_submitted": "counter",
        "ft_promotions_finished": "counter",
    }


def test_every_state_of_a_known_provider_is_told_also_when_it_is_zero():
    told = {(s.labels["provider"], s.labels["state"]) for f in families() for s in f.samples if s.name == "ft_jobs"}
    assert told == {(provider, str(state)) for provider in "ab" for state in JobState}
    ended = {s.labels["state"] for f in families() for s in f.samples if s.name == "ft_jobs_finished_total"}
    assert ended == {str(state) for state in FINAL}
    assert value("ft_jobs_submitted_total", provider="a") == 3
    assert value("ft_jobs_retrying", provider="a") == 0


def test_every_state_of_promotions_is_told_also_when_it_is_zero():
    told = {s.labels["state"]: s.value for f in families() for s in f.samples if s.name == "ft_promotions"}
    assert told == {**dict.fromkeys(map(str, PromotionState), 0), "shifting": 1, "live": 4}
    ended = {
        s.labels["state"]: s.value for f in families() for s in f.samples if s.name == "ft_promotions_finished_total"
    }
    assert ended == {**dict.fromkeys(map(str, PROMOTED), 0), "live": 4}


def test_who_gets_the_calls_of_an_alias():
    assert value("ft_alias_share", name="bot", alias="production", version="v4") == 0.1
    assert value("ft_gateway_deployments", gateway="vllm") == 2


def test_quantiles_are_times_that_were_measured():
    took = {
        quantile: value("ft_job_run_seconds", provider="a", state="succeeded", quantile=f"{quantile:g}")
        for quantile in QUANTILES
    }
    assert took == {0.5: 100, 0.9: 180, 0.99: 198, 1.0: 200}
    assert value("ft_job_wait_seconds", provider="a", quantile="0.5") == 2
    assert value("ft_job_wait_seconds", provider="a", quantile="0.9") == 3


def test_the_page_explains_every_metric_with_its_labels_and_no_other():
    text = (ROOT / "docs/metrics.md").read_text()
    rows = re.findall(r"^\| `(ft_\w+)` \| ([^|]*) \| \S", text, re.M)
    assert {name: sorted(re.findall(r"`(\w+)`", labels)) for name, labels in rows} == exported()
    assert {name for name in re.findall(r"\bft_[a-z_]+\b", text) if name not in exported()} <= {"ft_api_key"}


def test_the_dashboard_draws_every_metric_and_no_other():
    asked = {name for query in queries() for name in re.findall(r"\bft_\w+", query)}
    assert asked == set(exported())


def test_the_dashboard_uses_labels_that_are_there():
    known = {label for labels in exported().values() for label in labels}
    for query in queries():
        (name,) = set(re.findall(r"\bft_\w+", query))
        matched = [label for one in re.findall(r"\{([^}]*)\}", query) for label in re.findall(r"(\w+)[=!]", one)]
        grouped = [label for one in re.findall(r"\bby ?\(([^)]*)\)", query) for label in re.findall(r"\w+", one)]
        assert set(matched) | set(grouped) <= set(exported()[name]) | {"job"}, query
    legends = {
        name
        for panel in panels()
        for target in panel["targets"]
        for name in re.findall(r"{{(\w+)}}", target["legendFormat"])
    }
    assert legends <= known


def test_grafana_can_take_the_dashboard():
    assert BOARD["schemaVersion"] >= 39
    assert BOARD["uid"] == "ft"
    assert BOARD["id"] is None
    (source,) = [one for one in BOARD["templating"]["list"] if one["type"] == "datasource"]
    assert source["query"] == "prometheus"
    ids = [panel["id"] for panel in BOARD["panels"]]
    assert len(ids) == len(set(ids))
    for panel in panels():
        assert panel["datasource"] == {"type": "prometheus", "uid": f"${{{source['name']}}}"}, panel["title"]
        assert panel["title"]
        assert panel["description"]
        refs = [target["refId"] for target in panel["targets"]]
        assert refs == sorted(set(refs))


@pytest.mark.parametrize("panel", BOARD["panels"], ids=lambda panel: panel["title"])
def test_no_panel_lies_over_another(panel):
    def area(one):
        place = one["gridPos"]
        return {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }

    assert all(0 <= x < 24 for x, _ in area(panel))
    assert [one["title"] for one in BOARD["panels"] if one is not panel and area(one) & area(panel)] == []
