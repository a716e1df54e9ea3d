"""Weights in this process: the same answers as the server's engine, the same loss as the trainer's."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from finetune.errors import EvaluationError, ServingError
from finetune.evaluation import local
from finetune.evaluation.evaluate import Ways, evaluate
from finetune.evaluation.local import Weights
from finetune.evaluation.models import Call, Question
from finetune.evaluation.report import Report
from finetune.evaluation.suites import held_out
from finetune.serving.engine import Engine
from finetune.training import bases
from finetune.wiring.releases import evaluation_parts
from tests.support import tiny

ROWS = [{"messages": tiny.messages(chat)} for chat in tiny.CHATS]
QUESTIONS = [Question(messages=row["messages"][:-1]) for row in ROWS]
TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}


@pytest.fixture
def weights(base: Path, tmp_path: Path) -> Weights:
    return Weights(str(base), evaluation_parts(tmp_path), lambda line: None)


@pytest.fixture(scope="module")
def engine(base: Path, run_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Engine:
    loaded = bases.load(str(base), cache=tmp_path_factory.mktemp("cache"), report=lambda line: None)
    made = Engine(str(base), loaded)
    made.load_adapter("tuned", run_dir / "adapter")
    return made


def by_hand(model: Any, tokenizer: Any, row: dict[str, Any]) -> tuple[float, int]:
    """The loss of the assistant's tokens, one row, one token after the other; by the template's own mask."""
    made = tokenizer.apply_chat_template(
        row["messages"], return_dict=True, return_assistant_tokens_mask=True, return_tensors="pt"
    )
    ids, mask = made["input_ids"], made["assistant_masks"]
    with torch.inference_mode():
        chances = model(ids).logits.double().log_softmax(-1)[0]
    picked = [i for i in range(1, ids.shape[1]) if int(torch.as_tensor(mask).flatten()[i])]
    return -sum(float(chances[i - 1, ids[0, i]]) for i in picked), len(picked)


def test_answers_are_those_of_the_engine_and_losses_do_not_change_them(
    weights: Weights, engine: Engine, run_dir: Path
) -> None:
    prompts = [question.messages for question in QUESTIONS]
    base, tuned = weights.base(), weights.adapter("tuned", run_dir / "adapter")
    assert base.scorer is not None
    assert tuned.scorer is not None
    for _ in range(2):
        for model, adapter_id in ((tuned, "tuned"), (base, None)):
            assert [a.text for a in model.answerer.answers(QUESTIONS, 24)] == engine.answers(prompts, adapter_id, 24)
        first = (tuned.scorer.losses(ROWS), base.scorer.losses(ROWS))
        assert (tuned.scorer.losses(ROWS), base.scorer.losses(ROWS)) == first
    said = tuned.answerer.answers(QUESTIONS, 64)
    assert [answer.text for answer in said] == [row["messages"][-1]["content"] for row in ROWS]
    assert [answer.tokens for answer in said] == [len(answer.text.encode()) for answer in said]


def test_losses_are_those_computed_by_hand(weights: Weights, base: Path, run_dir: Path) -> None:
    loaded = bases.load(str(base), cache=base, report=lambda line: None)
    wanted = [by_hand(loaded.model, loaded.tokenizer, row) for row in ROWS]
    scorer = weights.base().scorer
    assert scorer is not None
    found = scorer.losses(ROWS)
    assert [loss.tokens for loss in found] == [tokens for _, tokens in wanted]
    assert [loss.nll for loss in found] == pytest.approx([nll for nll, _ in wanted], rel=1e-4)
    tuned = weights.adapter("tuned", run_dir / "adapter").scorer
    assert tuned is not None
    assert sum(loss.nll for loss in tuned.losses(ROWS)) < 0.2 * sum(loss.nll for loss in found)


def test_a_validation_loss_is_the_trainers(weights: Weights, run_dir: Path) -> None:
    lines = [json.loads(line) for line in (run_dir / "report.jsonl").read_text().splitlines()]
    last = [line["values"]["eval_loss"] for line in lines if "eval_loss" in line.get("values", {})][-1]
    suite = held_out(run_dir / "validation.jsonl", ["loss"])
    (report,) = evaluate([suite], weights.adapter("tuned", run_dir / "adapter"), weights.base())
    found = report.outcome("loss")
    assert found is not None
    assert found.tuned.value == pytest.approx(last, rel=1e-3)


def test_a_whole_report_of_real_models(weights: Weights, run_dir: Path) -> None:
    suite = held_out(run_dir / "train.jsonl", max_tokens=48)
    assert suite.metrics == ("exact_match", "token_f1", "rouge_l", "loss", "perplexity")
    tuned, base = weights.adapter("bot@v1", run_dir / "adapter"), weights.base("base")
    (report,) = evaluate([suite], tuned, base, Ways(seed=3))
    exact, perplexity, loss = (report.outcome(name) for name in ("exact_match", "perplexity", "loss"))
    assert exact is not None
    assert perplexity is not None
    assert loss is not None
    assert (exact.tuned.value, exact.other.value, exact.gain.value) == (1.0, 0.0, 1.0)
    assert exact.gain.low < 1 == exact.gain.high
    assert perplexity.tuned.value == pytest.approx(math.exp(loss.tuned.value))
    assert 0 < loss.gain.low < loss.gain.value < loss.gain.high
    assert len(report.golden) == 8
    assert {golden.tuned for golden in report.golden} <= {row["messages"][-1]["content"] for row in ROWS}
    assert Report.from_json(json.loads(json.dumps(report.to_json()))) == report


def test_what_does_not_fit_is_said_of_the_row_and_not_of_the_model(weights: Weights) -> None:
    long = Question(messages=[{"role": "user", "content": "x" * 600}])
    first, second = weights.base().answerer.answers([long, QUESTIONS[0]], 8)
    assert first.fault is not None
    assert "context" in first.fault
    assert second.fault is None
    scorer = weights.base().scorer
    assert scorer is not None
    (loss,) = scorer.losses([{"messages": [*long.messages, {"role": "assistant", "content": "y"}]}])
    assert loss == (0.0, 0)


def test_an_adapter_of_another_base_is_refused_before_any_figure(weights: Weights, tmp_path: Path) -> None:
    with pytest.raises(ServingError) as caught:
        weights.adapter("tuned", tmp_path / "nothing")
    assert caught.value.problems[0].code == "E751"


def test_questions_with_tools_are_answered_with_calls(weights: Weights) -> None:
    """The model is too small to call: its words are put into its mouth where the tokens come out of it."""
    said = '<tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call><|im_end|>'

    with weights.bare(None) as (model, tokenizer):
        wanted = torch.tensor(tokenizer(said, add_special_tokens=False)["input_ids"])
        asked: list[dict[str, Any]] = []

        def generate(input_ids: Any, **options: Any) -> Any:
            asked.append({"text": tokenizer.decode(input_ids[0]), **options})
            return torch.cat([input_ids, wanted[None]], dim=1)

        model.generate = generate
    question = Question(messages=[{"role": "user", "content": "add"}], tools=[TOOL])
    one, two = weights.base().answerer.answers([question, QUESTIONS[0]], 7)
    assert one.calls == (Call(name="add", arguments='{"a": 1}'),)
    assert one.text == ""
    assert two.calls == ()
    (given,) = asked
    assert (given["max_new_tokens"], given["do_sample"]) == (7, False)
    assert given["text"].endswith("<|im_start|>assistant\n")


def test_greedy_answers_with_tools_are_those_of_the_engine(weights: Weights, engine: Engine, run_dir: Path) -> None:
    """The tiny model's template passes tools over, so both ways must say the same."""
    tuned = weights.adapter("tuned", run_dir / "adapter")
    asked = [Question(messages=question.messages, tools=[TOOL]) for question in QUESTIONS]
    prompts = [question.messages for question in QUESTIONS]
    assert [a.text for a in tuned.answerer.answers(asked, 24)] == engine.answers(prompts, "tuned", 24)


def test_a_lent_model_ends_as_the_engine_does_and_is_given_back_as_it_was(
    weights: Weights, base: Path, run_dir: Path
) -> None:
    fresh = bases.load(str(base), cache=base, report=lambda line: None).model.generation_config
    with weights.bare(None) as (plain, _):
        before = {name: value.clone() for name, value in plain.state_dict().items()}
    with weights.bare(run_dir / "adapter") as (model, tokenizer):
        ids = tokenizer.apply_chat_template(QUESTIONS[0].messages, add_generation_prompt=True, return_tensors="pt")
        made = model.generate(ids["input_ids"], do_sample=False, max_new_tokens=40)
        assert tokenizer.decode(made[0]).endswith("<|im_start|>assistant\nyes, one<|im_end|>")
    given_back = plain.generation_config
    assert (given_back.eos_token_id, given_back.pad_token_id) == (fresh.eos_token_id, fresh.pad_token_id)
    after = plain.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not hasattr(plain, "peft_config")


def test_rows_that_cannot_be_encoded_are_named(weights: Weights) -> None:
    scorer = weights.base().scorer
    assert scorer is not None
    with pytest.raises(EvaluationError) as caught:
        scorer.losses([{"messages": [{"role": "assistant"}]}])
    assert caught.value.problems[0].code == "E852"


def test_batches_hold_few_tokens_and_every_row() -> None:
    lengths = [3000, 5, 700, 700, 700, 10]
    order = sorted(range(6), key=lambda index: lengths[index])
    parts = list(local._batches(order, lengths))
    assert sorted(index for part in parts for index in part) == list(range(6))
    assert all(len(part) == 1 or len(part) * max(lengths[i] for i in part) <= 2048 for part in parts)
    assert [0] in parts
