"""Proves the adapter to lm-evaluation-harness against the real package, with tasks of our own and no network.

It is no test of the suite, because the package is in no lock. In an environment that has it beside ft:

    python -m tests.flow.evaluation.lm_eval_proof RUN_DIR BASE

RUN_DIR: a finished training of `tests.support.tiny`, with `adapter` and `train.jsonl`; BASE: its base's folder.
"""

import json
import sys
import tempfile
from pathlib import Path

import pytest

from finetune.errors import EvaluationError
from finetune.evaluation.evaluate import Ways
from finetune.evaluation.harness import Task, run
from finetune.evaluation.local import Weights
from finetune.evaluation.report import Report
from finetune.wiring.releases import evaluation_parts
from tests.support import tiny

CHOICE = """
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{prompt}}}}"
doc_to_target: 0
doc_to_choice: "{{{{choices}}}}"
target_delimiter: ""
metric_list: [{{metric: acc, aggregation: mean, higher_is_better: true}}, {{metric: acc_norm, higher_is_better: true}}]
"""
WORDS = """
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: generate_until
doc_to_text: "{{{{prompt}}}}"
doc_to_target: "{{{{answer}}}}"
target_delimiter: ""
generation_kwargs: {{until: ["<|im_end|>"], do_sample: false, max_gen_toks: 48}}
metric_list: [{{metric: exact_match, aggregation: mean, higher_is_better: true}}]
"""
ROLLING = """
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{{{answer}}}}"
metric_list: [{{metric: word_perplexity, aggregation: weighted_perplexity, higher_is_better: false}}]
"""


def tasks(folder: Path) -> None:
    """Three tasks over the last turns of tiny's chats."""
    rows = []
    answers = [chat[-1] for chat in tiny.CHATS]
    for index, chat in enumerate(tiny.CHATS):
        prompt = tiny.tokenizer().apply_chat_template(
            tiny.messages(chat)[:-1], tokenize=False, add_generation_prompt=True
        )
        wrong = answers[(index + 1) % len(answers)]
        rows.append({"prompt": prompt, "answer": chat[-1], "choices": [chat[-1], wrong]})
    data = folder / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name, text in (("ft_choice", CHOICE), ("ft_words", WORDS), ("ft_rolling", ROLLING)):
        (folder / f"{name}.yaml").write_text(text.format(name=name, data=data))


def main(run_dir: Path, base: str) -> None:
    """Raises AssertionError where the adapter is not what it says."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tasks(folder)
        weights = Weights(base, evaluation_parts(folder), lambda line: None)
        tuned, plain = weights.adapter("tuned", run_dir / "adapter"), weights.base("base")
        for task in ("ft_choice", "ft_words"):
            report = run(Task(name=task, include=folder), tuned, plain, Ways(seed=2))
            sys.stdout.write(json.dumps(report.to_json(), indent=1) + "\n")
            assert Report.from_json(json.loads(json.dumps(report.to_json()))) == report
            assert report.n == len(tiny.CHATS)
        exact = report.outcome("exact_match")
        assert exact is not None
        assert (exact.tuned.value, exact.other.value) == (1.0, 0.0), exact
        few = run(Task(name="ft_words", include=folder), tuned, plain, Ways(seed=2, sample_size=3))
        assert (few.n, few.digest == report.digest) == (3, False)
        for task, said in (("ft_rolling", "mean over rows"), ("no_such_task", "no_such_task")):
            with pytest.raises(EvaluationError, match=said) as caught:
                run(Task(name=task, include=folder), tuned, plain, Ways())
            assert caught.value.problems[0].code == "E858"


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
    sys.stdout.write("proved\n")
