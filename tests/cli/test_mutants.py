"""Whatever a recipe file holds, `ft validate` judges it: valid, invalid or not eligible, and nothing unexpected."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from finetune.cli import exits
from finetune.cli.main import app
from finetune.spec import starter
from tests.cli.desk import Desk, Ran, called

_STARTER = starter("bot", "builtin:tiny-llama", "data.jsonl")
_FULL = """\
version: 1
name: bot
base_model: builtin:tiny-llama
dataset: {path: data.jsonl, format: auto, field_map: {}}
provider: local
method: sft
validation: {split: 0.5}
seed: 42
training:
  epochs: 3
  batch_size: 8
  learning_rate: 2.0e-4
  max_seq_length: 512
lora:
  r: 16
  alpha: 32
  target_modules: [q_proj, v_proj]
limits: {max_cost: 25 USD, deadline: 6h, data: local_only}
privacy: "off"
gate: {metric: exact_match, min_gain: 0.05}
register: {alias: production, gateways: [embedded]}
resources: {gpus: 1, memory: 24GB}
notify: []
local: {micro_batch_size: auto, precision: auto}
provider_options: {a: [1, {b: c}]}
allow_ignored: [limits, resources, provider_options, dataset.field_map]
"""
_ODD = [
    "", "~", "null", "{}", "[]", "[[[[]]]]", "{a: {b: {c: 1}}}", "-1", "0", "1e400", ".nan", ".inf", "0x1F", "0o17",
    "1_000", "12:30:45", "2027-01-01", "yes", "off", "'", '"', "'text'", '"\\ud800"', '"\\x00"', "|", ">-", "&a 1",
    "*a", "<<", "!!binary aGk=", "!!python/name:os.system", "!!set {a}", "? a", "- a", "@x", "`x`", "%x", "x: y: z",
    "9" * 400, "x" * 300, "../../etc", "/dev/null", ".", "\t1", "# no", "\u2028", "\ufeff", "\U0001f600", "é",
    "{path: data.jsonl}", "{region: eu}", "[lora.r, lora.r]", "25 USD", "1e9 USD", "6h", "-6h", "24GB", "local/x",
]  # fmt: skip

_lines = st.integers(0, 10**6)


#: Of a `gate` or `register` that a mutant has brought in.
_OF_GATES = ("E836", "E843", "E850", "E851", "E853")


@st.composite
def _mutants(draw: st.DrawFn) -> bytes:
    text = draw(st.sampled_from([_STARTER, _FULL]))
    lines = text.splitlines()
    for _ in range(draw(st.integers(1, 4))):
        place = draw(_lines) % len(lines)
        kind = draw(st.sampled_from(["drop", "double", "swap", "uncomment", "value", "value", "value", "indent"]))
        if kind == "drop" and len(lines) > 1:
            del lines[place]
        elif kind == "double":
            lines.insert(draw(_lines) % len(lines), lines[place])
        elif kind == "swap":
            other = draw(_lines) % len(lines)
            lines[place], lines[other] = lines[other], lines[place]
        elif kind == "uncomment":
            lines[place] = lines[place].replace("#", "", 1)
        elif kind == "value":
            active = [n for n, line in enumerate(lines) if ":" in line and not line.lstrip().startswith("#")]
            if active:
                chosen = active[place % len(active)]
                key = lines[chosen].partition(":")[0]
                lines[chosen] = f"{key}: {draw(st.sampled_from(_ODD) | st.text(max_size=20))}"
        else:
            lines[place] = draw(st.sampled_from(["  ", "\t", " ", "- "])) + lines[place]
    raw = bytearray("\n".join(lines).encode("utf-8", "surrogatepass"))
    for _ in range(draw(st.integers(0, 2))):
        raw[draw(_lines) % len(raw)] = draw(st.integers(0, 255))
    return bytes(raw[: len(raw) - draw(st.integers(0, 30)) * draw(st.booleans())])


def _validated(path: Path, *options: str) -> Ran:
    return called(lambda: app(["validate", str(path), *options], prog_name="ft"))


@settings(
    max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(content=_mutants(), as_json=st.booleans())
def test_a_mutated_recipe_is_judged(desk: Desk, content: bytes, as_json: bool) -> None:
    desk.recipe.write_bytes(content)
    ran = _validated(desk.recipe, *(["--json"] if as_json else []))
    assert ran.code in (exits.OK, exits.USAGE, exits.NOT_ELIGIBLE), ran
    # Checks the form of every line too.
    unexpected = [code for code in ran.codes if code[:2] not in ("E1", "E2", "E3") and code not in _OF_GATES]
    assert unexpected == [], ran
    if as_json:
        (report,) = ran.json
        assert report["valid"] is (ran.code == exits.OK)
        assert [problem["code"] for problem in report["problems"]] == ran.codes
    elif ran.code != exits.OK:
        assert ran.out == ""
        assert ran.codes


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(field=st.sampled_from(["seed", "lora.r", "dataset", "dataset.path", "limits.data", "x", ""]), value=st.text())
def test_any_override_is_judged(desk: Desk, field: str, value: str) -> None:
    ran = _validated(desk.recipe, "--set", f"{field}={value}")
    assert ran.code in (exits.OK, exits.USAGE, exits.NOT_ELIGIBLE), ran
    assert all(code[:2] in ("E1", "E2", "E3") for code in ran.codes), ran


@pytest.mark.parametrize("text", [_STARTER, _FULL])
def test_the_recipes_that_are_mutated_are_judged_before(desk: Desk, text: str) -> None:
    desk.recipe.write_text(text)
    ran = _validated(desk.recipe)
    assert (ran.code, ran.codes) == (exits.OK, [])
