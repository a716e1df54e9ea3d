"""Every fault of a recipe: its code, its place, and the fix that is offered."""

from pathlib import Path
from typing import NamedTuple

import pytest

from finetune.codes import CODES
from finetune.errors import Problem, RecipeError
from finetune.spec import canonical, parse

HEAD = "version: 1\nname: a\nbase_model: m\ndataset: {path: p}\n"
FILE = Path("recipe.yaml")


def faults(text: str, *overrides: str) -> tuple[Problem, ...]:
    with pytest.raises(RecipeError) as caught:
        parse(text, FILE, overrides)
    return caught.value.problems


class Case(NamedTuple):
    """What follows HEAD, and what is said of it: code, line:column, field, a piece of the fix."""

    text: str
    code: str
    place: tuple[int, int]
    field: str
    fix: str


CASES = [
    # wrong types: nothing is converted
    Case('training: {epochs: "3"}', "E122", (5, 20), "training.epochs", "training: {epochs: 3}"),
    Case("training: {epochs: 1_0}", "E122", (5, 20), "training.epochs", "training: {epochs: 10}"),
    Case("training: {epochs: 3.0}", "E122", (5, 20), "training.epochs", "training: {epochs: 3}"),
    Case("training: {epochs: 3.5}", "E122", (5, 20), "training.epochs", "training: {epochs: 3}"),
    Case("training: {epochs: true}", "E122", (5, 20), "training.epochs", "training: {epochs: 3}"),
    Case("training: {epochs: auto}", "E122", (5, 20), "training.epochs", "remove the line"),
    Case("training: {epochs: [3]}", "E122", (5, 20), "training.epochs", "training: {epochs: 3}"),
    Case('training: {learning_rate: "2e-4"}', "E122", (5, 27), "training.learning_rate", "{learning_rate: 0.0002}"),
    Case("training: {learning_rate: true}", "E122", (5, 27), "training.learning_rate", "{learning_rate: 0.0002}"),
    Case("training: {packing: yes}", "E122", (5, 21), "training.packing", "training: {packing: true}"),
    Case("training: {packing: off}", "E122", (5, 21), "training.packing", "training: {packing: false}"),
    Case("training: {packing: 1}", "E122", (5, 21), "training.packing", "training: {packing: true}"),
    Case("training: 3", "E122", (5, 11), "training", "training: {epochs: 3}"),
    Case("training: [3]", "E122", (5, 11), "training", "training: {epochs: 3}"),
    Case("validation: 0.1", "E122", (5, 13), "validation", "validation: {split: 0.1}"),
    Case("notify: ops", "E122", (5, 9), "notify", "notify: [ops]"),
    Case("notify: [1]", "E122", (5, 10), "notify[0]", '"1", in quotes'),
    Case("notify: [true]", "E122", (5, 10), "notify[0]", '"true", in quotes'),
    Case("notify: [null]", "E122", (5, 10), "notify[0]", "remove it"),
    Case("notify:\n  - ops\n  - {a: 1}", "E122", (7, 5), "notify[1]", "in quotes"),
    Case("allow_ignored: lora.r, seed", "E122", (5, 16), "allow_ignored", "allow_ignored: [lora.r, seed]"),
    Case("lora: {target_modules: q_proj}", "E122", (5, 24), "lora.target_modules", "[q_proj, v_proj]"),
    Case("lora: {target_modules: []}", "E122", (5, 24), "lora.target_modules", "[q_proj, v_proj]"),
    Case("local: {micro_batch_size: 0}", "E122", (5, 27), "local.micro_batch_size", "micro_batch_size: auto"),
    Case("local: {gradient_checkpointing: 1}", "E122", (5, 33), "local.gradient_checkpointing", "checkpointing: auto"),
    Case("local: {micro_batch_size: true}", "E122", (5, 27), "local.micro_batch_size", "micro_batch_size: auto"),
    Case("provider_options: [1]", "E122", (5, 19), "provider_options", "provider_options: {suffix: v1}"),
    # ranges
    Case("training: {epochs: 0}", "E123", (5, 20), "training.epochs", "training: {epochs: 3}"),
    Case(f"training: {{epochs: {10**30}}}", "E123", (5, 20), "training.epochs", "training: {epochs: 3}"),
    Case(f"seed: {2**32}", "E123", (5, 7), "seed", "seed: 42"),
    Case("seed: -1", "E123", (5, 7), "seed", "seed: 42"),
    Case("lora: {dropout: 1}", "E123", (5, 17), "lora.dropout", "lora: {dropout: 0.0}"),
    Case("validation: {split: 1.0}", "E123", (5, 21), "validation.split", "validation: {split: 0.1}"),
    Case("val_set_size: 500", "E123", (5, 15), "validation.split", "validation: {split: 0.1}"),
    Case("limits: {deadline: 0s}", "E123", (5, 20), "limits.deadline", "6h"),
    Case("limits: {deadline: 400d}", "E123", (5, 20), "limits.deadline", "6h"),
    # choices
    Case("method: supervised", "E124", (5, 9), "method", "method: sft"),
    Case("method: SFT", "E124", (5, 9), "method", "method: sft"),
    Case("method: {type: sft}", "E124", (5, 9), "method", "method: sft"),
    Case("privacy: false", "E124", (5, 10), "privacy", "privacy: off"),
    Case("training: {lr_scheduler: cosin}", "E124", (5, 26), "training.lr_scheduler", "lr_scheduler: cosine"),
    Case("limits: {data: eu}", "E124", (5, 16), "limits.data", "{region: eu}"),
    Case("limits: {data: {regoin: eu}}", "E124", (5, 16), "limits.data", "{region: eu}"),
    # forms
    Case("provider: OpenAI", "E125", (5, 11), "provider", "openai"),
    Case("register: {alias: a/b}", "E125", (5, 19), "register.alias", "production"),
    Case("limits: {max_cost: 25}", "E125", (5, 20), "limits.max_cost", "25 USD"),
    Case("limits: {max_cost: $30}", "E125", (5, 20), "limits.max_cost", "30 USD"),
    Case("limits: {max_cost: '1,000 USD'}", "E125", (5, 20), "limits.max_cost", "write 1000 USD"),
    Case("limits: {max_cost: 1e3 USD}", "E125", (5, 20), "limits.max_cost", "write 1000 USD"),
    Case("limits: {max_cost: 1e3}", "E125", (5, 20), "limits.max_cost", "write 1000 USD"),
    Case("limits: {max_cost: 25.5}", "E125", (5, 20), "limits.max_cost", "write 25.5 USD"),
    Case("limits: {max_cost: 25.50 dollars}", "E125", (5, 20), "limits.max_cost", "write 25.50 USD"),
    *(
        Case(f"limits: {{max_cost: '{text}'}}", "E125", (5, 20), "limits.max_cost", "decimals, such as 25 USD")
        for text in ("0.0001 USD", "-1 USD", "30 EUR", "1,5 USD", "1.000,50 USD", "2.000 USD", "9e9 USD", "3 USD/h")
    ),
    Case("limits: {max_cost: 0.0001}", "E125", (5, 20), "limits.max_cost", "decimals, such as 25 USD"),
    Case("limits: {max_cost: -1}", "E125", (5, 20), "limits.max_cost", "decimals, such as 25 USD"),
    Case("limits: {max_cost: 25 EUR}", "E125", (5, 20), "limits.max_cost", "such as 25 USD"),
    Case("limits: {quality: 1300}", "E125", (5, 19), "limits.quality", "arena >= 1300"),
    Case("limits: {quality: arena > 1300}", "E125", (5, 19), "limits.quality", "arena >= 1300"),
    Case("limits: {min_context: 0}", "E123", (5, 23), "limits.min_context", "32000"),
    Case("limits: {deadline: 6}", "E125", (5, 20), "limits.deadline", "6h"),
    Case("limits: {deadline: 6 hours}", "E125", (5, 20), "limits.deadline", "1h30m"),
    Case("limits: {deadline: 30m1h}", "E125", (5, 20), "limits.deadline", "1h30m"),
    Case("resources: {memory: 24 GB}", "E125", (5, 21), "resources.memory", "24GB"),
    Case("gate: {metric: m, over: a/b}", "E125", (5, 25), "gate.over", "base"),
    Case('notify: [""]', "E125", (5, 10), "notify[0]", "write a value"),
    Case('notify: [" a"]', "E125", (5, 10), "notify[0]", "remove the blank"),
    Case('notify: ["a\\nb"]', "E125", (5, 10), "notify[0]", "on one line"),
    Case(f"notify: [{'x' * 1025}]", "E125", (5, 10), "notify[0]", "shorter"),
    # empty
    Case("training:", "E126", (5, 1), "training", "put `#` before it"),
    Case("training:\n  epochs: 3\n  batch_size:", "E126", (7, 3), "training.batch_size", "remove the line"),
    Case("num_epochs: null", "E126", (5, 1), "training.epochs", "remove the line"),
    # contradictions
    Case("validation: {split: 0.1, path: x}", "E127", (5, 21), "validation.split", "remove one"),
    Case("validation: {}", "E127", (5, 13), "validation", "{split: 0.1}"),
    Case(
        "training: {learning_rate: 1e-4, learning_rate_multiplier: 2}",
        "E127",
        (5, 27),
        "training.learning_rate",
        "remove one",
    ),
    Case("dpo: {beta: 0.2}", "E127", (5, 6), "dpo", "method: dpo"),
    Case("method: dpo\ndpo: {beta: 0}", "E123", (6, 13), "dpo.beta", "write dpo: {beta: 0.1}"),
    Case("target: local/x", "E127", (5, 1), "base_model", "remove one"),
    # unknown fields
    Case("lroa: {r: 3}", "E120", (5, 1), "lroa", "did you mean `lora`?"),
    Case("training: {epoch: 3}", "E120", (5, 12), "training.epoch", "did you mean `epochs`?"),
    Case("learning_rte: 3", "E120", (5, 1), "learning_rte", "did you mean `training.learning_rate`?"),
    Case("lr: 3", "E120", (5, 1), "lr", "did you mean `training.learning_rate`?"),
    Case("max_cost: 3", "E120", (5, 1), "max_cost", "write `limits: {max_cost: 25 USD}`"),
    Case("trust_remote_code: true", "E120", (5, 1), "trust_remote_code", "write `local: {trust_remote_code: false}`"),
    Case("lora: {seed: 3}", "E120", (5, 8), "lora.seed", "`seed: 42` at the top"),
    Case("lora: {num_epochs: 3}", "E120", (5, 8), "lora.num_epochs", "did you mean `training.epochs`?"),
    Case("zzz: 3", "E120", (5, 1), "zzz", "take one of: version, name"),
    Case('"\\e[31m": 3', "E120", (5, 1), "\\u001b[31m", "take one of"),
    Case("allow_ignored: [lora.rr]", "E120", (5, 17), "allow_ignored[0]", "did you mean `r`?"),
    Case("allow_ignored: [lora_r]", "E120", (5, 17), "allow_ignored[0]", "write lora.r"),
    Case("gate: {min_gain: 0.1}", "E121", (5, 7), "gate.metric", "gate: {metric: exact_match}"),
    # other tools' names
    Case("lora_r: 8\nlora: {r: 3}", "E128", (5, 1), "lora.r", "remove one"),
    Case("lora: {r: 3}\nlora_r: 8", "E128", (6, 1), "lora.r", "remove one"),
    Case("lora_r: 8\nlora_rank: 8", "E128", (6, 1), "lora.r", "remove one"),
    Case("output_dir: x", "E130", (5, 1), "output_dir", "write name:"),
    Case("gradient_accumulation_steps: 4", "E130", (5, 1), "gradient_accumulation_steps", "batch_size"),
    Case("datasets: [{path: a}]", "E130", (5, 1), "datasets", "dataset: {path:"),
    # secrets
    Case("api_key: sk-123456789", "E132", (5, 1), "api_key", "environment"),
    Case("provider_options: {hf_token: abc}", "E132", (5, 30), "provider_options.hf_token", "environment"),
    Case("provider_options: {x: [a, sk-123456789]}", "E132", (5, 27), "provider_options.x[1]", "environment"),
    Case("notify: [https://u:pw@example.org]", "E132", (5, 10), "notify[0]", "environment"),
    # YAML
    Case("name: b", "E111", (5, 1), "name", "remove one"),
    Case("1: b", "E112", (5, 1), "", "quotes"),
    Case("? [a]\n: b", "E112", (5, 3), "", "quotes"),
    Case("<<: {a: 1}", "E113", (5, 1), "", "write the fields out"),
    Case("seed: !!python/name:os.system x", "E113", (5, 7), "seed", "remove the tag"),
    Case("seed: !!int x", "E113", (5, 7), "seed", "remove the tag"),
    Case("lora: !x {r: 3}", "E113", (5, 7), "lora", "remove the tag"),
    Case("notify: !x [a]", "E113", (5, 9), "notify", "remove the tag"),
    Case("training: {learning_rate: .nan}", "E114", (5, 27), "training.learning_rate", "write a number"),
    Case("training: {learning_rate: -.inf}", "E114", (5, 27), "training.learning_rate", "write a number"),
    Case("training: {learning_rate: 1e999}", "E114", (5, 27), "training.learning_rate", "write a number"),
    Case("validation: {split: .nan}", "E114", (5, 21), "validation.split", "write a number"),
    Case(f"seed: {'9' * 5000}", "E114", (5, 7), "seed", "smaller"),
    Case('notify: ["\\ud800"]', "E115", (5, 10), "notify[0]", "escape"),
    Case("a: b: c", "E107", (5, 5), "", "quotes"),
    Case("a: [1", "E107", (5, 6), "", "close the bracket"),
    Case("a: @x", "E107", (5, 4), "", "quotes"),
    Case("a: *x", "E107", (5, 4), "", "quotes"),
    Case('a: "\\q"', "E107", (5, 6), "", "single quotes"),
    Case("a: 'x", "E107", (5, 6), "", "close it"),
    Case("\ta: 1", "E108", (5, 1), "", "blanks"),
    Case("lora:\n\tr: 1", "E108", (6, 1), "", "blanks"),
    Case("seed:\t1", "E108", (5, 6), "", "blanks"),
    Case("---\nversion: 1", "E109", (5, 1), "", "a file of its own"),
    Case("a: \x07", "E104", (5, 4), "", "remove the character"),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.code} {case.text[:40]!r}")
def test_a_fault_is_said_once_at_its_place_with_a_fix(case: Case) -> None:
    (problem,) = faults(HEAD + case.text)

    assert (problem.code, problem.line, problem.column) == (case.code, *case.place)
    assert (problem.file, problem.level, problem.field or "") == ("recipe.yaml", "error", case.field)
    assert case.fix in problem.fix
    assert problem.code in CODES
    assert "\x1b" not in "".join(problem.lines())


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "E106"),
        ("# only\n", "E106"),
        ("---\n", "E106"),
        ("a", "E110"),
        ("- a", "E110"),
        ("[" * 100_000, "E105"),
        ("[" + "1," * 20_000 + "]", "E105"),
        ("a: &x [*x]", "E105"),
        ("a: &a [1,1,1,1,1,1,1,1]\n" + "".join(f"b{i}: &b{i} [{f'*b{i - 1},' * 8}]\n" for i in range(1, 9)), "E107"),
        ("b0: &b0 [1]\n" + "".join(f"b{i}: &b{i} [{f'*b{i - 1},' * 8}]\n" for i in range(1, 9)), "E105"),
        ("x" * 1_000_001, "E105"),
        ('a: "\\UFFFFFFFF"', "E107"),
        ('a: "\\U00110000"', "E107"),
        ("%YAML 3.0\n---\na: 1", "E107"),
        ("  a: 1\nb: 2", "E107"),
    ],
)
def test_a_text_that_is_no_recipe(text: str, code: str) -> None:
    (problem,) = faults(text)

    assert problem.code == code
    assert problem.what
    assert problem.fix


def test_all_faults_come_at_once_in_the_order_of_the_file() -> None:
    problems = faults('version: "1"\nname: a b\nbase_modl: m\ndataset: d.jsonl\ntraining: {epochs: 0, batch_size: x}')

    assert [(each.code, each.line) for each in problems] == [
        ("E124", 1), ("E125", 2), ("E120", 3), ("E122", 4), ("E123", 5), ("E122", 5),
    ]  # fmt: skip
    assert problems[3].fix == "write dataset: {path: d.jsonl}"


def test_missing_fields_are_missing_once() -> None:
    assert [(each.code, each.field) for each in faults("version: 1\ndataset: {}")] == [
        ("E121", "name"), ("E121", "base_model"), ("E121", "dataset.path"),
    ]  # fmt: skip


@pytest.mark.parametrize("version", ["1.0", "true", '"1"', "2", "0"])
def test_only_one_is_a_version(version: str) -> None:
    (problem,) = faults(HEAD.replace("version: 1", f"version: {version}"))

    assert (problem.code, problem.field, problem.fix) == ("E124", "version", "write version: 1")


@pytest.mark.parametrize("target", ["local", "local/", "/x", "3", "null", "[a]", '""'])
def test_a_target_that_is_none(target: str) -> None:
    (problem,) = faults(f"version: 1\nname: a\ndataset: {{path: p}}\ntarget: {target}")

    assert (problem.code, problem.field) == ("E125", "target")


def test_a_model_is_not_taken_for_a_target() -> None:
    (problem,) = faults("version: 1\nname: a\ndataset: {path: p}\ntarget: Qwen/Qwen3-0.6B")

    assert (problem.code, problem.fix) == ("E125", "write base_model: Qwen/Qwen3-0.6B")


@pytest.mark.parametrize(
    "secret", ["api_key: sk-abcdefgh1", "x: sk-abcdefgh1", "provider_options: {password: hunter2}"]
)
def test_a_secret_is_never_shown(secret: str) -> None:
    said = "".join(f"{each.lines()}{each.value}" for each in faults(HEAD + secret))

    assert "abcdefgh1" not in said
    assert "hunter2" not in said


@pytest.mark.parametrize(
    ("override", "code", "field"),
    [
        ("foo", "E133", ""),
        ("=3", "E133", ""),
        ("a..b=3", "E133", ""),
        (".=", "E133", ""),
        ("lroa.r=3", "E120", "lroa"),
        ("lora.q=3", "E120", "lora.q"),
        ("lora.r=x", "E122", "lora.r"),
        ("lora.r.x=3", "E122", "lora.r"),
        ("lora.r=", "E126", "lora.r"),
        ("name=[1", "E107", "name"),
        ("name={", "E107", "name"),
        ("seed=.nan", "E114", "seed"),
        ("dataset=other.jsonl", "E122", "dataset"),
        ("dataset=null", "E126", "dataset"),
        ("target=x", "E125", "target"),
        ("output_dir=x", "E130", "output_dir"),
        ("api_key=sk-123456789", "E132", "api_key"),
        ("allow_ignored=[lora.x]", "E120", "allow_ignored[0]"),
    ],
)
def test_a_faulty_override_is_said_to_be_of_the_command_line(override: str, code: str, field: str) -> None:
    (problem,) = faults(HEAD, override)

    assert (problem.code, problem.field or "", problem.file) == (code, field, "--set")
    assert problem.line is None
    assert problem.column is None
    assert problem.fix


def test_an_override_does_not_hide_a_section_that_is_none() -> None:
    (problem,) = faults(HEAD + "lora: 5", "lora.r=3")

    assert (problem.code, problem.field, problem.line) == ("E122", "lora", 5)


def test_a_file_is_at_fault_before_the_command_line() -> None:
    assert [each.file for each in faults(HEAD + "zzz: 1", "yyy=1")] == ["recipe.yaml", "--set"]


def test_valid_neighbours_of_the_faults() -> None:
    text = HEAD + (
        "privacy: off\nnotify: [on, yes, 12:30, 2024-01-01, '3']\ntraining: {learning_rate: 2e-4, max_grad_norm: 1}\n"
        "limits: {data: {region: eu}, deadline: 1d2h, max_cost: 0.50 USD}\nlora: {target_modules: [q]}\n"
        "provider_options: {a: null, b: {c: [1, 1.5, true]}, max_tokens: 3}\nseed: 0x10\n"
    )
    recipe = parse(text, FILE).recipe

    assert recipe.privacy == "off"
    assert recipe.notify == ("on", "yes", "12:30", "2024-01-01", "3")
    assert recipe.training.learning_rate == 2e-4
    assert recipe.limits.deadline_s == 26 * 3600
    assert str(recipe.limits.max_cost_usd) == "0.50"
    assert recipe.seed == 16
    assert canonical(recipe)["provider_options"] == {"a": None, "b": {"c": [1, 1.5, True]}, "max_tokens": 3}
