"""Whatever is written: a valid recipe or sentences; and what is valid is written back as it was."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from finetune.codes import CODES
from finetune.errors import Problem, RecipeError
from finetune.spec import Recipe, RecipeFile, canonical, explicit, parse, read, starter
from finetune.spec.aliases import ALIASES
from finetune.spec.fields import Field, all_fields, children
from finetune.spec.scalars import flow

FILE = Path("recipe.yaml")
VALID = (
    starter("a", "m", "p"),
    "version: 1\nname: a\nbase_model: m\ndataset: {path: p}\ntraining:\n  epochs: 3\n  learning_rate: 2e-4\n"
    "lora: {r: 8, target_modules: [q, v]}\nlimits: {max_cost: 25 USD, data: {region: eu}}\nnotify:\n  - &x ops\n"
    "provider_options: {a: *x, b: [1, {c: null}]}\nval_set_size: 0.1\n",
)

words = st.sampled_from(
    [*all_fields(), *ALIASES,
     "target", "zzz", "api_key", "on", "~", "", "1", ".nan", "9" * 500, "-", ":", "[", "{", "*x",
     "&x", "!!python/object:x", "!!int", "<<", "---", "...", "\t", '"', "'", "|", "%YAML 1.1", "? ", "#", "\\ud800",
     '"\\ud800"', '"\\UFFFFFFFF"', "\x00", "\u2028", "\ufeff", "1e999", "0x", "12:30", "null", "true", "25 USD", "6h"]
)  # fmt: skip
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=5,
)


@st.composite
def mutations(draw: st.DrawFn) -> str:
    """A valid text with some of its lines, keys, values or characters changed."""
    lines = draw(st.sampled_from(VALID)).split("\n")
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(lines) - 1))
        key, colon, value = lines[at].partition(":")
        kind = draw(st.integers(0, 6))
        if kind == 0:
            lines[at] = draw(words) + colon + value
        elif kind == 1:
            lines[at] = f"{key}: {draw(words)}"
        elif kind == 2:
            lines[at] = f"{key}: {flow(draw(json_values))}"
        elif kind == 3:
            lines.insert(at, lines[draw(st.integers(0, len(lines) - 1))])
        elif kind == 4:
            lines[at] = lines[at].replace("#", "", 1)
        elif kind == 5:
            del lines[at : at + draw(st.integers(1, 3))]
            lines.append("")
        else:
            place = draw(st.integers(0, len(lines[at])))
            lines[at] = lines[at][:place] + draw(st.text(max_size=3) | words) + lines[at][place:]
    return "\n".join(lines)


def is_judged(call: Callable[[], RecipeFile]) -> None:
    problems: tuple[Problem, ...] = ()
    try:
        file = call()
    except RecipeError as error:
        problems = error.problems
    else:
        again = Recipe.model_validate(json.loads(json.dumps(canonical(file.recipe))))
        assert again == file.recipe
        assert canonical(again) == canonical(file.recipe)
        return
    assert problems
    for problem in problems:
        assert problem.code in CODES
        assert problem.level == "error"
        assert problem.what
        assert problem.fix
        assert problem.file
        assert "Input should" not in problem.what
        "".join(problem.lines()).encode("utf-8")


@settings(max_examples=120, deadline=None)
@given(text=mutations(), overrides=st.lists(st.builds("{}={}".format, words, words) | words, max_size=2))
def test_a_mutated_recipe_is_judged(text: str, overrides: list[str]) -> None:
    is_judged(lambda: parse(text, FILE, overrides))


@settings(max_examples=40, deadline=None)
@given(at=st.integers(0, 400), raw=st.binary(max_size=6))
def test_mutated_bytes_are_judged(at: int, raw: bytes, tmp_path_factory: Any) -> None:
    path = tmp_path_factory.getbasetemp() / "mutated.yaml"
    text = VALID[1].encode()
    path.write_bytes(text[:at] + raw + text[at + len(raw) :])

    is_judged(lambda: read(path))


def values_of(field: Field) -> st.SearchStrategy[Any]:
    """Valid values of a field that holds one."""
    special: dict[str, st.SearchStrategy[Any]] = {
        "version": st.just(1),
        "provider": st.sampled_from(["local", "openai", "auto"]),
        "limits.max_cost": st.sampled_from(["25 USD", "0.5 USD", "0 USD"]),
        "register.max_hosting": st.sampled_from(["3 USD", "0.5 USD"]),
        "limits.quality": st.sampled_from(["arena >= 1300", "x-1 >= -0.5"]),
        "limits.deadline": st.sampled_from(["6h", "1d2h3m4s", "90s"]),
        "register.canary_pause": st.sampled_from(["5m", "1h30m"]),
        "limits.data": st.sampled_from(["any", "local_only", {"region": "eu"}]),
        "resources.memory": st.sampled_from(["24GB", "1.5TB"]),
        "lora.target_modules": st.just("all-linear") | st.lists(st.sampled_from("qkvo"), min_size=1, max_size=4),
        "local.micro_batch_size": st.just("auto") | st.integers(1, 9),
        "local.gradient_checkpointing": st.just("auto") | st.booleans(),
        "provider_options": st.dictionaries(st.sampled_from("abc"), json_values, max_size=2),
        "gate.sample_size": st.integers(20, 100_000),
        "dataset.field_map": st.dictionaries(st.sampled_from("abc"), st.sampled_from("xyz"), max_size=2),
        "validation.split": st.floats(0.01, 0.99),
        "allow_ignored": st.lists(st.sampled_from(sorted(all_fields())), max_size=3),
    }
    if field.name in special:
        return special[field.name]
    kind = field.takes.split(" ", 2)
    if kind[0] == "text":
        return st.sampled_from(["a", "x-1", "b.c"])
    if kind[:2] == ["true", "or"]:
        return st.booleans()
    if kind[:2] == ["a", "list"]:
        return st.lists(st.sampled_from(["a", "b"]), max_size=2)
    if kind[:2] == ["a", "whole"]:
        return st.integers(8, 1000)
    if kind[:2] == ["a", "number"]:
        return st.sampled_from([0.5, 1e-05, 0.25]) | st.floats(1e-6, 0.9)
    return st.sampled_from(field.takes.split(" or "))


@st.composite
def recipes(draw: st.DrawFn) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for field in children(""):
        if not (field.info.is_required() or draw(st.booleans())):
            continue
        if field.section is None:
            out[field.key] = draw(values_of(field))
            continue
        inside = [each for each in children(field.name) if each.info.is_required() or draw(st.booleans())]
        out[field.key] = {each.key: draw(values_of(each)) for each in inside}
    out.get("training", {}).pop("learning_rate_multiplier", None)
    if "validation" in out:
        out["validation"].pop("path", None)
        out["validation"].setdefault("split", 0.5)
    if out.get("method") != "dpo":
        out.pop("dpo", None)
    return out


@settings(max_examples=40, deadline=None)
@given(values=recipes())
def test_what_is_written_back_is_what_was_read(values: dict[str, Any]) -> None:
    recipe = Recipe.model_validate(values)

    assert canonical(recipe) == values
    again = Recipe.model_validate(json.loads(json.dumps(canonical(recipe))))
    assert again == recipe
    assert canonical(again) == values
    flat = {}
    for key, value in values.items():
        section = all_fields()[key].section
        flat.update({f"{key}.{name}": each for name, each in value.items()} if section else {key: value})
    assert explicit(recipe) == flat
